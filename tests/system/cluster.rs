//! Relays of a cluster over real servers of NATS: what is durable, what is refused, and what a damaged or a killed
//! server does.

mod compared;
mod connectors;
mod cuts;
mod damage;
mod everywhere;
mod faults;
mod figures;
mod relays;
mod servers;
mod webhooks;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pixelward::policy::Purpose;
use pixelward_replica::engine::{Engine, EngineError, Kind, Verdict};
use pixelward_replica::nats::{Nats, STREAM};
use pixelward_replica::node::Node;
use pixelward_replica::settings::Settings;
use pixelward_replica::week::week_of;
use pixelward_store::consent::{self, Applied, Change, Controller, Permission, State, Store, Timestamp};

use crate::support::Folder;
use servers::Servers;

const PURPOSE: Purpose = Purpose::CampaignPerformance;
/// How long a test waits for what must happen: servers that choose a leader take some seconds.
const PATIENCE: Duration = Duration::from_secs(60);

fn shop() -> Controller {
    "shop".parse().unwrap()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A relay of the cluster.
struct Relay {
    store: Arc<Store>,
    node: Node,
    _folder: Folder,
}

impl Relay {
    fn start(servers: &Servers, number: u8, runtime: &tokio::runtime::Runtime) -> Relay {
        Relay::named(servers, usize::from(number), [number + 1; 16], runtime)
    }

    /// One of this name, which shows the servers one of their relays' keys.
    fn named(servers: &Servers, key: usize, node: [u8; 16], runtime: &tokio::runtime::Runtime) -> Relay {
        let folder = Folder::new();
        let store = consent::Settings::at(folder.0.join("consent"));
        std::fs::create_dir_all(&store.directory).unwrap();
        pixelward_files::write_private(&store.store_key(), &[7; 32]).unwrap();
        let store = Arc::new(Store::open(&store).unwrap());
        let settings = Settings::new(node, folder.0.join("cluster"));
        let weeks = Node::weeks(&settings, &store).unwrap();
        let week = week_of(Timestamp::now());
        weeks.take(&BTreeMap::from([(week, [1; 32]), (week + 1, [2; 32])])).unwrap();
        let access = servers.access(key);
        let engine: Arc<dyn Engine> =
            Arc::new(runtime.block_on(Nats::connect(&access, &settings.node)).unwrap());
        let node = Node::start(&store, engine, weeks, settings, None, runtime.handle()).unwrap();
        Relay { store, node, _folder: folder }
    }

    fn say(&self, address: &str, state: State) -> Applied {
        let mut change = Change::now(shop(), vec![PURPOSE], state);
        change.details.evidence = Some("form/1".to_owned());
        self.store.record(vec![(self.store.person(address), change)]).unwrap()[0]
    }

    fn is_granted(&self, address: &str) -> bool {
        self.store.lookup(&shop(), self.store.person(address)).is_ok_and(|standing| {
            matches!(standing.allows(PURPOSE, Timestamp::now()), Permission::Granted(_))
        })
    }

    fn is_ready(&self) -> bool {
        let status = self.node.status();
        status.is_fresh && status.durability.is_durable()
    }

    fn journal(&self) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        self.store.each_link(|_, _, payload, _| all.push(payload.to_vec())).unwrap();
        all
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn three_servers_carry_what_two_relays_hear_through_a_kill() {
    let runtime = runtime();
    let mut servers = Servers::start(3, true);
    servers.create(&runtime);
    let relays: Vec<Relay> = (0..2).map(|number| Relay::start(&servers, number, &runtime)).collect();
    until("the relays are ready", || relays.iter().all(Relay::is_ready));
    assert!(matches!(relays[0].say("ann@home.example", State::Granted), Applied::Recorded(1)));
    until("the grant is at the other relay", || relays[1].is_granted("ann@home.example"));
    assert!(matches!(relays[1].say("ann@home.example", State::Withdrawn), Applied::Recorded(2)));
    until("the withdrawal is at the other relay", || !relays[0].is_granted("ann@home.example"));

    // The day of an open at one is known at the other.
    let eve = relays[0].store.person("eve@home.example");
    assert!(relays[0].store.note_open(&shop(), "news", eve, Timestamp::now()));
    runtime.block_on(relays[0].node.tell_opens());
    until("the day is known", || relays[1].store.last_open(&shop(), eve).is_some());

    // A server is killed while people say things. What was acknowledged is there at the end.
    servers.kill(0);
    let mut acknowledged = Vec::new();
    for number in 0..40 {
        let address = format!("reader{number}@home.example");
        match relays[number % 2].say(&address, State::Granted) {
            Applied::Recorded(_) | Applied::Moved { .. } => acknowledged.push(address),
            other => assert!(matches!(other, Applied::NotNow | Applied::Unconfirmed), "{other:?}"),
        }
    }
    // A no is always taken.
    assert!(matches!(
        relays[0].say("bob@home.example", State::Refused),
        Applied::Recorded(_) | Applied::HoldsHere
    ));
    servers.start_again(0);
    until("the relays are ready again", || relays.iter().all(Relay::is_ready));
    assert!(matches!(relays[1].say("eve@home.example", State::Granted), Applied::Recorded(_)));
    acknowledged.push("eve@home.example".to_owned());
    until("everything is everywhere", || {
        relays.iter().all(|relay| {
            relay.node.status().untold == 0 && acknowledged.iter().all(|address| relay.is_granted(address))
        })
    });
    until("the journals are equal", || relays[0].journal() == relays[1].journal());
    assert!(relays.iter().all(|relay| relay.node.status().stop.is_none()));

    // No address, no controller and no choice is in the servers' files.
    for clear in ["home.example", "shop", "form/1"] {
        assert!(!servers.files_contain(clear.as_bytes()), "{clear}");
    }
}

#[test]
fn servers_that_do_not_sync_are_told_apart_and_take_no_grants() {
    let runtime = runtime();
    let servers = Servers::start(3, false);
    servers.create(&runtime);
    let relay = Relay::start(&servers, 0, &runtime);
    until("the servers were asked", || match relay.node.status().durability {
        Verdict::NotDurable { why } => why.contains("set `sync_interval: always`"),
        Verdict::Durable => panic!("servers that sync every two minutes pass for durable"),
    });
    until("the relay is fresh", || relay.node.status().is_fresh);
    assert_eq!(relay.say("ann@home.example", State::Granted), Applied::NotNow);
    assert!(matches!(relay.say("ann@home.example", State::Refused), Applied::Recorded(_)));
}

#[test]
fn a_relay_may_publish_and_read_and_nothing_else() {
    let runtime = runtime();
    let servers = Servers::start(3, true);
    servers.create(&runtime);
    let relay = runtime.block_on(Nats::connect(&servers.access(0), &[1; 16])).unwrap();
    let published = runtime.block_on(async {
        for _ in 0..60 {
            if let Ok(position) = relay.publish(Kind::Mark, [7; 16], "one".into()).await {
                // The same id is carried once.
                return (position, relay.publish(Kind::Mark, [7; 16], "one".into()).await);
            }
        }
        panic!("nothing could be published");
    });
    assert_eq!(published, (1, Ok(1)));
    assert_eq!(runtime.block_on(relay.differs()), Ok(None));
    let found = runtime.block_on(relay.message(1)).unwrap().unwrap();
    assert_eq!((found.position, &found.bytes[..]), (1, &b"one"[..]));
    assert_eq!(runtime.block_on(relay.message(2)), Ok(None));
    // The relay's key cannot do what the operator's could, and not even the operator deletes a message.
    let delete = format!("STREAM.DELETE.{STREAM}");
    assert!(matches!(runtime.block_on(relay.ask(&delete, "")), Err(EngineError::Refused(_))));
    let operator = runtime.block_on(Nats::connect(&servers.operator_access(), &[0; 16])).unwrap();
    let info = runtime.block_on(operator.ask(&format!("STREAM.INFO.{STREAM}"), "")).unwrap();
    assert!(info.contains("\"deny_delete\":true"), "{info}");
    let delete = runtime.block_on(operator.ask(&format!("STREAM.MSG.DELETE.{STREAM}"), "{\"seq\":1}"));
    let refusal = delete.unwrap_err().to_string();
    assert!(refusal.contains("not permitted"), "{refusal}");
}
