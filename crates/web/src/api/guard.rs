//! The stages of a request: route, token, rate, body, idempotency, handler, and the header fields common to
//! all responses.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::body::Body;
use axum::extract::{RawPathParams, Request};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Response};
use axum::routing::{MethodFilter, on};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use tokio::sync::oneshot;

use super::replay::{self, Given, Turn, fingerprint};
use super::routes::{Access, Input, Method, ROUTES, Route};
use super::{Answered, Api, Call, model};
use crate::api_token::{Grant, Verdict};
use crate::consent::{Controller, Timestamp};
use crate::live::Live;
use crate::problem::Problem;

/// The allowed lengths of an idempotency key, in bytes.
pub(super) const KEY_LENGTH: std::ops::RangeInclusive<usize> = 8..=128;

/// Builds every route of the table.
pub(super) fn router(api: &Arc<Api>) -> axum::Router {
    let mut router = axum::Router::new();
    for route in ROUTES {
        let filter = match route.method {
            Method::Get => MethodFilter::GET,
            Method::Post => MethodFilter::POST,
            Method::Put => MethodFilter::PUT,
            Method::Delete => MethodFilter::DELETE,
        };
        let api = Arc::clone(api);
        let handler = move |parameters: Result<RawPathParams, _>, request: Request| {
            let api = Arc::clone(&api);
            async move {
                let parameters: Vec<(String, String)> = parameters
                    .map(|parameters: RawPathParams| {
                        parameters.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
                    })
                    .map_err(|_: axum::extract::rejection::RawPathParamsRejection| ())
                    .unwrap_or_default();
                answered(route, api, &parameters, request).await
            }
        };
        router = router.route(route.path, on(filter, handler));
    }
    let nothing = || async { finished(Problem::not_found("Nothing found under this path").response()) };
    let no_method = || async { finished(Problem::method_not_allowed().response()) };
    router.fallback(nothing).method_not_allowed_fallback(no_method)
}

async fn answered(
    route: &'static Route,
    api: Arc<Api>,
    parameters: &[(String, String)],
    request: Request,
) -> Response<Body> {
    let started = Instant::now();
    let response = handled(route, api, parameters, request).await.unwrap_or_else(Problem::response);
    let status = response.status().as_u16().to_string();
    metrics::counter!("pixelward_api_requests_total", "route" => route.name, "status" => status).increment(1);
    metrics::histogram!("pixelward_api_seconds", "route" => route.name)
        .record(started.elapsed().as_secs_f64());
    finished(response)
}

/// Adds the header fields common to all responses: not to be cached by others, and no guessing of types by
/// browsers.
fn finished(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

async fn handled(
    route: &'static Route,
    api: Arc<Api>,
    parameters: &[(String, String)],
    request: Request,
) -> Answered {
    let live = api.host.live();
    let now = Timestamp::now();
    let (parts, body) = request.into_parts();
    let value = |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let controller = value("controller").map(str::parse::<Controller>);
    let named = controller.as_ref().and_then(|controller| controller.as_ref().ok());
    let grant = permitted(route, &api, &live, &parts, named, now)?;
    if let Some(grant) = &grant {
        let settings = &live.config.api;
        let rate = api.rates.take(&grant.id, settings.requests_per_minute, settings.burst, Instant::now());
        rate.map_err(Problem::too_many)?;
        note_use(&api, grant, now);
    }
    let controller = match controller {
        None => None,
        Some(Ok(controller))
            if live.config.policy.rulebook.named(Some(controller.as_str()), None).is_ok() =>
        {
            Some(controller)
        }
        Some(_) => return Err(Problem::not_found("Unknown controller")),
    };
    let person = match value("person") {
        None => None,
        Some(text) => Some(model::person(text).ok_or_else(|| {
            Problem::malformed(
                "person: expected the keyed hash, 32 lower-case hexadecimal digits. Do not put an address \
                 into a path",
            )
        })?),
    };
    let person = match (person, &controller) {
        (Some(shown), Some(controller)) => Some(api.store.outward(controller).meant(shown)),
        (person, _) => person,
    };
    let name = value("name").unwrap_or_default().to_owned();
    let call = Call {
        grant,
        controller,
        person,
        name,
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers.clone(),
        body: Bytes::new(),
        stream: Mutex::new(None),
        now,
        is_of_relay: false,
        live,
        api,
    };
    with_body(route, call, &parts, body).await
}

/// Checks the token, if the route needs one, and returns what it allows.
fn permitted(
    route: &Route,
    api: &Api,
    live: &Live,
    parts: &Parts,
    controller: Option<&Controller>,
    now: Timestamp,
) -> Result<Option<Grant>, Problem> {
    let scope = match route.access {
        Access::Open => return Ok(None),
        Access::AnyToken => None,
        Access::Scope(scope) => Some(scope),
        // The handler verifies the signature of the body.
        Access::SignedOr(scope) => {
            let signed = super::incoming::is_signed(live, controller, &parts.uri);
            if signed && !parts.headers.contains_key(AUTHORIZATION) {
                return Ok(None);
            }
            Some(scope)
        }
    };
    let secret = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer);
    let grant = match secret.map(|secret| api.tokens.verify(secret, now)) {
        Some(Verdict::Granted(grant)) => grant,
        Some(Verdict::Refused) | None => return Err(Problem::unauthorised()),
        Some(Verdict::Unreadable) => {
            return Err(Problem::unavailable("The token file cannot be used; the log says why"));
        }
    };
    let Some(scope) = scope else { return Ok(Some(grant)) };
    if !grant.scopes.contains(&scope) {
        return Err(Problem::forbidden(format!("This token lacks the scope {scope}")));
    }
    if scope.is_of_all() && grant.controller.is_some() {
        return Err(Problem::forbidden(format!("{scope} requires a token for all controllers")));
    }
    let needs_controller = route.path.contains("{controller}");
    if needs_controller && !grant.covers(controller) {
        return Err(Problem::forbidden("The token is for another controller"));
    }
    Ok(Some(grant))
}

fn bearer(header: &str) -> Option<&str> {
    let (scheme, secret) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
}

/// Records, at most once a day, that a token is in use.
fn note_use(api: &Arc<Api>, grant: &Grant, now: Timestamp) {
    let day: String = now.to_string().chars().take(10).collect();
    if api.tokens.is_first_use(&grant.id, &day) {
        let (api, id) = (Arc::clone(api), grant.id.clone());
        tokio::task::spawn_blocking(move || api.tokens.note_use(&id, &day));
    }
}

/// Reads the body as the route requires, and runs the handler.
async fn with_body(route: &'static Route, mut call: Call, parts: &Parts, body: Body) -> Answered {
    let settings = &call.live.config.api;
    let (limit, patience) = (settings.max_body_bytes, settings.request_timeout);
    match route.input {
        Input::Lines(_) => {
            is_typed(&parts.headers, &["application/x-ndjson", "application/jsonl"])?;
            call.stream = Mutex::new(Some(body));
            return (route.handler)(call).await;
        }
        Input::Nothing => {}
        Input::Json(_) | Input::Foreign => is_typed(&parts.headers, &["application/json"])?,
    }
    let length = parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > limit as u64) {
        return Err(Problem::too_large(limit));
    }
    if !matches!(route.input, Input::Nothing) {
        let whole = tokio::time::timeout(patience, Limited::new(body, limit).collect()).await;
        let whole = whole.map_err(|_| Problem::too_slow())?;
        let whole = whole.map_err(|error| match error.is::<http_body_util::LengthLimitError>() {
            true => Problem::too_large(limit),
            false => Problem::malformed("The body is incomplete"),
        })?;
        call.body = whole.to_bytes();
    }
    // In a separate task, so that what has begun is finished and its response kept, whether or not the client
    // still waits.
    let work = tokio::spawn(once(route, call, parts.clone()));
    match tokio::time::timeout(patience, work).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => {
            tracing::error!(route = route.name, "an API request ended in an internal error");
            Err(Problem::internal())
        }
        Err(_) => Err(Problem::unavailable("Timed out; the request may still complete")),
    }
}

/// Runs a write with an idempotency key at most once.
async fn once(route: &'static Route, call: Call, parts: Parts) -> Answered {
    let (true, Some(key)) = (route.is_write(), parts.headers.get("idempotency-key")) else {
        return (route.handler)(call).await;
    };
    let is_visible =
        |key: &&str| KEY_LENGTH.contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    let key = key.to_str().ok().filter(is_visible).ok_or_else(|| {
        Problem::malformed("Idempotency-Key: expected 8 to 128 visible ASCII characters without spaces")
    })?;
    let owner = call.grant.as_ref().map_or("", |grant| grant.id.as_str());
    let key = format!("{owner} {key}");
    let path = parts.uri.path_and_query().map_or("", |target| target.as_str());
    let condition = |name: &str| parts.headers.get(name).map_or(&b""[..], HeaderValue::as_bytes);
    let pieces = [
        parts.method.as_str().as_bytes(),
        path.as_bytes(),
        condition("if-match"),
        condition("if-none-match"),
        &call.body,
    ];
    let fingerprint = fingerprint(&pieces);
    let api = Arc::clone(&call.api);
    match api.replays.turn(key.clone(), fingerprint, Instant::now())? {
        Turn::Again(given) => Ok(given.response()),
        Turn::First(claim) => {
            if !is_first(&api, &key).await? {
                return Err(Problem::done_elsewhere());
            }
            let response = (route.handler)(call).await.unwrap_or_else(Problem::response);
            let (head, body) = response.into_parts();
            let body = body.collect().await.map_err(|_| Problem::internal())?.to_bytes();
            let given = Given { status: head.status, headers: head.headers.clone(), body: body.clone() };
            claim.answered(given);
            Ok(Response::from_parts(head, Body::from(body)))
        }
    }
}

/// Returns whether no other relay has been asked the same before.
async fn is_first(api: &Api, key: &str) -> Result<bool, Problem> {
    let (done, first) = oneshot::channel();
    let name: [&[u8]; 2] = [b"idempotency key", key.as_bytes()];
    let asked = api.store.once_later(&name, replay::KEPT, move |first| {
        let _ = done.send(first);
    });
    asked.map_err(|_| Problem::internal())?;
    first.await.map_err(|_| Problem::internal())
}

fn is_typed(headers: &HeaderMap, wanted: &[&str]) -> Result<(), Problem> {
    let first = wanted.first().copied().unwrap_or_default();
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let fits = wanted.iter().any(|wanted| essence.eq_ignore_ascii_case(wanted));
    fits.then_some(()).ok_or_else(|| Problem::wrong_type(first))
}
