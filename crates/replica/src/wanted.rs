//! Who waits for which message to be applied here.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::consent::ordered::Outcome;
use crate::follower::Moment;
use crate::message::MessageId;

/// Messages of this relay that have not come back yet.
#[derive(Debug, Default)]
pub(crate) struct Wanted(Mutex<HashMap<MessageId, Sent>>);

#[derive(Debug)]
struct Sent {
    /// When it was last published.
    published: Moment,
    outcome: Option<oneshot::Sender<Outcome>>,
}

impl Wanted {
    fn sent(&self) -> MutexGuard<'_, HashMap<MessageId, Sent>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a message is published now, and returns what will receive its outcome.
    pub(crate) fn note(&self, id: MessageId, published: Moment) -> oneshot::Receiver<Outcome> {
        let (outcome, receiver) = oneshot::channel();
        self.sent().insert(id, Sent { published, outcome: Some(outcome) });
        receiver
    }

    /// Notes the same of a message whose outcome nobody waits for.
    pub(crate) fn note_only(&self, id: MessageId, published: Moment) {
        self.sent().insert(id, Sent { published, outcome: None });
    }

    /// Takes back what was noted: the message is given up.
    pub(crate) fn forget(&self, id: &MessageId) {
        self.sent().remove(id);
    }

    /// Returns when a message of this relay was published, now that it came back.
    pub(crate) fn published(&self, id: &MessageId) -> Option<Moment> {
        self.sent().get(id).map(|sent| sent.published)
    }

    /// Hands an outcome to whoever waits for it.
    pub(crate) fn answer(&self, id: &MessageId, outcome: Option<Outcome>) {
        if let (Some(Sent { outcome: Some(receiver), .. }), Some(outcome)) = (self.sent().remove(id), outcome)
        {
            let _ = receiver.send(outcome);
        }
    }
}
