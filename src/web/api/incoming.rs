//! What consent-management vendors tell, in forms of their own.

use axum::http::header::AUTHORIZATION;
use axum::http::{StatusCode, Uri};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::import::{ImportResult, apply, own_row};
use super::{Answered, Call, json};
use crate::consent::Controller;
use crate::consent::import::{Row, RowResult};
use crate::live::Live;
use crate::web::mapping::{Event, Mapping};
use crate::web::problem::Problem;

/// What became of what a vendor told.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Received {
    /// How many events said nothing about tracking.
    ignored: usize,
    /// What became of the others; `line` is the place of the event, counted from 1.
    events: Vec<ImportResult>,
}

/// The mapping of this name.
fn mapping<'a>(live: &'a Live, controller: Option<&Controller>, name: &str) -> Option<&'a Mapping> {
    let controller = controller?;
    let found =
        live.incoming.iter().find(|incoming| incoming.controller == *controller && incoming.name == name)?;
    Some(&found.mapping)
}

/// Whether what comes under this path is known by a signature.
pub(super) fn is_signed(live: &Live, controller: Option<&Controller>, uri: &Uri) -> bool {
    let name = uri.path().rsplit('/').next().unwrap_or_default();
    mapping(live, controller, name).is_some_and(Mapping::is_signed)
}

pub(super) async fn receive(call: Call) -> Answered {
    call.query(&[])?;
    let controller = call.controller()?.clone();
    let mapping = mapping(&call.live, Some(&controller), &call.name).ok_or_else(|| {
        Problem::not_found("The configuration has no webhook of this name for this controller")
    })?;
    // Where there is a secret, a token does not stand in for the signature: it says that somebody may call, not who made the body.
    if let Some(header) = mapping.signature_header() {
        let shown = call.header(header).unwrap_or_default();
        if !mapping.is_right(shown, &call.body) {
            return Err(Problem::unauthorised());
        }
    } else if !call.headers.contains_key(AUTHORIZATION) {
        return Err(Problem::unauthorised());
    }
    if call.grant.is_none() {
        let settings = &call.live.config.api;
        let id = format!("webhook {controller} {}", call.name);
        let now = std::time::Instant::now();
        let rate = call.api.rates.take(&id, settings.requests_per_minute, settings.burst, now);
        rate.map_err(Problem::too_many)?;
    }
    let body: Value = serde_json::from_slice(&call.body)
        .map_err(|_| Problem::malformed("This is no JSON, or it nests too deeply"))?;
    let events = mapping.events(&body).map_err(Problem::malformed)?;
    let received = taken(&call, &controller, events).await?;
    let failed = received.events.iter().filter(|event| event.is_failure()).count();
    if failed > 0 {
        tracing::warn!(%controller, webhook = call.name, failed, "events of a webhook could not be read; does the mapping fit?");
    }
    json(StatusCode::OK, &received)
}

async fn taken(call: &Call, controller: &Controller, events: Vec<Event>) -> Result<Received, Problem> {
    let actor = format!("webhook {}", call.name);
    let mut ignored = 0;
    let mut read = Vec::new();
    for (place, event) in (1u64..).zip(events) {
        match event.and_then(|event| event.map(|row| own_row(row, controller, &actor)).transpose()) {
            Ok(Some(row)) => read.push((place, Ok(row))),
            Ok(None) => ignored += 1,
            Err(error) => read.push((place, Err(error))),
        }
    }
    let rows: Vec<Row> = read.iter().filter_map(|(_, row)| row.as_ref().ok().cloned()).collect();
    let mut applied = apply(&call.api, controller, &rows).await?.into_iter();
    let mut result = |row: Result<Row, String>| match row {
        Ok(_) => applied.next().unwrap_or(RowResult::Failed("the store gave no answer".to_owned())),
        Err(error) => RowResult::Failed(error),
    };
    let events = read.into_iter().map(|(place, row)| ImportResult::of(place, result(row))).collect();
    Ok(Received { ignored, events })
}
