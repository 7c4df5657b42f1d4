//! What the pages and the API are served from, and the relay that they belong to.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use pixelward_config::{ClientCertificate, Config, Treatment};
use pixelward_core::plan::trial::Links;
use pixelward_core::{plan, policy};
use pixelward_net::Tls;
use pixelward_relay::{Outbound, Pool, outbound};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::consent::{Controller, Timestamp};
use crate::mapping::Mapping;
use crate::public::face::Face;
use crate::record::evidence::refusals::Refused;
use crate::rewrite::reader_token::Mint;

/// The relay, as far as pages and the API ask it.
pub trait Host: Send + Sync {
    /// What holds now.
    fn live(&self) -> Arc<Live>;
    /// Seals and opens what stands in the addresses that we put into mail.
    fn mint(&self) -> &Mint;
    /// Whether consent can be looked up.
    fn store_answers(&self) -> bool;
    /// Whether no client may come again with mail of which some recipients have their copy.
    fn ledger_is_empty(&self) -> bool;
    /// How many bytes messages take at the moment, and how many they may take.
    fn held_bytes(&self) -> (u64, u64);
    /// The last refusals of all controllers, newest first.
    fn refusals(&self) -> Vec<Refused>;
    /// What the relay cannot do at the moment; `None` where it does all it should.
    fn trouble(&self) -> Option<String>;
    /// Asks the other relays of the cluster, if there are any, a question of the API.
    fn ask_others(&self, question: Vec<u8>) -> Pin<Box<dyn Future<Output = Vec<Reported>> + Send + '_>>;
    /// How this relay stands among others; `None` for one on its own.
    fn standing(&self) -> Option<Standing>;
    /// Asks the controller's own service, if it has one, what tracked links lead to.
    fn ask_about_links<'a>(
        &'a self,
        controller: &'a Controller,
        links: Links,
    ) -> Pin<Box<dyn Future<Output = Links> + Send + 'a>>;
}

/// What another relay answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reported {
    /// Its name among the relays.
    pub relay: String,
    /// Its answer, or why there is none.
    pub answer: Result<Vec<u8>, String>,
}

/// How a relay stands among others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ClusterStanding)]
pub struct Standing {
    /// The relay's name among the others.
    pub relay: String,
    /// True if grants count at this relay.
    pub fresh: bool,
    /// Why nothing counts as granted until somebody has looked; null if nothing is wrong.
    pub stopped: Option<String>,
    /// Why no new grants are taken; null if they are.
    pub not_durable: Option<String>,
    /// The position of the last message of the common order that this relay has applied.
    pub position: u64,
    /// The number of records in its journal.
    pub records: u64,
    /// The end of its journal's chain: a hash, in hexadecimal.
    pub head: String,
    /// The number of things that the other relays were not told yet.
    pub untold: usize,
    /// The other relays that were heard of.
    pub others: Vec<OtherRelay>,
    /// What one relay does at a time.
    pub leases: Vec<LeaseHeld>,
}

/// Something that one relay does at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ClusterLease)]
pub struct LeaseHeld {
    /// The controller whose webhook or connector it is; null if it has none at this relay.
    pub controller: Option<String>,
    /// The connector; null if it is a webhook.
    #[serde(default)]
    pub connector: Option<String>,
    /// The name of the relay that did it last; null if none has since the common order began.
    pub relay: Option<String>,
    /// The number of the last record that it has come to.
    pub record: u64,
}

/// Another relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ClusterRelay)]
pub struct OtherRelay {
    /// Its name.
    pub relay: String,
    /// Where it is reached, as `host:port`.
    pub address: String,
    /// How many seconds ago it said where it stands; null if it has not since this relay started.
    pub heard: Option<u64>,
    /// The number of records in its journal then.
    pub records: Option<u64>,
    /// True if it goes by other rules than this relay.
    pub other_rules: bool,
}

/// What can be replaced while the relay runs.
#[derive(Debug)]
pub struct Live {
    /// The configuration.
    pub config: Arc<Config>,
    /// What messages are treated with.
    pub treatment: Arc<Treatment>,
    /// Where mail goes.
    pub outbound: Arc<[Arc<Outbound>]>,
    /// TLS of each listener for mail.
    pub tls: Arc<[Option<Tls>]>,
    /// TLS of the API.
    pub api_tls: Option<Tls>,
    /// TLS of the public listener.
    pub public_tls: Option<Tls>,
    /// How controllers show themselves on their preference pages.
    pub faces: Vec<(Controller, Face)>,
    /// In which forms vendors tell of changes.
    pub incoming: Vec<Incoming>,
    /// Since when it holds.
    pub since: Timestamp,
}

/// A form in which a vendor tells of changes.
#[derive(Debug)]
pub struct Incoming {
    /// Its name in the path.
    pub name: String,
    /// Whose changes.
    pub controller: Controller,
    /// What is which column.
    pub mapping: Mapping,
}

impl Live {
    /// Everything for the web that a configuration leads to, beside what it shares with mail.
    ///
    /// # Errors
    ///
    /// What is wrong with a file that the configuration names.
    pub fn of(
        config: Arc<Config>,
        treatment: Arc<Treatment>,
        outbound: Arc<[Arc<Outbound>]>,
        tls: Arc<[Option<Tls>]>,
    ) -> Result<Live, String> {
        let mut incoming = Vec::new();
        for form in &config.api.incoming {
            let mapping = Mapping::load(&form.mapping).map_err(|error| format!("api.incoming: {error}"))?;
            incoming.push(Incoming { name: form.name.clone(), controller: form.controller.clone(), mapping });
        }
        let load = |controller: &policy::Controller| {
            Face::load(controller).map(|face| (controller.name.clone(), face))
        };
        let faces = config.policy.rulebook.controllers().map(load).collect::<Result<_, _>>()?;
        let web_tls = |name: &str, pair: &Option<(PathBuf, PathBuf)>| {
            let loaded = pair.as_ref().map(|(chain, key)| Tls::load(chain, key, &ClientCertificate::None));
            loaded.transpose().map_err(|error| format!("{name}: {error}"))
        };
        Ok(Live {
            since: Timestamp::now(),
            api_tls: web_tls("api", &config.api.certificate)?,
            public_tls: web_tls("public", &config.public.certificate)?,
            faces,
            incoming,
            treatment,
            outbound,
            tls,
            config,
        })
    }

    /// How a controller shows itself on its preference page.
    pub fn face(&self, controller: &Controller) -> Option<&Face> {
        self.faces.iter().find(|(name, _)| name == controller).map(|(_, face)| face)
    }

    /// Where a mail of our own goes: the first whose conditions hold.
    pub fn outbound(&self, sender: &str, recipient: &str) -> Option<&Arc<Outbound>> {
        outbound::taking(&self.outbound, "", None, sender, Some(recipient))
    }

    /// All that the treatment of mail rests on.
    pub fn settings(&self) -> plan::Settings<'_> {
        self.treatment.settings(&self.config)
    }

    /// All next hops, in the order of the configuration.
    pub fn pools(&self) -> Vec<&Arc<Pool>> {
        outbound::pools(&self.outbound)
    }
}
