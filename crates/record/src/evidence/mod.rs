//! Audit records: proof that choices were applied (N23). A record for each recipient of each message says
//! what was decided, why, and what was done.
//!
//! **Tamper-evident.** Records are in segments chained by hash ([`crate::chain`]); `evidence verify` notices
//! one that was changed, removed or added. The end of a chain can also be kept at a second place, so that
//! records cut off from the end are missed.
//!
//! **Off the mail path.** Notes are handed over through a bounded queue that nobody waits for. A thread
//! writes them in batches and syncs each, several times a second; the last second's can be lost at a power
//! failure or kill. If the queue is full or the disk cannot be written, records are lost, counted
//! (`pixelward_evidence_lost_total`) and logged once, and mail continues.
//!
//! **Personal data.** A person stands in a record as a tag made from their pseudonym
//! ([`crate::consent::pseudonyms`], where the designs that were weighed are) and the segment. As long as they
//! are not erased, their records are found by their address; once they are, nobody can make their tags again,
//! whatever files they have, and no record changes. Tags of one person differ between segments, so that what
//! is left of an erased one is not tied together either. No address and no content is in a record, and a
//! subject line only where that is asked for, sealed so that it goes with the person ([`headline`]). What a
//! record has besides leads to a person only through others' files: our id and the next hop's queue id
//! through logs, the number of a consent record to an entry of the journal that names nobody once the person
//! is erased. A Message-ID is kept as a keyed hash.
//!
//! **Retention.** Each number of days has its own chain, so that a controller whose records expire earlier
//! leaves no hole in the chain of the others. Segments are closed by size and at the end of the day (UTC),
//! compressed with a summary beside them, and deleted as a whole once their newest record has expired.

pub mod export;
pub mod files;
pub mod find;
pub mod headline;
pub mod hygiene;
mod keeper;
mod log;
pub mod note;
pub mod queue;
pub mod record;
pub mod refusals;
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
use refusals::{Refusals, Refused};

/// Where audit records are kept, and how long.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The directory.
    pub directory: PathBuf,
    /// A second place for the ends of the chains, on another disk.
    pub head_copy: Option<PathBuf>,
    /// After how many days records are deleted, unless the controller sets fewer.
    pub retention_days: u16,
    /// The size at which a segment is closed, in bytes.
    pub segment_bytes: u64,
    /// Whether bodies are hashed.
    pub body_hashes: bool,
    /// Whether subjects are kept, sealed.
    pub subjects: bool,
}

/// Takes notes from the mail path.
#[derive(Debug)]
pub struct Evidence {
    queue: Arc<Queue>,
    writer: Mutex<Option<JoinHandle<()>>>,
    is_losing: AtomicBool,
    /// Whether the writer cannot write.
    is_failing: Arc<AtomicBool>,
    body_hashes: bool,
    subjects: bool,
    refusals: Refusals,
}

impl Evidence {
    /// Opens the existing chains, and starts writing. A partial end is cut off.
    ///
    /// # Errors
    ///
    /// When the directory cannot be used or the end of a chain is damaged.
    pub fn start(settings: Settings, store: Arc<Store>) -> Result<Evidence, ChainError> {
        let keeper = Keeper::start(&settings).map_err(crate::chain::at(&settings.directory))?;
        let mut log = Log::open(settings.clone(), store, Some(keeper))?;
        let (is_failing, refusals) = (log.is_failing(), log.refusals());
        let queue = Arc::new(Queue::default());
        let waiting = Arc::clone(&queue);
        let writer = std::thread::Builder::new()
            .name("evidence-writer".to_owned())
            .spawn(move || log.run(&waiting))
            .map_err(crate::chain::at(&settings.directory))?;
        let (writer, is_losing) = (Mutex::new(Some(writer)), AtomicBool::new(false));
        let Settings { body_hashes, subjects, .. } = settings;
        Ok(Evidence { queue, writer, is_losing, is_failing, body_hashes, subjects, refusals })
    }

    /// Returns whether notes must have the hashes of bodies.
    pub fn wants_hashes(&self) -> bool {
        self.body_hashes
    }

    /// Returns whether notes must have the subject.
    pub fn wants_subjects(&self) -> bool {
        self.subjects
    }

    /// Returns the last refusals, newest first.
    pub fn refusals(&self) -> Vec<Refused> {
        self.refusals.newest()
    }

    /// Takes a note, without waiting. If there is no room it is lost, counted, and logged once.
    pub fn note(&self, note: Note) {
        match self.queue.push(note) {
            Ok(()) => {
                if self.is_losing.swap(false, Ordering::Relaxed) {
                    tracing::warn!("audit records are accepted again");
                }
            }
            Err(recipients) => {
                lost("queue_full", recipients);
                if !self.is_losing.swap(true, Ordering::Relaxed) {
                    tracing::error!(
                        "audit records arrive faster than they can be written, and are lost; \
                                     mail continues"
                    );
                }
            }
        }
    }

    /// Returns why audit records are being lost; `None` while they are not.
    pub fn trouble(&self) -> Option<&'static str> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.as_ref().is_some_and(JoinHandle::is_finished) {
            Some("its writer has ended; restart the relay")
        } else if self.is_failing.load(Ordering::Relaxed) {
            Some("it cannot be written to its disk")
        } else if self.is_losing.load(Ordering::Relaxed) && self.queue.is_full() {
            Some("records arrive faster than they can be written")
        } else {
            None
        }
    }

    /// Writes what is pending, and ends.
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

/// Counts lost records.
fn lost(reason: &'static str, records: usize) {
    metrics::counter!("pixelward_evidence_lost_total", "reason" => reason).increment(records as u64);
}

/// Makes the tags of Message-IDs.
#[derive(Debug)]
pub struct MessageIds(StoreKey);

impl MessageIds {
    /// What the key is derived for.
    pub const LABEL: &str = "evidence message ids";

    /// Creates it with a key that was derived for this use.
    pub fn new(key: StoreKey) -> MessageIds {
        MessageIds(key)
    }

    /// Returns the tag of a Message-ID, however it is written; `None` if it is not one.
    pub fn tag(&self, text: &str) -> Option<Tag> {
        note::bare_message_id(text).map(|id| self.0.tag(&[id.as_bytes()]))
    }
}

/// Returns the number of a day, in UTC.
fn day_of(at: Timestamp) -> i64 {
    at.0.div_euclid(86_400_000)
}

#[cfg(test)]
mod tests;
