//! A step of the line that computes: guarded, and away from the network's threads where it may take long.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;

use crate::faults;
use crate::guarded::{Panicked, guarded};

/// Up to so many bytes are worked on where the network is served: about 2 ms of the most costly real mail.
const BRIEF: usize = 64 * 1024;
/// How many bytes the look-up of one recipient and the decision about them count as.
pub(super) const RECIPIENT_WORK: usize = 512;
/// So many bytes that are only copied, hashed or looked through for a line count as one.
pub(super) const PLAIN_BYTES: usize = 32;
/// How many long steps run at once; each has a thread meanwhile. The others wait without holding one.
const LONG_STEPS: usize = 64;

/// Runs steps.
#[derive(Debug)]
pub(super) struct Steps {
    long: Semaphore,
}

impl Steps {
    pub(super) fn new() -> Steps {
        Steps { long: Semaphore::new(LONG_STEPS) }
    }

    /// Runs a step that goes through so many bytes of `message`, or of what comes of it.
    ///
    /// # Errors
    ///
    /// When it panics: where.
    pub(super) async fn run<T>(
        &self,
        message: &[u8],
        work: usize,
        step: impl FnOnce() -> T,
    ) -> Result<T, Panicked> {
        let step = || {
            faults::arm(message);
            guarded(step)
        };
        let has_more_threads = || {
            Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread)
        };
        if work <= BRIEF || !has_more_threads() {
            return step();
        }
        // It is never closed.
        let _turn = self.long.acquire().await;
        tokio::task::block_in_place(step)
    }
}
