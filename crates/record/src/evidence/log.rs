//! The writer thread: it makes records of notes, appends them in batches, and closes segments.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::files::{Folder, OPEN, Segment};
use super::headline::Headline;
use super::keeper::Keeper;
use super::note::Note;
use super::queue::{Next, Queue};
use super::record::Record;
use super::refusals::Refusals;
use super::{MessageIds, Settings, day_of, lost};
use crate::chain::segment::{self, End};
use crate::chain::{ChainError, Head, Tail, at, read_head, write_head};
use crate::consent::{Store, Timestamp};
use crate::statistics::Statistics;

/// How long it waits for further notes once one has come.
const WINDOW: Duration = Duration::from_millis(200);
/// How often it checks whether a day has ended while nothing comes.
const IDLE: Duration = Duration::from_secs(600);
/// How long after the last record counts are written.
const SOON: Duration = Duration::from_secs(1);
/// How long after a failure a chain is reopened.
const PAUSE: Duration = Duration::from_secs(5);
/// The maximum number of records that are appended at once.
const MAX_BATCH: usize = 8192;

/// The state of the writer.
#[derive(Debug)]
pub(super) struct Log {
    settings: Settings,
    store: Arc<Store>,
    message_ids: MessageIds,
    chains: BTreeMap<u16, Chain>,
    statistics: Statistics,
    /// The maintenance thread; `None` if that is done by hand.
    keeper: Option<Keeper>,
    /// Since when writing fails.
    failing: Option<Instant>,
    /// The same, for others to see.
    is_failing: Arc<AtomicBool>,
    /// The day on which segments were last checked.
    today: i64,
    refusals: Refusals,
}

/// The end of one chain.
#[derive(Debug)]
struct Chain {
    folder: Folder,
    tail: Tail,
    /// The day of the first record of the open segment.
    day: Option<i64>,
}

impl Log {
    /// Opens all chains, and counts what the statistics lack.
    pub(super) fn open(
        settings: Settings,
        store: Arc<Store>,
        keeper: Option<Keeper>,
    ) -> Result<Log, ChainError> {
        let directory = &settings.directory;
        Folder::of(directory, settings.retention_days).make()?;
        let mut statistics = Statistics::open(directory, settings.retention_days);
        let refusals = Refusals::default();
        let mut chains = BTreeMap::new();
        for folder in Folder::all(directory)? {
            chains.insert(folder.days, Chain::open(folder, &settings, &mut statistics, &refusals)?);
        }
        keeper.iter().for_each(Keeper::wake);
        let message_ids = MessageIds::new(store.derived_key(MessageIds::LABEL));
        Ok(Log {
            settings,
            store,
            message_ids,
            chains,
            statistics,
            keeper,
            failing: None,
            is_failing: Arc::default(),
            today: day_of(Timestamp::now()),
            refusals,
        })
    }

    /// Writes until the queue is closed.
    pub(super) fn run(&mut self, queue: &Queue) {
        loop {
            // Counts are written soon after the last record, so that a reader sees it.
            let is_due = self.statistics.is_due();
            match queue.next(if is_due { SOON } else { IDLE }, WINDOW) {
                Next::Idle if is_due => self.statistics.save(),
                Next::Write(notes) => self.write(notes),
                Next::Idle => self.close_old_days(),
                Next::End(notes) => {
                    self.write(notes);
                    self.statistics.save();
                    return;
                }
            }
        }
    }

    /// Writes notes, each to the chain of its retention.
    fn write(&mut self, notes: Vec<Note>) {
        if day_of(Timestamp::now()) != self.today {
            self.close_old_days();
        }
        let mut by_days: BTreeMap<u16, Vec<Note>> = BTreeMap::new();
        for note in notes {
            let days = note.days.unwrap_or(u16::MAX).min(self.settings.retention_days);
            by_days.entry(days).or_default().push(note);
        }
        for (days, notes) in by_days {
            let records: usize = notes.iter().map(Note::recipients).sum();
            match self.append(days, &notes) {
                Ok(()) => {
                    metrics::counter!("pixelward_evidence_records_total").increment(records as u64);
                    notes.iter().for_each(|note| self.statistics.take_hosts(note));
                    if self.failing.take().is_some() {
                        self.is_failing.store(false, Ordering::Relaxed);
                        tracing::warn!("audit records can be written again");
                    }
                }
                Err((missing, error)) => self.fail(missing, &error),
            }
        }
        self.statistics.save_if_due();
    }

    fn fail(&mut self, missing: usize, error: &ChainError) {
        // Whoever sees the count or the line is told the same by `/readyz`.
        self.is_failing.store(true, Ordering::Relaxed);
        lost("not_written", missing);
        if self.failing.is_none() {
            tracing::error!(%error, "audit records cannot be written, and are lost; mail continues");
            self.failing = Some(Instant::now());
        }
    }

    /// Publishes whether writing fails, for as long as it lives.
    pub(super) fn is_failing(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_failing)
    }

    /// Returns where the last refusals are kept.
    pub(super) fn refusals(&self) -> Refusals {
        self.refusals.clone()
    }

    /// Appends notes to a chain. An error comes with the number of records that were not written.
    fn append(&mut self, days: u16, notes: &[Note]) -> Result<(), (usize, ChainError)> {
        let all: usize = notes.iter().map(Note::recipients).sum();
        let day = notes.first().map_or(0, |note| day_of(note.at));
        let mut pairs =
            notes.iter().flat_map(|note| note.each().map(move |recipient| (note, recipient))).peekable();
        let mut written = 0;
        while pairs.peek().is_some() {
            let scope = self.prepare(days, day).map_err(|error| (all - written, error))?;
            let mut payloads = Vec::new();
            let mut records = Vec::new();
            for (note, (copy, recipient)) in pairs.by_ref().take(MAX_BATCH) {
                let message_id = self.message_ids.tag(&note.message_id);
                // A missing pseudonym is left out: the record counts all the same.
                let pseudonym = self.store.pseudonym(recipient.person).ok();
                let person = pseudonym.as_ref().map(|pseudonym| pseudonym.tag(&scope));
                let mut record = note.record(copy, recipient, message_id, person);
                let headline = pseudonym.as_ref().zip(Headline::of(note));
                record.headline =
                    headline.map(|(pseudonym, headline)| headline.sealed(pseudonym, &scope, &note.id).into());
                payloads.push(record.encode());
                records.push(record);
            }
            let chain = self.chain(days).map_err(|error| (all - written, error))?;
            let newest = chain.append(&payloads).map_err(|error| (all - written, error))?;
            self.chains.get(&days).into_iter().for_each(|chain| chain.write_head_copy(&self.settings));
            written += payloads.len();
            records.iter().for_each(|record| self.refusals.take(record));
            let first = newest - payloads.len() as u64 + 1;
            (first..).zip(&records).for_each(|(number, record)| self.statistics.take(days, number, record));
        }
        Ok(())
    }

    /// Prepares a chain for records of this day; returns the scope of their tags.
    fn prepare(&mut self, days: u16, day: i64) -> Result<Vec<u8>, ChainError> {
        self.chain(days)?;
        let Log { chains, settings, statistics, keeper, .. } = self;
        let missing = || at(&settings.directory)(std::io::ErrorKind::NotFound.into());
        let chain = chains.get_mut(&days).ok_or_else(missing)?;
        if chain.is_due(day, settings) {
            // After a crash only the open segment is searched for what was not counted yet.
            statistics.save();
        }
        chain.prepare(day, settings, keeper.as_ref())
    }

    /// Returns the chain of a retention, opening it if needed. One that failed permanently is reopened,
    /// though not at once.
    fn chain(&mut self, days: u16) -> Result<&mut Chain, ChainError> {
        let is_broken = self.chains.get(&days).is_some_and(|chain| chain.tail.is_broken());
        let may_try = self.failing.is_none_or(|since| since.elapsed() >= PAUSE);
        if is_broken && may_try {
            self.chains.remove(&days);
            self.failing = self.failing.map(|_| Instant::now());
        }
        if !self.chains.contains_key(&days) {
            let folder = Folder::of(&self.settings.directory, days);
            folder.make()?;
            // What its last segment has is known already.
            let seen = Refusals::default();
            self.chains.insert(days, Chain::open(folder, &self.settings, &mut self.statistics, &seen)?);
        }
        let missing = || at(&self.settings.directory)(std::io::ErrorKind::NotFound.into());
        self.chains.get_mut(&days).ok_or_else(missing)
    }

    /// Closes a segment in which nothing was written since yesterday: it must be able to expire in time.
    fn close_old_days(&mut self) {
        self.today = day_of(Timestamp::now());
        self.statistics.save();
        for chain in self.chains.values_mut() {
            if let Err(error) = chain.prepare(self.today, &self.settings, None) {
                tracing::error!(%error, "a segment of the audit log could not be closed");
            }
        }
        self.keeper.iter().for_each(Keeper::wake);
    }
}

impl Chain {
    /// Opens the end of a chain: reads its last segment, and cuts off a partial last record.
    fn open(
        folder: Folder,
        settings: &Settings,
        statistics: &mut Statistics,
        refusals: &Refusals,
    ) -> Result<Chain, ChainError> {
        let last = folder.segments()?.last().copied();
        let mut head = folder.kept_from()?;
        let mut day = None;
        let number = match last {
            None => 1,
            Some(number) => {
                let segment = folder.read(number)?;
                head = match segment.start() {
                    Some(start) => start,
                    None => before(&folder, number)?,
                };
                let end = segment.walk(&mut head, |head, payload| {
                    if let Ok(record) = Record::decode(payload) {
                        day = day.or(Some(day_of(Timestamp(record.at))));
                        statistics.take(folder.days, head.count, &record);
                        refusals.take(&record);
                    }
                });
                let is_open = tidied(&segment, end)? && !folder.is_packed(number);
                number + u32::from(!is_open)
            }
        };
        warn_of_missing(&folder, head, settings);
        let tail = Tail::open(&folder.path, OPEN, number, head)?;
        Ok(Chain { folder, tail, day })
    }

    /// Closes the open segment if it is full or of another day. Returns the scope of the tags in the segment
    /// that is open then.
    fn prepare(
        &mut self,
        day: i64,
        settings: &Settings,
        keeper: Option<&Keeper>,
    ) -> Result<Vec<u8>, ChainError> {
        if self.is_due(day, settings) {
            self.tail.roll()?;
            keeper.into_iter().for_each(Keeper::wake);
        }
        if self.tail.is_fresh() {
            self.day = Some(day);
        }
        Ok(self.folder.scope(self.tail.number()))
    }

    /// Returns whether the open segment must be closed.
    fn is_due(&self, day: i64, settings: &Settings) -> bool {
        let is_old = self.day.is_some_and(|other| other != day);
        !self.tail.is_fresh() && (is_old || self.tail.length() >= settings.segment_bytes)
    }

    /// Appends records; returns the number of the last one.
    fn append(&mut self, payloads: &[Vec<u8>]) -> Result<u64, ChainError> {
        self.tail.append(payloads)?;
        Ok(self.tail.head().count)
    }

    /// Writes the second copy; a failure is logged and does not undo what is durable.
    fn write_head_copy(&self, settings: &Settings) {
        if let Some(path) = head_copy(&self.folder, settings) {
            let written = path.parent().map_or(Ok(()), std::fs::create_dir_all);
            if let Err(error) = written.and_then(|()| write_head(&path, &self.tail.head())) {
                tracing::error!(
                    path = %path.display(),
                    %error,
                    "the second copy of the end of the audit log could not be written"
                );
            }
        }
    }
}

/// Cuts off an incomplete write. Returns whether the segment can be continued: a damaged one is left as it
/// is, to be examined, and is no reason to stop mail.
fn tidied(segment: &Segment, end: Result<End, ChainError>) -> Result<bool, ChainError> {
    match end {
        Ok(End::Torn { offset, bytes }) if segment.start().is_some() => {
            tracing::warn!(
                file = %segment.path.display(),
                offset,
                bytes,
                "the last batch of audit records was incomplete; it was cut off"
            );
            segment::cut(&segment.path, offset)?;
            Ok(true)
        }
        Ok(_) => Ok(true),
        Err(error) => {
            tracing::error!(%error, "the audit log is damaged; it continues in another segment, and \
                                     `pixelward evidence verify` says what is left");
            Ok(false)
        }
    }
}

/// Returns where the second copy of a chain's end is.
pub(super) fn head_copy(folder: &Folder, settings: &Settings) -> Option<std::path::PathBuf> {
    settings.head_copy.as_ref().map(|directory| directory.join(format!("{:04}.head", folder.days)))
}

/// Returns the end of the chain before a segment whose own head is incomplete, as far as it can be read.
fn before(folder: &Folder, number: u32) -> Result<Head, ChainError> {
    let mut head = folder.kept_from()?;
    let Some(previous) = folder.segments()?.into_iter().rfind(|other| *other < number) else {
        return Ok(head);
    };
    let segment = folder.read(previous)?;
    head = segment.start().unwrap_or(head);
    let _ = segment.walk(&mut head, |_, _| {});
    Ok(head)
}

/// Missing records need attention, and are no reason to stop mail.
fn warn_of_missing(folder: &Folder, head: Head, settings: &Settings) {
    let Some(path) = head_copy(folder, settings) else { return };
    match read_head(&path) {
        Ok(Some(known)) if known.count > head.count => {
            tracing::error!(
                folder = %folder.path.display(),
                found = head.count,
                known = known.count,
                "audit records are missing at the end: an old copy was restored, or records were cut off"
            );
        }
        Err(error) => tracing::error!(%error, "the second copy of the end of the audit log cannot be read"),
        Ok(_) => {}
    }
}
