//! What is decided about each sighting for each recipient, and why.

pub mod purpose;

pub use purpose::Purpose;
