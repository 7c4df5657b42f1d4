//! What all relays of a cluster are asked: each has the audit records and the counts of the mail that it handled.

use std::sync::{Arc, Mutex};

use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Answered, Api, Call, ROUTES, json};
use crate::consent::{Controller, Timestamp};
use crate::problem::Problem;

/// The routes that other relays are asked, by name. All only read.
const SHARED: [&str; 3] = ["search_evidence", "figures", "trackers"];
/// The maximum length of an answer, in bytes.
const MAX_ANSWER: usize = 1 << 25;

/// A question to another relay. Whoever asks has checked that it may be asked.
#[derive(Debug, Serialize, Deserialize)]
struct Question {
    route: String,
    controller: String,
    query: String,
    body: String,
}

/// A relay whose records are missing from an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) struct Unanswered {
    /// The name of the relay.
    pub(super) relay: String,
    /// Why it did not answer.
    pub(super) why: String,
}

/// What other relays answered.
pub(super) struct FromOthers<T> {
    /// The answers, with the name of the relay.
    pub(super) answers: Vec<(String, T)>,
    /// The relays that did not answer.
    pub(super) unanswered: Vec<Unanswered>,
}

impl Api {
    /// Answers a question that another relay was asked through its API, from what this one knows.
    ///
    /// # Errors
    ///
    /// Why there is no answer.
    pub async fn answer_relay(self: &Arc<Api>, question: &[u8]) -> Result<Vec<u8>, String> {
        let invalid = || "invalid question: both relays must have the same version".to_owned();
        let question: Question = serde_json::from_slice(question).map_err(|_| invalid())?;
        let route = ROUTES.iter().find(|route| route.name == question.route);
        let route = route.filter(|route| SHARED.contains(&route.name)).ok_or_else(invalid)?;
        let live = self.host.live();
        let controller: Controller = question.controller.parse().map_err(|_| invalid())?;
        if live.config.policy.rulebook.named(Some(controller.as_str()), None).is_err() {
            return Err("this relay does not know the controller".to_owned());
        }
        let call = Call {
            api: Arc::clone(self),
            live,
            grant: None,
            controller: Some(controller),
            person: None,
            name: String::new(),
            query: question.query,
            headers: HeaderMap::new(),
            body: Bytes::from(question.body),
            stream: Mutex::new(None),
            now: Timestamp::now(),
            is_of_relay: true,
        };
        let answer = (route.handler)(call).await.map_err(|problem| problem.to_string())?;
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        body.map(|body| body.to_bytes().to_vec()).map_err(|_| "the answer is too long".to_owned())
    }
}

impl Call {
    /// Returns the name of this relay among others; `None` for one on its own.
    pub(super) fn relay(&self) -> Option<String> {
        self.api.host.standing().map(|standing| standing.relay)
    }

    /// Asks the other relays the same, unless it is one of them that asks.
    pub(super) async fn ask_others<T: DeserializeOwned>(
        &self,
        route: &'static str,
    ) -> Result<FromOthers<T>, Problem> {
        let mut found = FromOthers { answers: Vec::new(), unanswered: Vec::new() };
        if self.is_of_relay {
            return Ok(found);
        }
        let question = Question {
            route: route.to_owned(),
            controller: self.controller()?.to_string(),
            query: self.query.clone(),
            body: String::from_utf8(self.body.to_vec()).map_err(|_| Problem::internal())?,
        };
        let question = serde_json::to_vec(&question).map_err(|_| Problem::internal())?;
        for reported in self.api.host.ask_others(question).await {
            let relay = reported.relay;
            let answer = reported.answer.and_then(|answer| {
                serde_json::from_slice(&answer).map_err(|_| "its answer makes no sense here".to_owned())
            });
            match answer {
                Ok(answer) => found.answers.push((relay, answer)),
                Err(why) => {
                    tracing::warn!(relay, why, "another relay did not answer");
                    found.unanswered.push(Unanswered { relay, why });
                }
            }
        }
        Ok(found)
    }
}

/// Says how this relay and the others stand.
pub(super) async fn standing(call: Call) -> Answered {
    call.query(&[])?;
    match call.api.host.standing() {
        Some(standing) => json(StatusCode::OK, &standing),
        None => Err(Problem::not_found("This relay is on its own")),
    }
}
