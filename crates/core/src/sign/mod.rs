//! DKIM signatures (RFC 6376): existing ones that an edit would break, and ours.

pub mod canonical;
pub mod existing;
pub mod key;
pub mod signature;
pub mod signers;
pub mod verify;

pub use existing::{OnBroken, broken_signatures};
pub use key::{Algorithm, SigningKey};
pub use signers::{Holders, Sender, Sign, Signed, Signers};
