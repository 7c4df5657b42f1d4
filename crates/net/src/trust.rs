//! Whom the relay trusts when it connects to others by TLS.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ConfigBuilder, DigitallySignedStruct, Error, OtherError, SignatureScheme};
use x509_parser::parse_x509_certificate;

use crate::certificate::certificates;

/// TLS towards next hops: verified against the certificates of `ca_file`, or those that the system trusts.
/// `client` is a certificate chain with its key, for next hops that ask who we are.
///
/// # Errors
///
/// When the file cannot be read or the system's certificates cannot be used.
pub fn tls_config(
    ca_file: Option<&Path>,
    client: Option<(&Path, &Path)>,
) -> Result<Arc<rustls::ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match ca_file {
        Some(path) => {
            let mut roots = rustls::RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| named(path, &error))?;
            }
            builder.with_root_certificates(roots)
        }
        None => {
            let verifier =
                rustls_platform_verifier::Verifier::new(provider).map_err(|error| error.to_string())?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
    };
    with_client(builder, client)
}

/// TLS towards next hops that are known by the SHA-256 digest of their certificate or of its public key,
/// whoever issued it, to whatever name, until whenever.
///
/// # Errors
///
/// When a file cannot be read.
pub fn pinned_tls_config(
    fingerprints: &[[u8; 32]],
    client: Option<(&Path, &Path)>,
) -> Result<Arc<rustls::ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Arc::new(Pinned {
        fingerprints: fingerprints.to_vec(),
        algorithms: provider.signature_verification_algorithms,
    });
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    with_client(builder.dangerous().with_custom_certificate_verifier(verifier), client)
}

fn with_client(
    builder: ConfigBuilder<rustls::ClientConfig, WantsClientCert>,
    client: Option<(&Path, &Path)>,
) -> Result<Arc<rustls::ClientConfig>, String> {
    Ok(Arc::new(match client {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let private = PrivateKeyDer::from_pem_file(key).map_err(|error| named(key, &error))?;
            builder
                .with_client_auth_cert(certificates(certificate)?, private)
                .map_err(|error| named(certificate, &error))?
        }
    }))
}

/// Knows a server by its certificate or public key. That the server has the private key is verified as ever.
#[derive(Debug)]
struct Pinned {
    fingerprints: Vec<[u8; 32]>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// A certificate whose fingerprints are not those of the configuration.
#[derive(Debug)]
pub struct Unlisted {
    certificate: String,
    public_key: String,
}

impl fmt::Display for Unlisted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the SHA-256 digest {} (that of its public key: {})", self.certificate, self.public_key)
    }
}

impl std::error::Error for Unlisted {}

/// What every verifier of a server does alike: that the server has the private key of its certificate is verified
/// with the algorithms of its field `algorithms`.
macro_rules! signatures_as_ever {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls12_signature(message, certificate, signed, &self.algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, certificate, signed, &self.algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.algorithms.supported_schemes()
        }
    };
}
pub(crate) use signatures_as_ever;

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let bad = |_| Error::InvalidCertificate(CertificateError::BadEncoding);
        let (_, parsed) = parse_x509_certificate(certificate).map_err(bad)?;
        let digests = [digest(&SHA256, certificate), digest(&SHA256, parsed.public_key().raw)];
        let is_listed = |one: &[u8]| self.fingerprints.iter().any(|listed| listed[..] == *one);
        if digests.iter().any(|digest| is_listed(digest.as_ref())) {
            return Ok(ServerCertVerified::assertion());
        }
        let [certificate, public_key] = digests.map(|digest| hex::encode(digest.as_ref()));
        let unlisted = OtherError(Arc::new(Unlisted { certificate, public_key }));
        Err(Error::InvalidCertificate(CertificateError::Other(unlisted)))
    }

    signatures_as_ever!();
}

fn named(path: &Path, error: &dyn fmt::Display) -> String {
    format!("{}: {error}", path.display())
}
