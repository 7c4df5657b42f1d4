//! What is decided about each sighting for each recipient, and why.

pub mod outcome;
pub mod purpose;

pub use outcome::{Outcome, strictest};
pub use purpose::Purpose;
