//! The keys of the weeks: who makes them, and how all others get them.
//!
//! From the middle of a week on, each relay that lacks the next week's key says in the common order that it will
//! make it. The first to say so makes it, and all others fetch it from there or from whoever has it by then. So a
//! key is known everywhere days before it is needed, and never passes through the engine.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Inner, locked};
use crate::consent::{StoreError, Timestamp};
use crate::message::{Body, Claim, NodeId, fresh_id};
use crate::peer;
use crate::week::{Week, is_second_half, week_of};

/// How often a relay looks whether a key is missing or its time is over.
const LOOKS: Duration = Duration::from_secs(60);
/// How long a pause is after a key could not be had.
const AGAIN: Duration = Duration::from_secs(2);

/// Where other relays are, and who makes which key. Both were said in the common order, which is not read again
/// after a restart.
#[derive(Debug)]
pub(super) struct Others {
    path: PathBuf,
    known: Known,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    /// Addresses by relay.
    addresses: BTreeMap<String, String>,
    /// The first claim to each week's key: the relay.
    claims: BTreeMap<Week, String>,
}

impl Others {
    pub(super) fn open(path: &Path) -> io::Result<Others> {
        let known = match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::other)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Known::default(),
            Err(error) => return Err(error),
        };
        Ok(Others { path: path.to_owned(), known })
    }

    /// Returns the relays that were heard of, with their addresses.
    pub(super) fn all(&self) -> Vec<(NodeId, String)> {
        let known = self.known.addresses.iter();
        known.filter_map(|(node, at)| Some((hex::decode(node).ok()?.try_into().ok()?, at.clone()))).collect()
    }

    fn change(&mut self, change: impl FnOnce(&mut Known)) -> io::Result<()> {
        let mut changed = self.known.clone();
        change(&mut changed);
        if changed != self.known {
            let bytes = serde_json::to_vec(&changed).map_err(io::Error::other)?;
            pixelward_files::replace(&self.path, &bytes)?;
            self.known = changed;
        }
        Ok(())
    }
}

impl Inner {
    /// Notes where another relay is.
    pub(super) fn met(&self, node: NodeId, address: &str) {
        if node == self.settings.node || address.is_empty() {
            return;
        }
        let noted = locked(&self.others).change(|known| {
            known.addresses.insert(hex::encode(node), address.to_owned());
        });
        if let Err(error) = noted {
            tracing::warn!(%error, "where another relay is could not be noted");
        }
    }

    /// Forgets a relay that is gone. If it speaks again, it is there again.
    pub(super) fn forget(&self, node: NodeId) -> Result<(), StoreError> {
        locked(&self.marks).forget(node);
        let noted = locked(&self.others).change(|known| drop(known.addresses.remove(&hex::encode(node))));
        noted.map_err(|source| StoreError::Io { what: "where other relays are".to_owned(), source })
    }

    /// Notes a claim, durably: the first one for a week counts.
    pub(super) fn claimed(&self, node: NodeId, claim: &Claim) -> Result<(), StoreError> {
        let current = week_of((self.settings.clock)());
        let noted = locked(&self.others).change(|known| {
            known.claims.retain(|week, _| *week >= current);
            known.claims.entry(claim.week).or_insert_with(|| hex::encode(node));
        });
        self.claimed.notify_one();
        noted.map_err(|source| StoreError::Io { what: "who makes the key of a week".to_owned(), source })
    }

    /// Looks after the keys for as long as the relay runs.
    pub(super) async fn keep_keys(&self) {
        loop {
            let now = (self.settings.clock)();
            match self.weeks.destroy(now) {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, "keys of past weeks were destroyed"),
                Err(error) => tracing::error!(%error, "keys of past weeks could not be destroyed"),
            }
            let pause = if self.have_keys(now).await { LOOKS } else { AGAIN };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.claimed.notified() => {}
            }
        }
    }

    /// Gets the keys that are needed soon; returns whether all are here.
    async fn have_keys(&self, now: Timestamp) -> bool {
        let current = week_of(now);
        let mut has_all = self.has_key(current).await;
        if is_second_half(now) {
            has_all &= self.has_key(current + 1).await;
        }
        metrics::gauge!("pixelward_cluster_keys").set(f64::from(u8::from(has_all)));
        has_all
    }

    async fn has_key(&self, week: Week) -> bool {
        if self.weeks.sealer(week).is_some() {
            return true;
        }
        let maker = locked(&self.others).known.claims.get(&week).cloned();
        match maker {
            Some(maker) if maker == hex::encode(self.settings.node) => {
                let made = self.weeks.make(week);
                made.inspect_err(|error| tracing::error!(%error, "the key of a week could not be made"))
                    .is_ok()
            }
            maker => {
                if maker.is_none() && week > week_of((self.settings.clock)()) {
                    self.claim(week).await;
                }
                self.fetch(week, maker.as_deref()).await
            }
        }
    }

    async fn claim(&self, week: Week) {
        let Ok(id) = fresh_id() else { return };
        let claim = Claim { week, address: self.settings.address.clone() };
        self.wanted.note_only(id, self.now());
        if let Err(error) = self.publish(id, Body::Claim(claim)).await {
            tracing::debug!(%error, "a claim could not be published");
        }
    }

    /// Asks other relays for the keys they have, first the one that makes this one.
    async fn fetch(&self, week: Week, maker: Option<&str>) -> bool {
        let Some(identity) = &self.identity else { return false };
        let addresses = locked(&self.others).known.addresses.clone();
        let first = maker.and_then(|maker| addresses.get(maker));
        for address in first.into_iter().chain(addresses.values()) {
            match peer::weeks(address, identity).await {
                Ok(keys) => {
                    if let Err(error) = self.weeks.take(&keys) {
                        tracing::error!(%error, "keys of weeks could not be kept");
                    }
                    if self.weeks.sealer(week).is_some() {
                        return true;
                    }
                }
                Err(error) => tracing::debug!(%error, "another relay did not give its keys"),
            }
        }
        tracing::warn!(week, "no relay has the key of this week yet");
        false
    }
}
