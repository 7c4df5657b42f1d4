//! Warnings about declarations that have no effect, or deserve a second thought.

use super::{
    Chosen, Exemption, Footer, Jurisdictions, MailKind, Mailstream, Mode, Need, OnGrant, Purpose, Requested,
    Rulebook, jurisdiction,
};
use crate::consent::Timestamp;
use crate::rewrite::{LinkTreatment, Personal};

/// Lists the warnings about a rulebook at a moment, one sentence each.
pub fn lint(rulebook: &Rulebook, now: Timestamp) -> Vec<String> {
    let mut found = Vec::new();
    let mut controllers: Vec<&str> = Vec::new();
    for chosen in rulebook.all() {
        let name = chosen.controller.name.as_str();
        if !controllers.contains(&name) {
            controllers.push(name);
            found.extend(controller(chosen));
            found.extend(links_unknown(rulebook, chosen, now));
        }
        let mailstream = chosen.mailstream;
        let title = format!("mailstream {} of {name}", mailstream.name);
        let of_stream = [
            notice(chosen),
            link(chosen),
            known(chosen, &rulebook.jurisdictions, now),
            differing(mailstream),
            request(mailstream),
            pictures(mailstream),
            links_kept(chosen, &rulebook.jurisdictions, now),
            links_for_nobody(chosen, &rulebook.jurisdictions, now),
        ];
        let missing = mailstream
            .exemption
            .map(|exemption| missing(mailstream, exemption, &rulebook.jurisdictions, now));
        let all = of_stream.into_iter().flatten().chain(missing.into_iter().flatten());
        found.extend(all.map(|text| format!("{title}: {text}")));
    }
    found.extend(versions(&rulebook.jurisdictions, now));
    found
}

fn controller(chosen: Chosen<'_>) -> Vec<String> {
    let controller = chosen.controller;
    let on_grant = match (controller.on_grant, &controller.public_url) {
        (OnGrant::Keep, _) => Some("on_grant is \"keep\": a withdrawal cannot reach delivered mail"),
        (OnGrant::Gate, None) => Some(
            "on_grant is \"gate\" but there is no public_url: trackers are removed even from copies for \
             people who agreed. Set public_url and [public], or on_grant = \"keep\", which leaves them in \
             place",
        ),
        (OnGrant::Gate, Some(_)) | (OnGrant::Strip, _) => None,
    };
    let no_link = (controller.on_grant == OnGrant::Keep && controller.public_url.is_none())
        .then_some("there is no public_url, so mail that tracks has no link for withdrawing consent");
    on_grant
        .into_iter()
        .chain(no_link)
        .map(|text| format!("controller {}: {text}", controller.name))
        .collect()
}

/// Returns whether any copy may keep a pixel or get one of ours.
fn may_track(chosen: Chosen<'_>) -> bool {
    let mailstream = chosen.mailstream;
    mailstream.kind == MailKind::Ordinary
        && (chosen.controller.on_grant != OnGrant::Strip || mailstream.exemption.is_some())
}

/// N20: people are informed, even about pixels that need no consent.
fn notice(chosen: Chosen<'_>) -> Option<String> {
    let mailstream = chosen.mailstream;
    let has = mailstream.notice_url.is_some() || chosen.controller.notice_url.is_some();
    (!has && !mailstream.is_unmatched() && may_track(chosen)).then(|| {
        "it may keep pixels and has no notice_url, where readers are informed about them; set it here or on \
         the controller"
            .to_owned()
    })
}

/// N24: mail that tracks needs a link, and this setting leaves it entirely to the author.
fn link(chosen: Chosen<'_>) -> Option<String> {
    let mailstream = chosen.mailstream;
    let needs_mark = mailstream.footer == Footer::MarkerOnly
        && may_track(chosen)
        && chosen.controller.public_url.is_some();
    needs_mark.then(|| {
        "footer is \"marker_only\": a message whose author left no {{pixelward.preferences}} marker is \
         stripped even for people who agreed"
            .to_owned()
    })
}

fn known(chosen: Chosen<'_>, jurisdictions: &Jurisdictions, now: Timestamp) -> Option<String> {
    let mailstream = chosen.mailstream;
    let declared = mailstream.declared();
    if declared == jurisdiction::UNKNOWN {
        // Nothing else can be said about mail that matches no mailstream.
        return (!mailstream.is_unmatched()).then(|| {
            "no jurisdiction is declared: the strictest enabled rules apply unless a record says otherwise"
                .to_owned()
        });
    }
    let rules = jurisdictions.at(now).named(declared);
    (!rules.version.starts_with(&format!("{declared}/"))).then(|| {
        format!(
            "no version of the jurisdiction {declared:?} is in force: the rules of {} apply",
            rules.version
        )
    })
}

/// Purposes that can never be served by one pixel.
fn differing(mailstream: &Mailstream) -> Option<String> {
    let exemption = mailstream.exemption?;
    let covered = mailstream.purposes.iter().filter(|purpose| exemption.covers(**purpose)).count();
    (covered > 0 && covered < mailstream.purposes.len()).then(|| {
        format!(
            "its exemption {} covers only some of its purposes: a pixel that also serves others needs a \
             grant for all of them",
            exemption.name()
        )
    })
}

fn request(mailstream: &Mailstream) -> Option<String> {
    (mailstream.kind == MailKind::ConsentRequest && mailstream.exemption.is_some())
        .then(|| "it asks for consent, so it is always stripped, and its exemption has no effect".to_owned())
}

fn pictures(mailstream: &Mailstream) -> Option<String> {
    (mailstream.treatment.personal == Personal::Keep).then(|| {
        "identifying_images is \"keep\": images that identify the reader stay in mail to people who did not \
         agree"
            .to_owned()
    })
}

/// Whether the declared rules of a mailstream ask for consent to link tracking, and decisions are carried out.
fn needs_consent_to_links(mailstream: &Mailstream, jurisdictions: &Jurisdictions, now: Timestamp) -> bool {
    mailstream.mode == Mode::Enforce
        && jurisdictions.at(now).named(mailstream.declared()).flags.links == Need::Consent
}

/// N3: links report for people who did not agree, and that is a setting.
fn links_kept(chosen: Chosen<'_>, jurisdictions: &Jurisdictions, now: Timestamp) -> Option<String> {
    let mailstream = chosen.mailstream;
    let keeps = mailstream.treatment.link_treatment == LinkTreatment::Keep;
    (keeps && needs_consent_to_links(mailstream, jurisdictions, now)).then(|| {
        let rules = jurisdictions.at(now).named(mailstream.declared());
        format!(
            "open risk: the rules of {} ask for consent to link tracking, and links leaves tracked links as they \
             are. Set links = \"unwrap\" or \"gate\"",
            rules.version
        )
    })
}

/// A declaration under which nobody is asked about links.
fn links_for_nobody(chosen: Chosen<'_>, jurisdictions: &Jurisdictions, now: Timestamp) -> Option<String> {
    let mailstream = chosen.mailstream;
    let is_gated = mailstream.treatment.link_treatment == LinkTreatment::Gate;
    let is_ordinary = mailstream.kind == MailKind::Ordinary;
    if !is_gated || !is_ordinary || !needs_consent_to_links(mailstream, jurisdictions, now) {
        return None;
    }
    if !mailstream.declares_links() {
        return Some(
            "links is \"gate\" and purposes lacks link_tracking: nobody is asked about links, so all of them are \
             unwrapped"
                .to_owned(),
        );
    }
    chosen.controller.public_url.is_none().then(|| {
        "links is \"gate\" but the controller has no public_url: links are unwrapped even in copies for people \
         who agreed"
            .to_owned()
    })
}

/// N3: links whose pages are nowhere go on reporting for people who did not agree.
fn links_unknown(rulebook: &Rulebook, chosen: Chosen<'_>, now: Timestamp) -> Option<String> {
    let controller = chosen.controller;
    let concerned = rulebook.all().any(|other| {
        other.controller.name == controller.name
            && !other.mailstream.is_unmatched()
            && other.mailstream.treatment.link_treatment != LinkTreatment::Keep
            && needs_consent_to_links(other.mailstream, &rulebook.jurisdictions, now)
    });
    (concerned && controller.links_file.is_none() && controller.links_lookup.is_none()).then(|| {
        format!(
            "controller {}: open risk: a tracked link that does not contain the address of its page goes on \
             reporting clicks of people who did not agree, and no links_file or links_lookup says what it leads \
             to. `pixelward report` counts such links",
            controller.name
        )
    })
}

/// Declared conditions that an exemption lacks.
fn missing(
    mailstream: &Mailstream,
    exemption: Exemption,
    jurisdictions: &Jurisdictions,
    now: Timestamp,
) -> Vec<String> {
    let name = exemption.name();
    let mut found = Vec::new();
    if !mailstream.purposes.iter().any(|purpose| exemption.covers(*purpose)) {
        let wanted: Vec<&str> = Purpose::ALL
            .iter()
            .filter(|purpose| exemption.covers(**purpose))
            .map(|purpose| purpose.name())
            .collect();
        found
            .push(format!("exemption {name} has no effect: purposes contains none of {}", wanted.join(", ")));
    }
    if exemption == Exemption::Deliverability && mailstream.requested != Requested::Requested {
        found.push(format!(
            "exemption {name} has no effect: it is for mail that people asked for, so it needs requested = \
             \"requested\""
        ));
    }
    if exemption.needs_template() && !mailstream.conditions.name_a_template() {
        found.push(format!(
            "exemption {name} has no effect: it is for one template, so it needs a sender, list_id or header \
             condition"
        ));
    }
    let declared = mailstream.declared();
    let in_force = jurisdictions.at(now);
    if !in_force.allows(declared, exemption) {
        found.push(format!(
            "exemption {name} has no effect unless a record says otherwise: the rules of {} do not grant it",
            in_force.named(declared).version
        ));
    }
    if exemption == Exemption::LegacyInformed {
        found.push(format!(
            "exemption {name} relies on one reading of the transition; another one ends it on 2026-07-14. \
             Keep proof of each notice"
        ));
    }
    found
}

/// Operator's versions that nothing uses yet, or that will take effect.
fn versions(jurisdictions: &Jurisdictions, now: Timestamp) -> Vec<String> {
    let later = jurisdictions.versions().iter().filter(|version| version.effective_from > now);
    later
        .map(|version| {
            format!("jurisdiction {}: takes effect on {}", version.full_label(), version.effective_from)
        })
        .collect()
}
