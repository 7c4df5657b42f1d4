//! `pixelward check`: checks that everything is ready before the relay runs.

use std::io::ErrorKind;
use std::process::ExitCode;

use clap::Args;

use tokio::runtime::Runtime;

use super::ConfigPath;
use super::run::store_settings;
use super::service_user::ServiceUser;
use crate::config::{Config, ConfigError, ListenerTls, Mode, Protocol};
use crate::consent::socket::Client;
use crate::consent::store::identity;
use crate::consent::{Store, StoreError, StoreKey, Timestamp, key_file};
use crate::live::Live;
use crate::policy::Page;
use crate::policy::lint::lint;
use crate::relay::connection::Connection;
use crate::relay::dial;
use crate::relay::{Authentication, NextHop};
use crate::rewrite::downstream::Esp;
use crate::rewrite::reader_token::Mint;
use crate::sign::Holders;
use crate::web::mapping::secret;
use crate::web::probe::probe;
use crate::web::{api_token, connector, public};

/// Check the configuration, the certificates, the store, the next hop and the addresses for readers
///
/// Says what to do about each finding. Sends nothing but a greeting to the next hop, and a request to each
/// public_url.
#[derive(Args, Debug)]
pub struct Check {
    #[command(flatten)]
    config: ConfigPath,
    /// Judge the store's files as this user [default: the user of the installed unit, if root asks]
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
}

/// Prints findings.
#[derive(Default)]
struct Findings {
    failed: u32,
}

impl Findings {
    fn good(&self, text: &str) {
        println!("ok      {text}");
    }

    fn hint(&self, text: &str) {
        println!("note    {text}");
    }

    fn bad(&mut self, text: &str) {
        self.failed += 1;
        println!("WRONG   {text}");
    }
}

/// Runs the command.
///
/// # Errors
///
/// Only when it cannot do its work; findings are not errors.
pub fn run(command: &Check) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut findings = Findings::default();
    let config = match Config::load(&command.config.path) {
        Ok(config) => config,
        Err(error @ ConfigError::Read { .. }) => {
            findings.bad(&error.to_string());
            return Ok(ExitCode::FAILURE);
        }
        Err(error) => {
            findings.bad(&format!(
                "{error}\n        Correct these lines; pixelward.toml(5) and config.reference.toml explain \
                 every setting."
            ));
            return Ok(ExitCode::FAILURE);
        }
    };
    findings.good(&format!("{} is valid", command.config.path.display()));
    hints(&config, &findings);
    keys(&config, &findings);
    if let Err(error) = api_token::load(&config.api.tokens_file) {
        findings.bad(&format!("the API tokens: {error}"));
    }
    for webhook in &config.api.webhooks {
        if let Err(error) = secret(&webhook.secret_file) {
            findings.bad(&format!("api.webhook.secret_file {error}"));
        }
    }
    for one in &config.connectors {
        if let Err(error) = connector::check(one) {
            findings.bad(&format!("connector {} of {}: {error}", one.name, one.controller));
        }
    }
    match command.user.as_deref().map(ServiceUser::named) {
        Some(Err(error)) => findings.bad(&error),
        Some(Ok(user)) => store_of(&user, &config, &mut findings),
        None => match ServiceUser::of_unit() {
            Some(user) => store_of(&user, &config, &mut findings),
            None => store(&config, &mut findings),
        },
    }
    ports(&config, &mut findings);
    let runtime = Runtime::new()?;
    public(&runtime, &config, &mut findings);
    #[cfg(feature = "cluster")]
    cluster(&runtime, &config, &mut findings);
    match Live::of(config) {
        Err(error) => findings.bad(&error),
        Ok(live) => {
            findings.good("certificates, catalogues and credentials are readable");
            certificates(&live, &mut findings);
            for pool in live.web.pools() {
                next_hop(&runtime, &pool.hop, &mut findings);
            }
        }
    }
    Ok(if findings.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Opens every port that the relay will open, unless it has them open.
fn ports(config: &Config, findings: &mut Findings) {
    if Client::connect(&config.data_directory).is_some() {
        return;
    }
    let listeners = config.listeners.iter().map(|one| (format!("listener {}", one.name), Some(one.address)));
    let others = [
        ("api.address".to_owned(), config.api.address),
        ("public.address".to_owned(), config.public.address),
        ("cluster.listen".to_owned(), config.cluster.is_on().then_some(config.cluster.listen)),
        ("private.address".to_owned(), config.private),
    ];
    for (name, address) in listeners.chain(others) {
        let Some(address) = address else { continue };
        match std::net::TcpListener::bind(address) {
            Ok(_) => findings.good(&format!("{name}: {address} can be opened")),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => findings.hint(&format!(
                "{name}: {address} cannot be opened by you: {error}. The unit's \
                 CAP_NET_BIND_SERVICE allows it"
            )),
            Err(error) => findings.bad(&format!(
                "{name}: {address} cannot be opened: {error}. Is another server running there?"
            )),
        }
    }
}

/// Looks at the dates, names and chain of each certificate that clients and readers are shown.
fn certificates(live: &Live, findings: &mut Findings) {
    let now = Timestamp::now().0.div_euclid(1000);
    let host = &live.config.relay.host_name;
    let listeners = live.config.listeners.iter().zip(live.tls.iter());
    let listeners = listeners.filter(|(listener, _)| listener.certificate.is_some());
    let listeners = listeners.map(|(listener, tls)| (format!("listener {}", listener.name), tls.as_ref()));
    let web = [("api", &live.web.api_tls), ("public", &live.web.public_tls)];
    let web = web.into_iter().map(|(name, tls)| (format!("[{name}]"), tls.as_ref()));
    for (name, tls) in listeners.chain(web) {
        let Some(tls) = tls else { continue };
        for (is_wrong, text) in tls.certificate.inspect(host, now) {
            match is_wrong {
                true => findings.bad(&format!("the certificate of {name} {text}")),
                false => findings.hint(&format!("the certificate of {name} {text}")),
            }
        }
    }
}

/// Checks that readers reach the relay at the addresses they are given.
fn public(runtime: &Runtime, config: &Config, findings: &mut Findings) {
    let with_pages =
        config.policy.rulebook.controllers().filter(|controller| controller.public_url.is_some());
    let runs = Client::connect(&config.data_directory).is_some();
    let settings = store_settings(config);
    let identity = common_identity(config).or_else(|| identity::read(&settings.directory).ok().flatten());
    let known = key_file::load(&settings.store_key()).ok().zip(identity);
    for controller in with_pages {
        let (name, url) = (&controller.name, controller.public_url.as_deref().unwrap_or_default());
        if config.public.address.is_none() {
            findings.hint(&format!(
                "controller {name} has a public_url, but public.address is \"\", so links for readers lead \
                 nowhere. Set public.address"
            ));
            continue;
        }
        if !untold(&controller.page).is_empty() {
            findings.hint(&format!(
                "controller {name}: its page does not tell readers everything. Set {} in [controller.page]",
                untold(&controller.page).join(", ")
            ));
        }
        let Some((key, store)) = &known else { continue };
        let mark = public::mark(&StoreKey::new(key.derived(Mint::LABEL)), store);
        match runtime.block_on(probe(url, &mark)) {
            Ok(()) => findings.good(&format!("readers of {name} reach this relay at {url}")),
            Err(error) if !runs && error.may_be_rest() => findings.hint(&format!(
                "controller {name}: {url}: {error}. The relay is not running, so this may be fine; check \
                 again once it is"
            )),
            Err(error) => findings.bad(&format!("controller {name}: public_url {url}: {error}")),
        }
    }
}

/// Returns what all relays of this one's cluster show as their identity; `None` for a relay on its own.
fn common_identity(config: &Config) -> Option<identity::Identity> {
    #[cfg(feature = "cluster")]
    if config.cluster.is_on() {
        let files = crate::cluster::files::Files::load(&config.cluster.directory).ok()?;
        return files.common_identity().ok();
    }
    let _ = config;
    None
}

/// Checks that this relay can take its part in its cluster.
#[cfg(feature = "cluster")]
fn cluster(runtime: &Runtime, config: &Config, findings: &mut Findings) {
    if !config.cluster.is_on() {
        return;
    }
    match runtime.block_on(crate::cluster::examine(config)) {
        Ok(None) => findings.good("the servers of the cluster answer, and keep what they acknowledge"),
        Ok(Some(why)) => findings.bad(&format!("cluster: {why}")),
        Err(error) => findings.bad(&error.to_string()),
    }
}

/// Lists what a controller's page lacks that readers have a right to know (articles 13 and 14 of the GDPR).
fn untold(page: &Page) -> Vec<&'static str> {
    let all = [
        ("title", page.title.is_some()),
        ("privacy_url", page.privacy_url.is_some()),
        ("contact", page.contact.is_some()),
        ("retention_days", page.retention_days.is_some()),
    ];
    all.into_iter().filter(|(_, is_set)| !is_set).map(|(name, _)| name).collect()
}

/// Connects to each address of a next hop, with everything that precedes mail.
fn next_hop(runtime: &Runtime, hop: &NextHop, findings: &mut Findings) {
    const ADVICE: &str = "Check host, port, tls, ca_file and credentials_file in [[next_hop]].";
    let tried = match runtime.block_on(dial::each(hop)) {
        Ok(tried) => tried,
        Err(error) => {
            return findings.bad(&format!("the next hop {hop} cannot be used: {error}\n        {ADVICE}"));
        }
    };
    let has_one = tried.iter().any(|(_, outcome)| outcome.is_ok());
    if tried.is_empty() {
        findings.bad(&format!("the next hop {hop} has no address"));
    }
    for (address, outcome) in tried {
        match outcome {
            Ok(connection) => {
                answers(hop, &address, &connection, findings);
                runtime.block_on(connection.quit());
            }
            Err(error) if has_one => findings.hint(&format!(
                "the next hop {hop} cannot be used at {address}: {error}\n        Its other \
                 addresses are used."
            )),
            Err(error) => findings
                .bad(&format!("the next hop {hop} cannot be used at {address}: {error}\n        {ADVICE}")),
        }
    }
}

fn answers(hop: &NextHop, address: &str, connection: &Connection, findings: &Findings) {
    let tls = connection.tls_description().unwrap_or_else(|| "in clear".to_owned());
    let login = if hop.credentials.is_some() { ", and accepts the login" } else { "" };
    let shown = match connection.authentication {
        Authentication::None => ", by nothing that shows who it is",
        Authentication::Pkix => ", with a certificate from a trusted authority (pkix)",
        Authentication::Fingerprint => ", with a certificate that tls_fingerprints names (fingerprint)",
        Authentication::MtaSts => ", with a certificate as its domain's MTA-STS policy wants it (mta-sts)",
        Authentication::Dane => ", with a certificate that its TLSA record vouches for (dane)",
    };
    findings.good(&format!("the next hop {hop} answers at {address}, {tls}{shown}{login}"));
    let announced = &connection.capabilities;
    let wanted =
        [(announced.eight_bit, "8BITMIME"), (announced.smtputf8, "SMTPUTF8"), (announced.dsn, "DSN")];
    for (_, name) in wanted.into_iter().filter(|(has, _)| !has) {
        findings.hint(&format!("the next hop {hop} does not announce {name}, so this relay will not either"));
    }
}

fn hints(config: &Config, findings: &Findings) {
    if config.mode == Mode::Observe {
        findings.hint("mode is \"observe\": nothing is removed from any mail");
    }
    for hop in &config.next_hops {
        if let Some(esp) = Esp::of_host(&hop.host).filter(|esp| hop.esp != Some(*esp)) {
            findings.hint(&format!(
                "the next hop {} belongs to a service that can add an open pixel after this relay: set esp = \
                 \"{}\" in [[next_hop]]",
                hop.host,
                esp.name()
            ));
        }
        if let (Some(esp), Some(reason)) = (hop.esp, &hop.accept_downstream_tracking) {
            findings.hint(&format!("{} may track after this relay, which is accepted: {reason}", esp.name()));
        }
    }
    let by_smtp = config.listeners.iter().find(|listener| listener.protocol == Protocol::Smtp);
    let by_lmtp = config.next_hops.iter().find(|hop| hop.protocol == Protocol::Lmtp);
    if let (Some(listener), Some(hop)) = (by_smtp, by_lmtp) {
        findings.hint(&format!(
            "listener {} speaks SMTP and the next hop {} LMTP: if it rejects some recipients of a message, \
             the sender's bounce goes to that next hop too. If it takes mail only for its boxes, set \
             protocol = \"lmtp\" in [[listener]]",
            listener.name, hop.name
        ));
    }
    for warning in lint(&config.policy.rulebook, Timestamp::now()) {
        findings.hint(&warning);
    }
    if config.consent.head_copy.is_none() {
        findings.hint("consent.head_copy is not set: a restored old copy of the store would not be noticed");
    }
    for listener in &config.listeners {
        listener.broad_networks().iter().for_each(|told| findings.hint(told));
        if listener.tls != ListenerTls::None && listener.certificate.is_none() {
            findings.hint(&format!(
                "listener {} has no certificate: a development certificate is created, which no client \
                 trusts",
                listener.name
            ));
        }
    }
}

/// Lists whose mail each key signs.
fn keys(config: &Config, findings: &Findings) {
    let rulebook = &config.policy.rulebook;
    let can_tie = rulebook.controllers().any(|controller| controller.conditions.can_tie());
    for key in &config.dkim.keys {
        let holders = key.holders(rulebook);
        let title = format!("dkim.key {} of {}", key.selector, key.domain);
        let names = holders.controllers().join(", ");
        let is_fallback = config.dkim.fallback_domain.as_ref() == Some(&key.domain);
        match holders {
            Holders::Named(_) => findings.good(&format!("{title} signs mail of {names}")),
            Holders::Unclaimed(_) if can_tie && !is_fallback => findings.hint(&format!(
                "{title} signs only mail of {names}: no controller's conditions name the domain. Set \
                 controllers in [[dkim.key]] to say whose it is; a client tied to another controller by \
                 listener or login gets no signature from it"
            )),
            Holders::Unclaimed(_) => findings.good(&format!("{title} signs mail of {names}")),
        }
    }
}

/// Looks at the files of the store, the ledger and the audit records, as the user of the service. Opening
/// them as root would leave files that the service cannot write.
fn store_of(user: &ServiceUser, config: &Config, findings: &mut Findings) {
    if is_open(config, findings) {
        return;
    }
    let (name, data) = (&user.name, &config.data_directory);
    let folders = [data, &store_settings(config).directory, &config.evidence.directory];
    for folder in folders {
        match user.stopped_at(folder) {
            Ok(None) => {}
            Ok(Some(file)) => {
                return findings.bad(&format!(
                    "{} cannot be used by {name}, as whom the service runs. Run chown -R {name}: {}",
                    file.display(),
                    folder.display()
                ));
            }
            Err(error) => return findings.bad(&format!("{}: {error}", folder.display())),
        }
    }
    findings.good(&format!(
        "the files in {} can be used by {name}, as whom the service runs; run this as {name} to open the \
         store",
        data.display()
    ));
}

fn is_open(config: &Config, findings: &Findings) -> bool {
    let is_open = Client::connect(&config.data_directory).is_some();
    if is_open {
        findings.good("the relay is running, and has the consent store open");
    }
    is_open
}

fn store(config: &Config, findings: &mut Findings) {
    if is_open(config, findings) {
        return;
    }
    match Store::open(&store_settings(config)) {
        Ok(store) => {
            let people = super::counted(store.people(), "person", "people");
            findings.good(&format!("the consent store is usable; it knows {people}"))
        }
        Err(error @ StoreError::Busy(_)) => findings.hint(&error.to_string()),
        Err(error) => findings.bad(&error.to_string()),
    }
}
