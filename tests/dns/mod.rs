//! A real DNS server (BIND) for one test, with zones that are signed, unsigned or damaged.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic
)]

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::mta::{Postfix, port, run};
use crate::support::{Client, Folder, PATIENCE, Relay, configuration, newsletter, stuffed};

/// A zone, and what is done with it.
pub struct Zone<'a> {
    pub name: &'a str,
    pub records: String,
    pub signed: bool,
    /// Replaced in the file after it was signed.
    pub forged: Option<(&'a str, &'a str)>,
    /// Whether the signatures are left out after they were made.
    pub stripped: bool,
}

impl<'a> Zone<'a> {
    pub fn unsigned(name: &'a str, records: String) -> Zone<'a> {
        Zone { name, records, signed: false, forged: None, stripped: false }
    }

    pub fn signed(name: &'a str, records: String) -> Zone<'a> {
        Zone { signed: true, ..Zone::unsigned(name, records) }
    }
}

pub struct Named {
    folder: Folder,
    pub port: u16,
    child: Child,
}

impl Named {
    /// Serves these zones, each after those that it delegates to, and for names below `broken` nothing but
    /// SERVFAIL.
    pub fn start(zones: &[Zone<'_>], broken: Option<&str>) -> Named {
        let folder = Folder::new();
        let port = port();
        let at = folder.0.display();
        let mut config = format!(
            "options {{ directory \"{at}\"; pid-file none; session-keyfile \"{at}/session.key\"; listen-on \
             port {port} {{ 127.0.0.1; }}; \
             listen-on-v6 {{ none; }}; recursion no; dnssec-validation no; minimal-\
             responses yes; zone-statistics none; }};\ncontrols {{ }};\n"
        );
        for (number, zone) in zones.iter().enumerate() {
            let file = file_of(&folder, number, zone);
            config += &format!("zone \"{}\" {{ type primary; file {file:?}; }};\n", zone.name);
        }
        if let Some(name) = broken {
            config += &format!("zone {name:?} {{ type primary; file \"missing\"; }};\n");
        }
        let config = folder.file("named.conf", &config);
        let mut child = Command::new("named")
            .args(["-g", "-4", "-n", "1", "-c"])
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.0.join("log")).unwrap())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + PATIENCE;
        let log = || std::fs::read_to_string(folder.0.join("log")).unwrap_or_default();
        let runs = || log().lines().any(|line| line.ends_with(" running"));
        while !(runs() && TcpStream::connect(("127.0.0.1", port)).is_ok()) {
            assert!(child.try_wait().unwrap().is_none() && Instant::now() < deadline, "{}", log());
            std::thread::yield_now();
        }
        for zone in zones {
            let name = if zone.name == "." { "." } else { zone.name.trim_end_matches('.') };
            let loaded = format!("zone {name}/IN: loaded serial");
            assert!(log().contains(&loaded), "{name} is not served: {}", log());
        }
        Named { folder, port, child }
    }

    /// The file with the key of the root.
    pub fn anchor(&self) -> PathBuf {
        self.folder.0.join("anchor")
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The file of a zone as it is served. A `$INCLUDE dsset-child.` in its parent finds the signed child.
fn file_of(folder: &Folder, number: usize, zone: &Zone<'_>) -> PathBuf {
    let origin = format!("{}.", zone.name.trim_end_matches('.'));
    let head = format!(
        "$ORIGIN {origin}\n$TTL 60\n@ SOA localhost. root.localhost. 1 3600 600 86400 60\n@ NS localhost.\n"
    );
    let file = folder.file(&format!("zone{number}"), &format!("{head}{}", zone.records));
    if !zone.signed {
        return file;
    }
    let mut keygen = Command::new("dnssec-keygen");
    keygen.args(["-q", "-a", "ECDSAP256SHA256", "-f", "KSK", "-K"]).arg(&folder.0).arg(&origin);
    let made = run(&mut keygen);
    let key = String::from_utf8(made.stdout).unwrap();
    if origin == "." {
        std::fs::copy(folder.0.join(format!("{}.key", key.trim())), folder.0.join("anchor")).unwrap();
    }
    let output = folder.0.join(format!("zone{number}.signed"));
    let mut sign = Command::new("dnssec-signzone");
    sign.args(["-q", "-z", "-S", "-O", "full", "-o", &origin, "-K"]).arg(&folder.0).arg("-d").arg(&folder.0);
    run(sign.arg("-f").arg(&output).arg(&file).current_dir(&folder.0));
    if let Some((from, to)) = zone.forged {
        let text = std::fs::read_to_string(&output).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        std::fs::write(&output, text.replace(from, to)).unwrap();
    }
    if zone.stripped { file } else { output }
}

/// A next hop that is a domain, with more of its settings.
pub struct Hop<'a> {
    pub domain: &'a str,
    pub lines: String,
}

/// A relay in this folder, with a route to each domain's exchangers at this port.
pub fn relay(folder: Folder, named: &Named, port: u16, hops: &[Hop<'_>], relay: &str) -> Relay {
    let relay = format!(
        "[relay]\nhost_name = \"relay.shop.example\"\ndns_server = \"127.0.0.1:{}\"\n{relay}\n",
        named.port
    );
    let path = configuration(&folder, port, "", "", &relay);
    let text = std::fs::read_to_string(&path).unwrap();
    let begin = text.find("[next_hop]").unwrap();
    let end = text.find("[private]").unwrap();
    let sections = hops.iter().map(|Hop { domain, lines }| {
        format!(
            "[[next_hop]]\nname = {domain:?}\nhost = {domain:?}\nport = {port}\nlookup = \
             \"mx\"\nmax_messages = 1\n{lines}\n[[route]]\nrecipient_domain = {domain:?}\nnext_hops = \
             [{domain:?}]\n"
        )
    });
    let rest = format!("[[route]]\nnext_hops = [{:?}]\n", hops[0].domain);
    let sections: String = sections.chain([rest]).collect();
    std::fs::write(&path, format!("{}{sections}{}", &text[..begin], &text[end..])).unwrap();
    Relay::in_folder(folder)
}

/// A Postfix that takes mail for everybody, over TLS with this certificate chain where a client wants that.
pub fn exchanger(chain: &Path, key: &Path) -> Postfix {
    Postfix::start(&format!(
        "virtual_mailbox_domains = static:all\nvirtual_mailbox_maps = \
         static:all/\nsmtpd_tls_security_level = may\nsmtpd_tls_cert_file = {}\nsmtpd_tls_key_file = \
         {}\nsmtpd_tls_received_header = yes",
        chain.display(),
        key.display()
    ))
}

/// What becomes of a mail to somebody in a domain.
pub fn send(relay: &Relay, domain: &str) -> String {
    let to = format!("ann@{domain}");
    let mut client = Client::greeted(relay.port);
    assert_eq!(client.say("MAIL FROM:<news@shop.example>"), 250);
    let reply = client.ask(&format!("RCPT TO:<{to}>"));
    if !reply.starts_with("250") {
        return reply;
    }
    assert_eq!(client.say("DATA"), 354);
    client.send(stuffed(&newsletter(&to).0).as_bytes());
    client.reply()
}
