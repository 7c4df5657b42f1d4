//! What a person asks for, as an officer records it: a withdrawal, an objection, an erasure.

use hyper::Method;
use maud::{Markup, html};
use serde_json::{Value, json};

use super::is_hash;
use crate::config::console::Role;
use crate::layout::{onward, token};
use crate::policy::Purpose;
use crate::text::Text;
use crate::trail::{Deed, note};
use crate::value::{list, number, text};
use crate::{Answered, Call, Failure, words};

/// The name of "all purposes" in the form.
const ALL: &str = "all";

/// What can be recorded: the state, what the trail calls it, and what the form says.
const REQUESTS: [(&str, &str, Text); 2] = [
    (
        "withdrawn",
        "person.withdrawn",
        Text("withdraws consent", "widerruft die Einwilligung", "retire son consentement"),
    ),
    ("objected", "person.objected", Text("objects to tracking", "widerspricht", "s’oppose au suivi")),
];

/// Renders the forms that record what the person asks for.
pub(super) fn forms(call: &Call, path: &str, is_known: bool) -> Result<Markup, Failure> {
    let may_erase = call.session()?.rights.allow_all(&[Role::Officer]);
    Ok(html! {
        section class="noprint" {
            h2 { (call.say(&Text("Record a request", "Einen Wunsch festhalten", "Noter une demande"))) }
            @if !is_known {
                p { (call.say(&Text(
                    "Nothing is recorded about this person yet. What you record counts from the first message \
                     on.",
                    "Zu dieser Person ist noch nichts aufgezeichnet. Was Sie festhalten, gilt ab der ersten \
                     Nachricht.",
                    "Rien n’est encore noté sur cette personne. Ce que vous notez vaut dès le premier message.",
                ))) }
            }
            (statement(call, &format!("{path}/withdraw"), is_known))
        }
        @if may_erase && is_known { (erasing(call, &format!("{path}/erase"))) }
    })
}

fn statement(call: &Call, action: &str, is_known: bool) -> Markup {
    let usual = if is_known { "withdrawn" } else { "objected" };
    html! {
        form method="post" action=(action) {
            (token(call, action))
            input type="hidden" name="controller" value=(call.controller);
            div class="field broad" {
                label for="state" { (call.say(&Text("The person", "Die Person", "La personne"))) }
                select id="state" name="state" {
                    @for (state, _, says) in &REQUESTS {
                        option value=(state) selected[*state == usual] { (call.say(says)) }
                    }
                }
            }
            div class="field" {
                label for="purpose" { (call.say(&Text("Purpose", "Zweck", "Finalité"))) }
                select id="purpose" name="purpose" {
                    option value=(ALL) { (call.say(&words::EVERY_PURPOSE)) }
                    @for purpose in Purpose::ALL {
                        option value=(purpose.name()) { (words::purpose(call.language, purpose.name())) }
                    }
                }
            }
            (reason_field(
                call,
                "reason",
                &Text(
                    "How it reached you (reason, reference)",
                    "Wie er Sie erreichte (Grund, Aktenzeichen)",
                    "Comment elle vous est parvenue (motif, référence)",
                ),
            ))
            button { (call.say(&Text("Record", "Festhalten", "Noter"))) }
        }
    }
}

/// Renders the form that erases a person, apart from all others.
fn erasing(call: &Call, action: &str) -> Markup {
    html! {
        section class="noprint apart" {
            h2 { (call.say(&Text("Erase the person", "Die Person löschen", "Effacer la personne"))) }
            p { (call.say(&Text(
                "Nobody can then read what was recorded or link it to the person, for all controllers. This \
                 cannot be undone.",
                "Danach kann niemand mehr lesen, was aufgezeichnet war, oder es der Person zuordnen, bei allen \
                 Verantwortlichen. Es lässt sich nicht rückgängig machen.",
                "Plus personne ne pourra lire ce qui était noté ni le relier à la personne, pour tous les \
                 responsables. C’est irréversible.",
            ))) }
            form method="post" action=(action) {
                (token(call, action))
                input type="hidden" name="controller" value=(call.controller);
                (reason_field(call, "why", &Text("Reason, reference", "Grund, Aktenzeichen", "Motif, référence")))
                label {
                    input type="checkbox" name="sure" value="yes" required;
                    " "
                    (call.say(&Text("I am sure", "Ich bin sicher", "J’en suis sûr")))
                }
                button class="danger" { (call.say(&Text("Erase", "Löschen", "Effacer"))) }
            }
        }
    }
}

fn reason_field(call: &Call, id: &str, label: &Text) -> Markup {
    html! {
        div class="field" {
            label for=(id) { (call.say(label)) }
            input id=(id) name="reason" required maxlength="200" size="40";
        }
    }
}

/// Confirms what was just recorded, from the journal: the address of the page only names the record.
pub(super) fn confirmation(call: &Call, history: &Value) -> Markup {
    let asked: Option<u64> = call.asked("recorded").parse().ok();
    let records = list(history, "records");
    let record = asked.and_then(|asked| records.iter().find(|record| number(record, "record") == asked));
    html! {
        @if let Some(record) = record {
            p class="done" role="status" {
                (call.say(&Text("Recorded as entry", "Festgehalten als Eintrag", "Noté : entrée"))) " "
                (number(record, "record")) ": "
                strong { (words::state(call.language, text(record, "state"))) }
                ", " (words::purposes(call.language, record)) ". "
                (call.say(&Text(
                    "It counts from now on, for mail already delivered, too.",
                    "Es gilt ab jetzt, auch für schon zugestellte E-Mails.",
                    "Cela vaut dès maintenant, y compris pour les e-mails déjà remis.",
                )))
            }
        }
    }
}

/// Confirms an erasure, if the controller knows nothing about the person whom the address of the page names.
pub(super) async fn erasure(call: &Call) -> Result<Markup, Failure> {
    let person = call.asked("erased");
    if is_hash(person).is_err() {
        return Ok(Markup::default());
    }
    let path = format!("/v1/controllers/{}/people/{person}", call.controller);
    match call.console.api.get(&path).await {
        Err(error) if error.is_absence() => Ok(html! {
            p class="done" role="status" {
                (call.say(&Text(
                    "Erased: nothing is recorded any more about person",
                    "Gelöscht: nichts ist mehr aufgezeichnet zu Person",
                    "Effacé : plus rien n’est noté sur la personne",
                )))
                " " code { (person.get(..8).unwrap_or_default()) "…" }
            }
        }),
        other => other.map(|_| Markup::default()).map_err(Failure::from),
    }
}

/// Records a withdrawal or an objection, for one purpose or all. Nothing need be recorded about the person.
pub(crate) async fn withdraw(call: Call) -> Answered {
    is_hash(&call.name)?;
    let reason = reason(&call)?;
    let state = call.form.value("state");
    let (state, action, _) =
        REQUESTS.iter().find(|(name, ..)| *name == state).ok_or(Failure::malformed("state"))?;
    let purposes = match call.form.value("purpose") {
        ALL => Purpose::ALL.to_vec(),
        name => vec![name.parse().map_err(|_| Failure::malformed("purpose"))?],
    };
    let purposes: Vec<&str> = purposes.into_iter().map(Purpose::name).collect();
    note(&call, Deed { detail: Some(&reason), ..Deed::about(action, &call.name) }).await?;
    let subject = call.session()?.subject.clone();
    let said = json!({
        "state": state, "purposes": purposes, "method": "request", "channel": "console", "evidence": reason,
        "actor": subject,
    });
    let path = format!("/v1/controllers/{}/people/{}", call.controller, call.name);
    let recorded = call.console.api.change(Method::PUT, &path, Some(&said)).await?;
    Ok(onward(&call.to(&format!("/person/{}?recorded={}", call.name, number(&recorded, "record")))))
}

pub(crate) async fn erase(call: Call) -> Answered {
    is_hash(&call.name)?;
    if !call.session()?.rights.allow_all(&[Role::Officer]) {
        return Err(Failure::Forbidden);
    }
    if call.form.value("sure") != "yes" {
        return Err(Failure::malformed("sure"));
    }
    let reason = reason(&call)?;
    note(&call, Deed { detail: Some(&reason), ..Deed::about("person.erased", &call.name) }).await?;
    let path = format!("/v1/controllers/{}/people/{}", call.controller, call.name);
    call.console.api.change(Method::DELETE, &path, None).await?;
    Ok(onward(&call.to(&format!("/person?erased={}", call.name))))
}

fn reason(call: &Call) -> Result<String, Failure> {
    let reason = call.form.value("reason").trim();
    let fits = (1..=200).contains(&reason.chars().count())
        && !reason.contains(|character: char| character.is_control());
    fits.then(|| reason.to_owned()).ok_or(Failure::malformed("reason"))
}
