//! Who reports opens, by the shape of the address.

mod start;

use std::collections::BTreeMap;
use std::ops::Range;

use regex_automata::meta::{BuildError, Regex};
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};
use regex_syntax::hir::{Dot, Hir, HirKind, Look, Repetition};
use serde::Deserialize;

use super::class::Words;
pub use start::Start;
use start::Steps;

/// The catalogue that comes with the program.
const SHIPPED: &str = include_str!("catalogue.toml");

/// The most memory one set of patterns may take once compiled, in bytes.
const PATTERN_BYTES: usize = 32 << 20;

/// Vendors and the patterns of their addresses.
#[derive(Debug)]
pub struct Catalogue {
    vendors: Vec<String>,
    open: Patterns,
    image: Patterns,
    pictures: Patterns,
    link: Patterns,
    /// For each vendor, the parameters of its pictures that identify.
    identifying: Vec<Vec<String>>,
}

/// Patterns, each of which belongs to a vendor; of several that match, the first one counts.
#[derive(Debug)]
struct Patterns {
    written: Vec<String>,
    vendors: Vec<u16>,
    /// Those that match at the start of an address, which are most: it shows soon that none of them does.
    at_start: Set,
    /// How far those look into an address, where that is asked for.
    steps: Option<Steps>,
    /// Those that match anywhere, and hold a text that must be there for that: `texts` are those.
    anywhere: Set,
    texts: Words,
}

/// Some of the patterns.
#[derive(Debug)]
struct Set {
    all: Regex,
    /// The place of each among all.
    places: Vec<usize>,
}

/// A vendor of a [`Catalogue`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vendor(u16);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    vendor: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    #[serde(default)]
    open: Vec<String>,
    #[serde(default)]
    image: Vec<String>,
    #[serde(default)]
    pictures: Vec<String>,
    #[serde(default)]
    link: Vec<String>,
    #[serde(default)]
    identifying: Vec<String>,
}

/// Why a catalogue file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// It is no TOML of the expected form.
    #[error("{0}")]
    Form(#[from] toml::de::Error),
    /// A pattern is no regular expression.
    #[error("vendor {vendor:?}: {source}")]
    Pattern {
        /// The vendor it stands under.
        vendor: String,
        /// What is wrong with it.
        source: Box<regex_syntax::Error>,
    },
    /// All patterns together need too much memory.
    #[error("the patterns need too much memory once compiled: {0}")]
    Size(Box<BuildError>),
}

impl Catalogue {
    /// The catalogue that comes with the program.
    pub fn shipped() -> Catalogue {
        Catalogue::with("").expect("the shipped catalogue is well-formed, as a test shows")
    }

    /// The shipped catalogue and an operator's own, in the same form as `catalogue.toml`.
    pub fn with(additions: &str) -> Result<Catalogue, CatalogueError> {
        let mut entries = toml::from_str::<File>(SHIPPED)?.vendor;
        entries.extend(toml::from_str::<File>(additions)?.vendor);
        for entry in &entries {
            for pattern in entry.open.iter().chain(&entry.image).chain(&entry.pictures).chain(&entry.link) {
                parsed(pattern, true)
                    .map_err(|source| CatalogueError::Pattern { vendor: entry.name.clone(), source })?;
            }
        }
        let open = Patterns::new(entries.iter().map(|entry| entry.open.as_slice()))?;
        let image = Patterns::new(entries.iter().map(|entry| entry.image.as_slice()))?;
        let pictures = Patterns::new(entries.iter().map(|entry| entry.pictures.as_slice()))?;
        let link = Patterns::new(entries.iter().map(|entry| entry.link.as_slice()))?.followed();
        let (vendors, identifying) = entries.into_iter().map(|entry| (entry.name, entry.identifying)).unzip();
        Ok(Catalogue { vendors, open, image, pictures, link, identifying })
    }

    /// The vendor whose open reports go to such addresses. `url` is `host/path?query`.
    pub fn open(&self, url: &str) -> Option<Vendor> {
        self.open.find(url, &mut Start::default())
    }

    /// The vendor that serves visible pictures under an address for each recipient.
    pub fn image(&self, url: &str) -> Option<Vendor> {
        self.image.find(url, &mut Start::default())
    }

    /// The service that keeps pictures under such addresses, the same for every reader.
    pub fn pictures(&self, url: &str) -> Option<Vendor> {
        self.pictures.find(url, &mut Start::default())
    }

    /// The vendor through which links with such addresses lead.
    pub fn link(&self, url: &str) -> Option<Vendor> {
        self.link.find(url, &mut Start::default())
    }

    /// The same, where the address may begin as one before it did: in one text, most links do.
    pub fn link_after(&self, url: &str, last: &mut Start) -> Option<Vendor> {
        self.link.find(url, last)
    }

    /// How long the beginning of a link's address is by which it is told whose the link is, whatever else stands in its
    /// place from there to the end of `token`. Nothing that is looked for may stand in that
    /// ([`Catalogue::may_tell_a_link_by`]). `None` where it may be told by anything else.
    pub fn told_by(&self, url: &str, token: &Range<usize>) -> Option<usize> {
        let Patterns { steps, texts, .. } = &self.link;
        let beginning = steps.as_ref()?.decide(url)?;
        let may_be_anywhere = texts.stand_in(url) || texts.may_reach_into(url.as_bytes(), token);
        (beginning.len() <= token.end && !may_be_anywhere).then_some(beginning.len())
    }

    /// Whether whose a link is may hang on a token that stands somewhere in its address.
    pub fn may_tell_a_link_by(&self, token: &str) -> bool {
        self.link.texts.stand_in(token)
    }

    /// The parameters of a vendor's pictures that identify the reader.
    pub fn identifying(&self, vendor: Vendor) -> &[String] {
        self.identifying.get(usize::from(vendor.0)).map(Vec::as_slice).unwrap_or_default()
    }

    /// The names of all vendors.
    pub fn vendors(&self) -> impl Iterator<Item = &str> {
        self.vendors.iter().map(String::as_str)
    }

    /// The patterns and parameters of all entries, by the name of the vendor.
    pub fn entries(&self) -> BTreeMap<&str, String> {
        let mut entries: BTreeMap<&str, String> = BTreeMap::new();
        let kinds = [
            ("open", &self.open),
            ("image", &self.image),
            ("pictures", &self.pictures),
            ("link", &self.link),
        ];
        for (kind, patterns) in kinds {
            for (pattern, vendor) in patterns.written.iter().zip(&patterns.vendors) {
                let entry = entries.entry(self.name(Vendor(*vendor))).or_default();
                entry.push_str(&format!("{kind} {pattern}\n"));
            }
        }
        for (name, parameters) in self.vendors.iter().zip(&self.identifying) {
            let entry = entries.entry(name).or_default();
            parameters.iter().for_each(|parameter| entry.push_str(&format!("identifying {parameter}\n")));
        }
        entries
    }

    /// A vendor's name.
    pub fn name(&self, vendor: Vendor) -> &str {
        self.vendors.get(usize::from(vendor.0)).map_or("", String::as_str)
    }
}

impl Patterns {
    fn new<'a>(of_vendors: impl Iterator<Item = &'a [String]>) -> Result<Patterns, CatalogueError> {
        let mut written = Vec::new();
        let mut vendors = Vec::new();
        for (vendor, of_vendor) in (0u16..).zip(of_vendors) {
            for pattern in of_vendor {
                written.push(pattern.clone());
                vendors.push(vendor);
            }
        }
        let texts: Vec<Option<Vec<u8>>> = written.iter().map(|pattern| required_text(pattern)).collect();
        let (anywhere, at_start) =
            (0..written.len()).partition(|place| texts.get(*place).is_some_and(Option::is_some));
        Ok(Patterns {
            steps: None,
            at_start: Set::of(&written, at_start).map_err(CatalogueError::Size)?,
            anywhere: Set::of(&written, anywhere).map_err(CatalogueError::Size)?,
            texts: Words::of(texts.iter().flatten().map(Vec::as_slice)),
            written,
            vendors,
        })
    }

    /// The same, which say how far they look into an address: worth its memory where many addresses begin alike.
    fn followed(self) -> Patterns {
        let steps = Steps::of(&chosen(&self.written, &self.at_start.places));
        Patterns { steps, ..self }
    }

    fn find(&self, url: &str, last: &mut Start) -> Option<Vendor> {
        let at_start = last.decided(url).unwrap_or_else(|| {
            let first = self.at_start.first(url);
            last.note(first, || self.steps.as_ref()?.decide(url));
            first
        });
        let may_be_anywhere = self.texts.stand_in(url);
        let anywhere = may_be_anywhere.then(|| self.anywhere.first(url)).flatten();
        let first = at_start.into_iter().chain(anywhere).min()?;
        self.vendors.get(first).copied().map(Vendor)
    }
}

impl Set {
    fn of(written: &[String], places: Vec<usize>) -> Result<Set, Box<BuildError>> {
        Ok(Set { all: compiled(&chosen(written, &places))?, places })
    }

    /// The place of the first one that matches.
    fn first(&self, url: &str) -> Option<usize> {
        let found = self.all.search_half(&Input::new(url).anchored(Anchored::Yes))?;
        self.places.get(found.pattern().as_usize()).copied()
    }
}

/// Patterns at these places.
fn chosen<'w>(written: &'w [String], places: &[usize]) -> Vec<&'w String> {
    places.iter().filter_map(|place| written.get(*place)).collect()
}

/// Makes patterns ready.
fn compiled(patterns: &[&String]) -> Result<Regex, Box<BuildError>> {
    Regex::builder()
        .configure(Regex::config().nfa_size_limit(Some(PATTERN_BYTES)).utf8_empty(false))
        .build_many_from_hir(&from_start(patterns))
        .map_err(Box::new)
}

/// Patterns as they are looked for from the start of an address: then the first one that matches is found, wherever the
/// others do.
fn from_start(patterns: &[&String]) -> Vec<Hir> {
    let anything = Repetition { min: 0, max: None, greedy: false, sub: Box::new(Hir::dot(Dot::AnyByte)) };
    let from_start = patterns.iter().filter_map(|pattern| {
        // Those that are none have been turned away.
        let written = parsed(pattern, true).ok()?;
        let before = if holds_at_start(pattern) { Hir::empty() } else { Hir::repetition(anything.clone()) };
        Some(Hir::concat(vec![before, written]))
    });
    from_start.collect()
}

fn parsed(pattern: &str, in_any_case: bool) -> Result<Hir, Box<regex_syntax::Error>> {
    let form = syntax::Config::new().case_insensitive(in_any_case).unicode(false).utf8(false);
    syntax::parse_with(pattern, &form).map_err(Box::new)
}

/// Whether a pattern can match at the start of an address alone.
fn holds_at_start(pattern: &str) -> bool {
    parsed(pattern, false).is_ok_and(|parsed| parsed.properties().look_set_prefix().contains(Look::Start))
}

/// The longest text, in lower case, that stands in whatever a pattern matches which need not be at the start; `None`
/// if it is too short to tell anything.
fn required_text(pattern: &str) -> Option<Vec<u8>> {
    const SHORTEST: usize = 4;
    let parsed = parsed(pattern, false).ok().filter(|_| !holds_at_start(pattern))?;
    let parts = match parsed.kind() {
        HirKind::Concat(parts) => parts.as_slice(),
        _ => std::slice::from_ref(&parsed),
    };
    let texts = parts.iter().filter_map(|part| match part.kind() {
        HirKind::Literal(text) => Some(text.0.to_ascii_lowercase()),
        _ => None,
    });
    texts.max_by_key(Vec::len).filter(|text| text.len() >= SHORTEST)
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;
    use regex::bytes::{Regex, RegexBuilder};

    use super::*;

    #[test]
    fn the_shipped_catalogue_knows_its_vendors() {
        let catalogue = Catalogue::shipped();
        let name = |url: &str| catalogue.open(url).map(|vendor| catalogue.name(vendor));
        assert_eq!(name("url99.shop.example/wf/open?upn=abc"), Some("SendGrid"));
        assert_eq!(name("shop.example/lists/ut.php?u=0a1b"), Some("phpList"));
        assert_eq!(name("cdn.shop.example/img/logo.png"), None);
    }

    #[test]
    fn opens_and_clicks_of_vendors_are_told_by_their_addresses() {
        let catalogue = Catalogue::shipped();
        let name = |vendor: Option<Vendor>| vendor.map(|vendor| catalogue.name(vendor));
        for (url, vendor) in [
            (
                "erp.shop.example/api/method/frappe.core.doctype.communication.email.mark_email_as_seen?name=1",
                "Frappe",
            ),
            ("club.informz.net/z/cjUucD9taT05/image.gif", "Higher Logic"),
            ("go.shop.example/?xol=2BcDeF&eih=3XyZ", "Ongage"),
            ("shop.example/mail/tracking/open/db/77/blank.gif", "Odoo"),
            ("notifications.google.com/g/img/AD-Fn.gif", "Google"),
        ] {
            assert_eq!(name(catalogue.open(url)), Some(vendor), "{url}");
        }
        for (url, vendor) in [
            ("u77.ct.shop.example/ls/click?upn=u001.abc", "SendGrid"),
            ("shop.us1.list-manage.com/track/click?u=1&id=2&e=3", "Mailchimp"),
            ("links.shop.example/a/click?_t=1&_m=2&_e=3", "Iterable"),
            ("go.shop.example/f/a/Zk3Qw9XvT2aB7LmN~~/AAAA/x", "SparkPost"),
            ("click.shop.example/?qs=0123456789abcdef0123", "Salesforce Marketing Cloud"),
            ("news.shop.example/l/Zk3Qw9Xv/T2aB7LmN/8pRsYd4H", "Sendy"),
            ("email.shop.example/c/eJwNyEEOgCAMBMDXlCNZWqB", "Mailgun"),
            ("shop.us9.rs6.net/tn.jsp?f=001abc", "Constant Contact"),
            ("click.convertkit-mail2.com/abc/def", "Kit"),
            ("x1.mjt.lu/lnk/AVsAAB/1/abc", "Mailjet"),
        ] {
            assert_eq!(name(catalogue.link(url)), Some(vendor), "{url}");
            assert_eq!(catalogue.open(url), None, "{url} reports no opening");
        }
        assert_eq!(catalogue.link("shop.example/blog/spring"), None);
    }

    #[test]
    fn one_program_of_a_vendor_answers_for_pixels_pictures_and_links() {
        let catalogue = Catalogue::shipped();
        let host = "em.realtime.email/service/rte?kind=";
        let named = |vendor: Option<Vendor>| vendor.map(|vendor| catalogue.name(vendor));
        assert_eq!(named(catalogue.open(&format!("{host}duration&id=18"))), Some("LiveClicker"));
        let image = format!("{host}feed_image&id=18&esp_uid=ann@home.example");
        assert_eq!(named(catalogue.image(&image)), Some("LiveClicker"));
        assert_eq!(named(catalogue.open(&image)), None);
        assert_eq!(named(catalogue.link(&format!("{host}feed_clickthrough&id=18"))), Some("LiveClicker"));
    }

    #[test]
    fn the_first_pattern_counts_wherever_it_holds() {
        let entry =
            |name: &str, pattern: &str| format!("[[vendor]]\nname = \"{name}\"\nlink = ['{pattern}']\n");
        let [one, two] = [entry("One", "/seen-by/"), entry("Two", "^[^/]+/seen-by/")];
        let found = |catalogue: &Catalogue, url: &str| {
            catalogue.link(url).map(|vendor| catalogue.name(vendor).to_owned())
        };
        let texts = ["[?&]Xcl=[^&]+(&.*)?&eIh=", "a(b|c)seen", "seen|by", "[a-z]+", "^[^/]+/seen-by/"]
            .map(required_text);
        assert_eq!(
            texts.map(|text| text.map(|text| String::from_utf8(text).unwrap())),
            [Some("&eih=".to_owned()), Some("seen".to_owned()), None, None, None]
        );
        // Written in several lines, with a remark that would take in whatever is put behind it.
        let verbose =
            "[[vendor]]\nname = \"Verbose\"\nlink = ['''(?x) /seen- # a remark\n by/ # another''']\n";
        let verbose = Catalogue::with(verbose).unwrap();
        assert_eq!(found(&verbose, "a.example/b/Seen-By/").as_deref(), Some("Verbose"));
        for (first, additions) in [("One", format!("{one}{two}")), ("Two", format!("{two}{one}"))] {
            let catalogue = Catalogue::with(&additions).unwrap();
            assert_eq!(found(&catalogue, "a.example/SEEN-BY/1").as_deref(), Some(first));
            assert_eq!(found(&catalogue, "a.example/b/seen-by/").as_deref(), Some("One"));
        }
    }

    proptest! {
        #[test]
        fn by_what_a_link_is_told_it_is_told_with_any_token(
            before in prop::collection::vec(prop::sample::select(vec![
                "a.example", "click.", "email.", "list-manage.com", "/", "/track/click", "/ls/click", "/c/", "?upn=",
                "/f/a/", "&", "?akid=", "/lnk/", "/l/", "?_t=",
            ]), 1..5),
            tokens in prop::array::uniform2("[A-Za-z0-9]{16}|eJ[a-z]{14}|AVsAAB[a-z]{10}|[a-z]{8}akid[0-9]{4}"),
            behind in prop::sample::select(vec![
                "", "/1/abc", "?to=https", "=1", "&_m=2&_e=3", "~~/AAAA/x", "?akid=4.5.",
            ]),
        ) {
            static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(Catalogue::shipped);
            let before = before.concat();
            let with = |token: &str| [&before, token, behind].concat();
            let (one, token) = (with(&tokens[0]), before.len()..before.len() + tokens[0].len());
            if let Some(told_by) = CATALOGUE.told_by(&one, &token) {
                let telling = &tokens[0][..told_by.saturating_sub(token.start)];
                let other = format!("{telling}{}", &tokens[1][telling.len()..]);
                prop_assert!(
                    CATALOGUE.may_tell_a_link_by(&other) || CATALOGUE.link(&one) == CATALOGUE.link(&with(&other)),
                    "{} {}", one, other
                );
            }
        }

        #[test]
        fn what_is_found_is_the_first_pattern_that_matches(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "a.example", "click.", "t.", "list-manage.com", "/", "/track/click", "/ls/click", "?upn=", "?", "&",
                "u001.abc", "xcl=1", "eih=2", "cdmtw=3", "akid=4.5.", "Broadcast.record.message.click.do", "nvep=",
                "type=open", "/TRACK_OPEN", "esp_uid", "0123456789abcdefghijkl", "emailmd5lower=", "mailpoet_page=",
            ]), 1..9),
        ) {
            static CATALOGUE: LazyLock<(Catalogue, Vec<Vec<Regex>>)> = LazyLock::new(|| {
                let catalogue = Catalogue::shipped();
                let one = |pattern: &String| {
                    RegexBuilder::new(pattern).case_insensitive(true).unicode(false).build().unwrap()
                };
                let each = sets(&catalogue).map(|patterns| patterns.written.iter().map(one).collect());
                (catalogue, each.to_vec())
            });
            let url = pieces.concat();
            let (catalogue, each) = &*CATALOGUE;
            for (patterns, each) in sets(catalogue).into_iter().zip(each) {
                let first = each.iter().position(|pattern| pattern.is_match(url.as_bytes()));
                let first = first.map(|place| Vendor(patterns.vendors[place]));
                let mut last = Start::default();
                for _ in 0..3 {
                    prop_assert_eq!(patterns.find(&url, &mut last), first);
                }
                // The same for one that goes on otherwise, or begins so.
                let half = pieces[..pieces.len() / 2].concat();
                let turned: String = pieces.iter().rev().copied().collect();
                for other in [format!("{url}{}", pieces[0]), format!("{half}{turned}"), half, turned] {
                    let wanted = patterns.find(&other, &mut Start::default());
                    prop_assert_eq!(patterns.find(&other, &mut last), wanted, "{} {}", url, other);
                }
            }
        }
    }

    fn sets(catalogue: &Catalogue) -> [&Patterns; 4] {
        [&catalogue.open, &catalogue.image, &catalogue.pictures, &catalogue.link]
    }

    #[test]
    fn what_is_decided_by_a_beginning_is_not_decided_again() {
        let catalogue = Catalogue::shipped();
        for (url, beginning) in [
            ("u77.ct.shop.example/ls/click?upn=u001.abc", Some("u77.ct.shop.example/ls/click?up")),
            ("click.shop.example/c/Zk3Qw9Xv/0001", Some("click.shop.example/c/Z")),
            ("shop.example", None),
        ] {
            assert_eq!(catalogue.link.steps.as_ref().unwrap().decide(url), beginning, "{url}");
            let mut last = Start::default();
            let vendor = catalogue.link_after(url, &mut last);
            assert_eq!(last.decided(url), None, "of the first one nothing is noted");
            assert_eq!(catalogue.link_after(url, &mut last), vendor);
            assert_eq!(last.decided(&format!("{url}/other")).is_some(), beginning.is_some(), "{url}");
            assert_eq!(catalogue.link_after(url, &mut last), vendor);
            assert_eq!(last.decided("a.example/"), None);
        }
    }

    #[test]
    fn an_own_file_is_added() {
        let additions = "[[vendor]]\nname = \"Own\"\nopen = ['^[^/]+/seen/']\n";
        let catalogue = Catalogue::with(additions).unwrap();
        let vendor = catalogue.open("a.example/seen/1").unwrap();
        assert_eq!(catalogue.name(vendor), "Own");
        assert!(matches!(
            Catalogue::with("[[vendor]]\nname='a'\nopen=['(']"),
            Err(CatalogueError::Pattern { .. })
        ));
        assert!(matches!(Catalogue::with("[[vendr]]"), Err(CatalogueError::Form(_))));
    }
}
