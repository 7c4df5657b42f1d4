//! Daily maintenance of the store: people about whom nothing was heard for long are erased, and everything is
//! verified.

use std::time::Duration;

use super::store::{Store, StoreError, Verified};
use super::{Controller, Day, Timestamp};

const A_DAY: Duration = Duration::from_secs(24 * 3600);

/// How long a controller keeps records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The controller.
    pub controller: Controller,
    /// The number of days; 0 for ever.
    pub days: u16,
}

/// Runs the maintenance. Returns how many people were erased, and the result of the verification.
///
/// # Errors
///
/// When the store cannot be read or written, or is damaged.
pub fn once(store: &Store, retentions: &[Retention], now: Timestamp) -> Result<(u64, Verified), StoreError> {
    let mut erased = 0;
    // One relay of several does it for all.
    let day = Day::of(now).0.to_le_bytes();
    let is_ours = store.once(&[b"upkeep", &day], A_DAY)?;
    for retention in retentions.iter().filter(|retention| is_ours && retention.days > 0) {
        let before = now.plus_days(-i64::from(retention.days));
        loop {
            let some = store.expire(&retention.controller, before, now)?;
            erased += some;
            if some == 0 {
                break;
            }
        }
    }
    Ok((erased, store.verify()?))
}
