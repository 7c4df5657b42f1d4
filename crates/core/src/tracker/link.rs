//! Links that report who followed them (N3): which they are, where they lead, and which are never touched.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::LazyLock;

use super::class::{Class, Words, runs};
use super::url::{Url, percent_decoded};

/// How many addresses are unwrapped from one another.
const MAX_REDIRECTS: usize = 4;
/// What an address starts with, encoded or not.
pub(super) const STARTS_AN_ADDRESS: [char; 3] = ['h', 'H', '%'];
/// The length of the longest scheme, with colon and slashes.
const SCHEME: usize = 8;
/// The length of the shortest token.
const SHORTEST_TOKEN: usize = 14;

/// Words of a choice, in lower case as far as they are ASCII: all of them are looked for at once.
static WORDS: LazyLock<Words> = LazyLock::new(|| {
    const WORDS: [&str; 26] = [
        "unsub",
        "optout",
        "opt-out",
        "opt_out",
        "opt out",
        "preference",
        "consent",
        "subscription",
        "désabonn",
        "dÉsabonn",
        "desabon",
        "désinscri",
        "dÉsinscri",
        "desinscri",
        "préférence",
        "prÉfÉrence",
        "abmeld",
        "abbestell",
        "einstellung",
        "einwillig",
        "disiscri",
        "cancellati",
        "preferenze",
        "baja",
        "uitschrijv",
        "afmeld",
    ];
    Words::of(WORDS.map(str::as_bytes))
});

/// A quick look at an address as written: whether a token or another address could stand in it at all.
pub fn may_track(address: &[u8]) -> bool {
    let rest = address.get(SCHEME..).unwrap_or_default();
    let mut runs = runs(rest, SHORTEST_TOKEN, |byte| Class::of(byte).is_of_a_token());
    runs.any(is_like_a_token) || speaks_of_http(rest)
}

/// The same of one run of letters, digits and joints.
pub fn is_like_a_token(run: &[u8]) -> bool {
    run.len() >= SHORTEST_TOKEN && run.iter().any(u8::is_ascii_digit)
}

fn speaks_of_http(text: &[u8]) -> bool {
    memchr::memchr2_iter(b'h', b'H', text)
        .any(|at| text.get(at..at + 4).is_some_and(|word| word.eq_ignore_ascii_case(b"http")))
}

/// A quick look at what follows a scheme: whether another address could stand in it, encoded or not.
fn may_hold_an_address(rest: &[u8]) -> bool {
    memchr::memchr(b'%', rest).is_some() || speaks_of_http(rest)
}

/// Whether an address or a link's text offers the reader a choice: to unsubscribe, to set preferences, to
/// consent. Such a link is never counted and never touched.
pub fn offers_a_choice(text: &str) -> bool {
    WORDS.stand_in(text)
}

/// The address that stands whole in a parameter of `url`, or in its path: where a redirect leads, or what a
/// wrapped picture shows.
pub fn target(url: &Url<'_>) -> Option<String> {
    let in_query = url.parameters().find_map(|(_, value)| whole_address(value));
    in_query.or_else(|| in_path(url.path()))
}

/// Where a tracked link leads in the end, as far as that stands in it. `None` where it does not stand there, or
/// would let the reader choose something.
pub fn destination(url: &Url<'_>) -> Option<String> {
    target(url).and_then(end_of)
}

/// Where a link with this target leads in the end: a redirect may lead to another one. `None` where it would let
/// the reader choose something.
pub fn end_of(target: String) -> Option<String> {
    let further = |target: &String| {
        let could_hold_another = may_hold_an_address(target.as_bytes().get(SCHEME..).unwrap_or_default());
        let url = could_hold_another.then(|| Url::read(Cow::Borrowed(target), None)).flatten()?;
        self::target(&url)
    };
    let last = std::iter::successors(Some(target), further).take(MAX_REDIRECTS).last();
    last.filter(|target| !offers_a_choice(target))
}

/// An address behind the first slashes of a path.
fn in_path(path: &str) -> Option<String> {
    whole_address(path.get(address_in_path(path)?)?)
}

/// Where an address begins in a path, to its end; or to the end of its segment, where its own slashes are encoded.
pub(super) fn address_in_path(path: &str) -> Option<Range<usize>> {
    const STARTS: [&[u8]; 6] =
        [b"https://", b"http://", b"https%3a%2f%2f", b"http%3a%2f%2f", b"https:%2f%2f", b"http:%2f%2f"];
    let starts = |at: &usize| {
        let rest = path.as_bytes().get(*at..).unwrap_or_default();
        STARTS
            .iter()
            .any(|start| rest.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start)))
    };
    let start = memchr::memchr2_iter(b'h', b'H', path.as_bytes()).find(starts)?;
    let segment = path.get(start..)?.split('/').next().unwrap_or_default();
    let end = if segment.contains('%') { start + segment.len() } else { path.len() };
    Some(start..end)
}

/// A value that is an http(s) address with a host, percent-encoded once or twice or not at all.
fn whole_address(value: &str) -> Option<String> {
    // Nothing else becomes a scheme by decoding.
    if !value.starts_with(STARTS_AN_ADDRESS) {
        return None;
    }
    let mut text: Cow<'_, str> = Cow::Borrowed(value);
    for _ in 0..3 {
        let starts =
            |scheme: &str| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
        if starts("https://") || starts("http://") {
            let is_unsafe = |byte: u8| !byte.is_ascii_graphic() || matches!(byte, b'<' | b'>' | b'"' | b'`');
            // All bytes are looked at, which is quicker than to stop at one.
            let is_safe = !text.bytes().fold(false, |any, byte| any | is_unsafe(byte));
            return (is_safe && Url::read(text.as_ref().into(), None).is_some()).then(|| text.into_owned());
        }
        if !text.contains('%') {
            return None;
        }
        text = Cow::Owned(percent_decoded(&text).into_owned());
    }
    None
}

/// Whether a link that leads to `end` leads to another site than the one that it asks.
pub fn leads_elsewhere(url: &Url<'_>, end: &str) -> bool {
    fn site(host: &str) -> &str {
        psl::domain_str(host).unwrap_or(host)
    }
    Url::read(Cow::Borrowed(end), None).is_some_and(|end| site(end.host()) != site(url.host()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_to_another_site_is_told_apart_from_one_within() {
        let leads = |url: &str| {
            let url = Url::read(url.into(), None).unwrap();
            destination(&url).is_some_and(|end| leads_elsewhere(&url, &end))
        };
        assert!(leads("https://t.vendor.example/r?u=1&to=https%3A%2F%2Fwww.shop.example%2Fa"));
        assert!(!leads("https://www.shop.example/orders/7?back=https://shop.example/orders"));
        assert!(!leads("https://t.vendor.example/r?u=1"));
    }

    fn check(url: &str) -> Option<String> {
        target(&Url::read(url.into(), None).unwrap())
    }

    #[test]
    fn a_target_is_found_where_it_stands_whole() {
        let shop = Some("https://shop.example/a?b=c".to_owned());
        assert_eq!(check("https://t.example/c?u=1&to=https%3A%2F%2Fshop.example%2Fa%3Fb%3Dc"), shop);
        assert_eq!(check("https://t.example/c?to=https%253A%252F%252Fshop.example%252Fa%253Fb%253Dc"), shop);
        assert_eq!(check("https://t.example/CL0/https:%2F%2Fshop.example%2Fa%3Fb=c/1/x"), shop);
        assert_eq!(
            check("https://t.example/r/https://shop.example/a"),
            Some("https://shop.example/a".to_owned())
        );
        assert_eq!(check("https://t.example/c?u=1"), None);
        assert_eq!(check("https://t.example/c?to=javascript:alert(1)"), None);
        assert_eq!(
            check("https://t.example/c?to=https://shop.example/%22onload"),
            Some("https://shop.example/%22onload".to_owned())
        );
    }

    #[test]
    fn links_that_offer_a_choice_are_known_by_address_or_text() {
        for text in [
            "/unsubscribe?u=1",
            "Se désabonner",
            "Newsletter abmelden",
            "/email-preferences",
            "Uitschrijven",
            "PRÉFÉRENCES",
        ] {
            assert!(offers_a_choice(text), "{text}");
        }
        assert!(!offers_a_choice("/news/article-7"));
    }
}
