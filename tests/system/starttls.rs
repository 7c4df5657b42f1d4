//! STARTTLS of a client: nothing that was said in clear counts behind it, and nothing slips in between (RFC
//! 3207 section 4.2 and 6; threats of the kind of CVE-2011-0411). What a next hop may try is in
//! next_hop_certificates.rs.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::Ordering;

use crate::secure::{Authority, Secure, client_config};
use crate::support::{Client, NextHop, Relay};

fn relay(hop: &NextHop, authority: &Authority, rest: &str) -> Relay {
    let lines = format!("tls = \"starttls\"\n{}\n{rest}", authority.issue("localhost").lines());
    Relay::with(hop.port, &lines, "", "")
}

/// All that comes up to the end of the connection.
fn rest(mut stream: TcpStream) -> String {
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn what_is_piped_behind_starttls_is_neither_executed_nor_answered() {
    let (hop, authority) = (NextHop::start(), Authority::new());
    let mut relay = relay(&hop, &authority, "");
    for piped in [
        &b"MAIL FROM:<evil@shop.example>\r\nRCPT TO:<ann@home.example>\r\nDATA\r\n"[..],
        b"EHLO evil.example\r\nMAIL FROM:<evil@shop.example>\r\n",
        b"STARTTLS\r\n",
        b"NOOP\r\n",
        b"RSET\r\nQUIT\r\n",
        b"X",
        b"\r\n",
        b"\x16\x03\x01\x00\xff",
    ] {
        for case in ["STARTTLS\r\n", "starttls\r\n"] {
            let mut client = Client::greeted(relay.port);
            client.send(&[case.as_bytes(), piped].concat());
            let said = rest(client.into_stream());
            assert!(said.starts_with("503 5.5.0 "), "{piped:?}: {said}");
            assert_eq!(said.matches("\r\n").count(), 1, "nothing but the refusal is said: {said}");
        }
    }
    assert_eq!(hop.connections.load(Ordering::SeqCst), 0);
    assert!(relay.is_running());
}

#[test]
fn what_comes_in_clear_before_the_handshake_ends_the_session() {
    let (hop, authority) = (NextHop::start(), Authority::new());
    let relay = relay(&hop, &authority, "");
    for slipped in ["MAIL FROM:<evil@shop.example>\r\n", "EHLO evil.example\r\n", "\r\n"] {
        let mut client = Client::greeted(relay.port);
        assert_eq!(client.say("STARTTLS"), 220);
        let mut tcp = client.into_stream();
        tcp.write_all(slipped.as_bytes()).unwrap();
        let mut secure = Secure::over(tcp, client_config(&authority.file, None));
        assert_eq!(secure.ask("EHLO client.example"), "", "{slipped:?}");
    }
    relay.log.wait_for(3, "each refusal", |line| line.contains("TLS could not be established"));
    // The handshake may also never come.
    let mut client = Client::greeted(relay.port);
    assert_eq!(client.say("STARTTLS"), 220);
    let tcp = client.into_stream();
    tcp.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(tcp), "");
    assert_eq!(hop.connections.load(Ordering::SeqCst), 0);
}

#[test]
fn the_greeting_in_clear_is_forgotten() {
    let (hop, authority) = (NextHop::start(), Authority::new());
    let relay = relay(&hop, &authority, "");
    let mut client = Client::greeted(relay.port);
    assert_eq!(client.say("STARTTLS"), 220);
    let mut secure = Secure::over(client.into_stream(), client_config(&authority.file, None));
    for line in ["MAIL FROM:<news@shop.example>", "RCPT TO:<ann@home.example>", "DATA"] {
        assert_eq!(secure.say(line), 503, "{line}");
    }
    let announced = secure.ask("EHLO secure.example");
    assert!(announced.starts_with("250-") && !announced.contains("STARTTLS"), "{announced}");
    assert_eq!(secure.say("STARTTLS"), 503);
    assert!(secure.message("news@shop.example", "ann@home.example").starts_with("250 "));
    let trace = String::from_utf8(hop.wait(1).pop().unwrap().data).unwrap();
    assert!(
        trace.starts_with("Received: from secure.example ") && trace.contains("with ESMTPS id"),
        "{trace}"
    );
}

#[test]
fn a_message_begun_in_clear_does_not_go_on_over_tls() {
    let (hop, authority) = (NextHop::start(), Authority::new());
    let relay = relay(&hop, &authority, "");
    let mut client = Client::greeted(relay.port);
    assert_eq!(client.say("MAIL FROM:<evil@shop.example>"), 250);
    assert_eq!(client.say("RCPT TO:<eve@home.example>"), 250);
    assert_eq!(client.say("STARTTLS"), 503, "within a message TLS does not start");
    assert_eq!(client.say("RSET"), 250);
    assert_eq!(client.say("STARTTLS"), 220);
    let mut secure = Secure::over(client.into_stream(), client_config(&authority.file, None));
    assert_eq!(secure.say("EHLO secure.example"), 250);
    assert_eq!([secure.say("RCPT TO:<eve@home.example>"), secure.say("DATA")], [503, 503]);
    assert!(secure.message("news@shop.example", "ann@home.example").starts_with("250 "));
    let delivery = hop.wait(1).pop().unwrap();
    assert_eq!(delivery.rcpts, ["RCPT TO:<ann@home.example>"]);
}

/// A login whose password nobody has.
const USER: &str =
    "ann:$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$6fK4u1JQFx2YzYmCOsUuVYPjTz3eXfQIqYrXlJdO9Eo\n";

#[test]
fn a_login_told_in_clear_is_forgotten_and_none_is_taken_there() {
    let (hop, authority) = (NextHop::start(), Authority::new());
    let users = authority.folder.file("users", USER);
    std::fs::set_permissions(&users, PermissionsExt::from_mode(0o600)).unwrap();
    let lines = format!(
        "users_file = {users:?}\nrequire_login = true\nxclient_networks = [\"127.0.0.1\"]\nxforward_networks \
         = [\"127.0.0.1\"]"
    );
    let relay = relay(&hop, &authority, &lines);
    let mut client = Client::connect(relay.port);
    assert_eq!(client.code(), 220);
    let announced = client.ask("EHLO client.example");
    assert!(!announced.contains("AUTH"), "{announced}");
    assert_eq!(client.say("AUTH PLAIN AGFubgBvcGVu"), 538);
    assert!(client.ask("XCLIENT LOGIN=ann").starts_with("220 "));
    assert_eq!(client.say("EHLO client.example"), 250);
    assert_eq!(client.say("XFORWARD IDENT=CLEAR1"), 250);
    assert_eq!(client.say("MAIL FROM:<news@shop.example>"), 250, "the login that a proxy told counts");
    assert_eq!(client.say("RSET"), 250);
    assert_eq!(client.say("STARTTLS"), 220);
    let mut secure = Secure::over(client.into_stream(), client_config(&authority.file, None));
    let announced = secure.ask("EHLO client.example");
    assert!(announced.contains("AUTH PLAIN LOGIN"), "{announced}");
    assert!(secure.ask("MAIL FROM:<news@shop.example>").starts_with("530 5.7.0 "));
    assert_eq!(hop.count(), 0);
}
