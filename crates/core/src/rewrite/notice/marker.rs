//! Marks that the author of a template leaves: `{{pixelward.preferences}}` for the link to the preference
//! page, `{{pixelward.links}}` for the one to its choice about links, `{{pixelward.refuse}}` for the page that
//! refuses everything with one press, and `{{pixelward.request}}` to `{{pixelward.end}}` around a question
//! that only those read who may be asked (N19). In the texts that are put into mail, `{{pixelward.sender}}` is
//! the name of the controller.
//!
//! Templates and senders rewrite what they do not know: in links the braces come percent-encoded, in markup
//! as character references.

use std::ops::Range;

/// What a mark is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// The link to the preference page.
    Preferences,
    /// The link to the page's choice purpose by purpose, where links are one.
    Links,
    /// The link to the page that refuses everything with one press.
    Refuse,
    /// Here a question begins.
    Request,
    /// Here it ends.
    End,
    /// The name of the controller, in texts of ours.
    Sender,
}

impl Word {
    /// What it leads to, below the address of somebody's preference page; `None` if it is no link.
    pub(super) const fn below_page(self) -> Option<&'static str> {
        match self {
            Word::Preferences => Some(""),
            Word::Links => Some("?about=links"),
            Word::Refuse => Some("/refuse"),
            Word::Request | Word::End | Word::Sender => None,
        }
    }
}

/// A mark in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// What it is for.
    pub word: Word,
    /// Where it stands, braces included.
    pub range: Range<usize>,
}

const NAME: &[u8] = b"pixelward.";
const WORDS: [(&[u8], Word); 6] = [
    (b"preferences", Word::Preferences),
    (b"links", Word::Links),
    (b"refuse", Word::Refuse),
    (b"request", Word::Request),
    (b"end", Word::End),
    (b"sender", Word::Sender),
];
/// The ways in which an opening and a closing brace are written, in lower case.
const OPEN: [&[u8]; 6] = [b"{", b"%7b", b"&#123;", b"&#x7b;", b"&lbrace;", b"&lcub;"];
const CLOSE: [&[u8]; 6] = [b"}", b"%7d", b"&#125;", b"&#x7d;", b"&rbrace;", b"&rcub;"];
const BLANK: [&[u8]; 4] = [b" ", b"%20", b"+", b"&nbsp;"];

/// The marks of a text, in order.
pub(super) fn all(text: &[u8]) -> Vec<Marker> {
    memchr::memmem::find_iter(text, NAME).filter_map(|at| marker(text, at)).collect()
}

/// A text with something in the place of each mark of this word.
pub(super) fn filled(text: &str, word: Word, with: &str) -> String {
    let mut out = String::new();
    let mut at = 0;
    for mark in all(text.as_bytes()).iter().filter(|mark| mark.word == word) {
        out.push_str(text.get(at..mark.range.start).unwrap_or_default());
        out.push_str(with);
        at = mark.range.end;
    }
    out.push_str(text.get(at..).unwrap_or_default());
    out
}

fn marker(text: &[u8], at: usize) -> Option<Marker> {
    let behind = text.get(at + NAME.len()..)?;
    let (name, word) = WORDS.iter().find(|(name, _)| behind.starts_with(name))?;
    let end = at + NAME.len() + name.len();
    let before = text.get(..at)?;
    let start = opened(opened(without(before, &BLANK))?)?.len();
    let rest = text.get(end..)?;
    let left = closed(closed(past(rest, &BLANK))?)?;
    Some(Marker { word: *word, range: start..text.len() - left.len() })
}

fn opened(before: &[u8]) -> Option<&[u8]> {
    OPEN.iter().find_map(|brace| strip_end(before, brace))
}

fn closed(rest: &[u8]) -> Option<&[u8]> {
    CLOSE.iter().find_map(|brace| strip_start(rest, brace))
}

/// Without blanks at its end, of which there are few.
fn without<'a>(mut before: &'a [u8], blanks: &[&[u8]]) -> &'a [u8] {
    for _ in 0..4 {
        match blanks.iter().find_map(|blank| strip_end(before, blank)) {
            Some(rest) => before = rest,
            None => break,
        }
    }
    before
}

fn past<'a>(mut rest: &'a [u8], blanks: &[&[u8]]) -> &'a [u8] {
    for _ in 0..4 {
        match blanks.iter().find_map(|blank| strip_start(rest, blank)) {
            Some(next) => rest = next,
            None => break,
        }
    }
    rest
}

fn strip_end<'a>(text: &'a [u8], end: &[u8]) -> Option<&'a [u8]> {
    let (rest, last) = text.split_at_checked(text.len().checked_sub(end.len())?)?;
    last.eq_ignore_ascii_case(end).then_some(rest)
}

fn strip_start<'a>(text: &'a [u8], start: &[u8]) -> Option<&'a [u8]> {
    let (first, rest) = text.split_at_checked(start.len())?;
    first.eq_ignore_ascii_case(start).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Vec<(Word, String)> {
        all(text.as_bytes()).into_iter().map(|mark| (mark.word, text[mark.range].to_owned())).collect()
    }

    #[test]
    fn marks_are_known_in_every_spelling_of_their_braces() {
        for mark in [
            "{{pixelward.preferences}}",
            "{{ pixelward.preferences }}",
            "%7B%7Bpixelward.preferences%7D%7D",
            "%7b%7b%20pixelward.preferences%20%7d%7d",
            "&#123;&#123;pixelward.preferences&#125;&#125;",
            "&#x7B;{pixelward.preferences}&#x7D;",
            "{{+pixelward.preferences+}}",
        ] {
            assert_eq!(check(&format!("a{mark}b")), [(Word::Preferences, mark.to_owned())], "{mark}");
        }
    }

    #[test]
    fn what_is_no_mark_is_none() {
        for text in [
            "pixelward.preferences",
            "{pixelward.preferences}",
            "{{pixelward.preferences}",
            "{{pixelward.other}}",
            "{{pixelward.",
            "pixelward.end}}",
            "{{pixelward.preferences2}}",
        ] {
            assert_eq!(check(text), [], "{text}");
        }
        let both = check("{{pixelward.request}}?{{pixelward.end}}");
        assert_eq!(both.iter().map(|mark| mark.0).collect::<Vec<_>>(), [Word::Request, Word::End]);
    }
}
