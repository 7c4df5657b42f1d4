//! Finding what would report the reader's opening: the places a mail client loads from, and the signals that
//! a load is a report.
//!
//! Promised: linear time, the same result however the bytes came in, and a verdict that consists of the facts
//! reported with it. Absent: any look-up of an address outside of the message.

pub mod allowed;
pub mod analysis;
pub mod calendar;
pub mod campaign;
pub mod carrier;
pub mod catalogue;
mod class;
mod copies;
pub mod css;
pub mod difference;
mod facts;
pub mod host;
pub mod html;
pub mod judge;
pub mod link;
pub mod lists;
pub mod part;
pub mod personal;
pub mod plain;
pub mod rare;
pub mod recipient;
pub mod scan;
pub mod sheet;
pub mod signal;
pub mod slot;
pub mod style;
pub mod token;
pub mod url;

pub use allowed::Allowed;
pub use analysis::{Analysis, Detector, Inquiry, Sighting};
pub use campaign::{Campaigns, Key, Snapshot};
pub use carrier::{Axis, Carrier};
pub use catalogue::{Catalogue, CatalogueError, Vendor};
pub use part::{Part, Placed};
pub use personal::Remedy;
pub use scan::{Extent, Links, Unreadable};
pub use signal::{Signal, Signals, Verdict};
