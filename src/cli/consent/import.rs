//! `pixelward consent import`: records the rows of a file in durable batches.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};

use super::{Access, described};
use crate::consent::import::{Line, Row, RowResult, csv_rows, json_rows};
use crate::consent::socket::{Request, Response};

/// The number of rows that are made durable together.
const BATCH: usize = 2000;

/// The results of an import.
#[derive(Default, serde::Serialize)]
struct Tally {
    recorded: u64,
    without_grant: u64,
    stale: u64,
    superseded_by_withdrawal: u64,
    holds_here: u64,
    bad: u64,
}

pub(super) fn import(
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
    let is_json = file
        .extension()
        .is_some_and(|extension| ["ndjson", "jsonl", "json"].iter().any(|name| extension == *name));
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
            "{} recorded, {} of them without a grant because proof of consent is missing; {} older than what \
             is known, {} superseded by withdrawal, {} invalid",
            tally.recorded, tally.without_grant, tally.stale, tally.superseded_by_withdrawal, tally.bad
        );
    }
    Ok(if tally.bad > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Makes a batch durable; returns whether any row was invalid.
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
        return Err("the server sent an unexpected response".into());
    };
    let mut bad = false;
    for (number, result) in numbers.into_iter().zip(&results) {
        match result {
            RowResult::Recorded(_) | RowResult::Moved { .. } => tally.recorded += 1,
            RowResult::HoldsHere => tally.holds_here += 1,
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
