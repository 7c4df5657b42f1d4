//! The file: consecutive frames, rewritten when more than half of it is obsolete.

use std::io;
use std::path::Path;

use super::table::{FRAME, Table};

/// The first bytes, which identify the file.
const MAGIC: &[u8] = b"pixelward days 1\r\n";
/// The number of wasted bytes that does not yet justify a rewrite.
const SLACK: u64 = 1 << 20;

/// How many bytes after a damaged frame are searched for another one.
const LOOKED_AT: usize = 64 << 10;

/// The file with its contents.
pub(super) struct Opened {
    pub(super) log: Log,
    pub(super) table: Table,
    /// The damage found.
    pub(super) damage: Option<String>,
    /// Whether it was missing.
    pub(super) is_fresh: bool,
}

/// The file, open for appending.
pub(super) struct Log {
    file: pixelward_files::Log,
    is_failing: bool,
}

impl Log {
    /// Opens or creates the file; returns its contents. A partial last frame is cut off.
    pub(super) fn open(path: &Path) -> io::Result<Opened> {
        let is_fresh = !std::fs::exists(path)?;
        if is_fresh {
            pixelward_files::Log::create(path, &content(&[]))?;
        }
        let bytes = std::fs::read(path)?;
        let (table, good) = read(&bytes)?;
        let damage = damage(&bytes, good);
        let lost = bytes.len().saturating_sub(good);
        if lost > 0 {
            tracing::warn!(bytes = lost, "the end of the days of last open was incomplete, and was cut off");
        }
        let log = Log { file: pixelward_files::Log::open(path, good as u64)?, is_failing: false };
        Ok(Opened { log, table, damage, is_fresh })
    }

    /// Returns whether more than half of the file would be obsolete with this many more frames.
    pub(super) fn is_wasteful(&self, table: &Table, more: usize) -> bool {
        self.file.length() + (more * FRAME) as u64 > 2 * table.size() as u64 + SLACK
    }

    /// Appends frames. If that fails, the file contains none of them.
    pub(super) fn append(&mut self, frames: &[u8]) -> io::Result<()> {
        self.file.append(frames)?;
        self.is_failing = false;
        Ok(())
    }

    /// Appends frames, durably.
    pub(super) fn append_synced(&mut self, frames: &[u8]) -> io::Result<()> {
        self.file.append_synced(frames)?;
        self.is_failing = false;
        Ok(())
    }

    /// Rewrites the file, next to the old one until it is complete.
    pub(super) fn anew(&mut self, frames: &[u8]) -> io::Result<()> {
        self.file.rewrite(&content(frames))?;
        self.is_failing = false;
        Ok(())
    }

    /// Logs that it cannot be written, once until it can be again.
    pub(super) fn complain(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::error!(%error, "days of last open cannot be written; they are kept in memory until they \
                                     can be");
        }
    }
}

/// Returns what a file with these frames holds.
fn content(frames: &[u8]) -> Vec<u8> {
    [MAGIC, frames].concat()
}

/// Describes the damage in a file of which this many bytes are intact. A partial last frame is not damage.
fn damage(bytes: &[u8], good: usize) -> Option<String> {
    let rest = bytes.get(good..).filter(|rest| !rest.is_empty())?;
    let is_frame = |start: usize| rest.get(start..).is_some_and(|bytes| Table::frame(bytes).is_some());
    let goes_on = rest.len() > LOOKED_AT || (1..rest.len()).any(is_frame);
    goes_on.then(|| format!("damaged at byte {good}; {} bytes from there on are lost", rest.len()))
}

impl Table {
    /// Describes the damage in a file that another process may be writing; nothing if there is no file.
    pub fn inspect(path: &Path) -> Option<String> {
        match std::fs::read(path) {
            Ok(bytes) => match read(&bytes) {
                Ok((_, good)) => damage(&bytes, good),
                Err(error) => Some(error.to_string()),
            },
            Err(error) => Some(error.to_string()),
        }
    }

    /// Reads the intact part of a file that another process may be writing.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is a different one. A missing file is empty.
    pub fn load(path: &Path) -> io::Result<Table> {
        match std::fs::read(path) {
            Ok(bytes) => read(&bytes).map(|(table, _)| table),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Table::default()),
            Err(error) => Err(error),
        }
    }
}

/// Returns the contents of a file, and how many bytes of it are intact.
fn read(bytes: &[u8]) -> io::Result<(Table, usize)> {
    let mut rest = bytes
        .strip_prefix(MAGIC)
        .ok_or_else(|| io::Error::other("not a file of days of last open of pixelward"))?;
    let mut table = Table::default();
    while let Some(length) = table.take(rest) {
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok((table, bytes.len() - rest.len()))
}
