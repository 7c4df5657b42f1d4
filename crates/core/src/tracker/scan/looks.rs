//! How a picture is drawn: its size, whether it or what is around it is hidden, and what is said of it.

use std::borrow::Cow;

use super::{
    Attribute, Carrier, Element, Extent, Links, Look, MAX_END, Open, Place, PlainPicture, Region, Said,
    Signal, Size, Tokenizer, Walk, decoded, is_anchor,
};

/// How an element is drawn.
#[derive(Clone, Copy)]
pub(super) struct Drawn {
    pub(super) size: Size,
    /// Whether it hides itself.
    pub(super) hidden: bool,
    /// Whether a text says what it shows.
    pub(super) described: bool,
    /// Whether it grows as wide as there is room.
    pub(super) fluid: bool,
}

impl<'a> Walk<'a> {
    /// Size and signals from an element's attributes and from what it stands in.
    pub(super) fn look(&self, element: &Element<'_>, open: &mut [Open], place: &mut Place<'_>) {
        let drawn = *element.drawn.get_or_init(|| self.drawn(element.name, element.attributes));
        let signals = &mut place.signals;
        place.size = drawn.size;
        let unseen = drawn.hidden || matches!(drawn.size, Size::Zero | Size::Tiny);
        let within_hidden = open.iter_mut().rev().any(|around| self.hides(around, !unseen));
        signals.add_if(Signal::Hidden, drawn.hidden);
        signals.add_if(Signal::HiddenAncestor, within_hidden);
        signals.add_if(Signal::OutsideBody, self.region != Region::Body && self.depth == 0);
        let is_box = matches!(place.carrier, Carrier::Background | Carrier::StyleAttribute);
        match drawn.size {
            Size::Unset => {
                signals.add(Signal::NoSize);
                if !is_box {
                    let mut around = open.iter().map(|around| around.name(self.text));
                    let linked = around.clone().any(is_anchor);
                    // A figure has a caption.
                    let described =
                        drawn.described || around.any(|name| name.eq_ignore_ascii_case(b"figure"));
                    signals.add_if(Signal::Described, described);
                    signals.add_if(Signal::Linked, linked);
                    signals.add_if(Signal::Fluid, drawn.fluid);
                    let undescribed = !described && !linked && !drawn.fluid;
                    signals.add_if(Signal::Undescribed, undescribed);
                    signals.add_if(Signal::Last, undescribed && self.is_last(element.range.end));
                }
            }
            Size::Zero => signals.add(Signal::Zero),
            Size::Tiny => signals.add(Signal::Tiny),
            Size::Dot => signals.add(Signal::Dot),
            Size::Line => signals.add(Signal::Line),
            // Hidden, it is not seen, however large it is.
            Size::Visible if within_hidden || drawn.hidden => {}
            // Of a box that is seen, what it shows behind its text may not be.
            Size::Visible if is_box => signals.add(Signal::Background),
            Size::Visible => signals.add(Signal::Visible),
        }
    }

    /// How an element is drawn.
    pub(super) fn drawn(&self, name: &[u8], attributes: &[Attribute]) -> Drawn {
        let mut look = Look::default();
        let mut style: Option<Cow<'_, str>> = None;
        let (mut class, mut id) = (&b""[..], &b""[..]);
        let mut hidden = false;
        let mut described = false;
        for attribute in attributes {
            let name = self.slice(&attribute.name);
            let written = self.slice(&attribute.value);
            let value = || decoded(written);
            match name.len() {
                2 if name.eq_ignore_ascii_case(b"id") => id = written,
                3 if name.eq_ignore_ascii_case(b"alt") => described |= describes(&value()),
                5 if name.eq_ignore_ascii_case(b"title") => described |= describes(&value()),
                5 if name.eq_ignore_ascii_case(b"class") => class = written,
                5 if name.eq_ignore_ascii_case(b"width") => look.width_attribute(&value()),
                5 if name.eq_ignore_ascii_case(b"style") && style.is_none() => style = Some(value()),
                6 if name.eq_ignore_ascii_case(b"height") => look.height_attribute(&value()),
                6 if name.eq_ignore_ascii_case(b"hidden") => hidden = true,
                _ => {}
            }
        }
        let mut by_itself = look;
        if let Some(style) = &style {
            by_itself.style(style);
        }
        // Nothing by which a rule could mean it, and too small already: the sheets need not be read.
        let is_named = !class.is_empty() || !id.is_empty();
        let is_small = matches!(by_itself.size(), Size::Zero | Size::Tiny);
        let said = if is_named || !is_small { self.said_of(name, class, id) } else { None };
        let mut look = match &said {
            None => by_itself,
            Some(said) => {
                look.take(&said.look);
                if let Some(style) = &style {
                    look.style(style);
                }
                look
            }
        };
        if let Some(said) = &said {
            look.show(said.shows);
        }
        Drawn { size: look.size(), hidden: hidden || look.hidden, described, fluid: look.is_fluid() }
    }

    /// What the style sheets say of an element, where they could say something.
    pub(super) fn said_of(&self, name: &[u8], class: &[u8], id: &[u8]) -> Option<Said> {
        self.asks_sheets.then(|| self.said(name, class, id))
    }

    /// Whether an element hides what is in it; style sheets are asked where `asks`, or where they could show
    /// what its style hides.
    pub(super) fn hides(&self, open: &mut Open, asks: bool) -> bool {
        if let Some(hides) = open.hides {
            return hides;
        }
        if !asks && open.hides_by_itself == Some(false) {
            return false;
        }
        let attributes = Tokenizer::new(self.text, open.tag..self.text.len()).only();
        let find = |name: &str| {
            let mut all = attributes.iter();
            all.find(|attribute| self.slice(&attribute.name).eq_ignore_ascii_case(name.as_bytes()))
        };
        let value = |name: &str| find(name).map(|attribute| self.slice(&attribute.value)).unwrap_or_default();
        // A cell without width still shows what is in it: only its style can hide that.
        let mut look = Look::default();
        let style = decoded(value("style"));
        look.style(&style);
        let by_itself = find("hidden").is_some() || look.hides_content();
        open.hides_by_itself = Some(by_itself);
        if !asks && !by_itself {
            return false;
        }
        let said = self.said_of(open.name(self.text), value("class"), value("id"));
        let hides = said.map_or(by_itself, |said| {
            let mut look = said.look;
            look.style(&style);
            look.show(said.shows);
            look.hides_content() || find("hidden").is_some()
        });
        open.hides = Some(hides);
        hides
    }

    /// Whether nothing but the end of the body follows: the ends of what a picture is wrapped into.
    pub(super) fn is_last(&self, at: usize) -> bool {
        const WRAPPERS: [&[u8]; 6] = [b"</div>", b"</center>", b"</p>", b"</span>", b"</font>", b"</a>"];
        const ENDS: [&[u8]; 2] = [b"</body", b"</html"];
        self.note_look(at + MAX_END);
        let all = self.text.get(at..).unwrap_or_default();
        let mut rest = all.get(..all.len().min(MAX_END)).unwrap_or_default();
        let starts = |rest: &[u8], with: &[u8]| {
            rest.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with))
        };
        loop {
            rest = rest.trim_ascii_start();
            match WRAPPERS.iter().find(|wrapper| starts(rest, wrapper)) {
                Some(wrapper) => rest = rest.get(wrapper.len()..).unwrap_or_default(),
                None => break,
            }
        }
        self.depth == 0
            && (ENDS.iter().any(|end| starts(rest, end)) || rest.is_empty() && all.len() < MAX_END)
    }

    /// Whether the element that opens before `at` is closed without anything to be seen in it.
    pub(super) fn is_empty_element(&self, at: usize) -> bool {
        const BLANK: &[u8] = b"&nbsp;";
        let rest = self.text.get(at..).unwrap_or_default().trim_ascii_start();
        let rest = rest.strip_prefix(BLANK).unwrap_or(rest).trim_ascii_start();
        self.note_look(self.text.len() - rest.len() + BLANK.len());
        rest.starts_with(b"</")
    }

    pub(super) fn note_look(&self, end: usize) {
        self.looked.set(self.looked.get().max(end));
    }
}

impl PlainPicture<'_> {
    /// The same, of a picture in `text`.
    pub fn is_shown(&self, text: &[u8]) -> bool {
        let walk = Walk::new(text, Extent::Trackers, Links::Ignore);
        let drawn = walk.drawn(b"img", &Tokenizer::new(text, self.range.clone()).only());
        drawn.size == Size::Visible && !drawn.hidden
    }
}

/// Whether a text says what a picture shows: more than a sign, and more than what trackers are called.
fn describes(text: &str) -> bool {
    const SAY_NOTHING: [&str; 16] = [
        "tracker",
        "tracking",
        "track",
        "pixel",
        "spacer",
        "beacon",
        "open",
        "opened",
        "blank",
        "empty",
        "transparent",
        "web",
        "bug",
        "clear",
        "dot",
        "1x1",
    ];
    let words = text.split(|character: char| !character.is_alphanumeric()).filter(|word| !word.is_empty());
    let told = words.filter(|word| !SAY_NOTHING.iter().any(|other| word.eq_ignore_ascii_case(other)));
    told.map(|word| word.chars().count()).sum::<usize>() >= 2
}
