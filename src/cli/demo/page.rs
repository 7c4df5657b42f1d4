//! The page that shows each message before and after. It loads nothing: remote images are drawn as boxes, and
//! the browser is told to fetch nothing.

use std::net::SocketAddr;
use std::sync::PoisonError;

use axum::Router;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY};
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use tokio::net::TcpListener;

use super::{Gallery, Refused, Seen};
use crate::message::subject;
use crate::tracker::{Detector, Inquiry, Sighting, Verdict};
use crate::web::preview::{escaped, view};

/// Describes a message.
pub(in crate::cli) struct Told {
    pub(super) to: String,
    pub(super) subject: String,
    pub(in crate::cli) removed: Vec<String>,
    pub(super) kept: Vec<String>,
}

impl Told {
    pub(in crate::cli) fn of(detector: &Detector, seen: &Seen) -> Told {
        let recipients: Vec<&str> = seen.recipients.iter().map(String::as_str).collect();
        let before = detector.analyse(&seen.before, &Inquiry::to(&recipients));
        let trackers = before.sightings.iter().filter(|sighting| sighting.verdict == Verdict::Tracker);
        let described: Vec<String> = trackers.map(|sighting| describe(detector, sighting)).collect();
        let changed = seen.before != seen.after;
        Told {
            to: seen.recipients.join(", "),
            subject: subject(&seen.before),
            removed: if changed { described.clone() } else { Vec::new() },
            kept: if changed { Vec::new() } else { described },
        }
    }
}

fn describe(detector: &Detector, sighting: &Sighting) -> String {
    let vendor = sighting.vendor.map_or("an unknown service", |vendor| detector.catalogue().name(vendor));
    let host = sighting.url.split('/').next().unwrap_or_default();
    let facts: Vec<&str> =
        sighting.signals.iter().filter(|signal| signal.weight() > 0).map(|signal| signal.text()).collect();
    let why = if facts.is_empty() { "it asks for a receipt".to_owned() } else { facts.join(", ") };
    format!("{} of {vendor} at {host}: {why}", sighting.carrier)
}

/// Serves the page.
pub(super) async fn serve(address: SocketAddr, gallery: Gallery) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let routes = Router::new().route("/", get(show)).with_state(gallery);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok(address)
}

async fn show(State(gallery): State<Gallery>) -> impl IntoResponse {
    let (seen, refused) = {
        let shown = gallery.lock().unwrap_or_else(PoisonError::into_inner);
        (shown.seen.clone(), shown.refused.clone())
    };
    let detector = Detector::default();
    let rows: String = seen.iter().rev().map(|seen| row(&detector, seen)).collect();
    let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; img-src data:";
    let refused = refusals(&refused);
    let page = PAGE
        .replace("{refused}", &refused)
        .replace("{rows}", &rows)
        .replace("{count}", &seen.len().to_string());
    ([(CONTENT_SECURITY_POLICY, policy), (CACHE_CONTROL, "no-store")], Html(page))
}

/// Lists attempts that came to nothing, the newest first.
fn refusals(refused: &[Refused]) -> String {
    if refused.is_empty() {
        return String::new();
    }
    let item = |one: &Refused| {
        format!("<li class=\"removed\">{}: {}</li>", escaped(&one.recipient), escaped(&one.reply))
    };
    let items: String = refused.iter().rev().map(item).collect();
    format!("<article><h2>Refused attempts</h2><ul>{items}</ul></article>")
}

fn row(detector: &Detector, seen: &Seen) -> String {
    let told = Told::of(detector, seen);
    let list = |class: &str, items: &[String]| -> String {
        items.iter().map(|item| format!("<li class=\"{class}\">{}</li>", escaped(item))).collect()
    };
    let verdict = match (told.removed.len(), told.kept.len()) {
        (0, 0) => "nothing found, nothing changed".to_owned(),
        (0, kept) => format!("{kept} kept because the person agreed"),
        (removed, _) => format!("{removed} removed"),
    };
    format!(
        "<article><h2>{}</h2><p>to {} <strong>{verdict}</strong></p><ul>{}{}</ul><div \
         class=\"pair\"><figure><figcaption>before</figcaption><iframe sandbox title=\"The message before\" \
         srcdoc=\"{}\"></iframe></figure><figure><figcaption>after</figcaption><iframe sandbox title=\"The \
         message after\" srcdoc=\"{}\"></iframe></figure></div></article>",
        escaped(&told.subject),
        escaped(&told.to),
        list("removed", &told.removed),
        list("kept", &told.kept),
        escaped(&view(detector, &seen.before, None)),
        escaped(&view(detector, &seen.after, None)),
    )
}

const PAGE: &str = r#"<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>pixelward: before and after</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root{color-scheme:light dark;--line:#ccc;--page:#fff;--text:#1a1a1a;--soft:#666;--bad:#b00020;--good:#0a6b2d}
@media(prefers-color-scheme:dark){:root{--line:#444;--page:#16181a;--text:#eee;--soft:#aaa;--bad:#ff6b7f;
--good:#6fd38d}}
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:1200px;padding:1.5rem;background:var(--page);
color:var(--text)}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:0}p{margin:.2rem 0;color:var(--soft)}
p strong{color:var(--text);margin-left:.6rem}
article{border-top:1px solid var(--line);padding:1.2rem 0}ul{margin:.3rem 0;padding-left:1.2rem}
.removed{color:var(--bad)}.kept{color:var(--good)}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:1rem}
@media(max-width:700px){.pair{grid-template-columns:1fr}}
figure{margin:0}figcaption{color:var(--soft);font-size:.85rem}iframe{width:100%;height:420px;
border:1px solid var(--line);background:#fff;border-radius:4px}
</style></head><body>
<h1>Before and after</h1>
<p>{count} messages, the newest first. Pictures are drawn as boxes: nothing is fetched. Reload the page
after sending mail.</p>
{refused}{rows}</body></html>
"#;
