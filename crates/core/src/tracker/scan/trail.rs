//! What a pass over a text leaves behind, so that a text which differs in a few places need not be read again
//! as a whole.
//!
//! A pass is deterministic: from the same state, the same bytes lead to the same places. Its state is noted
//! every few kilobytes. Over the other text, a pass begins at a note before each change, and ends at the first
//! one behind it at which both passes are in the same state. Promised: the places of a pass over all of it.
//! Where something has a say about the whole text (a `base`, variables, a second reading), there is no trail,
//! and all of it is read; where a style sheet is among what differs, too. What differs within the quotes of a
//! link's address changes nothing but the link: a pass without links reads over it.

use std::cell::OnceCell;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::besides::Besides;
use super::changes::Changes;
use super::{
    Extent, Found, Links, MAX_SHEETS, Open, Place, PlainPicture, Region, Sheets, Walk, base_of, decoded,
};
use crate::message::transfer::Edit;
use crate::near::Near;
use crate::tracker::carrier::Carrier;
use crate::tracker::facts::{self, LastToken};
use crate::tracker::html::Tokenizer;
use crate::tracker::link;
use crate::tracker::signal::{Signal, Signals};
use crate::tracker::url::Url;

/// How far apart notes are, in bytes.
const EVERY: usize = 2048;
/// How far behind a token the tokenizer looks to find its end.
const BEHIND_TOKEN: usize = 32;

/// The notes of one pass.
#[derive(Clone, Debug, Default)]
pub struct Trail {
    pub(super) points: Vec<Point>,
    /// The elements that are open at the points, one point's after the other's.
    open: Vec<Open>,
    /// Where the contents of style sheets stand, and whether each holds in some media only.
    sheets: Vec<(Range<usize>, bool)>,
    /// What they say, where they were asked.
    said: Option<Arc<Sheets>>,
    /// The places: as they were weighed by themselves, and then the links among them have no addresses, or as
    /// the pass found them.
    pub(super) places: Vec<Place<'static>>,
    /// The elements of plain pictures, and where their addresses stand.
    pub(super) plain: Vec<(Range<usize>, Range<usize>)>,
    /// How much was found in all of the text.
    pub(super) found: Count,
    /// How many start tags there are.
    tags: usize,
    /// Where addresses of links start that were looked at from a place before them.
    overlooked: Vec<usize>,
    /// For each place, where its address has the token in which the one of a copy differed, once one did. Only in a
    /// trail with what its pass found.
    pub(super) tokens: Vec<OnceLock<Range<usize>>>,
}

/// The state of a pass behind a token.
#[derive(Clone, Debug)]
pub(super) struct Point {
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
    /// How far the texts of links were looked at.
    looked_for_links: usize,
}

/// So many places, plain pictures and links.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::tracker) struct Count {
    pub(in crate::tracker) places: usize,
    pub(in crate::tracker) plain: usize,
    pub(in crate::tracker) links: usize,
}

impl Count {
    fn of(found: &Found<'_>) -> Count {
        Count { places: found.places.len(), plain: found.plain.len(), links: found.links }
    }
}

/// A stretch of the other text.
#[derive(Debug)]
pub enum Stretch<'a> {
    /// One in which nothing differs but addresses of links, so that only they were.
    Passed(Passed<'a>),
    /// One that was read.
    Read(Read<'a>),
}

/// What the trail says of a stretch.
#[derive(Debug)]
pub struct Passed<'a> {
    /// Its places, with the signals that the trail has for each.
    pub places: Vec<Place<'a>>,
    /// What was found of the trail's text before the stretch, and up to its end.
    pub(in crate::tracker) found: Range<Count>,
    /// The points of the trail in it.
    pub(in crate::tracker) points: Range<usize>,
}

/// What was read of a stretch.
#[derive(Debug)]
pub struct Read<'a> {
    /// What was found.
    pub found: Found<'a>,
    /// How far was looked behind it.
    pub(in crate::tracker) looked: usize,
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
                found: Count::of(&self.found),
                sheets: self.sheet_ranges.len(),
                looked: self.looked.get(),
                looked_for_links: self.looked_for_links,
            });
        }
        false
    }

    /// The link that stands here at `range`, in the place of one of another text, of which nothing but the address
    /// differs. `token` is where in its address copies differ, once one of them did. `None` if it is no link to be
    /// looked at any more.
    fn link_of_copy(
        &mut self,
        place: &Place<'_>,
        range: Range<usize>,
        moves: &Changes<'_>,
        token: Option<&OnceLock<Range<usize>>>,
        last: &mut LastToken,
    ) -> Option<Place<'a>> {
        let known = place.written.as_ref()?;
        // Something may stand in front of what stood at its start.
        let written = moves.moved(known.start.checked_sub(1)?) + 1..moves.moved(known.end);
        if let Some(token) = token.and_then(OnceLock::get)
            && let Some(link) = self.link_with_token(place, range.clone(), written.clone(), token, last)
        {
            return Some(link);
        }
        if !link::may_track(self.text.get(written.clone())?) {
            return None;
        }
        if place.signals.has(Signal::Choice) {
            return self.link_at(range, written);
        }
        let link = self.link_like(place, range, written)?;
        if let (Some(token), Some(_)) = (token, &link.link)
            && !link.signals.has(Signal::Choice)
            && place.url.is_plain()
            && let Some(differs) = facts::differing_token(&place.url, &link.url)
        {
            let _ = token.set(differs);
        }
        Some(link)
    }

    /// The trail of a pass that read all of a text, where nothing in it has a say about what stands before it.
    pub(super) fn whole_trail(&mut self) -> Option<Trail> {
        let trail = self.trail.take()?;
        let is_local = !self.has_global_say() && self.sheet_ranges.len() < MAX_SHEETS;
        is_local.then(|| Trail {
            sheets: self.sheet_ranges.clone(),
            said: self.sheets.get().cloned(),
            found: Count::of(&self.found),
            tags: self.tags,
            overlooked: std::mem::take(&mut self.overlooked),
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
        let places = found.places.into_iter().zip(weighed).map(|(place, signals)| {
            // Links are passed over.
            let url = if place.carrier == Carrier::Anchor { Url::default() } else { place.url };
            Place { url, signals: *signals, link: None, ..place }.into_owned()
        });
        Trail { places: places.collect(), plain, ..self }
    }

    /// The same with what the pass found, before anything of it was weighed but what the addresses of links say.
    #[must_use]
    pub fn with_found(&self, found: &Found<'_>) -> Trail {
        let plain = found.plain.iter().map(|picture| (picture.range.clone(), picture.written.clone()));
        let places = found.places.iter().map(|place| place.clone().into_owned());
        let tokens = vec![OnceLock::new(); found.places.len()];
        Trail { places: places.collect(), plain: plain.collect(), tokens, ..self.clone() }
    }

    /// How many start tags the text has.
    pub fn tags(&self) -> usize {
        self.tags
    }

    /// How many links are among the places.
    pub fn links(&self) -> usize {
        self.places.iter().filter(|place| place.carrier == Carrier::Anchor).count()
    }

    /// About how many bytes it takes.
    pub fn size(&self) -> usize {
        size_of_val(self.points.as_slice())
            + size_of_val(self.open.as_slice())
            + size_of_val(self.places.as_slice())
            + size_of_val(self.tokens.as_slice())
            + size_of_val(self.plain.as_slice())
            + self.places.iter().map(|place| place.url.as_str().len()).sum::<usize>()
            + self
                .places
                .iter()
                .filter_map(|place| place.link.as_ref())
                .map(facts::Known::size)
                .sum::<usize>()
    }

    /// What a pass finds in `new`, which is the text of the trail but for these changes (sorted, not
    /// overlapping), and the trail of that pass. This trail is one with what its pass found, with the same inquiry.
    /// `None` where all of it must be read.
    pub fn copy<'n>(
        &'n self,
        new: &'n [u8],
        changes: &[Edit],
        inquiry: (Option<&str>, Extent, Links),
    ) -> Option<(Found<'n>, Trail)> {
        let (base, _, links) = inquiry;
        if links == Links::Count {
            // Links that are only counted are no places.
            return None;
        }
        let moves = Changes::of(changes);
        let (mut found, mut looked) = (Found::default(), 0);
        let mut trail = Trail {
            sheets: self.moved_sheets(&moves),
            said: self.said.clone(),
            points: Vec::with_capacity(self.points.len()),
            open: Vec::with_capacity(self.open.len()),
            ..Trail::default()
        };
        for stretch in self.stretches(new, changes, inquiry, Besides::default())? {
            match stretch {
                Stretch::Passed(passed) => {
                    for point in self.points.get(passed.points.clone()).unwrap_or_default() {
                        let first = trail.open.len();
                        trail.open.extend(self.open_at(point, &moves));
                        looked = looked.max(moves.moved(point.looked));
                        trail.points.push(Point {
                            at: moves.moved(point.at),
                            region: point.region,
                            open: first..trail.open.len(),
                            found: Count {
                                places: found.places.len() + point.found.places - passed.found.start.places,
                                plain: found.plain.len() + point.found.plain - passed.found.start.plain,
                                links: found.links + point.found.links - passed.found.start.links,
                            },
                            sheets: point.sheets,
                            looked,
                            // What is read of the next copy is read by the trail of this one's model.
                            looked_for_links: usize::MAX,
                        });
                    }
                    self.pass_plain(&passed, &moves, new, base, &mut found.plain);
                    found.links += passed.found.end.links - passed.found.start.links;
                    found.places.extend(passed.places);
                }
                Stretch::Read(read) => {
                    looked = looked.max(read.looked);
                    found.places.extend(read.found.places);
                    found.plain.extend(read.found.plain);
                    found.links += read.found.links;
                }
            }
        }
        trail.found = Count::of(&found);
        Some((found, trail))
    }

    /// The stretches of `new`, which is the text of the trail but for these changes: sorted, not overlapping.
    /// `None` where all of it must be read.
    pub fn stretches<'n>(
        &'n self,
        new: &'n [u8],
        changes: &[Edit],
        inquiry: (Option<&str>, Extent, Links),
        besides: Besides<'n>,
    ) -> Option<Vec<Stretch<'n>>> {
        let (_, _, links) = inquiry;
        let moves = Changes::of(changes);
        let place = Near::default();
        let starts: Option<Vec<Start>> = changes
            .iter()
            .filter(|change| !self.is_within_a_link(change, &place, new, &moves, links))
            .map(|change| Some(Start { point: self.start_for(change, links)?, end: change.range.end }))
            .collect();
        let starts = starts?;
        let mut stretches = Vec::with_capacity(2 * starts.len() + 1);
        let mut known = Count::default();
        let (mut first, mut met) = (0, 0);
        while let Some((index, start)) =
            starts.get(first).and_then(|start| Some((start.point, self.points.get(start.point)?)))
        {
            let of = self.passed(known..start.found, met..index + 1, new, &moves, inquiry, besides)?;
            stretches.push(Stretch::Passed(of));
            let mut walk = self.walk_from(start, new, &moves, inquiry);
            let open = self.open_at(start, &moves);
            let sheets = walk.sheet_ranges.len();
            let mut meeting =
                Meeting { trail: self, moves: &moves, starts: &starts, last: first, next: 0, met: None };
            walk.markup_until(moves.moved(start.at)..new.len(), open.collect(), Some(&mut meeting));
            let end = meeting.met.and_then(|met| Some((met, self.points.get(met)?)));
            // Style sheets matter to all of a text: they must be the same ones.
            let sheets_there = end.map_or(self.sheets.len(), |(_, point)| point.sheets);
            if walk.has_global_say() || walk.sheet_ranges.len() != sheets || sheets_there != start.sheets {
                return None;
            }
            let looked = walk.looked.get();
            stretches.push(Stretch::Read(Read { found: walk.found, looked }));
            let Some((there, point)) = end else { return Some(stretches) };
            (known, met, first) = (point.found, there, meeting.last + 1);
        }
        let of = self.passed(known..self.found, met..self.points.len(), new, &moves, inquiry, besides)?;
        stretches.push(Stretch::Passed(of));
        Some(stretches)
    }

    /// The last point from which on a change is seen: what stands before it was read without a look at what
    /// is changed.
    fn start_for(&self, change: &Edit, links: Links) -> Option<usize> {
        let start = change.range.start;
        let before = self.points.partition_point(|point| point.at + BEHIND_TOKEN <= start);
        let points = self.points.get(..before)?;
        let is_unseen = |point: &Point| {
            point.looked <= start && (links == Links::Ignore || point.looked_for_links <= start)
        };
        points.iter().rposition(is_unseen)
    }

    /// Whether a change lies within the quotes of a link's address and leaves it within them: nothing but the link
    /// hangs on what stands there.
    pub(super) fn is_within_a_link(
        &self,
        change: &Edit,
        place: &Near,
        new: &[u8],
        moves: &Changes<'_>,
        links: Links,
    ) -> bool {
        let changed = &change.range;
        let first = place.parted(&self.places, |place| place.range.end < changed.end);
        let link = self.places.get(first).filter(|place| place.carrier == Carrier::Anchor);
        let Some(written) = link.and_then(|link| link.written.as_ref()) else { return false };
        let quote = written.start.checked_sub(1).and_then(|before| new.get(moves.moved(before)));
        let is_quoted = matches!(quote, Some(b'"' | b'\'')) && quote == new.get(moves.moved(written.end));
        let is_harmful = |byte: &u8| matches!(byte, 0..=b' ' | b'"' | b'\'' | b'<' | b'>' | b'`' | 0x7f..);
        // Nothing was looked for in what stands there from elsewhere.
        let is_unseen = match links {
            Links::Ignore => {
                let next = self.points.partition_point(|point| point.at < changed.end);
                self.points.get(next).is_some_and(|point| point.looked <= changed.start)
            }
            Links::Count | Links::Note => self.overlooked.binary_search(&written.start).is_err(),
        };
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
        (base, extent, links): (Option<&str>, Extent, Links),
    ) -> Walk<'n> {
        Walk {
            base: base_of(base),
            region: point.region,
            sheet_ranges: self.moved_sheets(moves),
            sheets: self.said.clone().map(OnceCell::from).unwrap_or_default(),
            asks_sheets: !self.sheets.is_empty(),
            ..Walk::new(new, extent, links)
        }
    }

    /// The style sheets, where they stand in the other text.
    fn moved_sheets(&self, moves: &Changes<'_>) -> Vec<(Range<usize>, bool)> {
        let sheets = self.sheets.iter().map(|(range, is_limited)| (moves.moved_range(range), *is_limited));
        sheets.collect()
    }

    /// The elements that are open at a point, where they stand in the other text.
    fn open_at(&self, point: &Point, moves: &Changes<'_>) -> impl Iterator<Item = Open> {
        let open = self.open.get(point.open.clone()).unwrap_or_default().iter();
        open.map(|open| {
            let tag = moves.moved_range(&(open.tag..open.tag_end));
            Open { tag: tag.start, tag_end: tag.end, ..*open }
        })
    }

    /// What the trail says of a stretch in which nothing differs but addresses of links, which are read anew where
    /// links are noted. `None` if one of them is none any more.
    fn passed<'n>(
        &'n self,
        found: Range<Count>,
        points: Range<usize>,
        new: &'n [u8],
        moves: &Changes<'_>,
        (base, extent, links): (Option<&str>, Extent, Links),
        besides: Besides<'n>,
    ) -> Option<Passed<'n>> {
        let of_trail = self.places.get(found.start.places..found.end.places).unwrap_or_default();
        let mut places = Vec::with_capacity(of_trail.len());
        let (mut reader, mut last) = (None, LastToken::default());
        let tokens = self.tokens.get(found.start.places..).unwrap_or_default().iter().map(Some);
        let numbered = (found.start.places..).zip(of_trail);
        for ((number, known), token) in numbered.zip(tokens.chain(std::iter::repeat(None))) {
            if known.carrier == Carrier::Anchor && links != Links::Note || besides.leaves_out(number) {
                continue;
            }
            let (place, signals) = besides.place(number, known);
            let range = moves.moved_range(&place.range);
            if let Some(written) = place.written.as_ref().filter(|_| place.carrier == Carrier::Anchor)
                && moves.touch(&(written.start.saturating_sub(1)..written.end + 1))
            {
                let reader = reader
                    .get_or_insert_with(|| Walk { base: base_of(base), ..Walk::new(new, extent, links) });
                places.push(reader.link_of_copy(place, range, moves, token, &mut last)?);
                continue;
            }
            places.push(Place {
                carrier: place.carrier,
                url: place.url.borrowed(),
                range,
                written: place.written.as_ref().map(|written| moves.moved_range(written)),
                removal: place.removal.moved(|range| moves.moved_range(range)),
                size: place.size,
                signals,
                picture: place.picture.map(|start| moves.moved(start)),
                link: place.link.clone(),
            });
        }
        Some(Passed { places, found, points })
    }

    /// The plain pictures of a stretch that was passed.
    fn pass_plain<'n>(
        &self,
        passed: &Passed<'_>,
        moves: &Changes<'_>,
        new: &'n [u8],
        base: Option<&str>,
        all: &mut Vec<PlainPicture<'n>>,
    ) {
        let base = base_of(base);
        let plain = self.plain.get(passed.found.start.plain..passed.found.end.plain).unwrap_or_default();
        all.extend(plain.iter().filter_map(|(range, written)| {
            let written = moves.moved_range(written);
            let url = Url::read(decoded(new.get(written.clone())?), base.as_ref())?;
            Some(PlainPicture { url, range: moves.moved_range(range), written })
        }));
    }

    /// The plain pictures of the other text.
    pub fn plain<'n>(
        &self,
        stretches: &mut [Stretch<'n>],
        new: &'n [u8],
        changes: &[Edit],
        base: Option<&str>,
    ) -> Vec<PlainPicture<'n>> {
        let moves = Changes::of(changes);
        let mut all = Vec::with_capacity(self.plain.len());
        for stretch in stretches {
            match stretch {
                Stretch::Passed(passed) => self.pass_plain(passed, &moves, new, base, &mut all),
                Stretch::Read(read) => all.append(&mut read.found.plain),
            }
        }
        all
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
    /// The number of the point at which it met the other pass.
    met: Option<usize>,
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
                self.met = Some(self.next - 1);
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
