//! The delivery ledger: the result for each recipient of a message whose client did not get the 250, or may
//! not have. It lets a client's retry complete the delivery instead of duplicating it.
//!
//! A separate log, synced before anything depends on it, and small: an entry is removed when the client
//! continues, and after six days. Recipients appear as keyed hashes.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::future::Future;
use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};

use pixelward_files::Log;
use tokio::sync::oneshot;

use crate::consent::key_file;
use crate::consent::{StoreKey, Timestamp};
use crate::message::header::{self, fields};
use crate::smtp::session::Envelope;

/// How long an entry is kept: longer than any client keeps trying (RFC 5321, section 4.5.4.1 recommends four
/// to five days).
const KEPT_DAYS: i64 = 6;
/// The length of a record: key, time, result with its code, checksum.
const RECORD: usize = 32;
/// The size above which a log that is mostly obsolete is rewritten.
const REWRITTEN_FROM: u64 = 1 << 20;

/// A message to one recipient, identified by everything that stays the same in a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key([u8; 16]);

/// The result of a message to one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The final dot was sent or about to be sent, and no reply is known.
    Unknown,
    /// The next hop accepted it.
    Accepted,
    /// The next hop rejected it with this code, and the sender was not notified yet.
    Rejected(u16),
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    fate: Fate,
    at: Timestamp,
}

type Entries = Arc<Mutex<HashMap<Key, Entry>>>;

/// Something to be written.
struct Job {
    /// `None` closes the entry.
    changes: Vec<(Key, Option<Fate>)>,
    /// Who waits until it is synced.
    synced: Option<oneshot::Sender<io::Result<()>>>,
}

/// The ledger.
#[derive(Debug)]
pub struct Ledger {
    key: StoreKey,
    entries: Entries,
    /// What a next hop may still answer about.
    late: Arc<Mutex<HashSet<Key>>>,
    jobs: mpsc::Sender<Job>,
}

impl Ledger {
    /// Opens the ledger in a directory, creating it if needed. Nobody waited for a record that a crash cut
    /// off, so it is dropped.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or written, or others may read the key.
    pub fn open(directory: &Path) -> Result<Ledger, String> {
        let named = |error: io::Error| format!("the delivery ledger in {}: {error}", directory.display());
        std::fs::create_dir_all(directory).map_err(named)?;
        let key = key_file::load_or_create(&directory.join("key"))?;
        let path = directory.join("log");
        let entries = read(&path).map_err(named)?;
        let log = Log::create(&path, &records(&entries)).map_err(named)?;
        let entries: Entries = Arc::new(Mutex::new(entries));
        let (jobs, waiting) = mpsc::channel();
        let shared = Arc::clone(&entries);
        std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || write(log, &shared, &waiting))
            .map_err(named)?;
        Ok(Ledger { key, entries, late: Arc::default(), jobs })
    }

    /// Returns whether nothing is open: then no message needs to be looked up.
    pub fn is_empty(&self) -> bool {
        self.entries().is_empty()
    }

    /// Computes the keys of a message for its recipients, in order. Trace and signature fields may differ
    /// between two attempts; a message without Message-ID is identified by all its bytes.
    pub fn keys(&self, listener: &str, envelope: &Envelope, message: &[u8]) -> Vec<Key> {
        let value = |name: &str| {
            let field = fields(message, 0).find(|field| field.is(message, name));
            field.map(|field| field.value(message)).unwrap_or_default()
        };
        let id = value("Message-ID");
        let body = if id.is_empty() { message } else { header::body(message) };
        let pieces = [
            listener.as_bytes(),
            envelope.sender.address.as_str().as_bytes(),
            id,
            value("Date"),
            value("From"),
            body,
        ];
        let lengths: Vec<[u8; 8]> = pieces.iter().map(|piece| (piece.len() as u64).to_le_bytes()).collect();
        let framed: Vec<&[u8]> =
            lengths.iter().zip(pieces).flat_map(|(length, piece)| [&length[..], piece]).collect();
        let mail = self.key.tag(&framed);
        let recipients = envelope.recipients.iter();
        recipients
            .map(|recipient| Key(self.key.tag(&[&mail, recipient.address.as_str().as_bytes()])))
            .collect()
    }

    /// Returns what is known about each key.
    pub fn fates(&self, keys: &[Key]) -> Vec<Option<Fate>> {
        let now = Timestamp::now();
        let entries = self.entries();
        let fate = |key| entries.get(key).filter(|entry| !entry.is_over(now)).map(|entry| entry.fate);
        keys.iter().map(fate).collect()
    }

    /// Records results, and waits until they are synced.
    ///
    /// # Errors
    ///
    /// When they could not be written: nothing may depend on them then.
    pub async fn note(&self, changes: Vec<(Key, Option<Fate>)>) -> io::Result<()> {
        let (synced, done) = oneshot::channel();
        let gone = |_| io::Error::other("the ledger's writer has ended");
        self.jobs.send(Job { changes, synced: Some(synced) }).map_err(|_| gone(()))?;
        done.await.map_err(|_| gone(()))?
    }

    /// Waits for a next hop's answers about these in the background, and records them when they come.
    pub(super) fn wait_for(
        &self,
        keys: Vec<Key>,
        answers: impl Future<Output = Vec<Option<Fate>>> + Send + 'static,
    ) {
        self.late().extend(&keys);
        let (late, jobs) = (Arc::clone(&self.late), self.jobs.clone());
        tokio::spawn(async move {
            let answers = keys.iter().copied().zip(answers.await);
            let changes: Vec<_> = answers.filter(|(_, fate)| *fate != Some(Fate::Unknown)).collect();
            if !changes.is_empty() {
                let (synced, done) = oneshot::channel();
                if jobs.send(Job { changes, synced: Some(synced) }).is_ok() {
                    let _ = done.await;
                }
            }
            let mut late = late.lock().unwrap_or_else(PoisonError::into_inner);
            late.retain(|key| !keys.contains(key));
        });
    }

    /// Returns whether a next hop may still answer about a message that it was given.
    pub(super) fn is_late(&self, key: Key) -> bool {
        self.late().contains(&key)
    }

    fn late(&self) -> std::sync::MutexGuard<'_, HashSet<Key>> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until everything that was recorded so far is on the disk.
    pub async fn flush(&self) {
        let _ = self.note(Vec::new()).await;
    }

    /// Records results without waiting: they survive a kill of the process as soon as they are written, and a
    /// failure of the machine once the next record is synced.
    pub fn jot(&self, changes: Vec<(Key, Option<Fate>)>) {
        let _ = self.jobs.send(Job { changes, synced: None });
    }

    /// Closes entries because the client knows the result. Nobody waits: an entry that comes back after a
    /// crash only keeps a retry from duplicating.
    pub fn close(&self, keys: &[Key]) {
        self.jot(keys.iter().map(|key| (*key, None)).collect());
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn is_over(&self, now: Timestamp) -> bool {
        self.at.plus_days(KEPT_DAYS) <= now
    }
}

/// Returns the records of all entries that are not over.
fn records(entries: &HashMap<Key, Entry>) -> Vec<u8> {
    let now = Timestamp::now();
    let kept = entries.iter().filter(|(_, entry)| !entry.is_over(now));
    kept.flat_map(|(key, entry)| record(*key, Some(entry.fate), entry.at)).collect()
}

/// The writer: collects what waits, writes and syncs it, and only then confirms.
fn write(mut log: Log, entries: &Mutex<HashMap<Key, Entry>>, jobs: &mpsc::Receiver<Job>) {
    while let Ok(first) = jobs.recv() {
        let mut jobs: Vec<Job> = std::iter::once(first).chain(jobs.try_iter()).collect();
        let at = Timestamp::now();
        let changes = || jobs.iter().flat_map(|job| &job.changes);
        let bytes: Vec<u8> = changes().flat_map(|(key, fate)| record(*key, *fate, at)).collect();
        let sync = jobs.iter().any(|job| job.synced.is_some());
        let written = if sync { log.append_synced(&bytes) } else { log.append(&bytes) };
        let mut entries = entries.lock().unwrap_or_else(PoisonError::into_inner);
        match &written {
            Ok(()) => changes().for_each(|(key, fate)| change(&mut entries, *key, *fate, at)),
            Err(error) => tracing::error!(%error, "the delivery ledger could not be written"),
        }
        if log.length() >= REWRITTEN_FROM && log.length() > 4 * (entries.len() * RECORD) as u64 {
            entries.retain(|_, entry| !entry.is_over(at));
            if let Err(error) = log.rewrite(&records(&entries)) {
                tracing::error!(%error, "the delivery ledger could not be rewritten");
            }
        }
        metrics::gauge!("pixelward_ledger_entries").set(entries.len() as f64);
        drop(entries);
        for synced in jobs.iter_mut().filter_map(|job| job.synced.take()) {
            let result = match &written {
                Ok(()) => Ok(()),
                Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
            };
            let _ = synced.send(result);
        }
    }
}

fn change(entries: &mut HashMap<Key, Entry>, key: Key, fate: Option<Fate>, at: Timestamp) {
    match fate {
        Some(fate) => drop(entries.insert(key, Entry { fate, at })),
        None => drop(entries.remove(&key)),
    }
}

/// Encodes key, time in milliseconds, kind, code of a rejection, and a checksum of all of these.
fn record(key: Key, fate: Option<Fate>, at: Timestamp) -> [u8; RECORD] {
    let (kind, code) = match fate {
        None => (0u16, 0),
        Some(Fate::Unknown) => (1, 0),
        Some(Fate::Accepted) => (2, 0),
        Some(Fate::Rejected(code)) => (3, code),
    };
    let mut bytes = Vec::with_capacity(RECORD);
    bytes.extend_from_slice(&key.0);
    bytes.extend_from_slice(&at.0.to_le_bytes());
    bytes.extend_from_slice(&kind.to_le_bytes());
    bytes.extend_from_slice(&code.to_le_bytes());
    let checksum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    let mut record = [0; RECORD];
    record.iter_mut().zip(bytes).for_each(|(target, byte)| *target = byte);
    record
}

/// Reads the entries of a log, up to the first incomplete record.
fn read(path: &Path) -> io::Result<HashMap<Key, Entry>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(mut file) => file.read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashMap::new()),
        Err(error) => return Err(error),
    };
    let mut entries = HashMap::new();
    for record in bytes.chunks(RECORD) {
        let Some((key, fate, at)) = entry(record) else {
            tracing::warn!("the end of the delivery ledger was cut off by a crash and is dropped");
            break;
        };
        change(&mut entries, key, fate, at);
    }
    let now = Timestamp::now();
    entries.retain(|_, entry| !entry.is_over(now));
    Ok(entries)
}

fn entry(record: &[u8]) -> Option<(Key, Option<Fate>, Timestamp)> {
    let (content, checksum) = record.split_last_chunk::<4>()?;
    let (key, rest) = content.split_first_chunk::<16>()?;
    let (at, rest) = rest.split_first_chunk::<8>()?;
    let (kind, rest) = rest.split_first_chunk::<2>()?;
    let (code, _) = rest.split_first_chunk::<2>()?;
    if crc32fast::hash(content) != u32::from_le_bytes(*checksum) {
        return None;
    }
    let fate = match u16::from_le_bytes(*kind) {
        0 => None,
        1 => Some(Fate::Unknown),
        2 => Some(Fate::Accepted),
        3 => Some(Fate::Rejected(u16::from_le_bytes(*code))),
        _ => return None,
    };
    Some((Key(*key), fate, Timestamp(i64::from_le_bytes(*at))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::address::Address;
    use crate::smtp::command::Parameters;
    use crate::smtp::session::{Greeting, Protocol, Recipient, Sender};

    fn envelope(recipients: &[&str]) -> Envelope {
        let address = |text: &str| Address::bare(text).unwrap();
        let recipient = |text: &&str| Recipient { address: address(text), parameters: Parameters::default() };
        let client = Greeting { name: "shop.example".to_owned(), protocol: Protocol::Esmtp };
        let sender = Sender { address: address("news@shop.example"), parameters: Parameters::default() };
        Envelope { recipients: recipients.iter().map(recipient).collect(), ..Envelope::new(client, sender) }
    }

    fn folder(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("pixelward-ledger-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        path
    }

    const MESSAGE: &[u8] = b"Received: from a\r\nMessage-ID: <1@shop.example>\r\n\r\nbody\r\n";

    #[tokio::test]
    async fn what_was_noted_is_there_after_a_crash_and_what_was_closed_is_not() {
        let folder = folder("crash");
        let ledger = Ledger::open(&folder).unwrap();
        assert!(ledger.is_empty());
        let keys = ledger.keys("default", &envelope(&["a@b.example", "c@d.example", "e@f.example"]), MESSAGE);
        let [a, c, e] = keys[..] else { panic!("three recipients") };
        ledger.note(keys.iter().map(|key| (*key, Some(Fate::Unknown))).collect()).await.unwrap();
        ledger.note(vec![(a, Some(Fate::Accepted)), (c, Some(Fate::Rejected(550)))]).await.unwrap();
        let known = [Some(Fate::Accepted), Some(Fate::Rejected(550)), Some(Fate::Unknown)];
        assert_eq!(ledger.fates(&keys), known);
        // Another one opens the same files as they are, with half a record behind them.
        let log = folder.join("log");
        let mut bytes = std::fs::read(&log).unwrap();
        bytes.extend_from_slice(&[7; RECORD / 2]);
        std::fs::write(&log, &bytes).unwrap();
        let again = Ledger::open(&folder).unwrap();
        assert_eq!(again.fates(&keys), known);
        again.close(&[a, c]);
        again.note(vec![(e, None)]).await.unwrap();
        assert!(again.is_empty());
        assert!(Ledger::open(&folder).unwrap().is_empty());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_key_is_the_same_at_a_retry_and_for_nothing_else() {
        let folder = folder("keys");
        let ledger = Ledger::open(&folder).unwrap();
        let check = |listener: &str, to: &str, message: &str| {
            ledger.keys(listener, &envelope(&[to]), message.as_bytes())
        };
        let text = String::from_utf8(MESSAGE.to_vec()).unwrap();
        let first = check("default", "a@b.example", &text);
        let traced = format!("Received: from c\r\nDKIM-Signature: x\r\n{text}");
        assert_eq!(check("default", "a@b.example", &traced), first);
        assert_ne!(check("other", "a@b.example", &text), first);
        assert_ne!(check("default", "b@b.example", &text), first);
        assert_ne!(check("default", "a@b.example", &text.replace("body", "Body")), first);
        assert_ne!(check("default", "a@b.example", &text.replace("<1@", "<2@")), first);
        let nameless = text.replace("Message-ID", "X-ID");
        assert_ne!(
            check("default", "a@b.example", &nameless),
            check("default", "a@b.example", &nameless.replace("from a", "from b"))
        );
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn entries_end_after_six_days() {
        let entry = Entry { fate: Fate::Accepted, at: Timestamp(0) };
        assert!(!entry.is_over(Timestamp(0).plus_days(6 - 1)));
        assert!(entry.is_over(Timestamp(0).plus_days(6)));
    }
}
