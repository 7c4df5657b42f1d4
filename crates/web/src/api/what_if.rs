//! What would be done with a message: the decision and the rewrite as the relay makes them, with nothing
//! kept, sent or fetched. What the controller's `links_lookup` says of links is asked as for mail.

use std::sync::Arc;

use axum::http::StatusCode;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use utoipa::ToSchema;

use super::model::{Encoded, LanguageName, Name, StateName, read};
use super::{Answered, Call, json};
use crate::consent::{Controller, State, Timestamp};
use crate::guarded::guarded;
use crate::language::{Language, fact, words};
use crate::live::Live;
use crate::plan::Message;
use crate::plan::explain::explained;
use crate::plan::trial::{Assumed, Links, Tried, TriedCopy, named_recipients, treat};
use crate::policy::{Done, Mode, Origin, Outcome};
use crate::preview::view;
use crate::problem::Problem;
use crate::rewrite::Fate;
use crate::rewrite::reader_token::TokenKind;
use crate::smtp::reply::Class;
use crate::tracker::{Sighting, Verdict};

/// A message to try rules out with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Trial {
    /// The message, in base64.
    message: Encoded,
    /// The mailstream it is assumed to belong to; without it, mail that no mailstream fits.
    mailstream: Option<Name>,
    /// What the reader is assumed to have said about every purpose; nothing if absent.
    state: Option<StateName>,
    /// The reader's address, as it may stand in a tracker; without it, the addresses of To and Cc. It is not
    /// kept.
    recipient: Option<String>,
    /// The language of the reasons; English if absent.
    language: Option<LanguageName>,
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
    /// What would be done with what was found: keep, strip, swap_gated, swap_day, swap_shared; nothing if
    /// there is nothing to do it to.
    done: &'static str,
    /// Why that is less than was decided; null if it is not.
    shortfall: Option<&'static str>,
    /// untouched, changed (only by what the relay adds for every reader, such as the link to the preference
    /// page), rewritten, rewritten_strictly, swapped (a pixel of ours takes the place of a tracker),
    /// observed, withheld (the message waits with its sender) or rejected.
    result: &'static str,
    /// Why no copy would leave, or the message could not be analysed.
    problem: Option<String>,
    /// The sizes of the message and of the copy, in bytes.
    bytes: [u64; 2],
    /// The copy as it would leave, below the trace fields, in base64; null where none would. Its tokens open
    /// nothing.
    copy: Option<String>,
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
    /// What becomes of it: keep, strip, eased (a link or a picture without what identifies the reader),
    /// swap_gated, swap_day, swap_shared, or withheld with the message.
    becomes: &'static str,
    /// What the address begins with that stands in its place; null where none does.
    address: Option<String>,
}

pub(super) async fn what_if(call: Call) -> Answered {
    call.query(&[])?;
    let trial: Trial = read(&call.body)?;
    let controller = call.controller()?.clone();
    let (live, now) = (Arc::clone(&call.live), call.now);
    let (api, runtime) = (Arc::clone(&call.api), Handle::current());
    let ask = move |controller: &Controller, links: Links| {
        runtime.block_on(api.host.ask_about_links(controller, links))
    };
    let tried = tokio::task::spawn_blocking(move || tried(&live, &controller, trial, now, &ask));
    match tried.await {
        Ok(Ok(trialled)) => json(StatusCode::OK, &trialled),
        Ok(Err(problem)) => Err(problem),
        Err(_) => Err(Problem::internal()),
    }
}

fn tried(
    live: &Live,
    controller: &Controller,
    trial: Trial,
    now: Timestamp,
    ask: &dyn Fn(&Controller, Links) -> Links,
) -> Result<Trialled, Problem> {
    let Trial { message, mailstream, state, recipient, language } = trial;
    let raw = Bytes::from(message.0);
    let state: Option<State> = state.map(|name| name.0);
    let language = language.map(|name| name.0).unwrap_or_default();
    let rulebook = &live.config.policy.rulebook;
    let chosen = rulebook
        .named(Some(controller.as_str()), mailstream.as_ref().map(|name| name.0.as_str()))
        .map_err(|_| Problem::not_found("Unknown mailstream for this controller"))?;
    let recipients = recipient.map_or_else(|| named_recipients(&raw), |address| vec![address]);
    let mut recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    if recipients.is_empty() {
        // Somebody has to get the copy, of whom nothing is known.
        recipients.push("");
    }
    let people = Assumed::to_have_said(state, controller, now);
    let message = Message {
        bytes: &raw,
        origin: Origin { listener: "", login: None, sender: "" },
        recipients: &recipients,
        max_copies: live.config.relay.max_groups,
        esp: live.config.esp("", None, ""),
        at: now,
    };
    let (_, sentences) = explained(rulebook, chosen, Some(people.standing()), "", now, language);
    Ok(treat(&live.settings(), &message, Some(chosen), &people, ask, |tried| {
        if let Some(fault) = &tried.fault {
            tracing::error!(
                site = fault.site,
                "internal error: a message that was tried could not be analysed; please report it"
            );
        }
        shown(live, &raw, &tried, sentences.clone(), language)
    }))
}

fn shown(
    live: &Live,
    raw: &Bytes,
    tried: &Tried<'_>,
    sentences: Vec<String>,
    language: Language,
) -> Trialled {
    let copy = tried.copy_of(0);
    let bytes = copy.and_then(|copy| copy.made.as_ref().ok()).map(|made| &made.bytes);
    let result = result(raw, tried, copy);
    let decided = tried.plan.decided.first();
    let made = copy.and_then(|copy| copy.made.as_ref().ok());
    let told = tried.plan.told(0, made.map(|made| (made.done, made.shortfall)));
    let public_url = tried.chosen.controller.public_url.as_deref();
    let detector = &live.treatment.detector;
    let ours = match told.done {
        Done::Of(outcome) if outcome.is_swap() => {
            public_url.map(|public_url| (public_url, words::outcome(language, outcome.name())))
        }
        Done::Of(_) | Done::Nothing => None,
    };
    let ours = ours.as_ref().map(|(public_url, name)| (*public_url, name.as_str()));
    // What cannot be analysed cannot be drawn either.
    let drawn = |bytes: &Bytes, ours| guarded(|| view(detector, bytes, ours)).unwrap_or_default();
    let fates = copy.map_or(&[][..], |copy| &copy.fates);
    let sightings = tried.analysis.iter().flat_map(|analysis| &analysis.sightings);
    let found = sightings.enumerate().filter(|(_, sighting)| sighting.verdict == Verdict::Tracker).map(
        |(number, sighting)| {
            let fate = fates.get(number).copied().unwrap_or(Fate::Stays);
            tracker(live, sighting, becomes(result, fate, told.done), language, public_url)
        },
    );
    Trialled {
        outcome: decided.map_or("", |decided| decided.decision.outcome.name()),
        rule: decided.map_or("", |decided| decided.decision.rule.name()),
        version: decided.map_or_else(String::new, |decided| decided.decision.version.to_string()),
        sentences: if tried.analysis.is_some() { sentences } else { Vec::new() },
        done: told.done.name(),
        shortfall: told.shortfall,
        result,
        problem: problem(tried, copy),
        bytes: [raw.len() as u64, bytes.map_or(0, |bytes| bytes.len() as u64)],
        copy: bytes.map(|bytes| Encoded::text(bytes)),
        trackers: found.collect(),
        before: drawn(raw, None),
        after: bytes.map(|bytes| drawn(bytes, ours)).unwrap_or_default(),
    }
}

/// What becomes of the message in one word.
fn result(raw: &Bytes, tried: &Tried<'_>, copy: Option<&TriedCopy>) -> &'static str {
    let Some(copy) = copy else { return "withheld" };
    let made = match &copy.made {
        Ok(made) => made,
        Err(reply) if reply.class() == Class::Permanent => return "rejected",
        Err(_) => return "withheld",
    };
    match made.done {
        _ if tried.chosen.mailstream.mode == Mode::Observe => "observed",
        _ if copy.notes.is_strict || tried.fault.is_some() => "rewritten_strictly",
        Done::Of(outcome) if outcome.is_swap() => "swapped",
        Done::Of(Outcome::Strip) => "rewritten",
        Done::Of(_) | Done::Nothing if made.bytes == *raw => "untouched",
        Done::Of(_) | Done::Nothing => "changed",
    }
}

/// Why no copy leaves, or the message was not analysed.
fn problem(tried: &Tried<'_>, copy: Option<&TriedCopy>) -> Option<String> {
    if tried.fault.is_some() {
        let text = "An internal error kept the message from being analysed; the log names the place";
        return Some(text.to_owned());
    }
    let copy = copy?;
    let reply = copy.made.as_ref().err()?;
    Some(match &copy.notes.failure {
        Some(error) => error.to_string(),
        None => reply.to_string(),
    })
}

fn becomes(result: &str, fate: Fate, done: Done) -> &'static str {
    match (result, fate) {
        ("withheld" | "rejected", _) => "withheld",
        ("rewritten_strictly", _) => Outcome::Strip.name(),
        ("observed", _) | (_, Fate::Stays) => Outcome::Keep.name(),
        (_, Fate::Goes) => Outcome::Strip.name(),
        (_, Fate::Eased) => "eased",
        (_, Fate::Swapped) => done.name(),
    }
}

fn tracker(
    live: &Live,
    sighting: &Sighting,
    becomes: &'static str,
    language: Language,
    public_url: Option<&str>,
) -> Tracker {
    let swap = Outcome::ALL.into_iter().find(|outcome| outcome.is_swap() && outcome.name() == becomes);
    let detector = &live.treatment.detector;
    Tracker {
        carrier: sighting.carrier.name().to_owned(),
        vendor: sighting.vendor.map(|vendor| detector.catalogue().name(vendor).to_owned()),
        host: sighting.url.split('/').next().unwrap_or_default().chars().take(253).collect(),
        reasons: sighting
            .signals
            .iter()
            .filter(|signal| signal.weight() > 0)
            .map(|known| fact(language, known))
            .collect(),
        becomes,
        address: swap.and_then(|outcome| beginning(public_url?, outcome)),
    }
}

/// What the address of a pixel of ours begins with.
fn beginning(public_url: &str, opens: Outcome) -> Option<String> {
    let kind = match opens {
        Outcome::SwapGated => TokenKind::Gate,
        Outcome::SwapDay => TokenKind::Day,
        Outcome::SwapShared => TokenKind::Shared,
        Outcome::Keep | Outcome::Strip => return None,
    };
    Some(format!("{}/{}/", public_url.trim_end_matches('/'), kind.letter()))
}
