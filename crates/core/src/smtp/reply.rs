//! Replies (RFC 5321, section 4.2; RFC 3463).

use std::fmt;

use super::address::without_local_parts;

/// The maximum number of lines in a reply of a next hop.
pub const MAX_LINES: usize = 100;
/// The maximum length of a reply line, including its end. RFC 5321, section 4.5.3.1.5 allows 512; some
/// servers write more.
pub const MAX_LINE: usize = 4096;
/// How much of its text is shown, in characters.
const MAX_TEXT: usize = 500;

/// A reply as on the wire. It cannot contain a line end except those of its lines.
#[derive(Clone, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    wire: Vec<u8>,
}

/// The class given by a code's first digit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// 2xx.
    Positive,
    /// 3xx.
    Intermediate,
    /// 4xx.
    Transient,
    /// 5xx.
    Permanent,
}

impl Class {
    /// Returns the name used in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Class::Positive => "accepted",
            Class::Intermediate => "continued",
            Class::Transient => "deferred",
            Class::Permanent => "rejected",
        }
    }
}

/// Why bytes are not a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadReply {
    /// A line does not begin with three digits.
    #[error("a line of the reply does not begin with a code")]
    NoCode,
    /// The code is not between 200 and 599.
    #[error("the reply has an impossible code")]
    Code,
    /// Lines of one reply have different codes.
    #[error("lines of one reply have different codes")]
    Mixed,
    /// A line or the whole reply is too long.
    #[error("the reply is too long")]
    TooLong,
    /// A line contains a bare carriage return or NUL.
    #[error("the reply contains control characters")]
    Control,
}

impl Reply {
    /// Creates a reply. What a line cannot contain is replaced by `?`.
    pub fn new(code: u16, text: &str) -> Reply {
        let clean: String =
            text.chars().map(|character| if character.is_control() { '?' } else { character }).collect();
        Reply { code, wire: format!("{code} {clean}\r\n").into_bytes() }
    }

    /// Creates a reply with several lines.
    pub fn lines<'a>(code: u16, lines: impl IntoIterator<Item = &'a str>) -> Reply {
        let lines: Vec<&str> = lines.into_iter().collect();
        let mut wire = String::new();
        for (index, line) in lines.iter().enumerate() {
            let mark = if index + 1 == lines.len() { ' ' } else { '-' };
            let clean: String =
                line.chars().map(|character| if character.is_control() { '?' } else { character }).collect();
            wire.push_str(&format!("{code}{mark}{clean}\r\n"));
        }
        Reply { code, wire: wire.into_bytes() }
    }

    /// Reads one reply from the start of `bytes`. `Ok(None)` if it is incomplete; else the reply and its
    /// length.
    ///
    /// # Errors
    ///
    /// When the bytes cannot become a reply.
    pub fn read(bytes: &[u8]) -> Result<Option<(Reply, usize)>, BadReply> {
        let mut at = 0;
        let mut code = None;
        for _ in 0..MAX_LINES {
            let rest = bytes.get(at..).unwrap_or_default();
            let Some(end) = memchr::memchr(b'\n', rest) else {
                return if rest.len() > MAX_LINE { Err(BadReply::TooLong) } else { Ok(None) };
            };
            if end >= MAX_LINE {
                return Err(BadReply::TooLong);
            }
            let line = rest.get(..end).unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let line_code = line_code(line)?;
            if *code.get_or_insert(line_code) != line_code {
                return Err(BadReply::Mixed);
            }
            at += end + 1;
            if line.get(3) != Some(&b'-') {
                let wire = on_wire(bytes.get(..at).unwrap_or_default());
                return Ok(Some((Reply { code: line_code, wire }, at)));
            }
        }
        Err(BadReply::TooLong)
    }

    /// Returns the three digits.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// Returns the class of the first digit.
    pub fn class(&self) -> Class {
        match self.code / 100 {
            2 => Class::Positive,
            3 => Class::Intermediate,
            4 => Class::Transient,
            _ => Class::Permanent,
        }
    }

    /// Returns the bytes to send.
    pub fn wire(&self) -> &[u8] {
        &self.wire
    }

    /// Returns the text without codes and line ends, lines joined by ` / `, truncated to 500 characters, fit
    /// for a log: only the domain is left of mail addresses.
    pub fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.wire);
        let mut joined = String::with_capacity(text.len());
        for (index, line) in text.lines().enumerate() {
            joined.push_str(if index > 0 { " / " } else { "" });
            joined.push_str(line.get(4..).unwrap_or_default());
        }
        let mut shown = without_local_parts(&joined);
        shown.retain(|character| !character.is_control());
        if let Some((end, _)) = shown.char_indices().nth(MAX_TEXT) {
            shown.truncate(end);
        }
        shown
    }

    /// Returns the enhanced status code, X.0.0 if the reply has none.
    pub fn enhanced(&self) -> String {
        let text = self.text();
        let first = text.split([' ', '/']).next().unwrap_or_default();
        let mut parts = first.split('.');
        let digits = |part: Option<&str>| {
            part.is_some_and(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
        };
        let is_code =
            digits(parts.next()) && digits(parts.next()) && digits(parts.next()) && parts.next().is_none();
        if is_code { first.to_owned() } else { format!("{}.0.0", self.code / 100) }
    }

    /// Returns the lines of an EHLO reply except the first.
    pub fn keywords(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.wire);
        text.lines()
            .skip(1)
            .map(|line| line.get(4..).unwrap_or_default().trim().to_ascii_uppercase())
            .collect()
    }
}

fn line_code(line: &[u8]) -> Result<u16, BadReply> {
    let digits = line.get(..3).ok_or(BadReply::NoCode)?;
    if !digits.iter().all(u8::is_ascii_digit) || !matches!(line.get(3), None | Some(b' ' | b'-')) {
        return Err(BadReply::NoCode);
    }
    if line.iter().any(|byte| matches!(byte, b'\r' | 0)) {
        return Err(BadReply::Control);
    }
    let code = digits.iter().fold(0u16, |code, digit| code * 10 + u16::from(digit - b'0'));
    if (200..600).contains(&code) { Ok(code) } else { Err(BadReply::Code) }
}

/// Returns the lines with CRLF, whatever they ended with.
fn on_wire(bytes: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(bytes.len() + 2);
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        wire.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
        wire.extend_from_slice(b"\r\n");
    }
    wire
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.text())
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_read_however_it_comes_in() {
        let wire = b"250-first\r\n250 2.1.5 second\r\nrest";
        for cut in 0..29 {
            assert_eq!(Reply::read(&wire[..cut]), Ok(None), "{cut}");
        }
        let (reply, length) = Reply::read(wire).unwrap().unwrap();
        assert_eq!((reply.code(), length, reply.wire()), (250, 29, &wire[..29]));
        assert_eq!(reply.text(), "first / 2.1.5 second");
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for (bytes, error) in [
            (&b"hello\r\n"[..], BadReply::NoCode),
            (b"999 x\r\n", BadReply::Code),
            (b"250-a\r\n251 b\r\n", BadReply::Mixed),
            (b"250 a\rb\r\n", BadReply::Control),
        ] {
            assert_eq!(Reply::read(bytes), Err(error));
        }
        assert_eq!(Reply::read(&vec![b'2'; MAX_LINE + 1]), Err(BadReply::TooLong));
        assert_eq!(Reply::read(&b"250-a\r\n".repeat(MAX_LINES)), Err(BadReply::TooLong));
    }

    #[test]
    fn enhanced_codes_are_read_or_made() {
        assert_eq!(Reply::new(550, "5.1.1 no such user").enhanced(), "5.1.1");
        assert_eq!(Reply::new(550, "no such user").enhanced(), "5.0.0");
        assert_eq!(Reply::new(250, "2.0 Ok").enhanced(), "2.0.0");
    }

    #[test]
    fn addresses_do_not_get_into_the_log() {
        let reply = Reply::new(550, "5.1.1 <ann@home.example>: Recipient rejected, to=bob@home.example");
        assert_eq!(reply.text(), "5.1.1 <…@home.example>: Recipient rejected, …@home.example");
        assert_eq!(
            reply.wire(),
            b"550 5.1.1 <ann@home.example>: Recipient rejected, to=bob@home.example\r\n"
        );
        let quoted = Reply::new(
            550,
            "5.1.1 <\"ann smith\"@home.example> see https://help.example/?to=ann%40home.example",
        );
        assert_eq!(quoted.to_string(), "550 5.1.1 <…@home.example> see …%40home.example");
    }

    #[test]
    fn our_own_text_cannot_break_the_line() {
        assert_eq!(Reply::new(250, "a\r\n354 b\0").wire(), b"250 a??354 b?\r\n");
    }
}
