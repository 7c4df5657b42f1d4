//! Next hops: where mail goes.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;

use crate::private_file::is_open_to_others;
use pixelward_config::TlsMode;

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

/// A name and password for AUTH.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The login.
    pub login: String,
    password: String,
}

impl Credentials {
    /// Creates credentials.
    pub fn new(login: String, password: String) -> Credentials {
        Credentials { login, password }
    }

    /// Reads a file with the login on its first line and the password on its second.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, others than its owner may read it, or a line is missing.
    pub fn load(path: &Path) -> Result<Credentials, String> {
        let named = |error: std::io::Error| format!("{}: {error}", path.display());
        if is_open_to_others(path, &std::fs::metadata(path).map_err(named)?) {
            return Err(format!("{}: others may read it; run chmod 600 on it", path.display()));
        }
        let text = std::fs::read_to_string(path).map_err(named)?;
        let mut lines = text.lines();
        match (lines.next(), lines.next()) {
            (Some(login), Some(password)) if !login.is_empty() => {
                Ok(Credentials { login: login.to_owned(), password: password.to_owned() })
            }
            _ => Err(format!(
                "{}: expected a login on the first line and a password on the second",
                path.display()
            )),
        }
    }

    /// Returns the password.
    pub fn password(&self) -> &str {
        &self.password
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// A server that accepts mail from the relay.
#[derive(Clone, Debug)]
pub struct NextHop {
    /// The name or address, as configured; also the name that its certificate must have.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether TLS is used.
    pub tls: TlsMode,
    /// How TLS is verified. Created once, so that sessions are resumed.
    pub tls_config: Arc<rustls::ClientConfig>,
    /// The credentials for AUTH.
    pub credentials: Option<Credentials>,
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
    /// The maximum number of messages per minute; 0 for no limit.
    pub messages_per_minute: u32,
    /// The largest burst of messages.
    pub burst: u32,
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
            port,
            tls,
            tls_config,
            credentials: None,
            ehlo_name: ehlo_name.to_owned(),
            timeouts: Timeouts::default(),
            idle: Duration::from_secs(5),
            max_age: Duration::from_secs(300),
            max_messages: 100,
            max_connections: 500,
            messages_per_minute: 0,
            burst: 60,
        }
    }

    /// Returns the name that its certificate must have.
    pub fn server_name(&self) -> Option<ServerName<'static>> {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        ServerName::try_from(host.to_owned()).ok()
    }
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}
