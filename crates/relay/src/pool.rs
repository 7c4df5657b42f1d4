//! The connections to one next hop: those in use, up to its maximum, and idle ones.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::connection::{Capabilities, Connection};
use super::error::RelayError;
use super::health::Health;
use super::next_hop::NextHop;
use super::rate::Rate;

/// How long a transaction waits for a connection slot.
const PATIENCE: Duration = Duration::from_secs(30);

/// The connections to one next hop, for one login and one TLS identity.
#[derive(Debug)]
pub struct Pool {
    /// The next hop.
    pub hop: NextHop,
    /// Its health.
    pub health: Health,
    /// Idle connections, the most recently used last.
    idle: Mutex<VecDeque<Connection>>,
    seen: Mutex<Option<Capabilities>>,
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
            seen: Mutex::new(None),
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
    pub async fn places(self: &Arc<Pool>, count: usize) -> Result<Vec<Place>, RelayError> {
        let busy = || RelayError::Busy { connections: self.hop.max_connections };
        let wanted = u32::try_from(count).map_err(|_| busy())?;
        let mut all = match Arc::clone(&self.places).try_acquire_many_owned(wanted) {
            Ok(all) => all,
            Err(_) => {
                let _waiting = Waiting::at(self);
                let all = Arc::clone(&self.places).acquire_many_owned(wanted);
                timeout(PATIENCE, all).await.map_err(|_| busy())?.map_err(|_| busy())?
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
        let connection = Connection::open(&self.hop).await?;
        if self.health.succeeded() {
            tracing::info!(next_hop = %self.hop, "the next hop can be used again");
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.as_ref() != Some(&connection.capabilities) {
            *seen = Some(connection.capabilities.clone());
        }
        Ok(connection)
    }

    /// Returns what the next hop last announced.
    pub fn capabilities(&self) -> Option<Capabilities> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the most recently used connection if it is fresh. Closes those that were idle too long.
    fn waiting_connection(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while idle.front().is_some_and(|connection| !connection.is_fresh(&self.hop)) {
            idle.pop_front();
        }
        std::iter::from_fn(|| idle.pop_back()).find(|connection| connection.is_fresh(&self.hop))
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
    pub async fn lease(self) -> Result<Lease, RelayError> {
        match self.pool.waiting_connection() {
            Some(connection) => Ok(Lease { connection, place: self, has_waited: true }),
            None => self.fresh().await,
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
        if connection.is_fresh(&place.pool.hop) {
            // Never more than there are slots: a connection is made only if none is idle.
            place.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push_back(connection);
        }
    }
}
