//! What readers reach: our pixels in mail, and the page on which they choose.
//!
//! Promised: the response of a pixel reveals only whether that very pixel may redirect now; in every other
//! case it is the same image. Nothing but a POST changes what a person said. Every page has the same length,
//! and pages and pixels leave at fixed steps after their request, whoever they belong to. No address, agent
//! or token gets into the log or the metrics: requests are counted only by route.

mod choice;
pub(crate) mod face;
mod form;
mod notice;
mod page;
mod path;
mod pixel;
pub mod preview;
mod renew;
mod texts;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
};
use axum::http::request::Parts;
use axum::http::{Method, Response, StatusCode};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

use crate::consent::store::identity::Identity;
use crate::consent::{Store, StoreKey, Timestamp};
use crate::live::{Host, Live};
use crate::policy::Language;
pub use face::Face;
use page::{Context, View};
use path::Asked;

/// The maximum number of choices on their way to the store. Together with those of the API they are fewer
/// than its queue holds.
const WRITES: usize = 256;
/// The step for pixels, which leave at a multiple of it after their request; pages and responses to a POST
/// have longer steps than it takes to make them.
const STEP_OF_PIXEL: Duration = Duration::from_micros(50);
const STEP: Duration = Duration::from_millis(20);
const STEP_OF_POST: Duration = Duration::from_millis(200);

/// The state shared by all requests.
pub struct Public {
    host: Arc<dyn Host>,
    store: Arc<Store>,
    forms: form::Forms,
    letters: renew::Letters,
    writes: Semaphore,
    mark: String,
}

impl std::fmt::Debug for Public {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Public(…)")
    }
}

/// Returns what `/c/ping` answers if this very relay is reached: a mark derived from the secret of its tokens
/// and the identity of its store.
pub fn mark(secret: &StoreKey, store: &Identity) -> String {
    hex::encode(secret.tag(&[b"ping", store]))
}

impl Public {
    /// Creates the shared state.
    pub fn new(host: Arc<dyn Host>, store: Arc<Store>) -> Arc<Public> {
        describe();
        let secret = store.derived_key(crate::rewrite::reader_token::Mint::LABEL);
        Arc::new(Public {
            forms: form::Forms::new(&secret),
            letters: renew::Letters::default(),
            writes: Semaphore::new(WRITES),
            mark: mark(&secret, &store.identity()),
            host,
            store,
        })
    }

    /// Returns whether no other relay has done something that is to be done once within this time.
    async fn is_first(&self, name: &[&[u8]], within: Duration) -> bool {
        let (done, first) = oneshot::channel();
        let asked = self.store.once_later(name, within, move |first| {
            let _ = done.send(first);
        });
        asked.is_ok() && first.await.unwrap_or(true)
    }

    /// Returns what `/c/ping` answers.
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// Answers every path: a path may begin with whatever the controller's `public_url` contains, so it is
    /// read from its end.
    pub fn router(self: &Arc<Public>) -> axum::Router {
        let pages = Arc::clone(self);
        axum::Router::new().fallback(move |request: Request| {
            let pages = Arc::clone(&pages);
            async move { pages.answer(request).await }
        })
    }

    async fn answer(self: &Arc<Public>, request: Request) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let asked = Asked::of(&path);
        metrics::counter!("pixelward_public_requests_total", "route" => asked.route()).increment(1);
        let live = self.host.live();
        let step = if request.method() == Method::POST { STEP_OF_POST } else { STEP };
        match asked {
            Asked::Pixel(..) if pixel::is_visit(request.headers()) => {
                in_step(step, async { visited(&self.visitor(request, &live)) }).await
            }
            Asked::Pixel(kind, token) => {
                let start = Instant::now();
                let response = self.pixel(request.method(), kind, token, Timestamp::now());
                let due = step_end(start, STEP_OF_PIXEL);
                // Timers are too coarse for that; other tasks run meanwhile.
                while Instant::now() < due {
                    tokio::task::yield_now().await;
                }
                response
            }
            Asked::Link(token) => {
                in_step(step, async {
                    let led = self.link(request.method(), token, Timestamp::now());
                    led.unwrap_or_else(|| page_of(&self.visitor(request, &live), &View::Unusable))
                })
                .await
            }
            Asked::Page(token) => in_step(step, self.preferences(request, token, &live)).await,
            Asked::Refuse(token) => in_step(step, self.refusal(request, token, &live)).await,
            Asked::OneClick(token) => in_step(step, self.one_click(request, token, &live)).await,
            Asked::NewLink => in_step(step, self.new_link(request, &live)).await,
            Asked::Ping => plain(StatusCode::OK, self.mark.clone()),
            Asked::Logo(name) => logo(&live, name),
            Asked::Nothing => {
                let (parts, _) = request.into_parts();
                let context = self.context(self.host_face(&parts, &live).unwrap_or(Face::nobody()), &parts);
                let mut response = page_of(&context, &View::NoPage);
                *response.status_mut() = StatusCode::NOT_FOUND;
                response
            }
        }
    }

    /// Shows the page for someone who opens a pixel's address: that of the controller whose host it is,
    /// whatever the token says.
    fn visitor<'a>(&self, request: Request, live: &'a Live) -> Context<'a> {
        let (parts, _) = request.into_parts();
        let context = self.context(self.host_face(&parts, live).unwrap_or(Face::nobody()), &parts);
        // Logos are found relative to preference pages.
        let logo = if context.logo.is_empty() { String::new() } else { format!("../c/{}", context.logo) };
        Context { logo, ..context }
    }

    /// Builds the page of a controller in the language that a request asks for.
    fn context<'a>(&self, face: &'a Face, parts: &Parts) -> Context<'a> {
        let pairs = url_pairs(parts.uri.query().unwrap_or_default());
        let asked = pairs.filter(|(name, _)| *name == "lang").find_map(|(_, code)| Language::of(code));
        let accept = parts.headers.get("accept-language").and_then(|value| value.to_str().ok());
        let language = asked.or_else(|| accept.and_then(Language::wanted)).unwrap_or(face.default);
        let mut pairs = url_pairs(parts.uri.query().unwrap_or_default());
        let is_unfolded = pairs.any(|(name, about)| name == "about" && about == "links");
        let logo = face.logo.as_ref().map_or(String::new(), |_| format!("logo/{}", face.name));
        Context { face, language, logo, is_unfolded, page: String::new() }
    }

    /// Finds the controller whose pages a request reaches.
    fn host_face<'a>(&self, parts: &Parts, live: &'a Live) -> Option<&'a Face> {
        live.face(&self.host_controller(parts, live)?.name)
    }
}

/// Returns the names and values of a query, undecoded.
fn url_pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').take(16).filter_map(|part| part.split_once('='))
}

/// Answers at a multiple of a step after the request, so that the time reveals nothing about what was done.
async fn in_step(step: Duration, work: impl Future<Output = Response<Body>>) -> Response<Body> {
    let start = Instant::now();
    let response = work.await;
    tokio::time::sleep_until(step_end(start, step)).await;
    response
}

/// Returns the first multiple of a step after a moment that is still to come.
fn step_end(start: Instant, step: Duration) -> Instant {
    let steps = u32::try_from(start.elapsed().as_nanos() / step.as_nanos()).unwrap_or(0);
    start + step.saturating_mul(steps.saturating_add(1))
}

/// Builds a page for readers.
fn page_of(context: &Context<'_>, view: &View<'_>) -> Response<Body> {
    let mut response = Response::new(Body::from(context.page(view)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    if let Ok(policy) = HeaderValue::try_from(page::SECURITY.as_str()) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    private(response)
}

/// Builds the page that explains what a pixel is.
fn visited(context: &Context<'_>) -> Response<Body> {
    page_of(context, &View::Pixel)
}

/// Builds a line of text for programs.
fn plain(status: StatusCode, text: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    private(response)
}

/// Adds the header fields of every response except images: it is not cached or indexed, and its address is
/// not passed on as a referrer.
fn private(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(HeaderName::from_static("x-robots-tag"), HeaderValue::from_static("noindex, nofollow"));
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    response
}

/// Serves the logo of a controller, which is no secret.
fn logo(live: &Live, name: &str) -> Response<Body> {
    let face = name.parse().ok().and_then(|controller| live.face(&controller));
    let Some(logo) = face.and_then(|face| face.logo.as_ref()) else {
        return plain(StatusCode::NOT_FOUND, "There is nothing under this address.\n");
    };
    let mut response = Response::new(Body::from(logo.bytes.clone()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(logo.kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=3600"));
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    response
}

fn describe() {
    metrics::describe_counter!(
        "pixelward_public_requests_total",
        "Requests to the public listener by route; pixels are not distinguished by their response"
    );
}
