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
        let value = value.strip_prefix('-').unwrap_or(value);
        let digits = value
            .find(|character: char| !character.is_ascii_digit() && character != '.')
            .unwrap_or(value.len());
        let (number, unit) = value.split_at(digits);
        let scale = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "px" => 1.0,
            "pt" => 4.0 / 3.0,
            "pc" => 16.0,
            "in" => 96.0,
            "cm" => 37.8,
            "mm" => 3.78,
            _ => 0.0,
        };
        match number.parse::<f32>() {
            Ok(0.0) => Length::Pixels(0.0),
            Ok(_) if scale == 0.0 => Length::Relative,
            Ok(number) => Length::Pixels(number * scale),
            Err(_) => Length::Unset,
        }
    }

    fn at_most(self, pixels: f32) -> bool {
        matches!(self, Length::Pixels(own) if own <= pixels)
    }

    /// The smaller of a length and a maximum.
    fn limited(self, maximum: Length) -> Length {
        match (self, maximum) {
            (Length::Pixels(own), Length::Pixels(maximum)) => Length::Pixels(own.min(maximum)),
            (_, Length::Pixels(_)) => maximum,
            _ => self,
        }
    }
}

/// How large an element is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Nothing is said: an image takes the size of its file.
    Unset,
    /// No width or no height.
    Zero,
    /// At most two pixels either way.
    Tiny,
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
    /// `display: none`, `visibility: hidden`, `opacity: 0`, `mso-hide: all`, or moved off the screen.
    pub hidden: bool,
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
            7 if is("opacity") => self.hidden |= value.parse::<f32>().is_ok_and(|opacity| opacity <= 0.02),
            8 if is("mso-hide") => self.hidden |= says("all"),
            4 | 3 | 11 if is("left") || is("top") || is("text-indent") => {
                self.hidden |= value.trim_start().starts_with('-') && !Length::css(value).at_most(999.0);
            }
            _ => {}
        }
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
            _ if width.at_most(2.0) && height.at_most(2.0) => Size::Tiny,
            (Length::Unset, other) | (other, Length::Unset) if other.at_most(2.0) => Size::Tiny,
            _ if width.at_most(3.0) || height.at_most(3.0) => Size::Line,
            _ => Size::Visible,
        }
    }
}

/// The declarations of a style attribute, without `!important`. Semicolons in strings and parentheses do not end one.
fn declarations(style: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut depth = 0u32;
    let mut quote = None;
    style
        .split(move |character: char| match (character, quote) {
            ('"' | '\'', None) => {
                quote = Some(character);
                false
            }
            (_, Some(open)) => {
                if character == open {
                    quote = None;
                }
                false
            }
            ('(', None) => {
                depth += 1;
                false
            }
            (')', None) => {
                depth = depth.saturating_sub(1);
                false
            }
            (';', None) => depth == 0,
            _ => false,
        })
        .filter_map(|declaration| {
            let (name, value) = declaration.split_once(':')?;
            let name = name.rsplit("*/").next().unwrap_or(name).trim();
            let value = value.split("/*").next().unwrap_or(value);
            let value = value.split('!').next().unwrap_or(value).trim();
            Some((name, value))
        })
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
        ] {
            assert_eq!(check(width, height, style).0, Size::Tiny, "{width} {height} {style}");
        }
        assert_eq!(check("0", "20", "").0, Size::Zero);
        assert_eq!(check("", "", "max-height:0").0, Size::Zero);
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
            "visibility: hidden !important",
            "opacity:0",
            "mso-hide:all",
            "position:absolute;left:-9999px",
        ] {
            assert!(check("", "", style).1, "{style}");
        }
        for style in ["display:block", "opacity:1", "left:-2px", "display:none;display:block"] {
            assert!(!check("", "", style).1, "{style}");
        }
    }
}
