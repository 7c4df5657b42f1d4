//! What stands between the lines in which a body differs from another one: the same in both, but for bytes that stand
//! for themselves.

use std::ops::Range;

use crate::message::transfer::Mark;

/// The stretches of a body, its home, that stand in another one, too, sorted. Each begins and ends with a line.
#[derive(Clone, Debug)]
pub(super) struct Gaps(Vec<Gap>);

/// A stretch of whole lines, in the raw bytes and the text of its home, and how far it stands from there.
#[derive(Clone, Debug)]
pub(super) struct Gap {
    raw: Range<usize>,
    text: Range<usize>,
    raw_shift: isize,
    text_shift: isize,
}

impl Gaps {
    /// How many stretches of lines may differ.
    pub(super) const MOST: usize = 16;

    /// Nothing differs.
    pub(super) fn none() -> Gaps {
        let all = 0..usize::MAX;
        Gaps(vec![Gap { raw: all.clone(), text: all, raw_shift: 0, text_shift: 0 }])
    }

    /// In how many stretches of lines the body differs from its home in more than bytes that stand for themselves.
    pub(super) fn differing(&self) -> usize {
        self.0.len() - 1
    }

    /// Notes that other lines, with so many raw and decoded bytes, stand in the place of the ones from `start` to
    /// `end`, which are behind all noted before. `None` where too many differ.
    pub(super) fn cut(&mut self, start: Mark, end: Mark, raw: usize, text: usize) -> Option<()> {
        let last = self.0.last_mut()?;
        let raw_shift = last.raw_shift + raw as isize - (end.raw - start.raw) as isize;
        let text_shift = last.text_shift + text as isize - (end.decoded - start.decoded) as isize;
        (last.raw.end, last.text.end) = (start.raw, start.decoded);
        let (raw, text) = (end.raw..usize::MAX, end.decoded..usize::MAX);
        self.0.push(Gap { raw, text, raw_shift, text_shift });
        (self.differing() <= Gaps::MOST).then_some(())
    }

    /// The stretch in which a range of the body's text is, with the byte behind it.
    pub(super) fn of_text(&self, range: &Range<usize>) -> Option<&Gap> {
        self.0.iter().find(|gap| {
            let home = shifted(range, -gap.text_shift);
            home.is_some_and(|home| gap.text.start <= home.start && home.end < gap.text.end)
        })
    }

    /// The stretch in which a range of the body's raw bytes is.
    pub(super) fn of_raw(&self, range: &Range<usize>) -> Option<&Gap> {
        self.0.iter().find(|gap| shifted(range, -gap.raw_shift).is_some_and(|home| gap.has_raw(&home)))
    }

    /// The marks of the body, from the ones of its home.
    pub(super) fn marks(&self, home: &[Mark]) -> Vec<Mark> {
        let mut marks = Vec::with_capacity(home.len());
        for gap in &self.0 {
            let first = home.partition_point(|mark| mark.raw < gap.raw.start);
            let here = home.get(first..).unwrap_or_default().iter().take_while(|mark| mark.raw < gap.raw.end);
            marks.extend(here.map(|mark| Mark {
                decoded: mark.decoded.saturating_add_signed(gap.text_shift),
                raw: mark.raw.saturating_add_signed(gap.raw_shift),
            }));
        }
        marks
    }
}

impl Gap {
    fn has_raw(&self, home: &Range<usize>) -> bool {
        self.raw.start <= home.start && home.end <= self.raw.end
    }

    /// A range of the body's text in the one of its home.
    pub(super) fn text_at_home(&self, range: &Range<usize>) -> Option<Range<usize>> {
        shifted(range, -self.text_shift)
    }

    /// A range of the body's raw bytes in the ones of its home.
    pub(super) fn raw_at_home(&self, range: &Range<usize>) -> Option<Range<usize>> {
        shifted(range, -self.raw_shift).filter(|home| self.has_raw(home))
    }

    /// A range of the home's text in the one of the body.
    pub(super) fn text_here(&self, home: &Range<usize>) -> Option<Range<usize>> {
        let is_here = self.text.start <= home.start && home.end < self.text.end;
        shifted(home, self.text_shift).filter(|_| is_here)
    }

    /// A range of the home's raw bytes in the ones of the body.
    pub(super) fn raw_here(&self, home: &Range<usize>) -> Option<Range<usize>> {
        shifted(home, self.raw_shift).filter(|_| self.has_raw(home))
    }
}

fn shifted(range: &Range<usize>, by: isize) -> Option<Range<usize>> {
    Some(range.start.checked_add_signed(by)?..range.end.checked_add_signed(by)?)
}
