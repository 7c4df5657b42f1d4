//! Next hops, connectors, certificates and current resource usage.

use maud::{Markup, html};
use serde_json::Value;

use super::{connectors, moment_of};
use crate::chart::bar;
use crate::config::console::Role;
use crate::consent::Timestamp;
use crate::layout::{Page, shown};
use crate::text::Text;
use crate::value::{flag, list, maybe, number, text};
use crate::{Answered, Call, query, words};

/// After how many seconds the page is reloaded.
const REFRESH: u32 = 15;

pub(crate) async fn page(call: Call) -> Answered {
    let delivery = call.console.api.get("/v1/delivery").await?;
    let title = call.say(&Text("Delivery", "Zustellung", "Acheminement"));
    let yes_no = |is: bool, yes: &Text, no: &Text| {
        html! {
            @if is { span class="good" { (call.say(yes)) } } @else { span class="bad" { (call.say(no)) } }
        }
    };
    let content = html! {
        h1 { (title) }
        dl {
            dt { (call.say(&Text("Consent", "Einwilligungen", "Consentements"))) }
            dd {
                (yes_no(
                    flag(&delivery, "store_answers"),
                    &Text("can be looked up", "können nachgesehen werden", "consultables"),
                    &Text(
                        "cannot be looked up: trackers are removed for everybody",
                        "nicht nachzusehen: Tracker gehen bei allen",
                        "non consultables : traceurs retirés pour tous",
                    ),
                ))
            }
            dt { (call.say(&Text("Evidence", "Nachweise", "Preuves"))) }
            dd {
                (yes_no(
                    flag(&delivery, "evidence_enabled"),
                    &Text("is kept", "werden geführt", "conservées"),
                    &Text("not kept", "werden nicht geführt", "non conservées"),
                ))
            }
            dt { (call.say(&Text("Delivery ledger", "Zustellbuch", "Registre de remise"))) }
            dd { @if flag(&delivery, "ledger_empty") {
                (call.say(&Text("nothing is unfinished", "nichts ist offen", "rien d’inachevé"))) } @else {
                (call.say(&Text("some mail has reached only some of its recipients; its sender will retry",
                    "manche E-Mails erreichten erst einen Teil der Empfänger; ihr Absender kommt wieder",
                    "certains e‑mails n’ont atteint qu’une partie des destinataires ; l’expéditeur réessaiera"
                ))) } }
            dt {
                (call.say(&Text("Memory for messages", "Speicher für Nachrichten", "Mémoire des messages")))
            }
            dd {
                (mebibytes(number(&delivery, "held_bytes")))
                " / "
                (mebibytes(number(&delivery, "most_held_bytes")))
                " MiB"
                (bar(number(&delivery, "held_bytes"), number(&delivery, "most_held_bytes")))
            }
        }
        h2 { (call.say(&Text("Last refusals", "Letzte Ablehnungen", "Derniers refus"))) }
        (refusals(&call, &delivery))
        h2 { (call.say(&Text("Next hops", "Nächste Server", "Serveurs suivants"))) }
        (hops(&call, &delivery))
        (connectors::section(&call, &delivery))
        h2 {
            (call.say(&Text(
                "Listeners and certificates",
                "Eingänge und Zertifikate",
                "Points d’écoute et certificats",
            )))
        }
        (listeners(&call, &delivery))
        h2 { (call.say(&Text("Observe or enforce", "Beobachten oder durchsetzen", "Observer ou appliquer"))) }
        (modes(&call).await?)
    };
    Ok(shown(&call, &Page { title: title.to_owned(), refresh: Some(REFRESH), content }))
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1u32 << 20))
}

/// Renders the last refusals of all controllers. Who may see a message gets a link to its story.
fn refusals(call: &Call, delivery: &Value) -> Markup {
    let all = list(delivery, "refusals");
    let may_look = |refusal: &Value| {
        let rights = call.session.as_ref().map(|session| &session.rights);
        let controller = text(refusal, "controller");
        rights.is_some_and(|rights| rights.allow(&[Role::Officer, Role::Operator], controller))
    };
    let columns = [
        Text("When", "Wann", "Quand"),
        Text("Reason", "Grund", "Raison"),
        Text("Result", "Ausgang", "Issue"),
        Text("Controller", "Verantwortlicher", "Responsable"),
        Text("Mailstream", "Mailart", "Flux"),
        Text("Next hop", "Server", "Serveur"),
        Text("Recipients", "Empfänger", "Destinataires"),
    ];
    html! {
        @if all.is_empty() {
            p class="empty" { (call.say(&Text(
                "None since audit records are kept.",
                "Keine, seit Nachweise geführt werden.",
                "Aucun depuis que des preuves sont conservées.",
            ))) }
        } @else {
            div class="wide" tabindex="0" { table class="flow" {
                thead { tr { @for column in &columns { th scope="col" { (call.say(column)) } } } }
                tbody {
                    @for refusal in all {
                        tr {
                            th scope="row" class="nowrap" {
                                @if may_look(refusal) {
                                    a href=(story(refusal)) { (call.language.moment(text(refusal, "time"))) }
                                } @else {
                                    (call.language.moment(text(refusal, "time")))
                                }
                            }
                            td {
                                (words::refusal(
                                    call.language,
                                    number(refusal, "code"),
                                    text(refusal, "status"),
                                ))
                                " (" (words::code(refusal)) ")"
                            }
                            td { (words::result(call.language, text(refusal, "result"))) }
                            td { (text(refusal, "controller")) }
                            td { (text(refusal, "mailstream")) }
                            td {
                                @if flag(refusal, "received") {
                                    (text(refusal, "route"))
                                } @else {
                                    (call.say(&Text(
                                        "refused before it came",
                                        "vor der Annahme abgelehnt",
                                        "refusé avant réception",
                                    )))
                                }
                            }
                            td {
                                (call.language.counted(
                                    number(refusal, "recipients"),
                                    &Text("recipient", "Empfänger", "destinataire"),
                                    &Text("recipients", "Empfänger", "destinataires"),
                                ))
                            }
                        }
                    }
                }
            } }
        }
    }
}

fn story(refusal: &Value) -> String {
    let encoded = |name: &str| query::encoded(text(refusal, name));
    format!("/messages/{}?at={}&controller={}", encoded("id"), encoded("time"), encoded("controller"))
}

fn hops(call: &Call, delivery: &Value) -> Markup {
    let columns = [
        Text("Next hop", "Server", "Serveur"),
        Text("State", "Zustand", "État"),
        Text("TLS", "TLS", "TLS"),
        Text("Known by", "Erkannt an", "Reconnu par"),
        Text("Certificate ends", "Zertifikat endet", "Fin du certificat"),
        Text(
            "Connections: in use, idle, maximum",
            "Verbindungen benutzt, wartend, höchstens",
            "Connexions utilisées, en attente, au plus",
        ),
        Text("Messages a minute", "Nachrichten pro Minute", "Messages par minute"),
    ];
    html! {
        div class="wide" tabindex="0" { table {
            thead { tr { @for column in &columns { th scope="col" { (call.say(column)) } } } }
            tbody {
                @for hop in list(delivery, "next_hops") {
                    tr {
                        th scope="row" { (text(hop, "host")) ":" (number(hop, "port")) }
                        td {
                            @if number(hop, "failures") > 0 {
                                span class="bad" {
                                    (call.language.counted(
                                        number(hop, "failures"),
                                        &Text("failure", "Fehler", "échec"),
                                        &Text("failures in a row", "Fehler in Folge", "échecs de suite"),
                                    ))
                                }
                                @if number(hop, "rests_s") > 0 {
                                    ", "
                                    (call.say(&Text(
                                        "next attempt in",
                                        "nächster Versuch in",
                                        "nouvel essai dans",
                                    )))
                                    " "
                                    (number(hop, "rests_s"))
                                    " s"
                                }
                            } @else if flag(hop, "seen") {
                                span class="good" { (call.say(&Text("answers", "antwortet", "répond"))) } }
                            @else {
                                (call.say(&Text(
                                    "not used since the start",
                                    "seit dem Start nicht gebraucht",
                                    "pas utilisé depuis le démarrage",
                                )))
                            }
                        }
                        td {
                            @if text(hop, "tls") == "none" {
                                span class="warn" { (text(hop, "tls")) }
                            } @else {
                                (text(hop, "tls"))
                            }
                        }
                        td { (maybe(hop, "authentication").unwrap_or("–")) }
                        td class="nowrap" { (ends(call, hop, "–")) }
                        td {
                            (number(hop, "used"))
                            ", "
                            (number(hop, "idle"))
                            ", "
                            (number(hop, "most"))
                            (bar(number(hop, "used"), number(hop, "most")))
                        }
                        td {
                            @if number(hop, "messages_per_minute") == 0 {
                                (call.say(&Text("no limit", "ohne Grenze", "sans limite")))
                            } @else {
                                (call.language.number(number(hop, "messages_per_minute")))
                            }
                        }
                    }
                }
            }
        } }
    }
}

const NO_TLS: Text = Text("no TLS", "kein TLS", "pas de TLS");

/// Renders when a certificate ends, and what stands there if there is none.
fn ends(call: &Call, of: &Value, none: &str) -> Markup {
    let end = maybe(of, "certificate_ends").and_then(|end| Some((end, moment_of(end)?)));
    html! {
        @match end {
            None => (none),
            Some((end, at)) => span class=(if at < Timestamp::now().plus_days(30) { "bad" } else { "good" }) {
                (call.language.moment(end))
            },
        }
    }
}

fn listeners(call: &Call, delivery: &Value) -> Markup {
    html! {
        div class="wide" tabindex="0" { table {
            thead { tr {
                th scope="col" { (call.say(&Text("Listener", "Eingang", "Point d’écoute"))) }
                th scope="col" { (call.say(&Text("Address", "Adresse", "Adresse"))) }
                th scope="col" {
                    (call.say(&Text("Certificate ends", "Zertifikat endet", "Fin du certificat")))
                }
            } }
            tbody {
                @for listener in list(delivery, "listeners") {
                    tr {
                        th scope="row" { (text(listener, "name")) }
                        td { code { (text(listener, "address")) } }
                        td { (ends(call, listener, call.say(&NO_TLS))) }
                    }
                }
                @for served in list(delivery, "certificates") {
                    tr {
                        th scope="row" {
                            @match text(served, "name") {
                                "public" => (call.say(&Text(
                                    "pages and pixels for readers",
                                    "Seiten und Pixel für Leser",
                                    "pages et pixels des lecteurs",
                                ))),
                                "api" => (call.say(&Text("API", "API", "API"))),
                                other => (other),
                            }
                        }
                        td { code { (text(served, "address")) } }
                        td { (ends(call, served, call.say(&NO_TLS))) }
                    }
                }
            }
        } }
    }
}

async fn modes(call: &Call) -> Result<Markup, crate::Failure> {
    let policy = call.console.policy().await?;
    Ok(html! {
        div class="wide" tabindex="0" { table {
            thead { tr {
                th scope="col" { (call.say(&Text("Controller", "Verantwortlicher", "Responsable"))) }
                th scope="col" { (call.say(&Text("Mailstream", "Mailart", "Flux"))) }
                th scope="col" { (call.say(&Text("Mode", "Betrieb", "Mode"))) }
            } }
            tbody {
                @for controller in list(&policy, "controllers") {
                    @for stream in list(controller, "mailstreams") {
                    tr {
                        th scope="row" { (text(controller, "name")) } td { (text(stream, "name")) }
                        td {
                            @if text(stream, "mode") == "observe" {
                                span class="warn" { (call.say(&Text("observe", "beobachten", "observer"))) }
                            } @else {
                                (call.say(&Text("enforce", "durchsetzen", "appliquer")))
                            }
                        }
                    }
                } }
            }
        } }
    })
}
