//! The pages, one file each.

pub(super) mod account;
pub(super) mod audit;
pub(super) mod cluster;
mod connectors;
pub(super) mod delivery;
pub(super) mod history;
pub(super) mod messages;
pub(super) mod overview;
pub(super) mod person;
pub(super) mod preference_page;
pub(super) mod report;
pub(super) mod request;
pub(super) mod story;
pub(super) mod streams;
pub(super) mod trackers;
pub(super) mod trend;
pub(super) mod what_if;

use maud::{Markup, html};
use serde_json::{Value, json};

use crate::client::ApiError;
use crate::consent::Timestamp;
use crate::text::Text;
use crate::value::{list, text};
use crate::{Call, Failure};

/// How many digits of a name or a hash are shown; all of them where it is pointed at.
const DIGITS: usize = 8;

/// Shows how a name or a hash begins.
pub(super) fn short(whole: &str) -> Markup {
    let digits: String = whole.chars().take(DIGITS).collect();
    html! { code title=(whole) { (digits) } }
}

/// Says which relays did not answer, if any.
pub(super) fn unanswered(call: &Call, found: &Value) -> Markup {
    let names: Vec<&str> = list(found, "unanswered").iter().map(|missing| text(missing, "relay")).collect();
    html! {
        @if !names.is_empty() {
            p class="bad" {
                (call.say(&Text(
                    "What other relays of the cluster have is missing here, because they did not answer: ",
                    "Hier fehlt, was andere Relays des Verbunds haben, weil sie nicht antworteten: ",
                    "Il manque ici ce qu’ont d’autres relais de la grappe, qui n’ont pas répondu : ",
                )))
                (names.join(", "))
            }
        }
    }
}

/// Parses an RFC 3339 time.
pub(super) fn moment_of(time: &str) -> Option<Timestamp> {
    Timestamp::parse(time).ok()
}

/// Checks that a text is the keyed hash of a person.
pub(super) fn is_hash(text: &str) -> Result<(), Failure> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (text.len() == 32 && text.bytes().all(is_digit)).then_some(()).ok_or(Failure::Nothing)
}

/// Returns the keyed hash of an address.
pub(super) async fn hash_of(call: &Call, address: &str) -> Result<String, Failure> {
    let path = format!("/v1/controllers/{}/consent/lookup", call.controller);
    let found = call.console.api.post(&path, &json!({ "address": address })).await;
    let found = found.map_err(|error| match error {
        ApiError::Refused { status: 400, .. } => Failure::malformed("address"),
        other => other.into(),
    })?;
    Ok(text(&found, "person").to_owned())
}
