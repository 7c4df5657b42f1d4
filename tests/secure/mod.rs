//! TLS towards the relay: an authority for certificates of the test, and a client that speaks line by line
//! over TLS.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic
)]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::support::{Folder, PATIENCE};

/// A certificate and its key, in PEM files.
#[derive(Clone, Debug)]
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Signs certificates. Its own is in `file`.
pub struct Authority {
    pub folder: Folder,
    pub file: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Authority {
        let folder = Folder::new();
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(DnType::CommonName, "Example Authority");
        let file = folder.file("ca.pem", &parameters.self_signed(&key).unwrap().pem());
        Authority { folder, file, issuer: Issuer::new(parameters, key) }
    }

    /// A certificate for a name, and its key.
    pub fn issue(&self, name: &str) -> Pair {
        self.issue_until(name, 2100)
    }

    /// One that ends with the first day of a year.
    pub fn issue_until(&self, name: &str, year: i32) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        Pair {
            certificate: self.folder.file(&format!("{name}-{year}.pem"), &certificate.pem()),
            key: self.folder.file(&format!("{name}-{year}.key"), &key.serialize_pem()),
        }
    }
}

impl Pair {
    /// The settings of a listener that has this certificate.
    pub fn lines(&self) -> String {
        format!("certificate = {:?}\nkey = {:?}", self.certificate, self.key)
    }
}

/// A client over TLS that trusts one authority.
pub struct Secure {
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
}

pub fn client_config(ca: &Path, own: Option<&Pair>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    match own {
        None => builder.with_no_client_auth(),
        Some(own) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_file(&own.certificate).unwrap()],
                PrivateKeyDer::from_pem_file(&own.key).unwrap(),
            )
            .unwrap(),
    }
}

impl Secure {
    /// TLS from the first byte on.
    pub fn implicit(port: u16, config: ClientConfig) -> Secure {
        Secure::over(tcp(port), config)
    }

    /// By STARTTLS; greeted and introduced on both sides of it.
    pub fn starttls(port: u16, config: ClientConfig) -> Secure {
        let mut client = crate::support::Client::greeted(port);
        assert_eq!(client.say("STARTTLS"), 220);
        let mut secure = Secure::over(client.into_stream(), config);
        assert_eq!(secure.say("EHLO client.example"), 250);
        secure
    }

    pub fn over(tcp: TcpStream, config: ClientConfig) -> Secure {
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        Secure { stream: BufReader::new(StreamOwned::new(connection, tcp)) }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.get_mut().write_all(bytes);
    }

    /// One reply with all its lines; empty where the connection ended, however that was.
    pub fn reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let mut line = String::new();
            match self.stream.read_line(&mut line) {
                Ok(0) | Err(_) => return reply,
                Ok(_) => reply.push_str(&line),
            }
            if line.as_bytes().get(3) != Some(&b'-') {
                return reply;
            }
        }
    }

    pub fn ask(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n").as_bytes());
        self.reply()
    }

    pub fn say(&mut self, line: &str) -> u16 {
        self.ask(line).get(..3).and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    /// Hands over a small message; gives the final reply.
    pub fn message(&mut self, from: &str, to: &str) -> String {
        assert_eq!(self.say(&format!("MAIL FROM:<{from}>")), 250);
        assert_eq!(self.say(&format!("RCPT TO:<{to}>")), 250);
        assert_eq!(self.say("DATA"), 354);
        self.ask("Subject: a\r\n\r\nb\r\n.")
    }

    /// The server's own certificate, in DER.
    pub fn server_certificate(&mut self) -> Vec<u8> {
        let certificates = self.stream.get_ref().conn.peer_certificates().unwrap();
        certificates[0].to_vec()
    }
}

fn tcp(port: u16) -> TcpStream {
    let tcp = TcpStream::connect(("127.0.0.1", port)).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    tcp.set_write_timeout(Some(PATIENCE)).unwrap();
    tcp
}

/// Runs swaks with a small message.
pub fn swaks(port: u16, arguments: &[&str]) -> Output {
    Command::new("swaks")
        .args(["--server", "127.0.0.1", "--port", &port.to_string(), "--timeout", "20s"])
        .args(["--helo", "client.example", "--from", "news@shop.example", "--to", "ann@home.example"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// What swaks wrote.
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
