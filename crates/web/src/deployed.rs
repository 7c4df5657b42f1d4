//! What is in force, as a snapshot that can be compared with an earlier one: rules, notices, vendors, keys.

use serde::Serialize;
use serde_json::Value;

use crate::api::rules::{Dated, Declared, Stream};
use crate::consent::Timestamp;
use crate::live::Live;
use crate::policy::Language;
use crate::public::preview::{State, preview};
use crate::record::deployments::{Fields, Snapshot};

/// Takes a snapshot of what is in force.
pub fn snapshot(live: &Live, now: Timestamp) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let rulebook = &live.config.policy.rulebook;
    let version = Fields::from([("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]);
    snapshot.add("program", "pixelward", version);
    for controller in rulebook.controllers() {
        let mut fields = fields(&Declared::of(controller, Vec::new()));
        fields.remove("mailstreams");
        snapshot.add("controllers", controller.name.as_str(), fields);
        notices(live, controller.name.as_str(), now, &mut snapshot);
    }
    for chosen in rulebook.all() {
        let name = format!("{}/{}", chosen.controller.name, chosen.mailstream.name);
        snapshot.add("mailstreams", name, fields(&Stream::of(chosen.mailstream)));
    }
    for version in rulebook.jurisdictions.versions() {
        snapshot.add("jurisdictions", version.full_label(), fields(&Dated::of(version)));
    }
    for (name, patterns) in live.treatment.detector.catalogue().entries() {
        snapshot.add("catalogue", name, Fields::from([("patterns".to_owned(), patterns)]));
    }
    keys(live, &mut snapshot);
    snapshot
}

/// Adds the text of the preference page in each language, if the controller has one.
fn notices(live: &Live, controller: &str, now: Timestamp, snapshot: &mut Snapshot) {
    let rulebook = &live.config.policy.rulebook;
    let Ok(chosen) = rulebook.named(Some(controller), None) else { return };
    if chosen.controller.public_url.is_none() {
        return;
    }
    for language in Language::ALL {
        if let Ok(made) = preview(rulebook, chosen, Some(language), State::Unknown, now) {
            let fields = [("version", made.version), ("text_hash", made.hash), ("text", made.text)];
            let fields = fields.map(|(name, value)| (name.to_owned(), value));
            snapshot.add("notices", format!("{controller}/{}", language.code()), Fields::from(fields));
        }
    }
}

/// Adds the public half of each signing key.
fn keys(live: &Live, snapshot: &mut Snapshot) {
    let keys = pixelward_config::treatment::signing_keys(&live.config).unwrap_or_default();
    for (key, declared) in keys.iter().zip(&live.config.dkim.keys) {
        let holders = declared.holders(&live.config.policy.rulebook);
        let fields = Fields::from([
            ("record".to_owned(), key.record()),
            ("controllers".to_owned(), holders.controllers().join(", ")),
        ]);
        snapshot.add("dkim", key.record_name(), fields);
    }
}

/// Returns the fields of a declaration, but for its name.
fn fields(declared: &impl Serialize) -> Fields {
    let value = serde_json::to_value(declared).unwrap_or_default();
    let all = value.as_object().into_iter().flatten();
    all.filter(|(name, _)| *name != "name").map(|(name, value)| (name.clone(), worded(value))).collect()
}

fn worded(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(all) => all.iter().map(worded).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}
