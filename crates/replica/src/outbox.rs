//! What this relay heard and must tell the others: withdrawals, refusals, objections and erasures, on disk until
//! the common order has them.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use pixelward_files::Log;

use crate::consent::ordered::{Heard, Waiting};
use crate::message::MessageId;

/// An entry begins with whether it is put or dropped, its id, and the length of what follows.
const PUT: u8 = 1;
const DROPPED: u8 = 2;
const HEAD: usize = 1 + 16 + 4;
/// The size from which a file without entries that wait is emptied, in bytes.
const EMPTIED: u64 = 1 << 16;

/// The file.
#[derive(Debug)]
pub(crate) struct Outbox {
    log: Log,
    waiting: usize,
}

impl Outbox {
    /// Opens or creates the file; returns what waits, oldest first. A partial end was never acknowledged, and
    /// is cut off.
    pub(crate) fn open(path: &Path, seal: &Waiting<'_>) -> io::Result<(Outbox, Vec<(MessageId, Heard)>)> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok((Outbox { log: Log::create(path, &[])?, waiting: 0 }, Vec::new()));
            }
            Err(error) => return Err(error),
        };
        let (mut rest, mut order, mut found) = (&bytes[..], Vec::new(), HashMap::new());
        while let Some((kind, id, content, tail)) = entry(rest) {
            if kind == PUT {
                let heard = seal.open(content, &id).ok_or_else(|| {
                    io::Error::other(
                        "an entry does not open with this store key; restore the right store.key",
                    )
                })?;
                order.push(id);
                found.insert(id, heard);
            } else {
                found.remove(&id);
            }
            rest = tail;
        }
        let log = Log::open(path, (bytes.len() - rest.len()) as u64)?;
        let waiting: Vec<(MessageId, Heard)> =
            order.into_iter().filter_map(|id| Some((id, found.remove(&id)?))).collect();
        Ok((Outbox { log, waiting: waiting.len() }, waiting))
    }

    /// Puts in what was heard, durably.
    pub(crate) fn put(&mut self, heard: &[(MessageId, Heard)], seal: &Waiting<'_>) -> io::Result<()> {
        let bytes: Vec<u8> =
            heard.iter().flat_map(|(id, heard)| written(PUT, id, &seal.seal(heard, id))).collect();
        self.log.append_synced(&bytes)?;
        self.waiting += heard.len();
        Ok(())
    }

    /// Drops what the common order has. If that is lost, it is brought there twice, which changes nothing.
    pub(crate) fn drop_id(&mut self, id: &MessageId) -> io::Result<()> {
        self.waiting = self.waiting.saturating_sub(1);
        if self.waiting == 0 && self.log.length() >= EMPTIED {
            return self.log.rewrite(&[]);
        }
        self.log.append(&written(DROPPED, id, &[]))
    }

    /// Returns how many entries wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }
}

fn written(kind: u8, id: &MessageId, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX).to_le_bytes();
    [&[kind][..], id, &length, content].concat()
}

/// Reads the first entry: its kind, id and content, and what follows. `None` if there is no whole one.
fn entry(bytes: &[u8]) -> Option<(u8, MessageId, &[u8], &[u8])> {
    let (head, rest) = bytes.split_at_checked(HEAD)?;
    let (kind, head) = head.split_first()?;
    let (id, length) = head.split_first_chunk::<16>()?;
    let length = usize::try_from(u32::from_le_bytes(length.try_into().ok()?)).ok()?;
    let (content, rest) = rest.split_at_checked(length)?;
    matches!(*kind, PUT | DROPPED).then_some((*kind, *id, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consent::{Person, StoreKey};

    #[test]
    fn what_waits_survives_a_restart_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let (path, key) = (folder.path().join("outbox"), StoreKey::new([7; 32]));
        let seal = Waiting(&key);
        let (mut outbox, waiting) = Outbox::open(&path, &seal).unwrap();
        assert!(waiting.is_empty());
        let erase = |number: u8| ([number; 16], Heard::Erase(Person([number; 16])));
        outbox.put(&[erase(1), erase(2)], &seal).unwrap();
        outbox.put(&[erase(3)], &seal).unwrap();
        outbox.drop_id(&[2; 16]).unwrap();
        let whole = std::fs::read(&path).unwrap();
        drop(outbox);
        // A partial entry at the end was never acknowledged.
        std::fs::write(&path, [&whole[..], &[PUT, 9, 9]].concat()).unwrap();
        let (outbox, waiting) = Outbox::open(&path, &seal).unwrap();
        let ids: Vec<MessageId> = waiting.iter().map(|(id, _)| *id).collect();
        assert_eq!((ids, outbox.waiting()), (vec![[1; 16], [3; 16]], 2));
        assert_eq!(std::fs::read(&path).unwrap(), whole);
        assert!(Outbox::open(&path, &Waiting(&StoreKey::new([8; 32]))).is_err());
    }
}
