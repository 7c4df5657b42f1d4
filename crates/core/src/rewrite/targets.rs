//! What tracked links lead to, as far as their sender says so: a list, and what a look-up told about the links of
//! one message.
//!
//! An entry stands for one address, or for all that begin with it and go on with a parameter, a segment or a
//! fragment: so that one line is enough where only the reader's part, at the end, differs.

use std::collections::HashMap;
use std::sync::Arc;

use super::target;
use crate::tracker::url::Url;

/// The longest list.
pub const MAX_ENTRIES: usize = 1_000_000;
/// The characters of an address behind which an entry may end.
const SEAMS: [char; 5] = ['?', '&', ';', '/', '='];

/// The sender's list: addresses of tracked links, without scheme, with what they lead to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkMap {
    entries: HashMap<Box<str>, Box<str>>,
}

/// Why a line is no entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct BadEntry {
    /// The line, counted from one.
    pub line: usize,
    what: &'static str,
}

impl LinkMap {
    /// Reads a list: on each line a tracked address or its beginning, a blank and the page that it leads to. Empty
    /// lines and those that begin with `#` say nothing.
    ///
    /// # Errors
    ///
    /// The first line that says something else.
    pub fn read(text: &str) -> Result<LinkMap, BadEntry> {
        let mut entries = HashMap::new();
        for (index, line) in text.lines().enumerate() {
            let wrong = |what| BadEntry { line: index + 1, what };
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if entries.len() >= MAX_ENTRIES {
                return Err(wrong("too many entries: use at most 1,000,000"));
            }
            let mut words = line.split_whitespace();
            let (Some(tracked), Some(page), None) = (words.next(), words.next(), words.next()) else {
                return Err(wrong("expected a tracked address, a blank and the address of its page"));
            };
            let tracked = key(tracked).ok_or_else(|| {
                wrong("the tracked address must begin with https:// or http:// and have a host")
            })?;
            let page = target::allowed(page)
                .ok_or_else(|| wrong("the page must be an http or https address with a public host"))?;
            entries.insert(tracked.into(), page.into());
        }
        Ok(LinkMap { entries })
    }

    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What an address, as a sighting has it, leads to: of several entries that fit, the longest says it.
    fn of(&self, url: &str) -> Option<&str> {
        if self.entries.is_empty() {
            return None;
        }
        let mut end = url.len();
        // Each round is shorter, and an address has at most 16 KB.
        loop {
            if let Some(page) = url.get(..end).and_then(|head| self.entries.get(head)) {
                return Some(page);
            }
            let head = url.get(..end)?;
            let seam = head.rfind(SEAMS)?;
            // An entry may end before a seam or behind it.
            end = if seam + 1 < end { seam + 1 } else { seam };
        }
    }
}

/// An address in the form in which sightings have it.
fn key(address: &str) -> Option<String> {
    let has_scheme = address.starts_with("https://") || address.starts_with("http://");
    let url = Url::read(address.into(), None).filter(|_| has_scheme)?;
    Some(url.as_str().to_owned())
}

/// What is known about the links of one message.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    listed: Option<Arc<LinkMap>>,
    asked: HashMap<String, String>,
}

impl Targets {
    /// What a list says.
    pub fn listed(list: Option<Arc<LinkMap>>) -> Targets {
        Targets { listed: list, asked: HashMap::new() }
    }

    /// Adds what a look-up told: tracked addresses, as sightings have them, with their pages. Pages to which no
    /// reader may be led are left out.
    #[must_use]
    pub fn and_asked(mut self, told: impl IntoIterator<Item = (String, String)>) -> Targets {
        let allowed = told.into_iter().filter_map(|(tracked, page)| Some((tracked, target::allowed(&page)?)));
        self.asked.extend(allowed);
        self
    }

    /// The page that a tracked link leads to; `None` where nobody says.
    pub fn of(&self, url: &str) -> Option<&str> {
        let listed = self.listed.as_ref().and_then(|list| list.of(url));
        listed.or_else(|| self.asked.get(url).map(String::as_str))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "# Mailchimp: u is the account, id the link, e the reader\n\
         https://shop.us1.list-manage.example/track/click?u=a1b2&id=c3d4 https://shop.example/sale\n\
         https://shop.us1.list-manage.example/track/click?u=a1b2&id=c3d4&e=ffff https://shop.example/for-one\n\
         \n\
         http://t.shop.example/r/9/ https://shop.example/nine\n\
         https://t.shop.example https://shop.example/\n";

    #[test]
    fn an_entry_stands_for_what_begins_with_it_and_ends_at_a_seam() {
        let targets = Targets::listed(Some(Arc::new(LinkMap::read(LIST).unwrap())));
        let click = "shop.us1.list-manage.example/track/click";
        for (url, wanted) in [
            (format!("{click}?u=a1b2&id=c3d4&e=0123"), Some("https://shop.example/sale")),
            (format!("{click}?u=a1b2&id=c3d4"), Some("https://shop.example/sale")),
            (format!("{click}?u=a1b2&id=c3d4&e=ffff"), Some("https://shop.example/for-one")),
            (format!("{click}?u=a1b2&id=c3d45&e=0123"), None),
            (format!("{click}?u=a1b2&id=c3"), None),
            (format!("{click}?u=other"), None),
            ("t.shop.example/r/9/reader".to_owned(), Some("https://shop.example/nine")),
            ("t.shop.example/else?x=1".to_owned(), Some("https://shop.example/")),
            ("t.shop.example.other/".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(targets.of(&url), wanted, "{url}");
        }
        assert_eq!(Targets::default().of(click), None);
    }

    #[test]
    fn a_line_that_is_no_entry_is_named() {
        for (line, words) in [
            ("https://t.example/1", "expected a tracked address"),
            ("https://t.example/1 https://shop.example/ more", "expected a tracked address"),
            ("t.example/1 https://shop.example/", "must begin with https://"),
            ("https://t.example/1 javascript:alert(1)", "the page must be"),
            ("https://t.example/1 http://127.0.0.1/", "the page must be"),
        ] {
            let error = LinkMap::read(&format!("\n{line}\n")).unwrap_err();
            assert_eq!(error.line, 2);
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn a_look_up_leads_nobody_to_what_is_not_public() {
        let told = [("t.example/1", "https://shop.example/1"), ("t.example/2", "http://10.0.0.1/")];
        let told = told.map(|(tracked, page)| (tracked.to_owned(), page.to_owned()));
        let targets = Targets::default().and_asked(told);
        assert_eq!(targets.of("t.example/1"), Some("https://shop.example/1"));
        assert_eq!(targets.of("t.example/2"), None);
    }
}
