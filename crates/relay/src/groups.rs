//! Several copies of one message: a transaction for each group of recipients that get the same bytes.

use std::pin::Pin;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::ask::Answers;
use super::error::RelayError;
use super::transaction::{Late, Outcomes, Transaction};
use crate::smtp::Reply;
use crate::smtp::reply::Class;
use crate::smtp::session::{Envelope, Recipient};

/// A copy to be made, and its recipients.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// The number by which [`Copies`] makes it.
    pub number: usize,
    /// Indexes of the envelope's recipients.
    pub recipients: Vec<usize>,
}

/// A copy with CRLF line endings, or the reply for its recipients instead.
pub type Making<'a> = Pin<Box<dyn Future<Output = Result<Bytes, Reply>> + Send + 'a>>;

/// Makes the copies of a message one at a time, so that they are not all in memory together.
pub trait Copies: Send {
    /// Makes the copy with this number. Asked again, it makes an equivalent one.
    fn copy(&mut self, number: usize) -> Making<'_>;
}

/// Copies that exist already.
impl Copies for Vec<Result<Bytes, Reply>> {
    fn copy(&mut self, number: usize) -> Making<'_> {
        let missing = || Err(Reply::new(451, "4.3.0 Try again later"));
        Box::pin(std::future::ready(self.get(number).cloned().unwrap_or_else(missing)))
    }
}

/// The result of a recipient's copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The next hop's reply, or the relay's if nothing was sent.
    Said(Reply),
    /// The final dot was sent and no reply came: it may have been delivered.
    Unknown(Reply),
}

impl Answer {
    /// Returns the reply for the client.
    pub fn reply(&self) -> &Reply {
        match self {
            Answer::Said(reply) | Answer::Unknown(reply) => reply,
        }
    }

    pub(super) fn of(error: &RelayError) -> Answer {
        Answer::Said(noted(error))
    }

    /// Converts the next hop's replies to a final dot that was sent, for so many recipients: one that it gave
    /// for all is each one's.
    pub(super) fn each_of(outcomes: Outcomes, recipients: usize) -> Vec<Answer> {
        let mut answers: Vec<Answer> = outcomes.into_iter().map(Answer::of_outcome).collect();
        if let ([answer], 2..) = (&answers[..], recipients) {
            answers = vec![answer.clone(); recipients];
        }
        answers
    }

    fn of_outcome(outcome: Result<Reply, RelayError>) -> Answer {
        match outcome {
            Ok(reply) => Answer::Said(reply),
            Err(error @ RelayError::Unwilling { .. }) => Answer::of(&error),
            // The error before it says why.
            Err(error @ RelayError::Unanswered) => Answer::Unknown(error.reply()),
            Err(error) => Answer::Unknown(noted(&error)),
        }
    }
}

fn noted(error: &RelayError) -> Reply {
    tracing::error!(%error, "the next hop did not accept a copy");
    error.reply()
}

/// A group's transaction, with those of its recipients that the next hop accepted.
struct Leg {
    transaction: Transaction,
    recipients: Vec<usize>,
}

/// Copies that the next hop has except for their final dots. If this is dropped, nothing was delivered
/// anywhere.
pub(super) struct Held {
    legs: Vec<Leg>,
    answers: Vec<Option<Answer>>,
}

impl Held {
    /// Returns the recipients who are about to get a copy.
    pub(super) fn recipients(&self) -> impl Iterator<Item = usize> {
        self.legs.iter().flat_map(|leg| leg.recipients.iter().copied())
    }

    /// Returns whether one dot decides for all: nobody was rejected, and there is one copy.
    pub(super) fn is_one(&self) -> bool {
        self.legs.len() == 1 && self.answers.iter().all(Option::is_none)
    }
}

impl Transaction {
    /// Delivers copy by copy, for clients that expect a reply per recipient. Recipients of no parcel get no
    /// answer. `told` is called for each group as soon as the next hop has replied.
    pub(super) async fn deliver_each(
        &mut self,
        envelope: &Envelope,
        head: &[u8],
        parcels: &[Parcel],
        copies: &mut dyn Copies,
        mut told: impl FnMut(&[usize], &Answer),
    ) -> Released {
        self.abandon().await;
        let mut answers = vec![None; envelope.recipients.len()];
        let mut late = Vec::new();
        for parcel in parcels {
            let mut part = self.part(&parcel.recipients, None);
            part.has_empty_path = self.needs_empty_path(&parcel.recipients, envelope);
            match part.load_parcel(envelope, head, parcel, copies, &mut answers).await {
                Ok(Some(leg)) => {
                    self.follow(&leg.transaction, &parcel.recipients);
                    let released = release(Held { legs: vec![leg], answers }, &mut told).await;
                    answers = released.answers;
                    late.extend(released.late);
                }
                Ok(None) => {}
                Err(error) => {
                    let answer = Answer::of(&error);
                    for index in &parcel.recipients {
                        if let Some(slot) = answers.get_mut(*index) {
                            slot.get_or_insert_with(|| answer.clone());
                        }
                    }
                }
            }
        }
        Released { answers, late }
    }

    /// Hands over every copy except for the final dots. All connections are taken at once, so that
    /// transactions do not wait for each other.
    ///
    /// # Errors
    ///
    /// Returns the reply if a group cannot have its copy now: then none has it.
    pub(super) async fn hold(
        &mut self,
        envelope: &Envelope,
        head: &[u8],
        parcels: &[Parcel],
        copies: &mut dyn Copies,
    ) -> Result<Held, Reply> {
        self.abandon().await;
        let places = self.places(parcels).await.map_err(|error| noted(&error))?;
        let mut held = Held { legs: Vec::new(), answers: vec![None; envelope.recipients.len()] };
        for (parcel, place) in parcels.iter().zip(places) {
            let mut part = self.part(&parcel.recipients, Some(place));
            part.has_empty_path = self.needs_empty_path(&parcel.recipients, envelope);
            let leg = part.load_parcel(envelope, head, parcel, copies, &mut held.answers).await;
            let leg = leg.map_err(|error| noted(&error))?;
            if let Some(leg) = leg {
                self.follow(&leg.transaction, &parcel.recipients);
                held.legs.push(leg);
            }
            let deferred =
                held.answers.iter().flatten().find(|answer| answer.reply().class() != Class::Permanent);
            if let Some(answer) = deferred {
                return Err(answer.reply().clone());
            }
        }
        Ok(held)
    }

    /// Notes where a part of the message went, and how long it waited for a connection.
    fn follow(&mut self, part: &Transaction, recipients: &[usize]) {
        self.note_asked(recipients, part);
        self.note_converted(recipients, part.is_converted);
        self.asked.clone_from(&part.asked);
        self.authentication = part.authentication;
        self.connecting += part.connecting;
        self.loses_notify |= part.loses_notify;
    }

    /// Takes a group's transaction up to its final dot; losing the next hop after the recipients costs one
    /// more attempt. `None` if nobody of the group gets a copy: then everybody has an answer.
    async fn load_parcel(
        mut self,
        envelope: &Envelope,
        head: &[u8],
        parcel: &Parcel,
        copies: &mut dyn Copies,
        answers: &mut [Option<Answer>],
    ) -> Result<Option<Leg>, RelayError> {
        let copy = match copies.copy(parcel.number).await {
            Ok(copy) => copy,
            Err(reply) => {
                say(answers, &parcel.recipients, &Answer::Said(reply));
                return Ok(None);
            }
        };
        let mut is_first = true;
        loop {
            let accepted = self.ask_parcel(envelope, parcel, answers).await?;
            if accepted.is_empty() {
                break;
            }
            match self.load(head, &copy, b"").await {
                Ok(None) => return Ok(Some(Leg { transaction: self, recipients: accepted })),
                Ok(Some(reply)) if self.goes_on(&reply).await => {}
                Ok(Some(reply)) => {
                    say(answers, &accepted, &Answer::Said(reply));
                    break;
                }
                Err(error) if is_first => {
                    tracing::warn!(%error, "a copy is handed over once more");
                    is_first = false;
                }
                Err(error) => return Err(error),
            }
        }
        self.abandon().await;
        Ok(None)
    }

    /// Announces a group to the next hop; returns those whom it accepted. The others have an answer.
    async fn ask_parcel(
        &mut self,
        envelope: &Envelope,
        parcel: &Parcel,
        answers: &mut [Option<Answer>],
    ) -> Result<Vec<usize>, RelayError> {
        let asked: Vec<Recipient> =
            parcel.recipients.iter().filter_map(|index| envelope.recipients.get(*index).cloned()).collect();
        let mut said = self.ask(&asked).await?;
        let is_refused = |said: &Answers| said.sender.as_ref().is_some_and(|reply| !is_positive(reply));
        if self.has_empty_path && is_refused(&said) {
            // Some servers take no mail without a sender. That is worse than a notification.
            self.has_empty_path = false;
            self.abandon().await;
            said = self.ask(&asked).await?;
        }
        if let Some(reply) = said.sender.filter(|reply| !is_positive(reply)) {
            say(answers, &parcel.recipients, &Answer::Said(reply));
            return Ok(Vec::new());
        }
        let mut accepted = Vec::with_capacity(asked.len());
        for (index, reply) in parcel.recipients.iter().zip(said.recipients) {
            let answer = match reply {
                Ok(reply) if reply.class() == Class::Positive => {
                    accepted.push(*index);
                    None
                }
                Ok(reply) => Some(Answer::Said(reply)),
                Err(error) => Some(Answer::of(&error)),
            };
            if let Some(target) = answers.get_mut(*index) {
                *target = answer;
            }
        }
        Ok(accepted)
    }
}

fn is_positive(reply: &Reply) -> bool {
    reply.class() == Class::Positive
}

/// What came of the final dots.
pub(super) struct Released {
    /// For each recipient; `None` for those who were in no group.
    pub(super) answers: Vec<Option<Answer>>,
    /// Groups whose answer is still waited for.
    pub(super) late: Vec<(Vec<usize>, Late)>,
}

/// Sends all final dots together, and waits for each reply. `told` is called as soon as the next hop has
/// replied to one, for those who got the same reply together.
pub(super) async fn release(held: Held, mut told: impl FnMut(&[usize], &Answer)) -> Released {
    let Held { legs, mut answers } = held;
    let mut waiting = JoinSet::new();
    for mut leg in legs {
        let sent = leg.transaction.dot().await;
        waiting.spawn(async move {
            let outcomes = match sent {
                Ok(()) => leg.transaction.outcomes().await,
                Err(error) => vec![Err(error)],
            };
            (leg.recipients, outcomes, leg.transaction.late)
        });
    }
    let mut late = Vec::new();
    while let Some(ended) = waiting.join_next().await {
        let Ok((recipients, outcomes, waiting)) = ended else { continue };
        let said = Answer::each_of(outcomes, recipients.len());
        let mut left = &recipients[..];
        for same in said.chunk_by(|one, next| one == next) {
            let Some((these, others)) = left.split_at_checked(same.len()) else { break };
            if let Some(answer) = same.first() {
                told(these, answer);
                say(&mut answers, these, answer);
            }
            left = others;
        }
        late.extend(waiting.map(|waiting| (waiting.concerns(&recipients).to_vec(), waiting)));
    }
    Released { answers, late }
}

fn say(answers: &mut [Option<Answer>], recipients: &[usize], answer: &Answer) {
    for index in recipients {
        if let Some(target) = answers.get_mut(*index) {
            *target = Some(answer.clone());
        }
    }
}
