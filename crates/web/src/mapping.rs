//! Reads what a consent management vendor sends as rows of an import. A file maps fields to columns.
//!
//! Promised: consent to mail never becomes consent to tracking (N15), as far as names can tell: a mapping
//! that derives a grant from anything named after subscriptions or marketing is refused entirely.

use std::collections::BTreeMap;
use std::path::Path;

use aws_lc_rs::{constant_time, hmac};
use serde::Deserialize;
use serde_json::Value;

use crate::consent::Timestamp;
use crate::consent::import::{Row, is_about_mail, json_row};
use crate::message::transfer::encode_base64;

/// The maximum number of events in one request.
const MAX_EVENTS: usize = 1000;
/// The minimum length of a secret, in bytes.
const MIN_SECRET: usize = 16;

/// A mapping file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// The events: a JSON pointer to one event or to a list; by default, the whole body.
    #[serde(default)]
    events: String,
    signature: Option<SignatureFile>,
    columns: BTreeMap<String, Column>,
    /// Filters: events count only if each pointer leads to one of its values.
    #[serde(default)]
    only: BTreeMap<String, Vec<String>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignatureFile {
    header: String,
    #[serde(default)]
    encoding: Encoding,
    #[serde(default)]
    prefix: String,
    secret_file: std::path::PathBuf,
}

/// The encoding of a signature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Encoding {
    #[default]
    Hex,
    Base64,
}

/// The source of a column. A pointer starts at the event, or at the whole body if it begins with `^`.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Column {
    /// The start of a JSON pointer.
    Pointer(String),
    Rule(Rule),
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    /// A JSON pointer.
    pointer: Option<String>,
    /// A constant value.
    value: Option<String>,
    /// The meaning of each value. A value that is not listed is an error; within a list it is skipped.
    values: Option<BTreeMap<String, String>>,
    /// The value if there is none.
    default: Option<String>,
    /// A prefix to add.
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    format: Format,
}

/// The format of a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Format {
    /// RFC 3339, or not a time.
    #[default]
    Text,
    /// Seconds since 1970.
    Unix,
    /// Milliseconds since 1970.
    UnixMs,
    /// `2026-07-14 08:00:00`, in UTC.
    Blank,
}

/// A mapping in use.
#[derive(Debug)]
pub struct Mapping {
    file: File,
    signature: Option<Signature>,
}

#[derive(Debug)]
struct Signature {
    header: String,
    encoding: Encoding,
    prefix: String,
    key: hmac::Key,
}

/// A row, `None` if the event says nothing about tracking, or what is wrong with it.
pub type Event = Result<Option<Row>, String>;

impl Mapping {
    /// Reads a mapping file.
    ///
    /// # Errors
    ///
    /// When the file or its secret cannot be read, when it names an unknown column, or when it would turn
    /// consent to mail into consent to tracking (N15).
    pub fn load(path: &Path) -> Result<Mapping, String> {
        let named = |error: String| format!("{}: {error}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| named(error.to_string()))?;
        let mut mapping = Mapping::read(&text).map_err(named)?;
        if let Some(signature) = mapping.file.signature.clone() {
            let folder = path.parent().unwrap_or(Path::new(""));
            let secret = secret(&folder.join(&signature.secret_file))?;
            mapping.signature = Some(Signature {
                header: signature.header.to_ascii_lowercase(),
                encoding: signature.encoding,
                prefix: signature.prefix,
                key: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            });
        }
        Ok(mapping)
    }

    fn read(text: &str) -> Result<Mapping, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        for wanted in ["address", "state", "event_time"] {
            if !file.columns.contains_key(wanted) {
                return Err(format!("[columns] has no {wanted}"));
            }
        }
        for (name, column) in &file.columns {
            if name == "controller" || !crate::consent::import::COLUMNS.contains(&name.as_str()) {
                return Err(format!("[columns] {name}: unknown column for a webhook"));
            }
            column.check(name)?;
        }
        Ok(Mapping { file, signature: None })
    }

    /// Returns whether requests are authenticated by a signature.
    pub fn is_signed(&self) -> bool {
        self.signature.is_some()
    }

    /// Returns the header field that contains the signature.
    pub fn signature_header(&self) -> Option<&str> {
        self.signature.as_ref().map(|signature| signature.header.as_str())
    }

    /// Verifies the signature of a body.
    pub fn is_right(&self, shown: &str, body: &[u8]) -> bool {
        let Some(signature) = &self.signature else { return false };
        let tag = hmac::sign(&signature.key, body);
        let written = match signature.encoding {
            Encoding::Hex => tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect(),
            Encoding::Base64 => encode_base64(tag.as_ref()),
        };
        let Some(shown) = shown.trim().strip_prefix(signature.prefix.as_str()) else { return false };
        let shown = match signature.encoding {
            Encoding::Hex => shown.to_ascii_lowercase(),
            Encoding::Base64 => shown.to_owned(),
        };
        constant_time::verify_slices_are_equal(written.as_bytes(), shown.as_bytes()).is_ok()
    }

    /// Returns the events of a body.
    ///
    /// # Errors
    ///
    /// When there are none at the expected place, or too many.
    pub fn events(&self, body: &Value) -> Result<Vec<Event>, String> {
        let found = body
            .pointer(&self.file.events)
            .ok_or_else(|| format!("nothing found at {:?}", self.file.events))?;
        let events = match found {
            Value::Array(events) if events.len() <= MAX_EVENTS => events.iter().collect(),
            Value::Array(_) => return Err(format!("at most {MAX_EVENTS} events are allowed at once")),
            one => vec![one],
        };
        Ok(events.into_iter().map(|event| self.row(Told { event, body })).collect())
    }

    fn row(&self, told: Told<'_>) -> Event {
        for (pointer, values) in &self.file.only {
            let value = told.at(pointer).and_then(text);
            if value.is_none_or(|value| !values.contains(&value)) {
                return Ok(None);
            }
        }
        let mut columns = serde_json::Map::new();
        for (name, column) in &self.file.columns {
            match column.value(told).map_err(|error| format!("{name}: {error}"))? {
                Found::Text(text) => drop(columns.insert(name.clone(), text.into())),
                Found::Nothing => {}
                Found::NothingOfOurs => return Ok(None),
            }
        }
        let line = Value::Object(columns).to_string();
        json_row(&line).map(Some)
    }
}

/// An event and the whole body that it came with.
#[derive(Clone, Copy)]
struct Told<'a> {
    event: &'a Value,
    body: &'a Value,
}

impl<'a> Told<'a> {
    fn at(self, pointer: &str) -> Option<&'a Value> {
        match pointer.strip_prefix('^') {
            Some(pointer) => self.body.pointer(pointer),
            None => self.event.pointer(pointer),
        }
    }
}

/// The value of an event for a column.
enum Found {
    Text(String),
    Nothing,
    /// A list in which nothing is mapped.
    NothingOfOurs,
}

impl Column {
    fn rule(&self) -> Rule {
        match self {
            Column::Pointer(pointer) => Rule { pointer: Some(pointer.clone()), ..Rule::default() },
            Column::Rule(rule) => rule.clone(),
        }
    }

    fn check(&self, name: &str) -> Result<(), String> {
        let rule = self.rule();
        let source = match (&rule.pointer, &rule.value) {
            (Some(pointer), None) => pointer.as_str(),
            (None, Some(_)) => "",
            _ => return Err(format!("[columns] {name}: expected either a pointer or a value")),
        };
        if !source.is_empty() && !source.trim_start_matches('^').starts_with('/') {
            return Err(format!(
                "[columns] {name}: invalid JSON pointer {source:?}: expected one such as /user/email"
            ));
        }
        if name == "state" || name == "purposes" {
            let values = rule.values.iter().flatten();
            let granting = values
                .filter(|(_, state)| name == "purposes" || *state == "granted")
                .map(|(value, _)| value.as_str());
            let about_mail = source.split('/').chain(granting).find(|part| is_about_mail(part));
            if let Some(part) = about_mail {
                return Err(format!(
                    "[columns] {name}: {part:?} is about receiving mail, and consent to mail is not consent \
                     to tracking. Map a choice that people made about tracking"
                ));
            }
        }
        if name == "state" && rule.value.as_deref() == Some("granted") {
            return Err(
                "[columns] state: not every event can be a grant; map the state that the event reports"
                    .to_owned(),
            );
        }
        Ok(())
    }

    fn value(&self, told: Told<'_>) -> Result<Found, String> {
        let rule = self.rule();
        if let Some(value) = rule.value {
            return Ok(Found::Text(value));
        }
        let found = told.at(rule.pointer.as_deref().unwrap_or_default());
        if let Some(Value::Array(items)) = found {
            return rule.list(items);
        }
        let Some(text) = found.and_then(text) else {
            return Ok(rule.default.map_or(Found::Nothing, Found::Text));
        };
        let meant = match &rule.values {
            Some(values) => match values.get(&text).or(rule.default.as_ref()) {
                Some(meant) => meant.clone(),
                None => return Err("the mapping does not cover this value".to_owned()),
            },
            None => text,
        };
        Ok(Found::Text(format!("{}{}", rule.prefix, rule.format.read(&meant)?)))
    }
}

impl Rule {
    fn list(&self, items: &[Value]) -> Result<Found, String> {
        let items = items.iter().filter_map(text);
        let meant: Vec<String> = match &self.values {
            Some(values) => items.filter_map(|item| values.get(&item).cloned()).collect(),
            None => items.collect(),
        };
        Ok(if meant.is_empty() { Found::NothingOfOurs } else { Found::Text(meant.join(" ")) })
    }
}

impl Format {
    fn read(self, text: &str) -> Result<String, String> {
        let number = || text.parse::<i64>().map_err(|_| "expected a whole number".to_owned());
        match self {
            Format::Text => Ok(text.to_owned()),
            Format::Unix => Ok(Timestamp(number()?.saturating_mul(1000)).to_string()),
            Format::UnixMs => Ok(Timestamp(number()?).to_string()),
            Format::Blank => Ok(format!("{}Z", text.replacen(' ', "T", 1))),
        }
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Reads a secret: one line of 16 bytes at least.
///
/// # Errors
///
/// When it cannot be read, when others than its owner can read it, or when it is too short.
pub fn secret(path: &Path) -> Result<Vec<u8>, String> {
    let named = |error: String| format!("{}: {error}", path.display());
    let metadata = std::fs::metadata(path).map_err(|error| named(error.to_string()))?;
    if crate::private_file::is_open_to_others(path, &metadata) {
        return Err(named("others can read or write it; run chmod 600 on it".to_owned()));
    }
    let bytes = std::fs::read(path).map_err(|error| named(error.to_string()))?;
    let bytes = bytes.trim_ascii().to_vec();
    if bytes.len() < MIN_SECRET {
        return Err(named(format!("the secret must have at least {MIN_SECRET} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const PLAIN: &str = r#"
        events = "/events"
        only = { "/type" = ["consent.given", "consent.withdrawn"] }
        [columns]
        address = "/user/email"
        event_time = { pointer = "/at", format = "unix_ms" }
        state.pointer = "/type"
        state.values = { "consent.given" = "granted", "consent.withdrawn" = "withdrawn" }
        purposes.pointer = "/purposes"
        purposes.values = { measure = "campaign_performance", personal = "personalisation" }
        evidence = { pointer = "/id", prefix = "cmp/" }
        method = { value = "consent manager" }
    "#;

    fn events(mapping: &str, body: &Value) -> Vec<Event> {
        Mapping::read(mapping).unwrap().events(body).unwrap()
    }

    #[test]
    fn events_become_rows() {
        let event = |kind: &str, purposes: &[&str]| {
            json!({"id": 7, "type": kind,
            "at": 1_752_480_000_000_i64, "user": {"email": "a@b.example"}, "purposes": purposes})
        };
        let body = json!({"events": [
            event("consent.given", &["measure", "ads", "personal"]),
            event("consent.withdrawn", &["ads"]),
            event("page.viewed", &["measure"]),
        ]});
        let rows = events(PLAIN, &body);
        let row = rows[0].clone().unwrap().unwrap();
        assert_eq!((row.address.as_str(), row.state.as_str()), ("a@b.example", "granted"));
        assert_eq!(row.purposes, "campaign_performance personalisation");
        assert_eq!((row.evidence.as_str(), row.event_time.as_str()), ("cmp/7", "2025-07-14T08:00:00Z"));
        assert!(row.change(&"shop".parse().unwrap()).is_ok());
        assert_eq!((&rows[1], &rows[2]), (&Ok(None), &Ok(None)));
        assert!(Mapping::read(PLAIN).unwrap().events(&json!({"other": 1})).is_err());
        let choices = r#"
            events = "/choices"
            only = { "/id" = ["measure"], "^/kind" = ["consent"] }
            [columns]
            address = "^/user"
            event_time = { pointer = "^/at", format = "blank" }
            state = { pointer = "/enabled", values = { true = "granted", false = "refused" } }
            purposes = { pointer = "/id", values = { measure = "campaign_performance" } }
        "#;
        let body = json!({"kind": "consent", "user": "a@b.example", "at": "2026-07-14 08:00:00",
                          "choices": [{"id": "ads", "enabled": true}, {"id": "measure", "enabled": false}]});
        let rows = events(choices, &body);
        assert_eq!(rows[0], Ok(None));
        let row = rows[1].clone().unwrap().unwrap();
        assert_eq!((row.address.as_str(), row.state.as_str()), ("a@b.example", "refused"));
        assert_eq!(row.event_time, "2026-07-14T08:00:00Z");
        let odd = json!({"events": {"type": "consent.given", "at": "soon", "purposes": ["measure"]}});
        assert!(events(PLAIN, &odd)[0].clone().unwrap_err().contains("event_time"));
    }

    #[test]
    fn the_examples_can_be_loaded_and_read_what_their_vendors_send() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/webhooks");
        let shop = "shop".parse().unwrap();
        for (vendor, body) in [
            (
                "didomi",
                json!({"type": "event.created", "entity": {
                    "id": "e-1", "created_at": "2026-09-01T10:00:00.000Z",
                        "user": {"organization_user_id": "a@b.example"},
                    "consents": {"purposes": [{"id": "email_opens-x1", "enabled": true}, {"id": "cookies",
                        "enabled": true}]}}}),
            ),
            (
                "onetrust",
                json!({"identifier": "a@b.example", "receiptId": "r-1",
                    "interactionDate": "2026-09-01T10:00:00Z", "purposes": [
                    {"id": "0a0a0a0a-open-tracking", "transactionType": "CONFIRMED"}, {"id": "other",
                        "transactionType": "CONFIRMED"}]}),
            ),
            (
                "axeptio",
                json!({"email": "a@b.example", "token": "t-1", "date": "2026-09-01T10:00:00Z",
                    "accept": true, "preferences": {"email_opens": true}}),
            ),
            (
                "brevo",
                json!({"event": "contact_updated", "email": "a@b.example", "id": 5, "ts": 1_788_256_800,
                    "content": [{"OPEN_TRACKING": "yes"}]}),
            ),
        ] {
            let text = std::fs::read_to_string(folder.join(format!("{vendor}.toml"))).unwrap();
            let rows: Vec<Row> =
                events(&text, &body).into_iter().filter_map(|event| event.unwrap()).collect();
            assert_eq!(rows.len(), 1, "{vendor}");
            let change = rows[0].change(&shop).unwrap();
            assert_eq!(change.state, crate::consent::State::Granted, "{vendor}");
            assert!(change.details.evidence.unwrap().starts_with(vendor));
        }
    }

    #[test]
    fn consent_to_mail_is_not_mapped_to_consent_to_tracking() {
        let mapping = |state: &str, purposes: &str| {
            let text = format!(
                "[columns]\n\
                 address = \"/email\"\n\
                 event_time = \"/at\"\n\
                 state = {state}\n\
                 purposes = {purposes}\n"
            );
            Mapping::read(&text).err().unwrap_or_default()
        };
        let all = "{ value = \"all\" }";
        assert_eq!(mapping("{ pointer = \"/tracking\", values = { true = \"granted\" } }", all), "");
        for state in [
            "{ pointer = \"/marketing_opt_in\", values = { true = \"granted\" } }",
            "{ pointer = \"/attributes/OPT-IN\", values = { true = \"granted\" } }",
            "{ pointer = \"/event\", values = { subscribed = \"granted\" } }",
            "\"/double_opt_in\"",
        ] {
            assert!(mapping(state, all).contains("consent to mail is not consent"), "{state}");
        }
        let from_event =
            "{ pointer = \"/event\", values = { unsubscribed = \"withdrawn\", agreed = \"granted\" } }";
        assert_eq!(mapping(from_event, all), "");
        assert!(
            mapping(from_event, "{ pointer = \"/p\", values = { newsletter = \"personalisation\" } }")
                .contains("consent to mail is not consent")
        );
        assert!(mapping("{ value = \"granted\" }", all).contains("not every event"));
        assert!(mapping("{ pointer = \"state\" }", all).contains("JSON pointer"));
        assert!(Mapping::read("[columns]\naddress = \"/a\"").unwrap_err().contains("no state"));
        let other = "[columns]\naddress = \"/a\"\nstate = \"/s\"\nevent_time = \"/t\"\ncontroller = \"/c\"";
        assert!(Mapping::read(other).unwrap_err().contains("controller"));
    }

    #[test]
    fn only_the_right_signature_of_the_body_is_right() {
        let mut mapping = Mapping::read(PLAIN).unwrap();
        assert!(!mapping.is_right("", b"body"));
        // printf body | openssl dgst -sha256 -hmac 0123456789abcdef
        let hex = "c34c3195f4d0282ae2dee7ddba19f07877594896ece7578eed7044843650c708";
        let base64 = "w0wxlfTQKCri3ufduhnweHdZSJbs51eO7XBEhDZQxwg=";
        for (encoding, prefix, right) in [
            (Encoding::Hex, "sha256=", format!("sha256={hex}")),
            (Encoding::Hex, "", hex.to_uppercase()),
            (Encoding::Base64, "", base64.to_owned()),
        ] {
            let key = hmac::Key::new(hmac::HMAC_SHA256, b"0123456789abcdef");
            mapping.signature =
                Some(Signature { header: "x-signature".into(), encoding, prefix: prefix.into(), key });
            assert!(mapping.is_right(&right, b"body"), "{right}");
            assert!(!mapping.is_right(&right, b"other"));
            assert!(!mapping.is_right(&right[1..], b"body") && !mapping.is_right("", b"body"));
        }
    }
}
