//! The PROXY protocol, versions 1 and 2, as specified by HAProxy: the address of a client that connects
//! through a proxy.
//!
//! Promised: exactly the header is read, and nothing of what the client sends after it; anything that is not
//! precisely a header is rejected.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::permission::Source;
use crate::config::{Listener, ProxyProtocol};

/// The beginning of version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The maximum length of a version 1 header, including its end.
const MAX_V1: usize = 107;
/// The maximum length of a version 2 header after its first 16 bytes.
const MAX_V2: usize = 520;

/// How long somebody in no list may take to show that it only looks whether the port is open.
pub(super) const PROBE_TIME: Duration = Duration::from_secs(1);
/// How long a proxy may take to name its client.
const PROXY_TIME: Duration = Duration::from_secs(10);

/// Why there is no address.
#[derive(Debug, thiserror::Error)]
enum ProxyError {
    /// The connection broke, or ended within the header.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The bytes are not a header.
    #[error("{0}")]
    Malformed(&'static str),
}

/// Whom a header speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    /// A client with this address.
    Client(SocketAddr),
    /// The proxy itself.
    Proxy,
    /// A client whose address the proxy does not know.
    Unknown,
}

/// Returns the client's address, and how it is known: behind a proxy, as the proxy says. A client that the
/// proxy cannot name has the proxy's address, without its permissions. `None` if it is not a trusted proxy or
/// sends nothing readable; such a connection is dropped silently.
pub(super) async fn client(
    stream: &mut TcpStream,
    peer: SocketAddr,
    settings: &Listener,
) -> Option<(SocketAddr, Source)> {
    if settings.proxy_protocol == ProxyProtocol::None {
        return Some((peer, Source::Seen));
    }
    let refused = |why: &str| {
        tracing::warn!(
            peer = %peer.ip(),
            listener = %settings.name,
            why,
            "a connection that did not come from a trusted proxy was dropped"
        );
        metrics::counter!("pixelward_proxy_refused_total").increment(1);
    };
    let is_listed = settings.proxy_networks.iter().any(|network| network.contains(peer.ip()));
    let limit = if is_listed { PROXY_TIME.min(settings.idle_timeout) } else { PROBE_TIME };
    if is_probe(stream, limit).await {
        tracing::debug!(peer = %peer.ip(), listener = %settings.name, "a connection closed without a word");
        return None;
    }
    if !is_listed {
        refused("the address is not in proxy_networks");
        return None;
    }
    match timeout(PROXY_TIME.min(settings.idle_timeout), read(stream)).await {
        Ok(Ok(Named::Client(client))) => Some((client, Source::Told)),
        Ok(Ok(Named::Proxy)) => Some((peer, Source::Seen)),
        Ok(Ok(Named::Unknown)) => Some((peer, Source::Unknown)),
        Ok(Err(error)) => {
            refused(&error.to_string());
            None
        }
        Err(_) => {
            refused("no PROXY header arrived in time");
            None
        }
    }
}

/// Returns whether a peer closes the connection without sending anything, as load balancers do that look
/// whether the port is open. Nothing is read.
pub(super) async fn is_probe(stream: &TcpStream, limit: Duration) -> bool {
    matches!(timeout(limit, stream.peek(&mut [0])).await, Ok(Ok(0) | Err(_)))
}

/// Reads the header.
///
/// # Errors
///
/// When the stream ends or does not begin with a header.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Named, ProxyError> {
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start == SIGNATURE {
        return version_2(stream).await;
    }
    if !start.starts_with(b"PROXY ") {
        return Err(ProxyError::Malformed("it does not begin with a PROXY header"));
    }
    let mut line = start.to_vec();
    while line.last() != Some(&b'\n') {
        if line.len() >= MAX_V1 {
            return Err(ProxyError::Malformed("the header is longer than 107 bytes"));
        }
        // Byte by byte: what follows the line is not ours.
        line.push(stream.read_u8().await?);
    }
    version_1(&line).ok_or(ProxyError::Malformed("the header of version 1 is malformed"))
}

/// Parses `PROXY TCP4 source destination port port` or `PROXY UNKNOWN …`.
fn version_1(line: &[u8]) -> Option<Named> {
    let line = std::str::from_utf8(line.strip_suffix(b"\r\n")?).ok()?;
    if line.contains(['\r', '\n']) {
        return None;
    }
    let mut words = line.split(' ').skip(1);
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(Named::Unknown);
    }
    let mut address = || match family {
        "TCP4" => words.next()?.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => words.next()?.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => None,
    };
    let source = address()?;
    address()?;
    let mut port = || words.next().and_then(port);
    let source_port = port()?;
    port()?;
    words.next().is_none().then_some(Named::Client(SocketAddr::new(source, source_port)))
}

fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|digit| digit.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

async fn version_2(stream: &mut (impl AsyncRead + Unpin)) -> Result<Named, ProxyError> {
    let (command, family) = (stream.read_u8().await?, stream.read_u8().await?);
    let length = usize::from(stream.read_u16().await?);
    if length > MAX_V2 {
        return Err(ProxyError::Malformed("the header is longer than 536 bytes"));
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    match (command, family) {
        // LOCAL: a health check of the proxy.
        (0x20, _) => Ok(Named::Proxy),
        (0x21, 0x00) => Ok(Named::Unknown),
        (0x21, 0x11) => addresses::<4>(&rest),
        (0x21, 0x21) => addresses::<16>(&rest),
        (0x21, _) => Err(ProxyError::Malformed("the client does not use TCP")),
        _ => Err(ProxyError::Malformed("unknown version or command in the header")),
    }
}

/// Reads source and destination, and the ports of both. What follows them is skipped.
fn addresses<const SIZE: usize>(bytes: &[u8]) -> Result<Named, ProxyError>
where
    IpAddr: From<[u8; SIZE]>,
{
    let short = ProxyError::Malformed("the header is too short for its addresses");
    let Some((source, rest)) = bytes.split_first_chunk::<SIZE>() else { return Err(short) };
    match rest.get(SIZE..SIZE + 4) {
        Some([high, low, _, _]) => {
            Ok(Named::Client(SocketAddr::new(IpAddr::from(*source), u16::from_be_bytes([*high, *low]))))
        }
        _ => Err(short),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read from these bytes and `rest` behind them, whole and byte by byte.
    async fn check(header: &[u8]) -> Result<String, String> {
        let bytes = [header, b"rest"].concat();
        let mut whole = bytes.as_slice();
        let first = read(&mut whole).await;
        let (mut near, mut far) = tokio::io::duplex(1);
        let writing = async {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut far, &bytes).await;
            drop(far);
        };
        let reading = async {
            let second = read(&mut near).await;
            drop(near);
            second
        };
        let (second, ()) = tokio::join!(reading, writing);
        let shown = |read: Result<Named, ProxyError>| match read {
            Ok(Named::Client(address)) => Ok(address.to_string()),
            Ok(other) => Ok(format!("{other:?}")),
            Err(error) => Err(error.to_string()),
        };
        if first.is_ok() {
            assert_eq!(whole, b"rest", "nothing behind the header is read");
        }
        let first = shown(first);
        assert_eq!(shown(second), first);
        first
    }

    fn v2(command: u8, family: u8, length: u16, rest: &[u8]) -> Vec<u8> {
        [&SIGNATURE[..], &[command, family], &length.to_be_bytes(), rest].concat()
    }

    #[tokio::test]
    async fn both_versions_give_the_address_of_the_client() {
        let some = |text: &str| Ok(text.to_owned());
        assert_eq!(check(b"PROXY TCP4 192.0.2.1 198.51.100.1 4711 25\r\n").await, some("192.0.2.1:4711"));
        assert_eq!(check(b"PROXY TCP6 2001:db8::1 2001:db8::2 0 65535\r\n").await, some("[2001:db8::1]:0"));
        assert_eq!(check(b"PROXY UNKNOWN\r\n").await, some("Unknown"));
        assert_eq!(check(b"PROXY UNKNOWN what ever 1 2 3\r\n").await, some("Unknown"));
        let four = [192, 0, 2, 1, 198, 51, 100, 1, 0x12, 0x67, 0, 25];
        assert_eq!(check(&v2(0x21, 0x11, 12, &four)).await, some("192.0.2.1:4711"));
        let with_tlv = [&four[..], &[4, 0, 1, 0]].concat();
        assert_eq!(check(&v2(0x21, 0x11, 16, &with_tlv)).await, some("192.0.2.1:4711"));
        let six = [[0x20; 16].as_slice(), &[0x30; 16], &[0, 1, 0, 25]].concat();
        assert_eq!(
            check(&v2(0x21, 0x21, 36, &six)).await,
            some("[2020:2020:2020:2020:2020:2020:2020:2020]:1")
        );
        assert_eq!(check(&v2(0x20, 0x11, 12, &four)).await, some("Proxy"));
        assert_eq!(check(&v2(0x21, 0, 520, &[0; 520])).await, some("Unknown"));
    }

    #[tokio::test]
    async fn what_is_no_header_to_the_letter_is_refused() {
        let long = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 92], b"\r\n"].concat();
        assert_eq!(long.len(), 108);
        for header in [
            b"EHLO client.example\r\n".as_slice(),
            b"PROXY TCP4 192.0.2.1 198.51.100.1 4711 25\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.1 4711\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.1 4711 25 \r\n",
            b"PROXY  TCP4 192.0.2.1 198.51.100.1 4711 25\r\n",
            b"PROXY TCP4 2001:db8::1 198.51.100.1 4711 25\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.1 04711 25\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.1 +4711 25\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.1 65536 25\r\n",
            b"PROXY TCP5 192.0.2.1 198.51.100.1 4711 25\r\n",
            b"PROXY tcp4 192.0.2.1 198.51.100.1 4711 25\r\n",
            &long,
            &v2(0x21, 0x11, 11, &[0; 11]),
            &v2(0x21, 0x21, 35, &[0; 35]),
            &v2(0x21, 0x12, 12, &[0; 12]),
            &v2(0x22, 0x11, 12, &[0; 12]),
            &v2(0x11, 0x11, 12, &[0; 12]),
            &v2(0x21, 0x11, 521, &[0; 521]),
        ] {
            assert!(check(header).await.is_err(), "{:?}", String::from_utf8_lossy(header));
        }
        assert!(read(&mut b"PROXY TCP4 192.0.2.1".as_slice()).await.is_err(), "the stream ends");
    }
}
