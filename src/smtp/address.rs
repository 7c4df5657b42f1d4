//! Mail addresses and domains (RFC 5321 section 4.1.2, RFC 6531).

use std::fmt;

/// The longest path, angle brackets included (RFC 5321 section 4.5.3.1.3).
const MAX_PATH: usize = 256;

/// A reverse or forward path: an address, or nothing for the null sender. Without angle brackets and source route.
///
/// Neither `Debug` nor `Display` shows the local part: addresses do not get into logs by accident.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Address {
    text: String,
    at: Option<usize>,
}

/// A domain as written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Domain(String);

/// Why a text is no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// It is not enclosed in angle brackets.
    #[error("the address is not enclosed in angle brackets")]
    Brackets,
    /// It is too long.
    #[error("the address is too long")]
    TooLong,
    /// It holds a control character or a blank outside of quotes.
    #[error("the address holds a character that it must not hold")]
    Character,
    /// The local part or the domain is missing.
    #[error("the address has no local part or no domain")]
    Incomplete,
}

impl Domain {
    /// The text as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Address {
    /// Reads a path from the start of `text`; gives what stands behind it.
    ///
    /// # Errors
    ///
    /// When no path stands there.
    pub fn read(text: &str) -> Result<(Address, &str), BadAddress> {
        let inner = text.trim_start_matches(' ').strip_prefix('<').ok_or(BadAddress::Brackets)?;
        let end = closing_bracket(inner).ok_or(BadAddress::Brackets)?;
        let (path, rest) = inner.split_at_checked(end).ok_or(BadAddress::Brackets)?;
        let rest = rest.get(1..).unwrap_or_default();
        if path.len() > MAX_PATH {
            return Err(BadAddress::TooLong);
        }
        // A source route is read and left out (RFC 5321 appendix F.2).
        let path = match path.strip_prefix('@') {
            Some(route) => route.split_once(':').ok_or(BadAddress::Incomplete)?.1,
            None => path,
        };
        Ok((Address::bare(path)?, rest))
    }

    /// An address without brackets; the empty text is the null sender.
    ///
    /// # Errors
    ///
    /// When it is none.
    pub fn bare(path: &str) -> Result<Address, BadAddress> {
        let at = unquoted_at(path)?;
        match at {
            None if path.is_empty() || path.eq_ignore_ascii_case("postmaster") => {}
            Some(at) if at > 0 && at + 1 < path.len() => {}
            _ => return Err(BadAddress::Incomplete),
        }
        Ok(Address { text: path.to_owned(), at })
    }

    /// The whole address.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The domain, where there is one.
    pub fn domain(&self) -> Option<Domain> {
        self.at.and_then(|at| self.text.get(at + 1..)).map(|domain| Domain(domain.to_owned()))
    }

    /// Whether this is the null sender.
    pub fn is_null(&self) -> bool {
        self.text.is_empty()
    }
}

/// Where the bracket stands that closes the path: not one within a quoted local part.
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

/// Where the at sign stands that parts local part and domain. Refuses what an address cannot hold.
fn unquoted_at(path: &str) -> Result<Option<usize>, BadAddress> {
    let mut quoted = false;
    let mut escaped = false;
    let mut found = None;
    for (at, own) in path.char_indices() {
        match own {
            own if own.is_control() => return Err(BadAddress::Character),
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
}
