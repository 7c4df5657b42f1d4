//! Explains why mail to a person is handled as it is.

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::model::{Question, Who, person, read};
use super::{Answered, Call, json};
use crate::consent::{Standing, Timestamp};
use crate::plan::explain::explained;
use crate::problem::Problem;

/// A decision and its reasons.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Explanation {
    /// The outcome: keep, swap_gated, swap_day, swap_shared or strip.
    outcome: &'static str,
    /// The rule that led to the outcome.
    rule: &'static str,
    /// The version of the rules.
    version: String,
    /// The decision in plain sentences.
    sentences: Vec<String>,
}

pub(super) async fn explain(call: Call) -> Answered {
    call.query(&[])?;
    let Question { recipient, mailstream, at, language } = read(&call.body)?;
    let controller = call.controller()?.clone();
    let now: Timestamp = at.map_or(call.now, |at| at.0);
    // The rules suggested by the domain are known only if an address is given.
    let (who, address) = match recipient {
        None => (None, String::new()),
        Some(Who(text)) => match person(&text) {
            Some(shown) => (Some(call.api.store.outward(&controller).meant(shown)), String::new()),
            None => (Some(call.api.store.person(&text)), text),
        },
    };
    let standing = match who {
        None => Some(Standing::unknown()),
        Some(person) => {
            let controller = controller.clone();
            let asked = call.api.ask(move |store| store.lookup(&controller, person)).await;
            asked.ok().map(|standing| (*standing).clone())
        }
    };
    let rulebook = &call.live.config.policy.rulebook;
    let mailstream = mailstream.map(|mailstream| mailstream.0);
    let chosen = rulebook
        .named(Some(controller.as_str()), mailstream.as_deref())
        .map_err(|_| Problem::not_found("Unknown mailstream for this controller"))?;
    let language = language.map(|language| language.0).unwrap_or_default();
    let (decision, sentences) = explained(rulebook, chosen, standing.as_ref(), &address, now, language);
    let explanation = Explanation {
        outcome: decision.outcome.name(),
        rule: decision.rule.name(),
        version: decision.version.to_string(),
        sentences,
    };
    json(StatusCode::OK, &explanation)
}
