//! `pixelward evidence`: audit records of what was done with mail. It reads the files, so the relay may be
//! running. Of several relays it speaks of this one, and says so.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{ConfigPath, FIGURES, SEARCH, admit_other_relays, counted};
use crate::config::Config;
use crate::consent::{Pseudonyms, StoreKey, Timestamp, key_file, store::PSEUDONYMS};
use crate::record::archive::{self, Wanted as Wished};
use crate::record::evidence::MessageIds;
use crate::record::evidence::export::{Line, Shown};
use crate::record::evidence::find::{Found, Looked, Order, Query, look, newest};
use crate::record::evidence::headline::Headline;
use crate::record::evidence::verify::{Verified, differing, verify};
use crate::record::statistics;

type Failure = Box<dyn std::error::Error>;

/// Search, export and verify the audit records of what was done with mail
#[derive(Args, Debug)]
pub struct Evidence {
    #[command(flatten)]
    config: ConfigPath,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show matching records, newest first; exit with 1 if there is none
    Find {
        #[command(flatten)]
        wanted: Wanted,
        /// Maximum number of records
        #[arg(
            long,
            value_name = "COUNT",
            default_value_t = 100,
            value_parser = clap::value_parser!(u32).range(1..=100_000)
        )]
        limit: u32,
    },
    /// Write every matching record as one JSON object per line, with the proof that it is part of the chain
    Export {
        #[command(flatten)]
        wanted: Wanted,
        /// Write to this file instead of standard output
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// Verify every hash chain and every summary; or compare an export with the chains
    Verify {
        /// A file written by `evidence export`
        #[arg(long, value_name = "FILE")]
        export: Option<PathBuf>,
    },
    /// Write everything that an authority may ask for into one archive: audit records, consent journal, audit
    /// trail, rules and notices, the ends of the chains, and how to verify it without this program
    Archive {
        /// The file, such as archive.tar.gz
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
        /// The controller [default: all of them]
        #[arg(long, value_name = "NAME")]
        controller: Option<String>,
        /// The earliest time, such as 2026-11-24 or 2026-11-24T08:00:00Z
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// The time before which it happened
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
    },
    /// Summarise by controller, mailstream, outcome and vendor, without reading records
    Report {
        /// The first day, such as 2026-11-01 [default: all days]
        #[arg(long, value_name = "DAY")]
        since: Option<String>,
    },
}

/// Search criteria. A criterion that is not given matches everything.
#[derive(Args, Debug)]
struct Wanted {
    /// The recipient's mail address; people who were erased cannot be found
    #[arg(long, value_name = "ADDRESS")]
    person: Option<String>,
    /// The Message-ID of the message
    #[arg(long, value_name = "ID")]
    message_id: Option<String>,
    /// The relay's id of the message, as in the log and in the Received field
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// The earliest time, such as 2026-11-24 or 2026-11-24T08:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// The time before which records were made
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// The controller
    #[arg(long, value_name = "NAME")]
    controller: Option<String>,
    /// The mailstream
    #[arg(long, value_name = "NAME")]
    mailstream: Option<String>,
    /// What was decided or done: keep, swap_gated, swap_shared, swap_day or strip
    #[arg(long, value_name = "OUTCOME")]
    outcome: Option<String>,
    /// The vendor of a tracker that was found; "unknown" for unknown vendors
    #[arg(long, value_name = "NAME")]
    vendor: Option<String>,
    /// The campaign, as the sender calls it in X-Campaign, Feedback-ID or List-Id
    #[arg(long, value_name = "NAME")]
    campaign: Option<String>,
}

/// Runs the command.
///
/// # Errors
///
/// When the audit records cannot be read.
pub fn run(command: &Evidence) -> Result<ExitCode, Failure> {
    let config = Config::load(&command.config.path)?;
    let request = if matches!(command.command, Command::Report { .. }) { FIGURES } else { SEARCH };
    admit_other_relays(&config, request);
    match &command.command {
        Command::Find { wanted, limit } => find(&config, wanted, *limit as usize, command.json),
        Command::Export { wanted, to } => export(&config, wanted, to.as_deref()),
        Command::Verify { export: Some(file) } => compare(&config, file),
        Command::Verify { export: None } => check(&config, command.json),
        Command::Archive { to, controller, since, until } => {
            let time = |text: &Option<String>| text.as_deref().map(Timestamp::parse).transpose();
            let controller = controller.as_deref().map(str::parse).transpose()?;
            archived(&config, to, &Wished { controller, since: time(since)?, until: time(until)? })
        }
        Command::Report { since } => report(&config, since.as_deref(), command.json),
    }
}

impl Wanted {
    /// Builds the query. Reads the store's keys only if an address or a Message-ID is given.
    fn query(&self, config: &Config) -> Result<Query, Failure> {
        let time = |text: &Option<String>| text.as_deref().map(Timestamp::parse).transpose();
        let mut query = Query {
            id: self.id.clone(),
            since: time(&self.since)?,
            until: time(&self.until)?,
            controller: self.controller.clone(),
            mailstream: self.mailstream.clone(),
            outcome: self.outcome.clone(),
            vendor: self.vendor.clone(),
            campaign: self.campaign.clone(),
            ..Query::default()
        };
        if self.person.is_none() && self.message_id.is_none() {
            return Ok(query);
        }
        let store_key = key_file::load(&super::run::store_settings(config).store_key())?;
        if let Some(text) = &self.message_id {
            let key = StoreKey::new(store_key.derived(MessageIds::LABEL));
            let tag = MessageIds::new(key).tag(text);
            query.message_id = Some(tag.ok_or_else(|| format!("invalid Message-ID {text:?}"))?);
        }
        if let Some(address) = &self.person {
            let path = config.consent.directory.join(PSEUDONYMS);
            let pseudonyms = Pseudonyms::read(&path, &store_key)
                .map_err(|error| format!("{}: {error}", path.display()))?;
            let pseudonym = pseudonyms.of(store_key.person(address));
            query.person =
                Some(pseudonym.ok_or("this person was erased: no audit records can be attributed to them")?);
        }
        Ok(query)
    }
}

fn find(config: &Config, wanted: &Wanted, limit: usize, json: bool) -> Result<ExitCode, Failure> {
    let query = wanted.query(config)?;
    let (found, looked) = newest(&config.evidence.directory, &query, limit)?;
    let mut out = std::io::stdout().lock();
    for record in &found {
        if json {
            writeln!(out, "{}", serde_json::to_string(&Shown::from(&record.record))?)?;
        } else {
            writeln!(out, "{}", sentence(record))?;
            // Only who names the recipient reads what is sealed for them.
            let headline = query.person.as_ref().and_then(|pseudonym| record.headline(pseudonym));
            if let Some(Headline { subject, message_id }) = headline {
                writeln!(out, "  {subject} <{message_id}>")?;
            }
        }
    }
    if found.is_empty() && !json {
        writeln!(out, "No matching records.")?;
    }
    if found.len() >= limit {
        eprintln!("These are the {limit} newest; there may be more (--limit).");
    }
    Ok(if complain(&looked) || found.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Formats one record for people.
pub(super) fn sentence(found: &Found) -> String {
    let record = &found.record;
    let mut text = format!(
        "{} {} {}/{}: {} decided by {} of {}, done {}, {} found, {} removed, {} swapped, {} ({})",
        Timestamp(record.at),
        record.id,
        record.controller,
        record.mailstream,
        record.decided,
        record.rule,
        record.version,
        record.done,
        record.found,
        record.removed,
        record.swapped,
        record.result,
        record.code,
    );
    let mut add = |what: &str, said: Option<String>| {
        text.extend(said.map(|said| format!(", {what} {said}")));
    };
    add(
        "links left reporting",
        Some(record.links_left).filter(|left| *left > 0).map(|left| left.to_string()),
    );
    add("campaign", record.campaign.as_ref().map(ToString::to_string));
    add("observed", record.observed.then(|| "only".to_owned()));
    add("consent record", record.consent_record.map(|number| number.to_string()));
    add("shortfall", record.shortfall.as_ref().map(ToString::to_string));
    add("queue id", record.queue_id.as_ref().map(ToString::to_string));
    add("may track after this relay:", record.downstream.as_ref().map(ToString::to_string));
    add("8-bit text", record.converted.then(|| "as quoted-printable".to_owned()));
    for sighted in record.sightings.iter() {
        add("sighted", Some(format!("{} x {} of {}", sighted.count, sighted.carrier, sighted.vendor)));
    }
    text
}

/// Reports what could not be read. Returns whether there was anything.
pub(super) fn complain(looked: &Looked) -> bool {
    looked.troubles.iter().for_each(|trouble| eprintln!("pixelward: {trouble}"));
    !looked.troubles.is_empty()
}

fn export(config: &Config, wanted: &Wanted, to: Option<&Path>) -> Result<ExitCode, Failure> {
    let query = wanted.query(config)?;
    let mut out: Box<dyn Write> = match to {
        None => Box::new(std::io::stdout().lock()),
        Some(path) => Box::new(std::io::BufWriter::new(private_file(path)?)),
    };
    let (mut written, mut count) = (Ok(()), 0);
    let looked = look(&config.evidence.directory, &query, Order::Oldest, |found| {
        if written.is_ok() {
            written = found.iter().try_for_each(|item| write_line(&mut out, item));
            count += found.len();
        }
        written.is_ok()
    })?;
    written.and_then(|()| out.flush())?;
    if let Some(path) = to {
        println!("{}: {}.", path.display(), counted(count, "record", "records"));
    }
    Ok(if complain(&looked) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn archived(config: &Config, to: &Path, wanted: &Wished) -> Result<ExitCode, Failure> {
    let settings = super::run::store_settings(config);
    let store_key = key_file::load(&settings.store_key())?;
    let trail = config.data_directory.join("audit");
    let sources = archive::Sources {
        evidence: &config.evidence.directory,
        consent: &settings.directory,
        trail: &trail,
        store_key: &store_key,
    };
    let out = std::io::BufWriter::new(private_file(to)?);
    let made = archive::write(out, sources, wanted, Timestamp::now()).inspect_err(|_| {
        // Half an archive looks like one.
        let _ = std::fs::remove_file(to);
    })?;
    println!(
        "{}: {}, {} of the consent journal, {} of the audit trail. README.txt in it says how to verify it.",
        to.display(),
        counted(made.evidence, "audit record", "audit records"),
        counted(made.consent, "entry", "entries"),
        counted(made.audit, "entry", "entries"),
    );
    Ok(ExitCode::SUCCESS)
}

fn write_line(out: &mut impl Write, found: &Found) -> std::io::Result<()> {
    writeln!(out, "{}", serde_json::to_string(&Line::from(found))?)
}

fn private_file(path: &Path) -> Result<std::fs::File, Failure> {
    use std::os::unix::fs::OpenOptionsExt;
    let opened = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    Ok(opened.map_err(|error| format!("{}: {error}", path.display()))?)
}

/// Compares an export with the chains.
fn compare(config: &Config, file: &Path) -> Result<ExitCode, Failure> {
    let named = |error: std::io::Error| format!("{}: {error}", file.display());
    let lines = BufReader::new(std::fs::File::open(file).map_err(named)?).lines();
    let lines: Vec<String> = lines.collect::<Result<_, _>>().map_err(named)?;
    let numbered = (1..).zip(lines.iter().map(String::as_str));
    let wrong = differing(&super::run::evidence_settings(config), numbered)?;
    if wrong.is_empty() {
        let records = counted(lines.len(), "record", "records");
        println!("The export has {records}; all of it is in the audit log, unchanged.");
        return Ok(ExitCode::SUCCESS);
    }
    let numbers: Vec<String> = wrong.iter().map(usize::to_string).collect();
    println!("Missing from the audit log, or different: lines {}.", numbers.join(", "));
    Ok(ExitCode::FAILURE)
}

fn check(config: &Config, json: bool) -> Result<ExitCode, Failure> {
    let verified = verify(&super::run::evidence_settings(config))?;
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&verified)?)?;
    } else {
        show(&mut out, &verified)?;
    }
    Ok(if verified.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(out: &mut impl Write, verified: &Verified) -> std::io::Result<()> {
    for chain in &verified.chains {
        writeln!(
            out,
            "Kept for {}: {} in {}, {} more deleted on schedule; the chain ends with {}.",
            counted(chain.days, "day", "days"),
            counted(chain.records - chain.deleted, "record", "records"),
            counted(chain.segments, "segment", "segments"),
            chain.deleted,
            chain.hash
        )?;
    }
    for problem in &verified.problems {
        writeln!(out, "DAMAGED OR CHANGED: {problem}")?;
    }
    if verified.problems.is_empty() {
        writeln!(out, "All chains are intact.")?;
    }
    Ok(())
}

fn report(config: &Config, since: Option<&str>, json: bool) -> Result<ExitCode, Failure> {
    if let Some(day) = since.filter(|day| day.len() != 10 || Timestamp::parse(day).is_err()) {
        return Err(format!("invalid day {day:?}: use one such as 2026-11-24").into());
    }
    let (counts, days) = statistics::since(&config.evidence.directory, since.unwrap_or_default())?;
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&counts)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let days = counted(days, "day", "days");
    writeln!(out, "Recipients in {days}, by what was decided, why, and what was done:")?;
    for (recipients, count) in &counts.recipients {
        writeln!(
            out,
            "{count:>10}  {}/{}: {} ({}), done {}, {}",
            recipients.controller,
            recipients.mailstream,
            recipients.decided,
            recipients.rule,
            recipients.done,
            recipients.result
        )?;
    }
    writeln!(out, "Trackers in their copies, by vendor and carrier:")?;
    for (trackers, count) in &counts.trackers {
        writeln!(
            out,
            "{count:>10}  {}/{}: {} of {}, done {}",
            trackers.controller, trackers.mailstream, trackers.carrier, trackers.vendor, trackers.done
        )?;
    }
    Ok(ExitCode::SUCCESS)
}
