//! A message with 8-bit text, as one that a server without 8BITMIME accepts (RFC 6152, section 3): parts become
//! quoted-printable, and what they say stays the same.
//!
//! Nothing is converted over which there is a signature, or that is encoded in another way already, or that
//! stands in a header field.

use std::ops::Range;

use super::header::{Field, fields};
use super::structure::{self, Structure};
use super::transfer::{Edit, apply, normalise};

/// The longest line, without its end (RFC 2045, section 6.7, rule 5).
const LINE: usize = 76;
const ENCODING: &str = "Content-Transfer-Encoding";
/// Fields that sign the body.
const SIGNATURES: [&str; 3] = ["DKIM-Signature", "ARC-Message-Signature", "DomainKey-Signature"];

/// Returns the message without 8-bit text in its bodies; `None` if it must stay as it is.
pub fn seven_bit(raw: &[u8]) -> Option<Vec<u8>> {
    let is_signed = fields(raw, 0).any(|field| SIGNATURES.iter().any(|name| field.is(raw, name)));
    if is_signed || Structure::read(raw).protection().is_some() {
        return None;
    }
    let message = structure::parse(raw)?;
    let mut left = count(raw, 0..raw.len());
    let mut edits = Vec::new();
    for part in message.parts() {
        let (start, body) = (part.offset_header() as usize, part.offset_body() as usize);
        let header: Vec<Field> = fields(raw, start).take_while(|field| field.range.end <= body).collect();
        let whole = body..(part.offset_end() as usize).max(body);
        if part.is_message() || part.is_multipart() && part.children().len() > 0 {
            edits.extend(named(raw, &header, ENCODING).map(|field| with_value(raw, field, "7bit")));
            continue;
        }
        let here = count(raw, whole.clone());
        if here == 0 {
            continue;
        }
        if part.is_multipart() || !named(raw, &header, ENCODING).all(|field| is_identity(field.value(raw))) {
            return None;
        }
        left = left.checked_sub(here)?;
        edits.extend(relabelled(raw, &header, body, start == 0, &whole)?);
        edits.push(Edit::replace(whole.clone(), quoted_printable(raw.get(whole)?)));
    }
    // What is left stands in a header, or beside the parts.
    (left == 0).then(|| apply(raw, &normalise(edits)))
}

/// Returns how many 8-bit bytes there are.
fn count(raw: &[u8], range: Range<usize>) -> usize {
    raw.get(range).unwrap_or_default().iter().filter(|byte| !byte.is_ascii()).count()
}

fn named<'a>(raw: &'a [u8], header: &'a [Field], name: &'a str) -> impl Iterator<Item = &'a Field> {
    header.iter().filter(move |field| field.is(raw, name))
}

fn is_identity(encoding: &[u8]) -> bool {
    ["7bit", "8bit", "binary", ""].iter().any(|name| encoding.eq_ignore_ascii_case(name.as_bytes()))
}

/// Replaces the value of a field.
fn with_value(raw: &[u8], field: &Field, value: &str) -> Edit {
    let end = raw.get(field.value.clone()).unwrap_or_default();
    let blanks = end.len() - end.trim_ascii_start().len();
    Edit::replace(field.value.start + blanks.min(1)..field.value.end, value)
}

/// Returns what makes a header that of a quoted-printable part. `None` if it has no end.
fn relabelled(
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
fn quoted_printable(text: &[u8]) -> Vec<u8> {
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
    use super::*;
    use crate::message::transfer::{Decoded, Transfer};
    use proptest::prelude::*;

    fn check(raw: &str, wanted: Option<&str>) {
        let crlf = |text: &str| text.replace('\n', "\r\n");
        let made = seven_bit(crlf(raw).as_bytes()).map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(made, wanted.map(crlf), "{raw}");
    }

    #[test]
    fn raw_text_without_mime_gets_the_fields_that_say_what_it_is() {
        check(
            "Subject: a\n\nGr\u{fc}\u{df}e\n",
            Some(
                "Subject: a\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\
                 Content-Transfer-Encoding: quoted-printable\n\nGr=C3=BC=C3=9Fe\n",
            ),
        );
        let made = seven_bit(b"Subject: a\r\n\r\nGr\xfc\xdfe\r\n").unwrap();
        let text = String::from_utf8(made).unwrap();
        assert!(
            text.contains("charset=unknown-8bit\r\n") && text.ends_with("\r\n\r\nGr=FC=DFe\r\n"),
            "{text}"
        );
    }

    #[test]
    fn parts_with_8_bit_text_are_converted_and_the_others_stay() {
        check(
            "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: 8bit\n\n\
             --b\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nJa, \u{fc}=1\n\n\
             --b\nContent-Type: text/plain\n\n-- \nplain\n\
             --b\nContent-Type: image/png\nContent-Transfer-Encoding: base64\n\nAAAA\n\
             --b\n\n\u{e4}\n\
             --b\nContent-Type: message/rfc822\nContent-Transfer-Encoding: 8bit\n\nSubject: in\n\n\u{f6}\n--b--\n",
            Some(
                "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: 7bit\n\n\
                 --b\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\n\
                 Ja, =C3=BC=3D1\n\n\
                 --b\nContent-Type: text/plain\n\n-- \nplain\n\
                 --b\nContent-Type: image/png\nContent-Transfer-Encoding: base64\n\nAAAA\n\
                 --b\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\n\
                 =C3=A4\n\
                 --b\nContent-Type: message/rfc822\nContent-Transfer-Encoding: 7bit\n\nSubject: in\n\
                 Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\n\
                 =C3=B6\n--b--\n",
            ),
        );
    }

    #[test]
    fn what_is_signed_or_encoded_otherwise_stays_as_it_is() {
        for raw in [
            "DKIM-Signature: v=1\nSubject: a\n\n\u{fc}\n",
            "ARC-Message-Signature: i=1\nSubject: a\n\n\u{fc}\n",
            "MIME-Version: 1.0\nContent-Type: multipart/signed; boundary=b\n\n--b\n\n\u{fc}\n--b\n\nx\n--b--\n",
            "MIME-Version: 1.0\nContent-Type: text/plain\nContent-Transfer-Encoding: base64\n\n\u{fc}\n",
            "MIME-Version: 1.0\nContent-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n\n\u{fc}\n",
            "MIME-Version: 1.0\nContent-Type: text/plain\nContent-Transfer-Encoding: x-uuencode\n\n\u{fc}\n",
            // In a header field, and beside the parts.
            "Subject: \u{fc}\n\n\u{fc}\n",
            "Subject: \u{fc}\n\na\n",
            "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n\u{fc}\n--b\n\na\n--b--\n",
        ] {
            check(raw, None);
        }
    }

    proptest! {
        #[test]
        fn a_text_reads_the_same_and_no_line_is_long_or_begins_with_a_hyphen(
            lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..6)
        ) {
            let clean = |line: &Vec<u8>| -> Vec<u8> {
                line.iter().copied().filter(|byte| !b"\r\n".contains(byte)).collect()
            };
            let text = lines.iter().map(clean).collect::<Vec<_>>().join(&b"\r\n"[..]);
            let encoded = quoted_printable(&text);
            prop_assert!(encoded.is_ascii());
            for line in encoded.split(|byte| *byte == b'\n') {
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                prop_assert!(line.len() <= LINE && !line.starts_with(b"-"));
            }
            prop_assert_eq!(&*Decoded::new(&encoded, Transfer::QuotedPrintable).bytes, &text[..]);
        }

        #[test]
        fn whatever_comes_is_converted_whole_or_not_at_all(raw in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(seven_bit(&raw).is_none_or(|made| made.is_ascii()));
        }
    }
}
