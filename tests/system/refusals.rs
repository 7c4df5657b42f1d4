//! Whatever a recipient was refused with has a line in the log, a count and an audit record, and one command
//! finds them.

use crate::mta::Postfix;
use crate::support;
use crate::support::{Answer, Client, NextHop, Relay, Step, free_port, get, newsletter};

/// The lines of recipients that say this.
fn line(relay: &Relay, parts: &[&str]) -> String {
    let fits = |line: &str| line.contains("message ") && parts.iter().all(|part| line.contains(part));
    relay.log.wait(&format!("{parts:?}"), fits)
}

#[test]
fn each_refusal_has_a_line_with_all_that_an_operator_looks_for() {
    for (step, reply, at, result) in [
        (Step::Mail, "452 4.3.1 Full", Some("mail"), "deferred"),
        (Step::Mail, "550 5.7.1 Not you", Some("mail"), "rejected"),
        (Step::Rcpt, "450 4.2.0 Later", Some("rcpt"), "deferred"),
        (Step::Rcpt, "550 5.1.1 Who", Some("rcpt"), "rejected"),
        (Step::Data, "554 5.7.0 No", None, "rejected"),
        (Step::Dot, "452 4.3.1 Full", None, "deferred"),
    ] {
        let hop = NextHop::behaving(&[(step, Answer::Say(reply))]);
        let relay = Relay::start(hop.port);
        let mut client = Client::greeted(relay.port);
        client.send(b"MAIL FROM:<a@shop.example> SIZE=77\r\nRCPT TO:<ann@home.example>\r\nDATA\r\n");
        let codes: Vec<u16> = (0..3).map(|_| client.code()).collect();
        if codes[2] == 354 {
            client.send(b"Message-ID: <1@shop.example>\r\n\r\nb\r\n.\r\n");
            client.code();
        }
        let next_hop = format!("next_hop=\"localhost:{}\"", hop.port);
        let (reply, result) = (format!("reply=\"{reply}\""), format!("result=\"{result}\""));
        let line =
            line(&relay, &["client=127.0.0.1", "sender_domain=\"shop.example\"", &next_hop, &reply, &result]);
        assert!(line.contains("size=") && line.contains("person=") && line.contains("delays=\"0."), "{line}");
        match at {
            Some(at) => assert!(line.contains(&format!("refused_at=\"{at}\"")), "{line}"),
            None => assert!(!line.contains("refused_at") && line.contains("decision="), "{line}"),
        }
    }
}

#[test]
fn limits_of_ours_and_recipients_behind_a_lost_sender_have_lines_too() {
    let relay = Relay::with(free_port(), "", "", "");
    let mut client = Client::greeted(relay.port);
    for command in ["MAIL FROM:<a@shop.example>", "RCPT TO:<ann@home.example>", "RCPT TO:<ben@home.example>"]
    {
        assert_eq!(client.say(command), 451);
    }
    line(&relay, &["refused_at=\"mail\"", "reply=\"451 4.4.2"]);
    let fits = |line: &str| line.contains("refused_at=\"rcpt\"") && line.contains("result=\"deferred\"");
    relay.log.wait_for(2, "both recipients", fits);
    let hop = NextHop::start();
    let relay = Relay::with(hop.port, "max_message_bytes = 65536", "", "");
    let mut client = Client::greeted(relay.port);
    assert_eq!(client.say("MAIL FROM:<a@shop.example>"), 250);
    assert_eq!(client.say("RCPT TO:<ann@home.example>"), 250);
    assert_eq!(client.say("DATA"), 354);
    client.send(format!("Subject: a\r\n\r\n{}.\r\n", "b\r\n".repeat(40_000)).as_bytes());
    assert_eq!(client.code(), 552);
    line(&relay, &["refused_at=\"data\"", "person=", "reply=\"552 5.3.4"]);
}

#[test]
fn a_next_hop_that_is_away_counts_once_per_mail_and_its_alarm_has_the_id() {
    let port = free_port();
    let private = "[api]\naddress = \"\"\n[relay]\nmax_groups = 2\n";
    let metrics = free_port();
    let folder = support::Folder::new();
    let path = support::configuration(&folder, port, "", "", private);
    let text = std::fs::read_to_string(&path).unwrap();
    let address = format!("[private]\naddress = \"127.0.0.1:{metrics}\"");
    std::fs::write(&path, text.replace("[private]\naddress = \"\"", &address)).unwrap();
    let relay = Relay::in_folder(folder);
    assert_eq!(Client::greeted(relay.port).say("MAIL FROM:<a@shop.example>"), 451);
    let alarm = relay.log.wait("the alarm", |line| line.contains("ERROR"));
    let id = alarm.split(" id=").nth(1).unwrap().split(' ').next().unwrap();
    line(&relay, &[&format!("id={id} "), "refused_at=\"mail\""]);
    let page = get(metrics, "/metrics");
    assert!(page.contains("pixelward_next_hop_errors_total 1\n"), "{page}");
    assert!(page.contains("pixelward_recipients_refused_total{result=\"deferred\"} 1\n"), "{page}");
}

#[test]
fn why_finds_a_message_by_each_of_its_ids_in_log_and_audit_records() {
    let next = Postfix::start(
        "virtual_mailbox_domains = home.example\nvirtual_mailbox_maps = inline:{ann@home.example=all/}",
    );
    let relay = Relay::with(next.port, "xforward_networks = [\"127.0.0.1\"]", "", "");
    let sender =
        Postfix::start(&format!("relayhost = [127.0.0.1]:{}\nsmtp_send_xforward_command = yes", relay.port));
    let letter = newsletter("ann@home.example").0;
    let reply = Client::greeted(sender.port).message(
        "news@shop.example",
        &["ann@home.example", "dead@home.example"],
        &letter,
    );
    assert!(reply.starts_with("250"), "{reply}");
    let sent = sender.line(&["to=<ann@home.example>", "status=sent"]);
    let theirs = sent.split("]: ").nth(1).unwrap().split(':').next().unwrap().to_owned();
    let dead = line(&relay, &["refused_at=\"rcpt\"", "550 5.1.1"]);
    let taken = line(&relay, &["result=\"accepted\""]);
    let field = |line: &str, name: &str| {
        let rest = line.split(&format!(" {name}=")).nth(1).unwrap_or_else(|| panic!("{name} in {line}"));
        rest.split(' ').next().unwrap().trim_matches('"').to_owned()
    };
    let (ours, further) = (field(&taken, "id"), field(&taken, "queue_id"));
    assert_eq!(field(&dead, "id"), ours);
    assert!(sent.contains(&format!("queued as {further}")), "{sent} {taken}");
    // Audit records are written several times a second, at the latest when the relay stops.
    relay.signal("TERM");
    relay.log.wait("the end", |line| line.contains("stopped"));
    let mut relay = relay;
    relay.wait();
    let log = relay.folder.file("relay.log", &relay.log.all().join("\n"));
    for id in [ours.as_str(), &theirs, &further, "<1@shop.example>", "1@shop.example"] {
        let output = relay.command(&["why", id, "--log", log.to_str().unwrap()]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{id}: {said}{}", String::from_utf8_lossy(&output.stderr));
        for part in [
            "log     ",
            "result=\"accepted\"",
            "refused_at=\"rcpt\"",
            "rejected (550)",
            "accepted (250)",
            "not_received",
        ] {
            assert!(said.contains(part), "{part} for {id} in\n{said}");
        }
    }
    let unknown = relay.command(&["why", "4XNOBODY", "--log", log.to_str().unwrap()]);
    assert_eq!(unknown.status.code(), Some(1));
}
