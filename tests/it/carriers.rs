//! One message for each place that a tracker can stand in, and what becomes of it, byte for byte:
//! `tests/messages/*.eml` and `*.expected`.

use crate::mail;
use crate::mail::{DETECTOR, messages, rewritten};
use bytes::Bytes;
use pixelward::tracker::{Extent, Inquiry};

#[test]
fn every_message_becomes_what_is_expected() {
    let mut wrong = Vec::new();
    let messages = messages();
    assert!(messages.len() >= 171, "{}", messages.len());
    for (path, raw) in messages {
        let expected = mail::read(&path.with_extension("expected"));
        let got = rewritten(&raw, Extent::Trackers);
        if got != expected {
            wrong.push(format!("{}:\n{}", path.display(), String::from_utf8_lossy(&got)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_second_rewrite_changes_nothing() {
    for (path, raw) in messages() {
        for extent in [Extent::Trackers, Extent::EveryRequest] {
            let once = rewritten(&raw, extent);
            assert_eq!(rewritten(&once, extent), once, "{} {extent:?}", path.display());
        }
    }
}

#[test]
fn in_strict_mode_nothing_is_loaded_any_more() {
    for (path, raw) in messages() {
        let left = rewritten(&raw, Extent::EveryRequest);
        let analysis = DETECTOR.analyse(&left, &Inquiry::to(&[]).everything());
        let loaded: Vec<&str> = analysis
            .sightings
            .iter()
            .filter(|sighting| sighting.protection.is_none())
            .map(|sighting| sighting.url.as_str())
            .collect();
        assert!(loaded.is_empty(), "{}: {loaded:?}", path.display());
    }
}

#[test]
fn a_quick_look_and_a_full_one_come_to_the_same_trackers() {
    for (path, raw) in messages() {
        let quick = Inquiry::to(&["ann@home.example"]);
        let trackers = |inquiry: &Inquiry<'_>| -> Vec<String> {
            let analysis = DETECTOR.analyse(&raw, inquiry);
            let kept = analysis
                .sightings
                .iter()
                .filter(|sighting| sighting.verdict != pixelward::tracker::Verdict::Picture);
            kept.map(|item| format!("{:?} {} {}", item.verdict, item.carrier, item.url)).collect()
        };
        assert_eq!(trackers(&quick), trackers(&quick.everything()), "{}", path.display());
    }
}

#[test]
fn the_message_bytes_are_not_copied_where_nothing_goes() {
    let raw = Bytes::from_static(b"Subject: a\r\nContent-Type: text/html\r\n\r\n<p>b\r\n");
    assert_eq!(rewritten(&raw, Extent::Trackers).as_ptr(), raw.as_ptr());
}
