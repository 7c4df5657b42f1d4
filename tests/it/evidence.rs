//! Evidence end to end: what is recorded of real messages, what is found of it, and what is left after kills,
//! erasures and trouble with the disk.

use crate::support;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Instant;

use crate::support::{
    Answer, Client, Folder, NextHop, PATIENCE, Relay, Step, configuration, crlf, free_port, get, newsletter,
};
use pixelward::consent;
use pixelward::policy::{Decision, Done, LinkFate, Outcome, Rule};
use pixelward::record::Effect;
use pixelward::record::evidence::{Evidence, Note, NotedCopy, NotedRecipient, Settings};
use pixelward::rewrite::Receipts;
use pixelward::smtp::Reply;
use serde_json::Value;

const SENDER: &str = "news@shop.example";

/// A command of `pixelward evidence`: whether it succeeded, and the lines it wrote.
fn evidence(relay: &Relay, arguments: &[&str]) -> (bool, Vec<String>) {
    let output = relay.command(&[&["evidence"], arguments].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.success(), text.lines().map(str::to_owned).collect())
}

fn found(relay: &Relay, arguments: &[&str]) -> Vec<Value> {
    let (_, lines) = evidence(relay, &[&["find", "--json"], arguments].concat());
    lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Waits until so many records are there.
fn wait_for(relay: &Relay, count: usize) {
    let deadline = Instant::now() + PATIENCE;
    while found(relay, &[]).len() < count {
        assert!(Instant::now() < deadline, "{count} records did not come");
    }
}

fn is_whole(relay: &Relay) -> bool {
    let (is_whole, lines) = evidence(relay, &["verify"]);
    assert_eq!(is_whole, lines.last().is_some_and(|line| line == "All chains are intact."), "{lines:?}");
    is_whole
}

fn stop(relay: &mut Relay) {
    relay.signal("TERM");
    assert!(relay.wait().success());
}

fn send(relay: &Relay, to: &[&str], message: &str) -> String {
    Client::greeted(relay.port).message(SENDER, to, message)
}

fn hash_of_body(message: &str) -> String {
    let body = message.split_once("\r\n\r\n").unwrap().1;
    blake3::hash(body.as_bytes()).to_hex().to_string()
}

/// Every file below a folder, packed ones as they were.
fn each_file(folder: &Path, each: &mut impl FnMut(&Path, &[u8])) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            each_file(&path, each);
        } else if path.is_file() {
            each(&path, &std::fs::read(&path).unwrap());
        }
    }
}

#[test]
fn a_message_with_mixed_recipients_leaves_exact_records_and_no_address() {
    let rest = "[[controller]]\nname = \"shop\"\nfrom_domain = \"shop.example\"\njurisdiction \
                = \"fr\"\nevidence_days = 90\n\
                [[mailstream]]\nname = \"news\"\ncontroller = \"shop\"\nlist_id = \"news.shop.example\"\n\
                [[mailstream]]\nname = \"watched\"\ncontroller = \"shop\"\nlist_id \
                = \"watched.shop.example\"\nmode = \"observe\"\n";
    let hop = NextHop::start();
    let mut relay = Relay::with(hop.port, "", "", rest);
    for (address, state) in [("ann@home.example", "granted"), ("eve@home.example", "refused")] {
        let set = ["consent", "set", address, state, "--controller", "shop", "--evidence", "form"];
        assert!(relay.command(&set).status.success());
    }
    let to = ["ann@home.example", "bob@home.example", "eve@home.example"];
    let (with, without) = newsletter("list@shop.example");
    let news = |stream: &str, text: &str| format!("List-Id: <{stream}.shop.example>\n{text}");
    assert!(send(&relay, &to, &news("news", &with)).starts_with("250"));
    assert!(send(&relay, &to[1..2], &news("watched", &with)).starts_with("250"));
    hop.set(&[(Step::Dot, Answer::Say("550 5.7.1 Not for bob@home.example\r\n"))]);
    assert!(send(&relay, &to[1..2], &with).starts_with("550"));
    stop(&mut relay);

    let (before, after) = (hash_of_body(&crlf(&with)), hash_of_body(&crlf(&without)));
    assert_eq!(found(&relay, &[]).len(), 5);
    let check = |arguments: &[&str], wanted: &[(&str, Value)]| {
        let found = found(&relay, arguments);
        assert_eq!(found.len(), 1, "{arguments:?}: {found:?}");
        for (name, value) in wanted {
            assert_eq!(found[0][name], *value, "{arguments:?} {name}: {found:?}");
        }
    };
    let sightings = serde_json::json!([{"carrier": "img", "vendor": "SendGrid", "count": 1}]);
    check(
        &["--person", "Ann@Home.example"],
        &[
            ("controller", "shop".into()),
            ("mailstream", "news".into()),
            ("listener", "default".into()),
            ("route", "default".into()),
            ("jurisdiction", "fr".into()),
            ("rule", "granted".into()),
            ("consent_record", 1.into()),
            ("decided", "keep".into()),
            ("done", "keep".into()),
            ("removed", 0.into()),
            ("found", 1.into()),
            ("sightings", sightings.clone()),
            ("body_before", before.clone().into()),
            ("body_after", before.clone().into()),
            ("body_hash", "blake3".into()),
            ("result", "accepted".into()),
            ("code", 250.into()),
            ("queue_id", "NEXTHOP1".into()),
            ("shortfall", Value::Null),
            ("observed", false.into()),
            ("downstream", Value::Null),
        ],
    );
    check(
        &["--person", "eve@home.example"],
        &[
            ("rule", "refused".into()),
            ("consent_record", 2.into()),
            ("decided", "strip".into()),
            ("done", "strip".into()),
            ("removed", 1.into()),
            ("swapped", 0.into()),
            ("sightings", sightings),
            ("body_before", before.clone().into()),
            ("body_after", after.clone().into()),
        ],
    );
    let bob = ["--person", "bob@home.example", "--mailstream"];
    let of_bob = |stream: &'static str| [&bob[..], &[stream]].concat();
    let none = ("consent_record", Value::Null);
    check(&of_bob("news"), &[("rule", "no_consent".into()), ("done", "strip".into()), none]);
    check(
        &of_bob("watched"),
        &[
            ("decided", "strip".into()),
            ("done", "keep".into()),
            ("observed", true.into()),
            ("removed", 0.into()),
            ("body_after", before.clone().into()),
        ],
    );
    check(
        &of_bob("unmatched"),
        &[
            ("result", "rejected".into()),
            ("code", 550.into()),
            ("queue_id", Value::Null),
            ("body_after", after.into()),
        ],
    );

    // All of them have one Message-ID, and three of them one message.
    assert_eq!(found(&relay, &["--message-id", "<1@shop.example>"]).len(), 5);
    assert_eq!(found(&relay, &["--message-id", "2@shop.example"]).len(), 0);
    let id = found(&relay, &["--person", "ann@home.example"])[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(found(&relay, &["--id", &id]).len(), 3);
    assert_eq!(found(&relay, &["--outcome", "keep"]).len(), 2);
    assert_eq!(found(&relay, &["--vendor", "sendgrid", "--limit", "4"]).len(), 4);
    assert_eq!(found(&relay, &["--until", "2020-01-01"]).len(), 0);
    assert_eq!(found(&relay, &["--since", "2020-01-01", "--controller", "shop"]).len(), 5);
    assert!(!evidence(&relay, &["find", "--controller", "club"]).0);

    // What is handed on proves itself.
    let export = relay.folder.0.join("export.jsonl");
    let to = export.to_str().unwrap();
    assert!(evidence(&relay, &["export", "--to", to]).0 && is_whole(&relay));
    assert!(evidence(&relay, &["verify", "--export", to]).0);
    let text = std::fs::read_to_string(&export).unwrap();
    assert_eq!(text.lines().count(), 5);
    std::fs::write(&export, text.replace("\"no_consent\"", "\"granted\"")).unwrap();
    assert!(!evidence(&relay, &["verify", "--export", to]).0);
    assert!(relay.folder.0.join("data/evidence/0090").is_dir());

    let (_, report) = evidence(&relay, &["report"]);
    let has = |words: &[&str]| report.iter().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(
        has(&["1 ", "shop/watched", "done keep"]) && has(&["2 ", "img of SendGrid", "done strip"]),
        "{report:?}"
    );

    // Logs name the domain of an address that a next hop names, and nobody.
    let people = ["ann@", "bob@", "eve@"];
    each_file(&relay.folder.0.join("data"), &mut |path, bytes| {
        assert!(memchr::memmem::find(bytes, b"home.example").is_none(), "{}", path.display());
        assert!(people.iter().all(|person| memchr::memmem::find(bytes, person.as_bytes()).is_none()));
    });
    assert!(people.iter().all(|person| !text.contains(person)) && !text.contains("home.example"));
    assert!(relay.log.all().iter().all(|line| people.iter().all(|person| !line.contains(person))));
}

#[test]
fn a_kill_loses_what_came_last_and_the_chain_is_whole() {
    let hop = NextHop::start();
    let mut relay = Relay::with(hop.port, "", "", "[evidence]\nsegment_bytes = 4096\n");
    let mut kept = 0;
    for round in 0..8 {
        for _ in 0..3 {
            assert!(send(&relay, &["ann@home.example"], "Subject: a\n\nText.\n").starts_with("250"));
        }
        // These are synced; those that follow may be.
        wait_for(&relay, kept + 3);
        for _ in 0..round {
            assert!(send(&relay, &["ann@home.example"], "Subject: b\n\nText.\n").starts_with("250"));
        }
        let synced = found(&relay, &[]).len();
        relay = relay.killed();
        kept = found(&relay, &[]).len();
        assert!(kept >= synced, "{kept} of {synced}");
        assert!(is_whole(&relay));
    }
    stop(&mut relay);
    assert!(is_whole(&relay));
    let (_, report) = evidence(&relay, &["report", "--json"]);
    let report: Value = serde_json::from_str(&report.concat()).unwrap();
    let counted: u64 =
        report["recipients"].as_array().unwrap().iter().map(|row| row["count"].as_u64().unwrap()).sum();
    assert_eq!(counted, found(&relay, &[]).len() as u64, "counts survive kills, too");
}

#[test]
fn a_flipped_bit_is_noticed_and_what_is_whole_is_still_found() {
    let hop = NextHop::start();
    let mut relay = Relay::with(hop.port, "", "", "[evidence]\nsegment_bytes = 4096\nbody_hashes = false\n");
    for _ in 0..40 {
        assert!(send(&relay, &["ann@home.example"], "Subject: a\n\nText.\n").starts_with("250"));
    }
    stop(&mut relay);
    let all = found(&relay, &[]);
    assert_eq!((all.len(), &all[0]["body_before"], &all[0]["body_after"]), (40, &Value::Null, &Value::Null));
    let folder = relay.folder.0.join("data/evidence/1095");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| !path.ends_with("kept-from"));
    for path in files {
        let whole = std::fs::read(&path).unwrap();
        let mut damaged = whole.clone();
        damaged[whole.len() / 2] ^= 4;
        std::fs::write(&path, damaged).unwrap();
        assert!(!is_whole(&relay), "{}", path.display());
        std::fs::write(&path, whole).unwrap();
    }
    assert!(is_whole(&relay));
}

#[test]
fn mail_flows_where_evidence_cannot_be_written_and_what_is_lost_is_counted() {
    let hop = NextHop::start();
    let folder = Folder::new();
    let config = configuration(&folder, hop.port, "", "", "[evidence]\nsegment_bytes = 4096\n");
    let port = free_port();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        text.replace("[private]\naddress = \"\"", &format!("[private]\naddress = \"127.0.0.1:{port}\"")),
    )
    .unwrap();
    let relay = Relay::in_folder(folder);
    let evidence_folder = relay.folder.0.join("data/evidence");
    let aside = relay.folder.0.join("aside");
    // The open segment can still be written, and no other one be made: as on a disk without room.
    std::fs::rename(&evidence_folder, &aside).unwrap();
    std::fs::write(&evidence_folder, "in the way").unwrap();
    let lost = || {
        let page = get(port, "/metrics");
        let lines = page.lines().filter(|line| line.starts_with("pixelward_evidence_lost_total{"));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum::<u64>()
    };
    let deadline = Instant::now() + PATIENCE;
    while lost() == 0 {
        assert!(send(&relay, &["ann@home.example"], "Subject: a\n\nText.\n").starts_with("250"));
        assert!(Instant::now() < deadline, "nothing was lost");
    }
    relay.log.wait("loss", |line| line.contains("audit records cannot be written"));
    let ready = get(port, "/readyz");
    assert!(
        ready.starts_with("HTTP/1.1 503 ") && ready.contains("evidence is being lost: it cannot be written"),
        "{ready}"
    );
    std::fs::remove_file(&evidence_folder).unwrap();
    std::fs::rename(&aside, &evidence_folder).unwrap();
    let before = found(&relay, &["--mailstream", "unmatched", "--limit", "100000"]).len();
    let deadline = Instant::now() + PATIENCE;
    while found(&relay, &["--limit", "100000"]).len() <= before {
        assert!(send(&relay, &["ann@home.example"], "Subject: a\n\nText.\n").starts_with("250"));
        assert!(Instant::now() < deadline, "evidence is not written again");
    }
    relay.log.wait("recovery", |line| line.contains("audit records can be written again"));
    assert!(get(port, "/readyz").ends_with("ready\n"));
    let said = relay.log.all().iter().filter(|line| line.contains("audit records cannot be written")).count();
    assert_eq!(said, 1, "it is said once");
    assert!(is_whole(&relay));
}

#[test]
fn erasing_a_person_takes_their_evidence_from_everybody() {
    let hop = NextHop::start();
    let mut relay = Relay::start(hop.port);
    relay.say("ann@home.example", "granted");
    for to in ["ann@home.example", "eve@home.example"] {
        assert!(send(&relay, &[to], "Subject: a\n\nText.\n").starts_with("250"));
    }
    wait_for(&relay, 2);
    // One whom the journal knows, and one whom it does not.
    for (address, said) in
        [("ann@home.example", "has been erased"), ("eve@home.example", "Nobody with this address")]
    {
        assert_eq!(found(&relay, &["--person", address]).len(), 1);
        let erased = relay.command(&["consent", "erase", address]);
        assert!(String::from_utf8(erased.stdout).unwrap().contains(said));
        let asked = relay.command(&["evidence", "find", "--person", address]);
        assert!(!asked.status.success());
        assert!(String::from_utf8(asked.stderr).unwrap().contains("was erased"));
    }
    assert_eq!(found(&relay, &[]).len(), 2);
    // The store key, the journal and every other file do not bring the link back.
    relay = relay.killed();
    assert!(!relay.command(&["evidence", "find", "--person", "ann@home.example"]).status.success());
    assert!(send(&relay, &["ann@home.example"], "Subject: a\n\nText.\n").starts_with("250"));
    stop(&mut relay);
    assert_eq!(found(&relay, &["--person", "ann@home.example"]).len(), 1, "what came later");
    assert!(is_whole(&relay));
}

const OLD: &str = "PIXELWARD_OLD_EVIDENCE";

/// Not a test of its own: what a child does for the next one, in a process of its own so that no other test's
/// children hold the store's lock.
#[test]
fn child_that_writes_old_evidence() {
    let Some(folder) = std::env::var_os(OLD).map(PathBuf::from) else { return };
    let store = consent::Settings {
        head_copy: Some(folder.join("head")),
        ..consent::Settings::at(folder.join("data/consent"))
    };
    let store = Arc::new(consent::Store::open(&store).unwrap());
    let settings = Settings {
        directory: folder.join("data/evidence"),
        head_copy: None,
        retention_days: 30,
        segment_bytes: 1 << 20,
        body_hashes: true,
        subjects: false,
    };
    let recipient = NotedRecipient {
        converted: false,
        person: store.person("ann@home.example"),
        decision: Some(Decision {
            outcome: Outcome::Strip,
            links: LinkFate::Stay,
            receipts: Receipts::Strip,
            rule: Rule::NoConsent,
            version: "fr/2026-07-14".into(),
            record: None,
        }),
        effect: Effect { done: Done::Of(Outcome::Strip), ..Effect::default() },
        reply: Reply::new(250, "Ok"),
    };
    let copy = NotedCopy { after: None, recipients: vec![recipient] };
    let evidence = Evidence::start(settings, store).unwrap();
    evidence.note(Note {
        at: consent::Timestamp::now().plus_days(-32),
        id: "old".to_owned(),
        message_id: String::new(),
        controller: "default".into(),
        days: None,
        mailstream: "news".into(),
        observed: false,
        listener: "default".to_owned(),
        route: "default".to_owned(),
        downstream: String::new(),
        found: 0,
        links: 0,
        unreadable: 0,
        sightings: Vec::new(),
        campaign: String::new(),
        subject: None,
        reports: Vec::new(),
        hosts: Vec::new(),
        before: None,
        copies: vec![copy],
    });
    evidence.close();
}

#[test]
fn what_is_too_old_is_gone_once_a_day_ends() {
    let hop = NextHop::start();
    let folder = Folder::new();
    configuration(&folder, hop.port, "", "", "[evidence]\nretention_days = 30\n");
    let child = support::alone(concat!(module_path!(), "::child_that_writes_old_evidence"))
        .env(OLD, &folder.0)
        .stdout(Stdio::null())
        .status();
    assert!(child.unwrap().success());
    let relay = Relay::in_folder(folder);
    assert_eq!(found(&relay, &["--id", "old"]).len(), 1);
    // The first message of another day closes the old segment.
    assert!(send(&relay, &["ann@home.example"], "Subject: a\n\nText.\n").starts_with("250"));
    relay.log.wait("deletion", |line| line.contains("expired audit records were deleted"));
    assert_eq!(found(&relay, &["--id", "old"]).len(), 0);
    assert_eq!(found(&relay, &[]).len(), 1);
    assert!(is_whole(&relay));
}

#[test]
fn without_evidence_there_is_none() {
    let hop = NextHop::start();
    let mut relay = Relay::with(hop.port, "", "", "[evidence]\nenabled = false\n");
    assert!(send(&relay, &["ann@home.example"], "Subject: a\n\nText.\n").starts_with("250"));
    stop(&mut relay);
    assert!(!relay.folder.0.join("data/evidence").exists());
    assert_eq!(found(&relay, &[]).len(), 0);
}

#[test]
fn a_directory_that_cannot_be_used_stops_the_start() {
    let folder = Folder::new();
    let inside_a_file = folder.file("taken", "").join("evidence");
    let config = configuration(&folder, 1, "", "", &format!("[evidence]\ndirectory = {inside_a_file:?}\n"));
    let output = support::program().args(["run", "--config"]).arg(config).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("audit records cannot be kept") && said.contains("taken"), "{said}");
}
