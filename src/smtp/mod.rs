//! The SMTP protocol (RFC 5321) without I/O: bytes become commands and messages, decisions become replies.
//!
//! Absent: sockets, clocks and waiting. What reads a stream gives the same result however the stream was cut.

pub mod address;
pub mod command;
pub mod data;
pub mod reply;
pub mod session;

pub use address::{Address, Domain};
pub use command::{Command, Parameter, Parameters};
pub use data::{BareNewline, DataReader};
pub use reply::Reply;
pub use session::{Action, Envelope, Features, Recipient, Session};
