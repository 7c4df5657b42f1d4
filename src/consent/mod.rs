//! What each person has told each controller about being tracked, and the proof of it.
//!
//! The journal is the truth: append-only, chained by hash, synced before anything is acknowledged. The index
//! over it can be rebuilt. Only the key file says whom a record is about, so erasing a person cuts the link
//! and leaves the chain intact.
//!
//! Promised: silence is not consent. Unknown, expired, damaged and unreachable all act as refused.

pub mod backup;
pub mod days;
pub mod export;
pub mod import;
pub mod index;
pub mod journal;
pub mod keys;
pub mod person;
pub mod pseudonyms;
pub mod record;
pub mod seal;

pub mod socket;
pub mod standing;
pub mod store;

pub mod timestamp;
pub mod trail;
pub mod upkeep;

pub use days::Day;
pub use person::{Controller, Outward, Person, StoreKey};
pub use pseudonyms::{Pseudonym, Pseudonyms};
pub use record::{Change, Details, Proof, Record, State, Timing};
pub use standing::{MayAsk, Permission, Standing};
pub use store::{Applied, Noted, Settings, Store, StoreError, Verified, Watcher};

pub use timestamp::Timestamp;
