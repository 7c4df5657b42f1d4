//! A recipient's address in a URL: as it is, percent-encoded, in base64 or hexadecimal, or as a hash.

use std::borrow::Cow;

use aws_lc_rs::digest;
use md5::{Digest, Md5};
use memchr::memmem::Finder;

use super::class::runs;

/// How many recipients are looked for in one message. A message to more of them carries nobody's address in
/// its pictures: they all get the same bytes.
pub const MAX_RECIPIENTS: usize = 16;

/// What to look for.
#[derive(Clone, Debug, Default)]
pub struct Traces {
    /// The addresses in lower case. One that is part of a longer address is another one.
    addresses: Vec<Finder<'static>>,
    /// Lower-case texts.
    folded: Vec<Finder<'static>>,
    /// base64 texts, in which case matters.
    exact: Vec<Finder<'static>>,
    /// The length of the shortest of the lower-case texts, which are hexadecimal.
    shortest_folded: usize,
    /// The length of the shortest base64 text.
    shortest_exact: usize,
}

impl Traces {
    /// The traces that these addresses leave.
    pub fn of<'a>(addresses: impl IntoIterator<Item = &'a str>) -> Traces {
        let mut traces = Traces::default();
        for address in addresses.into_iter().filter(|address| address.contains('@')).take(MAX_RECIPIENTS) {
            traces.add(address);
            let folded = address.to_lowercase();
            if folded != address {
                traces.add(&folded);
            }
        }
        let shortest = |texts: &[Finder<'static>]| texts.iter().map(|text| text.needle().len()).min();
        traces.shortest_folded = shortest(&traces.folded).unwrap_or(usize::MAX);
        traces.shortest_exact = shortest(&traces.exact).unwrap_or(usize::MAX);
        traces
    }

    fn add(&mut self, address: &str) {
        let bytes = address.as_bytes();
        // What is looked for in many addresses is made ready for that once.
        let finder = |text: String| Finder::new(text.as_bytes()).into_owned();
        self.addresses.push(finder(address.to_lowercase()));
        self.folded.push(finder(hex(bytes)));
        self.folded.push(finder(hex(&Md5::digest(bytes))));
        self.folded.push(finder(hex(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref())));
        self.folded.push(finder(hex(digest::digest(&digest::SHA256, bytes).as_ref())));
        for shift in 0..3 {
            let core = base64_core(bytes, shift);
            if core.is_empty() {
                // An address of three or four bytes leaves nothing certain; an empty text stands anywhere.
                continue;
            }
            self.exact.push(finder(core.replace('+', "-").replace('/', "_")));
            if core.contains(['+', '/']) {
                self.exact.push(finder(core));
            }
        }
    }

    /// Whether one of them stands in `url`.
    pub fn stand_in(&self, url: &str) -> bool {
        if self.addresses.is_empty() {
            return false;
        }
        // What was encoded twice is decoded twice.
        let mut plain = super::url::percent_decoded(url);
        if plain.contains('%') {
            plain = super::url::percent_decoded(&plain).into_owned().into();
        }
        // Most addresses have no place for one: then they need not be looked through for each.
        let has_at = memchr::memchr(b'@', plain.as_bytes()).is_some();
        if has_at || has_run(&plain, self.shortest_folded, |byte| byte.is_ascii_hexdigit()) {
            let lower = plain.to_lowercase();
            if self.addresses.iter().any(|address| stands_alone(&lower, address))
                || self.folded.iter().any(|trace| stands_in(&lower, trace))
            {
                return true;
            }
        }
        let is_of_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(&byte);
        let holds_exact = |text: &str| {
            has_run(text, self.shortest_exact, is_of_base64)
                && self.exact.iter().any(|trace| stands_in(text, trace))
        };
        holds_exact(url) || matches!(plain, Cow::Owned(_)) && holds_exact(&plain)
    }
}

/// Whether a text holds so many bytes of one kind in a row.
fn has_run(text: &str, at_least: usize, is_of_it: impl Fn(u8) -> bool) -> bool {
    at_least <= text.len() && runs(text.as_bytes(), at_least, is_of_it).next().is_some()
}

/// The traces of the recipients, made when first asked for.
#[derive(Debug)]
pub struct LazyTraces<'a> {
    recipients: &'a [&'a str],
    traces: std::cell::OnceCell<Traces>,
}

impl<'a> LazyTraces<'a> {
    /// Those of these addresses.
    pub fn of(recipients: &'a [&'a str]) -> LazyTraces<'a> {
        LazyTraces { recipients, traces: std::cell::OnceCell::new() }
    }

    /// The traces.
    pub fn get(&self) -> &Traces {
        self.traces.get_or_init(|| Traces::of(self.recipients.iter().copied()))
    }
}

fn stands_in(text: &str, trace: &Finder<'_>) -> bool {
    trace.find(text.as_bytes()).is_some()
}

/// Whether an address stands in a text, and not within a longer one.
fn stands_alone(text: &str, address: &Finder<'_>) -> bool {
    let of_an_address = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    address.find_iter(text.as_bytes()).any(|at| {
        let before = at.checked_sub(1).and_then(|before| text.as_bytes().get(before));
        let mut behind = text.as_bytes().get(at + address.needle().len()..).unwrap_or_default().iter();
        let longer = match behind.next() {
            // The end of a file name: `ann@home.example.gif`.
            Some(b'.') => behind.next().is_some_and(u8::is_ascii_digit),
            Some(byte) => of_an_address(byte),
            None => false,
        };
        !before.is_some_and(of_an_address) && !longer
    })
}

fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
    let mut text = String::with_capacity(2 * bytes.len());
    text.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
    text
}

/// The characters that base64 of any text holds, in which `bytes` stand `shift` bytes behind a multiple of
/// three.
fn base64_core(bytes: &[u8], shift: usize) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let skip = (3 - shift) % 3;
    let whole = bytes.get(skip..).unwrap_or_default();
    let mut out = String::new();
    for three in whole.chunks_exact(3) {
        let bits = three.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        for place in 0..4 {
            let sixth = (bits >> (18 - 6 * place) & 63) as usize;
            out.push(char::from(ALPHABET.get(sixth).copied().unwrap_or(b'A')));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str) -> bool {
        Traces::of(["Ann@Home.Example"]).stand_in(url)
    }

    #[test]
    fn an_address_is_found_in_its_encodings() {
        for url in [
            "a.example/o?e=Ann@Home.Example",
            "a.example/o?e=ann%40home.example",
            "a.example/o?e=ann%2540home.example",
            "a.example/o?e=416e6e40486f6d652e4578616d706c65",
            "a.example/o/QW5uQEhvbWUuRXhhbXBsZQ",
            "a.example/o/eyJlIjoiYW5uQGhvbWUuZXhhbXBsZSJ9",
        ] {
            assert!(check(url), "{url}");
        }
        assert!(check("a.example/o/ann@home.example.gif"));
        assert!(!check("a.example/o?e=bob@home.example"));
        assert!(!check("a.example/users/77_ann@home.example12/logo.png"));
    }

    #[test]
    fn a_short_address_does_not_stand_everywhere() {
        assert!(!Traces::of(["a@b"]).stand_in("t.example/logo.png"));
        assert!(Traces::of(["a@b"]).stand_in("t.example/o?e=a@b"));
    }

    #[test]
    fn a_hash_of_the_address_is_found() {
        let md5 = hex(&Md5::digest(b"ann@home.example"));
        let sha256 = hex(digest::digest(&digest::SHA256, b"ann@home.example").as_ref()).to_uppercase();
        assert!(check(&format!("a.example/o/{md5}.gif")));
        assert!(check(&format!("a.example/o?h={sha256}")));
    }
}
