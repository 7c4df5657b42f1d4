//! Connections: byte streams in clear or over TLS, certificates, and HTTP within limits.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, clippy::panic))]

pub mod ask;
pub mod certificate;
pub mod dane;
pub mod fetch;
pub mod line;
pub mod link;
pub mod seats;
pub mod serve;
pub mod tls;
pub mod trust;
pub mod wire;

use pixelward_config as config;
pub use tls::Tls;
pub use trust::{pinned_tls_config, tls_config};
