//! An archive for an authority is verified by the words that it brings along, without this program.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::console::with_mail;
use crate::http::Served;
use crate::support::Folder;

/// Unpacks an archive. Returns the folder in it.
fn unpacked(archive: &Path, folder: &Folder) -> PathBuf {
    let done = Command::new("tar").arg("xzf").arg(archive).arg("-C").arg(&folder.0).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let mut inside = std::fs::read_dir(&folder.0).unwrap().map(|entry| entry.unwrap().path());
    inside.find(|path| path.is_dir()).unwrap()
}

/// Does what README.txt says, line by line.
fn verified(inside: &Path) -> Vec<Output> {
    let readme = std::fs::read_to_string(inside.join("README.txt")).unwrap();
    let commands = readme.lines().filter_map(|line| line.strip_prefix("    "));
    let lines: Vec<&str> = commands.filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(lines.len(), 2, "{readme}");
    let run = |line: &&str| Command::new("sh").args(["-c", line]).current_dir(inside).output().unwrap();
    lines.iter().map(run).collect()
}

fn said(outputs: &[Output]) -> String {
    let said = outputs.iter().flat_map(|output| [&output.stdout, &output.stderr]);
    said.map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
}

fn archive(served: &Served, more: &[&str]) -> PathBuf {
    let file = served.relay.folder.0.join("archive.tar.gz");
    let made =
        served.relay.command(&[&["evidence", "archive", "--to", file.to_str().unwrap()], more].concat());
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    file
}

#[test]
fn an_archive_is_verified_by_the_words_it_brings_along() {
    let (served, _hop) = with_mail();
    served.relay.log.wait("the first version", |line| line.contains("other rules are in force"));
    let erased = served.relay.command(&["consent", "erase", "bob@home.example"]);
    assert!(erased.status.success());
    let folder = Folder::new();
    let inside = unpacked(&archive(&served, &[]), &folder);
    let outputs = verified(&inside);
    assert!(outputs.iter().all(|output| output.status.success()), "{}", said(&outputs));
    // Two audit records, two choices and an erasure, and the rules that came into force.
    assert!(
        said(&outputs).contains("6 lines are what their chains say, and none is missing."),
        "{}",
        said(&outputs)
    );
    let read = |name: &str| std::fs::read_to_string(inside.join(name)).unwrap();
    let consent = read("consent/000001.jsonl");
    assert!(consent.contains("\"evidence\":\"form/17\"") && consent.contains("\"person\":null"), "{consent}");
    for text in [consent, read("evidence/000001.jsonl"), read("audit/000001.jsonl")] {
        assert!(!text.contains('@'), "{text}");
    }
    // What somebody changed is found, even if the sums were made anew.
    for (name, from, to) in [
        ("evidence/000001.jsonl", "\"done\":\"strip\"", "\"done\":\"keep\""),
        ("evidence/000001.jsonl", "\"hash_before\":\"0", "\"hash_before\":\"1"),
        ("consent/000001.jsonl", "\"payload\":\"0", "\"payload\":\"1"),
        ("consent/000001.jsonl", "\"state\":\"refused\"", "\"state\":\"granted\""),
        ("audit/000001.jsonl", "\"action\":\"rules.deployed\"", "\"action\":\"rules.kept\""),
    ] {
        let text = read(name);
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{name}: {from}");
        std::fs::write(inside.join(name), &changed).unwrap();
        let failed = verified(&inside);
        assert!(failed.iter().all(|output| !output.status.success()), "{name}: {}", said(&failed));
        std::fs::write(inside.join(name), &text).unwrap();
    }
    // A line that is missing, too.
    let text = read("consent/000001.jsonl");
    let (_, rest) = text.split_once('\n').unwrap();
    std::fs::write(inside.join("consent/000001.jsonl"), rest).unwrap();
    let failed = said(&verified(&inside));
    assert!(failed.contains("a line is missing before this one"), "{failed}");
}

#[test]
fn an_archive_for_one_controller_has_nothing_of_another() {
    let (served, _hop) = with_mail();
    served.relay.log.wait("the first version", |line| line.contains("other rules are in force"));
    let said_to_club =
        ["consent", "set", "eve@home.example", "granted", "--evidence", "card/9", "--controller", "club"];
    assert!(served.relay.command(&said_to_club).status.success());
    let folder = Folder::new();
    let inside = unpacked(&archive(&served, &["--controller", "shop", "--since", "2026-01-01"]), &folder);
    let outputs = verified(&inside);
    assert!(outputs.iter().all(|output| output.status.success()), "{}", said(&outputs));
    assert!(said(&outputs).contains("4 lines are what their chains say."), "{}", said(&outputs));
    let whole = Command::new("grep").args(["-rl", "club"]).current_dir(&inside).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&whole.stdout), "");
    // The console hands the same to officers, by a button that leaves an entry in the audit trail.
    #[cfg(feature = "console")]
    {
        let console = crate::console::Console::beside(&served, "");
        let mut browser = console.signed_in(&served);
        let page = browser.page("/report?controller=shop&since=2026-01-01");
        let link = page.split("href=\"/report/archive").nth(1).unwrap().split('"').next().unwrap();
        let answer = browser.get(&format!("/report/archive{}", link.replace("&amp;", "&")));
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/gzip")));
        let file = served.relay.folder.0.join("from-console.tar.gz");
        std::fs::write(&file, &answer.body).unwrap();
        let folder = Folder::new();
        let outputs = verified(&unpacked(&file, &folder));
        assert!(outputs.iter().all(|output| output.status.success()), "{}", said(&outputs));
        assert!(browser.page("/audit").contains("exported everything of a period"));
    }
}
