//! The console over a million records of evidence: every page answers, and how long each takes is printed.
//! Long, so only with `--ignored`.
#![cfg(feature = "console")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::console::{Browser, Console, browsed};
use crate::http::{CONTROLLERS, Served};
use crate::support::{Folder, Relay, configuration, free_port};
use pixelward::consent::{Change, Controller, Settings as StoreSettings, State, Store, Timestamp};
use pixelward::policy::{Decision, Done, LinkFate, Outcome, Purpose, Rule};
use pixelward::record::Effect;
use pixelward::record::digest::BodyHash;
use pixelward::record::evidence::record::Sighted;
use pixelward::record::evidence::{Evidence, Note, NotedCopy, NotedRecipient, Settings};
use pixelward::rewrite::Receipts;
use pixelward::smtp::Reply;

const MILLION: Crowd = Crowd { records: 1_000_000, each: 500 };
/// How long a page may take.
const MOST: Duration = Duration::from_millis(100);
/// Records that are written between two looks at the queue.
const ROUND: usize = 10_000;
const DAYS: usize = 180;
const VENDORS: [&str; 6] = ["SendGrid", "Mailgun", "Mailchimp", "HubSpot", "Braze", "unknown"];

/// How much evidence there is.
#[derive(Clone, Copy)]
struct Crowd {
    records: usize,
    /// Recipients of each message.
    each: usize,
}

fn message(store: &Store, crowd: Crowd, number: usize, now: Timestamp) -> Note {
    let Crowd { records, each } = crowd;
    let is_refused = !number.is_multiple_of(3);
    let outcome = if is_refused { Outcome::Strip } else { Outcome::Keep };
    let address = |item: usize| match item == 0 && number.is_multiple_of(11) {
        // Somebody who gets a mail each day: the records lie in as many segments.
        true => "reader@home.example".to_owned(),
        false => format!("p{}@home.example", (number * each + item) % 200_000),
    };
    let recipient = |number: usize| NotedRecipient {
        converted: false,
        person: store.person(&address(number)),
        decision: Some(Decision {
            outcome,
            links: LinkFate::Stay,
            receipts: Receipts::Strip,
            rule: if is_refused { Rule::Refused } else { Rule::Granted },
            version: "fr/2026-07-14".into(),
            record: Some(7),
        }),
        effect: Effect { done: Done::Of(outcome), removed: usize::from(is_refused), ..Effect::default() },
        reply: Reply::new(250, "2.0.0 Ok: queued as Q1"),
    };
    let vendor = VENDORS[number % VENDORS.len()];
    let day = DAYS - 1 - number * each * DAYS / records;
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
        links: 0,
        unreadable: 0,
        sightings: vec![Sighted { carrier: "img".into(), vendor: vendor.into(), count: 1 }],
        campaign: String::new(),
        subject: None,
        reports: Vec::new(),
        hosts: if vendor == "unknown" {
            vec![(format!("open{}.vendor{}.example", number % 20, number % 60), 1)]
        } else {
            Vec::new()
        },
        before: Some(BodyHash::Blake3([1; 32])),
        copies: vec![NotedCopy {
            after: Some(BodyHash::Blake3([2; 32])),
            recipients: (0..each).map(recipient).collect(),
        }],
    }
}

/// Writes the records where a relay will find them.
fn write(folder: &Path, crowd: Crowd) {
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
        subjects: false,
    };
    let now = Timestamp::now();
    let controller: Controller = "shop".parse().unwrap();
    let said = |number: &usize| {
        let state = if number.is_multiple_of(3) { State::Granted } else { State::Refused };
        let mut change = Change::new(controller.clone(), Purpose::CONSENT.to_vec(), state, now.plus_days(-1));
        change.details.evidence = Some("form/17".to_owned());
        (store.person(&format!("p{number}@home.example")), change)
    };
    let people: Vec<usize> = (0..crowd.records / 5).collect();
    for chunk in people.chunks(ROUND) {
        store.record(chunk.iter().map(said).collect()).unwrap();
    }
    let messages: Vec<usize> = (0..crowd.records / crowd.each).collect();
    for round in messages.chunks(ROUND / crowd.each) {
        // Closing writes all that waits, so that none is lost for want of room.
        let evidence = Evidence::start(settings.clone(), Arc::clone(&store)).unwrap();
        round.iter().for_each(|item| evidence.note(message(&store, crowd, *item, now)));
        evidence.close();
    }
}

/// A relay that has so much evidence, with a console.
fn with(crowd: Crowd) -> (Served, Console) {
    let folder = Folder::new();
    let since = Instant::now();
    write(&folder.0, crowd);
    println!("{} records were written in {:?}", crowd.records, since.elapsed());
    configuration(
        &folder,
        free_port(),
        "",
        "",
        &format!(
            "{CONTROLLERS}[api]\naddress = \"127.0.0.1:0\"\nburst = 100000\nrequests_per_minute = 1000000\n"
        ),
    );
    let served = Served::of(Relay::in_folder(folder));
    let console = Console::beside(&served, "");
    (served, console)
}

/// Where somebody is found by address.
fn person(browser: &mut Browser, address: &str) -> String {
    let page = browser.page("/person?controller=shop");
    let found = browser.submit(&page, "/person", &[("address", address), ("controller", "shop")]);
    found.header("location").unwrap().to_owned()
}

/// The newest message that is listed.
fn story(browser: &mut Browser) -> Option<String> {
    let messages = browser.page("/messages?controller=shop");
    let path = messages.split("href=\"/messages/").nth(1)?.split('"').next()?;
    Some(path.replace("&amp;", "&"))
}

/// Looks at every page in a browser. `PIXELWARD_PICTURES` names a folder for pictures.
fn looked_at(served: &Served, console: &Console, name: &str) {
    let mut browser = console.signed_in(served);
    let person = person(&mut browser, "p1@home.example");
    let hash = person.trim_start_matches("/person/").split('?').next().unwrap();
    let pictures = std::env::var("PIXELWARD_PICTURES").unwrap_or_default();
    let base = format!("http://127.0.0.1:{}", console.port);
    let story = story(&mut browser).unwrap_or_default();
    browsed("pictures.mjs", &[&base, &console.link(served), hash, &story, name, &pictures]);
}

#[test]
#[ignore = "looks at every page at three widths"]
fn every_page_fits_its_window_with_nothing_and_with_little() {
    for (name, records) in [("none", 0), ("few", 10)] {
        let (served, console) = with(Crowd { records, each: 1 });
        looked_at(&served, &console, name);
    }
}

#[test]
#[ignore = "writes a million records"]
fn every_page_answers_soon_over_a_million_records() {
    let (served, console) = with(MILLION);
    let mut browser = console.signed_in(&served);
    let [person, reader] = ["p7", "reader"].map(|item| person(&mut browser, &format!("{item}@home.example")));
    let story = story(&mut browser).unwrap();
    let overview = browser.page("/?controller=shop&days=90");
    assert!(overview.contains("trackers removed") && overview.contains("SendGrid"));
    let month_ago = Timestamp::now().plus_days(-30).to_string()[..10].to_owned();
    let mut slow = Vec::new();
    for path in [
        "/?controller=shop".to_owned(),
        "/?controller=shop&days=90".to_owned(),
        "/person?controller=shop".to_owned(),
        "/?controller=shop&hours=24".to_owned(),
        person,
        reader,
        "/messages?controller=shop".to_owned(),
        format!("/messages?controller=shop&until={month_ago}"),
        "/messages?controller=shop&vendor=unknown".to_owned(),
        "/messages?controller=shop&vendor=nobody".to_owned(),
        format!("/messages/{story}"),
        "/streams?controller=shop".to_owned(),
        "/streams/page?controller=shop".to_owned(),
        "/what-if?controller=shop".to_owned(),
        "/trackers?controller=shop".to_owned(),
        "/delivery".to_owned(),
        "/audit".to_owned(),
        "/report?controller=shop&since=2026-01-01".to_owned(),
        "/account".to_owned(),
    ] {
        let mut times: Vec<Duration> = (0..9)
            .map(|_| {
                let since = Instant::now();
                browser.page(&path);
                since.elapsed()
            })
            .collect();
        let first = times[0];
        times.sort();
        println!("{path}: median {:?}, first {first:?}, longest {:?}", times[4], times[8]);
        if times[4] > MOST {
            slow.push(path);
        }
    }
    looked_at(&served, &console, "million");
    assert!(slow.is_empty(), "these took more than {MOST:?}: {slow:?}");
}
