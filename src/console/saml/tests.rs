//! Hostile responses, made by code from a genuine one. Each is offered for an open request of the right browser, so that only what is wrong with it
//! can be why it is refused. `xmlsec1` signs, as an identity provider would.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::config::console::{Metadata, Role, RoleRule, Saml as Configured, Signatures};

const ACS: &str = "https://console.example/saml/acs";
const ENTITY: &str = "https://console.example/saml/metadata";
const IDP: &str = "https://idp.example/metadata";
const SHA256: &str = "http://www.w3.org/2001/04/xmlenc#sha256";
const RSA_SHA256: &str = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256";
const BROWSER: &str = "the browser that asked";

/// A folder with keys, and what signs with them.
struct Forge {
    folder: PathBuf,
    count: AtomicU32,
    /// Whether `xmlsec1` must be told that the template need not name the key: from version 1.3 on.
    lax: bool,
}

impl Forge {
    fn new(name: &str) -> Forge {
        let folder = std::env::temp_dir().join(format!("pixelward-saml-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let version = Command::new("xmlsec1").arg("--version").output();
        let version =
            version.unwrap_or_else(|error| panic!("xmlsec1: {error}; make test-packages installs it"));
        let lax = !String::from_utf8_lossy(&version.stdout).starts_with("xmlsec1 1.2");
        let forge = Forge { folder, count: AtomicU32::new(0), lax };
        ["idp", "eve"].iter().for_each(|own| forge.key(own));
        forge
    }

    fn key(&self, name: &str) {
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "3650",
                "-subj",
                "/CN=idp.example",
            ])
            .args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.crt")])
            .current_dir(&self.folder)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    fn certificate(&self, name: &str) -> String {
        let pem = std::fs::read_to_string(self.folder.join(format!("{name}.crt"))).unwrap();
        pem.lines().filter(|own| !own.starts_with("---")).collect()
    }

    /// Fills the template of a signature that stands right within an element of this name.
    fn fill(&self, xml: &str, element: &str, key: &str) -> String {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let (from, to) =
            (self.folder.join(format!("{number}.xml")), self.folder.join(format!("{number}.signed")));
        std::fs::write(&from, xml).unwrap();
        let done = Command::new("xmlsec1")
            .arg("--sign")
            .args(self.lax.then_some("--lax-key-search"))
            .arg("--privkey-pem")
            .arg(format!("{key}.key,{key}.crt"))
            .args(["--id-attr:ID", "urn:oasis:names:tc:SAML:2.0:assertion:Assertion"])
            .args(["--id-attr:ID", "urn:oasis:names:tc:SAML:2.0:protocol:Response"])
            .arg("--node-xpath")
            .arg(format!("(//*[local-name()='{element}']/*[local-name()='Signature'])[1]"))
            .arg("--output")
            .args([&to, &from])
            .current_dir(&self.folder)
            .output()
            .unwrap_or_else(|error| panic!("xmlsec1: {error}; make test-packages installs it"));
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{said}\n{xml}");
        let signed = std::fs::read_to_string(&to).unwrap();
        signed.split_once("?>").map_or(signed.clone(), |(_, own)| own.trim().to_owned())
    }

    /// A response whose signatures are right.
    fn signed(&self, made: &Made) -> String {
        self.signed_by(made, "idp")
    }

    fn signed_by(&self, made: &Made, key: &str) -> String {
        let mut xml = made.xml();
        if made.assertion_signature.is_some() {
            xml = self.fill(&xml, "Assertion", key);
        }
        if made.response_signature.is_some() {
            xml = self.fill(&xml, "Response", key);
        }
        xml
    }
}

impl Drop for Forge {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// How something is to be signed.
#[derive(Clone)]
struct Template {
    canonical: &'static str,
    method: &'static str,
    digest: &'static str,
    transforms: String,
    uri: String,
    more: &'static str,
}

impl Template {
    fn of(id: &str) -> Template {
        Template {
            canonical: "http://www.w3.org/2001/10/xml-exc-c14n#",
            method: RSA_SHA256,
            digest: SHA256,
            transforms: transforms(&[
                "http://www.w3.org/2000/09/xmldsig#enveloped-signature",
                "http://www.w3.org/2001/10/xml-exc-c14n#",
            ]),
            uri: format!("#{id}"),
            more: "",
        }
    }

    fn xml(&self) -> String {
        let Template { canonical, method, digest, transforms, uri, more } = self;
        format!(
            "<ds:Signature xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\"><ds:SignedInfo><ds:CanonicalizationMethod Algorithm=\"{canonical}\"/>\
             <ds:SignatureMethod Algorithm=\"{method}\"/><ds:Reference URI=\"{uri}\"><ds:Transforms>{transforms}</ds:Transforms>\
             <ds:DigestMethod Algorithm=\"{digest}\"/><ds:DigestValue></ds:DigestValue></ds:Reference></ds:SignedInfo><ds:SignatureValue>\
             </ds:SignatureValue><ds:KeyInfo><ds:X509Data><ds:X509Certificate></ds:X509Certificate></ds:X509Data></ds:KeyInfo>{more}</ds:Signature>"
        )
    }
}

fn transforms(names: &[&str]) -> String {
    names.iter().map(|own| format!("<ds:Transform Algorithm=\"{own}\"/>")).collect()
}

/// What a response says. The default is genuine.
#[derive(Clone)]
struct Made {
    request: String,
    destination: String,
    response_issuer: String,
    issuer: String,
    status: String,
    response_version: String,
    version: String,
    issued: i64,
    subject: String,
    confirmation: String,
    conditions: String,
    statement: String,
    attributes: String,
    extra: String,
    response_signature: Option<Template>,
    assertion_signature: Option<Template>,
    assertion_id: String,
}

fn at(seconds: i64) -> String {
    Timestamp((Timestamp::now().0 / 1000 + seconds) * 1000).to_string()
}

fn audience(name: &str) -> String {
    format!("<saml:AudienceRestriction><saml:Audience>{name}</saml:Audience></saml:AudienceRestriction>")
}

fn conditions(before: i64, after: i64, rest: &str) -> String {
    format!(
        "<saml:Conditions NotBefore=\"{}\" NotOnOrAfter=\"{}\">{rest}</saml:Conditions>",
        at(before),
        at(after)
    )
}

fn confirmation(method: &str, recipient: &str, request: &str, after: i64) -> String {
    format!(
        "<saml:SubjectConfirmation Method=\"urn:oasis:names:tc:SAML:2.0:cm:{method}\"><saml:SubjectConfirmationData NotOnOrAfter=\"{}\" \
         Recipient=\"{recipient}\" InResponseTo=\"{request}\"/></saml:SubjectConfirmation>",
        at(after)
    )
}

fn statement(more: &str) -> String {
    format!(
        "<saml:AuthnStatement AuthnInstant=\"{}\" SessionIndex=\"_s1\"{more}><saml:AuthnContext><saml:AuthnContextClassRef>\
         urn:oasis:names:tc:SAML:2.0:ac:classes:Password</saml:AuthnContextClassRef></saml:AuthnContext></saml:AuthnStatement>",
        at(0)
    )
}

impl Made {
    fn answering(request: &str) -> Made {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let assertion_id = format!("_assertion{}", COUNT.fetch_add(1, Ordering::Relaxed));
        Made {
            request: format!(" InResponseTo=\"{request}\""),
            destination: format!(" Destination=\"{ACS}\""),
            response_issuer: IDP.to_owned(),
            issuer: IDP.to_owned(),
            status: "<samlp:Status><samlp:StatusCode Value=\"urn:oasis:names:tc:SAML:2.0:status:Success\"/></samlp:Status>".to_owned(),
            response_version: "2.0".to_owned(),
            version: "2.0".to_owned(),
            issued: 0,
            subject: "<saml:NameID>officer</saml:NameID>".to_owned(),
            confirmation: confirmation("bearer", ACS, request, 300),
            conditions: conditions(-60, 300, &audience(ENTITY)),
            statement: statement(""),
            attributes: "<saml:AttributeStatement><saml:Attribute Name=\"groups\"><saml:AttributeValue>privacy</saml:AttributeValue>\
                         </saml:Attribute></saml:AttributeStatement>"
                .to_owned(),
            extra: String::new(),
            response_signature: Some(Template::of("_response")),
            assertion_signature: Some(Template::of(&assertion_id)),
            assertion_id,
        }
    }

    fn xml(&self) -> String {
        let signature = |own: &Option<Template>| own.as_ref().map_or(String::new(), Template::xml);
        let mut xml = String::new();
        let _ = write!(
            xml,
            "<samlp:Response xmlns:samlp=\"urn:oasis:names:tc:SAML:2.0:protocol\" xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\" \
             ID=\"_response\" Version=\"{}\" IssueInstant=\"{}\"{}{}><saml:Issuer>{}</saml:Issuer>{}{}<saml:Assertion \
             xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\" ID=\"{}\" Version=\"{}\" IssueInstant=\"{}\"><saml:Issuer>{}</saml:Issuer>{}\
             <saml:Subject>{}{}</saml:Subject>{}{}{}</saml:Assertion>{}</samlp:Response>",
            self.response_version,
            at(self.issued),
            self.destination,
            self.request,
            self.response_issuer,
            signature(&self.response_signature),
            self.status,
            self.assertion_id,
            self.version,
            at(self.issued),
            self.issuer,
            signature(&self.assertion_signature),
            self.subject,
            self.confirmation,
            self.conditions,
            self.statement,
            self.attributes,
            self.extra,
        );
        xml
    }
}

fn provider_for(forge: &Forge, signatures: Signatures) -> Arc<Saml> {
    let metadata = format!(
        "<md:EntityDescriptor xmlns:md=\"urn:oasis:names:tc:SAML:2.0:metadata\" entityID=\"{IDP}\"><md:IDPSSODescriptor \
         protocolSupportEnumeration=\"urn:oasis:names:tc:SAML:2.0:protocol\"><md:KeyDescriptor use=\"signing\"><ds:KeyInfo \
         xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\"><ds:X509Data><ds:X509Certificate>{}</ds:X509Certificate></ds:X509Data></ds:KeyInfo>\
         </md:KeyDescriptor><md:SingleLogoutService Binding=\"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect\" \
         Location=\"https://idp.example/slo\"/><md:SingleSignOnService Binding=\"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect\" \
         Location=\"https://idp.example/sso\"/></md:IDPSSODescriptor></md:EntityDescriptor>",
        forge.certificate("idp")
    );
    let file = forge.folder.join("metadata.xml");
    std::fs::write(&file, metadata).unwrap();
    let settings = Configured {
        entity_id: ENTITY.to_owned(),
        metadata: Metadata::File(file.clone()),
        refresh: Duration::from_secs(60),
        signatures,
        clock_skew: Duration::from_secs(30),
        key: None,
        roles: vec![RoleRule {
            attribute: "groups".to_owned(),
            value: "privacy".to_owned(),
            role: Role::Officer,
            controller: None,
        }],
    };
    Arc::new(Saml {
        base: "https://console.example".to_owned(),
        idp: RwLock::new(Arc::new(Idp::read(&std::fs::read_to_string(file).unwrap()).unwrap())),
        key: None,
        requests: Requests::new(LOGIN, MOST),
        pending: Pending::new(FINISH, MOST),
        used: Used::new(MOST),
        settings,
    })
}

const REQUEST: &str = "_request";

/// Offers a response to an open request.
fn offered(saml: &Saml, encoded: &str) -> Result<String, SamlError> {
    saml.requests.add(REQUEST, BROWSER, Instant::now());
    saml.accept(encoded, Timestamp::now(), Instant::now())
}

fn offered_xml(saml: &Saml, xml: &str) -> Result<String, SamlError> {
    offered(saml, &STANDARD.encode(xml))
}

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
    assert_eq!(offered_xml(&saml, &genuine), Err(SamlError::Unfit("it was used already")));
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
    assert_eq!(accept(start), Err(SamlError::Unfit("no request of ours has this id, or it is too old")));
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
    let two = text.replace("<md:SingleSignOnService", &format!(
        "<md:KeyDescriptor><ds:KeyInfo><ds:X509Data><ds:X509Certificate>{other}</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>\
         <md:SingleSignOnService"
    ));
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
    let own = key("idp");
    let genuine = query(&request("_1", IDP, to, 0), Some(&own));
    for (name, wrong) in [
        ("unsigned", query(&request("_2", IDP, to, 0), None)),
        ("of another key", query(&request("_3", IDP, to, 0), Some(&key("eve")))),
        ("of another issuer", query(&request("_4", "https://eve.example", to, 0), Some(&own))),
        ("for others", query(&request("_5", IDP, "https://other.example/", 0), Some(&own))),
        ("too old", query(&request("_6", IDP, to, -600), Some(&own))),
        ("of the future", query(&request("_7", IDP, to, 600), Some(&own))),
        ("another state", genuine.replace("RelayState=state", "RelayState=other")),
        ("the state twice", format!("{genuine}&RelayState=other")),
        ("SHA-1", genuine.replace("rsa-sha256", "rsa-sha1")),
        ("with a DTD", query(&format!("<!DOCTYPE x>{}", request("_8", IDP, to, 0)), Some(&own))),
        ("no request", query("<a/>", Some(&own))),
        ("no XML", query("", Some(&own))),
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
    assert_eq!(table.close_where(|own| ending.fits(own), Instant::now()), 1);
}

/// Something of a signed response was changed.
fn tampered(genuine: &str, add: &mut impl FnMut(&str, String)) {
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
fn saying_something_else(forge: &Forge, add: &mut impl FnMut(&str, String)) {
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

/// Signatures that are missing, of other keys, or made in ways that do not count.
fn signed_in_other_ways(forge: &Forge, genuine: &str, add: &mut impl FnMut(&str, String)) {
    let mut made = |name: &str, key: &str, change: &dyn Fn(&mut Made)| {
        let mut own = Made::answering(REQUEST);
        change(&mut own);
        add(&format!("signature: {name}"), forge.signed_by(&own, key));
    };
    made("none", "idp", &|own| (own.response_signature, own.assertion_signature) = (None, None));
    made("of the response alone", "idp", &|own| own.assertion_signature = None);
    made("of the assertion alone", "idp", &|own| own.response_signature = None);
    made("of another key", "eve", &|_| {});
    let each = |own: &mut Made, change: &dyn Fn(&mut Template)| {
        own.response_signature.iter_mut().for_each(change);
        own.assertion_signature.iter_mut().for_each(change);
    };
    for (name, method) in [
        ("RSA with SHA-1", "http://www.w3.org/2000/09/xmldsig#rsa-sha1"),
        ("RSA with SHA-224", "http://www.w3.org/2001/04/xmldsig-more#rsa-sha224"),
    ] {
        made(name, "idp", &|own| each(own, &|template| template.method = method));
    }
    made("a digest by SHA-1", "idp", &|own| {
        each(own, &|template| template.digest = "http://www.w3.org/2000/09/xmldsig#sha1")
    });
    for (name, canonical) in [
        ("inclusive", "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"),
        ("inclusive 1.1", "http://www.w3.org/2006/12/xml-c14n11"),
        ("inclusive with comments", "http://www.w3.org/TR/2001/REC-xml-c14n-20010315#WithComments"),
        ("exclusive with comments", "http://www.w3.org/2001/10/xml-exc-c14n#WithComments"),
    ] {
        made(&format!("canonical form {name}"), "idp", &|own| {
            each(own, &|template| template.canonical = canonical)
        });
        let enveloped = "http://www.w3.org/2000/09/xmldsig#enveloped-signature";
        made(&format!("transform {name}"), "idp", &|own| {
            each(own, &|template| template.transforms = transforms(&[enveloped, canonical]))
        });
    }
    made("enveloped alone", "idp", &|own| {
        each(own, &|template| {
            template.transforms = transforms(&["http://www.w3.org/2000/09/xmldsig#enveloped-signature"])
        });
    });
    made("canonical twice", "idp", &|own| {
        let names = [
            "http://www.w3.org/2000/09/xmldsig#enveloped-signature",
            "http://www.w3.org/2001/10/xml-exc-c14n#",
            "http://www.w3.org/2001/10/xml-exc-c14n#",
        ];
        each(own, &|template| template.transforms = transforms(&names));
    });
    made("an XPath that leaves the name out", "idp", &|own| {
        each(own, &|template| {
            template.transforms = format!(
                "{}<ds:Transform Algorithm=\"http://www.w3.org/TR/1999/REC-xpath-19991116\"><ds:XPath xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\">\
                 not(ancestor-or-self::saml:NameID)</ds:XPath></ds:Transform>",
                transforms(&["http://www.w3.org/2000/09/xmldsig#enveloped-signature"])
            );
        });
    });
    made("of the whole document", "idp", &|own| each(own, &|template| template.uri = String::new()));
    made("with an object", "idp", &|own| each(own, &|template| template.more = "<ds:Object>x</ds:Object>"));
    // What no signer makes.
    let mut changed = |name: &str, from: &str, to: &str| {
        let own = genuine.replace(from, to);
        assert_ne!(own, genuine, "{name}");
        add(&format!("signature: {name}"), own);
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
    let own = references(genuine);
    add("two references", genuine.replacen(&own, &own.repeat(2), 1));
    add("no reference", genuine.replacen(&own, "", 1));
}

/// Signed elements are moved to where they say nothing, and others say something in their place: the eight classical forms, with the evil
/// assertion as it is and with a signature of its own.
fn wrapped(forge: &Forge, genuine: &str, add: &mut impl FnMut(&str, String)) {
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
        let own = bare_response.replace("_response", "_evil").replace("officer", "eve");
        let at = own.find("<saml:Issuer>").unwrap();
        format!("{}{within}{}", &own[..at], &own[at..])
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
    // The evil assertion is signed, by a key of its own.
    let own = forge.signed_by(
        &Made { subject: "<saml:NameID>eve</saml:NameID>".to_owned(), ..Made::answering(REQUEST) },
        "eve",
    );
    let (_, evil_signed, _) = cut(&own, "<saml:Assertion", "</saml:Assertion>");
    add("both signed, the evil one first", format!("{before}{evil_signed}{assertion}{after}"));
    add("both signed, the evil one last", format!("{before}{assertion}{evil_signed}{after}"));
    add("an evil one signed in its place", format!("{before}{evil_signed}{after}"));
}

/// Documents that parsers read differently, or that are meant to keep them busy.
fn odd_documents(genuine: &str, add: &mut impl FnMut(&str, String)) {
    let inside = |text: &str| genuine.replacen("<samlp:Status>", &format!("{text}<samlp:Status>"), 1);
    let lol: String = (1..10).fold("<!ENTITY a0 \"lol\">".to_owned(), |own, number| {
        own + &format!("<!ENTITY a{number} \"{}\">", format!("&a{};", number - 1).repeat(10))
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
            format!("<x {}/>", (0..10_000).map(|own| format!("a{own}=\"\"")).collect::<Vec<_>>().join(" ")),
        ),
        ("a long attribute", format!("<x a=\"{}\"/>", "a".repeat(100_000))),
        (
            "many namespaces",
            format!(
                "<x {}/>",
                (0..5_000).map(|own| format!("xmlns:a{own}=\"u{own}\"")).collect::<Vec<_>>().join(" ")
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
fn odd_encodings(genuine: &str) -> Vec<(String, String)> {
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
