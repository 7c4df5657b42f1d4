//! A file of slots that are overwritten one by one. A slot has 128 bytes and lies within one disk sector, so
//! that an interrupted write damages no other slot. The first slot identifies the file; a slot's first byte
//! is its state.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The size of a slot in bytes.
pub const SLOT: usize = 128;
/// The contents of a slot.
pub type Bytes = [u8; SLOT];
/// The state of a slot whose content was overwritten.
pub const ERASED: u8 = 2;
/// How many slots are read at once.
const READ: u32 = 8192;

/// The file, and which of its slots are free. What is written is durable only after [`Slots::sync`].
#[derive(Debug)]
pub struct Slots {
    file: File,
    free: Vec<u32>,
    end: u32,
}

/// Returns a slot that begins with these bytes; the rest is zero. Bytes beyond a slot's size are left out.
pub fn slot(bytes: impl IntoIterator<Item = u8>) -> Bytes {
    let mut slot = [0; SLOT];
    slot.iter_mut().zip(bytes).for_each(|(place, byte)| *place = byte);
    slot
}

impl Slots {
    /// Takes an open file with nothing but its first slot, for now: see [`Slots::set_end`].
    pub fn over(file: File) -> Slots {
        Slots { file, free: Vec::new(), end: 1 }
    }

    /// Returns how many complete slots the file has, the first one included.
    ///
    /// # Errors
    ///
    /// When its size cannot be read, or there are more than 2³².
    pub fn count(&self) -> io::Result<u32> {
        let count = self.file.metadata()?.len() / SLOT as u64;
        u32::try_from(count).map_err(|_| io::Error::other("a file of slots is too large"))
    }

    /// Returns the slot after the last one in use.
    pub fn end(&self) -> u32 {
        self.end
    }

    /// Says which slot comes after the last one in use.
    pub fn set_end(&mut self, end: u32) {
        self.end = end.max(1);
    }

    /// Says that a slot may be used.
    pub fn release(&mut self, slot: u32) {
        self.free.push(slot);
    }

    /// Reads a slot.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn read(&self, slot: u32) -> io::Result<Bytes> {
        let mut bytes = [0; SLOT];
        self.file.read_exact_at(&mut bytes, offset(slot))?;
        Ok(bytes)
    }

    /// Passes the slots from `first` up to, but not including, `end` to `each`, in order.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    pub fn each(&self, first: u32, end: u32, mut each: impl FnMut(u32, &Bytes)) -> io::Result<()> {
        let mut buffer = vec![0; end.saturating_sub(first).min(READ) as usize * SLOT];
        let mut slot = first;
        while slot < end {
            let count = (end - slot).min(READ);
            let part = buffer.get_mut(..count as usize * SLOT).unwrap_or_default();
            self.file.read_exact_at(part, offset(slot))?;
            for bytes in part.as_chunks::<SLOT>().0 {
                each(slot, bytes);
                slot += 1;
            }
        }
        Ok(())
    }

    /// Returns the slot that [`Slots::put`] writes next.
    pub fn next(&self) -> u32 {
        self.free.last().copied().unwrap_or(self.end)
    }

    /// Writes the next slot, and returns which it was.
    ///
    /// # Errors
    ///
    /// When it cannot be written; it stays free then.
    pub fn put(&mut self, bytes: &Bytes) -> io::Result<u32> {
        let slot = self.next();
        self.write(slot, bytes)?;
        if self.free.pop().is_none() {
            self.end += 1;
        }
        Ok(slot)
    }

    /// Overwrites bytes of a slot, from its start.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    pub fn write(&self, slot: u32, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset(slot))
    }

    /// Overwrites bytes of the first slot, from this position on.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    pub fn write_head_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, position)
    }

    /// Overwrites all of a slot. It is not free before [`Slots::release`].
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn erase(&self, slot: u32) -> io::Result<()> {
        self.write(slot, &self::slot([ERASED]))
    }

    /// Marks all free slots as erased, and cuts off what follows the last slot.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn tidy(&self) -> io::Result<()> {
        for slot in &self.free {
            self.write(*slot, &[ERASED])?;
        }
        self.file.set_len(offset(self.end))
    }

    /// Makes what was written survive power failure.
    ///
    /// # Errors
    ///
    /// When syncing fails.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

fn offset(slot: u32) -> u64 {
    u64::from(slot) * SLOT as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots() -> Slots {
        let slots = Slots::over(tempfile::tempfile().unwrap());
        slots.write(0, &slot(*b"head")).unwrap();
        slots
    }

    #[test]
    fn a_slot_that_was_erased_is_used_again() {
        let mut slots = slots();
        assert_eq!([1, 2, 3].map(|state| slots.put(&slot([state])).unwrap()), [1, 2, 3]);
        slots.erase(2).unwrap();
        slots.release(2);
        assert_eq!(slots.read(2).unwrap(), slot([ERASED]));
        assert_eq!((slots.next(), slots.put(&slot([7; 300])).unwrap(), slots.next()), (2, 2, 4));
        let mut seen = Vec::new();
        slots.each(1, slots.count().unwrap(), |slot, bytes| seen.push((slot, bytes[0], bytes[127]))).unwrap();
        assert_eq!(seen, [(1, 1, 0), (2, 7, 7), (3, 3, 0)]);
    }

    #[test]
    fn tidying_up_leaves_whole_slots() {
        let mut slots = slots();
        slots.put(&slot([1; SLOT])).unwrap();
        slots.put(&slot([1; SLOT])).unwrap();
        slots.write(3, &[9; 5]).unwrap();
        slots.release(1);
        slots.tidy().unwrap();
        assert_eq!((slots.count().unwrap(), slots.end()), (3, 3));
        assert_eq!(slots.file.metadata().unwrap().len(), 3 * SLOT as u64);
        assert_eq!((slots.read(1).unwrap()[0], slots.read(2).unwrap()[0]), (ERASED, 1));
    }

    #[test]
    fn many_slots_are_read_in_order() {
        let mut slots = slots();
        let many = READ * 2 + 3;
        slots.write(many, &slot([1])).unwrap();
        slots.set_end(many + 1);
        let mut next = 1;
        slots
            .each(1, slots.end(), |slot, _| {
                assert_eq!(slot, next);
                next += 1;
            })
            .unwrap();
        assert_eq!(next, many + 1);
    }
}
