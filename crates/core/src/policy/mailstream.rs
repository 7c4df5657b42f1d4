//! Controllers, and the kinds of mail that they send.

use std::path::PathBuf;
use std::sync::Arc;

use super::conditions::Conditions;
use super::{Exemption, Page, Purpose, TooEarly, jurisdiction};
use crate::consent;
use crate::rewrite::{LinkTreatment, Personal, Receipts};
use crate::tracker::{Extent, Links};

/// Whether decisions are carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Trackers are stripped.
    Enforce,
    /// What would be done is only logged; mail is relayed untouched, and its content is never a reason to reject it.
    Observe,
}

/// What a standing grant of every purpose leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnGrant {
    /// Trackers lead to an address of ours that asks for the consent of each moment (N25).
    Gate,
    /// Trackers stay. A withdrawal cannot reach mail that was delivered.
    Keep,
    /// Trackers go all the same.
    Strip,
}

/// The organisation on whose behalf mail is sent (N4).
#[derive(Clone, Debug)]
pub struct Controller {
    /// Its name, as the consent store has it.
    pub name: consent::Controller,
    /// The same, for the log and metrics.
    pub label: Arc<str>,
    /// Which mail is its.
    pub conditions: Conditions,
    /// What a grant leads to.
    pub on_grant: OnGrant,
    /// Where readers find what is done with their opens (N20).
    pub notice_url: Option<String>,
    /// The language of its mail where a message names none, by its two letters (ISO 639-1).
    pub language: String,
    /// The file with what is put into its mail around a link to the preference page.
    pub footer_file: Option<PathBuf>,
    /// What the addresses of its pages and pixels of ours begin with, without a slash at the end; `None` where it has none.
    pub public_url: Option<String>,
    /// The jurisdiction of its mailstreams that declare none.
    pub jurisdiction: Option<String>,
    /// After how many days without news people are erased who agreed to nothing; never where that is 0.
    pub retention_days: u16,
    /// After how many days evidence about its mail goes, where that is earlier than for others.
    pub evidence_days: Option<u16>,
    /// For how many days the day of a person's last open is kept (N11), and the counts of a campaign that nobody opens.
    pub day_retention_days: u16,
    /// What its preference page says of it.
    pub page: Page,
}

/// On what the sending of mail rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requested {
    /// The person asked for it: a service they use, or mail they consented to.
    Requested,
    /// Sent to customers who may object.
    SoftOptIn,
    /// Neither, or nobody said.
    Neither,
}

impl Requested {
    /// The name used in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Requested::Requested => "requested",
            Requested::SoftOptIn => "soft_opt_in",
            Requested::Neither => "neither",
        }
    }
}

/// What a mailstream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailKind {
    /// Any mail.
    Ordinary,
    /// It asks for consent to tracking, so it carries none (N17).
    ConsentRequest,
}

/// Which copies get a link to the preference page (N20, N24), where their author left no place for it. Where there is such a place, it is always filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Footer {
    /// Those that leave with a tracker, or with a pixel of ours in its place.
    WhenTracked,
    /// All of them.
    Always,
    /// None: a copy without a place for the link leaves without trackers.
    MarkerOnly,
}

/// How a copy is treated whose reader did not agree, and receipts in every copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Treatment {
    /// How much is taken out.
    pub extent: Extent,
    /// Whether requests for receipts go. A flag of its own: consent to tracking is none to receipts.
    pub receipts: Receipts,
    /// What is done with pictures that tell readers apart.
    pub personal: Personal,
    /// Whether links are looked at.
    pub links: Links,
    /// What is done with tracked ones.
    pub link_treatment: LinkTreatment,
}

/// A kind of mail of a controller.
#[derive(Clone, Debug)]
pub struct Mailstream {
    /// Its name.
    pub name: Arc<str>,
    /// Whose it is.
    pub controller: String,
    /// Which mail it is.
    pub conditions: Conditions,
    /// What its opens are used for. Every one of them must be allowed (N9).
    pub purposes: Vec<Purpose>,
    /// On what the sending rests.
    pub requested: Requested,
    /// The exemption it may use.
    pub exemption: Option<Exemption>,
    /// What it is for.
    pub kind: MailKind,
    /// Whether decisions are carried out.
    pub mode: Mode,
    /// Where its recipients are, unless a record says otherwise; `None` for what the controller says.
    pub jurisdiction: Option<String>,
    /// Where readers find what is done with their opens; `None` for the controller's.
    pub notice_url: Option<String>,
    /// How copies are treated.
    pub treatment: Treatment,
    /// Which of them get a link to the preference page.
    pub footer: Footer,
    /// What is done about a request for consent that comes too early.
    pub too_early: TooEarly,
}

impl Mailstream {
    /// The name of mail that no mailstream fits.
    pub const UNMATCHED: &str = "unmatched";

    /// Mail that no mailstream fits: it may serve any purpose, anywhere, and keeps no request for a receipt.
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
            too_early: TooEarly::Strip,
        }
    }

    /// The declared jurisdiction.
    pub fn declared(&self) -> &str {
        self.jurisdiction.as_deref().unwrap_or(jurisdiction::UNKNOWN)
    }

    /// Whether it stands for mail that no mailstream fits.
    pub fn is_unmatched(&self) -> bool {
        &*self.name == Mailstream::UNMATCHED
    }
}
