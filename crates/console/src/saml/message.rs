//! The console's messages to identity providers, and the redirect binding.

use std::io::{Read, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

use super::sign::Key;
use super::{MAX_MESSAGE, SamlError};
use crate::consent::Timestamp;
use crate::query::encoded;
use crate::session::Federated;

const PROTOCOL: &str = "urn:oasis:names:tc:SAML:2.0:protocol";
const ASSERTION: &str = "urn:oasis:names:tc:SAML:2.0:assertion";
const POST: &str = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST";
const REDIRECT: &str = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect";
const SUCCESS: &str = "urn:oasis:names:tc:SAML:2.0:status:Success";

/// Escapes everything that could be markup.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Builds the metadata of the console. It requests signed assertions, accepts responses only by POST, and has
/// no key for encryption.
pub(super) fn metadata(entity_id: &str, acs: &str, logout: &str, certificate: Option<&str>) -> String {
    let key = certificate.map_or(String::new(), |certificate| {
        format!(
            "\n    <md:KeyDescriptor use=\"signing\"><ds:KeyInfo \
             xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\"><ds:X509Data><ds:X509Certificate>\
             {certificate}</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>"
        )
    });
    let (entity_id, acs, logout) = (escaped(entity_id), escaped(acs), escaped(logout));
    let is_signed = certificate.is_some();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <md:EntityDescriptor xmlns:md=\"urn:oasis:names:tc:SAML:2.0:metadata\" entityID=\"{entity_id}\">\n  \
         <md:SPSSODescriptor AuthnRequestsSigned=\"{is_signed}\" WantAssertionsSigned=\"true\" \
         protocolSupportEnumeration=\"{PROTOCOL}\">{key}\n    <md:SingleLogoutService Binding=\"{REDIRECT}\" \
         Location=\"{logout}\"/>\n    <md:AssertionConsumerService Binding=\"{POST}\" Location=\"{acs}\" \
         index=\"0\" isDefault=\"true\"/>\n  </md:SPSSODescriptor>\n\
         </md:EntityDescriptor>\n"
    )
}

/// Formats a moment for SAML, to the second.
fn instant(now: Timestamp) -> String {
    let whole = Timestamp(now.0.div_euclid(1000) * 1000);
    whole.to_string()
}

/// Builds a sign-in request.
pub(super) fn authn_request(id: &str, entity_id: &str, acs: &str, to: &str, now: Timestamp) -> String {
    format!(
        "<samlp:AuthnRequest xmlns:samlp=\"{PROTOCOL}\" xmlns:saml=\"{ASSERTION}\" ID=\"{id}\" \
         Version=\"2.0\" IssueInstant=\"{}\" Destination=\"{}\" ProtocolBinding=\"{POST}\" \
         AssertionConsumerServiceURL=\"{}\"><saml:Issuer>{}</saml:Issuer></samlp:AuthnRequest>",
        instant(now),
        escaped(to),
        escaped(acs),
        escaped(entity_id)
    )
}

/// Builds a logout request.
pub(super) fn logout_request(
    id: &str,
    entity_id: &str,
    to: &str,
    whose: &Federated,
    now: Timestamp,
) -> String {
    let format =
        whose.format.as_ref().map_or(String::new(), |format| format!(" Format=\"{}\"", escaped(format)));
    let index = whose.index.as_ref().map_or(String::new(), |index| {
        format!("<samlp:SessionIndex>{}</samlp:SessionIndex>", escaped(index))
    });
    format!(
        "<samlp:LogoutRequest xmlns:samlp=\"{PROTOCOL}\" xmlns:saml=\"{ASSERTION}\" ID=\"{id}\" \
         Version=\"2.0\" IssueInstant=\"{}\" Destination=\"{}\"><saml:Issuer>{}</saml:Issuer>\
         <saml:NameID{format}>{}</saml:NameID>{index}</samlp:LogoutRequest>",
        instant(now),
        escaped(to),
        escaped(entity_id),
        escaped(&whose.name_id)
    )
}

/// Builds a logout response.
pub(super) fn logout_response(id: &str, entity_id: &str, to: &str, request: &str, now: Timestamp) -> String {
    format!(
        "<samlp:LogoutResponse xmlns:samlp=\"{PROTOCOL}\" xmlns:saml=\"{ASSERTION}\" ID=\"{id}\" \
         Version=\"2.0\" IssueInstant=\"{}\" Destination=\"{}\" InResponseTo=\"{}\"><saml:Issuer>\
         {}</saml:Issuer><samlp:Status><samlp:StatusCode Value=\"{SUCCESS}\"/></samlp:Status>\
         </samlp:LogoutResponse>",
        instant(now),
        escaped(to),
        escaped(request),
        escaped(entity_id)
    )
}

/// Returns the address that carries a message by the redirect binding, signed if there is a key; `None` if
/// that fails.
pub(super) fn redirect(
    to: &str,
    name: &str,
    xml: &str,
    relay_state: Option<&str>,
    key: Option<&Key>,
) -> Option<String> {
    let mut deflater = DeflateEncoder::new(Vec::new(), Compression::default());
    deflater.write_all(xml.as_bytes()).ok()?;
    let mut signed = format!("{name}={}", encoded(&STANDARD.encode(deflater.finish().ok()?)));
    if let Some(state) = relay_state {
        signed.push_str(&format!("&RelayState={}", encoded(state)));
    }
    if let Some(key) = key {
        signed.push_str(&format!("&SigAlg={}", encoded(Key::ALGORITHM)));
        let signature = encoded(&STANDARD.encode(key.sign(signed.as_bytes())?));
        signed.push_str(&format!("&Signature={signature}"));
    }
    let sign = if to.contains('?') { '&' } else { '?' };
    Some(format!("{to}{sign}{signed}"))
}

/// Reads a message received by the redirect binding, with a limit on its inflated size.
pub(super) fn inflated(value: &str) -> Result<String, SamlError> {
    if value.len() > MAX_MESSAGE {
        return Err(SamlError::Malformed("too large"));
    }
    let bytes = STANDARD.decode(value).map_err(|_| SamlError::Malformed("not base64"))?;
    let mut text = Vec::new();
    let most = MAX_MESSAGE as u64 + 1;
    DeflateDecoder::new(bytes.as_slice())
        .take(most)
        .read_to_end(&mut text)
        .map_err(|_| SamlError::Malformed("not deflated"))?;
    if text.len() as u64 >= most {
        return Err(SamlError::Malformed("too large"));
    }
    String::from_utf8(text).map_err(|_| SamlError::Malformed("not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_redirected_reads_back_and_a_bomb_does_not() {
        let url = redirect("https://idp.example/sso?x=1", "SAMLRequest", "<a>\u{e4}</a>", Some("s t"), None)
            .unwrap();
        let query = url.strip_prefix("https://idp.example/sso?x=1&").unwrap();
        let pairs = crate::query::pairs(query).unwrap();
        assert_eq!(inflated(&pairs[0].1).unwrap(), "<a>\u{e4}</a>");
        assert_eq!(pairs[1], ("RelayState".to_owned(), "s t".to_owned()));
        let mut deflater = DeflateEncoder::new(Vec::new(), Compression::best());
        deflater.write_all(&vec![b'a'; 50 << 20]).unwrap();
        let bomb = STANDARD.encode(deflater.finish().unwrap());
        assert!(bomb.len() < MAX_MESSAGE);
        assert_eq!(inflated(&bomb), Err(SamlError::Malformed("too large")));
        assert!(inflated("AAAA").is_err() && inflated("%").is_err());
    }
}
