//! What was written lately, for services that report what people change there: such a report may be about a write of
//! ours, or may have been made before a write that is on its way arrived.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::choice::Choice;
use crate::consent::Person;

/// How long after a write a report of the service may be about it, or may have crossed it.
const CROSSING: Duration = Duration::from_secs(600);
/// How many writes are remembered; beyond it, nothing counts as an echo for a while.
const MOST: usize = 200_000;

/// What was written lately.
#[derive(Debug)]
pub(super) struct Echoes {
    /// The maximum number of people; 0 if the service reports nothing.
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    written: HashMap<Person, Written>,
    /// Up to this record, a write that nobody remembers may have crossed a report.
    crossed_until: u64,
}

/// What was written for one person.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    at: Instant,
    choice: Choice,
    /// Whether the service has said that it carried out this write, which is the last one.
    is_carried_out: bool,
    /// When a grant was written, be it before this.
    granted: Option<Instant>,
}

impl Echoes {
    /// `are_reported` says whether the service reports changes.
    pub(super) fn new(are_reported: bool) -> Echoes {
        Echoes { most: if are_reported { MOST } else { 0 }, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a write is on its way, and returns what was known before.
    pub(super) fn begin(&self, person: Person, choice: Choice, now: Instant) -> Option<Written> {
        if self.most == 0 {
            return None;
        }
        let mut state = self.state();
        let is_full =
            |state: &State| state.written.len() >= self.most && !state.written.contains_key(&person);
        if is_full(&state) {
            state.written.retain(|_, written| is_recent(written.at, now));
        }
        if is_full(&state) {
            // Whatever is reported from now on may have crossed one that is forgotten.
            state.crossed_until = u64::MAX;
            state.written.clear();
        }
        let before = state.written.get(&person).copied();
        let granted =
            if choice == Choice::Granted { Some(now) } else { before.and_then(|before| before.granted) };
        state.written.insert(person, Written { at: now, choice, is_carried_out: false, granted });
        before
    }

    /// Notes that the service has carried out the write.
    pub(super) fn carried_out(&self, person: Person) {
        if let Some(written) = self.state().written.get_mut(&person) {
            written.is_carried_out = true;
        }
    }

    /// Notes that the service has not carried out the write, and will not.
    pub(super) fn undo(&self, person: Person, before: Option<Written>) {
        let mut state = self.state();
        match before {
            Some(before) => state.written.insert(person, before),
            None => state.written.remove(&person),
        };
    }

    /// Forgets what was written, because another relay may have written since, or before the start.
    pub(super) fn forget(&self, head: u64) {
        let mut state = self.state();
        state.crossed_until = head;
        state.written.clear();
    }

    /// Returns whether a write may have reached the service after what it reported in this record, and may have left it
    /// with something else. `is_same` says whether a choice has the word for it that was reported.
    pub(super) fn may_have_crossed(
        &self,
        person: Person,
        record: u64,
        is_same: impl Fn(Choice) -> bool,
        now: Instant,
    ) -> bool {
        let state = self.state();
        let may_differ = |written: &Written| {
            is_recent(written.at, now) && !(written.is_carried_out && is_same(written.choice))
        };
        record <= state.crossed_until || state.written.get(&person).is_some_and(may_differ)
    }

    /// Returns whether a grant was written lately, so that a report of one may be about that.
    pub(super) fn has_granted(&self, person: Person, now: Instant) -> bool {
        let state = self.state();
        let granted = state.written.get(&person).and_then(|written| written.granted);
        granted.is_some_and(|at| is_recent(at, now))
    }
}

fn is_recent(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) < CROSSING
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: Person = Person([1; 16]);

    fn crosses(echoes: &Echoes, reported: Choice, now: Instant) -> bool {
        echoes.may_have_crossed(ANN, 5, |choice| choice == reported, now)
    }

    #[test]
    fn a_report_crosses_a_write_of_something_else_and_one_that_may_not_have_arrived() {
        let (echoes, now) = (Echoes::new(true), Instant::now());
        assert!(!crosses(&echoes, Choice::Granted, now));
        echoes.begin(ANN, Choice::Granted, now);
        assert!(crosses(&echoes, Choice::Granted, now), "it is on its way");
        echoes.carried_out(ANN);
        assert!(!crosses(&echoes, Choice::Granted, now) && crosses(&echoes, Choice::Refused, now));
        assert!(!crosses(&echoes, Choice::Refused, now + CROSSING));
        echoes.forget(5);
        assert!(crosses(&echoes, Choice::Granted, now), "another relay may have written");
        assert!(!echoes.may_have_crossed(ANN, 6, |_| true, now));
    }

    #[test]
    fn a_grant_that_was_written_is_remembered_behind_a_refusal_but_not_if_it_was_rejected() {
        let (echoes, now) = (Echoes::new(true), Instant::now());
        let before = echoes.begin(ANN, Choice::Granted, now);
        echoes.undo(ANN, before);
        assert!(!echoes.has_granted(ANN, now));
        echoes.begin(ANN, Choice::Granted, now);
        echoes.begin(ANN, Choice::Refused, now);
        assert!(echoes.has_granted(ANN, now) && !echoes.has_granted(ANN, now + CROSSING));
    }

    #[test]
    fn nothing_is_kept_unless_the_service_reports_and_not_too_much_then() {
        let now = Instant::now();
        let echoes = Echoes::new(false);
        echoes.begin(ANN, Choice::Granted, now);
        assert!(echoes.state().written.is_empty());
        let echoes = Echoes { most: 1, ..Echoes::new(true) };
        echoes.begin(ANN, Choice::Granted, now);
        echoes.begin(Person([2; 16]), Choice::Granted, now);
        assert_eq!(echoes.state().written.len(), 1);
        echoes.carried_out(Person([2; 16]));
        assert!(echoes.may_have_crossed(Person([2; 16]), 1 << 40, |_| true, now));
    }
}
