//! What the store needs once a day: people of whom nothing was heard for long are erased, and everything is looked through.

use super::store::{Store, StoreError, Verified};
use super::{Controller, Timestamp};

/// How long a controller keeps records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Whose records.
    pub controller: Controller,
    /// For how many days; for ever where that is 0.
    pub days: u16,
}

/// Does it. Says how many people were erased, and what the look found.
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
