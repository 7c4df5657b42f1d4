//! A next hop that fails at each step: the client hears the truth, and 250 only after the next hop's 250.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::Arc;

use crate::support::{Answer, Client, Folder, NextHop, Relay, Step};
use rustls::pki_types::PrivateKeyDer;

/// The codes of MAIL, RCPT, DATA and the final dot; 0 for what was not said any more.
fn check(step: Step, answer: Answer) -> (Vec<u16>, usize) {
    let hop = NextHop::behaving(&[(step, answer)]);
    let relay = Relay::with(
        hop.port,
        "",
        "command_timeout_s = 1\ndata_timeout_s = 1\ndot_timeout_s = 1\nidle_s = 0",
        "",
    );
    let mut client = Client::greeted(relay.port);
    let mut codes = Vec::new();
    for line in ["MAIL FROM:<a@shop.example>", "RCPT TO:<ann@home.example>", "DATA"] {
        codes.push(client.say(line));
    }
    if codes[2] == 354 {
        client.send(b"Subject: a\r\n\r\nb\r\n.\r\n");
        codes.push(client.code());
    }
    assert_eq!(client.say("QUIT"), 221);
    (codes, hop.accepted())
}

#[test]
fn trouble_with_the_next_hop_is_never_a_rejection() {
    for answer in [
        Answer::HangUp,
        Answer::Stall,
        Answer::Say("hello?"),
        Answer::Say("999 what"),
        Answer::Say("421 4.3.2 Closing"),
    ] {
        for step in [Step::Greeting, Step::Ehlo, Step::Mail] {
            let (codes, accepted) = check(step, answer.clone());
            assert_eq!(codes, [451, 451, 451], "{step:?} {answer:?}");
            assert_eq!(accepted, 0);
        }
        let (codes, accepted) = check(Step::Rcpt, answer.clone());
        assert_eq!((codes, accepted), (vec![250, 451, 451], 0), "{answer:?}");
        let (codes, accepted) = check(Step::Dot, answer.clone());
        assert_eq!((codes, accepted), (vec![250, 250, 354, 451], 0), "{answer:?}");
    }
}

#[test]
fn a_connection_lost_before_the_data_is_made_good_and_one_lost_after_the_dot_is_not() {
    let (codes, accepted) = check(Step::Data, Answer::HangUp);
    assert_eq!((codes, accepted), (vec![250, 250, 354, 250], 1));
    let (codes, accepted) = check(Step::Dot, Answer::HangUp);
    assert_eq!((codes, accepted), (vec![250, 250, 354, 451], 0));
}

#[test]
fn what_the_next_hop_says_of_the_mail_is_passed_on() {
    for (step, reply, codes) in [
        (Step::Mail, "452 4.3.1 Full", vec![452, 451, 451]),
        (Step::Mail, "550 5.7.1 Not you", vec![550, 503, 503]),
        (Step::Rcpt, "450 4.2.0 Later", vec![250, 450, 554]),
        (Step::Rcpt, "550 5.1.1 Who", vec![250, 550, 554]),
        (Step::Data, "451 4.3.0 Later", vec![250, 250, 354, 451]),
        (Step::Data, "554 5.7.0 No", vec![250, 250, 354, 554]),
        (Step::Dot, "452 4.3.1 Full", vec![250, 250, 354, 452]),
        (Step::Dot, "552 5.3.4 Too big", vec![250, 250, 354, 552]),
    ] {
        assert_eq!(check(step, Answer::Say(reply)), (codes, 0), "{reply}");
    }
}

#[test]
fn what_concerns_us_becomes_a_deferral() {
    for reply in
        ["530 5.7.0 Authenticate", "535 5.7.8 Bad", "500 5.5.2 What", "503 5.5.1 Order", "421 4.7.0 Go"]
    {
        assert_eq!(check(Step::Mail, Answer::Say(reply)).0, [451, 451, 451], "{reply}");
        assert_eq!(check(Step::Dot, Answer::Say(reply)).0, [250, 250, 354, 451], "{reply}");
    }
}

#[test]
fn a_recipient_whose_answer_is_lost_is_put_off_and_those_before_and_after_get_the_mail() {
    for answer in [Answer::HangUp, Answer::Stall, Answer::Say("421 4.3.2 Closing")] {
        let hop = NextHop::start();
        let relay = Relay::with(hop.port, "", "command_timeout_s = 1\nidle_s = 0", "");
        let mut client = Client::greeted(relay.port);
        assert_eq!(client.say("MAIL FROM:<a@shop.example>"), 250);
        assert_eq!(client.say("RCPT TO:<ann@home.example>"), 250);
        hop.set(&[(Step::Rcpt, answer.clone())]);
        assert_eq!(client.say("RCPT TO:<ben@home.example>"), 451, "{answer:?}");
        assert_eq!(client.say("RCPT TO:<cat@home.example>"), 250, "{answer:?}");
        assert_eq!(client.say("DATA"), 354);
        client.send(b"Subject: a\r\n\r\nb\r\n.\r\n");
        assert_eq!(client.code(), 250);
        assert_eq!(hop.wait(1)[0].rcpts, ["RCPT TO:<ann@home.example>", "RCPT TO:<cat@home.example>"]);
        assert_eq!(hop.accepted(), 1);
    }
}

#[test]
fn answers_before_a_421_in_a_batch_are_passed_on() {
    let hop = NextHop::start();
    let relay = Relay::start(hop.port);
    let mut client = Client::greeted(relay.port);
    hop.set(&[
        (Step::Rcpt, Answer::Say("550 5.1.1 Who")),
        (Step::Rcpt, Answer::Say("250 2.1.5 Ok")),
        (Step::Rcpt, Answer::Say("421 4.7.0 Too many errors")),
    ]);
    client.send(
        b"MAIL FROM:<a@shop.example>\r\nRCPT TO:<ann@home.example>\r\nRCPT TO:<ben@home.example>\r\n\
          RCPT TO:<cat@home.example>\r\nRCPT TO:<dan@home.example>\r\nDATA\r\n",
    );
    let codes: Vec<u16> = (0..6).map(|_| client.code()).collect();
    assert_eq!(codes, [250, 550, 250, 451, 451, 354]);
    client.send(b"Subject: a\r\n\r\nb\r\n.\r\n");
    assert_eq!(client.code(), 250);
    assert_eq!(hop.wait(1)[0].rcpts, ["RCPT TO:<ben@home.example>"]);
}

#[test]
fn the_reply_to_mail_does_not_wait_for_the_last_recipient_of_its_batch() {
    let hop = NextHop::behaving(&[(Step::Rcpt, Answer::Stall)]);
    let relay = Relay::with(hop.port, "", "command_timeout_s = 600", "");
    let mut client = Client::greeted(relay.port);
    client.send(b"MAIL FROM:<a@shop.example>\r\nRCPT TO:<ann@home.example>\r\n");
    assert_eq!(client.reply(), "250 2.1.0 Sender ok\r\n");
}

#[test]
fn bad_syntax_that_the_next_hop_finds_in_the_mail_is_passed_on() {
    for (step, reply, codes) in [
        (Step::Mail, "501 5.1.7 Bad sender address syntax", vec![501, 503, 503]),
        (Step::Rcpt, "501 5.1.3 Bad recipient address syntax", vec![250, 501, 554]),
        (Step::Rcpt, "504 5.5.2 <a>: need fully-qualified address", vec![250, 504, 554]),
        (Step::Dot, "500 Line too long", vec![250, 250, 354, 500]),
        (Step::Dot, "501 5.6.0 Not like this", vec![250, 250, 354, 501]),
    ] {
        assert_eq!(check(step, Answer::Say(reply)), (codes, 0), "{reply}");
    }
}

#[test]
fn an_odd_answer_for_one_recipient_puts_off_that_one_alone() {
    for odd in ["500 5.5.2 What", "503 5.5.1 Order", "530 5.7.0 Authenticate"] {
        let hop = NextHop::start();
        let relay = Relay::start(hop.port);
        let mut client = Client::greeted(relay.port);
        assert_eq!(client.say("MAIL FROM:<a@shop.example>"), 250);
        assert_eq!(client.say("RCPT TO:<ann@home.example>"), 250);
        hop.set(&[(Step::Rcpt, Answer::Say(odd))]);
        assert_eq!(client.say("RCPT TO:<ben@home.example>"), 451, "{odd}");
        assert_eq!(client.say("RCPT TO:<cat@home.example>"), 250);
        assert_eq!(client.say("DATA"), 354);
        client.send(b"Subject: a\r\n\r\nb\r\n.\r\n");
        assert_eq!(client.code(), 250);
        assert_eq!(hop.wait(1)[0].rcpts, ["RCPT TO:<ann@home.example>", "RCPT TO:<cat@home.example>"]);
    }
}

#[test]
fn a_next_hop_that_is_not_there_defers() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let relay = Relay::start(port);
    let mut client = Client::greeted(relay.port);
    assert!(client.ask("MAIL FROM:<a@shop.example>").starts_with("451 4.4.2"));
    relay.log.wait("the alarm", |line| line.contains("ERROR") && line.contains("could not be used"));
}

/// A next hop that offers STARTTLS with this certificate, for one conversation after the other. `injected`
/// follows its 220.
fn tls_next_hop(
    certified: rcgen::CertifiedKey<rcgen::KeyPair>,
    injected: &'static str,
    keywords: &'static str,
) -> (u16, Arc<std::sync::Mutex<Vec<String>>>) {
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
    let lines = Arc::clone(&heard);
    std::thread::spawn(move || {
        for mut tcp in listener.incoming().flatten() {
            let _ = (|| -> std::io::Result<()> {
                tcp.write_all(b"220 tls.example ESMTP\r\n")?;
                let mut clear = BufReader::new(tcp.try_clone()?);
                let mut line = String::new();
                clear.read_line(&mut line)?;
                tcp.write_all(b"250-tls.example\r\n250-DSN\r\n250 STARTTLS\r\n")?;
                line.clear();
                clear.read_line(&mut line)?;
                tcp.write_all(format!("220 Go\r\n{injected}").as_bytes())?;
                let connection =
                    rustls::ServerConnection::new(Arc::clone(&config)).map_err(std::io::Error::other)?;
                let mut tls = rustls::StreamOwned::new(connection, tcp);
                loop {
                    let mut line = Vec::new();
                    let mut byte = [0];
                    while !line.ends_with(b"\r\n") {
                        if std::io::Read::read(&mut tls, &mut byte)? == 0 {
                            return Ok(());
                        }
                        line.push(byte[0]);
                    }
                    let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                    let reply = match line.as_str() {
                        "DATA" => "354 Go\r\n",
                        "." => "250 2.0.0 Taken over TLS\r\n",
                        own if own.starts_with("EHLO") => keywords,
                        own if own.starts_with("AUTH PLAIN ") => "235 2.7.0 Welcome\r\n",
                        "AUTH LOGIN" => "334 VXNlcm5hbWU6\r\n",
                        // The login and the password of the test, in base64.
                        "cmVsYXk=" => "334 UGFzc3dvcmQ6\r\n",
                        "b3BlbiBzZXNhbWU=" => "235 2.7.0 Welcome\r\n",
                        own if own.contains(':') && !own.starts_with("MAIL") && !own.starts_with("RCPT") => {
                            ""
                        }
                        "" | "b" => "",
                        own if own.starts_with('\t') => "",
                        _ => "250 2.0.0 Ok\r\n",
                    };
                    lines.lock().unwrap().push(line);
                    tls.write_all(reply.as_bytes())?;
                }
            })();
        }
    });
    (port, heard)
}

fn certificate(names: &[&str], expired: bool) -> rcgen::CertifiedKey<rcgen::KeyPair> {
    let signing_key = rcgen::KeyPair::generate().unwrap();
    let mut parameters =
        rcgen::CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
            .unwrap();
    if expired {
        parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(2021, 1, 1);
    }
    let cert = parameters.self_signed(&signing_key).unwrap();
    rcgen::CertifiedKey { cert, signing_key }
}

fn over_tls(
    certified: rcgen::CertifiedKey<rcgen::KeyPair>,
    trusted: bool,
    mode: &str,
    injected: &'static str,
) -> (String, Vec<String>) {
    over_tls_with(certified, trusted, mode, injected, "")
}

/// The same with more lines for the next hop.
fn over_tls_with(
    certified: rcgen::CertifiedKey<rcgen::KeyPair>,
    trusted: bool,
    mode: &str,
    injected: &'static str,
    more: &str,
) -> (String, Vec<String>) {
    let folder = Folder::new();
    let ca = folder.file("ca.pem", &certified.cert.pem());
    let (port, heard) = tls_next_hop(certified, injected, "250 tls.example\r\n");
    let trust = if trusted { format!("ca_file = {ca:?}") } else { String::new() };
    let relay = Relay::with(port, "", &format!("tls = \"{mode}\"\n{trust}\n{more}"), "");
    let mut client = Client::greeted(relay.port);
    let mail = client.ask("MAIL FROM:<a@shop.example> RET=HDRS");
    if !mail.starts_with("250") {
        return (mail, heard.lock().unwrap().clone());
    }
    assert_eq!(client.say("RCPT TO:<ann@home.example>"), 250);
    assert_eq!(client.say("DATA"), 354);
    client.send(b"Subject: a\r\n\r\nb\r\n.\r\n");
    let reply = client.reply();
    (reply, heard.lock().unwrap().clone())
}

#[test]
fn a_certificate_that_does_not_fit_defers_and_one_that_fits_is_used() {
    for mode in ["required", "opportunistic"] {
        let (reply, heard) = over_tls(certificate(&["localhost"], false), true, mode, "");
        assert_eq!(reply, "250 2.0.0 Taken over TLS\r\n");
        // What was announced in clear is forgotten: DSN was, and is not over TLS.
        assert!(heard.contains(&"MAIL FROM:<a@shop.example>".to_owned()), "{heard:?}");
        for (certificate, trusted) in [
            (certificate(&["localhost"], false), false),
            (certificate(&["other.example"], false), true),
            (certificate(&["localhost"], true), true),
        ] {
            let (reply, heard) = over_tls(certificate, trusted, mode, "");
            assert!(reply.starts_with("451 4.7.5"), "{reply}");
            assert!(heard.is_empty(), "{heard:?}");
        }
    }
}

#[test]
fn a_certificate_with_another_name_is_used_if_that_name_is_set() {
    let named = |name: &str| {
        let more = format!("tls_name = \"{name}\"");
        over_tls_with(certificate(&["other.example"], false), true, "required", "", &more).0
    };
    assert_eq!(named("other.example"), "250 2.0.0 Taken over TLS\r\n");
    assert!(named("third.example").starts_with("451 4.7.5"));
}

#[test]
fn a_reply_injected_before_tls_defers() {
    let (reply, heard) = over_tls(certificate(&["localhost"], false), true, "required", "250 injected\r\n");
    assert!(reply.starts_with("451 4.7.5"), "{reply}");
    assert!(heard.is_empty());
}

#[test]
fn the_login_is_only_sent_over_tls_and_in_a_way_that_is_offered() {
    use std::os::unix::fs::PermissionsExt;
    for (keywords, wanted) in [
        ("250-tls.example\r\n250 AUTH LOGIN PLAIN\r\n", &["AUTH PLAIN AHJlbGF5AG9wZW4gc2VzYW1l"][..]),
        ("250-tls.example\r\n250 AUTH=LOGIN\r\n", &["AUTH LOGIN", "cmVsYXk=", "b3BlbiBzZXNhbWU="]),
        ("250 tls.example\r\n", &[]),
    ] {
        let folder = Folder::new();
        let made = certificate(&["localhost"], false);
        let ca = folder.file("ca.pem", &made.cert.pem());
        let login = folder.file("login", "relay\nopen sesame\n");
        std::fs::set_permissions(&login, std::fs::Permissions::from_mode(0o600)).unwrap();
        let (port, heard) = tls_next_hop(made, "", keywords);
        let relay = Relay::with(
            port,
            "",
            &format!("tls = \"required\"\nca_file = {ca:?}\ncredentials_file = {login:?}"),
            "",
        );
        let reply = Client::greeted(relay.port).ask("MAIL FROM:<a@shop.example>");
        assert!(
            reply.starts_with(if wanted.is_empty() { "451 4.3.5" } else { "250" }),
            "{keywords}: {reply}"
        );
        let heard = heard.lock().unwrap().clone();
        assert_eq!(&heard[1..=wanted.len()], wanted);
        assert!(!relay.log.all().join("\n").contains("sesame"));
    }
    let hop = NextHop::start();
    let folder = Folder::new();
    let login = folder.file("login", "relay\nopen sesame\n");
    std::fs::set_permissions(&login, std::fs::Permissions::from_mode(0o600)).unwrap();
    let relay =
        Relay::with(hop.port, "", &format!("tls = \"opportunistic\"\ncredentials_file = {login:?}"), "");
    assert!(Client::greeted(relay.port).ask("MAIL FROM:<a@shop.example>").starts_with("451 4.7.5"));
}

#[test]
fn no_starttls_defers_where_tls_is_required() {
    let hop = NextHop::start();
    let relay = Relay::with(hop.port, "", "tls = \"required\"", "");
    assert!(Client::greeted(relay.port).ask("MAIL FROM:<a@shop.example>").starts_with("451 4.7.5"));
}

#[test]
fn commands_behind_starttls_are_dropped_with_the_session() {
    let hop = NextHop::start();
    let relay = Relay::with(hop.port, "tls = \"starttls\"", "", "");
    let mut client = Client::greeted(relay.port);
    client.send(b"STARTTLS\r\nMAIL FROM:<evil@shop.example>\r\n");
    assert_eq!(client.code(), 503);
    assert_eq!(client.reply(), "");
    assert_eq!(hop.connections.load(std::sync::atomic::Ordering::SeqCst), 0);
}
