//! From the raw bytes of a message to the texts in it that a mail client would read as markup, and back
//! again: an edit of such a text becomes splices of the raw bytes.
//!
//! Nothing here rebuilds a message. What is not spliced stays as it came.

pub mod charset;
pub mod header;
mod quoted;
mod readable;
mod readings;
mod seven_bit;
pub mod structure;
pub mod text;
pub mod transfer;

pub use header::Field;
pub use quoted::{Label, labelled, quoted};
pub use seven_bit::seven_bit;
pub use structure::{BodyElsewhere, Content, Leaf, Protection, Shown, Structure, Trouble, subject};
pub use text::Text;
pub use transfer::{Edit, Filler, Transfer};
