//! Notifies controllers of changes to their people's consent: signed, in order, and repeated until accepted.
//!
//! A person is identified by the controller's external_id and by the keyed hash, never by an address. Pending
//! events are in an outbox on disk before the change is acknowledged, so that no crash loses them; an event
//! may be sent twice, and has an id. Of several relays one tells at a time.

mod send;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::config;
use crate::consent::ordered::Name;
use crate::consent::store::Entered;
use crate::consent::{Controller, Store};
use crate::mapping::secret;
use crate::outbox::{Kind, Now, Waiting, within};
use send::Receiver;

/// The maximum number of changes in one request.
const BATCH: usize = 100;
/// How long to wait after a failed attempt; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The maximum wait.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// The body: some changes, oldest first.
#[derive(Debug, Serialize)]
struct Message<'a> {
    controller: &'a str,
    events: Vec<Event<'a>>,
    /// How many earlier changes the receiver is not told of because too many waited.
    #[serde(skip_serializing_if = "is_zero")]
    missed: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A change.
#[derive(Debug, Serialize)]
struct Event<'a> {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    controller: &'a str,
    record: u64,
    person: String,
    external_id: Option<String>,
    purposes: Vec<&'static str>,
    state: &'static str,
    event_time: String,
    recorded_at: String,
    no_track: Option<bool>,
    method: Option<String>,
    channel: Option<String>,
}

/// One controller's webhook.
struct Webhook {
    waiting: Arc<Waiting>,
    receiver: Receiver,
}

/// Returns the name of what the one relay of a cluster holds that tells a controller of changes.
pub fn lease(store: &Store, controller: &Controller) -> Name {
    store.lease_name(&[b"webhook", controller.as_str().as_bytes()])
}

/// Webhooks that note changes, and do not send them yet.
pub struct Webhooks(Vec<Arc<Webhook>>);

impl std::fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Webhooks({})", self.0.len())
    }
}

/// Opens the webhooks of a configuration; [`watch`](crate::outbox::watch) has changes noted for them.
///
/// # Errors
///
/// When a secret, a certificate authority or an outbox cannot be used.
pub fn open(settings: &config::Api, data_directory: &Path, store: &Store) -> Result<Webhooks, String> {
    let folder = data_directory.join("webhooks");
    let mut webhooks = Vec::new();
    for webhook in &settings.webhooks {
        let secret =
            secret(&webhook.secret_file).map_err(|error| format!("api.webhook.secret_file {error}"))?;
        let receiver = Receiver::new(&webhook.url, &secret, webhook.ca_file.as_deref())?;
        let controller = &webhook.controller;
        let waiting = Waiting::open(
            (Kind::Webhook, &folder, controller.as_str()),
            (controller, "a webhook".to_owned()),
            lease(store, controller),
            store,
            settings.webhook_max_waiting,
        )?;
        webhooks.push(Arc::new(Webhook { waiting: Arc::new(waiting), receiver }));
    }
    Ok(Webhooks(webhooks))
}

impl Webhooks {
    /// Returns what waits for each.
    pub fn waiting(&self) -> Vec<Arc<Waiting>> {
        self.0.iter().map(|webhook| Arc::clone(&webhook.waiting)).collect()
    }

    /// Sends changes, for as long as the process lives. A store that is one of several follows their order by now.
    pub fn start(self, store: &Arc<Store>) {
        for webhook in self.0 {
            tokio::spawn(tell(webhook, Arc::clone(store)));
        }
    }
}

/// Notifies one receiver of changes, for as long as the process lives.
async fn tell(webhook: Arc<Webhook>, store: Arc<Store>) {
    let mut pause = FIRST_PAUSE;
    let waiting = &webhook.waiting;
    let mut turn = waiting.turn(&store);
    waiting.begin(&store, &turn).await;
    let count = |result: &'static str| {
        let controller = waiting.controller.to_string();
        metrics::counter!("pixelward_webhook_deliveries_total", "controller" => controller, "result" => result)
            .increment(1);
    };
    loop {
        waiting.drop_told(&turn).await;
        metrics::gauge!("pixelward_webhook_waiting", "controller" => waiting.controller.to_string())
            .set(waiting.outbox.waiting() as f64);
        if waiting.outbox.waiting() == 0 {
            pause = FIRST_PAUSE;
            waiting.news.notified().await;
            continue;
        }
        let until = match turn.come(waiting.outbox.told()).await {
            Now::Here(until) => until,
            Now::Elsewhere => continue,
        };
        match within(until, deliver(&webhook, &store)).await {
            Ok(()) => {
                pause = FIRST_PAUSE;
                turn.say(waiting.outbox.told(), waiting.outbox.waiting() == 0).await;
                count("taken");
            }
            Err(error) => {
                count("failed");
                tracing::warn!(
                    controller = %waiting.controller,
                    %error,
                    again_in_s = pause.as_secs(),
                    "a webhook did not accept changes"
                );
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Sends the next batch of pending changes.
async fn deliver(webhook: &Arc<Webhook>, store: &Arc<Store>) -> Result<(), String> {
    let (waiting, books) = (Arc::clone(&webhook.waiting), Arc::clone(store));
    let gathered = tokio::task::spawn_blocking(move || gather(&waiting, &books)).await;
    let (last, missed, body) = gathered.map_err(|error| error.to_string())??;
    if let Some(body) = body {
        webhook.receiver.send(body).await?;
    }
    match last {
        Some(last) => webhook.waiting.sent(last, missed).await,
        None => Ok(()),
    }
}

/// The number of the last change, how many were missed, and the body.
type Gathered = (Option<u64>, u64, Option<String>);

fn gather(waiting: &Waiting, store: &Store) -> Result<Gathered, String> {
    let (entries, missed) = waiting.outbox.next(BATCH).map_err(|error| error.to_string())?;
    let controller = waiting.controller.as_str();
    let outward = store.outward(&waiting.controller);
    let mut events = Vec::new();
    for (number, person) in &entries {
        let found =
            store.entry_of(&waiting.controller, *person, *number).map_err(|error| error.to_string())?;
        // People erased meanwhile are left out.
        let person = outward.shown(*person);
        events.extend(found.map(|(entered, named)| event(controller, person, entered, named)));
    }
    let last = entries.last().map(|(number, _)| *number);
    let message = Message { controller, events, missed };
    let body = (!message.events.is_empty() || (missed > 0 && last.is_some()))
        .then(|| serde_json::to_string(&message).map_err(|error| error.to_string()))
        .transpose()?;
    Ok((last, missed, body))
}

fn event<'a>(
    controller: &'a str,
    person: String,
    entered: Entered,
    external_id: Option<String>,
) -> Event<'a> {
    let change = entered.change;
    Event {
        id: format!("{controller}-{}", entered.number),
        kind: "consent.changed",
        controller,
        record: entered.number,
        person,
        external_id,
        purposes: change.purposes.iter().map(|purpos| purpos.name()).collect(),
        state: change.state.name(),
        event_time: change.event_at.to_string(),
        recorded_at: entered.recorded_at.to_string(),
        no_track: change.no_track,
        method: change.details.method,
        channel: change.details.channel,
    }
}
