//! The link to the preference page, put into mail (N20, N24), and the question that only those read who may
//! be asked (N19).
//!
//! Promised: never into what is signed or encrypted, never twice, and nothing but the place changes. Where a
//! link is needed and no place can be found for it, that is said, and the copy has to leave without what made
//! the link necessary.

mod fragment;
mod marker;

use std::ops::Range;

use encoding_rs::Encoding;

pub use fragment::{DEFAULT, Fragment, Fragments};
pub use marker::{Marker, Word};

use crate::message::header::fields;
use crate::message::transfer::{Edit, Filler, Transfer};
use crate::message::{Content, Label, Shown};
use crate::tracker::html::{TokenKind, Tokenizer};
use crate::tracker::{Analysis, Part, Placed};

/// The most questions that are followed in one text.
const MAX_REQUESTS: usize = 64;

/// The texts of a message with the marks in them, read once for all copies.
#[derive(Debug)]
pub struct Texts<'s> {
    parts: Vec<(Part<'s>, Vec<Marker>)>,
    /// What cannot be edited, among what is shown.
    protected: Vec<Shown>,
    language: Option<String>,
}

/// Whether a copy needs the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Where its author left a mark, and nowhere else.
    AtMarks,
    /// It needs one, and its author must have left a mark.
    MarkedOnly,
    /// It needs one, and gets one where there is no mark.
    Anywhere,
}

/// What becomes of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// It stays, without its marks.
    Stays,
    /// It goes.
    Goes,
}

/// What is put into a copy.
#[derive(Clone, Copy, Debug)]
pub struct Notice<'a> {
    /// The address of the preference page for whoever gets the copy; `None` where the controller has no such
    /// page.
    pub link: Option<&'a str>,
    /// What addresses of the page begin with, by which one that is there already is known.
    pub public_url: &'a str,
    /// Whether it needs the link.
    pub need: Need,
    /// What becomes of questions.
    pub question: Question,
    /// The texts around a link that has no mark.
    pub fragments: &'a Fragments,
}

/// There is no place for the link in this message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPlace;

impl<'s> Texts<'s> {
    /// The texts of an analysed message.
    pub fn of(analysis: &'s Analysis<'_>, raw: &[u8]) -> Texts<'s> {
        let with_marks = |part: Part<'s>| {
            let marks = marker::all(part.bytes());
            (part, marks)
        };
        let parts: Vec<(Part<'s>, Vec<Marker>)> = analysis.parts().into_iter().map(with_marks).collect();
        let leaves = analysis.structure().map(|structure| structure.leaves.as_slice()).unwrap_or_default();
        let protected =
            leaves.iter().filter(|leaf| leaf.protection.is_some()).map(|leaf| leaf.shown).collect();
        let markup = parts.iter().find(|(part, _)| part.leaf.shown == Shown::Markup);
        let language = of_header(raw).or_else(|| of_markup(markup?.0.bytes()));
        Texts { parts, protected, language }
    }

    /// Whether its author marked a question.
    pub fn has_question(&self) -> bool {
        self.parts.iter().any(|(_, marks)| !questions(marks).is_empty())
    }

    /// Whether its author marked places for the link.
    pub fn has_place(&self) -> bool {
        self.parts.iter().any(|(_, marks)| marks.iter().any(|mark| mark.word.below_page().is_some()))
    }

    /// The texts in which a reader must find the link: of each form in which a message is shown, the first
    /// one.
    fn needed(&self) -> Option<Vec<&(Part<'s>, Vec<Marker>)>> {
        let has = |shown: Shown| self.parts.iter().find(|(part, _)| part.leaf.shown == shown);
        let is_out_of_reach = |shown: Shown| self.protected.contains(&shown) && has(shown).is_none();
        let alone = has(Shown::Markup).is_none() && has(Shown::PlainAlternative).is_none();
        let forms = [Shown::Markup, Shown::Amp, Shown::PlainAlternative];
        if forms.into_iter().any(is_out_of_reach) || alone && is_out_of_reach(Shown::Plain) {
            return None;
        }
        let mut needed: Vec<_> = forms.into_iter().filter_map(has).collect();
        needed.extend(has(Shown::Plain).filter(|_| alone));
        (!needed.is_empty()).then_some(needed)
    }
}

impl Notice<'_> {
    /// What is put into the texts of a copy.
    ///
    /// # Errors
    ///
    /// When the copy needs the link and there is no place for it.
    pub fn place(&self, texts: &Texts<'_>) -> Result<Vec<Placed>, NoPlace> {
        let mut placed = Vec::new();
        for (part, marks) in &texts.parts {
            let asked = questions(marks);
            placed.extend(self.questions(part, &asked).into_iter().map(|edit| part.placed(edit)));
            if let Some(link) = self.link {
                // A link within a question that goes, goes with it.
                let stays =
                    |item: &&Marker| self.question == Question::Stays || !lies_in(&item.range, &asked);
                let links = marks.iter().filter(stays).filter_map(|mark| {
                    // Without a token, there is only the page that asks for an address.
                    let below = mark.word.below_page()?;
                    let below = if link.ends_with('/') { "" } else { below };
                    Some(Edit::replace(mark.range.clone(), format!("{link}{below}")))
                });
                // Behind an address a blank does no harm, in an attribute or a text.
                placed.extend(links.map(|edit| part.placed(edit)));
            }
        }
        let Some(link) = self.link.filter(|_| self.need != Need::AtMarks) else { return Ok(placed) };
        for (part, marks) in texts.needed().ok_or(NoPlace)? {
            if self.has_link(part, marks) {
                continue;
            }
            if self.need == Need::MarkedOnly {
                return Err(NoPlace);
            }
            let (language, fragment) = self.fragments.of(texts.language.as_deref());
            match part.leaf.shown {
                Shown::Markup | Shown::Amp => {
                    let edit = in_markup(part, language, &fragment.html, link).ok_or(NoPlace)?;
                    placed.push(part.placed(edit));
                }
                Shown::Plain | Shown::PlainAlternative | Shown::Elsewhere => {
                    placed.extend(in_text(part, &fragment.text, link));
                }
            }
        }
        Ok(placed)
    }

    /// Whether a reader of this text finds the link, or will.
    fn has_link(&self, part: &Part<'_>, marks: &[Marker]) -> bool {
        let asked = questions(marks);
        let stays = |item: &Marker| self.question == Question::Stays || !lies_in(&item.range, &asked);
        let is_marked = marks.iter().any(|mark| mark.word == Word::Preferences && stays(mark));
        let known = format!("{}/c/", self.public_url);
        is_marked || memchr::memmem::find(part.bytes(), known.as_bytes()).is_some()
    }

    fn questions(&self, part: &Part<'_>, asked: &[Asked]) -> Vec<Edit> {
        let ranges = asked.iter().flat_map(|question| match self.question {
            Question::Goes => [Some(question.open.start..question.close.end), None],
            Question::Stays => [Some(question.open.clone()), Some(question.close.clone())],
        });
        let ranges = ranges.flatten();
        let filler = if part.leaf.content == Content::Html { Filler::Comment } else { Filler::Nothing };
        ranges.map(|range| Edit { range, with: Vec::new(), filler }).collect()
    }
}

/// A question: where its marks stand.
struct Asked {
    open: Range<usize>,
    close: Range<usize>,
}

/// Each opening mark with the closing one behind it.
fn questions(marks: &[Marker]) -> Vec<Asked> {
    let mut found = Vec::new();
    let mut open: Option<&Range<usize>> = None;
    for mark in marks.iter().take(2 * MAX_REQUESTS) {
        match (mark.word, open) {
            (Word::Request, None) => open = Some(&mark.range),
            (Word::End, Some(start)) => {
                found.push(Asked { open: start.clone(), close: mark.range.clone() });
                open = None;
            }
            (
                Word::Request | Word::End | Word::Preferences | Word::Links | Word::Refuse | Word::Sender,
                _,
            ) => {}
        }
    }
    found
}

fn lies_in(range: &Range<usize>, asked: &[Asked]) -> bool {
    asked.iter().any(|mark| mark.open.start <= range.start && range.end <= mark.close.end)
}

/// How our fragment is shown: in its own size and to be seen, whatever style sheets of the sender say of such
/// elements. Nothing in it is loaded.
const STYLE: &str = "display:block;content:normal;clear:both;margin:16px auto;padding:0 16px;max-width:600px;\
                     font:14px/1.5 sans-serif;text-align:center";

/// Returns what is put into markup and into plain text in a language, with this link, for who wants to look
/// at it.
pub fn sample(fragments: &Fragments, language: &str, link: &str) -> (String, String) {
    let (language, fragment) = fragments.of(Some(language));
    (block(language, &fragment.html, link), marker::filled(&fragment.text, Word::Preferences, link))
}

fn block(language: &str, fragment: &str, link: &str) -> String {
    let filled = marker::filled(fragment, Word::Preferences, link);
    format!("<div lang=\"{language}\" dir=\"ltr\" style=\"{STYLE}\">{filled}</div>")
}

/// The fragment before the end of a document.
fn in_markup(part: &Part<'_>, language: &str, fragment: &str, link: &str) -> Option<Edit> {
    let at = end_of_body(part.bytes())?;
    let with = block(language, fragment, link);
    Some(Edit { range: at..at, with: with.into_bytes(), filler: Filler::Comment })
}

/// The paragraph behind a plain text.
fn in_text(part: &Part<'_>, fragment: &str, link: &str) -> Vec<Placed> {
    let text = part.bytes();
    let filled = marker::filled(fragment, Word::Preferences, link).replace('\n', "\r\n");
    let before = if text.is_empty() || text.ends_with(b"\n") { "\r\n" } else { "\r\n\r\n" };
    let end = text.len()..text.len();
    written(part, &format!("{before}{filled}\r\n"), |with| Edit {
        range: end.clone(),
        with,
        filler: Filler::Nothing,
    })
}

/// Puts a text into a part: in the part's charset where that and its transfer encoding can carry it. A part
/// in ASCII becomes one that can; in any other one, what cannot be carried is written in ASCII.
fn written(part: &Part<'_>, text: &str, edit: impl Fn(Vec<u8>) -> Edit) -> Vec<Placed> {
    let label = part.leaf.charset.trim();
    let is_ascii =
        label.is_empty() || label.eq_ignore_ascii_case("us-ascii") || label.eq_ignore_ascii_case("ascii");
    let known = Encoding::for_label(label.as_bytes()).filter(|encoding| {
        part.is_ascii_compatible()
            && encoding.is_ascii_compatible()
            && encoding.output_encoding() == *encoding
    });
    let encoding = known.filter(|_| !is_ascii);
    let has_only_ascii = part.bytes().is_ascii();
    // Bytes of eight bits might not be carried by whoever comes next.
    let becomes_quoted = part.leaf.transfer == Transfer::Identity && has_only_ascii;
    let whole = encoding.and_then(|encoding| in_charset(encoding, text));
    let relabelled = match whole {
        _ if text.is_ascii() => return vec![part.placed(edit(text.as_bytes().to_vec()))],
        Some(whole) if !becomes_quoted => return vec![part.placed(edit(whole))],
        Some(whole) => part.placed_with(edit(whole), Label { charset: None, is_quoted: true }),
        // What is ASCII is UTF-8, too.
        None if has_only_ascii && part.is_ascii_compatible() && (is_ascii || known.is_some()) => {
            let label = Label { charset: Some("utf-8"), is_quoted: becomes_quoted };
            part.placed_with(edit(text.as_bytes().to_vec()), label)
        }
        None => None,
    };
    relabelled.unwrap_or_else(|| {
        let carried = encoding.filter(|_| !becomes_quoted);
        vec![part.placed(edit(in_charset_or_ascii(carried, text)))]
    })
}

/// A text in a charset that has all of it.
fn in_charset(encoding: &'static Encoding, text: &str) -> Option<Vec<u8>> {
    let (bytes, _, has_replaced) = encoding.encode(text);
    (!has_replaced).then(|| bytes.into_owned())
}

/// A text of which each character that a charset does not have is written in ASCII.
fn in_charset_or_ascii(encoding: Option<&'static Encoding>, text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for character in text.chars() {
        let one = character.to_string();
        let held = encoding.and_then(|encoding| in_charset(encoding, &one));
        out.extend(held.unwrap_or_else(|| fragment::in_ascii(&one).into_bytes()));
    }
    out
}

/// Where something can be put so that it is the last thing that is shown; `None` where what stands last is no
/// markup.
fn end_of_body(text: &[u8]) -> Option<usize> {
    let mut tokens = Tokenizer::new(text, 0..text.len());
    let (mut body, mut html) = (None, None);
    let mut is_open_ended = false;
    while let Some(kind) = tokens.step() {
        let range = tokens.range();
        is_open_ended = false;
        match kind {
            TokenKind::Close => {
                let name = text.get(tokens.inner()).unwrap_or_default();
                if name.eq_ignore_ascii_case(b"body") {
                    body = Some(range.start);
                } else if name.eq_ignore_ascii_case(b"html") {
                    html = html.or(Some(range.start));
                }
            }
            TokenKind::Comment => {
                let is_long = text.get(range.start..).is_some_and(|rest| rest.starts_with(b"<!--"));
                let ends: &[&[u8]] = if is_long { &[b"-->", b"--!>"] } else { &[b">"] };
                is_open_ended = range.end >= text.len() && !ends.iter().any(|end| text.ends_with(end));
            }
            TokenKind::Raw => is_open_ended = tokens.inner().end >= text.len(),
            TokenKind::Open => {}
        }
    }
    // A tag that is never closed swallows what follows it.
    let last = memchr::memrchr(b'<', text).map_or(&b""[..], |at| text.get(at..).unwrap_or_default());
    let is_cut_off =
        last.get(1).is_some_and(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'/' | b'!' | b'?'))
            && memchr::memchr(b'>', last).is_none();
    match body.or(html) {
        Some(at) => Some(at),
        None if is_open_ended || is_cut_off => None,
        None => Some(text.len()),
    }
}

/// The language that the header names.
fn of_header(raw: &[u8]) -> Option<String> {
    let field = fields(raw, 0).find(|field| field.is(raw, "Content-Language"))?;
    code(field.value(raw))
}

/// The language that the document names.
fn of_markup(text: &[u8]) -> Option<String> {
    /// How many elements are looked at: it stands in the first one, if anywhere.
    const LOOKED_AT: usize = 8;
    let mut tokens = Tokenizer::new(text, 0..text.len());
    for _ in 0..LOOKED_AT {
        if tokens.step()? != TokenKind::Open {
            continue;
        }
        let named = tokens.attributes().iter().find(|attribute| {
            let name = text.get(attribute.name.clone()).unwrap_or_default();
            name.eq_ignore_ascii_case(b"lang") || name.eq_ignore_ascii_case(b"xml:lang")
        });
        if let Some(attribute) = named {
            return code(text.get(attribute.value.clone()).unwrap_or_default());
        }
    }
    None
}

/// The two letters of a language tag (RFC 5646).
fn code(value: &[u8]) -> Option<String> {
    let value = value.trim_ascii();
    let letters = value.get(..2).filter(|letters| letters.iter().all(u8::is_ascii_alphabetic))?;
    let ends = value.get(2).is_none_or(|byte| matches!(byte, b'-' | b'_' | b',' | b' ' | b';'));
    ends.then(|| String::from_utf8_lossy(letters).to_ascii_lowercase())
}

#[cfg(test)]
mod tests;
