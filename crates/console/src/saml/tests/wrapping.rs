//! Signature wrapping.

use super::forge::*;

/// Signed elements are moved to where they say nothing, and others say something in their place: the eight
/// classical forms, with the evil assertion as it is and with a signature of its made.
pub(super) fn wrapped(forge: &Forge, genuine: &str, add: &mut impl FnMut(&str, String)) {
    let cut = |xml: &str, from: &str, to: &str| -> (String, String, String) {
        let begin = xml.find(from).unwrap();
        let end = xml.rfind(to).unwrap() + to.len();
        (xml[..begin].to_owned(), xml[begin..end].to_owned(), xml[end..].to_owned())
    };
    let signature_of = |xml: &str| {
        let begin = xml.find("<ds:Signature ").unwrap();
        let end = begin + xml[begin..].find("</ds:Signature>").unwrap() + "</ds:Signature>".len();
        (xml[..begin].to_owned(), xml[begin..end].to_owned(), xml[end..].to_owned())
    };
    let (before, assertion, after) = cut(genuine, "<saml:Assertion", "</saml:Assertion>");
    let id = { assertion.split("ID=\"").nth(1).unwrap().split('"').next().unwrap().to_owned() };
    let (head, signature, rest) = signature_of(&assertion);
    let bare = format!("{head}{rest}");
    let evil = |text: &str| text.replace("officer", "eve").replace(&id, "_evil");
    let (response_head, response_signature, response_rest) = signature_of(genuine);
    let bare_response = format!("{response_head}{response_rest}");
    let evil_response = |within: &str| {
        let evil = bare_response.replace("_response", "_evil").replace("officer", "eve");
        let at = evil.find("<saml:Issuer>").unwrap();
        format!("{}{within}{}", &evil[..at], &evil[at..])
    };
    let into_signature = |within: &str| {
        response_signature
            .replace("</ds:Signature>", &format!("<ds:Object>{within}</ds:Object></ds:Signature>"))
    };
    // 1 and 2: the signed response goes into, or beside, the signature of another one.
    add("wrapped 1", evil_response(&into_signature(&bare_response)));
    add("wrapped 2", evil_response(&format!("{bare_response}{response_signature}")));
    // 3 to 8: the same with the assertion.
    for (variant, without) in [("", false), (", without the response's signature", true)] {
        let (before, after) = match without {
            false => (before.clone(), after.clone()),
            true => (before.replace(&response_signature, ""), after.clone()),
        };
        let mut form = |number: u8, within: String| {
            add(&format!("wrapped {number}{variant}"), format!("{before}{within}{after}"))
        };
        form(3, format!("{}{assertion}", evil(&bare)));
        form(3, format!("{assertion}{}", evil(&bare)));
        let open = evil(&head);
        form(4, format!("{open}{assertion}{}", evil(&rest)));
        form(
            5,
            format!(
                "{}{bare}",
                evil(&format!("{head}{signature}{rest}"))
                    .replace("URI=\"#_evil\"", &format!("URI=\"#{id}\""))
            ),
        );
        let holding =
            signature.replace("</ds:Signature>", &format!("<ds:Object>{bare}</ds:Object></ds:Signature>"));
        form(6, format!("{open}{holding}{}", evil(&rest)));
        form(7, format!("<samlp:Extensions>{assertion}</samlp:Extensions>{}", evil(&bare)));
        form(7, format!("<samlp:Extensions>{}</samlp:Extensions>{assertion}", evil(&bare)));
        form(
            8,
            format!(
                "{open}{}{}",
                signature.replace(
                    "</ds:Signature>",
                    &format!("<ds:Object>{assertion}</ds:Object></ds:Signature>")
                ),
                evil(&rest)
            ),
        );
        // The evil one has the same id, or none.
        form(9, format!("{}{assertion}", bare.replace("officer", "eve")));
        form(10, format!("{}{assertion}", evil(&bare).replace(" ID=\"_evil\"", "")));
        form(11, format!("{}{assertion}", evil(&bare).replace("saml:Assertion", "saml:assertion")));
        form(12, format!("<x>{assertion}</x>{}", evil(&bare)));
    }
    // The evil assertion is signed, by a key of its made.
    let evil = forge.signed_by(
        &Made { subject: "<saml:NameID>eve</saml:NameID>".to_owned(), ..Made::answering(REQUEST) },
        "eve",
    );
    let (_, evil_signed, _) = cut(&evil, "<saml:Assertion", "</saml:Assertion>");
    add("both signed, the evil one first", format!("{before}{evil_signed}{assertion}{after}"));
    add("both signed, the evil one last", format!("{before}{assertion}{evil_signed}{after}"));
    add("an evil one signed in its place", format!("{before}{evil_signed}{after}"));
}
