//! The index over the journal, and the only file that names sled. It can be rebuilt from the journal and the
//! key file, so whatever is wrong with it leads to a rebuild.

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use super::journal::{Checkpoint, Head, Place};
use super::standing::Standing;
use super::trail::Trail;

/// An entry of the index for a controller and person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Indexed {
    /// The current standing.
    pub standing: Standing,
    /// Where the records are in the journal.
    pub trail: Trail,
}

/// A change to the index.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key of controller and person.
    pub key: Vec<u8>,
    /// The new value.
    pub indexed: Arc<Indexed>,
}

/// The operations that the store needs. Another embedded database could take sled's place.
pub trait Index: Send + Sync {
    /// Returns the value of a key.
    ///
    /// # Errors
    ///
    /// When the index cannot be read.
    fn get(&self, key: &[u8]) -> io::Result<Option<Indexed>>;

    /// Writes entries. They are durable after [`Index::mark`].
    ///
    /// # Errors
    ///
    /// When the index cannot be written.
    fn apply(&self, entries: &[Entry]) -> io::Result<()>;

    /// Removes the keys of an erased person, and counts the erasure. Durable after [`Index::mark`]; removing
    /// twice does no harm, and counting twice is noticed when the journal is verified.
    ///
    /// # Errors
    ///
    /// When the index cannot be written.
    fn forget(&self, keys: &[Vec<u8>]) -> io::Result<()>;

    /// Returns how many erasures were counted.
    ///
    /// # Errors
    ///
    /// When the index cannot be read.
    fn erasures(&self) -> io::Result<u64>;

    /// Sets that count.
    ///
    /// # Errors
    ///
    /// When the index cannot be written.
    fn set_erasures(&self, erasures: u64) -> io::Result<()>;

    /// Makes everything written durable, and notes up to which record that goes.
    ///
    /// # Errors
    ///
    /// When the index cannot be written.
    fn mark(&self, checkpoint: &Checkpoint) -> io::Result<()>;

    /// Returns the last record that it contains; `None` if unknown, so that it must be rebuilt.
    fn checkpoint(&self) -> Option<Checkpoint>;

    /// Returns the keys of a person, for all controllers.
    ///
    /// # Errors
    ///
    /// When the index cannot be read.
    fn keys_of(&self, id: &[u8; 16]) -> io::Result<Vec<Vec<u8>>>;

    /// Returns at most `limit` entries after `key`, in key order.
    ///
    /// # Errors
    ///
    /// When the index cannot be read.
    fn behind(&self, key: &[u8], limit: usize) -> io::Result<Vec<(Vec<u8>, Indexed)>>;

    /// Iterates over everything, in key order.
    ///
    /// # Errors
    ///
    /// When the index cannot be read.
    fn all(&self) -> Box<dyn Iterator<Item = io::Result<(Vec<u8>, Indexed)>> + '_>;
}

/// Returns the key of a controller and person.
pub fn key(controller: &str, id: &[u8; 16]) -> Vec<u8> {
    let mut key = controller.as_bytes().to_vec();
    key.push(0);
    key.extend_from_slice(id);
    key
}

/// sled 0.34, with workarounds: `flush` does not sync on Linux, so the file is synced through a second
/// descriptor; opening a damaged file can panic, so that is guarded; it grows without noticing a full disk,
/// so a ballast file is kept; written data stays in memory far beyond the cache, so it is reopened from time
/// to time.
pub struct SledIndex {
    /// `None` if it could not be reopened.
    open: RwLock<Option<Open>>,
    directory: PathBuf,
    cache_bytes: u64,
    marked: Mutex<Option<Checkpoint>>,
    is_early: bool,
    /// Entries written since it was opened.
    written: AtomicU64,
}

/// The database.
struct Open {
    db: sled::Db,
    standings: sled::Tree,
    file: File,
}

/// The number of written entries after which the database is reopened: each takes about 1,200 bytes of memory
/// until then.
const MOST_WRITTEN: u64 = 400_000;

/// The size of the file that is sacrificed when the disk is full, so that sled can be opened once more.
const BALLAST: u64 = 8 << 20;
/// How many bytes must be free before writing to a failed index is tried again.
const ROOM: u64 = 2 << 20;

impl SledIndex {
    /// Opens the index in `directory`. One that is damaged or has another format is moved aside and replaced
    /// by an empty one; the caller then fills it from the journal, because there is no [`Index::checkpoint`].
    ///
    /// # Errors
    ///
    /// When no index can be created there.
    pub fn open(directory: &Path, cache_bytes: u64) -> io::Result<SledIndex> {
        let open = match Open::guarded(directory, cache_bytes) {
            Ok(open) => open,
            Err(error) => {
                tracing::warn!(%error, "the index could not be opened; it is rebuilt from the journal");
                SledIndex::set_aside(directory)?;
                Open::guarded(directory, cache_bytes)?
            }
        };
        let mark = std::fs::read(mark_path(directory)).ok().and_then(|bytes| read_mark(&bytes));
        let marked = mark.and_then(|mark| mark.checkpoint);
        // The database's own last note must be the same, or it has lost something.
        let within = guarded(|| open.db.get(COUNT))?;
        let within = within.and_then(|bytes| bytes.as_ref().try_into().ok().map(u64::from_le_bytes));
        let marked = marked.filter(|mark| within == Some(mark.head.count));
        Ok(SledIndex {
            open: RwLock::new(Some(open)),
            directory: directory.to_owned(),
            cache_bytes,
            marked: Mutex::new(marked),
            is_early: mark.is_some_and(|mark| mark.is_early),
            written: AtomicU64::new(0),
        })
    }

    /// Returns whether its values have an earlier format, so that it must be rebuilt.
    pub fn is_early(&self) -> bool {
        self.is_early
    }

    /// Reopens the database after it could not be written: until then it answers nothing.
    ///
    /// # Errors
    ///
    /// When it cannot be opened yet, when it is being scanned, or when it has lost data.
    pub fn recover(&self) -> io::Result<()> {
        let Ok(mut open) = self.open.try_write() else {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "the index is being scanned"));
        };
        // Only one instance can be open.
        drop(open.take());
        let again = Open::guarded(&self.directory, self.cache_bytes)?;
        let marked = *self.marked.lock().unwrap_or_else(PoisonError::into_inner);
        let found = guarded(|| again.db.get(COUNT))?;
        let found = found.and_then(|bytes| bytes.as_ref().try_into().ok().map(u64::from_le_bytes));
        if marked.is_some_and(|marked| found.is_none_or(|found| found < marked.head.count)) {
            return Err(io::Error::other("the index has lost data; a restart rebuilds it from the journal"));
        }
        *open = Some(again);
        self.written.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Returns whether its data can be read.
    pub fn answers(&self) -> bool {
        self.with(|open| guarded(|| open.standings.get(b""))).is_ok()
    }

    /// Returns whether the disk has enough room for writing the index.
    pub fn has_room(&self) -> bool {
        rustix::fs::statvfs(&self.directory)
            .map_or(true, |found| found.f_bavail.saturating_mul(found.f_frsize) >= ROOM)
    }

    /// Runs an operation on the database.
    fn with<T>(&self, work: impl FnOnce(&Open) -> io::Result<T>) -> io::Result<T> {
        work(self.open.read().unwrap_or_else(PoisonError::into_inner).as_ref().ok_or_else(not_open)?)
    }

    /// Reopens the database if much was written, so that its memory is released. This can wait while somebody
    /// reads it.
    fn renew(&self) -> io::Result<()> {
        let due = self.written.load(Ordering::Relaxed) >= MOST_WRITTEN;
        let Ok(mut open) = self.open.try_write() else { return Ok(()) };
        if open.is_some() && !due {
            return Ok(());
        }
        drop(open.take());
        *open = Some(Open::guarded(&self.directory, self.cache_bytes)?);
        self.written.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Removes the index, so that the next one opened is empty.
    ///
    /// # Errors
    ///
    /// When it cannot be removed.
    pub fn discard(directory: &Path) -> io::Result<()> {
        for removed in
            [std::fs::remove_file(mark_path(directory)), std::fs::remove_dir_all(directory.join("index"))]
        {
            removed
                .or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
        }
        Ok(())
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
        let _ = std::fs::remove_file(mark_path(directory));
        match std::fs::rename(&path, &aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Open {
    fn guarded(directory: &Path, cache_bytes: u64) -> io::Result<Open> {
        let ballast = directory.join("ballast");
        let open = || Open::new(&directory.join("index"), cache_bytes);
        let result = catch_unwind(AssertUnwindSafe(open))
            .unwrap_or_else(|_| Err(io::Error::other("sled panicked while opening")));
        if result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::StorageFull)
            && std::fs::remove_file(&ballast).is_ok()
        {
            return open();
        }
        if result.is_ok() && std::fs::metadata(&ballast).is_err() {
            let kept = File::create(&ballast).and_then(|file| {
                rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, BALLAST)
                    .map_err(io::Error::from)
            });
            if let Err(error) = kept {
                tracing::debug!(%error, "the ballast file could not be kept");
            }
        }
        result
    }

    fn new(path: &Path, cache_bytes: u64) -> io::Result<Open> {
        let db =
            sled::Config::new().path(path).cache_capacity(cache_bytes).flush_every_ms(Some(500)).open()?;
        let standings = db.open_tree("standings")?;
        let file = File::open(path.join("db"))?;
        Ok(Open { db, standings, file })
    }

    fn sync(&self) -> io::Result<()> {
        guarded(|| self.db.flush())?;
        self.file.sync_data()
    }
}

/// Returns the file that says how far the index in a directory goes.
pub fn mark_path(directory: &Path) -> PathBuf {
    directory.join("index.mark")
}

fn not_open() -> io::Error {
    io::Error::other("the index could not be reopened; the log says why")
}

/// The key of the number of the last record in the database.
const COUNT: &[u8] = b"count";
/// The key of the number of erasures.
const ERASURES: &[u8] = b"erasures";

/// The format of the mark; its first byte. An index with a mark of an earlier format has values of an earlier
/// format too.
const MARK_VERSION: u8 = 3;

/// How far an index goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The number of the last record that it contains.
    pub count: u64,
    /// That record; missing in marks of format 1.
    pub checkpoint: Option<Checkpoint>,
    /// Whether the index has values of an earlier format, and must be rebuilt.
    pub is_early: bool,
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
        1 => Some(Mark { count, checkpoint: None, is_early: true }),
        2 | MARK_VERSION => {
            let (hash, rest) = rest.split_first_chunk::<32>()?;
            let (segment, offset) = rest.split_first_chunk::<4>()?;
            let offset = u32::from_le_bytes(offset.try_into().ok()?);
            let last = Place { segment: u32::from_le_bytes(*segment), offset };
            let checkpoint = Some(Checkpoint { head: Head { count, hash: *hash }, last });
            Some(Mark { count, checkpoint, is_early: version < MARK_VERSION })
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

/// Builds a value for the database: a checksum over key and value follows it, so that a misplaced value
/// counts as damage too.
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

/// Runs a step in which sled may panic because its file is damaged. That is an error like any other.
fn guarded<T>(work: impl FnOnce() -> sled::Result<T>) -> io::Result<T> {
    let done = catch_unwind(AssertUnwindSafe(work));
    Ok(done.map_err(|_| io::Error::other("sled panicked"))??)
}

impl Index for SledIndex {
    fn get(&self, key: &[u8]) -> io::Result<Option<Indexed>> {
        let value = self.with(|open| guarded(|| open.standings.get(key)))?;
        value.map(|value| unchecked(key, &value)).transpose()
    }

    fn apply(&self, entries: &[Entry]) -> io::Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut batch = sled::Batch::default();
        for entry in entries {
            batch.insert(entry.key.as_slice(), checked(&entry.key, &entry.indexed));
        }
        self.written.fetch_add(entries.len() as u64, Ordering::Relaxed);
        self.with(|open| guarded(|| open.standings.apply_batch(batch)))?;
        self.renew()
    }

    fn forget(&self, keys: &[Vec<u8>]) -> io::Result<()> {
        let mut batch = sled::Batch::default();
        for key in keys {
            batch.remove(key.as_slice());
        }
        self.with(|open| guarded(|| open.standings.apply_batch(batch)))?;
        self.set_erasures(self.erasures()? + 1)
    }

    fn erasures(&self) -> io::Result<u64> {
        let count = self.with(|open| guarded(|| open.db.get(ERASURES)))?;
        Ok(count.and_then(|bytes| bytes.as_ref().try_into().ok().map(u64::from_le_bytes)).unwrap_or(0))
    }

    fn set_erasures(&self, erasures: u64) -> io::Result<()> {
        self.with(|open| guarded(|| open.db.insert(ERASURES, &erasures.to_le_bytes())))?;
        Ok(())
    }

    fn mark(&self, checkpoint: &Checkpoint) -> io::Result<()> {
        self.with(|open| {
            guarded(|| open.db.insert(COUNT, &checkpoint.head.count.to_le_bytes()))?;
            open.sync()
        })?;
        let mark = mark_path(&self.directory);
        pixelward_files::replace_unsynced(&mark, written(checkpoint).as_ref())?;
        *self.marked.lock().unwrap_or_else(PoisonError::into_inner) = Some(*checkpoint);
        Ok(())
    }

    fn checkpoint(&self) -> Option<Checkpoint> {
        *self.marked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keys_of(&self, id: &[u8; 16]) -> io::Result<Vec<Vec<u8>>> {
        self.with(|open| {
            let mut keys = Vec::new();
            let mut from = Vec::new();
            // One step per controller: their names are few, and the keys of one are adjacent.
            while let Some((first, _)) = guarded(|| open.standings.get_gt(&from))? {
                let end = memchr::memchr(0, &first).ok_or_else(damaged)?;
                let name = first.get(..end).unwrap_or_default();
                let key = [name, &[0], id].concat();
                if guarded(|| open.standings.contains_key(&key))? {
                    keys.push(key);
                }
                from = [name, &[1]].concat();
            }
            Ok(keys)
        })
    }

    fn behind(&self, key: &[u8], limit: usize) -> io::Result<Vec<(Vec<u8>, Indexed)>> {
        self.with(|open| {
            let from = (std::ops::Bound::Excluded(key), std::ops::Bound::Unbounded);
            let mut pairs = open.standings.range::<&[u8], _>(from).take(limit);
            let mut found = Vec::with_capacity(limit);
            while let Some((key, value)) = guarded(|| pairs.next().transpose())? {
                found.push((key.to_vec(), unchecked(&key, &value)?));
            }
            Ok(found)
        })
    }

    fn all(&self) -> Box<dyn Iterator<Item = io::Result<(Vec<u8>, Indexed)>> + '_> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let Some(pairs) = open.as_ref().map(|open| open.standings.iter()) else {
            return Box::new(std::iter::once(Err(not_open())));
        };
        Box::new(All { pairs, _open: open })
    }
}

/// Iterates over everything in the database, which is not reopened meanwhile.
struct All<'a> {
    pairs: sled::Iter,
    _open: RwLockReadGuard<'a, Option<Open>>,
}

impl Iterator for All<'_> {
    type Item = io::Result<(Vec<u8>, Indexed)>;

    fn next(&mut self) -> Option<Self::Item> {
        let pair = guarded(|| self.pairs.next().transpose()).transpose()?;
        Some(pair.and_then(|(key, value)| Ok((key.to_vec(), unchecked(&key, &value)?))))
    }
}
