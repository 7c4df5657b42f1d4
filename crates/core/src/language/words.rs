//! What the names mean that the relay uses, for people who did not write its configuration.

use super::{Language, Text};

/// Describes an outcome.
pub fn outcome(language: Language, name: &str) -> String {
    let words = match name {
        "keep" => Text("left as it was", "unverändert gelassen", "laissé tel quel"),
        "strip" => Text("trackers removed", "Tracker entfernt", "traceurs retirés"),
        "swap_gated" => Text("gated pixel", "Pixel mit Einwilligungsprüfung", "pixel soumis au consentement"),
        "swap_shared" => Text("shared pixel", "gemeinsames Pixel", "pixel partagé"),
        "swap_day" => {
            Text("day pixel", "Pixel für den Tag der letzten Öffnung", "pixel du dernier jour d’ouverture")
        }
        "nothing" => Text("nothing to do", "nichts zu tun", "rien à faire"),
        other => return other.to_owned(),
    };
    language.say(&words).to_owned()
}

/// Describes why mail was refused, by the code of the reply and its enhanced status code (RFC 3463).
pub fn refusal(language: Language, code: u64, status: &str) -> &'static str {
    let detail = status.split_once('.').map_or("", |(_, detail)| detail);
    let words = match (detail, code) {
        ("1.1" | "1.6" | "1.10", _) => Text("no such mailbox", "Postfach unbekannt", "boîte inconnue"),
        ("1.2", _) => Text("no such domain", "Domain unbekannt", "domaine inconnu"),
        ("1.7" | "1.8", _) => Text(
            "the sender’s address is refused",
            "Absenderadresse abgelehnt",
            "adresse d’expéditeur refusée",
        ),
        ("2.1", _) => Text("the mailbox is disabled", "Postfach gesperrt", "boîte désactivée"),
        ("2.2", _) => Text("the mailbox is full", "Postfach voll", "boîte pleine"),
        ("2.3" | "3.4", _) => {
            Text("the message is too large", "Nachricht zu groß", "message trop volumineux")
        }
        ("3.1" | "3.2" | "4.5", _) => {
            Text("the server is overloaded", "Server überlastet", "serveur surchargé")
        }
        ("4.1" | "4.2" | "4.4", _) => {
            Text("the server cannot be reached", "Server nicht erreichbar", "serveur injoignable")
        }
        ("4.6", _) => Text("the mail runs in circles", "E-Mail läuft im Kreis", "l’e‑mail tourne en boucle"),
        ("7.8" | "7.9", _) => Text("the login is refused", "Anmeldung abgelehnt", "authentification refusée"),
        ("7.10" | "7.11" | "7.12" | "7.5", _) => Text(
            "TLS is lacking or not trusted",
            "TLS fehlt oder ist nicht vertraut",
            "TLS absent ou non fiable",
        ),
        (_, 530 | 535) => Text("a login is needed", "Anmeldung nötig", "authentification requise"),
        (detail, _) if detail.starts_with("7.") => {
            Text("refused by policy", "von Richtlinie abgelehnt", "refusé par une politique")
        }
        (detail, _) if detail.starts_with("6.") => {
            Text("the content is refused", "Inhalt abgelehnt", "contenu refusé")
        }
        (detail, _) if detail.starts_with("5.") => {
            Text("a fault in the protocol", "Protokollfehler", "erreur de protocole")
        }
        (_, 400..500) => Text("refused for now", "vorerst abgelehnt", "refusé pour le moment"),
        _ => Text("refused for good", "endgültig abgelehnt", "refusé définitivement"),
    };
    language.say(&words)
}

/// Describes a rule, to be read after "because".
pub fn rule(language: Language, name: &str) -> String {
    let words = match name {
        "granted" => Text(
            "every purpose of the mail was granted",
            "jedem Zweck der Nachricht zugestimmt war",
            "chaque finalité du message était acceptée",
        ),
        "granted_but_on_grant_is_strip" => Text(
            "the controller removes trackers even if the person agreed",
            "der Verantwortliche Tracker auch bei Zustimmung entfernen lässt",
            "le responsable fait retirer les traceurs même en cas d’accord",
        ),
        "no_consent" => Text(
            "a purpose had no valid consent",
            "für einen Zweck keine gültige Einwilligung vorlag",
            "une finalité n’avait pas de consentement valable",
        ),
        "refused" => Text("the person refused", "die Person abgelehnt hatte", "la personne avait refusé"),
        "refused_by_sender" => Text(
            "the sending application said that consent was refused",
            "die sendende Anwendung sagte, dass die Einwilligung verweigert wurde",
            "l’application émettrice disait que le consentement avait été refusé",
        ),
        "no_track" => Text(
            "the person must never be tracked",
            "die Person nie getrackt werden darf",
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
        "not_received" => Text(
            "the recipient was refused before the message came",
            "der Empfänger vor der Nachricht abgelehnt wurde",
            "le destinataire a été refusé avant le message",
        ),
        "no_rules" => Text(
            "no rules apply where the person is",
            "dort, wo die Person ist, keine Regeln gelten",
            "aucune règle ne s’applique là où se trouve la personne",
        ),
        "purposes_differ" => Text(
            "one pixel cannot serve the purposes together",
            "ein Pixel den Zwecken nicht gemeinsam dienen kann",
            "un seul pixel ne peut servir ces finalités ensemble",
        ),
        "internal_error" => {
            Text("an internal error occurred", "ein interner Fehler trat auf", "erreur interne")
        }
        "deliverability" | "auth_security" | "legal_notice" | "aggregate_statistics" | "legacy_informed" => {
            let words = Text("the exemption applies:", "die Ausnahme gilt:", "l’exemption s’applique :");
            return format!("{} {}", language.say(&words), exemption(language, name));
        }
        other => return other.to_owned(),
    };
    language.say(&words).to_owned()
}

/// Describes a state of consent.
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

/// Describes how far people asked for mail.
pub fn requested(language: Language, name: &str) -> String {
    let words = match name {
        "requested" => Text("requested", "angefordert", "demandé"),
        "soft_opt_in" => {
            Text("to customers (soft opt-in)", "an Bestandskunden (Soft Opt-in)", "aux clients (soft opt-in)")
        }
        "neither" => Text("not requested", "nicht angefordert", "non demandé"),
        other => return other.to_owned(),
    };
    language.say(&words).to_owned()
}

/// Describes an exemption.
pub fn exemption(language: Language, name: &str) -> String {
    match name {
        "legacy_informed" => {
            let words =
                Text("people informed in time", "rechtzeitig Informierte", "personnes informées à temps");
            language.say(&words).to_owned()
        }
        other => purpose(language, other),
    }
}

/// Describes a purpose.
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
        "link_tracking" => Text("link tracking", "Link-Tracking", "suivi des liens"),
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

/// Describes the result of a delivery.
pub fn result(language: Language, name: &str) -> String {
    let words = match name {
        "accepted" => Text(
            "accepted by the next hop",
            "vom nächsten Server angenommen",
            "accepté par le serveur suivant",
        ),
        "deferred" => Text("deferred", "zurückgestellt", "différé"),
        "rejected" => Text("rejected", "abgewiesen", "rejeté"),
        other => return other.to_owned(),
    };
    language.say(&words).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Exemption, Outcome, Purpose, Requested, Rule};

    #[test]
    fn every_name_of_the_relay_has_words_in_every_language() {
        let rules = [
            Rule::Granted,
            Rule::GrantStripped,
            Rule::NoConsent,
            Rule::Refused,
            Rule::RefusedBySender,
            Rule::NoTrack,
            Rule::StoreUnreachable,
            Rule::ConsentRequest,
            Rule::NoRules,
            Rule::PurposesDiffer,
            Rule::InternalError,
        ];
        let outcomes =
            [Outcome::Keep, Outcome::SwapGated, Outcome::SwapShared, Outcome::SwapDay, Outcome::Strip];
        for language in Language::ALL {
            rules.iter().for_each(|known| assert_ne!(rule(language, known.name()), known.name()));
            Exemption::ALL
                .iter()
                .for_each(|exemption| assert_ne!(rule(language, exemption.name()), exemption.name()));
            outcomes.iter().for_each(|known| assert_ne!(outcome(language, known.name()), known.name()));
            for known in [Requested::Requested, Requested::SoftOptIn, Requested::Neither] {
                assert!(!requested(language, known.name()).contains('_'));
                assert_ne!(requested(language, known.name()), "neither");
            }
            Purpose::ALL.iter().for_each(|known| assert!(!purpose(language, known.name()).contains('_')));
            crate::consent::State::ALL
                .iter()
                .for_each(|known| assert!(!state(language, known.name()).contains('_')));
        }
    }
}
