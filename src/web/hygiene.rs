//! Who still reads: the answer for a controller's own addresses, without anybody's opens (N11, N26, N31).

use std::path::Path;

use serde::Serialize;
use utoipa::ToSchema;

use crate::chain::ChainError;
use crate::consent::days::Day;
use crate::consent::{Pseudonym, Timestamp};
use crate::record::evidence::hygiene::signs;

/// Whether somebody still reads, as far as can be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Reading {
    /// Opened something on that day or later.
    Active,
    /// Got mail with a day pixel since, and opened none.
    Inactive,
    /// Nothing can be said: no mail with a day pixel was taken for this address.
    Unmeasured,
}

impl Reading {
    /// What the day of somebody's last open, and whether mail with a day pixel was taken for them, say about
    /// the time since `first`.
    fn of(last: Option<Day>, has_carried: bool, first: Day, measured_since: Option<Day>) -> Reading {
        let is_measured = measured_since.is_none_or(|since| since <= first);
        match (last, has_carried) {
            (Some(day), _) if day >= first => Reading::Active,
            (_, true) if is_measured => Reading::Inactive,
            (_, true | false) => Reading::Unmeasured,
        }
    }

    /// The name used in answers.
    pub const fn name(self) -> &'static str {
        match self {
            Reading::Active => "active",
            Reading::Inactive => "inactive",
            Reading::Unmeasured => "unmeasured",
        }
    }
}

/// What is known of one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Whether somebody reads there.
    pub reading: Reading,
    /// How many mails were rejected for good since.
    pub bounced: u64,
}

/// Somebody as evidence and days of last open know them.
#[derive(Debug)]
pub struct Somebody {
    /// What makes their tags; `None` of who was erased.
    pub pseudonym: Option<Pseudonym>,
    /// The day of their last open.
    pub last_open: Option<Day>,
}

/// What is known of people since a day, in their order. `measured_since` is the day before which days of last
/// open were lost, where some were: who has none since an earlier day may have opened something all the same.
///
/// # Errors
///
/// When the evidence cannot be read. What of it is damaged is logged and passed over.
pub fn known(
    evidence: &Path,
    controller: &str,
    since: Timestamp,
    people: Vec<Somebody>,
    measured_since: Option<Day>,
) -> Result<Vec<Known>, ChainError> {
    let first = Day::of(since);
    let (pseudonyms, last): (Vec<_>, Vec<_>) =
        people.into_iter().map(|person| (person.pseudonym, person.last_open)).unzip();
    let trouble = |error| tracing::warn!(%error, "part of the evidence cannot be read");
    let signs = signs(evidence, controller, since, &pseudonyms, trouble)?;
    let judged = last.into_iter().zip(signs).map(|(last, signs)| {
        let reading = Reading::of(last, signs.carried, first, measured_since);
        Known { reading, bounced: signs.bounced }
    });
    Ok(judged.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_inactive_for_days_that_were_lost() {
        let check = |last: Option<u16>, has_carried: bool, measured_since: Option<u16>| {
            Reading::of(last.map(Day), has_carried, Day(100), measured_since.map(Day))
        };
        assert_eq!(check(None, true, None), Reading::Inactive);
        assert_eq!(check(Some(99), true, Some(100)), Reading::Inactive);
        assert_eq!(check(None, true, Some(101)), Reading::Unmeasured);
        assert_eq!(check(Some(99), true, Some(101)), Reading::Unmeasured);
        assert_eq!(check(Some(100), true, Some(101)), Reading::Active);
        assert_eq!(check(None, false, None), Reading::Unmeasured);
    }
}
