//! pixelward: an SMTP relay that enforces tracking consent inline.
//!
//! The crates are rings, and each knows only those before it:
//!
//! | crate | what it is |
//! |---|---|
//! | `pixelward-core` | bytes and times in, decisions and bytes out: no socket, file, store or runtime |
//! | `pixelward-files`, `-config`, `-store`, `-net` | the edges, hiding a few packages each |
//! | `pixelward-relay`, `pixelward-record`, `pixelward-web` | next hops; log and proof; HTTP |
//! | this one | clients (`server`), the straight line (`pipeline`), and the commands (`cli`) |
//!
//! `pixelward-console` is a program of its own and knows the API alone.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, clippy::panic))]

pub mod cli;
#[cfg(feature = "cluster")]
pub mod cluster;
pub mod live;
pub mod pipeline;
pub mod server;

pub use pixelward_config as config;
#[cfg(feature = "console")]
pub use pixelward_console as console;
pub use pixelward_core::{
    faults, fields, guarded, language, message, plan, policy, rewrite, sign, smtp, tracker,
};
pub use pixelward_files::private_file;
pub use pixelward_net as net;
pub use pixelward_net::wire;
pub use pixelward_record as record;
pub use pixelward_relay as relay;
pub use pixelward_store::{chain, consent};
pub use pixelward_web as web;
