//! Where what stands in one text stands in another one, to which a few changes lead.

use std::ops::Range;

use crate::message::transfer::Edit;
use crate::near::Near;

/// The changes that lead from one text to the other: ranges of the first, and what stands there in the other.
pub(in crate::tracker) struct Changes<'c> {
    edits: &'c [Edit],
    /// How much longer the text is behind each of them; none where all stands where it stood.
    shifts: Vec<isize>,
    near: Near,
}

impl<'c> Changes<'c> {
    pub(in crate::tracker) fn of(edits: &'c [Edit]) -> Changes<'c> {
        if edits.iter().all(|edit| edit.with.len() == edit.range.len()) {
            return Changes { edits, shifts: Vec::new(), near: Near::default() };
        }
        let mut shift = 0isize;
        let shifts = edits.iter().map(|edit| {
            shift += edit.with.len() as isize - edit.range.len() as isize;
            shift
        });
        Changes { shifts: shifts.collect(), edits, near: Near::default() }
    }

    /// How many of them end at or before a place.
    fn ended(&self, at: usize) -> usize {
        self.near.parted(self.edits, |edit| edit.range.end <= at)
    }

    /// Where something that no change touches stands in the other text.
    pub(in crate::tracker) fn moved(&self, at: usize) -> usize {
        if self.shifts.is_empty() {
            return at;
        }
        let before = self.ended(at);
        let shift = before.checked_sub(1).and_then(|last| self.shifts.get(last)).copied().unwrap_or(0);
        at.saturating_add_signed(shift)
    }

    /// Where something stands that no change touches, but for ones that lie well within it.
    pub(in crate::tracker) fn moved_range(&self, range: &Range<usize>) -> Range<usize> {
        if self.shifts.is_empty() {
            return range.clone();
        }
        let start = self.moved(range.start);
        let end = if self.touch(range) { self.moved(range.end) } else { start + range.len() };
        start..end
    }

    /// Whether one of them lies in `range`, or within reach of its inside.
    pub(in crate::tracker) fn touch(&self, range: &Range<usize>) -> bool {
        let before = self.ended(range.start);
        self.edits.get(before).is_some_and(|edit| edit.range.start < range.end)
    }
}
