//! `pixelward report`: what was done, or would have been, by kind of mail, and what to do next. It reads the
//! counts beside the audit records, so the relay may be running.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;

use clap::Args;

use super::ConfigPath;
use crate::config::Config;
use crate::consent::Timestamp;
use crate::policy::{Mode, Rulebook};
use crate::record::statistics::{self, Counts};
use crate::smtp::reply::Class;

/// Report for each kind of mail what was removed, or would have been in observe mode, and what to do next
///
/// Meant for the first week: run it every day until each kind of mail that you know has a name and the number
/// that you expect. It reads counts that identify nobody; `pixelward evidence` has the individual records.
#[derive(Args, Debug)]
pub struct Report {
    #[command(flatten)]
    config: ConfigPath,
    /// The first day, such as 2026-11-01 [default: a week ago]
    #[arg(long, value_name = "DAY")]
    since: Option<String>,
}

/// How far back it looks by default, in milliseconds.
const WEEK_MS: i64 = 7 * 24 * 60 * 60 * 1000;

/// Runs the command.
///
/// # Errors
///
/// When the configuration or the day is invalid, or the counts cannot be read.
pub fn run(command: &Report) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let config = Config::load(&command.config.path)?;
    let since = match &command.since {
        Some(day) if day.len() == 10 && Timestamp::parse(day).is_ok() => day.clone(),
        Some(day) => return Err(format!("invalid day {day:?}: use one such as 2026-11-24").into()),
        None => Timestamp(Timestamp::now().0 - WEEK_MS).to_string().chars().take(10).collect(),
    };
    if !config.evidence.enabled {
        return Err("nothing is counted while evidence.enabled is false: set it to true and reload".into());
    }
    super::admit_other_relays(&config, super::FIGURES);
    let (counts, days) = statistics::since(&config.evidence.directory, &since)?;
    let mut out = std::io::stdout().lock();
    for line in lines(&counts, &config.policy.rulebook, &since, days) {
        writeln!(out, "{line}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One kind of mail.
#[derive(Default)]
struct Counted<'a> {
    recipients: u64,
    /// By what was decided, what was done, by which rule, and whether the next hop took the copy.
    decided: BTreeMap<(&'a str, &'a str, &'a str, bool), u64>,
    /// By vendor, carrier and what became of them.
    trackers: BTreeMap<(&'a str, &'a str, &'static str), u64>,
    /// Tracked links, by what was done.
    links: BTreeMap<&'a str, u64>,
}

fn lines(counts: &Counts, rulebook: &Rulebook, since: &str, days: usize) -> Vec<String> {
    let mut kinds: BTreeMap<(&str, &str), Counted<'_>> = BTreeMap::new();
    for (recipients, count) in &counts.recipients {
        let kind = kinds.entry((&recipients.controller, &recipients.mailstream)).or_default();
        kind.recipients += count;
        let was_taken = recipients.result == Class::Positive.name();
        *kind
            .decided
            .entry((&recipients.decided, &recipients.done, &recipients.rule, was_taken))
            .or_default() += count;
    }
    for (trackers, count) in &counts.trackers {
        let kind = kinds.entry((&trackers.controller, &trackers.mailstream)).or_default();
        let fate = match trackers.done.as_str() {
            "keep" => "stayed",
            "nothing" => "in copies that were not delivered",
            _ => "did not stay",
        };
        *kind.trackers.entry((&trackers.vendor, &trackers.carrier, fate)).or_default() += count;
    }
    for (links, count) in &counts.links {
        let kind = kinds.entry((&links.controller, &links.mailstream)).or_default();
        *kind.links.entry(&links.done).or_default() += count;
    }
    if kinds.is_empty() {
        return vec![format!(
            "No mail was counted since {since}. Is the relay running with this configuration, and does your \
             mail server hand mail to it? `pixelward check` tells."
        )];
    }
    let all: u64 = kinds.values().map(|kind| kind.recipients).sum();
    let mut said = vec![format!(
        "Since {since}: {}, on {} with mail.",
        many(all, "recipient"),
        many(days as u64, "day")
    )];
    for ((controller, mailstream), kind) in &kinds {
        let chosen = rulebook.named(Some(controller), Some(mailstream)).ok();
        let mode = chosen.map(|chosen| chosen.mailstream.mode);
        said.push(String::new());
        said.push(format!(
            "{controller}/{mailstream}: {}, {}",
            many(kind.recipients, "recipient"),
            named(mode)
        ));
        said.extend(kind.lines());
        said.push(format!("  Next: {}", next(mode, kind, mailstream)));
    }
    said
}

impl Counted<'_> {
    fn lines(&self) -> Vec<String> {
        let mut said = Vec::new();
        for ((decided, done, rule, was_taken), count) in &self.decided {
            let fate = match (*decided, *done) {
                (decided, _) if !was_taken => format!("{decided} decided, not delivered"),
                (decided, "nothing") => format!("{decided} decided, nothing to do it to"),
                ("keep", "keep") => "left as they came".to_owned(),
                (decided, done) if decided == done => format!("{decided} decided and done"),
                (decided, "keep") => format!("{decided} decided, not done"),
                (decided, done) => format!("{decided} decided, {done} done"),
            };
            said.push(format!("{count:>10}  {fate} ({rule})"));
        }
        for ((vendor, carrier, fate), count) in &self.trackers {
            said.push(format!("{count:>10}  x {carrier} of {vendor}, {fate}"));
        }
        if self.trackers.is_empty() {
            said.push("            no tracker in any copy".to_owned());
        }
        for (done, count) in &self.links {
            let told = match *done {
                "unwrapped" => "x tracked link, led straight to its page",
                "gated" => "x tracked link, asks for consent at each click",
                _ => {
                    "x tracked link, OPEN RISK: still reports without consent, as nobody says what it leads to"
                }
            };
            said.push(format!("{count:>10}  {told}"));
        }
        said
    }
}

/// Formats a count: "1 day", "2 days".
fn many(count: u64, noun: &str) -> String {
    let end = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{end}")
}

fn named(mode: Option<Mode>) -> &'static str {
    match mode {
        Some(Mode::Observe) => "observed: mail is left as it came",
        Some(Mode::Enforce) => "enforced",
        None => "no longer in the configuration",
    }
}

fn next(mode: Option<Mode>, kind: &Counted<'_>, mailstream: &str) -> String {
    match mode {
        None => "nothing; it was declared when this mail came.".to_owned(),
        Some(_) if mailstream == crate::policy::Mailstream::UNMATCHED => {
            let policy = super::document("policy.md");
            format!(
                "no [[mailstream]] matches this mail, so the strictest rules apply to it. Declare what \
                     you know about it ({policy})."
            )
        }
        Some(Mode::Observe) if kind.trackers.is_empty() => {
            "mode = \"enforce\" in this [[mailstream]] would change nothing that was seen; set it, then \
             reload."
                .to_owned()
        }
        Some(Mode::Observe) => {
            "look at one such mail with `pixelward scan --explain FILE`, then set mode = \"enforce\" in this \
             [[mailstream]] and reload."
                .to_owned()
        }
        Some(Mode::Enforce) if kind.links.contains_key("left") => {
            "say what these links lead to, in a links_file of the [[controller]], or turn link tracking off at the \
             service that adds them."
                .to_owned()
        }
        Some(Mode::Enforce) => "nothing.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::statistics::{Recipients, Trackers};

    fn check(mode: &str, kinds: &[(&str, &str, &str, &str, u64)]) -> String {
        let text = format!(
            "[[controller]]\n\
             name = \"shop\"\n\
             [[mailstream]]\n\
             name = \"news\"\n\
             controller = \"shop\"\n\
             mode = \"{mode}\"\n\
             [next_hop]\n\
             host = \"smtp.next-hop.example\"\n"
        );
        let config = Config::parse(&text).unwrap();
        let mut counts = Counts::default();
        for (mailstream, decided, rule, done, count) in kinds {
            let (controller, mailstream) = ("shop".to_owned(), (*mailstream).to_owned());
            let row = Recipients {
                controller: controller.clone(),
                mailstream: mailstream.clone(),
                rule: (*rule).to_owned(),
                decided: (*decided).to_owned(),
                done: (*done).to_owned(),
                result: "accepted".to_owned(),
            };
            counts.recipients.insert(row, *count);
            let row = Trackers {
                controller,
                mailstream,
                vendor: "SendGrid".to_owned(),
                carrier: "img".to_owned(),
                done: (*done).to_owned(),
            };
            counts.trackers.insert(row, *count);
        }
        lines(&counts, &config.policy.rulebook, "2026-11-19", 3).join("\n")
    }

    #[test]
    fn what_would_have_been_done_is_told_apart_from_what_was() {
        let said = check("observe", &[("news", "strip", "no_consent", "keep", 7)]);
        for wanted in [
            "Since 2026-11-19: 7 recipients, on 3 days with mail",
            "shop/news: 7 recipients, observed",
            " 7  strip decided, not done (no_consent)",
            " 7  x img of SendGrid, stayed",
            "mode = \"enforce\" in this [[mailstream]]",
        ] {
            assert!(said.contains(wanted), "{wanted}\n{said}");
        }
        let said = check("enforce", &[("news", "strip", "no_consent", "strip", 7)]);
        for wanted in
            ["news: 7 recipients, enforced", "strip decided and done", "did not stay", "Next: nothing."]
        {
            assert!(said.contains(wanted), "{wanted}\n{said}");
        }
        let said = check("enforce", &[("news", "strip", "no_consent", "nothing", 7)]);
        assert!(said.contains("strip decided, nothing to do it to (no_consent)"), "{said}");
        let said = check("enforce", &[("news", "swap_gated", "granted", "strip", 7)]);
        assert!(said.contains("swap_gated decided, strip done (granted)"), "{said}");
    }

    #[test]
    fn mail_without_a_kind_of_its_own_is_to_be_declared() {
        let said = check(
            "observe",
            &[("unmatched", "strip", "no_consent", "keep", 2), ("gone", "keep", "granted", "keep", 1)],
        );
        assert!(said.contains("shop/unmatched") && said.contains("Declare what you know"), "{said}");
        assert!(said.contains("shop/gone: 1 recipient, no longer in the configuration"), "{said}");
    }

    #[test]
    fn no_mail_at_all_is_a_finding_of_its_own() {
        assert!(check("observe", &[]).contains("pixelward check"));
    }
}
