//! The REST API `/v1`: consent, policy and statistics for programs that hold a token.
//!
//! `routes.rs` has the only table of routes; `guard.rs` takes each request to its handler. Promised: a write
//! is acknowledged once the journal is synced; addresses appear only in bodies, never in a path or a query,
//! so they reach no access log along the way.

mod archive;
mod audit;
mod connectors;
mod consent;
mod delivery;
mod deployments;
mod evidence;
mod explain;
mod export;
mod figures;
mod guard;
mod history;
mod import;
mod incoming;
mod links;
mod model;
mod openapi;
mod page;
mod people;
mod preference_page;
mod rate;
mod reading;
mod relays;
mod replay;
mod routes;
pub(crate) mod rules;
mod statistics;
mod system;
mod trend;
mod what_if;

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::http::{HeaderMap, Response, StatusCode};
use bytes::Bytes;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::{Semaphore, oneshot};

use crate::api_token::{Grant, Tokens};
use crate::connector::Connectors;
use crate::consent::{Controller, Person, Store, StoreError, Timestamp};
use crate::live::{Host, Live};
use crate::problem::Problem;
use crate::record::audit::Trail;

pub use routes::{Access, ROUTES, Route};

/// The maximum number of writes on their way to the store: fewer than its queue holds, so that none blocks a
/// thread of the runtime.
const WRITES: usize = 512;

/// The maximum number of concurrent searches of the audit records, which read from disk and decompress.
const SEARCHES: usize = 4;

/// The state shared by all requests.
pub struct Api {
    host: Arc<dyn Host>,
    store: Arc<Store>,
    tokens: Tokens,
    metrics: PrometheusHandle,
    rates: rate::Rates,
    replays: Arc<replay::Replays>,
    counts: statistics::Counts,
    days: figures::Days,
    trends: trend::Trends,
    trail: Arc<Trail>,
    connectors: Connectors,
    writes: Semaphore,
    searches: Semaphore,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Api({:?})", self.tokens)
    }
}

/// A request that may be answered.
struct Call {
    api: Arc<Api>,
    live: Arc<Live>,
    /// What the token allows; `None` on routes that need no token.
    grant: Option<Grant>,
    /// The controller in the path.
    controller: Option<Controller>,
    /// The person in the path.
    person: Option<Person>,
    /// Any other name in the path.
    name: String,
    query: String,
    headers: HeaderMap,
    /// The body, if it is read as a whole.
    body: Bytes,
    /// The body, if it is streamed. Behind a lock only because a body cannot be shared between threads.
    stream: Mutex<Option<Body>>,
    now: Timestamp,
    /// Whether another relay asks, which has checked who may ask it.
    is_of_relay: bool,
}

type Answered = Result<Response<Body>, Problem>;
type Handler = fn(Call) -> Pin<Box<dyn Future<Output = Answered> + Send>>;

impl Api {
    /// Creates the shared state. `metrics` is what /metrics serves.
    pub fn new(
        host: Arc<dyn Host>,
        store: Arc<Store>,
        metrics: PrometheusHandle,
        trail: Arc<Trail>,
        connectors: Connectors,
    ) -> Arc<Api> {
        let live = host.live();
        let settings = &live.config.api;
        describe();
        Arc::new(Api {
            tokens: Tokens::of(&settings.tokens_file),
            rates: rate::Rates::default(),
            replays: replay::Replays::new(settings.idempotency_keys),
            counts: statistics::Counts::default(),
            days: figures::Days::default(),
            trends: trend::Trends::default(),
            trail,
            connectors,
            writes: Semaphore::new(WRITES),
            searches: Semaphore::new(SEARCHES),
            host,
            store,
            metrics,
        })
    }

    /// Builds all routes and the fallback, and starts counting people and answers in the background.
    pub fn router(self: &Arc<Api>) -> axum::Router {
        statistics::ahead(self);
        trend::ahead(self);
        guard::router(self)
    }

    /// Asks the store something that may read from disk.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        let store = Arc::clone(&self.store);
        let asked = tokio::task::spawn_blocking(move || question(&store)).await;
        match asked {
            Ok(answer) => answer.map_err(Problem::from),
            Err(_) => {
                tracing::error!("an internal error occurred while reading the consent store");
                Err(Problem::internal())
            }
        }
    }

    /// Hands a write to the store, and waits until it is durable.
    async fn write<T: Send + 'static>(
        &self,
        hand_over: impl FnOnce(&Store, oneshot::Sender<Result<T, StoreError>>) -> Result<(), StoreError>,
    ) -> Result<T, Problem> {
        let _turn = self
            .writes
            .acquire()
            .await
            .map_err(|_| Problem::unavailable("The API accepts no more writes"))?;
        let (done, written) = oneshot::channel();
        hand_over(&self.store, done)?;
        written
            .await
            .map_err(|_| Problem::unavailable("The consent store accepts no more writes"))?
            .map_err(Problem::from)
    }
}

impl Call {
    fn controller(&self) -> Result<&Controller, Problem> {
        self.controller.as_ref().ok_or_else(Problem::internal)
    }

    fn person(&self) -> Result<Person, Problem> {
        self.person.ok_or_else(Problem::internal)
    }

    /// Returns who is recorded as having entered a change.
    fn actor(&self) -> String {
        self.grant.as_ref().map_or_else(|| "api".to_owned(), |grant| format!("token {}", grant.name))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Reads the values of the query; each must be in `known` and occur once.
    fn query(&self, known: &[&str]) -> Result<Vec<(String, String)>, Problem> {
        let uri: axum::http::Uri =
            format!("/?{}", self.query).parse().map_err(|_| Problem::malformed("query: malformed"))?;
        let axum::extract::Query(pairs) = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&uri)
            .map_err(|_| Problem::malformed("query: malformed"))?;
        for (index, (name, _)) in pairs.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                return Err(Problem::malformed(format!(
                    "query: the only parameters are {}",
                    known.join(", ")
                )));
            }
            if pairs.iter().take(index).any(|(other, _)| other == name) {
                return Err(Problem::malformed(format!("query: {name} occurs more than once")));
            }
        }
        Ok(pairs)
    }
}

/// Builds a JSON response.
fn json(status: StatusCode, value: &impl serde::Serialize) -> Answered {
    let body = serde_json::to_vec(value).map_err(|error| {
        tracing::error!(%error, "an API response cannot be serialised");
        Problem::internal()
    })?;
    Ok(typed(status, "application/json", body))
}

/// Builds a response of a given type.
fn typed(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn describe() {
    metrics::describe_counter!("pixelward_api_requests_total", "API requests by route and status");
    metrics::describe_histogram!(
        "pixelward_api_seconds",
        metrics::Unit::Seconds,
        "Time to answer an API request, by route; for imports, until the response begins"
    );
    metrics::describe_counter!(
        "pixelward_webhook_deliveries_total",
        "Attempts to send changes to a webhook, by controller and whether they were accepted"
    );
    metrics::describe_gauge!("pixelward_webhook_waiting", "Changes waiting for a webhook, by controller");
    metrics::describe_counter!(
        "pixelward_webhook_missed_total",
        "Changes that a webhook is not told of because too many waited or they could not be written"
    );
    metrics::describe_gauge!(
        "pixelward_connector_waiting",
        "Changes waiting for a connector, by controller and connector"
    );
    metrics::describe_gauge!(
        "pixelward_connector_dead_letters",
        "People of whom a service could not be told, by controller and connector"
    );
    metrics::describe_gauge!(
        "pixelward_connector_stopped",
        "1 while a service does not accept the credential, by controller and connector"
    );
    metrics::describe_counter!(
        "pixelward_connector_results_total",
        "What came of telling services of people, by controller, connector and result"
    );
    metrics::describe_counter!(
        "pixelward_connector_missed_total",
        "Changes for which connectors had no room; all people are written then"
    );
}
