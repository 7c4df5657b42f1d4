//! A summary of a period for the record of processing activities, to print. It says how the figures are
//! computed.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::Response;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderValue};
use hyper::Method;
use maud::{Markup, html};
use serde_json::Value;

use super::{moment_of, overview, unanswered};
use crate::chart::columns;
use crate::config::console::Role;
use crate::consent::Timestamp;
use crate::figures::{OUTCOMES, Sums, day, greatest};
use crate::layout::{Page, shown};
use crate::text::Text;
use crate::trail::{Deed, note};
use crate::value::{list, text};
use crate::{Answered, Call, Failure, words};

pub(crate) async fn page(call: Call) -> Answered {
    let today = day(Timestamp::now());
    let chosen = |name: &'static str, default: String| match call.asked(name) {
        "" => Ok(default),
        value => moment_of(value).map(day).ok_or(Failure::malformed(name)),
    };
    let month = format!("{}-01", today.get(..7).unwrap_or_default());
    let (first, last) = (chosen("since", month)?, chosen("until", today)?);
    let controller = &call.controller;
    let figures_path = format!("/v1/controllers/{controller}/figures?since={first}&until={last}");
    let statistics_path = format!("/v1/controllers/{controller}/statistics");
    let (figures, statistics) =
        tokio::join!(call.console.api.get(&figures_path), call.console.api.get(&statistics_path));
    let figures = figures?;
    let sums = Sums::of(&figures, &first, &last);
    let policy = call.console.policy().await?;
    let title = call.say(&Text("Report", "Bericht", "Rapport"));
    let by_day = call.say(&Text(
        "Copies by day and what was done",
        "Kopien nach Tag und was getan wurde",
        "Copies par jour et ce qui a été fait",
    ));
    let names: Vec<String> = OUTCOMES.iter().map(|outcome| words::outcome(call.language, outcome)).collect();
    let is_officer = call.session()?.rights.allow(&[Role::Officer], &call.controller);
    let content = html! {
        h1 { (title) ": " (call.controller) }
        (unanswered(&call, &figures))
        (period(&call, &first, &last))
        p {
            (first)
            " – "
            (last)
            " · "
            (call.say(&Text("made on", "erstellt am", "établi le")))
            " "
            (call.language.moment(&Timestamp::now().to_string()))
        }
        h2 { (call.say(&Text("In short", "Kurz gefasst", "En bref"))) }
        p { (in_short(&call, &sums)) }
        (overview::open_links(&call, &sums))
        @if sums.recipients > 0 { (columns(call.language, by_day, &names, &sums.outcomes)) }
        div class="columns" {
            (counts(
                &call,
                &Text("What was done", "Was getan wurde", "Ce qui a été fait"),
                &sums.by_done,
                |outcome| words::outcome(call.language, outcome),
            ))
            (counts(
                &call,
                &Text("Why", "Warum", "Pourquoi"),
                &sums.by_rule,
                |rule| words::rule(call.language, rule),
            ))
            (counts(
                &call,
                &Text("Kinds of mail", "Arten von E-Mails", "Types d’e-mails"),
                &sums.by_mailstream,
                str::to_owned,
            ))
            (counts(
                &call,
                &Text("Whose trackers", "Wessen Tracker", "Traceurs de qui"),
                &sums.by_vendor,
                str::to_owned,
            ))
        }
        h2 { (call.say(&Text("Consent by purpose", "Einwilligung nach Zweck", "Consentement par finalité"))) }
        @match &statistics {
            Ok(statistics) => (overview::consent(&call, statistics)),
            Err(_) => p class="empty" {
                (call.say(&Text(
                    "Counting is still in progress.",
                    "Es wird noch gezählt.",
                    "Le comptage est en cours.",
                )))
            },
        }
        (rules(&call, &policy, &last))
        (method(&call))
        @if is_officer {
            (archive(&call, &first, &last))
        }
    };
    Ok(shown(&call, &Page::new(title, content)))
}

/// Renders the button for everything of the period in one file.
fn archive(call: &Call, first: &str, last: &str) -> Markup {
    html! {
        div class="noprint" {
            h2 { (call.say(&Text("For an authority", "Für eine Behörde", "Pour une autorité"))) }
            p { (call.say(&Text(
                "Everything on record in this period in one file: audit records, consent records, audit \
                 trail, rules, notices, the ends of the chains, and how to verify them without pixelward.",
                "Alles Verzeichnete dieses Zeitraums in einer Datei: Nachweise, Einwilligungen, \
                 Prüfprotokoll, Regeln, Hinweise, die Enden der Ketten, und wie man sie ohne pixelward \
                 prüft.",
                "Tout ce qui est noté sur cette période en un fichier : preuves, consentements, journal \
                 d’audit, règles, informations, fins des chaînes, et comment les vérifier sans pixelward.",
            ))) }
            p {
                a class="button" href=(call.to(&format!("/report/archive?since={first}&until={last}"))) {
                    (call.say(&Text("Get the archive", "Archiv herunterladen", "Télécharger l’archive")))
                }
            }
        }
    }
}

/// Returns the archive of a period.
pub(crate) async fn archived(call: Call) -> Answered {
    let day = |name: &'static str| {
        let asked = call.asked(name);
        let is_day = asked.len() == 10 && moment_of(asked).is_some();
        is_day.then(|| asked.to_owned()).ok_or(Failure::malformed(name))
    };
    let (first, last) = (day("since")?, day("until")?);
    note(&call, Deed::of("archive.exported", &format!("{first} {last}"))).await?;
    let path = format!("/v1/controllers/{}/archive?since={first}&until={last}", call.controller);
    let made = call.console.api.ask(Method::GET, &path, "application/gzip", None).await?;
    let mut response = Response::new(Body::from(made.body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/gzip"));
    let name = format!("attachment; filename=\"pixelward-{}-{first}-{last}.tar.gz\"", call.controller);
    headers.insert(CONTENT_DISPOSITION, HeaderValue::try_from(name).map_err(|_| Failure::Fault)?);
    Ok(response)
}

fn period(call: &Call, first: &str, last: &str) -> Markup {
    html! {
        form class="noprint" method="get" action="/report" {
            input type="hidden" name="controller" value=(call.controller);
            div class="field" {
                label for="since" { (call.say(&Text("From", "Von", "Du"))) }
                input id="since" name="since" type="date" value=(first) required;
            }
            div class="field" {
                label for="until" { (call.say(&Text("To", "Bis", "Au"))) }
                input id="until" name="until" type="date" value=(last) required;
            }
            button { (call.say(&Text("Show", "Zeigen", "Afficher"))) }
            span class="soft" {
                (call.say(&Text(
                    "For a PDF, print this page from the browser.",
                    "Für ein PDF drucken Sie diese Seite aus dem Browser.",
                    "Pour un PDF, imprimez cette page depuis le navigateur.",
                )))
            }
        }
    }
}

fn in_short(call: &Call, sums: &Sums) -> String {
    let counted = |number, one, many| call.language.counted(number, &one, &many);
    let copies = counted(
        sums.recipients,
        Text("copy of a message", "Kopie einer Nachricht", "copie de message"),
        Text("copies of messages", "Kopien von Nachrichten", "copies de messages"),
    );
    let found = counted(
        sums.trackers,
        Text("tracker", "Tracker", "traceur"),
        Text("trackers", "Tracker", "traceurs"),
    );
    let taken = call.language.number(sums.stripped);
    match call.language.code() {
        "de" => format!(
            "Behandelt: {copies}. Darin: {found}; davon {taken} in Kopien, aus denen Tracker entfernt wurden."
        ),
        "fr" => format!(
            "Traité : {copies}. Présent : {found}, dont {taken} dans des copies d’où les traceurs ont été \
             retirés."
        ),
        _ => format!(
            "Handled: {copies}. Found in them: {found}, {taken} of them in copies from which trackers were \
             removed."
        ),
    }
}

fn counts(
    call: &Call,
    title: &Text,
    counts: &BTreeMap<String, u64>,
    named: impl Fn(&str) -> String,
) -> Markup {
    html! {
        div {
            h2 { (call.say(title)) }
            @if counts.is_empty() { p class="soft" { "–" } } @else {
                table {
                    tbody {
                        @for (name, count) in greatest(counts, 30) {
                            tr {
                                th scope="row" { (named(name)) }
                                td class="count" { (call.language.number(count)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Lists the newest version of each jurisdiction's rules that was in force on a day, with all regimes of its date.
fn in_force<'a>(policy: &'a Value, day: &str) -> Vec<&'a Value> {
    let from = |version: &Value| text(version, "effective_from").get(..10).unwrap_or_default().to_owned();
    let begun: Vec<&Value> =
        list(policy, "jurisdictions").iter().filter(|version| *from(version) <= *day).collect();
    let is_replaced = |version: &Value| {
        let is_later =
            |other: &&Value| text(other, "name") == text(version, "name") && from(other) > from(version);
        begun.iter().any(is_later)
    };
    begun.iter().copied().filter(|version| !is_replaced(version)).collect()
}

fn rules(call: &Call, policy: &Value, day: &str) -> Markup {
    html! {
        h2 { (call.say(&Text("Rules in force on", "Geltende Regeln am", "Règles en vigueur au"))) " " (day) }
        ul {
            @for jurisdiction in in_force(policy, day) {
                li {
                    (text(jurisdiction, "label"))
                    ": "
                    (text(jurisdiction, "source"))
                    " ("
                    (text(jurisdiction, "checked_on"))
                    ")"
                }
            }
        }
    }
}

fn method(call: &Call) -> Markup {
    html! {
        h2 {
            (call.say(&Text(
                "How these figures are computed",
                "Wie diese Zahlen entstehen",
                "Comment ces chiffres sont établis",
            )))
        }
        p { (call.say(&Text(
            "The relay counts when it writes the audit record of a decision: one copy per recipient of each \
             message, and each tracker once per recipient. Days are in UTC. Consent is counted at the time \
             given, from what is recorded then. The audit records are chained by hash; pixelward evidence \
             verify checks the chain, and pixelward evidence report gives the same counts.",
            "Das Relay zählt, während es den Nachweis jeder Entscheidung schreibt: eine Kopie für jeden \
             Empfänger jeder Nachricht und jeden Tracker einmal je Empfänger. Tage sind die nach UTC. \
             Einwilligungen werden zum genannten Zeitpunkt gezählt, so wie sie dann stehen. Die Nachweise \
             sind durch Hashes verkettet; pixelward evidence verify prüft sie, und pixelward evidence report \
             nennt dieselben Zahlen.",
            "Le relais compte en écrivant la preuve de chaque décision : une copie par destinataire de \
             chaque message, et chaque traceur une fois par destinataire. Les jours sont ceux d’UTC. Les \
             consentements sont comptés au moment indiqué, tels qu’ils sont alors. Les preuves sont chaînées \
             par empreintes ; pixelward evidence verify les vérifie et pixelward evidence report donne les \
             mêmes chiffres.",
        ))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_in_force_counts() {
        let version = |name: &str, from: &str| {
            serde_json::json!({"name": name, "label": format!("{name}/{from}"), "effective_from":
                format!("{from}T00:00:00Z")})
        };
        let versions = [
            version("fr", "2026-07-14"),
            version("fr", "2020-10-01"),
            version("it", "2026-04-17"),
            version("uk", "2027-01-01"),
        ];
        let policy = serde_json::json!({ "jurisdictions": versions });
        let labels = |day: &str| -> Vec<String> {
            in_force(&policy, day).into_iter().map(|version| text(version, "label").to_owned()).collect()
        };
        assert_eq!(labels("2026-11-29"), ["fr/2026-07-14", "it/2026-04-17"]);
        assert_eq!(labels("2026-07-13"), ["fr/2020-10-01", "it/2026-04-17"]);
        assert_eq!(labels("2027-01-01"), ["fr/2026-07-14", "it/2026-04-17", "uk/2027-01-01"]);
        assert!(labels("2000-01-01").is_empty());
    }
}
