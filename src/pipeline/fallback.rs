//! What is left to do where analysis, decision or rewrite ends in an internal error: the message is stripped of every remote request
//! by code that weighs nothing, so that it neither stops the mail nor leaves as it came. Observed mail is passed on as it is.

use bytes::Bytes;

use super::copy::{Made, UNCHECKED, told_not_to_track, without_controls};
use super::counts::note_decided;
use super::plan::{Decided, Group, Plan};
use super::{Arrival, Pipeline};
use crate::config::Protected;
use crate::consent::{Person, Timestamp};
use crate::faults;
use crate::guarded::{Panicked, guarded};
use crate::live::Live;
use crate::message::header::fields;
use crate::message::transfer::{Edit, apply};
use crate::policy::{Chosen, Decision, Kind, Mode, Outcome, Request};
use crate::rewrite::without_requests;
use crate::sign::OnBroken;
use crate::smtp::Reply;

impl Pipeline {
    /// The plan for a message of which nothing could be decided, and the copy for all of its recipients.
    pub(super) fn plan_after(
        &self,
        live: &Live,
        arrival: &Arrival,
        fault: &Panicked,
    ) -> (Plan, Result<Made, Reply>) {
        let chosen = guarded(|| chosen(live, arrival)).unwrap_or_else(|_| unmatched(live));
        let one = |address: &str| Decided {
            person: guarded(|| self.store.person(address)).unwrap_or(Person([0; 16])),
            decision: Decision::after_internal_error(chosen.mailstream),
            opens: Outcome::Strip,
            shortfall: None,
            request: Request::None,
            asks: Vec::new(),
        };
        let decided: Vec<Decided> = arrival.addresses().into_iter().map(one).collect();
        note_decided(chosen, &decided);
        let mut plan = Plan::of(chosen, Timestamp::now(), decided);
        let recipients = (0..arrival.envelope.recipients.len()).collect();
        plan.groups.push(Group { recipients, wanted: Ok(Vec::new()) });
        (plan, copy_after(live, arrival, chosen, fault))
    }
}

/// The copy that can leave after an internal error, which is logged here; or what its recipients hear.
pub(super) fn copy_after(
    live: &Live,
    arrival: &Arrival,
    chosen: Chosen<'_>,
    fault: &Panicked,
) -> Result<Made, Reply> {
    metrics::counter!("pixelward_internal_errors_total").increment(1);
    let message_id = guarded(|| arrival.message_id()).unwrap_or_default();
    if chosen.mailstream.mode == Mode::Observe {
        tracing::error!(
            id = %arrival.id, message_id, site = fault.site,
            "internal error: an observed message was not analysed and leaves as it came; please report it"
        );
        let bytes = guarded(|| without_controls(live, &arrival.message));
        let bytes = bytes.unwrap_or_else(|_| arrival.message.clone());
        return Ok(Made { bytes, done: Outcome::Keep, shortfall: None, removed: 0, swapped: 0 });
    }
    let stripped = guarded(|| stripped(live, arrival, chosen));
    match &stripped {
        Ok(Ok(_)) => tracing::error!(
            id = %arrival.id, message_id, site = fault.site,
            "internal error: the message could not be treated as decided, so every remote request was taken out; please report it"
        ),
        Ok(Err(reply)) => tracing::error!(
            id = %arrival.id, message_id, site = fault.site, %reply,
            "internal error: the message waits with its sender; please report it"
        ),
        Err(second) => tracing::error!(
            id = %arrival.id, message_id, site = fault.site, second_site = second.site,
            "internal error, and another one while every remote request was taken out: the message waits with its sender; please report it"
        ),
    }
    let bytes = stripped.unwrap_or_else(|_| Err(Reply::new(451, UNCHECKED)))?;
    metrics::counter!("pixelward_strict_rewrites_total").increment(1);
    Ok(Made { bytes, done: Outcome::Strip, shortfall: None, removed: 0, swapped: 0 })
}

fn chosen<'a>(live: &'a Live, arrival: &Arrival) -> Chosen<'a> {
    let rulebook = &live.config.policy.rulebook;
    rulebook.choose(&arrival.origin(), &rulebook.marks(&arrival.message))
}

/// What mail counts as of which nothing is known: the strictest.
fn unmatched(live: &Live) -> Chosen<'_> {
    live.config.policy.rulebook.unmatched()
}

fn stripped(live: &Live, arrival: &Arrival, chosen: Chosen<'_>) -> Result<Bytes, Reply> {
    faults::point("strip");
    let wait = || Reply::new(451, UNCHECKED);
    if chosen.mailstream.kind == Kind::ConsentRequest {
        // Nobody can say who of its recipients may be asked (N19), and its marks would be left unfilled.
        return Err(wait());
    }
    let bare = without_requests(&live.detector, &arrival.message).map_err(|_| wait())?;
    if bare.protected_part_loads && live.config.policy.protected == Protected::Reject {
        return Err(wait());
    }
    let mut bytes = without_controls(live, &bare.bytes);
    if let Some(esp) = arrival.outbound.esp {
        bytes = told_not_to_track(&bytes, esp)?;
    }
    if bytes == arrival.message {
        return Ok(bytes);
    }
    // Nobody says which signatures still hold.
    let signatures = fields(&bytes, 0).filter(|field| field.is(&bytes, "DKIM-Signature"));
    let cuts: Vec<Edit> = signatures.map(|field| Edit::cut_inside(field.range)).collect();
    if !cuts.is_empty() && live.config.dkim.on_broken == OnBroken::Reject {
        return Err(wait());
    }
    Ok(Bytes::from(apply(&bytes, &cuts)))
}
