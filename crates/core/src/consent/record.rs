//! An entry of the journal: what a person said, when, how, and the proof of it (N21).

use super::person::Controller;
use super::seal::{NotOpened, Sealer};
use super::timestamp::Timestamp;
use crate::fields::{Malformed, Writer, fields, number, text, time};
use crate::policy::Purpose;

/// What a person has said about a purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum State {
    /// Never asked.
    NeverAsked = 0,
    /// Asked, without an answer.
    Asked = 1,
    /// Granted.
    Granted = 2,
    /// Refused.
    Refused = 3,
    /// Granted once, and withdrawn.
    Withdrawn = 4,
    /// Objected to an exempt use.
    Objected = 5,
}

impl State {
    /// All states.
    pub const ALL: [State; 6] =
        [State::NeverAsked, State::Asked, State::Granted, State::Refused, State::Withdrawn, State::Objected];

    /// Returns the name used in files and interfaces.
    pub const fn name(self) -> &'static str {
        match self {
            State::NeverAsked => "never_asked",
            State::Asked => "asked",
            State::Granted => "granted",
            State::Refused => "refused",
            State::Withdrawn => "withdrawn",
            State::Objected => "objected",
        }
    }

    /// Returns the state with this name.
    pub fn named(name: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.name() == name)
    }

    pub(super) fn from_number(number: u8) -> Option<State> {
        State::ALL.into_iter().find(|state| *state as u8 == number)
    }

    /// Returns whether it is a yes or a no, rather than silence.
    pub fn is_answer(self) -> bool {
        self >= State::Granted
    }

    /// Returns whether the person said no, in whatever way.
    pub fn is_no(self) -> bool {
        matches!(self, State::Refused | State::Withdrawn | State::Objected)
    }

    /// Returns whether the person withdrew or objected: only a later grant with proof supersedes that.
    pub fn is_withdrawal(self) -> bool {
        matches!(self, State::Withdrawn | State::Objected)
    }
}

/// How far a choice reaches, as whoever collected it announced. The relay applies it to the address in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// It is about this address.
    Address,
    /// It is about a whole account: all of its devices and programs.
    Account,
}

impl Scope {
    /// Both.
    pub const ALL: [Scope; 2] = [Scope::Address, Scope::Account];

    /// Returns the name used in records and interfaces.
    pub const fn name(self) -> &'static str {
        match self {
            Scope::Address => "address",
            Scope::Account => "account",
        }
    }

    /// Returns the scope of this name.
    pub fn named(name: &str) -> Option<Scope> {
        Scope::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

/// Details of the person or the occasion; encrypted under the person's key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// The method: a form, a call, a link.
    pub method: Option<String>,
    /// The channel: web, mail, shop.
    pub channel: Option<String>,
    /// The version of the notice that was shown (N20).
    pub notice_version: Option<String>,
    /// The SHA-256 of the exact text that was shown, in hexadecimal.
    pub text_hash: Option<String>,
    /// A reference to the proof of consent (N22).
    pub evidence: Option<String>,
    /// The person or program that entered it.
    pub actor: Option<String>,
    /// The controller's name for the person.
    pub external_id: Option<String>,
    /// How far the choice reaches, where whoever collected it said so.
    pub scope: Option<Scope>,
}

/// The source of a change's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timing {
    /// The time was given.
    Claimed,
    /// It is said now: the store gives it a time after everything known, whatever the clock did.
    Now,
}

/// Whether there is proof for a record (N22).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// There is proof.
    Given,
    /// There is no proof.
    Missing,
    /// The record is from a version that did not note it in clear.
    Unknown,
}

/// A change to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The controller.
    pub controller: Controller,
    /// The purposes concerned.
    pub purposes: Vec<Purpose>,
    /// The new state.
    pub state: State,
    /// When it was said.
    pub event_at: Timestamp,
    /// The source of that time.
    pub timing: Timing,
    /// The claimed time, if it could not be used because it or the current state was ahead of the clock.
    pub claimed_at: Option<Timestamp>,
    /// When the person was asked.
    pub asked_at: Option<Timestamp>,
    /// When the notice was sent (N29).
    pub notice_sent_at: Option<Timestamp>,
    /// When the address was collected (N29).
    pub collected_at: Option<Timestamp>,
    /// When a grant expires.
    pub expires: Option<Timestamp>,
    /// The time before which the person must not be asked again (N19).
    pub do_not_ask_before: Option<Timestamp>,
    /// The jurisdiction whose rules apply to the person (N5).
    pub jurisdiction: Option<String>,
    /// Whether the person must never be tracked (N32).
    pub no_track: Option<bool>,
    /// Whether it came as a grant, which does not count since nothing proves it (N22).
    pub is_unproved_grant: bool,
    /// The details.
    pub details: Details,
}

impl Change {
    /// Creates a change with nothing but the required fields.
    pub fn new(controller: Controller, purposes: Vec<Purpose>, state: State, event_at: Timestamp) -> Change {
        Change {
            controller,
            purposes,
            state,
            event_at,
            timing: Timing::Claimed,
            claimed_at: None,
            asked_at: None,
            notice_sent_at: None,
            collected_at: None,
            expires: None,
            do_not_ask_before: None,
            jurisdiction: None,
            no_track: None,
            is_unproved_grant: false,
            details: Details::default(),
        }
    }

    /// Creates a change that is said now.
    pub fn now(controller: Controller, purposes: Vec<Purpose>, state: State) -> Change {
        Change { timing: Timing::Now, ..Change::new(controller, purposes, state, Timestamp::now()) }
    }

    /// Returns whether it can only make things stricter: a no, or "never track me". Such a change is accepted
    /// whatever the clock says.
    pub fn is_strict(&self) -> bool {
        self.state.is_no() || self.no_track == Some(true)
    }
}

/// An entry of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// A random id: only the key file knows whose it is.
    pub person: [u8; 16],
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// The change; its details are empty.
    pub change: Change,
    /// Whether there is proof for it, which is within the details.
    pub proof: Proof,
    /// The details, sealed. Unreadable once the person was erased.
    pub sealed: Vec<u8>,
    /// The position in the common order of several relays; `None` where one relay keeps the store alone.
    pub position: Option<u64>,
}

/// The contents of a payload of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// A change.
    Record(Box<Record>),
    /// The erasure of the person with this id: a key of theirs that comes back from a backup no longer
    /// counts.
    Erased([u8; 16]),
    /// From here on, records come from a common order of several relays.
    Epoch(Epoch),
    /// The common order had a message that changed nothing here, and would not be harmless if it came again.
    Passed,
}

/// The beginning of a common order, as every journal that follows it has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// The number of the order: 1 for the first, and one more each time it begins anew.
    pub number: u64,
    /// When it began.
    pub at: Timestamp,
}

impl Payload {
    /// Reads a payload.
    ///
    /// # Errors
    ///
    /// When it is malformed, or of a later version.
    pub fn decode(bytes: &[u8]) -> Result<Payload, BadRecord> {
        match bytes.split_first() {
            Some((&ERASED, rest)) => {
                let (person, _) = rest.split_first_chunk::<16>().ok_or(BadRecord::Malformed)?;
                Ok(Payload::Erased(*person))
            }
            Some((&EPOCH, rest)) => {
                let (number, rest) = rest.split_first_chunk::<8>().ok_or(BadRecord::Malformed)?;
                let (at, _) = rest.split_first_chunk::<8>().ok_or(BadRecord::Malformed)?;
                let at = Timestamp(i64::from_le_bytes(*at));
                Ok(Payload::Epoch(Epoch { number: u64::from_le_bytes(*number), at }))
            }
            Some((&PASSED, rest)) => {
                rest.first_chunk::<8>().ok_or(BadRecord::Malformed)?;
                Ok(Payload::Passed)
            }
            _ => Record::decode(bytes).map(Box::new).map(Payload::Record),
        }
    }
}

/// Returns the payload for a person's erasure, with its position in a common order.
pub fn erased(person: &[u8; 16], at: Timestamp, position: Option<u64>) -> Vec<u8> {
    let mut bytes = vec![ERASED];
    bytes.extend_from_slice(person);
    bytes.extend_from_slice(&at.0.to_le_bytes());
    bytes.extend(position.map(u64::to_le_bytes).into_iter().flatten());
    bytes
}

/// Returns when an erasure was requested, if this is the payload of one.
pub fn erased_at(payload: &[u8]) -> Option<Timestamp> {
    let rest = payload.strip_prefix(&[ERASED])?.get(16..)?;
    rest.first_chunk::<8>().copied().map(i64::from_le_bytes).map(Timestamp)
}

/// Returns the payload for a message of a common order that changed nothing.
pub fn passed(position: u64) -> Vec<u8> {
    [&[PASSED][..], &position.to_le_bytes()].concat()
}

impl Epoch {
    /// Returns the payload for the journal. The epoch is the first message of its order.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![EPOCH];
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&self.at.0.to_le_bytes());
        bytes
    }
}

/// Returns the position in the common order that a payload of the journal came from; `None` if it came from
/// none.
///
/// # Errors
///
/// When it is malformed, or of a later version.
pub fn position(payload: &[u8]) -> Result<Option<u64>, BadRecord> {
    match Payload::decode(payload)? {
        Payload::Record(record) => Ok(record.position),
        Payload::Erased(_) => {
            let position = payload.get(1 + 16 + 8..).and_then(|rest| rest.first_chunk::<8>());
            Ok(position.copied().map(u64::from_le_bytes))
        }
        Payload::Epoch(_) => Ok(Some(EPOCH_POSITION)),
        Payload::Passed => {
            let position = payload.get(1..).and_then(|rest| rest.first_chunk::<8>());
            Ok(position.copied().map(u64::from_le_bytes))
        }
    }
}

/// The position of an epoch in its order.
pub const EPOCH_POSITION: u64 = 1;

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// It was written by a later version.
    #[error("the record has format {0}, which this version does not know")]
    Version(u8),
    /// A field is cut off, missing, or invalid.
    #[error("the record is malformed")]
    Malformed,
}

impl From<Malformed> for BadRecord {
    fn from(Malformed: Malformed) -> BadRecord {
        BadRecord::Malformed
    }
}

/// The format written by this version; the first byte of each record.
const VERSION: u8 = 1;
/// The first byte of the payload for a person's erasure.
const ERASED: u8 = 2;
/// The first byte of the payload for the beginning of a common order.
const EPOCH: u8 = 3;
/// The first byte of the payload for a message that changed nothing.
const PASSED: u8 = 4;

/// Field numbers, which are never reused.
mod tag {
    pub(super) const CONTROLLER: u8 = 1;
    pub(super) const PERSON: u8 = 2;
    pub(super) const PURPOSES: u8 = 3;
    pub(super) const STATE: u8 = 4;
    pub(super) const EVENT_AT: u8 = 5;
    pub(super) const RECORDED_AT: u8 = 6;
    pub(super) const ASKED_AT: u8 = 7;
    pub(super) const NOTICE_SENT_AT: u8 = 8;
    pub(super) const EXPIRES: u8 = 9;
    pub(super) const DO_NOT_ASK_BEFORE: u8 = 10;
    pub(super) const JURISDICTION: u8 = 11;
    pub(super) const NO_TRACK: u8 = 12;
    pub(super) const SEALED: u8 = 13;
    pub(super) const COLLECTED_AT: u8 = 14;
    pub(super) const POSITION: u8 = 15;
    pub(super) const CLAIMED_AT: u8 = 16;
    pub(super) const PROOF: u8 = 17;
    pub(super) const UNPROVED_GRANT: u8 = 18;
    pub(super) const METHOD: u8 = 20;
    pub(super) const CHANNEL: u8 = 21;
    pub(super) const NOTICE_VERSION: u8 = 22;
    pub(super) const TEXT_HASH: u8 = 23;
    pub(super) const EVIDENCE: u8 = 24;
    pub(super) const ACTOR: u8 = 25;
    pub(super) const EXTERNAL_ID: u8 = 26;
    pub(super) const SCOPE: u8 = 27;
}

impl Details {
    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(VERSION);
        writer.text(tag::METHOD, self.method.as_deref());
        writer.text(tag::CHANNEL, self.channel.as_deref());
        writer.text(tag::NOTICE_VERSION, self.notice_version.as_deref());
        writer.text(tag::TEXT_HASH, self.text_hash.as_deref());
        writer.text(tag::EVIDENCE, self.evidence.as_deref());
        writer.text(tag::ACTOR, self.actor.as_deref());
        writer.text(tag::EXTERNAL_ID, self.external_id.as_deref());
        writer.text(tag::SCOPE, self.scope.map(Scope::name));
        writer.done()
    }

    fn decode(bytes: &[u8]) -> Result<Details, BadRecord> {
        let (&version, rest) = bytes.split_first().ok_or(BadRecord::Malformed)?;
        if version != VERSION {
            return Err(BadRecord::Version(version));
        }
        let mut details = Details::default();
        for (tag, content) in fields(rest)? {
            match tag {
                tag::METHOD => details.method = Some(text(content)?),
                tag::CHANNEL => details.channel = Some(text(content)?),
                tag::NOTICE_VERSION => details.notice_version = Some(text(content)?),
                tag::TEXT_HASH => details.text_hash = Some(text(content)?),
                tag::EVIDENCE => details.evidence = Some(text(content)?),
                tag::ACTOR => details.actor = Some(text(content)?),
                tag::EXTERNAL_ID => details.external_id = Some(text(content)?),
                // A later version may know others.
                tag::SCOPE => details.scope = Scope::named(&text(content)?),
                _ => {}
            }
        }
        Ok(details)
    }
}

impl Record {
    /// Builds a record of `change` about the person with this id, with details sealed under the person's key.
    pub fn new(person: [u8; 16], key: &Sealer, recorded_at: Timestamp, change: &Change) -> Record {
        let sealed = key.seal(&change.details.encode(), &person);
        let proof = if change.details.evidence.is_some() { Proof::Given } else { Proof::Missing };
        let change = Change { details: Details::default(), timing: Timing::Claimed, ..change.clone() };
        Record { person, recorded_at, change, proof, sealed, position: None }
    }

    /// Opens the details.
    ///
    /// # Errors
    ///
    /// When the key is not the person's.
    pub fn details(&self, key: &Sealer) -> Result<Details, NotOpened> {
        let plain = key.open(&self.sealed, &self.person)?;
        Details::decode(&plain).map_err(|_| NotOpened)
    }

    /// Returns the bytes for the journal.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(VERSION);
        let change = &self.change;
        let purposes: Vec<u8> = change.purposes.iter().map(|purpose| purpose.number()).collect();
        writer.bytes(tag::CONTROLLER, change.controller.as_str().as_bytes());
        writer.bytes(tag::PERSON, &self.person);
        writer.bytes(tag::PURPOSES, &purposes);
        writer.bytes(tag::STATE, &[change.state as u8]);
        writer.time(tag::EVENT_AT, Some(change.event_at));
        writer.time(tag::RECORDED_AT, Some(self.recorded_at));
        writer.time(tag::ASKED_AT, change.asked_at);
        writer.time(tag::NOTICE_SENT_AT, change.notice_sent_at);
        writer.time(tag::COLLECTED_AT, change.collected_at);
        writer.time(tag::CLAIMED_AT, change.claimed_at);
        writer.time(tag::EXPIRES, change.expires);
        writer.time(tag::DO_NOT_ASK_BEFORE, change.do_not_ask_before);
        writer.text(tag::JURISDICTION, change.jurisdiction.as_deref());
        if let Some(no_track) = change.no_track {
            writer.bytes(tag::NO_TRACK, &[u8::from(no_track)]);
        }
        if change.is_unproved_grant {
            writer.bytes(tag::UNPROVED_GRANT, &[1]);
        }
        match self.proof {
            Proof::Given => writer.bytes(tag::PROOF, &[1]),
            Proof::Missing => writer.bytes(tag::PROOF, &[0]),
            Proof::Unknown => {}
        }
        writer.bytes(tag::SEALED, &self.sealed);
        if let Some(position) = self.position {
            writer.number(tag::POSITION, position);
        }
        writer.done()
    }

    /// Reads the bytes of a record.
    ///
    /// # Errors
    ///
    /// When they are malformed, or of a later version.
    pub fn decode(bytes: &[u8]) -> Result<Record, BadRecord> {
        let (&version, rest) = bytes.split_first().ok_or(BadRecord::Malformed)?;
        if version != VERSION {
            return Err(BadRecord::Version(version));
        }
        let mut controller = None;
        let mut person = None;
        let mut state = None;
        let mut times = [None; 2];
        let mut change = Change::new(
            "x".parse().map_err(|_| BadRecord::Malformed)?,
            Vec::new(),
            State::NeverAsked,
            Timestamp(0),
        );
        let mut sealed = Vec::new();
        let mut position = None;
        let mut proof = Proof::Unknown;
        let [event_at, recorded_at] = &mut times;
        for (tag, content) in fields(rest)? {
            match tag {
                tag::CONTROLLER => {
                    controller = Some(text(content)?.parse().map_err(|_| BadRecord::Malformed)?)
                }
                tag::PERSON => person = Some(content.try_into().map_err(|_| BadRecord::Malformed)?),
                tag::PURPOSES => {
                    let purposes: Option<Vec<Purpose>> =
                        content.iter().map(|number| Purpose::from_number(*number)).collect();
                    change.purposes = purposes.ok_or(BadRecord::Malformed)?;
                }
                tag::STATE => state = content.first().and_then(|number| State::from_number(*number)),
                tag::EVENT_AT => *event_at = Some(time(content)?),
                tag::RECORDED_AT => *recorded_at = Some(time(content)?),
                tag::ASKED_AT => change.asked_at = Some(time(content)?),
                tag::NOTICE_SENT_AT => change.notice_sent_at = Some(time(content)?),
                tag::COLLECTED_AT => change.collected_at = Some(time(content)?),
                tag::EXPIRES => change.expires = Some(time(content)?),
                tag::DO_NOT_ASK_BEFORE => change.do_not_ask_before = Some(time(content)?),
                tag::JURISDICTION => change.jurisdiction = Some(text(content)?),
                tag::NO_TRACK => change.no_track = content.first().map(|flag| *flag != 0),
                tag::CLAIMED_AT => change.claimed_at = Some(time(content)?),
                tag::UNPROVED_GRANT => change.is_unproved_grant = content == [1],
                tag::PROOF => proof = if content == [1] { Proof::Given } else { Proof::Missing },
                tag::SEALED => sealed = content.to_vec(),
                tag::POSITION => position = Some(number(content)?),
                _ => {}
            }
        }
        change.controller = controller.ok_or(BadRecord::Malformed)?;
        change.state = state.ok_or(BadRecord::Malformed)?;
        change.event_at = event_at.ok_or(BadRecord::Malformed)?;
        Ok(Record {
            person: person.ok_or(BadRecord::Malformed)?,
            recorded_at: recorded_at.ok_or(BadRecord::Malformed)?,
            change,
            proof,
            sealed,
            position,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Change {
        let mut change =
            Change::new("shop".parse().unwrap(), Purpose::CONSENT.to_vec(), State::Granted, Timestamp(5));
        change.claimed_at = Some(Timestamp(7));
        change.asked_at = Some(Timestamp(1));
        change.notice_sent_at = Some(Timestamp(2));
        change.collected_at = Some(Timestamp(0));
        change.expires = Some(Timestamp(3));
        change.do_not_ask_before = Some(Timestamp(4));
        change.jurisdiction = Some("fr".to_owned());
        change.no_track = Some(false);
        change.is_unproved_grant = true;
        let text = |text: &str| Some(text.to_owned());
        change.details = Details {
            method: text("form"),
            channel: text("web"),
            notice_version: text("3"),
            text_hash: text("ab"),
            evidence: text("form/17"),
            actor: text("import"),
            external_id: text("c-1"),
            scope: Some(Scope::Account),
        };
        change
    }

    #[test]
    fn a_record_reads_back_whole() {
        let key = Sealer::new(&[3; 32]);
        let record = Record::new([9; 16], &key, Timestamp(6), &full());
        let read = Record::decode(&record.encode()).unwrap();
        assert_eq!(read, record);
        assert_eq!(read.details(&key), Ok(full().details));
        assert_eq!(Change { details: full().details, ..read.change.clone() }, full());
        assert_eq!(read.details(&Sealer::new(&[4; 32])), Err(NotOpened));
    }

    #[test]
    fn a_payload_tells_its_position_in_the_common_order() {
        let mut record = Record::new([9; 16], &Sealer::new(&[3; 32]), Timestamp(6), &full());
        assert_eq!(position(&record.encode()), Ok(None));
        record.position = Some(1 << 40);
        assert_eq!(Record::decode(&record.encode()), Ok(record.clone()));
        assert_eq!(position(&record.encode()), Ok(Some(1 << 40)));
        assert_eq!(position(&erased(&[9; 16], Timestamp(6), None)), Ok(None));
        assert_eq!(position(&erased(&[9; 16], Timestamp(6), Some(7))), Ok(Some(7)));
        assert_eq!(Payload::decode(&passed(9)), Ok(Payload::Passed));
        assert_eq!(position(&passed(9)), Ok(Some(9)));
        let epoch = Epoch { number: 2, at: Timestamp(6) };
        assert_eq!(Payload::decode(&epoch.encode()), Ok(Payload::Epoch(epoch)));
        assert_eq!(position(&epoch.encode()), Ok(Some(EPOCH_POSITION)));
    }

    #[test]
    fn details_do_not_stand_in_clear() {
        let bytes = Record::new([9; 16], &Sealer::new(&[3; 32]), Timestamp(6), &full()).encode();
        for clear in ["form/17", "c-1", "import"] {
            assert!(memchr::memmem::find(&bytes, clear.as_bytes()).is_none(), "{clear}");
        }
    }

    #[test]
    fn cut_or_foreign_bytes_are_no_record() {
        let bytes = Record::new([9; 16], &Sealer::new(&[3; 32]), Timestamp(6), &full()).encode();
        for end in 0..bytes.len() {
            let _ = Record::decode(&bytes[..end]);
        }
        assert_eq!(Record::decode(&[]), Err(BadRecord::Malformed));
        assert_eq!(Record::decode(&[2, 0]), Err(BadRecord::Version(2)));
        assert_eq!(Payload::decode(&[5, 0]), Err(BadRecord::Version(5)));
        assert_eq!(Payload::decode(&[4, 0]), Err(BadRecord::Malformed));
        assert_eq!(Payload::decode(&[3, 0]), Err(BadRecord::Malformed));
        assert_eq!(Payload::decode(&[2, 0]), Err(BadRecord::Malformed));
        assert_eq!(Payload::decode(&erased(&[9; 16], Timestamp(6), None)), Ok(Payload::Erased([9; 16])));
        assert_eq!(erased_at(&erased(&[9; 16], Timestamp(6), Some(7))), Some(Timestamp(6)));
        assert_eq!((erased_at(&bytes), erased_at(&passed(7))), (None, None));
        assert!(matches!(Payload::decode(&bytes), Ok(Payload::Record(_))));
        let mut later = bytes.clone();
        later.extend_from_slice(&[99, 1, 0, 0, 0, 7]);
        assert!(Record::decode(&later).is_ok());
    }
}
