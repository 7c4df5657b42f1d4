//! The texts that are put into mail, by language.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::marker::{self, Word};

const SHIPPED: &str = include_str!("texts.toml");
/// The language where nothing else is known of a message, and none was configured.
pub const DEFAULT: &str = "en";
/// The longest text, in bytes. Mail clients cut off long messages.
const MAX_LENGTH: usize = 4000;

/// What is put into a message of one language.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fragment {
    /// For markup. ASCII once it was read: other characters are references.
    pub html: String,
    /// For plain text.
    pub text: String,
}

/// Fragments by language, and the one for messages of any other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragments {
    by_language: BTreeMap<String, Fragment>,
    default: String,
}

impl Fragments {
    /// Those that come with the program, in which a controller of this name speaks of itself.
    pub fn shipped(default: &str, sender: &str) -> Fragments {
        let by_language = read(SHIPPED, sender).expect("a test reads them");
        Fragments { by_language, default: default.to_owned() }
    }

    /// Those that come with the program, with those of a file in their place.
    ///
    /// # Errors
    ///
    /// What is wrong with the file.
    pub fn with(source: &str, default: &str, sender: &str) -> Result<Fragments, String> {
        let mut all = Fragments::shipped(default, sender);
        all.by_language.extend(read(source, sender)?);
        Ok(all)
    }

    /// The languages there are.
    pub fn languages(&self) -> impl Iterator<Item = &str> {
        self.by_language.keys().map(String::as_str)
    }

    /// The fragment of a language, else that of the default one, with the language that it is in.
    pub fn of(&self, language: Option<&str>) -> (&str, &Fragment) {
        let wanted = [language, Some(self.default.as_str()), Some(DEFAULT)];
        let mut found =
            wanted.into_iter().flatten().filter_map(|language| self.by_language.get_key_value(language));
        let (language, fragment) = found.next().expect("the shipped ones have the default");
        (language, fragment)
    }
}

fn read(source: &str, sender: &str) -> Result<BTreeMap<String, Fragment>, String> {
    let mut read: BTreeMap<String, Fragment> =
        toml::from_str(source).map_err(|error| error.to_string().trim_end().to_owned())?;
    for (language, fragment) in &mut read {
        let is_code = language.len() == 2 && language.bytes().all(|byte| byte.is_ascii_lowercase());
        if !is_code {
            return Err(format!("invalid language {language:?}: use two letters such as \"fr\""));
        }
        for (name, text) in [("html", &fragment.html), ("text", &fragment.text)] {
            let links =
                marker::all(text.as_bytes()).iter().filter(|mark| mark.word == Word::Preferences).count();
            if links == 0 || text.len() > MAX_LENGTH {
                return Err(format!(
                    "{language}.{name} must have {{{{pixelward.preferences}}}} where the link goes, and at \
                     most {MAX_LENGTH} bytes"
                ));
            }
        }
        fragment.html = referenced(&marker::filled(&fragment.html, Word::Sender, &escaped(sender)));
        fragment.text = marker::filled(&fragment.text, Word::Sender, sender);
    }
    Ok(read)
}

/// A name as markup.
fn escaped(name: &str) -> String {
    name.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Markup in ASCII: other characters as references.
fn referenced(text: &str) -> String {
    let one = |character: char| {
        if character.is_ascii() { character.to_string() } else { format!("&#{};", u32::from(character)) }
    };
    text.chars().map(one).collect()
}

/// A text in ASCII that means the same, as far as that goes.
pub(super) fn in_ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            character if character.is_ascii() => out.push(character),
            'à' | 'á' | 'â' | 'ã' | 'å' => out.push('a'),
            'À' | 'Á' | 'Â' | 'Ã' | 'Å' => out.push('A'),
            'ä' | 'æ' => out.push_str("ae"),
            'Ä' | 'Æ' => out.push_str("Ae"),
            'ç' => out.push('c'),
            'Ç' => out.push('C'),
            'è' | 'é' | 'ê' | 'ë' => out.push('e'),
            'È' | 'É' | 'Ê' | 'Ë' => out.push('E'),
            'ì' | 'í' | 'î' | 'ï' => out.push('i'),
            'ñ' => out.push('n'),
            'ò' | 'ó' | 'ô' | 'õ' | 'ø' => out.push('o'),
            'ö' | 'œ' => out.push_str("oe"),
            'Ö' | 'Œ' => out.push_str("Oe"),
            'ù' | 'ú' | 'û' => out.push('u'),
            'ü' => out.push_str("ue"),
            'Ü' => out.push_str("Ue"),
            'ß' => out.push_str("ss"),
            '\u{a0}' | '\u{202f}' => out.push(' '),
            '‘' | '’' => out.push('\''),
            '“' | '”' | '«' | '»' => out.push('"'),
            '\u{2011}' | '–' | '—' => out.push('-'),
            '…' => out.push_str("..."),
            '¿' | '¡' => {}
            _ => out.push('?'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_come_along_can_be_read_in_every_language() {
        let all = Fragments::shipped("en", "A & <b>o\u{e9}");
        assert_eq!(all.languages().collect::<Vec<_>>(), ["de", "en", "es", "fr", "it", "nl"]);
        for language in ["de", "en", "es", "fr", "it", "nl"] {
            let (chosen, fragment) = all.of(Some(language));
            assert_eq!(chosen, language);
            assert!(fragment.html.is_ascii());
            // The sender is named, once.
            assert_eq!(fragment.html.matches(">A &amp; &lt;b&gt;o&#233; ").count(), 1, "{language}");
            assert!(fragment.text.starts_with("A & <b>o\u{e9} "), "{language}");
            assert!(
                !format!("{}{}", fragment.html, fragment.text).contains("pixelward.sender"),
                "{language}"
            );
            assert!(!in_ascii(&fragment.text).contains('?') && in_ascii(&fragment.text).is_ascii());
        }
        assert_eq!(all.of(Some("pt")).0, "en");
        assert_eq!(Fragments::shipped("fr", "").of(None).0, "fr");
        assert_eq!(Fragments::shipped("pt", "").of(None).0, "en");
    }

    #[test]
    fn a_controllers_own_take_the_place_of_ours() {
        let texts = "[fr]\nhtml = \"<p>\u{e9} {{pixelward.preferences}}</p>\"\ntext \
                   = \"{{pixelward.sender}}: {{pixelward.preferences}}\"\n";
        let all = Fragments::with(texts, "en", "Shop").unwrap();
        assert_eq!(all.of(Some("fr")).1.html, "<p>&#233; {{pixelward.preferences}}</p>");
        assert_eq!(all.of(Some("fr")).1.text, "Shop: {{pixelward.preferences}}");
        assert_eq!(all.of(None).0, "en");
        for (wrong, words) in [
            ("[fr]\nhtml = \"a\"\ntext = \"{{pixelward.preferences}}\"\n", "fr.html must have"),
            (
                "[french]\nhtml = \"{{pixelward.preferences}}\"\ntext = \"{{pixelward.preferences}}\"\n",
                "invalid language",
            ),
            ("[fr]\nhtml = \"{{pixelward.preferences}}\"\n", "missing field `text`"),
            ("fr", "expected"),
        ] {
            let error = Fragments::with(wrong, "en", "Shop").unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
