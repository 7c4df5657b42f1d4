//! Commands that compare relays: their journals, and what is left of erased people.

use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};

use super::relays::{Cluster, done, say, stop, verified};
use super::until;
use crate::support::Relay;

#[test]
fn equal_journals_are_said_to_be_and_the_first_record_that_differs_is_found() {
    let cluster = &mut Cluster::grown(2, &["ann@home.example"]);
    for number in 0..20 {
        say(&cluster.relays[number % 2], &format!("reader{number}@home.example"), "granted");
    }
    until("the journals are equal", || verified(&cluster.relays[0]) == verified(&cluster.relays[1]));
    let records: usize = records(&cluster.relays[0]);
    let said = done(&cluster.relays[0].command(&["cluster", "compare"]));
    assert!(said.contains(&format!("the same {records} records")), "{said}");

    // Somebody put in another record than the one that was there, with a chain that fits: number 15 on.
    let folder = stop(cluster.relays.pop().unwrap());
    let journal = folder.0.join("data/consent/00000001.journal");
    forge(&journal, 15);
    // The index and the second copy of the head would tell.
    std::fs::remove_dir_all(folder.0.join("data/consent/index")).unwrap();
    std::fs::remove_file(folder.0.join("data/consent/index.mark")).unwrap();
    std::fs::remove_file(folder.0.join("head")).unwrap();
    let forged = Relay::in_folder(folder);
    let compared = cluster.relays[0].command(&["cluster", "compare"]);
    let said = String::from_utf8_lossy(&compared.stdout).into_owned();
    assert_eq!(compared.status.code(), Some(1), "{said}");
    assert!(said.contains("differs from this relay's at record 15."), "{said}");
    drop(forged);

    // One that is gone is not equal to anything.
    let compared = cluster.relays[0].command(&["cluster", "compare"]);
    assert_eq!(compared.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&compared.stdout).contains("did not answer"));
}

/// Replaces a record by a copy of the one before, and makes the chain fit.
fn forge(journal: &Path, number: usize) {
    const HEAD: usize = 8 + 8 + 32;
    const FRAME: usize = 4 + 4 + 32;
    let bytes = std::fs::read(journal).unwrap();
    let (mut payloads, mut rest) = (Vec::new(), &bytes[HEAD..]);
    while !rest.is_empty() {
        let length = u32::from_le_bytes(*rest.first_chunk().unwrap()) as usize;
        payloads.push(rest[FRAME..FRAME + length].to_vec());
        rest = &rest[FRAME + length..];
    }
    payloads[number - 1] = payloads[number - 2].clone();
    let mut forged = bytes[..HEAD].to_vec();
    let mut hash = bytes[16..HEAD].to_vec();
    for payload in payloads {
        hash = digest(&SHA256, &[&hash[..], &payload].concat()).as_ref().to_vec();
        forged.extend(u32::try_from(payload.len()).unwrap().to_le_bytes());
        let mut crc = flate2::Crc::new();
        crc.update(&payload);
        forged.extend(crc.sum().to_le_bytes());
        forged.extend(&hash);
        forged.extend(payload);
    }
    std::fs::write(journal, forged).unwrap();
}

#[test]
fn an_erasure_is_done_everywhere_and_left_until_the_key_of_its_week_is_destroyed() {
    let mut cluster = Cluster::grown(2, &["ann@home.example", "bob@home.example"]);
    done(&cluster.relays[0].command(&["consent", "erase", "ann@home.example"]));
    until("the journals are equal", || verified(&cluster.relays[0]) == verified(&cluster.relays[1]));
    let said = done(&cluster.relays[1].command(&["cluster", "erasures"]));
    let line = said.lines().find(|line| line.contains("  record ")).expect("the erasure is listed");
    // Both have done it; the key of this week is at both.
    assert!(line.contains("; done at ") && line.matches(", ").count() == 2, "{said}");
    let key = said.lines().find(|line| line.contains("  week of ")).expect("the key is listed");
    let day = |line: &str, before: &str| line.split(before).nth(1).unwrap()[..10].to_owned();
    assert_eq!(day(key, "destroyed on "), day(line, "until "), "{said}");
    assert!(key.split("; at ").nth(1).unwrap().contains(", "), "{said}");

    // Nobody knows what a relay that is away has done.
    let away = cluster.relays.pop().unwrap();
    away.signal("KILL");
    drop(away);
    let left = cluster.relays[0].command(&["cluster", "erasures"]);
    assert_eq!(left.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&left.stdout).contains("did not answer"));
}

/// How many records a relay's journal has.
fn records(relay: &Relay) -> usize {
    let said = verified(relay);
    said.split_whitespace().find_map(|word| word.replace(',', "").parse().ok()).expect("a number of records")
}
