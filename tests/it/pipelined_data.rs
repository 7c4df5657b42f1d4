//! DATA that goes out together with MAIL and RCPT (RFC 2920): when it does, and what becomes of the connection when
//! nobody gets the message after all.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use crate::support::{Answer, Client, NextHop, Relay, Step};

const MAIL: &str = "MAIL FROM:<news@shop.example>\r\n";
const RCPT: &str = "RCPT TO:<ann@home.example>\r\n";
const MESSAGE: &[u8] = b"Subject: a\r\n\r\nb\r\n.\r\n";

/// Sends an envelope with DATA in one piece, then the message where it is wanted; gives the codes that came.
fn pipelined(client: &mut Client, recipients: &[&str], message: &[u8]) -> Vec<u16> {
    let rcpt: String = recipients.iter().map(|recipient| format!("RCPT TO:<{recipient}>\r\n")).collect();
    client.send(format!("{MAIL}{rcpt}DATA\r\n").as_bytes());
    let mut codes: Vec<u16> = (0..recipients.len() + 2).map(|_| client.code()).collect();
    if codes.last() == Some(&354) {
        client.send(message);
        codes.push(client.code());
    }
    codes
}

/// A client whose first message came at once, so that its next one is expected to.
fn prompt(relay: &Relay) -> Client {
    let mut client = Client::greeted(relay.port);
    assert_eq!(pipelined(&mut client, &["ann@home.example"], MESSAGE), [250, 250, 354, 250]);
    client
}

/// A next hop that notes what came in each piece.
struct Pieces {
    port: u16,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Pieces {
    fn start() -> Pieces {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let pieces = Pieces { port: listener.local_addr().unwrap().port(), heard: Arc::default() };
        let heard = Arc::clone(&pieces.heard);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let heard = Arc::clone(&heard);
                std::thread::spawn(move || listen(stream, &heard));
            }
        });
        pieces
    }

    /// What came with and after the MAIL of each message, up to its data.
    fn envelopes(&self) -> Vec<Vec<String>> {
        let mut envelopes: Vec<Vec<String>> = Vec::new();
        for piece in self.heard.lock().unwrap().iter().filter(|piece| !piece.starts_with("EHLO")) {
            match (piece.starts_with("MAIL"), envelopes.last_mut()) {
                (false, Some(last)) => last.push(piece.clone()),
                _ => envelopes.push(vec![piece.clone()]),
            }
        }
        envelopes
    }
}

fn listen(mut stream: TcpStream, heard: &Mutex<Vec<String>>) {
    let mut buffer = [0; 4096];
    let mut in_data = false;
    stream.write_all(b"220 next-hop.example\r\n").unwrap();
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
        if in_data {
            in_data = !text.ends_with("\r\n.\r\n");
            if !in_data {
                stream.write_all(b"250 2.0.0 Ok\r\n").unwrap();
            }
            continue;
        }
        heard.lock().unwrap().push(text.clone());
        let mut replies = String::new();
        for line in text.lines() {
            in_data |= line == "DATA";
            replies.push_str(match line.get(..4) {
                Some("EHLO") => "250-next-hop.example\r\n250-PIPELINING\r\n250 8BITMIME\r\n",
                Some("DATA") => "354 Go on\r\n",
                _ => "250 2.0.0 Ok\r\n",
            });
        }
        stream.write_all(replies.as_bytes()).unwrap();
    }
}

fn envelopes_of(next_hop_lines: &str, talk: impl FnOnce(&mut Client)) -> Vec<Vec<String>> {
    let hop = Pieces::start();
    let relay = Relay::with(hop.port, "", next_hop_lines, "");
    talk(&mut Client::greeted(relay.port));
    hop.envelopes()
}

#[test]
fn data_goes_out_with_the_recipient_once_a_client_has_shown_that_it_sends_at_once() {
    let twice = |client: &mut Client| {
        for _ in 0..2 {
            assert_eq!(pipelined(client, &["ann@home.example"], MESSAGE), [250, 250, 354, 250]);
        }
    };
    let [apart, together] = [format!("{MAIL}{RCPT}"), format!("{MAIL}{RCPT}DATA\r\n")];
    let data = "DATA\r\n".to_owned();
    assert_eq!(envelopes_of("", twice), [vec![apart.clone(), data.clone()], vec![together]]);
    // Not where it is switched off.
    let never = [vec![apart.clone(), data.clone()], vec![apart, data.clone()]];
    assert_eq!(envelopes_of("pipeline_data = false", twice), never);
    // Not for several recipients, who may get different copies.
    let several = envelopes_of("", |client| {
        assert_eq!(pipelined(client, &["ann@home.example"], MESSAGE).last(), Some(&250));
        let codes = pipelined(client, &["ann@home.example", "bob@home.example"], MESSAGE);
        assert_eq!(codes, [250, 250, 250, 354, 250]);
    });
    assert_eq!(several[1].last(), Some(&data));
}

/// What a client hears about a message and the one after it, where the next hop answers the former so, over how many
/// connections, and what was accepted in the end.
fn after(answers: &[(Step, Answer)], message: &[u8]) -> (Vec<u16>, Vec<u16>, u32, usize) {
    let hop = NextHop::start();
    let relay = Relay::with(hop.port, "max_header_bytes = 4096", "", "");
    let mut client = prompt(&relay);
    hop.set(answers);
    let first = pipelined(&mut client, &["ann@home.example"], message);
    assert_eq!(client.say("RSET"), 250);
    let second = pipelined(&mut client, &["bob@home.example"], MESSAGE);
    assert_eq!(client.say("QUIT"), 221);
    (first, second, hop.connections.load(Ordering::SeqCst), hop.accepted())
}

#[test]
fn where_nobody_was_accepted_the_connection_goes_on_unless_the_next_hop_waits_for_a_message() {
    let gone = Answer::Say("550 5.1.1 no such user");
    let good = vec![250, 250, 354, 250];
    let no_recipient = Answer::Say("503 5.5.1 no valid recipients");
    for (step, codes) in [(Step::Rcpt, vec![250, 550, 554]), (Step::Mail, vec![550, 503, 503])] {
        // It does as RFC 2920 has it...
        let (first, second, connections, accepted) =
            after(&[(step, gone.clone()), (Step::Data, no_recipient.clone())], MESSAGE);
        assert_eq!((first, second, accepted), (codes.clone(), good.clone(), 2), "{step:?}");
        assert_eq!(connections, 1, "{step:?}");
        // ... or waits for a message all the same: an empty one would be mail to somebody.
        let (first, second, connections, accepted) = after(&[(step, gone.clone())], MESSAGE);
        assert_eq!((first, second, accepted), (codes, good.clone(), 2), "{step:?}");
        assert_eq!(connections, 2, "{step:?}");
    }
}

#[test]
fn a_next_hop_that_refuses_data_or_hangs_up_at_it_is_dealt_with_as_if_it_had_been_asked_later() {
    let good = vec![250, 250, 354, 250];
    for (answer, code, accepted) in [
        (Answer::Say("451 4.3.0 not now"), 451, 2),
        (Answer::Say("554 5.7.1 not from you"), 554, 2),
        // These are made good over another connection.
        (Answer::HangUp, 250, 3),
        (Answer::Say("421 4.3.2 closing"), 250, 3),
        (Answer::Say("what?"), 250, 3),
    ] {
        let (first, second, _, taken) = after(&[(Step::Data, answer.clone())], MESSAGE);
        assert_eq!(first, [250, 250, 354, code], "{answer:?}");
        assert_eq!((second, taken), (good.clone(), accepted), "{answer:?}");
    }
}

#[test]
fn a_message_that_the_relay_refuses_reaches_nobody_and_costs_the_connection() {
    let large = format!("Subject: {}\r\n\r\nb\r\n.\r\n", "a".repeat(5000));
    let (first, second, connections, accepted) = after(&[], large.as_bytes());
    assert_eq!((first, second), (vec![250, 250, 354, 552], vec![250, 250, 354, 250]));
    assert_eq!((connections, accepted), (2, 2));
}

#[test]
fn a_client_that_leaves_in_the_middle_of_its_message_has_sent_nothing() {
    let hop = NextHop::start();
    let relay = Relay::start(hop.port);
    let mut client = prompt(&relay);
    client.send(format!("{MAIL}{RCPT}DATA\r\n").as_bytes());
    assert_eq!([client.code(), client.code(), client.code()], [250, 250, 354]);
    client.send(b"Subject: a\r\n\r\nhalf of i");
    drop(client);
    // The connection that waits for the rest is closed, and another one serves the next client.
    assert_eq!(
        pipelined(&mut Client::greeted(relay.port), &["bob@home.example"], MESSAGE),
        [250, 250, 354, 250]
    );
    assert_eq!((hop.count(), hop.connections.load(Ordering::SeqCst)), (2, 2));
}
