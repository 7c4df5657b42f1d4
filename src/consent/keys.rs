//! Who a record is about: the key file. A slot holds a person, a random id and the person's key, wrapped under a key derived from the
//! store key. Overwriting a slot erases the person: what the journal says of the id can then be read by nobody, and tied to nobody.
//!
//! A slot is 128 bytes and lies within one disk sector, so that a write that was cut off damages no other slot.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::person::{Person, StoreKey};
use super::seal::Sealer;

const SLOT: usize = 128;
/// The first slot says what file this is.
const MAGIC: &[u8; 16] = b"pixelward keys 1";
/// The state of a slot; its first byte.
const USED: u8 = 1;
const ERASED: u8 = 2;
/// Person, id, key.
const PLAIN: usize = 16 + 16 + 32;
const SEALED: usize = PLAIN + 28;

/// A person's place in the key file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    slot: u32,
    /// The id that stands in the journal.
    pub id: [u8; 16],
}

/// The key file.
pub struct Keys {
    file: File,
    master: Sealer,
    people: HashMap<Person, Entry>,
    free: Vec<u32>,
    next: u32,
    dirty: bool,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({} people)", self.people.len())
    }
}

impl Keys {
    /// Opens or makes the key file. Slots that cannot be opened are reported: they were cut off while being written, or the
    /// store key is another one.
    ///
    /// # Errors
    ///
    /// When the file cannot be used, or not a single slot opens with this store key.
    pub fn open(path: &Path, store_key: &StoreKey) -> io::Result<Keys> {
        let master = Sealer::new(&store_key.derived("key file"));
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let length = file.metadata()?.len();
        let mut keys = Keys { file, master, people: HashMap::new(), free: Vec::new(), next: 1, dirty: false };
        if length < SLOT as u64 {
            let mut head = [0; SLOT];
            head.iter_mut().zip(MAGIC).for_each(|(own, byte)| *own = *byte);
            keys.file.write_all_at(&head, 0)?;
            keys.file.sync_all()?;
            if let Some(directory) = path.parent() {
                File::open(directory)?.sync_all()?;
            }
            return Ok(keys);
        }
        keys.load(length)?;
        Ok(keys)
    }

    fn load(&mut self, length: u64) -> io::Result<()> {
        let mut head = [0; SLOT];
        self.file.read_exact_at(&mut head, 0)?;
        if head.get(..MAGIC.len()) != Some(MAGIC.as_slice()) {
            return Err(io::Error::other("this is no key file of pixelward"));
        }
        let slots =
            u32::try_from(length / SLOT as u64).map_err(|_| io::Error::other("the key file is too large"))?;
        let mut unreadable = 0u32;
        for slot in 1..slots {
            let mut bytes = [0; SLOT];
            self.file.read_exact_at(&mut bytes, offset(slot))?;
            match (bytes.first(), self.unwrap(slot, &bytes)) {
                (Some(&USED), Some((person, id, _))) => {
                    self.people.insert(person, Entry { slot, id });
                }
                (Some(&USED), None) => {
                    unreadable += 1;
                    self.free.push(slot);
                }
                _ => self.free.push(slot),
            }
        }
        self.next = slots.max(1);
        if unreadable > 0 && self.people.is_empty() {
            return Err(io::Error::other(
                "no slot opens with this store key; put the right store.key back from its backup",
            ));
        }
        if unreadable > 0 {
            tracing::warn!(
                unreadable,
                "slots of the key file were not written whole, or are damaged; their people are unknown now"
            );
        }
        Ok(())
    }

    fn unwrap(&self, slot: u32, bytes: &[u8; SLOT]) -> Option<(Person, [u8; 16], [u8; 32])> {
        let plain = self.master.open(bytes.get(1..=SEALED)?, &slot.to_le_bytes()).ok()?;
        let (person, rest) = plain.split_first_chunk::<16>()?;
        let (id, key) = rest.split_first_chunk::<16>()?;
        Some((Person(*person), *id, key.try_into().ok()?))
    }

    /// A person's entry, if there is one.
    pub fn find(&self, person: Person) -> Option<Entry> {
        self.people.get(&person).copied()
    }

    /// A person's entry, made where there is none. It is only durable after [`Keys::sync`].
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn find_or_create(&mut self, person: Person) -> io::Result<Entry> {
        if let Some(entry) = self.find(person) {
            return Ok(entry);
        }
        let mut secret = [0; 48];
        aws_lc_rs::rand::fill(&mut secret).map_err(|_| io::Error::other("no randomness to be had"))?;
        let mut id = [0; 16];
        id.iter_mut().zip(secret).for_each(|(own, byte)| *own = byte);
        let slot = self.free.last().copied().unwrap_or(self.next);
        let mut plain = person.0.to_vec();
        plain.extend_from_slice(&secret);
        let mut bytes = [0; SLOT];
        let sealed = self.master.seal(&plain, &slot.to_le_bytes());
        bytes.iter_mut().zip(std::iter::once(USED).chain(sealed)).for_each(|(own, byte)| *own = byte);
        self.file.write_all_at(&bytes, offset(slot))?;
        if self.free.pop().is_none() {
            self.next += 1;
        }
        self.dirty = true;
        let entry = Entry { slot, id };
        self.people.insert(person, entry);
        Ok(entry)
    }

    /// The key of a person.
    ///
    /// # Errors
    ///
    /// When the slot cannot be read.
    pub fn key(&self, entry: Entry) -> io::Result<Sealer> {
        let mut bytes = [0; SLOT];
        self.file.read_exact_at(&mut bytes, offset(entry.slot))?;
        let (_, _, key) = self
            .unwrap(entry.slot, &bytes)
            .ok_or_else(|| io::Error::other("a slot of the key file is damaged"))?;
        Ok(Sealer::new(&key))
    }

    /// Makes new entries survive power loss.
    ///
    /// # Errors
    ///
    /// When syncing fails.
    pub fn sync(&mut self) -> io::Result<()> {
        if self.dirty {
            self.file.sync_data()?;
            self.dirty = false;
        }
        Ok(())
    }

    /// Overwrites a person's slot, durably. Gives the id that nobody can tie to the person any more.
    ///
    /// # Errors
    ///
    /// When it cannot be written: the person is not erased then.
    pub fn erase(&mut self, person: Person) -> io::Result<Option<[u8; 16]>> {
        let Some(entry) = self.find(person) else { return Ok(None) };
        let mut bytes = [0; SLOT];
        if let Some(state) = bytes.first_mut() {
            *state = ERASED;
        }
        self.file.write_all_at(&bytes, offset(entry.slot))?;
        self.file.sync_data()?;
        self.people.remove(&person);
        self.free.push(entry.slot);
        Ok(Some(entry.id))
    }

    /// The ids of all people.
    pub fn ids(&self) -> impl Iterator<Item = [u8; 16]> + '_ {
        self.people.values().map(|entry| entry.id)
    }

    /// How many people there are.
    pub fn len(&self) -> usize {
        self.people.len()
    }

    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.people.is_empty()
    }
}

fn offset(slot: u32) -> u64 {
    u64::from(slot) * SLOT as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, work: impl FnOnce(&Path)) {
        let path = std::env::temp_dir().join(format!("pixelward-keys-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        work(&path);
        std::fs::remove_file(&path).unwrap();
    }

    fn person(number: u8) -> Person {
        Person([number; 16])
    }

    #[test]
    fn people_are_found_again_and_erased_for_good() {
        check("erase", |path| {
            let store_key = StoreKey::new([1; 32]);
            let mut keys = Keys::open(path, &store_key).unwrap();
            let ann = keys.find_or_create(person(1)).unwrap();
            let bob = keys.find_or_create(person(2)).unwrap();
            let sealed = keys.key(ann).unwrap().seal(b"secret", b"");
            keys.sync().unwrap();
            let mut keys = Keys::open(path, &store_key).unwrap();
            assert_eq!(keys.find(person(1)), Some(ann));
            assert_eq!(keys.key(ann).unwrap().open(&sealed, b"").unwrap(), b"secret");
            assert_eq!(keys.erase(person(1)).unwrap(), Some(ann.id));
            let mut keys = Keys::open(path, &store_key).unwrap();
            assert_eq!((keys.find(person(1)), keys.find(person(2))), (None, Some(bob)));
            let again = keys.find_or_create(person(1)).unwrap();
            assert_ne!(again.id, ann.id);
            assert_eq!(again.slot, ann.slot);
            assert!(keys.key(again).unwrap().open(&sealed, b"").is_err());
        });
    }

    #[test]
    fn another_store_key_is_refused() {
        check("other", |path| {
            let mut keys = Keys::open(path, &StoreKey::new([1; 32])).unwrap();
            keys.find_or_create(person(1)).unwrap();
            assert!(Keys::open(path, &StoreKey::new([2; 32])).unwrap_err().to_string().contains("store.key"));
        });
    }

    #[test]
    fn a_slot_that_was_cut_off_harms_no_other() {
        check("torn", |path| {
            let store_key = StoreKey::new([1; 32]);
            let mut keys = Keys::open(path, &store_key).unwrap();
            let ann = keys.find_or_create(person(1)).unwrap();
            keys.find_or_create(person(2)).unwrap();
            let file = OpenOptions::new().write(true).open(path).unwrap();
            file.write_all_at(&[0; 40], 2 * SLOT as u64 + 60).unwrap();
            let keys = Keys::open(path, &store_key).unwrap();
            assert_eq!((keys.find(person(1)), keys.find(person(2))), (Some(ann), None));
        });
    }
}
