//! Walks through all that everybody has said, beside the process that writes it, and counts it by day.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::journal::Journal;
use super::keys::{Entry, Keys};
use super::store::{Entered, PEOPLE, Store, StoreError, entered, io_error};
use super::{Person, State, StoreKey, Timestamp};
use crate::chain::{ChainHash, Head, Link};
use crate::consent::record::Payload;
use crate::policy::Purpose;

/// The maximum length of a source, in characters.
const MAX_SOURCE: usize = 40;
/// The maximum number of sources that are told apart.
const MAX_SOURCES: usize = 30;
/// The source where none was given, and that of records whose details cannot be read any more.
const UNNAMED: &str = "unnamed";
const ERASED: &str = "erased";
/// All sources beyond those that are told apart.
const OTHER: &str = "other";

/// An entry of the journal, with its link in the chain.
#[derive(Debug)]
pub struct Said<'a> {
    /// The number in the journal.
    pub number: u64,
    /// The chain's hash before it.
    pub before: ChainHash,
    /// The bytes.
    pub payload: &'a [u8],
    /// The chain's hash up to and including it.
    pub hash: ChainHash,
    /// The record, without its details if they cannot be read; `None` if the entry is something else, such
    /// as an erasure.
    pub entered: Option<Entered>,
    /// Whom it is about; `None` if they were erased.
    pub person: Option<Person>,
}

impl Said<'_> {
    /// Returns the link in the chain.
    pub fn link(&self) -> Link {
        Link { number: self.number, before: self.before, payload: self.payload.to_vec(), hash: self.hash }
    }
}

/// Passes every entry of the journal to `each`, oldest first, and returns the end of the chain.
///
/// # Errors
///
/// When the journal or the key file cannot be read. Memory grows with the people who are known, by some 100
/// bytes each.
pub fn each(
    directory: &Path,
    store_key: &StoreKey,
    mut each: impl FnMut(Said<'_>),
) -> Result<Head, StoreError> {
    let people = people(directory, store_key)?;
    let mut end = Head::EMPTY;
    let mut failed = None;
    Journal::read(directory, |head, _, payload| {
        let said = match said(&people, head, end.hash, payload) {
            Ok(said) => said,
            Err(error) => {
                failed = failed.take().or(Some(error));
                return;
            }
        };
        end = *head;
        each(said);
    })?;
    failed.map_or(Ok(end), Err)
}

type People = HashMap<[u8; 16], (Person, Entry)>;

fn people(directory: &Path, store_key: &StoreKey) -> Result<People, StoreError> {
    let file = directory.join(PEOPLE);
    let mut people = HashMap::new();
    if !file.exists() {
        return Ok(people);
    }
    let keys = Keys::reader(&file, store_key).map_err(io_error("the key file"))?;
    let walked = keys.each_entry(|person, entry| {
        people.insert(entry.id, (person, entry));
    });
    walked.map_err(io_error("the key file"))?;
    Ok(people)
}

fn said<'a>(
    people: &People,
    head: &Head,
    before: ChainHash,
    payload: &'a [u8],
) -> Result<Said<'a>, StoreError> {
    let number = head.count;
    let decoded = Payload::decode(payload).map_err(|source| StoreError::Record { number, source })?;
    let bare = Said { number, before, payload, hash: head.hash, entered: None, person: None };
    let Payload::Record(record) = decoded else { return Ok(bare) };
    Ok(match people.get(&record.person) {
        Some((person, entry)) => {
            Said { entered: entered(entry, number, payload)?, person: Some(*person), ..bare }
        }
        None => {
            let entered = Entered { number, recorded_at: record.recorded_at, change: record.change };
            Said { entered: Some(entered), ..bare }
        }
    })
}

/// What is counted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Told {
    /// The controller.
    pub controller: String,
    /// The day on which it was said, in UTC: `2026-11-29`.
    pub day: String,
    /// The purpose.
    pub purpose: Purpose,
    /// The channel through which it came, else the method.
    pub source: String,
    /// The state.
    pub state: State,
}

impl Store {
    /// Counts the answers since a moment by day, purpose and source. Takes as long as reading the journal.
    ///
    /// # Errors
    ///
    /// When the journal or the key file cannot be read.
    pub fn trend(&self, since: Timestamp) -> Result<BTreeMap<Told, u64>, StoreError> {
        let mut counts: BTreeMap<Told, u64> = BTreeMap::new();
        let mut sources: Vec<String> = Vec::new();
        each(self.directory(), self.store_key(), |said| {
            let Some(entered) = &said.entered else { return };
            let change = &entered.change;
            if change.event_at < since || !change.state.is_answer() {
                return;
            }
            let details = &change.details;
            let named = details.channel.as_deref().or(details.method.as_deref());
            let mut source: String = match (said.person, named) {
                (None, _) => ERASED.to_owned(),
                (_, named) => named.unwrap_or(UNNAMED).chars().take(MAX_SOURCE).collect(),
            };
            if !sources.contains(&source) {
                match sources.len() < MAX_SOURCES {
                    true => sources.push(source.clone()),
                    false => source = OTHER.to_owned(),
                }
            }
            let day: String = change.event_at.to_string().chars().take(10).collect();
            for purpose in &change.purposes {
                let told = Told {
                    controller: change.controller.to_string(),
                    day: day.clone(),
                    purpose: *purpose,
                    source: source.clone(),
                    state: change.state,
                };
                *counts.entry(told).or_default() += 1;
            }
        })?;
        Ok(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consent::{Change, Settings};

    #[test]
    fn answers_are_counted_by_day_purpose_and_source_also_of_people_who_were_erased() {
        let folder = std::env::temp_dir().join(format!("pixelward-said-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let store = Store::open(&Settings { segment_bytes: 900, ..Settings::at(&folder) }).unwrap();
        let day = 86_400_000;
        let say = |name: &str, state: State, at: i64, channel: Option<&str>| {
            let purposes = vec![Purpose::Personalisation, Purpose::CampaignPerformance];
            let mut change = Change::new("shop".parse().unwrap(), purposes, state, Timestamp(at));
            change.details.evidence = Some("form".to_owned());
            change.details.channel = channel.map(str::to_owned);
            store.record(vec![(store.person(name), change)]).unwrap();
        };
        say("ann@home.example", State::Granted, 10 * day, Some("web"));
        say("bob@home.example", State::Granted, 10 * day + 5, Some("web"));
        say("bob@home.example", State::Withdrawn, 11 * day, Some("mail"));
        say("eve@home.example", State::Refused, 11 * day, None);
        say("eve@home.example", State::Asked, 12 * day, None);
        say("old@home.example", State::Granted, 5, Some("web"));
        store.erase(store.person("eve@home.example")).unwrap();
        let counts = store.trend(Timestamp(day)).unwrap();
        let shown: Vec<String> = counts
            .iter()
            .filter(|(told, _)| told.purpose == Purpose::Personalisation)
            .map(|(told, count)| format!("{} {} {} {count}", told.day, told.source, told.state.name()))
            .collect();
        assert_eq!(
            shown,
            ["1970-01-11 web granted 2", "1970-01-12 erased refused 1", "1970-01-12 mail withdrawn 1",]
        );
        assert_eq!(counts.values().sum::<u64>(), 8);
        let mut last = [0; 32];
        let head = each(store.directory(), store.store_key(), |said| {
            assert!(said.before == last && said.link().is_sound());
            last = said.hash;
        });
        assert_eq!(head.unwrap(), store.head());
        drop(store);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
