//! Draws the pictures of the documents: each page of the console over two months of a shop's mail. With
//! `--ignored`, and `PIXELWARD_PICTURES` names the folder.
#![cfg(feature = "console")]

use std::path::Path;
use std::sync::Arc;

use crate::console::{Console, browsed};
use crate::http::Served;
use crate::support::{Answer, Client, Folder, NextHop, Relay, Step, configuration, newsletter};
use pixelward::consent::{Change, Settings as StoreSettings, State, Store, Timestamp};
use pixelward::policy::{Decision, Done, Exemption, LinkFate, Outcome, Purpose, Rule};
use pixelward::record::Effect;
use pixelward::record::digest::BodyHash;
use pixelward::record::evidence::record::{Reported, Sighted};
use pixelward::record::evidence::{Evidence, Note, NotedCopy, NotedRecipient, Settings};
use pixelward::rewrite::Receipts;
use pixelward::smtp::Reply;

const DAYS: usize = 60;
/// Mailstream, campaign, vendor, and its host.
const KINDS: [(&str, &str, &str, &str); 5] = [
    ("newsletter", "weekly", "SendGrid", "click.shop.example"),
    ("offers", "autumn-sale", "Mailchimp", "track.offers.example"),
    ("newsletter", "readers-choice", "SendGrid", "click.shop.example"),
    ("orders", "", "HubSpot", "t.orders.example"),
    ("terms", "", "unknown", "*.letters.example"),
];
const SHOP: &str = r#"
[[controller]]
name = "shop"
sender_domain = "shop.example"
public_url = "http://127.0.0.1:1/shop"
[controller.page]
title = "Shop Example"
privacy_url = "https://shop.example/privacy"
[[controller]]
name = "club"
sender_domain = "club.example"
[[mailstream]]
name = "orders"
controller = "shop"
list_id = "orders.shop.example"
purposes = ["campaign_performance"]
requested = "requested"
jurisdiction = "fr"
[[mailstream]]
name = "newsletter"
controller = "shop"
from_domain = "shop.example"
purposes = ["campaign_performance"]
requested = "requested"
jurisdiction = "fr"
[public]
address = "127.0.0.1:0"
[evidence]
subjects = true
[api]
address = "127.0.0.1:0"
burst = 100000
requests_per_minute = 1000000
statistics_max_age_s = 0
"#;
const OFFERS: &str = r#"
[[mailstream]]
name = "offers"
controller = "shop"
list_id = "offers.shop.example"
purposes = ["campaign_performance", "personalisation"]
requested = "soft_opt_in"
jurisdiction = "fr"
"#;

fn said(store: &Store, day: usize, now: Timestamp) -> Vec<(pixelward::consent::Person, Change)> {
    let ago = now.plus_days(day as i64 - DAYS as i64);
    let one = |place: usize| {
        let number = day * 7 + place;
        let state = match number % 5 {
            0 | 3 => State::Granted,
            4 if number.is_multiple_of(2) => State::Withdrawn,
            _ => State::Refused,
        };
        let purposes = match number % 3 {
            0 => vec![Purpose::CampaignPerformance],
            _ => vec![Purpose::CampaignPerformance, Purpose::Personalisation],
        };
        let mut change = Change::new("shop".parse().unwrap(), purposes, state, ago);
        change.details.evidence = Some(format!("form/{number}"));
        change.details.channel = Some(["web", "mail", "shop"][number % 3].to_owned());
        change.details.notice_version = Some("2026-10".to_owned());
        (store.person(&format!("p{number}@home.example")), change)
    };
    (0..2 + day % 6).map(one).collect()
}

fn note(store: &Store, number: usize, each: usize, now: Timestamp) -> Note {
    let day = number * DAYS / each;
    let (mailstream, campaign, vendor, host) = KINDS[number % KINDS.len()];
    let (outcome, rule) = match number % 5 {
        3 => (Outcome::SwapDay, Rule::Exempt(Exemption::Deliverability)),
        4 => (Outcome::Keep, Rule::Exempt(Exemption::LegalNotice)),
        0 if number.is_multiple_of(3) => (Outcome::SwapGated, Rule::Granted),
        0 => (Outcome::Strip, Rule::Refused),
        _ => (Outcome::Strip, Rule::NoConsent),
    };
    let is_changed = usize::from(outcome == Outcome::Strip);
    let recipient = |place: usize| NotedRecipient {
        converted: false,
        person: store.person(&format!("p{}@home.example", number * 3 + place)),
        decision: Some(Decision {
            outcome,
            links: LinkFate::Stay,
            receipts: Receipts::Strip,
            rule,
            version: "fr/2026-07-14".into(),
            record: Some(7),
        }),
        effect: Effect { done: Done::Of(outcome), removed: is_changed, ..Effect::default() },
        reply: Reply::new(250, "2.0.0 Ok: queued as Q1"),
    };
    Note {
        at: now.plus_days(day as i64 - DAYS as i64),
        id: format!("id{number:010}"),
        message_id: format!("<m{number}@shop.example>"),
        controller: "shop".into(),
        days: None,
        mailstream: mailstream.into(),
        observed: false,
        listener: "default".to_owned(),
        route: "default".to_owned(),
        downstream: String::new(),
        found: 1,
        links: 2,
        unreadable: 0,
        sightings: vec![Sighted { carrier: "img".into(), vendor: vendor.into(), count: 1 }],
        campaign: campaign.to_owned(),
        subject: None,
        reports: vec![Reported { vendor: vendor.into(), host: host.into() }],
        hosts: if vendor == "unknown" { vec![(host.to_owned(), 1)] } else { Vec::new() },
        before: Some(BodyHash::Blake3([1; 32])),
        copies: vec![NotedCopy {
            after: Some(BodyHash::Blake3([2; 32])),
            recipients: (0..1 + (day * day + number) % 4).map(recipient).collect(),
        }],
    }
}

/// Writes two months of mail and choices where a relay will find them.
fn write(folder: &Path) {
    let store = Arc::new(Store::open(&StoreSettings::at(folder.join("data/consent"))).unwrap());
    let settings = Settings {
        directory: folder.join("data/evidence"),
        head_copy: None,
        retention_days: 1095,
        segment_bytes: 16 << 20,
        body_hashes: true,
        subjects: false,
    };
    let now = Timestamp::now();
    (0..DAYS).for_each(|day| drop(store.record(said(&store, day, now)).unwrap()));
    let evidence = Evidence::start(settings, Arc::clone(&store)).unwrap();
    (0..900).for_each(|number| evidence.note(note(&store, number, 900, now)));
    evidence.close();
}

#[test]
#[ignore = "draws the pictures of docs/console"]
fn every_page_is_drawn_for_the_documents() {
    let hop = NextHop::behaving(&[
        (Step::Rcpt, Answer::Say("550 5.1.1 no such user")),
        (Step::Dot, Answer::Say("452 4.2.2 mailbox full")),
        (Step::Dot, Answer::Say("554 5.7.1 refused by policy")),
    ]);
    let folder = Folder::new();
    write(&folder.0);
    let config = configuration(&folder, hop.port, "", "", SHOP);
    let served = Served::of(Relay::in_folder(folder));
    let is_noted = |line: &str| line.contains("other rules are in force");
    served.relay.log.wait_for(1, "the first version", is_noted);
    let first = std::fs::read_to_string(&config).unwrap();
    let changed =
        first.replacen("[\"campaign_performance\"]", "[\"campaign_performance\", \"personalisation\"]", 1);
    std::fs::write(&config, format!("{changed}{OFFERS}")).unwrap();
    served.relay.signal("HUP");
    served.relay.log.wait_for(2, "the next version", is_noted);
    for (address, state) in [("ann@home.example", "granted"), ("bob@home.example", "refused")] {
        let evidence = ["--evidence", "form/17", "--controller", "shop"];
        let said = served.relay.command(&[&["consent", "set", address, state], &evidence[..]].concat());
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    }
    let mut client = Client::greeted(served.relay.port);
    client.say("MAIL FROM:<news@shop.example>");
    client.say("RCPT TO:<gone@home.example>");
    for (sender, to) in [
        ("news@shop.example", "full@home.example"),
        ("news@club.example", "eve@home.example"),
        ("news@shop.example", "ann@home.example"),
        ("news@shop.example", "bob@home.example"),
        ("news@shop.example", "eve@home.example"),
        ("news@shop.example", "fay@home.example"),
    ] {
        let message = newsletter(to).0.replacen("Subject: News", "Subject: Five lamps for long evenings", 1);
        let message = message.replacen("Date: ", "X-Campaign: winter-lights\nDate: ", 1);
        Client::greeted(served.relay.port).message(sender, &[to], &message);
    }
    let console = Console::beside(&served, "");
    let pictures = std::env::var("PIXELWARD_PICTURES").unwrap_or_default();
    let base = format!("http://127.0.0.1:{}", console.port);
    browsed("documented.mjs", &[&base, &console.link(&served), &pictures]);
}
