//! Listeners: sockets, TLS, limits, and the conversation with each client.
//!
//! Promised: a panic costs one session; overload is answered 421 or 452, never 5xx; what one client does slowly harms no other.

pub mod activation;
pub mod budget;
pub mod connection;
pub mod listener;
pub mod tls;

pub use activation::Activated;
pub use budget::Budget;
pub use listener::{Bound, adopt, bind};
