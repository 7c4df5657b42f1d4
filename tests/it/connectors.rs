//! Connectors: each change reaches the contact that a service keeps, whatever the service does.

use crate::esp::{Asked, CREDENTIAL, Esp, Fault, Manner, Meant, PLAIN, Plain};
use crate::http::{self, Served};
use crate::support::{Folder, PATIENCE, Relay, configuration, free_port, program};
use pixelward::consent::Timestamp;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SCOPES: &str = "consent:read,consent:write,consent:erase";

pub(crate) fn secret(folder: &Folder, name: &str, text: &str) -> PathBuf {
    let path = folder.file(name, &format!("{text}\n"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// A connector of the shop to the plain service.
fn plain(folder: &Folder, esp: &Esp, more: &str) -> String {
    let file = folder.file("plain.toml", PLAIN);
    let key = secret(folder, "key", CREDENTIAL);
    format!(
        "[[connector]]\ncontroller = \"shop\"\nname = \"plain\"\nservice_file = {file:?}\nbase_url = {:?}\n\
         credential_file = {key:?}\npurposes = [\"campaign_performance\"]\n{more}\n",
        esp.base()
    )
}

fn served(folder: Folder, rest: &str) -> Served {
    let rest = format!(
        "{}[api]\naddress = \"127.0.0.1:0\"\nrequests_per_minute = 10000000\n{rest}",
        http::CONTROLLERS
    );
    configuration(&folder, free_port(), "", "", &rest);
    Served::of(Relay::in_folder(folder))
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// The plain service, a relay with a connector to it, and a token.
fn beside_plain() -> (Esp, Served, String) {
    let (esp, folder) = (Esp::start(Plain), Folder::new());
    let lines = plain(&folder, &esp, "");
    let served = served(folder, &lines);
    let token = served.token(SCOPES, "all");
    (esp, served, token)
}

fn erase(served: &Served, token: &str, name: &str) {
    let body = json!({"address": format!("{name}@home.example")}).to_string();
    let answer = served.ask(token, "POST", "/v1/controllers/shop/consent/erase", &body);
    assert_eq!(answer.json()["erased"], true, "{}", answer.text());
}

fn say_with(served: &Served, token: &str, name: &str, state: &str, more: Value) {
    let mut body = json!({"address": format!("{name}@home.example"), "state": state, "evidence": "form/1",
                          "purposes": ["campaign_performance", "link_tracking"]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let answer = served.ask(token, "PUT", "/v1/controllers/shop/consent", &body.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn say(served: &Served, token: &str, name: &str, state: &str) {
    say_with(served, token, name, state, json!({"external_id": format!("id-of-{name}")}));
}

fn standing(served: &Served, token: &str, name: &str) -> Value {
    let answer = served.ask(token, "GET", &format!("/v1/controllers/shop/connectors/{name}"), "");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn act(served: &Served, token: &str, action: &str) -> u16 {
    let body = json!({"action": action}).to_string();
    served.ask(token, "POST", "/v1/controllers/shop/connectors/plain/actions", &body).status
}

#[test]
fn each_change_is_written_though_the_service_fails_in_every_way() {
    let (esp, served, token) = beside_plain();
    esp.fail(vec![
        Fault::Status(503, Vec::new(), Value::Null),
        Fault::CutBefore,
        Fault::Status(429, vec![("Retry-After", "1".to_owned())], Value::Null),
        Fault::CutAfter,
        Fault::Status(500, Vec::new(), Value::Null),
    ]);
    let began = Instant::now();
    say(&served, &token, "ann", "granted");
    until("ann is written", || esp.value("id-of-ann") == Some(json!(true)));
    until("nothing waits", || standing(&served, &token, "plain")["waiting"] == 0);
    assert!(began.elapsed().as_millis() >= 1000, "the service wanted a second of rest");
    say(&served, &token, "ann", "withdrawn");
    until("ann withdrew", || esp.value("id-of-ann") == Some(json!(false)));
    // Only the purposes of the connector count, and another controller's people are not its own.
    say_with(
        &served,
        &token,
        "bob",
        "granted",
        json!({"external_id": "b/o?b", "purposes": ["personalisation"]}),
    );
    until("bob is written", || esp.value("b/o?b") == Some(json!(false)));
    let body =
        json!({"address": "eve@home.example", "state": "granted", "evidence": "f", "external_id": "eve"});
    assert_eq!(served.ask(&token, "PUT", "/v1/controllers/club/consent", &body.to_string()).status, 200);
    esp.check();
    assert!(esp.value("eve").is_none());
    assert_eq!(esp.log("id-of-ann").len(), 3, "the answer to one of them was cut off");
    let page = standing(&served, &token, "plain");
    // A connection that was kept and ended is replaced at once, and is no failure.
    assert_eq!(page["results"]["failed"], 2);
    assert_eq!(page["results"]["busy"], 1);
    assert!(!page.to_string().contains("home.example") && !page.to_string().contains(CREDENTIAL));
}

#[test]
fn whom_a_service_cannot_be_told_of_is_listed_and_told_later() {
    let (esp, served, token) = beside_plain();
    esp.books.lock().unwrap().unknown.insert("id-of-ann".to_owned());
    say(&served, &token, "ann", "granted");
    say_with(&served, &token, "bob", "refused", json!({}));
    say(&served, &token, "cat", "refused");
    let letters = |served: &Served| {
        let path = "/v1/controllers/shop/connectors/plain/dead-letters?limit=1";
        let first = served.ask(&token, "GET", path, "").json();
        let next = first["next"].as_str().unwrap_or_default().to_owned();
        let second = served.ask(&token, "GET", &format!("{path}&cursor={next}"), "").json();
        let both =
            [first, second].map(|page| page["dead_letters"][0]["reason"].as_str().unwrap_or("").to_owned());
        let mut both = both.to_vec();
        both.sort();
        both
    };
    until("two are dead letters", || letters(&served) == ["no_id", "not_known"]);
    until("cat is written all the same", || esp.value("id-of-cat") == Some(json!(false)));
    // They are there after a kill, and told once it is possible.
    let served = Served::of(served.relay.killed());
    assert_eq!(letters(&served), ["no_id", "not_known"]);
    let shown = served.relay.command(&["connector", "dead-letters", "plain", "--controller", "shop"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("not_known (404)") && shown.contains("id-of-ann"), "{shown}");
    assert!(shown.contains("without external_id") && !shown.contains('@'), "{shown}");
    esp.books.lock().unwrap().unknown.clear();
    let output = served.relay.command(&["connector", "retry", "plain", "--controller", "shop"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    until("ann is told of", || esp.value("id-of-ann") == Some(json!(true)));
    until("one is left", || standing(&served, &token, "plain")["dead_letters"]["not_known"] == 0);
    // Bob gets a name, and with it a change.
    say_with(&served, &token, "bob", "withdrawn", json!({"external_id": "bob"}));
    until("bob is told of", || esp.value("bob") == Some(json!(false)));
    until("none is left", || standing(&served, &token, "plain")["dead_letters"]["no_id"] == 0);
    assert_eq!(act(&served, &token, "nonsense"), 400);
    assert_eq!(served.ask(&token, "GET", "/v1/controllers/shop/connectors/other", "").status, 404);
    assert_eq!(served.ask(&token, "GET", "/v1/controllers/club/connectors/plain", "").status, 404);
    esp.check();
}

#[test]
fn a_service_that_does_not_accept_the_credential_loses_nobody() {
    let esp = Esp::start(Plain);
    esp.books.lock().unwrap().locks_out = true;
    let folder = Folder::new();
    let lines = plain(&folder, &esp, "");
    let served = served(folder, &lines);
    let token = served.token(SCOPES, "all");
    for name in ["ann", "bob", "cat"] {
        say(&served, &token, name, "refused");
    }
    until("it stopped", || !standing(&served, &token, "plain")["stopped"].is_null());
    let page = standing(&served, &token, "plain");
    assert!(page["stopped"].as_str().unwrap().contains("401"), "{page}");
    let dead: u64 =
        page["dead_letters"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(dead, 0);
    let status = served.relay.command(&["connector", "status"]);
    assert!(!status.status.success());
    assert!(String::from_utf8(status.stdout).unwrap().contains("stopped: it answered 401"));
    served.relay.log.wait("the log says so", |line| line.contains("a connector stopped"));
    esp.books.lock().unwrap().locks_out = false;
    assert_eq!(act(&served, &token, "retry"), 202);
    until("all are told of", || {
        ["ann", "bob", "cat"].iter().all(|name| esp.value(&format!("id-of-{name}")).is_some())
    });
    until("it works", || standing(&served, &token, "plain")["stopped"].is_null());
    esp.check();
}

#[test]
fn everybody_is_synced_compared_and_shown_without_sending() {
    let esp = Esp::start(Plain);
    let folder = Folder::new();
    let file = folder.file(
        "people.csv",
        &(0..2500).fold("address,state,event_time,evidence,external_id\n".to_owned(), |rows, number| {
            let state = if number % 3 == 0 { "refused" } else { "granted" };
            format!("{rows}p{number}@home.example,{state},2026-09-01T10:00:00Z,form/1,p{number}\n")
        }),
    );
    // They are there before the connector is.
    let rest = format!("{}[api]\naddress = \"\"\n", http::CONTROLLERS);
    let config = configuration(&folder, free_port(), "", "", &rest);
    let imported = program()
        .args(["consent", "import", file.to_str().unwrap(), "--controller", "shop", "--config"])
        .arg(config)
        .output()
        .unwrap();
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    let lines = plain(&folder, &esp, "");
    let served = served(folder, &lines);
    let token = served.token(SCOPES, "all");
    let finished = |errand: &str| {
        until(errand, || {
            let walk = &standing(&served, &token, "plain")["walk"];
            walk["errand"] == errand && !walk["finished_at"].is_null()
        });
        standing(&served, &token, "plain")["walk"].clone()
    };
    assert_eq!(act(&served, &token, "dry_run"), 202);
    let walk = finished("dry_run");
    assert_eq!(
        (&walk["people"], &walk["results"]["granted"], &walk["results"]["refused"]),
        (&json!(2500), &json!(1666), &json!(834))
    );
    assert_eq!(walk["requests"].as_array().unwrap().len(), 20);
    assert!(walk["requests"][0]["path"].as_str().unwrap().starts_with("/contacts/p"));
    assert_eq!(esp.books.lock().unwrap().writes, 0, "nothing was sent");
    esp.books.lock().unwrap().per_mille = 50;
    assert_eq!(act(&served, &token, "sync"), 202);
    let walk = finished("sync");
    assert_eq!(walk["results"]["written"], 2500);
    for number in 0..2500 {
        assert_eq!(esp.value(&format!("p{number}")), Some(json!(number % 3 != 0)), "{number}");
    }
    // Somebody changes two contacts at the service, and one of them is gone.
    {
        let mut books = esp.books.lock().unwrap();
        books.per_mille = 0;
        for (id, value) in [("p0", json!(true)), ("p1", Value::Null)] {
            books.contacts.get_mut(id).unwrap().0 = value;
        }
        books.unknown.insert("p2".to_owned());
    }
    assert_eq!(act(&served, &token, "compare"), 202);
    let walk = finished("compare");
    assert_eq!(walk["results"], json!({"different": 2, "equal": 2497, "not_known": 1}));
    let mut differences: Vec<String> = walk["differences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| format!("{} {} {}", one["external_id"].as_str().unwrap(), one["choice"], one["found"]))
        .collect();
    differences.sort();
    assert_eq!(differences, ["p0 \"refused\" \"true\"", "p1 \"granted\" \"null\""]);
    esp.check();
}

/// The lines of a webhook by which the service reports what people change there.
fn incoming(folder: &Folder) -> String {
    let mapping = folder.file(
        "mapping.toml",
        "[columns]\naddress = \"/email\"\nexternal_id = \"/id\"\nevent_time = \"/at\"\nevidence = { value = \"esp\" }\n\
         purposes = { value = \"campaign_performance\" }\n\
         state = { pointer = \"/tracking\", values = { true = \"granted\", false = \"withdrawn\" } }\n",
    );
    format!("[[api.incoming]]\nname = \"esp\"\ncontroller = \"shop\"\nmapping = {mapping:?}\n")
}

/// The service reports what a contact has now.
fn report(port: u16, token: &str, name: &str, at: &str, tracking: bool) -> Value {
    let body = json!({"email": format!("{name}@home.example"), "id": name, "at": at, "tracking": tracking});
    let bearer = format!("Bearer {token}");
    let headers =
        [("Connection", "close"), ("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let path = "/v1/controllers/shop/webhooks/esp";
    let answer = http::Connection::to(port).ask("POST", path, &headers, body.to_string().as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[test]
fn what_a_service_reported_itself_is_not_written_back_to_it() {
    let esp = Esp::start(Plain);
    let folder = Folder::new();
    let incoming = incoming(&folder);
    let lines = format!("{incoming}{}", plain(&folder, &esp, "same_as = [\"esp\"]"));
    let served = served(folder, &lines);
    let token = served.token(SCOPES, "all");
    let report = |name: &str, at: &str, tracking: bool| {
        let answer = report(served.port, &token, name, at, tracking);
        assert_eq!(answer["events"][0]["result"], "recorded", "{answer}");
    };
    report("ann", "2026-09-01T10:00:00Z", true);
    until("it is an echo", || standing(&served, &token, "plain")["results"]["echo"] == 1);
    assert_eq!(esp.value("ann"), None);
    // The page said something in between: the service must hear what holds.
    say_with(&served, &token, "ann", "withdrawn", json!({"external_id": "ann"}));
    until("ann withdrew", || esp.value("ann") == Some(json!(false)));
    esp.check();
}

#[test]
fn a_withdrawal_reported_during_a_write_is_what_both_have_in_the_end() {
    let esp = Esp::start(Plain);
    let folder = Folder::new();
    let lines = format!("{}{}", incoming(&folder), plain(&folder, &esp, "same_as = [\"esp\"]"));
    let served = served(folder, &lines);
    let token = served.token(SCOPES, "all");
    esp.hold("ann");
    say_with(&served, &token, "ann", "granted", json!({"external_id": "ann"}));
    until("the grant is on its way", || esp.is_busy("ann"));
    // Meanwhile Ann withdraws at the service, and then the grant arrives there.
    esp.books.lock().unwrap().contacts.insert("ann".to_owned(), (json!(false), None));
    let now = Timestamp::now().to_string();
    assert_eq!(report(served.port, &token, "ann", &now, false)["events"][0]["result"], "recorded");
    esp.release("ann");
    until("nothing waits", || standing(&served, &token, "plain")["waiting"] == 0);
    assert_eq!(esp.value("ann"), Some(json!(false)));
    assert_eq!(esp.log("ann").len(), 2, "the grant, and that it no longer holds");
    esp.check();
}

/// A service that reports each write, as if a person had made the change there.
struct Reporting {
    /// The relay's port, and a token.
    to: Arc<Mutex<Option<(u16, String)>>>,
    answers: Arc<Mutex<Vec<Value>>>,
}

impl Manner for Reporting {
    fn meant(&self, asked: &Asked) -> Result<Meant, String> {
        Plain.meant(asked)
    }

    fn knows(&self, asked: &Asked) -> bool {
        Plain.knows(asked)
    }

    fn success(&self, meant: &Meant, found: Option<&Value>) -> (u16, Value) {
        if let (Meant::Write { id, value, .. }, Some((port, token))) = (meant, &*self.to.lock().unwrap()) {
            let now = Timestamp::now().to_string();
            let answer = report(*port, token, id, &now, *value == json!(true));
            self.answers.lock().unwrap().push(answer);
        }
        Plain.success(meant, found)
    }
}

#[test]
fn a_report_of_a_write_is_neither_written_again_nor_a_new_grant() {
    let (to, answers) = (Arc::default(), Arc::default());
    let esp = Esp::start(Reporting { to: Arc::clone(&to), answers: Arc::clone(&answers) });
    let folder = Folder::new();
    let lines = format!("{}{}", incoming(&folder), plain(&folder, &esp, "same_as = [\"esp\"]"));
    let served = served(folder, &lines);
    let token = served.token(SCOPES, "all");
    *to.lock().unwrap() = Some((served.port, token.clone()));
    let settled = || until("nothing waits", || standing(&served, &token, "plain")["waiting"] == 0);
    let granted_at = |name: &str| {
        let body = json!({"address": format!("{name}@home.example")}).to_string();
        let known = served.ask(&token, "POST", "/v1/controllers/shop/consent/lookup", &body).json();
        let purposes = known["purposes"].as_array().unwrap();
        let campaign = purposes.iter().find(|purpose| purpose["purpose"] == "campaign_performance");
        campaign.map(|campaign| (campaign["allowed"] == true, campaign["event_time"].to_string())).unwrap()
    };
    let time = json!({"external_id": "ann", "event_time": "2026-09-01T10:00:00Z"});
    say_with(&served, &token, "ann", "granted", time);
    settled();
    assert_eq!(esp.log("ann").len(), 1, "it is told once");
    // The report is no proof of consent: when Ann said yes is as before.
    assert_eq!(granted_at("ann"), (true, "\"2026-09-01T10:00:00Z\"".to_owned()));
    assert_eq!(answers.lock().unwrap()[0]["ignored"], 1);
    say_with(&served, &token, "ann", "withdrawn", json!({"external_id": "ann"}));
    settled();
    assert_eq!((esp.log("ann").len(), esp.value("ann")), (2, Some(json!(false))));
    // Bob's withdrawal at the service crosses the grant, whose own report comes after it.
    esp.hold("bob");
    say_with(&served, &token, "bob", "granted", json!({"external_id": "bob"}));
    until("the grant is on its way", || esp.is_busy("bob"));
    let now = Timestamp::now().to_string();
    assert_eq!(report(served.port, &token, "bob", &now, false)["events"][0]["result"], "recorded");
    esp.release("bob");
    settled();
    assert!(!granted_at("bob").0, "a late report of a write outlives no withdrawal");
    assert_eq!((esp.log("bob").len(), esp.value("bob")), (2, Some(json!(false))));
    // Somebody who agrees at the service, and not because of a write, has agreed.
    let now = Timestamp::now().to_string();
    assert_eq!(report(served.port, &token, "cat", &now, true)["events"][0]["result"], "recorded");
    settled();
    assert!(granted_at("cat").0 && esp.log("cat").is_empty());
    esp.check();
}

#[test]
fn nothing_is_told_of_who_was_erased() {
    let (esp, served, token) = beside_plain();
    // Of Ann the service was told, for Bob a dead letter is kept, and about Cat something waits.
    say(&served, &token, "ann", "granted");
    esp.books.lock().unwrap().unknown.insert("id-of-bob".to_owned());
    say(&served, &token, "bob", "granted");
    until("ann is written", || esp.value("id-of-ann") == Some(json!(true)));
    until("bob is not known", || standing(&served, &token, "plain")["dead_letters"]["not_known"] == 1);
    until("nothing waits", || standing(&served, &token, "plain")["waiting"] == 0);
    esp.books.lock().unwrap().locks_out = true;
    say(&served, &token, "cat", "granted");
    until("it stopped", || !standing(&served, &token, "plain")["stopped"].is_null());
    for name in ["ann", "bob", "cat"] {
        erase(&served, &token, name);
    }
    // Nobody was asked about Cat, so that nothing says that the service works.
    assert_eq!(act(&served, &token, "retry"), 202);
    until("nothing waits", || standing(&served, &token, "plain")["waiting"] == 0);
    let page = standing(&served, &token, "plain");
    assert!(page["stopped"].is_string() && page["results"]["gone"].as_u64() >= Some(1), "{page}");
    // Trying dead letters again and writing everybody tell nothing, either.
    {
        let mut books = esp.books.lock().unwrap();
        books.locks_out = false;
        books.unknown.clear();
    }
    assert_eq!(act(&served, &token, "retry"), 202);
    until("no dead letter is left", || standing(&served, &token, "plain")["dead_letters"]["not_known"] == 0);
    say(&served, &token, "dan", "refused");
    assert_eq!(act(&served, &token, "sync"), 202);
    until("all are written", || standing(&served, &token, "plain")["walk"]["finished_at"].is_string());
    assert_eq!(standing(&served, &token, "plain")["walk"]["people"], 1);
    until("dan is written", || esp.value("id-of-dan") == Some(json!(false)));
    assert_eq!(esp.log("id-of-ann").len(), 1, "what was written before the erasure");
    assert!(esp.log("id-of-bob").is_empty() && esp.log("id-of-cat").is_empty());
    assert_eq!(esp.value("id-of-ann"), Some(json!(true)), "it is to be erased at the service, too");
    esp.check();
}

#[test]
fn the_hash_of_who_was_erased_is_kept_nowhere_though_the_connector_is_stopped() {
    let (esp, served, token) = beside_plain();
    esp.books.lock().unwrap().unknown.insert("id-of-ann".to_owned());
    say(&served, &token, "ann", "granted");
    until("ann is not known", || standing(&served, &token, "plain")["dead_letters"]["not_known"] == 1);
    until("nothing waits", || standing(&served, &token, "plain")["waiting"] == 0);
    let dead = served.relay.folder.0.join("data/connectors/shop+plain.dead");
    assert!(std::fs::metadata(&dead).unwrap().len() > 0);
    esp.books.lock().unwrap().locks_out = true;
    say(&served, &token, "bob", "granted");
    until("it stopped", || !standing(&served, &token, "plain")["stopped"].is_null());
    erase(&served, &token, "ann");
    // It is looked for at the start, and every six hours after that.
    let served = Served::of(served.relay.killed());
    until("ann is forgotten", || standing(&served, &token, "plain")["dead_letters"]["not_known"] == 0);
    until("it stopped again", || !standing(&served, &token, "plain")["stopped"].is_null());
    assert_eq!(standing(&served, &token, "plain")["waiting"], 1);
    assert_eq!(std::fs::metadata(&dead).unwrap().len(), 0, "no entry says that there was one");
}

#[test]
fn names_come_from_the_controllers_own_endpoint_and_are_kept_nowhere() {
    let esp = Esp::start(Plain);
    let resolver = Esp::start(Names);
    let folder = Folder::new();
    let key = secret(&folder, "resolver-token", "0123456789abcdef-resolver");
    let more = format!("resolver_url = \"{}/ids\"\nresolver_token_file = {key:?}", resolver.base());
    let lines = plain(&folder, &esp, &more);
    let served = served(folder, &lines);
    let token = served.token(SCOPES, "all");
    resolver.fail(vec![Fault::Status(503, Vec::new(), Value::Null)]);
    say(&served, &token, "ann", "granted");
    until("ann is written", || esp.value("ann@esp.example") == Some(json!(true)));
    say(&served, &token, "nobody", "granted");
    until("nobody is known", || standing(&served, &token, "plain")["dead_letters"]["no_id"] == 1);
    assert_eq!(act(&served, &token, "dry_run"), 202);
    until("it is said", || standing(&served, &token, "plain")["walk"]["finished_at"].is_string());
    let page = standing(&served, &token, "plain").to_string();
    assert!(!page.contains("esp.example"), "{page}");
    resolver.check();
    esp.check();
    assert!(!served.relay.log.all().iter().any(|line| line.contains("ann@")));
    for entry in std::fs::read_dir(served.relay.folder.0.join("data/connectors")).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("ann"));
    }
}

/// A controller's endpoint that knows addresses.
struct Names;

impl Manner for Names {
    fn meant(&self, asked: &Asked) -> Result<Meant, String> {
        let body = asked.json();
        let is_right = asked.method == "POST"
            && asked.path == "/ids"
            && body["controller"] == "shop"
            && body["connector"] == "plain"
            && body["person"].as_str().is_some_and(|person| person.len() == 32);
        let id = body["external_id"].as_str().unwrap_or_default().to_owned();
        is_right.then_some(Meant::Read { id }).ok_or_else(|| "another question".to_owned())
    }

    fn knows(&self, asked: &Asked) -> bool {
        asked.has("authorization", "Bearer 0123456789abcdef-resolver")
    }

    fn success(&self, meant: &Meant, _: Option<&Value>) -> (u16, Value) {
        let Meant::Read { id } = meant else { panic!("{meant:?}") };
        let name = id.strip_prefix("id-of-").filter(|name| *name != "nobody");
        (200, json!({"id": name.map(|name| format!("{name}@esp.example"))}))
    }
}

#[test]
fn changes_that_found_no_room_are_made_up_for() {
    let esp = Esp::start(Plain);
    esp.books.lock().unwrap().locks_out = true;
    let folder = Folder::new();
    let lines = plain(&folder, &esp, "max_waiting = 1000");
    let rows =
        (0..1500).fold("address,state,event_time,evidence,external_id\n".to_owned(), |rows, number| {
            format!("{rows}p{number}@home.example,refused,2026-09-01T10:00:00Z,form/1,p{number}\n")
        });
    let file = folder.file("people.csv", &rows);
    let served = served(folder, &lines);
    let token = served.token(SCOPES, "all");
    let imported =
        served.relay.command(&["consent", "import", file.to_str().unwrap(), "--controller", "shop"]);
    assert!(imported.status.success());
    esp.books.lock().unwrap().locks_out = false;
    assert_eq!(act(&served, &token, "retry"), 202);
    until("all are written", || esp.books.lock().unwrap().contacts.len() == 1500);
    esp.check();
}
