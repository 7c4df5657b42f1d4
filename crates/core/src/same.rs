//! How much of two texts is the same.

/// How many bytes are compared at once in long texts, and in what is left of them.
const BLOCKS: [usize; 2] = [64, 16];

/// How many bytes both start with.
pub(crate) fn at_start(one: &[u8], other: &[u8]) -> usize {
    let mut same = 0;
    for block in BLOCKS {
        let rest = |text| <[u8]>::get(text, same..).unwrap_or_default();
        let blocks = rest(one).chunks_exact(block).zip(rest(other).chunks_exact(block));
        same += block * blocks.take_while(|(one, other)| one == other).count();
    }
    let rest = one.iter().zip(other).skip(same);
    same + rest.take_while(|(one, other)| one == other).count()
}

/// How many bytes both end with.
pub(crate) fn at_end(one: &[u8], other: &[u8]) -> usize {
    let [_, block] = BLOCKS;
    let blocks = one.rchunks_exact(block).zip(other.rchunks_exact(block));
    let same = block * blocks.take_while(|(one, other)| one == other).count();
    let rest = one.iter().rev().zip(other.iter().rev()).skip(same);
    same + rest.take_while(|(one, other)| one == other).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_same_ends_at_the_first_byte_that_differs() {
        let one: Vec<u8> = (0..200).collect();
        for at in 0..one.len() {
            let mut other = one.clone();
            other[at] = 255;
            assert_eq!((at_start(&one, &other), at_end(&one, &other)), (at, one.len() - at - 1));
            assert_eq!((at_start(&one[..at], &one), at_end(&one[at..], &one)), (at, one.len() - at));
        }
    }
}
