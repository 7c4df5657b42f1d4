//! Markup: tokens lie in bounds and in order, and a second rewrite changes nothing.
#![no_main]

use std::sync::LazyLock;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pixelward::rewrite::{Copy, LinkTreatment, Opens, Order, Personal, Receipts, Verify, rewrite};
use pixelward::tracker::html::Tokenizer;
use pixelward::tracker::{Detector, Extent, Inquiry, Links};

static DETECTOR: LazyLock<Detector> = LazyLock::new(Detector::default);

fn rewritten(raw: &Bytes, extent: Extent) -> Bytes {
    let inquiry = Inquiry { extent, links: Links::Note, ..Inquiry::to(&["ann@home.example"]) };
    let order = Order {
        opens: Opens::Strip,
        added: &[],
        inquiry,
        receipts: Receipts::Strip,
        personal: Personal::Gentlest,
        links: LinkTreatment::Keep,
        verify: Verify::On,
    };
    let analysis = DETECTOR.analyse(raw, &inquiry);
    match rewrite(&DETECTOR, raw, &analysis, &order).expect("markup can always be rewritten") {
        Copy::Untouched => raw.clone(),
        Copy::Rewritten { bytes, .. } => bytes,
    }
}

fuzz_target!(|html: &[u8]| {
    let mut tokens = Tokenizer::new(html, 0..html.len());
    let mut last = 0;
    while tokens.step().is_some() {
        let range = tokens.range();
        assert!(range.start >= last && range.end <= html.len() && range.start <= range.end);
        last = range.end;
    }
    let raw = Bytes::from([b"Content-Type: text/html\r\n\r\n", html].concat());
    for extent in [Extent::Trackers, Extent::EveryRequest] {
        let once = rewritten(&raw, extent);
        assert_eq!(rewritten(&once, extent), once, "{extent:?}");
    }
});
