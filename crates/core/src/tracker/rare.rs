//! Places that few clients load from, or that few elements have: what they are called, and documents within
//! an address.

use super::url::{clean, percent_decoded};
use crate::message::transfer::decode_base64;

/// The largest document within an address that is read, in bytes.
const MAX_DOCUMENT: usize = 1 << 20;

/// Whether a relation of `link` loads, connects, or looks a name up. Those that do not are few; new ones that
/// do are added to browsers each year.
pub fn relation_loads(relations: &str) -> bool {
    const IDLE: [&str; 16] = [
        "alternate",
        "author",
        "bookmark",
        "canonical",
        "edituri",
        "file-list",
        "help",
        "license",
        "me",
        "next",
        "pingback",
        "prev",
        "privacy-policy",
        "shortlink",
        "start",
        "terms-of-service",
    ];
    let mut relations = relations.split_ascii_whitespace();
    relations.any(|relation| !IDLE.iter().any(|idle| relation.eq_ignore_ascii_case(idle)))
}

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
        && clean(address).get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"))
}

/// The document that a `data:` address carries, where it is one that can load more.
pub fn document(address: &str) -> Option<(Inner, Vec<u8>)> {
    let address = clean(address);
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

/// Whether an attribute could be one that loads something, by its length and first letter: most are not, and
/// are not looked at any further.
#[inline]
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
    let is = |text: &str| name.eq_ignore_ascii_case(text.as_bytes());
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
    let is = |text: &str| attribute.eq_ignore_ascii_case(text.as_bytes());
    let element_is = |text: &str| element.eq_ignore_ascii_case(text.as_bytes());
    (is("values") || is("from") || is("to") || is("by")) && (element_is("animate") || element_is("set"))
}

/// Whether an attribute may hold an address though nothing is to be loaded any more: the targets of links and
/// forms, text for readers, and names that look like addresses.
pub fn may_stay(element: &[u8], attribute: &[u8]) -> bool {
    const TEXT: [&str; 11] = [
        "alt",
        "title",
        "label",
        "summary",
        "placeholder",
        "cite",
        "itemtype",
        "itemid",
        "itemprop",
        "about",
        "datatype",
    ];
    let is = |text: &str| attribute.eq_ignore_ascii_case(text.as_bytes());
    let element_is = |text: &str| element.eq_ignore_ascii_case(text.as_bytes());
    let starts =
        |bytes: &[u8]| attribute.get(..bytes.len()).is_some_and(|start| start.eq_ignore_ascii_case(bytes));
    TEXT.iter().any(|name| is(name))
        || is("action")
        || is("formaction")
        || is("href") && (element_is("a") || element_is("area"))
        || is("value") && !element_is("param")
        || is("content") && !element_is("meta")
        || starts(b"xmlns")
        || starts(b"aria-")
}

/// Attributes in which an address can stand without scheme and host, or several of them.
pub fn takes_addresses(element: &[u8], attribute: &[u8]) -> bool {
    const NAMES: [&str; 14] = [
        "src",
        "href",
        "ping",
        "code",
        "icon",
        "movie",
        "archive",
        "classid",
        "profile",
        "codebase",
        "manifest",
        "longdesc",
        "pluginspage",
        "attributionsrc",
    ];
    let is = |text: &str| attribute.eq_ignore_ascii_case(text.as_bytes());
    // Elements of Outlook: `o:href`, `r:href`, `altimage`.
    let of_outlook =
        || element.contains(&b':') && (attribute.ends_with(b"href") || is("altsrc") || is("altimage"));
    NAMES.iter().any(|name| is(name)) || is("value") && element.eq_ignore_ascii_case(b"param") || of_outlook()
}

/// Whether a value is a remote address and nothing else.
pub fn is_address(value: &str) -> bool {
    let value = value.trim();
    let starts = |with: &str| value.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    (starts("http://") || starts("https://") || starts("//")) && !value.contains(char::is_whitespace)
}

/// Whether an address is a script.
pub fn is_script(address: &str) -> bool {
    clean(address).get(..11).is_some_and(|scheme| scheme.eq_ignore_ascii_case("javascript:"))
}

/// The remote addresses that stand anywhere in a value.
pub fn remote_addresses(value: &str) -> Vec<String> {
    let value = clean(value);
    let pieces = value.split([' ', ',', ';', '"', '\'', '(', ')', '<', '>', '|']);
    let start =
        |piece: &str| ["//", "\\\\", "/\\", "\\/"].iter().filter_map(|slashes| piece.find(slashes)).min();
    pieces.filter_map(|piece| Some(piece.get(start(piece)?..)?.to_owned())).collect()
}

/// The address in the content of a refresh (WHATWG HTML, shared declarative refresh steps): behind the time,
/// `url=` may be missing, and so may the closing quote.
pub fn refresh_target(content: &str) -> Option<&str> {
    let rest = content
        .trim_start()
        .trim_start_matches(|character: char| character.is_ascii_digit() || character == '.');
    let rest = rest.trim_start();
    let rest = rest.strip_prefix([';', ',']).unwrap_or(rest).trim_start();
    let named = rest.get(..3).is_some_and(|name| name.eq_ignore_ascii_case("url"));
    let rest = match rest.get(3..).map(str::trim_start).and_then(|rest| rest.strip_prefix('=')) {
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
