//! What would be done with a message: the decision and the rewrite as the relay makes them, with nothing kept, sent or fetched.

use std::sync::Arc;

use axum::http::StatusCode;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::model::{Encoded, LanguageName, Name, StateName, read};
use super::{Answered, Call, json};
use crate::consent::{Change, Controller, Person, Standing, StoreKey, Timestamp};
use crate::faults;
use crate::guarded::guarded;
use crate::language::{Language, fact, words};
use crate::live::Live;
use crate::policy::explain::explained;
use crate::policy::swap::possible;
use crate::policy::{Decision, LinkFate, Mode, Outcome, Purpose};
use crate::rewrite::swap::{Gate, Swap};
use crate::rewrite::token::{Holder, Kind, Mint, Token};
use crate::rewrite::{Copy, Fate, LinkTreatment, Opens, Order, Way, fates, rewrite, without_requests};
use crate::tracker::{Extent, Inquiry, Verdict};
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
    /// In which language the reasons are; English where nothing is said.
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
    /// untouched, rewritten, rewritten_strictly, swapped (a pixel of ours stands in the place of a tracker), observed, or withheld where no copy
    /// could leave.
    result: &'static str,
    /// Why a copy is withheld, or the message could not be analysed.
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
    /// What becomes of it: keep, strip, eased (a link or a picture without what identifies the reader), swap_gated, swap_day, swap_shared, or
    /// withheld with the message.
    becomes: &'static str,
    /// What the address begins with that stands in its place; null where none does.
    address: Option<String>,
}

pub(super) async fn what_if(call: Call) -> Answered {
    call.query(&[])?;
    let Trial { message, mailstream, state, language } = read(&call.body)?;
    let language = language.map(|own| own.0).unwrap_or_default();
    let raw = message.0;
    let controller = call.controller()?.clone();
    let standing = standing(&controller, state.map(|own| own.0), call.now);
    let named = call
        .live
        .config
        .policy
        .rulebook
        .named(Some(controller.as_str()), mailstream.as_ref().map(|own| own.0.as_str()));
    named.map_err(|_| Problem::not_found("Unknown mailstream for this controller"))?;
    let (live, now) = (Arc::clone(&call.live), call.now);
    let raw = Bytes::from(raw);
    let tried = tokio::task::spawn_blocking(move || {
        let mailstream = mailstream.as_ref().map(|name| name.0.as_str());
        let tried = guarded(|| {
            faults::arm(&raw);
            tried(&live, &controller, mailstream, &standing, &raw, now, language)
        });
        tried.unwrap_or_else(|fault| {
            tracing::error!(
                site = fault.site,
                "internal error: a message that was tried could not be analysed; please report it"
            );
            tried_after(&live, &controller, mailstream, &raw)
        })
    });
    match tried.await {
        Ok(Ok(trialled)) => json(StatusCode::OK, &trialled),
        Ok(Err(problem)) => Err(problem),
        Err(_) => Err(Problem::internal()),
    }
}

/// What is done with a message that cannot be analysed because of an internal error.
fn tried_after(
    live: &Live,
    controller: &Controller,
    mailstream: Option<&str>,
    raw: &Bytes,
) -> Result<Trialled, Problem> {
    let rulebook = &live.config.policy.rulebook;
    let chosen = rulebook.named(Some(controller.as_str()), mailstream).map_err(|_| Problem::internal())?;
    let decision = Decision::after_internal_error(chosen.mailstream);
    let bare = guarded(|| without_requests(&live.detector, raw)).ok().and_then(Result::ok);
    let (result, copy) = match (chosen.mailstream.mode, bare) {
        (Mode::Observe, _) => ("observed", raw.clone()),
        (Mode::Enforce, Some(bare)) => ("rewritten_strictly", bare.bytes),
        (Mode::Enforce, None) => ("withheld", Bytes::new()),
    };
    let shown = |bytes: &Bytes| guarded(|| view(&live.detector, bytes, None)).unwrap_or_default();
    Ok(Trialled {
        outcome: decision.outcome.name(),
        rule: decision.rule.name(),
        version: decision.version.to_string(),
        sentences: Vec::new(),
        result,
        problem: Some(
            "An internal error kept the message from being analysed; the log names the place".to_owned(),
        ),
        bytes: [raw.len() as u64, copy.len() as u64],
        trackers: Vec::new(),
        before: shown(raw),
        after: shown(&copy),
    })
}

fn standing(controller: &Controller, state: Option<crate::consent::State>, now: Timestamp) -> Standing {
    let mut standing = Standing::unknown();
    if let Some(state) = state {
        let change = Change::new(controller.clone(), Purpose::ALL.to_vec(), state, now);
        let _ = standing.merge(&change, 0, true);
    }
    standing
}

fn tried(
    live: &Live,
    controller: &Controller,
    mailstream: Option<&str>,
    standing: &Standing,
    raw: &Bytes,
    now: Timestamp,
    language: Language,
) -> Result<Trialled, Problem> {
    let rulebook = &live.config.policy.rulebook;
    let chosen = rulebook
        .named(Some(controller.as_str()), mailstream)
        .map_err(|_| Problem::not_found("Unknown mailstream for this controller"))?;
    let (decision, sentences) = explained(rulebook, chosen, Some(standing), "", now, language);
    let treatment = chosen.mailstream.treatment;
    let recipients = crate::cli::rewrite::named_recipients(raw);
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    let inquiry = Inquiry { extent: treatment.extent, links: treatment.links, ..Inquiry::to(&recipients) };
    let analysis = live.detector.analyse(raw, &inquiry);
    let public_url = chosen.controller.public_url.as_deref();
    let (opens, _) = possible(decision.outcome, public_url);
    let example = Example::of(controller, &chosen.mailstream.name, now);
    let once = public_url.and_then(|own| example.once(opens, own));
    let order = Order {
        opens: match (opens, public_url, &once) {
            (Outcome::Keep, ..) => Opens::Keep,
            (Outcome::SwapGated, Some(public_url), _) => Opens::Swap(Swap::Gate(example.gate(public_url))),
            (Outcome::SwapDay | Outcome::SwapShared, _, Some(own)) => Opens::Swap(Swap::Once(own)),
            _ => Opens::Strip,
        },
        added: &[],
        // Whoever agreed to trackers keeps every other picture, too.
        inquiry: match opens {
            Outcome::SwapGated => Inquiry { extent: Extent::Trackers, ..inquiry },
            _ => inquiry,
        },
        receipts: treatment.receipts,
        personal: treatment.personal,
        links: match decision.links {
            LinkFate::Stay => LinkTreatment::Keep,
            LinkFate::Treat => treatment.link_treatment,
        },
        verify: live.config.policy.verify,
    };
    let observed = chosen.mailstream.mode == Mode::Observe;
    let made = if observed { Ok(Copy::Untouched) } else { rewrite(&live.detector, raw, &analysis, &order) };
    let (result, copy, problem) = match made {
        Ok(Copy::Untouched) if observed => ("observed", raw.clone(), None),
        Ok(Copy::Untouched) => ("untouched", raw.clone(), None),
        Ok(Copy::Rewritten { bytes, way: Way::Strict, .. }) => ("rewritten_strictly", bytes, None),
        Ok(Copy::Rewritten { bytes, swapped: 1.., .. }) => ("swapped", bytes, None),
        Ok(Copy::Rewritten { bytes, .. }) => ("rewritten", bytes, None),
        Err(error) => ("withheld", Bytes::new(), Some(error.to_string())),
    };
    let becomes = |fate: Fate| match (result, fate) {
        ("withheld", _) => "withheld",
        ("rewritten_strictly", _) => Outcome::Strip.name(),
        ("observed" | "untouched", _) | (_, Fate::Stays) => Outcome::Keep.name(),
        (_, Fate::Goes) => Outcome::Strip.name(),
        (_, Fate::Eased) => "eased",
        (_, Fate::Swapped) => opens.name(),
    };
    let fates = fates(&analysis, &order);
    let found = analysis.sightings.iter().zip(&fates).filter(|(own, _)| own.verdict == Verdict::Tracker);
    let trackers = found.map(|(own, fate)| {
        let becomes = becomes(*fate);
        let is_swapped = Outcome::ALL.into_iter().any(|own| own.is_swap() && own.name() == becomes);
        Tracker {
            carrier: own.carrier.name().to_owned(),
            vendor: own.vendor.map(|vendor| live.detector.catalogue().name(vendor).to_owned()),
            host: own.url.split('/').next().unwrap_or_default().chars().take(253).collect(),
            reasons: own
                .signals
                .iter()
                .filter(|signal| signal.weight() > 0)
                .map(|own| fact(language, own))
                .collect(),
            becomes,
            address: public_url.filter(|_| is_swapped).and_then(|own| beginning(own, opens)),
        }
    });
    let ours = words::outcome(language, opens.name());
    Ok(Trialled {
        outcome: decision.outcome.name(),
        rule: decision.rule.name(),
        version: decision.version.to_string(),
        sentences,
        result,
        problem,
        bytes: [raw.len() as u64, copy.len() as u64],
        trackers: trackers.collect(),
        before: view(&live.detector, raw, None),
        after: if copy.is_empty() {
            String::new()
        } else {
            view(&live.detector, &copy, public_url.map(|own| (own, ours.as_str())))
        },
    })
}

/// What the address of a pixel of ours begins with.
fn beginning(public_url: &str, opens: Outcome) -> Option<String> {
    let kind = match opens {
        Outcome::SwapGated => Kind::Gate,
        Outcome::SwapDay => Kind::Day,
        Outcome::SwapShared => Kind::Shared,
        Outcome::Keep | Outcome::Strip => return None,
    };
    Some(format!("{}/{}/", public_url.trim_end_matches('/'), kind.letter()))
}

/// What stands for addresses of ours where there is no person: sealed with a key that nothing opens, so that they are as long as the real ones and
/// lead nowhere.
struct Example {
    mint: Mint,
    holder: Holder,
    mailstream: String,
}

impl Example {
    fn of(controller: &Controller, mailstream: &str, now: Timestamp) -> Example {
        let holder = Holder { controller: controller.clone(), person: Person([0; 16]), issued: now };
        Example { mint: Mint::new(StoreKey::new([0; 32])), holder, mailstream: mailstream.to_owned() }
    }

    fn gate<'a>(&'a self, public_url: &'a str) -> Gate<'a> {
        let Example { mint, holder, mailstream } = self;
        Gate { mint, key: 0, public_url, holder, mailstream, country: "" }
    }

    /// The one address that takes the place of all trackers.
    fn once(&self, opens: Outcome, public_url: &str) -> Option<String> {
        let (holder, mailstream) = (self.holder.clone(), self.mailstream.clone());
        let token = match opens {
            Outcome::SwapDay => Token::Day { holder, mailstream, country: String::new() },
            Outcome::SwapShared => {
                let campaign = holder.issued.day().to_le_bytes();
                Token::Shared { controller: holder.controller, mailstream, campaign }
            }
            Outcome::Keep | Outcome::Strip | Outcome::SwapGated => return None,
        };
        self.mint.url(public_url, &token, 0)
    }
}
