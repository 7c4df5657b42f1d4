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
            "<saml:AttributeStatement><saml:Attribute Name=\"groups\"><saml:AttributeValue>x</saml:AttributeValue></saml:Attribute>",
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
    let subject = |own: &str| format!("<saml:NameID>{own}</saml:NameID>");
    say("for another audience", &|own| {
        own.conditions = conditions(-60, 300, &audience("https://other.example/"))
    });
    say("for two audiences, one of them another", &|own| {
        own.conditions = conditions(-60, 300, &(audience(ENTITY) + &audience("https://other.example/")));
    });
    say("for an audience that begins like ours", &|own| {
        own.conditions = conditions(-60, 300, &audience(&format!("{ENTITY}x")))
    });
    say("for no audience", &|own| own.conditions = conditions(-60, 300, ""));
    say("without conditions", &|own| own.conditions = String::new());
    say("conditions without an end", &|own| {
        own.conditions = format!("<saml:Conditions>{}</saml:Conditions>", audience(ENTITY))
    });
    say("over", &|own| own.conditions = conditions(-600, -60, &audience(ENTITY)));
    say("not yet", &|own| own.conditions = conditions(120, 600, &audience(ENTITY)));
    say("confirmed for too short", &|own| own.confirmation = confirmation("bearer", ACS, REQUEST, -60));
    say("confirmed for another address", &|own| {
        own.confirmation = confirmation("bearer", "https://other.example/saml/acs", REQUEST, 300)
    });
    say("confirmed for an address that begins like ours", &|own| {
        own.confirmation = confirmation("bearer", &format!("{ACS}/x"), REQUEST, 300)
    });
    say("confirmed for another request", &|own| {
        own.confirmation = confirmation("bearer", ACS, "_other", 300)
    });
    say("confirmed in another way", &|own| {
        own.confirmation = confirmation("holder-of-key", ACS, REQUEST, 300)
    });
    say("confirmed by nobody", &|own| own.confirmation = String::new());
    say("confirmed without data", &|own| {
        own.confirmation =
            "<saml:SubjectConfirmation Method=\"urn:oasis:names:tc:SAML:2.0:cm:bearer\"/>".to_owned()
    });
    say("confirmed without an end", &|own| {
        let to = format!("NotOnOrAfter=\"{}\" ", at(300));
        own.confirmation = confirmation("bearer", ACS, REQUEST, 300).replace(&to, "");
    });
    say("confirmed without a request", &|own| {
        own.confirmation =
            confirmation("bearer", ACS, REQUEST, 300).replace(&format!(" InResponseTo=\"{REQUEST}\""), "");
    });
    say("by another issuer", &|own| own.issuer = "https://eve.example/".to_owned());
    say("in a response of another issuer", &|own| own.response_issuer = "https://eve.example/".to_owned());
    say("to another address", &|own| own.destination = " Destination=\"https://other.example/\"".to_owned());
    say("to no address", &|own| own.destination = String::new());
    say("to no request", &|own| own.request = String::new());
    say("to another request", &|own| own.request = " InResponseTo=\"_other\"".to_owned());
    say("to an empty request", &|own| own.request = " InResponseTo=\"\"".to_owned());
    say("that it failed", &|own| own.status = own.status.replace("Success", "Responder"));
    say("no status", &|own| own.status = String::new());
    say("two statuses", &|own| own.status = own.status.repeat(2));
    say("in a response of version 1.1", &|own| own.response_version = "1.1".to_owned());
    say("in an assertion of version 1.1", &|own| own.version = "1.1".to_owned());
    say("in the future", &|own| own.issued = 3600);
    say("in 30 minutes", &|own| own.issued = 1800);
    say("two minutes ago", &|own| own.issued = -120);
    say("a day ago", &|own| own.issued = -86_400);
    say("of nobody", &|own| own.subject = String::new());
    say("of an empty name", &|own| own.subject = subject(""));
    say("of a blank name", &|own| own.subject = subject(" "));
    say("of two names", &|own| own.subject = subject("officer") + &subject("eve"));
    say("of a name with a comment", &|own| own.subject = subject("officer<!-- -->.eve"));
    say("of a name with an instruction", &|own| own.subject = subject("officer<?x?>.eve"));
    say("of a name with CDATA", &|own| own.subject = subject("<![CDATA[officer]]>"));
    say("of a name with an element", &|own| own.subject = subject("officer<x/>"));
    say("of a name with a line end", &|own| own.subject = subject("officer&#10;eve"));
    say("of a very long name", &|own| own.subject = subject(&"o".repeat(600)));
    say("an encrypted name", &|own| own.subject = "<saml:EncryptedID>x</saml:EncryptedID>".to_owned());
    say("nothing about signing in", &|own| own.statement = String::new());
    say("a session that is over", &|own| {
        own.statement = statement(&format!(" SessionNotOnOrAfter=\"{}\"", at(-60)))
    });
    say("a second assertion", &|own| {
        own.extra =
            "<saml:Assertion ID=\"_second\" Version=\"2.0\"><saml:Issuer>x</saml:Issuer></saml:Assertion>"
                .to_owned()
    });
    say("an encrypted assertion besides", &|own| {
        own.extra = "<saml:EncryptedAssertion>x</saml:EncryptedAssertion>".to_owned()
    });
    say("a response within", &|own| own.extra = "<samlp:Response ID=\"_within\"/>".to_owned());
    say("an id twice", &|own| own.extra = format!("<x ID=\"{}\"/>", own.assertion_id));
    say("an id twice in small letters", &|own| own.extra = "<x id=\"_response\"/>".to_owned());
    say("a comment", &|own| own.extra = "<!-- x -->".to_owned());
    say("an instruction", &|own| own.extra = "<?x y?>".to_owned());
}
