//! Outcomes: what happens to a tracker in one copy of a message.

/// What happens to a tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It stays as it is.
    Keep,
    /// An address of ours checks consent at each fetch (N25).
    SwapGated,
    /// One address for a whole campaign and a counter; nobody is distinguished (N14).
    SwapShared,
    /// An address of ours keeps the day of the last open, and nothing else (N11).
    SwapDay,
    /// It is removed.
    Strip,
}

impl Outcome {
    /// All outcomes.
    pub const ALL: [Outcome; 5] =
        [Outcome::Keep, Outcome::SwapGated, Outcome::SwapShared, Outcome::SwapDay, Outcome::Strip];

    /// Returns the name used in logs and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Keep => "keep",
            Outcome::SwapGated => "swap_gated",
            Outcome::SwapShared => "swap_shared",
            Outcome::SwapDay => "swap_day",
            Outcome::Strip => "strip",
        }
    }

    /// Returns whether it needs an address of ours.
    pub const fn is_swap(self) -> bool {
        matches!(self, Outcome::SwapGated | Outcome::SwapShared | Outcome::SwapDay)
    }

    /// Returns the outcome for a copy or a pixel that both share: two different ones join to strip.
    #[must_use]
    pub fn join(self, other: Outcome) -> Outcome {
        if self == other { self } else { Outcome::Strip }
    }
}

/// What was done in a copy that left. It claims an effect only where there was something to have one on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Done {
    /// Nothing that reports an open was found.
    #[default]
    Nothing,
    /// This was done to what was found.
    Of(Outcome),
}

impl Done {
    /// The name used in logs and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Done::Nothing => "nothing",
            Done::Of(outcome) => outcome.name(),
        }
    }
}

/// Returns the outcome that all of these share. Without any, the copy is stripped.
pub fn joined(outcomes: impl IntoIterator<Item = Outcome>) -> Outcome {
    outcomes.into_iter().reduce(Outcome::join).unwrap_or(Outcome::Strip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_outcomes_that_share_a_copy_strip_it() {
        for one in Outcome::ALL {
            for other in Outcome::ALL {
                let wanted = if one == other { one } else { Outcome::Strip };
                assert_eq!(one.join(other), wanted);
                assert_eq!(joined([one, other, one]), wanted);
            }
            assert_eq!(joined([one]), one);
        }
        assert_eq!(joined([]), Outcome::Strip);
    }
}
