//! Attributes: what each of them loads.

use std::borrow::Cow;
use std::ops::Range;

use super::{
    Element, Extent, Links, MAX_DEPTH, MAX_LINK_TEXT, Open, Place, PlainPicture, Region, Removal, Walk,
    decoded,
};
use crate::tracker::carrier::Carrier;
use crate::tracker::facts::LastToken;
use crate::tracker::html::Attribute;
use crate::tracker::link;
use crate::tracker::rare::{self, Inner, is_inline};
use crate::tracker::signal::{Signal, Signals};
use crate::tracker::style::Size;
use crate::tracker::token;
use crate::tracker::url::Url;

impl<'a> Walk<'a> {
    pub(super) fn attribute(
        &mut self,
        carrier: Carrier,
        element: &Element<'_>,
        attribute: &Attribute,
        open: &mut [Open],
    ) {
        if carrier == Carrier::Srcset {
            return self.srcset(element, attribute, open);
        }
        let written = self.slice(&attribute.value);
        if self.extent == Extent::Trackers
            && let Some(url) = self.plain.picture(written)
        {
            return self.plain_picture(url, element, attribute);
        }
        let value = decoded(written);
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
        if self.extent == Extent::EveryRequest && rare::is_script(&value) {
            let mut idle = Signals::default();
            idle.add(Signal::Idle);
            for address in rare::remote_addresses(&value) {
                self.rare(Carrier::Rare, &address, element, attribute, idle, open);
            }
            return;
        }
        let Some((url, is_plain)) = self.picture(value) else { return };
        if is_plain && self.extent == Extent::Trackers {
            return self.plain_picture(url, element, attribute);
        }
        let mut place = Place {
            carrier,
            url,
            range: element.range.clone(),
            written: Some(attribute.value.clone()),
            removal,
            size: Size::Unset,
            signals: Signals::default(),
            picture: None,
            link: None,
        };
        self.look(element, open, &mut place);
        let empty_box = carrier == Carrier::Background && self.is_empty_element(element.range.end);
        let is_sound = element.name.eq_ignore_ascii_case(b"bgsound");
        place.signals.add_if(Signal::ShowsNothing, empty_box || is_sound);
        self.found.places.push(place);
    }

    fn plain_picture(&mut self, url: Url<'a>, element: &Element<'_>, attribute: &Attribute) {
        let (range, written) = (element.range.clone(), attribute.value.clone());
        self.found.plain.push(PlainPicture { url, range, written });
    }

    /// An address, and whether it is that of a plain picture file.
    fn picture(&mut self, value: Cow<'a, str>) -> Option<(Url<'a>, bool)> {
        let written = if let Cow::Borrowed(value) = value { Some(value) } else { None };
        let url = self.url(value)?;
        let is_plain = token::is_plain_picture(&url);
        if let (true, Some(written)) = (is_plain, written) {
            self.plain.remember(written, &url);
        }
        Some((url, is_plain))
    }

    fn srcset(&mut self, element: &Element<'_>, attribute: &Attribute, open: &mut [Open]) {
        // A value without quotes has one candidate, and would take the next attribute for its value if
        // nothing of it were left.
        let is_quoted = attribute.whole.end > attribute.value.end;
        for candidate in self.candidates(&attribute.value) {
            let text = decoded(self.slice(&candidate));
            // Blanks and commas before an address belong to nothing.
            let text = text.trim_start_matches([' ', '\t', '\r', '\n', '\x0c', ',']);
            let Some(url) = text.split_whitespace().next().and_then(|url| self.url(url.to_owned().into()))
            else {
                continue;
            };
            let mut place = Place {
                carrier: Carrier::Srcset,
                url,
                range: element.range.clone(),
                written: None,
                removal: match is_quoted {
                    true => Removal::Candidate { value: attribute.value.clone(), candidate },
                    false => Removal::Attribute(self.with_blank(&attribute.whole)),
                },
                size: Size::Unset,
                signals: Signals::default(),
                picture: None,
                link: None,
            };
            self.look(element, open, &mut place);
            self.found.places.push(place);
        }
    }

    /// Attributes that load in few clients or in few elements.
    pub(super) fn rarely(
        &mut self,
        element: &Element<'_>,
        name: &[u8],
        attribute: &Attribute,
        open: &mut [Open],
    ) {
        let value = self.slice(&attribute.value);
        if rare::paints(name) && memchr::memchr(b'(', value).is_some() {
            self.painted(element, attribute);
        } else if name.eq_ignore_ascii_case(b"srcdoc") {
            let removal = Removal::Attribute(self.with_blank(&attribute.whole));
            let document = decoded(value).into_owned().into_bytes();
            self.within(Carrier::Embedded, &document, Inner::Markup, element.range, &removal);
        } else if rare::animates(element.name, name) {
            if memchr::memchr(b'(', value).is_some() {
                self.painted(element, attribute);
            }
            for address in decoded(value).split(';') {
                self.rare(Carrier::Svg, address, element, attribute, Signals::default(), open);
            }
        } else if self.extent == Extent::EveryRequest && !rare::may_stay(element.name, name) {
            let mut idle = Signals::default();
            idle.add(Signal::Idle);
            let value = decoded(value);
            if rare::takes_addresses(element.name, name) {
                for address in value.split_whitespace() {
                    self.rare(Carrier::Rare, address, element, attribute, idle, open);
                }
            } else {
                // The content of `meta` is text for readers, but where it is an address alone.
                let is_text = element.name.eq_ignore_ascii_case(b"meta") && !rare::is_address(&value);
                for address in rare::remote_addresses(&value).into_iter().filter(|_| !is_text) {
                    self.rare(Carrier::Rare, &address, element, attribute, idle, open);
                }
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
        signals: Signals,
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
            size: Size::Unset,
            signals,
            picture: None,
            link: None,
        };
        self.look(element, open, &mut place);
        self.found.places.push(place);
    }

    /// A presentation attribute of SVG, whose value is CSS.
    fn painted(&mut self, element: &Element<'_>, attribute: &Attribute) {
        let removal = Removal::Attribute(self.with_blank(&attribute.whole));
        let style = decoded(self.slice(&attribute.value)).into_owned().into_bytes();
        self.within(Carrier::Svg, &style, Inner::Style, element.range, &removal);
    }

    /// A `data:` address can be a document that loads more.
    pub(super) fn inline(
        &mut self,
        carrier: Carrier,
        address: &str,
        range: &Range<usize>,
        removal: &Removal,
    ) {
        if let Some((inner, document)) = rare::document(address) {
            self.within(carrier, &document, inner, range, removal);
        }
    }

    /// What a document within an attribute loads, the attribute loads.
    pub(super) fn within(
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
        walk.strings = self.strings;
        walk.depth = self.depth + 1;
        match inner {
            Inner::Markup => walk.markup(0..document.len()),
            Inner::Style => walk.style_sheet(0..document.len()),
        }
        if walk.found_base {
            walk = walk.again();
            walk.markup(0..document.len());
        }
        self.uses_variables |= walk.uses_variables;
        for place in walk.found.places {
            self.found.places.push(Place {
                carrier,
                url: place.url.into_owned(),
                range: range.clone(),
                written: None,
                removal: removal.clone(),
                size: place.size,
                signals: place.signals,
                picture: None,
                link: None,
            });
        }
    }

    /// A link, which reports when it is followed.
    pub(super) fn anchor(&mut self, element: &Element<'_>, attribute: &Attribute) {
        if self.links == Links::Ignore || !link::may_track(self.slice(&attribute.value)) {
            return;
        }
        self.found.links += 1;
        if self.links == Links::Count {
            return;
        }
        let written = &attribute.value;
        if self.looked.get().max(self.looked_for_links) > written.start {
            self.overlooked.push(written.start);
        }
        let place = self.link_at(element.range.clone(), written.clone());
        self.found.places.extend(place);
    }

    /// The link of an element whose address is written there.
    pub(super) fn link_at(&mut self, range: Range<usize>, written: Range<usize>) -> Option<Place<'a>> {
        let url = self.url(decoded(self.slice(&written)))?;
        let behind = self.text.get(range.end..).unwrap_or_default();
        let text = behind.get(..behind.len().min(MAX_LINK_TEXT)).unwrap_or_default();
        let mut tags = memchr::memchr_iter(b'<', text);
        let end = tags.find(|at| text.get(at + 1) == Some(&b'/'));
        // The end of the text may be another one in another text.
        let looked = range.end + end.map_or(MAX_LINK_TEXT, |end| end + 2);
        self.looked_for_links = self.looked_for_links.max(looked);
        let text = text.get(..end.unwrap_or(text.len())).unwrap_or_default();
        let mut signals = Signals::default();
        signals.add_if(
            Signal::Choice,
            link::offers_a_choice(url.tail()) || link::offers_a_choice(&decoded(text)),
        );
        Some(Place { range, written: Some(written), signals, ..Place::of_link(url) })
    }

    /// The same, where nothing but the address differs from another copy, in which it leads to no choice.
    pub(super) fn link_like(
        &self,
        other: &Place<'_>,
        range: Range<usize>,
        written: Range<usize>,
    ) -> Option<Place<'a>> {
        let url = self.url(decoded(self.slice(&written)))?;
        let mut signals = Signals::default();
        signals.add_if(Signal::Choice, link::offers_a_choice(url.tail()));
        let link = other.link.as_ref().and_then(|known| known.of_copy(&other.url, &url));
        Some(Place { range, written: Some(written), signals, link, ..Place::of_link(url) })
    }

    /// The same, where the address is the other one but for what stands at `token` of it. `None` where it is not, or
    /// must be read as a whole.
    pub(super) fn link_with_token(
        &self,
        other: &Place<'_>,
        range: Range<usize>,
        written: Range<usize>,
        token: &Range<usize>,
        last: &mut LastToken,
    ) -> Option<Place<'a>> {
        let Cow::Borrowed(value) = decoded(self.slice(&written)) else { return None };
        let url = other.url.with_token(value, token)?;
        let link = other.link.as_ref()?.with_token(url.as_str().get(token.clone())?, last)?;
        Some(Place { range, written: Some(written), link: Some(link), ..Place::of_link(url) })
    }

    /// The candidates of a `srcset` (WHATWG HTML, 4.8.4.2.2): a comma parts them where a blank or the next
    /// address follows, not within an address.
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
}
