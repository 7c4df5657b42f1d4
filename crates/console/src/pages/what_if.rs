//! Tries rules out: a message before and after, and why. Nothing is kept.

use axum::http::header::CONTENT_SECURITY_POLICY;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{Markup, html};
use serde_json::{Map, Value};

use crate::layout::{Page, corrected, policy, shown, token};
use crate::text::Text;
use crate::value::{joined, list, maybe, text};
use crate::{Answered, Call, Failure, words};

/// What a reader may be supposed to have said.
const STATES: [&str; 4] = ["granted", "refused", "withdrawn", "asked"];

pub(crate) async fn page(call: Call) -> Answered {
    let title = title(&call);
    let content = html! {
        h1 { (title) }
        p { (call.say(&Text(
            "Choose or paste a message, and see what the relay would do with it. Nothing is kept, sent or \
             fetched.",
            "Wählen Sie eine Nachricht oder fügen Sie eine ein und sehen Sie, was das Relay damit täte. \
             Nichts wird aufbewahrt, versandt oder geladen.",
            "Choisissez ou collez un message et voyez ce que le relais en ferait. Rien n’est gardé, envoyé \
             ni chargé.",
        ))) }
        (form(&call).await?)
    };
    Ok(shown(&call, &Page::new(title, content)))
}

/// Asks for what is missing.
async fn without_message(call: Call) -> Answered {
    let title = title(&call);
    let content = html! {
        h1 { (title) }
        p class="bad" role="alert" { (call.say(&Text(
            "There is no message to try: choose a file, or paste the source of one.",
            "Es gibt nichts auszuprobieren: Wählen Sie eine Datei oder fügen Sie einen Quelltext ein.",
            "Il n’y a rien à essayer : choisissez un fichier ou collez une source.",
        ))) }
        (form(&call).await?)
    };
    Ok(corrected(&call, &Page::new(title, content)))
}

fn title(call: &Call) -> &'static str {
    call.say(&Text("What if", "Test", "Simulation"))
}

async fn form(call: &Call) -> Result<Markup, Failure> {
    let declared = call.console.policy().await?;
    let controller =
        list(&declared, "controllers").iter().find(|controller| text(controller, "name") == call.controller);
    let streams: Vec<String> = controller
        .map_or(&[][..], |controller| list(controller, "mailstreams"))
        .iter()
        .map(|stream| text(stream, "name").to_owned())
        .collect();
    let (mailstream, state) = (call.form.value("mailstream"), call.form.value("state"));
    // Browsers send a chosen file once.
    let kept = match (call.form.file.as_slice(), call.form.value("text")) {
        ([], "") => call.form.value("kept").to_owned(),
        ([], _) => String::new(),
        (file, _) => STANDARD.encode(file),
    };
    Ok(html! {
        form method="post" action="/what-if" enctype="multipart/form-data" {
            (token(call, "/what-if"))
            input type="hidden" name="controller" value=(call.controller);
            div class="field" {
                label for="mailstream" { (call.say(&Text("Mailstream", "Mailart", "Flux"))) }
                select id="mailstream" name="mailstream" {
                    @for stream in &streams {
                        option value=(stream) selected[stream == mailstream] { (stream) }
                    }
                }
            }
            div class="field" {
                label for="state" { (call.say(&Text("The reader has", "Die Person hat", "La personne a"))) }
                select id="state" name="state" {
                    option value="" { (call.say(&Text("said nothing", "nichts gesagt", "rien dit"))) }
                    @for states in STATES {
                        option value=(states) selected[states == state] {
                            (words::state(call.language, states))
                        }
                    }
                }
            }
            div class="field" {
                label for="file" {
                    (call.say(&Text(
                        "Message as a file (.eml)",
                        "Nachricht als Datei (.eml)",
                        "Message en fichier (.eml)",
                    )))
                }
                input id="file" name="file" type="file" accept=".eml,message/rfc822,text/plain";
                @if !kept.is_empty() {
                    input type="hidden" name="kept" value=(kept);
                    span class="soft" { (call.say(&Text(
                        "The last file is tried again unless you choose or paste another message.",
                        "Die letzte Datei wird wieder geprüft, wenn Sie keine andere Nachricht angeben.",
                        "Le dernier fichier sert encore, sauf si vous donnez un autre message.",
                    ))) }
                }
            }
            div class="field full" {
                label for="text" { (call.say(&Text("or its source", "oder ihr Quelltext", "ou sa source"))) }
                textarea id="text" name="text" spellcheck="false" { (call.form.value("text")) }
            }
            button { (call.say(&Text("Try", "Ausprobieren", "Essayer"))) }
        }
    })
}

pub(crate) async fn tried(call: Call) -> Answered {
    let message = match (call.form.file.as_slice(), call.form.value("text")) {
        ([], "") => call.form.value("kept").to_owned(),
        ([], text) => STANDARD.encode(text),
        (file, _) => STANDARD.encode(file),
    };
    if message.is_empty() {
        return without_message(call).await;
    }
    let mut trial = Map::new();
    trial.insert("message".to_owned(), message.into());
    trial.insert("language".to_owned(), call.language.code().into());
    for name in ["mailstream", "state"] {
        if !call.form.value(name).is_empty() {
            trial.insert(name.to_owned(), call.form.value(name).into());
        }
    }
    let path = format!("/v1/controllers/{}/policy/what-if", call.controller);
    let done = call.console.api.post(&path, &Value::Object(trial)).await?;
    let title = title(&call);
    let content = html! {
        h1 { (title) }
        (told(&call, &done))
        h2 {
            (call.say(&Text("Try another message", "Weitere Nachricht prüfen", "Essayer un autre message")))
        }
        (form(&call).await?)
    };
    let mut response = shown(&call, &Page::new(title, content));
    // The frames inherit the policy of the page, and mail contains its own styles.
    let page_policy =
        policy(&call.console, "style-src 'self' 'unsafe-inline'; img-src 'self'; frame-src 'self'");
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, page_policy);
    Ok(response)
}

fn told(call: &Call, done: &Value) -> Markup {
    let result = match text(done, "result") {
        "untouched" => {
            Text("It would leave as it came.", "Sie ginge hinaus, wie sie kam.", "Il partirait tel quel.")
        }
        "changed" => Text(
            "No tracker would be taken out; only what the relay adds to every copy would be added.",
            "Kein Tracker würde entfernt; es käme nur hinzu, was das Relay jeder Kopie beifügt.",
            "Aucun traceur ne serait retiré ; seul s’ajouterait ce que le relais met dans chaque copie.",
        ),
        "rejected" => Text("It would be rejected.", "Sie würde abgewiesen.", "Il serait rejeté."),
        "rewritten" => {
            Text("Trackers would be removed.", "Tracker würden entfernt.", "Les traceurs seraient retirés.")
        }
        "swapped" => Text(
            "A pixel of the relay would replace the tracker.",
            "Ein eigenes Pixel des Relays träte an die Stelle des Trackers.",
            "Un pixel propre au relais remplacerait le traceur.",
        ),
        "rewritten_strictly" => Text(
            "Every remote request would be removed.",
            "Jeder Abruf von außen würde entfernt.",
            "Toute requête distante serait retirée.",
        ),
        "observed" => Text(
            "It would leave untouched: the mailstream only observes.",
            "Sie bliebe unverändert: die Mailart wird nur beobachtet.",
            "Il partirait tel quel : ce flux est seulement observé.",
        ),
        _ => Text(
            "It would wait with its sender.",
            "Sie bliebe beim Absender.",
            "Il resterait chez l’expéditeur.",
        ),
    };
    let bytes = list(done, "bytes")
        .iter()
        .filter_map(Value::as_u64)
        .map(|count| call.language.number(count))
        .collect::<Vec<_>>();
    html! {
        p class="card" {
            strong { (call.say(&result)) }
            span { (bytes.join(" → ")) " " (call.say(&Text("bytes", "Byte", "octets"))) }
        }
        @if let Some(problem) = maybe(done, "problem") { p class="bad" lang="en" { (problem) } }
        h2 { (call.say(&Text("Why", "Warum", "Pourquoi"))) }
        ul { @for sentence in list(done, "sentences") { li { (sentence.as_str().unwrap_or_default()) } } }
        h2 { (call.say(&Text("Trackers found", "Gefundene Tracker", "Traceurs trouvés"))) }
        @if list(done, "trackers").is_empty() { p { (call.say(&Text("None.", "Keine.", "Aucun."))) } } @else {
            div class="wide" tabindex="0" { table {
                thead { tr {
                    th scope="col" { (call.say(&Text("Place", "Ort", "Endroit"))) }
                    th scope="col" { (call.say(&Text("Vendor", "Anbieter", "Fournisseur"))) }
                    th scope="col" { (call.say(&Text("Reports to", "Meldet an", "Signale à"))) }
                    th scope="col" {
                        (call.say(&Text("Signals for it", "Was dafür spricht", "Ce qui l’indique")))
                    }
                    th scope="col" {
                        (call.say(&Text("What becomes of it", "Was daraus wird", "Ce qu’il devient")))
                    }
                } }
                tbody {
                    @for tracker in list(done, "trackers") {
                        tr {
                            th scope="row" { (text(tracker, "carrier")) }
                            td { (maybe(tracker, "vendor").unwrap_or("?")) }
                            td { code { (text(tracker, "host")) } }
                            td class="prose" { (joined(tracker, "reasons")) }
                            td { (fate(call, tracker)) }
                        }
                    }
                }
            } }
        }
        div class="pair" {
            @for (title, name) in
                [(Text("Before", "Vorher", "Avant"), "before"),
                    (Text("After", "Nachher", "Après"), "after")] {
                figure {
                    figcaption { (call.say(&title)) }
                    iframe sandbox="" title=(call.say(&title)) srcdoc=(text(done, name)) {}
                }
            }
        }
    }
}

/// Renders what would be done with one tracker, and what would replace it.
fn fate(call: &Call, tracker: &Value) -> Markup {
    let words = match text(tracker, "becomes") {
        "keep" => call.say(&Text("stays", "bleibt", "reste")).to_owned(),
        "strip" => call.say(&Text("taken out", "entfernt", "retiré")).to_owned(),
        "eased" => call
            .say(&Text(
                "without what identifies the reader",
                "ohne das, was die Person erkennbar macht",
                "sans ce qui identifie la personne",
            ))
            .to_owned(),
        "withheld" => call
            .say(&Text("waits with the message", "wartet mit der Nachricht", "attend avec le message"))
            .to_owned(),
        swap => words::outcome(call.language, swap),
    };
    html! { (words) @if let Some(address) = maybe(tracker, "address") { " " code { (address) "…" } } }
}
