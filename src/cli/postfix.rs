//! `pixelward postfix`: prints the lines that put the relay beside a Postfix, from the relay's own
//! configuration.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::ConfigPath;
use crate::config::{Config, Listener, ListenerTls, NextHop, Protocol};
use crate::relay::TlsMode;

const CONFIG: &str = "Configuration file of the relay [default: config.toml here, or else in /etc/pixelward]";

/// Print the lines for Postfix's main.cf and master.cf
///
/// They are derived from the configuration of the relay: the address and the TLS of its listener, its next
/// hop, and its timeouts. Lines for main.cf replace those of the same name; lines for master.cf are appended.
/// docs/deploying.md describes each recipe.
#[derive(Args, Debug)]
#[command(mut_arg("config", |arg| arg.help(CONFIG)))]
pub struct Postfix {
    /// How mail reaches the relay
    #[arg(long, value_enum)]
    pub recipe: Recipe,
    #[command(flatten)]
    config: ConfigPath,
    /// The name of the listener that Postfix talks to [default: the first that suits the recipe]
    #[arg(long, value_name = "NAME")]
    pub listener: Option<String>,
    /// Another relay that takes the mail while this one does not answer: HOST or HOST:PORT [default port: this
    /// relay's]
    #[arg(long, value_name = "ADDRESS")]
    pub second: Option<String>,
    /// Only the lines for this file
    #[arg(long, value_enum)]
    pub file: Option<File>,
}

/// A way to put the relay beside Postfix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Recipe {
    /// All mail that leaves Postfix goes to the relay, which hands it to the next hop
    Relayhost,
    /// The same over LMTP: one reply per recipient
    Lmtp,
    /// Postfix queues mail, hands it to the relay, takes it back on another port, and delivers it
    ContentFilter,
    /// Postfix hands mail to the relay while the client waits, and takes it back on another port
    ProxyFilter,
}

impl Recipe {
    /// Returns the name used on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Recipe::Relayhost => "relayhost",
            Recipe::Lmtp => "lmtp",
            Recipe::ContentFilter => "content-filter",
            Recipe::ProxyFilter => "proxy-filter",
        }
    }
}

/// One of Postfix's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum File {
    /// Settings
    #[value(name = "main.cf")]
    Main,
    /// Services
    #[value(name = "master.cf")]
    Master,
}

/// Runs the command.
///
/// # Errors
///
/// When the configuration does not suit the recipe; the message says what to change.
pub fn run(command: &Postfix) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let config = Config::load(&command.config.path)?;
    let lines = lines(&config, command.recipe, command.listener.as_deref(), command.second.as_deref())?;
    match command.file {
        Some(File::Main) => print!("{}", lines.main),
        Some(File::Master) => print!("{}", lines.master),
        None => print!("{}", lines.text()),
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds the lines for both files of Postfix.
///
/// # Errors
///
/// When the configuration does not suit the recipe; the message says what to change.
pub(super) fn text(config: &Config, recipe: Recipe) -> Result<String, String> {
    lines(config, recipe, None, None).map(|lines| lines.text())
}

/// The lines for each file.
#[derive(Debug)]
struct Lines {
    main: String,
    master: String,
}

impl Lines {
    fn text(&self) -> String {
        let none = "# Nothing to add.\n";
        let master = if self.master.is_empty() { none } else { &self.master };
        format!("# ---- main.cf ----\n{}\n# ---- master.cf ----\n{master}", self.main)
    }
}

fn lines(config: &Config, recipe: Recipe, name: Option<&str>, second: Option<&str>) -> Result<Lines, String> {
    let listener = listener(config, recipe, name)?;
    let address = reachable(listener)?;
    let second = second.map(|text| other(text, address.port())).transpose()?;
    let relay = Relay { address, second, tls: listener.tls, budget: listener.budget() };
    let back = match recipe {
        Recipe::ContentFilter | Recipe::ProxyFilter if relay.second.is_some() => {
            return Err(format!(
                "the recipe {} cannot have a second relay: mail comes back to this Postfix from the one on \
                 this machine. Use the recipe lmtp or relayhost",
                recipe.name()
            ));
        }
        Recipe::Relayhost | Recipe::Lmtp => None,
        Recipe::ContentFilter | Recipe::ProxyFilter => Some(way_back(config, recipe)?),
    };
    Ok(match (recipe, back) {
        (Recipe::ContentFilter, Some(back)) => content_filter(&relay, back, listener.protocol),
        (Recipe::ProxyFilter, Some(back)) => proxy_filter(&relay, back)?,
        (Recipe::Lmtp, _) => lmtp(&relay),
        (Recipe::Relayhost | Recipe::ContentFilter | Recipe::ProxyFilter, _) => relayhost(&relay),
    })
}

/// The relay as Postfix sees it.
struct Relay {
    address: SocketAddr,
    /// Where another one is that stands in for it, as Postfix writes it.
    second: Option<String>,
    tls: ListenerTls,
    /// How long it may take to answer the final dot.
    budget: Duration,
}

impl Relay {
    /// Lists this relay so many times, and then the second one.
    fn destinations(&self, times: usize) -> String {
        let here = std::iter::repeat_n(destination(self.address), times);
        here.chain(self.second.clone()).collect::<Vec<_>>().join(", ")
    }
}

/// Reads the address of another relay, as Postfix writes it: in brackets, so that no MX is looked up.
fn other(text: &str, port: u16) -> Result<String, String> {
    let invalid = || format!("invalid address {text:?}: use HOST or HOST:PORT, IPv6 in brackets");
    let (host, port) = match (text.parse::<SocketAddr>(), text.parse::<IpAddr>(), text.rsplit_once(':')) {
        (Ok(address), ..) => (address.ip().to_string(), address.port()),
        (_, Ok(ip), _) => (ip.to_string(), port),
        (_, _, Some((host, port))) => (host.to_owned(), port.parse().map_err(|_| invalid())?),
        (_, _, None) => (text.to_owned(), port),
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_host = bare.parse::<IpAddr>().is_ok()
        || !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    if is_host && port > 0 { Ok(format!("[{bare}]:{port}")) } else { Err(invalid()) }
}

/// The settings of Postfix's two clients have the same names except for this prefix.
fn prefix(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Smtp => "smtp",
        Protocol::Lmtp => "lmtp",
    }
}

fn listener<'a>(config: &'a Config, recipe: Recipe, name: Option<&str>) -> Result<&'a Listener, String> {
    let fits = |listener: &Listener| match recipe {
        Recipe::Relayhost | Recipe::ProxyFilter => listener.protocol == Protocol::Smtp,
        Recipe::Lmtp => listener.protocol == Protocol::Lmtp,
        Recipe::ContentFilter => true,
    };
    let missing = || {
        let (what, protocol, port) = match recipe {
            Recipe::Lmtp => ("LMTP", "\nprotocol = \"lmtp\"", 2526),
            Recipe::Relayhost | Recipe::ContentFilter | Recipe::ProxyFilter => ("SMTP", "", 2525),
        };
        format!(
            "the recipe {} needs a listener that speaks {what}, and the configuration has none. Add this, \
             and start the relay again:\n\
             \n\
             [[listener]]\n\
             name = \"postfix\"\n\
             address = \"127.0.0.1:{port}\"{protocol}\n\
             tls = \"none\"\n",
            recipe.name()
        )
    };
    let Some(name) = name else {
        return config.listeners.iter().find(|listener| fits(listener)).ok_or_else(missing);
    };
    let listener = config.listeners.iter().find(|listener| listener.name == name).ok_or_else(|| {
        let names: Vec<&str> = config.listeners.iter().map(|listener| listener.name.as_str()).collect();
        format!("unknown listener {name:?}: use one of {}", names.join(", "))
    })?;
    if fits(listener) { Ok(listener) } else { Err(missing()) }
}

/// Returns where Postfix finds a listener: at its address or, if it listens everywhere, on this machine.
fn reachable(listener: &Listener) -> Result<SocketAddr, String> {
    let address = listener.address;
    if address.port() == 0 {
        return Err(format!(
            "listener {} has port 0, so it gets a different port at each start: set a port in its address",
            listener.name
        ));
    }
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    Ok(SocketAddr::new(ip, address.port()))
}

/// Returns where Postfix takes mail back: the relay's next hop.
fn way_back(config: &Config, recipe: Recipe) -> Result<SocketAddr, String> {
    let here = |hop: &NextHop| {
        let ip = match hop.host.as_str() {
            "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            host => host.parse::<IpAddr>().ok().filter(IpAddr::is_loopback),
        };
        let fits = hop.tls == TlsMode::None && hop.port != 25;
        ip.filter(|_| fits).map(|ip| SocketAddr::new(ip, hop.port))
    };
    match config.next_hops.iter().find_map(here) {
        Some(back) => Ok(back),
        None => Err(format!(
            "the recipe {} hands mail back to this Postfix, on a separate port and without TLS, since it \
             does not leave the machine; [next_hop] is another server. Use this, and start the relay again:\n\
             \n\
             [next_hop]\n\
             host = \"127.0.0.1\"\n\
             port = 10026\n\
             tls = \"none\"\n",
            recipe.name()
        )),
    }
}

fn relayhost(relay: &Relay) -> Lines {
    let at = relay.destinations(2);
    let mut main =
        "# The same relay twice: a message that it defers is retried at once, and not only at the \
                    next queue run (Postfix 3.5 and newer).\n"
            .to_owned();
    if relay.second.is_some() {
        main.push_str(
            "# Then another relay, for mail that this one does not take. It does not know who got a message \
             from this one, so each\n\
             # recipient is a delivery: otherwise some may get it twice. The recipe lmtp does without that.\n\
             smtp_destination_recipient_limit = 1\n",
        );
    }
    main.push_str(&format!(
        "relayhost = {at}\n\
         # Mail is signed after the relay: removing something breaks earlier signatures.\n"
    ));
    for setting in client(relay, Protocol::Smtp) {
        main.push_str(&format!("{setting}\n"));
    }
    Lines { main, master: String::new() }
}

fn lmtp(relay: &Relay) -> Lines {
    let at = relay.destinations(1);
    let second = match &relay.second {
        Some(_) => {
            "# The second relay gets those whom the first does not serve (Postfix 3.5 and newer). It has its \
             consent store and its ledger\n\
             # for itself.\n"
        }
        None => "",
    };
    let main = format!(
        "# All mail that leaves. LMTP has one reply per recipient, so a recipient that is deferred or \
         rejected holds up nobody else.\n\
         # Mail for relay_domains uses relay_transport: set that too if it should pass through the relay.\n\
         {second}default_transport = pixelward:{at}\n"
    );
    Lines { main, master: service(relay, Protocol::Lmtp) }
}

fn content_filter(relay: &Relay, back: SocketAddr, protocol: Protocol) -> Lines {
    let main = format!(
        "# Everything that Postfix has queued, from the network and from this machine, goes to the relay and \
         comes back on port {}.\n\
         content_filter = pixelward:{}\n\
         {}",
        back.port(),
        destination(relay.address),
        signers()
    );
    let master = format!("{}{}", service(relay, protocol), taking_back(back, "content_filter"));
    Lines { main, master }
}

fn proxy_filter(relay: &Relay, back: SocketAddr) -> Result<Lines, String> {
    if matches!(relay.tls, ListenerTls::Required | ListenerTls::Implicit) {
        return Err(
            "the recipe proxy-filter cannot use TLS: Postfix hands mail to a filter in clear. Set tls = \
             \"none\" for this listener, on a loopback address"
                .to_owned(),
        );
    }
    let main = format!(
        "# Mail from each smtpd goes to the relay before the client gets a reply, and comes back on port {}. \
         Mail from the sendmail command\n\
         # does not: for that, use the recipe content-filter.\n\
         smtpd_proxy_filter = {}\n\
         # Not speed_adjust: it would reject the whole message if one recipient is rejected.\n\
         smtpd_proxy_options =\n\
         # No shorter than the relay's time limit ({} s; 80 s with before_queue = true in its [[listener]]), \
         or the client is told\n\
         # to retry mail that has arrived.\n\
         smtpd_proxy_timeout = {}s\n\
         {}",
        back.port(),
        proxy(relay.address),
        relay.budget.as_secs(),
        // Postfix's default, or longer than the relay's limit.
        (relay.budget.as_secs() + 20).max(100),
        signers()
    );
    Ok(Lines { main, master: taking_back(back, "smtpd_proxy_filter") })
}

/// Returns the setting for milters that sign. They must see what comes back from the relay, and nothing
/// before.
fn signers() -> &'static str {
    "# The milter that signs, such as inet:127.0.0.1:8891. It belongs here, after the relay, and not in \
     smtpd_milters: the relay breaks\n\
     # earlier signatures when it removes something.\n\
     pixelward_signers =\n"
}

/// Returns the service that hands mail to the relay.
fn service(relay: &Relay, protocol: Protocol) -> String {
    let mut lines = format!(
        "# The way to the relay, with separate settings: those in main.cf keep applying to other mail.\n\
         pixelward unix  -       -       n       -       -       {}\n  -o syslog_name=postfix/pixelward\n",
        prefix(protocol)
    );
    for setting in client(relay, protocol).into_iter().filter(|line| !line.starts_with('#')) {
        lines.push_str(&format!("  -o {}\n", setting.replace(" = ", "=")));
    }
    lines
}

/// Returns the settings of Postfix's client for the relay, with the reasons.
fn client(relay: &Relay, protocol: Protocol) -> Vec<String> {
    let prefix = prefix(protocol);
    let (reason, level) = match relay.tls {
        ListenerTls::None => ("The relay's listener has tls = \"none\".", "none"),
        ListenerTls::StartTls => ("The relay offers STARTTLS.", "may"),
        ListenerTls::Required | ListenerTls::Implicit => ("The relay accepts mail only over TLS.", "encrypt"),
    };
    let mut settings = vec![format!("# {reason}"), format!("{prefix}_tls_security_level = {level}")];
    if relay.tls == ListenerTls::Implicit {
        settings.push("# TLS from the first byte.".to_owned());
        settings.push(format!("{prefix}_tls_wrappermode = yes"));
    }
    if relay.second.is_some() || protocol == Protocol::Lmtp {
        settings.push("# By default, Postfix waits 30 s for SMTP and without a limit for LMTP.".to_owned());
        settings.push(format!("{prefix}_connect_timeout = 10s"));
    }
    settings
        .push("# The client's name and the queue id, for the relay's log, if it asks for them.".to_owned());
    settings.push(format!("{prefix}_send_xforward_command = yes"));
    settings
}

/// Returns the service that takes mail back from the relay. What was already checked and mapped is not done
/// again.
fn taking_back(back: SocketAddr, filter: &str) -> String {
    let host = match back.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    format!(
        "# The way back from the relay. The empty {filter} prevents loops; only this machine may send here.\n\
         {host}:{port} inet  n       -       n       -       -       smtpd\n  -o \
         syslog_name=postfix/from-pixelward\n  -o content_filter=\n  -o smtpd_proxy_filter=\n  -o \
         mynetworks=127.0.0.0/8,[::1]/128\n  -o smtpd_relay_restrictions=permit_mynetworks,reject\n  -o \
         smtpd_recipient_restrictions=permit_mynetworks,reject\n  -o smtpd_client_restrictions=\n  -o \
         smtpd_helo_restrictions=\n  -o smtpd_sender_restrictions=\n  -o smtpd_data_restrictions=\n  -o \
         smtpd_end_of_data_restrictions=\n  -o smtpd_delay_reject=no\n  -o local_header_rewrite_clients=\n  \
         -o \
         receive_override_options=no_unknown_recipient_checks,no_header_body_checks,no_address_mappings\n  \
         -o smtpd_milters=$pixelward_signers\n  -o smtpd_tls_security_level=none\n  -o \
         smtpd_sasl_auth_enable=no\n  -o smtpd_client_connection_count_limit=0\n  -o \
         smtpd_error_sleep_time=0\n  -o smtpd_hard_error_limit=1001\n  -o \
         smtpd_authorized_xforward_hosts=127.0.0.0/8,[::1]/128\n",
        port = back.port()
    )
}

fn destination(address: SocketAddr) -> String {
    format!("[{}]:{}", address.ip(), address.port())
}

/// Formats an address for `smtpd_proxy_filter`.
fn proxy(address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(ip) => format!("{ip}:{}", address.port()),
        IpAddr::V6(ip) => format!("[{ip}]:{}", address.port()),
    }
}

#[cfg(test)]
mod tests;
