//! What the address of a link says, whoever reads it. Nothing of it hangs on the message around the link, so it is kept
//! with the texts of [`copies`](super::copies).

use std::ops::Range;
use std::sync::Arc;

use super::catalogue::{Catalogue, Start, Vendor};
use super::class::Class;
use super::link;
use super::personal::attribute_value;
use super::token;
use super::url::Url;
use crate::same;

/// What the address of a link says. All of it says nothing where the link is not tracked, or does something for its
/// reader: signs them in, confirms an address, resets a password, accepts an invitation. Its token is what does that,
/// and the page that it names is where it leads afterwards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Whose it is.
    pub vendor: Option<Vendor>,
    /// Whether it has a token.
    pub is_opaque: bool,
    /// Whether another address stands in it.
    pub carries_address: bool,
    /// Whether path or host speak of a click.
    pub is_click: bool,
    /// Where it leads in the end, as it may stand in an attribute; as far as that stands in it and the link may lead
    /// straight there. What goes through nobody known, speaks of no click and stays within one site may need its token
    /// to do what it does.
    pub straight: Option<Vec<u8>>,
}

impl Facts {
    /// Reads the address of a link.
    pub fn of(url: &Url<'_>, catalogue: &Catalogue) -> Facts {
        Facts::with(catalogue.link(url.as_str()), url)
    }

    /// The same, where the address may begin as one before it did.
    fn after(url: &Url<'_>, catalogue: &Catalogue, last: &mut Start) -> Facts {
        Facts::with(catalogue.link_after(url.as_str(), last), url)
    }

    fn with(vendor: Option<Vendor>, url: &Url<'_>) -> Facts {
        let is_opaque = token::is_opaque(url);
        let target = link::target(url);
        if vendor.is_none() && (!is_opaque && target.is_none() || acts_for_its_reader(url)) {
            return Facts::default();
        }
        let is_click = speaks_of_a_click(url);
        let carries_address = target.is_some();
        let may_lead = |end: &String| vendor.is_some() || is_click || link::leads_elsewhere(url, end);
        let straight = target.and_then(link::end_of).filter(may_lead);
        let straight = straight.map(|end| attribute_value(&end));
        Facts { vendor, is_opaque, carries_address, is_click, straight }
    }

    /// Whether the link is one to be weighed.
    pub fn speak(&self) -> bool {
        self.vendor.is_some() || self.is_opaque || self.carries_address
    }
}

/// What is known of a link before its address is read.
#[derive(Clone, Debug)]
pub enum Known {
    /// What it says.
    All(Arc<Facts>),
    /// The same as the address of another copy, but that it may be somebody else's.
    AllButVendor(Arc<Facts>),
}

impl Known {
    /// What is known of the address that stands in the place of `of` in another copy.
    pub fn of_copy(&self, of: &Url<'_>, other: &Url<'_>) -> Option<Known> {
        let (Known::All(facts) | Known::AllButVendor(facts)) = self;
        differ_in_tokens(of, other).then(|| Known::AllButVendor(Arc::clone(facts)))
    }

    /// What is known of the address of a copy that has this token where another copy differed ([`differing_token`]).
    /// `None` where all of the address must be read.
    pub fn with_token(&self, token: &str, last: &mut LastToken) -> Option<Known> {
        let (Known::All(facts) | Known::AllButVendor(facts)) = self;
        last.is_silent(token).then(|| Known::AllButVendor(Arc::clone(facts)))
    }

    /// About how many bytes it takes.
    pub fn size(&self) -> usize {
        let (Known::All(facts) | Known::AllButVendor(facts)) = self;
        size_of::<Facts>() + facts.straight.as_ref().map_or(0, Vec::len)
    }

    /// What the address says, as far as that is not known. `last` is how one before it began.
    pub fn complete(
        known: Option<&Known>,
        url: &Url<'_>,
        catalogue: &Catalogue,
        last: &mut Start,
    ) -> Arc<Facts> {
        match known {
            Some(Known::All(facts)) => Arc::clone(facts),
            Some(Known::AllButVendor(facts)) => {
                let vendor = catalogue.link_after(url.as_str(), last);
                if vendor == facts.vendor { Arc::clone(facts) } else { Arc::new(Facts::with(vendor, url)) }
            }
            None => Arc::new(Facts::after(url, catalogue, last)),
        }
    }
}

/// The last token of a copy that was looked into: most of its links have the same one.
#[derive(Debug, Default)]
pub struct LastToken {
    token: Option<String>,
    is_silent: bool,
}

impl LastToken {
    /// Whether a token says nothing but that it is one.
    pub(super) fn is_silent(&mut self, token: &str) -> bool {
        if self.token.as_deref() != Some(token) {
            self.is_silent = is_silent_token(token.as_bytes())
                && link::is_like_a_token(token.as_bytes())
                && !link::offers_a_choice(token);
            self.token = Some(token.to_owned());
        }
        self.is_silent
    }
}

/// Whether two addresses are the same but for tokens, and say the same, but for whose they are.
fn differ_in_tokens(one: &Url<'_>, other: &Url<'_>) -> bool {
    one.host() == other.host()
        && (one.path() == other.path() || segments_differ_in_tokens(one.path(), other.path()))
        && (one.query() == other.query() || parameters_differ_in_tokens(one, other))
}

/// Where an address has the only segment of its path in which it differs from one that is as long and the same but
/// for tokens. `None` where they differ in anything else.
pub(super) fn differing_token(one: &Url<'_>, other: &Url<'_>) -> Option<Range<usize>> {
    let (start, path) = (one.host().len(), other.path());
    if one.path().len() != path.len() || one.query() != other.query() {
        return None;
    }
    let parts = |byte: &u8| matches!(byte, b'/' | b';' | b',');
    let head = same::at_start(one.path().as_bytes(), path.as_bytes());
    let tail = same::at_end(one.path().as_bytes(), path.as_bytes());
    let (before, behind) =
        (path.as_bytes().get(..head)?, path.as_bytes().get(path.len().checked_sub(tail)?..)?);
    let first = before.iter().rposition(parts)? + 1;
    let end = path.len() - tail + behind.iter().position(parts).unwrap_or(tail);
    let is_one = !path.as_bytes().get(first..end)?.iter().any(parts);
    is_one.then_some(start + first..start + end)
}

/// The same for paths. No token is a word or has one, nor is it part of an address.
fn segments_differ_in_tokens(one: &str, other: &str) -> bool {
    let parts = |byte: &u8| matches!(byte, b'/' | b';' | b',');
    let segment = |rest: &[u8]| rest.iter().position(parts).unwrap_or(rest.len());
    let address = link::address_in_path(other).unwrap_or_default();
    let (mut rest, mut there) = (one.as_bytes(), other.as_bytes());
    while rest != there {
        let same = same::at_start(rest, there);
        let start = rest.iter().take(same).rposition(parts).map_or(0, |end| end + 1);
        let (Some((_, from)), Some((_, from_there))) =
            (rest.split_at_checked(start), there.split_at_checked(start))
        else {
            return false;
        };
        let (Some((token, behind)), Some((token_there, behind_there))) =
            (from.split_at_checked(segment(from)), from_there.split_at_checked(segment(from_there)))
        else {
            return false;
        };
        let range = other.len() - from_there.len()..other.len() - behind_there.len();
        let is_apart = range.end <= address.start || address.end <= range.start;
        if !is_apart || !is_silent_token(token) || !is_silent_token(token_there) {
            return false;
        }
        (rest, there) = (behind, behind_there);
    }
    true
}

/// Whether a segment is a token in which nothing can be read.
fn is_silent_token(segment: &[u8]) -> bool {
    let Some(joints) = token::joints_in_token(segment) else { return false };
    joints == 0 && segment.len() > LONGEST_WORD
        || std::str::from_utf8(segment).is_ok_and(|segment| {
            !any_word(segment, |word| is_of_a_click(word) || is_of_an_act(word)) && !holds_a_sign_in(segment)
        })
}

/// The same for queries. No token begins as an address does, nor is it short enough to be a size.
fn parameters_differ_in_tokens(one: &Url<'_>, other: &Url<'_>) -> bool {
    let is_token = |value: &str| {
        value.len() > token::LONGEST_SIZE
            && token::is_opaque_piece(value.as_bytes())
            && !value.starts_with(link::STARTS_AN_ADDRESS)
    };
    let mut others = other.parameters();
    let are_alike = one.parameters().all(|(name, value)| {
        others.next().is_some_and(|(other_name, there)| {
            name == other_name && (value == there || is_token(value) && is_token(there))
        })
    });
    are_alike && others.next().is_none()
}

/// Whether path or host speak of a click.
fn speaks_of_a_click(url: &Url<'_>) -> bool {
    let label = url.host().split('.').next().unwrap_or_default();
    is_of_a_click(label.as_bytes()) || any_word(url.path(), is_of_a_click)
}

/// Whether path or names of parameters say that the link does something for its reader.
fn acts_for_its_reader(url: &Url<'_>) -> bool {
    let acts = |text: &str| any_word(text, is_of_an_act) || holds_a_sign_in(text);
    acts(url.path()) || url.parameters().any(|(name, _)| acts(name))
}

/// The length of the longest word that is looked for.
const LONGEST_WORD: usize = 14;

/// Whether any word of a text, letters and digits, is one that is looked for; they are given in lower case.
#[inline]
fn any_word(text: &str, is_one: impl Fn(&[u8]) -> bool) -> bool {
    let (mut word, mut length) = ([0; LONGEST_WORD], 0);
    let is_sought = |word: &[u8; LONGEST_WORD], length| word.get(..length).is_some_and(&is_one);
    for byte in text.bytes() {
        if Class::of(byte).is_alphanumeric() {
            word.get_mut(length).into_iter().for_each(|place| *place = byte.to_ascii_lowercase());
            length += 1;
        } else if is_sought(&word, length) {
            return true;
        } else {
            length = 0;
        }
    }
    is_sought(&word, length)
}

/// Whether a word in lower case speaks of a click.
fn is_of_a_click(word: &[u8]) -> bool {
    matches!(
        word,
        b"click"
            | b"clk"
            | b"redirect"
            | b"redir"
            | b"trk"
            | b"track"
            | b"cl"
            | b"lt"
            | b"ct"
            | b"ls"
            | b"linktrack"
            | b"clicktrack"
    )
}

/// Whether a word in lower case says that a link does something for its reader.
fn is_of_an_act(word: &[u8]) -> bool {
    matches!(
        word,
        b"login"
            | b"logon"
            | b"signin"
            | b"auth"
            | b"oauth"
            | b"oauth2"
            | b"authorize"
            | b"authorise"
            | b"authenticate"
            | b"sso"
            | b"saml"
            | b"verify"
            | b"verification"
            | b"confirm"
            | b"confirmation"
            | b"activate"
            | b"activation"
            | b"reset"
            | b"password"
            | b"passwort"
            | b"passwordless"
            | b"invite"
            | b"invitation"
            | b"magic"
            | b"otp"
            | b"validate"
            | b"checkout"
    )
}

/// Whether a text has "sign-in", or the like, in it.
fn holds_a_sign_in(text: &str) -> bool {
    let begins = |text: &str| ["sign", "log"].iter().any(|word| ends_with(text, word));
    memchr::memchr2_iter(b'-', b'_', text.as_bytes()).any(|joint| {
        let behind = text.as_bytes().get(joint + 1..joint + 3);
        behind.is_some_and(|behind| behind.eq_ignore_ascii_case(b"in"))
            && text.get(..joint).is_some_and(begins)
    })
}

/// Whether a text ends with a word, in whatever case.
fn ends_with(text: &str, word: &str) -> bool {
    let start = text.len().checked_sub(word.len());
    start.and_then(|start| text.get(start..)).is_some_and(|end| end.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(Catalogue::shipped);

    fn read(url: &str) -> Url<'_> {
        Url::read(url.into(), None).unwrap()
    }

    /// What is known of one address from another one, if anything.
    fn copied(one: &str, other: &str) -> Option<Facts> {
        let known = Known::All(Arc::new(Facts::of(&read(one), &CATALOGUE)));
        let known = known.of_copy(&read(one), &read(other))?;
        Some(Facts::clone(&Known::complete(Some(&known), &read(other), &CATALOGUE, &mut Start::default())))
    }

    /// The address of a third copy, which has this token where another one differs from the first, and what is known of
    /// it from that.
    fn with_token(one: &str, other: &str, token: &str) -> Option<(String, Facts)> {
        let known = Known::All(Arc::new(Facts::of(&read(one), &CATALOGUE)));
        known.of_copy(&read(one), &read(other))?;
        let differs = differing_token(&read(one), &read(other))?;
        let token = format!("{token:x<length$}", length = differs.len());
        let token = token.get(..differs.len())?;
        let mut third = read(one).as_str().to_owned();
        third.replace_range(differs.clone(), token);
        let third = format!("https://{third}");
        let url = read(&third);
        let known = Known::complete(
            Some(&known.with_token(token, &mut LastToken::default())?),
            &url,
            &CATALOGUE,
            &mut Start::default(),
        );
        assert_eq!(read(one).with_token(&third, &differs), Some(url.clone()));
        assert!(link::may_track(third.as_bytes()) && !link::offers_a_choice(url.tail()), "{third}");
        Some((third, Facts::clone(&known)))
    }

    #[test]
    fn what_a_third_address_says_is_known_from_where_two_differ() {
        let [one, other] = ["Zk3Qw9XvT2aB7LmN8pRsYd4H", "8pRsYd4HZk3Qw9XvT2aB7LmN"].map(|token| {
            format!("https://click.shop.example/c/{token}/0001?to=https%3A%2F%2Fshop.example%2Fa")
        });
        let (third, facts) = with_token(&one, &other, "T2aB7LmN8pRs_d4HZk3Qw9Xv").unwrap();
        assert_eq!(third, one.replace("Zk3Qw9XvT2aB7LmN8pRsYd4H", "T2aB7LmN8pRs_d4HZk3Qw9Xv"));
        assert_eq!(facts, Facts::of(&read(&third), &CATALOGUE));
        for token in
            ["unsubXvT2aB7LmN8pRsYd4Hq", "aaaaaaaaaaaaaaaaaaaaaaaa", "click-T2aB7LmN8pRsYd4Hqr", "a/b"]
        {
            assert!(with_token(&one, &other, token).is_none(), "{token}");
        }
        let longer = other.replace("0001", "00012");
        assert!(with_token(&one, &longer, "T2aB7LmN8pRs_d4HZk3Qw9Xv").is_none());
    }

    #[test]
    fn what_an_address_says_is_known_from_that_of_another_reader() {
        let check = |address: &str| {
            let [one, other] = ["Zk3Qw9XvT2aB7LmN8pRsYd4H", "8pRsYd4HZk3Qw9Xv_T2a-7LmN"]
                .map(|token| address.replace("TOKEN", token));
            let known = copied(&one, &other);
            assert!(
                known.as_ref().is_none_or(|facts| *facts == Facts::of(&read(&other), &CATALOGUE)),
                "{address}"
            );
            known.is_some()
        };
        for address in [
            "https://click.shop.example/c/TOKEN?to=https%3A%2F%2Fshop.example%2Fa",
            "https://t.shop.example/L0/https:%2F%2Fshop.example%2Fa/1/TOKEN/x=1",
            "https://t.shop.example/r?u=TOKEN&e=TOKEN&to=https://shop.example/",
            "https://t.shop.example/ls/click?upn=u001.TOKEN",
        ] {
            assert!(check(address), "{address}");
        }
        for address in [
            "https://t.shop.example/r/https://shop.example/a/TOKEN",
            "https://t.shop.example/r?to=https%3A%2F%2Fshop.example%2FTOKEN",
            "https://t.shop.example/login-TOKEN",
            "https://TOKEN.shop.example/a",
            "https://t.shop.example/%TOKEN",
            "https://t.shop.example/a?TOKEN=1",
            "https://t.shop.example/TOKEN.png",
        ] {
            assert!(!check(address), "{address}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]
        #[test]
        fn what_is_known_from_another_address_is_what_is_read(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "a", "click", "c", "/", "/", "/", ";", ",", "?", "&", "&", "=", "u=", "to=", "w=", "login", "sign-in",
                "https:", "//", "https://shop.example/", "https%3A%2F%2Fshop.example%2F", "http:%2f%2Fb.example",
                ".", "TOKEN", "TOKEN", "TOKEN", "OTHER", "-", "_", "%", "%2F", "h", "ttps://x.example", "png",
                "2026", "track",
            ]), 1..14),
            tokens in prop::collection::vec(
                "[A-Za-z0-9]{12,26}|[a-f0-9]{8}-[a-f0-9]{4}|[0-9]{5,14}|[a-z]{1,4}|ht|http|",
                4,
            ),
        ) {
            let address = format!("https://t.shop.example/{}", pieces.concat());
            let with = |one: &str, other: &str| address.replace("TOKEN", one).replace("OTHER", other);
            let (one, other) = (with(&tokens[0], &tokens[1]), with(&tokens[2], &tokens[3]));
            if let Some(known) = copied(&one, &other) {
                prop_assert_eq!(known, Facts::of(&read(&other), &CATALOGUE), "{} {}", one, other);
            }
            if let Some((third, known)) = with_token(&one, &other, &tokens[3]) {
                prop_assert_eq!(known, Facts::of(&read(&third), &CATALOGUE), "{} {} {}", one, other, third);
            }
        }
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
}
