//! One pass over a text of markup: every place that a mail client loads from, with what surrounds it.

mod attributes;
pub mod besides;
pub mod blanks;
pub(super) mod changes;
mod document;
mod found;
mod looks;
mod styles;
pub mod trail;

use std::borrow::Cow;
use std::cell::{Cell, OnceCell};
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use super::carrier::Carrier;
use super::css::{self, Strings};
use super::html::{self, Attribute, TokenKind, Tokenizer};
use super::rare;
use super::sheet::{Said, Sheets};
use super::signal::{Signal, Signals};
use super::style::{Look, Size};
use super::url::{PlainFolder, Url};
pub use found::{Extent, Found, Links, Place, PlainPicture, Removal, Unreadable};
use looks::Drawn;
use trail::{Meeting, Trail};

/// How deep elements are followed for what they hide. Deeper ones are taken to be visible.
const MAX_OPEN: usize = 512;
/// How deep comments are read within comments, and documents within attributes.
const MAX_DEPTH: usize = 4;
/// How many loads of one style attribute with character references are taken out one by one; with more of
/// them, all of it goes.
const MAX_LOADS: usize = 64;
/// How much of a link's text is looked at, in bytes.
const MAX_LINK_TEXT: usize = 400;
/// How far behind an element the end of the body is looked for, in bytes.
const MAX_END: usize = 256;
/// How many style sheets are kept for what they say of sizes.
const MAX_SHEETS: usize = 64;

/// All that `text` loads. `base` is the address that relative ones hang on, where the part names
/// one.
pub fn places<'a>(text: &'a [u8], base: Option<&str>, extent: Extent, links: Links) -> Found<'a> {
    places_with_trail(text, base, extent, links).0
}

/// The same, with what helps to find the places of nearly the same text; that is missing where anything in
/// this one has a say about all of it.
pub fn places_with_trail<'a>(
    text: &'a [u8],
    base: Option<&str>,
    extent: Extent,
    links: Links,
) -> (Found<'a>, Option<Trail>) {
    let mut walk = Walk::new(text, extent, links);
    walk.base = base_of(base);
    walk.trail = Some(Trail::default());
    walk.markup(0..text.len());
    let mut trail = walk.whole_trail();
    if walk.uses_variables || walk.found_base || walk.is_late {
        // Strings anywhere may be addresses, and base and style sheets are those of what stands before them,
        // too.
        let (uses_variables, has_base) = (walk.uses_variables, walk.found_base);
        walk = walk.again();
        walk.strings = if uses_variables { Strings::OfCustomProperties } else { Strings::OfFunctions };
        walk.trail = (!uses_variables && !has_base).then(Trail::default);
        walk.markup(0..text.len());
        trail = walk.whole_trail();
    }
    if walk.is_ambiguous {
        // Browsers leave `svg` at many an element that belongs to HTML, and then read the same bytes another
        // way: both readings count.
        let mut other = walk.again();
        other.reading = Reading::Html;
        other.markup(0..text.len());
        let known: HashSet<(usize, usize)> =
            walk.found.places.iter().map(|place| (place.range.start, place.range.end)).collect();
        let more = other.found.places.into_iter();
        let more: Vec<Place<'_>> =
            more.filter(|place| !known.contains(&(place.range.start, place.range.end))).collect();
        walk.found.places.extend(more);
    }
    (walk.found, trail)
}

/// The address that relative ones hang on, as the part names it.
fn base_of(base: Option<&str>) -> Option<Url<'static>> {
    base.and_then(|base| Url::read(base.into(), None)).map(Url::into_owned)
}

/// All that a style sheet loads which is a part by itself.
pub fn places_of_sheet<'a>(text: &'a [u8], base: Option<&str>, extent: Extent) -> Found<'a> {
    let mut walk = Walk::new(text, extent, Links::Ignore);
    walk.base = base_of(base);
    walk.region = Region::Body;
    if css::uses_variables(text) {
        walk.strings = Strings::OfCustomProperties;
    }
    walk.style_sheet(0..text.len());
    walk.found
}

/// How raw elements within `svg` and `math` are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// As markup, as within `svg`.
    Foreign,
    /// As text, as outside of it.
    Html,
}

/// The part of the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Whether the base is that of a `base` element.
    has_base: bool,
    /// Whether such an element was found in this pass.
    found_base: bool,
    found: Found<'a>,
    region: Region,
    /// How deep in comments, or in documents within attributes.
    depth: usize,
    plain: PlainFolder<'a>,
    /// How far style sheets within `svg` were read.
    styled: usize,
    strings: Strings,
    /// Whether a style was seen that uses `var()`.
    uses_variables: bool,
    reading: Reading,
    /// Whether an element was seen that browsers could read in two ways.
    is_ambiguous: bool,
    /// Where the contents of style sheets stand, with whether each holds in some media only.
    sheet_ranges: Vec<(Range<usize>, bool)>,
    /// What they say; all of them are known when the first place is found, or it is a second pass.
    sheets: OnceCell<Arc<Sheets>>,
    /// Whether one of them came after a place.
    is_late: bool,
    /// Whether there are any, so that asking is worth it.
    asks_sheets: bool,
    /// Where the `picture` that is open starts, and how many places were found before it.
    picture: Option<(usize, usize)>,
    /// What this pass leaves for a later one.
    trail: Option<Trail>,
    /// Where its state is looked at next.
    stop: usize,
    /// How far was looked behind places, for what follows them.
    looked: Cell<usize>,
    /// How far the texts of links were looked at.
    looked_for_links: usize,
    /// Where addresses of links start that were looked at from a place before them.
    overlooked: Vec<usize>,
    /// How many start tags were read.
    tags: usize,
}

/// An element that is open.
#[derive(Clone, Copy, Debug)]
struct Open {
    /// Where its tag starts.
    tag: usize,
    /// Where its tag ends.
    tag_end: usize,
    /// The length of its name.
    name: u32,
    /// Whether its attributes hide what is in it.
    hides_by_itself: Option<bool>,
    /// Whether attributes and style sheets together do.
    hides: Option<bool>,
}

impl Open {
    fn name<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        let start = self.tag + 1;
        text.get(start..start + self.name as usize).unwrap_or_default()
    }
}

/// An element with its attributes, and what it stands in.
struct Element<'t> {
    range: &'t Range<usize>,
    name: &'t [u8],
    attributes: &'t [Attribute],
    /// How it is drawn; asked once, however many of its attributes load something.
    drawn: OnceCell<Drawn>,
}

impl<'a> Walk<'a> {
    fn new(text: &'a [u8], extent: Extent, links: Links) -> Walk<'a> {
        Walk {
            text,
            extent,
            links,
            base: None,
            has_base: false,
            found_base: false,
            found: Found { plain: Vec::with_capacity((text.len() / 1024).min(256)), ..Found::default() },
            region: Region::BeforeBody,
            depth: 0,
            plain: PlainFolder::default(),
            styled: 0,
            strings: Strings::OfFunctions,
            uses_variables: false,
            reading: Reading::Foreign,
            is_ambiguous: false,
            sheet_ranges: Vec::new(),
            sheets: OnceCell::new(),
            is_late: false,
            asks_sheets: false,
            picture: None,
            trail: None,
            stop: 0,
            looked: Cell::new(0),
            looked_for_links: 0,
            overlooked: Vec::new(),
            tags: 0,
        }
    }

    /// The same text from the start, knowing what was learnt.
    fn again(&self) -> Walk<'a> {
        let base = self.base.clone();
        let (region, depth) =
            if self.depth == 0 { (Region::BeforeBody, 0) } else { (Region::Body, self.depth) };
        Walk {
            base,
            has_base: self.has_base,
            region,
            depth,
            strings: self.strings,
            reading: self.reading,
            sheets: OnceCell::from(Arc::new(self.read_sheets())),
            asks_sheets: true,
            ..Walk::new(self.text, self.extent, self.links)
        }
    }

    fn slice(&self, range: &Range<usize>) -> &'a [u8] {
        self.text.get(range.clone()).unwrap_or_default()
    }

    fn markup(&mut self, range: Range<usize>) {
        self.markup_until(range, Vec::with_capacity(64), None);
    }

    /// Reads markup within these open elements, up to where the pass meets an earlier one.
    fn markup_until(
        &mut self,
        range: Range<usize>,
        mut open: Vec<Open>,
        mut meeting: Option<&mut Meeting<'_, '_>>,
    ) {
        let range_start = range.start;
        let mut tokens = Tokenizer::new(self.text, range);
        if self.reading == Reading::Html {
            tokens = tokens.without_foreign();
        }
        let mut raw_of_style = false;
        let mut is_limited = false;
        let mut end = range_start;
        while let Some(kind) = tokens.step() {
            let inner = tokens.inner();
            match kind {
                TokenKind::Open => {
                    self.tags += 1;
                    let name = self.slice(&inner);
                    if self.region == Region::AfterBody && self.depth == 0 {
                        self.reenter(name, end..tokens.range().start);
                    }
                    if name.len() == 7 && name.eq_ignore_ascii_case(b"picture") {
                        self.picture = Some((tokens.range().start, self.found.places.len()));
                    }
                    raw_of_style = name.eq_ignore_ascii_case(b"style");
                    if raw_of_style {
                        is_limited = self.is_limited_sheet(tokens.attributes());
                    }
                    self.is_ambiguous |= tokens.is_foreign() && html::is_raw(name);
                    if raw_of_style && tokens.is_foreign() && !tokens.is_self_closing() {
                        self.foreign_style_sheet(tokens.range().end);
                    }
                    self.enter(name);
                    let tag = tokens.range();
                    if !tokens.attributes().is_empty() {
                        let attributes = tokens.attributes();
                        let element = Element { range: &tag, name, attributes, drawn: OnceCell::new() };
                        self.element(&element, &mut open);
                    }
                    if !is_void(name) && open.len() < MAX_OPEN {
                        let name = u32::try_from(name.len()).unwrap_or(u32::MAX);
                        let (tag, tag_end) = (tag.start, tag.end);
                        open.push(Open { tag, tag_end, name, hides_by_itself: None, hides: None });
                    }
                }
                TokenKind::Close => self.close(&inner, &mut open),
                TokenKind::Comment => self.comment(tokens.range(), inner),
                TokenKind::Raw if raw_of_style => {
                    if self.depth == 0 && self.sheet_ranges.len() < MAX_SHEETS {
                        self.sheet_ranges.push((inner.clone(), is_limited));
                        self.is_late |= !self.found.places.is_empty();
                        self.asks_sheets = true;
                        // What follows can be read anew without the sheets.
                        self.stop = self.stop.min(end);
                    }
                    self.style_sheet(inner);
                }
                TokenKind::Raw if self.extent == Extent::EveryRequest => self.script(inner),
                TokenKind::Raw => {}
            }
            end = tokens.range().end;
            if end >= self.stop && self.depth == 0 {
                let is_met = match &mut meeting {
                    Some(meeting) => meeting.meets(self, &tokens, &open),
                    None => self.leave_point(&tokens, &open),
                };
                if is_met {
                    return;
                }
            }
        }
    }

    /// What a script says is not loaded by itself; programs that read mail for its data take pictures from
    /// there.
    fn script(&mut self, content: Range<usize>) {
        let text = decoded(self.slice(&content)).replace("\\/", "/");
        for address in rare::remote_addresses(&text) {
            let Some(url) = self.url(address.into()) else { continue };
            let mut signals = Signals::default();
            signals.add(Signal::Idle);
            self.found.places.push(Place {
                carrier: Carrier::Rare,
                url,
                range: content.clone(),
                written: None,
                removal: Removal::CssRule(content.clone()),
                size: Size::Unset,
                signals,
                picture: None,
                link: None,
            });
        }
    }

    fn read_sheets(&self) -> Sheets {
        Sheets::of(self.sheet_ranges.iter().map(|(range, is_limited)| (self.slice(range), *is_limited)))
    }

    /// What the style sheets say of an element.
    fn said(&self, tag: &[u8], class: &[u8], id: &[u8]) -> Said {
        self.sheets.get_or_init(|| Arc::new(self.read_sheets())).say(tag, class, id)
    }

    /// Whether what was taken for the end of the body was none: text follows, or what a body is made of.
    /// Another document may be joined to the first.
    fn reenter(&mut self, element: &[u8], before: Range<usize>) {
        const OF_A_BODY: [&[u8]; 10] =
            [b"body", b"table", b"tr", b"td", b"p", b"ul", b"ol", b"h1", b"h2", b"blockquote"];
        let is_text = !self.slice(&before).trim_ascii().is_empty();
        if is_text || OF_A_BODY.iter().any(|name| element.eq_ignore_ascii_case(name)) {
            self.region = Region::Body;
        }
    }

    fn enter(&mut self, element: &[u8]) {
        if self.region == Region::BeforeBody && self.depth == 0 {
            let head = [&b"html"[..], b"head", b"meta", b"title", b"style", b"link", b"base", b"script"];
            let is_image = element.eq_ignore_ascii_case(b"img");
            if !is_image && !head.iter().any(|name| element.eq_ignore_ascii_case(name)) {
                self.region = Region::Body;
            }
        }
    }

    fn close(&mut self, name: &Range<usize>, open: &mut Vec<Open>) {
        let name = self.slice(name);
        // Within a comment, an end says nothing of the document around it.
        let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
        match name.len() {
            4 if self.depth == 0 && (is(b"body") || is(b"html")) => self.region = Region::AfterBody,
            7 if is(b"picture") => self.picture = None,
            _ => {}
        }
        if open.last().is_some_and(|last| last.name(self.text).eq_ignore_ascii_case(name)) {
            open.pop();
            return;
        }
        // Unclosed elements in between are closed with it; what closes nothing is passed over.
        let near =
            open.iter().rev().take(32).position(|element| element.name(self.text).eq_ignore_ascii_case(name));
        if let Some(depth) = near {
            open.truncate(open.len() - depth - 1);
        }
    }

    /// Whether a `style` element holds in some media only.
    fn is_limited_sheet(&self, attributes: &[Attribute]) -> bool {
        let media =
            attributes.iter().find(|attribute| self.slice(&attribute.name).eq_ignore_ascii_case(b"media"));
        media.is_some_and(|media| {
            let media = self.slice(&media.value);
            !media.eq_ignore_ascii_case(b"all") && !media.eq_ignore_ascii_case(b"screen")
        })
    }

    /// Notes what an element loads.
    fn element(&mut self, element: &Element<'_>, open: &mut [Open]) {
        let known = self.found.places.len();
        for attribute in element.attributes {
            let name = self.slice(&attribute.name);
            let is_passed_over = self.extent == Extent::Trackers && !rare::may_load(name);
            if is_passed_over || attribute.value.is_empty() {
                continue;
            }
            if name.eq_ignore_ascii_case(b"style") {
                let may_load = self.strings == Strings::OfCustomProperties
                    || css::attribute_may_load(self.slice(&attribute.value));
                if may_load {
                    self.style_attribute(element, attribute, open);
                }
            } else if let Some(carrier) = Carrier::of(element.name, name) {
                self.attribute(carrier, element, attribute, open);
            } else if name.eq_ignore_ascii_case(b"href") && is_anchor(element.name) {
                self.anchor(element, attribute);
            } else {
                self.rarely(element, name, attribute, open);
            }
        }
        if element.name.len() == 3 && element.name.eq_ignore_ascii_case(b"img") {
            self.join_picture(element, open, known);
        }
        let is = |name: &[u8; 4]| element.name.eq_ignore_ascii_case(name);
        if element.name.len() != 4 {
            return;
        }
        if is(b"base") {
            self.note_base(element);
        } else if is(b"link") {
            self.link(element);
        } else if is(b"meta") {
            self.meta(element);
        }
    }

    fn value<'b>(&self, element: &'b Element<'_>, name: &str) -> Option<(&'b Attribute, Cow<'a, str>)> {
        let mut attributes = element.attributes.iter();
        let attribute =
            attributes.find(|attribute| self.slice(&attribute.name).eq_ignore_ascii_case(name.as_bytes()))?;
        Some((attribute, decoded(self.slice(&attribute.value))))
    }

    fn url(&self, value: Cow<'a, str>) -> Option<Url<'a>> {
        Url::read(value, self.base.as_ref())
    }

    /// An attribute with the blanks before it, where another blank or the end of the tag follows: what stands
    /// right behind it must not join what stands before.
    fn with_blank(&self, whole: &Range<usize>) -> Range<usize> {
        let follows = self.text.get(whole.end);
        if follows.is_some_and(|byte| !byte.is_ascii_whitespace() && !matches!(byte, b'/' | b'>')) {
            return whole.clone();
        }
        let before = self.text.get(..whole.start).unwrap_or_default();
        let blanks = before.len() - before.trim_ascii_end().len();
        whole.start - blanks..whole.end
    }

    /// The sources of a picture, its `img` and that one's candidates are one thing, drawn where the `img`
    /// stands.
    fn join_picture(&mut self, element: &Element<'_>, open: &mut [Open], known: usize) {
        let (start, first) = match self.picture.take() {
            Some((start, first)) => (start, first.min(known)),
            None if self.found.places.len() > known + 1 => (element.range.start, known),
            None => return,
        };
        let mut sources = self.found.places.split_off(first.min(self.found.places.len()));
        for (index, place) in sources.iter_mut().enumerate() {
            place.picture = Some(start);
            if index < known - first && matches!(place.carrier, Carrier::Srcset | Carrier::Media) {
                place.signals = Signals::default();
                self.look(element, open, place);
            }
        }
        self.found.places.append(&mut sources);
    }
}

/// Character references decoded; bytes that are no UTF-8 become U+FFFD.
pub(super) fn decoded(value: &[u8]) -> Cow<'_, str> {
    let text = match std::str::from_utf8(value) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(value),
    };
    if memchr::memchr(b'&', value).is_none() {
        return text;
    }
    Cow::Owned(htmlize::unescape_attribute(text.as_ref()).into_owned())
}

/// Fonts, style sheets and icons: common, the same for everybody.
fn is_furniture(url: &Url<'_>) -> bool {
    let (_, extension) = url.stem_and_extension();
    ["css", "woff", "woff2", "ttf", "otf", "eot"].iter().any(|known| extension.eq_ignore_ascii_case(known))
        || url.host().starts_with("fonts.")
        || url.host().starts_with("use.typekit")
        || url.path().starts_with("/css")
}

fn is_anchor(element: &[u8]) -> bool {
    element.eq_ignore_ascii_case(b"a") || element.eq_ignore_ascii_case(b"area")
}

fn is_void(element: &[u8]) -> bool {
    let is = |text: &str| element.eq_ignore_ascii_case(text.as_bytes());
    match element.len() {
        2 => is("br") || is("hr"),
        3 => is("img") || is("col") || is("wbr"),
        4 => is("meta") || is("link") || is("base") || is("area"),
        5 => is("input") || is("embed") || is("track") || is("param"),
        6 => is("source"),
        _ => false,
    }
}
