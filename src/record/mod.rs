//! Records what was done with each message: one log line per recipient, and metrics.
//!
//! Absent: addresses, content, secrets. A recipient is identified by the keyed hash under which the store
//! knows them.

pub mod audit;
pub mod digest;
pub mod evidence;
pub mod logging;
pub mod metrics;
pub mod statistics;

use crate::consent::Person;
use crate::pipeline::Arrival;
use crate::policy::{Decision, Outcome};
use crate::smtp::Reply;
use crate::smtp::address::has_address;

/// What was done with one recipient's copy.
#[derive(Debug)]
pub struct Line<'a> {
    /// The controller.
    pub controller: &'a str,
    /// The mailstream.
    pub mailstream: &'a str,
    /// The person.
    pub person: Person,
    /// What was decided, and why.
    pub decision: &'a Decision,
    /// The shortfall: why less was done than decided.
    pub shortfall: Option<&'static str>,
    /// What was done in the copy that left.
    pub done: Outcome,
    /// How many trackers were removed from it.
    pub removed: usize,
    /// How many were replaced by an address of ours.
    pub swapped: usize,
    /// How many were found.
    pub found: usize,
}

/// Writes the line of one recipient. `downstream` names a service after the relay that may still track.
pub fn recipient(arrival: &Arrival, client_id: &str, downstream: &str, line: &Line<'_>, reply: &Reply) {
    let downstream = (!downstream.is_empty()).then_some(downstream);
    let forwarded = arrival.envelope.forwarded.as_ref().and_then(|forwarded| forwarded.ident.as_deref());
    // An id with an at sign may be an address.
    let forwarded_id: Option<String> = forwarded
        .filter(|id| !has_address(id))
        .map(|id| id.chars().filter(char::is_ascii_graphic).take(64).collect());
    tracing::info!(
        id = %arrival.id,
        listener = %arrival.listener,
        client_id = if has_address(client_id) { "" } else { client_id },
        forwarded_id,
        message_id = %arrival.message_id(),
        controller = line.controller,
        mailstream = line.mailstream,
        person = ?line.person,
        decision = line.decision.outcome.name(),
        rule = line.decision.rule.name(),
        version = %line.decision.version,
        shortfall = line.shortfall,
        done = line.done.name(),
        found = line.found,
        removed = line.removed,
        swapped = line.swapped,
        downstream,
        result = reply.class().name(),
        reply = %reply,
        "message"
    );
}
