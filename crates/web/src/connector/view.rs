//! How a connector is shown, and what can be done with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Connector, Connectors, Errand, Reason, Sample};
use crate::consent::{Controller, Person, Store, StoreError};

/// How a connector stands at this relay.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Connector)]
pub struct Standing {
    /// The controller.
    pub controller: String,
    /// Its name.
    pub name: String,
    /// The service.
    pub service: String,
    /// Where the service is reached.
    pub base_url: String,
    /// Which name of a person the service takes.
    pub takes: String,
    /// Whether names come from the controller's resolver, or are the external_id.
    pub has_resolver: bool,
    /// What must all be granted before the service is told so.
    pub purposes: Vec<String>,
    /// The public pages that the description of the service was made from.
    pub pages: Vec<String>,
    /// When they were read.
    pub read_on: String,
    /// What could not be read there.
    pub not_read: String,
    /// Whether what is written can be read back, and compared.
    pub is_readable: bool,
    /// True if nothing is sent, and changes wait.
    pub paused: bool,
    /// Why the service takes nothing until somebody has looked; null if it does.
    pub stopped: Option<String>,
    /// When the service last did what it was asked, since the start; null if it has not.
    #[schema(format = DateTime)]
    pub last_success: Option<String>,
    /// The last failure since the start; null if there was none.
    pub last_failure: Option<String>,
    /// The number of changes that wait.
    pub waiting: u64,
    /// The number of the last record of which the service was told.
    pub told: u64,
    /// What came of people since the start, by result.
    pub results: BTreeMap<String, u64>,
    /// People of whom the service could not be told, by reason: no_id, not_known, rejected, failed.
    pub dead_letters: BTreeMap<String, u64>,
    /// How many more of these found no room since the start.
    pub dead_letters_left_out: u64,
    /// The last way through all people; null if there was none.
    pub walk: Option<Walk>,
}

/// A way through all people.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = ConnectorProgress)]
pub struct Walk {
    /// What is done with them.
    pub errand: Errand,
    /// When it began.
    pub started_at: String,
    /// When it was finished; null if it is under way.
    pub finished_at: Option<String>,
    /// How many people it has come past.
    pub people: u64,
    /// What it came to, by result.
    pub results: BTreeMap<String, u64>,
    /// Differences that were found, the first thousand; of a list of connectors, none.
    pub differences: Vec<Difference>,
    /// Requests that would be sent, the first twenty; of a list of connectors, none. A restart forgets them.
    pub requests: Vec<Sample>,
}

/// A difference between the service and the store.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = ConnectorDifference)]
pub struct Difference {
    /// The person, as the controller's keyed hash.
    pub person: String,
    /// The controller's name for the person, if one of the newest records has it.
    pub external_id: Option<String>,
    /// What holds: granted, refused or unknown.
    pub choice: String,
    /// What the service has, as JSON of 64 characters at most.
    pub found: String,
}

/// A person of whom the service could not be told.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = ConnectorDeadLetter)]
pub struct DeadLetter {
    /// The person, as the controller's keyed hash.
    pub person: String,
    /// The controller's name for the person, if one of the newest records has it.
    pub external_id: Option<String>,
    /// Why: no_id, not_known, rejected or failed.
    pub reason: String,
    /// The status that the service answered; 0 if it was not asked.
    pub status: u16,
    /// Since when.
    pub since: String,
}

/// A page of dead letters.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = ConnectorDeadLetters)]
pub struct DeadLetters {
    /// The people.
    pub dead_letters: Vec<DeadLetter>,
    /// The cursor of the next page; null if this is the last one.
    pub next: Option<String>,
}

/// What a connector is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ConnectorAction)]
pub enum Action {
    /// Try dead letters again, and go on at once if it stopped or waits.
    Retry,
    /// Write everybody's choice.
    Sync,
    /// Read back what the service has for everybody, and compare.
    Compare,
    /// Say what would be written for everybody, and send nothing.
    DryRun,
    /// Give up what is under way with everybody.
    Cancel,
}

/// What cannot be done with a connector.
#[derive(Debug)]
pub enum ViewError {
    /// There is none of this name.
    Unknown,
    /// It cannot do that, for this reason.
    Unable(String),
    /// The store cannot be read.
    Store(StoreError),
}

impl std::fmt::Display for ViewError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ViewError::Unknown => f.write_str("no connector of this name is configured for this controller"),
            ViewError::Unable(why) => f.write_str(why),
            ViewError::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ViewError {}

impl From<StoreError> for ViewError {
    fn from(error: StoreError) -> ViewError {
        ViewError::Store(error)
    }
}

impl Connectors {
    /// Shows a controller's connectors, or all, without differences and requests.
    pub fn list(&self, controller: Option<&Controller>) -> Vec<Standing> {
        self.of(controller).map(|connector| connector.standing()).collect()
    }

    /// Shows one with everything.
    ///
    /// # Errors
    ///
    /// When there is none of this name, or the store cannot be read.
    pub fn show(&self, controller: &Controller, name: &str, store: &Store) -> Result<Standing, ViewError> {
        let connector = self.named(controller, name)?;
        let mut standing = connector.standing();
        if let (Some(shown), Some(walk)) = (standing.walk.as_mut(), connector.book.walk()) {
            let outward = store.outward(controller);
            for difference in walk.differences {
                let Some(person) = person(&difference.person) else { continue };
                // Who was erased meanwhile differs in nothing any more.
                let Some((listed, _)) = store.latest(controller, person)? else { continue };
                shown.differences.push(Difference {
                    person: outward.shown(person),
                    external_id: listed.external_id,
                    choice: difference.choice.name().to_owned(),
                    found: difference.found,
                });
            }
            shown.requests = walk.samples;
        }
        Ok(standing)
    }

    /// Lists people of whom a service could not be told, from a cursor on.
    ///
    /// # Errors
    ///
    /// When there is no connector of this name, or the store cannot be read.
    pub fn dead_letters(
        &self,
        (controller, name): (&Controller, &str),
        cursor: Option<Person>,
        most: usize,
        store: &Store,
    ) -> Result<DeadLetters, ViewError> {
        let connector = self.named(controller, name)?;
        let outward = store.outward(controller);
        let found = connector.dead.list(cursor.map(|shown| outward.meant(shown)), most);
        let next = found.last().filter(|_| found.len() == most).map(|(person, _)| outward.shown(*person));
        let mut dead_letters = Vec::with_capacity(found.len());
        for (person, dead) in found {
            let known = store.latest(controller, person)?;
            dead_letters.push(DeadLetter {
                person: outward.shown(person),
                external_id: known.and_then(|(listed, _)| listed.external_id),
                reason: dead.reason.name().to_owned(),
                status: dead.status,
                since: dead.at.to_string(),
            });
        }
        Ok(DeadLetters { dead_letters, next })
    }

    /// Has a connector do something; it is done in the background.
    ///
    /// # Errors
    ///
    /// When there is none of this name, or it cannot do that.
    pub async fn act(
        &self,
        controller: &Controller,
        name: &str,
        action: Action,
    ) -> Result<Standing, ViewError> {
        let connector = self.named(controller, name)?;
        if connector.is_paused && matches!(action, Action::Retry | Action::Sync) {
            return Err(ViewError::Unable(
                "the connector is paused: take paused out of [[connector]]".to_owned(),
            ));
        }
        if connector.service.read.is_none() && action == Action::Compare {
            return Err(ViewError::Unable(format!(
                "{} has no documented way to read back what was written",
                connector.service.source.title
            )));
        }
        let begun = match action {
            Action::Retry => {
                connector.dead.try_again(|_| true);
                Ok(())
            }
            Action::Sync => connector.book.begin(Errand::Sync),
            Action::Compare => connector.book.begin(Errand::Compare),
            Action::DryRun => connector.book.begin(Errand::DryRun),
            Action::Cancel => connector.book.give_up(),
        };
        begun.map_err(|error| ViewError::Unable(format!("its state cannot be saved: {error}")))?;
        connector.resume().await;
        Ok(connector.standing())
    }

    fn named(&self, controller: &Controller, name: &str) -> Result<&Arc<Connector>, ViewError> {
        let found = self.0.iter().find(|one| one.waiting.controller == *controller && one.name == name);
        found.ok_or(ViewError::Unknown)
    }
}

impl Connector {
    fn standing(&self) -> Standing {
        let (dead, left_out) = self.dead.counts();
        let source = self.service.source.clone();
        let state = self.state();
        let owned = |counts: &BTreeMap<&'static str, u64>| {
            counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
        };
        Standing {
            controller: self.waiting.controller.to_string(),
            name: self.name.clone(),
            service: source.title,
            base_url: self.service.base.clone(),
            takes: source.takes,
            has_resolver: self.resolver.is_some(),
            purposes: self.purposes.iter().map(|purpose| purpose.name().to_owned()).collect(),
            pages: source.pages,
            read_on: source.read_on,
            not_read: source.not_read,
            is_readable: self.service.read.is_some(),
            paused: self.is_paused,
            stopped: state.locked.as_ref().map(|lock| lock.why.clone()),
            last_success: state.succeeded.map(|at| at.to_string()),
            last_failure: state.failure.clone(),
            waiting: self.waiting.outbox.waiting(),
            told: self.waiting.outbox.told(),
            results: owned(&state.counts),
            dead_letters: dead
                .iter()
                .map(|(reason, count)| (Reason::name(*reason).to_owned(), *count))
                .collect(),
            dead_letters_left_out: left_out,
            walk: self.book.walk().map(|walk| Walk {
                errand: walk.errand,
                started_at: walk.started_at,
                finished_at: walk.finished_at,
                people: walk.people,
                results: walk.results,
                differences: Vec::new(),
                requests: Vec::new(),
            }),
        }
    }
}

/// Reads a person from hexadecimal digits.
pub fn person(text: &str) -> Option<Person> {
    let mut bytes = [0; 16];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(Person(bytes))
}
