//! Why a load is taken for a report of the opening, or is not.
//!
//! Each signal has a weight; the sum decides. Nothing else does: what is reported is all that was weighed.
//! The weights are data (`weights.csv`), fitted on labelled mail by `tools/fit_weights.py`.

use std::fmt;
use std::sync::LazyLock;

/// The weights, a fact a line.
const WEIGHTS: &str = include_str!("weights.csv");

/// Declares the facts, each with what it says for a reader of the report.
macro_rules! signals {
    ($($(#[$doc:meta])* $name:ident: $text:literal,)*) => {
        /// Something that speaks for or against a tracker.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Signal {
            $($(#[$doc])* $name,)*
        }

        impl Signal {
            /// Every fact, those for a tracker first.
            pub const ALL: [Signal; [$($text),*].len()] = [$(Signal::$name),*];

            /// The name used in data.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Signal::$name => stringify!($name),)*
                }
            }

            /// What the fact says, for a reader of the report.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Signal::$name => $text,)*
                }
            }
        }
    };
}

signals! {
    /// The address has the form of a vendor's open report.
    VendorOpen: "address of a known open report",
    /// The recipient's address, its hash or an encoding of it stands in the URL.
    RecipientInUrl: "recipient's address in the URL",
    /// Path or query speak of an opening: `open`, `pixel`, `beacon`, `impression`.
    OpenWord: "URL has a word for opening",
    /// A token that only means something to who made it: long, of mixed characters.
    OpaqueToken: "opaque token in the URL",
    /// A number, or a short token, in the place of an identifier.
    Identifier: "identifier in the URL",
    /// It is named as spacers are named, yet carries an identifier: a spacer needs none.
    KeyedSpacer: "a spacer that carries an identifier",
    /// It is not to be seen, and still its address holds something that can differ by reader.
    KeyedPixel: "invisible, yet asked for with a key",
    /// It is not to be seen, and carries the reader's address.
    UnseenReader: "invisible, and carries the recipient's address",
    /// It carries the same opaque token as a tracker of this message.
    SharedToken: "carries the token of another tracker",
    /// It has the address of a tracker of this message.
    SharedAddress: "same address as another tracker",
    /// It asks the same program as a tracker of this message.
    SharedProgram: "asks the same program as another tracker",
    /// It is another source of a picture that is a tracker.
    SharedPicture: "another source of a picture that is a tracker",
    /// The address names a program or nothing, rather than a picture file.
    Dynamic: "no picture file",
    /// It has no width or no height.
    Zero: "zero size",
    /// It is at most three pixels wide and high.
    Tiny: "at most three pixels",
    /// It is at most five pixels wide and high.
    Dot: "at most five pixels",
    /// It is at most three pixels wide or high.
    Line: "a thin line",
    /// It is hidden.
    Hidden: "hidden",
    /// It stands within something hidden.
    HiddenAncestor: "within something hidden",
    /// No size is given.
    NoSize: "no size given",
    /// No size is given, and neither text nor link says what it shows.
    Undescribed: "nothing says what it shows",
    /// Nothing of the body stands behind it.
    Last: "last in the body",
    /// It stands before `<body>` or behind `</body>`.
    OutsideBody: "outside of the body",
    /// An empty box or a style sheet loads it, that shows nothing.
    ShowsNothing: "shows nothing",
    /// An operator's list names the address.
    Listed: "on an operator's list",
    /// Other copies of the same campaign carry another address in its place.
    Learnt: "differs from copy to copy of the campaign",
    /// A vendor serves pictures under such addresses, another one to each reader.
    PersonalPicture: "address of a vendor's pictures that differ for each reader",
    /// The address has the form of a vendor's click report.
    VendorLink: "address of a known click report",
    /// A whole address stands in the address: it leads on.
    CarriesAddress: "leads on to an address within it",
    /// Path or host speak of a click.
    ClickWord: "URL has a word for a click",
    /// It is large enough to be seen.
    Visible: "large enough to be seen",
    /// The background of a box that is large enough to be seen.
    Background: "background of a box",
    /// A text says what it shows.
    Described: "a text says what it shows",
    /// It stands within a link.
    Linked: "within a link",
    /// It may grow as wide as there is room.
    Fluid: "fills the width it is given",
    /// The address is that of a picture file, without any identifier.
    StaticFile: "plain picture file",
    /// A picture file with a name in words, in a folder that is a token.
    NamedFile: "a picture with a name, in a folder with a token",
    /// A service keeps it that serves pictures under opaque names, the same for every reader.
    PictureService: "kept by a picture service",
    /// The file is named as spacers are named.
    SpacerName: "named as a spacer",
    /// The same address stands here three times or more.
    Repeated: "repeated",
    /// The same address is also shown large enough to be seen.
    ShownElsewhere: "also shown large enough to be seen",
    /// The same folder serves pictures that are seen.
    FolderShown: "its folder serves visible pictures",
    /// It is a font, a style sheet or an icon.
    Furniture: "font, style sheet or icon",
    /// A link that lets the reader choose: to unsubscribe, to set preferences.
    Choice: "offers the reader a choice",
    /// No client loads it when the message is opened.
    Idle: "not loaded when the message is opened",
    /// The host is a single label, which only a network of the reader's own resolves.
    LocalHost: "no host of the public network",
    /// The operator has made an exception for the address.
    Allowed: "allowed by the operator",
}

/// The weights in the order of [`Signal::ALL`].
static TABLE: LazyLock<[i32; Signal::ALL.len()]> =
    LazyLock::new(|| read_weights(WEIGHTS).expect("weights.csv is whole, as a test shows"));

/// Reads a table of weights. `None` where a fact is missing or a line is none.
fn read_weights(csv: &str) -> Option<[i32; Signal::ALL.len()]> {
    let mut weights = [None; Signal::ALL.len()];
    for line in csv.lines().skip(1) {
        let (name, weight) = line.split_once(',')?;
        let fact = Signal::ALL.into_iter().find(|fact| fact.name() == name)?;
        *weights.get_mut(fact as usize)? = Some(weight.trim().parse().ok()?);
    }
    let whole: Option<Vec<i32>> = weights.into_iter().collect();
    whole?.try_into().ok()
}

impl Signal {
    /// How much the fact weighs: positive speaks for a tracker. In tenths of what is needed for a verdict.
    pub fn weight(self) -> i32 {
        TABLE.get(self as usize).copied().unwrap_or_default()
    }
}

/// The sum from which on a load is a tracker.
pub const THRESHOLD: i32 = 10;

/// Facts that say for themselves that readers are told apart.
const IDENTIFYING: [Signal; 3] = [Signal::RecipientInUrl, Signal::PersonalPicture, Signal::Learnt];

/// A set of facts.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Signals(u64);

impl Signals {
    /// Adds a fact.
    pub fn add(&mut self, fact: Signal) {
        self.0 |= 1 << fact as u8;
    }

    /// Adds a fact where `holds`.
    pub fn add_if(&mut self, fact: Signal, holds: bool) {
        if holds {
            self.add(fact);
        }
    }

    /// Takes facts back.
    pub fn remove(&mut self, facts: &[Signal]) {
        for fact in facts {
            self.0 &= !(1 << *fact as u8);
        }
    }

    /// Whether a fact was found.
    pub fn has(self, fact: Signal) -> bool {
        self.0 & 1 << fact as u8 != 0
    }

    /// The facts, those for a tracker first.
    pub fn iter(self) -> impl Iterator<Item = Signal> {
        Signal::ALL.into_iter().filter(move |fact| self.has(*fact))
    }

    /// The sum of the weights.
    pub fn score(self) -> i32 {
        let mut left = self.0;
        let mut sum = 0;
        while left != 0 {
            sum += TABLE.get(left.trailing_zeros() as usize).copied().unwrap_or_default();
            left &= left - 1;
        }
        sum
    }

    /// What the facts amount to.
    pub fn verdict(self) -> Verdict {
        if self.score() >= THRESHOLD {
            Verdict::Tracker
        } else if !self.has(Signal::Allowed)
            && !self.has(Signal::Choice)
            && IDENTIFYING.iter().any(|fact| self.has(*fact))
        {
            Verdict::Personal
        } else {
            Verdict::Picture
        }
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl fmt::Display for Signals {
    /// `address of a known open report +14, one or two pixels +5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fact) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{} {:+}", fact.text(), fact.weight())?;
        }
        Ok(())
    }
}

/// What a load is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It reports the opening, or of a link: that it was followed.
    Tracker,
    /// It is there to be seen, and yet tells readers apart.
    Personal,
    /// It shows something, or nothing speaks against it.
    Picture,
}

impl Verdict {
    /// The name used in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Tracker => "tracker",
            Verdict::Personal => "personal",
            Verdict::Picture => "picture",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_distinct_bits() {
        let mut signals = Signals::default();
        for fact in Signal::ALL {
            assert!(!signals.has(fact));
            signals.add(fact);
        }
        assert_eq!(signals.iter().count(), Signal::ALL.len());
    }

    #[test]
    fn every_fact_has_a_weight() {
        assert!(read_weights(WEIGHTS).is_some());
        assert_eq!(read_weights("fact,weight\nVendorOpen,14\n"), None);
        assert!(Signal::VendorOpen.weight() >= THRESHOLD);
    }

    #[test]
    fn nothing_around_a_plain_picture_makes_it_a_tracker() {
        // `PlainPicture` rests on this.
        let around = [Signal::Hidden, Signal::HiddenAncestor, Signal::OutsideBody, Signal::StaticFile];
        for drawn in [
            &[Signal::Zero, Signal::ShowsNothing][..],
            &[Signal::Tiny],
            &[Signal::NoSize, Signal::ShowsNothing],
            &[Signal::NoSize, Signal::Undescribed, Signal::Last],
        ] {
            let mut signals = Signals::default();
            around.iter().chain(drawn).for_each(|signal| signals.add(*signal));
            assert_eq!(signals.verdict(), Verdict::Picture, "{signals}");
        }
    }

    #[test]
    fn size_alone_never_decides() {
        for fact in
            [Signal::Zero, Signal::Tiny, Signal::Line, Signal::Hidden, Signal::NoSize, Signal::OutsideBody]
        {
            let mut signals = Signals::default();
            signals.add(fact);
            signals.add(Signal::HiddenAncestor);
            assert_eq!(signals.verdict(), Verdict::Picture, "{signals}");
        }
    }
}
