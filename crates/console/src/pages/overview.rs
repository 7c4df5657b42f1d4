//! The overview: whether the relay does its work, and what it found.

use maud::{Markup, html};
use serde_json::Value;

use super::{moment_of, trend, unanswered};
use crate::chart::{bar, columns};
use crate::config::console::Role;
use crate::consent::Timestamp;
use crate::figures::{OUTCOMES, Sums, day, greatest};
use crate::layout::{Page, shown};
use crate::text::Text;
use crate::value::{flag, list, maybe, number, text};
use crate::{Answered, Call, Failure, words};

/// After how many seconds the page is reloaded.
const REFRESH: u32 = 60;
/// How many vendors and carriers are listed.
const TOP: usize = 8;
/// How many days before its expiry a certificate raises an alarm.
const CERTIFICATE_DAYS: i64 = 30;

const COUNTING: Text =
    Text("Counting is still in progress.", "Es wird noch gezählt.", "Le comptage est en cours.");

/// An alarm.
struct Alarm {
    serious: bool,
    what: String,
    advice: &'static str,
}

pub(crate) async fn page(call: Call) -> Answered {
    let asked = match (call.asked("hours"), call.asked("days")) {
        ("24", _) => Some(Span::Hours),
        (_, "7") => Some(Span::Days(7)),
        (_, "30") => Some(Span::Days(30)),
        (_, "90") => Some(Span::Days(90)),
        _ => None,
    };
    let now = Timestamp::now();
    let first = match asked {
        Some(Span::Hours) => day(now.plus_days(-1)),
        Some(Span::Days(days)) => day(now.plus_days(1 - days)),
        None => day(now.plus_days(1 - 30)),
    };
    let last = day(now);
    let controller = &call.controller;
    let figures_path = format!("/v1/controllers/{controller}/figures?since={first}&until={last}");
    let statistics_path = format!("/v1/controllers/{controller}/statistics");
    let trend_path = format!("/v1/controllers/{controller}/trend?since={first}&until={last}");
    let (figures, statistics, trend) = tokio::join!(
        call.console.api.get(&figures_path),
        call.console.api.get(&statistics_path),
        call.console.api.get(&trend_path)
    );
    let figures = figures?;
    let by_day = Sums::of(&figures, &first, &last);
    let alarms = alarms(&call, &by_day).await?;
    // Mail of today alone is one bar among thirty empty ones.
    let has_older =
        by_day.outcomes.iter().any(|column| column.time != last && column.parts.iter().any(|part| *part > 0));
    let span =
        asked.unwrap_or(if has_older || by_day.recipients == 0 { Span::Days(30) } else { Span::Hours });
    let sums = match span {
        Span::Hours => Sums::of_hours(&figures, now),
        Span::Days(_) => by_day,
    };
    let title = call.say(&Text("Overview", "Übersicht", "Aperçu"));
    let content = html! {
        h1 { (title) }
        (unanswered(&call, &figures))
        (told(&call, &alarms))
        (periods(&call, span))
        (cards(&call, &sums))
        (open_links(&call, &sums))
        @if sums.recipients == 0 {
            p class="empty" { (call.say(&Text(
                "No mail of this controller passed through in this period. As soon as some does, it appears \
                 here.",
                "In dieser Zeit ging keine E-Mail dieses Verantwortlichen durch. Sobald eine kommt, steht \
                 sie hier.",
                "Aucun e-mail de ce responsable n’est passé pendant cette période. Dès qu’il y en aura, il \
                 apparaîtra ici.",
            ))) }
        } @else { (charts(&call, &sums, span)) }
        h2 { (call.say(&Text("Consent by purpose", "Einwilligung nach Zweck", "Consentement par finalité"))) }
        @match &statistics {
            Ok(statistics) => (consent(&call, statistics)),
            Err(_) => p class="empty" { (call.say(&COUNTING)) },
        }
        h2 { (call.say(&Text("Answers over time", "Antworten im Verlauf", "Réponses dans le temps"))) }
        @match &trend {
            Ok(trend) => (trend::answers(&call, trend, &first, &last)),
            Err(_) => p class="empty" { (call.say(&COUNTING)) },
        }
        h2 {
            (call.say(&Text(
                "What exemptions were used for",
                "Wofür Ausnahmen genutzt wurden",
                "À quoi ont servi les exemptions",
            )))
        }
        (trend::exemptions(&call, &figures))
    };
    Ok(shown(&call, &Page { title: title.to_owned(), refresh: Some(REFRESH), content }))
}

/// The period shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Span {
    /// The last 24 hours, by hour.
    Hours,
    /// This many days, by day.
    Days(i64),
}

fn periods(call: &Call, span: Span) -> Markup {
    let hours = call.say(&Text("24 hours", "24 Stunden", "24 heures")).to_owned();
    let days = call.say(&Text("days", "Tage", "jours"));
    let mut all = vec![(Span::Hours, "/?hours=24".to_owned(), hours)];
    all.extend(
        [7, 30, 90].map(|count| (Span::Days(count), format!("/?days={count}"), format!("{count} {days}"))),
    );
    html! {
        p class="periods noprint" {
            (call.say(&Text("The last", "Die letzten", "Sur"))) " "
            @for (choice, path, name) in &all {
                a href=(call.to(path)) aria-current=[(*choice == span).then_some("true")] { (name) }
                " "
            }
            span class="soft" {
                (call.say(&Text(
                    "In UTC; this page refreshes every minute.",
                    "Nach UTC; diese Seite erneuert sich jede Minute.",
                    "En UTC ; cette page se renouvelle chaque minute.",
                )))
            }
        }
    }
}

fn cards(call: &Call, sums: &Sums) -> Markup {
    let accepted = sums.by_result.get("accepted").copied().unwrap_or(0);
    let all = [
        (sums.recipients, Text("copies handled", "behandelte Kopien", "copies traitées")),
        (
            accepted,
            Text(
                "accepted by the next hop",
                "vom nächsten Server angenommen",
                "acceptées par le serveur suivant",
            ),
        ),
        (sums.trackers, Text("trackers found", "gefundene Tracker", "traceurs trouvés")),
        (sums.stripped, Text("trackers removed", "entfernte Tracker", "traceurs retirés")),
    ];
    html! {
        div class="cards" {
            @for (count, name) in &all {
                div class="card" { strong { (call.language.number(*count)) } span { (call.say(name)) } }
            }
        }
    }
}

/// Says that tracked links go on reporting without consent, where some do.
pub(super) fn open_links(call: &Call, sums: &Sums) -> Markup {
    html! {
        @if sums.links_left > 0 {
            p {
                strong { (call.say(&Text("Open risk:", "Offenes Risiko:", "Risque restant :"))) } " "
                (call.language.counted(
                    sums.links_left,
                    &Text(
                        "tracked link still reports clicks without consent.",
                        "Tracking-Link meldet Klicks weiterhin ohne Einwilligung.",
                        "lien de suivi signale encore les clics sans consentement.",
                    ),
                    &Text(
                        "tracked links still report clicks without consent.",
                        "Tracking-Links melden Klicks weiterhin ohne Einwilligung.",
                        "liens de suivi signalent encore les clics sans consentement.",
                    ),
                )) " "
                (call.say(&Text(
                    "Their pages stand neither in their addresses nor in a links_file.",
                    "Ihre Seiten stehen weder in ihren Adressen noch in einer links_file.",
                    "Leurs pages ne figurent ni dans leurs adresses ni dans un links_file.",
                )))
            }
        }
    }
}

fn charts(call: &Call, sums: &Sums, span: Span) -> Markup {
    let names: Vec<String> = OUTCOMES.iter().map(|outcome| words::outcome(call.language, outcome)).collect();
    let found = [
        Text("taken out", "entfernt", "retirés"),
        Text("left or replaced", "gelassen oder ersetzt", "laissés ou remplacés"),
    ]
    .map(|text| call.say(&text).to_owned());
    let (copies, trackers) = match span {
        Span::Hours => (
            Text(
                "Copies by hour and what was done",
                "Kopien nach Stunde und was getan wurde",
                "Copies par heure et ce qui a été fait",
            ),
            Text("Trackers by hour", "Tracker nach Stunde", "Traceurs par heure"),
        ),
        Span::Days(_) => (
            Text(
                "Copies by day and what was done",
                "Kopien nach Tag und was getan wurde",
                "Copies par jour et ce qui a été fait",
            ),
            Text("Trackers by day", "Tracker nach Tag", "Traceurs par jour"),
        ),
    };
    let (copies, trackers) = (call.say(&copies), call.say(&trackers));
    let list = |title: &Text, counts: &std::collections::BTreeMap<String, u64>| {
        html! {
            div {
                h2 { (call.say(title)) }
                @if counts.is_empty() { p class="soft" { "–" } } @else {
                    table { tbody {
                        @for (name, count) in greatest(counts, TOP) {
                            tr {
                                th scope="row" { (name) (bar(count, sums.trackers)) }
                                td class="count" { (call.language.number(count)) }
                            }
                        }
                    } }
                }
            }
        }
    };
    html! {
        h2 { (copies) } (columns(call.language, copies, &names, &sums.outcomes))
        h2 { (trackers) } (columns(call.language, trackers, &found, &sums.found))
        @if span != Span::Hours {
            div class="columns" {
                (list(&Text("Whose trackers", "Wessen Tracker", "Traceurs de qui"), &sums.by_vendor))
                (list(&Text("Carriers", "Wo sie standen", "Où ils étaient"), &sums.by_carrier))
            }
        }
    }
}

/// Renders how many people said what, by purpose.
pub(super) fn consent(call: &Call, statistics: &Value) -> Markup {
    let states = ["granted", "refused", "withdrawn", "objected", "asked", "never_asked"];
    let people = number(statistics, "people");
    html! {
        p {
            (call.say(&Text("Known:", "Bekannt:", "Connus :"))) " "
            (call.language.counted(
                people,
                &Text("person", "Person", "personne"),
                &Text("people", "Personen", "personnes"),
            ))
            (call.say(&Text(", counted on", ", gezählt am", ", comptage du"))) " "
            (call.language.moment(text(statistics, "counted_at"))) "." }
        @if people > 0 {
            div class="wide" tabindex="0" { table {
                thead { tr {
                    th scope="col" { (call.say(&Text("Purpose", "Zweck", "Finalité"))) }
                    th scope="col" class="count" {
                        (call.say(&Text("Counts as consent", "Gilt als Einwilligung", "Vaut consentement")))
                    }
                    @for state in states {
                        th scope="col" class="count" { (words::state(call.language, state)) }
                    }
                } }
                tbody {
                    @for purpose in list(statistics, "purposes") {
                        @let said = purpose.get("states").cloned().unwrap_or_default();
                        @if states.iter().any(|state| number(&said, state) > 0) {
                            tr {
                                th scope="row" {
                                    (words::purpose(call.language, text(purpose, "purpose")))
                                    (bar(number(purpose, "allowed"), people))
                                }
                                td class="count" { (call.language.number(number(purpose, "allowed"))) }
                                @for state in states {
                                    td class="count" { (call.language.number(number(&said, state))) }
                                }
                            }
                        }
                    }
                }
            } }
        }
    }
}

fn told(call: &Call, alarms: &[Alarm]) -> Markup {
    html! {
        ul class="alarms" aria-label=(call.say(&Text("Alarms", "Alarme", "Alertes"))) {
            @if alarms.is_empty() {
                li class="fine" {
                    span class="good" { (call.say(&Text("No alarms.", "Keine Alarme.", "Aucune alarme."))) }
                }
            }
            @for alarm in alarms {
                li class=[alarm.serious.then_some("serious")] {
                    span class=(if alarm.serious { "bad" } else { "warn" }) { (alarm.what) }
                    " "
                    (alarm.advice)
                }
            }
        }
    }
}

/// Lists the alarms that the relay's state raises.
async fn alarms(call: &Call, sums: &Sums) -> Result<Vec<Alarm>, Failure> {
    let mut alarms = Vec::new();
    // The state of the machine belongs to all controllers together.
    let sees_all = call.session()?.rights.allow_all(&Role::ALL);
    if sees_all {
        match call.console.api.get("/v1/delivery").await {
            Ok(delivery) => of_delivery(call, &delivery, &mut alarms),
            Err(error) => alarms.push(Alarm {
                serious: true,
                what: error.to_string(),
                advice: call.say(&Text(
                    "The token may lack delivery:read.",
                    "Vielleicht fehlt dem Token delivery:read.",
                    "Il manque peut-être delivery:read au jeton.",
                )),
            }),
        }
    }
    let policy = call.console.policy().await?;
    let of_it =
        list(&policy, "controllers").iter().find(|controller| text(controller, "name") == call.controller);
    for stream in of_it.map_or(&[][..], |controller| list(controller, "mailstreams")) {
        if text(stream, "mode") == "observe" && sums.by_mailstream.contains_key(text(stream, "name")) {
            alarms.push(Alarm {
                serious: false,
                what: format!(
                    "{} {}.",
                    call.say(&Text("Only observed:", "Nur beobachtet:", "Seulement observé :")),
                    text(stream, "name")
                ),
                advice: call.say(&Text(
                    "Decisions are recorded, and mail leaves with its trackers. Set mode = \"enforce\" once \
                     you trust them.",
                    "Entscheidungen werden aufgezeichnet, und E-Mails gehen mit ihren Trackern hinaus. Stellen \
                     Sie mode = \"enforce\" ein, sobald Sie ihnen trauen.",
                    "Les décisions sont notées et les e-mails partent avec leurs traceurs. Mettez mode = \
                     \"enforce\" dès que vous leur faites confiance.",
                )),
            });
        }
    }
    let unmatched = sums.by_mailstream.get("unmatched").copied().unwrap_or(0);
    if unmatched > 0 {
        alarms.push(Alarm {
            serious: false,
            what: format!(
                "{}: {}.",
                call.say(&Text(
                    "Mail matches no mailstream",
                    "E-Mails, zu denen keine Mailart passt",
                    "E-mails sans flux déclaré"
                )),
                call.language.number(unmatched)
            ),
            advice: call.say(&Text(
                "The strictest rules apply to it. Declare it in the configuration.",
                "Für sie gelten die strengsten Regeln. Geben Sie in der Konfiguration an, was sie ist.",
                "Les règles les plus strictes s’y appliquent. Déclarez ce que c’est dans la configuration.",
            )),
        });
    }
    Ok(alarms)
}

fn of_delivery(call: &Call, delivery: &Value, alarms: &mut Vec<Alarm>) {
    if !flag(delivery, "store_answers") {
        alarms.push(Alarm {
            serious: true,
            what: call
                .say(&Text(
                    "Consent cannot be looked up.",
                    "Einwilligungen können nicht nachgesehen werden.",
                    "Les consentements ne peuvent être consultés.",
                ))
                .to_owned(),
            advice: call.say(&Text(
                "Trackers are removed for everybody. The relay’s log says why.",
                "Tracker werden für alle entfernt. Warum, steht im Protokoll des Relays.",
                "Les traceurs sont retirés pour tous. Le journal du relais dit pourquoi.",
            )),
        });
    }
    if !flag(delivery, "evidence_enabled") {
        alarms.push(Alarm {
            serious: true,
            what: call
                .say(&Text(
                    "No audit records are kept.",
                    "Es werden keine Nachweise geführt.",
                    "Aucune preuve n’est conservée.",
                ))
                .to_owned(),
            advice: call.say(&Text(
                "Set evidence.enabled = true.",
                "Stellen Sie evidence.enabled = true ein.",
                "Mettez evidence.enabled = true.",
            )),
        });
    }
    for hop in list(delivery, "next_hops").iter().filter(|hop| number(hop, "failures") > 0) {
        alarms.push(Alarm {
            serious: true,
            what: format!(
                "{} {}:{}.",
                call.say(&Text(
                    "This next hop does not answer:",
                    "Dieser nächste Server antwortet nicht:",
                    "Ce serveur suivant ne répond pas :"
                )),
                text(hop, "host"),
                number(hop, "port")
            ),
            advice: call.say(&Text(
                "Clients keep their mail until it does. Check whether it is running.",
                "Die Absender behalten ihre E-Mails, bis er es tut. Sehen Sie nach, ob er läuft.",
                "Les expéditeurs gardent leurs e-mails en attendant. Vérifiez qu’il tourne.",
            )),
        });
    }
    for connector in list(delivery, "connectors") {
        let Some(why) = maybe(connector, "stopped") else { continue };
        let named = format!("{}: {}", text(connector, "controller"), text(connector, "name"));
        alarms.push(Alarm {
            serious: true,
            what: format!(
                "{} {named} ({why}).",
                call.say(&Text(
                    "A connector stopped:",
                    "Ein Konnektor hat angehalten:",
                    "Connecteur arrêté :"
                ))
            ),
            advice: call.say(&Text(
                "Nothing is lost. Correct its credential, then run: pixelward connector retry",
                "Nichts geht verloren. Berichtigen Sie seine Zugangsdaten, dann: pixelward connector retry",
                "Rien n’est perdu. Corrigez ses identifiants, puis lancez : pixelward connector retry",
            )),
        });
    }
    for listener in list(delivery, "listeners") {
        let Some(end) = moment_of(text(listener, "certificate_ends")) else { continue };
        if end < Timestamp::now().plus_days(CERTIFICATE_DAYS) {
            alarms.push(Alarm {
                serious: end < Timestamp::now().plus_days(3),
                what: call
                    .say(&Text(
                        "The certificate of listener {name} expires on {end}.",
                        "Das Zertifikat des Eingangs {name} läuft am {end} ab.",
                        "Le certificat du point d’écoute {name} expire le {end}.",
                    ))
                    .replace("{name}", text(listener, "name"))
                    .replace("{end}", &call.language.moment(&end.to_string())),
                advice: call.say(&Text(
                    "Replace it; the relay notices by itself.",
                    "Legen Sie ein neues an seine Stelle; das Relay merkt es von selbst.",
                    "Mettez-en un nouveau à sa place ; le relais s’en aperçoit seul.",
                )),
            });
        }
    }
}
