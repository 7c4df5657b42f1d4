//! Reaches one of the addresses of a next hop: every A and AAAA address, in turn (RFC 5321, section 5.1).
//!
//! An address that does not connect at once does not hold up the others: the next attempt begins a quarter of
//! a second later, beside it (RFC 8305). One that connects but does not greet is followed by the next one.
//! Those that failed lately come last.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::{TcpSocket, TcpStream, UnixStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::authentication::{Peer, tested};
use super::connection::Connection;
use super::error::RelayError;
use super::exchangers::Exchanger;
use super::health::Health;
use super::next_hop::NextHop;
use crate::wire::Stream;

/// How long an attempt has before the next one begins beside it (RFC 8305, section 8).
const HEAD_START: Duration = Duration::from_millis(250);
/// The maximum number of addresses that are tried for one connection.
const MOST_ADDRESSES: usize = 32;

/// The health of each address of a next hop.
#[derive(Debug, Default)]
pub struct Addresses(Mutex<Vec<(SocketAddr, Health)>>);

impl Addresses {
    /// Returns addresses, those that failed lately last; forgets those that are no longer among them.
    fn ordered(&self, found: Vec<SocketAddr>, now: Instant) -> Vec<SocketAddr> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(address, _)| found.contains(address));
        let rest = |address: &SocketAddr| {
            let health = known.iter().find(|(known, _)| known == address).map(|(_, health)| health);
            health.and_then(|health| health.rests_until(now))
        };
        let mut order: Vec<_> = found.into_iter().map(|address| (rest(&address), address)).collect();
        order.sort_by_key(|(rest, _)| *rest);
        order.into_iter().map(|(_, address)| address).take(MOST_ADDRESSES).collect()
    }

    fn note(&self, address: SocketAddr, error: Option<&RelayError>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = known.iter().position(|(known, _)| *known == address);
        match (at.and_then(|at| known.get(at)), error) {
            (Some((_, health)), Some(_)) => health.failed(Instant::now()),
            (Some((_, health)), None) => {
                health.succeeded();
            }
            (None, Some(_)) => {
                let health = Health::default();
                health.failed(Instant::now());
                known.push((address, health));
            }
            (None, None) => {}
        }
    }
}

/// Where a next hop can be reached.
#[derive(Default)]
struct Found {
    /// Each address once, in the order in which they are tried.
    addresses: Vec<SocketAddr>,
    /// The exchangers that they belong to, if the next hop is a domain.
    exchangers: Vec<(SocketAddr, Peer)>,
    /// The exchangers that cannot be used, and why.
    unusable: Vec<(Arc<str>, RelayError)>,
}

impl Found {
    fn add(&mut self, address: SocketAddr, peer: Option<&Peer>) {
        if !self.addresses.contains(&address) {
            self.addresses.push(address);
            self.exchangers.extend(peer.map(|peer| (address, peer.clone())));
        }
    }

    fn peer(&self, address: SocketAddr) -> &Peer {
        let found = self.exchangers.iter().find(|(known, _)| *known == address);
        found.map_or(&Peer::CONFIGURED, |(_, peer)| peer)
    }
}

/// How addresses are tried.
#[derive(Clone, Copy)]
struct Way<'a> {
    /// How long each may take to connect.
    limit: Duration,
    /// The addresses to connect from.
    sources: &'a [IpAddr],
    /// Whether they are all those of one host, so that they share certificates and logins.
    is_one_host: bool,
}

impl<'a> Way<'a> {
    fn to(hop: &'a NextHop) -> Way<'a> {
        let is_one_host = hop.exchangers.is_none();
        Way { limit: hop.timeouts.connect, sources: &hop.source_addresses, is_one_host }
    }

    /// Returns the address to connect to this one from, if one is set.
    fn source(&self, address: SocketAddr) -> Option<IpAddr> {
        self.sources.iter().find(|source| source.is_ipv6() == address.is_ipv6()).copied()
    }
}

/// Connects to one of a next hop's addresses and sends everything that precedes MAIL.
///
/// # Errors
///
/// When none can be used: the last error.
pub async fn open(hop: &NextHop, addresses: &Addresses) -> Result<Connection, RelayError> {
    if let Some(path) = hop.socket() {
        return local(path, hop).await;
    }
    let mut found = look_up(hop).await?;
    if let (true, Some((_, error))) = (found.addresses.is_empty(), found.unusable.pop()) {
        return Err(error);
    }
    let left = addresses.ordered(std::mem::take(&mut found.addresses), Instant::now());
    of(
        left,
        Way::to(hop),
        |address, error| addresses.note(address, error),
        |address, tcp| over(address, tcp, hop, found.peer(address)),
    )
    .await
}

/// Sends everything that precedes MAIL over a connection that was just made. Where it fails at what a domain
/// only tests, once more over another one, without that.
async fn over(
    address: SocketAddr,
    tcp: TcpStream,
    hop: &NextHop,
    peer: &Peer,
) -> Result<Connection, RelayError> {
    let failed = |source| RelayError::Io { at: "connect", source };
    tcp.set_nodelay(true).map_err(failed)?;
    let done = Connection::over(Stream::Clear(tcp), hop, peer).await;
    let (Some(otherwise), Err(error @ (RelayError::Tls(_) | RelayError::NoTls | RelayError::NoTlsNow(_)))) =
        (&peer.otherwise, &done)
    else {
        return done;
    };
    tested(hop, peer.exchanger.as_deref().unwrap_or_default(), &error.to_string());
    let way = Way::to(hop);
    let connected = timeout(way.limit, connect(address, way.source(address))).await;
    let tcp =
        connected.map_err(|_| RelayError::Timeout { at: "connect", after: way.limit })?.map_err(failed)?;
    tcp.set_nodelay(true).map_err(failed)?;
    let peer = Peer { demand: otherwise.clone(), otherwise: None, ..peer.clone() };
    Connection::over(Stream::Clear(tcp), hop, &peer).await
}

/// Connects to a socket of this machine, and does the same.
async fn local(path: &Path, hop: &NextHop) -> Result<Connection, RelayError> {
    const STEP: &str = "connect";
    let limit = hop.timeouts.connect;
    let connected = timeout(limit, UnixStream::connect(path)).await;
    let connected = connected.map_err(|_| RelayError::Timeout { at: STEP, after: limit })?;
    let socket = connected.map_err(|source| RelayError::Io { at: STEP, source })?;
    Connection::over(Stream::Local(socket), hop, &Peer::CONFIGURED).await
}

/// Connects to each of a next hop's addresses, and says what came of it.
///
/// # Errors
///
/// When the name cannot be looked up.
pub async fn each(hop: &NextHop) -> Result<Vec<(String, Result<Connection, RelayError>)>, RelayError> {
    if let Some(path) = hop.socket() {
        return Ok(vec![(path.display().to_string(), local(path, hop).await)]);
    }
    let (mut tried, mut found) = (Vec::new(), look_up(hop).await?);
    for (name, error) in std::mem::take(&mut found.unusable) {
        tried.push((name.to_string(), Err(error)));
    }
    for address in found.addresses.iter().copied().take(MOST_ADDRESSES) {
        let peer = found.peer(address);
        let greet = |_, tcp| over(address, tcp, hop, peer);
        let outcome = of(vec![address], Way::to(hop), |_, _| {}, greet).await;
        let place = peer.exchanger.as_ref().map_or(address.to_string(), |name| format!("{name} [{address}]"));
        tried.push((place, outcome));
    }
    Ok(tried)
}

/// Returns every address of a next hop.
async fn look_up(hop: &NextHop) -> Result<Found, RelayError> {
    let at = if hop.exchangers.is_some() { "looking up the exchangers" } else { "looking up the address" };
    let limit = hop.timeouts.connect;
    let found = timeout(limit, find(hop)).await;
    found
        .map_err(|_| RelayError::Timeout { at, after: limit })?
        .map_err(|source| RelayError::Io { at, source })
}

async fn find(hop: &NextHop) -> io::Result<Found> {
    let mut found = Found::default();
    if let Some(exchangers) = &hop.exchangers {
        let policy = async {
            match &hop.mta_sts {
                Some(mta_sts) => mta_sts.policy().await,
                None => None,
            }
        };
        let (all, policy) = tokio::join!(exchangers.of(&hop.host, &hop.ehlo_name, hop.port), policy);
        for Exchanger { name, found: about } in all? {
            let unknown = |reason| RelayError::Unknown { exchanger: name.to_string(), reason };
            let peer = about
                .map_err(unknown)
                .and_then(|(addresses, tlsa)| Ok((addresses, Peer::of(hop, &name, tlsa, policy.as_ref())?)));
            match peer {
                Ok((addresses, peer)) => {
                    addresses.iter().for_each(|ip| found.add(SocketAddr::new(*ip, hop.port), Some(&peer)));
                }
                Err(error) => {
                    tracing::debug!(exchanger = %name, %error, "an exchanger cannot be used");
                    found.unusable.push((name, error));
                }
            }
        }
        return Ok(found);
    }
    let host = hop.host.trim_start_matches('[').trim_end_matches(']');
    lookup_host((host, hop.port)).await?.for_each(|address| found.add(address, None));
    Ok(found)
}

/// Connects to one of `left` after the other until `greet` succeeds. Tells what became of each.
async fn of<T, Greeting: Future<Output = Result<T, RelayError>>>(
    mut left: Vec<SocketAddr>,
    way: Way<'_>,
    told: impl Fn(SocketAddr, Option<&RelayError>),
    greet: impl Fn(SocketAddr, TcpStream) -> Greeting,
) -> Result<T, RelayError> {
    let none = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut last = RelayError::Io { at: "connect", source: none };
    while !left.is_empty() {
        let (address, tcp) = match first(&mut left, way, &told).await {
            Ok(connected) => connected,
            Err(error) => return Err(error),
        };
        match greet(address, tcp).await {
            Ok(done) => {
                told(address, None);
                return Ok(done);
            }
            // Credentials and certificates are those of the host: another address of it changes nothing.
            Err(error @ (RelayError::Tls(_) | RelayError::NoAuth | RelayError::NoTls)) if way.is_one_host => {
                return Err(error);
            }
            Err(error) => {
                tracing::debug!(%address, %error, "an address of the next hop could not be used");
                told(address, Some(&error));
                last = error;
            }
        }
    }
    Err(last)
}

/// Connects to an address, from `source` if there is one.
async fn connect(address: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let Some(source) = source else { return TcpStream::connect(address).await };
    let socket = if address.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
    socket.bind(SocketAddr::new(source, 0))?;
    socket.connect(address).await
}

/// Connects to the first address that accepts. It and those that failed are taken out of `left`; the others
/// may be tried again.
async fn first(
    left: &mut Vec<SocketAddr>,
    way: Way<'_>,
    told: &impl Fn(SocketAddr, Option<&RelayError>),
) -> Result<(SocketAddr, TcpStream), RelayError> {
    let limit = way.limit;
    let mut waiting = left.clone().into_iter();
    let mut attempts = JoinSet::new();
    let mut last = RelayError::Closed { at: "connect" };
    loop {
        if let Some(address) = waiting.next() {
            let source = way.source(address);
            attempts.spawn(async move { (address, timeout(limit, connect(address, source)).await) });
        }
        let has_more = waiting.len() > 0;
        let ended = tokio::select! {
            ended = attempts.join_next() => ended,
            () = sleep(HEAD_START), if has_more => continue,
        };
        let Some(ended) = ended else { return Err(last) };
        let Ok((address, outcome)) = ended else { continue };
        left.retain(|other| *other != address);
        match outcome {
            Ok(Ok(tcp)) => return Ok((address, tcp)),
            Ok(Err(source)) => last = RelayError::Io { at: "connect", source },
            Err(_) => last = RelayError::Timeout { at: "connect", after: limit },
        }
        told(address, Some(&last));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn within(limit: Duration) -> Way<'static> {
        Way { limit, sources: &[], is_one_host: true }
    }

    /// Reads a greeting within this time.
    async fn greeting(mut tcp: TcpStream, limit: Duration) -> Result<String, RelayError> {
        let mut bytes = [0; 64];
        match timeout(limit, tcp.read(&mut bytes)).await {
            Ok(Ok(count)) if count > 0 => Ok(String::from_utf8_lossy(&bytes[..count]).into_owned()),
            _ => Err(RelayError::Timeout { at: "greeting", after: limit }),
        }
    }

    /// Listens and greets, or is silent.
    async fn host(greets: bool) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                if greets {
                    let _ = stream.write_all(b"220 ready\r\n").await;
                }
                open.push(stream);
            }
        });
        address
    }

    async fn nobody() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
    }

    #[tokio::test]
    async fn every_address_is_tried_until_one_greets() {
        let addresses = Addresses::default();
        let (closed, silent, good) = (nobody().await, host(false).await, host(true).await);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let all = vec![closed, silent, good];
        let told = |address, error: Option<&RelayError>| {
            asked.lock().unwrap().push((address, error.is_none()));
            addresses.note(address, error);
        };
        let limit = Duration::from_secs(5);
        let greet = |_, tcp| greeting(tcp, Duration::from_millis(300));
        assert_eq!(of(all.clone(), within(limit), told, greet).await.unwrap(), "220 ready\r\n");
        assert_eq!(*asked.lock().unwrap(), [(closed, false), (silent, false), (good, true)]);
        // The next connection begins with the one that works.
        let order = addresses.ordered(all, Instant::now());
        assert_eq!(order[0], good);
        assert_eq!(order.len(), 3);
    }

    #[tokio::test]
    async fn where_none_can_be_used_the_last_error_is_told() {
        let all = vec![nobody().await, host(false).await];
        let greet = |_, tcp| greeting(tcp, Duration::from_millis(100));
        let error = of(all, within(Duration::from_secs(5)), |_, _| {}, greet).await.unwrap_err();
        assert!(matches!(error, RelayError::Timeout { at: "greeting", .. }), "{error}");
        let error = of(Vec::new(), within(Duration::from_secs(5)), |_, _| {}, greet).await.unwrap_err();
        assert!(error.to_string().contains("no address"), "{error}");
    }

    #[tokio::test]
    async fn an_address_that_does_not_answer_holds_up_the_next_one_for_a_moment_only() {
        // Nobody accepts here, and what waits is full: further attempts get no answer.
        let socket = socket_that_is_full();
        let full = socket.0.local_addr().unwrap();
        let good = host(true).await;
        let begun = Instant::now();
        let greet = |_, tcp| greeting(tcp, Duration::from_secs(5));
        let answer = of(vec![full, good], within(Duration::from_secs(30)), |_, _| {}, greet).await.unwrap();
        assert_eq!(answer, "220 ready\r\n");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }

    fn socket_that_is_full() -> (std::net::TcpListener, Vec<std::net::TcpStream>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut held = Vec::new();
        while held.len() < 8192 {
            match std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
                Ok(stream) => held.push(stream),
                Err(_) => break,
            }
        }
        (listener, held)
    }
}
