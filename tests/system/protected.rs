//! Signed and encrypted mail, made and judged by the tools that people use: OpenSSL for S/MIME, GnuPG for
//! PGP/MIME. Protected parts leave byte for byte as they came, and still verify; what stands beside them is
//! enforced.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::support::{Client, Folder, NextHop, Relay, crlf};

const PIXEL: &str = "<img src=\"https://click.shop.example/wf/open?upn=u001.Zk3Qw9XvT2aB7LmN8pRsYd4HcJ6\" \
                     width=\"1\" height=\"1\" alt=\"\">";
const GONE: &str = "<img width=\"1\" height=\"1\" alt=\"\">";

/// A part of mail that says something, with or without a tracker in it; line ends as on the wire.
fn letter(pixel: &str) -> String {
    crlf(&format!(
        "Content-Type: text/html; charset=utf-8\n\n<html><body><p>Your invoice</p>{pixel}</body></html>\n"
    ))
}

/// Protected and not, in one message: what is to be protected stands first, a newsletter with a tracker
/// beside it.
fn beside(protected: &str) -> String {
    let html =
        format!("Content-Type: text/html; charset=utf-8\n\n<html><body><p>News</p>{PIXEL}</body></html>\n");
    let head = "From: Shop <news@shop.example>\nTo: <ann@home.example>\nSubject: Invoice\nDate: Mon, 02 Nov \
                2026 09:00:00 +0000\n\
                Message-ID: <1@shop.example>\nMIME-Version: 1.0\nContent-Type: multipart/mixed; \
                boundary=\"outer\"\n\n--outer\n";
    format!("{}{protected}\r\n--outer\r\n{}\r\n--outer--\r\n", crlf(head), crlf(&html))
}

/// What stands first in such a message.
fn first(message: &str) -> &str {
    let rest = message.split_once("--outer\r\n").unwrap().1;
    rest.split_once("\r\n--outer").unwrap().0
}

fn run(folder: &Folder, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(&folder.0)
        .env("GNUPGHOME", folder.0.join("gnupg"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// A folder with a certificate for S/MIME.
fn with_certificate() -> Folder {
    let folder = Folder::new();
    let new = [
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=shop.example",
        "-addext",
    ];
    let rest = ["extendedKeyUsage=emailProtection", "-keyout", "key.pem", "-out", "cert.pem"];
    run(&folder, "openssl", &[&new[..], &rest[..]].concat());
    folder
}

/// A folder with a key for PGP. Its agent ends with the test.
struct Pgp(Folder);

impl Pgp {
    fn new() -> Pgp {
        let folder = Folder::new();
        let home = folder.0.join("gnupg");
        std::fs::create_dir(&home).unwrap();
        std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o700)).unwrap();
        let new = [
            "--batch",
            "--quiet",
            "--passphrase",
            "",
            "--quick-gen-key",
            "shop@shop.example",
            "future-default",
            "default",
            "never",
        ];
        run(&folder, "gpg", &new);
        Pgp(folder)
    }

    fn run(&self, arguments: &[&str]) -> String {
        run(
            &self.0,
            "gpg",
            &[&["--batch", "--quiet", "--yes", "--trust-model", "always"], arguments].concat(),
        )
    }

    /// `multipart/signed` (RFC 3156 section 5) around a part.
    fn signed(&self, part: &str) -> String {
        self.0.file("part", part);
        self.run(&["--armor", "--detach-sign", "--digest-algo", "SHA256", "--output", "part.asc", "part"]);
        let signature = std::fs::read_to_string(self.0.0.join("part.asc")).unwrap();
        let head = "Content-Type: multipart/signed; micalg=pgp-sha256; \
                    protocol=\"application/pgp-signature\"; boundary=\"inner\"\n\n--inner\n";
        let tail = format!(
            "\n--inner\nContent-Type: application/pgp-signature; \
             name=\"signature.asc\"\n\n{signature}\n--inner--\n"
        );
        format!("{}{part}{}", crlf(head), crlf(&tail))
    }

    fn verify(&self, signed: &str) {
        let rest = signed.split_once("\r\n--inner\r\n").unwrap().1;
        let (part, rest) = rest.split_once("\r\n--inner\r\n").unwrap();
        let signature = rest.split_once("\r\n\r\n").unwrap().1.split_once("\r\n--inner--").unwrap().0;
        self.0.file("part", part);
        self.0.file("part.asc", signature);
        self.run(&["--verify", "part.asc", "part"]);
    }
}

impl Drop for Pgp {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf")
            .args(["--kill", "gpg-agent"])
            .env("GNUPGHOME", self.0.0.join("gnupg"))
            .output();
    }
}

/// What arrives of a message, and what the sender hears.
fn sent(message: &str, policy: &str) -> (String, Option<String>) {
    let hop = NextHop::start();
    let relay = Relay::with(hop.port, "", "", policy);
    let reply = Client::greeted(relay.port).message("news@shop.example", &["ann@home.example"], message);
    let arrived = reply.starts_with("250").then(|| hop.wait(1)[0].below_trace());
    assert_eq!(hop.accepted(), usize::from(arrived.is_some()));
    (reply, arrived)
}

/// The protected part is the same, and the tracker beside it is gone.
fn check(protected: &str) -> String {
    let message = beside(protected);
    let (reply, arrived) = sent(&message, "");
    let arrived = arrived.unwrap_or_else(|| panic!("{reply}"));
    assert_eq!(first(&arrived), protected);
    assert_eq!(arrived, message.replace(&format!("<p>News</p>{PIXEL}"), &format!("<p>News</p>{GONE}")));
    first(&arrived).to_owned()
}

fn smime_signed(folder: &Folder, part: &str) -> String {
    folder.file("part", part);
    let sign = [
        "cms", "-sign", "-in", "part", "-signer", "cert.pem", "-inkey", "key.pem", "-md", "sha256",
        "-crlfeol",
    ];
    let text = run(folder, "openssl", &sign);
    // It may say so of itself only in a message of its own.
    crlf(&text.replace("\r\n", "\n")).replacen("MIME-Version: 1.0\r\n", "", 1).trim_end().to_owned()
}

fn smime_verify(folder: &Folder, signed: &str) -> String {
    folder.file("signed", &format!("MIME-Version: 1.0\r\n{signed}\r\n"));
    let verify = ["cms", "-verify", "-in", "signed", "-CAfile", "cert.pem", "-purpose", "any", "-crlfeol"];
    run(folder, "openssl", &verify)
}

#[test]
fn an_smime_signature_verifies_behind_the_relay() {
    let folder = with_certificate();
    let signed = smime_signed(&folder, &letter(""));
    assert!(signed.contains("multipart/signed") && signed.contains("pkcs7-signature"), "{signed}");
    assert!(smime_verify(&folder, &check(&signed)).contains("Your invoice"));
    // The tool would notice.
    let output =
        std::panic::catch_unwind(|| smime_verify(&folder, &signed.replace("Your invoice", "My invoice")));
    assert!(output.is_err());
}

#[test]
fn encrypted_smime_opens_behind_the_relay() {
    let folder = with_certificate();
    folder.file("part", &letter(PIXEL));
    let text = run(&folder, "openssl", &["cms", "-encrypt", "-aes256", "-in", "part", "-binary", "cert.pem"]);
    let sealed =
        crlf(&text.replace("\r\n", "\n")).replacen("MIME-Version: 1.0\r\n", "", 1).trim_end().to_owned();
    assert!(sealed.contains("enveloped-data"), "{sealed}");
    let arrived = check(&sealed);
    folder.file("sealed", &format!("MIME-Version: 1.0\r\n{arrived}\r\n"));
    let open = ["cms", "-decrypt", "-in", "sealed", "-recip", "cert.pem", "-inkey", "key.pem"];
    assert_eq!(run(&folder, "openssl", &open), letter(PIXEL));
}

#[test]
fn what_is_signed_and_packed_into_one_leaves_as_it_came() {
    let folder = with_certificate();
    folder.file("part", &letter(""));
    let sign =
        ["cms", "-sign", "-nodetach", "-in", "part", "-signer", "cert.pem", "-inkey", "key.pem", "-binary"];
    let text = run(&folder, "openssl", &sign);
    let packed =
        crlf(&text.replace("\r\n", "\n")).replacen("MIME-Version: 1.0\r\n", "", 1).trim_end().to_owned();
    assert!(packed.contains("signed-data"), "{packed}");
    assert!(smime_verify(&folder, &check(&packed)).contains("Your invoice"));
}

#[test]
fn a_pgp_signature_verifies_behind_the_relay() {
    let pgp = Pgp::new();
    pgp.verify(&check(&pgp.signed(&letter(""))));
}

#[test]
fn encrypted_pgp_opens_behind_the_relay() {
    let pgp = Pgp::new();
    pgp.0.file("part", &letter(PIXEL));
    pgp.run(&["--armor", "--encrypt", "--recipient", "shop@shop.example", "--output", "part.asc", "part"]);
    let armour = std::fs::read_to_string(pgp.0.0.join("part.asc")).unwrap();
    let sealed = format!(
        "Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; \
         boundary=\"inner\"\n\n--inner\n\
         Content-Type: application/pgp-encrypted\n\nVersion: 1\n\n--inner\nContent-Type: \
         application/octet-stream\n\n{armour}\n--inner--"
    );
    let arrived = check(&crlf(&sealed));
    let start = arrived.find("-----BEGIN PGP").unwrap();
    pgp.0.file("arrived.asc", &arrived[start..arrived.rfind("\r\n--inner--").unwrap()]);
    assert_eq!(pgp.run(&["--decrypt", "arrived.asc"]), letter(PIXEL));
}

#[test]
fn text_that_is_signed_in_the_clear_verifies_behind_the_relay() {
    let pgp = Pgp::new();
    pgp.0.file("text", "See https://www.shop.example/invoice\n");
    pgp.run(&["--clearsign", "--output", "text.asc", "text"]);
    let signed = std::fs::read_to_string(pgp.0.0.join("text.asc")).unwrap();
    let arrived = check(&crlf(&format!("Content-Type: text/plain; charset=utf-8\n\n{}", signed.trim_end())));
    pgp.0.file("arrived.asc", &arrived[arrived.find("-----BEGIN PGP").unwrap()..]);
    pgp.run(&["--verify", "arrived.asc"]);
}

#[test]
fn a_tracker_within_is_rejected_with_the_reason_and_what_to_do_or_passed_where_that_was_chosen() {
    let (folder, pgp) = (with_certificate(), Pgp::new());
    let smime = smime_signed(&folder, &letter(PIXEL));
    let signed_by_pgp = pgp.signed(&letter(PIXEL));
    for signed in [&smime, &signed_by_pgp] {
        let (reply, arrived) = sent(&beside(signed), "");
        assert_eq!(arrived, None);
        assert!(reply.starts_with("550 5.7.1 "), "{reply}");
        for wanted in ["signed or encrypted part", "tracking pixel", "did not agree", "send it without"] {
            assert!(reply.contains(wanted), "{reply}");
        }
        let (_, arrived) = sent(&beside(signed), "[policy]\nprotected = \"pass\"\n");
        assert_eq!(first(arrived.as_deref().unwrap()), signed.as_str());
        assert!(arrived.unwrap().contains(&format!("<p>News</p>{GONE}")));
    }
    smime_verify(&folder, &smime);
    pgp.verify(&signed_by_pgp);
}
