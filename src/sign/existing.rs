//! Signatures that a message already carries (RFC 6376), looked at without DNS: whether an edit breaks one is a matter of the
//! body hash, of `l=` and of the signed fields.

use std::ops::Range;

use super::canonical::{BodyForm, body_hash, body_of};
use crate::message::header::{Field, fields};
use crate::message::transfer::{Edit, decode_base64};

/// What is done about a signature that would no longer verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBroken {
    /// It is taken out, and ours takes its place where we have a key for the sender's domain.
    Resign,
    /// It is taken out: a broken signature is worth less than none.
    Remove,
    /// The message is rejected.
    Reject,
}

/// The DKIM-Signature fields that verified as far as the body goes, and do not after `edits`. `raw` is the message as it came,
/// `rewritten` what it became.
pub fn broken_signatures(raw: &[u8], rewritten: &[u8], edits: &[Edit]) -> Vec<Range<usize>> {
    let header: Vec<Field> = fields(raw, 0).collect();
    header
        .iter()
        .filter(|field| field.is(raw, "DKIM-Signature"))
        .filter(|field| {
            let signature = Signature::read(field.value(raw));
            signature.signs_a_field_of(raw, &header, edits)
                || signature.breaks(body_of(raw), body_of(rewritten))
        })
        .map(|field| field.range.clone())
        .collect()
}

/// Whether a message has a signature of this domain whose hash fits its body.
pub fn has_intact_signature(message: &[u8], domain: &str) -> bool {
    let mut own = fields(message, 0).filter(|field| field.is(message, "DKIM-Signature"));
    own.any(|field| {
        let signature = Signature::read(field.value(message));
        signature.domain == domain && signature.is_readable() && signature.matches(body_of(message))
    })
}

/// What a DKIM-Signature field says.
pub(super) struct Signature {
    /// `d=`, in lower case.
    pub(super) domain: String,
    /// `s=`.
    pub(super) selector: String,
    /// `a=`, in lower case.
    pub(super) algorithm: String,
    /// How the header was brought into form.
    pub(super) header_form: BodyForm,
    /// How the body was.
    pub(super) form: BodyForm,
    /// How much of the body counts.
    pub(super) limit: Option<usize>,
    /// The hash of the body.
    pub(super) hash: Vec<u8>,
    /// The names of the fields that are signed, in lower case.
    pub(super) signed: Vec<String>,
    /// The signature itself.
    pub(super) value: Vec<u8>,
}

impl Signature {
    pub(super) fn read(value: &[u8]) -> Signature {
        let text = String::from_utf8_lossy(value);
        let mut signature = Signature {
            domain: String::new(),
            selector: String::new(),
            algorithm: String::new(),
            header_form: BodyForm::Simple,
            form: BodyForm::Simple,
            limit: None,
            hash: Vec::new(),
            signed: Vec::new(),
            value: Vec::new(),
        };
        let form = |name: &str| {
            if name.eq_ignore_ascii_case("relaxed") { BodyForm::Relaxed } else { BodyForm::Simple }
        };
        for (name, value) in text.split(';').filter_map(|tag| tag.split_once('=')) {
            let value: String = value.split_whitespace().collect();
            match name.trim() {
                "a" => signature.algorithm = value.to_ascii_lowercase(),
                "b" => signature.value = decode_base64(value.as_bytes()),
                "bh" => signature.hash = decode_base64(value.as_bytes()),
                "c" => {
                    let (header, body) = value.split_once('/').unwrap_or((value.as_str(), "simple"));
                    (signature.header_form, signature.form) = (form(header), form(body));
                }
                "d" => signature.domain = value.to_ascii_lowercase(),
                "h" => signature.signed = value.split(':').map(str::to_ascii_lowercase).collect(),
                "l" => signature.limit = value.parse().ok(),
                "s" => signature.selector = value.to_ascii_lowercase(),
                _ => {}
            }
        }
        signature
    }

    /// Whether the hash is of a kind that can be computed here.
    fn is_known(&self) -> bool {
        self.algorithm.is_empty() || self.algorithm.ends_with("sha256")
    }

    /// Whether it has what a signature needs.
    pub(super) fn is_readable(&self) -> bool {
        let has_all = !self.domain.is_empty() && !self.selector.is_empty() && !self.value.is_empty();
        has_all && self.algorithm.ends_with("sha256") && self.signed.iter().any(|own| own == "from")
    }

    pub(super) fn matches(&self, body: &[u8]) -> bool {
        body_hash(body, self.form, self.limit).as_ref() == self.hash
    }

    /// Whether the body hash fits before and not after. A hash of another kind cannot be computed, so it counts as broken.
    fn breaks(&self, before: &[u8], after: &[u8]) -> bool {
        before != after && (!self.is_known() || self.matches(before) && !self.matches(after))
    }

    /// Whether an edit takes out a field that is signed.
    fn signs_a_field_of(&self, raw: &[u8], header: &[Field], edits: &[Edit]) -> bool {
        header.iter().any(|field| {
            let name = String::from_utf8_lossy(field.name(raw)).to_ascii_lowercase();
            self.signed.contains(&name)
                && edits
                    .iter()
                    .any(|edit| edit.range.start < field.range.end && field.range.start < edit.range.end)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::transfer::apply;

    fn signed(tags: &str, body: &str, signed_body: &str) -> String {
        let form = if tags.contains("relaxed") { BodyForm::Relaxed } else { BodyForm::Simple };
        let limit = tags.split("l=").nth(1).and_then(|rest| rest.split(';').next()?.parse().ok());
        let hash = body_hash(signed_body.as_bytes(), form, limit);
        let hash = crate::message::transfer::encode_base64(hash.as_ref());
        format!(
            "DKIM-Signature: v=1; a=rsa-sha256; {tags};\r\n bh={hash}; h=From:Read; b=AA==\r\nFrom: a\r\nRead: b\r\n\r\n{body}"
        )
    }

    fn check(raw: &str, cut: &str) -> usize {
        let at = raw.find(cut).unwrap();
        let edits = [Edit::cut(at..at + cut.len())];
        broken_signatures(raw.as_bytes(), &apply(raw.as_bytes(), &edits), &edits).len()
    }

    #[test]
    fn an_edit_of_the_body_breaks_a_signature_that_held() {
        for tags in ["c=relaxed/relaxed", "c=simple/simple", "c=relaxed"] {
            let raw = signed(tags, "one\r\ntwo<img>\r\n", "one\r\ntwo<img>\r\n");
            assert_eq!(check(&raw, "<img>"), 1, "{tags}");
        }
    }

    #[test]
    fn a_signature_that_never_held_is_not_broken_by_us() {
        assert_eq!(check(&signed("c=relaxed/relaxed", "one<img>\r\n", "another\r\n"), "<img>"), 0);
    }

    #[test]
    fn what_a_length_limit_leaves_out_may_change() {
        let body = "one\r\ntwo<img>\r\n";
        assert_eq!(check(&signed("c=relaxed/relaxed; l=5", body, body), "<img>"), 0);
    }

    #[test]
    fn a_signed_field_that_goes_breaks_the_signature() {
        let body = "one\r\n";
        assert_eq!(check(&signed("c=relaxed/relaxed", body, body), "Read: b\r\n"), 1);
        assert_eq!(check(&signed("c=relaxed/relaxed", body, body).replace(":Read;", ";"), "Read: b\r\n"), 0);
    }
}
