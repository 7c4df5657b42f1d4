//! One pass over a text of markup: every place that a mail client loads from, with what surrounds it.

use std::borrow::Cow;
use std::ops::Range;

use super::carrier::Carrier;
use super::css;
use super::evidence::{Evidence, Fact};
use super::html::{Attribute, Token, Tokenizer};
use super::link;
use super::rare::{self, Inner, is_inline};
use super::style::{Look, Size};
use super::token;
use super::url::Url;

/// How deep elements are followed for what they hide. Deeper ones are taken to be visible.
const MAX_OPEN: usize = 512;
/// How deep comments are read within comments, and documents within attributes.
const MAX_DEPTH: usize = 4;
/// How much of a link's text is looked at, in bytes.
const MAX_LINK_TEXT: usize = 400;

/// How much is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Trackers. A plain picture file is noted, and nothing more is asked about it.
    Trackers,
    /// Everything that is loaded from elsewhere, with all that speaks for or against it; so that no remote request is left, or for a
    /// report.
    EveryRequest,
}

/// Whether links are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// They are passed over.
    Ignore,
    /// They are noted.
    Note,
}

/// A place that is loaded from.
#[derive(Clone, Debug)]
pub struct Place<'a> {
    /// What kind of place.
    pub carrier: Carrier,
    /// Where from.
    pub url: Url<'a>,
    /// The element or declaration.
    pub range: Range<usize>,
    /// Where the address stands as written; `None` where it does not stand by itself in the text that was scanned.
    pub written: Option<Range<usize>>,
    /// How it can be taken out.
    pub removal: Removal,
    /// What is known of how it shows.
    pub shows: Shows,
    /// What is known without looking at the address.
    pub evidence: Evidence,
}

/// How a place shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shows {
    /// Drawn in this size.
    As(Size),
    /// It was not asked: a plain picture file, which nothing around it could make a tracker.
    NotAsked,
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
    /// Nothing is taken out: a link.
    Nothing,
}

/// All places in `text`, in the order in which they stand. `base` is the address that relative ones hang on, where the part names
/// one.
pub fn places<'a>(text: &'a [u8], base: Option<&str>, extent: Extent, links: Links) -> Vec<Place<'a>> {
    let base = base.and_then(|base| Url::read(base.into(), None)).map(Url::into_owned);
    let mut walk = Walk::new(text, extent, links);
    walk.base = base;
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
    extent: Extent,
    links: Links,
    base: Option<Url<'static>>,
    places: Vec<Place<'a>>,
    region: Region,
    /// How deep in comments, or in documents within attributes.
    depth: usize,
}

/// An element that is open.
struct Open {
    name: Range<usize>,
    around: Around,
    hides: Option<bool>,
}

/// What an element says about what stands in it.
#[derive(Clone, Default)]
struct Around {
    style: Option<Range<usize>>,
    hidden: bool,
}

/// An element with its attributes, and what it stands in.
struct Element<'t> {
    range: &'t Range<usize>,
    name: &'t [u8],
    attributes: &'t [Attribute],
}

impl<'a> Walk<'a> {
    fn new(text: &'a [u8], extent: Extent, links: Links) -> Walk<'a> {
        let places = Vec::with_capacity((text.len() / 512).min(256));
        Walk { text, extent, links, base: None, places, region: Region::BeforeBody, depth: 0 }
    }

    fn slice(&self, range: &Range<usize>) -> &'a [u8] {
        self.text.get(range.clone()).unwrap_or_default()
    }

    fn markup(&mut self, range: Range<usize>) {
        let mut tokens = Tokenizer::new(self.text, range);
        let mut open: Vec<Open> = Vec::with_capacity(64);
        let mut raw_of_style = false;
        while let Some(token) = tokens.next() {
            match token {
                Token::Open { range, name } => {
                    let written = self.slice(&name);
                    raw_of_style = written.eq_ignore_ascii_case(b"style");
                    self.enter(written);
                    let element = Element { range: &range, name: written, attributes: tokens.attributes() };
                    let around = self.element(&element, &mut open);
                    if !is_void(written) && open.len() < MAX_OPEN {
                        open.push(Open { name, around, hides: None });
                    }
                }
                Token::Close { name, .. } => self.close(&name, &mut open),
                Token::Comment { range, content } => self.comment(range, content),
                Token::Raw { content } if raw_of_style => self.style_sheet(content),
                Token::Raw { .. } => {}
            }
        }
    }

    fn enter(&mut self, element: &[u8]) {
        if self.region == Region::BeforeBody && self.depth == 0 {
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

    /// Notes what an element loads; gives what it says about what stands in it.
    fn element(&mut self, element: &Element<'_>, open: &mut [Open]) -> Around {
        let mut around = Around::default();
        for attribute in element.attributes {
            let name = self.slice(&attribute.name);
            if attribute.value.is_empty() {
                around.hidden |= name.eq_ignore_ascii_case(b"hidden");
                continue;
            }
            match name.len() {
                5 if name.eq_ignore_ascii_case(b"style") => {
                    around.style.get_or_insert_with(|| attribute.value.clone());
                    if css::may_load(self.slice(&attribute.value)) {
                        self.style_attribute(element, attribute, open);
                    }
                }
                6 if name.eq_ignore_ascii_case(b"hidden") => around.hidden = true,
                _ => match Carrier::of(element.name, name) {
                    Some(carrier) => self.attribute(carrier, element, attribute, open),
                    None => self.rarely(element, name, attribute, open),
                },
            }
        }
        match element.name.len() {
            1 if self.links == Links::Note && element.name.eq_ignore_ascii_case(b"a") => self.anchor(element),
            4 if self.links == Links::Note && element.name.eq_ignore_ascii_case(b"area") => {
                self.anchor(element)
            }
            4 if element.name.eq_ignore_ascii_case(b"base") => self.base(element),
            4 if element.name.eq_ignore_ascii_case(b"link") => self.link(element),
            4 if element.name.eq_ignore_ascii_case(b"meta") => self.refresh(element),
            _ => {}
        }
        around
    }

    fn value<'b>(&self, element: &'b Element<'_>, name: &str) -> Option<(&'b Attribute, Cow<'a, str>)> {
        let mut own = element.attributes.iter();
        let attribute = own.find(|own| self.slice(&own.name).eq_ignore_ascii_case(name.as_bytes()))?;
        Some((attribute, decoded(self.slice(&attribute.value))))
    }

    fn attribute(
        &mut self,
        carrier: Carrier,
        element: &Element<'_>,
        attribute: &Attribute,
        open: &mut [Open],
    ) {
        if carrier == Carrier::Srcset {
            return self.srcset(element, attribute, open);
        }
        let value = decoded(self.slice(&attribute.value));
        let is_image =
            element.name.eq_ignore_ascii_case(b"img") || element.name.eq_ignore_ascii_case(b"image");
        let cut = self.with_blank(&attribute.whole);
        let removal = match carrier {
            Carrier::Img if is_image => Removal::Element { element: element.range.clone(), attribute: cut },
            _ => Removal::Attribute(cut),
        };
        if is_inline(&value) {
            return self.inline(carrier, &value, element.range, &removal);
        }
        let Some(url) = self.url(value) else { return };
        let mut place = Place {
            carrier,
            url,
            range: element.range.clone(),
            written: Some(attribute.value.clone()),
            removal,
            shows: Shows::NotAsked,
            evidence: Evidence::default(),
        };
        if self.extent == Extent::EveryRequest || !token::is_plain_picture(&place.url) {
            self.look(element, open, &mut place);
            let empty_box = carrier == Carrier::Background && self.is_empty_element(element.range.end);
            place
                .evidence
                .add_if(Fact::ShowsNothing, empty_box || element.name.eq_ignore_ascii_case(b"bgsound"));
        }
        self.places.push(place);
    }

    fn srcset(&mut self, element: &Element<'_>, attribute: &Attribute, open: &mut [Open]) {
        for candidate in self.candidates(&attribute.value) {
            let text = decoded(self.slice(&candidate));
            let Some(url) = text.split_whitespace().next().and_then(|url| self.url(url.to_owned().into()))
            else {
                continue;
            };
            let mut place = Place {
                carrier: Carrier::Srcset,
                url,
                range: element.range.clone(),
                written: None,
                removal: Removal::Candidate { value: attribute.value.clone(), candidate },
                shows: Shows::NotAsked,
                evidence: Evidence::default(),
            };
            self.look(element, open, &mut place);
            self.places.push(place);
        }
    }

    /// Attributes that load in few clients or in few elements.
    fn rarely(&mut self, element: &Element<'_>, name: &[u8], attribute: &Attribute, open: &mut [Open]) {
        let value = self.slice(&attribute.value);
        if rare::paints(name) && memchr::memchr(b'(', value).is_some() {
            self.painted(element, attribute);
        } else if name.eq_ignore_ascii_case(b"srcdoc") {
            let removal = Removal::Attribute(self.with_blank(&attribute.whole));
            let document = decoded(value).into_owned().into_bytes();
            self.within(Carrier::Embedded, &document, Inner::Markup, element.range, &removal);
        } else if rare::animates(element.name, name) {
            for address in decoded(value).split(';') {
                self.rare(Carrier::Svg, address, element, attribute, Evidence::default(), open);
            }
        } else if self.extent == Extent::EveryRequest && rare::names(element.name, name) {
            let mut idle = Evidence::default();
            idle.add(Fact::Idle);
            for address in decoded(value).split_whitespace() {
                self.rare(Carrier::Rare, address, element, attribute, idle, open);
            }
        }
    }

    /// One address of an attribute, all of which goes if one does.
    fn rare(
        &mut self,
        carrier: Carrier,
        address: &str,
        element: &Element<'_>,
        attribute: &Attribute,
        evidence: Evidence,
        open: &mut [Open],
    ) {
        let removal = Removal::Attribute(self.with_blank(&attribute.whole));
        if is_inline(address) {
            return self.inline(carrier, address, element.range, &removal);
        }
        let Some(url) = self.url(address.to_owned().into()) else { return };
        let mut place = Place {
            carrier,
            url,
            range: element.range.clone(),
            written: None,
            removal,
            shows: Shows::NotAsked,
            evidence,
        };
        self.look(element, open, &mut place);
        self.places.push(place);
    }

    /// A presentation attribute of SVG, whose value is CSS.
    fn painted(&mut self, element: &Element<'_>, attribute: &Attribute) {
        let removal = Removal::Attribute(self.with_blank(&attribute.whole));
        let style = decoded(self.slice(&attribute.value)).into_owned().into_bytes();
        self.within(Carrier::Svg, &style, Inner::Style, element.range, &removal);
    }

    /// A `data:` address can be a document that loads more.
    fn inline(&mut self, carrier: Carrier, address: &str, range: &Range<usize>, removal: &Removal) {
        if let Some((inner, document)) = rare::document(address) {
            self.within(carrier, &document, inner, range, removal);
        }
    }

    /// What a document within an attribute loads, the attribute loads.
    fn within(
        &mut self,
        carrier: Carrier,
        document: &[u8],
        inner: Inner,
        range: &Range<usize>,
        removal: &Removal,
    ) {
        if self.depth >= MAX_DEPTH {
            return;
        }
        let mut walk = Walk::new(document, self.extent, Links::Ignore);
        walk.base.clone_from(&self.base);
        walk.region = Region::Body;
        walk.depth = self.depth + 1;
        match inner {
            Inner::Markup => walk.markup(0..document.len()),
            Inner::Style => walk.style_sheet(0..document.len()),
        }
        for place in walk.places {
            self.places.push(Place {
                carrier,
                url: place.url.into_owned(),
                range: range.clone(),
                written: None,
                removal: removal.clone(),
                shows: place.shows,
                evidence: place.evidence,
            });
        }
    }

    /// A link, which reports when it is followed.
    fn anchor(&mut self, element: &Element<'_>) {
        let Some((attribute, href)) = self.value(element, "href") else { return };
        let Some(url) = self.url(href) else { return };
        let text = self.text.get(element.range.end..).unwrap_or_default();
        let text = text.get(..text.len().min(MAX_LINK_TEXT)).unwrap_or_default();
        let end = memchr::memmem::find(text, b"</").unwrap_or(text.len());
        let mut evidence = Evidence::default();
        evidence.add_if(
            Fact::Choice,
            link::offers_a_choice(url.tail())
                || link::offers_a_choice(&decoded(text.get(..end).unwrap_or_default())),
        );
        self.places.push(Place {
            carrier: Carrier::Anchor,
            url,
            range: element.range.clone(),
            written: Some(attribute.value.clone()),
            removal: Removal::Nothing,
            shows: Shows::As(Size::Visible),
            evidence,
        });
    }

    /// The candidates of a `srcset` (WHATWG HTML, 4.8.4.2.2): a comma parts them where a blank or the next address follows, not
    /// within an address.
    fn candidates(&self, value: &Range<usize>) -> Vec<Range<usize>> {
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
        ranges.retain(|range| !range.is_empty());
        ranges
    }

    fn url(&self, value: Cow<'a, str>) -> Option<Url<'a>> {
        Url::read(value, self.base.as_ref())
    }

    /// An attribute with the blanks before it.
    fn with_blank(&self, whole: &Range<usize>) -> Range<usize> {
        let before = self.text.get(..whole.start).unwrap_or_default();
        let blanks = before.len() - before.trim_ascii_end().len();
        whole.start - blanks..whole.end
    }

    /// Size and evidence from an element's attributes and from what it stands in.
    fn look(&self, element: &Element<'_>, open: &mut [Open], place: &mut Place<'_>) {
        let (size, hidden) = self.drawn(element.attributes);
        let evidence = &mut place.evidence;
        place.shows = Shows::As(size);
        evidence.add_if(Fact::Hidden, hidden);
        evidence.add_if(Fact::HiddenAncestor, open.iter_mut().rev().any(|own| self.hides(own)));
        evidence.add_if(Fact::OutsideBody, self.region != Region::Body && self.depth == 0);
        match size {
            Size::Unset => evidence.add(Fact::NoSize),
            Size::Zero => evidence.add(Fact::Zero),
            Size::Tiny => evidence.add(Fact::Tiny),
            Size::Line => evidence.add(Fact::Line),
            Size::Visible => evidence.add(Fact::Visible),
        }
    }

    /// The size in which an element is drawn, and whether it hides itself.
    fn drawn(&self, attributes: &[Attribute]) -> (Size, bool) {
        let mut look = Look::default();
        let mut style: Option<Cow<'_, str>> = None;
        let mut hidden = false;
        for attribute in attributes {
            let name = self.slice(&attribute.name);
            let value = || decoded(self.slice(&attribute.value));
            match name.len() {
                5 if name.eq_ignore_ascii_case(b"width") => look.width_attribute(&value()),
                5 if name.eq_ignore_ascii_case(b"style") && style.is_none() => style = Some(value()),
                6 if name.eq_ignore_ascii_case(b"height") => look.height_attribute(&value()),
                6 if name.eq_ignore_ascii_case(b"hidden") => hidden = true,
                _ => {}
            }
        }
        if let Some(style) = style {
            look.style(&style);
        }
        (look.size(), hidden || look.hidden)
    }

    fn hides(&self, open: &mut Open) -> bool {
        let around = open.around.clone();
        *open.hides.get_or_insert_with(|| {
            around.hidden
                || around.style.is_some_and(|style| {
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

    fn style_attribute(&mut self, element: &Element<'_>, attribute: &Attribute, open: &mut [Open]) {
        let written = self.slice(&attribute.value);
        let style = decoded(written);
        let as_written = style.len() == written.len() && style.as_bytes() == written;
        let loads = css::loads(style.as_bytes());
        for load in &loads {
            let removal = if as_written {
                let start = attribute.value.start;
                Removal::CssValue(start + load.range.start..start + load.range.end)
            } else {
                Removal::Value { range: attribute.value.clone(), with: without_loads(&style, &loads) }
            };
            if is_inline(&load.url) {
                self.inline(Carrier::StyleAttribute, &load.url, element.range, &removal);
                continue;
            }
            let Some(url) = self.url(load.url.clone().into()) else { continue };
            let mut place = Place {
                carrier: Carrier::StyleAttribute,
                url,
                range: element.range.clone(),
                written: None,
                removal,
                shows: Shows::NotAsked,
                evidence: Evidence::default(),
            };
            self.look(element, open, &mut place);
            let is_empty = !is_void(element.name) && self.is_empty_element(element.range.end);
            place.evidence.add_if(Fact::ShowsNothing, is_empty);
            self.places.push(place);
        }
    }

    fn style_sheet(&mut self, content: Range<usize>) {
        let text = self.slice(&content);
        if !css::may_load(text) {
            return;
        }
        for load in css::loads(text) {
            let range = content.start + load.range.start..content.start + load.range.end;
            let removal = match load.kind {
                css::Kind::Value => Removal::CssValue(range.clone()),
                css::Kind::Import => Removal::CssRule(range.clone()),
            };
            if is_inline(&load.url) {
                self.inline(Carrier::StyleSheet, &load.url, &range, &removal);
                continue;
            }
            let Some(url) = self.url(load.url.into()) else { continue };
            let mut evidence = Evidence::default();
            evidence.add_if(Fact::Furniture, is_furniture(&url));
            self.places.push(Place {
                carrier: Carrier::StyleSheet,
                url,
                range,
                written: None,
                removal,
                shows: Shows::As(Size::Unset),
                evidence,
            });
        }
    }

    fn base(&mut self, element: &Element<'_>) {
        if let Some(url) = self.value(element, "href").and_then(|(_, href)| Url::read(href, None)) {
            self.base = Some(url.into_owned());
        }
    }

    fn link(&mut self, element: &Element<'_>) {
        let Some((_, rel)) = self.value(element, "rel") else { return };
        let rel = rel.to_ascii_lowercase();
        let loads = rare::LOADING_RELATIONS.iter().any(|own| rel.contains(own));
        if !loads && self.extent == Extent::Trackers {
            return;
        }
        let Some((_, href)) = self.value(element, "href") else { return };
        let removal = Removal::Element { element: element.range.clone(), attribute: element.range.clone() };
        if is_inline(&href) {
            return self.inline(Carrier::Link, &href, element.range, &removal);
        }
        let Some(url) = self.url(href) else { return };
        let mut evidence = Evidence::default();
        evidence.add_if(Fact::Furniture, is_furniture(&url));
        evidence.add_if(Fact::Idle, !loads);
        self.places.push(Place {
            carrier: Carrier::Link,
            url,
            range: element.range.clone(),
            written: None,
            removal,
            shows: Shows::As(Size::Zero),
            evidence,
        });
    }

    fn refresh(&mut self, element: &Element<'_>) {
        let is_refresh = self
            .value(element, "http-equiv")
            .is_some_and(|(_, kind)| kind.trim().eq_ignore_ascii_case("refresh"));
        let content = self.value(element, "content").filter(|_| is_refresh);
        let Some((_, content)) = content else { return };
        let removal = Removal::Element { element: element.range.clone(), attribute: element.range.clone() };
        let Some(target) = rare::refresh_target(&content) else { return };
        if is_inline(target) {
            return self.inline(Carrier::Refresh, target, element.range, &removal);
        }
        let Some(url) = self.url(target.to_owned().into()) else { return };
        self.places.push(Place {
            carrier: Carrier::Refresh,
            url,
            range: element.range.clone(),
            written: None,
            removal,
            shows: Shows::As(Size::Zero),
            evidence: Evidence::default(),
        });
    }

    /// A conditional comment is markup to the clients it is meant for; a processing instruction can name a style sheet.
    fn comment(&mut self, range: Range<usize>, content: Range<usize>) {
        let text = self.slice(&content);
        let start = text.trim_ascii_start();
        if start.get(..14).is_some_and(|name| name.eq_ignore_ascii_case(b"xml-stylesheet")) {
            let mut tokens = Tokenizer::new(self.text, content.start.saturating_sub(1)..content.end);
            // Its pseudo attributes are written as attributes are.
            let address = tokens.instruction().and_then(|attributes| {
                let mut own = attributes.iter();
                let href = own.find(|own| self.slice(&own.name).eq_ignore_ascii_case(b"href"))?;
                self.url(decoded(self.slice(&href.value)))
            });
            let Some(url) = address else { return };
            self.places.push(Place {
                carrier: Carrier::Link,
                url,
                range: range.clone(),
                written: None,
                removal: Removal::Element { element: range.clone(), attribute: range },
                shows: Shows::As(Size::Zero),
                evidence: Evidence::default(),
            });
            return;
        }
        if self.depth >= MAX_DEPTH || !start.get(..3).is_some_and(|open| open.eq_ignore_ascii_case(b"[if")) {
            return;
        }
        let Some(condition) = memchr::memmem::find(text, b"]>") else { return };
        self.depth += 1;
        self.markup(content.start + condition + 2..content.end);
        self.depth -= 1;
    }
}

/// Whether the place whose element is `range` is drawn large enough to be seen, and does not hide itself.
pub fn is_shown(text: &[u8], place: &Place<'_>) -> bool {
    match place.shows {
        Shows::As(size) => size == Size::Visible && !place.evidence.has(Fact::Hidden),
        Shows::NotAsked => {
            let walk = Walk::new(text, Extent::Trackers, Links::Ignore);
            let mut tokens = Tokenizer::new(text, place.range.clone());
            tokens.next().is_some() && walk.drawn(tokens.attributes()) == (Size::Visible, false)
        }
    }
}

/// Character references decoded; bytes that are no UTF-8 become U+FFFD.
pub(super) fn decoded(value: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(value);
    if memchr::memchr(b'&', value).is_none() {
        return text;
    }
    Cow::Owned(htmlize::unescape_attribute(text.as_ref()).into_owned())
}

/// The style with each load replaced, written so that it can stand in an attribute.
fn without_loads(style: &str, loads: &[css::Load]) -> String {
    let mut out = String::with_capacity(style.len());
    let mut at = 0;
    for load in loads {
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
fn is_furniture(url: &Url<'_>) -> bool {
    let (_, extension) = url.stem_and_extension();
    ["css", "woff", "woff2", "ttf", "otf", "eot"].iter().any(|own| extension.eq_ignore_ascii_case(own))
        || url.host().starts_with("fonts.")
        || url.host().starts_with("use.typekit")
        || url.path().starts_with("/css")
}

fn is_void(element: &[u8]) -> bool {
    if element.len() > 6 {
        return false;
    }
    const VOID: [&[u8]; 14] = [
        b"img", b"br", b"hr", b"meta", b"link", b"input", b"base", b"area", b"col", b"embed", b"source",
        b"track", b"wbr", b"param",
    ];
    VOID.iter().any(|own| element.eq_ignore_ascii_case(own))
}
