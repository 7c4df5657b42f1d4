//! What people and programs reach by HTTP: the private API, the public listener, and previews.

pub mod api;
pub mod hygiene;
pub mod link;
pub mod mapping;
pub mod person;
pub mod preview;
pub mod probe;
pub mod problem;
pub mod public;
pub mod seats;
pub mod serve;
pub mod token;
pub mod webhook;
