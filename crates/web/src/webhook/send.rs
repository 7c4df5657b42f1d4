//! Sends one request to a receiver: signed, over verified TLS, without following redirects.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::net::tls_config;

/// The total time allowed for a receiver.
const PATIENCE: Duration = Duration::from_secs(30);

/// A receiver.
pub(super) struct Receiver {
    uri: Uri,
    host: String,
    port: u16,
    /// `None` if it is reached in clear, on this machine.
    tls: Option<Arc<rustls::ClientConfig>>,
    key: hmac::Key,
}

impl Receiver {
    /// Creates a receiver for this URL.
    pub(super) fn new(url: &str, secret: &[u8], ca_file: Option<&Path>) -> Result<Receiver, String> {
        let uri: Uri = url.parse().map_err(|_| format!("api.webhook.url {url:?} is not a web address"))?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let is_clear = uri.scheme_str() == Some("http");
        let tls = if is_clear {
            None
        } else {
            Some(tls_config(ca_file, None).map_err(|error| format!("api.webhook: {error}"))?)
        };
        let port = uri.port_u16().unwrap_or(if is_clear { 80 } else { 443 });
        Ok(Receiver { uri, host, port, tls, key: hmac::Key::new(hmac::HMAC_SHA256, secret) })
    }

    /// Sends a body. Only a 2xx response means that it was accepted.
    pub(super) async fn send(&self, body: String) -> Result<(), String> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let sent = timeout(PATIENCE, self.exchange(body, since.as_secs())).await;
        sent.map_err(|_| format!("it took more than {} s", PATIENCE.as_secs()))?
    }

    async fn exchange(&self, body: String, now: u64) -> Result<(), String> {
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|error| format!("it cannot be reached: {error}"))?;
        let status = match &self.tls {
            None => self.post(stream, body, now).await?,
            Some(tls) => {
                let name = ServerName::try_from(self.host.clone()).map_err(|error| error.to_string())?;
                let connector = TlsConnector::from(Arc::clone(tls));
                let stream =
                    connector.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
                self.post(stream, body, now).await?
            }
        };
        match status {
            200..=299 => Ok(()),
            other => Err(format!("it answered {other}")),
        }
    }

    async fn post<S>(&self, stream: S, body: String, now: u64) -> Result<u16, String>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let said = |error: hyper::Error| error.to_string();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(said)?;
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let authority = self.uri.authority().map_or(self.host.as_str(), |authority| authority.as_str());
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(HOST, authority)
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("pixelward/", env!("CARGO_PKG_VERSION")))
            .header(CONNECTION, "close")
            .header("pixelward-signature", signature(&self.key, now, body.as_bytes()))
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| error.to_string())?;
        // The rest of the response is not read, so that the receiver cannot keep us busy.
        tokio::select! {
            answer = sender.send_request(request) => Ok(answer.map_err(said)?.status().as_u16()),
            () = ended(connection) => Err("it closed the connection".to_owned()),
        }
    }
}

/// Drives a connection until it ends, and then gives what came last the chance to be read.
async fn ended(connection: impl Future<Output = hyper::Result<()>>) {
    let _ = connection.await;
    std::future::pending::<()>().await;
}

/// Computes the HMAC-SHA-256 under the secret of the time in seconds since 1970, a dot and the body.
fn signature(key: &hmac::Key, now: u64, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(key);
    context.update(format!("{now}.").as_bytes());
    context.update(body);
    let tag: String = context.sign().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={now},v1={tag}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_moment_and_the_body() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"key");
        // printf '1.{}' | openssl dgst -sha256 -hmac key
        let expected = "t=1,v1=1ba6b8171186efc613e8bcc0cbdab2748f24984d7c5a84faa2637afa0e40d224";
        assert_eq!(signature(&key, 1, b"{}"), expected);
        assert_ne!(signature(&key, 2, b"{}"), expected);
    }
}
