//! Putting another address in the place of a tracker's: the element and its other attributes stay.
//!
//! Offered only where a picture is loaded, since a picture is what the other address answers, and for links; and
//! only where the address stands by itself in the text. Elsewhere a tracker can only go.

use std::ops::Range;

use super::carrier::Carrier;
use super::css::{self, Strings};
use super::personal;
use super::plain;
use super::scan::{Place, Removal, decoded};
use super::url;
use crate::message::transfer::{Edit, Filler};

/// Where an address stands that can be swapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    range: Range<usize>,
    kind: Syntax,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Syntax {
    /// It is the value of an attribute, or a part of it.
    Attribute,
    /// It is a value of CSS, such as `url(…)`.
    Css,
    /// It stands in plain text.
    Plain,
}

impl Slot {
    /// Where the address of a place can be swapped; `None` where the place can only go.
    pub fn of(text: &[u8], place: &Place<'_>) -> Option<Slot> {
        let (range, kind) = match (place.carrier, &place.removal, &place.written) {
            (
                Carrier::Img | Carrier::Input | Carrier::Background | Carrier::Vml | Carrier::Anchor,
                _,
                Some(written),
            ) => (written.clone(), Syntax::Attribute),
            (Carrier::Srcset, Removal::Candidate { candidate, .. }, _) => {
                (address_in(text, candidate)?, Syntax::Attribute)
            }
            (Carrier::StyleAttribute | Carrier::StyleSheet, Removal::CssValue(range), _) => {
                (range.clone(), Syntax::Css)
            }
            _ => return None,
        };
        Some(Slot { range, kind })
    }

    /// The same place, in a text that is no markup.
    #[must_use]
    pub fn in_plain_text(self) -> Slot {
        Slot { kind: Syntax::Plain, ..self }
    }

    /// The address that stands there, as browsers ask for it; `None` where it hangs on a base or is written
    /// in a way that not all read alike.
    pub fn address(&self, text: &[u8]) -> Option<String> {
        let written = text.get(self.range.clone())?;
        let address = match self.kind {
            Syntax::Attribute => decoded(written).into_owned(),
            Syntax::Plain => plain::joined(written)?.into_owned(),
            Syntax::Css => {
                let mut loads = css::loads(written, Strings::OfFunctions);
                let only = loads.pop().filter(|_| loads.is_empty())?;
                only.url
            }
        };
        let address = url::clean(&address);
        let has_scheme = ["http://", "https://"].iter().any(|scheme| {
            address.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        });
        match address.strip_prefix("//") {
            _ if has_scheme => Some(address.into_owned()),
            // Mail has no scheme of its own; what can be had encrypted is asked for that way.
            Some(rest) => Some(format!("https://{rest}")),
            None => None,
        }
    }

    /// The edit that puts `address` there. Its bytes must need no quotes in attributes and in CSS.
    pub fn edit(&self, address: &str) -> Edit {
        let with = match self.kind {
            Syntax::Attribute | Syntax::Plain => address.to_owned(),
            Syntax::Css => format!("url({address})"),
        };
        self.filled(with.into_bytes())
    }

    /// The edit that puts any `address` there.
    pub fn quoted(&self, address: &str) -> Edit {
        match self.kind {
            Syntax::Attribute => self.filled(personal::attribute_value(address)),
            Syntax::Css | Syntax::Plain => self.edit(address),
        }
    }

    /// A blank is none of the address, whatever quotes there are; within `url()` it would stand outside.
    fn filled(&self, with: Vec<u8>) -> Edit {
        Edit { range: self.range.clone(), with, filler: Filler::Space }
    }
}

/// The address in a candidate of a `srcset`, without what describes it.
fn address_in(text: &[u8], candidate: &Range<usize>) -> Option<Range<usize>> {
    let written = text.get(candidate.clone())?;
    let start = written.iter().position(|byte| !byte.is_ascii_whitespace() && *byte != b',')?;
    let rest = written.get(start..)?;
    let length = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
    Some(candidate.start + start..candidate.start + start + length)
}
