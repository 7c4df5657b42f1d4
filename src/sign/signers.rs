//! All keys of ours: which of them sign a message, and which messages are signed.

use super::existing::has_intact_signature;
use super::key::SigningKey;
use super::signature::signatures;

/// Which messages are signed, of those whose sender we have a key for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// Those without a signature of the domain that fits.
    Missing,
    /// Those of which a signature was taken out since an edit broke it.
    Changed,
}

/// Keys by domain.
#[derive(Debug, Default)]
pub struct Signers {
    keys: Vec<SigningKey>,
    /// The domain that signs what no other domain's key does.
    fallback: Option<String>,
}

impl Signers {
    /// These keys; those of `fallback` sign for domains that have none.
    pub fn new(keys: Vec<SigningKey>, fallback: Option<String>) -> Signers {
        Signers { keys, fallback: fallback.map(|own| own.to_ascii_lowercase()) }
    }

    /// All keys.
    pub fn keys(&self) -> &[SigningKey] {
        &self.keys
    }

    /// The keys that sign what comes from a domain: its own, else those of the nearest domain above it, else those of the fallback.
    pub fn of(&self, domain: &str) -> Vec<&SigningKey> {
        let domain = domain.to_ascii_lowercase();
        let above =
            std::iter::successors(Some(domain.as_str()), |own| own.split_once('.').map(|(_, rest)| rest));
        let mut candidates = above.chain(self.fallback.as_deref());
        let of = |name: &str| self.keys.iter().filter(|own| own.domain == name).collect::<Vec<_>>();
        candidates.find_map(|name| Some(of(name)).filter(|found| !found.is_empty())).unwrap_or_default()
    }

    /// The fields that sign a message from a domain, one for each key; empty where it needs none.
    pub fn sign(&self, message: &[u8], domain: &str, now: i64) -> String {
        let keys = self.of(domain);
        let needs = keys.first().is_some_and(|key| !has_intact_signature(message, &key.domain));
        if needs { signatures(message, &keys, now) } else { String::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::key::Algorithm;

    #[test]
    fn the_nearest_domain_signs_with_all_of_its_keys() {
        let pem = SigningKey::generate(Algorithm::Ed25519);
        let key = |domain, selector| SigningKey::read(domain, selector, pem.as_bytes()).unwrap();
        let keys = vec![
            key("shop.example", "a"),
            key("shop.example", "b"),
            key("news.shop.example", "c"),
            key("relay.example", "d"),
        ];
        let signers = Signers::new(keys, Some("Relay.example".to_owned()));
        let check = |domain: &str| {
            signers.of(domain).iter().map(|own| own.selector.clone()).collect::<Vec<_>>().concat()
        };
        for (domain, wanted) in [
            ("shop.example", "ab"),
            ("SHOP.example", "ab"),
            ("a.b.shop.example", "ab"),
            ("news.shop.example", "c"),
            ("other.example", "d"),
            ("example", "d"),
            ("", "d"),
        ] {
            assert_eq!(check(domain), wanted, "{domain}");
        }
        assert!(Signers::default().of("shop.example").is_empty());
    }

    #[test]
    fn what_is_signed_already_is_not_signed_again() {
        let pem = SigningKey::generate(Algorithm::Ed25519);
        let signers =
            Signers::new(vec![SigningKey::read("shop.example", "a", pem.as_bytes()).unwrap()], None);
        let message = "From: a@shop.example\r\n\r\nx\r\n";
        let first = signers.sign(message.as_bytes(), "shop.example", 1);
        assert!(first.starts_with("DKIM-Signature: "));
        let signed = format!("{first}{message}");
        assert_eq!(signers.sign(signed.as_bytes(), "shop.example", 2), "");
        let altered = signed.replace("\r\nx", "\r\ny");
        assert!(!signers.sign(altered.as_bytes(), "shop.example", 2).is_empty());
    }
}
