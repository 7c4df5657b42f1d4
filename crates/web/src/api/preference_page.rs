//! A controller's preference page as its readers would see it.

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Answered, Call, json};
use crate::policy::Language;
use crate::problem::Problem;
use crate::public::preview::{State, preview};

/// The available views.
pub(super) const VIEWS: [&str; 21] = [
    "unknown",
    "granted",
    "refused",
    "old-link",
    "recorded",
    "stopped",
    "unusable",
    "new-link",
    "new-link-sent",
    "expired",
    "nothing-chosen",
    "form-used",
    "trouble",
    "no-page",
    "pixel",
    "accepted",
    "objected",
    "new-link-none",
    "letter",
    "notice",
    "refuse",
];
/// The available languages.
pub(super) const LANGUAGES: [&str; 6] = ["fr", "en", "it", "de", "es", "nl"];

/// A view of the page, without working controls: it leads nowhere.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Previewed {
    /// The page in HTML, including its styles and its logo.
    page: String,
    /// The language of the page.
    language: &'static str,
    /// The version of the notice, which records of choices name.
    notice_version: String,
    /// The SHA-256 of the notice's text, as records have it.
    text_hash: String,
    /// The notice's text.
    text: String,
}

pub(super) async fn show(call: Call) -> Answered {
    let query = call.query(&["language", "view"])?;
    let said = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let controller = call.controller()?.clone();
    let state = match said("view") {
        None => State::Unknown,
        Some(name) => {
            let found = State::ALL.into_iter().find(|(state, _)| *state == name);
            found.ok_or_else(|| Problem::malformed(format!("view: expected one of {}", VIEWS.join(", "))))?.1
        }
    };
    let wrong = || Problem::malformed(format!("language: expected one of {}", LANGUAGES.join(", ")));
    let of_code = |code: &str| Language::ALL.into_iter().find(|language| language.code() == code);
    let language = said("language").map(|code| of_code(code).ok_or_else(wrong)).transpose()?;
    let rulebook = &call.live.config.policy.rulebook;
    let chosen = rulebook.named(Some(controller.as_str()), None).map_err(|_| Problem::internal())?;
    let made = preview(rulebook, chosen, language, state, call.now).map_err(|error| {
        tracing::error!(%controller, %error, "the preference page cannot be shown");
        Problem::internal()
    })?;
    let previewed = Previewed {
        page: made.page,
        language: made.language.code(),
        notice_version: made.version,
        text_hash: made.hash,
        text: made.text,
    };
    json(StatusCode::OK, &previewed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_and_languages_are_all_there_are() {
        assert_eq!(State::ALL.map(|state| state.0), VIEWS);
        let mut codes = Language::ALL.map(Language::code);
        let mut languages = LANGUAGES;
        codes.sort_unstable();
        languages.sort_unstable();
        assert_eq!(codes, languages);
    }
}
