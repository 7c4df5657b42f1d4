//! Other ways to read the same bytes: with another one of several types that a header names, and with a body
//! that begins where the header stops being one. Mail clients differ in both; what any of them shows is
//! looked at.

use std::borrow::Cow;

use super::header::fields;
use super::structure::Leaf;

/// A way to read a message.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    /// The bytes to be read in the place of those of the message.
    pub(super) raw: Cow<'a, [u8]>,
    /// Where an empty line was put in.
    split: Option<usize>,
}

/// The line end that is put in.
const EMPTY_LINE: &[u8] = b"\r\n";

/// The ways to read a message beside the one that was taken; `twice` are the starts of the headers that name
/// several types.
pub(super) fn of<'a>(twice: &[usize], raw: &'a [u8]) -> Vec<Reading<'a>> {
    let mut readings = Vec::new();
    if !twice.is_empty() {
        readings.push(masked(raw, twice, |types| types.split_first().map(|(_, rest)| rest)));
        readings.push(masked(raw, twice, |types| types.split_last().map(|(_, rest)| rest)));
    }
    if let Some(at) = end_of_header(raw) {
        let (header, body) = raw.split_at(at);
        let raw = Cow::Owned([header, EMPTY_LINE, body].concat());
        readings.push(Reading { raw, split: Some(at) });
    }
    readings
}

/// The message with some of the types of these parts made unknown; every byte stays where it is.
fn masked<'a>(raw: &'a [u8], parts: &[usize], hidden: impl Fn(&[usize]) -> Option<&[usize]>) -> Reading<'a> {
    let mut bytes = raw.to_vec();
    for start in parts {
        let all = fields(raw, *start).filter(|field| field.is(raw, "Content-Type"));
        let types: Vec<usize> = all.map(|field| field.name.start).collect();
        for at in hidden(&types).unwrap_or_default() {
            if let Some(byte) = bytes.get_mut(*at) {
                *byte = b'X';
            }
        }
    }
    Reading { raw: Cow::Owned(bytes), split: None }
}

/// Where a line stands in the header that is none of it, markup by its look: there, some programs begin the
/// body.
fn end_of_header(raw: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let rest = raw.get(at..)?;
        let length = memchr::memchr(b'\n', rest)? + 1;
        let line = rest.get(..length)?;
        match line.first()? {
            b'\r' | b'\n' => return None,
            b'<' if at > 0 => return Some(at),
            _ => at += length,
        }
    }
}

impl Reading<'_> {
    /// A leaf of this reading where it stands in the message.
    pub(super) fn placed(&self, mut leaf: Leaf) -> Leaf {
        let placed = |at: usize| match self.split {
            Some(split) if at > split => at - EMPTY_LINE.len(),
            _ => at,
        };
        leaf.body = placed(leaf.body.start)..placed(leaf.body.end);
        leaf
    }
}
