//! One server's files are damaged: a bit flips, or an end is cut off. Then either nothing is lost, or every relay that
//! lacks something counts nothing as granted.
//!
//! `PIXELWARD_FLIPS` says how often, and `PIXELWARD_SEED` where.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::servers::Servers;
use super::*;

/// How long relays have after a damage, until they are whole, have stopped, or are judged as they are.
const SETTLES: Duration = Duration::from_secs(30);
/// How many people say something before each damage.
const PEOPLE: usize = 40;

/// Numbers that look random, and are the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// What became of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// It has everything.
    Whole,
    /// It noticed, and counts nothing as granted until somebody has looked.
    Stopped,
    /// It hears nothing, and counts nothing as granted.
    Stale,
    /// It counts grants, and lacks something.
    Lacking,
}

/// Servers with relays, and what was acknowledged.
struct Setting {
    runtime: tokio::runtime::Runtime,
    relays: Vec<Relay>,
    facts: BTreeMap<String, bool>,
    servers: Servers,
    /// How many relays there were: each has a name of its own.
    named: u8,
}

impl Setting {
    fn new() -> Setting {
        let (runtime, servers) = (runtime(), Servers::start(3, true));
        servers.create(&runtime);
        let mut setting = Setting { runtime, servers, relays: Vec::new(), facts: BTreeMap::new(), named: 0 };
        let relays = (0..2).map(|_| setting.fresh()).collect();
        setting.relays = relays;
        setting.await_health();
        setting
    }

    /// A relay that knows nothing yet, and reads the whole order.
    fn fresh(&mut self) -> Relay {
        self.named += 1;
        Relay::named(&self.servers, 0, [self.named; 16], &self.runtime)
    }

    fn await_health(&self) {
        until("the relays are ready", || self.relays.iter().all(Relay::is_ready));
    }

    /// People say things, which the relays acknowledge.
    fn talk(&mut self, turn: usize) {
        for number in 0..PEOPLE {
            let address = format!("reader{turn}x{number}@home.example");
            let relay = &self.relays[number % 2];
            // Nothing is promised of what was not acknowledged.
            if !matches!(relay.say(&address, State::Granted), Applied::Recorded(_)) {
                continue;
            }
            if number % 3 != 0 {
                self.facts.insert(address, true);
            } else if matches!(
                self.relays[(number + 1) % 2].say(&address, State::Withdrawn),
                Applied::Recorded(_) | Applied::Moved { .. }
            ) {
                self.facts.insert(address, false);
            }
        }
    }

    fn fate(&self, relay: &Relay) -> Fate {
        let counts = || self.facts.keys().any(|person| relay.is_granted(person));
        let status = relay.node.status();
        match (&status.stop, status.is_fresh) {
            // What was heard until then may be looked at, and must not count.
            (Some(_), _) if !counts() => Fate::Stopped,
            (None, false) if !counts() => Fate::Stale,
            _ if self.facts.iter().all(|(person, granted)| relay.is_granted(person) == *granted) => {
                Fate::Whole
            }
            _ => Fate::Lacking,
        }
    }

    /// What becomes of the relays, a new one among them, once they had time.
    fn fates(&self, fresh: &Relay) -> Vec<Fate> {
        let all = || self.relays.iter().chain([fresh]).map(|relay| self.fate(relay)).collect::<Vec<Fate>>();
        let end = Instant::now() + SETTLES;
        loop {
            let fates = all();
            let is_settled = fates.iter().all(|fate| matches!(fate, Fate::Whole | Fate::Stopped));
            if is_settled || Instant::now() >= end {
                return fates;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The files of a server, the streams' own first.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.metadata().unwrap().len() > 0 {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Damages one file of a server that is stopped; says what was done.
fn damage(random: &mut Random, folder: &Path) -> String {
    let mut all = files(folder);
    // Half of the time it is what carries the messages.
    let is_block = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "blk");
    if random.below(2) == 0 {
        all.retain(|path| is_block(path) && path.to_string_lossy().contains(&format!("/{STREAM}/")));
    }
    let path = &all[usize::try_from(random.below(all.len() as u64)).unwrap()];
    let bytes = std::fs::read(path).unwrap();
    let place = usize::try_from(random.below(bytes.len() as u64)).unwrap();
    let mut done = if random.below(3) < 2 {
        let mut bytes = bytes;
        bytes[place] ^= 1 << random.below(8);
        std::fs::write(path, bytes).unwrap();
        format!("a bit of byte {place} flipped")
    } else {
        std::fs::write(path, &bytes[..place]).unwrap();
        format!("cut to {place} bytes")
    };
    // A power failure also takes what says where messages are.
    let index = path.with_file_name("index.db");
    if is_block(path) && random.below(2) == 0 && index.exists() {
        std::fs::remove_file(index).unwrap();
        done.push_str(", its index gone");
    }
    format!("{}: {done}", path.strip_prefix(folder).unwrap().display())
}

/// Damages servers of one cluster so often; returns what became of the relays.
fn damages(lane: u64, count: u64, seed: u64) -> BTreeMap<Fate, usize> {
    let mut random = Random((seed + 2 * lane) | 1);
    let mut setting = Setting::new();
    let mut tally: BTreeMap<Fate, usize> = BTreeMap::new();
    for turn in 1..=usize::try_from(count).unwrap() {
        setting.talk(turn);
        let server = usize::try_from(random.below(3)).unwrap();
        setting.servers.kill(server);
        let what = damage(&mut random, setting.servers.folder(server));
        setting.servers.start_again(server);
        setting.servers.prefer(server, &setting.runtime);
        let fresh = setting.fresh();
        let fates = setting.fates(&fresh);
        println!("damage {turn} of cluster {lane}: {what}: {fates:?}");
        for relay in setting.relays.iter().chain([&fresh]) {
            if setting.fate(relay) != Fate::Whole {
                println!("  {:?}", relay.node.status());
            }
        }
        assert!(!fates.contains(&Fate::Lacking), "a relay counts grants and lacks something");
        fates.iter().for_each(|fate| *tally.entry(*fate).or_default() += 1);
        drop(fresh);
        if turn % 8 == 0 || fates != [Fate::Whole; 3] {
            // What is left of it is no ground for the next one.
            setting = Setting::new();
        }
    }
    tally
}

#[test]
fn what_a_damaged_server_lacks_is_fetched_from_another_or_nothing_counts() {
    let number = |name, default| std::env::var(name).map_or(default, |text: String| text.parse().unwrap());
    let (count, seed) = (number("PIXELWARD_FLIPS", 3), number("PIXELWARD_SEED", 7));
    // Most of the time is spent waiting, so many are done in several clusters at once.
    let lanes = if count < 30 { 1 } else { 3 };
    let mut total: BTreeMap<Fate, usize> = BTreeMap::new();
    std::thread::scope(|scope| {
        let share = |lane: u64| count / lanes + u64::from(lane < count % lanes);
        let running: Vec<_> =
            (0..lanes).map(|lane| scope.spawn(move || damages(lane, share(lane), seed))).collect();
        for lane in running {
            lane.join()
                .unwrap()
                .into_iter()
                .for_each(|(fate, count)| *total.entry(fate).or_default() += count);
        }
    });
    println!("{count} damages, relays afterwards: {total:?}");
}
