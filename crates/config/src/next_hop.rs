//! Next hops: where mail goes, and how.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::reader::Section;
use super::{Protocol, count, pair};
use pixelward_core::rewrite::downstream::Esp;

/// Whether TLS is used towards a next hop. Once STARTTLS was announced there is no way back to clear text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// From the first byte on (usually port 465).
    Implicit,
    /// By STARTTLS, or not at all.
    Required,
    /// By STARTTLS where it is offered.
    Opportunistic,
    /// Never.
    None,
}

/// How a host begins that is a socket of this machine.
const SOCKET: &str = "unix:";

/// What the host of a next hop leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Its addresses.
    Addresses,
    /// The exchangers of the domain, and their addresses.
    Exchangers,
}

/// A next hop.
#[derive(Clone, Debug)]
pub struct NextHop {
    /// The name used in routes.
    pub name: String,
    /// The host name or address, or `unix:` and the path of a socket.
    pub host: String,
    /// What the host leads to.
    pub lookup: Lookup,
    /// What it speaks.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
    /// Whether TLS is used.
    pub tls: TlsMode,
    /// Whether the configuration says so, for one whose domain may publish something else.
    pub is_tls_fixed: bool,
    /// Whether TLSA records that DNSSEC secures say how its exchangers are known.
    pub dane: bool,
    /// Whether the domain's MTA-STS policy does.
    pub mta_sts: bool,
    /// Certificate authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The SHA-256 digests of certificates or public keys, of which it must have one, instead of one from a
    /// trusted authority.
    pub tls_fingerprints: Vec<[u8; 32]>,
    /// The relay's certificate chain and key, for a next hop that asks for a client certificate.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// The file with login and password.
    pub credentials_file: Option<PathBuf>,
    /// The login for AUTH XOAUTH2, and the file with its current access token.
    pub oauth: Option<(String, PathBuf)>,
    /// The name that its certificate must have, if not the host.
    pub tls_name: Option<String>,
    /// The addresses to connect from, at most one of each family.
    pub source_addresses: Vec<IpAddr>,
    /// How long to wait for a connection.
    pub connect_timeout: Duration,
    /// How long to wait for the greeting.
    pub greeting_timeout: Duration,
    /// How long to wait for the reply to a command.
    pub command_timeout: Duration,
    /// How long to wait for the reply to DATA.
    pub data_timeout: Duration,
    /// How long to wait for the reply to the final dot.
    pub dot_timeout: Duration,
    /// How long an idle connection is kept.
    pub idle: Duration,
    /// How old a connection may get.
    pub max_age: Duration,
    /// How many messages a connection may carry.
    pub max_messages: u32,
    /// The maximum number of concurrent connections.
    pub max_connections: usize,
    /// Its part of the mail of a route; 0 for one that stands in for those before it.
    pub weight: u32,
    /// The maximum number of messages per minute; 0 for no limit.
    pub messages_per_minute: u32,
    /// The largest burst of messages.
    pub burst: u32,
    /// Whether DATA may go out together with MAIL and RCPT (RFC 2920).
    pub pipeline_data: bool,
    /// The hosted service behind it, if it can add a pixel.
    pub esp: Option<Esp>,
    /// Why it is acceptable that the service may still track.
    pub accept_downstream_tracking: Option<String>,
}

pub(super) fn next_hop(section: &mut Section<'_>) -> NextHop {
    let host = section.string("host").unwrap_or_default();
    let is_socket = host.starts_with(SOCKET);
    let protocol =
        section.choice("protocol", Protocol::Smtp, &[("smtp", Protocol::Smtp), ("lmtp", Protocol::Lmtp)]);
    let usual_port = match protocol {
        Protocol::Smtp => 25,
        Protocol::Lmtp => 24,
    };
    let modes = [
        ("required", Some(TlsMode::Required)),
        ("opportunistic", Some(TlsMode::Opportunistic)),
        ("none", Some(TlsMode::None)),
        ("implicit", Some(TlsMode::Implicit)),
    ];
    let tls = section.choice("tls", None, &modes);
    let mut hop = NextHop {
        name: section.string("name").unwrap_or_else(|| "default".to_owned()),
        host,
        lookup: section.choice(
            "lookup",
            Lookup::Addresses,
            &[("address", Lookup::Addresses), ("mx", Lookup::Exchangers)],
        ),
        protocol,
        port: u16::try_from(section.number("port", usual_port, 1..=65_535)).unwrap_or(25),
        tls: tls.unwrap_or(if is_socket { TlsMode::None } else { TlsMode::Required }),
        is_tls_fixed: false,
        dane: false,
        mta_sts: false,
        ca_file: section.path("ca_file"),
        tls_fingerprints: section.one_or_more("tls_fingerprints", fingerprint),
        certificate: pair(section),
        credentials_file: section.path("credentials_file"),
        oauth: None,
        tls_name: section.string("tls_name").filter(|name| !name.is_empty()),
        source_addresses: section.one_or_more("source_address", |text| {
            text.parse().map_err(|_| format!("invalid address {text:?}"))
        }),
        connect_timeout: section.seconds("connect_timeout_s", 30, 1..=600),
        greeting_timeout: section.seconds("greeting_timeout_s", 30, 1..=3600),
        command_timeout: section.seconds("command_timeout_s", 300, 1..=3600),
        data_timeout: section.seconds("data_timeout_s", 120, 1..=3600),
        dot_timeout: section.seconds("dot_timeout_s", 540, 1..=3600),
        idle: section.seconds("idle_s", 5, 0..=600),
        max_age: section.seconds("max_age_s", 300, 1..=86_400),
        max_messages: small(section.number("max_messages", 100, 1..=1_000_000)),
        max_connections: count(section.number("max_connections", 500, 1..=100_000)),
        weight: small(section.number("weight", 0, 0..=1_000)),
        messages_per_minute: small(section.number("messages_per_minute", 0, 0..=10_000_000)),
        burst: small(section.number("burst", 60, 1..=1_000_000)),
        pipeline_data: section.flag("pipeline_data", true),
        esp: None,
        accept_downstream_tracking: section
            .string("accept_downstream_tracking")
            .filter(|reason| !reason.trim().is_empty()),
    };
    if hop.host.is_empty() {
        section
            .problem(section.start_line(), "next_hop.host is missing: name the server that takes the mail");
    }
    hop.is_tls_fixed = tls.is_some() && hop.lookup == Lookup::Exchangers;
    let is_open = hop.lookup == Lookup::Exchangers
        && !hop.is_tls_fixed
        && hop.tls_name.is_none()
        && hop.tls_fingerprints.is_empty();
    // Behind DNS servers that drop signatures no mail would leave: that is for the administrator to choose.
    hop.dane = section.flag("dane", false);
    hop.mta_sts = section.flag("mta_sts", is_open);
    for problem in [misplaced(&hop), unverifiable(&hop), unpublished(&hop)].into_iter().flatten() {
        section.problem(section.start_line(), problem);
    }
    let families = |is_v6: bool| hop.source_addresses.iter().filter(|one| one.is_ipv6() == is_v6).count();
    if families(false) > 1 || families(true) > 1 {
        section.problem(section.start_line(), "next_hop.source_address: use at most one of each family");
    }
    hop.oauth = match (section.string("oauth_login"), section.path("oauth_token_file")) {
        (Some(login), Some(path)) => Some((login, path)),
        (None, None) => None,
        _ => {
            section
                .problem(section.start_line(), "next_hop: oauth_login and oauth_token_file belong together");
            None
        }
    };
    let names = Esp::ALL.map(|(name, esp)| (name, Some(esp)));
    hop.esp = section.choice("esp", None, &names);
    if let (Some(esp), None) = (hop.esp, &hop.accept_downstream_tracking)
        && let Some(doubt) = esp.doubt()
    {
        section.problem(
            section.start_line(),
            format!(
                "next_hop.esp is {:?}, which may add an open pixel after this relay: {doubt}. If that is \
                 settled in another way, say how in accept_downstream_tracking",
                esp.name()
            ),
        );
    }
    hop
}

/// Reads a SHA-256 digest: 64 hexadecimal digits, or pairs of them with colons between, as openssl prints it.
fn fingerprint(text: &str) -> Result<[u8; 32], String> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
    let mut digest = [0; 32];
    let is_one = digits.len() == 64
        && digits.iter().all(u8::is_ascii_hexdigit)
        && digits.chunks(2).zip(&mut digest).all(|(pair, byte)| {
            let parsed = std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
            parsed.map(|parsed| *byte = parsed).is_some()
        });
    let invalid = || format!("invalid fingerprint {text:?}: use a SHA-256 digest, 64 hexadecimal digits");
    is_one.then_some(digest).ok_or_else(invalid)
}

/// Returns what does not fit together in how a next hop is verified.
fn unverifiable(hop: &NextHop) -> Option<&'static str> {
    let has_none = !hop.tls_fingerprints.is_empty() && hop.tls == TlsMode::None;
    has_none.then_some("next_hop.tls_fingerprints: there is no certificate with tls = \"none\"")
}

/// Returns why it cannot count what a domain publishes about its exchangers.
fn unpublished(hop: &NextHop) -> Option<&'static str> {
    if !hop.dane && !hop.mta_sts {
        return None;
    }
    if hop.lookup != Lookup::Exchangers {
        return Some("next_hop: dane and mta_sts are for exchangers; use lookup = \"mx\"");
    }
    if !matches!(hop.tls, TlsMode::Required | TlsMode::Opportunistic) {
        return Some("next_hop: dane and mta_sts need tls = \"required\" or \"opportunistic\"");
    }
    let is_named = hop.tls_name.is_some() || !hop.tls_fingerprints.is_empty();
    is_named.then_some("next_hop: use either dane and mta_sts, or tls_name, or tls_fingerprints")
}

/// Returns what does not fit together in where a next hop is and what it speaks.
fn misplaced(hop: &NextHop) -> Option<&'static str> {
    let socket = hop.host.strip_prefix(SOCKET);
    if socket.is_some_and(|path| !path.starts_with('/')) {
        return Some("next_hop.host: a socket needs its whole path, as in \"unix:/run/dovecot/lmtp\"");
    }
    if socket.is_some() && hop.tls != TlsMode::None {
        return Some(
            "next_hop.tls: what goes to a socket does not leave this machine, so use tls = \"none\"",
        );
    }
    let is_address = hop.host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    if hop.lookup == Lookup::Exchangers && (socket.is_some() || is_address) {
        return Some("next_hop.lookup: only a domain has MX records, and host is none");
    }
    if hop.lookup == Lookup::Exchangers && hop.protocol == Protocol::Lmtp {
        return Some("next_hop.lookup: MX records are for SMTP; use protocol = \"smtp\"");
    }
    let is_lmtp = hop.protocol == Protocol::Lmtp && socket.is_none();
    (is_lmtp && hop.port == 25)
        .then_some("next_hop.port: port 25 is for SMTP; LMTP must not be used there (RFC 2033, section 5)")
}

fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Protocol, TlsMode};
    use crate::Config;

    #[test]
    fn a_fingerprint_is_read_as_openssl_prints_it() {
        let hop = |lines: &str| Config::parse(&format!("[next_hop]\nhost = \"a.example\"\n{lines}"));
        let (plain, colons) = ("0a".repeat(32), ["0A"; 32].join(":"));
        for text in [&plain, &colons] {
            let hop = hop(&format!("tls_fingerprints = {text:?}")).unwrap().next_hops.remove(0);
            assert_eq!(hop.tls_fingerprints, [[10; 32]]);
        }
        let problem = |lines: &str| hop(lines).map(|_| ()).unwrap_err()[0].text.clone();
        for text in ["0a".repeat(31), "0g".repeat(32), "+a".repeat(32), String::new()] {
            assert!(problem(&format!("tls_fingerprints = [{text:?}]")).contains("64 hexadecimal"), "{text}");
        }
        let with = |more: &str| problem(&format!("tls_fingerprints = {plain:?}\n{more}"));
        assert!(with("tls = \"none\"").contains("no certificate"));
    }

    #[test]
    fn what_a_domain_publishes_counts_unless_something_else_is_set() {
        let hop = |lines: &str| Config::parse(&format!("[next_hop]\nhost = \"home.example\"\n{lines}"));
        for (lines, dane, mta_sts) in [
            ("", false, false),
            ("lookup = \"mx\"", false, true),
            ("lookup = \"mx\"\ndane = true", true, true),
            ("lookup = \"mx\"\ntls = \"required\"", false, false),
            ("lookup = \"mx\"\ntls = \"opportunistic\"\ndane = true", true, false),
            ("lookup = \"mx\"\ntls_name = \"mx.example\"", false, false),
            ("lookup = \"mx\"\ntls = \"none\"", false, false),
            ("lookup = \"mx\"\ndane = false", false, true),
        ] {
            let hop = hop(lines).unwrap().next_hops.remove(0);
            assert_eq!((hop.dane, hop.mta_sts), (dane, mta_sts), "{lines}");
        }
        for (lines, problem) in [
            ("dane = true", "use lookup"),
            ("lookup = \"mx\"\ntls = \"none\"\nmta_sts = true", "need tls"),
            ("lookup = \"mx\"\ntls = \"implicit\"\ndane = true", "need tls"),
            ("lookup = \"mx\"\ntls_name = \"mx.example\"\ndane = true", "use either"),
        ] {
            let problems = hop(lines).map(|_| ()).unwrap_err();
            assert!(problems.iter().any(|one| one.text.contains(problem)), "{lines}: {problems:?}");
        }
    }

    #[test]
    fn a_socket_needs_no_tls_and_lmtp_has_a_port_for_itself() {
        let hop = |lines: &str| Config::parse(&format!("[next_hop]\n{lines}")).unwrap().next_hops.remove(0);
        let socket = hop("host = \"unix:/run/lmtp\"\nprotocol = \"lmtp\"");
        assert_eq!((socket.tls, socket.protocol), (TlsMode::None, Protocol::Lmtp));
        let lmtp = hop("host = \"mail.example\"\nprotocol = \"lmtp\"");
        assert_eq!((lmtp.tls, lmtp.port), (TlsMode::Required, 24));
        assert_eq!(hop("host = \"mail.example\"").port, 25);
        for (lines, problem) in [
            ("host = \"unix:lmtp\"", "whole path"),
            ("host = \"192.0.2.1\"\nlookup = \"mx\"", "only a domain has MX records"),
            ("host = \"unix:/run/lmtp\"\nlookup = \"mx\"", "only a domain has MX records"),
            ("host = \"a.example\"\nprotocol = \"lmtp\"\nlookup = \"mx\"", "MX records are for SMTP"),
            ("host = \"unix:/run/lmtp\"\ntls = \"required\"", "tls = \"none\""),
            ("host = \"mail.example\"\nprotocol = \"lmtp\"\nport = 25", "port 25 is for SMTP"),
        ] {
            let problems = Config::parse(&format!("[next_hop]\n{lines}")).map(|_| ()).unwrap_err();
            assert!(problems.iter().any(|one| one.text.contains(problem)), "{lines}: {problems:?}");
        }
    }
}
