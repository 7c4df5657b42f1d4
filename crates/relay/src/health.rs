//! The health of a next hop.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a next hop is avoided after a failure; each further failure doubles it.
const FIRST_REST: Duration = Duration::from_secs(1);
/// The maximum time for which it is avoided.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// After how long without a connection others try the following next hop first.
const SUSPICIOUS: Duration = Duration::from_secs(1);

/// The known state of a next hop. One that is avoided is tried after the others, but still tried if no other
/// is left: an outage that has ended defers no mail.
#[derive(Debug, Default)]
pub struct Health(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    rests_until: Option<Instant>,
    /// How many are connecting to it, and since when at least one is.
    connecting: usize,
    since: Option<Instant>,
}

/// Somebody who is connecting to a next hop, until dropped.
#[derive(Debug)]
pub struct Connecting<'a>(&'a Health);

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.connecting = state.connecting.saturating_sub(1);
        if state.connecting == 0 {
            state.since = None;
        }
    }
}

impl Health {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that somebody connects to it.
    pub fn connecting(&self, now: Instant) -> Connecting<'_> {
        let mut state = self.state();
        state.connecting += 1;
        state.since.get_or_insert(now);
        Connecting(self)
    }

    /// Notes that it accepted a connection, or replied. Returns whether that is news.
    pub fn succeeded(&self) -> bool {
        let mut state = self.state();
        state.rests_until = None;
        state.since = None;
        std::mem::take(&mut state.failures) > 0
    }

    /// Notes that it could not be used.
    pub fn failed(&self, now: Instant) {
        let mut state = self.state();
        let rest = FIRST_REST.saturating_mul(1 << state.failures.min(16)).min(LONGEST_REST);
        state.failures = state.failures.saturating_add(1);
        state.rests_until = Some(now + rest);
    }

    /// Returns until when it is avoided; `None` if it is not. When its rest is over, one connection finds out
    /// whether it can be used again, and the others avoid it meanwhile; so they do while somebody waits for
    /// it suspiciously long.
    pub fn rests_until(&self, now: Instant) -> Option<Instant> {
        let state = self.state();
        let rests = state.rests_until.filter(|until| *until > now);
        let is_tried = state.failures > 0 && state.connecting > 0;
        let is_suspect = state.since.is_some_and(|since| now.saturating_duration_since(since) > SUSPICIOUS);
        rests.or_else(|| (is_tried || is_suspect).then_some(now))
    }

    /// Returns how often it failed since it last could be used.
    pub fn failures(&self) -> u32 {
        self.state().failures
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

    #[test]
    fn one_finds_out_whether_it_is_back_while_the_others_avoid_it() {
        let (health, start) = (Health::default(), Instant::now());
        health.failed(start);
        let later = start + Duration::from_secs(5);
        assert_eq!(health.rests_until(later), None);
        let probe = health.connecting(later);
        assert_eq!(health.rests_until(later), Some(later));
        drop(probe);
        assert_eq!(health.rests_until(later), None);
        let probe = health.connecting(later);
        health.succeeded();
        assert_eq!(health.rests_until(later), None);
        drop(probe);
    }

    #[test]
    fn one_that_does_not_answer_holds_up_those_alone_who_came_first() {
        let (health, start) = (Health::default(), Instant::now());
        let first = health.connecting(start);
        assert_eq!(health.rests_until(start + Duration::from_millis(900)), None);
        let later = start + Duration::from_millis(1100);
        assert_eq!(health.rests_until(later), Some(later));
        drop(first);
        assert_eq!(health.rests_until(later), None);
    }
}
