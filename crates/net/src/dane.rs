//! Knows a server by TLSA records (DANE: RFC 6698, as RFC 7671 and RFC 7672 say for SMTP).
//!
//! The records must come from DNS that DNSSEC secures: whoever calls this has seen to it.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};
use x509_parser::parse_x509_certificate;
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::trust::signatures_as_ever;

/// Which certificate of a chain a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// An authority above that of the server: DANE-TA(2).
    Authority,
    /// That of the server: DANE-EE(3). Its names and dates do not count (RFC 7672, section 3.1.1).
    Server,
}

/// What of a certificate is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it: Cert(0).
    Whole,
    /// Its public key: SPKI(1).
    Key,
}

/// How it is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Match {
    /// Byte for byte: Full(0).
    Full,
    /// By SHA-256(1).
    Sha256,
    /// By SHA-512(2).
    Sha512,
}

/// A TLSA record that SMTP can use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    usage: Usage,
    part: Part,
    by: Match,
    data: Vec<u8>,
}

impl Record {
    /// Reads the fields of a record; `None` if it is unusable: PKIX-TA(0) and PKIX-EE(1), which RFC 7672
    /// (section 3.1.3) leaves out, numbers without a meaning, and data that cannot be what it should be.
    pub fn read(usage: u8, selector: u8, matching: u8, data: &[u8]) -> Option<Record> {
        let usage = match usage {
            2 => Usage::Authority,
            3 => Usage::Server,
            _ => return None,
        };
        let part = match selector {
            0 => Part::Whole,
            1 => Part::Key,
            _ => return None,
        };
        let (by, is_possible) = match matching {
            0 if part == Part::Whole => (Match::Full, parse_x509_certificate(data).is_ok()),
            0 => (Match::Full, SubjectPublicKeyInfo::from_der(data).is_ok()),
            1 => (Match::Sha256, data.len() == 32),
            2 => (Match::Sha512, data.len() == 64),
            _ => return None,
        };
        is_possible.then(|| Record { usage, part, by, data: data.to_vec() })
    }

    fn fits(&self, certificate: &[u8]) -> bool {
        let Ok((_, parsed)) = parse_x509_certificate(certificate) else { return false };
        let part = match self.part {
            Part::Whole => certificate,
            Part::Key => parsed.public_key().raw,
        };
        match self.by {
            Match::Full => part == self.data,
            Match::Sha256 => digest(&SHA256, part).as_ref() == self.data,
            Match::Sha512 => digest(&SHA512, part).as_ref() == self.data,
        }
    }
}

/// Leaves out records with SHA-256 beside ones of the same kind with SHA-512 (RFC 7671, section 9).
fn strongest(records: Vec<Record>) -> Vec<Record> {
    let is_weaker = |one: &Record| {
        let same = |other: &&Record| (other.usage, other.part) == (one.usage, one.part);
        one.by == Match::Sha256 && records.iter().filter(same).any(|other| other.by == Match::Sha512)
    };
    records.iter().filter(|record| !is_weaker(record)).cloned().collect()
}

/// TLS like `base`, but the server is known by one of these records. An authority that a record names must
/// vouch for one of `names`.
pub fn dane_tls_config(base: &ClientConfig, records: Vec<Record>, names: &[String]) -> Arc<ClientConfig> {
    let names = names.iter().filter_map(|name| ServerName::try_from(name.clone()).ok()).collect();
    with_verifier(base, Some(Expected { records: strongest(records), names }))
}

/// TLS like `base` with any certificate: against those who only listen, where the server says that it can do
/// TLS and nothing that it could be known by.
pub fn unauthenticated_tls_config(base: &ClientConfig) -> Arc<ClientConfig> {
    with_verifier(base, None)
}

/// Sessions are not resumed: the records that vouched for one may have changed.
fn with_verifier(base: &ClientConfig, expected: Option<Expected>) -> Arc<ClientConfig> {
    let provider = Arc::clone(base.crypto_provider());
    let algorithms = provider.signature_verification_algorithms;
    let mut config = base.clone();
    config.dangerous().set_certificate_verifier(Arc::new(Known { expected, provider, algorithms }));
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

#[derive(Debug)]
struct Expected {
    records: Vec<Record>,
    names: Vec<ServerName<'static>>,
}

/// Knows a server by records, or by nothing. That it has the private key is verified as ever.
#[derive(Debug)]
struct Known {
    expected: Option<Expected>,
    provider: Arc<CryptoProvider>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// Why no TLSA record vouches for a server.
#[derive(Debug)]
pub enum Mismatch {
    /// None fits a certificate that it showed.
    NoRecord,
    /// One names an authority, but that does not vouch for its certificate.
    Authority(Error),
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mismatch::NoRecord => f.write_str("none of its TLSA records fits its certificate"),
            Mismatch::Authority(error) => write!(
                f,
                "the authority in its TLSA record does not vouch for its certificate: {}",
                error.to_string().chars().filter(|character| !character.is_control()).collect::<String>()
            ),
        }
    }
}

impl std::error::Error for Mismatch {}

impl Expected {
    fn check(
        &self,
        provider: &Arc<CryptoProvider>,
        server: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Mismatch> {
        let of = |usage: Usage| self.records.iter().filter(move |record| record.usage == usage);
        if of(Usage::Server).any(|record| record.fits(server)) {
            return Ok(());
        }
        let shown = above.iter().filter(|one| of(Usage::Authority).any(|record| record.fits(one)));
        // A record may hold the authority's certificate, which the server then need not send.
        let held =
            of(Usage::Authority).filter(|record| (record.part, record.by) == (Part::Whole, Match::Full));
        let held = held.map(|record| CertificateDer::from(record.data.as_slice()));
        let mut last = Mismatch::NoRecord;
        for authority in shown.cloned().chain(held) {
            match self.vouched_for(provider, authority, server, above, now) {
                Ok(()) => return Ok(()),
                Err(error) => last = Mismatch::Authority(error),
            }
        }
        Err(last)
    }

    /// Checks the chain up to this authority, and the name.
    fn vouched_for(
        &self,
        provider: &Arc<CryptoProvider>,
        authority: CertificateDer<'_>,
        server: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let mut roots = RootCertStore::empty();
        roots.add(authority.into_owned())?;
        let built =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
        let verifier = built.map_err(|error| Error::General(error.to_string()))?;
        let mut last = Error::InvalidCertificate(CertificateError::NotValidForName);
        for name in &self.names {
            match verifier.verify_server_cert(server, above, name, &[], now) {
                Ok(_) => return Ok(()),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl ServerCertVerifier for Known {
    fn verify_server_cert(
        &self,
        server: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(expected) = &self.expected {
            expected.check(&self.provider, server, above, now).map_err(|mismatch| {
                Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(mismatch))))
            })?;
        }
        Ok(ServerCertVerified::assertion())
    }

    signatures_as_ever!();
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use std::time::Duration;

    fn authority() -> CertifiedIssuer<'static, KeyPair> {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap()
    }

    /// A certificate for a name, up to a year.
    fn issued(by: &CertifiedIssuer<'static, KeyPair>, name: &str, until: i32) -> CertificateDer<'static> {
        let mut parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(until, 1, 1);
        parameters.signed_by(&KeyPair::generate().unwrap(), by).unwrap().der().clone()
    }

    fn key_of(certificate: &[u8]) -> Vec<u8> {
        parse_x509_certificate(certificate).unwrap().1.public_key().raw.to_vec()
    }

    /// The record of this kind for a certificate.
    fn record(usage: u8, selector: u8, matching: u8, certificate: &[u8]) -> Record {
        let part = if selector == 0 { certificate.to_vec() } else { key_of(certificate) };
        let data = match matching {
            0 => part,
            1 => digest(&SHA256, &part).as_ref().to_vec(),
            _ => digest(&SHA512, &part).as_ref().to_vec(),
        };
        Record::read(usage, selector, matching, &data).unwrap()
    }

    fn check(records: Vec<Record>, server: &CertificateDer<'_>, above: &[CertificateDer<'_>]) -> bool {
        let names = ["mx.home.example", "home.example"].map(|name| ServerName::try_from(name).unwrap());
        let expected = Expected { records: strongest(records), names: names.to_vec() };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        // The first of January 2026.
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_767_225_600));
        expected.check(&provider, server, above, now).is_ok()
    }

    #[test]
    fn the_servers_certificate_needs_neither_name_nor_date() {
        let (ca, other) = (authority(), authority());
        let server = issued(&ca, "else.example", 2020);
        for selector in [0, 1] {
            for matching in [0, 1, 2] {
                assert!(check(vec![record(3, selector, matching, &server)], &server, &[]));
                let wrong = record(3, selector, matching, &issued(&other, "mx.home.example", 2040));
                assert!(!check(vec![wrong], &server, &[]), "3 {selector} {matching}");
            }
        }
    }

    #[test]
    fn an_authority_vouches_for_names_and_dates() {
        let (ca, other) = (authority(), authority());
        let above = [ca.der().clone()];
        for selector in [0, 1] {
            for matching in [0, 1, 2] {
                let records = || vec![record(2, selector, matching, ca.der())];
                for (name, until, fits) in [
                    ("mx.home.example", 2040, true),
                    ("home.example", 2040, true),
                    ("else.example", 2040, false),
                    ("mx.home.example", 2020, false),
                ] {
                    let server = issued(&ca, name, until);
                    assert_eq!(check(records(), &server, &above), fits, "2 {selector} {matching} {name}");
                }
                // It is named, and shown, but it did not sign.
                let server = issued(&other, "mx.home.example", 2040);
                assert!(!check(records(), &server, &above));
                let wrong = vec![record(2, selector, matching, other.der())];
                assert!(!check(wrong, &issued(&ca, "mx.home.example", 2040), &above));
            }
        }
        // The server's certificate is no authority, and an authority is not the server's.
        let server = issued(&ca, "mx.home.example", 2040);
        assert!(!check(vec![record(2, 1, 1, &server)], &server, &above));
        assert!(!check(vec![record(3, 1, 1, ca.der())], &server, &above));
    }

    #[test]
    fn an_authority_whose_certificate_is_in_the_record_need_not_be_sent() {
        let ca = authority();
        let server = issued(&ca, "mx.home.example", 2040);
        assert!(check(vec![record(2, 0, 0, ca.der())], &server, &[]));
        assert!(!check(vec![record(2, 0, 1, ca.der())], &server, &[]));
    }

    #[test]
    fn a_weaker_digest_does_not_count_beside_a_stronger_one_of_its_kind() {
        let ca = authority();
        let (server, next) = (issued(&ca, "mx.home.example", 2040), issued(&ca, "mx.home.example", 2040));
        assert!(!check(vec![record(3, 1, 1, &server), record(3, 1, 2, &next)], &server, &[]));
        assert!(check(vec![record(3, 1, 1, &server), record(3, 0, 2, &next)], &server, &[]));
        assert!(check(vec![record(3, 1, 1, &server), record(3, 1, 1, &next)], &server, &[]));
    }

    #[test]
    fn what_smtp_cannot_use_is_no_record() {
        for (usage, selector, matching, length) in [
            (0, 1, 1, 32),
            (1, 1, 1, 32),
            (4, 1, 1, 32),
            (255, 1, 1, 32),
            (3, 2, 1, 32),
            (3, 1, 3, 32),
            (3, 1, 1, 31),
            (3, 1, 1, 64),
            (3, 1, 2, 32),
            (3, 1, 0, 32),
            (2, 0, 0, 32),
            (3, 1, 1, 0),
        ] {
            let read = Record::read(usage, selector, matching, &vec![7; length]);
            assert_eq!(read, None, "{usage} {selector} {matching}, {length} bytes");
        }
    }
}
