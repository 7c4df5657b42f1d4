//! Counts of what was decided and found, by day: written together with audit records, so that reports need
//! not read those.
//!
//! One small file per day (UTC), `evidence/statistics/2026-11-24.json`. It identifies nobody, and is kept.
//! Each says up to which record of each chain it counts, so that after a crash what the open segments contain
//! besides is counted, and nothing twice. For today and yesterday it also has counts by hour. Beside the days
//! are the hosts of trackers of unknown vendors (`hosts.rs`).

pub mod hosts;
pub mod hours;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use time::{Date, Duration as Days};

use super::evidence::Note;
use super::evidence::record::Record;
use hosts::Hosts;
use hours::Hours;

/// How often files are written while counts change.
const PERIOD: Duration = Duration::from_secs(1);
/// The maximum number of rows of one kind in a day. Beyond it, counts go to [`OTHER`].
const MAX_ROWS: usize = 4096;
/// The name for everything without a row of its own.
pub const OTHER: &str = "other";
/// The number of days in memory.
const KEPT: usize = 2;
/// How many days before a new one are searched for expired counts by hour.
const LOOKED_BACK: i64 = 10;

/// A kind of recipients.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Recipients {
    /// The controller.
    pub controller: String,
    /// The mailstream.
    pub mailstream: String,
    /// The rule that decided.
    pub rule: String,
    /// What was decided.
    pub decided: String,
    /// What was done.
    pub done: String,
    /// The result of the delivery.
    pub result: String,
}

/// A kind of trackers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Trackers {
    /// The controller.
    pub controller: String,
    /// The mailstream.
    pub mailstream: String,
    /// The vendor.
    pub vendor: String,
    /// The carrier.
    pub carrier: String,
    /// What was done.
    pub done: String,
}

/// A kind of tracked links.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Links {
    /// The controller.
    pub controller: String,
    /// The mailstream.
    pub mailstream: String,
    /// What was done: `unwrapped`, `gated`, or `left` where nobody said what they lead to.
    pub done: String,
}

/// A kind and its count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row<K> {
    /// The kind.
    #[serde(flatten)]
    pub kind: K,
    /// The count.
    pub count: u64,
}

/// The counts of a period.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Recipients.
    pub recipients: BTreeMap<Recipients, u64>,
    /// Trackers, counted once per recipient.
    pub trackers: BTreeMap<Trackers, u64>,
    /// Tracked links that were to be changed, counted once per recipient.
    pub links: BTreeMap<Links, u64>,
    /// Recipients and trackers by hour, for one of the last two days.
    pub hours: Hours,
}

/// A file.
#[derive(Debug, Default, Serialize, Deserialize)]
struct File {
    format: u8,
    day: String,
    /// The last record that is counted, by chain.
    counted: BTreeMap<u16, u64>,
    recipients: Vec<Row<Recipients>>,
    trackers: Vec<Row<Trackers>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    links: Vec<Row<Links>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    hours: Vec<hours::Row>,
}

/// The format of the files.
const FORMAT: u8 = 1;

#[derive(Debug, Default)]
struct Day {
    counted: BTreeMap<u16, u64>,
    counts: Counts,
    is_changed: bool,
}

/// The collector of counts.
#[derive(Debug)]
pub struct Statistics {
    folder: PathBuf,
    days: BTreeMap<i64, Day>,
    hosts: Hosts,
    /// For how many days hosts are remembered.
    remembered: i64,
    saved: Instant,
    is_failing: bool,
}

impl Counts {
    /// Adds a record.
    fn take(&mut self, record: &Record<'_>) {
        let kind = Recipients {
            controller: record.controller.to_string(),
            mailstream: record.mailstream.to_string(),
            rule: record.rule.to_string(),
            decided: record.decided.to_string(),
            done: record.done.to_string(),
            result: record.result.to_string(),
        };
        let rest = |kind: Recipients| Recipients {
            mailstream: OTHER.to_owned(),
            controller: OTHER.to_owned(),
            ..kind
        };
        add(&mut self.recipients, kind, rest, 1);
        hours::take(&mut self.hours, record);
        let links = [
            ("unwrapped", record.links_unwrapped),
            ("gated", record.links_gated),
            ("left", record.links_left),
        ];
        for (done, count) in links.into_iter().filter(|(_, count)| *count > 0) {
            let (controller, mailstream) = (record.controller.to_string(), record.mailstream.to_string());
            let kind = Links { controller, mailstream, done: done.to_owned() };
            let rest =
                |kind: Links| Links { mailstream: OTHER.to_owned(), controller: OTHER.to_owned(), ..kind };
            add(&mut self.links, kind, rest, count);
        }
        for sighting in record.sightings.iter() {
            let kind = Trackers {
                controller: record.controller.to_string(),
                mailstream: record.mailstream.to_string(),
                vendor: sighting.vendor.to_string(),
                carrier: sighting.carrier.to_string(),
                done: record.done.to_string(),
            };
            let rest = |kind: Trackers| Trackers {
                mailstream: OTHER.to_owned(),
                controller: OTHER.to_owned(),
                vendor: OTHER.to_owned(),
                ..kind
            };
            add(&mut self.trackers, kind, rest, sighting.count);
        }
    }

    fn add(&mut self, other: Counts) {
        other
            .recipients
            .into_iter()
            .for_each(|(kind, count)| *self.recipients.entry(kind).or_default() += count);
        other.trackers.into_iter().for_each(|(kind, count)| *self.trackers.entry(kind).or_default() += count);
        other.links.into_iter().for_each(|(kind, count)| *self.links.entry(kind).or_default() += count);
    }
}

/// Counts; without a row and room for one, among the rest.
fn add<K: Ord>(rows: &mut BTreeMap<K, u64>, kind: K, rest: impl FnOnce(K) -> K, count: u64) {
    let is_full = rows.len() >= MAX_ROWS;
    let kind = if is_full && !rows.contains_key(&kind) { rest(kind) } else { kind };
    *rows.entry(kind).or_default() += count;
}

impl Statistics {
    /// Opens the statistics below a directory of audit records, which are kept for this many days.
    pub fn open(directory: &Path, retention_days: u16) -> Statistics {
        Statistics {
            folder: directory.join("statistics"),
            days: BTreeMap::new(),
            hosts: Hosts::open(directory),
            remembered: i64::from(retention_days),
            saved: Instant::now(),
            is_failing: false,
        }
    }

    /// Counts a record of a chain, unless it is counted already.
    pub fn take(&mut self, chain: u16, number: u64, record: &Record<'_>) {
        let Statistics { folder, days, .. } = self;
        let day = record.at.div_euclid(86_400_000);
        if !days.contains_key(&day) {
            forget_hours(folder, days, day);
            days.insert(day, Day::load(folder, day));
        }
        let Some(of_day) = days.get_mut(&day) else { return };
        let counted = of_day.counted.entry(chain).or_default();
        if number > *counted {
            *counted = number;
            of_day.counts.take(record);
            of_day.is_changed = true;
        }
    }

    /// Counts the hosts of a message's trackers of unknown vendors.
    pub fn take_hosts(&mut self, note: &Note) {
        if !note.hosts.is_empty() {
            self.hosts.take(note);
        }
    }

    /// Returns whether there are changes to write. After a failure the next record tries again.
    pub fn is_due(&self) -> bool {
        !self.is_failing && (self.hosts.is_changed() || self.days.values().any(|day| day.is_changed))
    }

    /// Writes changes, at most once a second.
    pub fn save_if_due(&mut self) {
        if self.saved.elapsed() >= PERIOD {
            self.save();
        }
    }

    /// Writes changes. A failure is logged and tried again; after a restart the counts can be recovered from
    /// the records.
    pub fn save(&mut self) {
        self.saved = Instant::now();
        self.is_failing = true;
        for (day, of_day) in self.days.iter_mut().filter(|(_, of_day)| of_day.is_changed) {
            match of_day.save(&self.folder, *day) {
                Ok(()) => of_day.is_changed = false,
                Err(error) => {
                    tracing::warn!(%error, "statistics could not be written");
                    return;
                }
            }
        }
        if self.hosts.is_changed() {
            let today = self.days.keys().next_back().copied().unwrap_or_default();
            let oldest = name(today - self.remembered).unwrap_or_default();
            if let Err(error) = self.hosts.save(&oldest) {
                tracing::warn!(%error, "the hosts of unknown vendors could not be written");
                return;
            }
        }
        self.is_failing = false;
        while self.days.len() > KEPT {
            self.days.pop_first();
        }
    }
}

/// Counts by hour cover two days: older ones are removed when a day begins.
fn forget_hours(folder: &Path, days: &mut BTreeMap<i64, Day>, new: i64) {
    for day in new - LOOKED_BACK..new - 1 {
        let has_some = |day: &Day| !day.counts.hours.is_empty();
        if let Some(of_day) = days.get_mut(&day).filter(|of_day| has_some(of_day)) {
            of_day.counts.hours.clear();
            of_day.is_changed = true;
        } else if !days.contains_key(&day) && path(folder, day).is_some_and(|path| path.exists()) {
            let mut of_day = Day::load(folder, day);
            if has_some(&of_day) {
                of_day.counts.hours.clear();
                if let Err(error) = of_day.save(folder, day) {
                    tracing::warn!(%error, "statistics could not be written");
                }
            }
        }
    }
}

impl Day {
    /// Reads the file of a day; empty if there is none, or it cannot be read.
    fn load(folder: &Path, day: i64) -> Day {
        let Some(file) = path(folder, day).and_then(|path| read(&path).ok()) else { return Day::default() };
        Day { counted: file.counted.clone(), counts: file.counts(), is_changed: false }
    }

    fn save(&self, folder: &Path, day: i64) -> std::io::Result<()> {
        let Some(path) = path(folder, day) else { return Ok(()) };
        std::fs::create_dir_all(folder)?;
        let file = File {
            format: FORMAT,
            day: name(day).unwrap_or_default(),
            counted: self.counted.clone(),
            recipients: rows(&self.counts.recipients),
            trackers: rows(&self.counts.trackers),
            links: rows(&self.counts.links),
            hours: self
                .counts
                .hours
                .iter()
                .map(|(kind, count)| hours::Row { kind: kind.clone(), count: *count })
                .collect(),
        };
        pixelward_files::replace(&path, &serde_json::to_vec_pretty(&file)?).map(drop)
    }
}

impl File {
    fn counts(self) -> Counts {
        Counts {
            recipients: self.recipients.into_iter().map(|row| (row.kind, row.count)).collect(),
            trackers: self.trackers.into_iter().map(|row| (row.kind, row.count)).collect(),
            links: self.links.into_iter().map(|row| (row.kind, row.count)).collect(),
            hours: self.hours.into_iter().map(|row| (row.kind, row.count)).collect(),
        }
    }
}

fn rows<K: Clone>(counts: &BTreeMap<K, u64>) -> Vec<Row<K>> {
    counts.iter().map(|(kind, count)| Row { kind: kind.clone(), count: *count }).collect()
}

fn read(path: &Path) -> Result<File, String> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let bytes = std::fs::read(path).map_err(|error| named(&error))?;
    let file: File = serde_json::from_slice(&bytes).map_err(|error| named(&error))?;
    match file.format {
        FORMAT => Ok(file),
        other => Err(named(&format!("format {other} is of a later version"))),
    }
}

/// Formats a day as in its file name: `2026-11-24`.
fn name(day: i64) -> Option<String> {
    const FIRST: Date = time::macros::date!(1970 - 01 - 01);
    let date = FIRST.checked_add(Days::days(day))?;
    Some(format!("{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day()))
}

fn path(folder: &Path, day: i64) -> Option<PathBuf> {
    Some(folder.join(format!("{}.json", name(day)?)))
}

/// Lists the days that have counts below a directory of audit records, oldest first.
///
/// # Errors
///
/// When the directory is there and cannot be read.
pub fn days(directory: &Path) -> std::io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(directory.join("statistics")) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let files = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    let mut days: Vec<String> =
        files.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    days.sort();
    Ok(days)
}

/// Returns the file of a day.
pub fn file_of(directory: &Path, day: &str) -> PathBuf {
    directory.join("statistics").join(format!("{day}.json"))
}

/// Reads the counts of a file.
///
/// # Errors
///
/// When it cannot be read, or is of a later version.
pub fn counts_of(file: &Path) -> Result<Counts, String> {
    read(file).map(File::counts)
}

/// Reads the counts below a directory of audit records, of all days from this one on, and returns how many
/// days these are.
///
/// # Errors
///
/// When a file cannot be read.
pub fn since(directory: &Path, first: &str) -> Result<(Counts, usize), String> {
    let folder = directory.join("statistics");
    let mut counts = Counts::default();
    let mut days = 0;
    let Ok(entries) = std::fs::read_dir(&folder) else { return Ok((counts, days)) };
    for entry in entries.flatten() {
        let path = entry.path();
        let is_file = path.extension().is_some_and(|extension| extension == "json");
        let is_wanted = path.file_stem().and_then(|name| name.to_str()).is_some_and(|day| day >= first);
        if is_file && is_wanted {
            counts.add(read(&path)?.counts());
            days += 1;
        }
    }
    Ok((counts, days))
}

impl Serialize for Counts {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown {
            recipients: Vec<Row<Recipients>>,
            trackers: Vec<Row<Trackers>>,
            links: Vec<Row<Links>>,
        }
        let (recipients, trackers) = (rows(&self.recipients), rows(&self.trackers));
        Shown { recipients, trackers, links: rows(&self.links) }.serialize(serializer)
    }
}

#[cfg(test)]
mod tests;
