//! `pixelward consent`: what people said, from the command line.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use crate::config::Config;
use crate::consent::import::{Line, Row, RowResult, csv_rows, json_rows};
use crate::consent::index::SledIndex;
use crate::consent::socket::{Client, Request, Response, answer};
use crate::consent::{Store, Timestamp};

/// Look at, record, import and check what people said about being tracked.
///
/// Where the relay runs, the command talks to it; else it opens the store itself.
#[derive(Args, Debug)]
pub struct Consent {
    /// The configuration.
    #[arg(long, short, default_value = "config.toml", value_name = "FILE", global = true)]
    pub config: PathBuf,
    /// To whom it was said. Default: policy.controller of the configuration.
    #[arg(long, value_name = "NAME", global = true)]
    pub controller: Option<String>,
    /// Answer in JSON.
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what a person has said, and every record of it.
    Get {
        /// The person's mail address.
        address: String,
    },
    /// Record what a person said.
    ///
    /// A grant needs --evidence: what nobody can prove is not consent (N22).
    Set {
        /// The person's mail address.
        address: String,
        /// never_asked, asked, granted, refused, withdrawn or objected.
        state: String,
        /// What about; several with commas between. Default: all four purposes that need consent.
        #[arg(long, default_value = "all")]
        purposes: String,
        /// When it was said, as 2026-07-14T08:00:00Z. Default: now.
        #[arg(long)]
        event_time: Option<String>,
        /// Where the evidence lies: the number of a form, a ticket.
        #[arg(long, default_value = "")]
        evidence: String,
        /// How it was said.
        #[arg(long, default_value = "command line")]
        method: String,
        /// Who enters it.
        #[arg(long, default_value = "operator")]
        actor: String,
    },
    /// Import rows from a file: CSV with a header row, or one JSON object a line (.ndjson, .jsonl, .json).
    ///
    /// The columns are address, state, event_time, and where known: controller, purposes, asked_at, notice_sent_at, collected_at, method, channel,
    /// notice_version, text_hash, evidence, actor, expires, do_not_ask_before, jurisdiction, no_track, external_id, comment. Bad
    /// lines are named and do not stop the rest. A grant without evidence is recorded as asked or never asked. A grant does not
    /// revive what a person withdrew unless it is newer and has evidence.
    Import {
        /// The file; `-` for CSV on standard input.
        file: PathBuf,
        /// Stop at the first bad line.
        #[arg(long)]
        stop_on_error: bool,
    },
    /// Check the whole journal, its chain of hashes, and the index against it.
    Verify,
    /// Erase a person: nobody can then read or tie to the person what was recorded. This cannot be undone.
    Erase {
        /// The person's mail address.
        address: String,
    },
    /// Make the index anew from the journal. The relay must be stopped.
    Rebuild {
        /// Take the journal as it is although it had more records once: an old copy was put back, and the newer one is lost.
        #[arg(long)]
        accept_loss: bool,
    },
}

/// The store, through the server or opened by this command.
enum Access {
    Server(Client),
    Own(Box<Store>),
}

impl Access {
    fn open(config: &Config) -> Result<Access, Box<dyn std::error::Error>> {
        match Client::connect(&config.data_directory) {
            Some(client) => Ok(Access::Server(client)),
            None => Ok(Access::Own(Box::new(Store::open(&super::run::store_settings(config))?))),
        }
    }

    fn ask(&mut self, request: Request) -> Result<Response, Box<dyn std::error::Error>> {
        let response = match self {
            Access::Server(client) => client.ask(&request)?,
            Access::Own(store) => answer(store, request),
        };
        match response {
            Response::Error(error) => Err(error.into()),
            other => Ok(other),
        }
    }
}

/// Runs the command.
///
/// # Errors
///
/// When the store cannot be used, or refuses.
pub fn run(consent: &Consent) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let config = Config::load(&consent.config)?;
    let controller = consent.controller.clone().unwrap_or_else(|| config.policy.controller.clone());
    match &consent.command {
        Command::Rebuild { accept_loss } => return rebuild(&config, *accept_loss),
        Command::Import { file, stop_on_error } => {
            let mut access = Access::open(&config)?;
            return import(&mut access, &controller, file, *stop_on_error, consent.json);
        }
        _ => {}
    }
    let mut access = Access::open(&config)?;
    let response = match &consent.command {
        Command::Get { address } => access.ask(Request::Get { controller, address: address.clone() })?,
        Command::Set { address, state, purposes, event_time, evidence, method, actor } => {
            let row = Row {
                address: address.clone(),
                state: state.clone(),
                purposes: purposes.clone(),
                event_time: event_time.clone().unwrap_or_else(|| Timestamp::now().to_string()),
                evidence: evidence.clone(),
                method: method.clone(),
                actor: actor.clone(),
                ..Row::default()
            };
            access.ask(Request::Apply { controller, rows: vec![row] })?
        }
        Command::Erase { address } => access.ask(Request::Erase { address: address.clone() })?,
        Command::Verify => access.ask(Request::Verify)?,
        Command::Import { .. } | Command::Rebuild { .. } => return Ok(ExitCode::SUCCESS),
    };
    show(&response, consent.json)
}

fn show(response: &Response, json: bool) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut out = std::io::stdout().lock();
    let failed = match response {
        Response::Rows(rows) => rows.iter().any(|row| !matches!(row, RowResult::Recorded(_))),
        Response::Verified { differing, .. } => *differing > 0,
        Response::Person(_) | Response::Erased(_) | Response::Error(_) => false,
    };
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(response)?)?;
    } else {
        match response {
            Response::Person(shown) => {
                if shown.purposes.is_empty() {
                    writeln!(out, "Nothing is known of this person: trackers are taken out.")?;
                }
                for purpose in &shown.purposes {
                    let allowed = if purpose.allowed { "allowed" } else { "not allowed" };
                    writeln!(
                        out,
                        "{:<24} {:<12} since {}  {allowed}",
                        purpose.purpose, purpose.state, purpose.event_time
                    )?;
                }
                for record in &shown.history {
                    let evidence = record.evidence.as_deref().unwrap_or("none");
                    writeln!(
                        out,
                        "record {}: {} to {} on {}, recorded {}, evidence {evidence}",
                        record.record, record.state, record.controller, record.event_time, record.recorded_at
                    )?;
                }
            }
            Response::Rows(rows) => {
                for row in rows {
                    writeln!(out, "{}", described(row))?;
                }
            }
            Response::Verified { records, hash, people, differing } => {
                writeln!(out, "The journal has {records} records, and its chain is whole up to {hash}.")?;
                writeln!(
                    out,
                    "{people} people are known. The index differs from the journal in {differing} places."
                )?;
            }
            Response::Erased(true) => writeln!(out, "The person is erased.")?,
            Response::Erased(false) => writeln!(out, "Nobody with this address is known.")?,
            Response::Error(error) => writeln!(out, "{error}")?,
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn described(row: &RowResult) -> String {
    match row {
        RowResult::Recorded(number) => format!("recorded as number {number}"),
        RowResult::RecordedWithoutGrant(number) => {
            format!("recorded as number {number}, but not as a grant: there is no evidence (N22)")
        }
        RowResult::Stale => "not recorded: something newer is known".to_owned(),
        RowResult::SupersededByWithdrawal => "not recorded: superseded by withdrawal".to_owned(),
        RowResult::Failed(error) => format!("not recorded: {error}"),
    }
}

/// Rows that are made durable together.
const BATCH: usize = 2000;

/// What an import came to.
#[derive(Default, serde::Serialize)]
struct Tally {
    recorded: u64,
    without_grant: u64,
    stale: u64,
    superseded_by_withdrawal: u64,
    bad: u64,
}

fn import(
    access: &mut Access,
    controller: &str,
    file: &Path,
    stop_on_error: bool,
    json: bool,
) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let (reader, length): (Box<dyn BufRead>, u64) = if file.as_os_str() == "-" {
        (Box::new(std::io::stdin().lock()), 0)
    } else {
        let opened = File::open(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let length = opened.metadata()?.len();
        (Box::new(BufReader::new(opened)), length)
    };
    let progress = ProgressBar::new(length);
    progress.set_style(ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes}, {per_sec} left {eta}")?);
    let is_json =
        file.extension().is_some_and(|own| ["ndjson", "jsonl", "json"].iter().any(|name| own == *name));
    let reader = BufReader::new(progress.wrap_read(reader));
    let lines: Box<dyn Iterator<Item = Line>> =
        if is_json { Box::new(json_rows(reader)) } else { Box::new(csv_rows(reader)?) };
    let mut tally = Tally::default();
    let mut batch: Vec<(u64, Row)> = Vec::with_capacity(BATCH);
    let mut stopped = false;
    for (number, row) in lines {
        match row {
            Ok(row) => batch.push((number, row)),
            Err(error) => {
                tally.bad += 1;
                progress.suspend(|| eprintln!("line {number}: {error}"));
                stopped = stop_on_error;
            }
        }
        if batch.len() >= BATCH {
            stopped |= commit(access, controller, &mut batch, &mut tally, &progress)? && stop_on_error;
        }
        if stopped {
            break;
        }
    }
    commit(access, controller, &mut batch, &mut tally, &progress)?;
    progress.finish_and_clear();
    if json {
        println!("{}", serde_json::to_string_pretty(&tally)?);
    } else {
        println!(
            "{} recorded, {} of them without a grant for lack of evidence; {} older than what is known, {} superseded by withdrawal, {} bad",
            tally.recorded, tally.without_grant, tally.stale, tally.superseded_by_withdrawal, tally.bad
        );
    }
    Ok(if tally.bad > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Makes a batch durable; says whether a row of it was bad.
fn commit(
    access: &mut Access,
    controller: &str,
    batch: &mut Vec<(u64, Row)>,
    tally: &mut Tally,
    progress: &ProgressBar,
) -> Result<bool, Box<dyn std::error::Error>> {
    let (numbers, rows): (Vec<u64>, Vec<Row>) = batch.drain(..).unzip();
    if rows.is_empty() {
        return Ok(false);
    }
    let Response::Rows(results) = access.ask(Request::Apply { controller: controller.to_owned(), rows })?
    else {
        return Err("the server gave another answer than was asked for".into());
    };
    let mut bad = false;
    for (number, result) in numbers.into_iter().zip(&results) {
        match result {
            RowResult::Recorded(_) => tally.recorded += 1,
            RowResult::RecordedWithoutGrant(_) => {
                tally.recorded += 1;
                tally.without_grant += 1;
            }
            RowResult::Stale => tally.stale += 1,
            RowResult::SupersededByWithdrawal => tally.superseded_by_withdrawal += 1,
            RowResult::Failed(_) => {
                tally.bad += 1;
                bad = true;
            }
        }
        if !matches!(result, RowResult::Recorded(_) | RowResult::Stale) {
            progress.suspend(|| eprintln!("line {number}: {}", described(result)));
        }
    }
    Ok(bad)
}

fn rebuild(config: &Config, accept_loss: bool) -> Result<ExitCode, Box<dyn std::error::Error>> {
    if Client::connect(&config.data_directory).is_some() {
        return Err("the relay runs; stop it before the index is made anew".into());
    }
    let settings = super::run::store_settings(config);
    if accept_loss && let Some(copy) = &settings.head_copy {
        match std::fs::rename(copy, copy.with_extension("lost")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    SledIndex::set_aside(&settings.directory)?;
    let progress = ProgressBar::new_spinner().with_message("the index is made anew from the journal");
    progress.enable_steady_tick(std::time::Duration::from_millis(200));
    let store = Store::open(&settings)?;
    let verified = store.verify()?;
    progress.finish_and_clear();
    println!("{} records, {} people; the index fits the journal.", verified.records, verified.people);
    Ok(ExitCode::SUCCESS)
}
