//! A message with 8-bit text, as one that a server without 8BITMIME accepts (RFC 6152, section 3): parts become
//! quoted-printable, and what they say stays the same.
//!
//! Nothing is converted over which there is a signature, or that is encoded in another way already, or that
//! stands in a header field.

use std::ops::Range;

use super::header::{Field, fields};
use super::quoted::{ENCODING, is_identity, named, quoted_printable, relabelled, with_value};
use super::structure::{self, Structure};
use super::transfer::{Edit, apply, normalise};

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

#[cfg(test)]
mod tests {
    use super::super::quoted::LINE;
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
