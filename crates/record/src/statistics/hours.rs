//! Counts by hour for the last two days, beside those by day.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{MAX_ROWS, OTHER};
use crate::evidence::record::Record;

/// A kind of recipients in one hour.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HourKind {
    /// The hour of the day (UTC).
    pub hour: u8,
    /// The controller.
    pub controller: String,
    /// What was done.
    pub done: String,
    /// The result of the delivery.
    pub result: String,
}

/// The counts of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Recipients.
    pub recipients: u64,
    /// Trackers, once per recipient.
    pub trackers: u64,
}

/// A kind and its count, as in a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Row {
    #[serde(flatten)]
    pub(super) kind: HourKind,
    #[serde(flatten)]
    pub(super) count: Count,
}

/// The counts of a day by hour.
pub type Hours = BTreeMap<HourKind, Count>;

/// Adds a record.
pub(super) fn take(hours: &mut Hours, record: &Record<'_>) {
    let mut kind = HourKind {
        hour: u8::try_from(record.at.div_euclid(3_600_000).rem_euclid(24)).unwrap_or_default(),
        controller: record.controller.to_string(),
        done: record.done.to_string(),
        result: record.result.to_string(),
    };
    if hours.len() >= MAX_ROWS && !hours.contains_key(&kind) {
        kind.controller = OTHER.to_owned();
    }
    let hour = hours.entry(kind).or_default();
    hour.recipients += 1;
    hour.trackers += record.sightings.iter().map(|sighting| sighting.count).sum::<u64>();
}
