//! Files that are the program's own: whether others can get at secrets, and whose the directories are that it
//! writes to.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// Whether others than the owner can read or write a file.
///
/// A file that systemd hands over (`LoadCredential=`, systemd.exec(5)) may show a right to read for its
/// group. There that is the mask of an access control list, which names the service's user and nobody else.
pub fn is_open_to_others(path: &Path, metadata: &Metadata) -> bool {
    let handed_over = std::env::var_os("CREDENTIALS_DIRECTORY");
    is_open(path, metadata.permissions().mode(), handed_over.as_deref().map(Path::new))
}

fn is_open(path: &Path, mode: u32, handed_over: Option<&Path>) -> bool {
    let is_credential = handed_over.is_some_and(|folder| path.parent() == Some(folder));
    mode & if is_credential { 0o037 } else { 0o077 } != 0
}

/// Whether root may write into a directory without leaving files there that the relay's user cannot read. A
/// directory that is not there yet is judged by the one that it will be made in. Who is not root is stopped
/// by the system.
///
/// # Errors
///
/// Whose it is, and how to run the command as that user.
pub fn check_owner(directory: &Path) -> io::Result<()> {
    let there =
        directory.ancestors().find_map(|ancestor| std::fs::metadata(ancestor).ok().map(|found| found.uid()));
    match there {
        Some(owner) if owner != 0 && rustix::process::geteuid().is_root() => {
            let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
            let name = name_of(owner, &users).unwrap_or_else(|| format!("#{owner}"));
            Err(io::Error::other(format!(
                "this belongs to the user {name}, who could not read what root writes there. Run the command \
                 as that user: \
                 runuser -u {name} -- pixelward …"
            )))
        }
        Some(_) | None => Ok(()),
    }
}

fn name_of(user: u32, users: &str) -> Option<String> {
    let fits = |line: &&str| line.split(':').nth(2) == Some(user.to_string().as_str());
    users.lines().find(fits)?.split(':').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_named_by_number() {
        let users =
            "root:x:0:0:root:/root:/bin/sh\npixelward:x:997:996::/var/lib/pixelward:/usr/sbin/nologin\n";
        assert_eq!(name_of(997, users).as_deref(), Some("pixelward"));
        for user in [99, 996, 9970] {
            assert_eq!(name_of(user, users), None, "{user}");
        }
    }

    #[test]
    fn root_writes_nothing_into_what_is_somebody_elses() {
        let folder = std::env::temp_dir().join(format!("pixelward-owner-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        assert!(check_owner(&folder).is_ok() && check_owner(&folder.join("new/below")).is_ok());
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&folder, Some(4_000_001), None).unwrap();
            for path in [folder.clone(), folder.join("new/below")] {
                let said = check_owner(&path).unwrap_err().to_string();
                assert!(said.contains("runuser -u #4000001"), "{said}");
            }
        }
        std::fs::remove_dir(&folder).unwrap();
    }

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
