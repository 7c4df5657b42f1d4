//! The consent store: journal, key file and index as one.
//!
//! Lookups never wait for writes. Writes go through one thread that commits many at once: the key file is
//! synced, then the journal, and only then are they acknowledged; the index follows.

mod applied;
mod aside;
mod cache;
mod copy;
mod error;
mod expire;
mod heard;
pub mod identity;
mod indexer;
mod listing;
mod load;
mod opened;
mod replicated;
mod taken;
mod verify;
mod watch;
mod writer;

pub use applied::Applied;
pub use error::StoreError;
pub use listing::{Listed, Page, Tally};
pub use verify::Verified;
pub use watch::{Noted, Watcher};

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, mpsc};
use std::thread::JoinHandle;

use super::days::Days;
use super::index::{Index, Indexed, SledIndex, key};
use super::journal::{ChainHash, Head, Journal, Link, Place, segment_paths};
use super::keys::{Entry, Keys};
use super::ordered::{Order, Outcome, Said, Step};
use super::person::{Controller, Outward, Person, StoreKey};
use super::pseudonyms::{Pseudonym, Pseudonyms};
use super::record::{Change, Payload};
use super::standing::Standing;
use super::timestamp::Timestamp;
use cache::Cache;
pub(super) use error::io_error;
use heard::Pending;
use replicated::Hashes;
use writer::Writer;

/// Where the store is kept, and its sizes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The directory.
    pub directory: PathBuf,
    /// A second place for the head of the journal, on another disk.
    pub head_copy: Option<PathBuf>,
    /// Memory for the index cache, in bytes.
    pub cache_bytes: u64,
    /// The size at which a journal segment is closed, in bytes.
    pub segment_bytes: u64,
    /// The file of the store key; by default, in the directory.
    pub store_key: Option<PathBuf>,
}

impl Settings {
    /// Returns the settings for a store in this directory, with the defaults of `config.reference.toml`.
    pub fn at(directory: impl Into<PathBuf>) -> Settings {
        Settings {
            directory: directory.into(),
            head_copy: None,
            cache_bytes: 64 << 20,
            segment_bytes: 64 << 20,
            store_key: None,
        }
    }

    /// Returns the file of the store key.
    pub fn store_key(&self) -> PathBuf {
        self.store_key.clone().unwrap_or_else(|| self.directory.join(STORE_KEY))
    }
}

/// The default name of the store key's file.
pub const STORE_KEY: &str = "store.key";
/// The key file.
pub(super) const PEOPLE: &str = "people.keys";
/// The file of the pseudonyms, in the store's directory.
pub const PSEUDONYMS: &str = "pseudonyms.keys";

/// The file of the days of last open, in the store's directory.
pub const DAYS: &str = "days.log";

/// The number of batches that may wait to be committed.
const MAX_WAITING: usize = 1024;

/// The open store.
pub struct Store {
    shared: Arc<Shared>,
    queue: Mutex<Option<mpsc::SyncSender<Job>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    _lock: Lock,
}

/// What readers and the writer share.
struct Shared {
    store_key: StoreKey,
    identity: identity::Identity,
    common_identity: OnceLock<identity::Identity>,
    keys: RwLock<Keys>,
    pseudonyms: RwLock<Pseudonyms>,
    days: Days,
    index: SledIndex,
    /// What brings requests into a common order with other relays, if there are any.
    order: OnceLock<Arc<dyn Order>>,
    /// What holds here already, and is not in the common order yet.
    pending: Pending,
    /// The position of the last message of the common order that was applied; 0 if none was.
    position: AtomicU64,
    /// The chain's hashes at the latest records.
    hashes: Hashes,
    /// What the index does not contain yet.
    overlay: RwLock<HashMap<Vec<u8>, Arc<Indexed>>>,
    cache: Cache,
    head: Mutex<Head>,
    settings: Settings,
    watcher: OnceLock<Box<dyn Watcher>>,
    /// Set once the journal accepts no more until the next start.
    is_stopped: AtomicBool,
}

/// A batch for the writer.
enum Job {
    Said(Said),
    Apply(Vec<(u64, Step)>, Ack<Vec<Outcome>>),
    Settle(Ack<()>),
    Copy(PathBuf, Ack<()>),
}

impl Job {
    /// Returns how many changes it contains.
    fn size(&self) -> usize {
        match self {
            Job::Said(said) => said.size(),
            Job::Apply(steps, _) => steps.len(),
            Job::Settle(_) | Job::Copy(..) => 1,
        }
    }
}

/// A condition on the current consent before a change.
pub type Condition = Box<dyn FnOnce(&Standing) -> bool + Send>;

/// Receives the result of a request, on the thread that has it.
pub type Ack<T> = Box<dyn FnOnce(Result<T, StoreError>) + Send>;

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({})", self.shared.settings.directory.display())
    }
}

/// A record of a person, with its details.
#[derive(Clone, Debug)]
pub struct Entered {
    /// The number in the journal.
    pub number: u64,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// The change, including its details if they can be read.
    pub change: Change,
}

impl Store {
    /// Opens or creates the store. A partial end of the journal is cut off, and an index that is missing,
    /// damaged or behind is brought up to date; both are logged.
    ///
    /// # Errors
    ///
    /// When another process has it open, or when the journal, key file or store key cannot be used.
    pub fn open(settings: &Settings) -> Result<Store, StoreError> {
        let directory = &settings.directory;
        make_directory(directory).map_err(io_error(directory.display().to_string()))?;
        let lock = lock(directory)?;
        let is_new = segment_paths(directory)?.is_empty();
        let store_key = aside::store_key(settings, is_new).map_err(StoreError::Key)?;
        let mut keys = Keys::open(&directory.join(PEOPLE), &store_key).map_err(io_error("the key file"))?;
        let identity = identity::of(directory).map_err(io_error("the store's identity"))?;
        let (mut pseudonyms, days) = aside::open(directory, &store_key, is_new)?;
        let (journal, index) = load::load(settings, &mut keys, &mut pseudonyms)?;
        let shared = Arc::new(Shared {
            store_key,
            identity,
            common_identity: OnceLock::new(),
            keys: RwLock::new(keys),
            pseudonyms: RwLock::new(pseudonyms),
            days,
            index,
            order: OnceLock::new(),
            pending: Pending::default(),
            position: AtomicU64::new(replicated::last_position(&journal, settings)?),
            hashes: Hashes::default(),
            overlay: RwLock::new(HashMap::new()),
            cache: Cache::new(),
            head: Mutex::new(journal.head()),
            settings: settings.clone(),
            watcher: OnceLock::new(),
            is_stopped: AtomicBool::new(false),
        });
        let (queue, jobs) = mpsc::sync_channel(MAX_WAITING);
        let writer = Writer::new(Arc::clone(&shared), journal).map_err(io_error("the index's thread"))?;
        let writer = std::thread::Builder::new()
            .name("consent-writer".to_owned())
            .spawn(move || writer.run(&jobs))
            .map_err(io_error("the writer's thread"))?;
        Ok(Store { shared, queue: Mutex::new(Some(queue)), writer: Mutex::new(Some(writer)), _lock: lock })
    }

    /// Returns the directory.
    pub(super) fn directory(&self) -> &Path {
        &self.shared.settings.directory
    }

    /// Returns the key by which people are known.
    pub fn store_key(&self) -> &StoreKey {
        &self.shared.store_key
    }

    /// Returns the person with this address.
    pub fn person(&self, address: &str) -> Person {
        self.shared.store_key.person(address)
    }

    /// Returns the hashes under which a controller knows people outside of the program.
    pub fn outward(&self, controller: &Controller) -> Outward {
        Outward::of(&self.shared.store_key, controller)
    }

    /// Returns the same for what is about a person and no controller.
    pub fn outward_of_none(&self) -> Outward {
        Outward::of_none(&self.shared.store_key)
    }

    /// Returns what makes the tags under which a person appears in audit records.
    ///
    /// # Errors
    ///
    /// When a person who was erased comes back, and that cannot be written.
    pub fn pseudonym(&self, person: Person) -> io::Result<Pseudonym> {
        let known = self.shared.pseudonyms.read().unwrap_or_else(PoisonError::into_inner).of(person);
        match known {
            Some(pseudonym) => Ok(pseudonym),
            None => self.shared.pseudonyms.write().unwrap_or_else(PoisonError::into_inner).of_or_new(person),
        }
    }

    /// Derives a key for another use from the store key.
    pub fn derived_key(&self, label: &str) -> StoreKey {
        StoreKey::new(self.shared.store_key.derived(label))
    }

    /// Returns what tells this store from all others; relays that follow one order share one.
    pub fn identity(&self) -> identity::Identity {
        self.shared.common_identity.get().copied().unwrap_or(self.shared.identity)
    }

    /// Has the store show the identity that all relays of its cluster have in common.
    pub fn share_identity(&self, common: identity::Identity) {
        // There is one cluster at most, and it is joined once.
        let _ = self.shared.common_identity.set(common);
    }

    /// Returns a person's consent towards a controller, on which mail and pixels rest. An unknown person has
    /// said nothing.
    ///
    /// # Errors
    ///
    /// When the index cannot be read, or the other relays were not heard lately: nothing counts as granted
    /// then.
    pub fn lookup(&self, controller: &Controller, person: Person) -> Result<Arc<Standing>, StoreError> {
        if self.shared.order.get().is_some_and(|order| !order.is_fresh()) {
            return Err(StoreError::NotFresh);
        }
        self.shared.lookup(controller, person)
    }

    /// Returns what this relay knows of a person's consent, to show it: other relays may have heard more.
    ///
    /// # Errors
    ///
    /// When the index cannot be read.
    pub fn known(&self, controller: &Controller, person: Person) -> Result<Arc<Standing>, StoreError> {
        self.shared.lookup(controller, person)
    }

    /// Records changes in order. They are durable once this returns.
    ///
    /// # Errors
    ///
    /// When they could not be made durable: then none of them counts.
    pub fn record(&self, changes: Vec<(Person, Change)>) -> Result<Vec<Applied>, StoreError> {
        self.request(|ack| Said::Changes(changes, ack))
    }

    /// Records changes without waiting on this thread; `ack` is called from the writer's.
    ///
    /// # Errors
    ///
    /// When the store accepts no more writes.
    pub fn record_later(
        &self,
        changes: Vec<(Person, Change)>,
        ack: impl FnOnce(Result<Vec<Applied>, StoreError>) + Send + 'static,
    ) -> Result<(), StoreError> {
        self.hand(Said::Changes(changes, Box::new(ack)))
    }

    /// Records a change if the current consent satisfies `condition`, else nothing
    /// ([`Applied::Conflicting`]); `ack` is called from the writer's thread.
    ///
    /// # Errors
    ///
    /// When the store accepts no more writes.
    pub fn record_if(
        &self,
        person: Person,
        change: Change,
        condition: impl FnOnce(&Standing) -> bool + Send + 'static,
        ack: impl FnOnce(Result<Applied, StoreError>) + Send + 'static,
    ) -> Result<(), StoreError> {
        self.hand(Said::ChangeIf(Box::new((person, change)), Box::new(condition), Box::new(ack)))
    }

    /// Registers a watcher for every change from now on. There is at most one; returns whether this is it.
    pub fn watch(&self, watcher: Box<dyn Watcher>) -> bool {
        self.shared.watcher.set(watcher).is_ok()
    }

    /// Erases a person: removes the pseudonym used in audit records, overwrites and syncs the slot in the key
    /// file, and removes the standings. Returns whether the journal knew them.
    ///
    /// # Errors
    ///
    /// When the slot cannot be overwritten.
    pub fn erase(&self, person: Person) -> Result<bool, StoreError> {
        self.request(|ack| Said::Erase(person, ack))
    }

    /// Waits until the index contains everything that was recorded.
    ///
    /// # Errors
    ///
    /// When the index cannot be written.
    pub fn settle(&self) -> Result<(), StoreError> {
        self.wait(Job::Settle)
    }

    fn wait<T: Send + 'static>(&self, job: impl FnOnce(Ack<T>) -> Job) -> Result<T, StoreError> {
        answered(|ack| self.send(job(ack)))
    }

    fn request<T: Send + 'static>(&self, said: impl FnOnce(Ack<T>) -> Said) -> Result<T, StoreError> {
        answered(|ack| self.hand(said(ack)))
    }

    /// Hands a request to the common order, or where there is none to the writer.
    fn hand(&self, said: Said) -> Result<(), StoreError> {
        match self.shared.order.get() {
            Some(order) => {
                order.submit(said);
                Ok(())
            }
            None => self.send(Job::Said(said)),
        }
    }

    fn send(&self, job: Job) -> Result<(), StoreError> {
        let queue = locked(&self.queue).clone().ok_or(StoreError::Closed)?;
        queue.send(job).map_err(|_| StoreError::Closed)
    }

    /// Returns every record of a person, in order, from the journal itself.
    ///
    /// # Errors
    ///
    /// When the journal cannot be read.
    pub fn history(&self, person: Person) -> Result<Vec<Entered>, StoreError> {
        let Some(entry) = self.shared.entry(person) else { return Ok(Vec::new()) };
        let Some(places) = self.places(&entry)? else {
            return Ok(self.linked_history(person)?.into_iter().map(|(entered, _)| entered).collect());
        };
        let mut found = Vec::with_capacity(places.len());
        for (number, place) in places {
            let (payload, _) = Journal::record(&self.shared.settings.directory, place)?;
            found.extend(entered(&entry, number, &payload)?);
        }
        Ok(found)
    }

    /// Returns the same with each record's link in the chain.
    ///
    /// # Errors
    ///
    /// When the journal cannot be read.
    pub fn linked_history(&self, person: Person) -> Result<Vec<(Entered, Link)>, StoreError> {
        let Some(entry) = self.shared.entry(person) else { return Ok(Vec::new()) };
        let links = match self.places(&entry)? {
            Some(places) => {
                let places: Vec<Place> = places.into_iter().map(|(_, place)| place).collect();
                Journal::links(&self.shared.settings.directory, &places)?
            }
            None => {
                let mut links = Vec::new();
                self.each_link(|number, before, payload, hash| {
                    // The id is in clear, so most records need not be decoded.
                    if memchr::memmem::find(payload, &entry.id).is_some() {
                        links.push(Link { number, before: *before, payload: payload.to_vec(), hash: *hash });
                    }
                })?;
                links
            }
        };
        let mut found = Vec::with_capacity(links.len());
        for link in links {
            found.extend(entered(&entry, link.number, &link.payload)?.map(|entered| (entered, link)));
        }
        Ok(found)
    }

    /// Passes every record to `each`: its number, the chain's hash before it, its payload, and the hash up to
    /// and including it.
    ///
    /// # Errors
    ///
    /// When the journal cannot be read or is damaged.
    pub fn each_link(
        &self,
        mut each: impl FnMut(u64, &ChainHash, &[u8], &ChainHash),
    ) -> Result<(), StoreError> {
        let known = self.head().count;
        let mut before = [0; 32];
        Journal::read(&self.shared.settings.directory, |head, _, payload| {
            if head.count <= known {
                each(head.count, &before, payload, &head.hash);
            }
            before = head.hash;
        })?;
        Ok(())
    }

    /// Returns where the journal has the records of a person, oldest first; `None` if only a scan of all of
    /// it can tell.
    fn places(&self, entry: &Entry) -> Result<Option<Vec<(u64, Place)>>, StoreError> {
        let mut keys = self.shared.index.keys_of(&entry.id).map_err(io_error("the index"))?;
        let overlay = self.shared.overlay.read().unwrap_or_else(PoisonError::into_inner);
        keys.extend(overlay.keys().filter(|key| key.ends_with(&entry.id)).cloned());
        drop(overlay);
        keys.sort_unstable();
        keys.dedup();
        let mut places = Vec::new();
        for key in keys {
            let Some(indexed) = self.shared.indexed(&key)? else { continue };
            match indexed.trail.whole() {
                Some(numbers) => places.extend_from_slice(numbers),
                None => return Ok(None),
            }
        }
        places.sort_unstable_by_key(|(number, _)| *number);
        Ok(Some(places))
    }

    fn each_payload(&self, mut each: impl FnMut(u64, Payload)) -> Result<Head, StoreError> {
        let known = *locked(&self.shared.head);
        let mut bad = None;
        Journal::read(&self.shared.settings.directory, |head, _, payload| {
            let number = head.count;
            if number <= known.count {
                match Payload::decode(payload) {
                    Ok(payload) => each(number, payload),
                    Err(source) => bad = Some(StoreError::Record { number, source }),
                }
            }
        })?;
        bad.map_or(Ok(known), Err)
    }

    /// Returns the end of the journal's chain.
    pub fn head(&self) -> Head {
        *locked(&self.shared.head)
    }

    /// Returns how many people are known.
    pub fn people(&self) -> usize {
        self.shared.keys.read().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Drop for Store {
    /// Lets the writer finish what it was given.
    fn drop(&mut self) {
        drop(locked(&self.queue).take());
        if let Some(writer) = locked(&self.writer).take() {
            let _ = writer.join();
        }
    }
}

/// Decodes a payload, if it is a record of this person.
pub(super) fn entered(entry: &Entry, number: u64, payload: &[u8]) -> Result<Option<Entered>, StoreError> {
    let record = match Payload::decode(payload) {
        Ok(Payload::Record(record)) if record.person == entry.id => *record,
        Ok(_) => return Ok(None),
        Err(source) => return Err(StoreError::Record { number, source }),
    };
    let details = record.details(&entry.sealer()).unwrap_or_default();
    let change = Change { details, ..record.change };
    Ok(Some(Entered { number, recorded_at: record.recorded_at, change }))
}

/// Waits for the answer to a request.
fn answered<T: Send + 'static>(send: impl FnOnce(Ack<T>) -> Result<(), StoreError>) -> Result<T, StoreError> {
    let (done, result) = mpsc::sync_channel(1);
    send(Box::new(move |outcome| {
        let _ = done.send(outcome);
    }))?;
    result.recv().map_err(|_| StoreError::Closed)?
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn make_directory(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    crate::private_file::check_owner(directory)?;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// Keeps other processes out: locks the directory itself, which nobody deletes unnoticed, and the file that
/// earlier versions check.
struct Lock {
    _directory: File,
    _file: File,
}

fn lock(directory: &Path) -> Result<Lock, StoreError> {
    let named = |path: &Path| path.display().to_string();
    let folder = File::open(directory).map_err(io_error(named(directory)))?;
    match folder.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(StoreError::Busy(directory.to_owned())),
        // Some network file systems cannot lock. What somebody else appends is noticed at the next write all
        // the same.
        Err(TryLockError::Error(error)) => {
            tracing::warn!(
                folder = %directory.display(), %error,
                "this file system cannot lock directories; the file `lock` in it must not be deleted"
            );
        }
    }
    let path = directory.join("lock");
    let file = File::create(&path).map_err(io_error(named(&path)))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock { _directory: folder, _file: file }),
        Err(TryLockError::WouldBlock) => Err(StoreError::Busy(directory.to_owned())),
        Err(TryLockError::Error(source)) => Err(io_error(named(&path))(source)),
    }
}

impl Shared {
    /// Opens the key file again, to be scanned while others use it.
    fn key_reader(&self) -> Result<Keys, StoreError> {
        Keys::reader(&self.settings.directory.join(PEOPLE), &self.store_key).map_err(io_error("the key file"))
    }

    fn entry(&self, person: Person) -> Option<Entry> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).find(person)
    }

    fn lookup(&self, controller: &Controller, person: Person) -> Result<Arc<Standing>, StoreError> {
        let standing = self.recorded(controller, person)?;
        Ok(self.pending.joined(controller, person, standing))
    }

    fn recorded(&self, controller: &Controller, person: Person) -> Result<Arc<Standing>, StoreError> {
        let asked = key(controller.as_str(), &person.0);
        if let Some(standing) = self.cache.get(&asked) {
            return Ok(standing);
        }
        let before = self.cache.generation();
        let standing = match self.entry(person) {
            Some(entry) => {
                let indexed = self.indexed(&key(controller.as_str(), &entry.id))?;
                indexed.map_or_else(Standing::unknown, |indexed| indexed.standing.clone())
            }
            None => Standing::unknown(),
        };
        let standing = Arc::new(standing);
        self.cache.put(&asked, &standing, before);
        Ok(standing)
    }

    /// Returns the value of a key of the index, including what the index does not contain yet.
    fn indexed(&self, key: &[u8]) -> Result<Option<Arc<Indexed>>, StoreError> {
        if let Some(indexed) = self.overlay.read().unwrap_or_else(PoisonError::into_inner).get(key) {
            return Ok(Some(Arc::clone(indexed)));
        }
        Ok(self.index.get(key).map_err(io_error("the index"))?.map(Arc::new))
    }
}

#[cfg(test)]
mod tests;
