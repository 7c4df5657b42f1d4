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
    /// and 32 per erased one.
    ///
    /// # Errors
    ///
    /// When the journal is damaged or the index cannot be read.
    pub fn verify(&self) -> Result<Verified, StoreError> {
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
        unknown.retain(|id, _| !erased.contains(id));
        let unknown_people = unknown.len() as u64;
        // The index contains people without keys too.
        of_known += unknown.values().sum::<u64>();
        let (mut differing, mut listed, mut long) = (0, 0, HashMap::new());
        for pair in self.shared.index.all() {
            let (key, indexed) = pair.map_err(io_error("the index"))?;
            listed += indexed.trail.count();
            match indexed.trail.whole() {
                Some(places) => differing += u64::from(!self.says(&key, places, &indexed)),
                None => drop(long.insert(key, indexed)),
            }
        }
        differing += self.differing_among(&mut long)?;
        differing += of_known.abs_diff(listed);
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

    /// Checks the same for people with many records, which only a scan of the journal finds.
    fn differing_among(&self, long: &mut HashMap<Vec<u8>, Indexed>) -> Result<u64, StoreError> {
        if long.is_empty() {
            return Ok(0);
        }
        let mut again: HashMap<Vec<u8>, Indexed> = HashMap::new();
        Journal::read(&self.shared.settings.directory, |head, place, payload| {
            if let Ok(Payload::Record(record)) = Payload::decode(payload) {
                let key = key_of(&record);
                if long.contains_key(&key) {
                    let known = again.entry(key).or_default();
                    known.standing.replay(&record, head.count);
                    known.trail.push(head.count, place);
                }
            }
        })?;
        Ok(long.iter().filter(|(key, indexed)| again.get(*key) != Some(*indexed)).count() as u64)
    }
}

fn key_of(record: &Record) -> Vec<u8> {
    crate::consent::index::key(record.change.controller.as_str(), &record.person)
}
