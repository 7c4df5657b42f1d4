//! `pixelward evidence`: what was done with whose mail, and the proof of it. It reads the files; the relay may run.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::config::Config;
use crate::consent::{Pseudonyms, StoreKey, Timestamp, key_file, store::PSEUDONYMS};
use crate::record::evidence::MessageIds;
use crate::record::evidence::export::{Line, Shown};
use crate::record::evidence::find::{Found, Looked, Order, Query, look, newest};
use crate::record::evidence::verify::{Verified, differing, verify};
use crate::record::statistics;

type Failure = Box<dyn std::error::Error>;

/// Look at, hand on and check the evidence of what was done with mail (N23).
#[derive(Args, Debug)]
pub struct Evidence {
    /// The configuration. Default: config.toml here, or else in /etc/pixelward.
    #[arg(long, short, default_value_os_t = crate::config::usual("config.toml"), hide_default_value = true, value_name = "FILE", global = true)]
    pub config: PathBuf,
    /// Answer in JSON.
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the newest records that fit, newest first. Exits with 1 where there is none.
    Find {
        #[command(flatten)]
        wanted: Wanted,
        /// The most that are shown.
        #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
    },
    /// Write every record that fits as one JSON object a line, with the proof that the chain has it.
    Export {
        #[command(flatten)]
        wanted: Wanted,
        /// Write to this file instead of standard output.
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// Check every chain of hashes and every summary; or whether an export is what the chains have.
    Verify {
        /// A file that `evidence export` wrote.
        #[arg(long, value_name = "FILE")]
        export: Option<PathBuf>,
    },
    /// Sum up by controller, mailstream, outcome and vendor, without reading records.
    Report {
        /// The first day, as 2026-11-01. Default: all there is.
        #[arg(long, value_name = "DAY")]
        since: Option<String>,
    },
}

/// Which records. What is not given fits all.
#[derive(Args, Debug)]
struct Wanted {
    /// The recipient's mail address. Of people who were erased nothing can be found.
    #[arg(long, value_name = "ADDRESS")]
    person: Option<String>,
    /// The Message-ID of the message.
    #[arg(long, value_name = "ID")]
    message_id: Option<String>,
    /// The relay's own id of the message, as it stands in the log and in the Received field.
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Not before this moment, as 2026-11-24 or 2026-11-24T08:00:00Z.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Before this moment.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// On whose behalf it was sent.
    #[arg(long, value_name = "NAME")]
    controller: Option<String>,
    /// Which kind of mail.
    #[arg(long, value_name = "NAME")]
    mailstream: Option<String>,
    /// What was decided or done: keep, swap_gated, swap_shared, swap_day or strip.
    #[arg(long, value_name = "OUTCOME")]
    outcome: Option<String>,
    /// Whose tracker was found; "unknown" for those that nobody knows.
    #[arg(long, value_name = "NAME")]
    vendor: Option<String>,
}

/// Runs the command.
///
/// # Errors
///
/// When the evidence cannot be read.
pub fn run(command: &Evidence) -> Result<ExitCode, Failure> {
    let config = Config::load(&command.config)?;
    match &command.command {
        Command::Find { wanted, limit } => find(&config, wanted, *limit as usize, command.json),
        Command::Export { wanted, to } => export(&config, wanted, to.as_deref()),
        Command::Verify { export: Some(file) } => compare(&config, file),
        Command::Verify { export: None } => check(&config, command.json),
        Command::Report { since } => report(&config, since.as_deref(), command.json),
    }
}

impl Wanted {
    /// The query. The store's keys are only read where an address or a Message-ID is asked for.
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
            ..Query::default()
        };
        if self.person.is_none() && self.message_id.is_none() {
            return Ok(query);
        }
        let store_key = key_file::load(&super::run::store_settings(config).store_key())?;
        if let Some(text) = &self.message_id {
            let key = StoreKey::new(store_key.derived(MessageIds::LABEL));
            let tag = MessageIds::new(key).tag(text);
            query.message_id = Some(tag.ok_or_else(|| format!("{text:?} is no Message-ID"))?);
        }
        if let Some(address) = &self.person {
            let path = config.consent.directory.join(PSEUDONYMS);
            let pseudonyms = Pseudonyms::read(&path, &store_key)
                .map_err(|error| format!("{}: {error}", path.display()))?;
            let pseudonym = pseudonyms.of(store_key.person(address));
            query.person =
                Some(pseudonym.ok_or("this person was erased: evidence can be tied to them by nobody")?);
        }
        Ok(query)
    }
}

fn find(config: &Config, wanted: &Wanted, limit: usize, json: bool) -> Result<ExitCode, Failure> {
    let (found, looked) = newest(&config.evidence.directory, &wanted.query(config)?, limit)?;
    let mut out = std::io::stdout().lock();
    for record in &found {
        if json {
            writeln!(out, "{}", serde_json::to_string(&Shown::from(&record.record))?)?;
        } else {
            writeln!(out, "{}", sentence(record))?;
        }
    }
    if found.is_empty() && !json {
        writeln!(out, "There is no record of that.")?;
    }
    if found.len() >= limit {
        eprintln!("These are the {limit} newest; there may be more (--limit).");
    }
    Ok(if complain(&looked) || found.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// One record for people.
fn sentence(found: &Found) -> String {
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
    add("observed", record.observed.then(|| "only".to_owned()));
    add("consent record", record.consent_record.map(|number| number.to_string()));
    add("shortfall", record.shortfall.as_ref().map(ToString::to_string));
    add("queue id", record.queue_id.as_ref().map(ToString::to_string));
    add("may track behind this relay:", record.downstream.as_ref().map(ToString::to_string));
    for sighted in record.sightings.iter() {
        add("sighted", Some(format!("{} x {} of {}", sighted.count, sighted.carrier, sighted.vendor)));
    }
    text
}

/// Says what could not be read. Whether there was something.
fn complain(looked: &Looked) -> bool {
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
        println!("{count} records are in {}.", path.display());
    }
    Ok(if complain(&looked) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn write_line(out: &mut impl Write, found: &Found) -> std::io::Result<()> {
    writeln!(out, "{}", serde_json::to_string(&Line::from(found))?)
}

fn private_file(path: &Path) -> Result<std::fs::File, Failure> {
    use std::os::unix::fs::OpenOptionsExt;
    let opened = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    Ok(opened.map_err(|error| format!("{}: {error}", path.display()))?)
}

/// Whether an export is what the chains have.
fn compare(config: &Config, file: &Path) -> Result<ExitCode, Failure> {
    let named = |error: std::io::Error| format!("{}: {error}", file.display());
    let lines = BufReader::new(std::fs::File::open(file).map_err(named)?).lines();
    let lines: Vec<String> = lines.collect::<Result<_, _>>().map_err(named)?;
    let numbered = (1..).zip(lines.iter().map(String::as_str));
    let wrong = differing(&super::run::evidence_settings(config), numbered)?;
    if wrong.is_empty() {
        println!("All {} records of the export stand in the evidence as it says.", lines.len());
        return Ok(ExitCode::SUCCESS);
    }
    let numbers: Vec<String> = wrong.iter().map(usize::to_string).collect();
    println!("Not in the evidence as the export says: lines {}.", numbers.join(", "));
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
            "Kept for {} days: {} records in {} segments, {} more were deleted in time; the chain ends with {}.",
            chain.days,
            chain.records - chain.deleted,
            chain.segments,
            chain.deleted,
            chain.hash
        )?;
    }
    for problem in &verified.problems {
        writeln!(out, "DAMAGED OR CHANGED: {problem}")?;
    }
    if verified.problems.is_empty() {
        writeln!(out, "Every record fits its chain.")?;
    }
    Ok(())
}

fn report(config: &Config, since: Option<&str>, json: bool) -> Result<ExitCode, Failure> {
    if let Some(day) = since.filter(|day| day.len() != 10 || Timestamp::parse(day).is_err()) {
        return Err(format!("{day:?} is no day, such as 2026-11-24").into());
    }
    let (counts, days) = statistics::since(&config.evidence.directory, since.unwrap_or_default())?;
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&counts)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "Recipients in {days} days, by what was decided, why, and what was done:")?;
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
    writeln!(out, "Trackers in their copies, by vendor and place:")?;
    for (trackers, count) in &counts.trackers {
        writeln!(
            out,
            "{count:>10}  {}/{}: {} of {}, done {}",
            trackers.controller, trackers.mailstream, trackers.carrier, trackers.vendor, trackers.done
        )?;
    }
    Ok(ExitCode::SUCCESS)
}
