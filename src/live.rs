//! What can be replaced while the relay runs: everything that a configuration leads to.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{self, ClientCertificate, Config, ListenerTls};
use crate::consent::{Controller, Timestamp};
use crate::plan;
use crate::policy;
use crate::private_file::is_open_to_others;
use crate::relay::next_hop::tls_config;
use crate::relay::{Capabilities, Credentials, NextHop, Pool, Route, Timeouts};
use crate::rewrite::downstream::Esp;
use crate::rewrite::notice::Fragments;
use crate::server::{Tls, Users, tls};
use crate::sign::{Signers, SigningKey};
use crate::tracker::lists::Lists;
use crate::tracker::{Catalogue, Detector};
use crate::web::mapping::Mapping;
use crate::web::public::Face;

/// What can be replaced while the relay runs.
#[derive(Debug)]
pub struct Live {
    /// The configuration.
    pub config: Config,
    /// What messages are treated with.
    pub treatment: Treatment,
    /// Where mail goes.
    pub outbound: Vec<Arc<Outbound>>,
    /// TLS of each listener.
    pub tls: Vec<Option<Tls>>,
    /// Who may log in at each listener.
    pub users: Vec<Option<Arc<Users>>>,
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

/// What messages are treated with, beside what the configuration itself says.
#[derive(Debug)]
pub struct Treatment {
    /// Finds trackers.
    pub detector: Detector,
    /// Our own keys.
    pub signers: Signers,
    /// What is put into the mail of each controller.
    fragments: Vec<(Controller, Fragments)>,
    /// What is put into the mail of a controller that is none of them.
    default_fragments: Fragments,
}

impl Treatment {
    /// Reads what a configuration names: catalogues, lists, texts and keys.
    ///
    /// # Errors
    ///
    /// What is wrong with one of the files.
    pub fn of(config: &Config) -> Result<Treatment, String> {
        let mut entries = String::new();
        for path in &config.tracker.catalogues {
            entries.push_str(
                &std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?,
            );
            entries.push('\n');
        }
        let catalogue = Catalogue::with(&entries).map_err(|error| format!("tracker.catalogues: {error}"))?;
        let lists = lists(config)?;
        let holders = config.dkim.keys.iter().map(|key| key.holders(&config.policy.rulebook));
        let keys = signing_keys(config)?.into_iter().zip(holders).collect();
        let signers = Signers::new(keys, config.dkim.fallback_domain.clone());
        let mut fragments = Vec::new();
        for controller in config.policy.rulebook.controllers() {
            fragments.push((controller.name.clone(), fragments_of(controller)?));
        }
        let detector = Detector::new(catalogue).allowing(config.tracker.allow.clone()).listing(lists);
        Ok(Treatment { detector, signers, fragments, default_fragments: Fragments::default() })
    }

    /// All that the treatment of mail rests on.
    pub fn settings<'a>(&'a self, config: &'a Config) -> plan::Settings<'a> {
        plan::Settings {
            detector: &self.detector,
            rulebook: &config.policy.rulebook,
            fragments: &self.fragments,
            default_fragments: &self.default_fragments,
            protected: config.policy.protected,
            verify: config.policy.verify,
            token_key: config.public.token_key,
            signers: &self.signers,
            sign: config.dkim.sign,
            on_broken: config.dkim.on_broken,
        }
    }
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

/// A route of the configuration with its next hops.
#[derive(Debug)]
pub struct Outbound {
    /// Which mail takes it.
    pub conditions: config::Route,
    /// Where it leads.
    pub route: Arc<Route>,
    /// The service that its next hops belong to.
    pub esp: Option<Esp>,
    /// The service that may track all the same, and why that is accepted; empty where there is none.
    pub accepted_tracking: String,
}

impl Live {
    /// Everything that a configuration leads to.
    ///
    /// # Errors
    ///
    /// What is wrong with a file that the configuration names.
    pub fn of(config: Config) -> Result<Live, String> {
        let treatment = Treatment::of(&config)?;
        let mut pools = Vec::new();
        for hop in &config.next_hops {
            pools.push((hop, Pool::new(next_hop(&config, hop)?)));
        }
        let outbound = config.routes.iter().map(|route| Arc::new(outbound(route, &pools))).collect();
        let (mut certificates, mut logins) = (Vec::new(), Vec::new());
        for listener in &config.listeners {
            certificates.push(own_tls(&config, listener)?);
            logins.push(users(listener)?);
        }
        let mut incoming = Vec::new();
        for own in &config.api.incoming {
            let mapping = Mapping::load(&own.mapping).map_err(|error| format!("api.incoming: {error}"))?;
            incoming.push(Incoming { name: own.name.clone(), controller: own.controller.clone(), mapping });
        }
        let load = |own: &policy::Controller| Face::load(own).map(|face| (own.name.clone(), face));
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
            tls: certificates,
            users: logins,
            config,
        })
    }

    /// How a controller shows itself on its preference page.
    pub fn face(&self, controller: &Controller) -> Option<&Face> {
        self.faces.iter().find(|(name, _)| name == controller).map(|(_, face)| face)
    }

    /// Where a mail goes: the first whose conditions hold. `sender` is the address of the envelope.
    pub fn outbound(&self, listener: &str, login: Option<&str>, sender: &str) -> Option<&Arc<Outbound>> {
        self.outbound.iter().find(|own| own.conditions.takes(listener, login, sender))
    }

    /// All that the treatment of mail rests on.
    pub fn settings(&self) -> plan::Settings<'_> {
        self.treatment.settings(&self.config)
    }

    /// What all next hops announce that mail of a listener can come to, as far as they were seen; `None` where none was.
    pub fn capabilities(&self, listener: &str) -> Option<Capabilities> {
        let possible = self
            .outbound
            .iter()
            .filter(|own| own.conditions.listener.as_deref().is_none_or(|name| name == listener));
        possible.filter_map(|own| own.route.capabilities()).reduce(Capabilities::common)
    }

    /// All next hops, in the order of the configuration.
    pub fn pools(&self) -> Vec<&Arc<Pool>> {
        let mut pools: Vec<&Arc<Pool>> = Vec::new();
        for pool in self.outbound.iter().flat_map(|own| own.route.pools()) {
            if !pools.iter().any(|own| Arc::ptr_eq(own, pool)) {
                pools.push(pool);
            }
        }
        pools
    }
}

fn outbound(conditions: &config::Route, pools: &[(&config::NextHop, Arc<Pool>)]) -> Outbound {
    let named = |name: &String| pools.iter().find(|(hop, _)| hop.name == *name);
    let on_it: Vec<_> = conditions.next_hops.iter().filter_map(named).collect();
    let accepted = on_it.iter().find_map(|(hop, _)| {
        let esp = hop.esp.filter(|esp| esp.doubt().is_some())?;
        Some(format!("{}: {}", esp.name(), hop.accept_downstream_tracking.as_ref()?))
    });
    if let Some(reason) = &accepted {
        tracing::warn!(%reason, "the next hop's service may track behind this relay, which is accepted");
    }
    Outbound {
        conditions: conditions.clone(),
        route: Route::new(on_it.iter().map(|(_, pool)| Arc::clone(pool)).collect()),
        esp: on_it.first().and_then(|(hop, _)| hop.esp),
        accepted_tracking: accepted.unwrap_or_default(),
    }
}

/// The keys that a configuration names.
///
/// # Errors
///
/// What is wrong with one of their files.
pub fn signing_keys(config: &Config) -> Result<Vec<SigningKey>, String> {
    let read = |own: &config::DkimKey| {
        let wrong = |error: &dyn std::fmt::Display| format!("dkim.key: {}: {error}", own.key_file.display());
        let metadata = std::fs::metadata(&own.key_file).map_err(|error| wrong(&error))?;
        if is_open_to_others(&own.key_file, &metadata) {
            return Err(wrong(&"others may read the private key; run chmod 600 on it"));
        }
        let pem = std::fs::read(&own.key_file).map_err(|error| wrong(&error))?;
        SigningKey::read(&own.domain, &own.selector, &pem).map_err(|error| wrong(&error))
    };
    config.dkim.keys.iter().map(read).collect()
}

fn fragments_of(controller: &policy::Controller) -> Result<Fragments, String> {
    let Some(path) = &controller.footer_file else { return Ok(Fragments::shipped(&controller.language)) };
    let wrong = |error: &dyn std::fmt::Display| {
        format!("controller {}: footer_file: {}: {error}", controller.name, path.display())
    };
    let source = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
    Fragments::with(&source, &controller.language).map_err(|error| wrong(&error))
}

/// TLS of a listener, with a certificate for development where it has none of its own.
fn own_tls(config: &Config, listener: &config::Listener) -> Result<Option<Tls>, String> {
    let (certificate, key) = match (listener.tls, &listener.certificate) {
        (ListenerTls::None, _) => return Ok(None),
        (_, Some(pair)) => pair.clone(),
        (_, None) => tls::development(&config.certificate_directory, &config.relay.host_name)?,
    };
    Tls::load(&certificate, &key, &listener.client_certificate).map(Some)
}

/// The logins of a listener.
fn users(listener: &config::Listener) -> Result<Option<Arc<Users>>, String> {
    let Some(path) = &listener.users_file else { return Ok(None) };
    let users =
        Users::load(path).map_err(|error| format!("listener {}: users_file: {error}", listener.name))?;
    Ok(Some(Arc::new(users)))
}

/// The filter lists of a configuration.
fn lists(config: &Config) -> Result<Lists, String> {
    let mut lists = Lists::default();
    for path in &config.tracker.lists {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let before = lists.len();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        for ignored in lists.add(&name, &text) {
            tracing::debug!(list = %path.display(), "{ignored}");
        }
        if lists.len() == before {
            return Err(format!("{}: no line of it is a rule for images in mail", path.display()));
        }
        tracing::info!(list = %path.display(), rules = lists.len() - before, "a filter list was loaded");
    }
    Ok(lists)
}

/// A next hop as it is used.
///
/// # Errors
///
/// When it is one of our own listeners, or a file of it cannot be used.
fn next_hop(config: &Config, hop: &config::NextHop) -> Result<NextHop, String> {
    let is_own = |listener: &config::Listener| {
        leads_to(&hop.host, hop.port, &listener.address, &config.relay.host_name)
    };
    if config.listeners.iter().any(is_own) {
        return Err(format!(
            "next_hop {}:{} is a listener of this relay: mail would run in circles",
            hop.host, hop.port
        ));
    }
    let certificate = hop.certificate.as_ref().map(|(chain, key)| (chain.as_path(), key.as_path()));
    let tls = tls_config(hop.ca_file.as_deref(), certificate)
        .map_err(|error| format!("next_hop {:?}: {error}", hop.name))?;
    let mut next_hop = NextHop::new(&hop.host, hop.port, hop.tls, tls, &config.relay.host_name);
    if let Some(path) = &hop.credentials_file {
        next_hop.credentials =
            Some(Credentials::load(path).map_err(|error| format!("next_hop.credentials_file: {error}"))?);
    }
    next_hop.timeouts = Timeouts {
        connect: hop.connect_timeout,
        command: hop.command_timeout,
        data: hop.data_timeout,
        dot: hop.dot_timeout,
        ..next_hop.timeouts
    };
    next_hop.idle = hop.idle;
    next_hop.max_age = hop.max_age;
    next_hop.max_messages = hop.max_messages;
    next_hop.max_connections = hop.max_connections;
    next_hop.messages_per_minute = hop.messages_per_minute;
    next_hop.burst = hop.burst;
    Ok(next_hop)
}

/// Whether who connects to this host and port comes to `listener` on this machine, as far as can be said without DNS.
fn leads_to(host: &str, port: u16, listener: &SocketAddr, own_name: &str) -> bool {
    if port != listener.port() {
        return false;
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse::<IpAddr>().ok();
    let is_loopback = bare.eq_ignore_ascii_case("localhost") || address.is_some_and(|own| own.is_loopback());
    let is_named = bare.eq_ignore_ascii_case(own_name);
    let ip = listener.ip();
    address == Some(ip)
        || (is_loopback && (ip.is_unspecified() || ip.is_loopback() && address.is_none()))
        || (is_named && !ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_next_hop_that_is_a_listener_of_ours_is_known_by_address_and_by_name() {
        let check =
            |host, listener: &str| leads_to(host, 2525, &listener.parse().unwrap(), "relay.sender.example");
        for (host, listener) in [
            ("127.0.0.1", "127.0.0.1:2525"),
            ("localhost", "127.0.0.1:2525"),
            ("localhost", "[::1]:2525"),
            ("LOCALHOST", "0.0.0.0:2525"),
            ("127.0.0.9", "0.0.0.0:2525"),
            ("[::1]", "[::]:2525"),
            ("192.0.2.7", "192.0.2.7:2525"),
            ("Relay.sender.example", "0.0.0.0:2525"),
            ("relay.sender.example", "192.0.2.7:2525"),
        ] {
            assert!(check(host, listener), "{host} {listener}");
        }
        for (host, listener) in [
            ("127.0.0.1", "127.0.0.1:2526"),
            ("127.0.0.2", "127.0.0.1:2525"),
            ("192.0.2.8", "192.0.2.7:2525"),
            ("192.0.2.8", "0.0.0.0:2525"),
            ("relay.sender.example", "127.0.0.1:2525"),
            ("smtp.next-hop.example", "0.0.0.0:2525"),
        ] {
            assert!(!check(host, listener), "{host} {listener}");
        }
    }
}
