//! `pixelward why` reads the journal of the unit. The entries are written by systemd's own writer into a
//! journal that only this test sees. Needs root.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::mta::run;
use crate::support::{Client, Folder, NextHop, Relay, ended};

/// A journal with these lines of the unit.
fn journal(unit: &str, lines: &[String]) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
    let entries = lines.iter().zip(1..).map(|(line, number)| {
        format!(
            "__REALTIME_TIMESTAMP={}\n__MONOTONIC_TIMESTAMP={number}\n\
             _BOOT_ID=00000000000000000000000000000001\n_SYSTEMD_UNIT={unit}\nPRIORITY=6\nMESSAGE={line}\n\n",
            now + number
        )
    });
    entries.collect()
}

#[test]
fn a_message_is_found_in_the_journal_of_the_unit_by_any_of_its_ids() {
    let hop = NextHop::start();
    let relay = Relay::start(hop.port);
    let letter = "Message-ID: <1@shop.example>\nSubject: a\n\nb\n";
    let reply = Client::greeted(relay.port).message("news@shop.example", &["ann@home.example"], letter);
    assert!(reply.starts_with("250"), "{reply}");
    let line = relay.log.wait("the line", |line| line.contains("result=\"accepted\""));
    let id = line.split(" id=").nth(1).unwrap().split_whitespace().next().unwrap();

    let folder = Folder::new();
    let machine = std::fs::read_to_string("/etc/machine-id").unwrap();
    let place = folder.0.join("journal").join(machine.trim());
    std::fs::create_dir_all(&place).unwrap();
    let lines = [line.clone(), "message id=other message_id=\"<2@shop.example>\"".to_owned()];
    let entries = journal("pixelward.service", &lines)
        + &journal("other.service", &[format!("another program says {id} and <1@shop.example>")]);
    let mut writer = Command::new("/lib/systemd/systemd-journal-remote")
        .arg("--output")
        .arg(place.join("system.journal"))
        .arg("-")
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    writer.stdin.take().unwrap().write_all(entries.as_bytes()).unwrap();
    assert!(ended(&mut writer).success());

    let script = "mount -t tmpfs tmpfs /var/log && mkdir /var/log/journal && mount --bind \"$1\" \
                  /var/log/journal && exec \"$2\" why \"$3\" --config \"$4\"";
    for asked in [id, "1@shop.example", "NEXTHOP1"] {
        let found = run(Command::new("unshare")
            .args(["--mount", "sh", "-c", script, "sh"])
            .arg(folder.0.join("journal"))
            .arg(env!("CARGO_BIN_EXE_pixelward"))
            .arg(asked)
            .arg(relay.folder.0.join("config.toml")));
        let said = String::from_utf8(found.stdout).unwrap();
        let logged: Vec<&str> = said.lines().filter(|line| line.starts_with("log ")).collect();
        assert_eq!(logged.len(), 1, "{asked}: {said}");
        assert!(logged[0].contains(&format!("id={id}")) && logged[0].contains("NEXTHOP1"), "{said}");
    }
}
