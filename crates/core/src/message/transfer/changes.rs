//! What edits of the raw bytes do to the decoded ones, read off the few raw bytes around each edit.

use std::ops::Range;

use super::{Decoded, Edit, Mark, Transfer, apply_within, base64, quoted_printable};
use crate::near::Near;
use crate::same;

impl Decoded<'_> {
    /// The edits of the decoded bytes that these edits of the raw bytes come to; all of them are sorted and do
    /// not overlap. `raw` is what was decoded, and starts at `offset` of what the edits belong to. `None` where all of
    /// it must be decoded anew.
    pub fn edits_of_decoded(&self, raw: &[u8], offset: usize, edits: &[Edit]) -> Option<Vec<Edit>> {
        let restarts = Restarts { decoded: self, raw, offset, near: Near::default() };
        if self.transfer == Transfer::Identity {
            let edits = edits.iter().map(|edit| Some(Edit { range: restarts.in_raw(edit)?, ..edit.clone() }));
            return edits.collect();
        }
        let (notes, mut seen) = (self.layout.read(), Vec::new());
        let mut changes = Vec::with_capacity(edits.len());
        let mut ahead = edits;
        let mut end = Mark { decoded: 0, raw: 0 };
        // How far lines hold edits.
        let mut taken_up = 0;
        while let Some(edit) = ahead.first() {
            let range = restarts.in_raw(edit)?;
            let next = ahead.get(1).map_or(Some(usize::MAX), |next| Some(restarts.in_raw(next)?.start))?;
            let is_alone = |lines: &Range<usize>| taken_up <= lines.start && lines.end <= next;
            let known = notes.as_ref().and_then(|notes| notes.seen(edit, &range));
            if let Some((change, lines)) = known.filter(|(_, lines)| is_alone(lines)) {
                changes.push(change);
                taken_up = lines.end;
                ahead = ahead.get(1..)?;
                continue;
            }
            let (start, stop, taken) = restarts.lines_of(ahead, end)?;
            let (these, rest) = ahead.split_at_checked(taken)?;
            let bytes = apply_within(raw.get(start.raw..stop.raw)?, offset + start.raw, these);
            let with = match self.transfer {
                Transfer::QuotedPrintable => quoted_printable::decode(&bytes),
                Transfer::Base64 if stop.raw < raw.len() => base64::decode_whole(&bytes)?,
                Transfer::Base64 => base64::decode(&bytes, &mut Vec::new()),
                Transfer::Identity | Transfer::Uuencode | Transfer::Yenc => return None,
            };
            let change = narrowed(&self.bytes, start.decoded..stop.decoded, with);
            if let (Some(notes), [edit]) = (&notes, these) {
                let edit = Edit { range, ..edit.clone() };
                seen.extend(notes.to_be_noted(edit, &change, &restarts, (start, stop)));
            }
            changes.push(change);
            (ahead, end, taken_up) = (rest, stop, stop.raw);
        }
        drop(notes);
        self.layout.note_seen(seen);
        Some(changes)
    }
}

/// Finds where decoding can begin anew, from the first to the last edit.
pub(super) struct Restarts<'a> {
    pub(super) decoded: &'a Decoded<'a>,
    pub(super) raw: &'a [u8],
    /// Where that starts in what edits belong to.
    pub(super) offset: usize,
    pub(super) near: Near,
}

impl Restarts<'_> {
    /// The range of an edit in the raw bytes.
    fn in_raw(&self, edit: &Edit) -> Option<Range<usize>> {
        let Range { start, end } = edit.range;
        let range = start.checked_sub(self.offset)?..end.checked_sub(self.offset)?;
        (range.end <= self.raw.len()).then_some(range)
    }

    /// Where the lines begin and end that hold the first one of these edits, with all edits that are in them, too; and
    /// how many edits those are. `known` is a place from which decoding can begin, no later.
    pub(super) fn lines_of(&self, edits: &[Edit], known: Mark) -> Option<(Mark, Mark, usize)> {
        let first = self.in_raw(edits.first()?)?;
        let start = self.before(first.start, known)?;
        let mut end = self.behind(first.end, start)?;
        let mut taken = 1;
        while let Some(next) = edits.get(taken) {
            let range = self.in_raw(next)?;
            if range.start >= end.raw && end.raw < self.raw.len() {
                break;
            }
            end = self.behind(range.end, end)?;
            taken += 1;
        }
        Some((start, end, taken))
    }

    /// The last place at or before `at` from which decoding can begin: nothing before it matters. `known` is one
    /// that is no later.
    fn before(&self, at: usize, known: Mark) -> Option<Mark> {
        match self.decoded.transfer {
            Transfer::QuotedPrintable => {
                let start = memchr::memrchr(b'\n', self.raw.get(..at)?).map_or(0, |end| end + 1);
                self.of_unit(start, known)
            }
            Transfer::Base64 => {
                let before = self.decoded.layout.marks.partition_point(|mark| mark.raw <= at);
                before.checked_sub(1).and_then(|last| self.decoded.layout.marks.get(last)).copied()
            }
            Transfer::Identity | Transfer::Uuencode | Transfer::Yenc => None,
        }
    }

    /// The first such place at or behind `at`, behind at least one line end in quoted-printable.
    fn behind(&self, at: usize, known: Mark) -> Option<Mark> {
        let end = Mark { decoded: self.decoded.bytes.len(), raw: self.raw.len() };
        match self.decoded.transfer {
            Transfer::QuotedPrintable => match memchr::memchr(b'\n', self.raw.get(at..)?) {
                Some(line) => self.of_unit(at + line + 1, known),
                None => Some(end),
            },
            Transfer::Base64 => {
                let before = self.decoded.layout.marks.partition_point(|mark| mark.raw < at);
                Some(self.decoded.layout.marks.get(before).copied().unwrap_or(end))
            }
            Transfer::Identity | Transfer::Uuencode | Transfer::Yenc => None,
        }
    }

    /// The place where a line of quoted-printable starts, or anything else in it that is decoded by itself.
    pub(super) fn of_unit(&self, start: usize, known: Mark) -> Option<Mark> {
        let marks = &self.decoded.layout.marks;
        let before = self.near.parted(marks, |mark| mark.raw <= start);
        let mark = before.checked_sub(1).and_then(|last| marks.get(last)).copied().unwrap_or(known);
        let mark = if (mark.raw..=start).contains(&known.raw) { known } else { mark };
        let between = self.raw.get(mark.raw..start)?;
        Some(Mark { decoded: mark.decoded + quoted_printable::decoded_length(between), raw: start })
    }
}

/// The edit that puts `with` in the place of `range`, without what stays as it is at both ends.
pub(in crate::message) fn narrowed(bytes: &[u8], range: Range<usize>, mut with: Vec<u8>) -> Edit {
    let old = bytes.get(range.clone()).unwrap_or_default();
    let head = same::at_start(old, &with);
    let tail = same::at_end(old.get(head..).unwrap_or_default(), with.get(head..).unwrap_or_default());
    with.truncate(with.len() - tail);
    with.drain(..head);
    Edit { range: range.start + head..range.end - tail, with, filler: super::Filler::Nothing }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::transfer::{apply, normalise};

    /// Edits raw bytes and compares what that does to the decoded ones with decoding all of them anew; says
    /// whether that was possible.
    fn check(raw: &[u8], transfer: Transfer, edits: Vec<Edit>) -> bool {
        let decoded = Decoded::new(raw, transfer);
        let edits = normalise(edits);
        let whole = apply(raw, &edits);
        let offset = raw.len() / 3;
        let moved = edits.iter().map(|edit| {
            let range = edit.range.start + offset..edit.range.end + offset;
            Edit { range, ..edit.clone() }
        });
        let moved: Vec<Edit> = moved.collect();
        let Some(changes) = decoded.edits_of_decoded(raw, offset, &moved) else { return false };
        assert_eq!(
            String::from_utf8_lossy(&apply(&decoded.bytes, &changes)),
            String::from_utf8_lossy(&Decoded::new(&whole, transfer).bytes),
            "{transfer:?} {edits:?}"
        );
        true
    }

    #[test]
    fn edits_of_a_line_are_read_off_it() {
        let raw = "a=3Db=20=\r\nc=\r\nd\r\n".repeat(400).into_bytes();
        for at in [0, 1, 2, 9, 12, 13, 14, 17, raw.len() - 1, raw.len()] {
            for with in ["", "=", "=\r\n", "x=4", "\r\n"] {
                let range = at..(at + 5).min(raw.len());
                assert!(check(&raw, Transfer::QuotedPrintable, vec![Edit::replace(range, with)]));
            }
        }
        let lines = format!("{}\r\n", "QUJDREVGR0hJ".repeat(6)).repeat(90).into_bytes();
        assert!(check(
            &lines,
            Transfer::Base64,
            vec![Edit::cut(300..304), Edit::replace(5000..5004, "MTIz")]
        ));
        assert!(!check(&lines, Transfer::Base64, vec![Edit::cut(300..303)]));
        assert!(check(&lines, Transfer::Base64, vec![Edit::cut(lines.len() - 3..lines.len())]));
        // What is cut near the end, and what is put in there.
        for transfer in [Transfer::Base64, Transfer::QuotedPrintable] {
            assert!(check(b"QUJD", transfer, vec![Edit::cut(0..2), Edit::replace(4..4, "QUJDREVG")]));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn what_edits_do_is_what_decoding_all_of_it_shows(
            pieces in prop::collection::vec("[a-cA-F=]{0,9}|=3D|=\r\n|\r\n|= \n|=0|QUJD|QQ==|====", 0..600),
            edits in prop::collection::vec((0usize..4000, 0usize..40, "[A-D=]{0,5}|=\r\n|=3|QUJDREVG"), 0..4),
            transfer in prop::sample::select(vec![
                Transfer::QuotedPrintable,
                Transfer::Base64,
                Transfer::Identity,
            ]),
        ) {
            let raw = pieces.concat().into_bytes();
            let edits = edits.into_iter().map(|(start, length, with)| {
                let start = start.min(raw.len());
                Edit::replace(start..(start + length).min(raw.len()), with)
            });
            let edits: Vec<Edit> = edits.collect();
            let is_read_off = check(&raw, transfer, edits);
            prop_assert!(is_read_off || transfer == Transfer::Base64);
        }
    }
}
