//! The recipes of docs/deploying.md where recipients of one message differ in what they agreed to: each has
//! one copy, the right one, and the mail program's log says of each what is true.

use crate::mta;
use crate::mta::letter::{Keeps, Letter, people};
use crate::mta::library::Library;
use crate::mta::sink::Sink;
use crate::mta::{Exim, Fate, Mta, OpenSmtpd, Postfix, grant, submit};
use crate::support::{Answer, Client, Relay, Step, stuffed};

const LMTP: &str = "protocol = \"lmtp\"";

/// Whether a client hears of each recipient apart what became of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answers {
    /// LMTP, or PRDR.
    Each,
    /// One for all.
    One,
}

/// A mail program, the relay behind it, and the place where mail ends.
struct Path<'a> {
    mta: &'a dyn Mta,
    relay: &'a Relay,
    sink: &'a Sink,
    answers: Answers,
}

impl Path<'_> {
    /// Everything that holds for a program which hands its mail straight to the relay.
    fn all(&self) {
        self.each_has_what_that_person_wanted();
        self.one_who_is_refused();
        self.one_group_is_put_off();
        self.one_group_is_refused();
        self.the_next_hop_goes_away();
    }

    fn send(&self, letter: &Letter, yes: &[String], no: &[String]) {
        submit(self.mta.port(), "", &mixed(yes, no), &letter.with);
    }

    fn all_sent(&self, people: &[&[String]]) {
        for person in people.iter().copied().flatten() {
            self.mta.wait(person, Fate::Sent);
        }
    }

    /// Two, three and fifty people of both kinds have their copy once each, and once more where it is sent
    /// again on purpose.
    fn each_has_what_that_person_wanted(&self) {
        for (agreed, not) in [(1, 1), (1, 2), (25, 25)] {
            let case = format!("mixed{}", agreed + not);
            let (yes, no) = people(&case, agreed, not);
            grant(self.relay, &yes);
            let letter = Letter::new(&case, "Read on.");
            for times in 1..=2 {
                self.send(&letter, &yes, &no);
                self.sink.wait_for(&letter, times * (agreed + not));
                self.all_sent(&[&yes, &no]);
                self.sink.each_has(&letter, &[(&yes, Keeps::Everything), (&no, Keeps::NoTracker)], times);
            }
        }
    }

    /// One recipient is refused by the next hop, the others have theirs.
    fn one_who_is_refused(&self) {
        let (yes, no) = people("rcpt", 2, 2);
        grant(self.relay, &yes);
        self.sink.rule(Step::Rcpt, &no[1], Answer::Say("550 5.1.1 No such user here"), usize::MAX);
        let letter = Letter::new("rcpt", "Read on.");
        self.send(&letter, &yes, &no);
        let line = self.mta.wait(&no[1], Fate::Failed);
        assert!(line.contains("No such user here"), "{line}");
        self.all_sent(&[&yes, &no[..1]]);
        self.sink.each_has(&letter, &[(&yes, Keeps::Everything), (&no[..1], Keeps::NoTracker)], 1);
        self.sink.forget_rules();
    }

    /// One group is put off at the dot: the other has its mail, and the next attempt goes to those alone who
    /// lack it.
    fn one_group_is_put_off(&self) {
        let (yes, no) = people("later", 2, 2);
        grant(self.relay, &yes);
        self.sink.rule(Step::Dot, &no[0], Answer::Say("452 4.2.2 Mailbox full"), 1);
        let letter = Letter::new("later", "Read on.");
        self.send(&letter, &yes, &no);
        if self.answers == Answers::Each {
            let line = self.mta.wait(&no[0], Fate::Deferred);
            assert!(line.contains("Mailbox full"), "{line}");
            self.all_sent(&[&yes]);
            assert_eq!(yes.iter().map(|person| self.mta.count(person, Fate::Deferred)).sum::<usize>(), 0);
        }
        self.mta.retry(&mixed(&yes, &no));
        self.sink.each_has(&letter, &[(&yes, Keeps::Everything), (&no, Keeps::NoTracker)], 1);
    }

    /// One group is refused at the dot. Who hears one answer for all hears that it was sent, and the sender
    /// has a report of the rest.
    fn one_group_is_refused(&self) {
        let (yes, no) = people("never", 2, 2);
        grant(self.relay, &yes);
        self.sink.rule(Step::Dot, &no[0], Answer::Say("554 5.7.1 We do not want this"), usize::MAX);
        let letter = Letter::new("never", "Read on.");
        self.send(&letter, &yes, &no);
        self.all_sent(&[&yes]);
        match self.answers {
            Answers::Each => {
                for person in &no {
                    let line = self.mta.wait(person, Fate::Failed);
                    assert!(line.contains("We do not want this"), "{line}");
                }
            }
            Answers::One => {
                self.all_sent(&[&no]);
                let told = |taken: &mta::sink::Taken| {
                    let text = String::from_utf8_lossy(&taken.message).into_owned();
                    taken.to == ["news@shop.example"]
                        && no.iter().all(|person| text.contains(person.as_str()))
                };
                let reports = self.sink.wait(1, told);
                assert_eq!(reports.len(), 1, "one report");
                assert_eq!(reports[0].sender.split_whitespace().next(), Some("<>"));
                let text = String::from_utf8_lossy(&reports[0].message).into_owned();
                assert!(text.contains("multipart/report") && text.contains("We do not want this"), "{text}");
                assert!(!text.contains("wf/open"), "a report holds no tracker either: {text}");
            }
        }
        self.sink.each_has(&letter, &[(&yes, Keeps::Everything)], 1);
        self.sink.forget_rules();
    }

    /// The next hop goes away before or behind one group's message. In the end everybody has it once.
    fn the_next_hop_goes_away(&self) {
        for (number, step) in [Step::Rcpt, Step::Data, Step::Dot].into_iter().enumerate() {
            let (yes, no) = people(&format!("gone{number}"), 2, 2);
            grant(self.relay, &yes);
            let letter = Letter::new(&format!("gone {number}"), "Read on.");
            self.sink.rule(step, &no[0], Answer::HangUp, usize::MAX);
            self.send(&letter, &yes, &no);
            self.mta.wait(&no[0], Fate::Deferred);
            self.sink.forget_rules();
            self.mta.retry(&mixed(&yes, &no));
            self.sink.each_has(&letter, &[(&yes, Keeps::Everything), (&no, Keeps::NoTracker)], 1);
        }
    }
}

/// Those who agreed and those who did not, by turns.
fn mixed(yes: &[String], no: &[String]) -> Vec<String> {
    let longest = yes.len().max(no.len());
    (0..longest).flat_map(|at| [yes.get(at), no.get(at)]).flatten().cloned().collect()
}

#[test]
fn postfix_relayhost() {
    let sink = Sink::start();
    let relay = mta::relay_at(mta::port(), sink.port, "", "");
    let postfix = Postfix::by_recipe(&relay, "relayhost", "");
    Path { mta: &postfix, relay: &relay, sink: &sink, answers: Answers::One }.all();
}

#[test]
fn postfix_lmtp() {
    let sink = Sink::start();
    let relay = mta::relay_at(mta::port(), sink.port, LMTP, "");
    let postfix = Postfix::by_recipe(&relay, "lmtp", "");
    Path { mta: &postfix, relay: &relay, sink: &sink, answers: Answers::Each }.all();
}

#[test]
fn postfix_content_filter() {
    let sink = Sink::start();
    let relay = mta::relay_at(mta::port(), mta::port(), "", "");
    let postfix = Postfix::taking_back(&relay, "content-filter", sink.port);
    let path = Path { mta: &postfix, relay: &relay, sink: &sink, answers: Answers::One };
    path.each_has_what_that_person_wanted();
}

#[test]
fn postfix_content_filter_over_lmtp() {
    let sink = Sink::start();
    let relay = mta::relay_at(mta::port(), mta::port(), LMTP, "");
    let postfix = Postfix::taking_back(&relay, "content-filter", sink.port);
    let path = Path { mta: &postfix, relay: &relay, sink: &sink, answers: Answers::Each };
    path.each_has_what_that_person_wanted();
}

#[test]
fn postfix_proxy_filter() {
    let sink = Sink::start();
    let relay = mta::relay_at(mta::port(), mta::port(), "", "");
    let postfix = Postfix::taking_back(&relay, "proxy-filter", sink.port);
    let path = Path { mta: &postfix, relay: &relay, sink: &sink, answers: Answers::One };
    path.each_has_what_that_person_wanted();
}

#[test]
fn exim() {
    let sink = Sink::start();
    let relay = Relay::start(sink.port);
    let exim = Exim::start(relay.port);
    let path = Path { mta: &exim, relay: &relay, sink: &sink, answers: Answers::Each };
    path.all();
    assert!(
        exim.log().lines().any(|line| line.contains(" => yes1-") && line.contains(" PRDR")),
        "{}",
        exim.log()
    );
}

#[test]
fn exim_over_lmtp() {
    let sink = Sink::start();
    let relay = Relay::with(sink.port, LMTP, "", "");
    let exim = Exim::over_lmtp(relay.port);
    Path { mta: &exim, relay: &relay, sink: &sink, answers: Answers::Each }.all();
}

#[test]
fn opensmtpd() {
    let sink = Sink::start();
    let relay = Relay::start(sink.port);
    let opensmtpd = OpenSmtpd::start(relay.port);
    Path { mta: &opensmtpd, relay: &relay, sink: &sink, answers: Answers::One }.all();
}

#[test]
fn libraries() {
    let sink = Sink::start();
    let relay = Relay::start(sink.port);
    for library in [Library::Smtplib, Library::Nodemailer, Library::Curl, Library::Swaks] {
        for (agreed, not) in [(1, 1), (1, 2), (25, 25)] {
            let (yes, no) = people(&format!("{library:?}{agreed}-{not}").to_lowercase(), agreed, not);
            grant(&relay, &yes);
            let letter = Letter::new(&format!("{library:?} {agreed} {not}"), "Read on.");
            for times in 1..=2 {
                let told = library.send(relay.port, &mixed(&yes, &no), &letter.with);
                assert!(told.sent && told.refused.is_empty(), "{told:?}");
                sink.each_has(&letter, &[(&yes, Keeps::Everything), (&no, Keeps::NoTracker)], times);
            }
        }

        // Put off for some: the application hears it, and its next attempt reaches those alone.
        let (yes, no) = people(&format!("{library:?}later").to_lowercase(), 2, 2);
        grant(&relay, &yes);
        let letter = Letter::new(&format!("{library:?} later"), "Read on.");
        sink.rule(Step::Dot, &no[0], Answer::Say("452 4.2.2 Mailbox full"), 1);
        let told = library.send(relay.port, &mixed(&yes, &no), &letter.with);
        assert!(!told.sent && told.text.contains("45"), "{told:?}");
        assert!(library.send(relay.port, &mixed(&yes, &no), &letter.with).sent);
        sink.each_has(&letter, &[(&yes, Keeps::Everything), (&no, Keeps::NoTracker)], 1);
    }
}

/// swaks has both ways to hear of each recipient.
#[test]
fn swaks_hears_of_each_recipient() {
    for (listener, arguments) in [(LMTP, ["--protocol", "LMTP"].as_slice()), ("", &["--prdr"])] {
        let sink = Sink::start();
        let relay = Relay::with(sink.port, listener, "", "");
        let (yes, no) = people("swaks", 1, 2);
        grant(&relay, &yes);
        sink.rule(Step::Dot, &no[0], Answer::Say("554 5.7.1 We do not want this"), 1);
        let letter = Letter::new("swaks", "Read on.");
        let told = Library::Swaks.send_with(arguments, relay.port, &mixed(&yes, &no), &letter.with);
        assert_eq!(told.text.matches("554 5.7.1 We do not want this").count(), 2, "{told:?}");
        assert!(told.text.contains("queued as SINK1"), "{told:?}");
        sink.each_has(&letter, &[(&yes, Keeps::Everything)], 1);
    }
}

/// LMTP as RFC 2033 has it: one reply for each recipient that was accepted, in their order.
#[test]
fn lmtp_answers_in_the_order_of_the_recipients() {
    let sink = Sink::start();
    let relay = Relay::with(sink.port, LMTP, "", "");
    let (yes, no) = people("order", 2, 2);
    grant(&relay, &yes);
    sink.rule(Step::Rcpt, &no[1], Answer::Say("550 5.1.1 No such user here"), 1);
    sink.rule(Step::Dot, &no[0], Answer::Say("452 4.2.2 Mailbox full"), 1);
    let mut client = Client::connect(relay.port);
    assert_eq!(client.code(), 220);
    let refused = client.say("EHLO client.example");
    assert!((500..600).contains(&refused), "EHLO is not LMTP: {refused}");
    assert_eq!(client.say("LHLO client.example"), 250);
    assert_eq!(client.say("MAIL FROM:<news@shop.example>"), 250);
    let codes: Vec<u16> = mixed(&yes, &no).iter().map(|to| client.say(&format!("RCPT TO:<{to}>"))).collect();
    assert_eq!(codes, [250, 250, 250, 550]);
    assert_eq!(client.say("DATA"), 354);
    client.send(stuffed(&Letter::new("order", "Read on.").with).as_bytes());
    assert_eq!([client.code(), client.code(), client.code()], [250, 452, 250]);
}
