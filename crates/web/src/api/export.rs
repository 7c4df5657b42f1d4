//! Exports everything recorded about a person, with the proof: as JSON, or as a page to print.

use axum::http::StatusCode;
use axum::http::header::{ACCEPT, CONTENT_SECURITY_POLICY, HeaderValue, VARY};

use super::model::{Addressed, read};
use super::people::nobody;
use super::{Answered, Call, json, typed};
use crate::consent::Person;
use crate::consent::export::Export;
use crate::language::Language;
use crate::person;
use crate::problem::Problem;

pub(super) async fn by_address(call: Call) -> Answered {
    let language = language(&call)?;
    let form = Form::wanted(&call)?;
    let Addressed { address } = read(&call.body)?;
    let person = call.api.store.person(&address.0);
    export(&call, person, form, language).await
}

pub(super) async fn by_hash(call: Call) -> Answered {
    let language = language(&call)?;
    let form = Form::wanted(&call)?;
    export(&call, call.person()?, form, language).await
}

/// Returns the language of the page; English if none is asked for.
fn language(call: &Call) -> Result<Language, Problem> {
    let query = call.query(&["language"])?;
    let Some((_, code)) = query.first() else { return Ok(Language::En) };
    Language::of(code).ok_or_else(|| Problem::malformed("language: expected one of en, de, fr"))
}

async fn export(call: &Call, person: Person, form: Form, language: Language) -> Answered {
    let controller = call.controller()?.clone();
    let export = call.api.ask(move |store| Export::of_controller(store, person, &controller)).await?;
    let export = export.ok_or_else(nobody)?;
    let mut response = match form {
        Form::Json => json(StatusCode::OK, &export)?,
        Form::Page => {
            let mut page = typed(StatusCode::OK, "text/html; charset=utf-8", person::page(&export, language));
            page.headers_mut().insert(CONTENT_SECURITY_POLICY, super::page::SECURITY);
            page
        }
    };
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    Ok(response)
}

/// The format of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    Page,
}

impl Form {
    /// Returns the first acceptable format of an Accept field.
    fn wanted(call: &Call) -> Result<Form, Problem> {
        let Some(accept) = call.headers.get(ACCEPT) else { return Ok(Form::Json) };
        let accept = accept.to_str().map_err(|_| Problem::malformed("Accept: malformed value"))?;
        Form::of(accept).ok_or_else(|| {
            Problem::not_acceptable(
                "Available types: application/json, and text/html for a page to read and print",
            )
        })
    }

    fn of(accept: &str) -> Option<Form> {
        accept.split(',').find_map(|range| {
            match range.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
                "application/json" | "application/*" | "*/*" | "" => Some(Form::Json),
                "text/html" | "text/*" => Some(Form::Page),
                _ => None,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_form_that_there_is_is_given() {
        for (accept, form) in [
            ("", Some(Form::Json)),
            ("*/*", Some(Form::Json)),
            ("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", Some(Form::Page)),
            ("image/png, application/json;q=0.5", Some(Form::Json)),
            ("image/png", None),
        ] {
            assert_eq!(Form::of(accept), form, "{accept}");
        }
    }
}
