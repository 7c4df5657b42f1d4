//! Certificates: those of clients, and the relay's own with its renewal.

use crate::support;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::secure::{Authority, Pair, Secure, client_config, swaks, text};
use crate::support::{Folder, NextHop, Relay, configuration, free_port, get};

const TO: &str = "ann@home.example";

fn listener(pair: &Pair, rest: &str) -> String {
    let tls = if rest.contains("tls =") { "" } else { "tls = \"required\"" };
    format!("{tls}\n{}\n{rest}", pair.lines())
}

#[test]
fn where_a_certificate_is_required_nobody_sends_without_a_verified_one() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let hop = NextHop::start();
    for tls in ["required", "implicit"] {
        let lines =
            format!("tls = \"{tls}\"\nclient_certificate = \"required\"\nclient_ca_file = {:?}", ours.file);
        let relay = Relay::with(hop.port, &listener(&ours.issue("localhost"), &lines), "", "");
        let connect = |item: Option<&Pair>| {
            let config = client_config(&ours.file, item);
            if tls == "implicit" {
                return Secure::implicit(relay.port, config);
            }
            let mut client = support::Client::greeted(relay.port);
            assert!(client.ask("MAIL FROM:<news@shop.example>").starts_with("530 "));
            assert_eq!(client.say("STARTTLS"), 220);
            Secure::over(client.into_stream(), config)
        };
        // With TLS 1.3 the client hears of the refusal when it reads for the first time.
        for certificate in
            [None, Some(theirs.issue("shop.example")), Some(ours.issue_until("late.example", 2021))]
        {
            assert_eq!(
                connect(certificate.as_ref()).ask("EHLO client.example"),
                "",
                "{certificate:?} with {tls}"
            );
        }
        relay.log.wait_for(3, "each refusal", |line| line.contains("TLS could not be established"));
        let mut client = connect(Some(&ours.issue("shop.example")));
        if tls == "implicit" {
            assert!(client.reply().starts_with("220 "));
        }
        assert_eq!(client.say("EHLO client.example"), 250);
        assert!(client.message("news@shop.example", TO).starts_with("250 "));
    }
    assert_eq!(hop.count(), 2);
}

#[test]
fn where_a_certificate_is_asked_for_a_verified_one_needs_no_login_and_any_other_counts_for_nothing() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let users = ours.folder.file("users", USER);
    std::fs::set_permissions(&users, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let hop = NextHop::start();
    let lines = format!(
        "client_certificate = \"asked\"\nclient_ca_file = {:?}\nusers_file = {users:?}\nrequire_login = true",
        ours.file
    );
    let relay = Relay::with(hop.port, &listener(&ours.issue("localhost"), &lines), "", "");
    for certificate in
        [None, Some(theirs.issue("shop.example")), Some(ours.issue_until("late.example", 2021))]
    {
        let mut client = Secure::starttls(relay.port, client_config(&ours.file, certificate.as_ref()));
        assert!(
            client.ask("MAIL FROM:<news@shop.example>").starts_with("530 5.7.0 Authentication required"),
            "{certificate:?}"
        );
    }
    let certificate = ours.issue("shop.example");
    let mut client = Secure::starttls(relay.port, client_config(&ours.file, Some(&certificate)));
    assert!(client.message("news@shop.example", TO).starts_with("250 "));
    let (certificate, key) = (certificate.certificate.to_str().unwrap(), certificate.key.to_str().unwrap());
    let output = swaks(relay.port, &["--tls", "--tls-cert", certificate, "--tls-key", key]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(hop.wait(2).len(), 2);
}

/// A login whose password nobody has.
const USER: &str =
    "ann:$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$6fK4u1JQFx2YzYmCOsUuVYPjTz3eXfQIqYrXlJdO9Eo\n";

fn put(pair: &Pair, certificate: &Path, key: &Path) {
    for (from, to) in [(&pair.key, key), (&pair.certificate, certificate)] {
        let new = to.with_extension("new");
        std::fs::copy(from, &new).unwrap();
        std::fs::rename(&new, to).unwrap();
    }
}

#[test]
fn a_new_certificate_is_used_without_ending_sessions_and_one_that_does_not_fit_is_not() {
    let authority = Authority::new();
    let certificate = authority.issue("localhost");
    let (first, second) =
        (authority.issue_until("localhost", 2099), authority.issue_until("localhost", 2098));
    let hop = NextHop::start();
    let relay = Relay::with(hop.port, &listener(&certificate, ""), "", "[relay]\ncertificate_check_s = 1");
    let connect = || Secure::starttls(relay.port, client_config(&authority.file, None));
    let mut open = connect();
    let before = open.server_certificate();
    put(&first, &certificate.certificate, &certificate.key);
    relay.log.wait("the new certificate", |line| line.contains("the certificate was read again"));
    let after = connect().server_certificate();
    assert_ne!(after, before);
    assert!(open.message("news@shop.example", TO).starts_with("250 "));
    // The key of one and the certificate of the other.
    put(
        &Pair { certificate: second.certificate.clone(), key: first.key.clone() },
        &certificate.certificate,
        &certificate.key,
    );
    let wrong = |line: &str| line.contains("has changed but cannot be used");
    relay.log.wait("the refusal", wrong);
    assert_eq!(connect().server_certificate(), after);
    put(&second, &certificate.certificate, &certificate.key);
    let again = |line: &str| line.contains("the certificate was read again");
    relay.log.wait_for(2, "another new certificate", again);
    assert_ne!(connect().server_certificate(), after);
    assert_eq!(relay.log.all().iter().filter(|line| wrong(line)).count(), 1, "it is logged once");
}

#[test]
fn the_end_of_a_certificate_is_logged_and_measured() {
    let authority = Authority::new();
    let hop = NextHop::start();
    let folder = Folder::new();
    let over = authority.issue_until("localhost", 2021);
    let file = configuration(&folder, hop.port, &listener(&over, "name = \"front\""), "", "");
    let port = free_port();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(
        &file,
        text.replace("[private]\naddress = \"\"", &format!("[private]\naddress = \"127.0.0.1:{port}\"")),
    )
    .unwrap();
    let relay = Relay::in_folder(folder);
    let line = relay.log.wait("the alarm", |line| line.contains("the certificate has expired"));
    assert!(line.contains("ERROR") && line.contains("front"), "{line}");
    let page = get(port, "/metrics");
    let gauge = "pixelward_certificate_expiry_timestamp_seconds{listener=\"front\"} 1609459200";
    assert!(page.contains(gauge), "{page}");
}

#[test]
fn tls_is_1_2_or_newer() {
    let authority = Authority::new();
    let hop = NextHop::start();
    let relay = Relay::with(hop.port, &listener(&authority.issue("localhost"), ""), "", "");
    // The level lets OpenSSL itself offer versions that it would not by default.
    let openssl = |version: &str| {
        let mut child = Command::new("openssl")
            .args([
                "s_client",
                "-starttls",
                "smtp",
                "-connect",
                &format!("127.0.0.1:{}", relay.port),
                version,
            ])
            .args(["-cipher", "DEFAULT:@SECLEVEL=0", "-CAfile"])
            .arg(&authority.file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let _ = child.stdin.take().unwrap().write_all(b"QUIT\r\n");
        let output = child.wait_with_output().unwrap();
        text(&output)
    };
    for version in ["-tls1", "-tls1_1"] {
        let said = openssl(version);
        assert!(
            said.contains("SSL alert number") && said.contains("no peer certificate"),
            "{version}: {said}"
        );
    }
    for version in ["-tls1_2", "-tls1_3"] {
        let said = openssl(version);
        assert!(said.contains("Verify return code: 0 (ok)"), "{version}: {said}");
    }
}
