//! How edits of a text were written into its raw bytes, for other bodies with the same layout.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::message::transfer::Edit;
use crate::near::Near;

/// What is noted of edits.
#[derive(Debug)]
pub(super) struct Notes {
    /// Sorted by where they begin; one of those that begin at one place.
    edits: Vec<Written>,
    /// How many bytes they may still take.
    room: usize,
}

/// An edit of the text, and the one of the raw bytes that it became.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) of_text: Edit,
    pub(super) of_raw: Edit,
    /// The lines that were read to see that the one is what the other comes to. `None` before that was seen.
    pub(super) lines: Option<Range<usize>>,
    /// Whether it was asked for again. Then it stays noted: other copies are edited alike.
    was_used: AtomicBool,
    /// How many other edits may still be noted in its place. What one person alone gets comes once.
    chances: u8,
}

/// How many places edits are noted in: few messages have more, and a new one takes a look at all behind it.
const MOST: usize = 1024;
/// How many edits are noted in one place before it is taken for one where each copy has another one.
const CHANCES: u8 = 8;

/// What is known of how an edit is written.
pub(super) enum Known<'n> {
    /// It is noted.
    As(&'n Edit),
    /// It is not, and is to be.
    New,
    /// It is not, and another one is, which stays.
    Other,
}

impl Written {
    pub(super) fn of(of_text: Edit, of_raw: Edit) -> Written {
        Written { of_text, of_raw, lines: None, was_used: AtomicBool::new(false), chances: CHANCES }
    }

    fn stays(&self) -> bool {
        self.chances == 0 || self.was_used.load(Ordering::Relaxed)
    }

    fn size(&self) -> usize {
        size_of::<Written>() + self.of_text.with.len() + self.of_raw.with.len()
    }
}

impl Notes {
    /// Notes up to so many bytes.
    pub(super) fn up_to(room: usize) -> Notes {
        Notes { edits: Vec::new(), room }
    }

    /// What is known of an edit of the text that stands at `range` at home. `near` remembers where the last one of
    /// several was found.
    pub(super) fn written(&self, range: &Range<usize>, edit: &Edit, near: &Near) -> Known<'_> {
        let at = near.parted(&self.edits, |known| known.of_text.range.start < range.start);
        match self.edits.get(at) {
            Some(known) if is_at(&known.of_text, range, edit) => {
                known.was_used.store(true, Ordering::Relaxed);
                Known::As(&known.of_raw)
            }
            Some(known) if known.of_text.range.start == range.start && known.stays() => Known::Other,
            _ => Known::New,
        }
    }

    /// What is noted of an edit of the raw bytes that stands at `range` at home.
    pub(super) fn of_raw(&self, range: &Range<usize>, edit: &Edit, near: &Near) -> Option<&Written> {
        let at = near.parted(&self.edits, |known| known.of_raw.range.start < range.start);
        self.edits.get(at).filter(|known| is_at(&known.of_raw, range, edit))
    }

    /// Notes how an edit was written.
    pub(super) fn take(&mut self, written: Written) {
        let start = written.of_text.range.start;
        let at = self.edits.partition_point(|known| known.of_text.range.start < start);
        if let Some(known) = self.edits.get_mut(at).filter(|known| known.of_text.range.start == start) {
            let room = self.room + known.size();
            if let Some(room) = room.checked_sub(written.size()) {
                let chances = known.chances.saturating_sub(1);
                (*known, self.room) = (Written { chances, ..written }, room);
            }
        } else if let Some(room) = self.room.checked_sub(written.size())
            && self.edits.len() < MOST
        {
            self.edits.insert(at, written);
            self.room = room;
        }
    }

    /// Notes the lines that were read to see what an edit of the raw bytes comes to.
    pub(super) fn take_lines(&mut self, of_raw: &Edit, lines: Range<usize>) {
        let at = self.edits.partition_point(|known| known.of_raw.range.start < of_raw.range.start);
        let known = self.edits.get_mut(at).filter(|known| known.of_raw == *of_raw);
        known.into_iter().for_each(|known| known.lines = Some(lines.clone()));
    }
}

/// Whether an edit is another one, at this range.
fn is_at(known: &Edit, range: &Range<usize>, edit: &Edit) -> bool {
    known.range == *range && known.with == edit.with && known.filler == edit.filler
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_bounded() {
        let mut notes = Notes::up_to(4096);
        for with in ["", "x", "something longer"] {
            for at in 0..200 {
                let edit = Edit::replace(4 * at..4 * at + 1, with);
                notes.take(Written::of(edit.clone(), edit));
                let bytes: usize = notes.edits.iter().map(Written::size).sum();
                assert_eq!(bytes + notes.room, 4096);
            }
            assert!(notes.room < 2048, "{}", notes.room);
        }
        let mut notes = Notes::up_to(1 << 30);
        (0..2 * MOST).for_each(|at| notes.take(Written::of(Edit::cut(at..at), Edit::cut(at..at))));
        assert_eq!(notes.edits.len(), MOST);
    }

    #[test]
    fn what_was_used_again_stays_noted() {
        let mut notes = Notes::up_to(4096);
        let mut ask = |with: &str| {
            let edit = Edit::replace(5..6, with);
            if matches!(notes.written(&edit.range, &edit, &Near::default()), Known::New) {
                notes.take(Written::of(edit.clone(), edit));
            }
            String::from_utf8(notes.edits[0].of_text.with.clone()).unwrap()
        };
        for (with, stays) in [("one", "one"), ("two", "two"), ("two", "two"), ("three", "two")] {
            assert_eq!(ask(with), stays, "{with}");
        }
    }

    #[test]
    fn a_place_where_each_copy_has_another_edit_is_given_up() {
        let mut notes = Notes::up_to(4096);
        for number in 0..2 * CHANCES {
            let edit = Edit::replace(5..6, number.to_string());
            match notes.written(&edit.range, &edit, &Near::default()) {
                Known::New => notes.take(Written::of(edit.clone(), edit)),
                Known::Other => assert!(number > CHANCES, "{number}"),
                Known::As(_) => panic!("{number} was not noted before"),
            }
        }
        assert_eq!(notes.edits[0].of_text.with, CHANCES.to_string().as_bytes());
    }
}
