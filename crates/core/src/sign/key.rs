//! Signing keys, and their DNS records (RFC 6376, section 3.6.1; RFC 8463).

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

use crate::message::transfer::encode_base64;

/// The type of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA with SHA-256, which every verifier supports.
    Rsa,
    /// Ed25519 (RFC 8463). Short, but not supported everywhere, so best beside an RSA key.
    Ed25519,
}

impl Algorithm {
    /// Returns its name in `a=`.
    pub const fn tag(self) -> &'static str {
        match self {
            Algorithm::Rsa => "rsa-sha256",
            Algorithm::Ed25519 => "ed25519-sha256",
        }
    }

    /// Returns its name in `k=`.
    pub const fn name(self) -> &'static str {
        match self {
            Algorithm::Rsa => "rsa",
            Algorithm::Ed25519 => "ed25519",
        }
    }
}

enum Secret {
    Rsa(Box<RsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

/// A key that signs for a domain.
pub struct SigningKey {
    /// The domain, in lower case.
    pub domain: String,
    /// The selector: the name of its record below `_domainkey` of that domain.
    pub selector: String,
    secret: Secret,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({}, {})", self.selector, self.domain)
    }
}

/// The minimum size of an RSA key in bits (RFC 8301 requires 1024 and advises 2048).
const MIN_RSA_BITS: usize = 2048;

impl SigningKey {
    /// Reads a private key in PEM: PKCS#8 of either type, or PKCS#1.
    ///
    /// # Errors
    ///
    /// When it is not a key, or an RSA key with fewer than 2048 bits.
    pub fn read(domain: &str, selector: &str, pem: &[u8]) -> Result<SigningKey, String> {
        let der = PrivateKeyDer::from_pem_slice(pem)
            .map_err(|_| "not a private key in PEM; `pixelward dkim keygen` creates one".to_owned())?;
        let secret = match &der {
            PrivateKeyDer::Pkcs1(der) => rsa(RsaKeyPair::from_der(der.secret_pkcs1_der()))?,
            PrivateKeyDer::Pkcs8(der) => match Ed25519KeyPair::from_pkcs8(der.secret_pkcs8_der()) {
                Ok(pair) => Secret::Ed25519(Box::new(pair)),
                Err(_) => rsa(RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()))?,
            },
            _ => return Err("expected an RSA or Ed25519 key".to_owned()),
        };
        Ok(SigningKey {
            domain: domain.to_ascii_lowercase(),
            selector: selector.to_ascii_lowercase(),
            secret,
        })
    }

    /// Returns its type.
    pub fn algorithm(&self) -> Algorithm {
        match &self.secret {
            Secret::Rsa(_) => Algorithm::Rsa,
            Secret::Ed25519(_) => Algorithm::Ed25519,
        }
    }

    /// Signs the canonical header.
    pub fn sign(&self, header: &[u8]) -> Vec<u8> {
        match &self.secret {
            Secret::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), header, &mut signature)
                    .expect("the signature has the length of the modulus");
                signature
            }
            // Of the hash, not of the header itself (RFC 8463, section 3).
            Secret::Ed25519(pair) => pair.sign(digest(&SHA256, header).as_ref()).as_ref().to_vec(),
        }
    }

    /// Returns the public key for `p=`, before base64.
    pub fn public(&self) -> Vec<u8> {
        match &self.secret {
            Secret::Rsa(pair) => {
                let der: Result<PublicKeyX509Der<'_>, _> = pair.public_key().as_der();
                der.expect("a public key can always be written").as_ref().to_vec()
            }
            Secret::Ed25519(pair) => pair.public_key().as_ref().to_vec(),
        }
    }

    /// Returns the name of its TXT record.
    pub fn record_name(&self) -> String {
        format!("{}._domainkey.{}", self.selector, self.domain)
    }

    /// Returns the content of its TXT record.
    pub fn record(&self) -> String {
        format!("v=DKIM1; k={}; p={}", self.algorithm().name(), encode_base64(&self.public()))
    }

    /// Generates a private key, in PEM.
    pub fn generate(algorithm: Algorithm) -> String {
        let der = match algorithm {
            Algorithm::Rsa => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("the system gives randomness");
                let der: Result<Pkcs8V1Der<'_>, _> = pair.as_der();
                der.expect("a private key can always be written").as_ref().to_vec()
            }
            Algorithm::Ed25519 => {
                let pair = Ed25519KeyPair::generate().expect("the system gives randomness");
                let der: Result<Pkcs8V1Der<'_>, _> = pair.as_der();
                der.expect("a private key can always be written").as_ref().to_vec()
            }
        };
        let text = encode_base64(&der);
        let lines: Vec<&str> =
            text.as_bytes().chunks(64).filter_map(|chunk| std::str::from_utf8(chunk).ok()).collect();
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
    }
}

fn rsa<E: fmt::Display>(pair: Result<RsaKeyPair, E>) -> Result<Secret, String> {
    let pair = pair.map_err(|error| format!("this key cannot be used: {error}"))?;
    match pair.public_modulus_len() * 8 {
        MIN_RSA_BITS.. => Ok(Secret::Rsa(Box::new(pair))),
        bits => Err(format!("an RSA key of {bits} bits is too short: use at least {MIN_RSA_BITS}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_was_made_can_be_read_and_told_of() {
        for (algorithm, length) in [(Algorithm::Rsa, 294), (Algorithm::Ed25519, 32)] {
            let pem = SigningKey::generate(algorithm);
            let key = SigningKey::read("Shop.example", "px", pem.as_bytes()).unwrap();
            assert_eq!((key.algorithm(), key.public().len()), (algorithm, length));
            assert_eq!(key.record_name(), "px._domainkey.shop.example");
            assert!(key.record().starts_with(&format!("v=DKIM1; k={}; p=", algorithm.name())));
            assert!(!format!("{key:?}").contains("PRIVATE"));
        }
    }

    #[test]
    fn what_is_no_key_for_mail_is_refused() {
        let short = "-----BEGIN RSA PRIVATE KEY-----\n\
                     MIIBOgIBAAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPf9Cnzj4p4WGeKLs1Pt8Qu\n\
                     KUpRKfFLfRYC9AIKjbJTWit+CqvjWYzvQwECAwEAAQJAIJLixBy2qpFoS4DSmoEm\n\
                     o3qGy0t6z09AIJtH+5OeRV1be+N4cDYJKffGzDa88vQENZiRm0GRq6a+HPGQMd2k\n\
                     TQIhAKMSvzIBnni7ot/OSie2TmJLY4SwTQAevXysE2RbFDYdAiEBCUEaRQnMnbp7\n\
                     9mxDXDf6AU0cN/RPBjb9qSHDcWZHGzUCIG2Es59z8ugGrDY+pxLQnwfotadxd+Uy\n\
                     v/Ow5T0q5gIJAiEAyS4RaI9YG8EWx/2w0T67ZUVAw8eOMB6BIUg0Xcu+3okCIBOs\n\
                     /5OiPgoTdSy7bcF9IGpSE8ZgGKzgYQVZeN97YE00\n\
                     -----END RSA PRIVATE KEY-----\n";
        for text in ["", "hello", short] {
            assert!(SigningKey::read("shop.example", "px", text.as_bytes()).is_err(), "{text}");
        }
    }
}
