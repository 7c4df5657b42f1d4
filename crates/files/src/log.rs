//! A file that is appended to.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A file open for appending: each append is there as a whole or not at all, unless power fails.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    length: u64,
}

impl Log {
    /// Opens a file of which this many bytes are sound; the rest is cut off.
    ///
    /// # Errors
    ///
    /// When it cannot be opened or cut off.
    pub fn open(path: &Path, length: u64) -> io::Result<Log> {
        let mut file = OpenOptions::new().read(true).write(true).open(path)?;
        if file.metadata()?.len() != length {
            file.set_len(length)?;
        }
        file.seek(SeekFrom::Start(length))?;
        Ok(Log { path: path.to_owned(), file, length })
    }

    /// Creates the file with this content or replaces it, durably.
    ///
    /// # Errors
    ///
    /// When it cannot be written. An old file stays then.
    pub fn create(path: &Path, content: &[u8]) -> io::Result<Log> {
        let file = crate::replace(path, content)?;
        Ok(Log { path: path.to_owned(), file, length: content.len() as u64 })
    }

    /// Replaces what the file holds, durably.
    ///
    /// # Errors
    ///
    /// When it cannot be written. The file stays as it is then.
    pub fn rewrite(&mut self, content: &[u8]) -> io::Result<()> {
        *self = Log::create(&self.path, content)?;
        Ok(())
    }

    /// Appends bytes, all of them or none.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.file.write_all(bytes);
        self.settle(bytes, written)
    }

    /// Appends bytes, all of them or none, durably.
    ///
    /// # Errors
    ///
    /// When they cannot be written or synced.
    pub fn append_synced(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.file.write_all(bytes).and_then(|()| self.file.sync_data());
        self.settle(bytes, written)
    }

    fn settle(&mut self, bytes: &[u8], written: io::Result<()>) -> io::Result<()> {
        match written {
            Ok(()) => self.length += bytes.len() as u64,
            Err(_) => {
                self.file.set_len(self.length)?;
                self.file.seek(SeekFrom::Start(self.length))?;
            }
        }
        written
    }

    /// Returns how many bytes the file has.
    pub fn length(&self) -> u64 {
        self.length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_appended_follows_what_was_sound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, "one two broken").unwrap();
        let mut log = Log::open(&path, 8).unwrap();
        log.append(b"three ").unwrap();
        log.append_synced(b"four").unwrap();
        assert_eq!(
            (std::fs::read(&path).unwrap().as_slice(), log.length()),
            (b"one two three four".as_slice(), 18)
        );
        log.rewrite(b"4").unwrap();
        log.append(b"5").unwrap();
        assert_eq!((std::fs::read(&path).unwrap().as_slice(), log.length()), (b"45".as_slice(), 2));
    }
}
