//! Which records changed what counts, for whoever is told of such changes and was not there.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Store, StoreError, io_error};
use crate::consent::record::{Payload, Proof};
use crate::consent::standing::{Merge, Standing};
use crate::consent::{Controller, Person};

impl Store {
    /// Returns the records after one number and up to another that changed what counts towards a controller, with
    /// their people, oldest first: those that a [`Watcher`](super::Watcher) was told of. Erased people are left out.
    /// Reads the whole journal twice.
    ///
    /// # Errors
    ///
    /// When a file of the store cannot be read.
    pub fn taken(
        &self,
        controller: &Controller,
        after: u64,
        up_to: u64,
    ) -> Result<Vec<(u64, Person)>, StoreError> {
        let is_wanted = |number: u64| number > after && number <= up_to;
        let mut ids = HashSet::new();
        self.each_payload(|number, payload| match payload {
            Payload::Record(record) if is_wanted(number) && record.change.controller == *controller => {
                ids.insert(record.person);
            }
            Payload::Record(_) | Payload::Erased(_) | Payload::Epoch(_) | Payload::Passed => {}
        })?;
        let found = self.shared.key_reader()?.people_of(&ids).map_err(io_error("the key file"))?;
        let people: HashMap<[u8; 16], Person> = found.into_iter().collect();
        let mut standings: HashMap<[u8; 16], Standing> = HashMap::new();
        let mut taken = BTreeMap::new();
        self.each_payload(|number, payload| {
            let Payload::Record(record) = payload else { return };
            let Some(person) = people.get(&record.person) else { return };
            if record.change.controller != *controller || number > up_to {
                return;
            }
            let standing = standings.entry(record.person).or_insert_with(Standing::unknown);
            let merged = standing.merge(&record.change, number, record.proof == Proof::Given);
            if merged.answer == Merge::Taken && is_wanted(number) {
                taken.insert(number, *person);
            }
        })?;
        Ok(taken.into_iter().collect())
    }
}
