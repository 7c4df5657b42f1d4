//! The pages, one file each.

pub(super) mod account;
pub(super) mod audit;
pub(super) mod delivery;
pub(super) mod messages;
pub(super) mod overview;
pub(super) mod person;
pub(super) mod preference_page;
pub(super) mod report;
pub(super) mod streams;
pub(super) mod trackers;
pub(super) mod what_if;

use crate::consent::Timestamp;

/// A moment as people read it, in UTC.
pub(super) fn moment(at: Timestamp) -> String {
    readable(&at.to_string())
}

/// A time of RFC 3339 as people read it, to the second.
pub(super) fn readable(time: &str) -> String {
    let whole = time.split('.').next().unwrap_or(time).trim_end_matches('Z');
    match whole.split_once('T') {
        Some((day, clock)) => format!("{day} {clock} UTC"),
        None => whole.to_owned(),
    }
}

/// The moment of a time of RFC 3339.
pub(super) fn moment_of(time: &str) -> Option<Timestamp> {
    Timestamp::parse(time).ok()
}
