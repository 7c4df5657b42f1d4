//! Addresses as a mail client reads them out of markup, cut down to what tells a tracker from a picture.
//!
//! `token` looks for tokens in an address, and an address asks it whether its file name is one.

use std::borrow::Cow;
use std::ops::Range;

use super::token;
use crate::places::Places;

/// How much of an address is looked at. Servers stop far below, but browsers ask them all the same.
const MAX_LENGTH: usize = 16 * 1024;

/// A remote http(s) address: host, path and query, without scheme, user, port and fragment. Borrowed from the
/// markup where it stands there in this form, as most addresses do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Url<'a> {
    /// `host/path?query`; the host in lower case.
    text: Cow<'a, str>,
    host: usize,
    path: usize,
}

impl<'a> Url<'a> {
    /// Reads an attribute value or CSS string in which character references or escapes are decoded already.
    /// `None` where nothing would be fetched over http: `cid:`, `data:`, a relative address without `base`,
    /// an unfilled macro.
    pub fn read(value: Cow<'a, str>, base: Option<&Url<'_>>) -> Option<Url<'a>> {
        match value {
            Cow::Borrowed(value) => match plain(value) {
                Some(url) => Some(url),
                None => Url::resolved(value, base),
            },
            Cow::Owned(value) => Url::resolved(&value, base),
        }
    }

    /// The address of another file in the same folder, without query.
    fn beside(&self, rest: &'a str) -> Url<'a> {
        Url { text: Cow::Borrowed(rest), host: self.host, path: rest.len() }
    }

    /// Whether it could stand in the markup in this form, as most addresses do.
    pub fn is_plain(&self) -> bool {
        plain_behind_scheme(&self.text).is_some_and(|plain| plain == *self)
    }

    /// The address that stands in the markup as `value`, where that is this plain one but for other letters, digits,
    /// hyphens and underscores at `token`, behind the host. `None` where it is not.
    pub fn with_token<'b>(&self, value: &'b str, token: &Range<usize>) -> Option<Url<'b>> {
        let rest = without_scheme(value)?;
        let is_alike = rest.len() == self.text.len()
            && rest.get(..token.start) == self.text.get(..token.start)
            && rest.get(token.end..) == self.text.get(token.end..);
        is_alike.then_some(Url { text: Cow::Borrowed(rest), host: self.host, path: self.path })
    }

    fn resolved(value: &str, base: Option<&Url<'_>>) -> Option<Url<'a>> {
        let cleaned = clean(value);
        let text = cleaned.get(..cleaned.floor_char_boundary(MAX_LENGTH))?;
        if text.is_empty() {
            return None;
        }
        match scheme(text) {
            Some((name, rest)) if is_http(name) => {
                let bare = rest.trim_start_matches(['/', '\\']);
                match base {
                    // With fewer slashes, an address of the scheme of its base hangs on that base; of another
                    // scheme, it does not.
                    Some(base) if rest.len() - bare.len() < 2 => {
                        Url::authority(bare, Host::WithDot).or_else(|| base.join(rest))
                    }
                    _ => Url::authority(bare, Host::Any),
                }
            }
            // A share of another machine: some mail clients ask it, with the reader's name.
            Some((name, rest)) if name.eq_ignore_ascii_case("file") || name.eq_ignore_ascii_case("ftp") => {
                let rest = rest.strip_prefix("//").or_else(|| rest.strip_prefix("\\\\"))?;
                let rest = rest.strip_prefix("//").or_else(|| rest.strip_prefix("\\\\")).unwrap_or(rest);
                Url::authority(rest, Host::Any)
            }
            Some((name, rest)) if name.eq_ignore_ascii_case("view-source") => Url::resolved(rest, None),
            Some(_) => None,
            None if text.starts_with(['/', '\\'])
                && text.get(1..).is_some_and(|rest| rest.starts_with(['/', '\\'])) =>
            {
                Url::authority(text.trim_start_matches(['/', '\\']), Host::Any)
            }
            // Some mail clients read "host.example/path" as an address.
            None if base.is_none() => Url::authority(text, Host::WithDot)
                .filter(|url| is_known_host(url.host()) && !url.is_one_file()),
            None => base?.join(text),
        }
    }

    /// What a relative address comes to with this one for its base (RFC 3986 section 5).
    fn join<'b>(&self, reference: &str) -> Option<Url<'b>> {
        let base = url::Url::parse(&format!("https://{}", self.text)).ok()?;
        let joined = base.join(reference).ok()?;
        Url::authority(joined.as_str().strip_prefix("https://")?, Host::Any)
    }

    fn authority(rest: &str, names: Host) -> Option<Url<'a>> {
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '\\', '?']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at_checked(end)?;
        let host = authority.rsplit('@').next().unwrap_or_default();
        let host = mapped(host.split(':').next().unwrap_or_default());
        if !could_resolve(&host, names) {
            return None;
        }
        let mut text = host.into_owned();
        let host = text.len();
        if !tail.starts_with(['/', '\\']) {
            text.push('/');
        }
        text.push_str(tail);
        let path = text.find('?').unwrap_or(text.len());
        Some(Url { text: Cow::Owned(text), host, path })
    }

    /// The same address, on its own.
    pub fn into_owned(self) -> Url<'static> {
        Url { text: Cow::Owned(self.text.into_owned()), host: self.host, path: self.path }
    }

    /// The same address, borrowed.
    pub fn borrowed(&self) -> Url<'_> {
        Url { text: Cow::Borrowed(&self.text), host: self.host, path: self.path }
    }

    /// `host/path?query`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn part(&self, range: Range<usize>) -> &str {
        self.text.get(range).unwrap_or_default()
    }

    /// The host, in lower case.
    pub fn host(&self) -> &str {
        self.part(0..self.host)
    }

    /// Whether the host is a single label, which only a network of the reader's own resolves.
    pub fn has_local_host(&self) -> bool {
        !could_resolve(self.host(), Host::WithDot)
    }

    /// The path with its leading slash.
    pub fn path(&self) -> &str {
        self.part(self.host..self.path)
    }

    /// What stands behind the question mark; empty where there is none.
    pub fn query(&self) -> &str {
        self.part((self.path + 1).min(self.text.len())..self.text.len())
    }

    /// The parameters of the query: each with its name, which is empty where there is only a value.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut rest = Some(self.query());
        std::iter::from_fn(move || {
            let text = rest?;
            let end = memchr::memchr2(b'&', b';', text.as_bytes());
            let parameter = text.get(..end.unwrap_or(text.len()))?;
            rest = end.and_then(|end| text.get(end + 1..));
            Some(parameter.split_once('=').unwrap_or(("", parameter)))
        })
    }

    /// Path and query.
    pub fn tail(&self) -> &str {
        self.part(self.host..self.text.len())
    }

    /// Host and path up to the last slash: where pictures of one kind lie together.
    pub fn folder(&self) -> &str {
        let end = memchr::memrchr(b'/', self.path().as_bytes()).map_or(0, |at| at + 1);
        self.part(0..self.host + end)
    }

    /// Nothing but a host: `logo.png` would be one if it were an address.
    fn is_one_file(&self) -> bool {
        self.path() == "/" && self.query().is_empty()
    }

    /// The last segment of the path.
    pub fn file_name(&self) -> &str {
        let path = self.path();
        let start = memchr::memrchr(b'/', path.as_bytes()).map_or(0, |at| at + 1);
        path.get(start..).unwrap_or_default()
    }

    /// Host and path, where a program answers rather than a folder or the file of a picture; `None` where the
    /// path is that of the whole host.
    pub fn program(&self) -> Option<&str> {
        let (_, extension) = self.file_name().rsplit_once('.').unwrap_or_default();
        let is_program = self.path().len() > 1 && !self.query().is_empty() && !token::is_picture(extension);
        is_program.then(|| self.part(0..self.path))
    }

    /// The last segment of the path without its extension, and the extension (empty where there is none; a
    /// `format` parameter counts as one).
    pub fn stem_and_extension(&self) -> (&str, &str) {
        // A line end that was encoded along belongs to no name.
        let name = self.file_name();
        let name =
            if name.ends_with("%0A") { name.trim_end_matches("%0A").trim_end_matches("%0D") } else { name };
        match name.rsplit_once('.') {
            Some((stem, extension)) => (stem, extension),
            None => {
                let format = self.query().split('&').find_map(|parameter| parameter.strip_prefix("format="));
                (self.file_name(), format.unwrap_or_default())
            }
        }
    }
}

/// Pictures of one message lie in few folders: one that says nothing about who reads, as it stands in the
/// markup, shortened to what the pictures have in common.
#[derive(Clone, Debug, Default)]
pub struct PlainFolder<'a> {
    /// The address of the folder with its scheme.
    written: &'a [u8],
    /// The length of the scheme, with colon and slashes.
    scheme: usize,
    url: Option<Url<'a>>,
}

impl<'a> PlainFolder<'a> {
    /// Remembers the folder of `url`, which stands in the markup as `value`.
    pub fn remember(&mut self, value: &'a str, url: &Url<'a>) {
        let name = url.file_name().len();
        if let (Cow::Borrowed(text), Some(written)) =
            (&url.text, value.get(..value.len().saturating_sub(name)))
            && let Some(scheme) = value.strip_suffix(*text)
        {
            *self = PlainFolder { written: written.as_bytes(), scheme: scheme.len(), url: Some(url.clone()) };
        }
    }

    /// The address that stands in the markup as `value`, where it is that of a plain picture file in this
    /// folder, or beside or below it.
    pub fn picture(&mut self, value: &'a [u8]) -> Option<Url<'a>> {
        let url = self.url.as_ref()?;
        if !value.starts_with(self.written) {
            let same = self.written.iter().zip(value).take_while(|(item, other)| item == other).count();
            let folder = value.get(..memchr::memrchr(b'/', value.get(..same)?)? + 1)?;
            if folder.len() <= self.scheme + url.host().len() {
                return None;
            }
            self.written = folder;
        }
        let rest = value.get(self.written.len()..)?;
        let name = memchr::memrchr(b'/', rest).map_or(0, |at| at + 1);
        let (folder, name) = rest.split_at_checked(name)?;
        if !token::is_plain_path(folder) || !token::is_plain_file(name) {
            return None;
        }
        std::str::from_utf8(value.get(self.scheme..)?).ok().map(|rest| url.beside(rest))
    }
}

/// An address that stands in the markup as we want it: scheme, a host in lower case without user and port, a
/// path.
fn plain(value: &str) -> Option<Url<'_>> {
    plain_behind_scheme(without_scheme(value)?)
}

/// The same of what stands behind the scheme.
fn plain_behind_scheme(rest: &str) -> Option<Url<'_>> {
    let bytes = rest.as_bytes();
    let host = bytes.iter().position(|byte| !matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))?;
    let (name, tail) = bytes.split_at_checked(host)?;
    // All of them are looked at, which is quicker than to stop at one.
    let is_odd = |byte: &u8| matches!(byte, 0..=b' ' | b'#' | b'\\' | 0x7f..);
    let has_odd = |bytes: &[u8]| bytes.iter().fold(false, |any, byte| any | is_odd(byte));
    let is_plain = tail.first() == Some(&b'/')
        && name.first().is_some_and(u8::is_ascii_alphanumeric)
        && name.contains(&b'.')
        && bytes.len() <= MAX_LENGTH
        && !has_odd(tail);
    let path = memchr::memchr(b'?', tail).map_or(rest.len(), |at| host + at);
    is_plain.then_some(Url { text: Cow::Borrowed(rest), host, path })
}

fn without_scheme(value: &str) -> Option<&str> {
    value.strip_prefix("https://").or_else(|| value.strip_prefix("http://"))
}

/// A host as it is looked up: percent-encoding decoded, in lower case, and mapped to ASCII by the rules of
/// UTS 46, which turn full-width digits and three more kinds of dots into those that count.
fn mapped(host: &str) -> Cow<'_, str> {
    if host.bytes().all(|byte| byte.is_ascii() && byte != b'%' && !byte.is_ascii_uppercase()) {
        return Cow::Borrowed(host);
    }
    let host = percent_decoded(host);
    if host.is_ascii() {
        return Cow::Owned(host.to_ascii_lowercase());
    }
    let dots = ['\u{3002}', '\u{ff0e}', '\u{ff61}'];
    let ascii = idna::domain_to_ascii(&host).ok().filter(|ascii| !ascii.is_empty());
    Cow::Owned(ascii.unwrap_or_else(|| host.to_lowercase().replace(dots, ".")))
}

/// What is taken for a host.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Host {
    /// A single label too: a server of the reader's own network.
    Any,
    /// Names with a dot: nothing else says that this is a host at all.
    WithDot,
}

/// Whether a host is a name, or an address in one of the forms that browsers take (decimal, octal,
/// hexadecimal).
fn could_resolve(host: &str, names: Host) -> bool {
    let is_label = |host: &str| {
        host.bytes().any(|byte| byte.is_ascii_alphanumeric())
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let is_number = match host.strip_prefix("0x").or_else(|| host.strip_prefix("0X")) {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_digit()),
    };
    // No browser takes a host with these in it (WHATWG URL, forbidden host code points), and no name is of
    // dots alone. An attribute whose quote is never closed has the rest of the text for its value, and would
    // lose it for an address that nothing asks for.
    let is_name = host.contains('[') || host.contains(char::is_alphanumeric) && !host.contains(['<', '>']);
    let has_mark = || host.contains(['.', '[', '%']);
    is_number || names == Host::Any && is_label(host) || is_name && has_mark()
}

/// Whether a host ends in a known public suffix and has a label before it.
fn is_known_host(host: &str) -> bool {
    psl::domain(host.as_bytes()).is_some_and(|domain| domain.suffix().is_known())
}

fn is_http(name: &str) -> bool {
    name.eq_ignore_ascii_case("http") || name.eq_ignore_ascii_case("https")
}

/// The scheme of an address and what stands behind its colon (WHATWG URL, scheme state).
fn scheme(text: &str) -> Option<(&str, &str)> {
    let (name, rest) = text.split_once(':')?;
    let mut bytes = name.bytes();
    let starts = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic());
    (starts && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')))
        .then_some((name, rest))
}

/// Without tabs and line ends, and without the control characters and blanks around it (WHATWG URL, basic
/// parser, 1 and 3).
pub(super) fn clean(value: &str) -> Cow<'_, str> {
    let value = value.trim_matches(|character: char| character <= ' ');
    if value.bytes().any(|byte| matches!(byte, b'\t' | b'\n' | b'\r')) {
        Cow::Owned(value.replace(['\t', '\n', '\r'], ""))
    } else {
        Cow::Borrowed(value)
    }
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// The text with `%XX` decoded; bytes that are no UTF-8 become U+FFFD.
pub fn percent_decoded(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let Some(first) = memchr::memchr(b'%', bytes) else { return Cow::Borrowed(text) };
    let mut decoded = Vec::with_capacity(text.len());
    decoded.extend_from_slice(bytes.get(..first).unwrap_or_default());
    let mut taken = first;
    for percent in Places::of(b'%', bytes) {
        // What follows a percent sign that stands for itself may be one.
        let Some(plain) = bytes.get(taken..percent) else { continue };
        decoded.extend_from_slice(plain);
        taken = percent;
        if let Some([high, low]) = bytes.get(percent + 1..).and_then(<[u8]>::first_chunk)
            && let (Some(high), Some(low)) = (hex_digit(*high), hex_digit(*low))
        {
            decoded.push(high << 4 | low);
            taken += 3;
        }
    }
    decoded.extend_from_slice(bytes.get(taken..).unwrap_or_default());
    let text = String::from_utf8(decoded);
    Cow::Owned(text.unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str) -> Option<String> {
        let base = Url::read("https://base.example/dir/page?q=7".into(), None);
        let borrowed = Url::read(Cow::Borrowed(value), base.as_ref());
        assert_eq!(borrowed, Url::read(Cow::Owned(value.to_owned()), base.as_ref()), "{value}");
        borrowed.map(|url| url.as_str().to_owned())
    }

    #[test]
    fn addresses_are_read_as_browsers_read_them() {
        let same = Some("t.news.example/open?id=1".to_owned());
        for spelling in [
            "https://t.news.example/open?id=1",
            " HTTPS://T.News.Example:443/open?id=1#x ",
            "//t.news.example/open?id=1",
            "\\\\t.news.example/open?id=1",
            "https:t.news.example/open?id=1",
            "ht\ntps://user:pass@t.news.\texample/op\r\nen?id=1",
            "https://t.%6eews.example/open?id=1",
            "https://t\u{ff0e}news\u{3002}example/open?id=1",
            "https://t\u{ff61}news\u{ff61}example/open?id=1",
            "https://\u{ff54}.news.example/open?id=1",
            "https://t%E3%80%82news.example/open?id=1",
            "https://t.news.example/open?id=1#x",
            "file://t.news.example/open?id=1",
            "file:////t.news.example/open?id=1",
        ] {
            assert_eq!(check(spelling), same, "{spelling}");
        }
        for (reference, resolved) in [
            ("pixel.gif", "base.example/dir/pixel.gif"),
            ("/pixel.gif", "base.example/pixel.gif"),
            ("../a/./b?c=1#d", "base.example/a/b?c=1"),
            ("?u=1", "base.example/dir/page?u=1"),
            ("#", "base.example/dir/page?q=7"),
        ] {
            assert_eq!(check(reference), Some(resolved.to_owned()), "{reference}");
        }
        assert_eq!(check("https://a.example?x"), Some("a.example/?x".to_owned()));
    }

    #[test]
    fn what_is_not_fetched_over_http_is_no_address() {
        assert_eq!(check("http:/x/y"), Some("base.example/x/y".to_owned()));
        assert_eq!(check("http:y"), Some("base.example/dir/y".to_owned()));
        assert_eq!(check("http://b\u{fc}ro/x"), Some("xn--bro-hoa/x".to_owned()));
        assert_eq!(check("http://\u{ff11}27\u{ff0e}0\u{ff0e}0\u{ff0e}1/x"), Some("127.0.0.1/x".to_owned()));
        assert_eq!(check("http://intranet/x"), Some("intranet/x".to_owned()));
        let long = format!("https://a.example/{}", "x".repeat(20_000));
        assert!(check(&long).is_some_and(|url| url.starts_with("a.example/xxx")));
        for value in [
            "cid:a@b",
            "data:image/gif;base64,R0",
            "mailto:a@b.example",
            "",
            "  ",
            "file:///a.b/c",
            "https://",
        ] {
            assert_eq!(check(value), None, "{value}");
        }
    }

    #[test]
    fn parts_of_an_address() {
        let url = Url::read("https://a.example/x/y/logo.PNG?v=2".into(), None).unwrap();
        assert_eq!((url.host(), url.path(), url.query()), ("a.example", "/x/y/logo.PNG", "v=2"));
        assert_eq!((url.folder(), url.file_name()), ("a.example/x/y/", "logo.PNG"));
        assert_eq!(url.stem_and_extension(), ("logo", "PNG"));
    }
}
