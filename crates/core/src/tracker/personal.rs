//! Pictures that are seen and yet tell readers apart: an address, its hash or a vendor's mark stands in where
//! they are loaded from.
//!
//! Taking such a picture out costs the reader something, so gentler ways come first: the picture itself where
//! the address holds it, else the same address without what identifies. Each way is only offered where it
//! really ends the identification.

use std::borrow::Cow;

use super::analysis::Detector;
use super::catalogue::Vendor;
use super::link;
use super::recipient::Traces;
use super::scan::{Place, decoded};
use super::signal::Signal;
use super::token::{self, Opacity};
use super::url::Url;
use crate::message::Edit;

/// A way to leave a picture or a link without what tells readers apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The address that stands within the address takes its place.
    Unwrap,
    /// The parameters that identify go.
    DropParameter,
}

/// The edits of the ways that help for one place.
#[derive(Clone, Debug, Default)]
pub(super) struct Remedies {
    pub(super) unwrapped: Option<Edit>,
    pub(super) without_parameter: Option<Edit>,
}

impl Remedies {
    /// The edit of one way, where it helps.
    pub(super) fn of(&self, remedy: Remedy) -> Option<&Edit> {
        match remedy {
            Remedy::Unwrap => self.unwrapped.as_ref(),
            Remedy::DropParameter => self.without_parameter.as_ref(),
        }
    }

    /// All of them.
    pub(super) fn edits_mut(&mut self) -> impl Iterator<Item = &mut Edit> {
        self.unwrapped.iter_mut().chain(&mut self.without_parameter)
    }
}

/// The ways that help for a picture.
pub(super) fn remedies(
    detector: &Detector,
    text: &[u8],
    place: &Place<'_>,
    vendor: Option<Vendor>,
    traces: &Traces,
) -> Remedies {
    let Some(written) = place.written.clone() else { return Remedies::default() };
    let identifies = |url: &Url<'_>| {
        traces.stand_in(url.as_str())
            || detector.catalogue.open(url.as_str()).is_some()
            || detector.catalogue.image(url.as_str()).is_some()
            // Other copies have shown that a token of this address is the reader's.
            || place.signals.has(Signal::Learnt) && token::opacity(url) == Opacity::Opaque
    };
    let helps = |address: &str| Url::read(Cow::Borrowed(address), None).is_some_and(|url| !identifies(&url));
    let target = link::target(&place.url).filter(|target| helps(target));
    let unwrapped = target.map(|target| Edit::replace(written.clone(), attribute_value(&target)));
    let value = text.get(written.clone()).unwrap_or_default();
    let names = vendor.map(|vendor| detector.catalogue.identifying(vendor)).unwrap_or_default();
    let goes = |name: &str, text: &str| {
        names.iter().any(|identifying| identifying.eq_ignore_ascii_case(name))
            || traces.stand_in(text)
            || token::piece_opacity(text.as_bytes()) == Opacity::Opaque
    };
    let without = without_parameters(value, goes).filter(|without| helps(&decoded(without)));
    Remedies { unwrapped, without_parameter: without.map(|without| Edit::replace(written, without)) }
}

/// The way that helps for a link: the address it leads to, as it may stand in an attribute.
pub(super) fn unwrapped(place: &Place<'_>, end: &[u8]) -> Remedies {
    let unwrapped = place.written.clone().map(|written| Edit::replace(written, end));
    Remedies { unwrapped, without_parameter: None }
}

/// An address as it may stand in an attribute, quoted in whatever way.
pub(super) fn attribute_value(address: &str) -> Vec<u8> {
    let address = address.as_bytes();
    let mut value = Vec::with_capacity(address.len() + 8);
    let mut copied = 0;
    for at in memchr::memchr3_iter(b'&', b'"', b'\'', address) {
        value.extend_from_slice(address.get(copied..at).unwrap_or_default());
        value.extend_from_slice(match address.get(at) {
            Some(b'&') => b"&amp;",
            Some(b'"') => b"&quot;",
            _ => b"&#39;",
        });
        copied = at + 1;
    }
    value.extend_from_slice(address.get(copied..).unwrap_or_default());
    value
}

/// An attribute's value, as written, without the parameters of its query for which `goes` says so. `None`
/// where nothing went.
fn without_parameters(value: &[u8], goes: impl Fn(&str, &str) -> bool) -> Option<Vec<u8>> {
    let query = memchr::memchr(b'?', value)? + 1;
    let (head, query) = value.split_at_checked(query)?;
    let end = fragment(query);
    let (query, fragment) = query.split_at_checked(end)?;
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut gone = false;
    for parameter in parameters(query) {
        let text = decoded(parameter);
        let (name, value) = text.split_once('=').unwrap_or(("", text.as_ref()));
        if goes(name, value) {
            gone = true;
        } else {
            kept.push(parameter);
        }
    }
    if !gone {
        return None;
    }
    let head = if kept.is_empty() { head.strip_suffix(b"?").unwrap_or(head) } else { head };
    Some([head, &kept.join(&b"&amp;"[..]), fragment].concat())
}

/// Where the fragment of an address starts: at a number sign that is no part of a character reference.
fn fragment(query: &[u8]) -> usize {
    memchr::memchr_iter(b'#', query)
        .find(|at| at.checked_sub(1).and_then(|before| query.get(before)) != Some(&b'&'))
        .unwrap_or(query.len())
}

/// The parameters of a query in an attribute: parted by `&`, written as such or as a character reference.
fn parameters(query: &[u8]) -> impl Iterator<Item = &[u8]> {
    query.split(|byte| *byte == b'&').map(|piece| {
        let reference = ["amp;", "#38;", "#x26;"].iter().find(|reference| {
            piece.get(..reference.len()).is_some_and(|start| start.eq_ignore_ascii_case(reference.as_bytes()))
        });
        reference.and_then(|reference| piece.get(reference.len()..)).unwrap_or(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str) -> Option<String> {
        without_parameters(value.as_bytes(), |name, item| name == "e" || item.contains("ann"))
            .map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn identifying_parameters_go_and_the_others_stay_as_they_are() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(check("//a.example/i.png?w=6&amp;e=1&h=7"), some("//a.example/i.png?w=6&amp;h=7"));
        assert_eq!(check("//a.example/i.png?e=1"), some("//a.example/i.png"));
        assert_eq!(check("//a.example/i.png?u=ann&#38;w=%206#x"), some("//a.example/i.png?w=%206#x"));
        assert_eq!(check("//a.example/i.png?w=6"), None);
        assert_eq!(check("//a.example/i.png"), None);
    }
}
