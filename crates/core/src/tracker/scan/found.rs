//! What a text of markup loads, and how each load can be taken out.

use std::ops::Range;

use crate::tracker::carrier::Carrier;
use crate::tracker::facts::Known;
use crate::tracker::signal::{Signal, Signals};
use crate::tracker::style::Size;
use crate::tracker::url::Url;

/// How much is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Extent {
    /// Trackers. A plain picture file is noted, and nothing more is asked about it.
    Trackers,
    /// Everything that is loaded from elsewhere, with all that speaks for or against it; so that no remote
    /// request is left, or for a report.
    EveryRequest,
}

/// Whether links are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Links {
    /// They are passed over.
    Ignore,
    /// Those with a token or with an address within them are counted.
    Count,
    /// They are noted, with what speaks for a tracked link.
    Note,
}

/// What happens to a text part that cannot be read, in an encoding that nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It stays, and is counted.
    Count,
    /// It goes.
    Remove,
}

/// A place that is loaded from.
#[derive(Clone, Debug)]
pub struct Place<'a> {
    /// What kind of place.
    pub carrier: Carrier,
    /// Where from.
    pub url: Url<'a>,
    /// The element or declaration.
    pub range: Range<usize>,
    /// Where the address stands as written; `None` where it does not stand by itself in the text that was
    /// scanned.
    pub written: Option<Range<usize>>,
    /// How it can be taken out.
    pub removal: Removal,
    /// How large it is drawn.
    pub size: Size,
    /// What is known without looking at the address.
    pub signals: Signals,
    /// Where the picture starts of which this is one source; `None` where it has no others.
    pub picture: Option<usize>,
    /// What the address of a link says, where that is known.
    pub link: Option<Known>,
}

/// A plain picture file: nothing around it could make it a tracker, so nothing was asked but where it stands.
#[derive(Clone, Debug)]
pub struct PlainPicture<'a> {
    /// Where from.
    pub url: Url<'a>,
    /// The element.
    pub range: Range<usize>,
    /// Where the address stands as written.
    pub written: Range<usize>,
}

/// What a text loads.
#[derive(Clone, Debug, Default)]
pub struct Found<'a> {
    /// Places that could be trackers, or all of them, in the order in which they stand.
    pub places: Vec<Place<'a>>,
    /// Plain picture files, where only trackers are looked for.
    pub plain: Vec<PlainPicture<'a>>,
    /// Links with a token or with an address within them.
    pub links: usize,
}

/// How a load can be taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// The element goes, or only this attribute where the element takes space.
    Element {
        /// The element.
        element: Range<usize>,
        /// The attribute with the blank before it.
        attribute: Range<usize>,
    },
    /// The same within a conditional comment, where nothing may be left that would end it.
    ElementInComment {
        /// The element.
        element: Range<usize>,
        /// The attribute with the blank before it.
        attribute: Range<usize>,
    },
    /// The attribute goes.
    Attribute(Range<usize>),
    /// One candidate of a `srcset` goes.
    Candidate {
        /// The whole value.
        value: Range<usize>,
        /// The candidate, up to the comma.
        candidate: Range<usize>,
    },
    /// The value of the attribute is replaced.
    Value {
        /// Where the value stands.
        range: Range<usize>,
        /// What stands there afterwards, quoted as needed.
        with: String,
    },
    /// A CSS value becomes `none`.
    CssValue(Range<usize>),
    /// A CSS rule goes.
    CssRule(Range<usize>),
    /// A header field goes.
    Field(Range<usize>),
    /// Nothing is taken out: a link.
    Nothing,
}

impl Removal {
    /// The same in another text, in which what stands in a range here stands in the one that `moved` says.
    #[must_use]
    pub(super) fn moved(&self, moved: impl Fn(&Range<usize>) -> Range<usize>) -> Removal {
        match self {
            Removal::Element { element, attribute } => {
                Removal::Element { element: moved(element), attribute: moved(attribute) }
            }
            Removal::ElementInComment { element, attribute } => {
                Removal::ElementInComment { element: moved(element), attribute: moved(attribute) }
            }
            Removal::Attribute(range) => Removal::Attribute(moved(range)),
            Removal::Candidate { value, candidate } => {
                Removal::Candidate { value: moved(value), candidate: moved(candidate) }
            }
            Removal::Value { range, with } => Removal::Value { range: moved(range), with: with.clone() },
            Removal::CssValue(range) => Removal::CssValue(moved(range)),
            Removal::CssRule(range) => Removal::CssRule(moved(range)),
            Removal::Field(range) => Removal::Field(moved(range)),
            Removal::Nothing => Removal::Nothing,
        }
    }
}

impl<'a> Place<'a> {
    /// A link with this address.
    pub(super) fn of_link(url: Url<'a>) -> Place<'a> {
        Place {
            carrier: Carrier::Anchor,
            url,
            range: 0..0,
            written: None,
            removal: Removal::Nothing,
            size: Size::Visible,
            signals: Signals::default(),
            picture: None,
            link: None,
        }
    }
}

impl Place<'_> {
    /// The same without the text that it was found in.
    pub(super) fn into_owned(self) -> Place<'static> {
        Place {
            carrier: self.carrier,
            url: self.url.into_owned(),
            range: self.range,
            written: self.written,
            removal: self.removal,
            size: self.size,
            signals: self.signals,
            picture: self.picture,
            link: self.link,
        }
    }

    /// Whether it is drawn large enough to be seen, and is not hidden.
    pub fn is_shown(&self) -> bool {
        self.size == Size::Visible
            && !self.signals.has(Signal::Hidden)
            && !self.signals.has(Signal::HiddenAncestor)
    }

    /// Whether it is not to be seen where it stands.
    pub fn is_unseen(&self) -> bool {
        matches!(self.size, Size::Zero | Size::Tiny) || self.signals.has(Signal::Hidden)
    }
}
