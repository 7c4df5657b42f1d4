//! The log line of each recipient: what was done with their copy. It holds no address and no content.

use super::Arrival;
use crate::consent::Person;
use crate::policy::Decision;
use crate::record::Effect;
use crate::smtp::Reply;
use crate::smtp::address::has_address;

/// What was done with one recipient's copy.
#[derive(Debug)]
pub(super) struct Line<'a> {
    /// The controller.
    pub(super) controller: &'a str,
    /// The mailstream.
    pub(super) mailstream: &'a str,
    /// The person.
    pub(super) person: Person,
    /// What was decided, and why.
    pub(super) decision: &'a Decision,
    /// What was done in the copy that the next hop took.
    pub(super) effect: Effect,
    /// How many trackers were found.
    pub(super) found: usize,
    /// How many text parts cannot be read.
    pub(super) unreadable: usize,
}

/// Writes the line of one recipient. `downstream` names a service after the relay that may still track.
pub(super) fn recipient(
    arrival: &Arrival,
    client_id: &str,
    downstream: &str,
    line: &Line<'_>,
    reply: &Reply,
) {
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
        shortfall = line.effect.shortfall,
        done = line.effect.done.name(),
        found = line.found,
        unreadable = (line.unreadable > 0).then_some(line.unreadable),
        removed = line.effect.removed,
        swapped = line.effect.swapped,
        downstream,
        result = reply.class().name(),
        reply = %reply,
        "message"
    );
}
