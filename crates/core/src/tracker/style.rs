//! What attributes and an inline style say about the size and visibility of an element.

/// A length as far as it matters here.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Length {
    /// Not given.
    #[default]
    Unset,
    /// Pixels.
    Pixels(f32),
    /// Something relative: `1em`, `50%`. One of these is not one pixel.
    Relative,
}

impl Length {
    /// Reads the value of a `width` or `height` attribute (WHATWG HTML, rules for dimension values).
    pub fn attribute(value: &str) -> Length {
        let value = value.trim_start();
        let digits = value
            .find(|character: char| !character.is_ascii_digit() && character != '.')
            .unwrap_or(value.len());
        let (number, rest) = value.split_at(digits);
        match number.parse::<f32>() {
            Ok(0.0) => Length::Pixels(0.0),
            Ok(_) if rest.starts_with('%') || rest.trim_start().starts_with("em") => Length::Relative,
            Ok(pixels) => Length::Pixels(pixels),
            Err(_) => Length::Unset,
        }
    }

    /// Reads a CSS length.
    pub fn css(value: &str) -> Length {
        let value = value.trim();
        if let Some(length) = function(value) {
            return length;
        }
        let value = value.strip_prefix('-').unwrap_or(value);
        let digits = value
            .find(|character: char| !character.is_ascii_digit() && character != '.')
            .unwrap_or(value.len());
        let (number, unit) = value.split_at(digits);
        let mut lower = [0; 3];
        let unit = unit.trim().as_bytes();
        for (lower, byte) in lower.iter_mut().zip(unit) {
            *lower = byte.to_ascii_lowercase();
        }
        let scale = match std::str::from_utf8(lower.get(..unit.len()).unwrap_or(b"?")).unwrap_or("?") {
            "" | "px" => 1.0,
            "pt" => 4.0 / 3.0,
            "pc" => 16.0,
            "in" => 96.0,
            "cm" => 37.8,
            "mm" => 3.78,
            // As large as text is by default.
            "em" | "rem" => 16.0,
            "ex" | "ch" => 8.0,
            _ => 0.0,
        };
        match number.parse::<f32>() {
            Ok(0.0) => Length::Pixels(0.0),
            Ok(_) if scale == 0.0 => Length::Relative,
            Ok(number) => Length::Pixels(number * scale),
            Err(_) => Length::Unset,
        }
    }

    /// The length of a calculation from lengths in pixels.
    fn calculated(terms: impl Iterator<Item = Length>, add: impl Fn(f32, f32) -> f32) -> Length {
        let pixels = terms.map(|term| if let Length::Pixels(pixels) = term { Some(pixels) } else { None });
        let pixels: Option<Vec<f32>> = pixels.collect();
        pixels.and_then(|pixels| pixels.into_iter().reduce(add)).map_or(Length::Relative, Length::Pixels)
    }

    /// Whether it is given, and larger than a few pixels.
    fn is_large(self) -> bool {
        match self {
            Length::Unset => false,
            Length::Pixels(pixels) => pixels > FEW,
            Length::Relative => true,
        }
    }

    /// A length of a style sheet, where it makes something small: larger ones are the business of inline
    /// styles and attributes.
    fn if_small(self) -> Length {
        if self.at_most(FEW) { self } else { Length::Unset }
    }

    /// This length, or another one where it is not given.
    fn or(self, other: Length) -> Length {
        if self == Length::Unset { other } else { self }
    }

    fn at_most(self, pixels: f32) -> bool {
        matches!(self, Length::Pixels(length) if length <= pixels)
    }

    /// The smaller of a length and a maximum.
    fn limited(self, maximum: Length) -> Length {
        match (self, maximum) {
            (Length::Pixels(length), Length::Pixels(maximum)) => Length::Pixels(length.min(maximum)),
            (_, Length::Pixels(_)) => maximum,
            _ => self,
        }
    }
}

/// Pixels up to which nobody sees anything.
const FEW: f32 = 3.0;
/// Pixels up to which there is nothing to be seen but a dot.
const DOT: f32 = 5.0;
/// Pixels beyond which an element stands off the screen.
const FAR: f32 = 999.0;

/// A length that CSS calculates: `calc(0px + 1px)`, `min(1px, 100%)`, `max()`, `clamp()`. A product or a
/// nested function is not followed.
fn function(value: &str) -> Option<Length> {
    let (name, inner) = value.strip_suffix(')')?.split_once('(')?;
    let name = name.trim();
    let commas = || inner.split(',').map(|term| Length::css(term.trim()));
    if inner.contains('(') {
        return Some(Length::Relative);
    }
    if name.eq_ignore_ascii_case("calc") || name.eq_ignore_ascii_case("-webkit-calc") {
        let mut sign = 1.0;
        let mut terms = Vec::new();
        for term in inner.split_whitespace() {
            match term {
                "+" => sign = 1.0,
                "-" => sign = -1.0,
                _ => terms.push(match Length::css(term) {
                    Length::Pixels(pixels) => Length::Pixels(sign * pixels),
                    other => other,
                }),
            }
        }
        let sum = Length::calculated(terms.into_iter(), |sum, term| sum + term);
        return Some(if inner.contains(['*', '/']) { Length::Relative } else { sum });
    }
    if name.eq_ignore_ascii_case("min") {
        // The smallest of them counts, whatever the others come to.
        let small = commas().filter(|term| matches!(term, Length::Pixels(_)));
        return Some(Length::calculated(small, f32::min));
    }
    if name.eq_ignore_ascii_case("max") {
        return Some(Length::calculated(commas(), f32::max));
    }
    name.eq_ignore_ascii_case("clamp").then(|| inner.rsplit(',').next().map_or(Length::Relative, Length::css))
}

/// How large an element is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Nothing is said: an image takes the size of its file.
    Unset,
    /// No width or no height.
    Zero,
    /// At most three pixels either way.
    Tiny,
    /// At most five pixels either way.
    Dot,
    /// At most three pixels one way only.
    Line,
    /// Large enough to be seen.
    Visible,
}

/// What is known of an element's look.
#[derive(Clone, Copy, Debug, Default)]
pub struct Look {
    width: Length,
    height: Length,
    max_width: Length,
    max_height: Length,
    /// Whether what is larger than it is cut off.
    clips: bool,
    /// `display: none`, `visibility: hidden`, `opacity: 0`, clipped or scaled to nothing, or moved off the
    /// screen.
    pub hidden: bool,
}

/// What a rule shows that is hidden otherwise: on small screens, in a dark colour scheme.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shows {
    /// What is not displayed.
    display: bool,
    /// What has no width or no height.
    size: bool,
}

impl Shows {
    /// What the declarations of a rule show. Of a rule that holds everywhere only what wins over inline
    /// styles counts.
    pub fn of(declarations_of_rule: &str, is_limited: bool) -> Shows {
        let mut shows = Shows::default();
        if !is_limited && !declarations_of_rule.contains("!important") {
            return shows;
        }
        for (name, value) in declarations(declarations_of_rule) {
            let is = |other: &str| name.eq_ignore_ascii_case(other);
            let says = |word: &str| value.eq_ignore_ascii_case(word);
            match name.len() {
                7 if is("display") => shows.display |= !says("none"),
                10 if is("visibility") => shows.display |= says("visible"),
                5 | 6 | 9 | 10 if is("width") || is("height") || is("max-width") || is("max-height") => {
                    shows.size |= says("auto") || says("none") || Length::css(value).is_large();
                }
                _ => {}
            }
        }
        shows
    }

    /// What either of two rules shows.
    #[must_use]
    pub fn or(self, other: Shows) -> Shows {
        Shows { display: self.display || other.display, size: self.size || other.size }
    }
}

impl Look {
    /// Takes in a `width` attribute.
    pub fn width_attribute(&mut self, value: &str) {
        self.width = Length::attribute(value);
    }

    /// Takes in a `height` attribute.
    pub fn height_attribute(&mut self, value: &str) {
        self.height = Length::attribute(value);
    }

    /// Takes in a style attribute, which wins over the attributes.
    pub fn style(&mut self, style: &str) {
        for (name, value) in declarations(style) {
            self.declaration(name, value);
        }
    }

    fn declaration(&mut self, name: &str, value: &str) {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        let says = |word: &str| value.eq_ignore_ascii_case(word);
        match name.len() {
            5 if is("width") => self.width = Length::css(value),
            6 if is("height") => self.height = Length::css(value),
            9 if is("max-width") => self.max_width = Length::css(value),
            10 if is("max-height") => self.max_height = Length::css(value),
            7 if is("display") => self.hidden = says("none"),
            10 if is("visibility") => self.hidden |= says("hidden") || says("collapse"),
            7 if is("opacity") => self.hidden |= is_nothing(value),
            5 | 4 if is("scale") || is("zoom") => self.hidden |= is_nothing(value),
            8 if is("overflow") => self.clips = says("hidden") || says("clip"),
            18 if is("content-visibility") => self.hidden |= says("hidden"),
            4 | 9 if is("clip") || is("clip-path") => self.hidden |= clips_all(value),
            9 if is("transform") => self.hidden |= vanishes(value),
            6 if is("filter") => self.hidden |= argument(value, "opacity").is_some_and(is_nothing),
            _ if is("left") || is("top") || is("right") || is("bottom") || is("text-indent") => {
                self.hidden |= is_far(value, value.trim_start().starts_with('-'));
            }
            10 | 11 if is("margin-top") || is("margin-left") => {
                self.hidden |= value.trim_start().starts_with('-') && is_far(value, true);
            }
            _ => {}
        }
    }

    /// What a rule of a style sheet says, as far as it makes something small or hides it.
    pub fn of_a_sheet(self) -> Option<Look> {
        let small = Look {
            width: self.width.if_small(),
            height: self.height.if_small(),
            max_width: self.max_width.if_small(),
            max_height: self.max_height.if_small(),
            ..self
        };
        let lengths = [small.width, small.height, small.max_width, small.max_height];
        (small.hidden || lengths.iter().any(|length| *length != Length::Unset)).then_some(small)
    }

    /// Takes in what a rule of a style sheet says: over attributes, below the style attribute.
    pub fn take(&mut self, rule: &Look) {
        self.width = rule.width.or(self.width);
        self.height = rule.height.or(self.height);
        self.max_width = rule.max_width.or(self.max_width);
        self.max_height = rule.max_height.or(self.max_height);
        self.clips |= rule.clips;
        self.hidden |= rule.hidden;
    }

    /// Takes in that a rule shows what is hidden otherwise: neither hidden nor without height.
    pub fn show(&mut self, shows: Shows) {
        let was_hidden = self.hidden;
        self.hidden &= !shows.display;
        if self.hidden || self.size() != Size::Zero || !(shows.size || was_hidden && shows.display) {
            return;
        }
        for length in [&mut self.width, &mut self.height, &mut self.max_width, &mut self.max_height] {
            if length.at_most(0.0) {
                *length = Length::Unset;
            }
        }
    }

    /// Whether nothing that stands in the element can be seen.
    pub fn hides_content(&self) -> bool {
        self.hidden || self.size() == Size::Zero || self.clips && self.size() == Size::Tiny
    }

    /// Whether the element fills the width that it is given, as pictures for small screens do.
    pub fn is_fluid(&self) -> bool {
        self.max_width.is_large()
    }

    /// The size that follows from all of it.
    pub fn size(&self) -> Size {
        let width = self.width.limited(self.max_width);
        let height = self.height.limited(self.max_height);
        if width.at_most(0.0) || height.at_most(0.0) {
            return Size::Zero;
        }
        match (width, height) {
            (Length::Unset, Length::Unset) => Size::Unset,
            _ if width.at_most(FEW) && height.at_most(FEW) => Size::Tiny,
            (Length::Unset, other) | (other, Length::Unset) if other.at_most(2.0) => Size::Tiny,
            _ if width.at_most(DOT) && height.at_most(DOT) => Size::Dot,
            _ if width.at_most(FEW) || height.at_most(FEW) => Size::Line,
            _ => Size::Visible,
        }
    }
}

/// Whether a factor leaves nothing to be seen: `0`, `0.01`, `1%`.
fn is_nothing(value: &str) -> bool {
    let value = value.trim();
    let (number, scale) = value.strip_suffix('%').map_or((value, 1.0), |number| (number, 100.0));
    number.trim().parse::<f32>().is_ok_and(|factor| factor / scale <= 0.02)
}

/// Whether a distance leads off the screen: a long way, and a longer one where it leads into it.
fn is_far(value: &str, leads_out: bool) -> bool {
    let distance = Length::css(value);
    matches!(distance, Length::Pixels(pixels) if pixels > if leads_out { FAR } else { 4.0 * FAR })
}

/// What stands in the parentheses of a function of this name.
fn argument<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let mut functions = value.split(')').filter_map(|function| function.split_once('('));
    functions.find(|(function, _)| function.trim().eq_ignore_ascii_case(name)).map(|(_, argument)| argument)
}

/// Whether `clip` or `clip-path` leaves nothing: `rect(0 0 0 0)`, `inset(50%)`, `circle(0)`.
fn clips_all(value: &str) -> bool {
    if let Some(edges) = argument(value, "rect") {
        let edges = edges.split([' ', ',']).filter(|edge| !edge.is_empty());
        let edges: Vec<f32> = edges
            .map_while(|edge| match Length::css(edge) {
                Length::Pixels(pixels) if edge.starts_with('-') => Some(-pixels),
                Length::Pixels(pixels) => Some(pixels),
                _ => None,
            })
            .collect();
        let is_narrow = |from: &f32, to: &f32| to - from <= FEW;
        let [top, right, bottom, left] = edges.as_slice() else { return false };
        return is_narrow(top, bottom) || is_narrow(left, right);
    }
    if let Some(edges) = argument(value, "inset") {
        let first = edges.split_whitespace().next().and_then(|edge| edge.strip_suffix('%'));
        return first.is_some_and(|percent| percent.parse::<f32>().is_ok_and(|percent| percent >= 50.0));
    }
    argument(value, "circle").or_else(|| argument(value, "ellipse")).is_some_and(|radius| {
        radius.split_whitespace().next().is_some_and(|radius| Length::css(radius).at_most(FEW))
    })
}

/// Whether a transformation leaves nothing, or moves all of it off the screen.
fn vanishes(value: &str) -> bool {
    let factors = ["scale", "scalex", "scaley", "scale3d", "matrix"];
    let shrinks = factors
        .iter()
        .filter_map(|name| argument(value, name))
        .any(|factors| factors.split(',').next().is_some_and(is_nothing));
    let ways = ["translate", "translatex", "translatey", "translate3d"];
    shrinks
        || ways.iter().filter_map(|name| argument(value, name)).any(|distances| {
            distances.split(',').any(|distance| is_far(distance, distance.trim_start().starts_with('-')))
        })
}

/// The declarations of a style attribute, without `!important`. Semicolons in strings and parentheses do not
/// end one.
fn declarations(style: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = style;
    let parts = std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = end_of_declaration(rest.as_bytes());
        let part = rest.get(..end)?;
        rest = rest.get(end + 1..).unwrap_or_default();
        Some(part)
    });
    parts.filter_map(|declaration| {
        let colon = declaration.bytes().position(|byte| byte == b':')?;
        let (mut name, mut value) = (declaration.get(..colon)?, declaration.get(colon + 1..)?);
        if !may_matter(name.trim_ascii().as_bytes()) {
            return None;
        }
        // Few have a comment, and a search for two characters costs more to begin than one for the first.
        if memchr::memchr(b'*', declaration.as_bytes()).is_some() {
            name = name.rsplit("*/").next().unwrap_or(name);
            value = value.split("/*").next().unwrap_or(value);
        }
        let important = memchr::memchr(b'!', value.as_bytes()).unwrap_or(value.len());
        Some((name.trim(), value.get(..important)?.trim()))
    })
}

/// Whether a name could be that of a property that is read, by its length and first letter: most are not. One
/// with a comment could be any.
fn may_matter(name: &[u8]) -> bool {
    let first = name.first().map_or(0, |first| first | 0x20);
    match name.len() {
        _ if first == b'/' || name.last() == Some(&b'/') => true,
        3 => first == b't',
        4 => matches!(first, b'z' | b'c' | b'l'),
        5 => matches!(first, b'w' | b's' | b'r'),
        6 => matches!(first, b'h' | b'f' | b'b'),
        7 => matches!(first, b'd' | b'o'),
        8 => first == b'o',
        9 => matches!(first, b'm' | b'c' | b't'),
        10 => matches!(first, b'm' | b'v'),
        11 => matches!(first, b't' | b'm'),
        18 => first == b'c',
        _ => !name.is_ascii() || memchr::memchr(b'*', name).is_some(),
    }
}

/// Which bytes end a declaration, or keep what follows from ending it.
#[expect(clippy::indexing_slicing, reason = "evaluated at compile time, where a wrong index is an error")]
const MAY_END: [bool; 256] = {
    let mut may = [false; 256];
    let mut at = 0;
    let all = b";\"'()";
    while at < all.len() {
        may[all[at] as usize] = true;
        at += 1;
    }
    may
};

/// The length of the declaration that a style begins with.
fn end_of_declaration(style: &[u8]) -> usize {
    let says_anything = |byte: &u8| MAY_END.get(usize::from(*byte)).copied().unwrap_or(false);
    let plain = style.iter().position(says_anything).unwrap_or(style.len());
    let (mut depth, mut quote) = (0u32, None);
    for (at, &byte) in style.iter().enumerate().skip(plain) {
        match (byte, quote) {
            (_, Some(open)) if byte != open => {}
            (_, Some(_)) => quote = None,
            (b'"' | b'\'', None) => quote = Some(byte),
            (b'(', None) => depth += 1,
            (b')', None) => depth = depth.saturating_sub(1),
            (b';', None) if depth == 0 => return at,
            _ => {}
        }
    }
    style.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(width: &str, height: &str, style: &str) -> (Size, bool) {
        let mut look = Look::default();
        if !width.is_empty() {
            look.width_attribute(width);
        }
        if !height.is_empty() {
            look.height_attribute(height);
        }
        look.style(style);
        (look.size(), look.hidden)
    }

    #[test]
    fn sizes_are_read_in_every_spelling() {
        for (width, height, style) in [
            ("1", "1", ""),
            (" 1px ", "1.5", ""),
            ("", "1", ""),
            ("600", "400", "WIDTH:1px!important;height : 2px"),
            ("", "", "background:url('a;b');width:1px;/* c */height:1px"),
            ("100", "100", "max-height:1px;max-width:1px"),
            ("1", "1", "width:;"),
            ("3", "1", ""),
            ("", "", "width:0.05em;height:0.05rem"),
            ("", "", "width:calc(0px + 1px);height:calc(1px)"),
            ("", "", "width:min(1px, 100%);height:max(1px, 0px)"),
        ] {
            assert_eq!(check(width, height, style).0, Size::Tiny, "{width} {height} {style}");
        }
        assert_eq!(check("0", "20", "").0, Size::Zero);
        assert_eq!(check("", "", "max-height:0").0, Size::Zero);
        assert_eq!(check("5", "4", "").0, Size::Dot);
        assert_eq!(check("20", "1", "").0, Size::Line);
        assert_eq!(check("100%", "1", "").0, Size::Line);
        assert_eq!(check("", "", "").0, Size::Unset);
        assert_eq!(check("140", "40", "").0, Size::Visible);
    }

    #[test]
    fn one_em_and_one_percent_are_not_one_pixel() {
        assert_eq!(check("", "", "width:1em;height:1em").0, Size::Visible);
        assert_eq!(check("1%", "1%", "").0, Size::Visible);
    }

    #[test]
    fn an_element_can_be_hidden_in_several_ways() {
        for style in [
            "display:none",
            "position:absolute;clip:rect(0 0 0 0)",
            "clip:rect(1px, 1px, 1px, 1px)",
            "clip-path:inset(50%)",
            "transform:scale(0)",
            "transform: rotate(1deg) scale(0.01, 0.01)",
            "transform:translateX(-9999px)",
            "filter:opacity(0%)",
            "margin-left:-5000px",
            "visibility: hidden !important",
            "opacity:0",
            "position:absolute;left:-9999px",
        ] {
            assert!(check("", "", style).1, "{style}");
        }
        for style in [
            "display:block",
            "opacity:1",
            "opacity:90%",
            "left:-2px",
            "left:1200px",
            "clip:rect(0 90px 20px 0)",
            "clip-path:circle(50%)",
            "transform:scale(0.5)",
            "display:none;display:block",
            // For Outlook only: the others show it.
            "mso-hide:all",
        ] {
            assert!(!check("", "", style).1, "{style}");
        }
    }
}
