//! The relay among the programs it works with: mail servers, browsers, identity providers, file systems and
//! power cuts. `make test-packages` installs them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, clippy::panic)]

#[path = "../browser/mod.rs"]
mod browser;
#[path = "../console/mod.rs"]
mod console;
#[path = "../crowd/mod.rs"]
mod crowd;
#[path = "../dns/mod.rs"]
mod dns;
#[path = "../esp/mod.rs"]
mod esp;
#[path = "../http/mod.rs"]
mod http;
#[path = "../mail/mod.rs"]
mod mail;
#[path = "../mta/mod.rs"]
mod mta;
#[path = "../noise/mod.rs"]
mod noise;
#[path = "../readers/mod.rs"]
mod readers;
#[path = "../secure/mod.rs"]
mod secure;
#[path = "../support/mod.rs"]
mod support;
#[path = "../tls_hop/mod.rs"]
mod tls_hop;

mod api;
mod api_description;
mod archive;
mod certificates;
mod clock;
mod cluster;
mod connectors;
mod consent_kill;
mod console_answers;
mod console_check;
mod console_crowd;
mod console_metadata;
mod console_pages;
mod console_pictures;
mod console_saml;
mod crash;
mod dane;
mod demo;
mod dkim;
mod exhaustion;
mod fingerprints;
mod hostile;
mod init;
mod internal_errors;
mod lifecycle;
mod links;
mod listener;
mod lmtp_hop;
mod login;
mod manual;
mod mta_sts;
mod next_hop_certificates;
mod next_hop_login;
mod next_hops;
mod notice;
mod one_treatment;
mod ports;
mod postfix;
mod probes;
mod protected;
mod public_browser;
mod public_hostile;
mod recipes;
mod recipes_groups;
mod refusals;
mod rendering;
mod service_user;
mod side_by_side;
mod starttls;
mod store_faults;
mod strict;
mod two_relays;
mod units;
mod why_journal;
mod withdrawal;
