//! A byte stream to a client or a next hop, in clear or over TLS, with a buffer for what was read and not yet
//! used.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsStream;

/// A connection, in clear or over TLS.
#[derive(Debug)]
pub enum Stream {
    /// In clear.
    Clear(TcpStream),
    /// Over TLS.
    Tls(Box<TlsStream<TcpStream>>),
    /// Over a socket of this machine.
    Local(UnixStream),
}

impl Stream {
    /// Whether TLS is on.
    pub fn is_tls(&self) -> bool {
        matches!(self, Stream::Tls(_))
    }

    /// Takes the TCP connection out, to start TLS on it.
    pub fn into_clear(self) -> Option<TcpStream> {
        match self {
            Stream::Clear(tcp) => Some(tcp),
            Stream::Tls(_) | Stream::Local(_) => None,
        }
    }

    /// When the other side's certificate expires, in seconds since 1970; `None` without TLS.
    pub fn certificate_end(&self) -> Option<i64> {
        let Stream::Tls(tls) = self else { return None };
        let (_, connection) = tls.get_ref();
        crate::certificate::end(connection.peer_certificates()?.first()?)
    }

    /// The TLS version and cipher suite, for the trace header and the log.
    pub fn tls_description(&self) -> Option<String> {
        let Stream::Tls(tls) = self else { return None };
        let (_, connection) = tls.get_ref();
        let version = connection
            .protocol_version()
            .and_then(|version| version.as_str().map(|text| text.replace("v1_", "v1.")));
        let suite =
            connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str().map(str::to_owned));
        Some(format!("{} {}", version.unwrap_or_default(), suite.unwrap_or_default()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Clear(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Stream::Tls(tls) => Pin::new(tls.as_mut()).poll_read(cx, buf),
            Stream::Local(socket) => Pin::new(socket).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Clear(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Stream::Tls(tls) => Pin::new(tls.as_mut()).poll_write(cx, buf),
            Stream::Local(socket) => Pin::new(socket).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Clear(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Stream::Tls(tls) => Pin::new(tls.as_mut()).poll_write_vectored(cx, bufs),
            Stream::Local(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Clear(tcp) => Pin::new(tcp).poll_flush(cx),
            Stream::Tls(tls) => Pin::new(tls.as_mut()).poll_flush(cx),
            Stream::Local(socket) => Pin::new(socket).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Clear(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Stream::Tls(tls) => Pin::new(tls.as_mut()).poll_shutdown(cx),
            Stream::Local(socket) => Pin::new(socket).poll_shutdown(cx),
        }
    }
}

/// A stream with what was read from it and not used yet.
#[derive(Debug)]
pub struct Wire {
    /// The stream. Whoever replaces it must see that [`Wire::pending`] is empty.
    pub stream: Stream,
    buffer: Vec<u8>,
    used: usize,
}

/// Bytes read at once.
const READ: usize = 64 * 1024;
/// How many buffers a thread keeps for the next stream that has something to say.
const MOST_SPARE: usize = 16;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer, one that was used before where there is one.
fn buffer() -> Vec<u8> {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Keeps a buffer for the next who needs one.
fn spare(mut buffer: Vec<u8>) {
    buffer.clear();
    if (READ..=2 * READ).contains(&buffer.capacity()) {
        SPARE.with_borrow_mut(|all| {
            if all.len() < MOST_SPARE {
                all.push(buffer);
            }
        });
    }
}

impl Wire {
    /// A wire over a fresh stream. It has a buffer only while something is in it, so that who waits costs
    /// little.
    pub fn new(stream: Stream) -> Wire {
        Wire { stream, buffer: Vec::new(), used: 0 }
    }

    /// What was read and not used yet.
    pub fn pending(&self) -> &[u8] {
        self.buffer.get(self.used..).unwrap_or_default()
    }

    /// Marks bytes as used.
    pub fn consume(&mut self, bytes: usize) {
        self.used = self.used.saturating_add(bytes).min(self.buffer.len());
        if self.used == self.buffer.len() {
            self.used = 0;
            spare(std::mem::take(&mut self.buffer));
        }
    }

    /// Takes the next line, without its end, out of what was read. `None` where no whole line is there.
    pub fn line(&mut self) -> Option<Vec<u8>> {
        let pending = self.pending();
        let end = memchr::memchr(b'\n', pending)?;
        let line = pending.get(..end).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
        self.consume(end + 1);
        Some(line)
    }

    /// Reads more. `Ok(0)` is the end of the stream.
    ///
    /// # Errors
    ///
    /// Those of the stream.
    pub async fn fill(&mut self) -> io::Result<usize> {
        if self.used > 0 {
            self.buffer.drain(..self.used);
            self.used = 0;
        }
        poll_fn(|cx| self.poll_fill(cx)).await
    }

    /// Reads more into `room`, behind what stands there, where that is given; all that was read before must have been
    /// used. `Ok(0)` is the end of the stream.
    ///
    /// # Errors
    ///
    /// Those of the stream.
    pub async fn fill_into(&mut self, room: Option<&mut Vec<u8>>) -> io::Result<usize> {
        match room {
            Some(room) => (&mut self.stream).take(READ as u64).read_buf(room).await,
            None => self.fill().await,
        }
    }

    /// Takes back what was read into somebody's room and is not for them.
    pub fn put_back(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.buffer.capacity() == 0 {
            self.buffer = buffer();
        }
        self.buffer.reserve(READ);
        let read = pin!(self.stream.read_buf(&mut self.buffer)).poll(cx);
        if read.is_pending() && self.buffer.is_empty() {
            spare(std::mem::take(&mut self.buffer));
        }
        read
    }

    /// Writes and flushes.
    ///
    /// # Errors
    ///
    /// Those of the stream.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Writes slices in as few system calls as possible, and flushes.
    ///
    /// # Errors
    ///
    /// Those of the stream.
    pub async fn send_slices(&mut self, slices: &[&[u8]]) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> =
            slices.iter().filter(|slice| !slice.is_empty()).map(|slice| IoSlice::new(slice)).collect();
        let mut left = slices.as_mut_slice();
        while !left.is_empty() {
            let written = self.stream.write_vectored(left).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            IoSlice::advance_slices(&mut left, written);
        }
        self.stream.flush().await
    }
}
