//! A receiver is told by one relay at a time, in order, whatever becomes of that relay.

use std::io::{BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::relays::{Cluster, done, say};
use super::until;
use crate::http::Request;
use crate::support::{Folder, Relay};

/// Somebody who is told: the events of each request that was taken, in order.
pub(super) struct Receiver {
    port: u16,
    told: Arc<Mutex<Vec<Vec<Value>>>>,
    /// Whether it takes what comes.
    takes: Arc<AtomicBool>,
    folder: Folder,
}

impl Receiver {
    pub(super) fn start() -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let folder = Folder::new();
        let secret = folder.file("secret", "0123456789abcdef0123456789abcdef\n");
        std::fs::set_permissions(secret, std::fs::Permissions::from_mode(0o600)).unwrap();
        let receiver =
            Receiver { port, told: Arc::default(), takes: Arc::new(AtomicBool::new(true)), folder };
        let (told, takes) = (Arc::clone(&receiver.told), Arc::clone(&receiver.takes));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                // A relay that is killed closes its connection.
                let Some(request) = Request::read(&mut BufReader::new(&stream)) else { continue };
                let status = if takes.load(Ordering::SeqCst) { 204 } else { 503 };
                if status == 204 {
                    told.lock().unwrap().push(request.json()["events"].as_array().unwrap().clone());
                }
                let _ = write!(stream, "HTTP/1.1 {status} Done\r\nContent-Length: 0\r\n\r\n");
            }
        });
        receiver
    }

    pub(super) fn configured(&self) -> String {
        format!(
            "[[api.webhook]]\ncontroller = \"shop\"\nurl = \"http://127.0.0.1:{}/\"\nsecret_file = {:?}\n",
            self.port,
            self.folder.0.join("secret")
        )
    }

    /// The numbers of the records in the order in which they came.
    fn records(&self) -> Vec<u64> {
        let told = self.told.lock().unwrap();
        told.iter().flatten().map(|event| event["record"].as_u64().unwrap()).collect()
    }

    pub(super) fn await_records(&self, what: &str, count: usize) -> Vec<u64> {
        until(what, || {
            let mut records = self.records();
            records.sort_unstable();
            records.dedup();
            records.len() >= count
        });
        self.records()
    }
}

/// The relay that says it told last, by its place in the cluster.
fn teller(cluster: &Cluster, asked: usize) -> Option<usize> {
    let status = done(&cluster.relays[asked].command(&["cluster", "status"]));
    let name = |status: &str| status.lines().next().unwrap().rsplit(' ').next().unwrap().to_owned();
    let line = status.lines().find(|line| line.contains("the webhook of shop"))?;
    if line.contains("told by this relay") {
        return Some(asked);
    }
    let others = (0..cluster.relays.len()).filter(|place| *place != asked);
    let mut names =
        others.map(|place| (place, name(&done(&cluster.relays[place].command(&["cluster", "status"])))));
    names.find(|(_, name)| line.contains(name.as_str())).map(|(place, _)| place)
}

/// Three people say something at one relay after another.
fn everybody_says(relays: &[&Relay], state: &str) {
    for (number, person) in ["ann", "bob", "eve"].iter().enumerate() {
        say(relays[number % relays.len()], &format!("{person}@home.example"), state);
    }
}

#[test]
fn each_change_is_told_once_and_in_order_though_the_relay_that_tells_is_killed_or_stands_still() {
    let receiver = Receiver::start();
    let mut cluster = Cluster::grown_with(3, &receiver.configured(), |_| {});
    let all: Vec<&Relay> = cluster.relays.iter().collect();
    everybody_says(&all, "granted");
    everybody_says(&all, "withdrawn");
    // Nobody told anybody twice.
    let records = receiver.await_records("the first changes are told", 6);
    assert_eq!(records.len(), 6, "{records:?}");
    assert!(records.is_sorted(), "{records:?}");
    until("all know who told", || {
        teller(&cluster, 0).is_some_and(|first| teller(&cluster, 1) == Some(first))
    });

    // Whoever tells is killed while changes wait.
    receiver.takes.store(false, Ordering::SeqCst);
    let first = teller(&cluster, 0).unwrap();
    everybody_says(&cluster.relays.iter().collect::<Vec<_>>(), "granted");
    let killed = cluster.relays.remove(first);
    killed.signal("KILL");
    drop(killed);
    everybody_says(&cluster.relays.iter().collect::<Vec<_>>(), "withdrawn");
    receiver.takes.store(true, Ordering::SeqCst);
    let records = receiver.await_records("another relay goes on", 12);
    assert!(records.is_sorted(), "{records:?}");
    assert_eq!(records.len(), 12, "{records:?}");

    // Whoever tells now stands still; the last one goes on.
    until("the two know who tells", || teller(&cluster, 0) == teller(&cluster, 1));
    let second = teller(&cluster, 0).unwrap();
    cluster.relays[second].signal("STOP");
    let last = &cluster.relays[1 - second];
    everybody_says(&[last], "granted");
    receiver.await_records("the last relay goes on", 15);
    assert!(tells(last));
    // The other one wakes up and leaves it to it.
    cluster.relays[second].signal("CONT");
    until("the other one is well", || cluster.is_well(second));
    everybody_says(&cluster.relays.iter().collect::<Vec<_>>(), "withdrawn");
    let records = receiver.await_records("all is told", 18);
    assert!(records.is_sorted(), "{records:?}");
    assert_eq!(records.len(), 18, "{records:?}");
}

/// Whether a relay says that it tells.
fn tells(relay: &Relay) -> bool {
    done(&relay.command(&["cluster", "status"])).contains("the webhook of shop, told by this relay")
}

#[test]
fn a_relay_that_joined_tells_what_the_others_could_not() {
    let receiver = Receiver::start();
    receiver.takes.store(false, Ordering::SeqCst);
    let mut cluster = Cluster::grown_with(1, &receiver.configured(), |alone| {
        say(alone, "ann@home.example", "granted");
    });
    say(&cluster.relays[0], "ann@home.example", "withdrawn");
    say(&cluster.relays[0], "bob@home.example", "granted");
    until("the first relay tries", || tells(&cluster.relays[0]));
    cluster.join();
    cluster.await_health();
    let first = cluster.relays.remove(0);
    first.signal("KILL");
    drop(first);
    say(&cluster.relays[0], "bob@home.example", "refused");
    receiver.takes.store(true, Ordering::SeqCst);
    let records = receiver.await_records("everything is told", 4);
    assert!(records.is_sorted(), "{records:?}");
    let told = receiver.told.lock().unwrap();
    let states: Vec<&str> = told.iter().flatten().map(|event| event["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["granted", "withdrawn", "granted", "refused"]);
}
