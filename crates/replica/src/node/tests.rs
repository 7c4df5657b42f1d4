use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::consent::{Applied, Change, Controller, Permission, Settings as StoreSettings, State, Timestamp};
use crate::memory::{Carrier, Link, Memory};
use pixelward_core::policy::Purpose;

const PURPOSE: Purpose = Purpose::CampaignPerformance;
/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

fn shop() -> Controller {
    "shop".parse().unwrap()
}

/// A relay of a cluster within the test.
struct Relay {
    store: Arc<Store>,
    node: Option<Node>,
    engine: Arc<Memory>,
    folder: tempfile::TempDir,
    number: u8,
}

struct Cluster {
    runtime: tokio::runtime::Runtime,
    carrier: Arc<Carrier>,
    relays: Vec<Relay>,
    max_staleness: Duration,
}

fn opened(folder: &Path) -> Arc<Store> {
    let settings = StoreSettings::at(folder.join("consent"));
    std::fs::create_dir_all(&settings.directory).unwrap();
    if !settings.store_key().exists() {
        pixelward_files::write_private(&settings.store_key(), &[7; 32]).unwrap();
    }
    Arc::new(Store::open(&settings).unwrap())
}

impl Cluster {
    fn of(count: u8, max_staleness: Duration) -> Cluster {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let mut cluster = Cluster { runtime, carrier: Arc::default(), relays: Vec::new(), max_staleness };
        for number in 0..count {
            let folder = tempfile::tempdir().unwrap();
            let store = opened(folder.path());
            let engine = Arc::new(Memory::over(&cluster.carrier));
            cluster.relays.push(Relay { store, node: None, engine, folder, number });
            cluster.start(usize::from(number));
        }
        cluster.settle();
        cluster
    }

    fn start(&mut self, number: usize) {
        let relay = &mut self.relays[number];
        let settings = Settings {
            max_staleness: self.max_staleness,
            patience: Duration::from_millis(400),
            ..Settings::new([relay.number + 1; 16], relay.folder.path().join("cluster"))
        };
        let weeks = Node::weeks(&settings, &relay.store).unwrap();
        let week = week_of(Timestamp::now());
        weeks.take(&BTreeMap::from([(week, [1; 32]), (week + 1, [2; 32])])).unwrap();
        let engine: Arc<dyn Engine> = Arc::new(Arc::clone(&relay.engine));
        relay.node =
            Some(Node::start(&relay.store, engine, weeks, settings, None, self.runtime.handle()).unwrap());
    }

    /// Stops a relay as a crash would, and starts it over what is on its disk.
    fn restart(&mut self, number: usize) {
        let relay = &mut self.relays[number];
        relay.node = None;
        let old = Arc::clone(&relay.store);
        relay.store = {
            let mut store =
                Arc::new(Store::open(&StoreSettings::at(relay.folder.path().join("elsewhere"))).unwrap());
            std::mem::swap(&mut store, &mut relay.store);
            drop(store);
            until("the store is closed", || Arc::strong_count(&old) == 1);
            drop(old);
            opened(relay.folder.path())
        };
        self.start(number);
    }

    /// Waits until all are fresh, and have applied everything.
    fn settle(&self) {
        until("all relays are fresh and equal", || {
            let last = self.carrier.count();
            self.relays.iter().all(|relay| {
                let status = relay.node.as_ref().unwrap().status();
                status.is_fresh
                    && status.durability.is_durable()
                    && status.position >= last
                    && status.untold == 0
            })
        });
    }

    fn link(&self, number: usize, link: Link) {
        self.relays[number].engine.set(link);
    }

    fn say(&self, number: usize, address: &str, state: State) -> Applied {
        let store = &self.relays[number].store;
        let mut change = Change::now(shop(), vec![PURPOSE], state);
        change.details.evidence = Some("form/1".to_owned());
        store.record(vec![(store.person(address), change)]).unwrap()[0]
    }

    /// Says something that takes effect.
    fn taken(&self, number: usize, address: &str, state: State) {
        let said = self.say(number, address, state);
        assert!(matches!(said, Applied::Recorded(_) | Applied::Moved { .. }), "{said:?}");
    }

    fn is_granted(&self, number: usize, address: &str) -> bool {
        let store = &self.relays[number].store;
        store.lookup(&shop(), store.person(address)).is_ok_and(|standing| {
            matches!(standing.allows(PURPOSE, Timestamp::now()), Permission::Granted(_))
        })
    }

    fn journals(&self) -> Vec<Vec<Vec<u8>>> {
        let journal = |relay: &Relay| {
            let mut all = Vec::new();
            relay.store.each_link(|_, _, payload, _| all.push(payload.to_vec())).unwrap();
            all
        };
        self.relays.iter().map(journal).collect()
    }

    fn assert_equal(&self) {
        self.settle();
        let journals = self.journals();
        assert!(journals.windows(2).all(|pair| pair[0] == pair[1]));
        for relay in &self.relays {
            assert!(relay.store.verify().unwrap().is_sound());
        }
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn what_one_relay_hears_holds_at_all() {
    let cluster = Cluster::of(3, MINUTE);
    assert!(matches!(cluster.say(0, "ann@home.example", State::Granted), Applied::Recorded(1)));
    until("the grant is everywhere", || (0..3).all(|relay| cluster.is_granted(relay, "ann@home.example")));
    assert!(matches!(cluster.say(2, "ann@home.example", State::Withdrawn), Applied::Recorded(2)));
    assert!(!cluster.is_granted(2, "ann@home.example"));
    until("the withdrawal is everywhere", || {
        (0..3).all(|relay| !cluster.is_granted(relay, "ann@home.example"))
    });
    let store = &cluster.relays[1].store;
    let history = store.history(store.person("ann@home.example")).unwrap();
    assert_eq!(history.len(), 2);
    assert_eq!(history[0].change.details.evidence.as_deref(), Some("form/1"));
    cluster.taken(1, "bob@home.example", State::Granted);
    assert!(store.erase(store.person("ann@home.example")).unwrap());
    cluster.assert_equal();
    assert!(cluster.relays.iter().all(|relay| !relay.store.knows(relay.store.person("ann@home.example"))));
}

#[test]
fn two_relays_that_meet_somebody_at_once_agree_on_one_id() {
    let cluster = Cluster::of(3, MINUTE);
    std::thread::scope(|scope| {
        for relay in 0..3 {
            let cluster = &cluster;
            scope.spawn(move || {
                for number in 0..20 {
                    let said = cluster.say(relay, &format!("new{number}@home.example"), State::Refused);
                    assert!(matches!(said, Applied::Recorded(_) | Applied::Moved { .. }), "{said:?}");
                }
            });
        }
    });
    cluster.assert_equal();
    assert_eq!(cluster.relays[0].store.people(), 20);
}

#[test]
fn a_condition_holds_for_the_whole_cluster() {
    let cluster = Cluster::of(2, MINUTE);
    cluster.taken(0, "ann@home.example", State::Refused);
    let store = &cluster.relays[1].store;
    let person = store.person("ann@home.example");
    cluster.settle();
    let set = |condition: fn(&crate::consent::Standing) -> bool| {
        let (done, said) = std::sync::mpsc::channel();
        let mut change = Change::now(shop(), vec![PURPOSE], State::Granted);
        change.details.evidence = Some("form/2".to_owned());
        store.record_if(person, change, condition, move |applied| done.send(applied).unwrap()).unwrap();
        said.recv().unwrap().unwrap()
    };
    assert_eq!(set(|_| false), Applied::Conflicting);
    assert!(matches!(set(|_| true), Applied::Recorded(2)));
    cluster.assert_equal();
}

#[test]
fn without_the_others_a_withdrawal_holds_and_a_grant_is_not_taken() {
    let mut cluster = Cluster::of(2, Duration::from_millis(700));
    for name in ["ann", "bob"] {
        let said = cluster.say(0, &format!("{name}@home.example"), State::Granted);
        assert!(matches!(said, Applied::Recorded(_)), "{said:?}");
    }
    until("the grants are everywhere", || cluster.is_granted(1, "ann@home.example"));
    cluster.link(1, Link::CUT);
    assert_eq!(cluster.say(1, "ann@home.example", State::Withdrawn), Applied::HoldsHere);
    assert!(!cluster.is_granted(1, "ann@home.example"));
    until("it is no longer fresh", || !cluster.is_granted(1, "bob@home.example"));
    assert_eq!(cluster.say(1, "new@home.example", State::Granted), Applied::NotNow);
    assert_eq!(cluster.say(1, "new@home.example", State::Refused), Applied::HoldsHere);
    let store = Arc::clone(&cluster.relays[1].store);
    assert!(matches!(store.erase(store.person("bob@home.example")), Err(StoreError::Delayed)));
    drop(store);
    // What was heard survives a restart, and holds before the others are there.
    cluster.restart(1);
    let store = &cluster.relays[1].store;
    let known = store.known(&shop(), store.person("ann@home.example")).unwrap();
    assert!(!matches!(known.allows(PURPOSE, Timestamp::now()), Permission::Granted(_)));
    assert!(cluster.is_granted(0, "ann@home.example"));
    cluster.link(1, Link::WHOLE);
    until("the withdrawal is at the other relay", || !cluster.is_granted(0, "ann@home.example"));
    until("the erasure is at the other relay", || !cluster.is_granted(0, "bob@home.example"));
    cluster.assert_equal();
}

#[test]
fn a_message_that_is_missing_stops_granting_until_it_is_there() {
    let cluster = Cluster::of(2, MINUTE);
    cluster.taken(0, "ann@home.example", State::Granted);
    cluster.settle();
    cluster.link(1, Link { hears: false, ..Link::WHOLE });
    cluster.taken(0, "ann@home.example", State::Withdrawn);
    cluster.carrier.lose(cluster.carrier.count());
    cluster.taken(0, "bob@home.example", State::Granted);
    cluster.link(1, Link::WHOLE);
    let stopped = || cluster.relays[1].node.as_ref().unwrap().status().stop;
    until("the gap is noticed", || matches!(stopped(), Some(Stop::Gap(_))));
    assert!(!cluster.is_granted(1, "ann@home.example") && !cluster.is_granted(1, "bob@home.example"));
    cluster.carrier.restore();
    cluster.assert_equal();
    assert_eq!(stopped(), None);
    assert!(!cluster.is_granted(1, "ann@home.example") && cluster.is_granted(1, "bob@home.example"));
}

#[test]
fn a_server_that_hands_out_nothing_is_left_for_another() {
    let mut cluster = Cluster::of(2, MINUTE);
    cluster.taken(0, "ann@home.example", State::Granted);
    cluster.settle();
    cluster.relays[1].engine.silence(2);
    cluster.restart(1);
    assert!(!cluster.is_granted(1, "ann@home.example"));
    until("it hears the order from another server", || cluster.is_granted(1, "ann@home.example"));
    // The marks that did not come back were few: they stay in the order for good.
    assert!(cluster.carrier.count() < 20, "{}", cluster.carrier.count());
    cluster.assert_equal();
}

#[test]
fn a_mark_that_was_lost_is_said_again_while_others_talk() {
    let mut cluster = Cluster::of(2, MINUTE);
    cluster.link(1, Link { tells: false, ..Link::WHOLE });
    cluster.restart(1);
    cluster.taken(0, "ann@home.example", State::Granted);
    let status = |relay: usize| cluster.relays[relay].node.as_ref().unwrap().status();
    until("it hears the others", || status(1).position >= cluster.carrier.count());
    cluster.link(1, Link::WHOLE);
    until("it is fresh, however much it hears", || {
        cluster.taken(0, "ann@home.example", State::Refused);
        status(1).is_fresh
    });
    cluster.assert_equal();
}

#[test]
fn a_journal_that_differs_is_noticed_by_the_next_mark() {
    // Marks come every quarter of this.
    let cluster = Cluster::of(1, Duration::from_secs(1));
    cluster.taken(0, "ann@home.example", State::Granted);
    // Another relay that joined with a journal that is not the same.
    let mut cluster = cluster;
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path());
    let mut change = Change::new(shop(), vec![PURPOSE], State::Granted, Timestamp(5));
    change.details.evidence = Some("form/1".to_owned());
    let _ = store.record(vec![(store.person("eve@home.example"), change)]).unwrap();
    let engine = Arc::new(Memory::over(&cluster.carrier));
    cluster.relays.push(Relay { store, node: None, engine, folder, number: 1 });
    cluster.start(1);
    let stopped = |relay: usize| cluster.relays[relay].node.as_ref().unwrap().status().stop;
    until("both have stopped", || (0..2).all(|relay| matches!(stopped(relay), Some(Stop::Differs { .. }))));
    assert!(!cluster.is_granted(0, "ann@home.example") && !cluster.is_granted(1, "eve@home.example"));
    // A no is still taken.
    assert!(matches!(cluster.say(0, "ann@home.example", State::Withdrawn), Applied::Recorded(_)));
}

#[test]
fn grants_need_servers_that_promise_durability() {
    let cluster = Cluster::of(1, MINUTE);
    assert!(matches!(cluster.say(0, "ann@home.example", State::Granted), Applied::Recorded(_)));
    *cluster.relays[0].node.as_ref().unwrap().inner.durability.write().unwrap() =
        Verdict::NotDurable { why: "in this test".to_owned() };
    assert_eq!(cluster.say(0, "bob@home.example", State::Granted), Applied::NotNow);
    assert!(matches!(cluster.say(0, "ann@home.example", State::Withdrawn), Applied::Recorded(_)));
}

/// The clock of the test below, in milliseconds since 1970.
static CLOCK: std::sync::atomic::AtomicI64 = std::sync::atomic::AtomicI64::new(0);
const WEEK: i64 = 7 * 24 * 3600 * 1000;

fn set_clock() -> Timestamp {
    Timestamp(CLOCK.load(Ordering::Relaxed))
}

struct Nothing;

impl crate::peer::Answerer for Nothing {
    fn answer(&self, _: Vec<u8>) -> crate::engine::Eventually<'_, Result<Vec<u8>, String>> {
        Box::pin(async { Err("nobody is asked here".to_owned()) })
    }
}

impl crate::peer::Giver for Nothing {
    fn give(&self, _: &Path) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_next_key_is_made_by_one_relay_and_fetched_by_the_others() {
    use crate::peer::{Authority, Door, Identity, Invitations};

    CLOCK.store(3000 * WEEK + 5, Ordering::Relaxed);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (authority, carrier) = (Authority::fresh().unwrap(), Arc::default());
    let mut relays = Vec::new();
    for number in 1..=3u8 {
        let folder = tempfile::tempdir().unwrap();
        let store = opened(folder.path());
        let mut settings =
            Settings { clock: set_clock, ..Settings::new([number; 16], folder.path().join("cluster")) };
        settings.patience = Duration::from_millis(400);
        settings.max_staleness = Duration::from_secs(1);
        let weeks = Node::weeks(&settings, &store).unwrap();
        weeks.take(&BTreeMap::from([(3000, [1; 32])])).unwrap();
        authority.write(&settings.directory).unwrap();
        authority.certify_relay("one", &settings.directory).unwrap();
        let identity = Arc::new(Identity::load(&settings.directory).unwrap());
        let anywhere = "127.0.0.1:0".parse().unwrap();
        let door = Door::open(
            anywhere,
            &identity,
            Arc::clone(&weeks),
            Arc::new(Invitations::default()),
            Arc::new(Nothing),
            Arc::new(Nothing),
        );
        let door = runtime.block_on(door).unwrap();
        settings.address = door.address().unwrap().to_string();
        runtime.spawn(door.serve());
        let engine: Arc<dyn Engine> = Arc::new(Arc::new(Memory::over(&carrier)));
        let node =
            Node::start(&store, engine, Arc::clone(&weeks), settings, Some(identity), runtime.handle())
                .unwrap();
        relays.push((store, node, weeks, folder));
    }
    until("all are fresh", || relays.iter().all(|(_, node, ..)| node.status().is_fresh));
    assert!(relays.iter().all(|(_, _, weeks, _)| weeks.all().len() == 1));
    CLOCK.store(3000 * WEEK + WEEK / 2 + 5, Ordering::Relaxed);
    relays.iter().for_each(|(_, node, ..)| node.inner.claimed.notify_one());
    until("all have the next key", || relays.iter().all(|(_, _, weeks, _)| weeks.sealer(3001).is_some()));
    let keys: Vec<_> = relays.iter().map(|(_, _, weeks, _)| weeks.all()).collect();
    assert!(keys.windows(2).all(|pair| pair[0] == pair[1]));
    // Eight days after its week, a key is gone everywhere, and messages travel under another one.
    CLOCK.store(3001 * WEEK + 8 * WEEK / 7 + 5, Ordering::Relaxed);
    relays.iter().for_each(|(_, node, ..)| node.inner.claimed.notify_one());
    until("the first key is gone", || relays.iter().all(|(_, _, weeks, _)| weeks.sealer(3000).is_none()));
}

/// Numbers that look random, the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Links fail in every way while people say things at all relays. Whoever withdrew and was told so by everybody
/// is granted nowhere once `max_staleness` has passed; acknowledged grants are there at the end; all journals are
/// equal.
#[test]
fn whatever_fails_no_acknowledged_choice_is_lost() {
    const PEOPLE: u64 = 12;
    let staleness = Duration::from_millis(600);
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut cluster = Cluster::of(3, staleness);
    // What each person was last acknowledged to have said, and when.
    let mut said: BTreeMap<u64, (State, Instant, bool)> = BTreeMap::new();
    for turn in 0..60 {
        let relay = usize::try_from(dice.roll(3)).unwrap();
        match dice.roll(6) {
            0 => cluster.link(relay, Link::CUT),
            1 => cluster.link(relay, Link { hears: false, ..Link::WHOLE }),
            2 => cluster.link(relay, Link { tells: false, ..Link::WHOLE }),
            3 => cluster.link(relay, Link { is_acknowledged: false, ..Link::WHOLE }),
            _ => cluster.link(relay, Link::WHOLE),
        }
        if turn % 20 == 19 {
            cluster.restart(relay);
        }
        for _ in 0..3 {
            let (person, at) = (dice.roll(PEOPLE), usize::try_from(dice.roll(3)).unwrap());
            let state = if dice.roll(2) == 0 { State::Granted } else { State::Withdrawn };
            let address = format!("reader{person}@home.example");
            match cluster.say(at, &address, state) {
                Applied::Recorded(_) | Applied::Moved { .. } => {
                    let _ = said.insert(person, (state, Instant::now(), true));
                }
                // Nothing is promised of it, nor of what was said before.
                Applied::Unconfirmed | Applied::HoldsHere => {
                    let _ = said.insert(person, (state, Instant::now(), false));
                }
                _ => {}
            }
        }
        for (person, (state, at, is_sure)) in &said {
            if *is_sure && *state == State::Withdrawn && at.elapsed() > staleness {
                let address = format!("reader{person}@home.example");
                for relay in 0..3 {
                    assert!(
                        !cluster.is_granted(relay, &address),
                        "turn {turn}, relay {relay}, reader {person}"
                    );
                }
            }
        }
    }
    (0..3).for_each(|relay| cluster.link(relay, Link::WHOLE));
    cluster.assert_equal();
    let sure = said.iter().filter(|(_, (_, _, is_sure))| *is_sure);
    let checked = sure.map(|(person, (state, ..))| {
        let address = format!("reader{person}@home.example");
        assert!(
            (0..3).all(|relay| cluster.is_granted(relay, &address) == (*state == State::Granted)),
            "{address}"
        );
    });
    assert!(checked.count() > 0);
}

#[test]
fn what_was_applied_before_a_crash_and_is_still_to_be_told_is_not_told_for_ever() {
    let mut cluster = Cluster::of(2, MINUTE);
    cluster.taken(1, "ann@home.example", State::Granted);
    cluster.settle();
    // It was published, and the relay did not hear so.
    cluster.link(0, Link { hears: false, ..Link::WHOLE });
    assert_eq!(cluster.say(0, "ann@home.example", State::Withdrawn), Applied::HoldsHere);
    let outbox = cluster.relays[0].folder.path().join("cluster").join(OUTBOX);
    let untold = std::fs::read(&outbox).unwrap();
    cluster.link(0, Link::WHOLE);
    cluster.settle();
    // Power fails after it was applied, and before the outbox is without it.
    cluster.relays[0].node = None;
    std::fs::write(&outbox, untold).unwrap();
    cluster.restart(0);
    cluster.assert_equal();
    assert!((0..2).all(|relay| !cluster.is_granted(relay, "ann@home.example")));
}

#[test]
fn what_is_to_be_done_once_is_done_at_one_relay() {
    let mut cluster = Cluster::of(3, Duration::from_secs(30));
    let hour = Duration::from_secs(3600);
    let claims = |cluster: &Cluster, name: &[u8]| -> usize {
        cluster.relays.iter().filter(|relay| relay.store.once(&[b"letter", name], hour).unwrap()).count()
    };
    assert_eq!(claims(&cluster, b"one"), 1);
    assert_eq!(claims(&cluster, b"two"), 1);
    assert_eq!(claims(&cluster, b"two"), 1, "whoever was first may do it again");
    let first = |cluster: &Cluster, number: usize| {
        cluster.relays[number].store.once(&[b"letter", b"two"], hour).unwrap()
    };
    let who: Vec<bool> = (0..3).map(|number| first(&cluster, number)).collect();
    cluster.restart(1);
    cluster.settle();
    let again: Vec<bool> = (0..3).map(|number| first(&cluster, number)).collect();
    assert_eq!(who, again, "a restart forgets nothing");
    // Who is cut off does what must be done: better twice than not at all.
    cluster.link(2, Link::CUT);
    until("the third relay does it by itself", || first(&cluster, 2));
}

#[test]
fn who_was_active_at_one_relay_is_inactive_at_none() {
    let cluster = Cluster::of(3, Duration::from_secs(2));
    let (person, now) = (cluster.relays[0].store.person("ann@home.example"), Timestamp::now());
    let today = crate::consent::Day::of(now);
    assert!(cluster.relays[0].store.note_open(&shop(), "news", person, now));
    cluster.relays[1].store.count_open(&shop(), "news", [4; 8], now);
    cluster.relays[2].store.count_open(&shop(), "news", [4; 8], now);
    for relay in &cluster.relays {
        cluster.runtime.block_on(relay.node.as_ref().unwrap().tell_opens());
    }
    until("every relay knows the day", || {
        cluster.relays.iter().all(|relay| relay.store.last_open(&shop(), person) == Some(today))
    });
    until("every relay has counted all", || {
        cluster.relays.iter().all(|relay| {
            relay.store.shared_opens(&shop()).iter().map(|counted| counted.opens).sum::<u64>() == 2
        })
    });
    assert!(cluster.relays.iter().all(|relay| relay.store.measured_since().is_none()));
    // Whoever cannot hear the others says of nobody that they are inactive.
    cluster.link(2, Link::CUT);
    until("nothing is known", || cluster.relays[2].store.measured_since().is_some());
}
