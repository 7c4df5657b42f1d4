//! The mail exchangers of a domain, in the order in which they are tried (RFC 5321, section 5.1).
//!
//! DNS that is not secured by DNSSEC may be forged: where TLS is verified, an exchanger must have a
//! certificate for a name that the configuration vouches for ([`NextHop::name_of`](super::NextHop::name_of)),
//! or that the domain does ([`Demand`](super::authentication::Demand)).

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::dnssec::{Proof, TrustAnchors};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{RData, Record as ResolverRecord, RecordType};
use hickory_resolver::{Resolver, TokioResolver};
use pixelward_net::dane::Record;
use tokio::task::JoinHandle;

/// The maximum number of exchangers that are looked up.
const MOST_EXCHANGERS: usize = 16;

/// Whether answers are validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validation<'a> {
    /// They are taken as they come.
    None,
    /// By DNSSEC, from the keys in this file on, or from those of the root that are built in.
    Dnssec(Option<&'a Path>),
}

/// Finds exchangers, and keeps what it found as long as DNS says.
#[derive(Clone)]
pub struct Exchangers {
    resolver: Arc<TokioResolver>,
    is_validating: bool,
}

/// An exchanger with what DNS says about it.
#[derive(Debug)]
pub struct Exchanger {
    /// Its name.
    pub name: Arc<str>,
    /// Its addresses and TLSA records, or why they cannot be known.
    pub found: Result<(Vec<IpAddr>, Tlsa), String>,
}

/// The TLSA records of an exchanger, where DNSSEC secures everything that leads to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tlsa {
    /// There is none, or it is not secured.
    None,
    /// There are some, but SMTP can use none of them.
    Unusable,
    /// These, for an exchanger with this name, which may be what its own is an alias of.
    Usable(String, Vec<Record>),
}

impl fmt::Debug for Exchangers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exchangers")
    }
}

impl Exchangers {
    /// Creates one that asks these DNS servers, or those of the system if there are none. With validation, an
    /// answer that DNSSEC should secure and does not is an error.
    ///
    /// # Errors
    ///
    /// When the system's are not known, or the keys cannot be read.
    pub fn new(servers: &[SocketAddr], validation: Validation<'_>) -> Result<Exchangers, String> {
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
        // Each step of an alias must be seen to be secure.
        builder.options_mut().preserve_intermediates = true;
        let is_validating = validation != Validation::None;
        builder.options_mut().validate = is_validating;
        if let Validation::Dnssec(Some(path)) = validation {
            builder = builder.with_trust_anchor(Arc::new(anchors(path)?));
        }
        let resolver = builder.build().map_err(named)?;
        Ok(Exchangers { resolver: Arc::new(resolver), is_validating })
    }

    /// Returns the exchangers of a domain, the preferred ones first and equal ones in random order. A domain
    /// without MX records is its own exchanger. Where this relay is one of them, only those that are
    /// preferred to it are left. With validation, also their TLSA records for this port.
    ///
    /// # Errors
    ///
    /// When none has an address that can be known, or the domain accepts no mail (RFC 7505).
    pub async fn of(&self, domain: &str, this_relay: &str, port: u16) -> io::Result<Vec<Exchanger>> {
        let (is_secure, mut found) = self.records(domain).await?;
        let ours = found.iter().filter(|(_, name)| name.eq_ignore_ascii_case(this_relay));
        if let Some(ours) = ours.map(|(preference, _)| *preference).min() {
            found.retain(|(preference, _)| *preference < ours);
            if found.is_empty() {
                return Err(io::Error::other("this relay is the domain's most preferred exchanger"));
            }
        }
        let random = RandomState::new();
        found.sort_by_cached_key(|(preference, name)| (*preference, random.hash_one(name)));
        let names = found.into_iter().take(MOST_EXCHANGERS).map(|(_, name)| name);
        let mut tasks = Vec::new();
        for name in names {
            let (exchangers, asked) = (self.clone(), name.clone());
            let task = async move { exchangers.look_up(&asked, is_secure, port).await };
            tasks.push((name, AbortOnDropHandle(tokio::spawn(task))));
        }
        let mut all = Vec::new();
        for (name, mut task) in tasks {
            let found = (&mut task.0).await.unwrap_or_else(|error| Err(error.to_string()));
            all.push(Exchanger { name: Arc::from(name), found });
        }
        match all.iter().find_map(|exchanger| exchanger.found.as_ref().err()) {
            Some(error) if all.iter().all(|exchanger| exchanger.found.is_err()) => {
                Err(io::Error::other(error.clone()))
            }
            _ => Ok(all),
        }
    }

    /// Returns the MX records of a domain, and whether they are secure. If there are none, the addresses of
    /// the domain decide that: they are in the same zone.
    async fn records(&self, domain: &str) -> io::Result<(bool, Vec<(u16, String)>)> {
        let found = match self.resolver.mx_lookup(absolute(domain)).await {
            Ok(found) => found,
            Err(error) if absence(&error) == Some(ResponseCode::NoError) => {
                return Ok((self.is_validating, vec![(0, domain.to_owned())]));
            }
            Err(error) => return Err(io::Error::other(said(&error))),
        };
        let is_secure = self.is_secure(found.answers());
        let records = found.answers().iter().filter_map(|record| match &record.data {
            RData::MX(exchanger) => Some((exchanger.preference, exchanger.exchange.to_ascii())),
            _ => None,
        });
        let records: Vec<(u16, String)> =
            records.map(|(preference, name)| (preference, name.trim_end_matches('.').to_owned())).collect();
        let records = match &records[..] {
            [] => vec![(0, domain.to_owned())],
            [(_, name)] if name.is_empty() => {
                return Err(io::Error::other("the domain accepts no mail (null MX, RFC 7505)"));
            }
            _ => records.into_iter().filter(|(_, name)| !name.is_empty()).collect(),
        };
        Ok((is_secure, records))
    }

    /// Returns the addresses of an exchanger, and its TLSA records if everything is secure so far (RFC 7672,
    /// section 2.2).
    async fn look_up(&self, name: &str, is_secure: bool, port: u16) -> Result<(Vec<IpAddr>, Tlsa), String> {
        let found = self.resolver.lookup_ip(absolute(name)).await.map_err(|error| said(&error))?;
        let addresses = found.iter().collect();
        let answers = found.as_lookup().answers();
        if !is_secure || !self.is_secure(answers) {
            return Ok((addresses, Tlsa::None));
        }
        let is_address = |record: &&ResolverRecord| record.data.ip_addr().is_some();
        let last = answers.iter().find(is_address).map(|record| record.name.to_ascii());
        let last = last.unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
        let mut bases = vec![last];
        if bases.iter().any(|base| !base.eq_ignore_ascii_case(name)) {
            bases.push(name.to_owned());
        }
        for base in bases {
            match self.tlsa(&base, port).await? {
                Tlsa::None => {}
                tlsa => return Ok((addresses, tlsa)),
            }
        }
        Ok((addresses, Tlsa::None))
    }

    async fn tlsa(&self, base: &str, port: u16) -> Result<Tlsa, String> {
        let name = format!("_{port}._tcp.{}", absolute(base));
        let found = match self.resolver.tlsa_lookup(name.as_str()).await {
            Ok(found) => found,
            Err(error) if absence(&error).is_some() => return Ok(Tlsa::None),
            Err(error) => return Err(format!("its TLSA records cannot be known: {}", said(&error))),
        };
        if !self.is_secure(found.answers()) {
            return Ok(Tlsa::None);
        }
        let (mut count, mut usable) = (0, Vec::new());
        for record in found.answers() {
            if let RData::TLSA(tlsa) = &record.data {
                count += 1;
                let fields = (tlsa.cert_usage.into(), tlsa.selector.into(), tlsa.matching.into());
                usable.extend(Record::read(fields.0, fields.1, fields.2, &tlsa.cert_data));
            }
        }
        Ok(match (count, usable.is_empty()) {
            (0, _) => Tlsa::None,
            (_, true) => Tlsa::Unusable,
            (_, false) => Tlsa::Usable(base.to_owned(), usable),
        })
    }

    /// Returns the texts at a name; none if there is none.
    ///
    /// # Errors
    ///
    /// When it cannot be looked up.
    pub(super) async fn texts(&self, name: &str) -> Result<Vec<String>, String> {
        match self.resolver.txt_lookup(absolute(name)).await {
            Ok(found) => {
                let texts = found.answers().iter().filter_map(|record| match &record.data {
                    RData::TXT(text) => Some(text.txt_data.concat()),
                    _ => None,
                });
                Ok(texts.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect())
            }
            Err(error) if absence(&error).is_some() => Ok(Vec::new()),
            Err(error) => Err(said(&error)),
        }
    }

    /// Returns the addresses of a host.
    ///
    /// # Errors
    ///
    /// When it cannot be looked up.
    pub(super) async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, String> {
        let found = self.resolver.lookup_ip(absolute(name)).await;
        found.map(|found| found.iter().collect()).map_err(|error| said(&error))
    }

    /// Returns whether our own validation has found every record to be secure.
    fn is_secure(&self, answers: &[ResolverRecord]) -> bool {
        let mut records =
            answers.iter().filter(|record| record.record_type() != RecordType::RRSIG).peekable();
        self.is_validating && records.peek().is_some() && records.all(|record| record.proof == Proof::Secure)
    }
}

/// A task that ends with whoever waits for it.
struct AbortOnDropHandle<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDropHandle<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Returns the code of an answer that says there is nothing, which may be insecure but not bogus.
fn absence(error: &NetError) -> Option<ResponseCode> {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => Some(none.response_code),
        NetError::Dns(DnsError::Nsec { response, proof: Proof::Insecure, .. }) => {
            Some(response.response_code)
        }
        _ => None,
    }
}

/// Says what went wrong, and what to do where DNSSEC did.
fn said(error: &NetError) -> String {
    match error {
        NetError::Dns(DnsError::DnssecBogus | DnsError::Nsec { .. }) => {
            "DNSSEC validation failed: the zone is signed, but the answer is not, or wrongly. If that is so \
             for every domain, the DNS server does not pass signatures on: set dns_server to one that does"
                .to_owned()
        }
        other => other.to_string(),
    }
}

/// Reads keys that DNSSEC begins with: DNSKEY records as a zone file has them.
fn anchors(path: &Path) -> Result<TrustAnchors, String> {
    let named = |error: &dyn fmt::Display| format!("relay.dnssec_anchor_file {}: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| named(&error))?;
    let anchors: TrustAnchors = text.parse().map_err(|error| named(&error))?;
    if text.contains("DNSKEY") { Ok(anchors) } else { Err(named(&"it contains no DNSKEY record")) }
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
