//! The writer thread: it commits many changes at once, and brings the index up to date with the journal.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, mpsc};
use std::time::Duration;

use super::indexer::Indexer;
use super::{Ack, Applied, Job, Noted, Shared, StoreError, io_error, locked};
use crate::consent::Person;
use crate::consent::index::{Entry, Index, Indexed, key};
use crate::consent::journal::{Checkpoint, Journal, Place};
use crate::consent::ordered::{Expired, Ordered, Outcome, Said, Step};
use crate::consent::record::{Change, Proof, Record, State, Timing, erased, passed};
use crate::consent::standing::{Merge, Standing};
use crate::consent::timestamp::Timestamp;

/// How far another clock may be ahead of ours, in milliseconds.
const FUTURE: i64 = 5 * 60 * 1000;
/// How far a change that is made now may be moved silently, in milliseconds: several things are said at once,
/// one after another.
const UNNOTED: u64 = 1000;
/// The number of changes that are committed at once; the batch that exceeds it is included.
const MAX_GROUP: usize = 8192;
/// The number of entries that are kept out of the index before it is brought up to date.
const MAX_OVERLAY: usize = 20_000;
/// How long the index may lag while nothing else is written.
const LAG: Duration = Duration::from_millis(200);
/// The one thread that writes.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) journal: Journal,
    /// Keys that were not handed over to the index yet.
    pending: Vec<Vec<u8>>,
    indexer: Indexer,
    /// The record up to which the index has or will have everything.
    handed_over: Option<Checkpoint>,
}

/// What waits to be committed together.
#[derive(Default)]
struct Group {
    payloads: Vec<Vec<u8>>,
    /// The index key of each payload.
    keys: Vec<Vec<u8>>,
    /// The keys under which the cache may keep what was read.
    cached: Vec<Vec<u8>>,
    fresh: HashMap<Vec<u8>, Indexed>,
    /// What a watcher is told.
    noted: Vec<Noted>,
    waiting: Vec<(Vec<Applied>, Ack<Vec<Applied>>)>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, journal: Journal) -> io::Result<Writer> {
        let indexer = Indexer::start(Arc::clone(&shared))?;
        let handed_over = shared.index.checkpoint();
        Ok(Writer { shared, journal, pending: Vec::new(), indexer, handed_over })
    }

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
            let mut size = first.size();
            let mut jobs_of_group = vec![first];
            while size < MAX_GROUP {
                match jobs.try_recv() {
                    Ok(job) => {
                        size += job.size();
                        jobs_of_group.push(job);
                    }
                    Err(_) => break,
                }
            }
            self.commit(jobs_of_group);
            if self.pending.len() >= MAX_OVERLAY {
                self.bring_index_up();
            }
        }
        self.bring_index_up();
    }

    /// Commits the records of a group together; erasures and the like separate groups.
    fn commit(&mut self, jobs: Vec<Job>) {
        let mut group = Group::default();
        for job in jobs {
            match job {
                Job::Said(Said::Changes(changes, ack)) => match self.judge(changes, &mut group) {
                    Ok(applied) => group.waiting.push((applied, ack)),
                    Err(error) => ack(Err(error)),
                },
                Job::Said(Said::ChangeIf(change, condition, ack)) => {
                    let judged = self.holds(&change, condition, &group).and_then(|holds| match holds {
                        true => self.judge(vec![*change], &mut group),
                        false => Ok(vec![Applied::Conflicting]),
                    });
                    match judged {
                        Ok(applied) => {
                            group.waiting.push((applied, Box::new(|done| ack(done.and_then(only)))))
                        }
                        Err(error) => ack(Err(error)),
                    }
                }
                Job::Said(Said::Erase(person, ack)) => {
                    self.make_durable(&mut group);
                    ack(self.erase(person, Timestamp::now(), None));
                }
                Job::Said(Said::Expire(expired, ack)) => {
                    self.make_durable(&mut group);
                    ack(self.expire(expired, Timestamp::now(), None));
                }
                // A relay on its own has no other that could do it, too.
                Job::Said(Said::Once(_, _, ack) | Said::Lease(_, _, _, ack)) => ack(Ok(true)),
                Job::Apply(steps, ack) => {
                    self.make_durable(&mut group);
                    ack(self.apply(steps));
                }
                Job::Settle(ack) => {
                    self.make_durable(&mut group);
                    ack(self.settle());
                }
                Job::Copy(to, ack) => {
                    self.make_durable(&mut group);
                    ack(self.copy(&to));
                }
            }
        }
        self.make_durable(&mut group);
    }

    /// Returns whether the current consent satisfies a condition.
    fn holds(
        &self,
        (person, change): &(Person, Change),
        condition: super::Condition,
        group: &Group,
    ) -> Result<bool, StoreError> {
        let Some(entry) = self.shared.entry(*person) else { return Ok(condition(&Standing::unknown())) };
        let key = key(change.controller.as_str(), &entry.id);
        if let Some(indexed) = group.fresh.get(&key) {
            return Ok(condition(&indexed.standing));
        }
        let indexed = self.shared.indexed(&key)?;
        Ok(condition(&indexed.map_or_else(Standing::unknown, |indexed| indexed.standing.clone())))
    }

    /// Determines the result of each change; those that count become payloads.
    fn judge(
        &mut self,
        changes: Vec<(Person, Change)>,
        group: &mut Group,
    ) -> Result<Vec<Applied>, StoreError> {
        let now = Timestamp::now();
        let mut applied = Vec::with_capacity(changes.len());
        for (person, change) in changes {
            let change = match prepared(change, now) {
                Ok(change) => change,
                Err(instead) => {
                    applied.push(instead);
                    continue;
                }
            };
            let (entry, is_new) = self
                .shared
                .keys
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .find_or_create(person)
                .map_err(io_error("the key file"))?;
            let record = Record::new(entry.id, &entry.sealer(), now, &change);
            applied.push(self.take(person, record, change.timing, is_new, group)?);
        }
        Ok(applied)
    }

    /// Joins a record with everything said before it. Nothing else matters here, neither a clock nor the
    /// relay: the same records in the same order lead to the same journal.
    fn take(
        &mut self,
        person: Person,
        mut record: Record,
        timing: Timing,
        is_new: bool,
        group: &mut Group,
    ) -> Result<Applied, StoreError> {
        let key_of_index = key(record.change.controller.as_str(), &record.person);
        let mut indexed = match group.fresh.get(&key_of_index) {
            Some(indexed) => indexed.clone(),
            None if is_new => Indexed::default(),
            None => self
                .shared
                .indexed(&key_of_index)?
                .map_or_else(Indexed::default, |indexed| (*indexed).clone()),
        };
        let number = self.journal.head().count + group.payloads.len() as u64 + 1;
        record.change.timing = timing;
        settle_time(&mut record.change, &indexed.standing, record.recorded_at);
        record.change.timing = Timing::Claimed;
        let merged = indexed.standing.merge(&record.change, number, record.proof == Proof::Given);
        if merged.is_news {
            let controller = &record.change.controller;
            group.payloads.push(record.encode());
            group.keys.push(key_of_index.clone());
            group.cached.push(key(controller.as_str(), &person.0));
            group.fresh.insert(key_of_index, indexed);
            // Nobody is told of what is recorded only for ordering: it changes nothing now.
            if merged.answer == Merge::Taken {
                group.noted.push(Noted { number, person, controller: controller.clone() });
            }
        }
        Ok(match (merged.answer, record.change.claimed_at) {
            (Merge::Taken, None) => Applied::Recorded(number),
            (Merge::Taken, Some(_)) => Applied::Moved { number, at: record.change.event_at },
            (Merge::Stale, _) => Applied::Stale,
            (Merge::SupersededByWithdrawal, _) => Applied::SupersededByWithdrawal,
        })
    }

    /// Applies messages of the common order. Each has a position, and those up to the last one are skipped.
    fn apply(&mut self, steps: Vec<(u64, Step)>) -> Result<Vec<Outcome>, StoreError> {
        let mut group = Group::default();
        let mut outcomes = Vec::with_capacity(steps.len());
        let mut last = self.shared.position.load(Ordering::Acquire);
        for (position, step) in steps {
            if position <= last {
                outcomes.push(Outcome::Before);
                continue;
            }
            if step.needs_the_ones_before() {
                self.write_out(&mut group)?;
                self.shared.position.store(last, Ordering::Release);
            }
            outcomes.push(match step {
                Step::Key { person, id, key } => {
                    self.shared.take_key(person, id, key)?;
                    Outcome::Key
                }
                Step::Change(ordered) => self.take_ordered(*ordered, position, &mut group)?,
                Step::First { key, change } => {
                    self.shared.take_key(change.person, change.record.person, key)?;
                    self.take_ordered(*change, position, &mut group)?
                }
                Step::Begin { epoch, head } => {
                    if self.journal.head() != head {
                        return Err(StoreError::Misfit("it began after another journal than this one"));
                    }
                    self.append(&[epoch.encode()])?;
                    Outcome::Begun
                }
                Step::Erase { person, at } => Outcome::Erased(self.erase(person, at, Some(position))?),
                Step::Expire { people, at } => Outcome::Expired(self.expire(people, at, Some(position))?),
            });
            last = position;
        }
        self.write_out(&mut group)?;
        self.shared.position.store(last, Ordering::Release);
        Ok(outcomes)
    }

    /// Takes in a change of the common order.
    fn take_ordered(
        &mut self,
        ordered: Ordered,
        position: u64,
        group: &mut Group,
    ) -> Result<Outcome, StoreError> {
        let Ordered { person, mut record, timing, expected } = ordered;
        if self.shared.entry(person).is_none_or(|entry| entry.id != record.person) {
            return Ok(Outcome::Gone);
        }
        if let Some(expected) = expected {
            let indexed = self.shared.indexed(&key(record.change.controller.as_str(), &record.person))?;
            if indexed.map_or(0, |indexed| indexed.trail.newest()) != expected {
                return Ok(Outcome::Change(Applied::Conflicting));
            }
        }
        record.position = Some(position);
        self.take(person, record, timing, false, group).map(Outcome::Change)
    }

    /// Makes a group durable; then its changes take effect, and are acknowledged.
    fn make_durable(&mut self, group: &mut Group) {
        let waiting = std::mem::take(&mut group.waiting);
        match self.write_out(group) {
            Ok(()) => waiting.into_iter().for_each(|(applied, ack)| ack(Ok(applied))),
            Err(error) => {
                let kind = error.kind();
                let text = error.to_string();
                for (_, ack) in waiting {
                    let source = io::Error::new(kind, text.clone());
                    ack(Err(StoreError::Io { what: "not recorded".to_owned(), source }));
                }
            }
        }
    }

    /// Syncs the key file, then the journal; then the changes take effect.
    fn write_out(&mut self, group: &mut Group) -> Result<(), StoreError> {
        let group = std::mem::take(group);
        if group.payloads.is_empty() {
            return Ok(());
        }
        if let Some(watcher) = self.shared.watcher.get() {
            watcher.before(&group.noted);
        }
        let written = self.write(&group.payloads, group.keys, group.fresh);
        if let Some(watcher) = self.shared.watcher.get() {
            watcher.after(written.is_ok());
        }
        match &written {
            Ok(()) => group.cached.iter().for_each(|key| self.shared.cache.drop_key(key)),
            Err(error) => {
                tracing::error!(%error, "consent could not be recorded");
                if self.journal.is_stopped() {
                    self.shared.is_stopped.store(true, Ordering::Relaxed);
                    metrics::gauge!("pixelward_consent_store_sound").set(0.0);
                }
            }
        }
        written
    }

    /// Appends payloads to the journal, durably.
    fn append(&mut self, payloads: &[Vec<u8>]) -> Result<Vec<Place>, StoreError> {
        let before = self.journal.head();
        let places = self.journal.append(payloads)?;
        *locked(&self.shared.head) = self.journal.head();
        if self.shared.order.get().is_some() {
            self.shared.hashes.note(before, payloads);
        }
        Ok(places)
    }

    fn write(
        &mut self,
        payloads: &[Vec<u8>],
        keys: Vec<Vec<u8>>,
        mut fresh: HashMap<Vec<u8>, Indexed>,
    ) -> Result<(), StoreError> {
        let synced = self.shared.keys.write().unwrap_or_else(PoisonError::into_inner).sync();
        synced.map_err(io_error("the key file"))?;
        let first = self.journal.head().count + 1;
        let places = self.append(payloads)?;
        for ((number, place), key) in (first..).zip(places).zip(&keys) {
            if let Some(indexed) = fresh.get_mut(key) {
                indexed.trail.push(number, place);
            }
        }
        let mut overlay = self.shared.overlay.write().unwrap_or_else(PoisonError::into_inner);
        for (key, indexed) in fresh {
            overlay.insert(key.clone(), Arc::new(indexed));
            self.pending.push(key);
        }
        Ok(())
    }

    /// The journal records first that the person is erased, so that a key that comes back from a backup does
    /// not count.
    fn erase(&mut self, person: Person, at: Timestamp, position: Option<u64>) -> Result<bool, StoreError> {
        // Audit records name people whom the journal does not know, too.
        self.shared.unname(person)?;
        let Some(entry) = self.shared.entry(person) else {
            // Somebody may get a key after this: if it came again after a crash, it would erase them.
            position.map(|position| self.append(&[passed(position)])).transpose()?;
            return Ok(false);
        };
        self.settle()?;
        self.append(&[erased(&entry.id, at, position)])?;
        let slot = self.shared.keys.write().unwrap_or_else(PoisonError::into_inner).erase(person);
        slot.map_err(io_error("the key file"))?;
        let keys = self.shared.index.keys_of(&entry.id).map_err(io_error("the index"))?;
        self.shared.index.forget(&keys).map_err(io_error("the index"))?;
        for key in &keys {
            let controller = key.split_last_chunk::<16>().map_or(&[][..], |(controller, _)| controller);
            self.shared.cache.drop_key(&[controller, &person.0].concat());
        }
        Ok(true)
    }

    /// Erases people about whom nothing was recorded meanwhile; returns how many.
    fn expire(
        &mut self,
        mut expired: Vec<Expired>,
        at: Timestamp,
        position: Option<u64>,
    ) -> Result<u64, StoreError> {
        self.settle()?;
        let is_as_it_was = |expired: &Expired| -> Result<bool, StoreError> {
            let is_same = |now: Arc<Indexed>| now.trail.newest() == expired.newest;
            let keys = self.shared.index.keys_of(&expired.id).map_err(io_error("the index"))?;
            Ok(keys.len() == 1 && self.shared.indexed(&expired.key)?.is_some_and(is_same))
        };
        let kept: Vec<bool> = expired.iter().map(is_as_it_was).collect::<Result<_, _>>()?;
        let mut kept = kept.into_iter();
        expired.retain(|_| kept.next().unwrap_or(false));
        let ids = expired.iter().map(|expired| expired.id).collect();
        let slots = self.shared.key_reader()?.slots_of(&ids).map_err(io_error("the key file"))?;
        for slot in &slots {
            // Audit records must not name them any longer than the journal does.
            self.shared.unname(slot.person)?;
        }
        let payloads: Vec<Vec<u8>> =
            expired.iter().map(|expired| erased(&expired.id, at, position)).collect();
        self.append(&payloads)?;
        let mut keys = self.shared.keys.write().unwrap_or_else(PoisonError::into_inner);
        let count = keys.erasures() + expired.len() as u64;
        keys.erase_slots(&slots).and_then(|()| keys.set_erasures(count)).map_err(io_error("the key file"))?;
        drop(keys);
        for person in &expired {
            self.shared.index.forget(std::slice::from_ref(&person.key)).map_err(io_error("the index"))?;
        }
        self.shared.cache.clear();
        Ok(expired.len() as u64)
    }

    /// Returns what the index lacks, and up to which record that goes; `None` if it lacks nothing.
    fn lacking(&mut self) -> Option<(Vec<Entry>, Checkpoint)> {
        let checkpoint =
            self.journal.checkpoint().filter(|checkpoint| self.handed_over != Some(*checkpoint))?;
        self.handed_over = Some(checkpoint);
        let overlay = self.shared.overlay.read().unwrap_or_else(PoisonError::into_inner);
        let entry = |key: Vec<u8>| {
            let indexed = Arc::clone(overlay.get(&key)?);
            Some(Entry { key, indexed })
        };
        Some((self.pending.drain(..).filter_map(entry).collect(), checkpoint))
    }

    /// Hands over to the index what it lacks, without waiting for it.
    fn bring_index_up(&mut self) {
        if let Some((entries, checkpoint)) = self.lacking()
            && let Err(error) = self.indexer.take(entries, checkpoint)
        {
            tracing::error!(%error, "the index receives no more changes; they are in the journal");
        }
    }

    /// Waits until the index has everything in the journal.
    fn settle(&mut self) -> Result<(), StoreError> {
        let (entries, checkpoint) = match self.lacking() {
            Some(lacking) => lacking,
            None => match self.journal.checkpoint() {
                Some(checkpoint) => (Vec::new(), checkpoint),
                None => return Ok(()),
            },
        };
        self.indexer.settle(entries, checkpoint)
    }
}

/// Judges what depends on the clock and on nothing else: a time ahead of it, and grants that nothing proves.
pub(super) fn prepared(mut change: Change, now: Timestamp) -> Result<Change, Applied> {
    let is_ahead = change.timing == Timing::Claimed && change.event_at.0 > now.0 + FUTURE;
    if is_ahead && !change.is_strict() {
        return Err(Applied::InFuture);
    }
    let has_evidence = change.details.evidence.is_some();
    if change.state == State::Granted && (!has_evidence || is_ahead) {
        // It cannot be proved, so it is not a grant (N22).
        change.state = if change.asked_at.is_some() { State::Asked } else { State::NeverAsked };
        change.is_unproved_grant = !has_evidence;
    }
    if !has_evidence {
        // Nor is it known then when the address was collected (N29).
        change.collected_at = None;
    }
    Ok(change)
}

/// Gives a change its effective time. What is said now comes after everything known, so it is never too old
/// and never too early, whatever the clock did meanwhile. A claimed time is kept, except for what makes
/// things stricter: that is never rejected for its time, nor because of something ahead of our clock. The
/// claimed time is kept beside it.
pub(super) fn settle_time(change: &mut Change, standing: &Standing, now: Timestamp) {
    let behind = |newest: Timestamp| Timestamp(newest.0.saturating_add(1));
    let claimed = match change.timing {
        Timing::Now => now,
        Timing::Claimed => change.event_at,
    };
    change.event_at = match change.timing {
        Timing::Now => standing.newest_event().map_or(now, |newest| now.max(behind(newest))),
        Timing::Claimed if change.is_strict() => {
            let valid = if claimed.0 > now.0 + FUTURE { now } else { claimed };
            let ahead = standing.newest_event_about(change).filter(|newest| *newest > now);
            ahead.map_or(valid, |newest| valid.max(behind(newest)))
        }
        Timing::Claimed => claimed,
    };
    let moved = change.event_at.0.abs_diff(claimed.0);
    let is_worth_a_word = match change.timing {
        Timing::Now => moved > UNNOTED,
        Timing::Claimed => moved > 0,
    };
    change.claimed_at = is_worth_a_word.then_some(claimed);
}

/// Returns the result of the only change.
fn only(applied: Vec<Applied>) -> Result<Applied, StoreError> {
    applied.into_iter().next().ok_or(StoreError::Closed)
}
