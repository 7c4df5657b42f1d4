//! The index over the journal: the only file that names sled. It holds nothing that the journal and the key file do not give back, so
//! whatever is wrong with it ends in its being made anew.

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::standing::Standing;

/// A change of the index: the standing of a controller and person from the journal's record `record` on.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Controller and person's id.
    pub key: Vec<u8>,
    /// What holds now.
    pub standing: Standing,
}

/// The few verbs the store needs. Another embedded database could stand behind them.
pub trait Index: Send + Sync {
    /// The standing under a key.
    ///
    /// # Errors
    ///
    /// When the index cannot be read.
    fn get(&self, key: &[u8]) -> io::Result<Option<Standing>>;

    /// Takes entries in, and the number of the last record they contain; durable once this returns.
    ///
    /// # Errors
    ///
    /// When the index cannot be written.
    fn apply(&self, entries: &[Entry], last_record: u64) -> io::Result<()>;

    /// Takes keys out that end with a person's id, durably.
    ///
    /// # Errors
    ///
    /// When the index cannot be written.
    fn forget(&self, keys: &[Vec<u8>], last_record: u64) -> io::Result<()>;

    /// The number of the last record that it contains.
    fn last_record(&self) -> u64;

    /// Every key and standing.
    ///
    /// # Errors
    ///
    /// When the index cannot be read.
    fn all(&self) -> Box<dyn Iterator<Item = io::Result<(Vec<u8>, Standing)>> + '_>;
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
    last: std::sync::atomic::AtomicU64,
}

/// The size of the file that is given up when the disk is full, so that sled can be opened once more.
const BALLAST: u64 = 8 << 20;

impl SledIndex {
    /// Opens the index in `directory`. One that is damaged or of another format is moved aside and begun anew; the caller then
    /// fills it from the journal, since [`Index::last_record`] is 0.
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
        let last = std::fs::read(&mark).ok().and_then(|bytes| read_mark(&bytes)).unwrap_or(0);
        Ok(SledIndex { db, standings, file, mark, last: last.into() })
    }

    /// Flushes, syncs, and then writes down how far the index goes. That stands in a file of its own, so that an index that lost
    /// something is noticed.
    fn make_durable(&self, last_record: u64) -> io::Result<()> {
        self.db.flush()?;
        self.file.sync_data()?;
        let beside = self.mark.with_extension("new");
        let mut bytes = vec![MARK_VERSION];
        bytes.extend_from_slice(&last_record.to_le_bytes());
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        std::fs::write(&beside, &bytes)?;
        std::fs::rename(&beside, &self.mark)?;
        self.last.store(last_record, std::sync::atomic::Ordering::Release);
        Ok(())
    }
}

/// The format of the mark; its first byte.
const MARK_VERSION: u8 = 1;

/// Reads the file that says how far the index goes.
pub fn read_mark(bytes: &[u8]) -> Option<u64> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    let (&version, number) = body.split_first()?;
    let sound = version == MARK_VERSION && crc32fast::hash(body) == u32::from_le_bytes(*crc);
    if sound { number.try_into().ok().map(u64::from_le_bytes) } else { None }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a value of the index is malformed")
}

impl Index for SledIndex {
    fn get(&self, key: &[u8]) -> io::Result<Option<Standing>> {
        let read = catch_unwind(AssertUnwindSafe(|| self.standings.get(key)));
        let value = read.map_err(|_| io::Error::other("sled panicked while reading"))??;
        value.map(|value| Standing::decode(&value).ok_or_else(damaged)).transpose()
    }

    fn apply(&self, entries: &[Entry], last_record: u64) -> io::Result<()> {
        let mut batch = sled::Batch::default();
        for entry in entries {
            batch.insert(entry.key.as_slice(), entry.standing.encode());
        }
        self.standings.apply_batch(batch)?;
        self.make_durable(last_record)
    }

    fn forget(&self, keys: &[Vec<u8>], last_record: u64) -> io::Result<()> {
        let mut batch = sled::Batch::default();
        for key in keys {
            batch.remove(key.as_slice());
        }
        self.standings.apply_batch(batch)?;
        self.make_durable(last_record)
    }

    fn last_record(&self) -> u64 {
        self.last.load(std::sync::atomic::Ordering::Acquire)
    }

    fn all(&self) -> Box<dyn Iterator<Item = io::Result<(Vec<u8>, Standing)>> + '_> {
        Box::new(self.standings.iter().map(|pair| {
            let (key, value) = pair?;
            Ok((key.to_vec(), Standing::decode(&value).ok_or_else(damaged)?))
        }))
    }
}
