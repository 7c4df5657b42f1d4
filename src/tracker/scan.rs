//! One pass over a text of markup: every place that a mail client loads from, with what surrounds it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use super::carrier::Carrier;
use super::css;
use super::evidence::{Evidence, Fact};
use super::html::{Attribute, Token, Tokenizer};
use super::style::{Look, Size};
use super::url::Url;

/// How deep elements are followed for what they hide. Deeper ones are taken to be visible.
const MAX_OPEN: usize = 512;
/// How deep comments are read within comments.
const MAX_COMMENTS: usize = 4;

/// A place that is loaded from.
#[derive(Clone, Debug)]
pub struct Place {
    /// What kind of place.
    pub carrier: Carrier,
    /// Where from.
    pub url: Url,
    /// The element or declaration.
    pub range: Range<usize>,
    /// How it can be taken out.
    pub removal: Removal,
    /// How large it is drawn.
    pub size: Size,
    /// What is known without looking at the address.
    pub evidence: Evidence,
}

/// How a load can be taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// The element goes, or only this attribute where the element takes space.
    Element {
        /// The element.
        element: Range<usize>,
        /// The attribute with the blank before it.
        attribute: Range<usize>,
    },
    /// The attribute goes.
    Attribute(Range<usize>),
    /// One candidate of a `srcset` goes.
    Candidate {
        /// The whole value.
        value: Range<usize>,
        /// The candidate, up to the comma.
        candidate: Range<usize>,
    },
    /// The value of the attribute is replaced.
    Value {
        /// Where the value stands.
        range: Range<usize>,
        /// What stands there afterwards, quoted as needed.
        with: String,
    },
    /// A CSS value becomes `none`.
    CssValue(Range<usize>),
    /// A CSS rule goes.
    CssRule(Range<usize>),
    /// A header field goes.
    Field(Range<usize>),
}

/// All places in `text`, in the order in which they stand.
pub fn places(text: &[u8]) -> Vec<Place> {
    let mut walk = Walk { text, base: None, places: Vec::new(), region: Region::BeforeBody, comments: 0 };
    walk.markup(0..text.len());
    walk.places
}

/// The part of the document.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Region {
    BeforeBody,
    Body,
    AfterBody,
}

struct Walk<'a> {
    text: &'a [u8],
    base: Option<Url>,
    places: Vec<Place>,
    region: Region,
    comments: usize,
}

/// An element that is open.
struct Open {
    name: Range<usize>,
    style: Option<Range<usize>>,
    hidden_attribute: bool,
    hides: Option<bool>,
}

impl<'a> Walk<'a> {
    fn slice(&self, range: &Range<usize>) -> &'a [u8] {
        self.text.get(range.clone()).unwrap_or_default()
    }

    fn markup(&mut self, range: Range<usize>) {
        let mut tokens = Tokenizer::new(self.text, range);
        let mut open: Vec<Open> = Vec::new();
        let mut raw_of_style = false;
        while let Some(token) = tokens.next() {
            match token {
                Token::Open { range, name } => {
                    let element = self.slice(&name);
                    raw_of_style = element.eq_ignore_ascii_case(b"style");
                    self.enter(element);
                    let style = self.element(&range, element, tokens.attributes(), &mut open);
                    if !is_void(element) && open.len() < MAX_OPEN {
                        let hidden_attribute = tokens
                            .attributes()
                            .iter()
                            .any(|own| self.slice(&own.name).eq_ignore_ascii_case(b"hidden"));
                        open.push(Open { name, style, hidden_attribute, hides: None });
                    }
                }
                Token::Close { name, .. } => self.close(&name, &mut open),
                Token::Comment { content, .. } => self.comment(content),
                Token::Raw { content } if raw_of_style => self.style_sheet(content),
                Token::Raw { .. } => {}
            }
        }
    }

    fn enter(&mut self, element: &[u8]) {
        if self.region == Region::BeforeBody && self.comments == 0 {
            let head = [&b"html"[..], b"head", b"meta", b"title", b"style", b"link", b"base", b"script"];
            let is_image = element.eq_ignore_ascii_case(b"img");
            if !is_image && !head.iter().any(|own| element.eq_ignore_ascii_case(own)) {
                self.region = Region::Body;
            }
        }
    }

    fn close(&mut self, name: &Range<usize>, open: &mut Vec<Open>) {
        let name = self.slice(name);
        if name.eq_ignore_ascii_case(b"body") || name.eq_ignore_ascii_case(b"html") {
            self.region = Region::AfterBody;
        }
        // Unclosed elements in between are closed with it; what closes nothing is passed over.
        let near =
            open.iter().rev().take(32).position(|own| self.slice(&own.name).eq_ignore_ascii_case(name));
        if let Some(depth) = near {
            open.truncate(open.len() - depth - 1);
        }
    }

    /// Notes what an element loads; gives the place of its style attribute.
    fn element(
        &mut self,
        range: &Range<usize>,
        element: &[u8],
        attributes: &[Attribute],
        open: &mut [Open],
    ) -> Option<Range<usize>> {
        let mut style = None;
        for attribute in attributes {
            let name = self.slice(&attribute.name);
            if attribute.value.is_empty() {
                continue;
            }
            if name.eq_ignore_ascii_case(b"style") {
                style.get_or_insert_with(|| attribute.value.clone());
                if css::may_load(self.slice(&attribute.value)) {
                    self.style_attribute(range, element, attribute, attributes, open);
                }
            } else if let Some(carrier) = Carrier::of(element, name) {
                self.attribute(carrier, range, element, attribute, attributes, open);
            }
        }
        match element.len() {
            4 if element.eq_ignore_ascii_case(b"base") => self.base(attributes),
            4 if element.eq_ignore_ascii_case(b"link") => self.link(range, attributes),
            4 if element.eq_ignore_ascii_case(b"meta") => self.refresh(range, attributes),
            _ => {}
        }
        style
    }

    fn value<'b>(&self, attributes: &'b [Attribute], name: &str) -> Option<(&'b Attribute, Cow<'a, str>)> {
        let attribute =
            attributes.iter().find(|own| self.slice(&own.name).eq_ignore_ascii_case(name.as_bytes()))?;
        Some((attribute, decoded(self.slice(&attribute.value))))
    }

    fn attribute(
        &mut self,
        carrier: Carrier,
        range: &Range<usize>,
        element: &[u8],
        attribute: &Attribute,
        attributes: &[Attribute],
        open: &mut [Open],
    ) {
        let (size, mut evidence) = self.look(attributes, open);
        if carrier == Carrier::Background {
            evidence.add_if(Fact::ShowsNothing, self.is_empty_element(range.end));
        }
        evidence.add_if(Fact::ShowsNothing, element.eq_ignore_ascii_case(b"bgsound"));
        let place = |url, removal| Place { carrier, url, range: range.clone(), removal, size, evidence };
        if carrier == Carrier::Srcset {
            let found: Vec<Place> = self
                .candidates(&attribute.value)
                .filter_map(|candidate| {
                    let text = decoded(self.slice(&candidate));
                    let url = self.url(text.split_whitespace().next()?)?;
                    Some(place(url, Removal::Candidate { value: attribute.value.clone(), candidate }))
                })
                .collect();
            self.places.extend(found);
            return;
        }
        let Some(url) = self.url(&decoded(self.slice(&attribute.value))) else { return };
        let cut = self.with_blank(&attribute.whole);
        let is_image = element.eq_ignore_ascii_case(b"img") || element.eq_ignore_ascii_case(b"image");
        let removal = match carrier {
            Carrier::Img if is_image => Removal::Element { element: range.clone(), attribute: cut },
            _ => Removal::Attribute(cut),
        };
        self.places.push(place(url, removal));
    }

    /// The candidates of a `srcset` (WHATWG HTML, 4.8.4.2.2): a comma parts them where a blank or the next address follows, not
    /// within an address.
    fn candidates(&self, value: &Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let text = self.slice(value);
        let mut ranges = Vec::new();
        let mut start = 0;
        let mut seen_url = false;
        let mut in_descriptor = false;
        for (at, byte) in text.iter().enumerate() {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' | b'\x0c' => in_descriptor = seen_url,
                b',' if in_descriptor || text.get(at + 1).is_none_or(u8::is_ascii_whitespace) => {
                    ranges.push(value.start + start..value.start + at);
                    (start, seen_url, in_descriptor) = (at + 1, false, false);
                }
                _ => seen_url = true,
            }
        }
        ranges.push(value.start + start..value.end);
        ranges.into_iter().filter(|range| !range.is_empty())
    }

    fn url(&self, value: &str) -> Option<Url> {
        Url::read(value, self.base.as_ref())
    }

    /// An attribute with the blanks before it.
    fn with_blank(&self, whole: &Range<usize>) -> Range<usize> {
        let before = self.text.get(..whole.start).unwrap_or_default();
        let blanks = before.len() - before.trim_ascii_end().len();
        whole.start - blanks..whole.end
    }

    /// Size and evidence from an element's attributes and from what it stands in.
    fn look(&self, attributes: &[Attribute], open: &mut [Open]) -> (Size, Evidence) {
        let mut look = Look::default();
        let mut style: Option<Cow<'_, str>> = None;
        let mut evidence = Evidence::default();
        for attribute in attributes {
            let name = self.slice(&attribute.name);
            let value = || decoded(self.slice(&attribute.value));
            match name.len() {
                5 if name.eq_ignore_ascii_case(b"width") => look.width_attribute(&value()),
                5 if name.eq_ignore_ascii_case(b"style") && style.is_none() => style = Some(value()),
                6 if name.eq_ignore_ascii_case(b"height") => look.height_attribute(&value()),
                6 if name.eq_ignore_ascii_case(b"hidden") => evidence.add(Fact::Hidden),
                _ => {}
            }
        }
        if let Some(style) = style {
            look.style(&style);
        }
        let size = look.size();
        evidence.add_if(Fact::Hidden, look.hidden);
        evidence.add_if(Fact::HiddenAncestor, open.iter_mut().rev().any(|own| self.hides(own)));
        evidence.add_if(Fact::OutsideBody, self.region != Region::Body && self.comments == 0);
        match size {
            Size::Unset => evidence.add(Fact::NoSize),
            Size::Zero => evidence.add(Fact::Zero),
            Size::Tiny => evidence.add(Fact::Tiny),
            Size::Line => evidence.add(Fact::Line),
            Size::Visible => evidence.add(Fact::Visible),
        }
        (size, evidence)
    }

    fn hides(&self, open: &mut Open) -> bool {
        let hidden_attribute = open.hidden_attribute;
        let style = open.style.clone();
        *open.hides.get_or_insert_with(|| {
            hidden_attribute
                || style.is_some_and(|style| {
                    let mut look = Look::default();
                    look.style(&decoded(self.slice(&style)));
                    look.hidden || look.size() == Size::Zero
                })
        })
    }

    /// Whether the element that opens before `at` is closed without anything to be seen in it.
    fn is_empty_element(&self, at: usize) -> bool {
        let rest = self.text.get(at..).unwrap_or_default().trim_ascii_start();
        let rest = rest.strip_prefix(b"&nbsp;").unwrap_or(rest).trim_ascii_start();
        rest.starts_with(b"</")
    }

    fn style_attribute(
        &mut self,
        range: &Range<usize>,
        element: &[u8],
        attribute: &Attribute,
        attributes: &[Attribute],
        open: &mut [Open],
    ) {
        let written = self.slice(&attribute.value);
        let style = decoded(written);
        let as_written = style.len() == written.len() && style.as_bytes() == written;
        let loads = css::loads(style.as_bytes());
        for load in &loads {
            let Some(url) = self.url(&load.url) else { continue };
            let (size, mut evidence) = self.look(attributes, open);
            evidence.add_if(Fact::ShowsNothing, !is_void(element) && self.is_empty_element(range.end));
            let removal = if as_written {
                let start = attribute.value.start;
                Removal::CssValue(start + load.range.start..start + load.range.end)
            } else {
                Removal::Value { range: attribute.value.clone(), with: without_loads(&style, &loads) }
            };
            self.places.push(Place {
                carrier: Carrier::StyleAttribute,
                url,
                range: range.clone(),
                removal,
                size,
                evidence,
            });
        }
    }

    fn style_sheet(&mut self, content: Range<usize>) {
        let text = self.slice(&content);
        if !css::may_load(text) {
            return;
        }
        for load in css::loads(text) {
            let Some(url) = self.url(&load.url) else { continue };
            let range = content.start + load.range.start..content.start + load.range.end;
            let mut evidence = Evidence::default();
            evidence.add_if(Fact::Furniture, is_furniture(&url));
            let removal = match load.kind {
                css::Kind::Value => Removal::CssValue(range.clone()),
                css::Kind::Import => Removal::CssRule(range.clone()),
            };
            self.places.push(Place {
                carrier: Carrier::StyleSheet,
                url,
                range,
                removal,
                size: Size::Unset,
                evidence,
            });
        }
    }

    fn base(&mut self, attributes: &[Attribute]) {
        if self.base.is_none() {
            self.base = self.value(attributes, "href").and_then(|(_, href)| Url::read(&href, None));
        }
    }

    fn link(&mut self, range: &Range<usize>, attributes: &[Attribute]) {
        let Some((_, rel)) = self.value(attributes, "rel") else { return };
        let loads = [
            "stylesheet",
            "preload",
            "prefetch",
            "prerender",
            "icon",
            "preconnect",
            "manifest",
            "modulepreload",
        ];
        let rel = rel.to_ascii_lowercase();
        if !loads.iter().any(|own| rel.contains(own)) {
            return;
        }
        let Some(url) = self.value(attributes, "href").and_then(|(_, href)| self.url(&href)) else { return };
        let mut evidence = Evidence::default();
        evidence.add_if(Fact::Furniture, is_furniture(&url));
        self.places.push(Place {
            carrier: Carrier::Link,
            url,
            range: range.clone(),
            removal: Removal::Element { element: range.clone(), attribute: range.clone() },
            size: Size::Zero,
            evidence,
        });
    }

    fn refresh(&mut self, range: &Range<usize>, attributes: &[Attribute]) {
        let is_refresh = self
            .value(attributes, "http-equiv")
            .is_some_and(|(_, kind)| kind.trim().eq_ignore_ascii_case("refresh"));
        if !is_refresh {
            return;
        }
        let Some((_, content)) = self.value(attributes, "content") else { return };
        let target = content.split_once(['=']).map(|(_, url)| url.trim().trim_matches(['"', '\'']));
        let Some(url) = target.and_then(|target| self.url(target)) else { return };
        self.places.push(Place {
            carrier: Carrier::Refresh,
            url,
            range: range.clone(),
            removal: Removal::Element { element: range.clone(), attribute: range.clone() },
            size: Size::Zero,
            evidence: Evidence::default(),
        });
    }

    /// A conditional comment is markup to the clients it is meant for.
    fn comment(&mut self, content: Range<usize>) {
        let text = self.slice(&content);
        let start = text.trim_ascii_start();
        if self.comments >= MAX_COMMENTS
            || !start.get(..3).is_some_and(|open| open.eq_ignore_ascii_case(b"[if"))
        {
            return;
        }
        let Some(condition) = memchr::memmem::find(text, b"]>") else { return };
        self.comments += 1;
        self.markup(content.start + condition + 2..content.end);
        self.comments -= 1;
    }
}

/// Facts that hang on the other places of the same text.
pub const COMPANY: [Fact; 3] = [Fact::Repeated, Fact::ShownElsewhere, Fact::FolderShown];

/// Notes what the places that stay say of each other: repetition, and pictures from the same address or folder. Those for
/// which `goes` is set say nothing, so that a second look at the rewritten text comes to the same result.
pub fn note_company(places: &mut [Place], goes: &[bool]) {
    let stays = |index: usize| !goes.get(index).copied().unwrap_or(false);
    let mut count: HashMap<&str, (usize, bool)> = HashMap::with_capacity(places.len());
    let mut folders: HashMap<&str, bool> = HashMap::with_capacity(places.len());
    for (_, place) in places.iter().enumerate().filter(|(index, _)| stays(*index)) {
        let shown = place.size == Size::Visible && !place.evidence.has(Fact::Hidden);
        let entry = count.entry(place.url.as_str()).or_default();
        entry.0 += 1;
        entry.1 |= shown;
        *folders.entry(place.url.folder()).or_default() |= shown;
    }
    let notes: Vec<(bool, bool, bool)> = places
        .iter()
        .map(|place| {
            let (times, shown) = count.get(place.url.as_str()).copied().unwrap_or_default();
            (times >= 3, shown, folders.get(place.url.folder()).copied().unwrap_or_default())
        })
        .collect();
    for (place, (repeated, shown, folder)) in places.iter_mut().zip(notes) {
        let own = place.size == Size::Visible;
        place.evidence.remove(&COMPANY);
        place.evidence.add_if(Fact::Repeated, repeated);
        place.evidence.add_if(Fact::ShownElsewhere, shown && !own);
        place.evidence.add_if(Fact::FolderShown, folder && !own);
    }
}

/// Character references decoded; bytes that are no UTF-8 become U+FFFD.
fn decoded(value: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(value);
    if !text.contains('&') {
        return text;
    }
    Cow::Owned(htmlize::unescape_attribute(text.as_ref()).into_owned())
}

/// The style with each load replaced, written so that it can stand in an attribute.
fn without_loads(style: &str, loads: &[css::Load]) -> String {
    let mut out = String::with_capacity(style.len());
    let mut at = 0;
    for load in loads.iter().filter(|load| Url::read(&load.url, None).is_some()) {
        out.push_str(style.get(at..load.range.start).unwrap_or_default());
        out.push_str("none");
        at = load.range.end;
    }
    out.push_str(style.get(at..).unwrap_or_default());
    out.replace('&', "&amp;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// Fonts, style sheets and icons: common, the same for everybody.
fn is_furniture(url: &Url) -> bool {
    let (_, extension) = url.stem_and_extension();
    matches!(extension.as_str(), "css" | "woff" | "woff2" | "ttf" | "otf" | "eot")
        || url.host().starts_with("fonts.")
        || url.host().starts_with("use.typekit")
        || url.path().starts_with("/css")
}

fn is_void(element: &[u8]) -> bool {
    const VOID: [&[u8]; 14] = [
        b"img", b"br", b"hr", b"meta", b"link", b"input", b"base", b"area", b"col", b"embed", b"source",
        b"track", b"wbr", b"param",
    ];
    VOID.iter().any(|own| element.eq_ignore_ascii_case(own))
}
