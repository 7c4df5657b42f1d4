//! A connection to a web service: verified TLS, or clear text on this machine; no redirects, within limits. It is kept
//! for further requests for as long as the service keeps it.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderValue, USER_AGENT};
use hyper::{HeaderMap, Request, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::tls_config;

/// Where a service is reached.
#[derive(Clone)]
pub struct Endpoint {
    host: String,
    port: u16,
    authority: String,
    /// `None` if it is reached in clear, on this machine.
    tls: Option<Arc<rustls::ClientConfig>>,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Endpoint({}:{})", self.host, self.port)
    }
}

impl Endpoint {
    /// Returns the place of this URL.
    ///
    /// # Errors
    ///
    /// When it is no URL, or certificates cannot be loaded.
    pub fn of(url: &str, ca_file: Option<&Path>) -> Result<Endpoint, String> {
        let uri: Uri = url.parse().map_err(|_| format!("{url:?} is not a web address"))?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let is_clear = uri.scheme_str() == Some("http");
        let tls = if is_clear { None } else { Some(tls_config(ca_file, None)?) };
        let port = uri.port_u16().unwrap_or(if is_clear { 80 } else { 443 });
        let authority = uri.authority().map_or(host.as_str(), |authority| authority.as_str()).to_owned();
        Ok(Endpoint { host, port, authority, tls })
    }

    /// Returns whether this is where a URL leads.
    pub fn is_of(&self, url: &str) -> bool {
        url.parse::<Uri>().is_ok_and(|uri| {
            let scheme = if self.tls.is_some() { "https" } else { "http" };
            uri.authority().is_some_and(|authority| authority.as_str() == self.authority)
                && uri.scheme_str() == Some(scheme)
        })
    }

    /// Connects.
    ///
    /// # Errors
    ///
    /// When it cannot be reached, or its certificate is not one for its name.
    pub async fn connect(&self) -> Result<Line, String> {
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|error| format!("it cannot be reached: {error}"))?;
        // A request and its body are two writes; without this, the second one would wait for an acknowledgement.
        let _ = stream.set_nodelay(true);
        match &self.tls {
            None => self.greet(stream).await,
            Some(tls) => {
                let name = ServerName::try_from(self.host.clone()).map_err(|error| error.to_string())?;
                let connector = TlsConnector::from(Arc::clone(tls));
                let stream =
                    connector.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
                self.greet(stream).await
            }
        }
    }

    async fn greet<S>(&self, stream: S) -> Result<Line, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(said)?;
        let connection = async move {
            // What goes wrong is said by the request that waits for its answer.
            let _ = connection.await;
        };
        let authority = HeaderValue::from_str(&self.authority).map_err(|error| error.to_string())?;
        Ok(Line { sender, connection: Some(Box::pin(connection)), authority })
    }
}

fn said(error: hyper::Error) -> String {
    error.to_string()
}

/// The work of a connection.
type Driven = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection to a service. Nothing is sent or received while nobody waits for an answer.
pub struct Line {
    sender: SendRequest<Full<Bytes>>,
    connection: Option<Driven>,
    authority: HeaderValue,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Line({:?})", self.authority)
    }
}

/// What a service answered.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Line {
    /// Returns whether another request may be sent, as far as is known.
    pub fn is_open(&self) -> bool {
        self.connection.is_some() && !self.sender.is_closed()
    }

    /// Sends a request, and returns the answer with at most `most` bytes of body. Its URI has path and query only.
    ///
    /// # Errors
    ///
    /// When the connection ends before, or the body is longer. The line must not be used again then.
    pub async fn ask(&mut self, request: Request<Full<Bytes>>, most: usize) -> Result<Reply, String> {
        let (reply, body) = self.exchange(request, Some(most)).await?;
        Ok(Reply { body, ..reply })
    }

    /// The same without reading the body, so that a service cannot keep us busy; the line is used up.
    ///
    /// # Errors
    ///
    /// When the connection ends before there is an answer.
    pub async fn status(mut self, request: Request<Full<Bytes>>) -> Result<u16, String> {
        Ok(self.exchange(request, None).await?.0.status)
    }

    async fn exchange(
        &mut self,
        mut request: Request<Full<Bytes>>,
        most: Option<usize>,
    ) -> Result<(Reply, Bytes), String> {
        let headers = request.headers_mut();
        headers.insert(HOST, self.authority.clone());
        headers
            .insert(USER_AGENT, HeaderValue::from_static(concat!("pixelward/", env!("CARGO_PKG_VERSION"))));
        let (sender, connection) = (&mut self.sender, &mut self.connection);
        let answered = async {
            sender.ready().await.map_err(said)?;
            let (head, body) = sender.send_request(request).await.map_err(said)?.into_parts();
            let body = match most {
                Some(most) => {
                    let body = Limited::new(body, most).collect().await;
                    body.map_err(|error| format!("its answer cannot be read: {error}"))?.to_bytes()
                }
                None => Bytes::new(),
            };
            let reply = Reply { status: head.status.as_u16(), headers: head.headers, body: Bytes::new() };
            Ok((reply, body))
        };
        tokio::select! {
            answered = answered => answered,
            () = drive(connection) => Err("it closed the connection".to_owned()),
        }
    }
}

/// Drives a connection until it ends, and then gives what came last the chance to be read.
async fn drive(connection: &mut Option<Driven>) {
    if let Some(driven) = connection.as_mut() {
        driven.await;
        *connection = None;
    }
    std::future::pending::<()>().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn post(body: &'static str) -> Request<Full<Bytes>> {
        Request::post("/x").body(Full::new(Bytes::from_static(body.as_bytes()))).unwrap()
    }

    #[tokio::test]
    async fn a_line_is_kept_until_the_service_ends_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = Vec::new();
            for number in 0..2 {
                let mut bytes = vec![0; 4096];
                let read = stream.read(&mut bytes).await.unwrap();
                seen.extend_from_slice(&bytes[..read]);
                let body = format!("answer {number}");
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            String::from_utf8(seen).unwrap()
        });
        let endpoint = Endpoint::of(&url, None).unwrap();
        assert!(endpoint.is_of(&url) && !endpoint.is_of("http://127.0.0.1:1/"));
        let mut line = endpoint.connect().await.unwrap();
        for number in 0..2 {
            let reply = line.ask(post("{}"), 100).await.unwrap();
            assert_eq!((reply.status, reply.body), (200, Bytes::from(format!("answer {number}"))));
        }
        let seen = serving.await.unwrap();
        assert_eq!(seen.matches("host: 127.0.0.1:").count(), 2, "{seen}");
        assert!(line.ask(post("{}"), 100).await.is_err());
        assert!(!line.is_open());
    }
}
