//! Reads and appends to the audit trail.

use std::sync::Arc;

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::model::{Name, Text, read as read_body};
use super::{Answered, Api, Call, json};
use crate::chain::ChainError;
use crate::problem::Problem;
use crate::record::audit::{Audit, Chained, Entry};

/// The number of entries in a response by default.
const FEW: usize = 100;
/// The maximum number of entries in a response.
const MOST: usize = 1000;

/// An action to be recorded.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Deed {
    /// The person who acted, as the console knows them.
    actor: Text,
    /// The action, as words joined by a dot: `person.viewed`.
    action: Name,
    /// The controller whose data was concerned.
    controller: Option<Name>,
    /// The keyed hash of the person concerned; never an address.
    #[schema(pattern = "^[0-9a-f]{32}$")]
    person: Option<String>,
    /// Further details, such as a reason.
    detail: Option<Text>,
}

/// An entry that is durable.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Written {
    /// The number of the entry.
    number: u64,
    /// The chain's hash up to and including the entry.
    hash: String,
}

/// A page of entries.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Entries {
    /// The entries, newest first.
    entries: Vec<Shown>,
    /// The value of `before` for the next page; null if this is the last one.
    next: Option<u64>,
}

/// An entry of the trail.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Shown {
    /// The number of the entry.
    number: u64,
    /// When the action was recorded.
    #[schema(format = DateTime)]
    time: String,
    /// The token through which it was recorded.
    token: String,
    /// The person who acted.
    actor: String,
    /// The action.
    action: String,
    /// The controller whose data was concerned.
    controller: Option<String>,
    /// The keyed hash of the person concerned.
    person: Option<String>,
    /// Further details.
    detail: Option<String>,
    /// The chain's hash up to and including the entry.
    hash: String,
}

pub(super) async fn write(call: Call) -> Answered {
    call.query(&[])?;
    let deed: Deed = read_body(&call.body)?;
    if deed.person.as_deref().is_some_and(|person| super::model::person(person).is_none()) {
        return Err(Problem::malformed("person: expected the keyed hash, 32 lower-case hexadecimal digits"));
    }
    let entry = Entry {
        at: call.now.0,
        token: call.grant.as_ref().map_or(String::new(), |grant| grant.name.clone()),
        actor: deed.actor.0,
        action: deed.action.0,
        controller: deed.controller.map(|controller| controller.0),
        person: deed.person,
        detail: deed.detail.map(|detail| detail.0),
    };
    let written = on_disk(&call.api, move |trail| trail.write(&entry)).await?;
    json(StatusCode::CREATED, &Written { number: written.number, hash: hex::encode(written.hash) })
}

pub(super) async fn read(call: Call) -> Answered {
    let (mut limit, mut before) = (FEW, u64::MAX);
    for (name, value) in call.query(&["limit", "before"])? {
        let number = value.parse::<u32>().ok().filter(|number| *number > 0 && !value.starts_with('+'));
        match (name.as_str(), number) {
            ("limit", Some(number)) if number as usize <= MOST => limit = number as usize,
            ("limit", _) => return Err(Problem::malformed("limit: expected a number from 1 to 1000")),
            (_, Some(number)) => before = u64::from(number),
            (_, None) => return Err(Problem::malformed("before: expected the number of an entry")),
        }
    }
    let entries = on_disk(&call.api, move |trail| trail.before(before, limit)).await?;
    let next = entries.last().map(|entry| entry.number).filter(|number| *number > 1);
    json(StatusCode::OK, &Entries { entries: entries.into_iter().map(Shown::of).collect(), next })
}

/// Does something with the trail on a thread that may wait for the disk.
pub(super) async fn on_disk<T: Send + 'static>(
    api: &Arc<Api>,
    work: impl FnOnce(&mut Audit) -> Result<T, ChainError> + Send + 'static,
) -> Result<T, Problem> {
    let api = Arc::clone(api);
    match tokio::task::spawn_blocking(move || api.trail.with(work)).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => {
            tracing::error!(%error, "the audit trail cannot be used");
            Err(Problem::unavailable("The audit trail cannot be used; the log says why"))
        }
        Err(_) => {
            tracing::error!("an internal error occurred while using the audit trail");
            Err(Problem::internal())
        }
    }
}

impl Shown {
    fn of(chained: Chained) -> Shown {
        let Chained { number, hash, entry } = chained;
        Shown {
            number,
            time: crate::consent::Timestamp(entry.at).to_string(),
            token: entry.token,
            actor: entry.actor,
            action: entry.action,
            controller: entry.controller,
            person: entry.person,
            detail: entry.detail,
            hash: hex::encode(hash),
        }
    }
}
