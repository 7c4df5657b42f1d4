//! A real Postfix with the certificate that openssl makes by default, which signed itself and is marked as an
//! authority: the relay knows it by its fingerprint.

use std::process::Command;

use crate::mta::{Postfix, run};
use crate::support::{Client, Folder, Relay, newsletter};

/// A Postfix that takes mail over TLS, and the digests of its certificate and of its public key.
fn receiver(files: &Folder) -> (Postfix, String, String) {
    let script = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=some.other.example -keyout key.pem -out \
                  cert.pem && openssl x509 -in cert.pem -noout -text | grep -q CA:TRUE && openssl x509 -in \
                  cert.pem -noout -fingerprint -sha256 | cut -d= -f2 && openssl x509 -in cert.pem -noout \
                  -pubkey | openssl pkey -pubin -outform DER | sha256sum | cut -d' ' -f1";
    let made = run(Command::new("sh").args(["-c", script]).current_dir(&files.0));
    let printed = String::from_utf8(made.stdout).unwrap();
    let (certificate, key) = printed.trim().split_once('\n').unwrap();
    let postfix = Postfix::start(&format!(
        "virtual_mailbox_domains = home.example\nvirtual_mailbox_maps = static:all/\n\
         smtpd_tls_security_level = may\nsmtpd_tls_cert_file = {at}/cert.pem\nsmtpd_tls_key_file = \
         {at}/key.pem\nsmtpd_tls_received_header = yes",
        at = files.0.display()
    ));
    (postfix, certificate.to_owned(), key.to_owned())
}

fn send(relay: &Relay) -> String {
    let mut client = Client::greeted(relay.port);
    let reply = client.ask("MAIL FROM:<news@shop.example>");
    if !reply.starts_with("250") {
        return reply;
    }
    assert_eq!(client.say("RCPT TO:<ann@home.example>"), 250);
    assert_eq!(client.say("DATA"), 354);
    client.send(crate::support::stuffed(&newsletter("ann@home.example").0).as_bytes());
    client.reply()
}

#[test]
fn the_usual_self_signed_certificate_is_known_by_its_fingerprint() {
    let files = Folder::new();
    let (next, certificate, key) = receiver(&files);
    let lines = |tls: &str, fingerprint: &str| {
        format!("tls = \"{tls}\"\ntls_fingerprints = [{:?}, {fingerprint:?}]", "ab".repeat(32))
    };
    let mut count = 0;
    for (tls, fingerprint) in [
        ("required", &certificate),
        ("opportunistic", &certificate),
        ("required", &key),
        ("opportunistic", &key),
    ] {
        let relay = Relay::with(next.port, "", &lines(tls, fingerprint), "");
        let reply = send(&relay);
        assert!(reply.starts_with("250"), "{tls} {fingerprint}: {reply}");
        count += 1;
        let mails = next.mails("all", count);
        assert_eq!(mails.iter().filter(|mail| mail.contains("using TLSv1.3")).count(), count, "{tls}");
        let said = String::from_utf8(relay.command(&["check"]).stdout).unwrap();
        assert!(said.contains("TLSv1.3"), "{said}");
    }
    // Without the fingerprint it is not trusted, and nothing goes out in clear.
    let pem = files.0.join("cert.pem");
    for (tls, more) in [("required", format!("ca_file = {pem:?}")), ("opportunistic", String::new())] {
        let relay = Relay::with(next.port, "", &format!("tls = \"{tls}\"\n{more}"), "");
        let reply = send(&relay);
        assert!(reply.starts_with("451 4.7.5"), "{reply}");
        relay.log.wait("the setting", |line| line.contains("tls_fingerprints"));
    }
    assert_eq!(next.mails("all", count).len(), count);
}

#[test]
fn another_certificate_is_not_trusted_and_the_log_names_its_fingerprint() {
    let files = Folder::new();
    let (next, certificate, key) = receiver(&files);
    let wrong = "ab".repeat(32);
    for tls in ["required", "opportunistic"] {
        let lines = format!("tls = \"{tls}\"\ntls_fingerprints = {wrong:?}");
        let relay = Relay::with(next.port, "", &lines, "");
        let reply = send(&relay);
        assert!(reply.starts_with("451 4.7.5"), "{reply}");
        let digest = certificate.replace(':', "").to_ascii_lowercase();
        relay.log.wait("its fingerprints", |line| line.contains(&digest) && line.contains(&key));
    }
    let log = next.log();
    assert!(!log.contains("from=<"), "{log}");
}
