//! Notifies controllers of changes to their people's consent: signed, in order, and repeated until accepted.
//!
//! A person is identified by the controller's external_id and by the keyed hash, never by an address. Pending
//! events are in an outbox on disk before the change is acknowledged, so that no crash loses them; an event
//! may be sent twice, and has an id. Of several relays one tells at a time.

mod outbox;
mod send;
mod turn;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Notify;

use crate::config;
use crate::consent::ordered::Name;
use crate::consent::store::Entered;
use crate::consent::{Controller, Noted, Store, Watcher};
use crate::mapping::secret;
use outbox::Outbox;
use send::Receiver;
use turn::{Now, Turn};

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
    controller: Controller,
    outbox: Outbox,
    receiver: Receiver,
    news: Notify,
}

/// Notes changes for all webhooks.
struct Notes(Vec<Arc<Webhook>>);

impl Watcher for Notes {
    fn before(&self, changes: &[Noted]) {
        for webhook in &self.0 {
            let changes = changes.iter().filter(|change| change.controller == webhook.controller);
            let noted: Vec<_> = changes.map(|change| (change.number, change.person)).collect();
            if let Err(error) = webhook.outbox.note(&noted) {
                // A choice holds whether or not anybody can be told of it.
                tracing::error!(
                    controller = %webhook.controller,
                    %error,
                    "changes could not be noted for a webhook; it will be told how many"
                );
            }
        }
    }

    fn after(&self, durable: bool) {
        for webhook in &self.0 {
            webhook.outbox.settle(durable);
            webhook.news.notify_one();
        }
    }
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

/// Notes changes from now on. Must be called before anything is recorded.
///
/// # Errors
///
/// When a secret, a certificate authority or an outbox cannot be used.
pub fn open(settings: &config::Api, data_directory: &Path, store: &Store) -> Result<Webhooks, String> {
    if settings.webhooks.is_empty() {
        return Ok(Webhooks(Vec::new()));
    }
    let folder = data_directory.join("webhooks");
    let head = store.head().count;
    let mut webhooks = Vec::new();
    for webhook in &settings.webhooks {
        let secret =
            secret(&webhook.secret_file).map_err(|error| format!("api.webhook.secret_file {error}"))?;
        let receiver = Receiver::new(&webhook.url, &secret, webhook.ca_file.as_deref())?;
        let outbox =
            Outbox::open(&folder, webhook.controller.as_str(), head, settings.webhook_max_waiting)
                .map_err(|error| format!("the outbox of the webhook of {}: {error}", webhook.controller))?;
        let controller = webhook.controller.clone();
        webhooks.push(Arc::new(Webhook { controller, outbox, receiver, news: Notify::new() }));
    }
    store.watch(Box::new(Notes(webhooks.clone())));
    Ok(Webhooks(webhooks))
}

impl Webhooks {
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
    let mut turn = Turn::of(&webhook.controller, &store);
    while let Err(error) = begin(&webhook, &store, &turn).await {
        tracing::warn!(
            controller = %webhook.controller, %error,
            "what a webhook must be told of before this relay joined could not be read; trying again"
        );
        tokio::time::sleep(LONGEST_PAUSE).await;
    }
    loop {
        let controller = webhook.controller.as_str().to_owned();
        if let Some(told) = turn.told().filter(|told| *told > webhook.outbox.told())
            && let Err(error) = drop_told(&webhook, told).await
        {
            tracing::warn!(
                controller,
                error,
                "what another relay told could not be dropped; it is told again"
            );
        }
        metrics::gauge!("pixelward_webhook_waiting", "controller" => controller.clone())
            .set(webhook.outbox.waiting() as f64);
        if webhook.outbox.waiting() == 0 {
            pause = FIRST_PAUSE;
            webhook.news.notified().await;
            continue;
        }
        let until = match turn.come(webhook.outbox.told()).await {
            Now::Here(until) => until,
            Now::Elsewhere => continue,
        };
        match turn::within(until, deliver(&webhook, &store)).await {
            Ok(_) => {
                pause = FIRST_PAUSE;
                turn.say(webhook.outbox.told(), webhook.outbox.waiting() == 0).await;
                metrics::counter!(
                    "pixelward_webhook_deliveries_total",
                    "controller" => controller,
                    "result" => "taken"
                )
                .increment(1);
            }
            Err(error) => {
                metrics::counter!(
                    "pixelward_webhook_deliveries_total",
                    "controller" => controller,
                    "result" => "failed"
                )
                .increment(1);
                tracing::warn!(
                    controller = %webhook.controller,
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

/// Notes what a relay that joined others has in its journal and none of them has told yet.
async fn begin(webhook: &Arc<Webhook>, store: &Arc<Store>, turn: &Turn) -> Result<(), String> {
    let Some(head) = webhook.outbox.is_new() else { return Ok(()) };
    let told = match turn.told() {
        Some(told) if !turn.is_new() => told.min(head),
        // Nobody was to be told of what was before.
        _ => head,
    };
    let (webhook, store) = (Arc::clone(webhook), Arc::clone(store));
    let noted = tokio::task::spawn_blocking(move || {
        let earlier = match told < head {
            true => store.taken(&webhook.controller, told, head).map_err(|error| error.to_string())?,
            false => Vec::new(),
        };
        webhook.outbox.begin(told, &earlier).map_err(|error| error.to_string())
    });
    noted.await.map_err(|error| error.to_string())?
}

/// Drops what another relay has told.
async fn drop_told(webhook: &Arc<Webhook>, told: u64) -> Result<(), String> {
    let webhook = Arc::clone(webhook);
    // It told how many were missed, too.
    let dropped = tokio::task::spawn_blocking(move || webhook.outbox.sent(told, u64::MAX)).await;
    dropped.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

/// Sends the next batch of pending changes; returns how many there were.
async fn deliver(webhook: &Arc<Webhook>, store: &Arc<Store>) -> Result<usize, String> {
    let (waiting, books) = (Arc::clone(webhook), Arc::clone(store));
    let gathered = tokio::task::spawn_blocking(move || gather(&waiting, &books)).await;
    let (count, last, missed, body) = gathered.map_err(|error| error.to_string())??;
    if let Some(body) = body {
        webhook.receiver.send(body).await?;
    }
    if let Some(last) = last {
        let webhook = Arc::clone(webhook);
        let done = tokio::task::spawn_blocking(move || webhook.outbox.sent(last, missed)).await;
        done.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    }
    Ok(count)
}

/// The number of changes, the number of the last one, how many were missed, and the body.
type Gathered = (usize, Option<u64>, u64, Option<String>);

fn gather(webhook: &Webhook, store: &Store) -> Result<Gathered, String> {
    let (entries, missed) = webhook.outbox.next(BATCH).map_err(|error| error.to_string())?;
    let controller = webhook.controller.as_str();
    let outward = store.outward(&webhook.controller);
    let mut events = Vec::new();
    for (number, person) in &entries {
        let found =
            store.entry_of(&webhook.controller, *person, *number).map_err(|error| error.to_string())?;
        // People erased meanwhile are left out.
        let person = outward.shown(*person);
        events.extend(found.map(|(entered, named)| event(controller, person, entered, named)));
    }
    let last = entries.last().map(|(number, _)| *number);
    let message = Message { controller, events, missed };
    let body = (!message.events.is_empty() || (missed > 0 && last.is_some()))
        .then(|| serde_json::to_string(&message).map_err(|error| error.to_string()))
        .transpose()?;
    Ok((entries.len(), last, missed, body))
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
