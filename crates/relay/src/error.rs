//! What can go wrong between us and a next hop.

use std::io;
use std::time::Duration;

use super::tls_fault::TlsFault;
use crate::smtp::Reply;
use crate::smtp::reply::BadReply;

/// Why a next hop did not do what it was asked. Every case is trouble of ours or of the next hop, never of the mail: the client
/// hears 451 and keeps the mail.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// Connecting, reading or writing failed.
    #[error("{at}: {source}")]
    Io {
        /// What was being done.
        at: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// It hung up.
    #[error("{at}: the next hop closed the connection")]
    Closed {
        /// What was being done.
        at: &'static str,
    },
    /// It took too long.
    #[error("{at}: no answer within {} s{}", after.as_secs(), advice(at))]
    Timeout {
        /// What was being done.
        at: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// It answered something that is no reply.
    #[error("{at}: {source}")]
    Protocol {
        /// What was being done.
        at: &'static str,
        /// What is wrong with it.
        source: BadReply,
    },
    /// It refused something that concerns us and not the mail.
    #[error("{at}: the next hop answered {reply}")]
    Unwilling {
        /// What was being done.
        at: &'static str,
        /// What it said.
        reply: Reply,
    },
    /// TLS is demanded and not to be had.
    #[error(
        "TLS is required, and the next hop does not offer STARTTLS; a port with TLS from the first byte on needs tls = \"implicit\""
    )]
    NoTls,
    /// It offers TLS, and does not start it.
    #[error("the next hop offers STARTTLS and answered {0}; its log says what keeps it from starting TLS")]
    NoTlsNow(Reply),
    /// There is no TLS to send the credentials over.
    #[error("credentials are only sent over TLS, and the next hop does not offer STARTTLS")]
    NoTlsForLogin,
    /// The TLS handshake failed, or the certificate is not the one expected.
    #[error("TLS with the next hop failed: {0}")]
    Tls(TlsFault),
    /// It wrote more behind its answer to STARTTLS, in clear.
    #[error(
        "the next hop, or somebody between, sent data in clear behind the answer to STARTTLS; it would count as said over TLS"
    )]
    InjectedBeforeTls,
    /// It has as many connections as it may.
    #[error("all {connections} connections (max_connections) are in use")]
    Busy {
        /// How many it may have.
        connections: usize,
    },
    /// It was sent as many messages as it may.
    #[error("{per_minute} messages a minute (messages_per_minute) were sent")]
    TooFast {
        /// How many it may be sent.
        per_minute: u32,
    },
    /// It offers no way of AUTH that we know.
    #[error("credentials are configured, and the next hop offers neither AUTH PLAIN nor AUTH LOGIN")]
    NoAuth,
}

impl RelayError {
    /// What was wrong with a stream: over TLS that may be what the other side thinks of us.
    pub fn of_stream(at: &'static str, source: io::Error) -> RelayError {
        if TlsFault::is_one(&source) { RelayError::Tls(source.into()) } else { RelayError::Io { at, source } }
    }

    /// What the client hears. No internals: the log has them.
    pub fn reply(&self) -> Reply {
        match self {
            RelayError::Io { .. } | RelayError::Closed { .. } | RelayError::Protocol { .. } => {
                Reply::new(451, "4.4.2 The next hop could not be reached, try again later")
            }
            RelayError::Timeout { .. } => {
                Reply::new(451, "4.4.1 The next hop did not answer in time, try again later")
            }
            RelayError::Busy { .. } | RelayError::TooFast { .. } => {
                Reply::new(451, "4.4.5 The next hop is sent as much as it may be, try again later")
            }
            RelayError::NoTls
            | RelayError::NoTlsNow(_)
            | RelayError::NoTlsForLogin
            | RelayError::Tls(_)
            | RelayError::InjectedBeforeTls => {
                Reply::new(451, "4.7.5 No safe connection to the next hop, try again later")
            }
            RelayError::Unwilling { .. } | RelayError::NoAuth => {
                Reply::new(451, "4.3.5 The next hop does not accept this relay, try again later")
            }
        }
    }

    /// Whether the connection was lost, rather than an answer given. Over TLS it may be lost with an alert.
    pub fn is_lost_connection(&self) -> bool {
        matches!(self, RelayError::Io { .. } | RelayError::Closed { .. } | RelayError::Tls(_))
    }
}

/// What often is behind an answer that does not come.
fn advice(at: &str) -> &'static str {
    match at {
        "greeting" => "; a port with TLS from the first byte on needs tls = \"implicit\"",
        "TLS handshake" => "; a port that starts in clear needs tls = \"required\"",
        _ => "",
    }
}

/// Whether a reply to MAIL, RCPT, DATA or the message concerns us and not the mail: 421, 500 to 504, 530, 535, 538.
pub fn concerns_us(reply: &Reply) -> bool {
    matches!(reply.code(), 421 | 500..=504 | 530 | 535 | 538)
}
