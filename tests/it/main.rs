//! What the relay does, told by the relay itself and by the library: no other program, no root, no network
//! but loopback.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, clippy::panic)]

#[path = "../esp/mod.rs"]
mod esp;
#[path = "../http/mod.rs"]
mod http;
#[path = "../mail/mod.rs"]
mod mail;
#[path = "../mta/mod.rs"]
mod mta;
#[path = "../readers/mod.rs"]
mod readers;
#[path = "../support/mod.rs"]
mod support;

mod api_webhooks;
mod capabilities;
mod carriers;
mod cli;
mod complaints;
mod connector_services;
mod connectors;
mod corpus;
mod detection;
mod detection_grid;
mod difference;
mod documents;
mod evidence;
mod exchangers;
mod failure_cases;
mod faults;
mod groups;
mod links;
mod lmtp_hop;
mod malformed;
mod pipelined_data;
mod policy;
mod public;
mod public_faults;
mod relay;
mod restart;
mod scan_report;
mod sentences;
mod smuggling;
mod splice;
mod stored;
mod swaps;
mod tree;
mod ways;
