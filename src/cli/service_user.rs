//! The user that the service runs as, and what that user may do with files. Root may do everything, so what
//! root can open says nothing of the service.

use std::fs::Metadata;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where units stand, those of the administrator first.
const UNITS: [&str; 3] = ["/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
const UNIT: &str = "pixelward.service";
/// The maximum number of files that are looked at.
const MOST_FILES: usize = 100_000;
const READ: u32 = 4;
const WRITE: u32 = 2;
const SEARCH: u32 = 1;

/// A user of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServiceUser {
    /// The name.
    pub(super) name: String,
    id: u32,
    groups: Vec<u32>,
}

impl ServiceUser {
    /// Returns the user of the installed unit, if root asks. Others find out by trying.
    pub(super) fn of_unit() -> Option<ServiceUser> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let unit = UNITS.iter().find_map(|folder| std::fs::read_to_string(Path::new(folder).join(UNIT)).ok());
        ServiceUser::named(user_of(&unit?)?).ok()
    }

    /// Finds a user by name.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub(super) fn named(name: &str) -> Result<ServiceUser, String> {
        let read = |path| std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
        let found = ServiceUser::among(name, &read("/etc/passwd")?, &read("/etc/group")?);
        found.ok_or_else(|| format!("there is no user {name}"))
    }

    fn among(name: &str, users: &str, groups: &str) -> Option<ServiceUser> {
        let mut user = users.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?.split(':');
        let (id, group) = (user.nth(1)?.parse().ok()?, user.next()?.parse().ok()?);
        let others = groups.lines().filter_map(|line| {
            let mut fields = line.split(':').skip(2);
            let (id, members) = (fields.next()?.parse().ok()?, fields.next()?);
            members.split(',').any(|member| member == name).then_some(id)
        });
        Some(ServiceUser { name: name.to_owned(), id, groups: others.chain([group]).collect() })
    }

    fn may(&self, wanted: u32, file: &Metadata) -> bool {
        let shift = match file {
            _ if self.id == 0 => return true,
            _ if file.uid() == self.id => 6,
            _ if self.groups.contains(&file.gid()) => 3,
            _ => 0,
        };
        (file.mode() >> shift) & wanted == wanted
    }

    /// Returns the first file at or below `path` that this user cannot read and write, or the folder on the
    /// way that it cannot pass. Of what is not there yet, the folder where it would be made.
    ///
    /// # Errors
    ///
    /// When something cannot be looked at.
    pub(super) fn stopped_at(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        let path = std::path::absolute(path)?;
        let above: Vec<&Path> = path.ancestors().skip(1).collect();
        for folder in above.into_iter().rev() {
            match std::fs::metadata(folder) {
                Ok(file) if !self.may(SEARCH, &file) => return Ok(Some(folder.to_owned())),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            }
        }
        let Some(start) = path.ancestors().find(|folder| folder.exists()) else { return Ok(None) };
        if start != path {
            return Ok((!self.may(WRITE | SEARCH, &std::fs::metadata(start)?)).then(|| start.to_owned()));
        }
        let mut left = vec![path];
        let mut looked_at = 0;
        while let Some(path) = left.pop() {
            looked_at += 1;
            let file = std::fs::metadata(&path)?;
            let wanted = if file.is_dir() { READ | WRITE | SEARCH } else { READ | WRITE };
            if !self.may(wanted, &file) {
                return Ok(Some(path));
            }
            if file.is_dir() && looked_at < MOST_FILES {
                for entry in std::fs::read_dir(&path)? {
                    left.push(entry?.path());
                }
            }
        }
        Ok(None)
    }
}

/// Returns the user that a unit names, if it is not root.
fn user_of(unit: &str) -> Option<&str> {
    let named = unit.lines().filter_map(|line| line.trim().strip_prefix("User=")).next_back()?.trim();
    Some(named).filter(|name| !name.is_empty() && *name != "root")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_the_groups_of_both_files() {
        let users =
            "root:x:0:0::/root:/bin/sh\npixelward2:x:7:7::/:/bin/false\npixelward:x:105:110::/:/bin/false\n";
        let groups =
            "root:x:0:\npixelward:x:110:\nssl-cert:x:120:postgres,pixelward\nother:x:121:pixelward2\n";
        let user = ServiceUser::among("pixelward", users, groups).unwrap();
        assert_eq!((user.id, user.groups), (105, vec![120, 110]));
        assert_eq!(ServiceUser::among("pixel", users, groups), None);
    }

    #[test]
    fn the_last_user_of_a_unit_counts() {
        assert_eq!(user_of("[Service]\nUser=a\n User=pixelward \nGroup=b\n"), Some("pixelward"));
        assert_eq!(user_of("[Service]\nUser=root\n"), None);
        assert_eq!(user_of("[Service]\n#User=a\n"), None);
    }
}
