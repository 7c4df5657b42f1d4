//! The journal: segment files of records, each chained by hash to the one before ([`crate::chain`]).
//!
//! A partial last record is cut off when the journal is opened; anything else that does not fit is damage,
//! and reported with its place.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::chain::segment::{self, End, FRAME, Frame, HEAD};
use crate::chain::{ChainError, Form, Tail, read_head};
pub use crate::chain::{ChainHash, Head, Link, Torn, write_head};

const FORM: Form = Form { magic: b"PWJRNL01", suffix: "journal" };

/// The place of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The number of its segment.
    pub segment: u32,
    /// Where the record's frame begins in it, in bytes.
    pub offset: u32,
}

/// A record that was intact once, with the chain up to it: what follows can be read without what comes
/// before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The chain up to and including the record.
    pub head: Head,
    /// The place of the record.
    pub last: Place,
}

impl Checkpoint {
    /// Returns whether the journal still has this record in this place.
    ///
    /// # Errors
    ///
    /// When the journal cannot be read.
    pub fn holds(&self, directory: &Path) -> Result<bool, JournalError> {
        Ok(self.end(directory)?.is_some())
    }

    /// Returns where the following record begins, in bytes; `None` if the record is not there.
    fn end(&self, directory: &Path) -> Result<Option<u64>, JournalError> {
        let path = segment::path(directory, FORM, self.last.segment);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at(&path)(error)),
        };
        Ok(Frame::read(&file, self.last.offset)
            .map_err(at(&path))?
            .filter(|frame| frame.hash == self.head.hash)
            .map(|frame| u64::from(self.last.offset) + (FRAME + frame.payload.len()) as u64))
    }
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Reading or writing failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// A record does not fit.
    #[error(
        "{}: damaged at byte {offset}: {what}. Restore this file from a backup; consent given after the \
         backup must be collected again",
        path.display()
    )]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// The position.
        offset: u64,
        /// The problem.
        what: &'static str,
    },
    /// The journal is older than its head at the second place.
    #[error(
        "{}: the journal ends with record {found}, but once had {known} records: an old copy was restored. \
         Withdrawals may be missing. Restore the newer copy, or accept the loss with `pixelward consent \
         rebuild --accept-loss`",
        path.display()
    )]
    RolledBack {
        /// The journal's directory.
        path: PathBuf,
        /// How many records there are.
        found: u64,
        /// How many there were.
        known: u64,
    },
}

impl From<ChainError> for JournalError {
    fn from(error: ChainError) -> JournalError {
        match error {
            ChainError::Io { path, source } => JournalError::Io { path, source },
            ChainError::Damaged { path, offset, what } => JournalError::Damaged { path, offset, what },
        }
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> JournalError + '_ {
    move |source| JournalError::Io { path: path.to_owned(), source }
}

/// The journal, open for appending.
#[derive(Debug)]
pub struct Journal {
    head_copy: Option<PathBuf>,
    segment_bytes: u64,
    tail: Tail,
    /// The place of the last record.
    last: Option<Place>,
}

impl Journal {
    /// Opens the journal and passes every record after `from` (all of them without `from`, which must be
    /// valid), with its number and place, to `each`. A partial end is cut off and reported.
    ///
    /// # Errors
    ///
    /// When the files cannot be used, are damaged, or are an old copy.
    pub fn open(
        directory: &Path,
        head_copy: Option<&Path>,
        segment_bytes: u64,
        from: Option<&Checkpoint>,
        mut each: impl FnMut(u64, Place, &[u8]),
    ) -> Result<(Journal, Option<Torn>), JournalError> {
        let segments = segment::list(directory, FORM)?;
        let known = head_copy.map(read_head).transpose()?.flatten();
        // What the second place knows must be present; a checkpoint before it does not show that.
        let behind = from.map_or(0, |from| from.head.count);
        let from = from.filter(|from| known.is_none_or(|known| known.count >= from.head.count));
        let mut head = from.map_or(Head::EMPTY, |from| from.head);
        let mut last = from.map(|from| from.last);
        let mut torn = None;
        let mut known_hash_seen = known.is_none_or(|known| known.count == 0 || known == head);
        for (index, (number, path)) in segments.iter().enumerate() {
            let Some(start) = start_in(directory, *number, from)? else { continue };
            let is_last = index + 1 == segments.len();
            let end = segment::scan(path, FORM, start, &mut head, |head, offset, payload| {
                known_hash_seen |= known == Some(*head);
                let place = Place { segment: *number, offset };
                last = Some(place);
                if head.count > behind {
                    each(head.count, place, payload);
                }
            })?;
            match end {
                End::Whole => {}
                End::Torn { offset, bytes } if is_last => {
                    segment::cut(path, offset)?;
                    torn = Some(Torn { path: path.clone(), offset, bytes });
                }
                End::Torn { offset, .. } => {
                    return Err(JournalError::Damaged {
                        path: path.clone(),
                        offset,
                        what: "it ends within a record",
                    });
                }
            }
        }
        if let (Some(known), false) = (known, known_hash_seen) {
            return Err(JournalError::RolledBack {
                path: directory.to_owned(),
                found: head.count,
                known: known.count,
            });
        }
        let number = segments.last().map_or(1, |(number, _)| *number);
        let tail = Tail::open(directory, FORM, number, head)?;
        let journal = Journal { head_copy: head_copy.map(Path::to_owned), segment_bytes, tail, last };
        Ok((journal, torn))
    }

    /// Passes every record with its number to `each`, and changes nothing: the journal may be open for
    /// appending meanwhile. A last record that is being written is left out.
    ///
    /// # Errors
    ///
    /// When the files cannot be read or are damaged.
    pub fn read(directory: &Path, mut each: impl FnMut(&Head, Place, &[u8])) -> Result<(), JournalError> {
        let mut head = Head::EMPTY;
        for (segment, path) in segment::list(directory, FORM)? {
            let each = |head: &Head, offset, payload: &[u8]| each(head, Place { segment, offset }, payload);
            if let End::Torn { .. } = segment::scan(&path, FORM, HEAD as u64, &mut head, each)? {
                break;
            }
        }
        Ok(())
    }

    /// Returns the records in these places, oldest first, with the chain's hash before each. Reads only the
    /// segments that contain them.
    ///
    /// # Errors
    ///
    /// When one is not there, or a segment is damaged.
    pub fn links(directory: &Path, places: &[Place]) -> Result<Vec<Link>, JournalError> {
        let mut found = Vec::with_capacity(places.len());
        for segment in places.chunk_by(|one, other| one.segment == other.segment) {
            let Some(first) = segment.first() else { continue };
            let path = segment::path(directory, FORM, first.segment);
            let mut head = segment::read_start(&path)?;
            let mut before = head.hash;
            let known = found.len();
            segment::scan(&path, FORM, HEAD as u64, &mut head, |head, offset, payload| {
                if segment.iter().any(|place| place.offset == offset) {
                    found.push(Link {
                        number: head.count,
                        before,
                        payload: payload.to_vec(),
                        hash: head.hash,
                    });
                }
                before = head.hash;
            })?;
            if found.len() != known + segment.len() {
                let offset = u64::from(first.offset);
                return Err(JournalError::Damaged { path, offset, what: "a record is not where it was" });
            }
        }
        Ok(found)
    }

    /// Returns the record in a place: its payload, and the chain's hash up to and including it.
    ///
    /// # Errors
    ///
    /// When there is none, or it is damaged.
    pub fn record(directory: &Path, place: Place) -> Result<(Vec<u8>, ChainHash), JournalError> {
        let path = segment::path(directory, FORM, place.segment);
        let file = File::open(&path).map_err(at(&path))?;
        match Frame::read(&file, place.offset).map_err(at(&path))? {
            Some(frame) => Ok((frame.payload, frame.hash)),
            None => Err(JournalError::Damaged {
                path,
                offset: u64::from(place.offset),
                what: "no complete record here",
            }),
        }
    }

    /// Appends payloads and syncs them: once this returns they survive power failure. Returns their places.
    ///
    /// # Errors
    ///
    /// When writing or syncing fails. Nothing counts as written then, and the journal accepts no more until
    /// it is reopened.
    pub fn append(&mut self, payloads: &[Vec<u8>]) -> Result<Vec<Place>, JournalError> {
        if self.tail.length() >= self.segment_bytes {
            self.tail.roll()?;
        }
        let segment = self.tail.number();
        let places: Vec<Place> =
            self.tail.append(payloads)?.into_iter().map(|offset| Place { segment, offset }).collect();
        self.last = places.last().copied().or(self.last);
        self.write_head_copy();
        Ok(places)
    }

    /// Returns the last record, if there is one.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        self.last.map(|last| Checkpoint { head: self.tail.head(), last })
    }

    /// Writes the head at the second place, which may be behind the journal, never ahead of it. A failure is
    /// logged and does not undo what is durable.
    fn write_head_copy(&self) {
        let Some(path) = &self.head_copy else { return };
        if let Err(error) = write_head(path, &self.tail.head()) {
            tracing::error!(path = %path.display(), %error, "the second copy of the journal's head could not \
                                                             be written");
        }
    }

    /// Returns the end of the chain.
    pub fn head(&self) -> Head {
        self.tail.head()
    }

    /// Returns whether it accepts no more until it is reopened.
    pub fn is_stopped(&self) -> bool {
        self.tail.is_broken()
    }

    /// Returns how many bytes of the current segment are used.
    pub fn length(&self) -> u64 {
        self.tail.length()
    }
}

/// Returns where reading begins in a segment; `None` if it is skipped.
fn start_in(directory: &Path, segment: u32, from: Option<&Checkpoint>) -> Result<Option<u64>, JournalError> {
    match from {
        Some(from) if segment < from.last.segment => Ok(None),
        Some(from) if segment == from.last.segment => from.end(directory),
        _ => Ok(Some(HEAD as u64)),
    }
}

/// Lists the files of a journal, in order.
///
/// # Errors
///
/// When the directory cannot be read.
pub fn segment_paths(directory: &Path) -> Result<Vec<PathBuf>, JournalError> {
    Ok(segment::list(directory, FORM)?.into_iter().map(|(_, path)| path).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("pixelward-journal-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).unwrap();
            Folder(path)
        }

        fn open(&self) -> Result<(Journal, Option<Torn>, Vec<String>), JournalError> {
            self.open_from(None)
        }

        fn open_from(
            &self,
            from: Option<&Checkpoint>,
        ) -> Result<(Journal, Option<Torn>, Vec<String>), JournalError> {
            let mut read = Vec::new();
            let copy = self.0.join("head");
            let (journal, torn) = Journal::open(&self.0, Some(&copy), 400, from, |number, _, payload| {
                read.push(format!("{number} {}", String::from_utf8_lossy(payload)));
            })?;
            Ok((journal, torn, read))
        }

        fn segment(&self, number: u32) -> PathBuf {
            segment::path(&self.0, FORM, number)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn filled(name: &str) -> Folder {
        let folder = Folder::new(name);
        let (mut journal, _, _) = folder.open().unwrap();
        for number in 1..=12u64 {
            let places = journal.append(&[format!("record {number}").into_bytes()]).unwrap();
            let (payload, hash) = Journal::record(&folder.0, places[0]).unwrap();
            assert_eq!((payload, hash), (format!("record {number}").into_bytes(), journal.head().hash));
            let link = Journal::links(&folder.0, &places).unwrap().remove(0);
            assert!(link.is_sound() && link.hash == hash && link.number == number);
            assert!(!Link { payload: b"another".to_vec(), ..link.clone() }.is_sound());
            assert!(!Link { before: [1; 32], ..link }.is_sound());
        }
        folder
    }

    #[test]
    fn what_was_appended_is_read_across_segments() {
        let folder = filled("read");
        let (_, torn, read) = folder.open().unwrap();
        assert_eq!((torn, read.len()), (None, 12));
        assert_eq!(read[11], "12 record 12");
        assert!(folder.segment(2).exists());
    }

    #[test]
    fn behind_a_checkpoint_only_what_follows_is_read() {
        let folder = Folder::new("checkpoint");
        let (mut journal, _, _) = folder.open().unwrap();
        assert_eq!(journal.checkpoint(), None);
        let mut checkpoints = Vec::new();
        for number in 1..=12u32 {
            journal.append(&[format!("record {number}").into_bytes()]).unwrap();
            checkpoints.push(journal.checkpoint().unwrap());
        }
        for (number, checkpoint) in (1..).zip(&checkpoints) {
            assert!(checkpoint.holds(&folder.0).unwrap());
            let (again, _, read) = folder.open_from(Some(checkpoint)).unwrap();
            let wanted: Vec<String> =
                (number + 1..=12).map(|index| format!("{index} record {index}")).collect();
            assert_eq!(read, wanted);
            assert_eq!((again.head(), again.checkpoint()), (journal.head(), journal.checkpoint()));
        }
        // A record that is not there, or is another one.
        let last = segment::list(&folder.0, FORM).unwrap().last().unwrap().1.clone();
        let whole = std::fs::read(&last).unwrap();
        std::fs::write(&last, &whole[..whole.len() - 1]).unwrap();
        assert!(!checkpoints[11].holds(&folder.0).unwrap());
        let other = Checkpoint { head: checkpoints[3].head, ..checkpoints[4] };
        assert!(!other.holds(&folder.0).unwrap());
    }

    #[test]
    fn reading_leaves_a_record_alone_that_is_being_written() {
        let folder = filled("reading");
        let last = segment::list(&folder.0, FORM).unwrap().last().unwrap().1.clone();
        let mut bytes = std::fs::read(&last).unwrap();
        bytes.extend_from_slice(&[9, 0, 0, 0, 1]);
        std::fs::write(&last, &bytes).unwrap();
        let mut count = 0;
        Journal::read(&folder.0, |_, _, _| count += 1).unwrap();
        assert_eq!(count, 12);
        assert_eq!(std::fs::read(&last).unwrap(), bytes);
    }

    #[test]
    fn a_torn_end_is_cut_off_at_every_length() {
        let folder = filled("torn");
        let last = segment::list(&folder.0, FORM).unwrap().last().unwrap().1.clone();
        std::fs::remove_file(folder.0.join("head")).unwrap();
        let whole = std::fs::read(&last).unwrap();
        let frame = FRAME + "record 12".len();
        for missing in 1..=frame {
            std::fs::write(&last, &whole[..whole.len() - missing]).unwrap();
            let (_, torn, read) = folder.open().unwrap();
            assert_eq!(read.len(), 11, "{missing} missing");
            assert_eq!(torn.is_some(), missing != frame);
            std::fs::remove_file(folder.0.join("head")).ok();
        }
    }

    #[test]
    fn every_flipped_bit_before_the_last_record_is_noticed() {
        let folder = filled("flip");
        let first = folder.segment(1);
        let whole = std::fs::read(&first).unwrap();
        for bit in (0..whole.len() * 8).step_by(7) {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&first, &bytes).unwrap();
            assert!(matches!(folder.open(), Err(JournalError::Damaged { .. })), "bit {bit}");
        }
    }

    #[test]
    fn what_somebody_else_does_to_the_file_stops_writing() {
        type Harm = fn(&Path, &[u8]);
        let harms: [(&str, Harm); 4] = [
            ("appended", |path, bytes| std::fs::write(path, [bytes, b"more"].concat()).unwrap()),
            ("cut", |path, bytes| std::fs::write(path, &bytes[..bytes.len() - 1]).unwrap()),
            ("removed", |path, _| std::fs::remove_file(path).unwrap()),
            ("replaced", |path, bytes| {
                let beside = path.with_extension("beside");
                std::fs::write(&beside, bytes).unwrap();
                std::fs::rename(beside, path).unwrap();
            }),
        ];
        for (what, harm) in harms {
            let folder = Folder::new(what);
            let (mut journal, _, _) = folder.open().unwrap();
            journal.append(&[b"one".to_vec()]).unwrap();
            let path = folder.segment(1);
            harm(&path, &std::fs::read(&path).unwrap());
            let after = std::fs::read(&path).ok();
            for _ in 0..2 {
                let error = journal.append(&[b"two".to_vec()]).unwrap_err().to_string();
                assert!(error.contains("another process"), "{what}: {error}");
            }
            assert!(journal.is_stopped(), "{what}");
            assert_eq!(std::fs::read(&path).ok(), after, "{what}: the file is left as it is");
        }
    }

    #[test]
    fn an_old_copy_put_back_is_noticed() {
        let folder = filled("old");
        let last = segment::list(&folder.0, FORM).unwrap().last().unwrap().1.clone();
        let whole = std::fs::read(&last).unwrap();
        std::fs::write(&last, &whole[..whole.len() - FRAME - "record 12".len()]).unwrap();
        assert!(matches!(folder.open(), Err(JournalError::RolledBack { found: 11, known: 12, .. })));
    }
}
