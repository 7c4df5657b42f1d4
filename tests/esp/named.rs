//! The named services of connectors, as their public pages describe them.

use std::path::Path;

use serde_json::{Value, json};

use super::{Asked, Esp, Manner, Meant, decoded};

/// What each named service takes for a credential.
pub const KEY: &str = "0123456789abcdef-us19";

/// A named service: what the configuration says of it, and what it accepts.
pub struct Named {
    pub name: &'static str,
    pub purposes: &'static str,
    pub variables: &'static str,
    pub granted: fn() -> Value,
    pub refused: fn() -> Value,
    pub method: &'static str,
    pub path: &'static str,
    pub query: &'static [(&'static str, &'static str)],
    /// Header fields with their values.
    pub headers: &'static [(&'static str, &'static str)],
    /// The body with the value in place of `VALUE`, the person's name in place of `NAME`, a time in place of `TIME`.
    pub body: &'static str,
    /// Status and body of a success.
    pub success: (u16, &'static str),
    /// A read: method, path, query, and the answer with the value in place of `VALUE`.
    pub read: Option<ReadBack>,
    /// The path at which a token is given, and the answer.
    pub token: Option<(&'static str, &'static str)>,
    /// An answer with a status of success that is none, if there is one.
    pub hidden_failure: Option<&'static str>,
}

/// Method, path, query and answer.
type ReadBack = (&'static str, &'static str, &'static [(&'static str, &'static str)], &'static str);

impl Named {
    /// The section of a connector to it, which finds its credential in this file.
    pub fn connector(&self, esp: &Esp, key: &Path) -> String {
        format!(
            "[[connector]]\ncontroller = \"shop\"\nservice = {:?}\nbase_url = {:?}\ncredential_file = {key:?}\n\
             purposes = [{}]\nvariables = [{}]\n",
            self.name,
            esp.base(),
            self.purposes,
            self.variables
        )
    }
}

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

/// All services that have a description in the project.
pub const ALL: &[Named] = &[
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
        body: r#"{"identifier":"NAME","attributes":[{"name":"tracking_consent","value":"VALUE"},
            {"name":"tracking_consent_source","value":"pixelward"}]}"#,
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
        body: r#"{"attributes":[{"external_id":"NAME","_update_existing_only":true,
            "email_open_tracking_disabled":"VALUE"}]}"#,
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
        body: r#"{"header":{"schemaRef":{"id":"https://ns.adobe.com/t/schemas/1",
            "contentType":"application/vnd.adobe.xed-full+json;version=1"},
            "imsOrgId":"1@AdobeOrg","datasetId":"d1","source":{"name":"pixelward"}},
            "body":{"xdmMeta":{"schemaRef":{"id":"https://ns.adobe.com/t/schemas/1",
            "contentType":"application/vnd.adobe.xed-full+json;version=1"}},
            "xdmEntity":{"_shop":{"customerId":"NAME"},
            "consents":{"tracking":{"email":{"open":{"val":"VALUE","time":"TIME"}}}}}}}"#,
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
        body: concat!(
            r#"{"query":"mutation($fields: [MetafieldsSetInput!]!) { "#,
            r#"metafieldsSet(metafields: $fields) { userErrors { field code } } }","#,
            r#""variables":{"fields":[{"ownerId":"gid://shopify/Customer/NAME","namespace":"pixelward","#,
            r#""key":"open_tracking","type":"single_line_text_field","value":"VALUE"}]}}"#
        ),
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
        body: r#"{"data":{"type":"profile","id":"NAME",
            "attributes":{"properties":{"open_tracking_consent":"VALUE"}}}}"#,
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
    Some(decoded(path.strip_prefix(before)?.strip_suffix(behind)?))
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
