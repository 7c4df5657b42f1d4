//! Accepts connections, within limits.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::clients::Clients;
use super::connection;
use crate::pipeline::Pipeline;

/// A bound listener.
#[derive(Debug)]
pub struct Bound {
    socket: TcpListener,
    index: usize,
    /// The address, with the assigned port if 0 was requested.
    pub address: SocketAddr,
}

/// Takes an existing socket. `index` is the listener's index in the configuration.
///
/// # Errors
///
/// When it cannot be used.
pub fn adopt(socket: std::net::TcpListener, index: usize) -> io::Result<Bound> {
    socket.set_nonblocking(true)?;
    let socket = TcpListener::from_std(socket)?;
    let address = socket.local_addr()?;
    Ok(Bound { socket, index, address })
}

/// Binds an address. `index` is the listener's index in the configuration.
///
/// # Errors
///
/// When the address is not available.
pub fn bind(address: SocketAddr, index: usize) -> io::Result<Bound> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    adopt(socket.into(), index)
}

/// How long accepting pauses when the system has no descriptors left.
const BREATH: Duration = Duration::from_millis(100);
/// How long it is not said again that there are none.
const SILENCE: Duration = Duration::from_secs(60);

impl Bound {
    /// Serves clients until `stop` is set, and then until the last session has ended. Dropping the future
    /// ends the others.
    pub async fn serve(self, pipeline: Arc<Pipeline>, mut stop: watch::Receiver<bool>) {
        let clients = Arc::new(Clients::default());
        let mut sessions = JoinSet::new();
        let told = stop.clone();
        let mut said: Option<Instant> = None;
        loop {
            tokio::select! {
                accepted = self.socket.accept() => match accepted {
                    Ok((stream, peer)) => {
                        self.session(stream, peer, &pipeline, &clients, &told, &mut sessions);
                    }
                    Err(error) => {
                        // Not logged ten times a second, nor whenever one that ended made room for another.
                        if said.is_none_or(|at| at.elapsed() >= SILENCE) {
                            said = Some(Instant::now());
                            tracing::error!(
                                %error, listener = %self.address,
                                "connections cannot be accepted; clients wait for others to finish; is the \
                                 limit of open files too low?"
                            );
                        }
                        metrics::counter!("pixelward_accept_errors_total").increment(1);
                        tokio::time::sleep(BREATH).await;
                    }
                },
                Some(ended) = sessions.join_next(), if !sessions.is_empty() => report(ended),
                () = told_to_stop(&mut stop) => break,
            }
        }
        drop(self.socket);
        while let Some(ended) = sessions.join_next().await {
            report(ended);
        }
    }

    fn session(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        pipeline: &Arc<Pipeline>,
        clients: &Arc<Clients>,
        stop: &watch::Receiver<bool>,
        sessions: &mut JoinSet<()>,
    ) {
        let live = pipeline.live();
        let Some(settings) = live.config.listeners.get(self.index) else { return };
        let place = clients.place(settings.max_connections);
        let (pipeline, stop, index) = (Arc::clone(pipeline), stop.clone(), self.index);
        sessions.spawn(async move {
            match place {
                Some(place) => connection::serve(stream, peer, index, &pipeline, place, stop).await,
                None => connection::turn_away(stream).await,
            }
        });
    }
}

/// Waits until the relay is told to stop.
pub(super) async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Logs a session that panicked; the others continue.
fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        // The panic's own line names the place; the error would quote what the session held.
        tracing::error!("a session ended in an internal error");
        metrics::counter!("pixelward_session_panics_total").increment(1);
    }
}
