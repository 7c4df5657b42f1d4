//! What is said to people in their language: on the pages of the console, and where a decision is explained.
//! Names that the configuration and the API have stay as they are.

mod facts;
pub mod words;

pub use facts::fact;

/// A language of the console.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// English.
    #[default]
    En,
    /// German.
    De,
    /// French.
    Fr,
}

/// A text in English, German and French.
#[derive(Clone, Copy, Debug)]
pub struct Text(pub &'static str, pub &'static str, pub &'static str);

impl Language {
    /// Every language.
    pub const ALL: [Language; 3] = [Language::En, Language::De, Language::Fr];

    /// Returns its code.
    pub const fn code(self) -> &'static str {
        match self {
            Language::En => "en",
            Language::De => "de",
            Language::Fr => "fr",
        }
    }

    /// Returns its native name.
    pub const fn name(self) -> &'static str {
        match self {
            Language::En => "English",
            Language::De => "Deutsch",
            Language::Fr => "Français",
        }
    }

    /// Returns the language of a code.
    pub fn of(code: &str) -> Option<Language> {
        Language::ALL.into_iter().find(|language| language.code() == code)
    }

    /// Returns the first available language of Accept-Language; weights are ignored, because browsers list
    /// the preferred one first.
    pub fn accepted(header: &str) -> Option<Language> {
        header.split(',').take(16).find_map(|range| {
            let tag = range.split(';').next().unwrap_or_default().trim();
            Language::of(&tag.split('-').next().unwrap_or_default().to_ascii_lowercase())
        })
    }

    /// Returns a text in this language.
    pub const fn say(self, text: &Text) -> &'static str {
        match self {
            Language::En => text.0,
            Language::De => text.1,
            Language::Fr => text.2,
        }
    }

    /// A number with its thousands apart.
    pub fn number(self, number: u64) -> String {
        let gap = match self {
            Language::En => ',',
            Language::De => '.',
            Language::Fr => '\u{202f}',
        };
        let digits = number.to_string();
        let mut out = String::new();
        for (place, digit) in digits.chars().enumerate() {
            if place > 0 && (digits.len() - place).is_multiple_of(3) {
                out.push(gap);
            }
            out.push(digit);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_browser_s_first_language_that_there_is_counts() {
        for (header, expected) in [
            ("de-AT,de;q=0.9,en;q=0.8", Some(Language::De)),
            ("nl, fr-CH;q=0.7", Some(Language::Fr)),
            ("EN", Some(Language::En)),
            ("nl", None),
            ("", None),
        ] {
            assert_eq!(Language::accepted(header), expected, "{header}");
        }
    }

    #[test]
    fn numbers_are_written_as_each_language_does() {
        assert_eq!(Language::En.number(1_234_567), "1,234,567");
        assert_eq!(Language::De.number(1_000), "1.000");
        assert_eq!(Language::Fr.number(999), "999");
    }
}
