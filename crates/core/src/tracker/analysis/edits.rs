//! The edits that take out what was found, of the text that each stands in and of the message.

use std::borrow::Cow;
use std::ops::Range;

use super::{Analysis, Layer, Position, Sighting};
use crate::message::Text;
use crate::message::transfer::{Edit, Filler, normalise};
use crate::tracker::part::Placed;
use crate::tracker::scan::{Place, Removal};
use crate::tracker::signal::Signal;
use crate::tracker::style::Size;

/// The smallest change that stops the load and keeps the layout: an element that takes no space goes as a
/// whole, of one that does only what loads.
pub(super) fn edit_of(text: &[u8], place: &Place<'_>) -> Option<Edit> {
    let edit = match &place.removal {
        Removal::Element { element, attribute } => match place.size {
            Size::Tiny | Size::Dot | Size::Line | Size::Visible if !place.signals.has(Signal::Hidden) => {
                Edit::cut_inside(attribute.clone())
            }
            _ => cut_element(text, element.clone()),
        },
        Removal::ElementInComment { element, attribute } => match place.size {
            Size::Tiny | Size::Dot | Size::Line | Size::Visible if !place.signals.has(Signal::Hidden) => {
                Edit::cut_inside(attribute.clone())
            }
            _ => Edit::replace(element.clone(), *b" "),
        },
        Removal::Attribute(range) => Edit::cut_inside(range.clone()),
        Removal::Candidate { value, candidate } => cut_candidate(text, value, candidate),
        Removal::Value { range, with } => Edit::replace(range.clone(), with.as_bytes()),
        Removal::CssValue(range) => Edit::replace(range.clone(), *b"none"),
        Removal::CssRule(range) | Removal::Field(range) => Edit::cut_inside(range.clone()),
        Removal::Nothing => return None,
    };
    Some(edit)
}

/// Cuts one candidate out of a `srcset`, with the comma that parts it from its neighbour.
fn cut_candidate(text: &[u8], value: &Range<usize>, candidate: &Range<usize>) -> Edit {
    let behind = text.get(candidate.end..value.end).unwrap_or_default();
    let before = text.get(value.start..candidate.start).unwrap_or_default();
    if behind.first() == Some(&b',') {
        Edit::cut_inside(candidate.start..candidate.end + 1)
    } else if before.last() == Some(&b',') {
        Edit::cut_inside(candidate.start - 1..candidate.end)
    } else {
        Edit::cut_inside(candidate.clone())
    }
}

/// Cuts an element so that what stands before it and what stands behind it do not become markup or a
/// character reference together: then an empty comment stays between them.
fn cut_element(text: &[u8], element: Range<usize>) -> Edit {
    let before = text.get(..element.start).unwrap_or_default();
    let joins_tag = matches!(before, [.., b'<'] | [.., b'<', b'/' | b'!' | b'?']);
    let word = before
        .iter()
        .rev()
        .take(32)
        .take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'#')
        .count();
    let joins_reference = before.len() > word && before.get(before.len() - word - 1) == Some(&b'&');
    let mut edit = Edit::cut(element);
    if joins_tag || joins_reference {
        edit.with.extend_from_slice(b"<!---->");
    }
    edit
}

impl Analysis<'_> {
    /// Edits of the message: of each sighting that may be edited, the one that `chosen` says, and those of
    /// `more`. Sorted, not overlapping.
    pub fn edits<'e>(
        &'e self,
        more: &'e [Placed],
        mut chosen: impl FnMut(&'e Sighting) -> Option<Cow<'e, Edit>>,
    ) -> Vec<Edit> {
        let free = self.sightings.iter().filter(|sighting| sighting.protection.is_none());
        let of_sightings = free.filter_map(|sighting| Some((sighting.place, chosen(sighting)?)));
        let quoted: Vec<Position> =
            more.iter().filter(|placed| placed.is_quoted).map(|placed| placed.position).collect();
        let more = more.iter().map(|placed| (placed.position, Cow::Borrowed(&placed.edit)));
        self.in_message(of_sightings.chain(more).collect(), &quoted)
    }

    /// Edits that take out every load and leave `mark` in the place of each element that went. For showing a
    /// message to somebody, never for sending it.
    pub fn marked(&self, mark: impl Fn(&Sighting) -> String) -> Vec<Edit> {
        let marked = self.sightings.iter().filter_map(|sighting| {
            let mut edit = sighting.edit.clone()?;
            if edit.filler == Filler::Comment {
                edit.with.extend_from_slice(mark(sighting).as_bytes());
            }
            Some((sighting.place, Cow::Owned(edit)))
        });
        self.in_message(marked.collect(), &[])
    }

    /// Edits of the message, from edits of its texts. Those in `quoted` become quoted-printable.
    fn in_message(&self, mut wanted: Vec<(Position, Cow<'_, Edit>)>, quoted: &[Position]) -> Vec<Edit> {
        // Inner layers come behind the ones they stand in: from the last one outwards, each becomes edits of
        // its parent.
        for number in (0..self.layers.len()).rev() {
            let Some(layer) = self.layers.get(number) else { continue };
            let in_layer = if number == 0 {
                std::mem::take(&mut wanted)
            } else {
                wanted.extract_if(.., |(place, _)| place.layer == number).collect()
            };
            let edits =
                layer.edits(in_layer, |leaf| quoted.contains(&Position { layer: number, leaf: Some(leaf) }));
            match layer.parent {
                None => return edits,
                Some((parent, leaf)) => {
                    let place = Position { layer: parent, leaf: Some(leaf) };
                    wanted.extend(edits.into_iter().map(|edit| (place, Cow::Owned(edit))));
                }
            }
        }
        Vec::new()
    }
}

impl Layer<'_> {
    /// Edits of the bytes of this layer, from edits of its texts.
    fn edits(&self, wanted: Vec<(Position, Cow<'_, Edit>)>, is_quoted: impl Fn(usize) -> bool) -> Vec<Edit> {
        let mut edits = Vec::new();
        let mut of_leaves: Vec<(usize, Vec<Cow<'_, Edit>>)> = Vec::new();
        for (place, edit) in wanted {
            match place.leaf {
                None => edits.push(edit.into_owned()),
                Some(leaf) => match of_leaves.iter_mut().find(|(known, _)| *known == leaf) {
                    Some((_, found)) => found.push(edit),
                    None => of_leaves.push((leaf, vec![edit])),
                },
            }
        }
        for (index, found) in of_leaves {
            let known = self.texts.iter().find(|(leaf, _)| *leaf == index).map(|(_, text)| text);
            let leaf = self.structure.leaves.get(index);
            let Some(text) = known
                .map(Cow::Borrowed)
                .or_else(|| leaf.map(|leaf| Cow::Owned(Text::new(&self.bytes, leaf))))
            else {
                continue;
            };
            let form =
                self.trails.iter().find(|(leaf, _)| *leaf == index).and_then(|(_, walked)| walked.form());
            edits.extend(match form {
                _ if is_quoted(index) => text.to_quoted(owned(found)),
                Some(form) => text.placed(form.to_body(found, |found| text.to_body(found))),
                None => text.to_raw(owned(found)),
            });
        }
        normalise(edits)
    }
}

/// The same edits, each by itself.
pub(in crate::tracker) fn owned(edits: Vec<Cow<'_, Edit>>) -> Vec<Edit> {
    edits.into_iter().map(Cow::into_owned).collect()
}
