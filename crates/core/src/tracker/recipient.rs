//! A recipient's address in a URL: as it is, percent-encoded, in base64 or hexadecimal, or as a hash.

use std::borrow::Cow;
use std::cell::OnceCell;

use aws_lc_rs::digest;
use md5::{Digest, Md5};
use memchr::memmem::Finder;

use super::class::runs;

/// How many recipients are looked for in one message. A message to more of them carries nobody's address in
/// its pictures: they all get the same bytes.
pub const MAX_RECIPIENTS: usize = 16;

/// The length of an MD5 hash in hexadecimal, the shortest that is looked for.
const MD5: usize = 32;

/// What to look for. What few addresses could hold is made only when one of them could.
#[derive(Clone, Debug, Default)]
pub struct Traces {
    /// The addresses as they are known, and in lower case where that differs.
    spellings: Vec<String>,
    /// The addresses in lower case. One that is part of a longer address is another one.
    addresses: OnceCell<Vec<Finder<'static>>>,
    /// Hexadecimal texts in lower case.
    folded: OnceCell<Vec<Finder<'static>>>,
    /// base64 texts, in which case matters.
    exact: OnceCell<Vec<Finder<'static>>>,
}

impl Traces {
    /// The traces that these addresses leave.
    pub fn of<'a>(addresses: impl IntoIterator<Item = &'a str>) -> Traces {
        let addresses = addresses.into_iter().filter(|address| address.contains('@')).take(MAX_RECIPIENTS);
        let spellings = addresses.flat_map(|address| {
            let folded = Some(address.to_lowercase()).filter(|folded| folded != address);
            [Some(address.to_owned()), folded].into_iter().flatten()
        });
        Traces { spellings: spellings.collect(), ..Traces::default() }
    }

    fn addresses(&self) -> &[Finder<'static>] {
        let of = |address: &String| finder(&address.to_lowercase());
        self.addresses.get_or_init(|| self.spellings.iter().map(of).collect())
    }

    fn folded(&self) -> &[Finder<'static>] {
        let of = |address: &String| {
            let bytes = address.as_bytes();
            let sha1 = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes);
            let sha256 = digest::digest(&digest::SHA256, bytes);
            let texts = [hex(bytes), hex(&Md5::digest(bytes)), hex(sha1.as_ref()), hex(sha256.as_ref())];
            texts.map(|text| finder(&text))
        };
        self.folded.get_or_init(|| self.spellings.iter().flat_map(of).collect())
    }

    fn exact(&self) -> &[Finder<'static>] {
        self.exact.get_or_init(|| {
            let mut texts = Vec::new();
            for (address, shift) in
                self.spellings.iter().flat_map(|address| [(address, 0), (address, 1), (address, 2)])
            {
                let core = base64_core(address.as_bytes(), shift);
                // An address of three or four bytes leaves nothing certain; an empty text stands anywhere.
                if core.is_empty() {
                    continue;
                }
                texts.push(finder(&core.replace('+', "-").replace('/', "_")));
                if core.contains(['+', '/']) {
                    texts.push(finder(&core));
                }
            }
            texts
        })
    }

    /// The length of the shortest of the hexadecimal texts.
    fn shortest_folded(&self) -> usize {
        let lengths = self.spellings.iter().map(|address| (2 * address.len()).min(MD5));
        lengths.min().unwrap_or(usize::MAX)
    }

    /// The length of the shortest base64 text.
    fn shortest_exact(&self) -> usize {
        let lengths =
            self.spellings.iter().flat_map(|address| (0..3).map(|shift| core_length(address.len(), shift)));
        lengths.filter(|length| *length > 0).min().unwrap_or(usize::MAX)
    }

    /// Whether one of them stands in `url`.
    pub fn stand_in(&self, url: &str) -> bool {
        if self.spellings.is_empty() {
            return false;
        }
        // What was encoded twice is decoded twice.
        let mut plain = super::url::percent_decoded(url);
        if plain.contains('%') {
            plain = super::url::percent_decoded(&plain).into_owned().into();
        }
        // Most addresses have no place for one: then they need not be looked through for each.
        let has_at = memchr::memchr(b'@', plain.as_bytes()).is_some();
        if has_at || has_run(&plain, self.shortest_folded(), |byte| byte.is_ascii_hexdigit()) {
            let lower = plain.to_lowercase();
            if self.addresses().iter().any(|address| stands_alone(&lower, address))
                || self.folded().iter().any(|trace| stands_in(&lower, trace))
            {
                return true;
            }
        }
        let is_of_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(&byte);
        let holds_exact = |text: &str| {
            has_run(text, self.shortest_exact(), is_of_base64)
                && self.exact().iter().any(|trace| stands_in(text, trace))
        };
        holds_exact(url) || matches!(plain, Cow::Owned(_)) && holds_exact(&plain)
    }
}

/// Whether a text holds so many bytes of one kind in a row.
fn has_run(text: &str, at_least: usize, is_of_it: impl Fn(u8) -> bool) -> bool {
    at_least <= text.len() && runs(text.as_bytes(), at_least, is_of_it).next().is_some()
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

/// What is looked for in many addresses is made ready for that once.
fn finder(text: &str) -> Finder<'static> {
    Finder::new(text.as_bytes()).into_owned()
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
    let whole = bytes.get(before_core(shift)..).unwrap_or_default();
    let mut out = String::with_capacity(core_length(bytes.len(), shift));
    for three in whole.chunks_exact(3) {
        let bits = three.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        for place in 0..4 {
            let sixth = (bits >> (18 - 6 * place) & 63) as usize;
            out.push(char::from(ALPHABET.get(sixth).copied().unwrap_or(b'A')));
        }
    }
    out
}

/// How many bytes stand before it.
fn before_core(shift: usize) -> usize {
    (3 - shift) % 3
}

/// How long it is for a text of so many bytes.
fn core_length(length: usize, shift: usize) -> usize {
    length.saturating_sub(before_core(shift)) / 3 * 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_traces_are_as_long_as_said() {
        for address in ["a@b", "ab@c", "ann@h", "ann@home.example", "Ann.Somebody@long.name.home.example"] {
            let traces = Traces::of([address]);
            let shortest = |texts: &[Finder<'static>]| texts.iter().map(|text| text.needle().len()).min();
            assert_eq!(Some(traces.shortest_folded()), shortest(traces.folded()), "{address}");
            assert_eq!(traces.shortest_exact(), shortest(traces.exact()).unwrap_or(usize::MAX), "{address}");
        }
    }

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
