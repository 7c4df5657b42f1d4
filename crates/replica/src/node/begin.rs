//! Begins a common order after what the first relay's store has.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Node, NodeError};
use crate::consent::Store;
use crate::consent::ordered::Step;
use crate::consent::record::{EPOCH_POSITION, Epoch};
use crate::engine::Engine;
use crate::message::{Body, Message, fresh_id};
use crate::nats::Nats;
use crate::settings::Settings;
use crate::week::{Weeks, week_of};

/// How long servers may take until they are ready.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a pause is between two tries.
const PAUSE: Duration = Duration::from_millis(500);

impl Node {
    /// Begins a common order: makes the key of this week and publishes the end of the store's journal as the first
    /// message. Doing so again changes nothing. `operator` may create streams. Nothing else may write to the store
    /// until it follows the order.
    ///
    /// # Errors
    ///
    /// When the servers cannot be reached, or carry an order that did not begin with this store.
    pub async fn begin(
        operator: &Nats,
        store: &Arc<Store>,
        weeks: &Weeks,
        settings: &Settings,
    ) -> Result<(), NodeError> {
        let now = (settings.clock)();
        let number = store.epoch()?.map_or(0, |epoch| epoch.number) + 1;
        let head = store.head();
        let step = Step::Begin { epoch: Epoch { number, at: now }, head };
        let no_randomness = |source| NodeError::Io { what: "the first message".to_owned(), source };
        if weeks.sealer(week_of(now)).is_none() {
            weeks.make(week_of(now)).map_err(no_randomness)?;
        }
        let id = fresh_id().map_err(no_randomness)?;
        let message = Message { node: settings.node, id, body: Body::Step(step) };
        let sealed =
            message.seal(week_of(now), weeks).map_err(|error| NodeError::Begun(error.to_string()))?;
        created(operator).await?;
        store.begin_anew();
        if operator.publish_first(message.kind(), id, sealed).await? {
            return Ok(());
        }
        let first = operator.message(EPOCH_POSITION).await?;
        let opened = first.map(|first| Message::open(&first.bytes, weeks));
        match opened {
            // A try before this one got as far as that.
            Some(Ok(Message { node, body: Body::Step(Step::Begin { head: begun, .. }), .. }))
                if node == settings.node && begun == head =>
            {
                Ok(())
            }
            Some(Ok(_)) => Err(NodeError::Begun("it began with another store".to_owned())),
            Some(Err(error)) => Err(NodeError::Begun(error.to_string())),
            None => Err(NodeError::Begun("its first message is missing".to_owned())),
        }
    }
}

/// Creates the stream; servers that were just started choose a leader first.
async fn created(operator: &Nats) -> Result<(), NodeError> {
    let until = Instant::now() + PATIENCE;
    loop {
        match operator.create().await {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() >= until => return Err(error.into()),
            Err(error) => tracing::warn!(%error, "the servers cannot begin yet; trying again"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}
