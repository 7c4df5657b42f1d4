//! The page that shows each message before and after, and lets a visitor play the story: open a mail,
//! withdraw, open it again.
//!
//! It loads nothing but its own script: remote images are drawn as boxes, and the browser is told to fetch
//! nothing. Only a browser on this machine is answered.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError};

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST};
use axum::http::{StatusCode, uri::Authority};
use axum::middleware::{Next, from_fn};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use tokio::net::TcpListener;

use super::gate::{self, Heard};
use super::source::source;
use super::told::{Fate, Told};
use super::{Beside, Open, Refused, Seen, Stage, hand_over, samples};
use crate::consent::{State as Said, Timestamp};
use crate::policy::Purpose;
use crate::tracker::Detector;
use crate::web::preview::view;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'self'; connect-src 'self'; \
                      frame-src 'self'; form-action 'self'; img-src data:; base-uri 'none'";
/// The maximum number of loads kept; the oldest are dropped.
const MAX_OPENS: usize = 200;

/// Serves the page. Returns its address.
pub(super) async fn serve(address: SocketAddr, stage: Stage) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let routes = Router::new()
        .route("/", get(show))
        .route("/state", get(state))
        .route("/page.js", get(script))
        .route("/console", get(console))
        .route("/open/{message}", post(open))
        .route("/send", post(send))
        .layer(from_fn(for_this_machine))
        .with_state(Arc::new(stage));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok(address)
}

/// Rejects requests under a name that only leads here, so that no page on the web can read this one.
async fn for_this_machine(request: Request, next: Next) -> Response {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    let is_local = host.is_some_and(|host| {
        let name = host.host().trim_matches(['[', ']']);
        name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    });
    match is_local {
        true => next.run(request).await,
        false => (StatusCode::FORBIDDEN, "The demonstration answers on this machine only.").into_response(),
    }
}

/// Names what is shown, so that the script notices a change.
async fn state(State(stage): State<Arc<Stage>>) -> String {
    let (passed, refused) = stage.gallery.lock().unwrap_or_else(PoisonError::into_inner).counts;
    let opens = stage.opens.lock().unwrap_or_else(PoisonError::into_inner).len();
    let console = matches!(*stage.console.lock().unwrap_or_else(PoisonError::into_inner), Beside::There(_));
    format!("{passed}-{refused}-{}-{opens}-{console}", stage.store.head().count)
}

async fn script() -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/javascript; charset=utf-8")], SCRIPT)
}

/// Signs the browser in to the console.
async fn console(State(stage): State<Arc<Stage>>) -> Response {
    match &*stage.console.lock().unwrap_or_else(PoisonError::into_inner) {
        Beside::There(console) => match console.link() {
            Ok(link) => Redirect::to(&link).into_response(),
            Err(error) => trouble(format!("No link to the console can be made: {error}")),
        },
        Beside::Awaited => trouble("The console is still being built.".to_owned()),
        Beside::Absent => trouble("The console was not built (make build).".to_owned()),
    }
}

/// Loads the gated pixels of a message, as the reader's mail program does when the mail is opened.
async fn open(State(stage): State<Arc<Stage>>, Path(message): Path<usize>) -> Response {
    let pixels = {
        let gallery = stage.gallery.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = gallery.seen.iter().find(|seen| seen.number == message);
        seen.map(|seen| gate::pixels(&seen.after, &stage.site)).unwrap_or_default()
    };
    for pixel in pixels {
        let heard = match gate::load(stage.public, &pixel).await {
            Ok(heard) => heard,
            Err(error) => return trouble(format!("The gate does not answer: {error}")),
        };
        let mut opens = stage.opens.lock().unwrap_or_else(PoisonError::into_inner);
        if opens.len() >= MAX_OPENS {
            opens.remove(0);
        }
        opens.push(Open { message, at: Timestamp::now(), heard });
    }
    Redirect::to(&format!("/#m{message}")).into_response()
}

/// Sends the samples once more.
async fn send(State(stage): State<Arc<Stage>>) -> Response {
    let relay = stage.relay;
    let sent = tokio::task::spawn_blocking(move || hand_over(relay, &samples())).await;
    match sent {
        Ok(Ok(())) => Redirect::to("/").into_response(),
        Ok(Err(error)) => trouble(format!("The newsletters were not sent: {error}")),
        Err(error) => trouble(format!("The newsletters were not sent: {error}")),
    }
}

fn trouble(text: String) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
}

async fn show(State(stage): State<Arc<Stage>>) -> impl IntoResponse {
    let (seen, refused) = {
        let shown = stage.gallery.lock().unwrap_or_else(PoisonError::into_inner);
        (shown.seen.clone(), shown.refused.clone())
    };
    let opens = stage.opens.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let detector = Detector::default();
    let body = html! {
        header {
            h1 { "One newsletter, three answers" }
            p {
                "Ann agreed to tracking, Bob refused, Eve was never asked. The sender sent all of them the \
                 same. Pictures are drawn as boxes: nothing is fetched, and nothing leaves this machine."
            }
        }
        (story(&stage.console.lock().unwrap_or_else(PoisonError::into_inner)))
        main {
            (refusals(&refused))
            @for seen in seen.iter().rev() { (article(&stage, &detector, seen, &opens)) }
        }
    };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "pixelward: before and after" }
                style { (PreEscaped(STYLE)) }
                script src="/page.js" defer {}
            }
            body { (body) }
        }
    };
    ([(CONTENT_SECURITY_POLICY, POLICY), (CACHE_CONTROL, "no-store")], Html(page.into_string()))
}

fn story(console: &Beside) -> Markup {
    html! {
        section id="story" aria-label="Try it" {
            ol {
                li {
                    b { "Open a mail of Ann’s." }
                    " The gate sees that she agreed, and the sender learns of it."
                }
                li { b { "Follow “The reader’s page”" } " in the same mail, and withdraw there." }
                li {
                    b { "Open the mail again." }
                    " It was delivered long ago, and still the sender learns nothing."
                }
                li { b { "Send the newsletters again." } " Whoever chose something gets the mail that fits." }
            }
            div class="acts" {
                form method="post" action="/send" { button { "Send the newsletters again" } }
                @match console {
                    Beside::There(_) => {
                        a href="/console" target="_blank" { "The console, where it can be proved" }
                    }
                    Beside::Awaited => span { "The console is still being built, and will be linked here." }
                    Beside::Absent => {}
                }
            }
        }
    }
}

/// Lists attempts that came to nothing, the newest first.
fn refusals(refused: &[Refused]) -> Markup {
    html! {
        @if !refused.is_empty() {
            article id="refused" {
                h2 { "Refused attempts" }
                ul {
                    @for one in refused.iter().rev() {
                        li class="bad" { (one.recipient) ": " (one.reply) }
                    }
                }
            }
        }
    }
}

fn article(stage: &Stage, detector: &Detector, seen: &Seen, opens: &[Open]) -> Markup {
    let told = Told::of(detector, seen, Some(&stage.site));
    let page = gate::page(&seen.after, &stage.site);
    let ours = "gated pixel: consent is checked at each load";
    let heard: Vec<&Open> = opens.iter().rev().filter(|open| open.message == seen.number).take(6).collect();
    html! {
        article id={ "m" (seen.number) } {
            h2 { (told.subject) }
            p {
                @for address in &seen.recipients {
                    span class="to" { "to " (address) " " (badge(stage, address)) }
                }
                strong { (told.verdict()) }
            }
            div class="acts" {
                @if matches!(told.fate, Fate::Gated(_)) {
                    form method="post" action={ "/open/" (seen.number) } {
                        button { "Open it as the reader’s mail program does" }
                    }
                }
                @if let Some(page) = &page {
                    a href=(page) target="_blank" { "The reader’s page" }
                }
            }
            ul class="opens" role="status" { @for open in heard { (heard_of(open)) } }
            ul { @for tracker in &told.trackers { li class=(class(told.fate)) { (tracker) } } }
            div class="pair" {
                (frame("before", "As it came", &view(detector, &seen.before, None)))
                (frame("after", "As it left", &view(detector, &seen.after, Some((&stage.site, ours)))))
            }
            details id={ "s" (seen.number) } {
                summary { "Header and source: what changed" }
                (source(&seen.before, &seen.after))
            }
        }
    }
}

const fn class(fate: Fate) -> &'static str {
    match fate {
        Fate::Removed => "bad",
        Fate::Gated(_) | Fate::Kept | Fate::Nothing => "good",
    }
}

fn frame(class: &str, caption: &str, document: &str) -> Markup {
    html! {
        figure class=(class) {
            figcaption { (caption) }
            // Measured by the script, which is why it shares the page's origin; nothing runs in it.
            iframe sandbox="allow-same-origin" title=(caption) srcdoc=(document) {}
        }
    }
}

fn heard_of(open: &Open) -> Markup {
    let time = open.at.to_string();
    let time = time.get(11..19).unwrap_or(&time);
    html! {
        @match &open.heard {
            Heard::LedTo(host) => {
                li class="bad" {
                    time { (time) } " UTC: the gate led on to " b { (host) }
                    ". The sender knows that it was opened."
                }
            }
            Heard::Blank => {
                li class="good" {
                    time { (time) } " UTC: the gate answered with a " b { "blank picture" }
                    ". The sender learns nothing."
                }
            }
        }
    }
}

/// Says what currently holds for a person.
fn badge(stage: &Stage, address: &str) -> Markup {
    let standing = stage.store.lookup(&stage.controller, stage.store.person(address));
    let stand = standing.ok().and_then(|standing| standing.of(Purpose::CampaignPerformance).copied());
    let (class, text) = match stand.map(|stand| stand.state) {
        Some(Said::Granted) => ("good", "agreed"),
        Some(Said::Refused) => ("bad", "refused"),
        Some(Said::Withdrawn) => ("bad", "withdrew"),
        Some(Said::Objected) => ("bad", "objected"),
        Some(Said::Asked | Said::NeverAsked) | None => ("", "was never asked"),
    };
    html! { b class={ "badge " (class) } { (text) } }
}
