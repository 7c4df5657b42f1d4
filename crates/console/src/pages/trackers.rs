//! Whose trackers were found, since when, and which vendors are known.

use maud::{Markup, html};
use serde_json::Value;

use super::unanswered;
use crate::chart::bar;
use crate::config::console::Role;
use crate::layout::{Page, anchor, shown};
use crate::text::Text;
use crate::value::{flag, list, maybe, number, text};
use crate::{Answered, Call, query};

pub(crate) async fn page(call: Call) -> Answered {
    let found = call.console.api.get(&format!("/v1/controllers/{}/trackers", call.controller)).await?;
    let title = call.say(&Text("Trackers", "Tracker", "Traceurs"));
    let (seen, silent): (Vec<&Value>, Vec<&Value>) =
        list(&found, "vendors").iter().partition(|vendor| number(vendor, "count") > 0);
    let unknown = seen.iter().find(|vendor| text(vendor, "name") == "unknown");
    let content = html! {
        h1 { (title) }
        (unanswered(&call, &found))
        @if let Some(vendor) = unknown {
            (unclassified(&call, vendor)?)
            (hosts(&call, list(&found, "unknown_hosts")))
        }
        h2 { (call.say(&Text("Found", "Gefunden", "Trouvés"))) }
        @if seen.is_empty() {
            p class="empty" {
                (call.say(&Text(
                    "No tracker has been found so far.",
                    "Bisher wurde kein Tracker gefunden.",
                    "Aucun traceur trouvé jusqu’ici.",
                )))
            }
        } @else { (hits(&call, &seen)?) }
        h2 {
            (call.say(&Text(
                "Known, not found so far",
                "Bekannt, bisher nicht gesehen",
                "Connus, pas encore vus",
            )))
        }
        p class="soft" {
            (silent.len())
            " " (call.say(&Text("vendors of the catalogue", "Anbieter aus dem Katalog",
            "fournisseurs du catalogue"))) ": "
            (silent.iter().map(|vendor| text(vendor, "name")).collect::<Vec<_>>().join(", ")) }
    };
    Ok(shown(&call, &Page::new(title, content)))
}

/// Renders trackers of unknown vendors: what they are is in the messages.
fn unclassified(call: &Call, vendor: &Value) -> Result<Markup, crate::Failure> {
    let may_look = call.session()?.rights.allow(&[Role::Officer, Role::Operator], &call.controller);
    Ok(html! {
        ul class="alarms" { li {
            span class="warn" {
                (call.say(&Text(
                    "Trackers of unknown vendors: ",
                    "Tracker unbekannter Anbieter: ",
                    "Traceurs de fournisseurs inconnus : ",
                )))
                (call.language.number(number(vendor, "count")))
                "."
            }
            " "
            (call.say(&Text(
                "They are handled like all others. Their hosts are listed below: to name them, add them to a \
                 catalogue of your own (tracker.catalogues).",
                "Sie werden wie alle anderen behandelt. Wohin sie melden, steht unten: um ihnen einen Namen \
                 zu geben, nehmen Sie es in einen eigenen Katalog auf (tracker.catalogues).",
                "Ils sont traités comme tous les autres. Où ils signalent figure ci-dessous : pour les \
                 nommer, ajoutez-le à un catalogue à vous (tracker.catalogues).",
            )))
            @if may_look {
                " "
                a href=(call.to("/messages?vendor=unknown")) {
                    (call.say(&Text("The messages", "Die Nachrichten", "Les messages")))
                }
            }
        } }
    })
}

/// Renders the hosts of trackers of unknown vendors.
fn hosts(call: &Call, hosts: &[Value]) -> Markup {
    let whole = hosts.iter().map(|host| number(host, "count")).sum();
    html! {
        @if !hosts.is_empty() {
            h2 {
                (call.say(&Text(
                    "Hosts of the unknown ones",
                    "Wohin die unbekannten melden",
                    "Où signalent les inconnus",
                )))
            }
            p class="soft" { (call.say(&Text(
                "Hosts only; a star replaces what may be unique to a reader.",
                "Nur Rechnernamen; ein Stern steht für das, was für eine einzelne Person gemacht sein kann.",
                "Les hôtes seuls ; une étoile remplace ce qui a pu être fait pour une personne.",
            ))) }
            div class="wide" tabindex="0" { table {
                thead { tr {
                    th scope="col" { (call.say(&Text("Host", "Rechner", "Hôte"))) }
                    th scope="col" class="count" { (call.say(&Text("Found", "Gefunden", "Trouvés"))) }
                    th scope="col" { (call.say(&Text("First seen", "Zuerst gesehen", "Vu d’abord"))) }
                    th scope="col" { (call.say(&Text("Last seen", "Zuletzt gesehen", "Vu en dernier"))) }
                } }
                tbody {
                    @for host in hosts {
                        tr {
                            th scope="row" class="nowrap" {
                                code { (text(host, "host")) }
                                (bar(number(host, "count"), whole))
                            }
                            td class="count" { (call.language.number(number(host, "count"))) }
                            td class="nowrap" { (text(host, "first_day")) }
                            td class="nowrap" { (text(host, "last_day")) }
                        }
                    }
                }
            } }
        }
    }
}

fn hits(call: &Call, seen: &[&Value]) -> Result<Markup, crate::Failure> {
    let may_look = call.session()?.rights.allow(&[Role::Officer, Role::Operator], &call.controller);
    let whole = seen.iter().map(|vendor| number(vendor, "count")).sum();
    let columns = [
        (Text("Vendor", "Anbieter", "Fournisseur"), false),
        (Text("Found", "Gefunden", "Trouvés"), true),
        (Text("Taken out", "Entfernt", "Retirés"), true),
        (Text("First seen", "Zuerst gesehen", "Vu d’abord"), false),
        (Text("Last seen", "Zuletzt gesehen", "Vu en dernier"), false),
        (Text("Where", "Wo", "Où"), false),
        (Text("Mailstreams", "Mailarten", "Flux"), false),
    ];
    let names = |vendor: &Value, name: &str| {
        let all = vendor.get(name).and_then(Value::as_object).into_iter().flatten();
        all.map(|(name, count)| format!("{name} {}", call.language.number(count.as_u64().unwrap_or(0))))
            .collect::<Vec<_>>()
            .join(", ")
    };
    Ok(html! {
        div class="wide" tabindex="0" { table {
            thead {
                tr {
                    @for (column, is_count) in &columns {
                        th scope="col" class=[is_count.then_some("count")] { (call.say(column)) }
                    }
                }
            }
            tbody {
                @for vendor in seen {
                    tr id=(anchor("vendor", text(vendor, "name"))) {
                        th scope="row" {
                            @if may_look {
                                a
                                    href=(call.to(&format!("/messages?vendor={}", query::encoded(text(
                                        vendor,
                                        "name",
                                    ))))) {
                                    (text(vendor, "name"))
                                }
                            } @else {
                                (text(vendor, "name"))
                            }
                            @if !flag(vendor, "in_catalogue") && text(vendor, "name") != "unknown" {
                                " "
                                span class="soft" {
                                    (call.say(&Text(
                                        "(no longer in the catalogue)",
                                        "(nicht mehr im Katalog)",
                                        "(plus au catalogue)",
                                    )))
                                }
                            }
                            (bar(number(vendor, "count"), whole))
                        }
                        td class="count" { (call.language.number(number(vendor, "count"))) }
                        td class="count" { (call.language.number(number(vendor, "stripped"))) }
                        td class="nowrap" { (maybe(vendor, "first_day").unwrap_or("–")) }
                        td class="nowrap" { (maybe(vendor, "last_day").unwrap_or("–")) }
                        td { (names(vendor, "carriers")) }
                        td class="prose" { (names(vendor, "mailstreams")) }
                    }
                }
            }
        } }
    })
}
