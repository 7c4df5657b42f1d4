//! Whether a text can be read at all: what is in a transfer encoding or a character set that nobody here
//! knows is not clean, for who shows it may know.

use encoding_rs::{Encoding, REPLACEMENT};
use mail_parser::MessagePart;

use super::charset::Charset;
use super::transfer::{Decoded, Transfer};

/// How much of a text is looked at to see whether it is one, in bytes.
const LOOKED_AT: usize = 4096;

/// Whether a text part can be read.
pub(super) fn is_readable(part: &MessagePart<'_>, body: &[u8], transfer: Transfer, charset: &str) -> bool {
    let is_as_it_stands = transfer == Transfer::Identity && !names_no_encoding(part);
    (!is_as_it_stands || looks_like_text(body)) && is_known(charset, body, transfer)
}

/// Whether the header of a part says whether it can be read, whatever stands in its body.
pub(super) fn is_by_header(part: &MessagePart<'_>, transfer: Transfer, charset: &str) -> bool {
    let is_named = transfer != Transfer::Identity || names_no_encoding(part);
    let label = charset.trim();
    let is_known = || Encoding::for_label(label.as_bytes()).is_some_and(|encoding| encoding != REPLACEMENT);
    is_named && (label.is_empty() || is_known())
}

/// Whether a part has no transfer encoding, or one of those that change nothing. Senders write them in many
/// ways: `8bit+`, `7-bit`, or a character set in their place.
fn names_no_encoding(part: &MessagePart<'_>) -> bool {
    const NAMES: [&str; 8] = ["7bit", "7-bit", "8bit", "8-bit", "binary", "none", "identity", "utf"];
    part.headers().get("Content-Transfer-Encoding").is_none_or(|field| {
        let name = field.raw_value().trim_ascii();
        let starts = |with: &str| {
            name.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with.as_bytes()))
        };
        name.is_empty() || NAMES.iter().any(|with| starts(with))
    })
}

/// Whether bytes are words: encoded ones have no blanks between them.
fn looks_like_text(body: &[u8]) -> bool {
    const ONE_BLANK_IN: usize = 50;
    let start = body.get(..body.len().min(LOOKED_AT)).unwrap_or_default().trim_ascii();
    let blanks = start.iter().filter(|byte| matches!(byte, b' ' | b'\t')).count();
    blanks >= start.len() / ONE_BLANK_IN
}

/// Whether a character set is one that is read, or a text that claims another one can be read as ASCII all
/// the same.
fn is_known(label: &str, body: &[u8], transfer: Transfer) -> bool {
    let label = label.trim();
    let is_common = ["utf-8", "us-ascii", "iso-8859-1"].iter().any(|name| label.eq_ignore_ascii_case(name));
    if label.is_empty() || is_common {
        return true;
    }
    let start = body.get(..body.len().min(LOOKED_AT)).unwrap_or_default();
    match Encoding::for_label(label.as_bytes()) {
        // No browser reads these; but for HZ, the detector does.
        Some(encoding) if encoding == REPLACEMENT => {
            Charset::of(label, b"") != Charset::AsciiCompatible || {
                let decoded = Decoded::new(body, transfer).bytes;
                memchr::memmem::find(&decoded, b"~{").is_none()
            }
        }
        Some(_) => true,
        None => {
            let decoded = Decoded::new(start, transfer).bytes;
            Charset::of(label, &decoded) != Charset::AsciiCompatible || is_ascii_like(&decoded)
        }
    }
}

/// Whether ASCII characters stand for themselves in a text of an unknown character set: it is UTF-8, or
/// mostly ASCII with blanks and line ends.
fn is_ascii_like(text: &[u8]) -> bool {
    if memchr::memchr(0, text).is_some() {
        return false;
    }
    let cut = match std::str::from_utf8(text) {
        Ok(_) => return true,
        Err(error) => error.error_len().is_none(),
    };
    let ascii = text.iter().filter(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n')).count();
    let blanks = text.iter().filter(|byte| matches!(byte, b' ' | b'\r' | b'\n')).count();
    cut || 2 * ascii >= text.len() && 50 * blanks >= text.len()
}
