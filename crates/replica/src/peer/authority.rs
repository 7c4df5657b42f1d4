//! The cluster's own authority, which certifies its relays and servers, and TLS with its certificates alone.

use std::io;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

use super::NAME;

/// The authority, as PEM.
#[derive(Clone)]
pub struct Authority {
    /// Its certificate.
    pub certificate: String,
    key: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority(…)")
    }
}

/// The files of the authority in a relay's folder.
const AUTHORITY: (&str, &str) = ("authority.crt", "authority.key");
/// The files of a relay in its folder.
const RELAY: (&str, &str) = ("relay.crt", "relay.key");

impl Authority {
    /// Makes one.
    ///
    /// # Errors
    ///
    /// When there is no randomness.
    pub fn fresh() -> io::Result<Authority> {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = parameters().self_signed(&key).map_err(io::Error::other)?;
        Ok(Authority { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// Reads it from a relay's folder.
    ///
    /// # Errors
    ///
    /// When a file cannot be read.
    pub fn load(folder: &Path) -> io::Result<Authority> {
        let read = |name| std::fs::read_to_string(folder.join(name));
        Ok(Authority { certificate: read(AUTHORITY.0)?, key: read(AUTHORITY.1)? })
    }

    /// Writes it into a relay's folder, for its owner alone.
    ///
    /// # Errors
    ///
    /// When a file cannot be written.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        pixelward_files::write_private(&folder.join(AUTHORITY.0), self.certificate.as_bytes())?;
        pixelward_files::write_private(&folder.join(AUTHORITY.1), self.key.as_bytes()).map(drop)
    }

    /// Returns the SHA-256 of its certificate.
    ///
    /// # Errors
    ///
    /// When the certificate cannot be read.
    pub fn hash(&self) -> io::Result<[u8; 32]> {
        let certificate =
            CertificateDer::from_pem_slice(self.certificate.as_bytes()).map_err(io::Error::other)?;
        Ok(hash(&certificate))
    }

    /// Certifies names; returns the certificate with the authority's, and its key, as PEM.
    ///
    /// # Errors
    ///
    /// When a name makes no sense, or the authority's key cannot be used.
    pub fn certify(&self, common_name: &str, names: &[String]) -> io::Result<(String, String)> {
        let ours = KeyPair::from_pem(&self.key).map_err(io::Error::other)?;
        let issuer = Issuer::new(parameters(), ours);
        let mut parameters = CertificateParams::new(names).map_err(io::Error::other)?;
        parameters.distinguished_name.push(DnType::CommonName, common_name);
        parameters.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        parameters.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = parameters.signed_by(&key, &issuer).map_err(io::Error::other)?;
        Ok((format!("{}{}", certificate.pem(), self.certificate), key.serialize_pem()))
    }

    /// Certifies a relay, and writes certificate and key into its folder.
    ///
    /// # Errors
    ///
    /// When a file cannot be written.
    pub fn certify_relay(&self, name: &str, folder: &Path) -> io::Result<()> {
        let (certificate, key) = self.certify(name, &[NAME.to_owned()])?;
        pixelward_files::write_private(&folder.join(RELAY.0), certificate.as_bytes())?;
        pixelward_files::write_private(&folder.join(RELAY.1), key.as_bytes()).map(drop)
    }
}

/// What the authority's certificate says, the same for each.
fn parameters() -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, "pixelward cluster");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters
}

/// What a relay shows of itself, and whom it believes.
#[derive(Debug)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Arc<RootCertStore>,
}

impl Identity {
    /// Reads it from a relay's folder.
    ///
    /// # Errors
    ///
    /// When a file cannot be read.
    pub fn load(folder: &Path) -> io::Result<Identity> {
        let path = folder.join(RELAY.0);
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_file_iter(&path).map_err(io::Error::other)?.collect();
        let key = PrivateKeyDer::from_pem_file(folder.join(RELAY.1)).map_err(io::Error::other)?;
        let authority = CertificateDer::from_pem_file(folder.join(AUTHORITY.0)).map_err(io::Error::other)?;
        Ok(Identity { chain: chain.map_err(io::Error::other)?, key, roots: roots(authority)? })
    }

    /// Returns TLS for the end that is asked. Who joins has no certificate yet.
    pub(super) fn server(&self) -> io::Result<ServerConfig> {
        let clients = WebPkiClientVerifier::builder(Arc::clone(&self.roots)).allow_unauthenticated();
        let clients = clients.build().map_err(io::Error::other)?;
        ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
            .with_client_cert_verifier(clients)
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(io::Error::other)
    }

    /// Returns TLS for the end that asks.
    pub(super) fn client(&self) -> io::Result<ClientConfig> {
        ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
            .with_root_certificates(Arc::clone(&self.roots))
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .map_err(io::Error::other)
    }
}

fn roots(authority: CertificateDer<'static>) -> io::Result<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    roots.add(authority).map_err(io::Error::other)?;
    Ok(Arc::new(roots))
}

fn hash(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, certificate).as_ref());
    hash
}

/// Returns TLS for who knows the authority by its hash alone.
pub(super) fn pinned(authority: [u8; 32]) -> io::Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Arc::new(Pinned { authority, provider: Arc::clone(&provider) });
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?;
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// Believes the one authority whose certificate has a certain hash and is sent along.
#[derive(Debug)]
struct Pinned {
    authority: [u8; 32],
    provider: Arc<rustls::crypto::CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let unknown = || rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let authority = intermediates.iter().find(|certificate| hash(certificate) == self.authority);
        let roots = roots(authority.ok_or_else(unknown)?.clone().into_owned()).map_err(|_| unknown())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&self.provider));
        let verifier = verifier.build().map_err(|_| unknown())?;
        verifier.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
