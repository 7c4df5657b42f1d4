//! Single logout by the redirect binding, started here or by the identity provider.

use super::outline::{instant, issuer, parsed};
use super::{Saml, SamlError, message, query, sign};
use crate::consent::Timestamp;
use crate::session::{Federated, Session, random};

const PROTOCOL: &str = "urn:oasis:names:tc:SAML:2.0:protocol";
const ASSERTION: &str = "urn:oasis:names:tc:SAML:2.0:assertion";
/// How long a logout request is valid, in milliseconds.
const LIFETIME: i64 = 300_000;

/// Sessions that the identity provider wants to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    name_id: String,
    /// Only these sessions of the person; all of them if empty.
    indexes: Vec<String>,
    /// Where the browser goes with the confirmation.
    pub(crate) onward: Option<String>,
}

impl Ending {
    /// Returns whether a session is one of them.
    pub(crate) fn fits(&self, session: &Session) -> bool {
        session.saml.as_ref().is_some_and(|saml| {
            let is_named = self.indexes.is_empty()
                || saml.index.as_ref().is_some_and(|index| self.indexes.contains(index));
            saml.name_id == self.name_id && is_named
        })
    }
}

impl Saml {
    /// Returns where a browser goes to end the identity provider's session too; `None` if it has no such
    /// place.
    pub(crate) fn logout(&self, whose: &Federated) -> Option<String> {
        let to = self.idp().logout.clone()?;
        let id = format!("_{}", random()?);
        let request = message::logout_request(&id, &self.settings.entity_id, &to, whose, Timestamp::now());
        message::redirect(&to, "SAMLRequest", &request, None, self.key.as_ref())
    }

    /// Reads the identity provider's logout request. It must be signed, current and new.
    pub(crate) fn ending(&self, raw_query: &str, now: Timestamp) -> Result<Ending, SamlError> {
        let idp = self.idp();
        sign::verified(raw_query, "SAMLRequest", &idp.certificates)?;
        let pairs = query::pairs(raw_query).ok_or(SamlError::Malformed("the query"))?;
        let value = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let xml = message::inflated(value("SAMLRequest").ok_or(SamlError::Malformed("missing request"))?)?;
        let document = parsed(&xml)?;
        let root = document.root_element();
        if !root.has_tag_name((PROTOCOL, "LogoutRequest")) || root.attribute("Version") != Some("2.0") {
            return Err(SamlError::Malformed("not a logout request"));
        }
        if issuer(root)? != idp.entity_id {
            return Err(SamlError::Unfit("from another issuer"));
        }
        if root.attribute("Destination").is_some_and(|destination| destination != self.logout_url()) {
            return Err(SamlError::Unfit("for another address"));
        }
        let skew = i64::try_from(self.settings.clock_skew.as_millis()).unwrap_or(i64::MAX);
        let issued = instant(root, "IssueInstant")?;
        let is_over =
            root.attribute("NotOnOrAfter").is_some() && instant(root, "NotOnOrAfter")? + skew <= now.0;
        if issued > now.0 + skew || issued + LIFETIME < now.0 || is_over {
            return Err(SamlError::Unfit("not current"));
        }
        let id = root.attribute("ID").filter(|id| !id.is_empty()).ok_or(SamlError::Malformed("no id"))?;
        let name = root.children().find(|node| node.has_tag_name((ASSERTION, "NameID")));
        let name = name.and_then(|name| name.text()).ok_or(SamlError::Malformed("no name"))?;
        let indexes = root.children().filter(|node| node.has_tag_name((PROTOCOL, "SessionIndex")));
        let indexes = indexes.filter_map(|index| index.text()).map(str::to_owned).collect();
        self.used.claim(id, Timestamp(issued + LIFETIME + skew), now)?;
        let onward = idp.logout.as_ref().and_then(|to| {
            let response_id = format!("_{}", random()?);
            let response = message::logout_response(&response_id, &self.settings.entity_id, to, id, now);
            message::redirect(to, "SAMLResponse", &response, value("RelayState"), self.key.as_ref())
        });
        Ok(Ending { name_id: name.to_owned(), indexes, onward })
    }
}
