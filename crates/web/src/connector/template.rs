//! Texts with places to fill in: `{{id}}`, `{{id.lower}}`, `{{choice}}`, `{{time}}`, `{{credential}}` and
//! `{{var.NAME}}`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// What fills the places.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filling<'a> {
    /// The service's name for a person.
    pub(super) id: &'a str,
    /// The service's word for the choice.
    pub(super) choice: &'a Value,
    /// When the choice was made, as in RFC 3339.
    pub(super) time: &'a str,
    /// The secret, where it may stand.
    pub(super) credential: &'a str,
}

/// A place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Id,
    LowerId,
    Choice,
    Time,
    Credential,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Place(Place),
}

/// A text with places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(Vec<Piece>);

/// How the value of a place is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// As it is.
    Plain,
    /// Percent-encoded, for URLs and forms.
    Encoded,
}

/// The variables of a description, by name.
pub(super) type Variables = BTreeMap<String, String>;

impl Template {
    /// Reads a text; variables are filled in at once, in this style.
    ///
    /// # Errors
    ///
    /// When a place is unknown or not closed.
    pub(super) fn read(text: &str, variables: &Variables, style: Style) -> Result<Template, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once("{{") {
            let (name, after) =
                behind.split_once("}}").ok_or_else(|| format!("{text:?}: {{{{ without }}}}"))?;
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(match name.trim() {
                "id" => Piece::Place(Place::Id),
                "id.lower" => Piece::Place(Place::LowerId),
                "choice" => Piece::Place(Place::Choice),
                "time" => Piece::Place(Place::Time),
                "credential" => Piece::Place(Place::Credential),
                other => {
                    let value = other.strip_prefix("var.").and_then(|name| variables.get(name));
                    let value = value.ok_or_else(|| format!("{text:?}: nothing is named {other:?}"))?;
                    Piece::Text(written(value, style))
                }
            });
            rest = after;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        pieces.retain(|piece| *piece != Piece::Text(String::new()));
        Ok(Template(pieces))
    }

    /// Fills the places.
    pub(super) fn filled(&self, filling: &Filling<'_>, style: Style) -> String {
        let pieces = self.0.iter().map(|piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Place(Place::Id) => written(filling.id, style),
            Piece::Place(Place::LowerId) => written(&filling.id.to_lowercase(), style),
            Piece::Place(Place::Choice) => written(&as_text(filling.choice), style),
            Piece::Place(Place::Time) => written(filling.time, style),
            Piece::Place(Place::Credential) => written(filling.credential, style),
        });
        pieces.collect()
    }

    /// Fills the places of a JSON string: one that is nothing but the choice keeps its type.
    fn value(&self, filling: &Filling<'_>) -> Value {
        match self.0.as_slice() {
            [Piece::Place(Place::Choice)] => filling.choice.clone(),
            _ => Value::String(self.filled(filling, Style::Plain)),
        }
    }

    /// Returns whether a person's name stands in it.
    pub(super) fn names_a_person(&self) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Place(Place::Id | Place::LowerId)))
    }
}

fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn written(text: &str, style: Style) -> String {
    match style {
        Style::Plain => text.to_owned(),
        Style::Encoded => encoded(text),
    }
}

/// Encodes everything but the unreserved characters of RFC 3986, section 2.3.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// A JSON body with places, in its strings and names.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Body {
    Fixed(Value),
    Text(Template),
    List(Vec<Body>),
    Map(Vec<(Template, Body)>),
}

impl Body {
    /// Reads a JSON text.
    ///
    /// # Errors
    ///
    /// When it is not JSON, or a place in it is unknown.
    pub(super) fn read(text: &str, variables: &Variables) -> Result<Body, String> {
        let value = serde_json::from_str(text).map_err(|error| format!("the body is not JSON: {error}"))?;
        Body::of(value, variables)
    }

    fn of(value: Value, variables: &Variables) -> Result<Body, String> {
        Ok(match value {
            Value::String(text) => Body::Text(Template::read(&text, variables, Style::Plain)?),
            Value::Array(items) => {
                let items = items.into_iter().map(|item| Body::of(item, variables));
                Body::List(items.collect::<Result<_, _>>()?)
            }
            Value::Object(fields) => {
                let fields = fields.into_iter().map(|(name, value)| {
                    let name = Template::read(&name, variables, Style::Plain)?;
                    Ok((name, Body::of(value, variables)?))
                });
                Body::Map(fields.collect::<Result<_, String>>()?)
            }
            other => Body::Fixed(other),
        })
    }

    /// Fills the places.
    pub(super) fn filled(&self, filling: &Filling<'_>) -> Value {
        match self {
            Body::Fixed(value) => value.clone(),
            Body::Text(template) => template.value(filling),
            Body::List(items) => items.iter().map(|item| item.filled(filling)).collect(),
            Body::Map(fields) => {
                let fields = fields
                    .iter()
                    .map(|(name, value)| (name.filled(filling, Style::Plain), value.filled(filling)));
                Value::Object(fields.collect::<Map<_, _>>())
            }
        }
    }

    /// Returns whether a person's name stands in it.
    pub(super) fn names_a_person(&self) -> bool {
        match self {
            Body::Fixed(_) => false,
            Body::Text(template) => template.names_a_person(),
            Body::List(items) => items.iter().any(Body::names_a_person),
            Body::Map(fields) => {
                fields.iter().any(|(name, value)| name.names_a_person() || value.names_a_person())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn variables() -> Variables {
        [("list".to_owned(), "a/b".to_owned()), ("tag".to_owned(), "OPENS".to_owned())].into()
    }

    fn filling<'a>(id: &'a str, choice: &'a Value) -> Filling<'a> {
        Filling { id, choice, time: "2026-11-29T10:00:00Z", credential: "secret" }
    }

    #[test]
    fn a_name_cannot_leave_its_place_in_a_url() {
        let template =
            Template::read("/lists/{{var.list}}/{{id.lower}}?at={{ time }}", &variables(), Style::Encoded);
        let choice = json!(true);
        let filled = template.unwrap().filled(&filling("../Ann?x=1&y#\r\n é", &choice), Style::Encoded);
        assert_eq!(filled, "/lists/a%2Fb/..%2Fann%3Fx%3D1%26y%23%0D%0A%20%C3%A9?at=2026-11-29T10%3A00%3A00Z");
        for wrong in ["{{id", "{{ids}}", "{{var.other}}", "{{}}"] {
            assert!(Template::read(wrong, &variables(), Style::Plain).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_choice_keeps_its_type_and_names_of_fields_are_filled_in() {
        let text = r#"[{"{{var.tag}}": "{{choice}}", "at": "on {{time}}", "n": 1, "id": "{{id}}"}]"#;
        let body = Body::read(text, &variables()).unwrap();
        assert!(body.names_a_person());
        let choice = json!(false);
        let filled = body.filled(&filling("a\"b", &choice));
        let expected = json!([{"OPENS": false, "at": "on 2026-11-29T10:00:00Z", "n": 1, "id": "a\"b"}]);
        assert_eq!(filled, expected);
        assert!(Body::read("{", &variables()).unwrap_err().contains("not JSON"));
    }
}
