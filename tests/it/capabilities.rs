//! What clients are told that their mail may need: what the next hops of their route can take, and nothing
//! that another one lacks.

use crate::support;
use crate::support::{Answer, Behaviour, Client, Folder, NextHop, Relay, Step};

const PLENTY: &str = "PIPELINING\nSIZE 60000000\n8BITMIME\nSMTPUTF8\nDSN";

fn next_hop(keywords: &'static str) -> NextHop {
    NextHop::with(Behaviour { at: vec![], keywords: Some(keywords) })
}

fn hop(name: &str, port: u16) -> String {
    format!("[[next_hop]]\nname = \"{name}\"\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\n")
}

/// A relay that asks its next hops at the start.
fn relay(rest: &str) -> Relay {
    let folder = Folder::new();
    let data = folder.0.join("data");
    folder.file(
        "config.toml",
        &format!(
            "data_directory = {data:?}\ncertificate_directory = {data:?}\n[[listener]]\naddress \
             = \"127.0.0.1:0\"\n\
             tls = \"none\"\n[private]\naddress = \"\"\n[api]\naddress = \"\"\n[log]\nformat \
             = \"human\"\n{rest}"
        ),
    );
    Relay::in_folder(folder)
}

fn announced(relay: &Relay) -> String {
    let mut client = Client::connect(relay.port);
    assert_eq!(client.code(), 220);
    client.ask("EHLO client.example")
}

#[test]
fn what_the_next_hop_lacks_is_known_before_the_first_mail() {
    let bare = next_hop("SIZE 1000000");
    let relay = relay(&hop("one", bare.port));
    let said = announced(&relay);
    assert!(said.contains("SIZE 1000000"), "{said}");
    for keyword in ["8BITMIME", "SMTPUTF8", "DSN"] {
        assert!(!said.contains(keyword), "{said}");
    }
}

#[test]
fn a_next_hop_of_other_mail_takes_nothing_from_a_client() {
    let (bare, plenty) = (next_hop("HELP"), next_hop(PLENTY));
    let relay = relay(&format!(
        "{}{}[[route]]\nlogin = \"shop\"\nnext_hops = [\"bare\"]\n[[route]]\nsender_domain \
         = \"old.example\"\n\
         next_hops = [\"bare\"]\n[[route]]\nnext_hops = [\"plenty\"]\n",
        hop("bare", bare.port),
        hop("plenty", plenty.port)
    ));
    let said = announced(&relay);
    for keyword in ["8BITMIME", "SMTPUTF8", "DSN"] {
        assert!(said.contains(keyword), "{said}");
    }
    let mut client = Client::greeted(relay.port);
    assert_eq!(client.say("MAIL FROM:<j\u{fc}@shop.example> SMTPUTF8"), 250);
    client.say("RSET");
    // This sender's own next hop cannot take it, and is the only one of its route.
    assert!(client.ask("MAIL FROM:<j\u{fc}@old.example> SMTPUTF8").starts_with("550 5.6.7"));
}

#[test]
fn what_a_fallback_lacks_puts_mail_off_and_is_forgotten_once_the_first_is_back() {
    let first = next_hop(PLENTY);
    let second = next_hop("HELP");
    let relay = relay(&format!("{}{}", hop("one", first.port), hop("two", second.port)));
    let eight_bit = |client: &mut Client| {
        for line in ["MAIL FROM:<a@shop.example> BODY=8BITMIME", "RCPT TO:<ann@home.example>"] {
            assert_eq!(client.say(line), 250);
        }
        assert_eq!(client.say("DATA"), 354);
        // Signed, so that it cannot be converted.
        client.send(b"DKIM-Signature: v=1\r\nSubject: a\r\n\r\n\xc3\xa9\r\n.\r\n");
        client.reply()
    };
    let utf8 = "MAIL FROM:<j\u{fc}@shop.example> SMTPUTF8";
    assert!(announced(&relay).contains("SMTPUTF8"));
    // The first is away, as often as anybody may ask.
    first.set(&vec![(Step::Mail, Answer::Say("421 4.3.2 Closing")); 40]);
    let mut client = Client::greeted(relay.port);
    let reply = client.ask(utf8);
    assert!(reply.starts_with("451 4.6.7"), "{reply}");
    client.say("RSET");
    let reply = eight_bit(&mut client);
    assert!(reply.starts_with("451 4.6.3"), "{reply}");
    first.set(&[]);
    relay.signal("HUP");
    relay.log.wait("the reload", |line| line.contains("read again"));
    let deadline = std::time::Instant::now() + support::PATIENCE;
    while !announced(&relay).contains("SMTPUTF8") {
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    }
    let mut client = Client::greeted(relay.port);
    let reply = eight_bit(&mut client);
    assert!(reply.starts_with("250"), "{reply}");
}

#[test]
fn who_asked_to_hear_of_a_success_hears_that_a_next_hop_without_dsn_has_the_mail() {
    let bare = next_hop("HELP");
    let relay = relay(&hop("one", bare.port));
    let mut client = Client::greeted(relay.port);
    assert_eq!(client.say("MAIL FROM:<a@shop.example> ENVID=x1"), 250);
    assert_eq!(client.say("RCPT TO:<ann@home.example> NOTIFY=SUCCESS,FAILURE"), 250);
    assert_eq!(client.say("RCPT TO:<ben@home.example> NOTIFY=FAILURE"), 250);
    assert_eq!(client.say("DATA"), 354);
    client.send(b"Subject: a\r\n\r\nb\r\n.\r\n");
    assert_eq!(client.code(), 250);
    let deliveries = bare.wait(2);
    assert_eq!(deliveries[0].rcpts, ["RCPT TO:<ann@home.example>", "RCPT TO:<ben@home.example>"]);
    assert_eq!((deliveries[1].mail.as_str(), deliveries[1].rcpts.len()), ("MAIL FROM:<>", 1));
    assert_eq!(deliveries[1].rcpts, ["RCPT TO:<a@shop.example>"]);
    let notice = String::from_utf8_lossy(&deliveries[1].data).into_owned();
    assert!(notice.contains("Action: relayed") && notice.contains("Original-Envelope-Id: x1"), "{notice}");
    assert!(notice.contains("ann@home.example") && !notice.contains("rfc822; ben@home.example"), "{notice}");
}

#[test]
fn eight_bit_text_is_converted_for_a_next_hop_without_it_and_the_log_and_the_evidence_say_so() {
    let bare = next_hop("PIPELINING\nSIZE 1000000");
    let relay = relay(&hop("one", bare.port));
    let mut client = Client::greeted(relay.port);
    // Not declared, and without MIME.
    let letter = "Message-ID: <1@shop.example>\r\nSubject: a\r\n\r\nGr\u{fc}\u{df}e = 1\r\n";
    for line in ["MAIL FROM:<a@shop.example>", "RCPT TO:<ann@home.example>"] {
        assert_eq!(client.say(line), 250);
    }
    assert_eq!(client.say("DATA"), 354);
    client.send(letter.as_bytes());
    client.send(b".\r\n");
    let reply = client.reply();
    assert!(reply.starts_with("250"), "{reply}");
    let taken = bare.wait(1).remove(0);
    assert_eq!(
        taken.below_trace(),
        "Message-ID: <1@shop.example>\r\nSubject: a\r\nMIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC=C3=9Fe =3D 1\r\n"
    );
    relay.log.wait("the conversion", |line| line.contains("converted=\"quoted-printable\""));
    let deadline = std::time::Instant::now() + support::PATIENCE;
    loop {
        let found = relay.command(&["evidence", "find", "--message-id", "<1@shop.example>", "--json"]);
        let found = String::from_utf8_lossy(&found.stdout).into_owned();
        if found.contains("\"converted\":true") {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{found}");
    }
    // Several copies: each is converted, and one in ASCII is not.
    let reply = client.message("a@shop.example", &["ann@home.example"], "Subject: a\n\nb\n");
    assert!(reply.starts_with("250"), "{reply}");
    let taken = bare.wait(2).remove(1);
    assert_eq!(taken.below_trace(), "Subject: a\r\n\r\nb\r\n");
    relay.log.wait_for(2, "both", |line| line.contains("result=\"accepted\""));
    assert_eq!(relay.log.all().iter().filter(|line| line.contains("converted=")).count(), 1);
}

#[test]
fn what_is_signed_is_not_converted() {
    let bare = next_hop("PIPELINING\nSIZE 1000000");
    let relay = relay(&hop("one", bare.port));
    let mut client = Client::greeted(relay.port);
    for line in ["MAIL FROM:<a@shop.example>", "RCPT TO:<ann@home.example>"] {
        assert_eq!(client.say(line), 250);
    }
    assert_eq!(client.say("DATA"), 354);
    client.send(b"DKIM-Signature: v=1\r\nSubject: a\r\n\r\n\xc3\xa9\r\n.\r\n");
    let reply = client.reply();
    assert!(reply.starts_with("554 5.6.3"), "{reply}");
    assert_eq!(bare.count(), 0);
}

/// Sends to somebody who wants no notification, and to somebody who said nothing of it.
fn send_never(relay: &Relay) -> String {
    let mut client = Client::greeted(relay.port);
    assert_eq!(client.say("MAIL FROM:<a@shop.example>"), 250);
    assert_eq!(client.say("RCPT TO:<ann@home.example> NOTIFY=NEVER"), 250);
    assert_eq!(client.say("RCPT TO:<ben@home.example>"), 250);
    assert_eq!(client.say("DATA"), 354);
    client.send(b"Subject: a\r\n\r\nb\r\n.\r\n");
    client.reply()
}

/// Who got what by which sender, in the order of recipients.
fn paths(hop: &NextHop, count: usize) -> Vec<(String, String)> {
    let taken = hop.wait(count);
    let mut paths: Vec<(String, String)> =
        taken.iter().flat_map(|one| one.rcpts.iter().map(|to| (to.clone(), one.mail.clone()))).collect();
    paths.sort();
    paths
}

fn path(to: &str, from: &str) -> (String, String) {
    (format!("RCPT TO:<{to}@home.example>"), format!("MAIL FROM:<{from}>"))
}

#[test]
fn who_wants_no_notification_gets_the_mail_with_an_empty_path_where_the_next_hop_lacks_dsn() {
    let bare = next_hop("PIPELINING");
    let relay = relay(&hop("one", bare.port));
    let reply = send_never(&relay);
    assert!(reply.starts_with("250"), "{reply}");
    assert_eq!(paths(&bare, 2), [path("ann", ""), path("ben", "a@shop.example")]);
}

#[test]
fn a_next_hop_with_dsn_is_told_the_sender_of_everybodys_mail() {
    let plenty = next_hop(PLENTY);
    let relay = relay(&hop("one", plenty.port));
    assert!(send_never(&relay).starts_with("250"));
    let taken = plenty.wait(1).remove(0);
    assert_eq!((taken.mail.as_str(), taken.rcpts.len()), ("MAIL FROM:<a@shop.example>", 2));
    assert!(taken.rcpts[0].ends_with("NOTIFY=NEVER"), "{:?}", taken.rcpts);
}

#[test]
fn where_an_empty_path_is_refused_the_mail_goes_with_its_sender() {
    let bare = next_hop("PIPELINING");
    // The session's own announcement, and that of the copy for the other one, come before.
    bare.set(&[
        (Step::Mail, Answer::Say("250 2.1.0 Sender ok")),
        (Step::Mail, Answer::Say("250 2.1.0 Sender ok")),
        (Step::Mail, Answer::Say("550 5.7.1 No bounces here")),
    ]);
    let relay = relay(&hop("one", bare.port));
    let reply = send_never(&relay);
    assert!(reply.starts_with("250"), "{reply}");
    assert_eq!(paths(&bare, 2), [path("ann", "a@shop.example"), path("ben", "a@shop.example")]);
}
