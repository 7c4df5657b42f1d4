//! Serves HTTP/1.1 within limits: on connections ([`super::seats`]), and on the time for TLS, headers and
//! silence.

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
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::seats::{Answering, Seat, Seats};
use crate::live::Live;
use crate::pipeline::Pipeline;
use crate::server::Tls;

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

/// The service offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The API, for programs that hold a token.
    Api,
    /// The preference page and pixels, for readers. Their addresses are not logged.
    Public,
}

impl Door {
    const fn name(self) -> &'static str {
        match self {
            Door::Api => "the API",
            Door::Public => "the public listener",
        }
    }

    fn max_connections(self, live: &Live) -> usize {
        match self {
            Door::Api => live.config.api.max_connections,
            Door::Public => live.config.public.max_connections,
        }
    }

    fn patience(self, live: &Live) -> Duration {
        match self {
            Door::Api => live.config.api.idle_timeout,
            Door::Public => live.config.public.idle_timeout,
        }
    }

    const fn tls(self, live: &Live) -> Option<&Tls> {
        match self {
            Door::Api => live.api_tls.as_ref(),
            Door::Public => live.public_tls.as_ref(),
        }
    }
}

impl Bound {
    /// Accepts the next connection.
    ///
    /// # Errors
    ///
    /// When none can be accepted at the moment.
    pub async fn accept(&self) -> io::Result<TcpStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }

    /// Serves until dropped. Connections beyond the limit wait to be accepted, no longer than others are
    /// idle.
    pub async fn serve(self, door: Door, routes: axum::Router, pipeline: Arc<Pipeline>) {
        let seats = Seats::new(door.max_connections(&pipeline.live()));
        loop {
            let seat = seats.take().await;
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let (routes, pipeline) = (routes.clone(), Arc::clone(&pipeline));
                    tokio::spawn(async move {
                        let ended = seated(&seat, connection(stream, door, routes, &pipeline, &seat)).await;
                        if let (Err(error), Door::Api) = (ended, door) {
                            tracing::debug!(%peer, %error, "a connection to the API ended");
                        }
                    });
                }
                Err(error) => {
                    tracing::error!(%error, "connections to {} cannot be accepted", door.name());
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
    }
}

/// How a connection ended.
pub type Ended = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Waits until a connection ends, or must leave its seat to another.
///
/// # Errors
///
/// Why it ended early.
pub async fn seated(seat: &Seat, connection: impl Future<Output = Ended>) -> Ended {
    tokio::select! {
        ended = connection => ended,
        () = seat.left() => Err("closed for a new connection because its client was idle".into()),
    }
}

async fn connection(
    stream: TcpStream,
    door: Door,
    routes: axum::Router,
    pipeline: &Pipeline,
    seat: &Arc<Seat>,
) -> Ended {
    let live = pipeline.live();
    let patience = door.patience(&live);
    stream.set_nodelay(true)?;
    match door.tls(&live) {
        None => talk(stream, routes, patience, seat).await,
        Some(tls) => {
            let acceptor = TlsAcceptor::from(Arc::clone(&tls.config));
            let stream = timeout(patience, acceptor.accept(stream)).await??;
            talk(stream, routes, patience, seat).await
        }
    }
}

/// Answers the requests of one connection.
///
/// # Errors
///
/// Why it ended early.
pub async fn talk<S>(stream: S, routes: axum::Router, patience: Duration, seat: &Arc<Seat>) -> Ended
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
