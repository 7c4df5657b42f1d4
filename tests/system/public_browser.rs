//! The preference page in a real browser: in every language, on a telephone and on a desk, by axe-core, by
//! keyboard, without script.

use crate::support;

use crate::browser::scripted;
use crate::readers::Readers;
use pixelward::consent::Timestamp;
use serde_json::{Value, json};

fn looked(readers: &Readers, pages: &[(&str, String)], more: &str) -> Value {
    let address = |path: &str| format!("http://127.0.0.1:{}{path}", readers.port);
    let pages: Vec<_> = pages.iter().map(|(name, path)| (*name, address(path))).collect();
    looked_at(&pages, more)
}

/// The same at any address; in one of a file, `LANGUAGE` stands for the language.
fn looked_at(pages: &[(&str, String)], more: &str) -> Value {
    let pages: serde_json::Map<String, Value> =
        pages.iter().map(|(name, address)| ((*name).to_owned(), json!(address))).collect();
    scripted("pages.cjs", &[&Value::from(pages).to_string(), more])
}

/// A picture of one green dot.
const LOGO: &str = "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d76360984a08000001910081ef2b2dd80000000049454e44ae426082";

#[test]
fn the_page_is_for_everybody_in_every_language_and_looking_changes_nothing() {
    let folder = support::Folder::new();
    let logo: Vec<u8> =
        (0..LOGO.len() / 2).map(|at| u8::from_str_radix(&LOGO[2 * at..2 * at + 2], 16).unwrap()).collect();
    let file = folder.0.join("logo.png");
    std::fs::write(&file, logo).unwrap();
    let more = format!("logo_file = {file:?}\nsender = \"privacy@shop.example\"");
    let readers = Readers::with(support::free_port(), &more, "");
    readers.say("annette@home.example", "granted");
    readers.say("old@home.example", "granted");
    let logo = readers.get("/shop/c/logo/shop");
    assert_eq!((logo.status, logo.header("content-type")), (200, Some("image/png")));
    assert_eq!(readers.get("/shop/c/logo/club").status, 404);
    let head = readers.served.relay.folder.0.join("head");
    let before = std::fs::read(&head).unwrap();
    let pages = [
        ("unknown", readers.link("bob@home.example")),
        ("granted", readers.link("annette@home.example")),
        ("old", readers.link_of("old@home.example", Timestamp::now().plus_days(-200))),
        ("unusable", "/shop/c/none".to_owned()),
        ("new-link", "/shop/c/".to_owned()),
        // Annette has agreed: loaded as a picture, this one would lead on.
        ("pixel", readers.gate("annette@home.example")),
    ];
    let found = looked(&readers, &pages, "");
    assert_eq!(found["wrong"], json!([]), "{found:#}");
    // Read aloud, the question comes first, then what for, then both answers, and then what is folded.
    let read: Vec<&str> = found["read"]["en"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let answers = [
        "heading: May Shop Example see when you open its emails?",
        "listitem: ",
        "listitem: ",
        "button: Refuse all",
        "button: Accept all",
        "DisclosureTriangle: Decide purpose by purpose",
        "DisclosureTriangle: Who, how long, your rights",
    ];
    assert_eq!(read.get(..answers.len()), Some(&answers[..]), "{read:#?}");
    for (language, words) in found["words"].as_object().unwrap() {
        assert!(words.as_u64().unwrap() <= 120, "{language}: {words} words before what is folded");
    }
    // Every language in the light, one in the dark, each on two sizes.
    assert_eq!(found["views"], pages.len() * (6 + 1) * 2);
    assert!(found["links"].as_u64().unwrap() >= 4 * 5 * 5, "{found:#}");
    assert_eq!(std::fs::read(&head).unwrap(), before, "somebody's choice changed by looking");
    let pressed = looked(&readers, &pages[..2], "press");
    assert_eq!(pressed["pressed"]["unknown"], "Ihre Entscheidung ist gespeichert");
    assert_eq!(pressed["pressed"]["granted"], "Gespeichert: Sie haben abgelehnt");
}

#[test]
fn every_view_that_can_be_previewed_is_for_everybody() {
    let readers = Readers::with(support::free_port(), "sender = \"privacy@shop.example\"", "");
    let folder = support::Folder::new();
    let to = folder.0.to_str().unwrap();
    let preview = ["page", "preview", "--controller", "shop", "--state", "all", "--to", to];
    let made = readers.served.relay.command(&preview);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let index = std::fs::read_to_string(folder.0.join("index.html")).unwrap();
    let all = pixelward::web::public::preview::State::ALL;
    assert_eq!(index.matches(".html\"").count(), all.len() * 6);
    let pages: Vec<(&str, String)> =
        all.iter().map(|(name, _)| (*name, format!("file://{to}/{name}-LANGUAGE.html"))).collect();
    let found = looked_at(&pages, "");
    assert_eq!(found["wrong"], json!([]), "{found:#}");
    // Every language on a telephone, the longest words on a desk, and one language each in the dark.
    assert_eq!(found["views"], pages.len() * (6 + 1 + 1 + 1));
}
