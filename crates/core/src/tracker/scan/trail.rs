//! What a pass over a text leaves behind, so that a text which differs in a few places need not be read again
//! as a whole.
//!
//! A pass is deterministic: from the same state, the same bytes lead to the same places. Its state is noted
//! every few kilobytes. Over the other text, a pass begins at a note before each change, and ends at the first
//! one behind it at which both passes are in the same state. Promised: the places of a pass over all of it.
//! Where something has a say about the whole text (a `base`, variables, a second reading), there is no trail,
//! and all of it is read; where a style sheet is among what differs, too. What differs within the quotes of a
//! link's address is not read at all: a pass without links reads over it.

use std::cell::OnceCell;
use std::ops::Range;
use std::sync::Arc;

use super::{
    Extent, Found, Links, MAX_SHEETS, Open, Place, PlainPicture, Region, Sheets, Walk, base_of, decoded,
};
use crate::message::transfer::Edit;
use crate::tracker::carrier::Carrier;
use crate::tracker::html::Tokenizer;
use crate::tracker::signal::Signals;
use crate::tracker::url::Url;

/// How far apart notes are, in bytes.
const EVERY: usize = 2048;
/// How far behind a token the tokenizer looks to find its end.
const BEHIND_TOKEN: usize = 32;

/// The notes of one pass.
#[derive(Clone, Debug, Default)]
pub struct Trail {
    points: Vec<Point>,
    /// The elements that are open at the points, one point's after the other's.
    open: Vec<Open>,
    /// Where the contents of style sheets stand, and whether each holds in some media only.
    sheets: Vec<(Range<usize>, bool)>,
    /// What they say, where they were asked.
    said: Option<Arc<Sheets>>,
    /// The places, as they were weighed by themselves.
    places: Vec<Place<'static>>,
    /// The elements of plain pictures, and where their addresses stand.
    plain: Vec<(Range<usize>, Range<usize>)>,
}

/// The state of a pass behind a token.
#[derive(Clone, Debug)]
struct Point {
    at: usize,
    region: Region,
    /// Which of the trail's open elements are open here.
    open: Range<usize>,
    /// How much was found up to here.
    found: Count,
    /// How many style sheets were read.
    sheets: usize,
    /// How far was looked behind the places.
    looked: usize,
}

/// So many places and plain pictures.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    places: usize,
    plain: usize,
}

/// Places of the other text.
#[derive(Debug)]
pub enum Stretch<'a> {
    /// Known ones, of a stretch in which nothing differs, with the signals of each by itself.
    Known(Vec<Place<'a>>),
    /// Ones that were read.
    Read(Vec<Place<'a>>),
}

/// What the other text loads.
#[derive(Debug, Default)]
pub struct Anew<'a> {
    /// Its places, in their order.
    pub places: Vec<Stretch<'a>>,
    plain: Vec<Plain<'a>>,
}

#[derive(Debug)]
enum Plain<'a> {
    Known(Range<usize>),
    Read(Vec<PlainPicture<'a>>),
}

/// The changes that lead from one text to the other: ranges of the first, and what stands there in the other.
struct Changes<'c> {
    edits: &'c [Edit],
    /// How much longer the text is behind each of them.
    shifts: Vec<isize>,
}

impl<'c> Changes<'c> {
    fn of(edits: &'c [Edit]) -> Changes<'c> {
        let mut shift = 0isize;
        let shifts = edits.iter().map(|edit| {
            shift += edit.with.len() as isize - edit.range.len() as isize;
            shift
        });
        Changes { shifts: shifts.collect(), edits }
    }

    /// Where something that no change touches stands in the other text.
    fn moved(&self, at: usize) -> usize {
        let before = self.edits.partition_point(|edit| edit.range.end <= at);
        let shift = before.checked_sub(1).and_then(|last| self.shifts.get(last)).copied().unwrap_or(0);
        at.saturating_add_signed(shift)
    }

    /// Where something stands that no change touches, but for ones that lie well within it.
    fn moved_range(&self, range: &Range<usize>) -> Range<usize> {
        let start = self.moved(range.start);
        let end = if self.touch(range) { self.moved(range.end) } else { start + range.len() };
        start..end
    }

    /// Whether one of them lies in `range`, or within reach of its inside.
    fn touch(&self, range: &Range<usize>) -> bool {
        let before = self.edits.partition_point(|edit| edit.range.end <= range.start);
        self.edits.get(before).is_some_and(|edit| edit.range.start < range.end)
    }
}

impl<'a> Walk<'a> {
    /// Notes the state behind the token that was just read, where nothing is pending. The pass goes on.
    pub(super) fn leave_point(&mut self, tokens: &Tokenizer<'a>, open: &[Open]) -> bool {
        let Some(trail) = &mut self.trail else {
            self.stop = usize::MAX;
            return false;
        };
        let at = tokens.range().end;
        if self.picture.is_none() && tokens.is_at_rest() {
            self.stop = at + EVERY;
            let first = trail.open.len();
            trail.open.extend_from_slice(open);
            trail.points.push(Point {
                at,
                region: self.region,
                open: first..trail.open.len(),
                found: Count { places: self.found.places.len(), plain: self.found.plain.len() },
                sheets: self.sheet_ranges.len(),
                looked: self.looked.get(),
            });
        }
        false
    }

    /// The trail of a pass that read all of a text, where nothing in it has a say about what stands before it.
    pub(super) fn whole_trail(&mut self) -> Option<Trail> {
        let trail = self.trail.take()?;
        let is_local = !self.has_global_say() && self.sheet_ranges.len() < MAX_SHEETS;
        is_local.then(|| Trail {
            sheets: self.sheet_ranges.clone(),
            said: self.sheets.get().cloned(),
            ..trail
        })
    }

    /// Whether something was read that matters to more than what follows it.
    fn has_global_say(&self) -> bool {
        self.uses_variables || self.found_base || self.is_ambiguous || self.styled > 0
    }
}

impl Trail {
    /// Takes in what was found, with the signals of each place as it was weighed by itself.
    #[must_use]
    pub fn with(self, found: Found<'_>, weighed: &[Signals]) -> Trail {
        let plain = found.plain.iter().map(|picture| (picture.range.clone(), picture.written.clone()));
        let plain = plain.collect();
        let places = found.places.into_iter().zip(weighed).map(|(place, signals)| Place {
            carrier: place.carrier,
            // Links are passed over.
            url: if place.carrier == Carrier::Anchor { Url::default() } else { place.url.into_owned() },
            range: place.range,
            written: place.written,
            removal: place.removal,
            size: place.size,
            signals: *signals,
            picture: place.picture,
        });
        Trail { places: places.collect(), plain, ..self }
    }

    /// Finds the places of `new`, which is the text of the trail but for these changes: sorted, not
    /// overlapping. Links are passed over. `None` where all of it must be read.
    pub fn places_anew<'n>(
        &'n self,
        new: &'n [u8],
        changes: &[Edit],
        base: Option<&str>,
        extent: Extent,
    ) -> Option<Anew<'n>> {
        let moves = Changes::of(changes);
        let starts: Option<Vec<Start>> = changes
            .iter()
            .filter(|change| !self.is_within_a_link(change, new, &moves))
            .map(|change| Some(Start { point: self.start_for(change)?, end: change.range.end }))
            .collect();
        let starts = starts?;
        let mut anew = Anew::default();
        let mut known = Count::default();
        let mut first = 0;
        while let Some(start) = starts.get(first).and_then(|start| self.points.get(start.point)) {
            anew.know(self, &moves, known..start.found);
            let mut walk = self.walk_from(start, new, &moves, base, extent);
            let open = self.open_at(start, &moves);
            let sheets = walk.sheet_ranges.len();
            let mut meeting =
                Meeting { trail: self, moves: &moves, starts: &starts, last: first, next: 0, met: None };
            walk.markup_until(moves.moved(start.at)..new.len(), open, Some(&mut meeting));
            // Style sheets matter to all of a text: they must be the same ones.
            let sheets_there = meeting.met.map_or(self.sheets.len(), |point| point.sheets);
            if walk.has_global_say() || walk.sheet_ranges.len() != sheets || sheets_there != start.sheets {
                return None;
            }
            anew.places.push(Stretch::Read(walk.found.places));
            anew.plain.push(Plain::Read(walk.found.plain));
            let Some(point) = meeting.met else { return Some(anew) };
            known = point.found;
            first = meeting.last + 1;
        }
        anew.know(self, &moves, known..Count { places: self.places.len(), plain: self.plain.len() });
        Some(anew)
    }

    /// The last point from which on a change is seen: what stands before it was read without a look at what
    /// is changed.
    fn start_for(&self, change: &Edit) -> Option<usize> {
        let start = change.range.start;
        let before = self.points.partition_point(|point| point.at + BEHIND_TOKEN <= start);
        let points = self.points.get(..before)?;
        points.iter().rposition(|point| point.looked <= start)
    }

    /// Whether a change lies within the quotes of a link's address and leaves it within them: nothing but a pass
    /// for links reads what stands there.
    fn is_within_a_link(&self, change: &Edit, new: &[u8], moves: &Changes<'_>) -> bool {
        let changed = &change.range;
        let first = self.places.partition_point(|place| place.range.end < changed.end);
        let link = self.places.get(first).filter(|place| place.carrier == Carrier::Anchor);
        let Some(written) = link.and_then(|link| link.written.as_ref()) else { return false };
        let quote = written.start.checked_sub(1).and_then(|before| new.get(moves.moved(before)));
        let is_quoted = matches!(quote, Some(b'"' | b'\'')) && quote == new.get(moves.moved(written.end));
        let is_harmful = |byte: &u8| matches!(byte, 0..=b' ' | b'"' | b'\'' | b'<' | b'>' | b'`' | 0x7f..);
        // Nothing was looked for in what stands there from elsewhere.
        let next = self.points.partition_point(|point| point.at < changed.end);
        let is_unseen = self.points.get(next).is_some_and(|point| point.looked <= changed.start);
        written.start <= changed.start
            && changed.end <= written.end
            && is_quoted
            && is_unseen
            // All bytes are looked at, which is quicker than to stop at one.
            && !change.with.iter().fold(false, |any, byte| any | is_harmful(byte))
    }

    fn walk_from<'n>(
        &'n self,
        point: &Point,
        new: &'n [u8],
        moves: &Changes<'_>,
        base: Option<&str>,
        extent: Extent,
    ) -> Walk<'n> {
        let sheets = self.sheets.iter().map(|(range, is_limited)| (moves.moved_range(range), *is_limited));
        Walk {
            base: base_of(base),
            region: point.region,
            sheet_ranges: sheets.collect(),
            sheets: self.said.clone().map(OnceCell::from).unwrap_or_default(),
            asks_sheets: !self.sheets.is_empty(),
            ..Walk::new(new, extent, Links::Ignore)
        }
    }

    /// The elements that are open at a point, where they stand in the other text.
    fn open_at(&self, point: &Point, moves: &Changes<'_>) -> Vec<Open> {
        let open = self.open.get(point.open.clone()).unwrap_or_default().iter();
        let open = open.map(|open| {
            let tag = moves.moved_range(&(open.tag..open.tag_end));
            Open { tag: tag.start, tag_end: tag.end, ..*open }
        });
        open.collect()
    }
}

/// Where a pass for a change begins.
struct Start {
    /// The number of the point.
    point: usize,
    /// Where the change ends in the text of the trail.
    end: usize,
}

/// The look-out of a pass for a point of the trail at which it is in the same state.
pub(super) struct Meeting<'t, 'c> {
    trail: &'t Trail,
    moves: &'t Changes<'c>,
    /// For each change that is read, where that begins.
    starts: &'t [Start],
    /// The last change that this pass goes over.
    last: usize,
    /// The next point to meet at.
    next: usize,
    /// The point at which it met the other pass.
    met: Option<&'t Point>,
}

impl Meeting<'_, '_> {
    /// Whether the pass has come to a point of the trail in the same state. Says where to look next.
    pub(super) fn meets(&mut self, walk: &mut Walk<'_>, tokens: &Tokenizer<'_>, open: &[Open]) -> bool {
        let at = tokens.range().end;
        while let Some(point) = self.trail.points.get(self.next) {
            if self.starts.get(self.last + 1).is_some_and(|start| self.next > start.point) {
                // The next change is so near that this pass goes over it, too.
                self.last += 1;
                continue;
            }
            if self.starts.get(self.last).is_none_or(|start| point.at < start.end) {
                self.next += 1;
                continue;
            }
            let there = self.moves.moved(point.at);
            if at < there {
                walk.stop = there;
                return false;
            }
            self.next += 1;
            if at == there && self.is_same(point, walk, tokens, open) {
                self.met = Some(point);
                return true;
            }
        }
        walk.stop = usize::MAX;
        false
    }

    fn is_same(&self, point: &Point, walk: &Walk<'_>, tokens: &Tokenizer<'_>, open: &[Open]) -> bool {
        let known = self.trail.open.get(point.open.clone()).unwrap_or_default();
        walk.picture.is_none()
            && tokens.is_at_rest()
            && walk.region == point.region
            && known.len() == open.len()
            && known.iter().zip(open).all(|(known, open)| {
                let tag = known.tag..known.tag_end;
                !self.moves.touch(&tag) && self.moves.moved_range(&tag) == (open.tag..open.tag_end)
            })
    }
}

impl<'a> Anew<'a> {
    /// Takes in what is known of a stretch in which nothing differs.
    fn know(&mut self, trail: &'a Trail, moves: &Changes<'_>, found: Range<Count>) {
        let places = trail.places.get(found.start.places..found.end.places).unwrap_or_default();
        let places = places.iter().filter(|place| place.carrier != Carrier::Anchor).map(|place| Place {
            url: place.url.borrowed(),
            range: moves.moved_range(&place.range),
            written: place.written.as_ref().map(|written| moves.moved_range(written)),
            removal: place.removal.clone(),
            picture: place.picture.map(|start| moves.moved(start)),
            carrier: place.carrier,
            size: place.size,
            signals: place.signals,
        });
        self.places.push(Stretch::Known(places.collect()));
        self.plain.push(Plain::Known(found.start.plain..found.end.plain));
    }

    /// The plain pictures of the other text.
    pub fn plain(
        &mut self,
        trail: &Trail,
        new: &'a [u8],
        changes: &[Edit],
        base: Option<&str>,
    ) -> Vec<PlainPicture<'a>> {
        let moves = Changes::of(changes);
        let base = base_of(base);
        let mut all = Vec::with_capacity(trail.plain.len());
        for plain in self.plain.drain(..) {
            match plain {
                Plain::Read(plain) => all.extend(plain),
                Plain::Known(known) => {
                    let known = trail.plain.get(known).unwrap_or_default().iter();
                    all.extend(known.filter_map(|(range, written)| {
                        let written = moves.moved_range(written);
                        let value = decoded(new.get(written.clone())?);
                        let url = Url::read(value, base.as_ref())?;
                        Some(PlainPicture { url, range: moves.moved_range(range), written })
                    }));
                }
            }
        }
        all
    }
}
