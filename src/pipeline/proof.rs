//! What is handed over as evidence of one message.

use super::line::Account;
use super::supply::Copied;
use super::{Arrival, Handled};
use crate::live::Live;
use crate::message::subject;
use crate::plan;
use crate::record::digest::BodyHash;
use crate::record::evidence::record::{Reported, Sighted};
use crate::record::evidence::{Note, NotedCopy, NotedRecipient};
use crate::tracker::host::{names, reduced};
use crate::tracker::{Analysis, Detector, Signal};

/// The most kinds of sightings that are told apart in one message.
const MAX_KINDS: usize = 32;
/// The name of those beyond, and of what nobody knows.
const OTHER: &str = "other";
const UNKNOWN: &str = "unknown";

/// The most hosts that are told apart in one message.
const MAX_HOSTS: usize = 8;
/// How many trackers are looked at for that: each is compared with every recipient.
const MAX_LOOKED_AT: usize = 32;

/// The trackers of a message.
#[derive(Default)]
pub(super) struct Trackers {
    /// By carrier and vendor.
    pub(super) sightings: Vec<Sighted<'static>>,
    /// Where those report to whose vendor nobody knows.
    pub(super) hosts: Vec<(String, u64)>,
    /// Where all of them report to.
    pub(super) reports: Vec<Reported<'static>>,
}

/// The trackers of a message, links left out.
pub(super) fn trackers(analysis: &Analysis<'_>, detector: &Detector, recipients: &[&str]) -> Trackers {
    let mut kinds: Vec<Sighted<'static>> = Vec::new();
    let mut hosts: Vec<(String, u64)> = Vec::new();
    let mut reports: Vec<Reported<'static>> = Vec::new();
    let mut looked_at = 0;
    for sighting in plan::trackers(analysis) {
        let carrier = sighting.carrier.name();
        let vendor = sighting.vendor.map_or(UNKNOWN, |vendor| detector.catalogue().name(vendor));
        let known = kinds.iter().any(|kind| kind.carrier == carrier && kind.vendor == vendor);
        match known || kinds.len() < MAX_KINDS {
            true => count(&mut kinds, carrier, vendor),
            false => count(&mut kinds, OTHER, OTHER),
        }
        if looked_at < MAX_LOOKED_AT {
            looked_at += 1;
            let names_reader = |label: &str| {
                sighting.signals.has(Signal::RecipientInUrl)
                    || recipients.iter().any(|address| names(label, address))
            };
            let host =
                sighting.url.split(['/', '?', '#']).next().and_then(|host| reduced(host, names_reader));
            let Some(host) = host else { continue };
            let is_known = reports.iter().any(|known| known.host == host && known.vendor == vendor);
            if !is_known && reports.len() < MAX_HOSTS {
                reports.push(Reported { vendor: vendor.to_owned().into(), host: host.clone().into() });
            }
            if sighting.vendor.is_some() {
                continue;
            }
            match hosts.iter().position(|(known, _)| *known == host) {
                Some(place) => hosts.get_mut(place).into_iter().for_each(|(_, count)| *count += 1),
                None if hosts.len() < MAX_HOSTS => hosts.push((host, 1)),
                None => {}
            }
        }
    }
    Trackers { sightings: kinds, hosts, reports }
}

fn count(kinds: &mut Vec<Sighted<'static>>, carrier: &'static str, vendor: &str) {
    match kinds.iter_mut().find(|kind| kind.carrier == carrier && kind.vendor == vendor) {
        Some(kind) => kind.count += 1,
        None => kinds.push(Sighted { carrier: carrier.into(), vendor: vendor.to_owned().into(), count: 1 }),
    }
}

/// The hash of a message's body, and those of its copies as far as they were at hand; `None` where nobody
/// wants them.
pub(super) type Hashes = Option<(BodyHash, Vec<Option<BodyHash>>)>;

/// The note of a message, with what became of each recipient.
pub(super) fn note(
    live: &Live,
    arrival: &Arrival,
    account: &Account,
    copies: &[Copied],
    handled: &Handled,
    hashes: Hashes,
    with_subject: bool,
) -> Note {
    let plan = &account.plan;
    let before = hashes.as_ref().map(|(before, _)| *before);
    let mut after = hashes.map(|(_, after)| after).unwrap_or_default().into_iter();
    let recipient = |index: &usize, copied: &Copied| {
        let (decided, reply) = (plan.decided.get(*index)?, handled.replies.get(*index)?);
        Some(NotedRecipient {
            person: decided.person,
            decision: (!account.is_unread).then(|| decided.decision.clone()),
            effect: copied.effect(plan, *index, reply),
            reply: reply.clone(),
            converted: handled.trace.converted.contains(index),
        })
    };
    let copies = plan.groups.iter().zip(copies).map(|(group, copied)| NotedCopy {
        after: after.next().flatten().or(copied.hash),
        recipients: group.recipients.iter().filter_map(|index| recipient(index, copied)).collect(),
    });
    Note {
        copies: copies.collect(),
        at: account.at,
        id: arrival.id.to_string(),
        message_id: arrival.message_id(),
        campaign: arrival.campaign(),
        subject: with_subject.then(|| subject(&arrival.message)),
        controller: account.controller.clone(),
        days: account.evidence_days,
        mailstream: account.mailstream.clone(),
        observed: account.is_observed,
        listener: arrival.listener.clone(),
        route: arrival.ways(live),
        downstream: arrival.outbound.accepted_tracking.clone(),
        found: plan.found,
        links: plan.links,
        unreadable: plan.unreadable,
        sightings: account.trackers.sightings.clone(),
        reports: account.trackers.reports.clone(),
        hosts: account.trackers.hosts.clone(),
        before,
    }
}
