//! The same mail to the same next hops, by Postfix alone and by Postfix through the relay: everybody fares
//! alike.

use crate::support;
use std::collections::BTreeMap;

use crate::mta::sink::Sink;
use crate::mta::{Fate, Mta, Postfix};
use crate::support::{Answer, Behaviour, Client, Folder, NextHop, Relay, Step, free_port};

const LETTER: &str =
    "From: Shop <news@shop.example>\nSubject: News\nMessage-ID: <1@shop.example>\n\nRead on.\n";

/// A relay with these next hops on one route, asked what they accept at the start.
fn relay(ports: &[u16]) -> Relay {
    let folder = Folder::new();
    let data = folder.0.join("data");
    let mut text = format!("data_directory = {data:?}\ncertificate_directory = {data:?}\n");
    text.push_str("[[listener]]\naddress = \"127.0.0.1:0\"\ntls = \"none\"\n[private]\naddress = \"\"\n");
    text.push_str("[api]\naddress = \"\"\n[log]\nformat = \"human\"\n");
    for (number, port) in ports.iter().enumerate() {
        text.push_str(&format!(
            "[[next_hop]]\nname = \"hop{number}\"\nhost = \"127.0.0.1\"\nport = {port}\n"
        ));
        text.push_str("tls = \"none\"\n");
    }
    folder.file("config.toml", &text);
    Relay::in_folder(folder)
}

/// A Postfix that sends to these next hops in turn, by itself or through a relay.
fn postfix(ports: &[u16], relay: Option<&Relay>) -> Postfix {
    let hops = match relay {
        Some(relay) => vec![format!("[127.0.0.1]:{}", relay.port)],
        None => ports.iter().map(|port| format!("[127.0.0.1]:{port}")).collect(),
    };
    Postfix::start(&format!("relayhost = {}", hops.join(", ")))
}

/// Sends the letter. Returns how everybody fared at the first attempt that settled it.
fn fares(postfix: &Postfix, people: &[&str], letter: &str) -> BTreeMap<String, Fate> {
    let reply = Client::greeted(postfix.port).message("news@shop.example", people, letter);
    assert!(reply.starts_with("250"), "{reply}");
    let deadline = std::time::Instant::now() + support::PATIENCE;
    let settled = |to: &str| [Fate::Sent, Fate::Failed].into_iter().find(|fate| postfix.count(to, *fate) > 0);
    loop {
        let fates: BTreeMap<String, Fate> =
            people.iter().filter_map(|to| Some(((*to).to_owned(), settled(to)?))).collect();
        if fates.len() == people.len() {
            return fates;
        }
        assert!(std::time::Instant::now() < deadline, "{fates:?}: {}", Mta::log(postfix));
        if people.iter().all(|to| settled(to).is_some() || postfix.count(to, Fate::Deferred) > 0) {
            postfix.flush();
        }
        std::thread::park_timeout(std::time::Duration::from_millis(200));
    }
}

/// The recipients whose mail a sink took, sorted.
fn served(sink: &Sink) -> Vec<String> {
    // After a refused sender Postfix ends the DATA that it sent along with an empty message.
    let is_letter = |message: &[u8]| memchr::memmem::find(message, b"Subject: News").is_some();
    let taken = sink.taken().into_iter();
    let taken = taken.filter(|one| one.accepted && !one.sender.starts_with("<>") && is_letter(&one.message));
    let mut people: Vec<String> = taken.flat_map(|one| one.to).collect();
    people.sort();
    people
}

#[test]
fn a_421_among_the_recipients() {
    let people = ["dead1@home.example", "dead2@home.example", "good@home.example", "last@home.example"];
    let outcome = |through: bool| {
        let sink = Sink::start();
        sink.rule(Step::Rcpt, "dead", Answer::Say("550 5.1.1 No such user"), usize::MAX);
        sink.rule(Step::Rcpt, "last@", Answer::Say("421 4.7.0 Too many errors"), 1);
        let relay = through.then(|| relay(&[sink.port]));
        let fates = fares(&postfix(&[sink.port], relay.as_ref()), &people, LETTER);
        (fates, served(&sink))
    };
    let alone = outcome(false);
    assert_eq!(alone.1, ["good@home.example", "last@home.example"]);
    assert_eq!(outcome(true), alone);
}

#[test]
fn a_first_next_hop_that_is_away_or_full() {
    for (step, reply) in [
        (None, ""),
        (Some(Step::Greeting), "421 4.3.2 Closing"),
        (Some(Step::Mail), "452 4.3.1 Insufficient system storage"),
        (Some(Step::Rcpt), "452 4.3.1 Insufficient system storage"),
        (Some(Step::Data), "452 4.3.1 Insufficient system storage"),
    ] {
        let outcome = |through: bool| {
            let (first, second, nobody) = (Sink::start(), Sink::start(), free_port());
            if let Some(step) = step {
                first.rule(step, "", Answer::Say(reply), usize::MAX);
            }
            let ports = [if step.is_some() { first.port } else { nobody }, second.port];
            let relay = through.then(|| relay(&ports));
            let postfix = postfix(&ports, relay.as_ref());
            let fates = fares(&postfix, &["ann@home.example", "ben@home.example"], LETTER);
            let waited = postfix.count("ann@home.example", Fate::Deferred);
            (fates, served(&first), served(&second), waited)
        };
        let alone = outcome(false);
        assert_eq!((alone.2.len(), alone.3), (2, 0), "{step:?}");
        assert_eq!(outcome(true), alone, "{step:?}");
    }
}

#[test]
fn a_next_hop_without_extensions() {
    const MIME: &str =
        "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n";
    let letter = LETTER.replace("\n\nRead on.", &format!("\n{MIME}Lis\u{e9}."));
    let outcome = |through: bool| {
        let bare = NextHop::with(Behaviour { at: vec![], keywords: Some("HELP") });
        let relay = through.then(|| relay(&[bare.port]));
        let fates = fares(&postfix(&[bare.port], relay.as_ref()), &["ann@home.example"], &letter);
        let delivery = bare.wait(1).remove(0);
        (fates, delivery.data.is_ascii(), delivery.mail)
    };
    let alone = outcome(false);
    assert!(alone.1, "Postfix makes it ASCII");
    assert_eq!(outcome(true), alone);
}
