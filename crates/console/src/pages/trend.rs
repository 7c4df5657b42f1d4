//! Sections of the overview: what people answered over time, and what exemptions were used for.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};
use serde_json::Value;

use crate::chart::{Column, bar, columns};
use crate::consent::Timestamp;
use crate::figures::day;
use crate::policy::Exemption;
use crate::text::Text;
use crate::value::{list, number, text};
use crate::{Call, words};

/// The maximum number of days of a chart.
const MAX_DAYS: i64 = 400;

/// Counts of answers: yes, no, taken back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Answers {
    granted: u64,
    refused: u64,
    withdrawn: u64,
}

impl Answers {
    fn add(&mut self, state: &str, count: u64) {
        match state {
            "granted" => self.granted += count,
            "refused" => self.refused += count,
            _ => self.withdrawn += count,
        }
    }

    fn parts(self) -> Vec<u64> {
        vec![self.granted, self.refused, self.withdrawn]
    }

    /// Returns how many of a hundred answers to a question were yes; `None` if nobody answered.
    fn share(self) -> Option<u64> {
        (self.granted * 100).checked_div(self.granted + self.refused)
    }
}

/// Renders the answers of a period, by day, and by purpose and source.
pub(super) fn answers(call: &Call, trend: &Value, first: &str, last: &str) -> Markup {
    let all = list(trend, "answers");
    let named = |name: &str| -> BTreeSet<&str> { all.iter().map(|answer| text(answer, name)).collect() };
    let (purposes, sources) = (named("purpose"), named("source"));
    let is_asked = |answer: &&Value| {
        ["purpose", "source"].iter().all(|name| {
            let asked = call.asked(name);
            asked.is_empty() || asked == text(answer, name)
        })
    };
    let names = [
        Text("granted", "zugestimmt", "accepté"),
        Text("refused", "abgelehnt", "refusé"),
        Text("withdrawn or objected", "widerrufen oder widersprochen", "retiré ou opposé"),
    ]
    .map(|name| call.say(&name).to_owned());
    let title = call.say(&Text("Answers by day", "Antworten nach Tag", "Réponses par jour"));
    html! {
        @if all.is_empty() {
            p class="empty" { (call.say(&Text(
                "Nobody answered in this period.",
                "In dieser Zeit hat niemand geantwortet.",
                "Personne n’a répondu pendant cette période.",
            ))) }
        } @else {
            form class="noprint" method="get" action="/" {
                input type="hidden" name="controller" value=(call.controller);
                @for name in ["days", "hours"] {
                    @if !call.asked(name).is_empty() {
                        input type="hidden" name=(name) value=(call.asked(name));
                    }
                }
                (choice(call, "purpose", &Text("Purpose", "Zweck", "Finalité"), &purposes, |purpose| {
                    words::purpose(call.language, purpose)
                }))
                (choice(call, "source", &Text("Source", "Quelle", "Source"), &sources, |name| {
                    source(call, name)
                }))
                button class="quiet" { (call.say(&Text("Show", "Zeigen", "Afficher"))) }
            }
            (columns(call.language, title, &names, &by_day(all.iter().filter(is_asked), first, last)))
            (table(call, all.iter().filter(is_asked)))
        }
    }
}

fn choice(
    call: &Call,
    name: &str,
    title: &Text,
    all: &BTreeSet<&str>,
    shown: impl Fn(&str) -> String,
) -> Markup {
    html! {
        div class="field" {
            label for=(name) { (call.say(title)) }
            select id=(name) name=(name) {
                option value="" { (call.say(&Text("all", "alle", "tous"))) }
                @for value in all {
                    option value=(value) selected[call.asked(name) == *value] { (shown(value)) }
                }
            }
        }
    }
}

/// Names where answers came from.
fn source(call: &Call, name: &str) -> String {
    let words = match name {
        "unnamed" => Text("not told", "nicht angegeben", "non indiquée"),
        "erased" => {
            Text("of people erased since", "von inzwischen Gelöschten", "de personnes effacées depuis")
        }
        "other" => Text("others", "andere", "autres"),
        other => return other.to_owned(),
    };
    call.say(&words).to_owned()
}

/// Adds answers up by day; every day of the period has a column.
fn by_day<'a>(answers: impl Iterator<Item = &'a Value>, first: &str, last: &str) -> Vec<Column> {
    let mut days: BTreeMap<String, Answers> = BTreeMap::new();
    if let Ok(start) = Timestamp::parse(first) {
        let all = (0..MAX_DAYS).map(|count| day(start.plus_days(count)));
        days.extend(all.take_while(|day| day.as_str() <= last).map(|day| (day, Answers::default())));
    }
    for answer in answers {
        if let Some(sum) = days.get_mut(text(answer, "day")) {
            sum.add(text(answer, "state"), number(answer, "count"));
        }
    }
    let column = |(time, sum): (String, Answers)| Column {
        short: time.get(5..).unwrap_or_default().to_owned(),
        parts: sum.parts(),
        time,
    };
    days.into_iter().map(column).collect()
}

fn table<'a>(call: &Call, answers: impl Iterator<Item = &'a Value>) -> Markup {
    let mut sums: BTreeMap<(&str, &str), Answers> = BTreeMap::new();
    for answer in answers {
        let key = (text(answer, "purpose"), text(answer, "source"));
        sums.entry(key).or_default().add(text(answer, "state"), number(answer, "count"));
    }
    let columns = [
        (Text("Purpose", "Zweck", "Finalité"), false),
        (Text("Source", "Quelle", "Source"), false),
        (Text("Granted", "Zugestimmt", "Accepté"), true),
        (Text("Refused", "Abgelehnt", "Refusé"), true),
        (Text("Taken back", "Zurückgenommen", "Repris"), true),
        (Text("Yes of all answers", "Ja unter allen Antworten", "Oui parmi les réponses"), true),
    ];
    html! {
        div class="wide" tabindex="0" { table {
            thead { tr {
                @for (column, is_count) in &columns {
                    th scope="col" class=[is_count.then_some("count")] { (call.say(column)) }
                }
            } }
            tbody {
                @for ((purpose, name), sum) in &sums {
                    tr {
                        th scope="row" { (words::purpose(call.language, purpose)) }
                        td { (source(call, name)) }
                        td class="count" { (call.language.number(sum.granted)) }
                        td class="count" { (call.language.number(sum.refused)) }
                        td class="count" { (call.language.number(sum.withdrawn)) }
                        td class="count" {
                            @match sum.share() {
                                Some(share) => { (share) "\u{a0}%" (bar(share, 100)) },
                                None => "–",
                            }
                        }
                    }
                }
            }
        } }
    }
}

/// Renders what exemptions were used for: which mail kept what without a yes, and how much of it.
pub(super) fn exemptions(call: &Call, figures: &Value) -> Markup {
    let mut sums: BTreeMap<(&str, &str, &str), u64> = BTreeMap::new();
    for count in list(figures, "days").iter().flat_map(|day| list(day, "recipients")) {
        if Exemption::ALL.into_iter().any(|exemption| exemption.name() == text(count, "rule")) {
            let key = (text(count, "rule"), text(count, "mailstream"), text(count, "done"));
            *sums.entry(key).or_default() += number(count, "count");
        }
    }
    let columns = [
        Text("Exemption", "Ausnahme", "Exemption"),
        Text("Mailstream", "Mailart", "Flux"),
        Text("What was done", "Was getan wurde", "Ce qui a été fait"),
        Text("Copies", "Kopien", "Copies"),
    ];
    html! {
        @if sums.is_empty() {
            p class="empty" { (call.say(&Text(
                "No exemption was used in this period.",
                "In dieser Zeit wurde keine Ausnahme genutzt.",
                "Aucune exemption n’a été utilisée pendant cette période.",
            ))) }
        } @else {
            div class="wide" tabindex="0" { table {
                thead { tr {
                    @for (place, column) in columns.iter().enumerate() {
                        th scope="col" class=[(place == 3).then_some("count")] { (call.say(column)) }
                    }
                } }
                tbody {
                    @for ((exemption, stream, done), count) in &sums {
                        tr {
                            th scope="row" { (words::purpose(call.language, exemption)) }
                            td { (stream) }
                            td { (words::outcome(call.language, done)) }
                            td class="count" { (call.language.number(*count)) }
                        }
                    }
                }
            } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_has_a_column_and_a_share_is_of_those_who_were_asked() {
        let answer = |day: &str, state: &str, count: u64| {
            serde_json::json!({
                "day": day, "purpose": "personalisation", "source": "web", "state": state, "count": count,
            })
        };
        let all = [
            answer("2026-11-03", "granted", 3),
            answer("2026-11-03", "objected", 1),
            answer("2026-11-05", "refused", 1),
            answer("2026-12-05", "refused", 9),
        ];
        let days = by_day(all.iter(), "2026-11-02", "2026-11-05");
        let parts: Vec<_> = days.iter().map(|day| day.parts.clone()).collect();
        assert_eq!(parts, [vec![0, 0, 0], vec![3, 0, 1], vec![0, 0, 0], vec![0, 1, 0]]);
        assert_eq!(days[1].short, "11-03");
        assert_eq!(Answers { granted: 3, refused: 1, withdrawn: 2 }.share(), Some(75));
        assert_eq!(Answers { withdrawn: 2, ..Answers::default() }.share(), None);
    }
}
