//! TLS towards clients.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig, ServerConnection,
    SignatureScheme,
};

use super::certificate::{self, Certificate};
use crate::config::ClientCertificate;

/// The TLS settings of a listener.
#[derive(Debug)]
pub struct Tls {
    /// The configuration for handshakes.
    pub config: Arc<ServerConfig>,
    /// The listener's certificate.
    pub certificate: Arc<Certificate>,
    /// Verifies client certificates.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

impl Tls {
    /// Loads a certificate chain and its key, and the authorities for client certificates. TLS 1.2 and 1.3
    /// only.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or the two do not match.
    pub fn load(chain: &Path, key: &Path, clients: &ClientCertificate) -> Result<Tls, String> {
        let certificate = Arc::new(Certificate::load(chain, key)?);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = match clients {
            ClientCertificate::None => None,
            ClientCertificate::Asked(ca) | ClientCertificate::Required(ca) => Some(verifier(ca)?),
        };
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = match (&verifier, clients) {
            (None, _) => builder.with_no_client_auth(),
            (Some(verifier), ClientCertificate::Required(_)) => {
                builder.with_client_cert_verifier(Arc::clone(verifier))
            }
            (Some(verifier), _) => {
                builder.with_client_cert_verifier(Arc::new(Tolerant(Arc::clone(verifier))))
            }
        };
        let resolver: Arc<Certificate> = Arc::clone(&certificate);
        Ok(Tls { config: Arc::new(builder.with_cert_resolver(resolver)), certificate, verifier })
    }

    /// Returns when the certificate expires, in seconds since 1970; `None` if unknown.
    pub fn end(&self) -> Option<i64> {
        self.certificate.end()
    }

    /// Returns the name in the client's certificate, if it is verified.
    pub fn client_name(&self, connection: &ServerConnection) -> Option<String> {
        let (end_entity, intermediates) = connection.peer_certificates()?.split_first()?;
        self.verifier.as_ref()?.verify_client_cert(end_entity, intermediates, UnixTime::now()).ok()?;
        certificate::name(end_entity)
    }
}

fn verifier(ca: &Path) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let named = |error: &dyn std::fmt::Display| format!("client_ca_file {}: {error}", ca.display());
    let mut roots = RootCertStore::empty();
    for certificate in certificate::certificates(ca).map_err(|error| format!("client_ca_file {error}"))? {
        roots.add(certificate).map_err(|error| named(&error))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let built = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    built.map(|verifier| verifier as Arc<dyn ClientCertVerifier>).map_err(|error| named(&error))
}

/// Lets a handshake continue whatever certificate the client presents, or none: many mail servers present one
/// that nobody asked for. [`Tls::client_name`] decides what it counts for.
#[derive(Debug)]
struct Tolerant(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Tolerant {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Creates a development certificate in `directory` if needed. Warns loudly that nobody will trust it.
///
/// # Errors
///
/// When it cannot be created or written.
pub fn development(directory: &Path, host_name: &str) -> Result<(PathBuf, PathBuf), String> {
    let certificate = directory.join("development.pem");
    let key = directory.join("development.key");
    if !certificate.exists() || !key.exists() {
        let named = |error: &dyn std::fmt::Display| format!("{}: {error}", directory.display());
        std::fs::create_dir_all(directory).map_err(|error| named(&error))?;
        let names = vec![
            host_name.trim_matches(['[', ']']).to_owned(),
            "localhost".to_owned(),
            "127.0.0.1".to_owned(),
        ];
        let made = rcgen::generate_simple_self_signed(names).map_err(|error| named(&error))?;
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&key)
            .map_err(|error| named(&error))?;
        file.write_all(made.signing_key.serialize_pem().as_bytes()).map_err(|error| named(&error))?;
        std::fs::write(&certificate, made.cert.pem()).map_err(|error| named(&error))?;
    }
    tracing::warn!(
        certificate = %certificate.display(),
        "NO CERTIFICATE IS CONFIGURED: using a self-signed development certificate, which no client will \
         trust. Set certificate and key of the listener before others connect"
    );
    Ok((certificate, key))
}
