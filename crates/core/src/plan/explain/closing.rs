//! What follows from a decision, in plain sentences.

use super::Teller;
use crate::language::Language;
use crate::plan::Decided;
use crate::policy::{Decision, LinkFate, Mode, OnGrant, Outcome, Rule};
use crate::rewrite::{LinkTreatment, Receipts};

impl Teller<'_> {
    /// What is done, and by which rule.
    pub(super) fn conclusion(&self, decision: &Decision) -> String {
        told!(
            self.language,
            "Therefore {outcome}: {done} (rule {rule}), since {because}.",
            "Deshalb {outcome}: {done} (Regel {rule}), denn {because}.",
            "Donc {outcome} : {done} (règle {rule}), car {because}.",
            outcome = decision.outcome.name(),
            done = self.done(decision.outcome),
            rule = decision.rule.name(),
            because = self.because(decision.rule),
        )
    }

    fn because(&self, rule: Rule) -> &'static str {
        match rule {
            Rule::Granted => match self.facts.on_grant {
                OnGrant::Keep => self.say(
                    "every purpose is granted, and on_grant is \"keep\": a withdrawal cannot reach delivered \
                     mail",
                    "jedem Zweck ist zugestimmt, und on_grant ist \"keep\": ein Widerruf erreicht \
                     zugestellte E-Mails nicht",
                    "chaque finalité est acceptée, et on_grant est \"keep\" : un retrait n’atteint pas les \
                     e-mails remis",
                ),
                OnGrant::Gate | OnGrant::Strip => self.say(
                    "every purpose is granted",
                    "jedem Zweck ist zugestimmt",
                    "chaque finalité est acceptée",
                ),
            },
            Rule::GrantStripped => self.say(
                "every purpose is granted, but on_grant is \"strip\"",
                "jedem Zweck ist zugestimmt, aber on_grant ist \"strip\"",
                "chaque finalité est acceptée, mais on_grant est \"strip\"",
            ),
            Rule::NoConsent => self.say(
                "a purpose lacks a standing grant, and no exemption stands in for it",
                "für einen Zweck fehlt eine gültige Einwilligung, und keine Ausnahme tritt an ihre Stelle",
                "une finalité n’a pas d’accord valable, et aucune exemption ne le remplace",
            ),
            Rule::Refused => {
                self.say("the person said no", "die Person hat Nein gesagt", "la personne a dit non")
            }
            Rule::RefusedBySender => self.say(
                "the sending application says that consent was refused",
                "die sendende Anwendung sagt, dass die Einwilligung verweigert wurde",
                "l’application émettrice dit que le consentement a été refusé",
            ),
            Rule::NoTrack => self.say(
                "the person is never to be tracked",
                "die Person darf nie getrackt werden",
                "la personne ne doit jamais être pistée",
            ),
            Rule::StoreUnreachable => self.say(
                "the store does not answer",
                "der Speicher antwortet nicht",
                "le registre ne répond pas",
            ),
            Rule::ConsentRequest => self.say(
                "the mail asks for consent",
                "die Nachricht bittet um Einwilligung",
                "le message demande le consentement",
            ),
            Rule::NoRules => self.say(
                "no rule is applied where the person is",
                "dort, wo die Person ist, wird keine Regel angewandt",
                "aucune règle ne s’applique là où est la personne",
            ),
            Rule::Exempt(_) => self.say(
                "the exemption holds with all its conditions",
                "die Ausnahme gilt mit allen ihren Bedingungen",
                "l’exemption vaut avec toutes ses conditions",
            ),
            Rule::PurposesDiffer => self.say(
                "each purpose is allowed, but in ways that one pixel cannot serve together",
                "jeder Zweck ist erlaubt, aber auf Arten, denen ein Pixel nicht gemeinsam dienen kann",
                "chaque finalité est permise, mais de manières qu’un seul pixel ne peut servir ensemble",
            ),
            Rule::InternalError => self.say(
                "an internal error kept the message from being analysed",
                "ein interner Fehler hat die Analyse der Nachricht verhindert",
                "une erreur interne a empêché l’analyse du message",
            ),
        }
    }

    fn done(&self, outcome: Outcome) -> &'static str {
        match outcome {
            Outcome::Keep => self.say(
                "trackers stay as they are",
                "Tracker bleiben, wie sie sind",
                "les traceurs restent tels quels",
            ),
            Outcome::SwapGated => self.say(
                "trackers lead to an address that asks for consent at each fetch",
                "Tracker führen zu einer Adresse, die bei jedem Abruf nach der Einwilligung fragt",
                "les traceurs mènent à une adresse qui vérifie le consentement à chaque requête",
            ),
            Outcome::SwapShared => self.say(
                "trackers become one address that is the same for everybody",
                "Tracker werden zu einer Adresse, die für alle dieselbe ist",
                "les traceurs deviennent une adresse, la même pour tous",
            ),
            Outcome::SwapDay => self.say(
                "trackers become an address that keeps the day of the last open alone",
                "Tracker werden zu einer Adresse, die nur den Tag der letzten Öffnung festhält",
                "les traceurs deviennent une adresse qui ne garde que le jour de la dernière ouverture",
            ),
            Outcome::Strip => {
                self.say("trackers are taken out", "Tracker werden entfernt", "les traceurs sont retirés")
            }
        }
    }

    /// What becomes of links that report who follows them.
    fn links(&self, decision: &Decision) -> &'static str {
        match (self.chosen.mailstream.treatment.link_treatment, decision.links) {
            (LinkTreatment::Keep, LinkFate::Stay | LinkFate::Granted) | (_, LinkFate::Stay) => self.say(
                "Tracking links stay.",
                "Tracking-Links bleiben.",
                "Les liens de suivi restent.",
            ),
            (LinkTreatment::Keep, LinkFate::Treat) => self.say(
                "Tracking links stay although nobody agreed to them: that is the setting links.",
                "Tracking-Links bleiben, obwohl niemand in sie eingewilligt hat: so will es die Einstellung \
                 links.",
                "Les liens de suivi restent sans que personne y ait consenti : c’est le réglage links.",
            ),
            (LinkTreatment::Unwrap, LinkFate::Granted) => self.say(
                "The person agreed to link tracking: tracking links stay.",
                "Die Person hat der Erfassung von Klicks zugestimmt: Tracking-Links bleiben.",
                "La personne a consenti au suivi des liens : les liens de suivi restent.",
            ),
            (LinkTreatment::Gate, LinkFate::Granted) => self.say(
                "The person agreed to link tracking: tracking links whose page is known lead to an address that \
                 asks for consent at each click.",
                "Die Person hat der Erfassung von Klicks zugestimmt: Tracking-Links, deren Seite bekannt ist, \
                 führen zu einer Adresse, die bei jedem Klick nach der Einwilligung fragt.",
                "La personne a consenti au suivi des liens : les liens de suivi dont la page est connue mènent à \
                 une adresse qui vérifie le consentement à chaque clic.",
            ),
            (LinkTreatment::Unwrap | LinkTreatment::Gate, LinkFate::Treat) => self.say(
                "No consent to link tracking: tracking links lead straight to their page where that is known.",
                "Keine Einwilligung in die Erfassung von Klicks: Tracking-Links führen direkt zu ihrer Seite, \
                 wo diese bekannt ist.",
                "Pas de consentement au suivi des liens : les liens de suivi mènent directement à leur page \
                 là où elle est connue.",
            ),
        }
    }

    /// What else happens to the copy.
    pub(super) fn rest(&self, decided: &Decided) -> Vec<String> {
        let (chosen, language, decision) = (self.chosen, self.language, &decided.decision);
        let mut said = Vec::new();
        if let Some(reason) = decided.shortfall {
            said.push(told!(
                language,
                "The controller has no public_url under which such an address could be served, so trackers \
                 are taken out ({reason}).",
                "Der Verantwortliche hat keine public_url, unter der eine solche Adresse stehen könnte, also \
                 werden Tracker entfernt ({reason}).",
                "Le responsable n’a pas de public_url où servir une telle adresse : les traceurs sont \
                 retirés ({reason}).",
                reason = reason,
            ));
        }
        said.push(self.links(decision).to_owned());
        said.push(
            match decision.receipts {
                Receipts::Keep => self.say(
                    "Requests for a receipt stay.",
                    "Bitten um eine Lesebestätigung bleiben.",
                    "Les demandes d’accusé de lecture restent.",
                ),
                Receipts::Strip => self.say(
                    "Requests for a receipt are taken out.",
                    "Bitten um eine Lesebestätigung werden entfernt.",
                    "Les demandes d’accusé de lecture sont retirées.",
                ),
            }
            .to_owned(),
        );
        if chosen.mailstream.mode == Mode::Observe {
            let observed = self.say(
                "The mode is \"observe\": all of this is only logged, and the mail is relayed untouched.",
                "Die Betriebsart ist \"observe\": all das wird nur protokolliert, und die Nachricht geht \
                 unverändert weiter.",
                "Le mode est \"observe\" : tout cela est seulement journalisé, et le message est transmis \
                 tel quel.",
            );
            said.push(observed.to_owned());
        }
        said
    }
}
