//! The SMTP protocol (RFC 5321) without I/O: bytes become commands and messages, decisions become replies.
//!
//! Absent: sockets, clocks and waiting. Stream readers give the same result however the stream was split.

pub mod address;
pub mod auth;
pub mod command;
pub mod data;
pub mod envelope;
pub mod features;
pub mod reply;
pub mod session;
pub mod xclient;

pub use address::{Address, Domain};
pub use command::{Command, Parameter, Parameters};
pub use data::{BareNewline, DataReader};
pub use features::Features;
pub use reply::Reply;
pub use session::{Action, Envelope, Recipient, Session};
