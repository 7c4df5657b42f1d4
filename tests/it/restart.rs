//! What is known, after a restart, of a message whose final dot the next hop had not answered. SMTP cannot ask
//! a next hop what became of a message: docs/operations.md says what follows.

use std::path::PathBuf;

use crate::mta::sink::Sink;
use crate::support::{Answer, Client, Folder, Relay, Step, stuffed};

const LETTER: &str = "From: a@shop.example\nMessage-ID: <1@shop.example>\nSubject: a\n\nb\n";
const WARNING: &str = "may already have received this message";

/// A relay whose client waits for a next hop that does not answer the final dot.
fn waiting(rest: &str) -> (Relay, Sink, Client) {
    let sink = Sink::start();
    let relay = Relay::with(sink.port, "", "", rest);
    sink.rule(Step::Dot, "", Answer::Stall, 1);
    let mut client = Client::greeted(relay.port);
    assert_eq!(client.say("MAIL FROM:<news@shop.example>"), 250);
    assert_eq!(client.say("RCPT TO:<ann@home.example>"), 250);
    assert_eq!(client.say("DATA"), 354);
    client.send(stuffed(LETTER).as_bytes());
    sink.wait_until_stalled();
    (relay, sink, client)
}

/// The client's retry is sent, for the next hop may not have the message.
fn is_sent_again(relay: &Relay, sink: &Sink) {
    let reply = Client::greeted(relay.port).message("news@shop.example", &["ann@home.example"], LETTER);
    assert!(reply.starts_with("250"), "{reply}");
    assert_eq!(sink.taken().len(), 2);
}

#[test]
fn a_relay_that_stops_before_the_answer_names_the_message_and_the_retry_is_sent_with_a_warning() {
    let (mut relay, sink, mut client) = waiting("[relay]\ndrain_s = 1");
    relay.signal("TERM");
    assert!(relay.wait().success());
    assert!(!client.reply().starts_with("250"));
    let relay = Relay::in_folder(std::mem::replace(&mut relay.folder, Folder(PathBuf::new())));
    is_sent_again(&relay, &sink);
    relay.log.wait("the warning", |line| line.contains(WARNING));
    // Once it was accepted, nothing is known of it any more: the client has its answer.
    let reply = Client::greeted(relay.port).message("news@shop.example", &["ann@home.example"], LETTER);
    assert!(reply.starts_with("250"), "{reply}");
    assert_eq!(sink.taken().len(), 3);
}

#[test]
fn a_relay_that_is_killed_before_the_answer_knows_nothing_of_a_message_in_one_copy() {
    let (relay, sink, _client) = waiting("");
    let relay = relay.killed();
    is_sent_again(&relay, &sink);
    assert!(!relay.log.all().iter().any(|line| line.contains(WARNING)));
}

#[test]
fn a_relay_that_may_wait_long_enough_passes_the_answer_on_before_it_stops() {
    let (mut relay, sink, mut client) = waiting("[relay]\ndrain_s = 60");
    relay.signal("TERM");
    relay.log.wait("the signal", |line| line.contains("stopping"));
    assert!(relay.is_running());
    // The next hop loses the connection: that is an answer too, and the relay stops at once.
    sink.hang_up();
    let reply = client.reply();
    assert!(reply.starts_with("451"), "{reply}");
    drop(client);
    assert!(relay.wait().success());
}
