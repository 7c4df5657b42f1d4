//! Next hops that are found by MX: their order, and what is not one. A DNS server of the tests answers.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use crate::mta::port;
use crate::mta::sink::Sink;
use crate::support::{Answer, Client, Folder, Relay, Step, configuration, stuffed};

const LETTER: &str = "From: a@shop.example\nSubject: a\n\nb\n";

/// What there is in DNS.
#[derive(Clone, Default)]
struct Zone {
    exchangers: HashMap<&'static str, Vec<(u16, &'static str)>>,
    addresses: HashMap<&'static str, Vec<IpAddr>>,
}

impl Zone {
    fn mx(mut self, domain: &'static str, preference: u16, name: &'static str) -> Zone {
        self.exchangers.entry(domain).or_default().push((preference, name));
        self
    }

    fn a(mut self, name: &'static str, address: [u8; 4]) -> Zone {
        self.addresses.entry(name).or_default().push(Ipv4Addr::from(address).into());
        self
    }

    /// The answer to a query.
    fn answer(&self, query: &[u8]) -> Vec<u8> {
        let (mut at, mut labels) = (12, Vec::new());
        while query[at] > 0 {
            let length = usize::from(query[at]);
            labels.push(String::from_utf8_lossy(&query[at + 1..=at + length]).to_ascii_lowercase());
            at += length + 1;
        }
        let (name, kind) = (labels.join("."), u16::from_be_bytes([query[at + 1], query[at + 2]]));
        let records: Vec<Vec<u8>> = match kind {
            15 => {
                let all = self.exchangers.get(name.as_str()).into_iter().flatten();
                all.map(|(preference, name)| [&preference.to_be_bytes()[..], &wire(name)].concat()).collect()
            }
            1 => {
                let all = self.addresses.get(name.as_str()).into_iter().flatten();
                all.filter_map(|ip| match ip {
                    IpAddr::V4(ip) => Some(ip.octets().to_vec()),
                    IpAddr::V6(_) => None,
                })
                .collect()
            }
            _ => Vec::new(),
        };
        let is_known =
            self.exchangers.contains_key(name.as_str()) || self.addresses.contains_key(name.as_str());
        let code = if is_known { 0x80 } else { 0x83 };
        let count = u16::try_from(records.len()).unwrap().to_be_bytes();
        let mut answer = [&query[..2], &[0x85, code, 0, 1], &count, &[0, 0, 0, 0]].concat();
        answer.extend_from_slice(&query[12..at + 5]);
        for record in records {
            // The name of the question, class IN, for a minute.
            answer.extend_from_slice(&[0xc0, 12]);
            answer.extend_from_slice(&kind.to_be_bytes());
            answer.extend_from_slice(&[0, 1, 0, 0, 0, 60]);
            answer.extend_from_slice(&u16::try_from(record.len()).unwrap().to_be_bytes());
            answer.extend_from_slice(&record);
        }
        answer
    }
}

/// A name as DNS writes it.
fn wire(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let mut bytes: Vec<u8> =
        labels.flat_map(|label| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat()).collect();
    bytes.push(0);
    bytes
}

/// A DNS server; gives its port.
fn dns(zone: Zone) -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok((length, client)) = socket.recv_from(&mut bytes) {
            let _ = socket.send_to(&zone.answer(&bytes[..length]), client);
        }
    });
    port
}

/// A relay that sends to the exchangers of home.example at this port, one message over each connection.
fn relay(zone: Zone, port: u16) -> Relay {
    let folder = Folder::new();
    let rest =
        format!("[relay]\nhost_name = \"relay.shop.example\"\ndns_server = \"127.0.0.1:{}\"\n", dns(zone));
    let lines = "lookup = \"mx\"\nmax_messages = 1\nconnect_timeout_s = 5";
    let config = configuration(&folder, port, "", lines, &rest);
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("\"localhost\"", "\"home.example\"")).unwrap();
    Relay::in_folder(folder)
}

fn send(relay: &Relay) -> String {
    let mut client = Client::greeted(relay.port);
    let reply = client.ask("MAIL FROM:<news@shop.example>");
    if !reply.starts_with("250") {
        return reply;
    }
    assert_eq!(client.say("RCPT TO:<ann@home.example>"), 250);
    assert_eq!(client.say("DATA"), 354);
    client.send(stuffed(LETTER).as_bytes());
    client.reply()
}

fn is_sent(relay: &Relay) {
    let reply = send(relay);
    assert!(reply.starts_with("250"), "{reply}");
}

fn accepted(sink: &Sink) -> usize {
    sink.taken().iter().filter(|one| one.accepted).count()
}

#[test]
fn the_preferred_exchanger_takes_the_mail_and_the_others_while_it_is_away() {
    let port = port();
    let (first, second) = (Sink::at([127, 0, 0, 2], port), Sink::at([127, 0, 0, 3], port));
    let zone = Zone::default()
        .mx("home.example", 20, "mx2.home.example")
        .mx("home.example", 5, "away.home.example")
        .mx("home.example", 10, "mx1.home.example")
        .a("mx1.home.example", [127, 0, 0, 2])
        .a("mx2.home.example", [127, 0, 0, 3])
        // Nobody listens there.
        .a("away.home.example", [127, 0, 0, 4]);
    let relay = relay(zone, port);
    (0..3).for_each(|_| is_sent(&relay));
    assert_eq!((accepted(&first), accepted(&second)), (3, 0));
    let said = String::from_utf8(relay.command(&["check"]).stdout).unwrap();
    assert!(said.contains(&format!("answers at mx1.home.example [127.0.0.2:{port}]")), "{said}");
    assert!(said.contains(&format!("cannot be used at away.home.example [127.0.0.4:{port}]")), "{said}");
    first.rule(Step::Greeting, "", Answer::Say("421 4.3.2 Closing"), 100);
    (0..2).for_each(|_| is_sent(&relay));
    assert_eq!((accepted(&first), accepted(&second)), (3, 2));
}

#[test]
fn equal_exchangers_share_the_mail() {
    let port = port();
    let sinks = [Sink::at([127, 0, 0, 2], port), Sink::at([127, 0, 0, 3], port)];
    let zone = Zone::default()
        .mx("home.example", 10, "mx1.home.example")
        .mx("home.example", 10, "mx2.home.example")
        .a("mx1.home.example", [127, 0, 0, 2])
        .a("mx2.home.example", [127, 0, 0, 3]);
    let relay = relay(zone, port);
    // That all of them take the same way happens once in 2^49 times.
    (0..50).for_each(|_| is_sent(&relay));
    let counts = sinks.map(|sink| accepted(&sink));
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    assert_eq!(counts.iter().sum::<usize>(), 50);
}

#[test]
fn a_domain_without_mx_records_is_its_own_exchanger() {
    let port = port();
    let sink = Sink::at([127, 0, 0, 2], port);
    let relay = relay(Zone::default().a("home.example", [127, 0, 0, 2]), port);
    is_sent(&relay);
    assert_eq!(accepted(&sink), 1);
}

#[test]
fn a_domain_that_accepts_no_mail_and_one_that_is_not_there_put_it_off_and_say_why() {
    let null = Zone::default().mx("home.example", 0, "").a("home.example", [127, 0, 0, 1]);
    for (zone, reason) in [(null, "null MX, RFC 7505"), (Zone::default(), "looking up the exchangers")] {
        let sink = Sink::start();
        let relay = relay(zone, sink.port);
        let reply = send(&relay);
        assert!(reply.starts_with("451 4.4.2"), "{reply}");
        relay.log.wait(reason, |line| line.contains("ERROR") && line.contains(reason));
        assert_eq!(sink.connections(), 0);
    }
}

#[test]
fn behind_the_relay_itself_no_exchanger_is_tried() {
    let port = port();
    let (before, behind) = (Sink::at([127, 0, 0, 2], port), Sink::at([127, 0, 0, 3], port));
    let zone = Zone::default()
        .mx("home.example", 10, "mx1.home.example")
        .mx("home.example", 20, "Relay.shop.example")
        .mx("home.example", 20, "mx2.home.example")
        .a("mx1.home.example", [127, 0, 0, 2])
        .a("relay.shop.example", [127, 0, 0, 1])
        .a("mx2.home.example", [127, 0, 0, 3]);
    let relay = relay(zone, port);
    is_sent(&relay);
    before.rule(Step::Greeting, "", Answer::Say("421 4.3.2 Closing"), 100);
    assert!(send(&relay).starts_with("451"));
    assert_eq!((accepted(&before), accepted(&behind), behind.connections()), (1, 0, 0));
}
