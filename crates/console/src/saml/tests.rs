//! Hostile responses, made by code from a genuine one. Each is offered for an open request of the right
//! browser, so that only what is wrong with it can be why it is refused.

mod content;
mod documents;
mod forge;
mod signatures;
mod wrapping;

use super::*;
use crate::config::console::Signatures;
use content::{saying_something_else, tampered};
use documents::{odd_documents, odd_encodings};
use forge::*;
use signatures::signed_in_other_ways;
use wrapping::wrapped;

#[test]
fn a_genuine_response_is_accepted_and_says_who_it_is() {
    let forge = Forge::new("genuine");
    for (wanted, response, assertion) in [
        (Signatures::Both, true, true),
        (Signatures::Response, true, true),
        (Signatures::Response, true, false),
        (Signatures::Assertion, false, true),
    ] {
        let saml = provider_for(&forge, wanted);
        let mut made = Made::answering(REQUEST);
        made.response_signature.take_if(|_| !response);
        made.assertion_signature.take_if(|_| !assertion);
        let key =
            offered_xml(&saml, &forge.signed(&made)).unwrap_or_else(|error| panic!("{wanted:?}: {error}"));
        let newcomer = saml.finish(&key, BROWSER, Instant::now()).unwrap();
        assert_eq!(
            (newcomer.subject.as_str(), newcomer.rights.described().as_str()),
            ("officer", "officer of all")
        );
        assert_eq!(newcomer.saml.unwrap().index.as_deref(), Some("_s1"));
    }
}

#[test]
fn more_than_150_hostile_responses_are_refused() {
    let forge = Forge::new("hostile");
    let saml = provider_for(&forge, Signatures::Both);
    let genuine = forge.signed(&Made::answering(REQUEST));
    let mut hostile: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, xml: String| hostile.push((name.to_owned(), STANDARD.encode(xml)));
    tampered(&genuine, &mut add);
    saying_something_else(&forge, &mut add);
    signed_in_other_ways(&forge, &genuine, &mut add);
    wrapped(&forge, &genuine, &mut add);
    odd_documents(&genuine, &mut add);
    hostile.extend(odd_encodings(&genuine));
    assert!(hostile.len() >= 150, "{}", hostile.len());
    for (name, encoded) in &hostile {
        let outcome = offered(&saml, encoded);
        assert!(outcome.is_err(), "accepted: {name}");
    }
    println!("{} hostile responses were refused", hostile.len());
    // What was refused has used nothing up, and the genuine one counts once.
    assert!(offered_xml(&saml, &genuine).is_ok());
    assert_eq!(offered_xml(&saml, &genuine), Err(SamlError::Unfit("it was already used")));
    let again = saml.accept(&STANDARD.encode(&genuine), Timestamp::now(), Instant::now());
    assert!(again.is_err(), "its request is closed");
}

#[test]
fn a_response_needs_an_open_request_and_its_browser() {
    let forge = Forge::new("request");
    let saml = provider_for(&forge, Signatures::Both);
    let encoded = STANDARD.encode(forge.signed(&Made::answering(REQUEST)));
    let start = Instant::now();
    let accept = |clock| saml.accept(&encoded, Timestamp::now(), clock);
    assert_eq!(accept(start), Err(SamlError::Unfit("unknown or expired request id")));
    saml.requests.add(REQUEST, BROWSER, start);
    assert!(accept(start + LOGIN).is_err());
    saml.requests.add(REQUEST, BROWSER, start);
    let key = accept(start).unwrap();
    assert!(saml.finish(&key, "another browser", start).is_none());
    assert!(saml.finish(&key, BROWSER, start).is_none(), "the key is used up");
}

#[test]
fn metadata_without_a_signing_key_is_refused() {
    let forge = Forge::new("metadata");
    let text = provider_for(&forge, Signatures::Both).idp().bare();
    assert!(Idp::read(&text).is_ok());
    let certificate = forge.certificate("idp");
    for (name, wrong) in [
        ("no key", text.replace("KeyDescriptor", "Other")),
        ("for encryption alone", text.replace("use=\"signing\"", "use=\"encryption\"")),
        ("no certificate", text.replace(&certificate, "AAAA")),
        ("no address", text.replace("HTTP-Redirect", "HTTP-Artifact")),
        ("an address that is a script", text.replace("https://idp.example/sso", "javascript:alert(1)")),
        ("a DTD", format!("<!DOCTYPE x>{text}")),
        ("another role", text.replace("IDPSSODescriptor", "SPSSODescriptor")),
        ("nothing", String::new()),
    ] {
        assert!(Idp::read(&wrong).is_err(), "{name}");
    }
    // While a key changes there are two, and either counts.
    let other = forge.certificate("eve");
    let two = text.replace(
        "<md:SingleSignOnService",
        &format!(
            "<md:KeyDescriptor><ds:KeyInfo><ds:X509Data><ds:X509Certificate>{other}</ds:X509Certificate>\
         </ds:X509Data></ds:KeyInfo></md:KeyDescriptor><md:SingleSignOnService"
        ),
    );
    let saml = provider_for(&forge, Signatures::Both);
    let by_new_key = |_| forge.signed_by(&Made::answering(REQUEST), "eve");
    assert!(offered_xml(&saml, &by_new_key(0)).is_err());
    *saml.idp.write().unwrap() = Arc::new(Idp::read(&two).unwrap());
    assert!(offered_xml(&saml, &by_new_key(1)).is_ok());
    assert!(offered_xml(&saml, &forge.signed(&Made::answering(REQUEST))).is_ok());
}

#[test]
fn the_identity_provider_ends_sessions_by_a_signed_request_of_now() {
    let forge = Forge::new("logout");
    let saml = provider_for(&forge, Signatures::Both);
    let key = |name: &str| {
        Key::load(&forge.folder.join(format!("{name}.crt")), &forge.folder.join(format!("{name}.key")))
            .unwrap()
    };
    let whose = Federated { name_id: "officer".to_owned(), format: None, index: Some("_s1".to_owned()) };
    let to = "https://console.example/saml/logout";
    let request = |id: &str, issuer: &str, to: &str, now: i64| {
        message::logout_request(id, issuer, to, &whose, Timestamp(Timestamp::now().0 + now * 1000))
    };
    let query = |xml: &str, key: Option<&Key>| {
        message::redirect(to, "SAMLRequest", xml, Some("state"), key)
            .unwrap()
            .split_once('?')
            .unwrap()
            .1
            .to_owned()
    };
    let check = |query: &str| saml.ending(query, Timestamp::now());
    let idp_key = key("idp");
    let genuine = query(&request("_1", IDP, to, 0), Some(&idp_key));
    for (name, wrong) in [
        ("unsigned", query(&request("_2", IDP, to, 0), None)),
        ("of another key", query(&request("_3", IDP, to, 0), Some(&key("eve")))),
        ("of another issuer", query(&request("_4", "https://eve.example", to, 0), Some(&idp_key))),
        ("for others", query(&request("_5", IDP, "https://other.example/", 0), Some(&idp_key))),
        ("too old", query(&request("_6", IDP, to, -600), Some(&idp_key))),
        ("of the future", query(&request("_7", IDP, to, 600), Some(&idp_key))),
        ("another state", genuine.replace("RelayState=state", "RelayState=other")),
        ("the state twice", format!("{genuine}&RelayState=other")),
        ("SHA-1", genuine.replace("rsa-sha256", "rsa-sha1")),
        ("with a DTD", query(&format!("<!DOCTYPE x>{}", request("_8", IDP, to, 0)), Some(&idp_key))),
        ("no request", query("<a/>", Some(&idp_key))),
        ("no XML", query("", Some(&idp_key))),
    ] {
        assert!(check(&wrong).is_err(), "{name}");
    }
    let ending = check(&genuine).unwrap();
    assert!(ending.onward.as_ref().unwrap().contains("RelayState=state"));
    assert!(check(&genuine).is_err(), "it counts once");
    let table = super::super::session::Sessions::new(crate::config::console::Sessions {
        idle: Duration::from_secs(60),
        absolute: Duration::from_secs(60),
        most: 9,
    });
    for (name, index) in [("officer", "_s1"), ("officer", "_s2"), ("viewer", "_s1")] {
        let saml = Some(Federated { name_id: name.to_owned(), format: None, index: Some(index.to_owned()) });
        let newcomer = Newcomer { subject: name.to_owned(), rights: Rights::default(), saml, at_most: None };
        table.open(newcomer, Instant::now()).unwrap();
    }
    assert_eq!(table.close_where(|table| ending.fits(table), Instant::now()), 1);
}
