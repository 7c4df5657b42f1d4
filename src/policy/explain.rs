//! A decision in plain sentences, for the person who must answer for it. No address stands in them.

use super::decision::{COLLECTED_BEFORE, INFORMED_BEFORE};
use super::jurisdiction::UNKNOWN;
use super::{
    Chosen, Decision, Exemption, Facts, Jurisdictions, Kind, LinkFate, Mode, Need, OnGrant, Outcome, Purpose,
    Request, Rule, Rulebook, decide, request, swap,
};
use crate::consent::{Permission, Standing, Timestamp};
use crate::rewrite::{LinkTreatment, Receipts};

/// Where a recipient's jurisdiction comes from.
#[derive(Clone, Copy, Debug)]
pub struct Whereabouts<'a> {
    /// What the consent record says.
    pub recorded: Option<&'a str>,
    /// What the recipient's domain hints at.
    pub hinted: Option<&'a str>,
}

/// What is decided for a recipient at a moment, and why. `standing` is nothing where the store does not answer; `address` is empty where it is
/// not known.
pub fn explained(
    rulebook: &Rulebook,
    chosen: Chosen<'_>,
    standing: Option<&Standing>,
    address: &str,
    now: Timestamp,
) -> (Decision, Vec<String>) {
    let in_force = rulebook.jurisdictions.at(now);
    let recorded = standing.and_then(|own| own.jurisdiction.as_deref());
    let rules = in_force.applying(recorded, chosen.mailstream.declared(), address);
    let facts = Facts {
        rules: &rules,
        mailstream: chosen.mailstream,
        on_grant: chosen.controller.on_grant,
        standing,
        now,
    };
    let whereabouts = Whereabouts { recorded, hinted: in_force.hint(address) };
    let decision = decide(&facts);
    let sentences = explain(chosen, &facts, whereabouts, &rulebook.jurisdictions, &decision);
    (decision, sentences)
}

/// What was decided and why, one sentence or two each.
pub fn explain(
    chosen: Chosen<'_>,
    facts: &Facts<'_>,
    whereabouts: Whereabouts<'_>,
    jurisdictions: &Jurisdictions,
    decision: &Decision,
) -> Vec<String> {
    let mut said = vec![mail(chosen)];
    said.push(place(facts, whereabouts, jurisdictions));
    said.extend(sources(facts, jurisdictions));
    if chosen.mailstream.kind == Kind::ConsentRequest {
        said.push("The mail asks for consent, so it carries nothing that needs it (N17).".to_owned());
        said.push(
            match request(facts.mailstream, false, facts.standing, facts.now) {
                Request::Rejects | Request::Goes => {
                    "The person may not be asked now (N19): a question that its author marked goes, and without such marks the mail is rejected."
                }
                Request::Asks | Request::None => "The person may be asked.",
            }
            .to_owned(),
        );
    } else {
        said.extend(person(facts));
        said.extend(conditions(facts));
    }
    said.push(conclusion(facts, decision));
    said.extend(rest(chosen, facts, decision));
    said
}

fn mail(chosen: Chosen<'_>) -> String {
    let own = chosen.mailstream;
    if own.is_unmatched() {
        return format!(
            "The mail is of the controller {}, and no mailstream fits it: its opens may serve any purpose.",
            chosen.controller.name
        );
    }
    let exemption = own.exemption.map_or("no exemption", Exemption::name);
    format!(
        "The mail is of the mailstream {} of the controller {}. Its opens serve {}; as for being asked for it is {:?}, and it may use {exemption}.",
        own.name,
        chosen.controller.name,
        list(&own.purposes),
        own.requested.name(),
    )
}

fn list(purposes: &[Purpose]) -> String {
    purposes.iter().map(|own| own.name()).collect::<Vec<_>>().join(", ")
}

fn place(facts: &Facts<'_>, whereabouts: Whereabouts<'_>, jurisdictions: &Jurisdictions) -> String {
    let declared = facts.mailstream.declared();
    let unknown = |name: &str| {
        if jurisdictions.knows(name) { "" } else { ", of which no rules are known, so the strictest count" }
    };
    let from = match (whereabouts.recorded, facts.standing) {
        (Some(recorded), _) => {
            format!("The consent record says that the person is in {recorded:?}{}", unknown(recorded))
        }
        (None, Some(_)) if declared == UNKNOWN => {
            "Neither the consent record nor the mailstream says where the person is, so the strictest enabled rules count".to_owned()
        }
        (None, Some(_)) => {
            format!("The consent record does not say where the person is; the mailstream declares {declared:?}{}", unknown(declared))
        }
        (None, None) => format!("The store does not answer; the mailstream declares {declared:?}"),
    };
    let hinted = whereabouts.hinted.filter(|own| whereabouts.recorded.is_none() && *own != declared);
    let stricter = hinted.map_or(String::new(), |own| {
        format!(" The address hints at {own:?}, which may only make the rules stricter.")
    });
    format!("{from}.{stricter} The rules are those of {}.", facts.rules.version)
}

/// Where the rules come from: each version that stands in the name of what holds.
fn sources(facts: &Facts<'_>, jurisdictions: &Jurisdictions) -> Vec<String> {
    let parts: Vec<&str> = facts.rules.version.split('&').collect();
    let of_version = jurisdictions.versions().iter().filter(|own| parts.contains(&own.label().as_str()));
    let mut said: Vec<String> = of_version
        .map(|own| format!("{}: {} (checked on {}).", own.label(), own.source, own.checked_on))
        .collect();
    if parts.iter().any(|own| own.starts_with(UNKNOWN)) {
        let enabled = jurisdictions.enabled().join(", ");
        said.push(format!("{UNKNOWN} is the strictest of {enabled}, as they are in force at that moment."));
    }
    said
}

/// What the person said about each purpose.
fn person(facts: &Facts<'_>) -> Vec<String> {
    let Some(standing) = facts.standing else {
        return vec!["Nobody can say now what the person said; that counts as no.".to_owned()];
    };
    let mut said: Vec<String> =
        facts.mailstream.purposes.iter().map(|own| purpose(standing, *own, facts.now)).collect();
    if standing.no_track {
        said.push("The record says never to track this person (N32).".to_owned());
    }
    said
}

fn purpose(standing: &Standing, purpose: Purpose, now: Timestamp) -> String {
    let Some(stand) = standing.of(purpose) else {
        return format!("{purpose}: the person has said nothing, and silence is not consent (N8).");
    };
    let state = stand.state.name();
    let since = stand.event_at;
    let record = stand.record;
    match (standing.allows(purpose, now), stand.expires) {
        (Permission::Granted(_), _) => {
            format!("{purpose}: {state} on {since} (record {record}), and it stands.")
        }
        (Permission::NotGranted(_), Some(end)) if end <= now => {
            format!("{purpose}: {state} on {since} (record {record}), and expired on {end}.")
        }
        (Permission::NotGranted(_), _) => {
            format!("{purpose}: {state} on {since} (record {record}), which is no grant.")
        }
    }
}

/// How the conditions of the declared exemption stand.
fn conditions(facts: &Facts<'_>) -> Vec<String> {
    let own = facts.mailstream;
    let Some(exemption) = own.exemption else { return Vec::new() };
    let name = exemption.name();
    let knows = if facts.rules.flags.exempt.has(exemption) { "know" } else { "do not know" };
    let mut said = vec![format!("The rules {knows} the exemption {name}.")];
    let condition = match exemption {
        Exemption::Deliverability => format!(
            "{name} is for mail that the person asked for, and not after a no (N11); this mail is declared {:?}.",
            own.requested.name()
        ),
        Exemption::AuthSecurity | Exemption::LegalNotice => {
            let is = if own.conditions.name_a_template() { "is" } else { "is not" };
            format!(
                "{name} is for a declared template alone (N10, N13); this mailstream {is} bound to a sender, a List-Id or a header field."
            )
        }
        Exemption::AggregateStatistics => format!("{name} is one address for everybody (N14)."),
        Exemption::LegacyInformed => {
            let time =
                |time: Option<Timestamp>| time.map_or("not recorded".to_owned(), |own| own.to_string());
            let standing = facts.standing;
            format!(
                "{name} is for addresses collected before {COLLECTED_BEFORE} whose people were informed before {INFORMED_BEFORE} (N29); this one was collected: {}, informed: {}.",
                time(standing.and_then(|own| own.collected_at)),
                time(standing.and_then(|own| own.notice_sent_at)),
            )
        }
    };
    said.push(condition);
    said
}

fn conclusion(facts: &Facts<'_>, decision: &Decision) -> String {
    let because = match decision.rule {
        Rule::Granted => match facts.on_grant {
            OnGrant::Keep => {
                "every purpose is granted, and on_grant is \"keep\": a withdrawal cannot reach delivered mail"
            }
            OnGrant::Gate | OnGrant::Strip => "every purpose is granted",
        },
        Rule::GrantStripped => "every purpose is granted, but on_grant is \"strip\"",
        Rule::NoConsent => "a purpose lacks a standing grant, and no exemption stands in for it",
        Rule::Refused => "the person said no",
        Rule::NoTrack => "the person is never to be tracked",
        Rule::StoreUnreachable => "the store does not answer",
        Rule::ConsentRequest => "the mail asks for consent",
        Rule::NoRules => "no rule is applied where the person is",
        Rule::Exempt(_) => "the exemption holds with all its conditions",
        Rule::PurposesDiffer => "each purpose is allowed, but in ways that one pixel cannot serve together",
    };
    let done = match decision.outcome {
        Outcome::Keep => "trackers stay as they are",
        Outcome::SwapGated => "trackers lead to an address that asks for consent at each fetch (N25)",
        Outcome::SwapShared => "trackers become one address that is the same for everybody",
        Outcome::SwapDay => "trackers become an address that keeps the day of the last open alone",
        Outcome::Strip => "trackers are taken out",
    };
    format!("Therefore {}: {done} (rule {}), since {because}.", decision.outcome.name(), decision.rule.name())
}

/// What else happens to the copy.
fn rest(chosen: Chosen<'_>, facts: &Facts<'_>, decision: &Decision) -> Vec<String> {
    let mut said = Vec::new();
    if let (_, Some(reason)) = swap::possible(decision.outcome, chosen.controller.public_url.as_deref()) {
        said.push(format!(
            "The controller has no public_url under which such an address could be served, so trackers are taken out ({reason})."
        ));
    }
    let treatment = chosen.mailstream.treatment;
    if treatment.link_treatment == LinkTreatment::Unwrap {
        said.push(
            match decision.links {
                LinkFate::Stay => "Tracked links stay.",
                LinkFate::Treat => "Tracked links are unwrapped where their target stands in them (N3).",
            }
            .to_owned(),
        );
    } else if facts.rules.flags.links == Need::Consent {
        said.push("Links are left as they are: that is the setting links.".to_owned());
    }
    said.push(
        match decision.receipts {
            Receipts::Keep => "Requests for a receipt stay.",
            Receipts::Strip => "Requests for a receipt are taken out.",
        }
        .to_owned(),
    );
    if chosen.mailstream.mode == Mode::Observe {
        said.push(
            "The mode is \"observe\": all of this is only logged, and the mail is relayed untouched."
                .to_owned(),
        );
    }
    said
}
