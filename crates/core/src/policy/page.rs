//! A controller's settings for its preference page.

use std::path::PathBuf;

/// A language that the preference page and the notices in mail are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Language {
    /// French.
    French,
    /// English.
    English,
    /// Italian.
    Italian,
    /// German.
    German,
    /// Spanish.
    Spanish,
    /// Dutch.
    Dutch,
}

impl Language {
    /// All languages.
    pub const ALL: [Language; 6] = [
        Language::French,
        Language::English,
        Language::Italian,
        Language::German,
        Language::Spanish,
        Language::Dutch,
    ];

    /// Returns its code (ISO 639-1).
    pub const fn code(self) -> &'static str {
        match self {
            Language::French => "fr",
            Language::English => "en",
            Language::Italian => "it",
            Language::German => "de",
            Language::Spanish => "es",
            Language::Dutch => "nl",
        }
    }

    /// Returns its native name.
    pub const fn own_name(self) -> &'static str {
        match self {
            Language::French => "Français",
            Language::English => "English",
            Language::Italian => "Italiano",
            Language::German => "Deutsch",
            Language::Spanish => "Español",
            Language::Dutch => "Nederlands",
        }
    }

    /// Returns the language of a code, or of a tag that begins with one, such as `fr-CA`.
    pub fn of(tag: &str) -> Option<Language> {
        let code = tag.trim().split(['-', '_']).next().unwrap_or_default();
        Language::ALL.into_iter().find(|language| language.code().eq_ignore_ascii_case(code))
    }

    /// Returns the reader's preferred language, by Accept-Language (RFC 9110, section 12.5.4).
    pub fn wanted(accept: &str) -> Option<Language> {
        let mut best: Option<(Language, f32)> = None;
        for range in accept.split(',').take(MAX_RANGES) {
            let (tag, weight) = range.split_once(';').unwrap_or((range, "q=1"));
            let weight =
                weight.trim().strip_prefix("q=").and_then(|weight| weight.trim().parse::<f32>().ok());
            let weight = weight.filter(|weight| *weight > 0.0 && *weight <= 1.0);
            if let (Some(language), Some(weight)) = (Language::of(tag), weight)
                && best.is_none_or(|(_, known)| weight > known)
            {
                best = Some((language, weight));
            }
        }
        best.map(|(language, _)| language)
    }
}

/// The maximum number of Accept-Language ranges to examine.
const MAX_RANGES: usize = 32;

/// A controller's settings for its preference page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The controller's name as readers know it; by default, the name in the configuration.
    pub title: Option<String>,
    /// The image file of its logo.
    pub logo_file: Option<PathBuf>,
    /// The URL of its privacy notice.
    pub privacy_url: Option<String>,
    /// Whom readers write to about their data: an address, or a few words.
    pub contact: Option<String>,
    /// For how many days opens are kept, as readers are told; `None` if they are not.
    pub retention_days: Option<u16>,
    /// Who else gets the data and may use it for purposes of their own, such as a sending service (N20, N27).
    pub recipients: Option<String>,
    /// The file with its own texts.
    pub texts_file: Option<PathBuf>,
    /// The sender of mail with new links; by default, none is sent.
    pub sender: Option<String>,
    /// The language for readers who prefer none of the available ones.
    pub language: Language,
}

impl Default for Page {
    fn default() -> Page {
        Page {
            title: None,
            logo_file: None,
            privacy_url: None,
            contact: None,
            recipients: None,
            retention_days: None,
            texts_file: None,
            sender: None,
            language: Language::English,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_that_is_wanted_most_is_chosen() {
        let check =
            |accept: &str, wanted: Option<Language>| assert_eq!(Language::wanted(accept), wanted, "{accept}");
        check("fr-CH, fr;q=0.9, en;q=0.8, de;q=0.7, *;q=0.5", Some(Language::French));
        check("en;q=0.3,NL-be;q=0.8", Some(Language::Dutch));
        check("pl, it;q=0.1", Some(Language::Italian));
        check("es;q=0", None);
        check("de;q=2, \u{1f600};q=x", None);
        check("", None);
        check(&"xx,".repeat(100_000), None);
    }
}
