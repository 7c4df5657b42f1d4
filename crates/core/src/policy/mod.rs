//! Decides about each message for each recipient, and says why.
//!
//! [`rulebook`] says whose mail a message is, of which kind, and which rules apply; [`decision`] is one pure
//! function from that and from what the person said. "Policy applied" is all that is claimed here (N7).

pub mod conditions;
pub mod decision;
pub mod exemption;
pub mod jurisdiction;
pub mod lint;
pub mod mailstream;
pub mod outcome;
pub mod page;
pub mod possible;
pub mod purpose;
pub mod request;
pub mod rulebook;

pub use conditions::{Conditions, Control, Instruction, Marks, Origin};
pub use decision::{Decision, Facts, LinkFate, Rule, decide};
pub use exemption::{Exemption, Exemptions};
pub use jurisdiction::{Flags, Jurisdictions, Need, Rules};
pub use mailstream::{
    Controller, Footer, LinksLookup, MailKind, Mailstream, Mode, OnGrant, Requested, SharedAfterNo, Treatment,
};
pub use outcome::{Done, Outcome, joined};
pub use page::{Language, Page};
pub use purpose::Purpose;
pub use request::{Request, TooEarly, request};
pub use rulebook::{Chosen, Rulebook};
