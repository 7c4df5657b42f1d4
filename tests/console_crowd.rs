//! The console over a million records of evidence: every page answers, and how long each takes is printed. Long, so only with `--ignored`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, clippy::panic)]
#![cfg(feature = "console")]

mod console;
mod http;
mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use console::Console;
use http::{CONTROLLERS, Served};
use pixelward::consent::{Settings as StoreSettings, Store, Timestamp};
use pixelward::policy::{Decision, LinkFate, Outcome, Rule};
use pixelward::record::evidence::record::Sighted;
use pixelward::record::evidence::{Evidence, Note, NotedCopy, NotedRecipient, Settings};
use pixelward::rewrite::Receipts;
use pixelward::smtp::Reply;
use support::{Folder, Relay, configuration, free_port};

const RECORDS: usize = 1_000_000;
/// Recipients of each message.
const EACH: usize = 500;
/// Records that are written between two looks at the queue.
const ROUND: usize = 10_000;
const DAYS: usize = 180;
const VENDORS: [&str; 6] = ["SendGrid", "Mailgun", "Mailchimp", "HubSpot", "Braze", "unknown"];

fn message(store: &Store, number: usize, now: Timestamp) -> Note {
    let is_refused = !number.is_multiple_of(3);
    let outcome = if is_refused { Outcome::Strip } else { Outcome::Keep };
    let recipient = |own: usize| NotedRecipient {
        person: store.person(&format!("p{}@home.example", (number * EACH + own) % 200_000)),
        decision: Decision {
            outcome,
            links: LinkFate::Stay,
            receipts: Receipts::Strip,
            rule: if is_refused { Rule::Refused } else { Rule::Granted },
            version: "fr/2026-07-14".into(),
            record: Some(7),
        },
        shortfall: None,
        reply: Reply::new(250, "2.0.0 Ok: queued as Q1"),
    };
    let vendor = VENDORS[number % VENDORS.len()];
    let day = DAYS - 1 - number * EACH * DAYS / RECORDS;
    Note {
        at: now.plus_days(-i64::try_from(day).unwrap()),
        id: format!("id{number:010}"),
        message_id: format!("<m{number}@shop.example>"),
        controller: "shop".into(),
        days: None,
        mailstream: format!("stream{}", number % 12).into(),
        observed: false,
        listener: "default".to_owned(),
        route: "default".to_owned(),
        downstream: String::new(),
        found: 1,
        sightings: vec![Sighted { carrier: "img".into(), vendor: vendor.into(), count: 1 }],
        before: Some([1; 32]),
        copies: vec![NotedCopy {
            after: Some([2; 32]),
            done: outcome,
            removed: usize::from(is_refused),
            swapped: 0,
            recipients: (0..EACH).map(recipient).collect(),
        }],
    }
}

/// Writes the records where a relay will find them.
fn write(folder: &Path) {
    let settings = StoreSettings {
        head_copy: Some(folder.join("head")),
        ..StoreSettings::at(folder.join("data/consent"))
    };
    let store = Arc::new(Store::open(&settings).unwrap());
    let settings = Settings {
        directory: folder.join("data/evidence"),
        head_copy: None,
        retention_days: 1095,
        segment_bytes: 16 << 20,
        body_hashes: true,
    };
    let now = Timestamp::now();
    for round in 0..RECORDS / ROUND {
        // Closing writes all that waits, so that none is lost for want of room.
        let evidence = Evidence::start(settings.clone(), Arc::clone(&store)).unwrap();
        let first = round * ROUND / EACH;
        (first..first + ROUND / EACH).for_each(|own| evidence.note(message(&store, own, now)));
        evidence.close();
    }
}

#[test]
#[ignore = "writes a million records"]
fn every_page_answers_over_a_million_records() {
    let folder = Folder::new();
    let since = Instant::now();
    write(&folder.0);
    println!("{RECORDS} records were written in {:?}", since.elapsed());
    configuration(&folder, free_port(), "", "", &format!("{CONTROLLERS}[api]\naddress = \"127.0.0.1:0\"\n"));
    let served = Served::of(Relay::in_folder(folder));
    let console = Console::beside(&served, "");
    let mut browser = console.signed_in(&served);
    let page = browser.page("/person?controller=shop");
    let found = browser.submit(&page, "/person", &[("address", "p77@home.example"), ("controller", "shop")]);
    let person = found.header("location").unwrap().to_owned();
    let messages = browser.page("/messages?controller=shop");
    let story =
        messages.split("href=\"/messages/").nth(1).unwrap().split('"').next().unwrap().replace("&amp;", "&");
    let overview = browser.page("/?controller=shop&days=90");
    assert!(overview.contains("trackers taken out") && overview.contains("SendGrid"));
    let month_ago = Timestamp::now().plus_days(-30).to_string()[..10].to_owned();
    for path in [
        "/?controller=shop".to_owned(),
        "/?controller=shop&days=90".to_owned(),
        "/messages?controller=shop".to_owned(),
        format!("/messages?controller=shop&until={month_ago}"),
        "/messages?controller=shop&vendor=unknown".to_owned(),
        format!("/messages/{story}"),
        person,
        "/streams?controller=shop".to_owned(),
        "/trackers?controller=shop".to_owned(),
        "/delivery".to_owned(),
        "/audit".to_owned(),
        "/report?controller=shop&since=2026-01-01".to_owned(),
    ] {
        let mut times: Vec<Duration> = (0..5)
            .map(|_| {
                let since = Instant::now();
                browser.page(&path);
                since.elapsed()
            })
            .collect();
        let first = times[0];
        times.sort();
        println!("{path}: median {:?}, first {first:?}", times[2]);
    }
}
