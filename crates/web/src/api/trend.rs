//! Answers over time, by day, purpose and source. Counted from the journal in the background, at most once
//! per interval and never per request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Answered, Api, Call, json};
use crate::consent::Timestamp;
use crate::consent::said::Told;
use crate::problem::Problem;

/// The number of days that are counted.
const DAYS: i64 = 365;
/// How long a request waits for a new count before it gets the old one.
const PATIENCE: Duration = Duration::from_secs(2);
/// The same if the last count took longer than this: the new one then serves later requests.
const BRIEF: Duration = Duration::from_millis(20);

/// What people said over time.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Trend {
    /// The controller.
    controller: String,
    /// When it was counted.
    #[schema(format = DateTime)]
    counted_at: String,
    /// The counts, by day.
    answers: Vec<Answer>,
}

/// How many people gave an answer on a day.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Answer {
    /// The day on which it was said.
    #[schema(format = Date)]
    day: String,
    /// The purpose.
    purpose: &'static str,
    /// The channel through which it came, else the method; `unnamed` if neither was given, and `erased` for
    /// people who were erased.
    source: String,
    /// The answer: granted, refused, withdrawn or objected.
    state: &'static str,
    /// The number of records.
    count: u64,
}

/// The newest count.
#[derive(Debug, Default)]
pub(super) struct Trends {
    newest: Mutex<Option<Arc<Counted>>>,
    /// Held by the task that counts.
    counting: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Counted {
    at: Timestamp,
    since: Instant,
    /// How long counting took.
    took: Duration,
    of: BTreeMap<Told, u64>,
}

pub(super) async fn trend(call: Call) -> Answered {
    let (first, last) = super::figures::days_asked(&call)?;
    let controller = call.controller()?.to_string();
    let counted = counted(&call.api, call.live.config.api.statistics_max_age).await?;
    let own = counted
        .of
        .iter()
        .filter(|(told, _)| told.controller == controller && told.day >= first && told.day <= last);
    let answers = own.map(|(told, count)| Answer {
        day: told.day.clone(),
        purpose: told.purpose.name(),
        source: told.source.clone(),
        state: told.state.name(),
        count: *count,
    });
    let answers = answers.collect();
    json(StatusCode::OK, &Trend { controller, counted_at: counted.at.to_string(), answers })
}

/// Returns a recent count, or the newest there is if a new one takes long.
async fn counted(api: &Arc<Api>, max_age: Duration) -> Result<Arc<Counted>, Problem> {
    let asked = Instant::now();
    if let Some(counted) = newest(api).filter(|counted| counted.since + max_age > asked) {
        return Ok(counted);
    }
    let patience = newest(api).filter(|counted| counted.took > BRIEF).map_or(PATIENCE, |_| BRIEF);
    let work = tokio::spawn(count(Arc::clone(api), asked));
    match (tokio::time::timeout(patience, work).await, newest(api)) {
        (Ok(Ok(Err(problem))), _) => Err(problem),
        (_, Some(counted)) => Ok(counted),
        _ => Err(Problem::unavailable("Counting is still in progress")),
    }
}

fn newest(api: &Api) -> Option<Arc<Counted>> {
    api.trends.newest.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Counts, unless somebody else has done so since `asked`.
async fn count(api: Arc<Api>, asked: Instant) -> Result<(), Problem> {
    let _turn = api.trends.counting.lock().await;
    if newest(&api).is_some_and(|counted| counted.since >= asked) {
        return Ok(());
    }
    let (at, since) = (Timestamp::now(), Instant::now());
    let of = api.ask(move |store| store.trend(at.plus_days(-DAYS))).await?;
    *api.trends.newest.lock().unwrap_or_else(PoisonError::into_inner) =
        Some(Arc::new(Counted { at, since, took: since.elapsed(), of }));
    Ok(())
}

/// Counts before anybody asks, so that the first request need not wait.
pub(super) fn ahead(api: &Arc<Api>) {
    tokio::spawn(count(Arc::clone(api), Instant::now()));
}
