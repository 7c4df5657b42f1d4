//! A person's choice as a service is told of it: one word for all purposes that it uses opens for.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::consent::{Permission, Standing, State, Timestamp};
use crate::policy::Purpose;

/// A choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Choice {
    /// All purposes are granted.
    Granted,
    /// The person said no to one of them, or must never be tracked.
    Refused,
    /// Neither: silence, or a grant that has expired. It is not consent.
    Unknown,
}

impl Choice {
    /// Returns the choice that holds at a time.
    pub(super) fn of(standing: &Standing, purposes: &[Purpose], now: Timestamp) -> Choice {
        let permissions = purposes.iter().map(|purpose| standing.allows(*purpose, now));
        let said_no = |permission: Permission| match permission {
            Permission::NotGranted(Some(state)) => state.is_no(),
            Permission::NotGranted(None) | Permission::Granted(_) => false,
        };
        if standing.no_track() || permissions.clone().any(said_no) {
            Choice::Refused
        } else if permissions.clone().count() > 0
            && permissions.clone().all(|permission| matches!(permission, Permission::Granted(_)))
        {
            Choice::Granted
        } else {
            Choice::Unknown
        }
    }

    /// Returns whether this is what a record says that only says this.
    pub(super) fn is_said_by(self, state: State) -> bool {
        match self {
            Choice::Granted => state == State::Granted,
            Choice::Refused => state.is_no(),
            Choice::Unknown => false,
        }
    }

    /// Returns the name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Choice::Granted => "granted",
            Choice::Refused => "refused",
            Choice::Unknown => "unknown",
        }
    }
}

/// A service's words for choices. Without one for silence, it is told of it as of a refusal.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Values {
    granted: Value,
    refused: Value,
    unknown: Option<Value>,
}

impl Values {
    /// Returns the word for a choice.
    pub(super) fn of(&self, choice: Choice) -> &Value {
        match choice {
            Choice::Granted => &self.granted,
            Choice::Refused => &self.refused,
            Choice::Unknown => self.unknown.as_ref().unwrap_or(&self.refused),
        }
    }

    /// Returns whether a word that was read back means this choice. Services differ in how they show truth values and
    /// letters.
    pub(super) fn means(&self, found: &Value, choice: Choice) -> bool {
        let plain = |value: &Value| match value {
            Value::String(text) => text.to_lowercase(),
            other => other.to_string(),
        };
        plain(found) == plain(self.of(choice))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consent::Change;
    use serde_json::json;

    const TWO: [Purpose; 2] = [Purpose::CampaignPerformance, Purpose::LinkTracking];

    fn said(changes: &[(&[Purpose], State, i64)]) -> Standing {
        let mut standing = Standing::unknown();
        for (number, (purposes, state, at)) in (1u64..).zip(changes) {
            let mut change = Change::new("shop".parse().unwrap(), purposes.to_vec(), *state, Timestamp(*at));
            change.expires = (*state == State::Granted).then_some(Timestamp(1000));
            let _ = standing.merge(&change, number, true);
        }
        standing
    }

    #[test]
    fn only_a_standing_grant_for_all_purposes_is_one() {
        let at = Timestamp(500);
        let (both, one) = (&TWO[..], &TWO[..1]);
        assert_eq!(Choice::of(&Standing::unknown(), both, at), Choice::Unknown);
        assert_eq!(Choice::of(&said(&[(one, State::Granted, 1)]), both, at), Choice::Unknown);
        let granted = said(&[(both, State::Granted, 1)]);
        assert_eq!(Choice::of(&granted, both, at), Choice::Granted);
        assert_eq!(Choice::of(&granted, both, Timestamp(1000)), Choice::Unknown, "expired");
        assert_eq!(Choice::of(&granted, &[], at), Choice::Unknown);
        let refused = said(&[(both, State::Granted, 1), (one, State::Withdrawn, 2)]);
        assert_eq!(Choice::of(&refused, both, at), Choice::Refused);
        assert_eq!(Choice::of(&refused, &TWO[1..], at), Choice::Granted);
    }

    #[test]
    fn silence_is_told_as_a_refusal_unless_the_service_has_a_word_for_it() {
        let values = |text: &str| toml::from_str::<Values>(text).unwrap();
        let two = values("granted = true\nrefused = false");
        assert_eq!(two.of(Choice::Unknown), &json!(false));
        let three = values("granted = \"y\"\nrefused = \"n\"\nunknown = \"u\"");
        assert_eq!(three.of(Choice::Unknown), &json!("u"));
        assert!(two.means(&json!("TRUE"), Choice::Granted) && !two.means(&Value::Null, Choice::Refused));
    }
}
