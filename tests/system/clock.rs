//! The clock of the relay is stepped by an hour, ahead and back, while people agree and withdraw: whoever was
//! told that tracking is stopped is not tracked, by whichever way they said so. `PIXELWARD_STEPS` says how
//! many times, 60 without it.

use crate::support;
use std::path::{Path, PathBuf};

use crate::noise::Dice;
use crate::readers::Readers;
use crate::support::{Relay, free_port};
use pixelward::consent::Timestamp;
use serde_json::{Value, json};

/// What makes a process see another time (package faketime).
pub(crate) fn library() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let mut found = folders.map(|folder| folder.join("faketime/libfaketime.so.1"));
    found.find(|path| path.exists()).expect("faketime is installed (make test-packages installs it)")
}

/// The clock of a relay.
pub(crate) struct Clock(PathBuf);

impl Clock {
    /// One that is right, kept in a folder.
    pub(crate) fn beside(folder: &support::Folder) -> Clock {
        Clock(folder.file("offset", "+0"))
    }

    /// Where it is kept.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Steps it to so many seconds beside the right time. It is read anew each time somebody looks.
    pub(crate) fn step(&self, seconds: i64) {
        let beside = self.0.with_extension("new");
        std::fs::write(&beside, format!("{seconds:+}")).unwrap();
        std::fs::rename(beside, &self.0).unwrap();
    }
}

fn started(offset: &Path) -> Readers {
    let library = library();
    let variables = [
        ("LD_PRELOAD", library.to_str().unwrap()),
        ("FAKETIME_TIMESTAMP_FILE", offset.to_str().unwrap()),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
    ];
    Readers::of(Relay::in_environment(Readers::configured(free_port(), "", ""), &variables))
}

fn form(page: &str) -> String {
    page.split("name=\"form\" value=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap().to_owned()
}

fn accept(readers: &Readers, link: &str) {
    let form = form(&readers.get(link).text());
    let page = readers.post(link, &[("form", &form), ("action", "accept")]).text();
    assert!(page.contains("Your choice is saved"), "{page}");
}

/// Withdraws in one of four ways; says whether the reader or the controller was told that it is done.
fn withdraw(readers: &Readers, token: &str, way: usize, address: &str, link: &str) -> bool {
    let set = |claimed: Option<Timestamp>| {
        let purposes = ["campaign_performance", "personalisation"];
        let mut body = json!({ "address": address, "state": "withdrawn", "purposes": purposes });
        if let Some(claimed) = claimed {
            body["event_time"] = Value::from(claimed.to_string());
        }
        readers.served.ask(token, "PUT", "/v1/controllers/shop/consent", &body.to_string())
    };
    match way {
        0 => assert!(
            readers.post(link, &[("action", "withdraw")]).text().contains("You have refused all purposes")
        ),
        1 => {
            let answer = readers.ask("POST", &format!("{link}/withdraw"), &[], "List-Unsubscribe=One-Click");
            assert_eq!(
                (answer.status, answer.text().as_str()),
                (200, "Recorded: all purposes are refused, and any consent given earlier is withdrawn.\n")
            );
        }
        2 => readers.say(address, "withdrawn"),
        3 => assert_eq!(set(None).status, 200),
        // By the controller's own clock, which is right. What is older than a yes that does not lie ahead is
        // history, and the caller is told so.
        _ => {
            let answer = set(Some(Timestamp::now()));
            assert!(
                answer.status == 200 || answer.json()["type"].to_string().contains("stale"),
                "{}",
                answer.text()
            );
            return answer.status == 200;
        }
    }
    true
}

#[test]
fn no_acknowledged_withdrawal_is_lost_while_the_clock_steps() {
    let steps: usize = std::env::var("PIXELWARD_STEPS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let folder = support::Folder::new();
    let clock = Clock::beside(&folder);
    let readers = started(&clock.0);
    let token = readers.served.token("consent:read,consent:write", "shop");
    let mut dice = Dice::new(11);
    let (mut acknowledged, mut moved) = (Vec::new(), 0);
    for step in 0..steps {
        let address = format!("p{}@home.example", step / 3);
        let link = readers.link(&address);
        let gate = readers.gate(&address);
        clock.step([-3600, 0, 3600][dice.below(3)]);
        accept(&readers, &link);
        assert_eq!(readers.get(&gate).status, 302, "{address} agreed");
        clock.step([-3600, 0, 3600][dice.below(3)]);
        if withdraw(&readers, &token, step % 5, &address, &link) {
            assert_eq!(readers.get(&gate).status, 200, "step {step}: {address} withdrew");
            acknowledged.push(address);
        } else {
            // Nobody was told that it is stopped; it can be said again.
            assert!(withdraw(&readers, &token, 0, &address, &link));
        }
        moved += usize::from(readers.get(&gate).status == 200);
    }
    assert_eq!(moved, steps);
    assert!(acknowledged.len() > steps / 2, "{}", acknowledged.len());
    // The same by the right clock, after a start.
    let readers = Readers::of(readers.served.relay.killed());
    for address in &acknowledged {
        assert_eq!(readers.get(&readers.gate(address)).status, 200, "{address} withdrew");
    }
    println!(
        "{steps} withdrawals while the clock stepped, {} acknowledged at once, 0 lost",
        acknowledged.len()
    );
}
