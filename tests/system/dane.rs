//! DANE (RFC 7672): TLSA records that a real DNS server serves, signed, and a real Postfix as the exchanger.

use std::path::Path;
use std::process::Command;

use crate::dns::{Hop, Named, Zone, exchanger, relay, send};
use crate::mta::sink::Sink;
use crate::mta::{Postfix, run};
use crate::support::{Folder, Relay};
use crate::tls_hop::Made;

/// The SHA-256 digest of the public key in a PEM file.
fn key_of(pem: &Path) -> String {
    let script = "openssl x509 -in \"$0\" -noout -pubkey | openssl pkey -pubin -outform DER | sha256sum";
    let printed = run(Command::new("sh").args(["-c", script]).arg(pem)).stdout;
    String::from_utf8(printed).unwrap()[..64].to_owned()
}

struct Scene {
    named: Named,
    postfix: Postfix,
    sink: Sink,
    ca: Made,
    files: Folder,
}

/// What switches it on, unless the lines say so themselves.
fn dane(lines: &str) -> &'static str {
    if lines.contains("dane") { "" } else { "dane = true\n" }
}

impl Scene {
    fn new() -> Scene {
        let files = Folder::new();
        let ca = Made::authority("Example Authority", None, |_| {});
        let other = Made::authority("Another Authority", None, |_| {});
        let leaf = Made::new(&["mx.ta.example", "mx.plain.example"], Some(&ca), |_| {});
        let chain = files.file("chain.pem", &format!("{}{}", leaf.pem, ca.pem));
        let key = files.file("key.pem", &leaf.key.serialize_pem());
        let postfix = exchanger(&chain, &key);
        let sink = Sink::at([127, 0, 0, 2], postfix.port);
        let right = key_of(&chain);
        let authority = key_of(&files.file("ca.pem", &ca.pem));
        let wrong = key_of(&files.file("other.pem", &other.pem));
        let at = postfix.port;
        let host = |name: &str, address: &str, tlsa: &str| {
            format!("{name} MX 10 mx.{name}\nmx.{name} A {address}\n_{at}._tcp.mx.{name} TLSA {tlsa}\n")
        };
        let here = "127.0.0.1";
        let records = [
            host("ee", here, &format!("3 1 1 {right}")),
            host("ee-wrong", here, &format!("3 1 1 {wrong}")),
            host("ta", here, &format!("2 1 1 {authority}")),
            host("ta-wrong", here, &format!("2 1 1 {wrong}")),
            host("ta-name", here, &format!("2 1 1 {authority}")),
            host("forged", here, &format!("3 1 1 DEADBEEF{}", "0".repeat(56))),
            host("broken", here, &format!("3 1 1 {right}")).replace("_tcp.mx.broken", "_udp.mx.broken"),
            host("unusable", here, &format!("1 1 1 {right}")),
            host("clear", "127.0.0.2", &format!("3 1 1 {right}")),
            host("clear-unusable", "127.0.0.2", &format!("1 1 1 {right}")),
            // An alias: the record is where it leads.
            "alias MX 10 mx.alias\nmx.alias CNAME mx.ee\n".to_owned(),
            "plain NS localhost.\nstripped NS localhost.\n$INCLUDE dsset-stripped.example.\n".to_owned(),
        ];
        let child = |tlsa: &str| format!("@ MX 10 mx\nmx A 127.0.0.1\n_{at}._tcp.mx TLSA {tlsa}\n");
        let zones = [
            Zone::unsigned("plain.example", child(&format!("3 1 1 {wrong}"))),
            Zone { stripped: true, ..Zone::signed("stripped.example", child(&format!("3 1 1 {right}"))) },
            Zone { forged: Some(("DEADBEEF", "FEEDBEEF")), ..Zone::signed("example", records.concat()) },
            Zone::signed(
                ".",
                "localhost A 127.0.0.1\nexample NS localhost.\n$INCLUDE dsset-example.\n".to_owned(),
            ),
        ];
        let named = Named::start(&zones, Some("_tcp.mx.broken.example"));
        Scene { named, postfix, sink, ca, files }
    }

    /// A relay to these domains, whose settings are not fixed but for what is said.
    fn relay(&self, hops: &[(&str, &str)]) -> Relay {
        let ca = self.files.file("trusted.pem", &self.ca.pem);
        let hops: Vec<Hop<'_>> = hops
            .iter()
            .map(|(domain, lines)| Hop {
                domain,
                lines: format!("mta_sts = false\nca_file = {ca:?}\n{}{lines}", dane(lines)),
            })
            .collect();
        let anchor = format!("dnssec_anchor_file = {:?}", self.named.anchor());
        relay(Folder::new(), &self.named, self.postfix.port, &hops, &anchor)
    }
}

#[test]
fn what_dnssec_secures_says_how_an_exchanger_is_known() {
    let scene = Scene::new();
    let cases = [
        ("ee.example", "", Ok("dane")),
        ("ee-wrong.example", "", Err("none of its TLSA records fits")),
        ("ta.example", "", Ok("dane")),
        ("ta-wrong.example", "", Err("none of its TLSA records fits")),
        ("ta-name.example", "", Err("does not vouch for its certificate")),
        ("alias.example", "", Ok("dane")),
        // It is not signed, so that its wrong record does not count.
        ("plain.example", "", Ok("pkix")),
        ("forged.example", "", Err("DNSSEC validation failed")),
        ("stripped.example", "", Err("DNSSEC validation failed")),
        ("broken.example", "", Err("its TLSA records cannot be known")),
        ("unusable.example", "", Ok("none")),
        ("clear.example", "tls = \"opportunistic\"\ndane = true", Err("TLS is required")),
        ("clear-unusable.example", "tls = \"opportunistic\"\ndane = true", Err("TLS is required")),
    ];
    let hops = cases.map(|(domain, lines, _)| (domain, lines));
    let relay = scene.relay(&hops);
    let mut count = 0;
    for (domain, _, outcome) in cases {
        let reply = send(&relay, domain);
        let via = format!("next_hop=\"{domain}:{}\"", scene.postfix.port);
        match outcome {
            Ok(name) => {
                assert!(reply.starts_with("250"), "{domain}: {reply}\n{:#?}", relay.log.all());
                count += 1;
                let shown = format!("authentication=\"{name}\"");
                relay.log.wait(&shown, |line| line.contains(&via) && line.contains(&shown));
            }
            Err(reason) => {
                assert!(reply.starts_with("451"), "{domain}: {reply}");
                let place = format!("{domain}:{}", scene.postfix.port);
                relay.log.wait(&format!("{domain}: {reason}"), |line| {
                    line.contains("ERROR") && line.contains(&place) && line.contains(reason)
                });
            }
        }
    }
    let mails = scene.postfix.mails("all", count);
    assert_eq!(mails.len(), count);
    assert!(mails.iter().all(|mail| mail.contains("using TLSv1.3")), "one went in clear");
    assert!(scene.sink.taken().is_empty(), "one went in clear");
    // `check` says it for each, and why one cannot be used.
    let said = String::from_utf8(relay.command(&["check"]).stdout).unwrap();
    for words in [
        "answers at mx.ee.example [127.0.0.1:",
        "its TLSA record vouches for (dane)",
        "a trusted authority (pkix)",
        "by nothing that shows who it is",
        "none of its TLSA records fits its certificate",
        "DNSSEC validation failed",
    ] {
        assert!(said.contains(words), "{words:?} is missing in {said}");
    }
}

#[test]
fn without_an_anchor_that_fits_nothing_is_secure_and_without_dane_it_need_not_be() {
    let scene = Scene::new();
    let hops = [("ta.example", "dane = true"), ("plain.example", "dane = false")];
    let hops = hops.map(|(domain, lines)| Hop { domain, lines: format!("mta_sts = false\n{lines}") });
    let ca = scene.files.file("trusted.pem", &scene.ca.pem);
    let hops = hops.map(|hop| Hop { lines: format!("{}\nca_file = {ca:?}", hop.lines), ..hop });
    // The keys of the real root are not those of this one.
    let relay = relay(Folder::new(), &scene.named, scene.postfix.port, &hops, "");
    assert!(send(&relay, "ta.example").starts_with("451"));
    relay.log.wait("what to do", |line| line.contains("ERROR") && line.contains("set dns_server"));
    let reply = send(&relay, "plain.example");
    assert!(reply.starts_with("250"), "{reply}");
}
