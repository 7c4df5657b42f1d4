//! Query strings.

/// Parses the pairs of a query; `None` if it is malformed.
pub fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let each = text.split('&').filter(|part| !part.is_empty());
    each.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((decoded(name)?, decoded(value)?))
    })
    .collect()
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
                u8::from_str_radix(std::str::from_utf8(&digits).ok().filter(|_| is_hex)?, 16).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Encodes a text as a value in a query.
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        for text in ["", "a b", "ä&=+%?#/", "line\r\nend", "\u{1F600}"] {
            assert_eq!(pairs(&format!("x={}", encoded(text))).unwrap(), [("x".to_owned(), text.to_owned())]);
        }
    }

    #[test]
    fn what_is_malformed_is_none() {
        for text in ["a=%", "a=%1", "a=%+1", "a=%ff", "%zz=1"] {
            assert_eq!(pairs(text), None, "{text}");
        }
        assert_eq!(pairs("a&b=").unwrap().len(), 2);
    }
}
