//! Notifies a watcher of every change, before it is acknowledged and without a window in which a crash could
//! lose the news.

use crate::consent::{Controller, Person};

/// A change that is about to become durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    /// The number that its record will have in the journal.
    pub number: u64,
    /// The person.
    pub person: Person,
    /// The controller.
    pub controller: Controller,
}

/// Receives changes on the writer thread: every write waits for what it does there.
pub trait Watcher: Send + Sync {
    /// Called before these changes are written. What is noted durably about them must be dropped again if
    /// `after` says so or if, after a crash, the journal has no record with such a number: then the change
    /// never took effect.
    fn before(&self, changes: &[Noted]);

    /// Called with whether the changes noted last are now durable.
    fn after(&self, durable: bool);
}
