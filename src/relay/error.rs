//! What can go wrong between us and a next hop.

use std::io;
use std::time::Duration;

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
    #[error("{at}: no answer within {} s", after.as_secs())]
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
    #[error("TLS is required, and the next hop does not offer STARTTLS")]
    NoTls,
    /// The TLS handshake failed, or the certificate is not the one expected.
    #[error("TLS with the next hop failed: {0}")]
    Tls(io::Error),
    /// It wrote more behind its answer to STARTTLS, in clear.
    #[error("the next hop sent data in clear behind its answer to STARTTLS")]
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
            RelayError::NoTls | RelayError::Tls(_) | RelayError::InjectedBeforeTls => {
                Reply::new(451, "4.7.5 No safe connection to the next hop, try again later")
            }
            RelayError::Unwilling { .. } | RelayError::NoAuth => {
                Reply::new(451, "4.3.5 The next hop does not accept this relay, try again later")
            }
        }
    }

    /// Whether the connection was lost, rather than an answer given.
    pub fn is_lost_connection(&self) -> bool {
        matches!(self, RelayError::Io { .. } | RelayError::Closed { .. })
    }
}

/// Whether a reply to MAIL, RCPT, DATA or the message concerns us and not the mail: 421, 500 to 504, 530, 535, 538.
pub fn concerns_us(reply: &Reply) -> bool {
    matches!(reply.code(), 421 | 500..=504 | 530 | 535 | 538)
}
