//! The audit trail: who looked at or changed what.

use maud::html;
use serde_json::{Value, json};

use crate::layout::{self, Page, shown};
use crate::text::Text;
use crate::trail::{Deed, note};
use crate::value::{list, maybe, number, text};
use crate::{Answered, Call, Failure};

/// The number of entries on a page.
const ROWS: usize = 100;
/// The number of entries in an export.
const EXPORTED: usize = 100_000;

pub(crate) async fn page(call: Call) -> Answered {
    let before = match call.asked("before") {
        "" => String::new(),
        before => format!("&before={}", before.parse::<u32>().map_err(|_| Failure::malformed("before"))?),
    };
    let found = call.console.api.get(&format!("/v1/audit?limit={ROWS}{before}")).await?;
    let title = call.say(&Text("Audit", "Prüfprotokoll", "Audit"));
    let entries = list(&found, "entries");
    let columns = [
        Text("Number", "Nummer", "Numéro"),
        Text("When", "Wann", "Quand"),
        Text("Who", "Wer", "Qui"),
        Text("What", "Was", "Quoi"),
        Text("Controller", "Verantwortlicher", "Responsable"),
        Text("About", "Worüber", "Sur"),
    ];
    let content = html! {
        h1 { (title) }
        p { (call.say(&Text(
            "Each entry carries the hash of the one before; pixelward audit verify checks the whole chain.",
            "Jeder Eintrag trägt den Hash des vorigen; pixelward audit verify prüft die ganze Kette.",
            "Chaque entrée porte l’empreinte de la précédente ; pixelward audit verify vérifie toute la \
             chaîne.",
        ))) }
        div class="actions noprint" {
            a class="button" href="/audit/export" { (call.say(&Text("Export", "Exportieren", "Exporter"))) }
        }
        @if entries.is_empty() {
            p class="empty" { (call.say(&Text("Nothing yet.", "Noch nichts.", "Rien encore."))) } } @else {
            div class="wide" tabindex="0" { table class="flow" {
                thead { tr { @for column in &columns { th scope="col" { (call.say(column)) } } } }
                tbody {
                    @for entry in entries {
                        tr {
                            th scope="row" { (number(entry, "number")) }
                            td class="nowrap" { (call.language.moment(text(entry, "time"))) }
                            td { (text(entry, "actor")) }
                            td { (deed(&call, text(entry, "action"))) }
                            td { (maybe(entry, "controller").unwrap_or("–")) }
                            td {
                                @if let Some(person) = maybe(entry, "person") {
                                    code { (person.get(..8).unwrap_or_default()) "…" }
                                    " "
                                }
                                @if text(entry, "action") == "rules.deployed" {
                                    a href=(format!("/history#deployed-{}", number(entry, "number"))) {
                                        (deployed(text(entry, "detail")))
                                    }
                                } @else {
                                    (maybe(entry, "detail").unwrap_or_default())
                                }
                            }
                        }
                    }
                }
            } }
        }
        @if let Some(next) = found.get("next").and_then(Value::as_u64) {
            p {
                a class="button quiet" href=(format!("/audit?before={next}")) {
                    (call.say(&Text("Older ones", "Ältere", "Plus anciens")))
                }
            }
        }
    };
    Ok(shown(&call, &Page::new(title, content)))
}

/// How much of what changed is said here, in characters; the history has the rest.
const CHANGES: usize = 120;

/// Returns what an entry says about other rules, without the fingerprints before it.
fn deployed(detail: &str) -> String {
    let changes = detail.splitn(3, ' ').nth(2).unwrap_or(detail);
    match changes.char_indices().nth(CHANGES) {
        None => changes.to_owned(),
        Some((end, _)) => format!("{}…", changes.get(..end).unwrap_or_default()),
    }
}

fn deed(call: &Call, action: &str) -> String {
    let words = match action {
        "session.opened" => Text("signed in", "meldete sich an", "s’est connecté"),
        "session.ended" => Text("ended a session", "beendete eine Sitzung", "a terminé une session"),
        "person.searched" => Text("looked for a person", "suchte eine Person", "a cherché une personne"),
        "person.viewed" => Text("looked at a person", "sah eine Person an", "a consulté une personne"),
        "person.exported" => Text(
            "exported a person’s data",
            "exportierte die Daten einer Person",
            "a exporté les données d’une personne",
        ),
        "person.objected" => {
            Text("recorded an objection", "hielt einen Widerspruch fest", "a noté une opposition")
        }
        "person.withdrawn" => Text("recorded a withdrawal", "hielt einen Widerruf fest", "a noté un retrait"),
        "person.erased" => Text(
            "erased a person’s data",
            "löschte die Daten einer Person",
            "a effacé les données d’une personne",
        ),
        "message.viewed" => Text("looked at a message", "sah eine Nachricht an", "a consulté un message"),
        "message.exported" => {
            Text("exported a message", "exportierte eine Nachricht", "a exporté un message")
        }
        "archive.exported" => Text(
            "exported everything of a period",
            "exportierte alles eines Zeitraums",
            "a exporté tout d’une période",
        ),
        "rules.deployed" => Text(
            "brought other rules into force",
            "setzte andere Regeln in Kraft",
            "a mis d’autres règles en vigueur",
        ),
        "audit.exported" => {
            Text("exported the audit trail", "exportierte das Prüfprotokoll", "a exporté le journal d’audit")
        }
        other => return other.to_owned(),
    };
    call.say(&words).to_owned()
}

pub(crate) async fn export(call: Call) -> Answered {
    note(&call, Deed::of("audit.exported", "")).await?;
    let mut all: Vec<Value> = Vec::new();
    let mut before = String::new();
    while all.len() < EXPORTED {
        let found = call.console.api.get(&format!("/v1/audit?limit=1000{before}")).await?;
        all.extend(list(&found, "entries").iter().cloned());
        match found.get("next").and_then(Value::as_u64) {
            Some(next) => before = format!("&before={next}"),
            None => break,
        }
    }
    layout::download(&json!({ "entries": all }), "audit.json")
}
