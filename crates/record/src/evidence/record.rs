//! A record: one decision about one recipient of one message. A byte for the format, then fields
//! ([`crate::fields`]).

use std::borrow::Cow;

use serde::Serialize;

use crate::consent::Timestamp;
use crate::digest::BodyHash;
use crate::fields::{Malformed, Writer, fields, number, text, time};

/// The format written by this version; the first byte of each record.
const FORMAT: u8 = 1;

/// Field numbers, which are never reused.
mod tag {
    pub(super) const AT: u8 = 1;
    pub(super) const ID: u8 = 2;
    pub(super) const MESSAGE_ID: u8 = 3;
    pub(super) const PERSON: u8 = 4;
    pub(super) const CONTROLLER: u8 = 5;
    pub(super) const MAILSTREAM: u8 = 6;
    pub(super) const LISTENER: u8 = 7;
    pub(super) const ROUTE: u8 = 8;
    pub(super) const RULE: u8 = 9;
    pub(super) const VERSION: u8 = 10;
    pub(super) const CONSENT_RECORD: u8 = 11;
    pub(super) const DECIDED: u8 = 12;
    pub(super) const DONE: u8 = 13;
    pub(super) const OBSERVED: u8 = 14;
    pub(super) const SHORTFALL: u8 = 15;
    pub(super) const FOUND: u8 = 16;
    pub(super) const REMOVED: u8 = 17;
    pub(super) const SWAPPED: u8 = 18;
    pub(super) const SIGHTING: u8 = 19;
    pub(super) const BEFORE: u8 = 20;
    pub(super) const AFTER: u8 = 21;
    pub(super) const RESULT: u8 = 22;
    pub(super) const CODE: u8 = 23;
    pub(super) const QUEUE_ID: u8 = 24;
    pub(super) const DOWNSTREAM: u8 = 25;
    pub(super) const LINKS: u8 = 26;
    pub(super) const UNREADABLE: u8 = 27;
    pub(super) const CONVERTED: u8 = 28;
    pub(super) const BEFORE_BLAKE3: u8 = 29;
    pub(super) const AFTER_BLAKE3: u8 = 30;
    pub(super) const CAMPAIGN: u8 = 31;
    pub(super) const HEADLINE: u8 = 32;
    pub(super) const REPORT: u8 = 33;
    pub(super) const STATUS: u8 = 34;
    pub(super) const LINKS_UNWRAPPED: u8 = 35;
    pub(super) const LINKS_GATED: u8 = 36;
    pub(super) const LINKS_LEFT: u8 = 37;
}

/// A keyed hash.
pub type Tag = [u8; 16];

/// What was decided and done for one recipient of one message (N23).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Record<'a> {
    /// When it was decided, in milliseconds since 1970.
    pub at: i64,
    /// The relay's id of the message.
    pub id: Cow<'a, str>,
    /// The keyed hash of its Message-ID; `None` where it has none.
    pub message_id: Option<Tag>,
    /// The recipient's tag in this segment; `None` if none could be made.
    pub person: Option<Tag>,
    /// The controller.
    pub controller: Cow<'a, str>,
    /// The mailstream.
    pub mailstream: Cow<'a, str>,
    /// The listener through which it came.
    pub listener: Cow<'a, str>,
    /// The next hops of its route, in the order in which they are tried.
    pub route: Cow<'a, str>,
    /// The rule that decided.
    pub rule: Cow<'a, str>,
    /// The version of the rules: `fr/2026-07-14`.
    pub version: Cow<'a, str>,
    /// The number of the consent record that led to the decision.
    pub consent_record: Option<u64>,
    /// What was decided.
    pub decided: Cow<'a, str>,
    /// What was done in the copy that was offered to the next hop.
    pub done: Cow<'a, str>,
    /// Whether decisions were only observed.
    pub observed: bool,
    /// The shortfall: why less was done than decided.
    pub shortfall: Option<Cow<'a, str>>,
    /// How many trackers were found.
    pub found: u64,
    /// How many were removed.
    pub removed: u64,
    /// How many were replaced by addresses of ours.
    pub swapped: u64,
    /// How many links report who followed them, if links are counted.
    pub links: u64,
    /// How many tracked links lead straight to their page in the copy.
    pub links_unwrapped: u64,
    /// How many ask for the consent of the moment in it.
    pub links_gated: u64,
    /// How many go on reporting in it although they were to be changed.
    pub links_left: u64,
    /// How many text parts cannot be read.
    pub unreadable: u64,
    /// What was found, by carrier and vendor.
    pub sightings: Cow<'a, [Sighted<'a>]>,
    /// The hash of the body as received, if bodies are hashed.
    pub before: Option<BodyHash>,
    /// The hash of the body as offered; `None` if no copy could be made.
    pub after: Option<BodyHash>,
    /// The result of the delivery: `accepted`, `deferred`, `rejected`.
    pub result: Cow<'a, str>,
    /// The code of the reply.
    pub code: u16,
    /// The enhanced status code of a reply that is not positive: `5.1.1` (RFC 3463).
    pub status: Option<Cow<'a, str>>,
    /// The next hop's id, if its reply contains it.
    pub queue_id: Option<Cow<'a, str>>,
    /// A service behind the next hop that may still track, and why that is accepted.
    pub downstream: Option<Cow<'a, str>>,
    /// Whether 8-bit text of the copy went out as quoted-printable, which `after` does not know.
    pub converted: bool,
    /// What the sender calls the campaign, if its header says.
    pub campaign: Option<Cow<'a, str>>,
    /// The subject and the Message-ID, sealed ([`super::headline`]); `None` unless that is asked for.
    pub headline: Option<Cow<'a, [u8]>>,
    /// Where the trackers report to.
    pub reports: Cow<'a, [Reported<'a>]>,
}

/// Where trackers of one vendor report to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reported<'a> {
    /// The vendor; `unknown` for unknown ones.
    pub vendor: Cow<'a, str>,
    /// The host, as far as it may be kept: what may be unique to a reader is a star.
    pub host: Cow<'a, str>,
}

/// Trackers of one vendor and carrier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sighted<'a> {
    /// The carrier.
    pub carrier: Cow<'a, str>,
    /// The vendor; `unknown` for unknown ones.
    pub vendor: Cow<'a, str>,
    /// The number of trackers.
    pub count: u64,
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// It was written by a later version.
    #[error("the record has format {0}, which this version does not know")]
    Format(u8),
    /// A field is cut off, or invalid.
    #[error("the record is malformed")]
    Malformed,
}

impl From<Malformed> for BadRecord {
    fn from(Malformed: Malformed) -> BadRecord {
        BadRecord::Malformed
    }
}

impl Reported<'_> {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![u8::try_from(self.vendor.len()).unwrap_or(u8::MAX)];
        bytes.extend(self.vendor.bytes().take(usize::from(u8::MAX)));
        bytes.extend_from_slice(self.host.as_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Reported<'static>, Malformed> {
        let (&length, rest) = bytes.split_first().ok_or(Malformed)?;
        let (vendor, host) = rest.split_at_checked(usize::from(length)).ok_or(Malformed)?;
        Ok(Reported { vendor: text(vendor)?.into(), host: text(host)?.into() })
    }
}

impl Sighted<'_> {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![u8::try_from(self.carrier.len()).unwrap_or(u8::MAX)];
        bytes.extend(self.carrier.bytes().take(usize::from(u8::MAX)));
        bytes.extend_from_slice(&u32::try_from(self.count).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(self.vendor.as_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Sighted<'static>, Malformed> {
        let (&length, rest) = bytes.split_first().ok_or(Malformed)?;
        let (carrier, rest) = rest.split_at_checked(usize::from(length)).ok_or(Malformed)?;
        let (count, vendor) = rest.split_first_chunk::<4>().ok_or(Malformed)?;
        Ok(Sighted {
            carrier: text(carrier)?.into(),
            vendor: text(vendor)?.into(),
            count: u64::from(u32::from_le_bytes(*count)),
        })
    }
}

impl Record<'_> {
    /// Returns the bytes for a segment.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(FORMAT);
        writer.time(tag::AT, Some(Timestamp(self.at)));
        let bytes = [
            (tag::MESSAGE_ID, self.message_id.as_ref().map(|id| &id[..])),
            (tag::PERSON, self.person.as_ref().map(|tag| &tag[..])),
            (tag::HEADLINE, self.headline.as_deref()),
        ];
        bytes
            .into_iter()
            .for_each(|(tag, value)| value.into_iter().for_each(|bytes| writer.bytes(tag, bytes)));
        let hashes =
            [(self.before, tag::BEFORE, tag::BEFORE_BLAKE3), (self.after, tag::AFTER, tag::AFTER_BLAKE3)];
        for (hash, sha256, blake3) in hashes {
            match hash {
                Some(BodyHash::Sha256(hash)) => writer.bytes(sha256, &hash),
                Some(BodyHash::Blake3(hash)) => writer.bytes(blake3, &hash),
                None => {}
            }
        }
        let texts = [
            (tag::ID, Some(&self.id)),
            (tag::CONTROLLER, Some(&self.controller)),
            (tag::MAILSTREAM, Some(&self.mailstream)),
            (tag::LISTENER, Some(&self.listener)),
            (tag::ROUTE, Some(&self.route)),
            (tag::RULE, Some(&self.rule)),
            (tag::VERSION, Some(&self.version)),
            (tag::DECIDED, Some(&self.decided)),
            (tag::DONE, Some(&self.done)),
            (tag::SHORTFALL, self.shortfall.as_ref()),
            (tag::RESULT, Some(&self.result)),
            (tag::QUEUE_ID, self.queue_id.as_ref()),
            (tag::DOWNSTREAM, self.downstream.as_ref()),
            (tag::CAMPAIGN, self.campaign.as_ref()),
            (tag::STATUS, self.status.as_ref()),
        ];
        texts.into_iter().for_each(|(tag, value)| writer.text(tag, value.map(|text| &**text)));
        if let Some(record) = self.consent_record {
            writer.number(tag::CONSENT_RECORD, record);
        }
        let numbers = [
            (tag::OBSERVED, u64::from(self.observed)),
            (tag::CONVERTED, u64::from(self.converted)),
            (tag::FOUND, self.found),
            (tag::REMOVED, self.removed),
            (tag::SWAPPED, self.swapped),
            (tag::CODE, u64::from(self.code)),
            (tag::LINKS, self.links),
            (tag::LINKS_UNWRAPPED, self.links_unwrapped),
            (tag::LINKS_GATED, self.links_gated),
            (tag::LINKS_LEFT, self.links_left),
            (tag::UNREADABLE, self.unreadable),
        ];
        // An empty value needs no field.
        numbers
            .into_iter()
            .filter(|(_, number)| *number > 0)
            .for_each(|(tag, number)| writer.number(tag, number));
        self.sightings.iter().for_each(|sighting| writer.bytes(tag::SIGHTING, &sighting.encode()));
        self.reports.iter().for_each(|reported| writer.bytes(tag::REPORT, &reported.encode()));
        writer.done()
    }

    /// Reads the bytes of a record.
    ///
    /// # Errors
    ///
    /// When they are malformed, or of a later version.
    pub fn decode(bytes: &[u8]) -> Result<Record<'static>, BadRecord> {
        let (&format, rest) = bytes.split_first().ok_or(BadRecord::Malformed)?;
        if format != FORMAT {
            return Err(BadRecord::Format(format));
        }
        let mut record = Record::default();
        for (tag, content) in fields(rest)? {
            record.take(tag, content)?;
        }
        Ok(record)
    }

    /// Takes in one field; unknown fields belong to later versions and are skipped.
    fn take(&mut self, tag: u8, content: &[u8]) -> Result<(), Malformed> {
        let fixed = || content.try_into().map_err(|_| Malformed);
        let keyed = || content.try_into().map_err(|_| Malformed);
        let word = || text(content).map(Cow::Owned);
        match tag {
            tag::AT => self.at = time(content)?.0,
            tag::ID => self.id = word()?,
            tag::MESSAGE_ID => self.message_id = Some(keyed()?),
            tag::PERSON => self.person = Some(keyed()?),
            tag::CONTROLLER => self.controller = word()?,
            tag::MAILSTREAM => self.mailstream = word()?,
            tag::LISTENER => self.listener = word()?,
            tag::ROUTE => self.route = word()?,
            tag::RULE => self.rule = word()?,
            tag::VERSION => self.version = word()?,
            tag::CONSENT_RECORD => self.consent_record = Some(number(content)?),
            tag::DECIDED => self.decided = word()?,
            tag::DONE => self.done = word()?,
            tag::OBSERVED => self.observed = number(content)? != 0,
            tag::CONVERTED => self.converted = number(content)? != 0,
            tag::SHORTFALL => self.shortfall = Some(word()?),
            tag::FOUND => self.found = number(content)?,
            tag::REMOVED => self.removed = number(content)?,
            tag::SWAPPED => self.swapped = number(content)?,
            tag::SIGHTING => self.sightings.to_mut().push(Sighted::decode(content)?),
            tag::REPORT => self.reports.to_mut().push(Reported::decode(content)?),
            tag::BEFORE => self.before = Some(BodyHash::Sha256(fixed()?)),
            tag::AFTER => self.after = Some(BodyHash::Sha256(fixed()?)),
            tag::BEFORE_BLAKE3 => self.before = Some(BodyHash::Blake3(fixed()?)),
            tag::AFTER_BLAKE3 => self.after = Some(BodyHash::Blake3(fixed()?)),
            tag::RESULT => self.result = word()?,
            tag::CODE => self.code = u16::try_from(number(content)?).map_err(|_| Malformed)?,
            tag::QUEUE_ID => self.queue_id = Some(word()?),
            tag::LINKS => self.links = number(content)?,
            tag::LINKS_UNWRAPPED => self.links_unwrapped = number(content)?,
            tag::LINKS_GATED => self.links_gated = number(content)?,
            tag::LINKS_LEFT => self.links_left = number(content)?,
            tag::UNREADABLE => self.unreadable = number(content)?,
            tag::DOWNSTREAM => self.downstream = Some(word()?),
            tag::CAMPAIGN => self.campaign = Some(word()?),
            tag::STATUS => self.status = Some(word()?),
            tag::HEADLINE => self.headline = Some(Cow::Owned(content.to_vec())),
            _ => {}
        }
        Ok(())
    }

    /// Returns the jurisdiction: the part of the version before the slash.
    pub fn jurisdiction(&self) -> &str {
        self.version.split('/').next().unwrap_or_default()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn full() -> Record<'static> {
        Record {
            at: 1_795_000_000_123,
            id: "0123456789ab".into(),
            message_id: Some([1; 16]),
            person: Some([2; 16]),
            controller: "shop".into(),
            mailstream: "newsletter".into(),
            listener: "default".into(),
            route: "first,second".into(),
            rule: "refused".into(),
            version: "fr/2026-07-14".into(),
            consent_record: Some(77),
            decided: "swap_gated".into(),
            done: "strip".into(),
            observed: true,
            shortfall: Some("swap_needs_public_url".into()),
            found: 3,
            removed: 2,
            swapped: 1,
            links: 12,
            links_unwrapped: 7,
            links_gated: 2,
            links_left: 3,
            unreadable: 1,
            sightings: Cow::Owned(vec![
                Sighted { carrier: "img".into(), vendor: "SendGrid".into(), count: 2 },
                Sighted { carrier: "css".into(), vendor: "unknown".into(), count: 1 },
            ]),
            before: Some(BodyHash::Blake3([3; 32])),
            after: Some(BodyHash::Blake3([4; 32])),
            result: "accepted".into(),
            code: 250,
            status: Some("5.1.1".into()),
            queue_id: Some("4XyZ12".into()),
            downstream: Some("mailgun: off for the account".into()),
            converted: true,
            campaign: Some("autumn-sale".into()),
            headline: Some(Cow::Owned(vec![5; 40])),
            reports: Cow::Owned(vec![Reported {
                vendor: "SendGrid".into(),
                host: "click.shop.example".into(),
            }]),
        }
    }

    #[test]
    fn a_record_reads_back_whole() {
        assert_eq!(Record::decode(&full().encode()), Ok(full()));
        assert_eq!(full().jurisdiction(), "fr");
        let old = Record { before: Some(BodyHash::Sha256([3; 32])), after: None, ..full() };
        assert_eq!(Record::decode(&old.encode()), Ok(old));
        let empty = Record::default();
        assert_eq!(Record::decode(&empty.encode()), Ok(empty));
    }

    #[test]
    fn cut_or_foreign_bytes_are_no_record_and_later_fields_are_passed_over() {
        let bytes = full().encode();
        for end in 0..bytes.len() {
            assert_ne!(Record::decode(&bytes[..end]), Ok(full()));
        }
        assert_eq!(Record::decode(&[]), Err(BadRecord::Malformed));
        assert_eq!(Record::decode(&[2, 0]), Err(BadRecord::Format(2)));
        assert_eq!(Record::decode(&[1, tag::PERSON, 1, 0, 0, 0, 7]), Err(BadRecord::Malformed));
        assert_eq!(Record::decode(&[1, tag::SIGHTING, 1, 0, 0, 0, 7]), Err(BadRecord::Malformed));
        assert_eq!(Record::decode(&[1, tag::REPORT, 1, 0, 0, 0, 7]), Err(BadRecord::Malformed));
        let later = [&bytes[..], &[99, 1, 0, 0, 0, 7]].concat();
        assert_eq!(Record::decode(&later), Ok(full()));
    }
}
