//! The declarations in force, and the rules that follow from them.

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Answered, Call, json};
use crate::policy::jurisdiction::{Author, Need, Version};
use crate::policy::{Chosen, Controller, Exemption, Footer, MailKind, Mailstream, Mode, OnGrant, Treatment};
use crate::rewrite::{LinkTreatment, Personal, Receipts};
use crate::tracker::{Extent, Links, Unreadable};

/// The policy in force.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct InForce {
    /// Since when: the start, or the last time the configuration was reloaded.
    #[schema(format = DateTime)]
    since: String,
    /// Controllers, in the order in which they are matched.
    controllers: Vec<Declared>,
    /// Versions of the rules, oldest first.
    jurisdictions: Vec<Dated>,
    /// Warnings about the declarations, as sentences.
    warnings: Vec<String>,
    /// True if this relay is one of a cluster.
    cluster: bool,
}

/// A controller.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Declared {
    /// The name of the controller.
    name: String,
    /// What a grant leads to: gate, keep or strip.
    on_grant: &'static str,
    /// The page that tells readers what is done with their opens.
    notice_url: Option<String>,
    /// The base URL of its preference pages and pixels.
    public_url: Option<String>,
    /// After how many days without news people who agreed to nothing are erased; 0 for never.
    retention_days: u16,
    /// After how many days audit records about its mail are deleted, if earlier than others.
    evidence_days: Option<u16>,
    /// Its mailstreams, and last the mail that matches none of them.
    mailstreams: Vec<Stream>,
}

/// A mailstream.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Stream {
    /// The name; `unmatched` for mail that matches no other.
    name: String,
    /// The mode: enforce or observe.
    mode: &'static str,
    /// What its opens are used for, and whether its links are followed up.
    purposes: Vec<&'static str>,
    /// One of requested, soft_opt_in and neither.
    requested: &'static str,
    /// The exemption it may use.
    exemption: Option<&'static str>,
    /// True if it asks for consent, so that it carries no tracker.
    consent_request: bool,
    /// The jurisdiction of its recipients, unless a record says otherwise.
    jurisdiction: String,
    /// What is removed: trackers, or every remote request.
    extent: &'static str,
    /// What happens to requests for read receipts.
    receipts: &'static str,
    /// What happens to images that identify the reader.
    personal_pictures: &'static str,
    /// What happens to tracked links.
    links: &'static str,
    /// What happens to text parts that cannot be read.
    unreadable_parts: &'static str,
    /// Which copies get a link to the preference page.
    footer: &'static str,
}

/// A version of the rules of a jurisdiction.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Dated {
    /// The label that decisions use.
    label: String,
    /// The jurisdiction.
    name: String,
    /// When it takes effect.
    #[schema(format = DateTime)]
    effective_from: String,
    /// The regime that it belongs to: `devices` for rules about reading from and writing to people's devices. What
    /// several of one date require all holds.
    kind: String,
    /// When somebody last compared it with its source.
    checked_on: String,
    /// Its source.
    source: String,
    /// True if reading opens needs consent.
    opens_need_consent: bool,
    /// True if reading who followed a link needs consent.
    links_need_consent: bool,
    /// The exemptions it grants.
    exemptions: Vec<&'static str>,
    /// True if it comes from the operator's configuration rather than with the program.
    own: bool,
}

pub(super) async fn in_force(call: Call) -> Answered {
    call.query(&[])?;
    let rulebook = &call.live.config.policy.rulebook;
    let only = call.grant.as_ref().and_then(|grant| grant.controller.as_ref());
    let is_seen = |controller: &&Controller| only.is_none_or(|name| controller.name == *name);
    let controllers = rulebook.controllers().filter(is_seen).map(|controller| {
        let of_it = rulebook.all().filter(|chosen: &Chosen<'_>| chosen.controller.name == controller.name);
        Declared::of(controller, of_it.map(|chosen| Stream::of(chosen.mailstream)).collect())
    });
    let in_force = InForce {
        since: call.live.since.to_string(),
        controllers: controllers.collect(),
        jurisdictions: rulebook.jurisdictions.versions().iter().map(Dated::of).collect(),
        // Warnings concern all controllers together.
        warnings: if only.is_none() { crate::policy::lint::lint(rulebook, call.now) } else { Vec::new() },
        cluster: call.live.config.cluster.is_on(),
    };
    json(StatusCode::OK, &in_force)
}

impl Declared {
    pub(crate) fn of(controller: &Controller, mailstreams: Vec<Stream>) -> Declared {
        Declared {
            name: controller.name.to_string(),
            on_grant: match controller.on_grant {
                OnGrant::Gate => "gate",
                OnGrant::Keep => "keep",
                OnGrant::Strip => "strip",
            },
            notice_url: controller.notice_url.clone(),
            public_url: controller.public_url.clone(),
            retention_days: controller.retention_days,
            evidence_days: controller.evidence_days,
            mailstreams,
        }
    }
}

impl Stream {
    pub(crate) fn of(mailstream: &Mailstream) -> Stream {
        let Treatment { extent, receipts, personal, links, link_treatment, unreadable } =
            mailstream.treatment;
        Stream {
            name: mailstream.name.to_string(),
            mode: match mailstream.mode {
                Mode::Enforce => "enforce",
                Mode::Observe => "observe",
            },
            purposes: mailstream.purposes.iter().map(|purpose| purpose.name()).collect(),
            requested: mailstream.requested.name(),
            exemption: mailstream.exemption.map(Exemption::name),
            consent_request: mailstream.kind == MailKind::ConsentRequest,
            jurisdiction: mailstream.declared().to_owned(),
            extent: match extent {
                Extent::Trackers => "trackers",
                Extent::EveryRequest => "every_request",
            },
            receipts: match receipts {
                Receipts::Strip => "strip",
                Receipts::Keep => "keep",
            },
            personal_pictures: personal_name(personal),
            links: match (links, link_treatment) {
                (Links::Ignore, _) => "ignore",
                (Links::Count, _) => "count",
                (Links::Note, LinkTreatment::Keep) => "note",
                (Links::Note, LinkTreatment::Unwrap) => "unwrap",
                (Links::Note, LinkTreatment::Gate) => "gate",
            },
            unreadable_parts: match unreadable {
                Unreadable::Count => "count",
                Unreadable::Remove => "remove",
            },
            footer: match mailstream.footer {
                Footer::WhenTracked => "when_tracked",
                Footer::Always => "always",
                Footer::MarkerOnly => "marker_only",
            },
        }
    }
}

fn personal_name(personal: Personal) -> &'static str {
    match personal {
        Personal::Gentlest => "gentlest",
        Personal::Unwrap => "unwrap",
        Personal::DropParameter => "drop_parameter",
        Personal::Strip => "strip",
        Personal::Keep => "keep",
    }
}

impl Dated {
    pub(crate) fn of(version: &Version) -> Dated {
        let known = Exemption::ALL.into_iter().filter(|exemption| version.flags.exempt.has(*exemption));
        Dated {
            label: version.label(),
            name: version.name.clone(),
            effective_from: version.effective_from.to_string(),
            kind: version.kind.clone(),
            checked_on: version.checked_on.clone(),
            source: version.source.clone(),
            opens_need_consent: version.flags.opens == Need::Consent,
            links_need_consent: version.flags.links == Need::Consent,
            exemptions: known.map(Exemption::name).collect(),
            own: version.author == Author::Operator,
        }
    }
}
