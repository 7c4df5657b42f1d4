//! Counters of what was decided and found.

use std::sync::Arc;
use std::time::Instant;

use crate::plan::{self, Decided};
use crate::policy::Chosen;
use crate::tracker::Analysis;

/// Tells how long a message is at each station.
pub(super) struct Stopwatch(Instant);

impl Stopwatch {
    pub(super) fn started() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    /// The message leaves a station, and is at the next one from now on.
    pub(super) fn leave(&mut self, station: &'static str) {
        let now = Instant::now();
        let spent = now.duration_since(std::mem::replace(&mut self.0, now));
        metrics::histogram!("pixelward_station_seconds", "station" => station).record(spent.as_secs_f64());
    }
}

/// Counts a message by what became of it.
pub(super) fn count(result: &'static str) {
    metrics::counter!("pixelward_messages_total", "result" => result).increment(1);
}

/// Counts recipients by what was decided for them.
pub(super) fn note_decided(chosen: Chosen<'_>, decided: &[Decided]) {
    let (controller, mailstream) = (&chosen.controller.label, &chosen.mailstream.name);
    if chosen.mailstream.is_unmatched() {
        metrics::counter!("pixelward_unmatched_messages_total", "controller" => Arc::clone(controller))
            .increment(1);
    }
    for Decided { decision, .. } in decided {
        metrics::counter!(
            "pixelward_recipients_total",
            "decision" => decision.rule.name(),
            "controller" => Arc::clone(controller),
            "mailstream" => Arc::clone(mailstream),
            "version" => Arc::clone(&decision.version),
        )
        .increment(1);
    }
}

/// Counts what was found.
pub(super) fn note_found(analysis: &Analysis<'_>) {
    for sighting in plan::trackers(analysis) {
        metrics::counter!("pixelward_trackers_found_total", "carrier" => sighting.carrier.name())
            .increment(1);
    }
    metrics::counter!("pixelward_links_with_token_total").increment(analysis.links as u64);
    metrics::counter!("pixelward_unreadable_parts_total").increment(analysis.unreadable as u64);
    metrics::counter!("pixelward_opaque_images_kept_total").increment(analysis.opaque_pictures as u64);
}
