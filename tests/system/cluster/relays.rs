//! Relays as they are shipped, with the commands that docs/cluster.md walks through: from one relay to three.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::servers::{Running, addresses, peer, program as nats_server};
use super::until;
use crate::http::Connection;
use crate::mta::sink::Sink;
use crate::mta::{Postfix, submit};
use crate::support::{Client, Folder, Relay, configuration, crlf, free_port, newsletter, program};

pub(super) const PURPOSES: [&str; 4] = ["--controller", "shop", "--purposes", "campaign_performance"];

/// The NATS servers of a cluster, over the files that `pixelward cluster init` wrote.
struct Servers {
    folders: Vec<PathBuf>,
    running: Vec<Option<Running>>,
}

impl Servers {
    fn start(folder: &Path, hosts: &[String]) -> Servers {
        let folders: Vec<PathBuf> = hosts.iter().map(|host| folder.join(host)).collect();
        let mut servers = Servers { running: folders.iter().map(|_| None).collect(), folders };
        (0..hosts.len()).for_each(|number| servers.start_again(number));
        await_leader(&servers.folders);
        servers
    }

    fn start_again(&mut self, number: usize) {
        let folder = &self.folders[number];
        self.running[number] = Some(Running::within(folder));
    }

    fn kill(&mut self, number: usize) {
        self.running[number] = None;
    }
}

/// Waits until servers that were just started have chosen a leader.
pub(super) fn await_leader(folders: &[PathBuf]) {
    until("the servers choose a leader", || {
        folders.iter().any(|folder| {
            let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
            log.contains("JetStream cluster metadata leader")
        })
    });
}

/// The configuration of a relay of the shop, whose pages stand at this port.
pub(super) fn shop(folder: &Folder, next_hop: u16, public: u16, url: &str) {
    let rest = format!(
        "[public]\naddress = \"127.0.0.1:{public}\"\n[api]\naddress = \"127.0.0.1:0\"\n\
         [[controller]]\nname = \"shop\"\n\
         from_domain = \"shop.example\"\non_grant = \"gate\"\npublic_url = \"{url}\"\njurisdiction = \"fr\"\n\
         [[mailstream]]\nname = \"news\"\ncontroller = \"shop\"\nfooter = \"always\"\n\
         purposes = [\"campaign_performance\"]\n"
    );
    configuration(folder, next_hop, "", "", &rest);
}

pub(super) fn command(folder: &Folder, arguments: &[&str]) -> Output {
    let mut command = program();
    command.args(arguments).arg("--config").arg(folder.0.join("config.toml"));
    command.current_dir(&folder.0).output().unwrap()
}

pub(super) fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Adds the section that a command printed to the configuration, with more lines.
pub(super) fn add_section(folder: &Folder, printed: &str, more: &str) {
    let section = &printed[printed.find("[cluster]").expect("the command prints a section")..];
    let address = section.split("\naddress = ").nth(1).unwrap().lines().next().unwrap();
    let section = section.replace("\"0.0.0.0:2531\"", address);
    append(folder, &format!("\n{section}{more}"));
}

fn append(folder: &Folder, lines: &str) {
    let path = folder.0.join("config.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, config + lines).unwrap();
}

/// A cluster of relays over three servers.
pub(super) struct Cluster {
    servers: Servers,
    pub(super) relays: Vec<Relay>,
    public: Vec<u16>,
    sink: Sink,
    /// What each relay has in its configuration besides.
    more: String,
}

impl Cluster {
    /// From one relay, which has grants of these people already, to as many as wanted.
    pub(super) fn grown(count: usize, people: &[&str]) -> Cluster {
        Cluster::grown_from(count, |alone| people.iter().for_each(|person| say(alone, person, "granted")))
    }

    /// From one relay, which has heard something already, to as many as wanted.
    pub(super) fn grown_from(count: usize, heard: impl FnOnce(&Relay)) -> Cluster {
        Cluster::grown_with(count, "", heard)
    }

    /// The same, each with these lines in its configuration.
    pub(super) fn grown_with(count: usize, more: &str, heard: impl FnOnce(&Relay)) -> Cluster {
        let (sink, hosts) = (Sink::start(), addresses(3));
        let public = free_port();
        let folder = Folder::new();
        shop(&folder, sink.port, public, &format!("http://127.0.0.1:{public}"));
        append(&folder, more);
        let alone = Relay::in_folder(folder);
        heard(&alone);
        let folder = stop(alone);
        let address = peer();
        let mut init = vec!["cluster", "init", "--address", &address, "--server-data", "jetstream"];
        hosts.iter().for_each(|host| init.extend(["--server", host]));
        let printed = done(&command(&folder, &init));
        let servers = Servers::start(&folder.0.join("nats-servers"), &hosts);
        add_section(&folder, &printed, "");
        let relays = vec![Relay::in_folder(folder)];
        let mut cluster = Cluster { servers, relays, public: vec![public], sink, more: more.to_owned() };
        cluster.await_health();
        (1..count).for_each(|_| cluster.join());
        cluster.await_health();
        cluster
    }

    /// A new relay joins, by an invitation of the last one. All stand behind one name.
    pub(super) fn join(&mut self) {
        let invitation = done(&self.relays.last().unwrap().command(&["cluster", "invite"]));
        let (folder, public) = (Folder::new(), free_port());
        shop(&folder, self.sink.port, public, &self.public_url());
        append(&folder, &self.more);
        let address = peer();
        let printed = done(&command(&folder, &["cluster", "join", invitation.trim(), "--address", &address]));
        assert!(printed.contains("the chain is whole"), "{printed}");
        add_section(&folder, &printed, "");
        self.public.push(public);
        self.relays.push(Relay::in_folder(folder));
    }

    /// Whether a relay counts grants and takes new ones.
    pub(super) fn is_well(&self, relay: usize) -> bool {
        self.relays[relay].command(&["cluster", "status"]).status.success()
    }

    pub(super) fn await_health(&self) {
        until("every relay counts grants and takes new ones", || {
            (0..self.relays.len()).all(|relay| self.is_well(relay))
        });
    }

    /// What the next hop gets when a newsletter for this person goes through a relay.
    pub(super) fn sent(&self, relay: usize, person: &str) -> String {
        let before = self.sink.taken().len();
        let message = crlf(&newsletter(person).0);
        let reply = Client::greeted(self.relays[relay].port).message(
            "news@shop.example",
            &[person],
            message.as_str(),
        );
        assert!(reply.starts_with("250"), "{reply}");
        let taken = self.sink.wait(before + 1, |_| true);
        String::from_utf8_lossy(&taken[before].message).replace("=\r\n", "")
    }

    fn public_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.public[0])
    }
}

pub(super) fn say(relay: &Relay, person: &str, state: &str) {
    let said =
        relay.command(&[&["consent", "set", person, state, "--evidence", "form/1"][..], &PURPOSES].concat());
    done(&said);
}

/// What a relay says of a person.
fn state(relay: &Relay, person: &str) -> String {
    done(&relay.command(&["consent", "get", person, "--controller", "shop"]))
}

/// What a relay says of its journal, with the end of its chain.
pub(super) fn verified(relay: &Relay) -> String {
    done(&relay.command(&["consent", "verify"]))
}

/// Stops a relay as an operator does, and keeps its folder.
pub(super) fn stop(mut relay: Relay) -> Folder {
    relay.signal("TERM");
    assert!(relay.wait().success());
    std::mem::replace(&mut relay.folder, Folder(PathBuf::new()))
}

/// The address of the gate in a message, without the server.
pub(super) fn gate(message: &str, url: &str) -> String {
    let start = message.find(&format!("{url}/p/")).expect("the message has a gate") + url.len();
    message[start..].split(['"', '<', ' ']).next().unwrap().to_owned()
}

/// What the gate of a relay answers to a mail client: 302 to the vendor, or 200 with a blank picture.
fn opened(port: u16, gate: &str) -> u16 {
    page(port, gate, &[("Sec-Fetch-Dest", "image")])
}

fn page(port: u16, path: &str, headers: &[(&str, &str)]) -> u16 {
    let headers = [&[("Host", "localhost")][..], headers].concat();
    Connection::to(port).ask("GET", path, &headers, b"").status
}

#[test]
fn one_relay_becomes_three_that_know_the_same() {
    let [ann, bob, eve] = ["ann@home.example", "bob@home.example", "eve@home.example"];
    let cluster = Cluster::grown(3, &[ann, bob]);
    let url = cluster.public_url();

    // What the first relay knew before, all know; and what one is told, all are told.
    let mail = cluster.sent(2, ann);
    assert!(mail.contains(&format!("{url}/p/")), "{mail}");
    say(&cluster.relays[1], eve, "granted");
    until("the grant is at the third relay", || state(&cluster.relays[2], eve).contains("granted"));
    assert!(cluster.sent(2, eve).contains(&format!("{url}/p/")));

    // The gate in a mail of one relay opens at another, until its reader withdraws at a third.
    let gate = gate(&mail, &url);
    assert_eq!(opened(cluster.public[0], &gate), 302);
    assert_eq!(opened(cluster.public[1], &gate), 302);
    say(&cluster.relays[1], ann, "withdrawn");
    until("the gate is closed everywhere", || cluster.public.iter().all(|port| opened(*port, &gate) == 200));
    (0..3).for_each(|relay| assert!(!cluster.sent(relay, ann).contains("/p/"), "{relay}"));

    // A reader's page of one relay is there at another.
    let link = mail.split(&format!("{url}/c/")).nth(1).expect("the message has a link");
    let link = format!("/c/{}", link.split(['"', '<', ' ', '\r']).next().unwrap());
    assert!(cluster.public.iter().all(|port| page(*port, &link, &[]) == 200));

    // Who is erased at one is gone at all.
    done(&cluster.relays[0].command(&["consent", "erase", bob]));
    until("bob is unknown everywhere", || {
        cluster.relays.iter().all(|relay| !state(relay, bob).contains("granted"))
    });

    // The journals are the same, record by record.
    until("the journals are equal", || {
        let first = verified(&cluster.relays[0]);
        cluster.relays[1..].iter().all(|relay| verified(relay) == first)
    });
    let status = done(&cluster.relays[0].command(&["cluster", "status"]));
    assert_eq!(status.matches("Other relay:").count(), 2, "{status}");
}

#[test]
fn without_servers_mail_flows_stripped_and_a_no_is_taken() {
    let [ann, bob] = ["ann@home.example", "bob@home.example"];
    let mut cluster = Cluster::grown(2, &[ann, bob]);
    // So that the test does not wait a minute.
    let hasty = |relay: Relay| {
        let folder = stop(relay);
        let path = folder.0.join("config.toml");
        let config = std::fs::read_to_string(&path).unwrap();
        let config = config.replace("[cluster]\n", "[cluster]\nmax_staleness_s = 5\npatience_s = 1\n");
        std::fs::write(&path, config).unwrap();
        Relay::in_folder(folder)
    };
    cluster.relays = std::mem::take(&mut cluster.relays).into_iter().map(hasty).collect();
    cluster.await_health();
    assert!(cluster.sent(1, ann).contains("/p/"));

    (0..3).for_each(|number| cluster.servers.kill(number));
    until("nothing counts as granted", || {
        cluster.relays.iter().all(|relay| !relay.command(&["cluster", "status"]).status.success())
    });
    assert!(!cluster.sent(1, ann).contains("/p/"));
    // A yes must wait, a no need not.
    let yes = cluster.relays[0].command(
        &[&["consent", "set", "eve@home.example", "granted", "--evidence", "form/1"][..], &PURPOSES].concat(),
    );
    assert!(!yes.status.success());
    say(&cluster.relays[0], ann, "withdrawn");
    assert!(state(&cluster.relays[0], ann).contains("withdrawn"));

    (0..3).for_each(|number| cluster.servers.start_again(number));
    cluster.await_health();
    until("the other relay was told", || state(&cluster.relays[1], ann).contains("withdrawn"));
    assert!(!cluster.sent(1, ann).contains("/p/"));
    assert!(cluster.sent(0, bob).contains("/p/") && cluster.sent(1, bob).contains("/p/"));
}

#[test]
fn a_relay_parts_from_its_cluster_only_when_told_to() {
    let ann = "ann@home.example";
    let mut cluster = Cluster::grown(2, &[ann]);
    let folder = stop(cluster.relays.pop().unwrap());
    let path = folder.0.join("config.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    let alone = config.split("\n[cluster]").next().unwrap().to_owned();
    std::fs::write(&path, &alone).unwrap();
    // Nothing is written behind the others' back.
    let refused = command(&folder, &["run"]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("cluster leave"));
    let refused = command(&folder, &["consent", "set", ann, "refused", "--controller", "shop"]);
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("other relays share this store"),
        "{refused:?}"
    );

    let left = done(&command(&folder, &["cluster", "leave"]));
    assert!(left.contains("on its own again"), "{left}");
    let relay = Relay::in_folder(folder);
    say(&relay, ann, "refused");
    assert!(state(&relay, ann).contains("refused"));
    assert!(state(&cluster.relays[0], ann).contains("granted"));
}

#[test]
fn what_is_asked_at_two_relays_with_one_key_is_done_once() {
    let cluster = Cluster::grown(2, &[]);
    let ask = |relay: &Relay, token: &str, key: &str, state: &str| {
        let line = relay.log.wait("the API", |line| line.contains("the API is served"));
        let port = line.rsplit(':').next().unwrap().trim().parse().unwrap();
        let body = format!("{{\"address\":\"ann@home.example\",\"state\":\"{state}\"}}");
        let bearer = format!("Bearer {token}");
        let headers = [
            ("Host", "localhost"),
            ("Authorization", bearer.as_str()),
            ("Content-Type", "application/json"),
            ("Idempotency-Key", key),
        ];
        Connection::to(port).ask("PUT", "/v1/controllers/shop/consent", &headers, body.as_bytes()).status
    };
    // Tokens are files, which the operator copies like the configuration.
    let token = ["token", "new", "t", "--scope", "consent:write", "--controller", "shop", "--expires", "30d"];
    let token = done(&cluster.relays[0].command(&token));
    let of = |relay: &Relay| relay.folder.0.join("data/api.tokens");
    std::fs::copy(of(&cluster.relays[0]), of(&cluster.relays[1])).unwrap();
    let [one, two] = [&cluster.relays[0], &cluster.relays[1]];
    assert_eq!(ask(one, token.trim(), "order-0000017", "refused"), 200);
    assert_eq!(ask(two, token.trim(), "order-0000017", "refused"), 409);
    assert_eq!(ask(one, token.trim(), "order-0000017", "refused"), 200, "the answer again");
    assert_eq!(ask(two, token.trim(), "order-0000018", "refused"), 200);
    assert!(state(one, "ann@home.example").contains("refused"));
}

/// HAProxy that deals connections out to relays in turn, to send mail and to serve pages.
struct Balancer {
    child: std::process::Child,
    mail: u16,
    _folder: Folder,
}

impl Balancer {
    fn over(cluster: &Cluster) -> Balancer {
        let (folder, mail) = (Folder::new(), free_port());
        let mut settings = format!(
            "defaults\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n mode tcp\n\
             listen mail\n bind 127.0.0.1:{mail}\n balance roundrobin\n"
        );
        for (number, relay) in cluster.relays.iter().enumerate() {
            settings.push_str(&format!(" server relay{number} 127.0.0.1:{}\n", relay.port));
        }
        let path = folder.file("haproxy.cfg", &settings);
        let child = Command::new("haproxy").args(["-db", "-f"]).arg(path).spawn().unwrap();
        Balancer { child, mail, _folder: folder }
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn postfix_over_haproxy_and_two_relays_tracks_nobody_who_withdrew() {
    let people: Vec<String> = (0..12).map(|number| format!("reader{number}@home.example")).collect();
    let agreed: Vec<&str> = people.iter().step_by(2).map(String::as_str).collect();
    let cluster = Cluster::grown(2, &agreed);
    let balancer = Balancer::over(&cluster);
    let postfix = Postfix::start(&format!(
        "relayhost = [127.0.0.1]:{}\ndefault_destination_recipient_limit = 1\n\
         smtp_destination_recipient_limit = 1\nsmtp_connection_cache_on_demand = no",
        balancer.mail
    ));
    let round = || -> Vec<(String, String)> {
        let before = cluster.sink.taken().len();
        submit(postfix.port, "", &people, &newsletter("readers@shop.example").0);
        let taken = cluster.sink.wait(before + people.len(), |_| true).split_off(before);
        let text = |message: &[u8]| String::from_utf8_lossy(message).replace("=\r\n", "");
        taken.iter().map(|taken| (taken.to.concat(), text(&taken.message))).collect()
    };
    let url = cluster.public_url();
    let has_gate = |message: &str| message.contains(&format!("{url}/p/"));
    let mails = round();
    for (to, message) in &mails {
        assert_eq!(has_gate(message), agreed.iter().any(|person| to.contains(person)), "{to}");
    }
    // Each relay had its share.
    for relay in &cluster.relays {
        relay.log.wait("a message", |line| line.contains("message id="));
    }
    // Half of those who agreed withdraw, at one relay or the other.
    let gone = &agreed[..3];
    for (number, person) in gone.iter().enumerate() {
        say(&cluster.relays[number % 2], person, "withdrawn");
    }
    let is_gone = |to: &str| gone.iter().any(|person| to.contains(person));
    until("every relay knows", || {
        cluster
            .relays
            .iter()
            .all(|relay| gone.iter().all(|person| state(relay, person).contains("withdrawn")))
    });
    // What was delivered is silent at both, and what follows carries no gate.
    for (to, message) in mails.iter().filter(|(_, message)| has_gate(message)) {
        let expected = if is_gone(to) { 200 } else { 302 };
        for port in &cluster.public {
            assert_eq!(opened(*port, &gate(message, &url)), expected, "{to}");
        }
    }
    for (to, message) in round() {
        let expected = agreed.iter().any(|person| to.contains(person)) && !is_gone(&to);
        assert_eq!(has_gate(&message), expected, "{to}");
    }
}

#[test]
fn the_common_order_can_begin_anew_with_the_journal_of_one_relay() {
    let [ann, bob] = ["ann@home.example", "bob@home.example"];
    let mut cluster = Cluster::grown(2, &[ann, bob]);
    say(&cluster.relays[1], ann, "withdrawn");
    until("the first relay was told", || state(&cluster.relays[0], ann).contains("withdrawn"));
    drop(cluster.relays.pop().unwrap());
    cluster.public.pop();
    let folder = stop(cluster.relays.pop().unwrap());
    let printed = done(&command(&folder, &["cluster", "reseed"]));
    assert!(printed.contains("begins anew"), "{printed}");
    cluster.relays.push(Relay::in_folder(folder));
    cluster.await_health();
    // Another relay joins what began anew, and all is as it was.
    cluster.join();
    cluster.await_health();
    say(&cluster.relays[0], bob, "withdrawn");
    until("the new relay was told", || state(&cluster.relays[1], bob).contains("withdrawn"));
    assert!(state(&cluster.relays[1], ann).contains("withdrawn"));
    until("the journals are equal", || verified(&cluster.relays[0]) == verified(&cluster.relays[1]));
}

/// The server that the tests use is one that a cluster may be built on.
#[test]
fn the_servers_start_from_the_files_that_init_wrote() {
    let output = Command::new(nats_server()).arg("--version").output().unwrap();
    let version = String::from_utf8(output.stdout).unwrap();
    assert!(version.starts_with("nats-server: v2."), "{version}");
    let (folder, sink) = (Folder::new(), Sink::start());
    shop(&folder, sink.port, free_port(), "http://127.0.0.1:1");
    let two = [
        "cluster",
        "init",
        "--address",
        "r.example:2531",
        "--server",
        "n1.example",
        "--server",
        "n2.example",
    ];
    let refused = command(&folder, &two);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("three servers"), "{refused:?}");
    let three = [&two[..], &["--server", "n3.example"]].concat();
    let printed = done(&command(&folder, &three));
    assert!(
        printed.contains("tls://n3.example:4222") && printed.contains("nats-server -c nats.conf"),
        "{printed}"
    );
    for host in ["n1.example", "n2.example", "n3.example"] {
        let folder = folder.0.join("nats-servers").join(host);
        let checked =
            Command::new(nats_server()).args(["-t", "-c", "nats.conf"]).current_dir(&folder).output();
        let checked = checked.unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }
}
