//! The health of a next hop.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a next hop is avoided after a failure; each further failure doubles it.
const FIRST_REST: Duration = Duration::from_secs(1);
/// The maximum time for which it is avoided.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// The known state of a next hop. One that is avoided is tried after the others, but still tried if no other
/// is left: an outage that has ended defers no mail.
#[derive(Debug, Default)]
pub struct Health(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    rests_until: Option<Instant>,
}

impl Health {
    /// Notes that it accepted a connection, or replied. Returns whether that is news.
    pub fn succeeded(&self) -> bool {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).failures > 0
    }

    /// Notes that it could not be used.
    pub fn failed(&self, now: Instant) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = FIRST_REST.saturating_mul(1 << state.failures.min(16)).min(LONGEST_REST);
        state.failures = state.failures.saturating_add(1);
        state.rests_until = Some(now + rest);
    }

    /// Returns until when it is avoided; `None` if it is not.
    pub fn rests_until(&self, now: Instant) -> Option<Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).rests_until.filter(|until| *until > now)
    }

    /// Returns how often it failed since it last could be used.
    pub fn failures(&self) -> u32 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_grow_and_end_with_the_first_success() {
        let (health, start) = (Health::default(), Instant::now());
        assert_eq!(health.rests_until(start), None);
        assert!(!health.succeeded());
        for rest in [1, 2, 4, 8, 16, 32, 60, 60] {
            health.failed(start);
            assert_eq!(health.rests_until(start), Some(start + Duration::from_secs(rest)));
            assert_eq!(health.rests_until(start + Duration::from_secs(rest)), None);
        }
        assert!(health.succeeded());
        assert_eq!((health.rests_until(start), health.failures()), (None, 0));
    }
}
