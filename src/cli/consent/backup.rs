//! `pixelward consent backup`, `restore` and `rebuild`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use indicatif::ProgressBar;

use crate::cli::counted;
use crate::config::Config;
use crate::consent::Store;
use crate::consent::backup::{accept_loss, copy_journal, copy_keys, restore as put_back};
use crate::consent::index::SledIndex;
use crate::consent::socket::Client;

/// Copies the journal and the keys, each to its own place.
pub(super) fn backup(
    config: &Config,
    journal: Option<&Path>,
    keys: Option<&Path>,
    days: u16,
) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let settings = crate::cli::run::store_settings(config);
    // Keys first: then the only unknown people in the copied journal are those added since.
    if let Some(to) = keys {
        let note = copy_keys(&settings, to, days)?;
        println!(
            "The keys are in {}. Delete that copy by {}: people erased until then are in it.",
            to.display(),
            note.delete_by
        );
    }
    if let Some(to) = journal {
        let note = copy_journal(&settings, to)?;
        println!(
            "The journal is in {}: {}, chain intact up to {}.",
            to.display(),
            counted(note.records, "record", "records"),
            note.hash
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Creates a store from backups.
pub(super) fn restore(
    config: &Config,
    journal: &Path,
    keys: &Path,
    accept_expired: bool,
    lose_newer: bool,
) -> Result<ExitCode, Box<dyn std::error::Error>> {
    if Client::connect(&config.data_directory).is_some() {
        return Err("the relay is running; stop it before restoring a store".into());
    }
    let settings = crate::cli::run::store_settings(config);
    if lose_newer && let Some(copy) = &settings.head_copy {
        set_aside(copy)?;
    }
    let progress = spinner("creating a store from the backups");
    let verified = put_back(&settings, journal, keys, accept_expired)?;
    progress.finish_and_clear();
    println!(
        "{}, {}; the chain is intact up to {}, and the index matches the journal.",
        counted(verified.records, "record", "records"),
        counted(verified.people, "person", "people"),
        verified.hash
    );
    Ok(ExitCode::SUCCESS)
}

fn set_aside(copy: &Path) -> std::io::Result<PathBuf> {
    let aside = copy.with_extension("lost");
    match std::fs::rename(copy, &aside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(aside),
    }
}

fn spinner(what: &'static str) -> ProgressBar {
    let progress = ProgressBar::new_spinner().with_message(what);
    progress.enable_steady_tick(std::time::Duration::from_millis(200));
    progress
}

/// Rebuilds the index.
pub(super) fn rebuild(config: &Config, take_loss: bool) -> Result<ExitCode, Box<dyn std::error::Error>> {
    if Client::connect(&config.data_directory).is_some() {
        return Err("the relay is running; stop it before rebuilding the index".into());
    }
    let settings = crate::cli::run::store_settings(config);
    if take_loss {
        accept_loss(&settings)?;
    }
    SledIndex::set_aside(&settings.directory)?;
    let progress = spinner("rebuilding the index from the journal");
    let verified = Store::open(&settings)?.verify()?;
    progress.finish_and_clear();
    println!(
        "{}, {}; the index matches the journal.",
        counted(verified.records, "record", "records"),
        counted(verified.people, "person", "people")
    );
    Ok(ExitCode::SUCCESS)
}
