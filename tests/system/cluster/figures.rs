//! What a cluster costs: how long an answer takes, how fast an import is, how soon a new relay is ready, and what mail
//! and a look-up cost within one. `PIXELWARD_RECORDS` says how many people the first relay knows already.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use pixelward_store::consent::socket::{Client, Request, Response};
use pixelward_store::consent::{self, Applied, Change, State, Store};

use super::relays::{Cluster, done};
use super::{Relay as Inside, Servers, shop, until};
use crate::support::{Client as Smtp, Folder, Relay, crlf, newsletter};

/// A file of grants, to be imported.
fn grants(prefix: &str, count: usize) -> String {
    let mut rows = "address,state,purposes,event_time,evidence\n".to_owned();
    for number in 0..count {
        let _ = writeln!(
            rows,
            "{prefix}{number}@home.example,granted,campaign_performance,2026-01-02T03:04:05Z,form/1"
        );
    }
    rows
}

/// Imports grants at a relay, and gives how many a second.
fn import(relay: &Relay, prefix: &str, count: usize) -> f64 {
    let file = relay.folder.file("grants.csv", &grants(prefix, count));
    let started = Instant::now();
    done(&relay.command(&["consent", "import", file.to_str().unwrap(), "--controller", "shop"]));
    let rate = count as f64 / started.elapsed().as_secs_f64();
    std::fs::remove_file(file).unwrap();
    rate
}

/// Imports grants of people nobody knows at the first relay of a cluster, and prints how many a second.
fn import_more(cluster: &Cluster, known: &mut usize, count: usize) {
    let rate = import(&cluster.relays[0], &format!("new{known}x"), count);
    println!("import over three servers by one of {} relays: {rate:.0}/s", cluster.relays.len());
    *known += count;
}

fn socket(relay: &Relay) -> Client {
    Client::connect(&relay.folder.0.join("data")).unwrap()
}

fn say(client: &mut Client, person: &str, state: &str) {
    let row = serde_json::json!({
        "address": person, "state": state, "purposes": "campaign_performance", "evidence": "form/1",
    });
    let row = Box::new(serde_json::from_value(row).unwrap());
    let said = client.ask(&Request::Say { controller: "shop".to_owned(), row }).unwrap();
    assert!(format!("{said:?}").contains("Recorded"), "{said:?}");
}

fn is_withdrawn(client: &mut Client, person: &str) -> bool {
    let request = Request::Get { controller: "shop".to_owned(), address: person.to_owned() };
    match client.ask(&request).unwrap() {
        Response::Person(shown) => {
            shown.history.last().is_some_and(|record| format!("{record:?}").contains("withdrawn"))
        }
        other => panic!("{other:?}"),
    }
}

/// The value below which so many of a hundred are.
fn share(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

fn position(relay: &Relay) -> u64 {
    let status = done(&relay.command(&["cluster", "status"]));
    let line = status.lines().find(|line| line.contains("Heard up to:")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Waits until a relay has done what it still had to do, such as reading its store after a start.
fn await_quiet(relay: &Relay) {
    until("the relay computes nothing", || {
        let before = relay.computed();
        std::thread::sleep(Duration::from_secs(1));
        relay.computed() <= before + Duration::from_millis(10)
    });
}

/// What a relay computes for a message of somebody it knows, in microseconds.
fn cost_of_mail(relay: &Relay) -> f64 {
    const MESSAGES: u32 = 6000;
    let (person, mut client) = ("old0@home.example", Smtp::greeted(relay.port));
    let message = crlf(&newsletter(person).0);
    let mut send = |count: u32| {
        for _ in 0..count {
            let reply = client.message("news@shop.example", &[person], &message);
            assert!(reply.starts_with("250"), "{reply}");
        }
    };
    send(200);
    await_quiet(relay);
    let before = relay.computed();
    send(MESSAGES);
    (relay.computed() - before).as_secs_f64() * 1e6 / f64::from(MESSAGES)
}

#[test]
#[ignore = "takes minutes with a million records; make harness runs it"]
fn what_a_cluster_costs() {
    let records = std::env::var("PIXELWARD_RECORDS").map_or(1_000_000, |text| text.parse().unwrap());
    let mut cluster = Cluster::grown_from(1, |alone| {
        println!("import by one relay on its own: {:.0}/s", import(alone, "old", records));
        println!("a message costs {:.1} us outside of a cluster", cost_of_mail(alone));
    });
    println!("and {:.1} us within one", cost_of_mail(&cluster.relays[0]));
    let mut known = records;
    import_more(&cluster, &mut known, 100_000);
    for relay in [1, 2] {
        let started = Instant::now();
        cluster.join();
        until("the new relay counts grants", || cluster.is_well(relay));
        println!("a new relay with {known} records is ready after {:?}", started.elapsed());
        import_more(&cluster, &mut known, 50_000);
    }

    let (mut here, mut there) = (socket(&cluster.relays[0]), socket(&cluster.relays[1]));
    let (mut answered, mut in_force) = (Vec::new(), Vec::new());
    for number in 0..500 {
        let person = format!("new{records}x{number}@home.example");
        let started = Instant::now();
        say(&mut here, &person, "withdrawn");
        answered.push(started.elapsed());
        while !is_withdrawn(&mut there, &person) {
            assert!(started.elapsed() < Duration::from_secs(20));
        }
        in_force.push(started.elapsed());
    }
    answered.sort();
    in_force.sort();
    println!("a withdrawal is answered: p50 {:?}, p99 {:?}", share(&answered, 50), share(&answered, 99));
    println!(
        "and in force at the other relay: p50 {:?}, p99 {:?}",
        share(&in_force, 50),
        share(&in_force, 99)
    );
    let (before, minute) = (position(&cluster.relays[0]), Duration::from_secs(60));
    std::thread::sleep(minute);
    println!("messages in an idle minute: {}", position(&cluster.relays[0]) - before);
}

/// How long a look-up of somebody known takes that the cache answers.
fn look_up(store: &Store) -> Duration {
    const LOOKS: u32 = 2_000_000;
    let people: Vec<_> =
        (0..100).map(|number| store.person(&format!("reader{number}@home.example"))).collect();
    let shop = shop();
    let looks = |count: u32| {
        let started = Instant::now();
        for person in people.iter().cycle().take(count as usize) {
            std::hint::black_box(store.lookup(&shop, *person).unwrap());
        }
        started.elapsed() / count
    };
    looks(LOOKS / 10);
    looks(LOOKS)
}

#[test]
#[ignore = "compares times; make harness runs it"]
fn a_look_up_costs_the_same_in_a_cluster() {
    let runtime = super::runtime();
    let servers = Servers::start(3, true);
    servers.create(&runtime);
    let within = Inside::start(&servers, 0, &runtime);
    until("the relay is ready", || within.is_ready());
    for number in 0..100 {
        let said = within.say(&format!("reader{number}@home.example"), State::Granted);
        assert!(matches!(said, Applied::Recorded(_)), "{said:?}");
    }
    let folder = Folder::new();
    let settings = consent::Settings::at(folder.0.join("consent"));
    let alone = Store::open(&settings).unwrap();
    for number in 0..100 {
        let mut change = Change::now(shop(), vec![super::PURPOSE], State::Granted);
        change.details.evidence = Some("form/1".to_owned());
        let _ = alone.record(vec![(alone.person(&format!("reader{number}@home.example")), change)]).unwrap();
    }
    for _ in 0..3 {
        println!(
            "a look-up: {:?} outside of a cluster, {:?} within",
            look_up(&alone),
            look_up(&within.store)
        );
    }
}
