//! The index over the journal: the only file that names sled. It holds nothing that the journal and the key file do not give back, so
//! whatever is wrong with it ends in its being made anew.

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::journal::{Checkpoint, Head, Place};
use super::standing::Standing;
use super::trail::Trail;

/// What the index has of a controller and person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Indexed {
    /// What holds now.
    pub standing: Standing,
    /// Where the journal says so.
    pub trail: Trail,
}

/// A change of the index.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Controller and person's id.
    pub key: Vec<u8>,
    /// What holds from now on.
    pub indexed: Arc<Indexed>,
}

/// The few verbs the store needs. Another embedded database could stand behind them.
pub trait Index: Send + Sync {
    /// What stands under a key.
    ///
    /// # Errors
    ///
    /// When the index cannot be read.
    fn get(&self, key: &[u8]) -> io::Result<Option<Indexed>>;

    /// Takes entries in. They are durable after [`Index::mark`].
    ///
    /// # Errors
    ///
    /// When the index cannot be written.
    fn apply(&self, entries: &[Entry]) -> io::Result<()>;

    /// Takes keys out, durably.
    ///
    /// # Errors
    ///
    /// When the index cannot be written.
    fn forget(&self, keys: &[Vec<u8>]) -> io::Result<()>;

    /// Makes all that was applied durable, and writes down up to which record that goes.
    ///
    /// # Errors
    ///
    /// When the index cannot be written.
    fn mark(&self, checkpoint: &Checkpoint) -> io::Result<()>;

    /// The last record that it contains; `None` where nobody can say, so that it has to be made anew.
    fn checkpoint(&self) -> Option<Checkpoint>;

    /// The keys of a person, whatever the controller.
    ///
    /// # Errors
    ///
    /// When the index cannot be read.
    fn keys_of(&self, id: &[u8; 16]) -> io::Result<Vec<Vec<u8>>>;

    /// Everything, in the order of the keys.
    ///
    /// # Errors
    ///
    /// When the index cannot be read.
    fn all(&self) -> Box<dyn Iterator<Item = io::Result<(Vec<u8>, Indexed)>> + '_>;
}

/// The key of a controller and person.
pub fn key(controller: &str, id: &[u8; 16]) -> Vec<u8> {
    let mut key = controller.as_bytes().to_vec();
    key.push(0);
    key.extend_from_slice(id);
    key
}

/// sled 0.34. What it needs: `flush` does not sync on Linux, so the file is synced through a second descriptor; opening a damaged
/// file can panic, so that is done guarded; it grows without being told of a full disk, so a ballast file is kept aside.
pub struct SledIndex {
    db: sled::Db,
    standings: sled::Tree,
    file: File,
    mark: PathBuf,
    marked: Mutex<Option<Checkpoint>>,
}

/// The size of the file that is given up when the disk is full, so that sled can be opened once more.
const BALLAST: u64 = 8 << 20;

impl SledIndex {
    /// Opens the index in `directory`. One that is damaged or of another format is moved aside and begun anew; the caller then
    /// fills it from the journal, since there is no [`Index::checkpoint`].
    ///
    /// # Errors
    ///
    /// When no index can be made there at all.
    pub fn open(directory: &Path, cache_bytes: u64) -> io::Result<SledIndex> {
        let path = directory.join("index");
        match SledIndex::guarded(&path, directory, cache_bytes) {
            Ok(index) => Ok(index),
            Err(error) => {
                tracing::warn!(%error, "the index could not be opened; it is made anew from the journal");
                SledIndex::set_aside(directory)?;
                SledIndex::guarded(&path, directory, cache_bytes)
            }
        }
    }

    /// Moves the index aside, so that the next one opened is empty.
    ///
    /// # Errors
    ///
    /// When it cannot be moved.
    pub fn set_aside(directory: &Path) -> io::Result<()> {
        let path = directory.join("index");
        let aside = directory.join("index.damaged");
        let _ = std::fs::remove_dir_all(&aside);
        let _ = std::fs::remove_file(directory.join("index.mark"));
        match std::fs::rename(&path, &aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn guarded(path: &Path, directory: &Path, cache_bytes: u64) -> io::Result<SledIndex> {
        let ballast = directory.join("ballast");
        let opened = catch_unwind(AssertUnwindSafe(|| SledIndex::try_open(path, directory, cache_bytes)));
        let result = opened.unwrap_or_else(|_| Err(io::Error::other("sled panicked while opening")));
        if result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::StorageFull)
            && std::fs::remove_file(&ballast).is_ok()
        {
            return SledIndex::try_open(path, directory, cache_bytes);
        }
        if result.is_ok() && std::fs::metadata(&ballast).is_err() {
            let kept = File::create(&ballast).and_then(|file| {
                rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, BALLAST)
                    .map_err(io::Error::from)
            });
            if let Err(error) = kept {
                tracing::debug!(%error, "no ballast could be kept");
            }
        }
        result
    }

    fn try_open(path: &Path, directory: &Path, cache_bytes: u64) -> io::Result<SledIndex> {
        let db =
            sled::Config::new().path(path).cache_capacity(cache_bytes).flush_every_ms(Some(500)).open()?;
        let standings = db.open_tree("standings")?;
        let file = File::open(path.join("db"))?;
        let mark = directory.join("index.mark");
        let marked = std::fs::read(&mark).ok().and_then(|bytes| read_mark(&bytes)?.checkpoint);
        // What the database itself has written down last must be the same, or it lost something.
        let within = db.get(COUNT)?.and_then(|bytes| bytes.as_ref().try_into().ok().map(u64::from_le_bytes));
        let marked = marked.filter(|own| within == Some(own.head.count));
        Ok(SledIndex { db, standings, file, mark, marked: Mutex::new(marked) })
    }

    fn sync(&self) -> io::Result<()> {
        self.db.flush()?;
        self.file.sync_data()
    }
}

/// Where the database has the number of the last record.
const COUNT: &[u8] = b"count";

/// The format of the mark; its first byte.
const MARK_VERSION: u8 = 2;

/// How far an index goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The number of the last record that it contains.
    pub count: u64,
    /// That record; not in marks of format 1.
    pub checkpoint: Option<Checkpoint>,
}

/// Reads the file that says how far the index goes.
pub fn read_mark(bytes: &[u8]) -> Option<Mark> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
        return None;
    }
    let (&version, rest) = body.split_first()?;
    let (count, rest) = rest.split_first_chunk::<8>()?;
    let count = u64::from_le_bytes(*count);
    match version {
        1 => Some(Mark { count, checkpoint: None }),
        MARK_VERSION => {
            let (hash, rest) = rest.split_first_chunk::<32>()?;
            let (segment, offset) = rest.split_first_chunk::<4>()?;
            let offset = u32::from_le_bytes(offset.try_into().ok()?);
            let last = Place { segment: u32::from_le_bytes(*segment), offset };
            Some(Mark { count, checkpoint: Some(Checkpoint { head: Head { count, hash: *hash }, last }) })
        }
        _ => None,
    }
}

fn written(checkpoint: &Checkpoint) -> Vec<u8> {
    let mut bytes = vec![MARK_VERSION];
    bytes.extend_from_slice(&checkpoint.head.count.to_le_bytes());
    bytes.extend_from_slice(&checkpoint.head.hash);
    bytes.extend_from_slice(&checkpoint.last.segment.to_le_bytes());
    bytes.extend_from_slice(&checkpoint.last.offset.to_le_bytes());
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a value of the index is malformed")
}

/// A value as it stands in the database: behind it a checksum over key and value, so that one in the wrong place is damage, too.
fn checked(key: &[u8], indexed: &Indexed) -> Vec<u8> {
    let mut value = Vec::with_capacity(192);
    indexed.trail.encode(&mut value);
    value.extend_from_slice(&indexed.standing.encode());
    let crc = checksum(key, &value);
    value.extend_from_slice(&crc.to_le_bytes());
    value
}

fn unchecked(key: &[u8], value: &[u8]) -> io::Result<Indexed> {
    let (body, crc) = value.split_last_chunk::<4>().ok_or_else(damaged)?;
    if checksum(key, body) != u32::from_le_bytes(*crc) {
        return Err(damaged());
    }
    let (trail, standing) = Trail::decode(body).ok_or_else(damaged)?;
    Ok(Indexed { standing: Standing::decode(standing).ok_or_else(damaged)?, trail })
}

fn checksum(key: &[u8], value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(value);
    hasher.finalize()
}

/// sled panics where its file is damaged. That is an error like any other.
fn guarded<T>(work: impl FnOnce() -> sled::Result<T>) -> io::Result<T> {
    let done = catch_unwind(AssertUnwindSafe(work));
    Ok(done.map_err(|_| io::Error::other("sled panicked"))??)
}

impl Index for SledIndex {
    fn get(&self, key: &[u8]) -> io::Result<Option<Indexed>> {
        guarded(|| self.standings.get(key))?.map(|value| unchecked(key, &value)).transpose()
    }

    fn apply(&self, entries: &[Entry]) -> io::Result<()> {
        let mut batch = sled::Batch::default();
        for entry in entries {
            batch.insert(entry.key.as_slice(), checked(&entry.key, &entry.indexed));
        }
        guarded(|| self.standings.apply_batch(batch))
    }

    fn forget(&self, keys: &[Vec<u8>]) -> io::Result<()> {
        let mut batch = sled::Batch::default();
        for key in keys {
            batch.remove(key.as_slice());
        }
        guarded(|| self.standings.apply_batch(batch))?;
        self.sync()
    }

    fn mark(&self, checkpoint: &Checkpoint) -> io::Result<()> {
        guarded(|| self.db.insert(COUNT, &checkpoint.head.count.to_le_bytes()))?;
        self.sync()?;
        let beside = self.mark.with_extension("new");
        std::fs::write(&beside, written(checkpoint))?;
        std::fs::rename(&beside, &self.mark)?;
        *self.marked.lock().unwrap_or_else(PoisonError::into_inner) = Some(*checkpoint);
        Ok(())
    }

    fn checkpoint(&self) -> Option<Checkpoint> {
        *self.marked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keys_of(&self, id: &[u8; 16]) -> io::Result<Vec<Vec<u8>>> {
        let mut keys = Vec::new();
        let mut from = Vec::new();
        // One step for each controller: their names are few, and the keys of one stand together.
        while let Some((first, _)) = guarded(|| self.standings.get_gt(&from))? {
            let end = memchr::memchr(0, &first).ok_or_else(damaged)?;
            let name = first.get(..end).unwrap_or_default();
            let mut key = name.to_vec();
            key.push(0);
            key.extend_from_slice(id);
            if guarded(|| self.standings.contains_key(&key))? {
                keys.push(key);
            }
            from = name.to_vec();
            from.push(1);
        }
        Ok(keys)
    }

    fn all(&self) -> Box<dyn Iterator<Item = io::Result<(Vec<u8>, Indexed)>> + '_> {
        let mut pairs = self.standings.iter();
        Box::new(std::iter::from_fn(move || {
            let pair = guarded(|| pairs.next().transpose()).transpose()?;
            Some(pair.and_then(|(key, value)| Ok((key.to_vec(), unchecked(&key, &value)?))))
        }))
    }
}
