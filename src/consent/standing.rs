//! What the store says of one person and controller now.

use super::record::{Change, State};
use super::timestamp::Timestamp;
use crate::policy::Purpose;

/// The standing of one purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stand {
    /// What was last said.
    pub state: State,
    /// When it was said.
    pub event_at: Timestamp,
    /// When a grant ends.
    pub expires: Option<Timestamp>,
    /// The journal's number of the record that says so.
    pub record: u64,
}

/// What a person has said to a controller, by purpose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    stands: Vec<(Purpose, Stand)>,
    /// Which rules apply to the person.
    pub jurisdiction: Option<String>,
    /// Never track this person.
    pub no_track: bool,
    /// Before when the person must not be asked again (N19).
    pub do_not_ask_before: Option<Timestamp>,
    /// When the address was collected, where there is evidence of it (N29).
    pub collected_at: Option<Timestamp>,
    /// When a person whose address was collected then was first informed (N29).
    pub notice_sent_at: Option<Timestamp>,
}

/// What follows for one purpose at one moment.
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
    /// Nothing speaks against it.
    Yes,
    /// The person said no, or nothing, too short a time ago.
    NotBefore(Timestamp),
    /// Every purpose asked about is granted already.
    NoNeed,
    /// The person is never to be tracked (N32).
    Never,
}

impl MayAsk {
    /// Why not, behind "the person"; nothing where nothing speaks against it.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            MayAsk::Yes => None,
            MayAsk::NotBefore(_) => Some("said no, or nothing, less than half a year ago (N19)"),
            MayAsk::NoNeed => Some("agreed to all of it already"),
            MayAsk::Never => Some("is never to be tracked (N32)"),
        }
    }

    /// From when on.
    pub fn not_before(self) -> Option<Timestamp> {
        match self {
            MayAsk::NotBefore(end) => Some(end),
            MayAsk::Yes | MayAsk::NoNeed | MayAsk::Never => None,
        }
    }
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// It holds from now on.
    Taken,
    /// It is older than what is known.
    Stale,
    /// The person withdrew, and this grant is not newer than that or brings no new evidence.
    SupersededByWithdrawal,
}

/// How long nobody asks again after a refusal, in days (N19: six months).
const DO_NOT_ASK_DAYS: i64 = 183;

/// The format of an encoded standing; its first byte. Format 1 has no times of N29.
const VERSION: u8 = 2;

impl Standing {
    /// What is known of somebody unknown.
    pub fn unknown() -> Standing {
        Standing::default()
    }

    /// The standing of a purpose.
    pub fn of(&self, purpose: Purpose) -> Option<&Stand> {
        self.stands.iter().find(|(own, _)| *own == purpose).map(|(_, stand)| stand)
    }

    /// Every purpose that something was said about.
    pub fn all(&self) -> impl Iterator<Item = &(Purpose, Stand)> {
        self.stands.iter()
    }

    /// Whether the person agreed to this purpose and still does at `now`.
    pub fn allows(&self, purpose: Purpose, now: Timestamp) -> Permission {
        match self.of(purpose) {
            Some(stand)
                if stand.state == State::Granted
                    && !self.no_track
                    && stand.expires.is_none_or(|end| now < end) =>
            {
                Permission::Granted(stand.record)
            }
            other => Permission::NotGranted(other.map(|stand| stand.state)),
        }
    }

    /// Whether the person may be asked about these purposes at `now` (N19).
    pub fn may_ask(&self, purposes: &[Purpose], now: Timestamp) -> MayAsk {
        let is_granted = |purpose: &Purpose| matches!(self.allows(*purpose, now), Permission::Granted(_));
        match self.do_not_ask_before {
            _ if self.no_track => MayAsk::Never,
            _ if purposes.iter().all(is_granted) => MayAsk::NoNeed,
            Some(end) if now < end => MayAsk::NotBefore(end),
            _ => MayAsk::Yes,
        }
    }

    /// Takes in what was said, under the journal's number. The stricter reading wins: a withdrawal or objection stands until a
    /// later grant with evidence; of two things said at one moment, the stricter one.
    pub fn merge(&mut self, change: &Change, record: u64, has_evidence: bool) -> Merge {
        let mut merge = Merge::Stale;
        for &purpose in &change.purposes {
            match self.judge(purpose, change, has_evidence) {
                Merge::Taken => {
                    merge = Merge::Taken;
                    if change.state == State::Asked && self.is_withdrawn(purpose) {
                        // To be asked again is no answer: the withdrawal stands, and nobody asks again soon.
                        continue;
                    }
                    let stand = Stand {
                        state: change.state,
                        event_at: change.event_at,
                        expires: change.expires,
                        record,
                    };
                    self.stands.retain(|(own, _)| *own != purpose);
                    self.stands.push((purpose, stand));
                }
                Merge::SupersededByWithdrawal if merge == Merge::Stale => {
                    merge = Merge::SupersededByWithdrawal
                }
                Merge::SupersededByWithdrawal | Merge::Stale => {}
            }
        }
        if merge == Merge::Taken {
            self.take_rest(change);
        }
        merge
    }

    /// What would become of a change, without taking it in.
    pub fn judge_all(&self, change: &Change, has_evidence: bool) -> Merge {
        self.clone().merge(change, 0, has_evidence)
    }

    fn judge(&self, purpose: Purpose, change: &Change, has_evidence: bool) -> Merge {
        let Some(known) = self.of(purpose) else { return Merge::Taken };
        let newer = change.event_at > known.event_at;
        match (known.state, change.state) {
            (old, _) if old.is_withdrawal() && !change.state.is_withdrawal() => {
                let counts = match change.state {
                    State::Granted | State::Asked => has_evidence,
                    new => new >= State::Granted,
                };
                if newer && counts { Merge::Taken } else { Merge::SupersededByWithdrawal }
            }
            (_, new) if new.is_withdrawal() && change.event_at >= known.event_at => Merge::Taken,
            _ if newer => Merge::Taken,
            (old, new) if change.event_at == known.event_at && new > old => Merge::Taken,
            _ => Merge::Stale,
        }
    }

    fn is_withdrawn(&self, purpose: Purpose) -> bool {
        self.of(purpose).is_some_and(|own| own.state.is_withdrawal())
    }

    fn take_rest(&mut self, change: &Change) {
        if change.jurisdiction.is_some() {
            self.jurisdiction.clone_from(&change.jurisdiction);
        }
        if let Some(no_track) = change.no_track {
            self.no_track = no_track;
        }
        // A question without an answer is a refusal in this (N19).
        let no = match change.state {
            State::Refused | State::Withdrawn | State::Objected => Some(change.event_at),
            State::Asked => Some(change.asked_at.unwrap_or(change.event_at)),
            State::NeverAsked | State::Granted => None,
        };
        let pause = no.map(|since| since.plus_days(DO_NOT_ASK_DAYS));
        self.do_not_ask_before = change.do_not_ask_before.max(pause).max(self.do_not_ask_before);
        if change.collected_at.is_some() {
            // The last time counts for collecting, the first for informing. A notice without the other says nothing about N29.
            self.collected_at = self.collected_at.max(change.collected_at);
            let notices = self.notice_sent_at.into_iter().chain(change.notice_sent_at);
            self.notice_sent_at = notices.min();
        }
    }

    /// The bytes kept in the index.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION, u8::from(self.no_track)];
        let time = |out: &mut Vec<u8>, time: Option<Timestamp>| {
            out.extend_from_slice(&time.map_or(i64::MIN, |time| time.0).to_le_bytes());
        };
        time(&mut out, self.do_not_ask_before);
        time(&mut out, self.collected_at);
        time(&mut out, self.notice_sent_at);
        let jurisdiction = self.jurisdiction.as_deref().unwrap_or_default().as_bytes();
        out.push(u8::try_from(jurisdiction.len()).unwrap_or(0));
        out.extend_from_slice(
            jurisdiction
                .get(..usize::from(u8::try_from(jurisdiction.len()).unwrap_or(0)))
                .unwrap_or_default(),
        );
        for (purpose, stand) in &self.stands {
            out.extend_from_slice(&[purpose.number(), stand.state as u8]);
            time(&mut out, Some(stand.event_at));
            time(&mut out, stand.expires);
            out.extend_from_slice(&stand.record.to_le_bytes());
        }
        out
    }

    /// Reads the bytes kept in the index; `None` where they are none.
    pub fn decode(bytes: &[u8]) -> Option<Standing> {
        let (&[version, no_track], rest) = bytes.split_first_chunk::<2>()?;
        if !(1..=VERSION).contains(&version) {
            return None;
        }
        let time = |bytes: &[u8; 8]| {
            Some(i64::from_le_bytes(*bytes)).filter(|time| *time != i64::MIN).map(Timestamp)
        };
        let (pause, mut rest) = rest.split_first_chunk::<8>()?;
        let (mut collected_at, mut notice_sent_at) = (None, None);
        if version > 1 {
            let (collected, tail) = rest.split_first_chunk::<8>()?;
            let (notice, tail) = tail.split_first_chunk::<8>()?;
            (collected_at, notice_sent_at, rest) = (time(collected), time(notice), tail);
        }
        let (&length, rest) = rest.split_first()?;
        let (jurisdiction, mut rest) = rest.split_at_checked(usize::from(length))?;
        let mut standing = Standing {
            stands: Vec::new(),
            jurisdiction: Some(String::from_utf8(jurisdiction.to_vec()).ok()?)
                .filter(|text| !text.is_empty()),
            no_track: no_track != 0,
            do_not_ask_before: time(pause),
            collected_at,
            notice_sent_at,
        };
        while let Some((&[purpose, state], tail)) = rest.split_first_chunk::<2>() {
            let (event_at, tail) = tail.split_first_chunk::<8>()?;
            let (expires, tail) = tail.split_first_chunk::<8>()?;
            let (record, tail) = tail.split_first_chunk::<8>()?;
            let stand = Stand {
                state: State::from_number(state)?,
                event_at: time(event_at)?,
                expires: time(expires),
                record: u64::from_le_bytes(*record),
            };
            standing.stands.push((Purpose::from_number(purpose)?, stand));
            rest = tail;
        }
        rest.is_empty().then_some(standing)
    }
}

#[cfg(test)]
mod tests {
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
            merge = standing.merge(&change(*state, *at), record, *evidence);
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
        standing.merge(&change(State::Withdrawn, 0), 1, false);
        assert_eq!(standing.merge(&change(State::Asked, 200 * day), 2, true), Merge::Taken);
        assert_eq!(standing.of(PURPOSE).map(|own| (own.state, own.record)), Some((State::Withdrawn, 1)));
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
            standing.merge(&change(state, 1), 7, true);
            let granted = standing.allows(PURPOSE, now) == Permission::Granted(7);
            assert_eq!(granted, state == State::Granted);
            assert_eq!(standing.allows(Purpose::Personalisation, now), Permission::NotGranted(None));
        }
        let mut standing = Standing::unknown();
        standing.merge(&Change { expires: Some(now), ..change(State::Granted, 1) }, 7, true);
        assert_eq!(standing.allows(PURPOSE, Timestamp(99)), Permission::Granted(7));
        assert_eq!(standing.allows(PURPOSE, now), Permission::NotGranted(Some(State::Granted)));
        let mut standing = Standing::unknown();
        standing.merge(&Change { no_track: Some(true), ..change(State::Granted, 1) }, 7, true);
        assert_eq!(standing.allows(PURPOSE, now), Permission::NotGranted(Some(State::Granted)));
    }

    #[test]
    fn a_refusal_and_silence_set_the_pause_before_asking_again() {
        let half_a_year = Some(Timestamp(183 * 86_400_000));
        for state in State::ALL {
            let mut standing = Standing::unknown();
            standing.merge(&change(state, 0), 1, true);
            let pauses = !matches!(state, State::NeverAsked | State::Granted);
            assert_eq!(standing.do_not_ask_before, half_a_year.filter(|_| pauses), "{state:?}");
        }
        let mut standing = Standing::unknown();
        standing.merge(&Change { asked_at: Some(Timestamp(0)), ..change(State::Asked, 9) }, 1, false);
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
        standing.merge(&informed(None, Some(3), 1), 1, true);
        assert_eq!((standing.collected_at, standing.notice_sent_at), (None, None));
        standing.merge(&informed(Some(5), Some(8), 2), 2, true);
        standing.merge(&informed(Some(6), Some(9), 3), 3, true);
        standing.merge(&informed(Some(4), None, 4), 4, true);
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
                standing.merge(change, record, true);
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
        standing.merge(&full, 3, true);
        let bytes = standing.encode();
        assert_eq!(Standing::decode(&bytes), Some(standing));
        for end in 0..bytes.len() {
            let _ = Standing::decode(&bytes[..end]);
        }
        assert_eq!(Standing::decode(&[9, 0]), None);
    }
}
