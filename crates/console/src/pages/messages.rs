//! Audit records by message and campaign.

use std::collections::{BTreeSet, HashMap};

use maud::{Markup, html};
use serde_json::{Map, Value, json};

use super::{hash_of, moment_of, unanswered};
use crate::figures::OUTCOMES;
use crate::layout::{Page, shown, token};
use crate::text::Text;
use crate::trail::{Deed, note};
use crate::value::{flag, list, number, text};
use crate::{Answered, Call, Failure, query, words};

/// The number of records on a page: one per recipient, so there are fewer rows.
pub(super) const RECORDS: usize = 1000;

pub(crate) async fn page(call: Call) -> Answered {
    let asked = wanted(&call)?;
    listed(call, asked, None).await
}

/// Lists the mail of one recipient, which the audit trail notes.
pub(crate) async fn of_recipient(call: Call) -> Answered {
    let person = hash_of(&call, call.form.value("address").trim()).await?;
    note(&call, Deed::about("person.searched", &person)).await?;
    let wanted = json!({ "recipient": person, "limit": RECORDS });
    listed(call, (wanted, String::new(), String::new()), Some(&person)).await
}

/// Shows the records that the API finds, below the fields with these days. All of them are about `person`, if
/// there is one.
async fn listed(
    call: Call,
    (wanted, since, until): (Value, String, String),
    person: Option<&str>,
) -> Answered {
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
        (unanswered(&call, &found))
        @if !flag(&found, "complete") && list(&found, "unanswered").is_empty() {
            p class="bad" { (call.say(&Text(
                "Some audit records cannot be read and are missing here. Run pixelward evidence verify.",
                "Ein Teil der Nachweise ist nicht lesbar und fehlt hier. Rufen Sie pixelward evidence verify \
                 auf.",
                "Une partie des preuves est illisible et manque ici. Lancez pixelward evidence verify.",
            ))) }
        }
        (table(&call, &found, person))
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
    for name in ["mailstream", "outcome", "vendor", "campaign"] {
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
            div class="field" {
                label for="campaign" { (call.say(&CAMPAIGN)) }
                input id="campaign" name="campaign" value=(call.asked("campaign")) size="18";
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
    for name in ["since", "mailstream", "outcome", "vendor", "campaign"] {
        if !call.asked(name).is_empty() {
            path.push_str(&format!("&{name}={}", query::encoded(call.asked(name))));
        }
    }
    call.to(&path)
}

const CAMPAIGN: Text = Text("Campaign", "Kampagne", "Campagne");
const AT_LEAST: Text = Text("at least", "mindestens", "au moins");

/// Records that share a row: of one message, or of all messages of one campaign, handled alike.
struct Row<'a> {
    newest: &'a Value,
    records: u64,
    messages: BTreeSet<&'a str>,
}

/// Puts records together that share a row, in the order of their newest ones.
fn rows<'a>(call: &Call, found: &'a Value) -> Vec<Row<'a>> {
    let is_of_one_campaign = !call.asked("campaign").is_empty();
    let mut places: HashMap<[&str; 6], usize> = HashMap::new();
    let mut rows: Vec<Row<'a>> = Vec::new();
    for record in list(found, "records").iter().filter_map(|row| row.get("record")) {
        let campaign = text(record, "campaign");
        let id = text(record, "id");
        // Who looks at one campaign wants its messages.
        let message = if campaign.is_empty() || is_of_one_campaign { id } else { "" };
        let way = ["done", "rule", "result", "mailstream"].map(|name| text(record, name));
        let [done, rule, result, mailstream] = way;
        let place = *places.entry([message, campaign, done, rule, result, mailstream]).or_insert(rows.len());
        if place == rows.len() {
            rows.push(Row { newest: record, records: 0, messages: BTreeSet::new() });
        }
        if let Some(row) = rows.get_mut(place) {
            row.records += 1;
            row.messages.insert(id);
        }
    }
    rows
}

/// Renders records as rows that link to their stories. Recipients of a message that were handled alike share
/// a row, and so do the messages of a campaign. All of them are about `person`, if there is one.
pub(super) fn table(call: &Call, found: &Value, person: Option<&str>) -> Markup {
    let rows = rows(call, found);
    let columns = [
        Text("When", "Wann", "Quand"),
        CAMPAIGN,
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
                tbody { @for row in &rows { (record_row(call, row, flag(found, "more"), person)) } }
            } }
        }
    }
}

fn record_row(call: &Call, row: &Row<'_>, is_cut: bool, person: Option<&str>) -> Markup {
    let record = row.newest;
    let vendors: Vec<&str> =
        list(record, "sightings").iter().map(|sighting| text(sighting, "vendor")).collect();
    let campaign = text(record, "campaign");
    let of_campaign = call.to(&format!("/messages?campaign={}", query::encoded(campaign)));
    let is_many = row.messages.len() > 1;
    html! {
        tr {
            th scope="row" class="nowrap" {
                a href=(if is_many { of_campaign.clone() } else { story_path(call, record, person) }) {
                    (call.language.moment(text(record, "time")))
                }
            }
            td { @if !campaign.is_empty() { a class="tag" href=(of_campaign) { (campaign) } } }
            td { (text(record, "mailstream")) }
            td { (words::outcome(call.language, text(record, "done")))
                @if flag(record, "observed") {
                    " ("
                    (call.say(&Text("observed only", "nur beobachtet", "observé seulement")))
                    ")"
                }
                @if is_many || row.records > 1 {
                    ": "
                    @if is_cut { (call.say(&AT_LEAST)) " " }
                    (counted(call, row))
                }
            }
            td class="prose" { (words::rule(call.language, text(record, "rule"))) }
            td {
                (number(record, "found"))
                @if !vendors.is_empty() { " (" (vendors.join(", ")) ")" }
            }
            td { (words::result(call.language, text(record, "result"))) }
        }
    }
}

/// Says how many messages and recipients share a row.
fn counted(call: &Call, row: &Row<'_>) -> String {
    let recipients = call.language.counted(
        row.records,
        &Text("recipient", "Empfänger", "destinataire"),
        &Text("recipients", "Empfänger", "destinataires"),
    );
    if row.messages.len() < 2 {
        return recipients;
    }
    let messages = call.language.counted(
        row.messages.len() as u64,
        &Text("message", "Nachricht", "message"),
        &Text("messages", "Nachrichten", "messages"),
    );
    format!("{messages}, {recipients}")
}

fn story_path(call: &Call, record: &Value, person: Option<&str>) -> String {
    let path = format!(
        "/messages/{}?at={}{}",
        query::encoded(text(record, "id")),
        query::encoded(text(record, "time")),
        person.map_or(String::new(), |person| format!("&person={person}"))
    );
    call.to(&path)
}
