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
        client.send(b"Subject: a\r\n\r\n\xc3\xa9\r\n.\r\n");
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
