//! Several copies of one message: whatever becomes of each, everybody ends with the right copy once, or the
//! sender hears why not.

use crate::support;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::mta::grant;
use crate::mta::letter::{Keeps, Letter, people};
use crate::mta::sink::{Sink, Taken};
use crate::support::{Answer, Client, Folder, Relay, Step, stuffed};
use bytes::Bytes;
use pixelward::net::tls_config;
use pixelward::relay::delivery::{Delivered, deliver};
use pixelward::relay::{Answers, Mail};
use pixelward::relay::{Ledger, NextHop, Parcel, Pool, Route, Timeouts, TlsMode, Transaction};
use pixelward::smtp::command::Command;
use pixelward::smtp::reply::Class;
use pixelward::smtp::session::{Envelope, Greeting, Protocol, Recipient, Sender};

/// What a client tries whose relay is killed at a step of one of the two copies; the one before has its
/// answer where it has one.
fn killed_at(step: Step, person: &str) {
    let sink = Sink::start();
    let relay = Relay::with(sink.port, "", "", "");
    let (yes, no) = people("kill", 2, 2);
    grant(&relay, &yes);
    let letter = Letter::new("kill", "Read on.");
    let everybody = [&yes[..], &no[..]].concat();
    let about = if person == "yes" { &yes[0] } else { &no[0] };
    let mut client = Client::greeted(relay.port);
    assert_eq!(client.say("MAIL FROM:<news@shop.example>"), 250);
    for to in &everybody {
        assert_eq!(client.say(&format!("RCPT TO:<{to}>")), 250);
    }
    sink.rule(step, about, Answer::Stall, 1);
    assert_eq!(client.say("DATA"), 354);
    client.send(stuffed(&letter.with).as_bytes());
    sink.wait_until_stalled();
    let other = if person == "yes" { &no } else { &yes };
    if step == Step::Dot {
        // All dots go out together, so the other copy has arrived or is about to.
        sink.wait(1, |item| item.to == *other);
        let deadline = Instant::now() + support::PATIENCE;
        let ledger = relay.folder.0.join("data/ledger/log");
        // 32 bytes each: what is intended for all, and what became of these.
        let wanted = 32 * (everybody.len() + other.len());
        while std::fs::metadata(&ledger).unwrap().len() < wanted as u64 {
            assert!(Instant::now() < deadline, "the answer is not written down");
            std::thread::yield_now();
        }
    }
    let relay = relay.killed();
    sink.forget_rules();
    for attempt in 1.. {
        let reply = Client::greeted(relay.port).message(
            SENDER,
            &everybody.iter().map(String::as_str).collect::<Vec<_>>(),
            &letter.with,
        );
        if reply.starts_with('2') {
            break;
        }
        assert!(attempt < 3, "{reply}");
    }
    sink.each_has(&letter, &[(&yes, Keeps::Everything), (&no, Keeps::NoTracker)], 1);
}

#[test]
fn a_relay_killed_at_any_step_of_a_copy_neither_loses_nor_doubles_it() {
    for step in [Step::Rcpt, Step::Data, Step::Dot] {
        for person in ["yes", "no"] {
            killed_at(step, person);
        }
    }
}

/// What the next hop does with one group at one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Taken,
    Later,
    Never,
    Reset,
    Stall,
}

const FATES: [Fate; 5] = [Fate::Taken, Fate::Later, Fate::Never, Fate::Reset, Fate::Stall];
const SENDER: &str = "news@shop.example";

/// A message that leads to a few copies, with two recipients each.
struct Case {
    name: String,
    sink: Sink,
    ledger: Ledger,
    route: Arc<Route>,
    envelope: Envelope,
    groups: usize,
    _folder: Folder,
}

fn recipient(group: usize, one: usize) -> String {
    format!("g{group}p{one}@home.example")
}

fn copy(group: usize) -> Bytes {
    Bytes::from(format!(
        "From: <{SENDER}>\r\nMessage-ID: <1@shop.example>\r\nSubject: News\r\n\r\ncopy {group}\r\n.dot\r\n"
    ))
}

impl Case {
    fn new(name: String, groups: usize, mail: &str, parameters: &str) -> Case {
        let (sink, folder) = (Sink::start(), Folder::new());
        let mut hop =
            NextHop::new("localhost", sink.port, TlsMode::None, tls_config(None, None).unwrap(), "us");
        let limit = Duration::from_secs(3);
        hop.timeouts = Timeouts { command: limit, data: limit, dot: limit, ..hop.timeouts };
        let (sender, parameters_of_sender) = match Command::read(mail.as_bytes()).unwrap() {
            Command::Mail(address, parameters) => (address, parameters),
            other => panic!("{other:?} is no MAIL"),
        };
        let recipients = (0..groups).flat_map(|group| [recipient(group, 0), recipient(group, 1)]);
        let recipients = recipients.map(|to| {
            match Command::read(format!("RCPT TO:<{to}>{parameters}").as_bytes()).unwrap() {
                Command::Rcpt(address, parameters) => Recipient { address, parameters },
                other => panic!("{other:?} is no RCPT"),
            }
        });
        let client = Greeting { name: "client.example".to_owned(), protocol: Protocol::Esmtp };
        let sender = Sender { address: sender, parameters: parameters_of_sender };
        let envelope = Envelope { recipients: recipients.collect(), ..Envelope::new(client, sender) };
        Case {
            name,
            ledger: Ledger::open(&folder.0).unwrap(),
            route: Route::new(vec![Pool::new(hop)]),
            envelope,
            groups,
            sink,
            _folder: folder,
        }
    }

    /// One attempt of the client; `rules` are made once all recipients were accepted.
    fn attempt(&self, answers: Answers, rules: impl FnOnce(&Sink)) -> Delivered {
        self.attempt_within(Duration::from_secs(60), answers, rules)
    }

    fn attempt_within(&self, time: Duration, answers: Answers, rules: impl FnOnce(&Sink)) -> Delivered {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(self.attempt_on(time, answers, rules))
    }

    async fn attempt_on(&self, time: Duration, answers: Answers, rules: impl FnOnce(&Sink)) -> Delivered {
        let mut transaction = Transaction::new(Arc::clone(&self.route), self.envelope.sender.clone());
        let asked = transaction.ask(&self.envelope.recipients).await.unwrap();
        assert!(
            asked
                .recipients
                .iter()
                .all(|recipient| recipient.as_ref().is_ok_and(|recipient| recipient.code() == 250))
        );
        rules(&self.sink);
        transaction.finish_by(Instant::now() + time);
        let message = copy(0);
        let mail = Mail {
            listener: "default",
            id: "1",
            host_name: "relay.example",
            envelope: &self.envelope,
            head: b"Received: by relay.example\r\n",
            message: &message,
            answers,
        };
        let parcels = (0..self.groups)
            .map(|group| Parcel { number: group, recipients: vec![2 * group, 2 * group + 1] });
        let mut copies: Vec<_> = (0..self.groups).map(|group| Ok(copy(group))).collect();
        let parcels = parcels.collect();
        let delivered = deliver(&mail, parcels, &mut copies, &mut transaction, &self.ledger).await;
        transaction.abandon().await;
        delivered
    }

    fn accepted(&self) -> Vec<Taken> {
        self.sink.taken().into_iter().filter(|taken| taken.accepted).collect()
    }

    /// What tells the sender of recipients that were rejected.
    fn reports(&self) -> Vec<String> {
        let reports = self.accepted().into_iter().filter(|copy| copy.to == [SENDER]);
        reports.map(|report| String::from_utf8(report.message.to_vec()).unwrap()).collect()
    }

    /// Everybody but these has the right copy so many times, and these have none.
    fn each_has(&self, rejected: &BTreeSet<String>, times: usize) {
        let letters: Vec<Taken> = self.accepted().into_iter().filter(|copy| copy.to != [SENDER]).collect();
        for group in 0..self.groups {
            for to in [recipient(group, 0), recipient(group, 1)] {
                let copies: Vec<&Taken> = letters.iter().filter(|letter| letter.to.contains(&to)).collect();
                let wanted = if rejected.contains(&to) { 0 } else { times };
                assert_eq!(copies.len(), wanted, "{}: copies for {to}", self.name);
                for letter in copies {
                    let text = [&b"Received: by relay.example\r\n"[..], &copy(group)].concat();
                    assert!(*letter.message == text, "{}: {to} has another's copy", self.name);
                }
            }
        }
    }

    /// The client goes on behind a 250.
    fn close(&self, delivered: &Delivered) {
        self.ledger.close(&delivered.open);
        let deadline = Instant::now() + support::PATIENCE;
        while !self.ledger.is_empty() {
            assert!(Instant::now() < deadline, "{}: the ledger stays open", self.name);
            std::thread::yield_now();
        }
    }
}

/// The groups fare like this at a step of the first attempt; the client tries again as long as it is told to.
fn check(groups: usize, step: Step, fates: &[Fate]) {
    let name = format!("{groups} groups, {step:?} {fates:?}");
    let case = Case::new(name.clone(), groups, &format!("MAIL FROM:<{SENDER}>"), "");
    let first = case.attempt(Answers::One, |sink| {
        for (group, fate) in fates.iter().enumerate() {
            let answer = match fate {
                Fate::Taken => continue,
                Fate::Later => Answer::Say("452 4.2.2 Later"),
                Fate::Never => Answer::Say("550 5.7.1 Never"),
                Fate::Reset => Answer::HangUp,
                Fate::Stall => Answer::Stall,
            };
            sink.rule(step, &recipient(group, 0), answer, usize::MAX);
        }
    });
    case.sink.forget_rules();
    let fares = |wanted: &[Fate]| fates.iter().any(|fate| wanted.contains(fate));
    let waits = fares(&[Fate::Later, Fate::Reset, Fate::Stall]);
    // Up to the dots, one who cannot have a copy now keeps it from all.
    let nothing_yet = step != Step::Dot && waits;
    let mut rejected = BTreeSet::new();
    if !nothing_yet {
        for group in (0..groups).filter(|group| fates.get(*group) == Some(&Fate::Never)) {
            rejected.insert(recipient(group, 0));
            if step != Step::Rcpt {
                rejected.insert(recipient(group, 1));
            }
        }
    }
    assert_eq!(first.whole.class() == Class::Transient, waits, "{name}: {}", first.whole);
    if nothing_yet {
        assert_eq!(case.accepted().len(), 0, "{name}: nobody has it before all can");
    }
    let mut last = first;
    let mut attempts = 1;
    while last.whole.class() == Class::Transient {
        assert!(attempts < 3, "{name}: {}", last.whole);
        last = case.attempt(Answers::One, |_| ());
        attempts += 1;
    }
    case.each_has(&rejected, 1);
    let everybody = rejected.len() == 2 * groups;
    assert_eq!(last.whole.class() == Class::Permanent, everybody, "{name}: {}", last.whole);
    let reports = case.reports();
    assert_eq!(reports.len(), usize::from(!rejected.is_empty() && !everybody), "{name}: reports");
    for to in (0..groups).flat_map(|group| [recipient(group, 0), recipient(group, 1)]) {
        let is_named =
            reports.iter().any(|report| report.contains(&format!("Final-Recipient: rfc822; {to}")));
        assert_eq!(is_named, rejected.contains(&to) && !everybody, "{name}: {to} in {reports:?}");
    }
    // The same mail sent again on purpose is another mail.
    case.close(&last);
    let again = case.attempt(Answers::One, |_| ());
    assert_eq!(again.whole.class(), Class::Positive, "{name}: {}", again.whole);
    let before = if everybody { 0 } else { 1 };
    for to in &rejected {
        let copies = case.accepted().into_iter().filter(|copy| copy.to.contains(to)).count();
        assert_eq!(copies, 1, "{name}: {to}, sent again");
    }
    if rejected.is_empty() {
        case.each_has(&rejected, before + 1);
    }
}

/// Runs cases side by side: most of them wait for something that never comes.
fn all(cases: Vec<(usize, Step, Vec<Fate>)>) {
    let threads: Vec<_> = cases
        .into_iter()
        .map(|(groups, step, fates)| std::thread::spawn(move || check(groups, step, &fates)))
        .collect();
    let failed = threads.into_iter().map(|thread| thread.join().is_err()).filter(|failed| *failed).count();
    assert_eq!(failed, 0, "so many cases failed; what they say stands above");
}

fn every_pair(step: Step) -> Vec<(usize, Step, Vec<Fate>)> {
    let pairs = FATES.into_iter().flat_map(|one| FATES.map(|other| [one, other]));
    let two = pairs.clone().map(|pair| (2, step, pair.to_vec()));
    // The others stand before, between and behind the pair.
    let three = pairs.clone().map(|[one, other]| (3, step, vec![one, Fate::Taken, other]));
    let four = pairs.map(|[one, other]| (4, step, vec![Fate::Taken, one, other, Fate::Taken]));
    two.chain(three).chain(four).collect()
}

#[test]
fn every_pair_of_fates_at_the_final_dot() {
    all(every_pair(Step::Dot));
}

#[test]
fn every_pair_of_fates_at_data() {
    all(every_pair(Step::Data));
}

#[test]
fn every_pair_of_fates_when_recipients_are_asked_again() {
    all(every_pair(Step::Rcpt));
}

#[test]
fn all_groups_fare_alike() {
    let cases = FATES
        .into_iter()
        .flat_map(|fate| [Step::Rcpt, Step::Data, Step::Dot].map(|step| (4, step, vec![fate; 4])));
    all(cases.collect());
}

#[test]
fn clients_that_hear_each_answer_hear_the_next_hops_own() {
    for fates in FATES.into_iter().flat_map(|one| FATES.map(|other| [one, other])) {
        if fates.contains(&Fate::Stall) {
            continue;
        }
        let case = Case::new(format!("{fates:?}"), 3, &format!("MAIL FROM:<{SENDER}>"), "");
        let delivered = case.attempt(Answers::Each, |sink| {
            for (group, fate) in fates.iter().enumerate() {
                let answer = match fate {
                    Fate::Taken | Fate::Stall => continue,
                    Fate::Later => Answer::Say("452 4.2.2 Later"),
                    Fate::Never => Answer::Say("550 5.7.1 Never"),
                    Fate::Reset => Answer::HangUp,
                };
                sink.rule(Step::Dot, &recipient(group, 0), answer, 1);
            }
        });
        let code = |fate: Fate| match fate {
            Fate::Taken => 250,
            Fate::Later => 452,
            Fate::Never => 550,
            Fate::Reset | Fate::Stall => 451,
        };
        let [one, other] = fates.map(code);
        let codes: Vec<u16> = delivered.replies.iter().map(|reply| reply.code()).collect();
        assert_eq!(codes, [one, one, other, other, 250, 250], "{fates:?}");
        assert!(case.reports().is_empty(), "the client tells the sender itself");
        case.close(&delivered);
    }
}

fn one_is_rejected(mail: &str, parameters: &str) -> (Case, Delivered) {
    let case = Case::new(format!("{mail} {parameters}"), 2, mail, parameters);
    let delivered = case.attempt(Answers::One, |sink| {
        sink.rule(Step::Dot, &recipient(0, 0), Answer::Say("550 5.7.1 Never"), 1);
    });
    (case, delivered)
}

#[test]
fn a_report_goes_to_those_alone_who_want_one() {
    for (mail, parameters, wanted) in [
        ("MAIL FROM:<news@shop.example>", "", 1),
        ("MAIL FROM:<>", "", 0),
        ("MAIL FROM:<news@shop.example>", " NOTIFY=NEVER", 0),
        ("MAIL FROM:<news@shop.example>", " NOTIFY=SUCCESS", 0),
        ("MAIL FROM:<news@shop.example>", " NOTIFY=FAILURE,DELAY", 1),
    ] {
        let (case, delivered) = one_is_rejected(mail, parameters);
        assert_eq!(delivered.whole.code(), 250, "{}", case.name);
        assert_eq!(case.reports().len(), wanted, "{}", case.name);
    }
    let (case, _) = one_is_rejected(
        "MAIL FROM:<news@shop.example> RET=HDRS ENVID=QQ314159",
        " ORCPT=rfc822;old@home.example",
    );
    let report = case.reports().pop().unwrap();
    for line in
        ["Original-Envelope-Id: QQ314159", "Original-Recipient: rfc822;old@home.example", "Action: failed"]
    {
        assert!(report.contains(line), "{line} is missing in {report}");
    }
    assert!(!report.contains("copy 0"), "only the header was wanted: {report}");
}

#[test]
fn a_report_that_is_not_taken_is_all_that_the_retry_sends() {
    for (step, answer) in [
        (Step::Mail, Answer::Say("451 4.3.0 Later")),
        (Step::Rcpt, Answer::Say("450 4.2.0 Later")),
        (Step::Dot, Answer::Say("452 4.3.1 Later")),
        (Step::Dot, Answer::HangUp),
    ] {
        let case = Case::new(format!("{step:?} {answer:?}"), 2, &format!("MAIL FROM:<{SENDER}>"), "");
        let first = case.attempt(Answers::One, |sink| {
            sink.rule(Step::Dot, &recipient(0, 0), Answer::Say("550 5.7.1 Never"), usize::MAX);
            let about = if step == Step::Mail { "FROM:<>" } else { SENDER };
            sink.rule(step, about, answer, 2);
        });
        assert_eq!(first.whole.class(), Class::Transient, "{}: {}", case.name, first.whole);
        assert!(case.reports().is_empty());
        case.sink.forget_rules();
        let second = case.attempt(Answers::One, |_| ());
        assert_eq!(second.whole.class(), Class::Positive, "{}: {}", case.name, second.whole);
        assert_eq!(case.reports().len(), 1, "{}", case.name);
        case.each_has(&BTreeSet::from([recipient(0, 0), recipient(0, 1)]), 1);
    }
}

#[test]
fn when_time_is_up_the_client_hears_of_it_and_what_was_not_sent_is_not_sent() {
    let case = Case::new("time".to_owned(), 2, &format!("MAIL FROM:<{SENDER}>"), "");
    let first = case.attempt_within(Duration::from_millis(300), Answers::One, |sink| {
        sink.rule(Step::Data, &recipient(0, 0), Answer::Stall, usize::MAX);
    });
    assert_eq!(first.whole.class(), Class::Transient);
    assert_eq!(case.accepted().len(), 0);
}

#[test]
fn a_sender_who_can_never_be_told_is_none_that_a_retry_helps() {
    let case = Case::new("no such sender".to_owned(), 2, &format!("MAIL FROM:<{SENDER}>"), "");
    let delivered = case.attempt(Answers::One, |sink| {
        sink.rule(Step::Dot, &recipient(0, 0), Answer::Say("550 5.7.1 Never"), 1);
        sink.rule(Step::Rcpt, SENDER, Answer::Say("550 5.1.1 No such user"), 1);
    });
    assert_eq!(delivered.whole.code(), 250);
}

/// A next hop that takes its time after the final dot: until it is told to go on. It counts the messages.
fn slow_next_hop() -> (u16, std::sync::mpsc::Sender<()>, Arc<std::sync::atomic::AtomicU32>) {
    use std::io::{BufRead, BufReader, Write};
    use std::sync::atomic::Ordering;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (go_on, told) = std::sync::mpsc::channel::<()>();
    let taken = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let count = Arc::clone(&taken);
    std::thread::spawn(move || {
        let told = Arc::new(std::sync::Mutex::new(told));
        for stream in listener.incoming().flatten() {
            let (told, count) = (Arc::clone(&told), Arc::clone(&count));
            std::thread::spawn(move || {
                let mut out = stream.try_clone().unwrap();
                let mut said = |text: &str| out.write_all(text.as_bytes());
                let _ = said("220 slow.example ESMTP\r\n");
                let mut is_data = false;
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let reply = match line.as_str() {
                        "." => {
                            is_data = false;
                            count.fetch_add(1, Ordering::SeqCst);
                            if told.lock().unwrap().recv().is_err() {
                                return;
                            }
                            "250 2.0.0 Ok: queued as SLOW1\r\n"
                        }
                        _ if is_data => continue,
                        "DATA" => {
                            is_data = true;
                            "354 Go on\r\n"
                        }
                        _ => "250 2.0.0 Ok\r\n",
                    };
                    if said(reply).is_err() {
                        break;
                    }
                }
            });
        }
    });
    (port, go_on, taken)
}

#[test]
fn a_next_hop_that_is_slow_at_the_dot_gets_no_second_copy() {
    for answers in [Answers::One, Answers::Each] {
        let (port, go_on, taken) = slow_next_hop();
        let mut hop = NextHop::new("127.0.0.1", port, TlsMode::None, tls_config(None, None).unwrap(), "us");
        hop.timeouts = Timeouts { dot: support::PATIENCE, ..hop.timeouts };
        let mut case = Case::new("slow".to_owned(), 1, &format!("MAIL FROM:<{SENDER}>"), "");
        case.route = Route::new(vec![Pool::new(hop)]);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let attempt = |time| runtime.block_on(case.attempt_on(time, answers, |_| {}));
        let first = attempt(Duration::from_millis(500));
        assert!(first.whole.to_string().starts_with("451 4.4.1"), "{}", first.whole);
        assert!(first.open.is_empty(), "the ledger keeps what is waited for");
        // While the next hop has not answered, the message is not sent again.
        let second = attempt(Duration::from_secs(10));
        assert!(second.whole.to_string().starts_with("451 4.4.7"), "{}", second.whole);
        go_on.send(()).unwrap();
        let deadline = Instant::now() + support::PATIENCE;
        let last = loop {
            let retry = attempt(Duration::from_secs(10));
            if retry.whole.class() == Class::Positive {
                break retry;
            }
            assert!(Instant::now() < deadline, "{}", retry.whole);
            std::thread::yield_now();
        };
        assert!(last.whole.to_string().contains("earlier attempt"), "{}", last.whole);
        assert_eq!(taken.load(std::sync::atomic::Ordering::SeqCst), 1, "{answers:?}");
    }
}

#[test]
fn a_delivery_cut_short_after_the_dot_is_named_in_the_ledger() {
    let case = Case::new("cut short".to_owned(), 1, &format!("MAIL FROM:<{SENDER}>"), "");
    case.sink.rule(Step::Dot, "", Answer::Stall, 1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let attempt = case.attempt_on(Duration::from_secs(60), Answers::One, |_| {});
        // The relay stops while it waits for the answer.
        assert!(tokio::time::timeout(Duration::from_secs(1), attempt).await.is_err());
        case.ledger.flush().await;
    });
    assert!(!case.ledger.is_empty());
}
