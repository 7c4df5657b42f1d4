//! The tags under which a person appears in audit records, made so that erasing the person makes those tags
//! unknowable.
//!
//! Most recipients of mail are nobody's subject in the journal, and they have a right to erasure all the
//! same. Three designs were weighed. A slot of the key file for everybody who ever gets mail would hold data
//! about people of whom nothing is recorded, without an end. A keyed hash under a key of the segment cannot
//! be cut for one person without cutting it for all. What stands here needs nothing for each person, but a
//! little for each one erased: a keyed hash that can be punctured (Goldreich, Goldwasser, Micali: "How to
//! construct random functions"; Boneh and Waters: "Constrained pseudorandom functions").
//!
//! One random root is the top of a tree. The four children of a key are hashes of it, and the first 40 bits
//! of a [`Person`] lead down to a leaf, the key from which the person's tags are made. To erase a person, the
//! root is replaced by the keys beside the path to that leaf, and overwritten. All other leaves can still be
//! computed, this one by nobody, whatever else is known: store key, address, every file. Evidence, and every
//! copy of it, stays as it is and whole; only this file's copies must expire, as those of the key file must.
//!
//! Who gets mail again after being erased finds their leaf gone and has one in the next generation, a tree of
//! its own, which nothing ties to the leaf before. Two people who share 40 bits (one chance in a million
//! millions) share a leaf, not a tag; erasing one takes the evidence of both from its owners. An erasure
//! takes 60 slots of 128 bytes at most. Who has the store key can see that an address was erased, not what
//! belonged to it.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use aws_lc_rs::digest;
use pixelward_files::Slots;
use pixelward_files::slots::{Bytes, ERASED, SLOT, slot};

use super::person::{Person, StoreKey};
use super::seal::Sealer;

/// The first slot says what file this is.
const MAGIC: &[u8; 24] = b"pixelward pseudonyms 1\r\n";
/// The state of a slot; its first byte.
const USED: u8 = 1;
/// Generation, depth, path, key.
const PLAIN: usize = 2 + 1 + 8 + 32;
const SEALED: usize = PLAIN + 28;
/// How deep the leaves are, and how many bits of the path each level takes.
const LEVELS: u8 = 20;
const BITS: u32 = 2;
/// How often a file is read that changes meanwhile.
const MAX_READS: usize = 1000;
/// The most generations: one begins when somebody who was erased in the one before gets mail again.
const MAX_GENERATIONS: u16 = 4096;

/// What makes the tags of one person.
pub struct Pseudonym {
    key: StoreKey,
    person: Person,
}

impl std::fmt::Debug for Pseudonym {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pseudonym(…)")
    }
}

impl Pseudonym {
    /// Returns the tag within a scope, such as one file. Tags of different scopes cannot be linked.
    pub fn tag(&self, scope: &[u8]) -> [u8; 16] {
        self.key.tag(&[&self.person.0, scope])
    }

    /// Derives a key for a use and a scope. Once the person is erased, nobody can derive it again.
    pub fn secret(&self, label: &str, scope: &[u8]) -> [u8; 32] {
        let key = StoreKey::new(self.key.derived(label));
        let halves = [key.tag(&[b"1", &self.person.0, scope]), key.tag(&[b"2", &self.person.0, scope])];
        let mut secret = [0; 32];
        secret.iter_mut().zip(halves.as_flattened()).for_each(|(target, byte)| *target = *byte);
        secret
    }
}

/// A key of a tree by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Node {
    generation: u16,
    depth: u8,
    /// The digits that lead there, as one number.
    path: u64,
}

#[derive(Clone, Copy)]
struct Held {
    slot: u32,
    key: [u8; 32],
}

/// The keys from which all tags can be made except those of erased people.
pub struct Pseudonyms {
    slots: Slots,
    master: Sealer,
    nodes: HashMap<Node, Held>,
    generations: u16,
    /// The damage found.
    damage: Damage,
}

/// The damage in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Damage {
    /// The first slot does not identify the file, but others open.
    has_bad_head: bool,
    /// Slots that do not open.
    unreadable: u32,
    /// Slots that were cut off, or missing keys.
    lost: u32,
    /// Keys that must have existed: nobody erases a whole branch of a tree.
    missing: usize,
}

impl Damage {
    /// Describes the damage; nothing if there is none.
    fn said(&self) -> Option<String> {
        let Damage { has_bad_head, unreadable, lost, missing } = *self;
        (*self != Damage::default()).then(|| {
            let head = if has_bad_head { "its first bytes are damaged, " } else { "" };
            format!(
                "{head}{unreadable} slots do not open, {lost} keys or slots are gone, {missing} keys must be \
                 recreated"
            )
        })
    }
}

impl std::fmt::Debug for Pseudonyms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pseudonyms({} keys)", self.nodes.len())
    }
}

impl Pseudonyms {
    /// Opens the file, or creates it with a fresh root.
    ///
    /// # Errors
    ///
    /// When it cannot be used, or was written under another store key.
    pub fn open(path: &Path, store_key: &StoreKey) -> io::Result<Pseudonyms> {
        if !std::fs::exists(path)? {
            return Pseudonyms::fresh(path, store_key);
        }
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut opened = Pseudonyms::over(file, store_key);
        opened.load(&snapshot(path)?)?;
        Ok(opened)
    }

    /// Creates the file: complete or not at all, so that an incomplete one is damage.
    fn fresh(path: &Path, store_key: &StoreKey) -> io::Result<Pseudonyms> {
        let file = pixelward_files::unfinished(path)?;
        let mut made = Pseudonyms::over(file.try_clone()?, store_key);
        made.plant()?;
        pixelward_files::finish(path, &file)?;
        Ok(made)
    }

    /// Describes the damage in a file that another process may have open; nothing if there is none.
    pub fn inspect(path: &Path, store_key: &StoreKey) -> Option<String> {
        match Pseudonyms::read(path, store_key) {
            Ok(read) => read.damage.said(),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Repairs damage as far as possible, durably, and returns what it was: missing keys are recreated, so
    /// the people who had them get different ones. Nothing restores what was erased.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn repair(&mut self) -> io::Result<Option<String>> {
        let said = self.damage.said();
        if said.is_some() {
            for node in self.holes() {
                let mut key = [0; 32];
                aws_lc_rs::rand::fill(&mut key)
                    .map_err(|_| io::Error::other("no randomness is available"))?;
                self.put(node, key)?;
            }
            self.write_head(self.nodes.len())?;
            // Part of another slot may follow the last one.
            self.slots.tidy()?;
            self.slots.sync()?;
            self.damage = Damage::default();
        }
        Ok(said)
    }

    /// Writes what identifies the file, and how many slots and keys it has at least.
    fn write_head(&self, keys: usize) -> io::Result<()> {
        let keys = u32::try_from(keys).unwrap_or(u32::MAX);
        let counts = [self.slots.end().to_le_bytes(), keys.to_le_bytes()].concat();
        let crc = crc32fast::hash(&counts).to_le_bytes();
        self.slots.write(0, &slot(MAGIC.iter().copied().chain(counts).chain(crc)))
    }

    /// Reads the file, which another process may have open.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or was written under another store key.
    pub fn read(path: &Path, store_key: &StoreKey) -> io::Result<Pseudonyms> {
        let mut pseudonyms = Pseudonyms::over(File::open(path)?, store_key);
        pseudonyms.load(&snapshot(path)?)?;
        Ok(pseudonyms)
    }

    fn over(file: File, store_key: &StoreKey) -> Pseudonyms {
        Pseudonyms {
            slots: Slots::over(file),
            master: Sealer::new(&store_key.derived("pseudonyms")),
            nodes: HashMap::new(),
            generations: 0,
            damage: Damage::default(),
        }
    }

    fn load(&mut self, file: &[u8]) -> io::Result<()> {
        let slots = file.as_chunks::<SLOT>().0;
        let end = u32::try_from(slots.len()).map_err(|_| io::Error::other("too large"))?;
        self.slots.set_end(end);
        let mut unreadable = 0;
        for (slot, bytes) in (0..end).zip(slots).skip(1) {
            match (bytes.first(), self.opened(slot, bytes)) {
                (Some(&USED), Some((node, key))) => {
                    self.generations = self.generations.max(node.generation + 1);
                    self.nodes.insert(node, Held { slot, key });
                }
                (Some(&USED), None) => {
                    unreadable += 1;
                    self.slots.release(slot);
                }
                // A byte that says neither is damage; an empty slot was never written.
                (Some(&state), _) if state > ERASED => {
                    unreadable += 1;
                    self.slots.release(slot);
                }
                _ => self.slots.release(slot),
            }
        }
        if self.nodes.is_empty() {
            return Err(io::Error::other(match unreadable {
                0 => "there is no pseudonym in this file",
                _ => "no slot opens with this store key; restore the right store.key from its backup",
            }));
        }
        let whole = u32::try_from(file.len().div_ceil(SLOT)).map_err(|_| io::Error::other("too large"))?;
        let found = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        let gone = |(slots, keys): (u32, u32)| slots.saturating_sub(end).max(keys.saturating_sub(found));
        let lost = counted(file).map_or(0, gone).max(whole.saturating_sub(end));
        let has_bad_head = !file.starts_with(MAGIC);
        self.damage = Damage { has_bad_head, unreadable, lost, missing: self.holes().len() };
        Ok(())
    }

    /// Finds the keys that must have existed. A tree has each key, or those below it: only a leaf disappears
    /// without a trace.
    fn holes(&self) -> Vec<Node> {
        let mut above = HashSet::new();
        for node in self.nodes.keys() {
            for depth in (0..node.depth).rev() {
                let path = node.path >> (BITS * u32::from(node.depth - depth));
                if !above.insert(Node { generation: node.generation, depth, path }) {
                    break;
                }
            }
        }
        let is_there = |node: &Node| self.nodes.contains_key(node) || above.contains(node);
        let root = |generation| Node { generation, depth: 0, path: 0 };
        let mut holes: Vec<Node> = (0..self.generations).map(root).filter(|node| !is_there(node)).collect();
        let is_open = |node: &&Node| !self.nodes.contains_key(node) && node.depth + 1 < LEVELS;
        for node in above.iter().filter(is_open) {
            let below = (0..1u64 << BITS).map(|digit| Node {
                generation: node.generation,
                depth: node.depth + 1,
                path: node.path << BITS | digit,
            });
            holes.extend(below.filter(|node| !is_there(node)));
        }
        holes
    }

    fn opened(&self, slot: u32, bytes: &Bytes) -> Option<(Node, [u8; 32])> {
        let plain = self.master.open(bytes.get(1..=SEALED)?, &slot.to_le_bytes()).ok()?;
        let (generation, rest) = plain.split_first_chunk::<2>()?;
        let (depth, rest) = rest.split_first()?;
        let (path, key) = rest.split_first_chunk::<8>()?;
        let generation = u16::from_le_bytes(*generation);
        let node = Node { generation, depth: *depth, path: u64::from_le_bytes(*path) };
        (generation < MAX_GENERATIONS && *depth <= LEVELS).then_some((node, key.try_into().ok()?))
    }

    /// Returns what makes a person's tags; `None` if they were erased and had no mail since.
    pub fn of(&self, person: Person) -> Option<Pseudonym> {
        let path = path_of(person);
        let (node, held) = self.above(path)?;
        let key = (node.depth..LEVELS).fold(held.key, |key, depth| child(&key, digit(path, depth)));
        Some(Pseudonym { key: StoreKey::new(key), person })
    }

    /// Returns the key in the first generation that has one on this path, nearest to the root.
    fn above(&self, path: u64) -> Option<(Node, Held)> {
        (0..self.generations).find_map(|generation| {
            (0..=LEVELS).find_map(|depth| {
                let node = Node { generation, depth, path: prefix(path, depth) };
                self.nodes.get(&node).map(|held| (node, *held))
            })
        })
    }

    /// Returns the same; for a person erased in every generation it begins the next one, durably.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn of_or_new(&mut self, person: Person) -> io::Result<Pseudonym> {
        if self.above(path_of(person)).is_none() {
            self.plant()?;
        }
        self.of(person).ok_or_else(|| io::Error::other("no generation of pseudonyms is left"))
    }

    /// Creates a fresh tree.
    fn plant(&mut self) -> io::Result<()> {
        if self.generations >= MAX_GENERATIONS {
            return Ok(());
        }
        let mut key = [0; 32];
        aws_lc_rs::rand::fill(&mut key).map_err(|_| io::Error::other("no randomness is available"))?;
        self.put(Node { generation: self.generations, depth: 0, path: 0 }, key)?;
        self.slots.sync()?;
        self.write_head(self.nodes.len())?;
        self.slots.sync()?;
        self.generations += 1;
        Ok(())
    }

    /// Erases a person, durably: nobody can compute their tags any more. Returns whether anybody could.
    ///
    /// # Errors
    ///
    /// When it cannot be written: the person is not erased then.
    pub fn erase(&mut self, person: Person) -> io::Result<bool> {
        let path = path_of(person);
        let Some((top, held)) = self.above(path) else { return Ok(false) };
        let mut key = held.key;
        for depth in top.depth..LEVELS {
            let taken = digit(path, depth);
            for other in (0..1 << BITS).filter(|other| *other != taken) {
                let beside = prefix(path, depth) << BITS | u64::from(other);
                let node = Node { generation: top.generation, depth: depth + 1, path: beside };
                self.put(node, child(&key, other))?;
            }
            key = child(&key, taken);
        }
        // Nobody else may lose their tags to a crash: the keys beside the path are on disk before the key
        // above them is removed.
        self.slots.sync()?;
        // Never more than there are, so that nobody mistakes a power failure for damage.
        self.write_head(self.nodes.len().saturating_sub(1))?;
        self.slots.sync()?;
        self.slots.erase(held.slot)?;
        self.slots.sync()?;
        self.nodes.remove(&top);
        self.slots.release(held.slot);
        Ok(true)
    }

    fn put(&mut self, node: Node, key: [u8; 32]) -> io::Result<()> {
        // After an interrupted erasure, it may exist already.
        if self.nodes.contains_key(&node) {
            return Ok(());
        }
        let mut plain = node.generation.to_le_bytes().to_vec();
        plain.push(node.depth);
        plain.extend_from_slice(&node.path.to_le_bytes());
        plain.extend_from_slice(&key);
        let sealed = self.master.seal(&plain, &self.slots.next().to_le_bytes());
        let slot = self.slots.put(&slot([USED].into_iter().chain(sealed)))?;
        self.nodes.insert(node, Held { slot, key });
        Ok(())
    }
}

/// Returns how many slots and keys a file had when it was last written; `None` if an early version wrote it,
/// or the numbers are damaged.
fn counted(file: &[u8]) -> Option<(u32, u32)> {
    let (counts, rest) = file.get(MAGIC.len()..)?.split_first_chunk::<8>()?;
    let (crc, _) = rest.split_first_chunk::<4>()?;
    let (slots, keys) = counts.split_first_chunk::<4>()?;
    let keys = u32::from_le_bytes(keys.try_into().ok()?);
    (crc32fast::hash(counts) == u32::from_le_bytes(*crc)).then_some((u32::from_le_bytes(*slots), keys))
}

/// Reads a consistent state of a file that another process may be writing: half an erasure would lose
/// everybody's tags.
fn snapshot(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = std::fs::read(path)?;
    for _ in 0..MAX_READS {
        let again = std::fs::read(path)?;
        if again == bytes {
            return Ok(bytes);
        }
        bytes = again;
    }
    Err(io::Error::other("it keeps changing"))
}

/// Copies the file, which another process may be writing.
///
/// # Errors
///
/// When a file cannot be read or written.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let bytes = snapshot(from)?;
    pixelward_files::write_private(to, &bytes).map(drop)
}

/// Returns the 40 bits that lead to a person's leaf.
fn path_of(person: Person) -> u64 {
    person.0.iter().take(5).fold(0, |path, byte| path << 8 | u64::from(*byte))
}

/// Returns the first `depth` digits of a path.
fn prefix(path: u64, depth: u8) -> u64 {
    path >> (BITS * u32::from(LEVELS - depth))
}

/// Returns the digit after the first `depth` ones.
fn digit(path: u64, depth: u8) -> u8 {
    (prefix(path, depth + 1) & ((1 << BITS) - 1)) as u8
}

fn child(key: &[u8; 32], digit: u8) -> [u8; 32] {
    let mut input = [digit; 33];
    input.iter_mut().zip(key).for_each(|(target, byte)| *target = *byte);
    let mut child = [0; 32];
    let hash = digest::digest(&digest::SHA256, &input);
    child.iter_mut().zip(hash.as_ref()).for_each(|(target, byte)| *target = *byte);
    child
}

#[cfg(test)]
mod tests;
