//! What is to be done at one relay only: the relay that claims its name first does it, for as long as it says.
//!
//! Each relay keeps the claims that it has heard in a file, since the common order is not read again from its
//! beginning after a restart. The file is not synced: power that fails may cost a claim, and then something is done
//! twice.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use pixelward_files::Log;

use crate::consent::ordered::Name;
use crate::message::NodeId;

/// The most claims that are kept. Beyond it, what is claimed is done and not kept.
const MAX: usize = 1 << 18;
/// A claim in the file: name, relay and end.
const ENTRY: usize = 16 + 16 + 8;

/// The claims that count.
#[derive(Debug)]
pub(crate) struct Claims {
    log: Log,
    known: HashMap<Name, (NodeId, i64)>,
}

impl Claims {
    /// Opens or creates the file. A partial end is cut off, and so is what does not count any more at `now`, in
    /// milliseconds since 1970.
    pub(crate) fn open(path: &Path, now: i64) -> io::Result<Claims> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let mut known = HashMap::new();
        for entry in bytes.as_chunks::<ENTRY>().0 {
            let (name, rest) = entry.split_first_chunk::<16>().unwrap_or((&[0; 16], &[]));
            let (node, end) = rest.split_first_chunk::<16>().unwrap_or((&[0; 16], &[]));
            let end = i64::from_le_bytes(end.try_into().unwrap_or_default());
            if end > now {
                known.insert(*name, (*node, end));
            }
        }
        let mut claims = Claims { log: Log::create(path, &[])?, known };
        claims.write_anew()?;
        Ok(claims)
    }

    /// Takes a claim of a relay, committed at this moment, that counts for so long; returns whether no other relay
    /// was first.
    pub(crate) fn take(
        &mut self,
        name: Name,
        node: NodeId,
        committed_at: i64,
        within: i64,
    ) -> io::Result<bool> {
        if let Some((first, end)) = self.known.get(&name)
            && *end > committed_at
        {
            return Ok(*first == node);
        }
        if self.known.len() >= MAX {
            self.known.retain(|_, (_, end)| *end > committed_at);
            self.write_anew()?;
        }
        if self.known.len() < MAX {
            let end = committed_at.saturating_add(within);
            self.log.append(&entry(&name, &node, end))?;
            self.known.insert(name, (node, end));
        }
        Ok(true)
    }

    fn write_anew(&mut self) -> io::Result<()> {
        let all: Vec<u8> =
            self.known.iter().flat_map(|(name, (node, end))| entry(name, node, *end)).collect();
        self.log.rewrite(&all)
    }
}

fn entry(name: &Name, node: &NodeId, end: i64) -> Vec<u8> {
    [&name[..], node, &end.to_le_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_claim_counts_until_its_end_and_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("claims.log");
        let mut claims = Claims::open(&path, 0).unwrap();
        assert!(claims.take([1; 16], [1; 16], 100, 50).unwrap());
        assert!(!claims.take([1; 16], [2; 16], 149, 50).unwrap());
        assert!(claims.take([1; 16], [1; 16], 120, 50).unwrap(), "the same relay again");
        assert!(claims.take([2; 16], [3; 16], 120, 50).unwrap(), "another name");
        drop(claims);
        let mut file = std::fs::read(&path).unwrap();
        file.extend_from_slice(&[7; 11]);
        std::fs::write(&path, file).unwrap();
        let mut claims = Claims::open(&path, 149).unwrap();
        assert!(!claims.take([1; 16], [2; 16], 149, 50).unwrap());
        assert!(claims.take([1; 16], [2; 16], 150, 50).unwrap());
        assert_eq!(Claims::open(&path, 1000).unwrap().known.len(), 0);
    }
}
