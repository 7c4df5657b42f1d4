//! The audit trail: who looked at or changed what through the console. Append-only, each entry chained by
//! hash to the one before ([`crate::chain`]).
//!
//! Promised: an acknowledged entry survives power failure; `pixelward audit verify` notices one that was
//! changed, removed or inserted. People whose data was viewed appear under the keyed hash by which the store
//! knows them, never by address.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::chain::segment::{self, End, Frame};
use crate::chain::{ChainError, Form, Head, Link, Tail, at, read_head, write_head};

/// The segments.
const FORM: Form = Form { magic: b"PWAUDI01", suffix: "audit" };
/// The format of an entry: its first byte. The rest is JSON.
const FORMAT: u8 = 1;
/// The size at which a segment is closed, in bytes.
const SEGMENT: u64 = 4 << 20;

/// The action of an entry that says that other rules came into force ([`crate::deployments`]).
pub const DEPLOYED: &str = "rules.deployed";

/// An action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The time, in milliseconds since 1970.
    pub at: i64,
    /// The token through which it was recorded.
    pub token: String,
    /// The person who acted.
    pub actor: String,
    /// The action.
    pub action: String,
    /// The controller whose data was concerned.
    pub controller: Option<String>,
    /// The keyed hash of the person concerned.
    pub person: Option<String>,
    /// Further details.
    pub detail: Option<String>,
}

/// An entry with its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chained {
    /// The number, starting at 1.
    pub number: u64,
    /// The chain's hash up to and including it.
    pub hash: [u8; 32],
    /// The contents.
    pub entry: Entry,
}

/// The trail, open for writing. Entries are found by number: their places are in memory, 8 bytes each.
#[derive(Debug)]
pub struct Audit {
    directory: PathBuf,
    tail: Tail,
    places: Vec<(u32, u32)>,
    /// The numbers of entries about deployments.
    deployed: Vec<u64>,
}

/// The trail of a running relay, opened on first use. If that fails, the next use tries again.
#[derive(Debug)]
pub struct Trail {
    directory: PathBuf,
    audit: Mutex<Option<Audit>>,
}

impl Trail {
    /// Creates a trail in this directory, which is opened later.
    pub fn at(directory: &Path) -> Trail {
        Trail { directory: directory.to_owned(), audit: Mutex::new(None) }
    }

    /// Returns the directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Does something with the trail, alone.
    ///
    /// # Errors
    ///
    /// When it cannot be opened, or what that returns.
    pub fn with<T>(&self, work: impl FnOnce(&mut Audit) -> Result<T, ChainError>) -> Result<T, ChainError> {
        let mut held = self.audit.lock().unwrap_or_else(PoisonError::into_inner);
        let audit = match held.take() {
            Some(audit) => held.insert(audit),
            None => held.insert(Audit::open(&self.directory)?),
        };
        let done = work(audit);
        if done.is_err() {
            // The contents of the file are unknown in that case.
            *held = None;
        }
        done
    }
}

impl Audit {
    /// Opens the trail, and reads all of it: an interrupted write is cut off, and damage is an error.
    ///
    /// # Errors
    ///
    /// When it cannot be read or written, or is damaged.
    pub fn open(directory: &Path) -> Result<Audit, ChainError> {
        make(directory)?;
        let (mut places, mut deployed) = (Vec::new(), Vec::new());
        let (head, last) = walked(directory, |number, head, place, payload| {
            places.push((number, place));
            deployed.extend(is_deployment(payload).then_some(head.count));
        })?;
        if let Some((path, offset)) = last.torn {
            segment::cut(&path, offset)?;
        }
        let known = read_head(&directory.join("head"))?;
        if known.is_some_and(|known| known.count > head.count) {
            tracing::error!(
                directory = %directory.display(),
                found = head.count,
                "entries are missing at the end of the audit trail"
            );
        }
        let tail = Tail::open(directory, FORM, last.number.max(1), head)?;
        Ok(Audit { directory: directory.to_owned(), tail, places, deployed })
    }

    /// Writes an entry, durably.
    ///
    /// # Errors
    ///
    /// When it cannot be written. Nothing of it counts then.
    pub fn write(&mut self, entry: &Entry) -> Result<Chained, ChainError> {
        let json =
            serde_json::to_vec(entry).map_err(|error| at(&self.directory)(std::io::Error::other(error)))?;
        let payload = [&[FORMAT][..], &json].concat();
        if !self.tail.is_fresh() && self.tail.length() >= SEGMENT {
            self.tail.roll()?;
        }
        let places = self.tail.append(&[payload])?;
        self.places.extend(places.into_iter().map(|place| (self.tail.number(), place)));
        let head = self.tail.head();
        self.deployed.extend((entry.action == DEPLOYED).then_some(head.count));
        if let Err(error) = write_head(&self.directory.join("head"), &head) {
            tracing::error!(%error, "the end of the audit trail could not be noted");
        }
        Ok(Chained { number: head.count, hash: head.hash, entry: entry.clone() })
    }

    /// Returns entries with smaller numbers than this, newest first, at most this many.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    pub fn before(&self, number: u64, limit: usize) -> Result<Vec<Chained>, ChainError> {
        let most = usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX).min(self.places.len());
        let wanted = self.places.iter().enumerate().take(most).rev().take(limit);
        wanted.map(|(index, place)| self.entry(index as u64 + 1, *place)).collect()
    }

    /// Returns the entries about deployments, newest first, at most this many.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    pub fn deployments(&self, limit: usize) -> Result<Vec<Chained>, ChainError> {
        let numbers = self.deployed.iter().rev().take(limit);
        let places = numbers.filter_map(|number| {
            let index = usize::try_from(number.saturating_sub(1)).ok()?;
            Some((*number, *self.places.get(index)?))
        });
        places.map(|(number, place)| self.entry(number, place)).collect()
    }

    fn entry(&self, number: u64, (segment, place): (u32, u32)) -> Result<Chained, ChainError> {
        let path = segment::path(&self.directory, FORM, segment);
        let file = std::fs::File::open(&path).map_err(at(&path))?;
        let frame = Frame::read(&file, place).map_err(at(&path))?;
        let damaged =
            || ChainError::Damaged { path: path.clone(), offset: u64::from(place), what: "not an entry" };
        let frame = frame.ok_or_else(damaged)?;
        let entry = decoded(&frame.payload).ok_or_else(damaged)?;
        Ok(Chained { number, hash: frame.hash, entry })
    }
}

fn make(directory: &Path) -> Result<(), ChainError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(at(directory))
}

fn is_deployment(payload: &[u8]) -> bool {
    let may_be = memchr::memmem::find(payload, DEPLOYED.as_bytes()).is_some();
    may_be && decoded(payload).is_some_and(|entry| entry.action == DEPLOYED)
}

fn decoded(payload: &[u8]) -> Option<Entry> {
    let (&format, json) = payload.split_first()?;
    serde_json::from_slice(json).ok().filter(|_| format == FORMAT)
}

/// Returns the end of the trail.
struct Last {
    number: u32,
    torn: Option<(PathBuf, u64)>,
}

/// Walks through all segments. `each` gets the segment's number, the chain up to an entry, its place and its
/// payload.
fn walked(
    directory: &Path,
    mut each: impl FnMut(u32, &Head, u32, &[u8]),
) -> Result<(Head, Last), ChainError> {
    let segments = segment::list(directory, FORM)?;
    let mut head = Head::EMPTY;
    let mut last = Last { number: 0, torn: None };
    let count = segments.len();
    for (index, (number, path)) in segments.into_iter().enumerate() {
        let end = segment::scan(&path, FORM, 0, &mut head, |head, place, payload| {
            each(number, head, place, payload)
        })?;
        last.number = number;
        match end {
            End::Whole => {}
            End::Torn { offset, .. } if index + 1 == count => last.torn = Some((path, offset)),
            End::Torn { offset, .. } => {
                return Err(ChainError::Damaged { path, offset, what: "entries are missing behind it" });
            }
        }
    }
    Ok((head, last))
}

/// Walks through the whole trail without changing it. Returns its end.
///
/// # Errors
///
/// When it cannot be read, is damaged, or entries are missing at its end.
pub fn verify(directory: &Path, mut each: impl FnMut(Chained)) -> Result<Head, ChainError> {
    let mut unknown = None;
    let (head, _) = walked(directory, |_, head, place, payload| match decoded(payload) {
        Some(entry) => each(Chained { number: head.count, hash: head.hash, entry }),
        None => unknown = Some(place),
    })?;
    let damaged = |offset, what| ChainError::Damaged { path: directory.to_owned(), offset, what };
    if let Some(place) = unknown {
        return Err(damaged(u64::from(place), "an entry is of a later version"));
    }
    match read_head(&directory.join("head"))? {
        Some(known) if known.count > head.count => Err(damaged(0, "entries are missing at the end")),
        _ => Ok(head),
    }
}

/// Passes each entry with its link to a function, and returns the end of the trail.
///
/// # Errors
///
/// When the trail cannot be read, is damaged, or an entry is of a later version.
pub fn links(directory: &Path, mut each: impl FnMut(Link, Chained)) -> Result<Head, ChainError> {
    let mut before = Head::EMPTY.hash;
    let mut unknown = None;
    let (head, _) = walked(directory, |_, head, place, payload| {
        let link = Link { number: head.count, before, payload: payload.to_vec(), hash: head.hash };
        before = head.hash;
        match decoded(payload) {
            Some(entry) => each(link, Chained { number: head.count, hash: head.hash, entry }),
            None => unknown = Some(place),
        }
    })?;
    match unknown {
        None => Ok(head),
        Some(place) => Err(ChainError::Damaged {
            path: directory.to_owned(),
            offset: u64::from(place),
            what: "an entry is of a later version",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, work: impl FnOnce(&Path)) {
        let folder = std::env::temp_dir().join(format!("pixelward-audit-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        work(&folder);
        let _ = std::fs::remove_dir_all(&folder);
    }

    fn entry(number: u64) -> Entry {
        Entry {
            at: 1_795_000_000_000,
            token: "console".into(),
            actor: "ann".into(),
            action: "person.viewed".into(),
            controller: Some("shop".into()),
            person: None,
            detail: Some(number.to_string()),
        }
    }

    fn written(folder: &Path, numbers: std::ops::RangeInclusive<u64>) {
        let mut audit = Audit::open(folder).unwrap();
        numbers.for_each(|number| assert_eq!(audit.write(&entry(number)).unwrap().number, number));
    }

    fn all(folder: &Path) -> Result<u64, String> {
        verify(folder, |_| {}).map(|head| head.count).map_err(|error| error.to_string())
    }

    #[test]
    fn entries_come_back_newest_first_also_after_a_restart() {
        check("order", |folder| {
            written(folder, 1..=3);
            written(folder, 4..=5);
            let audit = Audit::open(folder).unwrap();
            let numbers = |before, limit| -> Vec<u64> {
                audit.before(before, limit).unwrap().iter().map(|entry| entry.number).collect()
            };
            assert_eq!(numbers(u64::MAX, 2), [5, 4]);
            assert_eq!(numbers(4, 10), [3, 2, 1]);
            assert_eq!(numbers(1, 10), [0u64; 0]);
            assert_eq!(audit.before(3, 1).unwrap()[0].entry, entry(2));
            assert_eq!(all(folder), Ok(5));
        });
    }

    #[test]
    fn a_changed_or_missing_entry_is_noticed_and_a_torn_one_is_cut_off() {
        check("damage", |folder| {
            written(folder, 1..=3);
            let path = segment::path(folder, FORM, 1);
            let bytes = std::fs::read(&path).unwrap();
            let at = bytes.windows(3).position(|bytes_of_three| bytes_of_three == b"ann").unwrap();
            let mut changed = bytes.clone();
            changed[at] = b'b';
            std::fs::write(&path, &changed).unwrap();
            assert!(all(folder).unwrap_err().contains("does not match"));
            assert!(Audit::open(folder).is_err());
            // The last one is gone, whole.
            let mut ends = vec![0];
            std::fs::write(&path, &bytes).unwrap();
            walked(folder, |_, _, place, _| ends.push(place as usize)).unwrap();
            std::fs::write(&path, &bytes[..*ends.last().unwrap()]).unwrap();
            assert!(all(folder).unwrap_err().contains("missing at the end"));
            // It was not written whole: what was acknowledged before stays.
            std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
            let _ = std::fs::remove_file(folder.join("head"));
            written(folder, 3..=4);
            assert_eq!(all(folder), Ok(4));
        });
    }
}
