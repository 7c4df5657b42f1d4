//! The maintenance thread: it compresses closed segments and deletes those that have expired.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::files::Folder;
use super::record::Record;
use super::summary::{Gathering, Summary};
use super::{Settings, day_of};
use crate::chain::segment::End;
use crate::chain::{ChainError, Head, at, write_head};
use crate::consent::Timestamp;

/// How often it runs without being woken.
const PERIOD: Duration = Duration::from_secs(3600);

/// Wakes the thread; when dropped, the thread ends after the current segment.
#[derive(Debug)]
pub(super) struct Keeper {
    bell: Option<mpsc::SyncSender<()>>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts the thread.
    pub(super) fn start(settings: &Settings) -> io::Result<Keeper> {
        let (bell, rings) = mpsc::sync_channel(1);
        let settings = settings.clone();
        let stopping = Arc::new(AtomicBool::new(false));
        let stops = Arc::clone(&stopping);
        let thread = std::thread::Builder::new().name("evidence-keeper".to_owned()).spawn(move || {
            while !matches!(rings.recv_timeout(PERIOD), Err(RecvTimeoutError::Disconnected)) {
                if let Err(error) = sweep_until(&settings, Timestamp::now(), &stops) {
                    tracing::error!(%error, "audit records could not be compressed or deleted; this will be \
                                             tried again");
                }
            }
        })?;
        Ok(Keeper { bell: Some(bell), stopping, thread: Some(thread) })
    }

    /// Wakes the thread. If it is already working, it runs once more.
    pub(super) fn wake(&self) {
        if let Some(bell) = &self.bell {
            let _ = bell.try_send(());
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        drop(self.bell.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Compresses all segments except the last of each chain, and deletes those that have expired at `now`.
///
/// # Errors
///
/// The first error, once everything possible is done.
pub fn sweep(settings: &Settings, now: Timestamp) -> Result<(), ChainError> {
    sweep_until(settings, now, &AtomicBool::new(false))
}

/// Does the same, but stops early when the relay does.
fn sweep_until(settings: &Settings, now: Timestamp, stopping: &AtomicBool) -> Result<(), ChainError> {
    let mut failed = None;
    for folder in Folder::all(&settings.directory)? {
        let packed = pack(&folder, stopping);
        let deleted = delete(&folder, settings, now);
        failed = failed.or(packed.err()).or(deleted.err());
    }
    failed.map_or(Ok(()), Err)
}

/// Compresses closed segments: all except the last. Damaged ones stay as they are, to be examined.
fn pack(folder: &Folder, stopping: &AtomicBool) -> Result<(), ChainError> {
    let segments = folder.segments()?;
    let closed = segments.split_last().map_or(&[][..], |(_, closed)| closed);
    let mut failed = None;
    for number in closed.iter().filter(|number| !folder.is_packed(**number)) {
        if stopping.load(Ordering::Relaxed) {
            break;
        }
        failed = failed.or(pack_one(folder, *number).err());
    }
    failed.map_or(Ok(()), Err)
}

fn pack_one(folder: &Folder, number: u32) -> Result<(), ChainError> {
    let segment = folder.read(number)?;
    let mut head = segment.start().unwrap_or(Head::EMPTY);
    let mut gathering = Gathering::default();
    let end = segment.walk(&mut head, |_, payload| {
        if let Ok(record) = Record::decode(payload) {
            gathering.take(&record);
        }
    })?;
    if let End::Torn { offset, .. } = end {
        return Err(ChainError::Damaged { path: segment.path, offset, what: "it ends within a record" });
    }
    let summary = folder.summary(number);
    pixelward_files::replace(&summary, &gathering.done().encode()).map_err(at(&summary))?;
    folder.pack(number, segment.bytes())
}

/// Deletes expired segments from the oldest on, up to the first that has not expired.
fn delete(folder: &Folder, settings: &Settings, now: Timestamp) -> Result<(), ChainError> {
    let days = i64::from(folder.days.min(settings.retention_days));
    let segments = folder.segments()?;
    for pair in segments.windows(2) {
        let [number, next] = pair else { continue };
        let Some(last) = newest(folder, *number, *next) else { return Ok(()) };
        if day_of(last) + days >= day_of(now) {
            return Ok(());
        }
        // The chain begins with the next one. That is on disk before anything is deleted.
        let kept_from = folder.kept_from_path();
        let Some(start) = folder.read(*next)?.start() else { return Ok(()) };
        write_head(&kept_from, &start).map_err(at(&kept_from))?;
        folder.remove(*number)?;
        tracing::info!(
            folder = %folder.path.display(),
            segment = number,
            "expired audit records were deleted"
        );
    }
    Ok(())
}

/// Returns when the newest record of a segment was made, as far as it can be read; if nothing can, it is
/// older than the beginning of the next one. `None` if unknown.
fn newest(folder: &Folder, number: u32, next: u32) -> Option<Timestamp> {
    let (_, last) = span(folder, number);
    last.or_else(|| span(folder, next).0)
}

/// Returns the times of the oldest and the newest record of a segment, as far as they can be read: a damaged
/// one must expire like any other.
fn span(folder: &Folder, number: u32) -> (Option<Timestamp>, Option<Timestamp>) {
    let summary = std::fs::read(folder.summary(number)).ok().and_then(|bytes| Summary::decode(&bytes));
    if let Some(summary) = summary {
        return (summary.first, summary.last);
    }
    let Ok(segment) = folder.read(number) else { return (None, None) };
    let mut head = segment.start().unwrap_or(Head::EMPTY);
    let (mut first, mut last): (Option<Timestamp>, Option<Timestamp>) = (None, None);
    let _ = segment.walk(&mut head, |_, payload| {
        if let Ok(record) = Record::decode(payload) {
            let at = Timestamp(record.at);
            first = Some(first.map_or(at, |first| first.min(at)));
            last = Some(last.map_or(at, |last| last.max(at)));
        }
    });
    (first, last)
}
