//! A next hop that speaks LMTP: after the final dot each recipient has a reply of its own, and each client
//! hears what it can. And one that is a socket of this machine.

use std::io::copy;
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::mta::sink::Sink;
use crate::support::{Answer, Client, Folder, Relay, Step, configuration, stuffed};

const LMTP: &str = "protocol = \"lmtp\"";
const ANN: &str = "ann@home.example";
const EVE: &str = "eve@home.example";
const LETTER: &str = "From: a@shop.example\nMessage-ID: <1@shop.example>\nSubject: a\n\nb\n";

/// Sends to both, as a client with one reply for all.
fn send(relay: &Relay) -> String {
    Client::greeted(relay.port).message("news@shop.example", &[ANN, EVE], LETTER)
}

/// Sends to both as an LMTP client; gives the reply of each.
fn send_by_lmtp(relay: &Relay) -> [String; 2] {
    let mut client = Client::connect(relay.port);
    assert_eq!(client.code(), 220);
    assert_eq!(client.say("LHLO client.example"), 250);
    assert_eq!(client.say("MAIL FROM:<news@shop.example>"), 250);
    assert_eq!(client.say(&format!("RCPT TO:<{ANN}>")), 250);
    assert_eq!(client.say(&format!("RCPT TO:<{EVE}>")), 250);
    assert_eq!(client.say("DATA"), 354);
    client.send(stuffed(LETTER).as_bytes());
    [client.reply(), client.reply()]
}

/// How often the sink took something for this person.
fn times(sink: &Sink, person: &str) -> usize {
    sink.taken().iter().filter(|one| one.accepted && one.to == [person.to_owned()]).count()
}

#[test]
fn each_recipient_of_an_lmtp_client_hears_its_own_reply() {
    let sink = Sink::start();
    let relay = Relay::with(sink.port, LMTP, LMTP, "");
    sink.rule(Step::Dot, EVE, Answer::Say("552 5.2.2 Mailbox full"), 1);
    let [ann, eve] = send_by_lmtp(&relay);
    assert!(ann.starts_with("250 "), "{ann}");
    assert!(eve.starts_with("552 5.2.2 Mailbox full"), "{eve}");
    let said = sink.said();
    assert!(said.iter().any(|line| line.starts_with("LHLO ")), "{said:?}");
    assert!(!said.iter().any(|line| line.starts_with("EHLO ")), "{said:?}");
    relay.log.wait("her reply", |line| {
        line.contains("result=\"rejected\"") && line.contains("552 5.2.2 Mailbox full")
    });
    relay.log.wait("his reply", |line| line.contains("result=\"accepted\""));
    // The connection is in step: the next message goes over it.
    let [ann, eve] = send_by_lmtp(&relay);
    assert!(ann.starts_with("250 ") && eve.starts_with("250 "), "{ann}{eve}");
    assert_eq!(sink.connections(), 1);
}

#[test]
fn of_a_message_that_some_were_refused_the_sender_is_told() {
    let sink = Sink::start();
    let relay = Relay::with(sink.port, "", LMTP, "");
    sink.rule(Step::Dot, EVE, Answer::Say("552 5.2.2 Mailbox full"), 1);
    let reply = send(&relay);
    assert!(reply.starts_with("250 "), "{reply}");
    let notice = sink.wait(1, |taken| taken.to == ["news@shop.example".to_owned()]).remove(0);
    let text = String::from_utf8_lossy(&notice.message).into_owned();
    assert!(text.contains("Final-Recipient: rfc822; eve@home.example\r\nAction: failed"), "{text}");
    assert_eq!((times(&sink, ANN), times(&sink, EVE)), (1, 0));
}

#[test]
fn a_message_that_some_were_put_off_is_completed_by_the_next_attempt() {
    let sink = Sink::start();
    let relay = Relay::with(sink.port, "", LMTP, "");
    sink.rule(Step::Dot, EVE, Answer::Say("452 4.2.2 Mailbox full"), 1);
    let reply = send(&relay);
    assert!(reply.starts_with("451 4.4.0"), "{reply}");
    let reply = send(&relay);
    assert!(reply.starts_with("250 "), "{reply}");
    assert_eq!((times(&sink, ANN), times(&sink, EVE)), (1, 1));
}

#[test]
fn replies_that_came_before_the_next_hop_hung_up_stand() {
    let sink = Sink::start();
    let relay = Relay::with(sink.port, LMTP, LMTP, "");
    sink.rule(Step::Dot, EVE, Answer::HangUp, 1);
    let [ann, eve] = send_by_lmtp(&relay);
    assert!(ann.starts_with("250 "), "{ann}");
    assert!(eve.starts_with("451 4.4.2"), "{eve}");
}

#[test]
fn who_was_answered_in_time_is_not_asked_about_again_when_the_rest_is_late() {
    let sink = Sink::start();
    let relay = Relay::with(sink.port, "", &format!("{LMTP}\ndot_timeout_s = 1"), "");
    sink.rule(Step::Dot, EVE, Answer::Stall, 1);
    let reply = send(&relay);
    assert!(reply.starts_with("451 "), "{reply}");
    let reply = send(&relay);
    assert!(reply.starts_with("250 "), "{reply}");
    assert_eq!((times(&sink, ANN), times(&sink, EVE)), (1, 1));
}

#[test]
fn a_server_that_speaks_no_lmtp_is_told_apart() {
    let sink = Sink::start();
    let relay = Relay::with(sink.port, "", LMTP, "");
    sink.rule(Step::Ehlo, "", Answer::Say("500 5.5.1 What"), 1);
    let mut client = Client::greeted(relay.port);
    assert_eq!(client.say("MAIL FROM:<news@shop.example>"), 451);
    relay.log.wait("the step", |line| line.contains("LHLO: the next hop answered 500 5.5.1 What"));
    assert!(!sink.said().iter().any(|line| line.starts_with("HELO")));
}

/// A socket at this path that leads to a port of this machine.
fn socket(path: &Path, port: u16) {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Both);
            });
            let (mut from, mut to) = (server, client);
            std::thread::spawn(move || {
                let _ = copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Both);
            });
        }
    });
}

#[test]
fn a_socket_of_this_machine_takes_mail_and_check_says_so() {
    let (sink, folder) = (Sink::start(), Folder::new());
    let path = folder.0.join("lmtp");
    let config = configuration(&folder, 1, "", LMTP, "");
    let place = format!("unix:{}", path.display());
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("\"localhost\"", &format!("{place:?}"))).unwrap();
    let relay = Relay::in_folder(folder);
    let mut client = Client::greeted(relay.port);
    assert_eq!(client.say("MAIL FROM:<news@shop.example>"), 451);
    relay.log.wait("the reason", |line| line.contains(&place) && line.contains("connect: No such file"));
    socket(&path, sink.port);
    let reply = send(&relay);
    assert!(reply.starts_with("250 "), "{reply}");
    assert_eq!((times(&sink, ANN), times(&sink, EVE)), (1, 1));
    relay.log.wait("the next hop", |line| line.contains(&format!("next_hop=\"{place}\"")));
    let checked = relay.command(&["check"]);
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(said.contains(&format!("the next hop {place} answers at {}", path.display())), "{said}");
    assert!(said.contains("note    listener default speaks SMTP and the next hop default LMTP"), "{said}");
}
