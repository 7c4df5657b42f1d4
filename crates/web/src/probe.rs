//! Checks whether an address given to readers leads to this very relay.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::net::tls_config;

/// The total time allowed.
const PATIENCE: Duration = Duration::from_secs(10);
/// The maximum size of a response of ours, in bytes.
const MAX_ANSWER: usize = 1024;

/// Why readers do not reach the relay.
#[derive(Debug, thiserror::Error)]
pub enum Astray {
    /// The address is not a web address.
    #[error("not a web address")]
    Address,
    /// The name does not resolve.
    #[error("its name does not resolve ({0}): add an address record to the DNS")]
    Name(io::Error),
    /// Nobody listens there.
    #[error("nothing answers there ({0}): start the server in front of the relay, and open its port")]
    Connect(io::Error),
    /// Readers would not trust the certificate.
    #[error(
        "readers would not trust it because TLS fails ({0}): the certificate must be for this name, valid, \
         and complete with its chain"
    )]
    Tls(io::Error),
    /// The response is late or not HTTP.
    #[error(
        "no response comes back through it ({0}): let the server in front pass requests on to \
         public.address, with unchanged paths"
    )]
    Answer(String),
    /// A different server responds.
    #[error(
        "another server answers there: let the server in front pass this path and everything below it on to \
         public.address unchanged"
    )]
    Other,
    /// A different relay responds.
    #[error(
        "another relay answers there, with a consent store of its own: a withdrawal that it hears does not \
         reach this relay, which goes on tracking. Let one relay alone serve this controller's mail and pages"
    )]
    OtherRelay,
}

impl Astray {
    /// Returns whether the only cause may be that the relay is not running.
    pub const fn may_be_rest(&self) -> bool {
        match self {
            Astray::Connect(_) | Astray::Answer(_) | Astray::Other => true,
            Astray::Address | Astray::Name(_) | Astray::Tls(_) | Astray::OtherRelay => false,
        }
    }
}

/// Asks an address whether the relay that knows `mark` is there.
///
/// # Errors
///
/// Returns why readers do not reach the relay.
pub async fn probe(public_url: &str, mark: &str) -> Result<(), Astray> {
    let slow = |_| Astray::Answer(format!("nothing within {} s", PATIENCE.as_secs()));
    timeout(PATIENCE, asked(public_url, mark)).await.map_err(slow)?
}

/// Logs where another relay answers for readers of mail that this one handles.
///
/// Each address is asked a few times, since a load balancer may answer for several relays.
pub async fn warn_of_other_relays(controllers: &[(String, String)], mark: &str) {
    const TIMES: usize = 4;
    for (controller, public_url) in controllers {
        for _ in 0..TIMES {
            if let Err(error @ Astray::OtherRelay) = probe(public_url, mark).await {
                tracing::warn!(%controller, %public_url, "{error}");
                break;
            }
        }
    }
}

async fn asked(public_url: &str, mark: &str) -> Result<(), Astray> {
    let uri: Uri = format!("{public_url}/c/ping").parse().map_err(|_| Astray::Address)?;
    let host = uri.host().ok_or(Astray::Address)?.trim_matches(['[', ']']).to_owned();
    let is_clear = uri.scheme_str() == Some("http");
    let port = uri.port_u16().unwrap_or(if is_clear { 80 } else { 443 });
    let addresses = tokio::net::lookup_host((host.as_str(), port)).await.map_err(Astray::Name)?;
    let addresses: Vec<_> = addresses.collect();
    let stream = TcpStream::connect(addresses.as_slice()).await.map_err(Astray::Connect)?;
    let said = if is_clear {
        exchanged(stream, &uri).await?
    } else {
        let tls = tls_config(None, None).map_err(|error| Astray::Tls(io::Error::other(error)))?;
        let name = ServerName::try_from(host).map_err(|error| Astray::Tls(io::Error::other(error)))?;
        let connector = TlsConnector::from(Arc::clone(&tls));
        exchanged(connector.connect(name, stream).await.map_err(Astray::Tls)?, &uri).await?
    };
    let is_mark = |said: &[u8]| said.len() == mark.len() && said.iter().all(u8::is_ascii_hexdigit);
    match &*said {
        said if said == mark.as_bytes() => Ok(()),
        said if is_mark(said) => Err(Astray::OtherRelay),
        _ => Err(Astray::Other),
    }
}

async fn exchanged<S>(stream: S, uri: &Uri) -> Result<Bytes, Astray>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let said = |error: hyper::Error| Astray::Answer(error.to_string());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(said)?;
    let driven = tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::builder()
        .uri(path)
        .header(HOST, uri.authority().map_or("", |authority| authority.as_str()))
        .header(USER_AGENT, concat!("pixelward/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| Astray::Answer(error.to_string()))?;
    let answer = sender.send_request(request).await.map_err(said)?;
    let status = answer.status().as_u16();
    if status != 200 {
        driven.abort();
        return Err(Astray::Answer(format!("it answers {status}")));
    }
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await.map_err(|_| Astray::Other)?;
    driven.abort();
    Ok(body.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// Asks a server that says this, whatever it is asked.
    fn check(answer: &'static str) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let read = stream.read(&mut request).unwrap();
            let _ = stream.write_all(answer.as_bytes());
            String::from_utf8_lossy(&request[..read]).into_owned()
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let probed = runtime.block_on(probe(&format!("http://127.0.0.1:{port}/shop"), "abc"));
        assert!(server.join().unwrap().starts_with("GET /shop/c/ping HTTP/1.1\r\n"));
        probed.map_err(|error| error.to_string())
    }

    #[test]
    fn only_this_relay_is_taken_for_it() {
        assert_eq!(check("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"), Ok(()));
        for (answer, word) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabd", "another relay"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabz", "another server"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", "another server"),
            ("HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", "302"),
            ("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "502"),
            ("220 mail.example ESMTP\r\n", "no response"),
            ("", "no response"),
        ] {
            assert!(check(answer).unwrap_err().contains(word), "{answer}: {:?}", check(answer));
        }
    }

    #[test]
    fn each_failure_says_what_to_do() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        for (url, word) in [
            (format!("http://127.0.0.1:{free}"), "start the server"),
            ("http://nowhere.invalid".to_owned(), "to the DNS"),
            ("nothing".to_owned(), "not a web address"),
        ] {
            let error = runtime.block_on(probe(&url, "abc")).unwrap_err();
            assert!(error.to_string().contains(word), "{url}: {error}");
        }
    }
}
