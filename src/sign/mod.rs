//! Signatures: which of those a message carries an edit would break.

pub mod canonical;
pub mod existing;

pub use existing::{OnBroken, broken_signatures};
