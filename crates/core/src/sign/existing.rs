//! Examines the signatures that a message already carries (RFC 6376), without DNS: whether an edit breaks one
//! depends on the body hash, on `l=` and on the signed fields.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use aws_lc_rs::digest::Digest;

use super::canonical::{BodyForm, WHOLE, body_hashes, body_of, difference};
use crate::message::header::{Field, by_name, fields};
use crate::message::transfer::decode_base64;

/// How many DKIM-Signature fields of a message are examined, from the top. Mail that passed lists and
/// gateways has about ten, and verifiers examine fewer; each field costs time, and a header has room for a
/// hundred thousand.
pub const MAX_SIGNATURES: usize = 100;

/// What happens to a signature that would no longer verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBroken {
    /// It is removed, and replaced by ours if there is a key for the sender's domain.
    Resign,
    /// It is removed: a broken signature is worth less than none.
    Remove,
    /// The message is rejected.
    Reject,
}

/// Finds the DKIM-Signature fields that verified as far as can be told without their keys, and no longer do.
/// `raw` is the message as received, `rewritten` what it became. Those beyond [`MAX_SIGNATURES`] count as
/// broken by any change.
pub fn broken_signatures(raw: &[u8], rewritten: &[u8]) -> Vec<Range<usize>> {
    let header: Vec<Field> = fields(raw, 0).collect();
    let all: Vec<&Field> = header.iter().filter(|field| field.is(raw, "DKIM-Signature")).collect();
    if all.is_empty() || raw == rewritten {
        return Vec::new();
    }
    let (looked_at, beyond) = all.split_at(all.len().min(MAX_SIGNATURES));
    let signatures: Vec<Signature> =
        looked_at.iter().map(|field| Signature::read(field.value(raw))).collect();
    let changed = ChangedFields::between(raw, &header, rewritten);
    let body = ChangedBody::between(body_of(raw), body_of(rewritten), &signatures);
    let is_broken = |signature: &Signature| changed.break_it(signature) || body.breaks(signature);
    let broken = looked_at
        .iter()
        .zip(&signatures)
        .filter(|(_, signature)| is_broken(signature))
        .map(|(field, _)| field);
    broken.chain(beyond).map(|field| field.range.clone()).collect()
}

/// Returns whether a message has a signature of this domain whose hash matches its body.
pub fn has_intact_signature(message: &[u8], domain: &str) -> bool {
    let found = fields(message, 0).filter(|field| field.is(message, "DKIM-Signature")).take(MAX_SIGNATURES);
    let signatures: Vec<Signature> = found
        .map(|field| Signature::read(field.value(message)))
        .filter(|signature| signature.domain == domain && signature.is_readable())
        .collect();
    let hashes = BodyHashes::of(body_of(message), signatures.iter());
    signatures.iter().any(|signature| hashes.fit(signature))
}

/// The hashes of one body that signatures need: it is read once for each form, whatever their number.
#[derive(Default)]
pub(super) struct BodyHashes {
    simple: BTreeMap<usize, Digest>,
    relaxed: BTreeMap<usize, Digest>,
}

impl BodyHashes {
    pub(super) fn of<'s>(body: &[u8], signatures: impl Iterator<Item = &'s Signature> + Clone) -> BodyHashes {
        let hashes = |form: BodyForm| {
            let of_form = signatures.clone().filter(|signature| signature.form == form);
            let limits: Vec<usize> = of_form.map(Signature::counted).collect();
            if limits.is_empty() { BTreeMap::new() } else { body_hashes(body, form, limits) }
        };
        BodyHashes { simple: hashes(BodyForm::Simple), relaxed: hashes(BodyForm::Relaxed) }
    }

    /// Returns whether the hash of the body is the one in a signature.
    pub(super) fn fit(&self, signature: &Signature) -> bool {
        let hashes = match signature.form {
            BodyForm::Simple => &self.simple,
            BodyForm::Relaxed => &self.relaxed,
        };
        hashes.get(&signature.counted()).is_some_and(|hash| hash.as_ref() == signature.hash)
    }
}

/// A body before and after the edits, as far as signatures depend on it. Only the body before is hashed:
/// whether a hash still fits is told by comparing the canonical forms.
enum ChangedBody {
    Same,
    Another {
        hashes: BodyHashes,
        /// Where the canonical form differs, for each form that a signature which held has.
        simple: Option<usize>,
        relaxed: Option<usize>,
    },
}

impl ChangedBody {
    fn between(before: &[u8], after: &[u8], signatures: &[Signature]) -> ChangedBody {
        if before == after {
            return ChangedBody::Same;
        }
        let hashes = BodyHashes::of(before, signatures.iter().filter(|signature| signature.is_known()));
        let held = signatures.iter().filter(|signature| signature.is_known() && hashes.fit(signature));
        let forms: Vec<BodyForm> = held.map(|signature| signature.form).collect();
        let of = |form| forms.contains(&form).then(|| difference(before, after, form)).flatten();
        let (simple, relaxed) = (of(BodyForm::Simple), of(BodyForm::Relaxed));
        ChangedBody::Another { hashes, simple, relaxed }
    }

    /// Returns whether the body hash matched before and no longer does. A hash of an unknown type counts as
    /// broken.
    fn breaks(&self, signature: &Signature) -> bool {
        match self {
            ChangedBody::Same => false,
            ChangedBody::Another { .. } if !signature.is_known() => true,
            ChangedBody::Another { hashes, simple, relaxed } => {
                let first = match signature.form {
                    BodyForm::Simple => simple,
                    BodyForm::Relaxed => relaxed,
                };
                first.is_some_and(|first| first < signature.counted()) && hashes.fit(signature)
            }
        }
    }
}

/// The fields of a header that changed: for each name, how many of its last fields are unchanged.
struct ChangedFields(HashMap<Vec<u8>, usize>);

impl ChangedFields {
    fn between(raw: &[u8], header: &[Field], rewritten: &[u8]) -> ChangedFields {
        let new_header: Vec<Field> = fields(rewritten, 0).collect();
        let (mut old, mut new) = (by_name(raw, header), by_name(rewritten, &new_header));
        let names: Vec<Vec<u8>> = old.keys().chain(new.keys()).cloned().collect();
        let same = names.into_iter().filter_map(|name| {
            let (old, new) = (old.remove(&name).unwrap_or_default(), new.remove(&name).unwrap_or_default());
            let pairs = old.iter().rev().zip(new.iter().rev());
            let is_same = |(old, new): &(&&Field, &&Field)| {
                raw.get(old.range.clone()) == rewritten.get(new.range.clone())
            };
            let same = pairs.take_while(is_same).count();
            (same < old.len().max(new.len())).then_some((name, same))
        });
        ChangedFields(same.collect())
    }

    /// Returns whether a signature depends on one of them. Of several fields with the same name, the last are
    /// signed, as many as `h=` names; if it names more, also that there are no others (RFC 6376, section
    /// 5.4.2).
    fn break_it(&self, signature: &Signature) -> bool {
        let mut counts: HashMap<&[u8], usize> = HashMap::new();
        signature.signed.iter().any(|name| {
            self.0.get(name.as_bytes()).is_some_and(|same| {
                let count = counts.entry(name.as_bytes()).or_default();
                *count += 1;
                *count > *same
            })
        })
    }
}

/// The contents of a DKIM-Signature field.
pub(super) struct Signature {
    /// `d=`, in lower case.
    pub(super) domain: String,
    /// `s=`.
    pub(super) selector: String,
    /// `a=`, in lower case.
    pub(super) algorithm: String,
    /// The canonicalization of the header.
    pub(super) header_form: BodyForm,
    /// The canonicalization of the body.
    pub(super) form: BodyForm,
    /// How much of the body counts.
    pub(super) limit: Option<usize>,
    /// The hash of the body.
    pub(super) hash: Vec<u8>,
    /// The names of the signed fields, in lower case.
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

    /// Returns whether the hash is of a supported type.
    fn is_known(&self) -> bool {
        self.algorithm.is_empty() || self.algorithm.ends_with("sha256")
    }

    /// Returns whether it has all required tags.
    pub(super) fn is_readable(&self) -> bool {
        let has_all = !self.domain.is_empty() && !self.selector.is_empty() && !self.value.is_empty();
        has_all && self.algorithm.ends_with("sha256") && self.signed.iter().any(|name| name == "from")
    }

    /// Returns how much of the canonical body counts.
    fn counted(&self) -> usize {
        self.limit.unwrap_or(WHOLE)
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use proptest::prelude::*;

    use super::*;
    use crate::message::Edit;
    use crate::message::transfer::{apply, encode_base64};
    use crate::sign::canonical::{body_hash, passes};

    fn signed(tags: &str, body: &str, signed_body: &str) -> String {
        let form = if tags.contains("relaxed") { BodyForm::Relaxed } else { BodyForm::Simple };
        let limit = tags.split("l=").nth(1).and_then(|rest| rest.split(';').next()?.parse().ok());
        let hash = body_hash(signed_body.as_bytes(), form, limit);
        let hash = encode_base64(hash.as_ref());
        format!(
            "DKIM-Signature: v=1; a=rsa-sha256; {tags};\r\n bh={hash}; h=From:Read; b=AA==\r\n\
             From: a\r\n\
             Read: b\r\n\
             \r\n\
             {body}"
        )
    }

    fn check(raw: &str, cut: &str) -> usize {
        let at = raw.find(cut).unwrap();
        let edits = [Edit::cut(at..at + cut.len())];
        broken_signatures(raw.as_bytes(), &apply(raw.as_bytes(), &edits)).len()
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

    #[test]
    fn of_several_fields_the_last_are_signed_and_one_more_that_there_is_none() {
        let message = |header: &str, names: &str| {
            format!("DKIM-Signature: v=1; a=rsa-sha256; h=from:{names}; b=AA==\r\n{header}\r\nbody\r\n")
        };
        let check = |before: &str, after: &str, names: &str| {
            broken_signatures(message(before, names).as_bytes(), message(after, names).as_bytes()).len()
        };
        let two = "From: a\r\nX: 1\r\nX: 2\r\n";
        let last = "From: a\r\nX: 2\r\n";
        assert_eq!(check(two, last, "x"), 0, "the one that goes is not signed");
        assert_eq!(check(two, last, "x:x"), 1);
        assert_eq!(check(two, "From: a\r\nX: 1\r\n", "x"), 1);
        assert_eq!(check(last, two, "x"), 0, "the last one is the same");
        assert_eq!(check(last, "From: a\r\nX: 2\r\nX: 3\r\n", "x"), 1, "another one comes last");
        assert_eq!(check(last, "From: a\r\nX: 0\r\nX: 2\r\n", "x"), 0);
        assert_eq!(check(last, "From: a\r\nX: 0\r\nX: 2\r\n", "x:x"), 1, "there was to be one");
        assert_eq!(check(last, "From: a\r\nY: 1\r\nX: 2\r\n", "x:x"), 0);
        assert_eq!(check("From: a\r\n", "X: 1\r\nFrom: a\r\n", "x"), 1, "there was to be none");
    }

    #[test]
    fn a_body_is_read_once_for_each_form_whatever_the_number_of_signatures() {
        let body = "one  two\r\n".repeat(500);
        let mut header = String::new();
        for number in 0..1000 {
            let (form, tag) = match number % 2 {
                0 => (BodyForm::Simple, "simple"),
                _ => (BodyForm::Relaxed, "relaxed"),
            };
            let hash = encode_base64(body_hash(body.as_bytes(), form, Some(number)).as_ref());
            let _ = writeln!(
                header,
                "DKIM-Signature: a=rsa-sha256; c=relaxed/{tag}; l={number}; bh={hash}; h=from; b=AA==\r"
            );
        }
        let raw = format!("{header}From: a\r\n\r\n{body}");
        let before = passes();
        let broken = broken_signatures(raw.as_bytes(), raw.replacen("one  two", "six  two", 1).as_bytes());
        assert_eq!(passes() - before, 2, "what the body became is compared, not hashed");
        // Nothing counts where l=0; and what is beyond the most that are looked at counts as broken.
        assert_eq!(broken.len(), 999);
        let before = passes();
        let broken = broken_signatures(raw.as_bytes(), raw.as_bytes());
        assert_eq!((broken.len(), passes() - before), (0, 0), "nothing was changed");
        let broken = broken_signatures(raw.as_bytes(), format!("X: 1\r\n{raw}").as_bytes());
        assert_eq!((broken.len(), passes() - before), (1000 - MAX_SIGNATURES, 0));
    }

    /// The canonical body, written down from RFC 6376 sections 3.4.3 and 3.4.4 line by line.
    fn canonical(body: &str, form: BodyForm) -> String {
        let lines = body.strip_suffix("\r\n").unwrap_or(body).split("\r\n");
        let lines: Vec<String> = match form {
            BodyForm::Simple => lines.map(str::to_owned).collect(),
            BodyForm::Relaxed => lines
                .map(|line| {
                    let mut line = line.replace('\t', " ");
                    while line.contains("  ") {
                        line = line.replace("  ", " ");
                    }
                    line.trim_end_matches(' ').to_owned()
                })
                .collect(),
        };
        let text = lines.join("\r\n");
        let text = text.trim_end_matches("\r\n");
        match (text.is_empty(), form) {
            (true, BodyForm::Relaxed) => String::new(),
            _ => format!("{text}\r\n"),
        }
    }

    proptest! {
        #[test]
        fn what_is_found_together_is_what_is_found_one_by_one(
            (before, after) in ("([ab \t]{0,4}(\r\n)?){0,8}\r\n", "([ab \t]{0,4}(\r\n)?){0,8}\r\n"),
            tags in proptest::collection::vec(
                (any::<bool>(), proptest::option::of(0usize..30), 0u8..3), 1..8
            ),
        ) {
            let form = |is_relaxed: bool| if is_relaxed { BodyForm::Relaxed } else { BodyForm::Simple };
            let hash = |body: &str, is_relaxed: bool, limit: Option<usize>| {
                let text = canonical(body, form(is_relaxed));
                let counted = &text[..limit.unwrap_or(WHOLE).min(text.len())];
                aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, counted.as_bytes())
            };
            let mut header = String::new();
            let mut wanted = 0;
            for (is_relaxed, limit, which) in tags {
                let tag = if is_relaxed { "relaxed" } else { "simple" };
                let length = limit.map_or(String::new(), |limit| format!("l={limit};"));
                let value = match which {
                    0 => hash(&before, is_relaxed, limit),
                    1 => hash(&after, is_relaxed, limit),
                    _ => hash("neither", is_relaxed, None),
                };
                let fits = |body: &str| hash(body, is_relaxed, limit).as_ref() == value.as_ref();
                wanted += usize::from(before != after && fits(&before) && !fits(&after));
                let _ = write!(
                    header,
                    "DKIM-Signature: a=rsa-sha256; c=simple/{tag}; {length} h=from; bh={}; b=AA==\r\n",
                    encode_base64(value.as_ref())
                );
            }
            let message = |body: &str| format!("{header}From: a\r\n\r\n{body}");
            let broken = broken_signatures(message(&before).as_bytes(), message(&after).as_bytes());
            prop_assert_eq!(broken.len(), wanted);
        }
    }
}
