//! The journal: segment files of records, each chained by hash to the one before.
//!
//! A segment begins with a head (magic, number of its first record, hash of the record before). A record is: length and CRC-32 of
//! the payload, the chain's hash up to and with it (SHA-256 of the hash before and the payload), the payload. A last record that
//! was not written whole is cut off when the journal is opened; anything else that does not fit is damage, and said with its place.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;

const MAGIC: &[u8; 8] = b"PWJRNL01";
const HEAD: usize = 8 + 8 + 32;
const FRAME: usize = 4 + 4 + 32;
/// The largest payload. Records are a few hundred bytes.
const MAX_PAYLOAD: usize = 1 << 20;

/// The hash of the whole chain.
pub type ChainHash = [u8; 32];

/// The end of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// How many records there are.
    pub count: u64,
    /// The hash up to the last one.
    pub hash: ChainHash,
}

impl Head {
    const EMPTY: Head = Head { count: 0, hash: [0; 32] };
}

/// Where a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The number of its segment.
    pub segment: u32,
    /// Where in it the record's frame begins, in bytes.
    pub offset: u32,
}

/// A record that was whole once, with the chain up to it: what follows can be read without all that stands before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The chain up to and with the record.
    pub head: Head,
    /// Where the record stands.
    pub last: Place,
}

impl Checkpoint {
    /// Whether the journal still has this record in this place.
    ///
    /// # Errors
    ///
    /// When the journal cannot be read.
    pub fn holds(&self, directory: &Path) -> Result<bool, JournalError> {
        Ok(self.end(directory)?.is_some())
    }

    /// Where what follows begins, in bytes; `None` where the record is not there.
    fn end(&self, directory: &Path) -> Result<Option<u64>, JournalError> {
        let path = segment_path(directory, self.last.segment);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at(&path)(error)),
        };
        Ok(read_frame(&file, self.last.offset)
            .map_err(at(&path))?
            .filter(|frame| frame.hash == self.head.hash)
            .map(|frame| u64::from(self.last.offset) + (FRAME + frame.payload.len()) as u64))
    }
}

/// A record as a link of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub number: u64,
    /// The chain's hash before it.
    pub before: ChainHash,
    /// What it says.
    pub payload: Vec<u8>,
    /// The chain's hash up to and with it.
    pub hash: ChainHash,
}

impl Link {
    /// Whether the hashes are those of this payload.
    pub fn is_sound(&self) -> bool {
        let before = Head { count: self.number.saturating_sub(1), hash: self.before };
        next(&before, &self.payload) == Head { count: self.number, hash: self.hash }
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
        /// Why.
        source: io::Error,
    },
    /// A record does not fit.
    #[error(
        "{}: damaged at byte {offset}: {what}. Put this file back from a backup; consent given after the backup must be collected again",
        path.display()
    )]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What does not fit.
        what: &'static str,
    },
    /// The journal is older than its head at the second place.
    #[error(
        "{}: the journal ends with record {found}, and had {known} records once: an old copy was put back. \
         Withdrawals may be missing. Put the newer copy back, or accept the loss with `pixelward consent rebuild --accept-loss`",
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

fn at(path: &Path) -> impl FnOnce(io::Error) -> JournalError + '_ {
    move |source| JournalError::Io { path: path.to_owned(), source }
}

/// The journal, open for appending.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
    head_copy: Option<PathBuf>,
    segment_bytes: u64,
    file: File,
    path: PathBuf,
    length: u64,
    number: u32,
    head: Head,
    /// Where the last record stands.
    last: Option<Place>,
    /// Set after a failed write: what is in the file is then unknown until the journal is opened again.
    broken: bool,
}

/// What a torn end was, when one was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// The segment.
    pub path: PathBuf,
    /// Where it was cut.
    pub offset: u64,
    /// How many bytes went.
    pub bytes: u64,
}

impl Journal {
    /// Opens the journal and gives every record behind `from`, with its number and place, to `each`; all of them without `from`, which must
    /// hold. A torn end is cut off and reported.
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
        let segments = segments(directory)?;
        let known = head_copy.map(read_head).transpose()?.flatten();
        // What the second place knows must be seen; a checkpoint behind it does not show that.
        let behind = from.map_or(0, |from| from.head.count);
        let from = from.filter(|from| known.is_none_or(|known| known.count >= from.head.count));
        let mut head = from.map_or(Head::EMPTY, |from| from.head);
        let mut last = from.map(|from| from.last);
        let mut torn = None;
        let mut known_hash_seen = known.is_none_or(|known| known.count == 0 || known == head);
        for (index, (number, path)) in segments.iter().enumerate() {
            let Some(start) = start_in(directory, *number, from)? else { continue };
            let is_last = index + 1 == segments.len();
            let end = scan(path, start, &mut head, |head, offset, payload| {
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
                    cut(path, offset)?;
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
        let (number, path) = match segments.last() {
            // A segment whose head was never written whole holds nothing.
            Some((number, path)) if std::fs::metadata(path).map_err(at(path))?.len() >= HEAD as u64 => {
                (*number, path.clone())
            }
            Some((number, path)) => (*number, create(directory, *number, head, Some(path))?),
            None => (1, create(directory, 1, head, None)?),
        };
        let mut file = OpenOptions::new().read(true).write(true).open(&path).map_err(at(&path))?;
        let length = file.seek(SeekFrom::End(0)).map_err(at(&path))?;
        let journal = Journal {
            directory: directory.to_owned(),
            head_copy: head_copy.map(Path::to_owned),
            segment_bytes,
            file,
            path,
            length,
            number,
            head,
            last,
            broken: false,
        };
        Ok((journal, torn))
    }

    /// Gives every record with its number to `each`, and changes nothing: the journal may be open for appending meanwhile. A last
    /// record that is being written is left out.
    ///
    /// # Errors
    ///
    /// When the files cannot be read or are damaged.
    pub fn read(directory: &Path, mut each: impl FnMut(&Head, Place, &[u8])) -> Result<(), JournalError> {
        let mut head = Head::EMPTY;
        for (segment, path) in segments(directory)? {
            let each = |head: &Head, offset, payload: &[u8]| each(head, Place { segment, offset }, payload);
            if let End::Torn { .. } = scan(&path, HEAD as u64, &mut head, each)? {
                break;
            }
        }
        Ok(())
    }

    /// The records in these places, oldest first, with the chain's hash before each. The segments they are in are read.
    ///
    /// # Errors
    ///
    /// When one is not there, or a segment is damaged.
    pub fn links(directory: &Path, places: &[Place]) -> Result<Vec<Link>, JournalError> {
        let mut found = Vec::with_capacity(places.len());
        for segment in places.chunk_by(|one, other| one.segment == other.segment) {
            let Some(first) = segment.first() else { continue };
            let path = segment_path(directory, first.segment);
            let mut start = [0; HEAD];
            File::open(&path).and_then(|file| file.read_exact_at(&mut start, 0)).map_err(at(&path))?;
            let mut head = start_of(&start);
            let mut before = head.hash;
            let known = found.len();
            scan(&path, HEAD as u64, &mut head, |head, offset, payload| {
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

    /// The record in a place: its payload, and the chain's hash up to and with it.
    ///
    /// # Errors
    ///
    /// When there is none, or it is damaged.
    pub fn record(directory: &Path, place: Place) -> Result<(Vec<u8>, ChainHash), JournalError> {
        let path = segment_path(directory, place.segment);
        let file = File::open(&path).map_err(at(&path))?;
        match read_frame(&file, place.offset).map_err(at(&path))? {
            Some(frame) => Ok((frame.payload, frame.hash)),
            None => Err(JournalError::Damaged {
                path,
                offset: u64::from(place.offset),
                what: "no whole record stands here",
            }),
        }
    }

    /// Appends payloads and syncs them: once this returns they survive power loss. Gives their places.
    ///
    /// # Errors
    ///
    /// When writing or syncing fails. Nothing of it counts as written then, and the journal takes no more until it is opened
    /// again.
    pub fn append(&mut self, payloads: &[Vec<u8>]) -> Result<Vec<Place>, JournalError> {
        if self.broken {
            let source = io::Error::other("an earlier write failed; restart once the disk is well again");
            return Err(JournalError::Io { path: self.path.clone(), source });
        }
        if self.length >= self.segment_bytes {
            self.roll()?;
        }
        let mut frames = Vec::new();
        let mut head = self.head;
        let mut places = Vec::with_capacity(payloads.len());
        for payload in payloads {
            places.push(self.place(frames.len()).ok_or_else(|| self.too_long())?);
            head = next(&head, payload);
            frames.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
            frames.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
            frames.extend_from_slice(&head.hash);
            frames.extend_from_slice(payload);
        }
        if let Err(error) = self.file.write_all(&frames).and_then(|()| self.file.sync_data()) {
            self.take_back();
            return Err(at(&self.path)(error));
        }
        self.length += frames.len() as u64;
        self.head = head;
        self.last = places.last().copied().or(self.last);
        self.write_head_copy();
        Ok(places)
    }

    /// The place so many bytes behind the end.
    fn place(&self, ahead: usize) -> Option<Place> {
        let offset = u32::try_from(self.length + ahead as u64).ok()?;
        Some(Place { segment: self.number, offset })
    }

    fn too_long(&self) -> JournalError {
        let source = io::Error::other("more records at once than a segment holds");
        JournalError::Io { path: self.path.clone(), source }
    }

    /// The last record, once there is one.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        self.last.map(|last| Checkpoint { head: self.head, last })
    }

    /// After a failed write the file is cut to what was acknowledged. Where that fails, too, nothing more is taken.
    fn take_back(&mut self) {
        let restored = self
            .file
            .set_len(self.length)
            .and_then(|()| self.file.seek(SeekFrom::Start(self.length)))
            .is_ok();
        self.broken = !restored || self.file.sync_data().is_err();
    }

    fn roll(&mut self) -> Result<(), JournalError> {
        let path = create(&self.directory, self.number + 1, self.head, None)?;
        let mut file = OpenOptions::new().read(true).write(true).open(&path).map_err(at(&path))?;
        self.length = file.seek(SeekFrom::End(0)).map_err(at(&path))?;
        self.number += 1;
        self.file = file;
        self.path = path;
        Ok(())
    }

    /// The head at the second place may be behind the journal, never ahead of it. Failing to write it is logged and does not undo
    /// what is durable.
    fn write_head_copy(&self) {
        let Some(path) = &self.head_copy else { return };
        if let Err(error) = write_head(path, &self.head) {
            tracing::error!(path = %path.display(), %error, "the second copy of the journal's head could not be written");
        }
    }

    /// The end of the chain.
    pub fn head(&self) -> Head {
        self.head
    }

    /// How many bytes of the current segment are used.
    pub fn length(&self) -> u64 {
        self.length
    }
}

fn next(head: &Head, payload: &[u8]) -> Head {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&head.hash);
    context.update(payload);
    let mut hash = [0; 32];
    hash.iter_mut().zip(context.finish().as_ref()).for_each(|(own, byte)| *own = *byte);
    Head { count: head.count + 1, hash }
}

/// What the head of a segment says of the chain before it.
fn start_of(bytes: &[u8; HEAD]) -> Head {
    let rest = bytes.get(8..).unwrap_or_default();
    let (count, hash) =
        rest.split_first_chunk::<8>().map_or((0, rest), |(count, hash)| (u64::from_le_bytes(*count), hash));
    Head { count, hash: hash.try_into().unwrap_or_default() }
}

/// A frame and what it holds.
struct Frame {
    hash: ChainHash,
    payload: Vec<u8>,
}

/// The record whose frame begins here; `None` where no whole one does.
fn read_frame(file: &File, offset: u32) -> io::Result<Option<Frame>> {
    let mut frame = [0; FRAME];
    let length = file.metadata()?.len();
    if u64::from(offset) + FRAME as u64 > length || (offset as usize) < HEAD {
        return Ok(None);
    }
    file.read_exact_at(&mut frame, u64::from(offset))?;
    let (Some((size, rest)), end) = (frame.split_first_chunk::<4>(), u64::from(offset) + FRAME as u64) else {
        return Ok(None);
    };
    let (Some((crc, hash)), size) = (rest.split_first_chunk::<4>(), u32::from_le_bytes(*size)) else {
        return Ok(None);
    };
    if size as usize > MAX_PAYLOAD || end + u64::from(size) > length {
        return Ok(None);
    }
    let mut payload = vec![0; size as usize];
    file.read_exact_at(&mut payload, end)?;
    let (Ok(hash), true) = (hash.try_into(), crc32fast::hash(&payload) == u32::from_le_bytes(*crc)) else {
        return Ok(None);
    };
    Ok(Some(Frame { hash, payload }))
}

fn segment_path(directory: &Path, number: u32) -> PathBuf {
    directory.join(format!("{number:08}.journal"))
}

/// Where reading begins in a segment; `None` where it is passed over.
fn start_in(directory: &Path, segment: u32, from: Option<&Checkpoint>) -> Result<Option<u64>, JournalError> {
    match from {
        Some(from) if segment < from.last.segment => Ok(None),
        Some(from) if segment == from.last.segment => from.end(directory),
        _ => Ok(Some(HEAD as u64)),
    }
}

/// The files of a journal, in order.
///
/// # Errors
///
/// When the directory cannot be read.
pub fn segment_paths(directory: &Path) -> Result<Vec<PathBuf>, JournalError> {
    Ok(segments(directory)?.into_iter().map(|(_, path)| path).collect())
}

/// The segments in order.
fn segments(directory: &Path) -> Result<Vec<(u32, PathBuf)>, JournalError> {
    let mut segments = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(at(directory))? {
        let path = entry.map_err(at(directory))?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".journal")?.parse().ok());
        if let Some(number) = number {
            segments.push((number, path));
        }
    }
    segments.sort();
    Ok(segments)
}

fn create(directory: &Path, number: u32, head: Head, over: Option<&Path>) -> Result<PathBuf, JournalError> {
    let path = segment_path(directory, number);
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&head.count.to_le_bytes());
    bytes.extend_from_slice(&head.hash);
    let mut options = OpenOptions::new();
    options.write(true);
    match over {
        Some(_) => options.create(true).truncate(true),
        None => options.create_new(true),
    };
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&path).map_err(at(&path))?;
    file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(at(&path))?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(at(directory))?;
    Ok(path)
}

fn cut(path: &Path, offset: u64) -> Result<(), JournalError> {
    let file = OpenOptions::new().write(true).open(path).map_err(at(path))?;
    file.set_len(offset).and_then(|()| file.sync_all()).map_err(at(path))
}

/// How a segment ends.
enum End {
    Whole,
    Torn { offset: u64, bytes: u64 },
}

/// Reads a segment from `start` on, carrying the chain on. Read from its head on, that must fit the chain, too.
fn scan(
    path: &Path,
    start: u64,
    head: &mut Head,
    mut each: impl FnMut(&Head, u32, &[u8]),
) -> Result<End, JournalError> {
    let mut bytes = Vec::new();
    let mut file = File::open(path).map_err(at(path))?;
    let skipped = if start > HEAD as u64 { start } else { 0 };
    file.seek(SeekFrom::Start(skipped)).and_then(|_| file.read_to_end(&mut bytes)).map_err(at(path))?;
    let damaged = |offset, what| JournalError::Damaged { path: path.to_owned(), offset, what };
    let torn = |rest: &[u8]| {
        let length = skipped + bytes.len() as u64;
        End::Torn { offset: length - rest.len() as u64, bytes: rest.len() as u64 }
    };
    let mut rest = bytes.as_slice();
    if skipped == 0 {
        let Some((start, records)) = bytes.split_at_checked(HEAD) else { return Ok(torn(rest)) };
        let (magic, start) = start.split_at(8);
        if magic != MAGIC {
            return Err(damaged(0, "it is no journal segment"));
        }
        let mut wanted = head.count.to_le_bytes().to_vec();
        wanted.extend_from_slice(&head.hash);
        if start != wanted {
            return Err(damaged(8, "it does not follow the segment before"));
        }
        rest = records;
    }
    let mut offset = start.max(HEAD as u64);
    while !rest.is_empty() {
        let Some((frame, tail)) = rest.split_at_checked(FRAME) else { return Ok(torn(rest)) };
        let number = |range: std::ops::Range<usize>| {
            frame.get(range).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
        };
        let length = number(0..4) as usize;
        let Some((payload, tail)) = tail.split_at_checked(length) else {
            // A length that is beyond the end was not written whole, unless it is impossible.
            return if length <= MAX_PAYLOAD || is_zero(rest) {
                Ok(torn(rest))
            } else {
                Err(damaged(offset, "a length is impossible"))
            };
        };
        let next = next(head, payload);
        if crc32fast::hash(payload) != number(4..8) || frame.get(8..) != Some(&next.hash) {
            // Only the last write can be torn: behind it there is nothing, or what the file system filled in.
            return if tail.is_empty() || is_zero(rest) {
                Ok(torn(rest))
            } else {
                Err(damaged(offset, "a record does not fit the chain"))
            };
        }
        *head = next;
        let place = u32::try_from(offset).map_err(|_| damaged(offset, "the segment is too long"))?;
        each(head, place, payload);
        offset += (FRAME + length) as u64;
        rest = tail;
    }
    Ok(End::Whole)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

fn read_head(path: &Path) -> Result<Option<Head>, JournalError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at(path)(error)),
    };
    let damaged =
        || JournalError::Damaged { path: path.to_owned(), offset: 0, what: "it is no head of a journal" };
    let (count, hash) = bytes.split_first_chunk::<8>().ok_or_else(damaged)?;
    let hash = hash.try_into().map_err(|_| damaged())?;
    Ok(Some(Head { count: u64::from_le_bytes(*count), hash }))
}

/// Writes the head beside the file and renames it over it, so that one of the two is always whole.
pub fn write_head(path: &Path, head: &Head) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut bytes = head.count.to_le_bytes().to_vec();
    bytes.extend_from_slice(&head.hash);
    let mut file = File::create(&beside)?;
    file.write_all(&bytes)?;
    file.sync_data()?;
    std::fs::rename(&beside, path)
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
            segment_path(&self.0, number)
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
            let wanted: Vec<String> = (number + 1..=12).map(|own| format!("{own} record {own}")).collect();
            assert_eq!(read, wanted);
            assert_eq!((again.head(), again.checkpoint()), (journal.head(), journal.checkpoint()));
        }
        // A record that is not there, or is another one.
        let last = segments(&folder.0).unwrap().last().unwrap().1.clone();
        let whole = std::fs::read(&last).unwrap();
        std::fs::write(&last, &whole[..whole.len() - 1]).unwrap();
        assert!(!checkpoints[11].holds(&folder.0).unwrap());
        let other = Checkpoint { head: checkpoints[3].head, ..checkpoints[4] };
        assert!(!other.holds(&folder.0).unwrap());
    }

    #[test]
    fn reading_leaves_a_record_alone_that_is_being_written() {
        let folder = filled("reading");
        let last = segments(&folder.0).unwrap().last().unwrap().1.clone();
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
        let last = segments(&folder.0).unwrap().last().unwrap().1.clone();
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
    fn an_old_copy_put_back_is_noticed() {
        let folder = filled("old");
        let last = segments(&folder.0).unwrap().last().unwrap().1.clone();
        let whole = std::fs::read(&last).unwrap();
        std::fs::write(&last, &whole[..whole.len() - FRAME - "record 12".len()]).unwrap();
        assert!(matches!(folder.open(), Err(JournalError::RolledBack { found: 11, known: 12, .. })));
    }
}
