//! Form data: names and values, and possibly a file.

use super::query;

/// The maximum number of fields in a form.
const MAX_FIELDS: usize = 64;

/// A submitted form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// Names and values.
    pub fields: Vec<(String, String)>,
    /// The uploaded file, empty if none was chosen.
    pub file: Vec<u8>,
}

impl Form {
    /// Reads a body of this type; `None` if it is not a form.
    pub fn read(content_type: &str, body: &[u8]) -> Option<Form> {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        if essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            let fields = query::pairs(std::str::from_utf8(body).ok()?)?;
            return (fields.len() <= MAX_FIELDS).then_some(Form { fields, file: Vec::new() });
        }
        if essence.eq_ignore_ascii_case("multipart/form-data") {
            return multipart(boundary(content_type)?, body);
        }
        None
    }

    /// Returns the value of a field; empty if there is none.
    pub fn value(&self, name: &str) -> &str {
        self.fields.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

fn boundary(content_type: &str) -> Option<&str> {
    let parameters = content_type.split(';').skip(1).map(str::trim);
    let boundary = parameters
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(name, _)| name.eq_ignore_ascii_case("boundary"))?;
    let value = boundary.1.trim_matches('"');
    (1..=70).contains(&value.len()).then_some(value)
}

/// Reads multipart/form-data (RFC 7578), as browsers write it.
fn multipart(boundary: &str, body: &[u8]) -> Option<Form> {
    let delimiter = format!("--{boundary}");
    let mut form = Form::default();
    let mut rest = body.strip_prefix(delimiter.as_bytes())?;
    let between = format!("\r\n{delimiter}");
    while !rest.starts_with(b"--") {
        rest = rest.strip_prefix(b"\r\n")?;
        let end = memchr::memmem::find(rest, between.as_bytes())?;
        let (part, after) = rest.split_at_checked(end)?;
        let head = memchr::memmem::find(part, b"\r\n\r\n")?;
        let (head, content) = part.split_at_checked(head)?;
        let content = content.strip_prefix(b"\r\n\r\n")?;
        let head = std::str::from_utf8(head).ok()?;
        let disposition =
            head.lines().find(|line| line.to_ascii_lowercase().starts_with("content-disposition:"))?;
        match (disposition.contains("filename="), named(disposition)) {
            (true, _) => form.file = content.to_vec(),
            (false, Some(name)) => {
                form.fields.push((name.to_owned(), String::from_utf8_lossy(content).into_owned()));
            }
            (false, None) => return None,
        }
        if form.fields.len() > MAX_FIELDS {
            return None;
        }
        rest = after.get(between.len()..)?;
    }
    Some(form)
}

fn named(disposition: &str) -> Option<&str> {
    let (_, rest) = disposition.split_once("name=\"")?;
    rest.split_once('"').map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(content_type: &str, body: &str, expected: Option<(&[(&str, &str)], &str)>) {
        let read = Form::read(content_type, body.as_bytes());
        let expected = expected.map(|(fields, file)| Form {
            fields: fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            file: file.as_bytes().to_vec(),
        });
        assert_eq!(read, expected, "{body}");
    }

    #[test]
    fn forms_are_read_in_both_ways_that_browsers_write_them() {
        let plain = "application/x-www-form-urlencoded";
        check(plain, "a=1&b=x%2By+z", Some((&[("a", "1"), ("b", "x+y z")], "")));
        check(plain, "a=%zz", None);
        check("text/plain", "a=1", None);
        let kind = "multipart/form-data; boundary=B";
        let part = |head: &str, content: &str| {
            format!("--B\r\nContent-Disposition: form-data; {head}\r\n\r\n{content}\r\n")
        };
        let fields = part("name=\"a\"", "1\r\n2");
        let file = part("name=\"f\"; filename=\"m.eml\"", "From: x\r\n\r\n--Bx");
        check(kind, &format!("{fields}{file}--B--\r\n"), None);
        let file = part("name=\"f\"; filename=\"m.eml\"", "From: x\r\n\r\n -- B");
        check(kind, &format!("{fields}{file}--B--\r\n"), Some((&[("a", "1\r\n2")], "From: x\r\n\r\n -- B")));
        for cut in [fields.clone(), "--B\r\n".to_owned(), String::new(), "--B\r\n\r\n\r\n--B--".to_owned()] {
            check(kind, &cut, None);
        }
        check(kind, "--B--", Some((&[], "")));
        check("multipart/form-data", "--B--", None);
    }
}
