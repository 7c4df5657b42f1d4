//! A tokenizer for HTML as browsers and mail clients read it (WHATWG HTML, 13.2.5), that gives places instead
//! of text.
//!
//! It allocates nothing per element: a token is a few offsets into the source. Scripting is off, as in mail,
//! so the content of `noscript` is markup. Where a reader could differ (content of `style` within `svg`), the
//! content is given as markup, so that nothing hides there.

use std::ops::Range;
use std::sync::LazyLock;

use memchr::memmem::Finder;

/// What a comment ends with, but for the last bytes. Making it ready costs more than most comments.
static DASHES: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"--"));

/// One attribute of a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Its name, as written.
    pub name: Range<usize>,
    /// Its value without quotes, character references not decoded. Empty where there is none.
    pub value: Range<usize>,
    /// Name, equals sign, value and quotes.
    pub whole: Range<usize>,
}

/// What the tokenizer found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// A start tag; its attributes are in [`Tokenizer::attributes`].
    Open {
        /// The tag from `<` to `>`.
        range: Range<usize>,
        /// Its name.
        name: Range<usize>,
    },
    /// An end tag.
    Close {
        /// The tag from `<` to `>`.
        range: Range<usize>,
        /// Its name.
        name: Range<usize>,
    },
    /// A comment, or what browsers take for one.
    Comment {
        /// The comment with its delimiters.
        range: Range<usize>,
        /// What stands between them.
        content: Range<usize>,
    },
    /// The content of `style`, `script` and other elements that hold no markup. Comes right behind the start
    /// tag.
    Raw {
        /// The content.
        content: Range<usize>,
    },
}

/// The kind of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// [`Token::Open`].
    Open,
    /// [`Token::Close`].
    Close,
    /// [`Token::Comment`].
    Comment,
    /// [`Token::Raw`].
    Raw,
}

/// Elements whose content holds no markup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RawKind {
    /// Ends at its end tag.
    Text,
    /// Ends at its end tag, but for those within `<!-- <script> … -->`.
    Script,
    /// Never ends.
    Plain,
}

/// Tokenizes a piece of HTML.
#[derive(Clone, Debug)]
pub struct Tokenizer<'a> {
    src: &'a [u8],
    at: usize,
    end: usize,
    /// The last token, from its first to its last byte.
    range: Range<usize>,
    /// The name of the last tag, or the content of what else it was.
    inner: Range<usize>,
    attributes: Vec<Attribute>,
    raw: Option<RawKind>,
    /// Whether the last tag ends in `/>`.
    self_closing: bool,
    foreign: usize,
    /// Whether `svg` and `math` change anything.
    knows_foreign: bool,
}

impl<'a> Tokenizer<'a> {
    /// A tokenizer for `range` of `src`. All offsets it gives are those of `src`.
    pub fn new(src: &'a [u8], range: Range<usize>) -> Tokenizer<'a> {
        let end = range.end.min(src.len());
        Tokenizer {
            src,
            at: range.start,
            end,
            range: 0..0,
            inner: 0..0,
            attributes: Vec::with_capacity(16),
            raw: None,
            self_closing: false,
            foreign: 0,
            knows_foreign: true,
        }
    }

    /// Reads on in `svg` and `math` as outside of them.
    #[must_use]
    pub fn without_foreign(self) -> Tokenizer<'a> {
        Tokenizer { knows_foreign: false, ..self }
    }

    /// Reads one token; its places are asked for afterwards. Quicker than the iterator, which hands them
    /// over. A walk over markup takes a twentieth longer where this is called and not part of it.
    #[inline(always)]
    pub fn step(&mut self) -> Option<TokenKind> {
        if let Some(kind) = self.raw.take() {
            return Some(self.raw_content(kind));
        }
        loop {
            let open = self.seek(b'<', self.at)?;
            if let Some(kind) = self.markup(open) {
                return Some(kind);
            }
            self.at = open + 1;
        }
    }

    /// The attributes of the one tag that stands here.
    pub fn only(mut self) -> Vec<Attribute> {
        let _ = self.step();
        self.attributes
    }

    /// Whether the content of the element that was just opened is read as markup, though elements of its name
    /// elsewhere hold none: within `svg` and `math`.
    #[inline]
    pub fn is_foreign(&self) -> bool {
        self.foreign > 0
    }

    /// Whether the last tag ends in `/>`, which closes an element of `svg` or `math` at once, and no other.
    #[inline]
    pub fn is_self_closing(&self) -> bool {
        self.self_closing
    }

    /// Whether all that was read has no say in how what follows is read.
    #[inline]
    pub fn is_at_rest(&self) -> bool {
        self.raw.is_none() && self.foreign == 0
    }

    /// The last token, from its first to its last byte.
    #[inline]
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// The name of the last tag, or the content of what else it was.
    #[inline]
    pub fn inner(&self) -> Range<usize> {
        self.inner.clone()
    }

    /// The attributes of the last [`Token::Open`] or [`Token::Close`], in order, duplicates included (the
    /// first counts).
    #[inline]
    pub fn attributes(&self) -> &[Attribute] {
        &self.attributes
    }

    /// The pseudo attributes of the processing instruction whose name starts one byte behind the start of the
    /// range.
    pub fn instruction(&mut self) -> Option<&[Attribute]> {
        self.tag(self.at, self.at + 1);
        (!self.attributes.is_empty()).then_some(self.attributes.as_slice())
    }

    #[inline]
    fn byte(&self, at: usize) -> Option<u8> {
        if at < self.end { self.src.get(at).copied() } else { None }
    }

    #[inline]
    fn slice(&self, range: Range<usize>) -> &'a [u8] {
        self.src.get(range).unwrap_or_default()
    }

    #[inline]
    fn seek(&self, byte: u8, from: usize) -> Option<usize> {
        // Most of what is looked for is near: nothing is quicker than a look at the next few bytes.
        const NEAR: usize = 8;
        let rest = self.slice(from.min(self.end)..self.end);
        let (near, far) = rest.split_at(rest.len().min(NEAR));
        match near.iter().position(|other| *other == byte) {
            Some(at) => Some(from + at),
            None => memchr::memchr(byte, far).map(|at| from + near.len() + at),
        }
    }

    /// Reads from `<` on. `None` where it is only a character of text.
    fn markup(&mut self, open: usize) -> Option<TokenKind> {
        match self.byte(open + 1)? {
            byte if byte.is_ascii_alphabetic() => {
                self.tag(open, open + 1);
                self.opened();
                Some(TokenKind::Open)
            }
            b'/' => match self.byte(open + 2) {
                Some(byte) if byte.is_ascii_alphabetic() => {
                    self.tag(open, open + 2);
                    self.closed();
                    Some(TokenKind::Close)
                }
                // "</>" is nothing at all.
                Some(b'>') => Some(self.commented(open..open + 3, open + 2..open + 2)),
                Some(_) => Some(self.bogus_comment(open, open + 2)),
                None => None,
            },
            b'!' if self.slice(open + 2..self.end.min(open + 4)) == b"--" => Some(self.comment(open)),
            b'!' if self.foreign > 0 && self.slice(open + 2..self.end.min(open + 9)) == b"[CDATA[" => {
                // Text, for a browser. Others read on as markup, so that is how it is given.
                Some(self.commented(open..open + 9, open + 9..open + 9))
            }
            b'!' | b'?' => Some(self.bogus_comment(open, open + 2)),
            _ => None,
        }
    }

    /// A comment was read, from its first to its last byte.
    fn commented(&mut self, range: Range<usize>, content: Range<usize>) -> TokenKind {
        self.at = range.end;
        self.range = range;
        self.inner = content;
        TokenKind::Comment
    }

    fn bogus_comment(&mut self, open: usize, content: usize) -> TokenKind {
        let close = self.seek(b'>', content).unwrap_or(self.end);
        self.commented(open..(close + 1).min(self.end), content.min(close)..close)
    }

    fn comment(&mut self, open: usize) -> TokenKind {
        let content = open + 4;
        // "<!-->" and "<!--->" are whole comments.
        for empty in [&b">"[..], b"->"] {
            if self.slice(content..self.end.min(content + empty.len())) == empty {
                return self.commented(open..content + empty.len(), content..content);
            }
        }
        let mut from = content;
        while let Some(dashes) = DASHES.find(self.slice(from..self.end)).map(|at| from + at) {
            let mut after = dashes + 2;
            while self.byte(after) == Some(b'-') {
                after += 1;
            }
            let length = match (self.byte(after), self.byte(after + 1)) {
                (Some(b'>'), _) => 1,
                (Some(b'!'), Some(b'>')) => 2,
                _ => {
                    from = after;
                    continue;
                }
            };
            return self.commented(open..after + length, content..dashes);
        }
        self.commented(open..self.end, content.min(self.end)..self.end)
    }

    /// Reads a tag whose name starts at `name`.
    fn tag(&mut self, open: usize, name: usize) {
        self.attributes.clear();
        let mut at = name;
        while let Some(byte) = self.byte(at) {
            if is_space(byte) || byte == b'/' || byte == b'>' {
                break;
            }
            at += 1;
        }
        self.inner = name..at;
        let mut slash = false;
        loop {
            match self.byte(at) {
                None => break,
                Some(b'>') => {
                    at += 1;
                    break;
                }
                Some(byte) if is_space(byte) || byte == b'/' => {
                    slash = byte == b'/';
                    at += 1;
                }
                Some(_) => {
                    slash = false;
                    at = self.attribute(at);
                }
            }
        }
        self.self_closing = slash;
        self.at = at;
        self.range = open..at;
    }

    /// Reads one attribute that starts at `start`; gives the offset behind it.
    fn attribute(&mut self, start: usize) -> usize {
        // A leading equals sign belongs to the name (13.2.5.32).
        let mut at = start + 1;
        while let Some(byte) = self.byte(at) {
            if is_space(byte) || matches!(byte, b'/' | b'>' | b'=') {
                break;
            }
            at += 1;
        }
        let name = start..at;
        let mut value_at = at;
        while self.byte(value_at).is_some_and(is_space) {
            value_at += 1;
        }
        if self.byte(value_at) != Some(b'=') {
            self.attributes.push(Attribute { whole: name.clone(), value: at..at, name });
            return at;
        }
        value_at += 1;
        while self.byte(value_at).is_some_and(is_space) {
            value_at += 1;
        }
        let (value, end) = match self.byte(value_at) {
            Some(quote @ (b'"' | b'\'')) => {
                let close = self.seek(quote, value_at + 1).unwrap_or(self.end);
                (value_at + 1..close, (close + 1).min(self.end))
            }
            Some(b'>') | None => (value_at..value_at, value_at),
            Some(_) => {
                let mut end = value_at;
                while let Some(byte) = self.byte(end) {
                    if is_space(byte) || byte == b'>' {
                        break;
                    }
                    end += 1;
                }
                (value_at..end, end)
            }
        };
        self.attributes.push(Attribute { name, value, whole: start..end });
        end
    }

    /// Notes what a start tag does to the reading of what follows.
    fn opened(&mut self) {
        let written = self.slice(self.inner.clone());
        let is = |other: &str| written.eq_ignore_ascii_case(other.as_bytes());
        let kind = match written.len() {
            3 if is("svg") => return self.foreign += usize::from(self.knows_foreign && !self.self_closing),
            4 if is("math") => return self.foreign += usize::from(self.knows_foreign && !self.self_closing),
            _ => raw_kind(written),
        };
        if self.foreign == 0 {
            self.raw = kind;
        }
    }

    #[inline]
    fn closed(&mut self) {
        if self.foreign == 0 {
            return;
        }
        let written = self.slice(self.inner.clone());
        if written.eq_ignore_ascii_case(b"svg") || written.eq_ignore_ascii_case(b"math") {
            self.foreign = self.foreign.saturating_sub(1);
        }
    }

    /// The content of the element whose start tag was just given; the end tag is left to be read.
    fn raw_content(&mut self, kind: RawKind) -> TokenKind {
        let name = self.inner.clone();
        let start = self.at;
        let end = match kind {
            RawKind::Plain => self.end,
            RawKind::Text => self.end_tag(&name, start).unwrap_or(self.end),
            RawKind::Script => self.script_end(&name, start),
        };
        self.at = end;
        self.range = start..end;
        self.inner = start..end;
        TokenKind::Raw
    }

    /// Where `</name` next stands, followed by what ends a tag name.
    fn end_tag(&self, name: &Range<usize>, mut from: usize) -> Option<usize> {
        let name = self.slice(name.clone());
        loop {
            let open = self.seek(b'<', from)?;
            if self.byte(open + 1) == Some(b'/') && self.names(open + 2, name) {
                return Some(open);
            }
            from = open + 1;
        }
    }

    /// Whether a tag name that equals `name` stands at `at`.
    fn names(&self, at: usize, name: &[u8]) -> bool {
        let end = at + name.len();
        end <= self.end
            && self.slice(at..end).eq_ignore_ascii_case(name)
            && self.byte(end).is_none_or(|byte| is_space(byte) || byte == b'/' || byte == b'>')
    }

    /// Where the content of a script ends (13.2.5.15 to 13.2.5.31: `<!-- <script>` hides the next end tag).
    fn script_end(&self, name: &Range<usize>, start: usize) -> usize {
        #[derive(PartialEq)]
        enum Script {
            Data,
            Escaped,
            DoubleEscaped,
        }
        let script = self.slice(name.clone());
        let mut state = Script::Data;
        let mut at = start;
        while let Some(next) = memchr::memchr2(b'<', b'-', self.slice(at..self.end)).map(|offset| at + offset)
        {
            let tail = self.slice(next..self.end);
            at = next + 1;
            if tail.starts_with(b"<!--") && state == Script::Data {
                state = Script::Escaped;
                at = next + 4;
            } else if tail.starts_with(b"-->") {
                state = Script::Data;
                at = next + 3;
            } else if tail.starts_with(b"</") && self.names(next + 2, script) {
                match state {
                    Script::DoubleEscaped => state = Script::Escaped,
                    Script::Data | Script::Escaped => return next,
                }
            } else if tail.starts_with(b"<") && state == Script::Escaped && self.names(next + 1, script) {
                state = Script::DoubleEscaped;
            }
        }
        // Never closed in that reading: the plain one, so that nothing behind is lost.
        self.end_tag(name, start).unwrap_or(self.end)
    }
}

impl Iterator for Tokenizer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        let kind = self.step()?;
        let (range, inner) = (self.range(), self.inner());
        Some(match kind {
            TokenKind::Open => Token::Open { range, name: inner },
            TokenKind::Close => Token::Close { range, name: inner },
            TokenKind::Comment => Token::Comment { range, content: inner },
            TokenKind::Raw => Token::Raw { content: inner },
        })
    }
}

/// Whether an element of HTML holds no markup.
pub fn is_raw(name: &[u8]) -> bool {
    raw_kind(name).is_some()
}

fn raw_kind(name: &[u8]) -> Option<RawKind> {
    let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
    match name.len() {
        3 if is("xmp") => Some(RawKind::Text),
        5 if is("style") || is("title") => Some(RawKind::Text),
        6 if is("script") => Some(RawKind::Script),
        6 if is("iframe") => Some(RawKind::Text),
        7 if is("noembed") => Some(RawKind::Text),
        8 if is("textarea") || is("noframes") => Some(RawKind::Text),
        9 if is("plaintext") => Some(RawKind::Plain),
        _ => None,
    }
}

#[inline]
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'\x0c')
}

#[cfg(test)]
mod tests;
