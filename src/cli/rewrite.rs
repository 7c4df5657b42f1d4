//! `pixelward rewrite`: one message through the rewrite, without a relay.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use bytes::Bytes;
use clap::{Args, ValueEnum};

use crate::config::{Config, Treatment};
use crate::consent::{Controller, State, Timestamp};
use crate::live::{self, Lookup};
use crate::pipeline::lookup::Lookups;
use crate::plan::trial::{Assumed, Links, Tried, addresses, named_recipients, treat};
use crate::plan::{Made, Message};
use crate::policy::Origin;
use crate::tracker::{Axis, Detector, Sighting, Verdict};

/// Rewrite one message as the relay would, and say what was done.
///
/// Reads a message from a file or standard input and writes it, rewritten, to standard output. What was found
/// and done is reported on standard error. With --config, the message is treated as mail that comes through the
/// first listener of that configuration; without, trackers are taken out or kept, signatures that break are
/// removed, and nothing else is done. Nothing is fetched or sent, but links_lookup of the configuration is asked
/// what links lead to, as for mail.
#[derive(Args, Debug)]
pub struct Rewrite {
    /// The message; `-` for standard input.
    #[arg(default_value = "-", value_name = "FILE")]
    pub file: PathBuf,
    /// A recipient. May be given several times; without it, the addresses of To and Cc.
    #[arg(long, value_name = "ADDRESS")]
    pub recipient: Vec<String>,
    /// What every recipient is assumed to have said about every purpose.
    #[arg(long, value_enum, default_value_t = Assume::Refused)]
    pub assume: Assume,
    /// Treat the message by this configuration, with its catalogues, lists, mailstreams and keys.
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The envelope sender, where the configuration asks for it. Default: the address of From.
    #[arg(long, value_name = "ADDRESS", requires = "config")]
    pub sender: Option<String>,
    /// The name of the listener it comes through. Default: the first one.
    #[arg(long, value_name = "NAME", requires = "config")]
    pub listener: Option<String>,
    /// The login it is sent with. Default: none.
    #[arg(long, value_name = "NAME", requires = "config")]
    pub login: Option<String>,
    /// Take out every remote request, not only trackers.
    #[arg(long, conflicts_with = "config")]
    pub strict: bool,
    /// Replace tracked links by the address they lead to, where it stands in the link.
    #[arg(long, conflicts_with = "config")]
    pub unwrap_links: bool,
    /// Report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// A consent to be assumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Assume {
    /// Everybody refused.
    Refused,
    /// Everybody agreed.
    Granted,
    /// Nobody was ever asked.
    Unknown,
}

impl Assume {
    fn state(self) -> Option<State> {
        match self {
            Assume::Refused => Some(State::Refused),
            Assume::Granted => Some(State::Granted),
            Assume::Unknown => None,
        }
    }
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
    let mut recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    if recipients.is_empty() {
        // Somebody has to get the copy, of whom nothing is known.
        recipients.push("");
    }
    let config = match &command.config {
        Some(path) => Config::load(path)?,
        None => builtin(command)?,
    };
    let treatment = Treatment::of(&config)?;
    let listener = match &command.listener {
        Some(name) => name.as_str(),
        None => config.listeners.first().map_or("", |listener| listener.name.as_str()),
    };
    // The envelope sender of most mail that no list sends.
    let from = addresses(&raw, &["From"]).pop().unwrap_or_default();
    let sender = command.sender.as_deref().unwrap_or(&from);
    let login = command.login.as_deref();
    let message = Message {
        bytes: &raw,
        origin: Origin { listener, login, sender },
        recipients: &recipients,
        max_copies: config.relay.max_groups,
        esp: config.esp(listener, login, sender),
        at: Timestamp::now(),
    };
    let controller = &config.policy.rulebook.default_controller().name;
    let people = Assumed::to_have_said(command.assume.state(), controller, message.at);
    let lookups = live::lookups(&config)?;
    let ask = |controller: &Controller, links| asked(&lookups, controller, links);
    let made = treat(&treatment.settings(&config), &message, None, &people, &ask, |tried| {
        made(command, &treatment.detector, &raw, &tried).map_err(|error| error.to_string())
    })?;
    std::io::stdout().lock().write_all(&made.bytes)?;
    Ok(ExitCode::SUCCESS)
}

/// What the controller's service says of links, as the relay would hear it.
fn asked(lookups: &[Lookup], controller: &Controller, links: Links) -> Links {
    let Some(lookup) = lookups.iter().find(|lookup| lookup.controller == *controller) else {
        return Vec::new();
    };
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(Lookups::default().told(lookup, links)),
        Err(error) => {
            eprintln!("pixelward: links_lookup cannot be asked: {error}");
            Vec::new()
        }
    }
}

/// Where there is no configuration: trackers go or stay, and nothing is put in.
fn builtin(command: &Rewrite) -> Result<Config, String> {
    let text = format!(
        "[policy]\non_grant = \"keep\"\nstrict = {}\nlinks = \"{}\"\nprotected = \"pass\"\n\
         [next_hop]\nhost = \"next-hop.example\"\n",
        command.strict,
        if command.unwrap_links { "unwrap" } else { "ignore" },
    );
    Config::parse(&text).map_err(|problems| problems.first().map(ToString::to_string).unwrap_or_default())
}

/// The copy of the first recipient, of which it was reported what was done.
fn made(
    command: &Rewrite,
    detector: &Detector,
    raw: &Bytes,
    tried: &Tried<'_>,
) -> Result<Made, Box<dyn std::error::Error>> {
    if let Some(fault) = &tried.fault {
        return Err(format!("{}: {fault}; please report it", command.file.display()).into());
    }
    let copy = tried.copy_of(0).ok_or("the message has no recipient")?;
    if let Some(error) = &copy.notes.failure {
        return Err(error.to_string().into());
    }
    let made =
        copy.made.as_ref().map_err(|reply| format!("no copy would leave; the client hears {reply}"))?;
    let result = match (made.bytes == *raw, copy.notes.is_strict) {
        (true, _) => "untouched",
        (false, false) => "rewritten",
        (false, true) => "rewritten strictly: every remote request was taken out",
    };
    report(command, detector, tried, made, result)?;
    Ok(made.clone())
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

fn report(
    command: &Rewrite,
    detector: &Detector,
    tried: &Tried<'_>,
    made: &Made,
    result: &str,
) -> std::io::Result<()> {
    let mut out = std::io::stderr().lock();
    let sightings = tried.analysis.iter().flat_map(|analysis| &analysis.sightings);
    let trackers: Vec<&Sighting> = sightings
        .filter(|sighting| sighting.verdict != Verdict::Picture && sighting.axis() != Axis::Link)
        .collect();
    let decided = tried.plan.decided.first();
    if command.json {
        let sightings: Vec<_> = trackers.iter().map(|sighting| as_json(detector, sighting)).collect();
        let report = serde_json::json!({
            "result": result,
            "decided": decided.map(|decided| decided.decision.outcome.name()),
            "rule": decided.map(|decided| decided.decision.rule.name()),
            "done": made.done.name(),
            "removed": made.removed,
            "swapped": made.swapped,
            "links_unwrapped": made.links.unwrapped,
            "links_gated": made.links.gated,
            "links_left": made.links.left,
            "trackers": sightings,
        });
        return writeln!(out, "{report}");
    }
    writeln!(
        out,
        "{result}; {} {} found",
        trackers.len(),
        if trackers.len() == 1 { "tracker" } else { "trackers" }
    )?;
    if let (Some(decided), true) = (decided, command.config.is_some()) {
        let shortfall = decided.shortfall.or(made.shortfall).map_or(String::new(), |why| format!(" ({why})"));
        writeln!(
            out,
            "mailstream {}, decided {} (rule {}, {}), done {}{shortfall}",
            tried.chosen.mailstream.name,
            decided.decision.outcome.name(),
            decided.decision.rule.name(),
            decided.decision.version,
            made.done.name(),
        )?;
    }
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
