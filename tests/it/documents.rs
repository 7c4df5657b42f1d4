//! The documents say what is true: every command line in them is one that the program takes, every metric is
//! one that it has, and every link leads somewhere.

#[path = "../../src/main.rs"]
#[allow(dead_code, reason = "the program as a whole, of which its commands are wanted")]
mod program;

use crate::support;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Folder, NextHop, configuration, crlf, newsletter};
use clap::CommandFactory;
use clap::error::ErrorKind;
use regex::Regex;

#[test]
fn no_document_is_empty() {
    for (path, text) in documents() {
        assert!(text.starts_with("# ") && text.len() > 300, "{}", path.display());
    }
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The documents, each with its path from the top of the project.
fn documents() -> Vec<(PathBuf, String)> {
    let in_docs = std::fs::read_dir(project().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let others = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "certs/README.md"];
    let paths = in_docs.chain(others.map(|name| project().join(name)));
    let markdown = paths.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let mut found: Vec<(PathBuf, String)> =
        markdown.map(|path| (path.clone(), std::fs::read_to_string(&path).unwrap())).collect();
    found.sort();
    assert!(found.len() >= 12);
    found
}

/// The command lines of a document: lines of code that begin with the program's name, continued ones joined,
/// what a shell does left out.
fn command_lines(text: &str) -> Vec<Vec<String>> {
    let text = text.replace("\\\n", " ");
    let mut lines = Vec::new();
    let mut is_fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_fenced = !is_fenced;
        }
        let is_code = is_fenced || line.starts_with("    ");
        let words = line.trim_start();
        let words = words.strip_prefix("runuser -u pixelward -- ").unwrap_or(words);
        if is_code && words.starts_with("pixelward ") {
            lines.push(words_of(words));
        }
    }
    lines
}

/// The words of a line up to a comment, a pipe or a redirection; quotes of either kind hold words together.
fn words_of(line: &str) -> Vec<String> {
    let word = Regex::new(r#"'[^']*'|"[^"]*"|\S+"#).unwrap();
    word.find_iter(line)
        .map(|found| found.as_str())
        .take_while(|item| !matches!(*item, "|" | ">" | ">>" | "<" | "&&" | "&") && !item.starts_with('#'))
        .map(|item| item.trim_matches(['\'', '"']).to_owned())
        .collect()
}

#[test]
fn every_command_line_is_one_that_the_program_takes() {
    let mut seen = BTreeSet::new();
    for (path, text) in documents() {
        for words in command_lines(&text) {
            let taken = program::Arguments::command().try_get_matches_from(&words);
            let fits = match &taken {
                Ok(_) => true,
                Err(error) => matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion),
            };
            assert!(fits, "{}: {}\n{}", path.display(), words.join(" "), taken.err().unwrap());
            seen.extend(words.get(1).cloned());
        }
    }
    let all: BTreeSet<String> = program::Arguments::command()
        .get_subcommands()
        .map(|command| command.get_name().to_owned())
        .collect();
    assert!(seen.is_subset(&all) && seen.len() >= 12, "{seen:?}");
}

/// What needs nothing but files runs as it stands there: in a folder with a configuration, a message and some
/// consents.
#[test]
fn what_needs_no_network_runs_as_it_stands() {
    let hop = NextHop::start();
    let folder = Folder::new();
    let shop = "[policy]\ncontroller = \"shop\"\n[[controller]]\nname = \"shop\"\nsender_domain \
                = \"shop.example\"\n[[mailstream]]\nname = \"newsletter\"\n\
                controller = \"shop\"\nrequested = \"requested\"\n";
    configuration(&folder, hop.port, "name = \"postfix\"\nprotocol = \"lmtp\"\n", "", shop);
    let message = crlf(&newsletter("ann@example.org").0);
    folder.file("message.eml", &message);
    folder.file("archive.mbox", &format!("From news@shop.example Mon Nov  2 09:00:00 2026\n{message}\n"));
    let consents = "address,state,event_time,evidence,method\nann@example.org,granted,2026-09-01T10:00:00Z,form/17,web form\n";
    folder.file("consents.csv", consents);
    // Some want a consent first, some what another one wrote; none of these says no on such a configuration.
    let runnable = ["scan", "rewrite", "policy", "report"];
    let consent = ["set", "import", "get", "may-ask", "export", "verify"];
    let mut run = 0;
    for (path, text) in documents() {
        for words in command_lines(&text) {
            let sub = words[1].as_str();
            let is_runnable =
                runnable.contains(&sub) || sub == "consent" && consent.contains(&words[2].as_str());
            // Names that only the document has, and answers that depend on what was done before.
            let is_plain =
                !words.iter().any(|word| word.starts_with("--export") || word.contains('$') || word == "…");
            if !is_runnable || !is_plain {
                continue;
            }
            let mut words: Vec<String> =
                words.iter().map(|word| word.replace("/etc/pixelward/config.toml", "config.toml")).collect();
            words.remove(0);
            let output = Command::new(env!("CARGO_BIN_EXE_pixelward"))
                .args(&words)
                .current_dir(&folder.0)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            // Exit code 1 without a complaint is an answer: no record, not to be asked.
            assert!(
                output.status.success() || said.is_empty(),
                "{}: {}\n{said}",
                path.display(),
                words.join(" ")
            );
            run += 1;
        }
    }
    assert!(run >= 15, "{run}");
}

/// Every name of a metric that stands in the source.
fn metrics() -> BTreeSet<String> {
    fn gather(folder: &Path, name: &Regex, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                gather(&path, name, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.extend(name.captures_iter(&text).map(|found| found[1].to_owned()));
            }
        }
    }
    let mut found = BTreeSet::new();
    let name = Regex::new(r#"(?:counter|gauge|histogram)!\(\s*"(pixelward_[a-z_]+)""#).unwrap();
    for folder in ["src", "crates"] {
        gather(&project().join(folder), &name, &mut found);
    }
    assert!(found.len() > 35, "{found:?}");
    found
}

fn named_metrics(text: &str) -> BTreeSet<String> {
    let name = Regex::new(r"pixelward_[a-z_]*[a-z]").unwrap();
    let names = name.find_iter(text).map(|found| found.as_str());
    let bare = |text: &str| {
        let end = ["_bucket", "_sum", "_count"].into_iter().find(|end| text.ends_with(end)).unwrap_or("");
        text[..text.len() - end.len()].to_owned()
    };
    // Settings of Postfix that begin like ours.
    names.map(bare).filter(|item| item != "pixelward_signers").collect()
}

#[test]
fn every_metric_that_is_told_of_is_there() {
    let there = metrics();
    let dashboard = std::fs::read_to_string(project().join("docs/grafana.json")).unwrap();
    let all = documents().into_iter().map(|(path, text)| (path.display().to_string(), text));
    let rules = std::fs::read_to_string(project().join("docs/alarms.yaml")).unwrap();
    let others = [("docs/grafana.json".to_owned(), dashboard), ("docs/alarms.yaml".to_owned(), rules)];
    for (name, text) in all.chain(others) {
        let missing: Vec<String> = named_metrics(&text).difference(&there).cloned().collect();
        assert!(missing.is_empty(), "{name} tells of {missing:?}, which are not counted");
    }
}

#[test]
fn the_dashboard_shows_what_alarms_are_about_and_is_well_formed() {
    let text = std::fs::read_to_string(project().join("docs/grafana.json")).unwrap();
    let board: serde_json::Value = serde_json::from_str(&text).unwrap();
    let panels = board["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        assert!(!panel["targets"].as_array().unwrap().is_empty(), "{}", panel["title"]);
    }
    let operations = std::fs::read_to_string(project().join("docs/operations.md")).unwrap();
    let missing: Vec<String> =
        named_metrics(&operations).difference(&named_metrics(&text)).cloned().collect();
    assert!(missing.is_empty(), "the dashboard does not show {missing:?}");
}

#[test]
fn every_alarm_of_the_table_is_a_rule_and_no_other_is() {
    let rules = std::fs::read_to_string(project().join("docs/alarms.yaml")).unwrap();
    let rule = Regex::new(
        r"(?m)^      - alert: (\w+)\n        expr: (.*)\n(?:        for: (\d+)m\n)?        labels:\n          severity: (?:page|ticket)\n        annotations:\n          summary: (.*)\n          action: .+$",
    )
    .unwrap();
    let told: Vec<(String, String, Option<String>)> = rule
        .captures_iter(&rules)
        .map(|found| {
            (found[4].to_owned(), found[2].to_owned(), found.get(3).map(|found| found.as_str().to_owned()))
        })
        .collect();
    assert_eq!(told.len(), rules.matches("- alert:").count(), "a rule has another form");
    let names: BTreeSet<&str> =
        rule.captures_iter(&rules).map(|found| found.get(1).unwrap().as_str()).collect();
    assert_eq!(names.len(), told.len(), "two rules have one name");
    let operations = std::fs::read_to_string(project().join("docs/operations.md")).unwrap();
    let (expression, time) = (Regex::new("`([^`]+)`").unwrap(), Regex::new(r"for (\d+) minutes").unwrap());
    let rows: Vec<_> = operations
        .lines()
        .filter(|line| line.starts_with("| **"))
        .map(|line| {
            let mut cells = line.trim_matches('|').split(" | ");
            let name = cells.next().unwrap().trim().trim_matches('*').to_owned();
            let when = cells.next().unwrap();
            let parts: Vec<&str> =
                expression.captures_iter(when).map(|found| found.get(1).unwrap().as_str()).collect();
            (name, parts.join(" or "), time.captures(when).map(|capture| capture[1].to_owned()))
        })
        .collect();
    assert!(rows.len() >= 15);
    assert_eq!(told, rows);
}

/// A counter that first appears as 1 has not grown, to Prometheus: the alarm about it would not ring for the
/// first fault.
#[test]
fn what_alarms_ask_about_is_there_from_the_start() {
    let hop = NextHop::start();
    let folder = Folder::new();
    let path = configuration(&folder, hop.port, "", "", "");
    let port = support::free_port();
    let config = std::fs::read_to_string(&path).unwrap();
    let private = format!("[private]\naddress = \"127.0.0.1:{port}\"");
    std::fs::write(&path, config.replace("[private]\naddress = \"\"", &private)).unwrap();
    let _relay = support::Relay::in_folder(folder);
    let page = support::get(port, "/metrics");
    let rules = std::fs::read_to_string(project().join("docs/alarms.yaml")).unwrap();
    let counter = Regex::new(r"(pixelward_[a-z_]+_total)(\{[^}]*\})?").unwrap();
    let expressions = rules.lines().filter(|line| line.trim_start().starts_with("expr:"));
    let mut seen = 0;
    for found in expressions.flat_map(|line| counter.captures_iter(line)) {
        let (name, labels) = (&found[1], found.get(2).map_or("", |labels| labels.as_str()));
        // Its label is a controller's name; what is compared is a share of many messages, and the first one
        // does not matter.
        if name == "pixelward_unmatched_messages_total" {
            continue;
        }
        let begins = page.lines().any(|line| {
            let rest = line.strip_prefix(name).filter(|rest| rest.starts_with([' ', '{']));
            rest.is_some_and(|rest| rest.starts_with(labels) && rest.ends_with(" 0"))
        });
        assert!(begins, "{name}{labels} does not begin at zero:\n{page}");
        seen += 1;
    }
    assert!(seen >= 13, "{seen}");
    for gauge in ["pixelward_in_flight_bytes 0", "pixelward_in_flight_limit_bytes 201326592"] {
        assert!(page.lines().any(|line| line == gauge), "{gauge}:\n{page}");
    }
}

#[test]
fn every_metric_is_described_and_named_by_convention() {
    let described = Regex::new(r#"describe_(counter|gauge|histogram)!\(\s*"(pixelward_[a-z_]+)""#).unwrap();
    let mut text = String::new();
    for file in ["crates/web/src/metrics.rs", "crates/web/src/api/mod.rs", "crates/web/src/public/mod.rs"] {
        text.push_str(&std::fs::read_to_string(project().join(file)).unwrap_or_default());
    }
    let kinds: Vec<(String, String)> =
        described.captures_iter(&text).map(|found| (found[1].to_owned(), found[2].to_owned())).collect();
    for (kind, name) in &kinds {
        let fits = match kind.as_str() {
            "counter" => name.ends_with("_total"),
            "histogram" => name.ends_with("_seconds") || name.ends_with("_bytes"),
            _ => !name.ends_with("_total"),
        };
        assert!(fits, "the {kind} {name}");
    }
    let names: BTreeSet<String> = kinds.into_iter().map(|(_, name)| name).collect();
    let missing: Vec<String> = metrics().difference(&names).cloned().collect();
    assert!(missing.is_empty(), "nothing describes {missing:?}");
}

/// As a heading becomes the end of an address: lower case, blanks become hyphens, other marks go.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars()
        .filter(|character| character.is_alphanumeric() || matches!(character, ' ' | '-' | '_'))
        .collect::<String>()
        .replace(' ', "-")
}

#[test]
fn every_link_leads_somewhere() {
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    for (path, text) in documents() {
        for target in link.captures_iter(&text).map(|found| found[1].to_owned()) {
            if target.starts_with("http") {
                continue;
            }
            let (file, place) = target.split_once('#').unwrap_or((&target, ""));
            let leads = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(leads.exists(), "{}: {target}", path.display());
            if !place.is_empty() {
                let there = std::fs::read_to_string(&leads).unwrap();
                let headings = there.lines().filter(|line| line.starts_with('#'));
                let fits =
                    headings.map(|line| anchor(line.trim_start_matches('#'))).any(|item| item == place);
                assert!(fits, "{}: {target}", path.display());
            }
        }
    }
}

#[test]
fn every_file_that_the_documents_name_as_a_test_is_there() {
    let name =
        Regex::new(r"`((?:tests|src|crates|benches|tools|docs|systemd)/[A-Za-z0-9_./-]+\.[a-z]+)`").unwrap();
    for (path, text) in documents() {
        for file in name.captures_iter(&text).map(|found| found[1].to_owned()) {
            assert!(project().join(&file).exists(), "{} names {file}", path.display());
        }
    }
}
