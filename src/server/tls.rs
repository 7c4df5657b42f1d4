//! TLS towards clients.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Loads a certificate chain and its key. TLS 1.2 and 1.3 only.
///
/// # Errors
///
/// When a file cannot be read or the two do not belong together.
pub fn load(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, String> {
    let named = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(certificate).map_err(|error| named(certificate, &error))?.collect();
    let chain = chain.map_err(|error| named(certificate, &error))?;
    if chain.is_empty() {
        return Err(named(certificate, &"no certificate in it"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| named(key, &error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| named(certificate, &error))?;
    Ok(Arc::new(config))
}

/// A certificate for development, made in `directory` where it is not there yet. Says loudly that nobody will trust it.
///
/// # Errors
///
/// When it cannot be made or written.
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
        "NO CERTIFICATE IS CONFIGURED: a self-signed one for development is used, which no client will trust. \
         Set certificate and key of the listener before others connect"
    );
    Ok((certificate, key))
}
