//! Segment files of records, each chained by hash to the one before: shared by the journal of consents and
//! the audit records.
//!
//! Promised: a record that was changed, removed or inserted is noticed, with its position; a partial last
//! record is distinguished from damage. Absent: what a record says, and when a file is deleted.

mod head;
pub mod segment;
mod tail;

use std::io;
use std::path::{Path, PathBuf};

pub use head::{ChainHash, Head, read_head, sha256, write_head};
pub use tail::Tail;

/// The maximum size of a payload. Records have a few hundred bytes.
pub const MAX_PAYLOAD: usize = 1 << 20;

/// The files of a chain, and how they begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// The first bytes of a segment.
    pub magic: &'static [u8; 8],
    /// The extension, after the number and a dot.
    pub suffix: &'static str,
}

/// A record as a link of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The number.
    pub number: u64,
    /// The chain's hash before it.
    pub before: ChainHash,
    /// The payload.
    pub payload: Vec<u8>,
    /// The chain's hash up to and including it.
    pub hash: ChainHash,
}

impl Link {
    /// Returns whether the hashes match the payload.
    pub fn is_sound(&self) -> bool {
        let before = Head { count: self.number.saturating_sub(1), hash: self.before };
        before.then(&self.payload) == Head { count: self.number, hash: self.hash }
    }
}

/// A partial end that was cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// The segment.
    pub path: PathBuf,
    /// The position of the cut.
    pub offset: u64,
    /// How many bytes were removed.
    pub bytes: u64,
}

/// Why a chain cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// Reading or writing failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// A record does not fit.
    #[error("{}: damaged at byte {offset}: {what}", path.display())]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// The position.
        offset: u64,
        /// The problem.
        what: &'static str,
    },
}

/// Adds the file to an error.
pub fn at(path: &Path) -> impl FnOnce(io::Error) -> ChainError + '_ {
    move |source| ChainError::Io { path: path.to_owned(), source }
}
