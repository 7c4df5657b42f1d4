//! DKIM: what happens to signatures that break, and signing keys.

use std::path::PathBuf;

use super::reader::Section;
use pixelward_core::policy::conditions::domain;
use pixelward_core::policy::{Controller, Rulebook};
use pixelward_core::sign::{Holders, OnBroken, Sign};

/// Signatures.
#[derive(Clone, Debug)]
pub struct Dkim {
    /// What happens to a signature that an edit breaks.
    pub on_broken: OnBroken,
    /// Which messages are signed.
    pub sign: Sign,
    /// The domain whose keys sign for sender domains without a key.
    pub fallback_domain: Option<String>,
    /// The signing keys.
    pub keys: Vec<DkimKey>,
}

/// A signing key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DkimKey {
    /// The domain for which it signs.
    pub domain: String,
    /// The selector: the name of its DNS record.
    pub selector: String,
    /// The private key, PEM.
    pub key_file: PathBuf,
    /// The controllers whose mail it signs; empty if their conditions decide.
    pub controllers: Vec<String>,
}

impl DkimKey {
    /// Returns the controllers whose mail a key signs. A key that names none belongs to the controllers whose
    /// conditions, or whose mailstreams' conditions, name its domain; if there are none, to those without a
    /// listener or login condition, and to the default controller.
    pub fn holders(&self, rulebook: &Rulebook) -> Holders {
        let names = |all: Vec<&Controller>| {
            all.iter().map(|controller| controller.name.as_str().to_owned()).collect()
        };
        if !self.controllers.is_empty() {
            return Holders::Named(self.controllers.clone());
        }
        let claimants = rulebook.claimants(&self.domain);
        if claimants.is_empty() {
            Holders::Unclaimed(names(rulebook.untied()))
        } else {
            Holders::Named(names(claimants))
        }
    }
}

pub(super) fn dkim(section: &mut Section<'_>, rulebook: &Rulebook) -> Dkim {
    let on_broken =
        [("resign", OnBroken::Resign), ("remove", OnBroken::Remove), ("reject", OnBroken::Reject)];
    let dkim = Dkim {
        on_broken: section.choice("on_broken", OnBroken::Resign, &on_broken),
        sign: section.choice(
            "sign",
            Sign::Missing,
            &[("missing", Sign::Missing), ("changed", Sign::Changed)],
        ),
        fallback_domain: section.string("fallback_domain").map(|text| domain(&text)),
        keys: section.sections("key", key).into_iter().flatten().collect(),
    };
    if let Some(fallback) =
        dkim.fallback_domain.as_ref().filter(|fallback| !dkim.keys.iter().any(|key| key.domain == **fallback))
    {
        section.problem(
            section.start_line(),
            format!("dkim.fallback_domain: there is no [[dkim.key]] for {fallback:?}"),
        );
    }
    for (index, key) in dkim.keys.iter().enumerate() {
        for name in &key.controllers {
            if let Err(error) = rulebook.named(Some(name), None) {
                section.problem(section.start_line(), format!("dkim.key.controllers: {error}"));
            }
        }
        let same = |other: &DkimKey| other.domain == key.domain && other.selector == key.selector;
        if dkim.keys.iter().take(index).any(same) {
            section.problem(
                section.start_line(),
                format!("two [[dkim.key]] for {} have the selector {:?}", key.domain, key.selector),
            );
        }
    }
    dkim
}

fn key(section: &mut Section<'_>) -> Option<DkimKey> {
    let named = section.parsed("domain", |text| label(text).map(|text| domain(&text)));
    let selector = section.parsed("selector", |text| label(text).map(|text| text.to_ascii_lowercase()));
    let key_file = section.path("key_file");
    let controllers = section.one_or_more("controllers", |text| Ok(text.to_owned()));
    for (name, is_there) in
        [("domain", named.is_some()), ("selector", selector.is_some()), ("key_file", key_file.is_some())]
    {
        if !is_there {
            section.problem(section.start_line(), format!("dkim.key.{name} is missing"));
        }
    }
    Some(DkimKey { domain: named?, selector: selector?, key_file: key_file?, controllers })
}

/// Checks a DNS name.
fn label(text: &str) -> Result<String, String> {
    let is_one = !text.is_empty()
        && text.len() <= 253
        && text.chars().all(|character| character.is_alphanumeric() || matches!(character, '.' | '-' | '_'));
    is_one.then(|| text.to_owned()).ok_or_else(|| format!("invalid DNS name {text:?}"))
}
