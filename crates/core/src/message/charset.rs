//! Character sets in which markup is not plain ASCII bytes.
//!
//! Most charsets of mail are supersets of ASCII as far as `<`, `>`, `"` and `=` go, and are scanned as they
//! are. UTF-16, UTF-32, UTF-7, the ISO-2022 family and EBCDIC are not: they are turned into text in which
//! every ASCII character stands for itself and every other one is U+FFFD, with a way back to the bytes.
//! Nothing that is looked for lies outside of ASCII.

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
    /// UTF-32, low byte first.
    Utf32Le,
    /// UTF-32, high byte first.
    Utf32Be,
    /// UTF-7 (RFC 2152).
    Utf7,
    /// ISO-2022-JP and its relatives: escape sequences and shifts switch to two-byte characters (RFC 1468,
    /// RFC 1557).
    Iso2022,
    /// EBCDIC as in IBM's code page 37.
    Ebcdic037,
    /// EBCDIC as in IBM's code page 500.
    Ebcdic500,
}

impl Charset {
    /// The charset of a text labelled `label` (empty for none). A byte order mark wins over the label, as in
    /// mail clients.
    pub fn of(label: &str, bytes: &[u8]) -> Charset {
        match bytes.get(..4) {
            Some([0xff, 0xfe, 0, 0]) => return Charset::Utf32Le,
            Some([0, 0, 0xfe, 0xff]) => return Charset::Utf32Be,
            _ => {}
        }
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
            "utf-32" | "utf32" | "ucs-4" | "iso-10646-ucs-4" | "csucs4" => guess_utf32(bytes),
            "utf-32le" | "ucs-4le" => Charset::Utf32Le,
            "utf-32be" | "ucs-4be" => Charset::Utf32Be,
            "utf-7" | "utf7" | "unicode-1-1-utf-7" | "x-unicode-2-0-utf-7" | "csunicode11utf7" => {
                Charset::Utf7
            }
            "cp037" | "ibm037" | "ibm-037" | "037" | "ebcdic-cp-us" | "ebcdic-cp-ca" | "ebcdic-cp-wt"
            | "ebcdic-cp-nl" | "csibm037" | "cp1140" | "ibm01140" => Charset::Ebcdic037,
            "cp500" | "ibm500" | "ibm-500" | "500" | "ebcdic-cp-be" | "ebcdic-cp-ch" | "csibm500"
            | "cp1148" | "ibm01148" => Charset::Ebcdic500,
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

/// The same of each four bytes.
fn guess_utf32(bytes: &[u8]) -> Charset {
    if bytes.first() == Some(&0) { Charset::Utf32Be } else { Charset::Utf32Le }
}

/// A text in ASCII and U+FFFD, and where its characters stand in the bytes it was made from.
#[derive(Clone, Debug)]
pub struct Recoded {
    /// The text.
    pub text: Vec<u8>,
    charset: Charset,
    /// For each character: offset in the text, start and end in the bytes.
    characters: Vec<(usize, usize, usize)>,
    /// For UTF-7, what each character is: several of them can share their bytes.
    units: Vec<u16>,
}

const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

impl Recoded {
    /// The text of `bytes`, or nothing where they can be scanned as they are.
    pub fn new(bytes: &[u8], charset: Charset) -> Option<Recoded> {
        let mut recoded = Recoded { text: Vec::new(), charset, characters: Vec::new(), units: Vec::new() };
        match charset {
            Charset::AsciiCompatible => return None,
            Charset::Utf16Le => recoded.read_utf16(bytes, |[low, high]| (low, high)),
            Charset::Utf16Be => recoded.read_utf16(bytes, |[high, low]| (low, high)),
            Charset::Utf32Le => recoded.read_utf32(bytes, u32::from_le_bytes),
            Charset::Utf32Be => recoded.read_utf32(bytes, u32::from_be_bytes),
            Charset::Utf7 => recoded.read_utf7(bytes),
            Charset::Iso2022 => recoded.read_iso_2022(bytes),
            Charset::Ebcdic037 | Charset::Ebcdic500 => {
                for (at, byte) in bytes.iter().enumerate() {
                    let character = ascii_of_ebcdic(*byte, charset);
                    recoded.push(character, at, at + 1);
                }
            }
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

    fn read_utf32(&mut self, bytes: &[u8], order: impl Fn([u8; 4]) -> u32) {
        for (at, four) in bytes.chunks_exact(4).enumerate() {
            let Ok(four) = <[u8; 4]>::try_from(four) else { continue };
            let character = u8::try_from(order(four)).ok().filter(u8::is_ascii);
            self.push(character, 4 * at, 4 * at + 4);
        }
    }

    fn read_utf7(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            let rest = bytes.get(at + 1..).unwrap_or_default();
            if byte != b'+' {
                self.push_unit(u16::from(byte), at, at + 1);
                at += 1;
                continue;
            }
            let length = rest.iter().position(|byte| sixth(*byte).is_none()).unwrap_or(rest.len());
            let closes = usize::from(rest.get(length) == Some(&b'-'));
            let end = at + 1 + length + closes;
            if length == 0 {
                self.push_unit(u16::from(b'+'), at, end);
            }
            let (mut bits, mut count) = (0u32, 0);
            for value in rest.iter().take(length).filter_map(|byte| sixth(*byte)) {
                bits = bits << 6 | u32::from(value);
                count += 6;
                if count >= 16 {
                    count -= 16;
                    // The bits that were read, in the width of a unit.
                    let unit = u16::try_from(bits >> count & 0xffff).unwrap_or_default();
                    self.push_unit(unit, at, end);
                    bits &= (1 << count) - 1;
                }
            }
            at = end;
        }
    }

    fn push_unit(&mut self, unit: u16, start: usize, end: usize) {
        self.units.push(unit);
        self.push(u8::try_from(unit).ok().filter(u8::is_ascii), start, end);
    }

    fn read_iso_2022(&mut self, bytes: &[u8]) {
        let mut at = 0;
        let mut wide = Width::One;
        while let Some(&byte) = bytes.get(at) {
            match (byte, wide) {
                (0x1b, _) => {
                    let (length, next) = escape(bytes.get(at..).unwrap_or_default());
                    wide = next.unwrap_or(wide);
                    at += length;
                }
                // Shift out, to the characters that an escape sequence has named, and in again.
                (0x0e, _) => {
                    wide = Width::Two;
                    at += 1;
                }
                (0x0f, _) => {
                    wide = Width::One;
                    at += 1;
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
        if self.charset == Charset::Utf7 {
            return self.to_utf7(&edits).into_iter().collect();
        }
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

    /// One edit with the effect of all: from the first to the last, what stays is written anew, since
    /// characters share bytes.
    fn to_utf7(&self, edits: &[Edit]) -> Option<Edit> {
        let (first, last) = (edits.first()?, edits.last()?);
        let start = self.start_of(first.range.start);
        let end =
            if last.range.is_empty() { self.start_of(last.range.end) } else { self.end_of(last.range.end) };
        let end = end.max(start);
        let mut out = Utf7::default();
        let mut edits = edits.iter().peekable();
        // Who shares its bytes with the first or the last is written too.
        let from = self.characters.partition_point(|(_, _, end)| *end <= start);
        for (index, (text, own, own_end)) in self.characters.iter().enumerate().skip(from) {
            while let Some(edit) = edits.next_if(|edit| edit.range.end <= *text) {
                out.text(&edit.with);
            }
            if *own >= end && *own_end > end {
                break;
            }
            let is_gone =
                edits.peek().is_some_and(|edit| edit.range.start <= *text && *text < edit.range.end);
            if !is_gone {
                let unit = self.units.get(index).copied().unwrap_or_default();
                let stands_for_itself = own_end - own == 1;
                out.unit(unit, stands_for_itself);
            }
        }
        edits.for_each(|edit| out.text(&edit.with));
        Some(Edit { range: start..end, with: out.bytes(), filler: super::transfer::Filler::Nothing })
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
            Charset::Utf32Le => text.iter().flat_map(|byte| u32::from(*byte).to_le_bytes()).collect(),
            Charset::Utf32Be => text.iter().flat_map(|byte| u32::from(*byte).to_be_bytes()).collect(),
            Charset::Ebcdic037 | Charset::Ebcdic500 => {
                text.iter().map(|byte| ebcdic_of_ascii(*byte, self.charset)).collect()
            }
            Charset::AsciiCompatible | Charset::Iso2022 | Charset::Utf7 => text.to_vec(),
        }
    }
}

#[derive(Clone, Copy)]
enum Width {
    One,
    Two,
}

/// Length of an escape sequence, and the width of the characters behind it (ISO 2022: `ESC $ …` is
/// multi-byte); `None` where it only names the characters that a shift leads to.
fn escape(bytes: &[u8]) -> (usize, Option<Width>) {
    match bytes {
        [0x1b, b'$', b')' | b'*' | b'+', _, ..] => (4, None),
        [0x1b, b'$', b'(', _, ..] => (4, Some(Width::Two)),
        [0x1b, b'$', _, ..] => (3, Some(Width::Two)),
        [0x1b, b'(', _, ..] => (3, Some(Width::One)),
        [0x1b, b')' | b'.' | b'*' | b'+', _, ..] => (3, None),
        _ => (1, Some(Width::One)),
    }
}

/// The six bits of a character of base64.
fn sixth(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

/// Writes UTF-7: what may stand for itself does, the rest in runs of base64.
#[derive(Default)]
struct Utf7 {
    out: Vec<u8>,
    run: Vec<u8>,
}

impl Utf7 {
    fn text(&mut self, text: &[u8]) {
        text.iter().for_each(|byte| self.unit(u16::from(*byte), true));
    }

    /// Writes one unit. A CR or LF ends a line of the message only where it did so before.
    fn unit(&mut self, unit: u16, may_end_line: bool) {
        match u8::try_from(unit).ok().filter(u8::is_ascii) {
            Some(b'\r' | b'\n') if !may_end_line => self.run.extend_from_slice(&unit.to_be_bytes()),
            Some(byte) if !matches!(byte, b'+' | b'\\' | b'~') => {
                self.close();
                self.out.push(byte);
            }
            _ => self.run.extend_from_slice(&unit.to_be_bytes()),
        }
    }

    fn close(&mut self) {
        if !self.run.is_empty() {
            let encoded = super::transfer::encode_base64(&std::mem::take(&mut self.run));
            self.out.push(b'+');
            self.out.extend_from_slice(encoded.trim_end_matches('=').as_bytes());
            self.out.push(b'-');
        }
    }

    fn bytes(mut self) -> Vec<u8> {
        self.close();
        self.out
    }
}

/// The ASCII character that a byte of EBCDIC stands for.
fn ascii_of_ebcdic(byte: u8, charset: Charset) -> Option<u8> {
    let byte = match (charset, byte) {
        (Charset::Ebcdic500, 0x4a | 0x4f | 0x5a | 0x5f | 0xb0 | 0xba | 0xbb) => odd_of_500(byte),
        _ => EBCDIC.get(usize::from(byte)).copied().unwrap_or(OTHER),
    };
    (byte != OTHER).then_some(byte)
}

/// The byte of EBCDIC that stands for an ASCII character.
fn ebcdic_of_ascii(ascii: u8, charset: Charset) -> u8 {
    const SUBSTITUTE: u8 = 0x3f;
    (0..=u8::MAX).find(|byte| ascii_of_ebcdic(*byte, charset) == Some(ascii)).unwrap_or(SUBSTITUTE)
}

/// What code page 500 has in other places than code page 37.
fn odd_of_500(byte: u8) -> u8 {
    match byte {
        0x4a => 0x5b,
        0x4f => 0x21,
        0x5a => 0x5d,
        0x5f => 0x5e,
        0xb0 => 0xff,
        0xba => 0xff,
        0xbb => 0x7c,
        _ => OTHER,
    }
}

const OTHER: u8 = 0xff;

/// Code page 37, as far as it is ASCII.
#[rustfmt::skip]
const EBCDIC: [u8; 256] = [
    0x00, 0x01, 0x02, 0x03, 0xff, 0x09, 0xff, 0x7f, 0xff, 0xff, 0xff, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f,
    0x10, 0x11, 0x12, 0x13, 0xff, 0x0a, 0x08, 0xff, 0x18, 0x19, 0xff, 0xff, 0x1c, 0x1d, 0x1e, 0x1f,
    0xff, 0xff, 0xff, 0xff, 0xff, 0x0a, 0x17, 0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0x05, 0x06, 0x07,
    0xff, 0xff, 0x16, 0xff, 0xff, 0xff, 0xff, 0x04, 0xff, 0xff, 0xff, 0xff, 0x14, 0x15, 0xff, 0x1a,
    0x20, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x2e, 0x3c, 0x28, 0x2b, 0x7c,
    0x26, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x21, 0x24, 0x2a, 0x29, 0x3b, 0xff,
    0x2d, 0x2f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x2c, 0x25, 0x5f, 0x3e, 0x3f,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x60, 0x3a, 0x23, 0x40, 0x27, 0x3d, 0x22,
    0xff, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f, 0x70, 0x71, 0x72, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0x7e, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0x5e, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x5b, 0x5d, 0xff, 0xff, 0xff, 0xff,
    0x7b, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0x7d, 0x4a, 0x4b, 0x4c, 0x4d, 0x4e, 0x4f, 0x50, 0x51, 0x52, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0x5c, 0xff, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
];

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
    fn shifts_lead_to_two_byte_characters_and_back() {
        let bytes = b"\x1b$)C<p>\x0e<>\x0f</p><img>\x0e><\x0fb";
        assert_eq!(check(Charset::Iso2022, bytes, "<img>"), b"\x1b$)C<p>\x0e<>\x0f</p>\x0e><\x0fb");
    }

    #[test]
    fn a_cut_in_utf_32_and_ebcdic_leaves_the_other_characters() {
        let wide = |text: &str| {
            text.chars().flat_map(|character| u32::from(character).to_le_bytes()).collect::<Vec<u8>>()
        };
        assert_eq!(check(Charset::Utf32Le, &wide("<p>\u{e9}</p><img>b"), "<img>"), wide("<p>\u{e9}</p>b"));
        // "a<img>b" in both code pages.
        let bytes = [0x81, 0x4c, 0x89, 0x94, 0x87, 0x6e, 0x82];
        for charset in [Charset::Ebcdic037, Charset::Ebcdic500] {
            assert_eq!(check(charset, &bytes, "<img>"), [0x81, 0x82]);
        }
        assert_eq!(Charset::of("IBM037", &bytes), Charset::Ebcdic037);
    }

    #[test]
    fn a_cut_in_utf_7_leaves_what_shares_its_bytes() {
        for (written, left) in [
            ("a+ADw-img src+AD0-x+AD4-b", "ab"),
            ("+AOkAPA-img src+AD0-x+AD4A6Q-b", "+AOk-+AOk-b"),
            ("1 +- 1<img src=x> +ADw-p+AD4-", "1 +- 1 +ADw-p+AD4-"),
            ("+AA0APA-img src+AD0-x+AD4ACg-b\r\n", "+AA0-+AAo-b\r\n"),
        ] {
            let cut = check(Charset::Utf7, written.as_bytes(), "<img src=x>");
            let read = |bytes: &[u8]| Recoded::new(bytes, Charset::Utf7).unwrap().text;
            assert_eq!(
                read(&cut),
                read(left.as_bytes()),
                "{written} became {}",
                String::from_utf8_lossy(&cut)
            );
            assert_eq!(cut.contains(&b'\n'), written.contains('\n'), "{}", String::from_utf8_lossy(&cut));
        }
    }

    #[test]
    fn a_byte_order_mark_wins_over_the_label() {
        assert_eq!(Charset::of("utf-8", b"\xff\xfe<\0"), Charset::Utf16Le);
        assert_eq!(Charset::of("UTF-16", b"\0<\0p\0>"), Charset::Utf16Be);
        assert_eq!(Charset::of("x-unknown", b"<p>"), Charset::AsciiCompatible);
    }
}
