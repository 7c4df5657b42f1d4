//! Character sets in which markup is not plain ASCII bytes.
//!
//! Most charsets of mail are supersets of ASCII as far as `<`, `>`, `"` and `=` go, and are scanned as they are. UTF-16 and
//! ISO-2022-JP are not: they are turned into text in which every ASCII character stands for itself and every other one
//! is U+FFFD, with a way back to the bytes. Nothing that is looked for lies outside of ASCII.

use super::transfer::Edit;

/// How the markup of a text is written in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charset {
    /// ASCII bytes are ASCII characters.
    AsciiCompatible,
    /// UTF-16, low byte first.
    Utf16Le,
    /// UTF-16, high byte first.
    Utf16Be,
    /// ISO-2022-JP and its relatives: escape sequences switch to two-byte characters (RFC 1468).
    Iso2022,
}

impl Charset {
    /// The charset of a text labelled `label` (empty for none). A byte order mark wins over the label, as in mail clients.
    pub fn of(label: &str, bytes: &[u8]) -> Charset {
        match bytes.get(..2) {
            Some([0xff, 0xfe]) => return Charset::Utf16Le,
            Some([0xfe, 0xff]) => return Charset::Utf16Be,
            _ => {}
        }
        let label = label.trim().to_ascii_lowercase();
        match label.as_str() {
            "utf-16le" => Charset::Utf16Le,
            "utf-16be" => Charset::Utf16Be,
            "utf-16" | "utf16" | "ucs-2" | "iso-10646-ucs-2" | "unicode" | "csunicode" => guess_utf16(bytes),
            _ if label.starts_with("iso-2022-") || label == "csiso2022jp" => Charset::Iso2022,
            _ => Charset::AsciiCompatible,
        }
    }
}

/// Which byte of each pair is zero, in a text that is mostly ASCII.
fn guess_utf16(bytes: &[u8]) -> Charset {
    let zeros =
        |offset: usize| bytes.iter().skip(offset).step_by(2).take(200).filter(|byte| **byte == 0).count();
    if zeros(0) > zeros(1) { Charset::Utf16Be } else { Charset::Utf16Le }
}

/// A text in ASCII and U+FFFD, and where its characters stand in the bytes it was made from.
#[derive(Clone, Debug)]
pub struct Recoded {
    /// The text.
    pub text: Vec<u8>,
    charset: Charset,
    /// For each character: offset in the text, start and end in the bytes.
    characters: Vec<(usize, usize, usize)>,
}

const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

impl Recoded {
    /// The text of `bytes`, or nothing where they can be scanned as they are.
    pub fn new(bytes: &[u8], charset: Charset) -> Option<Recoded> {
        let mut recoded = Recoded { text: Vec::new(), charset, characters: Vec::new() };
        match charset {
            Charset::AsciiCompatible => return None,
            Charset::Utf16Le => recoded.read_utf16(bytes, |[low, high]| (low, high)),
            Charset::Utf16Be => recoded.read_utf16(bytes, |[high, low]| (low, high)),
            Charset::Iso2022 => recoded.read_iso_2022(bytes),
        }
        Some(recoded)
    }

    fn push(&mut self, character: Option<u8>, start: usize, end: usize) {
        self.characters.push((self.text.len(), start, end));
        match character {
            Some(byte) => self.text.push(byte),
            None => self.text.extend_from_slice(REPLACEMENT),
        }
    }

    fn read_utf16(&mut self, bytes: &[u8], order: impl Fn([u8; 2]) -> (u8, u8)) {
        for (at, pair) in bytes.chunks_exact(2).enumerate() {
            let [first, second] = pair else { continue };
            let character = match order([*first, *second]) {
                (low @ 0..=0x7f, 0) => Some(low),
                _ => None,
            };
            self.push(character, 2 * at, 2 * at + 2);
        }
    }

    fn read_iso_2022(&mut self, bytes: &[u8]) {
        let mut at = 0;
        let mut wide = Width::One;
        while let Some(&byte) = bytes.get(at) {
            match (byte, wide) {
                (0x1b, _) => {
                    let (length, next) = escape(bytes.get(at..).unwrap_or_default());
                    wide = next;
                    at += length;
                }
                // A line end returns to ASCII (RFC 1468).
                (b'\r' | b'\n', _) => {
                    wide = Width::One;
                    self.push(Some(byte), at, at + 1);
                    at += 1;
                }
                (_, Width::Two) => {
                    let end = (at + 2).min(bytes.len());
                    self.push(None, at, end);
                    at = end;
                }
                (_, Width::One) => {
                    self.push(byte.is_ascii().then_some(byte), at, at + 1);
                    at += 1;
                }
            }
        }
    }

    /// Edits of the bytes which have the effect of `edits` on the text.
    pub fn to_bytes(&self, edits: Vec<Edit>) -> Vec<Edit> {
        edits
            .into_iter()
            .map(|edit| {
                let start = self.start_of(edit.range.start);
                let end = if edit.range.is_empty() { start } else { self.end_of(edit.range.end) };
                Edit {
                    range: start..end.max(start),
                    with: self.write(&edit.with),
                    filler: super::transfer::Filler::Nothing,
                }
            })
            .collect()
    }

    fn start_of(&self, at: usize) -> usize {
        let index = self.characters.partition_point(|(text, ..)| *text < at);
        match self.characters.get(index) {
            Some((_, start, _)) => *start,
            None => self.characters.last().map_or(0, |(_, _, end)| *end),
        }
    }

    fn end_of(&self, at: usize) -> usize {
        let index = self.characters.partition_point(|(text, ..)| *text < at);
        self.characters.get(index.wrapping_sub(1)).map_or(0, |(_, _, end)| *end)
    }

    fn write(&self, text: &[u8]) -> Vec<u8> {
        match self.charset {
            Charset::Utf16Le => text.iter().flat_map(|byte| [*byte, 0]).collect(),
            Charset::Utf16Be => text.iter().flat_map(|byte| [0, *byte]).collect(),
            Charset::AsciiCompatible | Charset::Iso2022 => text.to_vec(),
        }
    }
}

#[derive(Clone, Copy)]
enum Width {
    One,
    Two,
}

/// Length of an escape sequence, and the width of the characters behind it (ISO 2022: `ESC $ …` is multi-byte).
fn escape(bytes: &[u8]) -> (usize, Width) {
    match bytes {
        [0x1b, b'$', b'(' | b')' | b'*' | b'+', _, ..] => (4, Width::Two),
        [0x1b, b'$', _, ..] => (3, Width::Two),
        [0x1b, b'(' | b')' | b'.' | b'*' | b'+', _, ..] => (3, Width::One),
        _ => (1, Width::One),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::transfer::apply;

    fn check(charset: Charset, bytes: &[u8], cut: &str) -> Vec<u8> {
        let recoded = Recoded::new(bytes, charset).unwrap();
        let at = memchr::memmem::find(&recoded.text, cut.as_bytes()).expect("the text holds it");
        apply(bytes, &recoded.to_bytes(vec![Edit::cut(at..at + cut.len())]))
    }

    #[test]
    fn a_cut_in_utf_16_leaves_the_other_characters() {
        let text = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        assert_eq!(
            check(Charset::Utf16Le, &text("\u{feff}<p>\u{e9}\u{1f600}</p><img src=x>b"), "<img src=x>"),
            text("\u{feff}<p>\u{e9}\u{1f600}</p>b")
        );
    }

    #[test]
    fn two_byte_characters_are_not_markup() {
        // The two-byte characters hold the bytes of "<" and ">".
        let bytes = b"a\x1b$B<>\x1b(B<img>\x1b$B><\x1b(Bb";
        assert_eq!(check(Charset::Iso2022, bytes, "<img>"), b"a\x1b$B<>\x1b(B\x1b$B><\x1b(Bb");
    }

    #[test]
    fn a_byte_order_mark_wins_over_the_label() {
        assert_eq!(Charset::of("utf-8", b"\xff\xfe<\0"), Charset::Utf16Le);
        assert_eq!(Charset::of("UTF-16", b"\0<\0p\0>"), Charset::Utf16Be);
        assert_eq!(Charset::of("x-unknown", b"<p>"), Charset::AsciiCompatible);
    }
}
