//! The routes of a configuration, with the next hops that they lead to.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use pixelward_config::{self as config, Config};
use pixelward_core::rewrite::downstream::Esp;
use pixelward_net::{pinned_tls_config, tls_config};

use crate::{Authentication, Credentials, Exchangers, MtaSts, NextHop, Pool, Route, Timeouts, Validation};

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

/// All routes of a configuration, in order.
///
/// # Errors
///
/// When a next hop is one of our own listeners, or a file of it cannot be used.
pub fn outbounds(config: &Config) -> Result<Arc<[Arc<Outbound>]>, String> {
    let mut pools = Vec::new();
    let resolvers = Resolvers::of(config)?;
    for hop in &config.next_hops {
        let mut next_hop = next_hop(config, hop)?;
        next_hop.exchangers = resolvers.of_hop(hop).cloned();
        if let (true, Some(exchangers)) = (hop.mta_sts, &next_hop.exchangers) {
            let tls = Arc::clone(&next_hop.tls_config);
            next_hop.mta_sts = Some(MtaSts::new(&hop.host, exchangers.clone(), tls, &config.data_directory));
        }
        pools.push((hop, Pool::new(next_hop)));
    }
    Ok(config.routes.iter().map(|route| Arc::new(outbound(route, &pools))).collect())
}

/// What finds exchangers, if any next hop has some: with validation for those with DANE, and without.
struct Resolvers {
    validating: Option<Exchangers>,
    plain: Option<Exchangers>,
}

impl Resolvers {
    fn of(config: &Config) -> Result<Resolvers, String> {
        let made = |dane: bool, validation| {
            let is_needed =
                |hop: &config::NextHop| hop.lookup == config::Lookup::Exchangers && hop.dane == dane;
            let is_needed = config.next_hops.iter().any(is_needed);
            is_needed.then(|| Exchangers::new(&config.relay.dns_servers, validation)).transpose()
        };
        let anchors = config.relay.dnssec_anchors.as_deref();
        Ok(Resolvers {
            validating: made(true, Validation::Dnssec(anchors))?,
            plain: made(false, Validation::None)?,
        })
    }

    fn of_hop(&self, hop: &config::NextHop) -> Option<&Exchangers> {
        match (hop.lookup, hop.dane) {
            (config::Lookup::Addresses, _) => None,
            (config::Lookup::Exchangers, true) => self.validating.as_ref(),
            (config::Lookup::Exchangers, false) => self.plain.as_ref(),
        }
    }
}

/// Where a mail goes: the first route whose conditions hold. `sender` is the address of the envelope. Without
/// a recipient, routes for some recipients are left out.
pub fn taking<'a>(
    outbounds: &'a [Arc<Outbound>],
    listener: &str,
    login: Option<&str>,
    sender: &str,
    recipient: Option<&str>,
) -> Option<&'a Arc<Outbound>> {
    outbounds.iter().find(|outbound| outbound.conditions.takes(listener, login, sender, recipient))
}

/// Whether mail of this sender may go different ways to different recipients.
pub fn is_by_recipient(
    outbounds: &[Arc<Outbound>],
    listener: &str,
    login: Option<&str>,
    sender: &str,
) -> bool {
    let first = outbounds.iter().find(|outbound| outbound.conditions.takes_from(listener, login, sender));
    first.is_some_and(|first| !first.conditions.recipient_domains.is_empty())
}

/// All next hops of these routes, in the order of the configuration.
pub fn pools(outbounds: &[Arc<Outbound>]) -> Vec<&Arc<Pool>> {
    let mut pools: Vec<&Arc<Pool>> = Vec::new();
    for pool in outbounds.iter().flat_map(|outbound| outbound.route.pools()) {
        if !pools.iter().any(|known| Arc::ptr_eq(known, pool)) {
            pools.push(pool);
        }
    }
    pools
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
    if !hop.tls_fingerprints.is_empty() && (hop.ca_file.is_some() || hop.tls_name.is_some()) {
        return Err(format!(
            "next_hop {:?}: its certificate is known by tls_fingerprints, so leave out ca_file and tls_name",
            hop.name
        ));
    }
    let certificate = hop.certificate.as_ref().map(|(chain, key)| (chain.as_path(), key.as_path()));
    let tls = match &hop.tls_fingerprints[..] {
        [] => tls_config(hop.ca_file.as_deref(), certificate),
        fingerprints => pinned_tls_config(fingerprints, certificate),
    };
    let tls = tls.map_err(|error| format!("next_hop {:?}: {error}", hop.name))?;
    let mut next_hop = NextHop::new(&hop.host, hop.port, hop.tls, tls, &config.relay.host_name);
    next_hop.is_tls_fixed = hop.is_tls_fixed;
    if !hop.tls_fingerprints.is_empty() {
        next_hop.authentication = Authentication::Fingerprint;
    }
    if let Some(path) = &hop.credentials_file {
        next_hop.credentials =
            Some(Credentials::load(path).map_err(|error| format!("next_hop.credentials_file: {error}"))?);
    }
    if let Some((login, path)) = &hop.oauth {
        if hop.credentials_file.is_some() {
            return Err(format!(
                "next_hop {:?}: use either credentials_file or oauth_token_file, not both",
                hop.name
            ));
        }
        let credentials = Credentials::with_token(login.clone(), path.clone());
        next_hop.credentials =
            Some(credentials.map_err(|error| format!("next_hop.oauth_token_file: {error}"))?);
    }
    next_hop.protocol = hop.protocol;
    next_hop.tls_name.clone_from(&hop.tls_name);
    next_hop.source_addresses.clone_from(&hop.source_addresses);
    next_hop.timeouts = Timeouts {
        connect: hop.connect_timeout,
        greeting: hop.greeting_timeout.min(hop.command_timeout),
        command: hop.command_timeout,
        data: hop.data_timeout,
        dot: hop.dot_timeout,
        ..next_hop.timeouts
    };
    next_hop.idle = hop.idle;
    next_hop.max_age = hop.max_age;
    next_hop.max_messages = hop.max_messages;
    next_hop.max_connections = hop.max_connections;
    next_hop.weight = hop.weight;
    next_hop.messages_per_minute = hop.messages_per_minute;
    next_hop.burst = hop.burst;
    next_hop.pipeline_data = hop.pipeline_data;
    Ok(next_hop)
}

/// Whether who connects to this host and port comes to `listener` on this machine, as far as can be said
/// without DNS.
fn leads_to(host: &str, port: u16, listener: &SocketAddr, own_name: &str) -> bool {
    if port != listener.port() {
        return false;
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse::<IpAddr>().ok();
    let is_loopback =
        bare.eq_ignore_ascii_case("localhost") || address.is_some_and(|address| address.is_loopback());
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
    fn a_fingerprint_leaves_nothing_for_an_authority_or_a_name() {
        let check = |more: &str| {
            let digest = "0a".repeat(32);
            let text = format!("[next_hop]\nhost = \"a.example\"\ntls_fingerprints = {digest:?}\n{more}");
            outbounds(&Config::parse(&text).unwrap()).map(|_| ())
        };
        assert_eq!(check(""), Ok(()));
        for more in ["ca_file = \"ca.pem\"", "tls_name = \"b.example\""] {
            assert!(check(more).unwrap_err().contains("leave out ca_file and tls_name"), "{more}");
        }
    }

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
