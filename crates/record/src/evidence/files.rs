//! The files of audit records: a directory for each retention, with segments as written or compressed, and a
//! summary beside each compressed one.
//!
//! ```text
//! evidence/0365/00000007.evidence      the open segment
//! evidence/0365/00000006.evidence.z    a closed one, compressed (zlib)
//! evidence/0365/00000006.summary       what is in it
//! evidence/0365/kept-from              the chain's end before the oldest segment that is still kept
//! ```

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;

use crate::chain::segment::{self, Check, Content, End};
use crate::chain::{ChainError, Form, Head, at, read_head};

/// The extension of segments as written.
pub const OPEN: Form = Form { magic: b"PWEVID01", suffix: "evidence" };
/// The extension of closed ones: the same bytes, compressed.
pub const PACKED: Form = Form { magic: b"PWEVID01", suffix: "evidence.z" };
/// The file that says where a chain begins.
const KEPT_FROM: &str = "kept-from";
/// The maximum size of a segment, compressed or not.
const MAX_SEGMENT: u64 = 1 << 32;

/// The directory of one chain. All records in it are kept for this many days.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Folder {
    /// The number of days.
    pub days: u16,
    /// The path.
    pub path: PathBuf,
}

impl Folder {
    /// Returns the directory for this retention.
    pub fn of(directory: &Path, days: u16) -> Folder {
        Folder { days, path: directory.join(format!("{days:04}")) }
    }

    /// Lists all directories, the shortest retention first.
    ///
    /// # Errors
    ///
    /// When the directory cannot be read. One that is not there has none.
    pub fn all(directory: &Path) -> Result<Vec<Folder>, ChainError> {
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(at(directory)(error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.map_err(at(directory))?.path();
            let days = path.file_name().and_then(|name| name.to_str()?.parse().ok());
            found.extend(days.filter(|_| path.is_dir()).map(|days| Folder { days, path }));
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Creates it, accessible only by its owner.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn make(&self) -> Result<(), ChainError> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.path).map_err(at(&self.path))
    }

    /// Lists the numbers of its segments, oldest first.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn segments(&self) -> Result<Vec<u32>, ChainError> {
        let open = segment::list(&self.path, OPEN)?;
        let packed = segment::list(&self.path, PACKED)?;
        let mut numbers: Vec<u32> = open.into_iter().chain(packed).map(|(number, _)| number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers)
    }

    /// Returns the scope of the tags in one of its segments.
    pub fn scope(&self, number: u32) -> Vec<u8> {
        [b"evidence".as_slice(), &self.days.to_le_bytes(), &number.to_le_bytes()].concat()
    }

    /// Reads a segment, uncompressed.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn read(&self, number: u32) -> Result<Segment, ChainError> {
        let mut gone = None;
        // It may be compressed between two attempts.
        for _ in 0..3 {
            let open = segment::path(&self.path, OPEN, number);
            match read_open(&open) {
                Ok(bytes) => return Ok(Segment { path: open, bytes }),
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&open)(error)),
                Err(_) => {}
            }
            let packed = segment::path(&self.path, PACKED, number);
            match read_packed(&packed) {
                Ok(bytes) => return Ok(Segment { path: packed, bytes }),
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&packed)(error)),
                Err(error) => gone = Some(at(&packed)(error)),
            }
        }
        Err(gone.unwrap_or_else(|| at(&self.path)(io::ErrorKind::NotFound.into())))
    }

    /// Returns whether only the compressed form of a segment exists.
    pub fn is_packed(&self, number: u32) -> bool {
        !segment::path(&self.path, OPEN, number).exists()
    }

    /// Returns the path of a segment's summary.
    pub fn summary(&self, number: u32) -> PathBuf {
        self.path.join(format!("{number:08}.summary"))
    }

    /// Returns the file that says where the chain begins.
    pub fn kept_from_path(&self) -> PathBuf {
        self.path.join(KEPT_FROM)
    }

    /// Reads the chain's end before the oldest segment that is kept.
    ///
    /// # Errors
    ///
    /// When the file that says so cannot be read.
    pub fn kept_from(&self) -> Result<Head, ChainError> {
        Ok(read_head(&self.kept_from_path())?.unwrap_or(Head::EMPTY))
    }

    /// Writes the compressed form of a segment, durably, and removes the other.
    ///
    /// # Errors
    ///
    /// When that cannot be written.
    pub fn pack(&self, number: u32, bytes: &[u8]) -> Result<(), ChainError> {
        let packed = segment::path(&self.path, PACKED, number);
        let mut encoder = ZlibEncoder::new(Vec::with_capacity(bytes.len() / 2), Compression::fast());
        let compressed = encoder.write_all(bytes).and_then(|()| encoder.finish()).map_err(at(&packed))?;
        pixelward_files::replace(&packed, &compressed).map_err(at(&packed))?;
        let open = segment::path(&self.path, OPEN, number);
        std::fs::remove_file(&open).map_err(at(&open))
    }

    /// Removes a segment and its summary.
    ///
    /// # Errors
    ///
    /// When it cannot be.
    pub fn remove(&self, number: u32) -> Result<(), ChainError> {
        let paths = [
            segment::path(&self.path, OPEN, number),
            segment::path(&self.path, PACKED, number),
            self.summary(number),
        ];
        for path in paths {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&path)(error)),
                _ => {}
            }
        }
        File::open(&self.path).and_then(|folder| folder.sync_all()).map_err(at(&self.path))
    }
}

/// The contents of a segment.
#[derive(Debug)]
pub struct Segment {
    /// The file it was read from.
    pub path: PathBuf,
    bytes: Vec<u8>,
}

impl Segment {
    /// The end of the chain before it, as it says; `None` if its head is incomplete.
    pub fn start(&self) -> Option<Head> {
        segment::start_of(&self.bytes)
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Passes each record to a function with the chain up to it, starting from `head`.
    ///
    /// # Errors
    ///
    /// When it is damaged.
    pub fn walk(&self, head: &mut Head, mut each: impl FnMut(&Head, &[u8])) -> Result<End, ChainError> {
        segment::walk(&self.content(Check::Chain), head, |head, _, payload| each(head, payload))
    }

    /// Does the same with the hashes in the segment, and where each record is: the
    /// [`Link`](crate::chain::Link) of any record taken from it must be verified.
    ///
    /// # Errors
    ///
    /// When a checksum does not fit.
    pub fn skim(&self, head: &mut Head, each: impl FnMut(&Head, u32, &[u8])) -> Result<End, ChainError> {
        segment::walk(&self.content(Check::Checksum), head, each)
    }

    fn content(&self, check: Check) -> Content<'_> {
        Content { path: &self.path, form: OPEN, bytes: &self.bytes, skipped: 0, check }
    }
}

fn read_open(path: &Path) -> io::Result<Vec<u8>> {
    std::fs::read(path)
}

fn read_packed(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    ZlibDecoder::new(File::open(path)?).take(MAX_SEGMENT).read_to_end(&mut bytes)?;
    Ok(bytes)
}
