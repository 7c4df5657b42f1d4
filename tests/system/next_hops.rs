//! Several next hops: which mail goes where, what happens when one fails, and how much each is sent.

use std::net::TcpListener;

use crate::mta::Postfix;
use crate::mta::sink::Sink;
use crate::support;
use crate::support::{Answer, Client, Folder, Relay, Step, stuffed};

/// So many clients with a message each at once: all of them are taken.
fn all_are_taken(relay: &Relay, clients: usize) {
    let port = relay.port;
    let send = move || Client::greeted(port).message("a@shop.example", &["ann@home.example"], LETTER);
    let sending: Vec<_> = (0..clients).map(|_| std::thread::spawn(send)).collect();
    for client in sending {
        let reply = client.join().unwrap();
        assert!(reply.starts_with("250"), "{reply}");
    }
}

const LETTER: &str = "Subject: a\n\nb\n";

/// A relay with a configuration of the test's own behind the listener.
fn relay(rest: &str) -> Relay {
    relay_with("[relay]\nmax_groups = 2\nprobe_s = 0\n", rest)
}

fn relay_with(relay: &str, rest: &str) -> Relay {
    let folder = Folder::new();
    let data = folder.0.join("data");
    folder.file(
        "config.toml",
        &format!(
            "data_directory = {data:?}\ncertificate_directory = {data:?}\n{relay}[[listener]]\naddress \
             = \"127.0.0.1:0\"\n\
             tls = \"none\"\n[private]\naddress = \"\"\n[api]\naddress = \"\"\n[log]\nformat \
             = \"human\"\nlevel = \"info,pixelward=debug\"\n{rest}"
        ),
    );
    Relay::in_folder(folder)
}

fn hop(name: &str, port: u16, more: &str) -> String {
    format!("[[next_hop]]\nname = \"{name}\"\nhost = \"localhost\"\nport = {port}\ntls = \"none\"\n{more}\n")
}

fn nobody() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn send(relay: &Relay, from: &str) -> String {
    Client::greeted(relay.port).message(from, &["ann@home.example"], LETTER)
}

fn accepted(sink: &Sink) -> usize {
    sink.taken().iter().filter(|taken| taken.accepted).count()
}

#[test]
fn the_next_one_takes_mail_where_the_first_cannot_be_used() {
    let second = Sink::start();
    let relay = relay(&format!("{}{}", hop("one", nobody(), ""), hop("two", second.port, "")));
    for count in 1..=2 {
        assert!(send(&relay, "a@shop.example").starts_with("250"));
        assert_eq!(accepted(&second), count);
    }
    relay.log.wait("the warning", |line| line.contains("the next one is tried"));
}

#[test]
fn a_next_hop_that_fails_before_the_final_dot_costs_nobody_a_deferral() {
    for (step, answer) in [
        (Step::Greeting, Answer::Say("421 4.3.2 Closing")),
        (Step::Greeting, Answer::Say("554 5.7.1 Not you")),
        (Step::Greeting, Answer::HangUp),
        (Step::Greeting, Answer::Stall),
        (Step::Ehlo, Answer::HangUp),
        (Step::Mail, Answer::Say("421 4.7.0 Too much")),
        (Step::Mail, Answer::Say("530 5.7.0 Authenticate")),
        (Step::Mail, Answer::HangUp),
        (Step::Mail, Answer::Stall),
        (Step::Data, Answer::Say("421 4.7.0 Too much")),
        (Step::Data, Answer::HangUp),
        (Step::Data, Answer::Stall),
    ] {
        let (first, second) = (Sink::start(), Sink::start());
        first.rule(step, "", answer.clone(), usize::MAX);
        let limits = "command_timeout_s = 1\ndata_timeout_s = 1";
        let relay = relay(&format!("{}{}", hop("one", first.port, limits), hop("two", second.port, limits)));
        let reply = send(&relay, "a@shop.example");
        assert!(reply.starts_with("250"), "{step:?} {answer:?}: {reply}");
        assert_eq!((accepted(&first), accepted(&second)), (0, 1), "{step:?} {answer:?}");
    }
}

#[test]
fn a_next_hop_that_puts_mail_off_leaves_it_to_the_following_one() {
    let full = Answer::Say("452 4.3.1 Insufficient system storage");
    for (step, answer) in [
        (Step::Greeting, Answer::Say("450 4.3.2 Later")),
        (Step::Ehlo, Answer::Say("451 4.3.0 Later")),
        (Step::Mail, full.clone()),
        (Step::Rcpt, full.clone()),
        (Step::Rcpt, Answer::Say("503 5.5.1 Order")),
        (Step::Rcpt, Answer::Say("421 4.7.0 Too much")),
        (Step::Data, full),
    ] {
        let (first, second) = (Sink::start(), Sink::start());
        first.rule(step, "", answer.clone(), usize::MAX);
        let relay = relay(&format!("{}{}", hop("one", first.port, ""), hop("two", second.port, "")));
        // Line by line, and in one batch.
        assert!(send(&relay, "a@shop.example").starts_with("250"), "{step:?} {answer:?}");
        let mut client = Client::greeted(relay.port);
        client.send(b"MAIL FROM:<a@shop.example>\r\nRCPT TO:<ann@home.example>\r\nDATA\r\n");
        let codes: Vec<u16> = (0..3).map(|_| client.code()).collect();
        assert_eq!(codes, [250, 250, 354], "{step:?} {answer:?}");
        client.send(stuffed(LETTER).as_bytes());
        assert_eq!(client.code(), 250, "{step:?} {answer:?}");
        assert_eq!((accepted(&first), accepted(&second)), (0, 2), "{step:?} {answer:?}");
    }
}

#[test]
fn who_was_rejected_stays_rejected_and_whom_all_put_off_hears_why() {
    let (first, second) = (Sink::start(), Sink::start());
    first.rule(Step::Rcpt, "ann@", Answer::Say("550 5.1.1 No such user"), usize::MAX);
    first.rule(Step::Rcpt, "", Answer::Say("450 4.2.1 First"), usize::MAX);
    second.rule(Step::Rcpt, "cat@", Answer::Say("450 4.2.1 Second"), usize::MAX);
    let relay = relay(&format!("{}{}", hop("one", first.port, ""), hop("two", second.port, "")));
    let mut client = Client::greeted(relay.port);
    client.send(
        b"MAIL FROM:<a@shop.example>\r\nRCPT TO:<ann@home.example>\r\nRCPT TO:<ben@home.example>\r\n\
          RCPT TO:<cat@home.example>\r\nDATA\r\n",
    );
    let replies: Vec<String> = (0..5).map(|_| client.reply()).collect();
    assert_eq!(
        replies[1..4],
        ["550 5.1.1 No such user\r\n", "250 2.1.5 Recipient ok\r\n", "450 4.2.1 Second\r\n"]
    );
    client.send(stuffed(LETTER).as_bytes());
    assert_eq!(client.code(), 250);
    assert_eq!(second.taken()[0].to, ["ben@home.example"]);
    assert!(!second.said().iter().any(|line| line.contains("ann@")));
}

#[test]
fn what_a_next_hop_said_is_passed_on_where_no_other_can_be_used() {
    for step in [Step::Mail, Step::Rcpt, Step::Data] {
        let first = Sink::start();
        first.rule(step, "", Answer::Say("452 4.3.1 Insufficient system storage"), usize::MAX);
        let relay = relay(&format!("{}{}", hop("one", first.port, ""), hop("two", nobody(), "")));
        let mut client = Client::greeted(relay.port);
        client.send(b"MAIL FROM:<a@shop.example>\r\nRCPT TO:<ann@home.example>\r\nDATA\r\n");
        let mut replies: Vec<String> = (0..3).map(|_| client.reply()).collect();
        if replies[2].starts_with("354") {
            client.send(stuffed(LETTER).as_bytes());
            replies.push(client.reply());
        }
        let full = "452 4.3.1 Insufficient system storage\r\n";
        assert!(replies.iter().any(|reply| reply == full), "{step:?}: {replies:?}");
    }
}

#[test]
fn behind_the_final_dot_no_other_is_tried() {
    for answer in [Answer::HangUp, Answer::Say("452 4.3.1 Full"), Answer::Stall] {
        let (first, second) = (Sink::start(), Sink::start());
        first.rule(Step::Dot, "", answer.clone(), 1);
        let relay =
            relay(&format!("{}{}", hop("one", first.port, "dot_timeout_s = 1"), hop("two", second.port, "")));
        let reply = send(&relay, "a@shop.example");
        assert!(reply.starts_with("45"), "{answer:?}: {reply}");
        assert_eq!((accepted(&first), accepted(&second)), (0, 0), "{answer:?}");
    }
}

#[test]
fn what_a_next_hop_says_of_the_mail_is_no_failure_of_it() {
    let (first, second) = (Sink::start(), Sink::start());
    first.rule(Step::Rcpt, "ann@", Answer::Say("550 5.1.1 No such user"), usize::MAX);
    let relay = relay(&format!("{}{}", hop("one", first.port, ""), hop("two", second.port, "")));
    let mut client = Client::greeted(relay.port);
    assert_eq!(client.say("MAIL FROM:<a@shop.example>"), 250);
    assert_eq!(client.ask("RCPT TO:<ann@home.example>"), "550 5.1.1 No such user\r\n");
    assert_eq!(second.connections(), 0);
}

#[test]
fn a_route_takes_the_mail_of_its_sender_domain() {
    let (shop, rest) = (Sink::start(), Sink::start());
    let relay = relay(&format!(
        "{}{}[[route]]\nsender_domain = \"shop.example\"\nnext_hops = [\"shop\"]\n[[route]]\nnext_hops = \
         [\"rest\"]\n",
        hop("shop", shop.port, ""),
        hop("rest", rest.port, "")
    ));
    for from in ["news@shop.example", "news@SHOP.example", "a@sub.shop.example", "a@other.example"] {
        assert!(send(&relay, from).starts_with("250"));
    }
    assert_eq!((accepted(&shop), accepted(&rest)), (2, 2));
}

#[test]
fn a_next_hop_has_no_more_connections_than_it_may() {
    let sink = Sink::start();
    let relay = relay(&hop("one", sink.port, "max_connections = 3"));
    all_are_taken(&relay, 24);
    assert_eq!(accepted(&sink), 24);
    assert!(sink.connections() <= 3, "{} connections", sink.connections());
}

#[test]
fn more_than_a_next_hop_may_be_sent_is_put_off_before_its_message_is_taken() {
    let sink = Sink::start();
    let relay = relay(&hop("one", sink.port, "messages_per_minute = 1\nburst = 2"));
    for _ in 0..2 {
        assert!(send(&relay, "a@shop.example").starts_with("250"));
    }
    let reply = Client::greeted(relay.port).ask("MAIL FROM:<a@shop.example>");
    assert!(reply.starts_with("451 4.4.5"), "{reply}");
    assert_eq!(accepted(&sink), 2);
}

#[test]
fn a_connection_does_not_wait_for_a_slow_client() {
    let sink = Sink::start();
    let relay = relay(&hop("one", sink.port, "max_connections = 2"));
    let (mut slow, mut slower) = (Client::greeted(relay.port), Client::greeted(relay.port));
    for client in [&mut slow, &mut slower] {
        assert_eq!(client.say("MAIL FROM:<a@shop.example>"), 250);
        assert_eq!(client.say("RCPT TO:<ann@home.example>"), 250);
    }
    // One is slow within its message, the other between its recipients.
    assert_eq!(slow.say("DATA"), 354);
    slow.send(b"Subject: a\r\n");
    sink.wait_for_line("RSET");
    assert!(send(&relay, "quick@shop.example").starts_with("250"));
    assert_eq!(slower.say("RCPT TO:<ben@home.example>"), 250);
    assert_eq!(slower.say("DATA"), 354);
    slower.send(stuffed(LETTER).as_bytes());
    assert_eq!(slower.code(), 250);
    slow.send(b"\r\nb\r\n.\r\n");
    assert_eq!(slow.code(), 250);
    let mut taken: Vec<Vec<String>> = sink.taken().into_iter().map(|taken| taken.to).collect();
    taken.sort();
    let (ann, ben) = ("ann@home.example".to_owned(), "ben@home.example".to_owned());
    assert_eq!(taken, [vec![ann.clone()], vec![ann.clone()], vec![ann, ben]]);
}

#[test]
fn where_others_wait_a_slow_client_gives_its_connection_up_at_once() {
    let sink = Sink::start();
    let relay = relay(&hop("one", sink.port, "max_connections = 2"));
    let slow: Vec<_> = (0..12)
        .map(|_| {
            let port = relay.port;
            std::thread::spawn(move || {
                let mut client = Client::greeted(port);
                assert_eq!(client.say("MAIL FROM:<slow@shop.example>"), 250);
                assert_eq!(client.say("RCPT TO:<ann@home.example>"), 250);
                assert_eq!(client.say("DATA"), 354);
                client.send(b"Subject: a\r\n");
                client
            })
        })
        .collect();
    // Had each its connection for two seconds, the last two would come to theirs after ten.
    let start = std::time::Instant::now();
    let slow: Vec<Client> = slow.into_iter().map(|session| session.join().unwrap()).collect();
    assert!(send(&relay, "quick@shop.example").starts_with("250"));
    assert!(start.elapsed() < std::time::Duration::from_secs(6), "{:?}", start.elapsed());
    for mut client in slow {
        client.send(b"\r\nb\r\n.\r\n");
        assert_eq!(client.code(), 250);
    }
    assert_eq!(accepted(&sink), 13);
}

#[test]
fn a_recipient_refused_when_asked_again_costs_the_others_nothing() {
    let sink = Sink::start();
    let relay = relay(&hop("one", sink.port, ""));
    let mut client = Client::greeted(relay.port);
    assert_eq!(client.say("MAIL FROM:<news@shop.example>"), 250);
    assert_eq!(client.say("RCPT TO:<ann@home.example>"), 250);
    assert_eq!(client.say("RCPT TO:<ben@home.example>"), 250);
    assert_eq!(client.say("DATA"), 354);
    sink.rule(Step::Rcpt, "ben@", Answer::Say("550 5.1.1 Gone"), 1);
    sink.hang_up();
    client.send(stuffed(LETTER).as_bytes());
    assert_eq!(client.code(), 250);
    let taken = sink.taken();
    assert_eq!(taken.iter().filter(|taken| taken.to == ["ann@home.example"]).count(), 1);
    let report = taken.iter().find(|taken| taken.to == ["news@shop.example"]).unwrap();
    let report = String::from_utf8_lossy(&report.message).into_owned();
    assert!(report.contains("ben@home.example") && report.contains("550 5.1.1 Gone"), "{report}");
    assert!(!report.contains("Final-Recipient: rfc822; ann@home.example"), "{report}");
}

#[test]
fn a_next_hop_that_asks_is_told_of_the_client_before_each_message_and_of_nobody_for_our_own() {
    let sink = Sink::start();
    let relay = relay(&hop("one", sink.port, ""));
    // Its recipients come one by one, and its second message over the same connection to the next hop.
    for _ in 0..2 {
        assert!(send(&relay, "a@shop.example").starts_with("250"));
    }
    let said = sink.said();
    let told: Vec<usize> = (0..said.len()).filter(|at| said[*at].starts_with("XFORWARD ")).collect();
    assert_eq!(told.len(), 2, "{said:?}");
    for at in told {
        assert!(said[at].starts_with("XFORWARD NAME=[UNAVAILABLE] ADDR=127.0.0.1 PORT="), "{}", said[at]);
        let rest = " PROTO=ESMTP HELO=client.example IDENT=[UNAVAILABLE] SOURCE=REMOTE";
        assert!(said[at].ends_with(rest), "{}", said[at]);
        assert!(said[at + 1].starts_with("MAIL FROM:"), "{said:?}");
    }
}

#[test]
fn a_next_hop_that_does_not_want_to_know_of_the_client_gets_the_mail_all_the_same() {
    let sink = Sink::start();
    sink.rule(Step::Xforward, "", Answer::Say("550 5.7.1 Not from you"), 9);
    let relay = relay(&hop("one", sink.port, ""));
    assert!(send(&relay, "a@shop.example").starts_with("250"));
    assert!(sink.said().iter().any(|line| line.starts_with("XFORWARD ")));
    assert_eq!(accepted(&sink), 1);
}

#[test]
fn clients_wait_for_a_connection_where_the_next_hop_allows_a_few() {
    let next = Postfix::start(
        "virtual_mailbox_domains = home.example\nvirtual_mailbox_maps = static:all/\n\
         smtpd_client_connection_count_limit = 5\nsmtpd_client_event_limit_exceptions =",
    );
    let relay = relay(&hop("one", next.port, ""));
    all_are_taken(&relay, 40);
    next.mails("all", 40);
}

#[test]
fn one_connection_is_enough_whatever_max_groups_is() {
    let sink = Sink::start();
    let relay = relay(&hop("one", sink.port, "max_connections = 1"));
    relay.say("ann@home.example", "granted");
    let letter = support::newsletter("ann@home.example").0;
    let people = ["ann@home.example", "ben@home.example"];
    let reply = Client::greeted(relay.port).message("news@shop.example", &people, &letter);
    assert!(reply.starts_with("250"), "{reply}");
    let taken = sink.taken();
    assert_eq!(taken.len(), 1);
    let text = String::from_utf8_lossy(&taken[0].message).into_owned();
    assert!(!text.contains("click.shop.example"), "the shared copy has nobody's tracker: {text}");
}

#[test]
fn an_idle_connection_is_closed_by_time_and_with_quit() {
    let sink = Sink::start();
    let relay = relay(&hop("one", sink.port, "idle_s = 1"));
    assert!(send(&relay, "a@shop.example").starts_with("250"));
    sink.wait_for_line("QUIT");
    let sink = Sink::start();
    let relay = self::relay(&hop("one", sink.port, "idle_s = 600"));
    assert!(send(&relay, "a@shop.example").starts_with("250"));
    relay.signal("TERM");
    sink.wait_for_line("QUIT");
}

#[test]
fn a_dead_first_next_hop_delays_one_mail_and_not_all_of_them() {
    let (first, second) = (Sink::start(), Sink::start());
    first.rule(Step::Greeting, "", Answer::Stall, usize::MAX);
    let relay = relay(&format!(
        "{}{}",
        hop("one", first.port, "greeting_timeout_s = 6"),
        hop("two", second.port, "")
    ));
    assert!(send(&relay, "a@shop.example").starts_with("250"));
    // Its rest grows from one second: one of the mails after that finds out that it is still dead.
    let deadline = std::time::Instant::now() + support::PATIENCE;
    let mut slow = 0;
    while slow == 0 {
        assert!(std::time::Instant::now() < deadline, "nobody looks whether it is back");
        let clients: Vec<_> = (0..12)
            .map(|_| {
                let port = relay.port;
                std::thread::spawn(move || {
                    let start = std::time::Instant::now();
                    let mut client = Client::greeted(port);
                    let reply = client.message("a@shop.example", &["ann@home.example"], LETTER);
                    assert!(reply.starts_with("250"), "{reply}");
                    start.elapsed()
                })
            })
            .collect();
        let times: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
        slow = times.iter().filter(|time| time.as_secs() >= 5).count();
        assert!(slow <= 1, "{times:?}");
    }
    assert_eq!(first.connections(), 2);
}
