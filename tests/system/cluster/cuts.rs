//! Power fails at one, two or all of three machines, each with a server and a relay on a disk of its own: what was
//! acknowledged is there at the end, at every relay.
//!
//! `PIXELWARD_MACHINE_CUTS` says how often, and `PIXELWARD_SEED` when. Needs root and loop devices.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pixelward_store::consent::socket::{Client, Request, Response};

use super::relays::{add_section, await_leader, command, done, shop, verified};
use super::servers::{Running, addresses, peer};
use crate::mta::sink::Sink;
use crate::store_faults::{Disk, can_mount, run};
use crate::support::{End, Folder, Relay, free_port};

const MACHINES: usize = 3;
/// How many people each relay hears.
const PEOPLE: usize = 60;
/// How long machines have until everything is as it should be.
const SETTLES: Duration = Duration::from_secs(120);

/// What people said last, as far as it was acknowledged; `None` for what was not.
type Facts = Mutex<BTreeMap<String, Option<&'static str>>>;

/// A machine with its disk.
struct Machine {
    // In this order: nothing runs on a disk that goes.
    relay: Option<Relay>,
    server: Option<Running>,
    disk: Disk,
}

impl Machine {
    fn server_folder(&self) -> PathBuf {
        self.disk.path("disk").join("server")
    }

    fn relay_folder(&self) -> PathBuf {
        self.disk.path("disk").join("relay")
    }

    fn client(&self) -> Option<Client> {
        Client::connect(&self.relay_folder().join("data"))
    }

    fn relay(&self) -> &Relay {
        self.relay.as_ref().expect("the relay runs")
    }

    fn stand_still(&self) {
        self.server.as_ref().expect("the server runs").signal("STOP");
        self.relay().signal("STOP");
    }

    /// The machine is off, and its disk has what had been written to it when the copy was made.
    fn lose_power(&mut self) {
        let mut relay = self.relay.take().expect("the relay runs");
        relay.signal("KILL");
        relay.wait();
        relay.folder = Folder(PathBuf::new());
        drop(relay);
        self.server = None;
        self.disk.unmount();
        std::fs::rename(self.disk.path("cut.img"), self.disk.path("disk.img")).unwrap();
    }

    fn start(&mut self) {
        self.disk.mount("disk.img", "disk");
        self.server = Some(Running::within(&self.server_folder()));
        self.relay = Some(Relay::in_folder(Folder(self.relay_folder())));
    }
}

/// How every relay stands, to be read where one is not well.
fn standings(machines: &[Machine]) -> String {
    let standing = |machine: &Machine| {
        let output = machine.relay().command(&["cluster", "status"]);
        let log = std::fs::read_to_string(machine.server_folder().join("log")).unwrap_or_default();
        let newest: Vec<&str> = log.lines().rev().take(5).collect();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), newest.join("\n"))
    };
    machines.iter().map(standing).collect::<Vec<String>>().join("\n\n")
}

fn await_health(machines: &[Machine]) {
    let end = Instant::now() + SETTLES;
    while !machines.iter().all(is_well) {
        assert!(Instant::now() < end, "not every relay is well:\n{}", standings(machines));
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn until_settled(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + SETTLES;
    while !holds() {
        assert!(Instant::now() < end, "{what}: not within {SETTLES:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn copied(from: &Path, to: &Path) {
    run("cp", &["-a", from.to_str().unwrap(), to.to_str().unwrap()]);
}

/// Three machines over as many disks.
fn machines(sink: &Sink) -> Vec<Machine> {
    let hosts = addresses(MACHINES);
    let relays: Vec<String> = (0..MACHINES).map(|_| peer()).collect();
    let machine = |_| Machine { relay: None, server: None, disk: Disk::of(400) };
    let mut machines: Vec<Machine> = (0..MACHINES).map(machine).collect();
    let configured = |machine: &Machine| {
        std::fs::create_dir(machine.relay_folder()).unwrap();
        let folder = Folder(machine.relay_folder());
        shop(&folder, sink.port, free_port(), "https://relays.example");
        folder
    };
    let first = configured(&machines[0]);
    let mut init = vec!["cluster", "init", "--address", &relays[0], "--server-data", "jetstream"];
    hosts.iter().for_each(|host| init.extend(["--server", host]));
    let printed = done(&command(&first, &init));
    for (machine, host) in machines.iter_mut().zip(&hosts) {
        copied(&first.0.join("nats-servers").join(host), &machine.server_folder());
        machine.server = Some(Running::within(&machine.server_folder()));
    }
    await_leader(&machines.iter().map(Machine::server_folder).collect::<Vec<_>>());
    add_section(&first, &printed, "patience_s = 2\n");
    machines[0].relay = Some(Relay::in_folder(first));
    for number in 1..MACHINES {
        until_settled("the first relay is well", || is_well(&machines[0]));
        let invitation = done(&machines[0].relay().command(&["cluster", "invite"]));
        let folder = configured(&machines[number]);
        let join = ["cluster", "join", invitation.trim(), "--address", &relays[number]];
        let printed = done(&command(&folder, &join));
        add_section(&folder, &printed, "patience_s = 2\n");
        machines[number].relay = Some(Relay::in_folder(folder));
    }
    // What an operator put there long ago is on disk.
    machines.iter().for_each(|machine| run("sync", &["-f", machine.disk.path("disk").to_str().unwrap()]));
    machines
}

fn is_well(machine: &Machine) -> bool {
    let output = machine.relay().command(&["cluster", "status"]);
    let said = String::from_utf8_lossy(&output.stdout);
    output.status.success() && said.contains("To be told:     nothing")
}

/// People say things at one relay until told to stop, or until it answers no more.
fn talk(mut client: Client, number: usize, turn: usize, facts: &Facts, ends: &AtomicBool) {
    for round in 0usize.. {
        for reader in 0..PEOPLE {
            let person = format!("reader{number}x{reader}@home.example");
            let is_yes = (round + turn + reader).is_multiple_of(2);
            let state = if is_yes { "granted" } else { "withdrawn" };
            let row = serde_json::json!({
                "address": person, "state": state, "purposes": "campaign_performance", "evidence": "form/1",
            });
            let row = Box::new(serde_json::from_value(row).unwrap());
            if ends.load(Ordering::Relaxed) {
                return;
            }
            facts.lock().unwrap().insert(person.clone(), None);
            match client.ask(&Request::Say { controller: "shop".to_owned(), row }) {
                Ok(said) if ["Recorded", "Moved"].iter().any(|word| format!("{said:?}").contains(word)) => {
                    facts.lock().unwrap().insert(person, Some(state));
                }
                // What is unknown or comes later would stand between this and what is said next.
                Ok(_) => return,
                Err(_) => return,
            }
        }
    }
}

/// Whether everything that was acknowledged holds at a relay; says what does not.
fn lacking(machine: &Machine, facts: &Facts) -> Option<String> {
    let mut client = machine.client()?;
    let facts = facts.lock().unwrap();
    let mut known = facts.iter().filter_map(|(person, state)| Some((person, (*state)?)));
    known.find_map(|(person, state)| {
        let request = Request::Get { controller: "shop".to_owned(), address: person.clone() };
        let now = match client.ask(&request) {
            Ok(Response::Person(shown)) => shown.standing.purposes.first().map(|now| now.state.clone()),
            other => Some(format!("{other:?}")),
        };
        (now.as_deref() != Some(state)).then(|| format!("{person}: {now:?} instead of {state}"))
    })
}

#[test]
fn a_power_cut_of_machines_loses_nothing_that_was_acknowledged() {
    if !can_mount() {
        return;
    }
    let number = |name, default| std::env::var(name).map_or(default, |text: String| text.parse().unwrap());
    let (count, mut random) = (number("PIXELWARD_MACHINE_CUTS", 2), number("PIXELWARD_SEED", 7) | 1);
    let mut below = |end: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % end
    };
    let sink = Sink::start();
    let mut machines = machines(&sink);
    let facts = Facts::default();
    for turn in 1..=count {
        await_health(&machines);
        // One, two, or all of them.
        let many = usize::try_from(below(3)).unwrap() + 1;
        let first = usize::try_from(below(3)).unwrap();
        let cut: Vec<usize> = (0..many).map(|step| (first + step) % MACHINES).collect();
        let lasts = Duration::from_millis(500 + below(2500));
        let ends = AtomicBool::new(false);
        let before = facts.lock().unwrap().len();
        std::thread::scope(|scope| {
            let end = End(&ends);
            for (number, machine) in machines.iter().enumerate() {
                let (client, facts, ends) = (machine.client().unwrap(), &facts, &ends);
                let turn = usize::try_from(turn).unwrap();
                scope.spawn(move || talk(client, number, turn, facts, ends));
            }
            std::thread::sleep(lasts);
            cut.iter().for_each(|number| machines[*number].stand_still());
            for number in &cut {
                let (image, copy) =
                    (machines[*number].disk.path("disk.img"), machines[*number].disk.path("cut.img"));
                run("cp", &["--sparse=always", image.to_str().unwrap(), copy.to_str().unwrap()]);
            }
            drop(end);
            // Whoever waits for an answer hears that there is none.
            cut.iter().for_each(|number| machines[*number].relay().signal("KILL"));
        });
        cut.iter().for_each(|number| machines[*number].lose_power());
        cut.iter().for_each(|number| machines[*number].start());
        await_health(&machines);
        until_settled("the journals are equal", || {
            let first = verified(machines[0].relay());
            machines[1..].iter().all(|machine| verified(machine.relay()) == first)
        });
        let acknowledged = facts.lock().unwrap().values().flatten().count();
        for (number, machine) in machines.iter().enumerate() {
            let lost = lacking(machine, &facts);
            assert_eq!(lost, None, "cut {turn} of {cut:?}: relay {number}");
        }
        println!(
            "cut {turn} of {cut:?} after {lasts:?}: {acknowledged} people's last words acknowledged, 0 lost"
        );
        assert!(before == 0 || acknowledged > 0);
    }
}
