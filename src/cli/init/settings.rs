//! The answers to `pixelward init`, as a configuration.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::cli::postfix::Recipe;
use crate::policy::Mode;

/// All answers.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) next_hop: Place,
    pub(super) listen: SocketAddr,
    /// Who may send, besides this machine.
    pub(super) allow: Vec<String>,
    pub(super) controller: String,
    pub(super) public_url: Option<String>,
    pub(super) mode: Mode,
    pub(super) recipe: Option<Recipe>,
    /// The domain to sign for, and its key.
    pub(super) dkim: Option<(String, PathBuf)>,
    pub(super) data: PathBuf,
}

/// A server and its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) host: String,
    pub(super) port: u16,
}

impl Place {
    /// Parses `host`, `host:port` or `[address]:port`; the default port is 25.
    pub(super) fn parse(text: &str) -> Result<Place, String> {
        let wrong = || {
            format!(
                "invalid server {text:?}: use a name or an address, with an optional port, such as \
                 smtp.example.org:587"
            )
        };
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(wrong)?;
                (host, port.strip_prefix(':').or(port.is_empty().then_some("25")).ok_or_else(wrong)?)
            }
            None if text.matches(':').count() == 1 => text.split_once(':').ok_or_else(wrong)?,
            None => (text, "25"),
        };
        let port: u16 = port.parse().map_err(|_| wrong())?;
        let fits =
            |character: char| character.is_alphanumeric() || matches!(character, '.' | '-' | '_' | ':');
        if host.is_empty() || host.len() > 253 || !host.chars().all(fits) || port == 0 {
            return Err(wrong());
        }
        Ok(Place { host: host.to_owned(), port })
    }

    fn is_here(&self) -> bool {
        self.host == "localhost"
            || self.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

/// The address of the preference page and the pixels, for a TLS proxy in front.
pub(super) const PUBLIC: &str = "127.0.0.1:8028";

impl Settings {
    /// Writes the configuration file: what differs from the defaults, and why.
    pub(super) fn file(&self) -> String {
        let mode = match self.mode {
            Mode::Observe => {
                "# Decisions are logged and counted, and mail leaves untouched. `pixelward report` says what \
                 would have been\n\
                 # removed. Change this to \"enforce\", here or in one [[mailstream]], and reload.\n\
                 mode = \"observe\"\n"
            }
            Mode::Enforce => {
                "# Trackers are removed from mail to people who did not agree to them.\nmode = \"enforce\"\n"
            }
        };
        let mut text = format!(
            "# Written by `pixelward init`. Settings that are not here have their defaults; \
             pixelward.toml(5) and\n\
             # config.reference.toml list them all.\n\
             \n\
             {mode}\n\
             # The consent store, the audit records and the ledger: back this up (`pixelward consent \
             backup`).\n\
             data_directory = {:?}\n\
             certificate_directory = {:?}\n\
             \n",
            self.data,
            self.data.join("certs"),
        );
        text.push_str(&self.listener());
        text.push_str(&self.hop());
        text.push_str(&self.policy());
        text
    }

    /// Writes the same decisions and signatures for a test on this machine only.
    pub(super) fn trial(&self, sink: SocketAddr, data: &std::path::Path) -> String {
        format!(
            "mode = \"enforce\"\ndata_directory = {data:?}\n[relay]\nhost_name = \"trial.example\"\n\
             [[listener]]\naddress = \"127.0.0.1:0\"\ntls = \"none\"\n\
             [next_hop]\nhost = \"{}\"\nport = {}\ntls = \"none\"\n{}",
            sink.ip(),
            sink.port(),
            self.policy()
        )
    }

    fn listener(&self) -> String {
        let mut text = "# Where the mail server in front hands mail over.\n[[listener]]\n".to_owned();
        text.push_str(&format!("address = \"{}\"\n", self.listen));
        if self.recipe == Some(Recipe::Lmtp) {
            text.push_str("# One reply per recipient.\nprotocol = \"lmtp\"\n");
        }
        if self.listen.ip().is_loopback() {
            text.push_str("# It does not leave this machine.\ntls = \"none\"\n");
        } else {
            let networks: Vec<String> = self.allow.iter().map(|network| format!("{network:?}")).collect();
            text.push_str(&format!(
                "# Who may send: without this list it would be an open relay.\n\
                 allowed_networks = [{}]\n\
                 # Your certificate; without one, clients get a development certificate, which they do not \
                 trust.\n\
                 #certificate = \"/etc/pixelward/relay.pem\"\n\
                 #key = \"/etc/pixelward/relay.key\"\n",
                networks.join(", ")
            ));
        }
        text.push('\n');
        text
    }

    fn hop(&self) -> String {
        let mut text = format!(
            "# Where mail goes. The relay answers 250 only after this server has.\n\
             [next_hop]\n\
             host = {:?}\n\
             port = {}\n",
            self.next_hop.host, self.next_hop.port
        );
        if self.next_hop.is_here() {
            text.push_str("# It does not leave this machine.\ntls = \"none\"\n");
        } else if self.next_hop.port == 465 {
            text.push_str("# TLS from the first byte.\ntls = \"implicit\"\n");
        }
        if !self.next_hop.is_here() {
            text.push_str(
                "# Login and password on two lines, if the server requires them; mode 0600.\n\
                           #credentials_file = \"/etc/pixelward/next-hop\"\n",
            );
        }
        text.push('\n');
        text
    }

    fn policy(&self) -> String {
        let mut text = format!(
            "# On whose behalf mail is sent: consent belongs to this name and a person.\n\
             [policy]\n\
             controller = {:?}\n\
             \n",
            self.controller
        );
        if let Some(url) = &self.public_url {
            text.push_str(&format!(
                "[[controller]]\n\
                 name = {:?}\n\
                 # The base URL of links to the preference page.\n\
                 public_url = {url:?}\n\
                 \n\
                 # A TLS proxy passes {url} on to this address.\n\
                 [public]\n\
                 address = \"{PUBLIC}\"\n\
                 \n",
                self.controller
            ));
        }
        if let Some((domain, key)) = &self.dkim {
            text.push_str(&format!(
                "# Signs mail without a valid signature. `pixelward dkim dns` prints the record to publish \
                 first.\n\
                 [[dkim.key]]\n\
                 domain = {domain:?}\n\
                 selector = \"{SELECTOR}\"\n\
                 key_file = {key:?}\n",
            ));
        }
        text
    }
}

/// The selector of the key.
pub(super) const SELECTOR: &str = "pixelward";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ListenerTls, Protocol};
    use crate::relay::TlsMode;

    fn settings(next_hop: &str, listen: &str) -> Settings {
        Settings {
            next_hop: Place::parse(next_hop).unwrap(),
            listen: listen.parse().unwrap(),
            allow: vec!["192.0.2.0/24".to_owned()],
            controller: "shop".to_owned(),
            public_url: None,
            mode: Mode::Observe,
            recipe: None,
            dkim: None,
            data: PathBuf::from("/var/lib/pixelward"),
        }
    }

    fn check(settings: &Settings) -> Config {
        Config::parse(&settings.file()).unwrap()
    }

    #[test]
    fn a_server_is_written_with_or_without_a_port() {
        for (text, host, port) in [
            ("smtp.example.org", "smtp.example.org", 25),
            ("smtp.example.org:587", "smtp.example.org", 587),
            ("192.0.2.1:2525", "192.0.2.1", 2525),
            ("[2001:db8::1]:25", "2001:db8::1", 25),
            ("[2001:db8::1]", "2001:db8::1", 25),
            ("2001:db8::1", "2001:db8::1", 25),
        ] {
            assert_eq!(Place::parse(text), Ok(Place { host: host.to_owned(), port }), "{text}");
        }
        for text in
            ["", ":25", "a b", "host:", "host:0", "host:70000", "[::1", "[::1]x", "a\"\n[x]", "host:25x"]
        {
            assert!(Place::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_combination_is_a_configuration() {
        for next_hop in ["smtp.example.org", "smtp.example.org:465", "127.0.0.1:10026", "[::1]:25"] {
            for listen in ["127.0.0.1:2525", "[::1]:2525", "0.0.0.0:25"] {
                for recipe in [None, Some(Recipe::Lmtp), Some(Recipe::Relayhost)] {
                    let mut settings = settings(next_hop, listen);
                    settings.recipe = recipe;
                    settings.public_url = Some("https://choice.shop.example".to_owned());
                    settings.dkim = Some(("shop.example".to_owned(), PathBuf::from("/etc/pixelward/k.pem")));
                    let config = check(&settings);
                    assert_eq!(config.mode, Mode::Observe);
                    let lmtp = config.listeners[0].protocol == Protocol::Lmtp;
                    assert_eq!(lmtp, recipe == Some(Recipe::Lmtp));
                    assert!(config.public.address.is_some());
                    let trial =
                        settings.trial("127.0.0.1:4000".parse().unwrap(), std::path::Path::new("/tmp/x"));
                    assert_eq!(Config::parse(&trial).unwrap().mode, Mode::Enforce);
                }
            }
        }
    }

    #[test]
    fn mail_is_only_in_clear_where_it_stays_on_this_machine() {
        let far = check(&settings("smtp.example.org", "0.0.0.0:25"));
        assert_eq!((far.next_hops[0].tls, far.listeners[0].tls), (TlsMode::Required, ListenerTls::StartTls));
        let near = check(&settings("localhost:10026", "127.0.0.1:2525"));
        assert_eq!((near.next_hops[0].tls, near.listeners[0].tls), (TlsMode::None, ListenerTls::None));
        assert_eq!(check(&settings("smtp.example.org:465", "[::1]:1")).next_hops[0].tls, TlsMode::Implicit);
    }
}
