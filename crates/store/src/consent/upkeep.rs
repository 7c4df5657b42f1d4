//! Daily maintenance of the store: people about whom nothing was heard for long are erased, and everything is
//! verified.

use super::store::{Store, StoreError, Verified};
use super::{Controller, Timestamp};

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
    for retention in retentions.iter().filter(|retention| retention.days > 0) {
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
