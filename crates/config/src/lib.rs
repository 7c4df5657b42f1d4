//! The configuration: one TOML file, read into types, checked as a whole.
//!
//! Promised: an unknown key or a bad value stops the start, all of them named at once with their lines. `config.reference.toml` at the top
//! of the project lists every setting; a test compares the two.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, clippy::panic))]

pub mod api;
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
pub use dkim::{Dkim, DkimKey};
pub use file::{ConfigError, usual};
pub use listener::{ClientCertificate, Listener, ListenerTls, Protocol, ProxyProtocol};
pub use network::Network;
pub use next_hop::{NextHop, TlsMode};
pub use pixelward_core::policy::{Mode, OnGrant};
pub use policy::Policy;
pub use public::Public;
use reader::{Outcome, Problem, Section};
pub use route::Route;
pub use tracker::Tracker;
pub use treatment::Treatment;
use url::{Host, Url};

/// Everything that can be configured.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether decisions are carried out.
    pub mode: Mode,
    /// Where the store and the socket live.
    pub data_directory: PathBuf,
    /// Where certificates for development are made.
    pub certificate_directory: PathBuf,
    /// The relay as a whole.
    pub relay: Relay,
    /// Where clients connect.
    pub listeners: Vec<Listener>,
    /// Where mail can go.
    pub next_hops: Vec<NextHop>,
    /// Which mail goes where: the first that fits counts, and the last fits all.
    pub routes: Vec<Route>,
    /// What is decided.
    pub policy: Policy,
    /// Signatures.
    pub dkim: Dkim,
    /// How trackers are found.
    pub tracker: Tracker,
    /// The consent store.
    pub consent: Consent,
    /// Evidence of what was done.
    pub evidence: Evidence,
    /// The log.
    pub log: Log,
    /// Where metrics and health are served; `None` for nowhere.
    pub private: Option<SocketAddr>,
    /// The REST API.
    pub api: Api,
    /// What readers reach.
    pub public: Public,
}

/// The relay as a whole.
#[derive(Clone, Debug)]
pub struct Relay {
    /// The name given in greetings, EHLO and trace headers.
    pub host_name: String,
    /// The most bytes of messages held at once, by all sessions together.
    pub max_in_flight_bytes: u64,
    /// How long sessions may take to end once the relay was told to stop.
    pub drain: Duration,
    /// The most copies that a message is split into, for a client that hears one answer for all; 1 where messages are not split.
    pub max_groups: usize,
    /// How often the certificates of listeners are looked at.
    pub certificate_check: Duration,
}

/// The consent store.
#[derive(Clone, Debug)]
pub struct Consent {
    /// Its directory.
    pub directory: PathBuf,
    /// A second place for the head of the journal, on another disk.
    pub head_copy: Option<PathBuf>,
    /// Memory of the index's cache, in bytes.
    pub cache_bytes: u64,
    /// From which size on a journal segment is closed, in bytes.
    pub segment_bytes: u64,
    /// Where the store key lies; in the directory where nothing is said.
    pub store_key_file: Option<PathBuf>,
}

/// Evidence of what was done.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// Whether there is to be any.
    pub enabled: bool,
    /// Its directory.
    pub directory: PathBuf,
    /// A second place for the ends of its chains, on another disk.
    pub head_copy: Option<PathBuf>,
    /// After how many days it is deleted, unless its controller has fewer.
    pub retention_days: u16,
    /// From which size on a segment is closed, in bytes.
    pub segment_bytes: u64,
    /// Whether bodies are hashed.
    pub body_hashes: bool,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// To the journal under systemd, else lines for people.
    Auto,
    /// Lines for people.
    Human,
    /// JSON.
    Json,
}

/// The log.
#[derive(Clone, Debug)]
pub struct Log {
    /// How it is written.
    pub format: LogFormat,
    /// A level, or a filter as tracing-subscriber reads it.
    pub level: String,
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or anything in it is wrong.
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

    /// Reads a text. Files that it includes by a relative path are looked for in the working directory.
    ///
    /// # Errors
    ///
    /// All that is wrong with it.
    pub fn parse(source: &str) -> Result<Config, Vec<Problem>> {
        let outcome = read(source, Path::new(""));
        if outcome.problems.is_empty() { Ok(outcome.value) } else { Err(outcome.problems) }
    }
}

fn read(source: &str, folder: &Path) -> Outcome<Config> {
    reader::read(source, |root| {
        let mode = policy::mode(root, Mode::Enforce);
        let data_directory = root.path("data_directory").unwrap_or_else(|| PathBuf::from("data"));
        let certificate_directory =
            root.path("certificate_directory").unwrap_or_else(|| PathBuf::from("certs"));
        let relay = root.section("relay", relay);
        let listeners = listener::listeners(root);
        let next_hops = root.sections("next_hop", next_hop::next_hop);
        let routes = route::routes(root, &listeners, &next_hops, relay.max_groups);
        let policy = policy::policy(root, mode, &listeners, folder);
        let dkim = root.section("dkim", |section| dkim::dkim(section, &policy.rulebook));
        let tracker = root.section("tracker", tracker::tracker);
        let consent = root.section("consent", |section| consent(section, &data_directory));
        let evidence = root.section("evidence", |section| evidence(section, &data_directory));
        let log = root.section("log", log);
        let private = root.section("private", private);
        let api = root.section("api", |section| api::api(section, &data_directory));
        let public = root.section("public", public::public);
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
            api,
            public,
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
        certificate_check: section.seconds("certificate_check_s", 60, 1..=86_400),
    }
}

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// A certificate chain and its key.
fn pair(section: &mut Section<'_>) -> Option<(PathBuf, PathBuf)> {
    match (section.path("certificate"), section.path("key")) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => {
            section.problem(
                section.start_line(),
                format!("{}: certificate and key belong together, and one is missing", section.name()),
            );
            None
        }
    }
}

/// An address on the web that consent and tokens may be sent to: https, or http on this machine.
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
        format!("{text:?} is no address with a port, such as \"127.0.0.1:2525\" or \"[::1]:2525\"")
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

fn private(section: &mut Section<'_>) -> Option<SocketAddr> {
    let default = Some(SocketAddr::from(([127, 0, 0, 1], 8025)));
    let parsed =
        section.parsed("address", |text| if text.is_empty() { Ok(None) } else { address(text).map(Some) });
    let chosen = parsed.unwrap_or(default);
    if chosen.is_some_and(|chosen| !chosen.ip().is_loopback()) {
        section.problem(
            section.start_line(),
            "private.address must be a loopback address: what it serves is for this machine",
        );
    }
    chosen
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
