//! One relay of a cluster: it brings what it hears into the common order, applies what all relays have heard, and
//! knows whether it is fresh.

mod begin;
mod carry;
mod keys;
mod opens;
mod others;
mod read;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, watch};

use crate::consent::ordered::{Heard, Leased, Name, Open, Order, Said};
use crate::consent::{Store, StoreError};
use crate::engine::{Engine, EngineError, Kind, Position, Verdict};
use crate::follower::{Follower, Moment, Stop};
use crate::lease::{Held, Leases};
use crate::message::{Body, Mark, Message, MessageId, NodeId, fresh_id};
use crate::once::Claims;
use crate::outbox::Outbox;
use crate::peer::Identity;
use crate::settings::Settings;
use crate::wanted::Wanted;
use crate::week::{Weeks, week_of};
use keys::Others;
use others::Marks;
pub use others::{Other, Rules};

/// How often the servers are asked whether what they acknowledge is durable.
const DURABILITY: Duration = Duration::from_secs(10);
/// How soon they are asked again while it is not: no grant waits longer than it must.
const DURABILITY_AGAIN: Duration = Duration::from_secs(2);
/// How often each relay says where it stands, in milliseconds: more seldom where there are many.
const OWN_MARK: Moment = 4 * 60 * 1000;
/// How long a pause is after the engine did not answer.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a mark that was taken has to come back before the next one, at most.
const MARK_AGAIN: Duration = Duration::from_secs(2);
/// How many messages of this relay may be on their way at once, of grants and of all others.
const MAX_UNDERWAY: usize = 4000;
/// How many other relays are asked at once.
const MAX_ASKED: usize = 32;
/// The file of the keys of the weeks.
const WEEKS: &str = "weeks.keys";
/// The file of what the others were not told yet.
pub(crate) const OUTBOX: &str = "outbox.log";
/// The file of how far opens of other relays were taken in.
pub const OPENS_PLACE: &str = "opens.position";
/// The file of what one relay does for all.
const CLAIMS: &str = "claims.log";
/// The file of what one relay does at a time.
pub const LEASES: &str = "leases.json";
/// The file of where other relays are, and of who makes which key.
const OTHERS: &str = "others.json";

/// Why a relay cannot take part.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A file cannot be used.
    #[error("{what}: {source}")]
    Io {
        /// The file.
        what: String,
        /// The error.
        source: std::io::Error,
    },
    /// The store already follows an order.
    #[error("the store follows another common order already")]
    Joined,
    /// The servers cannot be reached, or refuse.
    #[error("the servers of the cluster: {0}")]
    Engine(#[from] EngineError),
    /// The servers carry another order.
    #[error("the servers carry a common order already: {0}. Join it by an invitation, or use other servers")]
    Begun(String),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A relay of a cluster. Dropping it ends its tasks; the store then counts nothing as granted.
pub struct Node {
    inner: Arc<Inner>,
    ended: watch::Sender<bool>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Node({})", hex::encode(self.inner.settings.node))
    }
}

/// How a relay stands, to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether grants count.
    pub is_fresh: bool,
    /// Whether the engine's servers promise durability.
    pub durability: Verdict,
    /// Why nothing counts as granted until somebody has looked.
    pub stop: Option<Stop>,
    /// The position of the last message that was applied.
    pub position: u64,
    /// How many things the other relays were not told yet.
    pub untold: usize,
    /// The other relays that were heard of.
    pub others: Vec<Other>,
    /// What one relay does at a time.
    pub leases: Vec<Held>,
}

/// When a relay publishes a mark.
#[derive(Clone, Copy, Debug)]
pub struct MarkPause {
    after_news: Moment,
    after_own: Moment,
}

/// Returns when a relay publishes a mark, by a random number: whenever nothing was heard for a quarter of the time
/// that grants count without news. One relay's mark is enough for all, so the pauses differ, and the more relays
/// there are, the fewer of them have a short one.
pub fn mark_pause(max_staleness: Duration, others: usize, random: u64) -> MarkPause {
    let quarter = Moment::try_from(max_staleness.as_millis() / 4).unwrap_or(Moment::MAX).max(4);
    let share = (random % 1_000_000 + 1) as f64 / 1_000_000.0;
    let spread = match others {
        0..8 => share,
        // Of many numbers the least ones lie far apart only if there are few of them.
        _ => (1.0 + share.ln() / (others as f64).ln()).max(0.0),
    };
    let jitter = spread * quarter as f64;
    MarkPause { after_news: quarter + jitter as Moment, after_own: own_mark(max_staleness, others) }
}

/// Returns how long after a mark of its own each relay publishes the next at the latest.
fn own_mark(max_staleness: Duration, others: usize) -> Moment {
    let quarter = Moment::try_from(max_staleness.as_millis() / 4).unwrap_or(Moment::MAX).max(4);
    OWN_MARK.max(quarter.saturating_mul(others as Moment))
}

impl MarkPause {
    /// Returns the moment for the next mark, by when something was heard, and when this relay published one.
    #[must_use]
    pub fn next(self, heard: Moment, own: Moment) -> Moment {
        (heard + self.after_news).min(own + self.after_own)
    }
}

struct Inner {
    store: Weak<Store>,
    engine: Arc<dyn Engine>,
    settings: Settings,
    weeks: Arc<Weeks>,
    runtime: Handle,
    started: Instant,
    /// Until when it is fresh, in milliseconds since it started; 0 if it is not.
    fresh_until: AtomicU64,
    follower: Mutex<Follower>,
    durability: RwLock<Verdict>,
    wanted: Wanted,
    outbox: Mutex<Outbox>,
    /// One permit for each grant that may be on its way.
    underway: Semaphore,
    /// The same for everything else, so that a withdrawal does not wait behind an import.
    urgent: Semaphore,
    /// Who makes which key, and where other relays are.
    others: Mutex<Others>,
    /// What one relay does for all.
    claims: Mutex<Claims>,
    /// What one relay does at a time.
    leases: Mutex<Leases>,
    /// What the relays said of themselves.
    marks: Mutex<Marks>,
    /// Opens that the others are to be told, and how far theirs were taken in.
    opens: Mutex<opens::Waiting>,
    opens_place: Mutex<opens::Place>,
    /// When this relay published a mark last.
    marked: AtomicU64,
    /// A position that the engine acknowledged, and when, until it has been applied here.
    acknowledged: Mutex<(Position, Moment)>,
    /// What proves to other relays that this is one; `None` in tests without any.
    identity: Option<Arc<Identity>>,
    /// Wakes whoever looks after the keys.
    claimed: Notify,
    ended: watch::Receiver<bool>,
}

impl Node {
    /// Opens the keys of the weeks of a relay.
    ///
    /// # Errors
    ///
    /// When the file cannot be used.
    pub fn weeks(settings: &Settings, store: &Store) -> Result<Arc<Weeks>, NodeError> {
        let path = settings.directory.join(WEEKS);
        let named = |source| NodeError::Io { what: path.display().to_string(), source };
        std::fs::create_dir_all(&settings.directory).map_err(named)?;
        Weeks::open(&path, &store.derived_key("cluster")).map(Arc::new).map_err(named)
    }

    /// Makes a store part of the common order that an engine carries, and starts to follow it. Until the first
    /// message of its own comes back, nothing counts as granted.
    ///
    /// # Errors
    ///
    /// When its files cannot be used, or the store follows another order.
    pub fn start(
        store: &Arc<Store>,
        engine: Arc<dyn Engine>,
        weeks: Arc<Weeks>,
        settings: Settings,
        identity: Option<Arc<Identity>>,
        runtime: &Handle,
    ) -> Result<Node, NodeError> {
        let path = settings.directory.join(OUTBOX);
        let opened = Outbox::open(&path, &store.waiting());
        let (outbox, waiting) =
            opened.map_err(|source| NodeError::Io { what: path.display().to_string(), source })?;
        let path = settings.directory.join(OTHERS);
        let others = Others::open(&path)
            .map_err(|source| NodeError::Io { what: path.display().to_string(), source })?;
        let path = settings.directory.join(CLAIMS);
        let claims = Claims::open(&path, (settings.clock)().0)
            .map_err(|source| NodeError::Io { what: path.display().to_string(), source })?;
        let path = settings.directory.join(LEASES);
        let leases = Leases::open(&path)
            .map_err(|source| NodeError::Io { what: path.display().to_string(), source })?;
        let path = settings.directory.join(OPENS_PLACE);
        let opens_place = opens::Place::open(&path)
            .map_err(|source| NodeError::Io { what: path.display().to_string(), source })?;
        let (ended, is_ended) = watch::channel(false);
        let verdict = Verdict::NotDurable { why: "the servers have not been asked yet".to_owned() };
        let inner = Arc::new(Inner {
            store: Arc::downgrade(store),
            engine,
            follower: Mutex::new(Follower::new(store.position() + 1, settings.max_staleness)),
            settings,
            weeks,
            runtime: runtime.clone(),
            started: Instant::now(),
            fresh_until: AtomicU64::new(0),
            durability: RwLock::new(verdict),
            wanted: Wanted::default(),
            outbox: Mutex::new(outbox),
            underway: Semaphore::new(MAX_UNDERWAY),
            urgent: Semaphore::new(MAX_UNDERWAY),
            others: Mutex::new(others),
            claims: Mutex::new(claims),
            leases: Mutex::new(leases),
            marks: Mutex::default(),
            opens: Mutex::default(),
            opens_place: Mutex::new(opens_place),
            marked: AtomicU64::new(0),
            acknowledged: Mutex::default(),
            identity,
            claimed: Notify::new(),
            ended: is_ended,
        });
        // What waits holds here before anybody asks.
        for (id, heard) in &waiting {
            store.hear(*id, heard.clone());
        }
        if !store.join(Arc::new(Way(Arc::clone(&inner)))) {
            return Err(NodeError::Joined);
        }
        inner.spawn(|inner| async move { inner.follow().await });
        inner.spawn(|inner| async move { inner.watch_durability().await });
        inner.spawn(|inner| async move { inner.keep_fresh().await });
        inner.spawn(|inner| async move { inner.keep_keys().await });
        inner.spawn(|inner| async move { inner.tell_opens().await });
        inner.spawn(|inner| async move { inner.follow_opens().await });
        for (id, heard) in waiting {
            inner.spawn(move |inner| async move { inner.tell(id, heard, None).await });
        }
        Ok(Node { inner, ended })
    }

    /// Notes the rules that this relay goes by, for the others to compare.
    pub fn declare(&self, rules: Rules) {
        locked(&self.inner.marks).declare(rules);
    }

    /// Asks all other relays that were heard of a question.
    pub async fn ask_others(&self, question: &[u8]) -> Vec<(Other, Result<Vec<u8>, String>)> {
        let asked = self.inner.other_relays().into_iter().map(|other| async move {
            let answer = self.ask(&other, question).await;
            (other, answer)
        });
        futures_util::stream::iter(asked).buffered(MAX_ASKED).collect().await
    }

    /// Asks another relay a question.
    ///
    /// # Errors
    ///
    /// Why there is no answer.
    pub async fn ask(&self, other: &Other, question: &[u8]) -> Result<Vec<u8>, String> {
        self.inner.asked(other, question).await
    }

    /// Has all relays forget one that is gone for good; returns whether they certainly do.
    pub async fn forget(&self, node: NodeId) -> bool {
        self.inner.tell_gone(node).await
    }

    /// Tells the others now of the opens that wait.
    pub async fn tell_opens(&self) {
        self.inner.tell_waiting_opens().await;
    }

    /// Returns how the relay stands.
    pub fn status(&self) -> Status {
        let follower = locked(&self.inner.follower);
        Status {
            is_fresh: self.inner.is_fresh(),
            durability: self.inner.verdict(),
            stop: follower.stopped().cloned(),
            position: follower.next() - 1,
            untold: locked(&self.inner.outbox).waiting(),
            others: self.inner.other_relays(),
            leases: locked(&self.inner.leases).all(),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.ended.send(true);
        self.inner.fresh_until.store(0, Ordering::Release);
    }
}

/// The store's way to the others.
struct Way(Arc<Inner>);

impl Order for Way {
    fn is_fresh(&self) -> bool {
        self.0.is_fresh()
    }

    fn submit(&self, said: Said) {
        self.0.spawn(|inner| async move { inner.carry(said).await });
    }

    fn leased(&self, name: &Name) -> Leased {
        locked(&self.0.leases).of(name, self.0.settings.node, self.0.now())
    }

    fn opened(&self, open: Open) {
        locked(&self.0.opens).add(open);
    }
}

impl Inner {
    fn is_fresh(&self) -> bool {
        self.now() < self.fresh_until.load(Ordering::Acquire)
    }

    /// Runs a task until the relay leaves.
    fn spawn<F>(self: &Arc<Inner>, task: impl FnOnce(Arc<Inner>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut ended = self.ended.clone();
        let task = task(Arc::clone(self));
        self.runtime.spawn(async move {
            tokio::select! {
                () = task => {}
                _ = ended.wait_for(|ended| *ended) => {}
            }
        });
    }

    /// Returns the moment by the relay's monotonic clock.
    fn now(&self) -> Moment {
        Moment::try_from(self.started.elapsed().as_millis()).unwrap_or(Moment::MAX)
    }

    fn store(&self) -> Result<Arc<Store>, StoreError> {
        self.store.upgrade().ok_or(StoreError::Closed)
    }

    fn verdict(&self) -> Verdict {
        self.durability.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Brings what look-ups read up to date with the follower.
    fn settle_freshness(&self, follower: &Follower) {
        self.fresh_until.store(follower.fresh_until().unwrap_or(0), Ordering::Release);
        metrics::gauge!("pixelward_cluster_fresh").set(f64::from(u8::from(self.is_fresh())));
    }

    /// Counts nothing as granted from now on, loudly.
    fn stop(&self, why: Stop) {
        let mut follower = locked(&self.follower);
        let text = why.to_string();
        if follower.stop(why) {
            tracing::error!(why = text, "nothing counts as granted at this relay any more");
            metrics::counter!("pixelward_cluster_stops_total").increment(1);
        }
        self.settle_freshness(&follower);
    }

    async fn watch_durability(&self) {
        loop {
            let verdict = self.engine.durability().await;
            let before = std::mem::replace(
                &mut *self.durability.write().unwrap_or_else(PoisonError::into_inner),
                verdict.clone(),
            );
            if before != verdict {
                match &verdict {
                    Verdict::Durable => tracing::info!("what the cluster acknowledges is durable"),
                    Verdict::NotDurable { why } => {
                        tracing::error!(
                            why,
                            "no grants are taken: what the cluster acknowledges is not durable"
                        );
                    }
                }
            }
            metrics::gauge!("pixelward_cluster_durable").set(f64::from(u8::from(verdict.is_durable())));
            tokio::time::sleep(if verdict.is_durable() { DURABILITY } else { DURABILITY_AGAIN }).await;
        }
    }

    /// Publishes a mark whenever nothing was heard for a while.
    async fn keep_fresh(&self) {
        loop {
            let [one, two, three, four, ..] = fresh_id().unwrap_or_default();
            let random = u64::from(u32::from_le_bytes([one, two, three, four]));
            let others = locked(&self.others).all().len();
            let pause = mark_pause(self.settings.max_staleness, others, random);
            let again = (self.settings.max_staleness / 16).clamp(PAUSE, MARK_AGAIN);
            let (marked, now) = (self.marked.load(Ordering::Relaxed), self.now());
            let (heard, is_tied) = {
                let follower = locked(&self.follower);
                (follower.heard().unwrap_or(0), follower.is_tied())
            };
            let due = if is_tied {
                pause.next(heard, marked)
            } else {
                // Only a mark of its own helps, whatever others say meanwhile.
                marked + Moment::try_from(again.as_millis()).unwrap_or(Moment::MAX)
            };
            if now < due {
                tokio::time::sleep(Duration::from_millis(due - now)).await;
                continue;
            }
            let published = self.mark().await;
            if let Err(error) = &published {
                tracing::debug!(%error, "a mark could not be published");
            }
            // It comes back at once, or not before the engine can be reached again. One that was taken and does not
            // come back is in the order for good, and many of them help no more than one.
            let is_back = locked(&self.follower).heard().is_some_and(|heard| heard >= now);
            if !is_back {
                tokio::time::sleep(if published.is_ok() { again } else { PAUSE }).await;
            }
        }
    }

    /// Publishes where this relay stands.
    async fn mark(&self) -> Result<(), EngineError> {
        self.marked.store(self.now(), Ordering::Relaxed);
        let head = self.store().map_err(|error| EngineError::Refused(error.to_string()))?.head();
        let mark = Mark {
            head,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            settings: locked(&self.marks).ours(),
            address: self.settings.address.clone(),
            at: (self.settings.clock)(),
        };
        let id = fresh_id().map_err(|error| EngineError::Refused(error.to_string()))?;
        self.wanted.note_only(id, self.now());
        self.publish(id, Body::Mark(mark)).await.map(drop)
    }

    /// Publishes a message once; returns its position.
    async fn publish(&self, id: MessageId, body: Body) -> Result<Position, EngineError> {
        let message = Message { node: self.settings.node, id, body };
        let sealed = message.seal(week_of((self.settings.clock)()), &self.weeks);
        let bytes = sealed.map_err(|error| EngineError::Refused(error.to_string()))?;
        let position = self.engine.publish(message.kind(), id, bytes).await?;
        if message.kind() != Kind::Opens {
            self.note_acknowledged(position);
        }
        Ok(position)
    }

    /// Notes that the engine has a message at this position, unless an earlier one has not come back yet.
    fn note_acknowledged(&self, position: Position) {
        let next = locked(&self.follower).next();
        let mut acknowledged = locked(&self.acknowledged);
        if acknowledged.0 < next {
            *acknowledged = (position, self.now());
        }
    }

    /// Returns whether the engine has had a message for so long that whoever serves the feed does not have it.
    fn is_kept_waiting(&self, patience: Duration) -> bool {
        let next = locked(&self.follower).next();
        let (position, since) = *locked(&self.acknowledged);
        position >= next && Duration::from_millis(self.now().saturating_sub(since)) >= patience
    }

    /// Puts down what was heard, durably, and in force here.
    async fn hear(self: &Arc<Inner>, heard: Vec<(MessageId, Heard)>) -> Result<(), StoreError> {
        let inner = Arc::clone(self);
        let written = tokio::task::spawn_blocking(move || {
            let store = inner.store()?;
            let failed =
                |source| StoreError::Io { what: "what the other relays must be told".to_owned(), source };
            let mut outbox = locked(&inner.outbox);
            outbox.put(&heard, &store.waiting()).map_err(failed)?;
            gauge(&outbox);
            for (id, heard) in heard {
                store.hear(id, heard);
            }
            Ok(())
        });
        written.await.map_err(|_| StoreError::Closed)?
    }

    /// Drops what the common order has.
    fn unhear(&self, id: &MessageId, heard: &Heard) {
        let mut outbox = locked(&self.outbox);
        if let Err(error) = outbox.drop_id(id) {
            tracing::error!(%error, "what was told cannot be dropped from the outbox; it is told again later");
        }
        gauge(&outbox);
        drop(outbox);
        if let Ok(store) = self.store() {
            store.unhear(id, heard.person());
        }
    }
}

fn gauge(outbox: &Outbox) {
    metrics::gauge!("pixelward_cluster_untold").set(outbox.waiting() as f64);
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
