//! Renders everything recorded about one person as a page to read, print and pass on. It loads nothing and
//! has no script.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::consent::export::{Export, Proved};
use crate::consent::view::{Record, Standing};
use crate::language::{Language, Text, words};

const STYLE: &str = ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;\
                     margin:2rem auto;padding:0 1rem}h1{font-size:1.6rem}h2{font-size:1.25rem;\
                     margin-top:2.2rem}h3{font-size:1.05rem;margin-bottom:.4rem}\
                     table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;\
                     padding:.35rem .7rem .35rem 0;border-bottom:1px solid #8886}article{border:1px solid \
                     #8886;border-radius:.5rem;padding:.3rem 1rem 1rem;margin:1rem \
                     0;break-inside:avoid}dl{display:grid;grid-template-columns:minmax(9rem,max-content) \
                     1fr;gap:.25rem 1rem;margin:0}dt{font-weight:600}dd{margin:0;overflow-wrap:anywhere}\
                     code{font-size:.85em;overflow-wrap:anywhere}\
                     .soft{opacity:.75}@media(max-width:34rem){dl{grid-template-columns:1fr}\
                     dd{margin-bottom:.5rem}}";

const TITLE: Text = Text(
    "What is recorded about one person",
    "Was über eine Person verzeichnet ist",
    "Ce qui est noté sur une personne",
);
const YES: Text = Text("yes", "ja", "oui");
const NO: Text = Text("no", "nein", "non");

/// Renders the page in a language.
pub fn page(export: &Export, language: Language) -> String {
    let say = |text: &Text| language.say(text);
    let page = html! {
        (DOCTYPE)
        html lang=(language.code()) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="referrer" content="no-referrer";
                title { (say(&TITLE)) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    h1 { (say(&TITLE)) }
                    p {
                        (say(&Text(
                            "Taken from the consent journal on",
                            "Dem Einwilligungsjournal entnommen am",
                            "Tiré du journal des consentements le",
                        )))
                        " "
                        time datetime=(export.exported_at) { (language.moment(&export.exported_at)) }
                        ". "
                        (say(&Text(
                            "The person is known by a keyed hash of the mail address:",
                            "Die Person ist unter einem mit einem Schlüssel gebildeten Hash der \
                             Mailadresse bekannt:",
                            "La personne est connue sous une empreinte à clé de son adresse :",
                        )))
                        " " code { (export.person) } ". "
                        (say(&Text(
                            "The address itself is not kept.",
                            "Die Adresse selbst wird nicht aufbewahrt.",
                            "L’adresse elle-même n’est pas conservée.",
                        )))
                    }
                    @for standing in &export.standing { (stands(standing, language)) }
                    h2 { (say(&Text(
                        "Every record, oldest first",
                        "Alle Einträge, der älteste zuerst",
                        "Toutes les entrées, la plus ancienne d’abord",
                    ))) }
                    @for record in &export.records { (entry(record, language)) }
                    (how_to_check(export, language))
                }
            }
        }
    };
    page.into_string()
}

fn stands(standing: &Standing, language: Language) -> Markup {
    let say = |text: &Text| language.say(text);
    html! {
        h2 {
            (say(&Text(
                "Current consent towards",
                "Was jetzt gilt gegenüber",
                "Ce qui vaut maintenant envers",
            )))
            " " (standing.controller)
        }
        table {
            thead {
                tr {
                    th scope="col" { (say(&Text("Purpose", "Zweck", "Finalité"))) }
                    th scope="col" { (say(&Text(
                        "May opens be read for it?",
                        "Dürfen Öffnungen dafür gelesen werden?",
                        "Les ouvertures peuvent-elles être lues pour cela ?",
                    ))) }
                    th scope="col" { (say(&Text("Last said", "Zuletzt gesagt", "Dernière réponse"))) }
                    th scope="col" { (say(&Text("On", "Am", "Le"))) }
                }
            }
            tbody {
                @for row in &standing.purposes {
                    tr {
                        th scope="row" { (words::purpose(language, &row.purpose)) }
                        td {
                            (say(if row.allowed { &YES } else { &NO }))
                            " (" (say(&Text("record", "Eintrag", "entrée"))) " " (row.record) ")"
                        }
                        td { (words::state(language, &row.state)) }
                        td {
                            (language.moment(&row.event_time))
                            @if let Some(end) = &row.expires {
                                ", " (say(&Text("until", "bis", "jusqu’au"))) " " (language.moment(end))
                            }
                        }
                    }
                }
            }
        }
        @if standing.no_track { p { (say(&Text(
            "This person is never to be tracked.",
            "Diese Person darf nie getrackt werden.",
            "Cette personne ne doit jamais être pistée.",
        ))) } }
        @if let Some(end) = &standing.do_not_ask_before {
            p {
                (say(&Text(
                    "Do not ask again before",
                    "Nicht wieder fragen vor",
                    "Ne pas redemander avant le",
                )))
                " " (language.moment(end)) "."
            }
        }
        @if let Some(rules) = &standing.jurisdiction {
            p {
                (say(&Text("Rules that apply:", "Geltende Regeln:", "Règles applicables :")))
                " " (rules) "."
            }
        }
    }
}

fn entry(Proved { said: record, proof }: &Proved, language: Language) -> Markup {
    let purposes: Vec<String> =
        record.purposes.iter().map(|purpose| words::purpose(language, purpose)).collect();
    let moment = |time: &Option<String>| time.as_deref().map(|time| language.moment(time));
    let about = language.say(&Text("about", "zu", "à propos de"));
    let said = format!("{} {about} {}", state_of(record, language), purposes.join(", "));
    let never = record.no_track.map(|flag| language.say(if flag { &YES } else { &NO }).to_owned());
    let rows = [
        (Text("Said", "Gesagt", "Dit"), Some(said)),
        (Text("To", "Wem", "À"), Some(record.controller.clone())),
        (Text("On", "Am", "Le"), Some(language.moment(&record.event_time))),
        (Text("Said to apply to", "Angeblich am", "Date indiquée"), moment(&record.claimed_time)),
        (Text("Recorded on", "Eingetragen am", "Noté le"), Some(language.moment(&record.recorded_at))),
        (Text("How", "Wie", "Comment"), record.method.clone()),
        (Text("Where", "Wo", "Où"), record.channel.clone()),
        (Text("Notice shown", "Gezeigter Hinweis", "Information affichée"), record.notice_version.clone()),
        (
            Text("SHA-256 of its text", "SHA-256 seines Textes", "SHA-256 de son texte"),
            record.text_hash.clone(),
        ),
        (Text("Evidence", "Beleg", "Preuve"), record.evidence.clone()),
        (Text("Entered by", "Eingetragen von", "Saisi par"), record.actor.clone()),
        (
            Text(
                "Known to the controller as",
                "Beim Verantwortlichen bekannt als",
                "Connue du responsable comme",
            ),
            record.external_id.clone(),
        ),
        (
            Text("How far it reaches", "Wie weit es reicht", "Portée"),
            record.scope.as_deref().map(|scope| scope_name(language, scope)),
        ),
        (Text("Asked on", "Gefragt am", "Demandé le"), moment(&record.asked_at)),
        (Text("Informed on", "Informiert am", "Informée le"), moment(&record.notice_sent_at)),
        (
            Text("Address collected on", "Adresse erhoben am", "Adresse recueillie le"),
            moment(&record.collected_at),
        ),
        (Text("Ends on", "Endet am", "Prend fin le"), moment(&record.expires)),
        (
            Text("Do not ask before", "Nicht fragen vor", "Ne pas demander avant le"),
            moment(&record.do_not_ask_before),
        ),
        (Text("Rules", "Regeln", "Règles"), record.jurisdiction.clone()),
        (Text("Never track", "Nie tracken", "Ne jamais pister"), never),
    ];
    html! {
        article {
            h3 { (language.say(&Text("Record", "Eintrag", "Entrée"))) " " (record.record) }
            dl {
                @for (name, value) in rows {
                    @if let Some(value) = value { dt { (language.say(&name)) } dd { (value) } }
                }
                dt { (language.say(&Text("Chain before", "Kette davor", "Chaîne avant"))) }
                dd { code { (proof.hash_before) } }
                dt { (language.say(&Text("Chain including it", "Kette damit", "Chaîne avec"))) }
                dd { code { (proof.hash) } }
            }
        }
    }
}

/// Says how far a choice reaches.
fn scope_name(language: Language, name: &str) -> String {
    let known = match name {
        "address" => Text("this address", "diese Adresse", "cette adresse"),
        "account" => Text(
            "the whole account with all its devices",
            "das ganze Konto mit allen seinen Geräten",
            "tout le compte avec tous ses appareils",
        ),
        _ => return name.to_owned(),
    };
    language.say(&known).to_owned()
}

fn how_to_check(export: &Export, language: Language) -> Markup {
    let say = |text: &Text| language.say(text);
    html! {
        h2 { (say(&Text("How this can be checked", "Wie sich das prüfen lässt", "Comment le vérifier"))) }
        p {
            (say(&Text(
                "Each record of the journal carries the SHA-256 of the hash before it and of its bytes. A \
                 record cannot be changed, added or left out without changing every later hash.",
                "Jeder Eintrag des Journals trägt den SHA-256 aus dem Hash davor und seinen Bytes. Kein \
                 Eintrag lässt sich ändern, einfügen oder weglassen, ohne dass sich alle späteren Hashes \
                 ändern.",
                "Chaque entrée du journal porte le SHA-256 de l’empreinte précédente et de ses octets. \
                 Aucune entrée ne peut être modifiée, ajoutée ou omise sans changer toutes les empreintes \
                 suivantes.",
            )))
            " "
            (say(&Text(
                "When this page was made, the number of records of all people in the journal was",
                "Als diese Seite entstand, war die Zahl der Einträge aller Personen im Journal",
                "Quand cette page a été établie, le nombre d’entrées de toutes les personnes au journal \
                 était",
            )))
            " " (language.number(export.journal_records)) ", "
            (say(&Text("and its last hash", "und sein letzter Hash", "et sa dernière empreinte")))
            " " code { (export.journal_hash) } "."
        }
        p class="soft" {
            (say(&Text(
                "The same export as JSON contains the bytes of each record. This command compares it with \
                 the journal:",
                "Derselbe Export als JSON enthält die Bytes jedes Eintrags. Dieser Befehl vergleicht ihn \
                 mit dem Journal:",
                "Le même export en JSON contient les octets de chaque entrée. Cette commande le compare au \
                 journal :",
            )))
            " " code { "pixelward consent verify --export FILE" }
        }
    }
}

/// Says what was recorded. A grant without proof is one, and does not count (N22).
fn state_of(record: &Record, language: Language) -> String {
    let unproved = Text(
        "granted without proof, so it does not count,",
        "zugestimmt ohne Beleg, zählt daher nicht,",
        "accepté sans preuve, ne compte donc pas,",
    );
    match record.unproved_grant {
        true => language.say(&unproved).to_owned(),
        false => words::state(language, &record.state),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consent::export::Proof;

    #[test]
    fn what_people_wrote_stays_text() {
        let hostile = Some("<script>alert(1)</script>\"'&".to_owned());
        let proof = Proof { hash_before: "00".into(), payload: "01".into(), hash: "02".into() };
        let record = Record {
            record: 1,
            controller: "shop".into(),
            purposes: vec!["personalisation".into()],
            state: "granted".into(),
            unproved_grant: false,
            event_time: "2026-09-01T10:00:00Z".into(),
            claimed_time: None,
            recorded_at: "2026-09-01T10:00:00.123Z".into(),
            asked_at: None,
            notice_sent_at: None,
            collected_at: None,
            expires: None,
            do_not_ask_before: None,
            jurisdiction: hostile.clone(),
            no_track: None,
            method: hostile.clone(),
            channel: hostile.clone(),
            notice_version: hostile.clone(),
            text_hash: None,
            evidence: hostile.clone(),
            actor: hostile.clone(),
            external_id: hostile.clone(),
            scope: hostile,
        };
        let export = Export {
            exported_at: "2026-09-01T10:00:00Z".into(),
            person: "ab".into(),
            standing: vec![],
            records: vec![Proved { said: record, proof }],
            journal_records: 1,
            journal_hash: "02".into(),
        };
        for (language, parts) in [
            (Language::En, ["2026-09-01 10:00:00 UTC", "How this can be checked", "granted about"]),
            (Language::De, ["01.09.2026 10:00:00 UTC", "Wie sich das prüfen lässt", "<html lang=\"de\">"]),
            (Language::Fr, ["01/09/2026 10:00:00 UTC", "Comment le vérifier", "<html lang=\"fr\">"]),
        ] {
            let page = page(&export, language);
            assert!(!page.contains("<script") && page.contains("&lt;script&gt;"));
            for part in parts {
                assert!(page.contains(part), "{part}: {page}");
            }
            if language != Language::En {
                assert!(!page.contains("What is recorded") && !page.contains(">Record"), "{page}");
            }
        }
    }
}
