use std::sync::mpsc;

use proptest::prelude::*;

use super::*;
use crate::consent::ordered::{Expired, Open, Ordered, Said};
use crate::consent::record::{State, Timing};
use crate::consent::standing::Permission;
use crate::policy::Purpose;

const PEOPLE: usize = 4;
const PURPOSE: Purpose = Purpose::CampaignPerformance;

fn shop() -> Controller {
    "shop".parse().unwrap()
}

/// A store with the key that all of a cluster have.
fn node(folder: &tempfile::TempDir) -> Store {
    let settings = Settings::at(folder.path());
    if !settings.store_key().exists() {
        pixelward_files::write_private(&settings.store_key(), &[7; 32]).unwrap();
    }
    Store::open(&settings).unwrap()
}

fn apply(store: &Store, steps: &[(u64, Step)]) -> Result<Vec<Outcome>, StoreError> {
    let (done, outcomes) = mpsc::channel();
    store.apply(steps.to_vec(), move |applied| done.send(applied).unwrap()).unwrap();
    outcomes.recv().unwrap()
}

/// Every record with the chain's hash.
fn journal(store: &Store) -> Vec<(u64, Vec<u8>, ChainHash)> {
    let mut all = Vec::new();
    store.each_link(|number, _, payload, hash| all.push((number, payload.to_vec(), *hash))).unwrap();
    all
}

fn begin() -> Step {
    Step::Begin { epoch: Epoch { number: 1, at: Timestamp(1) }, head: Head::EMPTY }
}

/// Gives a person an id of this byte.
fn key_of(number: usize, id: u8) -> Step {
    Step::Key { person: person(number), id: [id; 16], key: [!id; 32] }
}

fn person(number: usize) -> Person {
    crate::consent::StoreKey::new([7; 32]).person(&format!("reader{number}@home.example"))
}

fn said(number: usize, id: u8, state: State, at: i64, timing: Timing, expected: Option<u64>) -> Step {
    let mut change = Change::new(shop(), vec![PURPOSE], state, Timestamp(at));
    change.details.evidence = Some("form/1".to_owned());
    let sealer = crate::consent::seal::Sealer::new(&[!id; 32]);
    let record = Record::new([id; 16], &sealer, Timestamp(at), &change);
    Step::Change(Box::new(Ordered { person: person(number), record, timing, expected }))
}

/// The same as the first thing that a person says, with the id that they get by it.
fn first(number: usize, id: u8, state: State, at: i64) -> Step {
    let Step::Change(change) = said(number, id, state, at, Timing::Claimed, None) else { panic!("a change") };
    Step::First { key: [!id; 32], change }
}

fn is_granted(store: &Store, number: usize) -> bool {
    let standing = store.known(&shop(), person(number)).unwrap();
    matches!(standing.allows(PURPOSE, Timestamp(100)), Permission::Granted(_))
}

/// What a step is about, before it is known which ids its person had until then.
#[derive(Clone, Debug)]
enum Rough {
    Key(usize),
    First { number: usize, state: State, at: i64 },
    Change { number: usize, which: usize, state: State, at: i64, timing: Timing, expected: Option<u64> },
    Erase(usize, i64),
    Expire { number: usize, which: usize, newest: u64 },
}

fn rough() -> impl Strategy<Value = Rough> {
    let states = [State::Granted, State::Refused, State::Withdrawn, State::Asked, State::Objected];
    let change =
        (0..PEOPLE, 0..3usize, 0..states.len(), 1..50i64, any::<bool>(), proptest::option::of(0..6u64));
    prop_oneof![
        2 => (0..PEOPLE).prop_map(Rough::Key),
        2 => (0..PEOPLE, 0..states.len(), 1..50i64)
            .prop_map(move |(number, state, at)| Rough::First { number, state: states[state], at }),
        8 => change.prop_map(move |(number, which, state, at, is_now, expected)| {
            let timing = if is_now { Timing::Now } else { Timing::Claimed };
            let expected = expected.filter(|expected| *expected < 3);
            Rough::Change { number, which, state: states[state], at, timing, expected }
        }),
        1 => (0..PEOPLE, 1..50i64).prop_map(|(number, at)| Rough::Erase(number, at)),
        1 => (0..PEOPLE, 0..3usize, 0..8u64)
            .prop_map(|(number, which, newest)| Rough::Expire { number, which, newest }),
    ]
}

/// Makes steps of it. As relays do, each gives a person an id that nobody had before, and names only ids that
/// were given before, whether they count, were never valid, or belong to somebody erased.
fn steps(rough: Vec<Rough>) -> Vec<Step> {
    let mut ids: Vec<Vec<u8>> = vec![Vec::new(); PEOPLE];
    let mut fresh = 0;
    let mut steps = vec![begin()];
    for rough in rough {
        let id_of = |number: usize, which: usize| {
            let ids = &ids[number];
            ids.len().checked_sub(1 + which % ids.len().max(1)).map(|place| ids[place])
        };
        steps.extend(match rough {
            Rough::Key(number) => {
                fresh += 1;
                ids[number].push(fresh);
                Some(key_of(number, fresh))
            }
            Rough::First { number, state, at } => {
                fresh += 1;
                ids[number].push(fresh);
                Some(first(number, fresh, state, at))
            }
            Rough::Change { number, which, state, at, timing, expected } => {
                id_of(number, which).map(|id| said(number, id, state, at, timing, expected))
            }
            Rough::Erase(number, at) => Some(Step::Erase { person: person(number), at: Timestamp(at) }),
            Rough::Expire { number, which, newest } => id_of(number, which).map(|id| {
                let key = key(shop().as_str(), &[id; 16]);
                let people = vec![Expired { id: [id; 16], key, newest }];
                Step::Expire { people, at: Timestamp(60) }
            }),
        });
    }
    steps
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However the messages are cut into batches, however often a node is stopped in between or hears a message
    /// twice: all have the same records, and the same things count.
    #[test]
    fn stores_that_apply_the_same_messages_have_the_same_journal(
        rough in proptest::collection::vec(rough(), 1..80),
        cuts in proptest::collection::vec(1..9usize, 1..40),
    ) {
        let steps: Vec<(u64, Step)> = (1..).zip(steps(rough)).collect();
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let whole = node(&first);
        let outcomes = apply(&whole, &steps).unwrap();
        let mut pieces = node(&second);
        let mut at = 0;
        for (turn, cut) in cuts.iter().cycle().enumerate() {
            if at >= steps.len() {
                break;
            }
            let end = (at + cut).min(steps.len());
            // The last message of the batch before comes again.
            let again = apply(&pieces, &steps[at.saturating_sub(1)..end]).unwrap();
            prop_assert!(again.ends_with(&outcomes[at..end]));
            at = end;
            // What left no record comes again after each, so that there is an end to them.
            if turn % 5 == 4 && turn < 40 {
                drop(pieces);
                pieces = node(&second);
                at = usize::try_from(pieces.position()).unwrap();
            }
        }
        prop_assert_eq!(journal(&whole), journal(&pieces));
        for number in 0..PEOPLE {
            prop_assert_eq!(is_granted(&whole, number), is_granted(&pieces, number));
        }
        prop_assert!(whole.verify().unwrap().is_sound() && pieces.verify().unwrap().is_sound());
        prop_assert_eq!(whole.epoch().unwrap().map(|epoch| epoch.number), Some(1));
    }
}

#[test]
fn steps_read_back_as_they_were_written() {
    let expire = Step::Expire {
        people: vec![Expired { id: [3; 16], key: key("shop", &[3; 16]), newest: 300 }],
        at: Timestamp(9),
    };
    let erase = Step::Erase { person: person(1), at: Timestamp(9) };
    let change = said(1, 9, State::Granted, 5, Timing::Now, Some(0));
    for step in [begin(), key_of(1, 9), change, first(1, 9, State::Granted, 5), erase, expire] {
        let bytes = step.encode();
        assert_eq!(Step::decode(&bytes), Ok(step));
        for end in 0..bytes.len() {
            let _ = Step::decode(&bytes[..end]);
        }
    }
    assert!(Step::decode(&[2, 0]).is_err());
}

#[test]
fn an_order_that_began_after_another_journal_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = node(&folder);
    let other =
        Step::Begin { epoch: Epoch { number: 1, at: Timestamp(1) }, head: Head { count: 1, hash: [1; 32] } };
    assert!(matches!(apply(&store, &[(1, other)]), Err(StoreError::Misfit(_))));
    assert_eq!((store.position(), store.head()), (0, Head::EMPTY));
}

#[test]
fn of_two_first_words_about_a_person_the_one_with_the_first_key_counts() {
    let folder = tempfile::tempdir().unwrap();
    let store = node(&folder);
    let steps = [
        begin(),
        first(1, 9, State::Granted, 5),
        first(1, 8, State::Withdrawn, 6),
        said(1, 9, State::Withdrawn, 6, Timing::Claimed, None),
    ];
    let steps: Vec<(u64, Step)> = (1..).zip(steps).collect();
    let expected = [
        Outcome::Begun,
        Outcome::Change(Applied::Recorded(2)),
        Outcome::Gone,
        Outcome::Change(Applied::Recorded(3)),
    ];
    assert_eq!(apply(&store, &steps).unwrap(), expected);
    let history = store.history(person(1)).unwrap();
    assert_eq!(history[0].change.details.evidence.as_deref(), Some("form/1"), "sealed under the first key");
    drop(store);
    let store = node(&folder);
    assert_eq!((store.position(), store.head().count), (4, 3));
    assert!(store.verify().unwrap().is_sound());
}

#[test]
fn a_change_of_somebody_erased_before_it_is_not_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let store = node(&folder);
    let granted = said(1, 9, State::Granted, 5, Timing::Claimed, None);
    let erase = Step::Erase { person: person(1), at: Timestamp(6) };
    let steps = [begin(), key_of(1, 9), granted.clone(), erase, granted];
    let outcomes = apply(&store, &(1..).zip(steps).collect::<Vec<_>>()).unwrap();
    let expected = [
        Outcome::Begun,
        Outcome::Key,
        Outcome::Change(Applied::Recorded(2)),
        Outcome::Erased(true),
        Outcome::Gone,
    ];
    assert_eq!(outcomes, expected);
    assert_eq!(store.hash_at(store.head().count), Some(store.head().hash));
}

#[test]
fn nobody_expires_whom_another_controller_heard_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let store = node(&folder);
    let heard = said(1, 9, State::Refused, 5, Timing::Claimed, None);
    let Step::Change(mut elsewhere) = heard.clone() else { panic!("a change") };
    elsewhere.record.change.controller = "other".parse().unwrap();
    let people = vec![Expired { id: [9; 16], key: key(shop().as_str(), &[9; 16]), newest: 2 }];
    let expire = |at| Step::Expire { people: people.clone(), at: Timestamp(at) };
    let steps = [begin(), key_of(1, 9), heard, Step::Change(elsewhere), expire(60)];
    let outcomes = apply(&store, &(1..).zip(steps).collect::<Vec<_>>()).unwrap();
    assert_eq!(outcomes[4], Outcome::Expired(0));
    assert!(store.knows(person(1)));
}

/// Keys are on disk before the next record is: an erasure of somebody unknown must not meet them.
#[test]
fn an_erasure_of_somebody_unknown_does_not_come_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let steps = [begin(), Step::Erase { person: person(1), at: Timestamp(6) }, key_of(1, 9)];
    let steps: Vec<(u64, Step)> = (1..).zip(steps).collect();
    let store = node(&folder);
    assert_eq!(apply(&store, &steps).unwrap()[1], Outcome::Erased(false));
    drop(store);
    let store = node(&folder);
    assert_eq!(store.position(), 2);
    apply(&store, &steps).unwrap();
    assert!(store.knows(person(1)) && store.verify().unwrap().is_sound());
}

/// An order of one relay that hears nobody.
struct Alone;

impl Order for Alone {
    fn is_fresh(&self) -> bool {
        false
    }

    fn submit(&self, said: Said) {
        drop(said);
    }

    fn leased(&self, _: &Name) -> Leased {
        Leased { term: 0, is_here: false, number: 0, since: Duration::ZERO }
    }

    fn opened(&self, open: Open) {
        drop(open);
    }
}

#[test]
fn without_news_of_the_others_nothing_counts_as_granted_and_what_is_known_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let store = node(&folder);
    let steps = [begin(), key_of(1, 9), said(1, 9, State::Granted, 5, Timing::Claimed, None)];
    apply(&store, &(1..).zip(steps).collect::<Vec<_>>()).unwrap();
    assert!(store.lookup(&shop(), person(1)).is_ok());
    assert!(store.join(Arc::new(Alone)) && !store.join(Arc::new(Alone)));
    assert!(matches!(store.lookup(&shop(), person(1)), Err(StoreError::NotFresh)));
    assert!(is_granted(&store, 1));
    // Whoever asks is told that there is no answer, and does not wait for ever.
    assert!(matches!(store.erase(person(1)), Err(StoreError::Closed)));
}

#[test]
fn what_was_heard_here_holds_before_the_order_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = node(&folder);
    let steps = [begin(), key_of(1, 9), said(1, 9, State::Granted, 5, Timing::Claimed, None)];
    apply(&store, &(1..).zip(steps).collect::<Vec<_>>()).unwrap();
    assert!(is_granted(&store, 1));
    let withdrawal = Change::now(shop(), vec![PURPOSE], State::Withdrawn);
    let heard = Heard::Change(person(1), Box::new(withdrawal));
    let sealed = store.waiting().seal(&heard, &[5; 16]);
    let opened = store.waiting().open(&sealed, &[5; 16]).unwrap();
    assert!(matches!(&opened, Heard::Change(who, change)
        if *who == person(1) && change.timing == Timing::Now && change.state == State::Withdrawn));
    assert!(store.waiting().open(&sealed, &[6; 16]).is_none());
    store.hear([5; 16], opened);
    store.hear([5; 16], heard);
    assert!(!is_granted(&store, 1));
    store.unhear(&[5; 16], person(1));
    assert!(is_granted(&store, 1));
    store.hear([6; 16], Heard::Erase(person(1)));
    assert!(!is_granted(&store, 1));
}
