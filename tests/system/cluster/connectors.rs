//! A service is written to by one relay at a time, whatever becomes of that relay.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::json;

use super::relays::{Cluster, done};
use super::until;
use crate::esp::{CREDENTIAL, Esp, PLAIN, Plain};
use crate::support::{Folder, Relay};

/// Somebody says something at a relay, with the name that the service knows.
fn say(relay: &Relay, person: &str, state: &str, second: u32) {
    let row = format!(
        "address,state,purposes,event_time,evidence,external_id\n\
         {person}@home.example,{state},campaign_performance,2026-09-01T10:00:{second:02}Z,form/{second},{person}\n"
    );
    let file = relay.folder.file("row.csv", &row);
    done(&relay.command(&["consent", "import", file.to_str().unwrap(), "--controller", "shop"]));
}

#[test]
fn each_change_is_written_once_though_the_relay_that_writes_is_killed() {
    let esp = Esp::start(Plain);
    let folder = Folder::new();
    let file = folder.file("plain.toml", PLAIN);
    let key = folder.file("key", &format!("{CREDENTIAL}\n"));
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let connector = format!(
        "[[connector]]\ncontroller = \"shop\"\nname = \"plain\"\nservice_file = {file:?}\nbase_url = {:?}\n\
         credential_file = {key:?}\npurposes = [\"campaign_performance\"]\n",
        esp.base()
    );
    let mut cluster = Cluster::grown_with(2, &connector, |_| {});
    for (number, person) in (0..).zip(["ann", "bob", "cat", "dan"]) {
        say(&cluster.relays[number % 2], person, "granted", 1);
    }
    let all = |value: bool| {
        ["ann", "bob", "cat", "dan"].iter().all(|person| esp.value(person) == Some(json!(value)))
    };
    until("all are written", || all(true));
    assert_eq!(esp.books.lock().unwrap().writes, 4, "nobody is written twice");
    let writes = |relay: &Relay| {
        done(&relay.command(&["cluster", "status"]))
            .contains("the connector plain of shop, told by this relay")
    };
    until("one of them says that it writes", || cluster.relays.iter().any(writes));

    // It is killed while changes wait.
    esp.books.lock().unwrap().locks_out = true;
    for (number, person) in (0..).zip(["ann", "bob", "cat", "dan"]) {
        say(&cluster.relays[number % 2], person, "refused", 2);
    }
    let first = cluster.relays.iter().position(writes).unwrap();
    let killed = cluster.relays.remove(first);
    killed.signal("KILL");
    drop(killed);
    esp.books.lock().unwrap().locks_out = false;
    until("the other one goes on", || {
        std::thread::park_timeout(Duration::from_millis(200));
        all(false)
    });
    esp.check();
}
