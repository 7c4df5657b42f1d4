//! The stages of a request: host, session, rights, form, page, and the header fields common to all responses.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{RawPathParams, Request};
use axum::http::header::{
    ACCEPT_LANGUAGE, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, HOST, HeaderValue, ORIGIN,
    REFERRER_POLICY, STRICT_TRANSPORT_SECURITY,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Response};
use axum::routing::{MethodFilter, on};
use http_body_util::{BodyExt, Limited};

use super::failure::Failure;
use super::form::Form;
use super::routes::{Need, Proof, ROUTES, Route};
use super::session::Session;
use super::text::Language;
use super::{Answered, Call, Console, layout, query};
use hyper::Method;

/// Builds every route of the table.
pub(super) fn router(console: &Arc<Console>) -> axum::Router {
    let mut router = axum::Router::new();
    for route in ROUTES {
        let filter = if route.method == Method::POST { MethodFilter::POST } else { MethodFilter::GET };
        let console = Arc::clone(console);
        let handler = move |parameters: Result<RawPathParams, _>, request: Request| {
            let console = Arc::clone(&console);
            async move {
                let name = parameters
                    .map_err(|_: axum::extract::rejection::RawPathParamsRejection| ())
                    .ok()
                    .and_then(|parameters: RawPathParams| {
                        parameters.iter().next().map(|(_, value)| value.to_owned())
                    });
                answered(Some(route), console, name.unwrap_or_default(), request).await
            }
        };
        router = router.route(route.path, on(filter, handler));
    }
    let nothing = Arc::clone(console);
    let wrong = Arc::clone(console);
    let absent = move |request: Request| answered(None, Arc::clone(&nothing), String::new(), request);
    router.fallback(absent).method_not_allowed_fallback(move |request: Request| {
        let console = Arc::clone(&wrong);
        async move {
            let call = call(&console, &request.into_parts().0, String::new());
            finished(&console, layout::failure(&call, &Failure::WrongMethod))
        }
    })
}

async fn answered(
    route: Option<&'static Route>,
    console: Arc<Console>,
    name: String,
    request: Request,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let call = call(&console, &parts, name);
    let shell = call.shell();
    let patience = console.config.server.request_timeout;
    let response = match route {
        None => layout::failure(&shell, &Failure::Nothing),
        Some(route) => match tokio::time::timeout(patience, handled(route, call, &parts, body)).await {
            Ok(Ok(response)) => response,
            Ok(Err(failure)) => layout::failure(&shell, &failure),
            Err(_) => layout::failure(&shell, &Failure::Slow),
        },
    };
    finished(&console, response)
}

/// What is known about a request before anything is checked.
/// Whether a session may open a page.
fn is_open(session: &Session, path: &str) -> bool {
    let route = ROUTES.iter().find(|route| route.path == path && route.method == Method::GET);
    route.is_some_and(|route| match route.need {
        Need::Nobody | Need::SignedIn => true,
        Need::Of(roles) => session.rights.allow_somewhere(roles),
        Need::All(roles) => session.rights.allow_all(roles),
    })
}

fn call(console: &Arc<Console>, parts: &Parts, name: String) -> Call {
    let id = cookie(&parts.headers, console.cookie());
    // A page that refreshes itself does not keep a session alive.
    let is_renewal =
        parts.uri.query().is_some_and(|query| query.split('&').any(|part| part == layout::RENEWAL));
    let session = id.as_deref().and_then(|id| match is_renewal {
        true => console.sessions.look(id, Instant::now()),
        false => console.sessions.get(id, Instant::now()),
    });
    let header = parts.headers.get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    let wanted =
        session.as_ref().and_then(|session| session.language).or_else(|| Language::accepted(header?));
    let language = wanted.or_else(|| Language::of(console.config.language)).unwrap_or(Language::En);
    Call {
        console: Arc::clone(console),
        id: id.filter(|_| session.is_some()),
        session,
        language,
        is_open,
        controllers: Vec::new(),
        is_cluster: false,
        controller: String::new(),
        name,
        path: parts.uri.path().to_owned(),
        raw_query: parts.uri.query().unwrap_or_default().to_owned(),
        query: Vec::new(),
        form: Form::default(),
        request_cookie: cookie(&parts.headers, console.request_cookie()),
    }
}

async fn handled(route: &'static Route, mut call: Call, parts: &Parts, body: Body) -> Answered {
    is_ours(&call.console, &parts.headers)?;
    call.query = query::pairs(&call.raw_query).ok_or(Failure::malformed("query"))?;
    signed_in(route, &call)?;
    if route.method == Method::POST {
        call.form = form(&call.console, parts, body).await?;
        if route.proof == Proof::Token {
            is_own_form(&call, &parts.headers)?;
        }
    }
    permitted(route, &mut call).await?;
    (route.handler)(call).await
}

/// Returns whether the browser used the console's host name: a foreign page whose name was made to resolve to
/// this server uses another one (DNS rebinding).
fn is_ours(console: &Console, headers: &HeaderMap) -> Result<(), Failure> {
    let host = headers.get(HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    console.is_own_host(host).then_some(()).ok_or(Failure::Elsewhere)
}

fn signed_in(route: &Route, call: &Call) -> Result<(), Failure> {
    match (route.need, &call.session) {
        (Need::Nobody, _) | (_, Some(_)) => Ok(()),
        (_, None) => Err(Failure::SignedOut),
    }
}

/// Returns whether a form carries the session's token for this path and, if the browser names an origin,
/// comes from here.
fn is_own_form(call: &Call, headers: &HeaderMap) -> Result<(), Failure> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let session: &Session = call.session.as_ref().ok_or(Failure::SignedOut)?;
    let from_here = text("sec-fetch-site").is_none_or(|site| site == "same-origin");
    let origin = headers.get(ORIGIN).and_then(|value| value.to_str().ok());
    let is_origin = origin.is_none_or(|origin| {
        origin.split_once("://").is_some_and(|(_, host)| call.console.is_own_host(host))
    });
    let is_token = session.is_form_token(&call.path, call.form.value("token"));
    (from_here && is_origin && is_token).then_some(()).ok_or(Failure::ForeignForm)
}

async fn form(console: &Console, parts: &Parts, body: Body) -> Result<Form, Failure> {
    let limit = console.config.server.max_body_bytes;
    let whole = Limited::new(body, limit).collect().await.map_err(|_| Failure::TooLarge(limit))?.to_bytes();
    let content_type =
        parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    Form::read(content_type, &whole).ok_or(Failure::malformed("form"))
}

/// Selects the controller, and checks the session's rights for it.
async fn permitted(route: &Route, call: &mut Call) -> Result<(), Failure> {
    let Some(session) = call.session.clone() else { return Ok(()) };
    call.is_cluster = call.console.is_cluster().await;
    match route.need {
        Need::Nobody | Need::SignedIn => Ok(()),
        Need::All(roles) => {
            if !session.rights.allow_all(roles) {
                return Err(Failure::Forbidden);
            }
            call.controllers = call.console.controllers().await.unwrap_or_default();
            Ok(())
        }
        Need::Of(roles) => {
            // Someone without any of the roles learns nothing about what exists.
            if !session.rights.allow_somewhere(roles) {
                return Err(Failure::Forbidden);
            }
            let mut all = call.console.controllers().await?;
            all.retain(|controller| session.rights.allow(roles, controller));
            let wanted = match call.form.value("controller") {
                "" => call.asked("controller"),
                cookie => cookie,
            };
            call.controller = match wanted {
                "" => all.first().cloned().ok_or(Failure::Forbidden)?,
                name => all.iter().find(|one| *one == name).cloned().ok_or(Failure::Forbidden)?,
            };
            call.controllers = all;
            Ok(())
        }
    }
}

/// Adds the header fields common to all responses: not to be cached by others, nothing foreign loaded, not to
/// be framed.
fn finished(console: &Console, mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.entry(REFERRER_POLICY).or_insert(HeaderValue::from_static("same-origin"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert("x-frame-options", HeaderValue::from_static("DENY"));
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    if console.config.is_https() {
        headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
    if !headers.contains_key(CONTENT_SECURITY_POLICY) {
        headers.insert(CONTENT_SECURITY_POLICY, layout::policy(console, "style-src 'self'; img-src 'self'"));
    }
    response
}

/// Returns the value of a cookie, if it occurs exactly once.
pub(super) fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let all = headers.get_all(COOKIE).iter().filter_map(|get_all| get_all.to_str().ok());
    let mut found = all
        .flat_map(|header| header.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value.to_owned());
    let only = found.next()?;
    found.next().is_none().then_some(only)
}
