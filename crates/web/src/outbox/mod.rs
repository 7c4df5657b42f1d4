//! Changes that others are told of: noted on disk before a change is acknowledged, so that no crash loses them, and
//! told by one of several relays at a time.

mod file;
mod turn;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::consent::ordered::Name;
use crate::consent::{Controller, Noted, Store, Watcher};
pub(crate) use file::Outbox;
pub(crate) use turn::{Now, Turn, Until, within};

/// How long to wait before what waited elsewhere is read again.
const AGAIN: Duration = Duration::from_secs(300);

/// Who is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Webhook,
    Connector,
}

impl Kind {
    /// Counts changes that found no room.
    fn missed(self, count: usize) {
        let count = count as u64;
        match self {
            Kind::Webhook => metrics::counter!("pixelward_webhook_missed_total").increment(count),
            Kind::Connector => metrics::counter!("pixelward_connector_missed_total").increment(count),
        }
    }
}

/// The changes of one controller that somebody is to be told of.
#[derive(Debug)]
pub struct Waiting {
    pub(crate) controller: Controller,
    kind: Kind,
    /// What tells who is told in the log, such as "the webhook".
    title: String,
    pub(crate) outbox: Outbox,
    pub(crate) news: Notify,
    lease: Name,
}

impl Waiting {
    /// Opens an outbox in this folder.
    ///
    /// # Errors
    ///
    /// When a file cannot be used.
    pub(crate) fn open(
        (kind, folder, name): (Kind, &Path, &str),
        (controller, title): (&Controller, String),
        lease: Name,
        store: &Store,
        most: u64,
    ) -> Result<Waiting, String> {
        let outbox = Outbox::open(folder, name, store.head().count, (kind, most))
            .map_err(|error| format!("the outbox of {title} of {controller}: {error}"))?;
        Ok(Waiting { controller: controller.clone(), kind, title, outbox, news: Notify::new(), lease })
    }

    /// Returns the turn of this relay to tell.
    pub(crate) fn turn(&self, store: &Arc<Store>) -> Turn {
        Turn::of(self.lease, store)
    }

    /// Notes what a relay that joined others has in its journal and none of them has told yet; tries until it works.
    pub(crate) async fn begin(self: &Arc<Waiting>, store: &Arc<Store>, turn: &Turn) {
        while let Err(error) = self.begun(store, turn).await {
            tracing::warn!(
                controller = %self.controller, %error,
                "what {} must be told of before this relay joined could not be read; trying again", self.title
            );
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn begun(self: &Arc<Waiting>, store: &Arc<Store>, turn: &Turn) -> Result<(), String> {
        let Some(head) = self.outbox.is_new() else { return Ok(()) };
        let told = match turn.told() {
            Some(told) if !turn.is_new() => told.min(head),
            // Nobody was to be told of what was before.
            _ => head,
        };
        let (waiting, store) = (Arc::clone(self), Arc::clone(store));
        let noted = tokio::task::spawn_blocking(move || {
            let earlier = match told < head {
                true => store.taken(&waiting.controller, told, head).map_err(|error| error.to_string())?,
                false => Vec::new(),
            };
            waiting.outbox.begin(told, &earlier).map_err(|error| error.to_string())
        });
        noted.await.map_err(|error| error.to_string())?
    }

    /// Drops what another relay has told.
    pub(crate) async fn drop_told(self: &Arc<Waiting>, turn: &Turn) {
        let Some(told) = turn.told().filter(|told| *told > self.outbox.told()) else { return };
        let missed = match self.kind {
            // It told how many were missed, too.
            Kind::Webhook => u64::MAX,
            // Who was missed here is made up for here.
            Kind::Connector => 0,
        };
        if let Err(error) = self.sent(told, missed).await {
            tracing::warn!(
                controller = %self.controller, error,
                "what another relay told {} could not be dropped; it is told again", self.title
            );
        }
    }

    /// Marks everything up to a record as told.
    pub(crate) async fn sent(self: &Arc<Waiting>, last: u64, missed: u64) -> Result<(), String> {
        let waiting = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || waiting.outbox.sent(last, missed)).await;
        done.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }
}

/// Notes changes for all who are told.
struct Notes(Vec<Arc<Waiting>>);

impl Watcher for Notes {
    fn before(&self, changes: &[Noted]) {
        for waiting in &self.0 {
            let changes = changes.iter().filter(|change| change.controller == waiting.controller);
            let noted: Vec<_> = changes.map(|change| (change.number, change.person)).collect();
            if let Err(error) = waiting.outbox.note(&noted) {
                // A choice holds whether or not anybody can be told of it.
                tracing::error!(
                    controller = %waiting.controller,
                    %error,
                    "changes could not be noted for {}; it will be made up for", waiting.title
                );
            }
        }
    }

    fn after(&self, durable: bool) {
        for waiting in &self.0 {
            waiting.outbox.settle(durable);
            waiting.news.notify_one();
        }
    }
}

/// Notes changes for all of these from now on. Must be called once, before anything is recorded.
pub fn watch(store: &Store, all: Vec<Arc<Waiting>>) {
    if !all.is_empty() {
        store.watch(Box::new(Notes(all)));
    }
}
