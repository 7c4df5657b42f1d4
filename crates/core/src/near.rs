//! A search in a sorted list that looks near the last result first: what is asked for mostly goes on from there.

use std::cell::Cell;

/// How many steps are taken from there before the whole list is halved and halved again.
const STEPS: usize = 6;

/// Remembers the last result of the search in one list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Near(Cell<usize>);

impl Near {
    /// How many items, all of them at the start of the list, are before what is looked for.
    pub(crate) fn parted<T>(&self, list: &[T], is_before: impl Fn(&T) -> bool) -> usize {
        let mut at = self.0.get().min(list.len());
        for _ in 0..STEPS {
            match (at.checked_sub(1).and_then(|last| list.get(last)), list.get(at)) {
                (Some(last), _) if !is_before(last) => at -= 1,
                (_, Some(next)) if is_before(next) => at += 1,
                _ => {
                    self.0.set(at);
                    return at;
                }
            }
        }
        let at = list.partition_point(is_before);
        self.0.set(at);
        at
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_finds_what_halving_finds(
            mut list in prop::collection::vec(0u8..40, 0..60),
            asked in prop::collection::vec(0u8..45, 0..20),
        ) {
            list.sort_unstable();
            let near = Near::default();
            for wanted in asked {
                let is_before = |item: &u8| *item <= wanted;
                prop_assert_eq!(near.parted(&list, is_before), list.partition_point(is_before));
            }
        }
    }
}
