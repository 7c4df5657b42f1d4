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
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PURPOSE: Purpose = Purpose::CampaignPerformance;

    fn change(state: State, at: i64) -> Change {
        Change::new("shop".parse().unwrap(), vec![PURPOSE], state, Timestamp(at))
    }

    /// Takes changes in one after the other; the last one's fate and the state that stands.
    fn check(changes: &[(State, i64, bool)]) -> (Merge, State) {
        let mut standing = Standing::unknown();
        let mut merge = Merge::Stale;
        for (record, (state, at, evidence)) in (0..).zip(changes) {
            merge = standing.merge(&change(*state, *at), record, *evidence).answer;
        }
        (merge, standing.of(PURPOSE).unwrap().state)
    }

    #[test]
    fn a_nightly_import_does_not_revive_consent() {
        use State::{Granted, Withdrawn};
        let superseded = (Merge::SupersededByWithdrawal, Withdrawn);
        assert_eq!(check(&[(Granted, 1, true), (Withdrawn, 5, false), (Granted, 1, true)]), superseded);
        assert_eq!(check(&[(Withdrawn, 5, false), (Granted, 5, true)]), superseded);
        assert_eq!(check(&[(Withdrawn, 5, false), (Granted, 6, false)]), superseded);
        assert_eq!(check(&[(Withdrawn, 5, false), (State::Asked, 6, false)]), superseded);
        assert_eq!(check(&[(Withdrawn, 5, false), (Granted, 6, true)]), (Merge::Taken, Granted));
    }

    #[test]
    fn a_question_after_a_withdrawal_leaves_it_and_starts_the_pause_anew() {
        let day = 86_400_000;
        let mut standing = Standing::unknown();
        let _ = standing.merge(&change(State::Withdrawn, 0), 1, false);
        let merged = standing.merge(&change(State::Asked, 200 * day), 2, true);
        assert_eq!(merged, Merged { answer: Merge::Taken, is_news: true });
        assert_eq!(standing.of(PURPOSE).map(|mark| (mark.state, mark.record)), Some((State::Withdrawn, 1)));
        let until = MayAsk::NotBefore(Timestamp((200 + DO_NOT_ASK_DAYS) * day));
        assert_eq!(standing.may_ask(&[PURPOSE], Timestamp(250 * day)), until);
    }

    #[test]
    fn what_was_said_later_stands() {
        use State::{Granted, Refused, Withdrawn};
        assert_eq!(check(&[(Granted, 1, true), (Refused, 2, false)]), (Merge::Taken, Refused));
        assert_eq!(check(&[(Refused, 2, false), (Granted, 1, true)]), (Merge::Stale, Refused));
        assert_eq!(check(&[(Granted, 2, true), (Refused, 2, false)]), (Merge::Taken, Refused));
        assert_eq!(check(&[(Granted, 2, true), (Withdrawn, 2, false)]), (Merge::Taken, Withdrawn));
    }

    #[test]
    fn only_a_standing_grant_allows() {
        let now = Timestamp(100);
        for state in State::ALL {
            let mut standing = Standing::unknown();
            let _ = standing.merge(&change(state, 1), 7, true);
            let granted = standing.allows(PURPOSE, now) == Permission::Granted(7);
            assert_eq!(granted, state == State::Granted);
            assert_eq!(standing.allows(Purpose::Personalisation, now), Permission::NotGranted(None));
        }
        let mut standing = Standing::unknown();
        let _ = standing.merge(&Change { expires: Some(now), ..change(State::Granted, 1) }, 7, true);
        assert_eq!(standing.allows(PURPOSE, Timestamp(99)), Permission::Granted(7));
        assert_eq!(standing.allows(PURPOSE, now), Permission::NotGranted(Some(State::Granted)));
        let mut standing = Standing::unknown();
        let _ = standing.merge(&Change { no_track: Some(true), ..change(State::Granted, 1) }, 7, true);
        assert_eq!(standing.allows(PURPOSE, now), Permission::NotGranted(Some(State::Granted)));
    }

    #[test]
    fn a_refusal_and_silence_set_the_pause_before_asking_again() {
        let half_a_year = Some(Timestamp(183 * 86_400_000));
        for state in State::ALL {
            let mut standing = Standing::unknown();
            let _ = standing.merge(&change(state, 0), 1, true);
            let pauses = !matches!(state, State::NeverAsked | State::Granted);
            assert_eq!(standing.do_not_ask_before, half_a_year.filter(|_| pauses), "{state:?}");
        }
        let mut standing = Standing::unknown();
        let _ = standing.merge(&Change { asked_at: Some(Timestamp(0)), ..change(State::Asked, 9) }, 1, false);
        assert_eq!(standing.do_not_ask_before, half_a_year);
    }

    #[test]
    fn who_was_informed_and_when_is_kept_for_collected_addresses_alone() {
        let informed = |collected: Option<i64>, notice: Option<i64>, at: i64| Change {
            collected_at: collected.map(Timestamp),
            notice_sent_at: notice.map(Timestamp),
            ..change(State::NeverAsked, at)
        };
        let mut standing = Standing::unknown();
        let _ = standing.merge(&informed(None, Some(3), 1), 1, true);
        assert_eq!((standing.collected_at, standing.notice_sent_at), (None, None));
        let _ = standing.merge(&informed(Some(5), Some(8), 2), 2, true);
        let _ = standing.merge(&informed(Some(6), Some(9), 3), 3, true);
        let _ = standing.merge(&informed(Some(4), None, 4), 4, true);
        assert_eq!(
            (standing.collected_at, standing.notice_sent_at),
            (Some(Timestamp(6)), Some(Timestamp(8)))
        );
    }

    #[test]
    fn nobody_is_asked_again_within_half_a_year_nor_without_need() {
        let may = |changes: &[Change], now: i64| {
            let mut standing = Standing::unknown();
            for (record, change) in (1..).zip(changes) {
                let _ = standing.merge(change, record, true);
            }
            standing.may_ask(&[PURPOSE, Purpose::Personalisation], Timestamp(now))
        };
        let half_a_year = 183 * 86_400_000;
        assert_eq!(may(&[], 0), MayAsk::Yes);
        for state in [State::Asked, State::Refused, State::Withdrawn, State::Objected] {
            let pause = MayAsk::NotBefore(Timestamp(half_a_year));
            assert_eq!(may(&[change(state, 0)], half_a_year - 1), pause, "{state:?}");
            assert_eq!(may(&[change(state, 0)], half_a_year), MayAsk::Yes, "{state:?}");
        }
        let both = Change { purposes: vec![PURPOSE, Purpose::Personalisation], ..change(State::Granted, 0) };
        assert_eq!(may(&[change(State::Granted, 0)], 1), MayAsk::Yes, "for the other purpose");
        assert_eq!(may(std::slice::from_ref(&both), 1), MayAsk::NoNeed);
        assert_eq!(may(&[Change { expires: Some(Timestamp(1)), ..both.clone() }], 1), MayAsk::Yes);
        assert_eq!(may(&[Change { no_track: Some(true), ..both }], 1), MayAsk::Never);
    }

    #[test]
    fn a_standing_reads_back_whole() {
        let mut standing = Standing::unknown();
        let mut full = change(State::Granted, 5);
        full.purposes = Purpose::CONSENT.to_vec();
        full.jurisdiction = Some("fr".to_owned());
        full.expires = Some(Timestamp(9));
        full.collected_at = Some(Timestamp(1));
        full.notice_sent_at = Some(Timestamp(2));
        let _ = standing.merge(&full, 3, true);
        let bytes = standing.encode();
        assert_eq!(Standing::decode(&bytes), Some(standing));
        for end in 0..bytes.len() {
            let _ = Standing::decode(&bytes[..end]);
        }
        assert_eq!(Standing::decode(&[9, 0]), None);
    }

    /// A generated change. Few times and purposes, so that many fall together.
    fn any_change() -> impl Strategy<Value = (Change, bool)> {
        let purposes = prop::sample::subsequence(vec![PURPOSE, Purpose::Personalisation], 0..=2);
        let places = prop::option::of(prop::sample::select(vec!["fr", "it", "none"]));
        let ends = prop::option::of(prop::sample::select(vec![5, 50, 500]));
        let times = prop::option::of(0..3i64);
        let said = (purposes, prop::sample::select(State::ALL.to_vec()), 0..4i64, any::<bool>());
        (said, any::<Option<bool>>(), places, ends, times).prop_map(
            |(said, no_track, place, end, collected)| {
                let (purposes, state, at, has_evidence) = said;
                let change = Change {
                    no_track,
                    jurisdiction: place.map(str::to_owned),
                    expires: end.map(Timestamp),
                    collected_at: collected.filter(|_| has_evidence).map(Timestamp),
                    notice_sent_at: collected.map(|day| Timestamp(9 - day)),
                    ..Change::new("shop".parse().unwrap(), purposes, state, Timestamp(at))
                };
                (change, has_evidence)
            },
        )
    }

    /// All that anybody can see of a standing, but for the numbers of the records.
    fn seen(standing: &Standing) -> String {
        let purposes = [PURPOSE, Purpose::Personalisation].map(|purpose| {
            let allowed = [0, 10, 100, 1000]
                .map(|now| matches!(standing.allows(purpose, Timestamp(now)), Permission::Granted(_)));
            (standing.of(purpose).map(|stand| (stand.state, stand.event_at, stand.expires)), allowed)
        });
        let times = (standing.do_not_ask_before, standing.collected_at, standing.notice_sent_at);
        format!("{purposes:?} {} {:?} {times:?}", standing.no_track(), standing.jurisdiction())
    }

    /// Takes changes in as the writer does: what is no news is not recorded, so it is lost. What is recorded
    /// says the same again.
    fn told(changes: &[&(Change, bool)]) -> Standing {
        let (mut live, mut replayed) = (Standing::unknown(), Standing::unknown());
        for (number, (change, has_evidence)) in (1..).zip(changes) {
            let before = live.clone();
            if live.merge(change, number, *has_evidence).is_news {
                let _ = replayed.merge(change, number, *has_evidence);
            } else {
                assert_eq!(live, before, "what is no news changes nothing");
            }
        }
        assert_eq!(live, replayed);
        assert_eq!(Standing::decode(&live.encode()), Some(live.clone()));
        live
    }

    fn each_order<'a>(
        rest: &[&'a (Change, bool)],
        taken: &mut Vec<&'a (Change, bool)>,
        each: &mut dyn FnMut(Standing),
    ) {
        if rest.is_empty() {
            each(told(taken));
        }
        for index in 0..rest.len() {
            let mut rest = rest.to_vec();
            taken.push(rest.remove(index));
            each_order(&rest, taken, each);
            taken.pop();
        }
    }

    proptest! {
        #[test]
        fn no_order_of_arrival_changes_what_stands(changes in prop::collection::vec(any_change(), 1..=5)) {
            let all: Vec<_> = changes.iter().collect();
            let wanted = seen(&told(&all));
            each_order(&all, &mut Vec::new(), &mut |standing| assert_eq!(seen(&standing), wanted));
            // What arrives once more changes nothing.
            let twice: Vec<_> = all.iter().chain(&all).copied().collect();
            assert_eq!(seen(&told(&twice)), wanted);
        }

        #[test]
        fn a_no_ends_with_nothing_but_a_later_grant_with_evidence(
            changes in prop::collection::vec(any_change(), 0..=5), no in 3..6u8, at in 0..4i64
        ) {
            let state = State::from_number(no).unwrap();
            let refusal = (Change { no_track: Some(true), ..change(state, at) }, false);
            let all: Vec<_> = changes.iter().chain([&refusal]).collect();
            let standing = told(&all);
            let is_later = |said: &(Change, bool)| said.1 && said.0.event_at > Timestamp(at);
            if standing.of(PURPOSE).is_some_and(|stand| stand.state == State::Granted) {
                assert!(changes.iter().any(|said| is_later(said) && said.0.state == State::Granted));
            }
            if !standing.no_track() {
                assert!(changes.iter().any(|said| is_later(said) && said.0.no_track == Some(false)));
            }
        }
    }

    /// The pairs that the fault was found with: every state, with evidence and without, and what else a
    /// change may say.
    #[test]
    fn all_pairs_of_37_changes_end_the_same_in_either_order() {
        let mut all = Vec::new();
        for at in [1, 2] {
            for state in State::ALL {
                all.extend([false, true].map(|has_evidence| (change(state, at), has_evidence)));
            }
            for no_track in [false, true] {
                let said = [State::Refused, State::Granted].map(|state| change(state, at));
                all.extend(said.map(|change| (Change { no_track: Some(no_track), ..change }, true)));
            }
            for place in ["fr", "none"] {
                let jurisdiction = Some(place.to_owned());
                all.push((Change { jurisdiction, ..change(State::Granted, at) }, true));
            }
        }
        all.push((Change { expires: Some(Timestamp(50)), ..change(State::Granted, 1) }, true));
        assert_eq!(all.len(), 37);
        for one in &all {
            for other in &all {
                assert_eq!(seen(&told(&[one, other])), seen(&told(&[other, one])), "{one:?} and {other:?}");
            }
        }
    }

    #[test]
    fn never_track_me_outlives_a_no_that_is_older_than_a_yes() {
        let mut standing = Standing::unknown();
        let _ = standing.merge(&change(State::Granted, 2), 1, true);
        let never = Change { no_track: Some(true), ..change(State::Refused, 1) };
        assert_eq!(standing.merge(&never, 2, false).answer, Merge::Taken);
        assert_eq!(standing.allows(PURPOSE, Timestamp(9)), Permission::NotGranted(Some(State::Granted)));
        assert_eq!(standing.no_track_record(), Some(2));
        // Only a later event with evidence takes it back.
        let again = |at: i64| Change { no_track: Some(false), ..change(State::Granted, at) };
        let _ = standing.merge(&again(9), 3, false);
        let _ = standing.merge(&again(1), 4, true);
        assert!(standing.no_track());
        let _ = standing.merge(&again(9), 5, true);
        assert!(!standing.no_track());
    }

    #[test]
    fn jurisdictions_stand_side_by_side_until_evidence_puts_the_older_ones_aside() {
        let mut standing = Standing::unknown();
        let mut named = |name: &str, at: i64, has_evidence: bool| {
            let jurisdiction = Some(name.to_owned());
            let _ = standing.merge(&Change { jurisdiction, ..change(State::Asked, at) }, 1, has_evidence);
            standing.jurisdiction().unwrap()
        };
        assert_eq!(named("fr", 5, true), "fr");
        assert_eq!(named("none", 6, false), "fr & none");
        assert_eq!(named("it", 4, true), "fr & none", "it is older than what is proven");
        assert_eq!(named("it", 7, true), "it");
        for number in 0..20 {
            named(&format!("place{number}"), 8 + number, false);
        }
        assert_eq!(standing.jurisdictions().count(), MAX_PLACES);
        assert!(standing.jurisdictions().any(|name| name == UNKNOWN), "what finds no room is the strictest");
    }

    #[test]
    fn records_of_early_versions_never_end_laxer_than_they_did() {
        // They do not say whether there was evidence. Then the last one to arrive counted.
        let replayed = |changes: &[Change]| {
            let mut standing = Standing::unknown();
            for (number, change) in (1..).zip(changes) {
                let sealer = crate::consent::seal::Sealer::new(&[1; 32]);
                let record = Record::new([9; 16], &sealer, Timestamp(9), change);
                standing.replay(&Record { proof: Proof::Unknown, ..record }, number);
            }
            standing
        };
        let never = |is_set: bool, at: i64| Change { no_track: Some(is_set), ..change(State::Refused, at) };
        assert!(replayed(&[never(false, 5), never(true, 3)]).no_track());
        assert!(replayed(&[never(true, 5), never(false, 3)]).no_track());
        assert!(!replayed(&[never(true, 3), never(false, 5)]).no_track());
        let place =
            |name: &str, at: i64| Change { jurisdiction: Some(name.to_owned()), ..change(State::Asked, at) };
        assert_eq!(replayed(&[place("fr", 3), place("none", 5)]).jurisdiction().unwrap(), "none");
        assert_eq!(replayed(&[place("none", 5), place("fr", 3)]).jurisdiction().unwrap(), "fr & none");
        let granted = replayed(&[change(State::Granted, 5)]);
        assert!(matches!(granted.allows(PURPOSE, Timestamp(6)), Permission::Granted(1)));
    }
}
