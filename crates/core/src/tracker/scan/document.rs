//! What speaks for the whole document (`base`, `link`, `meta`), and comments.

use std::ops::Range;
use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::{Element, Extent, MAX_DEPTH, Place, Removal, Walk, decoded, is_furniture};
use crate::tracker::carrier::Carrier;
use crate::tracker::html::Tokenizer;
use crate::tracker::rare::{self, is_inline};
use crate::tracker::signal::{Signal, Signals};
use crate::tracker::style::Size;
use crate::tracker::url::Url;

/// The name of what switches the looking up of hosts on (MDN, X-DNS-Prefetch-Control).
const PREFETCH_CONTROL: &str = "x-dns-prefetch-control";

/// What ends the condition of a conditional comment.
static CONDITION_END: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"]>"));

impl Walk<'_> {
    pub(super) fn note_base(&mut self, element: &Element<'_>) {
        // The first one counts, for what stands before it too.
        if !self.has_base
            && let Some(url) =
                self.value(element, "href").and_then(|(_, href)| Url::read(href, self.base.as_ref()))
        {
            self.base = Some(url.into_owned());
            self.has_base = true;
            self.found_base = true;
        }
    }

    pub(super) fn link(&mut self, element: &Element<'_>) {
        let loads = self.value(element, "rel").is_some_and(|(_, relations)| rare::relation_loads(&relations));
        if !loads && self.extent == Extent::Trackers {
            return;
        }
        let Some((_, href)) = self.value(element, "href") else { return };
        let removal = Removal::Element { element: element.range.clone(), attribute: element.range.clone() };
        if is_inline(&href) {
            return self.inline(Carrier::Link, &href, element.range, &removal);
        }
        let Some(url) = self.url(href) else { return };
        let mut signals = Signals::default();
        signals.add_if(Signal::Furniture, is_furniture(&url));
        signals.add_if(Signal::Idle, !loads);
        self.found.places.push(Place {
            carrier: Carrier::Link,
            url,
            range: element.range.clone(),
            written: None,
            removal,
            size: Size::Zero,
            signals,
            picture: None,
            link: None,
        });
    }

    pub(super) fn meta(&mut self, element: &Element<'_>) {
        let kind = self.value(element, "http-equiv");
        let is = |name: &str| kind.as_ref().is_some_and(|(_, kind)| kind.trim().eq_ignore_ascii_case(name));
        if is("refresh") {
            self.refresh(element);
        } else if self.extent == Extent::EveryRequest && is(PREFETCH_CONTROL) {
            self.prefetch_control(element);
        }
    }

    /// What makes browsers look up the hosts of all links. It names none itself; in a report, it stands for
    /// them by its name.
    fn prefetch_control(&mut self, element: &Element<'_>) {
        let removal = Removal::Element { element: element.range.clone(), attribute: element.range.clone() };
        let Some(url) = Url::read(format!("https://{PREFETCH_CONTROL}/").into(), None) else { return };
        let mut signals = Signals::default();
        signals.add(Signal::Idle);
        self.found.places.push(Place {
            carrier: Carrier::Rare,
            url,
            range: element.range.clone(),
            written: None,
            removal,
            size: Size::Zero,
            signals,
            picture: None,
            link: None,
        });
    }

    fn refresh(&mut self, element: &Element<'_>) {
        let Some((_, content)) = self.value(element, "content") else { return };
        let removal = Removal::Element { element: element.range.clone(), attribute: element.range.clone() };
        let Some(target) = rare::refresh_target(&content) else { return };
        if is_inline(target) {
            return self.inline(Carrier::Refresh, target, element.range, &removal);
        }
        // Where a browser finds no address, another program may.
        let others = || {
            let strict = self.extent == Extent::EveryRequest;
            rare::remote_addresses(&content)
                .into_iter()
                .filter(|_| strict)
                .find_map(|address| self.url(address.into()))
        };
        let Some(url) = self.url(target.to_owned().into()).or_else(others) else { return };
        self.found.places.push(Place {
            carrier: Carrier::Refresh,
            url,
            range: element.range.clone(),
            written: None,
            removal,
            size: Size::Zero,
            signals: Signals::default(),
            picture: None,
            link: None,
        });
    }

    /// A conditional comment is markup to the clients it is meant for; a processing instruction can name a
    /// style sheet.
    pub(super) fn comment(&mut self, range: Range<usize>, content: Range<usize>) {
        let text = self.slice(&content);
        let start = text.trim_ascii_start();
        if start.get(..14).is_some_and(|name| name.eq_ignore_ascii_case(b"xml-stylesheet")) {
            let mut tokens = Tokenizer::new(self.text, content.start.saturating_sub(1)..content.end);
            // Its pseudo attributes are written as attributes are.
            let address = tokens.instruction().and_then(|attributes| {
                let mut attributes = attributes.iter();
                let href =
                    attributes.find(|attribute| self.slice(&attribute.name).eq_ignore_ascii_case(b"href"))?;
                Some(decoded(self.slice(&href.value)))
            });
            let Some(address) = address else { return };
            let removal = Removal::Element { element: range.clone(), attribute: range.clone() };
            if is_inline(&address) {
                return self.inline(Carrier::Link, &address, &range, &removal);
            }
            let Some(url) = self.url(address) else { return };
            self.found.places.push(Place {
                carrier: Carrier::Link,
                url,
                range,
                written: None,
                removal,
                size: Size::Zero,
                signals: Signals::default(),
                picture: None,
                link: None,
            });
            return;
        }
        if self.depth >= MAX_DEPTH || !start.get(..3).is_some_and(|open| open.eq_ignore_ascii_case(b"[if")) {
            return;
        }
        let Some(condition) = CONDITION_END.find(text) else { return };
        let known = self.found.places.len();
        self.depth += 1;
        self.markup(content.start + condition + 2..content.end);
        self.depth -= 1;
        for place in self.found.places.iter_mut().skip(known) {
            if let Removal::Element { element, attribute } = place.removal.clone() {
                place.removal = Removal::ElementInComment { element, attribute };
            }
        }
    }
}
