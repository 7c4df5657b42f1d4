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
    assert_eq!((standing.collected_at, standing.notice_sent_at), (Some(Timestamp(6)), Some(Timestamp(8))));
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
    (said, any::<Option<bool>>(), places, ends, times).prop_map(|(said, no_track, place, end, collected)| {
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
    })
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
