//! The places of one person's records for one controller in the journal, so that a history needs no scan of
//! all of it.

use super::journal::Place;

/// The maximum number of listed records; beyond it, the oldest are left out.
const MOST: usize = 64;

/// Records of the journal, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trail {
    records: Vec<(u64, Place)>,
    /// How many older ones are not listed.
    left_out: u32,
}

impl Trail {
    /// Adds a record with its number. One that is not newer than the newest was added before.
    pub fn push(&mut self, number: u64, place: Place) {
        if number <= self.newest() {
            return;
        }
        if self.records.len() >= MOST {
            self.records.remove(0);
            self.left_out = self.left_out.saturating_add(1);
        }
        self.records.push((number, place));
    }

    /// Returns the listed records, newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = (u64, Place)> {
        self.records.iter().rev().copied()
    }

    /// Returns the number of the newest record; 0 if there is none.
    pub fn newest(&self) -> u64 {
        self.records.last().map_or(0, |(number, _)| *number)
    }

    /// Returns how many records there are, listed or not.
    pub fn count(&self) -> u64 {
        self.records.len() as u64 + u64::from(self.left_out)
    }

    /// Returns the records with their places; `None` if they are not all listed.
    pub fn whole(&self) -> Option<&[(u64, Place)]> {
        (self.left_out == 0).then_some(&self.records)
    }

    /// Returns the bytes for the index, which others may follow.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.left_out.to_le_bytes());
        out.push(u8::try_from(self.records.len()).unwrap_or(u8::MAX));
        for (number, place) in &self.records {
            out.extend_from_slice(&number.to_le_bytes());
            out.extend_from_slice(&place.segment.to_le_bytes());
            out.extend_from_slice(&place.offset.to_le_bytes());
        }
    }

    /// Reads the bytes in the index; also returns what follows them.
    pub(super) fn decode(bytes: &[u8]) -> Option<(Trail, &[u8])> {
        let (left_out, rest) = bytes.split_first_chunk::<4>()?;
        let (&count, mut rest) = rest.split_first()?;
        let mut records = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            let (number, tail) = rest.split_first_chunk::<8>()?;
            let (segment, tail) = tail.split_first_chunk::<4>()?;
            let (offset, tail) = tail.split_first_chunk::<4>()?;
            let place = Place { segment: u32::from_le_bytes(*segment), offset: u32::from_le_bytes(*offset) };
            records.push((u64::from_le_bytes(*number), place));
            rest = tail;
        }
        Some((Trail { records, left_out: u32::from_le_bytes(*left_out) }, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(offset: u32) -> Place {
        Place { segment: 1, offset }
    }

    #[test]
    fn a_record_is_listed_once_and_the_oldest_are_left_out() {
        let mut trail = Trail::default();
        for number in [1, 2, 2, 1, 3] {
            trail.push(number, place(40));
        }
        assert_eq!(trail.whole().unwrap().iter().map(|pair| pair.0).collect::<Vec<_>>(), [1, 2, 3]);
        (4..=70).for_each(|number| trail.push(number, place(40)));
        assert_eq!((trail.whole(), trail.count(), trail.newest()), (None, 70, 70));
    }

    #[test]
    fn it_reads_back_with_what_stands_behind() {
        let mut trail = Trail::default();
        trail.push(7, place(u32::MAX));
        trail.push(u64::MAX, place(48));
        let mut bytes = Vec::new();
        trail.encode(&mut bytes);
        bytes.push(9);
        assert_eq!(Trail::decode(&bytes), Some((trail, &[9_u8][..])));
        assert_eq!(Trail::decode(&bytes[..bytes.len() - 2]), None);
    }
}
