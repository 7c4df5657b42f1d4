//! From an analysed message to the bytes that leave.
//!
//! Promised: a message in which nothing goes leaves as the bytes it came in; what leaves rewritten has been
//! scanned again, and no path leads from a failed rewrite to the unrewritten message.

pub mod downstream;
mod line_ends;
pub mod notice;
pub mod reader_token;
pub mod swap;
pub mod target;
pub mod targets;

use std::borrow::Cow;

use bytes::Bytes;

use crate::message::Trouble;
use crate::message::transfer::{Edit, apply};
use crate::tracker::{Analysis, Axis, Detector, Extent, Inquiry, Links, Placed, Remedy, Sighting, Verdict};
use swap::{Gate, Swap, Swaps};
pub use targets::{LinkMap, Targets};

/// Whether a rewritten copy is scanned again, with the same evidence as the first scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// What differs from the message that came is read again, and all that was found is judged again; where
    /// that might not come to the same, all of it is scanned.
    Difference,
    /// All of it is scanned.
    Full,
    /// It is not.
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

/// What is done with a picture that is there to be seen and yet tells readers apart, in the copy of one who
/// did not agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Personal {
    /// The gentlest way that ends the identification: unwrap, else drop the parameter, else strip.
    Gentlest,
    /// The picture's own address where it stands within, else strip.
    Unwrap,
    /// The address without the parameter that identifies, else strip.
    DropParameter,
    /// The picture goes; its alternative text and its space stay.
    Strip,
    /// It stays, and goes on telling readers apart.
    Keep,
}

/// What is done with mail of a protected part that holds a tracker which has to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protected {
    /// It is rejected.
    Reject,
    /// It is passed as it is, and counted.
    Pass,
}

/// What a mailstream does with links that report who followed them (N3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkTreatment {
    /// They stay.
    Keep,
    /// In copies for people who did not agree, what a link leads to takes its place, where that is known.
    Unwrap,
    /// The same; and in copies for people who agreed, an address of ours takes its place that asks for the
    /// consent of the moment, where it is known what the link leads to.
    Gate,
}

/// What is done with such links in one copy.
#[derive(Clone, Copy, Debug)]
pub enum LinkOrder<'a> {
    /// They stay.
    Keep,
    /// What they lead to takes their place.
    Unwrap(&'a Targets),
    /// A gate takes their place.
    Gate(Gate<'a>, &'a Targets),
}

/// What became of the tracked links of a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinksDone {
    /// Links that lead straight to their page now.
    pub unwrapped: usize,
    /// Links that ask for the consent of the moment now.
    pub gated: usize,
    /// Links that go on reporting although the person did not agree: nobody said what they lead to, or they stand
    /// where nothing may be edited.
    pub left: usize,
}

/// What happens to what reports an open.
#[derive(Clone, Copy, Debug)]
pub enum Opens<'a> {
    /// It stays.
    Keep,
    /// It goes.
    Strip,
    /// An address of ours takes its place, where one can; elsewhere it goes.
    Swap(Swap<'a>),
}

/// What is to be done to one copy.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// What happens to what reports an open.
    pub opens: Opens<'a>,
    /// What is put into the texts besides.
    pub added: &'a [Placed],
    /// What is looked for, before and after; `extent` says how much goes.
    pub inquiry: Inquiry<'a>,
    /// Whether requests for a receipt go.
    pub receipts: Receipts,
    /// What is done with pictures that tell readers apart.
    pub personal: Personal,
    /// What is done with links.
    pub links: LinkOrder<'a>,
    /// Whether the result is scanned again.
    pub verify: Verify,
}

impl<'a> Order<'a> {
    /// Takes out what reports an open, and requests for a receipt; verifies the result.
    pub fn strip(inquiry: Inquiry<'a>) -> Order<'a> {
        Order {
            opens: Opens::Strip,
            added: &[],
            inquiry,
            receipts: Receipts::Strip,
            personal: Personal::Gentlest,
            links: LinkOrder::Keep,
            verify: Verify::Difference,
        }
    }
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
        /// How many trackers now lead to an address of ours.
        swapped: usize,
        /// What became of tracked links.
        links: LinksDone,
        /// How it came about.
        way: Way,
    },
}

/// How a rewritten copy came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// As ordered.
    Ordered,
    /// The scan of the result still found a tracker, or the message could not be read as a whole: every
    /// remote request went.
    Strict,
}

/// What becomes of a sighting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays.
    Stays,
    /// It goes.
    Goes,
    /// Something gentler than that it goes: a link or a picture that is unwrapped, or loses what identifies.
    Eased,
    /// An address of ours takes its place.
    Swapped,
}

/// What an order does with each sighting of a message that can be read as a whole.
pub fn fates(analysis: &Analysis<'_>, order: &Order<'_>) -> Vec<Fate> {
    let mut swaps = Swaps::default();
    analysis.sightings.iter().map(|sighting| swaps.fate(order, analysis, sighting)).collect()
}

/// The edits by which an order would change a message, where that can be read as a whole and nothing goes
/// wrong. Addresses of ours in them are sealed anew each time.
pub fn edits(analysis: &Analysis<'_>, order: &Order<'_>) -> Vec<Edit> {
    let mut swaps = Swaps::default();
    analysis.edits(order.added, |sighting| swaps.edit(order, analysis, sighting))
}

/// What an order does with the tracked links of a message.
pub fn links_done(analysis: &Analysis<'_>, order: &Order<'_>) -> LinksDone {
    if matches!(order.links, LinkOrder::Keep) {
        return LinksDone::default();
    }
    let mut swaps = Swaps::default();
    let links = analysis.sightings.iter().filter(|sighting| sighting.axis() == Axis::Link);
    for link in links.filter(|link| link.verdict == Verdict::Tracker) {
        let _ = swaps.fate(order, analysis, link);
    }
    swaps.links_done(analysis, order)
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
    /// The edit that the order asks for, swaps aside; `None` where a sighting stays.
    pub fn edit<'s>(&self, sighting: &'s Sighting) -> Option<&'s Edit> {
        match (sighting.axis(), self.opens) {
            (Axis::Receipt, _) if self.receipts == Receipts::Strip => sighting.removal(),
            // Where a gate takes its place, and where a mapping says what it leads to: see `Swaps`.
            (Axis::Link, _) if !matches!(self.links, LinkOrder::Keep) => sighting.remedy(Remedy::Unwrap),
            (Axis::Receipt | Axis::Link, _) | (Axis::Open, Opens::Keep) => None,
            (Axis::Open, Opens::Strip | Opens::Swap(_)) => self.taken_out(sighting),
        }
    }

    /// The edit that ends a report of an open.
    fn taken_out<'s>(&self, sighting: &'s Sighting) -> Option<&'s Edit> {
        match sighting.axis() {
            Axis::Receipt | Axis::Link => None,
            Axis::Open if self.inquiry.extent == Extent::EveryRequest => sighting.removal(),
            Axis::Open => match (sighting.verdict, self.personal) {
                (Verdict::Picture, _) | (Verdict::Personal, Personal::Keep) => None,
                (Verdict::Tracker, _) | (Verdict::Personal, Personal::Strip) => sighting.removal(),
                (Verdict::Personal, Personal::Unwrap) => {
                    sighting.remedy(Remedy::Unwrap).or_else(|| sighting.removal())
                }
                (Verdict::Personal, Personal::DropParameter) => {
                    sighting.remedy(Remedy::DropParameter).or_else(|| sighting.removal())
                }
                (Verdict::Personal, Personal::Gentlest) => sighting
                    .remedy(Remedy::Unwrap)
                    .or_else(|| sighting.remedy(Remedy::DropParameter))
                    .or_else(|| sighting.removal()),
            },
        }
    }

    /// Whether what was ordered out is still there, addresses of ours aside. A link that was unwrapped may be
    /// another one that could be.
    fn is_unmet_in<'s>(&self, sightings: impl IntoIterator<Item = &'s Sighting>, swaps: &Swaps) -> bool {
        sightings.into_iter().any(|sighting| {
            sighting.protection.is_none()
                && sighting.axis() != Axis::Link
                && self.edit(sighting).is_some()
                && !swaps.has_put_in(&sighting.url)
        })
    }
}

/// Makes a copy of `raw`, of which `analysis` is the analysis by the order's inquiry.
///
/// # Errors
///
/// When the message cannot be read as a whole, or the scan of the result finds what no removal reaches. The
/// message must then stay with its sender.
pub fn rewrite(
    detector: &Detector,
    raw: &Bytes,
    analysis: &Analysis<'_>,
    order: &Order<'_>,
) -> Result<Copy, RewriteError> {
    let must_be_read = !matches!(order.opens, Opens::Keep);
    if let Some(trouble) = analysis.trouble.filter(|_| must_be_read) {
        let everything = detector.analyse(raw, &order.inquiry.everything());
        let links = links_done(analysis, order);
        return strictly(detector, raw, (Vec::new(), links), &everything, order)
            .map_err(|_| RewriteError::Unreadable(trouble));
    }
    let mut swaps = Swaps::default();
    let edits = analysis.edits(order.added, |sighting| swaps.edit(order, analysis, sighting));
    if edits.is_empty() {
        return Ok(Copy::Untouched);
    }
    let bytes = applied(raw, &edits);
    let (swapped, links) = (swaps.swapped(), swaps.links_done(analysis, order));
    if order.verify == Verify::Off {
        return Ok(Copy::Rewritten { bytes, edits, swapped, links, way: Way::Ordered });
    }
    crate::faults::point("verify");
    // Links are looked at for what is done with them, which was done.
    let inquiry = Inquiry { links: Links::Ignore, ..order.inquiry };
    let difference = match order.verify {
        Verify::Difference => detector.difference(analysis, &edits, &bytes, &inquiry),
        Verify::Full | Verify::Off => None,
    };
    let is_met = match difference {
        Some(difference) => !order.is_unmet_in(difference.sightings(), &swaps),
        None => {
            let second = detector.analyse(&bytes, &inquiry);
            (second.trouble.is_none() || !must_be_read) && !order.is_unmet_in(&second.sightings, &swaps)
        }
    };
    if is_met {
        return Ok(Copy::Rewritten { bytes, edits, swapped, links, way: Way::Ordered });
    }
    if !must_be_read {
        return Err(RewriteError::StillThere);
    }
    let everything = detector.analyse(&bytes, &order.inquiry.everything());
    strictly(detector, &bytes, (edits, links), &everything, order)
}

/// A copy in which nothing is left that loads from elsewhere.
#[derive(Clone, Debug)]
pub struct Bare {
    /// The message that leaves.
    pub bytes: Bytes,
    /// Whether anything of the text or header went.
    pub is_changed: bool,
    /// Whether a part that must not be edited still loads something.
    pub protected_part_loads: bool,
}

/// Makes a copy without any remote request and without requests for receipts, by code that weighs no address:
/// what is left to do where [`rewrite`] fails by a fault of its own.
///
/// # Errors
///
/// When the message cannot be read as a whole, or something that loads is out of reach.
pub fn without_requests(detector: &Detector, raw: &Bytes) -> Result<Bare, RewriteError> {
    let mut bytes = raw.clone();
    for _ in 0..MAX_PASSES {
        let found = detector.every_load(&bytes);
        if let Some(trouble) = found.trouble {
            return Err(RewriteError::Unreadable(trouble));
        }
        let (protected, free): (Vec<&Sighting>, Vec<&Sighting>) =
            found.sightings.iter().partition(|sighting| sighting.protection.is_some());
        if free.is_empty() {
            let is_changed = bytes != *raw;
            return Ok(Bare { is_changed, protected_part_loads: !protected.is_empty(), bytes });
        }
        let edits = found.edits(&[], |sighting| sighting.removal().map(Cow::Borrowed));
        let next = applied(&bytes, &edits);
        if next == bytes {
            break;
        }
        bytes = next;
    }
    Err(RewriteError::StillThere)
}

/// The message after the edits. What ends in a line end goes on doing so, whatever was the last thing in it:
/// the final dot hangs on that. No CR and no LF is left by itself, of which others may make the end of the message.
fn applied(raw: &Bytes, edits: &[Edit]) -> Bytes {
    let mut out = line_ends::mended(raw, edits, apply(raw, edits));
    if raw.ends_with(b"\r\n") && !out.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    Bytes::from(out)
}

/// How often every remote request is taken out of what is still not clean. In markup that browsers read in
/// several ways, a cut can end what kept another request from being one.
const MAX_PASSES: usize = 8;

/// Takes every remote request out of a result that was not clean, until a scan finds none.
fn strictly(
    detector: &Detector,
    bytes: &Bytes,
    (edits, links): (Vec<Edit>, LinksDone),
    everything: &Analysis<'_>,
    order: &Order<'_>,
) -> Result<Copy, RewriteError> {
    let strict = Order { inquiry: order.inquiry.everything(), opens: Opens::Strip, added: &[], ..*order };
    let cut = |bytes: &Bytes, found: &Analysis<'_>| {
        applied(bytes, &found.edits(&[], |sighting| strict.edit(sighting).map(Cow::Borrowed)))
    };
    let mut stripped = cut(bytes, everything);
    for _ in 0..MAX_PASSES {
        let last = detector.analyse(&stripped, &strict.inquiry);
        if let Some(trouble) = last.trouble {
            return Err(RewriteError::Unreadable(trouble));
        }
        let next = strict.is_unmet_in(&last.sightings, &Swaps::default()).then(|| cut(&stripped, &last));
        match next {
            None => {
                return Ok(Copy::Rewritten { bytes: stripped, edits, swapped: 0, links, way: Way::Strict });
            }
            Some(same) if same == stripped => break,
            Some(next) => stripped = next,
        }
    }
    Err(RewriteError::StillThere)
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    fn check(raw: &str, extent: Extent) -> Result<String, RewriteError> {
        static DETECTOR: LazyLock<Detector> = LazyLock::new(Detector::default);
        let raw = Bytes::from(raw.replace('\n', "\r\n"));
        let inquiry = Inquiry { extent, ..Inquiry::to(&["ann@home.example"]) };
        let analysis = DETECTOR.analyse(&raw, &inquiry);
        let order = Order::strip(inquiry);
        Ok(match rewrite(&DETECTOR, &raw, &analysis, &order)? {
            Copy::Untouched => String::from_utf8(raw.to_vec()).unwrap(),
            Copy::Rewritten { bytes, .. } => String::from_utf8(bytes.to_vec()).unwrap(),
        }
        .replace("\r\n", "\n"))
    }

    const HEAD: &str = "Subject: a\nContent-Type: text/html\n\n";

    #[test]
    fn a_copy_that_keeps_its_pixel_loses_the_request_for_a_receipt() {
        let detector = Detector::default();
        let pixel = "<img src=\"https://t.news.example/wf/open?upn=abc\" width=1 height=1>\r\n";
        let with = format!("Return-Receipt-To: a@b.example\r\nContent-Type: text/html\r\n\r\n{pixel}");
        let raw = Bytes::from(with);
        let inquiry = Inquiry::to(&["ann@home.example"]);
        let analysis = detector.analyse(&raw, &inquiry);
        let order = |receipts| Order {
            opens: Opens::Keep,
            added: &[],
            inquiry,
            receipts,
            personal: Personal::Gentlest,
            links: LinkOrder::Keep,
            verify: Verify::Difference,
        };
        let kept = |receipts| rewrite(&detector, &raw, &analysis, &order(receipts)).unwrap();
        let Copy::Rewritten { bytes, way: Way::Ordered, .. } = kept(Receipts::Strip) else { panic!() };
        assert_eq!(bytes, format!("Content-Type: text/html\r\n\r\n{pixel}"));
        assert!(matches!(kept(Receipts::Keep), Copy::Untouched));
    }

    fn body(html: &str, extent: Extent) -> String {
        let out = check(&format!("{HEAD}{html}"), extent).unwrap();
        out.strip_prefix(HEAD).unwrap().to_owned()
    }

    #[test]
    fn a_pixel_goes_and_a_picture_stays() {
        let logo = "<img src=\"https://cdn.news.example/logo.png\" width=140 height=40>";
        let pixel = "<img src=\"https://t.news.example/wf/open?upn=abc\" width=1 height=1>";
        assert_eq!(
            body(&format!("{logo}<p>x</p>{pixel}\n"), Extent::Trackers),
            format!("{logo}<p>x</p><img width=1 height=1>\n")
        );
    }

    #[test]
    fn strictly_every_request_goes_and_the_space_stays() {
        let html = "<img src=\"https://cdn.news.example/logo.png\" width=140 height=40 alt=Logo>";
        assert_eq!(body(html, Extent::EveryRequest), "<img width=140 height=40 alt=Logo>");
    }

    #[test]
    fn without_requests_is_as_strict_as_strict_mode() {
        let detector = Detector::default();
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/messages");
        let mut looked_at = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "eml") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap().replace("\r\n", "\n").replace('\n', "\r\n");
            let bare = without_requests(&detector, &Bytes::from(text)).unwrap();
            let inquiry = Inquiry::to(&[]).everything();
            let left = detector.analyse(&bare.bytes, &inquiry);
            let left = left
                .sightings
                .iter()
                .find(|sighting| sighting.protection.is_none() && sighting.axis() != Axis::Link);
            assert!(left.is_none(), "{}: {left:?}", path.display());
            looked_at += 1;
        }
        assert!(looked_at > 100, "{looked_at}");
    }

    #[test]
    fn what_a_cut_joins_does_not_become_markup() {
        let pixel = "<img src=//t.news.example/wf/open?upn=abc width=0 height=0>";
        assert_eq!(
            body(&format!("<{pixel}img src=//a.example/x>"), Extent::Trackers),
            "<<!---->img src=//a.example/x>"
        );
        assert_eq!(body(&format!("&am{pixel}p;lt;"), Extent::Trackers), "&am<!---->p;lt;");
        let chained = "<svg><style>url(\\68ttp:</math><style><>url(\\68ttp:H)</style><style><t href=http:e";
        let once = body(chained, Extent::EveryRequest);
        assert_eq!(
            body(&once, Extent::EveryRequest),
            once,
            "a cut that lays open another request is followed by it"
        );
        let glued = "<script src=\"//t.news.example/wf/open?upn=abc\"\" height=1>\"<img \
                     src=//a.example/x>\"</script>";
        assert_eq!(
            body(glued, Extent::EveryRequest),
            "<script \" height=1></script>",
            "the name of an element stays what it is"
        );
    }

    #[test]
    fn a_tracker_in_an_encoded_message_within_goes() {
        let inner = "Subject: b\r\nContent-Type: text/html\r\n\r\n<p>b</p><img \
                     src=//t.news.example/wf/open?upn=abc width=1 height=1>\r\n";
        let encoded = inner.replace('=', "=3D");
        let out = check(
            &format!(
                "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: \
                      message/rfc822\nContent-Transfer-Encoding: \
                      quoted-printable\n\n{}\n--b--\n",
                encoded.replace("\r\n", "\n")
            ),
            Extent::Trackers,
        )
        .unwrap();
        assert!(out.contains("<p>b</p><img width"), "{out}");
        assert!(!out.contains("wf/open"), "{out}");
    }

    #[test]
    fn what_ends_in_a_line_end_goes_on_doing_so() {
        let pixel = "<img src=//t.news.example/wf/open?upn=abc width=1 height=1>";
        let utf16: Vec<u8> = format!("<p>a</p>{pixel}").encode_utf16().flat_map(u16::to_le_bytes).collect();
        let utf16 = crate::message::transfer::encode_base64(&utf16);
        let plain = crate::message::transfer::encode_base64(format!("<p>a</p>{pixel}").as_bytes());
        for (head, body) in [
            ("Content-Type: text/html", pixel.to_owned()),
            (
                "Content-Type: text/html\nContent-Transfer-Encoding: quoted-printable",
                pixel.replace('=', "=3D"),
            ),
            ("Content-Type: text/html\nContent-Transfer-Encoding: base64", plain),
            ("Content-Type: text/html; charset=utf-16le\nContent-Transfer-Encoding: base64", utf16),
        ] {
            for extent in [Extent::Trackers, Extent::EveryRequest] {
                let out = check(&format!("{head}\n\n{body}\n"), extent).unwrap();
                assert!(out.ends_with('\n') && !out.contains("wf/open"), "{head}: {out}");
            }
        }
    }

    #[test]
    fn what_asks_for_nothing_is_left_alone_in_strict_mode() {
        for html in [
            "<IMG SRC='http:.>",
            "<IMG SRC='http:.>\n<p>Text of the mail.</p>",
            "<IMG SRC=\"http://.\">",
            "<img src='https://..//a.gif'>",
        ] {
            let raw = format!("Content-Type: text/html\n\n{html}\n");
            assert_eq!(check(&raw, Extent::EveryRequest).unwrap(), raw);
        }
        for html in ["<IMG SRC='http:a.example'>", "<img src=http:[::1]/a>", "<img src=http:%61.example/>"] {
            let out = check(&format!("Content-Type: text/html\n\n{html}\n"), Extent::EveryRequest).unwrap();
            assert!(!out.contains("http"), "{out}");
        }
    }

    #[test]
    fn what_is_signed_is_not_edited() {
        let raw = "Content-Type: multipart/signed; boundary=b\n\n--b\nContent-Type: text/html\n\n<img \
                   src=//t.news.example/wf/open?upn=abc width=1 height=1>\n--b\nContent-Type: \
                   application/pgp-signature\n\nx\n--b--\n";
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
