//! NATS JetStream as the engine, and the only module that names its client.
//!
//! It carries messages and is not believed: a server whose files were damaged hands out fewer messages than it
//! acknowledged, without a word (measured with 2.15.0), so positions are counted by the follower.

mod durability;
mod servers;

use std::path::PathBuf;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{self, DiscardPolicy, StorageType};
use async_nats::jetstream::{self, Context};
use async_nats::{Client, ConnectOptions};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};

pub use servers::{Plan, Server, ServerTls};

use crate::engine::{Delivered, Engine, EngineError, Eventually, Feed, Kind, Position, Verdict};

/// The stream of everything that changes stores.
pub const STREAM: &str = "PW_CONSENT";
/// The stream of opens, which are kept for a week.
const OPENS: &str = "PW_DAYS";
/// How long opens are kept: a relay that was away for longer knows nothing of the days before.
const OPENS_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// What its subjects begin with.
const SUBJECTS: &str = "pw.";
/// How many copies of it there must be.
pub const REPLICAS: usize = 3;
/// How many consumers it may have: unless it says so, that is 1,000 from version 2.15 on, and those of
/// connections that were lost count for a while.
const MAX_CONSUMERS: i32 = 16_384;
/// Within which a message that is published again is not carried again.
const DUPLICATES: Duration = Duration::from_secs(600);
/// How long a server keeps the place of a relay that is gone.
const GONE: Duration = Duration::from_secs(300);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it waits before it asks again for what is on its way.
const PAUSE: Duration = Duration::from_millis(100);
/// How often a server says that there is nothing new.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How often some server is asked for a message that others lack.
const TRIES: usize = 12;

/// How the servers are reached.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Their addresses, as `nats://host:port` or `tls://host:port`.
    pub servers: Vec<String>,
    /// The secret part of the relay's NKey, with which it proves who it is.
    pub seed: Option<Secret>,
    /// The secret part of the NKey that may ask servers about themselves.
    pub monitor: Option<Secret>,
    /// TLS: the certificate of the authority, and the relay's certificate and key.
    pub tls: Option<Tls>,
}

/// The files for TLS.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The certificate of the authority that issued the servers' certificates.
    pub authority: PathBuf,
    /// The relay's certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// A secret, which no message shows.
#[derive(Clone)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Makes a key for a user of the servers: the public part, and the secret one.
#[must_use]
pub fn fresh_key() -> (String, Secret) {
    let pair = nkeys::KeyPair::new_user();
    let seed = pair.seed().unwrap_or_default();
    (pair.public_key(), Secret(seed))
}

/// Returns the public part of a key.
///
/// # Errors
///
/// When it is no key.
pub fn public_key(secret: &Secret) -> Result<String, String> {
    let pair = nkeys::KeyPair::from_seed(&secret.0).map_err(|error| error.to_string())?;
    Ok(pair.public_key())
}

/// The connection of a relay.
#[derive(Clone, Debug)]
pub struct Nats {
    context: Context,
    monitor: Option<Client>,
    /// The name of the relay's consumer, so that none piles up.
    consumer: String,
}

impl Nats {
    /// Connects, and goes on trying in the background where no server answers yet.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or an address makes no sense.
    pub async fn connect(access: &Access, node: &[u8; 16]) -> Result<Nats, EngineError> {
        let client = connection(access, access.seed.as_ref()).await?;
        let monitor = match &access.monitor {
            Some(seed) => Some(connection(access, Some(seed)).await?),
            None => None,
        };
        let context = jetstream::ContextBuilder::new().timeout(PATIENCE).ack_timeout(PATIENCE).build(client);
        Ok(Nats { context, monitor, consumer: format!("relay-{}", hex::encode(node)) })
    }

    /// Creates the stream of the common order, unless it is there.
    ///
    /// # Errors
    ///
    /// When the servers will not, or cannot be reached.
    pub async fn create(&self) -> Result<(), EngineError> {
        self.context.get_or_create_stream(opens()).await.map_err(refused)?;
        self.context.get_or_create_stream(wanted()).await.map(drop).map_err(refused)
    }

    /// Publishes the message that every other one follows; returns whether nothing had been published before.
    ///
    /// # Errors
    ///
    /// When there is no answer, or another reason against it.
    pub async fn publish_first(&self, kind: Kind, id: [u8; 16], bytes: Bytes) -> Result<bool, EngineError> {
        let acknowledged = async {
            loop {
                let message = PublishMessage::build().payload(bytes.clone()).message_id(hex::encode(id));
                let message = message.expected_stream(STREAM).expected_last_sequence(0);
                let sent = self.context.send_publish(subject(kind), message);
                match async { sent.await?.await }.await {
                    // The stream was just created, and not every server knows of it yet.
                    Err(error) if error.kind() == PublishErrorKind::StreamNotFound => {
                        tokio::time::sleep(PAUSE).await;
                    }
                    other => break other,
                }
            }
        };
        match tokio::time::timeout(PATIENCE, acknowledged).await {
            Ok(Ok(acknowledged)) => Ok(acknowledged.sequence == 1),
            Ok(Err(error)) if error.kind() == PublishErrorKind::WrongLastSequence => Ok(false),
            Ok(Err(error)) => Err(refused(error)),
            Err(_) => Err(EngineError::TimedOut(PATIENCE)),
        }
    }

    /// Deletes the stream of the common order, for another one to begin.
    ///
    /// # Errors
    ///
    /// When the servers will not, or cannot be reached.
    pub async fn delete(&self) -> Result<(), EngineError> {
        self.context.delete_stream(OPENS).await.map_err(refused)?;
        self.context.delete_stream(STREAM).await.map(drop).map_err(refused)
    }

    /// Says in what the stream differs from what the relays need; `None` if in nothing.
    ///
    /// # Errors
    ///
    /// When there is none, or the servers cannot be reached.
    pub async fn differs(&self) -> Result<Option<String>, EngineError> {
        let found = self.stream().await?.get_info().await.map_err(refused)?.config;
        Ok(difference(&wanted(), &found))
    }

    /// Asks the servers' interface for streams, and returns the answer as it came.
    ///
    /// # Errors
    ///
    /// When there is no answer, or it is an error.
    pub async fn ask(&self, subject: &str, question: &str) -> Result<String, EngineError> {
        let asked =
            self.context.client().request(format!("$JS.API.{subject}"), question.to_owned().into()).await;
        let answer = String::from_utf8_lossy(&asked.map_err(refused)?.payload).into_owned();
        let fields: serde_json::Value = serde_json::from_str(&answer).map_err(refused)?;
        match fields.get("error") {
            Some(error) => Err(EngineError::Refused(error.to_string())),
            None => Ok(answer),
        }
    }

    async fn stream(&self) -> Result<stream::Stream, EngineError> {
        self.named(STREAM).await
    }

    async fn named(&self, name: &str) -> Result<stream::Stream, EngineError> {
        match tokio::time::timeout(PATIENCE, self.context.get_stream(name)).await {
            Ok(found) => found.map_err(refused),
            Err(_) => Err(EngineError::TimedOut(PATIENCE)),
        }
    }
}

/// What the stream must be: everything is kept, nothing can be deleted, and the oldest is never dropped for the
/// newest.
fn wanted() -> stream::Config {
    stream::Config {
        name: STREAM.to_owned(),
        subjects: Kind::ALL.iter().map(|kind| subject(*kind)).collect(),
        storage: StorageType::File,
        num_replicas: REPLICAS,
        discard: DiscardPolicy::New,
        max_consumers: MAX_CONSUMERS,
        duplicate_window: DUPLICATES,
        deny_delete: true,
        deny_purge: true,
        allow_direct: true,
        ..stream::Config::default()
    }
}

/// What the stream of opens must be: it forgets.
fn opens() -> stream::Config {
    stream::Config {
        name: OPENS.to_owned(),
        subjects: vec![subject(Kind::Opens)],
        max_age: OPENS_KEPT,
        deny_delete: false,
        deny_purge: false,
        allow_direct: false,
        ..wanted()
    }
}

fn difference(wanted: &stream::Config, found: &stream::Config) -> Option<String> {
    let is_same = [
        ("storage", wanted.storage == found.storage),
        ("replicas", found.num_replicas >= wanted.num_replicas),
        ("discard", wanted.discard == found.discard),
        ("max_consumers", found.max_consumers >= wanted.max_consumers),
        ("duplicate_window", found.duplicate_window >= wanted.duplicate_window),
        ("deny_delete", found.deny_delete),
        ("deny_purge", found.deny_purge),
        ("max_age", found.max_age.is_zero()),
        ("max_messages", found.max_messages <= 0),
        ("max_bytes", found.max_bytes <= 0),
        ("subjects", wanted.subjects.iter().all(|subject| found.subjects.contains(subject))),
    ];
    let wrong: Vec<&str> = is_same.iter().filter(|(_, is_same)| !is_same).map(|(name, _)| *name).collect();
    (!wrong.is_empty()).then(|| format!("the stream {STREAM} is not as relays need it: {}", wrong.join(", ")))
}

fn subject(kind: Kind) -> String {
    format!("{SUBJECTS}{}", kind.name())
}

async fn connection(access: &Access, seed: Option<&Secret>) -> Result<Client, EngineError> {
    let mut options = match seed {
        Some(seed) => ConnectOptions::with_nkey(seed.0.clone()),
        None => ConnectOptions::new(),
    };
    options = options.retry_on_initial_connect().connection_timeout(PATIENCE).request_timeout(Some(PATIENCE));
    // A server that stopped without closing its connections is noticed within two of these.
    options = options.ping_interval(Duration::from_secs(3));
    if let Some(tls) = &access.tls {
        options = options
            .require_tls(true)
            .add_root_certificates(tls.authority.clone())
            .add_client_certificate(tls.certificate.clone(), tls.key.clone());
    }
    options.connect(&access.servers[..]).await.map_err(refused)
}

fn refused(error: impl std::fmt::Display) -> EngineError {
    EngineError::Refused(error.to_string())
}

impl Nats {
    /// Reads a stream from a position on.
    async fn reading(&self, name: &str, from: Position) -> Result<Box<dyn Feed>, EngineError> {
        let stream = self.named(name).await?;
        // The place of the last connection is given up, wherever it was.
        let _ = stream.delete_consumer(&self.consumer).await;
        let config = pull::Config {
            name: Some(self.consumer.clone()),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: from },
            ack_policy: AckPolicy::None,
            inactive_threshold: GONE,
            num_replicas: 1,
            memory_storage: true,
            ..pull::Config::default()
        };
        let consumer = stream.create_consumer(config).await.map_err(refused)?;
        let messages = consumer.stream().heartbeat(HEARTBEAT).expires(3 * HEARTBEAT);
        let messages = messages.max_messages_per_batch(1000).messages().await.map_err(refused)?;
        Ok(Box::new(Reading(messages)))
    }
}

impl Engine for Nats {
    fn publish(
        &self,
        kind: Kind,
        id: [u8; 16],
        bytes: Bytes,
    ) -> Eventually<'_, Result<Position, EngineError>> {
        Box::pin(async move {
            let message = PublishMessage::build().payload(bytes).message_id(hex::encode(id));
            let stream = if kind == Kind::Opens { OPENS } else { STREAM };
            let sent = self.context.send_publish(subject(kind), message.expected_stream(stream));
            let acknowledged = async { sent.await.map_err(refused)?.await.map_err(refused) };
            match tokio::time::timeout(PATIENCE, acknowledged).await {
                Ok(acknowledged) => acknowledged.map(|acknowledged| acknowledged.sequence),
                Err(_) => Err(EngineError::TimedOut(PATIENCE)),
            }
        })
    }

    fn follow(&self, from: Position) -> Eventually<'_, Result<Box<dyn Feed>, EngineError>> {
        Box::pin(self.reading(STREAM, from))
    }

    fn follow_opens(&self, from: Position) -> Eventually<'_, Result<Box<dyn Feed>, EngineError>> {
        Box::pin(self.reading(OPENS, from))
    }

    fn message(&self, position: Position) -> Eventually<'_, Result<Option<Delivered>, EngineError>> {
        Box::pin(async move {
            let stream = self.stream().await?;
            if let Ok(found) = stream.get_raw_message(position).await {
                return Ok(Some(stored(found)));
            }
            // The leader lacks it. Any server may answer the next ones.
            for _ in 0..TRIES {
                if let Ok(found) = stream.direct_get(position).await {
                    return Ok(Some(stored(found)));
                }
            }
            Ok(None)
        })
    }

    fn durability(&self) -> Eventually<'_, Verdict> {
        Box::pin(async move { durability::of(self).await })
    }
}

fn stored(message: jetstream::message::StreamMessage) -> Delivered {
    Delivered { position: message.sequence, committed_at: millis(message.time), bytes: message.payload }
}

/// Returns the milliseconds since 1970.
fn millis(at: async_nats::datetime::DateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

struct Reading(pull::Stream);

impl Reading {
    fn delivered(message: jetstream::Message) -> Result<Delivered, EngineError> {
        let info = message.info().map_err(refused)?;
        let (position, committed_at) = (info.stream_sequence, millis(info.published));
        Ok(Delivered { position, committed_at, bytes: message.message.payload })
    }
}

impl Feed for Reading {
    fn next(&mut self) -> Eventually<'_, Result<Delivered, EngineError>> {
        Box::pin(async move {
            match self.0.next().await {
                Some(Ok(message)) => Reading::delivered(message),
                Some(Err(error)) => Err(EngineError::Unreachable(error.to_string())),
                None => Err(EngineError::Unreachable("the feed ended".to_owned())),
            }
        })
    }

    fn ready(&mut self) -> Option<Delivered> {
        // An error shows again at the next message.
        self.0.next().now_or_never()??.ok().and_then(|message| Reading::delivered(message).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_lose_messages_is_named() {
        assert_eq!(difference(&wanted(), &wanted()), None);
        let lossy = stream::Config { max_messages: 1000, deny_purge: false, num_replicas: 1, ..wanted() };
        let said = difference(&wanted(), &lossy).unwrap();
        assert!(said.ends_with("replicas, deny_purge, max_messages"), "{said}");
    }
}
