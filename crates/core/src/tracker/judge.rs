//! What an address says, and what the places of one text say of each other.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::analysis::{Detector, Inquiry};
use super::campaign::Seen;
use super::carrier::Carrier;
use super::catalogue::{Start, Vendor};
use super::facts::{Facts, Known};
use super::recipient::Traces;
use super::scan::{Extent, Found, Place, PlainPicture};
use super::signal::{Signal, Signals, THRESHOLD, Verdict};
use super::style::Size;
use super::token::{self, Opacity};
use super::url::Url;

/// Rounds of taking in what places say of each other.
const MAX_ROUNDS: usize = 8;

/// Facts that hang on the other places of the same text.
const COMPANY: [Signal; 3] = [Signal::Repeated, Signal::ShownElsewhere, Signal::FolderShown];

/// What was learnt beside the signals.
#[derive(Debug, Default)]
pub struct Weighed {
    /// Whose it is.
    pub vendor: Option<Vendor>,
    /// What other copies can be compared with.
    pub seen: Option<Seen>,
    /// What the address of a link says, where it says anything.
    pub link: Option<Arc<Facts>>,
}

/// Adds what the address says to what its surroundings say. `last` is how the address of a link before it began.
pub fn weigh(
    detector: &Detector,
    place: &mut Place<'_>,
    inquiry: &Inquiry<'_>,
    traces: &Traces,
    last: &mut Start,
) -> Weighed {
    if place.carrier == Carrier::Anchor {
        return weigh_link(detector, place, traces, last);
    }
    let catalogue = &detector.catalogue;
    let unseen = place.is_unseen();
    let url = &place.url;
    let signals = &mut place.signals;
    let (stem, extension) = url.stem_and_extension();
    let opacity = token::opacity(url);
    let plain_file = token::is_plain_picture(url);
    let speaks = !plain_file && token::speaks_of_opening(url);
    let vendor = if plain_file { None } else { catalogue.open(url.as_str()) };
    let spacer = token::is_spacer_name(stem);
    let hidden = unseen || signals.has(Signal::HiddenAncestor);
    // What nobody sees is no picture file because its query says so: anybody can add `format=png`.
    let picture = token::is_picture(extension) && (!hidden || url.file_name().contains('.'))
        || !hidden && token::is_picture_by_query(url);
    let allowed = detector.allowed.iter().any(|allowed| allowed.covers(url, inquiry.now));
    signals.add_if(Signal::Allowed, allowed);
    signals.add_if(Signal::LocalHost, url.has_local_host());
    signals.add_if(Signal::Listed, detector.lists.find(url.as_str()).is_some());
    signals.add_if(Signal::VendorOpen, vendor.is_some());
    // A name says nothing of what nobody sees, nor of what speaks of an opening and has a key for it.
    let is_file = picture && vendor.is_none();
    let keyed = opacity > Opacity::Plain;
    let named = is_file && !(unseen && (keyed || speaks)) && !(speaks && keyed);
    signals.add_if(Signal::StaticFile, named && is_static(url, opacity, stem));
    if token::is_page(extension) {
        // A link around a page shows nothing.
        signals.remove(&[Signal::Linked]);
    }
    let described = !signals.has(Signal::Undescribed);
    signals.add_if(Signal::NamedFile, named && described && is_named_file(url, opacity, stem));
    signals.add_if(Signal::SpacerName, picture && spacer && opacity == Opacity::Plain);
    signals.add_if(Signal::KeyedSpacer, spacer && token::query_opacity(url) > Opacity::Plain);
    let asked_for = !url.query().is_empty() || keyed;
    let small = unseen || place.size == Size::Dot && !signals.has(Signal::NamedFile);
    signals.add_if(Signal::KeyedPixel, small && asked_for && !signals.has(Signal::StaticFile));
    signals.add_if(Signal::Dynamic, !picture && !signals.has(Signal::Furniture));
    signals.add_if(Signal::OpenWord, speaks);
    match opacity {
        Opacity::Opaque => signals.add(Signal::OpaqueToken),
        Opacity::Identifier => signals.add(Signal::Identifier),
        Opacity::Plain => {}
    }
    // What this copy adds to what is known of its campaign, and what the other copies have shown.
    let seen = (opacity == Opacity::Opaque && inquiry.learnt.is_some()).then(|| Seen::of(url));
    let learnt = seen.as_ref().zip(inquiry.learnt);
    signals.add_if(Signal::Learnt, learnt.is_some_and(|(seen, learnt)| learnt.identifies(seen)));
    // An attribute that nothing loads from tells nobody apart; only strict mode looks at it at all.
    let loads = place.carrier != Carrier::Rare && !plain_file;
    let names_reader = loads && traces.stand_in(url.as_str());
    let shows_something = signals.has(Signal::Visible)
        || signals.has(Signal::Background)
        || signals.has(Signal::Described)
        || signals.has(Signal::Linked);
    signals.add_if(Signal::RecipientInUrl, names_reader);
    signals.add_if(Signal::UnseenReader, names_reader && !shows_something);
    // Only what would be a tracker without it needs a look at where pictures are kept.
    let suspected = vendor.is_none() && !hidden && signals.score() >= THRESHOLD;
    signals.add_if(Signal::PictureService, suspected && catalogue.pictures(url.as_str()).is_some());
    let undecided = loads && vendor.is_none() && signals.score() < THRESHOLD;
    let personal = if undecided { catalogue.image(url.as_str()) } else { None };
    signals.add_if(Signal::PersonalPicture, personal.is_some());
    Weighed { vendor: vendor.or(personal), seen, link: None }
}

fn weigh_link(detector: &Detector, place: &mut Place<'_>, traces: &Traces, last: &mut Start) -> Weighed {
    if place.signals.has(Signal::Choice) {
        return Weighed::default();
    }
    let facts = facts_of(detector, place, last);
    if !facts.speak() {
        return Weighed::default();
    }
    let asks_for_traces = add_facts(&mut place.signals, &facts);
    let names_reader = asks_for_traces && traces.stand_in(place.url.as_str());
    place.signals.add_if(Signal::RecipientInUrl, names_reader);
    Weighed { vendor: facts.vendor, seen: None, link: Some(facts) }
}

/// Adds what the address of a link says. Says whether it matters, too, whether it holds the reader's address.
fn add_facts(signals: &mut Signals, facts: &Facts) -> bool {
    signals.add_if(Signal::VendorLink, facts.vendor.is_some());
    signals.add_if(Signal::CarriesAddress, facts.carries_address);
    signals.add_if(Signal::ClickWord, facts.is_click);
    signals.add_if(Signal::OpaqueToken, facts.is_opaque);
    // What is tracked already needs no further reason.
    facts.vendor.is_none() && signals.verdict() != Verdict::Tracker
}

/// Weighs a link whose address was read, whoever reads it. `None` where it matters who does.
pub fn weigh_for_anybody(place: &mut Place<'_>) -> Option<Weighed> {
    if place.signals.has(Signal::Choice) {
        return Some(Weighed::default());
    }
    let Some(Known::All(facts)) = &place.link else { return None };
    if !facts.speak() {
        return Some(Weighed::default());
    }
    let asks_for_traces = add_facts(&mut place.signals, facts);
    let facts = Arc::clone(facts);
    (!asks_for_traces).then_some(Weighed { vendor: facts.vendor, seen: None, link: Some(facts) })
}

/// What the address of a link says; kept with the place.
fn facts_of(detector: &Detector, place: &mut Place<'_>, last: &mut Start) -> Arc<Facts> {
    let facts = Known::complete(place.link.as_ref(), &place.url, &detector.catalogue, last);
    place.link = Some(Known::All(Arc::clone(&facts)));
    facts
}

/// Reads the addresses of all links that lead the reader to no choice.
pub fn read_links(detector: &Detector, places: &mut [Place<'_>]) {
    let is_read =
        |place: &&mut Place<'_>| place.carrier == Carrier::Anchor && !place.signals.has(Signal::Choice);
    let mut last = Start::default();
    for place in places.iter_mut().filter(is_read) {
        let _ = facts_of(detector, place, &mut last);
    }
}

/// A picture file that is the same for everybody: no query that identifies, and no token in its path but a
/// content hash in the name of a picture that is seen.
fn is_static(url: &Url<'_>, opacity: Opacity, stem: &str) -> bool {
    match opacity {
        Opacity::Plain => token::query_opacity(url) == Opacity::Plain,
        Opacity::Identifier => url.query().is_empty() && token::is_named(stem),
        Opacity::Opaque => false,
    }
}

/// A picture file with a name in words in a folder that is a token: the customer's folder of a picture
/// service.
fn is_named_file(url: &Url<'_>, opacity: Opacity, stem: &str) -> bool {
    opacity == Opacity::Opaque && url.query().is_empty() && token::is_named(stem)
}

/// Takes in what the places say of each other. A place that turns out to be a tracker has no say about the
/// rest, so this goes on until nothing changes; each round finds at least one tracker more, and few need a
/// second.
pub fn judge(text: &[u8], found: &mut Found<'_>, extent: Extent) {
    let Found { places, plain, .. } = found;
    let candidates: Vec<usize> = places
        .iter()
        .enumerate()
        .filter(|(_, place)| is_open(place, extent))
        .map(|(index, _)| index)
        .collect();
    if candidates.is_empty() {
        return;
    }
    let mut goes = vec![false; places.len()];
    if find_trackers(text, places, plain, &candidates, &mut goes) {
        note_kin(places, &goes);
    }
}

/// Goes on until no more trackers are found; says whether there are any.
fn find_trackers(
    text: &[u8],
    places: &mut [Place<'_>],
    plain: &[PlainPicture<'_>],
    candidates: &[usize],
    goes: &mut [bool],
) -> bool {
    let mut any = false;
    for _ in 0..MAX_ROUNDS {
        note_company(text, places, plain, candidates, goes);
        let mut news = false;
        for index in candidates {
            if let (Some(place), Some(goes)) = (places.get(*index), goes.get_mut(*index)) {
                let is_tracker = place.signals.verdict() == Verdict::Tracker;
                news |= is_tracker && !*goes;
                *goes |= is_tracker;
            }
        }
        any |= news;
        let all_go = candidates.iter().all(|index| goes.get(*index).copied().unwrap_or_default());
        if !news || all_go {
            return any;
        }
        note_tokens(places, candidates, goes);
    }
    any
}

/// Notes what shares its address, its program or its picture with a tracker: one that goes while the other
/// stays reports all the same.
fn note_kin(places: &mut [Place<'_>], goes: &[bool]) {
    let gone = places.iter().zip(goes).filter(|(_, goes)| **goes).map(|(place, _)| place);
    let mut addresses: HashSet<String> = HashSet::new();
    let mut programs: HashSet<String> = HashSet::new();
    let mut pictures: HashSet<usize> = HashSet::new();
    for place in gone {
        addresses.insert(place.url.as_str().to_owned());
        programs.extend(place.url.program().map(str::to_owned));
        pictures.extend(place.picture);
    }
    for place in places.iter_mut().zip(goes).filter(|(_, goes)| !**goes).map(|(place, _)| place) {
        let is_loaded = place.carrier != Carrier::Anchor && place.carrier != Carrier::Rare;
        // What names the reader and is seen has gentler remedies.
        if !is_loaded || place.signals.verdict() != Verdict::Picture {
            continue;
        }
        let is_seen = place.is_shown();
        let is_keyed = !place.signals.has(Signal::StaticFile);
        let shares_program =
            !is_seen && place.url.program().is_some_and(|program| programs.contains(program));
        let shares_picture = place.picture.is_some_and(|picture| pictures.contains(&picture));
        place.signals.add_if(Signal::SharedAddress, addresses.contains(place.url.as_str()));
        place.signals.add_if(Signal::SharedProgram, shares_program);
        place.signals.add_if(Signal::SharedPicture, shares_picture && is_keyed);
    }
}

/// Whether what the neighbours say could make a difference to any of these places.
pub fn asks_neighbours(places: &[Place<'_>], extent: Extent) -> bool {
    places.iter().any(|place| is_open(place, extent))
}

/// Whether what the neighbours say could make a difference to a place.
fn is_open(place: &Place<'_>, extent: Extent) -> bool {
    place.carrier != Carrier::Anchor
        && (extent == Extent::EveryRequest
            || place.signals.score() + Signal::SharedToken.weight() >= THRESHOLD)
}

/// What the places that stay say of one address and one folder.
#[derive(Clone, Copy, Default)]
struct Tally {
    times: usize,
    shown: bool,
}

/// Notes what the places that stay say of the candidates: repetition, and pictures from the same address or
/// folder. Those for which `goes` is set say nothing, so that a second look at the rewritten text comes to
/// the same result.
fn note_company(
    text: &[u8],
    places: &mut [Place<'_>],
    plain: &[PlainPicture<'_>],
    candidates: &[usize],
    goes: &[bool],
) {
    let mut addresses: HashMap<&str, Tally> = HashMap::new();
    let mut folders: HashMap<&str, bool> = HashMap::new();
    // A place of another length than any candidate's is not looked up.
    let (mut lengths, mut folder_lengths) = (0u64, 0u64);
    let bit = |text: &str| 1u64 << (text.len() % 64);
    for place in candidates.iter().filter_map(|index| places.get(*index)) {
        addresses.insert(place.url.as_str(), Tally::default());
        folders.insert(place.url.folder(), false);
        lengths |= bit(place.url.as_str());
        folder_lengths |= bit(place.url.folder());
    }
    let mut note = |url: &Url<'_>, is_shown: &dyn Fn() -> bool| {
        let (address, folder) = (url.as_str(), url.folder());
        let tally = if lengths & bit(address) == 0 { None } else { addresses.get_mut(address) };
        let shown_folder = if folder_lengths & bit(folder) == 0 { None } else { folders.get_mut(folder) };
        if tally.is_none() && shown_folder.is_none() {
            return;
        }
        let shown = is_shown();
        if let Some(tally) = tally {
            tally.times += 1;
            tally.shown |= shown;
        }
        if let Some(folder) = shown_folder {
            *folder |= shown;
        }
    };
    for (place, _) in
        places.iter().zip(goes).filter(|(place, goes)| !**goes && place.carrier != Carrier::Anchor)
    {
        note(&place.url, &|| place.is_shown());
    }
    for picture in plain {
        note(&picture.url, &|| picture.is_shown(text));
    }
    let notes: Vec<(usize, Tally, bool)> = candidates
        .iter()
        .filter_map(|index| {
            let url = &places.get(*index)?.url;
            let tally = addresses.get(url.as_str()).copied().unwrap_or_default();
            Some((*index, tally, folders.get(url.folder()).copied().unwrap_or_default()))
        })
        .collect();
    for (index, tally, folder) in notes {
        let Some(place) = places.get_mut(index) else { continue };
        let seen = place.size == Size::Visible;
        place.signals.remove(&COMPANY);
        // A spacer is a file; what a program answers is asked for again without being one.
        let is_file = !place.signals.has(Signal::Dynamic) && !place.signals.has(Signal::OpenWord);
        place.signals.add_if(Signal::Repeated, tally.times >= 3 && is_file);
        place.signals.add_if(Signal::ShownElsewhere, tally.shown && !seen);
        place.signals.add_if(Signal::FolderShown, folder && !seen);
    }
}

/// Notes where a place that is not to be seen carries the token of a tracker.
fn note_tokens(places: &mut [Place<'_>], candidates: &[usize], goes: &[bool]) {
    let gone = |index: &usize| goes.get(*index).copied().unwrap_or_default();
    let tokens: HashSet<String> = candidates
        .iter()
        .filter(|index| gone(index))
        .filter_map(|index| places.get(*index))
        .flat_map(|place| token::opaque_pieces(&place.url).map(str::to_owned).collect::<Vec<_>>())
        .collect();
    if tokens.is_empty() {
        return;
    }
    for index in candidates.iter().filter(|index| !gone(index)) {
        let Some(place) = places.get_mut(*index) else { continue };
        let shares = token::opaque_pieces(&place.url).any(|piece| tokens.contains(piece));
        place.signals.add_if(Signal::SharedToken, shares && place.size != Size::Visible);
    }
}
