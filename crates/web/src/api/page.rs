//! The description of the API as a page. Rendered on the server from the same document; it loads nothing and
//! has no script.

use axum::http::StatusCode;
use axum::http::header::{CONTENT_SECURITY_POLICY, HeaderValue};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;

use super::openapi::DESCRIPTION;
use super::{Answered, typed};

/// The content security policy of such a page: nothing but its own styles.
pub(super) const SECURITY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors \
     'none'",
);

const STYLE: &str = ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;\
                     margin:2rem auto;padding:0 1rem}h1{font-size:1.6rem}h2{font-size:1.25rem;\
                     margin-top:2.2rem}h3{font-size:1rem;margin:1rem 0 .3rem}details{border:1px solid \
                     #8886;border-radius:.4rem;margin:.5rem 0;padding:.4rem \
                     .8rem}summary{cursor:pointer;overflow-wrap:anywhere}summary \
                     code{font-weight:600}table{border-collapse:collapse;width:100%}th,td{text-align:left;\
                     vertical-align:top;padding:.25rem .7rem .25rem 0;border-bottom:1px solid \
                     #8884}th{font-weight:600}td:first-child,code{overflow-wrap:anywhere}code{font-size:.9em}\
                     nav a{margin-right:1rem}";

pub(super) async fn page() -> Answered {
    let mut page = typed(StatusCode::OK, "text/html; charset=utf-8", rendered(&DESCRIPTION));
    page.headers_mut().insert(CONTENT_SECURITY_POLICY, SECURITY);
    Ok(page)
}

fn rendered(document: &Value) -> String {
    let operations = operations(document);
    let mut tags: Vec<&str> = Vec::new();
    for (_, _, operation) in &operations {
        let tag = words(at(operation, "/tags/0"));
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "pixelward: API" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    h1 { "The API of pixelward " (words(at(document, "/info/version"))) }
                    p { (words(at(document, "/info/description"))) }
                    p { "The same for programs: " a href="/v1/openapi.json" { "/v1/openapi.json" } }
                    nav aria-label="Sections" {
                        @for tag in &tags { a href=(format!("#{}", anchor(tag))) { (tag) } }
                        a href="#schemas" { "Schemas" }
                    }
                    @for tag in &tags {
                        h2 id=(anchor(tag)) { (tag) }
                        @for (path, method, operation) in
                            operations.iter().filter(|(_, _, operation)| words(at(
                                operation,
                                "/tags/0",
                            )) == *tag) {
                            (described(path, method, operation))
                        }
                    }
                    h2 id="schemas" { "Schemas" }
                    @for (name, schema) in
                        at(document, "/components/schemas").as_object().into_iter().flatten() {
                        details id=(format!("schema-{name}")) {
                            summary { code { (name) } " " (words(at(schema, "/description"))) }
                            (fields(schema))
                        }
                    }
                }
            }
        }
    };
    page.into_string()
}

/// Iterates over path, method and operation, in the order of the paths.
fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
    let paths = at(document, "/paths").as_object().into_iter().flatten();
    paths
        .flat_map(|(path, item)| {
            let methods = item.as_object().into_iter().flatten();
            methods.map(|(method, operation)| (path.as_str(), method.as_str(), operation))
        })
        .collect()
}

fn described(path: &str, method: &str, operation: &Value) -> Markup {
    let parameters = at(operation, "/parameters").as_array().map_or(&[][..], Vec::as_slice);
    let body = at(operation, "/requestBody/content");
    html! {
        details id=(words(at(operation, "/operationId"))) {
            summary { code { (method.to_uppercase()) " " (path) } " — " (words(at(operation, "/summary"))) }
            p { (words(at(operation, "/description"))) }
            @if !parameters.is_empty() {
                h3 { "Parameters" }
                table {
                    thead {
                        tr {
                            th scope="col" { "Name" }
                            th scope="col" { "In" }
                            th scope="col" { "Form" }
                            th scope="col" { "Meaning" }
                        }
                    }
                    tbody {
                        @for parameter in parameters {
                            tr {
                                th scope="row" { code { (words(at(parameter, "/name"))) } }
                                td { (words(at(parameter, "/in"))) }
                                td { (form(at(parameter, "/schema"))) }
                                td { (words(at(parameter, "/description"))) }
                            }
                        }
                    }
                }
            }
            @for (kind, content) in body.as_object().into_iter().flatten() {
                h3 { "Body" }
                p { code { (kind) } " " (form(at(content, "/schema"))) }
            }
            h3 { "Answers" }
            table {
                thead {
                    tr { th scope="col" { "Status" } th scope="col" { "Meaning" } th scope="col" { "Body" } }
                }
                tbody {
                    @for (status, answer) in at(operation, "/responses").as_object().into_iter().flatten() {
                        tr {
                            th scope="row" { (status) }
                            td { (words(at(answer, "/description"))) }
                            td {
                                @for (kind, content) in
                                    at(answer, "/content").as_object().into_iter().flatten() {
                                    code { (kind) } " " (form(at(content, "/schema"))) " "
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Renders the fields of an object.
fn fields(schema: &Value) -> Markup {
    let required = at(schema, "/required").as_array().map_or(&[][..], Vec::as_slice);
    html! {
        table {
            thead { tr { th scope="col" { "Field" } th scope="col" { "Form" } th scope="col" { "Meaning" } } }
            tbody {
                @for (name, property) in at(schema, "/properties").as_object().into_iter().flatten() {
                    tr {
                        th scope="row" {
                            code { (name) }
                            @if required.iter().any(|required| required == name) { " (always)" }
                        }
                        td { (form(property)) }
                        td { (words(at(property, "/description"))) }
                    }
                }
            }
        }
    }
}

/// Describes the type of a value.
fn form(schema: &Value) -> Markup {
    if let Some(reference) = at(schema, "/$ref").as_str() {
        let name = reference.rsplit('/').next().unwrap_or_default();
        return html! { a href=(format!("#schema-{name}")) { (name) } };
    }
    for choice in ["oneOf", "anyOf"] {
        if let Some(choices) = schema.get(choice).and_then(Value::as_array) {
            return html! {
                @for (place, choice) in choices.iter().enumerate() { @if place > 0 { " or " } (form(choice)) }
            };
        }
    }
    if let Some(values) = at(schema, "/enum").as_array() {
        let values: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
        return html! { (values.join(", ")) };
    }
    let kinds: Vec<&str> = match at(schema, "/type") {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        kind => kind.as_str().into_iter().collect(),
    };
    html! {
        (kinds.join(" or "))
        @if at(schema, "/items").is_object() { " of " (form(at(schema, "/items"))) }
        @if let Some(format) = at(schema, "/format").as_str() { ", " (format) }
        @if let Some(pattern) = at(schema, "/pattern").as_str() { " " code { (pattern) } }
    }
}

/// Returns the value at a JSON pointer, or null.
fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

fn words(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn anchor(tag: &str) -> String {
    tag.to_lowercase().replace(' ', "-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ROUTES;

    #[test]
    fn the_page_has_every_route_and_loads_nothing() {
        let page = rendered(&DESCRIPTION);
        for route in ROUTES {
            assert!(page.contains(&format!("id=\"{}\"", route.name)), "{}", route.name);
        }
        for loading in ["<script", "<link", "<img", "src=", "@import", "url("] {
            assert!(!page.contains(loading), "{loading}");
        }
        for link in page.split("href=\"#").skip(1) {
            let target = link.split('"').next().unwrap();
            assert!(page.contains(&format!("id=\"{target}\"")), "{target}");
        }
    }
}
