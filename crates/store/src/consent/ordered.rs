//! The common order of several relays: messages that each applies to its store, one after another.
//!
//! Promised: what a message does depends on the messages before it and on nothing else, neither on a clock nor
//! on the relay. So all journals that follow one order have the same records, and their chains can be compared.

use std::time::Duration;

use super::days::{Campaign, Day};
use super::index::Indexed;
use super::journal::Head;
use super::person::{Person, StoreKey};
use super::record::{BadRecord, Change, Epoch, Record, Timing};
use super::seal::Sealer;
use super::standing::Standing;
use super::store::{Ack, Applied, Condition, StoreError};
use super::timestamp::Timestamp;
use crate::fields::{Writer, fields, number, time};

/// A message of the common order.
#[derive(Clone, PartialEq, Eq)]
pub enum Step {
    /// The order begins; every journal that follows it has this head before.
    Begin {
        /// The beginning.
        epoch: Epoch,
        /// The end of the chain before it.
        head: Head,
    },
    /// A person gets an id and a key. The first one counts.
    Key {
        /// The person.
        person: Person,
        /// The id used in the journal.
        id: [u8; 16],
        /// The key of the details.
        key: [u8; 32],
    },
    /// Somebody said something.
    Change(Box<Ordered>),
    /// Somebody new said something: they get the id of the record and this key, unless they have one, and if that id
    /// counts, the change is recorded.
    First {
        /// The key of the details.
        key: [u8; 32],
        /// What they said.
        change: Box<Ordered>,
    },
    /// A person is erased.
    Erase {
        /// The person.
        person: Person,
        /// When that was requested.
        at: Timestamp,
    },
    /// People about whom nothing was heard for long are erased, unless something was recorded meanwhile.
    Expire {
        /// The people.
        people: Vec<Expired>,
        /// When they were found.
        at: Timestamp,
    },
}

impl std::fmt::Debug for Step {
    /// Keys appear in no message of the program.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Step::Begin { .. } => "Begin",
            Step::Key { .. } => "Key(…)",
            Step::Change(_) => "Change",
            Step::First { .. } => "First(…)",
            Step::Erase { .. } => "Erase",
            Step::Expire { .. } => "Expire",
        })
    }
}

/// A change in the common order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ordered {
    /// The person.
    pub person: Person,
    /// The record as it will be, but for its times, which follow from what was said before it.
    pub record: Record,
    /// The source of its time.
    pub timing: Timing,
    /// The newest record about the person and the controller that is expected; 0 for none. With another one
    /// nothing is recorded.
    pub expected: Option<u64>,
}

/// A person to be erased, if nothing was recorded since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expired {
    /// The id of the person.
    pub(super) id: [u8; 16],
    /// The key in the index.
    pub(super) key: Vec<u8>,
    /// The number of the newest record.
    pub(super) newest: u64,
}

/// What applying a message came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The change.
    Change(Applied),
    /// The person of the change was erased before it, or has another id: nothing was recorded.
    Gone,
    /// The person has an id and a key.
    Key,
    /// Whether the journal knew the erased person.
    Erased(bool),
    /// How many people were erased.
    Expired(u64),
    /// The order has begun here.
    Begun,
    /// Whether the claim to a name was the first one.
    First(bool),
    /// Whether the relay holds the lease that it claimed.
    Held(bool),
    /// It was applied before.
    Before,
}

/// What was requested of the store. Without a common order, the store does it by itself.
pub enum Said {
    /// Changes, in order.
    Changes(Vec<(Person, Change)>, Ack<Vec<Applied>>),
    /// A change under a condition.
    ChangeIf(Box<(Person, Change)>, Condition, Ack<Applied>),
    /// The erasure of a person.
    Erase(Person, Ack<bool>),
    /// The erasure of people about whom nothing was heard for long.
    Expire(Vec<Expired>, Ack<u64>),
    /// Whether this is the first claim to a name within this time.
    Once(Name, Duration, Ack<bool>),
    /// Whether this relay holds a lease, having taken over from the claim at this position, and come as far as this
    /// number.
    Lease(Name, u64, u64, Ack<bool>),
}

/// The name of something that is done at one relay only: a keyed hash.
pub type Name = [u8; 16];

impl std::fmt::Debug for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Said::Changes(..) => "Changes",
            Said::ChangeIf(..) => "ChangeIf",
            Said::Erase(..) => "Erase",
            Said::Expire(..) => "Expire",
            Said::Once(..) => "Once",
            Said::Lease(..) => "Lease",
        })
    }
}

impl Said {
    /// Returns how many changes it contains.
    pub(super) fn size(&self) -> usize {
        match self {
            Said::Changes(changes, _) => changes.len(),
            Said::ChangeIf(..) | Said::Erase(..) | Said::Expire(..) | Said::Once(..) | Said::Lease(..) => 1,
        }
    }
}

/// What brings requests into the common order, and knows whether this relay has heard the others lately.
pub trait Order: Send + Sync {
    /// Returns whether grants count: whether this relay can prove that it knows everything that was said until
    /// a short while ago.
    fn is_fresh(&self) -> bool;

    /// Brings a request into the order, and answers it once that is applied here.
    fn submit(&self, said: Said);

    /// Returns how something stands that one relay does at a time.
    fn leased(&self, name: &Name) -> Leased;

    /// Tells the other relays of an open that was noted here, when there is time.
    fn opened(&self, open: Open);
}

/// How something stands that one relay does at a time, as far as this relay has heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leased {
    /// The position of the claim that counts; 0 if there was none.
    pub term: u64,
    /// Whether this relay made it.
    pub is_here: bool,
    /// How far whoever does it has come.
    pub number: u64,
    /// How long ago this relay heard that claim; since it started, if it has not.
    pub since: Duration,
}

/// An open that needs no consent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The controller.
    pub controller: String,
    /// The kind of mail.
    pub mailstream: String,
    /// What was opened.
    pub what: Opened,
    /// When, to the day.
    pub day: Day,
}

/// What was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Opened {
    /// Something by this person: only the day of the last time counts.
    By(Person),
    /// A campaign, so often, by nobody in particular.
    Campaign(Campaign, u64),
}

/// What holds here already, and is not in the common order yet. It can only make things stricter.
#[derive(Clone, Debug)]
pub enum Heard {
    /// A change.
    Change(Person, Box<Change>),
    /// An erasure.
    Erase(Person),
}

impl Heard {
    /// Returns the person.
    pub fn person(&self) -> Person {
        match self {
            Heard::Change(person, _) | Heard::Erase(person) => *person,
        }
    }
}

/// What is known about a person towards a controller, to judge a condition.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The current consent.
    pub standing: Standing,
    /// The number of the newest record; 0 if there is none.
    pub newest: u64,
}

impl Judged {
    pub(super) fn of(indexed: Option<&Indexed>) -> Judged {
        indexed.map_or_else(
            || Judged { standing: Standing::unknown(), newest: 0 },
            |indexed| Judged { standing: indexed.standing.clone(), newest: indexed.trail.newest() },
        )
    }
}

const FORMAT: u8 = 1;
const BEGIN: u8 = 1;
const KEY: u8 = 2;
const CHANGE: u8 = 3;
const ERASE: u8 = 4;
const EXPIRE: u8 = 5;
const FIRST: u8 = 6;

/// Field numbers, which are never reused.
mod tag {
    pub(super) const KIND: u8 = 1;
    pub(super) const PERSON: u8 = 2;
    pub(super) const ID: u8 = 3;
    pub(super) const KEY: u8 = 4;
    pub(super) const RECORD: u8 = 5;
    pub(super) const IS_NOW: u8 = 6;
    pub(super) const EXPECTED: u8 = 7;
    pub(super) const AT: u8 = 8;
    pub(super) const EXPIRED: u8 = 9;
    pub(super) const EPOCH: u8 = 10;
    pub(super) const HEAD: u8 = 11;
}

impl Step {
    /// Returns whether it depends on what the store has, so that all earlier messages must be durable.
    pub(super) fn needs_the_ones_before(&self) -> bool {
        match self {
            Step::Begin { .. } | Step::Erase { .. } | Step::Expire { .. } => true,
            Step::Change(ordered) | Step::First { change: ordered, .. } => ordered.expected.is_some(),
            Step::Key { .. } => false,
        }
    }

    /// Returns the bytes, which contain keys and people: they leave the relay only sealed.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(FORMAT);
        match self {
            Step::Begin { epoch, head } => {
                writer.bytes(tag::KIND, &[BEGIN]);
                writer.number(tag::EPOCH, epoch.number);
                writer.time(tag::AT, Some(epoch.at));
                writer.bytes(tag::HEAD, &head.encode());
            }
            Step::Key { person, id, key } => {
                writer.bytes(tag::KIND, &[KEY]);
                writer.bytes(tag::PERSON, &person.0);
                writer.bytes(tag::ID, id);
                writer.bytes(tag::KEY, key);
            }
            Step::Change(ordered) => {
                writer.bytes(tag::KIND, &[CHANGE]);
                ordered.encode(&mut writer);
            }
            Step::First { key, change } => {
                writer.bytes(tag::KIND, &[FIRST]);
                writer.bytes(tag::KEY, key);
                change.encode(&mut writer);
            }
            Step::Erase { person, at } => {
                writer.bytes(tag::KIND, &[ERASE]);
                writer.bytes(tag::PERSON, &person.0);
                writer.time(tag::AT, Some(*at));
            }
            Step::Expire { people, at } => {
                writer.bytes(tag::KIND, &[EXPIRE]);
                writer.time(tag::AT, Some(*at));
                for person in people {
                    let newest = person.newest.to_le_bytes();
                    writer.bytes(tag::EXPIRED, &[&person.id[..], &newest, &person.key].concat());
                }
            }
        }
        writer.done()
    }

    /// Reads the bytes.
    ///
    /// # Errors
    ///
    /// When they are malformed, or of a later version.
    pub fn decode(bytes: &[u8]) -> Result<Step, BadRecord> {
        let (&format, rest) = bytes.split_first().ok_or(BadRecord::Malformed)?;
        if format != FORMAT {
            return Err(BadRecord::Version(format));
        }
        let fields = fields(rest)?;
        let of = |wanted: u8| {
            let found = fields.iter().find(|(tag, _)| *tag == wanted);
            found.map(|(_, content)| *content).ok_or(BadRecord::Malformed)
        };
        let person = || exactly::<16>(of(tag::PERSON)?).map(Person);
        let at = || Ok::<_, BadRecord>(time(of(tag::AT)?)?);
        match of(tag::KIND)? {
            [BEGIN] => {
                let head = Head::decode(of(tag::HEAD)?).ok_or(BadRecord::Malformed)?;
                Ok(Step::Begin { epoch: Epoch { number: number(of(tag::EPOCH)?)?, at: at()? }, head })
            }
            [KEY] => {
                let (id, key) = (exactly(of(tag::ID)?)?, exactly(of(tag::KEY)?)?);
                Ok(Step::Key { person: person()?, id, key })
            }
            [kind @ (CHANGE | FIRST)] => {
                let timing = if of(tag::IS_NOW)? == [1] { Timing::Now } else { Timing::Claimed };
                let expected = of(tag::EXPECTED).ok().map(number).transpose()?;
                let record = Record::decode(of(tag::RECORD)?)?;
                let change = Box::new(Ordered { person: person()?, record, timing, expected });
                match *kind {
                    FIRST => Ok(Step::First { key: exactly(of(tag::KEY)?)?, change }),
                    _ => Ok(Step::Change(change)),
                }
            }
            [ERASE] => Ok(Step::Erase { person: person()?, at: at()? }),
            [EXPIRE] => {
                let people = fields.iter().filter(|(tag, _)| *tag == tag::EXPIRED);
                let people: Result<Vec<Expired>, BadRecord> =
                    people.map(|(_, content)| Expired::decode(content)).collect();
                Ok(Step::Expire { people: people?, at: at()? })
            }
            // What this version does not know changes the store in a way that it would miss.
            [later, ..] => Err(BadRecord::Version(*later)),
            [] => Err(BadRecord::Malformed),
        }
    }

    /// Returns the first change about a person, under a random id and with details sealed under a random key.
    ///
    /// # Errors
    ///
    /// When there is no randomness.
    pub fn first(
        person: Person,
        change: &Change,
        now: Timestamp,
        timing: Timing,
        expected: Option<u64>,
    ) -> Result<Step, StoreError> {
        let (id, key) = super::keys::fresh(now)
            .map_err(|source| StoreError::Io { what: "a new key".to_owned(), source })?;
        let record = Record::new(id, &Sealer::new(&key), now, change);
        Ok(Step::First { key, change: Box::new(Ordered { person, record, timing, expected }) })
    }
}

impl Ordered {
    fn encode(&self, writer: &mut Writer) {
        writer.bytes(tag::PERSON, &self.person.0);
        writer.bytes(tag::RECORD, &self.record.encode());
        writer.bytes(tag::IS_NOW, &[u8::from(self.timing == Timing::Now)]);
        if let Some(expected) = self.expected {
            writer.number(tag::EXPECTED, expected);
        }
    }
}

impl Expired {
    fn decode(content: &[u8]) -> Result<Expired, BadRecord> {
        let (id, rest) = content.split_first_chunk::<16>().ok_or(BadRecord::Malformed)?;
        let (newest, key) = rest.split_first_chunk::<8>().ok_or(BadRecord::Malformed)?;
        Ok(Expired { id: *id, newest: u64::from_le_bytes(*newest), key: key.to_vec() })
    }
}

fn exactly<const LENGTH: usize>(content: &[u8]) -> Result<[u8; LENGTH], BadRecord> {
    content.try_into().map_err(|_| BadRecord::Malformed)
}

/// Seals what waits to be brought into the common order, in a file of the relay that heard it.
#[derive(Debug)]
pub struct Waiting<'a>(pub &'a StoreKey);

impl Waiting<'_> {
    fn sealer(&self) -> Sealer {
        Sealer::new(&self.0.derived("waiting for the common order"))
    }

    /// Returns the bytes for the file.
    pub fn seal(&self, heard: &Heard, id: &[u8; 16]) -> Vec<u8> {
        let step = match heard {
            Heard::Erase(person) => Step::Erase { person: *person, at: Timestamp(0) },
            Heard::Change(person, change) => {
                // The details are sealed with everything else: the person may have no key yet.
                let record = Record::new(*id, &self.sealer(), change.event_at, change);
                let (person, timing) = (*person, change.timing);
                Step::Change(Box::new(Ordered { person, record, timing, expected: None }))
            }
        };
        self.sealer().seal(&step.encode(), id)
    }

    /// Opens them; `None` if they cannot be opened.
    pub fn open(&self, bytes: &[u8], id: &[u8; 16]) -> Option<Heard> {
        match Step::decode(&self.sealer().open(bytes, id).ok()?).ok()? {
            Step::Erase { person, .. } => Some(Heard::Erase(person)),
            Step::Change(ordered) => {
                let details = ordered.record.details(&self.sealer()).ok()?;
                let change = Change { details, timing: ordered.timing, ..ordered.record.change };
                Some(Heard::Change(ordered.person, Box::new(change)))
            }
            Step::Begin { .. } | Step::Key { .. } | Step::First { .. } | Step::Expire { .. } => None,
        }
    }
}
