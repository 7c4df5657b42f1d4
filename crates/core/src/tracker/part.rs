//! The texts of a message that its reader sees, for putting something into them.

use std::borrow::Cow;

use super::analysis::{Analysis, Position};
use crate::message::{Content, Edit, Label, Leaf, Text, labelled};

/// A text of the message itself, not of one within it, that may be edited.
#[derive(Debug)]
pub struct Part<'s> {
    /// What the structure says of it.
    pub leaf: &'s Leaf,
    text: Cow<'s, Text<'s>>,
    position: Position,
    /// The message.
    raw: &'s [u8],
}

/// An edit with the text that it belongs to.
#[derive(Clone, Debug)]
pub struct Placed {
    pub(super) position: Position,
    pub(super) edit: Edit,
    /// Whether the text becomes quoted-printable with it.
    pub(super) is_quoted: bool,
}

impl Part<'_> {
    /// The text, readable as ASCII markup.
    pub fn bytes(&self) -> &[u8] {
        self.text.bytes()
    }

    /// An edit of this text.
    pub fn placed(&self, edit: Edit) -> Placed {
        Placed { position: self.position, edit, is_quoted: false }
    }

    /// The same edit where the text has to have another label for it, with those that its header needs. `None`
    /// where it cannot get the label.
    pub fn placed_with(&self, edit: Edit, label: Label<'_>) -> Option<Vec<Placed>> {
        let own = Position { leaf: None, ..self.position };
        let header = labelled(self.raw, self.leaf.number, label)?.into_iter();
        let header = header.map(|edit| Placed { position: own, edit, is_quoted: false });
        let text = Placed { position: self.position, edit, is_quoted: label.is_quoted };
        Some(header.chain([text]).collect())
    }

    /// Whether ASCII characters are ASCII bytes in it.
    pub fn is_ascii_compatible(&self) -> bool {
        self.text.is_ascii_compatible()
    }
}

impl Analysis<'_> {
    /// The texts that may be edited, in the order of the message.
    pub fn parts(&self) -> Vec<Part<'_>> {
        let Some(layer) = self.layers.first() else { return Vec::new() };
        let leaves = layer.structure.leaves.iter().enumerate();
        let texts = leaves.filter(|(_, leaf)| {
            matches!(leaf.content, Content::Html | Content::Text) && leaf.protection.is_none()
        });
        let part = |(index, leaf)| {
            let known = layer.texts.iter().find(|(text, _)| *text == index);
            let text = match known {
                Some((_, text)) => Cow::Borrowed(text),
                None => Cow::Owned(Text::new(&layer.bytes, leaf)),
            };
            Part { leaf, text, position: Position { layer: 0, leaf: Some(index) }, raw: &layer.bytes }
        };
        texts.map(part).collect()
    }
}
