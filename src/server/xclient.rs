//! What a trusted proxy or mail server says about the client that it speaks for (XCLIENT, XFORWARD).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::connection::{Conversation, Ended};
use super::permission::Source;
use crate::config::{ClientCertificate, Listener, Network};
use crate::smtp::envelope::{Envelope, Greeting, Identity, Protocol};
use crate::smtp::reply::Reply;
use crate::smtp::xclient::{Attributes, Forwarded, Name};

/// Which of the two commands a peer may use. Checked against the address from which it connects, whatever it
/// says later.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trust {
    /// XCLIENT.
    pub(super) xclient: bool,
    /// XFORWARD.
    pub(super) xforward: bool,
}

impl Trust {
    /// Returns what a peer with this address may say.
    pub(super) fn of(address: IpAddr, source: Source, settings: &Listener) -> Trust {
        // Behind a proxy, nobody is on this machine.
        let may_be_listed = match source {
            Source::Seen => true,
            Source::Told => !address.to_canonical().is_loopback(),
            Source::Unknown => false,
        };
        let listed =
            |networks: &[Network]| may_be_listed && networks.iter().any(|network| network.contains(address));
        Trust { xclient: listed(&settings.xclient_networks), xforward: listed(&settings.xforward_networks) }
    }
}

/// What XCLIENT said about a client, besides its address.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    /// The host name.
    pub(super) name: Option<String>,
    helo: Option<String>,
    protocol: Option<Protocol>,
    login: Option<String>,
}

impl Conversation<'_> {
    /// Applies what is said about the client, and greets again: the session begins anew.
    pub(super) async fn xclient(&mut self, attributes: &Attributes) -> Result<(), Ended> {
        let before = (self.peer, self.source, self.told.clone());
        for (name, value) in attributes.iter() {
            let took = match name {
                Name::Addr => self.told_address(value),
                Name::Proto => self.told_protocol(value),
                _ => {
                    self.told_text(name, value);
                    true
                }
            };
            if !took {
                (self.peer, self.source, self.told) = before;
                return self.error(Reply::new(501, "5.5.4 Invalid attribute value")).await;
            }
        }
        let required = matches!(self.settings.client_certificate, ClientCertificate::Required(_));
        let certificate = self.identity.certificate.take().filter(|_| required);
        self.identity = Identity { login: self.told.login.clone(), certificate, forwarded: None };
        self.greet();
        Ok(())
    }

    /// Returns the name in the greeting, and 220.
    pub(super) fn greet(&mut self) {
        let host_name = self.live().config.relay.host_name.clone();
        let protocol = if self.is_lmtp() { "LMTP" } else { "ESMTP" };
        self.say(&Reply::new(220, &format!("{host_name} {protocol} pixelward")));
    }

    /// An unknown address leaves the current one.
    fn told_address(&mut self, value: Option<&str>) -> bool {
        let Some(text) = value else { return true };
        let address = match text.split_at_checked(5) {
            Some((prefix, rest)) if prefix.eq_ignore_ascii_case("IPV6:") => {
                rest.parse::<Ipv6Addr>().map(IpAddr::V6).ok()
            }
            _ => text.parse::<Ipv4Addr>().map(IpAddr::V4).ok(),
        };
        let Some(address) = address else { return false };
        self.peer.set_ip(address);
        self.source = Source::Told;
        true
    }

    fn told_protocol(&mut self, value: Option<&str>) -> bool {
        self.told.protocol = match value.map(str::to_ascii_uppercase).as_deref() {
            None => None,
            Some("SMTP") => Some(Protocol::Smtp),
            Some("ESMTP") => Some(Protocol::Esmtp),
            Some(_) => return false,
        };
        true
    }

    fn told_text(&mut self, name: Name, value: Option<&str>) {
        let text = value.map(str::to_owned);
        match name {
            Name::Name => self.told.name = text,
            Name::Helo => self.told.helo = text,
            Name::Login => self.told.login = text,
            Name::Port => self.peer.set_port(value.and_then(|port| port.parse().ok()).unwrap_or(0)),
            _ => {}
        }
    }

    /// Notes what the upstream server says about the next message.
    pub(super) fn xforward(&mut self, attributes: &Attributes) {
        self.identity.forwarded.get_or_insert_default().update(attributes);
        self.say(&Reply::new(250, "2.0.0 Ok"));
    }

    /// Returns the greeting of the client, or of the one that a proxy speaks for.
    pub(super) fn told_greeting(&self, base: &Greeting) -> Greeting {
        Greeting {
            name: self.told.helo.as_ref().unwrap_or(&base.name).clone(),
            protocol: self.told.protocol.unwrap_or(base.protocol),
        }
    }

    /// Returns what a next hop is told about a message's origin: what the upstream server said, else what the
    /// relay knows about the client.
    pub(super) fn forwarded(&self, envelope: &Envelope) -> Forwarded {
        if let Some(told) = &envelope.forwarded {
            return (**told).clone();
        }
        let greeting = self.told_greeting(&envelope.client);
        let address = match self.peer.ip().to_canonical() {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("IPV6:{address}"),
        };
        let protocol = match greeting.protocol {
            Protocol::Smtp => "SMTP",
            Protocol::Esmtp => "ESMTP",
            Protocol::Lmtp => "LMTP",
        };
        Forwarded {
            name: self.told.name.clone(),
            address: Some(address),
            port: Some(self.peer.port().to_string()).filter(|_| self.peer.port() != 0),
            protocol: Some(protocol.to_owned()),
            helo: Some(greeting.name),
            ident: None,
            source: Some("REMOTE".to_owned()),
        }
    }
}
