//! Hashes the bodies of a message and of its copies. Their common beginning is hashed only once.
//!
//! The body is everything below the header. A reader's copy has more header fields than left here (trace
//! fields of later relays), so only the body can be compared.
//!
//! It is BLAKE3, which takes a third of the time of SHA-256; records of earlier versions have the latter.

mod known;

use blake3::Hasher;

use crate::message::header;
use known::Known;

/// What is hashed in one go on most machines: sixteen chunks of BLAKE3. To go on from anywhere else costs more than
/// to hash so much again.
const SUBTREE: usize = 16 * 1024;

/// The hash of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyHash {
    /// That of earlier versions.
    Sha256([u8; 32]),
    /// What is computed now.
    Blake3([u8; 32]),
}

impl BodyHash {
    /// Returns the name of the function.
    pub const fn function(&self) -> &'static str {
        match self {
            BodyHash::Sha256(_) => "sha256",
            BodyHash::Blake3(_) => "blake3",
        }
    }

    /// Returns the hash in hexadecimal.
    pub fn hex(&self) -> String {
        match self {
            BodyHash::Sha256(hash) | BodyHash::Blake3(hash) => hex::encode(hash),
        }
    }
}

/// Hashes bodies, and knows the last ones.
#[derive(Debug, Default)]
pub struct Digests {
    /// Messages that came.
    came: Known,
    /// Copies that left.
    left: Known,
}

impl Digests {
    /// Hashes a message's body and those of its copies, in order. A copy that is the message itself is not hashed
    /// again, nor is what is the same in bodies before.
    pub fn bodies<'a>(
        &self,
        message: &[u8],
        copies: impl Iterator<Item = Option<&'a [u8]>>,
    ) -> (BodyHash, Vec<Option<BodyHash>>) {
        let before = header::body(message);
        let is_other = |copy: &&[u8]| !std::ptr::eq(before, *copy);
        let copies: Vec<Option<&[u8]>> = copies.map(|copy| copy.map(header::body)).collect();
        let known = copies.iter().map(|copy| self.left.hash(copy.filter(is_other)?));
        let known: Vec<Option<[u8; 32]>> = known.collect();
        let known_before = self.came.hash(before);
        let unknown = copies.iter().zip(&known).filter(|(_, known)| known.is_none());
        let unknown = unknown.filter_map(|(copy, _)| copy.filter(is_other));
        let shared = match known_before {
            None => unknown.map(|copy| in_common(before, copy)).min().unwrap_or(before.len()),
            Some(_) => 0,
        };
        let shared = shared / SUBTREE * SUBTREE;
        let (start, rest) = before.split_at_checked(shared).unwrap_or((before, &[]));
        let mut hasher = Hasher::new();
        hasher.update(start);
        let whole = known_before.unwrap_or_else(|| {
            let hash = finished(hasher.clone(), rest);
            self.came.note(before, hash);
            hash
        });
        let of_copy = |copy: &[u8]| {
            let hash = finished(hasher.clone(), copy.get(shared..).unwrap_or_default());
            self.left.note(copy, hash);
            hash
        };
        let after = copies.into_iter().zip(known).map(|(copy, known)| {
            let copy = copy?;
            let hash = if is_other(&copy) { known.unwrap_or_else(|| of_copy(copy)) } else { whole };
            Some(BodyHash::Blake3(hash))
        });
        let after = after.collect();
        (BodyHash::Blake3(whole), after)
    }
}

/// Hashes a message's body.
pub fn body(message: &[u8]) -> BodyHash {
    BodyHash::Blake3(finished(Hasher::new(), header::body(message)))
}

fn finished(mut hasher: Hasher, rest: &[u8]) -> [u8; 32] {
    hasher.update(rest);
    *hasher.finalize().as_bytes()
}

/// Returns the length of the common beginning of two bodies, found in steps.
fn in_common(one: &[u8], other: &[u8]) -> usize {
    const STEP: usize = 256;
    let steps = one.chunks(STEP).zip(other.chunks(STEP)).take_while(|(one, other)| one == other);
    (steps.count() * STEP).min(one.len()).min(other.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(body: &[u8]) -> BodyHash {
        BodyHash::Blake3(*blake3::hash(body).as_bytes())
    }

    #[test]
    fn each_hash_is_that_of_its_body_wherever_the_copies_differ() {
        let long: Vec<u8> = (0..40_000u32).map(|number| number as u8).collect();
        let message = [b"Subject: a\r\n\r\n", &long[..]].concat();
        for cut in [0, 1, 255, 256, 257, 1024, SUBTREE - 1, SUBTREE, SUBTREE + 1, 39_999, 40_000] {
            let cut_off = [b"Subject: b\r\nX: y\r\n\r\n", &long[..cut]].concat();
            let added = [b"\r\n", &long[..cut], b"!", &long[cut..]].concat();
            let copies = [Some(&message[..]), None, Some(&cut_off[..]), Some(&added[..])];
            let wanted = [Some(plain(&long)), None, Some(plain(&long[..cut])), Some(plain(&added[2..]))];
            let digests = Digests::default();
            for _ in 0..3 {
                let (before, after) = digests.bodies(&message, copies.into_iter());
                assert_eq!((before, after), (plain(&long), wanted.to_vec()), "{cut}");
            }
        }
        let digests = Digests::default();
        assert_eq!(digests.bodies(b"Subject: a\r\n", std::iter::empty()).0, plain(b""));
        // The test vector of the empty input.
        assert!(plain(b"").hex().starts_with("af1349b9f5f9a1a6a0404dea36dcc949"));
    }
}
