//! yEnc, as `x-yencode` names it: each byte moved by 42, a few of them escaped, between `=ybegin` and
//! `=yend`.

use std::borrow::Cow;

use super::{Edit, apply, line_end};
use crate::message::Filler;

const MOVE: u8 = 42;
const ESCAPE: u8 = 64;
/// The bytes of a line.
const LINE: usize = 128;

/// Decodes the lines behind `=ybegin`. A text without it is read as it stands.
pub(super) fn decode(raw: &[u8]) -> Cow<'_, [u8]> {
    let Some((_, content)) = parts(raw) else { return Cow::Borrowed(raw) };
    let mut out = Vec::with_capacity(content.len());
    for line in content.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.starts_with(b"=yend") {
            break;
        }
        if line.starts_with(b"=ypart") {
            continue;
        }
        let mut bytes = line.iter();
        while let Some(byte) = bytes.next() {
            let byte = match byte {
                b'=' => bytes.next().map_or(0, |next| next.wrapping_sub(ESCAPE)),
                byte => *byte,
            };
            out.push(byte.wrapping_sub(MOVE));
        }
    }
    Cow::Owned(out)
}

/// Writes the text with its edits anew, with the length that it then has and no checksum.
pub(super) fn to_raw(raw: &[u8], decoded: &[u8], edits: Vec<Edit>) -> Vec<Edit> {
    if edits.is_empty() {
        return edits;
    }
    let Some((begin, _)) = parts(raw) else { return edits };
    let start = memchr::memmem::find(raw, b"=ybegin").unwrap_or_default();
    let with = encoded(begin, &apply(decoded, &edits), line_end(raw));
    vec![Edit { range: start..raw.len(), with, filler: Filler::Nothing }]
}

/// Encodes a text under the line that begins it.
pub(super) fn encoded(begin: &[u8], bytes: &[u8], end: &[u8]) -> Vec<u8> {
    let words = begin.split(|byte| *byte == b' ').map(|word| {
        if word.starts_with(b"size=") { format!("size={}", bytes.len()).into_bytes() } else { word.to_vec() }
    });
    let mut out = words.collect::<Vec<_>>().join(&b' ');
    out.extend_from_slice(end);
    for line in bytes.chunks(LINE) {
        for byte in line {
            match byte.wrapping_add(MOVE) {
                // A dot could stand first in a line, where SMTP doubles it.
                byte @ (0 | b'\n' | b'\r' | b'=' | b'.') => {
                    out.extend_from_slice(&[b'=', byte.wrapping_add(ESCAPE)]);
                }
                byte => out.push(byte),
            }
        }
        out.extend_from_slice(end);
    }
    out.extend_from_slice(format!("=yend size={}", bytes.len()).as_bytes());
    out.extend_from_slice(end);
    out
}

/// The line that begins the text, and what stands behind it.
fn parts(raw: &[u8]) -> Option<(&[u8], &[u8])> {
    let start = memchr::memmem::find(raw, b"=ybegin")?;
    let rest = raw.get(start..)?;
    let end = memchr::memchr(b'\n', rest)?;
    let begin = rest.get(..end)?;
    Some((begin.strip_suffix(b"\r").unwrap_or(begin), rest.get(end + 1..)?))
}
