//! A person's history, and whether they may be asked again.

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::model::{Addressed, Asking, read};
use super::people::known;
use super::{Answered, Call, json};
use crate::consent::store::Entered;
use crate::consent::{MayAsk, Person};
use crate::policy::Purpose;
use crate::problem::Problem;

/// Everything that a person has said to a controller.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct History {
    /// The keyed hash of the person's address.
    person: String,
    /// The records, oldest first.
    records: Vec<Entry>,
}

/// A record of the history.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Entry {
    /// The number of the record in the journal.
    record: u64,
    /// The purposes concerned.
    purposes: Vec<&'static str>,
    /// The state that was recorded.
    state: &'static str,
    /// When it was said.
    #[schema(format = DateTime)]
    event_time: String,
    /// When it was recorded.
    #[schema(format = DateTime)]
    recorded_at: String,
    /// The method: a form, a call, a link.
    method: Option<String>,
    /// The channel: web, mail, shop.
    channel: Option<String>,
    /// The version of the notice that was shown.
    notice_version: Option<String>,
    /// The SHA-256 of the exact text that was shown.
    text_hash: Option<String>,
    /// A reference to the proof of consent.
    evidence: Option<String>,
    /// The person or program that entered it.
    actor: Option<String>,
    /// The controller's name for the person.
    external_id: Option<String>,
}

impl From<Entered> for Entry {
    fn from(entered: Entered) -> Entry {
        let details = entered.change.details;
        Entry {
            record: entered.number,
            purposes: entered.change.purposes.iter().map(|purpose| purpose.name()).collect(),
            state: entered.change.state.name(),
            event_time: entered.change.event_at.to_string(),
            recorded_at: entered.recorded_at.to_string(),
            method: details.method,
            channel: details.channel,
            notice_version: details.notice_version,
            text_hash: details.text_hash,
            evidence: details.evidence,
            actor: details.actor,
            external_id: details.external_id,
        }
    }
}

/// The result of asking whether a person may be asked.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MayBeAsked {
    /// True if the person may be asked now.
    may_ask: bool,
    /// The reason if not, to be read after "the person".
    reason: Option<&'static str>,
    /// The earliest time at which the person may be asked.
    #[schema(format = DateTime)]
    not_before: Option<String>,
}

pub(super) async fn by_address(call: Call) -> Answered {
    call.query(&[])?;
    let Addressed { address } = read(&call.body)?;
    let person = call.api.store.person(&address.0);
    history(&call, person).await
}

pub(super) async fn by_hash(call: Call) -> Answered {
    call.query(&[])?;
    let (person, _) = known(&call).await?;
    history(&call, person).await
}

async fn history(call: &Call, person: Person) -> Answered {
    let controller = call.controller()?.clone();
    let shown = call.api.store.outward(&controller).shown(person);
    let mut entries = call.api.ask(move |store| store.history(person)).await?;
    entries.retain(|entry| entry.change.controller == controller);
    let records = entries.into_iter().map(Entry::from).collect();
    json(StatusCode::OK, &History { person: shown, records })
}

pub(super) async fn may_ask(call: Call) -> Answered {
    call.query(&[])?;
    let Asking { address, purposes } = read(&call.body)?;
    let purposes: Vec<Purpose> = purposes.into_iter().map(|purpose| purpose.0).collect();
    let person = call.api.store.person(&address.0);
    asked(&call, person, purposes).await
}

pub(super) async fn may_ask_person(call: Call) -> Answered {
    let mut asked_about = Vec::new();
    for (_, value) in call.query(&["purposes"])? {
        let read: Result<Vec<Purpose>, _> = value.split(',').map(str::parse).collect();
        asked_about =
            read.map_err(|_| Problem::malformed("purposes: expected names of purposes separated by commas"))?;
    }
    let (person, _) = known(&call).await?;
    asked(&call, person, asked_about).await
}

async fn asked(call: &Call, person: Person, mut purposes: Vec<Purpose>) -> Answered {
    if purposes.is_empty() {
        purposes = Purpose::CONSENT.to_vec();
    }
    let controller = call.controller()?.clone();
    let standing = call.api.ask(move |store| store.lookup(&controller, person)).await?;
    let answer = standing.may_ask(&purposes, call.now);
    let not_before = answer.not_before().map(|end| end.to_string());
    json(StatusCode::OK, &MayBeAsked { may_ask: answer == MayAsk::Yes, reason: answer.reason(), not_before })
}
