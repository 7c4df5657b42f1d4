use std::path::{Path, PathBuf};

use super::*;
use crate::consent::person::StoreKey;

/// How many bytes say what file it is.
const MAGIC: usize = 18;

/// A file that goes when the test ends.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let path = std::env::temp_dir().join(format!("pixelward-days-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        Place(path)
    }

    /// What stands after `work` and a new start.
    fn after(&self, work: impl FnOnce(&Days)) -> Vec<(String, Option<u16>)> {
        work(&open(&self.0));
        let days = open(&self.0);
        let names = ["ann", "bob", "eve"];
        let newest = |name: &str| days.look(|table| table.newest("shop", |scope| tag(name, scope)));
        names.iter().map(|name| ((*name).to_owned(), newest(name).map(|day| day.0))).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn open(path: &Path) -> Days {
    Days::open(path).unwrap().0
}

fn tag(name: &str, scope: &[u8]) -> Tag {
    StoreKey::new([3; 32]).tag(&[name.as_bytes(), scope])
}

fn note(days: &Days, name: &str, mailstream: &str, day: u16) {
    days.note("shop", mailstream, tag(name, &scope("shop", mailstream)), Day(day));
}

fn check(name: &str, wanted: [Option<u16>; 3], work: impl FnOnce(&Days)) {
    let found = Place::new(name).after(work);
    assert_eq!(found.iter().map(|(_, day)| *day).collect::<Vec<_>>(), wanted, "{name}");
}

#[test]
fn a_later_day_takes_the_place_of_an_earlier_one_and_no_earlier_one_that_of_a_later() {
    check("newest", [Some(20_000), Some(20_003), None], |days| {
        note(days, "ann", "news", 19_999);
        note(days, "ann", "news", 20_000);
        note(days, "ann", "news", 19_000);
        note(days, "bob", "news", 20_001);
        note(days, "bob", "bills", 20_003);
    });
}

#[test]
fn the_rows_of_a_person_go_and_do_not_come_back() {
    check("removed", [None, Some(2), None], |days| {
        for mailstream in ["news", "bills"] {
            note(days, "ann", mailstream, 1);
        }
        note(days, "bob", "news", 2);
        days.remove(|scope| tag("ann", scope)).unwrap();
        days.remove(|scope| tag("nobody", scope)).unwrap();
    });
}

#[test]
fn what_is_too_old_goes_with_its_controller_alone() {
    check("expired", [None, Some(10), None], |days| {
        note(days, "ann", "news", 9);
        note(days, "bob", "news", 10);
        days.count("shop", "news", [1; 8], Day(9), 1);
        days.count("club", "news", [1; 8], Day(9), 1);
        days.note("club", "news", [7; 16], Day(1));
        assert_eq!(days.expire("shop", Day(10)), 2);
        assert_eq!((days.look(|table| table.len()), days.look(|table| table.counted("club").len())), (2, 1));
    });
}

#[test]
fn opens_of_a_campaign_are_counted_and_the_oldest_of_too_many_goes() {
    let place = Place::new("counts");
    let days = open(&place.0);
    for day in [3, 1, 2] {
        days.count("shop", "news", [1; 8], Day(day), 1);
    }
    drop(days);
    let days = open(&place.0);
    let one = Counted { mailstream: "news".to_owned(), campaign: [1; 8], opens: 3, last: Day(3) };
    assert_eq!(days.look(|table| table.counted("shop")), [one]);
    for number in 0..10_000u64 {
        days.count("shop", "news", number.to_le_bytes(), Day(4), 1);
    }
    let counted = days.look(|table| table.counted("shop"));
    assert!(counted.len() == 10_000 && counted.iter().all(|counted| counted.campaign != [1; 8]));
}

#[test]
fn an_end_that_was_not_written_whole_is_cut_off_wherever_it_ends() {
    let place = Place::new("torn");
    drop(open(&place.0));
    let days = open(&place.0);
    for (name, day) in [("ann", 1), ("bob", 2), ("eve", 3)] {
        note(&days, name, "news", day);
    }
    drop(days);
    let whole = std::fs::read(&place.0).unwrap();
    for end in MAGIC..whole.len() {
        std::fs::write(&place.0, &whole[..end]).unwrap();
        let (days, damage) = Days::open(&place.0).unwrap();
        assert_eq!((damage, days.look(|table| table.measured_since)), (None, None), "{end}");
        drop(days);
        std::fs::write(&place.0, &whole[..end]).unwrap();
        let found = place.after(|_| {});
        // Rows stand in the order in which they came, so what is missing is missing from the end.
        let known: Vec<_> = found.iter().map_while(|(_, day)| *day).collect();
        assert_eq!(known, [1, 2, 3][..known.len()], "{end}");
        assert!(found.iter().skip(known.len()).all(|(_, day)| day.is_none()), "{end}");
        let again = place.after(|days| note(days, "eve", "news", 9));
        assert_eq!(again[2].1, Some(9));
    }
    let last = whole.len() - 26;
    for at in MAGIC..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        std::fs::write(&place.0, &flipped).unwrap();
        // Damage before the last frame is told from a frame that was not written whole, and days before today
        // count no more.
        assert_eq!(Table::inspect(&place.0).is_some(), at < last, "{at}");
        let (days, damage) = Days::open(&place.0).unwrap();
        let since = days.look(|table| table.measured_since);
        assert_eq!((damage.is_some(), since.is_some()), (at < last, at < last), "{at}");
        drop(days);
        assert_eq!(open(&place.0).look(|table| table.measured_since), since, "{at}");
        assert_eq!(Table::inspect(&place.0), None, "{at}");
        let found = place.after(|_| {});
        assert!(found.iter().all(|(_, day)| day.is_none_or(|day| day <= 3)), "{at}");
    }
    for other in [&b"something else, and long enough"[..], &[0; 18], &whole[..MAGIC - 1], b""] {
        std::fs::write(&place.0, other).unwrap();
        assert!(Days::open(&place.0).is_err() && Table::load(&place.0).is_err());
        assert!(Table::inspect(&place.0).is_some());
    }
}

#[test]
fn the_file_stays_within_twice_what_it_holds_and_names_nobody() {
    let place = Place::new("compact");
    let mut days = open(&place.0);
    for day in 0..60u16 {
        for person in 0..1000u32 {
            days.note("shop", "news", tag(&person.to_string(), &scope("shop", "news")), Day(day));
        }
        // Closing writes what was gathered.
        drop(days);
        days = open(&place.0);
    }
    assert_eq!(days.look(|table| table.len()), 1000);
    let length = std::fs::metadata(&place.0).unwrap().len();
    assert!(length < (2 * 1000 * 26 + (1 << 20) + 200), "{length}");
    assert_eq!(Table::load(&place.0).unwrap().len(), 1000);
}

#[test]
fn a_day_is_written_as_a_date() {
    assert_eq!(Day::of(Timestamp::parse("2026-11-24T23:59:59Z").unwrap()).to_string(), "2026-11-24");
    assert_eq!(Day::of(Timestamp(-5)), Day(0));
}
