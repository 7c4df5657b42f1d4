//! Links in plain text, which mail programs make clickable.
//!
//! Nothing marks where such an address ends, so it ends as mail programs take it to: before a blank, before what
//! no address contains, and before the punctuation of the sentence that it stands in. In angle brackets it may
//! be broken over several lines (RFC 3986, appendix C).

use std::borrow::Cow;
use std::ops::Range;

use super::carrier::Carrier;
use super::link;
use super::scan::{Found, Links, Place, Removal};
use super::signal::{Signal, Signals};
use super::style::Size;
use super::url::Url;

/// How much of the text around an address is read for what it offers.
const AROUND: usize = 200;
/// The longest address in angle brackets.
const MAX_BRACKETED: usize = 4096;

/// The links of a plain text that may report who followed them.
pub fn places<'a>(text: &'a [u8], links: Links) -> Found<'a> {
    let mut found = Found::default();
    let mut before = 0;
    for at in memchr::memmem::find_iter(text, b"://") {
        // What lies within an address that was read is no other one.
        let Some(address) = address(text, at).filter(|range| range.start >= before) else { continue };
        let around = before..address.end;
        before = address.end;
        let written = text.get(address.clone()).unwrap_or_default();
        if !link::may_track(written) {
            continue;
        }
        found.links += 1;
        if links != Links::Note {
            continue;
        }
        let Some(url) = url(written) else { continue };
        let mut signals = Signals::default();
        signals.add_if(Signal::Choice, offers_a_choice(text, &around, &address, &url));
        found.places.push(Place {
            carrier: Carrier::Anchor,
            url,
            range: address.clone(),
            written: Some(address),
            removal: Removal::Nothing,
            size: Size::Visible,
            signals,
            picture: None,
            link: None,
        });
    }
    found
}

/// An address as it stands in plain text, without the line ends that break it.
pub fn joined(written: &[u8]) -> Option<Cow<'_, str>> {
    let text = std::str::from_utf8(written).ok()?;
    Some(match text.contains(char::is_whitespace) {
        true => Cow::Owned(text.split_whitespace().collect()),
        false => Cow::Borrowed(text),
    })
}

fn url(written: &[u8]) -> Option<Url<'_>> {
    Url::read(joined(written)?, None)
}

/// Where the address stands whose scheme ends at `at`.
fn address(text: &[u8], at: usize) -> Option<Range<usize>> {
    let scheme = [&b"https"[..], b"http"].into_iter().find(|name| {
        let head = text.get(at.saturating_sub(name.len())..at).unwrap_or_default();
        head.eq_ignore_ascii_case(name)
    })?;
    let start = at.checked_sub(scheme.len())?;
    let previous = start.checked_sub(1).and_then(|before| text.get(before));
    if previous.is_some_and(u8::is_ascii_alphanumeric) {
        return None;
    }
    let bracketed = (previous == Some(&b'<')).then(|| bracketed(text, start)).flatten();
    let range = bracketed.unwrap_or_else(|| start..bare_end(text, start));
    (range.end > at + 3).then_some(range)
}

/// Up to the closing bracket, where nothing but line ends and what indents a line breaks the address.
fn bracketed(text: &[u8], start: usize) -> Option<Range<usize>> {
    let rest = text.get(start..)?;
    let length = memchr::memchr2(b'>', b'<', rest.get(..rest.len().min(MAX_BRACKETED))?)?;
    let within = rest.get(..length)?;
    let is_whole = rest.get(length) == Some(&b'>')
        && within.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace())
        && within.split(|byte| *byte == b'\n').enumerate().all(|(number, line)| {
            let line = if number > 0 { line.trim_ascii_start() } else { line };
            !line.trim_ascii_end().contains(&b' ') && !line.is_empty()
        });
    is_whole.then_some(start..start + length)
}

/// Before what no address contains, and before the punctuation of its sentence.
fn bare_end(text: &[u8], start: usize) -> usize {
    let rest = text.get(start..).unwrap_or_default();
    let ends_it = |byte: &u8| matches!(byte, b'<' | b'>' | b'"' | b'`' | b'\\' | b'^' | b'{' | b'|' | b'}');
    let is_of_it = |byte: &&u8| byte.is_ascii_graphic() && !ends_it(byte);
    let mut length = rest.iter().take_while(is_of_it).count();
    while let Some(last) = length.checked_sub(1).and_then(|last| rest.get(last)) {
        let within = rest.get(..length).unwrap_or_default();
        let count = |wanted: u8| within.iter().filter(|byte| **byte == wanted).count();
        let is_outside = match last {
            b'.' | b',' | b';' | b':' | b'!' | b'?' | b'\'' | b'*' => true,
            b')' => count(b')') > count(b'('),
            b']' => count(b']') > count(b'['),
            _ => false,
        };
        if !is_outside {
            break;
        }
        length -= 1;
    }
    start + length
}

/// Whether the address, the words before it or those behind it on its line offer the reader a choice.
fn offers_a_choice(text: &[u8], around: &Range<usize>, address: &Range<usize>, url: &Url<'_>) -> bool {
    let start = around.start.max(address.start.saturating_sub(AROUND));
    let before = text.get(start..address.start).unwrap_or_default();
    // Words of another paragraph are about something else.
    let before = last_paragraph(before);
    let behind = text.get(address.end..).unwrap_or_default();
    let behind = behind.get(..behind.len().min(AROUND)).unwrap_or_default();
    let end = memchr::memchr2(b'\r', b'\n', behind).unwrap_or(behind.len());
    let end = memchr::memmem::find(behind, b"://").map_or(end, |next| next.min(end));
    let behind = behind.get(..end).unwrap_or_default();
    [before, behind].into_iter().any(|words| link::offers_a_choice(&String::from_utf8_lossy(words)))
        || link::offers_a_choice(url.tail())
}

fn last_paragraph(text: &[u8]) -> &[u8] {
    let at = ["\n\r\n", "\n\n"].iter().filter_map(|gap| {
        let at = memchr::memmem::rfind(text, gap.as_bytes())?;
        // A heading with a blank line behind it belongs to the address.
        let rest = text.get(at + gap.len()..)?;
        rest.iter().any(|byte| !byte.is_ascii_whitespace()).then_some(at + gap.len())
    });
    at.max().and_then(|at| text.get(at..)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Vec<(&str, bool)> {
        let places = places(text.as_bytes(), Links::Note).places;
        let found =
            places.iter().map(|place| (&text[place.range.clone()], place.signals.has(Signal::Choice)));
        found.collect()
    }

    const LINK: &str = "https://u1.ct.sendgrid.net/ls/click?upn=u001.Zk3Qw9XvT2aB7LmN8pRsYd4HcJ6";

    #[test]
    fn an_address_ends_where_its_sentence_goes_on() {
        for (before, behind) in [
            ("", ""),
            ("See ", "."),
            ("(", ")"),
            ("[Sale](", ")."),
            ("<", ">"),
            ("\"", "\","),
            ("", "\r\nMore"),
        ] {
            let text = format!("{before}{LINK}{behind}");
            assert_eq!(check(&text), [(LINK, false)], "{text}");
        }
        let in_brackets = format!("{LINK}(a)");
        assert_eq!(check(&in_brackets), [(in_brackets.as_str(), false)]);
        assert_eq!(check("xhttps://t.example/ls/click?upn=u001.Zk3Qw9XvT2aB7LmN8"), []);
        assert_eq!(check("http://"), []);
        assert_eq!(check("See https://shop.example/news."), []);
    }

    #[test]
    fn an_address_in_angle_brackets_may_be_broken() {
        let (head, tail) = LINK.split_at(50);
        let text = format!("Sale <{head}\r\n {tail}> now");
        let places = places(text.as_bytes(), Links::Note).places;
        let [place] = &places[..] else { panic!("{places:?}") };
        assert_eq!(place.url.as_str(), LINK.strip_prefix("https://").unwrap());
        assert_eq!(joined(text[place.range.clone()].as_bytes()).unwrap(), LINK);
        // A bracket that closes elsewhere is none of an address.
        assert_eq!(check(&format!("<{LINK} and more>")), [(LINK, false)]);
    }

    #[test]
    fn words_around_an_address_say_that_it_offers_a_choice() {
        for (text, wanted) in [
            (format!("To unsubscribe, follow\r\n{LINK}\r\n"), true),
            (format!("{LINK} (abmelden)"), true),
            (format!("Se désabonner :\r\n\r\n{LINK}"), true),
            (format!("Unsubscribe in your account.\r\n\r\nOur sale: {LINK}"), false),
            (format!("{LINK}\r\nTo unsubscribe, answer."), false),
        ] {
            assert_eq!(check(&text), [(LINK, wanted)], "{text}");
        }
        let two = format!("Unsubscribe: {LINK}\r\nSale: {LINK}\r\n");
        assert_eq!(check(&two), [(LINK, true), (LINK, false)]);
    }
}
