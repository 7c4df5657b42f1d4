//! One line of a filter list.

use super::Reason;
use super::pattern::Pattern;

/// What a line of a list is.
#[derive(Debug)]
pub(super) enum Line<'a> {
    /// A comment, a title, nothing.
    Empty,
    /// A rule.
    Rule(Rule),
    /// The hosts of a line of a hosts file.
    Hosts(Vec<&'a str>),
    /// A rule that says nothing about mail.
    Ignored(Reason),
}

/// A rule that can apply to an image in a mail.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) pattern: Pattern,
    pub(super) kind: Effect,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Match,
    /// It matches whatever the exceptions say.
    Important,
    Exception,
}

/// What the options of a rule say.
#[derive(Debug, Default)]
struct Options {
    important: bool,
    exact: bool,
}

/// Addresses that stand before the hosts in a hosts file.
const NOWHERE: [&str; 5] = ["0.0.0.0", "127.0.0.1", "0", "::", "::1"];

/// Options that limit a rule to a type of request other than images. `~` before one leaves images in.
const OTHER_TYPES: [&str; 37] = [
    "beacon",
    "css",
    "doc",
    "document",
    "ehide",
    "elemhide",
    "font",
    "frame",
    "genericblock",
    "generichide",
    "ghide",
    "inline-font",
    "inline-script",
    "content",
    "extension",
    "jsinject",
    "media",
    "object",
    "object-subrequest",
    "other",
    "ping",
    "popunder",
    "popup",
    "script",
    "shide",
    "specifichide",
    "stealth",
    "stylesheet",
    "subdocument",
    "urlblock",
    "webbundle",
    "webrtc",
    "websocket",
    "xhr",
    "xmlhttprequest",
    "dtd",
    "xslt",
];

/// Reads a line.
pub(super) fn read(line: &str) -> Line<'_> {
    let line = line.trim();
    let is_title = line.starts_with('[') && line.ends_with(']');
    if line.is_empty() || line.starts_with('!') || is_title {
        return Line::Empty;
    }
    if is_cosmetic(line) {
        return Line::Ignored(Reason::Cosmetic);
    }
    if line.starts_with('#') {
        return Line::Empty;
    }
    let line = line.split_once(" #").map_or(line, |(rule, _)| rule).trim_end();
    let mut words = line.split_ascii_whitespace();
    let first = words.next().unwrap_or_default();
    if NOWHERE.contains(&first) {
        return Line::Hosts(words.filter(|host| is_host(host)).collect());
    }
    if is_host(line) {
        return Line::Hosts(vec![line]);
    }
    match rule(line) {
        Ok(rule) => Line::Rule(rule),
        Err(reason) => Line::Ignored(reason),
    }
}

/// A rule with its options in order, if it takes another rule back: the text of that one.
pub(super) fn taken_back(line: &str) -> Option<String> {
    let (pattern, options) = parts(line.trim());
    let options = options?;
    options.split(',').any(|option| option == "badfilter").then(|| joined(pattern, options))
}

/// A rule with its options in order.
pub(super) fn ordered(line: &str) -> String {
    let (pattern, options) = parts(line.trim());
    joined(pattern, options.unwrap_or_default())
}

fn joined(pattern: &str, options: &str) -> String {
    let mut options: Vec<&str> =
        options.split(',').filter(|option| !option.is_empty() && *option != "badfilter").collect();
    options.sort_unstable();
    format!("{pattern}${}", options.join(","))
}

fn rule(line: &str) -> Result<Rule, Reason> {
    let (exception, rest) = match line.strip_prefix("@@") {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    let (pattern, options) = parts(rest);
    if pattern.len() > 1 && pattern.starts_with('/') && pattern.ends_with('/') {
        return Err(Reason::Regex);
    }
    if pattern.contains(char::is_whitespace) {
        return Err(Reason::NoRule);
    }
    let options = options.map_or(Ok(Options::default()), read_options)?;
    let kind = match (exception, options.important) {
        (true, _) => Effect::Exception,
        (false, true) => Effect::Important,
        (false, false) => Effect::Match,
    };
    Ok(Rule { pattern: Pattern::read(pattern, options.exact)?, kind })
}

/// Pattern and options of a rule. A dollar sign that no options follow belongs to the pattern.
fn parts(rule: &str) -> (&str, Option<&str>) {
    match rule.rsplit_once('$') {
        Some((pattern, options)) if options.split(',').all(is_option) => (pattern, Some(options)),
        _ => (rule, None),
    }
}

fn is_option(text: &str) -> bool {
    let name = text.split_once('=').map_or(text, |(name, _)| name);
    let name = name.strip_prefix('~').unwrap_or(name);
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// What the options mean for an image that a mail loads: it is an image, it comes from elsewhere, and no page
/// holds it.
fn read_options(text: &str) -> Result<Options, Reason> {
    let mut options = Options::default();
    let mut image = None;
    for option in text.split(',') {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match name {
            "image" | "all" | "background" => image = Some(true),
            "~image" | "~background" => return Err(Reason::OtherType),
            "third-party" | "3p" | "strict3p" | "strict-third-party" | "~first-party" | "~1p" => {}
            "~third-party" | "~3p" | "first-party" | "1p" | "strict1p" | "strict-first-party" => {
                return Err(Reason::FirstParty);
            }
            "domain" | "from" if value.split('|').all(|domain| domain.starts_with('~')) => {}
            "domain" | "from" | "sitekey" | "app" => return Err(Reason::FirstParty),
            "method" if value.split('|').any(|method| method.eq_ignore_ascii_case("get")) => {}
            "match-case" => options.exact = true,
            "important" => options.important = true,
            // These say what a browser shows in the place of what it blocks.
            "redirect" | "rewrite" | "empty" | "mp4" => {}
            "reason" | "~match-case" | "collapse" | "~collapse" => {}
            _ if name.bytes().all(|byte| byte == b'_') => {}
            _ if OTHER_TYPES.contains(&name) => image = image.or(Some(false)),
            _ if name.strip_prefix('~').is_some_and(|name| OTHER_TYPES.contains(&name)) => {}
            _ => return Err(Reason::Option),
        }
    }
    if image == Some(false) { Err(Reason::OtherType) } else { Ok(options) }
}

/// Whether a line hides elements of a page or changes it: `##`, `#@#`, `#?#`, `#$#`, `#%#` and the like, or
/// `$$`.
fn is_cosmetic(line: &str) -> bool {
    let marked = line.match_indices('#').any(|(at, _)| {
        let behind = line.get(at + 1..).unwrap_or_default();
        behind.trim_start_matches(['@', '?', '$', '%']).starts_with('#') && !behind.starts_with("# ")
    });
    marked || line.contains("$$") || line.contains("$@$")
}

/// Whether a text is the name of a host with at least two labels, the last of which is no number.
fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | 0x80..);
        !label.is_empty() && label.bytes().all(fits)
    };
    let number = text.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    text.contains('.') && !number && text.split('.').all(is_label) && text != "localhost.localdomain"
}
