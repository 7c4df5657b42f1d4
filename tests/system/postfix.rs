//! Real Postfix on both sides: one that uses the relay as its relayhost, and one that is the next hop. Needs
//! root and the package postfix; `make test` installs it. Each instance lives in a folder of its own, on
//! ports of its own.

use crate::mta::{Mta, Postfix};
use crate::support;
use crate::support::{Answer, Behaviour, Client, Folder, NextHop, Relay, Step, crlf, free_port, newsletter};

/// A Postfix whose relayhost is the relay.
fn client_of(relay: &Relay) -> Postfix {
    Postfix::start(&format!("relayhost = [127.0.0.1]:{}", relay.port))
}

/// A Postfix that takes mail for home.example into boxes.
fn receiver(settings: &str) -> Postfix {
    Postfix::start(&format!(
        "virtual_mailbox_domains = home.example\nvirtual_mailbox_maps = static:all/\n{settings}"
    ))
}

fn send(postfix: &Postfix, to: &[&str], message: &str) {
    let reply = Client::greeted(postfix.port).message("news@shop.example", to, message);
    assert!(reply.starts_with("250"), "{reply}");
}

/// What stands below the trace header of the sending Postfix: the mail as it was written.
fn as_written(mail: &str) -> String {
    let mail = mail.replace("\r\n", "\n");
    let (_, below) = mail.split_once("(pixelward) with ESMTP").expect("our trace header");
    let (_, below) =
        below.split_once("by mta.example (Postfix)").expect("the sending Postfix's trace header");
    let start = below.find("\nFrom: ").expect("the mail's first field") + 1;
    below[start..].to_owned()
}

#[test]
fn each_recipient_gets_what_that_recipient_agreed_to() {
    let next = receiver("");
    let relay = Relay::start(next.port);
    relay.say("ann@home.example", "granted");
    relay.say("bob@home.example", "refused");
    let sender = client_of(&relay);
    let (with, without) = newsletter("reader@home.example");
    for (number, (to, wanted)) in
        [("ann@home.example", &with), ("bob@home.example", &without)].into_iter().enumerate()
    {
        send(&sender, &[to], &with);
        let line = sender.line(&[&format!("to=<{to}>"), "status=sent"]);
        assert!(line.contains("queued as"), "the next hop's queue id reaches the log: {line}");
        let mails = next.mails("all", number + 1);
        let mail = mails
            .iter()
            .find(|mail| mail.contains(&format!("Delivered-To: {to}")))
            .expect("a mail for the recipient");
        assert_eq!(&as_written(mail), wanted, "{to}");
    }
}

#[test]
fn the_id_that_postfix_has_for_a_message_stands_beside_the_decision() {
    let next = NextHop::start();
    let relay = Relay::with(next.port, "xforward_networks = [\"127.0.0.1\"]", "", "");
    let sender =
        Postfix::start(&format!("relayhost = [127.0.0.1]:{}\nsmtp_send_xforward_command = yes", relay.port));
    send(&sender, &["eve@home.example"], &newsletter("eve@home.example").0);
    let line = sender.line(&["to=<eve@home.example>", "status=sent"]);
    let id = line.split("]: ").nth(1).unwrap().split(':').next().unwrap();
    let wanted = format!("forwarded_id=\"{id}\"");
    relay.log.wait(&wanted, |line| line.contains(&wanted));
}

#[test]
fn a_next_hop_that_is_postfix_knows_the_client_before_us() {
    let next = receiver("smtpd_authorized_xforward_hosts = 127.0.0.0/8");
    let relay = Relay::with(next.port, "xforward_networks = [\"127.0.0.1\"]", "", "");
    let mut client = Client::greeted(relay.port);
    assert_eq!(client.say("XFORWARD NAME=mail.shop.example ADDR=192.0.2.7 IDENT=4XQUEUE"), 250);
    let reply = client.message("news@shop.example", &["eve@home.example"], &newsletter("eve@home.example").0);
    assert!(reply.starts_with("250"), "{reply}");
    next.line(&["orig_client=mail.shop.example[192.0.2.7]", "orig_queue_id=4XQUEUE"]);
    // One who tells nothing is the client itself.
    send_over(&relay);
    next.line(&["orig_client=unknown[127.0.0.1]"]);
}

fn send_over(relay: &Relay) {
    let mail = newsletter("eve@home.example").0;
    let reply = Client::greeted(relay.port).message("news@shop.example", &["eve@home.example"], &mail);
    assert!(reply.starts_with("250"), "{reply}");
}

#[test]
fn over_tls_with_a_certificate_of_our_own() {
    let certificates = Folder::new();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificate = certificates.file("next.pem", &made.cert.pem());
    let key = certificates.file("next.key", &made.signing_key.serialize_pem());
    let next = receiver(&format!(
        "smtpd_tls_security_level = encrypt\nsmtpd_tls_cert_file = {}\nsmtpd_tls_key_file = \
         {}\nsmtpd_tls_received_header = yes",
        certificate.display(),
        key.display()
    ));
    let relay = Relay::with(next.port, "", &format!("tls = \"required\"\nca_file = {certificate:?}"), "");
    let sender = client_of(&relay);
    let (with, without) = newsletter("eve@home.example");
    send(&sender, &["eve@home.example"], &with);
    sender.line(&["to=<eve@home.example>", "status=sent"]);
    let mail = next.mails("all", 1).remove(0);
    assert!(mail.contains("using TLSv1.3"), "{mail}");
    assert_eq!(as_written(&mail), without);
}

#[test]
fn what_the_next_hop_says_reaches_the_log_of_postfix_and_decides_there() {
    for (step, reply, status) in [
        (Step::Mail, "452 4.3.1 Mailbox disk full", "deferred"),
        (Step::Mail, "550 5.7.1 Sender not wanted", "bounced"),
        (Step::Rcpt, "450 4.2.1 Come back later", "deferred"),
        (Step::Rcpt, "550 5.1.1 No such user here", "bounced"),
        (Step::Data, "451 4.3.0 Not just now", "deferred"),
        (Step::Data, "554 5.7.0 Never", "bounced"),
        (Step::Dot, "451 4.7.1 Greylisted", "deferred"),
        (Step::Dot, "554 5.7.1 Message refused", "bounced"),
    ] {
        let next = NextHop::behaving(&[(step, Answer::Say(reply))]);
        let relay = Relay::start(next.port);
        let sender = client_of(&relay);
        send(&sender, &["eve@home.example"], &newsletter("eve@home.example").0);
        let line = sender.line(&["to=<eve@home.example>", &format!("status={status}")]);
        assert!(line.contains(reply), "{reply} is not in {line}");
        // A bounce is mail of its own, to the sender.
        let deliveries = next.deliveries.0.lock().unwrap().clone();
        let taken =
            |item: &support::Delivery| item.reply.starts_with('2') && item.rcpts.concat().contains("eve@");
        assert!(!deliveries.iter().any(taken));
    }
}

#[test]
fn a_next_hop_that_was_down_gets_the_mail_once_it_is_back_and_once_only() {
    let port = free_port();
    let relay = Relay::start(port);
    let sender = client_of(&relay);
    let (with, without) = newsletter("eve@home.example");
    send(&sender, &["eve@home.example"], &with);
    let line = sender.line(&["to=<eve@home.example>", "status=deferred"]);
    assert!(line.contains("451 4.4.2"), "{line}");
    let next = NextHop::on(port, Behaviour::default());
    sender.flush();
    sender.line(&["to=<eve@home.example>", "status=sent"]);
    let delivery = next.wait(1).remove(0);
    assert!(
        crlf(&as_written(&String::from_utf8(delivery.data).unwrap()))
            .replace("\r\n..", "\r\n.")
            .contains(&crlf(&without)[20..])
    );
    sender.flush();
    sender.line(&["removed"]);
    assert_eq!(next.count(), 1);
}

#[test]
fn a_postfix_without_8bitmime_and_dsn_gets_7_bit_text_and_empty_paths() {
    let next = receiver("smtpd_discard_ehlo_keywords = 8bitmime, dsn");
    let relay = Relay::start(next.port);
    let mut client = Client::greeted(relay.port);
    let letter = "From: Shop <news@shop.example>\nSubject: a\nMIME-Version: 1.0\n\
                  Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n\
                  Gr\u{fc}\u{df}e\n";
    // The relay learns what its next hop lacks with the first mail.
    for number in 1..=2 {
        assert_eq!(client.say("MAIL FROM:<news@shop.example> BODY=8BITMIME"), 250);
        assert_eq!(client.say("RCPT TO:<ann@home.example> NOTIFY=NEVER"), 250);
        assert_eq!(client.say("RCPT TO:<eve@home.example>"), 250);
        assert_eq!(client.say("DATA"), 354);
        client.send(support::stuffed(letter).as_bytes());
        let reply = client.reply();
        assert!(reply.starts_with("250"), "{reply}");
        let mails = next.mails("all", 2 * number);
        for (to, path) in [("ann", "<>"), ("eve", "<news@shop.example>")] {
            let of = |mail: &&String| mail.contains(&format!("Delivered-To: {to}@home.example"));
            let found: Vec<&String> = mails.iter().filter(of).collect();
            assert_eq!(found.len(), number, "{to}");
            for mail in found {
                assert!(mail.is_ascii() && mail.contains("\nGr=C3=BC=C3=9Fe\n"), "{mail}");
                assert!(mail.contains("\nContent-Transfer-Encoding: quoted-printable\n"), "{mail}");
                assert!(mail.starts_with(&format!("Return-Path: {path}\n")), "{to}: {mail}");
            }
        }
    }
}

#[test]
fn dead_recipients_before_a_postfix_that_hangs_up_after_many_errors_bounce_and_the_good_one_is_served() {
    for transport in ["relayhost = [127.0.0.1]:PORT", "default_transport = lmtp:inet:127.0.0.1:PORT"] {
        let next = receiver(
            "virtual_mailbox_maps = inline:{good@home.example=all/}\nsmtpd_error_sleep_time = 0\n\
             smtpd_reject_unlisted_recipient = yes",
        );
        let protocol = if transport.contains("lmtp") { "protocol = \"lmtp\"" } else { "" };
        let relay = Relay::with(next.port, protocol, "", "");
        let sender = Postfix::start(&transport.replace("PORT", &relay.port.to_string()));
        let dead: Vec<String> = (0..30).map(|number| format!("dead{number}@home.example")).collect();
        let mut people: Vec<&str> = dead.iter().map(String::as_str).collect();
        people.push("good@home.example");
        send(&sender, &people, &newsletter("good@home.example").0);
        // One attempt may end in the middle; the second one ends it.
        sender.line(&["status=bounced"]);
        sender.retry(&["good@home.example".to_owned()]);
        for person in &dead {
            let line = sender.line(&[&format!("to=<{person}>"), "status=bounced"]);
            assert!(line.contains("550 5.1.1"), "{line}");
        }
        assert_eq!(next.mails("all", 1).len(), 1);
    }
}
