//! A mail transaction with a next hop, for one that a client has with the relay.
//!
//! [`Transaction`] is one type whose work stands in files of their own: `ask` (MAIL and RCPT), `ways` (several
//! routes), `convert` (what a next hop lacks) and `groups` (several copies). They know each other through it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pixelward_config::Protocol;

use super::authentication::Authentication;
use super::connection::{Capabilities, Connection};
use super::convert::without_8_bit;
use super::error::{RelayError, Step, concerns_us, note_error};
use super::pool::{Lease, Place, Pool};
use super::route::{Attempts, Route};
use super::ways::Ways;
use crate::message::header;
use crate::smtp::Reply;
use crate::smtp::data::dots_to_stuff;
use crate::smtp::reply::Class;
use crate::smtp::session::Sender;
use crate::smtp::xclient::Forwarded;

/// How long it waits for connections, where its client does not limit that.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How long closing an abandoned connection may take.
const PARTING: Duration = Duration::from_secs(5);

/// A transaction that may or may not have reached a next hop yet.
#[derive(Debug)]
pub struct Transaction {
    route: Arc<Route>,
    pub(super) sender: Sender,
    /// What a next hop that asks for it is told about the client.
    pub(super) client: Option<Arc<Forwarded>>,
    pub(super) lease: Option<Lease>,
    pub(super) place: Option<Place>,
    /// Whether the next hop's rate limit counts it already.
    pub(super) is_counted: bool,
    deadline: Option<Instant>,
    /// Whether a next hop has accepted the sender.
    pub(super) begun: bool,
    /// Whether the message follows at once.
    pub(super) data_follows: bool,
    /// How many recipients were accepted, and how many of them over the connection at hand: begun anew, it
    /// lacks the earlier ones.
    pub(super) accepted: usize,
    pub(super) held: usize,
    /// Where its recipients' mail goes, if that is not the same way for all of them.
    pub(super) ways: Option<Box<Ways>>,
    /// The next hop that accepted them.
    pub(super) preferred: Option<Arc<Pool>>,
    /// The next hop that was asked last.
    pub(super) asked: Option<Arc<Pool>>,
    /// What it has shown that it is.
    pub(super) authentication: Option<Authentication>,
    /// What is still waited for.
    pub(super) late: Option<Late>,
    /// Whether a next hop without DSN is given an empty return path.
    pub(super) has_empty_path: bool,
    /// Whether its message was converted, and which recipients' was.
    pub(super) is_converted: bool,
    pub(super) converted: Vec<usize>,
    /// Whether a next hop without DSN accepted recipients.
    pub(super) loses_notify: bool,
    /// How long it waited for connections.
    pub(super) connecting: Duration,
    /// Next hops that put the message off before they had any of it, with their replies.
    pub(super) put_off: Vec<(Arc<Pool>, Reply)>,
}

impl Transaction {
    /// Creates a transaction for this sender. Nothing is sent yet.
    pub fn new(route: Arc<Route>, sender: Sender) -> Transaction {
        Transaction {
            route,
            sender,
            client: None,
            lease: None,
            place: None,
            is_counted: false,
            deadline: None,
            begun: false,
            data_follows: false,
            accepted: 0,
            held: 0,
            ways: None,
            preferred: None,
            asked: None,
            authentication: None,
            late: None,
            has_empty_path: false,
            is_converted: false,
            converted: Vec::new(),
            loses_notify: false,
            connecting: Duration::ZERO,
            put_off: Vec::new(),
        }
    }

    /// Adds the client: next hops that announce XFORWARD are told about it.
    #[must_use]
    pub fn on_behalf_of(self, client: Forwarded) -> Transaction {
        Transaction { client: Some(Arc::new(client)), ..self }
    }

    /// Makes it one whose client was told already that the sender is accepted: what a next hop says about the
    /// sender is said of the recipients.
    #[must_use]
    pub fn with_accepted_sender(self) -> Transaction {
        Transaction { begun: true, ..self }
    }

    /// Says whether the message follows at once behind the recipients who are asked about next. If there is one
    /// such recipient, the next hop can be told together.
    pub fn expect_data(&mut self, follows: bool) {
        self.data_follows = follows;
    }

    /// Creates another transaction for some recipients of the same message, with its own slot if it has one.
    pub(super) fn part(&self, recipients: &[usize], place: Option<Place>) -> Transaction {
        let route = self.route_of(recipients);
        if !Arc::ptr_eq(route, &self.route) {
            let part = Transaction::new(Arc::clone(route), self.sender.clone());
            return Transaction { client: self.client.clone(), place, deadline: self.deadline, ..part };
        }
        Transaction {
            client: self.client.clone(),
            place,
            is_counted: true,
            deadline: self.deadline,
            preferred: self.preferred.clone(),
            put_off: self.put_off.clone(),
            ..Transaction::new(Arc::clone(&self.route), self.sender.clone())
        }
    }

    /// Creates a transaction for a notification to this one's sender.
    pub fn beside(&self, sender: Sender) -> Transaction {
        let route = self.ways.as_ref().map_or(&self.route, |ways| &ways.back);
        Transaction { deadline: self.deadline, ..Transaction::new(Arc::clone(route), sender) }
    }

    /// Sets the overall deadline.
    pub fn finish_by(&mut self, deadline: Instant) {
        self.deadline = Some(deadline);
    }

    /// Returns how long a step may take.
    pub(super) fn limit(&self, step: Duration) -> Duration {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        left.map_or(step, |left| left.min(step))
    }

    /// Returns whether a next hop has it up to here, with all accepted recipients.
    pub fn is_open(&self) -> bool {
        self.lease.is_some() && self.held == self.accepted
    }

    /// Waits until others wait for the slot of its connection.
    pub async fn is_wanted(&self) {
        match &self.lease {
            Some(lease) => lease.pool().wanted().await,
            None => std::future::pending().await,
        }
    }

    /// Returns its route.
    pub(super) fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// Returns the next hops to be asked, the one that has accepted recipients first.
    pub(super) fn attempts(&mut self) -> Attempts {
        let place = self.place.take();
        self.route.attempts(place, self.preferred.as_ref(), &self.put_off)
    }

    /// Notes that the next hop put the message off before it had any of it. Returns whether another next hop
    /// is left that may accept it.
    pub(super) async fn goes_on(&mut self, reply: &Reply) -> bool {
        let Some(lease) = self.lease.as_ref().filter(|_| reply.class() == Class::Transient) else {
            return false;
        };
        if self.route.pools().len() <= self.put_off.len() + 1 {
            return false;
        }
        let next_hop = lease.hop();
        tracing::info!(%next_hop, %reply, "a next hop put a message off; the next one is tried");
        self.put_off.push((Arc::clone(lease.pool()), reply.clone()));
        (self.preferred, self.accepted, self.begun) = (None, 0, false);
        self.abandon().await;
        true
    }

    /// Hands the message over: `head`, then `message`, each line ending in CRLF, then `end`. Returns the next
    /// hop's reply if it rejects the message; then nothing was sent.
    ///
    /// # Errors
    ///
    /// When the next hop does not reply about the mail. Then the message was not handed over completely, and
    /// was not delivered.
    pub(super) async fn load(
        &mut self,
        head: &[u8],
        message: &[u8],
        end: &[u8],
    ) -> Result<Option<Reply>, RelayError> {
        let Some(mut lease) = self.lease.take() else { return Err(RelayError::Closed { at: "DATA" }) };
        let converted = match lease.capabilities.eight_bit {
            true => None,
            false => without_8_bit(message).await,
        };
        let is_converted = converted.is_some();
        let message = converted.as_deref().unwrap_or(message);
        if let Some(reply) = self.unfit(&lease.capabilities, head, message) {
            self.lease = Some(lease);
            return Ok(Some(reply));
        }
        match self.load_over(&mut lease, head, message, end).await {
            Ok(refused) => {
                self.is_converted = is_converted && refused.is_none();
                self.lease = Some(lease);
                Ok(refused)
            }
            Err(error) => {
                lease.pool().health.failed(Instant::now());
                note_error();
                Err(error)
            }
        }
    }

    /// Returns why the next hop cannot take a message, by what it announced; then nothing is sent. For good
    /// only if no next hop of the route can.
    fn unfit(&self, announced: &Capabilities, head: &[u8], message: &[u8]) -> Option<Reply> {
        let reply = |lasting: bool, permanent: (u16, &str), transient: &str| {
            Some(if lasting { Reply::new(permanent.0, permanent.1) } else { Reply::new(451, transient) })
        };
        if !announced.eight_bit && !message.is_ascii() {
            return reply(
                self.route.all_lack(|other| !other.eight_bit),
                (554, "5.6.3 The message has 8-bit text, which the next hop does not accept"),
                "4.6.3 No next hop that accepts 8-bit text can be used now, try again later",
            );
        }
        let header = || message.get(..header::length(message)).unwrap_or_default();
        if !announced.smtputf8 && self.sender.parameters.has("SMTPUTF8") && !header().is_ascii() {
            return Some(self.lacks_smtputf8());
        }
        let size = (head.len() + message.len()) as u64;
        let is_small = |other: &Capabilities| other.size.flatten().is_some_and(|most| size > most);
        if is_small(announced) {
            return reply(
                self.route.all_lack(is_small),
                (552, "5.3.4 The message is larger than the next hop accepts"),
                "4.3.4 No next hop that accepts a message of this size can be used now, try again later",
            );
        }
        None
    }

    async fn load_over(
        &self,
        lease: &mut Lease,
        head: &[u8],
        message: &[u8],
        end: &[u8],
    ) -> Result<Option<Reply>, RelayError> {
        let timeouts = lease.hop().timeouts;
        if !lease.owes_data {
            lease.command("DATA\r\n", "DATA", self.limit(timeouts.data)).await?;
        }
        let reply = lease.data_reply(self.limit(timeouts.data)).await?;
        if concerns_us(&reply, Step::Data) || reply.class() == Class::Positive {
            return Err(RelayError::Unwilling { at: "DATA", reply });
        }
        if reply.class() != Class::Intermediate {
            return Ok(Some(reply));
        }
        send(lease, head, message, end, self.limit(timeouts.write)).await?;
        Ok(None)
    }

    /// Sends the final dot.
    ///
    /// # Errors
    ///
    /// When it cannot be sent.
    pub(super) async fn dot(&mut self) -> Result<(), RelayError> {
        let Some(mut lease) = self.lease.take() else { return Err(RelayError::Closed { at: "final dot" }) };
        let limit = self.limit(lease.hop().timeouts.write);
        lease.command(".\r\n", "final dot", limit).await.inspect_err(|_| note_error())?;
        self.lease = Some(lease);
        Ok(())
    }

    /// Returns the next hop's reply to the final dot of a message to one recipient, or to all together.
    ///
    /// # Errors
    ///
    /// When it does not reply about the mail. The message may have been delivered all the same.
    pub(super) async fn outcome(&mut self) -> Result<Reply, RelayError> {
        self.outcomes().await.swap_remove(0)
    }

    /// Returns the next hop's replies to the final dot: one, or over LMTP one for each recipient that it has
    /// accepted. Those for which the client has no more time can still come to [`Transaction::late`].
    ///
    /// An error stands for a reply that is not about the mail, or is missing. The message may have been
    /// delivered all the same.
    pub(super) async fn outcomes(&mut self) -> Outcomes {
        let Some(lease) = self.lease.take() else { return vec![Err(RelayError::Closed { at: "final dot" })] };
        let patience = lease.hop().timeouts.dot;
        let limit = self.limit(patience);
        let awaited = match lease.hop().protocol {
            Protocol::Smtp => 1,
            Protocol::Lmtp => self.held.max(1),
        };
        let (mut said, lease) = replies(lease, awaited, limit).await;
        if let Some(lease) = lease.filter(|_| limit < patience) {
            let missing = awaited - said.len() + 1;
            self.late = Some(Late { lease, patience: patience.saturating_sub(limit), missing });
            said.pop();
            said.push(Err(RelayError::Late { after: limit }));
        }
        said.extend((said.len()..awaited).map(|_| Err(RelayError::Unanswered)));
        said
    }

    /// Abandons the transaction. The connection is reset and kept, or closed if it does not reply at once.
    /// Later requests begin anew.
    pub async fn abandon(&mut self) {
        let Some(lease) = self.lease.take() else { return };
        Box::pin(part(lease)).await;
    }

    /// Returns how long it waited for connections.
    pub fn connecting(&self) -> Duration {
        self.connecting
    }

    /// Returns the next hop that was asked last, or the first of the route.
    pub fn via(&self) -> Via {
        Via::of(self.asked.as_ref().or_else(|| self.route.pools().first()), self.authentication)
    }
}

/// A next hop that was asked, or would be.
#[derive(Clone, Debug, Default)]
pub struct Via {
    /// Its name.
    pub next_hop: String,
    /// What it has shown that it is, if it was reached.
    pub authentication: Option<Authentication>,
}

impl Via {
    pub(super) fn of(pool: Option<&Arc<Pool>>, authentication: Option<Authentication>) -> Via {
        Via { next_hop: pool.map(|pool| pool.hop.to_string()).unwrap_or_default(), authentication }
    }
}

/// What a next hop replied to a final dot: once for all, or once for each recipient.
pub(super) type Outcomes = Vec<Result<Reply, RelayError>>;

/// A message whose final dot the next hop has not answered, and whose client has given up waiting.
#[derive(Debug)]
pub(super) struct Late {
    lease: Lease,
    patience: Duration,
    /// How many replies are missing.
    missing: usize,
}

impl Late {
    /// Waits for the next hop's replies as long as the next hop may take.
    pub(super) async fn outcomes(self) -> Outcomes {
        replies(self.lease, self.missing, self.patience).await.0
    }

    /// Returns those of a transaction's recipients whose reply is missing.
    pub(super) fn concerns<'a>(&self, recipients: &'a [usize]) -> &'a [usize] {
        match self.lease.hop().protocol {
            Protocol::Smtp => recipients,
            Protocol::Lmtp => {
                let answered = recipients.len().saturating_sub(self.missing);
                recipients.get(answered..).unwrap_or_default()
            }
        }
    }
}

/// Reads so many replies to a final dot, up to the first that does not come. Returns the connection if it
/// was only waited for too briefly.
async fn replies(mut lease: Lease, awaited: usize, limit: Duration) -> (Outcomes, Option<Lease>) {
    let until = Instant::now() + limit;
    let mut said = Vec::with_capacity(awaited);
    while said.len() < awaited {
        match lease.reply("final dot", until.saturating_duration_since(Instant::now())).await {
            Ok(reply) if concerns_us(&reply, Step::Dot) || reply.class() == Class::Intermediate => {
                note_error();
                said.push(Err(RelayError::Unwilling { at: "final dot", reply }));
            }
            Ok(reply) => said.push(Ok(reply)),
            Err(error) => {
                note_error();
                let is_late = matches!(error, RelayError::Timeout { .. });
                said.push(Err(match is_late {
                    true => RelayError::Timeout { at: "final dot", after: limit },
                    false => error,
                }));
                return (said, Some(lease).filter(|_| is_late));
            }
        }
    }
    if said.iter().all(Result::is_ok) {
        lease.messages += 1;
        if said.iter().flatten().any(|reply| reply.class() == Class::Positive) {
            lease.rejected = 0;
        }
        lease.give_back();
    }
    (said, None)
}

/// Ends the transaction of a connection, and returns it to the pool if that worked. One that waits for a
/// message can only be closed.
async fn part(mut lease: Lease) {
    if !lease.owes_data && reset(&mut lease).await.is_ok_and(|reply| reply.class() == Class::Positive) {
        lease.give_back();
    }
}

/// Ends the transaction of a connection.
async fn reset(connection: &mut Connection) -> Result<Reply, RelayError> {
    connection.command("RSET\r\n", "RSET", PARTING).await?;
    connection.reply("RSET", PARTING).await
}

/// Sends `head` and `message` with dots stuffed, followed by `end`.
async fn send(
    connection: &mut Connection,
    head: &[u8],
    message: &[u8],
    end: &[u8],
    limit: Duration,
) -> Result<(), RelayError> {
    let mut slices: Vec<&[u8]> = vec![head];
    let mut at = 0;
    for dot in dots_to_stuff(message, true) {
        slices.push(message.get(at..dot).unwrap_or_default());
        slices.push(b".");
        at = dot;
    }
    slices.push(message.get(at..).unwrap_or_default());
    if !message.ends_with(b"\r\n") {
        // Without it the next hop would wait for the end for ever.
        slices.push(b"\r\n");
    }
    slices.push(end);
    connection.message(&slices, limit).await
}
