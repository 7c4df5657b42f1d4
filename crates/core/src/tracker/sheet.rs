//! What style sheets say about the size and the visibility of elements, by simple selectors: a tag, classes,
//! an id, lists of them.
//!
//! Read only where something that could be a tracker is drawn. Promised: linear time, and no say of a rule
//! that holds in some media only but this one: what is hidden at first is shown there. Absent: inheritance,
//! specificity, and what an element must stand in.

use std::collections::HashMap;

use super::style::{Look, Shows};

/// The most rules that are kept. Those beyond say nothing.
const MAX_RULES: usize = 4096;
/// The most rules for one name, and the most names of one element: sheets and elements must not multiply.
const MAX_PER_NAME: usize = 32;
/// How deep blocks are followed in blocks.
const MAX_BLOCKS: usize = 64;

/// The rules of a document that say something about size or visibility.
#[derive(Debug, Default)]
pub struct Sheets {
    rules: Vec<Rule>,
    /// The rules by the rarest name that an element must have: `#id`, `.class`, else its tag.
    by_name: HashMap<Vec<u8>, Vec<usize>>,
}

/// One selector with what it says.
#[derive(Debug)]
struct Rule {
    /// Everything that the element must have, in lower case: `tag`, `.class`, `#id`.
    names: Vec<Vec<u8>>,
    /// What always holds; nothing where the element must stand in another one, or where the rule holds in
    /// some media only.
    look: Option<Look>,
    /// Whether it shows, always or somewhere, what is hidden otherwise.
    shows: Shows,
}

/// What all rules say of one element.
#[derive(Clone, Copy, Debug, Default)]
pub struct Said {
    /// What always holds.
    pub look: Look,
    /// What some rule shows although it is hidden otherwise.
    pub shows: Shows,
}

impl Sheets {
    /// Reads the contents of style sheets, each with whether it holds in some media only.
    pub fn of<'s>(contents: impl Iterator<Item = (&'s [u8], bool)>) -> Sheets {
        let mut sheets = Sheets::default();
        for (content, is_limited) in contents {
            sheets.sheet(content, is_limited);
        }
        sheets
    }

    /// What is said of an element.
    pub fn say(&self, tag: &[u8], class: &[u8], id: &[u8]) -> Said {
        let mut said = Said::default();
        if self.rules.is_empty() {
            return said;
        }
        let tag = tag.to_ascii_lowercase();
        let prefixed = |sigil: u8, name: &[u8]| {
            let mut all = vec![sigil];
            all.extend(name.iter().map(u8::to_ascii_lowercase));
            all
        };
        let mut names = vec![tag];
        let classes = class.split(u8::is_ascii_whitespace).filter(|name| !name.is_empty());
        names.extend(classes.take(MAX_PER_NAME).map(|name| prefixed(b'.', name)));
        if !id.is_empty() {
            names.push(prefixed(b'#', id));
        }
        let mut matching: Vec<usize> = names
            .iter()
            .filter_map(|name| self.by_name.get(name))
            .flatten()
            .copied()
            .filter(|index| {
                self.rules.get(*index).is_some_and(|rule| rule.names.iter().all(|name| names.contains(name)))
            })
            .collect();
        matching.sort_unstable();
        for rule in matching.iter().filter_map(|index| self.rules.get(*index)) {
            if let Some(look) = &rule.look {
                said.look.take(look);
            }
            said.shows = said.shows.or(rule.shows);
        }
        said
    }

    /// Reads one style sheet.
    fn sheet(&mut self, text: &[u8], is_limited: bool) {
        // For each open block of an at-rule, whether what stands in it holds in some media only.
        let mut limits = vec![is_limited];
        let mut at = 0;
        while self.rules.len() < MAX_RULES {
            let rest = text.get(at..).unwrap_or_default();
            let blank = rest.len() - rest.trim_ascii_start().len();
            let rest = rest.get(blank..).unwrap_or_default();
            at += blank;
            match rest {
                [] => return,
                [b'/', b'*', ..] => at += behind(rest, b"*/"),
                [b'<', b'!', b'-', b'-', ..] => at += 4,
                [b'-', b'-', b'>', ..] => at += 3,
                [b'}' | b';', ..] => {
                    if rest.first() == Some(&b'}') && limits.len() > 1 {
                        limits.pop();
                    }
                    at += 1;
                }
                [b'@', ..] => {
                    let Some(end) = memchr::memchr2(b'{', b';', rest) else { return };
                    let head = rest.get(..end).unwrap_or_default();
                    let holds = ["@media", "@supports", "@layer", "@container"];
                    let opens = rest.get(end) == Some(&b'{');
                    if !opens {
                        at += end + 1;
                    } else if limits.len() < MAX_BLOCKS
                        && holds.iter().any(|name| starts(head, name.as_bytes()))
                    {
                        let above = limits.last().copied().unwrap_or_default();
                        limits.push(above || is_limit(head));
                        at += end + 1;
                    } else {
                        at += end + block(rest.get(end..).unwrap_or_default());
                    }
                }
                _ => {
                    let Some(open) = memchr::memchr(b'{', rest) else { return };
                    let inner = rest.get(open + 1..).unwrap_or_default();
                    let close = memchr::memchr(b'}', inner).unwrap_or(inner.len());
                    let limited = limits.last().copied().unwrap_or_default();
                    let selectors = rest.get(..open).unwrap_or_default();
                    self.rule(selectors, inner.get(..close).unwrap_or_default(), limited);
                    at += open + 1 + close + 1;
                }
            }
        }
    }

    /// One rule with all of its selectors.
    fn rule(&mut self, selectors: &[u8], declarations: &[u8], is_limited: bool) {
        let Ok(declarations) = std::str::from_utf8(declarations) else { return };
        let mut look = Look::default();
        look.style(declarations);
        let look = look.of_a_sheet();
        let shows = Shows::of(declarations, is_limited);
        if look.is_none() && shows == Shows::default() {
            return;
        }
        for selector in selectors.split(|byte| *byte == b',') {
            let Some((names, stands_alone)) = names(selector) else { continue };
            if self.rules.len() >= MAX_RULES {
                return;
            }
            let look = look.filter(|_| !is_limited && stands_alone);
            let Some(rarest) = names.last().cloned() else { continue };
            let known = self.by_name.entry(rarest).or_default();
            if known.len() < MAX_PER_NAME {
                known.push(self.rules.len());
                self.rules.push(Rule { names, look, shows });
            }
        }
    }
}

/// What the last compound of a selector asks of an element, and whether it asks nothing of others. `None`
/// where it asks for a state or makes something else of it.
fn names(selector: &[u8]) -> Option<(Vec<Vec<u8>>, bool)> {
    let selector = selector.trim_ascii();
    let start = selector
        .iter()
        .rposition(|byte| byte.is_ascii_whitespace() || matches!(byte, b'>' | b'+' | b'~'))
        .map_or(0, |at| at + 1);
    // `[class = "a"]` may hold blanks; who writes it so is not read.
    let compound = selector.get(start..)?;
    let mut names = Vec::new();
    let mut at = 0;
    while let Some(&byte) = compound.get(at) {
        let rest = compound.get(at..)?;
        let length = |from: usize| {
            let name = rest.get(from..).unwrap_or_default();
            name.iter().position(|byte| matches!(byte, b'.' | b'#' | b'[' | b':')).unwrap_or(name.len())
        };
        match byte {
            b'.' | b'#' => {
                let end = 1 + length(1);
                names.push(rest.get(..end)?.to_ascii_lowercase());
                at += end;
            }
            b'[' => {
                let end = memchr::memchr(b']', rest)?;
                names.push(named_by(rest.get(1..end)?)?);
                at += end + 1;
            }
            b':' => return None,
            b'*' => at += 1,
            _ => {
                let end = length(0);
                names.push(rest.get(..end)?.to_ascii_lowercase());
                at += end;
            }
        }
    }
    // What an element has by its id or class says more than its tag; the last one is looked up.
    names.sort_by_key(|name| match name.first() {
        Some(b'#') => 2,
        Some(b'.') => 1,
        _ => 0,
    });
    (!names.is_empty()).then_some((names, start == 0))
}

/// The class or id that an attribute selector asks for: `[class="a"]`, `[class~=a]`, `[id=a]`.
fn named_by(inner: &[u8]) -> Option<Vec<u8>> {
    let equals = memchr::memchr(b'=', inner)?;
    let (name, value) = inner.split_at_checked(equals)?;
    let name = name.strip_suffix(b"~").or_else(|| name.strip_suffix(b"*")).unwrap_or(name).trim_ascii();
    let value = value.get(1..)?.trim_ascii();
    let value = value.strip_prefix(b"\"").or_else(|| value.strip_prefix(b"'")).unwrap_or(value);
    let value = value.strip_suffix(b"\"").or_else(|| value.strip_suffix(b"'")).unwrap_or(value);
    let sigil = if name.eq_ignore_ascii_case(b"class") {
        b'.'
    } else if name.eq_ignore_ascii_case(b"id") {
        b'#'
    } else {
        return None;
    };
    let mut all = vec![sigil];
    all.extend(value.iter().map(u8::to_ascii_lowercase));
    (!value.is_empty() && !value.iter().any(u8::is_ascii_whitespace)).then_some(all)
}

/// Whether the head of an at-rule limits what stands in it: to some widths, some colour scheme, paper.
fn is_limit(head: &[u8]) -> bool {
    let print = head.windows(5).any(|word| word.eq_ignore_ascii_case(b"print"));
    let layer = starts(head, b"@layer");
    !layer && (print || memchr::memchr(b'(', head).is_some())
}

/// The length of a block with all blocks in it, from its `{` on.
fn block(text: &[u8]) -> usize {
    let mut depth = 0usize;
    for at in memchr::memchr2_iter(b'{', b'}', text) {
        if text.get(at) == Some(&b'{') {
            depth += 1;
        } else {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                return at + 1;
            }
        }
    }
    text.len()
}

fn behind(text: &[u8], end: &[u8]) -> usize {
    memchr::memmem::find(text, end).map_or(text.len(), |at| at + end.len())
}

fn starts(text: &[u8], with: &[u8]) -> bool {
    text.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracker::style::Size;

    fn read(sheet: &str) -> Sheets {
        Sheets::of([(sheet.as_bytes(), false)].into_iter())
    }

    fn check(sheet: &str, tag: &str, class: &str, id: &str) -> (Size, bool) {
        let said = read(sheet).say(tag.as_bytes(), class.as_bytes(), id.as_bytes());
        (said.look.size(), said.look.hidden)
    }

    #[test]
    fn simple_selectors_say_what_is_small_or_hidden() {
        for sheet in [
            ".tp{width:1px;height:1px}",
            "/* {} */ p, IMG.Tp { width: 1px; height: 1px }",
            "@media screen { .tp{width:1px;height:1px} }",
            "a{b:c} img[class=tp]{width:1px;height:1px}",
            "@font-face{src:url(x)} #t{width:1px;height:1px}",
            "@import url(x); img{width:1px;height:1px}",
        ] {
            assert_eq!(check(sheet, "img", "a tp", "t").0, Size::Tiny, "{sheet}");
        }
        assert!(check(".a.tp{display:none}", "img", "a tp", "").1);
    }

    #[test]
    fn what_holds_elsewhere_says_nothing() {
        for sheet in [
            ".b{display:none}",
            ".a.b{display:none}",
            ".x .a{display:none}",
            ".a:hover{display:none}",
            "@media (max-width:480px){.a{display:none}}",
            "@media print{.a{display:none}}",
            "@keyframes a{from{display:none}}",
            "td.a{display:none}",
        ] {
            assert!(!check(sheet, "img", "a", "").1, "{sheet}");
        }
    }

    #[test]
    fn a_rule_for_some_media_shows_what_is_hidden_at_first() {
        let shows = |sheet: &str| read(sheet).say(b"img", b"m", b"").shows;
        assert_ne!(shows("@media (max-width:480px){.m{display:block!important}}"), Shows::default());
        assert_ne!(shows("@media (x){.w .m{max-height:none!important}}"), Shows::default());
        assert_ne!(shows(".m{display:block!important}"), Shows::default());
        assert_eq!(shows("@media (max-width:480px){.m{display:none}}"), Shows::default());
        assert_eq!(shows(".m{color:red}"), Shows::default());
    }
}
