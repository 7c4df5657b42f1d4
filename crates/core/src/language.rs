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

    /// A number with the noun that fits it, as CLDR has it: French takes the singular for 0 as well.
    pub fn counted(self, number: u64, one: &Text, many: &Text) -> String {
        let is_one = match self {
            Language::Fr => number < 2,
            Language::En | Language::De => number == 1,
        };
        format!("{} {}", self.number(number), self.say(if is_one { one } else { many }))
    }

    /// An RFC 3339 time in UTC, to the second.
    pub fn moment(self, time: &str) -> String {
        let whole = time.split('.').next().unwrap_or(time).trim_end_matches('Z');
        let Some((day, clock)) = whole.split_once('T') else { return self.day(whole) };
        format!("{} {clock} UTC", self.day(day))
    }

    /// A day such as 2026-11-29.
    fn day(self, day: &str) -> String {
        let mut parts = day.splitn(3, '-');
        match (self, parts.next(), parts.next(), parts.next()) {
            (Language::De, Some(year), Some(month), Some(day)) => format!("{day}.{month}.{year}"),
            (Language::Fr, Some(year), Some(month), Some(day)) => format!("{day}/{month}/{year}"),
            _ => day.to_owned(),
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
    fn nouns_and_moments_are_written_as_each_language_does() {
        let counted = |number| {
            let (one, many) = (Text("copy", "Kopie", "copie"), Text("copies", "Kopien", "copies"));
            [Language::En, Language::De, Language::Fr].map(|language| language.counted(number, &one, &many))
        };
        assert_eq!(counted(0), ["0 copies", "0 Kopien", "0 copie"]);
        assert_eq!(counted(1), ["1 copy", "1 Kopie", "1 copie"]);
        assert_eq!(counted(2), ["2 copies", "2 Kopien", "2 copies"]);
        let time = "2026-11-29T03:04:05.678Z";
        assert_eq!(Language::En.moment(time), "2026-11-29 03:04:05 UTC");
        assert_eq!(Language::De.moment(time), "29.11.2026 03:04:05 UTC");
        assert_eq!(Language::Fr.moment(time), "29/11/2026 03:04:05 UTC");
        assert_eq!(Language::Fr.moment("2026-11-29"), "29/11/2026");
        assert_eq!(Language::De.moment("soon"), "soon");
    }

    #[test]
    fn numbers_are_written_as_each_language_does() {
        assert_eq!(Language::En.number(1_234_567), "1,234,567");
        assert_eq!(Language::De.number(1_000), "1.000");
        assert_eq!(Language::Fr.number(999), "999");
    }
}
