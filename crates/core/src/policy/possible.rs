//! Decides what is possible of what was decided. Swaps put an address of ours in the place of the sender's,
//! for which the controller needs a public URL.

use super::Outcome;

/// Why less is done than was decided, as the log, the metrics and audit records name it.
pub mod shortfall {
    /// The controller has no public URL that could serve the pixel.
    pub const NEEDS_PUBLIC_URL: &str = "swap_needs_public_url";
    /// The copy goes to several people, so it cannot contain a pixel for one of them.
    pub const SHARED_COPY: &str = "copy_is_shared";
    /// No tracker of the message is in a place where an address of ours can be.
    pub const NOT_SWAPPABLE: &str = "no_tracker_can_be_swapped";
    /// The copy needs a link to the preference page, and the message has no place for it (N24).
    pub const NO_PLACE_FOR_LINK: &str = "no_place_for_link";
    /// The tracker stands in a signed or encrypted part, which is never edited.
    pub const PROTECTED_PART: &str = "protected_part";
}

/// Returns the outcome of a copy, and why it differs from the decision. `public_url` is that of the
/// controller: without it, trackers are removed.
pub fn possible(decided: Outcome, public_url: Option<&str>) -> (Outcome, Option<&'static str>) {
    match (decided, public_url) {
        (Outcome::SwapGated | Outcome::SwapShared | Outcome::SwapDay, None) => {
            (Outcome::Strip, Some(shortfall::NEEDS_PUBLIC_URL))
        }
        _ => (decided, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_that_cannot_be_served_strips() {
        for outcome in Outcome::ALL {
            let (done, why) = possible(outcome, None);
            assert_eq!(done, if outcome.is_swap() { Outcome::Strip } else { outcome });
            assert_eq!(why.is_some(), outcome.is_swap());
            assert_eq!(possible(outcome, Some("https://choice.shop.example")), (outcome, None));
        }
    }
}
