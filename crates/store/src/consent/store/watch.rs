//! Somebody who is told of every change, before it is acknowledged and without a window in which a crash could lose the news.

use crate::consent::{Controller, Person};

/// A change that is about to be made durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    /// The number that its record will have in the journal.
    pub number: u64,
    /// Who said something.
    pub person: Person,
    /// To whom.
    pub controller: Controller,
}

/// Is told of changes from the thread that writes: what it does there, every write waits for.
pub trait Watcher: Send + Sync {
    /// These changes are written next. What is noted of them for good must be dropped again where `after` says so, or where, after a crash, the
    /// journal has no record of such a number: then the change did not come to be.
    fn before(&self, changes: &[Noted]);

    /// Whether the changes noted last are durable now.
    fn after(&self, durable: bool);
}
