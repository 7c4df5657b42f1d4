//! `pixelward consent import`: records the rows of a file in durable batches.
//!
//! Promised: rows about one person are recorded in the order of the file, however they spell the address. A large file
//! is dealt out to several connections by person, so that one batch is on its way while another becomes durable. An
//! import that broke off is run again from the start: what was recorded changes nothing.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use indicatif::{ProgressBar, ProgressStyle};

use super::{Access, described};
use crate::consent::StoreKey;
use crate::consent::import::{Line, Row, RowResult, csv_rows, json_rows};
use crate::consent::socket::{Request, Response};

/// The number of rows that are made durable together.
const BATCH: usize = 1000;
/// How many batches may be on their way at once.
pub(super) const LANES: usize = 4;

/// Rows with the numbers of their lines.
type Batch = Vec<(u64, Row)>;

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

/// What all lanes share.
struct Import<'a> {
    controller: &'a str,
    progress: ProgressBar,
    stop_on_error: bool,
    /// Whether nothing more is to be recorded.
    stops: AtomicBool,
}

/// Where rows go: one lane for a small file, so that what is said of its lines comes in their order, and all of them
/// for a large one. All rows about a person go the same way.
struct Lanes {
    lanes: Vec<(Batch, SyncSender<Batch>)>,
    /// Tells people apart as the store does, whose key is not known here.
    key: StoreKey,
    is_small: bool,
}

pub(super) fn import(
    accesses: Vec<Access>,
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
    let import = Import { controller, progress, stop_on_error, stops: AtomicBool::new(false) };
    let tally = import.run(accesses, lines)?;
    import.progress.finish_and_clear();
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

impl Import<'_> {
    /// Records all lines over these connections.
    fn run(&self, accesses: Vec<Access>, lines: impl Iterator<Item = Line>) -> Result<Tally, String> {
        std::thread::scope(|scope| {
            let (lanes, workers): (Vec<_>, Vec<_>) = accesses
                .into_iter()
                .map(|access| {
                    // One batch is read while another is on its way.
                    let (to, batches) = sync_channel(1);
                    ((Vec::with_capacity(BATCH), to), scope.spawn(move || self.carry(access, &batches)))
                })
                .unzip();
            let mut total = Tally::default();
            self.deal(lines, Lanes { lanes, key: StoreKey::new([0; 32]), is_small: true }, &mut total);
            let mut failure = None;
            for worker in workers {
                match worker.join() {
                    Ok(Ok(tally)) => total.add(&tally),
                    Ok(Err(why)) => failure = failure.or(Some(why)),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            failure.map_or(Ok(total), Err)
        })
    }

    /// Deals lines out to the lanes until there are no more, or one of them leads no further.
    fn deal(&self, lines: impl Iterator<Item = Line>, mut lanes: Lanes, tally: &mut Tally) {
        for (number, row) in lines {
            match row {
                Ok(row) => {
                    if !lanes.put(number, row) {
                        self.stops.store(true, Ordering::Relaxed);
                    }
                }
                Err(error) => {
                    tally.bad += 1;
                    self.progress.suspend(|| eprintln!("line {number}: {error}"));
                    if self.stop_on_error {
                        // What came before it counts.
                        break;
                    }
                }
            }
            if self.stops.load(Ordering::Relaxed) {
                return;
            }
        }
        lanes.flush();
    }

    /// Makes batches durable, one after another.
    fn carry(&self, mut access: Access, batches: &Receiver<Batch>) -> Result<Tally, String> {
        let mut tally = Tally::default();
        for batch in batches {
            if self.stops.load(Ordering::Relaxed) {
                break;
            }
            let committed = commit(&mut access, self.controller, batch, &mut tally, &self.progress);
            let is_bad = committed.inspect_err(|_| self.stops.store(true, Ordering::Relaxed));
            if is_bad.map_err(|error| error.to_string())? && self.stop_on_error {
                self.stops.store(true, Ordering::Relaxed);
            }
        }
        Ok(tally)
    }
}

impl Lanes {
    /// Puts a row where the others about the same person go; returns whether that leads anywhere.
    fn put(&mut self, number: u64, row: Row) -> bool {
        let way = self.way(&row);
        let Some((batch, _)) = self.lanes.get_mut(way) else { return false };
        batch.push((number, row));
        if batch.len() < BATCH {
            return true;
        }
        if std::mem::take(&mut self.is_small) {
            let first = std::mem::take(batch);
            return first.into_iter().all(|(number, row)| self.put(number, row));
        }
        self.send(way)
    }

    fn way(&self, row: &Row) -> usize {
        let [first, ..] = self.key.person(&row.address).0;
        if self.is_small { 0 } else { usize::from(first) % self.lanes.len().max(1) }
    }

    fn send(&mut self, way: usize) -> bool {
        let Some((batch, to)) = self.lanes.get_mut(way) else { return false };
        batch.is_empty() || to.send(std::mem::replace(batch, Vec::with_capacity(BATCH))).is_ok()
    }

    fn flush(&mut self) {
        for way in 0..self.lanes.len() {
            // One that leads no further says why itself.
            let _ = self.send(way);
        }
    }
}

impl Tally {
    fn add(&mut self, other: &Tally) {
        self.recorded += other.recorded;
        self.without_grant += other.without_grant;
        self.stale += other.stale;
        self.superseded_by_withdrawal += other.superseded_by_withdrawal;
        self.holds_here += other.holds_here;
        self.bad += other.bad;
    }
}

/// Makes a batch durable; returns whether any row was invalid.
fn commit(
    access: &mut Access,
    controller: &str,
    batch: Batch,
    tally: &mut Tally,
    progress: &ProgressBar,
) -> Result<bool, Box<dyn std::error::Error>> {
    let (numbers, rows): (Vec<u64>, Vec<Row>) = batch.into_iter().unzip();
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
