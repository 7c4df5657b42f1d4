//! Filter lists that an operator brings along: network rules in the syntax of Adblock Plus, AdGuard and
//! uBlock Origin, hosts files, and plain lists of domains.
//!
//! Promised: a rule counts where it would stop an image that a mail loads, seen as a request from elsewhere
//! that no page makes. A look-up tries the rules of the address's own host and those of which some bytes
//! stand in it, never all; the time for one rule grows with the length of the address times that of the rule,
//! whatever stars it holds. What was not taken in is counted, with the reason.
//!
//! Absent: regular expressions, rules about the look of a page, rules for some pages only, ports, and
//! whatever changes a request instead of stopping it. Files that a list includes are not read, and neither is
//! what stands between `!#if` and `!#endif`.

mod pattern;
mod rule;

use std::collections::{HashMap, HashSet};
use std::fmt;

use pattern::{Address, Fit, Gram, Pattern};
use rule::{Effect, Line, Rule};

/// The most rules of all lists together.
pub const MAX_RULES: usize = 500_000;

/// The longest line, in bytes.
pub const MAX_LINE: usize = 4096;

/// The most rules that are tried on every address, for want of bytes to look them up by.
const MAX_LOOSE: usize = 1_000;

/// The number of slots of an index, as a power of two.
const SLOT_BITS: u32 = 16;

/// The rules of one or more lists.
#[derive(Debug, Default)]
pub struct Lists {
    rules: Vec<Kept>,
    matching: Index,
    exceptions: Index,
}

#[derive(Debug)]
struct Kept {
    /// The list's name and the rule as written.
    label: Box<str>,
    pattern: Pattern,
    important: bool,
}

/// Lines that were not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ignored {
    /// Why not.
    pub reason: Reason,
    /// How many.
    pub count: usize,
    /// The first of them, from 1.
    pub line: usize,
}

/// Why a line was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// It is about the look of a page.
    Cosmetic,
    /// It is a regular expression.
    Regex,
    /// It is about other requests than images.
    OtherType,
    /// It is about requests of certain pages, or of the site itself.
    FirstParty,
    /// It has an option that is unknown or changes the request.
    Option,
    /// It stands in a condition.
    Condition,
    /// It includes another file.
    Include,
    /// Another line takes it back.
    TakenBack,
    /// It would match nearly every address.
    TooGeneral,
    /// It is too long.
    TooLong,
    /// There are too many rules.
    TooMany,
    /// It is no rule.
    NoRule,
}

impl Reason {
    /// What the reason says of lines, for a reader of the log.
    pub const fn text(self) -> &'static str {
        match self {
            Reason::Cosmetic => "about the look of a page",
            Reason::Regex => "regular expressions",
            Reason::OtherType => "about other requests than images",
            Reason::FirstParty => "about requests of certain pages",
            Reason::Option => "with an option that is not supported",
            Reason::Condition => "in a condition",
            Reason::Include => "that include another file",
            Reason::TakenBack => "taken back by another line",
            Reason::TooGeneral => "that would match nearly everything",
            Reason::TooLong => "too long",
            Reason::TooMany => "beyond the greatest number of rules",
            Reason::NoRule => "that are no rule",
        }
    }
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} lines {}, the first of them line {}", self.count, self.reason.text(), self.line)
    }
}

impl Lists {
    /// Reads one list; `name` is given back with each rule that matches.
    pub fn read(name: &str, text: &str) -> (Lists, Vec<Ignored>) {
        let mut lists = Lists::default();
        let ignored = lists.add(name, text);
        (lists, ignored)
    }

    /// Adds a list. Its exceptions hold for the rules of all lists.
    pub fn add(&mut self, name: &str, text: &str) -> Vec<Ignored> {
        let mut ignored = Vec::new();
        let mut conditions = 0usize;
        let taken_back: HashSet<String> = lines(text)
            .filter(|(_, line)| line.len() <= MAX_LINE && line.contains("badfilter"))
            .filter_map(|(_, line)| rule::taken_back(line))
            .collect();
        for (number, line) in lines(text) {
            let outcome = match line {
                _ if line.len() > MAX_LINE => Err(Reason::TooLong),
                _ if line.starts_with("!#if") => {
                    conditions += 1;
                    Ok(())
                }
                _ if line.starts_with("!#endif") => {
                    conditions = conditions.saturating_sub(1);
                    Ok(())
                }
                "" => Ok(()),
                _ if conditions > 0 => Err(Reason::Condition),
                _ if line.starts_with("!#include") => Err(Reason::Include),
                _ if line.contains("badfilter") && rule::taken_back(line).is_some() => Ok(()),
                _ if !taken_back.is_empty() && taken_back.contains(&rule::ordered(line)) => {
                    Err(Reason::TakenBack)
                }
                _ => self.line(name, line),
            };
            if let Err(reason) = outcome {
                note(&mut ignored, reason, number);
            }
        }
        self.matching.settle();
        self.exceptions.settle();
        ignored
    }

    fn line(&mut self, name: &str, line: &str) -> Result<(), Reason> {
        match rule::read(line) {
            Line::Empty => Ok(()),
            Line::Ignored(reason) => Err(reason),
            Line::Rule(rule) => self.keep(format!("{name}: {line}"), rule),
            Line::Hosts(hosts) => hosts.into_iter().try_for_each(|host| {
                let rule = Rule { pattern: Pattern::domain(host), kind: Effect::Match };
                self.keep(format!("{name}: {host}"), rule)
            }),
        }
    }

    fn keep(&mut self, label: String, Rule { pattern, kind }: Rule) -> Result<(), Reason> {
        let number = u32::try_from(self.rules.len()).ok().filter(|_| self.rules.len() < MAX_RULES);
        let number = number.ok_or(Reason::TooMany)?;
        match kind {
            Effect::Exception => self.exceptions.add(number, &pattern)?,
            Effect::Match | Effect::Important => self.matching.add(number, &pattern)?,
        }
        self.rules.push(Kept { label: label.into(), pattern, important: kind == Effect::Important });
        Ok(())
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rule that matches an address, as `list: rule`. `url` is `host/path?query` with the host in lower
    /// case.
    pub fn find(&self, url: &str) -> Option<&str> {
        if self.rules.is_empty() {
            return None;
        }
        let address = Address::new(url)?;
        let found = self.matching.find(&self.rules, &address, |_| true)?;
        if found.important || self.exceptions.find(&self.rules, &address, |_| true).is_none() {
            return Some(&found.label);
        }
        self.matching.find(&self.rules, &address, |rule| rule.important).map(|rule| &*rule.label)
    }
}

/// The lines of a list with their numbers, without blanks around them.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    (1..).zip(text.lines().map(str::trim))
}

fn note(ignored: &mut Vec<Ignored>, reason: Reason, line: usize) {
    match ignored.iter_mut().find(|known| known.reason == reason) {
        Some(known) => known.count += 1,
        None => ignored.push(Ignored { reason, count: 1, line }),
    }
}

/// Where to look for the rules that could match an address.
#[derive(Debug, Default)]
struct Index {
    /// Rules that name a whole host, by that host.
    hosts: HashMap<Box<str>, Vec<u32>>,
    /// The others by some of their bytes, in the order of their slots.
    grams: Vec<(Gram, u32)>,
    /// For each slot where its entries start in `grams`; one more for the end.
    slots: Vec<u32>,
    /// How many rules are to be found under the same bytes.
    crowds: HashMap<[u8; pattern::GRAM], u32>,
    /// Those without enough bytes.
    loose: Vec<u32>,
}

impl Index {
    /// Adds a rule. It is found once the index has settled.
    fn add(&mut self, number: u32, pattern: &Pattern) -> Result<(), Reason> {
        if let Some(host) = pattern.host() {
            self.hosts.entry(host.into()).or_default().push(number);
            return Ok(());
        }
        // The bytes that the fewest rules share, so that an address meets few rules in vain.
        let crowd = |gram: &Gram| {
            let common = if b"https://www.".windows(pattern::GRAM).any(|window| window == gram.bytes) {
                1_000
            } else {
                0
            };
            self.crowds.get(&gram.bytes).copied().unwrap_or(0) + common
        };
        match pattern.grams().min_by_key(crowd) {
            Some(gram) => {
                *self.crowds.entry(gram.bytes).or_default() += 1;
                self.grams.push((gram, number));
            }
            None if self.loose.len() < MAX_LOOSE => self.loose.push(number),
            None => return Err(Reason::TooGeneral),
        }
        Ok(())
    }

    fn settle(&mut self) {
        self.grams.sort_by_key(|(gram, _)| slot(gram.bytes));
        self.slots.clear();
        let mut at = 0u32;
        let mut entries = self.grams.iter().peekable();
        for number in 0..1u32 << SLOT_BITS {
            self.slots.push(at);
            while entries.next_if(|(gram, _)| slot(gram.bytes) == number).is_some() {
                at += 1;
            }
        }
        self.slots.push(at);
    }

    /// The first rule found that matches and is `wanted`.
    fn find<'a>(
        &self,
        rules: &'a [Kept],
        address: &Address,
        wanted: impl Fn(&Kept) -> bool,
    ) -> Option<&'a Kept> {
        let rule = |number: &u32| rules.get(*number as usize).filter(|rule| wanted(rule));
        let of_host = || {
            address.suffixes().find_map(|(start, suffix)| {
                let numbers = self.hosts.get(suffix)?;
                numbers.iter().filter_map(rule).find(|rule| rule.pattern.matches_at(address, start))
            })
        };
        let loose = || self.loose.iter().filter_map(rule).find(|rule| rule.pattern.matches(address));
        of_host().or_else(|| self.by_bytes(address, rule)).or_else(loose)
    }

    fn by_bytes<'a>(&self, address: &Address, rule: impl Fn(&u32) -> Option<&'a Kept>) -> Option<&'a Kept> {
        if self.grams.is_empty() {
            return None;
        }
        // An address may hold the same bytes many times: a rule with stars is tried once.
        let mut tried = HashSet::new();
        for (at, window) in address.folded().windows(pattern::GRAM).enumerate() {
            let Ok(bytes) = <[u8; pattern::GRAM]>::try_from(window) else { continue };
            for (gram, number) in self.entries(bytes) {
                let Some(rule) = rule(number).filter(|_| gram.bytes == bytes) else { continue };
                let matches = match rule.pattern.fits(address, *gram, at) {
                    Fit::No => false,
                    Fit::Yes => true,
                    Fit::Perhaps => tried.insert(*number) && rule.pattern.matches(address),
                };
                if matches {
                    return Some(rule);
                }
            }
        }
        None
    }

    fn entries(&self, bytes: [u8; pattern::GRAM]) -> &[(Gram, u32)] {
        let slot = slot(bytes) as usize;
        match self.slots.get(slot..slot + 2) {
            Some([start, end]) => self.grams.get(*start as usize..*end as usize).unwrap_or_default(),
            _ => &[],
        }
    }
}

/// Where some bytes stand in an index: the upper bits of a product spread them well.
fn slot(bytes: [u8; pattern::GRAM]) -> u32 {
    u32::from_le_bytes(bytes).wrapping_mul(0x9E37_79B1) >> (u32::BITS - SLOT_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(list: &str, url: &str) -> Option<String> {
        let (lists, _) = Lists::read("own", list);
        lists.find(url).map(|label| label.strip_prefix("own: ").unwrap().to_owned())
    }

    /// Addresses that the list must match, and addresses that it must not.
    fn both(list: &str, matching: &[&str], others: &[&str]) {
        for url in matching {
            assert!(check(list, url).is_some(), "{list} does not match {url}");
        }
        for url in others {
            assert_eq!(check(list, url), None, "{list} matches {url}");
        }
    }

    fn ignored(list: &str) -> Vec<(Reason, usize, usize)> {
        let (_, ignored) = Lists::read("own", list);
        ignored.iter().map(|kind| (kind.reason, kind.count, kind.line)).collect()
    }

    #[test]
    fn a_host_rule_matches_the_host_and_those_below() {
        let others = ["shop.example/t.example/", "at.example/x", "t.example.net/x", "t.exampl/x", "example/"];
        both("||t.example^", &["t.example/x", "a.b.t.example/", "t.example", "t.example./x"], &others);
        both("||t.example^$third-party", &["t.example/x"], &others);
        both("||t.example/", &["t.example/x"], &others);
        both("||T.Example^", &["t.example/x"], &others);
        assert_eq!(check("||t.example^\n", "t.example/x"), Some("||t.example^".to_owned()));
    }

    #[test]
    fn a_host_that_is_not_whole_matches_its_continuations() {
        both("||track", &["tracker.example/", "a.track.example/"], &["a.example/track", "xtrack.example/"]);
        both("||t.exam", &["t.example/", "a.t.example/x"], &["tt.example/"]);
        both("||ads.*/px", &["ads.example/px", "ads.example/a/px.gif"], &["ads.example/", "a.example/px"]);
    }

    #[test]
    fn host_and_path() {
        both(
            "||t.example/open^",
            &["t.example/open", "t.example/open?id=1", "a.t.example/open/1"],
            &["t.example/opening", "t.example/x/open", "a.example/t.example/open"],
        );
        both("||t.example^*/px.gif", &["t.example/a/px.gif"], &["t.example/a/px.png"]);
        both("||t.example^open^", &["t.example/open/1"], &["t.example/opens"]);
    }

    #[test]
    fn plain_texts_match_anywhere() {
        both("/pixel.gif?", &["a.example/x/pixel.gif?u=1", "a.example/PIXEL.GIF?"], &["a.example/pixel.gif"]);
        both("-open-", &["a.example/mail-open-1"], &["a.example/open-1"]);
        both("/px", &["a.example/px", "a.example/b/pxx"], &["apx.example/"]);
        both("://ads.", &["ads.example/"], &["a.ads.example/", "a.example/ads."]);
    }

    #[test]
    fn anchors_hold_at_both_ends() {
        both(
            "|https://ads.example/",
            &["ads.example/x"],
            &["b.ads.example/x", "a.example/https://ads.example/"],
        );
        both("|http://ads.example^", &["ads.example/x"], &["b.ads.example/x"]);
        both("/open.gif|", &["a.example/open.gif", "a.example/open.gif/open.gif"], &["a.example/open.gif?x"]);
        both("||t.example/px|", &["t.example/px", "b.t.example/px"], &["t.example/px1"]);
        both("|https://t.*.gif|", &["t.example/a.gif"], &["t.example/a.gif?b", "a.t.example/a.gif"]);
        both("*/open/*", &["a.example/open/1", "a.example/open/"], &["a.example/open"]);
        both("||t.example/open^|", &["t.example/open", "t.example/open/"], &["t.example/open/1"]);
    }

    #[test]
    fn a_separator_is_no_part_of_a_word() {
        both(
            "^open^",
            &["a.example/open", "a.example/open?x", "a.example/?open=1", "a.example/x&open:"],
            &[
                "a.example/opens",
                "a.example/re-open",
                "a.example/open_x",
                "a.example/open%20",
                "a.example/open.x",
            ],
        );
    }

    #[test]
    fn stars_stand_for_anything() {
        both("/a*b*c^", &["x.example/a/b/c", "x.example/a1b2c?"], &["x.example/a/c/b", "x.example/abcd"]);
        both(
            "mail*/open*.gif|",
            &["mail.example/open/1.gif", "e.example/mail/open.gif.gif"],
            &["mail.example/open.gif1"],
        );
    }

    #[test]
    fn exceptions_take_matches_back() {
        let list = "||t.example^\n@@||t.example/logo^\n@@/keep.gif$image\n@@||other.example^$document";
        both(list, &["t.example/open"], &["t.example/logo?x", "t.example/a/keep.gif"]);
        both("||t.example^$important\n@@||t.example^", &["t.example/"], &[]);
        both("/open\n||t.example^$important\n@@t.example", &["t.example/open"], &["at.example/open"]);
        both("/open\n@@||t.example^$~image", &["t.example/open"], &[]);
    }

    #[test]
    fn options_count_as_far_as_they_matter_for_mail() {
        for applies in [
            "image",
            "3p",
            "third-party",
            "~script",
            "script,image",
            "~stylesheet,third-party",
            "all",
            "important",
            "domain=~shop.example|~b.example",
            "redirect=1x1.gif",
            "method=get|post",
            "_____",
            "from=~a.example",
        ] {
            both(&format!("/open/*${applies}"), &["a.example/open/"], &[]);
        }
        for (skipped, reason) in [
            ("script", Reason::OtherType),
            ("~image", Reason::OtherType),
            ("xhr,ping", Reason::OtherType),
            ("popup", Reason::OtherType),
            ("~third-party", Reason::FirstParty),
            ("image,1p", Reason::FirstParty),
            ("domain=shop.example", Reason::FirstParty),
            ("domain=shop.example|~a.shop.example", Reason::FirstParty),
            ("removeparam=utm", Reason::Option),
            ("csp=script-src 'none'", Reason::Option),
            ("redirect-rule=1x1.gif", Reason::Option),
            ("method=post", Reason::Option),
            ("unheard-of", Reason::Option),
        ] {
            let list = format!("/open/*${skipped}");
            both(&list, &[], &["a.example/open/"]);
            assert_eq!(ignored(&list), [(reason, 1, 1)], "{list}");
        }
    }

    #[test]
    fn a_dollar_sign_may_belong_to_the_address() {
        both("/open$/px^", &["a.example/open$/px"], &["a.example/open"]);
    }

    #[test]
    fn case_matters_only_where_a_rule_says_so() {
        both("/Open/*$match-case", &["a.example/Open/1"], &["a.example/open/1"]);
        both("||t.example/Open^$match-case", &["t.example/Open"], &["t.example/open"]);
    }

    #[test]
    fn hosts_files_and_lists_of_domains() {
        let list = "# hosts\n127.0.0.1 localhost\n::1 localhost\n0.0.0.0 0.0.0.0\n0.0.0.0 t.example # why\n\
                    0.0.0.0\tu.example v.example\nw.example\n";
        both(
            list,
            &["t.example/x", "u.example/", "b.v.example/", "w.example/x", "a.w.example/"],
            &["a.example/", "localhost/", "a.example/w.example/"],
        );
        assert_eq!(check(list, "b.v.example/"), Some("v.example".to_owned()));
        assert_eq!(ignored(list), []);
    }

    #[test]
    fn comments_are_nothing_and_the_rest_is_counted() {
        let list = "\u{feff}[Adblock Plus 2.0]\r\n! title\r\n\r\n# hosts \
                    comment\r\nshop.example##.ad\r\n##.ad\r\n\
                    shop.example#@#.ad\r\nshop.example#?#.ad:has(b)\r\nshop.example#$#body{}\r\n/open[0-9]+/\r\n\
                    /track[a-z]/$image\r\nsome plain words\r\n*\r\n||t.example^\r\n";
        assert_eq!(
            ignored(list),
            [
                (Reason::Cosmetic, 5, 5),
                (Reason::Regex, 2, 10),
                (Reason::NoRule, 1, 12),
                (Reason::TooGeneral, 1, 13)
            ]
        );
        both(list, &["t.example/"], &["shop.example/open1", "a.example/"]);
    }

    #[test]
    fn conditions_and_includes_are_left_out() {
        let list = "!#if env_mobile\n/a/open\n!#if x\n/b/open\n!#endif\n!#endif\n/c/open\n!#include more.txt";
        both(list, &["x.example/c/open"], &["x.example/a/open", "x.example/b/open"]);
        assert_eq!(ignored(list), [(Reason::Condition, 2, 2), (Reason::Include, 1, 8)]);
    }

    #[test]
    fn a_rule_may_be_taken_back() {
        let list = "||t.example^$image,third-party\n||u.example^\n||t.example^$third-party,badfilter,image";
        both(list, &["u.example/"], &["t.example/"]);
        assert_eq!(ignored(list), [(Reason::TakenBack, 1, 1)]);
    }

    #[test]
    fn lists_add_up_and_exceptions_hold_for_all() {
        let (mut lists, _) = Lists::read("one", "||t.example^\n/open/*");
        assert!(lists.add("two", "@@||t.example/logo^\n||u.example^\n/pixel/*").is_empty());
        assert_eq!(lists.len(), 5);
        assert_eq!(lists.find("u.example/"), Some("two: ||u.example^"));
        assert_eq!(lists.find("a.example/open/"), Some("one: /open/*"));
        assert_eq!(lists.find("a.example/pixel/"), Some("two: /pixel/*"));
        assert_eq!(lists.find("t.example/logo"), None);
        assert_eq!(Lists::default().find("t.example/"), None);
    }

    #[test]
    fn limits_hold() {
        let long = format!("/{}", "a".repeat(MAX_LINE));
        assert_eq!(ignored(&long), [(Reason::TooLong, 1, 1)]);
        assert_eq!(ignored(long.get(..600).unwrap()), [(Reason::TooLong, 1, 1)]);
        let many: String = (0..MAX_LOOSE + 2).map(|number| format!("^{}^\n", number % 100)).collect();
        assert_eq!(ignored(&many), [(Reason::TooGeneral, 2, MAX_LOOSE + 1)]);
        assert_eq!(check("||t.example^", &format!("{}t.example/", "a.".repeat(200))), None);
        let rules: String = (0..MAX_RULES + 3).map(|number| format!("h{number}.example\n")).collect();
        let (lists, ignored) = Lists::read("own", &rules);
        assert_eq!(lists.len(), MAX_RULES);
        assert_eq!(ignored, [Ignored { reason: Reason::TooMany, count: 3, line: MAX_RULES + 1 }]);
        assert_eq!(lists.find("a.h499999.example/"), Some("own: h499999.example"));
    }

    #[test]
    fn many_stars_take_no_longer_than_few() {
        let list = format!("/open{}b|\n/{}^x", "*a".repeat(200), "a^".repeat(200));
        let url = format!("t.example/open/{}", "a/a".repeat(5_000));
        for _ in 0..20 {
            assert_eq!(check(&list, &url), None);
        }
    }

    #[test]
    fn every_rule_of_a_large_list_is_found() {
        let kinds: [fn(usize) -> (String, String); 4] = [
            |number| (format!("||t{number}.example^"), format!("a.t{number}.example/x")),
            |number| (format!("/open/{number}."), format!("a.example/b/open/{number}.gif")),
            |number| (format!("||shop.example/p{number}^"), format!("shop.example/p{number}?a")),
            |number| (format!("/k{number}/*/px^"), format!("b.example/k{number}/a/px")),
        ];
        let rules: Vec<(String, String)> = (0..8_000).map(|number| kinds[number % 4](number)).collect();
        let text: String = rules.iter().map(|(rule, _)| format!("{rule}\n")).collect();
        let (lists, ignored) = Lists::read("own", &text);
        assert_eq!((lists.len(), ignored), (8_000, vec![]));
        for (rule, url) in &rules {
            assert_eq!(lists.find(url), Some(format!("own: {rule}").as_str()), "{url}");
        }
        assert_eq!(lists.find("shop.example/open/x/k1/px"), None);
    }
}
