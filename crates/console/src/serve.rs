//! Serving pages within limits, until told to stop.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use super::client::Client;
use super::saml::Saml;
use super::{Console, guard};
use crate::config::ClientCertificate;
use crate::config::console::Console as Settings;
use crate::net::Tls;
use crate::net::serve::{Limits, Service, bind};

const SERVICE: Service = Service { name: "the console", logs_clients: true };

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
    let limits = || Limits {
        patience: console.config.server.idle_timeout,
        tls: tls.as_ref().map(|tls| Arc::clone(&tls.config)),
    };
    tokio::select! {
        () = bound.serve(SERVICE, console.config.server.max_connections, routes, limits) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    renewal.iter().for_each(tokio::task::JoinHandle::abort);
    tracing::info!("the console has ended");
    Ok(())
}
