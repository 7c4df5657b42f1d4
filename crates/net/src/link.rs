//! The one-time console link for the first day: created on the console's machine by anyone who may write its
//! directory, and valid once.
//!
//! Only the SHA-256 of the secret is kept, with its expiry, in a file that only its owner can read. Using the
//! link removes the file, so it works only once whatever happens in between; a new link replaces the previous
//! one.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::{constant_time, digest, rand};

use pixelward_core::consent::Timestamp;

/// The maximum size of such a file, in bytes.
const MAX_FILE: u64 = 256;

/// The result of using a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// It was valid, and is now used up.
    Good,
    /// It is invalid, used or expired.
    Refused,
}

/// Creates a link secret with this lifetime, in a file that belongs to the directory's owner.
///
/// # Errors
///
/// When the directory cannot be written, or no randomness is available.
pub fn make(folder: &Path, now: Timestamp, lifetime: Duration) -> io::Result<String> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).map_err(|_| io::Error::other("no randomness is available"))?;
    let secret = hex::encode(bytes);
    let end = now.0.saturating_add(i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX));
    std::fs::create_dir_all(folder)?;
    pixelward_files::replace(&path(folder), format!("{end} {}\n", hashed(&secret)).as_bytes())?;
    Ok(secret)
}

/// Uses a link up if the secret is that of the latest one.
///
/// # Errors
///
/// When the file cannot be read or removed, or others than its owner can read it.
pub fn take(folder: &Path, secret: &str, now: Timestamp) -> io::Result<Shown> {
    let path = path(folder);
    let mut file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Shown::Refused),
        other => other?,
    };
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        return Err(io::Error::other(format!(
            "{}: others can read or write it; create a new link",
            path.display()
        )));
    }
    let mut text = String::new();
    Read::by_ref(&mut file).take(MAX_FILE).read_to_string(&mut text)?;
    let (end, kept) = text.trim_end().split_once(' ').unwrap_or_default();
    let is_right = constant_time::verify_slices_are_equal(kept.as_bytes(), hashed(secret).as_bytes()).is_ok();
    if !is_right || end.parse::<i64>().is_ok_and(|end| now.0 >= end) {
        return Ok(Shown::Refused);
    }
    // If two people use it at once, one of them finds the file gone.
    match std::fs::remove_file(&path) {
        Ok(()) => Ok(Shown::Good),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Shown::Refused),
        Err(error) => Err(error),
    }
}

fn path(folder: &Path) -> PathBuf {
    folder.join("link")
}

fn hashed(secret: &str) -> String {
    hex::encode(digest::digest(&digest::SHA256, secret.as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_000_000_000);

    fn check(name: &str, work: impl FnOnce(&Path)) {
        let folder = std::env::temp_dir().join(format!("pixelward-link-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        work(&folder);
        let _ = std::fs::remove_dir_all(&folder);
    }

    fn after(seconds: i64) -> Timestamp {
        Timestamp(NOW.0 + seconds * 1000)
    }

    #[test]
    fn a_link_counts_once() {
        check("once", |folder| {
            let secret = make(folder, NOW, Duration::from_secs(60)).unwrap();
            assert_eq!(take(folder, "0", after(1)).unwrap(), Shown::Refused);
            assert_eq!(take(folder, &secret, after(1)).unwrap(), Shown::Good);
            assert_eq!(take(folder, &secret, after(1)).unwrap(), Shown::Refused);
        });
    }

    #[test]
    fn of_many_who_show_it_at_once_one_gets_in() {
        check("race", |folder| {
            let secret = make(folder, NOW, Duration::from_secs(60)).unwrap();
            let show = || take(folder, &secret, NOW).unwrap() == Shown::Good;
            let good = std::thread::scope(|scope| {
                let all: Vec<_> = (0..16).map(|_| scope.spawn(show)).collect();
                all.into_iter().map(|thread| thread.join().unwrap()).filter(|is_right| *is_right).count()
            });
            assert_eq!(good, 1);
        });
    }

    #[test]
    fn one_that_is_over_replaced_or_readable_by_others_does_not_count() {
        check("over", |folder| {
            let first = make(folder, NOW, Duration::from_secs(60)).unwrap();
            assert_eq!(take(folder, &first, after(60)).unwrap(), Shown::Refused);
            let second = make(folder, NOW, Duration::from_secs(60)).unwrap();
            assert_eq!(take(folder, &first, NOW).unwrap(), Shown::Refused);
            let mode = std::fs::metadata(folder.join("link")).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            std::fs::set_permissions(folder.join("link"), PermissionsExt::from_mode(0o644)).unwrap();
            assert!(take(folder, &second, NOW).unwrap_err().to_string().contains("others can read"));
        });
    }
}
