//! Responses as an identity provider makes them, with every part open to change, and a service provider that
//! they are offered to. `xmlsec1` signs.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::super::*;
use crate::config::console::{Metadata, Role, RoleRule, Saml as Configured, Signatures};

pub(super) const ACS: &str = "https://console.example/saml/acs";
pub(super) const ENTITY: &str = "https://console.example/saml/metadata";
pub(super) const IDP: &str = "https://idp.example/metadata";
pub(super) const SHA256: &str = "http://www.w3.org/2001/04/xmlenc#sha256";
pub(super) const RSA_SHA256: &str = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256";
pub(super) const BROWSER: &str = "the browser that asked";

/// A folder with keys, and what signs with them.
pub(super) struct Forge {
    pub(super) folder: PathBuf,
    pub(super) count: AtomicU32,
    /// Whether `xmlsec1` must be told that the template need not name the key: from version 1.3 on.
    pub(super) lax: bool,
}

impl Forge {
    pub(super) fn new(name: &str) -> Forge {
        let folder = std::env::temp_dir().join(format!("pixelward-saml-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let version = Command::new("xmlsec1").arg("--version").output();
        let version =
            version.unwrap_or_else(|error| panic!("xmlsec1: {error}; make test-packages installs it"));
        let lax = !String::from_utf8_lossy(&version.stdout).starts_with("xmlsec1 1.2");
        let forge = Forge { folder, count: AtomicU32::new(0), lax };
        ["idp", "eve"].iter().for_each(|name| forge.key(name));
        forge
    }

    pub(super) fn key(&self, name: &str) {
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

    pub(super) fn certificate(&self, name: &str) -> String {
        let pem = std::fs::read_to_string(self.folder.join(format!("{name}.crt"))).unwrap();
        pem.lines().filter(|line| !line.starts_with("---")).collect()
    }

    /// Fills the template of a signature that stands right within an element of this name.
    pub(super) fn fill(&self, xml: &str, element: &str, key: &str) -> String {
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
        signed.split_once("?>").map_or(signed.clone(), |(_, rest)| rest.trim().to_owned())
    }

    /// A response whose signatures are right.
    pub(super) fn signed(&self, made: &Made) -> String {
        self.signed_by(made, "idp")
    }

    pub(super) fn signed_by(&self, made: &Made, key: &str) -> String {
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
pub(super) struct Template {
    pub(super) canonical: &'static str,
    pub(super) method: &'static str,
    pub(super) digest: &'static str,
    pub(super) transforms: String,
    pub(super) uri: String,
    pub(super) more: &'static str,
}

impl Template {
    pub(super) fn of(id: &str) -> Template {
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

    pub(super) fn xml(&self) -> String {
        let Template { canonical, method, digest, transforms, uri, more } = self;
        format!(
            "<ds:Signature xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\"><ds:SignedInfo>\
             <ds:CanonicalizationMethod Algorithm=\"{canonical}\"/><ds:SignatureMethod \
             Algorithm=\"{method}\"/><ds:Reference URI=\"{uri}\"><ds:Transforms>{transforms}</ds:Transforms>\
             <ds:DigestMethod Algorithm=\"{digest}\"/><ds:DigestValue></ds:DigestValue></ds:Reference>\
             </ds:SignedInfo><ds:SignatureValue></ds:SignatureValue><ds:KeyInfo><ds:X509Data>\
             <ds:X509Certificate></ds:X509Certificate></ds:X509Data></ds:KeyInfo>{more}</ds:Signature>"
        )
    }
}

pub(super) fn transforms(names: &[&str]) -> String {
    names.iter().map(|name| format!("<ds:Transform Algorithm=\"{name}\"/>")).collect()
}

/// What a response says. The default is genuine.
#[derive(Clone)]
pub(super) struct Made {
    pub(super) request: String,
    pub(super) destination: String,
    pub(super) response_issuer: String,
    pub(super) issuer: String,
    pub(super) status: String,
    pub(super) response_version: String,
    pub(super) version: String,
    pub(super) issued: i64,
    pub(super) subject: String,
    pub(super) confirmation: String,
    pub(super) conditions: String,
    pub(super) statement: String,
    pub(super) attributes: String,
    pub(super) extra: String,
    pub(super) response_signature: Option<Template>,
    pub(super) assertion_signature: Option<Template>,
    pub(super) assertion_id: String,
}

pub(super) fn at(seconds: i64) -> String {
    Timestamp((Timestamp::now().0 / 1000 + seconds) * 1000).to_string()
}

pub(super) fn audience(name: &str) -> String {
    format!("<saml:AudienceRestriction><saml:Audience>{name}</saml:Audience></saml:AudienceRestriction>")
}

pub(super) fn conditions(before: i64, after: i64, rest: &str) -> String {
    format!(
        "<saml:Conditions NotBefore=\"{}\" NotOnOrAfter=\"{}\">{rest}</saml:Conditions>",
        at(before),
        at(after)
    )
}

pub(super) fn confirmation(method: &str, recipient: &str, request: &str, after: i64) -> String {
    format!(
        "<saml:SubjectConfirmation Method=\"urn:oasis:names:tc:SAML:2.0:cm:{method}\">\
         <saml:SubjectConfirmationData NotOnOrAfter=\"{}\" Recipient=\"{recipient}\" \
         InResponseTo=\"{request}\"/></saml:SubjectConfirmation>",
        at(after)
    )
}

pub(super) fn statement(more: &str) -> String {
    format!(
        "<saml:AuthnStatement AuthnInstant=\"{}\" SessionIndex=\"_s1\"{more}><saml:AuthnContext>\
         <saml:AuthnContextClassRef>\
         urn:oasis:names:tc:SAML:2.0:ac:classes:Password</saml:AuthnContextClassRef></saml:AuthnContext>\
         </saml:AuthnStatement>",
        at(0)
    )
}

impl Made {
    pub(super) fn answering(request: &str) -> Made {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let assertion_id = format!("_assertion{}", COUNT.fetch_add(1, Ordering::Relaxed));
        Made {
            request: format!(" InResponseTo=\"{request}\""),
            destination: format!(" Destination=\"{ACS}\""),
            response_issuer: IDP.to_owned(),
            issuer: IDP.to_owned(),
            status: "<samlp:Status><samlp:StatusCode Value=\"urn:oasis:names:tc:SAML:2.0:status:Success\"/>\
                     </samlp:Status>"
                .to_owned(),
            response_version: "2.0".to_owned(),
            version: "2.0".to_owned(),
            issued: 0,
            subject: "<saml:NameID>officer</saml:NameID>".to_owned(),
            confirmation: confirmation("bearer", ACS, request, 300),
            conditions: conditions(-60, 300, &audience(ENTITY)),
            statement: statement(""),
            attributes: "<saml:AttributeStatement><saml:Attribute Name=\"groups\"><saml:AttributeValue>\
                         privacy</saml:AttributeValue></saml:Attribute></saml:AttributeStatement>"
                .to_owned(),
            extra: String::new(),
            response_signature: Some(Template::of("_response")),
            assertion_signature: Some(Template::of(&assertion_id)),
            assertion_id,
        }
    }

    pub(super) fn xml(&self) -> String {
        let signature = |template: &Option<Template>| template.as_ref().map_or(String::new(), Template::xml);
        let mut xml = String::new();
        let _ = write!(
            xml,
            "<samlp:Response xmlns:samlp=\"urn:oasis:names:tc:SAML:2.0:protocol\" \
             xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\" ID=\"_response\" Version=\"{}\" \
             IssueInstant=\"{}\"{}{}><saml:Issuer>{}</saml:Issuer>{}{}<saml:Assertion \
             xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\" ID=\"{}\" Version=\"{}\" \
             IssueInstant=\"{}\"><saml:Issuer>{}</saml:Issuer>{}<saml:Subject>{}{}</saml:Subject>\
             {}{}{}</saml:Assertion>{}</samlp:Response>",
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

pub(super) fn provider_for(forge: &Forge, signatures: Signatures) -> Arc<Saml> {
    let metadata = format!(
        "<md:EntityDescriptor xmlns:md=\"urn:oasis:names:tc:SAML:2.0:metadata\" \
         entityID=\"{IDP}\"><md:IDPSSODescriptor \
         protocolSupportEnumeration=\"urn:oasis:names:tc:SAML:2.0:protocol\"><md:KeyDescriptor \
         use=\"signing\"><ds:KeyInfo xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\"><ds:X509Data>\
         <ds:X509Certificate>{}</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>\
         <md:SingleLogoutService Binding=\"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect\" \
         Location=\"https://idp.example/slo\"/><md:SingleSignOnService \
         Binding=\"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect\" \
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

pub(super) const REQUEST: &str = "_request";

/// Offers a response to an open request.
pub(super) fn offered(saml: &Saml, encoded: &str) -> Result<String, SamlError> {
    saml.requests.add(REQUEST, BROWSER, Instant::now());
    saml.accept(encoded, Timestamp::now(), Instant::now())
}

pub(super) fn offered_xml(saml: &Saml, xml: &str) -> Result<String, SamlError> {
    offered(saml, &STANDARD.encode(xml))
}
