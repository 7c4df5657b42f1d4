//! Asks a service one question in JSON: verified TLS, or clear text on this machine; no redirects, within limits.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::tls_config;

/// A service.
pub struct Service {
    uri: Uri,
    host: String,
    port: u16,
    /// `None` if it is reached in clear, on this machine.
    tls: Option<Arc<rustls::ClientConfig>>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Service({}:{})", self.host, self.port)
    }
}

impl Service {
    /// Creates a service at this URL.
    ///
    /// # Errors
    ///
    /// When it is no URL, or certificates cannot be loaded.
    pub fn new(url: &str, ca_file: Option<&Path>) -> Result<Service, String> {
        let uri: Uri = url.parse().map_err(|_| format!("{url:?} is not a web address"))?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let is_clear = uri.scheme_str() == Some("http");
        let tls = if is_clear { None } else { Some(tls_config(ca_file, None)?) };
        let port = uri.port_u16().unwrap_or(if is_clear { 80 } else { 443 });
        Ok(Service { uri, host, port, tls })
    }

    /// Posts a question. The answer must have status 200 and at most `most` bytes, within `limit`.
    ///
    /// # Errors
    ///
    /// When it does not, or the service cannot be reached.
    pub async fn ask(&self, question: String, most: usize, limit: Duration) -> Result<Bytes, String> {
        let answered = timeout(limit, self.exchange(question, most)).await;
        answered.map_err(|_| format!("it took more than {} ms", limit.as_millis()))?
    }

    async fn exchange(&self, question: String, most: usize) -> Result<Bytes, String> {
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|error| format!("it cannot be reached: {error}"))?;
        let response = match &self.tls {
            None => self.post(stream, question).await?,
            Some(tls) => {
                let name = ServerName::try_from(self.host.clone()).map_err(|error| error.to_string())?;
                let connected = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await;
                self.post(connected.map_err(|error| format!("TLS: {error}"))?, question).await?
            }
        };
        if response.status() != StatusCode::OK {
            return Err(format!("it answered {}", response.status().as_u16()));
        }
        let body = Limited::new(response.into_body(), most).collect().await;
        Ok(body.map_err(|error| format!("its answer cannot be read: {error}"))?.to_bytes())
    }

    async fn post<S>(&self, stream: S, question: String) -> Result<Response<Incoming>, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let said = |error: hyper::Error| error.to_string();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(said)?;
        // It ends when the response has been read or dropped, and at the latest with the other side's patience.
        drop(tokio::spawn(connection));
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let authority = self.uri.authority().map_or(self.host.as_str(), |authority| authority.as_str());
        let request = Request::post(path)
            .header(HOST, authority)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("pixelward/", env!("CARGO_PKG_VERSION")))
            .header(CONNECTION, "close")
            .body(Full::new(Bytes::from(question)))
            .map_err(|error| error.to_string())?;
        sender.send_request(request).await.map_err(said)
    }
}
