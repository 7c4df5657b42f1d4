//! Where the parts of a message stand in its raw bytes (RFC 2045, 2046).
//!
//! `readings` finds further structures in the same bytes, made of the same leaves.

mod edited;

use std::ops::Range;
use std::sync::LazyLock;

use mail_parser::{Encoding, HeaderForm, HeaderName, Message, MessageParser, MessagePart, PartFlags};
use memchr::memmem::Finder;

use super::header::fields;
use super::transfer::{Decoded, Transfer};
use super::{readable, readings};

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
    /// Parts whose body is kept elsewhere.
    pub bodies_elsewhere: Vec<BodyElsewhere>,
    /// What could not be read.
    pub trouble: Option<Trouble>,
    /// Whether there are other readings of the same bytes, some of whose leaves may be among these.
    has_other_readings: bool,
}

/// The header block of the message or of a message within it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderBlock {
    /// Offset of its first field.
    pub start: usize,
    /// Whether it is part of something that must not be edited.
    pub protection: Option<Protection>,
}

/// A part whose body is to be fetched: `message/external-body` with the access type URL (RFC 2017).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyElsewhere {
    /// Its place in the order of all parts.
    pub number: usize,
    /// Where the body is, as written.
    pub url: String,
    /// The field that says so.
    pub field: Range<usize>,
    /// Set where it must not be edited.
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
    /// The address that the part's header gives relative ones to hang on (RFC 2557), where it is remote.
    pub base: Option<String>,
    /// Set where an edit would break a signature or an encryption.
    pub protection: Option<Protection>,
    /// As what its reader sees it.
    pub shown: Shown,
    /// Whether it is a text whose encoding nobody knows, so that nobody can say what is in it.
    pub is_unreadable: bool,
    /// Whether its header alone says what it is, but for armour ([`Protection::PgpArmour`]).
    is_by_header: bool,
}

/// As what the reader of a message sees a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// As its text, in markup.
    Markup,
    /// As its text, in AMP.
    Amp,
    /// As its text, plain, where the mail client shows no markup.
    PlainAlternative,
    /// As its text, plain, by itself.
    Plain,
    /// As something else: a file, a message within the message, a second reading of a part.
    Elsewhere,
}

/// What a leaf is to a mail client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Markup: text/html, application/xhtml+xml, text/x-amp-html.
    Html,
    /// A file that is markup by its name only, to be opened by itself.
    File,
    /// text/css.
    Style,
    /// A message that is transfer-encoded, to be read by itself.
    Message,
    /// text/calendar, text/vcard.
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

/// Fields that say nothing of the structure, and of which nothing but their bytes is asked.
const OTHER_FIELDS: [HeaderName<'static>; 21] = [
    HeaderName::Subject,
    HeaderName::From,
    HeaderName::To,
    HeaderName::Cc,
    HeaderName::Bcc,
    HeaderName::ReplyTo,
    HeaderName::Sender,
    HeaderName::ListArchive,
    HeaderName::ListHelp,
    HeaderName::ListId,
    HeaderName::ListOwner,
    HeaderName::ListPost,
    HeaderName::ListSubscribe,
    HeaderName::ListUnsubscribe,
    HeaderName::Date,
    HeaderName::MessageId,
    HeaderName::References,
    HeaderName::InReplyTo,
    HeaderName::ReturnPath,
    HeaderName::Keywords,
    HeaderName::Received,
];

static PARSER: LazyLock<MessageParser> = LazyLock::new(|| {
    let parser = MessageParser::new().max_depth(MAX_DEPTH).max_parts(MAX_PARTS).max_encoded_nesting(0);
    OTHER_FIELDS.into_iter().fold(parser, |parser, name| parser.header(name, HeaderForm::Raw))
});

/// Reads a message as [`Structure::read`] does.
pub(super) fn parse(raw: &[u8]) -> Option<Message<'_>> {
    PARSER.parse(raw)
}

/// The subject of a message as people read it, encoded words decoded (RFC 2047). Empty where there is none.
pub fn subject(raw: &[u8]) -> String {
    let header = MessageParser::default().parse_headers(raw);
    header.as_ref().and_then(|header| header.subject()).unwrap_or_default().to_owned()
}

impl Structure {
    /// Reads the structure of a message. Never fails: what cannot be read is said in [`Structure::trouble`].
    pub fn read(raw: &[u8]) -> Structure {
        let Some(message) = PARSER.parse(raw) else {
            // Neither header fields nor an empty line: nothing that a mail client would take for markup.
            return Structure::default();
        };
        let mut structure = Structure::of(&message, raw);
        // A header without an empty line behind it has no body: what is put there is one more line of the
        // header.
        let has_no_body = |leaf: &&mut Leaf| leaf.body.start >= raw.len() && !raw.ends_with(b"\r\n\r\n");
        structure.leaves.iter_mut().filter(has_no_body).for_each(|leaf| leaf.shown = Shown::Elsewhere);
        let typed_twice = typed_twice(&message);
        structure.has_other_readings = !typed_twice.is_empty();
        for reading in readings::of(&typed_twice, raw) {
            if let Some(other) = PARSER.parse(&reading.raw) {
                let other = Structure::of(&other, &reading.raw);
                structure.add(other.leaves.into_iter().map(|leaf| reading.placed(leaf)));
            }
        }
        structure
    }

    /// Adds what another reading of the same bytes finds to be markup.
    fn add(&mut self, leaves: impl Iterator<Item = Leaf>) {
        for mut leaf in leaves {
            let is_text = !matches!(leaf.content, Content::Text | Content::Other);
            let known = self.leaves.iter().any(|known| {
                known.body == leaf.body && known.content == leaf.content && known.transfer == leaf.transfer
            });
            if !is_text || known || self.leaves.len() >= MAX_PARTS {
                continue;
            }
            let overlaps =
                |other: &&Leaf| other.body.start < leaf.body.end && leaf.body.start < other.body.end;
            let around = self.leaves.iter().filter(overlaps).find_map(|leaf| leaf.protection);
            leaf.protection = leaf.protection.or(around);
            leaf.shown = Shown::Elsewhere;
            self.leaves.push(leaf);
        }
    }

    fn of(message: &Message<'_>, raw: &[u8]) -> Structure {
        let mut structure = Structure::default();
        let mut protected: Option<(usize, Protection)> = None;
        let (mut not_parts_before, mut within_before) = (0, 0);
        for (number, part) in message.parts().enumerate() {
            let start = part.offset_header() as usize;
            if protected.is_some_and(|(end, _)| start >= end) {
                protected = None;
            }
            let protection = protection_of(&part);
            if let (None, Some(protection)) = (protected, protection) {
                protected = Some((part.offset_end() as usize, protection));
            }
            let protection = protected.map(|(_, protection)| protection);
            if part.is_multipart() && has_unclosed_boundary(&part) {
                not_parts_before = not_parts_before.max(part.offset_end() as usize);
            }
            if part.flags().intersects(PartFlags::LIMIT_REACHED) {
                structure.trouble = Some(Trouble::TooManyParts);
            }
            if part.is_message() {
                within_before = within_before.max(part.offset_end() as usize);
            }
            structure.bodies_elsewhere.extend(body_elsewhere(&part, raw, number, protection));
            if part.parent().is_none() {
                structure.header_blocks.push(HeaderBlock { start, protection });
            }
            if !part.is_multipart() && !part.is_message() || part.children().len() == 0 && part.is_multipart()
            {
                let mut leaf = leaf(&part, raw, number, protection);
                if start >= within_before {
                    leaf.shown = shown(&part, &leaf);
                }
                if start < not_parts_before {
                    leaf.content = Content::Text;
                }
                let other = other_reading(&part, &leaf);
                if other.is_some() {
                    leaf.shown = Shown::Elsewhere;
                }
                structure.leaves.push(leaf);
                structure.leaves.extend(other);
            }
        }
        structure
    }

    /// The first protection found, if any part is protected.
    pub fn protection(&self) -> Option<Protection> {
        self.leaves.iter().find_map(|leaf| leaf.protection)
    }
}

/// Where the headers of parts start that name more than one type.
fn typed_twice(message: &Message<'_>) -> Vec<usize> {
    let types = |part: &MessagePart<'_>| {
        let all = part.headers().iter();
        all.filter(|field| field.name().as_str().eq_ignore_ascii_case("Content-Type")).count()
    };
    message.parts().filter(|part| types(part) > 1).map(|part| part.offset_header() as usize).collect()
}

/// Whether a multipart's `boundary` is a quoted string that is never closed. By the grammar (RFC 2045 section
/// 5.1) the field then has no boundary, and the body is one text.
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
    let text = raw.get(body.clone()).unwrap_or_default();
    let transfer = transfer_of(part);
    let content = content_of(part, text, transfer);
    let charset =
        part.content_type().and_then(|kind| kind.attribute("charset")).unwrap_or_default().to_owned();
    let protection =
        protection.or_else(|| is_armoured(content, text, transfer).then_some(Protection::PgpArmour));
    let shown = Shown::Elsewhere;
    let is_unreadable = is_text(part, content) && !readable::is_readable(part, text, transfer, &charset);
    let base = base_of(part);
    let is_by_header = is_by_header(part, content) && readable::is_by_header(part, transfer, &charset);
    Leaf { number, content, body, transfer, charset, base, protection, shown, is_unreadable, is_by_header }
}

/// Whether the header of a part says that it is this content, whatever stands in its body.
fn is_by_header(part: &MessagePart<'_>, content: Content) -> bool {
    match content {
        Content::Html => part.is_content_type("text", "html"),
        Content::Text => part.is_content_type("text", "plain") && !names_markup(part),
        Content::File | Content::Style | Content::Message | Content::Calendar | Content::Other => false,
    }
}

/// Whether a part holds text for its reader.
fn is_text(part: &MessagePart<'_>, content: Content) -> bool {
    let is_declared = part.content_type().is_none_or(|kind| kind.ctype().eq_ignore_ascii_case("text"));
    is_declared || matches!(content, Content::Html | Content::Style | Content::Calendar)
}

/// Where the body of a part is kept, if that is not here.
fn body_elsewhere(
    part: &MessagePart<'_>,
    raw: &[u8],
    number: usize,
    protection: Option<Protection>,
) -> Option<BodyElsewhere> {
    let kind = part.content_type().filter(|_| part.is_content_type("message", "external-body"))?;
    // Blanks in it are for the length of lines, and no part of it (RFC 2017 section 3.1).
    let url: String = kind.attribute("url")?.split_whitespace().collect();
    let field =
        fields(raw, part.offset_header() as usize).filter(|field| field.is(raw, "Content-Type")).last()?;
    Some(BodyElsewhere { number, url, field: field.range, protection })
}

/// As what the reader sees a part of the message itself.
fn shown(part: &MessagePart<'_>, leaf: &Leaf) -> Shown {
    let is_file = part
        .content_disposition()
        .is_some_and(|disposition| disposition.ctype().eq_ignore_ascii_case("attachment"));
    let is = |kind: &str, subtype: &str| part.is_content_type(kind, subtype);
    match leaf.content {
        _ if is_file => Shown::Elsewhere,
        Content::Html if is("text", "x-amp-html") => Shown::Amp,
        Content::Html if is("image", "svg+xml") => Shown::Elsewhere,
        Content::Html => Shown::Markup,
        Content::Text if part.content_type().is_none() || is("text", "plain") => {
            let above = part.parent();
            match above.is_some_and(|part| part.is_content_type("multipart", "alternative")) {
                true => Shown::PlainAlternative,
                false => Shown::Plain,
            }
        }
        Content::Text
        | Content::File
        | Content::Style
        | Content::Message
        | Content::Calendar
        | Content::Other => Shown::Elsewhere,
    }
}

/// The same body once more where its header names two transfer encodings: mail clients differ in which one
/// they take.
fn other_reading(part: &MessagePart<'_>, leaf: &Leaf) -> Option<Leaf> {
    let named = part
        .headers()
        .iter()
        .filter(|field| field.name().as_str().eq_ignore_ascii_case("Content-Transfer-Encoding"))
        .map(|field| named_transfer(field.raw_value()));
    let other = named.take(8).find(|transfer| *transfer != leaf.transfer)?;
    Some(Leaf { transfer: other, shown: Shown::Elsewhere, ..leaf.clone() })
}

/// The encoding that a field names, with whatever stands behind its name.
fn named_transfer(value: &[u8]) -> Transfer {
    let value = value.trim_ascii();
    let value = value.strip_prefix(b"\"").unwrap_or(value);
    let starts = |name: &str| {
        value.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()))
            && !value.get(name.len()).is_some_and(|next| next.is_ascii_alphanumeric() || *next == b'-')
    };
    if starts("base64") {
        Transfer::Base64
    } else if starts("quoted-printable") {
        Transfer::QuotedPrintable
    } else if ["x-uuencode", "uuencode", "x-uue", "uue"].iter().any(|name| starts(name)) {
        Transfer::Uuencode
    } else if ["x-yencode", "yencode", "x-yenc", "yenc"].iter().any(|name| starts(name)) {
        Transfer::Yenc
    } else {
        Transfer::Identity
    }
}

/// The base that a part names for relative addresses.
fn base_of(part: &MessagePart<'_>) -> Option<String> {
    const FIELDS: [&str; 2] = ["Content-Base", "Content-Location"];
    let headers = part.headers();
    let named = FIELDS.iter().filter_map(|name| headers.get(*name)).map(|field| {
        let value = String::from_utf8_lossy(field.raw_value().trim_ascii()).into_owned();
        value.trim_matches('"').to_owned()
    });
    let named: Vec<String> = named.collect();
    let is_whole = |value: &&String| value.get(..4).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http"));
    if let Some(whole) = named.iter().find(is_whole) {
        return Some(whole.clone());
    }
    // One that is relative hangs on that of the multipart around it, which also counts where the part names
    // none (RFC 2557 section 5).
    let around = part.parent().and_then(|parent| base_of(&parent))?;
    let relative = named.first().and_then(|relative| url::Url::parse(&around).ok()?.join(relative).ok());
    Some(relative.map_or(around, String::from))
}

fn content_of(part: &MessagePart<'_>, body: &[u8], transfer: Transfer) -> Content {
    let Some(kind) = part.content_type() else { return sniffed(body, transfer, Content::Text) };
    let is = |name: &str, subtype: &str| {
        kind.ctype().eq_ignore_ascii_case(name)
            && kind.subtype().is_some_and(|actual| actual.eq_ignore_ascii_case(subtype))
    };
    if is("text", "html")
        || is("text", "x-amp-html")
        || is("application", "xhtml+xml")
        || is("image", "svg+xml")
    {
        Content::Html
    } else if is("message", "rfc822") || is("message", "global") {
        Content::Message
    } else if ["calendar", "vcard", "x-vcard", "directory"].iter().any(|subtype| is("text", subtype))
        || is("application", "ics")
    {
        Content::Calendar
    } else if is("text", "css") {
        Content::Style
    } else if is("text", "xml") || is("application", "xml") {
        if is_document(body, transfer) { Content::Html } else { Content::Other }
    } else if is("text", "plain") {
        // What is declared to be plain is shown as it is; opened as a file it is what its name says.
        let is_file = names_markup(part) && sniffed(body, transfer, Content::Text) == Content::Html;
        if is_file { Content::File } else { Content::Text }
    } else if kind.ctype().eq_ignore_ascii_case("text") {
        sniffed(body, transfer, Content::Text)
    } else if kind.subtype().is_none_or(str::is_empty) || kind.ctype().eq_ignore_ascii_case("multipart") {
        sniffed(body, transfer, Content::Other)
    } else if names_markup(part) {
        // Within the text it is shown as what its name says; attached, it is left to who opens it.
        let disposition = part.content_disposition();
        let is_attached =
            disposition.is_some_and(|disposition| disposition.ctype().eq_ignore_ascii_case("attachment"));
        if is_attached { Content::File } else { Content::Html }
    } else {
        // A file of another type is left alone.
        Content::Other
    }
}

/// Whether the name of a file says that it is markup.
fn names_markup(part: &MessagePart<'_>) -> bool {
    const EXTENSIONS: [&str; 6] = [".html", ".htm", ".xhtml", ".xht", ".shtml", ".svg"];
    let of_type = part.content_type().and_then(|kind| kind.attribute("name"));
    let of_file = part.content_disposition().and_then(|disposition| disposition.attribute("filename"));
    [of_type, of_file].into_iter().flatten().any(|name| {
        let name = name.trim().to_ascii_lowercase();
        EXTENSIONS.iter().any(|extension| name.ends_with(extension))
    })
}

/// Whether XML is a document that a browser shows, not data: it names a style sheet, or elements of HTML or
/// SVG.
fn is_document(body: &[u8], transfer: Transfer) -> bool {
    const SIGNS: [&[u8]; 4] =
        [b"xml-stylesheet", b"http://www.w3.org/1999/xhtml", b"http://www.w3.org/2000/svg", b"<html"];
    let start = body.get(..body.len().min(8 * LOOKED_AT)).unwrap_or_default();
    let decoded = Decoded::new(start, transfer).bytes;
    SIGNS.iter().any(|sign| memchr::memmem::find(&decoded, sign).is_some())
}

/// What mail clients take a part for whose type is missing, malformed or unknown: one that begins as a
/// document of HTML does (WHATWG MIME Sniffing section 7.1) is shown as HTML by some.
fn sniffed(body: &[u8], transfer: Transfer, otherwise: Content) -> Content {
    const STARTS: [&str; 24] = [
        "<!doctype html",
        "<html",
        "<head",
        "<body",
        "<table",
        "<style",
        "<meta",
        "<img",
        "<script",
        "<iframe",
        "<h1",
        "<div",
        "<font",
        "<a",
        "<title",
        "<b",
        "<br",
        "<p",
        "<center",
        "<span",
        "<link",
        "<base",
        "<svg",
        "<!--",
    ];
    let start = body.get(..body.len().min(LOOKED_AT)).unwrap_or_default();
    let decoded = Decoded::new(start, transfer).bytes;
    let text = decoded.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&decoded).trim_ascii_start();
    let is = |name: &&str| {
        text.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()))
            && text
                .get(name.len())
                .is_some_and(|next| next.is_ascii_whitespace() || *next == b'>' || *name == "<!--")
    };
    if text.first() == Some(&b'<') && STARTS.iter().any(is) { Content::Html } else { otherwise }
}

/// How much of a part is looked at to see what it is, in bytes.
const LOOKED_AT: usize = 512;

fn transfer_of(part: &MessagePart<'_>) -> Transfer {
    match part.encoding() {
        Encoding::QuotedPrintable => Transfer::QuotedPrintable,
        Encoding::Base64 => Transfer::Base64,
        // A name with something behind it: some clients read the name.
        Encoding::None => {
            let field = part.headers().get("Content-Transfer-Encoding");
            field.map_or(Transfer::Identity, |field| named_transfer(field.raw_value()))
        }
    }
}

/// What armour begins with, in a line of its own.
const ARMOUR: &[u8] = b"-----BEGIN PGP ";

/// Whether a part is a text in PGP armour (RFC 9580 section 6.2): a line of a plain text opens it, or the
/// very start of markup does. A line within markup protects nothing, for whoever sends trackers could put one
/// there.
fn is_armoured(content: Content, body: &[u8], transfer: Transfer) -> bool {
    static FINDER: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(ARMOUR));
    let opens = |text: &[u8]| {
        FINDER.find_iter(text).any(|at| at == 0 || text.get(at.wrapping_sub(1)) == Some(&b'\n'))
    };
    match (content, transfer) {
        (Content::Text, Transfer::Base64 | Transfer::Uuencode | Transfer::Yenc) => {
            opens(&Decoded::new(body, transfer).bytes)
        }
        // What armour is made of stands for itself in quoted-printable.
        (Content::Text, Transfer::Identity | Transfer::QuotedPrintable) => opens(body),
        (Content::Html, _) => body.trim_ascii_start().starts_with(ARMOUR),
        (Content::File | Content::Style | Content::Message | Content::Calendar | Content::Other, _) => false,
    }
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
    fn a_subject_is_read_as_people_read_it() {
        assert_eq!(
            subject(b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n and more\r\n\r\nText\r\n"),
            "Gr\u{fc}\u{df}e and more"
        );
        assert_eq!(subject(b"From: a@shop.example\r\n\r\n"), "");
        assert_eq!(subject(b"\xff\x00"), "");
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
             --b\nContent-Type: text/html\n\n<p>signed\n--b\nContent-Type: \
             application/pgp-signature\n\ns\n--b--\n\
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
        let armour = "-----BEGIN PGP MESSAGE-----\n\nabc\n-----END PGP MESSAGE-----\n";
        let protection = |head: &str, body: &str| check(&format!("{head}\n\n{body}"))[0].2;
        let protected = Some(Protection::PgpArmour);
        assert_eq!(protection("Subject: a", armour), protected);
        assert_eq!(protection("Subject: a", &format!("Hello\n{armour}")), protected);
        let encoded = crate::message::transfer::encode_base64(armour.as_bytes());
        assert_eq!(protection("Content-Transfer-Encoding: base64", &encoded), protected);
        assert_eq!(protection("Content-Type: text/html", armour), protected);
        let hidden = format!("<!--\n{armour}--><img src=//t.example/o>");
        assert_eq!(protection("Content-Type: text/html", &hidden), None, "nothing hides behind a comment");
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
