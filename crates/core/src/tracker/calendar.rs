//! Invitations (RFC 5545) and visiting cards (RFC 6350): properties that load something, and HTML within
//! them.

use std::ops::Range;

use super::carrier::Carrier;
use super::scan::{Extent, Found, Links, Place, Removal, places};
use super::signal::{Signal, Signals};
use super::style::Size;
use super::url::Url;
use crate::message::Edit;

/// The most properties of one invitation that are looked at.
const MAX_PROPERTIES: usize = 100_000;

/// A property that may load something.
#[derive(Debug)]
pub struct Piece {
    /// The property with its folded lines and its line end.
    property: Range<usize>,
    kind: Property,
    /// The value, unfolded and with its escapes decoded.
    text: Vec<u8>,
    /// Where each byte of it stands in the invitation.
    places: Vec<(usize, usize)>,
    /// The line end in use.
    line_end: &'static [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Property {
    /// `X-ALT-DESC` and its like.
    Html,
    /// A picture or sound that is loaded to be shown or played.
    Shown,
    /// Something to be opened.
    Attached,
}

/// The properties of an invitation that may load something.
pub fn pieces(text: &[u8]) -> Vec<Piece> {
    let line_end: &'static [u8] = if memchr::memmem::find(text, b"\r\n").is_some() { b"\r\n" } else { b"\n" };
    let mut found = Vec::new();
    let mut start = 0;
    for _ in 0..MAX_PROPERTIES {
        let Some(rest) = text.get(start..).filter(|rest| !rest.is_empty()) else { break };
        let mut end = start + line(rest);
        while matches!(text.get(end), Some(b' ' | b'\t')) {
            end += line(text.get(end..).unwrap_or_default());
        }
        found.extend(piece(text, start..end, line_end));
        start = end;
    }
    found
}

/// The length of the first line, its end included.
fn line(text: &[u8]) -> usize {
    memchr::memchr(b'\n', text).map_or(text.len(), |end| end + 1)
}

fn piece(text: &[u8], property: Range<usize>, line_end: &'static [u8]) -> Option<Piece> {
    const NAMES: [&str; 7] =
        ["ATTACH", "IMAGE", "X-ALT-DESC", "STYLED-DESCRIPTION", "PHOTO", "LOGO", "SOUND"];
    let raw = text.get(property.clone())?;
    let name = raw.split(|byte| matches!(byte, b';' | b':' | b'\r' | b'\n')).next().unwrap_or_default();
    // A visiting card can put properties into groups: `item1.PHOTO`.
    let name = memchr::memrchr(b'.', name).and_then(|dot| name.get(dot + 1..)).unwrap_or(name);
    let name = NAMES.iter().find(|known| name.eq_ignore_ascii_case(known.as_bytes()))?;
    let (unfolded, places) = unfolded(raw, property.start);
    let colon = value_start(&unfolded)?;
    let parameters = String::from_utf8_lossy(unfolded.get(..colon)?).to_ascii_lowercase();
    let kind = match *name {
        "X-ALT-DESC" | "STYLED-DESCRIPTION" => Property::Html,
        "IMAGE" => Property::Shown,
        _ if parameters.contains("fmttype=image") || parameters.contains("fmttype=audio") => Property::Shown,
        _ => Property::Attached,
    };
    let (value, value_places) = (unfolded.get(colon + 1..)?, places.get(colon + 1..)?);
    let (text, places) = match kind {
        Property::Html => unescaped(value, value_places),
        Property::Shown | Property::Attached => (value.to_vec(), value_places.to_vec()),
    };
    Some(Piece { property, kind, text, places, line_end })
}

/// The property without its folds (RFC 5545 section 3.1) and its line end.
fn unfolded(raw: &[u8], offset: usize) -> (Vec<u8>, Vec<(usize, usize)>) {
    let (mut text, mut places) = (Vec::with_capacity(raw.len()), Vec::with_capacity(raw.len()));
    let mut at = 0;
    while let Some(&byte) = raw.get(at) {
        let fold = match (byte, raw.get(at + 1), raw.get(at + 2)) {
            (b'\r', Some(b'\n'), Some(b' ' | b'\t')) => 3,
            (b'\n', Some(b' ' | b'\t'), _) => 2,
            (b'\r', Some(b'\n'), None) | (b'\n', None, _) => break,
            _ => 0,
        };
        if fold == 0 {
            text.push(byte);
            places.push((offset + at, offset + at + 1));
        }
        at += fold.max(1);
    }
    (text, places)
}

/// The colon before the value: the first one outside of quotes.
fn value_start(text: &[u8]) -> Option<usize> {
    let mut quoted = false;
    text.iter().position(|byte| {
        quoted ^= *byte == b'"';
        *byte == b':' && !quoted
    })
}

/// A text value with its escapes decoded (RFC 5545 section 3.3.11).
fn unescaped(value: &[u8], from: &[(usize, usize)]) -> (Vec<u8>, Vec<(usize, usize)>) {
    let (mut text, mut places) = (Vec::with_capacity(value.len()), Vec::with_capacity(value.len()));
    let mut at = 0;
    while let (Some(&byte), Some(&(start, mut end))) = (value.get(at), from.get(at)) {
        let mut decoded = byte;
        at += 1;
        if byte == b'\\'
            && let (Some(&escaped), Some(&(_, behind))) = (value.get(at), from.get(at))
        {
            decoded = if matches!(escaped, b'n' | b'N') { b'\n' } else { escaped };
            end = behind;
            at += 1;
        }
        text.push(decoded);
        places.push((start, end));
    }
    (text, places)
}

impl Piece {
    /// The value.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// What the property loads. Ranges are those of [`Piece::text`], but for a property that goes as a whole.
    pub fn places(&self, extent: Extent) -> Found<'_> {
        if self.kind == Property::Html {
            return places(&self.text, None, extent, Links::Ignore);
        }
        let Some(url) = Url::read(String::from_utf8_lossy(&self.text), None) else { return Found::default() };
        let mut signals = Signals::default();
        // What is attached to be opened is not loaded before.
        signals.add_if(Signal::NoSize, self.kind == Property::Shown);
        let place = Place {
            carrier: Carrier::Calendar,
            url,
            range: self.property.clone(),
            written: None,
            removal: Removal::Field(self.property.clone()),
            size: Size::Unset,
            signals,
            picture: None,
            link: None,
        };
        Found { places: vec![place], ..Found::default() }
    }

    /// An edit of the invitation which has the effect of `edit` on the value.
    pub fn to_text(&self, edit: Edit) -> Edit {
        if self.kind != Property::Html {
            return edit;
        }
        let start_of = |at: usize| self.places.get(at).map_or(self.property.end, |(start, _)| *start);
        let start = start_of(edit.range.start);
        let last = edit.range.end.checked_sub(1).filter(|last| *last >= edit.range.start);
        let end = last.and_then(|last| self.places.get(last)).map_or(start, |(_, end)| *end);
        let mut with = escaped(&edit.with);
        // Lines that a cut joins could become longer than allowed: one fold stays.
        let folds = self.places.get(edit.range.clone()).is_some_and(|places| {
            places.windows(2).any(|pair| matches!(pair, [(_, end), (start, _)] if end != start))
        });
        if folds {
            with.extend_from_slice(self.line_end);
            with.push(b' ');
        }
        Edit { range: start..end, with, filler: edit.filler }
    }
}

fn escaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for byte in text {
        match byte {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => {}
            b'\\' | b';' | b',' => out.extend_from_slice(&[b'\\', *byte]),
            _ => out.push(*byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::transfer::apply;

    /// The values that are looked at, and the invitation without each `<img…>` in them.
    fn check(text: &str) -> (Vec<String>, String) {
        let pieces = pieces(text.as_bytes());
        let mut edits = Vec::new();
        for piece in &pieces {
            if let Some(start) = memchr::memmem::find(piece.text(), b"<img") {
                let end = start + memchr::memchr(b'>', &piece.text()[start..]).unwrap() + 1;
                edits.push(piece.to_text(Edit::cut(start..end)));
            }
        }
        let values = pieces.iter().map(|piece| String::from_utf8(piece.text().to_vec()).unwrap()).collect();
        (values, String::from_utf8(apply(text.as_bytes(), &edits)).unwrap())
    }

    #[test]
    fn html_in_a_folded_property_is_read_and_edited_in_place() {
        let (values, edited) = check(
            "BEGIN:VEVENT\r\nX-ALT-DESC;FMTTYPE=text/html:<p>a\\, b</p><i\r\n mg src=x>\\n<p>c\r\n \
             </p>\r\nEND:VEVENT\r\n",
        );
        assert_eq!(values, ["<p>a, b</p><img src=x>\n<p>c</p>"]);
        assert_eq!(
            edited,
            "BEGIN:VEVENT\r\nX-ALT-DESC;FMTTYPE=text/html:<p>a\\, b</p>\r\n \\n<p>c\r\n \
             </p>\r\nEND:VEVENT\r\n"
        );
    }

    #[test]
    fn addresses_are_found_behind_their_parameters() {
        let (values, _) = check(
            "IMAGE;VALUE=URI;X=\"a:b\":https://a.example/i.png\nATTACH:cid:x\nSUMMARY:IMAGE\nattach;fmttype=image/gif:\n https://a.example/o\n",
        );
        assert_eq!(values, ["https://a.example/i.png", "cid:x", "https://a.example/o"]);
    }
}
