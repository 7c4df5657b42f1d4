//! Opens the store: the index is brought up to date with the journal, in bounded memory.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{Settings, StoreError, io_error};
use crate::consent::index::{Entry, Index, Indexed, SledIndex, key};
use crate::consent::journal::{Journal, JournalError, Place};
use crate::consent::keys::Keys;
use crate::consent::pseudonyms::Pseudonyms;
use crate::consent::record::{Payload, Record};

/// How many standings are collected before the index takes them in.
const GATHERED: usize = 50_000;

/// How many records there are between two lines of the log that say how far it is.
const REPORTED: u64 = 1_000_000;

/// Opens journal and index, and brings the index up to date with the journal. An index that does not match is
/// rebuilt.
pub(super) fn load(
    settings: &Settings,
    keys: &mut Keys,
    pseudonyms: &mut Pseudonyms,
) -> Result<(Journal, SledIndex), StoreError> {
    let directory = &settings.directory;
    let mut index = SledIndex::open(directory, settings.cache_bytes).map_err(io_error("the index"))?;
    let mut checkpoint = index.checkpoint();
    if let Some(known) = checkpoint
        && !known.holds(directory)?
    {
        // The index was synced after the journal, so it is the journal that lost something.
        return Err(rolled_back(settings, known.head.count)?.into());
    }
    if index.is_early() {
        tracing::info!("the index is from an earlier version; it is rebuilt from the journal");
        drop(index);
        SledIndex::discard(directory).map_err(io_error("the index"))?;
        index = SledIndex::open(directory, settings.cache_bytes).map_err(io_error("the index"))?;
        checkpoint = None;
    }
    if checkpoint.is_none() && index.all().next().is_some() {
        tracing::warn!("it is unknown how far the index goes; it is rebuilt from the journal");
        drop(index);
        SledIndex::set_aside(directory).map_err(io_error("the index"))?;
        index = SledIndex::open(directory, settings.cache_bytes).map_err(io_error("the index"))?;
        checkpoint = None;
    }
    let mut catch_up =
        CatchUp { index: &index, gathered: HashMap::new(), erased: HashSet::new(), failed: None };
    let (journal, torn) = Journal::open(
        directory,
        settings.head_copy.as_deref(),
        settings.segment_bytes,
        checkpoint.as_ref(),
        |number, place, payload| catch_up.take(number, place, payload),
    )?;
    if let Some(torn) = torn {
        tracing::warn!(
            file = %torn.path.display(),
            offset = torn.offset,
            bytes = torn.bytes,
            "the journal's last record was incomplete and never acknowledged; it was cut off"
        );
    }
    let erased = catch_up.finish()?;
    erase_again(settings, keys, pseudonyms, &index, erased)?;
    if let Some(newest) = journal.checkpoint()
        && checkpoint != Some(newest)
    {
        index.mark(&newest).map_err(io_error("the index"))?;
    }
    Ok((journal, index))
}

/// Erases people whose erasure is in the journal, if the key file may not know it: after a crash between the
/// two, or with an older key file.
fn erase_again(
    settings: &Settings,
    keys: &mut Keys,
    pseudonyms: &mut Pseudonyms,
    index: &SledIndex,
    mut erased: HashSet<[u8; 16]>,
) -> Result<(), StoreError> {
    let counted = index.erasures().map_err(io_error("the index"))?;
    if erased.is_empty() && keys.erasures() == counted {
        return Ok(());
    }
    let mut all = 0;
    Journal::read(&settings.directory, |_, _, payload| {
        if let Ok(Payload::Erased(id)) = Payload::decode(payload) {
            erased.insert(id);
            all += 1;
        }
    })?;
    let back = keys.erase_ids(&erased).map_err(io_error("the key file"))?;
    for person in &back {
        pseudonyms.erase(*person).map_err(io_error("the pseudonyms"))?;
    }
    if !back.is_empty() {
        tracing::warn!(
            people = back.len(),
            "people who had been erased were still in the key file; they are erased again"
        );
    }
    index.set_erasures(all).map_err(io_error("the index"))?;
    keys.set_erasures(all).map_err(io_error("the key file"))
}

/// Builds the error for a journal that ends too early.
fn rolled_back(settings: &Settings, known: u64) -> Result<JournalError, JournalError> {
    let mut found = 0;
    Journal::read(&settings.directory, |head, _, _| found = head.count)?;
    Ok(JournalError::RolledBack { path: settings.directory.clone(), found, known })
}

/// What the index lacks, while it is read from the journal.
struct CatchUp<'a> {
    index: &'a SledIndex,
    gathered: HashMap<Vec<u8>, Indexed>,
    erased: HashSet<[u8; 16]>,
    failed: Option<StoreError>,
}

impl CatchUp<'_> {
    fn take(&mut self, number: u64, place: Place, payload: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        if number.is_multiple_of(REPORTED) {
            tracing::info!(records = number, "bringing the index up to date with the journal");
        }
        let taken = match Payload::decode(payload) {
            Ok(Payload::Record(record)) => self.record(number, place, &record),
            Ok(Payload::Erased(id)) => self.erase(id),
            Ok(Payload::Epoch(_) | Payload::Passed) => Ok(()),
            Err(source) => Err(StoreError::Record { number, source }),
        };
        self.failed = taken.err();
    }

    /// Takes a record in exactly as when it was recorded: it was valid then, so it is now.
    fn record(&mut self, number: u64, place: Place, record: &Record) -> Result<(), StoreError> {
        let key = key(record.change.controller.as_str(), &record.person);
        if !self.gathered.contains_key(&key) {
            let known = self.index.get(&key).map_err(io_error("the index"))?.unwrap_or_default();
            self.gathered.insert(key.clone(), known);
        }
        if let Some(known) = self.gathered.get_mut(&key)
            && known.trail.newest() < number
        {
            known.standing.replay(record, number);
            known.trail.push(number, place);
        }
        if self.gathered.len() >= GATHERED { self.put_in() } else { Ok(()) }
    }

    fn erase(&mut self, id: [u8; 16]) -> Result<(), StoreError> {
        self.erased.insert(id);
        self.gathered.retain(|key, _| !key.ends_with(&id));
        let keys = self.index.keys_of(&id).map_err(io_error("the index"))?;
        self.index.forget(&keys).map_err(io_error("the index"))
    }

    fn put_in(&mut self) -> Result<(), StoreError> {
        let entries: Vec<Entry> =
            self.gathered.drain().map(|(key, indexed)| Entry { key, indexed: Arc::new(indexed) }).collect();
        self.index.apply(&entries).map_err(io_error("the index"))
    }

    /// Passes the ids of erased people on.
    fn finish(mut self) -> Result<HashSet<[u8; 16]>, StoreError> {
        if let Some(failed) = self.failed.take() {
            return Err(failed);
        }
        self.put_in()?;
        Ok(self.erased)
    }
}
