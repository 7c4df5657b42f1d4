//! The thread that brings the index up to the journal, beside the one that writes the journal.

use std::io;
use std::sync::{Arc, PoisonError, mpsc};
use std::thread::JoinHandle;

use super::{Ack, Shared, StoreError, io_error};
use crate::consent::index::{Entry, Index};
use crate::consent::journal::Checkpoint;

/// What the index is to take in, up to a record of the journal.
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
        // One batch waits while another is taken in; more would be memory alone.
        let (queue, batches) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("consent-index".to_owned())
            .spawn(move || Work { shared, backlog: Vec::new() }.run(&batches))?;
        Ok(Indexer { queue: Some(queue), thread: Some(thread) })
    }

    /// Hands entries over; waits where the index lags behind by two batches.
    pub(super) fn take(&self, entries: Vec<Entry>, checkpoint: Checkpoint) -> Result<(), StoreError> {
        self.send(Batch { entries, checkpoint, done: None })
    }

    /// Hands entries over and waits until the index has them and all before.
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
}

impl Work {
    fn run(mut self, batches: &mpsc::Receiver<Batch>) {
        for batch in batches {
            self.backlog.extend(batch.entries);
            let index = &self.shared.index;
            let taken = index.apply(&self.backlog).and_then(|()| index.mark(&batch.checkpoint));
            if let Err(error) = &taken {
                tracing::error!(%error, "the index could not be written; it will be brought up to the journal later");
            } else {
                self.forget_backlog();
            }
            if let Some(done) = batch.done {
                done(taken.map_err(io_error("the index")));
            }
        }
    }

    /// What the index has needs no place in the overlay, unless something newer took it meanwhile.
    fn forget_backlog(&mut self) {
        let mut overlay = self.shared.overlay.write().unwrap_or_else(PoisonError::into_inner);
        for entry in self.backlog.drain(..) {
            if overlay.get(&entry.key).is_some_and(|own| Arc::ptr_eq(own, &entry.indexed)) {
                overlay.remove(&entry.key);
            }
        }
    }
}
