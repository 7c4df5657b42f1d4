//! Which of the trackers of a copy become addresses of ours, and which go.
//!
//! Promised: an address of ours stands only where a tracker stood; a gate leads nowhere but to the tracker
//! that it replaced, or for a link to the page behind it; of a pixel that needs no consent there is one at most
//! (N11, N14), and all else goes.

use std::borrow::Cow;
use std::collections::HashSet;

use super::reader_token::{Holder, Mint, Token};
use super::{LinkOrder, LinksDone, Opens, Order, Targets, target};
use crate::message::transfer::Edit;
use crate::tracker::url::Url;
use crate::tracker::{Analysis, Axis, Remedy, Sighting, Verdict, link};

/// What takes the place of trackers.
#[derive(Clone, Copy, Debug)]
pub enum Swap<'a> {
    /// Each gets an address that asks for the consent of the moment and then leads to it (N25).
    Gate(Gate<'a>),
    /// The first one gets this address; the others go.
    Once(&'a str),
}

/// What gates of one person's copy have in common.
#[derive(Clone, Copy, Debug)]
pub struct Gate<'a> {
    /// Seals them.
    pub mint: &'a Mint,
    /// With the key of this number.
    pub key: u8,
    /// What their addresses begin with.
    pub public_url: &'a str,
    /// Whose they are.
    pub holder: &'a Holder,
    /// The kind of mail.
    pub mailstream: &'a str,
    /// The top-level domain of the person's address.
    pub country: &'a str,
}

impl Gate<'_> {
    /// The gate to an address; `None` where nobody may be led there, or it would be too long.
    fn to(&self, address: &str) -> Option<String> {
        let target = target::allowed(address)?;
        // A gate to a gate would ask somebody else's consent.
        if target.starts_with(self.public_url) {
            return None;
        }
        let token = Token::Gate {
            holder: self.holder.clone(),
            mailstream: self.mailstream.to_owned(),
            country: self.country.to_owned(),
            target,
        };
        self.mint.url(self.public_url, &token, self.key)
    }

    /// The gate to a link: through `original`, or straight to `target`. `None` where nobody may be led to one of
    /// them, or it would be too long.
    fn of_link(&self, original: &str, target: &str) -> Option<String> {
        let (original, target) = (target::allowed(original)?, target::allowed(target)?);
        let token = Token::Link {
            holder: self.holder.clone(),
            mailstream: self.mailstream.to_owned(),
            country: self.country.to_owned(),
            target,
            original,
        };
        self.mint.url(self.public_url, &token, self.key)
    }
}

/// What is put into a copy, as it is found out while its edits are made.
#[derive(Debug, Default)]
pub(super) struct Swaps {
    /// The addresses of ours, in the form in which a scan gives them.
    put_in: HashSet<String>,
    swapped: usize,
    links: LinksDone,
}

impl Swaps {
    /// How many trackers became addresses of ours.
    pub(super) fn swapped(&self) -> usize {
        self.swapped
    }

    /// What became of tracked links, each of which was asked about, and what of those that nobody may edit.
    pub(super) fn links_done(&self, analysis: &Analysis<'_>, order: &Order<'_>) -> LinksDone {
        let is_left = |sighting: &&Sighting| {
            let is_tracked = sighting.axis() == Axis::Link && sighting.verdict == Verdict::Tracker;
            is_tracked && sighting.protection.is_some()
        };
        let protected = match order.links {
            LinkOrder::Unwrap(_) => analysis.sightings.iter().filter(is_left).count(),
            LinkOrder::Keep | LinkOrder::Gate(..) => 0,
        };
        LinksDone { left: self.links.left + protected, ..self.links }
    }

    /// Whether a scan that finds this address has found one of ours.
    pub(super) fn has_put_in(&self, url: &str) -> bool {
        self.put_in.contains(url)
    }

    /// What becomes of a sighting.
    pub(super) fn edit<'s>(
        &mut self,
        order: &Order<'_>,
        analysis: &Analysis<'_>,
        sighting: &'s Sighting,
    ) -> Option<Cow<'s, Edit>> {
        if sighting.axis() == Axis::Link {
            return self.link(order, analysis, sighting);
        }
        let ordered = order.edit(sighting)?;
        // Where something gentler was ordered than that it goes, that is done.
        let goes = sighting.axis() == Axis::Open && sighting.removal() == Some(ordered);
        let swapped = match order.opens {
            Opens::Swap(swap) if goes => self.swapped_for(swap, analysis, sighting),
            Opens::Keep | Opens::Strip | Opens::Swap(_) => None,
        };
        Some(swapped.map_or(Cow::Borrowed(ordered), Cow::Owned))
    }

    /// The same in a word.
    pub(super) fn fate(
        &mut self,
        order: &Order<'_>,
        analysis: &Analysis<'_>,
        sighting: &Sighting,
    ) -> super::Fate {
        let before = self.swapped + self.links.gated;
        // What is protected is never edited.
        let edit = sighting.protection.is_none().then(|| self.edit(order, analysis, sighting)).flatten();
        match edit {
            None => super::Fate::Stays,
            Some(_) if self.swapped + self.links.gated > before => super::Fate::Swapped,
            Some(edit) if sighting.removal() == Some(edit.as_ref()) => super::Fate::Goes,
            Some(_) => super::Fate::Eased,
        }
    }

    /// What becomes of a link.
    fn link<'s>(
        &mut self,
        order: &Order<'_>,
        analysis: &Analysis<'_>,
        sighting: &'s Sighting,
    ) -> Option<Cow<'s, Edit>> {
        let edit = match order.links {
            LinkOrder::Keep => return None,
            LinkOrder::Unwrap(targets) => unwrapped(targets, sighting),
            LinkOrder::Gate(gate, targets) => gated(gate, targets, analysis, sighting).map(Cow::Owned),
        };
        if sighting.verdict == Verdict::Tracker {
            match (&edit, order.links) {
                (Some(_), LinkOrder::Gate(..)) => self.links.gated += 1,
                (Some(_), _) => self.links.unwrapped += 1,
                // Whoever agreed lets it report.
                (None, LinkOrder::Gate(..)) => {}
                (None, _) => self.links.left += 1,
            }
        }
        edit
    }

    fn swapped_for(&mut self, swap: Swap<'_>, analysis: &Analysis<'_>, sighting: &Sighting) -> Option<Edit> {
        let address = match (swap, sighting.verdict) {
            (Swap::Gate(gate), Verdict::Tracker | Verdict::Personal) => {
                gate.to(&analysis.address(sighting)?)?
            }
            // A pixel of ours shows nothing, so it takes no picture's place.
            (Swap::Once(address), Verdict::Tracker) if self.swapped == 0 => address.to_owned(),
            (Swap::Once(_) | Swap::Gate(_), _) => return None,
        };
        let edit = sighting.swapped_for(&address)?;
        self.put_in.insert(Url::read(Cow::Borrowed(&address), None)?.as_str().to_owned());
        self.swapped += 1;
        Some(edit)
    }
}

/// What a link leads to in its place: as the sender says, else as it says itself.
fn unwrapped<'s>(targets: &Targets, sighting: &'s Sighting) -> Option<Cow<'s, Edit>> {
    let mapped = targets.of(&sighting.url).filter(|_| sighting.is_tracked_link());
    let mapped = mapped.and_then(|target| sighting.led_to(target)).map(Cow::Owned);
    mapped.or_else(|| sighting.remedy(Remedy::Unwrap).map(Cow::Borrowed))
}

/// A gate in the place of a link of which it is known what it leads to.
fn gated(gate: Gate<'_>, targets: &Targets, analysis: &Analysis<'_>, sighting: &Sighting) -> Option<Edit> {
    if !sighting.is_tracked_link() {
        return None;
    }
    let original = analysis.address(sighting)?;
    let in_the_link = || {
        sighting.remedy(Remedy::Unwrap)?;
        link::destination(&Url::read(Cow::Borrowed(&original), None)?)
    };
    let target = targets.of(&sighting.url).map(str::to_owned).or_else(in_the_link)?;
    sighting.led_to(&gate.of_link(&original, &target)?)
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use bytes::Bytes;

    use super::*;
    use crate::consent::{Person, StoreKey, Timestamp};
    use crate::rewrite::reader_token::TokenKind;
    use crate::rewrite::{Copy, Way, rewrite};
    use crate::tracker::{Detector, Extent, Inquiry};

    static DETECTOR: LazyLock<Detector> = LazyLock::new(Detector::default);
    const URL: &str = "https://choice.shop.example";

    fn mint() -> Mint {
        Mint::new(StoreKey::new([7; 32]))
    }

    /// The copy of a message for somebody who agreed, or may be counted, and how many trackers were swapped.
    fn check(raw: &Bytes, once: Option<&str>) -> (Bytes, usize) {
        let (mint, controller) = (mint(), "shop".parse().unwrap());
        let holder = Holder { controller, person: Person([1; 16]), issued: Timestamp(5) };
        let gate =
            Gate { mint: &mint, key: 1, public_url: URL, holder: &holder, mailstream: "news", country: "fr" };
        let inquiry = Inquiry { extent: Extent::Trackers, ..Inquiry::to(&["ann@home.example"]) };
        let analysis = DETECTOR.analyse(raw, &inquiry);
        let order =
            Order { opens: Opens::Swap(once.map_or(Swap::Gate(gate), Swap::Once)), ..Order::strip(inquiry) };
        match rewrite(&DETECTOR, raw, &analysis, &order).unwrap() {
            Copy::Untouched => (raw.clone(), 0),
            Copy::Rewritten { bytes, swapped, way, .. } => {
                assert_eq!(way, Way::Ordered, "{}", String::from_utf8_lossy(&bytes));
                (bytes, swapped)
            }
        }
    }

    /// Every gate in a text, replaced by where it leads to.
    fn opened(text: &str) -> String {
        let mut out = text.to_owned();
        while let Some(start) = out.find(&format!("{URL}/p/")) {
            let token_start = start + URL.len() + 3;
            let rest = &out[token_start..];
            let end =
                rest.find(|character: char| !character.is_ascii_alphanumeric() && !"-_".contains(character));
            let end = end.map_or(out.len(), |end| token_start + end);
            let Ok(Token::Gate { target, .. }) = mint().open(TokenKind::Gate, &out[token_start..end]) else {
                panic!("no gate: {}", &out[start..end])
            };
            out.replace_range(start..end, &format!("GATE({target})"));
        }
        out
    }

    fn html(body: &str) -> Bytes {
        Bytes::from(format!("Content-Type: text/html\r\n\r\n{body}"))
    }

    fn gated(body: &str) -> (String, usize) {
        let (bytes, swapped) = check(&html(body), None);
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        (opened(text.strip_prefix("Content-Type: text/html\r\n\r\n").unwrap()), swapped)
    }

    const PIXEL: &str = "https://t.news.example/wf/open?upn=abc";

    #[test]
    fn a_gate_stands_in_every_carrier_of_a_picture_and_nothing_else_changes() {
        for (before, after) in [
            (
                format!("<img src=\"{PIXEL}\" width=1 height=1 alt=''>"),
                format!("<img src=\"GATE({PIXEL})\" width=1 height=1 alt=''>"),
            ),
            (
                format!("<IMG\tHeight=1 Width=1 SRC={PIXEL}>"),
                format!("<IMG\tHeight=1 Width=1 SRC=GATE({PIXEL})>"),
            ),
            (
                "<img src='//t.news.example/wf/open?upn=a&amp;x=1' width=1 height=1>".to_owned(),
                "<img src='GATE(https://t.news.example/wf/open?upn=a&x=1)' width=1 height=1>".to_owned(),
            ),
            (
                "<img src=\" HTTP://T.news.example/wf/open?upn=abc \" width=0 height=0>".to_owned(),
                "<img src=\"GATE(http://t.news.example/wf/open?upn=abc)\" width=0 height=0>".to_owned(),
            ),
            (format!("<td background=\"{PIXEL}\"></td>"), format!("<td background=\"GATE({PIXEL})\"></td>")),
            (
                format!("<input type=image src=\"{PIXEL}\" width=1 height=1>"),
                format!("<input type=image src=\"GATE({PIXEL})\" width=1 height=1>"),
            ),
            (
                format!("<div style=\"color:red;background:url('{PIXEL}') no-repeat\"></div>"),
                format!("<div style=\"color:red;background:url(GATE({PIXEL})) no-repeat\"></div>"),
            ),
            (
                format!("<style>.a{{background:url({PIXEL})}}</style><p class=a>"),
                format!("<style>.a{{background:url(GATE({PIXEL}))}}</style><p class=a>"),
            ),
            (
                format!("<!--[if mso]><v:fill src=\"{PIXEL}\"/><![endif]-->"),
                format!("<!--[if mso]><v:fill src=\"GATE({PIXEL})\"/><![endif]-->"),
            ),
            (
                format!("<img srcset=\"{PIXEL} 1x, https://cdn.news.example/logo.png 2x\" width=1 height=1>"),
                format!(
                    "<img srcset=\"GATE({PIXEL}) 1x, https://cdn.news.example/logo.png 2x\" width=1 height=1>"
                ),
            ),
        ] {
            assert_eq!(gated(&before), (after, 1), "{before}");
        }
    }

    #[test]
    fn what_cannot_be_gated_goes() {
        for (before, after) in [
            (format!("<link rel=stylesheet href=\"{PIXEL}\">a"), None),
            (format!("<iframe src=\"{PIXEL}\" width=1 height=1></iframe>a"), None),
            (
                "<img src=\"http://10.1.2.3/wf/open?upn=abc\" width=1 height=1>a".to_owned(),
                Some("<img width=1 height=1>a"),
            ),
            (
                "<img src=\"https://u:p@t.news.example/wf/open?upn=abc\" width=1 height=1>a".to_owned(),
                Some("<img width=1 height=1>a"),
            ),
            (
                format!("<img src=\"{URL}/p/AAECAwQFBgcICQoLDA0ODxAREhM\" width=1 height=1>a"),
                Some("<img width=1 height=1>a"),
            ),
            (
                format!("<img src=\"{PIXEL}{}\" width=1 height=1>a", "x".repeat(1600)),
                Some("<img width=1 height=1>a"),
            ),
        ] {
            let (text, swapped) = gated(&before);
            assert_eq!(swapped, 0, "{before}");
            assert!(!text.contains("GATE") && !text.contains("upn=abc") && !text.contains("/p/"), "{text}");
            assert!(after.is_none_or(|after| after == text), "{text}");
        }
    }

    #[test]
    fn a_picture_that_tells_readers_apart_is_unwrapped_or_gated() {
        let wrapped = "<img \
                       src=\"https://p.news.example/i?e=ann%40home.example&u=https%3A%2F%2Fcdn.news.example%2Flogo.png\" width=300 height=90>";
        let (text, swapped) = gated(wrapped);
        assert_eq!(
            (text.as_str(), swapped),
            ("<img src=\"https://cdn.news.example/logo.png\" width=300 height=90>", 0)
        );
        let bare = "<img src=\"https://p.news.example/ann%40home.example/banner\" width=300 height=90>";
        let (text, swapped) = gated(bare);
        assert_eq!(
            (text.as_str(), swapped),
            ("<img src=\"GATE(https://p.news.example/ann%40home.example/banner)\" width=300 height=90>", 1)
        );
    }

    #[test]
    fn one_pixel_without_consent_takes_the_place_of_all() {
        let day = format!("{URL}/d/AAECAwQFBgcICQoLDA0ODxAREhM");
        let body =
            format!("<img src=\"{PIXEL}1\" width=1 height=1>a<img src=\"{PIXEL}2\" width=1 height=1>b");
        let (bytes, swapped) = check(&html(&body), Some(&day));
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(
            text.ends_with(&format!("\r\n\r\n<img src=\"{day}\" width=1 height=1>a<img width=1 height=1>b")),
            "{text}"
        );
        assert_eq!(swapped, 1);
    }

    #[test]
    fn a_gate_stands_in_every_transfer_encoding() {
        let body = format!(
            "<p>Bonjour \u{e9}l\u{e9}phant</p><img src=\"{PIXEL}\" width=1 height=1><p>{}</p>",
            "x ".repeat(200)
        );
        let quoted: String = body
            .bytes()
            .map(|byte| match byte {
                b'=' => "=3D".to_owned(),
                byte if byte.is_ascii() => char::from(byte).to_string(),
                byte => format!("={byte:02X}"),
            })
            .collect::<Vec<_>>()
            .chunks(60)
            .map(|line| line.concat() + "=\r\n")
            .collect();
        let encoded = crate::message::transfer::encode_base64(body.as_bytes());
        let encoded: String = encoded
            .as_bytes()
            .chunks(76)
            .map(|line| String::from_utf8_lossy(line).into_owned() + "\r\n")
            .collect();
        let utf16: Vec<u8> = body.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let utf16 = crate::message::transfer::encode_base64(&utf16) + "\r\n";
        for (head, text) in [
            ("Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit", body.clone()),
            ("Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable", quoted),
            ("Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64", encoded),
            ("Content-Type: text/html; charset=utf-16le\r\nContent-Transfer-Encoding: base64", utf16),
        ] {
            let raw = Bytes::from(format!("{head}\r\n\r\n{text}"));
            let (bytes, swapped) = check(&raw, None);
            assert_eq!(swapped, 1, "{head}");
            let read = DETECTOR.analyse(&bytes, &Inquiry::to(&[]));
            let parts = read.parts();
            let part = String::from_utf8_lossy(parts[0].bytes()).into_owned();
            let flat = opened(&part).replace(' ', "");
            assert!(
                flat.contains(&format!("<imgsrc=\"GATE({PIXEL})\"width=1height=1><p>xxx")),
                "{head}: {part}"
            );
        }
    }
}
