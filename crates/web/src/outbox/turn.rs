//! Which relay of a cluster tells: the one that holds the lease. A relay on its own always does.
//!
//! Each relay notes all changes in its own outbox. The holder says in the common order how far it has come, and all
//! drop what was told. If it says nothing for longer than it may tell, another goes on from there. What was told and
//! not said is told again, with the same ids.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::oneshot;

use crate::consent::Store;
use crate::consent::ordered::{Leased, Name};

/// How long a relay tells after it has claimed the lease.
const HOLDS: Duration = Duration::from_secs(30);
/// How long before the end it claims anew.
const RENEWS: Duration = Duration::from_secs(20);
/// How much longer than that others wait.
const MARGIN: Duration = Duration::from_secs(2);
/// How long those who did not tell last leave it to the one who did, at least and at most, in milliseconds.
const LEAVES: (u64, u64) = (1000, 4000);
/// How often the holder says how far it has come while more waits.
const SAYS: Duration = Duration::from_secs(1);
/// How long a pause is after a claim that brought nothing.
const PAUSE: Duration = Duration::from_secs(1);

/// The turn of a relay to tell one receiver.
pub(crate) struct Turn {
    store: Arc<Store>,
    name: Name,
    held: Option<Until>,
    said: Instant,
}

/// Until when this relay tells. The clock that never steps stands still while a machine sleeps; the other one may
/// step. The earlier end counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Until {
    steady: Instant,
    wall: SystemTime,
}

impl Until {
    fn after(pause: Duration) -> Option<Until> {
        Some(Until {
            steady: Instant::now().checked_add(pause)?,
            wall: SystemTime::now().checked_add(pause)?,
        })
    }

    /// Returns how much time is left; none once it is over.
    pub(super) fn left(&self) -> Duration {
        let wall = self.wall.duration_since(SystemTime::now()).unwrap_or_default();
        self.steady.saturating_duration_since(Instant::now()).min(wall)
    }
}

/// Whether this relay tells now.
pub(crate) enum Now {
    /// It does, and so does nobody else until then; without an end for a relay on its own.
    Here(Option<Until>),
    /// Another relay does, or did until a moment ago. Look again.
    Elsewhere,
}

impl Turn {
    pub(super) fn of(name: Name, store: &Arc<Store>) -> Turn {
        Turn { store: Arc::clone(store), name, held: None, said: Instant::now() }
    }

    /// Returns the number of the last record that some relay has told of; `None` for a relay on its own.
    pub(super) fn told(&self) -> Option<u64> {
        self.leased().map(|leased| leased.number)
    }

    /// Returns whether nobody has held the lease yet; a relay on its own holds none.
    pub(super) fn is_new(&self) -> bool {
        self.leased().is_none_or(|leased| leased.term == 0 && leased.number == 0)
    }

    fn leased(&self) -> Option<Leased> {
        self.store.leased(&self.name)
    }

    /// Waits for the turn of this relay, which has told up to this record, and returns whether it has come.
    pub(crate) async fn come(&mut self, told: u64) -> Now {
        let Some(leased) = self.leased() else { return Now::Here(None) };
        if let Some(held) = self.held.filter(|held| leased.is_here && held.left() > RENEWS) {
            return Now::Here(Some(held));
        }
        if !leased.is_here && leased.term > 0 {
            let rest = (HOLDS + MARGIN).saturating_sub(leased.since).max(leaving());
            tokio::time::sleep(rest).await;
            // Who tells says so before long.
            if self.leased().is_none_or(|now| now.term != leased.term) {
                return Now::Elsewhere;
            }
        }
        match self.claim(leased.term, told).await {
            Some(held) => Now::Here(Some(held)),
            None => {
                tokio::time::sleep(PAUSE).await;
                Now::Elsewhere
            }
        }
    }

    /// Says how far this relay has told, at once if nothing waits, else now and then.
    pub(crate) async fn say(&mut self, told: u64, is_all: bool) {
        if let Some(leased) = self.leased()
            && (is_all || self.said.elapsed() >= SAYS)
        {
            // What was told counts, even if another relay has taken over. It must not be thrown out, though.
            let term = if leased.is_here { leased.term } else { u64::MAX };
            self.claim(term, told).await;
        }
    }

    async fn claim(&mut self, term: u64, told: u64) -> Option<Until> {
        // Counted from before the claim: nobody hears of it earlier.
        let until = Until::after(HOLDS);
        let (done, holds) = oneshot::channel();
        let claimed = self.store.lease_later(self.name, term, told, move |holds| {
            let _ = done.send(holds);
        });
        self.held = match (claimed, holds.await) {
            (Ok(()), Ok(true)) => until,
            _ => None,
        };
        self.said = Instant::now();
        self.held
    }
}

/// Returns how long this relay leaves telling to another: each time something else, so that not all try at once.
fn leaving() -> Duration {
    let mut random = [0; 2];
    // Without randomness all wait equally long, and one of them wins.
    let _ = aws_lc_rs::rand::fill(&mut random);
    let (least, most) = LEAVES;
    Duration::from_millis(least + u64::from(u16::from_le_bytes(random)) % (most - least))
}

/// Runs something that must not go on once the turn is over, not even if this process stood still meanwhile.
pub(crate) async fn within<T>(
    until: Option<Until>,
    work: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    let Some(until) = until else { return work.await };
    let over = || Err("the turn of this relay was over before it answered".to_owned());
    let mut work = std::pin::pin!(work);
    let guarded = std::future::poll_fn(|context| match until.left() {
        Duration::ZERO => std::task::Poll::Ready(over()),
        _ => work.as_mut().poll(context),
    });
    tokio::time::timeout(until.left(), guarded).await.unwrap_or_else(|_| over())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_goes_on_after_the_end() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let over = Until { steady: Instant::now(), wall: SystemTime::now() + HOLDS };
        let stepped = Until { steady: Instant::now() + HOLDS, wall: SystemTime::now() - HOLDS };
        for until in [over, stepped] {
            assert_eq!(until.left(), Duration::ZERO);
            let went_on = std::cell::Cell::new(false);
            let done = runtime.block_on(within(Some(until), async {
                went_on.set(true);
                Ok(())
            }));
            assert!(done.is_err() && !went_on.get());
        }
        assert_eq!(runtime.block_on(within(Until::after(HOLDS), async { Ok(1) })), Ok(1));
        assert_eq!(runtime.block_on(within(None, async { Ok(1) })), Ok(1));
    }

    #[test]
    fn whoever_takes_over_waits_longer_than_the_holder_tells() {
        const { assert!(RENEWS.as_secs() < HOLDS.as_secs()) };
        (0..100).for_each(|_| {
            let leaving = leaving();
            assert!(leaving >= Duration::from_secs(1) && leaving < Duration::from_secs(4));
        });
    }
}
