//! The consent store at size: import, memory, disk, lookups, single writes of many clients, opening, making
//! the index anew, a look through all of it; and sled alone beside it. `STORE_PEOPLE` says how many people, a
//! million without it.
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_precision_loss)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pixelward::consent::{Change, Settings, State, Store, Timestamp};
use pixelward::policy::Purpose;

/// Records that an import hands over at once.
const BATCH: u64 = 2000;
const LOOKUPS: u64 = 50_000;
const CLIENTS: u64 = 64;

fn address(number: u64) -> String {
    format!("reader{number}@home{}.example", number % 97)
}

fn change(number: u64) -> Change {
    let mut change =
        Change::new("shop".parse().unwrap(), Purpose::CONSENT.to_vec(), State::Granted, Timestamp(5));
    change.details.evidence = Some(format!("form/{number}"));
    change.details.method = Some("web form".to_owned());
    change.details.notice_version = Some("2026-07".to_owned());
    change
}

fn main() {
    let people: u64 =
        std::env::var("STORE_PEOPLE").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let folder = std::env::var_os("STORE_FOLDER").map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = folder.join(format!("pixelward-bench-{}", std::process::id()));
    let settings = Settings::at(folder.join("store"));
    println!("{people} people");
    let store = Store::open(&settings).unwrap();
    import(&store, people);
    lookups(&store, people);
    single_writes(&store);
    timed("a look through all of it", || {
        let verified = store.verify().unwrap();
        assert_eq!((verified.differing, verified.damaged_slots), (0, 0));
    });
    drop(store);
    for part in ["index", "people.keys"] {
        println!("  {part}: {:.0} MiB", size(&settings.directory.join(part)) as f64 / 1048576.0);
    }
    println!("  all of it: {:.0} MiB", size(&settings.directory) as f64 / 1048576.0);
    timed("opening it again", || drop(Store::open(&settings).unwrap()));
    std::fs::remove_dir_all(settings.directory.join("index")).unwrap();
    timed("making the index anew", || drop(Store::open(&settings).unwrap()));
    sled_alone(&folder.join("sled"), people.min(1_000_000));
    std::fs::remove_dir_all(folder).unwrap();
}

fn timed(what: &str, work: impl FnOnce()) {
    let start = Instant::now();
    work();
    println!(
        "{what}: {:.2} s; memory {} now, {} at most",
        start.elapsed().as_secs_f64(),
        memory("VmRSS"),
        memory("VmHWM")
    );
}

fn import(store: &Store, people: u64) {
    let start = Instant::now();
    for first in (0..people).step_by(BATCH as usize) {
        let rows = (first..people.min(first + BATCH))
            .map(|item| (store.person(&address(item)), change(item)))
            .collect();
        store.record(rows).unwrap();
    }
    let rate = people as f64 / start.elapsed().as_secs_f64();
    println!("import, durable: {rate:.0} records/s; memory {} at most", memory("VmHWM"));
}

fn lookups(store: &Store, people: u64) {
    let controller = "shop".parse().unwrap();
    store.settle().unwrap();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut times = Vec::new();
    for _ in 0..LOOKUPS {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let person = store.person(&address((random >> 33) % people));
        let start = Instant::now();
        assert!(store.lookup(&controller, person).unwrap().of(Purpose::Personalisation).is_some());
        times.push(start.elapsed());
    }
    println!("uncached lookup: {}", spread(&mut times));
    let person = store.person(&address(7));
    let mut times: Vec<Duration> = (0..LOOKUPS)
        .map(|_| {
            let start = Instant::now();
            std::hint::black_box(store.lookup(&controller, person).unwrap());
            start.elapsed()
        })
        .collect();
    println!("cached lookup: {}", spread(&mut times));
}

fn single_writes(store: &Store) {
    let (count, start) = (AtomicU64::new(0), Instant::now());
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let count = &count;
            scope.spawn(move || {
                let mut number = 0;
                while start.elapsed() < Duration::from_secs(5) {
                    let person = store.person(&format!("client{client}-{number}@home.example"));
                    store.record(vec![(person, change(number))]).unwrap();
                    count.fetch_add(1, Ordering::Relaxed);
                    number += 1;
                }
            });
        }
    });
    let rate = count.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64();
    println!("single durable writes of {CLIENTS} clients: {rate:.0}/s");
}

/// The same keys and values as the index has, in the same batches, synced as often.
fn sled_alone(path: &Path, people: u64) {
    let db = sled::Config::new().path(path).cache_capacity(64 << 20).open().unwrap();
    let file = std::fs::File::open(path.join("db")).unwrap();
    let key = |number: u64| {
        let random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        [&b"shop\0"[..], &(number / 30).to_be_bytes(), &random.to_le_bytes()].concat()
    };
    let start = Instant::now();
    for first in (0..people).step_by(20_000) {
        let mut batch = sled::Batch::default();
        (first..people.min(first + 20_000)).for_each(|item| batch.insert(key(item), vec![7; 150]));
        db.apply_batch(batch).unwrap();
        db.flush().unwrap();
        file.sync_data().unwrap();
    }
    let rate = people as f64 / start.elapsed().as_secs_f64();
    let mut times: Vec<Duration> = (0..LOOKUPS)
        .map(|item| {
            let key = key(item.wrapping_mul(7919) % people);
            let start = Instant::now();
            assert!(db.get(key).unwrap().is_some());
            start.elapsed()
        })
        .collect();
    println!("sled alone, {people} values: {rate:.0} records/s; lookup {}", spread(&mut times));
}

fn spread(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 100).map_or(0.0, |item| item.as_secs_f64() * 1e6);
    format!("p50 {:.2} µs, p99 {:.2} µs", at(50), at(99))
}

fn memory(field: &str) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap_or_default();
    let kib: f64 = line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).unwrap_or(0.0);
    format!("{:.0} MiB", kib / 1024.0)
}

fn size(path: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else {
        return std::fs::metadata(path).map_or(0, |item| item.len());
    };
    entries.filter_map(Result::ok).map(|entry| size(&entry.path())).sum()
}
