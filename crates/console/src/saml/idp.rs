//! The required parts of an identity provider's metadata.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use roxmltree::{Document, Node, ParsingOptions};

use super::message::escaped;

const METADATA: &str = "urn:oasis:names:tc:SAML:2.0:metadata";
const DSIG: &str = "http://www.w3.org/2000/09/xmldsig#";
const REDIRECT: &str = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect";
/// The maximum number of keys.
const MAX_KEYS: usize = 16;

/// An identity provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Idp {
    /// The entity ID.
    pub(super) entity_id: String,
    /// The certificates of its signing keys, in DER. Never empty. During a key change there are two.
    pub(super) certificates: Vec<Vec<u8>>,
    /// Where browsers go to sign in.
    pub(super) login: String,
    /// Where browsers go to sign out.
    pub(super) logout: Option<String>,
}

impl Idp {
    /// Reads metadata: an entity, or several of which one is an identity provider.
    pub(super) fn read(text: &str) -> Result<Idp, String> {
        let wrong = |what: &str| format!("the metadata of the identity provider cannot be used: {what}");
        let options =
            ParsingOptions { allow_dtd: false, nodes_limit: 1_000_000, ..ParsingOptions::default() };
        let document = Document::parse_with_options(text.trim_start_matches('\u{feff}'), options)
            .map_err(|error| wrong(&error.to_string()))?;
        let role = |node: &Node<'_, '_>| node.has_tag_name((METADATA, "IDPSSODescriptor"));
        let mut all = document.descendants().filter(role);
        let role = all.next().ok_or_else(|| wrong("it has no IDPSSODescriptor"))?;
        if all.next().is_some() {
            return Err(wrong("it has several identity providers; use the metadata of one"));
        }
        let entity = role.parent().filter(|parent| parent.has_tag_name((METADATA, "EntityDescriptor")));
        let entity_id = entity.and_then(|entity| entity.attribute("entityID")).filter(|id| !id.is_empty());
        let login = endpoint(role, "SingleSignOnService")
            .ok_or_else(|| wrong("it has no SingleSignOnService with the redirect binding"))?;
        let certificates = certificates(role).map_err(|error| wrong(&error))?;
        if certificates.is_empty() {
            return Err(wrong("it has no signing key, so nothing could be verified"));
        }
        Ok(Idp {
            entity_id: entity_id.ok_or_else(|| wrong("it has no entityID"))?.to_owned(),
            certificates,
            login,
            logout: endpoint(role, "SingleLogoutService"),
        })
    }

    /// Returns one copy for each type of key, with only the keys of that type.
    pub(super) fn by_kind(&self) -> Vec<Idp> {
        let mut kinds: Vec<(String, Idp)> = Vec::new();
        for certificate in &self.certificates {
            let kind = super::sign::kind_of_key(certificate);
            match kinds.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, idp)) => idp.certificates.push(certificate.clone()),
                None => kinds.push((kind, Idp { certificates: vec![certificate.clone()], ..self.clone() })),
            }
        }
        kinds.into_iter().map(|(_, idp)| idp).collect()
    }

    /// Builds metadata with only the name and the keys.
    pub(super) fn bare(&self) -> String {
        let keys: String = self
            .certificates
            .iter()
            .map(|certificate| {
                format!(
                    "<md:KeyDescriptor use=\"signing\"><ds:KeyInfo><ds:X509Data><ds:X509Certificate>\
                     {}</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>",
                    STANDARD.encode(certificate)
                )
            })
            .collect();
        format!(
            "<md:EntityDescriptor xmlns:md=\"{METADATA}\" xmlns:ds=\"{DSIG}\" \
             entityID=\"{}\"><md:IDPSSODescriptor \
             protocolSupportEnumeration=\"urn:oasis:names:tc:SAML:2.0:protocol\">\
             {keys}<md:SingleSignOnService Binding=\"{REDIRECT}\" Location=\"{}\"/></md:IDPSSODescriptor>\
             </md:EntityDescriptor>",
            escaped(&self.entity_id),
            escaped(&self.login)
        )
    }
}

fn endpoint(role: Node<'_, '_>, name: &str) -> Option<String> {
    let all = role.children().filter(|node| node.has_tag_name((METADATA, name)));
    let redirect = all.filter(|node| node.attribute("Binding") == Some(REDIRECT));
    let locations = redirect.filter_map(|node| node.attribute("Location"));
    locations.filter(|location| is_web(location)).map(str::to_owned).next()
}

/// Returns whether a browser can be redirected to an address.
fn is_web(text: &str) -> bool {
    let is_known = text.starts_with("https://") || text.starts_with("http://");
    is_known && text.len() <= 2048 && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"')
}

/// Returns the signing certificates; those without a use apply to everything.
fn certificates(role: Node<'_, '_>) -> Result<Vec<Vec<u8>>, String> {
    let keys = role.children().filter(|node| node.has_tag_name((METADATA, "KeyDescriptor")));
    let signing = keys.filter(|key| matches!(key.attribute("use"), None | Some("signing")));
    let texts =
        signing.flat_map(|key| key.descendants()).filter(|node| node.has_tag_name((DSIG, "X509Certificate")));
    let mut all = Vec::new();
    for text in texts.filter_map(|node| node.text()) {
        let bare: String = text.chars().filter(|character| !character.is_whitespace()).collect();
        let der = STANDARD.decode(bare).map_err(|_| "a certificate is not base64")?;
        super::sign::public_key(&der).ok_or("a certificate cannot be read")?;
        if !all.contains(&der) {
            all.push(der);
        }
    }
    match all.len() {
        0..=MAX_KEYS => Ok(all),
        _ => Err(format!("it has more than {MAX_KEYS} keys")),
    }
}
