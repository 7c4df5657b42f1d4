//! The store as one of several that follow a common order.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::writer::prepared;
use super::{Applied, Job, Settings, Shared, Store, StoreError, io_error, locked};
use crate::consent::index::key;
use crate::consent::journal::{ChainHash, Head, Journal};
use crate::consent::ordered::{Heard, Judged, Leased, Name, Order, Outcome, Said, Step, Waiting};
use crate::consent::record::{self, Change, Epoch, Payload, Record};
use crate::consent::{Controller, Person, Timestamp};

/// How many of the latest records are remembered with the chain's hash, to be compared with other relays.
const MAX_HASHES: usize = 1 << 16;

/// The chain's hashes at the latest records.
#[derive(Default)]
pub(super) struct Hashes(Mutex<VecDeque<Head>>);

impl Hashes {
    /// Notes the chain after each of these payloads.
    pub(super) fn note(&self, before: Head, payloads: &[Vec<u8>]) {
        let mut hashes = locked(&self.0);
        let mut head = before;
        for payload in payloads {
            head = head.then(payload);
            hashes.push_back(head);
        }
        let surplus = hashes.len().saturating_sub(MAX_HASHES);
        hashes.drain(..surplus);
    }

    /// Begins with what the journal has already.
    fn begin(&self, head: Head) {
        let mut hashes = locked(&self.0);
        hashes.clear();
        hashes.push_back(head);
    }

    fn at(&self, number: u64) -> Option<ChainHash> {
        let hashes = locked(&self.0);
        let first = hashes.front()?.count;
        let place = usize::try_from(number.checked_sub(first)?).ok()?;
        hashes.get(place).map(|head| head.hash)
    }
}

impl Store {
    /// Makes the store part of a common order: from now on requests go there, and only
    /// [`apply`](Store::apply) changes the store. Returns whether this is the first order.
    pub fn join(&self, order: Arc<dyn Order>) -> bool {
        self.shared.hashes.begin(self.head());
        self.shared.order.set(order).is_ok()
    }

    /// Applies messages of the common order with their positions, in order. Those that were applied before are
    /// skipped. `ack` is called from the writer's thread once everything is durable; after an error, it is
    /// unknown how many were applied: the same messages must come again.
    ///
    /// # Errors
    ///
    /// When the store accepts no more writes.
    pub fn apply(
        &self,
        steps: Vec<(u64, Step)>,
        ack: impl FnOnce(Result<Vec<Outcome>, StoreError>) + Send + 'static,
    ) -> Result<(), StoreError> {
        self.send(Job::Apply(steps, Box::new(ack)))
    }

    /// Returns the position of the last message that was applied; 0 if there was none. After a start it is
    /// that of the journal's last record: messages after it left no record, and may come again.
    pub fn position(&self) -> u64 {
        self.shared.position.load(Ordering::Acquire)
    }

    /// Returns the newest epoch in the journal; `None` if there is none. Reads the whole journal.
    ///
    /// # Errors
    ///
    /// When the journal cannot be read.
    pub fn epoch(&self) -> Result<Option<Epoch>, StoreError> {
        let mut newest = None;
        self.each_payload(|_, payload| {
            if let Payload::Epoch(epoch) = payload {
                newest = Some(epoch);
            }
        })?;
        Ok(newest)
    }

    /// Returns the chain's hash at a record; `None` if that is too long ago, or ahead.
    pub fn hash_at(&self, number: u64) -> Option<ChainHash> {
        let head = self.head();
        if head.count == number { Some(head.hash) } else { self.shared.hashes.at(number) }
    }

    /// Returns the chain's hash at each of these records; `None` beyond the last one. Reads the whole journal, if
    /// there are any.
    ///
    /// # Errors
    ///
    /// When the journal cannot be read or is damaged.
    pub fn hashes_at(&self, numbers: &[u64]) -> Result<Vec<Option<ChainHash>>, StoreError> {
        let mut found = vec![None; numbers.len()];
        if numbers.is_empty() {
            return Ok(found);
        }
        self.each_link(|number, _, _, hash| {
            for (wanted, place) in numbers.iter().zip(&mut found) {
                if *wanted == number {
                    *place = Some(*hash);
                }
            }
        })?;
        Ok(found)
    }

    /// Returns every erasure with the number of its record and when it was requested, oldest first. Reads the whole
    /// journal.
    ///
    /// # Errors
    ///
    /// When the journal cannot be read or is damaged.
    pub fn erasures(&self) -> Result<Vec<(u64, Timestamp)>, StoreError> {
        let mut found = Vec::new();
        self.each_link(|number, _, payload, _| {
            found.extend(record::erased_at(payload).map(|at| (number, at)));
        })?;
        Ok(found)
    }

    /// Judges what depends on the clock and on nothing else, before a change goes into the common order: a
    /// time ahead of the clock, and grants that nothing proves (N22).
    ///
    /// # Errors
    ///
    /// What becomes of it instead.
    pub fn prepared(&self, change: Change, now: Timestamp) -> Result<Change, Applied> {
        prepared(change, now)
    }

    /// Returns whether a person has an id and a key.
    pub fn knows(&self, person: Person) -> bool {
        self.shared.entry(person).is_some()
    }

    /// Builds the record of a change, with details sealed under the person's key; `None` if they have none.
    pub fn sealed(&self, person: Person, change: &Change, now: Timestamp) -> Option<Record> {
        let entry = self.shared.entry(person)?;
        Some(Record::new(entry.id, &entry.sealer(), now, change))
    }

    /// Returns what is known about a person towards a controller.
    ///
    /// # Errors
    ///
    /// When the index cannot be read.
    pub fn judged(&self, controller: &Controller, person: Person) -> Result<Judged, StoreError> {
        let Some(entry) = self.shared.entry(person) else { return Ok(Judged::of(None)) };
        let indexed = self.shared.indexed(&key(controller.as_str(), &entry.id))?;
        Ok(Judged::of(indexed.as_deref()))
    }

    /// Calls `ack` with whether something that must be done once is to be done here: whether no other relay has
    /// claimed its name within this time. A relay on its own does everything; so does one that cannot reach the
    /// others. `name` tells what it is, by pieces of which none is a person in clear.
    ///
    /// # Errors
    ///
    /// When the store accepts no more requests.
    pub fn once_later(
        &self,
        name: &[&[u8]],
        within: Duration,
        ack: impl FnOnce(bool) + Send + 'static,
    ) -> Result<(), StoreError> {
        let name = self.derived_key("once").tag(name);
        self.hand(Said::Once(name, within, Box::new(|first| ack(first.unwrap_or(true)))))
    }

    /// Does the same, and waits on this thread.
    ///
    /// # Errors
    ///
    /// When the store accepts no more requests.
    pub fn once(&self, name: &[&[u8]], within: Duration) -> Result<bool, StoreError> {
        let name = self.derived_key("once").tag(name);
        self.request(|ack| Said::Once(name, within, ack))
    }

    /// Returns the name of something that one relay does at a time. None of its pieces is a person in clear.
    pub fn lease_name(&self, name: &[&[u8]]) -> Name {
        self.derived_key("lease").tag(name)
    }

    /// Returns how something stands that one relay does at a time; `None` for a relay on its own, which does
    /// everything.
    pub fn leased(&self, name: &Name) -> Option<Leased> {
        self.shared.order.get().map(|order| order.leased(name))
    }

    /// Claims something that one relay does at a time, in succession to the claim at this position, and says how far
    /// this relay has come; `ack` is called with whether it holds it now.
    ///
    /// # Errors
    ///
    /// When the store accepts no more requests.
    pub fn lease_later(
        &self,
        name: Name,
        term: u64,
        number: u64,
        ack: impl FnOnce(bool) + Send + 'static,
    ) -> Result<(), StoreError> {
        self.hand(Said::Lease(name, term, number, Box::new(|holds| ack(holds.unwrap_or(false)))))
    }

    /// Puts in force here what was heard and is not in the common order yet.
    pub fn hear(&self, id: [u8; 16], heard: Heard) {
        self.shared.pending.put(id, heard);
    }

    /// Drops it again, because the common order has it.
    pub fn unhear(&self, id: &[u8; 16], person: Person) {
        self.shared.pending.drop_id(id, person);
    }

    /// Returns what seals the things that wait to be brought into the common order.
    pub fn waiting(&self) -> Waiting<'_> {
        Waiting(&self.shared.store_key)
    }
}

impl Shared {
    /// Gives a person the id and key of a message, if they have none.
    pub(super) fn take_key(&self, person: Person, id: [u8; 16], key: [u8; 32]) -> Result<(), StoreError> {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        if keys.find(person).is_none() {
            keys.insert(person, id, key).map_err(io_error("the key file"))?;
        }
        Ok(())
    }
}

/// Returns the position in the common order that the last record of a journal came from; 0 if none.
pub(super) fn last_position(journal: &Journal, settings: &Settings) -> Result<u64, StoreError> {
    let Some(last) = journal.checkpoint() else { return Ok(0) };
    let (payload, _) = Journal::record(&settings.directory, last.last)?;
    let position = record::position(&payload)
        .map_err(|source| StoreError::Record { number: last.head.count, source })?;
    Ok(position.unwrap_or(0))
}

#[cfg(test)]
mod tests;
