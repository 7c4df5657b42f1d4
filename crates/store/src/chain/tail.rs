//! The segment at the end of a chain, open for appending.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
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
    /// Why nothing more is accepted until the chain is reopened: the contents of the file are unknown, or not
    /// ours alone.
    broken: Option<&'static str>,
}

const FAILED: &str = "an earlier write failed; restart once the disk works again";
const FOREIGN: &str = "this file was written to, truncated, moved or replaced by another process. Nothing \
                       more is written to it. Stop whatever else uses this directory, and restart";

impl Tail {
    /// Opens the last segment for appending after `head`, which is the end of its contents. One with an
    /// incomplete head is empty, and created anew.
    ///
    /// # Errors
    ///
    /// When it cannot be opened or created.
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
        Ok(Tail { directory: directory.to_owned(), form, file, path, length, number, head, broken: None })
    }

    /// Appends payloads and syncs them: once this returns they survive power failure. Returns the offsets of
    /// their frames.
    ///
    /// # Errors
    ///
    /// When writing or syncing fails, or the file is not as this process left it. Nothing counts as written
    /// then. If the file could not be restored, or somebody else wrote to it, nothing more is accepted until
    /// the chain is reopened.
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

    /// Returns whether the contents of the file are known, and written by this process.
    fn take_more(&mut self) -> Result<(), ChainError> {
        if self.broken.is_none() && !self.is_as_left().map_err(at(&self.path))? {
            self.broken = Some(FOREIGN);
        }
        let Some(why) = self.broken else { return Ok(()) };
        Err(ChainError::Io { path: self.path.clone(), source: io::Error::other(why) })
    }

    /// Returns whether the file is as this process left it, and still in its place.
    fn is_as_left(&self) -> io::Result<bool> {
        let held = self.file.metadata()?;
        let is_it = |there: Metadata| (there.dev(), there.ino()) == (held.dev(), held.ino());
        match std::fs::metadata(&self.path) {
            Ok(there) => Ok(is_it(there) && held.len() == self.length),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns the offset this many bytes after the end.
    fn place(&self, ahead: usize) -> Option<u32> {
        u32::try_from(self.length + ahead as u64).ok()
    }

    fn too_long(&self) -> ChainError {
        let source = io::Error::other("more records at once than a segment holds");
        ChainError::Io { path: self.path.clone(), source }
    }

    /// Truncates the file to what was acknowledged after a failed write. If that fails too, nothing more is
    /// accepted.
    fn take_back(&mut self) {
        let restored = self
            .file
            .set_len(self.length)
            .and_then(|()| self.file.seek(SeekFrom::Start(self.length)))
            .is_ok();
        self.broken = (!restored || self.file.sync_data().is_err()).then_some(FAILED);
    }

    /// Continues in a new segment.
    ///
    /// # Errors
    ///
    /// When it cannot be created. The old one stays open then.
    pub fn roll(&mut self) -> Result<(), ChainError> {
        self.take_more()?;
        let path = segment::create(&self.directory, self.form, self.number + 1, self.head, false)?;
        (self.file, self.length) = for_appending(&path)?;
        self.number += 1;
        self.path = path;
        Ok(())
    }

    /// Returns the end of the chain.
    pub fn head(&self) -> Head {
        self.head
    }

    /// Returns the number of the open segment.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Returns how many bytes of the open segment are used.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Returns whether there is no record in the open segment.
    pub fn is_fresh(&self) -> bool {
        self.length <= HEAD as u64
    }

    /// Returns whether nothing more is accepted.
    pub fn is_broken(&self) -> bool {
        self.broken.is_some()
    }
}

/// A segment and its length.
fn for_appending(path: &Path) -> Result<(File, u64), ChainError> {
    let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(at(path))?;
    let length = file.seek(SeekFrom::End(0)).map_err(at(path))?;
    Ok((file, length))
}
