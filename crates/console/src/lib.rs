//! The console: what flows, what was removed, and the proof. A separate program and a client of the relay's
//! API.
//!
//! `routes.rs` has the only table of routes and who may use them; `guard.rs` takes each request to its page.
//! Promised: nothing is shown without a session, a session has no role unless it was given, a form is
//! accepted only with the session's token, and pages load nothing but the console's own style and a script
//! that refreshes them. Access to a person's data is first recorded in the relay's audit trail, and refused
//! if that fails. Absent: any state except who is signed in.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, clippy::panic))]

pub mod chart;
pub mod client;
mod failure;
mod federated;
pub mod figures;
pub mod form;
mod guard;
mod layout;
mod pages;
pub mod query;
pub mod rights;
mod routes;
mod saml;
mod serve;
pub mod session;
mod sign_in;
mod trail;
pub mod value;
pub mod words;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Response;
use clap::Parser;
use serde_json::Value;

use crate::config::console::Console as Settings;
use crate::record::logging;
use client::Client;
use failure::Failure;
use form::Form;
use session::{Session, Sessions};
use text::Language;

use pixelward_config as config;
pub(crate) use pixelward_core::language as text;
use pixelward_core::{consent, language, policy};
use pixelward_net as net;
use pixelward_record as record;
pub use routes::{Need, Proof, ROUTES, Route};

/// How long the relay's declared policy is cached.
const FRESH: Duration = Duration::from_secs(5);

/// The console of pixelward, an SMTP relay that enforces tracking consent inline
///
/// Pages for the privacy officer and the operator: what flows, what was removed, and the proof. It uses the
/// relay's API with its own token.
#[derive(Parser, Debug)]
#[command(version)]
pub struct Arguments {
    /// Configuration file of the console [default: console.toml here, or else in /etc/pixelward]
    #[arg(
        long,
        short,
        default_value_os_t = crate::config::usual("console.toml"),
        hide_default_value = true,
        value_name = "FILE"
    )]
    pub config: std::path::PathBuf,
    /// Check the configuration and exit
    #[arg(long)]
    pub check: bool,
    /// Stop when standard input is closed, as it is when the program that started this one ends
    #[arg(long, hide = true)]
    pub until_input_ends: bool,
}

/// The state shared by all requests.
struct Console {
    config: Settings,
    api: Client,
    sessions: Sessions,
    saml: Option<Arc<saml::Saml>>,
    /// The bound address, with the assigned port if 0 was requested.
    address: SocketAddr,
    policy: Mutex<Option<(Instant, Arc<Value>)>>,
}

/// A request that may be answered.
struct Call {
    console: Arc<Console>,
    /// The value of the session cookie, if there is a session.
    id: Option<String>,
    session: Option<Session>,
    language: Language,
    /// Whether a session may open the page at a path.
    is_open: fn(&Session, &str) -> bool,
    /// The controllers that may be selected, and the selected one.
    controllers: Vec<String>,
    controller: String,
    /// Whether the relay is one of several.
    is_cluster: bool,
    /// The name in the path.
    name: String,
    path: String,
    raw_query: String,
    query: Vec<(String, String)>,
    form: Form,
    /// The value of the cookie that ties a sign-in to the browser.
    request_cookie: Option<String>,
}

type Answered = Result<Response<Body>, Failure>;
type Handler = fn(Call) -> Pin<Box<dyn Future<Output = Answered> + Send>>;

/// Runs the console until it is told to stop.
///
/// # Errors
///
/// Whatever prevents it from starting.
pub fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let config = Settings::load(&arguments.config)?;
    let api = Client::new(&config.api)?;
    if arguments.check {
        token_file(&config.api.token_file)?;
        std::net::TcpListener::bind(config.server.address)
            .map(drop)
            .or_else(|error| if error.kind() == ErrorKind::AddrInUse { Ok(()) } else { Err(error) })
            .map_err(|error| format!("server.address {}: {error}", config.server.address))?;
        println!("{} is valid, and the token is there.", arguments.config.display());
        return Ok(());
    }
    logging::start(&config.log)?;
    if arguments.until_input_ends {
        std::thread::spawn(|| {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            std::process::exit(0);
        });
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve::serve(config, api))
}

/// Checks that the token for the API is there, and that only its owner may read it.
fn token_file(path: &Path) -> Result<(), String> {
    let named = |error: std::io::Error| format!("api.token_file {}: {error}", path.display());
    let mode = std::fs::metadata(path).map_err(named)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(format!("api.token_file {}: others may read it; run chmod 600 on it", path.display()));
    }
    let text = std::fs::read_to_string(path).map_err(named)?;
    if text.trim().is_empty() {
        return Err(format!("api.token_file {}: there is no token in it", path.display()));
    }
    Ok(())
}

impl Console {
    fn new(
        config: Settings,
        api: Client,
        saml: Option<Arc<saml::Saml>>,
        address: SocketAddr,
    ) -> Arc<Console> {
        let sessions = Sessions::new(config.session);
        Arc::new(Console { config, api, sessions, saml, address, policy: Mutex::new(None) })
    }

    /// Returns the base URL of pages.
    fn base(&self) -> String {
        match (&self.config.server.public_url, self.config.is_https()) {
            (Some(text), _) => text.clone(),
            (None, true) => format!("https://{}", self.address),
            (None, false) => format!("http://{}", self.address),
        }
    }

    /// Returns whether browsers use this host name for the console.
    fn is_own_host(&self, host: &str) -> bool {
        let base = self.base();
        let named = base.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host));
        let is_local = self.config.server.public_url.is_none() && self.address.ip().is_loopback();
        named || is_local && host.eq_ignore_ascii_case(&format!("localhost:{}", self.address.port()))
    }

    /// Returns the name of the session cookie. Its prefix makes browsers ensure that no other host and no
    /// page in clear sets it.
    fn cookie(&self) -> &'static str {
        if self.config.is_https() { "__Host-pixelward" } else { "pixelward-console" }
    }

    /// Builds a cookie for this many seconds, or for the browser session if `None`.
    fn set_cookie(&self, name: &str, value: &str, seconds: Option<u64>) -> String {
        let secure = if self.config.is_https() { "; Secure" } else { "" };
        let age = seconds.map_or(String::new(), |seconds| format!("; Max-Age={seconds}"));
        format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax{secure}{age}")
    }

    /// Returns where else forms may lead: to the identity provider, to sign out there too.
    fn form_targets(&self) -> String {
        self.saml
            .as_ref()
            .and_then(|saml| saml.logout_origin())
            .map_or(String::new(), |origin| format!(" {origin}"))
    }

    /// Returns the name of the cookie that ties a sign-in to the browser.
    fn request_cookie(&self) -> &'static str {
        if self.config.is_https() { "__Host-pixelward-request" } else { "pixelward-console-request" }
    }

    /// Returns the relay's declared policy.
    async fn policy(&self) -> Result<Arc<Value>, Failure> {
        let newest = self.policy.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((since, policy)) = newest.filter(|(since, _)| since.elapsed() < FRESH) {
            let _ = since;
            return Ok(policy);
        }
        let policy = Arc::new(self.api.get("/v1/policy").await?);
        *self.policy.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((Instant::now(), Arc::clone(&policy)));
        Ok(policy)
    }

    /// Returns whether the relay is one of several.
    async fn is_cluster(&self) -> bool {
        self.policy().await.is_ok_and(|policy| value::flag(&policy, "cluster"))
    }

    /// Lists the names of all controllers.
    async fn controllers(&self) -> Result<Vec<String>, Failure> {
        let policy = self.policy().await?;
        let all = policy.get("controllers").and_then(Value::as_array).into_iter().flatten();
        Ok(all.filter_map(|controller| controller.get("name")?.as_str().map(str::to_owned)).collect())
    }
}

impl Call {
    /// Copies the request without its body, for a page about a failure.
    fn shell(&self) -> Call {
        Call {
            console: Arc::clone(&self.console),
            id: self.id.clone(),
            session: self.session.clone(),
            language: self.language,
            is_open: self.is_open,
            controllers: Vec::new(),
            controller: String::new(),
            is_cluster: self.is_cluster,
            name: String::new(),
            path: self.path.clone(),
            raw_query: String::new(),
            query: Vec::new(),
            form: Form::default(),
            request_cookie: None,
        }
    }

    /// Returns a value of the query; empty if there is none.
    fn asked(&self, name: &str) -> &str {
        self.query.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// Returns the session, on routes that need one.
    fn session(&self) -> Result<&Session, Failure> {
        self.session.as_ref().ok_or(Failure::SignedOut)
    }

    /// Returns the token for a form that is sent to this path.
    fn token(&self, path: &str) -> String {
        self.session.as_ref().map_or(String::new(), |session| session.form_token(path))
    }

    /// Returns the address of a page about the same controller.
    fn to(&self, path: &str) -> String {
        let sign = if path.contains('?') { '&' } else { '?' };
        match self.controller.as_str() {
            "" => path.to_owned(),
            controller => format!("{path}{sign}controller={}", query::encoded(controller)),
        }
    }
}
