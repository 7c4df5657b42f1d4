//! Delivers a message, in one copy or several, to clients that expect one reply or one per recipient.

use std::sync::OnceLock;

use bytes::Bytes;

use super::groups::{Answer, Copies, Parcel, Released, release};
use super::ledger::{Fate, Key, Ledger};
use super::mail::{Answers, Mail};
use super::notify::{notify, relayed};
use super::transaction::{Late, Transaction};
use crate::smtp::Reply;
use crate::smtp::reply::Class;

/// The result of a delivery.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// For each recipient, in order.
    pub replies: Vec<Reply>,
    /// For all of them together.
    pub whole: Reply,
    /// Ledger entries that are closed when the client continues.
    pub open: Vec<Key>,
}

/// Delivers each copy, made by `copies`, to its recipients. Leaves out recipients that the ledger knows to
/// have been served by an earlier attempt.
pub async fn deliver(
    mail: &Mail<'_>,
    parcels: Vec<Parcel>,
    copies: &mut dyn Copies,
    transaction: &mut Transaction,
    ledger: &Ledger,
) -> Delivered {
    let book = Book { mail, ledger, keys: OnceLock::new() };
    let served = book.served();
    let is_retry = served.iter().any(Option::is_some);
    let parcels = transaction.by_route(without(parcels, &served));
    let parcels = transaction.by_notify(parcels, mail.envelope);
    let is_whole = !is_retry && transaction.is_open();
    let whole = match &parcels[..] {
        [parcel]
            if is_whole
                && transaction.is_on_route_of(&parcel.recipients)
                && !transaction.needs_empty_path(&parcel.recipients, mail.envelope) =>
        {
            let copy = copies.copy(parcel.number).await;
            let dotted = Dotted::of(&book, &parcels);
            let answers = whole_transaction(mail, copy, transaction).await;
            dotted.done();
            answers
        }
        _ => None,
    };
    let everybody = || (0..mail.envelope.recipients.len()).collect::<Vec<usize>>();
    let (news, is_one) = match (whole, mail.answers) {
        _ if parcels.is_empty() => (Released { answers: Vec::new(), late: Vec::new() }, true),
        (Some(answers), _) => {
            let is_one = is_same(&answers);
            let answers = answers.into_iter().map(Some).collect();
            let late = transaction.late.take().map(|late| (late.concerns(&everybody()).to_vec(), late));
            (Released { answers, late: late.into_iter().collect() }, is_one)
        }
        (None, Answers::Each) => (book.each(&parcels, copies, transaction).await, true),
        (None, Answers::One) => match together(&book, &parcels, copies, transaction).await {
            Ok(news) => news,
            Err(reply) => return deferred(mail, reply),
        },
    };
    let Released { answers: news, late } = news;
    let late = book.wait_for(late).await;
    let mut answers = served;
    for (answer, news) in answers.iter_mut().zip(news) {
        if answer.is_none() {
            *answer = news;
        }
    }
    let forgotten = || Answer::Said(Reply::new(451, "4.3.0 Try again later"));
    let answers: Vec<Answer> = answers.into_iter().map(|answer| answer.unwrap_or_else(forgotten)).collect();
    let whole = match mail.answers {
        Answers::One if is_retry || !is_one => conclude(&book, &answers, transaction).await,
        Answers::One | Answers::Each => common(&answers),
    };
    if transaction.loses_notify {
        relayed(mail, &answers, transaction).await;
    }
    let replies: Vec<Reply> = answers.iter().map(|answer| answer.reply().clone()).collect();
    let heard_all = mail.answers == Answers::Each || whole.class() == Class::Positive;
    let open = if heard_all { book.open_keys(&late) } else { Vec::new() };
    Delivered { replies, whole, open }
}

/// The ledger's pages for one message. Its keys are computed when needed.
struct Book<'a> {
    mail: &'a Mail<'a>,
    ledger: &'a Ledger,
    keys: OnceLock<Vec<Key>>,
}

impl Book<'_> {
    fn keys(&self) -> &[Key] {
        let mail = self.mail;
        self.keys.get_or_init(|| self.ledger.keys(mail.listener, mail.envelope, mail.message))
    }

    /// Returns which recipients earlier attempts have served.
    fn served(&self) -> Vec<Option<Answer>> {
        if self.ledger.is_empty() {
            return vec![None; self.mail.envelope.recipients.len()];
        }
        let late: Vec<bool> = self.keys().iter().map(|key| self.ledger.is_late(*key)).collect();
        let fates = self.ledger.fates(self.keys());
        let is_unknown = |(fate, late): (&Option<Fate>, &bool)| *fate == Some(Fate::Unknown) && !late;
        let unknown = fates.iter().zip(&late).filter(|known| is_unknown(*known)).count();
        if unknown > 0 {
            tracing::warn!(
                id = self.mail.id,
                recipients = unknown,
                "the next hop may already have received this message without replying; it is sent once more"
            );
        }
        let waits = || {
            let text = "4.4.7 The next hop has not answered yet about an earlier attempt, try again later";
            Answer::Unknown(Reply::new(451, text))
        };
        fates
            .into_iter()
            .zip(late)
            .map(|(fate, late)| match late {
                true => Some(waits()),
                false => fate.and_then(remembered),
            })
            .collect()
    }

    /// Records results at once, without waiting, so that nothing is repeated if the relay is killed.
    fn jot(&self, recipients: &[usize], answer: &Answer) {
        let Some(fate) = lasting(answer) else { return };
        let keys = recipients.iter().filter_map(|index| self.keys().get(*index));
        self.ledger.jot(keys.map(|key| (*key, Some(fate))).collect());
    }

    /// Delivers copy by copy. If there are several, a relay that is killed between two of them does not send
    /// the first ones again.
    async fn each(
        &self,
        parcels: &[Parcel],
        copies: &mut dyn Copies,
        transaction: &mut Transaction,
    ) -> Released {
        let told = |recipients: &[usize], answer: &Answer| {
            if parcels.len() > 1 {
                self.jot(recipients, answer);
            }
        };
        // Of several copies, those with an answer are in the ledger already.
        let dotted = Dotted::of(self, if parcels.len() == 1 { parcels } else { &[] });
        let released =
            transaction.deliver_each(self.mail.envelope, self.mail.head, parcels, copies, told).await;
        dotted.done();
        released
    }

    /// Names messages in the ledger that a next hop has and has not answered about, and waits for its answer
    /// in the background: a retry finds it there. Returns their recipients.
    async fn wait_for(&self, late: Vec<(Vec<usize>, Late)>) -> Vec<usize> {
        let mut all = Vec::new();
        for (recipients, late) in late {
            let keys: Vec<Key> =
                recipients.iter().filter_map(|index| self.keys().get(*index)).copied().collect();
            let (id, count) = (self.mail.id.to_owned(), keys.len());
            if self.ledger.note(keys.iter().map(|key| (*key, Some(Fate::Unknown))).collect()).await.is_err() {
                tracing::error!(%id, "a retry of this message may be delivered twice");
            }
            self.ledger.wait_for(keys, async move {
                let outcomes = late.outcomes().await;
                for outcome in &outcomes {
                    let said = outcome.as_ref().map_or_else(ToString::to_string, ToString::to_string);
                    let reply = said.as_str();
                    tracing::info!(%id, reply, "the next hop answered after its client's time was over");
                }
                let answers = Answer::each_of(outcomes, count);
                answers
                    .iter()
                    .map(|answer| match answer {
                        Answer::Said(_) => lasting(answer),
                        Answer::Unknown(_) => Some(Fate::Unknown),
                    })
                    .collect()
            });
            all.extend(recipients);
        }
        all
    }

    /// Returns what is closed when the client continues: nothing if nothing can have been written, and not
    /// what is still waited for.
    fn open_keys(self, late: &[usize]) -> Vec<Key> {
        let keys = self.keys.into_inner().unwrap_or_default();
        keys.into_iter().enumerate().filter(|(index, _)| !late.contains(index)).map(|(_, key)| key).collect()
    }
}

/// A message whose final dot may have been sent. If its delivery is cut short, as at the end of the relay,
/// the ledger names it.
struct Dotted<'a> {
    book: &'a Book<'a>,
    recipients: Vec<usize>,
}

impl<'a> Dotted<'a> {
    fn of(book: &'a Book<'a>, parcels: &[Parcel]) -> Dotted<'a> {
        let recipients = parcels.iter().flat_map(|parcel| parcel.recipients.iter().copied()).collect();
        Dotted { book, recipients }
    }

    /// Notes that it was not cut short.
    fn done(mut self) {
        self.recipients.clear();
    }
}

impl Drop for Dotted<'_> {
    fn drop(&mut self) {
        let keys = self.recipients.iter().filter_map(|index| self.book.keys().get(*index));
        let unknown: Vec<_> = keys.map(|key| (*key, Some(Fate::Unknown))).collect();
        if !unknown.is_empty() {
            self.book.ledger.jot(unknown);
        }
    }
}

/// Returns what a retry must know of an answer.
fn lasting(answer: &Answer) -> Option<Fate> {
    match answer {
        Answer::Unknown(_) => None,
        Answer::Said(reply) => match reply.class() {
            Class::Positive => Some(Fate::Accepted),
            Class::Permanent => Some(Fate::Rejected(reply.code())),
            Class::Transient | Class::Intermediate => None,
        },
    }
}

/// Returns the answer that a ledger entry gives a recipient.
fn remembered(fate: Fate) -> Option<Answer> {
    match fate {
        Fate::Unknown => None,
        Fate::Accepted => Some(Answer::Said(Reply::new(250, "2.0.0 Delivered at an earlier attempt"))),
        Fate::Rejected(code) => Some(Answer::Said(Reply::new(code, "5.0.0 Rejected at an earlier attempt"))),
    }
}

/// Returns the parcels for recipients without an answer yet.
fn without(mut parcels: Vec<Parcel>, served: &[Option<Answer>]) -> Vec<Parcel> {
    for parcel in &mut parcels {
        parcel.recipients.retain(|index| served.get(*index).is_some_and(Option::is_none));
    }
    parcels.retain(|parcel| !parcel.recipients.is_empty());
    parcels
}

/// Delivers one copy for everybody over the open transaction. `None` if it was lost before the final dot.
async fn whole_transaction(
    mail: &Mail<'_>,
    copy: Result<Bytes, Reply>,
    transaction: &mut Transaction,
) -> Option<Vec<Answer>> {
    let recipients = mail.envelope.recipients.len();
    let all = |reply: Reply| Some(vec![Answer::Said(reply); recipients]);
    let copy = match copy {
        Ok(copy) => copy,
        Err(reply) => return all(reply),
    };
    match transaction.load(mail.head, &copy, b".\r\n").await {
        Ok(None) => {
            if transaction.is_converted {
                transaction.note_converted(&(0..recipients).collect::<Vec<usize>>(), true);
            }
            Some(Answer::each_of(transaction.outcomes().await, recipients))
        }
        Ok(Some(reply)) if transaction.goes_on(&reply).await => None,
        Ok(Some(reply)) => all(reply),
        Err(error) => {
            tracing::warn!(id = mail.id, %error, "a message is handed over once more");
            None
        }
    }
}

/// Holds the final dots: everything else is sent, then the intent is written and synced, then all dots are
/// sent together. Returns with the answers whether one dot decided for all.
async fn together(
    book: &Book<'_>,
    parcels: &[Parcel],
    copies: &mut dyn Copies,
    transaction: &mut Transaction,
) -> Result<(Released, bool), Reply> {
    let held = transaction.hold(book.mail.envelope, book.mail.head, parcels, copies).await?;
    let is_one = held.is_one();
    if !is_one {
        let intent: Vec<(Key, Option<Fate>)> = held
            .recipients()
            .filter_map(|index| Some((*book.keys().get(index)?, Some(Fate::Unknown))))
            .collect();
        if !intent.is_empty() && book.ledger.note(intent).await.is_err() {
            return Err(Reply::new(451, "4.3.1 The delivery ledger cannot be written, try again later"));
        }
    }
    let recipients = if is_one { held.recipients().collect() } else { Vec::new() };
    let dotted = Dotted { book, recipients };
    let released = release(held, |recipients, answer| {
        if !is_one {
            book.jot(recipients, answer);
        }
    });
    let released = released.await;
    dotted.done();
    let is_one = is_one && is_same(&released.answers);
    Ok((released, is_one))
}

/// Returns whether everybody has the same answer: over LMTP, one final dot can have several.
fn is_same<T: PartialEq>(answers: &[T]) -> bool {
    answers.windows(2).all(|pair| pair.first() == pair.last())
}

/// Combines different results into one reply: they are recorded first, so that a retry completes what is
/// missing.
async fn conclude(book: &Book<'_>, answers: &[Answer], transaction: &mut Transaction) -> Reply {
    let Book { mail, ledger, .. } = book;
    let keys = book.keys();
    let some = |class: Class| answers.iter().any(|answer| answer.reply().class() == class);
    if !some(Class::Positive) && !some(Class::Transient) {
        // The client gets all answers, and informs the sender itself.
        ledger.close(keys);
        return common(answers);
    }
    let results = keys.iter().zip(answers).filter(|(_, answer)| matches!(answer, Answer::Said(_)));
    let results = results.map(|(key, answer)| (*key, lasting(answer))).collect();
    if ledger.note(results).await.is_err() {
        return Reply::new(451, "4.3.1 The delivery ledger cannot be written, try again later");
    }
    if some(Class::Transient) {
        let same =
            answers.first().filter(|first| answers.iter().all(|answer| answer.reply() == first.reply()));
        return same.map_or_else(
            || {
                Reply::new(
                    451,
                    "4.4.0 Some recipients could not be served, try again later; this relay serves nobody twice",
                )
            },
            |first| first.reply().clone(),
        );
    }
    if some(Class::Permanent) && !notify(mail, answers, transaction).await {
        return Reply::new(
            451,
            "4.4.0 The sender could not be told of a rejected recipient, try again later",
        );
    }
    common(answers)
}

/// Combines answers: positive if at least one recipient was accepted, else the first, a temporary one before
/// a permanent one.
fn common(answers: &[Answer]) -> Reply {
    let of = |class: Class| answers.iter().map(Answer::reply).find(|reply| reply.class() == class);
    let best = of(Class::Positive).or_else(|| of(Class::Transient)).or_else(|| of(Class::Permanent));
    best.cloned().unwrap_or_else(|| Reply::new(451, "4.3.0 Try again later"))
}

fn deferred(mail: &Mail<'_>, reply: Reply) -> Delivered {
    let replies = vec![reply.clone(); mail.envelope.recipients.len()];
    Delivered { replies, whole: reply, open: Vec::new() }
}
