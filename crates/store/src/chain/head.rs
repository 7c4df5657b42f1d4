//! The end of a chain, and its copy in a file.

use std::io;
use std::path::Path;

use aws_lc_rs::digest;

use super::{ChainError, at};

/// The hash of the whole chain.
pub type ChainHash = [u8; 32];

/// Computes the SHA-256 of some bytes: what a chain's hash is made with.
pub fn sha256(bytes: &[u8]) -> ChainHash {
    let mut hash = [0; 32];
    let made = digest::digest(&digest::SHA256, bytes);
    hash.iter_mut().zip(made.as_ref()).for_each(|(target, byte)| *target = *byte);
    hash
}

/// The end of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// How many records there are.
    pub count: u64,
    /// The hash up to the last one.
    pub hash: ChainHash,
}

impl Head {
    /// The head before the first record.
    pub const EMPTY: Head = Head { count: 0, hash: [0; 32] };

    /// Returns the head after this payload: SHA-256 of the previous hash and the payload.
    #[must_use]
    pub fn then(&self, payload: &[u8]) -> Head {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&self.hash);
        context.update(payload);
        let mut hash = [0; 32];
        hash.iter_mut().zip(context.finish().as_ref()).for_each(|(target, byte)| *target = *byte);
        Head { count: self.count + 1, hash }
    }

    /// Returns the 40 bytes kept in files: count, hash.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.count.to_le_bytes().to_vec();
        bytes.extend_from_slice(&self.hash);
        bytes
    }

    /// Reads them.
    pub fn decode(bytes: &[u8]) -> Option<Head> {
        let (count, hash) = bytes.split_first_chunk::<8>()?;
        Some(Head { count: u64::from_le_bytes(*count), hash: hash.try_into().ok()? })
    }
}

/// Reads a copy of a head; `None` if there is none.
///
/// # Errors
///
/// When it cannot be read, or is malformed.
pub fn read_head(path: &Path) -> Result<Option<Head>, ChainError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at(path)(error)),
    };
    let what = "not the head of a journal";
    let damaged = || ChainError::Damaged { path: path.to_owned(), offset: 0, what };
    Head::decode(&bytes).ok_or_else(damaged).map(Some)
}

/// Replaces a copy of a head. A power failure may leave the one before.
///
/// # Errors
///
/// When it cannot be written.
pub fn write_head(path: &Path, head: &Head) -> io::Result<()> {
    pixelward_files::replace_unsynced(path, &head.encode())
}
