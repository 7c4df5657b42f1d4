//! What tells one store from another, even where both have the same store key: 16 random bytes in a file of
//! their own, which backups leave out.

use std::io;
use std::path::{Path, PathBuf};

/// The identity of a store.
pub type Identity = [u8; 16];

fn path(directory: &Path) -> PathBuf {
    directory.join("identity")
}

/// Reads the identity of the store in a directory; `None` if it has none yet, or a damaged one.
///
/// # Errors
///
/// When it cannot be read.
pub fn read(directory: &Path) -> io::Result<Option<Identity>> {
    match std::fs::read(path(directory)) {
        Ok(bytes) => Ok(bytes.try_into().ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads the identity of the store in a directory, or gives it one.
pub(super) fn of(directory: &Path) -> io::Result<Identity> {
    if let Some(identity) = read(directory)? {
        return Ok(identity);
    }
    let mut identity = [0; 16];
    aws_lc_rs::rand::fill(&mut identity).map_err(|_| io::Error::other("no randomness is available"))?;
    pixelward_files::replace(&path(directory), &identity)?;
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_keeps_its_identity_and_a_copy_without_the_file_has_another() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        assert_eq!(read(here.path()).unwrap(), None);
        let identity = of(here.path()).unwrap();
        assert_eq!((of(here.path()).unwrap(), read(here.path()).unwrap()), (identity, Some(identity)));
        assert_ne!(of(there.path()).unwrap(), identity);
        std::fs::write(path(here.path()), "short").unwrap();
        assert_eq!(read(here.path()).unwrap(), None);
        assert_ne!(of(here.path()).unwrap(), identity);
    }
}
