//! What is known of the other relays: when each was heard last, and whether it goes by the same rules.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Inner, locked, own_mark};
use crate::follower::Moment;
use crate::message::NodeId;
use crate::peer::{self, CONNECTS, PeerError};

/// How long relays may go by different rules: a change of the configuration reaches one after another. In
/// milliseconds.
const GRACE: Moment = 5 * 60 * 1000;
/// How long a relay that has been silent may take to accept a connection: nobody waits long for one that is probably
/// gone, and it is heard as soon as it is back.
const SILENT_CONNECTS: Duration = Duration::from_millis(500);

/// A fingerprint of the rules that a relay goes by; all zero where it has not said so.
pub type Rules = [u8; 16];

/// Another relay, as far as this one knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// The relay.
    pub node: NodeId,
    /// Where it is reached, as `host:port`.
    pub address: String,
    /// How long ago it said where it stands, in seconds; `None` if it has not since this relay started.
    pub heard: Option<u64>,
    /// How many records its journal had then.
    pub records: Option<u64>,
    /// Whether it goes by other rules than this relay.
    pub has_other_rules: bool,
    /// Whether it missed two of its marks, or accepted no connection in time since it was heard last.
    pub is_silent: bool,
}

/// What the relays said of themselves since this one started.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// The rules of this relay.
    ours: Rules,
    heard: BTreeMap<NodeId, Heard>,
    /// Those that accepted no connection in time since they were heard last.
    silent: BTreeSet<NodeId>,
}

#[derive(Clone, Copy, Debug)]
struct Heard {
    at: Moment,
    rules: Rules,
    records: u64,
    /// Since when its rules differ from ours, and whether that was said.
    differs: Option<(Moment, bool)>,
}

impl Marks {
    /// Notes the rules of this relay.
    pub(super) fn declare(&mut self, rules: Rules) {
        self.ours = rules;
    }

    pub(super) fn ours(&self) -> Rules {
        self.ours
    }

    /// Notes where another relay stands; returns whether its rules have differed for so long that somebody must be
    /// told, once.
    fn note(&mut self, node: NodeId, rules: Rules, records: u64, now: Moment) -> bool {
        let differ = rules != self.ours && rules != Rules::default() && self.ours != Rules::default();
        let before = self.heard.get(&node).and_then(|heard| heard.differs);
        let mut differs = differ.then(|| before.unwrap_or((now, false)));
        let is_news =
            differs.is_some_and(|(since, was_said)| !was_said && now.saturating_sub(since) >= GRACE);
        if let (Some((_, was_said)), true) = (&mut differs, is_news) {
            *was_said = true;
        }
        self.heard.insert(node, Heard { at: now, rules, records, differs });
        self.silent.remove(&node);
        is_news
    }

    pub(super) fn forget(&mut self, node: NodeId) {
        self.heard.remove(&node);
        self.silent.remove(&node);
    }

    /// Notes whether a relay that was asked accepted the connection.
    fn reached(&mut self, node: NodeId, was_reached: bool) {
        if was_reached {
            self.silent.remove(&node);
        } else {
            self.silent.insert(node);
        }
    }

    /// Returns whether a relay is probably gone: it missed two marks, by how often relays publish one, or accepted
    /// no connection in time since the last.
    fn is_silent(&self, node: &NodeId, now: Moment, own_mark: Moment) -> bool {
        let heard = self.heard.get(node).map_or(0, |heard| heard.at);
        self.silent.contains(node) || now.saturating_sub(heard) > own_mark.saturating_mul(2)
    }

    fn differing(&self) -> usize {
        self.heard.values().filter(|heard| heard.differs.is_some_and(|(_, was_said)| was_said)).count()
    }
}

impl Inner {
    /// Notes the rules and the number of records of another relay.
    pub(super) fn hear_rules(&self, node: NodeId, rules: Rules, records: u64) {
        if node == self.settings.node {
            return;
        }
        let mut marks = locked(&self.marks);
        if marks.note(node, rules, records, self.now()) {
            tracing::error!(
                relay = hex::encode(node),
                "another relay goes by other rules: give both the same configuration, and reload them"
            );
        }
        metrics::gauge!("pixelward_cluster_other_rules").set(marks.differing() as f64);
    }

    /// Lists the other relays.
    pub(super) fn other_relays(&self) -> Vec<Other> {
        let (marks, now) = (locked(&self.marks), self.now());
        let known = locked(&self.others).all();
        let own_mark = own_mark(self.settings.max_staleness, known.len());
        let other = |(node, address)| {
            let heard = marks.heard.get(&node);
            Other {
                node,
                address,
                heard: heard.map(|heard| now.saturating_sub(heard.at) / 1000),
                records: heard.map(|heard| heard.records),
                has_other_rules: heard
                    .is_some_and(|heard| heard.differs.is_some() && heard.rules != marks.ours),
                is_silent: marks.is_silent(&node, now, own_mark),
            }
        };
        known.into_iter().map(other).collect()
    }

    /// Asks another relay a question; one that has been silent has little time to accept the connection.
    pub(super) async fn asked(&self, other: &Other, question: &[u8]) -> Result<Vec<u8>, String> {
        let identity = self.identity.as_deref().ok_or("this relay has no certificate")?;
        let connects = if other.is_silent { SILENT_CONNECTS } else { CONNECTS };
        let answer = peer::question(&other.address, identity, question, connects).await;
        locked(&self.marks).reached(other.node, !matches!(answer, Err(PeerError::Silent { .. })));
        answer.map_err(|error| match other.heard {
            Some(seconds) if other.is_silent => format!("{error}; last heard {} min ago", seconds / 60),
            _ => error.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_rules_are_told_once_after_a_while() {
        let mut marks = Marks::default();
        let (node, ours, theirs) = ([7; 16], [1; 16], [2; 16]);
        assert!(!marks.note(node, theirs, 3, 0), "this relay has not read its rules yet");
        marks.declare(ours);
        assert!(!marks.note(node, theirs, 3, 1000));
        assert!(!marks.note(node, theirs, 3, 1000 + GRACE - 1));
        assert!(marks.note(node, theirs, 3, 1000 + GRACE));
        assert!(!marks.note(node, theirs, 3, 1000 + 2 * GRACE), "once");
        assert_eq!(marks.differing(), 1);
        assert!(!marks.note(node, ours, 3, 1001 + 2 * GRACE));
        assert_eq!(marks.differing(), 0);
        assert!(!marks.note(node, theirs, 3, 1002 + 2 * GRACE), "the time begins anew");
    }

    #[test]
    fn who_misses_two_marks_or_a_connection_is_silent_until_heard_again() {
        let (mut marks, node, each) = (Marks::default(), [7; 16], 1000);
        assert!(!marks.is_silent(&node, 2 * each, each), "this relay has just started");
        assert!(marks.is_silent(&node, 2 * each + 1, each));
        marks.note(node, [0; 16], 3, 5000);
        assert!(!marks.is_silent(&node, 5000 + 2 * each, each));
        marks.reached(node, false);
        assert!(marks.is_silent(&node, 5001, each));
        marks.note(node, [0; 16], 3, 5002);
        assert!(!marks.is_silent(&node, 5003, each));
        marks.reached(node, false);
        marks.reached(node, true);
        assert!(!marks.is_silent(&node, 5003, each));
    }
}
