//! A part that becomes quoted-printable, or gets another charset: what its header says from then on, and how
//! its body is written.

use std::ops::Range;

use super::header::{Field, fields};
use super::structure::{self, Structure};
use super::transfer::{Edit, Transfer, apply, narrowed, normalise};

/// The longest line, without its end (RFC 2045, section 6.7, rule 5).
pub(super) const LINE: usize = 76;
pub(super) const ENCODING: &str = "Content-Transfer-Encoding";
const TYPE: &str = "Content-Type";

/// How a part is to be labelled.
#[derive(Clone, Copy, Debug)]
pub struct Label<'a> {
    /// Its charset; `None` for the one it has.
    pub charset: Option<&'a str>,
    /// Whether it becomes quoted-printable.
    pub is_quoted: bool,
}

/// Returns the edits of the header of a text part, by its number in the order of all parts, after which it
/// has this label. `None` where the header is one that two readers might read in two ways.
pub fn labelled(raw: &[u8], number: usize, label: Label<'_>) -> Option<Vec<Edit>> {
    let message = structure::parse(raw)?;
    let part = message.parts().nth(number)?;
    let (start, body) = (part.offset_header() as usize, part.offset_body() as usize);
    let header: Vec<Field> = fields(raw, start).take_while(|field| field.range.end <= body).collect();
    let end = header.last().map_or(start, |field| field.range.end);
    let has_twice = |name| named(raw, &header, name).nth(1).is_some();
    let is_encoded = !named(raw, &header, ENCODING).all(|field| is_identity(field.value(raw)));
    // Behind the last field stands the empty line, and nothing that is no field.
    if raw.get(end..body) != Some(b"\r\n") || has_twice(TYPE) || has_twice(ENCODING) {
        return None;
    }
    if label.is_quoted && is_encoded {
        return None;
    }
    let whole = body..(part.offset_end() as usize).max(body);
    let mut edits = Vec::new();
    if label.is_quoted {
        edits = relabelled(raw, &header, body, number == 0, &whole)?;
    }
    match (label.charset, named(raw, &header, TYPE).next()) {
        (None, _) => {}
        (Some(charset), Some(field)) => edits.push(with_charset(raw, field, charset)?),
        // Of a text in ASCII, `relabelled` has said that it is UTF-8.
        (Some(_), None) if label.is_quoted => {}
        (Some(charset), None) => {
            let version = if number == 0 && named(raw, &header, "MIME-Version").next().is_none() {
                "MIME-Version: 1.0\r\n"
            } else {
                ""
            };
            let missing = format!("{version}Content-Type: text/plain; charset={charset}\r\n");
            edits.push(Edit::replace(end..end, missing));
        }
    }
    let edits = normalise(edits);
    is_read_so(raw, &edits, number, label).then_some(edits)
}

/// Whether the part has the label after the edits, and the parts are the same as before.
fn is_read_so(raw: &[u8], edits: &[Edit], number: usize, label: Label<'_>) -> bool {
    let (before, after) = (Structure::read(raw), Structure::read(&apply(raw, edits)));
    let leaf = after.leaves.iter().find(|leaf| leaf.number == number);
    before.leaves.len() == after.leaves.len()
        && leaf.is_some_and(|leaf| {
            label.charset.is_none_or(|charset| leaf.charset.eq_ignore_ascii_case(charset))
                && (!label.is_quoted || leaf.transfer == Transfer::QuotedPrintable)
        })
}

/// Replaces or adds the `charset` of a type. `None` where it is written in a way that is rarely read.
fn with_charset(raw: &[u8], field: &Field, charset: &str) -> Option<Edit> {
    const NAME: &[u8] = b"charset";
    let value = raw.get(field.value.clone())?;
    let is_plain = value.trim_ascii_start().get(..5).is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/"));
    let lower = value.to_ascii_lowercase();
    if !is_plain || memchr::memchr3(b'(', b'\\', b'*', value).is_some() {
        return None;
    }
    let mut places = memchr::memmem::find_iter(&lower, NAME);
    let (place, other) = (places.next(), places.next());
    let Some(place) = place else {
        let parted = if value.trim_ascii_end().ends_with(b";") { " " } else { "; " };
        let end = field.value.end;
        return Some(Edit::replace(end..end, format!("{parted}charset={charset}")));
    };
    let is_parameter = value.get(..place)?.trim_ascii_end().ends_with(b";");
    let behind = value.get(place + NAME.len()..)?;
    let assigned =
        behind.trim_ascii_start().strip_prefix(b"=").filter(|_| other.is_none() && is_parameter)?;
    let assigned = assigned.trim_ascii_start();
    let length = match assigned.first()? {
        b'"' => memchr::memchr(b'"', assigned.get(1..)?)? + 2,
        _ => assigned
            .iter()
            .position(|byte| byte.is_ascii_whitespace() || *byte == b';')
            .unwrap_or(assigned.len()),
    };
    let start = field.value.start + value.len() - assigned.len();
    Some(Edit::replace(start..start + length, charset))
}

/// Returns edits of a body that make it quoted-printable with these edits of it, which are sorted and do not
/// overlap. Lines that say the same in both encodings stay as they are.
pub fn quoted(body: &[u8], edits: &[Edit]) -> Vec<Edit> {
    let mut out = Vec::new();
    let mut edits = edits.iter().peekable();
    let mut at = 0;
    while at < body.len() || edits.peek().is_some() {
        let mut end = end_of_line(body, at);
        let mut line = Vec::new();
        let mut from = at;
        // An edit may have taken part of the line end.
        let is_whole = |line: &[u8], rest: &[u8]| match rest {
            [] => line.ends_with(b"\r\n"),
            [b'\n'] => line.ends_with(b"\r"),
            rest => rest.ends_with(b"\r\n"),
        };
        let rest = |from: usize, end: usize| body.get(from..end).unwrap_or_default();
        while let Some(edit) =
            edits.next_if(|edit| edit.range.start < end || !is_whole(&line, rest(from, end)))
        {
            line.extend_from_slice(body.get(from..edit.range.start).unwrap_or_default());
            line.extend_from_slice(&edit.with);
            from = edit.range.end;
            end = end.max(end_of_line(body, from));
        }
        let is_edited = from > at || !line.is_empty();
        line.extend_from_slice(body.get(from..end).unwrap_or_default());
        if is_edited || !stands_for_itself(&line) {
            let edit = narrowed(body, at..end, quoted_printable(&line));
            out.extend((!edit.range.is_empty() || !edit.with.is_empty()).then_some(edit));
        }
        at = end;
    }
    out
}

/// Where the line that holds a place ends, its line end included.
fn end_of_line(body: &[u8], at: usize) -> usize {
    let rest = body.get(at..).unwrap_or_default();
    memchr::memmem::find(rest, b"\r\n").map_or(body.len(), |end| at + end + 2)
}

/// Whether a line is the same in quoted-printable.
fn stands_for_itself(line: &[u8]) -> bool {
    let text = line.strip_suffix(b"\r\n").unwrap_or(line);
    text.len() <= LINE
        && !matches!(text, [.., b' ' | b'\t'])
        && text.iter().all(|byte| *byte != b'=' && (byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t')))
}

pub(super) fn named<'a>(
    raw: &'a [u8],
    header: &'a [Field],
    name: &'a str,
) -> impl Iterator<Item = &'a Field> {
    header.iter().filter(move |field| field.is(raw, name))
}

pub(super) fn is_identity(encoding: &[u8]) -> bool {
    ["7bit", "8bit", "binary", ""].iter().any(|name| encoding.eq_ignore_ascii_case(name.as_bytes()))
}

/// Replaces the value of a field.
pub(super) fn with_value(raw: &[u8], field: &Field, value: &str) -> Edit {
    let end = raw.get(field.value.clone()).unwrap_or_default();
    let blanks = end.len() - end.trim_ascii_start().len();
    Edit::replace(field.value.start + blanks.min(1)..field.value.end, value)
}

/// Returns what makes a header that of a quoted-printable part. `None` if it has no end.
pub(super) fn relabelled(
    raw: &[u8],
    header: &[Field],
    body: usize,
    is_root: bool,
    whole: &Range<usize>,
) -> Option<Vec<Edit>> {
    let mut edits: Vec<Edit> =
        named(raw, header, ENCODING).map(|field| with_value(raw, field, "quoted-printable")).collect();
    let mut missing = String::new();
    let has = |name: &str| named(raw, header, name).next().is_some();
    if is_root && !has("MIME-Version") {
        missing.push_str("MIME-Version: 1.0\r\n");
    }
    if !has("Content-Type") {
        // RFC 1428: what it is can only be guessed.
        let is_utf8 = raw.get(whole.clone()).is_some_and(|text| std::str::from_utf8(text).is_ok());
        let charset = if is_utf8 { "utf-8" } else { "unknown-8bit" };
        missing.push_str(&format!("Content-Type: text/plain; charset={charset}\r\n"));
    }
    if edits.is_empty() {
        missing.push_str("Content-Transfer-Encoding: quoted-printable\r\n");
    }
    if !missing.is_empty() {
        let end = body.checked_sub(2).filter(|end| raw.get(*end..body) == Some(b"\r\n"))?;
        edits.push(Edit::replace(end..end, missing));
    }
    Some(edits)
}

/// Encodes a text, line by line. No line begins with a hyphen, since it could be taken for a delimiter.
pub(super) fn quoted_printable(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + text.len() / 4);
    let mut rest = text;
    while !rest.is_empty() {
        let end = memchr::memmem::find(rest, b"\r\n").unwrap_or(rest.len());
        let (line, behind) = rest.split_at_checked(end).unwrap_or((rest, &[]));
        encode_line(line, &mut out);
        let line_end = behind.get(..2).unwrap_or_default();
        out.extend_from_slice(line_end);
        rest = behind.get(line_end.len()..).unwrap_or_default();
    }
    out
}

fn encode_line(line: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut column = 0;
    for (index, byte) in line.iter().enumerate() {
        let is_last = index + 1 == line.len();
        let stands_for_itself = match byte {
            b'=' => false,
            b'-' => column > 0,
            b' ' | b'\t' => !is_last,
            _ => byte.is_ascii_graphic(),
        };
        let width = if stands_for_itself { 1 } else { 3 };
        // Room for the equals sign of a soft line break.
        if column + width > LINE - usize::from(!is_last) {
            out.extend_from_slice(b"=\r\n");
            column = 0;
        }
        // Behind a soft line break a hyphen begins a line.
        match stands_for_itself && !(*byte == b'-' && column == 0) {
            true => {
                out.push(*byte);
                column += 1;
            }
            false => {
                let digit = |value: u8| DIGITS.get(usize::from(value)).copied().unwrap_or(b'0');
                out.extend_from_slice(&[b'=', digit(byte >> 4), digit(byte & 15)]);
                column += 3;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::transfer::Decoded;

    fn check(header: &str, number: usize, label: Label<'_>, wanted: Option<&str>) {
        let raw = format!("{header}\n\ntext\n").replace('\n', "\r\n");
        let made = labelled(raw.as_bytes(), number, label).map(|edits| apply(raw.as_bytes(), &edits));
        let made = made.map(|raw| String::from_utf8(raw).unwrap().replace("\r\n", "\n"));
        assert_eq!(made, wanted.map(|header| format!("{header}\n\ntext\n")), "{header}");
    }

    #[test]
    fn a_header_says_what_its_part_has_become() {
        let both = Label { charset: Some("utf-8"), is_quoted: true };
        let charset = Label { charset: Some("utf-8"), is_quoted: false };
        let quoted = Label { charset: None, is_quoted: true };
        check(
            "Subject: a",
            0,
            both,
            Some(
                "Subject: a\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\
                 Content-Transfer-Encoding: quoted-printable",
            ),
        );
        for (before, after) in [
            ("text/plain", "text/plain; charset=utf-8"),
            ("text/plain;", "text/plain; charset=utf-8"),
            ("text/plain; charset=us-ascii", "text/plain; charset=utf-8"),
            (
                "text/plain;\n\tCharset=\"US-ASCII\"; format=flowed",
                "text/plain;\n\tCharset=utf-8; format=flowed",
            ),
        ] {
            let header = |kind: &str, encoding: &str| {
                format!("Content-Type: {kind}\nMIME-Version: 1.0\nContent-Transfer-Encoding: {encoding}")
            };
            check(&header(before, "7bit"), 0, both, Some(&header(after, "quoted-printable")));
            check(&header(before, "base64"), 0, charset, Some(&header(after, "base64")));
            check(&header(before, "7BIT"), 0, quoted, Some(&header(before, "quoted-printable")));
        }
        // What two readers might read in two ways stays as it is.
        for header in [
            "Content-Type: text/plain\nContent-Type: text/plain; charset=us-ascii",
            "Content-Type: text/plain; charset=us-ascii; charset=utf-8",
            "Content-Type: text/plain; charset*=us-ascii''x",
            "Content-Type: text/plain (charset=us-ascii)",
            "Content-Type: text/plain\nContent-Transfer-Encoding: base64",
            "Content-Type: text/plain\nContent-Transfer-Encoding: x-none",
            "Content-Type: text/plain\nno field",
        ] {
            check(header, 0, both, None);
        }
        check("Subject: a", 5, both, None);
    }

    #[test]
    fn lines_that_say_the_same_stay() {
        let body = "-- \r\n-a\r\nx=1\r\n\r\nb";
        let edit = |at: usize, with: &str| Edit::replace(at..at, with);
        let end = body.len();
        let edits = quoted(body.as_bytes(), &[edit(end, "\r\n\u{e9}\r\n")]);
        assert_eq!(apply(body.as_bytes(), &edits), b"=2D-=20\r\n-a\r\nx=3D1\r\n\r\nb\r\n=C3=A9\r\n");
        assert!(edits.iter().all(|edit| edit.range.len() <= 3), "{edits:?}");
    }

    #[test]
    fn what_is_put_in_behind_a_line_that_lost_its_end_belongs_to_it() {
        let body = format!("{}\r\n", "=".repeat(24));
        // Of the line end, only the LF is left, which ends no line.
        let edits = [Edit::cut(24..25), Edit::replace(26..26, "=")];
        let made = apply(body.as_bytes(), &quoted(body.as_bytes(), &edits));
        assert!(made.split(|byte| *byte == b'\n').all(|line| line.len() <= LINE + 1), "{made:?}");
        let read = Decoded::new(&made, Transfer::QuotedPrintable).bytes.into_owned();
        assert_eq!(read, apply(body.as_bytes(), &edits));
    }

    proptest! {
        #[test]
        fn a_body_reads_as_it_was_edited_in_lines_that_are_short(
            body in "[a= \r\n-]{0,40}([a-z=]{0,90}\r\n){0,3}",
            edits in prop::collection::vec((0usize..60, 0usize..8, "[\u{e9}=a \r\n]{0,6}"), 0..4),
        ) {
            let body = body.as_bytes();
            let edits = edits.into_iter().map(|(start, length, with)| {
                let start = start.min(body.len());
                Edit::replace(start..(start + length).min(body.len()), with)
            });
            let edits = normalise(edits.collect());
            let made = apply(body, &quoted(body, &edits));
            prop_assert!(made.is_ascii());
            prop_assert!(made.split(|byte| *byte == b'\n').all(|line| line.len() <= LINE + 1));
            let read = Decoded::new(&made, Transfer::QuotedPrintable).bytes.into_owned();
            prop_assert_eq!(read, apply(body, &edits));
        }
    }
}
