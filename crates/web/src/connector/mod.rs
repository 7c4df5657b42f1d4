//! Writes each choice to the contact that a sending service keeps of the person, in the service's own words.
//!
//! It is always what holds at that moment that is written, so that repeating is harmless and nothing stale arrives;
//! each person is written once at a time. Changes wait in an outbox on disk, and of several relays one writes at a
//! time. What a service does not take is listed and tried again on demand. `services/` describes the services.

mod attempt;
mod auth;
mod book;
mod choice;
mod dead;
mod echo;
mod pace;
mod resolver;
mod round;
mod service;
pub mod socket;
mod template;
pub mod view;
mod work;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::{self, Config};
use crate::consent::ordered::Name;
use crate::consent::{Change, Controller, Person, Store, Timestamp};
use crate::outbox::{Kind, Waiting};
use crate::policy::Purpose;
use book::Book;
pub use book::{Errand, Sample};
use dead::{DeadLetters, Reason};
use echo::Echoes;
use pace::Pace;
use resolver::Resolver;
use service::Service;
pub use service::{check, named};

/// The maximum size of an answer of a service, in bytes.
const MOST_OF_ANSWER: usize = 1 << 20;
/// How long a service is left alone that does not accept the credential.
const LOCKED: Duration = Duration::from_secs(300);
/// How often the same kind of trouble is logged.
const QUIET: Duration = Duration::from_secs(60);

/// What writes to one service.
#[derive(Debug)]
pub(crate) struct Connector {
    name: String,
    waiting: Arc<Waiting>,
    service: Service,
    resolver: Option<Resolver>,
    purposes: Vec<Purpose>,
    /// The actors of changes that the same service reported.
    own: HashSet<String>,
    is_paused: bool,
    pace: Pace,
    dead: DeadLetters,
    book: Book,
    echoes: Echoes,
    successes: AtomicU64,
    /// Whether one person is tried although the service is locked.
    is_trying: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    locked: Option<Lock>,
    /// What it came to since the start, by result.
    counts: BTreeMap<&'static str, u64>,
    /// When trouble was logged last.
    warned: Option<Instant>,
    failure: Option<String>,
    /// When the service last did what it was asked.
    succeeded: Option<Timestamp>,
}

/// A service that does not accept who asks.
#[derive(Clone, Debug)]
struct Lock {
    why: String,
    again: Instant,
}

/// All connectors of a relay.
#[derive(Clone, Debug, Default)]
pub struct Connectors(Arc<Vec<Arc<Connector>>>);

/// Returns the name of what the one relay of a cluster holds that writes to a service.
pub fn lease(store: &Store, controller: &Controller, name: &str) -> Name {
    store.lease_name(&[b"connector", controller.as_str().as_bytes(), b"\0", name.as_bytes()])
}

/// Returns the actor of changes that come by a webhook of this name.
pub(crate) fn actor(name: &str) -> String {
    format!("webhook {name}")
}

/// Opens the connectors of a configuration; [`watch`](crate::outbox::watch) has changes noted for them.
///
/// # Errors
///
/// When a description, a credential, a certificate authority or a file cannot be used.
pub fn open(config: &Config, store: &Store) -> Result<Connectors, String> {
    let folder = config.data_directory.join("connectors");
    let opened = config.connectors.iter().map(|connector| {
        let opened = Connector::open(connector, &folder, store);
        opened.map(Arc::new).map_err(|error| format!("connector {}: {error}", connector.name))
    });
    Ok(Connectors(Arc::new(opened.collect::<Result<_, _>>()?)))
}

impl Connectors {
    /// Returns what waits for each.
    pub fn waiting(&self) -> Vec<Arc<Waiting>> {
        self.0.iter().map(|connector| Arc::clone(&connector.waiting)).collect()
    }

    /// Writes changes, for as long as the process lives. A store that is one of several follows their order by now.
    pub fn start(&self, store: &Arc<Store>) {
        for connector in self.0.iter() {
            tokio::spawn(work::work(Arc::clone(connector), Arc::clone(store)));
        }
    }

    /// Returns whether a grant that a service reported by a webhook, by this name, may be nothing but a grant that was
    /// written to it lately: that is no new one.
    pub fn is_echo(&self, name: &str, person: Person, grant: &Change) -> bool {
        let actor = actor(name);
        self.of(Some(&grant.controller)).any(|connector| {
            connector.own.contains(&actor)
                && grant.purposes.iter().all(|purpose| connector.purposes.contains(purpose))
                && connector.echoes.has_granted(person, Instant::now())
        })
    }

    /// Returns a controller's connectors; all without a controller.
    fn of<'a>(&'a self, controller: Option<&'a Controller>) -> impl Iterator<Item = &'a Arc<Connector>> {
        self.0
            .iter()
            .filter(move |one| controller.is_none_or(|controller| one.waiting.controller == *controller))
    }
}

impl Connector {
    fn open(settings: &config::Connector, folder: &Path, store: &Store) -> Result<Connector, String> {
        let service = Service::of(settings)?;
        service.auth.check()?;
        let (controller, name) = (&settings.controller, &settings.name);
        // Neither has a plus in it.
        let file = format!("{controller}+{name}");
        let waiting = Waiting::open(
            (Kind::Connector, folder, &file),
            (controller, format!("the connector {name}")),
            lease(store, controller, name),
            store,
            settings.max_waiting,
        )?;
        let own: HashSet<String> = settings.same_as.iter().map(|name| actor(name)).collect();
        let unusable = |error: std::io::Error| format!("its files in {}: {error}", folder.display());
        Ok(Connector {
            name: name.clone(),
            waiting: Arc::new(waiting),
            resolver: settings.resolver.as_ref().map(Resolver::of).transpose()?,
            purposes: settings.purposes.clone(),
            echoes: Echoes::new(!own.is_empty()),
            own,
            is_paused: settings.is_paused,
            pace: Pace::of(service.requests_per_second, service.burst, service.concurrency),
            dead: DeadLetters::open(folder, &file).map_err(unusable)?,
            book: Book::open(folder, &file).map_err(unusable)?,
            successes: AtomicU64::new(0),
            is_trying: AtomicBool::new(false),
            state: Mutex::new(State::default()),
            service,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what came of one person.
    fn count(&self, result: &'static str) {
        *self.state().counts.entry(result).or_default() += 1;
        metrics::counter!(
            "pixelward_connector_results_total",
            "controller" => self.waiting.controller.to_string(), "connector" => self.name.clone(),
            "result" => result
        )
        .increment(1);
    }

    /// Shows how it stands to whoever asks for metrics.
    fn show(&self) {
        let labels =
            || [("controller", self.waiting.controller.to_string()), ("connector", self.name.clone())];
        metrics::gauge!("pixelward_connector_waiting", &labels()).set(self.waiting.outbox.waiting() as f64);
        let (counts, left_out) = self.dead.counts();
        let dead: u64 = counts.values().sum();
        metrics::gauge!("pixelward_connector_dead_letters", &labels()).set((dead + left_out) as f64);
        let is_stopped = f64::from(u8::from(self.locked().is_some()));
        metrics::gauge!("pixelward_connector_stopped", &labels()).set(is_stopped);
    }

    /// Logs trouble, not too often.
    fn warn(&self, error: &str) {
        let mut state = self.state();
        state.failure = Some(error.to_owned());
        if state.warned.is_none_or(|at| at.elapsed() >= QUIET) {
            state.warned = Some(Instant::now());
            tracing::warn!(
                controller = %self.waiting.controller, connector = self.name, error,
                "a connector cannot do all it should; it goes on trying"
            );
        }
    }

    /// Keeps the last failure, and logs it if nothing has worked for a while.
    fn note_failure(&self, error: &str) {
        if self.pace.quiet(Instant::now()) >= Duration::from_secs(1) {
            self.warn(error);
        } else {
            self.state().failure = Some(error.to_owned());
        }
    }

    /// Returns why the service takes nothing; `None` if it does.
    fn locked(&self) -> Option<String> {
        self.state().locked.as_ref().map(|lock| lock.why.clone())
    }

    /// Returns whether nothing is tried for now.
    fn is_waiting_for_help(&self) -> bool {
        self.is_trying.store(false, std::sync::atomic::Ordering::Relaxed);
        self.state().locked.as_ref().is_some_and(|lock| Instant::now() < lock.again)
    }

    /// Returns whether the caller is the one who tries.
    fn may_try_lock(&self) -> bool {
        !self.is_trying.swap(true, std::sync::atomic::Ordering::Relaxed)
    }

    /// Stops until somebody has looked, but for one try now and then.
    fn lock(&self, why: &str) {
        let again = Instant::now() + LOCKED;
        let before = self.state().locked.replace(Lock { why: why.to_owned(), again });
        if before.is_none() {
            tracing::error!(
                controller = %self.waiting.controller, connector = self.name, why,
                "a connector stopped; nothing is lost. Correct its credential, then run `pixelward connector retry`"
            );
        }
    }

    fn unlock(&self) {
        if self.state().locked.take().is_some() {
            tracing::info!(
                controller = %self.waiting.controller, connector = self.name,
                "a connector works again"
            );
        }
    }

    /// Has everything tried at once that waits for better times.
    async fn resume(&self) {
        self.service.auth.forget().await;
        self.pace.resume();
        if let Some(lock) = self.state().locked.as_mut() {
            lock.again = Instant::now();
        }
        self.waiting.news.notify_one();
    }
}
