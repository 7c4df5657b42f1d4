//! Uses of an open that may need no consent. Each leads to an outcome that cannot do more than the exemption
//! covers.

use super::{Outcome, Purpose};

/// An exemption from consent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exemption {
    /// The day of the last open, to stop mail to inactive people (N11).
    Deliverability = 1,
    /// Securing the authentication of a user (N10).
    AuthSecurity = 2,
    /// Proof that a legally required notice was opened (N13).
    LegalNotice = 4,
    /// Counts through one address for everybody (N14).
    AggregateStatistics = 8,
    /// Addresses collected before the recommendation, whose people were informed in time and did not object
    /// (N29).
    LegacyInformed = 16,
}

impl Exemption {
    /// All exemptions.
    pub const ALL: [Exemption; 5] = [
        Exemption::Deliverability,
        Exemption::AuthSecurity,
        Exemption::LegalNotice,
        Exemption::AggregateStatistics,
        Exemption::LegacyInformed,
    ];

    /// Returns the name used in the configuration, logs and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Exemption::Deliverability => "deliverability",
            Exemption::AuthSecurity => "auth_security",
            Exemption::LegalNotice => "legal_notice",
            Exemption::AggregateStatistics => "aggregate_statistics",
            Exemption::LegacyInformed => "legacy_informed",
        }
    }

    /// Returns the name of the jurisdiction's flag that allows it.
    pub const fn flag(self) -> &'static str {
        match self {
            Exemption::Deliverability => "last_open_day",
            Exemption::AuthSecurity => "auth_security",
            Exemption::LegalNotice => "legal_notice",
            Exemption::AggregateStatistics => "shared_pixel",
            Exemption::LegacyInformed => "legacy_informed",
        }
    }

    /// Returns the outcome it leads to, which does nothing more than it covers.
    pub const fn outcome(self) -> Outcome {
        match self {
            Exemption::Deliverability => Outcome::SwapDay,
            Exemption::AuthSecurity | Exemption::LegalNotice => Outcome::Keep,
            Exemption::AggregateStatistics => Outcome::SwapShared,
            Exemption::LegacyInformed => Outcome::SwapGated,
        }
    }

    /// Returns whether it can replace consent to this purpose. The transition of N29 covers every purpose
    /// of opens that needs consent; each of the others covers its own.
    pub fn covers(self, purpose: Purpose) -> bool {
        match self {
            Exemption::Deliverability => purpose == Purpose::Deliverability,
            Exemption::AuthSecurity => purpose == Purpose::AuthSecurity,
            Exemption::LegalNotice => purpose == Purpose::LegalNotice,
            Exemption::AggregateStatistics => purpose == Purpose::AggregateStatistics,
            Exemption::LegacyInformed => Purpose::CONSENT_TO_OPENS.contains(&purpose),
        }
    }

    /// Returns whether it applies only to one kind of mail, never to all that a domain or login sends (N10,
    /// N13).
    pub const fn needs_template(self) -> bool {
        matches!(self, Exemption::AuthSecurity | Exemption::LegalNotice)
    }
}

/// A set of exemptions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exemptions(u8);

impl Exemptions {
    /// None of them.
    pub const NONE: Exemptions = Exemptions(0);
    /// All of them.
    pub const ALL: Exemptions = Exemptions(31);

    /// Returns this set with one more.
    #[must_use]
    pub const fn with(self, exemption: Exemption) -> Exemptions {
        Exemptions(self.0 | exemption as u8)
    }

    /// Returns whether it is in the set.
    pub const fn has(self, exemption: Exemption) -> bool {
        self.0 & exemption as u8 != 0
    }

    /// Returns the intersection.
    #[must_use]
    pub const fn common(self, other: Exemptions) -> Exemptions {
        Exemptions(self.0 & other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_in() {
        let all = Exemption::ALL.into_iter().fold(Exemptions::NONE, Exemptions::with);
        assert_eq!(all, Exemptions::ALL);
        for exemption in Exemption::ALL {
            let one = Exemptions::NONE.with(exemption);
            for other in Exemption::ALL {
                assert_eq!(one.has(other), exemption == other);
            }
            assert_eq!(all.common(one), one);
        }
    }

    #[test]
    fn only_the_transition_stands_in_for_a_purpose_that_needs_consent() {
        for exemption in Exemption::ALL {
            assert!(!exemption.covers(Purpose::LinkTracking), "exemptions are about opens");
            for purpose in Purpose::CONSENT_TO_OPENS {
                assert_eq!(exemption.covers(purpose), exemption == Exemption::LegacyInformed);
            }
            let others = Purpose::ALL.into_iter().filter(|purpose| !Purpose::CONSENT.contains(purpose));
            assert_eq!(
                others.filter(|purpose| exemption.covers(*purpose)).count(),
                usize::from(exemption != Exemption::LegacyInformed)
            );
        }
    }
}
