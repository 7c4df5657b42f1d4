//! What would be done with a message: the decision and the rewrite as the relay makes them, with nothing kept, sent or fetched.

use std::sync::Arc;

use axum::http::StatusCode;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::model::{Encoded, Name, StateName, read};
use super::{Answered, Call, json};
use crate::consent::{Change, Controller, Standing, Timestamp};
use crate::live::Live;
use crate::policy::explain::explained;
use crate::policy::{LinkFate, Mode, Outcome, Purpose};
use crate::rewrite::{Copy, LinkTreatment, Opens, Order, Way, rewrite};
use crate::tracker::{Inquiry, Verdict};
use crate::web::preview::view;
use crate::web::problem::Problem;

/// A message to try rules out with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Trial {
    /// The message, in base64.
    message: Encoded,
    /// Which kind of mail it is taken to be; mail that no mailstream fits where nothing is said.
    mailstream: Option<Name>,
    /// What the reader is taken to have said about every purpose; nothing where nothing is said.
    state: Option<StateName>,
}

/// What would be done.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Trialled {
    /// What would be decided.
    outcome: &'static str,
    /// The rule that leads there.
    rule: &'static str,
    /// The version of the rules.
    version: String,
    /// The decision in plain sentences.
    sentences: Vec<String>,
    /// untouched, rewritten, rewritten_strictly, swapped (a pixel of ours would stand where something is taken out here), observed, or withheld
    /// where no copy could leave.
    result: &'static str,
    /// Why a copy is withheld.
    problem: Option<String>,
    /// The bytes of the message and of the copy.
    bytes: [u64; 2],
    /// The trackers that were found.
    trackers: Vec<Tracker>,
    /// The message as a mail client shows it, with boxes for whatever it would load.
    before: String,
    /// The copy in the same way.
    after: String,
}

/// A tracker that was found.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Tracker {
    /// In which kind of place.
    carrier: String,
    /// Whose; null where nobody knows.
    vendor: Option<String>,
    /// The host it reports to.
    host: String,
    /// What speaks for it.
    reasons: Vec<&'static str>,
}

pub(super) async fn what_if(call: Call) -> Answered {
    call.query(&[])?;
    let Trial { message, mailstream, state } = read(&call.body)?;
    let raw = message.0;
    let controller = call.controller()?.clone();
    let standing = standing(&controller, state.map(|own| own.0), call.now);
    let named = call
        .live
        .config
        .policy
        .rulebook
        .named(Some(controller.as_str()), mailstream.as_ref().map(|own| own.0.as_str()));
    named.map_err(|_| Problem::not_found("mailstream: the controller has none of this name"))?;
    let (live, now) = (Arc::clone(&call.live), call.now);
    let tried = tokio::task::spawn_blocking(move || {
        tried(
            &live,
            &controller,
            mailstream.as_ref().map(|own| own.0.as_str()),
            &standing,
            Bytes::from(raw),
            now,
        )
    });
    match tried.await {
        Ok(Ok(trialled)) => json(StatusCode::OK, &trialled),
        Ok(Err(problem)) => Err(problem),
        Err(error) => {
            tracing::error!(%error, "a message that was tried ended by a fault of the program; please report it");
            Err(Problem::internal())
        }
    }
}

fn standing(controller: &Controller, state: Option<crate::consent::State>, now: Timestamp) -> Standing {
    let mut standing = Standing::unknown();
    if let Some(state) = state {
        let change = Change::new(controller.clone(), Purpose::ALL.to_vec(), state, now);
        standing.merge(&change, 0, true);
    }
    standing
}

fn tried(
    live: &Live,
    controller: &Controller,
    mailstream: Option<&str>,
    standing: &Standing,
    raw: Bytes,
    now: Timestamp,
) -> Result<Trialled, Problem> {
    let rulebook = &live.config.policy.rulebook;
    let chosen = rulebook
        .named(Some(controller.as_str()), mailstream)
        .map_err(|_| Problem::not_found("mailstream: the controller has none of this name"))?;
    let (decision, sentences) = explained(rulebook, chosen, Some(standing), "", now);
    let treatment = chosen.mailstream.treatment;
    let recipients = crate::cli::rewrite::named_recipients(&raw);
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    let inquiry = Inquiry { extent: treatment.extent, links: treatment.links, ..Inquiry::to(&recipients) };
    let analysis = live.detector.analyse(&raw, &inquiry);
    let order = Order {
        // An address of ours stands for a person, and here there is none; what would take its place is told in `result`.
        opens: if decision.outcome == Outcome::Keep { Opens::Keep } else { Opens::Strip },
        added: &[],
        inquiry,
        receipts: treatment.receipts,
        personal: treatment.personal,
        links: match decision.links {
            LinkFate::Stay => LinkTreatment::Keep,
            LinkFate::Treat => treatment.link_treatment,
        },
        verify: live.config.policy.verify,
    };
    let made = match chosen.mailstream.mode {
        Mode::Observe => Ok(Copy::Untouched),
        Mode::Enforce => rewrite(&live.detector, &raw, &analysis, &order),
    };
    let (result, copy, problem) = match made {
        Ok(Copy::Untouched) if chosen.mailstream.mode == Mode::Observe => ("observed", raw.clone(), None),
        Ok(Copy::Untouched) => ("untouched", raw.clone(), None),
        Ok(Copy::Rewritten { bytes, way: Way::Ordered, .. }) if decision.outcome.is_swap() => {
            ("swapped", bytes, None)
        }
        Ok(Copy::Rewritten { bytes, way: Way::Ordered, .. }) => ("rewritten", bytes, None),
        Ok(Copy::Rewritten { bytes, way: Way::Strict, .. }) => ("rewritten_strictly", bytes, None),
        Err(error) => ("withheld", Bytes::new(), Some(error.to_string())),
    };
    let found = analysis.sightings.iter().filter(|own| own.verdict == Verdict::Tracker);
    let trackers = found.map(|own| Tracker {
        carrier: own.carrier.name().to_owned(),
        vendor: own.vendor.map(|vendor| live.detector.catalogue().name(vendor).to_owned()),
        host: own.url.split('/').next().unwrap_or_default().chars().take(253).collect(),
        reasons: own.evidence.facts().filter(|fact| fact.weight() > 0).map(|fact| fact.text()).collect(),
    });
    Ok(Trialled {
        outcome: decision.outcome.name(),
        rule: decision.rule.name(),
        version: decision.version.to_string(),
        sentences,
        result,
        problem,
        bytes: [raw.len() as u64, copy.len() as u64],
        trackers: trackers.collect(),
        before: view(&live.detector, &raw),
        after: if copy.is_empty() { String::new() } else { view(&live.detector, &copy) },
    })
}
