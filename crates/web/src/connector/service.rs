//! A service as its description says: what is asked, and what its answers mean. The named ones are in `services/`.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request};
use serde::Deserialize;
use serde_json::Value;

use super::auth::{Auth, AuthFile};
use super::choice::{Choice, Values};
use super::template::{Body, Filling, Style, Template, Variables};
use crate::config::connector::{Connector, Service as Chosen};
use crate::net::line::{Endpoint, Reply};
use crate::policy::Purpose;

/// The services that come with the program, by name.
const NAMED: &[(&str, &str)] = &[
    ("actito", include_str!("services/actito.toml")),
    ("adobe", include_str!("services/adobe.toml")),
    ("batch", include_str!("services/batch.toml")),
    ("braze", include_str!("services/braze.toml")),
    ("brevo", include_str!("services/brevo.toml")),
    ("hubspot", include_str!("services/hubspot.toml")),
    ("klaviyo", include_str!("services/klaviyo.toml")),
    ("mailchimp", include_str!("services/mailchimp.toml")),
    ("mapp", include_str!("services/mapp.toml")),
    ("shopify", include_str!("services/shopify.toml")),
];

/// The longest wait that a service may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// The description of a service.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Its name, to be shown.
    title: String,
    /// Which name of a person it takes, in words.
    takes: String,
    /// The public pages that the description was made from.
    pages: Vec<String>,
    /// When they were read.
    read_on: String,
    /// What could not be read there.
    #[serde(default)]
    not_read: String,
    /// The start of each URL.
    base: String,
    requests_per_second: u32,
    burst: u32,
    concurrency: usize,
    /// Purposes that the connector must name, because the service's switch is about them, too.
    #[serde(default)]
    purposes: Vec<String>,
    /// What the configuration fills in.
    #[serde(default)]
    variables: BTreeMap<String, Variable>,
    values: Values,
    auth: Option<AuthFile>,
    write: CallFile,
    read: Option<CallFile>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Variable {
    about: String,
    default: Option<String>,
}

/// A request, and what the answers to it mean.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CallFile {
    method: String,
    path: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<String>,
    /// The statuses that mean success.
    done: Vec<u16>,
    /// JSON pointers at which an answer must have nothing, or an empty list, to mean success.
    #[serde(default)]
    nothing_at: Vec<String>,
    /// Where an answer says that the service is too busy, and with which word.
    busy: Option<Busy>,
    /// The header field that says after how many seconds to come again, beside Retry-After.
    wait_header: Option<String>,
    /// Reading back: where the answer has the value.
    value_at: Option<String>,
    /// Reading back: the service's words, where they differ from those that are written.
    values: Option<Values>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Busy {
    at: String,
    word: String,
}

/// What an answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is done.
    Done,
    /// It may be tried again, at the earliest after this time if one is named.
    Again {
        /// How long the service wants to be left alone.
        wait: Option<Duration>,
        /// Whether it said that it is asked too much.
        is_busy: bool,
        /// The status.
        status: u16,
    },
    /// The service does not accept who asks.
    Locked(u16),
    /// It will not be done for this person.
    Rejected(u16),
}

/// A request, and what the answers to it mean.
#[derive(Debug)]
pub(super) struct Call {
    method: Method,
    path: Template,
    headers: Vec<(HeaderName, Template)>,
    body: Option<Body>,
    done: Vec<u16>,
    nothing_at: Vec<String>,
    busy: Option<Busy>,
    wait_header: Option<HeaderName>,
}

/// How a value is read back.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) call: Call,
    value_at: String,
    values: Values,
}

/// Where a description comes from.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) title: String,
    pub(super) takes: String,
    pub(super) pages: Vec<String>,
    pub(super) read_on: String,
    pub(super) not_read: String,
}

/// A service that can be asked.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) source: Source,
    pub(super) base: String,
    pub(super) endpoint: Endpoint,
    pub(super) auth: Auth,
    pub(super) write: Call,
    pub(super) read: Option<Read>,
    pub(super) values: Values,
    pub(super) requests_per_second: u32,
    pub(super) burst: u32,
    pub(super) concurrency: usize,
}

impl Service {
    /// Reads the description of a connector's service.
    ///
    /// # Errors
    ///
    /// When there is none, it cannot be used, or the connector does not fit it.
    pub(super) fn of(connector: &Connector) -> Result<Service, String> {
        let (name, text) = match &connector.service {
            Chosen::Named(name) => (name.clone(), named(name)?.to_owned()),
            Chosen::File(path) => {
                let text = std::fs::read_to_string(path);
                (path.display().to_string(), text.map_err(|error| format!("{}: {error}", path.display()))?)
            }
        };
        let file: File = toml::from_str(&text).map_err(|error| format!("{name}: {error}"))?;
        Service::from(file, connector).map_err(|error| format!("{name}: {error}"))
    }

    fn from(file: File, connector: &Connector) -> Result<Service, String> {
        let variables = variables(&file, connector)?;
        for wanted in &file.purposes {
            if !connector.purposes.iter().any(|purpose: &Purpose| purpose.name() == wanted) {
                return Err(format!(
                    "{} has one switch for several purposes: add {wanted} to connector.purposes",
                    file.title
                ));
            }
        }
        let base = match &connector.base_url {
            Some(base) => base.clone(),
            None => {
                let nobody = Filling { id: "", choice: &Value::Null, time: "", credential: "" };
                Template::read(&file.base, &variables, Style::Plain)?.filled(&nobody, Style::Plain)
            }
        };
        let write = Call::of(&file.write, &variables).map_err(|error| format!("[write] {error}"))?;
        if !write.names_a_person() {
            return Err("[write] names nobody: put {{id}} into path or body".to_owned());
        }
        let read = file.read.as_ref().map(|call| Read::of(call, &file.values, &variables)).transpose();
        let auth = Auth::of(file.auth.as_ref(), connector, &variables)?;
        Ok(Service {
            endpoint: Endpoint::of(&base, connector.ca_file.as_deref())?,
            base,
            auth,
            write,
            read: read.map_err(|error| format!("[read] {error}"))?,
            values: file.values,
            requests_per_second: connector.requests_per_second.unwrap_or(file.requests_per_second).max(1),
            burst: connector.burst.unwrap_or(file.burst).max(1),
            concurrency: connector.concurrency.unwrap_or(file.concurrency).clamp(1, 256),
            source: Source {
                title: file.title,
                takes: file.takes,
                pages: file.pages,
                read_on: file.read_on,
                not_read: file.not_read,
            },
        })
    }
}

/// Returns the description of a service that comes with the program.
///
/// # Errors
///
/// When there is none of this name.
pub fn named(name: &str) -> Result<&'static str, String> {
    let found = NAMED.iter().find(|(known, _)| *known == name).map(|(_, text)| *text);
    found.ok_or_else(|| {
        let names: Vec<&str> = NAMED.iter().map(|(name, _)| *name).collect();
        format!("unknown service {name:?}: use {}, or describe it in a service_file", names.join(", "))
    })
}

fn variables(file: &File, connector: &Connector) -> Result<Variables, String> {
    let given: Variables = connector.variables.iter().cloned().collect();
    if let Some(unknown) = given.keys().find(|name| !file.variables.contains_key(*name)) {
        return Err(format!("connector.variables: {unknown} is not one of this service"));
    }
    let all = file.variables.iter().map(|(name, variable)| {
        let value = given.get(name).or(variable.default.as_ref());
        let value =
            value.ok_or_else(|| format!("connector.variables lacks \"{name}=...\": {}", variable.about))?;
        Ok((name.clone(), value.clone()))
    });
    all.collect()
}

impl Call {
    fn of(file: &CallFile, variables: &Variables) -> Result<Call, String> {
        let header = |name: &str| {
            HeaderName::try_from(name).map_err(|_| format!("{name:?} is not a name of a header field"))
        };
        let headers = file
            .headers
            .iter()
            .map(|(name, value)| Ok((header(name)?, Template::read(value, variables, Style::Plain)?)));
        if !file.path.starts_with('/') {
            return Err("path must start with /".to_owned());
        }
        if file.done.is_empty() {
            return Err("done lists no status".to_owned());
        }
        Ok(Call {
            method: file.method.parse().map_err(|_| format!("{:?} is not a method", file.method))?,
            path: Template::read(&file.path, variables, Style::Encoded)?,
            headers: headers.collect::<Result<_, String>>()?,
            body: file.body.as_deref().map(|body| Body::read(body, variables)).transpose()?,
            done: file.done.clone(),
            nothing_at: file.nothing_at.clone(),
            busy: file.busy.clone(),
            wait_header: file.wait_header.as_deref().map(header).transpose()?,
        })
    }

    fn names_a_person(&self) -> bool {
        self.path.names_a_person() || self.body.as_ref().is_some_and(Body::names_a_person)
    }

    /// Returns method, path and body, as they are shown to an operator.
    pub(super) fn shown(&self, filling: &Filling<'_>) -> (String, String, Option<Value>) {
        let path = self.path.filled(filling, Style::Encoded);
        (self.method.to_string(), path, self.body.as_ref().map(|body| body.filled(filling)))
    }

    /// Builds the request about a person.
    ///
    /// # Errors
    ///
    /// When something that was filled in cannot stand in a header field.
    pub(super) fn request(&self, filling: &Filling<'_>) -> Result<Request<Full<Bytes>>, String> {
        let body = self.body.as_ref().map(|body| body.filled(filling).to_string());
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(self.path.filled(filling, Style::Encoded))
            .header(ACCEPT, "application/json");
        if body.is_some() && !self.headers.iter().any(|(name, _)| *name == CONTENT_TYPE) {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        for (name, value) in &self.headers {
            let value = HeaderValue::try_from(value.filled(filling, Style::Plain));
            request = request.header(name, value.map_err(|_| format!("{name} has an unusable value"))?);
        }
        request.body(Full::new(Bytes::from(body.unwrap_or_default()))).map_err(|error| error.to_string())
    }

    /// Returns what an answer means.
    pub(super) fn verdict(&self, reply: &Reply) -> Verdict {
        let again = |is_busy: bool| Verdict::Again { wait: self.wait(reply), is_busy, status: reply.status };
        match reply.status {
            status if self.done.contains(&status) => self.inside(reply),
            401 | 403 | 407 => Verdict::Locked(reply.status),
            429 => again(true),
            408 | 425 | 500..=599 => again(false),
            status => Verdict::Rejected(status),
        }
    }

    /// Looks into an answer whose status means success.
    fn inside(&self, reply: &Reply) -> Verdict {
        if self.nothing_at.is_empty() && self.busy.is_none() {
            return Verdict::Done;
        }
        let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        if let Some(busy) = &self.busy
            && body.pointer(&busy.at).and_then(Value::as_str) == Some(busy.word.as_str())
        {
            return Verdict::Again { wait: self.wait(reply), is_busy: true, status: reply.status };
        }
        let is_empty = |at: &String| match body.pointer(at) {
            None | Some(Value::Null) => true,
            Some(Value::Array(items)) => items.is_empty(),
            Some(Value::Object(fields)) => fields.is_empty(),
            Some(_) => false,
        };
        match self.nothing_at.iter().all(is_empty) {
            true => Verdict::Done,
            false => Verdict::Rejected(reply.status),
        }
    }

    fn wait(&self, reply: &Reply) -> Option<Duration> {
        let names = [Some(RETRY_AFTER), self.wait_header.clone()];
        let seconds = names.into_iter().flatten().find_map(|name| {
            let value = reply.headers.get(name)?.to_str().ok()?;
            value.trim().parse::<f64>().ok().filter(|seconds| seconds.is_finite() && *seconds >= 0.0)
        })?;
        Some(Duration::from_secs_f64(seconds.min(LONGEST_WAIT.as_secs_f64())))
    }
}

impl Read {
    fn of(file: &CallFile, written: &Values, variables: &Variables) -> Result<Read, String> {
        let value_at = file.value_at.as_ref().ok_or("value_at is missing")?;
        let nobody = Filling { id: "", choice: &Value::Null, time: "", credential: "" };
        let value_at = Template::read(value_at, variables, Style::Plain)?.filled(&nobody, Style::Plain);
        if !value_at.starts_with('/') {
            return Err("value_at is not a JSON pointer: it must start with /".to_owned());
        }
        let values = file.values.clone().unwrap_or_else(|| written.clone());
        Ok(Read { call: Call::of(file, variables)?, value_at, values })
    }

    /// Compares an answer with a choice: `Ok` if the service has it, else what it has.
    pub(super) fn compare(&self, reply: &Reply, choice: Choice) -> Result<(), String> {
        let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let found = body.pointer(&self.value_at).unwrap_or(&Value::Null);
        match self.values.means(found, choice) {
            true => Ok(()),
            false => Err(found.to_string().chars().take(64).collect()),
        }
    }
}

/// Checks that a connector can be used, with everything but its credential.
///
/// # Errors
///
/// What is wrong with it.
pub fn check(connector: &Connector) -> Result<(), String> {
    Service::of(connector).map(drop)
}
