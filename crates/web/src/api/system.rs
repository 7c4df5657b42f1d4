//! The API about itself: health, metrics, and the token in use.

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Answered, Call, json, typed};
use crate::problem::Problem;

/// The token in use.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OwnToken {
    /// The id by which the command line names it.
    id: String,
    /// The name given by people.
    name: String,
    /// Its scopes.
    scopes: Vec<&'static str>,
    /// Its controller; null for all.
    controller: Option<String>,
    /// When it expires.
    #[schema(format = DateTime)]
    expires: String,
}

pub(super) async fn own_token(call: Call) -> Answered {
    call.query(&[])?;
    let grant = call.grant.as_ref().ok_or_else(Problem::internal)?;
    let token = OwnToken {
        id: grant.id.clone(),
        name: grant.name.clone(),
        scopes: grant.scopes.iter().map(|scope| scope.name()).collect(),
        controller: grant.controller.as_ref().map(ToString::to_string),
        expires: grant.expires.to_string(),
    };
    json(StatusCode::OK, &token)
}

pub(super) async fn metrics(call: Call) -> Answered {
    Ok(typed(
        StatusCode::OK,
        "text/plain; version=0.0.4; charset=utf-8",
        crate::metrics::page(&call.api.metrics, &*call.api.host),
    ))
}

pub(super) async fn health(_: Call) -> Answered {
    Ok(typed(StatusCode::OK, "text/plain; charset=utf-8", "ok\n"))
}

pub(super) async fn readiness(call: Call) -> Answered {
    match call.api.host.trouble() {
        None => Ok(typed(StatusCode::OK, "text/plain; charset=utf-8", "ready\n")),
        Some(trouble) => Err(Problem::unavailable(trouble)),
    }
}
