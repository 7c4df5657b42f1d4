//! Webhooks of consent management vendors, in their own formats.

use axum::http::header::AUTHORIZATION;
use axum::http::{StatusCode, Uri};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::import::{ImportResult, apply, own_row};
use super::{Answered, Call, json};
use crate::connector;
use crate::consent::import::{Row, RowResult};
use crate::consent::{Controller, State};
use crate::live::Live;
use crate::mapping::{Event, Mapping};
use crate::problem::Problem;

/// The result of a vendor's request.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Received {
    /// The number of events that said nothing about tracking, or may be nothing but what a connector wrote.
    ignored: usize,
    /// The results of the other events; `line` is the position of the event, starting at 1.
    events: Vec<ImportResult>,
}

/// Returns the mapping with this name.
fn mapping<'a>(live: &'a Live, controller: Option<&Controller>, name: &str) -> Option<&'a Mapping> {
    let controller = controller?;
    let found =
        live.incoming.iter().find(|incoming| incoming.controller == *controller && incoming.name == name)?;
    Some(&found.mapping)
}

/// Returns whether requests to this path are authenticated by a signature.
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
    // If a secret is configured, a token cannot replace the signature: it says who may call, not who made the
    // body.
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
        .map_err(|_| Problem::malformed("The body is not JSON, or it is nested too deeply"))?;
    let events = mapping.events(&body).map_err(Problem::malformed)?;
    let received = taken(&call, &controller, events).await?;
    let failed = received.events.iter().filter(|event| event.is_failure()).count();
    if failed > 0 {
        tracing::warn!(
            %controller,
            webhook = call.name,
            failed,
            "some events of a webhook could not be read; check the mapping"
        );
    }
    json(StatusCode::OK, &received)
}

async fn taken(call: &Call, controller: &Controller, events: Vec<Event>) -> Result<Received, Problem> {
    let actor = connector::actor(&call.name);
    let is_echo = |row: &Row| {
        let change = row.change(controller).ok().filter(|change| change.state == State::Granted);
        let person = || call.api.store.person(&row.address);
        change.is_some_and(|grant| call.api.connectors.is_echo(&call.name, person(), &grant))
    };
    let mut ignored = 0;
    let mut read = Vec::new();
    for (place, event) in (1u64..).zip(events) {
        match event.and_then(|event| event.map(|row| own_row(row, controller, &actor)).transpose()) {
            Ok(Some(row)) if is_echo(&row) => ignored += 1,
            Ok(Some(row)) => read.push((place, Ok(row))),
            Ok(None) => ignored += 1,
            Err(error) => read.push((place, Err(error))),
        }
    }
    let rows: Vec<Row> = read.iter().filter_map(|(_, row)| row.as_ref().ok().cloned()).collect();
    let mut applied = apply(&call.api, controller, &rows).await?.into_iter();
    let mut result = |row: Result<Row, String>| match row {
        Ok(_) => applied.next().unwrap_or(RowResult::Failed("the store did not respond".to_owned())),
        Err(error) => RowResult::Failed(error),
    };
    let events = read.into_iter().map(|(place, row)| ImportResult::of(place, result(row))).collect();
    Ok(Received { ignored, events })
}
