//! Places that few clients load from, or that few elements have: what they are called, and documents within an address.

use super::url::percent_decoded;
use crate::message::transfer::decode_base64;

/// The largest document within an address that is read, in bytes.
const MAX_DOCUMENT: usize = 1 << 20;

/// Relations of `link` that load, connect, or look a name up.
pub const LOADING_RELATIONS: [&str; 10] = [
    "stylesheet",
    "preload",
    "prefetch",
    "prerender",
    "icon",
    "preconnect",
    "manifest",
    "modulepreload",
    "subresource",
    "import",
];

/// What a document within an attribute is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inner {
    /// HTML, SVG, XML.
    Markup,
    /// CSS.
    Style,
}

/// Whether an address carries its content itself (RFC 2397).
pub fn is_inline(address: &str) -> bool {
    let address = address.trim_start_matches(|character: char| character <= ' ');
    address.as_bytes().first().is_some_and(|first| first | 0x20 == b'd')
        && address.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"))
}

/// The document that a `data:` address carries, where it is one that can load more.
pub fn document(address: &str) -> Option<(Inner, Vec<u8>)> {
    let (head, body) = address.split_once(',')?;
    let head = head.to_ascii_lowercase();
    let inner = if head.contains("css") {
        Inner::Style
    } else if ["html", "svg", "xml"].iter().any(|kind| head.contains(kind)) {
        Inner::Markup
    } else {
        return None;
    };
    let body = percent_decoded(body);
    if body.len() > MAX_DOCUMENT {
        return None;
    }
    let bytes =
        if head.contains("base64") { decode_base64(body.as_bytes()) } else { body.into_owned().into_bytes() };
    Some((inner, bytes))
}

/// Whether an attribute could be one that loads something, by its length and first letter: most are not, and are not looked at any
/// further.
pub fn may_load(name: &[u8]) -> bool {
    let first = name.first().map_or(0, |first| first | 0x20);
    match name.len() {
        2 => matches!(first, b't' | b'b'),
        3 => first == b's',
        4 => matches!(first, b'd' | b'f' | b'h' | b'm'),
        5 => first == b's',
        6 => matches!(first, b'c' | b'd' | b'f' | b'l' | b'm' | b'p' | b's' | b'v'),
        9 => first == b'c',
        10 => matches!(first, b'b' | b'm' | b'x'),
        11 => first == b'i',
        12 => first == b'm',
        _ => false,
    }
}

/// Whether an attribute is a presentation attribute of SVG that can hold `url()`.
pub fn paints(name: &[u8]) -> bool {
    let is = |own: &str| name.eq_ignore_ascii_case(own.as_bytes());
    match name.len() {
        4 => is("fill") || is("mask"),
        6 => is("stroke") || is("filter") || is("cursor") || is("marker"),
        9 => is("clip-path"),
        10 => is("marker-mid") || is("marker-end"),
        12 => is("marker-start"),
        _ => false,
    }
}

/// Whether an attribute gives an attribute of another element its value, which may be an address.
pub fn animates(element: &[u8], attribute: &[u8]) -> bool {
    let is = |own: &str| attribute.eq_ignore_ascii_case(own.as_bytes());
    let element_is = |own: &str| element.eq_ignore_ascii_case(own.as_bytes());
    (is("values") || is("from") || is("to") || is("by")) && (element_is("animate") || element_is("set"))
}

/// Whether an attribute names an address that is asked for by some client, or upon an act of the reader: plug-ins, scripts, pings. Not
/// the targets of links and forms.
pub fn names(element: &[u8], attribute: &[u8]) -> bool {
    let is = |own: &str| attribute.eq_ignore_ascii_case(own.as_bytes());
    let element_is = |own: &str| element.eq_ignore_ascii_case(own.as_bytes());
    match attribute.len() {
        3 => is("src"),
        4 => is("ping") || is("code") || is("icon") || is("href") && !links(element),
        5 => is("movie") || is("value") && element_is("param"),
        7 => is("archive") || is("classid") || is("profile"),
        6 if element.contains(&b':') => is("o:href") || is("r:href") || is("altsrc"),
        8 => is("codebase") || is("manifest") || is("longdesc") || is("altimage"),
        11 => is("pluginspage"),
        14 => is("attributionsrc"),
        // Elements of Outlook: `o:href`, `r:href`.
        _ => element.contains(&b':') && attribute.ends_with(b"href"),
    }
}

/// Elements whose `href` is a link, or is looked at for itself.
fn links(element: &[u8]) -> bool {
    ["a", "area", "base", "link"].iter().any(|own| element.eq_ignore_ascii_case(own.as_bytes()))
}

/// The address in the content of a refresh (WHATWG HTML, shared declarative refresh steps): behind the time, `url=` may be missing,
/// and so may the closing quote.
pub fn refresh_target(content: &str) -> Option<&str> {
    let rest = content
        .trim_start()
        .trim_start_matches(|character: char| character.is_ascii_digit() || character == '.');
    let rest = rest.trim_start();
    let rest = rest.strip_prefix([';', ',']).unwrap_or(rest).trim_start();
    let named = rest.get(..3).is_some_and(|name| name.eq_ignore_ascii_case("url"));
    let rest = match rest.get(3..).map(str::trim_start).and_then(|own| own.strip_prefix('=')) {
        Some(value) if named => value.trim_start(),
        _ => rest,
    };
    let target = match rest.strip_prefix(['"', '\'']) {
        Some(quoted) => quoted.split(['"', '\'']).next().unwrap_or_default(),
        None => rest,
    };
    (!target.is_empty()).then_some(target.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_of_a_refresh_is_found_as_browsers_find_it() {
        for (content, target) in [
            ("0;url=https://a.example/o", Some("https://a.example/o")),
            ("5 , URL = 'https://a.example/o' x", Some("https://a.example/o")),
            ("0; https://a.example/?x=1", Some("https://a.example/?x=1")),
            ("0;url=\"https://a.example/o", Some("https://a.example/o")),
            ("30", None),
        ] {
            assert_eq!(refresh_target(content), target, "{content}");
        }
    }

    #[test]
    fn a_document_in_an_address_is_read() {
        assert_eq!(document("data:text/html,%3Cimg%3E"), Some((Inner::Markup, b"<img>".to_vec())));
        assert_eq!(document("DATA:text/css;base64,YXt9"), Some((Inner::Style, b"a{}".to_vec())));
        assert_eq!(document("data:image/gif;base64,R0lGOD"), None);
        assert!(is_inline(" Data:,") && !is_inline("dat") && !is_inline("https://a.example/"));
    }
}
