use super::*;

fn check(name: &str, work: impl FnOnce(&Path, &StoreKey)) {
    let path = std::env::temp_dir().join(format!("pixelward-pseudonyms-{name}-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    work(&path, &StoreKey::new([1; 32]));
    std::fs::remove_file(&path).unwrap();
}

fn person(number: u32) -> Person {
    StoreKey::new([2; 32]).person(&format!("p{number}@home.example"))
}

fn tag(pseudonyms: &Pseudonyms, person: Person) -> Option<[u8; 16]> {
    pseudonyms.of(person).map(|pseudonym| pseudonym.tag(b"here"))
}

#[test]
fn erasing_one_takes_that_ones_tags_and_nobody_elses() {
    check("erase", |path, key| {
        let mut pseudonyms = Pseudonyms::open(path, key).unwrap();
        let before: Vec<_> = (0..300).map(|number| tag(&pseudonyms, person(number)).unwrap()).collect();
        assert_ne!(pseudonyms.of(person(1)).unwrap().tag(b"there"), before[1]);
        for number in (0..300).step_by(3) {
            assert!(pseudonyms.erase(person(number)).unwrap());
            assert!(!pseudonyms.erase(person(number)).unwrap());
        }
        for again in [pseudonyms, Pseudonyms::open(path, key).unwrap(), Pseudonyms::read(path, key).unwrap()]
        {
            for number in 0..300 {
                let kept = (number % 3 != 0).then(|| before[number as usize]);
                assert_eq!(tag(&again, person(number)), kept, "{number}");
            }
        }
    });
}

#[test]
fn neighbours_that_share_all_but_the_last_digits_keep_their_tags() {
    check("near", |path, key| {
        let mut pseudonyms = Pseudonyms::open(path, key).unwrap();
        let near = |last: u8| Person([[7, 7, 7, 7, last].as_slice(), &[9; 11]].concat().try_into().unwrap());
        let before: Vec<_> = (0..=255).map(|last| tag(&pseudonyms, near(last))).collect();
        for last in 0..=255 {
            pseudonyms.erase(near(last)).unwrap();
            for other in 0..=255 {
                let kept = (other > last).then(|| before[usize::from(other)]).flatten();
                assert_eq!(tag(&pseudonyms, near(other)), kept, "{last} {other}");
            }
        }
    });
}

#[test]
fn who_comes_back_has_another_tag_and_can_be_erased_again() {
    check("back", |path, key| {
        let mut pseudonyms = Pseudonyms::open(path, key).unwrap();
        let (ann, bob) = (person(1), person(2));
        let mut seen = vec![tag(&pseudonyms, ann).unwrap()];
        let bobs = tag(&pseudonyms, bob);
        for _ in 0..3 {
            assert!(pseudonyms.erase(ann).unwrap());
            assert_eq!(tag(&pseudonyms, ann), None);
            let again = pseudonyms.of_or_new(ann).unwrap().tag(b"here");
            assert!(!seen.contains(&again));
            seen.push(again);
            pseudonyms = Pseudonyms::open(path, key).unwrap();
            assert_eq!(tag(&pseudonyms, ann), Some(again));
            assert_eq!(tag(&pseudonyms, bob), bobs);
        }
    });
}

#[test]
fn the_root_is_not_in_the_file_any_more() {
    check("root", |path, key| {
        let mut pseudonyms = Pseudonyms::open(path, key).unwrap();
        let root = std::fs::read(path).unwrap()[SLOT..2 * SLOT].to_vec();
        pseudonyms.erase(person(1)).unwrap();
        let file = std::fs::read(path).unwrap();
        assert!(memchr::memmem::find(&file, &root[..SEALED]).is_none());
        assert_eq!(file.len(), (2 + 60) * SLOT);
    });
}

#[test]
fn an_erasure_that_was_cut_off_harms_nobody_and_can_be_done_again() {
    check("cut", |path, key| {
        let mut pseudonyms = Pseudonyms::open(path, key).unwrap();
        let root = std::fs::read(path).unwrap()[SLOT..2 * SLOT].to_vec();
        let (ann, bob) = (tag(&pseudonyms, person(1)), tag(&pseudonyms, person(2)));
        pseudonyms.erase(person(1)).unwrap();
        // As if the root had not been overwritten yet.
        pseudonyms.slots.write(1, &root).unwrap();
        let mut pseudonyms = Pseudonyms::open(path, key).unwrap();
        assert_eq!((tag(&pseudonyms, person(1)), tag(&pseudonyms, person(2))), (ann, bob));
        assert!(pseudonyms.erase(person(1)).unwrap());
        let beside = path.with_extension("copy");
        copy(path, &beside).unwrap();
        assert_eq!(std::fs::read(&beside).unwrap(), std::fs::read(path).unwrap());
        std::fs::remove_file(beside).unwrap();
        let pseudonyms = Pseudonyms::open(path, key).unwrap();
        assert_eq!((tag(&pseudonyms, person(1)), tag(&pseudonyms, person(2))), (None, bob));
        assert_eq!(std::fs::read(path).unwrap().len(), (2 + 60) * SLOT);
    });
}

#[test]
fn damage_is_seen_wherever_it_is_and_made_good_without_giving_back_who_was_erased() {
    check("damage", |path, key| {
        let mut keys = Pseudonyms::open(path, key).unwrap();
        let before: Vec<_> = (0..50).map(|number| tag(&keys, person(number))).collect();
        for number in 0..5 {
            keys.erase(person(number)).unwrap();
        }
        drop(keys);
        assert_eq!(Pseudonyms::inspect(path, key), None);
        let sound = std::fs::read(path).unwrap();
        let slots = sound.len() / SLOT;
        let check = |what: &str, bytes: &[u8], is_damaged: bool| {
            std::fs::write(path, bytes).unwrap();
            assert_eq!(Pseudonyms::inspect(path, key).is_some(), is_damaged, "{what}");
            let Ok(mut keys) = Pseudonyms::open(path, key) else {
                assert!(is_damaged, "{what}");
                return;
            };
            assert_eq!(keys.repair().unwrap().is_some(), is_damaged, "{what}");
            for again in [keys, Pseudonyms::open(path, key).unwrap()] {
                for (number, before) in (0..).zip(&before).skip(5) {
                    assert!(tag(&again, person(number)).is_some(), "{what}: p{number} has none");
                    assert!(is_damaged || tag(&again, person(number)) == *before, "{what}: p{number}");
                }
                for (number, before) in (0..).zip(&before).take(5) {
                    assert_ne!(tag(&again, person(number)), *before, "{what}: p{number} came back");
                }
            }
            assert_eq!(Pseudonyms::inspect(path, key), None, "{what}");
        };
        check("sound", &sound, false);
        for slot in 0..slots {
            let is_empty = slot > 0 && sound[slot * SLOT] == ERASED;
            let mut bytes = sound.clone();
            bytes[slot * SLOT..(slot + 1) * SLOT].fill(0);
            check(&format!("slot {slot} zeroed"), &bytes, !is_empty);
            let mut bytes = sound.clone();
            bytes[slot * SLOT] ^= 0x40;
            check(&format!("slot {slot}, its state"), &bytes, true);
            let mut bytes = sound.clone();
            bytes[slot * SLOT + 20] ^= 1;
            check(&format!("slot {slot} flipped"), &bytes, !is_empty);
            check(&format!("cut at slot {slot}"), &sound[..slot * SLOT], true);
            check(&format!("cut within slot {slot}"), &sound[..slot * SLOT + 9], true);
        }
        check("zeroed", &vec![0; sound.len()], true);
        // A file of an early version has no count of its slots.
        let mut early = sound.clone();
        early[MAGIC.len()..MAGIC.len() + 12].fill(0);
        check("early", &early, false);
    });
}

#[test]
fn another_store_key_is_refused() {
    check("other", |path, key| {
        drop(Pseudonyms::open(path, key).unwrap());
        let error = Pseudonyms::open(path, &StoreKey::new([9; 32])).unwrap_err();
        assert!(error.to_string().contains("store.key"), "{error}");
    });
}
