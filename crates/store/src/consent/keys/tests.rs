use super::*;

fn check(name: &str, work: impl FnOnce(&Path)) {
    let path = std::env::temp_dir().join(format!("pixelward-keys-{name}-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    work(&path);
    std::fs::remove_file(&path).unwrap();
}

fn person(number: u8) -> Person {
    Person([number; 16])
}

#[test]
fn people_are_found_again_and_erased_for_good() {
    check("erase", |path| {
        let store_key = StoreKey::new([1; 32]);
        let mut keys = Keys::open(path, &store_key).unwrap();
        let (ann, _) = keys.find_or_create(person(1)).unwrap();
        let (bob, _) = keys.find_or_create(person(2)).unwrap();
        let sealed = ann.sealer().seal(b"secret", b"");
        keys.sync().unwrap();
        let mut keys = Keys::open(path, &store_key).unwrap();
        assert_eq!(keys.find(person(1)), Some(ann));
        assert_eq!(keys.find(person(1)).unwrap().sealer().open(&sealed, b"").unwrap(), b"secret");
        assert!(keys.erase(person(1)).unwrap());
        assert_eq!((keys.find(person(1)), keys.len()), (None, 1));
        let mut keys = Keys::open(path, &store_key).unwrap();
        assert_eq!((keys.find(person(1)), keys.find(person(2))), (None, Some(bob)));
        let (again, is_new) = keys.find_or_create(person(1)).unwrap();
        assert!(is_new && again.id != ann.id);
        assert_eq!(again.slot, ann.slot);
        assert!(again.sealer().open(&sealed, b"").is_err());
    });
}

#[test]
fn another_store_key_is_refused() {
    check("other", |path| {
        let mut keys = Keys::open(path, &StoreKey::new([1; 32])).unwrap();
        keys.find_or_create(person(1)).unwrap();
        assert!(Keys::open(path, &StoreKey::new([2; 32])).unwrap_err().to_string().contains("store.key"));
    });
}

#[test]
fn a_slot_that_was_cut_off_harms_no_other() {
    check("torn", |path| {
        let store_key = StoreKey::new([1; 32]);
        let mut keys = Keys::open(path, &store_key).unwrap();
        let (ann, _) = keys.find_or_create(person(1)).unwrap();
        keys.find_or_create(person(2)).unwrap();
        let mut torn = keys.slots.read(2).unwrap();
        torn[60..100].fill(0);
        keys.slots.write(2, &torn).unwrap();
        let keys = Keys::open(path, &store_key).unwrap();
        assert_eq!((keys.find(person(1)), keys.find(person(2))), (Some(ann), None));
    });
}

#[test]
fn people_with_one_tag_are_told_apart_and_a_table_that_grows_loses_nobody() {
    check("many", |path| {
        let store_key = StoreKey::new([1; 32]);
        let mut keys = Keys::open(path, &store_key).unwrap();
        let person = |number: u32| Person([number.to_le_bytes(); 4].concat().try_into().unwrap());
        let made: Vec<Entry> =
            (0..3000).map(|number| keys.find_or_create(person(number)).unwrap().0).collect();
        // As if the two had one tag.
        let (tag, other) = (keys.tag(person(1)).1, keys.find(person(2)).unwrap());
        let known = Known { tag, slot: other.slot };
        keys.people.insert_unique(hash(&known), known, hash);
        assert_eq!(keys.find(person(1)), Some(made[1]));
        let keys = Keys::open(path, &store_key).unwrap();
        assert_eq!(keys.len(), 3000);
        for number in (0..3000).step_by(7) {
            assert_eq!(keys.find(person(number)), Some(made[number as usize]));
        }
        assert_eq!(keys.find(person(3000)), None);
    });
}

#[test]
fn slots_without_a_tag_are_found_and_erased_too() {
    check("untagged", |path| {
        let store_key = StoreKey::new([1; 32]);
        let mut keys = Keys::open(path, &store_key).unwrap();
        let (ann, _) = keys.find_or_create(person(1)).unwrap();
        keys.find_or_create(person(2)).unwrap();
        let mut bytes = keys.slots.read(ann.slot).unwrap();
        bytes[0] = USED;
        bytes[TAG..].fill(0);
        keys.slots.write(ann.slot, &bytes).unwrap();
        let mut keys = Keys::open(path, &store_key).unwrap();
        assert_eq!(keys.find(person(1)), Some(ann));
        assert_eq!(keys.erase_ids(&HashSet::from([ann.id, [0; 16]])).unwrap(), [person(1)]);
        assert_eq!((keys.find(person(1)), keys.len()), (None, 1));
        assert_eq!(Keys::open(path, &store_key).unwrap().len(), 1);
    });
}
