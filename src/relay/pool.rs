//! Connections that wait for their next message.

use std::sync::{Arc, Mutex, PoisonError};

use super::connection::{Capabilities, Connection};
use super::error::RelayError;
use super::next_hop::NextHop;

/// The most connections that wait.
const MAX_IDLE: usize = 256;

/// The connections to one next hop.
#[derive(Debug)]
pub struct Pool {
    /// Where they lead.
    pub hop: NextHop,
    idle: Mutex<Vec<Connection>>,
    seen: Mutex<Option<Capabilities>>,
}

/// Whether a connection has carried something before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was just made.
    New,
    /// It waited in the pool, and may have been closed meanwhile.
    Reused,
}

impl Pool {
    /// An empty pool.
    pub fn new(hop: NextHop) -> Arc<Pool> {
        Arc::new(Pool { hop, idle: Mutex::new(Vec::new()), seen: Mutex::new(None) })
    }

    /// A connection that waited, or a new one.
    ///
    /// # Errors
    ///
    /// When none can be made.
    pub async fn take(&self) -> Result<(Connection, Origin), RelayError> {
        let waiting = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.retain(|connection| connection.is_fresh(&self.hop));
            idle.pop()
        };
        match waiting {
            Some(connection) => Ok((connection, Origin::Reused)),
            None => Ok((self.fresh().await?, Origin::New)),
        }
    }

    /// A new connection.
    ///
    /// # Errors
    ///
    /// When none can be made.
    pub async fn fresh(&self) -> Result<Connection, RelayError> {
        let connection = Connection::open(&self.hop).await?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.as_ref() != Some(&connection.capabilities) {
            *seen = Some(connection.capabilities.clone());
        }
        Ok(connection)
    }

    /// Takes back a connection that is between messages.
    pub fn give_back(&self, mut connection: Connection) {
        connection.used = std::time::Instant::now();
        if connection.is_fresh(&self.hop) {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < MAX_IDLE {
                idle.push(connection);
            }
        }
    }

    /// What the next hop last announced.
    pub fn capabilities(&self) -> Option<Capabilities> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many connections wait.
    pub fn idle(&self) -> usize {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
