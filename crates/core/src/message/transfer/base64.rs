//! base64 (RFC 2045 section 6.8).

use super::{Edit, Mark, column, line_end, mark_before, rest_of_line};
use crate::near::Near;

/// The longest line, without its end (RFC 2045 section 6.8).
const LINE: usize = 76;

/// Decoded bytes between two marks.
const MARK_EVERY: usize = 256;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The value of each byte, or [`OTHER`].
#[expect(clippy::indexing_slicing, reason = "evaluated at compile time, where a wrong index is an error")]
const VALUES: [u8; 256] = {
    let mut values = [OTHER; 256];
    let mut value = 0;
    while value < 64 {
        values[ALPHABET[value] as usize] = value as u8;
        value += 1;
    }
    values
};
const OTHER: u8 = 0x80;

fn value(byte: u8) -> u8 {
    VALUES.get(usize::from(byte)).copied().unwrap_or(OTHER)
}

pub(super) fn decode(raw: &[u8], marks: &mut Vec<Mark>) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len() / 4 * 3 + 3);
    let mut next_mark = 0;
    let mut at = 0;
    while at < raw.len() {
        if out.len() >= next_mark {
            marks.push(Mark { decoded: out.len(), raw: at });
            next_mark = out.len() + MARK_EVERY;
        }
        at += whole_quanta(raw.get(at..).unwrap_or_default(), &mut out);
        let quantum = Quantum::read(raw, at);
        out.extend_from_slice(quantum.bytes());
        at = quantum.end;
    }
    out
}

/// The same, where what stands behind `raw` is decoded as it is without it; `None` where the last quantum is
/// not whole.
pub(super) fn decode_whole(raw: &[u8]) -> Option<Vec<u8>> {
    let mut at = 0;
    while at < raw.len() {
        let quantum = Quantum::read(raw, at);
        let is_padded = raw.get(quantum.end.wrapping_sub(1)) == Some(&b'=');
        if quantum.short && quantum.start < raw.len() && !is_padded {
            return None;
        }
        at = quantum.end;
    }
    Some(decode(raw, &mut Vec::new()))
}

/// Decodes quanta as long as nothing but the alphabet comes, up to the next mark; says how many raw bytes
/// that took.
fn whole_quanta(raw: &[u8], out: &mut Vec<u8>) -> usize {
    let mut taken = 0;
    for four in raw.chunks_exact(4).take(MARK_EVERY / 4) {
        let [a, b, c, d] = [0, 1, 2, 3].map(|at| four.get(at).copied().map_or(OTHER, value));
        if (a | b | c | d) & OTHER != 0 {
            break;
        }
        out.extend_from_slice(&[a << 2 | b >> 4, b << 4 | c >> 2, c << 6 | d]);
        taken += 4;
    }
    taken
}

/// Up to four characters that carry up to three bytes, with whatever stands between them.
struct Quantum {
    /// Where its first character stands.
    start: usize,
    /// Behind its last character.
    end: usize,
    decoded: [u8; 3],
    length: usize,
    /// It was cut short by padding or the end of the text.
    short: bool,
}

impl Quantum {
    /// Reads the quantum at or behind `at`. Bytes that are not of the alphabet are passed over; padding ends
    /// a quantum.
    fn read(raw: &[u8], at: usize) -> Quantum {
        let mut start = None;
        let mut end = at;
        let mut bits: u32 = 0;
        let mut characters = 0;
        let mut padded = false;
        for (offset, &byte) in raw.get(at..).unwrap_or_default().iter().enumerate() {
            let value = value(byte);
            if value != OTHER {
                if padded {
                    break;
                }
                start.get_or_insert(at + offset);
                end = at + offset + 1;
                bits = bits << 6 | u32::from(value);
                characters += 1;
                if characters == 4 {
                    break;
                }
            } else if byte == b'=' && characters > 0 {
                padded = true;
                end = at + offset + 1;
            }
        }
        let start = start.unwrap_or(raw.len());
        if characters == 0 {
            end = raw.len();
        }
        let length: usize = match characters {
            4 => 3,
            3 => 2,
            2 => 1,
            _ => 0,
        };
        let bits = bits << (6 * (4 - characters));
        let decoded = [(bits >> 16) as u8, (bits >> 8) as u8, bits as u8];
        Quantum { start, end, decoded, length, short: characters < 4 }
    }

    fn bytes(&self) -> &[u8] {
        self.decoded.get(..self.length).unwrap_or_default()
    }
}

/// The quantum that carries decoded byte `decoded`, and the decoded offset at which it starts. For the end of
/// the text: the last one.
fn quantum_of(raw: &[u8], marks: &[Mark], decoded: usize) -> (usize, Quantum) {
    // Before a mark at `decoded` itself, a quantum may stand that carries nothing, and would belong to what is
    // written behind it.
    let mark = mark_before(marks, decoded.saturating_sub(1), &Near::default());
    let mut at = mark.decoded;
    let mut quantum = Quantum::read(raw, mark.raw);
    while at + quantum.length <= decoded && quantum.end < raw.len() {
        let next = Quantum::read(raw, quantum.end);
        if next.length == 0 && next.end >= raw.len() {
            break;
        }
        at += quantum.length;
        quantum = next;
    }
    (at, quantum)
}

pub(super) fn to_raw(raw: &[u8], text: &[u8], marks: &[Mark], edits: Vec<Edit>) -> Vec<Edit> {
    let mut written: Vec<Edit> = Vec::with_capacity(edits.len());
    let mut rest = edits.as_slice();
    while !rest.is_empty() {
        let (group, behind) = rest.split_at(first_group(raw, marks, rest));
        match in_raw(raw, text, marks, group, Reach::Group) {
            Some(edit) => written.push(edit),
            // Everything behind is encoded anew, with the edits that stand there.
            None => {
                written.extend(in_raw(raw, text, marks, rest, Reach::End));
                return written;
            }
        }
        rest = behind;
    }
    written
}

/// How many of the first edits share a quantum with one another, and are written together.
fn first_group(raw: &[u8], marks: &[Mark], edits: &[Edit]) -> usize {
    let mut group_end = 0;
    edits
        .iter()
        .position(|edit| {
            let (first, quantum) = quantum_of(raw, marks, edit.range.start);
            if group_end > 0 && first >= group_end {
                return true;
            }
            let (last, last_quantum) =
                quantum_of(raw, marks, edit.range.end.saturating_sub(1).max(edit.range.start));
            group_end = (last + last_quantum.length).max(first + quantum.length).max(group_end).max(1);
            false
        })
        .unwrap_or(edits.len())
}

/// How far the raw bytes are written anew.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// As far as the edits go.
    Group,
    /// To the end of the part.
    End,
}

/// Writes edits whose quanta touch as one raw edit. `None` where nothing fits beside them that would leave
/// what stands behind as it is.
fn in_raw(raw: &[u8], text: &[u8], marks: &[Mark], group: &[Edit], reach: Reach) -> Option<Edit> {
    let start_of = group.first().map_or(0, |edit| edit.range.start);
    let end_of = group.last().map_or(0, |edit| edit.range.end);
    let (first, first_quantum) = quantum_of(raw, marks, start_of);
    let (last, last_quantum) = quantum_of(raw, marks, end_of.saturating_sub(1).max(start_of));
    let after = match reach {
        Reach::Group => (last + last_quantum.length).max(end_of),
        Reach::End => text.len(),
    };
    let mut bytes = Vec::new();
    let mut at = first;
    for edit in group {
        bytes.extend_from_slice(text.get(at..edit.range.start).unwrap_or_default());
        bytes.extend_from_slice(&edit.with);
        at = edit.range.end;
    }
    let filler_at = bytes.len();
    bytes.extend_from_slice(text.get(at..after).unwrap_or_default());

    let raw_start = first_quantum.start.min(raw.len());
    let mut raw_end = match reach {
        Reach::Group => last_quantum.end.max(raw_start),
        // The line ends behind the last character belong to nothing that is encoded.
        Reach::End => raw.trim_ascii_end().len().max(raw_start),
    };
    let missing = (3 - bytes.len() % 3) % 3;
    if missing != 0 && !last_quantum.short && after < text.len() {
        let filler = group.last().map_or(super::Filler::Nothing, |edit| edit.filler);
        bytes.splice(filler_at..filler_at, filler.of(missing)?.iter().copied());
    }
    let mut column = column(raw, raw_start);
    let mut with = String::new();
    encode(&bytes, &mut column, line_end(raw), &mut with);
    let rest = rest_of_line(raw, raw_end);
    if bytes.is_empty() && column == 0 && rest == 0 {
        // Nothing is left of these lines.
        raw_end += line_end(raw).len().min(raw.len() - raw_end);
    } else if column > 0 && rest > 0 && column + rest > LINE {
        with.push_str(if line_end(raw) == b"\n" { "\n" } else { "\r\n" });
    }
    Some(Edit { range: raw_start..raw_end, with: with.into_bytes(), filler: super::Filler::Nothing })
}

/// Encodes what fits into one line.
pub(super) fn encode_line(bytes: &[u8]) -> String {
    let mut line = String::with_capacity(LINE);
    encode(bytes, &mut 0, b"\r\n", &mut line);
    line
}

/// Encodes `bytes` from column `at` on, padded at the end, in lines of at most 76 characters.
pub(super) fn encode(bytes: &[u8], at: &mut usize, newline: &[u8], out: &mut String) {
    let newline = if newline == b"\n" { "\n" } else { "\r\n" };
    for three in bytes.chunks(3) {
        let byte = |index: usize| u32::from(three.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            if *at >= LINE {
                out.push_str(newline);
                *at = 0;
            }
            let sixth = (bits >> (18 - 6 * place) & 63) as usize;
            let character = ALPHABET.get(sixth).copied().unwrap_or(b'A');
            out.push(if place > three.len() { '=' } else { char::from(character) });
            *at += 1;
        }
    }
}
