//! Mail addresses and domains (RFC 5321 section 4.1.2, RFC 6531).

use std::fmt;

/// The maximum length of a path, including angle brackets (RFC 5321, section 4.5.3.1.3).
const MAX_PATH: usize = 256;

/// A reverse or forward path: an address, or nothing for the null sender. Without angle brackets and source
/// route.
///
/// Neither `Debug` nor `Display` shows the local part, so that addresses do not get into logs by accident.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Address {
    text: String,
    at: Option<usize>,
}

/// A domain, as written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Domain(String);

/// Why a text is not a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// It is not enclosed in angle brackets.
    #[error("the address is not enclosed in angle brackets")]
    Brackets,
    /// It is too long.
    #[error("the address is too long")]
    TooLong,
    /// It contains a control character, or a space outside of quotes.
    #[error("the address contains an invalid character")]
    Character,
    /// The local part or the domain is missing.
    #[error("the address has no local part or no domain")]
    Incomplete,
}

impl Domain {
    /// Returns the text as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Address {
    /// Reads a path from the start of `text`; returns what follows it.
    ///
    /// # Errors
    ///
    /// When there is no path.
    pub fn read(text: &str) -> Result<(Address, &str), BadAddress> {
        let inner = text.trim_start_matches(' ').strip_prefix('<').ok_or(BadAddress::Brackets)?;
        let end = closing_bracket(inner).ok_or(BadAddress::Brackets)?;
        let (path, rest) = inner.split_at_checked(end).ok_or(BadAddress::Brackets)?;
        let rest = rest.get(1..).unwrap_or_default();
        if path.len() > MAX_PATH {
            return Err(BadAddress::TooLong);
        }
        // A source route is read and ignored (RFC 5321, appendix F.2).
        let path = match path.strip_prefix('@') {
            Some(route) => route.split_once(':').ok_or(BadAddress::Incomplete)?.1,
            None => path,
        };
        Ok((Address::bare(path)?, rest))
    }

    /// Parses an address without brackets; the empty text is the null sender.
    ///
    /// # Errors
    ///
    /// When it is not an address.
    pub fn bare(path: &str) -> Result<Address, BadAddress> {
        let at = unquoted_at(path)?;
        match at {
            None if path.is_empty() || path.eq_ignore_ascii_case("postmaster") => {}
            Some(at) if at > 0 && at + 1 < path.len() => {}
            _ => return Err(BadAddress::Incomplete),
        }
        Ok(Address { text: path.to_owned(), at })
    }

    /// Returns the whole address.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the domain, if there is one.
    pub fn domain(&self) -> Option<Domain> {
        self.at.and_then(|at| self.text.get(at + 1..)).map(|domain| Domain(domain.to_owned()))
    }

    /// Returns whether this is the null sender.
    pub fn is_null(&self) -> bool {
        self.text.is_empty()
    }
}

/// Finds the bracket that closes the path, outside of a quoted local part.
fn closing_bracket(inner: &str) -> Option<usize> {
    let mut quoted = false;
    let mut escaped = false;
    for (at, byte) in inner.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

/// Finds the at sign that separates local part and domain. Rejects what an address cannot contain.
fn unquoted_at(path: &str) -> Result<Option<usize>, BadAddress> {
    let mut quoted = false;
    let mut escaped = false;
    let mut found = None;
    for (at, character) in path.char_indices() {
        match character {
            character if character.is_control() => return Err(BadAddress::Character),
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ' ' | '<' | '>' | ',' if !quoted => return Err(BadAddress::Character),
            '@' if !quoted => {
                if found.is_some() {
                    return Err(BadAddress::Character);
                }
                found = Some(at);
            }
            _ => {}
        }
    }
    if quoted { Err(BadAddress::Character) } else { Ok(found) }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.domain() {
            Some(domain) => write!(f, "<…@{}>", domain.0.escape_debug()),
            None if self.is_null() => f.write_str("<>"),
            None => f.write_str("<…>"),
        }
    }
}

/// Removes everything except the domain from mail addresses in a text, however they are written: with a
/// quoted local part, or with an at sign that is encoded for the web or for SMTP.
pub fn without_local_parts(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((at, length)) = at_sign(rest) {
        let (before, tail) = rest.split_at(at);
        let (sign, tail) = tail.split_at(length);
        let kept = before.get(..local_part(before)).unwrap_or_default();
        out.push_str(kept);
        out.push('…');
        out.push_str(sign);
        rest = tail;
    }
    out.push_str(rest);
    out
}

/// Returns whether a text contains a mail address, however it is written.
pub fn has_address(text: &str) -> bool {
    at_sign(text).is_some()
}

/// Finds the first at sign of an address, and its length.
fn at_sign(text: &str) -> Option<(usize, usize)> {
    // Percent-encoded once and twice, as HTML references, and at full width.
    const SIGNS: [&str; 7] = ["@", "%40", "%2540", "&#64;", "&#x40;", "&commat;", "\u{ff20}"];
    let bytes = text.as_bytes();
    let may_begin = |at: &usize| matches!(bytes.get(*at), Some(b'@' | b'%' | b'&' | b'+' | b'=' | 0xef));
    (0..bytes.len()).filter(may_begin).find_map(|at| {
        let rest = bytes.get(at..)?;
        let known = SIGNS.iter().find(|sign| {
            rest.get(..sign.len()).is_some_and(|rest| rest.eq_ignore_ascii_case(sign.as_bytes()))
        });
        // As in xtext (RFC 3461) and quoted-printable: numbers look like that too, so a domain must follow.
        let is_encoded = (rest.starts_with(b"+40") || rest.starts_with(b"=40"))
            && rest.get(3..).is_some_and(begins_with_domain);
        known.map(|sign| (at, sign.len())).or(is_encoded.then_some((at, 3)))
    })
}

fn begins_with_domain(text: &[u8]) -> bool {
    let label =
        text.iter().take(63).take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'-').count();
    let dot = text.get(label) == Some(&b'.');
    label > 0 && dot && text.get(label + 1).is_some_and(u8::is_ascii_alphanumeric)
}

/// Finds the beginning of the local part with which a text ends.
fn local_part(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = bytes.len();
    while let Some(byte) = at.checked_sub(1).and_then(|before| bytes.get(before)) {
        let is_escaped = || is_escaped(bytes, at - 1);
        match byte {
            // The end of a quoted string is before the at sign, or before a dot and more of it.
            b'"' if matches!(bytes.get(at), None | Some(b'.')) => {
                let opening = (0..at - 1)
                    .rev()
                    .find(|&at| bytes.get(at) == Some(&b'"') && !self::is_escaped(bytes, at));
                // Without its beginning it is unknown how far back it goes.
                at = opening.unwrap_or(0);
            }
            b' ' | b'\t' | b'\r' | b'\n' if !is_escaped() => break,
            b',' | b';' | b'>' => break,
            _ => at -= 1,
        }
    }
    // Brackets and a name before it stay, as the introduction of an address.
    let opening =
        bytes.get(at..).unwrap_or_default().iter().take_while(|byte| b"<([{':".contains(byte)).count();
    at + opening
}

/// Returns whether an odd number of backslashes precedes a byte.
fn is_escaped(bytes: &[u8], at: usize) -> bool {
    bytes.get(..at).unwrap_or_default().iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(String, String), BadAddress> {
        Address::read(text).map(|(address, rest)| (address.as_str().to_owned(), rest.to_owned()))
    }

    fn same(text: &str, rest: &str) -> Result<(String, String), BadAddress> {
        Ok((text.to_owned(), rest.to_owned()))
    }

    #[test]
    fn paths_are_read_in_every_form() {
        assert_eq!(check("<ann@home.example> SIZE=1"), same("ann@home.example", " SIZE=1"));
        assert_eq!(check(" <>"), same("", ""));
        assert_eq!(check("<@a.example,@b.example:ann@home.example>"), same("ann@home.example", ""));
        assert_eq!(check("<\"a b>@\\\"c\"@home.example>"), same("\"a b>@\\\"c\"@home.example", ""));
        assert_eq!(check("<Postmaster>"), same("Postmaster", ""));
        assert_eq!(check("<j\u{fc}rgen@home.example>"), same("j\u{fc}rgen@home.example", ""));
        assert_eq!(check("<ann@[192.0.2.1]>"), same("ann@[192.0.2.1]", ""));
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in [
            "ann@home.example",
            "<ann@home.example",
            "<ann>",
            "<@home.example>",
            "<ann@>",
            "<a b@c.example>",
            "<a@b@c.example>",
            "<a\u{7}@c.example>",
        ] {
            assert!(check(text).is_err(), "{text}");
        }
        assert_eq!(check(&format!("<{}@c.example>", "a".repeat(300))), Err(BadAddress::TooLong));
    }

    #[test]
    fn an_address_does_not_show_itself() {
        let (address, _) = Address::read("<ann@home.example>").unwrap();
        assert_eq!(format!("{address} {address:?}"), "<…@home.example> <…@home.example>");
    }

    #[test]
    fn of_addresses_in_a_text_only_the_domain_is_left() {
        for (text, wanted) in [
            ("<ann@home.example>: no", "<…@home.example>: no"),
            ("to=bob@home.example, (ann@b.example)", "…@home.example, (…@b.example)"),
            ("<ann@a.example>,<bob@b.example>", "<…@a.example>,<…@b.example>"),
            ("<\"ann smith\"@home.example> no", "<…@home.example> no"),
            ("\"a \\\" b\"@home.example", "…@home.example"),
            ("for \"ann b\".smith@home.example", "for …@home.example"),
            ("ann\\ smith@home.example", "…@home.example"),
            ("smith\"@home.example was cut", "…@home.example was cut"),
            ("he said \"no\" to ann@home.example", "he said \"no\" to …@home.example"),
            ("see https://x.example/?to=ann%40home.example", "see …%40home.example"),
            ("%22ann%20smith%22%40home.example", "…%40home.example"),
            ("ann%2540home.example ann&#64;home.example", "…%2540home.example …&#64;home.example"),
            (
                "rfc822;ann+40home.example and ann=40home.example",
                "rfc822;…+40home.example and …=40home.example",
            ),
            ("wait +40 seconds, q=40", "wait +40 seconds, q=40"),
            ("ann@relay@home.example", "…@…@home.example"),
            ("caf\u{e9}@home.example", "…@home.example"),
            ("5.1.1 no such user / again", "5.1.1 no such user / again"),
            ("", ""),
        ] {
            assert_eq!(without_local_parts(text), wanted, "{text}");
            assert_eq!(has_address(text), wanted.contains('…'), "{text}");
        }
    }
}
