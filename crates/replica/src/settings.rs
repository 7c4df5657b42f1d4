//! What a relay of a cluster is told.

use std::path::PathBuf;
use std::time::Duration;

use crate::consent::Timestamp;
use crate::message::NodeId;

/// The settings of the replica.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This relay.
    pub node: NodeId,
    /// The folder of its files: the keys of the weeks, and what the others were not told yet.
    pub directory: PathBuf,
    /// How old the newest thing that was heard may be before grants no longer count.
    pub max_staleness: Duration,
    /// How long whoever said something waits for the other relays.
    pub patience: Duration,
    /// Where other relays reach this one, as `host:port`; empty if nowhere.
    pub address: String,
    /// The clock.
    pub clock: fn() -> Timestamp,
}

impl Settings {
    /// Returns the settings with the defaults of `config.reference.toml`.
    pub fn new(node: NodeId, directory: impl Into<PathBuf>) -> Settings {
        Settings {
            node,
            directory: directory.into(),
            max_staleness: Duration::from_secs(60),
            patience: Duration::from_secs(5),
            address: String::new(),
            clock: Timestamp::now,
        }
    }
}
