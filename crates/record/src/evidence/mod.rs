//! Proof that choices were applied (N23): a record for each recipient of each message, of what was decided, why, and what was done.
//!
//! **Tamper-evident.** Records stand in segments chained by hash ([`crate::chain`]); a changed, missing or added one is noticed by `evidence
//! verify`. The end of a chain can be kept at a second place, too, so that records cut off from the end are missed.
//!
//! **Off the mail path.** Messages are handed over through a bounded queue that nobody waits for. A thread writes them in batches and syncs each,
//! several times a second; what came within the last second can be lost at a power cut or kill. Where the queue is full or the disk cannot be
//! written, records are lost, counted (`pixelward_evidence_lost_total`) and logged once, and mail flows.
//!
//! **Personal data.** A person stands in a record as a tag made from their pseudonym ([`crate::consent::pseudonyms`], where the designs that were
//! weighed are) and the segment. As long as they are not erased, their records are found by their address; once they are, nobody can make their
//! tags again, whatever files they have, and no record changes. Tags of one person differ between segments, so that what is left of an erased one
//! is not tied together either. No address, no subject line and no content is in a record. What a record has besides leads to a person only
//! through others' files: our id and the next hop's queue id through logs, the number of a consent record to an entry of the journal that
//! names nobody once the person is erased. A Message-ID is kept as a keyed hash.
//!
//! **Retention.** Each number of days has a chain of its own, so that a controller whose evidence is to go earlier needs no hole in the chain of
//! the others. Segments are closed by size and at the end of the day (UTC), compressed with a summary beside them, and deleted whole once their
//! newest record is that old.

pub mod export;
pub mod files;
pub mod find;
pub mod hygiene;
mod keeper;
mod log;
pub mod note;
pub mod queue;
pub mod record;
pub mod summary;
pub mod verify;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::chain::ChainError;
use crate::consent::{Store, StoreKey, Timestamp};
use keeper::Keeper;
pub use keeper::sweep;
use log::Log;
pub use note::{Note, NotedCopy, NotedRecipient};
use queue::Queue;
use record::Tag;

/// Where evidence is kept, and how long.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its directory.
    pub directory: PathBuf,
    /// A second place for the ends of the chains, on another disk.
    pub head_copy: Option<PathBuf>,
    /// After how many days it is deleted, unless its controller has fewer.
    pub retention_days: u16,
    /// From which size on a segment is closed, in bytes.
    pub segment_bytes: u64,
    /// Whether bodies are hashed.
    pub body_hashes: bool,
}

/// Takes evidence from the mail path.
#[derive(Debug)]
pub struct Evidence {
    queue: Arc<Queue>,
    writer: Mutex<Option<JoinHandle<()>>>,
    is_losing: AtomicBool,
    /// Whether the writer cannot write.
    is_failing: Arc<AtomicBool>,
    body_hashes: bool,
}

impl Evidence {
    /// Opens the chains that there are, and starts to write. A torn end is cut off.
    ///
    /// # Errors
    ///
    /// When the directory cannot be used or the end of a chain is damaged.
    pub fn start(settings: Settings, store: Arc<Store>) -> Result<Evidence, ChainError> {
        let keeper = Keeper::start(&settings).map_err(crate::chain::at(&settings.directory))?;
        let mut log = Log::open(settings.clone(), store, Some(keeper))?;
        let is_failing = log.is_failing();
        let queue = Arc::new(Queue::default());
        let waiting = Arc::clone(&queue);
        let writer = std::thread::Builder::new()
            .name("evidence-writer".to_owned())
            .spawn(move || log.run(&waiting))
            .map_err(crate::chain::at(&settings.directory))?;
        let (writer, is_losing) = (Mutex::new(Some(writer)), AtomicBool::new(false));
        Ok(Evidence { queue, writer, is_losing, is_failing, body_hashes: settings.body_hashes })
    }

    /// Whether notes are to have the hashes of bodies.
    pub fn wants_hashes(&self) -> bool {
        self.body_hashes
    }

    /// Takes a note, without waiting. Where there is no room it is lost, counted, and logged once.
    pub fn note(&self, note: Note) {
        match self.queue.push(note) {
            Ok(()) => {
                if self.is_losing.swap(false, Ordering::Relaxed) {
                    tracing::warn!("evidence is taken again");
                }
            }
            Err(recipients) => {
                lost("queue_full", recipients);
                if !self.is_losing.swap(true, Ordering::Relaxed) {
                    tracing::error!("evidence comes faster than it can be written, and is lost; mail flows");
                }
            }
        }
    }

    /// Why evidence is being lost; `None` while it is not.
    pub fn trouble(&self) -> Option<&'static str> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.as_ref().is_some_and(JoinHandle::is_finished) {
            Some("its writer has ended; restart the relay")
        } else if self.is_failing.load(Ordering::Relaxed) {
            Some("it cannot be written to its disk")
        } else if self.is_losing.load(Ordering::Relaxed) && self.queue.is_full() {
            Some("it comes faster than it can be written")
        } else {
            None
        }
    }

    /// Writes what waits, and ends.
    pub fn close(&self) {
        self.queue.close();
        if let Some(writer) = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = writer.join();
        }
    }
}

impl Drop for Evidence {
    fn drop(&mut self) {
        self.close();
    }
}

/// Counts records that were lost.
fn lost(reason: &'static str, records: usize) {
    metrics::counter!("pixelward_evidence_lost_total", "reason" => reason).increment(records as u64);
}

/// Makes the tags of Message-IDs.
#[derive(Debug)]
pub struct MessageIds(StoreKey);

impl MessageIds {
    /// What the key is derived for.
    pub const LABEL: &str = "evidence message ids";

    /// With a key that was derived for them.
    pub fn new(key: StoreKey) -> MessageIds {
        MessageIds(key)
    }

    /// The tag of a Message-ID, however it is written; `None` where it is none.
    pub fn tag(&self, text: &str) -> Option<Tag> {
        note::bare_message_id(text).map(|id| self.0.tag(&[id.as_bytes()]))
    }
}

/// The number of a day, by UTC.
fn day_of(at: Timestamp) -> i64 {
    at.0.div_euclid(86_400_000)
}

#[cfg(test)]
mod tests;
