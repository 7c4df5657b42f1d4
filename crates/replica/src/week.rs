//! The keys under which messages travel: one for each week, random, and destroyed eight days after its week.
//! From then on nobody can read what erased people said in the files of what carried it.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use pixelward_files::Slots;
use pixelward_files::slots::{Bytes, SLOT, slot};

use crate::consent::seal::Sealer;
use crate::consent::{StoreKey, Timestamp};

/// A week: how many began since 1 January 1970, which was a Thursday.
pub type Week = u32;

/// The key of a week.
pub type WeekKey = [u8; 32];

/// How long a key is kept after its week, in milliseconds.
const KEPT: i64 = 8 * 24 * 3600 * 1000;
const WEEK: i64 = 7 * 24 * 3600 * 1000;

/// The first slot says what file this is.
const MAGIC: &[u8; 17] = b"pixelward weeks 1";
/// The state of a slot; its first byte.
const USED: u8 = 1;
/// Week and key, sealed.
const SEALED: usize = 4 + 32 + 28;

/// Returns the week of a moment.
pub fn week_of(at: Timestamp) -> Week {
    Week::try_from(at.0.div_euclid(WEEK)).unwrap_or(0)
}

/// Returns whether the next week is near enough that its key should be everywhere.
pub fn is_second_half(at: Timestamp) -> bool {
    at.0.rem_euclid(WEEK) >= WEEK / 2
}

/// Returns when a week begins.
pub fn begin_of(week: Week) -> Timestamp {
    Timestamp(i64::from(week) * WEEK)
}

/// Returns when the key of a week is destroyed.
pub fn destroyed_at(week: Week) -> Timestamp {
    Timestamp((i64::from(week) + 1) * WEEK + KEPT)
}

/// Returns whether the key of a week must be destroyed.
fn is_over(week: Week, now: Timestamp) -> bool {
    destroyed_at(week) <= now
}

/// The keys that are kept: usually those of this week and the one before.
pub struct Weeks(RwLock<Kept>);

struct Kept {
    slots: Slots,
    master: Sealer,
    keys: BTreeMap<Week, (u32, WeekKey)>,
}

impl std::fmt::Debug for Weeks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Weeks(…)")
    }
}

impl Weeks {
    /// Opens or creates the file.
    ///
    /// # Errors
    ///
    /// When it cannot be used, or was written under another store key.
    pub fn open(path: &Path, store_key: &StoreKey) -> io::Result<Weeks> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let length = file.metadata()?.len();
        let mut kept = Kept {
            slots: Slots::over(file),
            master: Sealer::new(&store_key.derived("keys of the weeks")),
            keys: BTreeMap::new(),
        };
        if length < SLOT as u64 {
            kept.slots.write(0, &slot(*MAGIC))?;
            kept.slots.sync()?;
        }
        kept.load()?;
        Ok(Weeks(RwLock::new(kept)))
    }

    /// Returns what seals the messages of a week; `None` if its key is not known, or was destroyed.
    pub fn sealer(&self, week: Week) -> Option<Sealer> {
        self.read(|kept| kept.keys.get(&week).map(|(_, key)| Sealer::new(key)))
    }

    /// Makes the key of a week, durably, unless there is one.
    ///
    /// # Errors
    ///
    /// When there is no randomness, or it cannot be written.
    pub fn make(&self, week: Week) -> io::Result<()> {
        let mut key = [0; 32];
        aws_lc_rs::rand::fill(&mut key).map_err(|_| io::Error::other("no randomness is available"))?;
        self.take(&BTreeMap::from([(week, key)]))
    }

    /// Takes in keys that another relay handed over, durably. A key that is known already stays.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    pub fn take(&self, handed: &BTreeMap<Week, WeekKey>) -> io::Result<()> {
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        handed.iter().try_for_each(|(week, key)| kept.put(*week, *key))?;
        kept.slots.sync()
    }

    /// Returns all keys, to be handed to another relay.
    pub fn all(&self) -> BTreeMap<Week, WeekKey> {
        self.read(|kept| kept.keys.iter().map(|(week, (_, key))| (*week, *key)).collect())
    }

    /// Destroys the keys whose time is over, durably; returns how many.
    ///
    /// # Errors
    ///
    /// When the file cannot be written: they are still there then.
    pub fn destroy(&self, now: Timestamp) -> io::Result<usize> {
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let over: Vec<(Week, u32)> = kept
            .keys
            .iter()
            .filter(|(week, _)| is_over(**week, now))
            .map(|(week, (slot, _))| (*week, *slot))
            .collect();
        for (week, slot) in &over {
            kept.slots.erase(*slot)?;
            kept.slots.release(*slot);
            kept.keys.remove(week);
        }
        if !over.is_empty() {
            kept.slots.sync()?;
        }
        Ok(over.len())
    }

    fn read<T>(&self, read: impl FnOnce(&Kept) -> T) -> T {
        read(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Kept {
    fn load(&mut self) -> io::Result<()> {
        if self.slots.read(0)?.get(..MAGIC.len()) != Some(MAGIC.as_slice()) {
            return Err(io::Error::other("not a file of the keys of weeks"));
        }
        let end = self.slots.count()?;
        self.slots.set_end(end);
        let (mut found, mut free, mut unreadable) = (Vec::new(), Vec::new(), 0);
        self.slots.each(1, end, |slot, bytes| match (bytes.first(), self.opened(slot, bytes)) {
            (Some(&USED), Some((week, key))) => found.push((week, (slot, key))),
            (Some(&USED), None) => unreadable += 1,
            _ => free.push(slot),
        })?;
        if found.is_empty() && unreadable > 0 {
            return Err(io::Error::other("no key of a week opens with this store key"));
        }
        free.into_iter().for_each(|slot| self.slots.release(slot));
        self.keys = found.into_iter().collect();
        Ok(())
    }

    fn opened(&self, slot: u32, bytes: &Bytes) -> Option<(Week, WeekKey)> {
        let plain = self.master.open(bytes.get(1..=SEALED)?, &slot.to_le_bytes()).ok()?;
        let (week, key) = plain.split_first_chunk::<4>()?;
        Some((Week::from_le_bytes(*week), key.try_into().ok()?))
    }

    fn put(&mut self, week: Week, key: WeekKey) -> io::Result<()> {
        if self.keys.contains_key(&week) {
            return Ok(());
        }
        let number = self.slots.next();
        let sealed = self.master.seal(&[&week.to_le_bytes()[..], &key].concat(), &number.to_le_bytes());
        let place = self.slots.put(&slot(std::iter::once(USED).chain(sealed)))?;
        self.keys.insert(week, (place, key));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_gone_from_the_file_eight_days_after_its_week() {
        let folder = tempfile::tempdir().unwrap();
        let (path, store_key) = (folder.path().join("weeks"), StoreKey::new([7; 32]));
        let weeks = Weeks::open(&path, &store_key).unwrap();
        let now = Timestamp(1000 * WEEK + 5);
        assert_eq!(week_of(now), 1000);
        weeks.make(1000).unwrap();
        let first = weeks.all();
        weeks.make(1000).unwrap();
        assert_eq!(weeks.all(), first);
        weeks.take(&BTreeMap::from([(1000, [1; 32]), (1001, [2; 32])])).unwrap();
        drop(weeks);
        let weeks = Weeks::open(&path, &store_key).unwrap();
        assert_eq!(weeks.all(), BTreeMap::from([(1000, first[&1000]), (1001, [2; 32])]));
        let sealed = weeks.sealer(1000).unwrap().seal(b"said", b"here");
        let end = 1001 * WEEK + KEPT;
        assert_eq!(weeks.destroy(Timestamp(end - 1)).unwrap(), 0);
        let before = std::fs::read(&path).unwrap();
        assert_eq!(weeks.destroy(Timestamp(end)).unwrap(), 1);
        assert!(weeks.sealer(1000).is_none() && weeks.sealer(1001).is_some());
        let after = std::fs::read(&path).unwrap();
        // No byte of the sealed key is left.
        let shared =
            before.as_chunks::<SLOT>().0[1].windows(16).filter(|piece| piece.iter().any(|byte| *byte != 0));
        assert_eq!(shared.filter(|piece| memchr_like(&after, piece)).count(), 0);
        drop(weeks);
        let again = Weeks::open(&path, &store_key).unwrap();
        assert_eq!(again.all().keys().copied().collect::<Vec<_>>(), [1001]);
        again.make(1002).unwrap();
        assert!(again.sealer(1001).unwrap().open(&sealed, b"here").is_err());
        assert!(Weeks::open(&path, &StoreKey::new([8; 32])).is_err());
    }

    fn memchr_like(hay: &[u8], needle: &[u8]) -> bool {
        hay.windows(needle.len()).any(|window| window == needle)
    }
}
