//! Who still reads: answers for a controller's own addresses without revealing anybody's opens (N11, N26,
//! N31).

use std::path::Path;

use serde::Serialize;
use utoipa::ToSchema;

use crate::chain::ChainError;
use crate::consent::days::Day;
use crate::consent::{Pseudonym, Timestamp};
use crate::record::evidence::hygiene::signs;

/// Whether a person still reads, as far as can be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Reading {
    /// Opened something on that day or later.
    Active,
    /// Received mail with a day pixel since then, and opened none.
    Inactive,
    /// Unknown: no mail with a day pixel was delivered to this address.
    Unmeasured,
}

impl Reading {
    /// Derives a reading for the time since `first` from the day of the last open and from whether mail with
    /// a day pixel was delivered.
    fn of(last: Option<Day>, has_carried: bool, first: Day, measured_since: Option<Day>) -> Reading {
        let is_measured = measured_since.is_none_or(|since| since <= first);
        match (last, has_carried) {
            (Some(day), _) if day >= first => Reading::Active,
            (_, true) if is_measured => Reading::Inactive,
            (_, true | false) => Reading::Unmeasured,
        }
    }

    /// Returns the name used in responses.
    pub const fn name(self) -> &'static str {
        match self {
            Reading::Active => "active",
            Reading::Inactive => "inactive",
            Reading::Unmeasured => "unmeasured",
        }
    }
}

/// The reading of one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Whether somebody reads there.
    pub reading: Reading,
    /// The number of messages rejected permanently since then.
    pub bounced: u64,
}

/// A person as audit records and days of last open know them.
#[derive(Debug)]
pub struct Somebody {
    /// The source of their tags; `None` for an erased person.
    pub pseudonym: Option<Pseudonym>,
    /// The day of their last open.
    pub last_open: Option<Day>,
}

/// Returns readings of people since a day, in order. `measured_since` is the day before which days of last
/// open were lost, if any were: a person with none since an earlier day may have opened something after all.
///
/// # Errors
///
/// When the audit records cannot be read. Damaged parts are logged and skipped.
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
    let trouble = |error| tracing::warn!(%error, "some audit records cannot be read");
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
