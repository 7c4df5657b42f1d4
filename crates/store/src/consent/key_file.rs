//! The file of the store key.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::StoreKey;

/// Reads the key file, or creates it with a fresh key, readable only by its owner.
///
/// # Errors
///
/// When it cannot be read or made, others may read it, or it holds something else.
pub fn load_or_create(path: &Path) -> Result<StoreKey, String> {
    match std::fs::exists(path) {
        Ok(false) => create(path).map_err(|error| format!("{}: {error}", path.display())),
        Ok(true) | Err(_) => load(path),
    }
}

/// Reads the key file.
///
/// # Errors
///
/// When it cannot be read, others may read it, or it holds something else.
pub fn load(path: &Path) -> Result<StoreKey, String> {
    let named = |error: &dyn fmt::Display| format!("{}: {error}", path.display());
    let mut file = File::open(path).map_err(|error| named(&error))?;
    let mode = file.metadata().map_err(|error| named(&error))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(named(&"others may read the store key; run chmod 600 on it"));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|error| named(&error))?;
    let bytes = <[u8; 32]>::try_from(bytes.as_slice())
        .map_err(|_| named(&"expected 32 bytes; restore the right key from its backup"))?;
    Ok(StoreKey::new(bytes))
}

fn create(path: &Path) -> std::io::Result<StoreKey> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| std::io::Error::other("no randomness is available"))?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    if let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok(StoreKey::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let path = std::env::temp_dir().join(format!("pixelward-key-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let made = load_or_create(&path).unwrap();
        let read = load_or_create(&path).unwrap();
        assert_eq!(made.person("a@b.example"), read.person("a@b.example"));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(load_or_create(&path).unwrap_err().contains("chmod 600"));
        std::fs::remove_file(&path).unwrap();
    }
}
