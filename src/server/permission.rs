//! Who may send mail through a listener.

use std::net::IpAddr;

use super::connection::Conversation;
use crate::config::{ClientCertificate, Listener};
use crate::smtp::features::Permission;
use crate::smtp::session::Identity;

/// How the address of a client is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// It is the peer of the connection.
    Seen,
    /// A proxy or a mail server named it (PROXY, XCLIENT). It may be an address on that machine, so a
    /// loopback address is not ours.
    Told,
    /// It is unknown: the address at hand belongs to the proxy.
    Unknown,
}

impl Conversation<'_> {
    /// Returns whether the client may speak at all: it may send mail, or authenticate first, or it is a proxy
    /// that looks whether the relay answers.
    pub(super) fn may_connect(&self) -> bool {
        let asked = matches!(self.settings.client_certificate, ClientCertificate::Asked(_));
        let is_proxy = || {
            let mut proxies = self.settings.proxy_networks.iter();
            proxies.any(|network| network.contains(self.peer.ip()))
        };
        asked || is_proxy() || is_allowed_source(&self.settings, self.peer.ip(), self.source)
    }

    /// Returns whether a login could help the client: mail may be sent from its address.
    pub(super) fn may_log_in(&self) -> bool {
        is_allowed_source(&self.settings, self.peer.ip(), self.source)
    }

    /// Returns whether the client may send mail now.
    pub(super) fn permission(&self) -> Permission {
        permission(&self.settings, self.peer.ip(), self.source, &self.identity)
    }
}

fn permission(settings: &Listener, address: IpAddr, source: Source, identity: &Identity) -> Permission {
    let has_certificate = identity.certificate.is_some();
    let place = is_allowed_source(settings, address, source);
    match &settings.client_certificate {
        ClientCertificate::Asked(_) if has_certificate => Permission::Given,
        ClientCertificate::Required(_) if has_certificate && place => Permission::Given,
        ClientCertificate::Required(_) => Permission::Denied,
        _ if !place => Permission::Denied,
        _ if settings.require_login && identity.login.is_none() => Permission::AfterLogin,
        _ => Permission::Given,
    }
}

/// Returns whether clients with this address may send mail, possibly after authentication.
fn is_allowed_source(settings: &Listener, address: IpAddr, source: Source) -> bool {
    let shows_who_it_is =
        settings.require_login || matches!(settings.client_certificate, ClientCertificate::Required(_));
    let address = address.to_canonical();
    let is_listed = || settings.allowed_networks.iter().any(|network| network.contains(address));
    let is_trusted = match source {
        Source::Seen => address.is_loopback() || is_listed(),
        Source::Told => is_listed(),
        Source::Unknown => false,
    };
    is_trusted || shows_who_it_is && settings.allowed_networks.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    /// What clients hear: from an allowed address, from loopback, from elsewhere; each without anything, with
    /// a login, with a certificate.
    fn check(lines: &str, wanted: [[Permission; 3]; 3]) {
        let source = format!(
            "[[listener]]\n\
             address = \"127.0.0.1:0\"\n\
             tls = \"required\"\n\
             {lines}\n\
             [next_hop]\n\
             host = \"a.example\"\n"
        );
        let settings = Config::parse(&source).unwrap().listeners.remove(0);
        let name = Some("shop".to_owned());
        let identities = [
            Identity::default(),
            Identity { login: name.clone(), ..Identity::default() },
            Identity { certificate: name, ..Identity::default() },
        ];
        for (address, wanted) in ["192.0.2.1", "127.0.0.1", "198.51.100.1"].into_iter().zip(wanted) {
            let heard = identities
                .clone()
                .map(|identity| permission(&settings, address.parse().unwrap(), Source::Seen, &identity));
            assert_eq!(heard, wanted, "{address} with {lines}");
        }
    }

    #[test]
    fn addresses_logins_and_certificates_give_permission() {
        use Permission::{AfterLogin, Denied, Given};
        const NETWORK: &str = "allowed_networks = [\"192.0.2.0/24\"]\n";
        const LOGIN: &str = "users_file = \"users\"\nrequire_login = true\n";
        const ASKED: &str = "client_certificate = \"asked\"\nclient_ca_file = \"ca.pem\"\n";
        const REQUIRED: &str = "client_certificate = \"required\"\nclient_ca_file = \"ca.pem\"\n";
        let never = [Denied; 3];
        check("", [never, [Given; 3], never]);
        check(NETWORK, [[Given; 3], [Given; 3], never]);
        let login = [AfterLogin, Given, AfterLogin];
        check(LOGIN, [login; 3]);
        check(&format!("{NETWORK}{LOGIN}"), [login, login, never]);
        let certificate = [Denied, Denied, Given];
        check(ASKED, [certificate, [Given; 3], certificate]);
        check(&format!("{NETWORK}{ASKED}"), [[Given; 3], [Given; 3], certificate]);
        check(&format!("{LOGIN}{ASKED}"), [[AfterLogin, Given, Given]; 3]);
        check(REQUIRED, [certificate; 3]);
        check(&format!("{NETWORK}{REQUIRED}"), [certificate, certificate, never]);
    }

    #[test]
    fn a_loopback_address_counts_where_it_is_seen_and_an_unknown_one_nowhere() {
        use Permission::{Denied, Given};
        let check = |networks: &str, address: &str| {
            let source = format!(
                "[[listener]]\naddress = \"127.0.0.1:0\"\nallowed_networks = [{networks}]\n\
                 [next_hop]\nhost = \"a.example\"\n"
            );
            let settings = Config::parse(&source).unwrap().listeners.remove(0);
            [Source::Seen, Source::Told, Source::Unknown]
                .map(|source| permission(&settings, address.parse().unwrap(), source, &Identity::default()))
        };
        for loopback in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(check("", loopback), [Given, Denied, Denied], "{loopback}");
        }
        assert_eq!(check("\"127.0.0.1\"", "127.0.0.1"), [Given, Given, Denied], "who lists it means it");
        assert_eq!(check("\"192.0.2.0/24\"", "192.0.2.1"), [Given, Given, Denied]);
    }
}
