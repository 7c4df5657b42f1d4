//! The REST API on the running relay: who may do what, what is answered, and that what was answered holds.

use crate::support;
use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::http::{Connection, Served, head};
use crate::support::{PATIENCE, program};
use pixelward::web::api::{Access, ROUTES, Route};
use pixelward::web::api_token::Scope;
use serde_json::{Value, json};

const ALL: &str = "consent:read,consent:write,consent:erase,consent:export,policy:read,statistics:read,metrics,evidence:read,delivery:read,audit:read,audit:write";
const SHOP: &str = "/v1/controllers/shop";

fn granted(address: &str, at: &str) -> String {
    json!({"address": address, "state": "granted", "event_time": at, "evidence": "form/1", "external_id": "c-1"})
        .to_string()
}

fn state_of(consent: &Value, purpose: &str) -> String {
    let stands = consent["purposes"].as_array().unwrap();
    let stand = stands.iter().find(|stand| stand["purpose"] == purpose);
    stand.map_or(String::new(), |item| item["state"].as_str().unwrap().to_owned())
}

/// A path of a route with names filled in.
fn path(route: &Route, controller: &str) -> String {
    let person = "0".repeat(32);
    route.path.replace("{controller}", controller).replace("{person}", &person).replace("{name}", "none")
}

/// A body that a route takes, or that it gets as far as reading.
fn body(route: &Route) -> (&'static str, String) {
    match route.name {
        "import_consent" => ("application/x-ndjson", "\n".to_owned()),
        "set_consent" => ("application/json", granted("ann@home.example", "2026-09-01T10:00:00Z")),
        "set_person" => ("application/json", json!({"state": "refused"}).to_string()),
        "mint_links" => ("application/json", json!({"addresses": ["ann@home.example"]}).to_string()),
        "inactive" => {
            let asked = json!({"addresses": ["ann@home.example"], "since": "2026-09-01T10:00:00Z"});
            ("application/json", asked.to_string())
        }
        "explain_policy" | "receive_webhook" | "search_evidence" => ("application/json", "{}".to_owned()),
        "what_if" => ("application/json", json!({"message": "RnJvbTogYQ0KDQpiDQo="}).to_string()),
        "write_audit" => ("application/json", json!({"actor": "test", "action": "test"}).to_string()),
        _ => ("application/json", json!({"address": "ann@home.example"}).to_string()),
    }
}

#[test]
fn each_route_is_open_to_those_with_its_scope_and_controller_and_to_nobody_else() {
    let served = Served::with("burst = 100000\nrequests_per_minute = 1000000");
    let all = served.token(ALL, "all");
    let expired = served.token_until(ALL, "all", "1d");
    let revoked = served.token(ALL, "all");
    // The shortest life is a day, so the end is moved where it is kept.
    let file = served.relay.folder.0.join("data/api.tokens");
    let lines: Vec<String> = std::fs::read_to_string(&file)
        .unwrap()
        .lines()
        .map(|line| {
            let mut token: Value = serde_json::from_str(line).unwrap();
            if expired.contains(token["id"].as_str().unwrap()) {
                token["expires"] = "2026-01-01T00:00:00Z".into();
            }
            token.to_string()
        })
        .collect();
    std::fs::write(&file, lines.join("\n")).unwrap();
    let id = revoked.split('_').nth(1).unwrap();
    assert!(served.relay.command(&["token", "revoke", id]).status.success());
    let single: Vec<(Scope, String)> =
        Scope::ALL.into_iter().map(|scope| (scope, served.token(scope.name(), "all"))).collect();
    let without_erase: Vec<&str> = ALL.split(',').filter(|piece| *piece != "consent:erase").collect();
    let shop = served.token(&without_erase.join(","), "shop");
    let mut checked = 0;
    for route in ROUTES {
        let (kind, body) = body(route);
        let ask = |token: &str, controller: &str| {
            let method = route.method.name().to_uppercase();
            let body = if method == "GET" || method == "DELETE" { "" } else { &body };
            let headers: &[(&str, &str)] = if body.is_empty() { &[] } else { &[("Content-Type", kind)] };
            served.ask_with(token, &method, &path(route, controller), headers, body).status
        };
        let mut check = |who: &str, token: &str, controller: &str, refused: Option<u16>| {
            let status = ask(token, controller);
            let is_refused = matches!(status, 401 | 403);
            assert_eq!(refused.is_some(), is_refused, "{route:?} as {who}: {status}");
            assert!(refused.is_none_or(|value| value == status), "{route:?} as {who}: {status}");
            assert!(status < 500, "{route:?} as {who}: {status}");
            checked += 1;
        };
        let is_open = route.access == Access::Open;
        let out = (!is_open).then_some(401);
        check("nobody", "", "shop", out);
        check("an expired token", &expired, "shop", out);
        check("a revoked token", &revoked, "shop", out);
        check("a token that never was", &format!("pxw_00000000_{}", "0".repeat(64)), "shop", out);
        check("something else", "secret", "shop", out);
        check("a token of all", &all, "shop", None);
        let needs = match route.access {
            Access::Open | Access::AnyToken => None,
            Access::Scope(scope) | Access::SignedOr(scope) => Some(scope),
        };
        for (scope, token) in &single {
            let fits = needs.is_none_or(|need| need == *scope);
            check(scope.name(), token, "shop", (!fits).then_some(403));
        }
        let of_all = needs.is_some_and(Scope::is_of_all);
        check("a token of the controller", &shop, "shop", of_all.then_some(403));
        let is_foreign = route.path.contains("{controller}") || of_all;
        check("a token of another controller", &shop, "club", is_foreign.then_some(403));
        check("a token of all, for nobody", &all, "nobody", None);
        if route.path.contains("{controller}") {
            assert_eq!(ask(&all, "nobody"), 404, "{route:?}");
        }
        for other in ["PATCH", "TRACE"] {
            assert_eq!(served.ask(&all, other, &path(route, "shop"), "").status, 405, "{other} {route:?}");
        }
    }
    assert_eq!(checked, ROUTES.len() * (9 + Scope::ALL.len()));
}

#[test]
fn a_no_is_taken_whatever_its_time_and_each_controller_is_shown_another_hash() {
    let served = Served::with("");
    let token = served.token(ALL, "all");
    let ask = |controller: &str, method: &str, path: &str, body: &Value| {
        served.ask(&token, method, &format!("/v1/controllers/{controller}{path}"), &body.to_string())
    };
    let said = |state: &str, time: &str| {
        let address = "ann@home.example";
        json!({"address": address, "state": state, "event_time": time, "evidence": "form/1"})
    };
    let ahead = ask("shop", "PUT", "/consent", &said("granted", "2999-01-01T00:00:00Z"));
    assert_eq!((ahead.status, ahead.json()["type"].clone()), (409, json!("urn:pixelward:problem:in-future")));
    assert_eq!(ask("shop", "PUT", "/consent", &said("granted", "2026-09-01T10:00:00Z")).status, 200);
    let no = ask("shop", "PUT", "/consent", &said("withdrawn", "2999-01-01T00:00:00Z"));
    assert_eq!((no.status, no.json()["result"].clone()), (200, json!("recorded")), "{}", no.text());
    let now = pixelward::consent::Timestamp::now();
    let moved = pixelward::consent::Timestamp::parse(no.json()["recorded_as_of"].as_str().unwrap()).unwrap();
    assert!(moved <= now, "{moved}");
    assert_eq!(state_of(&no.json()["consent"], "personalisation"), "withdrawn");
    let ann = json!({"address": "ann@home.example"});
    let export = ask("shop", "POST", "/consent/export", &ann).json();
    assert_eq!(export["records"][1]["claimed_time"], "2999-01-01T00:00:00Z");
    // A line of an import is taken in the same way, and says so.
    let line = said("refused", "2999-01-01T00:00:00Z");
    let kind = [("Content-Type", "application/x-ndjson")];
    let path = format!("{SHOP}/consent/import");
    let answer = served.ask_with(&token, "POST", &path, &kind, &format!("{line}\n"));
    let first: Value = serde_json::from_str(answer.text().lines().next().unwrap()).unwrap();
    assert_eq!(first["result"], "recorded", "{first}");
    assert!(first["recorded_as_of"].as_str().unwrap() < "2999");
    // What one controller is shown names nobody at another.
    assert_eq!(ask("club", "PUT", "/consent", &said("granted", "2026-09-01T10:00:00Z")).status, 200);
    let shown =
        ["shop", "club"].map(|name| ask(name, "POST", "/consent/lookup", &ann).json()["person"].clone());
    assert_ne!(shown[0], shown[1]);
    assert_eq!(export["person"], shown[0]);
    for (controller, its, other) in [("shop", &shown[0], &shown[1]), ("club", &shown[1], &shown[0])] {
        let get = |hash: &Value| {
            let path = format!("/v1/controllers/{controller}/people/{}", hash.as_str().unwrap());
            served.ask(&token, "GET", &path, "").status
        };
        assert_eq!((get(its), get(other)), (200, 404), "{controller}");
    }
}

#[test]
fn what_was_said_is_looked_up_recorded_and_erased() {
    let served = Served::with("statistics_max_age_s = 0");
    let token = served.token(ALL, "all");
    let ask =
        |method: &str, path: &str, body: &str| served.ask(&token, method, &format!("{SHOP}{path}"), body);
    let ann = json!({"address": "Ann@Home.example"}).to_string();
    let unknown = ask("POST", "/consent/lookup", &ann);
    assert_eq!((unknown.status, unknown.json()["purposes"].clone()), (200, json!([])));
    let set = ask("PUT", "/consent", &granted("ann@home.example", "2026-09-01T10:00:00Z"));
    assert_eq!((set.status, set.json()["result"].clone()), (200, json!("recorded")), "{}", set.text());
    let found = ask("POST", "/consent/lookup", &ann);
    assert_eq!(state_of(&found.json(), "personalisation"), "granted");
    assert_eq!(found.header("etag"), set.header("etag"));
    let person = found.json()["person"].as_str().unwrap().to_owned();
    // The same by hash, and without an address anywhere.
    let by_hash = ask("GET", &format!("/people/{person}"), "");
    assert_eq!(by_hash.json(), found.json());
    let tag = found.header("etag").unwrap().to_owned();
    let same =
        served.ask_with(&token, "GET", &format!("{SHOP}/people/{person}"), &[("If-None-Match", &tag)], "");
    assert_eq!((same.status, same.body.len()), (304, 0));
    let withdraw = json!({"state": "withdrawn", "method": "telephone"}).to_string();
    assert_eq!(ask("PUT", &format!("/people/{person}"), &withdraw).status, 200);
    let stale = ask("PUT", "/consent", &granted("ann@home.example", "2026-09-01T10:00:00Z"));
    assert_eq!(stale.status, 409);
    assert_eq!(stale.json()["type"], "urn:pixelward:problem:superseded-by-withdrawal");
    let history = ask("POST", "/consent/history", &ann).json();
    let states: Vec<&str> =
        history["records"].as_array().unwrap().iter().map(|entry| entry["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["granted", "withdrawn"]);
    assert_eq!(history["records"][1]["actor"], "token test");
    assert_eq!(ask("GET", &format!("/people/{person}/history"), "").json(), history);
    let may = ask("POST", "/consent/may-ask", &ann).json();
    assert_eq!(may["may_ask"], false);
    assert!(may["reason"].as_str().unwrap().contains("less than six months ago"));
    assert_eq!(ask("GET", &format!("/people/{person}/may-ask?purposes=personalisation"), "").json(), may);
    let listed = ask("GET", "/people?limit=10", "").json();
    assert_eq!(listed["people"][0]["external_id"], "c-1");
    assert_eq!(listed["people"][0]["consent"]["person"].as_str(), Some(person.as_str()));
    assert_eq!(listed["next"], Value::Null);
    let counts = ask("GET", "/statistics", "").json();
    assert_eq!(
        (counts["people"].clone(), counts["purposes"][0]["states"]["withdrawn"].clone()),
        (json!(1), json!(1))
    );
    let why = ask("POST", "/policy/explain", &json!({"recipient": "ann@home.example"}).to_string()).json();
    assert_eq!(why["outcome"], "strip", "{why}");
    assert_eq!(
        ask("POST", "/policy/explain", &json!({"recipient": person}).to_string()).json()["outcome"],
        "strip"
    );
    assert_eq!(ask("POST", "/policy/explain", &json!({"mailstream": "none"}).to_string()).status, 404);
    let export = ask("POST", "/consent/export", &ann);
    assert_eq!(export.json()["records"].as_array().unwrap().len(), 2);
    let page = served.ask_with(
        &token,
        "GET",
        &format!("{SHOP}/people/{person}/export"),
        &[("Accept", "text/html")],
        "",
    );
    assert!(page.text().starts_with("<!DOCTYPE html>"), "{}", page.text());
    assert!(page.header("content-security-policy").unwrap().contains("default-src 'none'"));
    // Another controller knows nothing of it.
    let other = served.ask(&token, "POST", "/v1/controllers/club/consent/history", &ann).json();
    assert_eq!(other["records"], json!([]));
    assert_eq!(served.ask(&token, "POST", "/v1/controllers/club/consent/export", &ann).status, 404);
    assert_eq!(served.ask(&token, "GET", "/v1/controllers/club/people", "").json()["people"], json!([]));
    assert_eq!(ask("DELETE", &format!("/people/{person}"), "").status, 204);
    assert_eq!(ask("DELETE", &format!("/people/{person}"), "").status, 404);
    assert_eq!(ask("GET", &format!("/people/{person}"), "").status, 404);
    assert_eq!(ask("POST", "/consent/erase", &ann).json()["erased"], false);
    let log = served.relay.log.all().join("\n");
    assert!(!log.to_lowercase().contains("ann@"), "{log}");
}

#[test]
fn errors_are_problem_details_and_repeat_no_address() {
    let served = Served::with("max_body_bytes = 4096\nrequest_timeout_s = 1");
    let token = served.token(ALL, "all");
    let long = format!("{{\"address\":\"{}@home.example\"}}", "a".repeat(5000));
    for (method, path, kind, body, status) in [
        ("POST", "/consent/lookup", "application/json", "{\"address\":\"ann at home.example\"}", 400),
        ("POST", "/consent/lookup", "application/json", "[\"ann@home.example\"]", 400),
        ("POST", "/consent/lookup", "application/json", "{\"adress\":\"ann@home.example\"}", 400),
        ("POST", "/consent/lookup", "application/json", "{\"ann@home.example\":1}", 400),
        ("POST", "/consent/lookup", "text/plain", "ann@home.example", 415),
        ("POST", "/consent/lookup", "application/json", long.as_str(), 413),
        (
            "PUT",
            "/consent",
            "application/json",
            "{\"address\":\"a@b.example\",\"state\":\"ann@home.example\"}",
            400,
        ),
        ("PUT", "/consent", "application/json", "{\"address\":\"a@b.example\",\"subscribed\":true}", 400),
        (
            "PUT",
            "/consent",
            "application/json",
            "{\"address\":\"a@b.example\",\"state\":\"granted\",\"event_time\":\"ann@home.example\"}",
            400,
        ),
        ("GET", "/people?limit=0", "", "", 400),
        ("GET", "/people?limit=5&limit=6", "", "", 400),
        ("GET", "/people?address=ann@home.example", "", "", 400),
        ("GET", "/people/ann@home.example", "", "", 400),
        ("GET", "/nothing/ann@home.example", "", "", 404),
        ("POST", "/consent/import", "application/json", "{}", 415),
        ("POST", "/webhooks/ann@home.example", "application/json", "{}", 404),
    ] {
        let headers = if kind.is_empty() { vec![] } else { vec![("Content-Type", kind)] };
        let answer = served.ask_with(&token, method, &format!("{SHOP}{path}"), &headers, body);
        assert_eq!(answer.status, status, "{method} {path} {body}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{path}");
        assert_eq!(answer.json()["status"], status);
        let text = answer.text();
        assert!(!text.contains("home.example") && !text.contains("ann"), "{text}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    let mail = served.ask(
        &token,
        "PUT",
        &format!("{SHOP}/consent"),
        "{\"address\":\"a@b.example\",\"opt_in\":true}",
    );
    assert!(mail.json()["detail"].as_str().unwrap().contains("consent to mail is not consent"));
    // A body that never comes.
    let mut slow = Connection::to(served.port);
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    slow.send(&head("POST", &format!("{SHOP}/consent/lookup"), &headers, Some(100)));
    assert_eq!(slow.answer().status, 408);
    let wrong = served.ask(&token, "PATCH", &format!("{SHOP}/consent"), "");
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("PUT")));
}

#[test]
fn the_same_request_is_done_once_and_a_key_means_one_thing() {
    let served = Served::with("");
    let token = served.token(ALL, "all");
    let other = served.token(ALL, "all");
    let key = [("Idempotency-Key", "order-0000017")];
    let set = |token: &str, body: &str| served.ask_with(token, "PUT", &format!("{SHOP}/consent"), &key, body);
    let body = json!({"address": "ann@home.example", "state": "refused"}).to_string();
    let first = set(&token, &body);
    let again = set(&token, &body);
    assert_eq!((first.status, again.status), (200, 200));
    assert_eq!(first.body, again.body);
    assert_eq!(
        (first.header("etag"), again.header("idempotency-replayed")),
        (again.header("etag"), Some("true"))
    );
    assert_eq!(set(&token, &body.replace("ann", "bob")).status, 422);
    // Another token has keys of its own.
    let foreign = set(&other, &body);
    assert_eq!((foreign.status, foreign.header("idempotency-replayed")), (200, None));
    let records =
        served.ask(&token, "POST", &format!("{SHOP}/consent/history"), "{\"address\":\"ann@home.example\"}");
    assert_eq!(records.json()["records"].as_array().unwrap().len(), 2);
    let short =
        served.ask_with(&token, "PUT", &format!("{SHOP}/consent"), &[("Idempotency-Key", "a b")], &body);
    assert_eq!(short.status, 400);
}

#[test]
fn a_change_made_for_what_no_longer_stands_is_not_recorded() {
    let served = Served::with("");
    let token = served.token(ALL, "all");
    let set = |name: &str, tag: &str, body: &str| {
        served.ask_with(&token, "PUT", &format!("{SHOP}/consent"), &[(name, tag)], body)
    };
    let first = granted("ann@home.example", "2026-09-01T10:00:00Z");
    assert_eq!(set("If-Match", "*", &first).status, 412);
    let made = set("If-None-Match", "*", &first);
    assert_eq!(made.status, 200);
    assert_eq!(set("If-None-Match", "*", &first.replace("2026-09-01", "2026-09-02")).status, 412);
    let tag = made.header("etag").unwrap();
    let later = |day: u8| first.replace("2026-09-01", &format!("2026-09-{day:02}"));
    assert_eq!(set("If-Match", "\"0\"", &later(3)).status, 412);
    let changed = set("If-Match", &format!("\"0\", {tag}"), &later(3));
    assert_eq!(changed.status, 200);
    assert_ne!(changed.header("etag").unwrap(), tag);
    assert_eq!(set("If-Match", tag, &later(4)).status, 412);
    for wrong in ["0", "\"a", "\"a\"b\""] {
        assert_eq!(set("If-Match", wrong, &later(5)).status, 400, "{wrong}");
    }
}

#[test]
fn a_token_has_its_rate_and_is_revoked_without_a_restart() {
    let served = Served::with("requests_per_minute = 6\nburst = 5");
    let token = served.token("consent:read", "shop");
    let other = served.token("consent:read", "shop");
    let ask = |token: &str| served.ask(token, "GET", &format!("{SHOP}/people"), "");
    let statuses: Vec<u16> = (0..6).map(|_| ask(&token).status).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429]);
    let limited = ask(&token);
    let wait: u64 = limited.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=10).contains(&wait), "{wait}");
    assert_eq!(ask(&other).status, 200);
    let id = other.split('_').nth(1).unwrap();
    let list = || String::from_utf8(served.relay.command(&["token", "list"]).stdout).unwrap();
    let deadline = Instant::now() + PATIENCE;
    // The day is written down beside the request.
    while !list().lines().any(|line| line.starts_with(id) && line.contains("last used 20")) {
        assert!(Instant::now() < deadline, "{}", list());
    }
    assert!(!list().contains(&other));
    assert!(served.relay.command(&["token", "revoke", id]).status.success());
    assert_eq!(ask(&other).status, 401);
    assert!(list().contains("revoked"));
    assert!(!served.relay.command(&["token", "revoke", "00"]).status.success());
    // A file that others can read is a file that others may have written.
    let file = served.relay.folder.0.join("data/api.tokens");
    assert!(Command::new("chmod").arg("644").arg(&file).status().unwrap().success());
    let third = served.ask(&token, "GET", "/v1/token", "");
    assert_eq!(third.status, 503);
}

#[test]
fn the_description_is_served_and_its_page_loads_nothing() {
    let served = Served::with("");
    let description = served.ask("", "GET", "/v1/openapi.json", "");
    assert_eq!(description.json()["openapi"], "3.1.0");
    let page = served.ask("", "GET", "/v1/", "");
    assert!(page.text().contains("/v1/controllers/{controller}/consent"));
    let security = page.header("content-security-policy").unwrap();
    assert!(security.contains("default-src 'none'") && !security.contains("script"));
    assert_eq!(served.ask("", "GET", "/healthz", "").text(), "ok\n");
    assert_eq!(served.ask("", "GET", "/readyz", "").text(), "ready\n");
    let token = served.token("metrics", "all");
    let metrics = served.ask(&token, "GET", "/metrics", "").text();
    assert!(metrics.contains("pixelward_api_requests_total{route=\"health\",status=\"200\"} 1"), "{metrics}");
    let token_of_caller = served.ask(&token, "GET", "/v1/token", "").json();
    assert_eq!(
        (token_of_caller["scopes"].clone(), token_of_caller["controller"].clone()),
        (json!(["metrics"]), Value::Null)
    );
}

/// Lines of an import: every tenth is one of which nothing comes.
fn lines(first: usize, count: usize) -> Vec<u8> {
    let mut text = Vec::new();
    for number in first..first + count {
        if number % 10 == 9 {
            writeln!(text, "{{\"address\":\"p{number}@home.example\",\"state\":\"maybe\"}}").unwrap();
        } else {
            writeln!(text, "{{\"address\":\"p{number}@home.example\",\"state\":\"granted\",\"event_time\":\"2026-09-01\",\"evidence\":\"form/{number}\"}}").unwrap();
        }
    }
    text
}

/// Sends a body of chunks, several times the same, while the answer is read; gives its lines.
fn streamed(port: u16, headers: &[(&str, &str)], path: &str, chunk: &[u8], times: usize) -> Vec<Value> {
    let mut connection = Connection::to(port);
    let mut writer = connection.writer();
    let request = head("POST", path, headers, None);
    let chunk = chunk.to_vec();
    let writing = std::thread::spawn(move || {
        writer.write_all(&request).unwrap();
        for _ in 0..times {
            writer.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).unwrap();
            writer.write_all(&chunk).unwrap();
            writer.write_all(b"\r\n").unwrap();
        }
        writer.write_all(b"0\r\n\r\n").unwrap();
    });
    let (status, _) = connection.answer_head().unwrap();
    assert_eq!(status, 200);
    let mut answer = Vec::new();
    while let Some(chunk) = connection.chunk() {
        answer.extend_from_slice(&chunk);
    }
    writing.join().unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(!answer.contains("home.example"));
    answer.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn an_import_of_50_000_lines_answers_each_in_bounded_memory() {
    const LINES: usize = 50_000;
    let served = Served::with("");
    let token = served.token(ALL, "all");
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/x-ndjson")];
    // Lines of which nothing comes, so that what the store keeps of people is not counted: 18 MB in, 20 MB
    // out.
    let path = format!("{SHOP}/consent/import");
    let before = served.relay.memory();
    let nothing = "{\"address\":\"ann@home.example\",\"state\":\"maybe\",\"evidence\":\"form/1\"}\n";
    let summary = streamed(served.port, &headers, &path, nothing.repeat(1000).as_bytes(), 250).pop().unwrap();
    assert_eq!(summary["summary"]["failed"], 250_000);
    let grown = served.relay.memory().saturating_sub(before);
    println!("250,000 lines of which nothing came: memory grew by {grown} KiB");
    assert!(grown < 24 * 1024, "{grown} KiB");
    let started = Instant::now();
    let results = streamed(served.port, &headers, &path, &lines(0, LINES), 1);
    let took = started.elapsed();
    assert_eq!(results.len(), LINES + 1);
    for (place, result) in results[..LINES].iter().enumerate() {
        assert_eq!(result["line"], place + 1);
        let wanted = if place % 10 == 9 { "failed" } else { "recorded" };
        assert_eq!(result["result"], wanted, "{result}");
    }
    let summary = &results[LINES]["summary"];
    assert_eq!((summary["recorded"].clone(), summary["failed"].clone()), (json!(45_000), json!(5000)));
    let rate = LINES as f64 / took.as_secs_f64();
    println!("{LINES} lines in {took:?}: {rate:.0} a second");
    let again =
        Connection::to(served.port).ask("POST", &format!("{path}?results=problems"), &headers, &lines(0, 30));
    let problems: Vec<Value> = again.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(problems.len(), 31, "{}", again.text());
    assert_eq!(
        (problems[0]["result"].clone(), problems[9]["result"].clone()),
        (json!("stale"), json!("failed"))
    );
}

#[test]
fn an_import_is_stopped_that_nobody_reads_or_that_stands_still() {
    let served = Served::with("idle_timeout_s = 1");
    let token = served.token("consent:write", "shop");
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/x-ndjson")];
    let path = format!("{SHOP}/consent/import");
    let mut still = Connection::to(served.port);
    still.send(&head("POST", &path, &headers, None));
    let line = b"{\"address\":\"ann@home.example\",\"state\":\"refused\",\"event_time\":\"2026-09-01\"}\n";
    still.send(format!("{:x}\r\n", line.len()).as_bytes());
    still.send(line);
    still.send(b"\r\n");
    let answer = still.answer();
    let text = answer.text();
    assert!(text.contains("\"result\":\"recorded\"") && text.contains("no line arrived in time"), "{text}");
    // Somebody who says nothing.
    assert!(Connection::to(served.port).try_answer().is_none());
    // One line without an end.
    let mut long = Connection::to(served.port);
    let endless = vec![b'a'; 200 * 1024];
    let answer = long.ask("POST", &path, &headers, &endless);
    assert!(answer.text().contains("line 1 has more than 65536 bytes"), "{}", answer.text());
    // Another controller's line.
    let foreign = "{\"address\":\"a@b.example\",\"controller\":\"club\",\"state\":\"refused\",\"event_time\":\"2026-09-01\"}\n";
    let answer = Connection::to(served.port).ask("POST", &path, &headers, foreign.as_bytes());
    assert!(answer.text().contains("differs from the controller in the path"), "{}", answer.text());
    let mail = "{\"address\":\"a@b.example\",\"subscribed\":true}\n";
    let answer = Connection::to(served.port).ask("POST", &path, &headers, mail.as_bytes());
    assert!(answer.text().contains("consent to mail is not consent"), "{}", answer.text());
}

#[test]
fn what_64_clients_were_told_holds_after_kill() {
    const CLIENTS: usize = 64;
    let mut served = Served::with("burst = 1000000\nrequests_per_minute = 10000000");
    let token = served.token(ALL, "all");
    let port = served.port;
    let started = Instant::now();
    let deadline = started + Duration::from_secs(3);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let bearer = format!("Bearer {token}");
            std::thread::spawn(move || {
                let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
                let mut connection = Connection::to(port);
                let mut told = Vec::new();
                for number in 0.. {
                    let address = format!("c{client}-{number}@home.example");
                    let body = granted(&address, "2026-09-01T10:00:00Z");
                    let path = format!("{SHOP}/consent");
                    let mut request = head("PUT", &path, &headers, Some(body.len()));
                    request.extend_from_slice(body.as_bytes());
                    if connection.writer().write_all(&request).is_err() {
                        break;
                    }
                    let Some(answer) = connection.try_answer() else { break };
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    told.push(address);
                }
                told
            })
        })
        .collect();
    while Instant::now() < deadline {
        std::thread::yield_now();
    }
    served.relay = served.relay.killed();
    let took = started.elapsed();
    let told: Vec<String> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    let rate = told.len() as f64 / took.as_secs_f64();
    println!("{} durable writes of {CLIENTS} clients in {took:?}: {rate:.0} a second", told.len());
    assert!(told.len() > 10 * CLIENTS, "{}", told.len());
    let served = Served::of(served.relay);
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let mut connection = Connection::to(served.port);
    for address in &told {
        let body = json!({ "address": address }).to_string();
        let found = connection.ask("POST", &format!("{SHOP}/consent/lookup"), &headers, body.as_bytes());
        assert_eq!(state_of(&found.json(), "personalisation"), "granted", "{address} is lost");
    }
}

#[test]
fn an_address_that_others_reach_needs_a_certificate_and_speaks_tls() {
    let folder = support::Folder::new();
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost"])
        .arg("-keyout")
        .arg(folder.0.join("api.key"))
        .arg("-out")
        .arg(folder.0.join("api.pem"))
        .output()
        .unwrap();
    assert!(made.status.success());
    let certificate = folder.0.join("api.pem");
    let lines = format!("certificate = {certificate:?}\nkey = {:?}", folder.0.join("api.key"));
    let served = Served::in_folder(folder, &lines);
    let asked = Command::new("curl")
        .args(["-s", "--cacert"])
        .arg(&certificate)
        .arg(format!("https://localhost:{}/healthz", served.port))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&asked.stdout), "ok\n");
    let mut clear = Connection::to(served.port);
    clear.send(&head("GET", "/healthz", &[], Some(0)));
    assert!(clear.try_answer().is_none());
    let config = served.relay.folder.0.join("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let open = text
        .replace("127.0.0.1:0\"\ncertificate", "0.0.0.0:0\"\n#certificate")
        .replace("\nkey =", "\n#key =");
    let other = served.relay.folder.file("open.toml", &open);
    let output = program().args(["check", "--config"]).arg(other).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("in clear"));
}

#[test]
fn no_more_are_talked_to_at_once_than_the_limit() {
    let served = Served::with("max_connections = 2");
    let mut first = Connection::to(served.port);
    let mut second = Connection::to(served.port);
    for connection in [&mut first, &mut second] {
        assert_eq!(connection.ask("GET", "/healthz", &[], b"").status, 200);
    }
    let mut third = Connection::to(served.port);
    third.send(&head("GET", "/healthz", &[], Some(0)));
    third.writer().set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(third.try_answer().is_none(), "the third was answered");
    third.writer().set_read_timeout(Some(PATIENCE)).unwrap();
    drop(first);
    assert_eq!(third.answer().status, 200);
}

#[test]
fn requests_that_never_come_whole_hold_nobody_up() {
    let served = Served::with("");
    let mut half: Vec<Connection> = (0..300).map(|_| Connection::to(served.port)).collect();
    for connection in &mut half {
        // Those whose seat was given away do not hear it yet.
        let _ = connection.writer().write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-More: ");
    }
    for _ in 0..3 {
        assert_eq!(Connection::to(served.port).ask("GET", "/healthz", &[], b"").status, 200);
    }
}

/// A small disk in memory, which goes when the test ends.
struct Disk(std::path::PathBuf);

impl Disk {
    /// Nothing where none can be mounted: that needs root, and not every container allows it.
    fn at(path: std::path::PathBuf) -> Option<Disk> {
        std::fs::create_dir_all(&path).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=40m", "none"]).arg(&path).status();
        mounted.is_ok_and(|status| status.success()).then_some(Disk(path))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The relay may hold files of it still.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_said_and_what_was_answered_before_holds() {
    let folder = support::Folder::new();
    let Some(disk) = Disk::at(folder.0.join("data")) else {
        eprintln!("not run: no disk can be mounted here");
        return;
    };
    let served = Served::in_folder(folder, "");
    let token = served.token(ALL, "all");
    let set = |number: u32| {
        let body = json!({"address": format!("p{number}@home.example"), "state": "refused"}).to_string();
        served.ask(&token, "PUT", &format!("{SHOP}/consent"), &body)
    };
    assert_eq!(set(0).status, 200);
    let filler = disk.0.join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    for size in [1 << 16, 1 << 10, 1] {
        while file.write_all(&vec![1; size]).is_ok() {}
    }
    drop(file);
    let mut number = 1;
    let full = loop {
        let answer = set(number);
        if answer.status != 200 {
            break answer;
        }
        number += 1;
        assert!(number < 5000, "the disk is never full");
    };
    assert_eq!(full.status, 507, "{}", full.text());
    assert_eq!(full.json()["type"], "urn:pixelward:problem:disk-full");
    let lookup = |number: u32| {
        let body = json!({"address": format!("p{number}@home.example")}).to_string();
        served.ask(&token, "POST", &format!("{SHOP}/consent/lookup"), &body).json()
    };
    assert!((0..number).all(|number| state_of(&lookup(number), "personalisation") == "refused"));
    assert_eq!(state_of(&lookup(number), "personalisation"), "");
    std::fs::remove_file(&filler).unwrap();
    assert_eq!(set(number).status, 200);
}
