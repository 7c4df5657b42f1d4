//! The log line of each recipient: what was done with their copy, or what they were refused with. It holds no
//! address and no content.

use std::fmt;
use std::time::Duration;

use super::Arrival;
use super::line::Account;
use crate::consent::Person;
use crate::policy::Decision;
use crate::record::Effect;
use crate::record::evidence::note::queue_id;
use crate::relay::{Authentication, Via};
use crate::smtp::Reply;
use crate::smtp::address::has_address;

/// Where a message was, and how long.
#[derive(Clone, Debug, Default)]
pub(super) struct Trace {
    /// The next hop that was asked last.
    pub(super) via: Via,
    /// The next hop that was asked about each recipient, if the message went different ways.
    pub(super) vias: Vec<Via>,
    /// The recipients whose copy was converted for a next hop without 8BITMIME.
    pub(super) converted: Vec<usize>,
    /// From MAIL to the final dot of the client.
    pub(super) received: Duration,
    /// From there until it was ready for the next hop.
    pub(super) treated: Duration,
    /// Waiting for a connection to a next hop.
    pub(super) connected: Duration,
    /// Handing it over, up to the next hop's reply.
    pub(super) delivered: Duration,
}

impl Trace {
    /// The next hop that was asked about a recipient, and whether the copy was converted for it.
    pub(super) fn of(&self, recipient: usize) -> (&Via, bool) {
        let via = self.vias.get(recipient).unwrap_or(&self.via);
        (via, self.converted.contains(&recipient))
    }
}

impl fmt::Display for Trace {
    /// Writes the four delays in seconds, as Postfix writes its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Trace { received, treated, connected, delivered, .. } = *self;
        for (number, delay) in [received, treated, connected, delivered].into_iter().enumerate() {
            let milliseconds = (delay.as_micros() + 500) / 1000;
            let before = if number == 0 { "" } else { "/" };
            write!(f, "{before}{}.{:03}", milliseconds / 1000, milliseconds % 1000)?;
        }
        Ok(())
    }
}

/// What is the same for all recipients of a message.
pub(super) struct Common<'a> {
    pub(super) arrival: &'a Arrival,
    pub(super) account: &'a Account,
    /// The command at which it was refused; `None` if the message was handed over.
    refused_at: Option<&'static str>,
    client_id: String,
    forwarded_id: Option<String>,
    message_id: String,
    sender_domain: String,
    vendors: String,
    delays: String,
    size: Option<u64>,
}

impl<'a> Common<'a> {
    /// Collects it.
    pub(super) fn of(arrival: &'a Arrival, account: &'a Account, trace: &'a Trace) -> Common<'a> {
        let forwarded = arrival.envelope.forwarded.as_ref().and_then(|forwarded| forwarded.ident.as_deref());
        // An id with an at sign may be an address.
        let forwarded_id = forwarded
            .filter(|id| !has_address(id))
            .map(|id| id.chars().filter(char::is_ascii_graphic).take(64).collect());
        let sender = &arrival.envelope.sender;
        let announced = || sender.parameters.get("SIZE").and_then(|size| size.value()?.parse().ok());
        let size = Some(arrival.message.len() as u64).filter(|size| *size > 0).or_else(announced);
        Common {
            arrival,
            account,
            refused_at: None,
            client_id: Some(arrival.client_id()).filter(|id| !has_address(id)).unwrap_or_default(),
            forwarded_id,
            message_id: arrival.message_id(),
            sender_domain: sender
                .address
                .domain()
                .map_or_else(String::new, |domain| domain.as_str().to_owned()),
            vendors: vendors(account),
            delays: trace.to_string(),
            size,
        }
    }

    /// The same for recipients who were refused at this command.
    pub(super) fn refused_at(self, command: &'static str) -> Common<'a> {
        Common { refused_at: Some(command), ..self }
    }

    /// Writes the line of one recipient, `None` if none was named.
    pub(super) fn recipient(
        &self,
        (via, converted): (&Via, bool),
        person: Option<Person>,
        decision: Option<&Decision>,
        effect: Option<Effect>,
        reply: &Reply,
    ) {
        let Common { arrival, account, .. } = self;
        let downstream = Some(arrival.outbound.accepted_tracking.as_str()).filter(|text| !text.is_empty());
        let said = reply.to_string();
        tracing::info!(
            id = %arrival.id,
            listener = %arrival.listener,
            client = %arrival.peer.ip().to_canonical(),
            client_id = self.client_id.as_str(),
            forwarded_id = self.forwarded_id.as_deref(),
            message_id = self.message_id.as_str(),
            sender_domain = self.sender_domain.as_str(),
            size = self.size,
            controller = &*account.controller,
            mailstream = &*account.mailstream,
            person = person.map(tracing::field::debug),
            decision = decision.map(|decision| decision.outcome.name()),
            rule = decision.map(|decision| decision.rule.name()),
            version = decision.map(|decision| tracing::field::display(&decision.version)),
            shortfall = effect.and_then(|effect| effect.shortfall),
            done = effect.map(|effect| effect.done.name()),
            found = account.plan.found,
            unreadable = Some(account.plan.unreadable).filter(|count| *count > 0),
            vendors = Some(self.vendors.as_str()).filter(|names| !names.is_empty()),
            removed = effect.map(|effect| effect.removed),
            swapped = effect.map(|effect| effect.swapped),
            links_unwrapped = effect.map(|effect| effect.links.unwrapped).filter(|count| *count > 0),
            links_gated = effect.map(|effect| effect.links.gated).filter(|count| *count > 0),
            links_left = effect.map(|effect| effect.links.left).filter(|count| *count > 0),
            downstream,
            next_hop = via.next_hop.as_str(),
            authentication = via.authentication.map(Authentication::name),
            converted = converted.then_some("quoted-printable"),
            refused_at = self.refused_at,
            result = reply.class().name(),
            reply = said.as_str(),
            queue_id = queue_id(reply).as_deref(),
            delays = self.delays.as_str(),
            "message"
        );
    }
}

/// Names the vendors of the trackers that were found, each once.
fn vendors(account: &Account) -> String {
    let mut names: Vec<&str> = account.trackers.sightings.iter().map(|kind| &*kind.vendor).collect();
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}
