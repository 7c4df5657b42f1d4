//! The parts that all pages share: head, navigation and foot.

use axum::body::Body;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderValue, LOCATION};
use axum::http::{Response, StatusCode};
use maud::{DOCTYPE, Markup, html};
use serde_json::Value;

use super::failure::Failure;
use super::session::Session;
use super::text::{Language, Text};
use super::{Answered, Call, Console};

/// A page in the navigation.
type Way = (&'static str, Text);

/// The groups of the navigation and their pages, in order.
const GROUPS: &[(Text, &[Way])] = &[
    (
        Text("Mail", "E-Mails", "E-mails"),
        &[
            ("/", Text("Overview", "Übersicht", "Aperçu")),
            ("/messages", Text("Messages", "Nachrichten", "Messages")),
            ("/trackers", Text("Trackers", "Tracker", "Traceurs")),
            ("/delivery", Text("Delivery", "Zustellung", "Acheminement")),
        ],
    ),
    (Text("People", "Personen", "Personnes"), &[("/person", Text("Person", "Person", "Personne"))]),
    (
        Text("Rules", "Regeln", "Règles"),
        &[
            ("/streams", Text("Rules in force", "Geltende Regeln", "Règles en vigueur")),
            ("/history", Text("History", "Verlauf", "Historique")),
            ("/what-if", Text("What if", "Test", "Simulation")),
            ("/report", Text("Report", "Bericht", "Rapport")),
        ],
    ),
    (
        Text("System", "System", "Système"),
        &[
            (CLUSTER, Text("Cluster", "Verbund", "Grappe")),
            ("/audit", Text("Audit", "Prüfprotokoll", "Journal d’audit")),
            ("/account", Text("Account", "Konto", "Compte")),
        ],
    ),
];

/// The page about other relays, where there are any.
const CLUSTER: &str = "/cluster";

/// The query of a page that refreshes itself.
pub(super) const RENEWAL: &str = "renewal=1";

/// A page and how it is shown.
pub(super) struct Page {
    pub(super) title: String,
    /// After how many seconds it refreshes itself.
    pub(super) refresh: Option<u32>,
    pub(super) content: Markup,
}

impl Page {
    pub(super) fn new(title: &str, content: Markup) -> Page {
        Page { title: title.to_owned(), refresh: None, content }
    }
}

/// Builds the response with the page.
pub(super) fn shown(call: &Call, page: &Page) -> Response<Body> {
    answer(StatusCode::OK, call, page)
}

/// Builds the response with the page, where the request lacked something.
pub(super) fn corrected(call: &Call, page: &Page) -> Response<Body> {
    answer(StatusCode::BAD_REQUEST, call, page)
}

/// Builds the page about a failure.
pub(super) fn failure(call: &Call, failure: &Failure) -> Response<Body> {
    if let Failure::Api(error) = failure {
        tracing::warn!(%error, path = call.path, "a page could not be built");
    }
    let title = failure.title(call.language);
    let content = html! {
        h1 { (title) }
        p { (failure.advice(call.language)) }
        @if *failure == Failure::SignedOut {
            p { a class="button" href="/login" { (call.say(&Text("Sign in", "Anmelden", "Se connecter"))) } }
        } @else {
            p { a href="/" { (call.say(&Text("To the overview", "Zur Übersicht", "Vers l’aperçu"))) } }
        }
    };
    answer(failure.status(), call, &Page::new(title, content))
}

/// Redirects to another page.
pub(super) fn onward(to: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let to = HeaderValue::try_from(to).unwrap_or(HeaderValue::from_static("/"));
    response.headers_mut().insert(LOCATION, to);
    response
}

fn answer(status: StatusCode, call: &Call, page: &Page) -> Response<Body> {
    let markup = html! {
        (DOCTYPE)
        html lang=(call.language.code()) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="robots" content="noindex";
                title { (page.title) " – pixelward" }
                link rel="icon" type="image/svg+xml" href="/mark.svg";
                link rel="stylesheet" href="/style.css";
                script src="/console.js" defer {}
            }
            body {
                a class="skip" href="#content" {
                    (call.say(&Text("Skip to content", "Zum Inhalt", "Vers le contenu")))
                }
                header {
                    a class="brand" href=(call.to("/")) { (mark()) "pixelward" }
                    @if let Some(session) = &call.session { (groups(call, session)) (chooser(call)) }
                }
                @if let Some(session) = &call.session { (ways(call, session)) }
                main id="content" data-renew=[page.refresh] { (page.content) }
                @if let Some(session) = &call.session { (foot(call, session)) }
            }
        }
    };
    let mut response = Response::new(Body::from(markup.into_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

/// Draws the mark: an envelope from which a pixel was taken.
fn mark() -> Markup {
    html! {
        svg viewBox="0 0 24 24" aria-hidden="true" {
            path class="ground" d="M4 3h16a2 2 0 0 1 2 2v8h-5v5H4a2 2 0 0 1-2-2V5a2 2 0 0 1 2-2z" {}
            path class="flap" d="M6 8l6 4.5L18 8" {}
            rect class="ground" width="4" height="4" x="18.5" y="16.5" {}
        }
    }
}

/// Returns the content security policy of a page, with its sources of styles, images and frames.
pub(super) fn policy(console: &Console, sources: &str) -> HeaderValue {
    let to = console.form_targets();
    let text = format!(
        "default-src 'none'; script-src 'self'; connect-src 'self'; {sources}; form-action 'self'{to}; \
         frame-ancestors 'none'; base-uri 'none'"
    );
    HeaderValue::try_from(text)
        .unwrap_or(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"))
}

/// Returns whether a page, or one below it, is shown.
fn is_here(call: &Call, path: &str) -> bool {
    call.path == path || path != "/" && call.path.starts_with(&format!("{path}/"))
}

/// Returns the pages of a group that are open to the session.
fn open_ways(call: &Call, session: &Session, ways: &'static [Way]) -> Vec<&'static Way> {
    let is_there = |path| path != CLUSTER || call.is_cluster;
    ways.iter().filter(|(path, _)| is_there(*path) && (call.is_open)(session, path)).collect()
}

/// Renders the groups of pages that are open to the session.
fn groups(call: &Call, session: &Session) -> Markup {
    let open = GROUPS.iter().map(|(name, ways)| (name, open_ways(call, session, ways)));
    html! {
        nav aria-label=(call.say(&Text("Groups of pages", "Seitengruppen", "Groupes de pages"))) {
            @for (name, ways) in open {
                @if let Some((path, _)) = ways.first() {
                    @let is_current = ways.iter().any(|(path, _)| is_here(call, path));
                    a href=(call.to(path)) aria-current=[is_current.then_some("true")] { (call.say(name)) }
                }
            }
        }
    }
}

/// Renders the pages of the group that is shown, if it has several.
fn ways(call: &Call, session: &Session) -> Markup {
    let is_shown = |ways: &[Way]| ways.iter().any(|(path, _)| is_here(call, path));
    let group = GROUPS.iter().find(|(_, ways)| is_shown(ways));
    let ways = group.map(|(_, ways)| open_ways(call, session, ways)).unwrap_or_default();
    html! {
        @if ways.len() > 1 {
            nav class="pages" aria-label=(call.say(&Text("Pages", "Seiten", "Pages"))) {
                @for (path, name) in ways {
                    a href=(call.to(path)) aria-current=[is_here(call, path).then_some("page")] {
                        (call.say(name))
                    }
                }
            }
        }
    }
}

/// Renders the choice of a controller, if there are several.
fn chooser(call: &Call) -> Markup {
    html! {
        @if call.controllers.len() > 1 && !call.controller.is_empty() {
            form class="chooser" method="get" action=(call.path) {
                label for="chosen" { (call.say(&Text("Controller", "Verantwortlicher", "Responsable"))) }
                select id="chosen" name="controller" {
                    @for controller in &call.controllers {
                        option value=(controller) selected[*controller == call.controller] { (controller) }
                    }
                }
                button { (call.say(&Text("Show", "Zeigen", "Afficher"))) }
            }
        }
    }
}

fn foot(call: &Call, session: &Session) -> Markup {
    html! {
        footer {
            p { (session.subject) " · " (session.rights.described()) }
            form method="post" action="/language" {
                (token(call, "/language"))
                input type="hidden" name="back" value=(call.path);
                @for language in Language::ALL {
                    button class="link" name="language" value=(language.code()) lang=(language.code())
                        aria-pressed=(if language == call.language { "true" } else { "false" }) {
                            (language.name())
                        }
                }
            }
            form method="post" action="/logout" {
                (token(call, "/logout"))
                button class="link" { (call.say(&Text("Sign out", "Abmelden", "Se déconnecter"))) }
            }
        }
    }
}

/// Renders the field that proves that a form is ours.
pub(super) fn token(call: &Call, path: &str) -> Markup {
    html! { input type="hidden" name="token" value=(call.token(path)); }
}

impl Call {
    /// Returns a text in the language of the request.
    pub(super) fn say(&self, text: &Text) -> &'static str {
        self.language.say(text)
    }
}

/// Returns the fragment by which a page is scrolled to something of this kind and name.
pub(super) fn anchor(kind: &str, name: &str) -> String {
    let letter =
        |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' };
    format!("{kind}-{}", name.chars().map(letter).collect::<String>())
}

/// Sends JSON to be saved as a file.
pub(super) fn download(value: &Value, name: &str) -> Answered {
    let body = serde_json::to_vec_pretty(value).map_err(|_| Failure::Fault)?;
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let disposition =
        HeaderValue::try_from(format!("attachment; filename=\"{name}\"")).map_err(|_| Failure::Fault)?;
    headers.insert(CONTENT_DISPOSITION, disposition);
    Ok(response)
}
