//! The named services of connectors: requests have the form that was read in the public pages which each description
//! names, and their answers are understood.

use crate::connectors::secret;
use crate::esp::named::{ALL, KEY, Named};
use crate::esp::{Esp, Fault};
use crate::http::{self, Served};
use crate::support::{Folder, PATIENCE, Relay, configuration, free_port};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn each_named_service_is_told_in_its_own_words() {
    let esps: Vec<(&Named, Esp)> = ALL.iter().map(|named| (named, Esp::start(named))).collect();
    let folder = Folder::new();
    let key = secret(&folder, "key", KEY);
    let connectors: String = esps.iter().map(|(named, esp)| named.connector(esp, &key)).collect();
    let rest = format!(
        "{}[api]\naddress = \"127.0.0.1:0\"\nrequests_per_minute = 10000000\n{connectors}",
        http::CONTROLLERS
    );
    configuration(&folder, free_port(), "", "", &rest);
    let served = Served::of(Relay::in_folder(folder));
    let token = served.token("consent:read,consent:write", "all");
    let say = |name: &str, state: &str| {
        let body = json!({"address": format!("{name}@home.example"), "state": state, "evidence": "form/1",
                          "purposes": ["campaign_performance", "link_tracking"], "external_id": name});
        assert_eq!(served.ask(&token, "PUT", "/v1/controllers/shop/consent", &body.to_string()).status, 200);
    };
    let standing = |named: &Named| {
        served.ask(&token, "GET", &format!("/v1/controllers/shop/connectors/{}", named.name), "").json()
    };
    // What goes wrong first is what each service shows when it is asked too much, or fails.
    for (named, esp) in &esps {
        let busy = match named.name {
            "shopify" => {
                let body = json!({"errors": [{"message": "Throttled", "extensions": {"code": "THROTTLED"}}]});
                Fault::Status(200, Vec::new(), body)
            }
            "brevo" => Fault::Status(429, vec![("x-sib-ratelimit-reset", "1".to_owned())], Value::Null),
            _ => Fault::Status(429, vec![("Retry-After", "1".to_owned())], Value::Null),
        };
        esp.fail(vec![busy, Fault::Status(503, Vec::new(), Value::Null), Fault::CutAfter]);
    }
    say("4711", "granted");
    for (named, esp) in &esps {
        until(named.name, || esp.value("4711") == Some((named.granted)()));
    }
    say("4711", "withdrawn");
    for (named, esp) in &esps {
        until(named.name, || esp.value("4711") == Some((named.refused)()));
        let results = standing(named)["results"].clone();
        assert_eq!(
            (&results["busy"], &results["failed"]),
            (&json!(1), &json!(1)),
            "{}: {results}",
            named.name
        );
    }
    // Who is not there, and what looks like a success and is none, is a dead letter.
    for (named, esp) in &esps {
        match named.hidden_failure {
            Some(body) => {
                let body = serde_json::from_str(body).unwrap();
                esp.fail(vec![Fault::Status(named.success.0, Vec::new(), body)]);
            }
            None => drop(esp.books.lock().unwrap().unknown.insert("4712".to_owned())),
        }
    }
    say("4712", "refused");
    for (named, esp) in &esps {
        let reason = if named.hidden_failure.is_some() { "rejected" } else { "not_known" };
        until(named.name, || standing(named)["dead_letters"][reason] == 1);
        assert_eq!(esp.value("4712"), None);
        esp.books.lock().unwrap().unknown.clear();
    }
    for (named, esp) in &esps {
        let path = format!("/v1/controllers/shop/connectors/{}/actions", named.name);
        let act =
            |action: &str| served.ask(&token, "POST", &path, &json!({"action": action}).to_string()).status;
        assert_eq!(act("retry"), 202);
        until(named.name, || esp.value("4712") == Some((named.refused)()));
        if named.read.is_some() {
            assert_eq!(act("compare"), 202);
            until(named.name, || standing(named)["walk"]["finished_at"].is_string());
            assert_eq!(standing(named)["walk"]["results"], json!({"equal": 2}), "{}", named.name);
        } else if named.name != "shopify" {
            assert_eq!(act("compare"), 409, "{}", named.name);
        }
        esp.check();
        let page = standing(named);
        assert!(
            !page["pages"].as_array().unwrap().is_empty()
                && page["read_on"].as_str().unwrap().starts_with("2026-")
        );
    }
}

#[test]
fn a_service_with_one_switch_for_two_purposes_wants_both_named() {
    let folder = Folder::new();
    let key = secret(&folder, "key", KEY);
    let with = |service: &str, more: &str| {
        let rest = format!(
            "{}[[connector]]\ncontroller = \"shop\"\nservice = {service:?}\ncredential_file = {key:?}\npurposes = \
             [\"campaign_performance\"]\n{more}\n",
            http::CONTROLLERS
        );
        let config = configuration(&folder, free_port(), "", "", &rest);
        let output = crate::support::program().args(["check", "--config"]).arg(config).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    assert!(
        with("mapp", "variables = [\"host=h.example\"]").contains("add link_tracking to connector.purposes")
    );
    assert!(with("mailchimp", "variables = [\"audience=a\"]").contains("lacks \"server=...\""));
    assert!(with("brevo", "variables = [\"list=a\"]").contains("list is not one of this service"));
    assert!(with("sendmail", "").contains("unknown service"));
    assert!(!with("brevo", "").contains("connector brevo"));
    for named in ALL {
        let output = crate::support::program().args(["connector", "describe", named.name]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.starts_with("# ") && text.contains("read_on = \"2026-"), "{}", named.name);
    }
}
