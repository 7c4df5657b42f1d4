//! Counters of what was decided and found.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::{Counter, Histogram};

use crate::plan::{self, Decided};
use crate::policy::{Chosen, Rule};
use crate::rewrite::LinksDone;
use crate::smtp::reply::Class;
use crate::tracker::{Analysis, Carrier};

/// A metric whose name and labels are the same for each message, looked up once for all of them.
macro_rules! fixed {
    ($kind:ident, $found:expr) => {{
        static METRIC: std::sync::LazyLock<metrics::$kind> = std::sync::LazyLock::new(|| $found);
        &*METRIC
    }};
}

/// The time at a station.
macro_rules! station {
    ($name:literal) => {
        $crate::pipeline::counts::fixed!(
            Histogram,
            metrics::histogram!("pixelward_station_seconds", "station" => $name)
        )
    };
}

pub(super) use {fixed, station};

/// Tells how long a message is at each station.
pub(super) struct Stopwatch(Instant);

impl Stopwatch {
    pub(super) fn started() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    /// The message leaves a station, and is at the next one from now on.
    pub(super) fn leave(&mut self, station: &Histogram) {
        let now = Instant::now();
        let spent = now.duration_since(std::mem::replace(&mut self.0, now));
        station.record(spent.as_secs_f64());
    }
}

/// Notes how long a message took up to its delivery.
pub(super) fn note_enforced(spent: Duration) {
    fixed!(Histogram, metrics::histogram!("pixelward_enforce_seconds")).record(spent.as_secs_f64());
}

/// Notes how long its delivery took.
pub(super) fn note_delivered(spent: Duration) {
    fixed!(Histogram, metrics::histogram!("pixelward_deliver_seconds")).record(spent.as_secs_f64());
}

/// Counts a message by what became of it.
pub(super) fn count(result: Class) {
    let counter = match result {
        Class::Positive => {
            fixed!(Counter, metrics::counter!("pixelward_messages_total", "result" => "accepted"))
        }
        other => &metrics::counter!("pixelward_messages_total", "result" => other.name()),
    };
    counter.increment(1);
}

/// Counts recipients of mail that asks for consent, by what became of the question.
pub(super) fn note_requests(result: &'static str, recipients: usize) {
    let counter = match result {
        "stripped" => {
            fixed!(Counter, metrics::counter!("pixelward_consent_requests_total", "result" => "stripped"))
        }
        "asked" => {
            fixed!(Counter, metrics::counter!("pixelward_consent_requests_total", "result" => "asked"))
        }
        other => &metrics::counter!("pixelward_consent_requests_total", "result" => other),
    };
    counter.increment(recipients as u64);
}

/// Counts what was done with the trackers and tracked links of a copy that left.
pub(super) fn note_copy(removed: usize, swapped: usize, links: LinksDone) {
    fixed!(Counter, metrics::counter!("pixelward_trackers_removed_total")).increment(removed as u64);
    fixed!(Counter, metrics::counter!("pixelward_trackers_swapped_total")).increment(swapped as u64);
    let LinksDone { unwrapped, gated, left } = links;
    fixed!(Counter, metrics::counter!("pixelward_links_unwrapped_total")).increment(unwrapped as u64);
    fixed!(Counter, metrics::counter!("pixelward_links_gated_total")).increment(gated as u64);
    fixed!(Counter, metrics::counter!("pixelward_links_left_total")).increment(left as u64);
}

/// Counts recipients by what was decided for them.
pub(super) fn note_decided(chosen: Chosen<'_>, decided: &[Decided]) {
    let (controller, mailstream) = (&chosen.controller.label, &chosen.mailstream.name);
    if chosen.mailstream.is_unmatched() {
        let look_up = |[controller]: [Arc<str>; 1]| {
            metrics::counter!(
                "pixelward_unmatched_messages_total",
                "controller" => controller,
            )
        };
        UNMATCHED.with_borrow_mut(|last| last.count((), [controller], look_up));
    }
    for Decided { decision, .. } in decided {
        let look_up = |[controller, mailstream, version]: [Arc<str>; 3]| {
            metrics::counter!(
                "pixelward_recipients_total",
                "decision" => decision.rule.name(),
                "controller" => controller,
                "mailstream" => mailstream,
                "version" => version,
            )
        };
        let labels = [controller, mailstream, &decision.version];
        RECIPIENTS.with_borrow_mut(|last| last.count(decision.rule, labels, look_up));
    }
}

thread_local! {
    static UNMATCHED: RefCell<Last<(), 1>> = const { RefCell::new(Last(None)) };
    static RECIPIENTS: RefCell<Last<Rule, 3>> = const { RefCell::new(Last(None)) };
    static FOUND: RefCell<Last<Carrier, 0>> = const { RefCell::new(Last(None)) };
}

/// The counter that counted last on this thread, which is mostly the next one, too, with what it was looked up by.
struct Last<K, const LABELS: usize>(Option<(K, [Arc<str>; LABELS], Counter)>);

impl<K: PartialEq, const LABELS: usize> Last<K, LABELS> {
    /// Counts one more of a kind with these labels.
    fn count(
        &mut self,
        kind: K,
        labels: [&Arc<str>; LABELS],
        look_up: impl FnOnce([Arc<str>; LABELS]) -> Counter,
    ) {
        let is_same = |known: &[Arc<str>; LABELS]| {
            known.iter().zip(labels).all(|(known, label)| Arc::ptr_eq(known, label))
        };
        match &mut self.0 {
            Some((known, known_labels, counter)) if *known == kind && is_same(known_labels) => {
                counter.increment(1);
            }
            last => {
                let labels = labels.map(Arc::clone);
                let (_, _, counter) = last.insert((kind, labels.clone(), look_up(labels)));
                counter.increment(1);
            }
        }
    }
}

/// Counts what was found.
pub(super) fn note_found(analysis: &Analysis<'_>) {
    for sighting in plan::trackers(analysis) {
        let carrier = sighting.carrier;
        let look_up = |[]: [Arc<str>; 0]| {
            metrics::counter!(
                "pixelward_trackers_found_total",
                "carrier" => carrier.name(),
            )
        };
        FOUND.with_borrow_mut(|last| last.count(carrier, [], look_up));
    }
    let links = fixed!(Counter, metrics::counter!("pixelward_links_with_token_total"));
    links.increment(analysis.links as u64);
    let unreadable = fixed!(Counter, metrics::counter!("pixelward_unreadable_parts_total"));
    unreadable.increment(analysis.unreadable as u64);
    let kept = fixed!(Counter, metrics::counter!("pixelward_opaque_images_kept_total"));
    kept.increment(analysis.opaque_pictures as u64);
}
