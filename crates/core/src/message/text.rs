//! The text of a leaf, readable as ASCII markup, with the way back to the raw bytes.

use super::charset::{Charset, Recoded};
use super::quoted::quoted;
use super::structure::Leaf;
use super::transfer::{Decoded, Edit, normalise};

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
        let edits = normalise(edits);
        let edits = match &self.recoded {
            Some(recoded) => recoded.to_bytes(edits),
            None => edits,
        };
        self.placed(self.decoded.to_raw(self.raw, edits))
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

    /// Edits of the body as edits of the message.
    fn placed(&self, mut edits: Vec<Edit>) -> Vec<Edit> {
        for edit in &mut edits {
            edit.range = edit.range.start + self.offset..edit.range.end + self.offset;
        }
        edits
    }
}
