//! quoted-printable (RFC 2045 section 6.7).

use std::ops::Range;

use super::layout::Layout;
use super::{Edit, Mark, column, line_end, mark_before, rest_of_line};
use crate::near::Near;
use crate::places::Places;

/// The longest line, without its end (RFC 2045 section 6.7, rule 5).
const LINE: usize = 76;

/// Decoded bytes between two marks at the least: where a line begins behind a soft break, which is where most marks are
/// looked for, and behind an escape.
const MARK_LINE: usize = 32;
const MARK_ESCAPE: usize = 128;

/// What stands at one place of the raw bytes.
enum Unit {
    /// This many raw bytes that mean nothing: a soft line break.
    Soft(usize),
    /// `=XX`.
    Escape(u8),
    /// A byte that stands for itself.
    Literal(u8),
}

/// The value of each hexadecimal digit; more than 15 for any other byte.
#[expect(clippy::indexing_slicing, reason = "evaluated at compile time, where a wrong index is an error")]
const DIGITS: [u8; 256] = {
    let mut digits = [0x80; 256];
    let mut value = 0;
    while value < 16 {
        digits[b"0123456789ABCDEF"[value] as usize] = value as u8;
        digits[b"0123456789abcdef"[value] as usize] = value as u8;
        value += 1;
    }
    digits
};

/// Whether each byte stands for itself wherever it stands (RFC 2045 section 6.7, rule 2).
#[expect(clippy::indexing_slicing, reason = "evaluated at compile time, where a wrong index is an error")]
const STANDS_FOR_ITSELF: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = b'!';
    while byte <= b'~' {
        table[byte as usize] = byte != b'=';
        byte += 1;
    }
    table
};

fn stands_for_itself(byte: u8) -> bool {
    STANDS_FOR_ITSELF.get(usize::from(byte)).copied().unwrap_or(false)
}

/// Whether the byte at `at` may be any other that stands for itself, and nothing else is read differently: it is no
/// digit of an escape, and could not be one.
fn is_free(raw: &[u8], at: usize) -> bool {
    let is_equals = |back: usize| at.checked_sub(back).and_then(|before| raw.get(before)) == Some(&b'=');
    raw.get(at).is_some_and(|byte| stands_for_itself(*byte)) && !is_equals(1) && !is_equals(2)
}

/// Finds the runs of free bytes in which a change replaces some by others that stand for themselves. Says whether it
/// does nothing else.
pub(super) fn is_of_free_runs(raw: &[u8], change: &Edit, runs: &mut Vec<Range<usize>>) -> bool {
    let Edit { range, with, .. } = change;
    let old = raw.get(range.clone()).unwrap_or_default();
    runs.clear();
    let mut bytes = range.clone().zip(old.iter().zip(with));
    let mut takes = |(at, (old, new)): (usize, (&u8, &u8))| {
        if !is_free(raw, at) {
            return old == new;
        }
        match runs.last_mut().filter(|run| run.end == at) {
            Some(run) => run.end += 1,
            None if old != new => runs.push(at..at + 1),
            None => {}
        }
        stands_for_itself(*new)
    };
    old.len() == with.len() && bytes.all(&mut takes)
}

/// The runs of free bytes that stand for the decoded bytes at `text`; `None` where others do.
pub(super) fn free_runs(raw: &[u8], marks: &[Mark], text: &Range<usize>) -> Option<Vec<Range<usize>>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut at = Cursor::new(raw, marks).start_of(text.start);
    let mut left = text.len();
    while left > 0 {
        match Unit::at(raw, at)? {
            Unit::Soft(length) => at += length,
            Unit::Literal(_) if is_free(raw, at) => {
                match runs.last_mut().filter(|run| run.end == at) {
                    Some(run) => run.end += 1,
                    None => runs.push(at..at + 1),
                }
                (at, left) = (at + 1, left - 1);
            }
            Unit::Literal(_) | Unit::Escape(_) => return None,
        }
    }
    Some(runs)
}

/// Whether an edit puts in what is read by itself, whatever free bytes stand beside it.
pub(super) fn is_apart(raw: &[u8], edit: &Edit) -> bool {
    let before = raw.get(..edit.range.start).unwrap_or_default();
    let ends_open = |text: &[u8]| text.iter().rev().take(2).any(|byte| *byte == b'=');
    !ends_open(before) && !ends_open(&edit.with)
}

fn hex(digit: u8) -> u8 {
    DIGITS.get(usize::from(digit)).copied().unwrap_or(0x80)
}

impl Unit {
    /// Reads what stands at `at`, which is within `raw`.
    fn at(raw: &[u8], at: usize) -> Option<Unit> {
        match *raw.get(at)? {
            b'=' => Some(Unit::after_equals(raw, at)),
            byte => Some(Unit::Literal(byte)),
        }
    }

    fn after_equals(raw: &[u8], at: usize) -> Unit {
        let rest = raw.get(at + 1..).unwrap_or_default();
        if let [high, low, ..] = rest {
            let (high, low) = (hex(*high), hex(*low));
            if (high | low) < 16 {
                return Unit::Escape(high << 4 | low);
            }
        }
        let mut end = at + 1;
        while matches!(raw.get(end), Some(b' ' | b'\t')) {
            end += 1;
        }
        match (raw.get(end), raw.get(end + 1)) {
            (Some(b'\r'), Some(b'\n')) => Unit::Soft(end + 2 - at),
            (Some(b'\n'), _) => Unit::Soft(end + 1 - at),
            _ => Unit::Literal(b'='),
        }
    }

    /// Raw and decoded length.
    fn lengths(&self) -> (usize, usize) {
        match self {
            Unit::Soft(raw) => (*raw, 0),
            Unit::Escape(_) => (3, 1),
            Unit::Literal(_) => (1, 1),
        }
    }
}

/// How many bytes are copied at once: most pieces between escapes are shorter, and a copy of a fixed length costs less
/// than one of a piece's own.
const PIECE: usize = 32;

/// Adds bytes that stand for themselves: so many of those that `rest` begins with.
#[inline(always)]
fn take(rest: &[u8], count: usize, text: &mut Vec<u8>) {
    match rest.first_chunk::<PIECE>() {
        Some(piece) if count <= PIECE => {
            let whole = text.len() + count;
            text.extend_from_slice(piece);
            text.truncate(whole);
        }
        _ => text.extend_from_slice(rest.get(..count).unwrap_or(rest)),
    }
}

/// Decodes `raw`, and leaves marks.
pub(super) fn decode_marked(raw: &[u8], marks: &mut Vec<Mark>) -> Vec<u8> {
    marks.reserve(raw.len() / MARK_LINE / 2);
    decoded(raw, |mark| marks.push(mark))
}

/// Decodes `raw`.
pub(super) fn decode(raw: &[u8]) -> Vec<u8> {
    decoded(raw, |_| {})
}

fn decoded(raw: &[u8], mut leave: impl FnMut(Mark)) -> Vec<u8> {
    let mut text = Vec::with_capacity(raw.len() + PIECE);
    let mut rest = raw;
    let mut marked = 0;
    for equals in Places::of(b'=', raw) {
        // An equals sign may stand within what was read.
        let Some(count) = equals.checked_sub(raw.len() - rest.len()) else { continue };
        let Some((literals, unit)) = rest.split_at_checked(count) else { break };
        take(rest, count, &mut text);
        let is_soft = match *unit {
            [_, b'\r', b'\n', ref behind @ ..] => {
                rest = behind;
                true
            }
            [_, high, low, ref behind @ ..] if (hex(high) | hex(low)) < 16 => {
                text.push(hex(high) << 4 | hex(low));
                rest = behind;
                false
            }
            _ => {
                let unit = Unit::after_equals(rest, literals.len());
                if let Unit::Escape(byte) | Unit::Literal(byte) = unit {
                    text.push(byte);
                }
                rest = rest.get(count + unit.lengths().0..).unwrap_or_default();
                matches!(unit, Unit::Soft(_))
            }
        };
        let length = text.len();
        if length - marked >= if is_soft { MARK_LINE } else { MARK_ESCAPE } {
            marked = length;
            leave(Mark { decoded: length, raw: raw.len() - rest.len() });
        }
    }
    text.extend_from_slice(rest);
    text
}

/// How many bytes `raw` is decoded to.
pub(super) fn decoded_length(raw: &[u8]) -> usize {
    let mut length = 0;
    let mut at = 0;
    while let Some(rest) = raw.get(at..) {
        let literals = memchr::memchr(b'=', rest).unwrap_or(rest.len());
        let Some(unit) = Unit::at(raw, at + literals) else { return length + literals };
        let (raw_length, decoded_length) = unit.lengths();
        length += literals + decoded_length;
        at += literals + raw_length;
    }
    length
}

/// Finds where decoded bytes stand in the raw ones, from the first to the last of those that are asked for.
struct Cursor<'a> {
    raw: &'a [u8],
    marks: &'a [Mark],
    near: Near,
    /// The start of a decoded byte, or of what means nothing before it.
    last: Mark,
}

impl<'a> Cursor<'a> {
    fn new(raw: &'a [u8], marks: &'a [Mark]) -> Cursor<'a> {
        Cursor { raw, marks, near: Near::default(), last: Mark { decoded: 0, raw: 0 } }
    }

    /// Where decoded byte `decoded` starts in the raw bytes: behind any soft break. At the end of the text, the
    /// end of what the last byte takes.
    fn start_of(&mut self, decoded: usize) -> usize {
        let mut mark = mark_before(self.marks, decoded, &self.near);
        if self.last.decoded <= decoded && self.last.raw > mark.raw {
            mark = self.last;
        }
        while let Some(rest) = self.raw.get(mark.raw..) {
            let wanted = decoded - mark.decoded;
            let near = rest.get(..wanted + 1).unwrap_or(rest);
            let step = memchr::memchr(b'=', near).unwrap_or(near.len()).min(wanted);
            mark.raw += step;
            mark.decoded += step;
            let Some(unit) = Unit::at(self.raw, mark.raw) else { break };
            let (raw_length, decoded_length) = unit.lengths();
            if mark.decoded == decoded && decoded_length > 0 {
                break;
            }
            mark.raw += raw_length;
            mark.decoded += decoded_length;
        }
        self.last = mark;
        mark.raw
    }

    /// Where decoded byte `decoded` ends in the raw bytes: before any soft break.
    fn end_of(&mut self, decoded: usize) -> usize {
        let start = self.start_of(decoded);
        Unit::at(self.raw, start).map_or(start, |unit| start + unit.lengths().0)
    }
}

pub(super) fn to_raw(raw: &[u8], text: &[u8], layout: &Layout, edits: Vec<Edit>) -> Vec<Edit> {
    let newline = line_end(raw);
    let mut cursor = Cursor::new(raw, &layout.marks);
    // What is written hangs on the layout and the edit, and on no byte besides that stands for itself.
    layout.written(widen(text, edits), |edit| in_raw(&mut cursor, text, newline, edit))
}

/// Takes into each edit the bytes before it that would read differently beside what follows: a stray `=`
/// could become an escape or a soft break, a blank could come to stand last on its line. Edits that then
/// touch become one.
fn widen(text: &[u8], edits: Vec<Edit>) -> Vec<Edit> {
    let mut wide: Vec<Edit> = Vec::with_capacity(edits.len());
    let mut edits = edits.into_iter().peekable();
    while let Some(mut edit) = edits.next() {
        let floor = wide.last().map_or(0, |last| last.range.end);
        let mut start = edit.range.start;
        // A carriage return alone could become a line end, and a stray `=` before it a soft break.
        if start > floor && text.get(start - 1) == Some(&b'\r') {
            start -= 1;
        }
        while start > floor && matches!(text.get(start - 1), Some(b' ' | b'\t')) {
            start -= 1;
        }
        let hex = |at: usize| text.get(at).is_some_and(u8::is_ascii_hexdigit);
        if start > floor && text.get(start - 1) == Some(&b'=') {
            start -= 1;
        } else if start >= floor + 2 && hex(start - 1) && text.get(start - 2) == Some(&b'=') {
            start -= 2;
        }
        let mut with = std::mem::take(&mut edit.with);
        with.splice(..0, text.get(start..edit.range.start).unwrap_or_default().iter().copied());
        match wide.last_mut() {
            Some(last) if last.range.end == start => {
                last.with.append(&mut with);
                last.range.end = edit.range.end;
            }
            _ => wide.push(Edit { range: start..edit.range.end, with, filler: edit.filler }),
        }
        // The same for what the edit itself puts before what stays.
        let Some(last) = wide.last_mut() else { continue };
        let end = last.range.end;
        let stays = edits.peek().is_none_or(|next| next.range.start > end);
        if stays && last.with.last() == Some(&b'\r') && text.get(end) == Some(&b'\n') {
            last.with.push(b'\n');
            last.range.end += 1;
        }
    }
    wide
}

fn in_raw(cursor: &mut Cursor<'_>, text: &[u8], newline: &[u8], edit: Edit) -> Edit {
    let raw = cursor.raw;
    let start = cursor.start_of(edit.range.start);
    let mut end = match edit.range.end.checked_sub(1) {
        Some(last) if last >= edit.range.start => cursor.end_of(last),
        _ => start,
    };
    let before = column(raw, start);
    // A line of which nothing is left but its soft break goes as a whole.
    if edit.with.is_empty()
        && before == 0
        && start < end
        && let Some(Unit::Soft(length)) = Unit::at(raw, end)
    {
        end += length;
    }
    let at_line_end = match text.get(edit.range.end) {
        None | Some(b'\r' | b'\n') => LineEnds::Here,
        Some(_) => LineEnds::Later,
    };
    let mut with = Vec::with_capacity(edit.with.len() * 3 / 2);
    let mut at = before;
    encode(&edit.with, &mut at, at_line_end, newline, &mut with);
    let rest = rest_of_line(raw, end);
    if at > 0 && rest > 0 && at + rest > LINE {
        with.push(b'=');
        with.extend_from_slice(newline);
    }
    Edit { range: start..end, with, filler: edit.filler }
}

/// Whether a line ends behind what is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LineEnds {
    Here,
    Later,
}

/// Encodes `text`, which starts at column `at`.
fn encode(text: &[u8], at: &mut usize, ends: LineEnds, newline: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut rest = text;
    while let Some((&byte, behind)) = rest.split_first() {
        // As much as the line takes of what stands for itself.
        let room = rest.len().min(LINE.saturating_sub(*at + 1));
        let line = rest.get(..room).unwrap_or_default();
        let plain = line.iter().position(|byte| !stands_for_itself(*byte)).unwrap_or(line.len());
        if let Some((plain, behind)) = rest.split_at_checked(plain).filter(|(plain, _)| !plain.is_empty()) {
            out.extend_from_slice(plain);
            *at += plain.len();
            rest = behind;
            continue;
        }
        if let [b'\r', b'\n', behind @ ..] = rest {
            out.extend_from_slice(b"\r\n");
            *at = 0;
            rest = behind;
            continue;
        }
        let is_last_on_line = match behind.first() {
            None => ends == LineEnds::Here,
            Some(b'\r') => true,
            Some(_) => false,
        };
        let is_plain = stands_for_itself(byte) || matches!(byte, b' ' | b'\t') && !is_last_on_line;
        let length = if is_plain { 1 } else { 3 };
        if *at + length >= LINE {
            out.push(b'=');
            out.extend_from_slice(newline);
            *at = 0;
        }
        if is_plain {
            out.push(byte);
        } else {
            let digit = |value: u8| HEX.get(usize::from(value & 15)).copied().unwrap_or(b'0');
            out.extend_from_slice(&[b'=', digit(byte >> 4), digit(byte)]);
        }
        *at += length;
        rest = behind;
    }
}
