//! Why the store cannot do what was requested.

use std::io;
use std::path::PathBuf;

use crate::consent::journal::JournalError;
use crate::consent::record::BadRecord;

/// Why the store cannot do what was requested.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file cannot be read or written.
    #[error("{what}: {source}")]
    Io {
        /// The part of the store.
        what: String,
        /// The error.
        source: io::Error,
    },
    /// The journal cannot be used.
    #[error("the consent journal: {0}")]
    Journal(#[from] JournalError),
    /// A record of the journal is of a later version.
    #[error("record {number} of the consent journal: {source}")]
    Record {
        /// The number of the record.
        number: u64,
        /// The problem.
        source: BadRecord,
    },
    /// The store key cannot be used.
    #[error("the store key: {0}")]
    Key(String),
    /// Another process has the store open.
    #[error("{}: another process has this consent store open. Stop it, or let the command talk to it through \
             its socket", .0.display())]
    Busy(PathBuf),
    /// The writer thread has ended.
    #[error("the consent store accepts no more writes; the log says why")]
    Closed,
    /// The relay has not heard the other relays for too long: what they were told is unknown.
    #[error(
        "this relay has not heard the others lately, so what people agreed to is unknown; `pixelward \
             cluster status` says why"
    )]
    NotFresh,
    /// An erasure was noted durably, and the other relays cannot be told yet.
    #[error(
        "the erasure is noted: nothing counts for this person here any more, and the files follow once the other \
             relays can be reached"
    )]
    Delayed,
    /// A message of the common order does not fit this store.
    #[error("the common order does not fit this store: {0}")]
    Misfit(&'static str),
}

impl StoreError {
    /// Returns the kind of I/O error: above all, a full disk.
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            StoreError::Io { source, .. } | StoreError::Journal(JournalError::Io { source, .. }) => {
                source.kind()
            }
            StoreError::Journal(_) | StoreError::Record { .. } => io::ErrorKind::InvalidData,
            StoreError::Key(_)
            | StoreError::Busy(_)
            | StoreError::Closed
            | StoreError::NotFresh
            | StoreError::Delayed
            | StoreError::Misfit(_) => io::ErrorKind::Other,
        }
    }
}

pub(in crate::consent) fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> StoreError {
    let what = what.into();
    |source| StoreError::Io { what, source }
}
