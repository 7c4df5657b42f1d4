//! Controllers, and the kinds of mail that they send.

use std::path::PathBuf;
use std::sync::Arc;

use super::conditions::Conditions;
use super::{Exemption, Page, Purpose, TooEarly, jurisdiction};
use crate::consent;
use crate::rewrite::{LinkTreatment, Personal, Receipts};
use crate::tracker::{Extent, Links, Unreadable};

/// Whether decisions are carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Trackers are stripped.
    Enforce,
    /// What would be done is only logged; mail is relayed untouched, and its content is never a reason to
    /// reject it.
    Observe,
}

/// What a standing grant of every purpose leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnGrant {
    /// Trackers are replaced by an address of ours that checks consent at each moment (N25).
    Gate,
    /// Trackers stay. A withdrawal cannot reach delivered mail.
    Keep,
    /// Trackers are removed anyway.
    Strip,
}

/// The organisation on whose behalf mail is sent (N4).
#[derive(Clone, Debug)]
pub struct Controller {
    /// The name, as in the consent store.
    pub name: consent::Controller,
    /// The same, for the log and metrics.
    pub label: Arc<str>,
    /// The conditions on its mail.
    pub conditions: Conditions,
    /// What a grant leads to.
    pub on_grant: OnGrant,
    /// The page that informs readers about their opens (N20).
    pub notice_url: Option<String>,
    /// The language of its mail if a message declares none, by its two letters (ISO 639-1).
    pub language: String,
    /// The file with the text around the link to the preference page.
    pub footer_file: Option<PathBuf>,
    /// The file that says what tracked links lead to.
    pub links_file: Option<PathBuf>,
    /// The service of its own that says what other tracked links lead to.
    pub links_lookup: Option<LinksLookup>,
    /// The base URL of its pages and pixels, without a trailing slash; `None` if it has none.
    pub public_url: Option<String>,
    /// The jurisdiction of its mailstreams that declare none.
    pub jurisdiction: Option<String>,
    /// After how many days without news people who agreed to nothing are erased; 0 for never.
    pub retention_days: u16,
    /// After how many days audit records about its mail are deleted, if earlier than others.
    pub evidence_days: Option<u16>,
    /// For how many days the day of a person's last open is kept (N11), as are the counts of a campaign that
    /// nobody opens.
    pub day_retention_days: u16,
    /// The contents of its preference page.
    pub page: Page,
}

impl Controller {
    /// Returns the name by which readers know it. Without a title, "default" says nothing to them, so the host of
    /// its pages stands in for that.
    pub fn title(&self) -> &str {
        let host = || self.public_url.as_deref()?.split("://").nth(1)?.split(['/', ':']).next();
        let is_default = self.name == consent::Controller::unnamed();
        let otherwise = || host().filter(|_| is_default).unwrap_or(self.name.as_str());
        self.page.title.as_deref().unwrap_or_else(otherwise)
    }
}

/// A service that says what tracked links lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinksLookup {
    /// Its URL.
    pub url: String,
    /// The file with the authorities that certify it; `None` for those of the system.
    pub ca_file: Option<PathBuf>,
    /// How long mail waits for its answer, in milliseconds.
    pub timeout_ms: u16,
}

/// The basis on which mail is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requested {
    /// The person asked for it: a service they use, or mail they consented to.
    Requested,
    /// Sent to customers who may object.
    SoftOptIn,
    /// Neither, or not stated.
    Neither,
}

impl Requested {
    /// Returns the name used in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Requested::Requested => "requested",
            Requested::SoftOptIn => "soft_opt_in",
            Requested::Neither => "neither",
        }
    }
}

/// The use of a mailstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailKind {
    /// Any mail.
    Ordinary,
    /// Mail that asks for consent to tracking, so it does not track (N17).
    ConsentRequest,
}

/// What a no to another purpose says about the pixel that all readers share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharedAfterNo {
    /// Nothing: only an objection to being counted ends that.
    Stays,
    /// It goes: who said no to anything is not counted either.
    Goes,
}

/// Which copies get a link to the preference page (N20, N24) if their author left no marker for it. A marker
/// is always replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Footer {
    /// Those that leave with a tracker, or with one of our pixels.
    WhenTracked,
    /// All of them.
    Always,
    /// None: a copy without a marker leaves without trackers.
    MarkerOnly,
}

/// How a copy is treated whose reader did not agree, and receipts in every copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Treatment {
    /// How much is removed.
    pub extent: Extent,
    /// What happens to requests for read receipts. Independent, because consent to tracking does not cover
    /// receipts.
    pub receipts: Receipts,
    /// What happens to images that identify the reader.
    pub personal: Personal,
    /// Whether links are examined.
    pub links: Links,
    /// What happens to tracked links.
    pub link_treatment: LinkTreatment,
    /// What happens to text parts that cannot be read.
    pub unreadable: Unreadable,
}

/// A mailstream: a kind of mail of a controller.
#[derive(Clone, Debug)]
pub struct Mailstream {
    /// The name.
    pub name: Arc<str>,
    /// The controller.
    pub controller: String,
    /// The conditions on its mail.
    pub conditions: Conditions,
    /// What its opens are used for, every one of which must be allowed (N9), and whether its links are followed
    /// up (N3).
    pub purposes: Vec<Purpose>,
    /// The basis on which it is sent.
    pub requested: Requested,
    /// The exemption it may use.
    pub exemption: Option<Exemption>,
    /// Its use.
    pub kind: MailKind,
    /// Whether decisions are carried out.
    pub mode: Mode,
    /// The jurisdiction of its recipients, unless a record says otherwise; `None` for the controller's.
    pub jurisdiction: Option<String>,
    /// The page that informs readers about their opens; `None` for the controller's.
    pub notice_url: Option<String>,
    /// How copies are treated.
    pub treatment: Treatment,
    /// Which copies get a link to the preference page.
    pub footer: Footer,
    /// What a no to another purpose says about the shared pixel.
    pub shared_after_no: SharedAfterNo,
    /// What happens to a request for consent that comes too early.
    pub too_early: TooEarly,
}

impl Mailstream {
    /// The name of mail that matches no mailstream.
    pub const UNMATCHED: &str = "unmatched";

    /// Returns the mailstream for mail that matches none: it may serve any purpose, anywhere, and keeps no
    /// request for a receipt.
    pub fn unmatched(controller: &str, mode: Mode, treatment: Treatment, footer: Footer) -> Mailstream {
        Mailstream {
            name: Mailstream::UNMATCHED.into(),
            controller: controller.to_owned(),
            conditions: Conditions::default(),
            purposes: Purpose::CONSENT.to_vec(),
            requested: Requested::Neither,
            exemption: None,
            kind: MailKind::Ordinary,
            mode,
            jurisdiction: Some(jurisdiction::UNKNOWN.to_owned()),
            notice_url: None,
            treatment: Treatment { receipts: Receipts::Strip, ..treatment },
            footer,
            shared_after_no: SharedAfterNo::Stays,
            too_early: TooEarly::Strip,
        }
    }

    /// Returns what its opens are used for.
    pub fn purposes_of_opens(&self) -> impl Iterator<Item = Purpose> {
        self.purposes.iter().copied().filter(|purpose| purpose.is_about_opens())
    }

    /// Returns whether it declares that its links are followed up, and so asks for consent to that.
    pub fn declares_links(&self) -> bool {
        self.purposes.contains(&Purpose::LinkTracking)
    }

    /// Returns the declared jurisdiction.
    pub fn declared(&self) -> &str {
        self.jurisdiction.as_deref().unwrap_or(jurisdiction::UNKNOWN)
    }

    /// Returns whether it stands for mail that matches no mailstream.
    pub fn is_unmatched(&self) -> bool {
        &*self.name == Mailstream::UNMATCHED
    }
}
