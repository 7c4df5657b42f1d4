//! What people and programs reach by HTTP: the private API, the public listener, and pages to look at in a
//! browser.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, clippy::panic))]

pub mod api;
pub mod api_token;
pub mod connector;
pub mod deployed;
pub mod door;
pub mod hygiene;
pub mod live;
pub mod mapping;
pub mod metrics;
pub mod outbox;
pub mod person;
pub mod preview;
pub mod probe;
pub mod problem;
pub mod public;
pub mod webhook;

use pixelward_config as config;
use pixelward_core::{guarded, language, message, plan, policy, rewrite, sign, smtp, tracker};
use pixelward_files::private_file;
use pixelward_net as net;
use pixelward_record as record;
use pixelward_relay as relay;
use pixelward_store::{chain, consent};

pub use live::{Host, Live};
