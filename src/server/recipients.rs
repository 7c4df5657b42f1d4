//! Announces the sender and the recipients of a message to the next hop, and passes its replies to the
//! client.

use std::sync::Arc;

use tokio::time::Instant;

use super::connection::Conversation;
use crate::relay::{RelayError, Transaction};
use crate::smtp::reply::{Class, Reply};
use crate::smtp::session::{Recipient, Session};

/// What waits to be announced to the next hop together.
#[derive(Default)]
pub(super) struct Batch {
    /// Whether the sender waits.
    pub(super) sender: bool,
    /// The recipients that wait.
    pub(super) recipients: Vec<Recipient>,
}

impl Conversation<'_> {
    /// Announces what was collected to the next hop, and passes on its replies. A session with nothing to ask
    /// does not hold the memory for it.
    pub(super) async fn ask_next_hop(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        if batch.sender || !batch.recipients.is_empty() {
            Box::pin(self.put_to_next_hop(batch)).await;
        }
    }

    async fn put_to_next_hop(&mut self, batch: Batch) {
        if batch.sender
            && let Session::Open(envelope) = &self.session
        {
            let sender = envelope.sender.clone();
            let client = self.forwarded(envelope);
            // A name in a verified certificate counts like a login.
            let login = envelope.login.as_deref().or(envelope.certificate.as_deref());
            self.outbound =
                self.live().outbound(&self.settings.name, login, sender.address.as_str()).cloned();
            self.transaction = self
                .outbound
                .as_ref()
                .map(|outbound| Transaction::new(Arc::clone(&outbound.route), sender).on_behalf_of(client));
        }
        let Some(transaction) = &mut self.transaction else { return };
        let asked = transaction.ask(&batch.recipients).await;
        self.held_since = Instant::now();
        match asked {
            Ok(answers) => {
                if let Some(reply) = &answers.sender {
                    // Begun anew for later recipients, it was answered before.
                    if batch.sender {
                        self.say(reply);
                    }
                    match reply.class() {
                        Class::Positive => {}
                        Class::Permanent => self.no_transaction(Session::between_messages),
                        _ => self.no_transaction(Session::deferred),
                    }
                }
                for (recipient, answer) in batch.recipients.into_iter().zip(answers.recipients) {
                    let reply = answer.unwrap_or_else(|error| self.alarm(&error));
                    self.say(&reply);
                    if reply.class() == Class::Positive {
                        self.session.accepted(recipient);
                    }
                }
            }
            Err(error) => {
                let reply = self.alarm(&error);
                for _ in 0..usize::from(batch.sender) + batch.recipients.len() {
                    self.say(&reply);
                }
                self.no_transaction(Session::deferred);
            }
        }
    }

    pub(super) fn no_transaction(&mut self, next: impl FnOnce(Session) -> Session) {
        self.transaction = None;
        self.session = next(std::mem::replace(&mut self.session, Session::Closed));
    }

    fn alarm(&self, error: &RelayError) -> Reply {
        metrics::counter!("pixelward_next_hop_errors_total").increment(1);
        let next_hop = self.transaction.as_ref().map(Transaction::next_hop).unwrap_or_default();
        tracing::error!(%next_hop, %error, "the next hop could not be used; the client was told to try again \
                                            later");
        error.reply()
    }
}
