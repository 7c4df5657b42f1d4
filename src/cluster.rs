//! This relay as one of several: its files, its place in the common order, and the door for other relays.

pub mod compare;
pub mod files;
mod questions;
pub mod socket;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use pixelward_replica::engine::{Engine, Verdict};
use pixelward_replica::lease::Held;
use pixelward_replica::nats::{Access, Nats, Tls};
use pixelward_replica::node::{LEASES, Node, NodeError, OPENS_PLACE, Other};
use pixelward_replica::peer::{Door, Giver, Identity, Invitation, Invitations};
use pixelward_replica::settings::Settings;
use pixelward_replica::week::{Weeks, week_of};
use tokio::runtime::Handle;

use crate::config::{self, Config};
use crate::consent::ordered::Name;
use crate::consent::{Store, Timestamp};
use crate::pipeline::Others;
use crate::web;
use crate::web::live::{LeaseHeld, OtherRelay, Reported, Standing};
use files::Files;
use questions::{Answers, Question};

/// How long the start waits for news from the other relays before mail is taken; until then grants do not count.
const FIRST_NEWS: Duration = Duration::from_secs(10);

/// Why a relay cannot take part in its cluster.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A file is missing or cannot be used.
    #[error("the cluster's files in {directory}: {source}. `pixelward cluster init` or `join` writes them")]
    Files {
        /// The directory.
        directory: String,
        /// The error.
        source: std::io::Error,
    },
    /// The address for other relays is not available.
    #[error("cluster.listen: {address} is not available: {source}. Is another server running there?")]
    Taken {
        /// The address.
        address: SocketAddr,
        /// The error.
        source: std::io::Error,
    },
    /// The relay cannot follow the common order.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The store belongs to a cluster, but the configuration names none.
    #[error(
        "this store belongs to a cluster ({0} says so), and would part from it without a word. Put the section \
         [cluster] back into the configuration, or run `pixelward cluster leave`"
    )]
    Left(String),
}

/// A relay of a cluster, for as long as this lives.
#[derive(Debug)]
pub struct Member {
    node: Node,
    invitations: Arc<Invitations>,
    authority: [u8; 32],
    address: String,
    name: [u8; 16],
    store: Weak<Store>,
    /// What answers the questions of other relays.
    answers: Answers,
    runtime: Handle,
    /// What the names of leases stand for: a controller's webhook, or its connector of this name.
    leases: HashMap<Name, (String, Option<String>)>,
}

/// Makes the store part of the common order, if the configuration says that there is one.
///
/// # Errors
///
/// When the relay cannot take part.
pub async fn start(config: &Config, store: &Arc<Store>) -> Result<Option<Arc<Member>>, ClusterError> {
    let settings = &config.cluster;
    if !settings.is_on() {
        return match files::is_member(&settings.directory) {
            true => Err(ClusterError::Left(settings.directory.display().to_string())),
            false => Ok(None),
        };
    }
    let unusable =
        |source| ClusterError::Files { directory: settings.directory.display().to_string(), source };
    let files = Files::load(&settings.directory).map_err(unusable)?;
    let identity = Arc::new(Identity::load(&settings.directory).map_err(unusable)?);
    let authority = files.authority().hash().map_err(unusable)?;
    store.share_identity(files.common_identity().map_err(unusable)?);
    let replica = replica_settings(config, &files);
    let weeks = Node::weeks(&replica, store)?;
    if files.begins() {
        let access = access(settings, &files, files.operator.clone());
        let operator = Nats::connect(&access, &replica.node).await.map_err(NodeError::from)?;
        Node::begin(&operator, store, &weeks, &replica).await?;
        files.begun().map_err(unusable)?;
        tracing::info!(records = store.head().count, "the common order begins with this relay's journal");
    }
    let invitations = Arc::new(Invitations::default());
    let giver = Gift {
        store: Arc::clone(store),
        files: files.clone(),
        directory: settings.directory.clone(),
        weeks: Arc::clone(&weeks),
    };
    let answers = Answers { store: Arc::downgrade(store), weeks: Arc::clone(&weeks), api: Arc::default() };
    let door = Door::open(
        settings.listen,
        &identity,
        Arc::clone(&weeks),
        Arc::clone(&invitations),
        Arc::new(giver),
        Arc::new(answers.clone()),
    );
    let door = door.await.map_err(|source| ClusterError::Taken { address: settings.listen, source })?;
    tracing::info!(address = %settings.listen, "other relays are answered");
    tokio::spawn(door.serve());
    let access = access(settings, &files, files.relay.clone());
    let engine: Arc<dyn Engine> =
        Arc::new(Nats::connect(&access, &replica.node).await.map_err(NodeError::from)?);
    let (name, address) = (replica.node, settings.address.clone());
    let node = Node::start(store, engine, weeks, replica, Some(identity), &Handle::current())?;
    let webhooks = config.api.webhooks.iter().map(|webhook| {
        let name = web::webhook::lease(store, &webhook.controller);
        (name, (webhook.controller.to_string(), None))
    });
    let connectors = config.connectors.iter().map(|connector| {
        let name = web::connector::lease(store, &connector.controller, &connector.name);
        (name, (connector.controller.to_string(), Some(connector.name.clone())))
    });
    let leases = webhooks.chain(connectors).collect();
    let (store, runtime) = (Arc::downgrade(store), Handle::current());
    let member =
        Arc::new(Member { node, invitations, authority, address, name, store, answers, runtime, leases });
    member.await_news().await;
    socket::serve(&settings.directory, &member).map_err(unusable)?;
    Ok(Some(member))
}

/// Returns what is wrong with the servers; `None` if nothing is.
///
/// # Errors
///
/// When the cluster's files cannot be used.
pub async fn examine(config: &Config) -> Result<Option<String>, ClusterError> {
    let settings = &config.cluster;
    let unusable =
        |source| ClusterError::Files { directory: settings.directory.display().to_string(), source };
    let files = Files::load(&settings.directory).map_err(unusable)?;
    if files.begins() {
        return Ok(Some("the common order has not begun yet: start this relay".to_owned()));
    }
    let access = access(settings, &files, files.relay.clone());
    let engine = Nats::connect(&access, &files.node).await.map_err(NodeError::from)?;
    let differs = match engine.differs().await {
        Ok(differs) => differs,
        Err(error) => Some(format!("the servers: {error}")),
    };
    Ok(match (differs, engine.durability().await) {
        (Some(why), _) | (None, Verdict::NotDurable { why }) => Some(why),
        (None, Verdict::Durable) => None,
    })
}

/// Returns what the replica is told.
fn replica_settings(config: &Config, files: &Files) -> Settings {
    Settings {
        max_staleness: config.cluster.max_staleness,
        patience: config.cluster.patience,
        address: config.cluster.address.clone(),
        ..Settings::new(files.node, &config.cluster.directory)
    }
}

/// Returns how the servers are reached by whoever has this key.
fn access(settings: &config::Cluster, files: &Files, seed: pixelward_replica::nats::Secret) -> Access {
    let is_private = settings.servers.iter().any(|server| server.starts_with("tls://"));
    Access {
        servers: settings.servers.clone(),
        seed: Some(seed),
        monitor: Some(files.monitor.clone()),
        tls: is_private.then(|| Tls {
            authority: settings.directory.join("authority.crt"),
            certificate: settings.directory.join("relay.crt"),
            key: settings.directory.join("relay.key"),
        }),
    }
}

/// Deletes the common order at the servers, so that another one can begin.
///
/// # Errors
///
/// When the servers cannot be reached, or refuse.
pub async fn delete_order(config: &Config, files: &Files) -> Result<(), NodeError> {
    let access = access(&config.cluster, files, files.operator.clone());
    Nats::connect(&access, &files.node).await?.delete().await.map_err(NodeError::from)
}

impl Member {
    /// Waits a while until this relay is fresh.
    async fn await_news(&self) {
        let until = Instant::now() + FIRST_NEWS;
        while Instant::now() < until {
            let status = self.node.status();
            if status.is_fresh || status.stop.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        match self.trouble() {
            None => tracing::info!("the other relays are heard"),
            Some(why) => tracing::error!(why, "mail is taken, and nothing counts as granted"),
        }
    }

    /// Returns the name of this relay among the others: 32 hexadecimal digits.
    pub fn name(&self) -> String {
        hex::encode(self.name)
    }

    /// Returns how this relay stands, as it is shown.
    pub fn standing(&self) -> Standing {
        let status = self.node.status();
        let head = self.store.upgrade().map(|store| store.head());
        Standing {
            relay: self.name(),
            fresh: status.is_fresh,
            stopped: status.stop.map(|stop| stop.to_string()),
            not_durable: match status.durability {
                Verdict::Durable => None,
                Verdict::NotDurable { why } => Some(why),
            },
            position: status.position,
            records: head.map_or(0, |head| head.count),
            head: head.map(|head| hex::encode(head.hash)).unwrap_or_default(),
            untold: status.untold,
            others: status.others.into_iter().map(other).collect(),
            leases: status.leases.into_iter().map(|held| self.lease(held)).collect(),
        }
    }

    /// Says what a lease is about.
    fn lease(&self, held: Held) -> LeaseHeld {
        let (controller, connector) = self.leases.get(&held.name).cloned().unzip();
        LeaseHeld {
            controller,
            connector: connector.flatten(),
            relay: held.holder.map(hex::encode),
            record: held.number,
        }
    }

    /// Has the questions of other relays answered from what the API knows.
    pub fn answer_from(&self, api: &Arc<web::api::Api>) {
        // The API is made once.
        let _ = self.answers.api.set(Arc::clone(api));
    }

    /// Makes an invitation for a new relay, which holds once and for an hour.
    ///
    /// # Errors
    ///
    /// When there is no randomness.
    pub fn invite(&self) -> std::io::Result<Invitation> {
        self.invitations.make(&self.address, self.authority)
    }

    /// Returns what keeps this relay from counting grants, or from taking new ones; `None` if nothing does.
    pub fn trouble(&self) -> Option<String> {
        let status = self.node.status();
        if let Some(stop) = status.stop {
            return Some(stop.to_string());
        }
        if !status.is_fresh {
            return Some("the other relays have not been heard for a while".to_owned());
        }
        match status.durability {
            Verdict::Durable => None,
            Verdict::NotDurable { why } => Some(format!("no new grants are taken: {why}")),
        }
    }
}

fn other(other: Other) -> OtherRelay {
    OtherRelay {
        relay: hex::encode(other.node),
        address: other.address,
        heard: other.heard,
        records: other.records,
        other_rules: other.has_other_rules,
    }
}

impl Others for Weak<Member> {
    fn trouble(&self) -> Option<String> {
        self.upgrade()?.trouble()
    }

    fn declare(&self, fingerprint: &str) {
        let rules = hex::decode(fingerprint).ok().and_then(|bytes| bytes.first_chunk().copied());
        if let Some(member) = self.upgrade() {
            member.node.declare(rules.unwrap_or_default());
        }
    }

    fn ask(&self, question: Vec<u8>) -> Pin<Box<dyn Future<Output = Vec<Reported>> + Send + '_>> {
        Box::pin(async move {
            let Some(member) = self.upgrade() else { return Vec::new() };
            let question = String::from_utf8(question).ok().map(Question::Api);
            let Ok(question) = serde_json::to_vec(&question) else { return Vec::new() };
            let answers = member.node.ask_others(&question).await.into_iter();
            answers.map(|(other, answer)| Reported { relay: hex::encode(other.node), answer }).collect()
        })
    }

    fn standing(&self) -> Option<Standing> {
        self.upgrade().map(|member| member.standing())
    }
}

/// What a new relay is given.
struct Gift {
    store: Arc<Store>,
    files: Files,
    directory: PathBuf,
    weeks: Arc<Weeks>,
}

impl Giver for Gift {
    fn give(&self, folder: &Path) -> std::io::Result<()> {
        let consent = folder.join(files::CONSENT);
        self.store.copy(&consent).map_err(std::io::Error::other)?;
        let cluster = folder.join(files::CLUSTER);
        std::fs::create_dir(&cluster)?;
        self.files.hand_over(&cluster)?;
        // The copy of the days has what was taken in so far. Of leases, a later copy has all that came before.
        for name in [OPENS_PLACE, LEASES] {
            if self.directory.join(name).exists() {
                std::fs::copy(self.directory.join(name), cluster.join(name))?;
            }
        }
        // In a file of its own: the one in use may change meanwhile.
        let settings = Settings::new(self.files.node, &cluster);
        let copy = Node::weeks(&settings, &self.store).map_err(std::io::Error::other)?;
        copy.take(&self.weeks.all())?;
        copy.sealer(week_of(Timestamp::now())).map(drop).ok_or_else(|| {
            std::io::Error::other("the key of this week is not here yet; invite again in a minute")
        })
    }
}
