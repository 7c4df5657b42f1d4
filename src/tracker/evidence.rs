//! Why a load is taken for a report of the opening, or is not.
//!
//! Each fact has a weight; the sum decides. Nothing else does: what is reported as evidence is all that was weighed.

use std::fmt;

/// Something that speaks for or against a tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Fact {
    /// The address has the form of a vendor's open report.
    VendorOpen,
    /// The recipient's address, its hash or an encoding of it stands in the URL.
    RecipientInUrl,
    /// Path or query speak of an opening: `open`, `pixel`, `beacon`, `impression`.
    OpenWord,
    /// A token that only means something to who made it: long, of mixed characters.
    OpaqueToken,
    /// A number, or a short token, in the place of an identifier.
    Identifier,
    /// It is named as spacers are named, yet carries an identifier: a spacer needs none.
    KeyedSpacer,
    /// It is not to be seen, and still asked for with a query.
    KeyedPixel,
    /// It carries the same opaque token as a tracker of this message.
    SharedToken,
    /// The address names a program or nothing, rather than a picture file.
    Dynamic,
    /// It has no width or no height.
    Zero,
    /// It is at most two pixels wide and high.
    Tiny,
    /// It is at most three pixels wide or high.
    Line,
    /// It is hidden.
    Hidden,
    /// It stands within something hidden.
    HiddenAncestor,
    /// No size is given.
    NoSize,
    /// It stands before `<body>` or behind `</body>`.
    OutsideBody,
    /// An empty box or a style sheet loads it, that shows nothing.
    ShowsNothing,
    /// It is large enough to be seen.
    Visible,
    /// The address is that of a picture file, without any identifier.
    StaticFile,
    /// A picture file with a name in words, in a folder that is a token.
    NamedFile,
    /// A service keeps it that serves pictures under opaque names, the same for every reader.
    PictureService,
    /// The file is named as spacers are named.
    SpacerName,
    /// The same address stands here three times or more.
    Repeated,
    /// The same address is also shown large enough to be seen.
    ShownElsewhere,
    /// The same folder serves pictures that are seen.
    FolderShown,
    /// It is a font, a style sheet or an icon.
    Furniture,
}

impl Fact {
    /// Every fact.
    pub const ALL: [Fact; 26] = [
        Fact::VendorOpen,
        Fact::RecipientInUrl,
        Fact::OpenWord,
        Fact::OpaqueToken,
        Fact::Identifier,
        Fact::KeyedSpacer,
        Fact::KeyedPixel,
        Fact::SharedToken,
        Fact::Dynamic,
        Fact::Zero,
        Fact::Tiny,
        Fact::Line,
        Fact::Hidden,
        Fact::HiddenAncestor,
        Fact::NoSize,
        Fact::OutsideBody,
        Fact::ShowsNothing,
        Fact::Visible,
        Fact::StaticFile,
        Fact::NamedFile,
        Fact::PictureService,
        Fact::SpacerName,
        Fact::Repeated,
        Fact::ShownElsewhere,
        Fact::FolderShown,
        Fact::Furniture,
    ];

    /// How much the fact weighs: positive speaks for a tracker. In tenths of what is needed for a verdict.
    pub const fn weight(self) -> i32 {
        match self {
            Fact::VendorOpen => 14,
            Fact::RecipientInUrl => 6,
            Fact::OpenWord => 4,
            Fact::OpaqueToken => 5,
            Fact::SharedToken => 4,
            Fact::KeyedPixel => 3,
            Fact::KeyedSpacer => 4,
            Fact::Identifier => 2,
            Fact::Dynamic => 3,
            Fact::Zero => 5,
            Fact::Tiny => 5,
            Fact::Line => 2,
            Fact::Hidden => 4,
            Fact::HiddenAncestor => 3,
            Fact::NoSize => 2,
            Fact::OutsideBody => 2,
            Fact::ShowsNothing => 2,
            Fact::Visible => -8,
            Fact::PictureService => -7,
            Fact::NamedFile => -5,
            Fact::StaticFile => -9,
            Fact::SpacerName => -2,
            Fact::Repeated => -4,
            Fact::ShownElsewhere => -3,
            Fact::FolderShown => -2,
            Fact::Furniture => -8,
        }
    }

    /// What the fact says, for a reader of the report.
    pub const fn text(self) -> &'static str {
        match self {
            Fact::VendorOpen => "address of a known open report",
            Fact::RecipientInUrl => "recipient's address in the URL",
            Fact::OpenWord => "URL speaks of an opening",
            Fact::OpaqueToken => "opaque token in the URL",
            Fact::SharedToken => "carries the token of another tracker",
            Fact::KeyedPixel => "invisible, yet asked for with a query",
            Fact::KeyedSpacer => "a spacer that carries an identifier",
            Fact::Identifier => "identifier in the URL",
            Fact::Dynamic => "no picture file",
            Fact::Zero => "zero size",
            Fact::Tiny => "one or two pixels",
            Fact::Line => "a thin line",
            Fact::Hidden => "hidden",
            Fact::HiddenAncestor => "within something hidden",
            Fact::NoSize => "no size given",
            Fact::OutsideBody => "outside of the body",
            Fact::ShowsNothing => "shows nothing",
            Fact::Visible => "large enough to be seen",
            Fact::PictureService => "kept by a picture service",
            Fact::NamedFile => "a picture with a name, in a folder with a token",
            Fact::StaticFile => "plain picture file",
            Fact::SpacerName => "named as a spacer",
            Fact::Repeated => "repeated",
            Fact::ShownElsewhere => "also shown large enough to be seen",
            Fact::FolderShown => "its folder serves visible pictures",
            Fact::Furniture => "font, style sheet or icon",
        }
    }
}

/// The sum from which on a load is a tracker.
pub const THRESHOLD: i32 = 10;

/// A set of facts.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Evidence(u32);

impl Evidence {
    /// Adds a fact.
    pub fn add(&mut self, fact: Fact) {
        self.0 |= 1 << fact as u8;
    }

    /// Adds a fact where `holds`.
    pub fn add_if(&mut self, fact: Fact, holds: bool) {
        if holds {
            self.add(fact);
        }
    }

    /// Takes facts back.
    pub fn remove(&mut self, facts: &[Fact]) {
        for fact in facts {
            self.0 &= !(1 << *fact as u8);
        }
    }

    /// Whether a fact was found.
    pub fn has(self, fact: Fact) -> bool {
        self.0 & 1 << fact as u8 != 0
    }

    /// The facts, those for a tracker first.
    pub fn facts(self) -> impl Iterator<Item = Fact> {
        Fact::ALL.into_iter().filter(move |fact| self.has(*fact))
    }

    /// The sum of the weights.
    pub fn score(self) -> i32 {
        self.facts().map(Fact::weight).sum()
    }

    /// What the facts amount to.
    pub fn verdict(self) -> Verdict {
        if self.score() >= THRESHOLD { Verdict::Tracker } else { Verdict::Picture }
    }
}

impl fmt::Debug for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.facts()).finish()
    }
}

impl fmt::Display for Evidence {
    /// `address of a known open report +14, one or two pixels +5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fact) in self.facts().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{} {:+}", fact.text(), fact.weight())?;
        }
        Ok(())
    }
}

/// What a load is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It reports the opening.
    Tracker,
    /// It shows something, or nothing speaks against it.
    Picture,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_distinct_bits() {
        let mut evidence = Evidence::default();
        for fact in Fact::ALL {
            assert!(!evidence.has(fact));
            evidence.add(fact);
        }
        assert_eq!(evidence.facts().count(), Fact::ALL.len());
    }

    #[test]
    fn size_alone_never_decides() {
        for fact in [Fact::Zero, Fact::Tiny, Fact::Line, Fact::Hidden, Fact::NoSize, Fact::OutsideBody] {
            let mut evidence = Evidence::default();
            evidence.add(fact);
            evidence.add(Fact::HiddenAncestor);
            assert_eq!(evidence.verdict(), Verdict::Picture, "{evidence}");
        }
    }
}
