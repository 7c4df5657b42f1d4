//! A segment. It begins with a head (magic, number of the record before its first one, hash up to that). A
//! record consists of the length and CRC-32 of the payload, the chain's hash up to and including it (SHA-256
//! of the previous hash and the payload), and the payload.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{ChainError, ChainHash, Form, Head, MAX_PAYLOAD, at};

/// The length of a segment's head, in bytes.
pub const HEAD: usize = 8 + 8 + 32;
/// The length of what precedes each payload, in bytes.
pub const FRAME: usize = 4 + 4 + 32;

/// A frame and its contents.
#[derive(Debug)]
pub struct Frame {
    /// The chain's hash up to and including it.
    pub hash: ChainHash,
    /// The payload.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Reads the record whose frame begins at this byte; `None` if there is no complete one.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn read(file: &File, offset: u32) -> io::Result<Option<Frame>> {
        let mut frame = [0; FRAME];
        let length = file.metadata()?.len();
        if u64::from(offset) + FRAME as u64 > length || (offset as usize) < HEAD {
            return Ok(None);
        }
        file.read_exact_at(&mut frame, u64::from(offset))?;
        let (Some((size, rest)), end) = (frame.split_first_chunk::<4>(), u64::from(offset) + FRAME as u64)
        else {
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
        let (Ok(hash), true) = (hash.try_into(), crc32fast::hash(&payload) == u32::from_le_bytes(*crc))
        else {
            return Ok(None);
        };
        Ok(Some(Frame { hash, payload }))
    }

    /// Appends a payload with its frame to `out`; `head` is the chain's end including it.
    pub(super) fn write(out: &mut Vec<u8>, head: &Head, payload: &[u8]) {
        out.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
        out.extend_from_slice(&head.hash);
        out.extend_from_slice(payload);
    }
}

/// Returns the file of a segment.
pub fn path(directory: &Path, form: Form, number: u32) -> PathBuf {
    directory.join(format!("{number:08}.{}", form.suffix))
}

/// Lists the segments in order.
///
/// # Errors
///
/// When the directory cannot be read.
pub fn list(directory: &Path, form: Form) -> Result<Vec<(u32, PathBuf)>, ChainError> {
    let mut segments = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(at(directory))? {
        let path = entry.map_err(at(directory))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let number = name.and_then(|name| name.strip_suffix(form.suffix)?.strip_suffix('.')?.parse().ok());
        if let Some(number) = number {
            segments.push((number, path));
        }
    }
    segments.sort();
    Ok(segments)
}

/// Returns what the head of a segment says about the chain before it.
pub fn start_of(bytes: &[u8]) -> Option<Head> {
    Head::decode(bytes.get(8..HEAD)?)
}

/// Returns the same for a file.
///
/// # Errors
///
/// When it cannot be read, or is too short.
pub fn read_start(path: &Path) -> Result<Head, ChainError> {
    let mut start = [0; HEAD];
    File::open(path).and_then(|file| file.read_exact_at(&mut start, 0)).map_err(at(path))?;
    Ok(start_of(&start).unwrap_or(Head::EMPTY))
}

/// Creates a segment that follows `head`, durably. An empty one is overwritten.
pub(super) fn create(
    directory: &Path,
    form: Form,
    number: u32,
    head: Head,
    over: bool,
) -> Result<PathBuf, ChainError> {
    let path = path(directory, form, number);
    let mut bytes = form.magic.to_vec();
    bytes.extend_from_slice(&head.encode());
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    match over {
        true => options.create(true).truncate(true),
        false => options.create_new(true),
    };
    let mut file = options.open(&path).map_err(at(&path))?;
    let written = file.write_all(&bytes).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // Otherwise the next attempt would find an empty file.
        let _ = std::fs::remove_file(&path);
        return Err(at(&path)(error));
    }
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(at(directory))?;
    Ok(path)
}

/// Truncates a segment, durably.
///
/// # Errors
///
/// When it cannot be written.
pub fn cut(path: &Path, offset: u64) -> Result<(), ChainError> {
    let file = OpenOptions::new().write(true).open(path).map_err(at(path))?;
    file.set_len(offset).and_then(|()| file.sync_all()).map_err(at(path))
}

/// How a segment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With a complete record, or with its head.
    Whole,
    /// Within a record.
    Torn {
        /// Where that begins.
        offset: u64,
        /// How many bytes of it there are.
        bytes: u64,
    },
}

/// Reads a segment from `start` on, continuing the chain. Read from its head on, that must match the chain
/// too. `each` gets the chain up to each record, its offset and its payload.
///
/// # Errors
///
/// When it cannot be read or is damaged.
pub fn scan(
    path: &Path,
    form: Form,
    start: u64,
    head: &mut Head,
    each: impl FnMut(&Head, u32, &[u8]),
) -> Result<End, ChainError> {
    let mut bytes = Vec::new();
    let mut file = File::open(path).map_err(at(path))?;
    let skipped = if start > HEAD as u64 { start } else { 0 };
    file.seek(SeekFrom::Start(skipped)).and_then(|_| file.read_to_end(&mut bytes)).map_err(at(path))?;
    walk(&Content { path, form, bytes: &bytes, skipped, check: Check::Chain }, head, each)
}

/// The contents of a segment, from byte `skipped` on: 0, or where a frame begins.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a> {
    /// The file, for errors.
    pub path: &'a Path,
    /// The kind of files.
    pub form: Form,
    /// The bytes.
    pub bytes: &'a [u8],
    /// How many bytes precede them.
    pub skipped: u64,
    /// What is verified.
    pub check: Check,
}

/// What is verified of each record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// That its hash matches the previous hash and its bytes.
    Chain,
    /// Only its checksum, which finds damage but no forgery; the stored hash is taken as it is. It takes half
    /// the time.
    Checksum,
}

/// Does the same as [`scan`] with bytes that were read already.
///
/// # Errors
///
/// When they are damaged.
pub fn walk(
    content: &Content<'_>,
    head: &mut Head,
    mut each: impl FnMut(&Head, u32, &[u8]),
) -> Result<End, ChainError> {
    let Content { path, form, bytes, skipped, check } = *content;
    let damaged = |offset, what| ChainError::Damaged { path: path.to_owned(), offset, what };
    let torn = |rest: &[u8]| {
        let length = skipped + bytes.len() as u64;
        End::Torn { offset: length - rest.len() as u64, bytes: rest.len() as u64 }
    };
    let mut rest = bytes;
    if skipped == 0 {
        let Some((start, records)) = bytes.split_at_checked(HEAD) else { return Ok(torn(rest)) };
        if !start.starts_with(form.magic) {
            return Err(damaged(0, "not a segment of a journal"));
        }
        if start_of(start) != Some(*head) {
            return Err(damaged(8, "it does not follow the previous segment"));
        }
        rest = records;
    }
    let mut offset = skipped.max(HEAD as u64);
    while !rest.is_empty() {
        let Some((frame, tail)) = rest.split_at_checked(FRAME) else { return Ok(torn(rest)) };
        let number = |range: std::ops::Range<usize>| {
            frame.get(range).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
        };
        let length = number(0..4) as usize;
        let Some((payload, tail)) = tail.split_at_checked(length) else {
            // A length beyond the end means an incomplete write, unless it is impossible.
            return if length <= MAX_PAYLOAD || is_zero(rest) {
                Ok(torn(rest))
            } else {
                Err(damaged(offset, "impossible length"))
            };
        };
        let stored = frame.get(8..).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
        let next = match check {
            Check::Chain => head.then(payload),
            Check::Checksum => Head { count: head.count + 1, hash: stored },
        };
        if crc32fast::hash(payload) != number(4..8) || stored != next.hash {
            // Only the last write can be incomplete: nothing follows it, except what the file system filled
            // in.
            return if tail.is_empty() || is_zero(rest) {
                Ok(torn(rest))
            } else {
                Err(damaged(offset, "a record does not match the chain"))
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
