//! What people said, and the proof of it: the consent store, and the chained segments that it shares with the
//! evidence.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, clippy::panic))]

pub mod chain;
pub mod consent;

use pixelward_core::{fields, policy};
use pixelward_files::private_file;
