//! The layout of an encoded body: where everything stands in it but the bytes that stand for themselves.
//!
//! Copies of one message often differ in such bytes alone, or in a few lines besides. What was found out about the
//! layout of one of them, the home, holds for the others: where each decoded byte comes from, and how an edit of the
//! text is written. Positions in notes are those of the home.

mod gaps;
mod notes;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use super::changes::{Restarts, narrowed};
use super::{Decoded, Edit, Mark, Transfer, apply, apply_within, line_end, quoted_printable};
use crate::near::Near;
use gaps::Gaps;
use notes::{Known, Notes, Written};

/// The layout of one body.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) marks: Vec<Mark>,
    /// How edits of bodies with the same home were written; `None` where nothing is noted.
    notes: Option<Arc<RwLock<Notes>>>,
    /// What stands where it does at home.
    gaps: Gaps,
}

/// What is noted, while it is read.
pub(super) struct Reading<'n> {
    notes: RwLockReadGuard<'n, Notes>,
    gaps: &'n Gaps,
    near: Near,
}

/// An edit of the raw bytes that was seen to come to the one of the text from which it was written, and the lines that
/// were read for that.
pub(super) struct Seen {
    of_raw: Edit,
    lines: Range<usize>,
}

impl Layout {
    pub(super) fn of(marks: Vec<Mark>) -> Layout {
        Layout { marks, notes: None, gaps: Gaps::none() }
    }

    /// What is noted of edits; `None` where nothing is.
    pub(super) fn read(&self) -> Option<Reading<'_>> {
        // Whoever panicked left whole notes behind.
        let notes = self.notes.as_ref()?.read().unwrap_or_else(PoisonError::into_inner);
        Some(Reading { notes, gaps: &self.gaps, near: Near::default() })
    }

    fn note(&self, take: impl FnOnce(&mut Notes)) {
        if let Some(notes) = &self.notes {
            take(&mut notes.write().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// The edits of the raw bytes that these edits of the text become. `write` says it where it is not noted.
    pub(super) fn written(&self, edits: Vec<Edit>, mut write: impl FnMut(Edit) -> Edit) -> Vec<Edit> {
        let Some(reading) = self.read() else { return edits.into_iter().map(write).collect() };
        let mut new = Vec::new();
        let mut one = |edit: Edit| {
            let gap = self.gaps.of_text(&edit.range);
            let Some((gap, at_home)) = gap.and_then(|gap| Some((gap, gap.text_at_home(&edit.range)?))) else {
                return write(edit);
            };
            match reading.notes.written(&at_home, &edit, &reading.near) {
                Known::As(known) => match gap.raw_here(&known.range) {
                    Some(range) => Edit { range, ..known.clone() },
                    None => write(edit),
                },
                Known::Other => write(edit),
                Known::New => {
                    let of_raw = write(edit.clone());
                    if let Some(range) = gap.raw_at_home(&of_raw.range) {
                        let of_text = Edit { range: at_home, ..edit };
                        new.push(Written::of(of_text, Edit { range, ..of_raw.clone() }));
                    }
                    of_raw
                }
            }
        };
        let all = edits.into_iter().map(&mut one).collect();
        drop(reading);
        if !new.is_empty() {
            self.note(|notes| new.into_iter().for_each(|written| notes.take(written)));
        }
        all
    }

    /// Notes that edits were seen to come to what they were written from.
    pub(super) fn note_seen(&self, seen: Vec<Seen>) {
        if !seen.is_empty() {
            self.note(|notes| seen.into_iter().for_each(|seen| notes.take_lines(&seen.of_raw, seen.lines)));
        }
    }
}

impl Reading<'_> {
    /// The edit of the text that an edit of the raw bytes comes to, where that was seen, and the lines that were read
    /// for it. It stands at `range` of the body.
    pub(super) fn seen(&self, edit: &Edit, range: &Range<usize>) -> Option<(Edit, Range<usize>)> {
        let gap = self.gaps.of_raw(range)?;
        let known = self.notes.of_raw(&gap.raw_at_home(range)?, edit, &self.near)?;
        let lines = gap.raw_here(known.lines.as_ref()?)?;
        Some((Edit { range: gap.text_here(&known.of_text.range)?, ..known.of_text.clone() }, lines))
    }

    /// What is to be noted of an edit of the raw bytes, which comes to `change`, and takes up lines from `start` to
    /// `end`: whether it was written from an edit of the text to which it comes in each body of this layout.
    pub(super) fn to_be_noted(
        &self,
        edit: Edit,
        change: &Edit,
        restarts: &Restarts<'_>,
        (start, end): (Mark, Mark),
    ) -> Option<Seen> {
        let gap = self.gaps.of_raw(&edit.range)?;
        let at_home = gap.raw_at_home(&edit.range)?;
        let Edit { range, with, .. } = &self.notes.of_raw(&at_home, &edit, &Near::default())?.of_text;
        let range = gap.text_here(range)?;
        let stands_at =
            |raw, decoded| restarts.of_unit(raw, start).is_some_and(|mark| mark.decoded == decoded);
        let is_seen = quoted_printable::is_apart(restarts.raw, &edit)
            && quoted_printable::decode(&edit.with) == *with
            && stands_at(edit.range.start, range.start)
            && stands_at(edit.range.end, range.end)
            && narrowed(&restarts.decoded.bytes, range, with.clone()) == *change;
        let lines = gap.raw_at_home(&(start.raw..end.raw)).filter(|_| is_seen)?;
        Some(Seen { of_raw: Edit { range: at_home, ..edit }, lines })
    }
}

impl Decoded<'_> {
    /// The same, to be kept for other bodies with its layout: of them it notes how edits are written, up to `room`
    /// bytes.
    pub fn kept(&self, room: usize) -> Decoded<'static> {
        let notes = Some(Arc::new(RwLock::new(Notes::up_to(room))));
        let layout = Arc::new(Layout { marks: self.layout.marks.clone(), notes, gaps: Gaps::none() });
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

    /// The same layout, of a body that decodes to `bytes` and differs in free bytes alone.
    pub fn filled(&self, bytes: Vec<u8>) -> Decoded<'static> {
        Decoded { bytes: Cow::Owned(bytes), transfer: self.transfer, layout: Arc::clone(&self.layout) }
    }

    /// The free bytes of quoted-printable that `text` of the decoded bytes is written in: others that stand for
    /// themselves may stand in their places. `None` where it is not written in such bytes alone.
    pub fn free_runs(&self, raw: &[u8], text: &Range<usize>) -> Option<Vec<Range<usize>>> {
        let is_quoted_printable = self.transfer == Transfer::QuotedPrintable;
        is_quoted_printable.then(|| quoted_printable::free_runs(raw, &self.layout.marks, text))?
    }

    /// What `body` decodes to, which differs in these changes from `raw`, the quoted-printable that was decoded here
    /// and kept; and what the changes come to in the decoded bytes. All changes are sorted and do not overlap. `None`
    /// where all of it must be decoded: where more than a few lines differ in more than bytes that stand for
    /// themselves.
    pub fn copy(
        &self,
        raw: &[u8],
        body: &[u8],
        mut changes: Vec<Edit>,
    ) -> Option<(Decoded<'static>, Vec<Edit>)> {
        let restarts = Restarts { decoded: self, raw, offset: 0, near: Near::default() };
        let mut of_text = Vec::with_capacity(changes.len());
        let (mut gaps, mut runs) = (Gaps::none(), Vec::new());
        let mut last = Mark { decoded: 0, raw: 0 };
        let mut next = 0;
        while let Some(change) = changes.get_mut(next) {
            if quoted_printable::is_of_free_runs(raw, change, &mut runs) {
                for run in &runs {
                    let with = match *run == change.range {
                        true => std::mem::take(&mut change.with),
                        false => change
                            .with
                            .get(run.start - change.range.start..run.end - change.range.start)?
                            .to_vec(),
                    };
                    last = restarts.of_unit(run.start, last)?;
                    of_text.push(Edit::replace(last.decoded..last.decoded + with.len(), with));
                }
                next += 1;
                continue;
            }
            let ahead = changes.get(next..)?;
            let (start, end, taken) = restarts.lines_of(ahead, last)?;
            let lines = apply_within(raw.get(start.raw..end.raw)?, start.raw, ahead.get(..taken)?);
            let with = quoted_printable::decode(&lines);
            gaps.cut(start, end, lines.len(), with.len())?;
            of_text.push(narrowed(&self.bytes, start.decoded..end.decoded, with));
            (next, last) = (next + taken, end);
        }
        if gaps.differing() > 0 && line_end(raw) != line_end(body) {
            return None;
        }
        let bytes = Cow::Owned(apply(&self.bytes, &of_text));
        let layout = if gaps.differing() == 0 {
            Arc::clone(&self.layout)
        } else {
            let marks = gaps.marks(&self.layout.marks);
            Arc::new(Layout { marks, notes: self.layout.notes.clone(), gaps })
        };
        Some((Decoded { bytes, transfer: self.transfer, layout }, of_text))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::transfer::normalise;

    /// Reads and edits a body by the layout of another one, to which these changes lead, and by itself; says whether
    /// that could be, and in how many stretches of lines they differ.
    fn check(raw: &[u8], changes: Vec<Edit>, edits: &[Edit]) -> Option<usize> {
        let changes = normalise(changes.into_iter().filter(|change| change.range.end <= raw.len()).collect());
        let body = apply(raw, &changes);
        let home = Decoded::new(raw, Transfer::QuotedPrintable).kept(64 << 10);
        let (copy, of_text) = home.copy(raw, &body, changes)?;
        let alone = Decoded::new(&body, Transfer::QuotedPrintable);
        assert_eq!(String::from_utf8_lossy(&copy.bytes), String::from_utf8_lossy(&alone.bytes));
        assert_eq!(apply(&home.bytes, &of_text), *copy.bytes);
        // What is noted of one is used by the other, and the other way round.
        let at_home = Decoded::new(raw, Transfer::QuotedPrintable);
        for _ in 0..2 {
            assert_eq!(written(&copy, &body, edits), written(&alone, &body, edits));
            assert_eq!(written(&home, raw, edits), written(&at_home, raw, edits));
        }
        // One that begins where its text does at home.
        let moved = edits.iter().filter_map(|edit| {
            let behind = of_text.iter().filter(|change| change.range.end <= edit.range.start);
            let shift: isize =
                behind.map(|change| change.with.len() as isize - change.range.len() as isize).sum();
            let start = edit.range.start.checked_add_signed(shift)?;
            Some(Edit { range: start..start + edit.range.len(), ..edit.clone() })
        });
        let moved: Vec<Edit> = moved.collect();
        assert_eq!(written(&copy, &body, &moved), written(&alone, &body, &moved));
        Some(copy.layout.gaps.differing())
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
    fn only_lines_in_which_more_differs_than_free_bytes_are_read() {
        const LINE: &str = "<a href=3D\"https://a.example/token/4711\">=\r\nmore</a> text=20\r\n";
        const TEXT: &str = "<a href=\"https://a.example/token/4711\">more</a> text \r\n";
        let raw = LINE.repeat(20).into_bytes();
        let edit = |start: usize| Edit::replace(start + 9..start + 37, "x=y");
        let edits: Vec<Edit> = (0..20).map(|line| edit(line * TEXT.len())).collect();
        let change = |line: usize, text: &str, with: &str| {
            let start = line * LINE.len() + LINE.find(text).unwrap();
            Edit::replace(start..start + text.len(), with)
        };
        for line in [0, 7, 19] {
            let check = |changes: &[Edit]| check(&raw, changes.to_vec(), &edits);
            assert_eq!(check(&[change(line, "token", "other"), change(line, "4711", "0815")]), Some(0));
            for (text, with) in [
                ("token", "longer-token"),
                ("token", "t"),
                // A digit of an escape, what could become one, line ends and blanks.
                ("3D", "2D"),
                ("token", "=oken"),
                ("=\r\nmore", "mo=\r\nre"),
                (" text", "_text"),
                ("\r\nmore", " more"),
            ] {
                assert_eq!(check(&[change(line, text, with)]), Some(1), "{text}: {with}");
                let others = [change(3, "4711", "0815"), change(line, text, with)];
                assert_eq!(check(&normalise(others.to_vec())), Some(1), "{text}: {with}");
            }
        }
        let many = (0..20).map(|line| change(line, "token", "longer-token")).collect();
        assert_eq!(check(&raw, many, &edits), None, "too many lines differ");
        let first = check(b"a=xy\r\n", vec![Edit::replace(2..3, "4")], &[]);
        assert_eq!(first, Some(1), "it could be an escape with another byte behind it");
    }

    #[test]
    fn what_was_written_is_noted_with_the_lines_that_were_read() {
        let raw = b"<p>a=3Db</p>\r\n".repeat(40);
        let home = Decoded::new(&raw, Transfer::QuotedPrintable).kept(64 << 10);
        let _ = written(&home, &raw, &[Edit::replace(16..17, "x")]);
        let reading = home.layout.read().unwrap();
        let edit = Edit::replace(18..21, "x");
        assert_eq!(reading.seen(&edit, &edit.range), Some((Edit::replace(16..17, "x"), 14..28)));
    }

    #[test]
    fn what_fills_free_bytes_stands_in_the_text() {
        let raw = b"<a href=3D\"https://a.example/c/Zk3Qw9Xv=\r\nT2aB7LmN8pRs/x=3D1\">=41BCD=\r\n</a>\r\n";
        let decoded = Decoded::new(raw, Transfer::QuotedPrintable);
        let text = String::from_utf8(decoded.bytes.to_vec()).unwrap();
        let runs = |what: &str| {
            let start = text.find(what).unwrap();
            let runs = decoded.free_runs(raw, &(start..start + what.len()));
            runs.map(|runs| {
                runs.into_iter().map(|run| String::from_utf8_lossy(&raw[run]).into_owned()).collect()
            })
        };
        let some = |runs: &[&str]| Some(runs.iter().map(|run| (*run).to_owned()).collect::<Vec<String>>());
        assert_eq!(runs("Zk3Qw9XvT2aB7LmN8pRs"), some(&["Zk3Qw9Xv", "T2aB7LmN8pRs"]));
        assert_eq!(runs("/c/Zk3Q"), some(&["/c/Zk3Q"]));
        assert_eq!(runs("CD</a"), some(&["CD", "</a"]));
        assert_eq!([runs("x=1"), runs("ABCD")], [None, None], "they are written as escapes");
        let base64 = Decoded::new(b"PGEgaHJlZj0i\r\n", Transfer::Base64);
        assert_eq!(base64.free_runs(b"PGEgaHJlZj0i\r\n", &(0..3)), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]
        #[test]
        fn what_fills_a_blank_changes_nothing_else(
            pieces in prop::collection::vec("[a-c4F]{0,9}|=3D|=\r\n|\r\n|= \n|=0| |=", 0..60),
            start in 0usize..200,
            length in 1usize..12,
            with in "[A-Za-z0-9_-]{12}",
        ) {
            let raw = pieces.concat().into_bytes();
            let home = Decoded::new(&raw, Transfer::QuotedPrintable).kept(1 << 10);
            let blank = start.min(home.bytes.len())..(start + length).min(home.bytes.len());
            if let Some(runs) = home.free_runs(&raw, &blank) {
                let (mut body, mut left) = (raw.clone(), with.bytes());
                runs.into_iter().flatten().for_each(|at| body[at] = left.next().unwrap());
                let text = apply(&home.bytes, &[Edit::replace(blank.clone(), &with[..blank.len()])]);
                prop_assert_eq!(&text, &quoted_printable::decode(&body));
                // The layout is the one of its own.
                let edits = [Edit::replace(0..blank.start.min(3), "=x"), Edit::cut(blank.end..text.len())];
                let alone = Decoded::new(&body, Transfer::QuotedPrintable);
                prop_assert_eq!(written(&home.filled(text), &body, &edits), written(&alone, &body, &edits));
            }
        }

        #[test]
        fn what_holds_for_one_body_holds_for_each_with_its_layout(
            pieces in prop::collection::vec("[a-c4F]{0,9}|=3D|=\r\n|\r\n|= \n|=0| ", 0..300),
            free in prop::collection::vec((0usize..900, "[a-cF4]"), 0..6),
            other in prop::collection::vec((0usize..900, 0usize..12, "[a-cF4=]{0,9}|=\r\n|\r\n|=3"), 0..3),
            edits in prop::collection::vec((0usize..700, 0usize..30, "[A-D=4]{0,5}|\r\n| |=\r\n|=3"), 0..6),
        ) {
            let raw = pieces.concat().into_bytes();
            let free = free.iter().map(|(at, byte)| Edit::replace(*at..at + 1, byte.as_str()));
            let other = other.iter().map(|(at, length, with)| Edit::replace(*at..at + length, with.as_str()));
            let edits = edits.iter();
            let edits = edits.map(|(start, length, with)| Edit::replace(*start..start + length, with.as_str()));
            let _ = check(&raw, free.chain(other).collect(), &edits.collect::<Vec<Edit>>());
        }
    }
}
