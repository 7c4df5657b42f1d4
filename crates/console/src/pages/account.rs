//! The person signed in and, for operators, all others.

use std::time::Instant;

use maud::html;

use crate::config::console::Role;
use crate::layout::{Page, onward, shown, token};
use crate::text::{Language, Text};
use crate::trail::{Deed, note};
use crate::{Answered, Call};

pub(crate) async fn page(call: Call) -> Answered {
    let session = call.session()?;
    let title = call.say(&Text("Account", "Konto", "Compte"));
    let is_operator = session.rights.allow_all(&[Role::Operator]);
    let all = if is_operator { call.console.sessions.all(Instant::now()) } else { Vec::new() };
    let content = html! {
        h1 { (title) }
        dl {
            dt { (call.say(&Text("Signed in as", "Angemeldet als", "Connecté comme"))) }
            dd { (session.subject) }
            dt { (call.say(&Text("Roles", "Rollen", "Rôles"))) }
            dd {
                @if session.rights.is_empty() {
                    (call.say(&Text(
                        "none: nothing can be seen until somebody gives you one",
                        "keine: nichts ist zu sehen, bis Ihnen jemand eine gibt",
                        "aucun : rien n’est visible tant que personne ne vous en donne",
                    )))
                } @else { (session.rights.described()) }
            }
            dt { (call.say(&Text("Since", "Seit", "Depuis"))) }
            dd { (call.language.moment(&session.since.to_string())) }
        }
        @if is_operator {
            h2 { (call.say(&Text("Who is signed in", "Wer angemeldet ist", "Qui est connecté"))) }
            div class="wide" tabindex="0" { table class="flow" {
                thead { tr {
                    th scope="col" { (call.say(&Text("Who", "Wer", "Qui"))) }
                    th scope="col" { (call.say(&Text("Roles", "Rollen", "Rôles"))) }
                    th scope="col" { (call.say(&Text("Since", "Seit", "Depuis"))) }
                    th scope="col" { (call.say(&Text("End", "Beenden", "Terminer"))) }
                } }
                tbody {
                    @for session in &all {
                        tr {
                            th scope="row" { (session.subject) }
                            td { (session.rights.described()) }
                            td { (call.language.moment(&session.since.to_string())) }
                            td {
                                form method="post" action="/account/end" {
                                    (token(&call, "/account/end"))
                                    input type="hidden" name="session" value=(session.name);
                                    button
                                        aria-label=(format!("{} {}", call.say(&Text(
                                            "End the session of",
                                            "Sitzung beenden von",
                                            "Terminer la session de",
                                        )), session.subject)) {
                                        (call.say(&Text("End", "Beenden", "Terminer")))
                                    }
                                }
                            }
                        }
                    }
                }
            } }
        }
    };
    Ok(shown(&call, &Page::new(title, content)))
}

pub(crate) async fn language(call: Call) -> Answered {
    if let (Some(id), Some(language)) = (&call.id, Language::of(call.form.value("language"))) {
        call.console.sessions.speak(id, language, Instant::now());
    }
    // Only to a path of the console.
    let back = call.form.value("back");
    let is_path = back.starts_with('/')
        && !back.starts_with("//")
        && back.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    Ok(onward(if is_path { back } else { "/" }))
}

pub(crate) async fn end(call: Call) -> Answered {
    let name = call.form.value("session");
    note(&call, Deed::of("session.ended", name)).await?;
    let ended = call.console.sessions.close_where(|session| session.name == name, Instant::now());
    tracing::info!(ended, "sessions were ended by an operator");
    Ok(onward("/account"))
}
