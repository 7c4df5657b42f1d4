//! pixelward: an SMTP relay that enforces tracking consent inline.
//!
//! The modules stand in the order in which a message meets them; [`pipeline`] alone knows that order:
//!
//! ```text
//! listen -> session -> receive -> analyse -> look up -> decide -> rewrite -> sign -> deliver -> record
//! ```
//!
//! The core (`smtp`, `message`, `tracker`, `policy`, `rewrite`, `sign`, `plan`) knows no socket, clock, store or runtime: bytes
//! and times are arguments. The edges (`consent`) each hide one package behind a few verbs of the domain. The shell
//! (`server`, `relay`, `pipeline`, `web`, `cli`) performs what the core decides.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, clippy::panic))]

pub mod cli;
pub mod config;
pub mod faults;
pub mod guarded;
pub mod host_name;
pub mod private_file;

pub mod server;
pub mod wire;

pub mod smtp;

pub mod message;
pub mod tracker;

pub mod chain;
pub mod consent;

pub mod language;
pub mod policy;

pub mod rewrite;

pub mod sign;

pub mod plan;

pub mod relay;

pub mod record;

pub mod web;

#[cfg(feature = "console")]
pub mod console;

pub mod live;
pub mod pipeline;
