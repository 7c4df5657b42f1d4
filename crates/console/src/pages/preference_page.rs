//! Previews the preference page of a controller.

use axum::http::header::CONTENT_SECURITY_POLICY;
use maud::{Markup, html};
use serde_json::Value;

use crate::layout::policy;
use crate::layout::{Page, shown};
use crate::policy::Language;
use crate::text::Text;
use crate::value::text;
use crate::{Answered, Call};

/// The available views, as the API names them.
const VIEWS: [(&str, Text); 21] = [
    ("unknown", Text("someone who never answered", "wer nichts gesagt hat", "qui n’a rien dit")),
    ("granted", Text("who agreed", "wer zugestimmt hat", "qui a accepté")),
    ("refused", Text("someone who refused", "wer abgelehnt hat", "qui a refusé")),
    ("old-link", Text("an old link", "mit einem alten Link", "avec un ancien lien")),
    ("recorded", Text("after a choice", "nach einer Wahl", "après un choix")),
    ("stopped", Text("after a refusal", "nach einer Ablehnung", "après un refus")),
    ("unusable", Text("an invalid link", "mit einem Link, der keiner ist", "avec un lien inutilisable")),
    ("new-link", Text("without a link", "ohne Link", "sans lien")),
    (
        "new-link-sent",
        Text("after asking for a link", "nach der Bitte um einen Link", "après avoir demandé un lien"),
    ),
    (
        "expired",
        Text("whose consent expired", "mit abgelaufener Einwilligung", "dont le consentement a expiré"),
    ),
    (
        "nothing-chosen",
        Text("after no answer", "ohne Antwort im Formular", "sans réponse dans le formulaire"),
    ),
    (
        "form-used",
        Text(
            "after the same form twice",
            "nach einem Formular zweimal",
            "après un formulaire envoyé deux fois",
        ),
    ),
    (
        "trouble",
        Text(
            "when nothing can be saved",
            "wenn nichts gespeichert werden kann",
            "quand rien ne s’enregistre",
        ),
    ),
    ("no-page", Text("at a wrong address", "unter einer falschen Adresse", "à une adresse erronée")),
    ("pixel", Text("at a pixel’s address", "unter der Adresse eines Pixels", "à l’adresse d’un pixel")),
    ("accepted", Text("after accepting all", "nach Zustimmung zu allem", "après avoir tout accepté")),
    (
        "objected",
        Text("whose objection stands", "mit einem Widerspruch, der gilt", "dont l’opposition reste valable"),
    ),
    (
        "new-link-none",
        Text(
            "where no link can be mailed",
            "wo kein Link verschickt wird",
            "quand aucun lien ne peut être envoyé",
        ),
    ),
    (
        "letter",
        Text("the mail with a new link", "die E-Mail mit einem neuen Link", "l’e-mail avec un nouveau lien"),
    ),
    (
        "refuse",
        Text(
            "who follows the link to refuse",
            "wer dem Link zum Ablehnen folgt",
            "qui suit le lien de refus",
        ),
    ),
    ("notice", Text("the notice in mail", "der Hinweis in E-Mails", "la mention dans les e-mails")),
];

pub(crate) async fn page(call: Call) -> Answered {
    let title = call.say(&Text("The preference page", "Die Einstellungsseite", "La page de préférences"));
    let wanted =
        |name: &str| call.query.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
    let view = VIEWS.iter().map(|view| view.0).find(|view| *view == wanted("view")).unwrap_or("unknown");
    let language = Language::ALL.into_iter().find(|language| language.code() == wanted("language"));
    let language = language.map_or(String::new(), |language| format!("&language={}", language.code()));
    let path = format!("/v1/controllers/{}/page?view={view}{language}", call.controller);
    let made = call.console.api.get(&path).await?;
    let content = html! {
        h1 { (title) }
        p { (call.say(&Text(
            "What readers of this controller’s mail find behind the link in it. Nothing here works; the real \
             page belongs to one person.",
            "Was Leser der E-Mails dieses Verantwortlichen hinter dem Link darin finden. Hier lässt sich nichts \
             drücken; die echte Seite gehört einer Person.",
            "Ce que trouvent les lecteurs des e-mails de ce responsable derrière le lien qu’ils contiennent. \
             Rien ne peut être actionné ici ; la vraie page est celle d’une personne.",
        ))) }
        (form(&call, view, text(&made, "language")))
        figure {
            figcaption {
                (call.say(&Text(
                    "As a reader sees it",
                    "Wie ein Leser sie sieht",
                    "Telle que la voit un lecteur",
                )))
            }
            iframe class="tall" sandbox="" title=(title) srcdoc=(text(&made, "page")) {}
        }
        (notice(&call, &made))
    };
    let mut response = shown(&call, &Page::new(title, content));
    // The frame inherits the policy of the page, and contains its own styles and logo.
    let page_policy =
        policy(&call.console, "style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-src 'self'");
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, page_policy);
    Ok(response)
}

fn form(call: &Call, view: &str, language: &str) -> Markup {
    html! {
        form method="get" action="/streams/page" {
            input type="hidden" name="controller" value=(call.controller);
            div class="field broad" {
                label for="view" {
                    (call.say(&Text("Seen by", "Ansicht für jemanden,", "Vue par une personne")))
                }
                select id="view" name="view" {
                    @for (name, words) in &VIEWS {
                        option value=(name) selected[*name == view] { (call.say(words)) }
                    }
                }
            }
            div class="field" {
                label for="language" { (call.say(&Text("In", "Auf", "En"))) }
                select id="language" name="language" {
                    @for offered in Language::ALL {
                        option value=(offered.code()) lang=(offered.code())
                            selected[offered.code() == language] {
                            (offered.own_name())
                        }
                    }
                }
            }
            button { (call.say(&Text("Look", "Ansehen", "Voir"))) }
        }
    }
}

fn notice(call: &Call, made: &Value) -> Markup {
    html! {
        h2 { (call.say(&Text("The notice on it", "Der Hinweis darauf", "L’information qui y figure"))) }
        dl {
            dt {
                (call.say(&Text(
                    "Version, as named in records of choices",
                    "Fassung, wie Aufzeichnungen sie nennen",
                    "Version, telle que les enregistrements la nomment",
                )))
            }
            dd { (text(made, "notice_version")) }
            dt { (call.say(&Text("SHA-256 of its text", "SHA-256 seines Textes", "SHA-256 de son texte"))) }
            dd { code { (text(made, "text_hash")) } }
        }
        details {
            summary { (call.say(&Text("Its text", "Sein Text", "Son texte"))) }
            pre lang=(text(made, "language")) { (text(made, "text")) }
        }
    }
}
