//! One consent for several relays: the messages that all apply in one order, what carries them, and how a relay
//! knows that it has heard everything.
//!
//! Promised: a withdrawal that was acknowledged closes gates and strips mail at every relay within
//! `max_staleness`, because a relay that cannot prove it is fresh counts nothing as granted. A grant counts
//! only once a quorum has it on disk. What carries the messages is not believed: every gap, every message out
//! of order and every difference between two journals stops granting where it is noticed.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, clippy::panic))]

pub mod engine;
pub mod follower;
pub mod lease;
pub mod memory;
pub mod message;
pub mod nats;
pub mod node;
mod once;
mod outbox;
pub mod peer;
pub mod settings;
mod wanted;
pub mod week;

/// Returns how many things a relay that is stopped has not told the others yet.
///
/// # Errors
///
/// When its file cannot be read.
pub fn untold(directory: &std::path::Path, store: &consent::Store) -> std::io::Result<usize> {
    let path = directory.join(node::OUTBOX);
    if !path.exists() {
        return Ok(0);
    }
    outbox::Outbox::open(&path, &store.waiting()).map(|(outbox, _)| outbox.waiting())
}

use pixelward_core::fields;
use pixelward_store::{chain, consent};
