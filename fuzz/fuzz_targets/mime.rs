//! Whole messages: leaves lie in bounds, nothing panics, and what was verified is not changed by a second rewrite.
#![no_main]

use std::sync::LazyLock;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pixelward::message::Structure;
use pixelward::rewrite::{Copy, LinkTreatment, Opens, Order, Personal, Receipts, Verify, rewrite};
use pixelward::tracker::{Detector, Inquiry, Links};

static DETECTOR: LazyLock<Detector> = LazyLock::new(Detector::default);

fuzz_target!(|raw: &[u8]| {
    for leaf in Structure::read(raw).leaves {
        assert!(leaf.body.start <= leaf.body.end && leaf.body.end <= raw.len());
    }
    let inquiry = Inquiry { links: Links::Note, ..Inquiry::to(&["ann@home.example"]) };
    let order = Order {
        opens: Opens::Strip,
        added: &[],
        inquiry,
        receipts: Receipts::Strip,
        personal: Personal::Gentlest,
        links: LinkTreatment::Unwrap,
        verify: Verify::On,
    };
    let raw = Bytes::copy_from_slice(raw);
    let analysis = DETECTOR.analyse(&raw, &inquiry);
    let Ok(Copy::Rewritten { bytes, .. }) = rewrite(&DETECTOR, &raw, &analysis, &order) else { return };
    let again = DETECTOR.analyse(&bytes, &inquiry);
    let kept = Order { links: LinkTreatment::Keep, ..order };
    assert!(matches!(rewrite(&DETECTOR, &bytes, &again, &kept), Ok(Copy::Untouched)));
});
