//! The pages of single sign-on. A browser that returns from the identity provider by POST sends no cookie,
//! because the request is cross-site; so the response is verified first, and the session begins at the page
//! to which the browser is redirected, where its cookie proves that it started the sign-in.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::http::Response;
use axum::http::header::{CONTENT_TYPE, HeaderValue};

use super::failure::Failure;
use super::layout::onward;
use super::saml::Saml;
use super::sign_in::{keep_cookie, let_in};
use super::{Answered, Call, session};
use crate::consent::Timestamp;

/// For how many seconds the browser keeps the cookie of its request.
const REQUEST_COOKIE: u64 = 900;

fn provider(call: &Call) -> Result<Arc<Saml>, Failure> {
    call.console.saml.clone().ok_or(Failure::Nothing)
}

pub(super) async fn metadata(call: Call) -> Answered {
    let mut response = Response::new(Body::from(provider(&call)?.metadata()));
    let kind = HeaderValue::from_static("application/samlmetadata+xml; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}

pub(super) async fn login(call: Call) -> Answered {
    let saml = provider(&call)?;
    // Several windows of one browser share its cookie.
    let is_ours = |id: &String| id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let browser =
        call.request_cookie.clone().filter(is_ours).or_else(session::random).ok_or(Failure::Fault)?;
    let to = saml.login(&browser, Instant::now()).ok_or(Failure::Fault)?;
    let mut response = onward(&to);
    let cookie = call.console.set_cookie(call.console.request_cookie(), &browser, Some(REQUEST_COOKIE));
    keep_cookie(&mut response, &cookie);
    Ok(response)
}

pub(super) async fn accept(call: Call) -> Answered {
    let saml = provider(&call)?;
    let encoded = call.form.value("SAMLResponse").to_owned();
    let work = move || saml.accept(&encoded, Timestamp::now(), Instant::now());
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(key)) => Ok(onward(&format!("/saml/finish?key={key}"))),
        Ok(Err(error)) => {
            tracing::warn!(%error, "a response of the identity provider was rejected");
            Err(Failure::NotLetIn)
        }
        Err(_) => {
            tracing::error!("a response of the identity provider caused an internal error");
            Err(Failure::NotLetIn)
        }
    }
}

pub(super) async fn finish(call: Call) -> Answered {
    let saml = provider(&call)?;
    let browser = call.request_cookie.clone().unwrap_or_default();
    match saml.finish(call.asked("key"), &browser, Instant::now()) {
        Some(newcomer) => let_in(&call, newcomer).await,
        None => {
            tracing::warn!("a browser that did not start the sign-in, or is too late, tried to complete it");
            Err(Failure::NotLetIn)
        }
    }
}

pub(super) async fn logout(call: Call) -> Answered {
    let saml = provider(&call)?;
    // The confirmation that the identity provider has ended its session needs no action: ours is already
    // over.
    if !call.asked("SAMLResponse").is_empty() {
        return Ok(onward("/signed-out"));
    }
    match saml.ending(&call.raw_query, Timestamp::now()) {
        Ok(ending) => {
            let ended = call.console.sessions.close_where(|session| ending.fits(session), Instant::now());
            tracing::info!(ended, "the identity provider ended sessions");
            Ok(onward(ending.onward.as_deref().unwrap_or("/signed-out")))
        }
        Err(error) => {
            tracing::warn!(%error, "a logout request was rejected");
            Err(Failure::NotLetIn)
        }
    }
}
