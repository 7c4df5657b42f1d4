//! What is said was changed, or was never meant for us, here and now.

use super::forge::*;

/// Something of a signed response was changed.
pub(super) fn tampered(genuine: &str, add: &mut impl FnMut(&str, String)) {
    let mut change = |name: &str, from: &str, to: &str| {
        let changed = genuine.replace(from, to);
        assert_ne!(changed, genuine, "{name}");
        add(&format!("tampered: {name}"), changed.clone());
        let first = genuine.replacen(from, to, 1);
        if first != changed {
            add(&format!("tampered once: {name}"), first);
        }
    };
    for (name, from, to) in [
        ("name", ">officer<", ">eve<"),
        ("name with a blank", ">officer<", "> officer<"),
        ("group", ">privacy<", ">admins<"),
        ("audience", ENTITY, "https://other.example/"),
        ("recipient", "Recipient=\"https://console", "Recipient=\"https://other"),
        ("destination", "Destination=\"https://console", "Destination=\"https://other"),
        ("request", "InResponseTo=\"_request\"", "InResponseTo=\"_other\""),
        ("issuer", IDP, "https://eve.example/"),
        ("status", "status:Success", "status:Responder"),
        ("session", "_s1", "_s2"),
        ("class", "classes:Password", "classes:X509"),
        ("method", "cm:bearer", "cm:sender-vouches"),
        ("version", "Version=\"2.0\"", "Version=\"1.1\""),
        ("response id", "_response", "_other"),
        ("assertion id", "_assertion", "_other"),
        ("digest method", "xmlenc#sha256", "xmlenc#sha512"),
        ("digest", "<ds:DigestValue>", "<ds:DigestValue>A"),
        ("signature", "<ds:SignatureValue>", "<ds:SignatureValue>A"),
        ("signature method", "rsa-sha256", "rsa-sha512"),
        (
            "an attribute more",
            "<saml:AttributeStatement>",
            "<saml:AttributeStatement><saml:Attribute Name=\"groups\"><saml:AttributeValue>\
             x</saml:AttributeValue></saml:Attribute>",
        ),
        (
            "a value more",
            "</saml:AttributeValue>",
            "</saml:AttributeValue><saml:AttributeValue>x</saml:AttributeValue>",
        ),
        ("a name attribute", "<saml:NameID>", "<saml:NameID Format=\"x\">"),
        ("a default namespace", "<samlp:Response ", "<samlp:Response xmlns=\"urn:x\" x=\"1\" "),
        ("blanks between", "</saml:Subject>", "</saml:Subject> "),
        ("a text behind", "</saml:Assertion>", "</saml:Assertion>text"),
        ("an element behind", "</saml:Assertion>", "</saml:Assertion><x/>"),
        ("extensions", "<samlp:Status>", "<samlp:Extensions><x/></samlp:Extensions><samlp:Status>"),
    ] {
        change(name, from, to);
    }
}

/// What is said is signed by the identity provider, and does not count for us, here and now.
pub(super) fn saying_something_else(forge: &Forge, add: &mut impl FnMut(&str, String)) {
    let mut say = |name: &str, change: &dyn Fn(&mut Made)| {
        let mut made = Made::answering(REQUEST);
        change(&mut made);
        add(&format!("signed: {name}"), forge.signed(&made));
    };
    let subject = |text: &str| format!("<saml:NameID>{text}</saml:NameID>");
    say("for another audience", &|made| {
        made.conditions = conditions(-60, 300, &audience("https://other.example/"))
    });
    say("for two audiences, one of them another", &|made| {
        made.conditions = conditions(-60, 300, &(audience(ENTITY) + &audience("https://other.example/")));
    });
    say("for an audience that begins like ours", &|made| {
        made.conditions = conditions(-60, 300, &audience(&format!("{ENTITY}x")))
    });
    say("for no audience", &|made| made.conditions = conditions(-60, 300, ""));
    say("without conditions", &|made| made.conditions = String::new());
    say("conditions without an end", &|made| {
        made.conditions = format!("<saml:Conditions>{}</saml:Conditions>", audience(ENTITY))
    });
    say("over", &|made| made.conditions = conditions(-600, -60, &audience(ENTITY)));
    say("not yet", &|made| made.conditions = conditions(120, 600, &audience(ENTITY)));
    say("confirmed for too short", &|made| made.confirmation = confirmation("bearer", ACS, REQUEST, -60));
    say("confirmed for another address", &|made| {
        made.confirmation = confirmation("bearer", "https://other.example/saml/acs", REQUEST, 300)
    });
    say("confirmed for an address that begins like ours", &|made| {
        made.confirmation = confirmation("bearer", &format!("{ACS}/x"), REQUEST, 300)
    });
    say("confirmed for another request", &|made| {
        made.confirmation = confirmation("bearer", ACS, "_other", 300)
    });
    say("confirmed in another way", &|made| {
        made.confirmation = confirmation("holder-of-key", ACS, REQUEST, 300)
    });
    say("confirmed by nobody", &|made| made.confirmation = String::new());
    say("confirmed without data", &|made| {
        made.confirmation =
            "<saml:SubjectConfirmation Method=\"urn:oasis:names:tc:SAML:2.0:cm:bearer\"/>".to_owned()
    });
    say("confirmed without an end", &|made| {
        let to = format!("NotOnOrAfter=\"{}\" ", at(300));
        made.confirmation = confirmation("bearer", ACS, REQUEST, 300).replace(&to, "");
    });
    say("confirmed without a request", &|made| {
        made.confirmation =
            confirmation("bearer", ACS, REQUEST, 300).replace(&format!(" InResponseTo=\"{REQUEST}\""), "");
    });
    say("by another issuer", &|made| made.issuer = "https://eve.example/".to_owned());
    say("in a response of another issuer", &|made| made.response_issuer = "https://eve.example/".to_owned());
    say("to another address", &|made| {
        made.destination = " Destination=\"https://other.example/\"".to_owned()
    });
    say("to no address", &|made| made.destination = String::new());
    say("to no request", &|made| made.request = String::new());
    say("to another request", &|made| made.request = " InResponseTo=\"_other\"".to_owned());
    say("to an empty request", &|made| made.request = " InResponseTo=\"\"".to_owned());
    say("that it failed", &|made| made.status = made.status.replace("Success", "Responder"));
    say("no status", &|made| made.status = String::new());
    say("two statuses", &|made| made.status = made.status.repeat(2));
    say("in a response of version 1.1", &|made| made.response_version = "1.1".to_owned());
    say("in an assertion of version 1.1", &|made| made.version = "1.1".to_owned());
    say("in the future", &|made| made.issued = 3600);
    say("in 30 minutes", &|made| made.issued = 1800);
    say("two minutes ago", &|made| made.issued = -120);
    say("a day ago", &|made| made.issued = -86_400);
    say("of nobody", &|made| made.subject = String::new());
    say("of an empty name", &|made| made.subject = subject(""));
    say("of a blank name", &|made| made.subject = subject(" "));
    say("of two names", &|made| made.subject = subject("officer") + &subject("eve"));
    say("of a name with a comment", &|made| made.subject = subject("officer<!-- -->.eve"));
    say("of a name with an instruction", &|made| made.subject = subject("officer<?x?>.eve"));
    say("of a name with CDATA", &|made| made.subject = subject("<![CDATA[officer]]>"));
    say("of a name with an element", &|made| made.subject = subject("officer<x/>"));
    say("of a name with a line end", &|made| made.subject = subject("officer&#10;eve"));
    say("of a very long name", &|made| made.subject = subject(&"o".repeat(600)));
    say("an encrypted name", &|made| made.subject = "<saml:EncryptedID>x</saml:EncryptedID>".to_owned());
    say("nothing about signing in", &|made| made.statement = String::new());
    say("a session that is over", &|made| {
        made.statement = statement(&format!(" SessionNotOnOrAfter=\"{}\"", at(-60)))
    });
    say("a second assertion", &|made| {
        made.extra =
            "<saml:Assertion ID=\"_second\" Version=\"2.0\"><saml:Issuer>x</saml:Issuer></saml:Assertion>"
                .to_owned()
    });
    say("an encrypted assertion besides", &|made| {
        made.extra = "<saml:EncryptedAssertion>x</saml:EncryptedAssertion>".to_owned()
    });
    say("a response within", &|made| made.extra = "<samlp:Response ID=\"_within\"/>".to_owned());
    say("an id twice", &|made| made.extra = format!("<x ID=\"{}\"/>", made.assertion_id));
    say("an id twice in small letters", &|made| made.extra = "<x id=\"_response\"/>".to_owned());
    say("a comment", &|made| made.extra = "<!-- x -->".to_owned());
    say("an instruction", &|made| made.extra = "<?x y?>".to_owned());
}
