//! Files that the relay keeps: written whole or not at all, appended to without a partial end, or made of
//! slots that can be overwritten one by one.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, clippy::panic))]

mod log;
pub mod private_file;
pub mod slots;
mod whole;

pub use log::Log;
pub use slots::Slots;
pub use whole::{finish, replace, replace_unsynced, unfinished, write_private};
