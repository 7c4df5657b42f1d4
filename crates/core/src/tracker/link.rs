//! Links that report who followed them (N3): which they are, where they lead, and which are never touched.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::token::Class;
use super::url::{Url, percent_decoded};

/// How many addresses are unwrapped from one another.
const MAX_REDIRECTS: usize = 4;

/// A quick look at an address as written: whether a token or another address could stand in it at all.
pub fn may_track(address: &[u8]) -> bool {
    const SCHEME: usize = 8;
    const TOKEN: usize = 14;
    let rest = address.get(SCHEME..).unwrap_or_default();
    let of_a_token = |byte: &&u8| Class::of(**byte).is_of_a_token();
    // A token as long as that covers one of each `TOKEN` bytes.
    let mut probe = TOKEN - 1;
    while let Some((before, behind)) = rest.split_at_checked(probe).filter(|(_, behind)| !behind.is_empty()) {
        let tail = behind.iter().take_while(of_a_token).count();
        let head = if tail == 0 { 0 } else { before.iter().rev().take_while(of_a_token).count() };
        let token = rest.get(probe - head..probe + tail).unwrap_or_default();
        if token.len() >= TOKEN && token.iter().any(|byte| byte.is_ascii_digit()) {
            return true;
        }
        probe += tail + TOKEN;
    }
    memchr::memchr2_iter(b'h', b'H', rest)
        .any(|at| rest.get(at..at + 4).is_some_and(|word| word.eq_ignore_ascii_case(b"http")))
}

/// Whether an address or a link's text offers the reader a choice: to unsubscribe, to set preferences, to
/// consent. Such a link is never counted and never touched.
pub fn offers_a_choice(text: &str) -> bool {
    const WORDS: [&str; 24] = [
        "unsubscribe",
        "unsub",
        "optout",
        "opt-out",
        "opt_out",
        "opt out",
        "preference",
        "consent",
        "subscription",
        "désabonn",
        "desabon",
        "désinscri",
        "desinscri",
        "préférence",
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
    static FINDERS: LazyLock<Vec<Finder<'static>>> =
        LazyLock::new(|| WORDS.iter().map(|word| Finder::new(*word)).collect());
    let text = text.to_lowercase();
    FINDERS.iter().any(|finder| finder.find(text.as_bytes()).is_some())
}

/// The address that stands whole in a parameter of `url`, or in its path: where a redirect leads, or what a
/// wrapped picture shows.
pub fn target(url: &Url<'_>) -> Option<String> {
    let mut values =
        url.query().split(['&', ';']).map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value));
    let in_query = values.find_map(whole_address);
    in_query.or_else(|| in_path(url.path()))
}

/// Where a tracked link leads in the end, as far as that stands in it: a redirect may lead to another one. `None`
/// where it does not stand there, or would let the reader choose something.
pub fn destination(url: &Url<'_>) -> Option<String> {
    let further = |target: &String| Url::read(Cow::Borrowed(target), None).and_then(|url| self::target(&url));
    let last = std::iter::successors(target(url), further).take(MAX_REDIRECTS).last();
    last.filter(|target| !offers_a_choice(target))
}

/// An address behind the first slashes of a path: the rest of it, or one segment where its own slashes are
/// encoded.
fn in_path(path: &str) -> Option<String> {
    const STARTS: [&str; 6] =
        ["https://", "http://", "https%3a%2f%2f", "http%3a%2f%2f", "https:%2f%2f", "http:%2f%2f"];
    let at = STARTS.iter().filter_map(|start| find_ignoring_case(path, start)).min().filter(|at| *at > 0)?;
    let rest = path.get(at..)?;
    let encoded = rest.split('/').next().unwrap_or_default();
    whole_address(if encoded.contains('%') { encoded } else { rest })
}

/// A value that is an http(s) address with a host, percent-encoded once or twice or not at all.
fn whole_address(value: &str) -> Option<String> {
    // Nothing else becomes a scheme by decoding.
    if !value.starts_with(['h', 'H', '%']) {
        return None;
    }
    let mut text: Cow<'_, str> = Cow::Borrowed(value);
    for _ in 0..3 {
        let starts =
            |scheme: &str| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
        if starts("https://") || starts("http://") {
            let safe = text
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>' | b'"' | b'`'));
            return (safe && Url::read(text.as_ref().into(), None).is_some()).then(|| text.into_owned());
        }
        if !text.contains('%') {
            return None;
        }
        text = Cow::Owned(percent_decoded(&text).into_owned());
    }
    None
}

fn find_ignoring_case(text: &str, word: &str) -> Option<usize> {
    text.as_bytes().windows(word.len()).position(|window| window.eq_ignore_ascii_case(word.as_bytes()))
}

/// Whether path or query speak of a click.
pub fn speaks_of_a_click(url: &Url<'_>) -> bool {
    const WORDS: [&str; 12] = [
        "click",
        "clk",
        "redirect",
        "redir",
        "trk",
        "track",
        "cl",
        "lt",
        "ct",
        "ls",
        "linktrack",
        "clicktrack",
    ];
    let path = url.path();
    let host = url.host().split('.').next().unwrap_or_default();
    path.split(|character: char| !character.is_ascii_alphanumeric())
        .chain([host])
        .any(|word| WORDS.iter().any(|known| word.eq_ignore_ascii_case(known)))
}

/// Whether a link leads in the end to another site than the one that it asks.
pub fn leads_elsewhere(url: &Url<'_>) -> bool {
    let site = |host: &str| psl::domain_str(host).unwrap_or(host).to_owned();
    let end = destination(url);
    let end = end.as_deref().and_then(|end| Url::read(Cow::Borrowed(end), None));
    end.is_some_and(|end| site(end.host()) != site(url.host()))
}

/// Whether a link does something for its reader: it signs them in, confirms an address, resets a password, accepts
/// an invitation. Its token is what does that, and the page that it names is where it leads afterwards, so neither
/// says that it is tracked.
pub fn acts_for_its_reader(url: &Url<'_>) -> bool {
    const WORDS: [&str; 27] = [
        "login",
        "logon",
        "signin",
        "auth",
        "oauth",
        "oauth2",
        "authorize",
        "authorise",
        "authenticate",
        "sso",
        "saml",
        "verify",
        "verification",
        "confirm",
        "confirmation",
        "activate",
        "activation",
        "reset",
        "password",
        "passwort",
        "passwordless",
        "invite",
        "invitation",
        "magic",
        "otp",
        "validate",
        "checkout",
    ];
    let is_one = |word: &str| WORDS.iter().any(|known| word.eq_ignore_ascii_case(known));
    let within = |text: &str| {
        text.split(|character: char| !character.is_ascii_alphanumeric()).any(is_one)
            || ["sign-in", "sign_in", "log-in", "log_in"]
                .iter()
                .any(|word| find_ignoring_case(text, word).is_some())
    };
    let mut names =
        url.query().split(['&', ';']).map(|pair| pair.split_once('=').map_or("", |(name, _)| name));
    within(url.path()) || names.any(within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_to_another_site_is_told_apart_from_one_within() {
        let leads = |url: &str| leads_elsewhere(&Url::read(url.into(), None).unwrap());
        assert!(leads("https://t.vendor.example/r?u=1&to=https%3A%2F%2Fwww.shop.example%2Fa"));
        assert!(!leads("https://www.shop.example/orders/7?back=https://shop.example/orders"));
        assert!(!leads("https://t.vendor.example/r?u=1"));
    }

    #[test]
    fn a_link_that_acts_for_its_reader_is_known_by_its_path_and_names() {
        let acts = |url: &str| acts_for_its_reader(&Url::read(url.into(), None).unwrap());
        for url in [
            "https://shop.example/login?token=Zk3Qw9XvT2aB7LmN8pRsYd4H&return_to=https%3A%2F%2Fshop.example%2Fa",
            "https://shop.example/users/password/edit?reset_password_token=abc&next=https://shop.example/",
            "https://id.shop.example/sign-in/abc?to=https://shop.example/",
            "https://shop.example/Verify/abc",
            "https://shop.example/a?otp=1",
        ] {
            assert!(acts(url), "{url}");
        }
        for url in [
            "https://click.shop.example/r?u=login&to=https%3A%2F%2Fshop.example%2Flogin",
            "https://a.example/authors",
        ] {
            assert!(!acts(url), "{url}");
        }
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
        for text in
            ["/unsubscribe?u=1", "Se désabonner", "Newsletter abmelden", "/email-preferences", "Uitschrijven"]
        {
            assert!(offers_a_choice(text), "{text}");
        }
        assert!(!offers_a_choice("/news/article-7"));
    }
}
