//! The current consent of one person towards one controller.
//!
//! Promised: the standing does not depend on the order in which changes arrive. It is the join of everything
//! ever said (commutative, associative, idempotent), so a no that arrives late, twice, or between two imports
//! has the same result as one that arrives in time. Whatever makes the rules stricter stays until a later
//! event with proof says otherwise.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::record::{Change, Proof, Record, State};
use super::timestamp::Timestamp;
use crate::policy::Purpose;
use crate::policy::jurisdiction::UNKNOWN;

/// The standing of one purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stand {
    /// The state last recorded.
    pub state: State,
    /// When it was said.
    pub event_at: Timestamp,
    /// When a grant expires.
    pub expires: Option<Timestamp>,
    /// The number of the record in the journal.
    pub record: u64,
}

impl Stand {
    /// Orders two statements about a purpose: the later one counts; of two with the same time the stricter
    /// one, and of two such grants the one that expires first.
    fn rank(&self) -> (Timestamp, State, Reverse<Timestamp>) {
        (self.event_at, self.state, Reverse(self.expires.unwrap_or(Timestamp(i64::MAX))))
    }
}

/// What was said about one purpose, as far as it can still matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Said {
    /// The last proven yes or the last no.
    answer: Option<Stand>,
    /// Silence (never asked, or asked without an answer) that began after the answer. It ends a yes, and
    /// leaves a no.
    silence: Option<Stand>,
}

impl Said {
    /// Takes in a statement; returns whether it is news.
    fn take(&mut self, stand: Stand) -> bool {
        let place = if stand.state.is_answer() { &mut self.answer } else { &mut self.silence };
        if place.is_some_and(|known| known.rank() >= stand.rank()) {
            return false;
        }
        *place = Some(stand);
        let (answer, silence) = (self.answer, self.silence);
        self.silence =
            silence.filter(|silence| answer.is_none_or(|answer| answer.event_at < silence.event_at));
        self.silence == silence || stand.state.is_answer()
    }

    /// Returns the current state.
    fn stand(&self) -> Option<&Stand> {
        match &self.answer {
            Some(answer) if answer.state.is_no() => Some(answer),
            answer => self.silence.as_ref().or(answer.as_ref()),
        }
    }
}

/// Whether a person must never be tracked, as last said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Never {
    event_at: Timestamp,
    is_set: bool,
    record: u64,
}

/// A jurisdiction that records name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    name: String,
    event_at: Timestamp,
}

/// What a person has said to a controller, by purpose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    said: BTreeMap<Purpose, Said>,
    /// The jurisdictions that no later record with proof superseded, by name.
    places: Vec<Place>,
    /// When the newest record with proof named one: older ones do not count.
    placed_at: Option<Timestamp>,
    never: Option<Never>,
    /// The time before which the person must not be asked again (N19).
    pub do_not_ask_before: Option<Timestamp>,
    /// When the address was collected, if there is proof of it (N29).
    pub collected_at: Option<Timestamp>,
    /// When a person whose address was collected then was first informed (N29).
    pub notice_sent_at: Option<Timestamp>,
}

/// The permission for one purpose at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// A standing grant, given in the record with this number.
    Granted(u64),
    /// Anything else: silence is not consent.
    NotGranted(Option<State>),
}

/// Whether a person may be asked now (N19).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MayAsk {
    /// Nothing prevents it.
    Yes,
    /// The person refused, or did not answer, too recently.
    NotBefore(Timestamp),
    /// Every purpose in question is granted already.
    NoNeed,
    /// The person must never be tracked (N32).
    Never,
}

impl MayAsk {
    /// Returns the reason if not, to be read after "the person"; `None` if nothing prevents it.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            MayAsk::Yes => None,
            MayAsk::NotBefore(_) => Some("refused, or did not answer, less than six months ago"),
            MayAsk::NoNeed => Some("has already agreed to all of it"),
            MayAsk::Never => Some("must never be tracked"),
        }
    }

    /// Returns the earliest time at which the person may be asked.
    pub fn not_before(self) -> Option<Timestamp> {
        match self {
            MayAsk::NotBefore(end) => Some(end),
            MayAsk::Yes | MayAsk::NoNeed | MayAsk::Never => None,
        }
    }
}

/// The result of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// It has taken effect.
    Taken,
    /// Something newer is known.
    Stale,
    /// The person withdrew, and this grant is not later than that or brings no new proof.
    SupersededByWithdrawal,
}

/// The effect of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Merged {
    /// The result.
    pub answer: Merge,
    /// Whether it must be recorded: it affects the standing, or the result of later changes.
    pub is_news: bool,
}

/// How long nobody asks again after a refusal, in days (N19: six months).
const DO_NOT_ASK_DAYS: i64 = 183;

/// The maximum number of jurisdictions kept for one person. Beyond it the one named longest ago becomes
/// "unknown", the strictest.
const MAX_PLACES: usize = 6;

/// The format of an encoded standing; its first byte. Format 1 lacks the times of N29; format 2 has only the
/// last statement about each purpose, and no time for `no_track` and the jurisdiction.
const VERSION: u8 = 3;

impl Standing {
    /// Returns the standing of an unknown person.
    pub fn unknown() -> Standing {
        Standing::default()
    }

    /// Returns the standing of a purpose.
    pub fn of(&self, purpose: Purpose) -> Option<&Stand> {
        self.said.get(&purpose).and_then(Said::stand)
    }

    /// Lists every purpose that was mentioned.
    pub fn all(&self) -> impl Iterator<Item = (Purpose, &Stand)> {
        self.said.iter().filter_map(|(purpose, said)| Some((*purpose, said.stand()?)))
    }

    /// Returns whether this person must never be tracked (N32).
    pub fn no_track(&self) -> bool {
        self.never.is_some_and(|never| never.is_set)
    }

    /// Returns the journal's number of the record that says so.
    pub fn no_track_record(&self) -> Option<u64> {
        self.never.filter(|never| never.is_set).map(|never| never.record)
    }

    /// Returns the jurisdictions that the records name: none, one, or several of which none is proven, so
    /// that the strictest of their rules apply.
    pub fn jurisdictions(&self) -> impl Iterator<Item = &str> {
        self.places.iter().map(|place| place.name.as_str())
    }

    /// Returns the same as one text, joined by `&`.
    pub fn jurisdiction(&self) -> Option<String> {
        (!self.places.is_empty()).then(|| self.jurisdictions().collect::<Vec<_>>().join(JOINED))
    }

    /// Returns whether the person agreed to this purpose and still does at `now`.
    pub fn allows(&self, purpose: Purpose, now: Timestamp) -> Permission {
        match self.of(purpose) {
            Some(stand)
                if stand.state == State::Granted
                    && !self.no_track()
                    && stand.expires.is_none_or(|end| now < end) =>
            {
                Permission::Granted(stand.record)
            }
            other => Permission::NotGranted(other.map(|stand| stand.state)),
        }
    }

    /// Returns whether the person may be asked about these purposes at `now` (N19).
    pub fn may_ask(&self, purposes: &[Purpose], now: Timestamp) -> MayAsk {
        let is_granted = |purpose: &Purpose| matches!(self.allows(*purpose, now), Permission::Granted(_));
        match self.do_not_ask_before {
            _ if self.no_track() => MayAsk::Never,
            _ if purposes.iter().all(is_granted) => MayAsk::NoNeed,
            Some(end) if now < end => MayAsk::NotBefore(end),
            _ => MayAsk::Yes,
        }
    }

    /// Returns the time of the newest known event.
    pub fn newest_event(&self) -> Option<Timestamp> {
        let said = self.said.values().flat_map(|said| [said.answer, said.silence]).flatten();
        let places = self.places.iter().map(|place| place.event_at);
        let never = self.never.map(|never| never.event_at);
        said.map(|stand| stand.event_at).chain(places).chain(never).max()
    }

    /// Returns the time of the newest event among those that a change concerns.
    pub fn newest_event_about(&self, change: &Change) -> Option<Timestamp> {
        let said = change.purposes.iter().filter_map(|purpose| self.said.get(purpose));
        let said = said.flat_map(|said| [said.answer, said.silence]).flatten();
        let never = self.never.filter(|_| change.no_track.is_some()).map(|never| never.event_at);
        said.map(|stand| stand.event_at).chain(never).max()
    }

    /// Takes in a change, under the journal's number. `has_evidence` says whether there is proof for it: a
    /// grant without proof is not a grant.
    pub fn merge(&mut self, change: &Change, record: u64, has_evidence: bool) -> Merged {
        self.take(change, record, if has_evidence { Proof::Given } else { Proof::Missing })
    }

    /// Takes in a record of the journal exactly as when it was written.
    pub fn replay(&mut self, record: &Record, number: u64) {
        let _ = self.take(&record.change, number, record.proof);
    }

    fn take(&mut self, change: &Change, record: u64, proof: Proof) -> Merged {
        let was_never = self.no_track();
        let state = match (change.state, proof) {
            // It cannot be proved, so it is not a grant (N22).
            (State::Granted, Proof::Missing) => State::NeverAsked,
            (state, _) => state,
        };
        let stand = Stand { state, event_at: change.event_at, expires: change.expires, record };
        let (mut is_news, mut holds, mut is_withdrawn) = (false, false, false);
        for &purpose in &change.purposes {
            let before = self.of(purpose).copied();
            let is_new = self.said.entry(purpose).or_default().take(stand);
            is_news |= is_new;
            holds |= is_new && self.of(purpose) == Some(&stand);
            is_withdrawn |= before.is_some_and(|before| before.state.is_withdrawal());
            // Being asked again is not an answer: the no stands, and nobody asks again soon.
            let may_ask_again = |before: Stand| proof != Proof::Missing || !before.state.is_withdrawal();
            holds |= is_new && state == State::Asked && before.is_some_and(may_ask_again);
        }
        let news =
            [self.take_never(change, record, proof), self.take_place(change, proof), self.take_times(change)];
        is_news |= news.contains(&true);
        holds |= self.no_track() != was_never;
        let answer = match (holds, is_withdrawn && !state.is_no()) {
            (true, _) => Merge::Taken,
            (false, true) => Merge::SupersededByWithdrawal,
            (false, false) => Merge::Stale,
        };
        Merged { answer, is_news }
    }

    /// Takes in whether the person must never be tracked. Only a later event with proof revokes that.
    fn take_never(&mut self, change: &Change, record: u64, proof: Proof) -> bool {
        let Some(is_set) = change.no_track else { return false };
        let known = self.never;
        // Early versions did not note whether there was proof: what followed such records stands.
        let event_at = match (proof, known) {
            (Proof::Missing, _) if !is_set => return false,
            (Proof::Unknown, Some(known)) if is_set => change.event_at.max(known.event_at),
            _ => change.event_at,
        };
        if known.is_some_and(|known| (known.event_at, known.is_set) >= (event_at, is_set)) {
            return false;
        }
        self.never = Some(Never { event_at, is_set, record });
        true
    }

    /// Takes in where the person is. A record with proof supersedes older ones; any other stands beside them.
    fn take_place(&mut self, change: &Change, proof: Proof) -> bool {
        let Some(name) = change.jurisdiction.as_deref() else { return false };
        let before = (self.places.clone(), self.placed_at);
        let newest = self.places.iter().map(|place| place.event_at).max();
        let (is_proven, event_at) = match proof {
            Proof::Given => (true, change.event_at),
            Proof::Missing => (false, change.event_at),
            // Early versions did not note whether there was proof: later records count, and earlier ones
            // stand beside them.
            Proof::Unknown => {
                let event_at = self.placed_at.map_or(change.event_at, |since| since.max(change.event_at));
                (newest.is_none_or(|newest| newest < change.event_at), event_at)
            }
        };
        if is_proven {
            self.placed_at = self.placed_at.max(Some(event_at));
        }
        match self.places.iter_mut().find(|place| place.name == name) {
            Some(known) => known.event_at = known.event_at.max(event_at),
            None => self.places.push(Place { name: name.to_owned(), event_at }),
        }
        self.places.retain(|place| self.placed_at.is_none_or(|since| place.event_at >= since));
        self.bound_places();
        self.places.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        before != (self.places.clone(), self.placed_at)
    }

    fn bound_places(&mut self) {
        while self.places.len() > MAX_PLACES {
            let oldest = self.places.iter().filter(|place| place.name != UNKNOWN);
            let oldest = oldest.min_by_key(|place| (place.event_at, place.name.clone())).cloned();
            let Some(oldest) = oldest else { return };
            self.places.retain(|place| *place != oldest);
            match self.places.iter_mut().find(|place| place.name == UNKNOWN) {
                Some(known) => known.event_at = known.event_at.max(oldest.event_at),
                None => self.places.push(Place { name: UNKNOWN.to_owned(), event_at: oldest.event_at }),
            }
        }
    }

    fn take_times(&mut self, change: &Change) -> bool {
        let before = (self.do_not_ask_before, self.collected_at, self.notice_sent_at);
        // A question without an answer counts as a refusal here (N19).
        let no = match change.state {
            State::Refused | State::Withdrawn | State::Objected => Some(change.event_at),
            State::Asked => Some(change.asked_at.unwrap_or(change.event_at)),
            State::NeverAsked | State::Granted => None,
        };
        let pause = no.map(|since| since.plus_days(DO_NOT_ASK_DAYS));
        self.do_not_ask_before = change.do_not_ask_before.max(pause).max(self.do_not_ask_before);
        if change.collected_at.is_some() {
            // The last time counts for collecting, the first for informing. A notice without the other says
            // nothing about N29.
            self.collected_at = self.collected_at.max(change.collected_at);
            let notices = self.notice_sent_at.into_iter().chain(change.notice_sent_at);
            self.notice_sent_at = notices.min();
        }
        before != (self.do_not_ask_before, self.collected_at, self.notice_sent_at)
    }

    /// Returns the bytes for the index.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        for moment in [self.do_not_ask_before, self.collected_at, self.notice_sent_at, self.placed_at] {
            put_time(&mut out, moment);
        }
        out.push(self.never.map_or(0, |never| 1 + u8::from(never.is_set)));
        if let Some(never) = self.never {
            put_time(&mut out, Some(never.event_at));
            out.extend_from_slice(&never.record.to_le_bytes());
        }
        let named: Vec<_> = self
            .places
            .iter()
            .filter_map(|place| Some((place, u8::try_from(place.name.len()).ok()?)))
            .collect();
        out.push(u8::try_from(named.len()).unwrap_or(0));
        for (place, length) in named {
            out.push(length);
            out.extend_from_slice(place.name.as_bytes());
            put_time(&mut out, Some(place.event_at));
        }
        for (purpose, said) in &self.said {
            for stand in [said.answer, said.silence].into_iter().flatten() {
                out.extend_from_slice(&[purpose.number(), stand.state as u8]);
                put_time(&mut out, Some(stand.event_at));
                put_time(&mut out, stand.expires);
                out.extend_from_slice(&stand.record.to_le_bytes());
            }
        }
        out
    }

    /// Reads the bytes in the index; `None` if they are malformed.
    pub fn decode(bytes: &[u8]) -> Option<Standing> {
        let mut bytes = Bytes(bytes);
        let version = bytes.byte()?;
        let mut standing = match version {
            1 | 2 => Standing::decode_early(version, &mut bytes)?,
            VERSION => {
                let [pause, collected, notice, placed] =
                    [bytes.time()?, bytes.time()?, bytes.time()?, bytes.time()?];
                let never = match bytes.byte()? {
                    0 => None,
                    set @ (1 | 2) => {
                        Some(Never { event_at: bytes.time()??, is_set: set == 2, record: bytes.number()? })
                    }
                    _ => return None,
                };
                let mut places = Vec::new();
                for _ in 0..bytes.byte()? {
                    places.push(Place { name: bytes.text()?, event_at: bytes.time()?? });
                }
                Standing {
                    said: BTreeMap::new(),
                    places,
                    placed_at: placed,
                    never,
                    do_not_ask_before: pause,
                    collected_at: collected,
                    notice_sent_at: notice,
                }
            }
            _ => return None,
        };
        while !bytes.0.is_empty() {
            let (purpose, state) = (Purpose::from_number(bytes.byte()?)?, State::from_number(bytes.byte()?)?);
            let (event_at, expires, record) = (bytes.time()??, bytes.time()?, bytes.number()?);
            let stand = Stand { state, event_at, expires, record };
            let said = standing.said.entry(purpose).or_default();
            let place = if state.is_answer() { &mut said.answer } else { &mut said.silence };
            *place = Some(stand);
        }
        Some(standing)
    }

    /// Reads what formats 1 and 2 have before the purposes.
    fn decode_early(version: u8, bytes: &mut Bytes<'_>) -> Option<Standing> {
        let no_track = bytes.byte()? != 0;
        let do_not_ask_before = bytes.time()?;
        let (collected_at, notice_sent_at) =
            if version > 1 { (bytes.time()?, bytes.time()?) } else { (None, None) };
        // The time is unknown: anything later with proof revokes it.
        let event_at = Timestamp(i64::MIN + 1);
        let name = Some(bytes.text()?).filter(|name| !name.is_empty());
        Some(Standing {
            said: BTreeMap::new(),
            places: name.map(|name| Place { name, event_at }).into_iter().collect(),
            placed_at: None,
            never: no_track.then_some(Never { event_at, is_set: true, record: 0 }),
            do_not_ask_before,
            collected_at,
            notice_sent_at,
        })
    }
}

/// Separates the names of several jurisdictions.
pub const JOINED: &str = " & ";

fn put_time(out: &mut Vec<u8>, moment: Option<Timestamp>) {
    out.extend_from_slice(&moment.map_or(i64::MIN, |moment| moment.0).to_le_bytes());
}

/// A reader for bytes, piece by piece.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn eight(&mut self) -> Option<[u8; 8]> {
        let (eight, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(*eight)
    }

    fn number(&mut self) -> Option<u64> {
        self.eight().map(u64::from_le_bytes)
    }

    /// Reads an optional moment.
    fn time(&mut self) -> Option<Option<Timestamp>> {
        let millis = i64::from_le_bytes(self.eight()?);
        Some(Some(millis).filter(|millis| *millis != i64::MIN).map(Timestamp))
    }

    fn text(&mut self) -> Option<String> {
        let length = self.byte()?;
        let (text, rest) = self.0.split_at_checked(usize::from(length))?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests;
