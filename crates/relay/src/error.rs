//! Errors between the relay and a next hop.

use std::io;
use std::time::Duration;

use super::tls_fault::TlsFault;
use crate::smtp::Reply;
use crate::smtp::reply::BadReply;

/// Why a next hop could not be used. Every case is a problem of the relay or the next hop, never of the mail:
/// the client hears 451 and keeps the mail.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// Connecting, reading or writing failed.
    #[error("{at}: {source}")]
    Io {
        /// The step.
        at: &'static str,
        /// The system error.
        source: io::Error,
    },
    /// The next hop closed the connection.
    #[error("{at}: the next hop closed the connection")]
    Closed {
        /// The step.
        at: &'static str,
    },
    /// The next hop did not reply in time.
    #[error("{at}: no reply within {} s{}", after.as_secs(), advice(at))]
    Timeout {
        /// The step.
        at: &'static str,
        /// The time limit.
        after: Duration,
    },
    /// The next hop sent something that is not a reply.
    #[error("{at}: {source}")]
    Protocol {
        /// The step.
        at: &'static str,
        /// The problem.
        source: BadReply,
    },
    /// The next hop refused something that concerns the relay and not the mail.
    #[error("{at}: the next hop answered {reply}")]
    Unwilling {
        /// The step.
        at: &'static str,
        /// The reply.
        reply: Reply,
    },
    /// TLS is required and not offered.
    #[error(
        "TLS is required, but the next hop does not offer STARTTLS; a port with TLS from the first byte \
         needs tls = \"implicit\""
    )]
    NoTls,
    /// It offers TLS, but does not start it.
    #[error("the next hop offers STARTTLS but answered {0}; its log says what prevents TLS")]
    NoTlsNow(Reply),
    /// There is no TLS over which to send the credentials.
    #[error("credentials are sent only over TLS, but the next hop does not offer STARTTLS")]
    NoTlsForLogin,
    /// The TLS handshake failed, or the certificate is not the expected one.
    #[error("TLS with the next hop failed: {0}")]
    Tls(TlsFault),
    /// It sent more after its reply to STARTTLS, in clear.
    #[error(
        "the next hop, or somebody in between, sent data in clear after the reply to STARTTLS; it would \
         count as sent over TLS"
    )]
    InjectedBeforeTls,
    /// All allowed connections are in use.
    #[error("all {connections} connections (max_connections) are in use")]
    Busy {
        /// The maximum number of connections.
        connections: usize,
    },
    /// The maximum number of messages was reached.
    #[error("{per_minute} messages a minute (messages_per_minute) were sent")]
    TooFast {
        /// The maximum number of messages per minute.
        per_minute: u32,
    },
    /// It offers no AUTH mechanism that the relay supports.
    #[error("credentials are configured, but the next hop offers neither AUTH PLAIN nor AUTH LOGIN")]
    NoAuth,
}

impl RelayError {
    /// Classifies an error of a stream: over TLS it may be the other side's verdict on the relay.
    pub fn of_stream(at: &'static str, source: io::Error) -> RelayError {
        if TlsFault::is_one(&source) { RelayError::Tls(source.into()) } else { RelayError::Io { at, source } }
    }

    /// Returns the reply for the client. No internals: the log has them.
    pub fn reply(&self) -> Reply {
        match self {
            RelayError::Io { .. } | RelayError::Closed { .. } | RelayError::Protocol { .. } => {
                Reply::new(451, "4.4.2 The next hop could not be reached, try again later")
            }
            RelayError::Timeout { .. } => {
                Reply::new(451, "4.4.1 The next hop did not answer in time, try again later")
            }
            RelayError::Busy { .. } | RelayError::TooFast { .. } => {
                Reply::new(451, "4.4.5 The rate limit to the next hop was reached, try again later")
            }
            RelayError::NoTls
            | RelayError::NoTlsNow(_)
            | RelayError::NoTlsForLogin
            | RelayError::Tls(_)
            | RelayError::InjectedBeforeTls => {
                Reply::new(451, "4.7.5 No secure connection to the next hop, try again later")
            }
            RelayError::Unwilling { .. } | RelayError::NoAuth => {
                Reply::new(451, "4.3.5 The next hop does not accept this relay, try again later")
            }
        }
    }

    /// Returns whether the connection was lost, rather than a reply received. Over TLS it may be lost with an
    /// alert.
    pub fn is_lost_connection(&self) -> bool {
        matches!(self, RelayError::Io { .. } | RelayError::Closed { .. } | RelayError::Tls(_))
    }
}

/// Suggests a usual cause of a missing reply.
fn advice(at: &str) -> &'static str {
    match at {
        "greeting" => "; a port with TLS from the first byte needs tls = \"implicit\"",
        "TLS handshake" => "; a port that starts in clear needs tls = \"required\"",
        _ => "",
    }
}

/// Returns whether a reply to MAIL, RCPT, DATA or the message concerns the relay and not the mail: 421, 500
/// to 504, 530, 535, 538.
pub fn concerns_us(reply: &Reply) -> bool {
    matches!(reply.code(), 421 | 500..=504 | 530 | 535 | 538)
}
