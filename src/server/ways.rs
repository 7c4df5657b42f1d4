//! Recipients whose mail goes different ways: each is announced to a next hop of its route.
//!
//! Which next hop answers for the sender is known only with the first recipient, so the client hears at once
//! that the sender is accepted; a next hop that does not accept it says so of its recipients.

use std::sync::Arc;

use super::connection::{Conversation, Ended};
use super::recipients::Batch;
use crate::relay::{Outbound, RelayError, Transaction};
use crate::smtp::reply::{Class, Reply};
use crate::smtp::session::{Recipient, Session};

/// Recipients of one route, with their places in the batch.
struct Share {
    outbound: Arc<Outbound>,
    places: Vec<usize>,
    recipients: Vec<Recipient>,
}

impl Conversation<'_> {
    /// Announces recipients to the next hops of their routes, and passes on the replies in order. The first
    /// transaction with an accepted recipient is kept; the message is handed over by others for the rest.
    pub(super) async fn put_to_each_next_hop(&mut self, batch: Batch) -> Result<(), Ended> {
        if batch.sender {
            self.say(&Reply::new(250, "2.1.0 Sender ok"));
        }
        self.flush().await?;
        let mut replies: Vec<Option<(Recipient, Reply)>> = vec![None; batch.recipients.len()];
        for Share { outbound, places, recipients } in self.shares(batch.recipients) {
            let said = self.put_to_one(&outbound, &recipients).await;
            for (place, told) in places.into_iter().zip(recipients.into_iter().zip(said)) {
                if let Some(reply) = replies.get_mut(place) {
                    *reply = Some(told);
                }
            }
        }
        for (recipient, reply) in replies.into_iter().flatten() {
            self.say(&reply);
            if reply.class() == Class::Positive {
                self.session.accepted(recipient);
            }
        }
        Ok(())
    }

    /// Divides recipients by route.
    fn shares(&self, recipients: Vec<Recipient>) -> Vec<Share> {
        let Session::Open(envelope) = &self.session else { return Vec::new() };
        let login = envelope.login.as_deref().or(envelope.certificate.as_deref());
        let (live, sender) = (self.live(), envelope.sender.address.as_str());
        let mut shares: Vec<Share> = Vec::new();
        for (place, recipient) in recipients.into_iter().enumerate() {
            let to = Some(recipient.address.as_str());
            let Some(way) = live.outbound(&self.settings.name, login, sender, to) else { continue };
            let known = shares.iter().position(|share| Arc::ptr_eq(&share.outbound, way));
            match known.and_then(|known| shares.get_mut(known)) {
                Some(share) => {
                    share.places.push(place);
                    share.recipients.push(recipient);
                }
                None => shares.push(Share {
                    outbound: Arc::clone(way),
                    places: vec![place],
                    recipients: vec![recipient],
                }),
            }
        }
        shares
    }

    /// Announces recipients of one route; returns what each is told.
    async fn put_to_one(&mut self, outbound: &Arc<Outbound>, recipients: &[Recipient]) -> Vec<Reply> {
        let Session::Open(envelope) = &self.session else { return Vec::new() };
        let is_ours = self.outbound.as_ref().is_some_and(|ours| Arc::ptr_eq(ours, outbound));
        let kept = if is_ours { self.transaction.take() } else { None };
        let mut transaction = kept.unwrap_or_else(|| {
            Transaction::new(Arc::clone(&outbound.route), envelope.sender.clone())
                .on_behalf_of(self.forwarded(envelope))
                .with_accepted_sender()
                .into()
        });
        let asked = transaction.ask(recipients).await;
        let via = transaction.via();
        let alarm = |error: &RelayError| {
            if !matches!(error, RelayError::Unanswered) {
                self.alarm(&via.next_hop, error);
            }
            error.reply()
        };
        let replies: Vec<Reply> = match asked {
            Ok(answers) => {
                let said = answers.recipients.into_iter();
                said.map(|said| said.unwrap_or_else(|error| alarm(&error))).collect()
            }
            Err(error) => vec![alarm(&error); recipients.len()],
        };
        let refused: Vec<(Recipient, Reply)> = recipients
            .iter()
            .cloned()
            .zip(replies.iter().cloned())
            .filter(|(_, reply)| reply.class() != Class::Positive)
            .collect();
        let is_accepted = refused.len() < replies.len();
        if let Some((_, about)) = refused.first().cloned() {
            self.note_refused_by(&via, "rcpt", refused, &about);
        }
        if is_ours || self.outbound.is_none() && is_accepted {
            self.outbound = Some(Arc::clone(outbound));
            self.held_since = tokio::time::Instant::now();
            self.transaction = Some(transaction);
        } else {
            transaction.abandon().await;
        }
        replies
    }
}
