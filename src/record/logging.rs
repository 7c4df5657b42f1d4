//! The log: the journal under systemd, lines for people, or JSON.

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
    let under_systemd = std::env::var_os("JOURNAL_STREAM").is_some();
    let started = match (settings.format, under_systemd) {
        (LogFormat::Auto, true) => match tracing_journald::layer() {
            Ok(journal) => registry.with(journal).try_init(),
            Err(_) => registry.with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr)).try_init(),
        },
        (LogFormat::Json, _) => {
            registry.with(tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr)).try_init()
        }
        (LogFormat::Auto | LogFormat::Human, _) => registry
            .with(tracing_subscriber::fmt::layer().with_target(false).with_writer(std::io::stderr))
            .try_init(),
    };
    started.map_err(|error| error.to_string())
}
