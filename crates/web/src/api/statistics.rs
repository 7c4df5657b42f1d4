//! Counts people by what they said. Counted in the background, at most once per interval and never per
//! request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Answered, Api, Call, json};
use crate::consent::store::Tally;
use crate::consent::{State, Timestamp};
use crate::policy::Purpose;
use crate::problem::Problem;

/// How long a request waits for a new count before it gets the old one.
const PATIENCE: Duration = Duration::from_secs(2);
/// The same if the last count took longer than this: the new one then serves later requests.
const BRIEF: Duration = Duration::from_millis(20);

/// How many people said what to a controller.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Statistics {
    /// The controller.
    controller: String,
    /// When it was counted.
    #[schema(format = DateTime)]
    counted_at: String,
    /// The number of people about whom something is recorded.
    people: u64,
    /// The number of these who must never be tracked.
    no_track: u64,
    /// Counts by purpose.
    purposes: Vec<PurposeCount>,
}

/// How many people said what about a purpose.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PurposeCount {
    /// The purpose.
    purpose: &'static str,
    /// The number of people with a standing grant at that time: not expired, and nothing against it.
    allowed: u64,
    /// Counts by the state last recorded.
    states: BTreeMap<&'static str, u64>,
}

/// The newest count.
#[derive(Debug, Default)]
pub(super) struct Counts {
    newest: Mutex<Option<Arc<Counted>>>,
    /// Held by the task that counts.
    counting: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
pub(super) struct Counted {
    at: Timestamp,
    since: Instant,
    /// How long counting took.
    took: Duration,
    of: BTreeMap<String, Tally>,
}

pub(super) async fn statistics(call: Call) -> Answered {
    call.query(&[])?;
    let controller = call.controller()?;
    let counted = counted(&call.api, call.live.config.api.statistics_max_age).await?;
    let nothing = Tally::default();
    let tally = counted.of.get(controller.as_str()).unwrap_or(&nothing);
    let purpose = |purpose: Purpose| PurposeCount {
        purpose: purpose.name(),
        allowed: tally.allowed.get(&purpose).copied().unwrap_or(0),
        states: State::ALL
            .into_iter()
            .map(|state| (state.name(), tally.states.get(&(purpose, state)).copied().unwrap_or(0)))
            .collect(),
    };
    let statistics = Statistics {
        controller: controller.to_string(),
        counted_at: counted.at.to_string(),
        people: tally.people,
        no_track: tally.no_track,
        purposes: Purpose::ALL.into_iter().map(purpose).collect(),
    };
    json(StatusCode::OK, &statistics)
}

/// Returns a recent count, or the newest there is if a new one takes long.
async fn counted(api: &Arc<Api>, max_age: Duration) -> Result<Arc<Counted>, Problem> {
    let newest = || api.counts.newest.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let asked = Instant::now();
    let is_fresh = |counted: &Arc<Counted>| counted.since >= asked || asked - counted.since < max_age;
    if let Some(counted) = newest().filter(is_fresh) {
        return Ok(counted);
    }
    let patience = newest().filter(|counted| counted.took > BRIEF).map_or(PATIENCE, |_| BRIEF);
    let work = tokio::spawn(count(Arc::clone(api), asked));
    match (tokio::time::timeout(patience, work).await, newest()) {
        (Ok(Ok(Err(problem))), _) => Err(problem),
        (_, Some(counted)) => Ok(counted),
        _ => Err(Problem::unavailable("Counting is still in progress")),
    }
}

/// Counts, unless somebody else has done so since `asked`.
async fn count(api: Arc<Api>, asked: Instant) -> Result<(), Problem> {
    let counting = Arc::clone(&api.counts.counting);
    let _turn = counting.lock().await;
    let newest = api.counts.newest.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if newest.is_some_and(|counted| counted.since >= asked) {
        return Ok(());
    }
    let (at, since) = (Timestamp::now(), Instant::now());
    let of = api.ask(move |store| store.count(at)).await?;
    *api.counts.newest.lock().unwrap_or_else(PoisonError::into_inner) =
        Some(Arc::new(Counted { at, since, took: since.elapsed(), of }));
    Ok(())
}

/// Counts before anybody asks, so that the first request need not wait.
pub(super) fn ahead(api: &Arc<Api>) {
    tokio::spawn(count(Arc::clone(api), Instant::now()));
}
