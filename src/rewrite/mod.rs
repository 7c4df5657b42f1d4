//! From an analysed message to the bytes that leave.
//!
//! Promised: a message in which nothing goes leaves as the bytes it came in; what leaves rewritten has been scanned again, and
//! no path leads from a failed rewrite to the unrewritten message.

use bytes::Bytes;

use crate::message::Trouble;
use crate::message::transfer::{Edit, apply};
use crate::tracker::{Analysis, Axis, Detector, Sighting};

/// What is taken out of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Trackers.
    Trackers,
    /// Everything that is loaded from elsewhere: no remote request is left.
    EveryRequest,
}

/// Whether a rewritten copy is scanned again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// Yes, with the same evidence as the first scan.
    On,
    /// No.
    Off,
}

/// Whether requests for a receipt go too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipts {
    /// They go.
    Strip,
    /// They stay.
    Keep,
}

/// What is to be done to one copy.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// How much goes.
    pub extent: Extent,
    /// Whether requests for a receipt go.
    pub receipts: Receipts,
    /// Whether the result is scanned again.
    pub verify: Verify,
    /// The addresses of those who get the copy.
    pub recipients: &'a [&'a str],
}

/// A copy as it leaves.
#[derive(Clone, Debug)]
pub enum Copy {
    /// Nothing had to go: the bytes as they came.
    Untouched,
    /// Some bytes went.
    Rewritten {
        /// The message that leaves.
        bytes: Bytes,
        /// What was changed, as edits of the message that came.
        edits: Vec<Edit>,
        /// How it came about.
        way: Way,
    },
}

/// How a rewritten copy came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// As ordered.
    Ordered,
    /// The scan of the result still found a tracker, or the message could not be read as a whole: every remote request went.
    Strict,
}

/// Why no copy may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RewriteError {
    /// Parts of the message cannot be read, so nobody can say what is in them.
    #[error("the message cannot be analysed: {0}")]
    Unreadable(Trouble),
    /// Even with every remote request taken out, a scan finds one.
    #[error("a tracker is still found after every remote request was taken out")]
    StillThere,
}

impl Order<'_> {
    fn takes(&self, sighting: &Sighting) -> bool {
        match sighting.axis() {
            Axis::Receipt => self.receipts == Receipts::Strip,
            Axis::Open | Axis::Link => self.extent == Extent::EveryRequest || sighting.is_removable_tracker(),
        }
    }

    /// Whether what was ordered out is still there.
    fn is_unmet_in(&self, analysis: &Analysis<'_>) -> bool {
        analysis.sightings.iter().any(|sighting| sighting.protection.is_none() && self.takes(sighting))
    }
}

/// Makes a copy of `raw`, of which `analysis` is the analysis.
///
/// # Errors
///
/// When the message cannot be read as a whole, or the scan of the result finds what no removal reaches. The message must
/// then stay with its sender.
pub fn rewrite(
    detector: &Detector,
    raw: &Bytes,
    analysis: &Analysis<'_>,
    order: &Order<'_>,
) -> Result<Copy, RewriteError> {
    let order = match analysis.trouble {
        Some(_) => Order { extent: Extent::EveryRequest, verify: Verify::On, ..*order },
        None => *order,
    };
    let edits = analysis.edits(|sighting| order.takes(sighting));
    if let (true, Some(trouble)) = (edits.is_empty(), analysis.trouble) {
        return Err(RewriteError::Unreadable(trouble));
    }
    if edits.is_empty() {
        return Ok(Copy::Untouched);
    }
    let bytes = Bytes::from(apply(raw, &edits));
    if order.verify == Verify::Off {
        return Ok(Copy::Rewritten { bytes, edits, way: Way::Ordered });
    }
    let second = detector.analyse(&bytes, order.recipients);
    match (second.trouble, order.is_unmet_in(&second)) {
        (None, false) => Ok(Copy::Rewritten { bytes, edits, way: Way::Ordered }),
        _ => strictly(detector, &bytes, edits, &second, &order),
    }
}

/// Takes every remote request out of a result that was not clean, and scans once more.
fn strictly(
    detector: &Detector,
    bytes: &Bytes,
    edits: Vec<Edit>,
    second: &Analysis<'_>,
    order: &Order<'_>,
) -> Result<Copy, RewriteError> {
    let strict = Order { extent: Extent::EveryRequest, ..*order };
    let stripped = Bytes::from(apply(bytes, &second.edits(|sighting| strict.takes(sighting))));
    let third = detector.analyse(&stripped, order.recipients);
    match third.trouble {
        Some(trouble) => Err(RewriteError::Unreadable(trouble)),
        None if strict.is_unmet_in(&third) => Err(RewriteError::StillThere),
        None => Ok(Copy::Rewritten { bytes: stripped, edits, way: Way::Strict }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(raw: &str, extent: Extent) -> Result<String, RewriteError> {
        let detector = Detector::default();
        let raw = Bytes::from(raw.replace('\n', "\r\n"));
        let analysis = detector.analyse(&raw, &[]);
        let order = Order { extent, receipts: Receipts::Strip, verify: Verify::On, recipients: &[] };
        Ok(match rewrite(&detector, &raw, &analysis, &order)? {
            Copy::Untouched => String::from_utf8(raw.to_vec()).unwrap(),
            Copy::Rewritten { bytes, .. } => String::from_utf8(bytes.to_vec()).unwrap(),
        }
        .replace("\r\n", "\n"))
    }

    const HEAD: &str = "Subject: a\nContent-Type: text/html\n\n";

    fn body(html: &str, extent: Extent) -> String {
        let out = check(&format!("{HEAD}{html}"), extent).unwrap();
        out.strip_prefix(HEAD).unwrap().to_owned()
    }

    #[test]
    fn a_pixel_goes_and_a_picture_stays() {
        let logo = "<img src=\"https://cdn.news.example/logo.png\" width=140 height=40>";
        let pixel = "<img src=\"https://t.news.example/wf/open?upn=abc\" width=1 height=1>";
        assert_eq!(body(&format!("{logo}<p>x</p>{pixel}\n"), Extent::Trackers), format!("{logo}<p>x</p>\n"));
    }

    #[test]
    fn strictly_every_request_goes_and_the_space_stays() {
        let html = "<img src=\"https://cdn.news.example/logo.png\" width=140 height=40 alt=Logo>";
        assert_eq!(body(html, Extent::EveryRequest), "<img width=140 height=40 alt=Logo>");
    }

    #[test]
    fn what_a_cut_joins_does_not_become_markup() {
        let pixel = "<img src=//t.news.example/wf/open?upn=abc width=1 height=1>";
        assert_eq!(
            body(&format!("<{pixel}img src=//a.example/x>"), Extent::Trackers),
            "<<!---->img src=//a.example/x>"
        );
        assert_eq!(body(&format!("&am{pixel}p;lt;"), Extent::Trackers), "&am<!---->p;lt;");
    }

    #[test]
    fn a_tracker_in_an_encoded_message_within_goes() {
        let inner = "Subject: b\r\nContent-Type: text/html\r\n\r\n<p>b</p><img src=//t.news.example/wf/open?upn=abc width=1 height=1>\r\n";
        let encoded = inner.replace('=', "=3D");
        let out = check(
            &format!("Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: message/rfc822\nContent-Transfer-Encoding: quoted-printable\n\n{}\n--b--\n", encoded.replace("\r\n", "\n")),
            Extent::Trackers,
        )
        .unwrap();
        assert!(out.contains("<p>b</p>\n"), "{out}");
        assert!(!out.contains("wf/open"), "{out}");
    }

    #[test]
    fn what_is_signed_is_not_edited() {
        let raw = "Content-Type: multipart/signed; boundary=b\n\n--b\nContent-Type: text/html\n\n<img src=//t.news.example/wf/open?upn=abc width=1 height=1>\n--b\nContent-Type: application/pgp-signature\n\nx\n--b--\n";
        assert_eq!(check(raw, Extent::Trackers).unwrap(), raw);
    }

    #[test]
    fn a_message_that_cannot_be_read_does_not_leave() {
        let mut raw = String::new();
        for depth in 0..200 {
            raw.push_str(&format!("Content-Type: multipart/mixed; boundary=b{depth}\n\n--b{depth}\n"));
        }
        assert_eq!(check(&raw, Extent::Trackers), Err(RewriteError::Unreadable(Trouble::TooManyParts)));
    }

    #[test]
    fn a_request_for_a_receipt_goes() {
        let out = check("Disposition-Notification-To:\n <a@b.example>\nSubject: a\n\nx\n", Extent::Trackers)
            .unwrap();
        assert_eq!(out, "Subject: a\n\nx\n");
    }
}
