//! The policy in force: mailstreams, and the rules of jurisdictions with their dates and sources.

use maud::{Markup, html};
use serde_json::Value;

use crate::layout::{Page, shown};
use crate::text::Text;
use crate::value::{flag, list, maybe, number, text};
use crate::{Answered, Call, words};

/// The regime that is not named, because nearly all rules belong to it.
const USUAL: &str = "devices";

pub(crate) async fn page(call: Call) -> Answered {
    let policy = call.console.policy().await?;
    let title = call.say(&Text("Mailstreams and rules", "Mailarten und Regeln", "Flux et règles"));
    let declared =
        list(&policy, "controllers").iter().find(|declared| text(declared, "name") == call.controller);
    let declared = declared.cloned().unwrap_or_default();
    let all = list(&policy, "warnings").iter().filter_map(Value::as_str);
    let warnings: Vec<&str> = all.filter(|warning| !is_of_another(warning, &call)).collect();
    let content = html! {
        h1 { (title) }
        p { (call.say(&Text("In force since", "In Kraft seit", "En vigueur depuis")))
            " " (call.language.moment(text(&policy, "since"))) ", "
            (call.say(&Text("from the configuration of the relay.", "aus der Konfiguration des Relays.",
                "d’après la configuration du relais."))) }
        @if !warnings.is_empty() && call.session()?.rights.allow_all(&crate::config::console::Role::ALL) {
            ul class="alarms" lang="en" {
                @for warning in &warnings { li { span class="warn" { (warning) } } }
            }
        }
        h2 { (call.controller) }
        (controller(&call, &declared))
        p {
            a href=(call.to("/streams/page")) {
                (call.say(&Text(
                    "The preference page as readers see it",
                    "Die Einstellungsseite, wie Leser sie sehen",
                    "La page de préférences telle que la voient les lecteurs",
                )))
            }
        }
        h2 { (call.say(&Text("Kinds of mail", "Arten von E-Mails", "Types d’e-mails"))) }
        (streams(&call, &declared))
        h2 {
            (call.say(&Text(
                "Rules of jurisdictions",
                "Regeln der Rechtsordnungen",
                "Règles des juridictions",
            )))
        }
        (rules(&call, &policy))
    };
    Ok(shown(&call, &Page::new(title, content)))
}

/// Returns whether a warning begins with the name of another controller: `controller club: …`, `mailstream
/// news of club: …`.
fn is_of_another(warning: &str, call: &Call) -> bool {
    let subject = warning.split_once(": ").map_or("", |(subject, _)| subject);
    let of_stream = || subject.strip_prefix("mailstream ").and_then(|rest| Some(rest.rsplit_once(" of ")?.1));
    let named = subject.strip_prefix("controller ").or_else(of_stream);
    named.is_some_and(|name| name != call.controller)
}

fn controller(call: &Call, controller: &Value) -> Markup {
    let grant = match text(controller, "on_grant") {
        "gate" => Text(
            "a gated pixel replaces the tracker",
            "ein Pixel mit Einwilligungsprüfung tritt an die Stelle des Trackers",
            "un pixel soumis au consentement remplace le traceur",
        ),
        "keep" => Text(
            "the tracker stays; a withdrawal cannot reach delivered mail",
            "der Tracker bleibt; ein Widerruf erreicht zugestellte E-Mails nicht",
            "le traceur reste ; un retrait n’atteint pas les e-mails livrés",
        ),
        _ => Text(
            "trackers are removed anyway",
            "Tracker werden trotzdem entfernt",
            "les traceurs sont retirés quand même",
        ),
    };
    let days = |count: u64| match count {
        0 => call.say(&Text("never", "nie", "jamais")).to_owned(),
        count => call.language.counted(count, &Text("day", "Tag", "jour"), &Text("days", "Tage", "jours")),
    };
    html! {
        dl {
            dt { (call.say(&Text("For people who agreed", "Wo jemand zustimmte", "En cas d’accord"))) }
            dd { (call.say(&grant)) }
            dt {
                (call.say(&Text(
                    "Notice for readers",
                    "Wo Leser mehr erfahren",
                    "Où les lecteurs en savent plus",
                )))
            }
            dd { (maybe(controller, "notice_url").unwrap_or("–")) }
            dt { (call.say(&Text("Base URL of its pages", "Adresse seiner Seiten", "Adresse de ses pages"))) }
            dd { (maybe(controller, "public_url").unwrap_or("–")) }
            dt {
                (call.say(&Text(
                    "Erased without news after",
                    "Ohne Neues gelöscht nach",
                    "Effacés sans nouvelles après",
                )))
            }
            dd { (days(number(controller, "retention_days"))) }
        }
    }
}

fn streams(call: &Call, controller: &Value) -> Markup {
    let columns = [
        Text("Name", "Name", "Nom"),
        Text("Mode", "Betrieb", "Mode"),
        Text("Opens are used for", "Öffnungen dienen", "Les ouvertures servent à"),
        Text("Requested", "Angefordert", "Demandé par la personne"),
        Text("Exemption", "Ausnahme", "Exemption"),
        Text("Rules", "Regeln", "Règles"),
        Text("Taken out", "Entfernt", "Retiré"),
    ];
    html! {
        div class="wide" tabindex="0" { table {
            thead { tr { @for column in &columns { th scope="col" { (call.say(column)) } } } }
            tbody {
                @for stream in list(controller, "mailstreams") {
                    tr {
                        th scope="row" { (text(stream, "name")) }
                        td {
                            @if text(stream, "mode") == "observe" {
                                span class="warn" { (call.say(&Text("observe", "beobachten", "observer"))) }
                            } @else {
                                (call.say(&Text("enforce", "durchsetzen", "appliquer")))
                            }
                        }
                        td class="prose" {
                            (list(
                                stream,
                                "purposes",
                            ).iter().filter_map(Value::as_str).map(|purpose| words::purpose(call.language,
                                purpose)).collect::<Vec<_>>().join(", "))
                        }
                        td { (words::requested(call.language, text(stream, "requested"))) }
                        td {
                            (maybe(stream, "exemption").map_or_else(
                                || "–".to_owned(),
                                |name| words::exemption(call.language, name),
                            ))
                            @if flag(stream, "consent_request") {
                                " "
                                (call.say(&Text(
                                    "(asks for consent)",
                                    "(bittet um Einwilligung)",
                                    "(demande le consentement)",
                                )))
                            }
                        }
                        td { (text(stream, "jurisdiction")) }
                        td {
                            (text(stream, "extent"))
                            (call.say(&Text(", receipts: ", ", Empfangsbestätigungen: ", ", accusés : ")))
                            (text(stream, "receipts"))
                            (call.say(&Text(", links: ", ", Links: ", ", liens : ")))
                            (text(stream, "links"))
                        }
                    }
                }
            }
        } }
    }
}

/// Returns the name by which other pages lead to a version: its label, at the first of its regimes.
fn anchor<'a>(versions: &'a [Value], version: &'a Value) -> Option<&'a str> {
    let label = text(version, "label");
    let first = versions.iter().find(|other| text(other, "label") == label)?;
    std::ptr::eq(first, version).then_some(label)
}

fn rules(call: &Call, policy: &Value) -> Markup {
    let columns = [
        Text("Version", "Fassung", "Version"),
        Text("From", "Ab", "À partir du"),
        Text("Opens", "Öffnungen", "Ouvertures"),
        Text("Links", "Links", "Liens"),
        Text("Exemptions", "Ausnahmen", "Exemptions"),
        Text("Source", "Quelle", "Source"),
        Text("Checked on", "Geprüft am", "Vérifié le"),
    ];
    let need = |is: bool| {
        call.say(if is {
            &Text("need consent", "brauchen Einwilligung", "consentement exigé")
        } else {
            &Text("free", "frei", "libres")
        })
    };
    html! {
        div class="wide" tabindex="0" { table {
            thead { tr { @for column in &columns { th scope="col" { (call.say(column)) } } } }
            tbody {
                @for jurisdiction in list(policy, "jurisdictions") {
                    tr id=[anchor(list(policy, "jurisdictions"), jurisdiction)] {
                        th scope="row" class="nowrap" {
                            (text(jurisdiction, "label"))
                            @if text(jurisdiction, "kind") != USUAL { " (" (text(jurisdiction, "kind")) ")" }
                        }
                        td class="nowrap" {
                            (text(jurisdiction, "effective_from").get(..10).unwrap_or_default())
                        }
                        td { (need(flag(jurisdiction, "opens_need_consent"))) }
                        td { (need(flag(jurisdiction, "links_need_consent"))) }
                        td class="prose" {
                            (list(jurisdiction, "exemptions").iter().filter_map(Value::as_str)
                                .map(|name| words::exemption(call.language, name))
                                .collect::<Vec<_>>().join(", "))
                        }
                        td class="prose" lang="en" {
                            (text(jurisdiction, "source"))
                            @if flag(jurisdiction, "own") {
                                " ("
                                (call.say(&Text("added by the operator", "vom Betreiber", "de l’exploitant")))
                                ")"
                            }
                        }
                        td class="nowrap" { (text(jurisdiction, "checked_on")) }
                    }
                }
            }
        } }
    }
}
