//! Canonical forms of a body and of a field (RFC 6376 section 3.4).

use aws_lc_rs::digest::{Context, Digest, SHA256};

/// How a body is brought into a form that survives transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyForm {
    /// Only empty lines at the end are taken off (3.4.3).
    Simple,
    /// Blanks within lines are folded and those at the end of lines taken off, too (3.4.4).
    Relaxed,
}

/// The SHA-256 of the canonical form of a body, of which at most `limit` bytes count.
pub fn body_hash(body: &[u8], form: BodyForm, limit: Option<usize>) -> Digest {
    let mut hash = Limited { context: Context::new(&SHA256), left: limit.unwrap_or(usize::MAX) };
    let mut empty_lines = 0usize;
    let mut wrote = false;
    for line in lines(body) {
        if is_empty(line, form) {
            empty_lines += 1;
            continue;
        }
        for _ in 0..std::mem::take(&mut empty_lines) {
            hash.update(b"\r\n");
        }
        match form {
            BodyForm::Simple => hash.update(line),
            BodyForm::Relaxed => relaxed(line, &mut hash),
        }
        hash.update(b"\r\n");
        wrote = true;
    }
    if !wrote && form == BodyForm::Simple {
        hash.update(b"\r\n");
    }
    hash.context.finish()
}

/// Everything behind the empty line that ends the header.
pub fn body_of(message: &[u8]) -> &[u8] {
    memchr::memmem::find(message, b"\r\n\r\n").and_then(|end| message.get(end + 4..)).unwrap_or_default()
}

/// Writes the relaxed form of a field, without a line end (3.4.2).
pub fn relaxed_field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend(name.trim_ascii().iter().map(u8::to_ascii_lowercase));
    out.push(b':');
    let words =
        value.split(|own| matches!(own, b' ' | b'\t' | b'\r' | b'\n')).filter(|word| !word.is_empty());
    for (index, word) in words.enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(word);
    }
}

fn is_empty(line: &[u8], form: BodyForm) -> bool {
    match form {
        BodyForm::Simple => line.is_empty(),
        BodyForm::Relaxed => line.iter().all(|byte| matches!(byte, b' ' | b'\t')),
    }
}

/// Lines without their CRLF. The last line may lack one.
fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = body;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = memchr::memchr(b'\n', rest);
        let (line, tail) = match end {
            Some(end) => (rest.get(..end)?, rest.get(end + 1..)?),
            None => (rest, &b""[..]),
        };
        rest = tail;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    })
}

fn relaxed(line: &[u8], hash: &mut Limited) {
    let trimmed = line.len() - line.iter().rev().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let mut rest = line.get(..trimmed).unwrap_or_default();
    while !rest.is_empty() {
        let word = memchr::memchr2(b' ', b'\t', rest).unwrap_or(rest.len());
        let (text, tail) = rest.split_at(word);
        hash.update(text);
        let blanks = tail.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        if blanks > 0 {
            hash.update(b" ");
        }
        rest = tail.get(blanks..).unwrap_or_default();
    }
}

struct Limited {
    context: Context,
    left: usize,
}

impl Limited {
    fn update(&mut self, bytes: &[u8]) {
        let counted = bytes.get(..bytes.len().min(self.left)).unwrap_or_default();
        self.left -= counted.len();
        self.context.update(counted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, form: BodyForm) -> Vec<u8> {
        body_hash(body.as_bytes(), form, None).as_ref().to_vec()
    }

    fn sha256(text: &str) -> Vec<u8> {
        aws_lc_rs::digest::digest(&SHA256, text.as_bytes()).as_ref().to_vec()
    }

    #[test]
    fn the_examples_of_the_standard() {
        // RFC 6376 section 3.4.5.
        let body = " C \r\nD \t E\r\n\r\n\r\n";
        assert_eq!(check(body, BodyForm::Relaxed), sha256(" C\r\nD E\r\n"));
        assert_eq!(check(body, BodyForm::Simple), sha256(" C \r\nD \t E\r\n"));
        assert_eq!(check("", BodyForm::Simple), sha256("\r\n"));
        assert_eq!(check("", BodyForm::Relaxed), sha256(""));
    }

    #[test]
    fn a_limit_counts_canonical_bytes() {
        let hash = body_hash(b"a  b\r\nc\r\n", BodyForm::Relaxed, Some(4));
        assert_eq!(hash.as_ref(), sha256("a b\r"));
    }
}
