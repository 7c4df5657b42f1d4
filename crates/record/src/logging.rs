//! The log: lines for the journal under systemd, lines for people, or JSON.

mod plain;

use std::io::{self, IsTerminal, Write};
use std::os::linux::fs::MetadataExt;

use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat};
use plain::PlainFields;

/// What is not logged unless the filter names it: the resolver writes whole answers, which others send, and
/// whoever asked it says what came of them. The client of NATS tells of each connection, and the cluster says
/// what that means.
const QUIET: &str = "hickory_proto=off,hickory_net=off,hickory_resolver=off,async_nats=warn";

/// Starts the log.
///
/// # Errors
///
/// When the filter is invalid, or a log exists already.
pub fn start(settings: &Log) -> Result<(), String> {
    let filter = EnvFilter::try_new(format!("{QUIET},{}", settings.level))
        .map_err(|error| format!("log.level: {error}"))?;
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_target(false);
    // Colours are for people: files get searched.
    let has_colours = || io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let started = match settings.format {
        LogFormat::Auto if is_journal() => registry
            .with(
                lines
                    .without_time()
                    .with_level(false)
                    .with_ansi(false)
                    .fmt_fields(PlainFields)
                    .with_writer(Journal),
            )
            .try_init(),
        LogFormat::Auto | LogFormat::Human if has_colours() => {
            registry.with(lines.with_ansi(true).with_writer(io::stderr)).try_init()
        }
        LogFormat::Auto | LogFormat::Human => {
            registry.with(lines.with_ansi(false).fmt_fields(PlainFields).with_writer(io::stderr)).try_init()
        }
        LogFormat::Json => {
            registry.with(tracing_subscriber::fmt::layer().json().with_writer(io::stderr)).try_init()
        }
    };
    started.map_err(|error| error.to_string())
}

/// Returns whether standard error goes to systemd's journal. The variable alone does not say so: a shell
/// started by a service passes it on.
fn is_journal() -> bool {
    let named = std::env::var("JOURNAL_STREAM").ok();
    let ours = std::fs::metadata("/proc/self/fd/2")
        .ok()
        .map(|metadata| format!("{}:{}", metadata.st_dev(), metadata.st_ino()));
    named.is_some() && named == ours
}

/// Standard error with the level in front of each line, by which the journal recognises a warning
/// (sd-daemon(3)). The journal adds the time itself.
struct Journal;

impl<'a> MakeWriter<'a> for Journal {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line("<6>")
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Line {
        Line(match *event.level() {
            Level::ERROR => "<3>",
            Level::WARN => "<4>",
            Level::INFO => "<6>",
            Level::DEBUG | Level::TRACE => "<7>",
        })
    }
}

/// Writes one event, with this in front of each line.
struct Line(&'static str);

impl Write for Line {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        // Each line is a separate record for the journal.
        let lines = text.split_inclusive(|byte| *byte == b'\n').flat_map(|line| [self.0.as_bytes(), line]);
        io::stderr().write_all(&lines.collect::<Vec<_>>().concat())?;
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
