//! What can go wrong when recipients of one message are to get different copies. Sixteen cases; those that
//! other suites have:
//!
//! | case | test |
//! |---|---|
//! | 1, the next hop refuses one recipient | `complaints::no_6_one_refused_recipient_costs_the_others_nothing` |
//! | 3 and 4, a copy is refused at DATA | `groups::every_pair_of_fates_at_data` |
//! | 5, the connection of a copy is lost before the dots | `groups::every_pair_of_fates_at_data` (reset), `groups::a_relay_killed_at_any_step_of_a_copy_neither_loses_nor_doubles_it` |
//! | 6, 7 and 8, the fates of two to four copies at the dot | `groups::every_pair_of_fates_at_the_final_dot`, `groups::a_report_goes_to_those_alone_who_want_one` |
//! | 9, the client is gone behind the dots | `groups::clients_that_hear_each_answer_hear_the_next_hops_own`, `crash::` |
//! | 10, the time is up | `groups::when_time_is_up_the_client_hears_of_it_and_what_was_not_sent_is_not_sent` |
//! | 11, a crash between dots and answer | `groups::a_relay_killed_at_any_step_of_a_copy_neither_loses_nor_doubles_it`, `crash::` |
//! | 13, what cannot be read, or is signed or encrypted | `relay::a_signed_part_with_a_tracker_is_rejected_or_passed_as_configured`, `malformed::bombs_are_relayed_or_refused` |
//! | 14, too many copies | `recipes_groups::`, `next_hops::` |

use crate::mta::grant;
use crate::mta::letter::{Keeps, Letter, people};
use crate::mta::sink::Sink;
use crate::support;
use crate::support::{Answer, Behaviour, Client, NextHop, Relay, Step, newsletter, stuffed};

const SENDER: &str = "news@shop.example";

/// One who agreed and one who did not, their message handed over but for its end.
struct Halfway {
    sink: Sink,
    relay: Relay,
    client: Client,
    letter: Letter,
    yes: Vec<String>,
    no: Vec<String>,
}

impl Halfway {
    fn new(case: &str) -> Halfway {
        let sink = Sink::start();
        let relay = Relay::start(sink.port);
        let (yes, no) = people(case, 1, 1);
        grant(&relay, &yes);
        let letter = Letter::new(case, "Read on.");
        let mut client = Client::greeted(relay.port);
        assert_eq!(client.say(&format!("MAIL FROM:<{SENDER}>")), 250);
        for to in yes.iter().chain(&no) {
            assert_eq!(client.say(&format!("RCPT TO:<{to}>")), 250);
        }
        assert_eq!(client.say("DATA"), 354);
        Halfway { sink, relay, client, letter, yes, no }
    }

    fn finish(&mut self) -> String {
        self.client.send(stuffed(&self.letter.with).as_bytes());
        self.client.reply()
    }

    fn again(&self) -> String {
        let to: Vec<&str> = self.yes.iter().chain(&self.no).map(String::as_str).collect();
        Client::greeted(self.relay.port).message(SENDER, &to, &self.letter.with)
    }

    fn each_has_its_copy(&self) {
        self.sink.each_has(&self.letter, &[(&self.yes, Keeps::Everything), (&self.no, Keeps::NoTracker)], 1);
    }
}

#[test]
fn no_2_a_sender_put_off_for_the_second_copy_puts_off_all_and_sends_nothing() {
    let mut case = Halfway::new("second-mail");
    case.sink.rule(Step::Mail, "", Answer::Say("451 4.7.0 Too many messages"), 1);
    let reply = case.finish();
    assert!(reply.starts_with("451 "), "{reply}");
    assert!(case.sink.taken().iter().all(|taken| !taken.accepted), "nobody has a copy yet");
    assert!(case.again().starts_with("250"));
    case.each_has_its_copy();
}

#[test]
fn no_12_where_consent_cannot_be_looked_up_nobody_has_agreed() {
    let hop = NextHop::start();
    let relay = Relay::start(hop.port);
    relay.say("ann@home.example", "granted");
    let (with, without) = newsletter("ann@home.example");
    let send = |relay: &Relay, wanted: &str, count: usize| {
        let reply = Client::greeted(relay.port).message(SENDER, &["ann@home.example"], &with);
        assert!(reply.starts_with("250"), "{reply}");
        assert_eq!(hop.wait(count)[count - 1].below_trace(), support::crlf(wanted));
    };
    send(&relay, &with, 1);
    // Started again, it has nobody in memory; and then the file that says who is who is cut off.
    let mut relay = relay;
    relay.signal("TERM");
    assert!(relay.wait().success());
    let relay = relay.killed();
    let keys = relay.folder.0.join("data/consent/people.keys");
    std::fs::OpenOptions::new().write(true).open(&keys).unwrap().set_len(128).unwrap();
    send(&relay, &without, 2);
}

#[test]
fn no_15_a_copy_that_is_larger_than_the_next_hop_takes_is_refused_before_it_is_sent() {
    let (with, _) = newsletter("ann@home.example");
    let size = support::crlf(&with).len();
    let keywords: &'static str = Box::leak(format!("PIPELINING\nSIZE {size}\n8BITMIME").into_boxed_str());
    let hop = NextHop::with(Behaviour { keywords: Some(keywords), ..Behaviour::default() });
    let relay = Relay::start(hop.port);
    relay.say("ann@home.example", "granted");
    // With our trace field it is larger; without the pixel, and as a shorter mail, it is not.
    let reply = Client::greeted(relay.port).message(SENDER, &["ann@home.example"], &with);
    assert!(reply.starts_with("552 5.3.4 "), "{reply}");
    assert_eq!(hop.count(), 0);
    let reply = Client::greeted(relay.port).message(SENDER, &["ann@home.example"], "Subject: a\n\nb\n");
    assert!(reply.starts_with("250"), "{reply}");
}

#[test]
fn no_16_a_message_whose_copies_are_on_their_way_is_finished_before_the_relay_stops() {
    let mut case = Halfway::new("stopping");
    case.relay.signal("TERM");
    case.relay.log.wait("the signal", |line| line.contains("stopping"));
    let reply = case.finish();
    assert!(reply.starts_with("250"), "{reply}");
    assert!(case.relay.wait().success());
    case.each_has_its_copy();
}
