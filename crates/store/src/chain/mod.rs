//! Segment files of records, each chained by hash to the one before: what the journal of consents and the evidence of what was done to mail
//! have in common.
//!
//! Promised: a record that was changed, left out or put in is noticed, and its place is said; a last record that was not written whole is told
//! from damage. Absent: what a record says, and when a file goes.

mod head;
pub mod segment;
mod tail;

use std::io;
use std::path::{Path, PathBuf};

pub use head::{ChainHash, Head, read_head, write_head};
pub use tail::Tail;

/// The largest payload. Records are a few hundred bytes.
pub const MAX_PAYLOAD: usize = 1 << 20;

/// Which files belong to a chain, and how they begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// The first bytes of a segment.
    pub magic: &'static [u8; 8],
    /// What its name ends with, behind the number and a dot.
    pub suffix: &'static str,
}

/// A record as a link of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub number: u64,
    /// The chain's hash before it.
    pub before: ChainHash,
    /// What it says.
    pub payload: Vec<u8>,
    /// The chain's hash up to and with it.
    pub hash: ChainHash,
}

impl Link {
    /// Whether the hashes are those of this payload.
    pub fn is_sound(&self) -> bool {
        let before = Head { count: self.number.saturating_sub(1), hash: self.before };
        before.then(&self.payload) == Head { count: self.number, hash: self.hash }
    }
}

/// What a torn end was, when one was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// The segment.
    pub path: PathBuf,
    /// Where it was cut.
    pub offset: u64,
    /// How many bytes went.
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
        /// Why.
        source: io::Error,
    },
    /// A record does not fit.
    #[error("{}: damaged at byte {offset}: {what}", path.display())]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What does not fit.
        what: &'static str,
    },
}

/// Names the file that an error is about.
pub fn at(path: &Path) -> impl FnOnce(io::Error) -> ChainError + '_ {
    move |source| ChainError::Io { path: path.to_owned(), source }
}
