//! What is asked at one relay about mail that others handled.

use std::time::{Duration, Instant};

use pixelward_store::consent::Timestamp;
use serde_json::{Value, json};

use super::relays::{Cluster, done, say};
use super::until;
use super::webhooks::Receiver;
#[cfg(feature = "console")]
use crate::console::Console;
use crate::http::{Answer, Connection, Served};
use crate::support::Relay;

/// A token that may read everything about the shop, at a relay that has its file.
pub(super) fn token(relay: &Relay) -> String {
    let scopes = "evidence:read,statistics:read,delivery:read";
    let new = ["token", "new", "t", "--scope", scopes, "--controller", "all", "--expires", "30d"];
    let line = done(&relay.command(&new));
    line.trim().to_owned()
}

pub(super) fn ask(relay: &Relay, token: &str, method: &str, path: &str, body: &str) -> Answer {
    let line = relay.log.wait("the API", |line| line.contains("the API is served"));
    let port = line.rsplit(':').next().unwrap().trim().parse().unwrap();
    let bearer = format!("Bearer {token}");
    let headers =
        [("Host", "localhost"), ("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    Connection::to(port).ask(method, path, &headers, body.as_bytes())
}

fn search(relay: &Relay, token: &str, wanted: &Value) -> Value {
    let answer = ask(relay, token, "POST", "/v1/controllers/shop/evidence/search", &wanted.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn records(found: &Value) -> &Vec<Value> {
    found["records"].as_array().unwrap()
}

#[test]
fn a_search_at_one_relay_finds_what_another_handled_and_says_who_did_not_answer() {
    let [ann, bob] = ["ann@home.example", "bob@home.example"];
    let mut cluster = Cluster::grown(2, &[ann, bob]);
    let token = token(&cluster.relays[0]);
    cluster.sent(0, ann);
    cluster.sent(1, ann);
    cluster.sent(1, bob);
    let wanted = json!({"limit": 10});
    until("all records are found", || records(&search(&cluster.relays[0], &token, &wanted)).len() == 3);

    let found = search(&cluster.relays[0], &token, &wanted);
    assert_eq!((&found["complete"], &found["unanswered"]), (&json!(true), &json!([])));
    let mut by: Vec<&str> = records(&found).iter().map(|record| record["relay"].as_str().unwrap()).collect();
    let time = |record: &Value| Timestamp::parse(record["record"]["time"].as_str().unwrap()).unwrap();
    let times: Vec<Timestamp> = records(&found).iter().map(time).collect();
    assert!(times.is_sorted_by(|one, next| one >= next), "{times:?}");
    by.sort_unstable();
    by.dedup();
    assert_eq!(by.len(), 2, "{found}");
    // The newest ones, whoever has them.
    let newest = search(&cluster.relays[0], &token, &json!({"limit": 2}));
    assert_eq!((records(&newest).len(), &newest["more"]), (2, &json!(true)));
    assert_eq!(records(&newest)[0], records(&found)[0]);
    // A person is known under another pseudonym at each.
    let about = search(&cluster.relays[0], &token, &json!({"recipient": ann, "proof": true}));
    assert_eq!(records(&about).len(), 2, "{about}");
    assert!(records(&about).iter().all(|record| record["proof"].is_object()), "{about}");

    // The counts of both.
    let figures = |relay: &Relay| {
        let answer = ask(relay, &token, "GET", "/v1/controllers/shop/figures", "");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    };
    let recipients = |figures: &Value| -> u64 {
        let days = figures["days"].as_array().unwrap().iter();
        let rows = days.flat_map(|day| day["recipients"].as_array().unwrap());
        rows.map(|row| row["count"].as_u64().unwrap()).sum()
    };
    until("the counts of both are written", || recipients(&figures(&cluster.relays[0])) == 3);

    // The commands read the files of one, and say so.
    for command in [
        &["evidence", "find"][..],
        &["evidence", "report"],
        &["report"],
        &["why", "1f0x", "--log", "/dev/null"],
    ] {
        let output = cluster.relays[0].command(command);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            said.contains("that this relay handled") && said.contains("/v1/controllers/NAME/"),
            "{command:?}: {said}"
        );
    }

    // How they stand.
    let standing = ask(&cluster.relays[0], &token, "GET", "/v1/cluster", "").json();
    assert_eq!((&standing["fresh"], &standing["stopped"]), (&json!(true), &Value::Null), "{standing}");
    let other = standing["others"][0]["relay"].as_str().unwrap().to_owned();
    assert!(by.contains(&other.as_str()) && by.contains(&standing["relay"].as_str().unwrap()));

    // A relay that stands still is left out soon, and from then on at once.
    let gone = cluster.relays.pop().unwrap();
    gone.signal("STOP");
    for patience in [Duration::from_secs(6), Duration::from_secs(3)] {
        let started = Instant::now();
        let found = search(&cluster.relays[0], &token, &wanted);
        assert_eq!((records(&found).len(), &found["complete"]), (1, &json!(false)), "{found}");
        assert!(found["unanswered"][0]["why"].as_str().unwrap().contains("no connection within"), "{found}");
        assert!(started.elapsed() < patience, "{:?}", started.elapsed());
    }

    // What a relay that is gone has is missing, and that is said.
    gone.signal("KILL");
    drop(gone);
    let found = search(&cluster.relays[0], &token, &wanted);
    assert_eq!((records(&found).len(), &found["complete"]), (1, &json!(false)), "{found}");
    assert_eq!(found["unanswered"][0]["relay"], other.as_str(), "{found}");
    let counted = figures(&cluster.relays[0]);
    assert_eq!((recipients(&counted), counted["unanswered"].as_array().unwrap().len()), (1, 1));
    // Until the others are told that it is gone for good.
    done(&cluster.relays[0].command(&["cluster", "forget", &other[..8]]));
    let found = search(&cluster.relays[0], &token, &wanted);
    assert_eq!((&found["complete"], &found["unanswered"]), (&json!(true), &json!([])), "{found}");
    // A choice does not wait for it.
    say(&cluster.relays[0], ann, "withdrawn");
}

/// With `PIXELWARD_PICTURES`, pictures of the page go to that folder.
#[cfg(feature = "console")]
#[test]
fn the_console_shows_how_the_relays_stand_where_there_are_several() {
    let alone = Served::with("");
    let console = Console::beside(&alone, "");
    let mut browser = console.signed_in(&alone);
    assert!(!browser.page("/account").contains("\"/cluster"));
    assert_eq!(browser.get("/cluster").status, 404);

    let receiver = Receiver::start();
    let mut cluster = Cluster::grown_with(3, &receiver.configured(), |_| {});
    say(&cluster.relays[1], "ann@home.example", "granted");
    receiver.await_records("the webhook is told", 1);
    let served = Served::of(cluster.relays.remove(0));
    let console = Console::beside(&served, "");
    let mut browser = console.signed_in(&served);
    assert!(browser.page("/account").contains("\"/cluster"));
    until("the other relays are heard", || {
        let page = browser.page("/cluster");
        page.matches(" ago</td>").count() == 2
    });
    let page = browser.page("/cluster");
    for shown in
        ["count</span>", "are taken</span>", "Other relays", "Told by", "<th scope=\"row\">shop</th>"]
    {
        assert!(page.contains(shown), "{shown}: {page}");
    }
    let base = format!("http://127.0.0.1:{}", console.port);
    let pictures = std::env::var("PIXELWARD_PICTURES").unwrap_or_default();
    let arguments = [base.as_str(), &console.link(&served), "/cluster", "cluster", &pictures];
    crate::console::browsed("one-page.mjs", &arguments);
    // The story of a message that another relay handled.
    cluster.sent(1, "ann@home.example");
    let mut story = String::new();
    until("the message is found", || {
        let page = browser.page("/messages?controller=shop");
        let link = page.split("href=\"/messages/").nth(1).map(|link| link.split('"').next().unwrap());
        story = link.map_or(String::new(), |link| format!("/messages/{}", link.replace("&amp;", "&")));
        !story.is_empty()
    });
    let page = browser.page(&story);
    assert!(page.contains("Handled by relay"), "{page}");
    // In each language, and with a relay that is gone.
    for (language, heading) in [("de", "Andere Relays"), ("fr", "Autres relais")] {
        let page = browser.page("/account");
        let chosen = browser.submit(&page, "/language", &[("language", language), ("back", "/cluster")]);
        assert_eq!(chosen.status, 303);
        assert!(browser.page("/cluster").contains(heading), "{language}");
    }
    let gone = cluster.relays.pop().unwrap();
    gone.signal("KILL");
    drop(gone);
    let page = browser.page("/messages?controller=shop");
    assert!(page.contains("qui n’ont pas répondu"), "{page}");
}
