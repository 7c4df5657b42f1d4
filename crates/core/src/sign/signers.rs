//! All signing keys: whose mail each of them signs, and which messages are signed.
//!
//! Promised: no message is signed with a key of a controller to whom it does not belong, whatever its From
//! says.

use super::existing::has_intact_signature;
use super::key::SigningKey;
use super::signature::signatures;

/// Which messages are signed, if there is a key for their sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// Those without a valid signature of the domain.
    Missing,
    /// Those that lost a signature that an edit broke.
    Changed,
}

/// Whose mail a key signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holders {
    /// The mail of these controllers, to whom the configuration gives the key or the domain.
    Named(Vec<String>),
    /// Nobody was given it: the mail of these and, as the fallback, of everybody.
    Unclaimed(Vec<String>),
}

impl Holders {
    /// The controllers whose mail from the key's domain is signed.
    pub fn controllers(&self) -> &[String] {
        match self {
            Holders::Named(controllers) | Holders::Unclaimed(controllers) => controllers,
        }
    }
}

/// The sender of a message, as far as signatures are concerned.
#[derive(Clone, Debug)]
pub struct Sender<'a> {
    /// The domain in From, which the client chooses.
    pub domain: &'a str,
    /// The controller of the mail.
    pub controller: &'a str,
    /// The controllers to whom the client is tied by its listener or its login; empty if it is tied to none.
    pub tied: Vec<&'a str>,
}

impl Sender<'_> {
    /// Returns whether a key of these controllers may sign: both the message and the client belong to one of
    /// them.
    fn is_one_of(&self, controllers: &[String]) -> bool {
        let has = |name: &str| controllers.iter().any(|controller| controller == name);
        has(self.controller) && (self.tied.is_empty() || self.tied.iter().any(|name| has(name)))
    }
}

/// The result of signing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signed {
    /// The fields to be put before the message.
    Fields(String),
    /// No signature is needed, or there is no key.
    Nothing,
    /// There are keys of this domain, but they belong to other controllers.
    Withheld(String),
}

/// Keys with their holders.
#[derive(Debug, Default)]
pub struct Signers {
    keys: Vec<(SigningKey, Holders)>,
    /// The domain that signs for domains without a key.
    fallback: Option<String>,
}

impl Signers {
    /// Creates the set; the keys of `fallback` sign for domains that have none.
    pub fn new(keys: Vec<(SigningKey, Holders)>, fallback: Option<String>) -> Signers {
        Signers { keys, fallback: fallback.map(|domain| domain.to_ascii_lowercase()) }
    }

    /// Returns whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Returns the fields that sign a message, one for each key of the nearest domain that its sender may
    /// sign for: the one in From, else one above it; if none of those has a key, the fallback.
    pub fn sign(&self, message: &[u8], sender: &Sender<'_>, now: i64) -> Signed {
        let keys = match self.of(sender) {
            Ok(keys) => keys,
            Err(domain) => return Signed::Withheld(domain),
        };
        // A first line that begins with a space would continue our field, and break it.
        let can_be_signed = !matches!(message.first(), Some(b' ' | b'\t'));
        let is_missing = |key: &&SigningKey| !has_intact_signature(message, &key.domain);
        let needs = can_be_signed && keys.first().is_some_and(is_missing);
        if needs { Signed::Fields(signatures(message, &keys, now)) } else { Signed::Nothing }
    }

    /// Returns the keys that sign for a sender.
    ///
    /// # Errors
    ///
    /// Returns the nearest domain that has keys, if they all belong to others.
    fn of(&self, sender: &Sender<'_>) -> Result<Vec<&SigningKey>, String> {
        let domain = sender.domain.to_ascii_lowercase();
        let above =
            std::iter::successors(Some(domain.as_str()), |name| name.split_once('.').map(|(_, rest)| rest));
        let mut nearest = None;
        for name in above {
            let of_domain = self.keys.iter().filter(|(key, _)| key.domain == name);
            let may = |holders: &Holders| sender.is_one_of(holders.controllers());
            let usable: Vec<_> =
                of_domain.clone().filter(|(_, holders)| may(holders)).map(|(key, _)| key).collect();
            if !usable.is_empty() {
                return Ok(usable);
            }
            if nearest.is_none() && of_domain.count() > 0 {
                nearest = Some(name.to_owned());
            }
        }
        match (nearest, &self.fallback) {
            (Some(withheld), _) => Err(withheld),
            (None, None) => Ok(Vec::new()),
            (None, Some(fallback)) => self.of_fallback(fallback, sender),
        }
    }

    fn of_fallback(&self, fallback: &str, sender: &Sender<'_>) -> Result<Vec<&SigningKey>, String> {
        let may = |holders: &Holders| match holders {
            Holders::Named(controllers) => sender.is_one_of(controllers),
            Holders::Unclaimed(_) => true,
        };
        let of_domain = self.keys.iter().filter(|(key, _)| key.domain == fallback);
        let usable: Vec<_> = of_domain.filter(|(_, holders)| may(holders)).map(|(key, _)| key).collect();
        if usable.is_empty() { Err(fallback.to_owned()) } else { Ok(usable) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::key::Algorithm;

    fn key(pem: &str, domain: &str, selector: &str) -> SigningKey {
        SigningKey::read(domain, selector, pem.as_bytes()).unwrap()
    }

    fn named(controllers: &[&str]) -> Holders {
        Holders::Named(controllers.iter().map(|&name| name.to_owned()).collect())
    }

    fn unclaimed(controllers: &[&str]) -> Holders {
        Holders::Unclaimed(named(controllers).controllers().to_vec())
    }

    /// The selectors that sign for a domain, or `-` and the domain that is withheld.
    fn check(signers: &Signers, domain: &str, controller: &str, tied: &[&str]) -> String {
        match signers.of(&Sender { domain, controller, tied: tied.to_vec() }) {
            Ok(keys) => keys.iter().map(|key| key.selector.as_str()).collect(),
            Err(domain) => format!("-{domain}"),
        }
    }

    #[test]
    fn the_nearest_domain_signs_with_all_of_its_keys() {
        let pem = SigningKey::generate(Algorithm::Ed25519);
        let shop = unclaimed(&["shop"]);
        let keys = vec![
            (key(&pem, "shop.example", "a"), shop.clone()),
            (key(&pem, "shop.example", "b"), shop.clone()),
            (key(&pem, "news.shop.example", "c"), shop.clone()),
            (key(&pem, "relay.example", "d"), shop),
        ];
        let signers = Signers::new(keys, Some("Relay.example".to_owned()));
        for (domain, wanted) in [
            ("shop.example", "ab"),
            ("SHOP.example", "ab"),
            ("a.b.shop.example", "ab"),
            ("news.shop.example", "c"),
            ("other.example", "d"),
            ("example", "d"),
            ("", "d"),
        ] {
            assert_eq!(check(&signers, domain, "shop", &[]), wanted, "{domain}");
        }
        assert_eq!(check(&Signers::default(), "shop.example", "shop", &[]), "");
    }

    #[test]
    fn a_key_signs_for_its_controllers_and_for_nobody_who_is_tied_to_another() {
        let pem = SigningKey::generate(Algorithm::Ed25519);
        let keys = vec![
            (key(&pem, "shop.example", "a"), named(&["shop"])),
            (key(&pem, "news.shop.example", "b"), named(&["news"])),
            (key(&pem, "both.example", "c"), named(&["shop", "news"])),
            (key(&pem, "free.example", "d"), unclaimed(&["default"])),
        ];
        let signers = Signers::new(keys, Some("free.example".to_owned()));
        for (domain, controller, tied, wanted) in [
            ("shop.example", "shop", &["shop"][..], "a"),
            ("shop.example", "shop", &[], "a"),
            ("shop.example", "other", &["other"], "-shop.example"),
            ("shop.example", "other", &[], "-shop.example"),
            // From made it a message of shop, and the client is of another.
            ("shop.example", "shop", &["other"], "-shop.example"),
            ("shop.example", "shop", &["other", "shop"], "a"),
            ("news.shop.example", "news", &[], "b"),
            // The domain above belongs to the controller and fits its From.
            ("news.shop.example", "shop", &[], "a"),
            ("news.shop.example", "other", &["other"], "-news.shop.example"),
            ("both.example", "shop", &["news"], "c"),
            ("free.example", "default", &[], "d"),
            ("free.example", "other", &["other"], "-free.example"),
            // In the name of the fallback, everybody whose domain has no key.
            ("nokey.example", "other", &["other"], "d"),
        ] {
            assert_eq!(check(&signers, domain, controller, tied), wanted, "{domain} {controller} {tied:?}");
        }
        let of_shop = vec![(key(&pem, "shop.example", "a"), named(&["shop"]))];
        let signers = Signers::new(of_shop, Some("shop.example".to_owned()));
        assert_eq!(check(&signers, "nokey.example", "shop", &[]), "a");
        assert_eq!(check(&signers, "nokey.example", "other", &[]), "-shop.example");
    }

    #[test]
    fn what_is_signed_already_is_not_signed_again() {
        let pem = SigningKey::generate(Algorithm::Ed25519);
        let signers = Signers::new(vec![(key(&pem, "shop.example", "a"), named(&["shop"]))], None);
        let sign = |message: &str| {
            let sender = Sender { domain: "shop.example", controller: "shop", tied: Vec::new() };
            signers.sign(message.as_bytes(), &sender, 1)
        };
        let message = "From: a@shop.example\r\n\r\nx\r\n";
        let Signed::Fields(first) = sign(message) else { panic!("it was not signed") };
        assert!(first.starts_with("DKIM-Signature: "));
        let signed = format!("{first}{message}");
        assert_eq!(sign(&signed), Signed::Nothing);
        assert!(matches!(sign(&signed.replace("\r\nx", "\r\ny")), Signed::Fields(_)));
    }
}
