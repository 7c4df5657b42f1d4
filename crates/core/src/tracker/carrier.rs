//! Where a reader's mail client loads from.

use std::fmt;

/// The kind of place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Carrier {
    /// `src` (and `lowsrc`, `dynsrc`) of `img`, and of `image`, which browsers read as `img`.
    Img,
    /// A candidate of `srcset`.
    Srcset,
    /// `src` of `input type=image`.
    Input,
    /// A `background` attribute.
    Background,
    /// `url()` in a style attribute.
    StyleAttribute,
    /// `url()` or `@import` in a style sheet.
    StyleSheet,
    /// `link`: style sheet, preload, prefetch, icon.
    Link,
    /// `video`, `audio`, `source`, `track`, `bgsound`, `poster`.
    Media,
    /// `iframe`, `frame`, `embed`, `object`.
    Embedded,
    /// `image`, `use`, `feImage` of SVG.
    Svg,
    /// VML of Outlook's conditional comments.
    Vml,
    /// AMP elements.
    Amp,
    /// `meta http-equiv=refresh`.
    Refresh,
    /// A property of an invitation.
    Calendar,
    /// Attributes that few clients load.
    Rare,
    /// The target of a link.
    Anchor,
    /// A text part that cannot be read.
    UnreadablePart,
    /// A header field that names a picture of the sender.
    PictureHeader,
    /// A header field that asks for a receipt.
    ReceiptHeader,
}

impl Carrier {
    /// The name used in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Carrier::Img => "img",
            Carrier::Srcset => "srcset",
            Carrier::Input => "input",
            Carrier::Background => "background",
            Carrier::StyleAttribute => "style-attribute",
            Carrier::StyleSheet => "style-sheet",
            Carrier::Link => "link",
            Carrier::Media => "media",
            Carrier::Embedded => "embedded",
            Carrier::Svg => "svg",
            Carrier::Vml => "vml",
            Carrier::Amp => "amp",
            Carrier::Refresh => "refresh",
            Carrier::Calendar => "calendar",
            Carrier::Rare => "rare-attribute",
            Carrier::Anchor => "link-target",
            Carrier::UnreadablePart => "unreadable-part",
            Carrier::PictureHeader => "picture-header",
            Carrier::ReceiptHeader => "receipt-header",
        }
    }

    /// The axis on which a sighting in this place lies.
    pub const fn axis(self) -> Axis {
        match self {
            Carrier::ReceiptHeader => Axis::Receipt,
            Carrier::Anchor => Axis::Link,
            _ => Axis::Open,
        }
    }

    /// What `attribute` of `element` loads, both as written.
    #[inline]
    pub fn of(element: &[u8], attribute: &[u8]) -> Option<Carrier> {
        let is = |name: &str| element.eq_ignore_ascii_case(name.as_bytes());
        let has = |name: &str| attribute.eq_ignore_ascii_case(name.as_bytes());
        match attribute.len() {
            3 if has("src") => Carrier::of_source(element),
            4 if has("data") && is("object") => Some(Carrier::Embedded),
            4 if has("href") && (is("use") || is("image") || is("feimage") || is("script")) => {
                Some(Carrier::Svg)
            }
            6 if has("poster") => Some(Carrier::Media),
            6 if (has("lowsrc") || has("dynsrc")) && (is("img") || is("image") || is("input")) => {
                Some(Carrier::Img)
            }
            6 if has("srcset") => Some(Carrier::Srcset),
            10 if has("background") => Some(Carrier::Background),
            10 if has("xlink:href") && !is("a") => Some(Carrier::Svg),
            11 if has("imagesrcset") => Some(Carrier::Srcset),
            _ => None,
        }
    }

    fn of_source(element: &[u8]) -> Option<Carrier> {
        let is = |name: &str| element.eq_ignore_ascii_case(name.as_bytes());
        match element.len() {
            3 if is("img") => Some(Carrier::Img),
            5 if is("image") => Some(Carrier::Img),
            5 if is("input") => Some(Carrier::Input),
            5 if is("video") || is("audio") || is("track") => Some(Carrier::Media),
            5 if is("embed") || is("frame") => Some(Carrier::Embedded),
            6 if is("source") => Some(Carrier::Media),
            6 if is("iframe") || is("script") => Some(Carrier::Embedded),
            7 if is("bgsound") => Some(Carrier::Media),
            _ if element.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"amp-")) => {
                Some(Carrier::Amp)
            }
            // Elements of Outlook: `v:fill`, `v:imagedata`.
            _ if element.contains(&b':') => Some(Carrier::Vml),
            _ => None,
        }
    }
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is reported back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Axis {
    /// That the message was opened.
    Open,
    /// That a link was followed (N3).
    Link,
    /// A receipt that the reader's mail program sends.
    Receipt,
}

impl Axis {
    /// The name used in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Axis::Open => "open",
            Axis::Link => "link",
            Axis::Receipt => "receipt",
        }
    }
}
