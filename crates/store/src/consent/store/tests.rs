use super::*;
use crate::consent::journal::JournalError;
use crate::consent::record::{State, Timing};
use crate::consent::standing::Permission;
use crate::policy::Purpose;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("pixelward-store-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Folder(path)
    }

    fn open(&self) -> Store {
        Store::open(&Settings { head_copy: Some(self.0.with_extension("head")), ..Settings::at(&self.0) })
            .unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
        let _ = std::fs::remove_file(self.0.with_extension("head"));
    }
}

fn shop() -> Controller {
    "shop".parse().unwrap()
}

fn change(state: State, at: i64) -> Change {
    let mut change = Change::new(shop(), vec![Purpose::CampaignPerformance], state, Timestamp(at));
    change.details.evidence = Some("form/1".to_owned());
    change
}

fn allowed(store: &Store, address: &str) -> bool {
    let standing = store.lookup(&shop(), store.person(address)).unwrap();
    matches!(standing.allows(Purpose::CampaignPerformance, Timestamp::now()), Permission::Granted(_))
}

fn say(store: &Store, address: &str, state: State, at: i64) -> Applied {
    store.record(vec![(store.person(address), change(state, at))]).unwrap().remove(0)
}

fn taken(store: &Store, address: &str, state: State, at: i64) {
    assert!(matches!(say(store, address, state, at), Applied::Recorded(_)));
}

#[test]
fn what_was_acknowledged_holds_at_once_and_after_a_restart() {
    let folder = Folder::new("restart");
    let store = folder.open();
    assert!(!allowed(&store, "ann@home.example"));
    assert_eq!(say(&store, "ann@home.example", State::Granted, 5), Applied::Recorded(1));
    assert!(allowed(&store, "Ann@Home.example"));
    assert_eq!(say(&store, "ann@home.example", State::Withdrawn, 6), Applied::Recorded(2));
    assert!(!allowed(&store, "ann@home.example"));
    assert_eq!(say(&store, "ann@home.example", State::Granted, 6), Applied::SupersededByWithdrawal);
    taken(&store, "bob@home.example", State::Granted, 5);
    drop(store);
    let store = folder.open();
    assert!(!allowed(&store, "ann@home.example"));
    assert!(allowed(&store, "bob@home.example"));
    let history = store.history(store.person("ann@home.example")).unwrap();
    assert_eq!(
        history.iter().map(|entry| entry.change.state).collect::<Vec<_>>(),
        [State::Granted, State::Withdrawn]
    );
    assert_eq!(history[0].change.details.evidence.as_deref(), Some("form/1"));
}

#[test]
fn an_index_that_is_gone_or_damaged_is_made_anew() {
    let folder = Folder::new("rebuild");
    let store = folder.open();
    taken(&store, "ann@home.example", State::Granted, 5);
    drop(store);
    std::fs::remove_dir_all(folder.0.join("index")).unwrap();
    let store = folder.open();
    assert!(allowed(&store, "ann@home.example"));
    assert_eq!(store.verify().unwrap().differing, 0);
    drop(store);
    let db = folder.0.join("index/db");
    let length = std::fs::metadata(&db).unwrap().len();
    std::fs::write(&db, vec![0x55; usize::try_from(length).unwrap()]).unwrap();
    let store = folder.open();
    assert!(allowed(&store, "ann@home.example"));
    assert_eq!(store.verify().unwrap().differing, 0);
}

#[test]
fn a_store_of_nobody_is_sound() {
    let folder = Folder::new("nobody");
    for _ in 0..2 {
        let found = folder.open().verify().unwrap();
        assert!(found.is_sound() && found.records == 0, "{found:?}");
    }
}

#[test]
fn people_whose_keys_are_gone_are_told_from_an_index_that_differs() {
    let folder = Folder::new("keyless");
    let store = folder.open();
    for name in ["ann", "bob", "eve"] {
        taken(&store, &format!("{name}@home.example"), State::Granted, 5);
    }
    assert!(store.erase(store.person("bob@home.example")).unwrap());
    drop(store);
    let keys = folder.0.join("people.keys");
    let bytes = std::fs::read(&keys).unwrap();
    std::fs::write(&keys, &bytes[..bytes.len() - 128]).unwrap();
    let store = folder.open();
    let found = store.verify().unwrap();
    assert_eq!((found.unknown_people, found.differing, found.is_sound()), (1, 0, false), "{found:?}");
    assert!(allowed(&store, "ann@home.example") && !allowed(&store, "eve@home.example"));
}

#[test]
fn an_index_of_an_earlier_version_is_made_anew_and_shows_what_the_journal_lost() {
    let folder = Folder::new("early");
    let store = folder.open();
    taken(&store, "ann@home.example", State::Granted, 5);
    store.settle().unwrap();
    let journal = std::fs::read(folder.0.join("00000001.journal")).unwrap();
    taken(&store, "ann@home.example", State::Withdrawn, 6);
    drop(store);
    let mark = folder.0.join("index.mark");
    let mut bytes = std::fs::read(&mark).unwrap();
    bytes.truncate(bytes.len() - 4);
    bytes[0] = 2;
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    std::fs::write(&mark, &bytes).unwrap();
    // The mark of an earlier version, too, knows how far the journal went.
    let whole = std::fs::read(folder.0.join("00000001.journal")).unwrap();
    std::fs::write(folder.0.join("00000001.journal"), journal).unwrap();
    let settings = Settings::at(&folder.0);
    let error = Store::open(&settings).unwrap_err();
    assert!(matches!(error, StoreError::Journal(JournalError::RolledBack { found: 1, known: 2, .. })));
    std::fs::write(folder.0.join("00000001.journal"), whole).unwrap();
    let store = Store::open(&settings).unwrap();
    assert!(!allowed(&store, "ann@home.example"));
    let found = store.verify().unwrap();
    assert!(found.is_sound(), "{found:?}");
    assert_eq!(std::fs::read(&mark).unwrap()[0], 3);
    assert!(!folder.0.join("index.damaged").exists());
}

#[test]
fn an_erased_person_is_nobody_and_the_chain_stays_whole() {
    let folder = Folder::new("erase");
    let store = folder.open();
    taken(&store, "ann@home.example", State::Granted, 5);
    taken(&store, "bob@home.example", State::Granted, 5);
    assert!(store.erase(store.person("ann@home.example")).unwrap());
    assert!(!store.erase(store.person("ann@home.example")).unwrap());
    assert!(!allowed(&store, "ann@home.example"));
    assert!(store.history(store.person("ann@home.example")).unwrap().is_empty());
    drop(store);
    let store = folder.open();
    let verified = store.verify().unwrap();
    assert_eq!((verified.records, verified.people, verified.differing), (3, 1, 0));
    assert!(!allowed(&store, "ann@home.example"));
    assert!(allowed(&store, "bob@home.example"));
}

#[test]
fn who_was_erased_does_not_come_back_with_a_backup_of_the_keys() {
    let folder = Folder::new("keys-back");
    let store = folder.open();
    taken(&store, "ann@home.example", State::Granted, 5);
    taken(&store, "bob@home.example", State::Granted, 5);
    let keys = folder.0.join("people.keys");
    let backup = std::fs::read(&keys).unwrap();
    store.erase(store.person("ann@home.example")).unwrap();
    drop(store);
    std::fs::write(&keys, backup).unwrap();
    std::fs::remove_dir_all(folder.0.join("index")).unwrap();
    let store = folder.open();
    assert!(store.history(store.person("ann@home.example")).unwrap().is_empty());
    assert_eq!((allowed(&store, "ann@home.example"), allowed(&store, "bob@home.example")), (false, true));
    assert_eq!(store.verify().unwrap().people, 1);
    // Where the index is there, too: the file knows of fewer erasures than the index.
    drop(store);
    let older = std::fs::read(&keys).unwrap();
    let store = folder.open();
    store.erase(store.person("bob@home.example")).unwrap();
    drop(store);
    std::fs::write(&keys, older).unwrap();
    let store = folder.open();
    assert!(store.history(store.person("bob@home.example")).unwrap().is_empty());
    assert_eq!(store.people(), 0);
    // She may come again, as somebody new.
    taken(&store, "ann@home.example", State::Granted, 5);
    drop(store);
    assert!(allowed(&folder.open(), "ann@home.example"));
}

#[test]
fn people_of_whom_nothing_was_heard_for_long_are_erased() {
    let folder = Folder::new("expire");
    let store = folder.open();
    let day = |days: i64| Timestamp(0).plus_days(days).0;
    taken(&store, "refused@home.example", State::Refused, day(10));
    taken(&store, "granted@home.example", State::Granted, day(10));
    taken(&store, "recent@home.example", State::Refused, day(500));
    taken(&store, "pausing@home.example", State::Refused, day(390));
    let mut never = change(State::Refused, day(10));
    never.no_track = Some(true);
    let mut ended = change(State::Granted, day(10));
    ended.expires = Some(Timestamp(day(20)));
    let elsewhere = Change { controller: "club".parse().unwrap(), ..change(State::Refused, day(500)) };
    let person = |name: &str| store.person(&format!("{name}@home.example"));
    let both = person("both");
    store
        .record(vec![
            (person("never"), never),
            (person("ended"), ended),
            (both, change(State::Refused, day(10))),
            (both, elsewhere),
        ])
        .unwrap();
    let expire = || store.expire(&shop(), Timestamp(day(400)), Timestamp(day(560))).unwrap();
    assert_eq!((expire(), expire()), (2, 0));
    let known = |name: &str| !store.history(person(name)).unwrap().is_empty();
    for (name, stays) in [
        ("refused", false),
        ("ended", false),
        ("granted", true),
        ("recent", true),
        ("pausing", true),
        ("never", true),
        ("both", true),
    ] {
        assert_eq!(known(name), stays, "{name}");
    }
    let verified = store.verify().unwrap();
    assert_eq!((verified.people, verified.differing, verified.damaged_slots), (5, 0, 0));
}

#[test]
fn a_history_of_any_length_is_found_whole_and_fits_the_journal() {
    let folder = Folder::new("long");
    let store = folder.open();
    for at in 1..=100 {
        let state = if at % 2 == 0 { State::Withdrawn } else { State::Granted };
        assert!(matches!(say(&store, "ann@home.example", state, at), Applied::Recorded(_)));
        taken(&store, "bob@home.example", State::Refused, at);
    }
    let times = |store: &Store| -> Vec<i64> {
        let history = store.history(store.person("ann@home.example")).unwrap();
        history.iter().map(|entered| entered.change.event_at.0).collect()
    };
    assert_eq!(times(&store), (1..=100).collect::<Vec<_>>());
    assert_eq!(store.verify().unwrap().differing, 0);
    drop(store);
    let store = folder.open();
    assert_eq!(times(&store), (1..=100).collect::<Vec<_>>());
    assert_eq!(store.verify().unwrap().differing, 0);
}

#[test]
fn a_journal_that_lost_records_is_noticed_without_a_second_head() {
    let folder = Folder::new("shorter");
    let settings = Settings::at(&folder.0);
    let store = Store::open(&settings).unwrap();
    taken(&store, "ann@home.example", State::Granted, 5);
    store.settle().unwrap();
    let journal = folder.0.join("00000001.journal");
    let older = std::fs::read(&journal).unwrap();
    taken(&store, "ann@home.example", State::Withdrawn, 6);
    drop(store);
    std::fs::write(&journal, older).unwrap();
    let error = Store::open(&settings).unwrap_err();
    let StoreError::Journal(JournalError::RolledBack { found, known, .. }) = error else {
        panic!("{error}");
    };
    assert_eq!((found, known), (1, 2));
}

#[test]
fn what_cannot_be_proved_or_lies_ahead_is_no_grant() {
    let folder = Folder::new("proof");
    let store = folder.open();
    let mut bare = change(State::Granted, 5);
    bare.details.evidence = None;
    let person = store.person("ann@home.example");
    assert_eq!(store.record(vec![(person, bare)]).unwrap(), [Applied::Recorded(1)]);
    assert!(!allowed(&store, "ann@home.example"));
    let ahead = Timestamp::now().plus_days(1).0;
    assert_eq!(say(&store, "ann@home.example", State::Granted, ahead), Applied::InFuture);
}

#[test]
fn a_no_is_taken_whatever_the_clock_says() {
    let folder = Folder::new("clock");
    let store = folder.open();
    let now = Timestamp::now();
    let ann = store.person("ann@home.example");
    let record = |change: Change| store.record(vec![(ann, change)]).unwrap().remove(0);
    let at = |hours: i64| Timestamp(now.0 + hours * 3_600_000).0;
    for no in [State::Withdrawn, State::Refused, State::Objected] {
        // Granted by a clock that was ahead by an hour, as an earlier start of this relay may have had
        // it.
        let mut ahead = change(State::Granted, 0);
        ahead.timing = Timing::Now;
        assert!(record(ahead.clone()).number().is_some());
        assert!(allowed(&store, "ann@home.example"), "{no:?}");
        // A no whose time lies ahead is taken at a time that does not, and the time claimed is kept
        // beside it.
        let taken = record(change(no, at(24)));
        let Applied::Moved { number, at: moved } = taken else { panic!("{no:?}: {taken:?}") };
        assert!(moved.0 < at(1), "{no:?}: {moved}");
        assert!(!allowed(&store, "ann@home.example"), "{no:?}");
        let entered = store.history(ann).unwrap().pop().unwrap();
        assert_eq!((entered.number, entered.change.event_at), (number, moved));
        assert_eq!(entered.change.claimed_at, Some(Timestamp(at(24))));
    }
    let mut never = change(State::Granted, at(24));
    never.no_track = Some(true);
    assert!(matches!(record(never), Applied::Moved { .. }));
    assert!(store.lookup(&shop(), ann).unwrap().no_track());
    assert_eq!(record(change(State::Granted, at(24))), Applied::InFuture);
    drop(store);
    let store = folder.open();
    assert!(!allowed(&store, "ann@home.example"));
    assert_eq!(store.verify().unwrap().differing, 0);
}

/// A store in which a yes stands that lies ahead of our clock.
fn granted_ahead(name: &str) -> (Folder, Store) {
    let folder = Folder::new(name);
    let store = folder.open();
    let ann = store.person("ann@home.example");
    // What is said at this moment goes behind whatever another clock was early with.
    let early = change(State::Refused, Timestamp::now().0 + FUTURE_TAKEN);
    assert!(matches!(store.record(vec![(ann, early)]).unwrap()[..], [Applied::Recorded(_)]));
    let granted = Change { timing: Timing::Now, ..change(State::Granted, 0) };
    let taken = store.record(vec![(ann, granted)]).unwrap().remove(0);
    let Applied::Moved { at, .. } = taken else { panic!("{taken:?}") };
    assert!(at > Timestamp::now() && allowed(&store, "ann@home.example"));
    (folder, store)
}

/// How far ahead of our clock a claimed time is taken as it is, in milliseconds.
const FUTURE_TAKEN: i64 = 5 * 60 * 1000 - 10_000;

#[test]
fn a_no_ends_a_yes_that_was_given_by_a_clock_ahead_of_ours() {
    for timing in [Timing::Now, Timing::Claimed] {
        let (_folder, store) = granted_ahead(&format!("ahead-{timing:?}"));
        let ann = store.person("ann@home.example");
        // Even one that claims to be older.
        let no = Change { timing, ..change(State::Withdrawn, 5) };
        let taken = store.record(vec![(ann, no)]).unwrap().remove(0);
        assert!(matches!(taken, Applied::Moved { .. }), "{taken:?}");
        assert!(!allowed(&store, "ann@home.example"));
    }
    // Behind a yes that does not lie ahead, an older no is history: a nightly import undoes no newer yes.
    let folder = Folder::new("history");
    let store = folder.open();
    assert_eq!(say(&store, "ann@home.example", State::Granted, 7), Applied::Recorded(1));
    assert_eq!(say(&store, "ann@home.example", State::Withdrawn, 5), Applied::Stale);
    assert!(allowed(&store, "ann@home.example"));
}

#[test]
fn one_process_has_the_store() {
    let folder = Folder::new("busy");
    let _store = folder.open();
    assert!(matches!(Store::open(&Settings::at(&folder.0)), Err(StoreError::Busy(_))));
    // Whatever somebody tidies up.
    for name in ["lock", "ballast"] {
        std::fs::remove_file(folder.0.join(name)).unwrap();
        assert!(matches!(Store::open(&Settings::at(&folder.0)), Err(StoreError::Busy(_))), "{name}");
    }
}

#[test]
fn an_address_does_not_stand_in_any_file() {
    let folder = Folder::new("clear");
    let store = folder.open();
    taken(&store, "ann@home.example", State::Granted, 5);
    store.settle().unwrap();
    drop(store);
    let mut folders = vec![folder.0.clone()];
    while let Some(path) = folders.pop() {
        for entry in std::fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = std::fs::read(&path).unwrap();
                for clear in [&b"ann@home"[..], b"form/1"] {
                    assert!(memchr::memmem::find(&bytes, clear).is_none(), "{}", path.display());
                }
            }
        }
    }
}
