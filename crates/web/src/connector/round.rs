//! Some people of whom a service is to be told, each once at a time. What is not done when a turn ends is done in the
//! next one.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::book::Errand;
use crate::consent::{Person, Timestamp};

/// The first wait before a person is tried again; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// If no more people than this are left, it is for them that it fails, and not for everybody.
const FEW: usize = 3;
/// The maximum wait.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What is noted once a round is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Changes up to this record are told.
    Changes(u64),
    /// Dead letters were tried again.
    Again,
    /// A walk has come from one place to another, with so many people.
    Walk { errand: Errand, from: u32, next: Option<u32>, people: u64 },
    /// A search for expired grants has come to this place; at the end, up to this time.
    Expired { next: Option<u32>, until: Timestamp },
}

/// One person.
#[derive(Clone, Debug, Default)]
pub(super) struct Letter {
    /// The numbers of the changes that led here; none if it was something else.
    pub(super) changes: Vec<u64>,
    /// How often it failed although it works for others.
    failures: u32,
    /// How often all in all.
    attempts: u32,
    not_before: Option<Instant>,
}

/// Some people.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) end: End,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    letters: HashMap<Person, Letter>,
    queue: VecDeque<Person>,
    /// How often it had worked when the round began.
    successes: Option<u64>,
}

impl Round {
    pub(super) fn of_changes(changes: &[(u64, Person)]) -> Option<Round> {
        let (last, _) = changes.last()?;
        let mut state = State::default();
        for (number, person) in changes {
            let letter = state.letters.entry(*person).or_default();
            if letter.changes.is_empty() {
                state.queue.push_back(*person);
            }
            letter.changes.push(*number);
        }
        Some(Round { end: End::Changes(*last), state: Mutex::new(state) })
    }

    pub(super) fn of_people(end: End, people: impl IntoIterator<Item = Person>) -> Round {
        let letters: HashMap<Person, Letter> =
            people.into_iter().map(|person| (person, Letter::default())).collect();
        let queue = letters.keys().copied().collect();
        Round { end, state: Mutex::new(State { letters, queue, successes: None }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lines up everybody who is not done, including those whom an ended turn left in between; so often it has worked.
    pub(super) fn line_up(&self, successes: u64) {
        let mut state = self.state();
        state.successes.get_or_insert(successes);
        let State { letters, queue, .. } = &mut *state;
        let in_line: HashSet<Person> = queue.iter().copied().collect();
        queue.extend(letters.keys().filter(|person| !in_line.contains(person)));
    }

    /// Takes the next person, or returns until when to wait for one; `None` if nobody is left in line.
    pub(super) fn next(&self, now: Instant) -> Option<Result<(Person, Letter), Instant>> {
        let mut state = self.state();
        let mut earliest = None;
        for _ in 0..state.queue.len() {
            let person = state.queue.pop_front()?;
            let Some(letter) = state.letters.get(&person) else { continue };
            match letter.not_before.filter(|at| *at > now) {
                None => return Some(Ok((person, letter.clone()))),
                Some(at) => {
                    earliest = Some(earliest.map_or(at, |known: Instant| known.min(at)));
                    state.queue.push_back(person);
                }
            }
        }
        earliest.map(Err)
    }

    /// Notes that somebody is done.
    pub(super) fn done(&self, person: Person) {
        self.state().letters.remove(&person);
    }

    /// Lines somebody up again who failed, and returns how often that happened although it works for others: it
    /// has worked for some since the round began, or hardly anybody is left for whom it could work.
    pub(super) fn failed(&self, person: Person, successes: u64, now: Instant) -> u32 {
        let mut state = self.state();
        let works = state.successes.is_some_and(|first| successes > first) || state.letters.len() <= FEW;
        let Some(letter) = state.letters.get_mut(&person) else { return 0 };
        letter.attempts = letter.attempts.saturating_add(1);
        letter.failures += u32::from(works);
        let doubled = 2_u32.saturating_pow(letter.attempts.min(20) - 1);
        letter.not_before = Some(now + FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE));
        let failures = letter.failures;
        state.queue.push_back(person);
        failures
    }

    /// Lines somebody up again who could not be tried.
    pub(super) fn not_tried(&self, person: Person) {
        self.state().queue.push_front(person);
    }

    /// Returns how many are not done.
    pub(super) fn left(&self) -> usize {
        self.state().letters.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(number: u8) -> Person {
        Person([number; 16])
    }

    #[test]
    fn several_changes_of_a_person_are_one_letter_and_nobody_is_lost_when_a_turn_ends() {
        let now = Instant::now();
        let round = Round::of_changes(&[(1, person(1)), (2, person(2)), (3, person(1))]).unwrap();
        assert_eq!((round.end, round.left()), (End::Changes(3), 2));
        let (first, letter) = round.next(now).unwrap().unwrap();
        assert_eq!((first, letter.changes), (person(1), vec![1, 3]));
        let (second, _) = round.next(now).unwrap().unwrap();
        assert!(round.next(now).is_none());
        round.done(second);
        // The turn ended before the first one was done.
        round.line_up(0);
        round.line_up(0);
        assert_eq!(round.next(now).unwrap().unwrap().0, first);
        assert!(round.next(now).is_none());
        round.done(first);
        round.line_up(0);
        assert!(round.left() == 0 && round.next(now).is_none());
    }

    #[test]
    fn who_fails_waits_and_counts_only_if_it_works_for_others() {
        let now = Instant::now();
        let round = Round::of_people(End::Again, (1..=5).map(person));
        round.line_up(7);
        let (first, _) = round.next(now).unwrap().unwrap();
        assert_eq!(round.failed(first, 7, now), 0, "it works for nobody");
        let others: Vec<Person> = (0..4).map(|_| round.next(now).unwrap().unwrap().0).collect();
        assert_eq!(round.next(now).unwrap().unwrap_err(), now + FIRST_PAUSE);
        let later = now + FIRST_PAUSE;
        assert_eq!(round.next(later).unwrap().unwrap().0, first);
        assert_eq!(round.failed(first, 8, later), 1);
        assert_eq!(round.next(later).unwrap().unwrap_err(), later + 2 * FIRST_PAUSE);
        // Nobody is left for whom it could work.
        others.iter().for_each(|person| round.done(*person));
        let last = later + 2 * FIRST_PAUSE;
        assert_eq!(round.next(last).unwrap().unwrap().0, first);
        assert_eq!(round.failed(first, 7, last), 2);
    }
}
