//! People by the keyed hash under which the store knows them: list, look up, record, erase.

use axum::http::StatusCode;
use axum::http::header::{ETAG, HeaderValue};
use serde::Serialize;
use utoipa::ToSchema;

use super::consent::{Conditions, record, shown, standing, tag};
use super::model::{Consent, Statement, read};
use super::{Answered, Call, json, typed};
use crate::consent::import::Row;
use crate::consent::{Person, State};
use crate::problem::Problem;

/// The number of people on a page by default.
const PAGE: usize = 100;
/// The maximum number of people on a page.
const MOST: usize = 1000;

/// A page of the people whom a controller knows.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct People {
    /// The people, in the order in which their places in the key file were given out.
    people: Vec<Listed>,
    /// The cursor of the next page; null if this is the last one.
    next: Option<u32>,
}

/// A person in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Listed {
    /// The controller's name for the person.
    external_id: Option<String>,
    /// The person's consent.
    consent: Consent,
}

pub(super) async fn list(call: Call) -> Answered {
    let (mut limit, mut cursor) = (PAGE, 0u32);
    for (name, value) in call.query(&["limit", "cursor"])? {
        let number = value.parse::<u32>().ok().filter(|_| !value.starts_with('+'));
        match (name.as_str(), number) {
            ("limit", Some(number @ 1..)) if number as usize <= MOST => limit = number as usize,
            ("limit", _) => return Err(Problem::malformed("limit: expected a number from 1 to 1000")),
            (_, Some(number)) => cursor = number,
            (_, None) => {
                return Err(Problem::malformed("cursor: expected the value of next from the previous page"));
            }
        }
    }
    let controller = call.controller()?.clone();
    let now = call.now;
    let page = {
        let controller = controller.clone();
        call.api.ask(move |store| store.page(&controller, cursor, limit)).await?
    };
    let outward = call.api.store.outward(&controller);
    let listed = page.people.into_iter().map(|person| Listed {
        external_id: person.external_id,
        consent: Consent::of(controller.as_str(), outward.shown(person.person), &person.standing, now),
    });
    json(StatusCode::OK, &People { people: listed.collect(), next: page.next })
}

/// Returns the consent of the person in the path, if the controller knows somebody under this hash.
pub(super) async fn known(call: &Call) -> Result<(Person, Consent), Problem> {
    let person = call.person()?;
    let consent = standing(call, person).await?;
    let is_known = !consent.purposes.is_empty() || consent.no_track || consent.jurisdiction.is_some();
    is_known.then_some((person, consent)).ok_or_else(nobody)
}

/// Builds the response for an unknown person.
pub(super) fn nobody() -> Problem {
    Problem::not_found("The controller knows nobody under this hash")
}

pub(super) async fn get(call: Call) -> Answered {
    call.query(&[])?;
    let conditions = Conditions::of(&call)?;
    let (_, consent) = known(&call).await?;
    if conditions.is_known(&consent) {
        let mut response = typed(StatusCode::NOT_MODIFIED, "application/json", "");
        let tag = HeaderValue::try_from(tag(&consent)).map_err(|_| Problem::internal())?;
        response.headers_mut().insert(ETAG, tag);
        return Ok(response);
    }
    shown(StatusCode::OK, &consent, &consent)
}

pub(super) async fn set(call: Call) -> Answered {
    call.query(&[])?;
    let body: Statement = read(&call.body)?;
    // A refusal may come from somebody about whom nothing is recorded. A grant or a request needs an address.
    let is_no = matches!(body.state.0, State::Refused | State::Withdrawn | State::Objected);
    let person = if is_no { call.person()? } else { known(&call).await?.0 };
    // A row needs an address; this one only satisfies the format, and the person is the one in the path.
    let row = Row { address: "person@by.hash".to_owned(), ..body.row(&call.actor()) };
    record(call, person, &row).await
}

pub(super) async fn erase(call: Call) -> Answered {
    call.query(&[])?;
    let person = call.person()?;
    let erased = call.api.ask(move |store| store.erase(person)).await?;
    if erased {
        let mut response = typed(StatusCode::NO_CONTENT, "application/json", "");
        response.headers_mut().clear();
        Ok(response)
    } else {
        Err(nobody())
    }
}
