//! Every recipe of docs/deploying.md with the real mail program: what arrives, how often, and what the
//! program's own log says. Needs root and the packages of `make test-packages`. What differs by recipient
//! stands in `recipes_groups.rs`.

use crate::mta;
use crate::mta::letter::{Keeps, Letter, people};
use crate::mta::library::Library;
use crate::mta::sink::Sink;
use crate::mta::{Exim, Fate, Mta, OpenDkim, OpenSmtpd, Postfix, grant, submit};
use crate::support::{Answer, Client, Relay, Step, stuffed};
use std::process::Command;

/// A mail program, the relay behind it, and the place where mail ends.
struct Path<'a> {
    mta: &'a dyn Mta,
    relay: &'a Relay,
    sink: &'a Sink,
}

impl Path<'_> {
    /// Sends a letter and waits until the program says that everybody has it.
    fn send(&self, parameters: &str, letter: &Letter, to: &[String]) {
        submit(self.mta.port(), parameters, to, &letter.with);
        for person in to {
            self.mta.wait(person, Fate::Sent);
        }
    }

    /// One, two and fifty people who said the same have their letter once, as they wanted it.
    fn people_who_said_the_same(&self) {
        for count in [1, 2, 50] {
            let case = format!("same{count}");
            let (yes, no) = people(&case, count, count);
            grant(self.relay, &yes);
            for (to, keeps) in [(&yes, Keeps::Everything), (&no, Keeps::NoTracker)] {
                let letter = Letter::new(&format!("{case} {keeps:?}"), "Read on.");
                self.send("", &letter, to);
                self.sink.each_has(&letter, &[(to, keeps)], 1);
            }
        }
    }

    /// The same mail sent twice on purpose is two mails.
    fn the_same_again(&self) {
        let (_, no) = people("again", 0, 2);
        let letter = Letter::new("again", "Read on.");
        self.send("", &letter, &no);
        submit(self.mta.port(), "", &no, &letter.with);
        self.sink.wait(2, |item| {
            item.to.contains(&no[1]) && item.as_written() == letter.arrives(Keeps::NoTracker)
        });
        self.sink.each_has(&letter, &[(&no, Keeps::NoTracker)], 2);
    }

    /// Text that is easily damaged on its way: 8-bit characters, lines of dots, and lines as long as they may
    /// be.
    fn text_that_is_easily_damaged(&self) {
        let (yes, no) = people("text", 2, 2);
        grant(self.relay, &yes);
        let long = "x".repeat(998);
        let text = format!("caf\u{e9} \u{2014} \u{1f4ec}\n.\n..\n.x\n{long}\n \n...");
        for (to, keeps) in [(&yes, Keeps::Everything), (&no, Keeps::NoTracker)] {
            let letter = Letter::new(&format!("text {keeps:?}"), &text);
            self.send(" BODY=8BITMIME", &letter, to);
            self.sink.each_has(&letter, &[(to, keeps)], 1);
        }
    }

    /// Addresses and header fields beyond ASCII.
    fn internationalised(&self) {
        for (name, keeps) in [("j\u{fc}rgen", Keeps::Everything), ("z\u{fc}leyha", Keeps::NoTracker)] {
            let to = [format!("{name}@home.example")];
            if keeps == Keeps::Everything {
                grant(self.relay, &to);
            }
            let letter = Letter::new(&format!("F\u{fc}r {name}"), "Read on.");
            submit(self.mta.port(), " SMTPUTF8 BODY=8BITMIME", &to, &letter.with);
            let taken = self.sink.wait(1, |item| item.to == to);
            assert!(taken[0].sender.contains("SMTPUTF8"), "{}", taken[0].sender);
            self.sink.each_has(&letter, &[(&to, keeps)], 1);
        }
    }

    /// An attachment that makes a mail of 25 MB.
    fn twenty_five_megabytes(&self) {
        let (_, no) = people("large", 0, 1);
        let line = format!("{}\n", "QUJD".repeat(19));
        let letter = Letter::new("large", &line.repeat(25_000_000 / line.len()));
        self.send("", &letter, &no);
        self.sink.each_has(&letter, &[(&no, Keeps::NoTracker)], 1);
    }

    /// One of three is refused by the next hop: the others have their mail, and the program says whom it did
    /// not reach and why.
    fn one_who_is_refused(&self) {
        let (_, no) = people("refused", 0, 3);
        self.sink.rule(Step::Rcpt, &no[1], Answer::Say("550 5.1.1 No such user here"), 1);
        let letter = Letter::new("refused", "Read on.");
        submit(self.mta.port(), "", &no, &letter.with);
        let line = self.mta.wait(&no[1], Fate::Failed);
        assert!(line.contains("No such user here"), "{line}");
        for person in [&no[0], &no[2]] {
            self.mta.wait(person, Fate::Sent);
        }
        self.sink.each_has(&letter, &[(&no[..1], Keeps::NoTracker), (&no[2..], Keeps::NoTracker)], 1);
    }

    /// Put off once: the relay stands in relayhost twice, so Postfix tries again at once.
    fn what_is_put_off_comes_again_at_once(&self) {
        let (_, no) = people("later", 0, 2);
        self.sink.rule(Step::Dot, &no[0], Answer::Say("452 4.2.2 Mailbox full"), 1);
        let letter = Letter::new("later", "Read on.");
        self.send("", &letter, &no);
        self.sink.each_has(&letter, &[(&no, Keeps::NoTracker)], 1);
        assert_eq!(no.iter().map(|person| self.mta.count(person, Fate::Deferred)).sum::<usize>(), 0);
    }

    /// Refused as a whole, for good.
    fn a_mail_that_is_refused(&self) {
        for (step, name) in [(Step::Data, "refuseddata"), (Step::Dot, "refuseddot")] {
            let (_, no) = people(name, 0, 2);
            self.sink.rule(step, &no[0], Answer::Say("554 5.7.1 We do not want this"), 1);
            submit(self.mta.port(), "", &no, &Letter::new(name, "Read on.").with);
            for person in &no {
                let line = self.mta.wait(person, Fate::Failed);
                assert!(line.contains("We do not want this"), "{line}");
            }
        }
    }

    /// The next hop goes away at each step: the program keeps the mail and says so, and its next attempt
    /// brings it, once.
    fn a_next_hop_that_goes_away(&self) {
        for (number, step) in [Step::Greeting, Step::Ehlo, Step::Mail, Step::Rcpt, Step::Data, Step::Dot]
            .into_iter()
            .enumerate()
        {
            let (_, no) = people(&format!("gone{number}"), 0, 2);
            let letter = Letter::new(&format!("gone {number}"), "Read on.");
            // The relay makes up for one connection that was lost, and Postfix comes twice.
            self.sink.hang_up();
            // Which recipient a program names first differs: one that was accepted before gets the mail.
            let about = if number <= 3 { "" } else { &no[0] };
            self.sink.rule(step, about, Answer::HangUp, usize::MAX);
            submit(self.mta.port(), "", &no, &letter.with);
            for person in &no {
                self.mta.wait(person, Fate::Deferred);
            }
            self.sink.forget_rules();
            self.mta.retry(&no);
            self.sink.each_has(&letter, &[(&no, Keeps::NoTracker)], 1);
        }
    }
}

#[test]
fn postfix_relayhost() {
    let sink = Sink::start();
    let relay = mta::relay_at(mta::port(), sink.port, "", "");
    let postfix = Postfix::by_recipe(&relay, "relayhost", "");
    let path = Path { mta: &postfix, relay: &relay, sink: &sink };
    path.people_who_said_the_same();
    path.the_same_again();
    path.text_that_is_easily_damaged();
    path.internationalised();
    path.twenty_five_megabytes();
    path.one_who_is_refused();
    path.what_is_put_off_comes_again_at_once();
    path.a_mail_that_is_refused();
    path.a_next_hop_that_goes_away();
}

#[test]
fn postfix_with_a_transaction_for_each_recipient() {
    let sink = Sink::start();
    let relay = mta::relay_at(mta::port(), sink.port, "", "");
    let limit = "default_destination_recipient_limit = 1";
    assert!(include_str!("../../docs/deploying.md").contains(limit));
    let postfix = Postfix::by_recipe(&relay, "relayhost", limit);
    for (agreed, not) in [(1, 2), (25, 25)] {
        let case = format!("alone{agreed}");
        let (yes, no) = people(&case, agreed, not);
        grant(&relay, &yes);
        let letter = Letter::new(&case, "Read on.");
        submit(postfix.port, "", &[&yes[..], &no[..]].concat(), &letter.with);
        for person in yes.iter().chain(&no) {
            postfix.wait(person, Fate::Sent);
        }
        sink.each_has(&letter, &[(&yes, Keeps::Everything), (&no, Keeps::NoTracker)], 1);
    }
}

/// The lines follow the TLS of the listener, in main.cf and in master.cf.
#[test]
fn postfix_over_tls() {
    for (tls, recipe) in
        [("starttls", "relayhost"), ("implicit", "relayhost"), ("required", "content-filter")]
    {
        let sink = Sink::start();
        let next = if recipe == "relayhost" { sink.port } else { mta::port() };
        let relay = mta::relay_at(mta::port(), next, &format!("tls = {tls:?}"), "");
        let postfix = Postfix::by_recipe(&relay, recipe, &format!("relayhost = [127.0.0.1]:{}", sink.port));
        let (_, no) = people(tls, 0, 1);
        let letter = Letter::new(tls, "Read on.");
        submit(postfix.port, "", &no, &letter.with);
        let taken = sink.wait(1, |item| item.to == no).remove(0);
        let text = String::from_utf8_lossy(&taken.message).into_owned();
        assert!(text.contains("(pixelward) with ESMTPS"), "{tls}: {text}");
        sink.each_has(&letter, &[(&no, Keeps::NoTracker)], 1);
    }
}

/// Signed on the way back, what arrives is what was signed.
#[test]
fn postfix_signs_behind_the_relay() {
    use pixelward::message::transfer::encode_base64;
    use pixelward::sign::canonical::{BodyForm, body_hash};
    let sink = Sink::start();
    let signer = OpenDkim::start();
    for recipe in ["content-filter", "proxy-filter"] {
        let relay = mta::relay_at(mta::port(), mta::port(), "", "");
        let main = mta::printed(&relay, recipe, "main.cf");
        let signed =
            main.replace("\npixelward_signers =\n", &format!("\npixelward_signers = {}\n", signer.milter()));
        assert_ne!(main, signed);
        let postfix = Postfix::with(
            &format!("relayhost = [127.0.0.1]:{}\n{signed}", sink.port),
            &mta::printed(&relay, recipe, "master.cf"),
        );
        let (_, no) = people(recipe, 0, 1);
        let letter = Letter::new(recipe, "Read on.");
        submit(postfix.port, "", &no, &letter.with);
        let taken = sink.wait(1, |item| item.to == no).remove(0);
        let text = String::from_utf8(taken.message.to_vec()).unwrap();
        assert_eq!(text.matches("DKIM-Signature: ").count(), 1, "{text}");
        let (_, body) = text.split_once("\r\n\r\n").unwrap();
        let hash = encode_base64(body_hash(body.as_bytes(), BodyForm::Relaxed, None).as_ref());
        let (_, signed) = text.split_once("bh=").unwrap();
        assert_eq!(signed.split(';').next().unwrap().replace(['\r', '\n', '\t', ' '], ""), hash, "{text}");
        sink.each_has(&letter, &[(&no, Keeps::NoTracker)], 1);
    }
}

#[test]
fn postfix_content_filter() {
    let sink = Sink::start();
    let (port, back) = (mta::port(), mta::port());
    let relay = mta::relay_at(port, back, "", "");
    let postfix = Postfix::taking_back(&relay, "content-filter", sink.port);
    let path = Path { mta: &postfix, relay: &relay, sink: &sink };
    path.people_who_said_the_same();
    path.the_same_again();
    path.text_that_is_easily_damaged();
    path.internationalised();
    path.twenty_five_megabytes();

    // Without the relay mail waits in the queue; nothing leaves unfiltered.
    drop(relay);
    let (_, no) = people("down", 0, 2);
    let letter = Letter::new("down", "Read on.");
    submit(postfix.port, "", &no, &letter.with);
    postfix.line(&["postfix/pixelward/smtp", &format!("to=<{}>", no[1]), "status=deferred"]);
    assert_eq!(sink.wait(0, |item| item.to.contains(&no[1])).len(), 0);
    let _relay = mta::relay_at(port, back, "", "");
    postfix.retry(&no);
    sink.each_has(&letter, &[(&no, Keeps::NoTracker)], 1);
}

#[test]
fn postfix_proxy_filter() {
    let sink = Sink::start();
    let relay = mta::relay_at(mta::port(), mta::port(), "", "");
    let postfix = Postfix::taking_back(&relay, "proxy-filter", sink.port);
    let path = Path { mta: &postfix, relay: &relay, sink: &sink };
    path.people_who_said_the_same();
    path.the_same_again();
    path.text_that_is_easily_damaged();
    path.internationalised();
    path.twenty_five_megabytes();
    drop(relay);
    let mut client = Client::greeted(postfix.port);
    client.say("MAIL FROM:<news@shop.example>");
    let reply = client.ask("RCPT TO:<no1-down@home.example>");
    assert!(reply.starts_with("451"), "{reply}");
}

/// What stands behind the relay decides, and Postfix passes it on to the client that still waits.
#[test]
fn postfix_proxy_filter_passes_answers_on() {
    let sink = Sink::start();
    let relay = mta::relay_at(mta::port(), sink.port, "", "");
    let postfix = Postfix::start(&mta::printed(&relay, "proxy-filter", "main.cf"));
    let (_, no) = people("proxied", 0, 3);
    sink.rule(Step::Rcpt, &no[1], Answer::Say("550 5.1.1 No such user here"), 1);
    let letter = Letter::new("proxied", "Read on.");
    let mut client = Client::greeted(postfix.port);
    assert_eq!(client.say("MAIL FROM:<news@shop.example>"), 250);
    let codes: Vec<u16> = no.iter().map(|to| client.say(&format!("RCPT TO:<{to}>"))).collect();
    assert_eq!(codes, [250, 550, 250]);
    assert_eq!(client.say("DATA"), 354);
    client.send(stuffed(&letter.with).as_bytes());
    assert_eq!(client.reply(), "250 2.0.0 Ok: queued as SINK1\r\n");
    sink.each_has(&letter, &[(&no[..1], Keeps::NoTracker), (&no[2..], Keeps::NoTracker)], 1);
    for (step, answer, wanted) in [
        (Step::Data, Answer::Say("554 5.7.1 We do not want this"), "554 5.7.1 We do not want this"),
        (Step::Dot, Answer::Say("554 5.7.1 We do not want this"), "554 5.7.1 We do not want this"),
        (Step::Dot, Answer::Say("452 4.2.2 Mailbox full"), "452 4.2.2 Mailbox full"),
        (Step::Dot, Answer::HangUp, "451 4.4.2"),
    ] {
        sink.rule(step, &no[0], answer, 1);
        let reply = Client::greeted(postfix.port).message("news@shop.example", &[&no[0]], &letter.with);
        assert!(reply.starts_with(wanted), "{reply}");
    }
}

#[test]
fn exim() {
    let sink = Sink::start();
    let relay = Relay::start(sink.port);
    let exim = Exim::start(relay.port);
    let path = Path { mta: &exim, relay: &relay, sink: &sink };
    path.people_who_said_the_same();
    path.the_same_again();
    path.text_that_is_easily_damaged();
    path.internationalised();
    path.twenty_five_megabytes();
    path.one_who_is_refused();
    path.a_mail_that_is_refused();
    path.a_next_hop_that_goes_away();
}

#[test]
fn opensmtpd() {
    let sink = Sink::start();
    let relay = Relay::start(sink.port);
    let opensmtpd = OpenSmtpd::start(relay.port);
    let path = Path { mta: &opensmtpd, relay: &relay, sink: &sink };
    path.people_who_said_the_same();
    path.the_same_again();
    path.text_that_is_easily_damaged();
    path.twenty_five_megabytes();
    path.one_who_is_refused();
    path.a_mail_that_is_refused();
    path.a_next_hop_that_goes_away();
}

/// What the libraries do alike, and what not.
fn library(library: Library) {
    let sink = Sink::start();
    let relay = Relay::start(sink.port);
    for count in [1, 2, 50] {
        let (yes, no) = people(&format!("same{count}"), count, count);
        grant(&relay, &yes);
        for (to, keeps) in [(&yes, Keeps::Everything), (&no, Keeps::NoTracker)] {
            let letter = Letter::new(&format!("{count} {keeps:?}"), "Read on.");
            let told = library.send(relay.port, to, &letter.with);
            assert!(told.sent && told.refused.is_empty(), "{told:?}");
            sink.each_has(&letter, &[(to, keeps)], 1);
            assert!(library.send(relay.port, to, &letter.with).sent);
            sink.each_has(&letter, &[(to, keeps)], 2);
        }
    }

    let (_, no) = people("text", 0, 1);
    let text = format!("caf\u{e9} \u{2014} \u{1f4ec}\n.\n..\n.x\n{}\n \n...", "x".repeat(10_000));
    let letter = Letter::new("text", &text);
    assert!(library.send(relay.port, &no, &letter.with).sent);
    sink.each_has(&letter, &[(&no, Keeps::NoTracker)], 1);

    // swaks does not speak SMTPUTF8.
    if library != Library::Swaks {
        let to = ["z\u{fc}leyha@home.example".to_owned()];
        let letter = Letter::new("F\u{fc}r dich", "Read on.");
        let told = library.send(relay.port, &to, &letter.with);
        assert!(told.sent, "{told:?}");
        sink.each_has(&letter, &[(&to, Keeps::NoTracker)], 1);
    }

    let (_, no) = people("large", 0, 1);
    let letter = Letter::new("large", &format!("{}\n", "QUJD".repeat(19)).repeat(320_000));
    assert!(library.send(relay.port, &no, &letter.with).sent);
    sink.each_has(&letter, &[(&no, Keeps::NoTracker)], 1);

    // One of three is refused: curl then sends nothing at all, the others send to the rest and say whom they
    // left out.
    let (_, no) = people("refused", 0, 3);
    sink.rule(Step::Rcpt, &no[1], Answer::Say("550 5.1.1 No such user here"), 1);
    let letter = Letter::new("refused", "Read on.");
    let told = library.send(relay.port, &no, &letter.with);
    assert!(told.text.contains("No such user here"), "{told:?}");
    if library == Library::Curl {
        assert!(!told.sent, "{told:?}");
        sink.each_has(&letter, &[], 1);
    } else {
        assert!(told.sent && told.refused == no[1..2], "{told:?}");
        sink.each_has(&letter, &[(&no[..1], Keeps::NoTracker), (&no[2..], Keeps::NoTracker)], 1);
    }

    // Refused as a whole, or not taken now: the application hears it.
    let (_, no) = people("whole", 0, 2);
    let letter = Letter::new("whole", "Read on.");
    for (step, answer, wanted) in [
        (Step::Mail, Answer::Say("550 5.7.1 Not from you"), "550 5.7.1 Not from you"),
        (Step::Data, Answer::Say("554 5.7.1 We do not want this"), "554 5.7.1 We do not want this"),
        (Step::Dot, Answer::Say("452 4.2.2 Mailbox full"), "452 4.2.2 Mailbox full"),
        (Step::Greeting, Answer::HangUp, "451 4.4.2"),
        (Step::Mail, Answer::HangUp, "451 4.4.2"),
        (Step::Data, Answer::HangUp, "451 4.4.2"),
        (Step::Dot, Answer::HangUp, "451 4.4.2"),
    ] {
        sink.hang_up();
        sink.rule(step, "", answer, usize::MAX);
        let told = library.send(relay.port, &no, &letter.with);
        // curl says the code alone.
        let wanted = if library == Library::Curl { &wanted[..3] } else { wanted };
        assert!(!told.sent && told.text.contains(wanted), "{step:?}: {told:?}");
        sink.forget_rules();
    }
    sink.each_has(&letter, &[], 1);
}
#[test]
fn python_smtplib() {
    library(Library::Smtplib);
}

#[test]
fn nodemailer() {
    library(Library::Nodemailer);
}

#[test]
fn curl() {
    library(Library::Curl);
}

#[test]
fn swaks() {
    library(Library::Swaks);
}

/// What an operator copies from docs/deploying.md works as it stands.
#[test]
fn documented_commands() {
    let sink = Sink::start();
    let relay = mta::relay_at(mta::port(), sink.port, "", "");
    let port = relay.port.to_string();
    relay.folder.file("message.eml", &Letter::new("documented", "Read on.").with);
    let mut seen = 0;
    for block in mta::documented("## Applications") {
        for line in block.lines().filter(|line| line.starts_with("curl ") || line.starts_with("swaks ")) {
            let line = line.replace("2525", &port);
            mta::run(Command::new("sh").args(["-c", &line]).current_dir(&relay.folder.0));
            seen += 1;
        }
    }
    assert_eq!((seen, sink.wait(2, |item| item.to == ["ann@home.example"]).len()), (2, 2));
    for (heading, recipe) in [
        ("### Postfix, relayhost", "relayhost"),
        ("### Postfix, content filter", "content-filter"),
        ("### Postfix, proxy filter", "proxy-filter"),
    ] {
        let command = format!("pixelward postfix --recipe {recipe}");
        assert!(mta::documented(heading).iter().any(|block| block.trim() == command), "{command}");
        let output = relay.command(&["postfix", "--recipe", recipe]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && said.contains("# ---- main.cf ----"), "{said}");
    }
}
