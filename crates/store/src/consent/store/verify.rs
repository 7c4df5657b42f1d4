//! Verifies the whole store: the journal's chain, and the index against it.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::Ordering;

use super::{DAYS, PSEUDONYMS, Store, StoreError, io_error};
use crate::chain::read_head;
use crate::consent::days::Table;
use crate::consent::index::{self, Index, Indexed};
use crate::consent::journal::{Journal, Place};
use crate::consent::key_file;
use crate::consent::pseudonyms::Pseudonyms;
use crate::consent::record::{Payload, Record};

/// How often the comparison begins anew while others write.
const TRIES: u32 = 5;

/// The result.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Verified {
    /// Records of the journal.
    pub records: u64,
    /// The chain's hash, in hexadecimal.
    pub hash: String,
    /// People in the key file.
    pub people: usize,
    /// Slots of the key file that cannot be opened: their people are unknown.
    pub damaged_slots: u64,
    /// Differences between the index and the journal.
    pub differing: u64,
    /// People in the journal who were not erased and have no slot in the key file: they are unknown.
    #[serde(default)]
    pub unknown_people: u64,
    /// Other damaged files, each with what is wrong and what to do.
    #[serde(default)]
    pub damaged_files: Vec<String>,
}

impl Verified {
    /// Returns whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.damaged_slots == 0
            && self.differing == 0
            && self.unknown_people == 0
            && self.damaged_files.is_empty()
    }
}

/// People by the end of their ids, eight bytes each: the start is a time, which many share.
type Ids = HashSet<u64>;

fn short(id: &[u8; 16]) -> u64 {
    id.last_chunk::<8>().copied().map_or(0, u64::from_le_bytes)
}

impl Store {
    /// Reads the whole journal, and compares the index with it. Memory grows by about 16 bytes per person,
    /// and 32 per erased one. Others may write meanwhile.
    ///
    /// # Errors
    ///
    /// When the journal is damaged or the index cannot be read.
    pub fn verify(&self) -> Result<Verified, StoreError> {
        let mut tries = TRIES;
        loop {
            let head = self.head();
            let verified = self.verified()?;
            tries -= 1;
            // Somebody may have been erased while the two were compared.
            if verified.is_sound() || tries == 0 || self.head() == head {
                return Ok(verified);
            }
        }
    }

    fn verified(&self) -> Result<Verified, StoreError> {
        self.settle()?;
        let mut living = Ids::new();
        let damaged_slots = self.shared.key_reader()?.each_id(|id| {
            living.insert(short(&id));
        });
        let damaged_slots = damaged_slots.map_err(io_error("the key file"))?;
        let people = self.people();
        let (mut of_known, mut erased, mut unknown) = (0, Ids::new(), HashMap::<u64, u64>::new());
        let head = self.each_payload(|_, payload| match payload {
            Payload::Record(record) if living.contains(&short(&record.person)) => of_known += 1,
            Payload::Record(record) => *unknown.entry(short(&record.person)).or_default() += 1,
            Payload::Erased(id) => drop(erased.insert(short(&id))),
            Payload::Epoch(_) | Payload::Passed => {}
        })?;
        // The index lags behind what was recorded meanwhile.
        self.settle()?;
        unknown.retain(|id, _| !erased.contains(id));
        let unknown_people = unknown.len() as u64;
        // The index contains people without keys too.
        of_known += unknown.values().sum::<u64>();
        let (mut differing, mut listed, mut long) = (0, 0, HashMap::new());
        for pair in self.shared.index.all() {
            let (key, indexed) = pair.map_err(io_error("the index"))?;
            match indexed.trail.whole() {
                Some(places) => {
                    // What was recorded since the journal was read is not counted.
                    listed += places.iter().filter(|(number, _)| *number <= head.count).count() as u64;
                    differing += u64::from(!self.says(&key, places, &indexed));
                }
                None => drop(long.insert(key, indexed)),
            }
        }
        let (among_long, listed_long) = self.differing_among(&long, head.count)?;
        differing += among_long;
        differing += of_known.abs_diff(listed + listed_long);
        Ok(Verified {
            records: head.count,
            hash: hex::encode(head.hash),
            people,
            damaged_slots,
            differing,
            unknown_people,
            damaged_files: self.damaged_files(head.count > 0)?,
        })
    }

    /// Checks the files beside journal, key file and index.
    fn damaged_files(&self, has_records: bool) -> Result<Vec<String>, StoreError> {
        let settings = &self.shared.settings;
        let directory = &settings.directory;
        let mut found = Vec::new();
        let mut say = |path: &Path, what: String| found.push(format!("{}: {what}", path.display()));
        let path = settings.store_key();
        match key_file::load(&path) {
            Ok(read) if read.tag(&[b"verify"]) == self.shared.store_key.tag(&[b"verify"]) => {}
            Ok(_) => {
                say(&path, "this is not the key in use; restore the right one from its backup".to_owned())
            }
            Err(error) => found.push(error),
        }
        let mut say = |path: &Path, what: String| found.push(format!("{}: {what}", path.display()));
        let restarted =
            "What cannot be read is restarted at the next start, and days before it count as unmeasured";
        let path = directory.join(PSEUDONYMS);
        if let Some(what) = Pseudonyms::inspect(&path, &self.shared.store_key) {
            say(
                &path,
                format!(
                    "{what}. Stop the relay and restore it from the newest backup of the keys. {restarted}"
                ),
            );
        }
        let path = directory.join(DAYS);
        if let Some(what) = Table::inspect(&path) {
            say(&path, format!("{what}. {restarted}"));
        }
        let path = index::mark_path(directory);
        let is_marked = std::fs::read(&path).is_ok_and(|bytes| index::read_mark(&bytes).is_some());
        // Before the first record there is nothing to mark.
        if has_records && !is_marked {
            say(&path, "it cannot be read; the index is rebuilt at the next start".to_owned());
        }
        if let Some(path) = &settings.head_copy
            && let Err(error) = read_head(path)
        {
            say(path, format!("{error}. Delete it once nothing else is wrong; it is written again"));
        }
        if self.shared.is_stopped.load(Ordering::Relaxed) {
            say(directory, "the journal accepts no more; the log says why, then restart".to_owned());
        }
        for path in super::aside::all(directory).map_err(io_error(directory.display().to_string()))? {
            let what = "this file was damaged and set aside. Delete it once it is no longer needed: \
                        docs/operations.md says what it was";
            say(&path, what.to_owned());
        }
        Ok(found)
    }

    /// Returns whether the records in these places lead to the index's value.
    fn says(&self, key: &[u8], places: &[(u64, Place)], indexed: &Indexed) -> bool {
        let mut again = Indexed::default();
        for (number, place) in places {
            let payload =
                Journal::record(&self.shared.settings.directory, *place).map(|(payload, _)| payload);
            let Some(Ok(Payload::Record(record))) = payload.ok().map(|payload| Payload::decode(&payload))
            else {
                return false;
            };
            if key != key_of(&record) {
                return false;
            }
            again.standing.replay(&record, *number);
            again.trail.push(*number, *place);
        }
        again == *indexed
    }

    /// Checks the same for people with many records, which only a scan of the journal finds; also returns how many
    /// of these there are up to this one.
    fn differing_among(&self, long: &HashMap<Vec<u8>, Indexed>, last: u64) -> Result<(u64, u64), StoreError> {
        if long.is_empty() {
            return Ok((0, 0));
        }
        let mut listed = 0;
        let mut again: HashMap<Vec<u8>, Indexed> = HashMap::new();
        Journal::read(&self.shared.settings.directory, |head, place, payload| {
            if let Ok(Payload::Record(record)) = Payload::decode(payload) {
                let key = key_of(&record);
                // What came after the index was read is not in it.
                if long.get(&key).is_some_and(|indexed| head.count <= indexed.trail.newest()) {
                    listed += u64::from(head.count <= last);
                    let known = again.entry(key).or_default();
                    known.standing.replay(&record, head.count);
                    known.trail.push(head.count, place);
                }
            }
        })?;
        let differing = long.iter().filter(|(key, indexed)| again.get(*key) != Some(*indexed)).count() as u64;
        Ok((differing, listed))
    }
}

fn key_of(record: &Record) -> Vec<u8> {
    crate::consent::index::key(record.change.controller.as_str(), &record.person)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::Verified;
    use crate::consent::{Change, Settings, State, Store, Timestamp};
    use crate::policy::Purpose;

    #[test]
    fn a_store_that_is_written_to_is_not_taken_to_be_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&Settings { segment_bytes: 5000, ..Settings::at(folder.path()) }).unwrap();
        let ends = AtomicBool::new(false);
        let all: Vec<Verified> = std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut at = 0;
                while !ends.load(Ordering::Relaxed) {
                    at += 1;
                    // Some say something again and again.
                    let person = store.person(&format!("p{}@home.example", at % 7));
                    let state = if at % 2 == 0 { State::Granted } else { State::Refused };
                    let purposes = vec![Purpose::Personalisation];
                    let mut change = Change::new("shop".parse().unwrap(), purposes, state, Timestamp(at));
                    change.details.evidence = Some("form".to_owned());
                    let _ = store.record(vec![(person, change)]).unwrap();
                }
            });
            let all = (0..40).map(|_| store.verify().unwrap()).collect();
            ends.store(true, Ordering::Relaxed);
            all
        });
        assert!(all.iter().all(Verified::is_sound), "{all:?}");
    }
}
