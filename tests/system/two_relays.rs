//! Two relays behind one real Postfix, with the lines that `pixelward postfix --second` prints: what the first
//! does not take goes to the second, and nobody gets anything twice.

use crate::mta::sink::Sink;
use crate::mta::{Fate, Mta, Postfix, grant, port, printed_with, relay_at, submit};
use crate::support::{Answer, Relay, Step, newsletter};

/// A Postfix with the printed lines, and two relays that lead to this sink.
fn two(recipe: &str, listener: &str, sink: &Sink) -> (Postfix, Relay, Relay) {
    let first = relay_at(port(), sink.port, listener, "");
    let second = relay_at(port(), sink.port, listener, "");
    let other = format!("127.0.0.1:{}", second.port);
    let lines = |file| printed_with(&first, &["--recipe", recipe, "--second", &other], file);
    let postfix = Postfix::with(&lines("main.cf"), &lines("master.cf"));
    (postfix, first, second)
}

const LMTP: &str = "protocol = \"lmtp\"";

#[test]
fn while_the_first_is_down_the_second_takes_the_mail() {
    for (recipe, listener) in [("relayhost", ""), ("lmtp", LMTP)] {
        let sink = Sink::start();
        let (postfix, first, second) = two(recipe, listener, &sink);
        let to = ["ann@home.example".to_owned(), "eve@home.example".to_owned()];
        submit(postfix.port, "", &to, &newsletter("ann@home.example").0);
        to.iter().for_each(|person| {
            let line = postfix.wait(person, Fate::Sent);
            assert!(line.contains(&format!("]:{},", first.port)), "{recipe}: {line}");
        });
        drop(first);
        let to = ["bob@home.example".to_owned()];
        submit(postfix.port, "", &to, &newsletter("bob@home.example").0);
        let line = postfix.wait(&to[0], Fate::Sent);
        assert!(line.contains(&format!("]:{},", second.port)), "{recipe}: {line}");
    }
}

#[test]
fn a_first_relay_that_does_not_answer_costs_ten_seconds_and_not_the_mail() {
    let sink = Sink::start();
    let (postfix, first, second) = two("lmtp", LMTP, &sink);
    let place = first.port;
    drop(first);
    // Nobody accepts here, and what waits is full: who connects gets no answer.
    let listener = std::net::TcpListener::bind(("127.0.0.1", place)).unwrap();
    let address = listener.local_addr().unwrap();
    let limit = std::time::Duration::from_millis(200);
    let held: Vec<_> =
        (0..8192).map_while(|_| std::net::TcpStream::connect_timeout(&address, limit).ok()).collect();
    assert!(held.len() < 8192);
    let to = ["bob@home.example".to_owned()];
    submit(postfix.port, "", &to, &newsletter("bob@home.example").0);
    let line = postfix.wait(&to[0], Fate::Sent);
    assert!(line.contains(&format!("]:{},", second.port)), "{line}");
}

#[test]
fn who_was_served_by_the_first_does_not_get_the_message_from_the_second() {
    for (recipe, listener) in [("relayhost", ""), ("lmtp", LMTP)] {
        let sink = Sink::start();
        let (postfix, first, second) = two(recipe, listener, &sink);
        let to = ["ann@home.example".to_owned(), "eve@home.example".to_owned()];
        // They get different copies, and one of the two is put off by both relays, again and again.
        for relay in [&first, &second] {
            grant(relay, &to[..1]);
        }
        sink.rule(Step::Dot, "eve@home.example", Answer::Say("451 4.7.1 Not now"), 6);
        submit(postfix.port, "", &to, &newsletter("ann@home.example").0);
        postfix.wait(&to[0], Fate::Sent);
        postfix.retry(&to);
        let taken = sink.taken();
        for person in &to {
            let count = taken.iter().filter(|one| one.accepted && one.to.contains(person)).count();
            assert_eq!(count, 1, "{recipe}: {person}");
        }
    }
}
