//! Collects what a report of a scan says: sums, and the messages in which trackers were found.
//!
//! Promised: memory does not grow with the number of messages, and the report contains no readable mail
//! address from a tracker's URL, nor one of a recipient whom the message names.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::cli::rewrite::shown;
use crate::message::header::fields;
use crate::tracker::recipient::Traces;
use crate::tracker::url::percent_decoded;
use crate::tracker::{Analysis, Axis, Detector, Sighting, Verdict};

/// The maximum number of messages that are listed individually.
pub(super) const MAX_LISTED: usize = 1_000;
/// The maximum number of trackers that are listed for a message.
const MAX_TRACKERS: usize = 20;
/// The maximum number of senders that are counted separately.
const MAX_SENDERS: usize = 10_000;
/// The maximum length of a message's name, in characters. Of a longer one, the end is shown.
const MAX_NAME: usize = 120;
/// How many characters of an address are examined. Fewer are shown.
const MAX_URL: usize = 1_000;
/// Replaces an address.
const MASK: &str = "…";
/// The vendor of a request for a read receipt.
const RECEIPT: &str = "receipt request";

/// The contents of a report.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) messages: u64,
    pub(super) with_trackers: u64,
    pub(super) trackers: u64,
    /// Messages that the relay could change.
    pub(super) changeable: u64,
    /// Trackers in signed or encrypted parts, and the messages that contain them.
    pub(super) protected: u64,
    pub(super) with_protected: u64,
    pub(super) receipts: u64,
    /// Messages that cannot be read completely.
    pub(super) unreadable: u64,
    /// Text parts that cannot be read.
    pub(super) unreadable_parts: u64,
    /// Files and messages that could not be read.
    pub(super) failed: u64,
    pub(super) vendors: BTreeMap<String, u64>,
    /// Links that report who followed them, by vendor, and how many there are.
    pub(super) links: BTreeMap<String, u64>,
    pub(super) tracked_links: u64,
    pub(super) carriers: BTreeMap<&'static str, u64>,
    pub(super) facts: BTreeMap<&'static str, u64>,
    pub(super) senders: BTreeMap<String, OfSender>,
    /// All senders beyond those that are counted separately.
    pub(super) other_senders: OfSender,
    pub(super) listed: Vec<Listed>,
}

/// The totals of one sender's messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OfSender {
    pub(super) messages: u64,
    pub(super) with_trackers: u64,
    pub(super) trackers: u64,
}

/// A message with trackers.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) sender: String,
    pub(super) trackers: Vec<Tracker>,
    /// The number of further trackers.
    pub(super) more: usize,
}

/// A tracker.
#[derive(Debug)]
pub(super) struct Tracker {
    pub(super) vendor: String,
    pub(super) carrier: &'static str,
    pub(super) url: String,
    pub(super) why: String,
    pub(super) protected: bool,
}

impl Report {
    /// Adds one message.
    pub(super) fn add(
        &mut self,
        detector: &Detector,
        name: &str,
        raw: &[u8],
        recipients: &[&str],
        analysis: &Analysis<'_>,
    ) {
        // Links report what is followed, not that a message was opened.
        let found: Vec<&Sighting> =
            analysis.sightings.iter().filter(|sighting| sighting.axis() != Axis::Link).collect();
        let trackers: Vec<&Sighting> =
            found.iter().copied().filter(|sighting| sighting.verdict == Verdict::Tracker).collect();
        let is_tracked =
            |sighting: &&Sighting| sighting.axis() == Axis::Link && sighting.verdict == Verdict::Tracker;
        for link in analysis.sightings.iter().filter(is_tracked) {
            self.tracked_links += 1;
            *self.links.entry(vendor(detector, link)).or_default() += 1;
        }
        let sender = sender(raw);
        self.messages += 1;
        self.of_sender(&sender).add(trackers.len());
        // If a message cannot be read completely, every remote request is removed.
        let unreadable = analysis.trouble.is_some();
        let goes = |sighting: &&Sighting| {
            sighting.protection.is_none() && (unreadable || sighting.verdict != Verdict::Picture)
        };
        self.changeable += u64::from(found.iter().any(goes));
        self.unreadable += u64::from(unreadable);
        self.unreadable_parts += analysis.unreadable as u64;
        if trackers.is_empty() {
            return;
        }
        self.with_trackers += 1;
        self.trackers += trackers.len() as u64;
        let protected = trackers.iter().filter(|tracker| tracker.protection.is_some()).count() as u64;
        self.protected += protected;
        self.with_protected += u64::from(protected > 0);
        for tracker in &trackers {
            self.receipts += u64::from(tracker.axis() == Axis::Receipt);
            *self.vendors.entry(vendor(detector, tracker)).or_default() += 1;
            *self.carriers.entry(tracker.carrier.name()).or_default() += 1;
            for fact in reasons(tracker) {
                *self.facts.entry(fact).or_default() += 1;
            }
        }
        if self.listed.len() < MAX_LISTED {
            self.listed.push(Listed::new(detector, name, sender, recipients, &trackers));
        }
    }

    fn of_sender(&mut self, sender: &str) -> &mut OfSender {
        if self.senders.len() >= MAX_SENDERS && !self.senders.contains_key(sender) {
            return &mut self.other_senders;
        }
        self.senders.entry(sender.to_owned()).or_default()
    }

    /// Returns how many messages with trackers are not listed.
    pub(super) fn unlisted(&self) -> u64 {
        self.with_trackers.saturating_sub(self.listed.len() as u64)
    }
}

impl OfSender {
    fn add(&mut self, trackers: usize) {
        self.messages += 1;
        self.with_trackers += u64::from(trackers > 0);
        self.trackers += trackers as u64;
    }
}

impl Listed {
    fn new(
        detector: &Detector,
        name: &str,
        sender: String,
        recipients: &[&str],
        trackers: &[&Sighting],
    ) -> Listed {
        let mask = Mask::new(recipients);
        let one = |tracker: &&Sighting| Tracker {
            vendor: vendor(detector, tracker),
            carrier: tracker.carrier.name(),
            url: shown(&mask.url(&tracker.url)).replace("\\u{2026}", MASK),
            why: reasons(tracker).collect::<Vec<_>>().join(", "),
            protected: tracker.protection.is_some(),
        };
        let name = mask.text(name);
        let cut = name.chars().count().saturating_sub(MAX_NAME);
        let name =
            if cut == 0 { name.into_owned() } else { MASK.chars().chain(name.chars().skip(cut)).collect() };
        let more = trackers.len().saturating_sub(MAX_TRACKERS);
        Listed { name, sender, trackers: trackers.iter().take(MAX_TRACKERS).map(one).collect(), more }
    }
}

fn vendor(detector: &Detector, tracker: &Sighting) -> String {
    match tracker.vendor {
        Some(vendor) => detector.catalogue().name(vendor).to_owned(),
        None if tracker.axis() == Axis::Receipt => RECEIPT.to_owned(),
        None => "unknown".to_owned(),
    }
}

/// The signals for a tracker.
fn reasons(tracker: &Sighting) -> impl Iterator<Item = &'static str> {
    let receipt = (tracker.axis() == Axis::Receipt).then_some("a header field asks for a read receipt");
    receipt
        .into_iter()
        .chain(tracker.signals.iter().filter(|signal| signal.weight() > 0).map(|signal| signal.text()))
}

/// Returns the domain of the From field.
fn sender(raw: &[u8]) -> String {
    let field = fields(raw, 0).find(|field| field.is(raw, "From"));
    let value = field.map(|field| String::from_utf8_lossy(field.value(raw))).unwrap_or_default();
    let address = match value.rsplit_once('<') {
        Some((_, rest)) => rest.split('>').next().unwrap_or_default(),
        None => value.split_ascii_whitespace().rfind(|word| word.contains('@')).unwrap_or_default(),
    };
    let domain = address.rsplit_once('@').map_or("", |(_, domain)| domain.trim());
    match domain.chars().count() {
        1..=253 => domain.to_lowercase(),
        _ => "no From domain".to_owned(),
    }
}

/// Removes the addresses of recipients from texts.
struct Mask {
    /// In lower case.
    addresses: Vec<String>,
    traces: Traces,
}

impl Mask {
    fn new(recipients: &[&str]) -> Mask {
        let mut addresses: Vec<String> = recipients.iter().map(|address| address.to_lowercase()).collect();
        // Longer ones first, since one may be the end of another.
        addresses.sort_by_key(|address| std::cmp::Reverse(address.len()));
        Mask { addresses, traces: Traces::of(recipients.iter().copied()) }
    }

    /// Removes the recipients from an address. If one occurs in any other encoding, or as a hash, only the
    /// host is left.
    fn url(&self, url: &str) -> String {
        let url: String = url.chars().take(MAX_URL).collect();
        let masked = without_addresses(&self.text(&url));
        let mut decoded = masked.clone();
        for _ in 0..3 {
            decoded = percent_decoded(&decoded).into_owned();
            let disguised = self.traces.stand_in(&decoded) || self.stand_in(&decoded);
            if disguised || without_addresses(&decoded) != decoded {
                let host = url.split(['/', '?']).next().unwrap_or_default();
                return format!("{}/{MASK}", self.text(host));
            }
        }
        masked
    }

    fn stand_in(&self, text: &str) -> bool {
        let folded = text.to_lowercase();
        folded.contains('@') && self.addresses.iter().any(|address| folded.contains(address.as_str()))
    }

    /// Replaces each recipient's address in a text by the mask, percent-encoded or not.
    fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let (decoded, starts) = folded(text);
        if !decoded.contains(&b'@') {
            return Cow::Borrowed(text);
        }
        let mut out = String::new();
        let mut at = 0;
        let mut copied = 0;
        while at < decoded.len() {
            let rest = decoded.get(at..).unwrap_or_default();
            match self.addresses.iter().find(|address| rest.starts_with(address.as_bytes())) {
                Some(address) => {
                    let start = starts.get(at).copied().unwrap_or(text.len());
                    out.push_str(text.get(copied..start).unwrap_or_default());
                    out.push_str(MASK);
                    at += address.len();
                    copied = starts.get(at).copied().unwrap_or(text.len());
                }
                None => at += 1,
            }
        }
        if copied == 0 {
            return Cow::Borrowed(text);
        }
        out.push_str(text.get(copied..).unwrap_or_default());
        Cow::Owned(out)
    }
}

/// Replaces whatever looks like a mail address by the mask: in the address of a tracker it is a recipient's,
/// even if the message does not name that one.
fn without_addresses(text: &str) -> String {
    let is_local =
        |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'+' | b'\'');
    let is_domain = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | 0x80..);
    let (decoded, starts) = folded(text);
    let source = |at: usize| starts.get(at).copied().unwrap_or(text.len());
    let mut out = String::new();
    let (mut copied, mut from) = (0, 0);
    for at in memchr::memchr_iter(b'@', &decoded) {
        let before = decoded.get(from..at).unwrap_or_default();
        let local = before.iter().rev().take_while(is_local).count();
        let domain = decoded.get(at + 1..).unwrap_or_default().iter().take_while(is_domain).count();
        if local > 0 && domain > 0 {
            out.push_str(text.get(copied..source(at - local)).unwrap_or_default());
            out.push_str(MASK);
            from = at + 1 + domain;
            copied = source(from);
        }
    }
    out.push_str(text.get(copied..).unwrap_or_default());
    out
}

/// Decodes `%XX` in a text and lower-cases it, and returns for each of its bytes where it came from.
fn folded(text: &str) -> (Vec<u8>, Vec<usize>) {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut starts = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex = |offset: usize| bytes.get(at + offset).and_then(|digit| char::from(*digit).to_digit(16));
        let (byte, taken) = match (byte, hex(1), hex(2)) {
            (b'%', Some(high), Some(low)) => (u8::try_from(high * 16 + low).unwrap_or(byte), 3),
            _ => (byte, 1),
        };
        decoded.push(byte.to_ascii_lowercase());
        starts.push(at);
        at += taken;
    }
    (decoded, starts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracker::Inquiry;

    fn check(url: &str) -> String {
        Mask::new(&["Ann@Home.Example", "joann@home.example"]).url(url)
    }

    #[test]
    fn recipients_addresses_are_masked() {
        assert_eq!(check("t.example/o?e=ann@home.example&i=1"), "t.example/o?e=…&i=1");
        assert_eq!(check("t.example/o?e=ANN%40home%2eexample"), "t.example/o?e=…");
        assert_eq!(check("t.example/%61nn@home.example/joann@home.example"), "t.example/…/…");
        assert_eq!(check("t.example/o?e=bob+x%40home.example&f=eve@home.example"), "t.example/o?e=…&f=…");
        assert_eq!(check("t.example/o@?e=@home"), "t.example/o@?e=@home");
        assert_eq!(check("t.example/ö/ann@home.example/ö"), "t.example/ö/…/ö");
    }

    #[test]
    fn of_an_address_in_disguise_only_the_host_is_left() {
        for path in [
            "o?e=ann%2540home.example",
            "o?e=bob%252540home.example",
            "a/QW5uQEhvbWUuRXhhbXBsZQ",
            "a/416e6e40486f6d652e4578616d706c65",
        ] {
            assert_eq!(check(&format!("t.example/{path}")), "t.example/…", "{path}");
        }
    }

    #[test]
    fn the_sender_is_the_domain_of_from() {
        let of = |value: &str| sender(format!("To: x@y.example\r\nFrom: {value}\r\n\r\n").as_bytes());
        assert_eq!(of("\"a@b.example\" <News@Shop.Example>"), "shop.example");
        assert_eq!(of("news@shop.example (Shop)"), "shop.example");
        assert_eq!(of("Shop\r\n <news@shop.example>"), "shop.example");
        for none in ["", "Shop", "<>", "<shop>", &format!("a@{}", "b".repeat(300))] {
            assert_eq!(of(none), "no From domain", "{none}");
        }
    }

    #[test]
    fn senders_and_messages_are_bounded() {
        let mut report = Report::default();
        let detector = Detector::default();
        for number in 0..MAX_SENDERS + 2 {
            let raw = format!("From: a@s{number}.example\r\nReturn-Receipt-To: a@b.example\r\n\r\n");
            let analysis = detector.analyse(raw.as_bytes(), &Inquiry::to(&[]));
            report.add(&detector, "name", raw.as_bytes(), &[], &analysis);
        }
        assert_eq!((report.senders.len(), report.other_senders.messages), (MAX_SENDERS, 2));
        assert_eq!((report.listed.len(), report.receipts), (MAX_LISTED, 10_002));
        assert_eq!(report.unlisted(), 9_002);
        assert_eq!(report.vendors.get(RECEIPT), Some(&10_002));
    }
}
