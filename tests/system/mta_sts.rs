//! MTA-STS (RFC 8461): policies from an HTTPS server of the tests on port 443 of a loopback address, names
//! from a real DNS server, and a real Postfix as the exchanger.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::dns::{Hop, Named, Zone, exchanger, relay, send};
use crate::mta::Postfix;
use crate::mta::sink::Sink;
use crate::support::{Folder, Relay};
use crate::tls_hop::Made;

/// The responses of the policy hosts, by host.
type Pages = HashMap<String, String>;

/// Answers for policy hosts. Dropped, it is gone.
struct Web {
    asked: Arc<Mutex<Vec<String>>>,
    over: Arc<AtomicBool>,
    address: [u8; 4],
}

impl Web {
    fn start(address: [u8; 4], made: &Made, pages: Pages) -> Web {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let chain = vec![CertificateDer::from_pem_slice(made.pem.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(made.key.serialize_pem().as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind((Ipv4Addr::from(address), 443)).unwrap();
        let web = Web { asked: Arc::default(), over: Arc::default(), address };
        let (asked, over, pages) = (Arc::clone(&web.asked), Arc::clone(&web.over), Arc::new(pages));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let (config, asked, pages) = (Arc::clone(&config), Arc::clone(&asked), Arc::clone(&pages));
                std::thread::spawn(move || answer(stream, config, &asked, &pages));
            }
        });
        web
    }

    /// How often a domain's policy was asked for.
    fn count(&self, domain: &str) -> usize {
        let host = format!("mta-sts.{domain}");
        self.asked.lock().unwrap().iter().filter(|asked| **asked == host).count()
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect((Ipv4Addr::from(self.address), 443));
    }
}

fn answer(
    tcp: TcpStream,
    config: Arc<ServerConfig>,
    asked: &Mutex<Vec<String>>,
    pages: &Pages,
) -> Option<()> {
    let connection = ServerConnection::new(config).unwrap();
    let mut stream = BufReader::new(StreamOwned::new(connection, tcp));
    let (mut path, mut host) = (String::new(), String::new());
    stream.read_line(&mut path).ok()?;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("host:") {
            host = value.trim().to_owned();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    asked.lock().unwrap().push(host.clone());
    let page = pages.get(&host).filter(|_| path.starts_with("GET /.well-known/mta-sts.txt "));
    let stream = stream.get_mut();
    stream.write_all(page.map_or("HTTP/1.1 404 No\r\n\r\n", String::as_str).as_bytes()).ok()?;
    stream.conn.send_close_notify();
    stream.flush().ok()
}

/// A response with a policy.
fn page(mode: &str, mx: &str) -> String {
    ok("text/plain", &format!("version: STSv1\r\nmode: {mode}\r\nmx: {mx}\r\nmax_age: 86400\r\n"))
}

fn ok(kind: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// Exchangers with and without TLS, and what they need.
struct Scene {
    postfix: Postfix,
    sink: Sink,
    ca: Made,
    files: Folder,
}

impl Scene {
    /// An exchanger with a certificate for these names.
    fn new(names: &[&str]) -> Scene {
        let files = Folder::new();
        let ca = Made::authority("Example Authority", None, |_| {});
        let leaf = Made::new(names, Some(&ca), |_| {});
        let chain = files.file("chain.pem", &leaf.pem);
        let key = files.file("key.pem", &leaf.key.serialize_pem());
        let postfix = exchanger(&chain, &key);
        let sink = Sink::at([127, 0, 0, 2], postfix.port);
        Scene { postfix, sink, ca, files }
    }

    /// An HTTPS server for these policy hosts.
    fn web(&self, address: [u8; 4], names: &[String], pages: Pages) -> Web {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        Web::start(address, &Made::new(&names, Some(&self.ca), |_| {}), pages)
    }

    fn relay_in(&self, folder: Folder, named: &Named, hops: &[(&str, &str)]) -> Relay {
        let ca = self.files.file("ca.pem", &self.ca.pem);
        let hops: Vec<Hop<'_>> = hops
            .iter()
            .map(|(domain, lines)| Hop { domain, lines: format!("dane = false\nca_file = {ca:?}\n{lines}") })
            .collect();
        relay(folder, named, self.postfix.port, &hops, "")
    }
}

/// A domain, its policy and lines, and what comes of it.
type Case = (
    &'static str,
    &'static str,
    &'static str,
    String,
    &'static str,
    Result<&'static str, &'static str>,
    &'static str,
);

#[test]
fn what_a_policy_says_is_done() {
    const WEB: [u8; 4] = [127, 0, 3, 1];
    const OPEN: &str = "tls = \"opportunistic\"\nmta_sts = true";
    // Each domain with its exchanger, the response with its policy, and what becomes of its mail.
    let here = "127.0.0.1";
    let large =
        format!("version: STSv1\nmode: enforce\nmx: none.example\nmax_age: 9\n{}", "x".repeat(65_536));
    let enforced = |mx: &str| page("enforce", mx);
    let cases: [Case; 12] = [
        ("enforce", "mx.enforce", here, enforced("mx.enforce.example"), "", Ok("mta-sts"), ""),
        // The policy vouches for an exchanger outside of the domain.
        ("hosted", "mx1.pool", here, enforced("*.pool.example"), "", Ok("mta-sts"), ""),
        (
            "other",
            "mx.other",
            here,
            enforced("mx.enforce.example"),
            "",
            Err("does not name mx.other.example"),
            "",
        ),
        (
            "badname",
            "mx.badname",
            here,
            enforced("mx.badname.example"),
            "",
            Err("the MTA-STS policy of the"),
            "",
        ),
        ("clear", "mx.clear", "127.0.0.2", enforced("mx.clear.example"), OPEN, Err("TLS is required"), ""),
        ("tested", "mx.tested", here, page("testing", "a.example"), "", Ok("pkix"), "does not name it"),
        (
            "trial",
            "mx.trial",
            "127.0.0.2",
            page("testing", "*.trial.example"),
            OPEN,
            Ok("none"),
            "TLS is required",
        ),
        ("off", "mx.off", here, page("none", "a.example"), "", Ok("pkix"), ""),
        // Without a policy that can be fetched, it is as the configuration says.
        ("badhost", "mx.badhost", here, enforced("a.example"), "", Ok("pkix"), "TLS: "),
        (
            "moved",
            "mx.moved",
            here,
            enforced("a.example").replace("200 OK", "301 Moved"),
            "",
            Ok("pkix"),
            "answered 301",
        ),
        ("large", "mx.large", here, ok("text/plain", &large), "", Ok("pkix"), "cannot be read"),
        ("html", "mx.html", here, ok("text/html", "version: STSv1"), "", Ok("pkix"), "not text/plain"),
    ];
    let (mut records, mut pages, mut hosts) = (String::new(), Pages::new(), Vec::new());
    for (name, mx, address, page, ..) in &cases {
        records += &format!(
            "{name} MX 10 {mx}\n{mx} A {address}\nmta-sts.{name} A {}\n_mta-sts.{name} TXT \"v=STSv1; \
             id=1;\"\n",
            Ipv4Addr::from(WEB)
        );
        let host = format!("mta-sts.{name}.example");
        pages.insert(host.clone(), page.clone());
        if *name != "badhost" {
            hosts.push(host);
        }
    }
    let named = Named::start(&[Zone::unsigned("example", records)], None);
    let names: Vec<String> = cases.iter().map(|(_, mx, ..)| format!("{mx}.example")).collect();
    let names: Vec<&str> =
        names.iter().map(String::as_str).filter(|name| !name.contains("badname")).collect();
    let scene = Scene::new(&names);
    let web = scene.web(WEB, &hosts, pages);
    let domains: Vec<(String, &str)> =
        cases.iter().map(|(name, _, _, _, lines, ..)| (format!("{name}.example"), *lines)).collect();
    let hops: Vec<(&str, &str)> = domains.iter().map(|(domain, lines)| (domain.as_str(), *lines)).collect();
    let relay = scene.relay_in(Folder::new(), &named, &hops);
    let mut count = 0;
    for ((name, _, address, _, _, outcome, warning), (domain, _)) in cases.iter().zip(&domains) {
        let reply = send(&relay, domain);
        match outcome {
            Ok(shown) => {
                assert!(reply.starts_with("250"), "{name}: {reply}\n{:#?}", relay.log.all());
                count += usize::from(*address == here);
                let (via, shown) = (format!("next_hop=\"{domain}:"), format!("authentication=\"{shown}\""));
                relay.log.wait(&shown, |line| line.contains(&via) && line.contains(&shown));
            }
            Err(reason) => {
                assert!(reply.starts_with("451 4.7.5"), "{name}: {reply}");
                relay.log.wait(reason, |line| {
                    line.contains("ERROR") && line.contains(domain.as_str()) && line.contains(reason)
                });
            }
        }
        if !warning.is_empty() {
            relay.log.wait(warning, |line| {
                line.contains("WARN") && line.contains(domain.as_str()) && line.contains(warning)
            });
        }
    }
    let mails = scene.postfix.mails("all", count);
    assert!(mails.len() == count && mails.iter().all(|mail| mail.contains("using TLSv1.3")));
    // The domain that only tests got its mail in clear, and the one that enforces did not.
    assert_eq!(scene.sink.taken().iter().filter(|one| one.accepted).count(), 1);
    // A policy that stands is not fetched again, and neither is one right after a failure.
    for domain in ["enforce.example", "moved.example"] {
        assert!(send(&relay, domain).starts_with("250"));
        assert_eq!(web.count(domain), 1, "{domain}");
    }
    let said = String::from_utf8(relay.command(&["check"]).stdout).unwrap();
    for words in ["MTA-STS policy wants it (mta-sts)", "does not name mx.other.example"] {
        assert!(said.contains(words), "{words:?} is missing in {said}");
    }
}

#[test]
fn a_policy_outlives_its_host_its_announcement_and_the_relay() {
    const WEB: [u8; 4] = [127, 0, 3, 2];
    let records = "home MX 10 mx.home\nmx.home A 127.0.0.1\nmta-sts.home A 127.0.3.2\n";
    let announced = format!("{records}_mta-sts.home TXT \"v=STSv1; id=1;\"\n");
    let scene = Scene::new(&["mx.home.example"]);
    let pages = Pages::from([("mta-sts.home.example".to_owned(), page("enforce", "mx.else.example"))]);
    let web = scene.web(WEB, &["mta-sts.home.example".to_owned()], pages);
    let named = Named::start(&[Zone::unsigned("example", announced.clone())], None);
    let hops = [("home.example", "")];
    let mut relay = scene.relay_in(Folder::new(), &named, &hops);
    assert!(send(&relay, "home.example").starts_with("451 4.7.5"));
    assert_eq!(web.count("home.example"), 1);
    drop(web);
    // The policy's host is gone; then its announcement is, too. A newer policy is announced, and not there.
    let newer = announced.replace("id=1", "id=2");
    for records in [announced.as_str(), records, newer.as_str()] {
        let named = Named::start(&[Zone::unsigned("example", records.to_owned())], None);
        let folder = std::mem::replace(&mut relay.folder, Folder::new());
        drop(relay);
        relay = scene.relay_in(folder, &named, &hops);
        assert!(send(&relay, "home.example").starts_with("451 4.7.5"), "{records}");
        relay.log.wait("the policy", |line| line.contains("does not name mx.home.example"));
    }
    // Where the administrator decides without it, mail goes.
    let folder = std::mem::replace(&mut relay.folder, Folder::new());
    drop(relay);
    let relay = scene.relay_in(folder, &named, &[("home.example", "mta_sts = false")]);
    let reply = send(&relay, "home.example");
    assert!(reply.starts_with("250"), "{reply}");
}
