//! Transfer encodings (RFC 2045 section 6) with a way back: where in the raw bytes a decoded byte stands, and
//! how an edit of the decoded text is written into the raw bytes so that nothing else changes.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use crate::near::Near;

mod base64;
mod changes;
mod layout;
mod quoted_printable;
mod uuencode;
mod yenc;

pub(super) use changes::narrowed;
use layout::Layout;

/// How a body is encoded for transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// 7bit, 8bit, binary, none, or a name nobody knows: the bytes are the text.
    Identity,
    /// quoted-printable.
    QuotedPrintable,
    /// base64.
    Base64,
    /// x-uuencode, which some clients still read.
    Uuencode,
    /// x-yencode, of news readers.
    Yenc,
}

/// What may be put beside a replacement to reach a length that an encoding asks for.
///
/// base64 carries three bytes in four characters: only a change of length by a multiple of three leaves the
/// rest of the part as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filler {
    /// An empty comment: content of an HTML element.
    Comment,
    /// White space: within a tag or between CSS tokens.
    Space,
    /// Nothing fits: the rest of the part is encoded anew.
    Nothing,
}

impl Filler {
    /// A filler whose length is `residue` more than a multiple of three (`residue` is 0 to 2).
    fn of(self, residue: usize) -> Option<&'static [u8]> {
        match (self, residue) {
            (_, 0) => Some(b""),
            (Filler::Space, 1) => Some(b" "),
            (Filler::Space, _) => Some(b"  "),
            (Filler::Comment, 1) => Some(b"<!---->"),
            (Filler::Comment, _) => Some(b"<!-- -->"),
            (Filler::Nothing, _) => None,
        }
    }
}

/// One change: the bytes in `range` become `with`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// What goes, as offsets in the bytes the edit belongs to. Empty for an insertion.
    pub range: Range<usize>,
    /// What stands there afterwards.
    pub with: Vec<u8>,
    /// What may stand beside it.
    pub filler: Filler,
}

impl Edit {
    /// Takes `range` out of the content of an HTML element.
    pub fn cut(range: Range<usize>) -> Edit {
        Edit { range, with: Vec::new(), filler: Filler::Comment }
    }

    /// Takes `range` out from within a tag or a style sheet.
    pub fn cut_inside(range: Range<usize>) -> Edit {
        Edit { range, with: Vec::new(), filler: Filler::Space }
    }

    /// Puts `with` in the place of `range`, within a tag or a style sheet.
    pub fn replace(range: Range<usize>, with: impl Into<Vec<u8>>) -> Edit {
        Edit { range, with: with.into(), filler: Filler::Space }
    }
}

/// Puts edits in order and joins those that touch, so that each can be written by itself.
pub fn normalise(mut edits: Vec<Edit>) -> Vec<Edit> {
    edits.sort_by_key(|edit| (edit.range.start, edit.range.end));
    let mut joined: Vec<Edit> = Vec::with_capacity(edits.len());
    for edit in edits {
        match joined.last_mut() {
            Some(last) if edit.range.start < last.range.end => {
                // Two edits of one place: what either takes out is out.
                if edit.range.end > last.range.end {
                    last.range.end = edit.range.end;
                    last.with.extend_from_slice(&edit.with);
                }
            }
            _ => joined.push(edit),
        }
    }
    joined
}

/// The bytes after the edits, which are sorted and do not overlap.
pub fn apply(bytes: &[u8], edits: &[Edit]) -> Vec<u8> {
    apply_within(bytes, 0, edits)
}

/// A piece that starts at `start` of the bytes, after the edits, all of which lie within it.
fn apply_within(piece: &[u8], start: usize, edits: &[Edit]) -> Vec<u8> {
    let longer: usize = edits.iter().map(|edit| edit.with.len()).sum();
    let mut out = Vec::with_capacity(piece.len() + longer);
    let mut at = start;
    for edit in edits {
        out.extend_from_slice(piece.get(at - start..edit.range.start - start).unwrap_or_default());
        out.extend_from_slice(&edit.with);
        at = edit.range.end;
    }
    out.extend_from_slice(piece.get(at - start..).unwrap_or_default());
    out
}

/// A place where decoded and raw offset are known. A decoder leaves one every so often; from there it is walked.
#[derive(Clone, Copy, Debug)]
struct Mark {
    decoded: usize,
    raw: usize,
}

fn mark_before(marks: &[Mark], decoded: usize, near: &Near) -> Mark {
    let after = near.parted(marks, |mark| mark.decoded <= decoded);
    marks.get(after.wrapping_sub(1)).copied().unwrap_or(Mark { decoded: 0, raw: 0 })
}

/// A decoded body that knows where its bytes came from.
#[derive(Clone, Debug)]
pub struct Decoded<'a> {
    /// The bytes without their transfer encoding.
    pub bytes: Cow<'a, [u8]>,
    transfer: Transfer,
    layout: Arc<Layout>,
}

impl<'a> Decoded<'a> {
    /// Decodes `raw`. Never fails: what is malformed is read as mail clients read it (stray bytes in base64
    /// are passed over, a stray `=` in quoted-printable stands for itself).
    pub fn new(raw: &'a [u8], transfer: Transfer) -> Decoded<'a> {
        let mut marks = Vec::new();
        let bytes = match transfer {
            Transfer::Identity => Cow::Borrowed(raw),
            Transfer::QuotedPrintable => Cow::Owned(quoted_printable::decode_marked(raw, &mut marks)),
            Transfer::Base64 => Cow::Owned(base64::decode(raw, &mut marks)),
            Transfer::Uuencode => uuencode::decode(raw),
            Transfer::Yenc => yenc::decode(raw),
        };
        Decoded { bytes, transfer, layout: Arc::new(Layout::of(marks)) }
    }

    /// Edits of the raw bytes which have the effect of `edits` on the decoded ones. `raw` is what was
    /// decoded; `edits` are sorted and do not overlap, and so are the edits returned.
    pub fn to_raw(&self, raw: &[u8], edits: Vec<Edit>) -> Vec<Edit> {
        match self.transfer {
            Transfer::Identity => edits,
            Transfer::QuotedPrintable => quoted_printable::to_raw(raw, &self.bytes, &self.layout, edits),
            Transfer::Base64 => base64::to_raw(raw, &self.bytes, &self.layout.marks, edits),
            Transfer::Uuencode => uuencode::to_raw(raw, &self.bytes, edits),
            Transfer::Yenc => yenc::to_raw(raw, &self.bytes, edits),
        }
    }
}

/// Decodes base64 as leniently as a body.
pub fn decode_base64(text: &[u8]) -> Vec<u8> {
    base64::decode(text, &mut Vec::new())
}

/// Encodes base64 in one line.
pub fn encode_base64(bytes: &[u8]) -> String {
    bytes.chunks(57).map(base64::encode_line).collect()
}

/// The column at which `at` stands: bytes since the last line end.
fn column(raw: &[u8], at: usize) -> usize {
    let line = raw.get(..at).unwrap_or_default();
    memchr::memrchr(b'\n', line).map_or(at, |end| at - end - 1)
}

/// The number of bytes from `at` to the end of its line, without the line end.
fn rest_of_line(raw: &[u8], at: usize) -> usize {
    let tail = raw.get(at..).unwrap_or_default();
    let end = memchr::memchr(b'\n', tail).unwrap_or(tail.len());
    match end.checked_sub(1).and_then(|last| tail.get(last)) {
        Some(b'\r') if end < tail.len() => end - 1,
        _ => end,
    }
}

/// The line end that `raw` uses.
fn line_end(raw: &[u8]) -> &'static [u8] {
    match memchr::memchr(b'\n', raw) {
        Some(at) if at > 0 && raw.get(at - 1) != Some(&b'\r') => b"\n",
        Some(0) => b"\n",
        _ => b"\r\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Decodes, edits, writes the edits into the raw bytes, decodes again: the only place that calls what is
    /// tested.
    fn check(raw: &[u8], transfer: Transfer, edits: Vec<Edit>) -> (Vec<u8>, Vec<u8>) {
        let decoded = Decoded::new(raw, transfer);
        let edits = normalise(edits);
        let written = apply(raw, &decoded.to_raw(raw, edits.clone()));
        let read = Decoded::new(&written, transfer).bytes.into_owned();
        let wanted = apply(&decoded.bytes, &edits);
        assert_eq!(
            without_filler(&read),
            without_filler(&wanted),
            "raw {:?}\nbecame {:?}",
            String::from_utf8_lossy(raw),
            String::from_utf8_lossy(&written)
        );
        (written, read)
    }

    fn without_filler(bytes: &[u8]) -> String {
        let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
        text.replace("<!---->", "").replace("<!-- -->", "").replace(' ', "")
    }

    fn find(raw: &[u8], transfer: Transfer, what: &str) -> Range<usize> {
        let decoded = Decoded::new(raw, transfer);
        let at = memchr::memmem::find(&decoded.bytes, what.as_bytes()).expect("the text holds it");
        at..at + what.len()
    }

    #[test]
    fn a_cut_across_soft_breaks_leaves_every_other_byte() {
        let raw = b"<p>Hello=2C you</p><img src=3D\"https://t.news.example/=\r\nopen?id=3D1\" \
                    width=3D=\r\n\"1\"><p>more</p>\r\n<p>end</p>\r\n";
        let cut = find(
            raw,
            Transfer::QuotedPrintable,
            "<img src=\"https://t.news.example/open?id=1\" width=\"1\">",
        );
        let (written, _) = check(raw, Transfer::QuotedPrintable, vec![Edit::cut(cut)]);
        assert_eq!(written, b"<p>Hello=2C you</p><p>more</p>\r\n<p>end</p>\r\n");
    }

    #[test]
    fn every_edit_of_every_short_text_has_its_effect() {
        const BYTES: [u8; 6] = *b"=\r\n aA";
        let texts = (1..=5u32).flat_map(|length| (0..6usize.pow(length)).map(move |number| (length, number)));
        for (length, number) in texts {
            let raw: Vec<u8> = (0..length).map(|at| BYTES[number / 6usize.pow(at) % 6]).collect();
            let decoded = Decoded::new(&raw, Transfer::QuotedPrintable).bytes.len();
            let ranges = || (0..=decoded).flat_map(|start| (start..=decoded).map(move |end| start..end));
            for first in ranges() {
                for with in ["", "x"] {
                    let edit =
                        |range| Edit { range, with: with.as_bytes().to_vec(), filler: Filler::Nothing };
                    check(&raw, Transfer::QuotedPrintable, vec![edit(first.clone())]);
                    if length > 4 {
                        continue;
                    }
                    for second in ranges().filter(|second| second.start >= first.end) {
                        check(&raw, Transfer::QuotedPrintable, vec![edit(first.clone()), edit(second)]);
                    }
                }
            }
        }
    }

    #[test]
    fn no_line_becomes_longer_than_76() {
        let raw = format!("{}<img>=\r\n{}\r\n", "a".repeat(70), "b".repeat(60));
        let cut = find(raw.as_bytes(), Transfer::QuotedPrintable, "<img>");
        let (written, _) = check(raw.as_bytes(), Transfer::QuotedPrintable, vec![Edit::cut(cut)]);
        let longest = String::from_utf8(written).unwrap().lines().map(str::len).max();
        assert!(longest <= Some(76), "{longest:?}");
    }

    #[test]
    fn a_line_that_is_all_gone_leaves_no_empty_one() {
        let raw = b"<p>a</p>=\r\n<img src=3D1>=\r\n<p>b</p>\r\n";
        let cut = find(raw, Transfer::QuotedPrintable, "<img src=1>");
        let (written, _) = check(raw, Transfer::QuotedPrintable, vec![Edit::cut(cut)]);
        assert_eq!(written, b"<p>a</p>=\r\n<p>b</p>\r\n");
    }

    #[test]
    fn a_blank_that_comes_to_stand_last_is_kept() {
        let raw = b"text <img>\r\nmore\r\n";
        let cut = find(raw, Transfer::QuotedPrintable, "<img>");
        let (written, read) = check(raw, Transfer::QuotedPrintable, vec![Edit::cut(cut)]);
        assert_eq!(written, b"text=20\r\nmore\r\n");
        assert_eq!(read, b"text \r\nmore\r\n");
    }

    #[test]
    fn a_stray_equals_sign_does_not_become_an_escape() {
        let raw = b"a =<img>41 b\r\n";
        let cut = find(raw, Transfer::QuotedPrintable, "<img>");
        let (_, read) = check(raw, Transfer::QuotedPrintable, vec![Edit::cut(cut)]);
        assert_eq!(read, b"a =41 b\r\n");
    }

    #[test]
    fn a_carriage_return_alone_does_not_become_the_end_of_a_soft_break() {
        let raw = b"a=\r<img>\nb\r\n";
        let cut = find(raw, Transfer::QuotedPrintable, "<img>");
        let (_, read) = check(raw, Transfer::QuotedPrintable, vec![Edit::cut(cut)]);
        assert_eq!(read, b"a=\r\nb\r\n");
    }

    #[test]
    fn a_cut_in_uuencoded_text_has_its_effect() {
        let text = format!("<p>{}</p><img src=x><p>end</p>", "long ".repeat(40));
        let raw = format!(
            "said before\r\nbegin 644 a.html\r\n{}`\r\nend\r\n",
            uuencode::lines(text.as_bytes(), "\r\n")
        );
        let cut = find(raw.as_bytes(), Transfer::Uuencode, "<img src=x>");
        let (written, read) = check(raw.as_bytes(), Transfer::Uuencode, vec![Edit::cut(cut)]);
        assert_eq!(read, text.replace("<img src=x>", "").as_bytes());
        assert!(written.starts_with(b"said before\r\nbegin 644 a.html\r\nM"));
        assert!(written.ends_with(b"`\r\nend\r\n"));
        // What has no beginning is read as it stands.
        assert_eq!(Decoded::new(b"<p>a</p>", Transfer::Uuencode).bytes.as_ref(), b"<p>a</p>");
    }

    #[test]
    fn a_cut_in_yencoded_text_has_its_effect() {
        let text = "<p>a=b</p><img src=x>\u{e9}";
        let raw = yenc::encoded(b"=ybegin line=128 size=28 name=a.html", text.as_bytes(), b"\r\n");
        let cut = find(&raw, Transfer::Yenc, "<img src=x>");
        let (_, read) = check(&raw, Transfer::Yenc, vec![Edit::cut(cut)]);
        assert_eq!(read, text.replace("<img src=x>", "").as_bytes());
    }

    fn encoded(text: &str) -> String {
        let mut out = String::new();
        base64::encode(text.as_bytes(), &mut 0, b"\r\n", &mut out);
        out.push_str("\r\n");
        out
    }

    #[test]
    fn a_cut_in_base64_changes_only_its_own_lines() {
        for shift in 0..3 {
            let text = format!(
                "{}<p>x</p><img src='https://t.news.example/o'>{}",
                "y".repeat(200 + shift),
                "z".repeat(300)
            );
            let raw = encoded(&text);
            let cut = find(raw.as_bytes(), Transfer::Base64, "<img src='https://t.news.example/o'>");
            let (written, _) = check(raw.as_bytes(), Transfer::Base64, vec![Edit::cut(cut)]);
            let written = String::from_utf8(written).unwrap();
            assert!(written.lines().all(|line| line.len() <= 76), "{written}");
            let after: Vec<&str> = raw.lines().rev().take(4).collect();
            assert_eq!(written.lines().rev().take(4).collect::<Vec<_>>(), after);
            assert_eq!(written.lines().next(), raw.lines().next());
        }
    }

    #[test]
    fn malformed_base64_is_read_as_clients_read_it() {
        let decode = |raw: &str| Decoded::new(raw.as_bytes(), Transfer::Base64).bytes.into_owned();
        assert_eq!(decode("SGV s\r\nbG8="), b"Hello");
        assert_eq!(decode("SGVsbG8=SGVsbG8="), b"HelloHello");
        assert_eq!(decode("SGVs!bG8"), b"Hello");
        assert_eq!(decode("===="), b"");
        assert_eq!(decode("S"), b"");
    }

    #[test]
    fn a_character_left_over_at_the_end_joins_nothing() {
        // Of so many bytes the decoder leaves a mark behind the character, which carries nothing.
        let raw = format!("{}S\r\n", encode_base64(&[b'a'; 258]));
        let edit = Edit { range: 258..258, with: b"xxx".to_vec(), filler: Filler::Nothing };
        check(raw.as_bytes(), Transfer::Base64, vec![edit]);
    }

    #[test]
    fn malformed_quoted_printable_is_read_as_clients_read_it() {
        let decode = |raw: &str| Decoded::new(raw.as_bytes(), Transfer::QuotedPrintable).bytes.into_owned();
        assert_eq!(decode("a=3db=3Dc"), b"a=b=c");
        assert_eq!(decode("a=ZZ b"), b"a=ZZ b");
        assert_eq!(decode("a= \t\r\nb"), b"ab");
        assert_eq!(decode("a=\nb"), b"ab");
        assert_eq!(decode("a="), b"a=");
        assert_eq!(decode("a=4"), b"a=4");
    }

    fn edits_of(length: usize, places: Vec<(usize, usize, String)>) -> Vec<Edit> {
        let edits = places
            .into_iter()
            .map(|(start, span, with)| {
                let start = start % (length + 1);
                let end = (start + span).min(length);
                Edit { range: start..end, with: with.into_bytes(), filler: Filler::Comment }
            })
            .collect();
        normalise(edits)
    }

    fn place() -> impl Strategy<Value = (usize, usize, String)> {
        (0usize..4000, 0usize..200, "[a-z =\u{e9}]{0,12}")
    }

    proptest! {
        #[test]
        fn any_edit_of_quoted_printable_has_its_effect_and_no_other(
            raw in "(=3D|=\r\n|=|[a-c4E =]{1,30}|\r\n|\r|\n|=C3=A9){0,60}",
            places in prop::collection::vec(place(), 0..4),
        ) {
            let length = Decoded::new(raw.as_bytes(), Transfer::QuotedPrintable).bytes.len();
            check(raw.as_bytes(), Transfer::QuotedPrintable, edits_of(length, places));
        }

        #[test]
        fn any_edit_of_base64_has_its_effect_and_no_other(
            text in prop::collection::vec(0x61u8..0x7a, 0..900),
            junk in prop::collection::vec((0usize..1500, "[!\r\n =]{1,3}"), 0..3),
            places in prop::collection::vec(place(), 0..4),
            filler in prop_oneof![Just(Filler::Comment), Just(Filler::Space), Just(Filler::Nothing)],
        ) {
            let mut raw = encoded(std::str::from_utf8(&text).unwrap());
            for (at, what) in junk {
                raw.insert_str(at % (raw.len() + 1), &what);
            }
            let length = Decoded::new(raw.as_bytes(), Transfer::Base64).bytes.len();
            let mut edits = edits_of(length, places);
            edits.iter_mut().for_each(|edit| edit.filler = filler);
            check(raw.as_bytes(), Transfer::Base64, edits);
        }
    }
}
