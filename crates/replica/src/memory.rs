//! An engine within one process: for tests and for the simulation. It can do what a real one may do wrong.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::watch;

use crate::engine::{Delivered, Engine, EngineError, Eventually, Feed, Kind, Position, Verdict};

/// The messages that all engines share.
#[derive(Debug)]
pub struct Carrier {
    state: Mutex<State>,
    opens: Mutex<State>,
    /// Changes with everything that a feed may wait for.
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    messages: Vec<Delivered>,
    ids: HashMap<[u8; 16], Position>,
    /// Positions that no server hands out any more.
    lost: Vec<Position>,
}

impl Default for Carrier {
    fn default() -> Carrier {
        Carrier { state: Mutex::default(), opens: Mutex::default(), changed: watch::channel(0).0 }
    }
}

impl Carrier {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, kind: Kind) -> MutexGuard<'_, State> {
        match kind {
            Kind::Opens => self.opens.lock().unwrap_or_else(PoisonError::into_inner),
            Kind::Change | Kind::Key | Kind::Erase | Kind::Mark => self.state(),
        }
    }

    fn change(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Loses a message: nobody is handed it any more, and nobody is told.
    pub fn lose(&self, position: Position) {
        self.state().lost.push(position);
    }

    /// Finds what was lost again.
    pub fn restore(&self) {
        self.state().lost.clear();
        self.change();
    }

    /// Returns how many messages there are.
    pub fn count(&self) -> u64 {
        self.state().messages.len() as u64
    }
}

/// How one relay reaches the carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Whether it hears messages.
    pub hears: bool,
    /// Whether its messages arrive.
    pub tells: bool,
    /// Whether it hears that its messages arrived.
    pub is_acknowledged: bool,
    /// Whether the carrier's servers promise durability.
    pub is_durable: bool,
}

impl Link {
    /// Everything works.
    pub const WHOLE: Link = Link { hears: true, tells: true, is_acknowledged: true, is_durable: true };
    /// Nothing does.
    pub const CUT: Link = Link { hears: false, tells: false, is_acknowledged: false, is_durable: false };
}

/// One relay's engine.
#[derive(Debug)]
pub struct Memory {
    carrier: Arc<Carrier>,
    link: Mutex<Link>,
    /// How many feeds to come hand out nothing.
    silent: AtomicU32,
}

impl Memory {
    /// Returns an engine over these messages.
    pub fn over(carrier: &Arc<Carrier>) -> Memory {
        Memory { carrier: Arc::clone(carrier), link: Mutex::new(Link::WHOLE), silent: AtomicU32::new(0) }
    }

    /// Changes how it reaches them.
    pub fn set(&self, link: Link) {
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = link;
        self.carrier.change();
    }

    /// Has the next feeds come from a server that has nothing to hand out, and does not say so.
    pub fn silence(&self, feeds: u32) {
        self.silent.store(feeds, Ordering::Relaxed);
    }

    fn link(&self) -> Link {
        *self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a message that does not arrive is waited for.
const LOST: Duration = Duration::from_millis(50);

impl Engine for Arc<Memory> {
    fn publish(
        &self,
        kind: Kind,
        id: [u8; 16],
        bytes: Bytes,
    ) -> Eventually<'_, Result<Position, EngineError>> {
        Box::pin(async move {
            let link = self.link();
            let mut published = None;
            if link.tells {
                let mut state = self.carrier.of(kind);
                let next = state.messages.len() as u64 + 1;
                let position = *state.ids.entry(id).or_insert(next);
                if position == next {
                    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                    let committed_at = i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX);
                    state.messages.push(Delivered { position, committed_at, bytes });
                }
                published = Some(position);
            }
            self.carrier.change();
            match published.filter(|_| link.is_acknowledged) {
                Some(position) => Ok(position),
                None => {
                    tokio::time::sleep(LOST).await;
                    Err(EngineError::TimedOut(LOST))
                }
            }
        })
    }

    fn follow(&self, from: Position) -> Eventually<'_, Result<Box<dyn Feed>, EngineError>> {
        Box::pin(async move { self.reading(Kind::Mark, from) })
    }

    fn follow_opens(&self, from: Position) -> Eventually<'_, Result<Box<dyn Feed>, EngineError>> {
        Box::pin(async move { self.reading(Kind::Opens, from) })
    }

    fn message(&self, position: Position) -> Eventually<'_, Result<Option<Delivered>, EngineError>> {
        Box::pin(async move {
            if !self.link().hears {
                return Err(EngineError::Unreachable("cut off".to_owned()));
            }
            let state = self.carrier.state();
            let is_lost = state.lost.contains(&position);
            let found = usize::try_from(position - 1).ok().and_then(|place| state.messages.get(place));
            Ok(found.filter(|_| !is_lost).cloned())
        })
    }

    fn durability(&self) -> Eventually<'_, Verdict> {
        Box::pin(async move {
            match self.link() {
                Link { is_durable: true, .. } => Verdict::Durable,
                _ => Verdict::NotDurable { why: "the servers do not promise it".to_owned() },
            }
        })
    }
}

impl Memory {
    fn reading(self: &Arc<Memory>, kind: Kind, from: Position) -> Result<Box<dyn Feed>, EngineError> {
        if !self.link().hears {
            return Err(EngineError::Unreachable("cut off".to_owned()));
        }
        let one_less = |feeds: u32| feeds.checked_sub(1).filter(|_| kind != Kind::Opens);
        if self.silent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok() {
            return Ok(Box::new(Silent));
        }
        let changed = self.carrier.changed.subscribe();
        Ok(Box::new(Reading { engine: Arc::clone(self), kind, next: from, changed }))
    }
}

/// A feed of a server that lacks everything.
struct Silent;

impl Feed for Silent {
    fn next(&mut self) -> Eventually<'_, Result<Delivered, EngineError>> {
        Box::pin(std::future::pending())
    }

    fn ready(&mut self) -> Option<Delivered> {
        None
    }
}

struct Reading {
    engine: Arc<Memory>,
    kind: Kind,
    next: Position,
    changed: watch::Receiver<u64>,
}

impl Feed for Reading {
    fn next(&mut self) -> Eventually<'_, Result<Delivered, EngineError>> {
        Box::pin(async move {
            loop {
                self.changed.borrow_and_update();
                if !self.engine.link().hears {
                    return Err(EngineError::Unreachable("cut off".to_owned()));
                }
                if let Some(delivered) = self.ready() {
                    return Ok(delivered);
                }
                let ended = self.changed.changed().await;
                ended.map_err(|_| EngineError::Unreachable("the carrier is gone".to_owned()))?;
            }
        })
    }

    fn ready(&mut self) -> Option<Delivered> {
        if !self.engine.link().hears {
            return None;
        }
        let state = self.engine.carrier.of(self.kind);
        while state.lost.contains(&self.next) {
            self.next += 1;
        }
        let found = usize::try_from(self.next - 1).ok().and_then(|place| state.messages.get(place))?;
        self.next += 1;
        Some(found.clone())
    }
}
