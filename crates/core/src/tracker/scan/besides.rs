//! What is known of the places of a trail besides what it says: how they are in a copy that leaves the same trail.

use super::Place;
use crate::tracker::signal::Signals;

/// What is known of the places of a trail besides what it says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Besides<'k> {
    /// For each place, whether it is passed over; none where this is empty.
    pub left_out: &'k [bool],
    /// How they are in a text that is the same in all that the trail says but in addresses; `None` where it is that of
    /// the trail.
    pub weighed: Option<&'k Weighed>,
}

/// The places of a text in which a pass leaves the same trail as in another one: what is not as it is there.
#[derive(Clone, Debug, Default)]
pub struct Weighed {
    /// The signals of each place as it was weighed by itself. Those of links are of no use.
    pub signals: Vec<Signals>,
    /// The places whose addresses are others, sorted by their numbers.
    pub others: Vec<(usize, Place<'static>)>,
}

impl<'k> Besides<'k> {
    pub(super) fn leaves_out(&self, number: usize) -> bool {
        self.left_out.get(number).copied().unwrap_or(false)
    }

    /// The place of this number, which is `known` in the trail, and its signals.
    pub(super) fn place<'p>(&self, number: usize, known: &'p Place<'static>) -> (&'p Place<'static>, Signals)
    where
        'k: 'p,
    {
        let Some(weighed) = self.weighed else { return (known, known.signals) };
        let other = weighed.others.binary_search_by_key(&number, |(number, _)| *number).ok();
        let other = other.and_then(|at| weighed.others.get(at)).map(|(_, place)| place);
        (other.unwrap_or(known), weighed.signals.get(number).copied().unwrap_or(known.signals))
    }
}
