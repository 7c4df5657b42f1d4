//! What becomes of the signatures of a message that was edited: those that broke go, or the message does; and
//! ours comes where there is a key.

use std::collections::HashSet;
use std::ops::Range;

use bytes::Bytes;

use super::copy::Notes;
use super::{Draft, is_observed};
use crate::message::header::fields;
use crate::message::transfer::{Edit, apply};
use crate::policy::conditions::from_domain;
use crate::rewrite::Verify;
use crate::sign::{OnBroken, Sender, Sign, Signed, broken_signatures};
use crate::smtp::Reply;

/// What recipients hear where the signature of a message counts more than its delivery.
const WOULD_BREAK: &str = "5.7.7 Taking out trackers would break the DKIM signature; sign behind this relay";

/// Takes out the signatures that the edits broke, and adds ours; but not where something was changed that was
/// not scanned again.
pub(super) fn settle(
    draft: &Draft<'_>,
    rewritten: Bytes,
    edits: &[Edit],
    notes: &mut Notes,
) -> Result<Bytes, Reply> {
    let settings = draft.settings;
    let broken = match edits {
        [] => Vec::new(),
        _ => broken_signatures(draft.message.bytes, &rewritten),
    };
    let bytes = if broken.is_empty() { rewritten } else { without_broken(draft, rewritten, &broken, notes)? };
    let was_verified = edits.is_empty() || settings.verify != Verify::Off;
    let is_wanted = settings.sign == Sign::Missing || !broken.is_empty();
    let resigns = broken.is_empty() || settings.on_broken == OnBroken::Resign;
    if settings.signers.is_empty() || !was_verified || !is_wanted || !resigns || !begins_with_a_field(&bytes)
    {
        return Ok(bytes);
    }
    let domain = from_domain(&bytes).unwrap_or_default();
    let tied = settings.rulebook.tied(&draft.message.origin);
    let sender = Sender {
        domain: &domain,
        controller: draft.reading.chosen.controller.name.as_str(),
        tied: tied.map(|controller| controller.name.as_str()).collect(),
    };
    match settings.signers.sign(&bytes, &sender, draft.message.at.0.div_euclid(1000)) {
        Signed::Nothing => Ok(bytes),
        Signed::Withheld(domain) => {
            notes.withheld = Some(domain);
            Ok(bytes)
        }
        Signed::Fields(fields) => {
            notes.is_signed = true;
            Ok(Bytes::from([fields.as_bytes(), &bytes].concat()))
        }
    }
}

/// Whether a message begins with a header field (RFC 5322, 2.2). Below fields of ours, a line that is none would end the
/// header, and be read as text.
fn begins_with_a_field(bytes: &[u8]) -> bool {
    fields(bytes, 0).next().is_some_and(|field| field.name(bytes).iter().all(u8::is_ascii_graphic))
}

fn without_broken(
    draft: &Draft<'_>,
    rewritten: Bytes,
    broken: &[Range<usize>],
    notes: &mut Notes,
) -> Result<Bytes, Reply> {
    let Draft { settings, message, reading, .. } = draft;
    // Where policy is only observed, it is no reason to reject.
    let rejects = !is_observed(reading.chosen) && settings.on_broken == OnBroken::Reject;
    notes.broken_signatures = broken.len();
    notes.lacks_key = settings.signers.is_empty() || rejects;
    if rejects {
        return Err(Reply::new(550, WOULD_BREAK));
    }
    // The header was not changed but for fields that went, so the signatures are found by what they say.
    let signatures: HashSet<&[u8]> =
        broken.iter().filter_map(|range| message.bytes.get(range.clone())).collect();
    let cuts: Vec<Edit> = fields(&rewritten, 0)
        .filter(|field| rewritten.get(field.range.clone()).is_some_and(|field| signatures.contains(field)))
        .map(|field| Edit::cut_inside(field.range))
        .collect();
    Ok(Bytes::from(apply(&rewritten, &cuts)))
}
