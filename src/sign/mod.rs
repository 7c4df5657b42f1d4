//! Signatures: which of those a message carries an edit would break.

pub mod canonical;
pub mod existing;

pub use existing::{broken_signatures, OnBroken};
