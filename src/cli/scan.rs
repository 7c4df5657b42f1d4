//! `pixelward scan`: finds what would report an open in many messages.

mod page;
mod report;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use time::OffsetDateTime;
use time::macros::format_description;

use report::Report;

use super::counted;
use super::rewrite::{as_json, shown};
use crate::faults;
use crate::guarded::guarded;
use crate::plan::trial::named_recipients;
use crate::tracker::{Analysis, Axis, Detector, Inquiry, Links, Sighting, Verdict};

/// Find the trackers in messages, without changing or fetching anything
///
/// Takes files, directories and mbox files, and prints a table of what was found, by message and by vendor.
#[derive(Args, Debug)]
pub struct Scan {
    /// Messages, directories of messages, or mbox files
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Print JSON: one object per line for each message, and a last one with the sums
    #[arg(long)]
    pub json: bool,
    /// Explain for each place why it counts as a tracker, or why not
    #[arg(long)]
    pub explain: bool,
    /// Also write a report for people: one HTML file that loads nothing and names no recipient
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

/// Sums over all messages.
#[derive(Default)]
struct Sums {
    messages: u64,
    with_trackers: u64,
    /// Links that report who followed them.
    links: u64,
    /// Visible images that identify the reader.
    personal: u64,
    /// Text parts that cannot be read.
    unreadable: u64,
    by_vendor: BTreeMap<String, u64>,
    links_by_vendor: BTreeMap<String, u64>,
    by_carrier: BTreeMap<&'static str, u64>,
    /// Only if a report is requested.
    report: Option<Report>,
}

/// Runs the command.
///
/// # Errors
///
/// When the output or the report cannot be written. A file or message that cannot be read is named, and the
/// others continue.
pub fn run(command: &Scan) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut files = Vec::new();
    for path in &command.paths {
        collect(path, &mut files);
    }
    files.sort();
    let mut sums = Sums::default();
    // A report that cannot be written is noticed before a long scan, not after it.
    let mut page = None;
    if let Some(path) = &command.report {
        files.retain(|file| file != path);
        let file = File::create(path).map_err(|error| format!("{}: {error}", path.display()))?;
        page = Some((path, file));
        sums.report = Some(Report::default());
    }
    let progress = ProgressBar::new(files.len() as u64);
    progress.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} files, {eta} left")?);
    let detector = Detector::default();
    let mut failed = 0;
    for path in &files {
        match std::fs::read(path) {
            Ok(bytes) => {
                for (number, message) in messages(&bytes).enumerate() {
                    let name = if number == 0 {
                        path.display().to_string()
                    } else {
                        format!("{}#{}", path.display(), number + 1)
                    };
                    // The sums include a message only once it was examined completely.
                    match guarded(|| looked_at(command, &detector, message)) {
                        Ok(looked) => {
                            let lines = one(command, &detector, &name, &looked, &mut sums);
                            progress
                                .suspend(|| writeln!(std::io::stdout().lock(), "{lines}"))
                                .or_else(ignore_closed)?;
                        }
                        Err(error) => {
                            failed += 1;
                            progress.suspend(|| eprintln!("{name}: {error}; please report it"));
                        }
                    }
                }
            }
            Err(error) => {
                failed += 1;
                progress.suspend(|| eprintln!("{}: {error}", path.display()));
            }
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    print(command, &sums).or_else(ignore_closed)?;
    if let (Some((path, file)), Some(report)) = (page, sums.report) {
        write(file, Report { failed, ..report }).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn write(mut file: File, report: Report) -> Result<(), Box<dyn std::error::Error>> {
    let form = format_description!("[day padding:none] [month repr:long] [year], [hour]:[minute] UTC");
    let date = OffsetDateTime::now_utc().format(form)?;
    file.write_all(page::page(&report, &date).as_bytes())?;
    Ok(file.sync_all()?)
}

/// Whoever reads the table may stop reading it.
fn ignore_closed(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) }
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) {
    match std::fs::read_dir(path) {
        Ok(entries) => {
            for entry in
                entries.flatten().filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
            {
                collect(&entry.path(), files);
            }
        }
        Err(_) => files.push(path.to_owned()),
    }
}

/// Returns the messages of a file: one, or those of an mbox, which begins with "From ".
fn messages(bytes: &[u8]) -> Box<dyn Iterator<Item = &[u8]> + '_> {
    if !bytes.starts_with(b"From ") {
        return Box::new(std::iter::once(bytes));
    }
    let starts = std::iter::once(0).chain(memchr::memmem::find_iter(bytes, b"\nFrom ").map(|at| at + 1));
    let mut starts: Vec<usize> = starts.collect();
    starts.push(bytes.len());
    let ranges: Vec<(usize, usize)> =
        starts.windows(2).filter_map(|pair| Some((*pair.first()?, *pair.last()?))).collect();
    Box::new(ranges.into_iter().map(|(start, end)| {
        let message = bytes.get(start..end).unwrap_or_default();
        let line = memchr::memchr(b'\n', message).map_or(0, |end| end + 1);
        message.get(line..).unwrap_or_default()
    }))
}

/// A message, with what was found in it.
struct Looked<'a> {
    message: &'a [u8],
    recipients: Vec<String>,
    analysis: Analysis<'a>,
}

fn looked_at<'a>(command: &Scan, detector: &Detector, message: &'a [u8]) -> Looked<'a> {
    faults::arm(message);
    let named = named_recipients(message);
    let recipients: Vec<&str> = named.iter().map(String::as_str).collect();
    let inquiry = Inquiry { links: Links::Note, ..Inquiry::to(&recipients) };
    let inquiry = if command.explain { inquiry.everything() } else { inquiry };
    let analysis = detector.analyse(message, &inquiry);
    Looked { message, analysis, recipients: named }
}

fn one(command: &Scan, detector: &Detector, name: &str, looked: &Looked<'_>, sums: &mut Sums) -> String {
    let Looked { message, recipients, analysis } = looked;
    if let Some(report) = &mut sums.report {
        let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
        report.add(detector, name, message, &recipients, analysis);
    }
    let found = |sighting: &&Sighting| sighting.verdict == Verdict::Tracker;
    let (links, trackers): (Vec<&Sighting>, Vec<&Sighting>) =
        analysis.sightings.iter().filter(found).partition(|sighting| sighting.axis() == Axis::Link);
    let personal = analysis.sightings.iter().filter(|sighting| sighting.verdict == Verdict::Personal).count();
    sums.messages += 1;
    sums.links += links.len() as u64;
    for link in &links {
        let vendor = link.vendor.map_or("unknown", |vendor| detector.catalogue().name(vendor));
        *sums.links_by_vendor.entry(vendor.to_owned()).or_default() += 1;
    }
    sums.personal += personal as u64;
    sums.unreadable += analysis.unreadable as u64;
    sums.with_trackers += u64::from(!trackers.is_empty());
    for tracker in &trackers {
        let vendor = tracker.vendor.map_or("unknown", |vendor| detector.catalogue().name(vendor));
        *sums.by_vendor.entry(vendor.to_owned()).or_default() += 1;
        *sums.by_carrier.entry(tracker.carrier.name()).or_default() += 1;
    }
    if command.json {
        let trackers: Vec<_> = trackers.iter().map(|tracker| as_json(detector, tracker)).collect();
        let mut line = serde_json::Map::new();
        line.insert("message".to_owned(), name.into());
        line.insert("trackers".to_owned(), trackers.into());
        line.insert("tracked_links".to_owned(), links.len().into());
        line.insert("unreadable_parts".to_owned(), analysis.unreadable.into());
        if command.explain {
            let places: Vec<_> =
                analysis.sightings.iter().map(|sighting| as_json(detector, sighting)).collect();
            line.insert("places".to_owned(), places.into());
        }
        return serde_json::Value::Object(line).to_string();
    }
    let links_too = match links.len() {
        0 => String::new(),
        1 => ", 1 tracked link".to_owned(),
        many => format!(", {many} tracked links"),
    };
    let unreadable = match analysis.unreadable {
        0 => String::new(),
        1 => ", 1 part that cannot be read".to_owned(),
        many => format!(", {many} parts that cannot be read"),
    };
    let mut lines = vec![format!("{name}: {}{links_too}{unreadable}", self::trackers(trackers.len()))];
    let listed: Vec<&Sighting> = if command.explain { analysis.sightings.iter().collect() } else { trackers };
    for sighting in listed {
        let vendor = sighting.vendor.map_or("unknown", |vendor| detector.catalogue().name(vendor));
        let verdict = sighting.verdict_name();
        lines.push(format!(
            "    {verdict} {:<16} {vendor:<22} {}",
            sighting.carrier.name(),
            shown(&sighting.url)
        ));
        if command.explain {
            lines.push(format!("        {} = {}", sighting.signals, sighting.signals.score()));
        }
    }
    lines.join("\n")
}

fn trackers(number: usize) -> String {
    match number {
        0 => "no tracker".to_owned(),
        number => counted(number, "tracker", "trackers"),
    }
}

fn print(command: &Scan, sums: &Sums) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if command.json {
        let sums = serde_json::json!({
            "messages": sums.messages,
            "with_trackers": sums.with_trackers,
            "tracked_links": sums.links,
            "identifying_images": sums.personal,
            "unreadable_parts": sums.unreadable,
            "by_vendor": sums.by_vendor,
            "links_by_vendor": sums.links_by_vendor,
            "by_carrier": sums.by_carrier,
        });
        return writeln!(out, "{sums}");
    }
    let messages = counted(sums.messages, "message", "messages");
    writeln!(out, "\n{messages}, {} with trackers", sums.with_trackers)?;
    writeln!(
        out,
        "{}, {} that identify the reader",
        counted(sums.links, "tracked link", "tracked links"),
        counted(sums.personal, "visible image", "visible images")
    )?;
    if sums.unreadable > 0 {
        writeln!(out, "{} that cannot be read", counted(sums.unreadable, "text part", "text parts"))?;
    }
    for (counts, what) in [(&sums.by_vendor, ""), (&sums.links_by_vendor, ", tracked links")] {
        let mut vendors: Vec<(&String, &u64)> = counts.iter().collect();
        vendors.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), (*name).clone()));
        for (vendor, count) in vendors {
            writeln!(out, "{count:>8}  {vendor}{what}")?;
        }
    }
    Ok(())
}
