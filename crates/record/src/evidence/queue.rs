//! The bounded queue of notes; nobody on the mail path waits for it.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::note::Note;

/// The maximum number of recipients that may wait. A note has about 300 bytes for each.
pub const MAX_WAITING: usize = 65_536;

/// How many are written at once, without waiting for more.
const MANY: usize = MAX_WAITING / 4;

/// Notes on their way to the writer.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    notes: Vec<Note>,
    recipients: usize,
    is_closed: bool,
}

/// What the writer does next.
#[derive(Debug)]
pub enum Next {
    /// Write these.
    Write(Vec<Note>),
    /// Nothing came.
    Idle,
    /// Write these, and end.
    End(Vec<Note>),
}

impl Queue {
    /// Appends a note.
    ///
    /// # Errors
    ///
    /// The number of recipients that are lost: when [`MAX_WAITING`] wait, or the writer has ended.
    pub fn push(&self, note: Note) -> Result<(), usize> {
        let recipients = note.recipients();
        let mut waiting = self.locked();
        if waiting.is_closed || waiting.recipients >= MAX_WAITING {
            return Err(recipients);
        }
        let before = waiting.recipients;
        waiting.recipients += recipients;
        waiting.notes.push(note);
        // The writer sleeps while notes accumulate: the first one wakes it, and the one that makes them many.
        if waiting.notes.len() == 1 || (before < MANY && waiting.recipients >= MANY) {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Returns whether a note would find no room.
    pub fn is_full(&self) -> bool {
        let waiting = self.locked();
        !waiting.is_closed && waiting.recipients >= MAX_WAITING
    }

    /// Closes the queue.
    pub fn close(&self) {
        self.locked().is_closed = true;
        self.changed.notify_all();
    }

    /// Waits for a note, at most `idle`, then for others that come within `window`, and returns them all.
    pub fn next(&self, idle: Duration, window: Duration) -> Next {
        let idle = Instant::now() + idle;
        let mut waiting = self.wait(self.locked(), idle, |waiting| waiting.notes.is_empty());
        if !waiting.notes.is_empty() {
            waiting = self.wait(waiting, Instant::now() + window, |waiting| waiting.recipients < MANY);
        }
        waiting.recipients = 0;
        let notes = std::mem::take(&mut waiting.notes);
        match (waiting.is_closed, notes.is_empty()) {
            (true, _) => Next::End(notes),
            (false, true) => Next::Idle,
            (false, false) => Next::Write(notes),
        }
    }

    fn wait<'a>(
        &self,
        mut waiting: MutexGuard<'a, Waiting>,
        until: Instant,
        goes_on: impl Fn(&Waiting) -> bool,
    ) -> MutexGuard<'a, Waiting> {
        while goes_on(&waiting) && !waiting.is_closed {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let woken = self.changed.wait_timeout(waiting, left);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        waiting
    }

    fn locked(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
