//! Audit records by message, and the story of one message.

use std::collections::BTreeMap;

use maud::{Markup, html};
use serde_json::{Map, Value, json};

use super::{hash_of, moment_of};
use crate::figures::OUTCOMES;
use crate::layout::{self, Page, shown, token};
use crate::text::Text;
use crate::trail::{Deed, note};
use crate::value::{flag, list, number, text};
use crate::{Answered, Call, Failure, query, words};

/// The number of records on a page: one per recipient, so there are fewer rows.
const RECORDS: usize = 1000;
/// The number of recipients on a page about a message.
const RECIPIENTS: usize = 20;
/// How far from the time in a link a message's records are searched, in milliseconds: they are written
/// together.
const AROUND: i64 = 60 * 60 * 1000;

pub(crate) async fn page(call: Call) -> Answered {
    let asked = wanted(&call)?;
    listed(call, asked).await
}

/// Lists the mail of one recipient, which the audit trail notes.
pub(crate) async fn of_recipient(call: Call) -> Answered {
    let person = hash_of(&call, call.form.value("address").trim()).await?;
    note(&call, Deed::about("person.searched", &person)).await?;
    let wanted = json!({ "recipient": person, "limit": RECORDS });
    listed(call, (wanted, String::new(), String::new())).await
}

/// Shows the records that the API finds, below the fields with these days.
async fn listed(call: Call, (wanted, since, until): (Value, String, String)) -> Answered {
    let path = format!("/v1/controllers/{}/evidence/search", call.controller);
    let found = call.console.api.post(&path, &wanted).await?;
    let title = call.say(&Text("Messages", "Nachrichten", "Messages"));
    let rows = list(&found, "records");
    let oldest =
        rows.last().and_then(|row| row.get("record")).map(|record| text(record, "time")).unwrap_or_default();
    let content = html! {
        h1 { (title) }
        (filters(&call, &since, &until).await?)
        (by_message_id(&call))
        @if call.session.as_ref().is_some_and(|session| (call.is_open)(session, "/person")) {
            (by_address(&call))
        }
        @if !flag(&found, "complete") {
            p class="bad" { (call.say(&Text(
                "Some audit records cannot be read and are missing here. Run pixelward evidence verify.",
                "Ein Teil der Nachweise ist nicht lesbar und fehlt hier. Rufen Sie pixelward evidence verify \
                 auf.",
                "Une partie des preuves est illisible et manque ici. Lancez pixelward evidence verify.",
            ))) }
        }
        (table(&call, &found))
        @if flag(&found, "more") && call.form.fields.is_empty() {
            p {
                a class="button quiet" href=(older(&call, oldest)) {
                    (call.say(&Text("Older ones", "Ältere", "Plus anciens")))
                }
            }
        }
    };
    Ok(shown(&call, &Page::new(title, content)))
}

/// Builds the query for the API, and the days that the fields show.
fn wanted(call: &Call) -> Result<(Value, String, String), Failure> {
    let mut wanted = Map::new();
    wanted.insert("limit".to_owned(), RECORDS.into());
    let message_id = call.form.value("message_id").trim();
    if !message_id.is_empty() {
        wanted.insert("message_id".to_owned(), message_id.into());
        return Ok((Value::Object(wanted), String::new(), String::new()));
    }
    for name in ["mailstream", "outcome", "vendor"] {
        if !call.asked(name).is_empty() {
            wanted.insert(name.to_owned(), call.asked(name).into());
        }
    }
    let day = |name: &'static str| match call.asked(name) {
        "" => Ok(None),
        day => moment_of(day).map(Some).ok_or(Failure::malformed(name)),
    };
    if let Some(first) = day("since")? {
        wanted.insert("since".to_owned(), first.to_string().into());
    }
    let before = day("before")?;
    // The last day is included.
    if let Some(end) = before.or(day("until")?.map(|day| day.plus_days(1))) {
        wanted.insert("until".to_owned(), end.to_string().into());
    }
    Ok((Value::Object(wanted), call.asked("since").to_owned(), call.asked("until").to_owned()))
}

async fn filters(call: &Call, since: &str, until: &str) -> Result<Markup, Failure> {
    let policy = call.console.policy().await?;
    let controller =
        list(&policy, "controllers").iter().find(|controller| text(controller, "name") == call.controller);
    let streams: Vec<&str> = controller
        .map_or(&[][..], |controller| list(controller, "mailstreams"))
        .iter()
        .map(|stream| text(stream, "name"))
        .collect();
    let any = call.say(&Text("any", "alle", "tous"));
    let select = |name: &str, title: &Text, choices: Vec<(String, String)>| {
        html! {
            div class="field" {
                label for=(name) { (call.say(title)) }
                select id=(name) name=(name) {
                    option value="" { (any) }
                    @for (value, shown) in &choices {
                        option value=(value) selected[call.asked(name) == value] { (shown) }
                    }
                }
            }
        }
    };
    let outcomes = OUTCOMES
        .iter()
        .map(|outcome| ((*outcome).to_owned(), words::outcome(call.language, outcome)))
        .collect();
    let streams = streams.iter().map(|stream| ((*stream).to_owned(), (*stream).to_owned())).collect();
    Ok(html! {
        form class="noprint" method="get" action="/messages" {
            input type="hidden" name="controller" value=(call.controller);
            div class="field" {
                label for="since" { (call.say(&Text("From", "Von", "Du"))) }
                input id="since" name="since" type="date" value=(since);
            }
            div class="field" {
                label for="until" { (call.say(&Text("To", "Bis", "Au"))) }
                input id="until" name="until" type="date" value=(until);
            }
            (select("mailstream", &Text("Mailstream", "Mailart", "Flux"), streams))
            (select("outcome", &Text("Outcome", "Ergebnis", "Résultat"), outcomes))
            div class="field" {
                label for="vendor" { (call.say(&Text("Vendor", "Anbieter", "Fournisseur"))) }
                input id="vendor" name="vendor" value=(call.asked("vendor")) size="14";
            }
            button { (call.say(&Text("Search", "Suchen", "Chercher"))) }
        }
    })
}

/// Renders the search for one Message-ID. It may look like an address, so it is sent in the body.
fn by_message_id(call: &Call) -> Markup {
    let label = Text("or by Message-ID", "oder nach Message-ID", "ou par Message-ID");
    search(call, "/messages", "message_id", "text", &label)
}

/// Renders the search for one recipient, whose address becomes a keyed hash.
fn by_address(call: &Call) -> Markup {
    let label = Text("or by recipient", "oder nach Empfänger", "ou par destinataire");
    search(call, "/messages/recipient", "address", "email", &label)
}

/// Renders a form with one field, which is sent in the body.
fn search(call: &Call, action: &str, name: &str, kind: &str, label: &Text) -> Markup {
    html! {
        form class="noprint" method="post" action=(action) {
            (token(call, action))
            input type="hidden" name="controller" value=(call.controller);
            div class="field" {
                label for=(name) { (call.say(label)) }
                input id=(name) name=(name) type=(kind) required size="36" autocomplete="off";
            }
            button class="quiet" { (call.say(&Text("Search", "Suchen", "Chercher"))) }
        }
    }
}

fn older(call: &Call, oldest: &str) -> String {
    let mut path = format!("/messages?before={}", query::encoded(oldest));
    for name in ["since", "mailstream", "outcome", "vendor"] {
        if !call.asked(name).is_empty() {
            path.push_str(&format!("&{name}={}", query::encoded(call.asked(name))));
        }
    }
    call.to(&path)
}

const FOR: Text = Text("for", "bei", "pour");
const AT_LEAST: Text = Text("for at least", "bei mindestens", "pour au moins");

/// Renders records as rows that link to their stories. Recipients of a message that were handled alike share
/// a row.
pub(super) fn table(call: &Call, found: &Value) -> Markup {
    let way = |row: &Value| {
        let record = row.get("record").cloned().unwrap_or_default();
        ["id", "done", "rule", "result", "mailstream"].map(|name| text(&record, name).to_owned())
    };
    let rows: Vec<&[Value]> = list(found, "records").chunk_by(|row, next| way(row) == way(next)).collect();
    let columns = [
        Text("When", "Wann", "Quand"),
        Text("Mailstream", "Mailart", "Flux"),
        Text("What was done", "Was getan wurde", "Ce qui a été fait"),
        Text("Why", "Warum", "Pourquoi"),
        Text("Found", "Gefunden", "Trouvés"),
        Text("Result", "Ausgang", "Issue"),
    ];
    html! {
        @if rows.is_empty() {
            p class="empty" {
                (call.say(&Text(
                    "No matching records.",
                    "Dazu gibt es keinen Nachweis.",
                    "Il n’y en a aucune trace.",
                )))
            }
        } @else {
            div class="wide" tabindex="0" { table class="flow" {
                thead { tr { @for column in &columns { th scope="col" { (call.say(column)) } } } }
                tbody {
                    @for (place, group) in rows.iter().enumerate() {
                        @let is_cut = place + 1 == rows.len() && flag(found, "more");
                        @let record =
                            group.first().and_then(|row| row.get("record")).cloned().unwrap_or_default();
                        @let vendors: Vec<&str> =
                            list(
                                &record,
                                "sightings",
                            ).iter().map(|sighting| text(sighting, "vendor")).collect();
                        tr {
                            th scope="row" class="nowrap" {
                                a href=(story_path(call, &record)) { (call.language.moment(text(&record, "time"))) }
                            }
                            td { (text(&record, "mailstream")) }
                            td { (words::outcome(call.language, text(&record, "done")))
                                @if flag(&record, "observed") {
                                    " ("
                                    (call.say(&Text("observed only", "nur beobachtet", "observé seulement")))
                                    ")"
                                }
                                @if group.len() > 1 {
                                    ", "
                                    (call.say(if is_cut { &AT_LEAST } else { &FOR }))
                                    " "
                                    (call.language.number(group.len() as u64))
                                    " "
                                    (call.say(&Text("recipients", "Empfängern", "destinataires")))
                                }
                            }
                            td class="prose" { (words::rule(call.language, text(&record, "rule"))) }
                            td {
                                (number(&record, "found"))
                                @if !vendors.is_empty() { " (" (vendors.join(", ")) ")" }
                            }
                            td { (words::result(call.language, text(&record, "result"))) }
                        }
                    }
                }
            } }
        }
    }
}

fn story_path(call: &Call, record: &Value) -> String {
    let path = format!(
        "/messages/{}?at={}",
        query::encoded(text(record, "id")),
        query::encoded(text(record, "time"))
    );
    call.to(&path)
}

/// Fetches the records of one message, with their proofs.
async fn of_message(call: &Call) -> Result<Value, Failure> {
    let is_plain =
        (1..=64).contains(&call.name.len()) && call.name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let at = moment_of(call.asked("at")).filter(|_| is_plain).ok_or(Failure::Nothing)?;
    let near = |difference: i64| crate::consent::Timestamp(at.0.saturating_add(difference)).to_string();
    let wanted = json!(
        { "id": call.name, "since": near(-AROUND), "until": near(AROUND), "limit": RECORDS, "proof": true }
    );
    let path = format!("/v1/controllers/{}/evidence/search", call.controller);
    let found = call.console.api.post(&path, &wanted).await?;
    if list(&found, "records").is_empty() {
        return Err(Failure::Nothing);
    }
    Ok(found)
}

pub(crate) async fn story(call: Call) -> Answered {
    let found = of_message(&call).await?;
    note(&call, Deed::of("message.viewed", &call.name)).await?;
    let title =
        call.say(&Text("A message’s story", "Was mit einer Nachricht geschah", "L’histoire d’un message"));
    let rows = list(&found, "records");
    let first = rows.first().and_then(|row| row.get("record")).cloned().unwrap_or_default();
    let from = call.asked("from").parse::<usize>().unwrap_or(1).clamp(1, rows.len().max(1));
    let at = query::encoded(call.asked("at"));
    let export = format!("/messages/{}/export?at={at}", query::encoded(&call.name));
    let others = |from: usize| {
        let path = format!("/messages/{}?at={at}&from={from}", query::encoded(&call.name));
        let to = (from + RECIPIENTS - 1).min(rows.len());
        html! {
            a class="button quiet" href=(call.to(&path)) {
                (call.say(&Text("Recipients", "Empfänger", "Destinataires")))
                " "
                (from)
                "–"
                (to)
            }
        }
    };
    let content = html! {
        h1 { (title) }
        div class="actions noprint" {
            a class="button" href=(call.to(&export)) {
                (call.say(&Text("Export the proof", "Nachweis exportieren", "Exporter la preuve")))
            }
        }
        dl {
            dt { (call.say(&Text("The relay’s id", "Kennung des Relays", "Identifiant du relais"))) }
            dd { code { (call.name) } }
            dt { (call.say(&Text("Received by", "Kam herein über", "Entré par"))) }
            dd { (text(&first, "listener")) }
            dt { (call.say(&Text("Mailstream", "Mailart", "Flux"))) } dd { (text(&first, "mailstream")) }
            dt { (call.say(&Text("Sent on to", "Ging weiter an", "Transmis à"))) }
            dd { (text(&first, "route")) }
            dt { (call.say(&Text("Recipients on record", "Verzeichnete Empfänger", "Destinataires notés"))) }
            dd { (call.language.number(rows.len() as u64)) }
            dt { (call.say(&Text("Tracked links", "Links mit Nachverfolgung", "Liens suivis"))) }
            dd { (call.language.number(number(&first, "links"))) }
            @if number(&first, "unreadable") > 0 {
                dt { (call.say(&Text("Unreadable parts", "Unlesbare Teile", "Parties illisibles"))) }
                dd { (call.language.number(number(&first, "unreadable"))) }
            }
            dt { (call.say(&Text("What was done", "Was getan wurde", "Ce qui a été fait"))) }
            dd { (done(&call, rows)) }
        }
        @if flag(&found, "more") {
            p class="soft" { (call.say(&Text(
                "There are more; pixelward evidence export has them all.",
                "Es gibt mehr als diese; pixelward evidence export hat sie alle.",
                "Il y en a davantage ; pixelward evidence export les contient tous.",
            ))) }
        }
        @for (place, group) in rows.iter().enumerate().skip(from - 1).take(RECIPIENTS) {
            (recipient(&call, place + 1, group))
        }
        div class="actions noprint" {
            @if from > 1 { (others(from.saturating_sub(RECIPIENTS).max(1))) }
            @if from + RECIPIENTS <= rows.len() { (others(from + RECIPIENTS)) }
        }
    };
    Ok(shown(&call, &Page::new(title, content)))
}

/// Lists the outcomes, with the number of copies each.
fn done(call: &Call, rows: &[Value]) -> String {
    let mut counts = BTreeMap::new();
    for row in rows {
        let record = row.get("record").cloned().unwrap_or_default();
        *counts.entry(words::outcome(call.language, text(&record, "done"))).or_insert(0) += 1;
    }
    let counts =
        counts.into_iter().map(|(outcome, count)| format!("{outcome}: {}", call.language.number(count)));
    counts.collect::<Vec<_>>().join(", ")
}

fn recipient(call: &Call, place: usize, row: &Value) -> Markup {
    let record = row.get("record").cloned().unwrap_or_default();
    let proof = row.get("proof").cloned().unwrap_or_default();
    html! {
        article {
            h2 {
                (call.say(&Text("Recipient", "Empfänger", "Destinataire")))
                " "
                (place)
                ": "
                (words::outcome(call.language, text(&record, "done")))
            }
            p { (call.language.moment(text(&record, "time"))) }
            @for sentence in words::story(call.language, &record) { p { (sentence) } }
            details {
                summary { (call.say(&Text("Proof", "Nachweis", "Preuve"))) }
                dl {
                    dt {
                        (call.say(&Text(
                            "Chain, segment, record",
                            "Kette, Segment, Eintrag",
                            "Chaîne, segment, entrée",
                        )))
                    }
                    dd {
                        (number(&proof, "chain"))
                        ", "
                        (number(&proof, "segment"))
                        ", "
                        (number(&proof, "record"))
                    }
                    dt { (call.say(&Text("Hash before", "Hash davor", "Empreinte avant"))) }
                    dd { code { (text(&proof, "hash_before")) } }
                    dt { (call.say(&Text("Hash including it", "Hash damit", "Empreinte avec"))) }
                    dd { code { (text(&proof, "hash")) } }
                    dt {
                        (call.say(&Text("Body as received", "Inhalt bei Ankunft", "Corps à l’arrivée")))
                        " (" (hash_of_body(&record)) ")"
                    }
                    dd { code { (text(&record, "body_before")) } }
                    dt {
                        (call.say(&Text("Body as sent", "Inhalt beim Weggang", "Corps au départ")))
                        " (" (hash_of_body(&record)) ")"
                    }
                    dd { code { (text(&record, "body_after")) } }
                }
            }
        }
    }
}

pub(crate) async fn export(call: Call) -> Answered {
    let found = of_message(&call).await?;
    note(&call, Deed::of("message.exported", &call.name)).await?;
    let all = json!({
        "id": call.name, "controller": call.controller, "complete": flag(&found, "complete"),
            "records": found.get("records"),
    });
    layout::download(&all, &format!("message-{}.json", call.name))
}

/// Names the hash of a record's bodies; what relays before this field gave was SHA-256.
fn hash_of_body(record: &Value) -> &'static str {
    match text(record, "body_hash") {
        "blake3" => "BLAKE3",
        _ => "SHA-256",
    }
}
