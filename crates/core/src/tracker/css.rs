//! Where a style sheet or a style attribute loads from, by a real CSS tokenizer (CSS Syntax 3).

use std::ops::Range;

use cssparser::{Parser, ParserInput, Token};

/// One load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// The address, escapes decoded.
    pub url: String,
    /// What is taken out: the `url(…)` or string, or the whole `@import` rule.
    pub range: Range<usize>,
    /// What kind of load it is.
    pub kind: LoadKind,
}

/// What a style sheet loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadKind {
    /// An image, font, cursor: `url()` and its like. Replaced by `none`.
    Value,
    /// Another style sheet. The rule is taken out.
    Import,
}

/// Which strings are addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strings {
    /// Those of functions that load.
    OfFunctions,
    /// Those of custom properties too: somewhere in the document, `var()` brings one into such a function.
    OfCustomProperties,
}

/// Whether `var()` stands in a style: it can bring a string from a custom property to where it is an address.
pub fn uses_variables(style: &[u8]) -> bool {
    memchr::memmem::find_iter(style, b"(").any(|at| {
        let start = at.checked_sub(3);
        start.and_then(|start| style.get(start..at)).is_some_and(|name| name.eq_ignore_ascii_case(b"var"))
    })
}

/// Functions whose strings are addresses, and `var()`, which can bring one from elsewhere. Those with a
/// prefix end alike.
const LOADING: [&[u8]; 10] = [
    b"url",
    b"src",
    b"image",
    b"image-set",
    b"cross-fade",
    b"image-rect",
    b"imageloader",
    b"icmfilter",
    b"expression",
    b"var",
];

/// Whether a style can load anything at all: a cheap look before the tokenizer is asked. Nothing is loaded
/// without one of these functions or `@import`, unless an escape hides the name.
pub fn may_load(style: &[u8]) -> bool {
    let ends = |before: &[u8], name: &[u8]| {
        let start = before.len().checked_sub(name.len());
        start.and_then(|start| before.get(start..)).is_some_and(|end| end.eq_ignore_ascii_case(name))
    };
    memchr::memchr3_iter(b'(', b'@', b'\\', style).any(|at| match style.get(at) {
        Some(b'(') => style.get(..at).is_some_and(|before| LOADING.iter().any(|name| ends(before, name))),
        Some(b'@') => style.get(at + 1..at + 7).is_some_and(|name| name.eq_ignore_ascii_case(b"import")),
        _ => true,
    })
}

/// The same for a style attribute as written, in which a character reference can stand for anything.
#[inline]
pub fn attribute_may_load(style: &[u8]) -> bool {
    memchr::memchr3(b'(', b'\\', b'&', style).is_some()
        && (memchr::memchr(b'&', style).is_some() || may_load(style))
}

/// All loads, in order. `style` may hold bytes of any ASCII-compatible charset.
pub fn loads(style: &[u8], strings: Strings) -> Vec<Load> {
    let text = as_ascii(style);
    let mut scanner = Scanner {
        style,
        found: Vec::new(),
        functions: Vec::new(),
        loads_below: false,
        import: None,
        strings,
        custom: false,
    };
    let mut from = 0;
    while let Some(rest) = text.get(from..) {
        match scanner.read(rest, from) {
            Some(next) if next > from => from = next,
            _ => break,
        }
    }
    scanner.close_all(text.len());
    scanner.found
}

/// Bytes outside of ASCII as an identifier character, which is what they are in CSS; offsets stay.
fn as_ascii(style: &[u8]) -> String {
    style.iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { '_' }).collect()
}

/// Whether a property is one of those by which Outlook names pictures in strings: `mso-bullet-image`.
fn is_image_of_outlook(name: &str) -> bool {
    let starts = name.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("mso-"));
    let end = name.len().checked_sub("-image".len()).and_then(|from| name.get(from..));
    starts && end.is_some_and(|end| end.eq_ignore_ascii_case("-image"))
}

/// The address in a string or in `url()` without quotes, where no escape makes another one of it.
fn bare_address(written: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(written);
    let text = text.trim();
    let is_function = text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("url("));
    let text = if is_function { text.get(4..)?.trim_end_matches(')') } else { text };
    let text = text.trim().trim_matches(['"', '\'']);
    (!text.contains('\\')).then(|| text.to_owned())
}

/// The deepest nesting of functions that is followed. Once a function that loads stands below it, every
/// string there is taken for an address.
const MAX_FUNCTIONS: usize = 256;

struct Scanner<'s> {
    style: &'s [u8],
    found: Vec<Load>,
    /// The functions that are open.
    functions: Vec<Function>,
    /// Whether a function that loads was opened below the deepest nesting.
    loads_below: bool,
    /// Where an `@import` began whose address has not come yet.
    import: Option<usize>,
    strings: Strings,
    /// Whether a custom property is being declared.
    custom: bool,
}

/// An open function or parenthesis.
struct Function {
    /// Where `url(` starts, for that function only.
    url: Option<usize>,
    /// Whether strings within are addresses: `url("a")`, `image-set("a" 1x)`.
    strings: bool,
    /// Loads found before it.
    before: usize,
}

impl Scanner<'_> {
    /// Reads tokens up to the next opening of a block or function, and gives the offset behind it. The
    /// tokenizer is then begun anew there, so that the depth of a style sheet costs no stack.
    fn read(&mut self, text: &str, offset: usize) -> Option<usize> {
        let mut input = ParserInput::new(text);
        let mut parser = Parser::new(&mut input);
        loop {
            let start = parser.position().byte_index();
            let token = parser.next_including_whitespace_and_comments().ok()?;
            match token {
                Token::WhiteSpace(_) | Token::Comment(_) => continue,
                _ => {}
            }
            let token = token.clone();
            let range = offset + start..offset + parser.position().byte_index();
            match token {
                Token::AtKeyword(name) if name.eq_ignore_ascii_case("import") => {
                    self.import = Some(range.start)
                }
                Token::UnquotedUrl(url) | Token::BadUrl(url) => self.push(&url, range),
                Token::QuotedString(url) if self.import.is_some() || self.takes_strings() => {
                    self.push(&url, range)
                }
                Token::QuotedString(url) if self.custom && url.contains("//") => self.push(&url, range),
                Token::Ident(name) if name.starts_with("--") => {
                    self.custom = self.strings == Strings::OfCustomProperties;
                }
                Token::Ident(name) if is_image_of_outlook(&name) => self.custom = true,
                Token::Function(name) => {
                    self.open(&name, range.start);
                    return Some(range.end);
                }
                Token::ParenthesisBlock => {
                    self.open("", range.start);
                    return Some(range.end);
                }
                Token::CloseParenthesis => self.close(range.end),
                Token::CurlyBracketBlock | Token::SquareBracketBlock => return Some(range.end),
                Token::Semicolon | Token::CloseCurlyBracket => {
                    self.close_all(range.start);
                    self.import = None;
                    self.custom = false;
                }
                _ => {}
            }
        }
    }

    fn takes_strings(&self) -> bool {
        self.loads_below && self.functions.len() >= MAX_FUNCTIONS
            || self.functions.last().is_some_and(|function| function.strings)
    }

    fn open(&mut self, name: &str, start: usize) {
        let name_bytes = name.as_bytes();
        let ends = |bytes: &[u8]| {
            let start = name_bytes.len().checked_sub(bytes.len());
            start.and_then(|start| name_bytes.get(start..)).is_some_and(|end| end.eq_ignore_ascii_case(bytes))
        };
        let is_url = name.eq_ignore_ascii_case("url");
        let strings = !name.eq_ignore_ascii_case("var") && LOADING.iter().any(|function| ends(function));
        if self.functions.len() >= MAX_FUNCTIONS {
            self.loads_below |= strings;
        } else {
            self.functions.push(Function {
                url: is_url.then(|| self.import.unwrap_or(start)),
                strings,
                before: self.found.len(),
            });
        }
    }

    /// At the parenthesis that closes `url("…")`, the load is the whole of it.
    fn close(&mut self, end: usize) {
        let Some(Function { url: Some(start), before, .. }) = self.functions.pop() else { return };
        if let Some(load) = self.found.get_mut(before) {
            load.range = start..end;
        }
    }

    /// What was never closed ends here.
    fn close_all(&mut self, end: usize) {
        while !self.functions.is_empty() {
            self.close(end);
        }
    }

    fn push(&mut self, url: &str, range: Range<usize>) {
        // Bytes outside of ASCII were read as something else; a host can hold them.
        let written = self.style.get(range.clone()).filter(|written| !written.is_ascii());
        let written = written.and_then(bare_address);
        let url = written.as_deref().unwrap_or(url);
        let (range, kind) = match self.import.take() {
            Some(start) => (start..range.end, LoadKind::Import),
            None => (range, LoadKind::Value),
        };
        self.found.push(Load { url: url.to_owned(), range, kind });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(style: &str) -> Vec<(String, String)> {
        let strings =
            if uses_variables(style.as_bytes()) { Strings::OfCustomProperties } else { Strings::OfFunctions };
        loads(style.as_bytes(), strings)
            .into_iter()
            .map(|load| (load.url, style[load.range].to_owned()))
            .collect()
    }

    fn pair(url: &str, taken: &str) -> Vec<(String, String)> {
        vec![(url.to_owned(), taken.to_owned())]
    }

    #[test]
    fn addresses_are_found_in_every_spelling() {
        assert_eq!(check("background:url(//a.example/o)"), pair("//a.example/o", "url(//a.example/o)"));
        assert_eq!(check("a{b:u\\72l( 'x' )}"), pair("x", "u\\72l( 'x' )"));
        assert_eq!(check("a{b:URL(\"x\\000079\")}"), pair("xy", "URL(\"x\\000079\")"));
        assert_eq!(check("a{b:/* url(no) */url(x/**/y)}"), pair("x/**/y", "url(x/**/y)"));
        assert_eq!(check("@media print{a{b:c}d{e:image-set('x' 1x)}}"), pair("x", "'x'"));
        assert_eq!(check("content:'url(no)'"), []);
        assert_eq!(check("\u{e9}:url(x)"), pair("x", "url(x)"));
        assert_eq!(check("((((((url(x"), pair("x", "url(x"));
    }

    #[test]
    fn an_import_goes_as_a_rule() {
        assert_eq!(check("@import 'x';a{}"), pair("x", "@import 'x'"));
        assert_eq!(check("@IMPORT url( x ) print;"), pair("x", "@IMPORT url( x )"));
        assert_eq!(check("@import/**/url('x')"), pair("x", "@import/**/url('x')"));
    }

    #[test]
    fn strings_of_custom_properties_and_of_filters_are_addresses() {
        assert_eq!(
            check("a{--x:'//a.example/o';b:image-set(var(--x) 1x)}"),
            pair("//a.example/o", "'//a.example/o'")
        );
        assert_eq!(
            check("filter:progid:DXImageTransform.Microsoft.AlphaImageLoader(src='x')"),
            pair("x", "'x'")
        );
    }

    #[test]
    fn a_cheap_look_sees_whatever_may_load() {
        for style in [
            "a{b:URL(x)}",
            "@Import 'x'",
            "a{b:u\\72l(x)}",
            "b:-webkit-image-set('x' 1x)",
            "--x:'//a';b:image-set(var(--x) 1x)",
            "filter:progid:DXImageTransform.Microsoft.AlphaImageLoader(src='x')",
        ] {
            assert!(may_load(style.as_bytes()) && !check(style).is_empty(), "{style}");
        }
        for style in ["@media (min-width:1px){a{color:rgb(1,2,3)}}", "a{width:calc(1px + 2px)}", ""] {
            assert!(!may_load(style.as_bytes()) && check(style).is_empty(), "{style}");
        }
        assert!(attribute_may_load(b"background:url&#40;//a.example/o&#41;"));
    }

    #[test]
    fn several_loads_are_all_found() {
        assert_eq!(check("a{b:url(x)}c{d:url('y'),url(z)}").len(), 3);
        assert_eq!(check("b:-webkit-image-set(url(x) 1x, 'y' 2x)").len(), 2);
    }

    #[test]
    fn an_address_keeps_what_is_no_ascii() {
        assert_eq!(check("a{b:url(//a\u{ff0e}example/o)}")[0].0, "//a\u{ff0e}example/o");
        assert_eq!(check("a{b:url( '//a\u{ff61}example/o' )}")[0].0, "//a\u{ff61}example/o");
    }

    #[test]
    fn addresses_of_outlook_and_of_old_explorers_are_found() {
        assert_eq!(check("p{mso-bullet-image:'//a.example/o'}")[0].0, "//a.example/o");
        assert_eq!(check("p{filter:progid:DXImageTransform.Microsoft.ICMFilter(colorSpace='x')}")[0].0, "x");
        assert_eq!(check("p{width:expression(new Image().src='//a.example/o')}")[0].0, "//a.example/o");
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = format!("{}url(x)", "a(".repeat(200_000));
        assert_eq!(loads(deep.as_bytes(), Strings::OfFunctions).len(), 1);
        let quoted = format!("{}'//a.example/o'", "(".repeat(300));
        assert!(loads(quoted.as_bytes(), Strings::OfFunctions).is_empty());
        let loading = format!("{}url('//a.example/o')", "(".repeat(300));
        assert_eq!(loads(loading.as_bytes(), Strings::OfFunctions).len(), 1);
    }
}
