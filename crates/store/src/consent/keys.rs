//! The key file, which says whom a record is about. A slot holds a person, an id and the person's key,
//! wrapped under a key derived from the store key. Overwriting a slot erases the person: what the journal has
//! about the id can then be neither read nor attributed.
//!
//! A slot has 128 bytes and lies within one disk sector, so that an interrupted write damages no other slot.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use hashbrown::HashTable;

use super::person::{Person, StoreKey};
use super::seal::Sealer;
use super::timestamp::Timestamp;

const SLOT: usize = 128;
/// The contents of the first slot, which identify the file.
const MAGIC: &[u8; 16] = b"pixelward keys 1";
/// The state of a slot; its first byte. Used slots of the first versions have no tag.
const USED: u8 = 1;
const ERASED: u8 = 2;
const TAGGED: u8 = 3;
/// The size of person, id and key.
const PLAIN: usize = 16 + 16 + 32;
const SEALED: usize = PLAIN + 28;
/// The position of the tag: the keyed hash of the person by which the slot is found without being opened.
const TAG: usize = 1 + SEALED;
/// How many bytes of slots are read at once.
const READ: usize = 8192 * SLOT;

/// A person's entry in the key file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    slot: u32,
    /// The id used in the journal.
    pub id: [u8; 16],
    key: [u8; 32],
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Entry({})", self.slot)
    }
}

impl Entry {
    /// The slot's index in the file.
    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// The person's key.
    pub fn sealer(&self) -> Sealer {
        Sealer::new(&self.key)
    }
}

/// A slot with its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    slot: u32,
    /// The person.
    pub person: Person,
    id: [u8; 16],
}
/// Some people with their entries, and the next slot if there is one.
pub type Walked = (Vec<(Person, Entry)>, Option<u32>);

/// Maps tags to slots. Eight bytes per person: the slot itself says whether it is the right one.
#[derive(Clone, Copy)]
struct Known {
    tag: u32,
    slot: u32,
}

/// The key file.
pub struct Keys {
    file: File,
    master: Sealer,
    tags: StoreKey,
    people: HashTable<Known>,
    free: Vec<u32>,
    next: u32,
    dirty: bool,
    /// How many people were ever erased in this file.
    erasures: u64,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({} people)", self.people.len())
    }
}

impl Keys {
    /// Opens or creates the key file.
    ///
    /// # Errors
    ///
    /// When the file cannot be used, or the first slots do not open with this store key.
    pub fn open(path: &Path, store_key: &StoreKey) -> io::Result<Keys> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let length = file.metadata()?.len();
        let mut keys = Keys::over(file, store_key);
        if length < SLOT as u64 {
            let mut head = [0; SLOT];
            head.iter_mut().zip(MAGIC).for_each(|(target, byte)| *target = *byte);
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

    /// Opens the key file for reading beside the process that writes it: people cannot be looked up, but
    /// slots can be scanned.
    ///
    /// # Errors
    ///
    /// When it cannot be opened.
    pub fn reader(path: &Path, store_key: &StoreKey) -> io::Result<Keys> {
        Ok(Keys::over(OpenOptions::new().read(true).open(path)?, store_key))
    }

    /// Returns an empty key file object.
    fn over(file: File, store_key: &StoreKey) -> Keys {
        Keys {
            file,
            master: Sealer::new(&store_key.derived("key file")),
            tags: StoreKey::new(store_key.derived("key file tags")),
            people: HashTable::new(),
            free: Vec::new(),
            next: 1,
            dirty: false,
            erasures: 0,
        }
    }

    /// Learns who has which slot. Opens only slots without a tag, and some of the others to check the store
    /// key.
    fn load(&mut self, length: u64) -> io::Result<()> {
        let mut head = [0; SLOT];
        self.file.read_exact_at(&mut head, 0)?;
        if head.get(..MAGIC.len()) != Some(MAGIC.as_slice()) {
            return Err(io::Error::other("not a key file of pixelward"));
        }
        let erasures = head.get(MAGIC.len()..).and_then(|rest| rest.first_chunk::<8>());
        self.erasures = erasures.copied().map_or(0, u64::from_le_bytes);
        let slots = slots(length)?;
        self.people.reserve(slots as usize, hash);
        self.next = slots.max(1);
        let (mut opened, mut unreadable) = (0u32, 0u32);
        let mut known = Vec::new();
        let mut free = Vec::new();
        self.each_slot(|slot, bytes| match bytes.first() {
            Some(&TAGGED) => {
                // As long as none could be opened, each may show that the store key is a different one.
                let is_sound = opened > 0 || self.unwrap(slot, bytes).is_some();
                opened += u32::from(is_sound);
                unreadable += u32::from(!is_sound);
                known.push(Known { tag: tag_of(bytes), slot });
            }
            Some(&USED) => match self.unwrap(slot, bytes) {
                Some((person, _, _)) => {
                    opened += 1;
                    known.push(Known { tag: self.tag(person).1, slot });
                }
                None => {
                    unreadable += 1;
                    free.push(slot);
                }
            },
            _ => free.push(slot),
        })?;
        if unreadable > 0 && opened == 0 {
            return Err(io::Error::other(
                "no slot opens with this store key; restore the right store.key from its backup",
            ));
        }
        self.free = free;
        for entry in known {
            self.people.insert_unique(hash(&entry), entry, hash);
        }
        if unreadable > 0 {
            tracing::warn!(
                unreadable,
                "slots of the key file are incomplete or damaged; their people are now unknown"
            );
        }
        Ok(())
    }

    /// Passes every slot to `each`, in order.
    fn each_slot(&self, mut each: impl FnMut(u32, &[u8; SLOT])) -> io::Result<()> {
        let slots = slots(self.file.metadata()?.len())?;
        let mut buffer = vec![0; READ];
        let mut slot = 1;
        while slot < slots {
            let count = (slots - slot).min((READ / SLOT) as u32);
            let part = buffer.get_mut(..count as usize * SLOT).unwrap_or_default();
            self.file.read_exact_at(part, offset(slot))?;
            for bytes in part.as_chunks::<SLOT>().0 {
                each(slot, bytes);
                slot += 1;
            }
        }
        Ok(())
    }

    fn unwrap(&self, slot: u32, bytes: &[u8; SLOT]) -> Option<(Person, [u8; 16], [u8; 32])> {
        let plain = self.master.open(bytes.get(1..=SEALED)?, &slot.to_le_bytes()).ok()?;
        let (person, rest) = plain.split_first_chunk::<16>()?;
        let (id, key) = rest.split_first_chunk::<16>()?;
        Some((Person(*person), *id, key.try_into().ok()?))
    }

    /// Returns the tag of a person as stored in the file, and the part of it that is kept in memory.
    fn tag(&self, person: Person) -> ([u8; 8], u32) {
        let whole = self.tags.tag(&[&person.0]);
        let tag = whole.first_chunk::<8>().copied().unwrap_or_default();
        (tag, tag.first_chunk::<4>().copied().map_or(0, u32::from_le_bytes))
    }

    /// Returns a person's entry, if there is one.
    pub fn find(&self, person: Person) -> Option<Entry> {
        let (_, tag) = self.tag(person);
        self.find_tagged(person, tag)
    }

    fn find_tagged(&self, person: Person, tag: u32) -> Option<Entry> {
        let mut found = None;
        // Two people may have the same tag: the slot itself says whose it is.
        self.people.find(hash(&Known { tag, slot: 0 }), |known| {
            if known.tag != tag {
                return false;
            }
            found = self.read(known.slot).filter(|(owner, _)| *owner == person).map(|(_, entry)| entry);
            found.is_some()
        });
        found
    }

    fn read(&self, slot: u32) -> Option<(Person, Entry)> {
        let mut bytes = [0; SLOT];
        self.file.read_exact_at(&mut bytes, offset(slot)).ok()?;
        let (person, id, key) = self.unwrap(slot, &bytes)?;
        Some((person, Entry { slot, id, key }))
    }

    /// Returns a person's entry, creating it if needed, and whether it was created. It is durable only after
    /// [`Keys::sync`].
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn find_or_create(&mut self, person: Person) -> io::Result<(Entry, bool)> {
        let (tag, short) = self.tag(person);
        if let Some(entry) = self.find_tagged(person, short) {
            return Ok((entry, false));
        }
        let (mut id, mut key) = ([0; 16], [0; 32]);
        let filled = aws_lc_rs::rand::fill(&mut id).and_then(|()| aws_lc_rs::rand::fill(&mut key));
        filled.map_err(|_| io::Error::other("no randomness is available"))?;
        // The time of creation precedes ten random bytes, so that people added together are adjacent in the
        // index. The journal says when a record was made, so this reveals nothing new.
        let made = Timestamp::now().0.to_be_bytes();
        id.iter_mut().zip(made.iter().skip(2)).for_each(|(target, byte)| *target = *byte);
        let slot = self.free.last().copied().unwrap_or(self.next);
        let plain = [&person.0[..], &id, &key].concat();
        let sealed = self.master.seal(&plain, &slot.to_le_bytes());
        let mut bytes = [0; SLOT];
        let content = std::iter::once(TAGGED).chain(sealed).chain(tag);
        bytes.iter_mut().zip(content).for_each(|(target, byte)| *target = byte);
        self.file.write_all_at(&bytes, offset(slot))?;
        if self.free.pop().is_none() {
            self.next += 1;
        }
        self.dirty = true;
        let known = Known { tag: short, slot };
        self.people.insert_unique(hash(&known), known, hash);
        Ok((Entry { slot, id, key }, true))
    }

    /// Makes new entries survive power failure.
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

    /// Overwrites a person's slot, durably. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// When it cannot be written: the person is not erased then.
    pub fn erase(&mut self, person: Person) -> io::Result<bool> {
        let Some(entry) = self.find(person) else { return Ok(false) };
        self.overwrite(entry.slot)?;
        self.set_erasures(self.erasures + 1)?;
        Ok(true)
    }

    /// Returns how many erasures of the journal this file knows. If the number differs, the file is not the
    /// newest.
    pub fn erasures(&self) -> u64 {
        self.erasures
    }

    /// Notes how many erasures of the journal are done here, and syncs the whole file.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn set_erasures(&mut self, erasures: u64) -> io::Result<()> {
        self.file.write_all_at(&erasures.to_le_bytes(), MAGIC.len() as u64)?;
        self.file.sync_data()?;
        self.erasures = erasures;
        Ok(())
    }

    fn overwrite(&mut self, slot: u32) -> io::Result<()> {
        let mut bytes = [0; SLOT];
        self.file.read_exact_at(&mut bytes, offset(slot))?;
        let tag = match bytes.first() {
            Some(&TAGGED) => Some(tag_of(&bytes)),
            _ => self.unwrap(slot, &bytes).map(|(person, _, _)| self.tag(person).1),
        };
        let mut empty = [0; SLOT];
        if let Some(state) = empty.first_mut() {
            *state = ERASED;
        }
        self.file.write_all_at(&empty, offset(slot))?;
        if let Some(tag) = tag
            && let Ok(known) = self.people.find_entry(hash(&Known { tag, slot }), |known| known.slot == slot)
        {
            known.remove();
        }
        self.free.push(slot);
        Ok(())
    }

    /// Erases the people with these ids, durably: people whose erasure is in the journal, and who came back
    /// with a backup of the keys. Returns those that were found.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or written.
    pub fn erase_ids(&mut self, ids: &HashSet<[u8; 16]>) -> io::Result<Vec<Person>> {
        let slots = self.slots_of(ids)?;
        self.erase_slots(&slots)?;
        Ok(slots.into_iter().map(|slot| slot.person).collect())
    }

    /// Finds the slots with these ids.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn slots_of(&self, ids: &HashSet<[u8; 16]>) -> io::Result<Vec<Slot>> {
        let mut found = Vec::new();
        self.each_slot(|slot, bytes| {
            let owner = self.unwrap(slot, bytes).filter(|(_, id, _)| ids.contains(id));
            found.extend(owner.map(|(person, id, _)| Slot { slot, person, id }));
        })?;
        Ok(found)
    }

    /// Overwrites slots, durably, if they still belong to the same people.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or written.
    pub fn erase_slots(&mut self, slots: &[Slot]) -> io::Result<()> {
        for item in slots {
            if self.read(item.slot).is_some_and(|(_, entry)| entry.id == item.id) {
                self.overwrite(item.slot)?;
            }
        }
        self.file.sync_data()
    }

    /// Passes the ids of all people to `each`, in the order of the slots, and returns how many slots are
    /// damaged.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn each_id(&self, mut each: impl FnMut([u8; 16])) -> io::Result<u64> {
        let mut damaged = 0;
        self.each_slot(|slot, bytes| {
            let settled = self.settled(slot, bytes);
            match (settled.first(), self.unwrap(slot, &settled)) {
                (Some(&(USED | TAGGED)), Some((_, id, _))) => each(id),
                (Some(&(USED | TAGGED)), None) => damaged += 1,
                _ => {}
            }
        })?;
        Ok(damaged)
    }

    /// Reads a slot that another process or thread may have half written: it is read again then.
    fn settled(&self, slot: u32, bytes: &[u8; SLOT]) -> [u8; SLOT] {
        const TRIES: usize = 100;
        let mut bytes = *bytes;
        for _ in 0..TRIES {
            if !matches!(bytes.first(), Some(&(USED | TAGGED))) || self.unwrap(slot, &bytes).is_some() {
                break;
            }
            let _ = self.file.read_exact_at(&mut bytes, offset(slot));
        }
        bytes
    }

    /// Returns people with their entries in the order of their slots, from `slot` on and over `count` slots,
    /// and the next slot; `None` at the end.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn walk(&self, slot: u32, count: u32) -> io::Result<Walked> {
        let first = slot.max(1);
        let end = first.saturating_add(count.min((READ / SLOT) as u32)).min(self.next);
        if end <= first {
            return Ok((Vec::new(), None));
        }
        let mut buffer = vec![0; (end - first) as usize * SLOT];
        self.file.read_exact_at(&mut buffer, offset(first))?;
        let mut found = Vec::new();
        for (slot, bytes) in (first..end).zip(buffer.as_chunks::<SLOT>().0) {
            if matches!(bytes.first(), Some(&(USED | TAGGED)))
                && let Some((person, id, key)) = self.unwrap(slot, bytes)
            {
                found.push((person, Entry { slot, id, key }));
            }
        }
        Ok((found, (end < self.next).then_some(end)))
    }

    /// Returns how many people there are.
    pub fn len(&self) -> usize {
        self.people.len()
    }

    /// Returns whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.people.is_empty()
    }
}

/// Copies a key file that another process may be writing: a slot that was half written is read again.
///
/// # Errors
///
/// When a file cannot be read or written.
pub fn copy_slots(from: &Path, to: &Path, store_key: &StoreKey) -> io::Result<()> {
    let keys = Keys::reader(from, store_key)?;
    let mut target = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to)?;
    let mut head = [0; SLOT];
    keys.file.read_exact_at(&mut head, 0)?;
    target.write_all(&head)?;
    let mut failed = Ok(());
    keys.each_slot(|slot, bytes| {
        if failed.is_ok() {
            failed = target.write_all(&keys.settled(slot, bytes));
        }
    })?;
    failed?;
    target.sync_all()
}

/// Hashes a tag for the table. Tags are keyed hashes already; they are spread over all bits, because the
/// table uses the highest ones too.
fn hash(known: &Known) -> u64 {
    u64::from(known.tag).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn tag_of(bytes: &[u8; SLOT]) -> u32 {
    let tag = bytes.get(TAG..).and_then(|rest| rest.first_chunk::<4>());
    tag.copied().map_or(0, u32::from_le_bytes)
}

fn slots(length: u64) -> io::Result<u32> {
    u32::try_from(length / SLOT as u64).map_err(|_| io::Error::other("the key file is too large"))
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
            let (ann, _) = keys.find_or_create(person(1)).unwrap();
            let (bob, _) = keys.find_or_create(person(2)).unwrap();
            let sealed = ann.sealer().seal(b"secret", b"");
            keys.sync().unwrap();
            let mut keys = Keys::open(path, &store_key).unwrap();
            assert_eq!(keys.find(person(1)), Some(ann));
            assert_eq!(keys.find(person(1)).unwrap().sealer().open(&sealed, b"").unwrap(), b"secret");
            assert!(keys.erase(person(1)).unwrap());
            assert_eq!((keys.find(person(1)), keys.len()), (None, 1));
            let mut keys = Keys::open(path, &store_key).unwrap();
            assert_eq!((keys.find(person(1)), keys.find(person(2))), (None, Some(bob)));
            let (again, is_new) = keys.find_or_create(person(1)).unwrap();
            assert!(is_new && again.id != ann.id);
            assert_eq!(again.slot, ann.slot);
            assert!(again.sealer().open(&sealed, b"").is_err());
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
            let (ann, _) = keys.find_or_create(person(1)).unwrap();
            keys.find_or_create(person(2)).unwrap();
            let file = OpenOptions::new().write(true).open(path).unwrap();
            file.write_all_at(&[0; 40], 2 * SLOT as u64 + 60).unwrap();
            let keys = Keys::open(path, &store_key).unwrap();
            assert_eq!((keys.find(person(1)), keys.find(person(2))), (Some(ann), None));
        });
    }

    #[test]
    fn people_with_one_tag_are_told_apart_and_a_table_that_grows_loses_nobody() {
        check("many", |path| {
            let store_key = StoreKey::new([1; 32]);
            let mut keys = Keys::open(path, &store_key).unwrap();
            let person = |number: u32| Person([number.to_le_bytes(); 4].concat().try_into().unwrap());
            let made: Vec<Entry> =
                (0..3000).map(|number| keys.find_or_create(person(number)).unwrap().0).collect();
            // As if the two had one tag.
            let (tag, other) = (keys.tag(person(1)).1, keys.find(person(2)).unwrap());
            let known = Known { tag, slot: other.slot };
            keys.people.insert_unique(hash(&known), known, hash);
            assert_eq!(keys.find(person(1)), Some(made[1]));
            let keys = Keys::open(path, &store_key).unwrap();
            assert_eq!(keys.len(), 3000);
            for number in (0..3000).step_by(7) {
                assert_eq!(keys.find(person(number)), Some(made[number as usize]));
            }
            assert_eq!(keys.find(person(3000)), None);
        });
    }

    #[test]
    fn slots_without_a_tag_are_found_and_erased_too() {
        check("untagged", |path| {
            let store_key = StoreKey::new([1; 32]);
            let mut keys = Keys::open(path, &store_key).unwrap();
            let (ann, _) = keys.find_or_create(person(1)).unwrap();
            keys.find_or_create(person(2)).unwrap();
            let mut bytes = [0; SLOT];
            keys.file.read_exact_at(&mut bytes, offset(ann.slot)).unwrap();
            bytes[0] = USED;
            bytes[TAG..].fill(0);
            keys.file.write_all_at(&bytes, offset(ann.slot)).unwrap();
            let mut keys = Keys::open(path, &store_key).unwrap();
            assert_eq!(keys.find(person(1)), Some(ann));
            assert_eq!(keys.erase_ids(&HashSet::from([ann.id, [0; 16]])).unwrap(), [person(1)]);
            assert_eq!((keys.find(person(1)), keys.len()), (None, 1));
            assert_eq!(Keys::open(path, &store_key).unwrap().len(), 1);
        });
    }
}
