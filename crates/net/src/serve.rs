//! Serving HTTP/1.1 within limits: so many connections ([`crate::seats`]), each with so much time for TLS, a
//! header, and silence.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::seats::{Answering, Seat, Seats};

/// The maximum size of a request header, in bytes.
const MAX_HEADER: usize = 32 * 1024;
/// The maximum number of fields in a request header.
const MAX_FIELDS: usize = 64;
/// How long accepting pauses when the system has no descriptors left.
const BREATH: Duration = Duration::from_millis(100);

/// A bound listener.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    /// The bound address, with the assigned port if 0 was requested.
    pub address: SocketAddr,
}

/// Binds an address.
///
/// # Errors
///
/// When it is not available.
pub async fn bind(address: SocketAddr) -> io::Result<Bound> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    Ok(Bound { listener, address })
}

impl Bound {
    /// Serves until dropped. Those beyond the limit wait to be accepted, no longer than others only wait.
    /// `service` names what is served for the log, and `limits` says what holds for the next connection.
    pub async fn serve<L>(self, service: Service, max_connections: usize, routes: axum::Router, limits: L)
    where
        L: Fn() -> Limits,
    {
        let seats = Seats::new(max_connections);
        loop {
            let seat = seats.take().await;
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let (routes, limits) = (routes.clone(), limits());
                    tokio::spawn(async move {
                        let ended = seated(&seat, connection(stream, routes, limits, &seat)).await;
                        if let (Err(error), true) = (ended, service.logs_clients) {
                            tracing::debug!(%peer, %error, "a connection to {} ended", service.name);
                        }
                    });
                }
                Err(error) => {
                    tracing::error!(%error, "connections to {} cannot be accepted", service.name);
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
    }
}

/// What is served, as the log names it.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// Its name.
    pub name: &'static str,
    /// Whether the addresses of its clients may be logged.
    pub logs_clients: bool,
}

/// What holds for a connection.
pub struct Limits {
    /// How long it may be silent.
    pub patience: Duration,
    /// For the handshake, where it is over TLS.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

/// How a connection ended: why, if early.
type Ended = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Waits until a connection ends, or must leave its seat to another.
async fn seated(seat: &Seat, connection: impl Future<Output = Ended>) -> Ended {
    tokio::select! {
        ended = connection => ended,
        () = seat.left() => Err("closed for a new connection because its client was idle".into()),
    }
}

async fn connection(stream: TcpStream, routes: axum::Router, limits: Limits, seat: &Arc<Seat>) -> Ended {
    let Limits { patience, tls } = limits;
    stream.set_nodelay(true)?;
    match tls {
        None => talk(stream, routes, patience, seat).await,
        Some(config) => {
            let stream = timeout(patience, TlsAcceptor::from(config).accept(stream)).await??;
            talk(stream, routes, patience, seat).await
        }
    }
}

/// Answers the requests of one connection.
async fn talk<S>(stream: S, routes: axum::Router, patience: Duration, seat: &Arc<Seat>) -> Ended
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (routes, seat) = (TowerToHyperService::new(routes), Arc::clone(seat));
    let service = service_fn(move |request: Request<Incoming>| {
        let answering = seat.answers();
        let answered = routes.call(request);
        async move {
            answered
                .await
                .map(|answer| answer.map(|body: Body| Body::new(Sent { body, _answering: answering })))
        }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_headers(MAX_FIELDS)
        .max_buf_size(MAX_HEADER)
        .serve_connection(TokioIo::new(stream), service)
        .await?;
    Ok(())
}

/// The body of a response, which marks the end of the response when it is sent.
struct Sent {
    body: Body,
    _answering: Answering,
}

impl hyper::body::Body for Sent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
