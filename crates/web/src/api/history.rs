//! A person's history, and whether they may be asked again.

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::model::{Addressed, Asking, read};
use super::people::known;
use super::{Answered, Call, json};
use crate::consent::view::Record;
use crate::consent::{MayAsk, Person};
use crate::policy::Purpose;
use crate::problem::Problem;

/// Everything that a person has said to a controller.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct History {
    /// The keyed hash of the person's address.
    person: String,
    /// The records, oldest first.
    records: Vec<Record>,
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
    let entries = call.api.ask(move |store| store.history(person)).await?;
    let records = entries.iter().filter(|entry| entry.change.controller == controller);
    let records = records.map(Record::of).collect();
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
        purposes = Purpose::CONSENT_TO_OPENS.to_vec();
    }
    let controller = call.controller()?.clone();
    let standing = call.api.ask(move |store| store.known(&controller, person)).await?;
    let answer = standing.may_ask(&purposes, call.now);
    let not_before = answer.not_before().map(|end| end.to_string());
    json(StatusCode::OK, &MayBeAsked { may_ask: answer == MayAsk::Yes, reason: answer.reason(), not_before })
}
