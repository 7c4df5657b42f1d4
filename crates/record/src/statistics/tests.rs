use super::*;
use crate::evidence::record::Record;

fn record(at: i64, mailstream: &str) -> Record<'static> {
    let sighting =
        crate::evidence::record::Sighted { carrier: "img".into(), vendor: "SendGrid".into(), count: 2 };
    Record {
        at,
        controller: "shop".into(),
        mailstream: mailstream.to_owned().into(),
        done: "strip".into(),
        sightings: vec![sighting].into(),
        ..Record::default()
    }
}

fn check(name: &str, work: impl FnOnce(&Path)) {
    let folder = std::env::temp_dir().join(format!("pixelward-statistics-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    work(&folder);
    let _ = std::fs::remove_dir_all(&folder);
}

const DAY: i64 = 86_400_000;

#[test]
fn nothing_is_counted_twice_or_forgotten_across_restarts_and_days() {
    check("restart", |folder| {
        let records: Vec<Record<'static>> =
            (0..9).map(|number| record(20_000 * DAY + number * DAY / 3, "news")).collect();
        for known in 0..=records.len() {
            let _ = std::fs::remove_dir_all(folder);
            let numbered = || (1..).zip(&records);
            let mut statistics = Statistics::open(folder, 1095);
            numbered().take(known).for_each(|(number, record)| statistics.take(365, number, record));
            statistics.save();
            // What came after that is not saved, and the process ends.
            numbered().for_each(|(number, record)| statistics.take(365, number, record));
            let mut statistics = Statistics::open(folder, 1095);
            numbered().for_each(|(number, record)| statistics.take(365, number, record));
            statistics.save();
            let (counts, days) = since(folder, "").unwrap();
            assert_eq!(days, 3);
            assert_eq!(counts.recipients.values().sum::<u64>(), 9);
            assert_eq!(
                counts.trackers.into_iter().map(|(kind, count)| (kind.vendor, count)).collect::<Vec<_>>(),
                [("SendGrid".to_owned(), 18)]
            );
            assert_eq!(since(folder, "2024-10-05").unwrap().0.recipients.values().sum::<u64>(), 6);
        }
    });
}

#[test]
fn what_has_changed_is_due_until_it_is_written_or_cannot_be() {
    check("due", |folder| {
        let mut statistics = Statistics::open(folder, 1095);
        assert!(!statistics.is_due());
        statistics.take(365, 1, &record(5, "news"));
        assert!(statistics.is_due());
        statistics.save();
        assert!(!statistics.is_due());
        statistics.take(365, 2, &record(5, "news"));
        std::fs::remove_dir_all(folder).unwrap();
        std::fs::write(folder, "in the way").unwrap();
        statistics.save();
        assert!(!statistics.is_due());
        std::fs::remove_file(folder).unwrap();
        statistics.save();
        assert_eq!(since(folder, "").unwrap().0.recipients.values().sum::<u64>(), 2);
    });
}

#[test]
fn rows_have_a_limit_and_the_sum_stays_right() {
    check("limit", |folder| {
        let mut statistics = Statistics::open(folder, 1095);
        for number in 1..=5000u64 {
            statistics.take(365, number, &record(5, &format!("m{number}")));
        }
        statistics.save();
        let (counts, _) = since(folder, "1970-01-01").unwrap();
        assert_eq!((counts.recipients.len(), counts.trackers.len()), (MAX_ROWS + 1, MAX_ROWS + 1));
        assert_eq!(counts.recipients.values().sum::<u64>(), 5000);
        assert_eq!(counts.trackers.values().sum::<u64>(), 10_000);
    });
}

#[test]
fn a_file_of_a_later_version_is_named() {
    check("later", |folder| {
        std::fs::create_dir_all(folder.join("statistics")).unwrap();
        let path = folder.join("statistics/2026-11-24.json");
        std::fs::write(path, r#"{"format":2,"day":"","counted":{},"recipients":[],"trackers":[]}"#).unwrap();
        assert!(since(folder, "").unwrap_err().contains("later version"));
    });
}

#[test]
fn hours_are_those_of_two_days_even_across_restarts() {
    check("hours", |folder| {
        let hours = |day: i64| counts_of(&path(&folder.join("statistics"), day).unwrap()).unwrap().hours;
        for restarts in [false, true] {
            let mut statistics = Statistics::open(folder, 1095);
            for (number, day) in (1..).zip(20_000..20_004) {
                if restarts {
                    statistics.save();
                    statistics = Statistics::open(folder, 1095);
                }
                statistics.take(365, number, &record(day * DAY + 5 * DAY / 24 + 7, "news"));
                statistics.take(365, number + 10, &record(day * DAY + 6 * DAY / 24, "news"));
            }
            statistics.save();
            assert!(hours(20_000).is_empty() && hours(20_001).is_empty());
            for day in [20_002, 20_003] {
                let found: Vec<(u8, u64, u64)> = hours(day)
                    .into_iter()
                    .map(|(kind, count)| (kind.hour, count.recipients, count.trackers))
                    .collect();
                assert_eq!(found, [(5, 1, 2), (6, 1, 2)]);
            }
            let _ = std::fs::remove_dir_all(folder);
        }
    });
}
