//! What is known of the other relays: when each was heard last, and whether it goes by the same rules.

use std::collections::BTreeMap;

use super::{Inner, locked};
use crate::follower::Moment;
use crate::message::NodeId;

/// How long relays may go by different rules: a change of the configuration reaches one after another. In
/// milliseconds.
const GRACE: Moment = 5 * 60 * 1000;

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
}

/// What the relays said of themselves since this one started.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// The rules of this relay.
    ours: Rules,
    heard: BTreeMap<NodeId, Heard>,
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
        is_news
    }

    pub(super) fn forget(&mut self, node: NodeId) {
        self.heard.remove(&node);
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
        let other = |(node, address)| {
            let heard = marks.heard.get(&node);
            Other {
                node,
                address,
                heard: heard.map(|heard| now.saturating_sub(heard.at) / 1000),
                records: heard.map(|heard| heard.records),
                has_other_rules: heard
                    .is_some_and(|heard| heard.differs.is_some() && heard.rules != marks.ours),
            }
        };
        known.into_iter().map(other).collect()
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
}
