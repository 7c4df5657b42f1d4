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
pub mod key_file;
pub mod keys;
pub mod ordered;
pub mod pseudonyms;
pub mod said;
pub mod socket;
pub mod store;
pub mod trail;
pub mod upkeep;
pub mod view;

pub use pixelward_core::consent::{
    Change, Controller, Details, MayAsk, Outward, Permission, Person, Proof, Record, Scope, Standing, State,
    StoreKey, Timestamp, Timing, person, record, seal, standing, timestamp,
};

pub use days::Day;
pub use pseudonyms::{Pseudonym, Pseudonyms};
pub use store::{Applied, Noted, Settings, Store, StoreError, Verified, Watcher};
