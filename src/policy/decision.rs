//! What is decided for one recipient, and why.

use super::Outcome;
use super::purpose::Purpose;
use crate::config::OnGrant;
use crate::consent::{Permission, Standing, Timestamp};

/// Why it was decided so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The person agreed to every purpose.
    Granted,
    /// The person agreed, and the configuration strips all the same.
    GrantStripped,
    /// At least one purpose lacks a standing grant (N8).
    NoConsent,
    /// The store could not be asked; nothing counts as granted then (N8).
    StoreUnreachable,
}

impl Rule {
    /// The name used in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Rule::Granted => "granted",
            Rule::GrantStripped => "granted_but_on_grant_is_strip",
            Rule::NoConsent => "no_consent",
            Rule::StoreUnreachable => "store_unreachable",
        }
    }
}

/// An outcome with its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What happens to trackers in this recipient's copy.
    pub outcome: Outcome,
    /// Why.
    pub rule: Rule,
    /// The journal's number of the newest grant that led there.
    pub record: Option<u64>,
}

/// Decides for one recipient. A pixel may serve any of the purposes that need consent, so it needs a standing grant of all of them
/// (N9, N16); `standing` is `None` where the store could not be asked.
pub fn decide(standing: Option<&Standing>, on_grant: OnGrant, now: Timestamp) -> Decision {
    let strip = |rule| Decision { outcome: Outcome::Strip, rule, record: None };
    let Some(standing) = standing else { return strip(Rule::StoreUnreachable) };
    let mut newest = None;
    for purpose in Purpose::CONSENT {
        match standing.allows(purpose, now) {
            Permission::Granted(record) => newest = newest.max(Some(record)),
            Permission::NotGranted(_) => return strip(Rule::NoConsent),
        }
    }
    match on_grant {
        OnGrant::Keep => Decision { outcome: Outcome::Keep, rule: Rule::Granted, record: newest },
        OnGrant::Strip => Decision { record: newest, ..strip(Rule::GrantStripped) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consent::{Change, State};

    fn check(said: &[(Purpose, State)], on_grant: OnGrant) -> (Outcome, Rule) {
        let mut standing = Standing::unknown();
        for (purpose, state) in said {
            let change = Change::new("shop".parse().unwrap(), vec![*purpose], *state, Timestamp(1));
            standing.merge(&change, 1, true);
        }
        let decision = decide(Some(&standing), on_grant, Timestamp(2));
        (decision.outcome, decision.rule)
    }

    #[test]
    fn silence_is_not_consent() {
        assert_eq!(check(&[], OnGrant::Keep), (Outcome::Strip, Rule::NoConsent));
        assert_eq!(decide(None, OnGrant::Keep, Timestamp(2)).rule, Rule::StoreUnreachable);
        assert_eq!(decide(None, OnGrant::Keep, Timestamp(2)).outcome, Outcome::Strip);
    }

    #[test]
    fn every_purpose_must_be_granted() {
        let all = Purpose::CONSENT.map(|purpose| (purpose, State::Granted));
        assert_eq!(check(&all, OnGrant::Keep), (Outcome::Keep, Rule::Granted));
        assert_eq!(check(&all, OnGrant::Strip), (Outcome::Strip, Rule::GrantStripped));
        for missing in 0..all.len() {
            for state in [State::NeverAsked, State::Asked, State::Refused, State::Withdrawn, State::Objected]
            {
                let mut said = all;
                said[missing].1 = state;
                assert_eq!(check(&said, OnGrant::Keep), (Outcome::Strip, Rule::NoConsent));
            }
        }
    }
}
