//! One message whose recipients' mail goes different ways, and mail that next hops share by weight.

use crate::mta::grant;
use crate::mta::sink::Sink;
use crate::support::{Answer, Client, Folder, Relay, Step, newsletter, stuffed};

const ANN: &str = "ann@home.example";
const BOB: &str = "bob@inside.example";
const CAT: &str = "cat@sub.inside.example";

fn hop(name: &str, port: u16, more: &str) -> String {
    format!("[[next_hop]]\nname = \"{name}\"\nhost = \"localhost\"\nport = {port}\ntls = \"none\"\n{more}\n")
}

fn relay(listener: &str, rest: &str) -> Relay {
    let folder = Folder::new();
    let data = folder.0.join("data");
    let config = format!(
        "data_directory = {data:?}\ncertificate_directory = {data:?}\n[relay]\nprobe_s = 0\n\
         [policy]\non_grant = \"keep\"\n[[listener]]\naddress = \"127.0.0.1:0\"\ntls = \"none\"\n{listener}\n\
         [private]\naddress = \"\"\n[api]\naddress = \"\"\n[log]\nformat = \"human\"\n{rest}"
    );
    folder.file("config.toml", &config);
    Relay::in_folder(folder)
}

/// Mail for inside.example and what is below it goes one way, all other mail another.
fn two_ways(listener: &str) -> (Relay, Sink, Sink) {
    let (inside, outside) = (Sink::start(), Sink::start());
    let routes = "[[route]]\nrecipient_domain = [\"inside.example\", \".inside.example\"]\nnext_hops = \
                  [\"inside\"]\n[[route]]\nnext_hops = [\"outside\"]\n";
    let hops = [hop("inside", inside.port, ""), hop("outside", outside.port, "")].concat();
    (relay(listener, &format!("{hops}{routes}")), inside, outside)
}

fn send(relay: &Relay, to: &[&str]) -> String {
    Client::greeted(relay.port).message("news@shop.example", to, &newsletter(ANN).0)
}

/// How often the sink accepted something for somebody.
fn times(sink: &Sink, person: &str) -> usize {
    sink.taken().iter().filter(|one| one.accepted && one.to.iter().any(|to| to == person)).count()
}

#[test]
fn each_recipient_gets_the_message_by_the_way_of_its_domain() {
    let (relay, inside, outside) = two_ways("");
    let reply = send(&relay, &[ANN, BOB, CAT]);
    assert!(reply.starts_with("250"), "{reply}");
    assert_eq!([ANN, BOB, CAT].map(|person| times(&inside, person)), [0, 1, 1]);
    assert_eq!([ANN, BOB, CAT].map(|person| times(&outside, person)), [1, 0, 0]);
    // Those of one way share a transaction.
    assert_eq!((inside.taken().len(), outside.taken().len()), (1, 1));
    for (sink, lines) in [(&inside, 2), (&outside, 1)] {
        let hop = format!("next_hop=\"localhost:{}\"", sink.port);
        relay.log.wait_for(lines, &hop, |line| line.contains(&hop) && line.contains("result=\"accepted\""));
    }
    // In one batch, in an order of the client's own.
    let mut client = Client::greeted(relay.port);
    client.send(
        format!("MAIL FROM:<news@shop.example>\r\nRCPT TO:<{BOB}>\r\nRCPT TO:<{ANN}>\r\nRCPT TO:<{CAT}>\r\nDATA\r\n")
            .as_bytes(),
    );
    let codes: Vec<u16> = (0..5).map(|_| client.code()).collect();
    assert_eq!(codes, [250, 250, 250, 250, 354]);
    let other = newsletter(ANN).0.replace("<1@", "<2@");
    client.send(stuffed(&other).as_bytes());
    assert_eq!(client.code(), 250);
    assert_eq!([ANN, BOB, CAT].map(|person| times(&inside, person) + times(&outside, person)), [2, 2, 2]);
}

#[test]
fn a_message_that_goes_one_way_is_announced_once() {
    let (relay, inside, outside) = two_ways("");
    for to in [&[BOB, CAT][..], &[ANN][..]] {
        let reply = send(&relay, to);
        assert!(reply.starts_with("250"), "{reply}");
    }
    for sink in [inside, outside] {
        let said = sink.said();
        assert_eq!(said.iter().filter(|line| line.starts_with("MAIL")).count(), 1, "{said:?}");
    }
}

#[test]
fn who_is_put_off_on_one_way_is_served_by_the_next_attempt_and_nobody_twice() {
    let (relay, inside, outside) = two_ways("");
    inside.rule(Step::Dot, "", Answer::Say("451 4.7.1 Greylisted"), 1);
    let reply = send(&relay, &[ANN, BOB]);
    assert!(reply.starts_with("451"), "{reply}");
    let reply = send(&relay, &[ANN, BOB]);
    assert!(reply.starts_with("250"), "{reply}");
    assert_eq!((times(&outside, ANN), times(&inside, BOB)), (1, 1));
}

#[test]
fn what_one_way_refuses_concerns_its_recipients_alone() {
    let (relay, inside, outside) = two_ways("");
    // The sender is refused there: its recipients hear so, after the sender was accepted.
    inside.rule(Step::Mail, "", Answer::Say("550 5.7.1 Not from you"), 1);
    let mut client = Client::greeted(relay.port);
    assert_eq!(client.say("MAIL FROM:<news@shop.example>"), 250);
    let reply = client.ask(&format!("RCPT TO:<{BOB}>"));
    assert!(reply.starts_with("550 5.7.1 Not from you"), "{reply}");
    assert_eq!(client.say(&format!("RCPT TO:<{ANN}>")), 250);
    // A recipient is refused there.
    inside.rule(Step::Rcpt, "cat@", Answer::Say("550 5.1.1 No such user"), 1);
    let reply = client.ask(&format!("RCPT TO:<{CAT}>"));
    assert!(reply.starts_with("550 5.1.1"), "{reply}");
    assert_eq!(client.say("DATA"), 354);
    client.send(stuffed(&newsletter(ANN).0).as_bytes());
    assert_eq!(client.code(), 250);
    assert_eq!((times(&outside, ANN), inside.taken().len()), (1, 0));
    let hop = format!("next_hop=\"localhost:{}\"", inside.port);
    relay
        .log
        .wait_for(2, "both refusals", |line| line.contains(&hop) && line.contains("refused_at=\"rcpt\""));
    // Without any recipient there is no message.
    inside.rule(Step::Rcpt, "", Answer::Say("550 5.1.1 No such user"), 1);
    assert_eq!(client.say("MAIL FROM:<news@shop.example>"), 250);
    assert_eq!(client.say(&format!("RCPT TO:<{BOB}>")), 550);
    assert!(client.say("DATA") >= 500);
}

#[test]
fn a_bounce_goes_the_way_of_the_sender_and_names_the_next_hop_that_refused() {
    let (relay, inside, outside) = two_ways("");
    inside.rule(Step::Dot, "", Answer::Say("554 5.7.1 Not wanted"), 1);
    let reply = send(&relay, &[BOB, ANN]);
    assert!(reply.starts_with("250"), "{reply}");
    let notice = outside.wait(1, |taken| taken.to == ["news@shop.example".to_owned()]).remove(0);
    let text = String::from_utf8_lossy(&notice.message).into_owned();
    assert!(text.contains(&format!("Final-Recipient: rfc822; {BOB}\r\nAction: failed")), "{text}");
    assert_eq!((times(&outside, ANN), times(&inside, BOB)), (1, 0));
    // A sender inside gets it inside.
    outside.rule(Step::Dot, ANN, Answer::Say("554 5.7.1 Not wanted"), 1);
    let mail = newsletter(ANN).0.replace("<1@", "<2@");
    let reply = Client::greeted(relay.port).message("dan@inside.example", &[BOB, ANN], &mail);
    assert!(reply.starts_with("250"), "{reply}");
    inside.wait(1, |taken| taken.to == ["dan@inside.example".to_owned()]);
}

#[test]
fn an_lmtp_client_hears_of_each_way() {
    let (relay, inside, outside) = two_ways("protocol = \"lmtp\"");
    inside.rule(Step::Dot, "", Answer::Say("451 4.7.1 Greylisted"), 1);
    let mut client = Client::connect(relay.port);
    assert_eq!(client.code(), 220);
    assert_eq!(client.say("LHLO client.example"), 250);
    assert_eq!(client.say("MAIL FROM:<news@shop.example>"), 250);
    for to in [BOB, ANN] {
        assert_eq!(client.say(&format!("RCPT TO:<{to}>")), 250);
    }
    assert_eq!(client.say("DATA"), 354);
    client.send(stuffed(&newsletter(ANN).0).as_bytes());
    assert_eq!([client.code(), client.code()], [451, 250]);
    assert_eq!((times(&outside, ANN), times(&inside, BOB)), (1, 0));
}

#[test]
fn different_choices_on_different_ways_are_all_kept() {
    let (relay, inside, outside) = two_ways("");
    let people = ["ann@home.example", "eve@home.example", "bob@inside.example", "cat@inside.example"];
    grant(&relay, &[people[0].to_owned(), people[2].to_owned()]);
    let reply = send(&relay, &people);
    assert!(reply.starts_with("250"), "{reply}");
    for (sink, yes, no) in [(&outside, people[0], people[1]), (&inside, people[2], people[3])] {
        for (person, is_tracked) in [(yes, true), (no, false)] {
            let taken = sink.taken();
            let copies: Vec<_> = taken.iter().filter(|one| one.accepted && one.to == [person]).collect();
            assert_eq!(copies.len(), 1, "{person}");
            let text = String::from_utf8_lossy(&copies[0].message).into_owned();
            assert_eq!(text.contains("click.shop.example"), is_tracked, "{person}");
        }
    }
}

#[test]
fn next_hops_share_mail_by_weight_and_stand_in_for_each_other() {
    let [three, one, spare] = [Sink::start(), Sink::start(), Sink::start()];
    let hops = [
        hop("spare", spare.port, ""),
        hop("three", three.port, "weight = 3"),
        hop("one", one.port, "weight = 1"),
    ];
    let relay = relay("", &hops.concat());
    let accepted = |sink: &Sink| sink.taken().iter().filter(|taken| taken.accepted).count();
    for _ in 0..12 {
        assert!(send(&relay, &[ANN]).starts_with("250"));
    }
    assert_eq!([&three, &one, &spare].map(accepted), [9, 3, 0]);
    for sink in [&three, &one] {
        sink.rule(Step::Mail, "", Answer::Say("452 4.3.1 Insufficient system storage"), 100);
    }
    assert!(send(&relay, &[ANN]).starts_with("250"));
    assert_eq!([&three, &one, &spare].map(accepted), [9, 3, 1]);
}
