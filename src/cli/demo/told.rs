//! What was found in a message, and what became of it.

use super::Seen;
use crate::message::subject;
use crate::tracker::{Detector, Inquiry, Sighting, Verdict};

/// What became of the trackers of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Fate {
    /// There was none.
    Nothing,
    /// The copy left as it came.
    Kept,
    /// They are gone.
    Removed,
    /// So many lead to the relay now, which checks consent at each fetch; the others are gone.
    Gated(usize),
}

/// Describes a message.
pub(in crate::cli) struct Told {
    pub(super) to: String,
    pub(super) subject: String,
    /// The trackers that came, each in a sentence.
    pub(in crate::cli) trackers: Vec<String>,
    pub(in crate::cli) fate: Fate,
}

impl Told {
    /// Describes a message. `site` is the address of the relay's own pixels, if a copy may have some.
    pub(in crate::cli) fn of(detector: &Detector, seen: &Seen, site: Option<&str>) -> Told {
        let recipients: Vec<&str> = seen.recipients.iter().map(String::as_str).collect();
        let before = detector.analyse(&seen.before, &Inquiry::to(&recipients));
        let trackers = before.sightings.iter().filter(|sighting| sighting.verdict == Verdict::Tracker);
        let trackers: Vec<String> = trackers.map(|sighting| describe(detector, sighting)).collect();
        let gated = site.map_or(0, |site| super::gate::pixels(&seen.after, site).len());
        let fate = match (trackers.len(), gated) {
            (0, _) => Fate::Nothing,
            (_, 0) if seen.before == seen.after => Fate::Kept,
            (_, 0) => Fate::Removed,
            (_, gated) => Fate::Gated(gated),
        };
        Told { to: seen.recipients.join(", "), subject: subject(&seen.before), trackers, fate }
    }

    /// Says what became of the trackers, in a few words.
    pub(super) fn verdict(&self) -> String {
        let trackers = |number: usize| match number {
            1 => "1 tracker".to_owned(),
            _ => format!("{number} trackers"),
        };
        let all = self.trackers.len();
        match self.fate {
            Fate::Nothing => "no tracker found".to_owned(),
            Fate::Kept => format!("{} kept", trackers(all)),
            Fate::Removed => format!("{} removed", trackers(all)),
            Fate::Gated(gated) if gated >= all => format!("{} put behind the gate", trackers(all)),
            Fate::Gated(gated) => {
                format!("{} put behind the gate, {} removed", trackers(gated), all - gated)
            }
        }
    }
}

fn describe(detector: &Detector, sighting: &Sighting) -> String {
    let vendor = sighting.vendor.map_or("an unknown service", |vendor| detector.catalogue().name(vendor));
    let host = sighting.url.split('/').next().unwrap_or_default();
    let facts: Vec<&str> =
        sighting.signals.iter().filter(|signal| signal.weight() > 0).map(|signal| signal.text()).collect();
    let why = if facts.is_empty() { "it asks for a receipt".to_owned() } else { facts.join(", ") };
    format!("{} of {vendor} at {host}: {why}", sighting.carrier)
}
