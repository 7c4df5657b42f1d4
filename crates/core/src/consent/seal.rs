//! Seals bytes under a key (AES-256-GCM-SIV, RFC 8452: a repeated nonce reveals nothing but equality).

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

/// Seals and opens bytes.
pub struct Sealer(LessSafeKey);

/// The bytes were sealed under another key or for another place, or were altered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it cannot be opened with this key")]
pub struct NotOpened;

impl Sealer {
    /// Creates a sealer with this key.
    pub fn new(key: &[u8; 32]) -> Sealer {
        let key = UnboundKey::new(&AES_256_GCM_SIV, key).expect("the key has the length of the algorithm");
        Sealer(LessSafeKey::new(key))
    }

    /// Seals `plain` so that it opens only together with `place`. The result is 28 bytes longer.
    pub fn seal(&self, plain: &[u8], place: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).expect("the system gives randomness");
        self.sealed(plain, place, nonce)
    }

    /// Seals `plain` deterministically. `mark` is a keyed hash of `plain` and `place`, instead of randomness.
    pub fn seal_alike(&self, plain: &[u8], place: &[u8], mark: &[u8; 16]) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        nonce.iter_mut().zip(mark).for_each(|(target, byte)| *target = *byte);
        self.sealed(plain, place, nonce)
    }

    fn sealed(&self, plain: &[u8], place: &[u8], nonce: [u8; NONCE_LEN]) -> Vec<u8> {
        let mut sealed = plain.to_vec();
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place), &mut sealed)
            .expect("records are far below the algorithm's limit");
        let mut out = nonce.to_vec();
        out.append(&mut sealed);
        out
    }

    /// Opens sealed bytes.
    ///
    /// # Errors
    ///
    /// When they were not sealed with this key for this place.
    pub fn open(&self, sealed: &[u8], place: &[u8]) -> Result<Vec<u8>, NotOpened> {
        let (nonce, rest) = sealed.split_at_checked(NONCE_LEN).ok_or(NotOpened)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| NotOpened)?;
        let mut bytes = rest.to_vec();
        let length = self.0.open_in_place(nonce, Aad::from(place), &mut bytes).map_err(|_| NotOpened)?.len();
        bytes.truncate(length);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_and_place_open() {
        let sealer = Sealer::new(&[1; 32]);
        let sealed = sealer.seal(b"hello", b"here");
        assert_eq!(sealed.len(), 5 + 28);
        assert_eq!(sealer.open(&sealed, b"here"), Ok(b"hello".to_vec()));
        assert_eq!(sealer.open(&sealed, b"there"), Err(NotOpened));
        assert_eq!(Sealer::new(&[2; 32]).open(&sealed, b"here"), Err(NotOpened));
        assert_eq!(sealer.open(b"short", b"here"), Err(NotOpened));
    }
}
