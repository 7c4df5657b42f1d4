//! The connections to one next hop: those in use, up to its maximum, and idle ones.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{timeout, timeout_at};

use super::authentication::Authentication;
use super::connection::{Capabilities, Connection, Counted};
use super::dial::{self, Addresses};
use super::error::RelayError;
use super::health::Health;
use super::next_hop::NextHop;
use super::rate::Rate;

/// How long the number of connections that a next hop allows is taken to be known.
const REMEMBERED: Duration = Duration::from_secs(600);

/// The connections to one next hop, for one login and one TLS identity.
#[derive(Debug)]
pub struct Pool {
    /// The next hop.
    pub hop: NextHop,
    /// Its health.
    pub health: Health,
    /// Idle connections, the most recently used last.
    idle: Mutex<VecDeque<Connection>>,
    addresses: Addresses,
    /// How many connections there are, in use and idle.
    open: Arc<AtomicUsize>,
    /// How many there were when the next hop turned one more away, and when that was.
    allowed: Mutex<Option<(usize, Instant)>>,
    /// Notified when a connection becomes idle, or ends.
    returned: Notify,
    /// Whether somebody closes idle connections when their time is over.
    is_swept: AtomicBool,
    seen: Mutex<Option<Capabilities>>,
    /// What the next hop showed last that it is, and when its certificate ends, in seconds since 1970.
    shown: Mutex<Option<(Authentication, Option<i64>)>>,
    /// When it last announced it.
    learnt: Mutex<Option<Instant>>,
    places: Arc<Semaphore>,
    /// How many transactions wait for slots.
    waiting: AtomicUsize,
    /// Notified when one more waits.
    wanted: Notify,
    rate: Option<Rate>,
}

/// A transaction that waits for slots, until dropped.
struct Waiting<'a>(&'a Pool);

impl<'a> Waiting<'a> {
    fn at(pool: &'a Pool) -> Waiting<'a> {
        pool.waiting.fetch_add(1, Ordering::SeqCst);
        pool.wanted.notify_waiters();
        Waiting(pool)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A connection slot of a pool.
#[derive(Debug)]
pub struct Place {
    /// The pool.
    pub pool: Arc<Pool>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.pool.returned.notify_one();
    }
}

/// A connection in use. Dropped, it is closed.
#[derive(Debug)]
pub struct Lease {
    connection: Connection,
    place: Place,
    /// Whether it was idle, so that the next hop may have closed it meanwhile.
    pub has_waited: bool,
}

impl Deref for Lease {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

impl Pool {
    /// Creates an empty pool.
    pub fn new(hop: NextHop) -> Arc<Pool> {
        let places = Arc::new(Semaphore::new(hop.max_connections));
        let rate = Rate::per_minute(hop.messages_per_minute, hop.burst, Instant::now());
        Arc::new(Pool {
            health: Health::default(),
            idle: Mutex::new(VecDeque::new()),
            addresses: Addresses::default(),
            open: Arc::default(),
            allowed: Mutex::new(None),
            returned: Notify::new(),
            is_swept: AtomicBool::new(false),
            seen: Mutex::new(None),
            shown: Mutex::new(None),
            learnt: Mutex::new(None),
            places,
            waiting: AtomicUsize::new(0),
            wanted: Notify::new(),
            rate,
            hop,
        })
    }

    /// Takes this many slots, all at once or none.
    ///
    /// # Errors
    ///
    /// When they do not become free in time.
    pub async fn places(
        self: &Arc<Pool>,
        count: usize,
        patience: Duration,
    ) -> Result<Vec<Place>, RelayError> {
        let busy = || RelayError::Busy { connections: self.hop.max_connections };
        let wanted = u32::try_from(count).map_err(|_| busy())?;
        let mut all = match Arc::clone(&self.places).try_acquire_many_owned(wanted) {
            Ok(all) => all,
            Err(_) => {
                let _waiting = Waiting::at(self);
                let all = Arc::clone(&self.places).acquire_many_owned(wanted);
                timeout(patience, all).await.map_err(|_| busy())?.map_err(|_| busy())?
            }
        };
        let split = |_| {
            let permit = all.split(1).ok_or_else(busy)?;
            Ok(Place { pool: Arc::clone(self), _permit: permit })
        };
        (0..count).map(split).collect()
    }

    /// Waits until another transaction waits for a slot.
    pub async fn wanted(&self) {
        loop {
            let told = self.wanted.notified();
            if self.waiting.load(Ordering::SeqCst) > 0 {
                return;
            }
            told.await;
        }
    }

    /// Waits until this many messages may be sent.
    ///
    /// # Errors
    ///
    /// When that takes too long.
    pub async fn turn(&self, messages: usize) -> Result<(), RelayError> {
        let Some(rate) = &self.rate else { return Ok(()) };
        match rate.take(messages, Instant::now()) {
            Ok(wait) if wait.is_zero() => Ok(()),
            Ok(wait) => {
                tokio::time::sleep(wait).await;
                Ok(())
            }
            Err(_) => {
                metrics::counter!("pixelward_next_hop_rate_limited_total").increment(1);
                Err(RelayError::TooFast { per_minute: self.hop.messages_per_minute })
            }
        }
    }

    async fn open(&self) -> Result<Connection, RelayError> {
        let opened = {
            let _connecting = self.health.connecting(Instant::now());
            // Whoever has a connection need not hold the memory for this.
            Box::pin(dial::open(&self.hop, &self.addresses)).await
        };
        let mut connection = opened?;
        connection.counted = Some(Counted::one_of(&self.open));
        if self.health.succeeded() {
            tracing::info!(next_hop = %self.hop, "the next hop can be used again");
        }
        *self.learnt.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((connection.authentication, connection.certificate_end()));
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.as_ref() != Some(&connection.capabilities) {
            *seen = Some(connection.capabilities.clone());
        }
        Ok(connection)
    }

    /// Asks the next hop what it accepts, unless it was asked since. The connection waits for mail.
    pub async fn learn(self: &Arc<Pool>, since: Instant) {
        let is_known =
            self.learnt.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|at| at > since);
        if is_known {
            return;
        }
        let Ok(mut places) = self.places(1, Duration::from_secs(1)).await else { return };
        let Some(place) = places.pop() else { return };
        match place.fresh().await {
            Ok(lease) => lease.give_back(),
            Err(error) => {
                self.health.failed(Instant::now());
                tracing::warn!(next_hop = %self.hop, %error, "a next hop could not be asked what it accepts");
            }
        }
    }

    /// Returns what the next hop last announced.
    pub fn capabilities(&self) -> Option<Capabilities> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns what the next hop showed last that it is, and when its certificate ends, in seconds since
    /// 1970.
    pub fn shown(&self) -> Option<(Authentication, Option<i64>)> {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the most recently used connection if it is fresh. Closes those that were idle too long.
    fn waiting_connection(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while idle.front().is_some_and(|connection| !connection.is_fresh(&self.hop)) {
            idle.pop_front();
        }
        std::iter::from_fn(|| idle.pop_back()).find(|connection| connection.is_fresh(&self.hop))
    }

    /// Returns how many connections it may have, as far as is known.
    pub fn most_connections(&self) -> usize {
        let allowed = *self.allowed.lock().unwrap_or_else(PoisonError::into_inner);
        let known = allowed.filter(|(_, since)| since.elapsed() < REMEMBERED).map(|(count, _)| count);
        known.map_or(self.hop.max_connections, |count| count.clamp(1, self.hop.max_connections))
    }

    /// Notes that the next hop turned a connection away while there were others. Returns whether there were.
    fn is_crowded(&self, error: &RelayError) -> bool {
        let open = self.open.load(Ordering::SeqCst);
        if open == 0 || !error.is_turned_away() {
            return false;
        }
        let known = Some((open, Instant::now()));
        if std::mem::replace(&mut *self.allowed.lock().unwrap_or_else(PoisonError::into_inner), known)
            .is_none()
        {
            tracing::warn!(
                next_hop = %self.hop, %error, connections = open,
                "the next hop allows no more connections; messages wait for those there are. Set \
                 max_connections to that number"
            );
        }
        true
    }

    /// Closes idle connections whose time is over, until there are none.
    async fn sweep(pool: Weak<Pool>, idle: Duration) {
        loop {
            tokio::time::sleep(idle.max(Duration::from_millis(50))).await;
            let Some(pool) = pool.upgrade() else { return };
            let over = pool.take_over();
            let is_empty = {
                let left = pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
                if left.is_empty() {
                    pool.is_swept.store(false, Ordering::SeqCst);
                }
                left.is_empty()
            };
            drop(pool);
            for connection in over {
                connection.quit().await;
            }
            if is_empty {
                return;
            }
        }
    }

    /// Takes idle connections that may not be used again.
    fn take_over(&self) -> Vec<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let (fresh, over) =
            std::mem::take(&mut *idle).into_iter().partition(|connection| connection.is_fresh(&self.hop));
        *idle = fresh;
        Vec::from_iter::<VecDeque<Connection>>(over)
    }

    /// Closes all idle connections, saying QUIT.
    pub async fn close(&self) {
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        let mut parting = tokio::task::JoinSet::new();
        for connection in idle {
            parting.spawn(connection.quit());
        }
        while parting.join_next().await.is_some() {}
    }

    /// Returns how many connections are in use, and how many are idle.
    pub fn connections(&self) -> (usize, usize) {
        let used = self.hop.max_connections.saturating_sub(self.places.available_permits());
        (used, self.idle.lock().unwrap_or_else(PoisonError::into_inner).len())
    }
}

impl Place {
    /// Returns an idle connection, or a new one.
    ///
    /// # Errors
    ///
    /// When none can be made.
    ///
    /// Where the next hop turns connections away while there are others, waits until one of those is idle, or
    /// has ended.
    pub async fn lease(self, patience: Duration) -> Result<Lease, RelayError> {
        let pool = Arc::clone(&self.pool);
        let until = Instant::now() + patience;
        loop {
            // From here on, no connection becomes idle unnoticed.
            let returned = pool.returned.notified();
            if let Some(connection) = pool.waiting_connection() {
                return Ok(Lease { connection, place: self, has_waited: true });
            }
            match pool.open().await {
                Ok(connection) => return Ok(Lease { connection, place: self, has_waited: false }),
                Err(error) if pool.is_crowded(&error) => {
                    let busy = RelayError::Busy { connections: pool.most_connections() };
                    let _waiting = Waiting::at(&pool);
                    timeout_at(until.into(), returned).await.map_err(|_| busy)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn fresh(self) -> Result<Lease, RelayError> {
        let connection = self.pool.open().await?;
        Ok(Lease { connection, place: self, has_waited: false })
    }
}

impl Lease {
    /// Returns the pool it comes from.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.place.pool
    }

    /// Returns the next hop.
    pub fn hop(&self) -> &NextHop {
        &self.place.pool.hop
    }

    /// Replaces this connection, which the next hop has closed. The other idle ones were most likely closed
    /// with it.
    ///
    /// # Errors
    ///
    /// When none can be made.
    pub async fn renewed(self) -> Result<Lease, RelayError> {
        let Lease { connection, place, .. } = self;
        drop(connection);
        place.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        place.fresh().await
    }

    /// Returns a connection that is between messages to the pool.
    pub fn give_back(self) {
        let Lease { mut connection, place, .. } = self;
        connection.used = Instant::now();
        let pool = &place.pool;
        if !connection.is_fresh(&pool.hop) {
            drop(tokio::spawn(connection.quit()));
            return;
        }
        // Never more than there are slots: a connection is made only if none is idle.
        pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push_back(connection);
        if !pool.is_swept.swap(true, Ordering::SeqCst) {
            drop(tokio::spawn(Pool::sweep(Arc::downgrade(pool), pool.hop.idle)));
        }
    }
}
