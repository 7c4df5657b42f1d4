//! The mail exchangers of a domain, in the order in which they are tried (RFC 5321, section 5.1).
//!
//! DNS is not secured: where TLS is verified, an exchanger must have a certificate for a name that the
//! configuration vouches for ([`NextHop::name_of`](super::NextHop::name_of)).

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::{Resolver, TokioResolver};

/// The maximum number of exchangers that are looked up.
const MOST_EXCHANGERS: usize = 16;

/// Finds exchangers, and keeps what it found as long as DNS says.
#[derive(Clone)]
pub struct Exchangers(Arc<TokioResolver>);

impl fmt::Debug for Exchangers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exchangers")
    }
}

impl Exchangers {
    /// Creates one that asks these DNS servers, or those of the system if there are none.
    ///
    /// # Errors
    ///
    /// When the system's are not known.
    pub fn new(servers: &[SocketAddr]) -> Result<Exchangers, String> {
        let named = |error: NetError| format!("the DNS servers of the system are not known: {error}");
        let mut builder = match servers {
            [] => TokioResolver::builder_tokio().map_err(named)?,
            _ => {
                let servers = servers.iter().map(name_server).collect();
                let config = ResolverConfig::from_parts(None, Vec::new(), servers);
                Resolver::builder_with_config(config, TokioRuntimeProvider::default())
            }
        };
        builder.options_mut().ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
        builder.options_mut().case_randomization = true;
        builder.build().map(|resolver| Exchangers(Arc::new(resolver))).map_err(named)
    }

    /// Returns the exchangers of a domain with their addresses, the preferred ones first and equal ones in
    /// random order. A domain without MX records is its own exchanger. Where this relay is one of them, only
    /// those that are preferred to it are left.
    ///
    /// # Errors
    ///
    /// When they cannot be found, or the domain accepts no mail (RFC 7505).
    pub async fn of(&self, domain: &str, this_relay: &str) -> io::Result<Vec<(Arc<str>, Vec<IpAddr>)>> {
        let mut found = self.records(domain).await?;
        let ours = found.iter().filter(|(_, name)| name.eq_ignore_ascii_case(this_relay));
        if let Some(ours) = ours.map(|(preference, _)| *preference).min() {
            found.retain(|(preference, _)| *preference < ours);
            if found.is_empty() {
                return Err(io::Error::other("this relay is the domain's most preferred exchanger"));
            }
        }
        let random = RandomState::new();
        found.sort_by_cached_key(|(preference, name)| (*preference, random.hash_one(name)));
        let (mut exchangers, mut last) = (Vec::new(), None);
        for (_, name) in found.into_iter().take(MOST_EXCHANGERS) {
            match self.0.lookup_ip(absolute(&name)).await {
                Ok(addresses) => exchangers.push((Arc::from(name), addresses.iter().collect())),
                Err(error) => {
                    tracing::debug!(exchanger = name, %error, "an exchanger has no address");
                    last = Some(error);
                }
            }
        }
        match last {
            Some(error) if exchangers.is_empty() => Err(io::Error::other(error)),
            _ => Ok(exchangers),
        }
    }

    /// Returns the MX records of a domain.
    async fn records(&self, domain: &str) -> io::Result<Vec<(u16, String)>> {
        let found = match self.0.mx_lookup(absolute(domain)).await {
            Ok(found) => found,
            Err(error) if error.is_no_records_found() && !error.is_nx_domain() => {
                return Ok(vec![(0, domain.to_owned())]);
            }
            Err(error) => return Err(io::Error::other(error)),
        };
        let records = found.answers().iter().filter_map(|record| match &record.data {
            RData::MX(exchanger) => Some((exchanger.preference, exchanger.exchange.to_ascii())),
            _ => None,
        });
        let records: Vec<(u16, String)> =
            records.map(|(preference, name)| (preference, name.trim_end_matches('.').to_owned())).collect();
        match &records[..] {
            [] => Ok(vec![(0, domain.to_owned())]),
            [(_, name)] if name.is_empty() => {
                Err(io::Error::other("the domain accepts no mail (null MX, RFC 7505)"))
            }
            _ => Ok(records.into_iter().filter(|(_, name)| !name.is_empty()).collect()),
        }
    }
}

/// Makes a name absolute, so that nothing is appended to it.
fn absolute(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.'))
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    for connection in &mut server.connections {
        connection.port = address.port();
    }
    server
}
