//! `pixelward rewrite`: one message through the rewrite, without a relay.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use bytes::Bytes;
use clap::{Args, ValueEnum};

use crate::faults;
use crate::guarded::guarded;
use crate::message::header::fields;
use crate::rewrite::{Copy, LinkTreatment, Opens, Order, Personal, Receipts, Verify, Way, rewrite};
use crate::tracker::{Analysis, Detector, Extent, Inquiry, Links, Sighting, Verdict};

/// Rewrite one message as the relay would, and say what was taken out.
///
/// Reads a message from a file or standard input and writes it, rewritten, to standard output. What was found is said on
/// standard error. Nothing is fetched or sent.
#[derive(Args, Debug)]
pub struct Rewrite {
    /// The message; `-` for standard input.
    #[arg(default_value = "-", value_name = "FILE")]
    pub file: PathBuf,
    /// A recipient whose address may stand in a tracker. May be given several times; without it, the addresses of To and Cc.
    #[arg(long, value_name = "ADDRESS")]
    pub recipient: Vec<String>,
    /// What every recipient is taken to have said.
    #[arg(long, value_enum, default_value_t = Assume::Refused)]
    pub assume: Assume,
    /// Take out every remote request, not only trackers.
    #[arg(long)]
    pub strict: bool,
    /// Replace tracked links by the address they lead to, where it stands in the link.
    #[arg(long)]
    pub unwrap_links: bool,
    /// Say what was found as JSON.
    #[arg(long)]
    pub json: bool,
}

/// A consent to be assumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Assume {
    /// Trackers go.
    Refused,
    /// The message stays as it is.
    Granted,
}

/// Runs the command.
///
/// # Errors
///
/// When the message cannot be read or written, or no copy of it may leave.
pub fn run(command: &Rewrite) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let raw = Bytes::from(read(&command.file)?);
    let recipients = match command.recipient.as_slice() {
        [] => named_recipients(&raw),
        given => given.to_vec(),
    };
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    let detector = Detector::default();
    let inquiry = Inquiry {
        extent: if command.strict { Extent::EveryRequest } else { Extent::Trackers },
        links: if command.unwrap_links { Links::Note } else { Links::Ignore },
        ..Inquiry::to(&recipients)
    };
    let analyse = || {
        faults::arm(&raw);
        detector.analyse(&raw, &inquiry)
    };
    let analysis =
        guarded(analyse).map_err(|error| format!("{}: {error}; please report it", command.file.display()))?;
    let order = Order {
        opens: Opens::Strip,
        added: &[],
        inquiry,
        receipts: Receipts::Strip,
        personal: Personal::Gentlest,
        links: if command.unwrap_links { LinkTreatment::Unwrap } else { LinkTreatment::Keep },
        verify: Verify::On,
    };
    let copy = match command.assume {
        Assume::Refused => guarded(|| rewrite(&detector, &raw, &analysis, &order))
            .map_err(|error| format!("{}: {error}; please report it", command.file.display()))??,
        Assume::Granted => Copy::Untouched,
    };
    report(command, &detector, &analysis, &copy)?;
    let bytes = match &copy {
        Copy::Untouched => &raw,
        Copy::Rewritten { bytes, .. } => bytes,
    };
    std::io::stdout().lock().write_all(bytes)?;
    Ok(ExitCode::SUCCESS)
}

fn read(file: &PathBuf) -> std::io::Result<Vec<u8>> {
    if file.as_os_str() == "-" {
        let mut raw = Vec::new();
        std::io::stdin().lock().read_to_end(&mut raw)?;
        Ok(raw)
    } else {
        std::fs::read(file)
    }
}

/// The addresses that To and Cc name.
pub fn named_recipients(raw: &[u8]) -> Vec<String> {
    fields(raw, 0)
        .filter(|field| ["To", "Cc", "Delivered-To"].iter().any(|name| field.is(raw, name)))
        .flat_map(|field| {
            let value = String::from_utf8_lossy(field.value(raw)).into_owned();
            let words: Vec<String> = value
                .split(|character: char| character.is_whitespace() || "<>,;\"()".contains(character))
                .filter(|word| word.contains('@'))
                .map(str::to_owned)
                .collect();
            words
        })
        .collect()
}

fn report(
    command: &Rewrite,
    detector: &Detector,
    analysis: &Analysis<'_>,
    copy: &Copy,
) -> std::io::Result<()> {
    let mut out = std::io::stderr().lock();
    let trackers: Vec<&Sighting> =
        analysis.sightings.iter().filter(|sighting| sighting.verdict != Verdict::Picture).collect();
    let way = match copy {
        Copy::Untouched => "untouched",
        Copy::Rewritten { way: Way::Ordered, .. } => "rewritten",
        Copy::Rewritten { way: Way::Strict, .. } => "rewritten strictly: every remote request was taken out",
    };
    if command.json {
        let sightings: Vec<_> = trackers.iter().map(|sighting| as_json(detector, sighting)).collect();
        return writeln!(out, "{}", serde_json::json!({ "result": way, "trackers": sightings }));
    }
    writeln!(
        out,
        "{way}; {} {} found",
        trackers.len(),
        if trackers.len() == 1 { "tracker" } else { "trackers" }
    )?;
    for sighting in trackers {
        let vendor = sighting.vendor.map_or("unknown", |vendor| detector.catalogue().name(vendor));
        let kept = sighting.protection.map_or("", |_| ", left as it is: the part is signed or encrypted");
        writeln!(
            out,
            "  part {}, {}, {vendor}: {} [{}]{kept}",
            sighting.part,
            sighting.carrier,
            shown(&sighting.url),
            sighting.signals
        )?;
    }
    Ok(())
}

/// One sighting for a machine.
pub fn as_json(detector: &Detector, sighting: &Sighting) -> serde_json::Value {
    serde_json::json!({
        "part": sighting.part,
        "carrier": sighting.carrier.name(),
        "axis": sighting.axis().name(),
        "vendor": sighting.vendor.map(|vendor| detector.catalogue().name(vendor)),
        "url": shown(&sighting.url),
        "protected": sighting.protection.is_some(),
        "verdict": sighting.verdict_name(),
        "facts": sighting.signals.iter().map(|signal| signal.name()).collect::<Vec<_>>(),
        "evidence": sighting.signals.iter().map(|signal| signal.text()).collect::<Vec<_>>(),
        "score": sighting.signals.score(),
    })
}

/// An address short enough for a report, with nothing in it that a terminal would obey.
pub fn shown(url: &str) -> String {
    const LONGEST: usize = 100;
    let mut text: String = url.chars().take(LONGEST).flat_map(char::escape_default).collect();
    if url.chars().count() > LONGEST {
        text.push('…');
    }
    text
}
