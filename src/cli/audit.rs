//! `pixelward audit`: the audit trail of the console. It reads the files, so the relay may be running.

use std::io::Write;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{ConfigPath, counted};
use crate::config::Config;
use crate::consent::Timestamp;
use crate::record::audit::{Chained, verify};

/// Verify and export the audit trail: who looked at or changed what through the console
#[derive(Args, Debug)]
pub struct Audit {
    #[command(flatten)]
    config: ConfigPath,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Verify the hash chain; exit with 1 if an entry was changed or is missing
    Verify,
    /// Write every entry as one JSON object per line, oldest first
    Export,
}

/// Runs the command.
///
/// # Errors
///
/// When the trail cannot be read, or is damaged.
pub fn run(command: &Audit) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let config = Config::load(&command.config.path)?;
    let directory = config.data_directory.join("audit");
    let mut out = std::io::stdout().lock();
    if !directory.exists() {
        return Err(format!(
            "{} does not exist: nothing has been written to the audit trail yet",
            directory.display()
        )
        .into());
    }
    match &command.command {
        Command::Verify => {
            let head = verify(&directory, |_| {})?;
            writeln!(
                out,
                "The chain is intact: {}, ending with {}.",
                counted(head.count, "entry", "entries"),
                hex::encode(head.hash)
            )?;
        }
        Command::Export => {
            let mut written = Ok(());
            verify(&directory, |chained| {
                if written.is_ok() {
                    written = writeln!(out, "{}", line(&chained));
                }
            })?;
            written?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn line(chained: &Chained) -> serde_json::Value {
    let entry = &chained.entry;
    serde_json::json!({
        "number": chained.number,
        "time": Timestamp(entry.at).to_string(),
        "token": entry.token,
        "actor": entry.actor,
        "action": entry.action,
        "controller": entry.controller,
        "person": entry.person,
        "detail": entry.detail,
        "hash": hex::encode(chained.hash),
    })
}
