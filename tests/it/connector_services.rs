//! The named services of connectors: requests have the form that was read in the public pages which each description
//! names, and their answers are understood.

use crate::connectors::secret;
use crate::esp::{Asked, Esp, Fault, Manner, Meant};
use crate::http::{self, Served};
use crate::support::{Folder, PATIENCE, Relay, configuration, free_port};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const KEY: &str = "0123456789abcdef-us19";

/// A named service: what the configuration says of it, and what it accepts.
struct Named {
    name: &'static str,
    purposes: &'static str,
    variables: &'static str,
    granted: fn() -> Value,
    refused: fn() -> Value,
    method: &'static str,
    path: &'static str,
    query: &'static [(&'static str, &'static str)],
    /// Header fields with their values.
    headers: &'static [(&'static str, &'static str)],
    /// The body with the value in place of `VALUE`, the person's name in place of `NAME`, a time in place of `TIME`.
    body: &'static str,
    /// Status and body of a success.
    success: (u16, &'static str),
    /// A read: method, path, query, and the answer with the value in place of `VALUE`.
    read: Option<ReadBack>,
    /// The path at which a token is given, and the answer.
    token: Option<(&'static str, &'static str)>,
    /// An answer with a status of success that is none, if there is one.
    hidden_failure: Option<&'static str>,
}

/// Method, path, query and answer.
type ReadBack = (&'static str, &'static str, &'static [(&'static str, &'static str)], &'static str);

fn yes() -> Value {
    json!(true)
}
fn no() -> Value {
    json!(false)
}
fn granted() -> Value {
    json!("granted")
}
fn refused() -> Value {
    json!("refused")
}
fn denied() -> Value {
    json!("denied")
}

const BEARER: (&str, &str) = ("authorization", "Bearer 0123456789abcdef-us19");
const JSON: (&str, &str) = ("content-type", "application/json");

const ALL: &[Named] = &[
    Named {
        name: "brevo",
        purposes: "\"campaign_performance\"",
        variables: "",
        granted: || json!("yes"),
        refused: || json!("no"),
        method: "PUT",
        path: "/v3/contacts/NAME",
        query: &[("identifierType", "ext_id")],
        headers: &[("api-key", KEY), JSON],
        body: r#"{"attributes":{"OPEN_TRACKING":"VALUE"}}"#,
        success: (204, ""),
        read: Some((
            "GET",
            "/v3/contacts/NAME",
            &[("identifierType", "ext_id")],
            r#"{"email":"x","attributes":{"OPEN_TRACKING":"VALUE"}}"#,
        )),
        token: None,
        hidden_failure: None,
    },
    Named {
        name: "batch",
        purposes: "\"campaign_performance\"",
        variables: "\"project=project_1\"",
        granted,
        refused: denied,
        method: "POST",
        path: "/2.11/profiles/update",
        query: &[],
        headers: &[BEARER, ("x-batch-project", "project_1"), JSON],
        body: r#"[{"identifiers":{"custom_id":"NAME"},"attributes":{"$email_open_tracking_consent":"VALUE"}}]"#,
        success: (202, "{}"),
        read: None,
        token: None,
        hidden_failure: Some(r#"{"errors":[{"reason":"unknown"}]}"#),
    },
    Named {
        name: "actito",
        purposes: "\"campaign_performance\", \"link_tracking\"",
        variables: "\"entity=shop\", \"table=Clients\"",
        granted: yes,
        refused: no,
        method: "PUT",
        path: "/profile/v4/entity/shop/table/Clients/profile/NAME",
        query: &[],
        headers: &[("authorization", "Bearer fresh-token"), JSON],
        body: r#"{"attributes":[{"name":"trackingConsent","value":"VALUE"}]}"#,
        success: (200, "{}"),
        read: None,
        token: Some(("/auth/token", r#"{"accessToken":"fresh-token"}"#)),
        hidden_failure: None,
    },
    Named {
        name: "mapp",
        purposes: "\"campaign_performance\", \"link_tracking\"",
        variables: "\"host=engage.esp.example\"",
        granted,
        refused: denied,
        method: "POST",
        path: "/api/rest/v19/contact/update",
        query: &[("identifierType", "EXTERNAL")],
        // printf %s 0123456789abcdef-us19 | base64
        headers: &[("authorization", "Basic MDEyMzQ1Njc4OWFiY2RlZi11czE5"), JSON],
        body: r#"{"identifier":"NAME","attributes":[{"name":"tracking_consent","value":"VALUE"},{"name":"tracking_consent_source","value":"pixelward"}]}"#,
        success: (200, r#"{"contactId":1}"#),
        read: None,
        token: None,
        hidden_failure: None,
    },
    Named {
        name: "braze",
        purposes: "\"campaign_performance\"",
        variables: "\"instance=rest.esp.example\"",
        granted: no,
        refused: yes,
        method: "POST",
        path: "/users/track",
        query: &[],
        headers: &[BEARER, JSON],
        body: r#"{"attributes":[{"external_id":"NAME","_update_existing_only":true,"email_open_tracking_disabled":"VALUE"}]}"#,
        success: (201, r#"{"message":"success","attributes_processed":1}"#),
        read: None,
        token: None,
        hidden_failure: Some(r#"{"message":"success","errors":[{"type":"'external_id' is invalid"}]}"#),
    },
    Named {
        name: "adobe",
        purposes: "\"campaign_performance\"",
        variables: "\"inlet=in1\", \"schema=https://ns.adobe.com/t/schemas/1\", \"dataset=d1\", \
                    \"organisation=1@AdobeOrg\", \"client=c1\", \"tenant=_shop\"",
        granted: || json!("y"),
        refused: || json!("n"),
        method: "POST",
        path: "/collection/in1",
        query: &[],
        headers: &[("authorization", "Bearer fresh-token"), JSON],
        body: r#"{"header":{"schemaRef":{"id":"https://ns.adobe.com/t/schemas/1","contentType":"application/vnd.adobe.xed-full+json;version=1"},"imsOrgId":"1@AdobeOrg","datasetId":"d1","source":{"name":"pixelward"}},"body":{"xdmMeta":{"schemaRef":{"id":"https://ns.adobe.com/t/schemas/1","contentType":"application/vnd.adobe.xed-full+json;version=1"}},"xdmEntity":{"_shop":{"customerId":"NAME"},"consents":{"tracking":{"email":{"open":{"val":"VALUE","time":"TIME"}}}}}}}"#,
        success: (200, r#"{"inletId":"in1","xactionId":"1"}"#),
        read: None,
        token: Some(("/ims/token/v3", r#"{"access_token":"fresh-token","expires_in":86399}"#)),
        hidden_failure: None,
    },
    Named {
        name: "shopify",
        purposes: "\"campaign_performance\"",
        variables: "\"shop=shop\"",
        granted,
        refused,
        method: "POST",
        path: "/admin/api/2026-10/graphql.json",
        query: &[],
        headers: &[("x-shopify-access-token", KEY), JSON],
        body: r#"{"query":"mutation($fields: [MetafieldsSetInput!]!) { metafieldsSet(metafields: $fields) { userErrors { field code } } }","variables":{"fields":[{"ownerId":"gid://shopify/Customer/NAME","namespace":"pixelward","key":"open_tracking","type":"single_line_text_field","value":"VALUE"}]}}"#,
        success: (200, r#"{"data":{"metafieldsSet":{"userErrors":[]}}}"#),
        read: None,
        token: None,
        hidden_failure: Some(
            r#"{"data":{"metafieldsSet":{"userErrors":[{"field":["metafields"],"code":"INVALID"}]}}}"#,
        ),
    },
    Named {
        name: "mailchimp",
        purposes: "\"campaign_performance\"",
        variables: "\"server=us19\", \"audience=a1\"",
        granted,
        refused,
        method: "PATCH",
        path: "/3.0/lists/a1/members/NAME",
        query: &[("skip_merge_validation", "true")],
        // printf %s pixelward:0123456789abcdef-us19 | base64
        headers: &[("authorization", "Basic cGl4ZWx3YXJkOjAxMjM0NTY3ODlhYmNkZWYtdXMxOQ=="), JSON],
        body: r#"{"merge_fields":{"OPENTRACK":"VALUE"}}"#,
        success: (200, r#"{"id":"x"}"#),
        read: Some((
            "GET",
            "/3.0/lists/a1/members/NAME",
            &[("fields", "merge_fields")],
            r#"{"merge_fields":{"OPENTRACK":"VALUE"}}"#,
        )),
        token: None,
        hidden_failure: None,
    },
    Named {
        name: "klaviyo",
        purposes: "\"campaign_performance\"",
        variables: "",
        granted,
        refused,
        method: "PATCH",
        path: "/api/profiles/NAME",
        query: &[],
        headers: &[
            ("authorization", "Klaviyo-API-Key 0123456789abcdef-us19"),
            ("revision", "2026-10-15"),
            ("content-type", "application/vnd.api+json"),
        ],
        body: r#"{"data":{"type":"profile","id":"NAME","attributes":{"properties":{"open_tracking_consent":"VALUE"}}}}"#,
        success: (200, r#"{"data":{"type":"profile"}}"#),
        read: Some((
            "GET",
            "/api/profiles/NAME",
            &[],
            r#"{"data":{"attributes":{"properties":{"open_tracking_consent":"VALUE"}}}}"#,
        )),
        token: None,
        hidden_failure: None,
    },
    Named {
        name: "hubspot",
        purposes: "\"campaign_performance\"",
        variables: "",
        granted,
        refused,
        method: "PATCH",
        path: "/crm/v3/objects/contacts/NAME",
        query: &[("idProperty", "hs_object_id")],
        headers: &[BEARER, JSON],
        body: r#"{"properties":{"open_tracking_consent":"VALUE"}}"#,
        success: (200, r#"{"id":"1","properties":{}}"#),
        read: Some((
            "GET",
            "/crm/v3/objects/contacts/NAME",
            &[("idProperty", "hs_object_id"), ("properties", "open_tracking_consent")],
            r#"{"id":"1","properties":{"open_tracking_consent":"VALUE"}}"#,
        )),
        token: None,
        hidden_failure: None,
    },
];

/// Looks for a name in a path, where a template has `NAME`.
fn name_in(path: &str, template: &str) -> Option<String> {
    let (before, behind) = template.split_once("NAME")?;
    Some(crate::esp::decoded(path.strip_prefix(before)?.strip_suffix(behind)?))
}

/// Compares a body with a template, and gives what stands in its places.
fn filled(found: &Value, template: &Value, places: &mut Vec<(String, Value)>) -> bool {
    match (found, template) {
        (found, Value::String(text)) if text == "VALUE" || text == "TIME" => {
            places.push((text.clone(), found.clone()));
            true
        }
        (Value::String(found), Value::String(text)) if text.contains("NAME") => match name_in(found, text) {
            Some(name) => {
                places.push(("NAME".to_owned(), json!(name)));
                true
            }
            None => false,
        },
        (Value::Object(found), Value::Object(template)) => {
            found.len() == template.len()
                && template
                    .iter()
                    .all(|(key, part)| found.get(key).is_some_and(|found| filled(found, part, places)))
        }
        (Value::Array(found), Value::Array(template)) => {
            found.len() == template.len()
                && found.iter().zip(template).all(|(found, part)| filled(found, part, places))
        }
        (found, template) => found == template,
    }
}

fn fits(asked: &Asked, method: &str, query: &[(&str, &str)]) -> bool {
    asked.method == method
        && asked.query.len() == query.len()
        && query.iter().all(|(name, value)| asked.query.get(*name).is_some_and(|found| found == value))
}

impl Manner for &'static Named {
    fn meant(&self, asked: &Asked) -> Result<Meant, String> {
        if let Some((path, _)) = self.token
            && asked.path == path
        {
            // The credential is in a header field or in the form, and nowhere else.
            let is_there =
                asked.has("authorization", KEY) || asked.body.contains(&format!("client_secret={KEY}&"));
            return if is_there { Ok(Meant::Token) } else { Err("no credential for a token".to_owned()) };
        }
        if let Some((method, path, query, _)) = self.read
            && asked.method == method
        {
            let id = name_in(&asked.path, path).filter(|_| fits(asked, method, query));
            return id.map(|id| Meant::Read { id }).ok_or_else(|| "another read".to_owned());
        }
        if !fits(asked, self.method, self.query) {
            return Err("another method or query".to_owned());
        }
        let template: Value = serde_json::from_str(self.body).unwrap();
        let mut places = Vec::new();
        if !filled(&asked.json(), &template, &mut places) {
            return Err("another body".to_owned());
        }
        let place =
            |name: &str| places.iter().find(|(place, _)| place == name).map(|(_, value)| value.clone());
        let in_path = if self.path.contains("NAME") {
            Some(name_in(&asked.path, self.path).ok_or("another path")?)
        } else if asked.path == self.path {
            None
        } else {
            return Err("another path".to_owned());
        };
        let in_body = place("NAME").and_then(|name| name.as_str().map(str::to_owned));
        if in_path.is_some() && in_body.is_some() && in_path != in_body {
            return Err("two names".to_owned());
        }
        let time = place("TIME").and_then(|time| time.as_str().map(str::to_owned));
        let id = in_path.or(in_body).ok_or("no name")?;
        Ok(Meant::Write { id, value: place("VALUE").ok_or("no value")?, time })
    }

    fn knows(&self, asked: &Asked) -> bool {
        let is_read = asked.method == "GET";
        self.headers.iter().all(|(name, value)| is_read && *name == "content-type" || asked.has(name, value))
    }

    fn success(&self, meant: &Meant, found: Option<&Value>) -> (u16, Value) {
        let text = match meant {
            Meant::Token => self.token.unwrap().1.to_owned(),
            Meant::Write { .. } => self.success.1.to_owned(),
            Meant::Read { .. } => {
                let value = found.unwrap_or(&Value::Null).to_string();
                self.read.unwrap().3.replace("\"VALUE\"", &value)
            }
        };
        let status = if matches!(meant, Meant::Write { .. }) { self.success.0 } else { 200 };
        (status, if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() })
    }
}

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
    let connectors: String = esps
        .iter()
        .map(|(named, esp)| {
            format!(
                "[[connector]]\ncontroller = \"shop\"\nservice = {:?}\nbase_url = {:?}\ncredential_file = \
                 {key:?}\npurposes = [{}]\nvariables = [{}]\n",
                named.name,
                esp.base(),
                named.purposes,
                named.variables
            )
        })
        .collect();
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
