//! Signatures that do not count.

use super::forge::*;

/// Signatures that are missing, of other keys, or made in ways that do not count.
pub(super) fn signed_in_other_ways(forge: &Forge, genuine: &str, add: &mut impl FnMut(&str, String)) {
    let mut made = |name: &str, key: &str, change: &dyn Fn(&mut Made)| {
        let mut made = Made::answering(REQUEST);
        change(&mut made);
        add(&format!("signature: {name}"), forge.signed_by(&made, key));
    };
    made("none", "idp", &|made| (made.response_signature, made.assertion_signature) = (None, None));
    made("of the response alone", "idp", &|made| made.assertion_signature = None);
    made("of the assertion alone", "idp", &|made| made.response_signature = None);
    made("of another key", "eve", &|_| {});
    let each = |made: &mut Made, change: &dyn Fn(&mut Template)| {
        made.response_signature.iter_mut().for_each(change);
        made.assertion_signature.iter_mut().for_each(change);
    };
    for (name, method) in [
        ("RSA with SHA-1", "http://www.w3.org/2000/09/xmldsig#rsa-sha1"),
        ("RSA with SHA-224", "http://www.w3.org/2001/04/xmldsig-more#rsa-sha224"),
    ] {
        made(name, "idp", &|response| each(response, &|template| template.method = method));
    }
    made("a digest by SHA-1", "idp", &|response| {
        each(response, &|template| template.digest = "http://www.w3.org/2000/09/xmldsig#sha1")
    });
    for (name, canonical) in [
        ("inclusive", "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"),
        ("inclusive 1.1", "http://www.w3.org/2006/12/xml-c14n11"),
        ("inclusive with comments", "http://www.w3.org/TR/2001/REC-xml-c14n-20010315#WithComments"),
        ("exclusive with comments", "http://www.w3.org/2001/10/xml-exc-c14n#WithComments"),
    ] {
        made(&format!("canonical form {name}"), "idp", &|response| {
            each(response, &|template| template.canonical = canonical)
        });
        let enveloped = "http://www.w3.org/2000/09/xmldsig#enveloped-signature";
        made(&format!("transform {name}"), "idp", &|response| {
            each(response, &|template| template.transforms = transforms(&[enveloped, canonical]))
        });
    }
    made("enveloped alone", "idp", &|response| {
        each(response, &|template| {
            template.transforms = transforms(&["http://www.w3.org/2000/09/xmldsig#enveloped-signature"])
        });
    });
    made("canonical twice", "idp", &|response| {
        let names = [
            "http://www.w3.org/2000/09/xmldsig#enveloped-signature",
            "http://www.w3.org/2001/10/xml-exc-c14n#",
            "http://www.w3.org/2001/10/xml-exc-c14n#",
        ];
        each(response, &|template| template.transforms = transforms(&names));
    });
    made("an XPath that leaves the name out", "idp", &|response| {
        each(response, &|template| {
            template.transforms = format!(
                "{}<ds:Transform Algorithm=\"http://www.w3.org/TR/1999/REC-xpath-19991116\"><ds:XPath \
                 xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\">\
                 not(ancestor-or-self::saml:NameID)</ds:XPath></ds:Transform>",
                transforms(&["http://www.w3.org/2000/09/xmldsig#enveloped-signature"])
            );
        });
    });
    made("of the whole document", "idp", &|response| {
        each(response, &|template| template.uri = String::new())
    });
    made("with an object", "idp", &|response| {
        each(response, &|template| template.more = "<ds:Object>x</ds:Object>")
    });
    // What no signer makes.
    let mut changed = |name: &str, from: &str, to: &str| {
        let changed = genuine.replace(from, to);
        assert_ne!(changed, genuine, "{name}");
        add(&format!("signature: {name}"), changed);
    };
    changed("HMAC under the certificate", RSA_SHA256, "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256");
    changed("HMAC cut off", RSA_SHA256, "http://www.w3.org/2000/09/xmldsig#hmac-sha1");
    changed(
        "XSLT",
        "<ds:Transforms>",
        "<ds:Transforms><ds:Transform Algorithm=\"http://www.w3.org/TR/1999/REC-xslt-19991116\"/>",
    );
    changed(
        "base64",
        "<ds:Transforms>",
        "<ds:Transforms><ds:Transform Algorithm=\"http://www.w3.org/2000/09/xmldsig#base64\"/>",
    );
    changed("no transforms", "<ds:Transforms>", "<ds:Transforms/><ds:X>");
    changed("another reference", "<ds:Reference URI=\"#_response\">", "<ds:Reference URI=\"#_other\">");
    changed("an xpointer", "URI=\"#_response\"", "URI=\"#xpointer(id('_response'))\"");
    changed("a file", "URI=\"#_response\"", "URI=\"file:///etc/passwd\"");
    changed("a web address", "URI=\"#_response\"", "URI=\"https://idp.example/\"");
    changed("no URI", " URI=\"#_response\"", "");
    changed(
        "a key to be fetched",
        "<ds:X509Data>",
        "<ds:RetrievalMethod URI=\"https://eve.example/key\"/><ds:X509Data>",
    );
    changed("a bare key", "<ds:X509Data>", "<ds:KeyValue/><ds:X509Data>");
    changed(
        "another certificate and signature",
        &forge.certificate("idp").chars().take(64).collect::<String>(),
        "AAAA",
    );
    let without = |xml: &str, from: &str| {
        let place = xml.find(from).unwrap();
        let begin = place + xml[place..].find("<ds:Signature ").unwrap();
        let end = begin + xml[begin..].find("</ds:Signature>").unwrap() + "</ds:Signature>".len();
        format!("{}{}", &xml[..begin], &xml[end..])
    };
    let assertion = "<saml:Assertion";
    add("stripped: the response's", without(genuine, "<samlp:Response"));
    add("stripped: the assertion's", without(genuine, assertion));
    add("stripped: both", without(&without(genuine, assertion), "<samlp:Response"));
    add(
        "stripped: both, and another name",
        without(&without(genuine, assertion), "<samlp:Response").replace("officer", "eve"),
    );
    add("emptied", genuine.replace("SignatureValue>", "SignatureValu>"));
    let references = |xml: &str| {
        let begin = xml.find("<ds:Reference").unwrap();
        let end = xml.find("</ds:Reference>").unwrap() + "</ds:Reference>".len();
        xml[begin..end].to_owned()
    };
    let reference = references(genuine);
    add("two references", genuine.replacen(&reference, &reference.repeat(2), 1));
    add("no reference", genuine.replacen(&reference, "", 1));
}
