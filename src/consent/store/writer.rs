//! The thread that writes: it commits many changes at once, and brings the index up to the journal.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, PoisonError, mpsc};
use std::time::Duration;

use super::{Ack, Applied, Job, Shared, StoreError, io_error, locked};
use crate::consent::Person;
use crate::consent::index::{Entry, Index, key};
use crate::consent::journal::Journal;
use crate::consent::record::{Change, Record, State};
use crate::consent::standing::{Merge, Standing};
use crate::consent::timestamp::Timestamp;

/// How far a clock may be ahead of ours, in milliseconds.
const FUTURE: i64 = 5 * 60 * 1000;
/// Writes that are committed at once at most.
const MAX_GROUP: usize = 4096;
/// Entries that are kept out of the index before it is brought up to date.
const MAX_OVERLAY: usize = 20_000;
/// How long the index may lag while nothing else is written.
const LAG: Duration = Duration::from_millis(200);
/// The one thread that writes.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) journal: Journal,
    /// Keys whose standing the index does not contain yet.
    pub(super) pending: Vec<Vec<u8>>,
}

/// A batch that was judged and waits for the commit.
type Judged = (Vec<Applied>, Ack<Vec<Applied>>);

impl Writer {
    pub(super) fn run(mut self, jobs: &mpsc::Receiver<Job>) {
        loop {
            let first = match jobs.recv_timeout(LAG) {
                Ok(job) => job,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    self.bring_index_up();
                    continue;
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            };
            let mut group = vec![first];
            while group.len() < MAX_GROUP {
                match jobs.try_recv() {
                    Ok(job) => group.push(job),
                    Err(_) => break,
                }
            }
            self.commit(group);
            if self.pending.len() >= MAX_OVERLAY {
                self.bring_index_up();
            }
        }
        self.bring_index_up();
    }

    /// Commits the records of a group together; erasures and the like stand between.
    fn commit(&mut self, group: Vec<Job>) {
        let mut payloads = Vec::new();
        let mut fresh: HashMap<Vec<u8>, Standing> = HashMap::new();
        let mut waiting: Vec<Judged> = Vec::new();
        for job in group {
            match job {
                Job::Record(changes, ack) => match self.judge(changes, &mut payloads, &mut fresh) {
                    Ok(applied) => waiting.push((applied, ack)),
                    Err(error) => ack(Err(error)),
                },
                Job::Erase(person, ack) => {
                    self.make_durable(&mut payloads, &mut fresh, &mut waiting);
                    ack(self.erase(person));
                }
                Job::Settle(ack) => {
                    self.make_durable(&mut payloads, &mut fresh, &mut waiting);
                    self.bring_index_up();
                    ack(Ok(()));
                }
            }
        }
        self.make_durable(&mut payloads, &mut fresh, &mut waiting);
    }

    /// What becomes of each change; those that count become payloads.
    fn judge(
        &mut self,
        changes: Vec<(Person, Change)>,
        payloads: &mut Vec<Vec<u8>>,
        fresh: &mut HashMap<Vec<u8>, Standing>,
    ) -> Result<Vec<Applied>, StoreError> {
        let now = Timestamp::now();
        let mut applied = Vec::with_capacity(changes.len());
        for (person, mut change) in changes {
            if change.event_at.0 > now.0 + FUTURE {
                applied.push(Applied::InFuture);
                continue;
            }
            let has_evidence = change.details.evidence.is_some();
            if change.state == State::Granted && !has_evidence {
                // Nobody can prove it, so it is not a grant (N22).
                change.state = if change.asked_at.is_some() { State::Asked } else { State::NeverAsked };
            }
            if !has_evidence {
                // Nor does anybody know then when the address was collected (N29).
                change.collected_at = None;
            }
            let mut keys = self.shared.keys.write().unwrap_or_else(PoisonError::into_inner);
            let entry = keys.find_or_create(person).map_err(io_error("the key file"))?;
            let secret = keys.key(entry).map_err(io_error("the key file"))?;
            drop(keys);
            let key = key(change.controller.as_str(), &entry.id);
            let mut standing = match fresh.get(&key) {
                Some(standing) => standing.clone(),
                None => self.shared.standing(&key)?.as_ref().clone(),
            };
            let number = self.journal.head().count + payloads.len() as u64 + 1;
            match standing.merge(&change, number, has_evidence) {
                Merge::Taken => {
                    payloads.push(Record::new(entry.id, &secret, now, &change).encode());
                    fresh.insert(key, standing);
                    applied.push(Applied::Recorded(number));
                }
                Merge::Stale => applied.push(Applied::Stale),
                Merge::SupersededByWithdrawal => applied.push(Applied::SupersededByWithdrawal),
            }
        }
        Ok(applied)
    }

    /// Syncs the key file, then the journal; then what was said holds, and is acknowledged.
    fn make_durable(
        &mut self,
        payloads: &mut Vec<Vec<u8>>,
        fresh: &mut HashMap<Vec<u8>, Standing>,
        waiting: &mut Vec<Judged>,
    ) {
        if payloads.is_empty() {
            for (applied, ack) in waiting.drain(..) {
                ack(Ok(applied));
            }
            return;
        }
        let synced = self.shared.keys.write().unwrap_or_else(PoisonError::into_inner).sync();
        let written =
            synced.map_err(io_error("the key file")).and_then(|()| Ok(self.journal.append(payloads)?));
        payloads.clear();
        match written {
            Ok(_) => {
                *locked(&self.shared.head) = self.journal.head();
                let mut overlay = self.shared.overlay.write().unwrap_or_else(PoisonError::into_inner);
                for (key, standing) in fresh.drain() {
                    overlay.insert(key.clone(), Arc::new(standing));
                    self.pending.push(key);
                }
                drop(overlay);
                for (applied, ack) in waiting.drain(..) {
                    ack(Ok(applied));
                }
            }
            Err(error) => {
                tracing::error!(%error, "consent could not be recorded");
                fresh.clear();
                let text = error.to_string();
                for (_, ack) in waiting.drain(..) {
                    ack(Err(StoreError::Io {
                        what: "not recorded".to_owned(),
                        source: io::Error::other(text.clone()),
                    }));
                }
            }
        }
    }

    fn erase(&mut self, person: Person) -> Result<bool, StoreError> {
        self.bring_index_up();
        let id = self
            .shared
            .keys
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .erase(person)
            .map_err(io_error("the key file"))?;
        let Some(id) = id else { return Ok(false) };
        let keys: Vec<Vec<u8>> = self
            .shared
            .index
            .all()
            .filter_map(Result::ok)
            .map(|(key, _)| key)
            .filter(|key| key.ends_with(&id))
            .collect();
        self.shared.index.forget(&keys, self.journal.head().count).map_err(io_error("the index"))?;
        for key in &keys {
            self.shared.cache.drop_key(key);
        }
        Ok(true)
    }

    /// Puts into the index what it lacks. Failing is logged: the overlay still has it, and the journal.
    fn bring_index_up(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let entries: Vec<Entry> = {
            let overlay = self.shared.overlay.read().unwrap_or_else(PoisonError::into_inner);
            let standing = |key: &Vec<u8>| {
                overlay
                    .get(key)
                    .map(|standing| Entry { key: key.clone(), standing: standing.as_ref().clone() })
            };
            self.pending.iter().filter_map(standing).collect()
        };
        match self.shared.index.apply(&entries, self.journal.head().count) {
            Ok(()) => {
                for key in &self.pending {
                    self.shared.cache.drop_key(key);
                }
                self.pending.clear();
                self.shared.overlay.write().unwrap_or_else(PoisonError::into_inner).clear();
            }
            Err(error) => {
                tracing::error!(%error, "the index could not be written; it will be brought up to the journal later")
            }
        }
    }
}
