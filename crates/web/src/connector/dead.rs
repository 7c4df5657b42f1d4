//! People whom a service could not be told of, with the reason: on disk, listed, and tried again when somebody says so.
//!
//! An entry has 40 bytes: person, time, status, reason, checksum. The last one about a person counts, and one with
//! reason 0 ends it. There are no names and no addresses.

use std::collections::{BTreeMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::consent::{Person, Timestamp};

const ENTRY: usize = 40;
/// How many are kept; more are only counted.
const MOST: usize = 100_000;
/// How many ended entries a file may have before it is rewritten.
const ENDED: u64 = 10_000;

/// Why a service was not told of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    /// Nothing says under which name the service knows the person.
    NoId,
    /// The service knows nobody under this name.
    NotKnown,
    /// The service rejected it.
    Rejected,
    /// The service failed again and again for this person, and not for others.
    Failed,
}

impl Reason {
    pub(super) const ALL: [Reason; 4] = [Reason::NoId, Reason::NotKnown, Reason::Rejected, Reason::Failed];

    pub(super) fn name(self) -> &'static str {
        match self {
            Reason::NoId => "no_id",
            Reason::NotKnown => "not_known",
            Reason::Rejected => "rejected",
            Reason::Failed => "failed",
        }
    }

    fn number(self) -> u8 {
        match self {
            Reason::NoId => 1,
            Reason::NotKnown => 2,
            Reason::Rejected => 3,
            Reason::Failed => 4,
        }
    }

    fn from_number(number: u8) -> Option<Reason> {
        Reason::ALL.into_iter().find(|reason| reason.number() == number)
    }
}

/// A dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dead {
    pub(super) reason: Reason,
    /// The status that the service answered; 0 if it was not asked.
    pub(super) status: u16,
    /// Since when.
    pub(super) at: Timestamp,
}

/// The dead letters of one connector.
#[derive(Debug)]
pub(super) struct DeadLetters {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    length: u64,
    all: BTreeMap<Person, Dead>,
    /// Those that are to be tried again.
    again: Vec<Person>,
    /// How many found no room since the start.
    left_out: u64,
}

impl DeadLetters {
    pub(super) fn open(folder: &Path, name: &str) -> io::Result<DeadLetters> {
        let path = folder.join(format!("{name}.dead"));
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        let mut all = BTreeMap::new();
        let mut length = 0;
        for bytes in std::fs::read(&path)?.as_chunks::<ENTRY>().0 {
            // What a crash cut off is written again, because its change was not marked as told.
            let Some((person, dead)) = read(bytes) else { break };
            length += ENTRY as u64;
            match dead {
                Some(dead) => drop(all.insert(person, dead)),
                None => drop(all.remove(&person)),
            }
        }
        file.set_len(length)?;
        let state = State { file, length, all, again: Vec::new(), left_out: 0 };
        Ok(DeadLetters { path, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds somebody. It is durable with the next [`sync`](DeadLetters::sync).
    pub(super) fn add(&self, person: Person, dead: Dead) -> io::Result<()> {
        let mut state = self.state();
        if state.all.len() >= MOST && !state.all.contains_key(&person) {
            state.left_out += 1;
            return Ok(());
        }
        state.append(&entry(person, Some(dead)))?;
        state.all.insert(person, dead);
        Ok(())
    }

    /// Takes somebody out who was told, or is gone.
    pub(super) fn end(&self, person: Person) -> io::Result<()> {
        let mut state = self.state();
        if state.all.remove(&person).is_none() {
            return Ok(());
        }
        state.append(&entry(person, None))?;
        let ended = state.length / ENTRY as u64 - state.all.len() as u64;
        if ended > ENDED { state.rewrite(&self.path) } else { Ok(()) }
    }

    /// Forgets people, and that they were ever here.
    pub(super) fn forget(&self, people: &[Person]) -> io::Result<()> {
        let people: HashSet<&Person> = people.iter().collect();
        let mut state = self.state();
        let before = state.all.len();
        state.all.retain(|person, _| !people.contains(person));
        state.again.retain(|person| !people.contains(person));
        // One who was told has entries in the file, too.
        let is_gone = state.all.len() != before;
        if is_gone || state.length > (before * ENTRY) as u64 { state.rewrite(&self.path) } else { Ok(()) }
    }

    /// Makes what was added durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.state().file.sync_data()
    }

    /// Lists everybody.
    pub(super) fn people(&self) -> Vec<Person> {
        self.state().all.keys().copied().collect()
    }

    /// Has those tried again that `which` picks; returns how many.
    pub(super) fn try_again(&self, which: impl Fn(&Dead) -> bool) -> usize {
        let mut state = self.state();
        let picked: Vec<Person> =
            state.all.iter().filter(|(_, dead)| which(dead)).map(|(person, _)| *person).collect();
        state.again = picked;
        state.again.len()
    }

    /// Returns whether some are to be tried again.
    pub(super) fn has_again(&self) -> bool {
        !self.state().again.is_empty()
    }

    /// Takes some of those that are to be tried again.
    pub(super) fn take_again(&self, most: usize) -> Vec<Person> {
        let mut state = self.state();
        let from = state.again.len().saturating_sub(most);
        state.again.split_off(from)
    }

    /// Counts them by reason, and those that found no room.
    pub(super) fn counts(&self) -> (BTreeMap<Reason, u64>, u64) {
        let state = self.state();
        let mut counts: BTreeMap<Reason, u64> = Reason::ALL.into_iter().map(|reason| (reason, 0)).collect();
        for dead in state.all.values() {
            *counts.entry(dead.reason).or_default() += 1;
        }
        (counts, state.left_out)
    }

    /// Lists some of them, from one person on.
    pub(super) fn list(&self, after: Option<Person>, most: usize) -> Vec<(Person, Dead)> {
        let state = self.state();
        let behind = |person: &Person| after.is_none_or(|after| *person > after);
        state.all.iter().filter(|(person, _)| behind(person)).take(most).map(|(p, d)| (*p, *d)).collect()
    }
}

impl State {
    /// Writes a file without those that ended.
    fn rewrite(&mut self, path: &Path) -> io::Result<()> {
        let all: Vec<u8> = self.all.iter().flat_map(|(person, dead)| entry(*person, Some(*dead))).collect();
        self.file = pixelward_files::replace(path, &all)?;
        self.length = all.len() as u64;
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.length)?;
        self.length += bytes.len() as u64;
        Ok(())
    }
}

fn entry(person: Person, dead: Option<Dead>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ENTRY);
    bytes.extend_from_slice(&person.0);
    bytes.extend_from_slice(&dead.map_or(0, |dead| dead.at.0).to_le_bytes());
    bytes.extend_from_slice(&dead.map_or(0, |dead| dead.status).to_le_bytes());
    bytes.push(dead.map_or(0, |dead| dead.reason.number()));
    bytes.resize(ENTRY - 4, 0);
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

fn read(bytes: &[u8; ENTRY]) -> Option<(Person, Option<Dead>)> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
        return None;
    }
    let (person, rest) = body.split_first_chunk::<16>()?;
    let (at, rest) = rest.split_first_chunk::<8>()?;
    let (status, rest) = rest.split_first_chunk::<2>()?;
    let (at, status) = (Timestamp(i64::from_le_bytes(*at)), u16::from_le_bytes(*status));
    let dead = Reason::from_number(*rest.first()?).map(|reason| Dead { reason, status, at });
    Some((Person(*person), dead))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(number: u32) -> Person {
        let mut bytes = [7; 16];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        Person(bytes)
    }

    fn dead(reason: Reason) -> Dead {
        Dead { reason, status: 404, at: Timestamp(5) }
    }

    #[test]
    fn they_are_there_after_a_restart_until_they_were_told() {
        let folder = tempfile::tempdir().unwrap();
        let letters = DeadLetters::open(folder.path(), "brevo").unwrap();
        for (number, reason) in (1..).zip(Reason::ALL) {
            letters.add(person(number), dead(reason)).unwrap();
        }
        letters.add(person(1), dead(Reason::Rejected)).unwrap();
        letters.end(person(2)).unwrap();
        letters.end(person(9)).unwrap();
        letters.sync().unwrap();
        drop(letters);
        let path = folder.path().join("brevo.dead");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice(&entry(person(8), Some(dead(Reason::NoId)))[..30]);
        std::fs::write(&path, bytes).unwrap();
        let letters = DeadLetters::open(folder.path(), "brevo").unwrap();
        let all = [
            (person(1), dead(Reason::Rejected)),
            (person(3), dead(Reason::Rejected)),
            (person(4), dead(Reason::Failed)),
        ];
        assert_eq!(letters.list(None, 10), all);
        assert_eq!(letters.list(Some(person(1)), 1), all[1..2]);
        assert_eq!(letters.counts().0[&Reason::Rejected], 2);
        assert_eq!(letters.try_again(|dead| dead.reason == Reason::Rejected), 2);
        assert_eq!((letters.take_again(1), letters.take_again(5)), (vec![person(3)], vec![person(1)]));
        assert!(!letters.has_again() && letters.list(None, 10).len() == 3);
    }

    #[test]
    fn whoever_is_forgotten_leaves_no_trace_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let letters = DeadLetters::open(folder.path(), "brevo").unwrap();
        for number in 1..=3 {
            letters.add(person(number), dead(Reason::NoId)).unwrap();
        }
        letters.end(person(1)).unwrap();
        letters.try_again(|_| true);
        letters.forget(&[person(2)]).unwrap();
        assert_eq!(letters.take_again(10), [person(3)]);
        let bytes = std::fs::read(folder.path().join("brevo.dead")).unwrap();
        assert_eq!(bytes, entry(person(3), Some(dead(Reason::NoId))));
        letters.add(person(4), dead(Reason::NoId)).unwrap();
        assert_eq!(DeadLetters::open(folder.path(), "brevo").unwrap().people(), [person(3), person(4)]);
    }

    #[test]
    fn the_file_does_not_grow_with_those_that_were_told_in_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let letters = DeadLetters::open(folder.path(), "brevo").unwrap();
        for number in 0..30_000 {
            letters.add(person(number), dead(Reason::Failed)).unwrap();
            if number > 0 {
                letters.end(person(number - 1)).unwrap();
            }
        }
        assert_eq!(letters.list(None, 10).len(), 1);
        assert!(
            std::fs::metadata(folder.path().join("brevo.dead")).unwrap().len() < 3 * ENDED * ENTRY as u64
        );
    }
}
