//! Where the parts of a message stand in its raw bytes (RFC 2045, 2046).

use std::ops::Range;
use std::sync::LazyLock;

use mail_parser::{Encoding, Message, MessageParser, MessagePart, PartFlags};

use super::transfer::Transfer;

/// The deepest nesting of multiparts and messages that is read. Real mail stays below ten.
pub const MAX_DEPTH: usize = 64;
/// The most parts that are read.
pub const MAX_PARTS: usize = 10_000;

/// The parts of a message.
#[derive(Clone, Debug, Default)]
pub struct Structure {
    /// What holds content, in the order of the raw bytes.
    pub leaves: Vec<Leaf>,
    /// Where each header block of a message starts: the outer one first, then those of forwarded messages.
    pub header_blocks: Vec<HeaderBlock>,
    /// What could not be read.
    pub trouble: Option<Trouble>,
}

/// The header block of the message or of a message within it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderBlock {
    /// Offset of its first field.
    pub start: usize,
    /// Whether it is part of something that must not be edited.
    pub protection: Option<Protection>,
}

/// A part without parts.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// Its place in the order of all parts, the message itself being 0.
    pub number: usize,
    /// What a mail client takes it for.
    pub content: Content,
    /// Its encoded body, without the line end before the next delimiter.
    pub body: Range<usize>,
    /// How the body is encoded.
    pub transfer: Transfer,
    /// The `charset` parameter, empty where there is none.
    pub charset: String,
    /// Set where an edit would break a signature or an encryption.
    pub protection: Option<Protection>,
}

/// What a leaf is to a mail client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Markup: text/html, application/xhtml+xml, text/x-amp-html.
    Html,
    /// A message that is transfer-encoded, to be read by itself.
    Message,
    /// text/calendar.
    Calendar,
    /// Any other text.
    Text,
    /// Images, attachments.
    Other,
}

/// Why a part must not be edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// Below multipart/signed (RFC 1847).
    Signed,
    /// Below multipart/encrypted (RFC 1847).
    Encrypted,
    /// application/pkcs7-mime (RFC 8551).
    Pkcs7,
    /// A text in PGP armour (RFC 9580).
    PgpArmour,
}

/// Why a message cannot be analysed as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// [`MAX_DEPTH`] or [`MAX_PARTS`] was reached.
    #[error("it has more than {MAX_PARTS} parts or is nested deeper than {MAX_DEPTH}")]
    TooManyParts,
}

static PARSER: LazyLock<MessageParser> =
    LazyLock::new(|| MessageParser::new().max_depth(MAX_DEPTH).max_parts(MAX_PARTS).max_encoded_nesting(0));

impl Structure {
    /// Reads the structure of a message. Never fails: what cannot be read is said in [`Structure::trouble`].
    pub fn read(raw: &[u8]) -> Structure {
        match PARSER.parse(raw) {
            Some(message) => Structure::of(&message, raw),
            // Neither header fields nor an empty line: nothing that a mail client would take for markup.
            None => Structure::default(),
        }
    }

    fn of(message: &Message<'_>, raw: &[u8]) -> Structure {
        let mut structure = Structure::default();
        let mut protected: Option<(usize, Protection)> = None;
        let mut not_parts_before = 0;
        for (number, part) in message.parts().enumerate() {
            let start = part.offset_header() as usize;
            if protected.is_some_and(|(end, _)| start >= end) {
                protected = None;
            }
            let own = protection_of(&part);
            if let (None, Some(own)) = (protected, own) {
                protected = Some((part.offset_end() as usize, own));
            }
            let protection = protected.map(|(_, protection)| protection);
            if part.is_multipart() && has_unclosed_boundary(&part) {
                not_parts_before = not_parts_before.max(part.offset_end() as usize);
            }
            if part.flags().intersects(PartFlags::LIMIT_REACHED) {
                structure.trouble = Some(Trouble::TooManyParts);
            }
            if part.parent().is_none() {
                structure.header_blocks.push(HeaderBlock { start, protection });
            }
            if !part.is_multipart() && !part.is_message() || part.children().len() == 0 && part.is_multipart()
            {
                let mut leaf = leaf(&part, raw, number, protection);
                if start < not_parts_before {
                    leaf.content = Content::Text;
                }
                structure.leaves.push(leaf);
            }
        }
        structure
    }

    /// The first protection found, if any part is protected.
    pub fn protection(&self) -> Option<Protection> {
        self.leaves.iter().find_map(|leaf| leaf.protection)
    }
}

/// Whether a multipart's `boundary` is a quoted string that is never closed. By the grammar (RFC 2045 section 5.1) the field then
/// has no boundary, and the body is one text.
fn has_unclosed_boundary(part: &MessagePart<'_>) -> bool {
    let Some(field) = part.headers().get("Content-Type") else { return false };
    let value = field.raw_value();
    let quotes = memchr::memchr_iter(b'"', value).count();
    let escaped = memchr::memmem::find_iter(value, b"\\\"").count();
    (quotes - escaped) % 2 == 1
}

fn protection_of(part: &MessagePart<'_>) -> Option<Protection> {
    let is = |kind: &str, subtype: &str| part.is_content_type(kind, subtype);
    if is("multipart", "signed") {
        Some(Protection::Signed)
    } else if is("multipart", "encrypted") {
        Some(Protection::Encrypted)
    } else if is("application", "pkcs7-mime") || is("application", "x-pkcs7-mime") {
        Some(Protection::Pkcs7)
    } else {
        None
    }
}

fn leaf(part: &MessagePart<'_>, raw: &[u8], number: usize, protection: Option<Protection>) -> Leaf {
    let body = part.offset_body() as usize..(part.offset_end() as usize).max(part.offset_body() as usize);
    let content = content_of(part);
    let charset =
        part.content_type().and_then(|kind| kind.attribute("charset")).unwrap_or_default().to_owned();
    let protection = protection.or_else(|| {
        let text = raw.get(body.clone()).unwrap_or_default();
        (matches!(content, Content::Text | Content::Html) && is_armoured(text))
            .then_some(Protection::PgpArmour)
    });
    Leaf { number, content, body, transfer: transfer_of(part), charset, protection }
}

fn content_of(part: &MessagePart<'_>) -> Content {
    let Some(kind) = part.content_type() else { return Content::Text };
    let is = |name: &str, subtype: &str| {
        kind.ctype().eq_ignore_ascii_case(name)
            && kind.subtype().is_some_and(|own| own.eq_ignore_ascii_case(subtype))
    };
    if is("text", "html") || is("text", "x-amp-html") || is("application", "xhtml+xml") {
        Content::Html
    } else if is("message", "rfc822") || is("message", "global") {
        Content::Message
    } else if is("text", "calendar") {
        Content::Calendar
    } else if kind.ctype().eq_ignore_ascii_case("text") {
        Content::Text
    } else {
        Content::Other
    }
}

fn transfer_of(part: &MessagePart<'_>) -> Transfer {
    match part.encoding() {
        Encoding::QuotedPrintable => Transfer::QuotedPrintable,
        Encoding::Base64 => Transfer::Base64,
        Encoding::None => Transfer::Identity,
    }
}

/// Whether a line of the text opens PGP armour (RFC 9580 section 6.2).
fn is_armoured(text: &[u8]) -> bool {
    const ARMOUR: &[u8] = b"-----BEGIN PGP ";
    memchr::memmem::find_iter(text, ARMOUR).any(|at| at == 0 || text.get(at - 1) == Some(&b'\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(raw: &str) -> Vec<(Content, String, Option<Protection>)> {
        let raw = raw.replace('\n', "\r\n");
        Structure::read(raw.as_bytes())
            .leaves
            .iter()
            .map(|leaf| (leaf.content, raw[leaf.body.clone()].to_owned(), leaf.protection))
            .collect()
    }

    #[test]
    fn the_line_end_before_a_delimiter_is_not_of_the_part() {
        let found = check(
            "MIME-Version: 1.0\nContent-Type: multipart/alternative; boundary=b\n\npreamble\n--b\n\nplain\n\
             --b\nContent-Type: text/html\n\n<p>\n\n--b--\nepilogue\n",
        );
        assert_eq!(
            found,
            [(Content::Text, "plain".to_owned(), None), (Content::Html, "<p>\r\n".to_owned(), None)]
        );
    }

    #[test]
    fn what_is_below_a_signature_is_protected_and_what_is_beside_it_is_not() {
        let found = check(
            "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/signed; boundary=b\n\n\
             --b\nContent-Type: text/html\n\n<p>signed\n--b\nContent-Type: application/pgp-signature\n\ns\n--b--\n\
             --a\nContent-Type: text/html\n\n<p>beside\n--a--\n",
        );
        assert_eq!(found[0], (Content::Html, "<p>signed".to_owned(), Some(Protection::Signed)));
        assert_eq!(found[2], (Content::Html, "<p>beside".to_owned(), None));
    }

    #[test]
    fn a_forwarded_message_is_read_where_it_stands() {
        let found = check(
            "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: message/rfc822\n\n\
             Subject: inner\nContent-Type: text/html\n\n<p>inner\n--a--\n",
        );
        assert_eq!(found, [(Content::Html, "<p>inner".to_owned(), None)]);
    }

    #[test]
    fn a_boundary_that_is_never_closed_parts_nothing() {
        let found = check(
            "Content-Type: multipart/mixed;boundary=\"b\n\n--b\nContent-Type: text/html\n\n<p>\n--b--\n",
        );
        assert!(found.iter().all(|(content, ..)| *content != Content::Html), "{found:?}");
    }

    #[test]
    fn an_encoded_message_is_a_leaf_to_be_read_by_itself() {
        let found = check(
            "Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nU3ViamVjdDogYQ0KDQpi\n",
        );
        assert_eq!(found[0].0, Content::Message);
    }

    #[test]
    fn armour_protects_a_text() {
        let found = check("Subject: a\n\n-----BEGIN PGP MESSAGE-----\n\nabc\n-----END PGP MESSAGE-----\n");
        assert_eq!(found[0].2, Some(Protection::PgpArmour));
    }

    #[test]
    fn what_is_nested_too_deep_is_said() {
        let mut raw = String::new();
        for depth in 0..200 {
            raw.push_str(&format!("Content-Type: multipart/mixed; boundary=b{depth}\n\n--b{depth}\n"));
        }
        assert_eq!(Structure::read(raw.as_bytes()).trouble, Some(Trouble::TooManyParts));
        assert_eq!(Structure::read(b"").trouble, None);
    }
}
