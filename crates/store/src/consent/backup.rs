//! Backup and restore of the store. The journal and the keys are backed up separately: an erased person is
//! only gone once every copy of the old key is, so backups of the keys carry the day on which they must be
//! deleted.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::days::{Day, Days};
use super::journal::{Journal, segment_paths, write_head};
use super::keys::copy_slots;
use super::pseudonyms;
use super::store::{DAYS, PSEUDONYMS, STORE_KEY, Settings, StoreError, Verified, io_error};
use super::{Store, Timestamp, key_file};

/// The file that describes a backup of the journal.
const JOURNAL_NOTE: &str = "journal-backup.json";
/// The file that describes a backup of the keys.
const KEYS_NOTE: &str = "keys-backup.json";
/// The key file.
const PEOPLE: &str = "people.keys";

/// Describes a backup of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalNote {
    /// When it was made.
    pub made_at: String,
    /// How many records it has.
    pub records: u64,
    /// The chain's hash up to the last one, in hexadecimal.
    pub hash: String,
}

/// Describes a backup of the keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysNote {
    /// When it was made.
    pub made_at: String,
    /// When it must be deleted: people erased since it was made are in it.
    pub delete_by: String,
}

/// Why a backup cannot be made or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The store cannot be read or created.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The backup of the keys has passed its deletion date.
    #[error(
        "the keys in {} were to be deleted by {delete_by}: people erased since then are in them. Use a newer \
         backup, or pass --accept-expired; people whose erasure is in the journal are erased again",
        path.display()
    )]
    Expired {
        /// The directory.
        path: PathBuf,
        /// The deletion date.
        delete_by: String,
    },
    /// A store exists already.
    #[error("{}: there is a consent store here already. Move it away first, and keep it until the restored \
             one has been checked", .0.display())]
    Occupied(PathBuf),
    /// The directory does not contain the expected backup.
    #[error("{}: {what}", path.display())]
    NoBackup {
        /// The file.
        path: PathBuf,
        /// The problem.
        what: String,
    },
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> BackupError + '_ {
    move |source| BackupError::Store(io_error(path.display().to_string())(source))
}

/// Backs up the journal to `to`, which may contain an older backup: what did not change is left. A running
/// relay may write meanwhile.
///
/// # Errors
///
/// When the journal cannot be read or is damaged, or the copy cannot be written.
pub fn copy_journal(settings: &Settings, to: &Path) -> Result<JournalNote, BackupError> {
    make_private(to)?;
    let segments = segment_paths(&settings.directory).map_err(StoreError::from)?;
    for path in &segments {
        let name = path.file_name().unwrap_or_default();
        copy(path, &to.join(name))?;
    }
    // The backup is what counts: a partial last record in it is not counted.
    let (mut records, mut hash) = (0, [0; 32]);
    Journal::read(to, |head, _, _| (records, hash) = (head.count, head.hash)).map_err(StoreError::from)?;
    let note = JournalNote {
        made_at: Timestamp::now().to_string(),
        records,
        hash: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    write_note(&to.join(JOURNAL_NOTE), &note)?;
    Ok(note)
}

/// Backs up the keys to `to`, to be deleted after this many days. A running relay may write meanwhile.
///
/// # Errors
///
/// When they cannot be read or written.
pub fn copy_keys(settings: &Settings, to: &Path, days: u16) -> Result<KeysNote, BackupError> {
    make_private(to)?;
    let store_key = to.join(STORE_KEY);
    copy(&settings.store_key(), &store_key)?;
    let key = key_file::load(&store_key).map_err(StoreError::Key)?;
    let people = settings.directory.join(PEOPLE);
    copy_slots(&people, &to.join(PEOPLE), &key).map_err(io_at(&people))?;
    copy_pseudonyms(&settings.directory, to)?;
    let now = Timestamp::now();
    let note = KeysNote { made_at: now.to_string(), delete_by: now.plus_days(i64::from(days)).to_string() };
    write_note(&to.join(KEYS_NOTE), &note)?;
    Ok(note)
}

/// Copies everything but what tells one store from another, to a directory for a new one. Nothing may be
/// written meanwhile.
pub(super) fn copy_all(settings: &Settings, to: &Path) -> Result<(), StoreError> {
    let copied = || {
        make_private(to)?;
        for path in segment_paths(&settings.directory).map_err(StoreError::from)? {
            let name = path.file_name().unwrap_or_default();
            copy(&path, &to.join(name))?;
        }
        copy(&settings.store_key(), &to.join(STORE_KEY))?;
        copy(&settings.directory.join(PEOPLE), &to.join(PEOPLE))?;
        copy_pseudonyms(&settings.directory, to)
    };
    copied().map_err(|error| match error {
        BackupError::Store(error) => error,
        other => io_error(to.display().to_string())(io::Error::other(other)),
    })
}

/// Creates a store from a backup of the journal and one of the keys, and verifies it. `accept_expired`
/// accepts keys past their deletion date.
///
/// # Errors
///
/// When a store exists already, the backups are unusable, the keys have expired, or the store made from them
/// does not open.
pub fn restore(
    settings: &Settings,
    journal: &Path,
    keys: &Path,
    accept_expired: bool,
) -> Result<Verified, BackupError> {
    let directory = &settings.directory;
    if directory.join("00000001.journal").exists() || directory.join(PEOPLE).exists() {
        return Err(BackupError::Occupied(directory.clone()));
    }
    let (there, copied) = (settings.store_key(), keys.join(STORE_KEY));
    if there.exists() && std::fs::read(&there).ok() != std::fs::read(&copied).ok() {
        return Err(BackupError::Occupied(there));
    }
    let note: JournalNote = read_note(&journal.join(JOURNAL_NOTE))?;
    let key_note: KeysNote = read_note(&keys.join(KEYS_NOTE))?;
    let delete_by = Timestamp::parse(&key_note.delete_by)
        .map_err(|what| BackupError::NoBackup { path: keys.join(KEYS_NOTE), what })?;
    if delete_by < Timestamp::now() && !accept_expired {
        return Err(BackupError::Expired { path: keys.to_owned(), delete_by: key_note.delete_by });
    }
    make_private(directory)?;
    for path in segment_paths(journal).map_err(StoreError::from)? {
        let name = path.file_name().unwrap_or_default();
        copy(&path, &directory.join(name))?;
    }
    copy(&keys.join(PEOPLE), &directory.join(PEOPLE))?;
    if !there.exists() {
        copy(&copied, &there)?;
    }
    copy_pseudonyms(keys, directory)?;
    // Backups do not contain the days of last open.
    Days::open(&directory.join(DAYS))
        .map_err(io_at(&directory.join(DAYS)))?
        .0
        .lose(Day::of(Timestamp::now()));
    let verified = Store::open(settings)?.verify()?;
    if verified.records < note.records || (verified.records == note.records && verified.hash != note.hash) {
        let what = format!(
            "the journal had {} records when it was backed up, and has {} now",
            note.records, verified.records
        );
        return Err(BackupError::NoBackup { path: journal.to_owned(), what });
    }
    Ok(verified)
}

/// Accepts a journal that lost its end: its head becomes the one at the second place.
///
/// # Errors
///
/// When the journal cannot be read, or the head cannot be written.
pub fn accept_loss(settings: &Settings) -> Result<(), StoreError> {
    let Some(copy) = &settings.head_copy else { return Ok(()) };
    let mut newest = None;
    Journal::read(&settings.directory, |head, _, _| newest = Some(*head))?;
    match newest {
        Some(head) => write_head(copy, &head).map_err(io_error(copy.display().to_string())),
        None => match std::fs::remove_file(copy) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error(copy.display().to_string())(error))
            }
            _ => Ok(()),
        },
    }
}

/// Backups of early versions have none.
fn copy_pseudonyms(from: &Path, to: &Path) -> Result<(), BackupError> {
    let path = from.join(PSEUDONYMS);
    if path.exists() { pseudonyms::copy(&path, &to.join(PSEUDONYMS)).map_err(io_at(&path)) } else { Ok(()) }
}

fn make_private(directory: &Path) -> Result<(), BackupError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(io_at(directory))
}

/// Copies the current contents of a file, synced. A file of the same size is assumed to be the same: segments
/// only grow.
fn copy(from: &Path, to: &Path) -> Result<(), BackupError> {
    let length = std::fs::metadata(from).map_err(io_at(from))?.len();
    if std::fs::metadata(to).is_ok_and(|metadata| metadata.len() == length)
        && to.extension().is_some_and(|extension| extension == "journal")
    {
        return Ok(());
    }
    let source = File::open(from).map_err(io_at(from))?;
    let mut target = create(to)?;
    io::copy(&mut source.take(length), &mut target).and_then(|_| target.sync_all()).map_err(io_at(to))
}

fn create(path: &Path) -> Result<File, BackupError> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).map_err(io_at(path))
}

fn write_note(path: &Path, note: &impl Serialize) -> Result<(), BackupError> {
    let text = serde_json::to_string_pretty(note).unwrap_or_default();
    let mut file = create(path)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io_at(path))?;
    let directory = path.parent().unwrap_or(path);
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(io_at(directory))
}

fn read_note<T: DeserializeOwned>(path: &Path) -> Result<T, BackupError> {
    let no_backup = |what: String| BackupError::NoBackup { path: path.to_owned(), what };
    let text =
        std::fs::read(path).map_err(|error| no_backup(format!("not a backup of pixelward: {error}")))?;
    serde_json::from_slice(&text).map_err(|error| no_backup(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consent::{Applied, Change, Permission, State};
    use crate::policy::Purpose;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("pixelward-backup-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).unwrap();
            Folder(path)
        }

        fn settings(&self, name: &str) -> Settings {
            Settings { segment_bytes: 2000, ..Settings::at(self.0.join(name)) }
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn grant(store: &Store, address: &str, at: i64) {
        let mut change = Change::new(
            "shop".parse().unwrap(),
            vec![Purpose::Personalisation],
            State::Granted,
            Timestamp(at),
        );
        change.details.evidence = Some("form".to_owned());
        let applied = store.record(vec![(store.person(address), change)]).unwrap();
        assert!(matches!(applied[0], Applied::Recorded(_)));
    }

    fn allowed(store: &Store, address: &str) -> bool {
        let standing = store.lookup(&"shop".parse().unwrap(), store.person(address)).unwrap();
        matches!(standing.allows(Purpose::Personalisation, Timestamp(99)), Permission::Granted(_))
    }

    #[test]
    fn what_was_copied_comes_back_and_who_was_erased_does_not() {
        let folder = Folder::new("round-trip");
        let settings = folder.settings("store");
        let (journal, keys) = (folder.0.join("journal"), folder.0.join("keys"));
        let store = Store::open(&settings).unwrap();
        let tag = |store: &Store, address: &str| store.pseudonym(store.person(address)).unwrap().tag(b"here");
        let tags = [tag(&store, "p7@home.example"), tag(&store, "p8@home.example")];
        (0..40).for_each(|number| grant(&store, &format!("p{number}@home.example"), 5));
        copy_journal(&settings, &journal).unwrap();
        copy_keys(&settings, &keys, 30).unwrap();
        // The copy of the keys is older than these two, that of the journal is not.
        grant(&store, "late@home.example", 5);
        store.erase(store.person("p7@home.example")).unwrap();
        let note = copy_journal(&settings, &journal).unwrap();
        assert_eq!(note.records, 42);
        drop(store);
        let again = folder.settings("again");
        assert_eq!(restore(&again, &journal, &keys, false).unwrap().records, 42);
        let store = Store::open(&again).unwrap();
        for number in 0..40 {
            assert_eq!(allowed(&store, &format!("p{number}@home.example")), number != 7, "{number}");
        }
        assert!(!allowed(&store, "late@home.example"), "nobody knows whose record it is");
        assert_ne!(tag(&store, "p7@home.example"), tags[0], "nor is the evidence tied to them again");
        assert_eq!(tag(&store, "p8@home.example"), tags[1]);
        assert!(matches!(restore(&again, &journal, &keys, false), Err(BackupError::Occupied(_))));
    }

    #[test]
    fn keys_that_should_be_gone_are_not_put_back_unless_that_is_asked_for() {
        let folder = Folder::new("expired");
        let settings = folder.settings("store");
        let (journal, keys) = (folder.0.join("journal"), folder.0.join("keys"));
        let store = Store::open(&settings).unwrap();
        grant(&store, "ann@home.example", 5);
        copy_journal(&settings, &journal).unwrap();
        let note = copy_keys(&settings, &keys, 30).unwrap();
        let old = KeysNote { delete_by: "2026-01-01T00:00:00Z".to_owned(), ..note };
        write_note(&keys.join(KEYS_NOTE), &old).unwrap();
        let again = folder.settings("again");
        let error = restore(&again, &journal, &keys, false).unwrap_err();
        assert!(matches!(error, BackupError::Expired { .. }), "{error}");
        assert!(!again.directory.exists());
        assert!(restore(&again, &journal, &keys, true).is_ok());
    }

    #[test]
    fn what_is_no_backup_is_not_put_back() {
        let folder = Folder::new("none");
        let error = restore(&folder.settings("again"), &folder.0, &folder.0, false).unwrap_err();
        assert!(error.to_string().contains("not a backup of pixelward"), "{error}");
    }
}
