//! Errors between the relay and a next hop.

use std::io;
use std::time::Duration;

use super::tls_fault::TlsFault;
use crate::smtp::Reply;
use crate::smtp::reply::{BadReply, Class};

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
    /// The next hop ended the conversation before it answered about this recipient. Another error says why.
    #[error("the next hop ended the conversation before it answered about this recipient")]
    Unanswered,
    /// The next hop did not reply in time.
    #[error("{at}: no reply within {} s{}", after.as_secs(), advice(at))]
    Timeout {
        /// The step.
        at: &'static str,
        /// The time limit.
        after: Duration,
    },
    /// The next hop did not reply to the final dot before its client's time was over.
    #[error(
        "final dot: the next hop has not answered within the {} s that were left of the client's time; its \
         answer is still waited for",
        after.as_secs()
    )]
    Late {
        /// How long it was waited for.
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
    /// The domain's policy, which is enforced, does not name it.
    #[error(
        "the MTA-STS policy of the domain does not name {exchanger}; DNS was forged, or the domain's \
         operator must correct the policy"
    )]
    OutsidePolicy {
        /// The exchanger.
        exchanger: String,
    },
    /// Its addresses or TLSA records cannot be known.
    #[error("looking up {exchanger}: {reason}")]
    Unknown {
        /// The exchanger.
        exchanger: String,
        /// Why.
        reason: String,
    },
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
    #[error("credentials are configured, but the next hop offers no AUTH that they can be used with")]
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
            RelayError::Io { .. }
            | RelayError::Closed { .. }
            | RelayError::Unanswered
            | RelayError::Unknown { .. }
            | RelayError::Protocol { .. } => {
                Reply::new(451, "4.4.2 The next hop could not be reached, try again later")
            }
            RelayError::Timeout { .. } | RelayError::Late { .. } => {
                Reply::new(451, "4.4.1 The next hop did not answer in time, try again later")
            }
            RelayError::Busy { .. } => {
                Reply::new(451, "4.4.5 All connections to the next hop are in use, try again later")
            }
            RelayError::TooFast { .. } => {
                Reply::new(451, "4.4.5 The rate limit to the next hop was reached, try again later")
            }
            RelayError::NoTls
            | RelayError::NoTlsNow(_)
            | RelayError::NoTlsForLogin
            | RelayError::Tls(_)
            | RelayError::OutsidePolicy { .. }
            | RelayError::InjectedBeforeTls => {
                Reply::new(451, "4.7.5 No secure connection to the next hop, try again later")
            }
            RelayError::Unwilling { .. } | RelayError::NoAuth => {
                Reply::new(451, "4.3.5 The next hop does not accept this relay, try again later")
            }
        }
    }

    /// Returns whether a new connection was turned away, which a next hop does that has enough of them.
    pub(super) fn is_turned_away(&self) -> bool {
        match self {
            RelayError::Unwilling { at: "greeting" | "EHLO" | "LHLO", reply } => {
                reply.class() != Class::Permanent
            }
            RelayError::Closed { at: "greeting" | "EHLO" | "LHLO" } => true,
            RelayError::Io { at: "connect", source } => source.kind() == io::ErrorKind::ConnectionRefused,
            RelayError::Io { at: "greeting" | "EHLO" | "LHLO", source } => {
                source.kind() == io::ErrorKind::ConnectionReset
            }
            _ => false,
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

/// Counts a failure of a next hop, once, where it shows.
pub(super) fn note_error() {
    metrics::counter!("pixelward_next_hop_errors_total").increment(1);
}

/// What a reply answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA.
    Data,
    /// The final dot.
    Dot,
}

/// Returns whether a reply concerns the relay and not the mail: 421, 502, 503, 530, 535, 538 always, and 500,
/// 501 and 504 unless they speak of an address or of the message.
pub fn concerns_us(reply: &Reply, step: Step) -> bool {
    match reply.code() {
        421 | 502 | 503 | 530 | 535 | 538 => true,
        500 | 501 | 504 => !speaks_of_the_mail(reply, step),
        _ => false,
    }
}

/// Returns whether a reply with a code for bad syntax is about the mail. Enhanced codes 5.1.x (addresses) and
/// 5.6.x (contents) say so (RFC 3463). Servers also write `504 5.5.2 <a>: Recipient address rejected: need
/// fully-qualified address`, `501 a: recipient address must contain a domain`, and, after the final dot,
/// where no command can have been misunderstood, `500 Line too long`.
fn speaks_of_the_mail(reply: &Reply, step: Step) -> bool {
    let enhanced = reply.enhanced();
    if enhanced.starts_with("5.1.") || enhanced.starts_with("5.6.") {
        return true;
    }
    match step {
        Step::Mail | Step::Rcpt => {
            reply.code() != 500 && reply.text().to_ascii_lowercase().contains("address")
        }
        Step::Data => false,
        Step::Dot => enhanced == "5.0.0",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_for_bad_syntax_are_told_apart_by_what_they_speak_of() {
        use Step::{Data, Dot, Mail, Rcpt};
        let check = |step, code, text: &str| concerns_us(&Reply::new(code, text), step);
        for (step, code, text) in [
            (Rcpt, 501, "5.1.3 Bad recipient address syntax"),
            (Mail, 501, "5.1.7 Bad sender address syntax"),
            (Rcpt, 504, "5.5.2 <a>: Recipient address rejected: need fully-qualified address"),
            (Rcpt, 501, "a: recipient address must contain a domain"),
            (Dot, 500, "Line too long"),
            (Dot, 500, "5.6.0 Line too long"),
            (Dot, 501, "5.6.3 No 8-bit text"),
            (Data, 501, "5.6.1 Not like this"),
            (Rcpt, 550, "5.7.1 Authentication required for this address"),
        ] {
            assert!(!check(step, code, text), "{step:?} {code} {text}");
        }
        for (step, code, text) in [
            (Mail, 500, "5.5.2 What"),
            (Rcpt, 500, "Unknown command"),
            (Dot, 500, "5.5.2 What"),
            (Dot, 503, "5.6.0 Order"),
            (Mail, 501, "5.5.4 Syntax: unknown parameter"),
            (Mail, 504, "5.5.2 <a>: Helo command rejected: need fully-qualified hostname"),
            (Rcpt, 530, "5.1.0 Authenticate, address"),
            (Data, 500, "Line too long"),
            (Dot, 421, "5.6.0 Going"),
        ] {
            assert!(check(step, code, text), "{step:?} {code} {text}");
        }
    }
}
