//! Whether a next hop is worth a try.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a next hop rests that has just failed; each further failure doubles it.
const FIRST_REST: Duration = Duration::from_secs(1);
/// The longest rest.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// What is known of a next hop's state. One that rests is tried behind the others, and tried all the same where no other is left: an
/// outage that is over costs nobody a deferral.
#[derive(Debug, Default)]
pub struct Health(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    rests_until: Option<Instant>,
}

impl Health {
    /// It took a connection, or answered. Whether that is news.
    pub fn succeeded(&self) -> bool {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).failures > 0
    }

    /// It could not be used.
    pub fn failed(&self, now: Instant) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = FIRST_REST.saturating_mul(1 << state.failures.min(16)).min(LONGEST_REST);
        state.failures = state.failures.saturating_add(1);
        state.rests_until = Some(now + rest);
    }

    /// Until when it rests; `None` where it does not.
    pub fn rests_until(&self, now: Instant) -> Option<Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).rests_until.filter(|until| *until > now)
    }

    /// How often it failed since it last could be used.
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
