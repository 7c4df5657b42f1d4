//! Settings of tracker detection.

use std::path::PathBuf;

use super::reader::Section;
use pixelward_core::consent::Timestamp;
use pixelward_core::rewrite::Verify;
use pixelward_core::tracker::Allowed;

/// How trackers are found.
#[derive(Clone, Debug)]
pub struct Tracker {
    /// Additions to the catalogue.
    pub catalogues: Vec<PathBuf>,
    /// Filter lists in the manner of ad blockers.
    pub lists: Vec<PathBuf>,
    /// How many campaigns are followed at once; 0 for none.
    pub campaigns: usize,
    /// How many bytes of the last copies of campaigns are kept; 0 for none.
    pub copies: usize,
    /// How rewritten mail is scanned again.
    pub verify: Verify,
    /// Exceptions: addresses that never count as trackers.
    pub allow: Vec<Allowed>,
}

pub(super) fn tracker(section: &mut Section<'_>) -> Tracker {
    let path = |text: &str| Ok::<_, String>(PathBuf::from(text));
    Tracker {
        catalogues: section.list("catalogues", path),
        lists: section.list("lists", path),
        campaigns: if section.flag("campaign_learning", true) {
            super::count(section.number("max_campaigns", 512, 1..=100_000))
        } else {
            let _ = section.number("max_campaigns", 512, 1..=100_000);
            0
        },
        copies: super::count(section.number("max_copies_bytes", 16 << 20, 0..=1 << 32)),
        verify: section.choice(
            "verify",
            Verify::Difference,
            &[("difference", Verify::Difference), ("full", Verify::Full)],
        ),
        allow: section.sections("allow", allowed).into_iter().flatten().collect(),
    }
}

fn allowed(section: &mut Section<'_>) -> Option<Allowed> {
    let host = section.string("host").map(|host| host.to_ascii_lowercase());
    let path = section.string("path").unwrap_or_else(|| "/".to_owned());
    let reason = section.string("reason");
    let expires = section.parsed("expires", Timestamp::parse);
    match (host, reason, expires) {
        (Some(host), Some(reason), Some(expires)) if !host.is_empty() && !reason.trim().is_empty() => {
            Some(Allowed { host, path, reason, expires: expires.0 })
        }
        _ => {
            section.problem(
                section.start_line(),
                "tracker.allow: an exception needs host, reason and expires (a date, such as \"2027-06-30\")",
            );
            None
        }
    }
}
