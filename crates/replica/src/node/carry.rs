//! Brings what was requested of the store into the common order.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Inner, PAUSE, locked};
use crate::consent::ordered::{Heard, Name, Ordered, Outcome, Said, Step};
use crate::consent::record::Timing;
use crate::consent::{Applied, Change, Person, Store, StoreError, Timestamp};
use crate::message::{Body, Lease, MessageId, NodeId, Once, fresh_id};

/// How long after it was said a change still counts as said now. Later it counts as said then, so that what the
/// person said elsewhere meanwhile is not undone. In milliseconds.
const PROMPT: i64 = 5_000;

/// A change of a request.
struct Asked {
    /// Its place in the request.
    place: usize,
    change: Change,
    /// What holds already, under the id that the common order will have it with.
    held: Option<(MessageId, Heard)>,
}

/// Why a change did not come back.
enum Lost {
    /// In time; it may come still.
    Late,
    /// The store or the relay is being closed.
    Closed,
}

impl Inner {
    /// Carries out a request.
    pub(super) async fn carry(self: Arc<Inner>, said: Said) {
        match said {
            Said::Changes(changes, ack) => ack(self.changes(changes).await),
            Said::ChangeIf(change, condition, ack) => {
                let (person, change) = *change;
                let judged = self.store().and_then(|store| store.judged(&change.controller, person));
                match judged {
                    Ok(judged) if condition(&judged.standing) => {
                        ack(self.change_if(person, change, judged.newest).await)
                    }
                    Ok(_) => ack(Ok(Applied::Conflicting)),
                    Err(error) => ack(Err(error)),
                }
            }
            Said::Erase(person, ack) => ack(self.erase(person).await),
            Said::Once(name, within, ack) => ack(Ok(self.is_first(name, within).await)),
            Said::Lease(name, term, number, ack) => {
                ack(Ok(self.holds(Lease { name, term, number }).await));
            }
            Said::Expire(people, ack) => {
                let step = Step::Expire { people, at: Timestamp::now() };
                ack(match self.round(step, self.until(self.settings.patience)).await {
                    Ok(Outcome::Expired(count)) => Ok(count),
                    Ok(_) | Err(Lost::Late) => Err(StoreError::NotFresh),
                    Err(Lost::Closed) => Err(StoreError::Closed),
                });
            }
        }
    }

    fn until(&self, patience: Duration) -> Option<Instant> {
        Instant::now().checked_add(patience)
    }

    /// Records changes: those about one person one after another, all others at once.
    async fn changes(self: &Arc<Inner>, changes: Vec<(Person, Change)>) -> Result<Vec<Applied>, StoreError> {
        let (store, now) = (self.store()?, Timestamp::now());
        let mut results: Vec<Option<Applied>> = Vec::with_capacity(changes.len());
        let mut heard = Vec::new();
        let mut people: HashMap<Person, Vec<Asked>> = HashMap::new();
        for (place, (person, change)) in changes.into_iter().enumerate() {
            let change = match store.prepared(change, now) {
                Ok(change) => change,
                Err(instead) => {
                    results.push(Some(instead));
                    continue;
                }
            };
            let mut held = None;
            if change.is_strict() {
                let told = Heard::Change(person, Box::new(as_of_now(&store, person, change.clone(), now)?));
                held = Some((fresh_id().map_err(no_randomness)?, told));
            }
            heard.extend(held.clone());
            results.push(None);
            people.entry(person).or_default().push(Asked { place, change, held });
        }
        if !heard.is_empty() {
            // From here on they hold, whatever becomes of the rest.
            self.hear(heard).await?;
        }
        let all = people.into_iter().map(|(person, asked)| self.changes_of(person, asked, now));
        for (place, applied) in join_all(all).await.into_iter().flatten() {
            if let Some(result) = results.get_mut(place) {
                *result = Some(applied);
            }
        }
        Ok(results.into_iter().map(|result| result.unwrap_or(Applied::Unconfirmed)).collect())
    }

    /// Records the changes about one person, in order.
    async fn changes_of(
        self: &Arc<Inner>,
        person: Person,
        changes: Vec<Asked>,
        now: Timestamp,
    ) -> Vec<(usize, Applied)> {
        let mut results = Vec::with_capacity(changes.len());
        for Asked { place, change, held } in changes {
            let applied = match held {
                Some((id, heard)) => self.told(id, heard).await,
                None => self.granted(person, &change, now, None).await,
            };
            results.push((place, applied));
        }
        results
    }

    /// Records a change that must find what it was made for.
    async fn change_if(
        self: &Arc<Inner>,
        person: Person,
        change: Change,
        expected: u64,
    ) -> Result<Applied, StoreError> {
        let (store, now) = (self.store()?, Timestamp::now());
        let change = match store.prepared(change, now) {
            Ok(change) => change,
            Err(instead) => return Ok(instead),
        };
        if change.is_strict() {
            // What makes things stricter is taken from whoever saw this state here, whatever others heard.
            return self
                .changes(vec![(person, change)])
                .await
                .map(|all| all.first().copied().unwrap_or(Applied::Unconfirmed));
        }
        Ok(self.granted(person, &change, now, Some(expected)).await)
    }

    /// Records what only all relays together can make durable.
    async fn granted(
        self: &Arc<Inner>,
        person: Person,
        change: &Change,
        now: Timestamp,
        expected: Option<u64>,
    ) -> Applied {
        // Waiting for a turn behind an import takes nothing from the patience of the others.
        let Ok(_permit) = self.underway.acquire().await else { return Applied::Unconfirmed };
        if !self.is_fresh() || !self.verdict().is_durable() {
            return Applied::NotNow;
        }
        match self.ordered(person, change, now, expected, None, self.until(self.settings.patience)).await {
            Ok(applied) => applied,
            Err(_) => Applied::Unconfirmed,
        }
    }

    /// Tells the others what holds here already, and waits a while for them.
    async fn told(self: &Arc<Inner>, id: MessageId, heard: Heard) -> Applied {
        let (done, applied) = oneshot::channel();
        self.spawn(move |inner| async move { inner.tell(id, heard, Some(done)).await });
        let applied = tokio::time::timeout(self.settings.patience, applied).await;
        match applied {
            Ok(Ok(Outcome::Change(applied))) => applied,
            _ => Applied::HoldsHere,
        }
    }

    /// Tells the others, however long that takes.
    pub(super) async fn tell(
        self: &Arc<Inner>,
        id: MessageId,
        heard: Heard,
        done: Option<oneshot::Sender<Outcome>>,
    ) {
        let outcome = match &heard {
            Heard::Change(person, change) => {
                let since = change.event_at;
                self.ordered(*person, change, since, None, Some(id), None).await.map(Outcome::Change)
            }
            Heard::Erase(person) => {
                let step = Step::Erase { person: *person, at: Timestamp::now() };
                self.rounds(Body::Step(step), id, None).await
            }
        };
        if let Ok(outcome) = outcome {
            self.unhear(&id, &heard);
            if let Some(done) = done {
                let _ = done.send(outcome);
            }
        }
    }

    /// Claims a name; returns whether this relay does what it stands for. Where the others cannot be reached, it
    /// does.
    async fn is_first(self: &Arc<Inner>, name: Name, within: Duration) -> bool {
        let (Ok(id), true) = (fresh_id(), self.is_fresh()) else { return true };
        let body = Body::Once(Once { name, within });
        !matches!(self.rounds(body, id, self.until(self.settings.patience)).await, Ok(Outcome::First(false)))
    }

    /// Tells all relays that one of them is gone for good; returns whether that is in the common order.
    pub(super) async fn tell_gone(self: &Arc<Inner>, node: NodeId) -> bool {
        let Ok(id) = fresh_id() else { return false };
        self.rounds(Body::Gone(node), id, self.until(self.settings.patience)).await.is_ok()
    }

    /// Claims a lease; returns whether this relay certainly holds it.
    async fn holds(self: &Arc<Inner>, lease: Lease) -> bool {
        let Ok(id) = fresh_id() else { return false };
        let outcome = self.rounds(Body::Lease(lease), id, self.until(self.settings.patience)).await;
        matches!(outcome, Ok(Outcome::Held(true)))
    }

    /// Erases a person everywhere.
    async fn erase(self: &Arc<Inner>, person: Person) -> Result<bool, StoreError> {
        let id = fresh_id().map_err(no_randomness)?;
        self.hear(vec![(id, Heard::Erase(person))]).await?;
        let (done, outcome) = oneshot::channel();
        self.spawn(move |inner| async move { inner.tell(id, Heard::Erase(person), Some(done)).await });
        match tokio::time::timeout(self.settings.patience, outcome).await {
            Ok(Ok(Outcome::Erased(was_known))) => Ok(was_known),
            Ok(Ok(_)) | Err(_) => Err(StoreError::Delayed),
            Ok(Err(_)) => Err(StoreError::Closed),
        }
    }

    /// Brings a change into the order, and returns what it came to there.
    async fn ordered(
        self: &Arc<Inner>,
        person: Person,
        change: &Change,
        now: Timestamp,
        expected: Option<u64>,
        held: Option<MessageId>,
        until: Option<Instant>,
    ) -> Result<Applied, Lost> {
        let mut id = held;
        loop {
            // What holds already is tried for ever; how it counts depends on when that works.
            let until_now = until.or_else(|| self.until(self.settings.patience));
            let store = self.store().map_err(|_| Lost::Closed)?;
            let timing = match change.timing {
                Timing::Now if Timestamp::now().0 - now.0 < PROMPT => Timing::Now,
                _ => Timing::Claimed,
            };
            // Somebody new gets a key with the first thing they say; of two keys the first in the order counts.
            let step = match store.sealed(person, change, now) {
                Some(record) => Step::Change(Box::new(Ordered { person, record, timing, expected })),
                None => Step::first(person, change, now, timing, expected).map_err(|_| Lost::Closed)?,
            };
            drop(store);
            let this = match id {
                Some(id) => id,
                None => fresh_id().map_err(|_| Lost::Closed)?,
            };
            match self.rounds(Body::Step(step), this, until_now).await {
                Ok(Outcome::Change(applied)) => return Ok(applied),
                // The person was erased meanwhile, or another relay gave them another id: under that one.
                Ok(Outcome::Gone) => id = None,
                // It was applied, and what it came to was not heard.
                Ok(Outcome::Before) => return Ok(Applied::Unconfirmed),
                Err(Lost::Late) if until.is_none() => id = Some(this),
                Ok(_) | Err(Lost::Late) => return Err(Lost::Late),
                Err(Lost::Closed) => return Err(Lost::Closed),
            }
        }
    }

    /// Publishes a step, and waits until it has been applied here.
    async fn round(self: &Arc<Inner>, step: Step, until: Option<Instant>) -> Result<Outcome, Lost> {
        let id = fresh_id().map_err(|_| Lost::Closed)?;
        self.rounds(Body::Step(step), id, until).await
    }

    /// Publishes something under an id until it has been applied here. It is carried once, however often that is.
    async fn rounds(
        self: &Arc<Inner>,
        body: Body,
        id: MessageId,
        until: Option<Instant>,
    ) -> Result<Outcome, Lost> {
        // A grant has its permit already, and of those there may be millions.
        let permit = if is_grant(&body) { None } else { Some(self.urgent.acquire().await) };
        let Ok(_permit) = permit.transpose() else { return Err(Lost::Closed) };
        let mut outcome = self.wanted.note(id, self.now());
        loop {
            let published = self.publish(id, body.clone()).await;
            // Before a crash this relay published and applied it, and it does not come again.
            let is_known = published.as_ref().is_ok_and(|at| *at < locked(&self.follower).next());
            let pause = if published.is_ok() && !is_known { self.settings.patience } else { PAUSE };
            let next = self.until(pause).map(|next| until.map_or(next, |until| next.min(until)));
            let Some(next) = next.or(until) else { return Err(Lost::Closed) };
            match tokio::time::timeout_at(next, &mut outcome).await {
                Ok(Ok(outcome)) => return Ok(outcome),
                Ok(Err(_)) => return Err(Lost::Closed),
                Err(_) if is_known => {
                    self.wanted.forget(&id);
                    return Ok(Outcome::Before);
                }
                Err(_) if until.is_some_and(|until| Instant::now() >= until) => {
                    self.wanted.forget(&id);
                    return Err(Lost::Late);
                }
                Err(_) => {}
            }
        }
    }
}

/// Returns whether a message is about something that makes nothing stricter.
fn is_grant(body: &Body) -> bool {
    match body {
        Body::Step(Step::Change(ordered) | Step::First { change: ordered, .. }) => {
            !ordered.record.change.is_strict()
        }
        _ => false,
    }
}

/// Gives what is said now the time after everything that is known here, in case it is told much later.
fn as_of_now(store: &Store, person: Person, change: Change, now: Timestamp) -> Result<Change, StoreError> {
    let known = store.judged(&change.controller, person)?.standing.newest_event();
    let event_at = match change.timing {
        Timing::Now => known.map_or(now, |newest| now.max(Timestamp(newest.0.saturating_add(1)))),
        Timing::Claimed => change.event_at,
    };
    Ok(Change { event_at, ..change })
}

fn no_randomness(source: std::io::Error) -> StoreError {
    StoreError::Io { what: "an id".to_owned(), source }
}
