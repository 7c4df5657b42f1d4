//! Tokens in the addresses that we put into mail: who may say what on the preference page, which pixel a gate
//! leads to, whose day of last open is meant, which campaign is counted.
//!
//! Promised: a token is sealed with its kind, so that none can be forged, altered, or used as one of another
//! kind. It shows nothing of what it holds, and holds no address: only its keyed hash, and for the page a
//! hint from which nobody can tell the address. A token never ends; that what it allows ends is for who opens
//! it to say ([`Token::issued`]).

use std::fmt;
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::consent::seal::{NotOpened, Sealer};
use crate::consent::{Controller, Person, StoreKey, Timestamp};

/// The longest address that is put into mail, in bytes: longer ones are cut off by some mail clients.
pub const MAX_URL: usize = 1999;
/// The format of tokens; their first byte.
const VERSION: u8 = 1;
/// What is not sealed: version and key number.
const HEAD: usize = 2;

/// What a token is for. Its letter stands in the path, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// The preference page of one person: `/c/`.
    Preference,
    /// A gated pixel: `/p/`.
    Gate,
    /// A gated link: `/l/`.
    Link,
    /// The day of last open: `/d/`.
    Day,
    /// A pixel that a whole campaign shares: `/s/`.
    Shared,
}

impl TokenKind {
    /// Every kind.
    pub const ALL: [TokenKind; 5] =
        [TokenKind::Preference, TokenKind::Gate, TokenKind::Link, TokenKind::Day, TokenKind::Shared];

    /// The letter in the path.
    pub const fn letter(self) -> char {
        match self {
            TokenKind::Preference => 'c',
            TokenKind::Gate => 'p',
            TokenKind::Link => 'l',
            TokenKind::Day => 'd',
            TokenKind::Shared => 's',
        }
    }
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// Lets a person say what they agree to.
    Preference {
        /// Who has it.
        holder: Holder,
        /// The address as far as the page shows it, such as `a…e@e….org`.
        hint: String,
    },
    /// Leads to a pixel of somebody else, as long as the person agrees to that.
    Gate {
        /// Who has it.
        holder: Holder,
        /// The kind of mail, whose purposes must all be agreed to.
        mailstream: String,
        /// The top-level domain of the address, which can make the rules stricter (N5).
        country: String,
        /// The pixel's own address, absolute.
        target: String,
    },
    /// Leads to a page: through the link that stood there as long as the person agrees to that, else straight.
    Link {
        /// Who has it.
        holder: Holder,
        /// The kind of mail.
        mailstream: String,
        /// As for a gate.
        country: String,
        /// The page, absolute.
        target: String,
        /// The link that stood there, absolute.
        original: String,
    },
    /// Marks the day of the last open (N11).
    Day {
        /// Who has it.
        holder: Holder,
        /// The kind of mail.
        mailstream: String,
        /// As for a gate.
        country: String,
    },
    /// Counts an open of somebody (N14). The same for everybody.
    Shared {
        /// Whose mail it is.
        controller: Controller,
        /// The kind of mail.
        mailstream: String,
        /// The campaign.
        campaign: [u8; 8],
    },
}

/// Whose a personal token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Towards whom.
    pub controller: Controller,
    /// The person.
    pub person: Person,
    /// When it was sealed.
    pub issued: Timestamp,
}

impl Token {
    /// What it is for.
    pub fn kind(&self) -> TokenKind {
        match self {
            Token::Preference { .. } => TokenKind::Preference,
            Token::Gate { .. } => TokenKind::Gate,
            Token::Link { .. } => TokenKind::Link,
            Token::Day { .. } => TokenKind::Day,
            Token::Shared { .. } => TokenKind::Shared,
        }
    }

    /// When it was sealed; `None` for what everybody shares.
    pub fn issued(&self) -> Option<Timestamp> {
        match self {
            Token::Preference { holder, .. }
            | Token::Gate { holder, .. }
            | Token::Link { holder, .. }
            | Token::Day { holder, .. } => Some(holder.issued),
            Token::Shared { .. } => None,
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        match self {
            Token::Preference { holder, hint } => {
                holder.encode(&mut out);
                put(&mut out, hint);
            }
            Token::Gate { holder, mailstream, country, target } => {
                holder.encode(&mut out);
                put(&mut out, mailstream);
                put(&mut out, country);
                out.extend_from_slice(target.as_bytes());
            }
            Token::Link { holder, mailstream, country, target, original } => {
                holder.encode(&mut out);
                put(&mut out, mailstream);
                put(&mut out, country);
                // No address in mail is as long as that.
                let length = u16::try_from(target.len()).unwrap_or(u16::MAX);
                out.extend_from_slice(&length.to_le_bytes());
                out.extend_from_slice(target.as_bytes());
                out.extend_from_slice(original.as_bytes());
            }
            Token::Day { holder, mailstream, country } => {
                holder.encode(&mut out);
                put(&mut out, mailstream);
                put(&mut out, country);
            }
            Token::Shared { controller, mailstream, campaign } => {
                put(&mut out, controller.as_str());
                put(&mut out, mailstream);
                out.extend_from_slice(campaign);
            }
        }
        out
    }

    fn decode(kind: TokenKind, bytes: &[u8]) -> Option<Token> {
        let mut rest = bytes;
        let token = match kind {
            TokenKind::Preference => {
                Token::Preference { holder: Holder::decode(&mut rest)?, hint: take(&mut rest)? }
            }
            TokenKind::Gate => {
                let holder = Holder::decode(&mut rest)?;
                let (mailstream, country) = (take(&mut rest)?, take(&mut rest)?);
                let target = String::from_utf8(std::mem::take(&mut rest).to_vec()).ok()?;
                Token::Gate { holder, mailstream, country, target }
            }
            TokenKind::Link => {
                let holder = Holder::decode(&mut rest)?;
                let (mailstream, country) = (take(&mut rest)?, take(&mut rest)?);
                let length = usize::from(u16::from_le_bytes(array(&mut rest)?));
                let (target, original) = std::mem::take(&mut rest).split_at_checked(length)?;
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
                Token::Link { holder, mailstream, country, target: text(target)?, original: text(original)? }
            }
            TokenKind::Day => Token::Day {
                holder: Holder::decode(&mut rest)?,
                mailstream: take(&mut rest)?,
                country: take(&mut rest)?,
            },
            TokenKind::Shared => Token::Shared {
                controller: take(&mut rest)?.parse().ok()?,
                mailstream: take(&mut rest)?,
                campaign: array(&mut rest)?,
            },
        };
        rest.is_empty().then_some(token)
    }
}

impl Holder {
    fn encode(&self, out: &mut Vec<u8>) {
        put(out, self.controller.as_str());
        out.extend_from_slice(&self.person.0);
        out.extend_from_slice(&self.issued.0.to_le_bytes());
    }

    fn decode(rest: &mut &[u8]) -> Option<Holder> {
        let controller = take(rest)?.parse().ok()?;
        let person = Person(array(rest)?);
        let issued = Timestamp(i64::from_le_bytes(array(rest)?));
        Some(Holder { controller, person, issued })
    }
}

/// A text behind its length. Nothing that stands in a token is longer than 255 bytes, but a target, which
/// stands last.
fn put(out: &mut Vec<u8>, text: &str) {
    let end = text.floor_char_boundary(usize::from(u8::MAX));
    let text = text.get(..end).unwrap_or_default();
    out.push(u8::try_from(text.len()).unwrap_or(0));
    out.extend_from_slice(text.as_bytes());
}

fn take(rest: &mut &[u8]) -> Option<String> {
    let (&length, tail) = rest.split_first()?;
    let (text, tail) = tail.split_at_checked(usize::from(length))?;
    *rest = tail;
    String::from_utf8(text.to_vec()).ok()
}

fn array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*bytes)
}

/// Seals tokens under the newest key, and opens those sealed under any.
///
/// All keys are derived from one secret by their number, so that raising the number is all that a new key
/// takes, and links in old mail go on withdrawing for as long as the secret is kept.
pub struct Mint {
    secret: StoreKey,
    sealers: Box<[OnceLock<Sealer>]>,
}

impl fmt::Debug for Mint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mint(…)")
    }
}

impl Mint {
    /// The label under which the store gives the secret.
    pub const LABEL: &str = "tokens in mail";

    /// A mint whose keys hang on this secret.
    pub fn new(secret: StoreKey) -> Mint {
        Mint { secret, sealers: (0..=u8::MAX).map(|_| OnceLock::new()).collect() }
    }

    fn sealer(&self, number: u8) -> Option<&Sealer> {
        let made = self.sealers.get(usize::from(number))?;
        Some(made.get_or_init(|| Sealer::new(&self.secret.derived(&format!("key {number}")))))
    }

    /// A token as it stands in an address, sealed under the key of this number.
    pub fn seal(&self, token: &Token, number: u8) -> String {
        let plain = token.encode();
        let head = [VERSION, number];
        let place = place(head, token.kind());
        let sealed = self.sealer(number).map(|sealer| match token {
            // One address for everybody: sealed twice it must be the same.
            Token::Shared { .. } => sealer.seal_alike(&plain, &place, &self.secret.tag(&[&place, &plain])),
            Token::Preference { .. } | Token::Gate { .. } | Token::Link { .. } | Token::Day { .. } => {
                sealer.seal(&plain, &place)
            }
        });
        let bytes = [&head[..], &sealed.unwrap_or_default()].concat();
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Opens a token of this kind.
    ///
    /// # Errors
    ///
    /// When it was not sealed here, or for something else.
    pub fn open(&self, kind: TokenKind, token: &str) -> Result<Token, NotOpened> {
        if token.len() > MAX_URL {
            return Err(NotOpened);
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| NotOpened)?;
        let (&head @ [version, number], sealed) = bytes.split_first_chunk::<HEAD>().ok_or(NotOpened)?;
        if version != VERSION {
            return Err(NotOpened);
        }
        let plain = self.sealer(number).ok_or(NotOpened)?.open(sealed, &place(head, kind))?;
        Token::decode(kind, &plain).ok_or(NotOpened)
    }

    /// The address of a token below `public_url`; `None` where it would be longer than [`MAX_URL`].
    pub fn url(&self, public_url: &str, token: &Token, number: u8) -> Option<String> {
        let base = public_url.trim_end_matches('/');
        let url = format!("{base}/{}/{}", token.kind().letter(), self.seal(token, number));
        (url.len() <= MAX_URL).then_some(url)
    }
}

/// What a token only opens with: its version, key and kind.
fn place([version, number]: [u8; HEAD], kind: TokenKind) -> [u8; 3] {
    [version, number, kind.letter() as u8]
}

/// An address as far as a page may show it, so that its owner recognises it and nobody learns it:
/// `a…e@e….org`.
pub fn hint(address: &str) -> String {
    let (local, domain) = address.rsplit_once('@').unwrap_or((address, ""));
    let mut letters = local.chars();
    let first = letters.next().map(String::from).unwrap_or_default();
    // Of a short one even the last letter would say too much.
    let last =
        letters.next_back().filter(|_| local.chars().count() > 3).map(String::from).unwrap_or_default();
    let (name, top) = domain.rsplit_once('.').unwrap_or((domain, ""));
    let name = name.chars().next().map(String::from).unwrap_or_default();
    let hint = format!("{first}…{last}@{name}….{top}");
    hint.chars().filter(|character| !character.is_control()).take(64).collect()
}

/// The top-level domain of an address; empty where it has none that could be one.
pub fn top_level_domain(address: &str) -> &str {
    let top = address.trim_end_matches('.').rsplit(['.', '@']).next().unwrap_or_default();
    let is_one = top.len() <= 63 && top.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if is_one { top } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mint() -> Mint {
        Mint::new(StoreKey::new([7; 32]))
    }

    fn samples() -> Vec<Token> {
        let holder =
            Holder { controller: "shop".parse().unwrap(), person: Person([9; 16]), issued: Timestamp(1234) };
        let (mailstream, country) = ("news".to_owned(), "fr".to_owned());
        vec![
            Token::Preference { holder: holder.clone(), hint: hint("annette@home.example") },
            Token::Gate {
                holder: holder.clone(),
                mailstream: mailstream.clone(),
                country: country.clone(),
                target: "https://t.news.example/wf/open?upn=abc".to_owned(),
            },
            Token::Link {
                holder: holder.clone(),
                mailstream: mailstream.clone(),
                country: country.clone(),
                target: "https://shop.example/sale?a=1#top".to_owned(),
                original: "https://t.news.example/ls/click?upn=abc".to_owned(),
            },
            Token::Day { holder, mailstream: mailstream.clone(), country },
            Token::Shared { controller: "shop".parse().unwrap(), mailstream, campaign: [3; 8] },
        ]
    }

    #[test]
    fn what_was_sealed_opens_as_what_it_is_and_as_nothing_else() {
        let mint = mint();
        for token in samples() {
            for number in [1, 2, 255] {
                let sealed = mint.seal(&token, number);
                assert!(sealed.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
                for kind in TokenKind::ALL {
                    let opened = mint.open(kind, &sealed);
                    assert_eq!(opened, if kind == token.kind() { Ok(token.clone()) } else { Err(NotOpened) });
                }
                assert!(Mint::new(StoreKey::new([8; 32])).open(token.kind(), &sealed).is_err());
            }
        }
    }

    #[test]
    fn every_altered_byte_closes_a_token() {
        let mint = mint();
        for token in samples() {
            let sealed = URL_SAFE_NO_PAD.decode(mint.seal(&token, 1)).unwrap();
            for at in 0..sealed.len() {
                for bit in 0..8 {
                    let mut altered = sealed.clone();
                    altered[at] ^= 1 << bit;
                    let text = URL_SAFE_NO_PAD.encode(&altered);
                    assert_eq!(mint.open(token.kind(), &text), Err(NotOpened));
                }
                let cut = URL_SAFE_NO_PAD.encode(&sealed[..at]);
                assert_eq!(mint.open(token.kind(), &cut), Err(NotOpened));
            }
        }
    }

    #[test]
    fn personal_tokens_are_never_alike_and_shared_ones_always() {
        let mint = mint();
        for token in samples() {
            let is_shared = token.kind() == TokenKind::Shared;
            assert_eq!(mint.seal(&token, 1) == mint.seal(&token, 1), is_shared, "{token:?}");
            let again = Mint::new(StoreKey::new([7; 32]));
            assert_eq!(mint.seal(&token, 1) == again.seal(&token, 1), is_shared);
        }
    }

    #[test]
    fn an_address_that_is_too_long_is_none() {
        let mint = mint();
        let gate = |length: usize| {
            let Some(Token::Gate { holder, mailstream, country, .. }) = samples().into_iter().nth(1) else {
                panic!()
            };
            Token::Gate {
                holder,
                mailstream,
                country,
                target: format!("https://a.example/{}", "x".repeat(length)),
            }
        };
        let url = mint.url("https://choice.shop.example/", &gate(1000), 1).unwrap();
        assert!(url.starts_with("https://choice.shop.example/p/") && url.len() <= MAX_URL, "{url}");
        let sealed = url.rsplit('/').next().unwrap();
        assert_eq!(mint.open(TokenKind::Gate, sealed), Ok(gate(1000)));
        assert_eq!(mint.url("https://choice.shop.example", &gate(1500), 1), None);
    }

    #[test]
    fn a_hint_shows_no_address() {
        for (address, wanted) in [
            ("annette@home.example", "a…e@h….example"),
            ("alice@example.org", "a…e@e….org"),
            ("bob@example.org", "b…@e….org"),
            ("\u{e9}lodie@b\u{fc}cher.example", "\u{e9}…e@b….example"),
            ("x", "x…@…."),
            ("", "…@…."),
        ] {
            assert_eq!(hint(address), wanted);
        }
        assert_eq!(top_level_domain("ann@home.FR."), "FR");
        assert_eq!(top_level_domain("ann@home"), "home");
        assert_eq!(top_level_domain("ann@[192.0.2.1]"), "");
    }
}
