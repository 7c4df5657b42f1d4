//! What the names mean that the relay uses, for people who did not write its configuration. The name itself stands beside it where it matters.

use serde_json::Value;

use super::text::{Language, Text};
use super::value::{flag, list, maybe, number, text};

/// What was decided or done.
pub fn outcome(language: Language, name: &str) -> String {
    let words = match name {
        "keep" => Text("left as it was", "unverändert gelassen", "laissé tel quel"),
        "strip" => Text("trackers taken out", "Tracker entfernt", "traceurs retirés"),
        "swap_gated" => Text("gated pixel", "Pixel mit Schranke", "pixel à barrière"),
        "swap_shared" => Text("shared pixel", "gemeinsames Pixel", "pixel partagé"),
        "swap_day" => Text("day pixel", "Tagespixel", "pixel du jour"),
        other => return other.to_owned(),
    };
    language.say(&words).to_owned()
}

/// Why something was decided, to stand behind "because".
pub fn rule(language: Language, name: &str) -> String {
    let words = match name {
        "granted" => Text(
            "every purpose of the mail was granted",
            "jedem Zweck der Nachricht zugestimmt war",
            "chaque finalité du message était acceptée",
        ),
        "granted_but_on_grant_is_strip" => Text(
            "the controller takes trackers out even where the person agreed",
            "der Verantwortliche Tracker auch bei Zustimmung entfernen lässt",
            "le responsable fait retirer les traceurs même en cas d’accord",
        ),
        "no_consent" => Text(
            "a purpose had no consent that stood",
            "für einen Zweck keine gültige Einwilligung vorlag",
            "une finalité n’avait pas de consentement valable",
        ),
        "refused" => Text("the person said no", "die Person abgelehnt hatte", "la personne avait dit non"),
        "no_track" => Text(
            "the person is never to be tracked",
            "die Person nie verfolgt werden darf",
            "la personne ne doit jamais être pistée",
        ),
        "store_unreachable" => Text(
            "consent could not be looked up, and silence is not consent",
            "die Einwilligung nicht nachgesehen werden konnte und Schweigen keine ist",
            "le consentement n’a pas pu être consulté et le silence n’en est pas un",
        ),
        "consent_request" => Text(
            "the mail asks for consent and so carries nothing that needs it",
            "die Nachricht um Einwilligung bittet und nichts tragen darf, was sie braucht",
            "le message demande le consentement et ne porte donc rien qui l’exige",
        ),
        "no_rules" => Text(
            "no rules hold where the person is",
            "dort, wo die Person ist, keine Regeln gelten",
            "aucune règle ne vaut là où se trouve la personne",
        ),
        "purposes_differ" => Text(
            "one pixel cannot serve the purposes together",
            "ein Pixel den Zwecken nicht gemeinsam dienen kann",
            "un seul pixel ne peut servir ces finalités ensemble",
        ),
        "deliverability" | "auth_security" | "legal_notice" | "aggregate_statistics" | "legacy_informed" => {
            let words = Text("the exemption holds:", "die Ausnahme gilt:", "l’exemption vaut :");
            return format!("{} {name}", language.say(&words));
        }
        other => return other.to_owned(),
    };
    language.say(&words).to_owned()
}

/// What a person said.
pub fn state(language: Language, name: &str) -> String {
    let words = match name {
        "never_asked" => Text("never asked", "nie gefragt", "jamais demandé"),
        "asked" => Text("asked, no answer", "gefragt, keine Antwort", "demandé, sans réponse"),
        "granted" => Text("granted", "zugestimmt", "accepté"),
        "refused" => Text("refused", "abgelehnt", "refusé"),
        "withdrawn" => Text("withdrawn", "widerrufen", "retiré"),
        "objected" => Text("objected", "widersprochen", "opposition"),
        other => return other.to_owned(),
    };
    language.say(&words).to_owned()
}

/// What opens are used for.
pub fn purpose(language: Language, name: &str) -> String {
    let words = match name {
        "campaign_performance" => {
            Text("campaign performance", "Erfolg von Kampagnen", "performance des campagnes")
        }
        "personalisation" => Text("personalisation", "Personalisierung", "personnalisation"),
        "cross_channel_profile" => {
            Text("cross-channel profile", "kanalübergreifendes Profil", "profil multicanal")
        }
        "fraud_detection" => Text("fraud detection", "Betrugserkennung", "détection de fraude"),
        "deliverability" => Text("deliverability", "Zustellbarkeit", "délivrabilité"),
        "auth_security" => Text("sign-in security", "Sicherheit der Anmeldung", "sécurité de connexion"),
        "legal_notice" => Text("legal notice", "rechtlich nötige Mitteilung", "notification légale"),
        "aggregate_statistics" => {
            Text("aggregate statistics", "zusammengefasste Statistik", "statistiques agrégées")
        }
        other => return other.to_owned(),
    };
    language.say(&words).to_owned()
}

/// What became of a message.
pub fn result(language: Language, name: &str) -> String {
    let words = match name {
        "accepted" => Text(
            "accepted by the next hop",
            "vom nächsten Server angenommen",
            "accepté par le serveur suivant",
        ),
        "deferred" => Text("put off for later", "auf später verschoben", "remis à plus tard"),
        "rejected" => Text("rejected", "abgewiesen", "rejeté"),
        other => return other.to_owned(),
    };
    language.say(&words).to_owned()
}

/// One decision as one sentence or a few, from its record.
pub fn story(language: Language, record: &Value) -> Vec<String> {
    let say = |en, de, fr| language.say(&Text(en, de, fr));
    let mut said = vec![format!(
        "{} {}, {} {} ({} {}).",
        say("Decided:", "Entschieden:", "Décidé :"),
        outcome(language, text(record, "decided")),
        say("because", "weil", "parce que"),
        rule(language, text(record, "rule")),
        say("rules", "Regeln", "règles"),
        text(record, "version"),
    )];
    if let Some(consent) = record.get("consent_record").and_then(Value::as_u64) {
        said.push(format!(
            "{} {consent}.",
            say(
                "What the person said stands in the consent journal as record",
                "Was die Person gesagt hat, steht im Einwilligungsjournal als Eintrag",
                "Ce que la personne a dit figure au journal des consentements, entrée"
            )
        ));
    }
    let (found, removed, swapped) =
        (number(record, "found"), number(record, "removed"), number(record, "swapped"));
    said.push(format!(
        "{} {found}; {} {removed}; {} {swapped}.",
        say("Trackers found:", "Gefundene Tracker:", "Traceurs trouvés :"),
        say("taken out:", "entfernt:", "retirés :"),
        say("replaced:", "ersetzt:", "remplacés :"),
    ));
    let sighted: Vec<String> = list(record, "sightings")
        .iter()
        .map(|own| format!("{} × {} ({})", number(own, "count"), text(own, "vendor"), text(own, "carrier")))
        .collect();
    if !sighted.is_empty() {
        said.push(format!(
            "{} {}.",
            say("Whose they were:", "Von wem sie waren:", "À qui ils étaient :"),
            sighted.join(", ")
        ));
    }
    if flag(record, "observed") {
        said.push(
            say(
                "The mailstream only observes: the message left untouched.",
                "Die Mailart wird nur beobachtet: die Nachricht blieb unverändert.",
                "Ce flux est seulement observé : le message est parti tel quel.",
            )
            .to_owned(),
        );
    }
    if let Some(shortfall) = maybe(record, "shortfall") {
        said.push(format!(
            "{} {}: {shortfall}.",
            say("What was done instead:", "Stattdessen getan:", "Fait à la place :"),
            outcome(language, text(record, "done"))
        ));
    }
    let queue = maybe(record, "queue_id").map_or(String::new(), |own| format!(", {own}"));
    said.push(format!(
        "{} {} ({}{queue}).",
        say("The message was", "Die Nachricht wurde", "Le message a été"),
        result(language, text(record, "result")),
        number(record, "code"),
    ));
    if let Some(downstream) = maybe(record, "downstream") {
        said.push(format!(
            "{} {downstream}.",
            say(
                "A service behind the relay may track all the same, which is accepted:",
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
    use crate::policy::{Exemption, Outcome, Purpose, Rule};

    #[test]
    fn every_name_of_the_relay_has_words_in_every_language() {
        let rules = [
            Rule::Granted,
            Rule::GrantStripped,
            Rule::NoConsent,
            Rule::Refused,
            Rule::NoTrack,
            Rule::StoreUnreachable,
            Rule::ConsentRequest,
            Rule::NoRules,
            Rule::PurposesDiffer,
        ];
        let outcomes =
            [Outcome::Keep, Outcome::SwapGated, Outcome::SwapShared, Outcome::SwapDay, Outcome::Strip];
        for language in Language::ALL {
            rules.iter().for_each(|own| assert_ne!(rule(language, own.name()), own.name()));
            Exemption::ALL.iter().for_each(|own| assert_ne!(rule(language, own.name()), own.name()));
            outcomes.iter().for_each(|own| assert_ne!(outcome(language, own.name()), own.name()));
            Purpose::ALL.iter().for_each(|own| assert!(!purpose(language, own.name()).contains('_')));
            crate::consent::State::ALL
                .iter()
                .for_each(|own| assert!(!state(language, own.name()).contains('_')));
        }
    }

    #[test]
    fn a_decision_is_told_in_sentences() {
        let record = serde_json::json!({
            "decided": "strip", "done": "strip", "rule": "refused", "version": "fr/2026-07-14", "consent_record": 7, "found": 2, "removed": 2,
            "swapped": 0, "sightings": [{"carrier": "img", "vendor": "SendGrid", "count": 2}], "result": "accepted", "code": 250, "queue_id": "4X"
        });
        assert_eq!(
            story(Language::En, &record).join(" "),
            "Decided: trackers taken out, because the person said no (rules fr/2026-07-14). What the person said stands in the consent journal as \
             record 7. Trackers found: 2; taken out: 2; replaced: 0. Whose they were: 2 × SendGrid (img). The message was accepted by the next hop \
             (250, 4X)."
        );
    }
}
