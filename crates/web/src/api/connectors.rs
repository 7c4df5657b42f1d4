//! Connectors: how they stand at this relay, whom they could not tell of, and what they are told to do.

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Answered, Call, json, model};
use crate::connector::view::{Action, Standing, ViewError};
use crate::problem::Problem;

/// The number of dead letters on a page by default.
const PAGE: usize = 100;
/// The maximum number of dead letters on a page.
const MOST: usize = 1000;

/// The connectors of a controller.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Connectors)]
pub(super) struct List {
    /// The connectors.
    connectors: Vec<Standing>,
}

/// What a connector is to do.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ConnectorOrder)]
pub(super) struct Order {
    /// What.
    action: Action,
}

fn problem(error: ViewError) -> Problem {
    match error {
        ViewError::Unknown => Problem::not_found(ViewError::Unknown.to_string()),
        ViewError::Unable(why) => Problem::conflict("unable", why),
        ViewError::Store(error) => Problem::from(error),
    }
}

pub(super) async fn list(call: Call) -> Answered {
    call.query(&[])?;
    let connectors = call.api.connectors.list(Some(call.controller()?));
    json(StatusCode::OK, &List { connectors })
}

pub(super) async fn show(call: Call) -> Answered {
    call.query(&[])?;
    let (connectors, controller) = (call.api.connectors.clone(), call.controller()?.clone());
    let name = call.name.clone();
    let shown = call.api.ask(move |store| Ok(connectors.show(&controller, &name, store))).await?;
    json(StatusCode::OK, &shown.map_err(problem)?)
}

pub(super) async fn dead_letters(call: Call) -> Answered {
    let (mut limit, mut cursor) = (PAGE, None);
    for (name, value) in call.query(&["limit", "cursor"])? {
        if name == "limit" {
            let number = value.parse::<usize>().ok().filter(|number| (1..=MOST).contains(number));
            limit = number.ok_or_else(|| Problem::malformed("limit: expected a number from 1 to 1000"))?;
        } else {
            let person = model::person(&value);
            cursor = Some(person.ok_or_else(|| {
                Problem::malformed("cursor: expected the value of next from the previous page")
            })?);
        }
    }
    let (connectors, controller) = (call.api.connectors.clone(), call.controller()?.clone());
    let name = call.name.clone();
    let page =
        call.api.ask(move |store| Ok(connectors.dead_letters((&controller, &name), cursor, limit, store)));
    json(StatusCode::OK, &page.await?.map_err(problem)?)
}

pub(super) async fn act(call: Call) -> Answered {
    call.query(&[])?;
    let order: Order = model::read(&call.body)?;
    let done = call.api.connectors.act(call.controller()?, &call.name, order.action).await;
    json(StatusCode::ACCEPTED, &done.map_err(problem)?)
}
