//! What is told of one place in a message, and the edits that it can have.

use crate::message::transfer::Edit;
use crate::message::{Leaf, Protection};
use crate::tracker::carrier::{Axis, Carrier};
use crate::tracker::catalogue::Vendor;
use crate::tracker::personal::{Remedies, Remedy};
use crate::tracker::scan::{Place, Removal};
use crate::tracker::signal::{Signals, Verdict};
use crate::tracker::slot::Slot;

/// One place in a message that would report an open, or that loads something else.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// What kind of place.
    pub carrier: Carrier,
    /// Where it reports to: `host/path?query`, or the name of a header field.
    pub url: String,
    /// Whose it is, if known.
    pub vendor: Option<Vendor>,
    /// Why it is one, or is none.
    pub signals: Signals,
    /// What the signals amount to.
    pub verdict: Verdict,
    /// Set where it must not be edited.
    pub protection: Option<Protection>,
    /// The number of the part, in the order of the message; nested encoded messages count on their own.
    pub part: usize,
    pub(in crate::tracker) place: Position,
    pub(super) edit: Option<Edit>,
    /// What would leave it working without telling readers apart.
    pub(super) remedies: Remedies,
    /// Where its address can be swapped for another one.
    pub(super) slot: Option<Slot>,
}

/// Which text an edit belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::tracker) struct Position {
    pub(in crate::tracker) layer: usize,
    /// The leaf's index; `None` for the bytes of the layer itself.
    pub(in crate::tracker) leaf: Option<usize>,
}

impl Sighting {
    /// What it reports.
    pub fn axis(&self) -> Axis {
        self.carrier.axis()
    }

    /// What it is, in the word used in reports: links are no pictures.
    pub fn verdict_name(&self) -> &'static str {
        match (self.axis(), self.verdict) {
            (Axis::Link, Verdict::Tracker) => "tracked link",
            (Axis::Link, _) => "link",
            (_, verdict) => verdict.name(),
        }
    }

    /// Whether it is a tracker of opens that can be taken out.
    pub fn is_removable_tracker(&self) -> bool {
        self.verdict == Verdict::Tracker && self.axis() == Axis::Open && self.protection.is_none()
    }

    /// The edit that takes it out. `None` for a link.
    pub fn removal(&self) -> Option<&Edit> {
        self.edit.as_ref()
    }

    /// The edit of this remedy, where it helps here.
    pub fn remedy(&self, remedy: Remedy) -> Option<&Edit> {
        self.remedies.of(remedy)
    }

    /// Whether another address can stand in the place of its own.
    pub fn can_be_swapped(&self) -> bool {
        self.slot.is_some()
    }

    /// The edit that lets a link lead to this address, quoted as its place needs it.
    pub fn led_to(&self, address: &str) -> Option<Edit> {
        self.slot.as_ref().filter(|_| self.axis() == Axis::Link).map(|slot| slot.quoted(address))
    }

    /// Whether it is a link that reports who follows it, and that can be edited.
    pub fn is_tracked_link(&self) -> bool {
        self.axis() == Axis::Link && self.verdict == Verdict::Tracker && self.protection.is_none()
    }

    /// The same in another copy, in which nothing differs but the address.
    pub(in crate::tracker) fn of_copy(&self, url: String, leaf: &Leaf, place: Position) -> Sighting {
        let Sighting { carrier, vendor, signals, verdict, edit, remedies, slot, .. } = self;
        Sighting {
            carrier: *carrier,
            url,
            vendor: *vendor,
            signals: *signals,
            verdict: *verdict,
            protection: leaf.protection,
            part: leaf.number,
            place,
            edit: edit.clone(),
            remedies: remedies.clone(),
            slot: slot.clone(),
        }
    }

    /// About how many bytes it takes, beside itself.
    pub(in crate::tracker) fn size(&self) -> usize {
        let edits =
            [self.edit.as_ref(), self.remedies.of(Remedy::Unwrap), self.remedies.of(Remedy::DropParameter)];
        self.url.len() + edits.into_iter().flatten().map(|edit| edit.with.len()).sum::<usize>()
    }

    /// The edit that puts another address in the place of its own. Of that, every byte must be one of an
    /// address that needs no quotes.
    pub fn swapped_for(&self, address: &str) -> Option<Edit> {
        self.slot.as_ref().map(|slot| slot.edit(address))
    }
}

/// A sighting that says what it is, and of edits only whether there is one that takes it out.
pub(in crate::tracker) fn sighting_of(place: &Place<'_>, leaf: &Leaf, position: Position) -> Sighting {
    let verdict = place.signals.verdict();
    let edit = (place.removal != Removal::Nothing).then(|| Edit::cut(place.range.clone()));
    Sighting {
        carrier: place.carrier,
        url: place.url.as_str().to_owned(),
        vendor: None,
        signals: place.signals,
        verdict,
        protection: leaf.protection,
        part: leaf.number,
        place: position,
        edit,
        remedies: Remedies::default(),
        slot: None,
    }
}
