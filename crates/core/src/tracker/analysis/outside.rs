//! What stands in a message and is none of its texts: parts that nobody can read, and bodies that are kept
//! elsewhere.

use super::{Analysis, Position, Reading, Sighting};
use crate::message::transfer::Edit;
use crate::message::{Protection, Structure};
use crate::tracker::carrier::Carrier;
use crate::tracker::personal::Remedies;
use crate::tracker::scan::{Extent, Unreadable};
use crate::tracker::signal::{Signals, Verdict};
use crate::tracker::url::Url;

/// Notes them for the layer of this number.
pub(super) fn note(structure: &Structure, layer: usize, reading: &Reading<'_>, analysis: &mut Analysis<'_>) {
    let takes_all = reading.inquiry.extent == Extent::EveryRequest;
    let verdict = match reading.inquiry.unreadable {
        Unreadable::Remove => Verdict::Tracker,
        Unreadable::Count if !reading.weighs => Verdict::Tracker,
        Unreadable::Count => Verdict::Picture,
    };
    for leaf in structure.leaves.iter().filter(|leaf| leaf.is_unreadable && !leaf.body.is_empty()) {
        analysis.unreadable += 1;
        if takes_all || verdict == Verdict::Tracker {
            let edit = Edit::cut_inside(leaf.body.clone());
            let place = Position { layer, leaf: None };
            let found = sighting(Carrier::UnreadablePart, place, edit, leaf.protection);
            analysis.sightings.push(Sighting { verdict, part: leaf.number, ..found });
        }
    }
    for body in structure.bodies_elsewhere.iter().filter(|_| takes_all) {
        let Some(url) = Url::read(body.url.as_str().into(), None) else { continue };
        let edit = Edit::cut_inside(body.field.clone());
        let found = sighting(Carrier::Embedded, Position { layer, leaf: None }, edit, body.protection);
        let verdict = if reading.weighs { Verdict::Picture } else { Verdict::Tracker };
        let url = url.as_str().to_owned();
        analysis.sightings.push(Sighting { verdict, url, part: body.number, ..found });
    }
}

fn sighting(carrier: Carrier, place: Position, edit: Edit, protection: Option<Protection>) -> Sighting {
    Sighting {
        carrier,
        url: String::new(),
        vendor: None,
        signals: Signals::default(),
        verdict: Verdict::Picture,
        protection,
        part: 0,
        place,
        edit: Some(edit),
        remedies: Remedies::default(),
        slot: None,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use crate::rewrite::{Copy, Order, rewrite};
    use crate::tracker::{Detector, Extent, Inquiry, Unreadable};

    /// What becomes of a message in the copy of somebody who did not agree, and how many of its parts cannot
    /// be read.
    fn check(raw: &str, extent: Extent, unreadable: Unreadable) -> (String, usize) {
        let detector = Detector::default();
        let raw = Bytes::from(raw.replace('\n', "\r\n"));
        let inquiry = Inquiry { extent, unreadable, ..Inquiry::to(&["ann@home.example"]) };
        let analysis = detector.analyse(&raw, &inquiry);
        let order = Order::strip(inquiry);
        let bytes = match rewrite(&detector, &raw, &analysis, &order).unwrap() {
            Copy::Untouched => raw.clone(),
            Copy::Rewritten { bytes, .. } => bytes,
        };
        (String::from_utf8(bytes.to_vec()).unwrap().replace("\r\n", "\n"), analysis.unreadable)
    }

    fn two_parts(head: &str, body: &str) -> String {
        format!(
            "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\n\nSome words.\n\
             --b\n{head}\n\n{body}\n--b--\n"
        )
    }

    #[test]
    fn a_part_that_cannot_be_read_is_counted_and_goes_where_that_is_asked_for() {
        let dense = "PGltZyBzcmM9aHR0cDovL2EuZXhhbXBsZS9vPg".repeat(8);
        let ebcdic =
            crate::message::transfer::encode_base64(&[0x4c, 0x89, 0x94, 0x87, 0x40, 0xa2].repeat(20));
        for (head, body) in [
            ("Content-Type: text/html\nContent-Transfer-Encoding: x-zip64", dense.as_str()),
            ("Content-Type: text/html; charset=ibm273\nContent-Transfer-Encoding: base64", &ebcdic),
            ("Content-Type: text/html; charset=hz-gb-2312", "~{<:Ky~}<p>a b c</p>"),
        ] {
            let raw = two_parts(head, body);
            let gone = raw.replace(body, "");
            for (extent, unreadable, wanted) in [
                (Extent::Trackers, Unreadable::Count, &raw),
                (Extent::Trackers, Unreadable::Remove, &gone),
                (Extent::EveryRequest, Unreadable::Count, &gone),
            ] {
                assert_eq!(check(&raw, extent, unreadable), (wanted.clone(), 1), "{head} {extent:?}");
            }
        }
    }

    #[test]
    fn what_can_be_read_under_an_odd_name_stays() {
        for (head, body) in [
            ("Content-Type: text/html\nContent-Transfer-Encoding: 8bit+", "<p>Some words of a letter.</p>"),
            ("Content-Type: text/html\nContent-Transfer-Encoding: utf-8", "<p>Some words.</p>"),
            ("Content-Type: text/html\nContent-Transfer-Encoding: x-own", "<p>Some words of a letter.</p>"),
            ("Content-Type: text/plain; charset=x-unknown", "Gr\u{fc}\u{df}e"),
            ("Content-Type: text/html; charset=cp037\nContent-Transfer-Encoding: base64", "TImUh0CiTImUh0Ci"),
            ("Content-Type: text/plain; charset=hz-gb-2312", "Some words."),
            ("Content-Type: application/x-own\nContent-Transfer-Encoding: x-own", "abcdefghij"),
        ] {
            let raw = two_parts(head, body);
            assert_eq!(check(&raw, Extent::EveryRequest, Unreadable::Remove), (raw.clone(), 0), "{head}");
        }
    }

    #[test]
    fn strict_mode_leaves_no_body_to_be_fetched_and_no_logo() {
        let elsewhere = "Content-Type: message/external-body; access-type=URL;\n URL=\"https://a.example/o?\n \
                         e=1\"";
        let raw = two_parts(elsewhere, "Content-Type: text/html\n");
        let (out, _) = check(&raw, Extent::EveryRequest, Unreadable::Count);
        assert!(!out.contains("a.example"), "{out}");
        assert_eq!(check(&raw, Extent::Trackers, Unreadable::Count).0, raw);

        let logo = "BIMI-Location: v=BIMI1; l=https://a.example/logo.svg; a=;\nSubject: a\n\nSome words.\n";
        assert_eq!(check(logo, Extent::EveryRequest, Unreadable::Count).0, "Subject: a\n\nSome words.\n");
        assert_eq!(check(logo, Extent::Trackers, Unreadable::Count).0, logo);
    }

    #[test]
    fn strict_mode_lets_no_host_be_looked_up() {
        let meta = "<meta http-equiv=\"X-DNS-Prefetch-Control\" content=\"on\">";
        let raw = format!("Content-Type: text/html\n\n<html>{meta}<p>a</p>\n");
        assert_eq!(check(&raw, Extent::EveryRequest, Unreadable::Count).0, raw.replace(meta, ""));
        assert_eq!(check(&raw, Extent::Trackers, Unreadable::Count).0, raw);
    }
}
