//! The log: the journal under systemd, lines for people, or JSON.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat};

/// Starts the log.
///
/// # Errors
///
/// When the filter is none, or a log runs already.
pub fn start(settings: &Log) -> Result<(), String> {
    let filter = EnvFilter::try_new(&settings.level).map_err(|error| format!("log.level: {error}"))?;
    let registry = tracing_subscriber::registry().with(filter);
    // Colours are for people: a file is searched.
    let lines = || {
        let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        tracing_subscriber::fmt::layer().with_ansi(colours).with_writer(std::io::stderr)
    };
    let under_systemd = std::env::var_os("JOURNAL_STREAM").is_some();
    let started = match (settings.format, under_systemd) {
        (LogFormat::Auto, true) => match tracing_journald::layer() {
            Ok(journal) => registry.with(journal).try_init(),
            Err(_) => registry.with(lines()).try_init(),
        },
        (LogFormat::Json, _) => {
            registry.with(tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr)).try_init()
        }
        (LogFormat::Auto | LogFormat::Human, _) => registry.with(lines().with_target(false)).try_init(),
    };
    started.map_err(|error| error.to_string())
}
