//! Exports a record as one JSON object, with the proof that it is part of the chain.

use serde::{Deserialize, Serialize};

use super::find::Found;
use super::record::{Record, Reported, Sighted};
use crate::chain::Link;
use crate::consent::Timestamp;
use crate::digest::BodyHash;

/// A record in words.
#[derive(Debug, Serialize)]
pub struct Shown<'a> {
    /// When it was decided.
    pub time: String,
    /// The relay's id of the message.
    pub id: &'a str,
    /// The keyed hash of its Message-ID.
    pub message_id: Option<String>,
    /// The recipient's tag in the segment.
    pub person: Option<String>,
    /// The controller.
    pub controller: &'a str,
    /// The mailstream.
    pub mailstream: &'a str,
    /// The listener through which it came.
    pub listener: &'a str,
    /// The next hops of its route.
    pub route: &'a str,
    /// The jurisdiction.
    pub jurisdiction: &'a str,
    /// The version of its rules.
    pub version: &'a str,
    /// The rule that decided.
    pub rule: &'a str,
    /// The number of the consent record that led to the decision.
    pub consent_record: Option<u64>,
    /// What was decided.
    pub decided: &'a str,
    /// What was done in the copy that was offered to the next hop.
    pub done: &'a str,
    /// Whether decisions were only observed.
    pub observed: bool,
    /// The shortfall: why less was done than decided.
    pub shortfall: Option<&'a str>,
    /// How many trackers were found.
    pub found: u64,
    /// How many were removed.
    pub removed: u64,
    /// How many were replaced.
    pub swapped: u64,
    /// How many links report who followed them.
    pub links: u64,
    /// How many text parts cannot be read.
    pub unreadable: u64,
    /// What was found.
    pub sightings: &'a [Sighted<'a>],
    /// The hash of the body as received.
    pub body_before: Option<String>,
    /// The hash of the body as offered.
    pub body_after: Option<String>,
    /// Which hash that is: `blake3`, or `sha256` in records of earlier versions.
    pub body_hash: Option<&'static str>,
    /// The result of the delivery.
    pub result: &'a str,
    /// The code of the reply.
    pub code: u16,
    /// The next hop's id.
    pub queue_id: Option<&'a str>,
    /// A service that may still track.
    pub downstream: Option<&'a str>,
    /// Whether 8-bit text of the copy went out as quoted-printable.
    pub converted: bool,
    /// The campaign. Absent where it is empty, as are those below: lines of earlier
    /// versions, which lack them, stay verifiable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campaign: Option<&'a str>,
    /// Subject and Message-ID, sealed for the recipient.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headline: Option<String>,
    /// The enhanced status code of a reply that is not positive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<&'a str>,
    /// Where the trackers report to.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub reports: &'a [Reported<'a>],
    /// How many tracked links lead straight to their page in the copy.
    #[serde(skip_serializing_if = "is_none")]
    pub links_unwrapped: u64,
    /// How many ask for the consent of the moment in it.
    #[serde(skip_serializing_if = "is_none")]
    pub links_gated: u64,
    /// How many go on reporting in it although they were to be changed.
    #[serde(skip_serializing_if = "is_none")]
    pub links_left: u64,
}

fn is_none(count: &u64) -> bool {
    *count == 0
}

impl<'a> From<&'a Record<'_>> for Shown<'a> {
    fn from(record: &'a Record<'_>) -> Shown<'a> {
        Shown {
            time: Timestamp(record.at).to_string(),
            id: &record.id,
            message_id: record.message_id.as_ref().map(hex::encode),
            person: record.person.as_ref().map(hex::encode),
            controller: &record.controller,
            mailstream: &record.mailstream,
            listener: &record.listener,
            route: &record.route,
            jurisdiction: record.jurisdiction(),
            version: &record.version,
            rule: &record.rule,
            consent_record: record.consent_record,
            decided: &record.decided,
            done: &record.done,
            observed: record.observed,
            shortfall: record.shortfall.as_deref(),
            found: record.found,
            removed: record.removed,
            swapped: record.swapped,
            links: record.links,
            unreadable: record.unreadable,
            sightings: &record.sightings,
            body_before: record.before.as_ref().map(BodyHash::hex),
            body_after: record.after.as_ref().map(BodyHash::hex),
            body_hash: record.before.or(record.after).as_ref().map(BodyHash::function),
            result: &record.result,
            code: record.code,
            queue_id: record.queue_id.as_deref(),
            downstream: record.downstream.as_deref(),
            converted: record.converted,
            campaign: record.campaign.as_deref(),
            headline: record.headline.as_deref().map(hex::encode),
            status: record.status.as_deref(),
            reports: &record.reports,
            links_unwrapped: record.links_unwrapped,
            links_gated: record.links_gated,
            links_left: record.links_left,
        }
    }
}

/// The SHA-256 of `hash_before` followed by `payload` is `hash`. All in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The chain: for how many days it is kept.
    pub chain: u16,
    /// The number of the segment.
    pub segment: u32,
    /// The record's number in its chain.
    pub record: u64,
    /// The chain's hash before it.
    pub hash_before: String,
    /// The bytes of the record in the chain.
    pub payload: String,
    /// The chain's hash up to and including it.
    pub hash: String,
}

/// A line of an export.
#[derive(Debug, Serialize)]
pub struct Line<'a> {
    /// The contents of the record.
    #[serde(flatten)]
    pub record: Shown<'a>,
    /// The record's place in the chain.
    pub proof: Proof,
}

/// The part of a line that is verified: the payload contains everything else.
#[derive(Debug, Deserialize)]
pub struct Claim {
    /// The rest of the line.
    #[serde(flatten)]
    pub record: serde_json::Map<String, serde_json::Value>,
    /// The claimed place in the chain.
    pub proof: Proof,
}

impl<'a> From<&'a Found> for Line<'a> {
    fn from(found: &'a Found) -> Line<'a> {
        Line { record: Shown::from(&found.record), proof: Proof::of(found) }
    }
}

impl Proof {
    /// Builds the line of a record.
    pub fn of(found: &Found) -> Proof {
        Proof {
            chain: found.days,
            segment: found.segment,
            record: found.link.number,
            hash_before: hex::encode(found.link.before),
            payload: hex::encode(&found.link.payload),
            hash: hex::encode(found.link.hash),
        }
    }
}

impl Claim {
    /// Returns the link that the line claims, if its hashes match its payload and the payload matches the
    /// line.
    pub fn link(&self) -> Option<Link> {
        let proof = &self.proof;
        let link = Link {
            number: proof.record,
            before: hex::decode(&proof.hash_before).ok()?.try_into().ok()?,
            payload: hex::decode(&proof.payload).ok()?,
            hash: hex::decode(&proof.hash).ok()?.try_into().ok()?,
        };
        let record = Record::decode(&link.payload).ok()?;
        let said = serde_json::to_value(Shown::from(&record)).ok()?;
        (link.is_sound() && said.as_object() == Some(&self.record)).then_some(link)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::Head;
    use crate::evidence::record::tests::full;

    #[test]
    fn a_line_proves_what_it_says_and_a_changed_one_does_not() {
        let payload = full().encode();
        let before = Head { count: 6, hash: [5; 32] };
        let after = before.then(&payload);
        let link = Link { number: 7, before: before.hash, payload, hash: after.hash };
        let found = Found { days: 365, segment: 2, link: link.clone(), record: full() };
        let text = serde_json::to_string(&Line::from(&found)).unwrap();
        let claim = |text: &str| serde_json::from_str::<Claim>(text).unwrap().link();
        assert_eq!(claim(&text), Some(link));
        for (from, to) in [
            ("\"done\":\"strip\"", "\"done\":\"keep\""),
            ("\"removed\":2", "\"removed\":3"),
            ("\"record\":7", "\"record\":8"),
            ("\"hash_before\":\"05", "\"hash_before\":\"06"),
            ("\"payload\":\"01", "\"payload\":\"0x"),
        ] {
            let changed = text.replace(from, to);
            assert_ne!(changed, text);
            // The number is not part of the hash, and is compared with the chain.
            assert_eq!(claim(&changed).is_none(), !from.contains("\"record\""), "{from}");
        }
    }
}
