//! uuencode, as `x-uuencode` names it: lines of a length and groups of four characters, between `begin` and
//! `end`.

use std::borrow::Cow;
use std::ops::Range;

use super::{Edit, apply, line_end};
use crate::message::Filler;

/// The bytes of a line.
const LINE: usize = 45;

/// Decodes what stands between `begin` and `end`. A text without them is read as it stands, as mail clients
/// do.
pub(super) fn decode(raw: &[u8]) -> Cow<'_, [u8]> {
    let Some(content) = content(raw) else { return Cow::Borrowed(raw) };
    let mut out = Vec::with_capacity(content.len() / 4 * 3);
    for line in raw.get(content).unwrap_or_default().split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some((first, groups)) = line.split_first() else { continue };
        let length = usize::from(value(*first));
        let start = out.len();
        for four in groups.chunks(4) {
            let [a, b, c, d] = [0, 1, 2, 3].map(|at| four.get(at).map_or(0, |byte| value(*byte)));
            out.extend_from_slice(&[a << 2 | b >> 4, b << 4 | c >> 2, c << 6 | d]);
        }
        out.resize(start + length, 0);
    }
    Cow::Owned(out)
}

/// Writes the text with its edits anew: each line says how long it is, so one that changes moves all behind
/// it.
pub(super) fn to_raw(raw: &[u8], decoded: &[u8], edits: Vec<Edit>) -> Vec<Edit> {
    if edits.is_empty() {
        return edits;
    }
    let Some(content) = content(raw) else { return edits };
    let end = std::str::from_utf8(line_end(raw)).unwrap_or("\r\n");
    let lines = lines(&apply(decoded, &edits), end);
    // The line without content that comes before `end`.
    let with = format!("{lines}`{end}").into_bytes();
    vec![Edit { range: content, with, filler: Filler::Nothing }]
}

/// Encodes lines.
pub(super) fn lines(bytes: &[u8], end: &str) -> String {
    let character = |value: u8| if value == 0 { '`' } else { char::from(b' ' + (value & 0x3f)) };
    let mut out = String::with_capacity(bytes.len() / 3 * 4 + bytes.len() / 10);
    for line in bytes.chunks(LINE) {
        out.push(character(u8::try_from(line.len()).unwrap_or_default()));
        for three in line.chunks(3) {
            let [a, b, c] = [0, 1, 2].map(|at| three.get(at).copied().unwrap_or_default());
            for value in [a >> 2, (a & 3) << 4 | b >> 4, (b & 15) << 2 | c >> 6, c & 63] {
                out.push(character(value));
            }
        }
        out.push_str(end);
    }
    out
}

/// Where the lines between `begin` and `end` stand, the one before `end` included.
fn content(raw: &[u8]) -> Option<Range<usize>> {
    let lines = || std::iter::once(0).chain(memchr::memchr_iter(b'\n', raw).map(|end| end + 1));
    let starts = |at: usize, with: &[u8]| raw.get(at..).is_some_and(|rest| rest.starts_with(with));
    let begin = lines().find(|at| starts(*at, b"begin "))?;
    let start = begin + memchr::memchr(b'\n', raw.get(begin..)?)? + 1;
    let end = lines().find(|at| *at >= start && starts(*at, b"end")).unwrap_or(raw.len());
    Some(start..end)
}

fn value(byte: u8) -> u8 {
    byte.wrapping_sub(b' ') & 0x3f
}
