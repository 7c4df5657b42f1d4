//! The text of a leaf, readable as ASCII markup, with the way back to the raw bytes.

use std::ops::Range;

use super::charset::{Charset, Recoded};
use super::quoted::quoted;
use super::structure::Leaf;
use super::transfer::{Decoded, Edit, Transfer, normalise};

/// A decoded leaf.
#[derive(Clone, Debug)]
pub struct Text<'a> {
    raw: &'a [u8],
    offset: usize,
    decoded: Decoded<'a>,
    recoded: Option<Recoded>,
}

impl<'a> Text<'a> {
    /// Decodes a leaf of the message `raw`.
    pub fn new(raw: &'a [u8], leaf: &Leaf) -> Text<'a> {
        let body = raw.get(leaf.body.clone()).unwrap_or_default();
        let decoded = Decoded::new(body, leaf.transfer);
        let recoded = Recoded::new(&decoded.bytes, Charset::of(&leaf.charset, &decoded.bytes));
        Text { raw: body, offset: leaf.body.start, decoded, recoded }
    }

    /// The text.
    pub fn bytes(&self) -> &[u8] {
        match &self.recoded {
            Some(recoded) => &recoded.text,
            None => &self.decoded.bytes,
        }
    }

    /// The edits of the text that these edits of the message come to, all of which lie in its leaf. `None`
    /// where the text must be read anew.
    pub fn edits_of_text(&self, edits: &[Edit]) -> Option<Vec<Edit>> {
        if self.recoded.is_some() {
            return None;
        }
        self.decoded.edits_of_decoded(self.raw, self.offset, edits)
    }

    /// Edits of the message which have the effect of `edits` on the text.
    pub fn to_raw(&self, edits: Vec<Edit>) -> Vec<Edit> {
        self.placed(self.to_body(edits))
    }

    /// Edits of the body which have that effect.
    pub fn to_body(&self, edits: Vec<Edit>) -> Vec<Edit> {
        let edits = normalise(edits);
        let edits = match &self.recoded {
            Some(recoded) => recoded.to_bytes(edits),
            None => edits,
        };
        self.decoded.to_raw(self.raw, edits)
    }

    /// The same, where the text stands in the message as it is and becomes quoted-printable, as its header is to
    /// say by [`labelled`](super::labelled).
    pub fn to_quoted(&self, edits: Vec<Edit>) -> Vec<Edit> {
        self.placed(quoted(self.raw, &normalise(edits)))
    }

    /// Whether ASCII characters are ASCII bytes in it.
    pub fn is_ascii_compatible(&self) -> bool {
        self.recoded.is_none()
    }

    /// The same, for whoever keeps it.
    pub fn kept(&self) -> Original {
        match (&self.recoded, self.decoded.transfer()) {
            (None, Transfer::QuotedPrintable) => {
                Original::Encoded { raw: self.raw.to_vec(), decoded: self.decoded.kept(self.raw.len()) }
            }
            _ => Original::Plain(self.bytes().to_vec()),
        }
    }

    /// Edits of the body as edits of the message.
    pub fn placed(&self, mut edits: Vec<Edit>) -> Vec<Edit> {
        for edit in &mut edits {
            edit.range = edit.range.start + self.offset..edit.range.end + self.offset;
        }
        edits
    }
}

/// A text that is kept for copies of it.
#[derive(Debug)]
pub enum Original {
    /// One that is read by itself.
    Plain(Vec<u8>),
    /// One with the quoted-printable that it was decoded from.
    Encoded {
        /// The body.
        raw: Vec<u8>,
        /// What it is decoded to.
        decoded: Decoded<'static>,
    },
}

impl Original {
    /// The text.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Original::Plain(text) => text,
            Original::Encoded { decoded, .. } => &decoded.bytes,
        }
    }

    /// About the most bytes that it takes.
    pub fn size(&self) -> usize {
        match self {
            Original::Plain(text) => text.len(),
            // As much again may be noted of edits.
            Original::Encoded { raw, decoded } => 2 * raw.len() + decoded.size(),
        }
    }

    /// What the text was decoded from; `None` where it is read by itself.
    pub fn raw(&self) -> Option<&[u8]> {
        match self {
            Original::Plain(_) => None,
            Original::Encoded { raw, .. } => Some(raw),
        }
    }

    /// What a body, or its text, is compared with: what the text was decoded from, where that is at hand.
    pub fn compared(&self) -> &[u8] {
        self.raw().unwrap_or_else(|| self.bytes())
    }

    /// Where `range` of the text stands in [`Original::compared`], in bytes in whose places others may stand that are
    /// letters, digits, hyphens and underscores. `None` where it is written otherwise.
    pub fn free_runs(&self, range: &Range<usize>) -> Option<Vec<Range<usize>>> {
        match self {
            Original::Plain(_) => Some(vec![range.clone()]),
            Original::Encoded { raw, decoded } => decoded.free_runs(raw, range),
        }
    }

    /// The text of a leaf whose body differs from what this text was decoded from in free bytes alone, and decodes to
    /// `text`. `None` where it is read in another way.
    pub fn filled<'a>(&self, raw: &'a [u8], leaf: &Leaf, text: Vec<u8>) -> Option<Text<'a>> {
        let Original::Encoded { decoded, .. } = self else { return None };
        let is_read_alike = leaf.transfer == decoded.transfer()
            && Charset::of(&leaf.charset, &text) == Charset::AsciiCompatible;
        let decoded = decoded.filled(text);
        let raw = raw.get(leaf.body.clone())?;
        is_read_alike.then_some(Text { raw, offset: leaf.body.start, decoded, recoded: None })
    }

    /// The text of a leaf of the message `raw` whose body differs in these changes from what this text was decoded
    /// from, and what the changes come to in the text. `None` where all of it must be decoded: where more than a few
    /// lines differ in more than bytes that stand for themselves.
    pub fn copy<'a>(&self, raw: &'a [u8], leaf: &Leaf, changes: Vec<Edit>) -> Option<(Text<'a>, Vec<Edit>)> {
        let Original::Encoded { raw: known, decoded } = self else { return None };
        if leaf.transfer != decoded.transfer() {
            return None;
        }
        let body = raw.get(leaf.body.clone())?;
        let (decoded, changes) = decoded.copy(known, body, changes)?;
        let is_read_as_it_is = Charset::of(&leaf.charset, &decoded.bytes) == Charset::AsciiCompatible;
        let text = Text { raw: body, offset: leaf.body.start, decoded, recoded: None };
        is_read_as_it_is.then_some((text, changes))
    }
}
