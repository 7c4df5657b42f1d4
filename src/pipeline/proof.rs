//! What is handed over as evidence of one message.

use super::plan::Plan;
use super::supply::Copied;
use super::{Arrival, Handled, shortfall_reason};
use crate::policy::Outcome;
use crate::record::digest::BodyHash;
use crate::record::evidence::record::Sighted;
use crate::record::evidence::{Note, NotedCopy, NotedRecipient};
use crate::tracker::host::{names, reduced};
use crate::tracker::{Analysis, Axis, Detector, Signal, Verdict};

/// The most kinds of sightings that are told apart in one message.
const MAX_KINDS: usize = 32;
/// The name of those beyond, and of what nobody knows.
const OTHER: &str = "other";
const UNKNOWN: &str = "unknown";

/// The most hosts that are told apart in one message.
const MAX_HOSTS: usize = 8;
/// How many trackers of unknown vendors are looked at for that: each is compared with every recipient.
const MAX_LOOKED_AT: usize = 32;

/// The trackers of a message.
#[derive(Default)]
pub(super) struct Trackers {
    /// By carrier and vendor.
    pub(super) sightings: Vec<Sighted<'static>>,
    /// Where those report to whose vendor nobody knows.
    pub(super) hosts: Vec<(String, u64)>,
}

/// The trackers of a message, links left out.
pub(super) fn trackers(analysis: &Analysis<'_>, detector: &Detector, recipients: &[&str]) -> Trackers {
    let mut kinds: Vec<Sighted<'static>> = Vec::new();
    let mut hosts: Vec<(String, u64)> = Vec::new();
    let mut looked_at = 0;
    let trackers = analysis.sightings.iter().filter(|own| own.verdict == Verdict::Tracker);
    for own in trackers.filter(|own| own.axis() != Axis::Link) {
        let carrier = own.carrier.name();
        let vendor = own.vendor.map_or(UNKNOWN, |vendor| detector.catalogue().name(vendor));
        let known = kinds.iter().any(|kind| kind.carrier == carrier && kind.vendor == vendor);
        match known || kinds.len() < MAX_KINDS {
            true => count(&mut kinds, carrier, vendor),
            false => count(&mut kinds, OTHER, OTHER),
        }
        if own.vendor.is_none() && looked_at < MAX_LOOKED_AT {
            looked_at += 1;
            let names_reader = |label: &str| {
                own.signals.has(Signal::RecipientInUrl)
                    || recipients.iter().any(|address| names(label, address))
            };
            let host = own.url.split(['/', '?', '#']).next().and_then(|own| reduced(own, names_reader));
            let mut fresh = None;
            if let Some(host) = host {
                match hosts.iter_mut().find(|(known, _)| *known == host) {
                    Some((_, count)) => *count += 1,
                    None => fresh = Some((host, 1)),
                }
            }
            hosts.extend(fresh.filter(|_| hosts.len() < MAX_HOSTS));
        }
    }
    Trackers { sightings: kinds, hosts }
}

fn count(kinds: &mut Vec<Sighted<'static>>, carrier: &'static str, vendor: &str) {
    match kinds.iter_mut().find(|kind| kind.carrier == carrier && kind.vendor == vendor) {
        Some(kind) => kind.count += 1,
        None => kinds.push(Sighted { carrier: carrier.into(), vendor: vendor.to_owned().into(), count: 1 }),
    }
}

/// The hash of a message's body, and those of its copies as far as they were at hand; `None` where nobody wants them.
pub(super) type Hashes = Option<(BodyHash, Vec<Option<BodyHash>>)>;

/// The note of a message, with what became of each recipient.
pub(super) fn note(
    arrival: &Arrival,
    plan: &Plan,
    copies: &[Copied],
    handled: &Handled,
    hashes: Hashes,
) -> Note {
    let before = hashes.as_ref().map(|(before, _)| *before);
    let mut after = hashes.map(|(_, after)| after).unwrap_or_default().into_iter();
    let recipient = |index: &usize, copied: &Copied| {
        let (decided, reply) = (plan.decided.get(*index)?, handled.replies.get(*index)?);
        Some(NotedRecipient {
            person: decided.person,
            decision: decided.decision.clone(),
            shortfall: shortfall_reason(decided, copied),
            reply: reply.clone(),
        })
    };
    let copies = plan.groups.iter().zip(copies).map(|(group, copied)| {
        let decided = group.recipients.first().and_then(|first| plan.decided.get(*first));
        NotedCopy {
            after: after.next().flatten().or(copied.hash),
            done: copied.done.or(decided.map(|decided| decided.opens)).unwrap_or(Outcome::Strip),
            removed: copied.removed,
            swapped: copied.swapped,
            recipients: group.recipients.iter().filter_map(|index| recipient(index, copied)).collect(),
        }
    });
    Note {
        copies: copies.collect(),
        at: plan.at,
        id: arrival.id.to_string(),
        message_id: arrival.message_id(),
        controller: plan.controller.clone(),
        days: plan.evidence_days,
        mailstream: plan.mailstream.clone(),
        observed: plan.observed,
        listener: arrival.listener.clone(),
        route: arrival.outbound.conditions.next_hops.join(", "),
        downstream: arrival.outbound.accepted_tracking.clone(),
        found: plan.found,
        sightings: plan.trackers.sightings.clone(),
        hosts: plan.trackers.hosts.clone(),
        before,
    }
}
