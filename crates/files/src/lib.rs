//! Files that the relay keeps.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, clippy::panic))]

pub mod private_file;
