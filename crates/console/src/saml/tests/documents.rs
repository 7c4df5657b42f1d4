//! Documents and encodings that are odd.

use super::*;

/// Documents that parsers read differently, or that are meant to keep them busy.
pub(super) fn odd_documents(genuine: &str, add: &mut impl FnMut(&str, String)) {
    let inside = |text: &str| genuine.replacen("<samlp:Status>", &format!("{text}<samlp:Status>"), 1);
    let lol: String = (1..10).fold("<!ENTITY a0 \"lol\">".to_owned(), |text, number| {
        text + &format!("<!ENTITY a{number} \"{}\">", format!("&a{};", number - 1).repeat(10))
    });
    for (name, prefix) in [
        ("a DTD", "<!DOCTYPE samlp:Response>".to_owned()),
        ("a DTD in small letters", "<!doctype samlp:Response>".to_owned()),
        ("a DTD from elsewhere", "<!DOCTYPE x SYSTEM \"https://eve.example/x.dtd\">".to_owned()),
        ("an entity", "<!DOCTYPE x [<!ENTITY a \"eve\">]>".to_owned()),
        ("an entity of a file", "<!DOCTYPE x [<!ENTITY a SYSTEM \"file:///etc/passwd\">]>".to_owned()),
        ("a parameter entity", "<!DOCTYPE x [<!ENTITY % a SYSTEM \"https://eve.example/\">%a;]>".to_owned()),
        ("a billion laughs", format!("<!DOCTYPE x [{lol}]>")),
        ("default attributes", "<!DOCTYPE x [<!ATTLIST saml:Assertion ID CDATA \"_evil\">]>".to_owned()),
        ("a style sheet", "<?xml-stylesheet href=\"https://eve.example/\"?>".to_owned()),
        ("a comment before", "<!-- x -->".to_owned()),
        ("text before", "text".to_owned()),
        ("another root before", "<x/>".to_owned()),
        ("a declaration twice", "<?xml version=\"1.0\"?><?xml version=\"1.0\"?>".to_owned()),
    ] {
        add(&format!("document: {name}"), format!("{prefix}{genuine}"));
    }
    for (name, suffix) in [
        ("another root behind", "<x/>"),
        ("text behind", "text"),
        ("a comment behind", "<!-- x -->"),
        ("itself behind", genuine),
        ("an end tag behind", "</samlp:Response>"),
    ] {
        add(&format!("document: {name}"), format!("{genuine}{suffix}"));
    }
    for (name, text) in [
        ("an id twice as xml:id", "<x xml:id=\"_response\"/>".to_owned()),
        ("an unknown entity", "&a;".to_owned()),
        ("CDATA", "<![CDATA[x]]>".to_owned()),
        ("an attribute twice", "<x a=\"1\" a=\"2\"/>".to_owned()),
        ("an undeclared prefix", "<y:x/>".to_owned()),
        ("an attribute without quotes", "<x a=1/>".to_owned()),
        ("tags that cross", "<x><y></x></y>".to_owned()),
        ("a control character", "\u{1}".to_owned()),
        ("a control character by number", "&#1;".to_owned()),
        ("NUL by number", "&#0;".to_owned()),
        ("less-than in an attribute", "<x a=\"<\"/>".to_owned()),
        ("very deep", format!("{}{}", "<x>".repeat(10_000), "</x>".repeat(10_000))),
        ("very deep and never closed", "<x>".repeat(50_000)),
        ("very wide", "<x/>".repeat(30_000)),
        (
            "many attributes",
            format!(
                "<x {}/>",
                (0..10_000).map(|number| format!("a{number}=\"\"")).collect::<Vec<_>>().join(" ")
            ),
        ),
        ("a long attribute", format!("<x a=\"{}\"/>", "a".repeat(100_000))),
        (
            "many namespaces",
            format!(
                "<x {}/>",
                (0..5_000)
                    .map(|number| format!("xmlns:a{number}=\"u{number}\""))
                    .collect::<Vec<_>>()
                    .join(" ")
            ),
        ),
    ] {
        add(&format!("document: {name}"), inside(&text));
    }
    for part in 1..=20 {
        let end = genuine.len() * part / 21;
        add(&format!("document: cut off at {end}"), genuine[..end].to_owned());
    }
    for (name, text) in [
        ("nothing", ""),
        ("a blank", " "),
        ("no XML", "hello"),
        ("HTML", "<html><body>x</body></html>"),
        ("an empty response", "<samlp:Response xmlns:samlp=\"urn:oasis:names:tc:SAML:2.0:protocol\"/>"),
        ("a response without a namespace", "<Response ID=\"_response\" Version=\"2.0\"/>"),
        ("JSON", "{\"Response\":{}}"),
    ] {
        add(&format!("document: {name}"), text.to_owned());
    }
    let (_, rest) = genuine.split_once("<saml:Assertion").unwrap();
    let (assertion, _) = rest.split_once("</saml:Assertion>").unwrap();
    add("document: the assertion alone", format!("<saml:Assertion{assertion}</saml:Assertion>"));
    add("document: another namespace", genuine.replace("SAML:2.0:protocol", "SAML:1.1:protocol"));
    add(
        "document: the assertion of another namespace",
        genuine.replace("SAML:2.0:assertion", "SAML:1.0:assertion"),
    );
}

/// What is no base64 of UTF-8, or too much.
pub(super) fn odd_encodings(genuine: &str) -> Vec<(String, String)> {
    let utf16: Vec<u8> = genuine.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut nul = genuine.as_bytes().to_vec();
    nul.push(0);
    let named = |name: &str, text: String| (format!("encoding: {name}"), text);
    vec![
        named("no base64", genuine.to_owned()),
        named("base64 for addresses", STANDARD.encode(genuine).replace(['+', '/'], "-")),
        named("cut off", STANDARD.encode(genuine).trim_end_matches('=')[..101].to_owned()),
        named("UTF-16", STANDARD.encode(utf16)),
        named("no UTF-8", STANDARD.encode([b"\xff\xfe", genuine.as_bytes()].concat())),
        named("NUL behind", STANDARD.encode(nul)),
        named("too large", STANDARD.encode(format!("{genuine}{}", " ".repeat(MAX_MESSAGE)))),
        named("twice base64", STANDARD.encode(STANDARD.encode(genuine))),
        named("deflated", message::redirect("x", "y", genuine, None, None).unwrap()),
    ]
}
