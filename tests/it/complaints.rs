//! What people complain about in comparable relays, one test for each complaint that no other suite has a
//! test for. Where the others are:
//!
//! | complaint | test |
//! |---|---|
//! | SMTPUTF8 lost, bounces that nobody can deliver | `relay::internationalised_mail_is_refused_where_the_next_hop_does_not_take_it` |
//! | parameters of RCPT and MAIL lost | `relay::parameters_are_passed_on_as_far_as_the_next_hop_has_them` |
//! | a reused connection that had said 421 | `relay::a_waiting_connection_that_was_closed_costs_nobody_a_deferral` |
//! | a next hop's connections used up | `next_hops::a_next_hop_has_no_more_connections_than_it_may` |
//! | a service throttles half a campaign away | `next_hops::more_than_a_next_hop_may_be_sent_is_put_off_before_its_message_is_taken` |
//! | trouble of the network reported as 554 | `faults::trouble_with_the_next_hop_is_never_a_rejection` |
//! | a client's patience ends first | `groups::when_time_is_up_the_client_hears_of_it_and_what_was_not_sent_is_not_sent` |
//! | an edit behind the signer | `relay::a_signature_that_would_break_goes_or_the_message_does_and_one_that_holds_stays` |
//! | garbled boundaries and types | `splice::`, `carriers::` |
//! | smuggling | `smuggling::` |
//! | certificates need a restart | `certificates::a_new_certificate_is_used_without_ending_sessions_and_one_that_does_not_fit_is_not` |
//! | TLS not verified, or clear text instead | `next_hop_certificates::`, `faults::no_starttls_defers_where_tls_is_required` |
//! | what was said before STARTTLS is kept | `faults::a_reply_injected_before_tls_defers`, `faults::commands_behind_starttls_are_dropped_with_the_session` |
//! | the client's address is lost | `postfix::a_next_hop_that_is_postfix_knows_the_client_before_us`, `listener::` |
//! | PROXY headers and buffers without bounds | `listener::whoever_names_no_client_is_dropped_without_a_word`, `malformed::memory_for_messages_is_bounded` |
//! | a restart kills mail on its way | `relay::sigterm_lets_a_message_finish_and_turns_idle_sessions_away`, `lifecycle::` |
//! | loops | `relay::a_message_in_circles_is_rejected` |

use crate::mta::sink::Sink;
use crate::support::{Answer, Behaviour, Client, NextHop, Relay, Step, crlf, newsletter, stuffed};

const FROM: &str = "news@shop.example";
const TO: &str = "eve@home.example";

/// A message with this HTML, quoted-printable as it stands.
fn html(body: &str) -> String {
    format!(
        "From: {FROM}\nTo: {TO}\nSubject: News\nMIME-Version: 1.0\nContent-Type: text/html; charset=utf-8\n\
         Content-Transfer-Encoding: quoted-printable\n\n{body}\n"
    )
}

/// What of a message reaches the next hop, below our trace header.
fn relayed(message: &str) -> String {
    let hop = NextHop::start();
    let relay = Relay::start(hop.port);
    let reply = Client::greeted(relay.port).message(FROM, &[TO], message);
    assert!(reply.starts_with("250"), "{reply}");
    hop.wait(1)[0].below_trace()
}

#[test]
fn no_1_mail_with_8_bit_text_is_announced_and_passes_unchanged() {
    let hop = NextHop::start();
    let relay = Relay::start(hop.port);
    let mut client = Client::connect(relay.port);
    assert_eq!(client.code(), 220);
    assert!(client.ask("EHLO client.example").contains("-8BITMIME\r\n"));
    let message = "Subject: a\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\
                   Content-Transfer-Encoding: 8bit\n\nGrüße, déjà vu\n";
    assert_eq!(client.say("MAIL FROM:<news@shop.example> BODY=8BITMIME"), 250);
    assert_eq!(client.say("RCPT TO:<eve@home.example>"), 250);
    assert_eq!(client.say("DATA"), 354);
    client.send(stuffed(message).as_bytes());
    assert_eq!(client.code(), 250);
    let delivery = &hop.wait(1)[0];
    assert!(delivery.mail.contains("BODY=8BITMIME"), "{}", delivery.mail);
    assert_eq!(delivery.below_trace(), crlf(message));
}

#[test]
fn no_3_and_4_what_we_do_not_implement_is_not_announced_whatever_the_next_hop_has() {
    let hop = NextHop::with(Behaviour {
        keywords: Some(
            "PIPELINING\nSIZE \
             60000000\n8BITMIME\nSMTPUTF8\nDSN\nCHUNKING\nBINARYMIME\nREQUIRETLS\nETRN\nVRFY\nBURL\nDELIVERBY\nX-ODD",
        ),
        ..Behaviour::default()
    });
    let relay = Relay::start(hop.port);
    // What the next hop has is known from the first message on.
    assert!(Client::greeted(relay.port).message(FROM, &[TO], "Subject: a\n\nb\n").starts_with("250"));
    let mut client = Client::connect(relay.port);
    assert_eq!(client.code(), 220);
    let announced = client.ask("EHLO client.example");
    let mut words: Vec<&str> =
        announced.lines().skip(1).map(|line| line[4..].split(' ').next().unwrap()).collect();
    words.sort_unstable();
    assert_eq!(
        words,
        ["8BITMIME", "DSN", "ENHANCEDSTATUSCODES", "LIMITS", "PIPELINING", "PRDR", "SIZE", "SMTPUTF8"]
    );
    assert_eq!(client.say("MAIL FROM:<news@shop.example>"), 250);
    assert_eq!(client.say("RCPT TO:<eve@home.example>"), 250);
    assert_eq!(client.say("BDAT 3 LAST"), 502);
}

#[test]
fn no_6_one_refused_recipient_costs_the_others_nothing() {
    let sink = Sink::start();
    sink.rule(Step::Rcpt, "ben@", Answer::Say("550 5.1.1 No such user"), 1);
    let relay = Relay::start(sink.port);
    let mut client = Client::greeted(relay.port);
    client.send(
        b"MAIL FROM:<news@shop.example>\r\nRCPT TO:<ann@home.example>\r\nRCPT TO:<ben@home.example>\r\nRCPT \
          TO:<eve@home.example>\r\nDATA\r\n",
    );
    let codes: Vec<u16> = (0..5).map(|_| client.code()).collect();
    assert_eq!(codes, [250, 250, 550, 250, 354]);
    client.send(b"Subject: a\r\n\r\nb\r\n.\r\n");
    assert_eq!(client.code(), 250);
    assert_eq!(sink.taken()[0].to, ["ann@home.example", "eve@home.example"]);
}

#[test]
fn no_7_data_without_a_recipient_is_refused_on_both_sides() {
    let sink = Sink::start();
    let relay = Relay::start(sink.port);
    let mut client = Client::greeted(relay.port);
    // Pipelined: every recipient is refused, and DATA stands behind.
    sink.rule(Step::Rcpt, "", Answer::Say("550 5.1.1 No such user"), 1);
    client.send(b"MAIL FROM:<news@shop.example>\r\nRCPT TO:<ann@home.example>\r\nDATA\r\nNOOP\r\n");
    let codes: Vec<u16> = (0..4).map(|_| client.code()).collect();
    assert_eq!(codes[..2], [250, 550]);
    assert!(matches!(codes[2], 503 | 554), "{codes:?}");
    assert_eq!(codes[3], 250);
    // Accepted first and refused when asked again: nothing is handed over.
    assert_eq!(client.say("RSET"), 250);
    assert_eq!(client.say("MAIL FROM:<news@shop.example>"), 250);
    assert_eq!(client.say("RCPT TO:<ann@home.example>"), 250);
    assert_eq!(client.say("DATA"), 354);
    sink.rule(Step::Rcpt, "", Answer::Say("550 5.1.1 No such user"), 1);
    sink.hang_up();
    client.send(b"Subject: a\r\n\r\nb\r\n.\r\n");
    assert_eq!(client.reply(), "550 5.1.1 No such user\r\n");
    assert_eq!(client.say("NOOP"), 250);
    assert!(!sink.said().iter().any(|line| line == "DATA"), "{:?}", sink.said());
}

#[test]
fn no_9_and_10_a_connection_carries_so_many_messages_and_is_not_kept_for_long() {
    let hop = NextHop::start();
    let relay = Relay::with(hop.port, "", "max_messages = 2\nidle_s = 1", "");
    let connections = || hop.connections.load(std::sync::atomic::Ordering::SeqCst);
    let mut client = Client::greeted(relay.port);
    let mut send = || assert!(client.message(FROM, &[TO], "Subject: a\n\nb\n").starts_with("250"));
    // One connection looks at start what the next hop has, and serves too.
    send();
    let first = connections();
    (0..3).for_each(|_| send());
    assert_eq!(connections(), first + 1, "a new connection after two messages");
}

#[test]
fn no_14_a_large_message_passes_whole() {
    let line = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5ejAxMjM0NTY3";
    let attachment: String = std::iter::repeat_n(line, 330_000).flat_map(|line| [line, "\n"]).collect();
    let (with, _) = newsletter(TO);
    let part = |html: &str| {
        let (head, body) = html.split_once("\n\n").unwrap();
        let kind = head.lines().find(|line| line.starts_with("Content-Type")).unwrap();
        format!(
            "From: {FROM}\nTo: {TO}\nSubject: Large\nMIME-Version: 1.0\nContent-Type: multipart/mixed; \
             boundary=\"outer\"\n\n\
             --outer\n{kind}\n\n{body}\n--outer\nContent-Type: \
             application/octet-stream\nContent-Transfer-Encoding: base64\n\n{attachment}--outer--\n"
        )
    };
    let message = part(&with);
    assert!(message.len() > 25 << 20);
    let relayed = relayed(&message);
    assert_eq!(relayed.len() + crlf(&with).len(), crlf(&message).len() + crlf(&newsletter(TO).1).len());
    assert!(relayed.ends_with(&crlf(&format!("{attachment}--outer--\n"))));
}

#[test]
fn no_16_and_19_an_edit_beside_broken_lines_of_quoted_printable_changes_nothing_else() {
    // A letter whose bytes stand on two lines, right before and right behind the pixel, and lines of every
    // allowed length.
    let pixel = "<img src=3D\"https://click.shop.example/wf/open?upn=3Du001.Zk3Qw9XvT2aB7LmN=\n8pRsYd4HcJ6\" \
                 width=3D\"1\" height=3D\"1\" alt=3D\"\">";
    let kept = "<img width=3D\"1\" height=3D\"1\" alt=3D\"\">";
    let body =
        |pixel: &str| html(&format!("<p>caf=C3=\n=A9</p>{pixel}<p>=E2=\n=82=\n=AC {}</p>", "x".repeat(60)));
    let after = relayed(&body(pixel));
    assert_eq!(after, crlf(&body(kept)));
    let longest = |text: &str| text.lines().map(str::len).max();
    assert!(longest(&after) <= longest(&body(pixel)), "no line grew");
}

#[test]
fn no_18_dots_and_long_lines_pass_as_they_are() {
    let message = format!("Subject: a\n\n.\n..\n.a\n{}\n{}\n", ".".repeat(3000), "x".repeat(100_000));
    assert_eq!(relayed(&message), crlf(&message));
}

#[test]
fn no_21_signed_mail_passes_unchanged() {
    let message = "From: a@shop.example\nSubject: a\nDKIM-Signature: v=1; a=rsa-sha256; c=simple/simple; \
                   d=shop.example; s=a;\n\
                   \th=From:Subject; bh=AAAA; b=BBBB\nMIME-Version: 1.0\nContent-Type: \
                   text/html\n\n<p>A  letter </p> \n\n\n";
    assert_eq!(relayed(message), crlf(message));
}

#[test]
fn no_22_we_greet_with_a_name_that_others_take() {
    let sink = Sink::start();
    let relay = Relay::start(sink.port);
    assert!(Client::greeted(relay.port).message(FROM, &[TO], "Subject: a\n\nb\n").starts_with("250"));
    let greeting = sink.said().into_iter().find_map(|line| line.strip_prefix("EHLO ").map(str::to_owned));
    let name = greeting.unwrap();
    let is_address = name.starts_with('[') && name.ends_with(']');
    assert!(is_address || (name.contains('.') && !name.starts_with("localhost")), "{name}");
    let named = Relay::with(sink.port, "", "", "[relay]\nhost_name = \"relay.sender.example\"");
    assert!(Client::greeted(named.port).message(FROM, &[TO], "Subject: a\n\nb\n").starts_with("250"));
    assert!(sink.said().iter().any(|line| line == "EHLO relay.sender.example"));
}

#[test]
fn no_26_the_next_hops_id_is_in_the_reply_and_in_the_log() {
    let hop = NextHop::start();
    let relay = Relay::start(hop.port);
    let reply = Client::greeted(relay.port).message(FROM, &[TO], "Subject: a\n\nb\n");
    assert_eq!(reply, "250 2.0.0 Ok: queued as NEXTHOP1\r\n");
    let line = relay.log.wait("the outcome", |line| line.contains("queued as NEXTHOP1"));
    assert!(line.contains("result=\"accepted\""), "{line}");
}

#[test]
fn no_31_rset_is_said_only_after_what_was_given_up() {
    let sink = Sink::start();
    let relay = Relay::start(sink.port);
    let mut client = Client::greeted(relay.port);
    for _ in 0..3 {
        assert!(client.message(FROM, &[TO], "Subject: a\n\nb\n").starts_with("250"));
    }
    assert!(!sink.said().iter().any(|line| line == "RSET"), "{:?}", sink.said());
    assert_eq!(client.say("MAIL FROM:<news@shop.example>"), 250);
    assert_eq!(client.say("RSET"), 250);
    sink.wait_for_line("RSET");
}

#[test]
fn no_32_every_accepted_recipient_ends_in_exactly_one_logged_outcome() {
    let sink = Sink::start();
    // Taken, put off, rejected; in one copy and in two.
    sink.rule(Step::Dot, "defer@", Answer::Say("451 4.2.0 Not now"), 9);
    sink.rule(Step::Dot, "never@", Answer::Say("554 5.7.1 No"), 9);
    sink.rule(Step::Dot, "lost@", Answer::HangUp, 9);
    let relay = Relay::start(sink.port);
    relay.say("ann@home.example", "granted");
    let (with, _) = newsletter(TO);
    let mut expected = 0;
    for to in [
        &["eve@home.example"][..],
        &["defer@home.example"],
        &["never@home.example"],
        &["lost@home.example"],
        &["ann@home.example", "eve@home.example", "bob@home.example"],
        &["ann@home.example", "defer@home.example"],
        &["ann@home.example", "never@home.example"],
        &["ann@home.example", "lost@home.example"],
    ] {
        let with = with.replace("<1@shop.example>", &format!("<{expected}@shop.example>"));
        Client::greeted(relay.port).message(FROM, to, &with);
        expected += to.len();
    }
    let is_outcome = |line: &str| line.contains(" message id=") || line.contains("message id=");
    relay.log.wait_for(expected, "an outcome", is_outcome);
    let mut lines: Vec<(String, String)> = Vec::new();
    let word = |line: &str, name: &str| {
        line.split(&format!("{name}=")).nth(1).unwrap().split(' ').next().unwrap().to_owned()
    };
    for line in relay.log.all().iter().filter(|line| is_outcome(line)) {
        lines.push((word(line, " id"), word(line, "person")));
    }
    assert_eq!(lines.len(), expected);
    lines.sort();
    lines.dedup();
    assert_eq!(lines.len(), expected, "one line for each recipient of each message");
}
