//! Header fields as they stand in the raw bytes (RFC 5322 section 2.2).

use std::collections::HashMap;
use std::ops::Range;
use std::sync::LazyLock;

use memchr::memmem::Finder;

/// One header field with its continuation lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The whole field, its last line end included.
    pub range: Range<usize>,
    /// Its name.
    pub name: Range<usize>,
    /// Its value: everything behind the colon, up to the line end.
    pub value: Range<usize>,
}

impl Field {
    /// The name as written.
    pub fn name<'a>(&self, raw: &'a [u8]) -> &'a [u8] {
        raw.get(self.name.clone()).unwrap_or_default().trim_ascii_end()
    }

    /// The value as written, without the blanks around it.
    pub fn value<'a>(&self, raw: &'a [u8]) -> &'a [u8] {
        raw.get(self.value.clone()).unwrap_or_default().trim_ascii()
    }

    /// Whether the field has this name; case does not matter.
    pub fn is(&self, raw: &[u8], name: &str) -> bool {
        self.name(raw).eq_ignore_ascii_case(name.as_bytes())
    }
}

/// What the header of a message ends with: its last line end, and an empty line.
static END: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\r\n\r\n"));

/// How many bytes the header of a message takes, with its last line end: all, where there is no body.
pub fn length(message: &[u8]) -> usize {
    match message {
        [b'\r', b'\n', ..] => 0,
        _ => END.find(message).map_or(message.len(), |end| end + 2),
    }
}

/// The body of a message: what stands behind the empty line.
pub fn body(message: &[u8]) -> &[u8] {
    message.get(length(message) + 2..).unwrap_or_default()
}

/// The fields of the header block that starts at `from`, up to the empty line or the first line that is none.
pub fn fields(raw: &[u8], from: usize) -> Fields<'_> {
    Fields { raw, at: from }
}

/// The fields of a header by their name in lower case, those of one name in their order.
pub fn by_name<'h>(raw: &[u8], header: &'h [Field]) -> HashMap<Vec<u8>, Vec<&'h Field>> {
    let mut all: HashMap<Vec<u8>, Vec<&Field>> = HashMap::new();
    for field in header {
        all.entry(field.name(raw).to_ascii_lowercase()).or_default().push(field);
    }
    all
}

/// Iterates over header fields.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    raw: &'a [u8],
    at: usize,
}

impl Fields<'_> {
    fn line_end(&self, from: usize) -> usize {
        let tail = self.raw.get(from..).unwrap_or_default();
        memchr::memchr(b'\n', tail).map_or(self.raw.len(), |end| from + end + 1)
    }
}

impl Iterator for Fields<'_> {
    type Item = Field;

    fn next(&mut self) -> Option<Field> {
        let start = self.at;
        match self.raw.get(start)? {
            b'\r' | b'\n' => return None,
            _ => {}
        }
        let mut end = self.line_end(start);
        while matches!(self.raw.get(end), Some(b' ' | b'\t')) {
            end = self.line_end(end);
        }
        let field = self.raw.get(start..end)?;
        let colon = start + memchr::memchr(b':', field)?;
        let value_end = start + field.trim_ascii_end().len();
        self.at = end;
        Some(Field { range: start..end, name: start..colon, value: colon + 1..value_end.max(colon + 1) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_ends_at_the_first_empty_line() {
        for (message, wanted, behind) in [
            ("A: b\r\n\r\nC: d\r\n\r\n", 6, "C: d\r\n\r\n"),
            ("A: b\r\nC: d\r\n", 12, ""),
            ("\r\nA: b\r\n\r\n", 0, "A: b\r\n\r\n"),
        ] {
            let message = message.as_bytes();
            assert_eq!((length(message), body(message)), (wanted, behind.as_bytes()));
        }
    }

    #[test]
    fn a_folded_field_is_one_field() {
        let raw = b"Subject: a\r\n b\r\nX-Empty:\r\nTo : c\r\n\r\nbody: no\r\n";
        let read: Vec<(String, String)> = fields(raw, 0)
            .map(|field| {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                (text(field.name(raw)), text(field.value(raw)))
            })
            .collect();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(read, [pair("Subject", "a\r\n b"), pair("X-Empty", ""), pair("To", "c")]);
    }
}
