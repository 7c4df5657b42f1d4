//! What can be replaced while the relay runs: everything that a configuration leads to.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pixelward_config::Treatment;
use pixelward_relay::{Outbound, outbound};

use crate::config::{self, Config, ListenerTls};
use crate::consent::Controller;
use crate::net::ask::Service;
use crate::plan;
use crate::policy::Origin;
use crate::relay::Capabilities;
use crate::server::{Tls, Users, tls};
use crate::smtp::session::Recipient;
use crate::web;

/// What can be replaced while the relay runs. Mail is handled by what stands here, pages and the API by
/// [`web::Live`].
#[derive(Debug)]
pub struct Live {
    /// The configuration.
    pub config: Arc<Config>,
    /// Its listeners, which sessions go on with after a reload.
    pub listeners: Vec<Arc<config::Listener>>,
    /// What messages are treated with.
    pub treatment: Arc<Treatment>,
    /// Where mail goes.
    pub outbound: Arc<[Arc<Outbound>]>,
    /// TLS of each listener.
    pub tls: Arc<[Option<Tls>]>,
    /// Whom to ask what tracked links lead to.
    pub lookups: Vec<Lookup>,
    /// Who may log in at each listener.
    pub users: Vec<Option<Arc<Users>>>,
    /// What pages and the API are served from.
    pub web: Arc<web::Live>,
}

/// A controller's service that says what tracked links lead to.
#[derive(Debug)]
pub struct Lookup {
    /// The controller.
    pub controller: Controller,
    /// The service.
    pub service: Service,
    /// How long mail waits for it.
    pub limit: Duration,
}

impl Live {
    /// Everything that a configuration leads to.
    ///
    /// # Errors
    ///
    /// What is wrong with a file that the configuration names.
    pub fn of(config: Config) -> Result<Live, String> {
        let config = Arc::new(config);
        let treatment = Arc::new(Treatment::of(&config)?);
        let outbound = outbound::outbounds(&config)?;
        let (mut certificates, mut logins) = (Vec::new(), Vec::new());
        for listener in &config.listeners {
            certificates.push(listener_tls(&config, listener)?);
            logins.push(users(listener)?);
        }
        let tls: Arc<[Option<Tls>]> = certificates.into();
        let shared = (Arc::clone(&config), Arc::clone(&treatment), Arc::clone(&outbound), Arc::clone(&tls));
        let web = Arc::new(web::Live::of(shared.0, shared.1, shared.2, shared.3)?);
        let listeners = config.listeners.iter().cloned().map(Arc::new).collect();
        let lookups = lookups(&config)?;
        Ok(Live { config, listeners, treatment, outbound, tls, lookups, users: logins, web })
    }

    /// Where a mail goes: the first whose conditions hold. `sender` is the address of the envelope. Without a
    /// recipient, those for some recipients are left out.
    pub fn outbound(
        &self,
        listener: &str,
        login: Option<&str>,
        sender: &str,
        recipient: Option<&str>,
    ) -> Option<&Arc<Outbound>> {
        outbound::taking(&self.outbound, listener, login, sender, recipient)
    }

    /// Whether mail of this sender may go different ways to different recipients.
    pub fn is_by_recipient(&self, listener: &str, login: Option<&str>, sender: &str) -> bool {
        outbound::is_by_recipient(&self.outbound, listener, login, sender)
    }

    /// Where each of these recipients' mail goes, if that depends on the recipient.
    pub fn ways(&self, origin: &Origin<'_>, recipients: &[Recipient]) -> Option<Vec<&Arc<Outbound>>> {
        let Origin { listener, login, sender } = *origin;
        let way = |to: &Recipient| self.outbound(listener, login, sender, Some(to.address.as_str()));
        let is_divided = self.is_by_recipient(listener, login, sender);
        is_divided.then(|| recipients.iter().filter_map(way).collect())
    }

    /// All that the treatment of mail rests on.
    pub fn settings(&self) -> plan::Settings<'_> {
        self.treatment.settings(&self.config)
    }

    /// What the next hops announce to which mail of this client can go. Where that depends on the sender or
    /// the recipient, what one of them announces: MAIL and RCPT decide. `None` where nothing is known of one.
    pub fn capabilities(&self, listener: &str, login: Option<&str>) -> Option<Capabilities> {
        let mut all: Option<Capabilities> = None;
        for outbound in &*self.outbound {
            let config::Route { listener: at, login: who, sender_domain, recipient_domains, .. } =
                &outbound.conditions;
            let is_possible = at.as_deref().is_none_or(|name| name == listener)
                && who.as_deref().is_none_or(|name| Some(name) == login);
            if !is_possible {
                continue;
            }
            let known = outbound.route.capabilities()?;
            all = Some(match all {
                Some(others) => others.either(known),
                None => known,
            });
            if sender_domain.is_none() && recipient_domains.is_empty() {
                break;
            }
        }
        all
    }

    /// Reads certificates again whose files have changed, and looks how near the end of each is. Both are
    /// logged, once.
    pub fn look_at_certificates(&self) {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let now = i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX);
        let listeners =
            self.config.listeners.iter().map(|listener| listener.name.as_str()).zip(self.tls.iter());
        let web = [("api", &self.web.api_tls), ("public", &self.web.public_tls)];
        for (name, tls) in listeners.chain(web) {
            if let Some(tls) = tls {
                tls.certificate.look(name, now);
            }
        }
    }
}

/// TLS of a listener, with a certificate for development where it has none of its own.
fn listener_tls(config: &Config, listener: &config::Listener) -> Result<Option<Tls>, String> {
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

/// The services that controllers name.
pub(crate) fn lookups(config: &Config) -> Result<Vec<Lookup>, String> {
    let named = config.policy.rulebook.controllers().filter_map(|controller| {
        let lookup = controller.links_lookup.as_ref()?;
        let service = Service::new(&lookup.url, lookup.ca_file.as_deref())
            .map_err(|error| format!("controller {}: links_lookup: {error}", controller.name));
        let limit = Duration::from_millis(lookup.timeout_ms.into());
        Some(service.map(|service| Lookup { controller: controller.name.clone(), service, limit }))
    });
    named.collect()
}
