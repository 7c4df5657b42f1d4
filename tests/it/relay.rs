//! The relay from outside: enforcement, transparency, and what it says when something is wrong.

use crate::support;
use crate::support::{Answer, Behaviour, Client, NextHop, Relay, Step, crlf, newsletter};

#[test]
fn who_agreed_gets_the_message_as_it_came_and_who_did_not_gets_it_without_the_pixel() {
    let hop = NextHop::start();
    let relay = Relay::start(hop.port);
    relay.say("ann@home.example", "granted");
    relay.say("bob@home.example", "refused");
    let mut client = Client::greeted(relay.port);
    for (number, (to, keeps)) in
        [("Ann@Home.example", true), ("bob@home.example", false), ("eve@home.example", false)]
            .into_iter()
            .enumerate()
    {
        let (with, without) = newsletter(to);
        let reply = client.message("news@shop.example", &[to], &with);
        assert_eq!(reply, "250 2.0.0 Ok: queued as NEXTHOP1\r\n");
        let delivery = hop.wait(number + 1).pop().unwrap();
        assert_eq!(delivery.below_trace(), crlf(if keeps { &with } else { &without }), "{to}");
    }
}

#[test]
fn each_of_several_recipients_gets_what_that_recipient_said() {
    let hop = NextHop::start();
    let relay = Relay::start(hop.port);
    relay.say("ann@home.example", "granted");
    let (with, without) = newsletter("list@shop.example");
    let mut client = Client::greeted(relay.port);
    client.message("news@shop.example", &["ann@home.example", "eve@home.example"], &with);
    for delivery in hop.wait(2) {
        match delivery.rcpts[..] {
            [ref to] if to.contains("ann@") => assert_eq!(delivery.below_trace(), crlf(&with)),
            [ref to] if to.contains("eve@") => assert_eq!(delivery.below_trace(), crlf(&without)),
            _ => unreachable!("a copy for {:?}", delivery.rcpts),
        }
    }
}

#[test]
fn a_withdrawal_holds_for_the_next_message() {
    let hop = NextHop::start();
    let relay = Relay::start(hop.port);
    let (with, without) = newsletter("ann@home.example");
    let mut client = Client::greeted(relay.port);
    relay.say("ann@home.example", "granted");
    client.message("news@shop.example", &["ann@home.example"], &with);
    relay.say("ann@home.example", "withdrawn");
    client.message("news@shop.example", &["ann@home.example"], &with);
    let deliveries = hop.wait(2);
    assert_eq!(deliveries[0].below_trace(), crlf(&with));
    assert_eq!(deliveries[1].below_trace(), crlf(&without));
}

#[test]
fn observe_leaves_the_message_as_it_came_and_says_what_would_be_done() {
    let hop = NextHop::start();
    let relay = Relay::with(hop.port, "", "", "mode = \"observe\"");
    let (with, _) = newsletter("eve@home.example");
    Client::greeted(relay.port).message("news@shop.example", &["eve@home.example"], &with);
    assert_eq!(hop.wait(1)[0].below_trace(), crlf(&with));
    let line = relay.log.wait("the decision", |line| line.contains("decision=\"strip\""));
    assert!(line.contains("done=\"keep\"") && line.contains("found=1"), "{line}");
}

#[test]
fn the_log_has_no_address() {
    let hop = NextHop::start();
    let relay = Relay::start(hop.port);
    let (with, _) = newsletter("secret.person@home.example");
    Client::greeted(relay.port).message("news@shop.example", &["secret.person@home.example"], &with);
    hop.wait(1);
    relay.log.wait("the outcome", |line| line.contains("NEXTHOP1"));
    let log = relay.log.all().join("\n");
    assert!(!log.contains("secret.person") && !log.contains("news@shop"), "{log}");
}

#[test]
fn replies_of_the_next_hop_pass_word_for_word() {
    let hop = NextHop::start();
    let relay = Relay::start(hop.port);
    let mut client = Client::greeted(relay.port);
    hop.set(&[(Step::Rcpt, Answer::Say("550-5.1.1 No such user\r\n550 5.1.1 Really not"))]);
    assert_eq!(client.ask("MAIL FROM:<a@shop.example>"), "250 2.1.0 Sender ok\r\n");
    assert_eq!(client.ask("RCPT TO:<x@home.example>"), "550-5.1.1 No such user\r\n550 5.1.1 Really not\r\n");
    assert_eq!(client.ask("RCPT TO:<ann@home.example>"), "250 2.1.5 Recipient ok\r\n");
    hop.set(&[(Step::Dot, Answer::Say("554 5.7.1 Smells of spam"))]);
    assert_eq!(client.say("DATA"), 354);
    client.send(b"Subject: a\r\n\r\nb\r\n.\r\n");
    assert_eq!(client.reply(), "554 5.7.1 Smells of spam\r\n");
    assert_eq!(hop.wait(1)[0].rcpts, ["RCPT TO:<ann@home.example>"]);
}

#[test]
fn parameters_are_passed_on_as_far_as_the_next_hop_has_them() {
    let hop = NextHop::start();
    let relay = Relay::start(hop.port);
    let mut client = Client::greeted(relay.port);
    client.say("MAIL FROM:<a@shop.example> SIZE=20 BODY=8BITMIME RET=HDRS ENVID=abc");
    client.say("RCPT TO:<ann@home.example> NOTIFY=FAILURE ORCPT=rfc822;ann+2B@home.example");
    client.say("DATA");
    client.send(b"Subject: \xc3\xa9\r\n\r\n\r\n.\r\n");
    assert_eq!(client.code(), 250);
    let delivery = hop.wait(1).remove(0);
    assert_eq!(delivery.mail, "MAIL FROM:<a@shop.example> SIZE=20 BODY=8BITMIME RET=HDRS ENVID=abc");
    assert_eq!(
        delivery.rcpts,
        ["RCPT TO:<ann@home.example> NOTIFY=FAILURE ORCPT=rfc822;ann+2B@home.example"]
    );

    let bare = NextHop::with(Behaviour { at: vec![], keywords: Some("HELP") });
    let relay = Relay::start(bare.port);
    let mut client = Client::greeted(relay.port);
    client.message("a@shop.example", &["ann@home.example"], "Subject: a\n\nb\n");
    assert!(!client.ask("EHLO again.example").contains("DSN"));
    client.say("MAIL FROM:<a@shop.example> BODY=8BITMIME");
    client.say("RCPT TO:<ann@home.example>");
    client.say("DATA");
    client.send(b"Subject: \xc3\xa9\r\n\r\n\r\n.\r\n");
    assert!(client.reply().starts_with("554 5.6.3"));
    assert_eq!(bare.wait(1)[0].mail, "MAIL FROM:<a@shop.example>");
}

#[test]
fn internationalised_mail_is_refused_where_the_next_hop_does_not_take_it() {
    let bare = NextHop::with(Behaviour { at: vec![], keywords: Some("8BITMIME") });
    let relay = Relay::start(bare.port);
    let mut client = Client::greeted(relay.port);
    // The first time nothing is known of the next hop, later its keywords are.
    for _ in 0..2 {
        assert!(client.ask("MAIL FROM:<j\u{fc}@shop.example> SMTPUTF8").starts_with("550 5.6.7"));
    }
    // Who says SMTPUTF8 without needing it does not need the next hop to have it.
    assert_eq!(client.say("MAIL FROM:<a@shop.example> SMTPUTF8"), 250);
    assert!(client.ask("RCPT TO:<j\u{fc}@home.example>").starts_with("550 5.6.7"));
    assert_eq!(client.say("RCPT TO:<b@home.example>"), 250);
    assert_eq!(client.say("DATA"), 354);
    client.send(b"Subject: a\r\n\r\nb\r\n.\r\n");
    assert_eq!(client.code(), 250);
    assert_eq!(bare.wait(1)[0].mail, "MAIL FROM:<a@shop.example>");
    assert!(client.message("a@shop.example", &["b@home.example"], "Subject: a\n\nb\n").starts_with("250"));
}

#[test]
fn pipelined_commands_are_answered_in_order() {
    let hop = NextHop::start();
    let relay = Relay::start(hop.port);
    let mut client = Client::connect(relay.port);
    assert_eq!(client.code(), 220);
    hop.set(&[(Step::Rcpt, Answer::Say("250 2.1.5 One")), (Step::Rcpt, Answer::Say("452 4.2.2 Two"))]);
    client.send(
        b"EHLO c.example\r\nMAIL FROM:<a@shop.example>\r\nRCPT TO:<b@home.example>\r\nRCPT \
                  TO:<c@home.example>\r\nNOOP\r\nDATA\r\n",
    );
    let codes: Vec<u16> = (0..6).map(|_| client.code()).collect();
    assert_eq!(codes, [250, 250, 250, 452, 250, 354]);
    client.send(b"Subject: a\r\n\r\nb\r\n.\r\nQUIT\r\n");
    assert_eq!([client.code(), client.code()], [250, 221]);
    assert_eq!(hop.wait(1)[0].rcpts.len(), 1);
}

#[test]
fn a_refused_sender_is_said_once_whatever_was_pipelined_behind() {
    let hop = NextHop::behaving(&[(Step::Mail, Answer::Say("550 5.7.1 Not you"))]);
    let relay = Relay::start(hop.port);
    let mut client = Client::greeted(relay.port);
    client.send(b"MAIL FROM:<a@shop.example>\r\nRCPT TO:<b@home.example>\r\nDATA\r\n");
    assert_eq!(client.reply(), "550 5.7.1 Not you\r\n");
    assert_eq!([client.code(), client.code()], [503, 503]);
    assert!(client.message("c@shop.example", &["b@home.example"], "Subject: a\n\nb\n").starts_with("250"));
}

#[test]
fn a_waiting_connection_that_was_closed_costs_nobody_a_deferral() {
    let hop = NextHop::start();
    let relay = Relay::start(hop.port);
    let mut client = Client::greeted(relay.port);
    client.message("a@shop.example", &["ann@home.example"], "Subject: a\n\nb\n");
    for gone in [Answer::HangUp, Answer::Say("421 4.3.2 Closing")] {
        hop.set(&[(Step::Mail, gone)]);
        let reply = client.message("a@shop.example", &["ann@home.example"], "Subject: a\n\nb\n");
        assert!(reply.starts_with("250"), "{reply}");
    }
    assert_eq!(hop.accepted(), 3);
}

#[test]
fn a_signed_part_with_a_tracker_is_rejected_or_passed_as_configured() {
    let message = "Subject: a\nMIME-Version: 1.0\nContent-Type: multipart/signed; boundary=s; \
                   protocol=\"application/pgp-signature\"\n\n\
        --s\nContent-Type: text/html\n\n<img src=\"https://t.shop.example/wf/open?upn=u001.Zk3Qw9XvT2aB\" \
        width=1 height=1>\n\
        --s\nContent-Type: application/pgp-signature\n\nx\n--s--\n";
    let hop = NextHop::start();
    let relay = Relay::start(hop.port);
    let reply = Client::greeted(relay.port).message("a@shop.example", &["eve@home.example"], message);
    assert!(reply.starts_with("550 5.7.1"), "{reply}");
    assert_eq!(hop.count(), 0);
    let relay = Relay::with(hop.port, "", "", "[policy]\nprotected = \"pass\"");
    Client::greeted(relay.port).message("a@shop.example", &["eve@home.example"], message);
    assert_eq!(hop.wait(1)[0].below_trace(), crlf(message));
}

#[test]
fn a_signature_that_would_break_goes_or_the_message_does_and_one_that_holds_stays() {
    use pixelward::message::transfer::encode_base64;
    use pixelward::sign::canonical::{BodyForm, body_hash};
    let signed = |message: &str| {
        let message = crlf(message);
        let (_, body) = message.split_once("\r\n\r\n").unwrap();
        let hash = encode_base64(body_hash(body.as_bytes(), BodyForm::Relaxed, None).as_ref());
        let field = format!(
            "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=shop.example; \
             s=a;\n\th=From:To:Subject; bh={hash};\n\tb=AAAA\n"
        );
        format!("{field}{}", message.replace("\r\n", "\n"))
    };
    let hop = NextHop::start();
    let relay = Relay::start(hop.port);
    let (with, without) = newsletter("eve@home.example");
    let mut client = Client::greeted(relay.port);
    client.message("news@shop.example", &["eve@home.example"], &signed(&with));
    client.message("news@shop.example", &["eve@home.example"], &signed(&without));
    let deliveries = hop.wait(2);
    assert_eq!(deliveries[0].below_trace(), crlf(&without));
    assert_eq!(deliveries[1].below_trace(), crlf(&signed(&without)));
    relay.log.wait("the hint", |line| line.contains("breaks a DKIM signature"));
    let relay = Relay::with(hop.port, "", "", "[dkim]\non_broken = \"reject\"");
    let reply =
        Client::greeted(relay.port).message("news@shop.example", &["eve@home.example"], &signed(&with));
    assert!(reply.starts_with("550 5.7.7"), "{reply}");
}

#[test]
fn a_message_in_circles_is_rejected() {
    let hop = NextHop::start();
    let relay = Relay::start(hop.port);
    let hops = "Received: from a by b; Mon, 02 Nov 2026 09:00:00 +0000\n".repeat(51);
    let reply =
        Client::greeted(relay.port).message("a@shop.example", &["eve@home.example"], &format!("{hops}\nx\n"));
    assert!(reply.starts_with("554 5.4.6"), "{reply}");
}

#[test]
fn sigterm_lets_a_message_finish_and_turns_idle_sessions_away() {
    let hop = NextHop::start();
    let mut relay = Relay::start(hop.port);
    let mut busy = Client::greeted(relay.port);
    let mut idle = Client::greeted(relay.port);
    busy.say("MAIL FROM:<a@shop.example>");
    busy.say("RCPT TO:<ann@home.example>");
    assert_eq!(busy.say("DATA"), 354);
    relay.signal("TERM");
    assert_eq!(idle.code(), 421);
    busy.send(b"Subject: a\r\n\r\nb\r\n.\r\n");
    assert_eq!(busy.code(), 250);
    assert!(relay.wait().success());
    assert_eq!(hop.accepted(), 1);
}

#[test]
fn sighup_reads_the_configuration_again_and_keeps_the_old_one_when_it_is_wrong() {
    let hop = NextHop::start();
    let relay = Relay::start(hop.port);
    let path = relay.folder.0.join("config.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    let (with, without) = newsletter("eve@home.example");
    let mut client = Client::greeted(relay.port);
    std::fs::write(&path, format!("nonsense = 1\n{config}")).unwrap();
    relay.signal("HUP");
    let line = relay.log.wait("the refusal", |line| line.contains("was not read again"));
    assert!(line.contains("unknown setting nonsense"), "{line}");
    client.message("news@shop.example", &["eve@home.example"], &with);
    std::fs::write(&path, format!("mode = \"observe\"\n{config}")).unwrap();
    relay.signal("HUP");
    relay.log.wait("the reload", |line| line.contains("were read again"));
    client.message("news@shop.example", &["eve@home.example"], &with);
    let deliveries = hop.wait(2);
    assert_eq!(deliveries[0].below_trace(), crlf(&without));
    assert_eq!(deliveries[1].below_trace(), crlf(&with));
}

#[test]
fn metrics_and_health_are_served_to_this_machine() {
    let hop = NextHop::start();
    let folder = support::Folder::new();
    let path = support::configuration(&folder, hop.port, "", "", "");
    let port = support::free_port();
    let config = std::fs::read_to_string(&path).unwrap();
    let private = format!("[private]\naddress = \"127.0.0.1:{port}\"");
    std::fs::write(&path, config.replace("[private]\naddress = \"\"", &private)).unwrap();
    let relay = Relay::in_folder(folder);
    let (with, _) = newsletter("eve@home.example");
    Client::greeted(relay.port).message("news@shop.example", &["eve@home.example"], &with);
    hop.wait(1);
    relay.log.wait("the outcome", |line| line.contains("NEXTHOP1"));
    assert!(support::get(port, "/healthz").ends_with("ok\n"));
    assert!(support::get(port, "/readyz").ends_with("ready\n"));
    let metrics = support::get(port, "/metrics");
    for line in [
        "pixelward_messages_total{result=\"accepted\"} 1",
        "pixelward_trackers_removed_total 1",
        "pixelward_in_flight_bytes ",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    assert!(!metrics.contains("eve@"));
}

#[test]
fn wrong_settings_stop_the_start_all_at_once() {
    let folder = support::Folder::new();
    let path = folder.file("config.toml", "mode = \"maybe\"\n[next_hop]\nport = 0\n[listner]\n");
    let output = support::program().args(["run", "--config"]).arg(path).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    for part in ["line 1", "line 3", "line 4", "unknown setting listner"] {
        assert!(said.contains(part), "{said}");
    }
}
