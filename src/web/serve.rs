//! Serving HTTP/1.1 within limits: so many connections, each with so much time for TLS, a header, and silence.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::pipeline::Pipeline;

/// The largest header of a request, in bytes.
const MAX_HEADER: usize = 32 * 1024;
/// The most fields of a request's header.
const MAX_FIELDS: usize = 64;
/// How long accepting pauses when the system has no descriptors left.
const BREATH: Duration = Duration::from_millis(100);

/// A listener that has its address.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    /// The address, with the port that was given where 0 was asked for.
    pub address: SocketAddr,
}

/// Takes an address.
///
/// # Errors
///
/// When it cannot be had.
pub async fn bind(address: SocketAddr) -> io::Result<Bound> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    Ok(Bound { listener, address })
}

impl Bound {
    /// Serves the API until dropped. Those beyond the limit wait to be accepted.
    pub async fn serve(self, routes: axum::Router, pipeline: Arc<Pipeline>) {
        let places = Arc::new(Semaphore::new(pipeline.live().config.api.max_connections));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let (routes, pipeline) = (routes.clone(), Arc::clone(&pipeline));
                    tokio::spawn(async move {
                        if let Err(error) = connection(stream, routes, &pipeline).await {
                            tracing::debug!(%peer, %error, "a connection to the API ended");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::error!(%error, "connections to the API cannot be accepted");
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
    }
}

type Ended = Result<(), Box<dyn std::error::Error + Send + Sync>>;

async fn connection(stream: TcpStream, routes: axum::Router, pipeline: &Pipeline) -> Ended {
    let live = pipeline.live();
    let patience = live.config.api.idle_timeout;
    stream.set_nodelay(true)?;
    match &live.api_tls {
        None => talk(stream, routes, patience).await,
        Some(tls) => {
            let acceptor = TlsAcceptor::from(Arc::clone(&tls.config));
            let stream = timeout(patience, acceptor.accept(stream)).await??;
            talk(stream, routes, patience).await
        }
    }
}

async fn talk<S>(stream: S, routes: axum::Router, patience: Duration) -> Ended
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_headers(MAX_FIELDS)
        .max_buf_size(MAX_HEADER)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes))
        .await?;
    Ok(())
}
