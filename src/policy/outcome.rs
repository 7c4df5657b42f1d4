//! What is done to a tracker in one copy of a message.

/// What happens to a sighting. Stricter outcomes come later, so that `max` is the safe choice for a shared copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// It stays as it is.
    Keep,
    /// It is taken out.
    Strip,
}

impl Outcome {
    /// The name used in logs and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Keep => "keep",
            Outcome::Strip => "strip",
        }
    }
}

/// The outcome for a copy that all of these recipients share. Nobody's copy is stripped.
pub fn strictest(outcomes: impl IntoIterator<Item = Outcome>) -> Outcome {
    outcomes.into_iter().max().unwrap_or(Outcome::Strip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_refusal_strips_the_shared_copy() {
        assert_eq!(strictest([Outcome::Keep, Outcome::Strip, Outcome::Keep]), Outcome::Strip);
        assert_eq!(strictest([Outcome::Keep, Outcome::Keep]), Outcome::Keep);
        assert_eq!(strictest([]), Outcome::Strip);
    }
}
