//! How a service knows us: a credential from a file, as it is or exchanged for a token that lasts a while.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;

use super::template::{Filling, Style, Template, Variables};
use crate::config::Connector;
use crate::mapping::secret;
use crate::message::transfer::encode_base64;
use crate::net::line::Endpoint;

/// The maximum size of a token's answer, in bytes.
const MOST: usize = 64 << 10;
/// How long the exchange may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How the credential is shown.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuthFile {
    style: Manner,
    /// For `header`: the name of the field.
    header: Option<String>,
    /// For `header`: what stands before the credential.
    #[serde(default)]
    prefix: String,
    /// For `basic`: the user, if the file has only a password.
    user: Option<String>,
    exchange: Option<ExchangeFile>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Manner {
    Bearer,
    Basic,
    Header,
}

/// Where a credential is exchanged for a token.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExchangeFile {
    method: String,
    url: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// A form.
    form: Option<String>,
    /// Where the answer has the token: a JSON pointer.
    token_at: String,
    /// How long a token is used, in seconds.
    lasts_s: u64,
}

/// How a service knows us.
#[derive(Debug)]
pub(super) struct Auth {
    shown: Option<Shown>,
    /// The field that is shown at the moment, and until when.
    field: Mutex<Option<(HeaderValue, Option<Instant>)>>,
}

#[derive(Debug)]
struct Shown {
    file: PathBuf,
    name: HeaderName,
    style: Manner,
    prefix: String,
    user: Option<String>,
    exchange: Option<Exchange>,
}

#[derive(Debug)]
struct Exchange {
    endpoint: Endpoint,
    method: hyper::Method,
    path: String,
    headers: Vec<(HeaderName, Template)>,
    form: Option<Template>,
    token_at: String,
    lasts: Duration,
}

impl Auth {
    pub(super) fn of(
        file: Option<&AuthFile>,
        connector: &Connector,
        variables: &Variables,
    ) -> Result<Auth, String> {
        let shown = match (file, &connector.credential_file) {
            (None, None) => None,
            (None, Some(_)) => {
                return Err("connector.credential_file: this service wants none".to_owned());
            }
            (Some(_), None) => return Err("connector.credential_file is missing".to_owned()),
            (Some(file), Some(path)) => Some(Shown::of(file, path.clone(), connector, variables)?),
        };
        Ok(Auth { shown, field: Mutex::new(None) })
    }

    /// Reads the credential, to see whether it can be.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or others can read it.
    pub(super) fn check(&self) -> Result<(), String> {
        self.shown.as_ref().map_or(Ok(()), |shown| shown.credential().map(drop))
    }

    /// Returns the field to show, if any.
    ///
    /// # Errors
    ///
    /// When the credential cannot be read or exchanged.
    pub(super) async fn field(&self) -> Result<Option<(HeaderName, HeaderValue)>, String> {
        let Some(shown) = &self.shown else { return Ok(None) };
        let mut field = self.field.lock().await;
        let now = Instant::now();
        if let Some((value, until)) = field.as_ref()
            && until.is_none_or(|until| now < until)
        {
            return Ok(Some((shown.name.clone(), value.clone())));
        }
        let credential = shown.credential()?;
        let (text, until) = match &shown.exchange {
            None => (credential, None),
            Some(exchange) => {
                let token = tokio::time::timeout(PATIENCE, exchange.token(&credential)).await;
                let token = token.map_err(|_| "the token endpoint did not answer in time".to_owned())??;
                (token, now.checked_add(exchange.lasts))
            }
        };
        let value = shown.value(&text)?;
        *field = Some((value.clone(), until));
        Ok(Some((shown.name.clone(), value)))
    }

    /// Has the credential read, and a token fetched, anew.
    pub(super) async fn forget(&self) {
        *self.field.lock().await = None;
    }
}

impl Shown {
    fn of(
        file: &AuthFile,
        path: PathBuf,
        connector: &Connector,
        variables: &Variables,
    ) -> Result<Shown, String> {
        let name = match (&file.header, file.style) {
            (None, Manner::Bearer | Manner::Basic) => AUTHORIZATION,
            (Some(name), Manner::Header) => {
                HeaderName::try_from(name.as_str()).map_err(|_| format!("[auth] header {name:?}"))?
            }
            _ => return Err("[auth] header belongs to style = \"header\", which needs it".to_owned()),
        };
        Ok(Shown {
            file: path,
            name,
            style: file.style,
            prefix: file.prefix.clone(),
            user: file.user.clone(),
            exchange: file
                .exchange
                .as_ref()
                .map(|exchange| Exchange::of(exchange, connector, variables))
                .transpose()
                .map_err(|error| format!("[auth.exchange] {error}"))?,
        })
    }

    fn credential(&self) -> Result<String, String> {
        let bytes = secret(&self.file).map_err(|error| format!("connector.credential_file {error}"))?;
        String::from_utf8(bytes).map_err(|_| format!("{} is not UTF-8", self.file.display()))
    }

    fn value(&self, text: &str) -> Result<HeaderValue, String> {
        let written = match (self.style, &self.user) {
            (Manner::Bearer, _) => format!("Bearer {text}"),
            (Manner::Basic, None) => format!("Basic {}", encode_base64(text.as_bytes())),
            (Manner::Basic, Some(user)) => {
                format!("Basic {}", encode_base64(format!("{user}:{text}").as_bytes()))
            }
            (Manner::Header, _) => format!("{}{text}", self.prefix),
        };
        let mut value = HeaderValue::try_from(written)
            .map_err(|_| "the credential has characters that cannot stand in a header field".to_owned())?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl Exchange {
    fn of(file: &ExchangeFile, connector: &Connector, variables: &Variables) -> Result<Exchange, String> {
        let nobody = Filling { id: "", choice: &Value::Null, time: "", credential: "" };
        let url = Template::read(&file.url, variables, Style::Plain)?.filled(&nobody, Style::Plain);
        let uri: hyper::Uri = url.parse().map_err(|_| format!("{url:?} is not a web address"))?;
        // Who reaches the service elsewhere reaches this there, too.
        let base = connector.base_url.as_deref().unwrap_or(&url);
        let headers = file.headers.iter().map(|(name, value)| {
            let known = HeaderName::try_from(name.as_str()).map_err(|_| format!("header {name:?}"))?;
            Ok((known, Template::read(value, variables, Style::Plain)?))
        });
        let form = file.form.as_deref();
        Ok(Exchange {
            endpoint: Endpoint::of(base, connector.ca_file.as_deref())?,
            method: file.method.parse().map_err(|_| format!("{:?} is not a method", file.method))?,
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            headers: headers.collect::<Result<_, String>>()?,
            form: form.map(|form| Template::read(form, variables, Style::Encoded)).transpose()?,
            token_at: file.token_at.clone(),
            lasts: Duration::from_secs(file.lasts_s),
        })
    }

    async fn token(&self, credential: &str) -> Result<String, String> {
        let filling = Filling { id: "", choice: &Value::Null, time: "", credential };
        let form = self.form.as_ref().map(|form| form.filled(&filling, Style::Encoded));
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(self.path.as_str())
            .header(ACCEPT, "application/json");
        if form.is_some() {
            request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        for (name, value) in &self.headers {
            let value = HeaderValue::try_from(value.filled(&filling, Style::Plain));
            request = request.header(name, value.map_err(|_| format!("{name} has an unusable value"))?);
        }
        let body = Full::new(Bytes::from(form.unwrap_or_default()));
        let request = request.body(body).map_err(|error| error.to_string())?;
        let reply = self.endpoint.connect().await?.ask(request, MOST).await?;
        if reply.status != 200 {
            return Err(format!("the token endpoint answered {}", reply.status));
        }
        let answer: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let token = answer.pointer(&self.token_at).and_then(Value::as_str).map(str::to_owned);
        token.ok_or_else(|| format!("the token endpoint's answer has no token at {}", self.token_at))
    }
}
