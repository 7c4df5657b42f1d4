//! A mail transaction with a next hop, for one that a client has with the relay.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connection::{Capabilities, Connection};
use super::error::{RelayError, concerns_us};
use super::pool::{Lease, Place};
use super::route::Route;
use crate::smtp::Reply;
use crate::smtp::data::dots_to_stuff;
use crate::smtp::reply::Class;
use crate::smtp::session::{Recipient, Sender};
use crate::smtp::xclient::Forwarded;

/// How long closing an abandoned connection may take.
const PARTING: Duration = Duration::from_secs(5);

/// A transaction that may or may not have reached a next hop yet.
#[derive(Debug)]
pub struct Transaction {
    route: Arc<Route>,
    sender: Sender,
    /// What a next hop that asks for it is told about the client.
    client: Option<Arc<Forwarded>>,
    lease: Option<Lease>,
    place: Option<Place>,
    /// Whether the next hop's rate limit counts it already.
    is_counted: bool,
    deadline: Option<Instant>,
    /// How often it was begun. Begun anew, it lacks the earlier recipients.
    begun: u32,
}

/// The next hop's replies about a sender and recipients.
#[derive(Debug)]
pub struct Answers {
    /// About the sender; `None` if it was asked before.
    pub sender: Option<Reply>,
    /// About each recipient, in order. A reply that concerns the relay and not the recipient defers only that
    /// recipient.
    pub recipients: Vec<Result<Reply, RelayError>>,
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
            begun: 0,
        }
    }

    /// Adds the client: next hops that announce XFORWARD are told about it.
    #[must_use]
    pub fn on_behalf_of(self, client: Forwarded) -> Transaction {
        Transaction { client: Some(Arc::new(client)), ..self }
    }

    /// Creates another transaction for the same message, with its own slot if it has one.
    pub(super) fn part(&self, place: Option<Place>) -> Transaction {
        Transaction {
            route: Arc::clone(&self.route),
            sender: self.sender.clone(),
            client: self.client.clone(),
            lease: None,
            place,
            is_counted: true,
            deadline: self.deadline,
            begun: 0,
        }
    }

    /// Creates another transaction on the same route.
    pub fn beside(&self, sender: Sender) -> Transaction {
        Transaction { deadline: self.deadline, ..Transaction::new(Arc::clone(&self.route), sender) }
    }

    /// Sets the overall deadline.
    pub fn finish_by(&mut self, deadline: Instant) {
        self.deadline = Some(deadline);
    }

    /// Returns how long a step may take.
    fn limit(&self, step: Duration) -> Duration {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        left.map_or(step, |left| left.min(step))
    }

    /// Returns whether a next hop has it up to here, with all accepted recipients.
    pub fn is_open(&self) -> bool {
        self.lease.is_some() && self.begun == 1
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

    /// Announces the sender (if that was not done) and recipients to the next hop, in as few round trips as
    /// it allows. If a next hop cannot be used, the following one is tried.
    ///
    /// # Errors
    ///
    /// When no next hop can be asked, or all replies concern the relay and not the mail.
    pub async fn ask(&mut self, recipients: &[Recipient]) -> Result<Answers, RelayError> {
        if let Some(mut lease) = self.lease.take() {
            let answers = self.ask_over(&mut lease, false, recipients).await?;
            self.lease = Some(lease);
            return Ok(answers);
        }
        let mut attempts = self.route.attempts(self.place.take());
        loop {
            let lease = attempts.next().await?;
            if !self.is_counted {
                lease.pool().turn(1).await?;
                self.is_counted = true;
            }
            if self.sender.parameters.has("SMTPUTF8") && !lease.capabilities.smtputf8 {
                lease.give_back();
                let refused = Reply::new(550, "5.6.7 The next hop does not accept internationalised mail");
                return Ok(Answers {
                    sender: Some(refused.clone()),
                    recipients: unasked(&refused, recipients),
                });
            }
            let pool = Arc::clone(lease.pool());
            match self.ask_first(lease, recipients).await {
                Ok(answers) => return Ok(answers),
                Err(error) => attempts.failed(&pool, error),
            }
        }
    }

    /// Asks over a connection without a transaction. An idle one may have been closed meanwhile: that costs
    /// one silent attempt, not a deferral.
    async fn ask_first(&mut self, mut lease: Lease, recipients: &[Recipient]) -> Result<Answers, RelayError> {
        let mut asked = self.ask_over(&mut lease, true, recipients).await;
        let is_gone = match &asked {
            Err(error) => error.is_lost_connection(),
            Ok(answers) => answers.sender.as_ref().is_some_and(|reply| reply.code() == 421),
        };
        if lease.has_waited && is_gone {
            lease = lease.renewed().await?;
            asked = self.ask_over(&mut lease, true, recipients).await;
        }
        let answers = asked?;
        match &answers.sender {
            Some(reply) if concerns_us(reply) => {
                return Err(RelayError::Unwilling { at: "MAIL", reply: reply.clone() });
            }
            Some(reply) if reply.class() != Class::Positive => lease.give_back(),
            _ => {
                self.lease = Some(lease);
                self.begun += 1;
            }
        }
        Ok(answers)
    }

    async fn ask_over(
        &self,
        lease: &mut Lease,
        ask_sender: bool,
        recipients: &[Recipient],
    ) -> Result<Answers, RelayError> {
        let limit = self.limit(lease.hop().timeouts.command);
        let mut commands = Vec::with_capacity(recipients.len() + 1);
        let told = self.client.as_ref().filter(|_| ask_sender);
        let told = told.map_or_else(Vec::new, |client| client.commands(&lease.capabilities.xforward));
        if !lease.capabilities.pipelining {
            for command in &told {
                tell(lease, command, limit).await?;
            }
        }
        if ask_sender {
            commands.push(mail_line(&self.sender, &lease.capabilities));
        }
        commands.extend(recipients.iter().map(|recipient| rcpt_line(recipient, &lease.capabilities)));
        let mut replies = Vec::with_capacity(commands.len());
        if lease.capabilities.pipelining {
            lease.command(&[told.concat(), commands.concat()].concat(), "MAIL or RCPT", limit).await?;
            for _ in &told {
                lease.reply("XFORWARD", limit).await?;
            }
            for _ in &commands {
                replies.push(lease.reply("MAIL or RCPT", limit).await?);
            }
        } else {
            for command in &commands {
                lease.command(command, "MAIL or RCPT", limit).await?;
                replies.push(lease.reply("MAIL or RCPT", limit).await?);
                if ask_sender && replies.first().is_some_and(|reply: &Reply| reply.class() != Class::Positive)
                {
                    break;
                }
            }
        }
        let mut replies = replies.into_iter();
        let sender = if ask_sender { replies.next() } else { None };
        let recipients = match &sender {
            Some(reply) if reply.class() != Class::Positive => unasked(reply, recipients),
            _ => replies.map(about_the_recipient).collect::<Result<_, _>>()?,
        };
        Ok(Answers { sender, recipients })
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
        if let Some(reply) = unfit(&lease.capabilities, head, message) {
            self.lease = Some(lease);
            return Ok(Some(reply));
        }
        match self.load_over(&mut lease, head, message, end).await {
            Ok(refused) => {
                self.lease = Some(lease);
                Ok(refused)
            }
            Err(error) => {
                lease.pool().health.failed(Instant::now());
                Err(error)
            }
        }
    }

    async fn load_over(
        &self,
        lease: &mut Lease,
        head: &[u8],
        message: &[u8],
        end: &[u8],
    ) -> Result<Option<Reply>, RelayError> {
        let timeouts = lease.hop().timeouts;
        lease.command("DATA\r\n", "DATA", self.limit(timeouts.data)).await?;
        let reply = lease.reply("DATA", self.limit(timeouts.data)).await?;
        if concerns_us(&reply) || reply.class() == Class::Positive {
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
        lease.command(".\r\n", "final dot", limit).await?;
        self.lease = Some(lease);
        Ok(())
    }

    /// Returns the next hop's reply to the final dot.
    ///
    /// # Errors
    ///
    /// When it does not reply about the mail. The message may have been delivered all the same.
    pub(super) async fn outcome(&mut self) -> Result<Reply, RelayError> {
        let Some(mut lease) = self.lease.take() else { return Err(RelayError::Closed { at: "final dot" }) };
        let limit = self.limit(lease.hop().timeouts.dot);
        let reply = lease.reply("final dot", limit).await?;
        if concerns_us(&reply) || reply.class() == Class::Intermediate {
            return Err(RelayError::Unwilling { at: "final dot", reply });
        }
        lease.messages += 1;
        lease.give_back();
        Ok(reply)
    }

    /// Abandons the transaction. The connection is reset and kept, or closed if it does not reply at once.
    /// Later requests begin anew.
    pub async fn abandon(&mut self) {
        let Some(lease) = self.lease.take() else { return };
        Box::pin(part(lease)).await;
    }

    /// Returns the next hop.
    pub fn next_hop(&self) -> String {
        let pool = self.lease.as_ref().map(Lease::pool).or_else(|| self.route.pools().first());
        pool.map(|pool| pool.hop.to_string()).unwrap_or_default()
    }
}

/// Tells one next hop about the client. If it does not accept that, the message is sent all the same.
async fn tell(connection: &mut Connection, command: &str, limit: Duration) -> Result<(), RelayError> {
    connection.command(command, "XFORWARD", limit).await?;
    connection.reply("XFORWARD", limit).await.map(drop)
}

/// Ends the transaction of a connection, and returns it to the pool if that worked.
async fn part(mut lease: Lease) {
    if reset(&mut lease).await.is_ok_and(|reply| reply.class() == Class::Positive) {
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

/// Returns why a message is rejected before anything is sent: the next hop announced that it cannot accept
/// it.
fn unfit(announced: &Capabilities, head: &[u8], message: &[u8]) -> Option<Reply> {
    if !announced.eight_bit && !message.is_ascii() {
        return Some(Reply::new(554, "5.6.3 The message has 8-bit text, which the next hop does not accept"));
    }
    let size = (head.len() + message.len()) as u64;
    announced
        .size
        .flatten()
        .is_some_and(|most| size > most)
        .then(|| Reply::new(552, "5.3.4 The message is larger than the next hop accepts"))
}

/// Returns the answer for recipients that were sent together with a rejected sender: nobody answers for them.
/// The client acts on the reply to MAIL.
fn unasked(sender: &Reply, recipients: &[Recipient]) -> Vec<Result<Reply, RelayError>> {
    let reply = match sender.class() {
        Class::Permanent => Reply::new(503, "5.5.1 The sender was not accepted"),
        _ => Reply::new(451, "4.5.1 The sender was not accepted, try again later"),
    };
    recipients.iter().map(|_| Ok(reply.clone())).collect()
}

/// Handles a reply to RCPT. One that ends the conversation ends the transaction; any other that concerns the
/// relay and not the mail defers only this recipient.
fn about_the_recipient(reply: Reply) -> Result<Result<Reply, RelayError>, RelayError> {
    let unwilling = |reply| RelayError::Unwilling { at: "RCPT", reply };
    match reply.code() {
        421 => Err(unwilling(reply)),
        _ if concerns_us(&reply) => Ok(Err(unwilling(reply))),
        _ => Ok(Ok(reply)),
    }
}

/// Builds MAIL with the parameters that the next hop announced. SIZE is passed on as the client gave it: an
/// estimate, and a rewritten message is larger by no more than a trace header.
fn mail_line(sender: &Sender, capabilities: &Capabilities) -> String {
    let mut line = format!("MAIL FROM:<{}>", sender.address.as_str());
    for parameter in sender.parameters.iter() {
        let known = match parameter.name().to_ascii_uppercase().as_str() {
            "BODY" => capabilities.eight_bit,
            "SMTPUTF8" => capabilities.smtputf8,
            "RET" | "ENVID" => capabilities.dsn,
            "SIZE" => capabilities.size.is_some(),
            _ => false,
        };
        if known {
            line.push(' ');
            line.push_str(parameter.as_str());
        }
    }
    line.push_str("\r\n");
    line
}

fn rcpt_line(recipient: &Recipient, capabilities: &Capabilities) -> String {
    let mut line = format!("RCPT TO:<{}>", recipient.address.as_str());
    if capabilities.dsn {
        for parameter in recipient.parameters.iter() {
            line.push(' ');
            line.push_str(parameter.as_str());
        }
    }
    line.push_str("\r\n");
    line
}
