//! What the header of a message asks of its reader's mail program: receipts, and pictures of the sender.

use std::borrow::Cow;

use super::{Analysis, Detector, Position, Reading, Sighting};
use crate::message::Edit;
use crate::message::header::fields;
use crate::message::structure::HeaderBlock;
use crate::tracker::carrier::Carrier;
use crate::tracker::catalogue::Start;
use crate::tracker::judge;
use crate::tracker::personal::Remedies;
use crate::tracker::scan::{Extent, Place, Removal};
use crate::tracker::signal::{Signal, Signals, Verdict};
use crate::tracker::style::Size;
use crate::tracker::url::Url;

/// Header fields that ask the reader's mail program for a receipt.
const RECEIPT_FIELDS: [&str; 10] = [
    "Disposition-Notification-To",
    "Disposition-Notification-Options",
    "Return-Receipt-To",
    "Return-Receipt-Requested",
    "X-Confirm-Reading-To",
    "Confirm-Reading-To",
    "Read-Receipt-To",
    "X-PMRQC",
    "Generate-Delivery-Report",
    "Registered-Mail-Reply-Requested-By",
];

/// Header fields from which a few mail programs load a picture of the sender.
const PICTURE_FIELDS: [&str; 3] = ["X-Image-URL", "X-Face-URL", "X-Avatar-URL"];

/// The field that names a sender's logo. Servers write it for mail programs that show logos; strict mode
/// takes out one that came along.
const LOGO_FIELD: &str = "BIMI-Location";

impl Detector {
    /// Requests for receipts, and pictures that header fields name.
    pub(super) fn header(
        &self,
        bytes: &[u8],
        block: Option<&HeaderBlock>,
        reading: &Reading<'_>,
        analysis: &mut Analysis<'_>,
    ) {
        let Some(block) = block else { return };
        let is_strict = reading.inquiry.extent == Extent::EveryRequest;
        for field in fields(bytes, block.start) {
            let named = |names: &[&'static str]| names.iter().find(|name| field.is(bytes, name)).copied();
            let sighting = |carrier, url, vendor, signals: Signals, verdict| Sighting {
                carrier,
                url,
                vendor,
                signals,
                verdict,
                protection: None,
                part: 0,
                place: Position { layer: 0, leaf: None },
                edit: Some(Edit::cut_inside(field.range.clone())),
                remedies: Remedies::default(),
                slot: None,
            };
            if let Some(name) = named(&RECEIPT_FIELDS) {
                let none = Signals::default();
                let found = sighting(Carrier::ReceiptHeader, name.to_owned(), None, none, Verdict::Tracker);
                analysis.sightings.push(found);
            } else if named(&PICTURE_FIELDS).is_some() || is_strict && field.is(bytes, LOGO_FIELD) {
                let value = String::from_utf8_lossy(field.value(bytes));
                let Some(url) = picture_address(value) else { continue };
                if !reading.weighs {
                    let url = url.as_str().to_owned();
                    let none = Signals::default();
                    analysis.sightings.push(sighting(
                        Carrier::PictureHeader,
                        url,
                        None,
                        none,
                        Verdict::Tracker,
                    ));
                    continue;
                }
                let mut place = Place {
                    carrier: Carrier::PictureHeader,
                    url,
                    range: field.range.clone(),
                    written: None,
                    removal: Removal::Field(field.range.clone()),
                    size: Size::Unset,
                    signals: Signals::default(),
                    picture: None,
                    link: None,
                };
                place.signals.add(Signal::NoSize);
                let weighed =
                    judge::weigh(self, &mut place, reading.inquiry, &reading.traces, &mut Start::default());
                let verdict = place.signals.verdict();
                if verdict != Verdict::Picture || reading.inquiry.extent == Extent::EveryRequest {
                    let url = place.url.as_str().to_owned();
                    let found = sighting(place.carrier, url, weighed.vendor, place.signals, verdict);
                    analysis.sightings.push(found);
                }
            }
        }
    }
}

/// The address in a field that names a picture: the whole value, or the `l` of its tags.
fn picture_address(value: Cow<'_, str>) -> Option<Url<'_>> {
    let mut tags = value.split(';').filter_map(|tag| tag.split_once('='));
    let location = tags.find(|(name, _)| name.trim().eq_ignore_ascii_case("l"));
    match location.map(|(_, address)| address.trim().to_owned()) {
        Some(address) => Url::read(address.into(), None),
        None => Url::read(value, None),
    }
}
