//! How a controller presents itself on its preference page: title, logo and texts. Read with everything else
//! that a configuration refers to.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::LazyLock;

use bytes::Bytes;

use super::texts::{Texts, place, shipped};
use crate::policy::{Controller, Language};

/// The maximum size of a logo, in bytes.
const MAX_LOGO: usize = 100 * 1024;
/// The maximum length of a controller's text, in characters.
const MAX_TEXT: usize = 2000;

/// A controller as readers see it.
pub struct Face {
    pub(super) name: String,
    pub(super) title: String,
    pub(super) privacy_url: Option<String>,
    /// Whom readers write to about their data.
    pub(super) contact: Option<String>,
    /// Who else gets the data and may use it for purposes of their own.
    pub(super) recipients: Option<String>,
    /// For how many days opens are kept.
    pub(super) retention_days: Option<u16>,
    pub(super) logo: Option<Logo>,
    /// The sender of mail with new links.
    pub(super) sender: Option<String>,
    pub(super) default: Language,
    /// The texts in the order of [`Language::ALL`], and whether the controller changed any of them.
    texts: Vec<(Texts, bool)>,
}

/// An image.
pub(super) struct Logo {
    pub(super) kind: &'static str,
    pub(super) bytes: Bytes,
}

impl fmt::Debug for Face {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Face({})", self.name)
    }
}

impl Face {
    /// Loads a controller as its configuration says.
    ///
    /// # Errors
    ///
    /// When the logo or the texts cannot be used.
    pub fn load(controller: &Controller) -> Result<Face, String> {
        let page = &controller.page;
        let named = |what: &str, path: &Path, error: String| {
            format!("controller {}: page.{what} {}: {error}", controller.name, path.display())
        };
        let logo = page.logo_file.as_deref();
        let logo =
            logo.map(|path| logo_of(path).map_err(|error| named("logo_file", path, error))).transpose()?;
        let mut texts: Vec<(Texts, bool)> = as_shipped();
        if let Some(path) = &page.texts_file {
            let read = std::fs::read_to_string(path).map_err(|error| error.to_string());
            let changed = read.and_then(|text| change(&mut texts, &text));
            changed.map_err(|error| named("texts_file", path, error))?;
        }
        Ok(Face {
            name: controller.name.as_str().to_owned(),
            title: controller.title().to_owned(),
            privacy_url: page.privacy_url.clone(),
            contact: page.contact.clone(),
            recipients: page.recipients.clone(),
            retention_days: page.retention_days,
            logo,
            sender: page.sender.clone(),
            default: page.language,
            texts,
        })
    }

    /// A neutral presentation, for links that cannot be attributed to a controller.
    pub(super) fn nobody() -> &'static Face {
        static NOBODY: LazyLock<Face> = LazyLock::new(|| Face {
            name: String::new(),
            title: String::new(),
            privacy_url: None,
            contact: None,
            recipients: None,
            retention_days: None,
            logo: None,
            sender: None,
            default: Language::English,
            texts: as_shipped(),
        });
        &NOBODY
    }

    /// Returns the texts of a language.
    pub(super) fn texts(&self, language: Language) -> &Texts {
        self.texts.get(place(language)).map_or_else(|| shipped(language), |(texts, _)| texts)
    }

    /// Returns whether the controller changed any of them.
    pub(super) fn is_own(&self, language: Language) -> bool {
        self.texts.get(place(language)).is_some_and(|(_, is_changed)| *is_changed)
    }
}

/// Returns the unchanged texts of every language.
fn as_shipped() -> Vec<(Texts, bool)> {
    Language::ALL.into_iter().map(|language| (shipped(language).clone(), false)).collect()
}

/// Replaces built-in texts by a controller's own.
fn change(texts: &mut [(Texts, bool)], file: &str) -> Result<(), String> {
    let tables: BTreeMap<String, BTreeMap<String, String>> =
        toml::from_str(file).map_err(|error| error.to_string())?;
    for (code, changes) in tables {
        let known = Language::ALL.into_iter().find(|language| language.code() == code);
        let Some((texts, is_own)) = known.and_then(|language| texts.get_mut(place(language))) else {
            return Err(format!("[{code}]: unknown language; use fr, en, it, de, es or nl"));
        };
        for (name, text) in changes {
            if text.trim().is_empty() || text.chars().count() > MAX_TEXT {
                return Err(format!("{code}.{name}: expected 1 to {MAX_TEXT} characters"));
            }
            if !texts.set(&name, text) {
                return Err(format!("{code}.{name}: unknown text; docs/preferences.md lists the names"));
            }
            *is_own = true;
        }
    }
    Ok(())
}

fn logo_of(path: &Path) -> Result<Logo, String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    if bytes.len() > MAX_LOGO {
        return Err(format!("{} bytes are too many: at most {MAX_LOGO} are allowed", bytes.len()));
    }
    let kind = kind_of(&bytes).ok_or("expected a PNG, JPEG, GIF or WebP image")?;
    Ok(Logo { kind, bytes: bytes.into() })
}

/// Detects an image type by its first bytes. No other type is served: an SVG could contain a script.
fn kind_of(bytes: &[u8]) -> Option<&'static str> {
    let is_webp = bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP");
    match bytes {
        bytes if bytes.starts_with(b"\x89PNG\r\n\x1a\n") => Some("image/png"),
        bytes if bytes.starts_with(b"\xff\xd8\xff") => Some("image/jpeg"),
        bytes if bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a") => Some("image/gif"),
        _ if is_webp => Some("image/webp"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(file: &str) -> Result<Vec<(Texts, bool)>, String> {
        let mut texts: Vec<(Texts, bool)> = as_shipped();
        change(&mut texts, file).map(|()| texts)
    }

    #[test]
    fn a_controller_changes_single_texts_and_hears_what_is_wrong() {
        let texts = check("[fr]\nwho = \"{controller} seul.\"\n").unwrap();
        assert_eq!(texts[0].0.who, "{controller} seul.");
        assert!(texts[0].1 && !texts[1].1 && texts[1].0 == *shipped(Language::English));
        for (file, word) in [
            ("[pl]\nwho = \"x\"", "[pl]"),
            ("[fr]\nwhom = \"x\"", "unknown text"),
            ("[fr]\nwho = \"\"", "expected 1 to"),
            ("[fr]\nwho = 5", "string"),
            ("who = \"x\"", "map"),
        ] {
            assert!(check(file).unwrap_err().contains(word), "{file}: {:?}", check(file).unwrap_err());
        }
    }

    #[test]
    fn only_pictures_without_scripts_are_logos() {
        assert_eq!(kind_of(b"\x89PNG\r\n\x1a\n..."), Some("image/png"));
        assert_eq!(kind_of(b"RIFF\0\0\0\0WEBPVP8 "), Some("image/webp"));
        for other in
            [&b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>"[..], b"<html>", b"", b"RIFF\0\0\0\0WAVE"]
        {
            assert_eq!(kind_of(other), None);
        }
    }
}
