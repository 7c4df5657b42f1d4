//! Styles: attributes, sheets, and sheets within `svg`.

use std::borrow::Cow;
use std::ops::Range;

use super::{Element, Extent, MAX_LOADS, Open, Place, Removal, Walk, decoded, is_furniture, is_void};
use crate::tracker::carrier::Carrier;
use crate::tracker::css::{self, Strings};
use crate::tracker::html::Attribute;
use crate::tracker::rare::{Inner, is_inline};
use crate::tracker::signal::{Signal, Signals};
use crate::tracker::style::Size;

impl Walk<'_> {
    pub(super) fn style_attribute(
        &mut self,
        element: &Element<'_>,
        attribute: &Attribute,
        open: &mut [Open],
    ) {
        let written = self.slice(&attribute.value);
        let style = decoded(written);
        let as_written = style.len() == written.len() && style.as_bytes() == written;
        self.uses_variables |= css::uses_variables(style.as_bytes());
        let loads = css::loads(style.as_bytes(), self.strings);
        for load in &loads {
            let is_quoted = attribute.whole.end > attribute.value.end;
            let removal = if as_written {
                let start = attribute.value.start;
                Removal::CssValue(start + load.range.start..start + load.range.end)
            } else if loads.len() <= MAX_LOADS && is_quoted {
                Removal::Value { range: attribute.value.clone(), with: without_loads(&style, &loads) }
            } else {
                Removal::Attribute(self.with_blank(&attribute.whole))
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
                size: Size::Unset,
                signals: Signals::default(),
                picture: None,
                link: None,
            };
            self.look(element, open, &mut place);
            let is_empty = !is_void(element.name) && self.is_empty_element(element.range.end);
            place.signals.add_if(Signal::ShowsNothing, is_empty);
            self.found.places.push(place);
        }
    }

    pub(super) fn style_sheet(&mut self, content: Range<usize>) {
        let text = self.slice(&content);
        let is_quick = self.strings == Strings::OfFunctions && self.extent == Extent::Trackers;
        if is_quick && !css::may_load(text) {
            return;
        }
        self.uses_variables |= css::uses_variables(text);
        for load in css::loads(text, self.strings) {
            let range = content.start + load.range.start..content.start + load.range.end;
            let removal = match load.kind {
                css::LoadKind::Value => Removal::CssValue(range.clone()),
                css::LoadKind::Import => Removal::CssRule(range.clone()),
            };
            if is_inline(&load.url) {
                self.inline(Carrier::StyleSheet, &load.url, &range, &removal);
                continue;
            }
            let Some(url) = self.url(load.url.into()) else { continue };
            let mut signals = Signals::default();
            signals.add_if(Signal::Furniture, is_furniture(&url));
            self.found.places.push(Place {
                carrier: Carrier::StyleSheet,
                url,
                range,
                written: None,
                removal,
                size: Size::Unset,
                signals,
                picture: None,
                link: None,
            });
        }
    }

    /// A style sheet within `svg`: markup to the tokenizer, so character references count in it, and comments
    /// part nothing.
    pub(super) fn foreign_style_sheet(&mut self, start: usize) {
        if start < self.styled {
            return;
        }
        let rest = self.text.get(start..).unwrap_or_default();
        let (sheet, length) = foreign_text(rest);
        let content = start..start + length;
        self.styled = content.end;
        match sheet {
            Cow::Borrowed(_) => self.style_sheet(content),
            Cow::Owned(sheet) => {
                let removal = Removal::CssRule(content.clone());
                self.within(Carrier::StyleSheet, sheet.as_bytes(), Inner::Style, &content, &removal);
            }
        }
    }
}

/// The text of a `style` element of `svg`, up to its end tag, and how much of `rest` that is: without
/// comments and tags, character references decoded, `CDATA` as it stands.
fn foreign_text(rest: &[u8]) -> (Cow<'_, str>, usize) {
    let find = |from: usize, what: &[u8]| {
        let behind = rest.get(from..).unwrap_or_default();
        memchr::memmem::find(behind, what).map_or(rest.len(), |at| from + at + what.len())
    };
    let mut text = String::new();
    let mut at = 0;
    let mut is_plain = true;
    loop {
        let open =
            memchr::memchr(b'<', rest.get(at..).unwrap_or_default()).map_or(rest.len(), |open| at + open);
        let piece = decoded(rest.get(at..open).unwrap_or_default());
        is_plain &= matches!(piece, Cow::Borrowed(_));
        text.push_str(&piece);
        let markup = rest.get(open..).unwrap_or_default();
        let is_end = markup.get(..7).is_some_and(|tag| tag.eq_ignore_ascii_case(b"</style"))
            && markup.get(7).is_none_or(|byte| byte.is_ascii_whitespace() || matches!(byte, b'/' | b'>'));
        if markup.is_empty() || is_end {
            let whole = std::str::from_utf8(rest.get(..open).unwrap_or_default()).ok().filter(|_| is_plain);
            return (whole.map_or(Cow::Owned(text), Cow::Borrowed), open);
        }
        is_plain = false;
        at = if markup.starts_with(b"<![CDATA[") {
            let end = find(open, b"]]>");
            let content = rest.get(open + 9..end).unwrap_or_default();
            text.push_str(&String::from_utf8_lossy(content.strip_suffix(b"]]>").unwrap_or(content)));
            end
        } else if markup.starts_with(b"<!--") {
            find(open, b"-->")
        } else {
            find(open, b">")
        };
    }
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
