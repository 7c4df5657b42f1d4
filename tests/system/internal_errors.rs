//! Internal errors on demand, at each station of the line: none stops the mail, none lets a tracker through,
//! and the log says where it was without quoting mail.

use crate::support;
use std::process::Command;

use crate::mta::Postfix;
use crate::mta::sink::Sink;
use crate::support::{Client, NextHop, Relay, crlf, newsletter, program};

/// The stations before delivery.
const BEFORE: [&str; 8] = ["choose", "analyse", "judge", "decide", "plan", "rewrite", "verify", "sign"];
/// Those at which the copy is made already.
const AFTER: [&str; 2] = ["hash", "record"];
const OBSERVE: &str = "mode = \"observe\"";

/// A newsletter that makes the relay panic at a station.
fn faulty(station: &str, to: &str) -> String {
    format!("X-Pixelward-Fault: {station}\n{}", newsletter(to).0)
}

/// How many messages panic at each station, in each mode: 100 make the 2,000 of `make harness`.
fn each() -> usize {
    std::env::var("PIXELWARD_PANICS").map_or(5, |count| count.parse().unwrap())
}

/// Sends messages that panic at every station through a real Postfix and the relay; gives what arrived, by
/// station.
fn arrived(rest: &str) -> Vec<(&'static str, Vec<u8>)> {
    let sink = Sink::start();
    let relay = Relay::with(sink.port, "", "", rest);
    let postfix = Postfix::start(&format!("relayhost = [127.0.0.1]:{}", relay.port));
    let stations: Vec<&str> = BEFORE.into_iter().chain(AFTER).collect();
    for number in 0..each() {
        for station in &stations {
            let to = format!("{station}{number}@home.example");
            let sent =
                Client::greeted(postfix.port).message("news@shop.example", &[&to], &faulty(station, &to));
            assert!(sent.starts_with("250"), "{sent}");
        }
    }
    let taken = sink.wait(each() * stations.len(), |_| true);
    println!("{} messages that panic, {} delivered", each() * stations.len(), taken.len());
    let station = |to: &str| {
        let name = to.split('@').next().unwrap().trim_end_matches(|piece: char| piece.is_ascii_digit());
        stations.iter().copied().find(|station| *station == name).unwrap()
    };
    taken.into_iter().map(|taken| (station(&taken.to[0]), taken.message.to_vec())).collect()
}

fn text(message: &[u8]) -> String {
    String::from_utf8_lossy(message).into_owned()
}

#[test]
fn enforced_mail_arrives_without_trackers_whatever_fails() {
    for (station, message) in arrived("") {
        let message = text(&message);
        assert!(!message.contains("wf/open"), "{station}: {message}");
        assert!(message.contains("News of the week"), "{station}: {message}");
        // What cannot be judged goes, pictures that anybody may load included.
        assert_eq!(message.contains("logo.png"), AFTER.contains(&station), "{station}: {message}");
    }
}

#[test]
fn observed_mail_arrives_as_it_was_sent_whatever_fails() {
    for (station, message) in arrived(OBSERVE) {
        let message = text(&message);
        let written = crlf(&newsletter("x").0);
        let body = written.split("\r\n\r\n").skip(1).collect::<Vec<_>>().join("\r\n\r\n");
        assert!(message.ends_with(&body), "{station}: {message}");
    }
}

#[test]
fn the_log_names_message_and_place_and_quotes_nothing() {
    let hop = NextHop::start();
    let relay = Relay::start(hop.port);
    let mut client = Client::greeted(relay.port);
    let reply =
        client.message("news@shop.example", &["eve@home.example"], &faulty("judge", "eve@home.example"));
    assert!(reply.starts_with("250"), "{reply}");
    let line = relay.log.wait("the alarm", |line| line.contains("internal error"));
    assert!(line.contains("id=") && line.contains("<1@shop.example>"), "{line}");
    assert!(line.contains("src/faults.rs:"), "{line}");
    let record = relay.log.wait("the line of the recipient", |line| line.contains("rule=\"internal_error\""));
    assert!(record.contains("done=\"strip\""), "{record}");
    assert!(!relay.log.all().concat().contains("a test asked for"), "a panic's message is not logged");
}

#[test]
fn where_stripping_fails_too_the_mail_waits_with_its_sender() {
    let hop = NextHop::start();
    let relay = Relay::start(hop.port);
    let mut client = Client::greeted(relay.port);
    for station in BEFORE {
        let message = faulty(&format!("{station}, strip"), "eve@home.example");
        let reply = client.message("news@shop.example", &["eve@home.example"], &message);
        assert!(reply.starts_with("451 4.6.0"), "{station}: {reply}");
    }
    assert_eq!(hop.count(), 0);
    let line = relay.log.wait("both places", |line| line.contains("second_site="));
    assert!(line.contains("waits with its sender"), "{line}");
    // The session goes on.
    let reply = client.message("news@shop.example", &["eve@home.example"], &newsletter("eve@home.example").0);
    assert!(reply.starts_with("250"), "{reply}");
}

#[test]
fn several_copies_each_survive_their_own_error() {
    let hop = NextHop::start();
    let relay = Relay::with(hop.port, "protocol = \"lmtp\"", "", "");
    relay.say("ann@home.example", "granted");
    let mut client = Client::connect(relay.port);
    client.reply();
    assert_eq!(client.say("LHLO client.example"), 250);
    assert_eq!(client.say("MAIL FROM:<news@shop.example>"), 250);
    for to in ["ann@home.example", "eve@home.example"] {
        assert_eq!(client.say(&format!("RCPT TO:<{to}>")), 250);
    }
    assert_eq!(client.say("DATA"), 354);
    client.send(support::stuffed(&faulty("verify", "reader@home.example")).as_bytes());
    assert_eq!((client.code(), client.code()), (250, 250));
    let got: Vec<String> = hop.wait(2).iter().map(support::Delivery::below_trace).collect();
    let with = got.iter().filter(|copy| copy.contains("wf/open")).count();
    assert_eq!(with, 1, "who agreed keeps the pixel, and who did not gets none: {got:?}");
}

fn mbox(messages: &[String]) -> String {
    messages.iter().map(|message| format!("From a Mon Nov  2 09:00:00 2026\n{message}\n")).collect()
}

#[test]
fn a_scan_goes_on_with_the_next_message_and_says_which_failed() {
    let folder = support::Folder::new();
    let all = [newsletter("a").0, faulty("judge", "b"), newsletter("c").0];
    let file = folder.file("all.mbox", &mbox(&all));
    let output = program().arg("scan").arg(&file).output().unwrap();
    let (said, complained) = (text(&output.stdout), text(&output.stderr));
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("2 messages, 2 with trackers"), "{said}");
    assert!(complained.contains("all.mbox#2: internal error at crates/core/src/"), "{complained}");
}

#[test]
fn a_rewrite_says_what_failed() {
    let folder = support::Folder::new();
    let file = folder.file("a.eml", &faulty("judge", "b"));
    let output: std::process::Output =
        Command::new(program().get_program()).arg("rewrite").arg(&file).output().unwrap();
    let complained = text(&output.stderr);
    assert!(!output.status.success() && output.stdout.is_empty());
    assert!(complained.contains("a.eml: internal error at crates/core/src/"), "{complained}");
}

#[test]
fn a_format_in_the_query_of_a_host_without_a_path_is_no_panic() {
    let hop = NextHop::start();
    let relay = Relay::start(hop.port);
    for (to, src) in [("a@home.example", "//h?format=png"), ("b@home.example", "http://h?format=jpeg")] {
        let message =
            format!("From: a@shop.example\nContent-Type: text/html\n\n<img src={src}><p>Hello</p>\n");
        let reply = Client::greeted(relay.port).message("news@shop.example", &[to], &message);
        assert!(reply.starts_with("250"), "{reply}");
    }
    assert!(!relay.log.all().concat().contains("internal error"));
}
