//! What may happen to the files of the consent store: flipped bits, cut ends, zeroed pages, old copies put
//! back, power cuts, a full disk, a thief. Each time it is noticed, or does no harm: no consent comes back
//! that was withdrawn, nothing acknowledged is lost, nothing panics.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::Folder;
use aws_lc_rs::digest;
use pixelward::consent::{Applied, Change, Permission, Settings, State, Store, StoreError, Timestamp};
use pixelward::policy::Purpose;

const PURPOSE: Purpose = Purpose::CampaignPerformance;

fn settings(folder: &Path) -> Settings {
    Settings {
        head_copy: Some(folder.join("elsewhere-head")),
        segment_bytes: 32 * 1024,
        cache_bytes: 4 << 20,
        ..Settings::at(folder.join("store"))
    }
}

fn say(store: &Store, address: &str, state: State, at: i64) -> Result<Applied, StoreError> {
    let mut change = Change::new("shop".parse().unwrap(), vec![PURPOSE], state, Timestamp(at));
    change.details.evidence = Some("form/1".to_owned());
    Ok(store.record(vec![(store.person(address), change)])?.remove(0))
}

fn taken(store: &Store, address: &str, state: State, at: i64) {
    assert!(matches!(say(store, address, state, at), Ok(Applied::Recorded(_))));
}

fn allowed(store: &Store, address: &str) -> bool {
    let standing = store.lookup(&"shop".parse().unwrap(), store.person(address));
    standing.is_ok_and(|value| matches!(value.allows(PURPOSE, Timestamp::now()), Permission::Granted(_)))
}

/// 300 people who agreed, of whom every third took it back, and every tenth was erased.
fn filled(folder: &Path) {
    let store = open(folder).unwrap();
    let all: Vec<_> = (0..300)
        .map(|number| {
            let mut change =
                Change::new("shop".parse().unwrap(), vec![PURPOSE], State::Granted, Timestamp(5));
            change.details.evidence = Some("form/1".to_owned());
            (store.person(&address(number)), change)
        })
        .collect();
    store.record(all).unwrap();
    (0..300).filter(|number| is_withdrawn(*number)).for_each(|item| {
        taken(&store, &address(item), State::Withdrawn, 6);
    });
    (0..300).filter(|number| is_erased(*number)).for_each(|item| {
        assert!(store.erase(store.person(&address(item))).unwrap());
    });
}

fn address(number: u32) -> String {
    format!("reader{number}@home.example")
}

fn is_withdrawn(number: u32) -> bool {
    number.is_multiple_of(3)
}

fn is_erased(number: u32) -> bool {
    number % 10 == 7
}

/// Every file in a folder and those within, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found.retain(|path| !path.ends_with("lock") && !path.ends_with("ballast"));
    found
}

fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    assert!(Command::new("cp").args(["-a", "--sparse=always"]).args([from, to]).status().unwrap().success());
}

struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most.max(1)
    }
}

/// What came of a store that something had happened to.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Noticed,
    Harmless,
}

/// Opens the store of a folder.
fn open(folder: &Path) -> Result<Store, StoreError> {
    opened(&settings(folder))
}

/// Opens a store. A program that another test is just starting holds a lock that was given up, for the moment between
/// fork and exec.
fn opened(settings: &Settings) -> Result<Store, StoreError> {
    let start = Instant::now();
    loop {
        match Store::open(settings) {
            Err(StoreError::Busy(_)) if start.elapsed() < crate::support::PATIENCE => {
                std::thread::park_timeout(Duration::from_millis(5))
            }
            opened => return opened,
        }
    }
}

/// Opens the store and looks that no consent came back.
fn examine(folder: &Path, what: &str) -> Outcome {
    let store = match open(folder) {
        Ok(store) => store,
        Err(error) => {
            eprintln!("{what}: {error}");
            return Outcome::Noticed;
        }
    };
    let mut granted = 0;
    for number in 0..300 {
        let is_allowed = allowed(&store, &address(number));
        granted += u32::from(is_allowed);
        assert!(
            !is_allowed || !(is_withdrawn(number) || is_erased(number)),
            "{what}: reader{number} came back"
        );
        if is_erased(number) {
            assert!(
                store.history(store.person(&address(number))).is_ok_and(|value| value.is_empty()),
                "{what}"
            );
        }
    }
    let found = store.verify();
    eprintln!("{what}: {granted} of 180, {found:?}");
    let sound = found.is_ok_and(|found| found.is_sound() && found.people == 270);
    assert!(sound || granted <= 180, "{what}");
    if sound && granted == 180 { Outcome::Harmless } else { Outcome::Noticed }
}

/// 200 times: a copy of a sound store, `harm` done to one of its files, and a look at what comes of it.
fn harmed(name: &str, mut harm: impl FnMut(&mut Random, &Path) -> bool) {
    let folder = Folder::new();
    let sound = folder.0.join("sound");
    std::fs::create_dir_all(&sound).unwrap();
    filled(&sound);
    assert_eq!(examine(&sound, "untouched"), Outcome::Harmless);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut noticed, mut done) = (0, 0);
    while done < 200 {
        let trial = folder.0.join("trial");
        copy(&sound, &trial);
        let files = files(&trial);
        let file = &files[random.below(files.len() as u64) as usize];
        if harm(&mut random, file) {
            done += 1;
            let what = format!("{name}, trial {done}: {}", file.display());
            noticed += u32::from(examine(&trial, &what) == Outcome::Noticed);
        }
    }
    assert!(noticed >= 60, "{name}: of 200 only {noticed} were noticed, which is fewer than can be");
}

#[test]
fn flipped_bits_are_noticed_or_harmless() {
    harmed("flipped bits", |random, path| {
        let mut bytes = std::fs::read(path).unwrap();
        if bytes.is_empty() {
            return false;
        }
        let at = random.below(bytes.len() as u64) as usize;
        bytes[at] ^= 1 << random.below(8);
        std::fs::write(path, bytes).unwrap();
        true
    });
}

#[test]
fn cut_ends_are_noticed_or_harmless() {
    harmed("cut ends", |random, path| {
        let length = std::fs::metadata(path).unwrap().len();
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(random.below(length)).unwrap();
        length > 0
    });
}

#[test]
fn zeroed_pages_are_noticed_or_harmless() {
    harmed("zeroed pages", |random, path| {
        let length = std::fs::metadata(path).unwrap().len();
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        let page = random.below(length.div_ceil(512)) * 512;
        file.write_all_at(&vec![0; 512.min(length - page) as usize], page).unwrap();
        length > 0
    });
}

#[test]
fn an_old_copy_put_back_is_noticed_or_harmless() {
    let folder = Folder::new();
    let now = folder.0.join("now");
    std::fs::create_dir_all(&now).unwrap();
    // What was there before half of the withdrawals and all erasures.
    let store = open(&now).unwrap();
    for number in 0..300 {
        taken(&store, &address(number), State::Granted, 5);
    }
    let mut older = Vec::new();
    for number in 0..300 {
        if number % 30 == 0 {
            store.settle().unwrap();
            older.push(folder.0.join(format!("older-{number}")));
            copy(&now, older.last().unwrap());
        }
        if is_withdrawn(number) {
            taken(&store, &address(number), State::Withdrawn, 6);
        }
        if is_erased(number) {
            store.erase(store.person(&address(number))).unwrap();
        }
    }
    drop(store);
    assert_eq!(examine(&now, "the newest"), Outcome::Harmless);
    let mut random = Random(0xd1b5_4a32_d192_ed03);
    let mut noticed = 0;
    for trial in 0..200 {
        let place = folder.0.join("trial");
        copy(&now, &place);
        let old = &older[random.below(older.len() as u64) as usize];
        // The whole folder of the store, or some part of it; the head at the second place stays.
        let part = ["store", "store/index", "store/people.keys", "store/index.mark", "journal"][trial % 5];
        if part == "journal" {
            for path in files(&place.join("store"))
                .iter()
                .filter(|file| file.extension().is_some_and(|file| file == "journal"))
            {
                std::fs::remove_file(path).unwrap();
            }
            for path in files(&old.join("store"))
                .iter()
                .filter(|file| file.extension().is_some_and(|file| file == "journal"))
            {
                std::fs::copy(path, place.join("store").join(path.file_name().unwrap())).unwrap();
            }
        } else if old.join(part).is_dir() {
            copy(&old.join(part), &place.join(part));
        } else {
            std::fs::copy(old.join(part), place.join(part)).unwrap();
        }
        let outcome = examine(&place, &format!("trial {trial}: {part} of {}", old.display()));
        assert!(
            outcome == Outcome::Noticed || !["store", "journal"].contains(&part),
            "{part} of {}",
            old.display()
        );
        noticed += u32::from(outcome == Outcome::Noticed);
    }
    assert!(noticed >= 80, "{noticed}");
}

/// What is not needed to take trackers out of mail never keeps the store from being opened, and `verify`
/// names every damaged file.
#[test]
fn damage_beside_journal_and_keys_stops_nothing_and_is_named() {
    let folder = Folder::new();
    let sound = folder.0.join("sound");
    std::fs::create_dir_all(&sound).unwrap();
    filled(&sound);
    let shop = "shop".parse().unwrap();
    let store = open(&sound).unwrap();
    store.pseudonym(store.person(&address(1))).unwrap();
    for number in [1, 2] {
        assert!(store.note_open(&shop, "news", store.person(&address(number)), Timestamp::now()));
    }
    let tag = |store: &Store, number: u32| {
        store.known_pseudonym(store.person(&address(number))).map(|pseudonym| pseudonym.tag(b"here"))
    };
    let (kept, erased) = (tag(&store, 1), tag(&store, 7));
    assert!(kept.is_some() && erased.is_none() && store.measured_since().is_none());
    let found = store.verify().unwrap();
    assert!(found.is_sound(), "{found:?}");
    drop(store);
    type Harm = fn(&Path);
    let harms: [(&str, &str, Harm); 8] = [
        ("days.log", "its first bytes", |path| overwrite(path, &[0x55; 18])),
        ("days.log", "zeroed", |path| overwrite(path, &vec![0; std::fs::read(path).unwrap().len()])),
        ("days.log", "emptied", |path| std::fs::write(path, b"").unwrap()),
        ("days.log", "removed", |path| std::fs::remove_file(path).unwrap()),
        ("pseudonyms.keys", "zeroed", |path| overwrite(path, &vec![0; std::fs::read(path).unwrap().len()])),
        ("pseudonyms.keys", "cut to one slot", |path| {
            std::fs::write(path, &std::fs::read(path).unwrap()[..128]).unwrap()
        }),
        ("pseudonyms.keys", "cut at its end", |path| {
            let bytes = std::fs::read(path).unwrap();
            std::fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
        }),
        ("pseudonyms.keys", "removed", |path| std::fs::remove_file(path).unwrap()),
    ];
    for (file, harm_name, harm) in harms {
        let what = format!("{file} {harm_name}");
        let trial = folder.0.join("trial");
        copy(&sound, &trial);
        let store = open(&trial).unwrap();
        harm(&trial.join("store").join(file));
        // Noticed while the store is open, and after the next start.
        let found = store.verify().unwrap();
        assert!(found.damaged_files.iter().any(|named| named.contains(file)), "{what}: {found:?}");
        // What is in memory may be written over the damage at the end, so it is done again.
        drop(store);
        copy(&sound, &trial);
        harm(&trial.join("store").join(file));
        let store = open(&trial).unwrap();
        assert!(
            (0..300).all(|number| {
                allowed(&store, &address(number)) != (is_withdrawn(number) || is_erased(number))
            }),
            "{what}"
        );
        let found = store.verify().unwrap();
        assert!(found.damaged_files.iter().any(|named| named.contains(file)), "{what}: {found:?}");
        assert_eq!(found.damaged_files.len(), 1, "{what}: {found:?}");
        // Who was erased has no tag of before; who opened something before today is not counted as one who
        // did not.
        assert!(store.measured_since().is_some(), "{what}");
        assert_ne!(tag(&store, 7), kept, "{what}");
        assert!(file == "pseudonyms.keys" || (tag(&store, 1) == kept && tag(&store, 7).is_none()), "{what}");
        assert_eq!(say(&store, &address(1), State::Withdrawn, 9).unwrap().number(), Some(431), "{what}");
        drop(store);
        // Once somebody has looked at it and deleted it, all is well.
        for path in
            files(&trial.join("store")).iter().filter(|path| path.to_string_lossy().contains(".damaged"))
        {
            std::fs::remove_file(path).unwrap();
        }
        let store = open(&trial).unwrap();
        assert!(store.verify().unwrap().is_sound() && store.measured_since().is_some(), "{what}");
    }
}

fn overwrite(path: &Path, bytes: &[u8]) {
    std::fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, 0).unwrap();
}

#[test]
fn the_store_key_may_lie_apart_and_is_never_made_anew_beside_a_store() {
    let folder = Folder::new();
    let apart = folder.0.join("apart.key");
    let settings = Settings { store_key: Some(apart.clone()), ..settings(&folder.0) };
    let store = opened(&settings).unwrap();
    taken(&store, &address(1), State::Granted, 5);
    assert!(!folder.0.join("store/store.key").exists());
    let (journal, keys) = (folder.0.join("journal"), folder.0.join("keys"));
    pixelward::consent::backup::copy_journal(&settings, &journal).unwrap();
    pixelward::consent::backup::copy_keys(&settings, &keys, 30).unwrap();
    drop(store);
    let store = opened(&settings).unwrap();
    assert!(allowed(&store, &address(1)));
    drop(store);
    std::fs::rename(&apart, folder.0.join("lost.key")).unwrap();
    let error = opened(&settings).unwrap_err().to_string();
    assert!(error.contains("apart.key") && error.contains("backup"), "{error}");
    assert!(!apart.exists());
    // The copy of the keys has it, and it goes back to where it belongs.
    std::fs::remove_dir_all(folder.0.join("store")).unwrap();
    std::fs::remove_file(folder.0.join("elsewhere-head")).unwrap();
    pixelward::consent::backup::restore(&settings, &journal, &keys, false).unwrap();
    assert_eq!(std::fs::read(&apart).unwrap(), std::fs::read(folder.0.join("lost.key")).unwrap());
    assert!(allowed(&opened(&settings).unwrap(), &address(1)));
}

/// Whether file systems of our own can be mounted here: that needs root and loop devices, which not every
/// container has.
pub(crate) fn can_mount() -> bool {
    let can = Path::new("/dev/loop-control").exists()
        && Command::new("losetup").arg("--find").output().is_ok_and(|status| status.status.success());
    if !can {
        eprintln!("not run: no loop device can be had here");
    }
    can
}

/// A file system of its own in a file, mounted.
pub(crate) struct Disk {
    folder: Folder,
    mounted: Vec<PathBuf>,
}

impl Disk {
    pub(crate) fn of(mebibytes: u32) -> Disk {
        let folder = Folder::new();
        let image = folder.0.join("disk.img");
        let size = format!("{mebibytes}M");
        run("truncate", &["-s", &size, image.to_str().unwrap()]);
        run("mkfs.ext4", &["-q", "-F", image.to_str().unwrap()]);
        let mut disk = Disk { folder, mounted: Vec::new() };
        disk.mount("disk.img", "disk");
        disk
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.0.join(name)
    }

    pub(crate) fn mount(&mut self, image: &str, name: &str) {
        let place = self.path(name);
        std::fs::create_dir_all(&place).unwrap();
        run("mount", &["-o", "loop,commit=600", self.path(image).to_str().unwrap(), place.to_str().unwrap()]);
        self.mounted.push(place);
    }

    pub(crate) fn unmount(&mut self) {
        if let Some(place) = self.mounted.pop() {
            run("umount", &[place.to_str().unwrap()]);
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for place in self.mounted.drain(..) {
            let _ = Command::new("umount").arg("-l").arg(place).status();
        }
    }
}

pub(crate) fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

const FOLDER: &str = "PIXELWARD_CUT_FOLDER";

/// Not a test of its own: what the child does, which records one after the other and says what was
/// acknowledged.
#[test]
fn child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let store = open(Path::new(&folder)).unwrap();
    let mut out = std::io::stdout().lock();
    for number in 0..1_000_000u32 {
        let state = if number.is_multiple_of(2) { State::Granted } else { State::Withdrawn };
        taken(&store, &address(number / 2), state, 5 + i64::from(number % 2));
        writeln!(out, "{number} {}", address(number / 2)).unwrap();
        out.flush().unwrap();
    }
}

/// `PIXELWARD_CUTS` says how many, 15 without it.
#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged() {
    if !can_mount() {
        return;
    }
    let cuts: usize = std::env::var("PIXELWARD_CUTS").ok().and_then(|text| text.parse().ok()).unwrap_or(15);
    let mut disk = Disk::of(200);
    let mut child = crate::support::alone(concat!(module_path!(), "::child"))
        .env(FOLDER, disk.path("disk"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let said: Arc<Mutex<Vec<String>>> = Arc::default();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let heard = Arc::clone(&said);
    std::thread::spawn(move || lines.for_each(|line| heard.lock().unwrap().push(line)));
    let wait_for = |count: usize| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while said.lock().unwrap().len() < count {
            assert!(Instant::now() < deadline, "the child records no more");
            std::thread::park_timeout(Duration::from_millis(1));
        }
    };
    let process = child.id().to_string();
    for cut in 0..cuts {
        let before = said.lock().unwrap().len();
        wait_for(before + 37);
        let acknowledged: Vec<String> =
            said.lock().unwrap().iter().filter(|line| line.contains('@')).cloned().collect();
        // What the file has now is what a disk would have: what was not synced is in memory alone.
        run("kill", &["-STOP", &process]);
        let (image, cut_off) = (disk.path("disk.img"), disk.path("cut.img"));
        run("cp", &["--sparse=always", image.to_str().unwrap(), cut_off.to_str().unwrap()]);
        run("kill", &["-CONT", &process]);
        disk.mount("cut.img", "cut");
        let store = open(&disk.path("cut")).unwrap();
        for line in &acknowledged {
            let (number, address) = line.split_once(' ').unwrap();
            let standing = store.lookup(&"shop".parse().unwrap(), store.person(address)).unwrap();
            let state = standing.of(PURPOSE).unwrap_or_else(|| panic!("cut {cut}: {address} is lost")).state;
            let withdrawn = number.parse::<u32>().unwrap() % 2 == 1;
            assert!(!withdrawn || state == State::Withdrawn, "cut {cut}: {address} is not withdrawn");
        }
        assert_eq!(store.verify().unwrap().differing, 0, "cut {cut}");
        drop(store);
        disk.unmount();
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_full_disk_is_said_within_a_second_and_loses_nothing() {
    if !can_mount() {
        return;
    }
    let disk = Disk::of(64);
    let folder = disk.path("disk");
    let store = open(&folder).unwrap();
    for number in 0..50 {
        taken(&store, &address(number), State::Granted, 5);
    }
    let filler = folder.join("filler");
    fill(&filler);
    let refused = until_full(&store, 50);
    assert!((0..refused).all(|number| allowed(&store, &address(number))), "what was acknowledged holds");
    assert!(!allowed(&store, &address(refused)), "what was not acknowledged does not");
    // A start on the full disk gives back what was kept for it.
    drop(store);
    let store = open(&folder).unwrap();
    assert!((0..refused).all(|number| allowed(&store, &address(number))), "after a start on a full disk");
    fill(&folder.join("more"));
    let refused = until_full(&store, refused);
    // And recovery without a start.
    std::fs::remove_file(&filler).unwrap();
    assert!(matches!(say(&store, "two@home.example", State::Granted, 5), Ok(Applied::Recorded(_))));
    assert!(allowed(&store, "two@home.example"));
    // The index heals without one, too: it takes in what it lacks, and answers from then on.
    let deadline = Instant::now() + Duration::from_secs(30);
    while let Err(error) = store.settle() {
        assert!(Instant::now() < deadline, "the index stays dead: {error}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
    assert!(
        (0..refused).all(|number| allowed(&store, &address(number))) && allowed(&store, "two@home.example")
    );
    let found = store.verify().unwrap();
    assert!(found.is_sound(), "{found:?}");
    drop(store);
    let store = open(&folder).unwrap();
    assert!(
        (0..refused).all(|number| allowed(&store, &address(number))) && allowed(&store, "two@home.example")
    );
    assert_eq!(store.verify().unwrap().differing, 0);
}

/// Records people from this one on until the disk is full; gives the one who was refused.
fn until_full(store: &Store, from: u32) -> u32 {
    for number in from..from + 20_000 {
        let start = Instant::now();
        if let Err(error) = say(store, &address(number), State::Granted, 5) {
            assert!(start.elapsed() < Duration::from_secs(1));
            assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}");
            return number;
        }
    }
    panic!("the disk does not become full")
}

/// Fills the disk to the last block.
fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).unwrap();
    for size in [1 << 20, 4096, 1] {
        while file.write_all(&vec![7; size]).is_ok() {}
    }
    let _ = file.sync_all();
}

/// `PIXELWARD_CANDIDATES` says how many, a million without it.
#[test]
fn a_thief_without_the_key_recognises_nobody() {
    let folder = Folder::new();
    filled(&folder.0);
    let mut stolen = HashSet::new();
    for path in files(&folder.0.join("store")).iter().filter(|file| !file.ends_with("store.key")) {
        let bytes = std::fs::read(path).unwrap();
        stolen.extend(bytes.windows(8).map(|window| <[u8; 8]>::try_from(window).unwrap()));
    }
    let most: u64 =
        std::env::var("PIXELWARD_CANDIDATES").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    for number in 0..most {
        let candidate = address(u32::try_from(number).unwrap());
        let hash = digest::digest(&digest::SHA256, candidate.as_bytes());
        assert!(!stolen.contains(&hash.as_ref()[..8]), "{candidate} is known by its hash");
        if number < 300 {
            for algorithm in [&digest::SHA1_FOR_LEGACY_USE_ONLY, &digest::SHA512] {
                let hash = digest::digest(algorithm, candidate.as_bytes());
                assert!(!stolen.contains(&hash.as_ref()[..8]), "{candidate} is known by its hash");
            }
            for path in files(&folder.0.join("store")) {
                let bytes = std::fs::read(&path).unwrap();
                assert!(
                    memchr::memmem::find(&bytes, candidate.as_bytes()).is_none(),
                    "{candidate}: {}",
                    path.display()
                );
            }
        }
    }
    // With the key each of them is found, so the test looks in the right place.
    let store = open(&folder.0).unwrap();
    assert_eq!((0..300).filter(|number| allowed(&store, &address(*number))).count(), 180);
}
