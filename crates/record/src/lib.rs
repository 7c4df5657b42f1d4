//! What was done with each message, and the proof of it; who looked at whom; the log.
//!
//! Absent: addresses, content, secrets. A recipient is named by the keyed hash under which the store knows
//! them.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, clippy::panic))]

pub mod archive;
pub mod audit;
pub mod deployments;
pub mod digest;
pub mod evidence;
pub mod logging;
pub mod statistics;

use pixelward_config as config;
use pixelward_core::policy::Done;
use pixelward_core::rewrite::LinksDone;
use pixelward_core::{fields, message, policy, smtp};
use pixelward_store::{chain, consent};

/// What was done in the copy that the next hop took for a recipient; nothing where it took none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// What was done.
    pub done: Done,
    /// Why that is less than was decided.
    pub shortfall: Option<&'static str>,
    /// How many trackers were taken out of it.
    pub removed: usize,
    /// How many lead to an address of ours in it.
    pub swapped: usize,
    /// What became of its links that report who follows them.
    pub links: LinksDone,
}
