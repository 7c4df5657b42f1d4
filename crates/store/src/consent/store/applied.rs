//! What a change came to.

use crate::consent::timestamp::Timestamp;

/// The result of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a choice that did not take effect must not be shown as one that did"]
pub enum Applied {
    /// It has taken effect, and is durable under this number of the journal.
    Recorded(u64),
    /// The same, but with another time than the claimed one, which is ahead of the clock or not later than a
    /// current state that is.
    Moved {
        /// The number in the journal.
        number: u64,
        /// The time it was recorded with.
        at: Timestamp,
    },
    /// Something newer is known. It was recorded at most for what it says besides.
    Stale,
    /// The person withdrew, and this does not supersede that.
    SupersededByWithdrawal,
    /// It claims to have been said in the future.
    InFuture,
    /// The current consent was not the expected one; nothing was recorded.
    Conflicting,
    /// It holds at this relay, durably. The others are told as soon as they can be reached.
    HoldsHere,
    /// Nothing was recorded: only together with the other relays can a grant become durable, and they cannot
    /// be reached, or do not promise durability.
    NotNow,
    /// Whether it was recorded is unknown: the other relays did not answer in time.
    Unconfirmed,
}

impl Applied {
    /// Returns the journal's number of the record if it took effect.
    pub fn number(&self) -> Option<u64> {
        match self {
            Applied::Recorded(number) | Applied::Moved { number, .. } => Some(*number),
            Applied::Stale
            | Applied::SupersededByWithdrawal
            | Applied::InFuture
            | Applied::Conflicting
            | Applied::HoldsHere
            | Applied::NotNow
            | Applied::Unconfirmed => None,
        }
    }
}
