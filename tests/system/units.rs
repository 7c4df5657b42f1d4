//! The units of systemd: they are well-formed, shut in as tightly as a mail server can be, and forbid nothing
//! that the relay does.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::linux::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::{Client, Folder, Lines, NextHop, Relay, configuration, ended, newsletter, program};

fn shipped(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The units in a folder, with a program that is there.
fn units(folder: &Folder) -> Vec<PathBuf> {
    let there = program().get_program().to_str().unwrap().to_owned();
    ["pixelward.service", "pixelward-console.service", "pixelward.socket"]
        .into_iter()
        .map(|name| {
            let unit = shipped(name);
            let unit = unit.replace("ExecStart=/usr/bin/pixelward-console", &format!("ExecStart={there}"));
            folder.file(name, &unit.replace("=/usr/bin/pixelward ", &format!("={there} ")))
        })
        .collect()
}

fn analyze(arguments: &[&str]) -> String {
    let output = Command::new("systemd-analyze")
        .args(arguments)
        .env("SYSTEMD_PAGER", "")
        .output()
        .expect("systemd-analyze of the Debian package systemd");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {said}");
    said
}

#[test]
fn the_units_are_well_formed() {
    let folder = Folder::new();
    for path in units(&folder) {
        let said = analyze(&["verify", "--man=no", path.to_str().unwrap()]);
        // What is wrong with units of the system itself is not ours.
        let ours: Vec<&str> = said.lines().filter(|line| line.contains("pixelward")).collect();
        assert_eq!(ours, [""; 0], "{}", path.display());
    }
}

#[test]
fn the_services_are_exposed_to_no_more_than_1_2() {
    let folder = Folder::new();
    for path in units(&folder).iter().filter(|path| path.extension().unwrap() == "service") {
        let path = path.to_str().unwrap();
        // The threshold is in tenths; above it the command fails.
        let said = analyze(&["security", "--offline=true", "--threshold=12", "--no-pager", path]);
        assert!(said.contains("Overall exposure level"), "{said}");
    }
}

/// The names that a filter of system calls allows, as this system's systemd knows its sets.
fn allowed(unit: &str) -> BTreeSet<String> {
    let mut allowed = BTreeSet::new();
    for line in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let (is_taken_out, names) = match line.strip_prefix('~') {
            Some(names) => (true, names),
            None => (false, line),
        };
        for name in names.split_whitespace().flat_map(|name| expanded(name, 0)) {
            match is_taken_out {
                true => allowed.remove(&name),
                false => allowed.insert(name),
            };
        }
    }
    allowed
}

/// A set's calls; sets hold sets, never deeply.
fn expanded(name: &str, depth: usize) -> Vec<String> {
    if !name.starts_with('@') || depth > 5 {
        return vec![name.to_owned()];
    }
    let listed = analyze(&["syscall-filter", "--no-pager", name]);
    let inner =
        listed.lines().skip(1).map(str::trim).filter(|item| !item.is_empty() && !item.starts_with('#'));
    inner.flat_map(|item| expanded(item, depth + 1)).collect()
}

/// What the relay asked of the kernel while it started, took mail, answered commands, read its configuration
/// again and stopped.
fn asked_for() -> (BTreeSet<String>, usize) {
    let hop = NextHop::start();
    let folder = Folder::new();
    let config = configuration(&folder, hop.port, "tls = \"starttls\"", "", "");
    let trace = folder.0.join("trace");
    let mut child = Command::new("strace")
        .args(["-f", "-qq", "-e", "signal=none", "-o"])
        .arg(&trace)
        .arg(program().get_program())
        .args(["run", "--config"])
        .arg(&config)
        .env("NO_COLOR", "1")
        .env_remove("JOURNAL_STREAM")
        .stderr(Stdio::piped())
        .spawn()
        .expect("strace of the Debian package strace");
    let log = Lines::follow(child.stderr.take().unwrap());
    let line = log.wait("an address", |line| line.contains("listening"));
    let address = line.split("address=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    log.wait("ready", |line| line.contains("is ready"));
    let mut client = Client::greeted(address.rsplit(':').next().unwrap().parse().unwrap());
    for to in ["ann@home.example", "bob@home.example"] {
        let (message, _) = newsletter(to);
        assert!(client.message("news@shop.example", &[to], &message).starts_with("250"));
    }
    for state in ["refused", "withdrawn"] {
        let set =
            program().args(["consent", "set", "ann@home.example", state, "--config"]).arg(&config).output();
        assert!(set.unwrap().status.success());
    }
    // strace hands nothing on: the relay is its child.
    let children = Command::new("pgrep").args(["-P", &child.id().to_string()]).output().unwrap();
    let relay = String::from_utf8(children.stdout).unwrap().trim().to_owned();
    let signal = |name: &str| {
        assert!(Command::new("kill").args(["-s", name, &relay]).status().unwrap().success());
    };
    signal("HUP");
    log.wait("a reload", |line| line.contains("were read again"));
    drop(client);
    signal("TERM");
    assert!(ended(&mut child).success());
    let text = std::fs::read_to_string(&trace).unwrap();
    // A line is "PID name(…" or "PID <... name resumed>…".
    let calls = text.lines().filter_map(|line| line.split_whitespace().nth(1)?.split_once('('));
    let names: BTreeSet<String> = calls.map(|(name, _)| name.to_owned()).collect();
    (names, text.matches(" execve(").count())
}

#[test]
fn the_filter_allows_what_the_relay_asks_the_kernel_for() {
    let (asked, programs) = asked_for();
    assert!(asked.len() > 40 && asked.contains("fdatasync") && asked.contains("accept4"), "{asked:?}");
    assert_eq!(programs, 1, "the relay starts no other program");
    for unit in ["pixelward.service", "pixelward-console.service"] {
        let allowed = allowed(&shipped(unit));
        // The dynamic loader's, which every filter of systemd allows.
        let missing: Vec<&String> = asked.iter().filter(|name| !allowed.contains(*name)).collect();
        assert_eq!(missing, [""; 0], "{unit}");
        for name in ["setuid", "ptrace", "mount", "bpf", "chown", "keyctl", "mlock"] {
            assert!(!allowed.contains(name), "{unit} allows {name}");
        }
    }
}

/// What journalctl shows of a record is its line alone: it says all by itself, and its level is in front.
#[test]
fn a_line_of_the_journal_has_its_level_and_its_fields() {
    let hop = NextHop::start();
    let folder = Folder::new();
    let config = configuration(&folder, hop.port, "", "", "");
    let settings =
        std::fs::read_to_string(&config).unwrap().replace("format = \"human\"", "format = \"auto\"");
    std::fs::write(&config, settings).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let theirs = File::from(OwnedFd::from(theirs));
    let stream = theirs.metadata().unwrap();
    let child = program()
        .args(["run", "--config"])
        .arg(&config)
        .env("JOURNAL_STREAM", format!("{}:{}", stream.st_dev(), stream.st_ino()))
        .stderr(theirs)
        .spawn()
        .unwrap();
    let relay = Relay::ready(child, Lines::follow(ours), folder);
    let line = relay.log.wait("an address", |line| line.contains("listening"));
    assert!(line.starts_with("<6>listening "), "{line}");
    std::fs::write(&config, "nonsense = 1\n").unwrap();
    relay.signal("HUP");
    for part in ["not read again", "nonsense"] {
        let line = relay.log.wait("a refusal", |line| line.contains(part));
        assert!(line.starts_with("<3>"), "{line}");
    }
}

#[test]
fn a_reload_and_a_stop_leave_the_relay_its_time() {
    let unit = shipped("pixelward.service");
    let seconds =
        |key: &str| -> u64 { unit.lines().find_map(|line| line.strip_prefix(key)).unwrap().parse().unwrap() };
    let defaults =
        pixelward::config::Config::parse("[next_hop]\nhost = \"smtp.next-hop.example\"\n").unwrap();
    assert!(seconds("TimeoutStopSec=") > defaults.relay.drain.as_secs());
    let connections: usize = defaults.listeners.iter().map(|listener| listener.max_connections).sum();
    assert!(seconds("LimitNOFILE=") > 2 * connections as u64);
}
