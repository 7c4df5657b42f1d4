//! The blanks of a text: where its copies have tokens of their own, and all else is the same.

use std::borrow::Cow;
use std::ops::Range;

use super::changes::Changes;
use super::trail::{Count, Read, Stretch, Trail};
use super::{Links, Place, decoded};
use crate::message::transfer::Edit;
use crate::near::Near;
use crate::tracker::carrier::Carrier;
use crate::tracker::class::Class;

/// The place of a token, within the quotes of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blank {
    /// Where it stands in the text.
    pub range: Range<usize>,
    /// The number of the place whose address it is part of.
    pub place: usize,
    /// Where it stands in the address, if that is the one of a link and known to say the same with other tokens.
    pub in_link: Option<Range<usize>>,
}

impl Trail {
    /// The places: with what the pass found, in a trail that has that.
    pub fn places(&self) -> &[Place<'static>] {
        &self.places
    }

    /// How many links the text has with a token or with an address within them.
    pub fn links_counted(&self) -> usize {
        self.found.links
    }

    /// The blanks of `text`, which is the one of the trail, where a copy differs in these changes; sorted, not
    /// overlapping. `None` where it differs in anything else.
    pub fn blanks(&self, text: &[u8], changes: &[Edit]) -> Option<Vec<Blank>> {
        let stands_in = |change: &Edit| {
            let holds = |written: &Range<usize>| holds(written, &change.range);
            change.range.len() == change.with.len()
                && self.places.iter().any(|place| place.written.as_ref().is_some_and(holds))
        };
        if !changes.iter().all(stands_in) {
            return None;
        }
        let of_link =
            |(number, token): (usize, Option<&Range<usize>>)| Some(self.blank_of_link(text, number, token?));
        let tokens = self.tokens.iter().map(|token| token.get()).enumerate();
        let mut blanks = tokens.filter_map(of_link).collect::<Option<Vec<Blank>>>()?;
        for change in changes {
            let holds = |blank: &Blank| holds(&blank.range, &change.range);
            if !blanks.iter().any(holds) {
                blanks.push(self.blank_around(text, &change.range)?);
            }
        }
        blanks.sort_by_key(|blank| blank.range.start);
        let are_apart = blanks.array_windows().all(|[one, next]| one.range.end <= next.range.start);
        are_apart.then_some(blanks)
    }

    fn blank_of_link(&self, text: &[u8], place: usize, token: &Range<usize>) -> Option<Blank> {
        let known = self.places.get(place)?;
        let written = known.written.as_ref()?;
        let Cow::Borrowed(value) = decoded(text.get(written.clone())?) else { return None };
        let url = known.url.with_token(value, token)?;
        let start = written.end - url.as_str().len();
        let range = start + token.start..start + token.end;
        self.is_blank_of_link(text, &range).then(|| Blank { range, place, in_link: Some(token.clone()) })
    }

    /// Whether nothing but a link hangs on the letters, digits, hyphens and underscores that stand at `range` of
    /// `text`, which is the one of this trail with what its pass found.
    pub fn is_blank_of_link(&self, text: &[u8], range: &Range<usize>) -> bool {
        let same = Edit::replace(range.clone(), text.get(range.clone()).unwrap_or_default());
        self.is_within_a_link(&same, &Near::default(), text, &Changes::of(&[]), Links::Note)
    }

    /// The token around a change, in the address of any place. Nothing that means anything can begin or end in it.
    fn blank_around(&self, text: &[u8], change: &Range<usize>) -> Option<Blank> {
        let is_of_token = |byte: &u8| Class::of(*byte).is_of_a_token();
        let stands_in = |place: &Place<'_>| {
            place.written.as_ref().is_some_and(|written| holds(written, change) && is_quoted(text, written))
        };
        let place = self.places.iter().position(stands_in)?;
        let (before, behind) = (text.get(..change.start)?, text.get(change.end..)?);
        let start = change.start - before.iter().rev().take_while(|byte| is_of_token(byte)).count();
        let end = change.end + behind.iter().take_while(|byte| is_of_token(byte)).count();
        let is_whole = text.get(start..end)?.iter().all(is_of_token)
            && matches!(text.get(start.checked_sub(1)?)?, b'/' | b'=' | b'.' | b',' | b';' | b':' | b'?')
            && matches!(text.get(end)?, b'/' | b'=' | b'.' | b',' | b';' | b':' | b'?' | b'&' | b'"' | b'\'');
        is_whole.then_some(Blank { range: start..end, place, in_link: None })
    }

    /// Whether these stretches of a copy, which is as long, leave the same trail, but for addresses: says which places
    /// have others. `looked` is how far was looked behind each stretch that was read. `None` where it is another trail.
    pub fn others_in(
        &self,
        stretches: &[Stretch<'_>],
        looked: &[usize],
    ) -> Option<Vec<(usize, Place<'static>)>> {
        let mut others = Vec::new();
        let (mut from, mut point) = (Count::default(), 0);
        let mut looked = looked.iter();
        let mut last: Option<&Read<'_>> = None;
        for stretch in stretches {
            match stretch {
                Stretch::Passed(passed) => {
                    if let Some(read) = last.take() {
                        self.compare(read, from..passed.found.start, &mut others)?;
                        // What was noted where it was read might be another state.
                        (passed.points.start == point).then_some(())?;
                    }
                    (from, point) = (passed.found.end, passed.points.end);
                }
                Stretch::Read(read) => {
                    (*looked.next()? == read.looked).then_some(())?;
                    last = Some(read);
                }
            }
        }
        if let Some(read) = last {
            self.compare(read, from..self.found, &mut others)?;
            (point == self.points.len()).then_some(())?;
        }
        Some(others)
    }

    /// Compares what was read of a stretch with what the trail has of it.
    fn compare(
        &self,
        read: &Read<'_>,
        found: Range<Count>,
        others: &mut Vec<(usize, Place<'static>)>,
    ) -> Option<()> {
        let Range { start, end } = found;
        let (places, plain) =
            (self.places.get(start.places..end.places)?, self.plain.get(start.plain..end.plain)?);
        let is_plain = |(known, found): (&(Range<usize>, Range<usize>), &super::PlainPicture<'_>)| {
            known.0 == found.range && known.1 == found.written
        };
        let is_same = places.len() == read.found.places.len()
            && plain.len() == read.found.plain.len()
            && end.links - start.links == read.found.links
            && plain.iter().zip(&read.found.plain).all(is_plain)
            && places.iter().zip(&read.found.places).all(|(known, found)| is_alike(known, found));
        let differing = (start.places..).zip(places.iter().zip(&read.found.places));
        let differing = differing.filter(|(_, (known, found))| known.url != found.url);
        others.extend(
            differing
                .filter(|(_, (known, _))| known.carrier != Carrier::Anchor)
                .map(|(number, (_, found))| (number, found.clone().into_owned())),
        );
        is_same.then_some(())
    }
}

/// Whether two places are the same but for their addresses.
fn is_alike(known: &Place<'_>, found: &Place<'_>) -> bool {
    known.carrier == found.carrier
        && known.range == found.range
        && known.written == found.written
        && known.removal == found.removal
        && known.size == found.size
        && known.signals == found.signals
        && known.picture == found.picture
}

/// Whether a range lies within another one.
pub fn holds(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

fn is_quoted(text: &[u8], written: &Range<usize>) -> bool {
    let quote = written.start.checked_sub(1).and_then(|before| text.get(before));
    matches!(quote, Some(b'"' | b'\'')) && quote == text.get(written.end)
}
