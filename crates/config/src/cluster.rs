//! One consent for several relays.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::address;
use super::reader::Section;

/// The part of a relay in a cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// The directory of its certificates and keys, and of what the other relays were not told yet.
    pub directory: PathBuf,
    /// The addresses of the NATS servers, as `tls://host:port` or `nats://host:port`; none for a relay on its
    /// own.
    pub servers: Vec<String>,
    /// Where this relay listens for other relays.
    pub listen: SocketAddr,
    /// Where other relays reach it, as `host:port`.
    pub address: String,
    /// How old the newest news from the other relays may be before nothing counts as granted.
    pub max_staleness: Duration,
    /// How long a change waits for the other relays before its outcome counts as unknown.
    pub patience: Duration,
}

impl Cluster {
    /// Returns whether this relay is one of several.
    pub fn is_on(&self) -> bool {
        !self.servers.is_empty()
    }
}

pub(super) fn cluster(section: &mut Section<'_>, data_directory: &Path) -> Cluster {
    let listen = section.parsed("listen", address);
    let reached = section.parsed("address", reachable);
    let cluster = Cluster {
        directory: section.path("directory").unwrap_or_else(|| data_directory.join("cluster")),
        servers: section.list("servers", server),
        listen: listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 2531))),
        address: reached.clone().unwrap_or_default(),
        max_staleness: section.seconds("max_staleness_s", 60, 5..=3600),
        patience: section.seconds("patience_s", 5, 1..=60),
    };
    if section.start_line() > 0 && !cluster.is_on() {
        section.problem(
            section.start_line(),
            "cluster.servers is missing: name the NATS servers, or take the section out",
        );
    }
    if cluster.is_on() && reached.is_none() {
        section.problem(
            section.start_line(),
            "cluster.address is missing: say where other relays reach this one, such as \
             \"relay1.example:2531\"",
        );
    }
    cluster
}

/// Parses an address that other machines use: a name or an IP address, and a port.
fn reachable(text: &str) -> Result<String, String> {
    let parts = text.rsplit_once(':');
    let is_address =
        parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0));
    match is_address && !text.contains(char::is_whitespace) && !text.contains('/') {
        true => Ok(text.to_owned()),
        false => Err(format!("invalid address {text:?}: use host:port, such as \"relay1.example:2531\"")),
    }
}

fn server(text: &str) -> Result<String, String> {
    let invalid = || {
        format!("invalid server {text:?}: use tls://host:port, or nats://host:port for a server without TLS")
    };
    let (scheme, rest) = text.split_once("://").ok_or_else(invalid)?;
    match scheme {
        "tls" | "nats" => reachable(rest).map(|_| text.to_owned()).map_err(|_| invalid()),
        _ => Err(invalid()),
    }
}

#[cfg(test)]
mod tests {
    use crate::Config;

    fn problems(section: &str) -> Vec<String> {
        let source = format!("[[listener]]\n[[next_hop]]\nhost = \"mx.example\"\n{section}");
        match Config::parse(&source) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn a_relay_is_on_its_own_unless_servers_are_named() {
        let config = Config::parse("[[listener]]\n[[next_hop]]\nhost = \"mx.example\"\n").unwrap();
        assert!(!config.cluster.is_on());
        let said = problems("[cluster]\naddress = \"relay1.example:2531\"\n");
        assert!(said[0].contains("cluster.servers is missing"), "{said:?}");
        assert!(
            problems("[cluster]\naddress = \"r.example:2531\"\nservers = [\"tls://n.example:4222\"]\n")
                .is_empty()
        );
    }

    #[test]
    fn what_nobody_could_reach_is_named() {
        let said = problems("[cluster]\nservers = [\"n.example:4222\"]\naddress = \"relay1\"\n");
        assert_eq!(said.iter().filter(|said| said.contains("invalid")).count(), 2, "{said:?}");
        let said = problems("[cluster]\nservers = [\"tls://n.example:4222\"]\n");
        assert!(said[0].contains("cluster.address is missing"), "{said:?}");
    }
}
