//! `pixelward run`: the relay.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::config::{Config, ListenerTls};
use crate::consent::{Settings, Store, socket};
use crate::pipeline::{Live, Pipeline};
use crate::record::{logging, metrics};
use crate::relay::next_hop::tls_config;
use crate::relay::{Credentials, Ledger, NextHop, Pool, Timeouts};
use crate::server::{bind, tls};
use crate::tracker::lists::Lists;
use crate::tracker::{Catalogue, Detector};

/// Run the relay.
///
/// SIGTERM and SIGINT stop it: no new sessions, and those that hand over a message may finish; a second signal ends at once.
/// SIGHUP reads the configuration, the catalogues and the certificates again.
#[derive(Args, Debug)]
pub struct Run {
    /// The configuration.
    #[arg(long, short, default_value = "config.toml", value_name = "FILE")]
    pub config: PathBuf,
}

/// Runs the relay until it is told to stop.
///
/// # Errors
///
/// Whatever keeps it from starting.
pub fn run(command: &Run) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let config = Config::load(&command.config)?;
    logging::start(&config.log)?;
    let handle = metrics::start()?;
    let store = Arc::new(Store::open(&store_settings(&config))?);
    let live = live(config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let private = live.config.private;
        let ledger = Ledger::open(&live.config.data_directory.join("ledger"))?;
        let pipeline = Pipeline::new(live, Arc::clone(&store), ledger);
        if let Some(address) = private {
            let (handle, pipeline) = (handle, Arc::clone(&pipeline));
            tokio::spawn(async move {
                if let Err(error) = metrics::serve(address, handle, pipeline).await {
                    tracing::error!(%address, %error, "metrics cannot be served");
                }
            });
        }
        socket::serve(&pipeline.live().config.data_directory, Arc::clone(&store))?;
        serve(&pipeline, &command.config).await
    })?;
    drop(runtime);
    drop(store);
    Ok(ExitCode::SUCCESS)
}

/// The store's part of the configuration.
pub fn store_settings(config: &Config) -> Settings {
    Settings {
        directory: config.consent.directory.clone(),
        head_copy: config.consent.head_copy.clone(),
        cache_bytes: config.consent.cache_bytes,
        segment_bytes: config.consent.segment_bytes,
    }
}

/// Everything that a configuration leads to and that can be replaced while the relay runs.
///
/// # Errors
///
/// What is wrong with a file that the configuration names.
pub fn live(config: Config) -> Result<Live, String> {
    let mut own = String::new();
    for path in &config.tracker.catalogues {
        own.push_str(&std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?);
        own.push('\n');
    }
    let catalogue = Catalogue::with(&own).map_err(|error| format!("tracker.catalogues: {error}"))?;
    let lists = lists(&config)?;
    let next_hop = next_hop(&config)?;
    let mut certificates = Vec::new();
    for listener in &config.listeners {
        certificates.push(match (listener.tls, &listener.certificate) {
            (ListenerTls::None, _) => None,
            (_, Some((certificate, key))) => Some(tls::load(certificate, key)?),
            (_, None) => {
                let (certificate, key) =
                    tls::development(&config.certificate_directory, &config.relay.host_name)?;
                Some(tls::load(&certificate, &key)?)
            }
        });
    }
    if let (Some(esp), Some(reason)) = (config.next_hop.esp, &config.next_hop.accept_downstream_tracking) {
        tracing::warn!(esp = esp.name(), %reason, "the next hop's service may track behind this relay, which is accepted");
    }
    let controller = config.policy.controller.parse()?;
    Ok(Live {
        controller,
        detector: Detector::new(catalogue).allowing(config.tracker.allow.clone()).listing(lists),
        next_hop: Pool::new(next_hop),
        tls: certificates,
        config,
    })
}

/// The filter lists of a configuration.
fn lists(config: &Config) -> Result<Lists, String> {
    let mut lists = Lists::default();
    for path in &config.tracker.lists {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let before = lists.len();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        for ignored in lists.add(&name, &text) {
            tracing::debug!(list = %path.display(), "{ignored}");
        }
        if lists.len() == before {
            return Err(format!("{}: no line of it is a rule for images in mail", path.display()));
        }
        tracing::info!(list = %path.display(), rules = lists.len() - before, "a filter list was loaded");
    }
    Ok(lists)
}

/// The next hop of a configuration.
///
/// # Errors
///
/// When none is named, it is one of our own listeners, or a file of it cannot be used.
pub fn next_hop(config: &Config) -> Result<NextHop, String> {
    let hop = &config.next_hop;
    if hop.host.is_empty() {
        return Err("next_hop.host is missing: name the server that takes the mail".to_owned());
    }
    let own = |address: &std::net::SocketAddr| {
        address.port() == hop.port
            && (address.ip().to_string() == hop.host || hop.host == "localhost" && address.ip().is_loopback())
    };
    if config.listeners.iter().any(|listener| own(&listener.address)) {
        return Err(format!(
            "next_hop {}:{} is a listener of this relay: mail would run in circles",
            hop.host, hop.port
        ));
    }
    let tls = tls_config(hop.ca_file.as_deref()).map_err(|error| format!("next_hop.ca_file: {error}"))?;
    let mut next_hop = NextHop::new(&hop.host, hop.port, hop.tls, tls, &config.relay.host_name);
    if let Some(path) = &hop.credentials_file {
        next_hop.credentials =
            Some(Credentials::load(path).map_err(|error| format!("next_hop.credentials_file: {error}"))?);
    }
    next_hop.timeouts = Timeouts {
        connect: hop.connect_timeout,
        command: hop.command_timeout,
        data: hop.data_timeout,
        dot: hop.dot_timeout,
        ..next_hop.timeouts
    };
    next_hop.idle = hop.idle;
    next_hop.max_age = hop.max_age;
    next_hop.max_messages = hop.max_messages;
    Ok(next_hop)
}

/// Serves until told to stop, then lets sessions finish.
async fn serve(pipeline: &Arc<Pipeline>, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    // Before anybody is told that we are ready: a signal without a handler would end the process.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let (stop, stopped) = watch::channel(false);
    let mut listeners = tokio::task::JoinSet::new();
    for (index, listener) in pipeline.live().config.listeners.iter().enumerate() {
        let bound = bind(listener.address, index).map_err(|error| {
            format!(
                "listener {}: {} cannot be had: {error}. Is another server there?",
                listener.name, listener.address
            )
        })?;
        tracing::info!(listener = %listener.name, address = %bound.address, "listening");
        listeners.spawn(bound.serve(Arc::clone(pipeline), stopped.clone()));
    }
    tracing::info!(
        next_hop = %pipeline.live().next_hop.hop,
        mode = ?pipeline.live().config.mode,
        version = env!("CARGO_PKG_VERSION"),
        "pixelward is ready"
    );
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => reload(pipeline, path),
        }
    }
    let drain = pipeline.live().config.relay.drain;
    tracing::info!(seconds = drain.as_secs(), "stopping; sessions that hand over a message may finish");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    stop.send_replace(true);
    let finished = async { while listeners.join_next().await.is_some() {} };
    tokio::select! {
        () = finished => tracing::info!("stopped"),
        () = tokio::time::sleep(drain) => tracing::warn!("stopped; sessions that had not finished were cut off"),
        _ = terminate.recv() => tracing::warn!("stopped at once"),
        _ = interrupt.recv() => tracing::warn!("stopped at once"),
    }
    listeners.shutdown().await;
    Ok(())
}

/// Reads everything again; keeps the old where something is wrong.
fn reload(pipeline: &Arc<Pipeline>, path: &Path) {
    let read = Config::load(path).map_err(|error| error.to_string()).and_then(live);
    match read {
        Ok(live) => {
            pipeline.reload(live);
            tracing::info!("the configuration and the certificates were read again");
        }
        Err(error) => {
            tracing::error!(%error, "the configuration was not read again; the old one stays in force")
        }
    }
}
