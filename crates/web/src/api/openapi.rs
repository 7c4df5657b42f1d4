//! The description of the API (OpenAPI 3.1): paths from the table of routes, schemas from the types of
//! requests and responses.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::guard::KEY_LENGTH;
use super::routes::{Access, Extra, Input, Method, Output, ROUTES, Route};
use super::{Answered, typed};
use crate::policy::Purpose;
use crate::problem::ProblemDetails;

/// Returns the description, which is the same for everybody.
pub(super) static DESCRIPTION: LazyLock<Value> = LazyLock::new(made);

pub(super) async fn description() -> Answered {
    Ok(typed(StatusCode::OK, "application/json", DESCRIPTION.to_string()))
}

/// The referenced schemas, by name.
#[derive(Debug, Default)]
pub(super) struct Schemas(BTreeMap<String, Value>);

impl Schemas {
    /// Returns a reference to a type, and takes in its schema and those within it.
    pub(super) fn refer<T: ToSchema>(&mut self) -> Value {
        let name = T::name().into_owned();
        let mut inner = Vec::new();
        T::schemas(&mut inner);
        inner.push((name.clone(), T::schema()));
        for (name, schema) in inner {
            let schema = serde_json::to_value(schema).unwrap_or_default();
            self.0.entry(name).or_insert(schema);
        }
        json!({ "$ref": format!("#/components/schemas/{name}") })
    }
}

fn made() -> Value {
    let mut schemas = Schemas::default();
    schemas.refer::<super::import::ImportResult>();
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let item = paths.entry(route.path.to_owned()).or_insert_with(|| json!({}));
        if let Some(item) = item.as_object_mut() {
            item.insert(route.method.name().to_owned(), operation(route, &mut schemas));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "pixelward",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
            "description": "Consent to tracking in mail, the record of what was said about it, and what \
                            follows. Writes are acknowledged once they are durable. People are identified by \
                            address in bodies, and by keyed hash in paths; an address never appears in a \
                            path or a query. Errors are problem details (RFC 9457).",
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "schemas": schemas.0,
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer",
                    "description": "Created by `pixelward token new`." },
            },
        },
    })
}

fn operation(route: &Route, schemas: &mut Schemas) -> Value {
    let (needs, security) = match route.access {
        Access::Open => ("Needs no token.".to_owned(), json!([])),
        Access::AnyToken => ("Needs a token.".to_owned(), json!([{ "token": [] }])),
        Access::Scope(scope) => (format!("Needs the scope `{scope}`."), json!([{ "token": [] }])),
        Access::SignedOr(scope) => {
            (format!("Needs a signature, or the scope `{scope}`."), json!([{ "token": [] }, {}]))
        }
    };
    let about = [route.about, &needs].into_iter().filter(|text| !text.is_empty());
    let mut operation = json!({
        "operationId": route.name,
        "tags": [route.tag],
        "summary": route.summary,
        "description": about.collect::<Vec<_>>().join(" "),
        "security": security,
        "parameters": parameters(route),
        "responses": responses(route, schemas),
    });
    if let (Some(body), Some(operation)) = (body(route.input, schemas), operation.as_object_mut()) {
        operation.insert("requestBody".to_owned(), body);
    }
    operation
}

fn body(input: Input, schemas: &mut Schemas) -> Option<Value> {
    let content = match input {
        Input::Nothing => return None,
        Input::Json(schema) => json!({ "application/json": { "schema": schema(schemas) } }),
        // The line type goes among the schemas: here it would be taken for the type of all lines together.
        Input::Lines(schema) => {
            schema(schemas);
            json!({ "application/x-ndjson": { "schema": {} } })
        }
        Input::Foreign => json!({ "application/json": { "schema": {} } }),
    };
    Some(json!({ "required": true, "content": content }))
}

fn parameters(route: &Route) -> Vec<Value> {
    let parameter = |name: &str, place: &str, about: &str, schema: Value| {
        json!({
            "name": name, "in": place, "required": place == "path", "description": about, "schema": schema,
        })
    };
    let name = json!({ "type": "string", "pattern": "^[a-z0-9._-]{1,64}$" });
    let mut all = Vec::new();
    for (name, about, schema) in [
        ("controller", "The controller, as named in the configuration.", &name),
        (
            "person",
            "The keyed hash of the person's address.",
            &json!({ "type": "string", "pattern": "^[0-9a-f]{32}$" }),
        ),
        ("name", "The name of the webhook in the configuration.", &name),
    ] {
        if route.path.contains(&format!("{{{name}}}")) {
            all.push(parameter(name, "path", about, schema.clone()));
        }
    }
    // One value is described; several separated by commas are accepted too.
    let tags = json!({ "type": "string", "pattern": r#"^(\*|(W/)?"[!#-~]*")?$"# });
    for extra in route.extras {
        match extra {
            Extra::Number(name, least, most, about) => {
                let schema = json!({ "type": "integer", "minimum": least, "maximum": most });
                all.push(parameter(name, "query", about, schema));
            }
            Extra::Word(name, words, about) => {
                all.push(parameter(name, "query", about, json!({ "type": "string", "enum": words })));
            }
            Extra::Person(name, about) => {
                let schema = json!({ "type": "string", "pattern": "^[0-9a-f]{32}$" });
                all.push(parameter(name, "query", about, schema));
            }
            Extra::Day(name, about) => {
                all.push(parameter(name, "query", about, json!({ "type": "string", "format": "date" })));
            }
            Extra::Purposes => {
                let names: Vec<&str> = Purpose::ALL.iter().map(|purpose| purpose.name()).collect();
                let one = names.join("|");
                let schema = json!({ "type": "string", "pattern": format!("^({one})(,({one}))*$") });
                all.push(parameter(
                    "purposes",
                    "query",
                    "Purposes separated by commas; by default, all that need consent.",
                    schema,
                ));
            }
            Extra::Conditions => {
                all.push(parameter(
                    "If-Match",
                    "header",
                    "Proceed only if this is the current ETag.",
                    tags.clone(),
                ));
                all.push(parameter(
                    "If-None-Match",
                    "header",
                    "Proceed only if this is not the current ETag.",
                    tags.clone(),
                ));
            }
            Extra::Unchanged => {
                all.push(parameter(
                    "If-None-Match",
                    "header",
                    "Proceed only if this is not the current ETag.",
                    tags.clone(),
                ));
            }
        }
    }
    if route.is_write() {
        let pattern = format!("^[!-~]{{{},{}}}$", KEY_LENGTH.start(), KEY_LENGTH.end());
        let about = "A repeated request with the same key is not done again; it gets the first response, for \
                     24 hours.";
        all.push(parameter(
            "Idempotency-Key",
            "header",
            about,
            json!({ "type": "string", "pattern": pattern }),
        ));
    }
    all
}

fn responses(route: &Route, schemas: &mut Schemas) -> Map<String, Value> {
    let mut all = Map::new();
    for (status, about, output) in route.answers {
        all.insert(status.to_string(), answer(*status, about, *output, schemas));
    }
    let problem = Output::Json(|schemas| schemas.refer::<ProblemDetails>());
    for (status, about) in common(route) {
        all.entry(status.to_string()).or_insert_with(|| answer(status, about, problem, schemas));
    }
    all
}

fn answer(status: u16, about: &str, output: Output, schemas: &mut Schemas) -> Value {
    let content = match output {
        Output::Nothing => None,
        Output::Json(schema) if status >= 400 => {
            Some(json!({ "application/problem+json": { "schema": schema(schemas) } }))
        }
        Output::Json(schema) => Some(json!({ "application/json": { "schema": schema(schemas) } })),
        Output::Typed(kind) => Some(json!({ kind: {} })),
        Output::JsonOrPage(schema) => {
            Some(json!({ "application/json": { "schema": schema(schemas) }, "text/html": {} }))
        }
    };
    let mut answer = json!({ "description": about });
    if let Some(answer) = answer.as_object_mut() {
        content.map(|content| answer.insert("content".to_owned(), content));
        if about.contains("ETag") && status < 300 {
            let tag = json!(
                { "ETag": { "description": "Identifies the current consent.", "required": true,
                    "schema": { "type": "string" } } }
            );
            answer.insert("headers".to_owned(), tag);
        }
    }
    answer
}

/// Adds the responses common to all routes of a kind.
fn common(route: &Route) -> Vec<(u16, &'static str)> {
    let mut all = Vec::new();
    let has_query = !route.extras.is_empty();
    let takes_body = !matches!(route.input, Input::Nothing);
    if takes_body || has_query || route.is_write() || route.path.contains("{person}") {
        all.push((400, "Malformed request."));
    }
    if route.access != Access::Open {
        all.extend([
            (401, "Missing or invalid token."),
            (403, "Insufficient scope."),
            (429, "Too many requests with this token; Retry-After says how long to wait."),
            (503, "Not available now: the store accepts no writes, or the token file cannot be used."),
        ]);
    } else if route.path == "/readyz" {
        all.push((503, "Consent cannot be looked up, or audit records are being lost."));
    }
    if route.path.contains("{controller}") {
        all.push((404, "Unknown controller."));
    }
    if takes_body {
        all.push((415, "Unsupported content type."));
    }
    if matches!(route.input, Input::Json(_) | Input::Foreign) {
        all.extend([(408, "The body did not arrive in time."), (413, "The body is too large.")]);
    }
    if route.answers.iter().any(|(_, _, output)| matches!(output, Output::JsonOrPage(_))) {
        all.push((406, "Not acceptable."));
    }
    let records =
        matches!(route.method, Method::Put | Method::Delete) || route.access != Access::Open && takes_body;
    if route.is_write() {
        all.push((409, "A request with this Idempotency-Key is still in progress."));
        all.push((422, "The Idempotency-Key was used for a different request."));
    }
    if records {
        all.push((507, "The disk of the consent store is full; nothing was recorded."));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_leads_somewhere_and_every_route_is_described() {
        let description = &*DESCRIPTION;
        let text = description.to_string();
        let schemas = description["components"]["schemas"].as_object().unwrap();
        let mut referred = 0;
        for piece in text.split("#/components/schemas/").skip(1) {
            let name = piece.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name}");
            referred += 1;
        }
        assert!(referred > 50, "{referred}");
        for route in ROUTES {
            let operation = &description["paths"][route.path][route.method.name()];
            assert_eq!(operation["operationId"], route.name);
            let named = operation["parameters"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|parameter| parameter["in"] == "path");
            assert_eq!(named.count(), route.path.matches('{').count());
        }
        let mut names: Vec<&str> = ROUTES.iter().map(|route| route.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ROUTES.len());
    }

    #[test]
    fn bodies_take_nothing_that_they_do_not_know() {
        for name in ["Addressed", "Asking", "Statement", "AddressedStatement", "Question"] {
            let schema = &DESCRIPTION["components"]["schemas"][name];
            assert_eq!(schema["additionalProperties"], false, "{name}");
        }
        let statement = &DESCRIPTION["components"]["schemas"]["AddressedStatement"];
        assert_eq!(statement["required"], json!(["address", "state"]));
    }
}
