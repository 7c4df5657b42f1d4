//! Purposes: why an open, or a click on a link, is read. Consent is requested and given per purpose (N9, N16).

use std::fmt;
use std::str::FromStr;

/// A use of reports about opens, or about links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Purpose {
    /// Open rates that measure or optimise campaigns (N9.1). Needs consent.
    CampaignPerformance = 1,
    /// Personalisation, engagement scores, segments (N9.2). Needs consent.
    Personalisation = 2,
    /// Profiles used outside of mail (N9.3). Needs consent.
    CrossChannelProfile = 3,
    /// Detection of suspected fraud (N9.4). Needs consent.
    FraudDetection = 4,
    /// Stopping mail to inactive people, by date of last open (N11). Exempt under conditions.
    Deliverability = 5,
    /// Securing the authentication of a user (N10). Exempt for declared templates.
    AuthSecurity = 6,
    /// Proof that a legally required notice was opened (N13). Exempt where the jurisdiction says so.
    LegalNotice = 7,
    /// Anonymous counts through one shared address (N14). Exempt where the jurisdiction says so.
    AggregateStatistics = 8,
    /// Reading who followed which link (N3). Needs consent, apart from that for opens.
    LinkTracking = 9,
}

impl Purpose {
    /// All purposes, in the order of their numbers.
    pub const ALL: [Purpose; 9] = [
        Purpose::CampaignPerformance,
        Purpose::Personalisation,
        Purpose::CrossChannelProfile,
        Purpose::FraudDetection,
        Purpose::Deliverability,
        Purpose::AuthSecurity,
        Purpose::LegalNotice,
        Purpose::AggregateStatistics,
        Purpose::LinkTracking,
    ];

    /// The purposes for which only a person's consent allows a read (N3, N9).
    pub const CONSENT: [Purpose; 5] = [
        Purpose::CampaignPerformance,
        Purpose::Personalisation,
        Purpose::CrossChannelProfile,
        Purpose::FraudDetection,
        Purpose::LinkTracking,
    ];

    /// Those of them that are about opens.
    pub const CONSENT_TO_OPENS: [Purpose; 4] = [
        Purpose::CampaignPerformance,
        Purpose::Personalisation,
        Purpose::CrossChannelProfile,
        Purpose::FraudDetection,
    ];

    /// Returns the name used in configuration, records and interfaces.
    pub const fn name(self) -> &'static str {
        match self {
            Purpose::CampaignPerformance => "campaign_performance",
            Purpose::Personalisation => "personalisation",
            Purpose::CrossChannelProfile => "cross_channel_profile",
            Purpose::FraudDetection => "fraud_detection",
            Purpose::Deliverability => "deliverability",
            Purpose::AuthSecurity => "auth_security",
            Purpose::LegalNotice => "legal_notice",
            Purpose::AggregateStatistics => "aggregate_statistics",
            Purpose::LinkTracking => "link_tracking",
        }
    }

    /// Returns whether it is about opens, not about links.
    pub const fn is_about_opens(self) -> bool {
        !matches!(self, Purpose::LinkTracking)
    }

    /// Returns the number stored in records. Never reused for another meaning.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Returns the purpose with this stored number.
    pub fn from_number(number: u8) -> Option<Purpose> {
        Purpose::ALL.into_iter().find(|purpose| purpose.number() == number)
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Purpose {
    type Err = UnknownPurpose;

    fn from_str(name: &str) -> Result<Purpose, UnknownPurpose> {
        Purpose::ALL
            .into_iter()
            .find(|purpose| purpose.name() == name)
            .ok_or_else(|| UnknownPurpose(name.to_owned()))
    }
}

/// An unknown purpose name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown purpose {0:?}: use campaign_performance, personalisation, cross_channel_profile, \
     fraud_detection, link_tracking, deliverability, auth_security, legal_notice or aggregate_statistics"
)]
pub struct UnknownPurpose(pub String);
