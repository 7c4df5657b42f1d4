//! The hosts of trackers of unknown vendors, so that somebody can identify them.
//!
//! One small file, `evidence/statistics/unknown.hosts`, with a row per controller and host: the count, and
//! the first and last day. Promised: it contains no person, no message and no path; a host is kept as
//! [`crate::tracker::host::reduced`] returns it. It is bounded, and is not proof: the last second's counts
//! before a crash are lost.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::name;
use crate::evidence::Note;

/// The maximum number of rows.
const MAX_ROWS: usize = 2048;
/// The maximum number of hosts of one registrable domain that are distinguished for a controller; further
/// ones are counted under a star.
const MAX_OF_DOMAIN: usize = 8;
const FORMAT: u8 = 1;
const FILE: &str = "unknown.hosts";

/// Trackers of one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRow {
    /// The controller.
    pub controller: String,
    /// The host, as far as it is kept.
    pub host: String,
    /// The number of trackers, once per recipient.
    pub count: u64,
    /// The day of the first one.
    pub first_day: String,
    /// The day of the last one.
    pub last_day: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct File {
    format: u8,
    hosts: Vec<HostRow>,
}

/// The collector of hosts.
#[derive(Debug)]
pub struct Hosts {
    path: PathBuf,
    rows: BTreeMap<(String, String), HostRow>,
    is_changed: bool,
}

impl Hosts {
    /// Opens those below a directory of audit records; empty if the file cannot be read.
    pub fn open(directory: &Path) -> Hosts {
        let rows = read(directory).unwrap_or_default();
        let rows = rows.into_iter().take(MAX_ROWS);
        let rows = rows.map(|row| ((row.controller.clone(), row.host.clone()), row)).collect();
        Hosts { path: path(directory), rows, is_changed: false }
    }

    /// Counts those of a message.
    pub fn take(&mut self, note: &Note) {
        let day = name(note.at.0.div_euclid(86_400_000)).unwrap_or_default();
        for (host, count) in &note.hosts {
            self.count(&note.controller, host, count * note.recipients() as u64, &day);
        }
    }

    fn count(&mut self, controller: &str, host: &str, count: u64, day: &str) {
        let key = self.key(controller, host);
        if !self.rows.contains_key(&key) && self.rows.len() >= MAX_ROWS {
            // What was not seen for longest makes room, the rarer one first.
            let oldest = self.rows.iter().min_by_key(|(_, row)| (row.last_day.clone(), row.count));
            let oldest = oldest.map(|(key, _)| key.clone());
            oldest.into_iter().for_each(|key| drop(self.rows.remove(&key)));
        }
        let row = self.rows.entry(key).or_insert_with_key(|(controller, host)| HostRow {
            controller: controller.clone(),
            host: host.clone(),
            count: 0,
            first_day: day.to_owned(),
            last_day: day.to_owned(),
        });
        row.count += count;
        if *day < *row.first_day {
            row.first_day = day.to_owned();
        }
        if *day > *row.last_day {
            row.last_day = day.to_owned();
        }
        self.is_changed = true;
    }

    /// Returns the name under which a host is counted.
    fn key(&self, controller: &str, host: &str) -> (String, String) {
        let key = (controller.to_owned(), host.to_owned());
        if self.rows.contains_key(&key) {
            return key;
        }
        let Some(domain) = psl::domain_str(host.trim_start_matches("*.")) else { return key };
        let ending = format!(".{domain}");
        let of_domain =
            self.rows.keys().filter(|(owner, known)| owner == controller && known.ends_with(&ending));
        if of_domain.count() >= MAX_OF_DOMAIN { (key.0, format!("*{ending}")) } else { key }
    }

    /// Returns whether there are changes to write.
    pub fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// Writes changes; drops rows that were last seen before `oldest`.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn save(&mut self, oldest: &str) -> std::io::Result<()> {
        self.rows.retain(|_, row| &*row.last_day >= oldest);
        let folder = self.path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let file = File { format: FORMAT, hosts: self.rows.values().cloned().collect() };
        pixelward_files::replace(&self.path, &serde_json::to_vec_pretty(&file)?)?;
        self.is_changed = false;
        Ok(())
    }
}

fn path(directory: &Path) -> PathBuf {
    directory.join("statistics").join(FILE)
}

/// Reads the rows below a directory of audit records; none if there is no file.
///
/// # Errors
///
/// When it cannot be read, or is of a later version.
pub fn read(directory: &Path) -> Result<Vec<HostRow>, String> {
    let path = path(directory);
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let bytes = match std::fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|error| named(&error))?,
    };
    let file: File = serde_json::from_slice(&bytes).map_err(|error| named(&error))?;
    match file.format {
        FORMAT => Ok(file.hosts),
        other => Err(named(&format!("format {other} is of a later version"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, work: impl FnOnce(&Path)) {
        let folder = std::env::temp_dir().join(format!("pixelward-hosts-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        work(&folder);
        let _ = std::fs::remove_dir_all(&folder);
    }

    #[test]
    fn hosts_are_counted_with_their_days_and_read_again() {
        check("days", |folder| {
            assert_eq!(read(folder), Ok(Vec::new()));
            let mut hosts = Hosts::open(folder);
            hosts.count("shop", "open.vendor.example", 3, "2026-11-20");
            hosts.count("shop", "open.vendor.example", 2, "2026-11-18");
            hosts.count("shop", "gone.example", 1, "2023-01-01");
            assert!(hosts.is_changed());
            hosts.save("2024-01-01").unwrap();
            let mut hosts = Hosts::open(folder);
            hosts.count("shop", "open.vendor.example", 1, "2026-11-25");
            hosts.count("club", "open.vendor.example", 1, "2026-11-25");
            hosts.save("2024-01-01").unwrap();
            let rows = read(folder).unwrap();
            let row = |controller: &str, count, first: &str| HostRow {
                controller: controller.to_owned(),
                host: "open.vendor.example".to_owned(),
                count,
                first_day: first.to_owned(),
                last_day: "2026-11-25".to_owned(),
            };
            assert_eq!(rows, [row("club", 1, "2026-11-25"), row("shop", 6, "2026-11-18")]);
        });
    }

    #[test]
    fn rows_have_a_limit_in_all_and_for_each_domain() {
        let mut hosts = Hosts::open(Path::new("/nonexistent"));
        (0..100)
            .for_each(|number| hosts.count("shop", &format!("a{number}.vendor.example"), 1, "2026-11-20"));
        assert_eq!(hosts.rows.len(), MAX_OF_DOMAIN + 1);
        let star = ("shop".to_owned(), "*.vendor.example".to_owned());
        assert_eq!(hosts.rows[&star].count, 100 - MAX_OF_DOMAIN as u64);
        (0..5000).for_each(|number| hosts.count("shop", &format!("vendor{number}.example"), 1, "2026-11-21"));
        assert_eq!(hosts.rows.len(), MAX_ROWS);
        assert!(!hosts.rows.contains_key(&star), "what was not seen for longest has gone");
    }
}
