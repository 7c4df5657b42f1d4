//! A recipient's address in a URL: as it is, percent-encoded, in base64 or hexadecimal, or as a hash.

use aws_lc_rs::digest;
use md5::{Digest, Md5};

/// How many recipients are looked for in one message. A message to more of them carries nobody's address in
/// its pictures: they all get the same bytes.
pub const MAX_RECIPIENTS: usize = 16;

/// What to look for.
#[derive(Clone, Debug, Default)]
pub struct Traces {
    /// The addresses in lower case. One that is part of a longer address is another one.
    addresses: Vec<String>,
    /// Lower-case texts.
    folded: Vec<String>,
    /// base64 texts, in which case matters.
    exact: Vec<String>,
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
        traces
    }

    fn add(&mut self, address: &str) {
        let bytes = address.as_bytes();
        self.addresses.push(address.to_lowercase());
        self.folded.push(hex(bytes));
        self.folded.push(hex(&Md5::digest(bytes)));
        self.folded.push(hex(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref()));
        self.folded.push(hex(digest::digest(&digest::SHA256, bytes).as_ref()));
        for shift in 0..3 {
            let core = base64_core(bytes, shift);
            self.exact.push(core.replace('+', "-").replace('/', "_"));
            if core.contains(['+', '/']) {
                self.exact.push(core);
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
        let folded = plain.to_lowercase();
        self.addresses.iter().any(|address| stands_alone(&folded, address))
            || self.folded.iter().any(|trace| folded.contains(trace.as_str()))
            || self.exact.iter().any(|trace| url.contains(trace.as_str()) || plain.contains(trace.as_str()))
    }
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

/// Whether an address stands in a text, and not within a longer one.
fn stands_alone(text: &str, address: &str) -> bool {
    let of_an_address = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    memchr::memmem::find_iter(text.as_bytes(), address.as_bytes()).any(|at| {
        let before = at.checked_sub(1).and_then(|before| text.as_bytes().get(before));
        let mut behind = text.as_bytes().get(at + address.len()..).unwrap_or_default().iter();
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
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
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
    fn a_hash_of_the_address_is_found() {
        let md5 = hex(&Md5::digest(b"ann@home.example"));
        let sha256 = hex(digest::digest(&digest::SHA256, b"ann@home.example").as_ref()).to_uppercase();
        assert!(check(&format!("a.example/o/{md5}.gif")));
        assert!(check(&format!("a.example/o?h={sha256}")));
    }
}
