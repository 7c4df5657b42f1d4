//! A decision in plain sentences, for the person who must answer for it. No address stands in them.

use super::{Decided, decide_one};
use crate::consent::standing::JOINED;
use crate::consent::{Permission, Person, Standing, Timestamp};
use crate::language::{Language, Text, words};
use crate::policy::decision::{COLLECTED_BEFORE, INFORMED_BEFORE};
use crate::policy::jurisdiction::{UNKNOWN, Version};
use crate::policy::{
    Chosen, Decision, Exemption, Facts, Instruction, Jurisdictions, MailKind, Purpose, Request, Rulebook,
    request,
};

/// A sentence in English, German and French, each with the same values in it.
macro_rules! told {
    ($language:expr, $en:literal, $de:literal, $fr:literal $(, $name:ident = $value:expr)* $(,)?) => {
        match $language {
            Language::En => format!($en $(, $name = $value)*),
            Language::De => format!($de $(, $name = $value)*),
            Language::Fr => format!($fr $(, $name = $value)*),
        }
    };
}

mod closing;

/// Where a recipient's jurisdiction comes from.
#[derive(Clone, Copy, Debug)]
pub struct Whereabouts<'a> {
    /// What the consent record says.
    pub recorded: Option<&'a str>,
    /// What the recipient's domain hints at.
    pub hinted: Option<&'a str>,
}

/// What is decided for a recipient at a moment, and why. `standing` is nothing where the store does not
/// answer; `address` is empty where it is not known.
pub fn explained(
    rulebook: &Rulebook,
    chosen: Chosen<'_>,
    standing: Option<&Standing>,
    address: &str,
    now: Timestamp,
    language: Language,
) -> (Decision, Vec<String>) {
    let in_force = rulebook.jurisdictions.at(now);
    let recorded = standing.and_then(Standing::jurisdiction);
    let rules = in_force.applying(standing, chosen.mailstream.declared(), address);
    let facts = Facts {
        rules: &rules,
        mailstream: chosen.mailstream,
        on_grant: chosen.controller.on_grant,
        standing,
        instruction: Instruction::None,
        now,
    };
    let whereabouts = Whereabouts { recorded: recorded.as_deref(), hinted: in_force.hint(address) };
    let decided =
        decide_one(chosen, &in_force, false, (Person([0; 16]), standing, address), (Instruction::None, now));
    let teller = Teller { language, chosen, facts: &facts, jurisdictions: &rulebook.jurisdictions };
    let sentences = teller.tell(whereabouts, &decided);
    (decided.decision, sentences)
}

/// What tells of a decision, in a language.
struct Teller<'a> {
    language: Language,
    chosen: Chosen<'a>,
    facts: &'a Facts<'a>,
    jurisdictions: &'a Jurisdictions,
}

impl Teller<'_> {
    fn say(&self, en: &'static str, de: &'static str, fr: &'static str) -> &'static str {
        self.language.say(&Text(en, de, fr))
    }

    /// What was decided and why, one sentence or two each.
    fn tell(&self, whereabouts: Whereabouts<'_>, decided: &Decided) -> Vec<String> {
        let mut said = vec![self.mail(), self.place(whereabouts)];
        said.extend(self.sources());
        if self.chosen.mailstream.kind == MailKind::ConsentRequest {
            said.extend(self.asking().map(str::to_owned));
        } else {
            said.extend(self.person());
            said.extend(self.conditions());
        }
        said.push(self.conclusion(&decided.decision));
        said.extend(self.rest(decided));
        said
    }

    fn mail(&self) -> String {
        let mailstream = self.chosen.mailstream;
        if mailstream.is_unmatched() {
            return told!(
                self.language,
                "The mail is of the controller {controller}, and no mailstream fits it: its opens may serve \
                 any purpose.",
                "Die Nachricht ist vom Verantwortlichen {controller}, und keine Mailart passt zu ihr: ihre \
                 Öffnungen können jedem Zweck dienen.",
                "Le message est du responsable {controller} et d’aucun flux déclaré : ses ouvertures peuvent \
                 servir n’importe quelle finalité.",
                controller = self.chosen.controller.name,
            );
        }
        let none = self.say("no exemption", "keine Ausnahme", "aucune exemption");
        told!(
            self.language,
            "The mail belongs to the mailstream {mailstream} of the controller {controller}. Its opens serve: \
             {purposes}. It is declared {requested:?} and may use {exemption}.",
            "Die Nachricht gehört zur Mailart {mailstream} des Verantwortlichen {controller}. Ihre Öffnungen \
             dienen: {purposes}. Sie ist als {requested:?} angegeben und darf nutzen: {exemption}.",
            "Le message appartient au flux {mailstream} du responsable {controller}. Ses ouvertures servent \
             à : {purposes}. Il est déclaré {requested:?} et peut utiliser : {exemption}.",
            mailstream = mailstream.name,
            controller = self.chosen.controller.name,
            purposes = mailstream
                .purposes_of_opens()
                .map(|purpose| self.name(purpose))
                .collect::<Vec<_>>()
                .join(", "),
            requested = mailstream.requested.name(),
            exemption = mailstream.exemption.map_or(none, Exemption::name),
        )
    }

    /// A purpose as the configuration has it, in other languages in words.
    fn name(&self, purpose: Purpose) -> String {
        match self.language {
            Language::En => purpose.name().to_owned(),
            other => words::purpose(other, purpose.name()),
        }
    }

    fn place(&self, whereabouts: Whereabouts<'_>) -> String {
        let declared = self.chosen.mailstream.declared();
        let language = self.language;
        let unknown = |name: &str| {
            if name.split(JOINED).all(|name| self.jurisdictions.knows(name)) {
                return "";
            }
            self.say(
                ", of which no rules are known, so the strictest count",
                ", wofür keine Regeln bekannt sind, so dass die strengsten gelten",
                ", dont aucune règle n’est connue : les plus strictes valent",
            )
        };
        let from = match (whereabouts.recorded, self.facts.standing) {
            (Some(recorded), _) => told!(
                language,
                "The consent record says that the person is in {recorded:?}{unknown}",
                "Im Einwilligungseintrag steht, dass die Person in {recorded:?} ist{unknown}",
                "L’entrée de consentement dit que la personne est en {recorded:?}{unknown}",
                recorded = recorded,
                unknown = unknown(recorded),
            ),
            (None, Some(_)) if declared == UNKNOWN => self
                .say(
                    "Neither the consent record nor the mailstream says where the person is, so the \
                     strictest enabled rules count",
                    "Weder der Einwilligungseintrag noch die Mailart sagt, wo die Person ist, also gelten \
                     die strengsten eingeschalteten Regeln",
                    "Ni l’entrée de consentement ni le flux ne dit où est la personne : les règles activées \
                     les plus strictes valent",
                )
                .to_owned(),
            (None, Some(_)) => told!(
                language,
                "The consent record does not say where the person is; the mailstream declares \
                 {declared:?}{unknown}",
                "Der Einwilligungseintrag sagt nicht, wo die Person ist; die Mailart gibt {declared:?} \
                 an{unknown}",
                "L’entrée de consentement ne dit pas où est la personne ; le flux déclare \
                 {declared:?}{unknown}",
                declared = declared,
                unknown = unknown(declared),
            ),
            (None, None) => told!(
                language,
                "The store does not answer; the mailstream declares {declared:?}",
                "Der Speicher antwortet nicht; die Mailart gibt {declared:?} an",
                "Le registre ne répond pas ; le flux déclare {declared:?}",
                declared = declared,
            ),
        };
        let hinted = whereabouts.hinted.filter(|name| whereabouts.recorded.is_none() && *name != declared);
        let stricter = hinted.map_or(String::new(), |hint| {
            told!(
                language,
                " The address hints at {hint:?}, which may only make the rules stricter.",
                " Die Adresse deutet auf {hint:?}, was die Regeln nur strenger machen darf.",
                " L’adresse fait penser à {hint:?}, ce qui ne peut que rendre les règles plus strictes.",
                hint = hint,
            )
        });
        told!(
            language,
            "{from}.{stricter} The rules are those of {version}.",
            "{from}.{stricter} Es gelten die Regeln {version}.",
            "{from}.{stricter} Les règles sont celles de {version}.",
            from = from,
            stricter = stricter,
            version = self.facts.rules.version,
        )
    }

    /// Where the rules come from: each version that stands in the name of what holds.
    fn sources(&self) -> Vec<String> {
        let parts: Vec<&str> = self.facts.rules.version.split('&').collect();
        let is_named = |version: &&Version| parts.iter().any(|part| version.is_part_of(part));
        let of_version = self.jurisdictions.versions().iter().filter(is_named);
        let mut said: Vec<String> = of_version
            .map(|version| {
                told!(
                    self.language,
                    "{label}: {source} (checked on {day}).",
                    "{label}: {source} (geprüft am {day}).",
                    "{label} : {source} (vérifié le {day}).",
                    label = version.full_label(),
                    source = version.source,
                    day = version.checked_on,
                )
            })
            .collect();
        if parts.iter().any(|part| part.starts_with(UNKNOWN)) {
            said.push(told!(
                self.language,
                "{name} is the strictest of {enabled}, as they are in force at that moment.",
                "{name} ist das Strengste von {enabled}, wie sie zu dem Zeitpunkt gelten.",
                "{name} est le plus strict de {enabled}, tels qu’en vigueur à ce moment.",
                name = UNKNOWN,
                enabled = self.jurisdictions.enabled().join(", "),
            ));
        }
        said
    }

    /// Of mail that asks for consent: that it may carry nothing, and whether it may ask.
    fn asking(&self) -> [&'static str; 2] {
        let facts = self.facts;
        [
            self.say(
                "The mail asks for consent, so it carries nothing that needs it.",
                "Die Nachricht bittet um Einwilligung, also trägt sie nichts, was sie braucht.",
                "Le message demande le consentement et ne porte donc rien qui l’exige.",
            ),
            match request(facts.mailstream, false, facts.standing, facts.now) {
                Request::Rejects | Request::Goes => self.say(
                    "The person may not be asked now: a question that its author marked goes, and without \
                     such marks the mail is rejected.",
                    "Die Person darf jetzt nicht gefragt werden: eine Frage, die ihr Verfasser markiert hat, \
                     wird entfernt, und ohne solche Marken wird die Nachricht abgewiesen.",
                    "La personne ne peut être interrogée maintenant : une question que son auteur a marquée \
                     est retirée, et sans marques le message est rejeté.",
                ),
                Request::Asks | Request::None => self.say(
                    "The person may be asked.",
                    "Die Person darf gefragt werden.",
                    "La personne peut être interrogée.",
                ),
            },
        ]
    }

    /// What the person said about each purpose.
    fn person(&self) -> Vec<String> {
        let Some(standing) = self.facts.standing else {
            let nobody = self.say(
                "Nobody can say now what the person said; that counts as no.",
                "Niemand kann jetzt sagen, was die Person gesagt hat; das gilt als Nein.",
                "Nul ne peut dire maintenant ce que la personne a dit ; cela vaut non.",
            );
            return vec![nobody.to_owned()];
        };
        let purposes = self.facts.mailstream.purposes.iter();
        let mut said: Vec<String> = purposes.map(|purpose| self.purpose(standing, *purpose)).collect();
        if standing.no_track() {
            let never = self.say(
                "The record says never to track this person.",
                "Der Eintrag sagt, dass diese Person nie getrackt werden darf.",
                "L’entrée dit de ne jamais pister cette personne.",
            );
            said.push(never.to_owned());
        }
        said
    }

    fn purpose(&self, standing: &Standing, purpose: Purpose) -> String {
        let Some(stand) = standing.of(purpose) else {
            return told!(
                self.language,
                "{purpose}: the person has said nothing, and silence is not consent.",
                "{purpose}: die Person hat nichts gesagt, und Schweigen ist keine Einwilligung.",
                "{purpose} : la personne n’a rien dit, et le silence n’est pas un consentement.",
                purpose = self.name(purpose),
            );
        };
        let now = self.facts.now;
        let how = match (standing.allows(purpose, now), stand.expires) {
            (Permission::Granted(_), _) => self.say("and it stands", "es gilt", "cela vaut").to_owned(),
            (Permission::NotGranted(_), Some(end)) if end <= now => told!(
                self.language,
                "and expired on {end}",
                "abgelaufen am {end}",
                "expiré le {end}",
                end = end,
            ),
            (Permission::NotGranted(_), _) => self
                .say("which is no grant", "das ist keine Einwilligung", "ce n’est pas un accord")
                .to_owned(),
        };
        match self.language {
            Language::En => format!(
                "{purpose}: {} on {} (record {}), {how}.",
                stand.state.name(),
                stand.event_at,
                stand.record,
            ),
            Language::De => format!(
                "{}: {} am {} (Eintrag {}); {how}.",
                self.name(purpose),
                words::state(self.language, stand.state.name()),
                stand.event_at,
                stand.record,
            ),
            Language::Fr => format!(
                "{} : {} le {} (entrée {}) ; {how}.",
                self.name(purpose),
                words::state(self.language, stand.state.name()),
                stand.event_at,
                stand.record,
            ),
        }
    }

    /// How the conditions of the declared exemption stand.
    fn conditions(&self) -> Vec<String> {
        let mailstream = self.facts.mailstream;
        let Some(exemption) = mailstream.exemption else { return Vec::new() };
        let (name, language) = (exemption.name(), self.language);
        let known = match self.facts.rules.flags.exempt.has(exemption) {
            true => told!(
                language,
                "The rules know the exemption {name}.",
                "Die Regeln kennen die Ausnahme {name}.",
                "Les règles connaissent l’exemption {name}.",
                name = name,
            ),
            false => told!(
                language,
                "The rules do not know the exemption {name}.",
                "Die Regeln kennen die Ausnahme {name} nicht.",
                "Les règles ne connaissent pas l’exemption {name}.",
                name = name,
            ),
        };
        let condition = match exemption {
            Exemption::Deliverability => told!(
                language,
                "{name} is for mail that the person asked for, and not after a no; this mail is declared \
                 {requested:?}.",
                "{name} gilt für Nachrichten, die die Person verlangt hat, und nicht nach einem Nein; diese \
                 ist als {requested:?} angegeben.",
                "{name} vaut pour les messages que la personne a demandés, et pas après un non ; celui-ci \
                 est déclaré {requested:?}.",
                name = name,
                requested = mailstream.requested.name(),
            ),
            Exemption::AuthSecurity | Exemption::LegalNotice => told!(
                language,
                "{name} is for a declared template alone; this mailstream {is} bound to a sender, a List-Id \
                 or a header field.",
                "{name} gilt nur für eine angegebene Vorlage; diese Mailart {is} an einen Absender, eine \
                 List-Id oder ein Kopffeld gebunden.",
                "{name} ne vaut que pour un modèle déclaré ; ce flux {is} lié à un expéditeur, un List-Id ou \
                 un champ d’en-tête.",
                name = name,
                is = match mailstream.conditions.name_a_template() {
                    true => self.say("is", "ist", "est"),
                    false => self.say("is not", "ist nicht", "n’est pas"),
                },
            ),
            Exemption::AggregateStatistics => told!(
                language,
                "{name} is one address for everybody.",
                "{name} ist eine einzige Adresse für alle.",
                "{name} est une seule adresse pour tous.",
                name = name,
            ),
            Exemption::LegacyInformed => {
                let missing = self.say("not recorded", "nicht aufgezeichnet", "non noté");
                let time = |time: Option<Timestamp>| time.map_or(missing.to_owned(), |time| time.to_string());
                let standing = self.facts.standing;
                told!(
                    language,
                    "{name} is for addresses collected before {collected_before} whose people were informed \
                     before {informed_before}; this one was collected: {collected}, informed: {informed}.",
                    "{name} gilt für Adressen, die vor {collected_before} erhoben und deren Personen vor \
                     {informed_before} informiert wurden; diese: erhoben {collected}, informiert {informed}.",
                    "{name} vaut pour les adresses collectées avant {collected_before} dont les personnes \
                     ont été informées avant {informed_before} ; celle-ci : collectée {collected}, informée \
                     {informed}.",
                    name = name,
                    collected_before = COLLECTED_BEFORE,
                    informed_before = INFORMED_BEFORE,
                    collected = time(standing.and_then(|standing| standing.collected_at)),
                    informed = time(standing.and_then(|standing| standing.notice_sent_at)),
                )
            }
        };
        vec![known, condition]
    }
}
