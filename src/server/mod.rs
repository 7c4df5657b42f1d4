//! Listeners: sockets, TLS, limits, and the conversation with each client.
//!
//! Promised: a panic costs one session; overload is answered with 421 or 452, never 5xx; a slow client harms
//! no other.

pub mod activation;
pub mod budget;
mod clients;
pub mod connection;
mod data;
pub mod descriptors;
mod guesses;
mod handshake;
pub mod listener;
mod login;
mod permission;
mod proxy;
mod recipients;
mod refused;
pub mod users;
mod ways;
mod xclient;

pub use activation::Activated;
pub use budget::Budget;
pub use listener::{Bound, adopt, bind};
pub use pixelward_net::{Tls, tls};
pub use users::Users;
