//! Signatures of the redirect binding: they cover the query as it is sent, not XML.

use std::path::Path;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PKCS1_SHA256,
    RsaParameters, UnparsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::parse_x509_certificate;

use super::SamlError;
use crate::query::pairs;

/// The console's signing key.
#[derive(Debug)]
pub(super) struct Key {
    /// The certificate in base64, for the metadata.
    pub(super) certificate: String,
    pair: KeyPair,
}

impl Key {
    /// The key pair.
    pub(super) const ALGORITHM: &str = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256";

    /// Reads a certificate and its RSA key.
    pub(super) fn load(certificate: &Path, key: &Path) -> Result<Key, String> {
        let named = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let der = CertificateDer::from_pem_file(certificate).map_err(|error| named(certificate, &error))?;
        let pair = match PrivateKeyDer::from_pem_file(key).map_err(|error| named(key, &error))? {
            PrivateKeyDer::Pkcs8(der) => KeyPair::from_pkcs8(der.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(der) => KeyPair::from_der(der.secret_pkcs1_der()),
            _ => return Err(named(key, &"expected an RSA key")),
        };
        let pair = pair.map_err(|_| named(key, &"expected an RSA key with at least 2048 bits"))?;
        Ok(Key { certificate: STANDARD.encode(der.as_ref()), pair })
    }

    /// Signs bytes; `None` if no randomness is available.
    pub(super) fn sign(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), bytes, &mut signature).ok()?;
        Some(signature)
    }
}

/// Returns the public key in a certificate.
pub(super) fn public_key(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    Some(parsed.public_key().subject_public_key.data.to_vec())
}

/// Returns the identifier of a certificate's key type; empty if it cannot be read.
pub(super) fn kind_of_key(certificate: &[u8]) -> String {
    let read = parse_x509_certificate(certificate);
    read.map(|(_, parsed)| parsed.public_key().algorithm.algorithm.to_id_string()).unwrap_or_default()
}

/// Verifies the signature of a query with the keys of these certificates. `name` is SAMLRequest or
/// SAMLResponse.
pub(super) fn verified(query: &str, name: &str, certificates: &[Vec<u8>]) -> Result<(), SamlError> {
    let raw = |wanted: &str| -> Result<Option<&str>, SamlError> {
        let mut all = query.split('&').filter(|part| part.split('=').next() == Some(wanted));
        match (all.next(), all.next()) {
            (only, None) => Ok(only),
            _ => Err(SamlError::Malformed("duplicate parameter in the query")),
        }
    };
    let value = |wanted: &str| -> Result<String, SamlError> {
        let pair = raw(wanted)?.and_then(pairs).and_then(|pairs| pairs.into_iter().next());
        pair.map(|(_, value)| value).ok_or(SamlError::Unfit("not signed"))
    };
    let parameters: &RsaParameters = match value("SigAlg")?.as_str() {
        Key::ALGORITHM => &RSA_PKCS1_2048_8192_SHA256,
        "http://www.w3.org/2001/04/xmldsig-more#rsa-sha384" => &RSA_PKCS1_2048_8192_SHA384,
        "http://www.w3.org/2001/04/xmldsig-more#rsa-sha512" => &RSA_PKCS1_2048_8192_SHA512,
        _ => return Err(SamlError::Unfit("a signature algorithm is not accepted")),
    };
    let signature = STANDARD.decode(value("Signature")?).map_err(|_| SamlError::Malformed("not base64"))?;
    let parts = [raw(name)?, raw("RelayState")?, raw("SigAlg")?];
    let signed = parts.into_iter().flatten().collect::<Vec<_>>().join("&");
    let mut keys = certificates.iter().filter_map(|certificate| public_key(certificate));
    let is_right =
        keys.any(|key| UnparsedPublicKey::new(parameters, key).verify(signed.as_bytes(), &signature).is_ok());
    is_right.then_some(()).ok_or(SamlError::Unverified("the query's signature".to_owned()))
}
