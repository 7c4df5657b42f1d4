//! Bodies whose hashes are known: of one that is nearly the same as one of the last ones, as what leaves for the
//! readers of a newsletter mostly is, only what differs is hashed.
//!
//! BLAKE3 hashes a tree of chunks, in which what is known of a subtree holds wherever the same bytes stand in the same
//! place. Promised: the hash of all of the body. That bytes are the same is seen by comparing all of them.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use blake3::Hasher;
use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

/// What is compared and hashed by itself: eight chunks, which most processors hash at once.
const SUBTREE: usize = 8 * 1024;
/// Shorter bodies are hashed about as quickly as compared; longer ones take too much memory.
const LENGTHS: std::ops::RangeInclusive<usize> = 2 * SUBTREE + 1..=32 * SUBTREE;
/// How many bodies are known at most.
const MOST: usize = 8;
/// Where so many bodies in a row were unlike all that are known, one in so many more becomes known: copying it takes
/// time, too.
const UNLIKE: u32 = 64;

/// The last bodies, in the order in which they were last of use.
#[derive(Debug, Default)]
pub(super) struct Known {
    bodies: Mutex<Bodies>,
}

#[derive(Debug, Default)]
struct Bodies {
    last: Vec<Arc<Body>>,
    /// How many in a row were unlike all of them.
    unlike: u32,
}

/// A body that was hashed.
#[derive(Debug)]
struct Body {
    bytes: Box<[u8]>,
    hash: [u8; 32],
    /// What its subtrees come to, once that was asked.
    values: OnceLock<Vec<ChainingValue>>,
}

impl Known {
    /// Whether bodies of this length may become known.
    fn takes(body: &[u8]) -> bool {
        LENGTHS.contains(&body.len())
    }

    fn bodies(&self) -> MutexGuard<'_, Bodies> {
        // Whoever panicked left whole bodies behind.
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The hash of a body that is nearly one that is known; `None` where it is like none of them.
    pub(super) fn hash(&self, body: &[u8]) -> Option<[u8; 32]> {
        if !Known::takes(body) {
            return None;
        }
        let is_as_long = |known: &&Arc<Body>| known.bytes.len() == body.len();
        let alike: Vec<Arc<Body>> = self.bodies().last.iter().filter(is_as_long).cloned().collect();
        let (hash, found) = alike.into_iter().find_map(|known| Some((known.hash_of(body)?, known)))?;
        let mut bodies = self.bodies();
        bodies.unlike = 0;
        if let Some(at) = bodies.last.iter().position(|known| Arc::ptr_eq(known, &found)) {
            bodies.last.get_mut(..=at).unwrap_or_default().rotate_right(1);
        }
        Some(hash)
    }

    /// Makes a body known that was like none.
    pub(super) fn note(&self, body: &[u8], hash: [u8; 32]) {
        if !Known::takes(body) {
            return;
        }
        let mut bodies = self.bodies();
        bodies.unlike = bodies.unlike.saturating_add(1);
        if bodies.unlike < UNLIKE || bodies.unlike.is_multiple_of(UNLIKE) {
            bodies.last.truncate(MOST - 1);
            bodies.last.insert(0, Arc::new(Body { bytes: body.into(), hash, values: OnceLock::new() }));
        }
    }
}

impl Body {
    /// The hash of another body of the same length; `None` where less than half of it is the same.
    fn hash_of(&self, other: &[u8]) -> Option<[u8; 32]> {
        let subtrees = || self.bytes.chunks(SUBTREE).zip(other.chunks(SUBTREE));
        let same: Vec<bool> = subtrees().map(|(known, there)| known == there).collect();
        let how_many = same.iter().filter(|same| **same).count();
        if how_many == same.len() {
            return Some(self.hash);
        }
        if 2 * how_many < same.len() {
            return None;
        }
        let known = self.values.get_or_init(|| values(&self.bytes).collect());
        let there = other.chunks(SUBTREE).enumerate().zip(same.iter().zip(known));
        let value = |((number, subtree), (same, known)): ((usize, &[u8]), (&bool, &ChainingValue))| match same
        {
            true => *known,
            false => value(number, subtree),
        };
        root(&there.map(value).collect::<Vec<ChainingValue>>())
    }
}

/// What the subtrees of a body come to.
fn values(body: &[u8]) -> impl Iterator<Item = ChainingValue> {
    body.chunks(SUBTREE).enumerate().map(|(number, subtree)| value(number, subtree))
}

/// What one subtree comes to.
fn value(number: usize, subtree: &[u8]) -> ChainingValue {
    let mut hasher = Hasher::new();
    hasher.set_input_offset((number * SUBTREE) as u64);
    hasher.update(subtree);
    hasher.finalize_non_root()
}

/// What all subtrees come to, of which there are at least two.
fn root(values: &[ChainingValue]) -> Option<[u8; 32]> {
    let (left, right) = halves(values)?;
    Some(*merge_subtrees_root(&merged(left)?, &merged(right)?, Mode::Hash).as_bytes())
}

/// What some subtrees come to together.
fn merged(values: &[ChainingValue]) -> Option<ChainingValue> {
    match values {
        [value] => Some(*value),
        _ => {
            let (left, right) = halves(values)?;
            Some(merge_subtrees_non_root(&merged(left)?, &merged(right)?, Mode::Hash))
        }
    }
}

/// The two subtrees that some consist of: the left one is the largest that is full and leaves something for the right.
fn halves(values: &[ChainingValue]) -> Option<(&[ChainingValue], &[ChainingValue])> {
    values.split_at_checked(values.len().next_power_of_two() / 2).filter(|(left, _)| !left.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 7 + at / 251) as u8).collect()
    }

    #[test]
    fn a_hash_by_what_is_known_is_the_hash_of_the_body() {
        for length in
            [2 * SUBTREE + 1, 3 * SUBTREE, 3 * SUBTREE + 1023, 51_234, 64 << 10, (64 << 10) + 1, 200_003]
        {
            let (known, one) = (Known::default(), body(length));
            assert_eq!(known.hash(&one), None);
            known.note(&one, *blake3::hash(&one).as_bytes());
            let places = [0, 1, SUBTREE - 1, SUBTREE, length / 2, length - 1];
            for places in (0..places.len()).map(|last| &places[..=last]) {
                let mut other = one.clone();
                places.iter().for_each(|place| other[*place] = !one[*place]);
                let subtrees = length.div_ceil(SUBTREE);
                let mut differing: Vec<usize> = places.iter().map(|place| place / SUBTREE).collect();
                differing.sort_unstable();
                differing.dedup();
                let wanted = (2 * differing.len() <= subtrees).then(|| *blake3::hash(&other).as_bytes());
                assert_eq!(known.hash(&other), wanted, "{length} {places:?}");
            }
            assert_eq!(known.hash(&one), Some(*blake3::hash(&one).as_bytes()));
            assert_eq!(known.hash(&one[..length - 1]), None, "another length");
        }
    }

    #[test]
    fn the_last_ones_that_were_of_use_stay_known() {
        let known = Known::default();
        let first = body(20_000);
        known.note(&first, [1; 32]);
        for number in 1..3 * MOST {
            assert_eq!(known.hash(&first), Some([1; 32]), "{number}");
            known.note(&body(20_000 + number), [2; 32]);
            assert!(known.bodies().last.len() <= MOST);
        }
        assert_eq!(known.hash(&body(20_001)), None);
        let short = body(2 * SUBTREE);
        known.note(&short, [3; 32]);
        assert_eq!(known.hash(&short), None, "not worth it");
    }

    #[test]
    fn bodies_that_are_all_unlike_are_seldom_copied() {
        let known = Known::default();
        let is_known = |number: usize| {
            let mut other = vec![number as u8; 20_000];
            other[0] ^= 0x55;
            known.note(&other, [0; 32]);
            known.bodies().last[0].bytes[..] == other[..]
        };
        let taken: Vec<usize> = (1..=200).filter(|number| is_known(*number)).collect();
        assert_eq!(taken, (1..=64).chain([128, 192]).collect::<Vec<usize>>());
    }
}
