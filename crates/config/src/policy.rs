//! The policy: defaults, controllers, mailstreams and jurisdictions, in the configuration and in included
//! files.

use std::path::{Path, PathBuf};

use super::Listener;
use super::jurisdiction::{all_names, own_version, shipped_versions};
use super::reader::{self, Section};
use pixelward_core::consent;
use pixelward_core::policy::conditions::{Conditions, Control, domain};
use pixelward_core::policy::jurisdiction::{NONE, Version};
use pixelward_core::policy::{
    Controller, Exemption, Footer, Jurisdictions, Language, LinksLookup, MailKind, Mailstream, Mode, OnGrant,
    Page, Purpose, Requested, Rulebook, SharedAfterNo, TooEarly, Treatment,
};
use pixelward_core::rewrite::notice;
use pixelward_core::rewrite::{LinkTreatment, Personal, Protected, Receipts};
use pixelward_core::smtp::address::Address;
use pixelward_core::tracker::{Extent, Links, Unreadable};

/// The policy.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The controller of mail that matches no other controller.
    pub controller: String,
    /// What happens to protected parts.
    pub protected: Protected,
    /// Whether rewritten mail is scanned again.
    pub verifies: bool,
    /// Controllers, mailstreams and jurisdictions.
    pub rulebook: Rulebook,
}

/// The section [policy].
struct Defaults {
    controller: consent::Controller,
    on_grant: OnGrant,
    protected: Protected,
    treatment: Treatment,
    footer: Footer,
    verifies: bool,
    enabled: Vec<String>,
}

/// Defaults of controllers and mailstreams, and the names they may refer to.
struct Context<'a> {
    mode: Mode,
    on_grant: OnGrant,
    treatment: Treatment,
    footer: Footer,
    controller: String,
    listeners: &'a [Listener],
}

/// The declarations of one file.
#[derive(Default)]
struct Declared {
    controllers: Vec<Controller>,
    mailstreams: Vec<Mailstream>,
    versions: Vec<Version>,
}

/// Reads it. Relative paths of included files start at `folder`.
pub(super) fn policy(root: &mut Section<'_>, mode: Mode, listeners: &[Listener], folder: &Path) -> Policy {
    let defaults = root.section("policy", defaults);
    let context = Context {
        mode,
        on_grant: defaults.on_grant,
        treatment: defaults.treatment,
        footer: defaults.footer,
        controller: defaults.controller.as_str().to_owned(),
        listeners,
    };
    let mut declared = Declared::read(root, &context);
    let files = root.list("include", |text| Ok(folder.join(text)));
    for file in files {
        declared.add(included(root, &file, &context));
    }
    declared.check(root, &defaults);
    Policy {
        controller: context.controller,
        protected: defaults.protected,
        verifies: defaults.verifies,
        rulebook: rulebook(declared, defaults, mode),
    }
}

fn rulebook(declared: Declared, defaults: Defaults, mode: Mode) -> Rulebook {
    let mut versions = shipped_versions();
    versions.extend(declared.versions);
    let enabled = if defaults.enabled.is_empty() { all_names(&versions) } else { defaults.enabled };
    let named = declared.controllers.iter().find(|controller| controller.name == defaults.controller);
    let default = match named {
        // Its declaration applies to all mail that matches no other controller.
        Some(controller) => Controller { conditions: Conditions::default(), ..controller.clone() },
        None => Controller {
            label: defaults.controller.as_str().into(),
            name: defaults.controller,
            conditions: Conditions::default(),
            on_grant: defaults.on_grant,
            notice_url: None,
            public_url: None,
            language: notice::DEFAULT.to_owned(),
            footer_file: None,
            links_file: None,
            links_lookup: None,
            jurisdiction: None,
            retention_days: 0,
            evidence_days: None,
            day_retention_days: DAY_RETENTION,
            page: Page::default(),
        },
    };
    let unmatched = Mailstream::unmatched(default.name.as_str(), mode, defaults.treatment, defaults.footer);
    let jurisdictions = Jurisdictions::new(versions, enabled);
    Rulebook::new(declared.controllers, default, declared.mailstreams, &unmatched, jurisdictions)
}

impl Declared {
    fn read(root: &mut Section<'_>, context: &Context<'_>) -> Declared {
        Declared {
            controllers: root
                .sections("controller", |section| controller(section, context))
                .into_iter()
                .flatten()
                .collect(),
            mailstreams: root
                .sections("mailstream", |section| mailstream(section, context))
                .into_iter()
                .flatten()
                .collect(),
            versions: root.sections("jurisdiction", own_version).into_iter().flatten().collect(),
        }
    }

    fn add(&mut self, other: Declared) {
        self.controllers.extend(other.controllers);
        self.mailstreams.extend(other.mailstreams);
        self.versions.extend(other.versions);
    }

    /// Checks settings that depend on each other.
    fn check(&self, root: &Section<'_>, defaults: &Defaults) {
        for (index, controller) in self.controllers.iter().enumerate() {
            if self.controllers.iter().take(index).any(|other| other.name == controller.name) {
                root.problem(0, format!("two [[controller]] are named {:?}", controller.name.as_str()));
            }
            if controller.conditions.fit_all() && index + 1 < self.controllers.len() {
                root.problem(
                    0,
                    format!(
                        "[[controller]] {:?} has no condition and matches all mail, so later ones never \
                             match: put it last",
                        controller.name.as_str()
                    ),
                );
            }
        }
        for (index, mailstream) in self.mailstreams.iter().enumerate() {
            let same = |other: &Mailstream| {
                other.name == mailstream.name && other.controller == mailstream.controller
            };
            if self.mailstreams.iter().take(index).any(same) {
                root.problem(
                    0,
                    format!(
                        "two [[mailstream]] of {} are named {:?}",
                        mailstream.controller, mailstream.name
                    ),
                );
            }
            let known = mailstream.controller == defaults.controller.as_str()
                || self
                    .controllers
                    .iter()
                    .any(|controller| controller.name.as_str() == mailstream.controller);
            if !known {
                root.problem(
                    0,
                    format!(
                        "[[mailstream]] {:?}: unknown controller {:?}",
                        mailstream.name, mailstream.controller
                    ),
                );
            }
        }
        let mut versions = shipped_versions();
        versions.extend(self.versions.iter().cloned());
        let names = all_names(&versions);
        for name in defaults.enabled.iter().filter(|name| !names.contains(name)) {
            root.problem(
                0,
                format!("policy.jurisdictions: unknown jurisdiction {name:?}: use {}", names.join(", ")),
            );
        }
    }
}

/// Reads the declarations of a file. Problems are reported with its name.
fn included(root: &Section<'_>, file: &Path, context: &Context<'_>) -> Declared {
    let source = match std::fs::read_to_string(file) {
        Ok(source) => source,
        Err(error) => {
            root.problem(0, format!("include: {}: {error}", file.display()));
            return Declared::default();
        }
    };
    let folder = file.parent().unwrap_or(Path::new(""));
    let outcome = reader::read_in(folder, &source, |inner| Declared::read(inner, context));
    root.adopt(&PathBuf::from(file), outcome.problems);
    outcome.value
}

fn defaults(section: &mut Section<'_>) -> Defaults {
    let controller = section.parsed("controller", str::parse::<consent::Controller>);
    Defaults {
        controller: controller.unwrap_or_else(consent::Controller::unnamed),
        on_grant: on_grant(section, OnGrant::Gate),
        protected: section.choice(
            "protected",
            Protected::Reject,
            &[("reject", Protected::Reject), ("pass", Protected::Pass)],
        ),
        treatment: treatment(
            section,
            Treatment {
                extent: Extent::Trackers,
                receipts: Receipts::Strip,
                personal: Personal::Gentlest,
                links: Links::Note,
                link_treatment: LinkTreatment::Unwrap,
                unreadable: Unreadable::Count,
            },
        ),
        footer: footer(section, Footer::WhenTracked),
        verifies: section.flag("verify_output", true),
        enabled: section.list("jurisdictions", |text| Ok(text.to_owned())),
    }
}

fn on_grant(section: &mut Section<'_>, default: OnGrant) -> OnGrant {
    let words = [("gate", OnGrant::Gate), ("keep", OnGrant::Keep), ("strip", OnGrant::Strip)];
    section.choice("on_grant", default, &words)
}

fn footer(section: &mut Section<'_>, default: Footer) -> Footer {
    let words = [
        ("when_tracked", Footer::WhenTracked),
        ("always", Footer::Always),
        ("marker_only", Footer::MarkerOnly),
    ];
    section.choice("footer", default, &words)
}

fn treatment(section: &mut Section<'_>, default: Treatment) -> Treatment {
    let (links, link_treatment) = section.choice(
        "links",
        (default.links, default.link_treatment),
        &[
            ("ignore", (Links::Ignore, LinkTreatment::Keep)),
            ("count", (Links::Count, LinkTreatment::Keep)),
            ("unwrap", (Links::Note, LinkTreatment::Unwrap)),
            ("gate", (Links::Note, LinkTreatment::Gate)),
        ],
    );
    let strict = section.flag("strict", default.extent == Extent::EveryRequest);
    Treatment {
        extent: if strict { Extent::EveryRequest } else { Extent::Trackers },
        receipts: section.choice(
            "receipts",
            default.receipts,
            &[("strip", Receipts::Strip), ("keep", Receipts::Keep)],
        ),
        personal: section.choice(
            "identifying_images",
            default.personal,
            &[
                ("auto", Personal::Gentlest),
                ("unwrap", Personal::Unwrap),
                ("drop_parameter", Personal::DropParameter),
                ("strip", Personal::Strip),
                ("keep", Personal::Keep),
            ],
        ),
        links,
        link_treatment,
        unreadable: section.choice(
            "unreadable",
            default.unreadable,
            &[("count", Unreadable::Count), ("remove", Unreadable::Remove)],
        ),
    }
}

fn controller(section: &mut Section<'_>, context: &Context<'_>) -> Option<Controller> {
    let name = section.parsed("name", str::parse::<consent::Controller>);
    let conditions = origin(section, context);
    let on_grant = on_grant(section, context.on_grant);
    let notice_url = section.parsed("notice_url", web_address);
    let public_url = section.parsed("public_url", public_address);
    let language = section.parsed("language", language).unwrap_or_else(|| notice::DEFAULT.to_owned());
    let footer_file = section.path("footer_file");
    let links_file = section.path("links_file");
    let links_lookup = links_lookup(section);
    let jurisdiction = section.string("jurisdiction");
    if jurisdiction.as_deref() == Some(NONE) {
        section.problem(
            section.start_line(),
            "controller.jurisdiction cannot be \"none\": each mailstream must say so itself",
        );
    }
    let retention_days = section.number("retention_days", 0, 0..=36_500);
    let evidence_days = match section.number("evidence_days", 0, 1..=3650) {
        0 => None,
        days => Some(super::days(days)),
    };
    let day_retention_days =
        super::days(section.number("day_retention_days", DAY_RETENTION.into(), 1..=3650));
    let page = section.section("page", |section| page(section, &language));
    let Some(name) = name else {
        section.problem(section.start_line(), "controller.name is missing");
        return None;
    };
    Some(Controller {
        label: name.as_str().into(),
        name,
        conditions,
        on_grant,
        notice_url,
        public_url,
        language,
        footer_file,
        links_file,
        links_lookup,
        jurisdiction,
        retention_days: u16::try_from(retention_days).unwrap_or(u16::MAX),
        evidence_days,
        day_retention_days,
        page,
    })
}

/// Reads the service that says what tracked links lead to.
fn links_lookup(section: &mut Section<'_>) -> Option<LinksLookup> {
    let url = section.parsed("links_lookup", |text| super::web_url(text).map(|url| url.to_string()));
    let ca_file = section.path("links_lookup_ca_file");
    let timeout_ms = section.number("links_lookup_timeout_ms", 1000, 50..=10_000);
    Some(LinksLookup { url: url?, ca_file, timeout_ms: u16::try_from(timeout_ms).unwrap_or(1000) })
}

/// Reads what a preference page says about its controller. The files are read later, with all others that the
/// configuration refers to.
fn page(section: &mut Section<'_>, language: &str) -> Page {
    let language = Language::of(language).unwrap_or(Language::English);
    Page {
        title: section.parsed("title", page_title),
        logo_file: section.path("logo_file"),
        privacy_url: section.parsed("privacy_url", web_address),
        contact: section.parsed("contact", page_contact),
        retention_days: match section.number("retention_days", 0, 2..=3650) {
            0 => None,
            days => Some(super::days(days)),
        },
        recipients: section.parsed("recipients", page_recipients),
        texts_file: section.path("texts_file"),
        sender: section.parsed("sender", |text| match Address::bare(text) {
            Ok(url) if url.domain().is_some() && text.is_ascii() => Ok(text.to_owned()),
            Ok(_) | Err(_) => {
                Err(format!("invalid mail address {text:?}: use one such as \"privacy@shop.example\""))
            }
        }),
        language,
    }
}

fn page_title(text: &str) -> Result<String, String> {
    let is_one = (1..=80).contains(&text.chars().count()) && !text.contains(char::is_control);
    is_one.then(|| text.to_owned()).ok_or_else(|| "use 1 to 80 characters".to_owned())
}

fn page_recipients(text: &str) -> Result<String, String> {
    let is_one = (1..=300).contains(&text.chars().count()) && !text.contains(char::is_control);
    is_one.then(|| text.to_owned()).ok_or_else(|| "use 1 to 300 characters".to_owned())
}

fn page_contact(text: &str) -> Result<String, String> {
    let is_one = (1..=120).contains(&text.chars().count()) && !text.contains(char::is_control);
    is_one.then(|| text.to_owned()).ok_or_else(|| "use 1 to 120 characters".to_owned())
}

/// For how many days days of last open are kept by default.
const DAY_RETENTION: u16 = 400;

fn mailstream(section: &mut Section<'_>, context: &Context<'_>) -> Option<Mailstream> {
    let name = section.parsed("name", stream_name);
    let controller = section.parsed("controller", |text| {
        text.parse::<consent::Controller>().map(|controller| controller.as_str().to_owned())
    });
    let conditions = conditions(section, context);
    let mut purposes =
        section.list("purposes", |text| text.parse::<Purpose>().map_err(|error| error.to_string()));
    if purposes.is_empty() {
        purposes = Purpose::CONSENT.to_vec();
    }
    let requested = [Requested::Requested, Requested::SoftOptIn, Requested::Neither]
        .map(|requested| (requested.name(), requested));
    let exemptions: Vec<(&str, Option<Exemption>)> = [("none", None)]
        .into_iter()
        .chain(Exemption::ALL.map(|exemption| (exemption.name(), Some(exemption))))
        .collect();
    let mailstream = Mailstream {
        name: name.clone().unwrap_or_default().into(),
        controller: controller.unwrap_or_else(|| context.controller.clone()),
        conditions,
        purposes,
        requested: section.choice("requested", Requested::Neither, &requested),
        exemption: section.choice("exemption", None, &exemptions),
        kind: section.choice(
            "kind",
            MailKind::Ordinary,
            &[("ordinary", MailKind::Ordinary), ("consent_request", MailKind::ConsentRequest)],
        ),
        mode: mode(section, context.mode),
        jurisdiction: section.string("jurisdiction"),
        notice_url: section.parsed("notice_url", web_address),
        treatment: treatment(section, context.treatment),
        footer: footer(section, context.footer),
        shared_after_no: section.choice(
            "shared_pixel_after_refusal",
            SharedAfterNo::Stays,
            &[("keep", SharedAfterNo::Stays), ("strip", SharedAfterNo::Goes)],
        ),
        too_early: section.choice(
            "too_early",
            TooEarly::Strip,
            &[("strip", TooEarly::Strip), ("reject", TooEarly::Reject)],
        ),
    };
    if name.is_none() {
        section.problem(section.start_line(), "mailstream.name is missing");
        return None;
    }
    Some(mailstream)
}

/// Reads a mode.
pub(super) fn mode(section: &mut Section<'_>, default: Mode) -> Mode {
    section.choice("mode", default, &[("enforce", Mode::Enforce), ("observe", Mode::Observe)])
}

/// Reads the conditions that controllers and mailstreams have in common.
fn origin(section: &mut Section<'_>, context: &Context<'_>) -> Conditions {
    let lower = |text: &str| Ok(domain(text));
    Conditions {
        listener: section.one_or_more("listener", |text| {
            let is_known = context.listeners.iter().any(|listener| listener.name == text);
            is_known.then(|| text.to_owned()).ok_or_else(|| format!("unknown listener {text:?}"))
        }),
        login: section.one_or_more("login", |text| Ok(text.to_owned())),
        sender_domain: section.one_or_more("sender_domain", lower),
        from_domain: section.one_or_more("from_domain", lower),
        ..Conditions::default()
    }
}

fn conditions(section: &mut Section<'_>, context: &Context<'_>) -> Conditions {
    Conditions {
        sender: section.one_or_more("sender", |text| match text.contains('@') {
            true => Ok(text.to_lowercase()),
            false => Err(format!("invalid mail address {text:?}; for a domain, use sender_domain")),
        }),
        list_id: section.one_or_more("list_id", |text| Ok(text.trim_matches(['<', '>', ' ']).to_lowercase())),
        header: section.one_or_more("header", control),
        ..origin(section, context)
    }
}

/// Reads a control field. It is removed from all mail, so it cannot be one that readers need.
fn control(text: &str) -> Result<Control, String> {
    let wanted = || {
        format!(
            "invalid control field {text:?}: use one such as \"X-Mailstream: newsletter\"; its name must \
             begin with X-"
        )
    };
    let (name, value) = text.split_once(':').ok_or_else(wanted)?;
    let (name, value) = (name.trim(), value.trim());
    let is_own = name.get(..2).is_some_and(|prefix| prefix.eq_ignore_ascii_case("x-"));
    if !is_own || value.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(wanted());
    }
    Ok(Control { name: name.to_owned(), value: value.to_owned() })
}

fn stream_name(text: &str) -> Result<String, String> {
    if text == Mailstream::UNMATCHED {
        return Err(format!("{text:?} is reserved for mail that matches no mailstream"));
    }
    text.parse::<consent::Controller>()
        .map(|controller| controller.as_str().to_owned())
        .map_err(|_| format!("invalid name {text:?}: use 1 to 64 of a-z, 0-9, '.', '_' and '-'"))
}

fn web_address(text: &str) -> Result<String, String> {
    let is_one = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match is_one.is_some_and(|rest| !rest.is_empty() && !rest.contains(char::is_whitespace)) {
        true => Ok(text.to_owned()),
        false => {
            Err(format!("invalid page address {text:?}: use one such as \"https://shop.example/tracking\""))
        }
    }
}

/// Parses a language of two letters (ISO 639-1).
fn language(text: &str) -> Result<String, String> {
    let is_one = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_lowercase());
    is_one
        .then(|| text.to_owned())
        .ok_or_else(|| format!("invalid language {text:?}: use two letters such as \"fr\""))
}

/// Parses the base URL of our pages and pixels: the shorter the better, since every address in mail begins
/// with it.
fn public_address(text: &str) -> Result<String, String> {
    let text = text.trim_end_matches('/');
    let url = super::web_url(text)?;
    if url.query().is_some() || url.fragment().is_some() || text.len() > 200 {
        return Err(format!("invalid address {text:?}: use at most 200 bytes without \"?\" and \"#\""));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use pixelward_core::policy::Origin;

    fn parse(text: &str) -> Result<Config, String> {
        let text = format!("{text}\n[next_hop]\nhost = \"smtp.next-hop.example\"\n");
        Config::parse(&text)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn the_first_controller_that_fits_counts_and_of_its_mailstreams_the_first() {
        let text = "[policy]\n\
                    controller = \"rest\"\n\
                    strict = true\n\
                    [[controller]]\n\
                    name = \"shop\"\n\
                    login = [\"shop\", \"crm\"]\n\
                    jurisdiction = \"it\"\n\
                    [[controller]]\n\
                    name = \"club\"\n\
                    sender_domain = \"Club.example\"\n\
                    on_grant = \"strip\"\n\
                    [[mailstream]]\n\
                    name = \"a\"\n\
                    controller = \"shop\"\n\
                    sender = \"A@shop.example\"\n\
                    strict = false\n\
                    [[mailstream]]\n\
                    name = \"b\"\n\
                    controller = \"shop\"\n\
                    jurisdiction = \"fr\"\n\
                    [[mailstream]]\n\
                    name = \"c\"\n";
        let rulebook = parse(text).unwrap().policy.rulebook;
        let check = |login: Option<&str>, sender: &str| {
            let origin = Origin { listener: "default", login, sender };
            let chosen = rulebook.choose(&origin, &rulebook.marks(b"Subject: a\r\n\r\n"));
            let mailstream = chosen.mailstream;
            let strict = mailstream.treatment.extent == Extent::EveryRequest;
            (format!("{} {} {}", chosen.controller.name, mailstream.name, mailstream.declared()), strict)
        };
        assert_eq!(check(Some("crm"), "a@shop.example"), ("shop a it".to_owned(), false));
        assert_eq!(check(Some("shop"), "a@club.example"), ("shop b fr".to_owned(), true));
        assert_eq!(check(None, "a@club.example"), ("club unmatched unknown".to_owned(), true));
        assert_eq!(check(None, ""), ("rest c unknown".to_owned(), true));
        assert_eq!(rulebook.named(Some("club"), None).unwrap().controller.on_grant, OnGrant::Strip);
        assert_eq!(rulebook.all().count(), 3 + 1 + 2);
        assert!(rulebook.named(None, Some("a")).unwrap_err().contains("use one of c, unmatched"));
        assert!(rulebook.named(Some("nobody"), None).unwrap_err().contains("use one of shop, club, rest"));
    }

    #[test]
    fn the_default_controller_may_be_declared() {
        let text = "[policy]\ncontroller = \"shop\"\n[[controller]]\nname = \"shop\"\nlogin = \"shop\"\n\
            notice_url = \"https://shop.example/tracking\"\non_grant = \"keep\"\n";
        let rulebook = parse(text).unwrap().policy.rulebook;
        let controller = rulebook.default_controller();
        assert_eq!((controller.name.as_str(), controller.on_grant), ("shop", OnGrant::Keep));
        assert!(controller.notice_url.is_some() && controller.conditions.fit_all());
        assert_eq!(rulebook.all().count(), 1);
    }

    #[test]
    fn what_does_not_fit_together_is_named() {
        let stream = |rest: &str| format!("[[mailstream]]\nname = \"a\"\n{rest}\n");
        let controller = |rest: &str| format!("[[controller]]\nname = \"shop\"\n{rest}\n");
        for (text, words) in [
            (stream("controller = \"nobody\""), "unknown controller \"nobody\""),
            (stream("") + &stream(""), "two [[mailstream]] of default"),
            (stream("header = \"Subject: a\""), "must begin with X-"),
            (stream("header = \"X-Kind\""), "must begin with X-"),
            (stream("sender = \"shop.example\""), "for a domain, use sender_domain"),
            (stream("listener = \"nowhere\""), "unknown listener"),
            (stream("purposes = [\"fun\"]"), "unknown purpose"),
            (stream("exemption = \"all\""), "invalid value"),
            (stream("notice_url = \"shop.example\""), "invalid page address"),
            ("[[mailstream]]\nname = \"unmatched\"\n".to_owned(), "mail that matches no mailstream"),
            (controller("") + &controller("login = \"b\""), "put it last"),
            (controller("login = \"a\"") + &controller("login = \"b\""), "two [[controller]]"),
            (controller("jurisdiction = \"none\""), "cannot be \"none\""),
            ("[policy]\njurisdictions = [\"fr\", \"none\"]\n".to_owned(), "unknown jurisdiction \"none\""),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(words), "{words}: {error}");
        }
    }

    #[test]
    fn unknown_is_as_strict_as_what_is_enabled() {
        let now = consent::Timestamp::parse("2026-11-24").unwrap();
        let unknown = |text: &str| {
            let rulebook = parse(text).unwrap().policy.rulebook;
            rulebook.jurisdictions.at(now).named("unknown").into_owned()
        };
        let (all, france) = (unknown(""), unknown("[policy]\njurisdictions = [\"fr\"]\n"));
        assert!(!all.flags.exempt.has(Exemption::AuthSecurity));
        assert!(france.flags.exempt.has(Exemption::AuthSecurity));
        assert_eq!(&*france.version, "unknown/2026-07-14");
    }
}
