//! Line ends after edits: no CR and no LF is left by itself, of which others may make the end of the message.
//!
//! Edits of text in which a character is two bytes long can take half of a line end away.

use crate::message::transfer::Edit;

/// What came of `raw` by these edits, with whole line ends.
pub(super) fn mended(raw: &[u8], edits: &[Edit], edited: Vec<u8>) -> Vec<u8> {
    if edits.iter().any(|edit| may_part_one(raw, edit)) { whole(&edited) } else { edited }
}

/// Whether an edit may leave a CR without its LF, or an LF without its CR.
fn may_part_one(raw: &[u8], edit: &Edit) -> bool {
    let with = &edit.with;
    let is_half = |at: usize| match with.get(at) {
        Some(b'\r') => with.get(at + 1) != Some(&b'\n'),
        _ => at.checked_sub(1).and_then(|before| with.get(before)) != Some(&b'\r'),
    };
    raw.get(..edit.range.start).is_some_and(|before| before.ends_with(b"\r"))
        || raw.get(edit.range.end..).is_some_and(|behind| behind.starts_with(b"\n"))
        || memchr::memchr2_iter(b'\r', b'\n', with).any(is_half)
}

/// The same bytes with CRLF in the place of each CR and of each LF that stands by itself.
fn whole(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 16);
    let mut last = 0;
    for &byte in bytes {
        if (last == b'\r') != (byte == b'\n') {
            out.push(if byte == b'\n' { b'\r' } else { b'\n' });
        }
        out.push(byte);
        last = byte;
    }
    if last == b'\r' {
        out.push(b'\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::transfer::apply;

    #[test]
    fn no_edit_parts_a_line_end() {
        assert_eq!(whole(b"a\rb\nc\r\n\r\r\n\n\r"), b"a\r\nb\r\nc\r\n\r\n\r\n\r\n\r\n");
        let raw = b"Subject: a\r\n\r\nb\r\n\r\nc\r\n";
        for start in 0..raw.len() {
            for end in start..raw.len() {
                for with in ["", "x", "\r\n", "x\r\ny", "\n", "\r"] {
                    let edits = [Edit::replace(start..end, with)];
                    let out = mended(raw, &edits, apply(raw, &edits));
                    assert_eq!(whole(&out), out, "{with:?} for {start}..{end}");
                }
            }
        }
    }
}
