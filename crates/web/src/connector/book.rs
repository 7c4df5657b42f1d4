//! What a connector does apart from telling changes: it goes through all people, to write, compare or only say what it
//! would write. How far it has come is on disk, so that a restart does not begin anew. There are no names of people
//! in it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::choice::Choice;
use crate::consent::{Person, Timestamp};

/// How many differences are kept; more are only counted.
const DIFFERENCES: usize = 1000;
/// How many requests of a dry run are shown.
const SAMPLES: usize = 20;

/// What is done with all people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ConnectorWalk)]
pub enum Errand {
    /// Everybody's choice is written.
    Sync,
    /// What the service has is read back, and compared.
    Compare,
    /// It is said what would be written, and nothing is sent.
    DryRun,
}

impl Errand {
    /// Returns the name.
    pub fn name(self) -> &'static str {
        match self {
            Errand::Sync => "sync",
            Errand::Compare => "compare",
            Errand::DryRun => "dry_run",
        }
    }
}

/// A difference between the service and the store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Difference {
    /// In hexadecimal.
    pub(super) person: String,
    pub(super) choice: Choice,
    pub(super) found: String,
}

/// A request that would be sent.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, ToSchema)]
#[schema(as = ConnectorRequest)]
pub struct Sample {
    /// The method.
    pub method: String,
    /// The path, with the person's name if it is the controller's external_id.
    pub path: String,
    /// The body.
    #[schema(value_type = Option<Object>)]
    pub body: Option<serde_json::Value>,
}

/// A way through all people.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Walk {
    pub(super) errand: Errand,
    pub(super) started_at: String,
    pub(super) finished_at: Option<String>,
    /// The place in the key file at which it goes on; `None` once it is finished.
    pub(super) next: Option<u32>,
    pub(super) people: u64,
    /// What it came to, by result.
    pub(super) results: BTreeMap<String, u64>,
    pub(super) differences: Vec<Difference>,
    #[serde(skip)]
    pub(super) samples: Vec<Sample>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Content {
    walk: Option<Walk>,
    /// Up to when expired grants were told, in milliseconds since 1970.
    expired_until: i64,
}

/// The state of one connector that a restart keeps.
#[derive(Debug)]
pub(super) struct Book {
    path: PathBuf,
    content: Mutex<Content>,
}

impl Book {
    pub(super) fn open(folder: &Path, name: &str) -> io::Result<Book> {
        let path = folder.join(format!("{name}.state"));
        let content = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                io::Error::other(format!("{}: {error}; delete it and sync again", path.display()))
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Content { walk: None, expired_until: Timestamp::now().0 }
            }
            Err(error) => return Err(error),
        };
        let book = Book { path, content: Mutex::new(content) };
        book.save(&book.content())?;
        Ok(book)
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn save(&self, content: &Content) -> io::Result<()> {
        pixelward_files::replace(&self.path, &serde_json::to_vec(content)?).map(drop)
    }

    /// Begins a way through all people; an unfinished one is given up.
    pub(super) fn begin(&self, errand: Errand) -> io::Result<()> {
        let mut content = self.content();
        content.walk = Some(Walk {
            errand,
            started_at: Timestamp::now().to_string(),
            finished_at: None,
            next: Some(0),
            people: 0,
            results: BTreeMap::new(),
            differences: Vec::new(),
            samples: Vec::new(),
        });
        self.save(&content)
    }

    /// Gives up an unfinished one.
    pub(super) fn give_up(&self) -> io::Result<()> {
        let mut content = self.content();
        content.walk = content.walk.take().filter(|walk| walk.next.is_none());
        self.save(&content)
    }

    /// Returns what is under way, and where it goes on.
    pub(super) fn under_way(&self) -> Option<(Errand, u32)> {
        self.content().walk.as_ref().and_then(|walk| Some((walk.errand, walk.next?)))
    }

    /// Notes that it has come to a place, with so many more people.
    pub(super) fn advance(&self, from: u32, next: Option<u32>, people: u64) -> io::Result<()> {
        let mut content = self.content();
        // It may have been replaced meanwhile.
        let Some(walk) = content.walk.as_mut().filter(|walk| walk.next == Some(from)) else { return Ok(()) };
        walk.next = next;
        walk.people += people;
        if next.is_none() {
            walk.finished_at = Some(Timestamp::now().to_string());
        }
        self.save(&content)
    }

    /// Counts a result of what is under way.
    pub(super) fn count(&self, result: &str) {
        if let Some(walk) = self.content().walk.as_mut() {
            *walk.results.entry(result.to_owned()).or_default() += 1;
        }
    }

    /// Notes a difference.
    pub(super) fn differs(&self, person: Person, choice: Choice, found: String) {
        let mut content = self.content();
        let Some(walk) = content.walk.as_mut() else { return };
        *walk.results.entry("different".to_owned()).or_default() += 1;
        if walk.differences.len() < DIFFERENCES {
            walk.differences.push(Difference { person: hex::encode(person.0), choice, found });
        }
    }

    /// Drops differences of people who are gone.
    pub(super) fn forget(&self, is_gone: impl Fn(Person) -> bool) -> io::Result<()> {
        let mut content = self.content();
        let Some(walk) = content.walk.as_mut() else { return Ok(()) };
        let before = walk.differences.len();
        walk.differences.retain(|difference| {
            super::view::person(&difference.person).is_some_and(|person| !is_gone(person))
        });
        if walk.differences.len() == before { Ok(()) } else { self.save(&content) }
    }

    /// Keeps a request that would be sent, if there are not enough yet.
    pub(super) fn sample(&self, sample: impl FnOnce() -> Sample) {
        if let Some(walk) = self.content().walk.as_mut()
            && walk.samples.len() < SAMPLES
        {
            walk.samples.push(sample());
        }
    }

    /// Returns the last way through all people.
    pub(super) fn walk(&self) -> Option<Walk> {
        self.content().walk.clone()
    }

    /// Returns up to when expired grants were told.
    pub(super) fn expired_until(&self) -> Timestamp {
        Timestamp(self.content().expired_until)
    }

    /// Notes that they were told up to this time.
    pub(super) fn told_expired(&self, until: Timestamp) -> io::Result<()> {
        let mut content = self.content();
        content.expired_until = until.0;
        self.save(&content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_goes_on_after_a_restart_and_a_new_one_replaces_it() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Book::open(folder.path(), "brevo").unwrap();
        let book = open();
        assert_eq!(book.under_way(), None);
        book.begin(Errand::Compare).unwrap();
        book.differs(Person([1; 16]), Choice::Granted, "\"denied\"".to_owned());
        book.advance(0, Some(7), 3).unwrap();
        drop(book);
        let book = open();
        book.forget(|person| person != Person([1; 16])).unwrap();
        assert_eq!(book.under_way(), Some((Errand::Compare, 7)));
        let walk = book.walk().unwrap();
        assert_eq!((walk.people, walk.results["different"], walk.differences.len()), (3, 1, 1));
        book.forget(|person| person == Person([1; 16])).unwrap();
        assert!(open().walk().unwrap().differences.is_empty());
        book.begin(Errand::Sync).unwrap();
        // What the old one came to no longer counts.
        book.advance(7, None, 3).unwrap();
        assert_eq!(book.under_way(), Some((Errand::Sync, 0)));
        book.advance(0, None, 3).unwrap();
        book.give_up().unwrap();
        assert!(book.under_way().is_none() && book.walk().unwrap().finished_at.is_some());
    }
}
