//! kill -9 at random moments of imports: what was acknowledged is there afterwards, the chain is whole, and
//! the index is the journal's.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use pixelward::consent::{Change, Settings, State, Store, Timestamp};
use pixelward::policy::Purpose;

const FOLDER: &str = "PIXELWARD_KILL_FOLDER";
const ROUND: &str = "PIXELWARD_KILL_ROUND";

fn settings(folder: PathBuf) -> Settings {
    Settings {
        head_copy: Some(folder.with_extension("head")),
        segment_bytes: 64 * 1024,
        ..Settings::at(folder)
    }
}

/// Not a test of its own: what the child does, which imports until it is killed and says what was
/// acknowledged.
#[test]
fn child() {
    let (Ok(folder), Ok(round)) = (std::env::var(FOLDER), std::env::var(ROUND)) else { return };
    let store = Store::open(&settings(folder.into())).unwrap();
    let mut out = std::io::stdout().lock();
    writeln!(out, "open").unwrap();
    for batch in 0..100_000u32 {
        let names: Vec<String> = (0..5).map(|row| format!("p{round}-{batch}-{row}@home.example")).collect();
        let changes = names
            .iter()
            .map(|name| {
                let mut change = Change::new(
                    "shop".parse().unwrap(),
                    vec![Purpose::CampaignPerformance],
                    State::Granted,
                    Timestamp(5),
                );
                change.details.evidence = Some("form".to_owned());
                (store.person(name), change)
            })
            .collect();
        store.record(changes).unwrap();
        for name in names {
            writeln!(out, "{name}").unwrap();
        }
        out.flush().unwrap();
    }
}

#[test]
fn no_acknowledged_record_is_lost_in_200_kills() {
    let folder = std::env::temp_dir().join(format!("pixelward-kill-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let mut acknowledged: Vec<String> = Vec::new();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..200 {
        let mut child = crate::support::alone(concat!(module_path!(), "::child"))
            .env(FOLDER, &folder)
            .env(ROUND, round.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let opened = lines.by_ref().find(|line| line == "open");
        assert!(opened.is_some(), "the store could not be opened in round {round}");
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // A random number of acknowledgements, and a random moment behind the last one.
        acknowledged.extend(lines.by_ref().take((state % 40) as usize).filter(|line| line.contains('@')));
        let moment = std::time::Instant::now() + Duration::from_micros(state >> 32 & 0xfff);
        while std::time::Instant::now() < moment {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        acknowledged.extend(lines.filter(|line| line.contains('@') && line.ends_with(".example")));
        child.wait().unwrap();
        if round % 20 == 19 {
            check(&folder, &acknowledged, round);
        }
    }
    assert!(acknowledged.len() > 200, "{}", acknowledged.len());
    let _ = std::fs::remove_dir_all(&folder);
    let _ = std::fs::remove_file(folder.with_extension("head"));
}

fn check(folder: &std::path::Path, acknowledged: &[String], round: u32) {
    let store = Store::open(&settings(folder.to_owned())).unwrap();
    let controller = "shop".parse().unwrap();
    for name in acknowledged {
        let standing = store.lookup(&controller, store.person(name)).unwrap();
        assert!(standing.of(Purpose::CampaignPerformance).is_some(), "{name} is missing after round {round}");
    }
    let verified = store.verify().unwrap();
    assert_eq!(verified.differing, 0);
    assert!(verified.records >= acknowledged.len() as u64);
}
