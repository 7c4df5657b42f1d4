//! What one relay does at a time, for as long as it says so now and then: leases, each with a number that all relays
//! know, which says how far the holder has come.
//!
//! No clock decides who holds a lease. Whoever wants it names the claim that it takes over from, and of two that name
//! the same one the first in the common order wins. The holder acts for a while after it has claimed; another waits
//! longer than that, by its own clock, after it has heard of that claim. So nobody acts beside the holder, however
//! the clocks of relays and servers differ.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::consent::ordered::{Leased, Name};
use crate::engine::Position;
use crate::follower::Moment;
use crate::message::{Lease, NodeId};

/// The most leases that are known. Beyond it, nobody holds a new one.
const MAX: usize = 4096;

/// The leases, in a file that is synced before anybody acts on it.
#[derive(Debug)]
pub(crate) struct Leases {
    path: PathBuf,
    known: BTreeMap<String, Known>,
    /// When each was last claimed, as far as this relay has heard since it started.
    heard: HashMap<String, Moment>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    /// The position of the claim that counts; 0 if it was in another order.
    term: Position,
    /// The relay that made it.
    holder: String,
    /// How far a holder has come.
    number: u64,
}

/// A lease, to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// What it is.
    pub name: Name,
    /// Who claimed it last; `None` if that was in an earlier order.
    pub holder: Option<NodeId>,
    /// How far a holder has come.
    pub number: u64,
}

impl Leases {
    pub(crate) fn open(path: &Path) -> io::Result<Leases> {
        let known = match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::other)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        Ok(Leases { path: path.to_owned(), known, heard: HashMap::new() })
    }

    /// Takes a claim from a position of the common order, durably; returns whether the relay holds the lease by it.
    /// One that was taken before changes nothing.
    pub(crate) fn take(
        &mut self,
        node: NodeId,
        position: Position,
        lease: &Lease,
        now: Moment,
    ) -> io::Result<bool> {
        let (name, node) = (hex::encode(lease.name), hex::encode(node));
        let before = self.known.get(&name);
        if let Some(known) = before.filter(|known| known.term >= position) {
            return Ok(known.term == position && known.holder == node);
        }
        let holds = match before {
            Some(known) => known.holder == node || known.term == lease.term,
            None => lease.term == 0 && self.known.len() < MAX,
        };
        // How far somebody came counts even if the lease was lost meanwhile.
        let number = before.map_or(0, |known| known.number).max(lease.number);
        let after = match (holds, before) {
            (true, _) => Known { term: position, holder: node, number },
            (false, Some(known)) => Known { number, ..known.clone() },
            (false, None) => return Ok(false),
        };
        if before != Some(&after) {
            let mut all = self.known.clone();
            all.insert(name.clone(), after);
            pixelward_files::replace(&self.path, &serde_json::to_vec(&all).map_err(io::Error::other)?)?;
            self.known = all;
        }
        if holds {
            self.heard.insert(name, now);
        }
        Ok(holds)
    }

    /// Returns how a lease stands for a relay.
    pub(crate) fn of(&self, name: &Name, node: NodeId, now: Moment) -> Leased {
        let name = hex::encode(name);
        let since = now.saturating_sub(self.heard.get(&name).copied().unwrap_or(0));
        let since = Duration::from_millis(since);
        match self.known.get(&name) {
            Some(known) => Leased {
                term: known.term,
                is_here: known.holder == hex::encode(node),
                number: known.number,
                since,
            },
            None => Leased { term: 0, is_here: false, number: 0, since },
        }
    }

    pub(crate) fn all(&self) -> Vec<Held> {
        let node = |text: &str| hex::decode(text).ok()?.try_into().ok();
        let held = |(name, known): (&String, &Known)| {
            let holder = if known.term > 0 { node(&known.holder) } else { None };
            Some(Held { name: node(name)?, holder, number: known.number })
        };
        self.known.iter().filter_map(held).collect()
    }
}

/// Notes in a relay's file that the common order begins anew: how far holders came stays known, and nobody holds
/// anything.
///
/// # Errors
///
/// When the file cannot be read or written.
pub fn begin_anew(path: &Path) -> io::Result<()> {
    let mut leases = Leases::open(path)?;
    if leases.known.is_empty() {
        return Ok(());
    }
    leases.known.values_mut().for_each(|known| (known.term, known.holder) = (0, String::new()));
    let bytes = serde_json::to_vec(&leases.known).map_err(io::Error::other)?;
    pixelward_files::replace(path, &bytes).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: Name = [9; 16];
    const ONE: NodeId = [1; 16];
    const TWO: NodeId = [2; 16];

    fn claim(term: Position, number: u64) -> Lease {
        Lease { name: NAME, term, number }
    }

    #[test]
    fn of_two_that_take_over_from_the_same_claim_the_first_in_the_order_holds() {
        let folder = tempfile::tempdir().unwrap();
        let mut leases = Leases::open(&folder.path().join("leases.json")).unwrap();
        assert!(leases.take(ONE, 10, &claim(0, 3), 0).unwrap());
        assert!(!leases.take(TWO, 11, &claim(0, 0), 0).unwrap());
        assert!(leases.take(ONE, 12, &claim(10, 7), 40).unwrap(), "it goes on");
        assert!(!leases.take(TWO, 13, &claim(10, 0), 50).unwrap(), "it had gone on before");
        let standing = Leased { term: 12, is_here: false, number: 7, since: Duration::from_millis(60) };
        assert_eq!(leases.of(&NAME, TWO, 100), standing);
        assert!(leases.take(TWO, 14, &claim(12, 7), 0).unwrap());
        // What the first one had done is known, though it holds nothing any more.
        assert!(!leases.take(ONE, 15, &claim(12, 9), 0).unwrap());
        assert_eq!(
            leases.of(&NAME, TWO, 0),
            Leased { term: 14, is_here: true, number: 9, since: Duration::ZERO }
        );
    }

    #[test]
    fn what_comes_again_after_a_restart_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leases.json");
        let mut leases = Leases::open(&path).unwrap();
        assert!(leases.take(ONE, 10, &claim(0, 3), 0).unwrap());
        assert!(leases.take(TWO, 20, &claim(10, 3), 0).unwrap());
        drop(leases);
        let mut leases = Leases::open(&path).unwrap();
        assert!(!leases.take(ONE, 10, &claim(0, 3), 0).unwrap());
        assert!(leases.take(TWO, 20, &claim(10, 3), 0).unwrap());
        assert!(leases.of(&NAME, TWO, 0).is_here);
        begin_anew(&path).unwrap();
        let mut leases = Leases::open(&path).unwrap();
        assert_eq!(leases.all(), [Held { name: NAME, holder: None, number: 3 }]);
        assert!(leases.take(ONE, 2, &claim(0, 0), 0).unwrap());
        assert_eq!(leases.of(&NAME, ONE, 0).number, 3);
    }
}
