//! The form in which messages travel. Version, kind, week, sender and id are in clear; the rest is sealed under
//! the key of the week, so that what carries it sees no person, no controller and no choice.

use std::time::Duration;

use bytes::Bytes;

use crate::chain::Head;
use crate::consent::ordered::{Name, Open, Opened, Step};
use crate::consent::{Day, Person, Timestamp};
use crate::engine::Kind;
use crate::fields::{Malformed, Writer, fields, number, text, time};
use crate::week::{Week, Weeks};

/// A relay of the cluster: 128 random bits, made when it joined.
pub type NodeId = [u8; 16];

/// The id of a message: 128 random bits.
pub type MessageId = [u8; 16];

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Something that changes stores.
    Step(Step),
    /// Where the sender stands.
    Mark(Mark),
    /// That the sender will make the key of a week: the first claim counts.
    Claim(Claim),
    /// That the sender will do something that is to be done once: the first claim counts.
    Once(Once),
    /// That the sender does something until another takes over, and how far it has come.
    Lease(Lease),
    /// That a relay is gone for good.
    Gone(NodeId),
    /// Opens that the sender has noted, and whether some were noted and are not told.
    Opens(Vec<Open>, bool),
}

/// A claim to something that is to be done once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Once {
    /// Its name.
    pub name: Name,
    /// How long the claim counts.
    pub within: Duration,
}

/// A claim to something that one relay does at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its name.
    pub name: Name,
    /// The position of the claim that this one takes over from; 0 if there was none.
    pub term: u64,
    /// How far the sender has come.
    pub number: u64,
}

/// A claim to make the key of a week.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The week.
    pub week: Week,
    /// Where the others can fetch it, as `host:port`.
    pub address: String,
}

/// Where a relay stands, so that others can compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The end of its journal's chain.
    pub head: Head,
    /// The version of its program.
    pub version: String,
    /// The fingerprint of what must be the same at all relays: rules, token key, formats.
    pub settings: [u8; 16],
    /// Where other relays reach the sender, as `host:port`; empty if nowhere.
    pub address: String,
    /// When it was sent, by the sender's clock.
    pub at: Timestamp,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The relay that published it.
    pub node: NodeId,
    /// Its id.
    pub id: MessageId,
    /// What it says.
    pub body: Body,
}

/// Why a message cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// It was written by a later version.
    #[error("a message of the common order has format {0}, which this version does not know")]
    Version(u8),
    /// It is not a message.
    #[error("a message of the common order is malformed")]
    Malformed,
    /// The key of its week is not here.
    #[error(
        "the key of week {0} is not known here; a relay that was away for more than eight days joins anew"
    )]
    NoKey(Week),
    /// It was sealed under another key, or altered.
    #[error("a message of the common order does not open with the key of its week")]
    NotOpened,
}

impl From<Malformed> for BadMessage {
    fn from(Malformed: Malformed) -> BadMessage {
        BadMessage::Malformed
    }
}

const FORMAT: u8 = 1;
const STEP: u8 = 1;
const MARK: u8 = 2;
const CLAIM: u8 = 3;
const ONCE: u8 = 4;
const OPENS: u8 = 5;
const LEASE: u8 = 6;
const GONE: u8 = 7;

/// Field numbers, which are never reused.
mod tag {
    pub(super) const KIND: u8 = 1;
    pub(super) const WEEK: u8 = 2;
    pub(super) const NODE: u8 = 3;
    pub(super) const ID: u8 = 4;
    pub(super) const SEALED: u8 = 5;
    pub(super) const HEAD: u8 = 6;
    pub(super) const VERSION: u8 = 7;
    pub(super) const SETTINGS: u8 = 8;
    pub(super) const AT: u8 = 9;
    pub(super) const ADDRESS: u8 = 10;
    pub(super) const NAME: u8 = 11;
    pub(super) const WITHIN: u8 = 12;
    pub(super) const OPEN: u8 = 13;
    pub(super) const IS_INCOMPLETE: u8 = 14;
    pub(super) const CONTROLLER: u8 = 15;
    pub(super) const MAILSTREAM: u8 = 16;
    pub(super) const PERSON: u8 = 17;
    pub(super) const CAMPAIGN: u8 = 18;
    pub(super) const COUNT: u8 = 19;
    pub(super) const DAY: u8 = 20;
    pub(super) const TERM: u8 = 21;
    pub(super) const NUMBER: u8 = 22;
    pub(super) const OTHER: u8 = 23;
}

/// Returns a random id.
///
/// # Errors
///
/// When there is no randomness.
pub fn fresh_id() -> std::io::Result<[u8; 16]> {
    let mut id = [0; 16];
    aws_lc_rs::rand::fill(&mut id).map_err(|_| std::io::Error::other("no randomness is available"))?;
    Ok(id)
}

impl Mark {
    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(FORMAT);
        writer.bytes(tag::HEAD, &self.head.encode());
        writer.text(tag::VERSION, Some(&self.version));
        writer.bytes(tag::SETTINGS, &self.settings);
        writer.time(tag::AT, Some(self.at));
        writer.text(tag::ADDRESS, Some(&self.address));
        writer.done()
    }

    fn decode(bytes: &[u8]) -> Result<Mark, BadMessage> {
        let fields = of_format(bytes)?;
        Ok(Mark {
            head: Head::decode(found(&fields, tag::HEAD)?).ok_or(BadMessage::Malformed)?,
            version: text(found(&fields, tag::VERSION)?)?,
            settings: exactly(found(&fields, tag::SETTINGS)?)?,
            at: time(found(&fields, tag::AT)?)?,
            address: text(found(&fields, tag::ADDRESS)?)?,
        })
    }
}

impl Claim {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(FORMAT);
        writer.number(tag::WEEK, u64::from(self.week));
        writer.text(tag::ADDRESS, Some(&self.address));
        writer.done()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Claim, BadMessage> {
        let fields = of_format(bytes)?;
        let week = number(found(&fields, tag::WEEK)?)?;
        let week = Week::try_from(week).map_err(|_| BadMessage::Malformed)?;
        Ok(Claim { week, address: text(found(&fields, tag::ADDRESS)?)? })
    }
}

impl Once {
    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(FORMAT);
        writer.bytes(tag::NAME, &self.name);
        writer.number(tag::WITHIN, self.within.as_secs());
        writer.done()
    }

    fn decode(bytes: &[u8]) -> Result<Once, BadMessage> {
        let fields = of_format(bytes)?;
        let within = Duration::from_secs(number(found(&fields, tag::WITHIN)?)?);
        Ok(Once { name: exactly(found(&fields, tag::NAME)?)?, within })
    }
}

impl Lease {
    fn encode(self) -> Vec<u8> {
        let mut writer = Writer::new(FORMAT);
        writer.bytes(tag::NAME, &self.name);
        writer.number(tag::TERM, self.term);
        writer.number(tag::NUMBER, self.number);
        writer.done()
    }

    fn decode(bytes: &[u8]) -> Result<Lease, BadMessage> {
        let fields = of_format(bytes)?;
        let (term, number) = (number(found(&fields, tag::TERM)?)?, number(found(&fields, tag::NUMBER)?)?);
        Ok(Lease { name: exactly(found(&fields, tag::NAME)?)?, term, number })
    }
}

fn encode_gone(node: &NodeId) -> Vec<u8> {
    let mut writer = Writer::new(FORMAT);
    writer.bytes(tag::OTHER, node);
    writer.done()
}

fn encode_opens(opens: &[Open], is_incomplete: bool) -> Vec<u8> {
    let mut writer = Writer::new(FORMAT);
    writer.bytes(tag::IS_INCOMPLETE, &[u8::from(is_incomplete)]);
    for open in opens {
        let mut entry = Writer::new(FORMAT);
        entry.text(tag::CONTROLLER, Some(&open.controller));
        entry.text(tag::MAILSTREAM, Some(&open.mailstream));
        entry.number(tag::DAY, u64::from(open.day.0));
        match &open.what {
            Opened::By(person) => entry.bytes(tag::PERSON, &person.0),
            Opened::Campaign(campaign, count) => {
                entry.bytes(tag::CAMPAIGN, campaign);
                entry.number(tag::COUNT, *count);
            }
        }
        writer.bytes(tag::OPEN, &entry.done());
    }
    writer.done()
}

fn decode_opens(bytes: &[u8]) -> Result<Body, BadMessage> {
    let fields = of_format(bytes)?;
    let is_incomplete = found(&fields, tag::IS_INCOMPLETE)? == [1];
    let entries = fields.iter().filter(|(tag, _)| *tag == tag::OPEN);
    let opens: Result<Vec<Open>, BadMessage> = entries.map(|(_, entry)| decode_open(entry)).collect();
    Ok(Body::Opens(opens?, is_incomplete))
}

fn decode_open(bytes: &[u8]) -> Result<Open, BadMessage> {
    let fields = of_format(bytes)?;
    let what = match found(&fields, tag::PERSON) {
        Ok(person) => Opened::By(Person(exactly(person)?)),
        Err(_) => {
            let count = number(found(&fields, tag::COUNT)?)?;
            Opened::Campaign(exactly(found(&fields, tag::CAMPAIGN)?)?, count)
        }
    };
    let day = u16::try_from(number(found(&fields, tag::DAY)?)?).map_err(|_| BadMessage::Malformed)?;
    Ok(Open {
        controller: text(found(&fields, tag::CONTROLLER)?)?,
        mailstream: text(found(&fields, tag::MAILSTREAM)?)?,
        what,
        day: Day(day),
    })
}

impl Message {
    /// Returns the kind that the engine may see.
    pub fn kind(&self) -> Kind {
        match &self.body {
            Body::Step(Step::Change(_) | Step::First { .. } | Step::Begin { .. }) => Kind::Change,
            Body::Step(Step::Key { .. }) => Kind::Key,
            Body::Step(Step::Erase { .. } | Step::Expire { .. }) => Kind::Erase,
            Body::Mark(_) | Body::Claim(_) | Body::Once(_) | Body::Lease(_) | Body::Gone(_) => Kind::Mark,
            Body::Opens(..) => Kind::Opens,
        }
    }

    /// Seals the message under the key of a week.
    ///
    /// # Errors
    ///
    /// When the key of the week is not here.
    pub fn seal(&self, week: Week, weeks: &Weeks) -> Result<Bytes, BadMessage> {
        let sealer = weeks.sealer(week).ok_or(BadMessage::NoKey(week))?;
        let (kind, plain) = match &self.body {
            Body::Step(step) => (STEP, step.encode()),
            Body::Mark(mark) => (MARK, mark.encode()),
            Body::Claim(claim) => (CLAIM, claim.encode()),
            Body::Once(once) => (ONCE, once.encode()),
            Body::Lease(lease) => (LEASE, lease.encode()),
            Body::Gone(node) => (GONE, encode_gone(node)),
            Body::Opens(opens, is_incomplete) => (OPENS, encode_opens(opens, *is_incomplete)),
        };
        let mut writer = Writer::new(FORMAT);
        writer.bytes(tag::KIND, &[kind]);
        writer.number(tag::WEEK, u64::from(week));
        writer.bytes(tag::NODE, &self.node);
        writer.bytes(tag::ID, &self.id);
        let sealed = sealer.seal(&plain, &place(kind, week, &self.node, &self.id));
        writer.bytes(tag::SEALED, &sealed);
        Ok(writer.done().into())
    }

    /// Opens a message.
    ///
    /// # Errors
    ///
    /// When it is malformed, of a later version, or cannot be opened.
    pub fn open(bytes: &[u8], weeks: &Weeks) -> Result<Message, BadMessage> {
        let fields = of_format(bytes)?;
        let kind = *found(&fields, tag::KIND)?.first().ok_or(BadMessage::Malformed)?;
        let week = Week::try_from(number(found(&fields, tag::WEEK)?)?).map_err(|_| BadMessage::Malformed)?;
        let (node, id) = (exactly(found(&fields, tag::NODE)?)?, exactly(found(&fields, tag::ID)?)?);
        let sealer = weeks.sealer(week).ok_or(BadMessage::NoKey(week))?;
        let plain = sealer
            .open(found(&fields, tag::SEALED)?, &place(kind, week, &node, &id))
            .map_err(|_| BadMessage::NotOpened)?;
        let body = match kind {
            STEP => Body::Step(Step::decode(&plain).map_err(|bad| match bad {
                crate::consent::record::BadRecord::Version(version) => BadMessage::Version(version),
                crate::consent::record::BadRecord::Malformed => BadMessage::Malformed,
            })?),
            MARK => Body::Mark(Mark::decode(&plain)?),
            CLAIM => Body::Claim(Claim::decode(&plain)?),
            ONCE => Body::Once(Once::decode(&plain)?),
            LEASE => Body::Lease(Lease::decode(&plain)?),
            GONE => Body::Gone(exactly(found(&of_format(&plain)?, tag::OTHER)?)?),
            OPENS => decode_opens(&plain)?,
            later => return Err(BadMessage::Version(later)),
        };
        Ok(Message { node, id, body })
    }
}

/// What is in clear is tied to what is sealed.
fn place(kind: u8, week: Week, node: &NodeId, id: &MessageId) -> Vec<u8> {
    [&[FORMAT, kind][..], &week.to_le_bytes(), node, id].concat()
}

fn of_format(bytes: &[u8]) -> Result<Vec<(u8, &[u8])>, BadMessage> {
    match bytes.split_first() {
        Some((&FORMAT, rest)) => Ok(fields(rest)?),
        Some((&other, _)) => Err(BadMessage::Version(other)),
        None => Err(BadMessage::Malformed),
    }
}

fn found<'a>(fields: &[(u8, &'a [u8])], wanted: u8) -> Result<&'a [u8], BadMessage> {
    let found = fields.iter().find(|(tag, _)| *tag == wanted);
    found.map(|(_, content)| *content).ok_or(BadMessage::Malformed)
}

fn exactly<const LENGTH: usize>(content: &[u8]) -> Result<[u8; LENGTH], BadMessage> {
    content.try_into().map_err(|_| BadMessage::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consent::StoreKey;

    #[test]
    fn only_the_key_of_the_week_opens_a_message_and_nothing_of_it_can_be_altered() {
        let folder = tempfile::tempdir().unwrap();
        let weeks = Weeks::open(&folder.path().join("weeks"), &StoreKey::new([7; 32])).unwrap();
        weeks.make(5).unwrap();
        let erase = Step::Erase { person: Person([9; 16]), at: Timestamp(3) };
        let mark = Mark {
            head: Head { count: 7, hash: [3; 32] },
            version: "1.2.3".to_owned(),
            settings: [4; 16],
            address: "relay:7440".to_owned(),
            at: Timestamp(8),
        };
        let claim = Claim { week: 6, address: "relay:7440".to_owned() };
        let once = Once { name: [9; 16], within: Duration::from_secs(900) };
        let lease = Body::Lease(Lease { name: [9; 16], term: 70, number: 12 });
        let open = |what| Open {
            controller: "shop".to_owned(),
            mailstream: "news".to_owned(),
            what,
            day: Day(20_000),
        };
        let opens = vec![open(Opened::By(Person([9; 16]))), open(Opened::Campaign([4; 8], 3))];
        let opens = Body::Opens(opens, true);
        let bodies = [
            Body::Step(erase),
            Body::Mark(mark),
            Body::Claim(claim),
            Body::Once(once),
            opens,
            lease,
            Body::Gone([9; 16]),
        ];
        for body in bodies {
            let message = Message { node: [1; 16], id: [2; 16], body };
            let bytes = message.seal(5, &weeks).unwrap();
            assert_eq!(Message::open(&bytes, &weeks), Ok(message.clone()));
            assert!(!bytes.windows(16).any(|window| window == [9; 16]));
            for place in 0..bytes.len() {
                let mut altered = bytes.to_vec();
                altered[place] ^= 1;
                assert_ne!(Message::open(&altered, &weeks), Ok(message.clone()), "byte {place}");
                assert!(Message::open(&bytes[..place], &weeks).is_err());
            }
            assert_eq!(message.seal(6, &weeks), Err(BadMessage::NoKey(6)));
        }
    }
}
