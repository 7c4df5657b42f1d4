//! Input that no client should send: a clear reply or a relayed message, never a panic, never a hang.

use std::io::Write;

use crate::support::{Client, NextHop, Relay};

/// Sends bytes as a message; the reply's code.
fn message(relay: &Relay, bytes: &[u8]) -> u16 {
    let mut client = Client::greeted(relay.port);
    assert_eq!(client.say("MAIL FROM:<a@shop.example>"), 250);
    assert_eq!(client.say("RCPT TO:<eve@home.example>"), 250);
    assert_eq!(client.say("DATA"), 354);
    client.send(bytes);
    client.send(b"\r\n.\r\n");
    client.code()
}

fn is_sound(relay: &mut Relay) {
    assert!(relay.is_running());
    let log = relay.log.all();
    assert!(!log.iter().any(|line| line.contains("panicked")), "{}", log.join("\n"));
}

#[test]
fn commands_that_are_none_get_a_clear_reply() {
    let hop = NextHop::start();
    let mut relay = Relay::with(hop.port, "max_errors = 1000", "", "");
    let mut client = Client::greeted(relay.port);
    for line in [
        &b"\0\0\0"[..],
        b"MAIL FROM:<\xff\xfe@b.example>",
        b"\xf0\x9f\x98\x80 x",
        b"MAIL FROM:<a@b.example> \0",
        b"__proto__:",
        b"EHLO \x1b[31m",
    ] {
        client.send(line);
        client.send(b"\r\n");
        let code = client.code();
        assert!((500..=555).contains(&code), "{line:?}: {code}");
    }
    assert_eq!(client.say("NOOP"), 250);
    is_sound(&mut relay);
}

#[test]
fn a_line_without_end_is_cut_short() {
    let hop = NextHop::start();
    let mut relay = Relay::start(hop.port);
    let mut stream = Client::greeted(relay.port).into_stream();
    let piece = vec![b'a'; 64 * 1024];
    let sent = (0..160).take_while(|_| stream.write_all(&piece).is_ok()).count();
    assert!(sent < 160, "10 MiB were taken without an end");
    is_sound(&mut relay);
}

#[test]
fn too_many_errors_end_the_session() {
    let hop = NextHop::start();
    let relay = Relay::with(hop.port, "max_errors = 5", "", "");
    let mut client = Client::greeted(relay.port);
    for _ in 0..4 {
        assert_eq!(client.say("FOO"), 500);
    }
    client.send(b"FOO\r\n");
    assert_eq!([client.code(), client.code()], [500, 421]);
    assert_eq!(client.reply(), "");
}

#[test]
fn bombs_are_relayed_or_refused() {
    let hop = NextHop::start();
    let mut relay = Relay::start(hop.port);
    let nested: String = (0..10_000)
        .map(|depth| format!("Content-Type: multipart/mixed; boundary=b{depth}\r\n\r\n--b{depth}\r\n"))
        .collect();
    let forwarded = "Content-Type: message/rfc822\r\n\r\n".repeat(40_000);
    let headers = "X-A: b\r\n".repeat(100_000);
    let tags = format!("Content-Type: text/html\r\n\r\n{}", "<div>".repeat(200_000));
    let attributes = format!("Content-Type: text/html\r\n\r\n<img {}>", "a=b ".repeat(500_000));
    let comment = format!("Content-Type: text/html\r\n\r\n<!--{}", "<!--".repeat(300_000));
    let style = format!("Content-Type: text/html\r\n\r\n<style>{}", "a(url(".repeat(200_000));
    let long = format!("Content-Type: text/html\r\n\r\n{}", "a".repeat(10 << 20));
    for (name, bomb, codes) in [
        ("nested multiparts", nested.as_bytes(), &[451][..]),
        ("forwarded messages", forwarded.as_bytes(), &[451]),
        ("headers", headers.as_bytes(), &[250]),
        ("tags", tags.as_bytes(), &[250]),
        ("attributes", attributes.as_bytes(), &[250]),
        ("comment", comment.as_bytes(), &[250]),
        ("style", style.as_bytes(), &[250, 451]),
        ("a line of 10 MiB", long.as_bytes(), &[250]),
        (
            "truncated base64",
            b"Content-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\nPGltZyBzcmM9aHR0cDo=",
            &[250],
        ),
        ("NULs", b"Subject: \0\0\r\n\r\n\0\0\0", &[250]),
        ("nothing", b"", &[250]),
        ("no header", b"hello", &[250]),
    ] {
        let code = message(&relay, bomb);
        assert!(codes.contains(&code), "{name}: {code}");
    }
    let peak = relay.peak_memory();
    assert!(peak < 512 * 1024, "{peak} KiB were used");
    is_sound(&mut relay);
}

#[test]
fn what_is_too_large_is_refused_at_its_end_and_the_session_goes_on() {
    let hop = NextHop::start();
    let relay = Relay::with(hop.port, "max_message_bytes = 65536", "", "");
    let mut client = Client::greeted(relay.port);
    assert_eq!(client.say("MAIL FROM:<a@shop.example> SIZE=65537"), 552);
    assert_eq!(client.say("MAIL FROM:<a@shop.example>"), 250);
    assert_eq!(client.say("RCPT TO:<eve@home.example>"), 250);
    assert_eq!(client.say("DATA"), 354);
    client.send(&b"0123456789\r\n".repeat(10_000));
    client.send(b".\r\n");
    assert_eq!(client.code(), 552);
    assert!(client.message("a@shop.example", &["eve@home.example"], "Subject: a\n\nb\n").starts_with("250"));
    assert_eq!(hop.count(), 1);
}

#[test]
fn memory_for_messages_is_bounded() {
    let hop = NextHop::start();
    let relay = Relay::with(hop.port, "", "", "[relay]\nmax_in_flight_bytes = 1048576");
    assert_eq!(message(&relay, &b"0123456789\r\n".repeat(200_000)), 452);
    assert_eq!(message(&relay, b"Subject: a\r\n\r\nb"), 250);
}

#[test]
fn sessions_of_noise_end_without_harm() {
    let hop = NextHop::start();
    let mut relay = Relay::start(hop.port);
    let words: [&[u8]; 16] = [
        b"EHLO a.example\r\n",
        b"MAIL FROM:<a@b.example>\r\n",
        b"RCPT TO:<c@d.example>\r\n",
        b"DATA\r\n",
        b".\r\n",
        b"\r\n",
        b"RSET\r\n",
        b"\n",
        b"\r",
        b"QUIT\r\n",
        b"\0",
        b"\xff",
        b"STARTTLS\r\n",
        b"BDAT 5 LAST\r\nabcde",
        b"Subject: a\r\n\r\n",
        b"NOOP\r\n",
    ];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..1000 {
        let mut client = Client::connect(relay.port);
        for _ in 0..12 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            if !client.try_send(words[(state % 16) as usize]) {
                break;
            }
        }
        client.close_writing();
        while !client.reply().is_empty() {}
    }
    is_sound(&mut relay);
    assert!(
        Client::greeted(relay.port)
            .message("a@shop.example", &["eve@home.example"], "Subject: a\n\nb\n")
            .starts_with("250")
    );
}
