//! The part of a filter rule that is compared with an address.

use std::ops::Range;

use super::Reason;

/// Addresses are compared with this before them, because some rules begin with it.
const SCHEME: &[u8] = b"https://";

/// The longest pattern, in bytes. Together with the length of an address it bounds the time of a comparison.
const MAX_PATTERN: usize = 512;

/// The longest host that resolves (RFC 1035 section 2.3.4).
const MAX_HOST: usize = 255;

/// How many bytes a key of the index has.
pub(super) const GRAM: usize = 4;

/// An address in the form that patterns are compared with.
#[derive(Debug)]
pub(super) struct Address {
    /// As written.
    exact: Vec<u8>,
    /// In lower case.
    folded: Vec<u8>,
    host: Range<usize>,
}

/// What an address must look like.
#[derive(Debug)]
pub(super) struct Pattern {
    anchor: Anchor,
    /// What stands between the stars, in order. `^` stands for a separator.
    pieces: Box<[Box<[u8]>]>,
    /// Whether the last piece ends the address.
    ends: bool,
    /// Whether case matters.
    exact: bool,
}

/// Where the first piece stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Anchor {
    Anywhere,
    Start,
    /// Where the host or one of its labels starts.
    Label,
}

/// Some bytes of a pattern that every address it matches holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gram {
    pub(super) bytes: [u8; GRAM],
    pub(super) piece: u16,
    /// Where they stand in the piece.
    pub(super) offset: u16,
}

impl Address {
    /// Reads `host/path?query`. `None` where the host is too long to be one.
    pub(super) fn new(url: &str) -> Option<Address> {
        let end = url.find(['/', '?']).unwrap_or(url.len());
        let (host, tail) = url.split_at_checked(end)?;
        // The root's dot changes nothing for a resolver, and must change nothing here.
        let host = host.trim_end_matches('.');
        if host.len() > MAX_HOST {
            return None;
        }
        let slash: &[u8] = if tail.starts_with('/') { b"" } else { b"/" };
        let exact = [SCHEME, host.as_bytes(), slash, tail.as_bytes()].concat();
        let folded = exact.to_ascii_lowercase();
        Some(Address { exact, folded, host: SCHEME.len()..SCHEME.len() + host.len() })
    }

    /// The bytes in lower case.
    pub(super) fn folded(&self) -> &[u8] {
        &self.folded
    }

    /// Where the host and each label of it starts, with the text from there to the end of the host.
    pub(super) fn suffixes(&self) -> impl Iterator<Item = (usize, &str)> {
        self.labels().filter_map(|start| {
            let suffix = self.folded.get(start..self.host.end)?;
            Some((start, std::str::from_utf8(suffix).ok()?))
        })
    }

    fn labels(&self) -> impl Iterator<Item = usize> {
        let host = self.folded.get(self.host.clone()).unwrap_or_default();
        let start = self.host.start;
        std::iter::once(start).chain(memchr::memchr_iter(b'.', host).map(move |dot| start + dot + 1))
    }

    fn bytes(&self, exact: bool) -> &[u8] {
        if exact { &self.exact } else { &self.folded }
    }
}

impl Pattern {
    /// Reads a pattern without exception mark and options; case matters where `exact`.
    pub(super) fn read(text: &str, exact: bool) -> Result<Pattern, Reason> {
        if text.len() > MAX_PATTERN {
            return Err(Reason::TooLong);
        }
        let text = if exact { text.to_owned() } else { text.to_ascii_lowercase() };
        let (anchor, text) = match text.strip_prefix("||") {
            Some(rest) => (Anchor::Label, rest),
            None => match text.strip_prefix('|') {
                Some(rest) => (Anchor::Start, rest),
                None => (Anchor::Anywhere, text.as_str()),
            },
        };
        let (text, ends) = match text.strip_suffix('|') {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        // A star beside an anchor undoes it.
        let ends = ends && !text.ends_with('*');
        let anchor = if text.starts_with('*') { Anchor::Anywhere } else { anchor };
        let text = match text.strip_prefix("http:") {
            Some(rest) if anchor != Anchor::Label => format!("https:{rest}"),
            _ => text.to_owned(),
        };
        let pieces: Box<[Box<[u8]>]> =
            text.split('*').filter(|piece| !piece.is_empty()).map(|piece| piece.as_bytes().into()).collect();
        if pieces.is_empty() { Err(Reason::TooGeneral) } else { Ok(Pattern { anchor, pieces, ends, exact }) }
    }

    /// What matches a domain and all below it.
    pub(super) fn domain(host: &str) -> Pattern {
        let piece = format!("{}^", host.to_ascii_lowercase()).into_bytes();
        Pattern {
            anchor: Anchor::Label,
            pieces: Box::new([piece.into_boxed_slice()]),
            ends: false,
            exact: false,
        }
    }

    /// The whole host that every address must end its host with, if the pattern names one.
    pub(super) fn host(&self) -> Option<String> {
        let first = self.pieces.first().filter(|_| self.anchor == Anchor::Label)?;
        let is_host = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | 0x80..);
        let end = first.iter().position(|byte| !is_host(byte))?;
        let (host, rest) = first.split_at_checked(end)?;
        let whole = matches!(rest.first(), Some(b'^' | b'/')) && !host.ends_with(b".") && !host.is_empty();
        whole.then(|| String::from_utf8_lossy(host).to_ascii_lowercase())
    }

    /// Every run of bytes by which the pattern could be looked up, in lower case.
    pub(super) fn grams(&self) -> impl Iterator<Item = Gram> {
        (0u16..).zip(&self.pieces).flat_map(|(piece, bytes)| {
            (0u16..).zip(bytes.windows(GRAM)).filter_map(move |(offset, window)| {
                let bytes: [u8; GRAM] = window.to_ascii_lowercase().try_into().ok()?;
                (!bytes.contains(&b'^')).then_some(Gram { bytes, piece, offset })
            })
        })
    }

    /// Whether an address matches.
    pub(super) fn matches(&self, address: &Address) -> bool {
        let text = address.bytes(self.exact);
        let Some((first, rest)) = self.pieces.split_first() else { return false };
        let behind = |start: usize| piece_at(first, text, start);
        match self.anchor {
            Anchor::Anywhere => self.float(&self.pieces, text, 0),
            Anchor::Start => behind(0).is_some_and(|end| self.float(rest, text, end)),
            Anchor::Label if rest.is_empty() => {
                address.labels().filter_map(behind).any(|end| self.float(rest, text, end))
            }
            // What follows the first place where the piece stands, also follows every later one.
            Anchor::Label => address.labels().find_map(behind).is_some_and(|end| self.float(rest, text, end)),
        }
    }

    /// Whether an address matches with the first piece at `start`.
    pub(super) fn matches_at(&self, address: &Address, start: usize) -> bool {
        let text = address.bytes(self.exact);
        let Some((first, rest)) = self.pieces.split_first() else { return false };
        piece_at(first, text, start).is_some_and(|end| self.float(rest, text, end))
    }

    /// Whether an address can match, given that `gram` stands at `at`. For a pattern without stars the answer
    /// is final.
    pub(super) fn fits(&self, address: &Address, gram: Gram, at: usize) -> Fit {
        let text = address.bytes(self.exact);
        let start = at.checked_sub(usize::from(gram.offset));
        let piece = self.pieces.get(usize::from(gram.piece));
        let end = start.zip(piece).and_then(|(start, piece)| piece_at(piece, text, start));
        let (Some(start), Some(end)) = (start, end) else { return Fit::No };
        if self.pieces.len() > 1 {
            return Fit::Perhaps;
        }
        let stands = match self.anchor {
            Anchor::Anywhere => true,
            Anchor::Start => start == 0,
            Anchor::Label => address.labels().any(|label| label == start),
        };
        if stands && (!self.ends || end == text.len()) { Fit::Yes } else { Fit::No }
    }

    /// Whether the pieces stand in `text` in this order, from `at` on. Taking the first place of each is
    /// enough: what follows a later one follows it too.
    fn float(&self, pieces: &[Box<[u8]>], text: &[u8], mut at: usize) -> bool {
        let Some((last, before)) = pieces.split_last() else { return !self.ends || at == text.len() };
        for piece in before {
            match piece_from(piece, text, at) {
                Some(end) => at = end,
                None => return false,
            }
        }
        if !self.ends {
            return piece_from(last, text, at).is_some();
        }
        let earliest = at.max(text.len().saturating_sub(last.len()));
        (earliest..=text.len()).any(|start| piece_at(last, text, start) == Some(text.len()))
    }
}

/// Whether a place can be one where a pattern matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    No,
    /// The other pieces are still to be looked for.
    Perhaps,
    Yes,
}

/// Where the first place of a piece from `at` on ends.
fn piece_from(piece: &[u8], text: &[u8], at: usize) -> Option<usize> {
    if piece.contains(&b'^') {
        return (at..=text.len()).find_map(|start| piece_at(piece, text, start));
    }
    memchr::memmem::find(text.get(at..)?, piece).map(|start| at + start + piece.len())
}

/// Where a piece that stands at `start` ends. The end of the address counts as a separator.
fn piece_at(piece: &[u8], text: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    for wanted in piece {
        match text.get(at) {
            Some(byte) if *wanted == b'^' && is_separator(*byte) => at += 1,
            Some(byte) if wanted == byte => at += 1,
            None if *wanted == b'^' => {}
            _ => return None,
        }
    }
    Some(at)
}

fn is_separator(byte: u8) -> bool {
    !(byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'%' | 0x80..))
}
