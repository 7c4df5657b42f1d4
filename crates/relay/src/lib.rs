//! Next hops: connections to them, and one transaction for each transaction of a client.
//!
//! Promised: what the next hop says about the mail reaches the client word for word; a problem between the
//! relay and the next hop never becomes a rejection; after the final dot nothing is retried.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, clippy::panic))]

pub mod ask;
pub mod authentication;
pub mod connection;
mod convert;
pub mod delivery;
pub mod dial;
pub mod dsn;
pub mod error;
pub mod exchangers;
pub mod groups;
pub mod health;
pub mod ledger;
pub mod letter;
mod mail;
pub mod mta_sts;
pub mod next_hop;
mod notify;
pub mod outbound;
pub mod pool;
pub mod rate;
pub mod route;
pub mod tls_fault;
pub mod transaction;
pub mod ways;

pub use pixelward_config::TlsMode;

use pixelward_core::{message, smtp};
use pixelward_files::private_file;
use pixelward_net::wire;
use pixelward_store::consent;

pub use ask::Heard;
pub use authentication::{Authentication, Peer};
pub use connection::Capabilities;
pub use delivery::Delivered;
pub use error::RelayError;
pub use exchangers::{Exchangers, Validation};
pub use groups::{Copies, Making, Parcel};
pub use ledger::Ledger;
pub use mail::{Answers, Mail};
pub use mta_sts::MtaSts;
pub use next_hop::{Credentials, NextHop, Timeouts};
pub use outbound::Outbound;
pub use pool::Pool;
pub use route::Route;
pub use transaction::{Transaction, Via};
pub use ways::Ways;
