//! `pixelward run`: the relay.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::ConfigPath;
use crate::config::Config;
use crate::consent::{Settings, Store, socket};
use crate::live::Live;
use crate::pipeline::Pipeline;
use crate::record::audit::Trail;
use crate::record::evidence::Evidence;
use crate::record::{self, deployments, logging};
use crate::relay::Ledger;
use crate::server::{Activated, adopt, bind, descriptors};
use crate::web::door::{self, Door};
use crate::web::metrics;
use crate::{consent, guarded, web};

/// Run the relay
///
/// SIGTERM and SIGINT stop it: no new sessions are accepted, and those that are handing over a message may
/// finish; a second signal stops at once. SIGHUP rereads the configuration, the catalogues and the
/// certificates.
#[derive(Args, Debug)]
pub struct Run {
    #[command(flatten)]
    config: ConfigPath,
}

/// Runs the relay until it is told to stop.
///
/// # Errors
///
/// Whatever prevents it from starting.
pub fn run(command: &Run) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let config = Config::load(&command.config.path)?;
    logging::start(&config.log)?;
    guarded::log_panics();
    descriptors::raise(&config);
    let handle = metrics::start()?;
    let store = Arc::new(Store::open(&store_settings(&config))?);
    let live = Live::of(config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let private = live.config.private;
        let ledger = Ledger::open(&live.config.data_directory.join("ledger"))?;
        let evidence = evidence(&live.config, &store)?;
        // Before anything is heard of other relays, which is to be told, too.
        let webhooks = web::webhook::open(&live.config.api, &live.config.data_directory, &store)?;
        let connectors = web::connector::open(&live.config, &store)?;
        web::outbox::watch(&store, [webhooks.waiting(), connectors.waiting()].concat());
        #[cfg(feature = "cluster")]
        let member = crate::cluster::start(&live.config, &store).await?;
        #[cfg(not(feature = "cluster"))]
        if live.config.cluster.is_on() {
            return Err("this program was built without what a cluster needs: take [cluster] out".into());
        }
        let pipeline = Pipeline::new(live, Arc::clone(&store), ledger, evidence);
        #[cfg(feature = "cluster")]
        if let Some(member) = &member {
            pipeline.among(Box::new(Arc::downgrade(member)));
        }
        webhooks.start(&store);
        connectors.start(&store);
        let settings = &pipeline.live().config;
        let trail = Arc::new(Trail::at(&settings.data_directory.join("audit")));
        let host: Arc<dyn web::Host> = pipeline.clone();
        let interface = web::api::Api::new(
            host,
            Arc::clone(&store),
            handle.clone(),
            Arc::clone(&trail),
            connectors.clone(),
        );
        #[cfg(feature = "cluster")]
        if let Some(member) = &member {
            member.answer_from(&interface);
        }
        api(&pipeline, &interface).await?;
        public(&pipeline, &store).await?;
        tokio::spawn(metrics::sort(handle.clone()));
        if let Some(address) = private {
            let taken = |error| taken("private.address", address, &error);
            let listener = tokio::net::TcpListener::bind(address).await.map_err(taken)?;
            let serving =
                metrics::serve(listener, &settings.private_access, handle, Arc::clone(&pipeline) as _)?;
            tokio::spawn(serving);
        }
        socket::serve(&pipeline.live().config.data_directory, Arc::clone(&store))?;
        web::connector::socket::serve(&pipeline.live().config.data_directory, &connectors, &store)?;
        let served = serve(&pipeline, &store, &command.config.path, &trail).await;
        pipeline.flush().await;
        for pool in pipeline.live().web.pools() {
            pool.close().await;
        }
        pipeline.close();
        store.flush_opens();
        #[cfg(feature = "cluster")]
        drop(member);
        served
    })?;
    drop(runtime);
    drop(store);
    Ok(ExitCode::SUCCESS)
}

/// Says which address is not available. A relay that lacks one of them is not ready.
fn taken(setting: &str, address: SocketAddr, error: &io::Error) -> String {
    format!("{setting}: {address} is not available: {error}. Is another server running there?")
}

/// Serves the API.
async fn api(pipeline: &Arc<Pipeline>, api: &Arc<web::api::Api>) -> Result<(), String> {
    let Some(address) = pipeline.live().config.api.address else { return Ok(()) };
    let bound = crate::net::serve::bind(address).await;
    let bound = bound.map_err(|error| taken("api.address", address, &error))?;
    tracing::info!(address = %bound.address, "the API is served");
    let host: Arc<dyn web::Host> = pipeline.clone();
    tokio::spawn(door::serve(bound, Door::Api, api.router(), host));
    Ok(())
}

/// Serves the preference page and pixels.
async fn public(pipeline: &Arc<Pipeline>, store: &Arc<Store>) -> Result<(), String> {
    let Some(address) = pipeline.live().config.public.address else { return Ok(()) };
    let bound = crate::net::serve::bind(address).await;
    let bound = bound.map_err(|error| taken("public.address", address, &error))?;
    tracing::info!(address = %bound.address, "the preference page and pixels are served");
    let host: Arc<dyn web::Host> = pipeline.clone();
    let public = web::public::Public::new(Arc::clone(&host), Arc::clone(store));
    let routes = public.router();
    let pages = public_urls(&pipeline.live().config);
    tokio::spawn(async move { web::probe::warn_of_other_relays(&pages, public.mark()).await });
    tokio::spawn(door::serve(bound, Door::Public, routes, host));
    Ok(())
}

/// Lists each controller that has pages for readers, with their address.
fn public_urls(config: &Config) -> Vec<(String, String)> {
    let controllers = config.policy.rulebook.controllers();
    let with_pages =
        controllers.filter_map(|controller| controller.public_url.as_ref().map(|url| (controller, url)));
    with_pages.map(|(controller, url)| (controller.name.to_string(), url.to_string())).collect()
}

/// Returns the store's part of the configuration.
pub fn store_settings(config: &Config) -> Settings {
    Settings {
        directory: config.consent.directory.clone(),
        head_copy: config.consent.head_copy.clone(),
        cache_bytes: config.consent.cache_bytes,
        segment_bytes: config.consent.segment_bytes,
        store_key: config.consent.store_key_file.clone(),
    }
}

/// Opens the audit log, if records are to be kept.
fn evidence(config: &Config, store: &Arc<Store>) -> Result<Option<Evidence>, String> {
    if !config.evidence.enabled {
        return Ok(None);
    }
    let started = Evidence::start(evidence_settings(config), Arc::clone(store));
    started.map(Some).map_err(|error| format!("audit records cannot be kept: {error}"))
}

/// Returns the audit log's part of the configuration.
pub fn evidence_settings(config: &Config) -> record::evidence::Settings {
    record::evidence::Settings {
        directory: config.evidence.directory.clone(),
        head_copy: config.evidence.head_copy.clone(),
        retention_days: config.evidence.retention_days,
        segment_bytes: config.evidence.segment_bytes,
        body_hashes: config.evidence.body_hashes,
        subjects: config.evidence.subjects,
    }
}

/// Serves until told to stop, then lets sessions finish.
async fn serve(
    pipeline: &Arc<Pipeline>,
    store: &Arc<Store>,
    path: &Path,
    trail: &Arc<Trail>,
) -> Result<(), Box<dyn std::error::Error>> {
    // Before readiness is reported: a signal without a handler would end the process.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let (stop, stopped) = watch::channel(false);
    let mut activated = Activated::take()?;
    let mut listeners = tokio::task::JoinSet::new();
    for (index, listener) in pipeline.live().config.listeners.iter().enumerate() {
        let held = activated.at(listener.address);
        let by_systemd = held.is_some();
        let bound = held.map_or_else(|| bind(listener.address, index), |socket| adopt(socket, index));
        let bound = bound.map_err(|error| {
            format!(
                "listener {}: {} is not available: {error}. Is another server running there?",
                listener.name, listener.address
            )
        })?;
        tracing::info!(listener = %listener.name, address = %bound.address, by_systemd, "listening");
        listener.broad_networks().iter().for_each(|told| tracing::warn!("{told}"));
        listeners.spawn(bound.serve(Arc::clone(pipeline), stopped.clone()));
    }
    if !activated.left().is_empty() {
        return Err(format!(
            "the socket unit has {:?}, but no [[listener]] has this address: both must be the same",
            activated.left()
        )
        .into());
    }
    note_deployment(pipeline, trail, "start");
    let learnt = tokio::time::timeout(FIRST_LOOK, learn(pipeline));
    if pipeline.live().config.relay.probe.is_some() && learnt.await.is_err() {
        tracing::warn!("a next hop has not said yet what it accepts; mail is taken meanwhile");
    }
    let next_hops: Vec<String> =
        pipeline.live().web.pools().iter().map(|pool| pool.hop.to_string()).collect();
    tracing::info!(
        next_hop = %next_hops.join(", "),
        mode = ?pipeline.live().config.mode,
        version = env!("CARGO_PKG_VERSION"),
        "pixelward is ready"
    );
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let alive = tokio::spawn(watchdog());
    let learning = tokio::spawn(keep_learning(Arc::clone(pipeline)));
    let upkeep = tokio::spawn(look_after_store(Arc::clone(pipeline), Arc::clone(store)));
    let mut looking = tokio::time::interval(pipeline.live().config.relay.certificate_check);
    looking.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = looking.tick() => look_at_certificates(pipeline),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                if reload(pipeline, path) {
                    note_deployment(pipeline, trail, "reload");
                }
                look_at_certificates(pipeline);
                let pipeline = Arc::clone(pipeline);
                tokio::spawn(async move { learn(&pipeline).await });
            }
        }
    }
    let drain = pipeline.live().config.relay.drain;
    tracing::info!(
        seconds = drain.as_secs(),
        "stopping; sessions that are handing over a message may finish"
    );
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    stop.send_replace(true);
    let finished = async { while listeners.join_next().await.is_some() {} };
    tokio::select! {
        () = finished => tracing::info!("stopped"),
        () = tokio::time::sleep(drain) => tracing::warn!("stopped; sessions that had not finished were \
                                                          closed"),
        _ = terminate.recv() => tracing::warn!("stopped at once"),
        _ = interrupt.recv() => tracing::warn!("stopped at once"),
    }
    listeners.shutdown().await;
    alive.abort();
    upkeep.abort();
    learning.abort();
    Ok(())
}

/// How long the start waits for next hops that are asked what they accept.
const FIRST_LOOK: Duration = Duration::from_secs(3);

/// Asks all next hops what they accept that did not say so lately, so that clients hear it.
async fn learn(pipeline: &Arc<Pipeline>) {
    let live = pipeline.live();
    let Some(probe) = live.config.relay.probe else { return };
    let Some(since) = Instant::now().checked_sub(probe) else { return };
    let mut asking = tokio::task::JoinSet::new();
    for pool in live.web.pools() {
        let pool = Arc::clone(pool);
        asking.spawn(async move { pool.learn(since).await });
    }
    while asking.join_next().await.is_some() {}
}

/// Keeps what next hops accept fresh; after a reload, their pools are new.
async fn keep_learning(pipeline: Arc<Pipeline>) {
    let Some(probe) = pipeline.live().config.relay.probe else { return };
    loop {
        tokio::time::sleep(probe).await;
        learn(&pipeline).await;
    }
}

/// Notifies systemd's watchdog that tasks make progress, twice as often as required.
async fn watchdog() {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else { return };
    let mut turns = tokio::time::interval(limit / 2);
    loop {
        turns.tick().await;
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
    }
}

/// How long after the start the store is maintained first: mail has priority.
const UPKEEP_AFTER: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Maintains the store once a day, in the background.
async fn look_after_store(pipeline: Arc<Pipeline>, store: Arc<Store>) {
    let mut days = tokio::time::interval_at(tokio::time::Instant::now() + UPKEEP_AFTER, DAY);
    loop {
        days.tick().await;
        let pipeline = Arc::clone(&pipeline);
        let store = Arc::clone(&store);
        let look = move || {
            forget_opens(&pipeline, &store);
            pipeline.look_after_store();
        };
        let done = tokio::task::spawn_blocking(look).await;
        if let Err(error) = done {
            tracing::error!(%error, "maintenance of the consent store failed; the log says why");
        }
    }
}

/// Forgets days of last open that are older than their controllers keep them.
fn forget_opens(pipeline: &Pipeline, store: &Store) {
    let today = consent::Day::of(consent::Timestamp::now());
    for controller in pipeline.live().config.policy.rulebook.controllers() {
        let forgotten = store.forget_opens(&controller.name, today.minus(controller.day_retention_days));
        if forgotten > 0 {
            tracing::info!(controller = %controller.name, forgotten, "days of last open were forgotten");
        }
    }
}

/// Rereads certificates that have changed, while sessions continue.
fn look_at_certificates(pipeline: &Arc<Pipeline>) {
    let live = pipeline.live();
    tokio::task::spawn_blocking(move || live.look_at_certificates());
}

/// Leaves an entry in the audit trail if other rules, notices, vendors or keys are in force than before. Mail
/// does not wait for it.
pub(super) fn note_deployment(pipeline: &Arc<Pipeline>, trail: &Arc<Trail>, how: &'static str) {
    let (pipeline, trail) = (Arc::clone(pipeline), Arc::clone(trail));
    tokio::task::spawn_blocking(move || {
        let now = consent::Timestamp::now();
        let snapshot = web::deployed::snapshot(&pipeline.live().web, now);
        pipeline.declare(&snapshot.fingerprint());
        let who = deployer();
        let noted =
            trail.with(|audit| deployments::note(audit, trail.directory(), &snapshot, (&who, how), now));
        match noted {
            Ok(true) => tracing::info!(fingerprint = snapshot.fingerprint(), "other rules are in force"),
            Ok(false) => {}
            Err(error) => {
                tracing::error!(%error, "the audit trail cannot be used to note which rules are in force")
            }
        }
    });
}

/// Names the user that runs this process, and systemd where it does so for them.
fn deployer() -> String {
    let id = rustix::process::getuid().as_raw();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == id.to_string()).then(|| name.to_owned())
    });
    let user = named.unwrap_or_else(|| format!("user {id}"));
    match std::env::var_os("INVOCATION_ID") {
        Some(_) => format!("systemd, as {user}"),
        None => user,
    }
}

/// Rereads everything; keeps the old settings if anything is wrong. Returns whether new ones are in force.
fn reload(pipeline: &Arc<Pipeline>, path: &Path) -> bool {
    let read = Config::load(path).map_err(|error| error.to_string()).and_then(Live::of);
    match read {
        Ok(live) => {
            let broad = live.config.listeners.iter().flat_map(|listener| listener.broad_networks());
            broad.for_each(|told| tracing::warn!("{told}"));
            pipeline.reload(live);
            tracing::info!("the configuration and the certificates were read again");
            true
        }
        Err(error) => {
            tracing::error!(%error, "the configuration was not read again; the old one stays in force");
            false
        }
    }
}
