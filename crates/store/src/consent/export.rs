//! Exports everything recorded about one person, with the proof that it is in the journal (N21): for the
//! person, for a court, for whoever asks.

use serde::{Deserialize, Serialize};

use super::journal::Link;
use super::store::{Entered, Store, StoreError};
use super::view::{Record, Standing};
use super::{Controller, Person, Timestamp};

/// An export about one person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Export {
    /// When it was made.
    pub exported_at: String,
    /// The keyed hash under which the person is known, to the controller if the export is limited to one. The
    /// store has no addresses.
    pub person: String,
    /// The current consent, by controller.
    pub standing: Vec<Standing>,
    /// Every record, oldest first.
    pub records: Vec<Proved>,
    /// How many records the journal has, of all people.
    pub journal_records: u64,
    /// The chain's hash up to the last of them, in hexadecimal.
    pub journal_hash: String,
}

/// A record, with its link in the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = ExportedRecord)]
pub struct Proved {
    /// What it says.
    #[serde(flatten)]
    pub said: Record,
    /// The link in the chain.
    pub proof: Proof,
}

/// The SHA-256 of `hash_before` followed by `payload` is `hash`. All in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Proof {
    /// The chain's hash before the record.
    pub hash_before: String,
    /// The bytes of the record in the journal, in which personal details are encrypted.
    pub payload: String,
    /// The chain's hash up to and including the record.
    pub hash: String,
}

impl Export {
    /// Exports everything recorded about a person; `None` if there is nothing.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn of(store: &Store, person: Person) -> Result<Option<Export>, StoreError> {
        Export::made(store, person, store.outward_of_none().shown(person), store.linked_history(person)?)
    }

    /// Exports what is recorded about a person for one controller; `None` if there is nothing.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn of_controller(
        store: &Store,
        person: Person,
        controller: &Controller,
    ) -> Result<Option<Export>, StoreError> {
        let mut history = store.linked_history(person)?;
        history.retain(|(entered, _)| entered.change.controller == *controller);
        Export::made(store, person, store.outward(controller).shown(person), history)
    }

    fn made(
        store: &Store,
        person: Person,
        shown: String,
        history: Vec<(Entered, Link)>,
    ) -> Result<Option<Export>, StoreError> {
        let mut controllers: Vec<_> =
            history.iter().map(|(entered, _)| entered.change.controller.clone()).collect();
        controllers.sort_unstable();
        controllers.dedup();
        let now = Timestamp::now();
        let mut standing = Vec::new();
        for controller in controllers {
            standing.push(Standing::of(&controller, &*store.known(&controller, person)?, now));
        }
        let head = store.head();
        let records: Vec<Proved> = history.into_iter().map(Proved::from).collect();
        Ok(Some(Export {
            exported_at: now.to_string(),
            person: shown,
            standing,
            records,
            journal_records: head.count,
            journal_hash: hex::encode(head.hash),
        })
        .filter(|export| !export.records.is_empty()))
    }

    /// Checks that the records of an export are in the journal, and returns the numbers of those that are
    /// not.
    ///
    /// # Errors
    ///
    /// When the journal is damaged.
    pub fn differing(&self, store: &Store) -> Result<Vec<u64>, StoreError> {
        let mut wrong: Vec<u64> = self.records.iter().map(|record| record.said.record).collect();
        store.each_link(|number, before, payload, hash| {
            let same = |record: &Proved| {
                record.said.record == number
                    && record.proof
                        == Proof {
                            hash_before: hex::encode(before),
                            payload: hex::encode(payload),
                            hash: hex::encode(hash),
                        }
            };
            if self.records.iter().any(same) {
                wrong.retain(|other| *other != number);
            }
        })?;
        Ok(wrong)
    }
}

impl From<(Entered, Link)> for Proved {
    fn from((entered, link): (Entered, Link)) -> Proved {
        let proof = Proof {
            hash_before: hex::encode(link.before),
            payload: hex::encode(&link.payload),
            hash: hex::encode(link.hash),
        };
        Proved { said: Record::of(&entered), proof }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consent::{Change, Settings, State};

    #[test]
    fn an_export_proves_itself_and_a_changed_one_does_not() {
        let folder = std::env::temp_dir().join(format!("pixelward-export-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let store = Store::open(&Settings { segment_bytes: 900, ..Settings::at(&folder) }).unwrap();
        let person = store.person("ann@home.example");
        for at in 1..=9 {
            for (who, controller) in
                [(person, "shop"), (store.person("bob@home.example"), "shop"), (person, "club")]
            {
                let purposes = vec![crate::policy::Purpose::Personalisation];
                let mut change =
                    Change::new(controller.parse().unwrap(), purposes, State::Granted, Timestamp(at));
                change.details.evidence = Some(format!("form/{at}"));
                store.record(vec![(who, change)]).unwrap();
            }
        }
        let export = Export::of(&store, person).unwrap().unwrap();
        assert_eq!(export.records.len(), 18);
        assert_eq!(
            export.standing.iter().map(|standing| standing.controller.as_str()).collect::<Vec<_>>(),
            ["club", "shop"]
        );
        assert_eq!(export.records[17].said.evidence.as_deref(), Some("form/9"));
        let text = serde_json::to_string(&export).unwrap();
        assert!(!text.contains("ann@") && !text.contains("bob@"));
        let read: Export = serde_json::from_str(&text).unwrap();
        assert_eq!(read.differing(&store).unwrap(), Vec::<u64>::new());
        let mut changed = export.clone();
        changed.records[3].proof.payload.replace_range(0..2, "ff");
        changed.records[5].said.record = 999;
        assert_eq!(changed.differing(&store).unwrap(), [export.records[3].said.record, 999]);
        assert_eq!(Export::of(&store, store.person("eve@home.example")).unwrap(), None);
        let club = Export::of_controller(&store, person, &"club".parse().unwrap()).unwrap().unwrap();
        assert_eq!((club.records.len(), club.standing.len()), (9, 1));
        assert!(club.records.iter().all(|record| record.said.controller == "club"));
        assert_eq!(club.differing(&store).unwrap(), Vec::<u64>::new());
        drop(store);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
