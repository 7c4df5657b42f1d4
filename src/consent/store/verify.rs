//! A look through the whole store: the journal's chain, and the index against it.

use std::collections::{HashMap, HashSet};

use super::{Store, StoreError, hex, io_error};
use crate::consent::index::{Index, Indexed};
use crate::consent::journal::{Journal, Place};
use crate::consent::record::{Payload, Record};

/// What it found.
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
    /// Places in which the index is not what the journal says.
    pub differing: u64,
}

/// People by the end of their ids, eight bytes each: the start is a time, which many share.
type Ids = HashSet<u64>;

fn short(id: &[u8; 16]) -> u64 {
    id.last_chunk::<8>().copied().map_or(0, u64::from_le_bytes)
}

impl Store {
    /// Looks through the whole journal, and compares the index with it. Memory grows by some 16 bytes a person.
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
        let mut of_living = 0;
        let head =
            self.each_record(|_, record| of_living += u64::from(living.contains(&short(&record.person))))?;
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
        differing += of_living.abs_diff(listed);
        Ok(Verified { records: head.count, hash: hex(&head.hash), people, damaged_slots, differing })
    }

    /// Whether the records in these places lead to what the index has.
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

    /// The same for those with many records, which only a look through the journal finds.
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
