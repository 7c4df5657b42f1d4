//! Where clients connect, and what they may do there.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::reader::Section;
use super::{Network, address, count, pair};
use pixelward_core::smtp::BareNewline;

/// The protocol of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// SMTP (RFC 5321).
    Smtp,
    /// LMTP (RFC 2033): one reply per recipient.
    Lmtp,
}

/// How clients may use TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerTls {
    /// No TLS.
    None,
    /// STARTTLS is offered.
    StartTls,
    /// STARTTLS is required before MAIL.
    Required,
    /// TLS from the first byte.
    Implicit,
}

/// Whether clients come through a proxy that names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// Clients connect directly.
    None,
    /// Each connection begins with a PROXY protocol header.
    Required,
}

/// Whether clients present a certificate, and the file with the authorities to verify it with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientCertificate {
    /// Clients are not asked for one.
    None,
    /// A verified one replaces an entry in allowed_networks.
    Asked(PathBuf),
    /// Clients without a verified one cannot send mail.
    Required(PathBuf),
}

/// An address that clients connect to.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The name used in logs.
    pub name: String,
    /// Address and port.
    pub address: SocketAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// Whether clients wait for the reply before they send their own, as Postfix's before-queue filter does.
    pub before_queue: bool,
    /// Whether TLS is offered.
    pub tls: ListenerTls,
    /// Certificate chain and key, PEM; `None` for a development certificate.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Networks that may send mail, in addition to loopback addresses.
    pub allowed_networks: Vec<Network>,
    /// The file with the accounts that may log in.
    pub users_file: Option<PathBuf>,
    /// Whether mail is accepted only after login.
    pub require_login: bool,
    /// Whether clients present a certificate.
    pub client_certificate: ClientCertificate,
    /// Whether clients come through a proxy.
    pub proxy_protocol: ProxyProtocol,
    /// Networks from which proxies connect.
    pub proxy_networks: Vec<Network>,
    /// Networks allowed to use XCLIENT.
    pub xclient_networks: Vec<Network>,
    /// Networks allowed to use XFORWARD.
    pub xforward_networks: Vec<Network>,
    /// What to do with a bare CR or LF.
    pub bare_newline: BareNewline,
    /// The maximum number of concurrent connections.
    pub max_connections: usize,
    /// The maximum number of concurrent connections of one client address.
    pub max_connections_per_client: usize,
    /// The maximum message size in bytes.
    pub max_message_bytes: u64,
    /// The maximum size of a message header in bytes.
    pub max_header_bytes: usize,
    /// The maximum number of recipients per message.
    pub max_recipients: usize,
    /// The maximum number of messages per minute from one client; 0 for no limit.
    pub max_messages_per_minute: u32,
    /// How many errors a session may make.
    pub max_errors: u32,
    /// How long a client may stay silent.
    pub idle_timeout: Duration,
    /// How long a session may last in total.
    pub session_timeout: Duration,
}

pub(super) fn listeners(root: &mut Section<'_>) -> Vec<Listener> {
    let listeners = root.sections("listener", listener);
    if listeners.is_empty() {
        vec![Listener::at(SocketAddr::from(([127, 0, 0, 1], 2525)))]
    } else {
        listeners
    }
}

impl Listener {
    /// Returns a listener with the defaults of `config.reference.toml`.
    pub fn at(address: SocketAddr) -> Listener {
        Listener {
            name: "default".to_owned(),
            address,
            protocol: Protocol::Smtp,
            before_queue: false,
            tls: ListenerTls::StartTls,
            certificate: None,
            allowed_networks: Vec::new(),
            users_file: None,
            require_login: false,
            client_certificate: ClientCertificate::None,
            proxy_protocol: ProxyProtocol::None,
            proxy_networks: Vec::new(),
            xclient_networks: Vec::new(),
            xforward_networks: Vec::new(),
            bare_newline: BareNewline::Reject,
            max_connections: 5000,
            max_connections_per_client: 2000,
            max_message_bytes: 50 << 20,
            max_header_bytes: 1 << 20,
            max_recipients: 1000,
            max_messages_per_minute: 0,
            max_errors: 20,
            idle_timeout: Duration::from_secs(300),
            session_timeout: Duration::from_secs(3600),
        }
    }

    /// Describes, one sentence each, the networks in its lists that are larger than any organisation.
    pub fn broad_networks(&self) -> Vec<String> {
        let shows_who_it_is =
            self.require_login || matches!(self.client_certificate, ClientCertificate::Required(_));
        let senders = match shows_who_it_is {
            true => "anyone there may try to log in or present a certificate",
            false => "anyone there may send mail to anyone through this relay (an open relay)",
        };
        let lists = [
            ("allowed_networks", &self.allowed_networks, senders),
            (
                "proxy_networks",
                &self.proxy_networks,
                "anyone there may claim any address in a PROXY header, and so bypass allowed_networks and \
                 limits",
            ),
            (
                "xclient_networks",
                &self.xclient_networks,
                "anyone there may claim any address and login with XCLIENT, and so bypass allowed_networks, \
                 require_login and limits",
            ),
            (
                "xforward_networks",
                &self.xforward_networks,
                "anyone there may claim with XFORWARD that a message comes from elsewhere",
            ),
        ];
        let broad = lists.iter().flat_map(|(name, networks, meaning)| {
            let found = networks.iter().filter_map(|network| Some((network, network.breadth()?)));
            found.map(move |(network, breadth)| {
                format!("listener {}: {network} in {name} covers {breadth}: {meaning}", self.name)
            })
        });
        broad.collect()
    }

    /// Returns how long a client may wait for the reply to its final dot: less than the 100 s and 600 s after
    /// which Postfix gives up, so that it never sends again what was delivered.
    pub fn budget(&self) -> Duration {
        Duration::from_secs(if self.before_queue { 80 } else { 540 })
    }
}

fn listener(section: &mut Section<'_>) -> Listener {
    let default = Listener::at(SocketAddr::from(([127, 0, 0, 1], 2525)));
    let address = section.parsed("address", address);
    let listener = Listener {
        name: section.string("name").unwrap_or(default.name),
        address: address.unwrap_or(default.address),
        protocol: section.choice(
            "protocol",
            default.protocol,
            &[("smtp", Protocol::Smtp), ("lmtp", Protocol::Lmtp)],
        ),
        before_queue: section.flag("before_queue", default.before_queue),
        tls: section.choice(
            "tls",
            default.tls,
            &[
                ("none", ListenerTls::None),
                ("starttls", ListenerTls::StartTls),
                ("required", ListenerTls::Required),
                ("implicit", ListenerTls::Implicit),
            ],
        ),
        certificate: pair(section),
        allowed_networks: section.list("allowed_networks", |text| text.parse::<Network>()),
        users_file: section.path("users_file"),
        require_login: section.flag("require_login", default.require_login),
        client_certificate: client_certificate(section),
        proxy_protocol: section.choice(
            "proxy_protocol",
            default.proxy_protocol,
            &[("none", ProxyProtocol::None), ("required", ProxyProtocol::Required)],
        ),
        proxy_networks: section.list("proxy_networks", |text| text.parse::<Network>()),
        xclient_networks: section.list("xclient_networks", |text| text.parse::<Network>()),
        xforward_networks: section.list("xforward_networks", |text| text.parse::<Network>()),
        bare_newline: section.choice(
            "bare_newline",
            default.bare_newline,
            &[("reject", BareNewline::Reject), ("normalise", BareNewline::Normalise)],
        ),
        max_connections: count(section.number("max_connections", 5000, 1..=1_000_000)),
        max_connections_per_client: count(section.number("max_connections_per_client", 2000, 1..=1_000_000)),
        max_message_bytes: section.number("max_message_bytes", default.max_message_bytes, 65_536..=1 << 31),
        max_header_bytes: count(section.number("max_header_bytes", 1 << 20, 4096..=1 << 26)),
        max_recipients: count(section.number("max_recipients", 1000, 100..=100_000)),
        max_messages_per_minute: u32::try_from(section.number("max_messages_per_minute", 0, 0..=1_000_000))
            .unwrap_or(u32::MAX),
        max_errors: u32::try_from(section.number("max_errors", 20, 1..=10_000)).unwrap_or(u32::MAX),
        idle_timeout: section.seconds("idle_timeout_s", 300, 1..=3600),
        session_timeout: section.seconds("session_timeout_s", 3600, 1..=86_400),
    };
    check(&listener, section);
    listener
}

/// Checks settings that depend on each other.
fn check(listener: &Listener, section: &mut Section<'_>) {
    let only_tls = matches!(listener.tls, ListenerTls::Required | ListenerTls::Implicit);
    if listener.users_file.is_some() && listener.tls == ListenerTls::None {
        section.problem(
            section.start_line(),
            "listener.users_file needs TLS, because passwords are never accepted in clear: set tls, \
             preferably to \"required\" or \"implicit\"",
        );
    }
    if listener.require_login && listener.users_file.is_none() {
        section.problem(
            section.start_line(),
            "listener.require_login needs users_file, the list of accounts; `pixelward passwd LOGIN` prints \
             a line for it",
        );
    }
    if (listener.proxy_protocol == ProxyProtocol::Required) == listener.proxy_networks.is_empty() {
        section.problem(
            section.start_line(),
            "listener.proxy_protocol = \"required\" and proxy_networks (the addresses of the proxies) belong \
             together, but one is missing",
        );
    }
    let asks = listener.client_certificate != ClientCertificate::None;
    let required = matches!(listener.client_certificate, ClientCertificate::Required(_));
    if asks && listener.tls == ListenerTls::None || required && !only_tls {
        section.problem(
            section.start_line(),
            "listener.client_certificate needs TLS: set tls, to \"required\" or \"implicit\" if a \
             certificate is required",
        );
    }
    let shows_who_it_is = listener.require_login || required;
    let closed = !listener.allowed_networks.is_empty() || shows_who_it_is && only_tls;
    if !listener.address.ip().is_loopback() && !closed {
        section.problem(
            section.start_line(),
            "listener.address is not a loopback address: to avoid an open relay, set allowed_networks, or \
             set require_login = true or client_certificate = \"required\" together with tls = \"required\" \
             or \"implicit\"",
        );
    }
}

fn client_certificate(section: &mut Section<'_>) -> ClientCertificate {
    type Wanted = Option<fn(PathBuf) -> ClientCertificate>;
    let words: [(&str, Wanted); 3] = [
        ("none", None),
        ("asked", Some(ClientCertificate::Asked)),
        ("required", Some(ClientCertificate::Required)),
    ];
    let wanted = section.choice("client_certificate", None, &words);
    match (wanted, section.path("client_ca_file")) {
        (Some(wanted), Some(ca)) => wanted(ca),
        (None, _) => ClientCertificate::None,
        (Some(_), None) => {
            section.problem(
                section.start_line(),
                "listener.client_certificate needs client_ca_file, the authorities that issue the client \
                 certificates",
            );
            ClientCertificate::None
        }
    }
}
