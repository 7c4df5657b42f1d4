//! Three relays over three servers, each on a host of its own (a network namespace), while networks part, one way
//! or both, and processes are killed or stand still. A checker knows every change that was acknowledged: no gate is
//! open longer than `max_staleness` after a withdrawal, no grant is lost, and in the end all journals are equal.
//!
//! `PIXELWARD_FAULTS` says how often networks part, `PIXELWARD_STRIKES` how often each process is at least struck
//! (killed and made to stand still in turn), and `PIXELWARD_SEED` which come when. Needs root.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::relays::{PURPOSES, add_section, await_leader, command, done, gate, shop, verified};
use super::servers::program as nats_server;
use super::until;
use crate::mta::sink::Sink;
use crate::support::{Client, End, Folder, Relay, crlf, ended, newsletter, program};

/// What the relays are told, in seconds.
const STALENESS: u64 = 5;
/// How much later than `max_staleness` a gate may be seen open: the time that a look takes, and the machine is slow.
const SLACK: Duration = Duration::from_secs(3);
/// The name before all relays.
const URL: &str = "https://relays.example";
/// How long a yes that follows a no at another relay may be passed by it.
const CROSSES: Duration = Duration::from_secs(6);
const RELAYS: usize = 3;
const SERVERS: usize = 3;
const PEOPLE: usize = 6;

/// Hosts on one network, each a namespace: first the servers, then the relays. The test itself is the last one.
struct Network {
    name: String,
    prefix: String,
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Network {
    fn new() -> Network {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (id, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let prefix = format!("10.{}.{}", 100 + (id / 256 + 50 * count) % 100, id % 256);
        let network = Network { name: format!("pw{id}{}", if count == 0 { "a" } else { "b" }), prefix };
        let Network { name, prefix } = &network;
        ip(&format!("link add {name} type bridge"));
        ip(&format!("addr add {prefix}.254/24 dev {name}"));
        ip(&format!("link set {name} up"));
        for number in 0..SERVERS + RELAYS {
            let host = network.host(number);
            ip(&format!("netns add {host}"));
            ip(&format!("link add {host} type veth peer name eth0 netns {host}"));
            ip(&format!("link set {host} master {name} up"));
            ip(&format!("-n {host} addr add {}/24 dev eth0", network.address(number)));
            ip(&format!("-n {host} link set eth0 up"));
            ip(&format!("-n {host} link set lo up"));
        }
        network
    }

    fn host(&self, number: usize) -> String {
        format!("{}-{number}", self.name)
    }

    fn address(&self, number: usize) -> String {
        format!("{}.{}", self.prefix, number + 1)
    }

    /// A program on one of the hosts.
    fn on(&self, number: usize, program: &Command) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.host(number)])
            .arg(program.get_program())
            .args(program.get_args());
        command
    }

    /// What one host sends to another is lost from now on, or arrives again.
    fn lose(&self, from: usize, to: usize, is_lost: bool) {
        let what = if is_lost { "add" } else { "del" };
        ip(&format!("-n {} route {what} blackhole {}/32", self.host(from), self.address(to)));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for number in 0..SERVERS + RELAYS {
            let _ = Command::new("ip").args(["netns", "del", &self.host(number)]).output();
            let _ = Command::new("ip").args(["link", "del", &self.host(number)]).output();
        }
        let _ = Command::new("ip").args(["link", "del", &self.name]).output();
    }
}

/// Numbers that look random, and are the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).unwrap()
    }
}

/// What a person said, as far as it was acknowledged.
#[derive(Clone, Copy, Debug)]
enum Said {
    Granted,
    /// At this moment.
    Withdrawn(Instant),
    /// At this moment, and the answer said that only this relay knows of it so far: the others count grants as long as
    /// they hear each other.
    Held(Instant, usize),
    /// Something that was not acknowledged: a relay that stood still may take it as late as when it goes on, after
    /// whatever they said elsewhere meanwhile. So it stays unknown until everything has settled.
    Unknown,
}

/// What a relay answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// It is in the common order.
    Everywhere,
    /// It holds at that relay, and elsewhere once the others can be reached.
    Here,
    /// It is unknown what becomes of it.
    None,
}

struct Person {
    address: String,
    said: Mutex<Said>,
    gate: String,
}

/// The people, and where each relay shows pictures.
struct Readers {
    people: Vec<Person>,
    public: Vec<SocketAddr>,
}

impl Readers {
    /// Whether a relay's gate lets a picture be fetched; `None` if it does not answer.
    fn is_open(&self, relay: usize, gate: &str) -> Option<bool> {
        use std::io::{Read, Write};
        let patience = Duration::from_millis(500);
        let mut stream = TcpStream::connect_timeout(&self.public[relay], patience).ok()?;
        stream.set_read_timeout(Some(patience)).ok()?;
        let request = format!(
            "GET {gate} HTTP/1.1\r\nHost: relays.example\r\nSec-Fetch-Dest: image\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).ok()?;
        Some(answer.ends_with(b"302"))
    }

    /// Looks at all gates until told to stop.
    fn watch(&self, ends: &AtomicBool) {
        while !ends.load(Ordering::Relaxed) {
            for person in &self.people {
                for relay in 0..RELAYS {
                    let before = *person.said.lock().unwrap();
                    let at = match before {
                        Said::Withdrawn(at) => at,
                        Said::Held(at, knows) if knows == relay => at,
                        Said::Held(..) | Said::Granted | Said::Unknown => continue,
                    };
                    if at.elapsed() < Duration::from_secs(STALENESS) + SLACK {
                        continue;
                    }
                    let is_open = self.is_open(relay, &person.gate);
                    // Unless they agreed again meanwhile.
                    let still = matches!(
                        *person.said.lock().unwrap(), Said::Withdrawn(same) | Said::Held(same, _) if same == at
                    );
                    assert!(
                        !still || is_open != Some(true),
                        "the gate of relay {relay} is open {:?} after a withdrawal",
                        at.elapsed()
                    );
                }
            }
        }
    }
}

/// Everything that runs.
struct Setting {
    relays: Vec<Relay>,
    servers: Vec<Child>,
    folders: Vec<PathBuf>,
    readers: Arc<Readers>,
    network: Network,
    sink: Sink,
}

impl Setting {
    fn new() -> Setting {
        let (network, sink) = (Network::new(), Sink::at([0, 0, 0, 0], 0));
        let hosts: Vec<String> = (0..SERVERS).map(|number| network.address(number)).collect();
        let public: Vec<SocketAddr> = (0..RELAYS)
            .map(|number| format!("{}:8080", network.address(SERVERS + number)).parse().unwrap())
            .collect();
        let addresses: Vec<String> =
            (0..RELAYS).map(|number| format!("{}:2531", network.address(SERVERS + number))).collect();
        let first = configured(&network, sink.port, 0);
        let mut init = vec!["cluster", "init", "--address", &addresses[0], "--server-data", "jetstream"];
        hosts.iter().for_each(|host| init.extend(["--server", host]));
        let printed = done(&command(&first, &init));
        hasten(&first, &printed);
        let folders: Vec<PathBuf> =
            hosts.iter().map(|host| first.0.join("nats-servers").join(host)).collect();
        let servers = folders.iter().enumerate().map(|(number, folder)| server(&network, number, folder));
        let servers = servers.collect();
        await_leader(&folders);
        let mut setting = Setting {
            relays: vec![relay(&network, 0, first)],
            servers,
            folders,
            readers: Arc::new(Readers { people: Vec::new(), public: public.clone() }),
            network,
            sink,
        };
        setting.await_health();
        for (number, address) in addresses.iter().enumerate().skip(1) {
            let invitation = done(&setting.relays[0].command(&["cluster", "invite"]));
            let folder = configured(&setting.network, setting.sink.port, number);
            let join = ["cluster", "join", invitation.trim(), "--address", address];
            let printed = done(&command(&folder, &join));
            hasten(&folder, &printed);
            setting.relays.push(relay(&setting.network, number, folder));
        }
        setting.await_health();
        let people = (0..PEOPLE).map(|number| setting.person(number)).collect();
        setting.readers = Arc::new(Readers { people, public });
        setting
    }

    /// Somebody who agreed, and got a mail with a gate.
    fn person(&self, number: usize) -> Person {
        let address = format!("reader{number}@home.example");
        let relay = number % RELAYS;
        assert_eq!(self.say(relay, &address, "granted"), Answer::Everywhere);
        let mut client = Client::at(format!("{}:2525", self.network.address(SERVERS + relay))).introduced();
        let before = self.sink.taken().len();
        let reply = client.message("news@shop.example", &[&address], &crlf(&newsletter(&address).0));
        assert!(reply.starts_with("250"), "{reply}");
        let taken = self.sink.wait(before + 1, |_| true);
        let message = String::from_utf8_lossy(&taken[before].message).replace("=\r\n", "");
        let gate = gate(&message, URL);
        Person { address, said: Mutex::new(Said::Granted), gate }
    }

    fn await_health(&self) {
        until("every relay counts grants, takes new ones, and has told the others everything", || {
            self.relays.iter().all(|relay| {
                let output = relay.command(&["cluster", "status"]);
                let has_told = String::from_utf8_lossy(&output.stdout).contains("To be told:     nothing");
                output.status.success() && has_told
            })
        });
    }

    /// Says something for a person at a relay.
    fn say(&self, relay: usize, person: &str, state: &str) -> Answer {
        let said = ["consent", "set", person, state, "--evidence", "form/1"];
        // A relay that stands still answers nobody.
        let mut child = program()
            .args(said)
            .args(PURPOSES)
            .arg("--config")
            .arg(self.relays[relay].folder.0.join("config.toml"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let end = Instant::now() + Duration::from_secs(4);
        loop {
            match child.try_wait().unwrap() {
                Some(status) if status.success() => {
                    let said = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
                    return if said.contains("and elsewhere once") {
                        Answer::Here
                    } else {
                        Answer::Everywhere
                    };
                }
                Some(_) => return Answer::None,
                None if Instant::now() >= end => {
                    child.kill().unwrap();
                    child.wait().unwrap();
                    return Answer::None;
                }
                None => std::thread::park_timeout(Duration::from_millis(5)),
            }
        }
    }

    /// Has people change their minds at all relays for a while.
    fn talk(&self, random: &mut Random, lasts: Duration) {
        let end = Instant::now() + lasts;
        while Instant::now() < end {
            let (person, relay) = (&self.readers.people[random.below(PEOPLE)], random.below(RELAYS));
            let wants_grant = random.below(2) == 0;
            let before = std::mem::replace(&mut *person.said.lock().unwrap(), Said::Unknown);
            let said = if wants_grant { "granted" } else { "withdrawn" };
            let answer = self.say(relay, &person.address, said);
            // A no that could not be told yet counts as said now for a few seconds, so that no clock loses it.
            let may_be_passed = matches!(
                before,
                Said::Withdrawn(at) | Said::Held(at, _) if wants_grant && at.elapsed() < CROSSES
            );
            if !may_be_passed && !matches!(before, Said::Unknown) {
                *person.said.lock().unwrap() = match answer {
                    Answer::Everywhere if wants_grant => Said::Granted,
                    Answer::Everywhere => Said::Withdrawn(Instant::now()),
                    Answer::Here => Said::Held(Instant::now(), relay),
                    Answer::None => Said::Unknown,
                };
            }
        }
    }

    /// Everything that was acknowledged holds everywhere, and the journals are the same.
    fn agree(&self) {
        self.await_health();
        until("the journals are equal", || {
            let first = verified(&self.relays[0]);
            self.relays[1..].iter().all(|relay| verified(relay) == first)
        });
        for person in &self.readers.people {
            let said = *person.said.lock().unwrap();
            let open = || (0..RELAYS).map(|relay| self.readers.is_open(relay, &person.gate));
            // A relay that was cut off may go stale once more until its connection is there again.
            match said {
                Said::Granted => {
                    until("the gates of who agreed are open", || open().all(|is_open| is_open == Some(true)))
                }
                Said::Withdrawn(_) | Said::Held(..) => until("the gates of who withdrew are closed", || {
                    open().all(|is_open| is_open == Some(false))
                }),
                Said::Unknown => until("they agree again", || {
                    self.say(0, &person.address, "granted") == Answer::Everywhere
                }),
            }
            let long_ago = Instant::now() - Duration::from_secs(60);
            *person.said.lock().unwrap() = match said {
                Said::Granted | Said::Unknown => Said::Granted,
                Said::Withdrawn(_) | Said::Held(..) => Said::Withdrawn(long_ago),
            };
        }
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// The configuration of a relay on its host.
fn configured(network: &Network, sink: u16, number: usize) -> Folder {
    let (folder, address) = (Folder::new(), network.address(SERVERS + number));
    shop(&folder, sink, 8080, URL);
    let listener = format!(
        "[[listener]]\naddress = \"{address}:2525\"\nallowed_networks = [\"{}.0/24\"]",
        network.prefix
    );
    let path = folder.0.join("config.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    let config = config
        .replace("host = \"localhost\"", &format!("host = \"{}.254\"", network.prefix))
        .replace("127.0.0.1:8080", &format!("{address}:8080"))
        .replace("[[listener]]\naddress = \"127.0.0.1:0\"", &listener);
    std::fs::write(&path, config).unwrap();
    folder
}

/// Adds the section that a command printed, with less patience than usual.
fn hasten(folder: &Folder, printed: &str) {
    add_section(folder, printed, &format!("max_staleness_s = {STALENESS}\npatience_s = 1\n"));
}

fn server(network: &Network, number: usize, folder: &PathBuf) -> Child {
    let mut program = Command::new(nats_server());
    program.args(["-c", "nats.conf"]);
    let log = std::fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
    network.on(number, &program).current_dir(folder).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

fn relay(network: &Network, number: usize, folder: Folder) -> Relay {
    Relay::started(network.on(SERVERS + number, &program()), folder)
}

fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap();
    assert!(sent.success());
}

/// Has networks part while people talk, one way, both ways, or each pair of hosts by itself, and joins them again.
fn part(setting: &mut Setting, random: &mut Random) -> String {
    let lasts = Duration::from_millis(1000 + 1000 * random.below(8) as u64);
    let kind = random.below(4);
    let hosts = SERVERS + RELAYS;
    let side: Vec<bool> = (0..hosts).map(|_| random.below(2) == 0).collect();
    let pairs = (0..hosts).flat_map(|from| (0..hosts).map(move |to| (from, to)));
    let lost: Vec<(usize, usize)> = match kind {
        0 => pairs.filter(|(from, to)| side[*from] && !side[*to]).collect(),
        1 | 2 => pairs.filter(|(from, to)| side[*from] != side[*to]).collect(),
        _ => pairs.filter(|(from, to)| from != to && random.below(3) == 0).collect(),
    };
    lost.iter().for_each(|(from, to)| setting.network.lose(*from, *to, true));
    setting.talk(random, lasts);
    lost.iter().for_each(|(from, to)| setting.network.lose(*from, *to, false));
    format!("{lost:?} lost for {lasts:?}")
}

/// How often each process was struck: servers first, then relays.
#[derive(Default, Debug)]
struct Struck {
    killed: [u32; SERVERS + RELAYS],
    stood_still: [u32; SERVERS + RELAYS],
}

impl Struck {
    /// Returns how often the process was struck that was struck least.
    fn least(&self) -> u32 {
        self.killed.iter().zip(&self.stood_still).map(|(killed, still)| killed + still).min().unwrap()
    }

    /// Says whether a process is to be killed now, rather than to stand still.
    fn kills(&mut self, process: usize) -> bool {
        let kills = self.killed[process] <= self.stood_still[process];
        let count = if kills { &mut self.killed } else { &mut self.stood_still };
        count[process] += 1;
        kills
    }
}

impl Setting {
    fn pid(&self, process: usize) -> u32 {
        match process.checked_sub(SERVERS) {
            None => self.servers[process].id(),
            Some(relay) => self.relays[relay].pid(),
        }
    }

    fn kill(&mut self, process: usize) {
        signal(self.pid(process), "KILL");
        match process.checked_sub(SERVERS) {
            None => drop(ended(&mut self.servers[process])),
            Some(relay) => drop(self.relays[relay].wait()),
        }
    }

    fn start_again(&mut self, process: usize) {
        let Some(number) = process.checked_sub(SERVERS) else {
            self.servers[process] = server(&self.network, process, &self.folders[process]);
            return;
        };
        let mut gone = self.relays.remove(number);
        let folder = std::mem::replace(&mut gone.folder, Folder(PathBuf::new()));
        self.relays.insert(number, relay(&self.network, number, folder));
    }
}

/// Kills processes and has others stand still while people talk, one or several at once, and has all go on.
fn strike(setting: &mut Setting, random: &mut Random, struck: &mut Struck) -> String {
    let mut all: Vec<usize> = (0..SERVERS + RELAYS).collect();
    for last in 1..all.len() {
        all.swap(last, random.below(last + 1));
    }
    all.truncate(1 + random.below(SERVERS + RELAYS));
    let (killed, still): (Vec<usize>, Vec<usize>) = all.iter().partition(|process| struck.kills(**process));
    let lasts = Duration::from_millis(500 + 500 * random.below(8) as u64);
    let before = Duration::from_millis(100 * random.below(10) as u64);
    setting.talk(random, before);
    still.iter().for_each(|process| signal(setting.pid(*process), "STOP"));
    killed.iter().for_each(|process| setting.kill(*process));
    setting.talk(random, lasts);
    still.iter().for_each(|process| signal(setting.pid(*process), "CONT"));
    let mut servers_first = killed.clone();
    servers_first.sort_unstable();
    servers_first.iter().for_each(|process| setting.start_again(*process));
    format!("{killed:?} killed and {still:?} stood still, for {lasts:?}")
}

/// Has something happen while gates are watched; afterwards all relays must agree.
fn through(setting: &mut Setting, turn: u32, happens: impl FnOnce(&mut Setting) -> String) {
    let (ends, started) = (AtomicBool::new(false), Instant::now());
    let what = std::thread::scope(|scope| {
        // Relays are replaced meanwhile; their gates stay where they are.
        let (readers, ends, end) = (Arc::clone(&setting.readers), &ends, End(&ends));
        let watching = scope.spawn(move || readers.watch(ends));
        let what = happens(setting);
        drop(end);
        watching.join().unwrap();
        what
    });
    print!("fault {turn}: {what}");
    setting.agree();
    println!("; all agree after {:.1} s", started.elapsed().as_secs_f64());
}

fn number(name: &str, default: u32) -> u32 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn networks_that_part_lose_nothing_that_was_acknowledged() {
    let mut random = Random(u64::from(number("PIXELWARD_SEED", 7)) | 1);
    let mut setting = Setting::new();
    for turn in 1..=number("PIXELWARD_FAULTS", 2) {
        through(&mut setting, turn, |setting| part(setting, &mut random));
    }
}

#[test]
fn processes_that_die_or_stand_still_lose_nothing_that_was_acknowledged() {
    let mut random = Random(u64::from(number("PIXELWARD_SEED", 7)) | 1);
    let (mut setting, mut struck) = (Setting::new(), Struck::default());
    for turn in 1.. {
        through(&mut setting, turn, |setting| strike(setting, &mut random, &mut struck));
        let enough = number("PIXELWARD_STRIKES", 0);
        // By default a few are enough to see that it works.
        if struck.least() >= enough && (enough > 0 || turn == 2) {
            break;
        }
    }
    println!("{struck:?}");
}
