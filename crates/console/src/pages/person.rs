//! One person: what they said, what was done with their mail, and the proof. The address is entered once, in
//! the body of a form, and becomes a keyed hash immediately; it appears in no page address, log or page.

use axum::body::Body;
use axum::http::Response;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue};
use hyper::Method;
use maud::{Markup, html};
use serde_json::{Value, json};

use super::messages::table;
use super::{hash_of, is_hash, request};
use crate::client::ApiError;
use crate::layout::{self, Page, onward, shown, token};
use crate::text::Text;
use crate::trail::{Deed, note};
use crate::value::{flag, list, maybe, number, text};
use crate::{Answered, Call, Failure, words};

/// How many of a person's messages a page has. Each may be in a different segment, so more would take long.
const MESSAGES: usize = 20;
/// How many messages an export has.
const EXPORTED: usize = 10_000;

pub(crate) async fn search(call: Call) -> Answered {
    let title = call.say(&Text("Person", "Person", "Personne"));
    let content = html! {
        h1 { (title) }
        (request::erasure(&call).await?)
        p { (call.say(&Text(
            "The address is turned into a keyed hash immediately. It is neither kept nor logged, and your \
             search is recorded in the audit trail.",
            "Die Adresse wird sofort zu einem mit einem Schlüssel gebildeten Hash. Sie wird weder aufbewahrt \
             noch protokolliert, und dass Sie nachgesehen haben, steht im Prüfprotokoll.",
            "L’adresse devient aussitôt une empreinte à clé. Elle n’est ni gardée ni journalisée, et votre \
             consultation est notée dans le journal d’audit.",
        ))) }
        form method="post" action="/person" {
            (token(&call, "/person"))
            input type="hidden" name="controller" value=(call.controller);
            div class="field" {
                label for="address" { (call.say(&Text("Mail address", "E-Mail-Adresse", "Adresse e-mail"))) }
                input id="address" name="address" type="email" required autocomplete="off" size="36";
            }
            button { (call.say(&Text("Find", "Suchen", "Chercher"))) }
        }
    };
    Ok(shown(&call, &Page::new(title, content)))
}

pub(crate) async fn find(call: Call) -> Answered {
    let person = hash_of(&call, call.form.value("address").trim()).await?;
    note(&call, Deed::about("person.searched", &person)).await?;
    Ok(onward(&call.to(&format!("/person/{person}"))))
}

/// What is known about a person.
struct Known {
    /// The consent; `None` if the controller does not know the person.
    consent: Option<Value>,
    history: Value,
    messages: Value,
}

pub(crate) async fn page(call: Call) -> Answered {
    is_hash(&call.name)?;
    note(&call, Deed::about("person.viewed", &call.name)).await?;
    let known = known(&call).await?;
    let title = call.say(&Text("Person", "Person", "Personne"));
    let path = format!("/person/{}", call.name);
    let content = html! {
        h1 { (title) " " code { (call.name.get(..8).unwrap_or_default()) "…" } }
        div class="actions noprint" {
            a class="button" href=(call.to(&format!("{path}/export"))) {
                (call.say(&Text("Export the proof", "Nachweis exportieren", "Exporter la preuve")))
            }
            @if known.consent.is_some() {
                a class="button quiet" href=(call.to(&format!("{path}/print"))) {
                    (call.say(&Text("Page to print", "Seite zum Drucken", "Page à imprimer")))
                }
            }
        }
        (request::confirmation(&call, &known.history))
        h2 { (call.say(&Text("Current consent", "Was jetzt gilt", "Ce qui vaut maintenant"))) }
        @match &known.consent {
            None => p class="empty" { (call.say(&Text(
                "This controller has recorded nothing about this person. Silence is not consent: trackers \
                 are removed.",
                "Dieser Verantwortliche hat zu dieser Person nichts aufgezeichnet. Schweigen ist keine \
                 Einwilligung: Tracker werden entfernt.",
                "Ce responsable n’a rien noté sur cette personne. Le silence n’est pas un consentement : les \
                 traceurs sont retirés.",
            ))) },
            Some(consent) => (stands(&call, consent, &known.history)),
        }
        h2 { (call.say(&Text("Messages handled", "Behandelte Nachrichten", "Messages traités"))) }
        (table(&call, &known.messages, Some(&call.name)))
        @if flag(&known.messages, "more") {
            p class="soft" { (call.say(&Text(
                "These are the newest. The exported proof has all of them.",
                "Das sind die neuesten. Der exportierte Nachweis enthält alle.",
                "Ce sont les plus récents. La preuve exportée les contient tous.",
            ))) }
        }
        h2 { (call.say(&Text("Everything said so far", "Alles bisher Gesagte", "Tout ce qui a été dit"))) }
        (history(&call, &known.history))
        (request::forms(&call, &path, known.consent.is_some())?)
    };
    Ok(shown(&call, &Page::new(title, content)))
}

async fn known(call: &Call) -> Result<Known, Failure> {
    let base = format!("/v1/controllers/{}/people/{}", call.controller, call.name);
    let search = json!({ "recipient": call.name, "limit": MESSAGES });
    let evidence = format!("/v1/controllers/{}/evidence/search", call.controller);
    let history_path = format!("{base}/history");
    let (consent, history, messages) = tokio::join!(
        call.console.api.get(&base),
        call.console.api.get(&history_path),
        call.console.api.post(&evidence, &search)
    );
    let absent = |result: Result<Value, ApiError>| match result {
        Err(error) if error.is_absence() => Ok(None),
        other => other.map(Some),
    };
    Ok(Known {
        consent: absent(consent)?,
        history: absent(history)?.unwrap_or_default(),
        messages: messages?,
    })
}

/// Describes what the person last said about a purpose: the newest record about it knows more than its state.
fn last_said(call: &Call, standing: &Value, history: &Value) -> String {
    let is_it = |record: &&Value| number(record, "record") == number(standing, "record");
    let record = list(history, "records").iter().find(is_it);
    words::said(call.language, record.unwrap_or(standing))
}

fn stands(call: &Call, consent: &Value, history: &Value) -> Markup {
    html! {
        div class="wide" tabindex="0" { table {
            thead { tr {
                th scope="col" { (call.say(&Text("Purpose", "Zweck", "Finalité"))) }
                th scope="col" {
                    (call.say(&Text(
                        "May a tracker stay?",
                        "Darf ein Tracker bleiben?",
                        "Un traceur peut-il rester ?",
                    )))
                }
                th scope="col" { (call.say(&Text("Last said", "Zuletzt gesagt", "Dernière réponse"))) }
                th scope="col" { (call.say(&Text("When", "Wann", "Quand"))) }
                th scope="col" { (call.say(&Text("Until", "Bis", "Jusqu’au"))) }
            } }
            tbody {
                @for standing in list(consent, "purposes") {
                    tr {
                        th scope="row" { (words::purpose(call.language, text(standing, "purpose"))) }
                        td {
                            @if flag(standing, "allowed") {
                                span class="good" { (call.say(&Text("yes", "ja", "oui"))) }
                            } @else {
                                span class="bad" { (call.say(&Text("no", "nein", "non"))) }
                            }
                        }
                        td { (last_said(call, standing, history)) }
                        td class="nowrap" { (call.language.moment(text(standing, "event_time"))) }
                        td class="nowrap" {
                            @match maybe(standing, "expires") {
                                Some(end) => (call.language.moment(end)),
                                None => "–",
                            }
                        }
                    }
                }
            }
        } }
        dl {
            @if flag(consent, "no_track") {
                dt { (call.say(&Text("Never to be tracked", "Nie zu verfolgen", "Ne jamais pister"))) }
                dd { (call.say(&Text("yes", "ja", "oui"))) }
            }
            @if let Some(jurisdiction) = maybe(consent, "jurisdiction") {
                dt { (call.say(&Text("Rules", "Regeln", "Règles"))) }
                dd { (jurisdiction) }
            }
            @if let Some(day) = maybe(consent, "do_not_ask_before") {
                dt { (call.say(&Text("Do not ask before", "Nicht fragen vor", "Ne pas demander avant"))) }
                dd { (call.language.moment(day)) }
            }
        }
    }
}

fn history(call: &Call, history: &Value) -> Markup {
    let records = list(history, "records");
    let columns = [
        Text("Record", "Eintrag", "Entrée"),
        Text("Said", "Gesagt", "Dit"),
        Text("About", "Worüber", "Sur"),
        Text("When", "Wann", "Quand"),
        Text("How and where", "Wie und wo", "Comment et où"),
        Text("Evidence", "Beleg", "Preuve"),
        Text("Entered by", "Eingetragen von", "Saisi par"),
    ];
    html! {
        @if records.is_empty() { p class="empty" { (call.say(&Text("Nothing.", "Nichts.", "Rien."))) } }
            @else {
            div class="wide" tabindex="0" { table {
                thead { tr { @for column in &columns { th scope="col" { (call.say(column)) } } } }
                tbody {
                    @for record in records.iter().rev() {
                        tr id=(format!("record-{}", number(record, "record"))) {
                            th scope="row" { (number(record, "record")) }
                            td { (words::said(call.language, record)) }
                            td class="prose" { (words::purposes(call.language, record)) }
                            td class="nowrap" { (call.language.moment(text(record, "event_time"))) }
                            td { (text(record, "method")) " " (text(record, "channel")) }
                            td { (text(record, "evidence")) }
                            td { (text(record, "actor")) }
                        }
                    }
                }
            } }
        }
    }
}

/// Collects all proof about a person: what was said and what was done, each with its place in its chain.
pub(crate) async fn export(call: Call) -> Answered {
    is_hash(&call.name)?;
    note(&call, Deed::about("person.exported", &call.name)).await?;
    let path = format!("/v1/controllers/{}/people/{}/export", call.controller, call.name);
    let consent = match call.console.api.get(&path).await {
        Err(error) if error.is_absence() => Value::Null,
        other => other?,
    };
    let search = json!({ "recipient": call.name, "limit": EXPORTED, "proof": true });
    let evidence = format!("/v1/controllers/{}/evidence/search", call.controller);
    let messages = call.console.api.post(&evidence, &search).await?;
    let all = json!({
        "person": call.name, "controller": call.controller, "consent": consent,
            "messages": messages.get("records"),
        "messages_complete": flag(&messages, "complete") && !flag(&messages, "more"),
    });
    layout::download(&all, &format!("person-{}.json", call.name.get(..12).unwrap_or_default()))
}

/// Returns the API's page for printing.
pub(crate) async fn print(call: Call) -> Answered {
    is_hash(&call.name)?;
    note(&call, Deed::about("person.exported", &call.name)).await?;
    let language = call.language.code();
    let path = format!("/v1/controllers/{}/people/{}/export?language={language}", call.controller, call.name);
    let page = call.console.api.ask(Method::GET, &path, "text/html", None).await?;
    let mut response = Response::new(Body::from(page.body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; \
                  form-action 'none'";
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    Ok(response)
}
