//! Follows the common order, and applies it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Inner, PAUSE, locked};
use crate::consent::ordered::{Outcome, Step};
use crate::consent::{Store, StoreError};
use crate::engine::{Delivered, EngineError, Feed, Position};
use crate::follower::{Moment, Stop, Turn};
use crate::message::{Body, Lease, Mark, Message, MessageId, NodeId, Once};

/// How many messages are applied at once.
const MAX_BATCH: usize = 512;
/// How many missing messages are asked for one by one.
const MAX_MISSING: Position = 100_000;

/// How long what was acknowledged may take to come, at least.
const SILENCE: Duration = Duration::from_secs(2);

/// Why following ends, until it begins anew.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the common order cannot be followed: {0}")]
    Engine(#[from] EngineError),
    #[error("the common order cannot be applied: {0}")]
    Store(#[from] StoreError),
    /// Messages that the engine acknowledged do not come.
    #[error("whoever serves it does not hand out what the servers acknowledged; asking for another")]
    Silent,
    /// What is wrong was said already.
    #[error("nothing is applied until the missing message is there")]
    Stopped,
}

impl Inner {
    /// Follows the order for as long as the relay runs.
    pub(super) async fn follow(self: Arc<Inner>) {
        let mut said_at = None;
        loop {
            let from = locked(&self.follower).next();
            let ended = match self.engine.follow(from).await {
                Ok(feed) => self.read(feed).await,
                Err(error) => Ended::Engine(error),
            };
            let next = self.interrupted(&ended);
            // Once, until something was heard again.
            if said_at != Some(next) {
                tracing::warn!(%ended, "the other relays are not heard");
                said_at = Some(next);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Notes that nothing comes for a while; returns the position that was expected next.
    fn interrupted(&self, ended: &Ended) -> Position {
        let mut follower = locked(&self.follower);
        let next = follower.next();
        follower.untie();
        if let (Ended::Store(_), Ok(store)) = (ended, self.store()) {
            follower.restart(store.position() + 1);
        }
        self.settle_freshness(&follower);
        next
    }

    async fn read(self: &Arc<Inner>, mut feed: Box<dyn Feed>) -> Ended {
        // A message of its own, once it came back, says how its clock and the engine's compare.
        self.spawn(|inner| async move {
            if let Err(error) = inner.mark().await {
                tracing::debug!(%error, "a mark could not be published");
            }
        });
        let patience = self.settings.patience.max(SILENCE);
        loop {
            let first = match tokio::time::timeout(patience, feed.next()).await {
                Ok(Ok(first)) => first,
                Ok(Err(error)) => return error.into(),
                // A server whose files were damaged serves what it has, and says that there is no more.
                Err(_) if self.is_kept_waiting(patience) => return Ended::Silent,
                Err(_) => continue,
            };
            let mut batch = vec![first];
            while batch.len() < MAX_BATCH
                && let Some(more) = feed.ready()
            {
                batch.push(more);
            }
            if let Err(ended) = self.take(batch).await {
                return ended;
            }
        }
    }

    /// Applies messages as the feed hands them out. What is missing is asked for first.
    async fn take(self: &Arc<Inner>, batch: Vec<Delivered>) -> Result<(), Ended> {
        let mut ready = Vec::with_capacity(batch.len());
        let mut next = locked(&self.follower).next();
        for delivered in batch {
            if delivered.position < next {
                continue;
            }
            ready.extend(self.missing(next, delivered.position).await?);
            next = delivered.position + 1;
            ready.push(delivered);
        }
        self.apply(ready).await
    }

    /// Asks for the messages from one position on and before another, which the feed passed over.
    async fn missing(&self, from: Position, before: Position) -> Result<Vec<Delivered>, Ended> {
        let mut found = Vec::new();
        for position in from..before.min(from + MAX_MISSING) {
            match self.engine.message(position).await? {
                Some(delivered) if delivered.position == position => found.push(delivered),
                _ => {
                    self.stop(Stop::Gap(position));
                    return Err(Ended::Stopped);
                }
            }
        }
        if from < before {
            tracing::warn!(
                from,
                before,
                "a server passed over messages of the common order; another had them"
            );
        }
        Ok(found)
    }

    /// Applies messages, each the next one.
    async fn apply(self: &Arc<Inner>, batch: Vec<Delivered>) -> Result<(), Ended> {
        let (mut steps, mut ids) = (Vec::new(), Vec::new());
        let (mut marks, mut claims, mut onces) = (Vec::new(), Vec::new(), Vec::new());
        let (mut leases, mut gone) = (Vec::new(), Vec::new());
        let mut readable = batch.len();
        for (place, delivered) in batch.iter().enumerate() {
            match Message::open(&delivered.bytes, &self.weeks) {
                Ok(Message { node, id, body }) => {
                    ids.push((place, id, matches!(body, Body::Step(_)).then_some(steps.len())));
                    match body {
                        Body::Step(step) => steps.push((delivered.position, step)),
                        Body::Mark(mark) => marks.push((node, mark)),
                        Body::Claim(claim) => claims.push((node, claim)),
                        // They travel elsewhere.
                        Body::Opens(..) => {}
                        Body::Once(once) => onces.push((node, id, delivered.committed_at, once)),
                        Body::Gone(node) => gone.push((id, node)),
                        Body::Lease(lease) => leases.push((node, id, delivered.position, lease)),
                    }
                }
                Err(bad) => {
                    self.stop(Stop::Unreadable { position: delivered.position, why: bad.to_string() });
                    readable = place;
                    break;
                }
            }
        }
        // Before the journal says that this was applied: after a crash between the two it comes again.
        let held = self.held(leases)?;
        let store = self.store()?;
        let outcomes = applied(&store, steps).await?;
        let ours =
            ids.iter().filter_map(|(place, id, _)| Some((self.wanted.published(id)?, batch.get(*place)?)));
        self.advance(batch.iter().take(readable), ours, readable == batch.len())?;
        for (node, mark) in &marks {
            self.compare(&store, *node, mark);
            self.met(*node, &mark.address);
            self.hear_rules(*node, mark.settings, mark.head.count);
        }
        for (node, claim) in claims {
            self.met(node, &claim.address);
            self.claimed(node, &claim)?;
        }
        for (node, id, committed_at, once) in onces {
            let first = self.first(node, committed_at, &once)?;
            self.wanted.answer(&id, Some(Outcome::First(first)));
        }
        for (id, node) in gone {
            self.forget(node)?;
            self.wanted.answer(&id, Some(Outcome::Held(true)));
        }
        for (id, holds) in held {
            self.wanted.answer(&id, Some(Outcome::Held(holds)));
        }
        for (_, id, step) in ids {
            self.wanted.answer(&id, step.and_then(|step| outcomes.get(step)).copied());
        }
        if readable < batch.len() { Err(Ended::Stopped) } else { Ok(()) }
    }

    /// Notes that messages have been applied; some of them are this relay's, published at these moments.
    fn advance<'a>(
        &self,
        applied: impl Iterator<Item = &'a Delivered>,
        published: impl Iterator<Item = (Moment, &'a Delivered)>,
        are_all_readable: bool,
    ) -> Result<(), Ended> {
        let now = self.now();
        let mut follower = locked(&self.follower);
        published.for_each(|(published, delivered)| follower.tied(published, delivered.committed_at));
        for delivered in applied {
            if follower.judge(delivered) != Turn::Next {
                return Err(Ended::Stopped);
            }
            follower.applied(delivered, now);
        }
        if are_all_readable {
            follower.resume();
        }
        self.settle_freshness(&follower);
        Ok(())
    }

    /// Returns whether no other relay has claimed a name before this one.
    fn first(&self, node: NodeId, committed_at: i64, once: &Once) -> Result<bool, StoreError> {
        let within = i64::try_from(once.within.as_millis()).unwrap_or(i64::MAX);
        let taken = locked(&self.claims).take(once.name, node, committed_at, within);
        taken.map_err(|source| StoreError::Io { what: "what one relay does for all".to_owned(), source })
    }

    /// Takes claims to leases; returns whether each holds.
    fn held(
        &self,
        claims: Vec<(NodeId, MessageId, Position, Lease)>,
    ) -> Result<Vec<(MessageId, bool)>, StoreError> {
        let (mut leases, now) = (locked(&self.leases), self.now());
        let held = claims.into_iter().map(|(node, id, position, lease)| {
            leases.take(node, position, &lease, now).map(|holds| (id, holds))
        });
        let held: std::io::Result<Vec<_>> = held.collect();
        held.map_err(|source| StoreError::Io { what: "what one relay does at a time".to_owned(), source })
    }

    /// Compares another relay's journal with this one's, as far as both go.
    fn compare(&self, store: &Store, node: NodeId, mark: &Mark) {
        let number = mark.head.count;
        let is_ahead = number > store.head().count;
        let differs = store.hash_at(number).is_some_and(|hash| hash != mark.head.hash);
        // Whoever sent it had applied nothing that is not applied here by now.
        if differs || is_ahead {
            self.stop(Stop::Differs { node, number });
        }
    }
}

/// Applies steps, and waits until they are durable.
async fn applied(store: &Store, steps: Vec<(Position, Step)>) -> Result<Vec<Outcome>, StoreError> {
    if steps.is_empty() {
        return Ok(Vec::new());
    }
    let (done, outcomes) = oneshot::channel();
    store.apply(steps, move |applied| drop(done.send(applied)))?;
    outcomes.await.map_err(|_| StoreError::Closed)?
}
