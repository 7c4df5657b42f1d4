//! Judges what the engine hands out: whether every message came, each in its turn, and until when this relay
//! can prove that it is fresh. It has no clock and reads none; the simulation runs it, too.

use std::time::Duration;

use crate::engine::{Delivered, Position};
use crate::message::NodeId;

/// A moment of this relay's monotonic clock, in milliseconds since some start.
pub type Moment = u64;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The one that follows.
    Next,
    /// One that was handed out before.
    Before,
    /// Some are missing: those from the first position on and before the second.
    Gap(Position, Position),
}

/// Why this relay counts nothing as granted until somebody has looked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// Messages are missing, and no server has them.
    #[error("message {0} of the common order is missing at every server")]
    Gap(Position),
    /// After the same number of records, two chains differ.
    #[error(
        "after record {number} the journal differs from that of relay {}; `pixelward cluster compare` finds the \
         first difference",
        hex::encode(node)
    )]
    Differs {
        /// The relay that sent the mark.
        node: NodeId,
        /// The number of the record.
        number: u64,
    },
    /// The order does not continue what the journal has.
    #[error("the common order is not the one that the journal follows: {0}")]
    Another(String),
    /// A message cannot be read.
    #[error("message {position} of the common order cannot be read: {why}")]
    Unreadable {
        /// Its position.
        position: Position,
        /// The reason.
        why: String,
    },
}

/// The state of one relay towards the common order.
#[derive(Debug)]
pub struct Follower {
    next: Position,
    max_staleness: i64,
    tie: Option<Tie>,
    newest: Option<Newest>,
    stop: Option<Stop>,
}

/// A moment of the engine's clock that this relay's clock can be compared with: a message of its own was
/// committed after it was published.
#[derive(Clone, Copy, Debug)]
struct Tie {
    published: Moment,
    committed_at: i64,
}

/// The newest message that was applied.
#[derive(Clone, Copy, Debug)]
struct Newest {
    committed_at: i64,
    /// When it came; it was committed before.
    came: Moment,
}

impl Follower {
    /// Creates a follower that expects this position next.
    pub fn new(next: Position, max_staleness: Duration) -> Follower {
        let max_staleness = i64::try_from(max_staleness.as_millis()).unwrap_or(i64::MAX);
        Follower { next, max_staleness, tie: None, newest: None, stop: None }
    }

    /// Returns the position that is expected next.
    pub fn next(&self) -> Position {
        self.next
    }

    /// Judges the turn of a message. Nothing is passed over: after a gap, the missing ones come first.
    pub fn judge(&self, delivered: &Delivered) -> Turn {
        match delivered.position {
            position if position == self.next => Turn::Next,
            position if position < self.next => Turn::Before,
            position => Turn::Gap(self.next, position),
        }
    }

    /// Notes that the message that was next has been applied.
    pub fn applied(&mut self, delivered: &Delivered, now: Moment) {
        self.next = delivered.position + 1;
        let newest = Newest { committed_at: delivered.committed_at, came: now };
        if self.newest.is_none_or(|known| known.committed_at <= newest.committed_at) {
            self.newest = Some(newest);
        }
    }

    /// Continues from another position: what was applied after it is unknown.
    pub fn restart(&mut self, next: Position) {
        self.next = next;
    }

    /// Notes that a message of this relay was published at one moment, and committed at another.
    pub fn tied(&mut self, published: Moment, committed_at: i64) {
        if self.tie.is_none_or(|tie| tie.published <= published) {
            self.tie = Some(Tie { published, committed_at });
        }
    }

    /// Returns whether it is known how the clocks compare.
    pub fn is_tied(&self) -> bool {
        self.tie.is_some()
    }

    /// Forgets how the clocks compare: another server may have another clock.
    pub fn untie(&mut self) {
        self.tie = None;
    }

    /// Returns the moment until which this relay is fresh; `None` if it is not, or cannot tell.
    ///
    /// Everything that was committed before the newest applied message has been applied. That message is as old
    /// as the time since the tie was published, less what the engine's clock says was between the two; and it is
    /// at least as old as the time since it came.
    pub fn fresh_until(&self) -> Option<Moment> {
        if self.stop.is_some() {
            return None;
        }
        let (tie, newest) = (self.tie?, self.newest?);
        let by_tie = i64::try_from(tie.published)
            .ok()?
            .checked_add(newest.committed_at.checked_sub(tie.committed_at)?)?
            .checked_add(self.max_staleness)?;
        let by_coming = i64::try_from(newest.came).ok()?.checked_add(self.max_staleness)?;
        Moment::try_from(by_tie.min(by_coming)).ok()
    }

    /// Returns when the newest message came.
    pub fn heard(&self) -> Option<Moment> {
        self.newest.map(|newest| newest.came)
    }

    /// Counts nothing as granted from now on. The first reason stays.
    pub fn stop(&mut self, why: Stop) -> bool {
        let is_new = self.stop.is_none();
        if is_new {
            self.stop = Some(why);
        }
        is_new
    }

    /// Ends a stop that healed by itself: what was missing came after all.
    pub fn resume(&mut self) {
        if !matches!(self.stop, Some(Stop::Differs { .. } | Stop::Another(_))) {
            self.stop = None;
        }
    }

    /// Returns why it stopped.
    pub fn stopped(&self) -> Option<&Stop> {
        self.stop.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn delivered(position: Position, committed_at: i64) -> Delivered {
        Delivered { position, committed_at, bytes: Bytes::new() }
    }

    #[test]
    fn nothing_is_passed_over() {
        let mut follower = Follower::new(5, Duration::from_secs(60));
        assert_eq!(follower.judge(&delivered(5, 0)), Turn::Next);
        assert_eq!(follower.judge(&delivered(4, 0)), Turn::Before);
        assert_eq!(follower.judge(&delivered(8, 0)), Turn::Gap(5, 8));
        follower.applied(&delivered(5, 0), 1);
        assert_eq!((follower.next(), follower.judge(&delivered(6, 0))), (6, Turn::Next));
    }

    #[test]
    fn it_is_fresh_only_while_it_can_prove_it() {
        let mut follower = Follower::new(1, Duration::from_secs(60));
        follower.applied(&delivered(1, 1_000_000), 10);
        assert_eq!(follower.fresh_until(), None, "clocks were never compared");
        follower.tied(5, 1_000_000);
        assert_eq!(follower.fresh_until(), Some(60_005));
        // A server that hands out late what was committed long ago.
        follower.applied(&delivered(2, 1_001_000), 50_000);
        assert_eq!(follower.fresh_until(), Some(61_005));
        // A server whose clock runs ahead.
        follower.applied(&delivered(3, 9_000_000), 51_000);
        assert_eq!(follower.fresh_until(), Some(111_000));
        assert!(follower.stop(Stop::Gap(4)) && !follower.stop(Stop::Gap(5)));
        assert_eq!((follower.fresh_until(), follower.stopped()), (None, Some(&Stop::Gap(4))));
        follower.resume();
        assert!(follower.fresh_until().is_some());
        follower.stop(Stop::Differs { node: [1; 16], number: 3 });
        follower.resume();
        assert_eq!(follower.fresh_until(), None);
    }

    proptest! {
        /// Whatever is delayed and however: while it says it is fresh, everything committed more than
        /// `max_staleness` ago has been applied.
        #[test]
        fn it_never_claims_to_be_fresh_without_knowing_everything_of_a_while_ago(
            gaps in proptest::collection::vec(0..40_000i64, 2..40),
            delays in proptest::collection::vec(0..200_000i64, 40),
            offset in -1_000_000..1_000_000i64,
            mine in proptest::collection::vec(any::<bool>(), 40),
        ) {
            // The engine's clock is `offset` away from true time, and this relay's clock is true time.
            let mut follower = Follower::new(1, Duration::from_secs(60));
            let mut committed = 0;
            let messages: Vec<(i64, i64)> = gaps
                .iter()
                .zip(&delays)
                .scan(0, |came, (gap, delay)| {
                    committed += gap;
                    *came = (*came).max(committed + delay);
                    Some((committed, *came))
                })
                .collect();
            for (index, (committed, came)) in messages.iter().enumerate() {
                let next = messages.get(index + 1).map_or(i64::MAX, |(_, came)| *came);
                let message = delivered(index as u64 + 1, committed + offset);
                prop_assert_eq!(follower.judge(&message), Turn::Next);
                follower.applied(&message, u64::try_from(*came).unwrap());
                if mine[index] {
                    // It was published at most so long before it was committed.
                    let published = u64::try_from((committed - delays[index] / 7).max(0)).unwrap();
                    follower.tied(published, committed + offset);
                }
                let Some(until) = follower.fresh_until().and_then(|until| i64::try_from(until).ok()) else { continue };
                let last_fresh = until.min(next - 1);
                // The first message that has not been applied.
                if let Some((unseen, _)) = messages.get(index + 1)
                    && last_fresh > *came
                {
                    prop_assert!(last_fresh <= committed + 60_000, "{last_fresh} {committed} {unseen}");
                }
            }
        }
    }
}
