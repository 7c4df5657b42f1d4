//! The day on which a person last opened mail of one kind (N11), and how often all readers together opened a
//! campaign (N14).
//!
//! Promised: for each person and kind of mail there is one row, a day in UTC that later ones overwrite, and
//! nothing else: no time, no address, no agent, no count, no campaign. Only the pseudonyms tell whose a row
//! is, so the file alone identifies nobody, and nobody at all once the person was erased. A campaign has a
//! number and no people.
//!
//! Not promised: that the newest rows survive. They are written about once a second and not synced, because
//! only an open can be lost, never a choice. Removing rows is synced.

mod file;
mod table;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Timestamp;
use file::{Log, Opened};
pub use table::{Counted, Table};

/// A keyed hash of a person for one kind of mail.
pub type Tag = [u8; 16];
/// The identifier of a campaign.
pub type Campaign = [u8; 8];

/// How long changes are collected before they are written.
const GATHERING: Duration = Duration::from_secs(1);
/// The number of collected rows above which the file is rewritten instead.
const MAX_GATHERED: usize = 1 << 20;

/// A day in UTC: the number of days since 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub u16);

impl Day {
    /// Returns the day of a moment.
    pub fn of(moment: Timestamp) -> Day {
        Day(u16::try_from(moment.0.div_euclid(86_400_000).max(0)).unwrap_or(u16::MAX))
    }

    /// Returns the day this many days before.
    #[must_use]
    pub fn minus(self, days: u16) -> Day {
        Day(self.0.saturating_sub(days))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = Timestamp(i64::from(self.0) * 86_400_000).to_string();
        f.write_str(first.split('T').next().unwrap_or_default())
    }
}

/// Returns what a tag is made for: one kind of mail of one controller. Rows of one person in two scopes
/// cannot be linked.
pub fn scope(controller: &str, mailstream: &str) -> Vec<u8> {
    [b"day of last open\0", controller.as_bytes(), b"\0", mailstream.as_bytes()].concat()
}

/// All rows and counts, in memory and in a file.
pub struct Days {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
    is_fresh: bool,
}

/// What the writer thread shares with all others. Take the lock of the log before the other.
struct Shared {
    log: Mutex<Log>,
    state: Mutex<State>,
    news: Condvar,
}

struct State {
    table: Table,
    gathered: Gathered,
    is_closing: bool,
}

/// The changes since the file was last written.
#[derive(Default)]
struct Gathered {
    rows: Vec<(u16, Tag, Day)>,
    counts: BTreeSet<(u16, Campaign)>,
    /// Whether the file must be rewritten, because it lacks more than this.
    all: bool,
}

impl Gathered {
    fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.counts.is_empty() && !self.all
    }
}

impl fmt::Debug for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Days({} rows)", locked(&self.shared.state).table.len())
    }
}

impl Days {
    /// Opens or creates the file, and starts the writer thread. A partial last frame is cut off and logged.
    /// Also returns the damage found: everything after it is lost, and the days count only from today on.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or created, or is a different one.
    pub fn open(path: &Path) -> io::Result<(Days, Option<String>)> {
        let Opened { log, mut table, damage, is_fresh } = Log::open(path)?;
        let is_damaged = damage.is_some();
        if is_damaged {
            table.measured_since = Some(Day::of(Timestamp::now()));
        }
        let state = State { table, gathered: Gathered::default(), is_closing: false };
        let shared =
            Arc::new(Shared { log: Mutex::new(log), state: Mutex::new(state), news: Condvar::new() });
        let writing = Arc::clone(&shared);
        let writer =
            std::thread::Builder::new().name("days-writer".to_owned()).spawn(move || writing.run())?;
        let days = Days { shared, writer: Mutex::new(Some(writer)), is_fresh };
        if is_damaged {
            days.write_all_anew();
        }
        Ok((days, damage))
    }

    /// Whether the file was missing.
    pub fn is_fresh(&self) -> bool {
        self.is_fresh
    }

    /// Makes the days count only from this day on: nothing is known about earlier ones.
    pub fn lose(&self, since: Day) {
        self.change(|state| state.table.measured_since = state.table.measured_since.max(Some(since)));
        self.write_all_anew();
    }

    fn write_all_anew(&self) {
        self.change(|state| state.gathered.all = true);
        self.flush();
    }

    /// Records an open. An existing day that is the same or later stays.
    pub fn note(&self, controller: &str, mailstream: &str, tag: Tag, day: Day) {
        self.change(|state| {
            let Some(scope) = state.table.place(controller, mailstream) else { return };
            if state.table.note(scope, tag, day) {
                state.gathered.rows.push((scope, tag, day));
            }
        });
    }

    /// Counts opens of a campaign.
    pub fn count(&self, controller: &str, mailstream: &str, campaign: Campaign, day: Day, opens: u64) {
        self.change(|state| {
            let Some(scope) = state.table.place(controller, mailstream) else { return };
            state.gathered.all |= state.table.count(scope, campaign, day, opens);
            state.gathered.counts.insert((scope, campaign));
        });
    }

    /// Makes a change, and wakes the writer thread if nothing was waiting for it.
    fn change(&self, work: impl FnOnce(&mut State)) {
        let mut state = locked(&self.shared.state);
        let was_empty = state.gathered.is_empty();
        work(&mut state);
        if state.gathered.rows.len() > MAX_GATHERED {
            state.gathered = Gathered { all: true, ..Gathered::default() };
        }
        if was_empty && !state.gathered.is_empty() {
            self.shared.news.notify_one();
        }
    }

    /// Gives access to all rows and counts.
    pub fn look<T>(&self, look: impl FnOnce(&Table) -> T) -> T {
        look(&locked(&self.shared.state).table)
    }

    /// Copies the file at this path, with everything that was noted so far.
    pub(super) fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.flush();
        let _log = locked(&self.shared.log);
        pixelward_files::write_private(to, &std::fs::read(from)?).map(drop)
    }

    /// Removes the rows of a person, durably. `tag` returns the person's tag in a scope.
    ///
    /// # Errors
    ///
    /// When that cannot be written. The rows are removed from memory all the same.
    pub fn remove(&self, tag: impl Fn(&[u8]) -> Tag) -> io::Result<()> {
        let mut log = locked(&self.shared.log);
        let frames = {
            let mut state = locked(&self.shared.state);
            let removed = state.table.remove(tag);
            let is_gone = |row: &(u16, Tag, Day)| removed.contains(&(row.0, row.1));
            state.gathered.rows.retain(|row| !is_gone(row));
            state.table.gone(&removed)
        };
        if frames.is_empty() { Ok(()) } else { log.append_synced(&frames) }
    }

    /// Writes what was collected, without waiting for more.
    pub fn flush(&self) {
        self.shared.write();
    }

    /// Removes a controller's rows and counts from before a day; returns how many there were.
    pub fn expire(&self, controller: &str, before: Day) -> u64 {
        let mut gone = 0;
        self.change(|state| {
            gone = state.table.expire(controller, before);
            if gone > 0 {
                state.gathered = Gathered { all: true, ..Gathered::default() };
            }
        });
        gone
    }
}

impl Drop for Days {
    /// Writes what was collected.
    fn drop(&mut self) {
        locked(&self.shared.state).is_closing = true;
        self.shared.news.notify_all();
        if let Some(writer) = locked(&self.writer).take() {
            let _ = writer.join();
        }
    }
}

impl Shared {
    fn run(&self) {
        loop {
            let state = locked(&self.state);
            let idle = |state: &mut State| state.gathered.is_empty() && !state.is_closing;
            let state = self.news.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
            let gathering = |state: &mut State| !state.is_closing;
            let waited = self.news.wait_timeout_while(state, GATHERING, gathering);
            let is_closing = waited.unwrap_or_else(PoisonError::into_inner).0.is_closing;
            self.write();
            if is_closing {
                return;
            }
        }
    }

    /// Writes what was collected. If that fails, the whole file must be rewritten.
    fn write(&self) {
        let mut log = locked(&self.log);
        let mut state = locked(&self.state);
        let gathered = std::mem::take(&mut state.gathered);
        if gathered.is_empty() {
            return;
        }
        let is_due =
            gathered.all || log.is_wasteful(&state.table, gathered.rows.len() + gathered.counts.len());
        let frames =
            if is_due { state.table.frames() } else { state.table.some(&gathered.rows, &gathered.counts) };
        drop(state);
        let written = if is_due { log.anew(&frames) } else { log.append(&frames) };
        if let Err(error) = written {
            log.complain(&error);
            locked(&self.state).gathered.all = true;
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
