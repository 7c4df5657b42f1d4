//! A text of a campaign with blanks in it, like a form letter: where its copies have tokens of their own.
//!
//! What fills the blanks of most links changes nothing that is judged, so what is known of such a link holds for it in
//! each copy. The rest of a copy, a pixel with the reader's token above all, is read and weighed as ever.
//!
//! Promised: the sightings of a pass over all of the copy, and its trail.

mod edited;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::Model;
use crate::message::text::Original;
use crate::message::transfer::Edit;
use crate::message::{Leaf, Text};
use crate::tracker::analysis::{Detector, Position, Sighting};
use crate::tracker::carrier::Carrier;
use crate::tracker::catalogue::{Catalogue, Start};
use crate::tracker::class::Class;
use crate::tracker::facts::LastToken;
use crate::tracker::recipient::Traces;
use crate::tracker::scan::besides::{Besides, Weighed};
use crate::tracker::scan::blanks::Blank;
use crate::tracker::scan::trail::{Stretch, Trail};
use crate::tracker::scan::{Extent, Found, Links, Place};
use crate::tracker::signal::{Signals, Verdict};
use crate::tracker::{judge, link};

/// A model with blanks.
#[derive(Debug)]
pub(in crate::tracker) struct Form {
    model: Arc<Model>,
    /// Sorted by where they stand.
    blanks: Vec<Blank>,
    /// The same in what is compared, each with where it starts in the text; in quoted-printable, a line may end in one.
    runs: Vec<(Range<usize>, usize)>,
    /// Links of which all is known, sorted by the numbers of their places.
    links: Vec<KnownLink>,
    /// For each place, whether it is one of those.
    is_known: Vec<bool>,
    /// How far was looked behind each stretch that is read of a copy.
    looked: Vec<usize>,
    /// Edits that copies have in common.
    edited: edited::Kept,
    /// The most bytes that those may take.
    room: usize,
}

/// A link of which all is known but the token.
#[derive(Debug)]
pub(in crate::tracker) struct KnownLink {
    /// The number of its place.
    pub(in crate::tracker) number: usize,
    sighting: Sighting,
    token: Option<TokenOfLink>,
}

/// Where a link has its token.
#[derive(Debug)]
struct TokenOfLink {
    in_text: Range<usize>,
    in_address: Range<usize>,
    /// By how much of it it is told whose the link is.
    tells: usize,
}

/// What is found in a copy, links aside of which all is known.
#[derive(Debug)]
pub(in crate::tracker) struct Filled<'t> {
    /// What is to be weighed.
    pub(in crate::tracker) found: Found<'t>,
    /// The numbers of its places.
    pub(in crate::tracker) numbers: Vec<usize>,
    /// Of the places, those whose addresses are not the ones of the form.
    pub(in crate::tracker) others: Vec<(usize, Place<'static>)>,
}

/// The trail of a pass over a copy.
#[derive(Debug)]
pub(in crate::tracker) enum Walked {
    /// One that the pass left.
    Alone(Trail),
    /// The one of a form.
    OfForm(Arc<Form>, Weighed),
}

impl KnownLink {
    /// What speaks for a tracked link.
    pub(in crate::tracker) fn signals(&self) -> Signals {
        self.sighting.signals
    }

    /// What is found in a copy with this text.
    pub(in crate::tracker) fn sighting(
        &self,
        text: &[u8],
        leaf: &Leaf,
        position: Position,
    ) -> Option<Sighting> {
        Some(self.sighting.of_copy(self.address(text)?, leaf, position))
    }

    /// Its address in a copy with this text.
    fn address(&self, text: &[u8]) -> Option<String> {
        let known = &self.sighting.url;
        let Some(TokenOfLink { in_text, in_address, .. }) = &self.token else { return Some(known.clone()) };
        let mut address = String::with_capacity(known.len());
        address.push_str(known.get(..in_address.start)?);
        address.push_str(std::str::from_utf8(text.get(in_text.clone())?).ok()?);
        address.push_str(known.get(in_address.end..)?);
        Some(address)
    }

    /// Whether it is still the same one's in a copy with this text, of a form that has `known`.
    fn is_told_alike(&self, known: &[u8], text: &[u8], catalogue: &Catalogue, last: &mut Start) -> bool {
        let Some(TokenOfLink { in_text, tells, .. }) = &self.token else { return true };
        let telling = in_text.start..in_text.start + tells;
        text.get(telling.clone()) == known.get(telling)
            || self
                .address(text)
                .is_some_and(|address| catalogue.link_after(&address, last) == self.sighting.vendor)
    }
}

impl Form {
    /// The model with blanks where a copy of it differs in these changes. `None` where it differs in anything else, or
    /// where a copy would have to be read as a whole.
    pub(super) fn of(
        detector: &Detector,
        model: &Arc<Model>,
        changes: &[Edit],
        leaf: &Leaf,
        inquiry: (Option<&str>, Extent, Links),
    ) -> Option<Form> {
        let text = model.text.bytes();
        let blanks = model.trail.blanks(text, changes)?;
        let mut runs = Vec::with_capacity(blanks.len());
        for blank in &blanks {
            let mut start = blank.range.start;
            for run in model.text.free_runs(&blank.range)? {
                let length = run.len();
                runs.push((run, start));
                start += length;
            }
        }
        let mut of_places: HashMap<usize, Vec<&Blank>> = HashMap::new();
        blanks.iter().for_each(|blank| of_places.entry(blank.place).or_default().push(blank));
        let of_place = |number: &usize| of_places.get(number).map(Vec::as_slice).unwrap_or_default();
        let known = |(number, place)| known_link(detector, text, leaf, (number, place), of_place(&number));
        let links: Vec<KnownLink> = model.trail.places().iter().enumerate().filter_map(known).collect();
        let mut is_known = vec![false; model.trail.places().len()];
        for link in &links {
            *is_known.get_mut(link.number)? = true;
        }
        let mut form = Form {
            model: Arc::clone(model),
            blanks,
            runs,
            links,
            is_known,
            looked: Vec::new(),
            edited: edited::Kept::default(),
            room: 0,
        };
        // A copy without differences shows what is read of each.
        let changes = form.changes(text);
        let stretches = form.stretches(text, &changes, inquiry)?;
        let looked = stretches.iter().filter_map(|stretch| match stretch {
            Stretch::Read(read) => Some(read.looked),
            Stretch::Passed(_) => None,
        });
        let looked: Vec<usize> = looked.collect();
        let is_as_known = form.model.trail.others_in(&stretches, &looked)?.is_empty();
        drop(stretches);
        form.looked = looked;
        form.room = form.model.room().checked_sub(form.size())?;
        is_as_known.then_some(form)
    }

    /// About how many bytes it takes, the model aside.
    fn size(&self) -> usize {
        size_of_val(self.blanks.as_slice())
            + size_of_val(self.runs.as_slice())
            + size_of_val(self.links.as_slice())
            + self.is_known.len()
            + self.links.iter().map(|link| link.sighting.size()).sum::<usize>()
    }

    /// The text of a leaf of the message `raw`, if it is this one with its blanks filled.
    pub(super) fn text_of<'a>(&self, raw: &'a [u8], leaf: &Leaf, catalogue: &Catalogue) -> Option<Text<'a>> {
        let body = raw.get(leaf.body.clone())?;
        if !self.is_encoded() || !self.is_filled_in(body) {
            return None;
        }
        let mut text = self.model.text.bytes().to_vec();
        for (run, start) in &self.runs {
            let (filled, blank) = (body.get(run.clone())?, text.get_mut(*start..start + run.len())?);
            blank.copy_from_slice(filled);
        }
        if !self.holds_tokens(&text, catalogue) {
            return None;
        }
        self.model.text.filled(raw, leaf, text)
    }

    /// Whether a text that is not compared as it is encoded is this one with its blanks filled.
    pub(super) fn is_filled_by(&self, text: &[u8], catalogue: &Catalogue) -> bool {
        !self.is_encoded() && self.is_filled_in(text) && self.holds_tokens(text, catalogue)
    }

    /// Whether copies are compared as they are encoded.
    fn is_encoded(&self) -> bool {
        matches!(self.model.text, Original::Encoded { .. })
    }

    /// Whether all is the same but for the blanks.
    fn is_filled_in(&self, compared: &[u8]) -> bool {
        let known = self.model.text.compared();
        let mut at = 0;
        let is_same = |(run, _): &(Range<usize>, usize)| {
            let between = std::mem::replace(&mut at, run.end)..run.start;
            known.get(between.clone()) == compared.get(between)
        };
        known.len() == compared.len()
            && self.runs.iter().all(is_same)
            && known.get(at..) == compared.get(at..)
    }

    /// Whether all blanks are filled with what changes nothing else.
    fn holds_tokens(&self, text: &[u8], catalogue: &Catalogue) -> bool {
        let (mut last, mut start) = (LastToken::default(), Start::default());
        let mut seen: &[u8] = b"";
        let known = self.model.text.bytes();
        let are_tokens = self.blanks.iter().all(|blank| {
            let filled = text.get(blank.range.clone()).unwrap_or_default();
            // Most links of a copy have the same token.
            if blank.in_link.is_some() && filled == seen {
                return true;
            }
            let Ok(token) = std::str::from_utf8(filled) else { return false };
            if blank.in_link.is_none() {
                return token.bytes().all(|byte| Class::of(byte).is_of_a_token())
                    && !link::offers_a_choice(token);
            }
            seen = filled;
            last.is_silent(token) && !catalogue.may_tell_a_link_by(token)
        });
        are_tokens && self.links.iter().all(|link| link.is_told_alike(known, text, catalogue, &mut start))
    }

    /// What a copy with this text differs in, as far as that must be read.
    fn changes(&self, text: &[u8]) -> Vec<Edit> {
        let is_read = |blank: &&Blank| !self.is_known(blank.place);
        let change = |blank: &Blank| {
            let filled = text.get(blank.range.clone()).unwrap_or_default();
            Edit::replace(blank.range.clone(), filled)
        };
        self.blanks.iter().filter(is_read).map(change).collect()
    }

    fn stretches<'t>(
        &'t self,
        text: &'t [u8],
        changes: &[Edit],
        inquiry: (Option<&str>, Extent, Links),
    ) -> Option<Vec<Stretch<'t>>> {
        let besides = Besides { left_out: &self.is_known, weighed: None };
        self.model.trail.stretches(text, changes, inquiry, besides)
    }

    /// What is found in a copy with this text, links aside of which all is known. `None` where it must be read as a
    /// whole.
    pub(in crate::tracker) fn read<'t>(
        &'t self,
        text: &'t [u8],
        inquiry: (Option<&str>, Extent, Links),
    ) -> Option<Filled<'t>> {
        let trail = &self.model.trail;
        let changes = self.changes(text);
        let mut stretches = self.stretches(text, &changes, inquiry)?;
        let others = trail.others_in(&stretches, &self.looked)?;
        let plain = trail.plain(&mut stretches, text, &changes, inquiry.0);
        let is_open = |number: &usize| !self.is_known(*number);
        let mut places = Vec::with_capacity(self.is_known.len() - self.links.len());
        let mut next = 0;
        for stretch in stretches {
            match stretch {
                Stretch::Passed(passed) => {
                    let numbers = passed.found.start.places..passed.found.end.places;
                    next = numbers.end;
                    places.extend(numbers.filter(is_open).zip(passed.places));
                }
                Stretch::Read(read) => {
                    places.extend((next..).zip(read.found.places).filter(|(number, _)| is_open(number)));
                }
            }
        }
        let (numbers, places) = places.into_iter().unzip();
        Some(Filled { numbers, found: Found { places, plain, links: trail.links_counted() }, others })
    }

    fn is_known(&self, number: usize) -> bool {
        self.is_known.get(number).copied().unwrap_or(false)
    }

    /// The links of which all is known, sorted by the numbers of their places.
    pub(in crate::tracker) fn links(&self) -> &[KnownLink] {
        &self.links
    }

    /// The trail of a pass over a copy, in which the places to be weighed had these signals by themselves.
    pub(in crate::tracker) fn walked(
        self: &Arc<Form>,
        numbers: &[usize],
        by_themselves: &[Signals],
        others: Vec<(usize, Place<'static>)>,
    ) -> Walked {
        let mut signals = vec![Signals::default(); self.is_known.len()];
        for (number, weighed) in numbers.iter().zip(by_themselves) {
            signals.get_mut(*number).into_iter().for_each(|place| *place = *weighed);
        }
        Walked::OfForm(Arc::clone(self), Weighed { signals, others })
    }
}

impl Walked {
    /// The form of which the text is a copy.
    pub(in crate::tracker) fn form(&self) -> Option<&Form> {
        match self {
            Walked::Alone(_) => None,
            Walked::OfForm(form, _) => Some(form),
        }
    }

    /// The trail, and what is known besides.
    pub(in crate::tracker) fn trail(&self) -> (&Trail, Besides<'_>) {
        match self {
            Walked::Alone(trail) => (trail, Besides::default()),
            Walked::OfForm(form, weighed) => {
                (&form.model.trail, Besides { weighed: Some(weighed), ..Besides::default() })
            }
        }
    }
}

/// A link of which all is known in each copy but the token that fills its blank, if it has one.
fn known_link(
    detector: &Detector,
    text: &[u8],
    leaf: &Leaf,
    (number, place): (usize, &Place<'static>),
    blanks: &[&Blank],
) -> Option<KnownLink> {
    let token = match blanks {
        [] => None,
        [blank] => {
            let in_link = blank.in_link.clone()?;
            let told_by = detector.catalogue.told_by(place.url.as_str(), &in_link)?;
            let tells = told_by.saturating_sub(in_link.start);
            Some(TokenOfLink { in_text: blank.range.clone(), in_address: in_link, tells })
        }
        [_, _, ..] => return None,
    };
    let mut place = place.clone();
    let weighed = judge::weigh_for_anybody(&mut place).filter(|_| place.carrier == Carrier::Anchor)?;
    let sighting = detector.sighting(text, &place, &weighed, (Position::default(), leaf), &Traces::default());
    (sighting.verdict != Verdict::Personal).then_some(KnownLink { number, sighting, token })
}
