//! Summaries of closed segments, so that a query need not open those without a match.
//!
//! A hint and not proof: `evidence verify` rebuilds each and compares.

use std::collections::{BTreeMap, BTreeSet};

use super::record::{Record, Tag};
use crate::consent::Timestamp;
use crate::fields::{Malformed, Writer, fields, text, time};

/// The format written by this version; the first byte.
const FORMAT: u8 = 1;
/// The maximum number of listed names of one kind; with more, the segment may contain any.
const MAX_NAMES: usize = 256;
/// The filter's bits per tag, and how many of them it sets: one in a hundred segments is opened in vain.
const BITS_EACH: usize = 10;
const HASHES: u64 = 7;

/// Field numbers, which are never reused.
mod tag {
    pub(super) const FIRST: u8 = 1;
    pub(super) const LAST: u8 = 2;
    pub(super) const CONTROLLER: u8 = 3;
    pub(super) const MAILSTREAM: u8 = 4;
    pub(super) const OUTCOME: u8 = 5;
    pub(super) const VENDOR: u8 = 6;
    pub(super) const ANY: u8 = 7;
    pub(super) const FILTER: u8 = 8;
}

/// The summary of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The time of its oldest record; `None` if it has none.
    pub first: Option<Timestamp>,
    /// The time of its newest record.
    pub last: Option<Timestamp>,
    /// The names in it.
    names: BTreeSet<(u8, String)>,
    /// Kinds with too many names to list.
    any: BTreeSet<u8>,
    filter: Filter,
}

/// A kind of name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// A controller.
    Controller,
    /// A mailstream.
    Mailstream,
    /// An outcome that was decided or done.
    Outcome,
    /// A vendor.
    Vendor,
}

impl FieldKind {
    const ALL: [FieldKind; 4] =
        [FieldKind::Controller, FieldKind::Mailstream, FieldKind::Outcome, FieldKind::Vendor];

    const fn tag(self) -> u8 {
        match self {
            FieldKind::Controller => tag::CONTROLLER,
            FieldKind::Mailstream => tag::MAILSTREAM,
            FieldKind::Outcome => tag::OUTCOME,
            FieldKind::Vendor => tag::VENDOR,
        }
    }
}

/// Collects a summary while a segment is read.
#[derive(Debug, Default)]
pub struct Gathering {
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    names: BTreeMap<u8, BTreeSet<String>>,
    tags: BTreeSet<Tag>,
}

impl Gathering {
    /// Takes in a record.
    pub fn take(&mut self, record: &Record<'_>) {
        let at = Timestamp(record.at);
        self.first = Some(self.first.map_or(at, |first| first.min(at)));
        self.last = Some(self.last.map_or(at, |last| last.max(at)));
        self.tags.extend(record.person.iter().chain(record.message_id.iter()));
        self.name(FieldKind::Controller, &record.controller);
        self.name(FieldKind::Mailstream, &record.mailstream);
        self.name(FieldKind::Outcome, &record.decided);
        self.name(FieldKind::Outcome, &record.done);
        record.sightings.iter().for_each(|sighting| self.name(FieldKind::Vendor, &sighting.vendor));
    }

    fn name(&mut self, kind: FieldKind, name: &str) {
        let known = self.names.entry(kind.tag()).or_default();
        // One too many shows that there are too many.
        if !known.contains(name) && known.len() <= MAX_NAMES {
            known.insert(name.to_owned());
        }
    }

    /// Returns the summary.
    pub fn done(self) -> Summary {
        let (many, few): (Vec<_>, Vec<_>) =
            self.names.into_iter().partition(|(_, names)| names.len() > MAX_NAMES);
        let any = many.into_iter().map(|(kind, _)| kind).collect();
        let names = few
            .into_iter()
            .flat_map(|(kind, names)| names.into_iter().map(move |name| (kind, name)))
            .collect();
        Summary { first: self.first, last: self.last, names, any, filter: Filter::of(&self.tags) }
    }
}

impl Summary {
    /// Returns whether a record with this tag may be in the segment.
    pub fn may_have(&self, tag: &Tag) -> bool {
        self.filter.may_have(tag)
    }

    /// Returns whether a record with this name may be in the segment.
    pub fn may_name(&self, kind: FieldKind, name: &str) -> bool {
        self.any.contains(&kind.tag()) || self.names.contains(&(kind.tag(), name.to_owned()))
    }

    /// Returns whether a vendor with this name may be in the segment, ignoring case.
    pub fn may_name_vendor(&self, name: &str) -> bool {
        self.any.contains(&tag::VENDOR)
            || self.names.iter().any(|(kind, value)| *kind == tag::VENDOR && value.eq_ignore_ascii_case(name))
    }

    /// Returns the bytes for its file.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(FORMAT);
        writer.time(tag::FIRST, self.first);
        writer.time(tag::LAST, self.last);
        self.names.iter().for_each(|(kind, name)| writer.text(*kind, Some(name)));
        self.any.iter().for_each(|kind| writer.bytes(tag::ANY, &[*kind]));
        writer.bytes(tag::FILTER, &self.filter.0);
        let mut bytes = writer.done();
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    /// Reads the bytes; `None` if they are malformed or damaged: then the segment itself must be read.
    pub fn decode(bytes: &[u8]) -> Option<Summary> {
        let (content, crc) = bytes.split_last_chunk::<4>()?;
        if crc32fast::hash(content) != u32::from_le_bytes(*crc) {
            return None;
        }
        let (&FORMAT, rest) = content.split_first()? else { return None };
        Summary::read(rest).ok()
    }

    fn read(bytes: &[u8]) -> Result<Summary, Malformed> {
        let (mut first, mut last) = (None, None);
        let (mut names, mut any, mut filter) = (BTreeSet::new(), BTreeSet::new(), Filter(Vec::new()));
        for (tag, content) in fields(bytes)? {
            match tag {
                tag::FIRST => first = Some(time(content)?),
                tag::LAST => last = Some(time(content)?),
                tag::ANY => any.extend(content.first()),
                tag::FILTER => filter = Filter(content.to_vec()),
                kind if FieldKind::ALL.iter().any(|known| known.tag() == kind) => {
                    names.insert((kind, text(content)?));
                }
                _ => {}
            }
        }
        Ok(Summary { first, last, names, any, filter })
    }
}

/// A Bloom filter of tags, which are keyed hashes already.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Filter(Vec<u8>);

impl Filter {
    fn of(tags: &BTreeSet<Tag>) -> Filter {
        let mut bits = vec![0u8; (tags.len() * BITS_EACH).div_ceil(8)];
        for tag in tags {
            for bit in places(tag, bits.len()) {
                if let Some(byte) = bits.get_mut(bit / 8) {
                    *byte |= 1 << (bit % 8);
                }
            }
        }
        Filter(bits)
    }

    fn may_have(&self, tag: &Tag) -> bool {
        !self.0.is_empty()
            && places(tag, self.0.len())
                .all(|bit| self.0.get(bit / 8).is_some_and(|byte| byte & (1 << (bit % 8)) != 0))
    }
}

/// Returns the bits of a tag.
fn places(tag: &Tag, bytes: usize) -> impl Iterator<Item = usize> {
    let half =
        |at: usize| tag.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes);
    let (one, other) = (half(0), half(8) | 1);
    let bits = (bytes as u64 * 8).max(1);
    (0..HASHES).map(move |index| (one.wrapping_add(other.wrapping_mul(index)) % bits) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::record::tests::full;

    fn tag(number: u32) -> Tag {
        crate::consent::StoreKey::new([3; 32]).tag(&[&number.to_le_bytes()])
    }

    #[test]
    fn it_has_what_the_records_have_and_seldom_more() {
        let mut gathering = Gathering::default();
        for number in 0..2000 {
            let person = Some(tag(number));
            gathering.take(&Record { person, at: 5 + i64::from(number), message_id: None, ..full() });
        }
        let summary = gathering.done();
        assert_eq!((summary.first, summary.last), (Some(Timestamp(5)), Some(Timestamp(2004))));
        assert!((0..2000).all(|number| summary.may_have(&tag(number))));
        let wrong = (2000..12_000).filter(|number| summary.may_have(&tag(*number))).count();
        assert!(wrong < 300, "{wrong}");
        assert!(
            summary.may_name(FieldKind::Vendor, "SendGrid")
                && !summary.may_name(FieldKind::Vendor, "Mailgun")
        );
        assert!(
            summary.may_name(FieldKind::Outcome, "strip")
                && summary.may_name(FieldKind::Outcome, "swap_gated")
        );
        assert!(!summary.may_name(FieldKind::Controller, "newsletter"));
        assert_eq!(Summary::decode(&summary.encode()), Some(summary));
    }

    #[test]
    fn of_too_many_names_any_may_be_there() {
        let mut gathering = Gathering::default();
        for number in 0..3000 {
            gathering.take(&Record { controller: format!("c{number}").into(), ..full() });
        }
        let summary = gathering.done();
        assert!(summary.may_name(FieldKind::Controller, "another"));
        assert!(!summary.may_name(FieldKind::Mailstream, "another"));
        assert_eq!(Summary::decode(&summary.encode()), Some(summary));
    }

    #[test]
    fn a_damaged_one_is_none() {
        let mut gathering = Gathering::default();
        gathering.take(&full());
        let bytes = gathering.done().encode();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Summary::decode(&damaged), None, "{bit}");
        }
        assert_eq!(Summary::decode(&[]), None);
    }
}
