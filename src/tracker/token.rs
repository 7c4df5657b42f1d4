//! Tokens in an address that name one person or one message.

use super::url::Url;

/// How much of an identifier a piece of an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Opacity {
    /// A word, a version, nothing.
    Plain,
    /// A number or a short token in the place of an identifier.
    Identifier,
    /// A token that only means something to who made it.
    Opaque,
}

/// The most opaque piece of path and query.
pub fn opacity(url: &Url) -> Opacity {
    path_opacity(url).max(query_opacity(url))
}

/// The most opaque segment of the path, the extension of the last one left out.
pub fn path_opacity(url: &Url) -> Opacity {
    let (stem, extension) = url.stem_and_extension();
    let last = if is_picture(&extension) { stem } else { url.file_name() };
    let folders = url.path().rsplit('/').skip(1);
    let (mut most, mut identifiers) = (Opacity::Plain, 0);
    for piece in folders.chain([last]).flat_map(|segment| segment.split([';', ','])) {
        let opacity = piece_opacity(piece);
        identifiers += usize::from(opacity == Opacity::Identifier);
        most = most.max(opacity);
    }
    // One number may be a year or an issue; a list of them names a message and a reader.
    if identifiers >= 2 { Opacity::Opaque } else { most }
}

/// The most opaque value of the query.
pub fn query_opacity(url: &Url) -> Opacity {
    url.query()
        .split(['&', ';'])
        .map(|parameter| match parameter.split_once('=') {
            Some((name, value)) => value_opacity(name, value).max(piece_opacity(name)),
            None => piece_opacity(parameter),
        })
        .max()
        .unwrap_or(Opacity::Plain)
}

/// The value of a parameter: names that resize or version a picture identify nobody.
fn value_opacity(name: &str, value: &str) -> Opacity {
    const HARMLESS: [&str; 27] = [
        "w", "h", "width", "height", "v", "ver", "version", "q", "quality", "fit", "crop", "auto", "fm",
        "format", "size", "s", "dpr", "resize", "ixlib", "bg", "color", "fill", "rev", "itok", "vs", "mode",
        "scale",
    ];
    if HARMLESS.iter().any(|harmless| name.eq_ignore_ascii_case(harmless)) && value.len() <= 12 {
        return Opacity::Plain;
    }
    match piece_opacity(value) {
        Opacity::Plain if !value.is_empty() && value.len() <= 40 && names_an_identifier(name) => {
            Opacity::Identifier
        }
        opacity => opacity,
    }
}

/// Whether a parameter's name says that its value identifies.
fn names_an_identifier(name: &str) -> bool {
    const NAMES: [&str; 27] = [
        "id",
        "uid",
        "u",
        "e",
        "m",
        "mid",
        "cid",
        "sid",
        "rid",
        "eid",
        "uuid",
        "guid",
        "email",
        "user",
        "subscriber",
        "contact",
        "recipient",
        "token",
        "key",
        "hash",
        "msgid",
        "message",
        "campaign",
        "lid",
        "uniqueid",
        "userid",
        "pid",
    ];
    NAMES.iter().any(|own| name.eq_ignore_ascii_case(own))
}

/// A segment of a path, or a value.
pub fn piece_opacity(piece: &str) -> Opacity {
    let classes = Classes::of(piece);
    let length = classes.letters() + classes.digits;
    if length < 4 {
        return Opacity::Plain;
    }
    if classes.is_uuid_like(piece) {
        return Opacity::Opaque;
    }
    if classes.letters() == 0 {
        // Numbers: one of them may be a year or a size, a list of them is an identifier.
        return match (classes.digits, classes.runs) {
            (12.., _) => Opacity::Opaque,
            (5.., _) => Opacity::Identifier,
            _ => Opacity::Plain,
        };
    }
    // How often the class of character changes, against the length: words change seldom, tokens often.
    let turns = classes.turns;
    match length {
        60.. if classes.others * 6 < length => Opacity::Opaque,
        14.. if turns * 5 >= length => Opacity::Opaque,
        20.. if classes.digits > 0 && turns * 8 >= length => Opacity::Opaque,
        8.. if classes.digits >= 2 && turns >= 3 => Opacity::Identifier,
        _ => Opacity::Plain,
    }
}

/// Counts over a piece.
#[derive(Default)]
struct Classes {
    lower: usize,
    upper: usize,
    digits: usize,
    others: usize,
    /// Changes between letters and digits, and from lower to upper case.
    turns: usize,
    /// Runs of letters and digits.
    runs: usize,
}

impl Classes {
    fn of(piece: &str) -> Classes {
        let mut classes = Classes::default();
        let mut last = b'-';
        for byte in piece.bytes() {
            match byte {
                b'a'..=b'z' => {
                    classes.lower += 1;
                    classes.turns += usize::from(last.is_ascii_digit());
                }
                b'A'..=b'Z' => {
                    classes.upper += 1;
                    classes.turns += usize::from(last.is_ascii_digit() || last.is_ascii_lowercase());
                }
                b'0'..=b'9' => {
                    classes.digits += 1;
                    classes.turns += usize::from(last.is_ascii_alphabetic());
                }
                _ => classes.others += 1,
            }
            classes.runs += usize::from(byte.is_ascii_alphanumeric() && !last.is_ascii_alphanumeric());
            last = byte;
        }
        classes
    }

    fn letters(&self) -> usize {
        self.lower + self.upper
    }

    /// 32 or more hexadecimal digits, with or without hyphens.
    fn is_uuid_like(&self, piece: &str) -> bool {
        let hex = piece.bytes().filter(u8::is_ascii_hexdigit).count();
        hex >= 16 && hex + self.others == piece.len() && self.others <= 4 && self.digits > 3
    }
}

/// Whether an extension is that of a picture file.
pub fn is_picture(extension: &str) -> bool {
    matches!(extension, "gif" | "png" | "jpg" | "jpeg" | "webp" | "svg" | "bmp" | "ico" | "avif" | "jpe")
}

/// Whether a file is named as spacers are named.
pub fn is_spacer_name(stem: &str) -> bool {
    const NAMES: [&str; 16] = [
        "spacer",
        "blank",
        "clear",
        "transparent",
        "trans",
        "shim",
        "dot",
        "pixel",
        "1x1",
        "px",
        "space",
        "empty",
        "leer",
        "s",
        "x",
        "cleardot",
    ];
    let stem = stem.to_ascii_lowercase();
    let bare =
        stem.trim_matches(|character: char| character.is_ascii_digit() || matches!(character, '-' | '_'));
    NAMES.iter().any(|name| bare == *name || stem == *name)
        || stem.contains("spacer")
        || stem.contains("blank")
}

/// Words that speak of an opening.
const OPENING: [&str; 31] = [
    "open",
    "opens",
    "opened",
    "opening",
    "track",
    "tracking",
    "tracker",
    "trk",
    "pixel",
    "px",
    "beacon",
    "impression",
    "imp",
    "read",
    "view",
    "views",
    "viewed",
    "pv",
    "oo",
    "stat",
    "stats",
    "count",
    "counter",
    "log",
    "hit",
    "o",
    "openmail",
    "emailopen",
    "mailopen",
    "ping",
    "webbug",
];

/// Whether path or query speak of an opening. Words are told apart at every character that is no letter or digit, and where
/// an upper-case letter follows a lower-case one.
pub fn speaks_of_opening(url: &Url) -> bool {
    let tail = url.as_str().get(url.host().len()..).unwrap_or_default();
    let harmless = ["opensans", "open-sans", "open+sans", "opengraph", "trackpad"];
    words(tail).any(|word| OPENING.iter().any(|own| word.eq_ignore_ascii_case(own)))
        || ["open", "track", "pixel", "beacon"].iter().any(|own| contains_ignoring_case(tail, own))
            && !harmless.iter().any(|own| contains_ignoring_case(tail, own))
}

/// Short words of a path or query.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|character: char| !character.is_ascii_alphanumeric())
        .filter(|piece| !piece.is_empty() && piece.len() <= 24)
        .flat_map(|piece| {
            let bend = piece
                .as_bytes()
                .windows(2)
                .position(|pair| matches!(pair, [a, b] if a.is_ascii_lowercase() && b.is_ascii_uppercase()));
            let (first, rest) =
                piece.split_at_checked(bend.map_or(piece.len(), |at| at + 1)).unwrap_or((piece, ""));
            [first, rest]
        })
}

/// Whether `text` holds `word`, which is in lower case.
fn contains_ignoring_case(text: &str, word: &str) -> bool {
    let (text, word) = (text.as_bytes(), word.as_bytes());
    let Some(first) = word.first() else { return true };
    memchr::memchr2_iter(*first, first.to_ascii_uppercase(), text)
        .any(|at| text.get(at..at + word.len()).is_some_and(|window| window.eq_ignore_ascii_case(word)))
}

/// Whether a file is named in words: `header-logo`, not `1` or a token.
pub fn is_named(stem: &str) -> bool {
    stem.bytes().filter(u8::is_ascii_alphabetic).count() >= 4 && piece_opacity(stem) == Opacity::Plain
}

/// The opaque pieces of an address.
pub fn opaque_pieces(url: &Url) -> impl Iterator<Item = &str> {
    let tail = url.as_str().get(url.host().len()..).unwrap_or_default();
    tail.split(['/', '?', '&', '=', '.', ';', ','])
        .filter(|piece| piece.len() >= 12 && piece_opacity(piece) == Opacity::Opaque)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str) -> Opacity {
        opacity(&Url::read(url, None).unwrap())
    }

    #[test]
    fn tokens_are_told_from_words() {
        for url in [
            "https://a.example/o/eJwNyEEOgCAMBMDXlCNZWqByKn/xYkJCDAkSv",
            "https://a.example/x?u=5f2b1c0e9d8a7b6c5d4e3f2a1b0c9d8e",
            "https://a.example/open/9c858901-8a57-4791-81fe-4c455b099bc9",
            "https://a.example/?nD0jHx7QpLw2Zk9Rt4Yb",
            "https://a.example/a?id=123456789012",
        ] {
            assert_eq!(check(url), Opacity::Opaque, "{url}");
        }
        for url in [
            "https://a.example/images/header-newsletter-march-2024.png",
            "https://a.example/assets/img/social/facebook_icon.png?v=20240102&w=600",
            "https://fonts.example/css?family=Open+Sans:400,700",
            "https://a.example/",
        ] {
            assert_eq!(check(url), Opacity::Plain, "{url}");
        }
        assert_eq!(check("https://a.example/a?uid=77"), Opacity::Identifier);
        assert_eq!(check("https://a.example/a/123456/"), Opacity::Identifier);
    }
}
