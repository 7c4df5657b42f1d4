//! Next hops: where mail goes.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;

use super::authentication::Authentication;
use super::exchangers::Exchangers;
use super::mta_sts::MtaSts;
use crate::private_file::is_open_to_others;
use pixelward_config::Protocol;
pub(super) use pixelward_config::TlsMode;

/// Time limits for a next hop (RFC 5321, section 4.5.3.2 requires at least these).
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For connecting.
    pub connect: Duration,
    /// For the greeting of one address.
    pub greeting: Duration,
    /// For EHLO, STARTTLS, AUTH, MAIL, RCPT and RSET.
    pub command: Duration,
    /// For the reply to DATA.
    pub data: Duration,
    /// For progress in one write of the message.
    pub write: Duration,
    /// For the reply to the final dot.
    pub dot: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        Timeouts {
            connect: Duration::from_secs(30),
            greeting: Duration::from_secs(30),
            command: minutes(5),
            data: minutes(2),
            write: minutes(3),
            // Below the 600 s that Postfix waits after its own dot.
            dot: Duration::from_secs(540),
        }
    }
}

/// A name, with a password or an access token, for AUTH.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The login.
    pub login: String,
    secret: Secret,
}

#[derive(Clone, PartialEq, Eq)]
enum Secret {
    Password(String),
    /// The file with the current access token.
    Token(PathBuf),
}

impl Credentials {
    /// Creates credentials.
    pub fn new(login: String, password: String) -> Credentials {
        Credentials { login, secret: Secret::Password(password) }
    }

    /// Creates credentials with an access token that somebody keeps fresh in a file.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or others than its owner may read it.
    pub fn with_token(login: String, path: PathBuf) -> Result<Credentials, String> {
        token(&path)?;
        Ok(Credentials { login, secret: Secret::Token(path) })
    }

    /// Reads a file with the login on its first line and the password on its second.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, others than its owner may read it, or a line is missing.
    pub fn load(path: &Path) -> Result<Credentials, String> {
        let text = private_text(path)?;
        let mut lines = text.lines();
        match (lines.next(), lines.next()) {
            (Some(login), Some(password)) if !login.is_empty() => {
                Ok(Credentials::new(login.to_owned(), password.to_owned()))
            }
            _ => Err(format!(
                "{}: expected a login on the first line and a password on the second",
                path.display()
            )),
        }
    }

    /// Returns the password; `None` if there is an access token instead.
    pub fn password(&self) -> Option<&str> {
        match &self.secret {
            Secret::Password(password) => Some(password),
            Secret::Token(_) => None,
        }
    }

    /// Reads the current access token; `None` if there is a password instead.
    ///
    /// # Errors
    ///
    /// When its file cannot be read, or others than its owner may read it.
    pub fn token(&self) -> Result<Option<String>, String> {
        match &self.secret {
            Secret::Password(_) => Ok(None),
            Secret::Token(path) => token(path).map(Some),
        }
    }
}

/// Reads an access token.
fn token(path: &Path) -> Result<String, String> {
    let text = private_text(path)?;
    let token = text.trim();
    let is_one = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    if is_one { Ok(token.to_owned()) } else { Err(format!("{}: expected one access token", path.display())) }
}

/// Reads a file that only its owner may read.
fn private_text(path: &Path) -> Result<String, String> {
    let named = |error: std::io::Error| format!("{}: {error}", path.display());
    if is_open_to_others(path, &std::fs::metadata(path).map_err(named)?) {
        return Err(format!("{}: others may read it; run chmod 600 on it", path.display()));
    }
    std::fs::read_to_string(path).map_err(named)
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// A server that accepts mail from the relay.
#[derive(Clone, Debug)]
pub struct NextHop {
    /// The name or address, as configured; also the name that its certificate must have. Or `unix:` and the
    /// path of a socket.
    pub host: String,
    /// Finds its exchangers, if the host is a domain that has some.
    pub exchangers: Option<Exchangers>,
    /// The MTA-STS policy of that domain, if it counts.
    pub mta_sts: Option<Arc<MtaSts>>,
    /// What it speaks.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
    /// Whether TLS is used.
    pub tls: TlsMode,
    /// How TLS is verified. Created once, so that sessions are resumed.
    pub tls_config: Arc<rustls::ClientConfig>,
    /// Whether TLS was chosen by the administrator: records that only ask for TLS then change nothing.
    pub is_tls_fixed: bool,
    /// What a handshake with `tls_config` shows.
    pub authentication: Authentication,
    /// The credentials for AUTH.
    pub credentials: Option<Credentials>,
    /// The name that its certificate must have, if not the host.
    pub tls_name: Option<String>,
    /// The addresses to connect from, at most one of each family.
    pub source_addresses: Vec<IpAddr>,
    /// The name used in EHLO.
    pub ehlo_name: String,
    /// The time limits.
    pub timeouts: Timeouts,
    /// How long an idle connection is kept. Servers close theirs after minutes; Postfix keeps its own for two
    /// seconds.
    pub idle: Duration,
    /// How old a connection may get.
    pub max_age: Duration,
    /// How many messages a connection may carry.
    pub max_messages: u32,
    /// The maximum number of connections.
    pub max_connections: usize,
    /// Its part of the mail of a route; 0 for one that stands in for those before it.
    pub weight: u32,
    /// The maximum number of messages per minute; 0 for no limit.
    pub messages_per_minute: u32,
    /// The largest burst of messages.
    pub burst: u32,
    /// Whether DATA may go out together with MAIL and RCPT (RFC 2920).
    pub pipeline_data: bool,
}

impl NextHop {
    /// Returns a next hop with the defaults of `config.reference.toml`.
    pub fn new(
        host: &str,
        port: u16,
        tls: TlsMode,
        tls_config: Arc<rustls::ClientConfig>,
        ehlo_name: &str,
    ) -> NextHop {
        NextHop {
            host: host.to_owned(),
            exchangers: None,
            mta_sts: None,
            protocol: Protocol::Smtp,
            port,
            tls,
            tls_config,
            is_tls_fixed: true,
            authentication: Authentication::Pkix,
            credentials: None,
            tls_name: None,
            source_addresses: Vec::new(),
            ehlo_name: ehlo_name.to_owned(),
            timeouts: Timeouts::default(),
            idle: Duration::from_secs(5),
            max_age: Duration::from_secs(300),
            max_messages: 100,
            max_connections: 500,
            weight: 0,
            messages_per_minute: 0,
            burst: 60,
            pipeline_data: true,
        }
    }

    /// Returns the path of its socket, if it is not reached over the network.
    pub fn socket(&self) -> Option<&Path> {
        self.host.strip_prefix("unix:").map(Path::new)
    }

    /// Returns the name that its certificate must have. `exchanger` is the name that DNS gave for it, which
    /// counts only within the domain: DNS may have been forged.
    pub fn server_name(&self, exchanger: Option<&str>) -> Option<ServerName<'static>> {
        ServerName::try_from(self.name_of(exchanger).to_owned()).ok()
    }

    fn name_of<'a>(&'a self, exchanger: Option<&'a str>) -> &'a str {
        if let Some(name) = &self.tls_name {
            return name;
        }
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let is_within = |name: &&str| {
            let above = name.len().checked_sub(host.len()).map(|at| name.split_at_checked(at));
            above.flatten().is_some_and(|(above, domain)| {
                domain.eq_ignore_ascii_case(host) && (above.is_empty() || above.ends_with('.'))
            })
        };
        exchanger.filter(is_within).unwrap_or(host)
    }
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.socket() {
            Some(_) => f.write_str(&self.host),
            None => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exchanger_outside_of_the_domain_needs_a_name_that_is_vouched_for() {
        let tls = pixelward_net::tls_config(None, None).unwrap();
        let mut hop = NextHop::new("home.example", 25, TlsMode::Required, tls, "relay.example");
        for (exchanger, name) in [
            (None, "home.example"),
            (Some("home.example"), "home.example"),
            (Some("mx1.HOME.example"), "mx1.HOME.example"),
            (Some("mx1.nothome.example"), "home.example"),
            (Some("nothome.example"), "home.example"),
            (Some("evil.example"), "home.example"),
            (Some("example"), "home.example"),
        ] {
            assert_eq!(hop.name_of(exchanger), name, "{exchanger:?}");
        }
        hop.tls_name = Some("mx.provider.example".to_owned());
        assert_eq!(hop.name_of(Some("mx1.home.example")), "mx.provider.example");
    }
}
