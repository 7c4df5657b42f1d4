//! A whole message: its places, what they are, and the edits that would take them out.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use super::carrier::{Axis, Carrier};
use super::catalogue::{Catalogue, Vendor};
use super::evidence::{Evidence, Fact, Verdict};
use super::recipient::Traces;
use super::scan::{Place, Removal, note_company, places};
use super::style::Size;
use super::token::{self, Opacity};
use super::url::Url;
use crate::message::header::fields;
use crate::message::structure::HeaderBlock;
use crate::message::transfer::{Decoded, Edit, Filler, normalise};
use crate::message::{Content, Protection, Structure, Text, Trouble};

/// Rounds of taking in what places say of each other.
const MAX_ROUNDS: usize = 8;

/// How many times a transfer-encoded message is read within another.
const MAX_LAYERS: usize = 8;

/// Header fields that ask the reader's mail program for a receipt.
const RECEIPT_FIELDS: [&str; 6] = [
    "Disposition-Notification-To",
    "Disposition-Notification-Options",
    "Return-Receipt-To",
    "X-Confirm-Reading-To",
    "Read-Receipt-To",
    "X-PMRQC",
];

/// Finds trackers. Shared by all sessions.
#[derive(Debug)]
pub struct Detector {
    catalogue: Catalogue,
}

/// One place in a message that would report an open, or that loads something else.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// What kind of place.
    pub carrier: Carrier,
    /// Where it reports to: `host/path?query`, or the name of a header field.
    pub url: String,
    /// Whose it is, if known.
    pub vendor: Option<Vendor>,
    /// Why it is one, or is none.
    pub evidence: Evidence,
    /// What the evidence amounts to.
    pub verdict: Verdict,
    /// Set where it must not be edited.
    pub protection: Option<Protection>,
    /// The number of the part, in the order of the message; nested encoded messages count on their own.
    pub part: usize,
    place: Position,
    edit: Edit,
}

/// Which text an edit belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    layer: usize,
    /// The leaf's index; `None` for the bytes of the layer itself.
    leaf: Option<usize>,
}

impl Sighting {
    /// What it reports.
    pub fn axis(&self) -> Axis {
        self.carrier.axis()
    }

    /// Whether it reports, and may be taken out.
    pub fn is_removable_tracker(&self) -> bool {
        self.verdict == Verdict::Tracker && self.protection.is_none()
    }
}

/// What was found in a message.
#[derive(Debug)]
pub struct Analysis<'a> {
    layers: Vec<Layer<'a>>,
    /// Every place that is loaded from or reports, in order; trackers and others.
    pub sightings: Vec<Sighting>,
    /// What could not be read.
    pub trouble: Option<Trouble>,
}

/// The message, or a transfer-encoded message within it.
#[derive(Debug)]
struct Layer<'a> {
    bytes: Cow<'a, [u8]>,
    structure: Structure,
    /// The layer and leaf it was decoded from.
    parent: Option<(usize, usize)>,
    /// Decoded leaves of the outermost layer, kept for the rewrite.
    texts: Vec<(usize, Text<'a>)>,
}

impl Default for Detector {
    fn default() -> Detector {
        Detector::new(Catalogue::shipped())
    }
}

impl Detector {
    /// A detector with this catalogue.
    pub fn new(catalogue: Catalogue) -> Detector {
        Detector { catalogue }
    }

    /// The vendors.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// Finds every place in a message; `recipients` are the addresses it goes to.
    pub fn analyse<'a>(&self, raw: &'a [u8], recipients: &[&str]) -> Analysis<'a> {
        let mut analysis = Analysis { layers: Vec::new(), sightings: Vec::new(), trouble: None };
        let traces = LazyTraces { recipients, traces: std::cell::OnceCell::new() };
        self.layer(Cow::Borrowed(raw), None, &traces, &mut analysis);
        analysis
    }

    fn layer<'a>(
        &self,
        bytes: Cow<'a, [u8]>,
        parent: Option<(usize, usize)>,
        traces: &LazyTraces<'_>,
        analysis: &mut Analysis<'a>,
    ) {
        let structure = Structure::read(&bytes);
        let number = analysis.layers.len();
        analysis.trouble = analysis.trouble.or(structure.trouble);
        if parent.is_none() {
            receipts(&bytes, structure.header_blocks.first(), &mut analysis.sightings);
        }
        let mut texts = Vec::new();
        let mut inner = Vec::new();
        for (index, leaf) in structure.leaves.iter().enumerate() {
            match (leaf.content, &bytes) {
                (Content::Html, Cow::Borrowed(raw)) => {
                    let text = Text::new(raw, leaf);
                    self.text(text.bytes(), (number, index), leaf, traces, &mut analysis.sightings);
                    texts.push((index, text));
                }
                (Content::Html, Cow::Owned(raw)) => {
                    let text = Text::new(raw, leaf);
                    self.text(text.bytes(), (number, index), leaf, traces, &mut analysis.sightings);
                }
                (Content::Message, raw) if leaf.protection.is_none() => {
                    let body = raw.get(leaf.body.clone()).unwrap_or_default();
                    inner.push((index, Decoded::new(body, leaf.transfer).bytes.into_owned()));
                }
                _ => {}
            }
        }
        analysis.layers.push(Layer { bytes, structure, parent, texts });
        for (index, decoded) in inner {
            if analysis.layers.len() >= MAX_LAYERS {
                analysis.trouble = analysis.trouble.or(Some(Trouble::TooManyParts));
                break;
            }
            self.layer(Cow::Owned(decoded), Some((number, index)), traces, analysis);
        }
    }

    fn text(
        &self,
        text: &[u8],
        (layer, index): (usize, usize),
        leaf: &crate::message::Leaf,
        traces: &LazyTraces<'_>,
        sightings: &mut Vec<Sighting>,
    ) {
        let mut places = places(text);
        let vendors: Vec<_> = places.iter_mut().map(|place| self.weigh(place, traces)).collect();
        judge(&mut places);
        for (place, vendor) in places.into_iter().zip(vendors) {
            let evidence = place.evidence;
            let verdict = evidence.verdict();
            let edit = edit_of(text, &place);
            sightings.push(Sighting {
                carrier: place.carrier,
                url: place.url.as_str().to_owned(),
                vendor,
                evidence,
                verdict,
                protection: leaf.protection,
                part: leaf.number,
                place: Position { layer, leaf: Some(index) },
                edit,
            });
        }
    }

    /// Adds what the address says to what its surroundings say; gives the vendor.
    fn weigh(&self, place: &mut Place, traces: &LazyTraces<'_>) -> Option<Vendor> {
        let url = &place.url;
        let evidence = &mut place.evidence;
        let (stem, extension) = url.stem_and_extension();
        let picture = token::is_picture(&extension);
        let opacity = token::opacity(url);
        let plain_file = picture && opacity == Opacity::Plain && url.query().is_empty();
        let speaks = token::speaks_of_opening(url);
        let vendor = if plain_file && !speaks { None } else { self.catalogue.open(url.as_str()) };
        let spacer = token::is_spacer_name(stem);
        let unseen = matches!(place.size, Size::Zero | Size::Tiny) || evidence.has(Fact::Hidden);
        evidence.add_if(Fact::VendorOpen, vendor.is_some());
        evidence.add_if(Fact::StaticFile, picture && vendor.is_none() && is_static(url, opacity, stem));
        evidence.add_if(
            Fact::NamedFile,
            picture && vendor.is_none() && is_named_file(url, opacity, stem, speaks),
        );
        evidence.add_if(Fact::SpacerName, picture && spacer && opacity == Opacity::Plain);
        evidence.add_if(Fact::KeyedSpacer, spacer && token::query_opacity(url) > Opacity::Plain);
        evidence
            .add_if(Fact::KeyedPixel, unseen && !url.query().is_empty() && !evidence.has(Fact::StaticFile));
        evidence.add_if(Fact::Dynamic, !picture && !evidence.has(Fact::Furniture));
        evidence.add_if(Fact::OpenWord, !plain_file && speaks);
        match opacity {
            Opacity::Opaque => evidence.add(Fact::OpaqueToken),
            Opacity::Identifier => evidence.add(Fact::Identifier),
            Opacity::Plain => {}
        }
        // Only what would be a tracker without it needs a look at where pictures are kept.
        let suspected = evidence.score() >= super::evidence::THRESHOLD;
        evidence.add_if(Fact::PictureService, suspected && self.catalogue.pictures(url.as_str()).is_some());
        // Hashing addresses is dear: only where it could decide.
        let undecided = !plain_file && vendor.is_none() && evidence.score() < super::evidence::THRESHOLD;
        evidence.add_if(Fact::RecipientInUrl, undecided && traces.get().stand_in(url.as_str()));
        vendor
    }
}

/// Takes in what the places say of each other. A place that turns out to be a tracker has no say about the rest, so this goes
/// on until nothing changes; each round finds at least one tracker more, and few need a second.
fn judge(places: &mut [Place]) {
    let mut goes = vec![false; places.len()];
    for _ in 0..MAX_ROUNDS {
        note_company(places, &goes);
        let now: Vec<bool> = places
            .iter()
            .zip(&goes)
            .map(|(place, goes)| *goes || place.evidence.verdict() == Verdict::Tracker)
            .collect();
        if now == goes {
            return;
        }
        note_tokens(places, &now);
        goes = now;
    }
}

/// A picture file that is the same for everybody: no query that identifies, and no token in its path but a content hash in
/// the name of a picture that is seen.
fn is_static(url: &Url, opacity: Opacity, stem: &str) -> bool {
    match opacity {
        Opacity::Plain => token::query_opacity(url) == Opacity::Plain,
        Opacity::Identifier => url.query().is_empty() && token::is_named(stem),
        Opacity::Opaque => false,
    }
}

/// A picture file with a name in words in a folder that is a token: the customer's folder of a picture service.
fn is_named_file(url: &Url, opacity: Opacity, stem: &str, speaks: bool) -> bool {
    opacity == Opacity::Opaque && url.query().is_empty() && token::is_named(stem) && !speaks
}

/// Notes where a place that is not to be seen carries the token of a tracker.
fn note_tokens(places: &mut [Place], goes: &[bool]) {
    let tokens: HashSet<String> = places
        .iter()
        .zip(goes)
        .filter(|(_, goes)| **goes)
        .flat_map(|(place, _)| token::opaque_pieces(&place.url).map(str::to_owned).collect::<Vec<_>>())
        .collect();
    if tokens.is_empty() {
        return;
    }
    for (place, _) in places.iter_mut().zip(goes).filter(|(_, goes)| !**goes) {
        let shares = token::opaque_pieces(&place.url).any(|piece| tokens.contains(piece));
        place.evidence.add_if(Fact::SharedToken, shares && place.size != Size::Visible);
    }
}

/// The traces of the recipients, made when first asked for.
struct LazyTraces<'a> {
    recipients: &'a [&'a str],
    traces: std::cell::OnceCell<Traces>,
}

impl LazyTraces<'_> {
    fn get(&self) -> &Traces {
        self.traces.get_or_init(|| Traces::of(self.recipients.iter().copied()))
    }
}

fn receipts(bytes: &[u8], block: Option<&HeaderBlock>, sightings: &mut Vec<Sighting>) {
    let Some(block) = block else { return };
    for field in fields(bytes, block.start) {
        let Some(name) = RECEIPT_FIELDS.iter().find(|name| field.is(bytes, name)) else { continue };
        sightings.push(Sighting {
            carrier: Carrier::ReceiptHeader,
            url: (*name).to_owned(),
            vendor: None,
            evidence: Evidence::default(),
            verdict: Verdict::Tracker,
            protection: None,
            part: 0,
            place: Position { layer: 0, leaf: None },
            edit: Edit::cut_inside(field.range),
        });
    }
}

/// The smallest change that stops the load and keeps the layout: an element that takes no space goes as a whole, of one that
/// does only what loads.
fn edit_of(text: &[u8], place: &Place) -> Edit {
    match &place.removal {
        Removal::Element { element, attribute } => match place.size {
            Size::Line | Size::Visible if !place.evidence.has(Fact::Hidden) => {
                Edit::cut_inside(attribute.clone())
            }
            _ => cut_element(text, element.clone()),
        },
        Removal::Attribute(range) => Edit::cut_inside(range.clone()),
        Removal::Candidate { value, candidate } => cut_candidate(text, value, candidate),
        Removal::Value { range, with } => Edit::replace(range.clone(), with.as_bytes()),
        Removal::CssValue(range) => Edit::replace(range.clone(), *b"none"),
        Removal::CssRule(range) | Removal::Field(range) => Edit::cut_inside(range.clone()),
    }
}

/// Cuts one candidate out of a `srcset`, with the comma that parts it from its neighbour.
fn cut_candidate(text: &[u8], value: &Range<usize>, candidate: &Range<usize>) -> Edit {
    let behind = text.get(candidate.end..value.end).unwrap_or_default();
    let before = text.get(value.start..candidate.start).unwrap_or_default();
    if behind.first() == Some(&b',') {
        Edit::cut_inside(candidate.start..candidate.end + 1)
    } else if before.last() == Some(&b',') {
        Edit::cut_inside(candidate.start - 1..candidate.end)
    } else {
        Edit::cut_inside(candidate.clone())
    }
}

/// Cuts an element so that what stands before it and what stands behind it do not become markup or a character reference
/// together: then an empty comment stays between them.
fn cut_element(text: &[u8], element: Range<usize>) -> Edit {
    let before = text.get(..element.start).unwrap_or_default();
    let joins_tag = matches!(before, [.., b'<'] | [.., b'<', b'/' | b'!' | b'?']);
    let word = before
        .iter()
        .rev()
        .take(32)
        .take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'#')
        .count();
    let joins_reference = before.len() > word && before.get(before.len() - word - 1) == Some(&b'&');
    let mut edit = Edit::cut(element);
    if joins_tag || joins_reference {
        edit.with.extend_from_slice(b"<!---->");
    }
    edit
}

impl Analysis<'_> {
    /// Edits of the message that take out the sightings for which `goes` says so. Sorted, not overlapping.
    pub fn edits(&self, mut goes: impl FnMut(&Sighting) -> bool) -> Vec<Edit> {
        let wanted = self
            .sightings
            .iter()
            .filter(|sighting| sighting.protection.is_none() && goes(sighting))
            .map(|sighting| (sighting.place, sighting.edit.clone()))
            .collect();
        self.in_message(wanted)
    }

    /// Edits that take out every load and leave `mark` in the place of each element that went. For showing a message to somebody,
    /// never for sending it.
    pub fn marked(&self, mark: impl Fn(&Sighting) -> String) -> Vec<Edit> {
        let marked = self.sightings.iter().map(|sighting| {
            let mut edit = sighting.edit.clone();
            if edit.filler == Filler::Comment {
                edit.with.extend_from_slice(mark(sighting).as_bytes());
            }
            (sighting.place, edit)
        });
        self.in_message(marked.collect())
    }

    fn in_message(&self, mut wanted: Vec<(Position, Edit)>) -> Vec<Edit> {
        // Inner layers come behind the ones they stand in: from the last one outwards, each becomes edits of its parent.
        for number in (0..self.layers.len()).rev() {
            let Some(layer) = self.layers.get(number) else { continue };
            let (own, rest): (Vec<_>, Vec<_>) =
                wanted.into_iter().partition(|(place, _)| place.layer == number);
            wanted = rest;
            let edits = layer.edits(own);
            match layer.parent {
                None => return edits,
                Some((parent, leaf)) => {
                    let place = Position { layer: parent, leaf: Some(leaf) };
                    wanted.extend(edits.into_iter().map(|edit| (place, edit)));
                }
            }
        }
        Vec::new()
    }

    /// Parts that are signed or encrypted.
    pub fn protection(&self) -> Option<Protection> {
        self.layers.iter().find_map(|layer| layer.structure.protection())
    }

    /// The structure of the message itself.
    pub fn structure(&self) -> Option<&Structure> {
        self.layers.first().map(|layer| &layer.structure)
    }
}

impl Layer<'_> {
    /// Edits of the bytes of this layer, from edits of its texts.
    fn edits(&self, wanted: Vec<(Position, Edit)>) -> Vec<Edit> {
        let mut edits = Vec::new();
        let mut of_leaves: Vec<(usize, Vec<Edit>)> = Vec::new();
        for (place, edit) in wanted {
            match place.leaf {
                None => edits.push(edit),
                Some(leaf) => match of_leaves.iter_mut().find(|(own, _)| *own == leaf) {
                    Some((_, own)) => own.push(edit),
                    None => of_leaves.push((leaf, vec![edit])),
                },
            }
        }
        for (index, own) in of_leaves {
            if let Some((_, text)) = self.texts.iter().find(|(leaf, _)| *leaf == index) {
                edits.extend(text.to_raw(own));
            } else if let Some(leaf) = self.structure.leaves.get(index) {
                edits.extend(Text::new(&self.bytes, leaf).to_raw(own));
            }
        }
        normalise(edits)
    }
}
