//! The files of a relay in its cluster's directory.

use std::io;
use std::path::{Path, PathBuf};

use pixelward_replica::message::NodeId;
use pixelward_replica::nats::{Secret, fresh_key, public_key};
use pixelward_replica::node::{LEASES, OPENS_PLACE};
use pixelward_replica::peer::Authority;

/// The folder of the store among the files for a new relay.
pub const CONSENT: &str = "consent";
/// The folder of the cluster's files among them.
pub const CLUSTER: &str = "cluster";

/// The name of a relay among the others: 32 hexadecimal digits.
const NODE: &str = "relay.id";
/// The secret part of the NKey of all relays. They share every other secret, so one each would protect nothing.
const RELAY: &str = "relay.nkey";
/// The one that asks servers about themselves.
const MONITOR: &str = "monitor.nkey";
/// The one that creates streams.
const OPERATOR: &str = "operator.nkey";
/// The addresses of the servers, one in a line.
const SERVERS: &str = "servers";
/// Is there until the common order has begun with this relay's journal.
const BEGINS: &str = "begins";

/// What the files say.
#[derive(Clone, Debug)]
pub struct Files {
    directory: PathBuf,
    /// The relay.
    pub node: NodeId,
    /// The key of the relays.
    pub relay: Secret,
    /// The key that asks servers about themselves.
    pub monitor: Secret,
    /// The key that creates streams.
    pub operator: Secret,
    /// The addresses of the servers.
    pub servers: Vec<String>,
    authority: Authority,
}

/// Returns whether a directory makes its relay one of a cluster.
pub fn is_member(directory: &Path) -> bool {
    directory.join(NODE).exists()
}

impl Files {
    /// Makes the files of a new cluster's first relay.
    ///
    /// # Errors
    ///
    /// When there is no randomness, or a file cannot be written.
    pub fn first(directory: &Path, servers: &[String]) -> io::Result<Files> {
        private_directory(directory)?;
        Authority::fresh()?.write(directory)?;
        for name in [RELAY, MONITOR, OPERATOR] {
            write(directory, name, &fresh_key().1.0)?;
        }
        write(directory, SERVERS, &servers.join("\n"))?;
        write(directory, BEGINS, "")?;
        Files::settle(directory)
    }

    /// Makes what each relay has for itself, beside what it was given.
    ///
    /// # Errors
    ///
    /// When there is no randomness, or a file is missing or cannot be written.
    pub fn settle(directory: &Path) -> io::Result<Files> {
        let node = hex::encode(pixelward_replica::message::fresh_id()?);
        Authority::load(directory)?.certify_relay(&node, directory)?;
        write(directory, NODE, &node)?;
        Files::load(directory)
    }

    /// Reads them.
    ///
    /// # Errors
    ///
    /// When one is missing or makes no sense.
    pub fn load(directory: &Path) -> io::Result<Files> {
        let secret = |name| read(directory, name).map(Secret);
        let node = hex::decode(read(directory, NODE)?).ok().and_then(|bytes| bytes.try_into().ok());
        Ok(Files {
            node: node.ok_or_else(|| io::Error::other(format!("{NODE} is damaged")))?,
            relay: secret(RELAY)?,
            monitor: secret(MONITOR)?,
            operator: secret(OPERATOR)?,
            servers: read(directory, SERVERS)?.lines().map(str::to_owned).collect(),
            authority: Authority::load(directory)?,
            directory: directory.to_owned(),
        })
    }

    /// The authority that certifies relays and servers.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// What all relays of the cluster show in place of the identity of their store.
    ///
    /// # Errors
    ///
    /// When the authority's certificate cannot be read.
    pub fn common_identity(&self) -> io::Result<[u8; 16]> {
        self.authority.hash().map(|hash| hash.first_chunk().copied().unwrap_or_default())
    }

    /// The public parts of the keys of relays, operator and monitor.
    ///
    /// # Errors
    ///
    /// When a key makes no sense.
    pub fn public_keys(&self) -> io::Result<[String; 3]> {
        let [relay, operator, monitor] = [&self.relay, &self.operator, &self.monitor]
            .map(|secret| public_key(secret).map_err(io::Error::other));
        Ok([relay?, operator?, monitor?])
    }

    /// Returns whether the common order is to begin with this relay's journal.
    pub fn begins(&self) -> bool {
        self.directory.join(BEGINS).exists()
    }

    /// Notes that it has begun.
    ///
    /// # Errors
    ///
    /// When that cannot be noted.
    pub fn begun(&self) -> io::Result<()> {
        std::fs::remove_file(self.directory.join(BEGINS))
    }

    /// Has the common order begin anew with this relay's journal at the next start.
    ///
    /// # Errors
    ///
    /// When that cannot be noted.
    pub fn begin_anew(&self) -> io::Result<()> {
        // The opens are counted anew, too.
        match std::fs::remove_file(self.directory.join(OPENS_PLACE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        pixelward_replica::lease::begin_anew(&self.directory.join(LEASES))?;
        write(&self.directory, BEGINS, "")
    }

    /// Copies what all relays have in common to an empty directory.
    ///
    /// # Errors
    ///
    /// When a file cannot be written.
    pub fn hand_over(&self, directory: &Path) -> io::Result<()> {
        self.authority.write(directory)?;
        for (name, secret) in [(RELAY, &self.relay), (MONITOR, &self.monitor), (OPERATOR, &self.operator)] {
            write(directory, name, &secret.0)?;
        }
        write(directory, SERVERS, &self.servers.join("\n"))
    }
}

fn private_directory(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

fn read(directory: &Path, name: &str) -> io::Result<String> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{name}: {error}"));
    std::fs::read_to_string(directory.join(name)).map(|text| text.trim().to_owned()).map_err(named)
}

fn write(directory: &Path, name: &str, content: &str) -> io::Result<()> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{name}: {error}"));
    pixelward_files::write_private(&directory.join(name), format!("{content}\n").as_bytes())
        .map(drop)
        .map_err(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_relay_gets_what_all_have_in_common_and_a_name_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        let servers = ["tls://n1.example:4222".to_owned(), "tls://n2.example:4222".to_owned()];
        let first = Files::first(&one, &servers).unwrap();
        assert!(first.begins() && is_member(&one) && !is_member(&two));
        std::fs::create_dir(&two).unwrap();
        first.hand_over(&two).unwrap();
        let second = Files::settle(&two).unwrap();
        assert!(!second.begins());
        assert_ne!(first.node, second.node);
        assert_eq!(second.servers, servers);
        assert_eq!(first.public_keys().unwrap(), second.public_keys().unwrap());
        assert_eq!(first.authority().hash().unwrap(), second.authority().hash().unwrap());
        first.begun().unwrap();
        assert!(!Files::load(&one).unwrap().begins());
    }

    #[test]
    fn a_missing_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        Files::first(folder.path(), &[]).unwrap();
        std::fs::remove_file(folder.path().join(MONITOR)).unwrap();
        let error = Files::load(folder.path()).unwrap_err().to_string();
        assert!(error.starts_with("monitor.nkey: "), "{error}");
    }
}
