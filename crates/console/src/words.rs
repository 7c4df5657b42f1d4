//! Describes records in words. The identifier itself is shown beside them where it matters.

use serde_json::Value;

use super::text::{Language, Text};
use super::value::{flag, list, maybe, number, text};
use crate::policy::Purpose;

pub use crate::language::words::{exemption, outcome, purpose, refusal, requested, result, rule, state};

/// Describes what a record says. A grant without proof is one, and does not count.
pub fn said(language: Language, record: &Value) -> String {
    if flag(record, "unproved_grant") {
        let words = Text(
            "granted without proof, so it does not count",
            "zugestimmt ohne Beleg, zählt daher nicht",
            "accepté sans preuve, ne compte donc pas",
        );
        return language.say(&words).to_owned();
    }
    state(language, text(record, "state"))
}

/// What stands for all purposes.
pub const EVERY_PURPOSE: Text = Text("every purpose", "jeder Zweck", "toutes les finalités");

/// Names the purposes of a record.
pub fn purposes(language: Language, record: &Value) -> String {
    let purposes: Vec<&str> = list(record, "purposes").iter().filter_map(Value::as_str).collect();
    if purposes.len() == Purpose::ALL.len() {
        return language.say(&EVERY_PURPOSE).to_owned();
    }
    purposes.iter().map(|name| purpose(language, name)).collect::<Vec<_>>().join(", ")
}

/// A step in the story of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// What was found.
    Found,
    /// What the person had said.
    Consent,
    /// What was decided, and why.
    Decided,
    /// What was done.
    Done,
    /// What the next hop answered.
    Delivered,
}

/// Describes what became of a message for one recipient in sentences, step by step, from its record.
pub fn steps(language: Language, record: &Value) -> Vec<(Step, Vec<String>)> {
    let say = |en, de, fr| language.say(&Text(en, de, fr));
    let sighted = list(record, "sightings").iter().map(|sighting| {
        format!(
            "{} × {} ({})",
            number(sighting, "count"),
            text(sighting, "vendor"),
            text(sighting, "carrier")
        )
    });
    let mut found = vec![format!(
        "{} {}.",
        say("Trackers found:", "Gefundene Tracker:", "Traceurs trouvés :"),
        number(record, "found")
    )];
    let sighted: Vec<String> = sighted.collect();
    if !sighted.is_empty() {
        found.push(format!("{} {}.", say("Vendors:", "Anbieter:", "Fournisseurs :"), sighted.join(", ")));
    }
    let mut steps = vec![(Step::Found, found)];
    if let Some(consent) = record.get("consent_record").and_then(Value::as_u64) {
        let stands = say(
            "What the person said stands in the consent journal as record",
            "Was die Person gesagt hat, steht im Einwilligungsjournal als Eintrag",
            "Ce que la personne a dit figure au journal des consentements, entrée",
        );
        steps.push((Step::Consent, vec![format!("{stands} {consent}.")]));
    }
    let decided = format!(
        "{} {}, {} {} ({} {}).",
        say("Decided:", "Entschieden:", "Décidé :"),
        outcome(language, text(record, "decided")),
        say("because", "weil", "parce que"),
        rule(language, text(record, "rule")),
        say("rules", "Regeln", "règles"),
        text(record, "version"),
    );
    steps.push((Step::Decided, vec![decided]));
    steps.push((Step::Done, done(language, record)));
    steps.push((Step::Delivered, delivered(language, record)));
    steps
}

fn done(language: Language, record: &Value) -> Vec<String> {
    let say = |en, de, fr| language.say(&Text(en, de, fr));
    let mut said = vec![format!(
        "{} {}; {} {}.",
        say("Taken out:", "Entfernt:", "Retirés :"),
        number(record, "removed"),
        say("replaced:", "ersetzt:", "remplacés :"),
        number(record, "swapped"),
    )];
    said.extend(links(language, record));
    if flag(record, "observed") {
        said.push(
            say(
                "The mailstream is only observed: the message left untouched.",
                "Die Mailart wird nur beobachtet: die Nachricht blieb unverändert.",
                "Ce flux est seulement observé : le message est parti tel quel.",
            )
            .to_owned(),
        );
    }
    if let Some(shortfall) = maybe(record, "shortfall") {
        said.push(format!(
            "{} {}: {shortfall}.",
            say("What was done instead:", "Stattdessen getan:", "Traitement effectué :"),
            outcome(language, text(record, "done"))
        ));
    }
    said
}

/// Says what became of tracked links that were to be changed, and that some of them still report.
fn links(language: Language, record: &Value) -> Vec<String> {
    let say = |en, de, fr| language.say(&Text(en, de, fr));
    let (unwrapped, gated, left) =
        (number(record, "links_unwrapped"), number(record, "links_gated"), number(record, "links_left"));
    let mut said = Vec::new();
    if unwrapped + gated > 0 {
        said.push(format!(
            "{} {unwrapped}; {} {gated}.",
            say(
                "Tracked links that lead straight to their page:",
                "Tracking-Links, die direkt zu ihrer Seite führen:",
                "Liens de suivi qui mènent directement à leur page :",
            ),
            say(
                "that ask for consent at each click:",
                "die bei jedem Klick nach der Einwilligung fragen:",
                "qui vérifient le consentement à chaque clic :",
            ),
        ));
    }
    if left > 0 {
        said.push(format!(
            "{} {left}.",
            say(
                "Open risk: tracked links that still report, since nobody says what they lead to:",
                "Offenes Risiko: Tracking-Links, die weiterhin melden, weil niemand sagt, wohin sie führen:",
                "Risque restant : liens de suivi qui signalent encore, car personne ne dit où ils mènent :",
            ),
        ));
    }
    said
}

/// Returns the code of a reply with its enhanced status code, if it has one.
pub fn code(record: &Value) -> String {
    format!("{} {}", number(record, "code"), text(record, "status")).trim_end().to_owned()
}

fn delivered(language: Language, record: &Value) -> Vec<String> {
    let say = |en, de, fr| language.say(&Text(en, de, fr));
    let queue = maybe(record, "queue_id").map_or(String::new(), |id| format!(", {id}"));
    let mut said = vec![format!(
        "{} {} ({}{queue}).",
        say("The message was", "Die Nachricht wurde", "Le message a été"),
        result(language, text(record, "result")),
        code(record),
    )];
    if number(record, "code") >= 400 {
        let reason = refusal(language, number(record, "code"), text(record, "status"));
        said.push(format!("{} {reason}.", say("Reason:", "Grund:", "Raison :")));
    }
    if let Some(downstream) = maybe(record, "downstream") {
        said.push(format!(
            "{} {downstream}.",
            say(
                "A service after the relay may still track, which is accepted:",
                "Ein Dienst hinter dem Relay könnte trotzdem verfolgen, was hingenommen ist:",
                "Un service derrière le relais peut pister malgré tout, ce qui est accepté :"
            )
        ));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_told_in_sentences() {
        let record = serde_json::json!({
            "decided": "strip", "done": "strip", "rule": "refused", "version": "fr/2026-07-14",
                "consent_record": 7, "found": 2, "removed": 2,
            "swapped": 0, "sightings": [{"carrier": "img", "vendor": "SendGrid", "count": 2}],
                "result": "accepted", "code": 250, "queue_id": "4X"
        });
        assert_eq!(
            steps(Language::En, &record).into_iter().flat_map(|(_, said)| said).collect::<Vec<_>>().join(" "),
            "Trackers found: 2. Vendors: 2 × SendGrid (img). What the person said stands in the consent \
             journal as record 7. Decided: trackers removed, because the person refused (rules \
             fr/2026-07-14). Taken out: 2; replaced: 0. The message was accepted by the next hop (250, 4X)."
        );
    }
}
