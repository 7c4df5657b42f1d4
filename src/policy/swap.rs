//! What can be done of what was decided. Swaps put an address of ours in the place of the sender's, and this version serves none.

use super::Outcome;

/// Why a swap is not done, as the log and the metrics name it.
pub const NEEDS_PUBLIC_URL: &str = "swap_needs_public_url";

/// The outcome that a copy gets, and why it is another one than was decided. The only place where a swap becomes something else: without a
/// public address of the controller that serves its pixels, the trackers go.
pub const fn possible(decided: Outcome) -> (Outcome, Option<&'static str>) {
    match decided {
        Outcome::Keep | Outcome::Strip => (decided, None),
        Outcome::SwapGated | Outcome::SwapShared | Outcome::SwapDay => {
            (Outcome::Strip, Some(NEEDS_PUBLIC_URL))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_that_cannot_be_served_strips() {
        for outcome in Outcome::ALL {
            let (done, why) = possible(outcome);
            assert_eq!(done, if outcome.is_swap() { Outcome::Strip } else { outcome });
            assert_eq!(why.is_some(), outcome.is_swap());
        }
    }
}
