//! Files that are complete or not there: written beside the old one, and renamed over it.
//!
//! The name beside is always the same, so that a crash leaves one file behind and not one more each time: it
//! may hold keys.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Replaces a file durably: after a crash it has the old content or the new one, and once this returns, the
/// new one. Only its owner, who is the directory's, can read it. Returns the file, open for reading and
/// writing, its position at the end.
///
/// # Errors
///
/// When the file or its directory cannot be written. The old file stays then.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<File> {
    let mut file = unfinished(path)?;
    file.write_all(content)?;
    finish(path, &file)?;
    Ok(file)
}

/// Replaces a file like [`replace`], but a power failure soon afterwards may leave the old content.
///
/// # Errors
///
/// When the file cannot be written. The old file stays then.
pub fn replace_unsynced(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = unfinished(path)?;
    file.write_all(content)?;
    renamed(path, &file)
}

/// Creates the file that is to replace the one at this path, empty, for its owner alone, who is the
/// directory's. [`finish`] puts it in its place.
///
/// # Errors
///
/// When it cannot be created.
pub fn unfinished(path: &Path) -> io::Result<File> {
    let beside = beside(path);
    // What a crash left may have another owner or mode.
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&beside)?;
    let owner = std::fs::metadata(folder_of(path))?;
    if file.metadata()?.uid() != owner.uid() {
        std::os::unix::fs::fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(file)
}

/// Puts a file made by [`unfinished`] in its place, durably.
///
/// # Errors
///
/// When the file or its directory cannot be synced, or it cannot be renamed.
pub fn finish(path: &Path, file: &File) -> io::Result<()> {
    renamed(path, file)?;
    File::open(folder_of(path))?.sync_all()
}

/// Writes a file that only its owner can read, over what is there, and syncs it.
///
/// # Errors
///
/// When it cannot be written; it may be incomplete then.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let mut file = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()?;
    Ok(file)
}

fn renamed(path: &Path, file: &File) -> io::Result<()> {
    file.sync_all()?;
    std::fs::rename(beside(path), path)
}

fn beside(path: &Path) -> PathBuf {
    path.with_added_extension("new")
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, SeekFrom};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_replaced_whole_and_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        std::fs::write(&path, "old").unwrap();
        // As a crash would leave it.
        let beside = folder.path().join("state.json.new");
        std::fs::write(&beside, "half of something longer").unwrap();
        std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o644)).unwrap();
        let mut file = replace(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!beside.exists());
        file.write_all(b"er").unwrap();
        let mut read = String::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_string(&mut read).unwrap();
        assert_eq!(read, "newer");
        replace_unsynced(&path, b"newest").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"newest");
    }

    #[test]
    fn what_cannot_be_written_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        std::fs::write(&path, "old").unwrap();
        std::fs::create_dir_all(folder.path().join("state.new/taken")).unwrap();
        assert!(replace(&path, b"new").is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
    }
}
