//! Sends a test message through a relay with the chosen settings, on this machine only.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use super::settings::Settings;
use crate::cli::demo::told::{Fate, Told};
use crate::cli::demo::{Running, hand_over, relay, samples, sink};
use crate::config::Config;
use crate::consent::{self, Store};
use crate::sign::verify::verify;
use crate::tracker::Detector;

type Failure = Box<dyn std::error::Error>;

/// Sends one newsletter to a person who was never asked, and reports line by line what was done.
///
/// # Errors
///
/// When it did not come through, was not changed, or lacks a valid signature of ours where one is expected.
pub(super) fn run(settings: &Settings) -> Result<Vec<String>, Failure> {
    let folder = tempfile::Builder::new().prefix("pixelward-trial-").tempdir()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(sent(settings, folder.path()));
    drop(runtime);
    result
}

async fn sent(settings: &Settings, folder: &Path) -> Result<Vec<String>, Failure> {
    let sink = sink::start().await?;
    let config = Config::parse(&settings.trial(sink, folder))
        .map_err(|problems| problems.first().map(ToString::to_string).unwrap_or_default())?;
    let keys = crate::config::treatment::signing_keys(&config)?;
    let store = Arc::new(Store::open(&consent::Settings::at(folder.join("consent")))?);
    let Running { address, gallery, stop: _stop, .. } = relay(config, store, None).await?;
    let domain = settings.dkim.as_ref().map_or("shop.example", |(domain, _)| domain);
    let message = samples::newsletters(PERSON, domain).into_iter().next().ok_or("there is no sample")?;
    tokio::task::spawn_blocking(move || hand_over(address, &[(PERSON.to_owned(), message)])).await??;
    let gallery = gallery.lock().unwrap_or_else(PoisonError::into_inner);
    let seen = gallery.seen.first().ok_or("the relay passed nothing on")?;
    let told = Told::of(&Detector::default(), seen, None);
    if told.fate != Fate::Removed {
        return Err("the tracker of the sample was not removed".into());
    }
    let mut said: Vec<String> = told.trackers.iter().map(|tracker| format!("removed: {tracker}")).collect();
    let record = |name: &str| keys.iter().find(|key| key.record_name() == name).map(|key| key.record());
    let signatures = verify(&seen.after, record);
    said.extend(
        signatures
            .iter()
            .map(|signature| format!("signature of {}: {}", signature.record_name, signature.verdict.text())),
    );
    if signatures.len() < keys.len() {
        return Err("the message was not signed".into());
    }
    Ok(said)
}

/// A person who was never asked.
const PERSON: &str = "eve@example.org";
