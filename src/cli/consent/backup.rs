//! `pixelward consent backup`, `restore` and `rebuild`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use indicatif::ProgressBar;

use crate::config::Config;
use crate::consent::Store;
use crate::consent::backup::{accept_loss, copy_journal, copy_keys, restore as put_back};
use crate::consent::index::SledIndex;
use crate::consent::socket::Client;

/// Copies journal and keys, each to a place of its own.
pub(super) fn backup(
    config: &Config,
    journal: Option<&Path>,
    keys: Option<&Path>,
    days: u16,
) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let settings = crate::cli::run::store_settings(config);
    // Keys first: nobody of the journal's copy is then unknown but those who came since.
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
            "The journal is in {}: {} records, chain whole up to {}.",
            to.display(),
            note.records,
            note.hash
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes a store of copies.
pub(super) fn restore(
    config: &Config,
    journal: &Path,
    keys: &Path,
    accept_expired: bool,
    lose_newer: bool,
) -> Result<ExitCode, Box<dyn std::error::Error>> {
    if Client::connect(&config.data_directory).is_some() {
        return Err("the relay runs; stop it before a store is put back".into());
    }
    let settings = crate::cli::run::store_settings(config);
    if lose_newer && let Some(copy) = &settings.head_copy {
        set_aside(copy)?;
    }
    let progress = spinner("the store is made of the copies");
    let verified = put_back(&settings, journal, keys, accept_expired)?;
    progress.finish_and_clear();
    println!(
        "{} records, {} people; the chain is whole up to {}, and the index fits the journal.",
        verified.records, verified.people, verified.hash
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

/// Makes the index anew.
pub(super) fn rebuild(config: &Config, take_loss: bool) -> Result<ExitCode, Box<dyn std::error::Error>> {
    if Client::connect(&config.data_directory).is_some() {
        return Err("the relay runs; stop it before the index is made anew".into());
    }
    let settings = crate::cli::run::store_settings(config);
    if take_loss {
        accept_loss(&settings)?;
    }
    SledIndex::set_aside(&settings.directory)?;
    let progress = spinner("the index is made anew from the journal");
    let verified = Store::open(&settings)?.verify()?;
    progress.finish_and_clear();
    println!("{} records, {} people; the index fits the journal.", verified.records, verified.people);
    Ok(ExitCode::SUCCESS)
}
