//! The identity provider's metadata over TLS: from a server whose authority is known, and what happens to it
//! when that server fails.
#![cfg(feature = "console")]

use crate::support;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};

use crate::console::single_sign_on::Signed;
use crate::http::{Connection, Served};
use crate::secure::{Authority, Pair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What the server has at the moment: a certificate, and what it answers.
struct Answered {
    tls: Arc<ServerConfig>,
    body: String,
}

/// A web server over TLS that gives one answer to everything.
struct Server {
    port: u16,
    answered: Arc<Mutex<Answered>>,
}

impl Server {
    fn start(pair: &Pair) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let answered = Arc::new(Mutex::new(Answered { tls: tls(pair), body: String::new() }));
        let told = Arc::clone(&answered);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // Whoever does not like the certificate hangs up.
                let _ = serve(stream.unwrap(), &told);
            }
        });
        Server { port, answered }
    }

    fn answer(&self, body: &str) {
        self.answered.lock().unwrap().body = body.to_owned();
    }

    fn show(&self, pair: &Pair) {
        self.answered.lock().unwrap().tls = tls(pair);
    }
}

fn tls(pair: &Pair) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chain = CertificateDer::pem_file_iter(&pair.certificate).unwrap().map(Result::unwrap).collect();
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::from_pem_file(&pair.key).unwrap();
    Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap())
}

fn serve(stream: TcpStream, answered: &Mutex<Answered>) -> std::io::Result<()> {
    let (tls, body) = {
        let told = answered.lock().unwrap();
        (Arc::clone(&told.tls), told.body.clone())
    };
    let connection = ServerConnection::new(tls).map_err(std::io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())?;
    stream.conn.send_close_notify();
    stream.flush()
}

/// What the identity provider has under an address.
fn fetched(url: &str) -> String {
    let port = url.split(':').nth(2).unwrap().split('/').next().unwrap().parse().unwrap();
    Connection::to(port).ask("GET", "/metadata", &[("Connection", "close")], b"").text()
}

#[test]
fn metadata_comes_over_tls_and_a_failure_leaves_the_last_good_one() {
    let (ours, other) = (Authority::new(), Authority::new());
    let good = ours.issue("localhost");
    let server = Server::start(&good);
    let mut metadata = String::new();
    let served = Served::with("burst = 100000\nrequests_per_minute = 1000000");
    let signed = Signed::with_metadata(served, "", |url| {
        metadata = fetched(url);
        server.answer(&metadata);
        format!(
            "idp_metadata_url = \"https://localhost:{}/metadata\"\nidp_metadata_ca_file = \
             {:?}\nidp_metadata_refresh_s = 10",
            server.port, ours.file
        )
    });
    let signs_in = || assert!(signed.signed_in("olga").page("/account").contains("officer of all"));
    signs_in();
    let log = &signed.console.log;
    let stays = |words: &str| {
        log.wait(words, |line| line.contains("the previous one stays in force") && line.contains(words));
        signs_in();
    };
    server.answer("<html>Sorry</html>");
    stays("it has no IDPSSODescriptor");
    server.answer(&metadata);
    server.show(&other.issue("localhost"));
    stays("metadata: TLS: ");
    server.show(&ours.issue("elsewhere.example"));
    stays("not valid for name");
    // What is good again and new counts: here a second key, as while the identity provider changes its own.
    let second = ours.issue("idp.example");
    let pem = std::fs::read_to_string(&second.certificate).unwrap();
    let der: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let descriptor = metadata.find("KeyDescriptor").map(|at| metadata[..at].rfind('<').unwrap()).unwrap();
    let key = format!(
        "<m:KeyDescriptor xmlns:m=\"urn:oasis:names:tc:SAML:2.0:metadata\" \
         xmlns:d=\"http://www.w3.org/2000/09/xmldsig#\" use=\"signing\"><d:KeyInfo>\
         <d:X509Data><d:X509Certificate>{der}</d:X509Certificate></d:X509Data></d:KeyInfo></m:KeyDescriptor>"
    );
    server.answer(&format!("{}{key}{}", &metadata[..descriptor], &metadata[descriptor..]));
    server.show(&good);
    log.wait("the second key", |line| line.contains("is now in force") && line.contains("keys=2"));
    // That key is of another kind and stands first; what is signed by the one behind it still counts.
    signs_in();
}

#[test]
fn an_authority_of_the_system_counts_and_an_unknown_one_stops_the_start() {
    let ours = Authority::new();
    let server = Server::start(&ours.issue("localhost"));
    server.answer("<html>Sorry</html>");
    let folder = support::Folder::new();
    let config = folder.file(
        "console.toml",
        &format!(
            "[server]\naddress = \"127.0.0.1:0\"\npublic_url \
             = \"https://console.example\"\n[saml]\nentity_id = \"https://console.example/saml/metadata\"\n\
             idp_metadata_url = \"https://localhost:{}/metadata\"\n[[saml.role]]\nattribute = \"a\"\nvalue \
             = \"b\"\nrole = \"viewer\"\ncontroller = \"all\"\n",
            server.port
        ),
    );
    let said = |roots: &std::path::Path| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_pixelward-console"));
        let output = program.arg("--config").arg(&config).env("SSL_CERT_FILE", roots).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    // What comes over TLS is read where the authority is one of the system's, and is no metadata here.
    let trusted = said(&ours.file);
    assert!(trusted.contains("it has no IDPSSODescriptor"), "{trusted}");
    let unknown = said(&Authority::new().file);
    assert!(unknown.contains("TLS: ") && !unknown.contains("IDPSSODescriptor"), "{unknown}");
}
