//! Exports everything recorded about one person, with the proof that it is in the journal (N21): for the
//! person, for a court, for whoever asks.

use serde::{Deserialize, Serialize};

use super::journal::Link;
use super::record::Change;
use super::store::{Entered, Store, StoreError};
use super::{Controller, Permission, Person, Timestamp};

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
    pub records: Vec<Record>,
    /// How many records the journal has, of all people.
    pub journal_records: u64,
    /// The chain's hash up to the last of them, in hexadecimal.
    pub journal_hash: String,
}

/// A person's consent towards a controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = ExportedStanding)]
pub struct Standing {
    /// The controller.
    pub controller: String,
    /// The consent by purpose.
    pub purposes: Vec<Purpose>,
    /// The jurisdiction whose rules apply, if a record names one.
    pub jurisdiction: Option<String>,
    /// True if the person must never be tracked.
    pub no_track: bool,
    /// The time before which the person must not be asked again (N19).
    pub do_not_ask_before: Option<String>,
}

/// The consent for a purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = ExportedPurpose)]
pub struct Purpose {
    /// The purpose.
    pub purpose: String,
    /// The state that was last recorded.
    pub state: String,
    /// When it was said.
    pub event_time: String,
    /// When a grant expires.
    pub expires: Option<String>,
    /// True if a tracker may stay for this purpose now.
    pub allowed: bool,
    /// The number of the record.
    pub record: u64,
}

impl Purpose {
    /// Lists the consent at `now` for every purpose that was mentioned.
    pub fn all(standing: &super::Standing, now: Timestamp) -> Vec<Purpose> {
        let shown = |(purpose, stand): (crate::policy::Purpose, &super::standing::Stand)| Purpose {
            purpose: purpose.name().to_owned(),
            state: stand.state.name().to_owned(),
            event_time: stand.event_at.to_string(),
            expires: stand.expires.map(|end| end.to_string()),
            allowed: matches!(standing.allows(purpose, now), Permission::Granted(_)),
            record: stand.record,
        };
        standing.all().map(shown).collect()
    }
}

/// A record, with its link in the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = ExportedRecord)]
pub struct Record {
    /// The number in the journal.
    pub record: u64,
    /// The controller.
    pub controller: String,
    /// The purposes concerned.
    pub purposes: Vec<String>,
    /// The state that was recorded.
    pub state: String,
    /// When it was said.
    pub event_time: String,
    /// The claimed time, if it could not be used because it or the current state was ahead of the relay's
    /// clock.
    #[serde(default)]
    pub claimed_time: Option<String>,
    /// When it was recorded.
    pub recorded_at: String,
    /// When the person was asked.
    pub asked_at: Option<String>,
    /// When the notice was sent (N29).
    pub notice_sent_at: Option<String>,
    /// When the address was collected (N29).
    pub collected_at: Option<String>,
    /// When a grant expires.
    pub expires: Option<String>,
    /// The time before which the person must not be asked again (N19).
    pub do_not_ask_before: Option<String>,
    /// The jurisdiction whose rules apply to the person (N5).
    pub jurisdiction: Option<String>,
    /// True if the person must never be tracked (N32).
    pub no_track: Option<bool>,
    /// The method: a form, a call, a link.
    pub method: Option<String>,
    /// The channel: web, mail, shop.
    pub channel: Option<String>,
    /// The version of the notice that was shown (N20).
    pub notice_version: Option<String>,
    /// The SHA-256 of the exact text that was shown.
    pub text_hash: Option<String>,
    /// A reference to the proof of consent (N22).
    pub evidence: Option<String>,
    /// The person or program that entered it.
    pub actor: Option<String>,
    /// The controller's name for the person.
    pub external_id: Option<String>,
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
            standing.push(stands(controller.as_str(), &*store.lookup(&controller, person)?, now));
        }
        let head = store.head();
        let records: Vec<Record> = history
            .into_iter()
            .map(|(entered, link)| record(entered.recorded_at, &entered.change, &link))
            .collect();
        Ok(Some(Export {
            exported_at: now.to_string(),
            person: shown,
            standing,
            records,
            journal_records: head.count,
            journal_hash: hex(&head.hash),
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
        let mut wrong: Vec<u64> = self.records.iter().map(|record| record.record).collect();
        store.each_link(|number, before, payload, hash| {
            let same = |record: &Record| {
                record.record == number
                    && record.proof
                        == Proof { hash_before: hex(before), payload: hex(payload), hash: hex(hash) }
            };
            if self.records.iter().any(same) {
                wrong.retain(|other| *other != number);
            }
        })?;
        Ok(wrong)
    }
}

fn stands(controller: &str, standing: &super::Standing, now: Timestamp) -> Standing {
    Standing {
        controller: controller.to_owned(),
        purposes: Purpose::all(standing, now),
        jurisdiction: standing.jurisdiction(),
        no_track: standing.no_track(),
        do_not_ask_before: standing.do_not_ask_before.map(|time| time.to_string()),
    }
}

fn record(recorded_at: Timestamp, change: &Change, link: &Link) -> Record {
    let time = |time: Option<Timestamp>| time.map(|time| time.to_string());
    let details = change.details.clone();
    Record {
        record: link.number,
        controller: change.controller.to_string(),
        purposes: change.purposes.iter().map(|purpose| purpose.name().to_owned()).collect(),
        state: change.state.name().to_owned(),
        event_time: change.event_at.to_string(),
        claimed_time: time(change.claimed_at),
        recorded_at: recorded_at.to_string(),
        asked_at: time(change.asked_at),
        notice_sent_at: time(change.notice_sent_at),
        collected_at: time(change.collected_at),
        expires: time(change.expires),
        do_not_ask_before: time(change.do_not_ask_before),
        jurisdiction: change.jurisdiction.clone(),
        no_track: change.no_track,
        method: details.method,
        channel: details.channel,
        notice_version: details.notice_version,
        text_hash: details.text_hash,
        evidence: details.evidence,
        actor: details.actor,
        external_id: details.external_id,
        proof: Proof { hash_before: hex(&link.before), payload: hex(&link.payload), hash: hex(&link.hash) },
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consent::{Settings, State};

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
        assert_eq!(export.records[17].evidence.as_deref(), Some("form/9"));
        let text = serde_json::to_string(&export).unwrap();
        assert!(!text.contains("ann@") && !text.contains("bob@"));
        let read: Export = serde_json::from_str(&text).unwrap();
        assert_eq!(read.differing(&store).unwrap(), Vec::<u64>::new());
        let mut changed = export.clone();
        changed.records[3].proof.payload.replace_range(0..2, "ff");
        changed.records[5].record = 999;
        assert_eq!(changed.differing(&store).unwrap(), [export.records[3].record, 999]);
        assert_eq!(Export::of(&store, store.person("eve@home.example")).unwrap(), None);
        let club = Export::of_controller(&store, person, &"club".parse().unwrap()).unwrap().unwrap();
        assert_eq!((club.records.len(), club.standing.len()), (9, 1));
        assert!(club.records.iter().all(|record| record.controller == "club"));
        assert_eq!(club.differing(&store).unwrap(), Vec::<u64>::new());
        drop(store);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
