//! The segment at the end of a chain, open for appending.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::segment::{self, FRAME, Frame, HEAD};
use super::{ChainError, Form, Head, at};

/// The open end of a chain.
#[derive(Debug)]
pub struct Tail {
    directory: PathBuf,
    form: Form,
    file: File,
    path: PathBuf,
    length: u64,
    number: u32,
    head: Head,
    /// Set after a failed write: what is in the file is then unknown until the chain is opened again.
    broken: bool,
}

impl Tail {
    /// Opens the last segment for appending behind `head`, which is the end of what it has. One whose head was never written whole holds
    /// nothing, and is made anew.
    ///
    /// # Errors
    ///
    /// When it cannot be opened or made.
    pub fn open(directory: &Path, form: Form, number: u32, head: Head) -> Result<Tail, ChainError> {
        let path = segment::path(directory, form, number);
        let length = match std::fs::metadata(&path) {
            Ok(metadata) => Some(metadata.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(at(&path)(error)),
        };
        if length.is_none_or(|length| length < HEAD as u64) {
            segment::create(directory, form, number, head, length.is_some())?;
        }
        let (file, length) = for_appending(&path)?;
        Ok(Tail { directory: directory.to_owned(), form, file, path, length, number, head, broken: false })
    }

    /// Appends payloads and syncs them: once this returns they survive power loss. Gives the offsets of their frames.
    ///
    /// # Errors
    ///
    /// When writing or syncing fails. Nothing of it counts as written then. Where the file could not be put back to what it was, nothing more
    /// is taken until the chain is opened again.
    pub fn append(&mut self, payloads: &[Vec<u8>]) -> Result<Vec<u32>, ChainError> {
        self.take_more()?;
        let length = payloads.iter().map(|payload| FRAME + payload.len()).sum();
        let mut frames = Vec::with_capacity(length);
        let mut head = self.head;
        let mut places = Vec::with_capacity(payloads.len());
        for payload in payloads {
            places.push(self.place(frames.len()).ok_or_else(|| self.too_long())?);
            head = head.then(payload);
            Frame::write(&mut frames, &head, payload);
        }
        if let Err(error) = self.file.write_all(&frames).and_then(|()| self.file.sync_data()) {
            self.take_back();
            return Err(at(&self.path)(error));
        }
        self.length += frames.len() as u64;
        self.head = head;
        Ok(places)
    }

    /// Whether what the file has is known.
    fn take_more(&self) -> Result<(), ChainError> {
        if !self.broken {
            return Ok(());
        }
        let source = io::Error::other("an earlier write failed; restart once the disk is well again");
        Err(ChainError::Io { path: self.path.clone(), source })
    }

    /// The offset so many bytes behind the end.
    fn place(&self, ahead: usize) -> Option<u32> {
        u32::try_from(self.length + ahead as u64).ok()
    }

    fn too_long(&self) -> ChainError {
        let source = io::Error::other("more records at once than a segment holds");
        ChainError::Io { path: self.path.clone(), source }
    }

    /// After a failed write the file is cut to what was acknowledged. Where that fails, too, nothing more is taken.
    fn take_back(&mut self) {
        let restored = self
            .file
            .set_len(self.length)
            .and_then(|()| self.file.seek(SeekFrom::Start(self.length)))
            .is_ok();
        self.broken = !restored || self.file.sync_data().is_err();
    }

    /// Goes on in a new segment.
    ///
    /// # Errors
    ///
    /// When it cannot be made. The old one stays open then.
    pub fn roll(&mut self) -> Result<(), ChainError> {
        self.take_more()?;
        let path = segment::create(&self.directory, self.form, self.number + 1, self.head, false)?;
        (self.file, self.length) = for_appending(&path)?;
        self.number += 1;
        self.path = path;
        Ok(())
    }

    /// The end of the chain.
    pub fn head(&self) -> Head {
        self.head
    }

    /// The number of the open segment.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// How many bytes of the open segment are used.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Whether there is no record in the open segment.
    pub fn is_fresh(&self) -> bool {
        self.length <= HEAD as u64
    }

    /// Whether nothing more is taken.
    pub fn is_broken(&self) -> bool {
        self.broken
    }
}

/// A segment and its length.
fn for_appending(path: &Path) -> Result<(File, u64), ChainError> {
    let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(at(path))?;
    let length = file.seek(SeekFrom::End(0)).map_err(at(path))?;
    Ok((file, length))
}
