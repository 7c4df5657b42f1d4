//! Next hops: connections to them, and one transaction for each that a client opens.
//!
//! Promised: what the next hop says about the mail reaches the client word for word; trouble between us and the next hop never
//! becomes a rejection; after the final dot nothing is tried again.

pub mod connection;
pub mod error;
pub mod next_hop;
pub mod pool;
pub mod transaction;

pub use connection::Capabilities;
pub use error::RelayError;
pub use next_hop::{Credentials, NextHop, Timeouts, TlsMode};
pub use pool::Pool;
pub use transaction::Transaction;
