//! Canonical forms of a body and of a field (RFC 6376, section 3.4).

use std::collections::BTreeMap;
use std::sync::LazyLock;

use aws_lc_rs::digest::{Context, Digest, SHA256};
use memchr::memmem::Finder;

use crate::places::{BLOCK, blanks};

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
    static EMPTY_LINE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\r\n\r\n"));
    EMPTY_LINE.find(message).and_then(|end| message.get(end + 4..)).unwrap_or_default()
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

/// How much canonical text is collected before it is hashed: hashing word by word costs more than the hash
/// itself.
const GATHERED: usize = 16 * 1024;

/// Returns where the canonical forms of two bodies first differ, in bytes; `None` if they are equal.
///
/// What both begin with is passed over as it stands, so this reads little more than the first line that an
/// edit changed.
pub fn difference(before: &[u8], after: &[u8], form: BodyForm) -> Option<usize> {
    let common = common_lines(before, after, form);
    let (same, before) = before.split_at_checked(common).unwrap_or((before, b""));
    let after = after.get(common..).unwrap_or_default();
    let [mut before, mut after] = [before, after].map(|rest| Lines::of(rest, form, same.is_empty()));
    let (mut one, mut other) = (Vec::new(), Vec::new());
    let mut compared = 0;
    loop {
        before.fill(&mut one, COMPARED);
        after.fill(&mut other, COMPARED);
        let equal = one.iter().zip(&other).take_while(|(one, other)| one == other).count();
        compared += equal;
        if equal < one.len().max(other.len()) {
            let is_unequal = equal < one.len().min(other.len());
            // One of them may be ahead of the other, unless that has ended.
            if is_unequal || equal == one.len() && before.done || equal == other.len() && after.done {
                let passed = if same.is_empty() { 0 } else { length(same, form) };
                return Some(passed + compared);
            }
        } else if before.done && after.done {
            return None;
        }
        one.drain(..equal);
        other.drain(..equal);
    }
}

/// How much canonical text is compared at once.
const COMPARED: usize = 1024;

/// Returns the length of the lines that two bodies begin with, up to a line that is not empty.
fn common_lines(before: &[u8], after: &[u8], form: BodyForm) -> usize {
    const BLOCK: usize = 256;
    let blocks = before.chunks_exact(BLOCK).zip(after.chunks_exact(BLOCK));
    let start = blocks.take_while(|(one, other)| one == other).count() * BLOCK;
    let tails = [before, after].map(|body| body.get(start..).unwrap_or_default());
    let [one, other] = tails;
    let same = start + one.iter().zip(other).take_while(|(one, other)| one == other).count();
    let mut rest = before.get(..same).unwrap_or_default();
    while let Some(end) = memchr::memrchr(b'\n', rest) {
        let line_start = memchr::memrchr(b'\n', rest.get(..end).unwrap_or_default()).map_or(0, |at| at + 1);
        let line = rest.get(line_start..end).unwrap_or_default();
        if !is_empty(line.strip_suffix(b"\r").unwrap_or(line), form) {
            return end + 1;
        }
        rest = rest.get(..line_start).unwrap_or_default();
    }
    0
}

/// Returns the length of the canonical form of whole lines, of which the last is not empty.
fn length(lines: &[u8], form: BodyForm) -> usize {
    let mut length = 0;
    pieces(lines, form, &mut |piece| length += piece.len());
    length
}

fn is_empty(line: &[u8], form: BodyForm) -> bool {
    match form {
        BodyForm::Simple => line.is_empty(),
        BodyForm::Relaxed => line.iter().all(|byte| is_blank(*byte)),
    }
}

/// The canonical form of a body, line by line.
struct Lines<'a> {
    rest: &'a [u8],
    form: BodyForm,
    /// Empty lines that count only if another line follows.
    empty: usize,
    /// Whether an empty body would be what it is (3.4.3).
    is_bare: bool,
    done: bool,
}

impl<'a> Lines<'a> {
    /// Reads a body, or the rest of one behind a line that is not empty.
    fn of(rest: &'a [u8], form: BodyForm, is_start: bool) -> Lines<'a> {
        Lines { rest, form, empty: 0, is_bare: is_start && form == BodyForm::Simple, done: false }
    }

    /// Adds lines until there are at least so many bytes.
    fn fill(&mut self, out: &mut Vec<u8>, length: usize) {
        while out.len() < length && !self.done {
            let Some(line) = self.next() else {
                self.done = true;
                if self.is_bare {
                    out.extend_from_slice(b"\r\n");
                }
                return;
            };
            if is_empty(line, self.form) {
                self.empty += 1;
                continue;
            }
            for _ in 0..std::mem::take(&mut self.empty) {
                out.extend_from_slice(b"\r\n");
            }
            match self.form {
                BodyForm::Simple => out.extend_from_slice(line),
                BodyForm::Relaxed => relaxed(line, &mut |piece| out.extend_from_slice(piece)),
            }
            out.extend_from_slice(b"\r\n");
            self.is_bare = false;
        }
    }

    /// Takes one line without its CRLF. The last line may lack one.
    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let end = memchr::memchr(b'\n', self.rest);
        let (line, tail) = match end {
            Some(end) => (self.rest.get(..end)?, self.rest.get(end + 1..)?),
            None => (self.rest, &b""[..]),
        };
        self.rest = tail;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

/// Gives the canonical form of a body in pieces, which are as long as nothing needs to be changed.
fn pieces(body: &[u8], form: BodyForm, add: &mut impl FnMut(&[u8])) {
    if !has_plain_line_ends(body) {
        let (mut lines, mut text) = (Lines::of(body, form, true), Vec::new());
        while !lines.done {
            text.clear();
            lines.fill(&mut text, GATHERED);
            add(&text);
        }
        return;
    }
    let text = without_empty_end(body, form);
    match (text.is_empty(), form) {
        (true, BodyForm::Relaxed) => return,
        (true, BodyForm::Simple) => {}
        (false, BodyForm::Simple) => add(text),
        (false, BodyForm::Relaxed) => relaxed(text, add),
    }
    add(b"\r\n");
}

/// Returns whether every line feed stands behind a carriage return, and the last carriage return before one.
fn has_plain_line_ends(body: &[u8]) -> bool {
    // Without a branch, so that many bytes are looked at together.
    let pairs = body.iter().zip(body.get(1..).unwrap_or_default());
    let bare =
        pairs.fold(0u8, |bare, (byte, next)| bare | (u8::from(*next == b'\n') & u8::from(*byte != b'\r')));
    bare == 0 && body.first() != Some(&b'\n') && body.last() != Some(&b'\r')
}

/// Returns a body without its last line end, without empty lines at its end and, in the relaxed form, without
/// blanks before them.
fn without_empty_end(body: &[u8], form: BodyForm) -> &[u8] {
    let mut text = body;
    loop {
        let cut = match (text, form) {
            ([text @ .., b'\r', b'\n'], _) => text,
            ([text @ .., b' ' | b'\t'], BodyForm::Relaxed) => text,
            _ => return text,
        };
        text = cut;
    }
}

/// Gives lines in their relaxed form, but for what stands behind the last one: each run of blanks as one
/// space, and none before a line end. Between the places that need a change, the text is given as it stands.
fn relaxed(text: &[u8], add: &mut impl FnMut(&[u8])) {
    let (mut from, mut at) = (0, 0);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let block = at;
        at += BLOCK.min(rest.len());
        if rest.get(..=BLOCK).is_some_and(is_relaxed) {
            continue;
        }
        let mut blanks = blanks(rest);
        while blanks != 0 {
            let start = block + blanks.trailing_zeros() as usize;
            let run = text.get(start..).unwrap_or_default();
            let length = run.iter().take_while(|byte| is_blank(**byte)).count();
            let behind = run.get(length..).unwrap_or_default();
            let is_last = behind.is_empty() || behind.starts_with(b"\r\n");
            let end = start + length;
            if is_last || length > 1 || run.first() == Some(&b'\t') {
                add(text.get(from..start).unwrap_or_default());
                if !is_last {
                    add(b" ");
                }
                from = end;
            }
            // A run may go on behind the block.
            at = at.max(end);
            let passed = end - block;
            blanks = if passed < BLOCK { blanks >> passed << passed } else { 0 };
        }
    }
    add(text.get(from..).unwrap_or_default());
}

/// Returns whether no blank of some bytes needs a change. The last byte is only looked at for what it is to
/// the one before it.
fn is_relaxed(bytes: &[u8]) -> bool {
    // Without a branch, so that many bytes are looked at together.
    let pairs = bytes.iter().zip(bytes.get(1..).unwrap_or_default());
    let found = pairs.fold(0u8, |found, (byte, next)| {
        let is_tab = u8::from(*byte == b'\t');
        let is_space = u8::from(*byte == b' ');
        let is_end = u8::from(*next == b' ') | u8::from(*next == b'\t') | u8::from(*next == b'\r');
        found | is_tab | (is_space & is_end)
    });
    found == 0
}

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
            gathered: Vec::new(),
            hashed: 0,
            ahead,
            done: BTreeMap::new(),
        }
    }

    /// Adds a body in its canonical form.
    fn body(mut self, body: &[u8], form: BodyForm) -> Hasher {
        #[cfg(test)]
        PASSES.with(|passes| passes.set(passes.get() + 1));
        pieces(body, form, &mut |piece| self.add(piece));
        self.hash();
        self
    }

    fn add(&mut self, piece: &[u8]) {
        if self.ahead.is_empty() {
            return;
        }
        if piece.len() >= GATHERED {
            self.hash();
            self.hash_at_once(piece);
            return;
        }
        self.gathered.extend_from_slice(piece);
        if self.gathered.len() >= GATHERED {
            self.hash();
        }
    }

    /// Hashes what was collected.
    fn hash(&mut self) {
        let mut gathered = std::mem::take(&mut self.gathered);
        self.hash_at_once(&gathered);
        gathered.clear();
        self.gathered = gathered;
    }

    /// Hashes a text, and keeps a copy of the hash at each limit on the way.
    fn hash_at_once(&mut self, text: &[u8]) {
        let mut rest = text;
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
    use proptest::prelude::*;

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

    /// The canonical form, read line by line.
    fn by_lines(body: &[u8], form: BodyForm) -> Vec<u8> {
        let (mut lines, mut text) = (Lines::of(body, form, true), Vec::new());
        lines.fill(&mut text, usize::MAX);
        text
    }

    proptest! {
        #[test]
        fn pieces_are_the_lines(
            body in "(([ab \t]{0,5}| {60,70})(\r\n|\r\n|\r\n|\n|\r)?){0,60}|([ab \t]{0,9}\r\n){0,60}",
        ) {
            for form in [BodyForm::Simple, BodyForm::Relaxed] {
                let mut text = Vec::new();
                pieces(body.as_bytes(), form, &mut |piece| text.extend_from_slice(piece));
                prop_assert_eq!(text, by_lines(body.as_bytes(), form));
            }
        }

        #[test]
        fn forms_differ_where_their_first_bytes_do(
            start in "([ab \t]{0,5}(\r\n|\r\n|\n)){0,200}",
            ends in ("([ab \t]{0,5}(\r\n|\r)?){0,5}", "([ab \t]{0,5}(\r\n|\r)?){0,5}"),
            after in "([ab \t]{0,5}(\r\n)?){0,300}",
        ) {
            let [one, other] = [ends.0, ends.1].map(|end| format!("{start}{end}{after}"));
            for form in [BodyForm::Simple, BodyForm::Relaxed] {
                let [text, changed] = [&one, &other].map(|body| by_lines(body.as_bytes(), form));
                let same = text.iter().zip(&changed).take_while(|(one, other)| one == other).count();
                let wanted = (text != changed).then_some(same);
                prop_assert_eq!(difference(one.as_bytes(), other.as_bytes(), form), wanted);
            }
        }
    }
}
