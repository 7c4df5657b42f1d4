//! `pixelward why`: everything that the log and the audit records say about one message.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::Args;

use super::ConfigPath;
use super::evidence::{complain, sentence};
use crate::config::Config;
use crate::consent::{StoreKey, Timestamp, key_file};
use crate::record::evidence::MessageIds;
use crate::record::evidence::find::{Found, Query, newest};

/// How far back is looked unless --since says otherwise: longer than any client keeps trying.
const DAYS: i64 = 8;
/// The maximum number of audit records for one id.
const MOST_RECORDS: usize = 1000;
/// The maximum length of a line of the log that is looked at.
const MAX_LINE: u64 = 1 << 20;

/// Show everything that the log and the audit records say about a message
///
/// Takes any of its ids: the relay's, the sending server's queue id, the next hop's queue id, or the
/// Message-ID. Exits with 1 if nothing is found.
#[derive(Args, Debug)]
pub struct Why {
    /// The id
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    config: ConfigPath,
    /// A file with the relay's log; can be given several times [default: the journal of the unit pixelward]
    #[arg(long, value_name = "FILE")]
    log: Vec<PathBuf>,
    /// The earliest time of audit records and of the journal, such as 2026-11-24 [default: 8 days ago]
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
}

/// Runs the command.
///
/// # Errors
///
/// When the audit records or a log cannot be read.
pub fn run(command: &Why) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let config = Config::load(&command.config.path)?;
    let since = match &command.since {
        Some(text) => Timestamp::parse(text)?,
        None => Timestamp::now().plus_days(-DAYS),
    };
    let asked = command.id.trim().trim_start_matches('<').trim_end_matches('>');
    if asked.is_empty() {
        return Err("an empty id names no message".into());
    }
    super::admit_other_relays(&config, super::SEARCH);
    let mut records = records(&config, asked, since)?;
    let mut ids: BTreeSet<String> = records.iter().map(|found| found.record.id.to_string()).collect();
    let journal = |each: &mut dyn FnMut(&str)| logs(command, since, each);
    journal(&mut |line| {
        if has_word(line, asked) {
            ids.extend(our_id(line).map(str::to_owned));
        }
    })?;
    let mut lines = Vec::new();
    journal(&mut |line| {
        if has_word(line, asked) || ids.iter().any(|id| has_word(line, id)) {
            lines.push(line.to_owned());
        }
    })?;
    // Under the relay's id there may be further recipients.
    for id in ids {
        let query = Query { id: Some(id), since: Some(since), ..Query::default() };
        add(&config, &query, &mut records)?;
    }
    let mut out = std::io::stdout().lock();
    for line in &lines {
        writeln!(out, "log     {line}")?;
    }
    for found in &records {
        writeln!(out, "audit   {}", sentence(found))?;
    }
    if lines.is_empty() && records.is_empty() {
        writeln!(out, "Nothing is known of {asked}.")?;
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the audit records that have this id in one of its meanings.
fn records(config: &Config, asked: &str, since: Timestamp) -> Result<Vec<Found>, Box<dyn std::error::Error>> {
    let base = || Query { since: Some(since), ..Query::default() };
    let mut queries = vec![
        Query { id: Some(asked.to_owned()), ..base() },
        Query { queue_id: Some(asked.to_owned()), ..base() },
    ];
    if let Ok(store_key) = key_file::load(&super::run::store_settings(config).store_key()) {
        let tags = MessageIds::new(StoreKey::new(store_key.derived(MessageIds::LABEL)));
        queries.extend(tags.tag(asked).map(|tag| Query { message_id: Some(tag), ..base() }));
    }
    let mut found = Vec::new();
    for query in queries {
        add(config, &query, &mut found)?;
    }
    Ok(found)
}

fn add(config: &Config, query: &Query, found: &mut Vec<Found>) -> Result<(), Box<dyn std::error::Error>> {
    if !config.evidence.directory.exists() {
        return Ok(());
    }
    let (more, looked) = newest(&config.evidence.directory, query, MOST_RECORDS)?;
    complain(&looked);
    let place = |found: &Found| (found.days, found.segment, found.link.number);
    for item in more {
        if !found.iter().any(|known| place(known) == place(&item)) {
            found.push(item);
        }
    }
    Ok(())
}

/// Passes each line of the log to `each`.
fn logs(
    command: &Why,
    since: Timestamp,
    each: &mut dyn FnMut(&str),
) -> Result<(), Box<dyn std::error::Error>> {
    for path in &command.log {
        read(std::fs::File::open(path).map_err(|error| named(path, &error))?, each)
            .map_err(|error| named(path, &error))?;
    }
    if !command.log.is_empty() {
        return Ok(());
    }
    let since = format!("--since=@{}", since.0.div_euclid(1000));
    let arguments = ["--unit=pixelward", "--output=short-iso", "--no-pager", "--quiet", &since];
    let started =
        Command::new("journalctl").args(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let Ok(mut journal) = started else {
        eprintln!("pixelward: there is no journal here; name the relay's log with --log FILE");
        return Ok(());
    };
    if let Some(lines) = journal.stdout.take() {
        read(lines, each)?;
    }
    journal.wait()?;
    Ok(())
}

fn named(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}

fn read(source: impl Read, each: &mut dyn FnMut(&str)) -> std::io::Result<()> {
    let mut reader = BufReader::new(source);
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        each(String::from_utf8_lossy(&line).trim_end());
    }
}

/// Returns whether a line has this as a whole word: an id is not part of a longer one.
fn has_word(line: &str, word: &str) -> bool {
    let is_inside =
        |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || b"-_.+@".contains(byte));
    let bytes = line.as_bytes();
    memchr::memmem::find_iter(bytes, word.as_bytes()).any(|at| {
        let before = at.checked_sub(1).and_then(|at| bytes.get(at));
        !is_inside(before) && !is_inside(bytes.get(at + word.len()))
    })
}

/// Returns the relay's id of the message that a line is about: `id=…`, or `"id":"…"` in JSON.
fn our_id(line: &str) -> Option<&str> {
    let rest = line.split_once(" id=").or_else(|| line.split_once("\"id\":\"")).map(|(_, rest)| rest)?;
    let end = rest.find(|character: char| !character.is_ascii_alphanumeric()).unwrap_or(rest.len());
    rest.get(..end).filter(|id| !id.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_found_as_a_whole_word_and_leads_to_ours() {
        let line =
            "INFO message id=1f0x client_id=\"4XQ\" message_id=\"<a.1@shop.example>\" reply=\"250 as 7B\"";
        for word in ["1f0x", "4XQ", "a.1@shop.example", "7B"] {
            assert!(has_word(line, word), "{word}");
        }
        for word in ["1f0", "XQ", "1@shop.example", "a.1@shop", "B"] {
            assert!(!has_word(line, word), "{word}");
        }
        assert_eq!(our_id(line), Some("1f0x"));
        assert_eq!(our_id("{\"fields\":{\"id\":\"1f0x\",\"reply\":\"a\"}}"), Some("1f0x"));
        assert_eq!(our_id("pixelward is ready"), None);
    }
}
