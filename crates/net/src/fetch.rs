//! Fetches one text over HTTPS: verified TLS, no redirects, within limits.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

const HTTPS: u16 = 443;

/// Fetches `https://host/path` from one of these addresses. It must answer 200 with a text in UTF-8, no
/// longer than `most` bytes, within `limit`.
///
/// # Errors
///
/// When it does not, or cannot be reached, or its certificate is not one for `host`.
pub async fn text(
    host: &str,
    addresses: &[IpAddr],
    path: &str,
    tls: &Arc<rustls::ClientConfig>,
    (most, limit): (usize, Duration),
) -> Result<String, String> {
    let exchange = async {
        let response = get(connect(addresses).await?, host, path, tls).await?;
        read(response, most).await
    };
    let done = timeout(limit, exchange).await;
    done.map_err(|_| format!("it took more than {} s", limit.as_secs()))?
}

async fn connect(addresses: &[IpAddr]) -> Result<TcpStream, String> {
    let mut last = "it has no address".to_owned();
    for address in addresses {
        match TcpStream::connect(SocketAddr::new(*address, HTTPS)).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = format!("it cannot be reached at {address}: {error}"),
        }
    }
    Err(last)
}

async fn get(
    tcp: TcpStream,
    host: &str,
    path: &str,
    tls: &Arc<rustls::ClientConfig>,
) -> Result<Response<Incoming>, String> {
    let said = |error: hyper::Error| error.to_string();
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    let connected = TlsConnector::from(Arc::clone(tls)).connect(name, tcp).await;
    let stream = connected.map_err(|error| format!("TLS: {error}"))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(said)?;
    // It ends when the response has been read or dropped, and at the latest with the other side's patience.
    drop(tokio::spawn(connection));
    let request = Request::get(path)
        .header(HOST, host)
        .header(USER_AGENT, concat!("pixelward/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    sender.send_request(request).await.map_err(said)
}

async fn read(response: Response<Incoming>, most: usize) -> Result<String, String> {
    if response.status() != StatusCode::OK {
        return Err(format!("it answered {}", response.status().as_u16()));
    }
    let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = kind.split(';').next().unwrap_or_default().trim();
    if !media.eq_ignore_ascii_case("text/plain") {
        return Err("what it sent is not text/plain".to_owned());
    }
    let body = Limited::new(response.into_body(), most).collect().await;
    let bytes = body.map_err(|error| format!("its body cannot be read: {error}"))?.to_bytes();
    String::from_utf8(bytes.to_vec()).map_err(|_| "what it sent is not UTF-8".to_owned())
}
