//! How fast a service is asked: at most so many requests a second, and not at all while it wants to be left alone.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The first wait after a service failed or said that it is busy; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The maximum wait.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// The pace of one connector.
#[derive(Debug)]
pub(super) struct Pace {
    /// The time between two requests.
    gap: Duration,
    /// How far requests may be ahead of that.
    ahead: Duration,
    /// How many failures in a row are accidents.
    accidents: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the next request is due if none is ahead of its time.
    due: Instant,
    /// Until when nothing is asked.
    quiet_until: Instant,
    /// How often it failed since it last succeeded.
    failures: u32,
    /// How often it was busy since it last succeeded.
    refusals: u32,
}

impl Pace {
    pub(super) fn of(requests_per_second: u32, burst: u32, concurrency: usize) -> Pace {
        let gap = Duration::from_secs(1) / requests_per_second.max(1);
        let now = Instant::now();
        Pace {
            gap,
            ahead: gap.saturating_mul(burst.saturating_sub(1)),
            accidents: u32::try_from(concurrency).unwrap_or(u32::MAX),
            state: Mutex::new(State { due: now, quiet_until: now, failures: 0, refusals: 0 }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the right to one request now, or returns how long to wait before asking again.
    pub(super) fn take(&self, now: Instant) -> Result<(), Duration> {
        let mut state = self.state();
        if now < state.quiet_until {
            return Err(state.quiet_until - now);
        }
        let due = state.due.max(now.checked_sub(self.ahead).unwrap_or(now));
        if due > now {
            return Err(due - now);
        }
        state.due = due + self.gap;
        Ok(())
    }

    /// Returns how long nothing is asked.
    pub(super) fn quiet(&self, now: Instant) -> Duration {
        self.state().quiet_until.saturating_duration_since(now)
    }

    /// Notes a success.
    pub(super) fn succeeded(&self) {
        let mut state = self.state();
        (state.failures, state.refusals) = (0, 0);
    }

    /// Notes that the service is asked too much, and how long it wants to be left alone.
    pub(super) fn busy(&self, wait: Option<Duration>, now: Instant) {
        let mut state = self.state();
        state.refusals = state.refusals.saturating_add(1);
        let pause = wait.unwrap_or_else(|| doubled(state.refusals));
        state.quiet_until = state.quiet_until.max(now + pause);
    }

    /// Notes a failure. A few at once are accidents; with more, the service is left alone for a while.
    pub(super) fn failed(&self, wait: Option<Duration>, now: Instant) {
        let mut state = self.state();
        state.failures = state.failures.saturating_add(1);
        let beyond = state.failures.saturating_sub(self.accidents);
        let pause = match (wait, beyond) {
            (Some(wait), _) => wait,
            (None, 0) => return,
            // Those that were on their way fail together.
            (None, beyond) => doubled(beyond.div_ceil(self.accidents)),
        };
        state.quiet_until = state.quiet_until.max(now + pause);
    }

    /// Lets it be asked at once.
    pub(super) fn resume(&self) {
        let mut state = self.state();
        state.quiet_until = Instant::now();
        (state.failures, state.refusals) = (0, 0);
    }
}

/// Returns the wait after so many failures.
fn doubled(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1).min(20))).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn there_is_a_burst_and_then_the_rate() {
        let pace = Pace::of(10, 3, 1);
        let start = Instant::now() + MS(1000);
        assert_eq!([0, 0, 0].map(|at| pace.take(start + MS(at))), [Ok(()), Ok(()), Ok(())]);
        assert_eq!(pace.take(start), Err(MS(100)));
        assert_eq!(pace.take(start + MS(100)), Ok(()));
        assert_eq!(pace.take(start + MS(150)), Err(MS(50)));
        // What was not used is a burst again, and no more.
        let later = start + MS(60_000);
        assert_eq!([0, 0, 0].map(|at| pace.take(later + MS(at))), [Ok(()), Ok(()), Ok(())]);
        assert!(pace.take(later).is_err());
    }

    #[test]
    fn a_busy_service_is_left_alone_as_long_as_it_says() {
        let pace = Pace::of(1000, 10, 4);
        let now = Instant::now();
        pace.busy(Some(MS(7000)), now);
        assert_eq!(pace.take(now + MS(5000)), Err(MS(2000)));
        assert_eq!(pace.take(now + MS(7000)), Ok(()));
        pace.busy(None, now + MS(7000));
        pace.busy(None, now + MS(7000));
        let third = pace.quiet(now + MS(7000));
        assert_eq!(third, 4 * FIRST_PAUSE, "the third time in a row, it is doubled twice");
    }

    #[test]
    fn one_failure_in_twenty_slows_nothing_and_a_dead_service_is_left_alone_ever_longer() {
        let pace = Pace::of(1000, 10, 4);
        let now = Instant::now();
        for _ in 0..100 {
            pace.failed(None, now);
            assert_eq!(pace.quiet(now), Duration::ZERO);
            pace.succeeded();
        }
        let mut pauses = Vec::new();
        for _ in 0..60 {
            pace.failed(None, now);
            pauses.push(pace.quiet(now));
        }
        assert_eq!((pauses[3], pauses[4], pauses[8], pauses[12]), (MS(0), MS(500), MS(1000), MS(2000)));
        assert_eq!(pauses[59], LONGEST_PAUSE);
        pace.resume();
        assert_eq!(pace.quiet(Instant::now()), Duration::ZERO);
    }
}
