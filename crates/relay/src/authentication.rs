//! How a next hop shows who it is: as the configuration says, or as the domain that it serves has published,
//! by DANE (RFC 7672) or MTA-STS (RFC 8461). DANE goes first, because DNSSEC cannot be forged.

use std::sync::Arc;

use pixelward_net::dane::{Record, dane_tls_config, unauthenticated_tls_config};
use rustls::pki_types::ServerName;

use super::error::RelayError;
use super::exchangers::Tlsa;
use super::mta_sts::{Mode, Policy};
use super::next_hop::{NextHop, TlsMode};

/// What a connection's other side has shown that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// Nothing: it is in clear, or anybody could be there.
    None,
    /// A certificate from a trusted authority for a name that the configuration vouches for.
    Pkix,
    /// A certificate or public key that the configuration names.
    Fingerprint,
    /// A certificate from a trusted authority for a name in the domain's MTA-STS policy.
    MtaSts,
    /// A certificate that a TLSA record vouches for.
    Dane,
}

impl Authentication {
    /// Returns its name in the log, in metrics and for people.
    pub fn name(self) -> &'static str {
        match self {
            Authentication::None => "none",
            Authentication::Pkix => "pkix",
            Authentication::Fingerprint => "fingerprint",
            Authentication::MtaSts => "mta-sts",
            Authentication::Dane => "dane",
        }
    }
}

/// What the other side has to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Demand {
    /// What the configuration says.
    Configured,
    /// TLS with any certificate: there are TLSA records, but none that can be used.
    AnyTls,
    /// TLS with a certificate for this name, which is in the domain's policy.
    MtaSts(Arc<str>),
    /// TLS with a certificate that one of these records vouches for, at this name.
    Dane(String, Vec<Record>),
}

/// Who is at an address.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The name that DNS gave for it, if it was found by MX.
    pub exchanger: Option<Arc<str>>,
    /// What it has to show.
    pub demand: Demand,
    /// What it may do instead if it cannot: the domain only tests its policy.
    pub otherwise: Option<Demand>,
}

impl Peer {
    /// Somebody of whom only the configuration knows.
    pub const CONFIGURED: Peer = Peer { exchanger: None, demand: Demand::Configured, otherwise: None };

    /// Returns who an exchanger has to show that it is.
    ///
    /// # Errors
    ///
    /// When the domain's policy does not name it.
    pub(super) fn of(
        hop: &NextHop,
        exchanger: &Arc<str>,
        tlsa: Tlsa,
        policy: Option<&Policy>,
    ) -> Result<Peer, RelayError> {
        let peer = |demand, otherwise| Peer { exchanger: Some(Arc::clone(exchanger)), demand, otherwise };
        let without_policy = match tlsa {
            Tlsa::Usable(base, records) => return Ok(peer(Demand::Dane(base, records), None)),
            Tlsa::Unusable if hop.is_tls_fixed && hop.tls == TlsMode::Required => Demand::Configured,
            Tlsa::Unusable => Demand::AnyTls,
            Tlsa::None => Demand::Configured,
        };
        let Some(policy) = policy.filter(|policy| policy.mode != Mode::None) else {
            return Ok(peer(without_policy, None));
        };
        let demand = Demand::MtaSts(Arc::clone(exchanger));
        match (policy.mode, policy.names(exchanger)) {
            (Mode::Enforce, true) => Ok(peer(demand, None)),
            (Mode::Enforce, false) => Err(RelayError::OutsidePolicy { exchanger: exchanger.to_string() }),
            (_, true) => Ok(peer(demand, Some(without_policy))),
            (_, false) => {
                tested(hop, exchanger, "the policy does not name it");
                Ok(peer(without_policy, None))
            }
        }
    }

    /// Returns whether nothing goes to it in clear.
    pub(super) fn needs_tls(&self, hop: &NextHop) -> bool {
        hop.tls == TlsMode::Required || self.demand != Demand::Configured
    }

    /// Returns the name that it is asked for, how its certificate is verified, and what that shows.
    pub(super) fn verification(
        &self,
        hop: &NextHop,
    ) -> Option<(ServerName<'static>, Arc<rustls::ClientConfig>, Authentication)> {
        let named = |name: &str| ServerName::try_from(name.to_owned()).ok();
        let configured = || Arc::clone(&hop.tls_config);
        Some(match &self.demand {
            Demand::Configured => {
                (hop.server_name(self.exchanger.as_deref())?, configured(), hop.authentication)
            }
            Demand::AnyTls => {
                let name = self.exchanger.as_deref().unwrap_or(&hop.host);
                (named(name)?, unauthenticated_tls_config(&hop.tls_config), Authentication::None)
            }
            Demand::MtaSts(name) => (named(name)?, configured(), Authentication::MtaSts),
            Demand::Dane(base, records) => {
                let mut names = vec![base.clone(), hop.host.clone()];
                names.extend(self.exchanger.as_deref().map(str::to_owned));
                let config = dane_tls_config(&hop.tls_config, records.clone(), &names);
                (named(base)?, config, Authentication::Dane)
            }
        })
    }
}

/// Tells that an exchanger would get no mail if its domain enforced the policy that it tests.
pub(super) fn tested(hop: &NextHop, exchanger: &str, why: &str) {
    metrics::counter!("pixelward_mta_sts_testing_failures_total").increment(1);
    tracing::warn!(
        next_hop = %hop, exchanger, why,
        "the domain tests an MTA-STS policy that this exchanger does not fulfil; mail goes to it all the same"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(mode: &str, mx: &str) -> Policy {
        Policy::read(&format!("version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: 60\n")).unwrap()
    }

    #[test]
    fn dane_goes_before_mta_sts_and_both_before_what_is_configured() {
        let record = Record::read(3, 1, 1, &[7; 32]).unwrap();
        let usable = Tlsa::Usable("mx.home.example".to_owned(), vec![record.clone()]);
        let dane = Demand::Dane("mx.home.example".to_owned(), vec![record]);
        let exchanger: Arc<str> = Arc::from("mx.home.example");
        let policies = |mode| [policy(mode, "mx.home.example"), policy(mode, "other.example")];
        let [enforce, excluding] = policies("enforce");
        let [testing, not_naming] = policies("testing");
        let none = policy("none", "other.example");
        let sts = || Demand::MtaSts(Arc::clone(&exchanger));
        let check = |tlsa: &Tlsa, policy: Option<&Policy>, fixed: Option<TlsMode>| {
            let tls = pixelward_net::tls_config(None, None).unwrap();
            let mode = fixed.unwrap_or(TlsMode::Required);
            let mut hop = NextHop::new("home.example", 25, mode, tls, "relay.example");
            hop.is_tls_fixed = fixed.is_some();
            let peer = Peer::of(&hop, &exchanger, tlsa.clone(), policy).ok()?;
            Some((peer.demand, peer.otherwise))
        };
        for policy in [None, Some(&enforce), Some(&excluding), Some(&testing), Some(&none)] {
            assert_eq!(check(&usable, policy, None), Some((dane.clone(), None)), "{policy:?}");
        }
        for (tlsa, without) in [(Tlsa::None, Demand::Configured), (Tlsa::Unusable, Demand::AnyTls)] {
            assert_eq!(check(&tlsa, None, None), Some((without.clone(), None)));
            assert_eq!(check(&tlsa, Some(&none), None), Some((without.clone(), None)));
            assert_eq!(check(&tlsa, Some(&enforce), None), Some((sts(), None)));
            assert_eq!(check(&tlsa, Some(&excluding), None), None);
            assert_eq!(check(&tlsa, Some(&testing), None), Some((sts(), Some(without.clone()))));
            assert_eq!(check(&tlsa, Some(&not_naming), None), Some((without, None)));
        }
        // Who requires TLS has said what certificates must be; who takes it as it comes has not.
        let fixed = |mode| check(&Tlsa::Unusable, None, Some(mode));
        assert_eq!(fixed(TlsMode::Required), Some((Demand::Configured, None)));
        assert_eq!(fixed(TlsMode::Opportunistic), Some((Demand::AnyTls, None)));
    }
}
