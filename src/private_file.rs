//! Files with secrets: whether others than the program's own user can get at them.

use std::fs::Metadata;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Whether others than the owner can read or write a file.
///
/// A file that systemd hands over (`LoadCredential=`, systemd.exec(5)) may show a right to read for its group. There that is the mask of an access
/// control list, which names the service's user and nobody else.
pub fn is_open_to_others(path: &Path, metadata: &Metadata) -> bool {
    let handed_over = std::env::var_os("CREDENTIALS_DIRECTORY");
    is_open(path, metadata.permissions().mode(), handed_over.as_deref().map(Path::new))
}

fn is_open(path: &Path, mode: u32, handed_over: Option<&Path>) -> bool {
    let is_credential = handed_over.is_some_and(|folder| path.parent() == Some(folder));
    mode & if is_credential { 0o037 } else { 0o077 } != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, mode: u32) -> bool {
        is_open(Path::new(path), mode, Some(Path::new("/run/credentials/pixelward.service")))
    }

    #[test]
    fn a_secret_belongs_to_its_owner_alone() {
        for (mode, open) in [(0o600, false), (0o400, false), (0o640, true), (0o604, true), (0o660, true)] {
            assert_eq!(check("/etc/pixelward/users", mode), open, "{mode:o}");
            assert_eq!(is_open(Path::new("/etc/pixelward/users"), mode, None), open, "{mode:o}");
        }
    }

    #[test]
    fn what_systemd_hands_over_may_have_the_mask_of_its_access_list() {
        for (mode, open) in [(0o400, false), (0o440, false), (0o460, true), (0o444, true)] {
            assert_eq!(check("/run/credentials/pixelward.service/next-hop", mode), open, "{mode:o}");
            assert!(check("/run/credentials/pixelward.service/../next-hop", 0o440));
        }
    }
}
