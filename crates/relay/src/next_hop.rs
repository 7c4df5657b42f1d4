//! Where mail goes.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;

use crate::private_file::is_open_to_others;
use pixelward_config::TlsMode;

/// How long is waited for a next hop (RFC 5321 section 4.5.3.2 asks for at least these).
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a connection.
    pub connect: Duration,
    /// For the greeting, EHLO, STARTTLS, AUTH, MAIL, RCPT and RSET.
    pub command: Duration,
    /// For the answer to DATA.
    pub data: Duration,
    /// For one write of the message to make headway.
    pub write: Duration,
    /// For the answer to the final dot.
    pub dot: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        Timeouts {
            connect: Duration::from_secs(30),
            command: minutes(5),
            data: minutes(2),
            write: minutes(3),
            // Below the 600 s that Postfix waits behind its own dot.
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
    /// Credentials as given.
    pub fn new(login: String, password: String) -> Credentials {
        Credentials { login, password }
    }

    /// Reads a file with the login on its first line and the password on its second.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, others than its owner may read it, or it lacks a line.
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

    /// The password.
    pub fn password(&self) -> &str {
        &self.password
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// A server that takes mail from us.
#[derive(Clone, Debug)]
pub struct NextHop {
    /// Its name or address, as configured; also the name its certificate must have.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether TLS is used.
    pub tls: TlsMode,
    /// How TLS is verified. Made once, so that sessions are resumed.
    pub tls_config: Arc<rustls::ClientConfig>,
    /// For AUTH.
    pub credentials: Option<Credentials>,
    /// The name we greet with.
    pub ehlo_name: String,
    /// How long is waited.
    pub timeouts: Timeouts,
    /// How long an idle connection is kept. Servers close theirs after minutes; Postfix keeps its own for two seconds.
    pub idle: Duration,
    /// How old a connection may become.
    pub max_age: Duration,
    /// How many messages a connection may carry.
    pub max_messages: u32,
    /// How many connections there may be at once.
    pub max_connections: usize,
    /// How many messages it is sent in a minute; 0 for as many as there are.
    pub messages_per_minute: u32,
    /// How many of these may go at once.
    pub burst: u32,
}

impl NextHop {
    /// A next hop with the defaults of `config.reference.toml`.
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

    /// The name its certificate must have.
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
