//! Connectors, which write choices to the services that keep contacts, as a part of the page about delivery.

use maud::{Markup, html};
use serde_json::Value;

use crate::Call;
use crate::layout::anchor;
use crate::text::Text;
use crate::value::{flag, list, maybe, number, text};

/// Renders all connectors; nothing if there are none.
pub(super) fn section(call: &Call, delivery: &Value) -> Markup {
    let all = list(delivery, "connectors");
    let columns = [
        Text("Connector", "Konnektor", "Connecteur"),
        Text("Service", "Dienst", "Service"),
        Text("State", "Zustand", "État"),
        Text("Changes waiting", "Wartende Änderungen", "Changements en attente"),
        Text("Choices not delivered", "Nicht zugestellte Entscheidungen", "Choix non transmis"),
        Text("Last success", "Zuletzt erfolgreich", "Dernier succès"),
        Text("Sync or comparison", "Abgleich oder Vergleich", "Synchronisation ou comparaison"),
        Text("Differences", "Abweichungen", "Écarts"),
    ];
    html! {
        @if !all.is_empty() {
            h2 { (call.say(&Text("Connectors", "Konnektoren", "Connecteurs"))) }
            @if call.is_cluster {
                p { (call.say(&Text(
                    "As this relay knows them: each relay of the cluster counts what it wrote itself.",
                    "Nach dem Stand dieses Relays: Jedes Relay des Verbunds zählt, was es selbst geschrieben hat.",
                    "Vus de ce relais : chaque relais de la grappe compte ce qu’il a écrit lui-même.",
                ))) }
            }
            div class="wide" tabindex="0" { table {
                thead { tr { @for column in &columns { th scope="col" { (call.say(column)) } } } }
                tbody { @for connector in all { (row(call, connector)) } }
            } }
        }
    }
}

fn row(call: &Call, connector: &Value) -> Markup {
    let (name, controller) = (text(connector, "name"), text(connector, "controller"));
    let walk = connector.get("walk").filter(|walk| walk.is_object());
    html! {
        tr id=(anchor("connector", &format!("{controller}-{name}"))) {
            th scope="row" { (controller) ": " (name) }
            td { (text(connector, "service")) }
            td { (state(call, connector)) }
            td class="number" { (call.language.number(number(connector, "waiting"))) }
            td class="number" {
                @match dead_letters(connector) {
                    0 => "0",
                    count => span class="warn" { (call.language.number(count)) },
                }
            }
            td class="nowrap" {
                @match maybe(connector, "last_success") {
                    Some(time) => (call.language.moment(time)),
                    None => (call.say(&Text(
                        "none since the start",
                        "noch nicht seit dem Start",
                        "aucun depuis le démarrage",
                    ))),
                }
            }
            td { @match walk { Some(walk) => (progress(call, walk)), None => "–" } }
            td class="number" { (differences(call, walk)) }
        }
    }
}

fn state(call: &Call, connector: &Value) -> Markup {
    html! {
        @match (maybe(connector, "stopped"), flag(connector, "paused")) {
            (Some(why), _) => span class="bad" {
                (call.say(&Text("stopped: ", "angehalten: ", "arrêté : "))) (why)
            },
            (None, true) => span class="warn" { (call.say(&Text("paused", "ausgesetzt", "suspendu"))) },
            (None, false) => span class="good" { (call.say(&Text("works", "arbeitet", "fonctionne"))) },
        }
    }
}

/// Counts people of whom the service could not be told.
fn dead_letters(connector: &Value) -> u64 {
    let counts = connector.get("dead_letters").and_then(Value::as_object);
    let listed: u64 = counts.map_or(0, |counts| counts.values().filter_map(Value::as_u64).sum());
    listed + number(connector, "dead_letters_left_out")
}

/// Says how far the last way through all people has come.
fn progress(call: &Call, walk: &Value) -> Markup {
    let people = call.language.counted(
        number(walk, "people"),
        &Text("person", "Person", "personne"),
        &Text("people", "Personen", "personnes"),
    );
    html! {
        (match text(walk, "errand") {
            "sync" => call.say(&Text("Sync", "Abgleich", "Synchronisation")),
            "compare" => call.say(&Text("Comparison", "Vergleich", "Comparaison")),
            "dry_run" => call.say(&Text("Dry run", "Probelauf", "Essai à blanc")),
            other => other,
        })
        ", " (people) ", "
        @match maybe(walk, "finished_at") {
            Some(time) => {
                (call.say(&Text("finished ", "fertig am ", "terminé le "))) (call.language.moment(time))
            },
            None => {
                (call.say(&Text("under way since ", "läuft seit ", "en cours depuis le ")))
                (call.language.moment(text(walk, "started_at")))
            },
        }
    }
}

/// Shows how many differences the last comparison found, if nothing else was done with everybody since.
fn differences(call: &Call, walk: Option<&Value>) -> Markup {
    let found = walk
        .filter(|walk| text(walk, "errand") == "compare")
        .map(|walk| walk.get("results").map_or(0, |results| number(results, "different")));
    html! {
        @match found {
            None => "–",
            Some(0) => "0",
            Some(count) => span class="warn" { (call.language.number(count)) },
        }
    }
}
