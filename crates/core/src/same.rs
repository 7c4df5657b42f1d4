//! How much of two texts is the same.

/// How many bytes are compared at once in long texts, and in what is left of them.
const BLOCKS: [usize; 2] = [64, 16];

/// How many bytes both start with.
pub(crate) fn at_start(one: &[u8], other: &[u8]) -> usize {
    let mut same = 0;
    for block in BLOCKS {
        let blocks = behind(one, same).chunks_exact(block).zip(behind(other, same).chunks_exact(block));
        same += block * blocks.take_while(|(one, other)| one == other).count();
    }
    let rest = behind(one, same).iter().zip(behind(other, same));
    same + rest.take_while(|(one, other)| one == other).count()
}

/// What stands behind so many bytes. To skip what an iterator gives takes a step for each.
fn behind(text: &[u8], bytes: usize) -> &[u8] {
    text.get(bytes..).unwrap_or_default()
}

/// What stands before the last so many bytes.
fn before(text: &[u8], bytes: usize) -> &[u8] {
    text.get(..text.len() - bytes).unwrap_or_default()
}

/// How many bytes both end with.
pub(crate) fn at_end(one: &[u8], other: &[u8]) -> usize {
    let [_, block] = BLOCKS;
    let blocks = one.rchunks_exact(block).zip(other.rchunks_exact(block));
    let same = block * blocks.take_while(|(one, other)| one == other).count();
    let rest = before(one, same).iter().rev().zip(before(other, same).iter().rev());
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
