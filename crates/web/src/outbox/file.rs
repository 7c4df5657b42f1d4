//! Changes to be told, on disk.
//!
//! An entry has 32 bytes: number of the record, person, checksum. It is written and synced before the record
//! is, and counts once the journal has a record with that number. The number of the last accepted record says
//! what has been sent.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Kind;
use crate::consent::Person;

const ENTRY: usize = 32;
/// The number of sent bytes above which the file is rewritten without them.
const TOLD: u64 = 1 << 20;

/// The changes that one receiver is to be told of.
#[derive(Debug)]
pub(crate) struct Outbox {
    path: PathBuf,
    told: File,
    kind: Kind,
    most: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    /// Where the next entry to send begins, in bytes.
    next: u64,
    /// Where the entries that count end.
    end: u64,
    /// Where the noted entries end, whose records may not be durable yet.
    noted: u64,
    /// How many changes found no room since the last request.
    missed: u64,
    /// The number of the last record that was sent.
    told: u64,
    /// For an outbox that has not begun: how many records there were when it was created.
    created_at: Option<u64>,
}

impl Outbox {
    /// Opens or creates it. `head` is the number of the journal's last record: entries beyond it never came
    /// into effect.
    pub(super) fn open(
        folder: &Path,
        name: &str,
        head: u64,
        (kind, most): (Kind, u64),
    ) -> io::Result<Outbox> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let path = folder.join(format!("{name}.outbox"));
        let file = opened(&path)?;
        let told = opened(&folder.join(format!("{name}.told")))?;
        File::open(folder)?.sync_all()?;
        let known = read_told(&told);
        let (last, missed) = known.unwrap_or((0, 0));
        let (mut next, mut end) = (0, 0);
        let bytes = std::fs::read(&path)?;
        for bytes in bytes.as_chunks::<ENTRY>().0 {
            let Some((number, _)) = read_entry(bytes).filter(|(number, _)| *number <= head) else { break };
            end += ENTRY as u64;
            if number <= last.min(head) {
                next = end;
            }
        }
        file.set_len(end)?;
        file.sync_all()?;
        let created_at = (known.is_none() && end == 0).then_some(head);
        let state = State { file, next, end, noted: end, missed, told: last.min(head), created_at };
        Ok(Outbox { path, told, kind, most, state: Mutex::new(state) })
    }

    /// Returns how many records there were when it was created, if it has not begun yet.
    pub(super) fn is_new(&self) -> Option<u64> {
        self.state().created_at
    }

    /// Begins a new one, durably: up to this record everything was told, and these changes were made after that and
    /// before it was created.
    pub(super) fn begin(&self, told: u64, earlier: &[(u64, Person)]) -> io::Result<()> {
        let mut state = self.state();
        let mut all: Vec<u8> = earlier.iter().flat_map(|(number, person)| entry(*number, *person)).collect();
        let added = all.len() as u64;
        if added > 0 {
            let length = usize::try_from(state.noted).unwrap_or(0);
            let mut noted = vec![0; length];
            state.file.read_exact_at(&mut noted, 0)?;
            all.extend(noted);
            state.file = pixelward_files::replace(&self.path, &all)?;
            state.end += added;
            state.noted += added;
        }
        state.told = told;
        self.write_told(&state)?;
        self.told.sync_data()?;
        state.created_at = None;
        Ok(())
    }

    /// Returns the number of the last record that was sent.
    pub(crate) fn told(&self) -> u64 {
        self.state().told
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes changes durably; counts those that find no room.
    pub(super) fn note(&self, changes: &[(u64, Person)]) -> io::Result<()> {
        let mut state = self.state();
        // Another relay may have told of them before this one had them.
        let told = state.told;
        let changes: Vec<_> = changes.iter().copied().filter(|(number, _)| *number > told).collect();
        if changes.is_empty() {
            return Ok(());
        }
        let room = self.most.saturating_sub((state.noted - state.next) / ENTRY as u64);
        let room = usize::try_from(room).unwrap_or(usize::MAX).min(changes.len());
        let (kept, left) = changes.split_at_checked(room).unwrap_or((&changes, &[]));
        state.missed += left.len() as u64;
        self.kind.missed(left.len());
        let bytes: Vec<u8> = kept.iter().flat_map(|(number, person)| entry(*number, *person)).collect();
        let at = state.noted;
        let written = state.file.write_all_at(&bytes, at).and_then(|()| state.file.sync_data());
        match written {
            Ok(()) => state.noted += bytes.len() as u64,
            Err(_) => {
                state.missed += kept.len() as u64;
                self.kind.missed(kept.len());
            }
        }
        written
    }

    /// Lets the noted entries count from now on, or drops them.
    pub(super) fn settle(&self, durable: bool) {
        let mut state = self.state();
        if durable {
            state.end = state.noted;
        } else if state.noted > state.end {
            state.noted = state.end;
            if let Err(error) = state.file.set_len(state.end) {
                // The entries are overwritten later, and after a restart their numbers say that they never
                // came into effect.
                tracing::debug!(%error, "an outbox could not be truncated");
            }
        }
    }

    /// Returns how many changes are pending.
    pub(crate) fn waiting(&self) -> u64 {
        let state = self.state();
        (state.end - state.next) / ENTRY as u64
    }

    /// Returns the next changes, at most this many, and how many were missed.
    pub(crate) fn next(&self, most: usize) -> io::Result<(Vec<(u64, Person)>, u64)> {
        let state = self.state();
        let count = usize::try_from((state.end - state.next) / ENTRY as u64).unwrap_or(usize::MAX).min(most);
        let mut bytes = vec![0; count * ENTRY];
        state.file.read_exact_at(&mut bytes, state.next)?;
        let entries: Option<Vec<_>> = bytes.as_chunks::<ENTRY>().0.iter().map(read_entry).collect();
        let entries = entries.ok_or_else(|| io::Error::other("an entry of the outbox is damaged"))?;
        Ok((entries, state.missed))
    }

    /// Marks everything up to this record as sent, along with the number of missed changes.
    pub(crate) fn sent(&self, last: u64, told_missed: u64) -> io::Result<()> {
        let mut state = self.state();
        while state.next < state.end {
            let mut bytes = [0; ENTRY];
            state.file.read_exact_at(&mut bytes, state.next)?;
            if read_entry(&bytes).is_some_and(|(number, _)| number > last) {
                break;
            }
            state.next += ENTRY as u64;
        }
        state.missed = state.missed.saturating_sub(told_missed);
        state.told = state.told.max(last);
        // Not synced: at worst, the same is sent twice.
        self.write_told(&state)?;
        if state.next == state.noted {
            state.file.set_len(0)?;
            (state.next, state.end, state.noted) = (0, 0, 0);
        } else if state.next >= TOLD.max(state.noted - state.next) {
            self.compact(&mut state)?;
        }
        Ok(())
    }

    fn write_told(&self, state: &State) -> io::Result<()> {
        let mut told = Vec::with_capacity(20);
        told.extend_from_slice(&state.told.to_le_bytes());
        told.extend_from_slice(&state.missed.to_le_bytes());
        let crc = crc32fast::hash(&told);
        told.extend_from_slice(&crc.to_le_bytes());
        self.told.write_all_at(&told, 0)
    }

    /// Rewrites the file without what was sent.
    fn compact(&self, state: &mut State) -> io::Result<()> {
        let length = usize::try_from(state.noted - state.next).unwrap_or(0);
        let mut rest = vec![0; length];
        state.file.read_exact_at(&mut rest, state.next)?;
        state.file = pixelward_files::replace(&self.path, &rest)?;
        state.end -= state.next;
        state.noted -= state.next;
        state.next = 0;
        Ok(())
    }
}

fn opened(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn entry(number: u64, person: Person) -> [u8; ENTRY] {
    let mut bytes = [0; ENTRY];
    let content = number.to_le_bytes().into_iter().chain(person.0);
    bytes.iter_mut().zip(content).for_each(|(target, byte)| *target = byte);
    let crc = crc32fast::hash(bytes.get(..24).unwrap_or_default()).to_le_bytes();
    bytes.iter_mut().skip(24).zip(crc).for_each(|(target, byte)| *target = byte);
    bytes
}

fn read_entry(bytes: &[u8; ENTRY]) -> Option<(u64, Person)> {
    let (body, rest) = bytes.split_first_chunk::<24>()?;
    let crc = rest.first_chunk::<4>()?;
    if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
        return None;
    }
    let (number, person) = body.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*number), Person(*person.first_chunk::<16>()?)))
}

/// Returns the number of the last record sent, and how many were missed since; `None` if that is not known.
fn read_told(file: &File) -> Option<(u64, u64)> {
    let mut bytes = [0; 20];
    file.read_exact_at(&mut bytes, 0).ok()?;
    let read = || {
        let (body, crc) = bytes.split_first_chunk::<16>()?;
        let (last, missed) = body.split_first_chunk::<8>()?;
        let is_sound = crc32fast::hash(body).to_le_bytes() == *crc.first_chunk::<4>()?;
        is_sound.then_some((u64::from_le_bytes(*last), u64::from_le_bytes(*missed.first_chunk::<8>()?)))
    };
    read()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("pixelward-outbox-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            Folder(path)
        }

        fn open(&self, head: u64) -> Outbox {
            Outbox::open(&self.0, "shop", head, (Kind::Webhook, 1000)).unwrap()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn ann() -> Person {
        Person([7; 16])
    }

    fn note(outbox: &Outbox, numbers: std::ops::RangeInclusive<u64>) {
        let changes: Vec<_> = numbers.map(|number| (number, ann())).collect();
        outbox.note(&changes).unwrap();
        outbox.settle(true);
    }

    fn numbers(outbox: &Outbox) -> Vec<u64> {
        outbox.next(10_000).unwrap().0.into_iter().map(|(number, _)| number).collect()
    }

    #[test]
    fn what_was_not_told_is_there_after_a_restart() {
        let folder = Folder::new("restart");
        let outbox = folder.open(0);
        note(&outbox, 1..=5);
        assert_eq!(outbox.next(2).unwrap().0, [(1, ann()), (2, ann())]);
        outbox.sent(2, 0).unwrap();
        drop(outbox);
        let outbox = folder.open(5);
        assert_eq!((numbers(&outbox), outbox.waiting()), (vec![3, 4, 5], 3));
        outbox.sent(5, 0).unwrap();
        assert_eq!(std::fs::metadata(folder.0.join("shop.outbox")).unwrap().len(), 0);
        note(&outbox, 6..=6);
        drop(outbox);
        assert_eq!(numbers(&folder.open(6)), [6]);
    }

    #[test]
    fn a_change_that_did_not_come_to_be_is_not_told() {
        let folder = Folder::new("undone");
        let outbox = folder.open(0);
        note(&outbox, 1..=2);
        outbox.note(&[(3, ann())]).unwrap();
        assert_eq!(numbers(&outbox), [1, 2]);
        outbox.settle(false);
        note(&outbox, 3..=3);
        assert_eq!(numbers(&outbox), [1, 2, 3]);
        // Noted, and then the machine went down before the journal had it.
        outbox.note(&[(4, ann()), (5, ann())]).unwrap();
        drop(outbox);
        assert_eq!(numbers(&folder.open(4)), [1, 2, 3, 4]);
    }

    #[test]
    fn torn_entries_end_the_file_and_it_does_not_grow_without_end() {
        let folder = Folder::new("torn");
        let outbox = folder.open(0);
        note(&outbox, 1..=3);
        drop(outbox);
        let path = folder.0.join("shop.outbox");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[2 * ENTRY + 3] ^= 1;
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        let outbox = Outbox::open(&folder.0, "shop", 9, (Kind::Webhook, 100_000)).unwrap();
        assert_eq!(numbers(&outbox), [1, 2]);
        let mut told = 2;
        for round in 0..60u64 {
            let first = 10 + round * 2000;
            note(&outbox, first..=first + 1999);
            // One always waits, so that it is never empty.
            told = first + 1998;
            outbox.sent(told, 0).unwrap();
        }
        assert_eq!(numbers(&outbox), [told + 1]);
        assert!(std::fs::metadata(&path).unwrap().len() < 2 * TOLD);
    }

    #[test]
    fn one_that_joins_others_begins_with_what_they_have_not_told() {
        let folder = Folder::new("joins");
        let outbox = folder.open(9);
        assert_eq!(outbox.is_new(), Some(9));
        // What is noted meanwhile comes after what was there before.
        note(&outbox, 10..=11);
        outbox.begin(6, &[(7, ann()), (9, ann())]).unwrap();
        assert_eq!((numbers(&outbox), outbox.told(), outbox.is_new()), (vec![7, 9, 10, 11], 6, None));
        drop(outbox);
        let outbox = folder.open(11);
        assert_eq!((numbers(&outbox), outbox.told(), outbox.is_new()), (vec![7, 9, 10, 11], 6, None));
        // Another relay has told some of it.
        outbox.sent(9, u64::MAX).unwrap();
        assert_eq!((numbers(&outbox), outbox.told()), (vec![10, 11], 9));
        outbox.sent(3, 0).unwrap();
        assert_eq!((numbers(&outbox), outbox.told()), (vec![10, 11], 9), "a late word changes nothing");
        // And some that is not here yet.
        outbox.sent(13, 0).unwrap();
        note(&outbox, 12..=14);
        assert_eq!(numbers(&outbox), [14]);
    }

    #[test]
    fn where_there_is_no_room_it_is_counted_how_many_are_missing() {
        let folder = Folder::new("full");
        let outbox = folder.open(0);
        note(&outbox, 1..=1500);
        let (entries, missed) = outbox.next(10_000).unwrap();
        assert_eq!((entries.len(), missed), (1000, 500));
        outbox.sent(100, missed).unwrap();
        assert_eq!(outbox.next(1).unwrap(), (vec![(101, ann())], 0));
        note(&outbox, 1501..=1700);
        assert_eq!(outbox.next(10_000).unwrap().1, 100);
        drop(outbox);
        assert_eq!(folder.open(1700).waiting(), 1000);
    }
}
