//! One person's consent by address: look up, record, erase.

use std::sync::Arc;

use aws_lc_rs::digest;
use axum::http::StatusCode;
use axum::http::header::{ETAG, HeaderValue};
use serde::Serialize;
use utoipa::ToSchema;

use super::model::{Addressed, AddressedStatement, Consent, read};
use super::{Answered, Call, json};
use crate::consent::import::{NOT_NOW, Row};
use crate::consent::{Applied, Controller, Person, Standing, State, Timestamp};
use crate::problem::Problem;

/// The result of recording a change.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Recorded {
    /// `recorded`, or `recorded_without_grant` if a grant had no proof of consent.
    result: &'static str,
    /// The number of the record in the journal.
    record: u64,
    /// The time it was recorded with, if the claimed time was ahead of the relay's clock or earlier than the
    /// current state.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    recorded_as_of: Option<String>,
    /// The person's consent as it now stands.
    consent: Consent,
}

/// The result of recording a change that the other relays could not be told yet.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HoldsHere {
    /// `holds_here`.
    result: &'static str,
    /// The person's consent as it stands at this relay.
    consent: Consent,
}

/// The result of erasing a person.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Erased {
    /// True if the person was found and erased.
    erased: bool,
}

pub(super) async fn lookup(call: Call) -> Answered {
    call.query(&[])?;
    let Addressed { address } = read(&call.body)?;
    let person = call.api.store.person(&address.0);
    let consent = standing(&call, person).await?;
    shown(StatusCode::OK, &consent, &consent)
}

/// Looks up a person's consent.
pub(super) async fn standing(call: &Call, person: Person) -> Result<Consent, Problem> {
    let (controller, now) = (call.controller()?.clone(), call.now);
    let found = {
        let controller = controller.clone();
        call.api.ask(move |store| store.known(&controller, person)).await?
    };
    let shown = call.api.store.outward(&controller).shown(person);
    Ok(Consent::of(controller.as_str(), shown, &found, now))
}

/// Builds a response with the ETag of the current consent.
pub(super) fn shown(status: StatusCode, consent: &Consent, body: &impl Serialize) -> Answered {
    let mut response = json(status, body)?;
    let tag = HeaderValue::try_from(tag(consent)).map_err(|_| Problem::internal())?;
    response.headers_mut().insert(ETAG, tag);
    Ok(response)
}

/// Computes the ETag of the current consent. It changes with everything in the response, including the expiry
/// of a grant.
pub(super) fn tag(consent: &Consent) -> String {
    let text = serde_json::to_vec(consent).unwrap_or_default();
    let hash = digest::digest(&digest::SHA256, &text);
    let hex: String = hash.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}\"")
}

pub(super) async fn set(call: Call) -> Answered {
    call.query(&[])?;
    let body: AddressedStatement = read(&call.body)?;
    let address = body.address.0.clone();
    let person = call.api.store.person(&address);
    let row = Row { address, ..body.row(&call.actor()) };
    record(call, person, &row).await
}

/// Answers for a change that holds at this relay, and elsewhere once the others can be reached.
async fn accepted(call: &Call, person: Person) -> Answered {
    let consent = standing(call, person).await?;
    let body = HoldsHere { result: "holds_here", consent };
    shown(StatusCode::ACCEPTED, &body.consent, &body)
}

/// Records what a person said, provided that the current consent is what the request expects.
pub(super) async fn record(call: Call, person: Person, row: &Row) -> Answered {
    let controller = call.controller()?.clone();
    let change = row.said(&controller).map_err(Problem::malformed)?;
    let unproved = change.state == State::Granted && change.details.evidence.is_none();
    let conditions = Conditions::of(&call)?;
    let (now, api) = (call.now, Arc::clone(&call.api));
    let applied = if conditions.are_none() {
        let all = api.write(|store, done| {
            store.record_later(vec![(person, change)], move |applied| drop(done.send(applied)))
        });
        all.await?.into_iter().next().ok_or_else(Problem::internal)?
    } else {
        let shown = api.store.outward(&controller).shown(person);
        let fits = move |standing: &Standing| conditions.fit(&controller, &shown, standing, now);
        let one = api.write(|store, done| {
            store.record_if(person, change, fits, move |applied| drop(done.send(applied)))
        });
        one.await?
    };
    let (number, moved_to) = match applied {
        Applied::Recorded(number) => (number, None),
        Applied::Moved { number, at } => (number, Some(at)),
        Applied::Stale => {
            return Err(Problem::conflict(
                "stale",
                "Something newer is known, or the same was recorded before",
            ));
        }
        Applied::SupersededByWithdrawal => {
            let detail = "The person withdrew; only a grant with a later event_time and proof of consent \
                          supersedes that";
            return Err(Problem::conflict("superseded-by-withdrawal", detail));
        }
        Applied::InFuture => {
            return Err(Problem::conflict("in-future", "event_time is in the future"));
        }
        Applied::Conflicting => return Err(Problem::changed_meanwhile()),
        Applied::HoldsHere => return accepted(&call, person).await,
        Applied::NotNow => return Err(Problem::unavailable(NOT_NOW)),
        Applied::Unconfirmed => return Err(Problem::unconfirmed()),
    };
    let consent = standing(&call, person).await?;
    let result = if unproved { "recorded_without_grant" } else { "recorded" };
    let recorded_as_of = moved_to.map(|at| at.to_string());
    let recorded = Recorded { result, record: number, recorded_as_of, consent };
    shown(StatusCode::OK, &recorded.consent, &recorded)
}

pub(super) async fn erase(call: Call) -> Answered {
    call.query(&[])?;
    let Addressed { address } = read(&call.body)?;
    let person = call.api.store.person(&address.0);
    let erased = call.api.ask(move |store| store.erase(person)).await?;
    json(StatusCode::OK, &Erased { erased })
}

/// The consent that a conditional request expects.
pub(super) struct Conditions {
    is: Option<Wanted>,
    is_not: Option<Wanted>,
}

/// One of these ETags, or any consent at all.
enum Wanted {
    Anything,
    Tags(Vec<String>),
}

impl Conditions {
    pub(super) fn of(call: &Call) -> Result<Conditions, Problem> {
        Ok(Conditions { is: wanted(call, "if-match")?, is_not: wanted(call, "if-none-match")? })
    }

    pub(super) fn are_none(&self) -> bool {
        self.is.is_none() && self.is_not.is_none()
    }

    fn fit(&self, controller: &Controller, person: &str, standing: &Standing, now: Timestamp) -> bool {
        let exists = *standing != Standing::unknown();
        let current = tag(&Consent::of(controller.as_str(), person.to_owned(), standing, now));
        let matches = |wanted: &Wanted, weakly: bool| match wanted {
            Wanted::Anything => exists,
            Wanted::Tags(tags) => {
                tags.iter().any(|tag| *tag == current || (weakly && tag.strip_prefix("W/") == Some(&current)))
            }
        };
        self.is.as_ref().is_none_or(|wanted| matches(wanted, false))
            && self.is_not.as_ref().is_none_or(|wanted| !matches(wanted, true))
    }

    /// Returns whether the current consent is the one that the caller already has.
    pub(super) fn is_known(&self, consent: &Consent) -> bool {
        let current = tag(consent);
        match &self.is_not {
            Some(Wanted::Anything) => true,
            Some(Wanted::Tags(tags)) => {
                tags.iter().any(|tag| tag.strip_prefix("W/").unwrap_or(tag) == current)
            }
            None => false,
        }
    }
}

/// Reads the ETags of a header field (RFC 9110, section 13.1).
fn wanted(call: &Call, name: &'static str) -> Result<Option<Wanted>, Problem> {
    let Some(value) = call.headers.get(name) else { return Ok(None) };
    let wrong = || Problem::malformed(format!("{name}: expected \"*\" or quoted ETags separated by commas"));
    let text = value.to_str().map_err(|_| wrong())?.trim();
    if text == "*" {
        return Ok(Some(Wanted::Anything));
    }
    let mut tags = Vec::new();
    // A comma within quotes belongs to the tag. A list and its elements may be empty (RFC 9110, sections
    // 8.8.3 and 5.6.1).
    let mut is_quoted = false;
    let parts = text.split(|character: char| {
        is_quoted ^= character == '"';
        character == ',' && !is_quoted
    });
    for tag in parts.map(str::trim).filter(|tag| !tag.is_empty()) {
        let opaque = tag.strip_prefix("W/").unwrap_or(tag);
        let inner = opaque.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).ok_or_else(wrong)?;
        if inner.contains('"') {
            return Err(wrong());
        }
        tags.push(tag.to_owned());
    }
    Ok(Some(Wanted::Tags(tags)))
}
