//! Erases people about whom nothing has been heard for as long as a controller keeps records.

use super::{Store, StoreError, io_error};
use crate::consent::index::{Index, Indexed, key};
use crate::consent::ordered::{Expired, Said};
use crate::consent::{Controller, Permission, Timestamp};

/// The maximum number of people erased at once.
const MOST: usize = 10_000;

impl Store {
    /// Erases people about whom this controller has recorded nothing since `before`: those without a standing
    /// grant and without `no_track`, who may be asked again, and whom no other controller knows. Returns how
    /// many, at most 10,000.
    ///
    /// # Errors
    ///
    /// When the index cannot be read, or the erasure cannot be recorded.
    pub fn expire(
        &self,
        controller: &Controller,
        before: Timestamp,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        self.settle()?;
        let start = key(controller.as_str(), &[0; 16]);
        let prefix = start.get(..=controller.as_str().len()).unwrap_or_default();
        let mut expired = Vec::new();
        for pair in self.shared.index.all() {
            let (key, indexed) = pair.map_err(io_error("the index"))?;
            if !key.starts_with(prefix) || !is_over(&indexed, before, now) {
                continue;
            }
            let Some(id) = key.last_chunk::<16>().copied() else { continue };
            if self.shared.index.keys_of(&id).map_err(io_error("the index"))?.len() == 1 {
                expired.push(Expired { id, newest: indexed.trail.newest(), key });
            }
            if expired.len() >= MOST {
                break;
            }
        }
        if expired.is_empty() { Ok(0) } else { self.request(|ack| Said::Expire(expired, ack)) }
    }
}

fn is_over(indexed: &Indexed, before: Timestamp, now: Timestamp) -> bool {
    let standing = &indexed.standing;
    let is_old = |at: Timestamp| at < before;
    !standing.no_track()
        && standing.do_not_ask_before.is_none_or(|end| end <= now)
        && standing.all().all(|(purpose, stand)| {
            is_old(stand.event_at) && !matches!(standing.allows(purpose, now), Permission::Granted(_))
        })
}
