//! Signs people in and out.

use std::time::Instant;

use axum::body::Body;
use axum::http::Response;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, SET_COOKIE};
use maud::html;

use super::failure::Failure;
use super::layout::{Page, onward, shown};
use super::rights::Rights;
use super::session::Newcomer;
use super::text::Text;
use super::trail::{Deed, write};
use super::{Answered, Call};
use crate::consent::Timestamp;
use crate::net::link;

/// The style of all pages.
const STYLE: &str = include_str!("style.css");

/// The script that refreshes pages.
const SCRIPT: &str = include_str!("console.js");

pub(super) async fn style(_: Call) -> Answered {
    shipped(STYLE, "text/css; charset=utf-8")
}

/// The mark, for the browser's tab.
const MARK: &str = include_str!("mark.svg");

pub(super) async fn mark(_: Call) -> Answered {
    shipped(MARK, "image/svg+xml")
}

pub(super) async fn script(_: Call) -> Answered {
    shipped(SCRIPT, "text/javascript; charset=utf-8")
}

fn shipped(text: &'static str, kind: &'static str) -> Answered {
    let mut response = Response::new(Body::from(text));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, max-age=300"));
    Ok(response)
}

pub(super) async fn page(call: Call) -> Answered {
    let title = call.say(&Text("Sign in", "Anmelden", "Se connecter"));
    if call.console.saml.is_some() {
        let content = html! {
            h1 { (title) }
            p {
                a class="button" href="/saml/login" {
                    (call.say(&Text(
                        "Sign in with your organisation",
                        "Mit Ihrer Organisation anmelden",
                        "Se connecter avec votre organisation",
                    )))
                }
            }
        };
        return Ok(shown(&call, &Page::new(title, content)));
    }
    let content = html! {
        h1 { (title) }
        p { (call.say(&Text(
            "Single sign-on is not configured. On this machine, this command prints a one-time link:",
            "Hier gibt es kein Single Sign-on. Auf diesem Rechner gibt dieser Befehl einen Link aus, der \
             nur einmal gilt:",
            "Il n’y a pas d’authentification unique ici. Sur cette machine, cette commande affiche un lien \
             qui sert une fois :",
        ))) }
        pre { code { "pixelward console-link" } }
    };
    Ok(shown(&call, &Page::new(title, content)))
}

/// Opening a link changes nothing: programs that check links beforehand do not use it up.
pub(super) async fn link(call: Call) -> Answered {
    if call.console.config.saml.is_some() {
        return Err(Failure::Nothing);
    }
    let title = call.say(&Text("Sign in", "Anmelden", "Se connecter"));
    let content = html! {
        h1 { (title) }
        p {
            (call.say(&Text("This link works once.", "Dieser Link zählt einmal.", "Ce lien sert une fois.")))
        }
        form method="post" action="/login/link" {
            input type="hidden" name="secret" value=(call.asked("secret"));
            button { (title) }
        }
    };
    Ok(shown(&call, &Page::new(title, content)))
}

pub(super) async fn take_link(call: Call) -> Answered {
    if call.console.config.saml.is_some() {
        return Err(Failure::Nothing);
    }
    let folder = call.console.config.data_directory.clone();
    let secret = call.form.value("secret").to_owned();
    let taken = tokio::task::spawn_blocking(move || link::take(&folder, &secret, Timestamp::now())).await;
    match taken {
        Ok(Ok(link::Shown::Good)) => {
            let newcomer = Newcomer {
                subject: "one-time link".to_owned(),
                rights: Rights::everything(),
                saml: None,
                at_most: None,
            };
            let_in(&call, newcomer).await
        }
        Ok(Ok(link::Shown::Refused)) => {
            tracing::warn!("an invalid one-time link was used");
            Err(Failure::NotLetIn)
        }
        Ok(Err(error)) => {
            tracing::error!(%error, "a one-time link cannot be checked");
            Err(Failure::Fault)
        }
        Err(_) => {
            tracing::error!("an internal error occurred while checking a one-time link");
            Err(Failure::Fault)
        }
    }
}

/// Signs a person in under a new id, and ends the browser's previous session.
pub(super) async fn let_in(call: &Call, newcomer: Newcomer) -> Answered {
    let (console, now) = (&call.console, Instant::now());
    let roles = newcomer.rights.described();
    write(console, &newcomer.subject, None, Deed::of("session.opened", &roles)).await?;
    call.id.iter().for_each(|id| drop(console.sessions.close(id, now)));
    let id = console.sessions.open(newcomer, now).ok_or_else(|| {
        tracing::error!("nobody can sign in: no randomness is available");
        Failure::Fault
    })?;
    tracing::info!(%roles, "a person signed in");
    let mut response = onward("/");
    keep_cookie(&mut response, &console.set_cookie(console.cookie(), &id, None));
    Ok(response)
}

pub(super) async fn out(call: Call) -> Answered {
    let console = &call.console;
    call.id.iter().for_each(|id| drop(console.sessions.close(id, Instant::now())));
    let federated = call.session.as_ref().and_then(|session| session.saml.as_ref());
    let elsewhere = console.saml.as_ref().zip(federated).and_then(|(saml, federated)| saml.logout(federated));
    let mut response = onward(elsewhere.as_deref().unwrap_or("/signed-out"));
    keep_cookie(&mut response, &console.set_cookie(console.cookie(), "", Some(0)));
    Ok(response)
}

pub(super) async fn signed_out(call: Call) -> Answered {
    let title = call.say(&Text("Signed out", "Abgemeldet", "Déconnecté"));
    let content = html! {
        h1 { (title) }
        p {
            a class="button" href="/login" {
                (call.say(&Text("Sign in again", "Wieder anmelden", "Se reconnecter")))
            }
        }
    };
    Ok(shown(&call, &Page::new(title, content)))
}

/// Sets a cookie.
pub(super) fn keep_cookie(response: &mut Response<Body>, cookie: &str) {
    if let Ok(value) = HeaderValue::try_from(cookie) {
        response.headers_mut().append(SET_COOKIE, value);
    }
}
