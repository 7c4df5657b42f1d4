//! Where a byte stands that is frequent: sixty-four bytes are compared at once, and each place costs a few
//! instructions. `memchr` is quicker where the byte is rare.

use wide::u8x16;

/// How many bytes are compared at once.
pub(crate) const BLOCK: usize = 64;
/// How many of them one comparison takes.
const LANES: usize = 16;

/// Finds each place of a byte, in order.
pub(crate) struct Places<'a> {
    bytes: &'a [u8],
    wanted: u8,
    /// Where the next block starts.
    next: usize,
    /// The places in the block before that are still to be named, one bit for each byte.
    found: u64,
}

impl<'a> Places<'a> {
    pub(crate) fn of(wanted: u8, bytes: &'a [u8]) -> Places<'a> {
        Places { bytes, wanted, next: 0, found: 0 }
    }
}

impl Iterator for Places<'_> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        while self.found == 0 {
            let rest = self.bytes.get(self.next..).filter(|rest| !rest.is_empty())?;
            self.found = match rest.first_chunk::<BLOCK>() {
                Some(block) => equal(block, self.wanted),
                None => equal(&filled(rest, !self.wanted), self.wanted),
            };
            self.next += BLOCK;
        }
        let place = self.found.trailing_zeros() as usize;
        self.found &= self.found - 1;
        Some(self.next - BLOCK + place)
    }
}

/// A bit for each byte of a block that is the one.
fn equal(block: &[u8; BLOCK], wanted: u8) -> u64 {
    let wanted = u8x16::splat(wanted);
    let (lanes, _) = block.as_chunks::<LANES>();
    let bits = |lanes: &[u8; LANES]| u64::from(u8x16::new(*lanes).simd_eq(wanted).to_bitmask());
    lanes.iter().rev().fold(0, |all, lanes| all << LANES | bits(lanes))
}

/// The end of a text, which is shorter than a block, with other bytes behind it.
fn filled(rest: &[u8], other: u8) -> [u8; BLOCK] {
    let mut block = [other; BLOCK];
    if let Some(start) = block.get_mut(..rest.len()) {
        start.copy_from_slice(rest);
    }
    block
}

/// A bit for each of the first bytes that is a space or a tab, a block of them at most.
pub(crate) fn blanks(bytes: &[u8]) -> u64 {
    let block = bytes.first_chunk::<BLOCK>().copied().unwrap_or_else(|| filled(bytes, 0));
    equal(&block, b' ') | equal(&block, b'\t')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_place_is_found(
            bytes in prop::collection::vec(prop::sample::select(b"=\0a\xff".to_vec()), 0..400),
        ) {
            for wanted in *b"=\0\xff" {
                let places: Vec<usize> = Places::of(wanted, &bytes).collect();
                prop_assert_eq!(places, memchr::memchr_iter(wanted, &bytes).collect::<Vec<usize>>());
            }
        }
    }
}
