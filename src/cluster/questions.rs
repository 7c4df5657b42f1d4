//! What relays ask each other directly: a question of the API, where their journals' chains stand, and which keys of
//! weeks they have.

use std::sync::{Arc, OnceLock, Weak};

use pixelward_replica::engine::Eventually;
use pixelward_replica::peer::Answerer;
use pixelward_replica::week::{Week, Weeks};
use serde::{Deserialize, Serialize};

use crate::consent::Store;
use crate::web::api::Api;

/// The most records whose chain is asked for at once.
const MAX_NUMBERS: usize = 256;

/// A question to another relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Question {
    /// What would the API say to this?
    Api(String),
    /// Which hashes does the journal's chain have at these records?
    Chain(Vec<u64>),
    /// Which keys of weeks are there?
    Keys,
}

/// Answers [`Question::Chain`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Chain {
    /// How many records there are.
    pub(super) records: u64,
    /// The hash at each record that was asked for, in hexadecimal; none beyond the last one.
    pub(super) hashes: Vec<Option<String>>,
}

/// Answers [`Question::Keys`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Keys {
    /// How many records there are.
    pub(super) records: u64,
    /// The weeks whose keys are there.
    pub(super) weeks: Vec<Week>,
}

/// What a relay answers from.
#[derive(Clone)]
pub(super) struct Answers {
    pub(super) store: Weak<Store>,
    pub(super) weeks: Arc<Weeks>,
    /// The API, once it is there.
    pub(super) api: Arc<OnceLock<Arc<Api>>>,
}

impl std::fmt::Debug for Answers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Answers(…)")
    }
}

impl Answers {
    fn store(&self) -> Result<Arc<Store>, String> {
        self.store.upgrade().ok_or_else(|| "the relay is stopping".to_owned())
    }

    /// Returns where the chain stands at these records. Reads the whole journal, if there are any.
    pub(super) async fn chain(&self, numbers: Vec<u64>) -> Result<Chain, String> {
        if numbers.len() > MAX_NUMBERS {
            return Err("too many records at once".to_owned());
        }
        let store = self.store()?;
        let read = tokio::task::spawn_blocking(move || {
            let hashes = store.hashes_at(&numbers).map_err(|error| error.to_string())?;
            let hashes = hashes.into_iter().map(|hash| hash.map(hex::encode)).collect();
            Ok(Chain { records: store.head().count, hashes })
        });
        read.await.map_err(|error| error.to_string())?
    }

    pub(super) fn keys(&self) -> Result<Keys, String> {
        let records = self.store()?.head().count;
        Ok(Keys { records, weeks: self.weeks.all().into_keys().collect() })
    }
}

impl Answerer for Answers {
    fn answer(&self, question: Vec<u8>) -> Eventually<'_, Result<Vec<u8>, String>> {
        Box::pin(async move {
            let encoded = |bytes: serde_json::Result<Vec<u8>>| bytes.map_err(|error| error.to_string());
            match serde_json::from_slice(&question) {
                Ok(Question::Api(question)) => match self.api.get() {
                    Some(api) => api.answer_relay(question.as_bytes()).await,
                    None => Err("this relay is starting".to_owned()),
                },
                Ok(Question::Chain(numbers)) => encoded(serde_json::to_vec(&self.chain(numbers).await?)),
                Ok(Question::Keys) => encoded(serde_json::to_vec(&self.keys()?)),
                Err(_) => Err("unknown question: both relays must have the same version".to_owned()),
            }
        })
    }
}
