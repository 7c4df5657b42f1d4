//! A service has what holds for everybody in the end, whatever it does and however often the relay is killed.
//! `PIXELWARD_CONNECTOR_CHANGES` says how many changes there are, and `PIXELWARD_NAMED_CHANGES` how many for each named
//! service.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use pixelward::consent::Timestamp;
use serde_json::{Value, json};

use crate::clock::{Clock, library};
use crate::esp::named::{ALL, KEY, Named};
use crate::esp::{CREDENTIAL, Esp, PLAIN, Plain};
use crate::http::{CONTROLLERS, Served};
use crate::support::{Folder, Relay, configuration, free_port};

/// How many of a thousand requests go wrong.
const FAULTS: u64 = 50;

/// Draws numbers, the same ones each time.
struct Draw(u64);

impl Draw {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// The rows of an import: each is a change of somebody, with the second at which it was said.
fn rows(changes: &[(u64, bool)], second: &mut u64) -> String {
    let mut rows = "address,state,purposes,event_time,evidence,external_id\n".to_owned();
    for (person, is_granted) in changes {
        *second += 1;
        let state = if *is_granted { "granted" } else { "refused" };
        let (days, rest) = (*second / 86_400, *second % 86_400);
        let _ = writeln!(
            rows,
            "p{person}@home.example,{state},campaign_performance link_tracking,\
             2026-{:02}-{:02}T{:02}:{:02}:{:02}Z,form/{second},{}",
            1 + days / 28,
            1 + days % 28,
            rest / 3600,
            rest / 60 % 60,
            rest % 60,
            id(*person)
        );
    }
    rows
}

fn import(relay: &Relay, rows: &str) {
    let file = relay.folder.file("rows.csv", rows);
    let output = relay.command(&["consent", "import", file.to_str().unwrap(), "--controller", "shop"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Under which name services know somebody: some take nothing but numbers.
fn id(person: u64) -> String {
    (1000 + person).to_string()
}

fn secret(folder: &Folder, text: &str) -> PathBuf {
    let path = folder.file("key", &format!("{text}\n"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// Writes the configuration of a relay with these connectors.
fn configured_with(folder: &Folder, connectors: &str) {
    let rest = format!(
        "{CONTROLLERS}[api]\naddress = \"127.0.0.1:0\"\nrequests_per_minute = 10000000\n{connectors}"
    );
    configuration(folder, free_port(), "", "", &rest);
}

/// A folder with the configuration of a relay that has a connector to a service of this description.
fn configured(esp: &Esp, description: &str) -> Folder {
    let folder = Folder::new();
    let file = folder.file("plain.toml", description);
    let key = secret(&folder, CREDENTIAL);
    let connector = format!(
        "[[connector]]\ncontroller = \"shop\"\nname = \"plain\"\nservice_file = {file:?}\nbase_url = {:?}\n\
         credential_file = {key:?}\npurposes = [\"campaign_performance\"]\n",
        esp.base()
    );
    configured_with(&folder, &connector);
    folder
}

/// A service that is told, and the words it has for both choices.
struct Told {
    name: &'static str,
    esp: Esp,
    granted: Value,
    refused: Value,
}

impl Told {
    fn of(named: &'static Named) -> Told {
        let [granted, refused] = [(named.granted)(), (named.refused)()];
        Told { name: named.name, esp: Esp::start(named), granted, refused }
    }

    /// Panics unless the service has what holds for everybody, and nothing happened that must never happen.
    fn check(&self, holds: &HashMap<u64, bool>) {
        self.esp.check();
        let books = self.esp.books.lock().unwrap();
        let wrong = holds.iter().filter(|(person, is_granted)| {
            let found = books.contacts.get(&id(**person)).map(|(value, _)| value);
            found != Some(if **is_granted { &self.granted } else { &self.refused })
        });
        assert_eq!(wrong.count(), 0, "{}: contacts differ from the store", self.name);
        assert_eq!(books.contacts.len(), holds.len(), "{}", self.name);
        println!(
            "{}: {} people: {} writes, {} of them repeated what was there, {} requests failed",
            self.name,
            holds.len(),
            books.writes,
            books.repeats,
            books.failed
        );
    }
}

/// So many changes come in, each service fails one request of twenty, and the relay is killed three times.
fn everybody_has_what_holds(folder: Folder, services: &[Told], changes: u64) {
    let limit = Duration::from_secs(120 + changes * services.len() as u64 / 100);
    let mut served = Served::of(Relay::in_folder(folder));
    let token = served.token("consent:read,consent:write", "all");
    let began = Instant::now();
    // Half of the changes are first ones, the other half change somebody's mind, some again and again.
    let people = changes / 2;
    let (mut draw, mut second, mut holds) = (Draw(7), 0, HashMap::new());
    let mut left: Vec<(u64, bool)> = (0..people).map(|person| (person, person % 3 != 0)).collect();
    left.extend((people..changes).map(|_| {
        let few = (people / 100).max(1);
        let person = if draw.below(10) == 0 { draw.below(few) } else { draw.below(people) };
        (person, draw.below(2) == 0)
    }));
    services.iter().for_each(|told| told.esp.books.lock().unwrap().per_mille = FAULTS);
    let writes = || services.iter().map(|told| told.esp.books.lock().unwrap().writes).sum::<u64>();
    let wait = |served: &Served| services.iter().map(|told| waiting(served, &token, told.name)).sum::<u64>();
    let part = left.len().div_ceil(6);
    for (number, part) in left.chunks(part).enumerate() {
        import(&served.relay, &rows(part, &mut second));
        holds.extend(part.iter().copied());
        // Three times it is killed while requests are on their way.
        if number % 2 == 0 {
            let before = writes();
            until("requests are on their way", limit, || writes() > before || wait(&served) == 0);
            served = Served::of(served.relay.killed());
        }
    }
    until("nothing waits", limit, || wait(&served) == 0);
    // Those for whom it failed too often are tried again on demand.
    for told in services {
        until("no dead letters are left", limit, || {
            let page = standing(&served, &token, told.name);
            let dead = page["dead_letters"]["failed"].as_u64().unwrap();
            if dead > 0 {
                let body = json!({"action": "retry"}).to_string();
                let path = format!("/v1/controllers/shop/connectors/{}/actions", told.name);
                served.ask(&token, "POST", &path, &body);
            }
            dead == 0
        });
    }
    println!("{changes} changes took {:?}, import included, with 3 kills", began.elapsed());
    services.iter().for_each(|told| told.check(&holds));
}

fn changes(variable: &str, least: u64) -> u64 {
    std::env::var(variable).map_or(least, |text| text.parse().unwrap())
}

#[test]
fn everybody_has_what_holds_though_requests_fail_and_the_relay_is_killed() {
    let told = Told { name: "plain", esp: Esp::start(Plain), granted: json!(true), refused: json!(false) };
    let folder = configured(&told.esp, PLAIN);
    everybody_has_what_holds(folder, &[told], changes("PIXELWARD_CONNECTOR_CHANGES", 6000));
}

#[test]
fn the_same_holds_for_each_named_service() {
    let services: Vec<Told> = ALL.iter().map(Told::of).collect();
    let folder = Folder::new();
    let key = secret(&folder, KEY);
    let connectors = ALL.iter().zip(&services).map(|(named, told)| {
        let limits = "requests_per_second = 100000\nburst = 100000\n";
        named.connector(&told.esp, &key) + limits
    });
    configured_with(&folder, &connectors.collect::<String>());
    everybody_has_what_holds(folder, &services, changes("PIXELWARD_NAMED_CHANGES", 1000));
}

#[test]
fn a_sync_that_was_killed_goes_on_where_it_was_and_leaves_nobody_out() {
    const PEOPLE: u64 = 3000;
    const ROUND: u64 = 500;
    let esp = Esp::start(Plain);
    // A round is what takes ten seconds.
    let description = PLAIN.replace("requests_per_second = 100000", "requests_per_second = 50");
    let folder = configured(&esp, &description);
    let with = std::fs::read_to_string(folder.0.join("config.toml")).unwrap();
    // The people are there before the connector is.
    let (before, after) = with.split_once("[[connector]]").unwrap();
    let after = after.split_once("\n[").map_or(String::new(), |(_, after)| format!("[{after}"));
    folder.file("config.toml", &format!("{before}{after}"));
    let people: Vec<(u64, bool)> = (0..PEOPLE).map(|person| (person, person % 3 != 0)).collect();
    let first = Served::of(Relay::in_folder(folder));
    import(&first.relay, &rows(&people, &mut 0));
    first.relay.folder.file("config.toml", &with);
    let mut served = Served::of(first.relay.killed());
    let token = served.token("consent:read,consent:write", "all");
    let act = json!({"action": "sync"}).to_string();
    let path = "/v1/controllers/shop/connectors/plain/actions";
    assert_eq!(served.ask(&token, "POST", path, &act).status, 202);
    let limit = Duration::from_secs(120);
    let began = standing(&served, &token, "plain")["walk"]["started_at"].clone();
    let mut came_to = Vec::new();
    for most in [5 * ROUND / 2, 9 * ROUND / 2] {
        until("it is under way", limit, || esp.books.lock().unwrap().contacts.len() as u64 >= most);
        served = Served::of(served.relay.killed());
        let walk = standing(&served, &token, "plain")["walk"].clone();
        assert_eq!(walk["started_at"], began, "it is the same one: {walk}");
        let people = walk["people"].as_u64().unwrap();
        assert!(people + ROUND >= most && people < PEOPLE, "it goes on where it was: {walk}");
        assert_eq!(walk["results"]["written"], people);
        came_to.push(people);
    }
    // What changes meanwhile is told beside it.
    import(&served.relay, &rows(&[(0, true), (PEOPLE - 1, false)], &mut (2 * PEOPLE)));
    until("it is finished", limit, || standing(&served, &token, "plain")["walk"]["finished_at"].is_string());
    until("nothing waits", limit, || waiting(&served, &token, "plain") == 0);
    let walk = standing(&served, &token, "plain")["walk"].clone();
    assert_eq!((&walk["people"], &walk["results"]), (&json!(PEOPLE), &json!({"written": PEOPLE})));
    esp.check();
    let books = esp.books.lock().unwrap();
    for (person, is_granted) in people {
        let holds = if person == 0 { true } else { person != PEOPLE - 1 && is_granted };
        let found = books.contacts.get(&id(person)).map(|(value, _)| value.clone());
        assert_eq!(found, Some(json!(holds)), "p{person}");
    }
    // With each kill, not more than a round is written again.
    assert!(books.writes <= PEOPLE + 2 * ROUND + 2, "{} writes", books.writes);
    println!(
        "a sync of {PEOPLE} people, killed when {came_to:?} were done, wrote {} times, {} of them again",
        books.writes, books.repeats
    );
}

#[test]
fn a_service_is_told_of_a_grant_that_expires_while_the_relay_runs_and_while_it_does_not() {
    let esp = Esp::start(Plain);
    let folder = configured(&esp, PLAIN);
    let clock = Clock::beside(&folder);
    let library = library();
    let clocked = |folder: Folder| {
        let variables = [
            ("LD_PRELOAD", library.to_str().unwrap()),
            ("FAKETIME_TIMESTAMP_FILE", clock.path().to_str().unwrap()),
            ("FAKETIME_NO_CACHE", "1"),
        ];
        Served::of(Relay::in_environment(folder, &variables))
    };
    let mut served = clocked(folder);
    let token = served.token("consent:read,consent:write", "all");
    let say = |served: &Served, name: &str, hours: u32| {
        let expires = Timestamp(Timestamp::now().0 + i64::from(hours) * 3_600_000).to_string();
        let body = json!({"address": format!("{name}@home.example"), "state": "granted", "evidence": "form/1",
            "purposes": ["campaign_performance"], "external_id": name, "expires": expires});
        let answer = served.ask(&token, "PUT", "/v1/controllers/shop/consent", &body.to_string());
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    let limit = Duration::from_secs(90);
    for (name, hours) in [("ann", 1), ("bob", 10), ("cat", 1000)] {
        say(&served, name, hours);
        until("the grant is written", limit, || esp.value(name) == Some(json!(true)));
    }
    // A request that is on its way while the clock is stepped has waited for hours, and is sent again.
    until("the answers have come", limit, || waiting(&served, &token, "plain") == 0);
    // Seven hours later it has been looked for expired grants once.
    clock.step(7 * 3600);
    let began = Instant::now();
    until("ann's grant has expired", limit, || {
        // Whatever the relay does makes it look at its clock.
        let _ = waiting(&served, &token, "plain");
        esp.value("ann") == Some(json!(false))
    });
    let took = began.elapsed();
    assert_eq!(esp.value("bob"), Some(json!(true)));
    // Bob's expires while the relay is down: it is told at the start.
    served.relay.signal("KILL");
    served.relay.wait();
    clock.step(14 * 3600);
    let folder = std::mem::replace(&mut served.relay.folder, Folder(std::path::PathBuf::new()));
    served = clocked(folder);
    until("bob's grant has expired", limit, || esp.value("bob") == Some(json!(false)));
    until("nothing waits", limit, || waiting(&served, &token, "plain") == 0);
    let [ann, bob, cat] = ["ann", "bob", "cat"].map(|name| esp.log(name).len());
    // A search that the kill cut off is made again.
    assert!((2..=3).contains(&ann), "{ann}");
    assert_eq!((bob, cat, esp.value("cat")), (2, 1, Some(json!(true))), "each is told once");
    esp.check();
    println!("a grant that expired while the relay ran was told {took:?} after it was due to be looked for");
}

#[test]
fn a_grant_that_expired_is_told_though_more_changes_wait_than_the_service_takes() {
    let esp = Esp::start(Plain);
    // What waits takes a minute.
    let slow = PLAIN.replace("requests_per_second = 100000", "requests_per_second = 50");
    let mut served =
        Served::of(Relay::in_folder(configured(&esp, &slow.replace("burst = 100000", "burst = 1"))));
    let token = served.token("consent:read,consent:write", "all");
    let expires = Timestamp(Timestamp::now().0 + 8000);
    let body = json!({"address": "ann@home.example", "state": "granted", "evidence": "form/1", "external_id": "ann",
        "purposes": ["campaign_performance"], "expires": expires.to_string()});
    let answer = served.ask(&token, "PUT", "/v1/controllers/shop/consent", &body.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let limit = Duration::from_secs(60);
    until("the grant is written", limit, || esp.value("ann") == Some(json!(true)));
    let people: Vec<(u64, bool)> = (0..3000).map(|person| (person, true)).collect();
    import(&served.relay, &rows(&people, &mut 0));
    until("it has expired", limit, || Timestamp::now() > expires);
    served = Served::of(served.relay.killed());
    until("it is told", limit, || esp.value("ann") == Some(json!(false)));
    let left = waiting(&served, &token, "plain");
    assert!(left > 0, "changes still wait");
    println!("an expired grant was told while {left} changes waited");
    esp.check();
}

#[test]
fn somebody_for_whom_the_service_always_fails_keeps_nobody_else_waiting_for_long() {
    let esp = Esp::start(Plain);
    let served = Served::of(Relay::in_folder(configured(&esp, PLAIN)));
    let token = served.token("consent:read,consent:write", "all");
    let limit = Duration::from_secs(120);
    esp.books.lock().unwrap().broken.insert(id(0));
    import(&served.relay, &rows(&[(0, true), (1, true)], &mut 0));
    until("it works for one of them", limit, || esp.value(&id(1)) == Some(json!(true)));
    let began = Instant::now();
    import(&served.relay, &rows(&[(1, false)], &mut 10));
    until("a later change is told", limit, || esp.value(&id(1)) == Some(json!(false)));
    let took = began.elapsed();
    until("nothing waits", limit, || waiting(&served, &token, "plain") == 0);
    assert_eq!(standing(&served, &token, "plain")["dead_letters"]["failed"], 1);
    // To try again does not hold up others, either.
    let body = json!({"action": "retry"}).to_string();
    let path = "/v1/controllers/shop/connectors/plain/actions";
    let again = Instant::now();
    assert_eq!(served.ask(&token, "POST", path, &body).status, 202);
    import(&served.relay, &rows(&[(1, true)], &mut 20));
    until("the next change is told", limit, || esp.value(&id(1)) == Some(json!(true)));
    assert!(again.elapsed() < Duration::from_secs(10));
    esp.books.lock().unwrap().broken.clear();
    until("nobody is left", limit, || {
        served.ask(&token, "POST", path, &body);
        standing(&served, &token, "plain")["dead_letters"]["failed"] == 0
    });
    assert_eq!(esp.value(&id(0)), Some(json!(true)));
    esp.check();
    println!("behind somebody for whom the service fails, a change was told after {took:?}");
}

fn standing(served: &Served, token: &str, name: &str) -> Value {
    served.ask(token, "GET", &format!("/v1/controllers/shop/connectors/{name}"), "").json()
}

fn waiting(served: &Served, token: &str, name: &str) -> u64 {
    standing(served, token, name)["waiting"].as_u64().unwrap()
}
