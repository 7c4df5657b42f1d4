//! The relay's own addresses in a copy, and what the gate answers a mail program.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, HOST, LOCATION};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::message::{Content, Structure, Text};

/// What a mail program heard that loaded a gated pixel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It was led to this host: the sender learns that the mail was opened.
    LedTo(String),
    /// A blank picture: the sender learns nothing.
    Blank,
}

/// Lists the gated pixels of a copy.
pub(super) fn pixels(copy: &[u8], site: &str) -> Vec<String> {
    addresses(copy, site, "p")
}

/// Returns the address of the reader's page in a copy.
pub(super) fn page(copy: &[u8], site: &str) -> Option<String> {
    addresses(copy, site, "c").into_iter().next()
}

/// Lists the different addresses below `site` whose last segment but one is `kind`.
fn addresses(copy: &[u8], site: &str, kind: &str) -> Vec<String> {
    let structure = Structure::read(copy);
    let texts = structure.leaves.iter().filter(|leaf| matches!(leaf.content, Content::Html | Content::Text));
    let mut found: Vec<String> = Vec::new();
    for leaf in texts {
        let text = Text::new(copy, leaf);
        let text = String::from_utf8_lossy(text.bytes());
        for (at, _) in text.match_indices(site) {
            let rest = text.get(at..).unwrap_or_default();
            let address = rest.split(|end: char| end.is_whitespace() || "\"'<>()".contains(end)).next();
            let address = address.unwrap_or_default();
            let is_such = address.rsplit('/').nth(1) == Some(kind);
            if is_such && !found.iter().any(|known| known == address) {
                found.push(address.to_owned());
            }
        }
    }
    found
}

/// Loads a gated pixel as a mail program does, without following where it leads.
///
/// # Errors
///
/// When the public listener does not answer.
pub(super) async fn load(public: SocketAddr, address: &str) -> Result<Heard, Box<dyn std::error::Error>> {
    let uri: hyper::Uri = address.parse()?;
    let stream = TcpStream::connect(public).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driven = tokio::spawn(connection);
    let request = Request::get(uri.path())
        .header(HOST, public.to_string())
        .header(ACCEPT, "image/*")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    driven.abort();
    let target = answer.headers().get(LOCATION).and_then(|target| target.to_str().ok());
    let host = target.and_then(|target| target.parse::<hyper::Uri>().ok()?.host().map(str::to_owned));
    Ok(host.map_or(Heard::Blank, Heard::LedTo))
}
