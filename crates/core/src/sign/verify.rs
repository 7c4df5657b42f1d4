//! Verifies the signatures of a message (RFC 6376, section 6). Records are passed in, not looked up: the core
//! knows no DNS.

use std::collections::HashMap;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

use super::canonical::{BodyForm, body_of, relaxed_field};
use super::existing::{BodyHashes, MAX_SIGNATURES, Signature};
use crate::message::header::{Field, by_name, fields};
use crate::message::transfer::decode_base64;

/// The verdict on one signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is valid.
    Holds,
    /// The body differs from what was signed.
    BodyChanged,
    /// The header differs, or the key does.
    Fails,
    /// The record of its key is not known.
    NoKey,
    /// It is not supported: another algorithm, or tags are missing.
    Unreadable,
}

impl Verdict {
    /// Describes the verdict.
    pub const fn text(self) -> &'static str {
        match self {
            Verdict::Holds => "valid",
            Verdict::BodyChanged => "invalid: the body changed",
            Verdict::Fails => "invalid: the header changed, or the key is a different one",
            Verdict::NoKey => "cannot be verified: the record of its key is not known; pass it with --record",
            Verdict::Unreadable => "cannot be read",
        }
    }
}

/// A verified signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The name of the record of its key.
    pub record_name: String,
    /// The verdict.
    pub verdict: Verdict,
}

/// Verifies the signatures of a message, the first [`MAX_SIGNATURES`] of them. `record` returns the TXT
/// record of a name.
pub fn verify(message: &[u8], record: impl Fn(&str) -> Option<String>) -> Vec<Verified> {
    let header: Vec<Field> = fields(message, 0).collect();
    let found = header.iter().filter(|field| field.is(message, "DKIM-Signature")).take(MAX_SIGNATURES);
    let signatures: Vec<(&Field, Signature)> =
        found.map(|field| (field, Signature::read(field.value(message)))).collect();
    let readable =
        signatures.iter().map(|(_, signature)| signature).filter(|signature| signature.is_readable());
    let message = Message {
        bytes: message,
        fields: by_name(message, &header),
        hashes: BodyHashes::of(body_of(message), readable),
    };
    signatures.iter().map(|(field, signature)| message.one(field, signature, &record)).collect()
}

/// What all signatures of a message are compared with.
struct Message<'a> {
    bytes: &'a [u8],
    /// By name, in lower case.
    fields: HashMap<Vec<u8>, Vec<&'a Field>>,
    hashes: BodyHashes,
}

impl Message<'_> {
    fn one(
        &self,
        field: &Field,
        signature: &Signature,
        record: &impl Fn(&str) -> Option<String>,
    ) -> Verified {
        let record_name = format!("{}._domainkey.{}", signature.selector, signature.domain);
        let verdict = match (record(&record_name), signature.is_readable()) {
            (_, false) => Verdict::Unreadable,
            (None, true) => Verdict::NoKey,
            (Some(_), true) if !self.hashes.fit(signature) => Verdict::BodyChanged,
            (Some(record), true) => {
                let signed = signed_header(self, field, signature);
                match holds(&record, signature, &signed) {
                    Some(true) => Verdict::Holds,
                    Some(false) => Verdict::Fails,
                    None => Verdict::Unreadable,
                }
            }
        };
        Verified { record_name, verdict }
    }
}

/// Returns the signed header in canonical form.
fn signed_header(message: &Message<'_>, signature_field: &Field, signature: &Signature) -> Vec<u8> {
    let Message { bytes: message, fields, .. } = message;
    let mut signed = Vec::with_capacity(2048);
    let add = |field: &Field, value: &[u8], signed: &mut Vec<u8>| match signature.header_form {
        BodyForm::Relaxed => relaxed_field(field.name(message), value, signed),
        BodyForm::Simple => {
            signed.extend_from_slice(message.get(field.name.clone()).unwrap_or_default());
            signed.push(b':');
            signed.extend_from_slice(value);
        }
    };
    let as_is = |field: &Field| match signature.header_form {
        BodyForm::Relaxed => field.value(message).to_vec(),
        BodyForm::Simple => {
            let end = field.range.end;
            let whole = message.get(field.name.end + 1..end).unwrap_or_default();
            whole.strip_suffix(b"\r\n").unwrap_or(whole).to_vec()
        }
    };
    // Of several fields with the same name, the last one comes first (RFC 6376, section 5.4.2).
    let mut left = HashMap::new();
    for name in &signature.signed {
        let Some(of_name) = fields.get(name.as_bytes()) else { continue };
        let left = left
            .entry(name)
            .or_insert_with(|| of_name.iter().rev().filter(|field| **field != signature_field));
        if let Some(field) = left.next() {
            add(field, &as_is(field), &mut signed);
            signed.extend_from_slice(b"\r\n");
        }
    }
    add(signature_field, &without_value(&as_is(signature_field)), &mut signed);
    signed
}

/// Returns a signature's field with an empty `b=`.
fn without_value(value: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(value.len());
    for (index, tag) in value.split(|byte| *byte == b';').enumerate() {
        if index > 0 {
            out.push(b';');
        }
        let name_end = memchr::memchr(b'=', tag).unwrap_or(tag.len());
        let is_value = tag.get(..name_end).unwrap_or_default().trim_ascii() == b"b";
        out.extend_from_slice(if is_value { tag.get(..=name_end).unwrap_or(tag) } else { tag });
    }
    out
}

/// Returns whether a key verifies; `None` if it cannot be used.
fn holds(record: &str, signature: &Signature, signed: &[u8]) -> Option<bool> {
    let tag = |name: &str| {
        let mut tags = record.split(';').filter_map(|part| part.split_once('='));
        tags.find(|(key, _)| key.trim() == name)
            .map(|(_, value)| value.split_whitespace().collect::<String>())
    };
    let public = decode_base64(tag("p")?.as_bytes());
    if public.is_empty() {
        return None;
    }
    match (signature.algorithm.as_str(), tag("k").as_deref().unwrap_or("rsa")) {
        ("rsa-sha256", "rsa") => {
            let key = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public).ok()?;
            Some(key.verify_sig(signed, &signature.value).is_ok())
        }
        ("ed25519-sha256", "ed25519") => {
            let key = UnparsedPublicKey::new(&ED25519, public);
            Some(key.verify(digest(&SHA256, signed).as_ref(), &signature.value).is_ok())
        }
        _ => None,
    }
}
