//! What a person told a controller about being tracked, as far as it can be said without a store.
//!
//! Promised: silence is not consent.

pub mod person;
pub mod record;
pub mod seal;
pub mod standing;
pub mod timestamp;

pub use person::{Controller, Outward, Person, StoreKey};
pub use record::{Change, Details, Proof, Record, Scope, State, Timing};
pub use standing::{MayAsk, Permission, Standing};
pub use timestamp::Timestamp;
