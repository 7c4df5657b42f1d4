//! The REST API `/v1`: consent, policy and statistics for programs that hold a token.
//!
//! `routes.rs` has the one table of what there is; `guard.rs` is the way of each request to its handler. Promised: a write is acknowledged once
//! the journal is synced; an address stands in bodies alone, never in a path or a query, so that no access log between here and there has one.

mod audit;
mod consent;
mod delivery;
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
mod replay;
mod routes;
mod rules;
mod statistics;
mod system;
mod what_if;

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::http::{HeaderMap, Response, StatusCode};
use bytes::Bytes;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::{Semaphore, oneshot};

use crate::consent::{Controller, Person, Store, StoreError, Timestamp};
use crate::live::Live;
use crate::pipeline::Pipeline;
use crate::web::problem::Problem;
use crate::web::token::{Grant, Tokens};

pub use routes::{Access, ROUTES, Route};

/// How many writes may be on their way to the store at once: fewer than it lets wait, so that none ever blocks a thread of the runtime.
const WRITES: usize = 512;

/// How many may look through the evidence at once: it reads from disk and decompresses.
const SEARCHES: usize = 4;

/// What all requests share.
pub struct Api {
    pipeline: Arc<Pipeline>,
    store: Arc<Store>,
    tokens: Tokens,
    metrics: PrometheusHandle,
    rates: rate::Rates,
    replays: Arc<replay::Replays>,
    counts: statistics::Counts,
    days: figures::Days,
    trail: audit::Kept,
    writes: Semaphore,
    searches: Semaphore,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Api({:?})", self.tokens)
    }
}

/// One request that may be answered.
struct Call {
    api: Arc<Api>,
    live: Arc<Live>,
    /// What the token allows; nothing on routes that need none.
    grant: Option<Grant>,
    /// The controller of the path.
    controller: Option<Controller>,
    /// The person of the path.
    person: Option<Person>,
    /// What else the path names.
    name: String,
    query: String,
    headers: HeaderMap,
    /// The body, where it is read as a whole.
    body: Bytes,
    /// The body, where it is not. Behind a lock only because a body cannot be shared between threads.
    stream: Mutex<Option<Body>>,
    now: Timestamp,
}

type Answered = Result<Response<Body>, Problem>;
type Handler = fn(Call) -> Pin<Box<dyn Future<Output = Answered> + Send>>;

impl Api {
    /// What requests share. `metrics` is what /metrics shows.
    pub fn new(pipeline: Arc<Pipeline>, store: Arc<Store>, metrics: PrometheusHandle) -> Arc<Api> {
        let live = pipeline.live();
        let settings = &live.config.api;
        describe();
        Arc::new(Api {
            tokens: Tokens::of(&settings.tokens_file),
            rates: rate::Rates::default(),
            replays: replay::Replays::new(settings.idempotency_keys),
            counts: statistics::Counts::default(),
            days: figures::Days::default(),
            trail: audit::Kept::at(&live.config.data_directory.join("audit")),
            writes: Semaphore::new(WRITES),
            searches: Semaphore::new(SEARCHES),
            pipeline,
            store,
            metrics,
        })
    }

    /// Every route, and what answers where there is none. People are counted meanwhile.
    pub fn router(self: &Arc<Api>) -> axum::Router {
        statistics::ahead(self);
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
                tracing::error!("a look into the consent store ended in an internal error");
                Err(Problem::internal())
            }
        }
    }

    /// Hands a write to the store, and waits for the word that it is durable.
    async fn write<T: Send + 'static>(
        &self,
        hand_over: impl FnOnce(&Store, oneshot::Sender<Result<T, StoreError>>) -> Result<(), StoreError>,
    ) -> Result<T, Problem> {
        let _turn =
            self.writes.acquire().await.map_err(|_| Problem::unavailable("The API takes no more writes"))?;
        let (done, written) = oneshot::channel();
        hand_over(&self.store, done)?;
        written
            .await
            .map_err(|_| Problem::unavailable("The consent store takes no more writes"))?
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

    /// Who enters what is recorded.
    fn actor(&self) -> String {
        self.grant.as_ref().map_or_else(|| "api".to_owned(), |grant| format!("token {}", grant.name))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The values of the query, each of which must be one of `known` and stand there once.
    fn query(&self, known: &[&str]) -> Result<Vec<(String, String)>, Problem> {
        let uri: axum::http::Uri =
            format!("/?{}", self.query).parse().map_err(|_| Problem::malformed("query: it is malformed"))?;
        let axum::extract::Query(pairs) = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&uri)
            .map_err(|_| Problem::malformed("query: it is malformed"))?;
        for (index, (name, _)) in pairs.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                return Err(Problem::malformed(format!("query: there is {} alone", known.join(", "))));
            }
            if pairs.iter().take(index).any(|(other, _)| other == name) {
                return Err(Problem::malformed(format!("query: {name} stands there twice")));
            }
        }
        Ok(pairs)
    }
}

/// An answer in JSON.
fn json(status: StatusCode, value: &impl serde::Serialize) -> Answered {
    let body = serde_json::to_vec(value).map_err(|error| {
        tracing::error!(%error, "an answer of the API cannot be written");
        Problem::internal()
    })?;
    Ok(typed(status, "application/json", body))
}

/// An answer of a type.
fn typed(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn describe() {
    metrics::describe_counter!("pixelward_api_requests_total", "Requests to the API by route and status");
    metrics::describe_histogram!(
        "pixelward_api_seconds",
        metrics::Unit::Seconds,
        "Time to answer a request to the API, by route; of an import, until its answer begins"
    );
    metrics::describe_counter!(
        "pixelward_webhook_deliveries_total",
        "Times that changes were sent to a webhook, by controller and whether they were taken"
    );
    metrics::describe_gauge!("pixelward_webhook_waiting", "Changes that wait for a webhook, by controller");
    metrics::describe_counter!(
        "pixelward_webhook_missed_total",
        "Changes that a webhook is not told of, since too many waited or they could not be written down"
    );
}
