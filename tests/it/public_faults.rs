//! Pixels and links of ours when something is wrong: consent that cannot be read, people who were erased.

use crate::http;
use crate::support;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::readers::Readers;
use crate::support::{Client, Folder, NextHop, PATIENCE, newsletter};
use pixelward::consent::days::Table;

/// Damages what the index has of everybody, in a store that is not open.
fn damage_standings(store: &Path) {
    let db = sled::Config::new().path(store.join("index")).open().unwrap();
    let standings = db.open_tree("standings").unwrap();
    let all: Vec<_> = standings.iter().map(|standing| standing.unwrap()).collect();
    assert!(!all.is_empty(), "nobody is in the index");
    for (key, value) in all {
        let mut value = value.to_vec();
        value[8] ^= 1;
        standings.insert(key, value).unwrap();
    }
    db.flush().unwrap();
}

/// Ends the relay in good order and starts it again, after `meanwhile` was done to its folder.
fn again(mut readers: Readers, meanwhile: impl FnOnce(&Path)) -> Readers {
    readers.served.relay.signal("TERM");
    assert!(readers.served.relay.wait().success());
    let folder = std::mem::replace(&mut readers.served.relay.folder, Folder(PathBuf::new()));
    meanwhile(&folder.0);
    Readers::in_folder(folder)
}

#[test]
fn pixels_give_the_one_picture_and_keep_nothing_where_consent_cannot_be_read() {
    let hop = NextHop::start();
    let readers = Readers::with(hop.port, "", "");
    readers.say("ann@home.example", "granted");
    let gate = readers.gate("ann@home.example");
    assert_eq!(readers.get(&gate).status, 302);
    // What the journal has is in the index once the relay has started with it.
    let readers = again(readers, |_| {});
    let readers = again(readers, |folder| damage_standings(&folder.join("data/consent")));
    let forged = readers.get("/shop/p/none");
    for path in [&gate, &readers.day("ann@home.example", "orders")] {
        let answer = readers.get(path);
        assert_eq!((answer.status, &answer.body), (200, &forged.body), "{path}");
        let names = |item: &http::Answer| item.headers.iter().map(|item| item.0.clone()).collect::<Vec<_>>();
        assert_eq!(names(&answer), names(&forged), "{path}");
    }
    // Her mail loses its pixel, and flows.
    let (with, without) = newsletter("ann@home.example");
    let sent =
        Client::greeted(readers.served.relay.port).message("news@shop.example", &["ann@home.example"], &with);
    assert!(sent.starts_with("250"), "{sent}");
    assert_eq!(hop.wait(1)[0].below_trace(), support::crlf(&without));
    readers.served.relay.log.wait("an alarm", |line| line.contains("consent could not be looked up"));
    let mut readers = readers;
    readers.served.relay.signal("TERM");
    assert!(readers.served.relay.wait().success());
    let table = Table::load(&readers.served.relay.folder.0.join("data/consent/days.log")).unwrap();
    assert_eq!(table.len(), 0, "nothing is kept of what nobody may know");
}

#[test]
fn who_was_erased_and_is_written_to_again_has_a_link_that_opens() {
    let hop = NextHop::start();
    // Evidence would make a name for them too, a little later.
    let readers = Readers::with(hop.port, "", "[evidence]\nenabled = false");
    readers.say("ann@home.example", "granted");
    readers.erase("ann@home.example");
    let nobody = readers.get("/shop/c/none").text();
    assert_eq!(readers.get(&readers.link("ann@home.example")).text(), nobody, "she was erased");
    let sent = Client::greeted(readers.served.relay.port).message(
        "orders@shop.example",
        &["ann@home.example"],
        &newsletter("ann@home.example").0,
    );
    assert!(sent.starts_with("250"), "{sent}");
    let mail = hop.wait(1).remove(0);
    let text = String::from_utf8(mail.data).unwrap().replace("=\r\n", "");
    let found = |kind: &str| -> String {
        let start = format!("http://127.0.0.1:1/shop/{kind}/");
        let token = text.split(&start).nth(1).unwrap_or_else(|| panic!("no {kind} in {text}"));
        let end = token
            .find(|character: char| !character.is_ascii_alphanumeric() && !"-_".contains(character))
            .unwrap();
        format!("/shop/{kind}/{}", &token[..end])
    };
    let page = readers.get(&found("c")).text();
    assert!(page.contains("a…@h….example"), "{page}");
    readers.get(&found("d"));
    let days = readers.served.relay.folder.0.join("data/consent/days.log");
    let deadline = Instant::now() + PATIENCE;
    while Table::load(&days).map_or(0, |item| item.len()) == 0 {
        assert!(Instant::now() < deadline, "her day of last open was not kept");
    }
}
