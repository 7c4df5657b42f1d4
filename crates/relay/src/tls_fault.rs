//! Explains TLS errors towards a next hop, and what to do about them, in the log of the mail operator.
//!
//! What a certificate says about itself comes from the other side, so it is shortened and cleaned before it
//! is logged.

use std::fmt;
use std::io;

use pixelward_net::dane::Mismatch;
use pixelward_net::trust::Unlisted;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};
use time::OffsetDateTime;

use super::authentication::Authentication;

/// How many names of a certificate are logged, and how much of each.
const NAMES: usize = 3;
const NAME_LENGTH: usize = 80;

/// Why TLS could not be started, or was ended by the other side.
#[derive(Debug)]
pub struct TlsFault {
    error: io::Error,
    /// What the handshake was to show, if there was one.
    wanted: Option<Authentication>,
}

impl From<io::Error> for TlsFault {
    fn from(error: io::Error) -> TlsFault {
        TlsFault { error, wanted: None }
    }
}

impl TlsFault {
    /// Creates the fault of a handshake that was to show this.
    pub(super) fn under(error: io::Error, wanted: Authentication) -> TlsFault {
        TlsFault { error, wanted: Some(wanted) }
    }

    /// Returns whether an error of a stream is one of TLS, rather than of the connection below it.
    pub fn is_one(error: &io::Error) -> bool {
        cause(error).is_some()
    }
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (cause(&self.error), self.wanted) {
            (
                Some(Error::InvalidCertificate(CertificateError::NotValidForNameContext {
                    presented,
                    expected,
                })),
                Some(Authentication::MtaSts),
            ) => write!(
                f,
                "its certificate is for {}, but the MTA-STS policy of the domain wants one for {}; its \
                 operator must replace one of them",
                names(presented),
                expected.to_str()
            ),
            (Some(Error::InvalidCertificate(fault)), _) => f.write_str(&certificate(fault)),
            (Some(fault), _) => f.write_str(&handshake(fault)),
            (None, _) if self.error.kind() == io::ErrorKind::UnexpectedEof => {
                f.write_str("it closed the connection during the handshake; its log says why")
            }
            (None, _) => write!(f, "{}", self.error),
        }
    }
}

fn cause(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// Explains what is wrong with its certificate, or with one above it.
fn certificate(fault: &CertificateError) -> String {
    match fault {
        CertificateError::ExpiredContext { not_after, .. } => format!(
            "its certificate, or one above it, expired on {}; its operator must renew it",
            day(*not_after)
        ),
        CertificateError::NotValidYetContext { not_before, .. } => format!(
            "its certificate, or one above it, is valid from {}; check the clock of this machine",
            day(*not_before)
        ),
        CertificateError::NotValidForNameContext { expected, presented } => format!(
            "its certificate is for {}, but host is {:?}; set host to a name in the certificate",
            names(presented),
            expected.to_str()
        ),
        CertificateError::UnknownIssuer => {
            "no trusted authority vouches for its certificate; name the authority in ca_file, have the next \
             hop send the intermediate certificates, or name the certificate itself in tls_fingerprints"
                .to_owned()
        }
        CertificateError::InvalidPurposeContext { .. } | CertificateError::InvalidPurpose => {
            "its certificate is not meant for servers (extended key usage); it needs one that is".to_owned()
        }
        CertificateError::BadSignature
        | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => format!(
            "its certificate, or one above it, has an invalid signature or one that is no longer secure \
             (MD5, SHA-1, RSA with less than 2048 bits): {fault}; it needs a new one"
        ),
        CertificateError::Other(other) => match other.0.downcast_ref::<Unlisted>() {
            Some(unlisted) => format!(
                "its certificate has {unlisted}, which tls_fingerprints does not list; if it was renewed, \
                 ask its operator for the new one"
            ),
            None if other.0.is::<Mismatch>() => {
                format!("{}; its operator must publish those of its certificate (DANE)", other.0)
            }
            None => format!(
                "a certificate of its chain is used in a way that it does not permit ({}); it needs a valid \
                 chain. One that it signed itself can be named in tls_fingerprints",
                cleaned(&format!("{:?}", other.0))
            ),
        },
        other => format!("its certificate cannot be used: {}", cleaned(&other.to_string())),
    }
}

/// Explains what is wrong apart from the certificate.
fn handshake(fault: &Error) -> String {
    const OLD: &str = "it supports no secure version of TLS; it must support version 1.2 or 1.3";
    const NOTHING_COMMON: &str = "it shares no cipher suite with this relay; it must offer one with forward \
                                  secrecy and AES-GCM or ChaCha20";
    match fault {
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => {
            "it answers the handshake with something that is not TLS; a port that starts in clear needs tls \
             = \"required\", and no proxy may be in between"
                .to_owned()
        }
        Error::AlertReceived(AlertDescription::CertificateRequired | AlertDescription::NoCertificate) => {
            "it requires a client certificate; set certificate and key of the next hop".to_owned()
        }
        Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied,
        ) => format!(
            "it does not accept the certificate of this relay ({fault}); check certificate and key \
                      of the next hop"
        ),
        Error::AlertReceived(AlertDescription::ProtocolVersion)
        | Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::Tls12NotOfferedOrEnabled,
        ) => OLD.to_owned(),
        Error::AlertReceived(AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity)
        | Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon) => NOTHING_COMMON.to_owned(),
        other => format!("{}; its log may say more", cleaned(&other.to_string())),
    }
}

fn day(at: UnixTime) -> String {
    let at = i64::try_from(at.as_secs()).ok();
    let date = at.and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok());
    date.map_or_else(|| "a day beyond all calendars".to_owned(), |date| date.date().to_string())
}

/// Returns the names in a certificate, as rustls writes them with their type.
fn names(presented: &[String]) -> String {
    let shown: Vec<String> = presented.iter().take(NAMES).map(|name| cleaned(bare(name))).collect();
    match presented.len().saturating_sub(NAMES) {
        _ if presented.is_empty() => "no name at all (its common name does not count)".to_owned(),
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Formats a name: rustls writes `DnsName("mx.example")`. Anything else stays as it is.
fn bare(name: &str) -> &str {
    name.strip_prefix("DnsName(\"").and_then(|rest| rest.strip_suffix("\")")).unwrap_or(name)
}

fn cleaned(text: &str) -> String {
    text.chars()
        .map(|character| if character.is_control() { '?' } else { character })
        .take(NAME_LENGTH)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::ServerName;
    use std::time::Duration;

    fn check(fault: Error, words: &[&str]) {
        let said = TlsFault::from(io::Error::new(io::ErrorKind::InvalidData, fault)).to_string();
        for word in words {
            assert!(said.contains(word), "{word:?} is missing in {said:?}");
        }
        assert!(!said.contains(char::is_control), "{said:?}");
    }

    #[test]
    fn a_fault_says_what_is_wrong_and_what_to_do() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let certificate = Error::InvalidCertificate;
        check(
            certificate(CertificateError::ExpiredContext { time: at(0), not_after: at(1_609_459_200) }),
            &["2021-01-01", "renew"],
        );
        check(
            certificate(CertificateError::NotValidYetContext { time: at(0), not_before: at(4_102_444_800) }),
            &["2100-01-01", "clock"],
        );
        check(certificate(CertificateError::UnknownIssuer), &["ca_file"]);
        check(certificate(CertificateError::BadEncoding), &["cannot be used"]);
        check(Error::AlertReceived(AlertDescription::CertificateRequired), &["set certificate and key"]);
        check(
            Error::AlertReceived(AlertDescription::UnknownCA),
            &["does not accept the certificate of this relay"],
        );
        check(Error::AlertReceived(AlertDescription::ProtocolVersion), &["1.2 or 1.3"]);
        check(Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon), &["cipher suite"]);
        check(Error::General("a\nb".to_owned()), &["its log"]);
    }

    #[test]
    fn names_of_a_certificate_are_cut_and_cleaned() {
        let wrong = |presented: Vec<String>| {
            Error::InvalidCertificate(CertificateError::NotValidForNameContext {
                expected: ServerName::try_from("smtp.next-hop.example").unwrap(),
                presented,
            })
        };
        check(wrong(vec![]), &["no name at all", "\"smtp.next-hop.example\""]);
        check(wrong(vec!["DnsName(\"mx.example\")".to_owned()]), &["is for mx.example, but host"]);
        let many = (0..9).map(|number| format!("{number}\n{}", "x".repeat(10_000))).collect();
        check(wrong(many), &["0?xxx", "and 6 more"]);
    }

    #[test]
    fn an_error_of_the_connection_is_none_of_tls() {
        let error = |kind| io::Error::from(kind);
        assert!(!TlsFault::is_one(&error(io::ErrorKind::ConnectionReset)));
        assert!(TlsFault::is_one(&io::Error::new(io::ErrorKind::InvalidData, Error::DecryptError)));
        assert!(
            TlsFault::from(error(io::ErrorKind::UnexpectedEof)).to_string().contains("closed the connection")
        );
    }
}
