//! Tokens in an address that name one person or one message.

use super::class::{Class, Classes};
use super::url::Url;

/// The fewest letters and digits that are more than a word or a version.
const SHORTEST_IDENTIFIER: usize = 4;
/// The fewest that can be opaque.
const SHORTEST_TOKEN: usize = 12;
/// The length of the longest value that can be a size or a version.
pub(super) const LONGEST_SIZE: usize = 12;

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

/// The most opaque piece of host, path and query.
pub fn opacity(url: &Url<'_>) -> Opacity {
    path_opacity(url).max(query_opacity(url)).max(host_opacity(url))
}

/// Whether any piece of host, path and query is opaque.
pub fn is_opaque(url: &Url<'_>) -> bool {
    let is_parameter = |(name, value): (&str, &str)| {
        is_opaque_piece(value.as_bytes()) && !changes_a_picture(name, value)
            || is_opaque_piece(name.as_bytes())
    };
    path_opacity(url) == Opacity::Opaque
        || url.parameters().any(is_parameter)
        || host_opacity(url) == Opacity::Opaque
}

/// The most opaque segment of the path, the extension of the last one left out.
pub fn path_opacity(url: &Url<'_>) -> Opacity {
    let path = url.path();
    // A format that stands in the query cuts nothing off the path.
    let (_, extension) = url.file_name().rsplit_once('.').unwrap_or_default();
    let path = if is_picture(extension) { path.strip_suffix(extension).unwrap_or(path) } else { path };
    let (mut most, mut identifiers) = (Opacity::Plain, 0usize);
    let mut before: &[u8] = b"";
    for piece in path.as_bytes().split(|byte| matches!(byte, b'/' | b';' | b',')) {
        let piece = piece.strip_suffix(b".").unwrap_or(piece);
        let opacity = piece_opacity(piece);
        let is_pair = are_colours(before, piece);
        before = piece;
        if is_pair {
            // The first of the two was taken for an identifier.
            identifiers = identifiers.saturating_sub(1);
            most = if identifiers == 0 && most == Opacity::Identifier { Opacity::Plain } else { most };
            continue;
        }
        identifiers += usize::from(opacity == Opacity::Identifier);
        most = most.max(opacity);
    }
    // One number may be a year or an issue; a list of them names a message and a reader.
    if identifiers >= 2 { Opacity::Opaque } else { most }
}

/// Whether two segments are two colours, as services that draw placeholders take them: `222222/666666`.
fn are_colours(first: &[u8], second: &[u8]) -> bool {
    let is_colour = |piece: &[u8]| piece.len() == 6 && piece.iter().all(u8::is_ascii_hexdigit);
    let is_even = |piece: &[u8]| {
        let (one, other) = (piece.first(), piece.get(1));
        piece.iter().all(|byte| Some(byte) == one || Some(byte) == other)
    };
    is_colour(first) && is_colour(second) && (is_even(first) || is_even(second))
}

/// Whether an extension is that of a page.
pub fn is_page(extension: &str) -> bool {
    ["html", "htm", "php", "asp", "aspx", "jsp"].iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// Whether a query names a picture: a file name in it, or a format.
pub fn is_picture_by_query(url: &Url<'_>) -> bool {
    const FORMATS: [&str; 6] = ["format", "image_format", "fm", "ext", "output", "type"];
    url.parameters().any(|(name, value)| {
        let format = value.strip_prefix("image%2F").or_else(|| value.strip_prefix("image/")).unwrap_or(value);
        let names_file =
            value.rsplit_once('.').is_some_and(|(stem, extension)| !stem.is_empty() && is_picture(extension));
        names_file || is_picture(format) && FORMATS.iter().any(|format| name.eq_ignore_ascii_case(format))
    })
}

/// The most opaque value of the query.
pub fn query_opacity(url: &Url<'_>) -> Opacity {
    let opacity = |(name, value): (&str, &str)| match name {
        "" => piece_opacity(value.as_bytes()),
        name => value_opacity(name, value).max(piece_opacity(name.as_bytes())),
    };
    url.parameters().map(opacity).max().unwrap_or(Opacity::Plain)
}

/// The value of a parameter: names that resize or version a picture identify nobody.
fn value_opacity(name: &str, value: &str) -> Opacity {
    if changes_a_picture(name, value) {
        return Opacity::Plain;
    }
    match piece_opacity(value.as_bytes()) {
        Opacity::Plain if !value.is_empty() && value.len() <= 40 && names_an_identifier(name) => {
            Opacity::Identifier
        }
        opacity => opacity,
    }
}

/// Whether a parameter resizes or versions a picture.
fn changes_a_picture(name: &str, value: &str) -> bool {
    const NAMES: [&str; 27] = [
        "w", "h", "width", "height", "v", "ver", "version", "q", "quality", "fit", "crop", "auto", "fm",
        "format", "size", "s", "dpr", "resize", "ixlib", "bg", "color", "fill", "rev", "itok", "vs", "mode",
        "scale",
    ];
    value.len() <= LONGEST_SIZE && NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
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
    const WITHIN: [&[u8]; 7] =
        [b"email", b"e-mail", b"md5", b"sha256", b"subscriber", b"recipient", b"contact"];
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
        || WITHIN
            .iter()
            .any(|word| name.as_bytes().windows(word.len()).any(|window| window.eq_ignore_ascii_case(word)))
}

/// Whether a segment of a path, a name or a value is opaque; nothing shorter is.
pub(super) fn is_opaque_piece(piece: &[u8]) -> bool {
    piece.len() >= SHORTEST_TOKEN && piece_opacity(piece) == Opacity::Opaque
}

/// How many hyphens and underscores an opaque piece has; `None` where it is not one, or has other characters.
pub(super) fn joints_in_token(piece: &[u8]) -> Option<usize> {
    let classes = Classes::of(piece);
    let joints = match classes.others {
        0 => 0,
        _ => piece.iter().filter(|byte| matches!(byte, b'-' | b'_')).count(),
    };
    (joints == classes.others && opacity_of(piece, &classes) == Opacity::Opaque).then_some(joints)
}

/// A segment of a path, or a value.
pub fn piece_opacity(piece: &[u8]) -> Opacity {
    if piece.len() < SHORTEST_IDENTIFIER {
        return Opacity::Plain;
    }
    opacity_of(piece, &Classes::of(piece))
}

/// The opacity of a piece with these counts.
fn opacity_of(piece: &[u8], classes: &Classes) -> Opacity {
    let length = classes.letters() + classes.digits;
    if length < SHORTEST_IDENTIFIER {
        return Opacity::Plain;
    }
    if classes.is_uuid_like(piece) {
        return Opacity::Opaque;
    }
    if classes.letters() == 0 {
        // Numbers: one of them may be a year or a size, a list of them is an identifier.
        return match (classes.digits, classes.runs) {
            (8..=10, _) if begins_with_a_date(piece) => Opacity::Plain,
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
        6.. if classes.digits >= 2 && turns >= 3 => Opacity::Identifier,
        // Letters alone, of both cases and in no order that words have.
        8.. if turns >= 2 && classes.lower >= 2 && 3 * classes.upper >= length => Opacity::Identifier,
        _ => Opacity::Plain,
    }
}

/// Whether digits begin with a day of these decades, as the names of issues do: `20260915`, `20260915-02`.
fn begins_with_a_date(piece: &[u8]) -> bool {
    let number = |range: std::ops::Range<usize>| {
        piece
            .get(range)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| digits.parse::<u32>().ok())
    };
    let ends = !piece.get(8).is_some_and(u8::is_ascii_digit);
    ends && number(0..4).is_some_and(|year| (1990..2100).contains(&year))
        && number(4..6).is_some_and(|month| (1..=12).contains(&month))
        && number(6..8).is_some_and(|day| (1..=31).contains(&day))
}

/// Whether an extension is that of a picture file.
pub fn is_picture(extension: &str) -> bool {
    const EXTENSIONS: [&str; 10] = ["gif", "png", "jpg", "jpeg", "webp", "svg", "bmp", "ico", "avif", "jpe"];
    matches!(extension, "png" | "jpg" | "gif")
        || (3..=4).contains(&extension.len())
            && EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
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

/// Whether a word in lower case speaks of an opening.
#[inline]
fn is_opening(word: &[u8]) -> bool {
    matches!(
        word,
        b"open"
            | b"opens"
            | b"opened"
            | b"opening"
            | b"track"
            | b"tracking"
            | b"tracker"
            | b"trk"
            | b"pixel"
            | b"px"
            | b"beacon"
            | b"impression"
            | b"imp"
            | b"openmail"
            | b"emailopen"
            | b"mailopen"
            | b"ping"
            | b"webbug"
    )
}

/// Whether a word in lower case speaks of an opening where it stands by itself, though not in the name of a
/// picture.
#[inline]
fn is_opening_alone(word: &[u8]) -> bool {
    matches!(
        word,
        b"read"
            | b"view"
            | b"views"
            | b"viewed"
            | b"pv"
            | b"stat"
            | b"stats"
            | b"count"
            | b"counter"
            | b"log"
            | b"hit"
    )
}

/// Whether path or query speak of an opening. Words are told apart at every character that is no letter or
/// digit, and where an upper-case letter first follows a lower-case one.
pub fn speaks_of_opening(url: &Url<'_>) -> bool {
    let tail = url.tail().as_bytes();
    let (path, query) = tail.split_at(memchr::memchr(b'?', tail).unwrap_or(tail.len()));
    path_speaks(path) || query.get(1..).is_some_and(query_speaks)
}

/// Whether a path speaks of an opening, with the name of a file or without.
fn path_speaks(path: &[u8]) -> bool {
    let (folder, file) = path.split_at(memchr::memrchr(b'/', path).map_or(0, |at| at + 1));
    // A first segment of one letter is what services make of the word; further on, it is the objects of a
    // storage service.
    let first = folder.strip_prefix(b"/").unwrap_or(folder);
    let first = first.get(..memchr::memchr(b'/', first).unwrap_or(first.len())).unwrap_or_default();
    is_letter(first) || folder.split(|byte| *byte == b'/').any(segment_speaks) || file_speaks(file)
}

/// Whether a segment is the letter that stands for an opening.
fn is_letter(segment: &[u8]) -> bool {
    matches!(segment, b"o" | b"O" | b"oo" | b"OO")
}

/// Whether a folder, or a file that is no picture, speaks of an opening.
fn segment_speaks(segment: &[u8]) -> bool {
    let mut words = segment.split(|byte| !Class::of(*byte).is_alphanumeric());
    let said = words.any(says_opening) || holds_opening(segment) && !is_harmless(segment);
    said && !is_adjective(segment)
}

/// Whether the name of a file speaks of an opening.
fn file_speaks(file: &[u8]) -> bool {
    let (stem, extension) = match memchr::memrchr(b'.', file) {
        Some(dot) => (file.get(..dot).unwrap_or_default(), file.get(dot + 1..).unwrap_or_default()),
        None => (file, &b""[..]),
    };
    if is_letter(stem) {
        return true;
    }
    let is_gif = extension.eq_ignore_ascii_case(b"gif");
    if is_gif || !std::str::from_utf8(extension).is_ok_and(is_picture) {
        return segment_speaks(stem) && !(is_gif && says_view(stem));
    }
    let mut words = stem.split(|byte| !Class::of(*byte).is_alphanumeric());
    words.any(|word| is_opening_in_any_case(word, false)) && !is_adjective(stem)
}

/// Whether the stem of a picture has a word that only by itself speaks of an opening beside others:
/// `front-view`, `read_more`.
fn says_view(stem: &[u8]) -> bool {
    let mut words = stem.split(|byte| !Class::of(*byte).is_alphanumeric());
    let many = stem.iter().any(|byte| !Class::of(*byte).is_alphanumeric());
    many && words.all(|word| !is_opening_in_any_case(word, false)) && !holds_opening(stem)
}

fn query_speaks(query: &[u8]) -> bool {
    query.split(|byte| matches!(byte, b'&' | b';')).any(|pair| {
        // How a picture is shown: `view=open`.
        let shows = [&b"view="[..], b"mode=", b"state=", b"status="];
        let is_shown = shows.iter().any(|name| pair.get(..name.len()) == Some(*name));
        !is_shown && segment_speaks(pair)
    })
}

/// Whether "open" says what another word is like: `open-house`, `now_open`. Beside words of mail and of
/// counting, it says what was done.
fn is_adjective(segment: &[u8]) -> bool {
    const DONE: [&[u8]; 46] = [
        b"mail",
        b"mails",
        b"email",
        b"emails",
        b"message",
        b"messages",
        b"msg",
        b"track",
        b"tracking",
        b"tracker",
        b"tracked",
        b"trk",
        b"log",
        b"logs",
        b"pixel",
        b"px",
        b"notification",
        b"notify",
        b"event",
        b"events",
        b"campaign",
        b"newsletter",
        b"count",
        b"counter",
        b"rate",
        b"beacon",
        b"receipt",
        b"mark",
        b"record",
        b"register",
        b"report",
        b"hook",
        b"img",
        b"image",
        b"gif",
        b"user",
        b"action",
        b"is",
        b"api",
        b"link",
        b"click",
        b"stat",
        b"stats",
        b"seen",
        b"read",
        b"first",
    ];
    let words = || segment.split(|byte| !Class::of(*byte).is_alphanumeric()).filter(|word| !word.is_empty());
    let is_word = |word: &&[u8]| word.len() >= 2 && word.iter().all(u8::is_ascii_alphabetic);
    let is_open = |word: &[u8]| word.eq_ignore_ascii_case(b"open") || word.eq_ignore_ascii_case(b"opening");
    let others = || words().filter(is_word).filter(|word| !is_open(word));
    words().any(is_open)
        && others().next().is_some()
        && !others().any(|word| DONE.iter().any(|done| word.eq_ignore_ascii_case(done)))
        && words().filter(|word| !is_open(word)).all(|word| is_word(&word))
        && !segment.contains(&b'=')
}

/// Whether a piece is a word of an opening, or two, parted where an upper-case letter first follows a
/// lower-case one.
fn says_opening(piece: &[u8]) -> bool {
    is_opening_in_any_case(piece, true)
}

/// The same; words that speak of an opening only by themselves count where `alone`.
fn is_opening_in_any_case(piece: &[u8], alone: bool) -> bool {
    const LONGEST: usize = 24;
    let says = |word: &[u8]| is_opening(word) || alone && is_opening_alone(word);
    if !piece.iter().any(|byte| Class::of(*byte).is(Class::UPPER)) {
        return says(piece);
    }
    let mut lower = [0; LONGEST];
    let Some(lower) = lower.get_mut(..piece.len()) else { return false };
    for (lower, byte) in lower.iter_mut().zip(piece) {
        *lower = byte.to_ascii_lowercase();
    }
    let bend = piece.windows(2).position(
        |pair| matches!(pair, [first, second] if first.is_ascii_lowercase() && second.is_ascii_uppercase()),
    );
    let (first, rest) = lower.split_at(bend.map_or(piece.len(), |at| at + 1));
    says(first) || says(rest)
}

/// Whether a word that speaks of an opening stands anywhere, within a longer word too.
fn holds_opening(tail: &[u8]) -> bool {
    tail.iter().enumerate().any(|(at, byte)| {
        let word: &[u8] = match byte | 0x20 {
            b'o' => b"open",
            b't' => b"track",
            b'p' => b"pixel",
            b'b' => b"beacon",
            _ => return false,
        };
        tail.get(at..at + word.len()).is_some_and(|window| window.eq_ignore_ascii_case(word))
    })
}

/// Longer words that mean something else.
fn is_harmless(tail: &[u8]) -> bool {
    const WORDS: [&[u8]; 5] = [b"opensans", b"open-sans", b"open+sans", b"opengraph", b"trackpad"];
    WORDS.iter().any(|word| tail.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word)))
}

/// Whether this is a picture file that nobody tells one reader from another by: no query, no token, no word
/// of an opening, nothing but the characters of file names.
pub fn is_plain_picture(url: &Url<'_>) -> bool {
    is_plain_folder(url) && is_plain_file(url.file_name().as_bytes()) && url.query().is_empty()
}

/// Whether the name of a file is that of a picture, and says nothing more.
pub(super) fn is_plain_file(name: &[u8]) -> bool {
    let Some((stem, extension)) = memchr::memrchr(b'.', name).and_then(|dot| name.split_at_checked(dot))
    else {
        return false;
    };
    let extension = extension.get(1..).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default();
    is_picture(extension)
        && name.iter().all(|byte| Class::of(*byte).is_of_a_name())
        && piece_opacity(stem) == Opacity::Plain
        && !file_speaks(name)
}

/// Whether host and folder of an address say nothing about who reads. A number in the path may be a year or
/// an issue.
pub(super) fn is_plain_folder(url: &Url<'_>) -> bool {
    let path = url.folder().get(url.host().len()..).unwrap_or_default();
    is_plain_path(path.as_bytes()) && host_opacity(url) == Opacity::Plain
}

/// Whether each segment of a path says nothing about who reads.
pub(super) fn is_plain_path(path: &[u8]) -> bool {
    path.iter().all(|byte| Class::of(*byte).is_of_a_path())
        && path.split(|byte| *byte == b'/').all(|piece| piece_opacity(piece) == Opacity::Plain)
        && !path_speaks(path)
}

/// Whether a label of the host is a token: a name made for each reader is looked up for each reader.
pub fn host_opacity(url: &Url<'_>) -> Opacity {
    const SHORTEST: usize = 20;
    let labels = url.host().as_bytes().split(|byte| *byte == b'.');
    let is_token = |label: &[u8]| label.len() >= SHORTEST && is_opaque_piece(label);
    if labels.into_iter().any(is_token) { Opacity::Opaque } else { Opacity::Plain }
}

/// Whether a file is named in words: `header-logo`, not `1` or a token.
pub fn is_named(stem: &str) -> bool {
    stem.bytes().filter(u8::is_ascii_alphabetic).count() >= 4
        && piece_opacity(stem.as_bytes()) == Opacity::Plain
}

/// The opaque pieces of an address.
pub fn opaque_pieces<'a>(url: &'a Url<'_>) -> impl Iterator<Item = &'a str> {
    url.tail().split(['/', '?', '&', '=', '.', ';', ',']).filter(|piece| is_opaque_piece(piece.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str) -> Opacity {
        opacity(&Url::read(url.into(), None).unwrap())
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
