//! A whole message: its places, what they are, and the edits that would take them out.
//!
//! `judge`, `part` and `personal` are steps of the analysis on its own data, so they and it name each other.

mod edits;
mod header;
mod outside;
mod sighting;

use std::borrow::Cow;
use std::sync::Arc;

use super::allowed::Allowed;
use super::calendar;
use super::campaign::{Key, Seen, Snapshot};
use super::carrier::Carrier;
use super::catalogue::{Catalogue, Start};
use super::copies::form::{Filled, Form, Walked};
use super::copies::{self, Copies, Question};
use super::judge::{self, Weighed};
use super::lists::Lists;
use super::personal::{self, Remedies};
use super::plain;
use super::recipient::Traces;
use super::scan::{Extent, Found, Links, Place, Unreadable, decoded, places_of_sheet, places_with_trail};
use super::signal::{Signal, Signals, Verdict};
use super::slot::Slot;
use crate::message::structure::Shown;
use crate::message::transfer::Decoded;
use crate::message::{Content, Leaf, Protection, Structure, Text, Trouble};
use edits::edit_of;
pub(in crate::tracker) use edits::owned;
pub use sighting::Sighting;
pub(super) use sighting::{Position, sighting_of};

/// How many times a transfer-encoded message is read within another.
const MAX_LAYERS: usize = 8;

/// Finds trackers. Shared by all sessions.
#[derive(Debug)]
pub struct Detector {
    pub(super) catalogue: Catalogue,
    pub(super) allowed: Vec<Allowed>,
    pub(super) lists: Lists,
    copies: Copies,
}

/// What is asked of a message.
#[derive(Clone, Copy, Debug)]
pub struct Inquiry<'a> {
    /// The addresses it goes to; one of them in an address decides.
    pub recipients: &'a [&'a str],
    /// How much is looked for.
    pub extent: Extent,
    /// Whether links are looked at.
    pub links: Links,
    /// What happens to parts that cannot be read.
    pub unreadable: Unreadable,
    /// What was learnt from other copies of the same campaign. One snapshot for all scans of a message.
    pub learnt: Option<&'a Snapshot>,
    /// Now, in milliseconds since 1970: exceptions expire.
    pub now: i64,
}

impl<'a> Inquiry<'a> {
    /// Looks for trackers in a message to these recipients.
    pub fn to(recipients: &'a [&'a str]) -> Inquiry<'a> {
        Inquiry {
            recipients,
            extent: Extent::Trackers,
            links: Links::Ignore,
            unreadable: Unreadable::Count,
            learnt: None,
            now: 0,
        }
    }

    /// Looks for everything that is loaded.
    pub fn everything(self) -> Inquiry<'a> {
        Inquiry { extent: Extent::EveryRequest, ..self }
    }
}

/// What was found in a message.
#[derive(Debug)]
pub struct Analysis<'a> {
    pub(super) layers: Vec<Layer<'a>>,
    /// Everything that was found: receipts first, then places in the order of the message. Which places are
    /// listed hangs on [`Inquiry::extent`]; trackers always are.
    pub sightings: Vec<Sighting>,
    /// Pictures with an opaque token that are seen and stay: nothing shows that they tell readers apart.
    pub opaque_pictures: usize,
    /// Links with a token or with an address within them, where links are counted.
    pub links: usize,
    /// Text parts that cannot be read: nobody knows what is in them.
    pub unreadable: usize,
    /// What other copies of the campaign can be compared with.
    pub seen: Vec<Seen>,
    /// Set where the message cannot be read as a whole.
    pub trouble: Option<Trouble>,
    /// How much was looked for.
    pub(super) extent: Extent,
}

/// The message, or a transfer-encoded message within it.
#[derive(Debug)]
pub(super) struct Layer<'a> {
    pub(super) bytes: Cow<'a, [u8]>,
    pub(super) structure: Structure,
    /// The layer and leaf it was decoded from.
    parent: Option<(usize, usize)>,
    /// Decoded leaves of the outermost layer, kept for the rewrite.
    pub(super) texts: Vec<(usize, Text<'a>)>,
    /// What is left of reading those of them that are markup.
    pub(super) trails: Vec<(usize, Walked)>,
}

/// What goes along while a message is read.
pub(super) struct Reading<'q> {
    pub(super) inquiry: &'q Inquiry<'q>,
    pub(super) traces: Traces,
    /// The bytes of the message.
    raw: &'q [u8],
    /// Whether places are weighed; without that, each one counts as a tracker.
    weighs: bool,
}

impl<'q> Reading<'q> {
    pub(super) fn of(inquiry: &'q Inquiry<'q>) -> Reading<'q> {
        Reading { inquiry, traces: Traces::of(inquiry.recipients.iter().copied()), raw: &[], weighs: true }
    }

    /// Whether a leaf is plain text that a reader sees, and links are looked at.
    fn looks_for_links_in(&self, leaf: &Leaf) -> bool {
        let is_seen = matches!(leaf.shown, Shown::Plain | Shown::PlainAlternative);
        is_seen && self.weighs && self.inquiry.links != Links::Ignore
    }
}

impl Default for Detector {
    fn default() -> Detector {
        Detector::new(Catalogue::shipped())
    }
}

impl Detector {
    /// A detector with this catalogue.
    pub fn new(catalogue: Catalogue) -> Detector {
        Detector { catalogue, allowed: Vec::new(), lists: Lists::default(), copies: Copies::default() }
    }

    /// With exceptions of the operator.
    #[must_use]
    pub fn allowing(self, allowed: Vec<Allowed>) -> Detector {
        Detector { allowed, ..self }
    }

    /// With filter lists of the operator.
    #[must_use]
    pub fn listing(self, lists: Lists) -> Detector {
        Detector { lists, ..self }
    }

    /// Keeps texts of the last copies of campaigns, up to so many bytes, and reads of the next copy only what differs.
    /// That finds the same, and quicker.
    #[must_use]
    pub fn remembering(self, bytes: usize) -> Detector {
        Detector { copies: Copies::of(bytes), ..self }
    }

    /// The same, and reads a copy so even where that takes longer than to read all of it.
    #[must_use]
    pub fn comparing_each_copy(self, bytes: usize) -> Detector {
        Detector { copies: Copies::comparing_each(bytes), ..self }
    }

    #[cfg(test)]
    pub(super) fn copies(&self) -> &Copies {
        &self.copies
    }

    /// Forgets all of them.
    pub fn forget_copies(&self) {
        self.copies.forget();
    }

    /// How many texts were read only where they differ from another copy.
    pub fn copies_read(&self) -> u64 {
        self.copies.read()
    }

    /// How many of those were seen to differ in tokens alone, wherever other copies did.
    pub fn copies_filled(&self) -> u64 {
        self.copies.filled()
    }

    /// The vendors.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// Finds what is asked for in a message.
    pub fn analyse<'a>(&self, raw: &'a [u8], inquiry: &Inquiry<'_>) -> Analysis<'a> {
        self.read(raw, inquiry, true)
    }

    /// Finds every place that a message loads from and takes each for a tracker, whatever its address says.
    /// Nothing is weighed, so this works where weighing fails.
    pub fn every_load<'a>(&self, raw: &'a [u8]) -> Analysis<'a> {
        self.read(raw, &Inquiry::to(&[]).everything(), false)
    }

    fn read<'a>(&self, raw: &'a [u8], inquiry: &Inquiry<'_>, weighs: bool) -> Analysis<'a> {
        let mut analysis = Analysis {
            layers: Vec::new(),
            sightings: Vec::new(),
            opaque_pictures: 0,
            links: 0,
            unreadable: 0,
            seen: Vec::new(),
            trouble: None,
            extent: inquiry.extent,
        };
        let reading = Reading { weighs, raw, ..Reading::of(inquiry) };
        self.layer(Cow::Borrowed(raw), None, &reading, &mut analysis);
        analysis
    }

    fn layer<'a>(
        &self,
        bytes: Cow<'a, [u8]>,
        parent: Option<(usize, usize)>,
        reading: &Reading<'_>,
        analysis: &mut Analysis<'a>,
    ) {
        let structure = Structure::read(&bytes);
        let number = analysis.layers.len();
        analysis.trouble = analysis.trouble.or(structure.trouble);
        if parent.is_none() {
            self.header(&bytes, structure.header_blocks.first(), reading, analysis);
        }
        outside::note(&structure, number, reading, analysis);
        let mut texts = Vec::new();
        let mut trails = Vec::new();
        let mut inner = Vec::new();
        for (index, leaf) in structure.leaves.iter().enumerate() {
            let position = Position { layer: number, leaf: Some(index) };
            match (leaf.content, &bytes) {
                (Content::File, _) if reading.inquiry.extent == Extent::Trackers => {}
                (Content::Html | Content::File | Content::Style | Content::Calendar, Cow::Borrowed(raw)) => {
                    let question = self.question(leaf, position, reading);
                    let (text, like) = match &question {
                        Some(question) => self.copies.text_of(question, raw, leaf, &self.catalogue),
                        None => (Text::new(raw, leaf), copies::Found::NotWorthIt),
                    };
                    let asked = question.map(|question| (question, like));
                    let trail = self.text(&text, asked, position, leaf, reading, analysis);
                    trails.extend(trail.map(|trail| (index, trail)));
                    texts.push((index, text));
                }
                (Content::Html | Content::File | Content::Style | Content::Calendar, Cow::Owned(raw)) => {
                    self.text(&Text::new(raw, leaf), None, position, leaf, reading, analysis);
                }
                (Content::Text, raw) if reading.looks_for_links_in(leaf) => match raw {
                    Cow::Borrowed(raw) => {
                        let text = Text::new(raw, leaf);
                        self.plain_text(text.bytes(), position, leaf, reading, analysis);
                        texts.push((index, text));
                    }
                    Cow::Owned(raw) => {
                        self.plain_text(Text::new(raw, leaf).bytes(), position, leaf, reading, analysis);
                    }
                },
                (Content::Message, raw) if leaf.protection.is_none() => {
                    let body = raw.get(leaf.body.clone()).unwrap_or_default();
                    inner.push((index, Decoded::new(body, leaf.transfer).bytes.into_owned()));
                }
                _ => {}
            }
        }
        analysis.layers.push(Layer { bytes, structure, parent, texts, trails });
        for (index, decoded) in inner {
            if analysis.layers.len() >= MAX_LAYERS {
                analysis.trouble = analysis.trouble.or(Some(Trouble::TooManyParts));
                break;
            }
            self.layer(Cow::Owned(decoded), Some((number, index)), reading, analysis);
        }
    }

    /// Links that mail programs make of addresses in plain text.
    fn plain_text(
        &self,
        text: &[u8],
        position: Position,
        leaf: &Leaf,
        reading: &Reading<'_>,
        analysis: &mut Analysis<'_>,
    ) {
        let found = analysis.sightings.len();
        let places = plain::places(text, reading.inquiry.links);
        self.judged(text, places, position, leaf, reading, analysis);
        for sighting in analysis.sightings.iter_mut().skip(found) {
            sighting.slot = sighting.slot.take().map(Slot::in_plain_text);
            for edit in sighting.remedies.edits_mut() {
                edit.with = decoded(&edit.with).into_owned().into_bytes();
            }
        }
    }

    /// What is asked of copies about a leaf; `None` where none are looked for.
    fn question(&self, leaf: &Leaf, position: Position, reading: &Reading<'_>) -> Option<Question> {
        let has_copies = leaf.content == Content::Html && position.layer == 0 && reading.weighs;
        (has_copies && self.copies.take(leaf)).then(|| Question {
            campaign: Key::of("", reading.raw),
            leaf: leaf.number,
            base: leaf.base.clone(),
            extent: self.extent_of_walk(reading.inquiry.extent),
            links: reading.inquiry.links,
        })
    }

    /// Finds what stands in a text. `asked` is what is known of copies of it.
    fn text(
        &self,
        text: &Text<'_>,
        asked: Option<(Question, copies::Found)>,
        position: Position,
        leaf: &Leaf,
        reading: &Reading<'_>,
        analysis: &mut Analysis<'_>,
    ) -> Option<Walked> {
        let bytes = text.bytes();
        if leaf.content == Content::Calendar {
            for piece in calendar::pieces(bytes) {
                let found = analysis.sightings.len();
                let places = piece.places(reading.inquiry.extent);
                self.judged(piece.text(), places, position, leaf, reading, analysis);
                for sighting in analysis.sightings.iter_mut().skip(found) {
                    sighting.carrier = Carrier::Calendar;
                    sighting.remedies = Remedies::default();
                    sighting.slot = None;
                    sighting.edit = sighting.edit.take().map(|edit| piece.to_text(edit));
                }
            }
            return None;
        }
        let extent = self.extent_of_walk(reading.inquiry.extent);
        let inquiry = (leaf.base.as_deref(), extent, reading.inquiry.links);
        if let Some((_, copies::Found::Filled(form))) = &asked
            && let Some(walked) = self.filled(form, bytes, position, leaf, reading, analysis)
        {
            self.copies.count_filled();
            return Some(walked);
        }
        let known = asked.as_ref().and_then(|(_, like)| like.read(bytes, inquiry));
        let (mut places, trail) = match (leaf.content, known) {
            (Content::Style, _) => (places_of_sheet(bytes, leaf.base.as_deref(), extent), None),
            (_, Some((found, trail))) => {
                self.copies.count();
                asked.iter().for_each(|(_, like)| like.show_blanks(self, leaf, inquiry));
                (found, Some(trail))
            }
            (_, None) => {
                let mut read = places_with_trail(bytes, leaf.base.as_deref(), extent, reading.inquiry.links);
                let new = asked.as_ref().filter(|(_, like)| like.is_new()).map(|(question, _)| question);
                if let (Some(question), Some(trail)) = (new, &read.1) {
                    judge::read_links(self, &mut read.0.places);
                    self.copies.keep(question, text, || trail.with_found(&read.0));
                }
                read
            }
        };
        if leaf.content == Content::File {
            // Who opens the message does not open the file.
            places.places.iter_mut().for_each(|place| place.signals.add(Signal::Idle));
        }
        let (found, weighed) = self.judged(bytes, places, position, leaf, reading, analysis);
        trail
            .filter(|_| leaf.content == Content::Html && reading.weighs)
            .map(|trail| Walked::Alone(trail.with(found, &weighed)))
    }

    /// Finds what stands in a text that is a form with its blanks filled. `None`, and nothing noted, where it must be
    /// read as a whole.
    fn filled(
        &self,
        form: &Arc<Form>,
        text: &[u8],
        position: Position,
        leaf: &Leaf,
        reading: &Reading<'_>,
        analysis: &mut Analysis<'_>,
    ) -> Option<Walked> {
        let extent = reading.inquiry.extent;
        let inquiry = (leaf.base.as_deref(), self.extent_of_walk(extent), reading.inquiry.links);
        let Filled { mut found, numbers, others } = form.read(text, inquiry)?;
        let (weighed, by_themselves) = self.weighed(text, &mut found, reading);
        analysis.links += found.links;
        analysis.sightings.reserve(form.links().len() + found.places.len());
        let mut links = form.links().iter().peekable();
        let mut note_links = |before: usize, analysis: &mut Analysis<'_>| {
            while let Some(link) = links.next_if(|link| link.number < before) {
                let sighting = is_listed(link.signals(), extent).then(|| link.sighting(text, leaf, position));
                analysis.note(sighting.flatten(), link.signals());
            }
        };
        for ((number, place), weighed) in numbers.iter().zip(&found.places).zip(weighed) {
            note_links(*number, analysis);
            analysis.seen.extend(weighed.seen);
            let sighting = is_listed(place.signals, extent)
                .then(|| self.sighting(text, place, &weighed, (position, leaf), &reading.traces));
            analysis.note(sighting, place.signals);
        }
        note_links(usize::MAX, analysis);
        Some(form.walked(&numbers, &by_themselves, others))
    }

    /// How much a walk over markup looks for: a list can name a plain picture too.
    pub(super) fn extent_of_walk(&self, extent: Extent) -> Extent {
        if self.lists.is_empty() { extent } else { Extent::EveryRequest }
    }

    /// Weighs places of one text, and notes those that are listed. Gives them back, with the signals of each
    /// by itself.
    fn judged<'t>(
        &self,
        text: &[u8],
        mut found: Found<'t>,
        position: Position,
        leaf: &Leaf,
        reading: &Reading<'_>,
        analysis: &mut Analysis<'_>,
    ) -> (Found<'t>, Vec<Signals>) {
        if !reading.weighs {
            let loads = found.places.iter().filter(|place| place.carrier != Carrier::Anchor);
            let sightings = loads.map(|place| Sighting {
                carrier: place.carrier,
                url: place.url.as_str().to_owned(),
                vendor: None,
                signals: place.signals,
                verdict: Verdict::Tracker,
                protection: leaf.protection,
                part: leaf.number,
                place: position,
                edit: edit_of(text, place),
                remedies: Remedies::default(),
                slot: None,
            });
            analysis.sightings.extend(sightings);
            return (found, Vec::new());
        }
        let (weighed, by_themselves) = self.weighed(text, &mut found, reading);
        analysis.links += found.links;
        let extent = reading.inquiry.extent;
        let listed = found.places.iter().filter(|place| is_listed(place.signals, extent));
        analysis.sightings.reserve(listed.count());
        for (place, weighed) in found.places.iter().zip(weighed) {
            let sighting = is_listed(place.signals, extent)
                .then(|| self.sighting(text, place, &weighed, (position, leaf), &reading.traces));
            analysis.seen.extend(weighed.seen);
            analysis.note(sighting, place.signals);
        }
        (found, by_themselves)
    }

    /// Weighs places of one text and judges them together. Says what was learnt of each, and its signals by itself.
    fn weighed(
        &self,
        text: &[u8],
        found: &mut Found<'_>,
        reading: &Reading<'_>,
    ) -> (Vec<Weighed>, Vec<Signals>) {
        crate::faults::point("judge");
        let mut last = Start::default();
        let weigh =
            |place: &mut Place<'_>| judge::weigh(self, place, reading.inquiry, &reading.traces, &mut last);
        let weighed = found.places.iter_mut().map(weigh).collect();
        let by_themselves = found.places.iter().map(|place| place.signals).collect();
        judge::judge(text, found, reading.inquiry.extent);
        (weighed, by_themselves)
    }

    /// What is told of a place that was judged.
    pub(super) fn sighting(
        &self,
        text: &[u8],
        place: &Place<'_>,
        weighed: &Weighed,
        (position, leaf): (Position, &Leaf),
        traces: &Traces,
    ) -> Sighting {
        let verdict = place.signals.verdict();
        let remedies = match verdict {
            Verdict::Personal => personal::remedies(self, text, place, weighed.vendor, traces),
            Verdict::Tracker if place.carrier == Carrier::Anchor => {
                let straight = weighed.link.as_ref().and_then(|facts| facts.straight.as_deref());
                straight.map(|end| personal::unwrapped(place, end)).unwrap_or_default()
            }
            _ => Remedies::default(),
        };
        let slot = match verdict {
            Verdict::Tracker | Verdict::Personal => Slot::of(text, place),
            Verdict::Picture => None,
        };
        Sighting {
            carrier: place.carrier,
            url: place.url.as_str().to_owned(),
            vendor: weighed.vendor,
            signals: place.signals,
            verdict,
            protection: leaf.protection,
            part: leaf.number,
            place: position,
            edit: edit_of(text, place),
            remedies,
            slot,
        }
    }
}

/// Whether a place with these signals is among the sightings.
fn is_listed(signals: Signals, extent: Extent) -> bool {
    extent != Extent::Trackers || signals.verdict() != Verdict::Picture
}

impl Analysis<'_> {
    /// Notes what was found of a place with these signals.
    fn note(&mut self, sighting: Option<Sighting>, signals: Signals) {
        match sighting {
            Some(sighting) => self.sightings.push(sighting),
            None => self.opaque_pictures += usize::from(signals.has(Signal::OpaqueToken)),
        }
    }

    /// How many bytes of text the message holds, decoded, with all of a message within it.
    pub fn text_bytes(&self) -> usize {
        let texts = self.layers.first().map_or(&[][..], |layer| &layer.texts);
        let texts: usize = texts.iter().map(|(_, text)| text.bytes().len()).sum();
        texts + self.layers.iter().skip(1).map(|layer| layer.bytes.len()).sum::<usize>()
    }

    /// The address that a sighting loads from, as browsers ask for it; `None` where it cannot be swapped for
    /// another one.
    pub fn address(&self, sighting: &Sighting) -> Option<String> {
        let slot = sighting.slot.as_ref()?;
        let layer = self.layers.get(sighting.place.layer)?;
        let index = sighting.place.leaf?;
        match layer.texts.iter().find(|(text, _)| *text == index) {
            Some((_, text)) => slot.address(text.bytes()),
            None => slot.address(Text::new(&layer.bytes, layer.structure.leaves.get(index)?).bytes()),
        }
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
