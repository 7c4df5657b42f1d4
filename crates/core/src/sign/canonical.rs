//! Canonical forms of a body and of a field (RFC 6376, section 3.4).

use std::collections::BTreeMap;

use aws_lc_rs::digest::{Context, Digest, SHA256};

/// A canonicalization of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyForm {
    /// Removes only empty lines at the end (3.4.3).
    Simple,
    /// Also folds spaces within lines and removes those at the end of lines (3.4.4).
    Relaxed,
}

/// The limit of the body for a signature without `l=`.
pub const WHOLE: usize = usize::MAX;

/// Returns the SHA-256 of the canonical form of a body, of which at most `limit` bytes count.
pub fn body_hash(body: &[u8], form: BodyForm, limit: Option<usize>) -> Digest {
    Hasher::new([limit.unwrap_or(WHOLE)]).body(body, form).whole()
}

/// Returns the SHA-256 of the canonical form of a body, truncated at each of these limits. The body is read
/// once, however many there are, and no further than the largest limit.
pub fn body_hashes(
    body: &[u8],
    form: BodyForm,
    limits: impl IntoIterator<Item = usize>,
) -> BTreeMap<usize, Digest> {
    Hasher::new(limits).body(body, form).all()
}

/// Returns everything after the empty line that ends the header. A message that begins with that line has no
/// header.
pub fn body_of(message: &[u8]) -> &[u8] {
    if let Some(body) = message.strip_prefix(b"\r\n") {
        return body;
    }
    memchr::memmem::find(message, b"\r\n\r\n").and_then(|end| message.get(end + 4..)).unwrap_or_default()
}

/// Writes the relaxed form of a field, without a line end (3.4.2).
pub fn relaxed_field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend(name.trim_ascii().iter().map(u8::to_ascii_lowercase));
    out.push(b':');
    let words =
        value.split(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).filter(|word| !word.is_empty());
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
        BodyForm::Relaxed => line.iter().all(|byte| is_blank(*byte)),
    }
}

/// Iterates over lines without their CRLF. The last line may lack one.
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

/// How much canonical text is collected before it is hashed: hashing word by word costs more than the hash
/// itself.
const GATHERED: usize = 16 * 1024;

/// Hashes a text, and prefixes of it.
struct Hasher {
    context: Context,
    /// What was not hashed yet.
    gathered: Vec<u8>,
    /// How much was hashed.
    hashed: usize,
    /// The remaining limits, the smallest last.
    ahead: Vec<usize>,
    done: BTreeMap<usize, Digest>,
}

impl Hasher {
    fn new(limits: impl IntoIterator<Item = usize>) -> Hasher {
        let mut ahead: Vec<usize> = limits.into_iter().collect();
        ahead.sort_unstable_by(|one, other| other.cmp(one));
        ahead.dedup();
        Hasher {
            context: Context::new(&SHA256),
            gathered: Vec::with_capacity(2 * GATHERED),
            hashed: 0,
            ahead,
            done: BTreeMap::new(),
        }
    }

    /// Adds a body in its canonical form.
    fn body(mut self, body: &[u8], form: BodyForm) -> Hasher {
        #[cfg(test)]
        PASSES.with(|passes| passes.set(passes.get() + 1));
        let mut empty_lines = 0usize;
        let mut wrote = false;
        for line in lines(body) {
            if self.ahead.is_empty() {
                break;
            }
            if is_empty(line, form) {
                empty_lines += 1;
                continue;
            }
            for _ in 0..std::mem::take(&mut empty_lines) {
                self.add(b"\r\n");
            }
            match form {
                BodyForm::Simple => self.add(line),
                BodyForm::Relaxed => relaxed(line, &mut self),
            }
            self.add(b"\r\n");
            wrote = true;
        }
        if !wrote && form == BodyForm::Simple {
            self.add(b"\r\n");
        }
        self.hash();
        self
    }

    fn add(&mut self, bytes: &[u8]) {
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= GATHERED {
            self.hash();
        }
    }

    /// Hashes what was collected, and keeps a copy of the hash at each limit on the way.
    fn hash(&mut self) {
        let gathered = std::mem::take(&mut self.gathered);
        let mut rest = gathered.as_slice();
        while let Some(limit) = self.ahead.last().copied().filter(|limit| limit - self.hashed <= rest.len()) {
            let (counted, tail) = rest.split_at(limit - self.hashed);
            self.context.update(counted);
            self.hashed = limit;
            self.done.insert(limit, self.context.clone().finish());
            self.ahead.pop();
            rest = tail;
        }
        self.context.update(rest);
        self.hashed += rest.len();
        self.gathered = gathered;
        self.gathered.clear();
    }

    /// Returns the hash of everything up to the only limit.
    fn whole(mut self) -> Digest {
        self.done.pop_first().map_or_else(|| self.context.finish(), |(_, digest)| digest)
    }

    /// Returns the hash for each limit. If the text was shorter, it is the hash of the text.
    fn all(self) -> BTreeMap<usize, Digest> {
        let Hasher { context, ahead, mut done, .. } = self;
        let whole = context.finish();
        done.extend(ahead.into_iter().map(|limit| (limit, whole)));
        done
    }
}

/// Adds a line without spaces at its end, with each run of spaces as one. Runs that need no change are added
/// at once.
fn relaxed(line: &[u8], hasher: &mut Hasher) {
    let trimmed = line.len() - line.iter().rev().take_while(|byte| is_blank(**byte)).count();
    let line = line.get(..trimmed).unwrap_or_default();
    let (mut from, mut at) = (0, 0);
    while let Some(blank) = memchr::memchr2(b' ', b'\t', line.get(at..).unwrap_or_default()) {
        let start = at + blank;
        let blanks = line.get(start..).unwrap_or_default().iter().take_while(|byte| is_blank(**byte)).count();
        at = start + blanks;
        if blanks > 1 || line.get(start) == Some(&b'\t') {
            hasher.add(line.get(from..start).unwrap_or_default());
            hasher.add(b" ");
            from = at;
        }
    }
    hasher.add(line.get(from..).unwrap_or_default());
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

#[cfg(test)]
thread_local! {
    static PASSES: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// How often this thread has read a body to hash it.
#[cfg(test)]
pub(super) fn passes() -> usize {
    PASSES.with(std::cell::Cell::get)
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
    fn a_message_without_a_header_is_all_body() {
        assert_eq!(body_of(b"\r\na\r\n\r\nb\r\n"), b"a\r\n\r\nb\r\n");
        assert_eq!(body_of(b"From: a\r\n\r\nb\r\n"), b"b\r\n");
    }

    #[test]
    fn a_limit_counts_canonical_bytes() {
        let hash = body_hash(b"a  b\r\nc\r\n", BodyForm::Relaxed, Some(4));
        assert_eq!(hash.as_ref(), sha256("a b\r"));
    }

    #[test]
    fn hashes_at_many_limits_are_those_of_the_cut_text() {
        let body = "a  b\r\n\t\r\nc \t d  \r\n \r\n\r\ne\tf\r\n \r\n\r\n";
        for (form, text) in [
            (BodyForm::Relaxed, "a b\r\n\r\nc d\r\n\r\n\r\ne f\r\n"),
            (BodyForm::Simple, "a  b\r\n\t\r\nc \t d  \r\n \r\n\r\ne\tf\r\n \r\n"),
        ] {
            let limits = (0..=text.len() + 3).rev().chain([WHOLE, 2, WHOLE]);
            let hashes = body_hashes(body.as_bytes(), form, limits);
            assert_eq!(hashes.len(), text.len() + 5);
            for (limit, hash) in hashes {
                assert_eq!(hash.as_ref(), sha256(&text[..limit.min(text.len())]), "{form:?} {limit}");
            }
        }
    }

    #[test]
    fn limits_around_what_is_gathered_are_met_to_the_byte() {
        let body = "word \t word\r\n".repeat(8000);
        let text = "word word\r\n".repeat(8000);
        let limits = [0, 1, GATHERED - 1, GATHERED, GATHERED + 1, 3 * GATHERED, 70_000, 88_000, 88_001];
        let hashes = body_hashes(body.as_bytes(), BodyForm::Relaxed, limits);
        assert_eq!(hashes.len(), limits.len());
        for (limit, hash) in hashes {
            assert_eq!(hash.as_ref(), sha256(&text[..limit.min(text.len())]), "{limit}");
        }
    }
}
