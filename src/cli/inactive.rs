//! `pixelward inactive`: finds the addresses of a controller that nobody reads any more.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::ConfigPath;
use crate::config::Config;
use crate::consent::days::Table;
use crate::consent::store::{DAYS, PSEUDONYMS};
use crate::consent::{Pseudonym, Pseudonyms, Timestamp, key_file};
use crate::web::hygiene::{Somebody, known};

type Failure = Box<dyn std::error::Error>;

/// Say which addresses are active, inactive or unmeasured, without revealing anybody's opens
///
/// Active people have opened something on that day or later. Inactive people received mail with a day pixel
/// since then and opened none. All others are unmeasured, which must not be a reason to drop anyone. The last
/// column is the number of messages rejected permanently. The relay may be running; what it noted within the
/// last second may be missing.
#[derive(Args, Debug)]
pub struct Inactive {
    #[command(flatten)]
    config: ConfigPath,
    /// The first day, such as 2026-05-01
    #[arg(long, value_name = "DATE")]
    since: String,
    /// The controller [default: policy.controller of the configuration]
    #[arg(long, value_name = "NAME")]
    controller: Option<String>,
    /// A file with one address per line; - for standard input
    #[arg(value_name = "FILE")]
    addresses: PathBuf,
}

/// Runs the command.
///
/// # Errors
///
/// When the configuration, the addresses, the store's files or the audit records cannot be read.
pub fn run(command: &Inactive) -> Result<ExitCode, Failure> {
    let config = Config::load(&command.config.path)?;
    let since = Timestamp::parse(&command.since)?.start_of_day();
    let controller =
        config.policy.rulebook.named(command.controller.as_deref(), None)?.controller.name.as_str();
    let addresses = lines(&command.addresses)?;
    let folder = &config.consent.directory;
    let key = key_file::load(&super::run::store_settings(&config).store_key())?;
    let named = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    let path = folder.join(PSEUDONYMS);
    let pseudonyms = Pseudonyms::read(&path, &key).map_err(|error| named(&path, error))?;
    let path = folder.join(DAYS);
    let days = Table::load(&path).map_err(|error| named(&path, error))?;
    let somebody = |address: &String| {
        let pseudonym = pseudonyms.of(key.person(address));
        let day = |pseudonym: &Pseudonym| days.newest(controller, |scope| pseudonym.tag(scope));
        Somebody { last_open: pseudonym.as_ref().and_then(day), pseudonym }
    };
    let people = addresses.iter().map(somebody).collect();
    let all = known(&config.evidence.directory, controller, since, people, days.measured_since)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "address,reading,bounced")?;
    for (address, reading) in addresses.iter().zip(all) {
        writeln!(out, "{},{},{}", quoted(address), reading.reading.name(), reading.bounced)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn lines(path: &Path) -> Result<Vec<String>, Failure> {
    let source: Box<dyn BufRead> = if path == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        let file = std::fs::File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Box::new(BufReader::new(file))
    };
    let mut addresses = Vec::new();
    for line in source.lines() {
        let line = line.map_err(|error| format!("{}: {error}", path.display()))?;
        let address = line.trim();
        if !address.is_empty() {
            addresses.push(address.to_owned());
        }
    }
    Ok(addresses)
}

/// Formats a CSV field (RFC 4180).
fn quoted(text: &str) -> String {
    if text.contains([',', '"']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}
