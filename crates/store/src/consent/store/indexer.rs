//! The thread that brings the index up to date with the journal, beside the one that writes the journal.

use std::io;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Ack, Shared, StoreError, io_error};
use crate::consent::index::{Entry, Index};
use crate::consent::journal::Checkpoint;

/// How long to wait after the index could not be written.
const AGAIN: Duration = Duration::from_secs(1);

/// What the index has to take in, up to a record of the journal.
struct Batch {
    entries: Vec<Entry>,
    checkpoint: Checkpoint,
    done: Option<Ack<()>>,
}

/// The writer's end of it.
pub(super) struct Indexer {
    queue: Option<mpsc::SyncSender<Batch>>,
    thread: Option<JoinHandle<()>>,
}

impl Indexer {
    /// Starts the thread.
    pub(super) fn start(shared: Arc<Shared>) -> io::Result<Indexer> {
        // One batch waits while another is taken in; more would only use memory.
        let (queue, batches) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("consent-index".to_owned())
            .spawn(move || Work { shared, backlog: Vec::new(), goal: None, failing: None }.run(&batches))?;
        Ok(Indexer { queue: Some(queue), thread: Some(thread) })
    }

    /// Hands entries over; waits if the index lags behind by two batches.
    pub(super) fn take(&self, entries: Vec<Entry>, checkpoint: Checkpoint) -> Result<(), StoreError> {
        self.send(Batch { entries, checkpoint, done: None })
    }

    /// Hands entries over and waits until the index has them and all earlier ones.
    pub(super) fn settle(&self, entries: Vec<Entry>, checkpoint: Checkpoint) -> Result<(), StoreError> {
        let (done, settled) = mpsc::sync_channel(1);
        let done: Ack<()> = Box::new(move |result| {
            let _ = done.send(result);
        });
        self.send(Batch { entries, checkpoint, done: Some(done) })?;
        settled.recv().map_err(|_| StoreError::Closed)?
    }

    fn send(&self, batch: Batch) -> Result<(), StoreError> {
        let queue = self.queue.as_ref().ok_or(StoreError::Closed)?;
        queue.send(batch).map_err(|_| StoreError::Closed)
    }
}

impl Drop for Indexer {
    /// Lets the thread finish what it was given.
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Work {
    shared: Arc<Shared>,
    /// What could not be taken in so far. It is in the overlay and in the journal meanwhile.
    backlog: Vec<Entry>,
    /// The record up to which the index will go with it.
    goal: Option<Checkpoint>,
    /// The time of the last failed attempt; `None` while there is no failure.
    failing: Option<Instant>,
}

impl Work {
    fn run(mut self, batches: &mpsc::Receiver<Batch>) {
        loop {
            match batches.recv_timeout(AGAIN) {
                Ok(batch) => {
                    self.backlog.extend(batch.entries);
                    self.goal = Some(batch.checkpoint);
                    // Whoever waits for the answer has it tried at once.
                    let is_due =
                        batch.done.is_some() || self.failing.is_none_or(|since| since.elapsed() >= AGAIN);
                    let taken = if is_due { self.bring_up() } else { Ok(()) };
                    if let Some(done) = batch.done {
                        done(taken.map_err(io_error("the index")));
                    }
                }
                // Failures are logged, and tried again after the next pause.
                Err(RecvTimeoutError::Timeout) => {
                    if self.failing.is_some() || !self.shared.index.answers() {
                        drop(self.bring_up());
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if self.failing.is_some() {
            drop(self.bring_up());
        }
    }

    /// Brings the index up to the goal. One that could not be written is reopened first: it accepts nothing
    /// until then.
    fn bring_up(&mut self) -> io::Result<()> {
        let mut taken = match self.failing {
            Some(_) => self.recover().and_then(|()| self.write()),
            None => self.write(),
        };
        if let (Err(error), None) = (&taken, self.failing) {
            tracing::error!(%error, "the index cannot be written; it will be brought up to date with the \
                                     journal later");
            self.failing = Some(Instant::now());
            // The disk may have room by now, and the index can be read again in any case.
            taken = self.recover().and_then(|()| self.write());
        }
        match &taken {
            Ok(()) => {
                if self.failing.take().is_some() {
                    tracing::warn!("the index can be written again, and is up to date with the journal");
                }
                self.forget_backlog();
            }
            Err(error) => {
                tracing::debug!(%error, "the index still cannot be written");
                self.failing = Some(Instant::now());
            }
        }
        taken
    }

    fn write(&self) -> io::Result<()> {
        let index = &self.shared.index;
        if !index.answers() {
            return Err(io::Error::other("it does not respond"));
        }
        let Some(goal) = self.goal else { return Ok(()) };
        index.apply(&self.backlog).and_then(|()| index.mark(&goal))
    }

    /// Reopens the index; fails while there is no room to write to it.
    fn recover(&self) -> io::Result<()> {
        let index = &self.shared.index;
        if !index.answers() || index.has_room() {
            index.recover()?;
        }
        if index.has_room() { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }

    /// Removes from the overlay what the index contains, unless something newer replaced it meanwhile.
    fn forget_backlog(&mut self) {
        let mut overlay = self.shared.overlay.write().unwrap_or_else(PoisonError::into_inner);
        for entry in self.backlog.drain(..) {
            if overlay.get(&entry.key).is_some_and(|indexed| Arc::ptr_eq(indexed, &entry.indexed)) {
                overlay.remove(&entry.key);
            }
        }
    }
}
