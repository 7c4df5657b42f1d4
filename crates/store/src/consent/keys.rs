//! The key file, which says whom a record is about. A slot holds a person, an id and the person's key,
//! wrapped under a key derived from the store key. Overwriting a slot erases the person: what the journal has
//! about the id can then be neither read nor attributed.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use hashbrown::HashTable;
use pixelward_files::Slots;
use pixelward_files::slots::{Bytes, SLOT, slot};

use super::person::{Person, StoreKey};
use super::seal::Sealer;
use super::timestamp::Timestamp;

/// The contents of the first slot, which identify the file.
const MAGIC: &[u8; 16] = b"pixelward keys 1";
/// The state of a slot; its first byte. Used slots of the first versions have no tag.
const USED: u8 = 1;
const TAGGED: u8 = 3;
/// The size of person, id and key.
const PLAIN: usize = 16 + 16 + 32;
const SEALED: usize = PLAIN + 28;
/// The position of the tag: the keyed hash of the person by which the slot is found without being opened.
const TAG: usize = 1 + SEALED;
/// The most slots that are walked through at once.
const WALKED: u32 = 8192;

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
    slots: Slots,
    master: Sealer,
    tags: StoreKey,
    people: HashTable<Known>,
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
            keys.slots.write(0, &slot(*MAGIC))?;
            keys.slots.sync()?;
            if let Some(directory) = path.parent() {
                File::open(directory)?.sync_all()?;
            }
            return Ok(keys);
        }
        keys.load()?;
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
            slots: Slots::over(file),
            master: Sealer::new(&store_key.derived("key file")),
            tags: StoreKey::new(store_key.derived("key file tags")),
            people: HashTable::new(),
            dirty: false,
            erasures: 0,
        }
    }

    /// Learns who has which slot. Opens only slots without a tag, and some of the others to check the store
    /// key.
    fn load(&mut self) -> io::Result<()> {
        let head = self.slots.read(0)?;
        if head.get(..MAGIC.len()) != Some(MAGIC.as_slice()) {
            return Err(io::Error::other("not a key file of pixelward"));
        }
        let erasures = head.get(MAGIC.len()..).and_then(|rest| rest.first_chunk::<8>());
        self.erasures = erasures.copied().map_or(0, u64::from_le_bytes);
        let end = self.slots.count()?;
        self.people.reserve(end as usize, hash);
        self.slots.set_end(end);
        let (mut opened, mut unreadable) = (0u32, 0u32);
        let mut known = Vec::new();
        let mut free = Vec::new();
        self.slots.each(1, end, |slot, bytes| match bytes.first() {
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
        free.into_iter().for_each(|slot| self.slots.release(slot));
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

    fn unwrap(&self, slot: u32, bytes: &Bytes) -> Option<(Person, [u8; 16], [u8; 32])> {
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
        let bytes = self.slots.read(slot).ok()?;
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
        let (_, short) = self.tag(person);
        if let Some(entry) = self.find_tagged(person, short) {
            return Ok((entry, false));
        }
        let (id, key) = fresh(Timestamp::now())?;
        Ok((self.insert(person, id, key)?, true))
    }

    /// Gives a person without an entry this id and key. It is durable only after [`Keys::sync`].
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn insert(&mut self, person: Person, id: [u8; 16], key: [u8; 32]) -> io::Result<Entry> {
        let (tag, short) = self.tag(person);
        let number = self.slots.next();
        let plain = [&person.0[..], &id, &key].concat();
        let sealed = self.master.seal(&plain, &number.to_le_bytes());
        let slot = self.slots.put(&slot(std::iter::once(TAGGED).chain(sealed).chain(tag)))?;
        self.dirty = true;
        let known = Known { tag: short, slot };
        self.people.insert_unique(hash(&known), known, hash);
        Ok(Entry { slot, id, key })
    }

    /// Makes new entries survive power failure.
    ///
    /// # Errors
    ///
    /// When syncing fails.
    pub fn sync(&mut self) -> io::Result<()> {
        if self.dirty {
            self.slots.sync()?;
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
        self.slots.write_head_at(MAGIC.len() as u64, &erasures.to_le_bytes())?;
        self.slots.sync()?;
        self.erasures = erasures;
        Ok(())
    }

    fn overwrite(&mut self, slot: u32) -> io::Result<()> {
        let bytes = self.slots.read(slot)?;
        let tag = match bytes.first() {
            Some(&TAGGED) => Some(tag_of(&bytes)),
            _ => self.unwrap(slot, &bytes).map(|(person, _, _)| self.tag(person).1),
        };
        self.slots.erase(slot)?;
        if let Some(tag) = tag
            && let Ok(known) = self.people.find_entry(hash(&Known { tag, slot }), |known| known.slot == slot)
        {
            known.remove();
        }
        self.slots.release(slot);
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
        self.slots.each(1, self.slots.count()?, |slot, bytes| {
            let owner = self.unwrap(slot, bytes).filter(|(_, id, _)| ids.contains(id));
            found.extend(owner.map(|(person, id, _)| Slot { slot, person, id }));
        })?;
        Ok(found)
    }

    /// Returns the people with these ids.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn people_of(&self, ids: &HashSet<[u8; 16]>) -> io::Result<Vec<([u8; 16], Person)>> {
        Ok(self.slots_of(ids)?.into_iter().map(|slot| (slot.id, slot.person)).collect())
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
        self.slots.sync()
    }

    /// Passes the ids of all people to `each`, in the order of the slots, and returns how many slots are
    /// damaged.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn each_id(&self, mut each: impl FnMut([u8; 16])) -> io::Result<u64> {
        let mut damaged = 0;
        self.slots.each(1, self.slots.count()?, |slot, bytes| {
            let settled = self.settled(slot, bytes);
            match (settled.first(), self.unwrap(slot, &settled)) {
                (Some(&(USED | TAGGED)), Some((_, id, _))) => each(id),
                (Some(&(USED | TAGGED)), None) => damaged += 1,
                _ => {}
            }
        })?;
        Ok(damaged)
    }

    /// Passes all people with their entries to `each`, in the order of the slots, which another process may
    /// be writing.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn each_entry(&self, mut each: impl FnMut(Person, Entry)) -> io::Result<()> {
        self.slots.each(1, self.slots.count()?, |slot, bytes| {
            let settled = self.settled(slot, bytes);
            if matches!(settled.first(), Some(&(USED | TAGGED)))
                && let Some((person, id, key)) = self.unwrap(slot, &settled)
            {
                each(person, Entry { slot, id, key });
            }
        })
    }

    /// Reads a slot that another process or thread may have half written: it is read again then.
    fn settled(&self, slot: u32, bytes: &Bytes) -> Bytes {
        const TRIES: usize = 100;
        let mut bytes = *bytes;
        for _ in 0..TRIES {
            if !matches!(bytes.first(), Some(&(USED | TAGGED))) || self.unwrap(slot, &bytes).is_some() {
                break;
            }
            bytes = self.slots.read(slot).unwrap_or(bytes);
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
        let end = first.saturating_add(count.min(WALKED)).min(self.slots.end());
        let mut found = Vec::new();
        self.slots.each(first, end, |slot, bytes| {
            if matches!(bytes.first(), Some(&(USED | TAGGED)))
                && let Some((person, id, key)) = self.unwrap(slot, bytes)
            {
                found.push((person, Entry { slot, id, key }));
            }
        })?;
        Ok((found, (first < end && end < self.slots.end()).then_some(end)))
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

/// Makes an id and a key for somebody new. The time precedes ten random bytes of the id, so that people added
/// together are adjacent in the index. The journal says when a record was made, so this reveals nothing new.
///
/// # Errors
///
/// When there is no randomness.
pub fn fresh(at: Timestamp) -> io::Result<([u8; 16], [u8; 32])> {
    let (mut id, mut key) = ([0; 16], [0; 32]);
    let filled = aws_lc_rs::rand::fill(&mut id).and_then(|()| aws_lc_rs::rand::fill(&mut key));
    filled.map_err(|_| io::Error::other("no randomness is available"))?;
    id.iter_mut().zip(at.0.to_be_bytes().iter().skip(2)).for_each(|(target, byte)| *target = *byte);
    Ok((id, key))
}

/// Copies a key file that another process may be writing: a slot that was half written is read again.
///
/// # Errors
///
/// When a file cannot be read or written.
pub fn copy_slots(from: &Path, to: &Path, store_key: &StoreKey) -> io::Result<()> {
    let keys = Keys::reader(from, store_key)?;
    let mut target = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to)?;
    target.write_all(&keys.slots.read(0)?)?;
    let mut failed = Ok(());
    keys.slots.each(1, keys.slots.count()?, |slot, bytes| {
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

fn tag_of(bytes: &Bytes) -> u32 {
    let tag = bytes.get(TAG..).and_then(|rest| rest.first_chunk::<4>());
    tag.copied().map_or(0, u32::from_le_bytes)
}

#[cfg(test)]
mod tests;
