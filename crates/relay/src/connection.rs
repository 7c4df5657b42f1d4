//! A connection to a next hop: greeting, EHLO, STARTTLS, AUTH, and commands with their replies.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use pixelward_config::Protocol;

use super::TlsMode;
use super::authentication::{Authentication, Peer};
use super::error::RelayError;
use super::next_hop::{Credentials, NextHop};
use super::tls_fault::TlsFault;
use crate::message::transfer::encode_base64;
use crate::smtp::Reply;
use crate::smtp::reply::Class;
use crate::smtp::xclient;
use crate::wire::{Stream, Wire};

/// What a next hop announced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// 8BITMIME (RFC 6152).
    pub eight_bit: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// DSN (RFC 3461).
    pub dsn: bool,
    /// STARTTLS (RFC 3207).
    pub starttls: bool,
    /// SIZE (RFC 1870), with the limit if one is given.
    pub size: Option<Option<u64>>,
    /// The attributes that it accepts with XFORWARD.
    pub xforward: Vec<xclient::Name>,
    auth_plain: bool,
    auth_login: bool,
    auth_xoauth2: bool,
}

impl Capabilities {
    /// Returns what at least one of the two announces, and the larger size.
    pub fn either(self, other: Capabilities) -> Capabilities {
        let limits = self.size.flatten().zip(other.size.flatten());
        Capabilities {
            pipelining: self.pipelining || other.pipelining,
            eight_bit: self.eight_bit || other.eight_bit,
            smtputf8: self.smtputf8 || other.smtputf8,
            dsn: self.dsn || other.dsn,
            starttls: self.starttls || other.starttls,
            size: limits.map(|(ours, other)| Some(ours.max(other))),
            ..self
        }
    }

    /// Returns what both announce, and the smaller size.
    pub fn both(self, other: Capabilities) -> Capabilities {
        let limit = match (self.size.flatten(), other.size.flatten()) {
            (Some(ours), Some(other)) => Some(ours.min(other)),
            (one, other) => one.or(other),
        };
        Capabilities {
            pipelining: self.pipelining && other.pipelining,
            eight_bit: self.eight_bit && other.eight_bit,
            smtputf8: self.smtputf8 && other.smtputf8,
            dsn: self.dsn && other.dsn,
            starttls: self.starttls && other.starttls,
            size: limit.map(Some),
            ..self
        }
    }

    fn read(reply: &Reply) -> Capabilities {
        let mut capabilities = Capabilities::default();
        for line in reply.keywords() {
            let mut words = line.split([' ', '=']);
            match words.next().unwrap_or_default() {
                "PIPELINING" => capabilities.pipelining = true,
                "8BITMIME" => capabilities.eight_bit = true,
                "SMTPUTF8" => capabilities.smtputf8 = true,
                "DSN" => capabilities.dsn = true,
                "STARTTLS" => capabilities.starttls = true,
                "SIZE" => {
                    capabilities.size =
                        Some(words.next().and_then(|size| size.parse().ok()).filter(|size| *size > 0))
                }
                "XFORWARD" => {
                    let known = |word| xclient::XFORWARD.iter().find(|(keyword, _)| *keyword == word);
                    capabilities.xforward = words.filter_map(known).map(|(_, name)| *name).collect();
                }
                "AUTH" => {
                    for way in words {
                        capabilities.auth_plain |= way == "PLAIN";
                        capabilities.auth_login |= way == "LOGIN";
                        capabilities.auth_xoauth2 |= way == "XOAUTH2";
                    }
                }
                _ => {}
            }
        }
        capabilities
    }
}

/// A connection that is ready for MAIL.
#[derive(Debug)]
pub struct Connection {
    wire: Wire,
    /// What the next hop announced, over TLS if TLS is on.
    pub capabilities: Capabilities,
    /// What the next hop has shown that it is.
    pub authentication: Authentication,
    /// When it was made.
    pub since: Instant,
    /// When it was last used.
    pub used: Instant,
    /// How many messages it carried.
    pub messages: u32,
    /// How many recipients were rejected on it since it last carried one: servers slow down, and then close,
    /// a connection with many.
    pub rejected: u32,
    /// Whether DATA was sent ahead and its reply not read. Then only a message may follow, or the end of the
    /// connection.
    pub owes_data: bool,
    /// Counts it among those of its pool.
    pub(super) counted: Option<Counted>,
}

/// One more, until dropped.
#[derive(Debug)]
pub(super) struct Counted(Arc<AtomicUsize>);

impl Counted {
    pub(super) fn one_of(count: &Arc<AtomicUsize>) -> Counted {
        count.fetch_add(1, Ordering::SeqCst);
        Counted(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// How long a next hop may take to say goodbye.
const PARTING: Duration = Duration::from_secs(2);

/// With so many rejected recipients, a connection is not used for another message. Postfix slows down from 10
/// on (`smtpd_soft_error_limit`).
const MOST_REJECTED: u32 = 5;

impl Connection {
    /// Sends everything that precedes MAIL over a connection that was just made, once the other side has
    /// shown that it is `peer`.
    ///
    /// # Errors
    ///
    /// Whatever prevents the connection from becoming ready.
    pub async fn over(stream: Stream, hop: &NextHop, peer: &Peer) -> Result<Connection, RelayError> {
        let limits = &hop.timeouts;
        let (stream, authentication) = match hop.tls {
            TlsMode::Implicit => start_tls(stream.into_clear().ok_or(RelayError::NoTls)?, hop, peer).await?,
            TlsMode::Required | TlsMode::Opportunistic | TlsMode::None => (stream, Authentication::None),
        };
        let now = Instant::now();
        let mut connection = Connection {
            wire: Wire::new(stream),
            capabilities: Capabilities::default(),
            authentication,
            since: now,
            used: now,
            messages: 0,
            rejected: 0,
            owes_data: false,
            counted: None,
        };
        connection.expect(Class::Positive, "greeting", limits.greeting).await?;
        connection.greet(hop).await?;
        let connection = connection.secured(hop, peer).await?.authenticated(hop).await?;
        let name = connection.authentication.name();
        metrics::counter!("pixelward_next_hop_connections_total", "authentication" => name).increment(1);
        Ok(connection)
    }

    /// Returns when the next hop's certificate expires, in seconds since 1970; `None` without TLS.
    pub fn certificate_end(&self) -> Option<i64> {
        self.wire.stream.certificate_end()
    }

    /// Sends EHLO, or HELO if that is not understood; over LMTP, LHLO.
    async fn greet(&mut self, hop: &NextHop) -> Result<(), RelayError> {
        let verb = match hop.protocol {
            Protocol::Smtp => "EHLO",
            Protocol::Lmtp => "LHLO",
        };
        self.command(&format!("{verb} {}\r\n", hop.ehlo_name), verb, hop.timeouts.command).await?;
        let reply = self.reply(verb, hop.timeouts.command).await?;
        match reply.class() {
            Class::Positive => self.capabilities = Capabilities::read(&reply),
            Class::Permanent if hop.protocol == Protocol::Smtp => {
                self.capabilities = Capabilities::default();
                self.command(&format!("HELO {}\r\n", hop.ehlo_name), "HELO", hop.timeouts.command).await?;
                self.expect(Class::Positive, "HELO", hop.timeouts.command).await?;
            }
            Class::Permanent | Class::Transient | Class::Intermediate => {
                return Err(RelayError::Unwilling { at: verb, reply });
            }
        }
        Ok(())
    }

    /// Starts TLS if it is to be used. Everything announced before is forgotten.
    async fn secured(mut self, hop: &NextHop, peer: &Peer) -> Result<Connection, RelayError> {
        match (hop.tls, self.capabilities.starttls) {
            (TlsMode::Implicit | TlsMode::None, _) => return Ok(self),
            (TlsMode::Required | TlsMode::Opportunistic, false) if peer.needs_tls(hop) => {
                return Err(RelayError::NoTls);
            }
            (TlsMode::Required | TlsMode::Opportunistic, false) => return Ok(self),
            (TlsMode::Required | TlsMode::Opportunistic, true) => {}
        }
        self.command("STARTTLS\r\n", "STARTTLS", hop.timeouts.command).await?;
        let reply = self.reply("STARTTLS", hop.timeouts.command).await?;
        if reply.class() != Class::Positive {
            return Err(RelayError::NoTlsNow(reply));
        }
        if !self.wire.pending().is_empty() {
            return Err(RelayError::InjectedBeforeTls);
        }
        let tcp = self.wire.stream.into_clear().ok_or(RelayError::NoTls)?;
        let (stream, authentication) = start_tls(tcp, hop, peer).await?;
        self.wire = Wire::new(stream);
        self.authentication = authentication;
        self.capabilities = Capabilities::default();
        self.greet(hop).await?;
        Ok(self)
    }

    /// Authenticates, over verified TLS, or on this machine where TLS is switched off.
    async fn authenticated(mut self, hop: &NextHop) -> Result<Connection, RelayError> {
        let Some(credentials) = &hop.credentials else { return Ok(self) };
        let is_here = match &self.wire.stream {
            Stream::Clear(tcp) => tcp.peer_addr().is_ok_and(|peer| peer.ip().to_canonical().is_loopback()),
            Stream::Tls(_) | Stream::Local(_) => true,
        };
        let may_be_in_clear = hop.tls == TlsMode::None && is_here;
        if !self.wire.stream.is_tls() && !may_be_in_clear {
            return Err(RelayError::NoTlsForLogin);
        }
        match credentials.password() {
            Some(password) => self.log_in(&credentials.login, password, hop.timeouts.command).await?,
            None => self.show_token(credentials, hop.timeouts.command).await?,
        }
        Ok(self)
    }

    async fn log_in(&mut self, login: &str, password: &str, limit: Duration) -> Result<(), RelayError> {
        if self.capabilities.auth_plain {
            self.command(&plain(login, password), "AUTH", limit).await?;
        } else if self.capabilities.auth_login {
            self.command("AUTH LOGIN\r\n", "AUTH", limit).await?;
            for word in [login, password] {
                self.expect(Class::Intermediate, "AUTH", limit).await?;
                self.command(&format!("{}\r\n", encode_base64(word.as_bytes())), "AUTH", limit).await?;
            }
        } else {
            return Err(RelayError::NoAuth);
        }
        self.expect(Class::Positive, "AUTH", limit).await.map(drop)
    }

    /// Shows the access token (XOAUTH2). A server that does not accept it first says why, with 334.
    async fn show_token(&mut self, credentials: &Credentials, limit: Duration) -> Result<(), RelayError> {
        if !self.capabilities.auth_xoauth2 {
            return Err(RelayError::NoAuth);
        }
        let unreadable =
            |error| RelayError::Io { at: "reading the access token", source: io::Error::other(error) };
        let token = credentials.token().map_err(unreadable)?.unwrap_or_default();
        let shown = format!("user={}\x01auth=Bearer {token}\x01\x01", credentials.login);
        let command = format!("AUTH XOAUTH2 {}\r\n", encode_base64(shown.as_bytes()));
        self.command(&command, "AUTH", limit).await?;
        let mut reply = self.reply("AUTH", limit).await?;
        if reply.class() == Class::Intermediate {
            self.command("\r\n", "AUTH", limit).await?;
            reply = self.reply("AUTH", limit).await?;
        }
        if reply.class() == Class::Positive {
            Ok(())
        } else {
            Err(RelayError::Unwilling { at: "AUTH", reply })
        }
    }

    /// Says QUIT, and waits a moment for the reply, so that the next hop does not find its client gone. Where
    /// that could be taken for a line of a message, nothing is said.
    pub async fn quit(mut self) {
        if !self.owes_data && self.command("QUIT\r\n", "QUIT", PARTING).await.is_ok() {
            let _ = self.reply("QUIT", PARTING).await;
        }
    }

    /// Returns whether it may be used again.
    pub fn is_fresh(&self, hop: &NextHop) -> bool {
        self.used.elapsed() < hop.idle
            && self.since.elapsed() < hop.max_age
            && self.messages < hop.max_messages
            && self.rejected < MOST_REJECTED
            && !self.owes_data
            && self.wire.pending().is_empty()
    }

    /// Returns the TLS version and cipher suite.
    pub fn tls_description(&self) -> Option<String> {
        self.wire.stream.tls_description()
    }

    /// Sends commands.
    ///
    /// # Errors
    ///
    /// When writing fails or times out.
    pub async fn command(
        &mut self,
        commands: &str,
        at: &'static str,
        limit: Duration,
    ) -> Result<(), RelayError> {
        within(limit, at, self.wire.send(commands.as_bytes())).await
    }

    /// Sends the slices of a message, with dots already doubled. Fails when writing makes no progress for
    /// `limit`.
    ///
    /// # Errors
    ///
    /// When writing fails or times out.
    pub async fn message(&mut self, slices: &[&[u8]], limit: Duration) -> Result<(), RelayError> {
        within(limit, "message", self.wire.send_slices(slices)).await
    }

    /// Waits for one reply.
    ///
    /// # Errors
    ///
    /// When none comes, or something that is not a reply.
    pub async fn reply(&mut self, at: &'static str, limit: Duration) -> Result<Reply, RelayError> {
        loop {
            match Reply::read(self.wire.pending()) {
                Ok(Some((reply, length))) => {
                    self.wire.consume(length);
                    return Ok(reply);
                }
                Ok(None) => {}
                Err(source) => return Err(RelayError::Protocol { at, source }),
            }
            if within(limit, at, self.wire.fill()).await? == 0 {
                return Err(RelayError::Closed { at });
            }
        }
    }

    /// Waits for the reply to DATA.
    ///
    /// # Errors
    ///
    /// When none comes, or something that is not a reply.
    pub async fn data_reply(&mut self, limit: Duration) -> Result<Reply, RelayError> {
        let reply = self.reply("DATA", limit).await?;
        self.owes_data = false;
        Ok(reply)
    }

    async fn expect(&mut self, class: Class, at: &'static str, limit: Duration) -> Result<Reply, RelayError> {
        let reply = self.reply(at, limit).await?;
        if reply.class() == class { Ok(reply) } else { Err(RelayError::Unwilling { at, reply }) }
    }
}

fn plain(login: &str, password: &str) -> String {
    let secret = format!("\0{login}\0{password}");
    format!("AUTH PLAIN {}\r\n", encode_base64(secret.as_bytes()))
}

async fn start_tls(
    tcp: TcpStream,
    hop: &NextHop,
    peer: &Peer,
) -> Result<(Stream, Authentication), RelayError> {
    let no_name = || {
        let said =
            format!("{:?} is not a name that a certificate can have; set host or tls_name to one", hop.host);
        RelayError::Tls(io::Error::other(said).into())
    };
    let (name, config, authentication) = peer.verification(hop).ok_or_else(no_name)?;
    match timeout(hop.timeouts.command, TlsConnector::from(config).connect(name, tcp)).await {
        Ok(Ok(tls)) => Ok((Stream::Tls(Box::new(tls.into())), authentication)),
        Ok(Err(error)) => Err(RelayError::Tls(TlsFault::under(error, authentication))),
        Err(_) => Err(RelayError::Timeout { at: "TLS handshake", after: hop.timeouts.command }),
    }
}

async fn within<T>(
    limit: Duration,
    at: &'static str,
    work: impl Future<Output = io::Result<T>>,
) -> Result<T, RelayError> {
    match timeout(limit, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(RelayError::of_stream(at, source)),
        Err(_) => Err(RelayError::Timeout { at, after: limit }),
    }
}
