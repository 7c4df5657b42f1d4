//! A recipient as the store knows it: a keyed hash of the normalised address.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::cipher::{AES_256, DecryptingKey, DecryptionContext, EncryptingKey, UnboundCipherKey};
use aws_lc_rs::{hkdf, hmac};

/// The organisation on whose behalf mail is sent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Controller(String);

impl Controller {
    /// Returns the controller of a configuration that names none.
    pub fn unnamed() -> Controller {
        Controller("default".to_owned())
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Controller {
    type Err = String;

    fn from_str(name: &str) -> Result<Controller, String> {
        let valid = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-')
        };
        if (1..=64).contains(&name.len()) && name.bytes().all(valid) {
            Ok(Controller(name.to_owned()))
        } else {
            Err(format!("invalid controller name {name:?}: use 1 to 64 of a-z, 0-9, '.', '_' and '-'"))
        }
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The HMAC-SHA-256 of a normalised address under the store key, truncated to 128 bits. Without the key
/// nobody can tell whose it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Person(pub [u8; 16]);

impl fmt::Debug for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The secret used to hash addresses and wrap keys. It cannot be changed without the addresses.
pub struct StoreKey {
    bytes: [u8; 32],
    hmac: hmac::Key,
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreKey(…)")
    }
}

impl StoreKey {
    /// Creates a key from its bytes.
    pub fn new(bytes: [u8; 32]) -> StoreKey {
        StoreKey { bytes, hmac: hmac::Key::new(hmac::HMAC_SHA256, &bytes) }
    }

    /// Returns the person with this address.
    pub fn person(&self, address: &str) -> Person {
        Person(self.tag(&[normalised(address).as_bytes()]))
    }

    /// Computes the HMAC-SHA-256 of concatenated pieces, truncated to 128 bits.
    pub fn tag(&self, pieces: &[&[u8]]) -> [u8; 16] {
        let mut context = hmac::Context::with_key(&self.hmac);
        pieces.iter().for_each(|piece| context.update(piece));
        let mut tag = [0; 16];
        tag.iter_mut().zip(context.sign().as_ref()).for_each(|(target, byte)| *target = *byte);
        tag
    }

    /// Derives a key for another use.
    pub fn derived(&self, label: &str) -> [u8; 32] {
        struct Length;
        impl hkdf::KeyType for Length {
            fn len(&self) -> usize {
                32
            }
        }
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"pixelward");
        let mut key = [0; 32];
        let label = [label.as_bytes()];
        let filled = salt.extract(&self.bytes).expand(&label, Length).and_then(|okm| okm.fill(&mut key));
        filled.expect("32 bytes are within what HKDF-SHA-256 gives");
        key
    }
}

/// The hashes under which one controller knows people outside of the program: each controller has different
/// ones for the same person, so that two of them cannot compare their lists. A permutation of hashes under a
/// key of the controller (AES of one block), so that no two people share one, and the relay can reverse it.
pub struct Outward {
    forth: EncryptingKey,
    back: DecryptingKey,
}

impl fmt::Debug for Outward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outward(…)")
    }
}

impl Outward {
    /// Returns that of a controller. Anyone with the store key can compute it.
    pub fn of(store_key: &StoreKey, controller: &Controller) -> Outward {
        Outward::labelled(store_key, &format!("people outside, of {controller}"))
    }

    /// Returns one for what is about a person and no controller.
    pub fn of_none(store_key: &StoreKey) -> Outward {
        Outward::labelled(store_key, "people outside")
    }

    fn labelled(store_key: &StoreKey, label: &str) -> Outward {
        let key = store_key.derived(label);
        let key = || UnboundCipherKey::new(&AES_256, &key).expect("the key has the length of the algorithm");
        Outward {
            forth: EncryptingKey::ecb(key()).expect("AES takes whole blocks"),
            back: DecryptingKey::ecb(key()).expect("AES takes whole blocks"),
        }
    }

    /// Returns what the controller sees of a person.
    pub fn shown(&self, person: Person) -> String {
        let mut block = person.0;
        self.forth.encrypt(&mut block).expect("a person is one block");
        format!("{:?}", Person(block))
    }

    /// Returns whom the controller means by what it saw.
    pub fn meant(&self, shown: Person) -> Person {
        let mut block = shown.0;
        self.back.decrypt(&mut block, DecryptionContext::None).expect("a person is one block");
        Person(block)
    }
}

/// Normalises an address for hashing: domain in ASCII lower case (IDNA), local part in lower case, without
/// unnecessary quotes.
pub fn normalised(address: &str) -> String {
    let address = address.trim();
    let Some((local, domain)) = address.rsplit_once('@') else { return address.to_lowercase() };
    let domain = domain.trim_end_matches('.');
    let domain = idna::domain_to_ascii(domain).unwrap_or_else(|_| domain.to_lowercase());
    let bare = local.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let plain = |text: &&str| {
        !text.is_empty()
            && text
                .chars()
                .all(|character| character.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(character))
    };
    let local = bare.filter(plain).unwrap_or(local);
    format!("{}@{domain}", local.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_address_are_one_person() {
        let key = StoreKey::new([7; 32]);
        let ann = key.person("ann@xn--bcher-kva.example");
        for spelling in
            ["Ann@B\u{fc}cher.Example", " ann@xn--bcher-kva.example. ", "\"ann\"@b\u{fc}cher.example"]
        {
            assert_eq!(key.person(spelling), ann, "{spelling}");
        }
        assert_ne!(key.person("bob@b\u{fc}cher.example"), ann);
        assert_ne!(StoreKey::new([8; 32]).person("ann@b\u{fc}cher.example"), ann);
    }

    #[test]
    fn each_controller_knows_a_person_by_another_hash_and_the_relay_by_all_of_them() {
        let key = StoreKey::new([7; 32]);
        let [shop, club] = ["shop", "club"].map(|name| Outward::of(&key, &name.parse().unwrap()));
        let mut shown = std::collections::HashSet::new();
        for number in 0..100 {
            let person = key.person(&format!("p{number}@home.example"));
            for (one, other) in [(&shop, &club), (&club, &shop), (&Outward::of_none(&key), &shop)] {
                let hash = one.shown(person);
                let read = Person(u128::from_str_radix(&hash, 16).unwrap().to_be_bytes());
                assert_eq!(one.meant(read), person);
                assert_ne!(other.meant(read), person);
                assert!(hash != format!("{person:?}") && hash.len() == 32 && shown.insert(hash));
            }
        }
        let again = Outward::of(&key, &"shop".parse().unwrap());
        assert_eq!(again.shown(key.person("p1@home.example")), shop.shown(key.person("p1@home.example")));
    }

    #[test]
    fn junk_is_somebody_too() {
        let key = StoreKey::new([7; 32]);
        for junk in ["", "@", "a@", "@b", "\"@b", "a@b@c", "\u{0}@\u{fffd}"] {
            key.person(junk);
        }
    }
}
