//! Edits that copies of a form have in common: what they come to in each body, and what is found after them.
//!
//! What one reader alone gets (a gate, the link of a notice) comes once, so little is kept of it: what is found is
//! asked only of edits that come again.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use super::Form;
use crate::message::Leaf;
use crate::message::transfer::Edit;
use crate::near::Near;
use crate::tracker::analysis::{Position, Sighting, owned};
use crate::tracker::carrier::Carrier;
use crate::tracker::scan::besides::Weighed;
use crate::tracker::scan::blanks::holds;
use crate::tracker::scan::changes::Changes;
use crate::tracker::scan::{Extent, Links, Place, places_with_trail};
use crate::tracker::signal::Signals;

/// How many lists of edits are kept of a form.
const MOST: usize = 3;
/// How many places of one element with one address are compared.
const ALIKE: usize = 8;
/// How many lists are taken in at all, while none of those that are kept comes again.
const CHANCES: u8 = 32;

/// The lists of edits that are kept.
#[derive(Debug)]
pub(super) struct Kept {
    all: RwLock<Vec<Arc<Edited>>>,
    chances: AtomicU8,
}

impl Default for Kept {
    fn default() -> Kept {
        Kept { all: RwLock::default(), chances: AtomicU8::new(CHANCES) }
    }
}

/// A list of edits.
#[derive(Debug)]
pub(in crate::tracker) struct Edited {
    /// Edits of the text, as they were asked for.
    of_text: Vec<Edit>,
    /// The edits of the body that they become.
    of_body: Vec<Edit>,
    came_again: AtomicBool,
    /// What those come to in the text, and what is found after them; `None` where that hangs on the copy.
    seen: OnceLock<Option<Seen>>,
}

/// What is found in a text after edits, whatever fills its blanks.
#[derive(Debug)]
struct Seen {
    charset: String,
    extent: Extent,
    /// How the places of the text were weighed by themselves.
    signals: Vec<Signals>,
    found: Vec<Sighting>,
}

impl Edited {
    /// Whether these are the edits of the message that it becomes, where the body of a leaf is the one of the form.
    fn is_in_message(&self, edits: &[Edit], leaf: &Leaf) -> bool {
        let start = leaf.body.start;
        let is_at = |known: &Edit, edit: &Edit| {
            known.range.start + start == edit.range.start
                && known.range.end + start == edit.range.end
                && known.with == edit.with
        };
        self.of_body.len() == edits.len()
            && self.of_body.iter().zip(edits).all(|(known, edit)| is_at(known, edit))
    }

    fn size(&self) -> usize {
        let edits = self.of_text.iter().chain(&self.of_body);
        edits.map(|edit| size_of::<Edit>() + edit.with.len()).sum()
    }
}

impl Form {
    /// The edits of the body that these edits of the text become. `write` says it where it is not known.
    pub(in crate::tracker) fn to_body(
        &self,
        edits: Vec<Cow<'_, Edit>>,
        write: impl FnOnce(Vec<Edit>) -> Vec<Edit>,
    ) -> Vec<Edit> {
        if !self.is_encoded() || !self.stand_apart(&edits) {
            return write(owned(edits));
        }
        let are_these = |edited: &Edited| edited.of_text.iter().eq(edits.iter().map(Cow::as_ref));
        let known = self.edited(are_these);
        if let Some(known) = known {
            known.came_again.store(true, Ordering::Relaxed);
            return known.of_body.clone();
        }
        let edits = owned(edits);
        if !self.takes_another() {
            return write(edits);
        }
        let of_body = write(edits.clone());
        let (came_again, seen) = (AtomicBool::new(false), OnceLock::new());
        self.keep(Edited { of_text: edits, of_body: of_body.clone(), came_again, seen });
        of_body
    }

    /// What is found in a text after these edits of the message, where that is known whatever fills the blanks.
    /// `weighed` is how its places are.
    pub(in crate::tracker) fn found_after(
        &self,
        edits: &[Edit],
        weighed: &Weighed,
        (leaf, position): (&Leaf, Position),
        extent: Extent,
    ) -> Option<Vec<Sighting>> {
        let edited = self.edited(|edited| edited.is_in_message(edits, leaf))?;
        let seen = edited.seen.get()?.as_ref()?;
        let is_alike =
            seen.extent == extent && seen.charset == leaf.charset && seen.signals == weighed.signals;
        let of_copy = |known: &Sighting| known.of_copy(known.url.clone(), leaf, position);
        is_alike.then(|| seen.found.iter().map(of_copy).collect())
    }

    /// Notes what was `found` in a text after these edits of the message, if they come again and it hangs on nothing
    /// that fills a blank. They come to `changes` of the text, which make it `new`.
    pub(in crate::tracker) fn note_found_after(
        &self,
        edits: &[Edit],
        weighed: &Weighed,
        (changes, new): (&[Edit], &[u8]),
        leaf: &Leaf,
        (extent, extent_of_walk): (Extent, Extent),
        found: &[Sighting],
    ) {
        let edited = self.edited(|edited| edited.is_in_message(edits, leaf));
        let Some(edited) = edited.filter(|edited| edited.came_again.load(Ordering::Relaxed)) else { return };
        edited.seen.get_or_init(|| {
            let size: usize = found.iter().map(|sighting| size_of::<Sighting>() + sighting.size()).sum();
            let has_room = size + size_of_val(weighed.signals.as_slice()) <= self.room / (2 * MOST);
            let base = leaf.base.as_deref();
            (has_room && self.leaves_blanks(changes, new, (base, extent_of_walk))).then(|| Seen {
                charset: leaf.charset.clone(),
                extent,
                signals: weighed.signals.clone(),
                found: found.to_vec(),
            })
        });
    }

    /// Whether a pass over a text after these changes goes over what fills the blanks that are left, and finds nothing
    /// but what stood there before, places of links aside.
    fn leaves_blanks(&self, changes: &[Edit], new: &[u8], (base, extent): (Option<&str>, Extent)) -> bool {
        let (found, trail) = places_with_trail(new, base, extent, Links::Note);
        let Some(trail) = trail else { return false };
        let moves = Changes::of(changes);
        let mut known: HashMap<(Range<usize>, &str), Vec<&Place<'_>>> = HashMap::new();
        let with_blanks: HashSet<usize> = self.blanks.iter().map(|blank| blank.place).collect();
        for (number, place) in self.model.trail.places().iter().enumerate() {
            if place.carrier != Carrier::Anchor && !with_blanks.contains(&number) {
                let moved = moves.moved_range(&place.range);
                known.entry((moved, place.url.as_str())).or_default().push(place);
            }
        }
        let stood_there = |place: &Place<'_>| {
            let there = known.get(&(place.range.clone(), place.url.as_str()));
            let is_it = |known: &&Place<'_>| {
                known.carrier == place.carrier
                    && known.url == place.url
                    && known.size == place.size
                    && known.signals == place.signals
            };
            place.carrier == Carrier::Anchor || there.is_some_and(|there| there.iter().take(ALIKE).any(is_it))
        };
        if !found.places.iter().all(stood_there) {
            return false;
        }
        let trail = trail.with_found(&found);
        self.blanks.iter().all(|blank| {
            let at = changes.partition_point(|change| change.range.end < blank.range.end);
            let is_gone = changes.get(at).is_some_and(|change| holds(&change.range, &blank.range));
            let is_left = || {
                let moved = moves.moved_range(&blank.range);
                !moves.touch(&blank.range) && trail.is_blank_of_link(new, &moved)
            };
            is_gone || is_left()
        })
    }

    /// Whether no edit begins right behind what fills a blank, or takes a part of it: each is written alike in all
    /// copies.
    fn stand_apart(&self, edits: &[Cow<'_, Edit>]) -> bool {
        let near = Near::default();
        edits.iter().map(|edit| &edit.range).all(|range| {
            let behind = near.parted(&self.blanks, |blank| blank.range.end < range.start);
            let blanks = self.blanks.get(behind..).unwrap_or_default();
            let mut touched =
                blanks.iter().take_while(|blank| blank.range.start < range.end.max(range.start + 1));
            touched.all(|blank| range.start <= blank.range.start && blank.range.end <= range.end)
        })
    }

    /// The list of edits for which this holds.
    fn edited(&self, is_it: impl Fn(&Edited) -> bool) -> Option<Arc<Edited>> {
        // Whoever panicked left a whole list behind.
        let all = self.edited.all.read().unwrap_or_else(PoisonError::into_inner);
        all.iter().find(|edited| is_it(edited)).cloned()
    }

    /// Whether another list is taken in.
    fn takes_another(&self) -> bool {
        let takes = |left: u8| left.checked_sub(1);
        self.edited.chances.fetch_update(Ordering::Relaxed, Ordering::Relaxed, takes).is_ok()
    }

    fn keep(&self, edited: Edited) {
        if edited.size() > self.room / (2 * MOST) {
            return;
        }
        let mut all = self.edited.all.write().unwrap_or_else(PoisonError::into_inner);
        let comes_once = |known: &Arc<Edited>| !known.came_again.load(Ordering::Relaxed);
        if all.len() < MOST {
            all.push(Arc::new(edited));
        } else if let Some(at) = all.iter().position(comes_once) {
            all.remove(at);
            all.push(Arc::new(edited));
        }
    }
}
