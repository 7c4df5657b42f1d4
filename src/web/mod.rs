//! What people and programs reach by HTTP: the private API, and pages to look at in a browser.

pub mod api;
pub mod mapping;
pub mod person;
pub mod problem;
pub mod serve;
pub mod token;
pub mod webhook;
