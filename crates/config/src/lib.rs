//! The configuration: one TOML file, read into types, checked as a whole.
//!
//! Promised: an unknown key or a bad value stops the start, with all problems reported at once, each with its
//! line. `config.reference.toml` at the top of the project lists every setting; a test compares the two.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, clippy::panic))]

pub mod api;
pub mod cluster;
pub mod connector;
pub mod console;
pub mod dkim;
mod file;
pub mod host_name;
pub mod jurisdiction;
pub mod listener;
pub mod network;
pub mod next_hop;
pub mod policy;
pub mod public;
pub mod reader;
pub mod route;
pub mod tracker;
pub mod treatment;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use api::{Api, Incoming, Webhook};
pub use cluster::Cluster;
pub use connector::Connector;
pub use dkim::{Dkim, DkimKey};
pub use file::{ConfigError, usual};
pub use listener::{ClientCertificate, Listener, ListenerTls, Protocol, ProxyProtocol};
pub use network::Network;
pub use next_hop::{Lookup, NextHop, TlsMode};
pub use pixelward_core::policy::{Mode, OnGrant};
pub use policy::Policy;
pub use public::Public;
use reader::{Outcome, Problem, Section};
pub use route::Route;
pub use tracker::Tracker;
pub use treatment::Treatment;
use url::{Host, Url};

/// The configuration of the relay.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether decisions are carried out.
    pub mode: Mode,
    /// The directory of the store and the socket.
    pub data_directory: PathBuf,
    /// The directory in which development certificates are created.
    pub certificate_directory: PathBuf,
    /// Settings of the relay as a whole.
    pub relay: Relay,
    /// The listeners, where clients connect.
    pub listeners: Vec<Listener>,
    /// The next hops, where mail goes.
    pub next_hops: Vec<NextHop>,
    /// Which mail goes where: the first matching route applies, and the last matches all mail.
    pub routes: Vec<Route>,
    /// The policy.
    pub policy: Policy,
    /// DKIM signatures.
    pub dkim: Dkim,
    /// How trackers are found.
    pub tracker: Tracker,
    /// The consent store.
    pub consent: Consent,
    /// Audit records.
    pub evidence: Evidence,
    /// The log.
    pub log: Log,
    /// The address of metrics and health checks; `None` to disable.
    pub private: Option<SocketAddr>,
    /// Who may ask there.
    pub private_access: PrivateAccess,
    /// The REST API.
    pub api: Api,
    /// What writes choices to sending services.
    pub connectors: Vec<Connector>,
    /// The public listener, which readers reach.
    pub public: Public,
    /// Its part among several relays.
    pub cluster: Cluster,
}

/// Settings of the relay as a whole.
#[derive(Clone, Debug)]
pub struct Relay {
    /// The name used in greetings, EHLO and trace headers.
    pub host_name: String,
    /// The DNS servers to ask for exchangers, instead of the system's.
    pub dns_servers: Vec<SocketAddr>,
    /// The file with the keys that DNSSEC begins with, instead of those of the root.
    pub dnssec_anchors: Option<PathBuf>,
    /// The maximum number of message bytes in memory, for all sessions together.
    pub max_in_flight_bytes: u64,
    /// How long sessions may take to finish after the relay is told to stop.
    pub drain: Duration,
    /// The maximum number of different copies of a message, for a client that expects one reply for all
    /// recipients; 1 if messages are never split.
    pub max_groups: usize,
    /// How often next hops are asked what they accept; `None` for never.
    pub probe: Option<Duration>,
    /// How often the certificates of listeners are checked for changes.
    pub certificate_check: Duration,
}

/// The consent store.
#[derive(Clone, Debug)]
pub struct Consent {
    /// The directory.
    pub directory: PathBuf,
    /// A second place for the head of the journal, on another disk.
    pub head_copy: Option<PathBuf>,
    /// Memory for the index cache, in bytes.
    pub cache_bytes: u64,
    /// The size at which a journal segment is closed, in bytes.
    pub segment_bytes: u64,
    /// The file of the store key; by default, in the directory.
    pub store_key_file: Option<PathBuf>,
}

/// Audit records.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// Whether records are kept.
    pub enabled: bool,
    /// The directory.
    pub directory: PathBuf,
    /// A second place for the ends of the chains, on another disk.
    pub head_copy: Option<PathBuf>,
    /// After how many days records are deleted, unless the controller sets fewer.
    pub retention_days: u16,
    /// The size at which a segment is closed, in bytes.
    pub segment_bytes: u64,
    /// Whether bodies are hashed.
    pub body_hashes: bool,
    /// Whether records have the subject and the Message-ID, sealed for the recipient.
    pub subjects: bool,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// To the journal under systemd, otherwise plain lines.
    Auto,
    /// Plain lines.
    Human,
    /// JSON.
    Json,
}

/// The log.
#[derive(Clone, Debug)]
pub struct Log {
    /// The format.
    pub format: LogFormat,
    /// A level, or a filter as tracing-subscriber reads it.
    pub level: String,
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or contains errors.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let source = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let outcome = read(&source, path.parent().unwrap_or(Path::new("")));
        if outcome.problems.is_empty() {
            Ok(outcome.value)
        } else {
            Err(ConfigError::Wrong { path: path.to_owned(), problems: outcome.problems })
        }
    }

    /// Reads a text. Relative paths start at the working directory.
    ///
    /// # Errors
    ///
    /// All problems found.
    pub fn parse(source: &str) -> Result<Config, Vec<Problem>> {
        let outcome = read(source, Path::new(""));
        if outcome.problems.is_empty() { Ok(outcome.value) } else { Err(outcome.problems) }
    }
}

fn read(source: &str, folder: &Path) -> Outcome<Config> {
    reader::read_in(folder, source, |root| {
        let mode = policy::mode(root, Mode::Enforce);
        let data_directory = root.path("data_directory").unwrap_or_else(|| folder.join("data"));
        let certificate_directory =
            root.path("certificate_directory").unwrap_or_else(|| folder.join("certs"));
        let relay = root.section("relay", relay);
        let listeners = listener::listeners(root);
        let next_hops = root.sections("next_hop", next_hop::next_hop);
        let routes = route::routes(root, &listeners, &next_hops);
        let policy = policy::policy(root, mode, &listeners, folder);
        let dkim = root.section("dkim", |section| dkim::dkim(section, &policy.rulebook));
        let tracker = root.section("tracker", tracker::tracker);
        let consent = root.section("consent", |section| consent(section, &data_directory));
        let evidence = root.section("evidence", |section| evidence(section, &data_directory));
        let log = root.section("log", log);
        let (private, private_access) = root.section("private", private);
        let api = root.section("api", |section| api::api(section, &data_directory));
        let connectors = connector::connectors(root);
        let public = root.section("public", public::public);
        let cluster = root.section("cluster", |section| cluster::cluster(section, &data_directory));
        Config {
            mode,
            data_directory,
            certificate_directory,
            relay,
            listeners,
            next_hops,
            routes,
            policy,
            dkim,
            tracker,
            consent,
            evidence,
            log,
            private,
            private_access,
            api,
            connectors,
            public,
            cluster,
        }
    })
}

fn relay(section: &mut Section<'_>) -> Relay {
    let split = section.choice("split", true, &[("auto", true), ("never", false)]);
    let max_groups = count(section.number("max_groups", 8, 2..=64));
    Relay {
        max_groups: if split { max_groups } else { 1 },
        host_name: section.string("host_name").unwrap_or_else(crate::host_name::own),
        max_in_flight_bytes: section.number("max_in_flight_bytes", 192 << 20, 1 << 20..=1 << 40),
        drain: section.seconds("drain_s", 60, 0..=3600),
        probe: Some(section.seconds("probe_s", 300, 0..=86_400)).filter(|probe| !probe.is_zero()),
        certificate_check: section.seconds("certificate_check_s", 60, 1..=86_400),
        dnssec_anchors: section.path("dnssec_anchor_file"),
        dns_servers: section.one_or_more("dns_server", |text| {
            let address = text.parse().or_else(|_| text.parse().map(|ip| SocketAddr::new(ip, 53)));
            address.map_err(|_| format!("invalid address {text:?}: use an address, or address:port"))
        }),
    }
}

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Reads a certificate chain and its key.
fn pair(section: &mut Section<'_>) -> Option<(PathBuf, PathBuf)> {
    match (section.path("certificate"), section.path("key")) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => {
            section.problem(
                section.start_line(),
                format!("{}: certificate and key belong together, but one is missing", section.name()),
            );
            None
        }
    }
}

/// Parses a web address to which consent and tokens may be sent: https, or http on this machine.
fn web_url(text: &str) -> Result<Url, String> {
    let wrong = || format!("{text:?} cannot be used: use https://, or http:// on this machine");
    let url = Url::parse(text).map_err(|_| wrong())?;
    let is_local = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => return Err(wrong()),
    };
    let is_plain = url.username().is_empty()
        && url.password().is_none()
        && text.bytes().all(|byte| byte.is_ascii_graphic());
    match url.scheme() {
        "https" if is_plain => Ok(url),
        "http" if is_local && is_plain => Ok(url),
        _ => Err(wrong()),
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!(
            "invalid address {text:?}: use an address with a port, such as \"127.0.0.1:2525\" or \
                 \"[::1]:2525\""
        )
    })
}

fn consent(section: &mut Section<'_>, data_directory: &Path) -> Consent {
    Consent {
        directory: section.path("directory").unwrap_or_else(|| data_directory.join("consent")),
        head_copy: section.path("head_copy"),
        cache_bytes: section.number("cache_bytes", 64 << 20, 1 << 20..=1 << 36),
        segment_bytes: section.number("segment_bytes", 64 << 20, 1 << 16..=1 << 32),
        store_key_file: section.path("store_key_file"),
    }
}

fn evidence(section: &mut Section<'_>, data_directory: &Path) -> Evidence {
    Evidence {
        enabled: section.flag("enabled", true),
        directory: section.path("directory").unwrap_or_else(|| data_directory.join("evidence")),
        head_copy: section.path("head_copy"),
        retention_days: days(section.number("retention_days", 1095, 1..=3650)),
        segment_bytes: section.number("segment_bytes", 16 << 20, 1 << 12..=1 << 30),
        body_hashes: section.flag("body_hashes", true),
        subjects: section.flag("subjects", false),
    }
}

fn days(number: u64) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

fn log(section: &mut Section<'_>) -> Log {
    Log {
        format: section.choice(
            "format",
            LogFormat::Auto,
            &[("auto", LogFormat::Auto), ("human", LogFormat::Human), ("json", LogFormat::Json)],
        ),
        level: section.string("level").unwrap_or_else(|| "info".to_owned()),
    }
}

/// Who may ask for the metrics and the health.
#[derive(Clone, Debug, Default)]
pub struct PrivateAccess {
    /// The networks, in addition to loopback addresses; all if there is none.
    pub networks: Vec<Network>,
    /// The file with the token that `/metrics` needs, if it needs one.
    pub token_file: Option<PathBuf>,
}

fn private(section: &mut Section<'_>) -> (Option<SocketAddr>, PrivateAccess) {
    let default = Some(SocketAddr::from(([127, 0, 0, 1], 8025)));
    let parsed =
        section.parsed("address", |text| if text.is_empty() { Ok(None) } else { address(text).map(Some) });
    let chosen = parsed.unwrap_or(default);
    let access = PrivateAccess {
        networks: section.list("networks", |text| text.parse::<Network>()),
        token_file: section.path("token_file"),
    };
    let is_open = access.networks.is_empty() && access.token_file.is_none();
    if is_open && chosen.is_some_and(|chosen| !chosen.ip().is_loopback()) {
        section.problem(
            section.start_line(),
            "private.address is not a loopback address: say who may ask there with private.networks or \
             private.token_file",
        );
    }
    (chosen, access)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!("../../../config.reference.toml");

    #[test]
    fn the_shipped_file_lists_every_setting_and_nothing_else() {
        let uncommented: String = SHIPPED
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(setting)
                    if setting.starts_with(|character: char| {
                        character.is_ascii_lowercase() || character == '['
                    }) =>
                {
                    setting
                }
                _ => line,
            })
            .collect::<Vec<_>>()
            .join("\n");
        let outcome = read(&uncommented, Path::new(""));
        assert_eq!(outcome.problems, []);
        for key in outcome.keys {
            let name = key.rsplit('.').next().unwrap();
            let listed = uncommented
                .lines()
                .any(|line| line.split('=').next().is_some_and(|part| part.trim() == name));
            assert!(listed, "config.reference.toml does not list {key}");
        }
    }

    /// The file to begin with stays short, starts as it is, and observes first.
    #[test]
    fn the_first_file_is_short_and_valid() {
        let first = include_str!("../../../config.toml");
        assert!(first.lines().count() <= 30, "{} lines", first.lines().count());
        let config = Config::parse(first).unwrap();
        assert_eq!(config.mode, Mode::Observe);
        assert!(config.policy.rulebook.controllers().any(|controller| controller.name.as_str() == "shop"));
    }

    #[test]
    fn the_shipped_file_gives_the_defaults() {
        let shipped = format!("{:?}", read(SHIPPED, Path::new("")).value);
        let hop = "[next_hop]\nhost = \"smtp.next-hop.example\"\n";
        assert_eq!(shipped, format!("{:?}", read(hop, Path::new("")).value));
    }

    #[test]
    fn an_open_relay_is_refused() {
        let listener = "[[listener]]\naddress = \"0.0.0.0:25\"\n";
        let hop = "[next_hop]\nhost = \"smtp.next-hop.example\"\n";
        let problems = Config::parse(&format!("{listener}{hop}")).unwrap_err();
        assert!(problems[0].text.contains("open relay"), "{problems:?}");
        assert_eq!((problems[0].line, problems.len()), (1, 1));
        assert!(Config::parse(&format!("{listener}allowed_networks = [\"192.0.2.0/24\"]\n{hop}")).is_ok());
    }
}
