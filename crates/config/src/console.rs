//! The configuration of the console, `console.toml`. The console is a separate program, run by a separate
//! user, and uses only the relay's API.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use url::{Host, Url};

use super::reader::{self, Outcome, Section};
use super::{ConfigError, Log, address, count, log, pair, web_url};
use pixelward_core::consent::Controller;

/// The configuration of the console.
#[derive(Clone, Debug)]
pub struct Console {
    /// The directory with the one-time link.
    pub data_directory: PathBuf,
    /// The default language of pages, for browsers that prefer none of the available ones: en, de or fr.
    pub language: &'static str,
    /// The address and limits of the pages.
    pub server: Server,
    /// The relay's API.
    pub api: Upstream,
    /// How long people stay signed in.
    pub session: Sessions,
    /// How long a one-time link is valid.
    pub link_lifetime: Duration,
    /// The log.
    pub log: Log,
    /// Single sign-on; without it, one-time links on this machine.
    pub saml: Option<Saml>,
}

/// The address and limits of the pages.
#[derive(Clone, Debug)]
pub struct Server {
    /// The address to listen on.
    pub address: SocketAddr,
    /// The base URL of pages, without a trailing slash; `None` for the address itself.
    pub public_url: Option<String>,
    /// Certificate chain and key, PEM.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// The maximum number of concurrent connections.
    pub max_connections: usize,
    /// The maximum size of a request body in bytes.
    pub max_body_bytes: usize,
    /// How long a request may take.
    pub request_timeout: Duration,
    /// How long a connection may stall.
    pub idle_timeout: Duration,
}

/// The relay's API, as the console reaches it.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// The base URL, without a trailing slash.
    pub url: String,
    /// The file with the token.
    pub token_file: PathBuf,
    /// Certificate authorities for its certificate; by default, the system's.
    pub ca_file: Option<PathBuf>,
    /// How long a response may take.
    pub timeout: Duration,
}

/// How long people stay signed in.
#[derive(Clone, Copy, Debug)]
pub struct Sessions {
    /// How long a session may be idle.
    pub idle: Duration,
    /// How long a session lasts at most.
    pub absolute: Duration,
    /// The maximum number of sessions; beyond it, the one that has been idle longest ends.
    pub most: usize,
}

/// Single sign-on by SAML 2.0.
#[derive(Clone, Debug)]
pub struct Saml {
    /// The name under which the identity provider knows the console.
    pub entity_id: String,
    /// The source of the identity provider's metadata.
    pub metadata: Metadata,
    /// How often the metadata is checked for changes.
    pub refresh: Duration,
    /// What must be signed.
    pub signatures: Signatures,
    /// By how much the two clocks may differ.
    pub clock_skew: Duration,
    /// Certificate and RSA key, PEM, with which the console signs its requests.
    pub key: Option<(PathBuf, PathBuf)>,
    /// The rules that assign roles.
    pub roles: Vec<RoleRule>,
}

/// The source of the identity provider's metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Metadata {
    /// A file.
    File(PathBuf),
    /// A URL, and certificate authorities for its certificate.
    Url(String, Option<PathBuf>),
}

/// What must be signed in a response of an identity provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signatures {
    /// Both the response and the assertion in it, each by its own signature.
    Both,
    /// At least the response, which contains the assertion.
    Response,
    /// The assertion at least.
    Assertion,
}

/// What a person may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Sees figures, rules and the state of delivery, but nothing about a person.
    Viewer,
    /// Handles requests of people and regulators: sees what is recorded about a person, and records changes.
    Officer,
    /// Runs the relay: looks up messages, tries rules out, ends sessions.
    Operator,
}

impl Role {
    /// All roles.
    pub const ALL: [Role; 3] = [Role::Viewer, Role::Officer, Role::Operator];

    /// Returns its name.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Officer => "officer",
            Role::Operator => "operator",
        }
    }
}

/// A rule: whoever has the attribute with this value has the role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleRule {
    /// The attribute's name or friendly name.
    pub attribute: String,
    /// Its value.
    pub value: String,
    /// The role.
    pub role: Role,
    /// The controller; `None` for all.
    pub controller: Option<Controller>,
}

impl Console {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or contains errors.
    pub fn load(path: &Path) -> Result<Console, ConfigError> {
        let source = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let outcome = read(&source, path.parent().unwrap_or(Path::new("")));
        match outcome.problems.is_empty() {
            true => Ok(outcome.value),
            false => Err(ConfigError::Wrong { path: path.to_owned(), problems: outcome.problems }),
        }
    }

    /// The base URL of pages, without a trailing slash.
    pub fn base(&self) -> String {
        let scheme = if self.server.certificate.is_some() { "https" } else { "http" };
        self.server.public_url.clone().unwrap_or_else(|| format!("{scheme}://{}", self.server.address))
    }

    /// Returns whether browsers reach the console by https.
    pub fn is_https(&self) -> bool {
        self.base().starts_with("https:")
    }
}

fn read(source: &str, folder: &Path) -> Outcome<Console> {
    reader::read_in(folder, source, |root| {
        let data_directory = root.path("data_directory").unwrap_or_else(|| folder.join("data/console"));
        let language = root.choice("language", "en", &[("en", "en"), ("de", "de"), ("fr", "fr")]);
        let server = root.section("server", server);
        let api = root.section("api", |section| upstream(section, &data_directory));
        let (session, link_lifetime) = root.section("session", sessions);
        let log = root.section("log", log);
        let saml = root.section("saml", saml);
        check(root, &server, saml.as_ref());
        Console { data_directory, language, server, api, session, link_lifetime, log, saml }
    })
}

/// Checks settings that depend on each other.
fn check(root: &Section<'_>, server: &Server, saml: Option<&Saml>) {
    let is_local = server.address.ip().is_loopback();
    if saml.is_none() && !is_local {
        root.problem(
            0,
            "server.address is not a loopback address, and there is no [saml]: one-time links work only on \
             this machine",
        );
    }
    let is_https = server.certificate.is_some()
        || server.public_url.as_deref().is_some_and(|public_url| public_url.starts_with("https:"));
    if !is_local && !is_https {
        root.problem(
            0,
            "server.address is not a loopback address, so sessions would cross the network in clear: set \
             server.certificate and server.key, or set server.public_url to the https address of the proxy \
             in front",
        );
    }
    if saml.is_some() && server.public_url.is_none() {
        root.problem(0, "[saml] needs server.public_url, to which the identity provider returns people");
    }
}

fn server(section: &mut Section<'_>) -> Server {
    let public_url = section.parsed("public_url", |text| {
        if text.is_empty() {
            return Ok(None);
        }
        let url = web_url(text)?;
        match (url.path(), url.query(), url.fragment()) {
            ("/", None, None) => Ok(Some(text.trim_end_matches('/').to_owned())),
            _ => Err(format!("{text:?} has a path: the console needs a host name of its own")),
        }
    });
    Server {
        address: section.parsed("address", address).unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8027))),
        public_url: public_url.flatten(),
        certificate: pair(section),
        max_connections: count(section.number("max_connections", 256, 1..=100_000)),
        max_body_bytes: count(section.number("max_body_bytes", 2 << 20, 65_536..=1 << 28)),
        request_timeout: section.seconds("request_timeout_s", 30, 1..=600),
        idle_timeout: section.seconds("idle_timeout_s", 60, 1..=3600),
    }
}

fn upstream(section: &mut Section<'_>, data_directory: &Path) -> Upstream {
    let url = section.parsed("url", |text| web_url(text).map(|_| text.trim_end_matches('/').to_owned()));
    Upstream {
        url: url.unwrap_or_else(|| "http://127.0.0.1:8026".to_owned()),
        token_file: section.path("token_file").unwrap_or_else(|| data_directory.join("token")),
        ca_file: section.path("ca_file"),
        timeout: section.seconds("timeout_s", 20, 1..=600),
    }
}

fn sessions(section: &mut Section<'_>) -> (Sessions, Duration) {
    let sessions = Sessions {
        idle: section.seconds("idle_s", 15 * 60, 5..=86_400),
        absolute: section.seconds("absolute_s", 8 * 3600, 10..=7 * 86_400),
        most: count(section.number("max_sessions", 1000, 1..=100_000)),
    };
    (sessions, section.seconds("link_lifetime_s", 600, 10..=86_400))
}

fn saml(section: &mut Section<'_>) -> Option<Saml> {
    let is_there = section.start_line() > 0;
    let entity_id = section.parsed("entity_id", |text| match Url::parse(text) {
        Ok(url) if url.host().is_some_and(|host| host != Host::Domain("")) && text.len() <= 1024 => {
            Ok(text.to_owned())
        }
        _ => Err(format!(
            "invalid entity ID {text:?}: use an address such as \"https://console.example/saml/metadata\""
        )),
    });
    let file = section.path("idp_metadata_file");
    let url = section.parsed("idp_metadata_url", |text| web_url(text).map(|_| text.to_owned()));
    let ca_file = section.path("idp_metadata_ca_file");
    let refresh = section.seconds("idp_metadata_refresh_s", 3600, 10..=7 * 86_400);
    let words = [
        ("both", Signatures::Both),
        ("response", Signatures::Response),
        ("assertion", Signatures::Assertion),
    ];
    let signatures = section.choice("required_signatures", Signatures::Both, &words);
    let clock_skew = section.seconds("clock_skew_s", 60, 0..=180);
    let key = pair(section);
    let roles: Vec<RoleRule> = section.sections("role", role).into_iter().flatten().collect();
    if !is_there {
        return None;
    }
    let metadata = match (file, url) {
        (Some(file), None) => Some(Metadata::File(file)),
        (None, Some(url)) => Some(Metadata::Url(url, ca_file)),
        _ => {
            let line = section.start_line();
            section.problem(line, "saml: set exactly one of idp_metadata_file and idp_metadata_url");
            None
        }
    };
    if entity_id.is_none() {
        section.problem(
            section.start_line(),
            "saml.entity_id is missing: use an address such as \"https://console.example/saml/metadata\"",
        );
    }
    if roles.is_empty() {
        section.problem(
            section.start_line(),
            "saml: without a [[saml.role]] nobody may do anything; name the attribute and the value that \
             make someone a viewer, officer or operator",
        );
    }
    Some(Saml { entity_id: entity_id?, metadata: metadata?, refresh, signatures, clock_skew, key, roles })
}

fn role(section: &mut Section<'_>) -> Option<RoleRule> {
    let mut named = |key: &'static str| {
        let text = section.string(key).filter(|text| !text.is_empty());
        if text.is_none() {
            section.problem(section.start_line(), format!("saml.role.{key} is missing"));
        }
        text
    };
    let (attribute, value) = (named("attribute"), named("value"));
    let words = Role::ALL.map(|role| (role.name(), Some(role)));
    let role = section.choice("role", None, &words);
    if role.is_none() {
        section.problem(section.start_line(), "saml.role.role is missing: viewer, officer or operator");
    }
    let controller = section.parsed("controller", |text| match text {
        "all" => Ok(None),
        name => name.parse::<Controller>().map(Some),
    });
    if controller.is_none() {
        section
            .problem(section.start_line(), "saml.role.controller is missing: name a controller, or \"all\"");
    }
    Some(RoleRule { attribute: attribute?, value: value?, role: role?, controller: controller? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(source: &str) -> Outcome<Console> {
        super::read(source, Path::new(""))
    }

    const SHIPPED: &str = include_str!("../../../console.toml");

    fn problems(source: &str) -> String {
        format!("{:?}", read(source).problems)
    }

    fn uncommented() -> String {
        let bare = |line: &'static str| match line.strip_prefix('#') {
            Some(setting)
                if setting
                    .starts_with(|character: char| character.is_ascii_lowercase() || character == '[') =>
            {
                setting
            }
            _ => line,
        };
        SHIPPED.lines().map(bare).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_shipped_file_lists_every_setting_and_nothing_else() {
        // Of the two sources of metadata only one may be named.
        let text = uncommented()
            .replace("idp_metadata_url", "#")
            .replace("idp_metadata_ca_file", "#")
            .replace("public_url = \"\"", "public_url = \"https://console.example\"");
        assert_eq!(problems(&text), "[]");
        let all = uncommented();
        for key in read(&all).keys {
            let name = key.rsplit('.').next().unwrap();
            let is_listed =
                all.lines().any(|line| line.split('=').next().is_some_and(|part| part.trim() == name));
            assert!(is_listed, "console.toml does not list {key}");
        }
    }

    #[test]
    fn the_shipped_file_gives_the_defaults() {
        assert_eq!(format!("{:?}", read(SHIPPED).value), format!("{:?}", read("").value));
        assert_eq!(problems(SHIPPED), "[]");
    }

    #[test]
    fn sessions_do_not_cross_a_network_in_clear_nor_links_leave_the_machine() {
        let outside = "[server]\naddress = \"0.0.0.0:8027\"\n";
        assert!(problems(outside).contains("one-time links") && problems(outside).contains("in clear"));
        let saml = "[saml]\n\
                    entity_id = \"https://console.example/saml/metadata\"\n\
                    idp_metadata_file = \"idp.xml\"\n\
                    [[saml.role]]\n\
                    attribute = \"groups\"\n\
                    value = \"officers\"\n\
                    role = \"officer\"\n\
                    controller = \"shop\"\n";
        assert!(problems(&format!("{outside}{saml}")).contains("in clear"));
        let named = format!("{outside}public_url = \"https://console.example\"\n{saml}");
        assert_eq!(problems(&named), "[]");
        assert!(problems(saml).contains("public_url"));
        assert!(
            problems(&named.replace("idp_metadata_file = \"idp.xml\"", "")).contains("idp_metadata_file")
        );
        assert!(problems(&named.replace("controller = \"shop\"", "")).contains("saml.role.controller"));
        assert!(
            problems(&named.replace("console.example\"\n[saml]", "console.example/path\"\n[saml]"))
                .contains("has a path")
        );
        assert!(problems(&format!("{named}colour = 1")).contains("unknown setting"));
    }
}
