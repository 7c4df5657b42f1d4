//! The core: bytes and times in, decisions and bytes out.
//!
//! The modules stand in the order in which a message meets them. [`plan`] takes a message through all of
//! them, and says what becomes of it. Absent: sockets, files, stores, a runtime.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, clippy::panic))]

pub mod faults;
pub mod fields;
pub mod guarded;
pub mod language;
mod near;
mod places;
mod same;

pub mod smtp;

pub mod message;
pub mod tracker;

pub mod consent;
pub mod policy;

pub mod rewrite;
pub mod sign;

pub mod plan;
