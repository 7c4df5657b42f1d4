//! What is decided about each sighting for each recipient, and why.

pub mod decision;
pub mod outcome;
pub mod purpose;

pub use decision::{Decision, Rule, decide};
pub use outcome::{Outcome, strictest};
pub use purpose::Purpose;
