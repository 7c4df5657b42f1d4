//! What messages are treated with, as a configuration names it in files: catalogues, lists, texts and keys.

use std::sync::Arc;

use pixelward_core::consent::Controller;
use pixelward_core::rewrite::notice::Fragments;
use pixelward_core::rewrite::{LinkMap, Verify};
use pixelward_core::sign::{Signers, SigningKey};
use pixelward_core::tracker::lists::Lists;
use pixelward_core::tracker::{Catalogue, Detector};
use pixelward_core::{plan, policy};
use pixelward_files::private_file::is_open_to_others;

use crate::{Config, DkimKey};

/// What messages are treated with, beside what the configuration itself says.
#[derive(Debug)]
pub struct Treatment {
    /// Finds trackers.
    pub detector: Detector,
    /// Our own keys.
    pub signers: Signers,
    /// What is put into the mail of each controller.
    fragments: Vec<(Controller, Fragments)>,
    /// What is put into the mail of a controller that is none of them.
    default_fragments: Fragments,
    /// What tracked links of each controller lead to, where it says so.
    link_maps: Vec<(Controller, Arc<LinkMap>)>,
}

impl Treatment {
    /// Reads what a configuration names: catalogues, lists, texts and keys.
    ///
    /// # Errors
    ///
    /// What is wrong with one of the files.
    pub fn of(config: &Config) -> Result<Treatment, String> {
        let mut entries = String::new();
        for path in &config.tracker.catalogues {
            entries.push_str(
                &std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?,
            );
            entries.push('\n');
        }
        let catalogue = Catalogue::with(&entries).map_err(|error| format!("tracker.catalogues: {error}"))?;
        let lists = lists(config)?;
        let holders = config.dkim.keys.iter().map(|key| key.holders(&config.policy.rulebook));
        let keys = signing_keys(config)?.into_iter().zip(holders).collect();
        let signers = Signers::new(keys, config.dkim.fallback_domain.clone());
        let mut fragments = Vec::new();
        let mut link_maps = Vec::new();
        for controller in config.policy.rulebook.controllers() {
            fragments.push((controller.name.clone(), fragments_of(controller)?));
            link_maps.extend(link_map_of(controller)?.map(|list| (controller.name.clone(), Arc::new(list))));
        }
        let detector = Detector::new(catalogue)
            .allowing(config.tracker.allow.clone())
            .listing(lists)
            .remembering(config.tracker.copies);
        let default_fragments = fragments_of(config.policy.rulebook.default_controller())?;
        Ok(Treatment { detector, signers, fragments, default_fragments, link_maps })
    }

    /// All that the treatment of mail rests on.
    pub fn settings<'a>(&'a self, config: &'a Config) -> plan::Settings<'a> {
        plan::Settings {
            detector: &self.detector,
            rulebook: &config.policy.rulebook,
            fragments: &self.fragments,
            default_fragments: &self.default_fragments,
            link_maps: &self.link_maps,
            protected: config.policy.protected,
            verify: if config.policy.verifies { config.tracker.verify } else { Verify::Off },
            token_key: config.public.token_key,
            signers: &self.signers,
            sign: config.dkim.sign,
            on_broken: config.dkim.on_broken,
        }
    }
}

/// The keys that a configuration names.
///
/// # Errors
///
/// What is wrong with one of their files.
pub fn signing_keys(config: &Config) -> Result<Vec<SigningKey>, String> {
    let read = |key: &DkimKey| {
        let wrong = |error: &dyn std::fmt::Display| format!("dkim.key: {}: {error}", key.key_file.display());
        let metadata = std::fs::metadata(&key.key_file).map_err(|error| wrong(&error))?;
        if is_open_to_others(&key.key_file, &metadata) {
            return Err(wrong(&"others may read the private key; run chmod 600 on it"));
        }
        let pem = std::fs::read(&key.key_file).map_err(|error| wrong(&error))?;
        SigningKey::read(&key.domain, &key.selector, &pem).map_err(|error| wrong(&error))
    };
    config.dkim.keys.iter().map(read).collect()
}

/// Reads what is put into the mail of a controller.
///
/// # Errors
///
/// What is wrong with its file.
pub fn fragments_of(controller: &policy::Controller) -> Result<Fragments, String> {
    let (language, sender) = (&controller.language, controller.title());
    let Some(path) = &controller.footer_file else { return Ok(Fragments::shipped(language, sender)) };
    let wrong = |error: &dyn std::fmt::Display| {
        format!("controller {}: footer_file: {}: {error}", controller.name, path.display())
    };
    let source = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
    Fragments::with(&source, language, sender).map_err(|error| wrong(&error))
}

/// Reads what a controller says that its tracked links lead to.
fn link_map_of(controller: &policy::Controller) -> Result<Option<LinkMap>, String> {
    let Some(path) = &controller.links_file else { return Ok(None) };
    let wrong = |error: &dyn std::fmt::Display| {
        format!("controller {}: links_file: {}: {error}", controller.name, path.display())
    };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
    let list = LinkMap::read(&text).map_err(|error| wrong(&error))?;
    tracing::info!(
        controller = controller.name.as_str(), list = %path.display(), links = list.len(),
        "a list of tracked links was loaded"
    );
    Ok(Some(list))
}

/// The filter lists of a configuration.
fn lists(config: &Config) -> Result<Lists, String> {
    let mut lists = Lists::default();
    for path in &config.tracker.lists {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let before = lists.len();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        for ignored in lists.add(&name, &text) {
            tracing::debug!(list = %path.display(), "{ignored}");
        }
        if lists.len() == before {
            return Err(format!("{}: no line of it is a rule for images in mail", path.display()));
        }
        tracing::info!(list = %path.display(), rules = lists.len() - before, "a filter list was loaded");
    }
    Ok(lists)
}
