//! The memory budget for messages, shared by all sessions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many bytes of messages are in memory, and the maximum.
#[derive(Clone, Debug)]
pub struct Budget {
    held: Arc<AtomicU64>,
    max: u64,
}

/// A share of the budget, returned when dropped.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    bytes: u64,
}

impl Budget {
    /// Creates a budget of this many bytes.
    pub fn new(max: u64) -> Budget {
        Budget { held: Arc::new(AtomicU64::new(0)), max }
    }

    /// Returns an empty share.
    pub fn share(&self) -> Share {
        Share { budget: self.clone(), bytes: 0 }
    }

    /// Returns the maximum number of bytes.
    pub fn most(&self) -> u64 {
        self.max
    }

    /// Returns how many bytes are in use.
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }
}

impl Share {
    /// Grows the share to at least `bytes`; returns whether there was room.
    pub fn grow_to(&mut self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        if bytes <= self.bytes {
            return true;
        }
        let more = bytes - self.bytes;
        let before = self.budget.held.fetch_add(more, Ordering::Relaxed);
        if before + more > self.budget.max {
            self.budget.held.fetch_sub(more, Ordering::Relaxed);
            return false;
        }
        self.bytes = bytes;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_given_back() {
        let budget = Budget::new(100);
        let mut one = budget.share();
        let mut two = budget.share();
        assert!(one.grow_to(60) && one.grow_to(50) && two.grow_to(40));
        assert!(!two.grow_to(41));
        drop(one);
        assert!(two.grow_to(100));
        drop(two);
        assert_eq!(budget.held(), 0);
    }
}
