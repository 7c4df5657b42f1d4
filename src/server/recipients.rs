//! Announces the sender and the recipients of a message to the next hop, and passes its replies to the
//! client.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::connection::{Conversation, Ended};
use super::refused::without_recipients;
use crate::relay::ask::Answers;
use crate::relay::{Heard, RelayError, Transaction};
use crate::smtp::reply::{Class, Reply};
use crate::smtp::session::{Recipient, Session};

/// What waits to be announced to the next hop together.
#[derive(Default)]
pub(super) struct Batch {
    /// Whether the sender waits.
    pub(super) sender: bool,
    /// The recipients that wait.
    pub(super) recipients: Vec<Recipient>,
    /// Whether DATA follows, and the message at once, as far as can be foreseen.
    pub(super) data_follows: bool,
}

/// The answers of a batch that the client has.
struct Passed {
    sender: Option<Reply>,
    recipients: Vec<Reply>,
    errors: Vec<RelayError>,
}

/// After how long the client hears answers that are at hand while the next hop still owes others: a client's
/// time limit holds for each reply.
const SOON: Duration = Duration::from_secs(1);

impl Conversation<'_> {
    /// Announces what was collected to the next hop, and passes on its replies. A session with nothing to ask
    /// does not hold the memory for it.
    pub(super) async fn ask_next_hop(&mut self) -> Result<(), Ended> {
        let batch = std::mem::take(&mut self.batch);
        if batch.sender || !batch.recipients.is_empty() {
            Box::pin(self.put_to_next_hop(batch)).await?;
        }
        Ok(())
    }

    async fn put_to_next_hop(&mut self, batch: Batch) -> Result<(), Ended> {
        if batch.sender
            && let Session::Open(envelope) = &self.session
        {
            let sender = envelope.sender.clone();
            let client = self.forwarded(envelope);
            // A name in a verified certificate counts like a login.
            let login = envelope.login.as_deref().or(envelope.certificate.as_deref());
            let (live, from) = (self.live(), sender.address.as_str());
            self.is_by_recipient = live.is_by_recipient(&self.settings.name, login, from);
            self.outbound = match self.is_by_recipient {
                true => None,
                false => live.outbound(&self.settings.name, login, from, None).cloned(),
            };
            self.transaction = self
                .outbound
                .as_ref()
                .map(|outbound| Transaction::new(Arc::clone(&outbound.route), sender).on_behalf_of(client))
                .map(Box::new);
        }
        if self.is_by_recipient {
            return self.put_to_each_next_hop(batch).await;
        }
        let Some(mut transaction) = self.transaction.take() else { return Ok(()) };
        let recipients = Vec::with_capacity(batch.recipients.len());
        let mut passed = Passed { sender: None, recipients, errors: Vec::new() };
        let asked = {
            let heard = Heard::default();
            transaction.expect_data(batch.data_follows);
            let mut asking = pin!(transaction.ask_telling(&batch.recipients, &heard));
            loop {
                let asked = timeout(SOON, &mut asking).await;
                self.pass_on(heard.take(), &mut passed);
                match asked {
                    Ok(asked) => break asked,
                    Err(_) => self.flush().await?,
                }
            }
        };
        transaction.expect_data(false);
        self.held_since = Instant::now();
        self.transaction = Some(transaction);
        self.conclude(batch, passed, asked);
        Ok(())
    }

    /// Passes on answers that have just come.
    fn pass_on(&mut self, heard: Answers, passed: &mut Passed) {
        if let Some(reply) = heard.sender {
            self.say(&reply);
            passed.sender = Some(reply);
        }
        for answer in heard.recipients {
            let reply = answer.unwrap_or_else(|error| {
                let reply = error.reply();
                passed.errors.push(error);
                reply
            });
            self.say(&reply);
            passed.recipients.push(reply);
        }
    }

    /// Says what the client has not heard yet, records whom it concerns, and ends the transaction if nothing
    /// can become of it.
    fn conclude(&mut self, batch: Batch, mut passed: Passed, asked: Result<(), RelayError>) {
        let reasons = passed.errors.iter().filter(|error| !matches!(error, RelayError::Unanswered));
        let via = self.transaction.as_ref().map(|transaction| transaction.via()).unwrap_or_default();
        reasons.for_each(|error| self.alarm(&via.next_hop, error));
        if let Err(error) = &asked {
            self.alarm(&via.next_hop, error);
            let reply = error.reply();
            if batch.sender && passed.sender.is_none() {
                self.say(&reply);
                passed.sender = Some(reply.clone());
            }
            while passed.recipients.len() < batch.recipients.len() {
                self.say(&reply);
                passed.recipients.push(reply.clone());
            }
        }
        let mut refused = Vec::new();
        // What the client heard for recipients behind a refused sender says less than the reply to MAIL.
        let sender = passed.sender.filter(|reply| reply.class() != Class::Positive);
        for (recipient, reply) in batch.recipients.into_iter().zip(passed.recipients) {
            match reply.class() {
                Class::Positive => self.session.accepted(recipient),
                _ => refused.push((recipient, sender.clone().unwrap_or(reply))),
            }
        }
        match &sender {
            Some(reply) => self.note_refused("mail", refused, reply),
            None => {
                if let Some((_, reply)) = refused.first().cloned() {
                    self.note_refused("rcpt", refused, &reply);
                }
            }
        }
        // Those accepted so far get their mail over another connection; without any, what follows is put off.
        let is_open = self.transaction.as_ref().is_some_and(|transaction| transaction.is_open());
        let is_empty = matches!(&self.session, Session::Open(envelope) if envelope.recipients.is_empty());
        let is_lost = !is_open && is_empty && !passed.errors.is_empty();
        match sender.map(|reply| reply.class()) {
            Some(Class::Permanent) => self.no_transaction(Session::between_messages),
            None if asked.is_ok() && !is_lost => {}
            _ => self.no_transaction(Session::deferred),
        }
    }

    pub(super) fn no_transaction(&mut self, next: impl FnOnce(Session) -> Session) {
        self.transaction = None;
        if let Session::Open(envelope) = &self.session {
            self.put_off = Some(Box::new(without_recipients(envelope)));
        }
        self.session = next(std::mem::replace(&mut self.session, Session::Closed));
    }

    pub(super) fn alarm(&self, next_hop: &str, error: &RelayError) {
        let id = &self.id;
        const TOLD: &str = "the next hop could not be used; the client was told to try again later";
        tracing::error!(%id, %next_hop, %error, "{TOLD}");
    }
}
