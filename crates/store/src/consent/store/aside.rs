//! Handles files of the store that are not needed to remove trackers: if they are damaged, they are set aside
//! and restarted, and that is reported. Mail continues, nobody gains a grant, and what was measured before
//! counts as unknown.

use std::io;
use std::path::{Path, PathBuf};

use super::{DAYS, PSEUDONYMS, Settings, StoreError, io_error};
use crate::consent::days::{Day, Days};
use crate::consent::key_file;
use crate::consent::person::StoreKey;
use crate::consent::pseudonyms::Pseudonyms;
use crate::consent::timestamp::Timestamp;

/// How many damaged files of one name are kept. Beyond that the last one is replaced.
const MAX_ASIDE: u32 = 9;

/// Reads the store key; creates it together with the store.
pub(super) fn store_key(settings: &Settings, is_new: bool) -> Result<StoreKey, String> {
    let path = settings.store_key();
    if is_new {
        return key_file::load_or_create(&path);
    }
    key_file::load(&path).map_err(|error| {
        let is_missing = std::fs::exists(&path).is_ok_and(|exists| !exists);
        let hint = ". Restore it from its backup: without it nobody in the store can be recognised";
        if is_missing { error + hint } else { error }
    })
}

/// Opens pseudonyms and days. If one of them is damaged or missing, it is restarted.
pub(super) fn open(
    directory: &Path,
    store_key: &StoreKey,
    is_new: bool,
) -> Result<(Pseudonyms, Days), StoreError> {
    let (pseudonyms, are_sound) = pseudonyms(directory, store_key, is_new)?;
    let path = directory.join(DAYS);
    let failed = || io_error("the days of last open");
    let (days, damage) = match Days::open(&path) {
        Ok((days, None)) if days.is_fresh() && !is_new => (days, Some(GONE.to_owned())),
        Ok(opened) => opened,
        Err(error) => {
            let aside = move_away(&path).map_err(failed())?;
            tracing::error!(%error, aside = %aside.display(), "{DAYS_LOST}");
            let (days, _) = Days::open(&path).map_err(failed())?;
            days.lose(today());
            (days, None)
        }
    };
    if let Some(damage) = damage {
        note(&path, &damage).map_err(failed())?;
        tracing::error!(%damage, "{DAYS_LOST}");
        days.lose(today());
    }
    if !are_sound {
        // Under which tags people appear there can no longer be told.
        days.lose(today());
    }
    Ok((pseudonyms, days))
}

const GONE: &str = "the file was missing when the store was opened";
const DAYS_LOST: &str = "the days of last open are damaged. What is readable is kept; people who opened \
                         something before today count as unmeasured";
const PSEUDONYMS_LOST: &str = "the pseudonyms are damaged. Mail continues; people whose keys are lost get \
                               new tags, and earlier audit records about them cannot be found";

/// The pseudonyms, and whether they are complete.
fn pseudonyms(
    directory: &Path,
    store_key: &StoreKey,
    is_new: bool,
) -> Result<(Pseudonyms, bool), StoreError> {
    let path = directory.join(PSEUDONYMS);
    let failed = || io_error("the pseudonyms");
    let was_there = std::fs::exists(&path).unwrap_or(true);
    match Pseudonyms::open(&path, store_key) {
        Ok(mut opened) => {
            if let Some(damage) = opened.repair().map_err(failed())? {
                note(&path, &damage).map_err(failed())?;
                tracing::error!(%damage, "{PSEUDONYMS_LOST}");
                return Ok((opened, false));
            }
            if !was_there && !is_new {
                note(&path, GONE).map_err(failed())?;
                tracing::error!(damage = GONE, "{PSEUDONYMS_LOST}");
            }
            Ok((opened, was_there || is_new))
        }
        Err(error) => {
            let aside = move_away(&path).map_err(failed())?;
            tracing::error!(%error, aside = %aside.display(), "{PSEUDONYMS_LOST}");
            Pseudonyms::open(&path, store_key).map(|fresh| (fresh, false)).map_err(failed())
        }
    }
}

fn today() -> Day {
    Day::of(Timestamp::now())
}

/// Returns where a damaged file goes.
fn place(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let numbered = |number: u32| match number {
        1 => path.with_file_name(format!("{name}.damaged")),
        other => path.with_file_name(format!("{name}.damaged.{other}")),
    };
    let free = (1..MAX_ASIDE).map(numbered).find(|path| !std::fs::exists(path).unwrap_or(true));
    free.unwrap_or_else(|| numbered(MAX_ASIDE))
}

/// Moves a file out of the way, so that it can be examined.
fn move_away(path: &Path) -> io::Result<PathBuf> {
    let aside = place(path);
    std::fs::rename(path, &aside)?;
    Ok(aside)
}

/// Leaves a note of damage that was repaired as far as possible: `consent verify` names the file until
/// somebody deletes it.
fn note(path: &Path, damage: &str) -> io::Result<()> {
    let text = format!("{}: {damage}\nDelete this file once you have read it.\n", Timestamp::now());
    std::fs::write(place(path), text)
}

/// Lists the damaged files that were set aside.
pub(super) fn all(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_ours = [DAYS, PSEUDONYMS].iter().any(|file| name.starts_with(&format!("{file}.damaged")));
        if is_ours {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
