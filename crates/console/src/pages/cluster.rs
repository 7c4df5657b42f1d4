//! How the relay stands among the others of its cluster.

use maud::{Markup, html};
use serde_json::Value;

use super::short;
use crate::layout::{Page, shown};
use crate::text::Text;
use crate::value::{flag, list, maybe, number, text};
use crate::{Answered, Call};

/// After how many seconds the page is reloaded.
const REFRESH: u32 = 15;

pub(crate) async fn page(call: Call) -> Answered {
    let standing = call.console.api.get("/v1/cluster").await?;
    let title = call.say(&Text("Cluster", "Verbund", "Grappe"));
    let content = html! {
        h1 { (title) }
        dl {
            dt { (call.say(&Text("This relay", "Dieses Relay", "Ce relais"))) }
            dd { (short(text(&standing, "relay"))) }
            dt { (call.say(&Text("Grants", "Einwilligungen", "Consentements"))) }
            dd { (grants(&call, &standing)) }
            dt { (call.say(&Text("New grants", "Neue Einwilligungen", "Nouveaux consentements"))) }
            dd {
                @match maybe(&standing, "not_durable") {
                    None => span class="good" {
                        (call.say(&Text("are taken", "werden angenommen", "acceptés")))
                    },
                    Some(why) => span class="bad" {
                        (call.say(&Text("are refused: ", "werden abgelehnt: ", "refusés : "))) (why)
                    },
                }
            }
            dt { (call.say(&Text("Heard up to", "Gehört bis", "Entendu jusqu’à"))) }
            dd {
                (call.say(&Text("message ", "Meldung ", "message ")))
                (call.language.number(number(&standing, "position")))
            }
            dt { (call.say(&Text("Journal", "Journal", "Journal"))) }
            dd {
                (records(&call, number(&standing, "records"))) ", "
                (call.say(&Text("chain ", "Kette ", "chaîne "))) (short(text(&standing, "head")))
            }
            dt { (call.say(&Text("Others are still to be told", "Andere wissen noch nicht", "Reste à dire"))) }
            dd { (untold(&call, number(&standing, "untold"))) }
        }
        h2 { (call.say(&Text("Other relays", "Andere Relays", "Autres relais"))) }
        (others(&call, &standing))
        @if !list(&standing, "leases").is_empty() {
            h2 { (call.say(&Text("Webhooks", "Webhooks", "Webhooks"))) }
            (webhooks(&call, &standing))
        }
    };
    Ok(shown(&call, &Page { title: title.to_owned(), refresh: Some(REFRESH), content }))
}

fn grants(call: &Call, standing: &Value) -> Markup {
    html! {
        @match (maybe(standing, "stopped"), flag(standing, "fresh")) {
            (Some(why), _) => span class="bad" {
                (call.say(&Text("none count: ", "keine zählt: ", "aucun ne compte : "))) (why)
            },
            (None, false) => span class="bad" {
                (call.say(&Text(
                    "none count until the other relays are heard",
                    "keine zählt, bis die anderen Relays zu hören sind",
                    "aucun ne compte tant que les autres relais ne sont pas entendus",
                )))
            },
            (None, true) => span class="good" { (call.say(&Text("count", "zählen", "comptent"))) },
        }
    }
}

fn records(call: &Call, count: u64) -> String {
    call.language.counted(
        count,
        &Text("record", "Eintrag", "enregistrement"),
        &Text("records", "Einträge", "enregistrements"),
    )
}

fn untold(call: &Call, count: u64) -> Markup {
    html! {
        @if count == 0 {
            (call.say(&Text("nothing", "nichts", "rien")))
        } @else {
            span class="warn" {
                (call.language.counted(
                    count,
                    &Text("change, which holds here already", "Änderung, die hier schon gilt",
                        "changement, déjà en vigueur ici"),
                    &Text("changes, which hold here already", "Änderungen, die hier schon gelten",
                        "changements, déjà en vigueur ici"),
                ))
            }
        }
    }
}

fn others(call: &Call, standing: &Value) -> Markup {
    let all = list(standing, "others");
    let columns = [
        Text("Relay", "Relay", "Relais"),
        Text("Address", "Adresse", "Adresse"),
        Text("Heard", "Gehört", "Entendu"),
        Text("Records then", "Einträge dabei", "Enregistrements alors"),
        Text("Rules", "Regeln", "Règles"),
    ];
    html! {
        @if all.is_empty() {
            p class="empty" { (call.say(&Text(
                "None was heard of.",
                "Von keinem war etwas zu hören.",
                "Aucun ne s’est fait entendre.",
            ))) }
        } @else {
            div class="wide" tabindex="0" { table {
                thead { tr { @for column in &columns { th scope="col" { (call.say(column)) } } } }
                tbody {
                    @for other in all {
                        tr {
                            th scope="row" { (short(text(other, "relay"))) }
                            td { code { (text(other, "address")) } }
                            td class="nowrap" { (heard(call, other)) }
                            td class="number" {
                                @if other.get("records").is_some_and(Value::is_u64) {
                                    (call.language.number(number(other, "records")))
                                }
                            }
                            td {
                                @if flag(other, "other_rules") {
                                    span class="warn" {
                                        (call.say(&Text("others than here", "andere als hier", "autres qu’ici")))
                                    }
                                } @else {
                                    (call.say(&Text("the same", "dieselben", "les mêmes")))
                                }
                            }
                        }
                    }
                }
            } }
        }
    }
}

fn heard(call: &Call, other: &Value) -> Markup {
    html! {
        @if other.get("heard").is_some_and(Value::is_u64) {
            (call.say(&Text("", "vor ", "il y a ")))
            (call.language.counted(
                number(other, "heard"),
                &Text("second ago", "Sekunde", "seconde"),
                &Text("seconds ago", "Sekunden", "secondes"),
            ))
        } @else {
            span class="warn" {
                (call.say(&Text(
                    "not since this relay started",
                    "nicht seit dem Start dieses Relays",
                    "pas depuis le démarrage de ce relais",
                )))
            }
        }
    }
}

fn webhooks(call: &Call, standing: &Value) -> Markup {
    let columns = [
        Text("Controller", "Verantwortlicher", "Responsable"),
        Text("Told by", "Es meldet", "Informé par"),
        Text("Up to record", "Bis Eintrag", "Jusqu’à l’enregistrement"),
    ];
    let ours = text(standing, "relay");
    html! {
        div class="wide" tabindex="0" { table {
            thead { tr { @for column in &columns { th scope="col" { (call.say(column)) } } } }
            tbody {
                @for lease in list(standing, "leases") {
                    tr {
                        th scope="row" {
                            @match maybe(lease, "controller") {
                                Some(controller) => {
                                    (controller)
                                    @if let Some(connector) = maybe(lease, "connector") { ": " (connector) }
                                },
                                None => (call.say(&Text(
                                    "one without a webhook or connector here",
                                    "einer ohne Webhook oder Konnektor hier",
                                    "un responsable sans webhook ni connecteur ici",
                                ))),
                            }
                        }
                        td {
                            @match maybe(lease, "relay") {
                                Some(relay) if relay == ours => {
                                    (call.say(&Text("this relay", "dieses Relay", "ce relais")))
                                },
                                Some(relay) => (short(relay)),
                                None => (call.say(&Text("nobody yet", "noch keines", "personne encore"))),
                            }
                        }
                        td class="number" { (call.language.number(number(lease, "record"))) }
                    }
                }
            }
        } }
    }
}
