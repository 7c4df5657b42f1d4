//! A client of the relay's API.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::config::console::Upstream;
use crate::net::tls_config;

/// The maximum size of a response, in bytes.
const MAX_ANSWER: usize = 64 << 20;
/// The maximum number of idle connections.
const MAX_IDLE: usize = 8;

/// Why an API request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The API cannot be reached.
    #[error("the relay's API cannot be reached: {0}")]
    Unreachable(String),
    /// The API refused.
    #[error("the relay's API answered {status}: {detail}")]
    Refused {
        /// The status.
        status: u16,
        /// The reason.
        detail: String,
    },
}

impl ApiError {
    /// Returns whether the requested thing does not exist.
    pub fn is_absence(&self) -> bool {
        matches!(self, ApiError::Refused { status: 404, .. })
    }
}

/// A web server, reached with or without a token.
#[derive(Debug)]
pub struct Client {
    uri: Uri,
    host: String,
    port: u16,
    /// `None` if it is reached in clear, on this machine.
    tls: Option<Arc<rustls::ClientConfig>>,
    token_file: Option<PathBuf>,
    timeout: Duration,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

/// A response.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Bytes,
}

impl Client {
    /// Creates a client for the configured API. The token is read for each request, so that a new one is used
    /// at once.
    ///
    /// # Errors
    ///
    /// When the certificate authorities cannot be read.
    pub fn new(settings: &Upstream) -> Result<Client, String> {
        let token_file = Some(settings.token_file.clone());
        let client = Client::to(&settings.url, settings.ca_file.as_deref(), settings.timeout)?;
        Ok(Client { token_file, ..client })
    }

    /// Creates a client without a token.
    ///
    /// # Errors
    ///
    /// When the URL is invalid, or the certificate authorities cannot be read.
    pub fn to(url: &str, ca_file: Option<&Path>, timeout: Duration) -> Result<Client, String> {
        let uri: Uri = url.parse().map_err(|_| format!("invalid web address {url:?}"))?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let is_clear = uri.scheme_str() == Some("http");
        let tls = if is_clear { None } else { Some(tls_config(ca_file, None)?) };
        let port = uri.port_u16().unwrap_or(if is_clear { 80 } else { 443 });
        Ok(Client { uri, host, port, tls, token_file: None, timeout, idle: Mutex::new(Vec::new()) })
    }

    /// Gets a path.
    ///
    /// # Errors
    ///
    /// When the API cannot be reached, or refuses.
    pub async fn get(&self, path: &str) -> Result<Value, ApiError> {
        self.json(Method::GET, path, None).await
    }

    /// Posts to a path.
    ///
    /// # Errors
    ///
    /// When the API cannot be reached, or refuses.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, ApiError> {
        self.json(Method::POST, path, Some(body)).await
    }

    /// Puts or deletes a path.
    ///
    /// # Errors
    ///
    /// When the API cannot be reached, or refuses.
    pub async fn change(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, ApiError> {
        self.json(method, path, body).await
    }

    async fn json(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, ApiError> {
        let answer = self.ask(method, path, "application/json", body).await?;
        if answer.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&answer.body)
            .map_err(|error| ApiError::Unreachable(format!("its response is not JSON: {error}")))
    }

    /// Sends a request, and reads the whole response.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached, or does not respond with 2xx.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        body: Option<&Value>,
    ) -> Result<Answer, ApiError> {
        let unreachable = |error: String| ApiError::Unreachable(error);
        let body =
            body.map(serde_json::to_vec).transpose().map_err(|error| unreachable(error.to_string()))?;
        let authority = self.uri.authority().map_or(self.host.as_str(), |authority| authority.as_str());
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, authority)
            .header(ACCEPT, accept)
            .header(USER_AGENT, concat!("pixelward-console/", env!("CARGO_PKG_VERSION")));
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(file) = &self.token_file {
            request = request.header(AUTHORIZATION, format!("Bearer {}", token(file).map_err(unreachable)?));
        }
        let body = Full::new(Bytes::from(body.unwrap_or_default()));
        let request = request.body(body).map_err(|_| unreachable("the request is malformed".to_owned()))?;
        let asked = tokio::time::timeout(self.timeout, self.exchange(request)).await;
        let answer = asked
            .map_err(|_| unreachable(format!("it took more than {} s", self.timeout.as_secs())))?
            .map_err(unreachable)?;
        match answer.status {
            200..=299 => Ok(answer),
            status => Err(ApiError::Refused { status, detail: detail(&answer.body) }),
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer, String> {
        let waiting = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut sender = match waiting.filter(|sender| !sender.is_closed() && sender.is_ready()) {
            Some(sender) => sender,
            None => self.connected().await?,
        };
        let answer = match sender.try_send_request(request).await {
            Ok(answer) => answer,
            // An idle connection was closed meanwhile, and nothing of the request was sent.
            Err(mut error) => match error.take_message() {
                Some(request) => {
                    sender = self.connected().await?;
                    sender.send_request(request).await.map_err(|error| error.to_string())?
                }
                None => return Err(error.into_error().to_string()),
            },
        };
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(sender);
        }
        Ok(Answer { status, body })
    }

    async fn connected(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = stream.map_err(|error| format!("{}:{}: {error}", self.host, self.port))?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        match &self.tls {
            None => driven(stream).await,
            Some(tls) => {
                let name = ServerName::try_from(self.host.clone()).map_err(|error| error.to_string())?;
                let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await;
                driven(stream.map_err(|error| format!("TLS: {error}"))?).await
            }
        }
    }
}

async fn driven<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    Ok(sender)
}

fn token(file: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("the token cannot be read: {}: {error}", file.display()))?;
    let token = text.trim();
    let is_plain = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    is_plain.then(|| token.to_owned()).ok_or_else(|| format!("{} contains no token", file.display()))
}

/// Returns the detail of a problem response.
fn detail(body: &[u8]) -> String {
    let read: Option<Value> = serde_json::from_slice(body).ok();
    let detail = read.as_ref().and_then(|problem| problem.get("detail")?.as_str());
    detail.unwrap_or_default().chars().take(500).collect()
}
