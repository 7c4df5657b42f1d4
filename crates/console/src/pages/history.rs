//! Which rules and notices were in force when, who brought them into force, and what changed.

use maud::{Markup, html};
use serde_json::Value;

use crate::config::console::Role;
use crate::layout::{Page, anchor, shown};
use crate::text::Text;
use crate::value::{flag, list, maybe, number, text};
use crate::{Answered, Call};

/// The areas of a version, in the order in which they are shown.
const AREAS: [(&str, Text); 7] = [
    ("controllers", Text("Controllers", "Verantwortliche", "Responsables")),
    ("mailstreams", Text("Mailstreams", "Mailarten", "Flux")),
    ("jurisdictions", Text("Rules of jurisdictions", "Regeln der Rechtsräume", "Règles des juridictions")),
    ("notices", Text("Notices for readers", "Hinweise für Leser", "Informations aux lecteurs")),
    ("catalogue", Text("Catalogue of vendors", "Anbieterkatalog", "Catalogue des fournisseurs")),
    ("dkim", Text("Signing keys", "Signaturschlüssel", "Clés de signature")),
    ("program", Text("Program", "Programm", "Programme")),
];
/// The maximum number of lines of a text that are compared one by one.
const MAX_LINES: usize = 400;

pub(crate) async fn page(call: Call) -> Answered {
    let found = call.console.api.get("/v1/deployments").await?;
    let title = call.say(&Text("History", "Verlauf", "Historique"));
    let versions = list(&found, "versions");
    let content = html! {
        h1 { (title) }
        p { (call.say(&Text(
            "Each start and each reload that brings other rules, notices, vendors or keys into force \
             leaves an entry in the audit trail. Times are in UTC.",
            "Jeder Start und jedes Neuladen, mit dem andere Regeln, Hinweise, Anbieter oder Schlüssel in \
             Kraft treten, steht im Prüfprotokoll. Alle Zeiten sind UTC.",
            "Chaque démarrage ou rechargement qui met en vigueur d’autres règles, informations, fournisseurs \
             ou clés laisse une entrée au journal d’audit. Les heures sont en UTC.",
        ))) }
        @if versions.is_empty() {
            p class="empty" { (call.say(&Text("Nothing yet.", "Noch nichts.", "Rien encore."))) }
        }
        @for version in versions { (deployment(&call, version)) }
        @if flag(&found, "more") {
            p class="soft" { (call.say(&Text(
                "Older ones are in the audit trail.",
                "Ältere stehen im Prüfprotokoll.",
                "Les plus anciennes figurent au journal d’audit.",
            ))) }
        }
        h2 { (call.say(&Text("Notices for readers", "Hinweise für Leser", "Informations aux lecteurs"))) }
        (notices(&call, &found))
    };
    Ok(shown(&call, &Page::new(title, content)))
}

/// Returns whether a change concerns the selected controller, or all of them.
fn concerns(call: &Call, change: &Value) -> bool {
    let owner = text(change, "name").split('/').next().unwrap_or_default();
    match text(change, "area") {
        "controllers" | "mailstreams" | "notices" => owner == call.controller,
        // Whose keys there are concerns those who see all controllers.
        "dkim" => call.session.as_ref().is_some_and(|session| session.rights.allow_all(&Role::ALL)),
        _ => true,
    }
}

fn deployment(call: &Call, version: &Value) -> Markup {
    let changes = version.get("changes").and_then(Value::as_array);
    let how = match text(version, "how") {
        "start" => Text("started by", "gestartet von", "démarré par"),
        _ => Text("reloaded by", "neu geladen von", "rechargé par"),
    };
    let fingerprint = text(version, "fingerprint");
    html! {
        article id=(format!("deployed-{}", number(version, "number"))) {
            h2 {
                (call.language.moment(text(version, "since")))
                " "
                @match maybe(version, "until") {
                    None => span class="tag" { (call.say(&Text("in force", "in Kraft", "en vigueur"))) },
                    Some(until) => span class="soft" { "– " (call.language.moment(until)) },
                }
            }
            p class="soft" {
                (call.say(&how)) " " (text(version, "actor")) " · "
                (call.say(&Text("audit entry", "Protokolleintrag", "entrée d’audit"))) " "
                (number(version, "number")) " · "
                code title=(fingerprint) { (fingerprint.get(..12).unwrap_or_default()) "…" }
            }
            @match changes {
                None => p class="bad" { (call.say(&Text(
                    "What changed cannot be shown: a snapshot beside the audit trail is missing or was \
                     changed.",
                    "Was sich änderte, lässt sich nicht zeigen: Ein Abbild neben dem Prüfprotokoll fehlt \
                     oder wurde verändert.",
                    "Les changements ne peuvent être montrés : une copie à côté du journal d’audit manque \
                     ou a été modifiée.",
                ))) },
                Some(changes) => (areas(call, changes, maybe(version, "before").is_none())),
            }
        }
    }
}

fn areas(call: &Call, changes: &[Value], is_first: bool) -> Markup {
    let of_area = |name: &str| -> Vec<&Value> {
        changes.iter().filter(|change| text(change, "area") == name && concerns(call, change)).collect()
    };
    let all: Vec<(&Text, Vec<&Value>)> = AREAS
        .iter()
        .map(|(name, title)| (title, of_area(name)))
        .filter(|(_, changes)| !changes.is_empty())
        .collect();
    html! {
        @if is_first {
            p { (call.say(&Text(
                "The first version on record.",
                "Die erste verzeichnete Fassung.",
                "La première version notée.",
            ))) }
        }
        @if all.is_empty() {
            p { (call.say(&Text(
                "Nothing changed for this controller.",
                "Für diesen Verantwortlichen änderte sich nichts.",
                "Rien n’a changé pour ce responsable.",
            ))) }
        }
        @for (title, changes) in all {
            h3 { (call.say(title)) }
            (named(call, &changes, "added", &Text("Added", "Neu", "Ajouté")))
            (named(call, &changes, "removed", &Text("Removed", "Entfallen", "Supprimé")))
            @for change in changes.iter().filter(|change| text(change, "kind") == "changed") {
                (changed(call, change))
            }
        }
    }
}

/// Lists the names of what is new or gone.
fn named(call: &Call, changes: &[&Value], kind: &str, title: &Text) -> Markup {
    let of_kind = changes.iter().filter(|change| text(change, "kind") == kind);
    let names: Vec<&str> = of_kind.map(|change| text(change, "name")).collect();
    html! {
        @if !names.is_empty() { p { strong { (call.say(title)) ": " } (names.join(", ")) } }
    }
}

fn changed(call: &Call, change: &Value) -> Markup {
    html! {
        p { strong { (call.say(&Text("Changed", "Geändert", "Modifié"))) ": " } (text(change, "name")) }
        ul class="changes" {
            @for field in list(change, "fields").iter().filter(|field| !follows(change, field)) {
                @let (from, to) = (text(field, "from"), text(field, "to"));
                li {
                    code { (text(field, "name")) }
                    @if from.contains('\n') || to.contains('\n') {
                        details {
                            summary { (call.say(&Text("What differs", "Unterschiede", "Différences"))) }
                            (difference(from, to))
                        }
                    } @else if from.len() + to.len() > 120 {
                        p { del { (from) } } p { ins { (to) } }
                    } @else {
                        ": " del { (or_nothing(from)) } " → " ins { (or_nothing(to)) }
                    }
                }
            }
        }
    }
}

/// Returns whether a field says no more than another one: the hash of a text that is shown.
fn follows(change: &Value, field: &Value) -> bool {
    let has_text = list(change, "fields").iter().any(|field| text(field, "name") == "text");
    has_text && text(field, "name") == "text_hash"
}

fn or_nothing(text: &str) -> &str {
    if text.is_empty() { "–" } else { text }
}

/// How a line differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Both,
    Old,
    New,
}

/// Compares two texts by line: what is in both stays in place (the longest common subsequence).
fn compared<'a>(from: &'a str, to: &'a str) -> Vec<(Side, &'a str)> {
    let old: Vec<&str> = from.lines().take(MAX_LINES).collect();
    let new: Vec<&str> = to.lines().take(MAX_LINES).collect();
    let width = new.len() + 1;
    // The lengths of what the rests from each pair of lines on have in common.
    let mut lengths = vec![0u32; (old.len() + 1) * width];
    let at = |row: usize, column: usize| row * width + column;
    let length = |lengths: &[u32], row, column| lengths.get(at(row, column)).copied().unwrap_or(0);
    for (row, line) in old.iter().enumerate().rev() {
        for (column, other) in new.iter().enumerate().rev() {
            let common = match line == other {
                true => length(&lengths, row + 1, column + 1) + 1,
                false => length(&lengths, row + 1, column).max(length(&lengths, row, column + 1)),
            };
            lengths.get_mut(at(row, column)).into_iter().for_each(|cell| *cell = common);
        }
    }
    let (mut row, mut column) = (0, 0);
    let mut lines = Vec::new();
    loop {
        match (old.get(row), new.get(column)) {
            (Some(line), Some(other)) if line == other => {
                lines.push((Side::Both, *line));
                (row, column) = (row + 1, column + 1);
            }
            (Some(line), other)
                if other.is_none()
                    || length(&lengths, row + 1, column) >= length(&lengths, row, column + 1) =>
            {
                lines.push((Side::Old, *line));
                row += 1;
            }
            (_, Some(other)) => {
                lines.push((Side::New, *other));
                column += 1;
            }
            (_, None) => return lines,
        }
    }
}

fn difference(from: &str, to: &str) -> Markup {
    html! {
        div class="difference" {
            @for (side, line) in compared(from, to) {
                @match side {
                    Side::Both => p { (line) },
                    Side::Old => p { del { (line) } },
                    Side::New => p { ins { (line) } },
                }
            }
        }
    }
}

fn notices(call: &Call, found: &Value) -> Markup {
    let own: Vec<&Value> = list(found, "notices")
        .iter()
        .filter(|notice| text(notice, "controller") == call.controller)
        .collect();
    let columns = [
        Text("Version", "Fassung", "Version"),
        Text("Language", "Sprache", "Langue"),
        Text("From", "Ab", "À partir du"),
        Text("Until", "Bis", "Jusqu’au"),
        Text("Text", "Text", "Texte"),
    ];
    let mut versions: Vec<&str> = Vec::new();
    html! {
        @if own.is_empty() {
            p class="empty" { (call.say(&Text(
                "This controller has no page for its readers.",
                "Dieser Verantwortliche hat keine Seite für seine Leser.",
                "Ce responsable n’a pas de page pour ses lecteurs.",
            ))) }
        } @else {
            div class="wide" tabindex="0" { table {
                thead { tr { @for column in &columns { th scope="col" { (call.say(column)) } } } }
                tbody {
                    @for notice in &own {
                        @let version = text(notice, "version");
                        // Languages share a version; the first row with it is the one that links lead to.
                        @let is_first = !versions.contains(&version);
                        @let () = versions.push(version);
                        tr id=[is_first.then(|| anchor("notice", version))] {
                            th scope="row" class="nowrap" { (version) }
                            td lang=(text(notice, "language")) { (text(notice, "language")) }
                            td class="nowrap" { (call.language.moment(text(notice, "since"))) }
                            td class="nowrap" {
                                @match maybe(notice, "until") {
                                    Some(until) => (call.language.moment(until)),
                                    None => span class="tag" {
                                        (call.say(&Text("shown now", "jetzt gezeigt", "affichée")))
                                    },
                                }
                            }
                            td class="prose" {
                                details {
                                    @let hash = text(notice, "text_hash");
                                    summary { code { (hash.get(..12).unwrap_or_default()) "…" } }
                                    div class="difference" lang=(text(notice, "language")) {
                                        @for line in text(notice, "text").lines() { p { (line) } }
                                    }
                                }
                            }
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
    fn texts_are_compared_by_line() {
        let sides = |from: &str, to: &str| -> String {
            let letter = |(side, line): (Side, &str)| match side {
                Side::Both => format!(" {line}"),
                Side::Old => format!("-{line}"),
                Side::New => format!("+{line}"),
            };
            compared(from, to).into_iter().map(letter).collect()
        };
        assert_eq!(sides("a\nb\nc", "a\nc\nd"), " a-b c+d");
        assert_eq!(sides("", "a"), "+a");
        assert_eq!(sides("a\nb", ""), "-a-b");
        assert_eq!(sides("a", "b"), "-a+b");
        let long = "x\n".repeat(MAX_LINES * 2);
        assert_eq!(compared(&long, &long).len(), MAX_LINES);
    }
}
