//! Next hops: connections to them, and one transaction for each transaction of a client.
//!
//! Promised: what the next hop says about the mail reaches the client word for word; a problem between the
//! relay and the next hop never becomes a rejection; after the final dot nothing is retried.

pub mod connection;
pub mod delivery;
pub mod dsn;
pub mod error;
pub mod groups;
pub mod health;
pub mod ledger;
pub mod letter;
pub mod next_hop;
pub mod pool;
pub mod rate;
pub mod route;
pub mod tls_fault;
pub mod transaction;

pub use connection::Capabilities;
pub use delivery::{Answers, Delivered, Mail};
pub use error::RelayError;
pub use groups::{Copies, Making, Parcel};
pub use ledger::Ledger;
pub use next_hop::{Credentials, NextHop, Timeouts, TlsMode};
pub use pool::Pool;
pub use route::Route;
pub use transaction::Transaction;
