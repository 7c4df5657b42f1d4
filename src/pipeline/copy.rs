//! One copy of a message: what is wanted of it, and the bytes that come of that.

use std::ops::Range;

use bytes::Bytes;

use crate::config::Protected;
use crate::live::Live;
use crate::message::header::fields;
use crate::message::transfer::{Edit, apply};
use crate::policy::{Chosen, LinkFate, Mode, Outcome};
use crate::rewrite::{Copy, LinkTreatment, Order, Way, downstream, rewrite, rewrite_kept};
use crate::sign::{OnBroken, broken_signatures};
use crate::smtp::Reply;
use crate::tracker::{Analysis, Axis, Inquiry, Remedy, Verdict};

use super::Arrival;

/// What is wanted of a copy. Recipients of whom the same is wanted share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// What happens to what reports an open.
    pub(super) opens: Outcome,
    /// What happens to tracked links.
    pub(super) links: LinkFate,
}

impl Wanted {
    /// Nothing.
    pub(super) const AS_IT_CAME: Wanted = Wanted { opens: Outcome::Keep, links: LinkFate::Stay };

    /// All that can be.
    pub(super) const STRICTEST: Wanted = Wanted { opens: Outcome::Strip, links: LinkFate::Treat };

    /// What satisfies everybody who shares a copy.
    pub(super) fn join(self, other: Wanted) -> Wanted {
        let links = if self.links == other.links { self.links } else { LinkFate::Treat };
        Wanted { opens: self.opens.join(other.opens), links }
    }
}

/// What copies are made from.
pub(super) struct Copying<'a> {
    pub(super) live: &'a Live,
    pub(super) arrival: &'a Arrival,
    pub(super) chosen: Chosen<'a>,
    pub(super) analysis: &'a Analysis<'a>,
    pub(super) inquiry: Inquiry<'a>,
    /// Where control fields stand in the message: they are not relayed.
    pub(super) controls: &'a [Range<usize>],
}

impl Copying<'_> {
    /// A copy, and how many trackers were taken out of it; or what is said instead.
    pub(super) fn make(&self, wanted: Wanted) -> Result<(Bytes, usize), Reply> {
        let Copying { live, arrival, chosen, analysis, inquiry, .. } = self;
        if chosen.mailstream.mode == Mode::Observe {
            return Ok((self.depart(arrival.message.clone(), Vec::new(), Outcome::Keep)?, 0));
        }
        let treatment = chosen.mailstream.treatment;
        let order = Order {
            inquiry: *inquiry,
            receipts: treatment.receipts,
            personal: treatment.personal,
            links: match wanted.links {
                LinkFate::Stay => LinkTreatment::Keep,
                LinkFate::Treat => treatment.link_treatment,
            },
            verify: live.config.policy.verify,
        };
        let made = match wanted.opens {
            Outcome::Keep => rewrite_kept(&live.detector, &arrival.message, analysis, &order),
            Outcome::Strip | Outcome::SwapGated | Outcome::SwapShared | Outcome::SwapDay => {
                protected(live, analysis)?;
                rewrite(&live.detector, &arrival.message, analysis, &order)
            }
        };
        match made {
            Ok(Copy::Untouched) => Ok((self.depart(arrival.message.clone(), Vec::new(), wanted.opens)?, 0)),
            Ok(Copy::Rewritten { bytes, edits, way }) => {
                if way == Way::Strict {
                    metrics::counter!("pixelward_strict_rewrites_total").increment(1);
                    tracing::error!(id = %arrival.id, "a scan of the rewritten message was not clean; every remote request was taken out");
                }
                let bytes = self.depart(bytes, edits, wanted.opens)?;
                if wanted.opens == Outcome::Keep {
                    return Ok((bytes, 0));
                }
                note_personal(analysis, &order);
                Ok((
                    bytes,
                    analysis.sightings.iter().filter(|sighting| sighting.is_removable_tracker()).count(),
                ))
            }
            Err(error) => {
                metrics::counter!("pixelward_unreadable_messages_total").increment(1);
                tracing::error!(id = %arrival.id, message_id = %arrival.message_id(), %error, "a message waits with its sender");
                Err(Reply::new(451, "4.6.0 The message cannot be checked for trackers, try again later"))
            }
        }
    }

    /// Control fields go, the next hop's service is told where trackers went, and signatures go that all the edits broke. `edits` are those
    /// that led from the message to `bytes`.
    fn depart(&self, mut bytes: Bytes, mut edits: Vec<Edit>, opens: Outcome) -> Result<Bytes, Reply> {
        let arrival = self.arrival;
        if !self.controls.is_empty() {
            let marks = self.live.config.policy.rulebook.marks(&bytes);
            bytes = Bytes::from(apply(&bytes, &cuts(&marks.cuts)));
            edits.extend(cuts(self.controls));
        }
        if let Some(esp) = arrival.outbound.esp.filter(|_| opens != Outcome::Keep) {
            let unreadable = |error: downstream::NoObject| Reply::new(550, &format!("5.6.0 {error}"));
            let told = apply(&bytes, &downstream::edits(&bytes, esp).map_err(unreadable)?);
            edits.extend(downstream::edits(&arrival.message, esp).map_err(unreadable)?);
            bytes = Bytes::from(told);
        }
        sign(self, bytes, &edits)
    }
}

fn cuts(ranges: &[Range<usize>]) -> Vec<Edit> {
    ranges.iter().cloned().map(Edit::cut_inside).collect()
}

/// A tracker in a part that must not be edited.
fn protected(live: &Live, analysis: &Analysis<'_>) -> Result<(), Reply> {
    let protected = analysis.sightings.iter().any(|sighting| {
        sighting.protection.is_some() && sighting.verdict == Verdict::Tracker && sighting.axis() == Axis::Open
    });
    if !protected {
        return Ok(());
    }
    metrics::counter!("pixelward_protected_total").increment(1);
    match live.config.policy.protected {
        Protected::Pass => Ok(()),
        Protected::Reject => Err(Reply::new(
            550,
            "5.7.1 A signed or encrypted part holds a tracking pixel that the recipient did not agree to; send it without",
        )),
    }
}

/// Counts what was done with pictures that tell readers apart.
fn note_personal(analysis: &Analysis<'_>, order: &Order<'_>) {
    let personal = analysis.sightings.iter().filter(|sighting| sighting.verdict == Verdict::Personal);
    for sighting in personal {
        let done = match order.edit(sighting) {
            None => "kept",
            edit if edit == sighting.remedy(Remedy::Unwrap) => "unwrapped",
            edit if edit == sighting.remedy(Remedy::DropParameter) => "parameter_dropped",
            Some(_) => "stripped",
        };
        metrics::counter!("pixelward_identifying_images_total", "done" => done).increment(1);
    }
}

/// Signatures that the edits broke go, or the message does.
fn sign(order: &Copying<'_>, rewritten: Bytes, edits: &[Edit]) -> Result<Bytes, Reply> {
    let Copying { live, arrival, chosen, .. } = order;
    if edits.is_empty() {
        return Ok(rewritten);
    }
    let broken = broken_signatures(&arrival.message, &rewritten, edits);
    if broken.is_empty() {
        return Ok(rewritten);
    }
    metrics::counter!("pixelward_signatures_broken_total").increment(broken.len() as u64);
    tracing::warn!(
        id = %arrival.id,
        signatures = broken.len(),
        "an edit breaks a DKIM signature; let the signer stand behind this relay"
    );
    // Where policy is only observed, it is no reason to reject.
    let on_broken = match chosen.mailstream.mode {
        Mode::Enforce => live.config.policy.dkim_on_broken,
        Mode::Observe => OnBroken::Remove,
    };
    match on_broken {
        OnBroken::Reject => Err(Reply::new(
            550,
            "5.7.7 Taking out trackers would break the DKIM signature; sign behind this relay",
        )),
        OnBroken::Remove => {
            // The header was not changed but for fields that went, so the signatures are found by what they say.
            let signatures: Vec<&[u8]> =
                broken.iter().filter_map(|range| arrival.message.get(range.clone())).collect();
            let cuts: Vec<Edit> = fields(&rewritten, 0)
                .filter(|field| {
                    rewritten.get(field.range.clone()).is_some_and(|own| signatures.contains(&own))
                })
                .map(|field| Edit::cut_inside(field.range))
                .collect();
            Ok(Bytes::from(apply(&rewritten, &cuts)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_shares_a_copy_gets_the_stricter_treatment() {
        let wanted = |opens, links| Wanted { opens, links };
        let (keep, strip) = (Outcome::Keep, Outcome::Strip);
        let (stay, treat) = (LinkFate::Stay, LinkFate::Treat);
        assert_eq!(wanted(keep, stay).join(wanted(strip, treat)), wanted(strip, treat));
        assert_eq!(wanted(keep, treat).join(wanted(keep, stay)), wanted(keep, treat));
        assert_eq!(wanted(keep, stay).join(Wanted::AS_IT_CAME), Wanted::AS_IT_CAME);
    }
}
