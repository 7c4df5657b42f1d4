//! Lists known people page by page, and counts them by what they said. The store has no addresses: people are
//! identified by keyed hash, and by the controller's own name for them.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use super::{Store, StoreError, entered, io_error};
use crate::consent::index::{Index, Indexed, key};
use crate::consent::journal::Journal;
use crate::consent::keys::Entry;
use crate::consent::{Controller, Permission, Person, Standing, State, Timestamp};
use crate::policy::Purpose;

/// The number of slots read in one go: some milliseconds, for which a writer may wait.
const SLOTS_AT_ONCE: u32 = 1024;
/// The maximum number of slots per page, so that a controller with few people among many delays nobody.
const SLOTS_OF_A_PAGE: u32 = 16_384;
/// The number of newest records that are searched for a controller's name for the person.
const RECORDS_LOOKED_AT: usize = 8;
/// The number of index entries counted in one go.
const COUNTED_AT_ONCE: usize = 2000;

/// A person whom a controller knows.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The person.
    pub person: Person,
    /// The controller's name for the person, if one of the newest records has it.
    pub external_id: Option<String>,
    /// The standing.
    pub standing: Standing,
}

/// A page of the people whom a controller knows.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The people, in the order in which their places in the key file were given out. May be fewer than
    /// requested, or none, even if more follow.
    pub people: Vec<Listed>,
    /// Where the next page begins; `None` if this is the last one.
    pub next: Option<u32>,
}

/// How many people said what to one controller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// People about whom something is recorded.
    pub people: u64,
    /// The number of these who must never be tracked (N32).
    pub no_track: u64,
    /// By purpose and state, as last said.
    pub states: BTreeMap<(Purpose, State), u64>,
    /// By purpose: people with a standing grant at that time.
    pub allowed: BTreeMap<Purpose, u64>,
}

impl Store {
    /// Returns at most `limit` of the people known to a controller, from a place in the key file on; 0 for
    /// the first page.
    ///
    /// # Errors
    ///
    /// When a file of the store cannot be read.
    pub fn page(&self, controller: &Controller, from: u32, limit: usize) -> Result<Page, StoreError> {
        let mut page = Page { people: Vec::new(), next: Some(from) };
        let mut looked_at = 0;
        while let Some(slot) = page.next {
            if page.people.len() >= limit || looked_at >= SLOTS_OF_A_PAGE {
                break;
            }
            let keys = self.shared.keys.read().unwrap_or_else(PoisonError::into_inner);
            let (found, next) = keys.walk(slot, SLOTS_AT_ONCE).map_err(io_error("the key file"))?;
            drop(keys);
            looked_at += SLOTS_AT_ONCE;
            page.next = next;
            for (person, entry) in found {
                if page.people.len() >= limit {
                    page.next = Some(entry.slot());
                    break;
                }
                if let Some(indexed) = self.shared.indexed(&key(controller.as_str(), &entry.id))? {
                    page.people.push(self.listed(person, &entry, &indexed)?);
                }
            }
        }
        Ok(page)
    }

    fn listed(&self, person: Person, entry: &Entry, indexed: &Indexed) -> Result<Listed, StoreError> {
        let mut external_id = None;
        for (number, place) in indexed.trail.newest_first().take(RECORDS_LOOKED_AT) {
            let (payload, _) = Journal::record(&self.shared.settings.directory, place)?;
            external_id =
                entered(entry, number, &payload)?.and_then(|entered| entered.change.details.external_id);
            if external_id.is_some() {
                break;
            }
        }
        Ok(Listed { person, external_id, standing: indexed.standing.clone() })
    }

    /// Returns what a controller knows of one person, with what the newest record says; `None` if that is nothing, or
    /// the person is gone.
    ///
    /// # Errors
    ///
    /// When a file of the store cannot be read.
    pub fn latest(
        &self,
        controller: &Controller,
        person: Person,
    ) -> Result<Option<(Listed, super::Entered)>, StoreError> {
        let Some(entry) = self.shared.entry(person) else { return Ok(None) };
        let Some(indexed) = self.shared.indexed(&key(controller.as_str(), &entry.id))? else {
            return Ok(None);
        };
        let Some((number, place)) = indexed.trail.newest_first().next() else { return Ok(None) };
        let (payload, _) = Journal::record(&self.shared.settings.directory, place)?;
        let Some(newest) = entered(&entry, number, &payload)? else { return Ok(None) };
        let listed = match &newest.change.details.external_id {
            Some(name) => {
                Listed { person, external_id: Some(name.clone()), standing: indexed.standing.clone() }
            }
            None => self.listed(person, &entry, &indexed)?,
        };
        Ok(Some((listed, newest)))
    }

    /// Returns a controller's name for a person, and one record; `None` if the person is gone or the record
    /// is not theirs.
    ///
    /// # Errors
    ///
    /// When a file of the store cannot be read.
    pub fn entry_of(
        &self,
        controller: &Controller,
        person: Person,
        number: u64,
    ) -> Result<Option<(super::Entered, Option<String>)>, StoreError> {
        let mut history = self.history(person)?;
        history.retain(|entered| entered.change.controller == *controller);
        let named = history.iter().rev().find_map(|entered| entered.change.details.external_id.clone());
        Ok(history.into_iter().find(|entered| entered.number == number).map(|entered| (entered, named)))
    }

    /// Counts people by what they said, per controller. Takes as long as a scan of the index, in short steps;
    /// concurrent changes may or may not be counted.
    ///
    /// # Errors
    ///
    /// When the index cannot be read.
    pub fn count(&self, now: Timestamp) -> Result<BTreeMap<String, Tally>, StoreError> {
        let mut tallies = BTreeMap::new();
        let newer: Vec<(Vec<u8>, Arc<Indexed>)> = {
            let overlay = self.shared.overlay.read().unwrap_or_else(PoisonError::into_inner);
            overlay.iter().map(|(key, indexed)| (key.clone(), Arc::clone(indexed))).collect()
        };
        let newer: BTreeMap<Vec<u8>, Arc<Indexed>> = newer.into_iter().collect();
        let mut last = Vec::new();
        loop {
            let found = self.shared.index.behind(&last, COUNTED_AT_ONCE).map_err(io_error("the index"))?;
            let Some((key, _)) = found.last() else { break };
            last.clone_from(key);
            for (key, indexed) in found.iter().filter(|(key, _)| !newer.contains_key(key)) {
                add(&mut tallies, key, &indexed.standing, now);
            }
        }
        newer.iter().for_each(|(key, indexed)| add(&mut tallies, key, &indexed.standing, now));
        Ok(tallies)
    }
}

fn add(tallies: &mut BTreeMap<String, Tally>, key: &[u8], standing: &Standing, now: Timestamp) {
    let end = memchr::memchr(0, key).unwrap_or(key.len());
    let name = String::from_utf8_lossy(key.get(..end).unwrap_or_default()).into_owned();
    let tally = tallies.entry(name).or_default();
    tally.people += 1;
    tally.no_track += u64::from(standing.no_track());
    for (purpose, stand) in standing.all() {
        *tally.states.entry((purpose, stand.state)).or_default() += 1;
        if matches!(standing.allows(purpose, now), Permission::Granted(_)) {
            *tally.allowed.entry(purpose).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consent::{Change, Settings};

    fn say(store: &Store, name: &str, controller: &str, state: State) {
        let purposes = vec![Purpose::Personalisation];
        let mut change = Change::new(controller.parse().unwrap(), purposes, state, Timestamp(5));
        change.details.evidence = Some("form".to_owned());
        change.details.external_id = Some(format!("id-of-{name}"));
        store.record(vec![(store.person(&format!("{name}@home.example")), change)]).unwrap();
    }

    #[test]
    fn pages_have_everybody_of_the_controller_once_and_counts_agree() {
        let folder = std::env::temp_dir().join(format!("pixelward-listing-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let store = Store::open(&Settings::at(&folder)).unwrap();
        for number in 0..25 {
            let state = if number % 5 == 0 { State::Refused } else { State::Granted };
            say(&store, &format!("p{number}"), if number % 2 == 0 { "shop" } else { "club" }, state);
        }
        store.erase(store.person("p4@home.example")).unwrap();
        let shop: Controller = "shop".parse().unwrap();
        let (mut named, mut from) = (Vec::new(), Some(0));
        while let Some(slot) = from {
            let page = store.page(&shop, slot, 5).unwrap();
            assert!(page.people.len() <= 5);
            named.extend(page.people.into_iter().map(|person| person.external_id.unwrap()));
            from = page.next;
        }
        let expected: Vec<String> = (0..25)
            .filter(|number| number % 2 == 0 && *number != 4)
            .map(|number| format!("id-of-p{number}"))
            .collect();
        assert_eq!(named, expected);
        let count = |store: &Store| store.count(Timestamp(9)).unwrap().remove("shop").unwrap();
        let tally = count(&store);
        assert_eq!((tally.people, tally.no_track), (12, 0));
        assert_eq!(tally.states[&(Purpose::Personalisation, State::Granted)], 9);
        assert_eq!(tally.states[&(Purpose::Personalisation, State::Refused)], 3);
        assert_eq!(tally.allowed[&Purpose::Personalisation], 9);
        store.settle().unwrap();
        assert_eq!(count(&store), tally);
        let (listed, newest) = store.latest(&shop, store.person("p6@home.example")).unwrap().unwrap();
        assert_eq!(listed.external_id.as_deref(), Some("id-of-p6"));
        assert_eq!(newest.change.state, State::Granted);
        for nobody in ["p4@home.example", "p5@home.example", "eve@home.example"] {
            assert!(store.latest(&shop, store.person(nobody)).unwrap().is_none(), "{nobody}");
        }
        drop(store);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_change_made_for_what_no_longer_stands_is_not_recorded() {
        let folder = std::env::temp_dir().join(format!("pixelward-condition-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let store = Store::open(&Settings::at(&folder)).unwrap();
        let person = store.person("ann@home.example");
        let set = |at: i64, seen: Option<State>| {
            let purposes = vec![Purpose::Personalisation];
            let change = Change::new("shop".parse().unwrap(), purposes, State::Refused, Timestamp(at));
            let (done, result) = std::sync::mpsc::channel();
            let stands = move |standing: &Standing| {
                standing.of(Purpose::Personalisation).map(|mark| mark.state) == seen
            };
            store
                .record_if(person, change, stands, move |result| done.send(result.unwrap()).unwrap())
                .unwrap();
            result.recv().unwrap()
        };
        assert_eq!(set(5, Some(State::Refused)), super::super::Applied::Conflicting);
        assert_eq!(set(5, None), super::super::Applied::Recorded(1));
        assert_eq!(set(6, None), super::super::Applied::Conflicting);
        assert_eq!(set(6, Some(State::Refused)), super::super::Applied::Recorded(2));
        drop(store);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
