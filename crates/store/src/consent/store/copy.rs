//! A copy of the store for a new relay of a cluster.

use std::path::{Path, PathBuf};

use super::writer::Writer;
use super::{Job, Settings, Store, StoreError};
use crate::consent::backup::copy_all;

impl Store {
    /// Copies the store as it is at one moment into a directory, for a new relay: journal, keys, pseudonyms and
    /// days of last open, but not what tells this store from others. Nothing is recorded meanwhile.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or written.
    pub fn copy(&self, to: impl Into<PathBuf>) -> Result<(), StoreError> {
        let to = to.into();
        self.wait(|ack| Job::Copy(to, ack))
    }

    /// Follows the common order from its beginning: what was applied of another one does not count any more.
    pub fn begin_anew(&self) {
        self.shared.position.store(0, std::sync::atomic::Ordering::Release);
    }
}

impl Writer {
    /// Copies everything while nothing is written.
    pub(super) fn copy(&self, to: &Path) -> Result<(), StoreError> {
        let Settings { directory, .. } = &self.shared.settings;
        copy_all(&self.shared.settings, to)?;
        self.shared
            .days
            .copy(&directory.join(super::DAYS), &to.join(super::DAYS))
            .map_err(super::io_error("the days of last open"))
    }
}

#[cfg(test)]
mod tests {
    use crate::consent::{Change, Permission, Settings, State, Store, Timestamp};
    use crate::policy::Purpose;

    #[test]
    fn a_copy_opens_as_a_store_of_its_own_with_the_same_journal() {
        let folder = tempfile::tempdir().unwrap();
        let (here, there) = (folder.path().join("here"), folder.path().join("there"));
        let store = Store::open(&Settings { segment_bytes: 2000, ..Settings::at(&here) }).unwrap();
        for number in 0..40 {
            let mut change =
                Change::now("shop".parse().unwrap(), vec![Purpose::Personalisation], State::Granted);
            change.details.evidence = Some("form".to_owned());
            let _ = store.record(vec![(store.person(&format!("p{number}@home.example")), change)]).unwrap();
        }
        store.erase(store.person("p7@home.example")).unwrap();
        store.copy(&there).unwrap();
        let copy = Store::open(&Settings::at(&there)).unwrap();
        assert_eq!(copy.head(), store.head());
        assert_ne!(copy.identity(), store.identity());
        for number in 0..40 {
            let person = copy.person(&format!("p{number}@home.example"));
            let standing = copy.lookup(&"shop".parse().unwrap(), person).unwrap();
            let is_granted =
                matches!(standing.allows(Purpose::Personalisation, Timestamp::now()), Permission::Granted(_));
            assert_eq!(is_granted, number != 7, "{number}");
        }
    }
}
