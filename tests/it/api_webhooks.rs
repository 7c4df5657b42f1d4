//! Webhooks of the API, both ways: what is told to a controller, and what vendors tell.

use crate::http;
use crate::support;
use std::io::{BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use crate::http::{Request, Served};
use crate::support::{Folder, PATIENCE, free_port};
use aws_lc_rs::hmac;
use serde_json::{Value, json};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const ALL: &str = "consent:read,consent:write,consent:erase";

/// Signatures and bodies that came.
type Told = (Mutex<Vec<(String, String)>>, Condvar);

/// Somebody who is told: what came, and what is answered next.
struct Receiver {
    port: u16,
    told: Arc<Told>,
    answers: Arc<Mutex<Vec<u16>>>,
}

impl Receiver {
    fn at(port: u16) -> Receiver {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let told: Arc<Told> = Arc::default();
        let answers: Arc<Mutex<Vec<u16>>> = Arc::default();
        let (own, next) = (Arc::clone(&told), Arc::clone(&answers));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let Some(request) = Request::read(&mut BufReader::new(&stream)) else { continue };
                let signature = request.headers.get("pixelward-signature").cloned().unwrap_or_default();
                let status = next.lock().unwrap().pop().unwrap_or(204);
                if status == 204 {
                    let body = String::from_utf8(request.body).unwrap();
                    own.0.lock().unwrap().push((signature, body));
                    own.1.notify_all();
                }
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status} Done\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                );
            }
        });
        Receiver { port, told, answers }
    }

    /// All events that were taken, once there are so many; each message is signed.
    fn wait(&self, count: usize) -> Vec<Value> {
        let deadline = Instant::now() + PATIENCE;
        let mut told = self.told.0.lock().unwrap();
        loop {
            let events: Vec<Value> =
                told.iter().flat_map(|(signature, body)| events(signature, body)).collect();
            if events.len() >= count {
                return events;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{} events instead of {count}", events.len());
            told = self.told.1.wait_timeout(told, left).unwrap().0;
        }
    }
}

fn events(signature: &str, body: &str) -> Vec<Value> {
    let (time, tag) = signature.split_once(",v1=").unwrap();
    let time = time.strip_prefix("t=").unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let wanted = hmac::sign(&key, format!("{time}.{body}").as_bytes());
    let wanted: String = wanted.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(tag, wanted, "the signature is wrong");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(now.abs_diff(time.parse().unwrap()) < 120);
    assert!(!body.contains('@'), "{body}");
    serde_json::from_str::<Value>(body).unwrap()["events"].as_array().unwrap().clone()
}

fn secret(folder: &Folder) -> String {
    let path = folder.file("secret", &format!("{SECRET}\n"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    format!("{path:?}")
}

fn told_to(folder: &Folder, port: u16) -> String {
    format!(
        "[[api.webhook]]\ncontroller = \"shop\"\nurl = \"http://127.0.0.1:{port}/hook?x=1\"\nsecret_file = \
         {}",
        secret(folder)
    )
}

fn say(served: &Served, token: &str, controller: &str, name: &str, state: &str) {
    let body = json!({"address": format!("{name}@home.example"), "state": state, "evidence": "form/1",
                      "external_id": format!("id-of-{name}")});
    let path = format!("/v1/controllers/{controller}/consent");
    let answer = served.ask(token, "PUT", &path, &body.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn a_controller_is_told_of_each_change_however_it_was_made() {
    let receiver = Receiver::at(0);
    let folder = Folder::new();
    let lines = told_to(&folder, receiver.port);
    let served = Served::in_folder(folder, &lines);
    let token = served.token(ALL, "all");
    // The first two times it is not taken.
    *receiver.answers.lock().unwrap() = vec![302, 500];
    say(&served, &token, "shop", "ann", "granted");
    say(&served, &token, "club", "ann", "granted");
    say(&served, &token, "shop", "ann", "withdrawn");
    let output =
        served.relay.command(&["consent", "set", "ann@home.example", "objected", "--controller", "shop"]);
    assert!(output.status.success());
    let events = receiver.wait(3);
    let states: Vec<&str> = events.iter().map(|event| event["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["granted", "withdrawn", "objected"]);
    for event in &events {
        assert_eq!(
            (event["controller"].as_str(), event["type"].as_str()),
            (Some("shop"), Some("consent.changed"))
        );
        assert_eq!(event["external_id"], "id-of-ann");
    }
    assert_eq!(events[0]["id"], "shop-1");
    assert!(served.relay.log.all().iter().any(|line| line.contains("it answered 302")));
}

#[test]
fn what_could_not_be_told_is_told_after_a_kill() {
    const CHANGES: usize = 250;
    let port = free_port();
    let folder = Folder::new();
    let lines = told_to(&folder, port);
    let mut served = Served::in_folder(folder, &lines);
    let token = served.token(ALL, "all");
    for number in 0..CHANGES {
        say(&served, &token, "shop", &format!("p{number}"), "refused");
    }
    // Who was erased is not told of.
    let gone = json!({"address": "p7@home.example"}).to_string();
    assert_eq!(served.ask(&token, "POST", "/v1/controllers/shop/consent/erase", &gone).status, 200);
    served.relay = served.relay.killed();
    let receiver = Receiver::at(port);
    let served = Served::of(served.relay);
    let events = receiver.wait(CHANGES - 1);
    let mut named: Vec<String> = events.iter().map(|event| event["external_id"].to_string()).collect();
    named.dedup();
    let expected: Vec<String> =
        (0..CHANGES).filter(|number| *number != 7).map(|item| format!("\"id-of-p{item}\"")).collect();
    assert_eq!(named, expected);
    // Nothing is left, and what comes next is told.
    say(&served, &token, "shop", "last", "refused");
    let more = receiver.wait(CHANGES);
    assert_eq!(more.last().unwrap()["external_id"], "id-of-last");
}

#[test]
fn a_vendor_that_signs_needs_no_token_and_one_that_does_not_does() {
    let folder = Folder::new();
    let columns = "[columns]\naddress = \"/email\"\nevent_time = \"/at\"\nevidence = { value = \"cmp\" }\n\
         state = { pointer = \"/tracking\", values = { true = \"granted\", false = \"refused\" } }\n";
    let plain = folder.file("plain.toml", &format!("events = \"/events\"\n{columns}"));
    let key = secret(&folder);
    let signed = folder.file(
        "signed.toml",
        &format!(
            "events = \"/events\"\n{columns}\n[signature]\nheader = \"X-Signature\"\nprefix \
                  = \"sha256=\"\nsecret_file = {key}\n"
        ),
    );
    let lines = format!(
        "[[api.incoming]]\nname = \"plain\"\ncontroller = \"shop\"\nmapping = {plain:?}\n\
         [[api.incoming]]\nname = \"signed\"\ncontroller = \"shop\"\nmapping = {signed:?}"
    );
    let served = Served::in_folder(folder, &lines);
    let token = served.token(ALL, "all");
    let event = |address: &str, tracking: Value| json!({"email": address, "at": "2026-09-01T10:00:00Z", "tracking": tracking});
    let body =
        json!({"events": [event("ann@home.example", json!(true)), event("bob@home.example", json!("maybe")),
                                 event("nobody", json!(true))]})
        .to_string();
    let hmac_key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let tag: String =
        hmac::sign(&hmac_key, body.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let right = format!("sha256={tag}");
    let ask = |token: &str, name: &str, signature: &str, body: &str| {
        let headers = [("X-Signature", signature)];
        served.ask_with(token, "POST", &format!("/v1/controllers/shop/webhooks/{name}"), &headers, body)
    };
    assert_eq!(ask("", "signed", "", &body).status, 401);
    assert_eq!(ask("", "signed", &right.replace("sha256=", ""), &body).status, 401);
    assert_eq!(ask("", "signed", &right, &body.replace("ann", "eve")).status, 401);
    assert_eq!(ask(&token, "signed", "", &body).status, 401);
    assert_eq!(ask("", "plain", &right, &body).status, 401);
    assert_eq!(served.ask(&token, "POST", "/v1/controllers/club/webhooks/signed", &body).status, 404);
    let taken = ask("", "signed", &right, &body);
    assert_eq!(taken.status, 200, "{}", taken.text());
    let results: Vec<String> =
        taken.json()["events"].as_array().unwrap().iter().map(|entry| entry["result"].to_string()).collect();
    assert_eq!(results, ["\"recorded\"", "\"failed\"", "\"failed\""]);
    assert!(!taken.text().contains("home.example"));
    let again = ask(&token, "plain", "", &body);
    assert_eq!(again.json()["events"][0]["result"], "stale");
    let ann = json!({"address": "ann@home.example"}).to_string();
    let history = served.ask(&token, "POST", "/v1/controllers/shop/consent/history", &ann).json();
    assert_eq!(history["records"][0]["actor"], "webhook signed");
    assert_eq!(ask(&token, "plain", "", "{\"other\":1}").status, 400);
}

#[test]
fn a_mapping_of_consent_to_mail_keeps_the_relay_from_starting() {
    let folder = Folder::new();
    let mapping = folder.file(
        "mail.toml",
        "[columns]\naddress = \"/email\"\nevent_time = \"/at\"\nstate = \
         { pointer = \"/subscribed\", values = { true = \"granted\" } }\n",
    );
    let rest = format!(
        "{}[api]\naddress = \"\"\n[[api.incoming]]\nname = \"mail\"\ncontroller = \"shop\"\nmapping = \
         {mapping:?}\n",
        http::CONTROLLERS
    );
    let config = support::configuration(&folder, free_port(), "", "", &rest);
    let output = support::program().args(["run", "--config"]).arg(config).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("about receiving mail") && said.contains("mail.toml"), "{said}");
}
