//! What was done with whose mail, from the evidence.

use std::sync::Arc;

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::model::{Limit, Moment, Name, Text, Who, person, read};
use super::{Answered, Call, json};
use crate::consent::{Pseudonym, StoreKey};
use crate::record::evidence::MessageIds;
use crate::record::evidence::export::{Proof, Shown};
use crate::record::evidence::find::{Found, Query, newest};
use crate::web::problem::Problem;

/// How many records an answer has where nothing is said.
const FEW: usize = 100;

/// Which records. What is not given fits all.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// The recipient.
    recipient: Option<Who>,
    /// The Message-ID of the message.
    message_id: Option<Text>,
    /// The relay's own id of the message.
    id: Option<Text>,
    /// Not before this moment.
    since: Option<Moment>,
    /// Before this moment.
    until: Option<Moment>,
    /// Which kind of mail.
    mailstream: Option<Name>,
    /// What was decided or done.
    outcome: Option<Text>,
    /// Whose tracker was found; `unknown` for those that nobody knows.
    vendor: Option<Text>,
    /// The most records.
    limit: Option<Limit>,
    /// Whether each comes with the proof that the chain has it.
    #[serde(default)]
    proof: bool,
}

/// Records.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Records {
    /// The newest first.
    records: Vec<Record>,
    /// Whether there may be more.
    more: bool,
    /// Whether all of the evidence that could have some was read; not where a part of it is damaged.
    complete: bool,
}

/// A record.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Record {
    /// What it says, as `pixelward evidence find --json` has it.
    #[schema(value_type = Object)]
    record: serde_json::Value,
    /// Its place in the chain; null where that was not asked for.
    #[schema(value_type = Option<Object>)]
    proof: Option<serde_json::Value>,
}

pub(super) async fn search(call: Call) -> Answered {
    call.query(&[])?;
    let wanted: Wanted = read(&call.body)?;
    let limit = wanted.limit.map_or(FEW, |limit| limit.0);
    let proof = wanted.proof;
    let Some(query) = query(&call, wanted)? else {
        return json(StatusCode::OK, &Records { records: Vec::new(), more: false, complete: true });
    };
    let directory = call.live.config.evidence.directory.clone();
    let _turn = call.api.searches.acquire().await.map_err(|_| Problem::internal())?;
    let looked = tokio::task::spawn_blocking(move || newest(&directory, &query, limit)).await;
    let (found, looked) = match looked {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            tracing::error!(%error, "the evidence cannot be read");
            return Err(Problem::internal());
        }
        Err(_) => {
            tracing::error!("a look into the evidence ended in an internal error");
            return Err(Problem::internal());
        }
    };
    looked
        .troubles
        .iter()
        .for_each(|trouble| tracing::error!(%trouble, "a part of the evidence cannot be read"));
    let records: Result<Vec<Record>, serde_json::Error> =
        found.iter().map(|item| Record::of(item, proof)).collect();
    let records = records.map_err(|_| Problem::internal())?;
    let (more, complete) = (records.len() >= limit, looked.troubles.is_empty());
    json(StatusCode::OK, &Records { records, more, complete })
}

/// The query; `None` where nothing can fit: a person who was erased, or something that is no Message-ID.
fn query(call: &Call, wanted: Wanted) -> Result<Option<Query>, Problem> {
    let store = Arc::clone(&call.api.store);
    let pseudonym: Option<Pseudonym> = match &wanted.recipient {
        None => None,
        Some(Who(text)) => {
            let meant = |shown| call.controller().map(|controller| store.outward(controller).meant(shown));
            let person = person(text).map(meant).transpose()?.unwrap_or_else(|| store.person(text));
            let Some(pseudonym) = store.known_pseudonym(person) else { return Ok(None) };
            Some(pseudonym)
        }
    };
    let message_id = match &wanted.message_id {
        None => None,
        Some(Text(text)) => {
            let key: StoreKey = store.derived_key(MessageIds::LABEL);
            let Some(tag) = MessageIds::new(key).tag(text) else { return Ok(None) };
            Some(tag)
        }
    };
    Ok(Some(Query {
        person: pseudonym,
        message_id,
        id: wanted.id.map(|id| id.0),
        since: wanted.since.map(|since| since.0),
        until: wanted.until.map(|until| until.0),
        controller: Some(call.controller()?.to_string()),
        mailstream: wanted.mailstream.map(|mailstream| mailstream.0),
        outcome: wanted.outcome.map(|outcome| outcome.0),
        vendor: wanted.vendor.map(|vendor| vendor.0),
    }))
}

impl Record {
    fn of(found: &Found, proof: bool) -> Result<Record, serde_json::Error> {
        let record = serde_json::to_value(Shown::from(&found.record))?;
        let proof = if proof { Some(serde_json::to_value(Proof::of(found))?) } else { None };
        Ok(Record { record, proof })
    }
}
