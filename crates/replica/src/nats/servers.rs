//! The configuration of the servers: what they need so that what they acknowledge is durable, and that each relay
//! may do what it must and nothing else.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::{OPENS, STREAM, SUBJECTS};
use crate::engine::Kind;

/// A server.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its name, which no other has.
    pub name: String,
    /// Where relays reach it, as `host:port`.
    pub clients: String,
    /// Where the other servers reach it, as `host:port`.
    pub peers: String,
    /// The folder of its files.
    pub directory: PathBuf,
    /// Its certificate.
    pub tls: Option<ServerTls>,
}

/// The files for TLS of a server.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// The certificate of the authority that issues those of servers and relays.
    pub authority: PathBuf,
    /// The server's certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// The servers of a cluster, and who may use them.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The servers.
    pub servers: Vec<Server>,
    /// The public keys of the relays.
    pub relays: Vec<String>,
    /// The public key with which streams are created.
    pub operator: String,
    /// The public key with which servers are asked about themselves.
    pub monitor: String,
}

impl Plan {
    /// Returns the configuration of one of the servers.
    pub fn configuration(&self, server: &Server) -> String {
        let mut text = format!(
            "# Written by `pixelward cluster init`.\n\
             server_name: {name}\n\
             listen: \"{clients}\"\n\
             jetstream {{\n  store_dir: \"{directory}\"\n  \
             # Without it, a power failure takes what was acknowledged in the last two minutes.\n  \
             sync_interval: always\n}}\n",
            name = server.name,
            clients = server.clients,
            directory = server.directory.display(),
        );
        let tls = server.tls.as_ref().map(tls).unwrap_or_default();
        if !tls.is_empty() {
            let _ = writeln!(text, "tls {{{tls}\n}}");
        }
        let scheme = if tls.is_empty() { "nats" } else { "tls" };
        let routes: Vec<String> =
            self.servers.iter().map(|other| format!("\"{scheme}://{}\"", other.peers)).collect();
        let _ = writeln!(
            text,
            "cluster {{\n  name: pixelward\n  listen: \"{}\"\n  routes: [{}]{}\n}}",
            server.peers,
            routes.join(", "),
            if tls.is_empty() {
                String::new()
            } else {
                format!("\n  tls {{{}\n  }}", tls.replace('\n', "\n  "))
            },
        );
        text.push_str("accounts {\n  PIXELWARD {\n    jetstream: enabled\n    users: [\n");
        for relay in &self.relays {
            let allowed: Vec<String> = allowed().iter().map(|subject| format!("\"{subject}\"")).collect();
            let _ = writeln!(
                text,
                "      {{ nkey: {relay}, permissions: {{ publish: [{}], subscribe: \"_INBOX.>\" }} }}",
                allowed.join(", ")
            );
        }
        let _ = writeln!(text, "      {{ nkey: {} }}\n    ]\n  }}", self.operator);
        let _ =
            writeln!(text, "  SYS {{ users: [ {{ nkey: {} }} ] }}\n}}\nsystem_account: SYS", self.monitor);
        text
    }
}

fn tls(tls: &ServerTls) -> String {
    format!(
        "\n  cert_file: \"{}\"\n  key_file: \"{}\"\n  ca_file: \"{}\"\n  verify: true",
        tls.certificate.display(),
        tls.key.display(),
        tls.authority.display()
    )
}

/// What a relay may publish: messages of the order, and what reading them takes. It can neither create nor purge
/// nor delete.
fn allowed() -> Vec<String> {
    let kinds = Kind::ALL.into_iter().chain([Kind::Opens]);
    let kinds = kinds.map(|kind| format!("{SUBJECTS}{}", kind.name()));
    let whole = [
        format!("STREAM.MSG.GET.{STREAM}"),
        format!("DIRECT.GET.{STREAM}"),
        format!("DIRECT.GET.{STREAM}.>"),
    ];
    let read = [STREAM, OPENS].into_iter().flat_map(|stream| {
        [
            format!("STREAM.INFO.{stream}"),
            format!("CONSUMER.CREATE.{stream}.>"),
            format!("CONSUMER.DELETE.{stream}.>"),
            format!("CONSUMER.INFO.{stream}.>"),
            format!("CONSUMER.MSG.NEXT.{stream}.>"),
        ]
    });
    kinds.chain(whole.into_iter().chain(read).map(|subject| format!("$JS.API.{subject}"))).collect()
}
