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

/// What is known of people since a day, in their order.
///
/// # Errors
///
/// When the evidence cannot be read. What of it is damaged is logged and passed over.
pub fn known(
    evidence: &Path,
    controller: &str,
    since: Timestamp,
    people: Vec<Somebody>,
) -> Result<Vec<Known>, ChainError> {
    let first = Day::of(since);
    let (pseudonyms, last): (Vec<_>, Vec<_>) =
        people.into_iter().map(|own| (own.pseudonym, own.last_open)).unzip();
    let trouble = |error| tracing::warn!(%error, "part of the evidence cannot be read");
    let signs = signs(evidence, controller, since, &pseudonyms, trouble)?;
    let judged = last.into_iter().zip(signs).map(|(last, signs)| {
        let reading = match (last, signs.carried) {
            (Some(day), _) if day >= first => Reading::Active,
            (_, true) => Reading::Inactive,
            (_, false) => Reading::Unmeasured,
        };
        Known { reading, bounced: signs.bounced }
    });
    Ok(judged.collect())
}
