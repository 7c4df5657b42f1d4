//! The certificate of a listener: reloaded when its files change, and monitored for its expiry.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

const DAY: i64 = 86_400;

/// A certificate chain and its key, in files. New connections get the latest.
pub struct Certificate {
    chain: PathBuf,
    key: PathBuf,
    current: ArcSwap<CertifiedKey>,
    seen: Mutex<Seen>,
}

/// Returns the name if it is one of a host.
fn dns_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    }
}

/// Returns whether a name in a certificate, possibly `*.domain`, covers a host.
fn covers(name: &str, host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    name == host
        || name
            .strip_prefix("*.")
            .is_some_and(|domain| host.split_once('.').is_some_and(|(_, rest)| rest == domain))
}

/// What was seen of the files, and logged.
#[derive(Debug)]
struct Seen {
    files: Stamp,
    alarm: Alarm,
}

/// Modification time, length and inode of a file; `None` if it does not exist.
type Mark = Option<(SystemTime, u64, u64)>;
/// The marks of both files.
type Stamp = (Mark, Mark);

/// How close the expiry of a certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Alarm {
    None,
    Days30,
    Days14,
    Days3,
    Over,
}

impl Alarm {
    /// Returns the alarm with this many seconds left.
    fn at(left: i64) -> Alarm {
        match left {
            ..=0 => Alarm::Over,
            _ if left <= 3 * DAY => Alarm::Days3,
            _ if left <= 14 * DAY => Alarm::Days14,
            _ if left <= 30 * DAY => Alarm::Days30,
            _ => Alarm::None,
        }
    }
}

impl Certificate {
    /// Reads a certificate chain and its key.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or the two do not match.
    pub fn load(chain: &Path, key: &Path) -> Result<Certificate, String> {
        let files = (mark(chain), mark(key));
        Ok(Certificate {
            chain: chain.to_owned(),
            key: key.to_owned(),
            current: ArcSwap::from_pointee(read(chain, key)?),
            seen: Mutex::new(Seen { files, alarm: Alarm::None }),
        })
    }

    /// Returns when it expires, in seconds since 1970; `None` if unknown.
    pub fn end(&self) -> Option<i64> {
        self.current.load().cert.first().and_then(|certificate| end(certificate))
    }

    /// Looks at the dates, names and chain. Returns what is noteworthy, and whether clients will not accept
    /// it. `now` is in seconds since 1970.
    pub fn inspect(&self, host_name: &str, now: i64) -> Vec<(bool, String)> {
        let current = self.current.load();
        let chain: Vec<_> = current
            .cert
            .iter()
            .filter_map(|one| parse_x509_certificate(one).ok())
            .map(|(_, one)| one)
            .collect();
        let Some(leaf) = chain.first() else { return vec![(true, "cannot be parsed".to_owned())] };
        let mut found = Vec::new();
        let (begin, end) = (leaf.validity().not_before, leaf.validity().not_after);
        match () {
            () if now < begin.timestamp() => found.push((true, format!("is valid from {begin} on"))),
            () if now > end.timestamp() => found.push((true, format!("expired: {end}"))),
            () if end.timestamp() - now < 14 * DAY => found.push((false, format!("expires soon: {end}"))),
            () => {}
        }
        let names: Vec<String> = match leaf.subject_alternative_name() {
            Ok(Some(names)) => names.value.general_names.iter().filter_map(dns_name).collect(),
            _ => Vec::new(),
        };
        if !names.iter().any(|name| covers(name, host_name)) {
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            found.push((false, format!("does not name {host_name}, but: {names}")));
        }
        let is_linked = chain.windows(2).all(|pair| match pair {
            [one, next] => one.issuer() == next.subject(),
            _ => true,
        });
        if !is_linked {
            found.push((true, "has a chain whose certificates do not follow each other".to_owned()));
        } else if chain.len() == 1 && leaf.issuer() != leaf.subject() {
            found.push((
                false,
                "comes without the certificate that signed it; some clients need that".to_owned(),
            ));
        }
        found
    }

    /// Rereads the files if they have changed, and checks the expiry. Both are logged, once. `now` is in
    /// seconds since 1970.
    pub fn look(&self, listener: &str, now: i64) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let files = (mark(&self.chain), mark(&self.key));
        if files != seen.files {
            seen.files = files;
            match read(&self.chain, &self.key) {
                Ok(certified) => {
                    self.current.store(Arc::new(certified));
                    seen.alarm = Alarm::None;
                    tracing::info!(listener, "the certificate was read again");
                }
                Err(error) => {
                    tracing::error!(listener, %error, "the certificate has changed but cannot be used; the \
                                                       old one stays in force");
                }
            }
        }
        let Some(end) = self.current.load().cert.first().and_then(|certificate| end(certificate)) else {
            return;
        };
        metrics::gauge!("pixelward_certificate_expiry_timestamp_seconds", "listener" => listener.to_owned())
            .set(end as f64);
        let alarm = Alarm::at(end - now);
        if alarm > seen.alarm {
            let (file, days) = (self.chain.display(), (end - now) / DAY);
            if alarm == Alarm::Over {
                tracing::error!(listener, %file, "the certificate has expired: clients that check it do not \
                                                  send; replace it");
            } else {
                tracing::warn!(listener, %file, days, "the certificate expires soon; replace it");
            }
        }
        seen.alarm = alarm;
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({})", self.chain.display())
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

fn mark(path: &Path) -> Mark {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

fn read(chain: &Path, key: &Path) -> Result<CertifiedKey, String> {
    let named = |path: &Path, error: &dyn fmt::Display| format!("{}: {error}", path.display());
    let certificates = certificates(chain)?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| named(key, &error))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    CertifiedKey::from_der(certificates, private, &provider).map_err(|error| {
        let does_not_fit = format!("{error}; does {} belong to it?", key.display());
        named(chain, &does_not_fit)
    })
}

/// Reads the certificates of a PEM file: at least one.
///
/// # Errors
///
/// When it cannot be read or contains none.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let named = |error: &dyn fmt::Display| format!("{}: {error}", path.display());
    let read: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|error| named(&error))?.collect();
    let read = read.map_err(|error| named(&error))?;
    if read.is_empty() { Err(named(&"it contains no certificate")) } else { Ok(read) }
}

/// Returns when a certificate expires, in seconds since 1970.
pub(crate) fn end(der: &[u8]) -> Option<i64> {
    let (_, certificate) = parse_x509_certificate(der).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

/// Returns whom a certificate is for: the first DNS name or mail address in its subjectAltName, else its
/// common name, else its subject.
pub(super) fn name(der: &[u8]) -> Option<String> {
    let (_, certificate) = parse_x509_certificate(der).ok()?;
    let alternative = certificate.subject_alternative_name().ok().flatten().and_then(|names| {
        names.value.general_names.iter().find_map(|name| match name {
            GeneralName::DNSName(name) | GeneralName::RFC822Name(name) => Some((*name).to_owned()),
            _ => None,
        })
    });
    let common =
        || certificate.subject().iter_common_name().find_map(|name| name.as_str().ok().map(str::to_owned));
    let name = alternative.or_else(common).unwrap_or_else(|| certificate.subject().to_string());
    let clean = |character: char| if character.is_control() { '?' } else { character };
    Some(name.chars().map(clean).take(255).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(parameters: rcgen::CertificateParams) -> (rcgen::Certificate, rcgen::KeyPair) {
        let key = rcgen::KeyPair::generate().unwrap();
        (parameters.self_signed(&key).unwrap(), key)
    }

    fn named(names: &[&str]) -> rcgen::CertificateParams {
        rcgen::CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
            .unwrap()
    }

    #[test]
    fn the_name_is_that_of_the_subject() {
        let check = |parameters: rcgen::CertificateParams| name(made(parameters).0.der());
        assert_eq!(
            check(named(&["192.0.2.1", "shop.example", "b.example"])),
            Some("shop.example".to_owned())
        );
        let mut common = rcgen::CertificateParams::default();
        common.distinguished_name = rcgen::DistinguishedName::new();
        common.distinguished_name.push(rcgen::DnType::CommonName, "The Shop");
        assert_eq!(check(common.clone()), Some("The Shop".to_owned()));
        common.distinguished_name = rcgen::DistinguishedName::new();
        common.distinguished_name.push(rcgen::DnType::OrganizationName, "Shop");
        assert_eq!(check(common), Some("O=Shop".to_owned()));
        assert_eq!(name(b"no certificate"), None);
    }

    #[test]
    fn the_end_is_told_in_time() {
        let mut parameters = named(&["shop.example"]);
        parameters.not_after = rcgen::date_time_ymd(2030, 1, 1);
        assert_eq!(end(made(parameters).0.der()), Some(1_893_456_000));
        for (days, alarm) in
            [(31, Alarm::None), (30, Alarm::Days30), (14, Alarm::Days14), (3, Alarm::Days3), (0, Alarm::Over)]
        {
            assert_eq!(Alarm::at(days * DAY), alarm);
        }
        assert_eq!(Alarm::at(3 * DAY + 1), Alarm::Days14);
    }

    #[test]
    fn files_are_read_again_when_they_changed_and_fit() {
        let folder = std::env::temp_dir().join(format!("pixelward-certificate-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (chain, key) = (folder.join("a.pem"), folder.join("a.key"));
        let (first, first_key) = made(named(&["first.example"]));
        let (second, second_key) = made(named(&["the-second.example"]));
        std::fs::write(&chain, first.pem()).unwrap();
        std::fs::write(&key, first_key.serialize_pem()).unwrap();
        let certificate = Certificate::load(&chain, &key).unwrap();
        let shown = || name(certificate.current.load().cert.first().unwrap()).unwrap();
        // The certificate alone does not fit the old key.
        std::fs::write(&chain, second.pem()).unwrap();
        certificate.look("test", 0);
        assert_eq!(shown(), "first.example");
        assert!(Certificate::load(&chain, &key).is_err());
        std::fs::remove_file(&key).unwrap();
        certificate.look("test", 0);
        assert_eq!(shown(), "first.example");
        std::fs::write(&key, second_key.serialize_pem()).unwrap();
        certificate.look("test", 0);
        assert_eq!(shown(), "the-second.example");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
