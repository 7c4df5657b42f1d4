//! Many clients at once: good ones that hand over one message after another, slow ones, and idle ones; and a
//! next hop that only counts.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic
)]

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// How many connections are made at the same time, so that none is lost before it is accepted.
const AT_ONCE: usize = 200;
/// No client waits longer for one answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lets this process, and those it starts, open so many files. Only root may go beyond what the system
/// allows.
pub fn raise_open_files(count: u64) {
    let has = getrlimit(Resource::Nofile);
    let maximum = has.maximum.map(|item| item.max(count));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    assert!(raised.is_ok(), "{count} open files are needed, and the system allows {:?}", has.maximum);
}

/// The loopback address with this number, so that no address needs more ports than there are.
pub fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 2, 1 + (number % 100) as u8)
}

pub async fn connect(from: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_nodelay(true)?;
    socket.bind(SocketAddr::from((from, 0)))?;
    socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await
}

/// One reply with all its lines; an error where the connection ends before.
pub async fn reply(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let mut said = Vec::new();
    let mut piece = [0; 2048];
    loop {
        let read = timeout(PATIENCE, stream.read(&mut piece)).await??;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        said.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&said);
        if text.ends_with("\r\n")
            && text.lines().last().is_some_and(|line| line.as_bytes().get(3) == Some(&b' '))
        {
            return Ok(text.into_owned());
        }
    }
}

pub async fn say(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), line: &str) -> io::Result<String> {
    stream.write_all(line.as_bytes()).await?;
    reply(stream).await
}

/// A next hop that takes everything and counts messages.
pub async fn swallow() -> (u16, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicU64::new(0));
    let shared = Arc::clone(&count);
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let count = Arc::clone(&shared);
            tokio::spawn(async move { swallow_one(stream, &count).await });
        }
    });
    (port, count)
}

async fn swallow_one(mut stream: TcpStream, count: &AtomicU64) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(b"220 next-hop.example ESMTP\r\n").await?;
    let mut read = Vec::with_capacity(1 << 16);
    let mut in_data = false;
    loop {
        let mut out = Vec::new();
        loop {
            let end: &[u8] = if in_data { b"\r\n.\r\n" } else { b"\r\n" };
            let Some(at) = memchr::memmem::find(&read, end) else {
                if in_data {
                    // Of a message only what may be its end is kept.
                    read.drain(..read.len().saturating_sub(end.len()));
                }
                break;
            };
            let line: Vec<u8> = read.drain(..at + end.len()).collect();
            out.extend_from_slice(match line.get(..4) {
                _ if in_data => {
                    count.fetch_add(1, Ordering::Relaxed);
                    in_data = false;
                    b"250 2.0.0 Ok\r\n"
                }
                Some(b"EHLO") => {
                    b"250-next-hop.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 60000000\r\n"
                }
                Some(b"DATA") => {
                    in_data = true;
                    b"354 Go\r\n"
                }
                _ => b"250 2.0.0 Ok\r\n".as_slice(),
            });
        }
        stream.write_all(&out).await?;
        if stream.read_buf(&mut read).await? == 0 {
            return Ok(());
        }
    }
}

const LETTER: &str = "From: <news@shop.example>\r\nTo: <ann@home.example>\r\nSubject: News\r\nMessage-ID: \
                      <1@shop.example>\r\n\r\nNews of the week.\r\n.\r\n";

/// Hands over messages until the deadline, or so many; gives how many were taken.
pub async fn good(port: u16, from: Ipv4Addr, until: Instant, most: u64) -> io::Result<u64> {
    let mut stream = connect(from, port).await?;
    let mut taken = 0;
    let wanted = |said: String, code: &str| {
        if said.starts_with(code) {
            Ok(())
        } else {
            Err(io::Error::other(format!("{said} instead of {code}")))
        }
    };
    wanted(reply(&mut stream).await?, "220")?;
    wanted(say(&mut stream, "EHLO good.example\r\n").await?, "250")?;
    while taken < most && Instant::now() < until {
        wanted(say(&mut stream, "MAIL FROM:<news@shop.example>\r\n").await?, "250")?;
        wanted(say(&mut stream, "RCPT TO:<ann@home.example>\r\n").await?, "250")?;
        wanted(say(&mut stream, "DATA\r\n").await?, "354")?;
        wanted(say(&mut stream, LETTER).await?, "250")?;
        taken += 1;
    }
    Ok(taken)
}

/// How a client is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slow {
    /// It says nothing.
    Silent,
    /// Its commands come byte by byte.
    Commands,
    /// Its message comes byte by byte.
    Data,
    /// It says much, and reads nothing.
    Deaf,
}

pub const SLOW: [Slow; 4] = [Slow::Silent, Slow::Commands, Slow::Data, Slow::Deaf];

/// A slow client with so much time between two bytes, up to its end; gives the last that was said to it. It
/// counts itself in `begun` when it begins to be slow.
pub async fn slow(
    port: u16,
    from: Ipv4Addr,
    kind: Slow,
    every: Duration,
    begun: Arc<AtomicU64>,
) -> io::Result<String> {
    let mut stream = connect(from, port).await?;
    let mut said = reply(&mut stream).await?;
    if kind == Slow::Data {
        for line in [
            "EHLO slow.example\r\n",
            "MAIL FROM:<slow@shop.example>\r\n",
            "RCPT TO:<ann@home.example>\r\n",
            "DATA\r\n",
        ] {
            said = say(&mut stream, line).await?;
        }
    }
    begun.fetch_add(1, Ordering::Relaxed);
    let text = match kind {
        Slow::Silent => "".to_owned(),
        Slow::Commands => "EHLO slow.example\r\nMAIL FROM:<slow@shop.example>\r\n".repeat(1000),
        Slow::Data => format!("Subject: slow\r\n\r\n{}", "text\r\n".repeat(1000)),
        Slow::Deaf => "EHLO deaf.example\r\n".repeat(500_000),
    };
    if kind == Slow::Deaf {
        // It ends when the relay has closed the connection, whatever was sent by then.
        let _ = stream.write_all(text.as_bytes()).await;
        return Ok(said);
    }
    let mut bytes = text.bytes();
    let mut ticks = tokio::time::interval(every);
    let mut piece = [0; 2048];
    loop {
        tokio::select! {
            read = stream.read(&mut piece) => match read {
                Ok(0) | Err(_) => return Ok(said),
                Ok(read) => said = String::from_utf8_lossy(&piece[..read]).into_owned(),
            },
            _ = ticks.tick() => if let Some(byte) = bytes.next() {
                let _ = stream.write_all(&[byte]).await;
            },
        }
    }
}

/// A connection that was greeted and does nothing.
pub enum Idle {
    Clear(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Idle {
    async fn new(number: usize, port: u16, tls: Option<TlsConnector>) -> io::Result<Idle> {
        let mut stream = connect(address(number), port).await?;
        reply(&mut stream).await?;
        say(&mut stream, "EHLO idle.example\r\n").await?;
        let Some(tls) = tls else { return Ok(Idle::Clear(stream)) };
        say(&mut stream, "STARTTLS\r\n").await?;
        let name = ServerName::try_from("localhost").unwrap();
        let mut secure = tls.connect(name, stream).await?;
        say(&mut secure, "EHLO idle.example\r\n").await?;
        Ok(Idle::Tls(Box::new(secure)))
    }

    /// Whether it is still served.
    pub async fn is_served(&mut self) -> bool {
        let said = match self {
            Idle::Clear(stream) => say(stream, "NOOP\r\n").await,
            Idle::Tls(stream) => say(stream, "NOOP\r\n").await,
        };
        said.is_ok_and(|said| said.starts_with("250 "))
    }
}

/// So many idle connections.
pub async fn idle(count: usize, port: u16, tls: Option<&TlsConnector>) -> Vec<Idle> {
    let (mut made, mut making) = (Vec::with_capacity(count), JoinSet::<io::Result<Idle>>::new());
    for number in 0..count {
        if making.len() == AT_ONCE {
            made.push(making.join_next().await.unwrap().unwrap().unwrap());
        }
        making.spawn(Idle::new(number, port, tls.cloned()));
    }
    while let Some(one) = making.join_next().await {
        made.push(one.unwrap().unwrap());
    }
    made
}

/// TLS that trusts one authority. Sessions are not resumed: each connection pays for its own.
pub fn connector(ca: &Path) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    TlsConnector::from(Arc::new(config))
}
