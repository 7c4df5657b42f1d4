//! Several copies of one message: the transaction is re-issued once for each group of recipients that get the same bytes.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::connection::Connection;
use super::error::{RelayError, concerns_us};
use super::pool::Origin;
use super::transaction::Transaction;
use crate::smtp::Reply;
use crate::smtp::reply::Class;
use crate::smtp::session::{Envelope, Recipient};

/// One copy, and who gets it.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// Indexes of the envelope's recipients.
    pub recipients: Vec<usize>,
    /// What they get, lines ending in CRLF; or what they hear instead.
    pub copy: Result<Bytes, Reply>,
}

/// What a recipient's copy came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The next hop's word, or ours where nothing was sent.
    Said(Reply),
    /// The final dot was sent and no answer came: it may have been delivered.
    Unknown(Reply),
}

impl Answer {
    /// What the client hears of it.
    pub fn reply(&self) -> &Reply {
        match self {
            Answer::Said(reply) | Answer::Unknown(reply) => reply,
        }
    }

    fn of(error: &RelayError) -> Answer {
        tracing::error!(%error, "the next hop did not take a copy");
        metrics::counter!("pixelward_next_hop_errors_total").increment(1);
        Answer::Said(error.reply())
    }
}

/// A transaction for one group.
struct Leg {
    connection: Connection,
    recipients: Vec<usize>,
}

/// Copies that the next hop has but for their final dots. Dropped, nothing was delivered anywhere.
pub struct Held {
    legs: Vec<Leg>,
    answers: Vec<Option<Answer>>,
}

impl Transaction {
    /// Delivers each copy for itself, one after the other: for clients that hear an answer for each recipient. Recipients of no parcel
    /// get no answer.
    pub async fn deliver_each(
        &mut self,
        envelope: &Envelope,
        head: &[u8],
        parcels: &[Parcel],
    ) -> Vec<Option<Answer>> {
        let mut answers = vec![None; envelope.recipients.len()];
        for parcel in parcels {
            let leg = match self.load(envelope, head, parcel, &mut answers).await {
                Ok(Some(leg)) => leg,
                Ok(None) => continue,
                Err(error) => {
                    let unanswered: Vec<usize> = parcel
                        .recipients
                        .iter()
                        .copied()
                        .filter(|own| answers.get(*own).is_some_and(Option::is_none))
                        .collect();
                    say(&mut answers, &unanswered, &Answer::of(&error));
                    continue;
                }
            };
            let held = Held { legs: vec![leg], answers };
            answers = self.release(held).await;
        }
        answers
    }

    /// Hands over every copy but for the final dots.
    ///
    /// # Errors
    ///
    /// What the client hears where a group cannot have its copy now: then none has it.
    pub async fn hold(
        &mut self,
        envelope: &Envelope,
        head: &[u8],
        parcels: &[Parcel],
    ) -> Result<Held, Reply> {
        let mut held = Held { legs: Vec::new(), answers: vec![None; envelope.recipients.len()] };
        for parcel in parcels {
            match self.load(envelope, head, parcel, &mut held.answers).await {
                Ok(leg) => held.legs.extend(leg),
                Err(error) => return Err(Answer::of(&error).reply().clone()),
            }
            let deferred = held.answers.iter().flatten().find(|own| own.reply().class() != Class::Permanent);
            if let Some(answer) = deferred {
                return Err(answer.reply().clone());
            }
        }
        Ok(held)
    }

    /// Sends all final dots together, and waits for what becomes of each.
    pub async fn release(&self, held: Held) -> Vec<Option<Answer>> {
        let Held { mut legs, mut answers } = held;
        let limit = self.pool.hop.timeouts.dot;
        let deadline = Instant::now() + limit;
        let mut sent = Vec::with_capacity(legs.len());
        for leg in &mut legs {
            sent.push(leg.connection.command(".\r\n", "final dot", Duration::from_secs(60)).await);
        }
        for (leg, sent) in legs.into_iter().zip(sent) {
            let Leg { mut connection, recipients } = leg;
            let left = deadline.saturating_duration_since(Instant::now());
            let reply = match sent {
                Ok(()) => connection.reply("final dot", left).await,
                Err(error) => Err(error),
            };
            let answer = match reply {
                Ok(reply) if concerns_us(&reply) || reply.class() == Class::Intermediate => {
                    Answer::of(&RelayError::Unwilling { at: "final dot", reply })
                }
                Ok(reply) => {
                    connection.messages += 1;
                    self.pool.give_back(connection);
                    Answer::Said(reply)
                }
                Err(error) => {
                    tracing::error!(%error, "the next hop gave no answer to a final dot");
                    Answer::Unknown(error.reply())
                }
            };
            say(&mut answers, &recipients, &answer);
        }
        answers
    }

    /// A group's transaction up to its final dot; a connection that is lost before costs one more attempt. `None` where nobody of the
    /// group gets a copy: then everybody has an answer.
    async fn load(
        &mut self,
        envelope: &Envelope,
        head: &[u8],
        parcel: &Parcel,
        answers: &mut [Option<Answer>],
    ) -> Result<Option<Leg>, RelayError> {
        let copy = match &parcel.copy {
            Ok(copy) => copy,
            Err(reply) => {
                say(answers, &parcel.recipients, &Answer::Said(reply.clone()));
                return Ok(None);
            }
        };
        let first = self.vacant().await?;
        match self.load_over(first, envelope, head, copy, parcel, answers).await {
            Err(error) if error.is_lost_connection() => {
                parcel
                    .recipients
                    .iter()
                    .filter_map(|own| answers.get_mut(*own).map(|own| *own = None))
                    .count();
                let fresh = (self.pool.fresh().await?, Origin::New);
                self.load_over(fresh, envelope, head, copy, parcel, answers).await
            }
            other => other,
        }
    }

    /// A connection without a transaction: our own, or one of the pool's.
    async fn vacant(&mut self) -> Result<(Connection, Origin), RelayError> {
        if let Some(mut connection) = self.connection.take()
            && self.reset(&mut connection).await
        {
            return Ok((connection, Origin::Reused));
        }
        self.pool.take().await
    }

    async fn load_over(
        &self,
        (mut connection, _): (Connection, Origin),
        envelope: &Envelope,
        head: &[u8],
        copy: &[u8],
        parcel: &Parcel,
        answers: &mut [Option<Answer>],
    ) -> Result<Option<Leg>, RelayError> {
        let asked: Vec<Recipient> =
            parcel.recipients.iter().filter_map(|own| envelope.recipients.get(*own).cloned()).collect();
        let said = self.ask_over(&mut connection, true, &asked).await?;
        if let Some(reply) = said.sender.filter(|reply| reply.class() != Class::Positive) {
            if reply.code() == 421 {
                return Err(RelayError::Closed { at: "MAIL" });
            }
            if concerns_us(&reply) {
                return Err(RelayError::Unwilling { at: "MAIL", reply });
            }
            self.pool.give_back(connection);
            say(answers, &parcel.recipients, &Answer::Said(reply));
            return Ok(None);
        }
        let mut accepted = Vec::with_capacity(asked.len());
        for (own, reply) in parcel.recipients.iter().zip(said.recipients) {
            match reply {
                Ok(reply) if reply.class() == Class::Positive => accepted.push(*own),
                Ok(reply) => say(answers, &[*own], &Answer::Said(reply)),
                Err(error) => say(answers, &[*own], &Answer::of(&error)),
            }
        }
        if accepted.is_empty() {
            if self.reset(&mut connection).await {
                self.pool.give_back(connection);
            }
            return Ok(None);
        }
        connection.command("DATA\r\n", "DATA", self.pool.hop.timeouts.data).await?;
        let reply = connection.reply("DATA", self.pool.hop.timeouts.data).await?;
        if reply.code() == 421 {
            return Err(RelayError::Closed { at: "DATA" });
        }
        if concerns_us(&reply) || reply.class() == Class::Positive {
            return Err(RelayError::Unwilling { at: "DATA", reply });
        }
        if reply.class() != Class::Intermediate {
            say(answers, &accepted, &Answer::Said(reply));
            if self.reset(&mut connection).await {
                self.pool.give_back(connection);
            }
            return Ok(None);
        }
        self.send(&mut connection, head, copy, b"").await?;
        Ok(Some(Leg { connection, recipients: accepted }))
    }
}

fn say(answers: &mut [Option<Answer>], recipients: &[usize], answer: &Answer) {
    for own in recipients {
        if let Some(own) = answers.get_mut(*own) {
            *own = Some(answer.clone());
        }
    }
}

impl Held {
    /// Who is about to get a copy.
    pub fn recipients(&self) -> impl Iterator<Item = usize> {
        self.legs.iter().flat_map(|leg| leg.recipients.iter().copied())
    }
}
