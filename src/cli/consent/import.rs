//! `pixelward consent import`: records the rows of a file in durable batches.
//!
//! Promised: rows about one person are recorded in the order of the file, however they spell the address. A large file
//! is dealt out to several connections by person, so that one batch is on its way while another becomes durable. An
//! import that broke off is run again from the start: what was recorded changes nothing.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::{Access, described};
use crate::consent::StoreKey;
use crate::consent::import::{Line, NOT_NOW, Row, RowResult, UNCONFIRMED, csv_rows, json_rows};
use crate::consent::socket::{Request, Response};

/// The number of rows that are made durable together.
const BATCH: usize = 1000;
/// How many batches may be on their way at once.
pub(super) const LANES: usize = 4;

/// How long rows are said again that the relays together cannot make durable, and how long a pause is between.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(1);

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

type Failure = Box<dyn std::error::Error>;

/// Records rows. Those that the relays together cannot make durable for the moment are said again for a while, and with
/// them all later ones about the same people, so that their order stays.
fn recorded(
    rows: &[Row],
    patience: Duration,
    pause: Duration,
    mut ask: impl FnMut(Vec<Row>) -> Result<Vec<RowResult>, Failure>,
) -> Result<Vec<RowResult>, Failure> {
    let (key, until) = (StoreKey::new([0; 32]), Instant::now() + patience);
    let mut results: BTreeMap<usize, RowResult> = BTreeMap::new();
    let mut said: Vec<(usize, &Row)> = rows.iter().enumerate().collect();
    loop {
        let answers = ask(said.iter().map(|(_, row)| (*row).clone()).collect())?;
        let (mut people, mut again) = (HashSet::new(), Vec::new());
        for ((place, row), result) in said.into_iter().zip(answers) {
            let person = key.person(&row.address);
            if is_for_now(&result) {
                people.insert(person);
            }
            if people.contains(&person) {
                again.push((place, row));
            }
            // What was recorded before is only said again for the order.
            if results.get(&place).is_none_or(is_for_now) {
                results.insert(place, result);
            }
        }
        if again.is_empty() || Instant::now() >= until {
            return Ok(results.into_values().collect());
        }
        said = again;
        std::thread::sleep(pause);
    }
}

fn is_for_now(result: &RowResult) -> bool {
    matches!(result, RowResult::Failed(why) if why == NOT_NOW || why == UNCONFIRMED)
}

/// Makes a batch durable; returns whether any row was invalid.
fn commit(
    access: &mut Access,
    controller: &str,
    batch: Batch,
    tally: &mut Tally,
    progress: &ProgressBar,
) -> Result<bool, Failure> {
    let (numbers, rows): (Vec<u64>, Vec<Row>) = batch.into_iter().unzip();
    let results = recorded(&rows, PATIENCE, PAUSE, |rows| {
        match access.ask(Request::Apply { controller: controller.to_owned(), rows })? {
            Response::Rows(results) => Ok(results),
            _ => Err("the server sent an unexpected response".into()),
        }
    })?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn row(address: &str) -> Row {
        Row { address: address.to_owned(), ..Row::default() }
    }

    #[test]
    fn what_cannot_be_taken_for_the_moment_is_said_again_with_what_follows_about_the_person() {
        let rows = ["ann@a.example", "bob@a.example", "Ann@A.example", "eve@a.example"].map(row);
        let not_now = || RowResult::Failed(NOT_NOW.to_owned());
        let mut asked: Vec<Vec<String>> = Vec::new();
        let results = recorded(&rows, PATIENCE, Duration::ZERO, |rows| {
            asked.push(rows.iter().map(|row| row.address.clone()).collect());
            Ok(match asked.len() {
                1 => vec![not_now(), RowResult::Recorded(1), RowResult::Recorded(2), RowResult::Stale],
                2 => vec![not_now(), RowResult::Stale],
                _ => vec![RowResult::Recorded(3), RowResult::Stale],
            })
        });
        use RowResult::{Recorded, Stale};
        assert_eq!(results.unwrap(), [Recorded(3), Recorded(1), Recorded(2), Stale]);
        assert_eq!(asked[1..], [["ann@a.example", "Ann@A.example"], ["ann@a.example", "Ann@A.example"]]);
        // Not for ever.
        let results = recorded(&rows[..1], Duration::ZERO, Duration::ZERO, |_| Ok(vec![not_now()])).unwrap();
        assert!(is_for_now(&results[0]));
    }
}
