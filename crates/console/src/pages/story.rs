//! The story of one message: what was found, what the person had said, what was decided and done, and what
//! the next hop answered, as steps that link to what they rest on.
//!
//! Promised: subject and Message-ID appear only to officers, and only once they have named the recipient,
//! for whom alone they open; that look is in the audit trail.

use std::collections::BTreeMap;

use maud::{Markup, html};
use serde_json::{Value, json};

use super::messages::RECORDS;
use super::{hash_of, is_hash, moment_of, short, unanswered};
use crate::config::console::Role;
use crate::layout::{self, Page, onward, shown, token};
use crate::text::Text;
use crate::trail::{Deed, note};
use crate::value::{flag, list, maybe, number, text};
use crate::words::Step;
use crate::{Answered, Call, Failure, query, words};

/// The number of recipients on a page about a message.
const RECIPIENTS: usize = 20;
/// How far from the time in a link a message's records are searched, in milliseconds: they are written
/// together.
const AROUND: i64 = 60 * 60 * 1000;

/// A recipient whom an officer has named, and what they have said so far.
struct Reader {
    person: String,
    history: Value,
}

/// Fetches the records of one message, with their proofs; only those of a recipient, if there is one.
async fn of_message(call: &Call, person: Option<&str>) -> Result<Value, Failure> {
    let is_plain =
        (1..=64).contains(&call.name.len()) && call.name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let at = moment_of(call.asked("at")).filter(|_| is_plain).ok_or(Failure::Nothing)?;
    let near = |difference: i64| crate::consent::Timestamp(at.0.saturating_add(difference)).to_string();
    let mut wanted = json!(
        { "id": call.name, "since": near(-AROUND), "until": near(AROUND), "limit": RECORDS, "proof": true }
    );
    if let (Some(person), Some(wanted)) = (person, wanted.as_object_mut()) {
        wanted.insert("recipient".to_owned(), person.into());
        wanted.insert("headlines".to_owned(), true.into());
    }
    let path = format!("/v1/controllers/{}/evidence/search", call.controller);
    let found = call.console.api.post(&path, &wanted).await?;
    if list(&found, "records").is_empty() {
        return Err(Failure::Nothing);
    }
    Ok(found)
}

/// Returns whether the session may see whom a message went to.
fn is_officer(call: &Call) -> bool {
    call.session.as_ref().is_some_and(|session| session.rights.allow(&[Role::Officer], &call.controller))
}

/// Returns the recipient in the address of the page, and what they have said. Operators see neither.
async fn reader(call: &Call) -> Result<Option<Reader>, Failure> {
    let person = call.asked("person");
    if person.is_empty() || !is_officer(call) {
        return Ok(None);
    }
    is_hash(person)?;
    let path = format!("/v1/controllers/{}/people/{person}/history", call.controller);
    let history = match call.console.api.get(&path).await {
        Err(error) if error.is_absence() => Value::Null,
        other => other?,
    };
    Ok(Some(Reader { person: person.to_owned(), history }))
}

pub(crate) async fn page(call: Call) -> Answered {
    let reader = reader(&call).await?;
    let found = of_message(&call, reader.as_ref().map(|reader| reader.person.as_str())).await?;
    let deed = Deed::of("message.viewed", &call.name);
    note(&call, Deed { person: reader.as_ref().map(|reader| reader.person.as_str()), ..deed }).await?;
    let title =
        call.say(&Text("A message’s story", "Was mit einer Nachricht geschah", "L’histoire d’un message"));
    let rows = list(&found, "records");
    let from = call.asked("from").parse::<usize>().unwrap_or(1).clamp(1, rows.len().max(1));
    let content = html! {
        h1 { (title) }
        div class="actions noprint" {
            a class="button" href=(call.to(&path(&call, "/export"))) {
                (call.say(&Text("Export the proof", "Nachweis exportieren", "Exporter la preuve")))
            }
            @if reader.is_some() {
                a class="button quiet" href=(call.to(&path(&call, ""))) {
                    (call.say(&Text("All recipients", "Alle Empfänger", "Tous les destinataires")))
                }
            }
        }
        (facts(&call, rows))
        (unanswered(&call, &found))
        @if reader.is_none() && is_officer(&call) { (name_the_recipient(&call)) }
        @if flag(&found, "more") {
            p class="soft" { (call.say(&Text(
                "There are more; pixelward evidence export has them all.",
                "Es gibt mehr als diese; pixelward evidence export hat sie alle.",
                "Il y en a davantage ; pixelward evidence export les contient tous.",
            ))) }
        }
        @for (place, row) in rows.iter().enumerate().skip(from - 1).take(RECIPIENTS) {
            (recipient(&call, place + 1, row, reader.as_ref()))
        }
        div class="actions noprint" {
            @if from > 1 { (others(&call, from.saturating_sub(RECIPIENTS).max(1), rows.len())) }
            @if from + RECIPIENTS <= rows.len() { (others(&call, from + RECIPIENTS, rows.len())) }
        }
    };
    Ok(shown(&call, &Page::new(title, content)))
}

/// Takes the recipient's address, which opens what is sealed for them.
pub(crate) async fn open(call: Call) -> Answered {
    let person = hash_of(&call, call.form.value("address").trim()).await?;
    note(&call, Deed::about("person.searched", &person)).await?;
    let at = query::encoded(call.form.value("at"));
    let path = format!("/messages/{}?at={at}&person={person}", query::encoded(&call.name));
    Ok(onward(&call.to(&path)))
}

/// Returns the path of a page about this message, without a recipient.
fn path(call: &Call, below: &str) -> String {
    format!("/messages/{}{below}?at={}", query::encoded(&call.name), query::encoded(call.asked("at")))
}

fn others(call: &Call, from: usize, count: usize) -> Markup {
    let to = (from + RECIPIENTS - 1).min(count);
    html! {
        a class="button quiet" href=(call.to(&format!("{}&from={from}", path(call, "")))) {
            (call.say(&Text("Recipients", "Empfänger", "Destinataires")))
            " "
            (from)
            "–"
            (to)
        }
    }
}

/// Renders what holds for all recipients.
fn facts(call: &Call, rows: &[Value]) -> Markup {
    let row = rows.first().cloned().unwrap_or_default();
    let first = row.get("record").cloned().unwrap_or_default();
    let campaign = text(&first, "campaign");
    html! {
        dl {
            @if let Some(subject) = maybe(&row, "subject") {
                dt { (call.say(&Text("Subject", "Betreff", "Objet"))) }
                dd { strong { (subject) } }
            }
            @if let Some(message_id) = maybe(&row, "message_id").filter(|id| !id.is_empty()) {
                dt { "Message-ID" } dd { code { (message_id) } }
            } @else if let Some(hash) = maybe(&first, "message_id") {
                dt { (call.say(&Text(
                    "Message-ID, as a keyed hash",
                    "Message-ID, als Hash mit Schlüssel",
                    "Message-ID, sous forme d’empreinte à clé",
                ))) }
                dd { code { (hash) } }
            }
            @if !campaign.is_empty() {
                dt { (call.say(&Text("Campaign", "Kampagne", "Campagne"))) }
                dd {
                    @let of_it = format!("/messages?campaign={}", query::encoded(campaign));
                    a class="tag" href=(call.to(&of_it)) {
                        (campaign)
                    }
                }
            }
            dt { (call.say(&Text("The relay’s id", "Kennung des Relays", "Identifiant du relais"))) }
            dd { code { (call.name) } }
            @if let Some(relay) = maybe(&row, "relay") {
                dt { (call.say(&Text("Handled by relay", "Bearbeitet von Relay", "Traité par le relais"))) }
                dd { (short(relay)) }
            }
            dt { (call.say(&Text("Mailstream", "Mailart", "Flux"))) } dd { (text(&first, "mailstream")) }
            dt { (call.say(&Text("Recipients on record", "Verzeichnete Empfänger", "Destinataires notés"))) }
            dd { (call.language.number(rows.len() as u64)) }
            dt { (call.say(&Text("Tracked links", "Tracking-Links", "Liens de suivi"))) }
            dd { (call.language.number(number(&first, "links"))) }
            @if number(&first, "unreadable") > 0 {
                dt { (call.say(&Text("Unreadable parts", "Unlesbare Teile", "Parties illisibles"))) }
                dd { (call.language.number(number(&first, "unreadable"))) }
            }
            dt { (call.say(&Text("What was done", "Was getan wurde", "Ce qui a été fait"))) }
            dd { (done(call, rows)) }
        }
    }
}

/// Renders the field for the recipient's address.
fn name_the_recipient(call: &Call) -> Markup {
    let action = format!("/messages/{}", query::encoded(&call.name));
    html! {
        form class="noprint" method="post" action=(action) {
            (token(call, &action))
            input type="hidden" name="controller" value=(call.controller);
            input type="hidden" name="at" value=(call.asked("at"));
            div class="field" {
                label for="address" { (call.say(&Text(
                    "A recipient’s address: shows their consent, and the subject if it is kept",
                    "Adresse eines Empfängers: zeigt dessen Einwilligung und, wenn er aufgehoben wird, den \
                     Betreff",
                    "Adresse d’un destinataire : montre son consentement et l’objet, s’il est conservé",
                ))) }
                input id="address" name="address" type="email" required size="36" autocomplete="off";
            }
            button class="quiet" { (call.say(&Text("Show", "Zeigen", "Afficher"))) }
        }
    }
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

fn recipient(call: &Call, place: usize, row: &Value, reader: Option<&Reader>) -> Markup {
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
            ol class="timeline" {
                li {
                    span class="soft" { (call.language.moment(text(&record, "time"))) }
                    p {
                        (call.say(&Text("Received through", "Angenommen am Eingang", "Reçu par")))
                        " "
                        (text(&record, "listener"))
                        "."
                    }
                }
                @for (step, sentences) in words::steps(call.language, &record) {
                    li {
                        @for sentence in sentences { p { (sentence) } }
                        @match step {
                            Step::Found => (reports(call, &record)),
                            Step::Consent => (consent(call, &record, reader)),
                            Step::Decided => p {
                                a href=(part(call, "/streams", text(&record, "version"))) {
                                    (call.say(&Text("These rules", "Diese Regeln", "Ces règles")))
                                }
                            },
                            Step::Done => {}
                            Step::Delivered => p {
                                span class="soft" {
                                    (call.say(&Text("Next hop: ", "Nächster Server: ", "Serveur suivant : ")))
                                    (text(&record, "route"))
                                }
                            },
                        }
                    }
                }
            }
            (proof_of(call, &record, &proof))
        }
    }
}

/// Returns the address of a part of a page.
fn part(call: &Call, path: &str, name: &str) -> String {
    format!("{}#{name}", call.to(path))
}

/// Links to where the trackers report to.
fn reports(call: &Call, record: &Value) -> Markup {
    let vendors: Vec<&str> =
        list(record, "sightings").iter().map(|sighting| text(sighting, "vendor")).collect();
    let hosts = |vendor: &str| {
        let of_it = list(record, "reports").iter().filter(|reported| text(reported, "vendor") == vendor);
        of_it.map(|reported| text(reported, "host")).collect::<Vec<_>>().join(", ")
    };
    let mut seen: Vec<&str> = Vec::new();
    for vendor in vendors {
        if !seen.contains(&vendor) {
            seen.push(vendor);
        }
    }
    html! {
        @for vendor in seen {
            p {
                a href=(part(call, "/trackers", &layout::anchor("vendor", vendor))) { (vendor) }
                @let hosts = hosts(vendor);
                @if !hosts.is_empty() {
                    " "
                    span class="soft" {
                        (call.say(&Text("reports to", "meldet an", "signale à")))
                        " "
                        code { (hosts) }
                    }
                }
            }
        }
    }
}

/// Links to the consent record and to the version of the notice that was shown, for a recipient who is named.
fn consent(call: &Call, record: &Value, reader: Option<&Reader>) -> Markup {
    let number_of_it = number(record, "consent_record");
    let Some(reader) = reader else {
        return html! {
            p class="soft" { (call.say(&Text(
                "It opens once the recipient is named.",
                "Er öffnet sich, sobald der Empfänger genannt ist.",
                "Elle s’ouvre une fois le destinataire nommé.",
            ))) }
        };
    };
    let said = list(&reader.history, "records");
    let said = said.iter().find(|said| number(said, "record") == number_of_it);
    let to = format!("/person/{}", reader.person);
    html! {
        @if let Some(said) = said {
            p {
                a href=(format!("{}#record-{number_of_it}", call.to(&to))) {
                    (words::said(call.language, said))
                    ", "
                    (call.language.moment(text(said, "event_time")))
                }
            }
            @if let Some(version) = maybe(said, "notice_version") {
                p {
                    (call.say(&Text("Notice shown: ", "Gezeigter Hinweis: ", "Information affichée : ")))
                    a href=(part(call, "/history", &layout::anchor("notice", version))) { (version) }
                }
            }
        }
    }
}

fn proof_of(call: &Call, record: &Value, proof: &Value) -> Markup {
    html! {
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
                    (number(proof, "chain"))
                    ", "
                    (number(proof, "segment"))
                    ", "
                    (number(proof, "record"))
                }
                dt { (call.say(&Text("Hash before", "Hash davor", "Empreinte avant"))) }
                dd { code { (text(proof, "hash_before")) } }
                dt { (call.say(&Text("Hash including it", "Hash damit", "Empreinte avec"))) }
                dd { code { (text(proof, "hash")) } }
                dt {
                    (call.say(&Text("Body as received", "Inhalt bei Ankunft", "Corps à l’arrivée")))
                    " (" (hash_of_body(record)) ")"
                }
                dd { code { (text(record, "body_before")) } }
                dt {
                    (call.say(&Text("Body as sent", "Inhalt beim Weggang", "Corps au départ")))
                    " (" (hash_of_body(record)) ")"
                }
                dd { code { (text(record, "body_after")) } }
            }
        }
    }
}

pub(crate) async fn export(call: Call) -> Answered {
    let found = of_message(&call, None).await?;
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
