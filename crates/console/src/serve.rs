//! Serving pages within limits, until told to stop.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::client::Client;
use super::saml::Saml;
use super::{Console, guard};
use crate::config::ClientCertificate;
use crate::config::console::Console as Settings;
use crate::net::Tls;
use crate::net::seats::{Seat, Seats};
use crate::net::serve::{Ended, bind, seated, talk};

/// How long accepting pauses when the system has no descriptors left.
const BREATH: Duration = Duration::from_millis(100);

/// Serves pages until SIGTERM or SIGINT.
pub(super) async fn serve(config: Settings, api: Client) -> Result<(), Box<dyn std::error::Error>> {
    // Before readiness is reported: a signal without a handler would end the process.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let pair = config.server.certificate.as_ref();
    let tls = pair.map(|(chain, key)| Tls::load(chain, key, &ClientCertificate::None)).transpose()?;
    let saml = Saml::of(&config).await?;
    let wanted = config.server.address;
    let bound = bind(wanted).await.map_err(|error| format!("{wanted} is not available: {error}"))?;
    let console = Console::new(config, api, saml.clone(), bound.address);
    let renewal = saml.map(|saml| tokio::spawn(saml.keep_fresh()));
    tracing::info!(address = %bound.address, url = %console.base(), "the console is served");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let routes = guard::router(&console);
    let seats = Seats::new(console.config.server.max_connections);
    loop {
        let (seat, accepted) = tokio::select! {
            accepted = async { (seats.take().await, bound.accept().await) } => accepted,
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        };
        match accepted {
            Ok(stream) => {
                let (routes, tls) = (routes.clone(), tls.as_ref().map(|tls| Arc::clone(&tls.config)));
                let patience = console.config.server.idle_timeout;
                tokio::spawn(async move {
                    let talked = connection(stream, tls, routes, patience, &seat);
                    if let Err(error) = seated(&seat, talked).await {
                        tracing::debug!(%error, "a connection to the console ended");
                    }
                });
            }
            Err(error) => {
                tracing::error!(%error, "connections to the console cannot be accepted");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
    renewal.iter().for_each(tokio::task::JoinHandle::abort);
    tracing::info!("the console has ended");
    Ok(())
}

async fn connection(
    stream: TcpStream,
    tls: Option<Arc<rustls::ServerConfig>>,
    routes: axum::Router,
    patience: Duration,
    seat: &Arc<Seat>,
) -> Ended {
    stream.set_nodelay(true)?;
    match tls {
        None => talk(stream, routes, patience, seat).await,
        Some(tls) => {
            let stream = timeout(patience, TlsAcceptor::from(tls).accept(stream)).await??;
            talk(stream, routes, patience, seat).await
        }
    }
}
