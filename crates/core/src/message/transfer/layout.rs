//! The layout of an encoded body: where everything stands in it but the bytes that stand for themselves.
//!
//! Copies of one message often differ in nothing but such bytes. What was found out about the layout of one of them
//! holds for the others: where each decoded byte comes from, and how an edit of the text is written.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use super::changes::{Restarts, narrowed};
use super::{Decoded, Edit, Mark, Transfer, apply, quoted_printable};
use crate::near::Near;

/// What bodies with one layout have in common.
#[derive(Debug, Default)]
pub(super) struct Layout {
    pub(super) marks: Vec<Mark>,
    /// How edits were written, where that is noted.
    written: Option<RwLock<Notes>>,
}

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
struct Written {
    of_text: Edit,
    of_raw: Edit,
    /// The lines that were read to see that the one is what the other comes to. `None` before that was seen.
    lines: Option<Range<usize>>,
    /// Whether it was asked for again. Then it stays noted: other copies are edited alike.
    was_used: AtomicBool,
    /// How many other edits may still be noted in its place. What one person alone gets comes once.
    chances: u8,
}

/// How many edits are noted in one place before it is taken for one where each copy has another one.
const CHANCES: u8 = 8;

/// An edit of the raw bytes that was seen to come to the one of the text from which it was written.
pub(super) struct Seen {
    pub(super) of_raw: Edit,
    pub(super) lines: Range<usize>,
}

impl Layout {
    pub(super) fn of(marks: Vec<Mark>) -> Layout {
        Layout { marks, written: None }
    }

    /// What is noted of edits; `None` where nothing is.
    pub(super) fn notes(&self) -> Option<RwLockReadGuard<'_, Notes>> {
        // Whoever panicked left whole notes behind.
        self.written.as_ref().map(|written| written.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, take: impl FnOnce(&mut Notes)) {
        if let Some(written) = &self.written {
            take(&mut written.write().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// The edits of the raw bytes that these edits of the text become. `write` says it where it is not noted.
    pub(super) fn written(&self, edits: Vec<Edit>, mut write: impl FnMut(Edit) -> Edit) -> Vec<Edit> {
        let Some(notes) = self.notes() else { return edits.into_iter().map(write).collect() };
        let (near, mut new) = (Near::default(), Vec::new());
        let mut one = |edit: Edit| {
            let at = near.parted(&notes.edits, |known| known.of_text.range.start < edit.range.start);
            let known = notes.edits.get(at).filter(|known| known.of_text.range.start == edit.range.start);
            match known {
                Some(known) if known.of_text == edit => {
                    known.was_used.store(true, Ordering::Relaxed);
                    known.of_raw.clone()
                }
                Some(known) if known.stays() => write(edit),
                _ => {
                    let of_raw = write(edit.clone());
                    new.push(Written::of(edit, of_raw.clone()));
                    of_raw
                }
            }
        };
        let all = edits.into_iter().map(&mut one).collect();
        drop(notes);
        if !new.is_empty() {
            self.note(|notes| new.into_iter().for_each(|written| notes.take(written)));
        }
        all
    }

    /// Notes that edits were seen to come to what they were written from.
    pub(super) fn note_seen(&self, seen: Vec<Seen>) {
        if seen.is_empty() {
            return;
        }
        self.note(|notes| {
            for Seen { of_raw, lines } in seen {
                let at = notes.edits.partition_point(|known| known.of_raw.range.start < of_raw.range.start);
                let known = notes.edits.get_mut(at).filter(|known| known.of_raw == of_raw);
                known.into_iter().for_each(|known| known.lines = Some(lines.clone()));
            }
        });
    }
}

impl Written {
    fn of(of_text: Edit, of_raw: Edit) -> Written {
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
    fn take(&mut self, written: Written) {
        let at = self.edits.partition_point(|known| known.of_text.range.start < written.of_text.range.start);
        let start = written.of_text.range.start;
        if let Some(known) = self.edits.get_mut(at).filter(|known| known.of_text.range.start == start) {
            let room = self.room + known.size();
            if let Some(room) = room.checked_sub(written.size()) {
                let chances = known.chances.saturating_sub(1);
                (*known, self.room) = (Written { chances, ..written }, room);
            }
        } else if let Some(room) = self.room.checked_sub(written.size()) {
            self.edits.insert(at, written);
            self.room = room;
        }
    }

    /// The edit of the text that an edit of the raw bytes comes to, where that was seen, and the lines that were read
    /// for it. The raw bytes start at `offset` of what the edit belongs to.
    pub(super) fn seen(&self, edit: &Edit, offset: usize, near: &Near) -> Option<(&Edit, &Range<usize>)> {
        let at = near.parted(&self.edits, |known| known.of_raw.range.start + offset < edit.range.start);
        let known = self.edits.get(at)?;
        let range = known.of_raw.range.start + offset..known.of_raw.range.end + offset;
        (range == edit.range && known.of_raw.with == edit.with).then_some(())?;
        Some((&known.of_text, known.lines.as_ref()?))
    }

    /// Whether an edit of the raw bytes, which comes to `change`, was written from an edit of the text to which it
    /// comes in each body of this layout. `line` is where its line starts.
    pub(super) fn is_to_be_noted(
        &self,
        edit: &Edit,
        change: &Edit,
        restarts: &Restarts<'_>,
        line: Mark,
    ) -> bool {
        let at = self.edits.partition_point(|known| known.of_raw.range.start < edit.range.start);
        let Some(known) = self.edits.get(at).filter(|known| known.of_raw == *edit) else { return false };
        let Edit { range, with, .. } = &known.of_text;
        let stands_at =
            |raw, decoded| restarts.of_unit(raw, line).is_some_and(|mark| mark.decoded == decoded);
        quoted_printable::is_apart(restarts.raw, edit)
            && quoted_printable::decode(&edit.with) == *with
            && stands_at(edit.range.start, range.start)
            && stands_at(edit.range.end, range.end)
            && narrowed(&restarts.decoded.bytes, range.clone(), with.clone()) == *change
    }
}

impl Decoded<'_> {
    /// The same, to be kept for other bodies with its layout: of them it notes how edits are written, up to `room`
    /// bytes.
    pub fn kept(&self, room: usize) -> Decoded<'static> {
        let notes = Notes { edits: Vec::new(), room };
        let written = Some(RwLock::new(notes));
        let layout = Arc::new(Layout { marks: self.layout.marks.clone(), written });
        Decoded { bytes: Cow::Owned(self.bytes.to_vec()), transfer: self.transfer, layout }
    }

    /// How the body is encoded.
    pub fn transfer(&self) -> Transfer {
        self.transfer
    }

    /// About how many bytes it takes, notes aside.
    pub fn size(&self) -> usize {
        self.bytes.len() + size_of_val(self.layout.marks.as_slice())
    }

    /// What another body decodes to that differs in these changes from `raw`, which was decoded here; and what the
    /// changes come to in the decoded bytes. All changes are sorted and do not overlap. `None` where the other body
    /// does not have the same layout, as far as that can be seen, or one of the changes is `None`.
    pub fn with_layout_of(
        &self,
        raw: &[u8],
        changes: impl Iterator<Item = Option<Edit>>,
    ) -> Option<(Decoded<'static>, Vec<Edit>)> {
        let restarts = Restarts { decoded: self, raw, offset: 0, near: Near::default() };
        let mut of_text = Vec::new();
        let mut last = Mark { decoded: 0, raw: 0 };
        for change in changes {
            let change = change.filter(|change| change.with.len() == change.range.len())?;
            if self.transfer != Transfer::QuotedPrintable {
                return None;
            }
            let mut at = change.range.start;
            while let Some(run) = quoted_printable::free_run(raw, &change, at).ok()? {
                let with = change.with.get(run.start - change.range.start..run.end - change.range.start)?;
                last = restarts.of_unit(run.start, last)?;
                of_text.push(Edit::replace(last.decoded..last.decoded + with.len(), with));
                at = run.end;
            }
        }
        let bytes = apply(&self.bytes, &of_text);
        let layout = Arc::clone(&self.layout);
        Some((Decoded { bytes: Cow::Owned(bytes), transfer: self.transfer, layout }, of_text))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::transfer::normalise;

    /// Reads and edits a body by the layout of another one, in which these bytes stand at these places, and by itself;
    /// says whether they have the same layout.
    fn check(raw: &[u8], bytes: &[(usize, u8)], edits: &[Edit]) -> bool {
        let known = Decoded::new(raw, Transfer::QuotedPrintable).kept(raw.len());
        // What is noted of one is used by the other, and the other way round.
        let _ = written(&known, raw, edits);
        let mut other = raw.to_vec();
        for (at, byte) in bytes {
            other.get_mut(*at).into_iter().for_each(|place| *place = *byte);
        }
        let changes = bytes.iter().filter(|(at, _)| *at < raw.len());
        let changes = normalise(changes.map(|(at, _)| Edit::replace(*at..at + 1, [other[*at]])).collect());
        let Some((copy, of_text)) = known.with_layout_of(raw, changes.into_iter().map(Some)) else {
            return false;
        };
        let alone = Decoded::new(&other, Transfer::QuotedPrintable);
        assert_eq!(copy.bytes, alone.bytes);
        assert_eq!(apply(&known.bytes, &of_text), *copy.bytes);
        for _ in 0..2 {
            assert_eq!(written(&copy, &other, edits), written(&alone, &other, edits));
        }
        assert_eq!(
            written(&known, raw, edits),
            written(&Decoded::new(raw, Transfer::QuotedPrintable), raw, edits)
        );
        true
    }

    /// What edits of the text become, and the text that these lead to.
    fn written(decoded: &Decoded<'_>, raw: &[u8], edits: &[Edit]) -> (Vec<Edit>, Vec<u8>) {
        const OFFSET: usize = 7;
        let edits = edits.iter().filter(|edit| edit.range.end <= decoded.bytes.len()).cloned();
        let of_raw = normalise(decoded.to_raw(raw, normalise(edits.collect())));
        let placed = of_raw.iter().map(|edit| {
            let range = edit.range.start + OFFSET..edit.range.end + OFFSET;
            Edit { range, ..edit.clone() }
        });
        let placed: Vec<Edit> = placed.collect();
        let changes = decoded.edits_of_decoded(raw, OFFSET, &placed).unwrap();
        let text = apply(&decoded.bytes, &changes);
        assert_eq!(text, *Decoded::new(&apply(raw, &of_raw), Transfer::QuotedPrintable).bytes);
        (of_raw, text)
    }

    #[test]
    fn bytes_that_stand_for_themselves_make_no_other_layout() {
        const LINE: &str = "<a href=3D\"https://a.example/token/4711\">=\r\nmore</a> text=20\r\n";
        const TEXT: &str = "<a href=\"https://a.example/token/4711\">more</a> text \r\n";
        let raw = LINE.repeat(20).into_bytes();
        let edit = |start: usize| Edit::replace(start + 9..start + 37, "x=y");
        let edits: Vec<Edit> = (0..20).map(|line| edit(line * TEXT.len())).collect();
        let at = |line: usize, text: &str| line * LINE.len() + LINE.find(text).unwrap();
        for line in [0, 7, 19] {
            assert!(check(&raw, &[(at(line, "token"), b'T'), (at(line, "4711"), b'0')], &edits));
            // A digit of an escape, what could become one, a line end and a blank.
            assert!(!check(&raw, &[(at(line, "3D"), b'2')], &edits));
            assert!(!check(&raw, &[(at(line, "token"), b'=')], &edits));
            assert!(!check(&raw, &[(at(line, "\r\nmore"), b' ')], &edits));
            assert!(!check(&raw, &[(at(line, " text"), b'x')], &edits));
        }
        assert!(!check(b"a=xy\r\n", &[(2, b'4')], &[]), "it would be an escape with a digit behind it");
        let decoded = Decoded::new(&raw, Transfer::QuotedPrintable);
        let moved = [Edit::replace(5..5, "x"), Edit::replace(30..31, "")];
        assert!(
            decoded.with_layout_of(&raw, moved.into_iter().map(Some)).is_none(),
            "as long as it was, and not the same"
        );
    }

    #[test]
    fn what_is_noted_is_bounded() {
        let raw = format!("{}\r\n", "a=3Db ".repeat(10)).repeat(40).into_bytes();
        let decoded = Decoded::new(&raw, Transfer::QuotedPrintable).kept(4096);
        for with in ["", "x", "something longer"] {
            let edits: Vec<Edit> = (0..200).map(|at| Edit::replace(4 * at..4 * at + 1, with)).collect();
            let _ = written(&decoded, &raw, &edits);
            let notes = decoded.layout.notes().unwrap();
            let bytes: usize = notes.edits.iter().map(Written::size).sum();
            assert!(bytes + notes.room == 4096 && bytes > 2048, "{bytes} {}", notes.room);
            assert!(notes.edits.iter().any(|known| known.lines.is_some()));
        }
    }

    #[test]
    fn what_was_used_again_stays_noted() {
        let raw = b"a=3Db\r\n".repeat(40);
        let decoded = Decoded::new(&raw, Transfer::QuotedPrintable).kept(raw.len() * 9);
        let write = |with: &str| {
            let _ = written(&decoded, &raw, &[Edit::replace(5..6, with)]);
        };
        let noted = || decoded.layout.notes().unwrap().edits[0].of_text.with.clone();
        for (with, stays) in [("one", "one"), ("two", "two"), ("two", "two"), ("three", "two")] {
            write(with);
            assert_eq!(noted(), stays.as_bytes(), "{with}");
        }
        let decoded = Decoded::new(&raw, Transfer::QuotedPrintable).kept(raw.len() * 9);
        for number in 0..2 * CHANCES {
            let with = number.to_string();
            let _ = written(&decoded, &raw, &[Edit::replace(5..6, with.as_str())]);
            let noted = decoded.layout.notes().unwrap().edits[0].of_text.with.clone();
            assert_eq!(noted, number.min(CHANCES).to_string().as_bytes(), "each copy has another edit here");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]
        #[test]
        fn what_holds_for_one_body_holds_for_each_with_its_layout(
            pieces in prop::collection::vec("[a-c4F]{0,9}|=3D|=\r\n|\r\n|= \n|=0| ", 0..300),
            bytes in prop::collection::vec((0usize..900, "[a-cF4=]"), 0..6),
            edits in prop::collection::vec((0usize..700, 0usize..30, "[A-D=4]{0,5}|\r\n| |=\r\n|=3"), 0..6),
        ) {
            let raw = pieces.concat().into_bytes();
            let bytes: Vec<(usize, u8)> = bytes.iter().map(|(at, byte)| (*at, byte.as_bytes()[0])).collect();
            let edits = edits.iter();
            let edits = edits.map(|(start, length, with)| Edit::replace(*start..start + length, with.as_str()));
            let _ = check(&raw, &bytes, &edits.collect::<Vec<Edit>>());
        }
    }
}
