//! `pixelward consent`: what people said, from the command line.

mod backup;
mod import;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::cli::{ConfigPath, counted};
use crate::config::Config;
use crate::consent::export::Export;
use crate::consent::import::{Row, RowResult};
use crate::consent::socket::{Client, Request, Response, answer};
use crate::consent::{Store, Verified};

/// Look up, record, import and verify what people said about being tracked
///
/// If the relay is running, the command talks to it; otherwise it opens the store itself.
#[derive(Args, Debug)]
pub struct Consent {
    #[command(flatten)]
    config: ConfigPath,
    /// The controller [default: policy.controller of the configuration]
    #[arg(long, value_name = "NAME", global = true)]
    pub controller: Option<String>,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what a person has said, with every record of it
    Get {
        /// The person's mail address
        address: String,
    },
    /// Record what a person said
    ///
    /// A grant needs --evidence: consent that cannot be proved does not count.
    Set {
        /// The person's mail address
        address: String,
        /// never_asked, asked, granted, refused, withdrawn or objected
        state: String,
        /// The purposes, separated by commas [default: all four that need consent]
        #[arg(long, default_value = "all")]
        purposes: String,
        /// When it was said, such as 2026-07-14T08:00:00Z [default: now]
        #[arg(long)]
        event_time: Option<String>,
        /// Reference to the proof of consent, such as the number of a form or a ticket
        #[arg(long, default_value = "")]
        evidence: String,
        /// How it was said
        #[arg(long, default_value = "command line")]
        method: String,
        /// Who enters it
        #[arg(long, default_value = "operator")]
        actor: String,
    },
    /// Import rows from a file: CSV with a header row, or one JSON object per line (.ndjson, .jsonl, .json)
    ///
    /// Required columns: address, state, event_time. Optional: controller, purposes, asked_at,
    /// notice_sent_at, collected_at, method, channel, notice_version, text_hash, evidence, actor, expires,
    /// do_not_ask_before, jurisdiction, no_track, external_id, scope, comment. Invalid lines are reported and do not
    /// stop the others. A grant without evidence (a reference to the proof of consent) is recorded as asked
    /// or never asked. A grant does not revive what a person withdrew unless it is newer and has evidence.
    /// Rows about one person are recorded in the order of the file. An import that broke off is simply run again.
    Import {
        /// The file; `-` for CSV on standard input
        file: PathBuf,
        /// Stop at the first invalid line
        #[arg(long)]
        stop_on_error: bool,
    },
    /// Export everything recorded about a person, with the proof that it is in the journal: JSON, or a page
    /// to read
    Export {
        /// The person's mail address
        address: String,
        /// Write an HTML page to this file instead
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
    /// Say whether a person may be asked now; exit with 1 if not
    MayAsk {
        /// The person's mail address
        address: String,
        /// The purposes, separated by commas [default: all four that need consent]
        #[arg(long, default_value = "all")]
        purposes: String,
    },
    /// Verify the journal, its hash chain and the index; or compare an export with the journal
    Verify {
        /// A file written by `consent export`
        #[arg(long, value_name = "FILE")]
        export: Option<PathBuf>,
    },
    /// Back up the journal, the keys, or both; the relay may be running
    ///
    /// Keep the keys in a place of their own and delete them in time: an erased person is only gone once no
    /// copy of the old key is left.
    #[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
    Backup {
        /// Directory for the journal; an older backup in it is brought up to date
        #[arg(long, value_name = "FOLDER", group = "what")]
        journal: Option<PathBuf>,
        /// Directory for the keys
        #[arg(long, value_name = "FOLDER", group = "what")]
        keys: Option<PathBuf>,
        /// In how many days the backup of the keys must be deleted
        #[arg(long, value_name = "DAYS", default_value_t = 30)]
        delete_after: u16,
    },
    /// Create a store from backups of the journal and the keys; there must be none, and the relay must be
    /// stopped
    Restore {
        /// Directory with the journal
        #[arg(long, value_name = "FOLDER")]
        journal: PathBuf,
        /// Directory with the keys
        #[arg(long, value_name = "FOLDER")]
        keys: PathBuf,
        /// Accept keys whose deletion date has passed; people whose erasure is in the journal are erased
        /// again
        #[arg(long)]
        accept_expired: bool,
        /// Accept a journal that once had more records
        #[arg(long)]
        accept_loss: bool,
    },
    /// Erase a person: nobody can then read or attribute what was recorded, in the journal or in audit
    /// records. This cannot be undone
    Erase {
        /// The person's mail address
        address: String,
    },
    /// Rebuild the index from the journal; the relay must be stopped
    Rebuild {
        /// Accept a journal that once had more records: an old copy was restored, and the newer one is lost
        #[arg(long)]
        accept_loss: bool,
    },
}

/// The store, through the server or opened by this command.
enum Access {
    Server(Client),
    /// Opened by this command; whether other relays must hear what is written.
    Own(Box<Store>, bool),
}

impl Access {
    fn open(config: &Config) -> Result<Access, Box<dyn std::error::Error>> {
        match Client::connect(&config.data_directory) {
            Some(client) => Ok(Access::Server(client)),
            None => {
                let store = Store::open(&super::run::store_settings(config))?;
                Ok(Access::Own(Box::new(store), super::is_one_of_several(config)))
            }
        }
    }

    /// Returns this access with others like it, as many as wanted if a server is running.
    fn with_more(self, count: usize, config: &Config) -> Vec<Access> {
        let more = match &self {
            Access::Server(_) => count.saturating_sub(1),
            Access::Own(..) => 0,
        };
        let more = (0..more).map_while(|_| Client::connect(&config.data_directory).map(Access::Server));
        std::iter::once(self).chain(more.collect::<Vec<_>>()).collect()
    }

    fn ask(&mut self, request: Request) -> Result<Response, Box<dyn std::error::Error>> {
        let response = match self {
            Access::Server(client) => client.ask(&request)?,
            Access::Own(_, true) if request.writes() => {
                return Err(
                    "other relays share this store, and must hear of it: start the relay first".into()
                );
            }
            Access::Own(store, _) => answer(store, request),
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
    let config = Config::load(&consent.config.path)?;
    let controller = consent.controller.clone().unwrap_or_else(|| config.policy.controller.clone());
    match &consent.command {
        Command::Rebuild { accept_loss } => return backup::rebuild(&config, *accept_loss),
        Command::Backup { journal, keys, delete_after } => {
            return backup::backup(&config, journal.as_deref(), keys.as_deref(), *delete_after);
        }
        Command::Restore { journal, keys, accept_expired, accept_loss } => {
            return backup::restore(&config, journal, keys, *accept_expired, *accept_loss);
        }
        Command::Import { file, stop_on_error } => {
            let accesses = Access::open(&config)?.with_more(import::LANES, &config);
            return import::import(accesses, &controller, file, *stop_on_error, consent.json);
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
                event_time: event_time.clone().unwrap_or_default(),
                evidence: evidence.clone(),
                method: method.clone(),
                actor: actor.clone(),
                ..Row::default()
            };
            access.ask(Request::Say { controller, row: Box::new(row) })?
        }
        Command::Erase { address } => access.ask(Request::Erase { address: address.clone() })?,
        Command::Export { address, html } => {
            let response = access.ask(Request::Export { address: address.clone() })?;
            if let (Some(html), Response::Export(Some(export))) = (html, &response) {
                return write_page(export, html);
            }
            response
        }
        Command::MayAsk { address, purposes } => access.ask(Request::MayAsk {
            controller,
            address: address.clone(),
            purposes: purposes.clone(),
        })?,
        Command::Verify { export: Some(file) } => {
            access.ask(Request::Compare(Box::new(read_export(file)?)))?
        }
        Command::Verify { export: None } => access.ask(Request::Verify)?,
        Command::Import { .. }
        | Command::Rebuild { .. }
        | Command::Backup { .. }
        | Command::Restore { .. } => return Ok(ExitCode::SUCCESS),
    };
    show(&response, consent.json)
}

fn read_export(file: &Path) -> Result<Export, Box<dyn std::error::Error>> {
    let text = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let export = serde_json::from_slice(&text);
    Ok(export.map_err(|error| format!("{}: not an export of pixelward: {error}", file.display()))?)
}

fn write_page(export: &Export, file: &Path) -> Result<ExitCode, Box<dyn std::error::Error>> {
    use std::os::unix::fs::OpenOptionsExt;
    let opened = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file);
    let written = opened.and_then(|mut opened| {
        opened.write_all(crate::web::person::page(export, crate::language::Language::En).as_bytes())
    });
    written.map_err(|error| format!("{}: {error}", file.display()))?;
    println!("{}: {}.", file.display(), counted(export.records.len(), "record", "records"));
    Ok(ExitCode::SUCCESS)
}

fn show(response: &Response, json: bool) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut out = std::io::stdout().lock();
    let failed = match response {
        Response::Rows(rows) => rows.iter().any(|row| match row {
            RowResult::Recorded(_) | RowResult::Moved { .. } | RowResult::HoldsHere => false,
            RowResult::RecordedWithoutGrant(_)
            | RowResult::Stale
            | RowResult::SupersededByWithdrawal
            | RowResult::Failed(_) => true,
        }),
        Response::Verified(verified) => !verified.is_sound(),
        Response::MayAsk { may_ask, .. } => !may_ask,
        Response::Differing(records) => !records.is_empty(),
        Response::Export(export) => export.is_none(),
        Response::Person(_) | Response::Erased(_) | Response::Error(_) => false,
    };
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(response)?)?;
    } else {
        match response {
            Response::Person(shown) => {
                if shown.standing.purposes.is_empty() {
                    writeln!(out, "Nothing is known about this person: trackers are removed.")?;
                }
                for purpose in &shown.standing.purposes {
                    let allowed = if purpose.allowed { "allowed" } else { "not allowed" };
                    writeln!(
                        out,
                        "{:<24} {:<12} since {}  {allowed}",
                        purpose.purpose, purpose.state, purpose.event_time
                    )?;
                }
                for record in &shown.history {
                    let evidence = record.evidence.as_deref().unwrap_or("none");
                    let state = match record.unproved_grant {
                        true => "granted without proof, which does not count,",
                        false => &record.state,
                    };
                    writeln!(
                        out,
                        "record {}: {state} to {} on {}, recorded {}, evidence {evidence}",
                        record.record, record.controller, record.event_time, record.recorded_at
                    )?;
                }
            }
            Response::Rows(rows) => {
                for row in rows {
                    writeln!(out, "{}", described(row))?;
                }
            }
            Response::Verified(Verified {
                records,
                hash,
                people,
                damaged_slots,
                differing,
                unknown_people,
                damaged_files,
            }) => {
                let records = counted(*records, "record", "records");
                writeln!(out, "The journal has {records}, and its chain is intact up to {hash}.")?;
                writeln!(
                    out,
                    "Known: {}. The index differs from the journal in {}.",
                    counted(*people, "person", "people"),
                    counted(*differing, "place", "places")
                )?;
                if *differing > 0 {
                    writeln!(out, "Stop the relay, and rebuild the index: pixelward consent rebuild")?;
                }
                if *unknown_people > 0 {
                    writeln!(
                        out,
                        "{} in the journal without a slot in the key file: unknown, and nothing is granted. \
                         Restore the newest backup of the keys: pixelward consent restore --keys",
                        counted(*unknown_people, "person", "people")
                    )?;
                }
                for file in damaged_files {
                    writeln!(out, "{file}")?;
                }
                if *damaged_slots > 0 {
                    writeln!(
                        out,
                        "{damaged_slots} slots of the key file are damaged. Their people are unknown, and \
                         nothing is granted for them; restore the newest backup of the keys: pixelward \
                         consent restore --keys"
                    )?;
                }
            }
            Response::Export(Some(export)) => writeln!(out, "{}", serde_json::to_string_pretty(export)?)?,
            Response::Export(None) => writeln!(out, "Nothing is recorded about this person.")?,
            Response::MayAsk { may_ask: true, .. } => writeln!(out, "The person may be asked.")?,
            Response::MayAsk { reason, not_before, .. } => {
                let until = not_before.as_ref().map_or(String::new(), |end| format!(", until {end}"));
                writeln!(out, "Do not ask: the person {}{until}.", reason.as_deref().unwrap_or_default())?;
            }
            Response::Differing(records) if records.is_empty() => {
                writeln!(out, "Every record of the export is in the journal, unchanged.")?;
            }
            Response::Differing(records) => {
                let numbers: Vec<String> = records.iter().map(u64::to_string).collect();
                writeln!(out, "Missing from the journal, or different: {}", numbers.join(", "))?;
            }
            Response::Erased(true) => writeln!(out, "The person has been erased.")?,
            Response::Erased(false) => writeln!(
                out,
                "Nobody with this address is known. If there are audit records, they can no longer be \
                 attributed to it."
            )?,
            Response::Error(error) => writeln!(out, "{error}")?,
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn described(row: &RowResult) -> String {
    match row {
        RowResult::Recorded(number) => format!("recorded as number {number}"),
        RowResult::RecordedWithoutGrant(number) => {
            format!("recorded as number {number}, but not as a grant: proof of consent is missing")
        }
        RowResult::Moved { record, event_time } => format!(
            "recorded as number {record}, as of {event_time}: the given time, or the current state, is ahead \
             of the relay's clock"
        ),
        RowResult::Stale => "no effect: something newer is known".to_owned(),
        RowResult::SupersededByWithdrawal => "no effect: superseded by withdrawal".to_owned(),
        RowResult::HoldsHere => {
            "recorded here, and elsewhere once the other relays can be reached".to_owned()
        }
        RowResult::Failed(error) => format!("not recorded: {error}"),
    }
}
